/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Cleaning: what is live in a metaslab is appended again elsewhere, so that the metaslab is empty.
 *
 * Who lives there is told by the record headers in the metaslab itself and verified against the block table: a
 * block is live if the table says that its id lies right here. If a header is damaged, the live count does not
 * come out, and the whole table is searched instead.
 *
 * A block is read without the lock and moved under it only if the table still says the same. One that fails its
 * checksum is carried along as LOST, with its old checksum: reads go on failing, and the space comes free. One
 * that the device does not give back at all stays where it is, since it may do so later; its metaslab is then left
 * alone (barren).
 *
 * Survivors are appended in the order of their ids, which is that in which addresses were first written: so a
 * volume that was overwritten at random gets its order back where it is cleaned.
 */
#include "store/clean.h"

#include <stdlib.h>
#include <string.h>

#include "store/attempt.h"
#include "store/log.h"
#include "store/place.h"
#include "store/record.h"
#include "store/room.h"
#include "store/table.h"

enum { BATCH = RECORD_BLOCKS_MAX }; /* blocks read, and moved, at a time */

struct candidate {
	uint64_t id, block;
	struct fmt_check check;
};

struct cleaning {
	struct store *s;
	uint32_t metaslab;
	uint64_t first, end; /* its blocks */
	struct candidate *list;
	uint32_t count;
	bool unread;  /* some could not be read */
	bool returns; /* what is left fits into one metaslab */
};

static bool is_inside(const struct cleaning *c, uint64_t block)
{
	return block >= c->first && block < c->end;
}

/* -- finding what is live -- */

static void add(struct cleaning *c, uint64_t id, uint64_t block, const struct fmt_block *e)
{
	if (c->count < c->s->config.metaslab_blocks)
		c->list[c->count++] = (struct candidate){id, block, e->check};
}

struct look {
	struct cleaning *c;
	uint64_t id, block;
};

static int look_at_id(struct store *s, void *context, struct need *need)
{
	struct look *look = context;
	struct page *leaf;
	int error = table_leaf(s, look->id, need, &leaf);
	if (error || !leaf)
		return error;
	const struct fmt_block *e = table_entry(leaf, look->id);
	if (!entry_free(e) && table_block(s, e) == look->block)
		add(look->c, look->id, look->block, e);
	return 0;
}

static int look_at_record(struct cleaning *c, const struct fmt_record *header, uint64_t block)
{
	struct entry e;
	for (unsigned at = 0; fmt_entry_next(header, &at, &e);) {
		for (unsigned i = 0; i < e.blocks; i++, block++) {
			struct look look = {c, e.id + i, block};
			/* A header of an earlier life may name ids that never were. */
			int error = look.id < c->s->ids.end ? attempt(c->s, look_at_id, &look) : 0;
			if (error)
				return error;
		}
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
		error = look_at_record(c, header, walk.block + RECORD_HEADERS);
		store_unlock(c->s);
	}
	free(header);
	return error;
}

/* The slow way, for a metaslab whose headers are damaged. */
static int look_by_table(struct cleaning *c)
{
	struct store *s = c->s;
	int error = 0;
	bool found = true;
	c->count = 0;
	store_lock(s);
	for (uint64_t index = 0; found && !error; index++) {
		struct page *leaf = NULL;
		error = table_next(s, 0, &index, &found);
		if (!error && found)
			error = table_page(s, 0, index, &leaf);
		for (unsigned i = 0; leaf && i < TABLE_SLOTS; i++) {
			const struct fmt_block *e = &page_table(leaf)->block[i];
			uint64_t block = entry_free(e) ? 0 : table_block(s, e);
			if (block && is_inside(c, block))
				add(c, index * TABLE_SLOTS + i, block, e);
		}
		if (leaf)
			page_unpin(&s->cache, leaf);
	}
	store_unlock(s);
	return error;
}

static uint32_t live_blocks(struct cleaning *c)
{
	store_lock(c->s);
	uint32_t live = space_find(&c->s->space, c->metaslab)->live / BLOCK_SECTORS;
	store_unlock(c->s);
	return live;
}

/* -- moving it -- */

static int by_id(const void *a, const void *b)
{
	const struct candidate *x = a, *y = b;
	return (x->id > y->id) - (x->id < y->id);
}

/* Pages with the bytes of candidates. None of them lies in a record that is not written: see space_victim(). */
struct batch {
	struct cleaning *c;
	struct candidate *list;
	unsigned count;
	struct page *page[BATCH];
	bool lost[BATCH], unread[BATCH];
	unsigned next; /* to be moved */
};

static int take_pages(struct batch *b)
{
	struct store *s = b->c->s;
	int error = 0;
	store_lock(s);
	for (unsigned i = 0; i < b->count && !error; i++) {
		b->page[i] = cache_take(&s->cache);
		error = b->page[i] ? 0 : -LCPFS_E_NOMEM;
	}
	store_unlock(s);
	return error;
}

