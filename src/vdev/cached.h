/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the system's cache has of a file.
 *
 * A read that must not wait, and misses, has the kernel begin to read the block into its cache. That is what is
 * wanted where few miss, and a waste where many do. So where many do the kernel is asked first, by cachestat(2);
 * since Linux 6.5. Where it does not tell nothing is ever cold.
 */
#ifndef VDEV_CACHED_H
#define VDEV_CACHED_H

#include <stdatomic.h>
#include <stdbool.h>

#include "vdev/vdev.h"

struct cached {
	int fd;
	atomic_bool is_mute; /* the kernel does not tell, or nobody wants to know */
	atomic_uint score;   /* of those that missed lately */
	atomic_uint writes;  /* through the cache, under way: ext4 holds up direct reads as long */
};

enum { CACHED_SMALL_BYTES = 32 << 10 }; /* longer reads neither count nor are asked for */

/* All of them, up to the first that is not there. */
void cached_read(struct cached *cached, struct vdev_io *ios, unsigned count);
/* Do small reads miss often? Then those that do have not made the kernel begin anything. */
bool cached_is_cold(const struct cached *cached);

#endif
