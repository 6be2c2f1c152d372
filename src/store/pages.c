/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of the block table come to the device: they get places, behind each other in metaslabs of their own and
 * twice each, and whatever points at them points there. Pages that lie among many dead ones move.
 *
 * The places that they had stay live until a root is durable that does not need them (checkpoint.freed).
 */
#include "store/pages.h"

#include <stdlib.h>
#include <string.h>

#include "store/log.h"
#include "store/place.h"
#include "store/room.h"
#include "store/table.h"

/* -- places -- */

/* The next block for a page of the table; takes a new metaslab where the last one is full. */
static int next_place(struct store *s, uint64_t *block)
{
	struct head *h = &s->table.head;
	if (h->metaslab != NO_METASLAB && h->offset == s->config.metaslab_blocks) {
		space_close(&s->space, h->metaslab);
		h->metaslab = NO_METASLAB;
	}
	if (h->metaslab == NO_METASLAB) {
		h->metaslab = space_take(&s->space, CLASS_TABLE, s->counters.written_blocks);
		h->offset = 0;
		if (h->metaslab == SPACE_NONE)
			return -LCPFS_E_NOSPC;
	}
	*block = metaslab_block(s, h->metaslab) + h->offset++;
	space_live_add(&s->space, space_find(&s->space, h->metaslab), BLOCK_SECTORS);
	return 0;
}

void pages_drop(struct store *s, uint64_t block)
{
	struct metaslab *m = metaslab_of(s, block);
	if (m && m->class == CLASS_TABLE && m->live)
		space_live_sub(&s->space, m, BLOCK_SECTORS);
	else
		(void)store_contradiction(s); /* of what the device said: its counts and its pages */
}

/* They were given places that nothing points at in the end. */
static void drop_places(struct store *s, const struct page_out *out, unsigned count)
{
	for (unsigned i = 0; i < 2 * count; i++) {
		if (!place_null(out[i / 2].at.place[i % 2]))
			pages_drop(s, block_of_place(out[i / 2].at.place[i % 2]));
	}
}

static int place_copy(struct store *s, struct page_out *out, unsigned count, unsigned copy)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t block;
		int error = next_place(s, &block);
		if (error)
			return error;
		out[i].at.place[copy] = place_of_block(block);
	}
	return 0;
}

/* Neighbours go together. */
static int write_copy(struct store *s, const struct page_out *out, unsigned count, unsigned copy)
{
	struct iovec iov[PAGE_GROUP];
	for (unsigned first = 0, n; first < count; first += n) {
		uint64_t block = block_of_place(out[first].at.place[copy]);
		for (n = 0; first + n < count && block_of_place(out[first + n].at.place[copy]) == block + n; n++)
			iov[n] = (struct iovec){out[first + n].image, BLOCK_SIZE};
		int error = vdev_writev(s->config.vdev, block << BLOCK_SHIFT, iov, n);
		if (error)
			return error;
	}
	return 0;
}

static void seal_image(struct store *s, struct page_out *o, unsigned tree)
{
	struct fmt_page *page = o->image;
	page->generation = le64_of(s->checkpoint.generation + 1);
	page->tree = (uint8_t)tree;
	page->level = (uint8_t)o->level;
	page->index = le64_of(o->index);
	fmt_seal(page, FMT_PAGE, s->config.guid, s->config.partition, 0);
	o->at.check = fmt_check_of(page);
}

struct page_group *pages_group_new(void)
{
	void *g;
	return posix_memalign(&g, BLOCK_SIZE, sizeof(struct page_group)) ? NULL : g;
}

/* With the lock, which is let go meanwhile. After an error they have no places. */
int pages_write(struct store *s, struct page_out *out, unsigned count, unsigned tree)
{
	if (!count)
		return 0;
	if (!s->log.unflushed) {
		s->log.unflushed = true;
		s->log.flush_failures = atomic_load(&s->config.vdev->flush_failures);
	}
	int error = place_copy(s, out, count, 0);
	if (!error)
		error = place_copy(s, out, count, 1);
	store_unlock(s);
	for (unsigned i = 0; i < count && !error; i++)
		seal_image(s, &out[i], tree);
	for (unsigned copy = 0; copy < 2 && !error; copy++)
		error = write_copy(s, out, count, copy);
	store_lock(s);
	if (error) {
		drop_places(s, out, count);
		return error;
	}
	s->counters.device_blocks += 2 * count;
	s->counters.page_blocks += 2 * count;
	return 0;
}

