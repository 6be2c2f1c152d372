/* SPDX-License-Identifier: Apache-2.0 */
#include "store/map.h"

#include "store/ids.h"
#include "store/log.h"
#include "store/place.h"
#include "store/room.h"
#include "store/table.h"
#include "store/tree.h"

enum {
	TRIM_LEAVES_MAX = 8
}; /* of the table, that one step of a trim changes: as many pages must be at hand at once */

/* -- looking up -- */

static int slot_id(const struct page *leaf, uint64_t address, uint64_t *id)
{
	*id = leaf ? tree_slot(leaf, address) : 0;
	return *id & ~FMT_ID_MASK ? -LCPFS_E_CORRUPT : 0;
}

static int map_id(struct store *s, uint32_t volume, uint64_t address, struct need *need, uint64_t *id)
{
	struct page *leaf;
	int error = tree_leaf(s, volume, address, need, &leaf);
	return error ? error : slot_id(leaf, address, id);
}

static int entry_of(struct store *s, uint64_t id, struct need *need, struct page **leaf, struct mapping *mapping)
{
	int error = table_leaf(s, id, need, leaf);
	if (error || !*leaf)
		return error ? error : -LCPFS_E_CORRUPT;
	const struct fmt_block *e = table_entry(*leaf, id);
	mapping->id = id;
	mapping->block = table_block(s, e);
	mapping->check = e->check;
	return e->kind == BLOCK_DATA && mapping->block != UINT64_MAX ? 0 : -LCPFS_E_CORRUPT;
}

int map_lookup(struct store *s, uint32_t volume, uint64_t address, struct need *need, struct mapping *mapping)
{
	struct page *leaf;
	uint64_t id;
	*mapping = (struct mapping){0};
	int error = map_id(s, volume, address, need, &id);
	return error || !id ? error : entry_of(s, id, need, &leaf, mapping);
}

/* -- writing -- */

static enum log_head head_for(struct store *s, const struct map_write *w, const struct metaslab *old)
{
	/* What follows on what in one volume, and not in another at the same address. */
	uint64_t place = (uint64_t)(w->volume - VOLUME_HEAD) << 40 | w->address;
	enum space_class class =
		space_place(&s->space, place, old ? old->index : SPACE_NONE, s->counters.written_blocks);
	return class == CLASS_HOT ? HEAD_HOT : HEAD_COLD;
}

/* Nothing but contradictions can fail from here on: what is in a record has happened. */
static int put(struct store *s, struct map_write *w, struct record *record, const struct entry *entry,
	       struct page *leaf, uint64_t old_block)
{
	log_order(s, record, old_block, entry->kind == ENTRY_WRITE ? TELLS_ADDRESS : TELLS_PLACE);
	uint64_t block = log_append(record, w->page);
	log_tell(record, entry, &w->check);
	int error = table_store(s, table_entry(leaf, entry->id), BLOCK_DATA, block, &w->check);
	return error ? store_contradiction(s) : 0;
}

/* It stays where it is for snapshots; the address gets a new one. */
static bool is_shared(const struct store *s, uint32_t volume, const struct page *leaf, uint64_t id)
{
	return tree_shares(s, volume, le32_get(table_entry(leaf, id)->birth));
}

static int write_new(struct store *s, struct map_write *w, uint64_t old_block, uint64_t replaced,
		     struct need *need);

static int overwrite(struct store *s, struct map_write *w, uint64_t id, struct need *need)
{
	struct mapping now;
	struct page *leaf;
	struct record *record;
	int error = entry_of(s, id, need, &leaf, &now);
	if (error)
		return error;
	w->differs = w->expected && !mapping_same(&now, w->expected);
	if (w->differs)
		return 0;
	if (is_shared(s, w->volume, leaf, id))
		return write_new(s, w, now.block, 0, need);
	if (tree_knows(s, w->volume, le32_get(table_entry(leaf, id)->birth)))
		return write_new(s, w, now.block, id, need);
	enum log_head head = head_for(s, w, metaslab_of(s, now.block));
	struct entry entry = {.kind = ENTRY_OVERWRITE, .count = 1, .blocks = 1, .id = id};
	error = log_open(s, head, 1, fmt_entry_words(ENTRY_OVERWRITE, 1), room_kept_by_writers(s), need,
			 &record);
	if (!error)
		error = table_modify(s, leaf);
	return error ? error : put(s, w, record, &entry, leaf, now.block);
}

