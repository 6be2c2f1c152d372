/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache of one store: 4 KiB pages, verified. What is in it was checked against its checksum when it came from
 * the device, or was put there by whoever wrote it; a hit is used as it is.
 *
 * Two kinds of pages are kept: those of volumes' trees, and those of the block table, by where they stand in their
 * tree. Private ones have no key: data on its way to the log, which is found there (log_page) until it is written.
 * Data is not kept longer: that is for the system's own cache, and bytes that were just let go are the ones that
 * the processor still has. A page is pinned by who uses it while the lock is let go: users of its bytes, log
 * records that are not written yet. The cache is bounded: clean pages without pins go, those not used for longest
 * first (CLOCK). They go before an attempt and before one is loaded, and not amid an attempt: what it has found
 * stays there to its end. Where all have to stay it grows beyond its bound rather than fail; checkpoint_due()
 * keeps that short.
 *
 * Invariants (cache_audit):
 *   C1  a page with a key is in the hash table, once; no two have the same key.
 *   C2  count is the number of pages, free ones left out; a free page has no pins and no key. A tree page with a
 *       key is on the ring.
 *   C3  a dirty or frozen page has a key, and stays.
 *
 * Takes no lock itself; all under the store's, except for what it says of bytes.
 */
#ifndef STORE_CACHE_H
#define STORE_CACHE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"
#include "format/format.h"

enum page_kind { PAGE_VOLUME, PAGE_TABLE, PAGE_KINDS };

struct page_key {
	uint8_t kind, level;
	uint32_t volume;     /* VOLUME */
	uint64_t index;      /* among the pages of its level */
};

enum page_state {
	PAGE_PRIVATE, /* no key: only who took it knows it */
	PAGE_LOADING, /* being read: others wait */
	PAGE_READY,
};

struct page {
	struct page *hash_next;
	struct page *older, *newer; /* ring of pages with a key; `newer`: list of free ones */
	struct page_key key;
	uint8_t state;
	bool used;    /* since the hand passed last */
	bool dirty;   /* VOLUME, TABLE: changed since it was written */
	bool freezing; /* TABLE: the checkpoint under way has to write it as it was */
	bool fresh;    /* TABLE: it lies nowhere yet */
	uint16_t pins;
	struct page *dirty_next, *dirty_previous; /* TABLE, VOLUME: in the list of dirty ones */
	uint64_t id;   /* VOLUME: the even one of its ids; 0: it has none yet */
	uint32_t birth; /* VOLUME: of that id */
	uint8_t *data; /* BLOCK_SIZE bytes, aligned to it */
	uint8_t *frozen; /* TABLE: what the checkpoint has to write, where that differs from data */
};

struct cache {
	struct page **bucket;
	size_t buckets;
	struct page ring; /* head */
	struct page *hand;
	struct page *unused; /* free pages, the last one freed first: the processor still has it */
	struct page *recent[PAGE_KINDS]; /* found last: often asked for again */
	struct slab *slabs;
	size_t count, keyed, max, allocated; /* pages: not free; with a key, and how many of those at most; all */
};

int cache_init(struct cache *cache, size_t bytes) MUST_CHECK; /* at least CACHE_PAGES_MIN pages */
void cache_free(struct cache *cache);

/* A private page, pinned, with undefined bytes. NULL: out of memory. */
struct page *cache_take(struct cache *cache);
/* NULL: not there. Counts as use. */
struct page *cache_find(struct cache *cache, const struct page_key *key);
/*
 * A private page gets a key and is READY or LOADING. One that has this key already loses it (its pins stay good).
 */
void cache_insert(struct cache *cache, struct page *page, const struct page_key *key, enum page_state state);
/* Pages go, as far as there are too many: pointers to those without pins are not good any more. */
void cache_shrink(struct cache *cache);
/* It loses its key; free as soon as it has no pins. Must not be dirty. */
void cache_forget(struct cache *cache, struct page *page);
static inline void page_pin(struct page *page) { page->pins++; }
void page_unpin(struct cache *cache, struct page *page);

static inline struct fmt_page *page_table(const struct page *p) { return (struct fmt_page *)p->data; }
static inline struct fmt_volume_page *page_volume(const struct page *p)
{
	return (struct fmt_volume_page *)p->data;
}

static inline bool page_key_same(const struct page_key *a, const struct page_key *b)
{
	return a->index == b->index && a->kind == b->kind && a->level == b->level && a->volume == b->volume;
}

size_t cache_bytes(const struct cache *cache);
void cache_audit(const struct cache *cache, size_t dirty[PAGE_KINDS]); /* and how many are dirty */

enum { CACHE_PAGES_MIN = 512 };

#endif