/* The page above, made if there is none; pinned. NULL: the root is above. */
static int parent_of(struct store *s, unsigned level, uint64_t index, struct page **parent)
{
	*parent = NULL;
	if (level + 1 == s->table.levels)
		return 0;
	int error = table_page(s, level + 1, index / TABLE_SLOTS, parent);
	if (error || *parent)
		return error;
	struct page_key key = table_key(level + 1, index / TABLE_SLOTS);
	struct page *p = cache_take(&s->cache);
	if (!p)
		return -LCPFS_E_NOMEM;
	memset(p->data, 0, BLOCK_SIZE);
	p->fresh = true;
	s->table.fresh++;
	cache_insert(&s->cache, p, &key, PAGE_READY);
	*parent = p;
	return 0;
}

/* The tree reaches a leaf. */
static int make_levels(struct store *s, uint64_t leaf)
{
	uint64_t capacity = 1;
	for (unsigned i = 1; i < s->table.levels; i++)
		capacity *= TABLE_SLOTS;
	for (; s->table.levels == 0 || leaf >= capacity; capacity *= s->table.levels > 1 ? TABLE_SLOTS : 1) {
		struct fmt_pointer top = s->table.top;
		struct page *p;
		if (s->table.levels == TABLE_LEVELS_MAX)
			return -LCPFS_E_RANGE;
		s->table.levels++;
		s->table.top = (struct fmt_pointer){0};
		if (s->table.levels == 1 || pointer_null(&top))
			continue;
		int error = parent_of(s, s->table.levels - 2, 0, &p);
		if (error) {
			s->table.levels--;
			s->table.top = top;
			return error;
		}
		page_table(p)->child[0] = top;
		table_mark_inner(s, p);
		page_unpin(&s->cache, p);
	}
	return 0;
}

/* -- what points at them -- */

static int freed_reserve(struct store *s, size_t more)
{
	struct checkpoints *k = &s->checkpoint;
	if (k->freed_count + more <= k->freed_room)
		return 0;
	size_t room = MAX_OF(2 * k->freed_room, k->freed_count + more + 64);
	uint64_t *freed = realloc(k->freed, room * sizeof(*freed));
	if (!freed)
		return -LCPFS_E_NOMEM;
	k->freed = freed;
	k->freed_room = room;
	return 0;
}

/* What the durable root refers to stays until another one is durable. Room for it was reserved. */
static void free_later(struct store *s, const struct fmt_pointer *at)
{
	for (unsigned copy = 0; copy < 2 && !pointer_null(at); copy++)
		s->checkpoint.freed[s->checkpoint.freed_count++] = block_of_place(at->place[copy]);
}

/* Whoever points at the page points to where it lies now. */
static void point_at(struct store *s, struct page *parent, uint64_t index, const struct fmt_pointer *at)
{
	struct fmt_pointer *pointer = parent ? &page_table(parent)->child[index % TABLE_SLOTS] : &s->table.top;
	free_later(s, pointer);
	*pointer = *at;
	if (parent)
		table_mark_inner(s, parent);
}

static bool is_empty(const struct fmt_page *page)
{
	static const uint8_t zeros[sizeof(page->bytes)];
	return memcmp(page->bytes, zeros, sizeof(zeros)) == 0;
}

/* It lies on the device now, as it was frozen; or (at null) nowhere, since it is empty. */
static void page_written(struct store *s, struct page *p, bool nowhere)
{
	if (p->fresh && !nowhere) {
		s->table.fresh--;
		s->table.pages++;
	} else if (!p->fresh && nowhere) {
		s->table.fresh++;
		s->table.pages--;
	}
	p->fresh = nowhere;
	p->freezing = false;
	free(p->frozen);
	p->frozen = NULL;
	if (!nowhere || p->dirty)
		return;
	s->table.fresh--;
	p->fresh = false;
	cache_forget(&s->cache, p);
}

