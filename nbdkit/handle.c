/* SPDX-License-Identifier: Apache-2.0 */
#include "handle.h"

#include <pthread.h>
#include <stdlib.h>

#include "base/error.h"

struct handle {
	pthread_rwlock_t lock; /* read: by an operation; write: to take the partition away */
	struct lcpfs_partition *partition;
	uint64_t bytes;
	struct handle *next, **from;
};

/* Global, as nbdkit gives callbacks no context. The lock is held to open and close, never while data moves. */
static struct {
	pthread_mutex_t lock;
	struct handle *first;
	bool is_closing;
} all = {.lock = PTHREAD_MUTEX_INITIALIZER};

bool handle_enter_pool(void)
{
	pthread_mutex_lock(&all.lock);
	if (!all.is_closing)
		return true;
	pthread_mutex_unlock(&all.lock);
	return false;
}

void handle_leave_pool(void)
{
	pthread_mutex_unlock(&all.lock);
}

static void enlist(struct handle *handle)
{
	handle->next = all.first;
	handle->from = &all.first;
	if (handle->next)
		handle->next->from = &handle->next;
	all.first = handle;
}

static void delist(struct handle *handle)
{
	*handle->from = handle->next;
	if (handle->next)
		handle->next->from = handle->from;
}

static void take_away(struct handle *handle)
{
	pthread_rwlock_wrlock(&handle->lock);
	if (handle->partition)
		lcpfs_partition_close(handle->partition);
	handle->partition = NULL;
	pthread_rwlock_unlock(&handle->lock);
}

static void handle_free(struct handle *handle)
{
	pthread_rwlock_destroy(&handle->lock);
	free(handle);
}

int handle_open(struct lcpfs_pool *pool, const char *name, struct handle **result, struct lcpfs_failure *failure)
{
	struct handle *handle = calloc(1, sizeof(*handle));
	int error;

	if (!handle)
		return failure_set(failure, LCPFS_E_NOMEM, "%s", lcpfs_error_sentence(LCPFS_E_NOMEM));
	pthread_rwlock_init(&handle->lock, NULL);
	if (!handle_enter_pool()) {
		handle_free(handle);
		return failure_set(failure, LCPFS_E_STOPPED, "%s: the server is ending", name);
	}
	error = lcpfs_partition_open(pool, name, &handle->partition, failure);
	if (!error) {
		handle->bytes = lcpfs_volume_bytes(handle->partition);
		enlist(handle);
		*result = handle;
	}
	handle_leave_pool();
	if (error)
		handle_free(handle);
	return error;
}

void handle_close(struct handle *handle)
{
	pthread_mutex_lock(&all.lock);
	delist(handle);
	take_away(handle);
	pthread_mutex_unlock(&all.lock);
	handle_free(handle);
}

uint64_t handle_bytes(const struct handle *handle)
{
	return handle->bytes;
}

struct lcpfs_partition *handle_begin(struct handle *handle)
{
	pthread_rwlock_rdlock(&handle->lock);
	if (handle->partition)
		return handle->partition;
	pthread_rwlock_unlock(&handle->lock);
	return NULL;
}

void handle_end(struct handle *handle)
{
	pthread_rwlock_unlock(&handle->lock);
}

void handle_take_away_all(void)
{
	pthread_mutex_lock(&all.lock);
	all.is_closing = true;
	for (struct handle *handle = all.first; handle; handle = handle->next)
		take_away(handle);
	pthread_mutex_unlock(&all.lock);
}
