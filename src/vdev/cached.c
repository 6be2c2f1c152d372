/* SPDX-License-Identifier: Apache-2.0 */
#include "vdev/cached.h"

#include <sys/syscall.h>
#include <sys/uio.h>
#include <unistd.h>

#ifndef SYS_cachestat
#define SYS_cachestat 451 /* everywhere but on alpha */
#endif

/* It is cold where more than one of 17 misses; it takes 16 of them, or some hundred hits, to become so or end. */
enum { SCORE_OF_MISS = 16, SCORE_COLD = 256, SCORE_MOST = 512 };

/* Not stored where nothing changes: where all hit threads only read it. */
static void note(struct cached *cached, bool hit)
{
	unsigned before = atomic_load_explicit(&cached->score, memory_order_relaxed);
	unsigned score = hit ? before - (before > 0) : MIN_OF(before + SCORE_OF_MISS, (unsigned)SCORE_MOST);
	if (score != before)
		atomic_store_explicit(&cached->score, score, memory_order_relaxed);
}

bool cached_is_cold(const struct cached *cached)
{
	return atomic_load_explicit(&cached->score, memory_order_relaxed) >= SCORE_COLD &&
	       !atomic_load_explicit(&cached->is_mute, memory_order_relaxed);
}

/* Also while it is on its way there. True where that cannot be told. */
static bool may_be_there(struct cached *cached, const struct vdev_io *io)
{
	struct {
		uint64_t offset, length;
	} range = {io->offset, io->length};
	struct {
		uint64_t cached, dirty, writeback, evicted, recently_evicted;
	} pages = {0};
	if (!syscall(SYS_cachestat, cached->fd, &range, &pages, 0))
		return pages.cached;
	atomic_store_explicit(&cached->is_mute, true, memory_order_relaxed);
	return true;
}

static bool read_one(struct cached *cached, const struct vdev_io *io)
{
	struct iovec list = {io->buffer, io->length};
	return preadv2(cached->fd, &list, 1, (off_t)io->offset, RWF_NOWAIT) == (ssize_t)io->length;
}

void cached_read(struct cached *cached, struct vdev_io *ios, unsigned count)
{
	bool is_small = count == 1 && ios->length <= CACHED_SMALL_BYTES;
	bool all = !is_small || !cached_is_cold(cached) || may_be_there(cached, ios);
	for (struct vdev_io *io = ios; io < ios + count; io++) {
		all = all && read_one(cached, io);
		io->result = all ? 0 : -LCPFS_E_AGAIN;
	}
	if (is_small)
		note(cached, all);
}