/* Parents first: where one cannot be had, nothing has changed. */
static int point_all(struct store *s, struct page_group *g)
{
	struct page *parent;
	for (unsigned i = 0; i < g->count; i++) {
		int error = parent_of(s, g->out[i].level, g->out[i].index, &parent);
		if (error) {
			drop_places(s, g->out + i, g->count - i);
			return error;
		}
		bool nowhere = is_empty(g->out[i].image);
		point_at(s, parent, g->out[i].index, nowhere ? &(struct fmt_pointer){0} : &g->out[i].at);
		if (parent)
			page_unpin(&s->cache, parent);
		if (g->page[i])
			page_written(s, *g->page[i], nowhere);
		if (g->page[i])
			*g->page[i] = NULL;
	}
	return 0;
}

/* Empty ones are not written: they come last, and only the first ones go out. */
static int write_pages(struct store *s, struct page_group *g)
{
	unsigned written = 0;
	for (unsigned i = 0; i < g->count; i++)
		g->out[i].image = &g->image[i];
	for (unsigned i = 0; i < g->count; i++) {
		if (is_empty(g->out[i].image))
			continue;
		struct page_out o = g->out[i];
		struct page **p = g->page[i];
		g->out[i] = g->out[written];
		g->page[i] = g->page[written];
		g->out[written] = o;
		g->page[written++] = p;
	}
	int error = freed_reserve(s, 2 * g->count);
	if (!error)
		error = pages_write(s, g->out, written, TREE_TABLE);
	return error ? error : point_all(s, g);
}

static void add_to_group(struct page_group *g, struct page **listed)
{
	const struct page *p = *listed;
	g->page[g->count] = listed;
	g->out[g->count].level = p->key.level;
	g->out[g->count].index = p->key.index;
	memcpy(&g->image[g->count++], p->frozen ? p->frozen : p->data, BLOCK_SIZE);
}

int pages_write_leaves(struct store *s, struct page_group *g, struct page **leaf, size_t leaves)
{
	int error = 0;
	for (size_t i = 0; i < leaves && !error; i++)
		error = make_levels(s, leaf[i]->key.index);
	for (size_t first = 0; first < leaves && !error; first += g->count) {
		memset(g, 0, sizeof(*g));
		while (g->count < PAGE_GROUP && first + g->count < leaves)
			add_to_group(g, &leaf[first + g->count]);
		error = write_pages(s, g);
	}
	return error;
}

/* Level by level, so that a page is written when those below it are. */
int pages_write_inner(struct store *s, struct page_group *g)
{
	struct page *page[PAGE_GROUP], *written[PAGE_GROUP];
	int error = 0;
	for (unsigned level = 1; level < s->table.levels && !error; level += g->count == 0) {
		memset(g, 0, sizeof(*g));
		for (struct page *p = s->table.dirty_inner; p && g->count < PAGE_GROUP; p = p->dirty_next) {
			page[g->count] = written[g->count] = p;
			if (p->key.level == level)
				add_to_group(g, &written[g->count]);
		}
		for (unsigned i = 0; i < g->count; i++) {
			page_pin(page[i]);
			table_clean(s, page[i]);
		}
		error = write_pages(s, g);
		for (unsigned i = 0; i < g->count; i++) {
			if (written[i]) /* it was not */
				table_mark_inner(s, page[i]);
			page_unpin(&s->cache, page[i]);
		}
	}
	return error;
}

/* -- pages that only move -- */

/*
 * Dead pages among live ones: where they are too many, the live ones of the metaslab with the fewest go elsewhere,
 * as they lie on the device; so the region that a leaf belongs to stays as old as it is.
 */
static struct metaslab *wasteful(const struct store *s, const uint32_t *doomed)
{
	return plan_wasteful(&s->space, doomed, 2 * (s->table.pages + s->checkpoint.space_page_count),
			     room_kept(s, USER_WRITE));
}

static void doom(const struct store *s, uint64_t block, uint32_t *doomed)
{
	const struct metaslab *m = metaslab_of(s, block);
	if (m)
		doomed[m - s->space.slab] += BLOCK_SECTORS;
}

/* By position in the slab, units that only the durable root needs. To be freed; good while the lock is held. */
uint32_t *pages_doomed(const struct store *s)
{
	const struct checkpoints *k = &s->checkpoint;
	uint32_t *doomed = calloc(s->space.count + 1, sizeof(*doomed));
	for (size_t i = 0; i < k->freed_count && doomed; i++)
		doom(s, k->freed[i], doomed);
	for (size_t i = 0; i < 2 * k->space_page_count && doomed; i++)
		doom(s, block_of_place(k->space_pages[i / 2].place[i % 2]), doomed);
	return doomed;
}

