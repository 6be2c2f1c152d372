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

	/* Of a sparse vdev's host. `is_full` of both vdevs is changed with the lock. */
	const struct clock *clock;
	void (*refused)(void *context);
	void *context;
	uint64_t asked_us, refused_us;
	uint64_t refused_offset, refused_length;
	atomic_bool gave_back; /* since it was last asked */
};

enum { ASK_US = 1000000 };

static void host_refused(struct guard *guard, uint64_t offset, uint64_t length)
{
	pthread_mutex_lock(&guard->lock);
	vdev_note_host(guard->inner, true);
	vdev_note_host(&guard->vdev, true);
	guard->refused_us = clock_us(guard->clock);
	guard->refused_offset = offset;
	guard->refused_length = length;
	pthread_mutex_unlock(&guard->lock);
	guard->refused(guard->context);
}

static void host_gave(struct guard *guard)
{
	pthread_mutex_lock(&guard->lock);
	vdev_note_host(guard->inner, false);
	vdev_note_host(&guard->vdev, false);
	pthread_mutex_unlock(&guard->lock);
}

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
	/* Where reserving is not possible, or not kept to, writes are refused. */
	for (const struct vdev_io *io = ios; io < ios + count; io++) {
		if (io->op == VDEV_WRITE && io->result == -LCPFS_E_DEVICE_FULL)
			host_refused(guard, io->offset, io->length);
	}
}

/* Called and left with the lock, while no flush runs and none has failed. */
static void run_flush(struct guard *guard)
{
	guard->started++;
	pthread_mutex_unlock(&guard->lock);
	int error = vdev_flush(guard->inner);
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
	pthread_mutex_lock(&guard->lock);
	uint64_t want = guard->started + 1;
	while (guard->ended < want && !guard->failed) {
		if (guard->started == guard->ended)
			run_flush(guard);
		else
			pthread_cond_wait(&guard->ended_one, &guard->lock);
	}
	int error = guard->failed;
	pthread_mutex_unlock(&guard->lock);
	return error;
}

static int guard_discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct guard *guard = (struct guard *)vdev;
	int error = guard->claim ? claim_may_write(guard->claim) : 0;
	if (!error)
		error = vdev_discard(guard->inner, offset, length);
	atomic_store(&guard->gave_back, true);
	return error;
}

/* May the host be asked now? */
static bool may_ask(struct guard *guard)
{
	uint64_t now_us = clock_us(guard->clock);
	if (!atomic_load(&guard->vdev.is_full))
		return true;
	pthread_mutex_lock(&guard->lock);
	bool may = atomic_exchange(&guard->gave_back, false) || now_us - guard->asked_us >= ASK_US;
	if (may)
		guard->asked_us = now_us;
	pthread_mutex_unlock(&guard->lock);
	return may;
}

static int guard_reserve(struct vdev *vdev, uint64_t offset, uint64_t length, bool may_take)
{
	struct guard *guard = (struct guard *)vdev;
	bool may = may_take && may_ask(guard);
	int error = guard->claim ? claim_may_write(guard->claim) : 0;
	if (error)
		return error;
	error = guard->inner->ops->reserve(guard->inner, offset, length, may);
	if (may && error == -LCPFS_E_DEVICE_FULL)
		host_refused(guard, offset, length);
	else if (may && !atomic_load(&guard->inner->is_full))
		host_gave(guard);
	return error;
}

static void guard_close(struct vdev *vdev)
{
	struct guard *guard = (struct guard *)vdev;
	pthread_cond_destroy(&guard->ended_one);
	pthread_mutex_destroy(&guard->lock);
	free(guard);
}

static int guard_writev(struct vdev *vdev, uint64_t offset, const struct iovec *iov, unsigned count)
{
	struct guard *guard = (struct guard *)vdev;
	int error = guard->claim ? claim_may_write(guard->claim) : 0;
	uint64_t length = 0;
	if (!error)
		error = vdev_writev(guard->inner, offset, iov, count);
	for (unsigned i = 0; i < count; i++)
		length += iov[i].iov_len;
	if (error == -LCPFS_E_DEVICE_FULL)
		host_refused(guard, offset, length);
	return error;
}

static int guard_zero(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct guard *guard = (struct guard *)vdev;
	int error = guard->claim ? claim_may_write(guard->claim) : 0;
	return error ? error : vdev_zero(guard->inner, offset, length);
}

static void guard_prepare(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct guard *guard = (struct guard *)vdev;
	if (!guard->claim || !claim_may_write(guard->claim))
		vdev_prepare(guard->inner, offset, length);
}

static void guard_hurry(struct vdev *vdev)
{
	vdev_hurry(((struct guard *)vdev)->inner);
}

static const struct vdev_ops guard_ops = {.submit = guard_submit,
					  .flush = guard_flush,
					  .discard = guard_discard,
					  .close = guard_close,
					  .writev = guard_writev,
					  .zero = guard_zero,
					  .hurry = guard_hurry};
static const struct vdev_ops sparse_ops = {.submit = guard_submit,
					   .flush = guard_flush,
					   .discard = guard_discard,
					   .close = guard_close,
					   .writev = guard_writev,
					   .reserve = guard_reserve,
					   .zero = guard_zero,
					   .hurry = guard_hurry,
					   .prepare = guard_prepare};

struct vdev *guard_new(struct vdev *inner, struct claim *claim, const struct clock *clock,
		       void (*refused)(void *context), void *context)
{
	struct guard *guard = calloc(1, sizeof(*guard));
	if (!guard)
		return NULL;
	guard->vdev = (struct vdev){
		.ops = vdev_is_sparse(inner) ? &sparse_ops : &guard_ops,
		.size_bytes = inner->size_bytes,
		.name = inner->name,
	};
	guard->inner = inner;
	guard->claim = claim;
	guard->clock = clock;
	guard->refused = refused;
	guard->context = context;
	pthread_mutex_init(&guard->lock, NULL);
	pthread_cond_init(&guard->ended_one, NULL);
	return &guard->vdev;
}

void guard_set_size(struct vdev *vdev, uint64_t size_bytes)
{
	vdev->size_bytes = size_bytes;
}

bool guard_may_read(struct vdev *vdev)
{
	return !ask_claim((struct guard *)vdev, NULL, 0);
}

bool guard_has_failed(struct vdev *vdev)
{
	struct guard *guard = (struct guard *)vdev;
	pthread_mutex_lock(&guard->lock);
	bool failed = guard->failed != 0;
	pthread_mutex_unlock(&guard->lock);
	return failed;
}

bool guard_host_is_full(struct vdev *vdev, uint64_t *refused_us)
{
	struct guard *guard = (struct guard *)vdev;
	pthread_mutex_lock(&guard->lock);
	bool is_full = atomic_load(&vdev->is_full);
	*refused_us = guard->refused_us;
	pthread_mutex_unlock(&guard->lock);
	return is_full;
}

void guard_ask_again(struct vdev *vdev)
{
	struct guard *guard = (struct guard *)vdev;
	if (!atomic_load(&vdev->is_full))
		return;
	pthread_mutex_lock(&guard->lock);
	uint64_t offset = guard->refused_offset;
	uint64_t length = guard->refused_length;
	pthread_mutex_unlock(&guard->lock);
	if (vdev_is_sparse(vdev) && guard_reserve(vdev, offset, length, true) == 0)
		host_gave(guard); /* it was a write that was refused, or somebody else got a place for it */
}
