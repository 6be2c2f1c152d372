/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Lock: `lock` guards the counts; it is not held while the device flushes.
 *
 * A caller is served by a flush that started after it came: `want` is the number of the next one to start. Flushes
 * are numbered from 1 in the order in which they start, which is the order in which they end, since one runs at a
 * time.
 */
#include "pool/guard.h"

#include <pthread.h>
#include <stdlib.h>

#include "pool/claim.h"

struct guard {
	struct vdev vdev;
	struct vdev *inner;
	struct claim *claim; /* NULL: nobody else can reach the device */
	pthread_mutex_t lock;
	pthread_cond_t ended_one;
	uint64_t started, ended;
	int failed; /* the error of the first flush that failed */
};

/* 0, or why nothing of this may reach the device. What another owner has may be read no more, either. */
static int ask_claim(struct guard *guard, const struct vdev_io *ios, unsigned count)
{
	if (!guard->claim)
		return 0;
	for (unsigned i = 0; i < count; i++) {
		if (ios[i].op == VDEV_WRITE)
			return claim_may_write(guard->claim);
	}
	return claim_is_lost(guard->claim) ? -LCPFS_E_TAKEN_OVER : 0;
}

static void guard_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	struct guard *guard = (struct guard *)vdev;
	int error = ask_claim(guard, ios, count);

	if (!error)
		guard->inner->ops->submit(guard->inner, ios, count);
	for (unsigned i = 0; error && i < count; i++)
		ios[i].result = error;
}

/* Called and left with the lock, while no flush runs and none has failed. */
static void run_flush(struct guard *guard)
{
	int error;

	guard->started++;
	pthread_mutex_unlock(&guard->lock);
	error = vdev_flush(guard->inner);
	if (!error && guard->claim)
		error = claim_confirm(guard->claim);
	pthread_mutex_lock(&guard->lock);
	guard->failed = error;
	guard->ended = guard->started;
	pthread_cond_broadcast(&guard->ended_one);
}

static int guard_flush(struct vdev *vdev)
{
	struct guard *guard = (struct guard *)vdev;
	uint64_t want;
	int error;

	pthread_mutex_lock(&guard->lock);
	want = guard->started + 1;
	while (guard->ended < want && !guard->failed) {
		if (guard->started == guard->ended)
			run_flush(guard);
		else
			pthread_cond_wait(&guard->ended_one, &guard->lock);
	}
	error = guard->failed;
	pthread_mutex_unlock(&guard->lock);
	return error;
}

static int guard_discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct guard *guard = (struct guard *)vdev;
	int error = guard->claim ? claim_may_write(guard->claim) : 0;

	return error ? error : vdev_discard(guard->inner, offset, length);
}

static void guard_close(struct vdev *vdev)
{
	struct guard *guard = (struct guard *)vdev;

	pthread_cond_destroy(&guard->ended_one);
	pthread_mutex_destroy(&guard->lock);
	free(guard);
}

static const struct vdev_ops guard_ops = {guard_submit, guard_flush, guard_discard, guard_close};

struct vdev *guard_new(struct vdev *inner, struct claim *claim)
{
	struct guard *guard = calloc(1, sizeof(*guard));

	if (!guard)
		return NULL;
	guard->vdev = (struct vdev){&guard_ops, inner->size_bytes, inner->name};
	guard->inner = inner;
	guard->claim = claim;
	pthread_mutex_init(&guard->lock, NULL);
	pthread_cond_init(&guard->ended_one, NULL);
	return &guard->vdev;
}

bool guard_has_failed(struct vdev *vdev)
{
	struct guard *guard = (struct guard *)vdev;
	bool failed;

	pthread_mutex_lock(&guard->lock);
	failed = guard->failed != 0;
	pthread_mutex_unlock(&guard->lock);
	return failed;
}