/*
 * Under a new id. `old_block`: where the address's block lies, or 0. `replaced`: the id that it had, if that is
 * nobody's any more: by the birth of the new one it is told that the address has changed.
 */
static int write_new(struct store *s, struct map_write *w, uint64_t old_block, uint64_t replaced,
		     struct need *need)
{
	struct page *leaf, *table, *old_table = NULL;
	struct record *record;
	unsigned own, words = fmt_entry_words(ENTRY_WRITE, 1) + (replaced ? fmt_entry_words(ENTRY_FREE, 0) : 0);
	struct entry entry = {
		.kind = ENTRY_WRITE, .count = 1, .blocks = 1, .volume = w->volume, .address = w->address};
	if (s->trees.held) {
		need->kind = NEED_HELD;
		return TRY_AGAIN;
	}
	int error = tree_leaf(s, w->volume, w->address, need, &leaf);
	if (!error)
		error = tree_own_cost(s, w->volume, w->address, need, &own);
	if (error)
		return error;
	unsigned wants = own + (replaced ? 0 : leaf ? 1 : 3); /* a page of the tree lies there twice */
	if (wants && !room_fits(s, wants)) {
		w->wants = wants;
		return -LCPFS_E_NOSPC;
	}
	error = tree_leaf_made(s, w->volume, w->address, need, &leaf);
	if (!error && replaced)
		error = table_leaf(s, replaced, need, &old_table);
	if (!error)
		error = log_open(s, head_for(s, w, old_block ? metaslab_of(s, old_block) : NULL), 1, words,
				 room_kept_by_writers(s), need, &record);
	if (!error)
		error = ids_take(s, false, need, &entry.id, &table);
	if (error)
		return error;
	error = table_modify(s, table);
	if (!error && replaced)
		error = table_modify(s, old_table);
	if (error) {
		ids_freed(s, entry.id, 1);
		return error;
	}
	if (replaced)
		log_order(s, record, old_block, TELLS_MORE);
	tree_own(s, w->volume, w->address);
	tree_modify(s, leaf);
	tree_set_slot(leaf, w->address, entry.id);
	error = put(s, w, record, &entry, table, old_block);
	if (!replaced)
		return error;
	if (!error && table_free(s, table_entry(old_table, replaced)))
		error = store_contradiction(s);
	log_tell(record, &(struct entry){.kind = ENTRY_FREE, .count = 1, .id = replaced}, NULL);
	ids_freed(s, replaced, 1);
	return error;
}

int map_write(struct store *s, void *context, struct need *need)
{
	struct map_write *w = context;
	uint64_t id;
	w->wants = 0;
	int error = map_id(s, w->volume, w->address, need, &id);
	if (error)
		return error;
	if (id)
		return overwrite(s, w, id, need);
	w->differs = w->expected && w->expected->id;
	return w->differs ? 0 : write_new(s, w, 0, 0, need);
}

/* -- trimming -- */

/* The first address at or behind `from` that this leaf maps, or the leaf's end. */
static uint64_t first_mapped(const struct page *leaf, uint64_t from, uint64_t end)
{
	while (from < end && tree_slot(leaf, from) == 0)
		from++;
	return from;
}

