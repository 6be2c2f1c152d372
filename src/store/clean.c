/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cleaning: what is live in a metaslab is appended again elsewhere, so that the metaslab is empty.
 *
 * Who lives there is told by the record headers in the metaslab itself and verified against the block table: a
 * block is live if the table says that its id lies right here. If a header is damaged, the live count does not
 * come out, and the whole table is searched instead. Tree pages are only marked: the next checkpoint writes them
 * elsewhere.
 *
 * A block is read without the lock and moved under it only if the table still says the same. One that fails its
 * checksum is carried along as LOST, with its old checksum: reads go on failing, and the space comes free. One that the
 * device does not give back at all stays where it is, since it may do so later; its metaslab is then left alone.
 */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "store/internal.h"

struct candidate {
	uint64_t id, block, checksum;
	bool unread;
};

struct cleaning {
	struct store *s;
	uint32_t metaslab;
	uint64_t first, end; /* its blocks */
	struct candidate *list;
	uint32_t count;
	uint32_t pages;      /* live page blocks met */
	bool unread;         /* some could not be read */
};

static bool inside(const struct cleaning *c, uint64_t block)
{
	return block >= c->first && block < c->end;
}

/* --- finding what is live --- */

static void add_candidate(struct cleaning *c, uint64_t id, const struct fmt_block *entry)
{
	if (c->count < c->s->config.metaslab_blocks)
		c->list[c->count++] = (struct candidate){id, le64_get(entry->place) / BLOCK_SECTORS,
							 le64_get(entry->checksum), false};
}

static int look_at_id(struct cleaning *c, uint64_t id, uint64_t block)
{
	struct page *leaf;
	struct fmt_block *entry;
	int error = map_entry(c->s, id, &leaf, &entry);
	if (!error && entry && le64_get(entry->place) == block * BLOCK_SECTORS)
		add_candidate(c, id, entry);
	return id >= c->s->id_end && error == -LCPFS_E_CORRUPT ? 0 : error; /* a stale header's id may be out of range */
}

/* Marks a page that lies in the metaslab. */
static int look_at_page(struct cleaning *c, unsigned tree, unsigned level, uint64_t index)
{
	struct page *p;
	if ((tree != TREE_TABLE && tree != TREE_VOLUME) || level >= tree_of(c->s, tree)->levels)
		return 0;
	int error = tree_page(c->s, tree, level, index, false, &p);
	if (error || !p)
		return error;
	unsigned here = inside(c, le64_get(p->at.place[0])) + inside(c, le64_get(p->at.place[1]));
	if (here && room_cache_full(c->s))
		return -LCPFS_E_NOSPC; /* a checkpoint is due first */
	if (here)
		page_mark(c->s, p);
	c->pages += here;
	return 0;
}

static int look_at_record(struct cleaning *c, const struct fmt_record *header, uint64_t block)
{
	unsigned at = 0, count = le32_get(header->head.count);
	for (unsigned i = 0; i < count; i++) {
		const struct fmt_entry *e = &header->entry[i];
		unsigned kind = fmt_entry_kind(e);
		int error = 0;
		if (kind == ENTRY_PAGE)
			error = look_at_page(c, fmt_entry_address(e) >> 8 & 0xff, fmt_entry_address(e) & 0xff, le64_get(e->id));
		else if (entry_has_block(kind))
			error = look_at_id(c, le64_get(e->id), block + RECORD_HEADERS + at);
		at += entry_has_block(kind);
		if (error)
			return error;
	}
	return 0;
}

static int look_by_headers(struct cleaning *c)
{
	struct record_walk walk = {.metaslab = c->metaslab};
	struct fmt_record *header = malloc(sizeof(*header));
	int error = header ? 0 : -LCPFS_E_NOMEM;
	while (!error && record_next(c->s, &walk, header)) {
		store_lock(c->s);
		error = look_at_record(c, header, walk.block);
		store_unlock(c->s);
	}
	free(header);
	return error;
}

static int look_at_leaf(struct cleaning *c, struct page *leaf)
{
	for (unsigned i = 0; i < PAGE_SLOTS; i++) {
		const struct fmt_block *e = &leaf->data.block[i];
		if (le32_get(e->references) && inside(c, le64_get(e->place) / BLOCK_SECTORS))
			add_candidate(c, leaf->index * PAGE_SLOTS + i, e);
	}
	return 0;
}

