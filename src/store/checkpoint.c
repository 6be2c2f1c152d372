/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoint: the state at one record of the log, S, is written as trees, and a new root makes it current.
 *
 * 1. Freeze, under the lock: seal the users' record (that is S), note where the heads stand, the live counts and
 *    which pages have changed. Users go on at once; a page that they change before it is written keeps its frozen
 *    version aside.
 * 2. Write the frozen pages level by level, leaves first, each twice, through the log's META head. Once both
 *    copies are written, its parent (which only checkpoints change) points at the new places.
 * 3. Write the space tree from the frozen counts.
 * 4. Flush; write the root into the slot that is not current, in both areas; flush.
 * 5. What the old root needed is free now.
 *
 * Fails at any point: the old root stands, pages not yet written are marked for the next one, and blocks that the
 * old root refers to stay live (store.freed) until a root is durable. The new root goes to the same slot again, so
 * the last good one is never overwritten.
 */
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

struct checkpoint {
	struct store *s;
	struct page **list; /* frozen pages, leaves first */
	size_t count;
	uint64_t log_blocks; /* at the freeze */
	unsigned heads; /* as the root will have it */
	struct fmt_root root;
	struct fmt_pointer *space_pages;
	size_t space_page_count, space_page_room;
};

/* --- freeing when durable --- */

static int freed_reserve(struct store *s, size_t more)
{
	if (s->freed_count + more <= s->freed_room)
		return 0;
	size_t room = MAX_OF(2 * s->freed_room, s->freed_count + more + 64);
	uint64_t *freed = realloc(s->freed, room * sizeof(*freed));
	if (!freed)
		return -LCPFS_E_NOMEM;
	s->freed = freed;
	s->freed_room = room;
	return 0;
}

/* Room for both copies was reserved. */
static void free_later(struct store *s, const struct fmt_pointer *at)
{
	for (int copy = 0; copy < 2 && !pointer_null(at); copy++) {
		uint64_t block = le64_get(at->place[copy]);
		struct metaslab *m = space_of_block(&s->space, block);
		s->freed[s->freed_count++] = block;
		if (m)
			m->frozen_live--;
	}
}

static int take_place(struct store *s, const struct fmt_pointer *at, bool frozen)
{
	for (int copy = 0; copy < 2; copy++) {
		int error = space_live_add(&s->space, le64_get(at->place[copy]));
		if (error)
			return error;
		space_of_block(&s->space, le64_get(at->place[copy]))->frozen_live += frozen;
	}
	return 0;
}

static int drop_place(struct store *s, const struct fmt_pointer *at)
{
	int first = space_live_sub(&s->space, le64_get(at->place[0]));
	int second = space_live_sub(&s->space, le64_get(at->place[1]));
	return first ? first : second;
}

/* --- 1. freeze --- */

static int by_level(const void *a, const void *b)
{
	const struct page *x = *(struct page *const *)a, *y = *(struct page *const *)b;
	if (x->level != y->level)
		return x->level - y->level;
	if (x->tree != y->tree)
		return x->tree - y->tree;
	return (x->index > y->index) - (x->index < y->index);
}

static int collect_pages(struct checkpoint *c)
{
	struct store *s = c->s;
	c->list = calloc(s->closure + 1, sizeof(*c->list));
	if (!c->list || freed_reserve(s, 2 * s->closure))
		return -LCPFS_E_NOMEM;
	for (struct page *p = s->lru.newer; p != &s->lru; p = p->newer) {
		if (p->path_epoch != s->freezes + 1)
			continue;
		CHECK(c->count < s->closure);
		p->freezing = true;
		c->list[c->count++] = p;
	}
	CHECK(c->count == s->closure);
	s->freezes++;
	s->closure_frozen = s->closure;
	s->closure = 0;
	qsort(c->list, c->count, sizeof(*c->list), by_level);
	return 0;
}

static void freeze_counts(struct store *s)
{
	for (uint32_t i = 0; i < s->space.count; i++)
		s->space.slab[i].frozen_live = s->space.slab[i].live;
	for (size_t i = 0; i < 2 * s->space_page_count; i++)
		space_of_block(&s->space, le64_get(s->space_pages[i / 2].place[i % 2]))->frozen_live--;
	for (size_t i = 0; i < s->freed_count; i++)
		space_of_block(&s->space, s->freed[i])->frozen_live--;
}