/* Where this step has to end: all leaves of the table up to there are in memory, and can be changed. */
static int reach(struct store *s, const struct page *leaf, uint64_t from, unsigned words, struct need *need,
		 uint64_t *end)
{
	unsigned leaves = 0;
	uint64_t last = UINT64_MAX, id;
	for (uint64_t a = from; a < *end; a++) {
		struct page *table;
		int error = slot_id(leaf, a, &id);
		if (error)
			return error;
		if (!id)
			continue;
		leaves += id / TABLE_SLOTS != last;
		last = id / TABLE_SLOTS;
		if (leaves > TRIM_LEAVES_MAX || words-- == 0) {
			*end = a;
			return 0;
		}
		error = table_leaf(s, id, need, &table);
		if (!error && (!table || table_entry(table, id)->kind != BLOCK_DATA))
			error = -LCPFS_E_CORRUPT;
		if (!error)
			error = table_modify(s, table);
		if (error)
			return error;
	}
	return 0;
}

static int unmap(struct store *s, uint32_t volume, struct page *leaf, uint64_t address, struct record *record)
{
	uint64_t id = tree_slot(leaf, address);
	struct page_key in = table_key(0, id / TABLE_SLOTS);
	struct page *table = cache_find(&s->cache, &in);
	CHECK(table && table->state == PAGE_READY);
	tree_set_slot(leaf, address, 0);
	if (is_shared(s, volume, table, id))
		return 0;
	if (table_free(s, table_entry(table, id)))
		return store_contradiction(s);
	log_tell(record, &(struct entry){.kind = ENTRY_FREE, .count = 1, .id = id}, NULL);
	ids_freed(s, id, 1);
	return 0;
}

static void skip(struct map_trim *t, uint64_t to)
{
	uint64_t end = t->address + t->count;
	t->address = MIN_OF(to, end);
	t->count = end - t->address;
}

static int trim_leaf(struct store *s, struct map_trim *t, struct page *leaf, struct need *need)
{
	uint64_t first = t->address,
		 end = MIN_OF(t->address + t->count, (t->address / VOLUME_SLOTS + 1) * VOLUME_SLOTS);
	struct record *record;
	unsigned own;
	first = first_mapped(leaf, first, end);
	if (first == end) {
		skip(t, end);
		return 0;
	}
	/* A word for each block, if no two ids lie side by side. */
	unsigned words = (unsigned)MIN_OF(end - first, (uint64_t)RECORD_WORDS - fmt_entry_words(ENTRY_TRIM, 0));
	int error = tree_own_cost(s, t->volume, first, need, &own);
	if (!error && own && !room_fits(s, own)) {
		t->wants = own;
		return -LCPFS_E_NOSPC;
	}
	if (!error)
		error = reach(s, leaf, first, words, need, &end);
	if (!error)
		error = log_open(s, HEAD_HOT, 0, words + fmt_entry_words(ENTRY_TRIM, 0), t->kept, need, &record);
	if (error)
		return error;
	log_order(s, record, 0, TELLS_MORE);
	tree_own(s, t->volume, first);
	tree_modify(s, leaf);
	struct entry entry = {.kind = ENTRY_TRIM, .volume = t->volume, .address = first, .length = end - first};
	log_tell(record, &entry, NULL);
	for (uint64_t a = first; a < end && !error; a++) {
		if (tree_slot(leaf, a) == 0)
			continue;
		error = unmap(s, t->volume, leaf, a, record);
		t->trimmed += !error;
	}
	skip(t, end);
	return error;
}

int map_trim(struct store *s, void *context, struct need *need)
{
	struct map_trim *t = context;
	struct page *leaf;
	t->wants = 0;
	if (s->trees.held) {
		need->kind = NEED_HELD;
		return TRY_AGAIN;
	}
	int error = tree_leaf(s, t->volume, t->address, need, &leaf);
	if (error)
		return error;
	if (!leaf) {
		skip(t, (t->address / VOLUME_SLOTS + 1) * VOLUME_SLOTS);
		return 0;
	}
	return trim_leaf(s, t, leaf, need);
}