/* With the lock; it is dropped for each load. */
static int look_at_pages_above(struct cleaning *c, unsigned tree, uint64_t leaf)
{
	for (unsigned level = 0; level < tree_of(c->s, tree)->levels; level++, leaf /= PAGE_SLOTS) {
		int error = look_at_page(c, tree, level, leaf);
		if (error)
			return error;
	}
	return 0;
}

/* The slow way, for a metaslab whose headers are damaged. */
static int look_by_tables(struct cleaning *c)
{
	int error = 0;
	c->count = c->pages = 0;
	store_lock(c->s);
	for (unsigned tree = TREE_TABLE; tree <= TREE_VOLUME && !error; tree++) {
		uint64_t index = 0;
		bool found;
		while (!(error = tree_next_leaf(c->s, tree, &index, &found)) && found) {
			struct page *leaf;
			error = look_at_pages_above(c, tree, index);
			if (!error)
				error = tree_page(c->s, tree, 0, index, false, &leaf);
			if (error)
				break;
			if (leaf && tree == TREE_TABLE)
				look_at_leaf(c, leaf);
			index++;
		}
	}
	store_unlock(c->s);
	return error;
}

/* --- moving it --- */

static int by_block(const void *a, const void *b)
{
	uint64_t x = ((const struct candidate *)a)->block, y = ((const struct candidate *)b)->block;
	return (x > y) - (x < y);
}

static void read_batch(struct store *s, struct candidate *list, unsigned count, uint8_t *data)
{
	struct vdev_io io[RECORD_ENTRIES];
	unsigned ios = 0;
	for (unsigned i = 0; i < count; i++) {
		if (i && list[i].block == list[i - 1].block + 1) {
			io[ios - 1].length += BLOCK_SIZE;
			continue;
		}
		io[ios++] = (struct vdev_io){.op = VDEV_READ, .offset = list[i].block << BLOCK_SHIFT,
					     .buffer = data + (size_t)i * BLOCK_SIZE, .length = BLOCK_SIZE};
	}
	if (!vdev_submit(s->config.vdev, io, ios))
		return;
	for (unsigned i = 0; i < count; i++) {
		uint8_t *at = data + (size_t)i * BLOCK_SIZE;
		list[i].unread = vdev_read(s->config.vdev, list[i].block << BLOCK_SHIFT, at, BLOCK_SIZE) != 0;
	}
}

static void peek_batch(struct store *s, struct candidate *list, unsigned count, uint8_t *data)
{
	for (unsigned i = 0; i < count; i++) {
		const void *unwritten = log_peek(s, list[i].block);
		if (!unwritten)
			continue;
		memcpy(data + (size_t)i * BLOCK_SIZE, unwritten, BLOCK_SIZE);
		list[i].unread = false;
	}
}

/*
 * Leaves room for a checkpoint, whatever the moving makes that write; or all of that but one metaslab, if that one
 * comes back at once.
 */
static int begin_record(struct store *s, unsigned left, bool returns, struct record **record)
{
	uint32_t next = log_room(s, HEAD_CLEAN) < RECORD_HEADERS + 1, kept = room_for_all_pages(s) - returns;
	if (s->space.empty < kept + next || room_cache_full(s))
		return -LCPFS_E_NOSPC;
	return log_begin(s, HEAD_CLEAN, left, kept, record);
}

/*
 * One candidate, if the table still has it there. Sets *record aside (sealed) before the lock is dropped to load a
 * page.
 */
static int move_one(struct store *s, const struct candidate *c, const uint8_t *data, unsigned left,
		    bool returns, struct record **record)
{
	struct page *leaf = page_find(s, TREE_TABLE, 0, c->id / PAGE_SLOTS);
	struct fmt_block *entry;
	if (!leaf && *record) {
		log_seal(s, *record);
		*record = NULL;
	}
	int error = map_entry(s, c->id, &leaf, &entry);
	if (error || !entry || le64_get(entry->place) != c->block * BLOCK_SECTORS)
		return error;
	if (*record && (*record)->blocks == (*record)->blocks_max) {
		log_seal(s, *record);
		*record = NULL;
	}
	if (!*record)
		error = begin_record(s, left, returns, record);
	if (error)
		return error;
	bool lost = hash64(data, BLOCK_SIZE) != c->checksum;
	struct fmt_entry e = fmt_entry_of(lost ? ENTRY_LOST : ENTRY_MOVE, 0, c->id, c->checksum);
	error = page_modify(s, leaf);
	if (error)
		return error;
	s->counters.copied_blocks++;
	return map_move(s, leaf, entry, log_append(*record, e, data));
}

