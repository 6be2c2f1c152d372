/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The trees of volumes: which block id an address refers to. Their pages are blocks with ids, kept twice; a page
 * is written to the log when a checkpoint comes to it, at its own time (see checkpoint.h), and gets its ids then.
 *
 * Pages that would be all zero do not exist. A tree grows by a page above the top when an address needs it.
 *
 * Invariants (tree_audit):
 *   V1  a dirty page is on the list; the counts are right. A page without an id is dirty.
 *   V2  placed_levels <= levels; root is 0 or an even id.
 */
#ifndef STORE_TREE_H
#define STORE_TREE_H

#include "store/state.h"

/* That of snapshots (see snap.h); the partition's own, which is written. Above: snapshots, and clones. */
enum { VOLUME_LIST, VOLUME_HEAD };

static inline struct page_key tree_key(uint32_t volume, unsigned level, uint64_t index)
{
	return (struct page_key){.kind = PAGE_VOLUME, .level = (uint8_t)level, .volume = volume, .index = index};
}

/* -- in attempts -- */

/* The page that an address's slot is in; NULL: there is none, nothing around it is mapped. */
int tree_leaf(struct store *s, uint32_t volume, uint64_t address, struct need *need,
	      struct page **leaf) MUST_CHECK;
int tree_leaf_made(struct store *s, uint32_t volume, uint64_t address, struct need *need,
		   struct page **leaf) MUST_CHECK;
void tree_modify(struct store *s, struct page *page); /* before it is changed */
/*
 * Before a slot of a leaf is changed: pages on the way to it that a snapshot has too, or that are known by their
 * birth, get other ids when they are written. How many blocks that takes; then, that it will happen.
 */
int tree_own_cost(struct store *s, uint32_t volume, uint64_t address, struct need *need,
		  unsigned *blocks) MUST_CHECK;
void tree_own(struct store *s, uint32_t volume, uint64_t address);
/* The same from a page (a struct page_key) up: an attempt. */
int tree_own_above(struct store *s, void *key, struct need *need) MUST_CHECK;
/* Does a snapshot refer to what the volume refers to, and was born then? */
bool tree_shares(const struct store *s, uint32_t volume, uint32_t birth);
/* Is what has not changed since then to be known by that? */
bool tree_knows(const struct store *s, uint32_t volume, uint32_t birth);
/* Writes a dirty page to the log, or, if it is empty, does away with it. `kept`: metaslabs to leave. */
int tree_write_page(struct store *s, struct page *page, uint32_t kept, struct need *need) MUST_CHECK;

static inline uint64_t tree_slot(const struct page *page, uint64_t index)
{
	return le64_get(page_volume(page)->id[index % VOLUME_SLOTS]);
}

static inline void tree_set_slot(struct page *page, uint64_t index, uint64_t id)
{
	page_volume(page)->id[index % VOLUME_SLOTS] = le64_of(id);
}

/* -- roll-forward -- */

/* The page of (volume, level, index) is kept as `id` from now on, or (0) not at all. In an attempt. */
int tree_bind_page(struct store *s, uint32_t volume, unsigned level, uint64_t index, uint64_t id,
		   struct need *need) MUST_CHECK;

/* -- the volume as a whole. With the lock. -- */

bool tree_is_loading(const struct store *s, uint32_t volume); /* a page of it is being read */
/* From now on it is this tree. TRY_AGAIN: a page of it is being read; that has to be waited for. */
int tree_become(struct store *s, uint32_t volume, uint64_t root, unsigned levels) MUST_CHECK;
/*
 * Snapshots came or went: what the volume has and is born below is shared; what is born below `known`, which is
 * not less, gets another id where it changes.
 */
void tree_share_below(struct store *s, struct volume *v, uint32_t birth, uint32_t known);
/* NULL: there is none of that number. */
struct volume *tree_volume(struct store *s, uint32_t volume);
/* May its pages be in memory other than on the device? */
bool tree_is_written(const struct store *s, uint32_t volume);
struct snapshot *tree_snapshot(const struct store *s, uint64_t number);
/* Its pages leave the cache, also changed ones; but for those that are being read. */
void tree_forget(struct store *s, uint32_t volume);

/* -- with the lock, which is let go where something is read -- */

/* NULL if it does not exist. Pinned. CORRUPT: it cannot be had. */
int tree_page(struct store *s, const struct page_key *key, struct page **page) MUST_CHECK;
/* What a page refers to; of one that does not exist zeros. */
int tree_slots(struct store *s, const struct page_key *key, uint64_t slot[VOLUME_SLOTS]) MUST_CHECK;
/* Is it in memory other than what lies under its id? */
bool tree_page_dirty(struct store *s, const struct page_key *key);
/* Under which id it is kept, by what is above it; 0: it does not exist, or has none yet. */
int tree_page_id(struct store *s, const struct page_key *key, uint64_t *id) MUST_CHECK;
/* The next leaf, at or behind *index and before `end`, that exists; as table_next. */
int tree_next_leaf(struct store *s, uint32_t volume, uint64_t end, uint64_t *index, bool *found) MUST_CHECK;
/* The next page of any level above 0 ... see walk.c */
int tree_next(struct store *s, uint32_t volume, unsigned level, uint64_t *index, bool *found) MUST_CHECK;

void tree_audit(const struct store *s);

#endif
