/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool as the simulator and the tests drive it: any vdev, any clock, no threads of its own unless asked for.
 *
 * The caller keeps the vdev and closes it after the pool. Everything else is as in <lcpfs/pool.h>, and all of its
 * functions work on a pool that was opened here.
 */
#ifndef POOL_POOL_H
#define POOL_POOL_H

#include <lcpfs/pool.h>

#include "base/check.h"
#include "base/clock.h"
#include "base/text.h"
#include "vdev/vdev.h"

/* `guid` must not be 0. Without `force` it refuses a device that holds a pool, whatever else is there. */
int pool_create_vdev(struct vdev *vdev, const struct clock *clock, const struct lcpfs_create_options *options,
		     uint64_t guid, struct lcpfs_failure *failure) MUST_CHECK;

int pool_open_vdev(struct vdev *vdev, const struct clock *clock, const struct lcpfs_open_options *options,
		   struct lcpfs_pool **pool, struct lcpfs_failure *failure) MUST_CHECK;

int pool_check_vdev(struct vdev *vdev, const struct clock *clock, struct lcpfs_care *care,
		    struct lcpfs_failure *failure) MUST_CHECK;

/*
 * As lcpfs_partition_add and lcpfs_partition_resize, but sizes are of space in the pool, of which the store gets
 * its share. Where its length is not given, the volume is as long as what fits into the max, a thin one as the
 * max.
 */
int pool_add_of_space(struct lcpfs_pool *pool, const struct lcpfs_partition_spec *spec,
		      struct lcpfs_failure *failure) MUST_CHECK;
int pool_resize_to_space(struct lcpfs_pool *pool, const char *name, uint64_t size_bytes, lcpfs_progress *progress,
			 void *context, struct lcpfs_failure *failure) MUST_CHECK;

/*
 * What would come of adding or resizing, in *info, or why it would be refused. Nothing is changed; a pool that is
 * open read-only will do. Whether others would give space that is missing, in mode `on`, only doing it tells: then
 * it is NOSPC.
 */
int pool_try_add(struct lcpfs_pool *pool, const struct lcpfs_partition_spec *spec, bool of_space,
		 struct lcpfs_partition_info *info, struct lcpfs_failure *failure) MUST_CHECK;
int pool_try_resize(struct lcpfs_pool *pool, const char *name, uint64_t size_bytes, bool of_space,
		    struct lcpfs_partition_info *info, struct lcpfs_failure *failure) MUST_CHECK;

struct pool_removal {
	bool only_empty; /* refuse one that holds data, or whose data cannot be counted (NOT_EMPTY) */
	bool dry_run;    /* only say whether it would be removed; on a pool that is open read-only, too */
	/*
	 * May be NULL. Asked while it waits, and at the last moment, with 0 of 0 done and a lock held: false, and
	 * nothing is removed (STOPPED).
	 */
	lcpfs_progress *wanted;
	void *context;
};

/* As lcpfs_partition_remove. *info (may be NULL): what it was. */
int pool_remove(struct lcpfs_pool *pool, const char *name, const struct pool_removal *how,
		struct lcpfs_partition_info *info, struct lcpfs_failure *failure) MUST_CHECK;

/* Appends the text of lcpfs_pool_dump. */
int pool_dump_vdev(struct vdev *vdev, const char *what, struct text *out,
		   struct lcpfs_failure *failure) MUST_CHECK;

/* What a partition did in the span of time that ends at time_s. There is none where it did nothing. */
struct pool_sample {
	uint32_t id, span_s;
	char name[LCPFS_NAME_MAX + 1]; /* "" when it is gone */
	uint64_t time_s, size_blocks;  /* the size at the end */
	double live_blocks;            /* at the end */
	double epsilon;                /* mean over the span */
	double written_blocks, device_blocks; /* by users, and of all that was written for it */
};

/*
 * What is kept of some weeks, by partition and time; coarser where that were more than `most`. The caller frees
 * *list. 0 or NOMEM.
 */
int pool_samples(struct lcpfs_pool *pool, size_t most, struct pool_sample **list, size_t *count) MUST_CHECK;

/* What can be seen of a pool beside whoever has it open. Nothing of it is to be trusted but identity and owner. */
struct pool_seen {
	struct lcpfs_identity identity;
	uint32_t owner_uid; /* of the file or device */
	uint64_t pid;       /* by its lease; 0: nobody serves it */
	char control_path[1024], nbd_path[1024];
};
int pool_look(const char *path, struct pool_seen *seen, struct lcpfs_failure *failure) MUST_CHECK;

/*
 * Reads from the device, for a thread that must not wait for them: fetch.h. To be freed before the pool is
 * closed. NULL: there are none, and others have to read what lcpfs_volume_try_read cannot.
 */
struct fetches *pool_fetches(struct lcpfs_pool *pool);
/*
 * Begins one of the range. What is read again soon, or in order, comes into the system's cache, too; the buffer
 * should be aligned to 4 KiB. AGAIN: it cannot be begun.
 */
int pool_volume_fetch(struct lcpfs_partition *partition, struct fetches *fetches, uint64_t offset, void *buffer,
		      size_t length, bool in_order, void *cookie) MUST_CHECK;
/*
 * 0: the buffer has what the volume has, and so the range is read, in so many microseconds since the fetch began.
 * AGAIN: it has not, or that cannot be told; it says nothing of damage.
 */
int pool_volume_verify(struct lcpfs_partition *partition, uint64_t offset, const void *buffer, size_t length,
		       uint64_t fetched_us) MUST_CHECK;

/*
 * Does [offset, *end) differ from the snapshot before (store_difference_before), *end being at most offset +
 * length? Whole blocks count.
 */
int pool_volume_changed(struct lcpfs_partition *partition, uint64_t offset, uint64_t length, bool *changed,
			uint64_t *end) MUST_CHECK;

/* Frees without writing anything: what a crash leaves. */
void pool_abandon(struct lcpfs_pool *pool);

/* One round of the keeper: measure, decide, carry out, report, remember. For pools opened without `background`. */
void pool_tick(struct lcpfs_pool *pool);

/* One store_step of each partition; how many of them did something. For pools opened without `background`. */
unsigned pool_step(struct lcpfs_pool *pool);

#endif