static int move_batch(struct store *s, struct candidate *list, unsigned count, bool returns, uint8_t *data,
		      unsigned *moved)
{
	struct record *record = NULL;
	int error = 0;
	store_lock(s);
	peek_batch(s, list, count, data);
	for (*moved = 0; *moved < count && !error; ++*moved) {
		if (list[*moved].unread)
			s->counters.errors++;
		else
			error = move_one(s, &list[*moved], data + (size_t)*moved * BLOCK_SIZE, count - *moved,
					 returns, &record);
	}
	*moved -= error != 0;
	if (record)
		log_seal(s, record);
	log_drain(s);
	store_unlock(s);
	return error;
}

/*
 * Does what is left fit into one more metaslab? Then as much comes back when the moving is flushed, and it may be
 * one of those kept for a checkpoint: else, with nothing more EMPTY and a full head, cleaning is at its end.
 */
static bool fits_one(const struct cleaning *c, uint32_t left)
{
	uint32_t records = (uint32_t)DIV_UP(left, (uint32_t)RECORD_ENTRIES) + 1;
	uint32_t room = c->s->config.metaslab_blocks - LINK_BLOCKS;
	return !c->pages && !c->unread && left + records * RECORD_HEADERS <= room;
}

static int move_all(struct cleaning *c)
{
	uint8_t *data = malloc((size_t)RECORD_ENTRIES * BLOCK_SIZE);
	int error = data ? 0 : -LCPFS_E_NOMEM;
	qsort(c->list, c->count, sizeof(*c->list), by_block);
	for (uint32_t done = 0; done < c->count && !error;) {
		unsigned moved, count = MIN_OF(c->count - done, (unsigned)RECORD_ENTRIES);
		read_batch(c->s, c->list + done, count, data);
		bool returns = fits_one(c, c->count - done);
		error = move_batch(c->s, c->list + done, count, returns, data, &moved);
		for (unsigned i = 0; i < moved; i++)
			c->unread |= c->list[done + i].unread;
		done += moved;
		if (error == -LCPFS_E_NOSPC && done > 0) { /* the next unit of work is a checkpoint */
			error = 0;
			break;
		}
	}
	free(data);
	return error;
}

/*
 * Blocks here that only a checkpoint can free: the space tree's, and old versions that the durable root refers to.
 */
static uint32_t held_by_root(const struct cleaning *c)
{
	uint32_t held = 0;
	for (size_t i = 0; i < c->s->space_page_count; i++)
		held += inside(c, le64_get(c->s->space_pages[i].place[0])) + inside(c, le64_get(c->s->space_pages[i].place[1]));
	for (size_t i = 0; i < c->s->freed_count; i++)
		held += inside(c, c->s->freed[i]);
	return held;
}

int clean_metaslab(struct store *s, uint32_t index)
{
	struct cleaning c = {.s = s, .metaslab = index, .first = space_first_block(&s->space, index)};
	c.end = c.first + s->config.metaslab_blocks;
	c.list = calloc(s->config.metaslab_blocks, sizeof(*c.list));
	int error = c.list ? look_by_headers(&c) : -LCPFS_E_NOMEM;
	store_lock(s);
	struct metaslab *m = space_find(&s->space, index);
	CHECK(m);
	c.pages += held_by_root(&c);
	bool complete = c.count + c.pages >= m->live;
	store_unlock(s);
	if (!error && !complete)
		error = look_by_tables(&c);
	if (!error)
		error = move_all(&c);
	store_lock(s);
	m = space_find(&s->space, index);
	m->waiting = !error && c.pages > 0;
	m->unread |= c.unread;
	s->counters.cleaned += error == 0;
	store_unlock(s);
	free(c.list);
	return error;
}
