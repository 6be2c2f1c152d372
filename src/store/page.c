/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The cache of tree pages: bounded, least recently used out first. Pages that a checkpoint has yet to
 * write, and pages above a cached one, stay, and so do those that the operation under way may hold on
 * to; if all have to stay it grows beyond its bound rather than fail (a checkpoint is due then).
 *
 * A page that must be written by the next checkpoint has path_epoch == freezes + 1, and so have all
 * above it: marking stops at the first that has it already, which makes counting them (store.closure)
 * cheap. A freeze raises `freezes`; from then on the first change of a page that is still to be
 * written keeps the frozen version aside.
 *
 * Takes no lock; all under the store's.
 */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "store/internal.h"

static size_t bucket_of(const struct store *s, unsigned tree, unsigned level, uint64_t index)
{
	return hash_mix(index * 32 + tree * 8 + level) & (s->buckets - 1);
}

int page_cache_init(struct store *s)
{
	s->pages_max = MAX_OF(s->config.cache_bytes / sizeof(struct page), (size_t)CACHE_PAGES_MIN);
	s->buckets = 256;
	while (s->buckets < s->pages_max)
		s->buckets *= 2;
	s->bucket = calloc(s->buckets, sizeof(*s->bucket));
	s->lru.older = s->lru.newer = &s->lru;
	return s->bucket ? 0 : -LCPFS_E_NOMEM;
}

void page_cache_free(struct store *s)
{
	for (struct page *p = s->lru.newer, *next; p && p != &s->lru; p = next) {
		next = p->newer;
		free(p->frozen);
		free(p);
	}
	free(s->bucket);
	s->bucket = NULL;
}

static void lru_unlink(struct page *p)
{
	p->older->newer = p->newer;
	p->newer->older = p->older;
}

static void lru_append(struct store *s, struct page *p)
{
	p->older = s->lru.older;
	p->newer = &s->lru;
	p->older->newer = p;
	s->lru.older = p;
}

struct page *page_find(struct store *s, unsigned tree, unsigned level, uint64_t index)
{
	struct page *p = s->bucket[bucket_of(s, tree, level, index)];
	while (p && (p->index != index || p->level != level || p->tree != tree))
		p = p->hash_next;
	if (!p)
		return NULL;
	p->used = ++s->uses;
	if (s->lru.older != p) {
		lru_unlink(p);
		lru_append(s, p);
	}
	return p;
}

static bool page_stays(const struct store *s, const struct page *p)
{
	return p->children || p->freezing || p->path_epoch == s->freezes + 1 || s->uses - p->used < PAGES_IN_USE_MAX;
}

static void page_remove(struct store *s, struct page *p)
{
	struct page **link = &s->bucket[bucket_of(s, p->tree, p->level, p->index)];
	while (*link != p)
		link = &(*link)->hash_next;
	*link = p->hash_next;
	lru_unlink(p);
	if (p->parent)
		p->parent->children--;
	else
		tree_of(s, p->tree)->top = NULL;
	s->pages--;
	free(p->frozen);
	free(p);
}

/*
 * Looks at a bounded number of pages; those that have to stay go to the young end, so that they are not met each
 * time.
 */
static void page_evict(struct store *s)
{
	for (int tries = 0; tries < 32 && s->pages >= s->pages_max; tries++) {
		struct page *p = s->lru.newer;
		if (!page_stays(s, p)) {
			page_remove(s, p);
			continue;
		}
		lru_unlink(p);
		lru_append(s, p);
	}
}

struct page *page_insert(struct store *s, unsigned tree, unsigned level, uint64_t index, struct page *parent)
{
	struct page *p = calloc(1, sizeof(*p));
	if (!p)
		return NULL;
	AUDIT(!page_find(s, tree, level, index));
	p->used = ++s->uses;
	if (parent)
		parent->children++; /* before evicting: it keeps the parent here */
	page_evict(s);
	p->tree = (uint8_t)tree;
	p->level = (uint8_t)level;
	p->index = index;
	p->parent = parent;
	if (!parent)
		tree_of(s, tree)->top = p;
	struct page **bucket = &s->bucket[bucket_of(s, tree, level, index)];
	p->hash_next = *bucket;
	*bucket = p;
	lru_append(s, p);
	s->pages++;
	return p;
}

void page_mark(struct store *s, struct page *p)
{
	for (; p && p->path_epoch != s->freezes + 1; p = p->parent) {
		p->path_epoch = s->freezes + 1;
		s->closure++;
		if (!p->counted) {
			p->counted = true;
			s->page_count++;
			s->unwritten++;
		}
	}
}

int page_modify(struct store *s, struct page *p)
{
	if (p->freezing && !p->frozen) {
		p->frozen = malloc(sizeof(*p->frozen));
		if (!p->frozen)
			return -LCPFS_E_NOMEM;
		memcpy(p->frozen, &p->data, sizeof(p->data));
	}
	page_mark(s, p);
	return 0;
}

bool page_empty(const struct fmt_page *data)
{
	static const uint8_t zeros[sizeof(data->bytes)];
	return memcmp(data->bytes, zeros, sizeof(zeros)) == 0;
}