/* Neighbours on the device and in memory in one go; one by one where that failed. */
static void read_pages(struct batch *b)
{
	struct vdev_io io[BATCH];
	struct vdev *vdev = b->c->s->config.vdev;
	unsigned ios = 0;
	for (unsigned i = 0; i < b->count; i++) {
		if (i && b->list[i].block == b->list[i - 1].block + 1 &&
		    b->page[i]->data == b->page[i - 1]->data + BLOCK_SIZE)
			io[ios - 1].length += BLOCK_SIZE;
		else
			io[ios++] = (struct vdev_io){.op = VDEV_READ,
						     .offset = b->list[i].block << BLOCK_SHIFT,
						     .buffer = b->page[i]->data,
						     .length = BLOCK_SIZE};
	}
	bool failed = vdev_submit(vdev, io, ios);
	for (unsigned i = 0; i < b->count; i++) {
		b->unread[i] =
			failed && vdev_read(vdev, b->list[i].block << BLOCK_SHIFT, b->page[i]->data, BLOCK_SIZE);
		b->lost[i] = !b->unread[i] && !fmt_check_fits(&b->list[i].check, b->page[i]->data);
	}
}

/* It may have been overwritten meanwhile: then the table says something else. */
static bool still_there(struct store *s, const struct candidate *c, const struct fmt_block *e)
{
	return !entry_free(e) && table_block(s, e) == c->block && fmt_check_same(&e->check, &c->check);
}

/* One candidate, if it is still there. Its record stays open: the survivors of several metaslabs fill it. */
static int move_one(struct store *s, void *context, struct need *need)
{
	struct batch *b = context;
	struct candidate *c = &b->list[b->next];
	struct record *record;
	struct page *leaf;
	int error = table_leaf(s, c->id, need, &leaf);
	if (error || !leaf || !still_there(s, c, table_entry(leaf, c->id)))
		return error;
	uint32_t kept = room_kept(s, USER_CLEAN);
	kept = b->c->returns ? MIN_OF(kept - 1, 1u) : kept;
	error = log_open(s, HEAD_MOVED, 1, fmt_entry_words(ENTRY_MOVE, 1), kept, need, &record);
	if (!error)
		error = table_modify(s, leaf);
	if (error)
		return error;
	log_order(s, record, c->block, TELLS_PLACE);
	struct entry e = {
		.kind = b->lost[b->next] ? ENTRY_LOST : ENTRY_MOVE, .count = 1, .blocks = 1, .id = c->id};
	uint64_t block = log_append(record, b->page[b->next]);
	log_tell(record, &e, NULL);
	s->counters.copied_blocks++;
	return table_place(s, table_entry(leaf, c->id), block);
}

static int move_batch(struct batch *b)
{
	struct store *s = b->c->s;
	int error = take_pages(b);
	if (!error)
		read_pages(b);
	store_lock(s);
	for (; !error && b->next < b->count; b->next += !error)
		error = b->unread[b->next] ? 0 : attempt(s, move_one, b);
	log_drain(s);
	for (unsigned i = 0; i < b->count && b->page[i]; i++) {
		s->counters.errors += b->unread[i];
		b->c->unread |= b->unread[i];
		page_unpin(&s->cache, b->page[i]);
	}
	store_unlock(s);
	return error;
}

/*
 * Then as much comes back when the moving is flushed, and it may be one of those kept for a checkpoint: else, with
 * nothing more EMPTY and a full head, as a crash amid cleaning may leave it, cleaning would be at its end. And
 * where less is EMPTY than a step needs, cleaning is what makes it more. A crash can only keep one from coming
 * back, that of the metaslab that was being cleaned; so the last one stays.
 */
static bool fits_one(const struct cleaning *c, uint32_t left)
{
	uint32_t records = (uint32_t)DIV_UP(left, (uint32_t)RECORD_BLOCKS_MAX) + 1;
	return !c->unread && left + records * RECORD_HEADERS <= c->s->config.metaslab_blocks;
}

static int move_all(struct cleaning *c)
{
	qsort(c->list, c->count, sizeof(*c->list), by_id);
	struct batch *b = malloc(sizeof(*b));
	int error = b ? 0 : -LCPFS_E_NOMEM;
	for (uint32_t done = 0; done < c->count && !error; done += BATCH) {
		c->returns = fits_one(c, c->count - done);
		*b = (struct batch){
			.c = c, .list = c->list + done, .count = MIN_OF(c->count - done, (uint32_t)BATCH)};
		error = move_batch(b);
	}
	free(b);
	return error;
}

int clean_metaslab(struct store *s, uint32_t metaslab)
{
	struct cleaning c = {.s = s, .metaslab = metaslab, .first = metaslab_block(s, metaslab)};
	c.end = c.first + s->config.metaslab_blocks;
	c.list = calloc(s->config.metaslab_blocks, sizeof(*c.list));
	int error = c.list ? look_by_headers(&c) : -LCPFS_E_NOMEM;
	if (!error && c.count < live_blocks(&c))
		error = look_by_table(&c);
	if (!error)
		error = move_all(&c);
	store_lock(s);
	if (c.unread)
		space_barren(&s->space, metaslab, true);
	s->counters.cleaned += error == 0;
	store_unlock(s);
	free(c.list);
	return error;
}
