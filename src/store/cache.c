/* SPDX-License-Identifier: Apache-2.0 */
#include "store/cache.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

enum { SLAB_PAGES = 32, TRIES_MAX = 64, SHARE = 8 };

struct slab {
	struct slab *next;
	uint8_t *bytes;
	struct page page[SLAB_PAGES];
};

/* What lies side by side is found side by side: the processor has a bucket's neighbours, too. */
static size_t bucket_of(const struct cache *c, const struct page_key *key)
{
	uint64_t name = (uint64_t)key->kind << 62 | (uint64_t)key->level << 56 | (uint64_t)key->volume << 24;
	return (key->index + hash_mix(name + (key->index >> 9))) & (c->buckets - 1);
}

int cache_init(struct cache *c, size_t bytes)
{
	*c = (struct cache){.max = MAX_OF(bytes / BLOCK_SIZE, (size_t)CACHE_PAGES_MIN), .buckets = 512};
	while (c->buckets < c->max)
		c->buckets *= 2;
	c->bucket = calloc(c->buckets, sizeof(*c->bucket));
	c->ring.older = c->ring.newer = &c->ring;
	c->hand = &c->ring;
	return c->bucket ? 0 : -LCPFS_E_NOMEM;
}

void cache_free(struct cache *c)
{
	for (struct page *p = c->ring.newer; p && p != &c->ring; p = p->newer)
		free(p->frozen);
	for (struct slab *slab = c->slabs, *next; slab; slab = next) {
		next = slab->next;
		free(slab->bytes);
		free(slab);
	}
	free(c->bucket);
	*c = (struct cache){0};
}

static bool add_slab(struct cache *c)
{
	struct slab *slab = calloc(1, sizeof(*slab));
	if (!slab)
		return false;
	if (posix_memalign((void **)&slab->bytes, BLOCK_SIZE, SLAB_PAGES * (size_t)BLOCK_SIZE)) {
		free(slab);
		return false;
	}
	for (unsigned i = SLAB_PAGES; i-- > 0;) {
		slab->page[i].data = slab->bytes + i * (size_t)BLOCK_SIZE;
		slab->page[i].newer = c->unused;
		c->unused = &slab->page[i];
	}
	slab->next = c->slabs;
	c->slabs = slab;
	c->allocated += SLAB_PAGES;
	return true;
}

/* -- pages with a key -- */

static void ring_add(struct cache *c, struct page *p)
{
	p->older = c->hand->older; /* behind the hand: it comes there last */
	p->newer = c->hand;
	p->older->newer = p;
	p->newer->older = p;
	c->keyed++;
}

static void ring_remove(struct cache *c, struct page *p)
{
	if (c->hand == p)
		c->hand = p->newer;
	p->older->newer = p->newer;
	p->newer->older = p->older;
	c->keyed--;
}

static void hash_remove(struct cache *c, struct page *p)
{
	struct page **link = &c->bucket[bucket_of(c, &p->key)];
	while (*link != p)
		link = &(*link)->hash_next;
	*link = p->hash_next;
	if (c->recent[p->key.kind] == p)
		c->recent[p->key.kind] = NULL;
	ring_remove(c, p);
	p->state = PAGE_PRIVATE;
}

static void release(struct cache *c, struct page *p)
{
	CHECK(!p->dirty && !p->freezing && !p->pins && p->state == PAGE_PRIVATE);
	free(p->frozen);
	*p = (struct page){.data = p->data, .newer = c->unused};
	c->unused = p;
	c->count--;
}

/*
 * The hand goes round; what was used since it passed last is spared once. A bounded number of pages is looked at,
 * and a share of them: what was just loaded has to stay until all is there that is needed with it.
 */
void cache_shrink(struct cache *c)
{
	size_t most = MIN_OF(c->keyed / SHARE + 1, (size_t)TRIES_MAX);
	for (size_t tries = 0; tries < most && c->keyed >= c->max; tries++) {
		struct page *p = c->hand;
		c->hand = p->newer;
		if (p == &c->ring || p->pins || p->dirty || p->freezing || p->state != PAGE_READY)
			continue;
		if (p->used) {
			p->used = false;
			continue;
		}
		hash_remove(c, p);
		release(c, p);
	}
}

struct page *cache_take(struct cache *c)
{
	if (!c->unused && !add_slab(c))
		return NULL;
	struct page *p = c->unused;
	c->unused = p->newer;
	*p = (struct page){.data = p->data, .pins = 1, .state = PAGE_PRIVATE};
	c->count++;
	return p;
}

struct page *cache_find(struct cache *c, const struct page_key *key)
{
	struct page *p = c->recent[key->kind];
	if (p && page_key_same(&p->key, key)) {
		p->used = true;
		return p;
	}
	p = c->bucket[bucket_of(c, key)];
	while (p && !page_key_same(&p->key, key))
		p = p->hash_next;
	if (!p)
		return NULL;
	p->used = true;
	c->recent[key->kind] = p;
	return p;
}

void cache_insert(struct cache *c, struct page *p, const struct page_key *key, enum page_state state)
{
	CHECK(p->state == PAGE_PRIVATE && state != PAGE_PRIVATE);
	struct page *old = cache_find(c, key);
	if (old)
		cache_forget(c, old);
	struct page **bucket = &c->bucket[bucket_of(c, key)];
	p->key = *key;
	p->state = (uint8_t)state;
	p->used = true;
	p->hash_next = *bucket;
	*bucket = p;
	ring_add(c, p);
}

void cache_forget(struct cache *c, struct page *p)
{
	CHECK(!p->dirty && !p->freezing);
	if (p->state != PAGE_PRIVATE)
		hash_remove(c, p);
	if (!p->pins)
		release(c, p);
}

void page_unpin(struct cache *c, struct page *p)
{
	CHECK(p->pins > 0);
	if (--p->pins == 0 && p->state == PAGE_PRIVATE)
		release(c, p);
}

size_t cache_bytes(const struct cache *c)
{
	return c->allocated * (BLOCK_SIZE + sizeof(struct page)) + c->buckets * sizeof(*c->bucket);
}

void cache_audit(const struct cache *c, size_t dirty[PAGE_KINDS])
{
	size_t ring = 0, hashed = 0, unused = 0;
	for (const struct page *p = c->ring.newer; p != &c->ring; p = p->newer) {
		CHECK(p->newer->older == p && p->state != PAGE_PRIVATE);
		CHECK(p->dirty || p->id || p->key.kind != PAGE_VOLUME || p->state != PAGE_READY); /* V1 */
		dirty[p->key.kind] += p->dirty;
		ring++;
	}
	for (const struct page *p = c->unused; p; p = p->newer, unused++)
		CHECK(!p->pins && p->state == PAGE_PRIVATE); /* C2 */
	for (const struct slab *slab = c->slabs; slab; slab = slab->next) {
		for (const struct page *p = slab->page; p < slab->page + SLAB_PAGES; p++)
			CHECK(p->state != PAGE_PRIVATE || (!p->dirty && !p->freezing)); /* C3 */
	}
	for (size_t i = 0; i < c->buckets; i++) {
		for (const struct page *p = c->bucket[i]; p; p = p->hash_next) {
			CHECK(p->state != PAGE_PRIVATE && bucket_of(c, &p->key) == i);
			for (const struct page *q = p->hash_next; q; q = q->hash_next)
				CHECK(!page_key_same(&p->key, &q->key)); /* C1 */
			hashed++;
		}
	}
	CHECK(hashed == ring && ring == c->keyed && c->count == c->allocated - unused); /* C2 */
}
