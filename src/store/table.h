/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block table: where each block id lies. A tree of pages with places, the only thing of a partition that knows
 * places.
 *
 * Leaves change by what users and cleaning do; the pages above only when a checkpoint gives the pages below new
 * places. A leaf that changes while a checkpoint still has to write it keeps its frozen version aside.
 *
 * Invariants (table_audit):
 *   T1  a dirty leaf is on the list of its region, a dirty page above on the list of those; the counts are right.
 *   T2  an entry is all zero, or has a place in a metaslab of ours, a kind, and a length of 8 sectors.
 *   T3  whatever the table says lies in a LOG metaslab is counted there as live; see space S3.
 */
#ifndef STORE_TABLE_H
#define STORE_TABLE_H

#include "store/state.h"

enum { TABLE_LEVELS_MAX = 7 }; /* 126^7 leaves are more than 2^48 ids */

static inline struct page_key table_key(unsigned level, uint64_t index)
{
	return (struct page_key){.kind = PAGE_TABLE, .level = (uint8_t)level, .index = index};
}

/* -- in attempts -- */

/* The leaf that an id's entry is in. TRY_AGAIN: not in memory. *leaf NULL: there is none, all its ids are free. */
int table_leaf(struct store *s, uint64_t id, struct need *need, struct page **leaf) MUST_CHECK;
/* The same; where there is none, an empty one is made. NOMEM, or RANGE for an id that cannot be. */
int table_leaf_made(struct store *s, uint64_t id, struct need *need, struct page **leaf) MUST_CHECK;
/* Before a leaf is changed: for the frozen version memory may run out; then nothing is changed. */
int table_modify(struct store *s, struct page *leaf) MUST_CHECK;

static inline struct fmt_block *table_entry(const struct page *leaf, uint64_t id)
{
	return &page_table(leaf)->block[id % TABLE_SLOTS];
}

static inline bool entry_free(const struct fmt_block *e) { return e->kind == BLOCK_FREE; }

/* -- entries: live counts follow. After table_modify. -- */

/* CORRUPT: the table says what cannot be (a place that is not ours); nothing is changed. */
int table_place(struct store *s, struct fmt_block *e, uint64_t block) MUST_CHECK; /* as it is, but here */
/* With new content. A free one becomes `kind`, born now. */
int table_store(struct store *s, struct fmt_block *e, enum fmt_block_kind kind, uint64_t block,
		const struct fmt_check *check) MUST_CHECK;
int table_free(struct store *s, struct fmt_block *e) MUST_CHECK;
/* Its block number; UINT64_MAX if the entry makes no sense. */
uint64_t table_block(const struct store *s, const struct fmt_block *e);

/* -- pages: with the lock, which is let go where something is read -- */

/* The page of a level; NULL if it does not exist. Pinned. CORRUPT: both copies are damaged. */
int table_page(struct store *s, unsigned level, uint64_t index, struct page **page) MUST_CHECK;
/* The entry of an id as it is now; all zero where it has none. */
int table_look_up(struct store *s, uint64_t id, struct fmt_block *entry) MUST_CHECK;
/* When an id was taken into use. CORRUPT: it is free. */
int table_birth(struct store *s, uint64_t id, uint32_t *birth) MUST_CHECK;
/* Where a page lies, as its parent or the root has it; null if it does not exist. */
int table_pointer(struct store *s, unsigned level, uint64_t index, struct fmt_pointer *at) MUST_CHECK;
/*
 * Reads a page, from either copy; with what each copy was like in good[2] (may be NULL: the second only if
 * needed). No lock.
 */
int table_read(struct store *s, const struct fmt_pointer *at, unsigned tree, unsigned level, uint64_t index,
	       struct fmt_page *out, bool good[2]) MUST_CHECK;
/*
 * The first page of a level, at or behind *index, that exists (above the leaves: on the device); false in *found
 * if there is none. After an error *index is the last page that cannot be had for it, and *found says whether it
 * is the only one.
 */
int table_next(struct store *s, unsigned level, uint64_t *index, bool *found) MUST_CHECK;
/* A page above the leaves has changed. */
void table_mark_inner(struct store *s, struct page *page);
static inline bool pointer_null(const struct fmt_pointer *at) { return le64_get(at->place[0]) == 0; }

/* -- regions -- */

static inline unsigned table_region(const struct store *s, uint64_t leaf)
{
	return (unsigned)(leaf / TABLE_SLOTS >> s->table.region_shift);
}

/* Has the region of this id what record `seq` tells? Then roll-forward leaves it alone. */
static inline bool table_knows(const struct store *s, uint64_t id, uint64_t seq)
{
	return s->table.region[table_region(s, id / TABLE_SLOTS)].seq >= seq;
}

/* Ids up to `id` will be used: regions get larger where it takes that. */
void table_make_regions(struct store *s, uint64_t id);
/* A page is not dirty any more. */
void table_clean(struct store *s, struct page *page);
void table_audit(const struct store *s);

#endif
