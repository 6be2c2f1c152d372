/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an address means: the volume's tree says which id it refers to, the block table where that lies. Looking
 * up, and the three changes there are: an address gets new content, a range of addresses gets none, a block gets
 * another place. In attempts.
 */
#ifndef STORE_MAP_H
#define STORE_MAP_H

#include "store/attempt.h"
#include "store/state.h"

struct mapping {
	uint64_t id;    /* 0: a hole, which reads as zeros */
	uint64_t block; /* on the device */
	struct fmt_check check;
};

int map_lookup(struct store *s, uint32_t volume, uint64_t address, struct need *need,
	       struct mapping *mapping) MUST_CHECK;
static inline bool mapping_same(const struct mapping *a, const struct mapping *b)
{
	return a->id == b->id && (a->id == 0 || (a->block == b->block && fmt_check_same(&a->check, &b->check)));
}

/* One block of a user's write, as an attempt's context. */
struct map_write {
	uint32_t volume; /* the head, or a clone */
	uint64_t address;
	struct page *page; /* filled; it becomes a part of the log */
	struct fmt_check check;
	const struct mapping *expected; /* NULL: whatever it is now; else it is written only if it is still this */
	bool differs;    /* out: it was not */
	unsigned wants; /* out, with NOSPC: so many blocks do not fit (room_fits); 0: a metaslab is missing */
};
int map_write(struct store *s, void *map_write, struct need *need) MUST_CHECK;

struct map_trim {
	uint32_t volume;
	uint64_t address, count; /* out: what is left of the range */
	uint32_t kept;           /* metaslabs to leave */
	uint64_t trimmed;        /* out: blocks that were mapped, added up */
	unsigned wants;          /* as in map_write: pages that snapshots share are copied */
};
/* A first part of the range, as much as can be done in one go. */
int map_trim(struct store *s, void *map_trim, struct need *need) MUST_CHECK;

#endif
