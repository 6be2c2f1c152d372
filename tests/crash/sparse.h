/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device in a file system that may be full: blocks have no place behind them until they are reserved, and the
 * file system has so many to give. Writing where nothing was reserved is a defect of the code under test, also
 * while there is space.
 */
#ifndef CRASH_SPARSE_H
#define CRASH_SPARSE_H

#include <stdbool.h>
#include <stdint.h>

#include "vdev/vdev.h"

struct sparse {
	struct vdev vdev; /* first */
	struct vdev *behind;
	bool *backed, *written; /* blocks */
	uint64_t blocks;
	uint64_t free_blocks; /* that the file system has */
	uint64_t refusals;           /* how often */
	uint64_t prepared, in_vain;  /* blocks; those of them that were written before */
	uint64_t first_writes;       /* of blocks that were neither prepared nor written before */
	void (*step)(void);   /* before it gives or refuses; may be NULL */
	void (*fail)(const char *format, ...);
};

void sparse_init(struct sparse *sparse, struct vdev *behind, uint64_t free_blocks);
/* The same blocks have their place, over another device. */
void sparse_copy(struct sparse *to, const struct sparse *from, struct vdev *behind);
void sparse_free(struct sparse *sparse);
/* The first ones have a place from the beginning. */
void sparse_back(struct sparse *sparse, uint64_t first, uint64_t count);

#endif