/*
 * With few metaslabs one head writes everything. More heads come into use only when a root that names them is
 * durable, else roll-forward would not find what they wrote; fewer at once.
 */
static void choose_heads(struct checkpoint *c)
{
	struct store *s = c->s;
	bool few = s->space.count < HEADS_METASLABS_MIN;
	c->heads = s->heads;
	for (unsigned i = 1; few && i < LOG_HEADS; i++) {
		struct metaslab *m = space_find(&s->space, s->head[i].metaslab);
		if (!m)
			continue;
		space_set_state(&s->space, m, METASLAB_CLOSED);
		m->held = true; /* the old root still looks for records there */
		s->head[i].metaslab = NO_METASLAB;
	}
	if (few)
		s->heads = c->heads = 1;
	if (few || s->heads > 1 || s->space.empty < room_kept(s) + LOG_HEADS)
		return;
	c->heads = LOG_HEADS;
	for (unsigned i = 1; i < LOG_HEADS; i++) {
		if (s->head[i].metaslab == NO_METASLAB)
			s->head[i] = (struct head){.metaslab = space_take(&s->space)->index};
	}
}

/*
 * Where space is short, a checkpoint writes every page: then no page is left in any metaslab but those it writes now, and all
 * others that held pages come free. So it gives back what it takes, which one of only a few pages does not.
 */
static int mark_all_pages(struct store *s)
{
	int error = 0;
	for (unsigned tree = TREE_TABLE; tree <= TREE_VOLUME && !error; tree++) {
		uint64_t index = 0;
		bool found;
		while (!(error = tree_next_leaf(s, tree, &index, &found)) && found) {
			struct page *leaf;
			error = tree_page(s, tree, 0, index++, false, &leaf);
			if (error)
				break;
			if (leaf)
				page_mark(s, leaf);
		}
	}
	return error == -LCPFS_E_CORRUPT || error == -LCPFS_E_IO ? 0 : error; /* the others, then */
}

static int freeze(struct checkpoint *c)
{
	struct store *s = c->s;
	log_seal_open(s);
	choose_heads(c);
	struct fmt_root *root = &c->root;
	root->seq = le64_of(s->seq);
	root->chain = le64_of(s->chain);
	root->epoch = le64_of(s->epoch);
	for (unsigned i = 0; i < LOG_HEADS; i++)
		root->position[i] = (struct fmt_position){le32_of(s->head[i].metaslab), le32_of(s->head[i].offset)};
	root->volume_blocks = le64_of(s->volume_blocks);
	root->id_end = le64_of(s->id_end);
	root->data_blocks = le64_of(s->data_blocks);
	root->page_count = le64_of(s->page_count);
	c->log_blocks = s->log_blocks;
	freeze_counts(s);
	return collect_pages(c);
}

/* --- 2. pages --- */

static struct fmt_entry page_entry(const struct fmt_page *page)
{
	return fmt_entry_of(ENTRY_PAGE, (uint64_t)page->tree << 8 | page->level, le64_get(page->index),
			    fmt_checksum_of(page));
}

static void page_seal(struct checkpoint *c, struct fmt_page *page, unsigned tree, unsigned level, uint64_t index)
{
	page->generation = le64_of(c->s->generation + 1);
	page->tree = (uint8_t)tree;
	page->level = (uint8_t)level;
	page->index = le64_of(index);
	fmt_seal(page, FMT_PAGE, c->s->config.guid, c->s->config.partition, 0);
}

/* What both copies of a group of pages went to. */
struct group {
	unsigned count;
	struct fmt_page *page[RECORD_ENTRIES];
	struct fmt_pointer at[RECORD_ENTRIES];
	uint64_t last_seq;
};