bool pages_wasteful(const struct store *s)
{
	const struct head *h = &s->table.head;
	const struct metaslab *m = wasteful(s, NULL);
	uint32_t room = h->metaslab == NO_METASLAB ? 0 : s->config.metaslab_blocks - h->offset;
	return m && m->live <= room * BLOCK_SECTORS / 2; /* with what is above them */
}

/* Is this what the table has at this place? With the lock; `at` says where both copies lie. */
static bool is_current(struct store *s, const struct fmt_page *page, uint64_t block, struct fmt_pointer *at)
{
	if (page->tree != TREE_TABLE || page->level >= s->table.levels ||
	    table_pointer(s, page->level, le64_get(page->index), at) || pointer_null(at))
		return false;
	return fmt_check_fits(&at->check, page) &&
	       (block_of_place(at->place[0]) == block || block_of_place(at->place[1]) == block);
}

static bool is_dirty_inner(struct store *s, const struct fmt_page *page)
{
	struct page_key key = table_key(page->level, le64_get(page->index));
	struct page *p = cache_find(&s->cache, &key);
	return page->level > 0 && p && p->dirty; /* it is written anyway */
}

static void add_moved(struct store *s, struct page_group *g, uint64_t block)
{
	struct fmt_page *image = &g->image[g->count];
	struct fmt_pointer at;
	store_unlock(s);
	int error = vdev_read(s->config.vdev, block << BLOCK_SHIFT, image, BLOCK_SIZE);
	store_lock(s);
	if (error || fmt_verify(image, FMT_PAGE, s->config.guid, s->config.partition) != FMT_GOOD ||
	    !is_current(s, image, block, &at) || is_dirty_inner(s, image))
		return; /* a damaged one stays where it is: the other copy's place has it, too */
	for (unsigned i = 0; i < g->count; i++) { /* the other copy is in the same metaslab */
		if (g->out[i].level == image->level && g->out[i].index == le64_get(image->index))
			return;
	}
	g->out[g->count].level = image->level;
	g->out[g->count].index = le64_get(image->index);
	g->page[g->count++] = NULL;
}

static int move_from(struct store *s, struct page_group *g, uint32_t metaslab)
{
	uint64_t block = metaslab_block(s, metaslab), end = block + s->config.metaslab_blocks;
	int error = 0;
	while (block < end && !error) {
		memset(g, 0, sizeof(*g));
		for (; block < end && g->count < PAGE_GROUP; block++)
			add_moved(s, g, block);
		if (g->count)
			error = write_pages(s, g);
	}
	return error;
}

/* Blocks that pages of the table find. */
uint64_t pages_room(const struct store *s)
{
	const struct head *h = &s->table.head;
	uint64_t head = h->metaslab == NO_METASLAB ? 0 : s->config.metaslab_blocks - h->offset;
	return (uint64_t)space_empty(&s->space) * s->config.metaslab_blocks + head;
}

/* With as many pages above them as they are, what is above is still written, and the space list. */
static bool may_move(const struct store *s, uint32_t left)
{
	uint64_t rest = s->table.inner_count + s->table.levels + plan_list_pages(s->space.count);
	return 2 * left / BLOCK_SECTORS + 2 * rest <= pages_room(s);
}

static uint32_t next_to_move(const struct store *s)
{
	uint32_t *doomed = pages_doomed(s);
	const struct metaslab *m = doomed ? wasteful(s, doomed) : NULL;
	bool may = m && may_move(s, m->live - doomed[m - s->space.slab]);
	free(doomed);
	return may ? m->index : SPACE_NONE;
}

/* As many metaslabs as it takes to keep the waste within bounds: but no more than the step's own pages again. */
int pages_move(struct store *s, struct page_group *g, size_t leaves)
{
	uint64_t end = s->counters.page_blocks + 2 * leaves + s->config.metaslab_blocks;
	uint32_t last = SPACE_NONE, next = next_to_move(s);
	int error = 0;
	/* From one that cannot be read nothing moves. */
	while (next != SPACE_NONE && next != last && !error && s->counters.page_blocks < end) {
		last = next;
		error = move_from(s, g, last);
		next = next_to_move(s);
	}
	return error;
}
