/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated disk whose operations take time under the scheduler: each is an event of its own, so writes become
 * visible and reads are answered in any order, some writes in two parts. A flush covers what was complete when it
 * began.
 */
#ifndef SCHED_DISK_H
#define SCHED_DISK_H

#include "tests/disk/simdisk.h"

struct slow_disk {
	struct vdev vdev; /* first */
	struct simdisk *behind;
	unsigned flushing; /* flushes under way */
	uint64_t random;
	void (*will_write)(void *context, const struct vdev_io *io); /* NULL: nobody is told */
	void *context;
};

void slow_disk_init(struct slow_disk *disk, struct simdisk *behind, uint64_t seed);

/*
 * What a power cut now leaves, writes under way included: each may have arrived, or not, or in part. The disk then
 * does nothing any more. The caller frees the image.
 */
struct simimage *slow_disk_cut(struct slow_disk *disk, uint64_t seed);

#endif