/* Appends every page of the group once, in as many records as it takes. With the lock. */
static int append_copy(struct store *s, struct group *g, unsigned copy)
{
	struct record *record = NULL;
	for (unsigned i = 0; i < g->count; i++) {
		if (!record) {
			int error = log_begin(s, HEAD_META, g->count - i, 0, &record);
			if (error)
				return error;
		}
		uint64_t block = log_append(record, page_entry(g->page[i]), g->page[i]);
		g->at[i].place[copy] = le64_of(block);
		g->at[i].checksum = le64_of(fmt_checksum_of(g->page[i]));
		s->counters.page_blocks++;
		if (record->blocks == record->blocks_max || i + 1 == g->count) {
			g->last_seq = log_seal(s, record);
			record = NULL;
		}
	}
	return 0;
}

/*
 * With the lock, which is dropped. Waits for all records up to the group's last: they are its own or earlier ones.
 */
static int write_group(struct store *s, struct group *g)
{
	uint64_t first = s->seq + 1;
	int error = append_copy(s, g, 0);
	if (!error)
		error = append_copy(s, g, 1);
	for (uint64_t seq = first; seq <= s->seq && seq <= g->last_seq && !error; seq++)
		error = log_wait(s, seq);
	log_drain(s);
	return error;
}

static int page_written(struct store *s, struct page *p, const struct fmt_pointer *at)
{
	int error = pointer_null(at) ? 0 : take_place(s, at, true);
	free_later(s, &p->at);
	s->unwritten += (uint64_t)pointer_null(at) - pointer_null(&p->at);
	p->at = *at;
	*tree_pointer(s, p) = *at;
	p->freezing = false;
	free(p->frozen);
	p->frozen = NULL;
	return error;
}

/* A page that has become all zero is not written: nothing points at it any more. */
static int page_vanish(struct checkpoint *c, struct page *p)
{
	static const struct fmt_pointer nowhere;
	c->root.page_count = le64_of(le64_get(c->root.page_count) - 1);
	int error = page_written(c->s, p, &nowhere);
	if (p->path_epoch != c->s->freezes + 1) {
		p->counted = false;
		c->s->page_count--;
		c->s->unwritten--;
	}
	return error;
}

/* From list[*next] on: one group of pages of one level. */
static int write_some_pages(struct checkpoint *c, size_t *next, struct group *g, struct fmt_page *buffer)
{
	struct store *s = c->s;
	struct page *pages[RECORD_ENTRIES];
	unsigned level = c->list[*next]->level;
	int error = 0;
	g->count = 0;
	store_lock(s);
	for (; *next < c->count && c->list[*next]->level == level && g->count < RECORD_ENTRIES && !error; ++*next) {
		struct page *p = c->list[*next];
		const struct fmt_page *data = p->frozen ? p->frozen : &p->data;
		if (page_empty(data)) {
			error = page_vanish(c, p);
			continue;
		}
		buffer[g->count] = *data;
		page_seal(c, &buffer[g->count], p->tree, level, p->index);
		g->page[g->count] = &buffer[g->count];
		pages[g->count++] = p;
	}
	if (!error && g->count)
		error = write_group(s, g);
	for (unsigned i = 0; i < g->count && !error; i++)
		error = page_written(s, pages[i], &g->at[i]);
	store_unlock(s);
	return error;
}

static int write_pages(struct checkpoint *c)
{
	struct group *g = malloc(sizeof(*g));
	struct fmt_page *buffer = malloc(RECORD_ENTRIES * sizeof(*buffer));
	int error = g && buffer ? 0 : -LCPFS_E_NOMEM;
	for (size_t next = 0; next < c->count && !error;)
		error = write_some_pages(c, &next, g, buffer);
	free(g);
	free(buffer);
	return error;
}

/* --- 3. the space tree --- */

static int note_space_page(struct checkpoint *c, const struct fmt_pointer *at)
{
	if (c->space_page_count == c->space_page_room) {
		size_t room = 2 * c->space_page_room + 16;
		struct fmt_pointer *list = realloc(c->space_pages, room * sizeof(*list));
		if (!list)
			return -LCPFS_E_NOMEM;
		c->space_pages = list;
		c->space_page_room = room;
	}
	int error = take_place(c->s, at, false);
	if (!error)
		c->space_pages[c->space_page_count++] = *at;
	return error;
}

