/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The metaslabs that one partition owns, in memory: what state each is in and how many of its blocks are live.
 *
 * Knows nothing of how that is stored: the store's checkpoint writes the counts out and recovery puts them back,
 * so the allocator's state never has to be allocated for while it is being written. Not thread-safe: the store's
 * lock covers it.
 *
 * States: EMPTY -> OPEN (a log head writes into it) -> CLOSED -> (live == 0, log no longer needed, flushed)
 * -> EMPTY. On a sparse vdev a metaslab is RAW before it is EMPTY: empty, but not known to have a place behind it.
 * Those that are not RAW are `backed`: what is counted on is counted in them. Only a RAW or EMPTY metaslab can
 * leave the partition.
 */
#ifndef SPACE_METASLAB_H
#define SPACE_METASLAB_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum metaslab_state { METASLAB_RAW, METASLAB_EMPTY, METASLAB_OPEN, METASLAB_CLOSED };

struct metaslab {
	uint32_t index; /* in the pool */
	uint32_t live;  /* blocks that something refers to */
	uint32_t frozen_live; /* as the checkpoint being written will have it */
	uint8_t state;
	bool pinned;    /* being cleaned, looked at, reserved or discarded: must not come into use meanwhile */
	bool bare;      /* RAW, and known to have no place behind it */
	bool held;      /* the durable root still has a log head here */
	bool waiting;   /* cleaned, but for tree pages that the next checkpoint writes elsewhere */
	bool unread;    /* cleaning met blocks in it that the device did not give back */
	bool foreign;   /* named by the root but not owned any more; exists during recovery only */
	uint64_t age;   /* sequence number of the youngest log record in it, 0: none since it was last EMPTY */
	uint64_t first; /* of the oldest one since then; 0: none, or from before the store was opened */
	uint64_t ready; /* empty in the state that this sequence number makes; 0: not looked at yet */
};

struct space {
	uint64_t base; /* block number of the pool's metaslab 0 */
	uint32_t metaslab_blocks;
	uint32_t pool_count;
	uint32_t count;
	uint32_t room;
	uint32_t empty; /* how many are EMPTY */
	uint32_t raw;   /* how many are RAW */
	bool sparse;    /* new ones are RAW, else EMPTY */
	uint32_t cursor;
	struct metaslab *slab; /* count of them; pointers into it last until the next add or remove */
	uint32_t *slot;        /* pool index -> position in slab + 1 */
};

int space_init(struct space *space, uint64_t base, uint32_t metaslab_blocks, uint32_t pool_count,
	       bool sparse) MUST_CHECK;
void space_free(struct space *space);

/* EXISTS if it is there already, INVALID if the pool has no such metaslab. It starts RAW or EMPTY. */
int space_add(struct space *space, uint32_t index) MUST_CHECK;
void space_remove(struct space *space, uint32_t index); /* must be there */

struct metaslab *space_find(const struct space *space, uint32_t index); /* NULL: not ours */
struct metaslab *space_of_block(const struct space *space, uint64_t block);
uint64_t space_first_block(const struct space *space, uint32_t index);

static inline uint32_t space_backed(const struct space *space)
{
	return space->count - space->raw;
}
/*
 * Of those in this state that are not pinned the last one; of RAW ones, one that is bare rather. NULL: there is
 * none.
 */
struct metaslab *space_last(const struct space *space, enum metaslab_state state);
/*
 * The RAW one to be tried next: the first that is not known to be bare, else a bare one; none that is pinned.
 * NULL: none.
 */
struct metaslab *space_next_raw(const struct space *space);

/* Turns the next EMPTY one, in order of index from where the last was, into OPEN; NULL if there is none. */
struct metaslab *space_take(struct space *space);
void space_set_state(struct space *space, struct metaslab *metaslab, enum metaslab_state state);

/* CORRUPT if the block is not in a metaslab of ours or the count would leave 0..metaslab_blocks. */
int space_live_add(struct space *space, uint64_t block) MUST_CHECK;
int space_live_sub(struct space *space, uint64_t block) MUST_CHECK;

/*
 * The CLOSED metaslab that is best cleaned: most space gained for least copying, older preferred (cost-benefit of
 * Rosenblum and Ousterhout, 1992). Only those with age <= age_max and live blocks 1..live_max,
 * not waiting or unread. NULL if there is none.
 */
struct metaslab *space_victim(const struct space *space, uint64_t age_max, uint64_t age_now, uint32_t live_max);

#endif
