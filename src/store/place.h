/* SPDX-License-Identifier: Apache-2.0 */
/* Places on devices, block numbers, and the metaslabs that they are in. One device, so far: number 0. */
#ifndef STORE_PLACE_H
#define STORE_PLACE_H

#include "store/state.h"

static inline le64 place_of_block(uint64_t block) { return le64_of(block * BLOCK_SECTORS); }

/* UINT64_MAX where it makes no sense: another device, not on a block's border. */
static inline uint64_t block_of_place(le64 place)
{
	uint64_t sector = le64_get(place);
	return sector <= FMT_SECTOR_MASK && sector % BLOCK_SECTORS == 0 ? sector / BLOCK_SECTORS : UINT64_MAX;
}

static inline bool place_null(le64 place) { return le64_get(place) == 0; }

static inline uint64_t metaslab_block(const struct store *s, uint32_t metaslab)
{
	return s->config.metaslab_base + (uint64_t)metaslab * s->config.metaslab_blocks;
}

/* NULL: not in one of ours. */
static inline struct metaslab *metaslab_of(const struct store *s, uint64_t block)
{
	if (block < s->config.metaslab_base || block == UINT64_MAX)
		return NULL;
	uint64_t index = (block - s->config.metaslab_base) >> __builtin_ctz(s->config.metaslab_blocks);
	return index < s->config.metaslab_count ? space_find(&s->space, (uint32_t)index) : NULL;
}

#endif