/* One level: `count` slots of 24 bytes become pages, and those pages' pointers the slots of the next level. */
static int write_space_level(struct checkpoint *c, unsigned level, struct fmt_pointer *slots, size_t *count)
{
	size_t pages = DIV_UP(*count, PAGE_SLOTS);
	struct fmt_page *buffer = calloc(RECORD_ENTRIES, sizeof(*buffer));
	struct group *g = calloc(1, sizeof(*g));
	int error = buffer && g ? 0 : -LCPFS_E_NOMEM;
	for (size_t first = 0; first < pages && !error; first += RECORD_ENTRIES) {
		g->count = (unsigned)MIN_OF(pages - first, (size_t)RECORD_ENTRIES);
		for (unsigned i = 0; i < g->count; i++) {
			size_t slot = (first + i) * PAGE_SLOTS;
			memset(&buffer[i], 0, sizeof(buffer[i]));
			memcpy(buffer[i].bytes, &slots[slot], MIN_OF(*count - slot, (size_t)PAGE_SLOTS) * sizeof(*slots));
			page_seal(c, &buffer[i], TREE_SPACE, level, first + i);
			g->page[i] = &buffer[i];
		}
		store_lock(c->s);
		error = write_group(c->s, g);
		for (unsigned i = 0; i < g->count && !error; i++) {
			error = note_space_page(c, &g->at[i]);
			slots[first + i] = g->at[i]; /* behind what was used of them */
		}
		store_unlock(c->s);
	}
	free(buffer);
	free(g);
	*count = pages;
	return error;
}

/* The metaslabs that are not empty in the frozen state, as slots. */
static size_t space_slots(struct store *s, struct fmt_pointer *slots)
{
	size_t count = 0;
	for (uint32_t i = 0; i < s->space.count; i++) {
		const struct metaslab *m = &s->space.slab[i];
		struct fmt_space e = {le32_of(m->index), le32_of(m->frozen_live), le64_of(m->age), le64_of(0)};
		if (m->frozen_live)
			memcpy(&slots[count++], &e, sizeof(e));
	}
	return count;
}

static int write_space(struct checkpoint *c)
{
	struct store *s = c->s;
	store_lock(s);
	struct fmt_pointer *slots = calloc(s->space.count + 1, sizeof(*slots));
	size_t count = slots ? space_slots(s, slots) : 0;
	store_unlock(s);
	int error = slots ? 0 : -LCPFS_E_NOMEM;
	unsigned levels = 0;
	for (bool more = count > 0; more && !error; more = count > 1)
		error = write_space_level(c, levels++, slots, &count);
	if (!error && levels) {
		c->root.space.top = slots[0];
		c->root.space.levels = le32_of(levels);
	}
	free(slots);
	return error;
}

/* --- 4. root --- */

static void fill_counters(const struct store *s, struct fmt_root *root)
{
	const uint64_t *counters = (const uint64_t *)&s->counters;
	static_assert(sizeof(s->counters) == sizeof(root->counter), "counters fill the root's array");
	for (unsigned i = 0; i < ARRAY_LENGTH(root->counter); i++)
		root->counter[i] = le64_of(counters[i]);
}

int root_write(struct store *s, struct fmt_root *root, unsigned slot)
{
	fmt_seal(root, FMT_ROOT, s->config.guid, s->config.partition, 0);
	struct vdev_io io[2];
	for (unsigned copy = 0; copy < 2; copy++)
		io[copy] = (struct vdev_io){.op = VDEV_WRITE, .offset = s->config.root_block[slot][copy] << BLOCK_SHIFT,
					    .buffer = root, .length = BLOCK_SIZE};
	return vdev_submit(s->config.vdev, io, 2);
}

static void fill_tree_root(struct store *s, struct fmt_tree_root *root, unsigned tree)
{
	root->top = tree_of(s, tree)->at;
	root->levels = le32_of(tree_of(s, tree)->levels);
}

