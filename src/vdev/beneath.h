/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies beneath an opened file or device: loop devices stand on files, partitions of a disk on the disk.
 *
 * A file and a loop device over it are two names of the same bytes with a lock each, and with a page cache each.
 * So the way down is walked to the file at the bottom; that one's range is locked, too, and what caches on the way
 * keep of an earlier state is dropped. What cannot be walked (device mapper, FUSE, another machine) is left to the
 * claim in the pool.
 */
#ifndef VDEV_BENEATH_H
#define VDEV_BENEATH_H

#include <stdbool.h>

#include "vdev/vdev.h"

enum { BENEATH_MAX = 8 };

enum beneath_use {
	BENEATH_WRITE,
	BENEATH_READ,
	BENEATH_PEEK, /* beside whoever has it: no lock */
};

struct beneath {
	int fds[BENEATH_MAX]; /* one per level below the top; the last is the bottom. They hold the lock */
	unsigned count;
};

/*
 * Walks down from `fd`, which stays the caller's, and fills *place. BUSY: the bottom is locked by another opening;
 * *bottom (to be used at once) is its descriptor.
 */
int beneath_open(struct beneath *beneath, int fd, uint64_t size_bytes, enum beneath_use use,
		 struct vdev_place *place, int *bottom) MUST_CHECK;
void beneath_close(struct beneath *beneath);

#endif