static int publish(struct checkpoint *c)
{
	struct store *s = c->s;
	store_lock(s);
	int error = log_flush(s);
	c->root.durable = le64_of(s->durable);
	fill_tree_root(s, &c->root.table, TREE_TABLE);
	fill_tree_root(s, &c->root.volume, TREE_VOLUME);
	c->root.generation = le64_of(s->generation + 1);
	s->counters.device_blocks += 2;
	s->counters.checkpoints++;
	fill_counters(s, &c->root);
	unsigned failures = atomic_load(&s->config.vdev->flush_failures);
	store_unlock(s);
	if (!error)
		error = root_write(s, &c->root, 1 - s->root_slot);
	store_lock(s);
	while (!error && s->flushing) {
		s->drops++;
		pthread_cond_wait(&s->changed, &s->lock);
	}
	if (!error && s->faulted)
		error = -LCPFS_E_FAULTED;
	if (!error)
		error = log_flush_device(s, s->durable);
	if (!error && atomic_load(&s->config.vdev->flush_failures) != failures) {
		s->faulted = true;
		error = -LCPFS_E_FAULTED;
	}
	store_unlock(s);
	return error;
}

/* --- 5. afterwards --- */

static int settle(struct checkpoint *c)
{
	struct store *s = c->s;
	int error = 0;
	s->root_slot = 1 - s->root_slot;
	s->root_seq = le64_get(c->root.seq);
	s->log_blocks -= c->log_blocks;
	s->heads = c->heads;
	for (size_t i = 0; i < s->freed_count && !error; i++)
		error = space_live_sub(&s->space, s->freed[i]);
	s->freed_count = 0;
	for (size_t i = 0; i < s->space_page_count && !error; i++)
		error = drop_place(s, &s->space_pages[i]);
	free(s->space_pages);
	s->space_pages = c->space_pages;
	s->space_page_count = c->space_page_count;
	c->space_pages = NULL;
	for (uint32_t i = 0; i < s->space.count; i++)
		s->space.slab[i].held = s->space.slab[i].waiting = false;
	room_reclaim(s);
	return error;
}

/* Undoes a freeze whose root did not get durable. */
static void abandon(struct checkpoint *c)
{
	struct store *s = c->s;
	for (size_t i = 0; i < c->count; i++) {
		struct page *p = c->list[i];
		if (!p->freezing)
			continue;
		p->freezing = false;
		free(p->frozen);
		p->frozen = NULL;
		page_mark(s, p);
	}
	for (size_t i = 0; i < c->space_page_count; i++)
		(void)!drop_place(s, &c->space_pages[i]);
	free(c->space_pages);
}

int checkpoint_write(struct store *s)
{
	struct checkpoint *c = calloc(1, sizeof(*c));
	if (!c)
		return -LCPFS_E_NOMEM;
	c->s = s;
	store_lock(s);
	int error = s->faulted ? -LCPFS_E_FAULTED : 0;
	while (!error && s->space.empty < room_for_all_pages(s) && room_back(s) == 0)
		;
	if (!error && s->space.empty < room_for_all_pages(s))
		error = log_flush(s); /* what the last one gave back may wait for just that */
	if (!error && room_needs_full_checkpoint(s))
		error = mark_all_pages(s);
	if (!error)
		error = freeze(c);
	store_unlock(s);
	if (!error)
		error = write_pages(c);
	if (!error)
		error = write_space(c);
	if (!error)
		error = publish(c);
	store_lock(s);
	s->generation++; /* of a failed attempt too: its root may have arrived */
	s->closure_frozen = 0;
	if (error)
		abandon(c);
	else
		error = settle(c);
	if (!error)
		s->quiet_seq = s->seq;
	pthread_cond_broadcast(&s->changed);
	store_unlock(s);
	free(c->list);
	free(c);
	return error;
}

bool checkpoint_due(const struct store *s)
{
	bool full = atomic_load(&s->config.vdev->is_full);
	uint64_t size = (uint64_t)(full ? space_backed(&s->space) : s->space.count) * s->config.metaslab_blocks;
	uint64_t log_max = MIN_OF(size / LOG_SHARE_OF_SIZE, (uint64_t)LOG_LENGTH_MAX_BLOCKS);
	uint64_t dirty_max = s->pages_max / DIRTY_SHARE_OF_CACHE;
	return !s->faulted && s->closure && (s->log_blocks > log_max || s->closure > dirty_max);
}
