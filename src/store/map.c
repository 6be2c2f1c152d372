/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What an address and a block id mean: the volume tree says which id an address refers to, the block
 * table where the id lies. Keeps the live counts of metaslabs in step with the table.
 *
 * Ids: an overwrite keeps its id, so the volume tree changes only when an address is first written or
 * trimmed. New ids come from the end; once an eighth of all ids is free, a cursor goes round and takes
 * those, so that the table stays within 8/7 of what it has to hold and finding one costs eight steps
 * on average. When none is in use they begin anew, so that an emptied volume holds as much as it did
 * at first.
 */
#include <string.h>

#include "store/internal.h"

enum {
	ID_SEARCH_LEAVES = 4,   /* looked through for a free id before taking one from the end */
	TRIM_LEAVES_MAX = 24,   /* table leaves that one step of a trim may need at a time: far below CACHE_PAGES_MIN */
};

static uint64_t entry_block(const struct fmt_block *e)
{
	return le64_get(e->place) / BLOCK_SECTORS;
}

/* Is this an entry that this version can read? */
static int entry_check(const struct fmt_block *e)
{
	if (e->compression || e->flags || le16_get(e->length) != BLOCK_SECTORS)
		return -LCPFS_E_VERSION;
	return le64_get(e->place) % BLOCK_SECTORS || le32_get(e->references) == 0 ? -LCPFS_E_CORRUPT : 0;
}

static bool entry_free(const struct fmt_block *e)
{
	return le32_get(e->references) == 0;
}

static uint64_t id_limit(const struct store *s)
{
	return s->tree[TREE_TABLE - 1].capacity * PAGE_SLOTS;
}

int map_entry(struct store *s, uint64_t id, struct page **leaf, struct fmt_block **entry)
{
	*entry = NULL;
	*leaf = NULL;
	if (id >= id_limit(s))
		return -LCPFS_E_CORRUPT;
	int error = tree_page(s, TREE_TABLE, 0, id / PAGE_SLOTS, false, leaf);
	if (!error && *leaf && !entry_free(&(*leaf)->data.block[id % PAGE_SLOTS]))
		*entry = &(*leaf)->data.block[id % PAGE_SLOTS];
	return error;
}

static int volume_slot(struct store *s, uint64_t address, bool create, struct page **leaf, uint64_t *slot)
{
	int error = tree_page(s, TREE_VOLUME, 0, address / VOLUME_SLOTS, create, leaf);
	if (!error)
		*slot = *leaf ? le64_get((*leaf)->data.id[address % VOLUME_SLOTS]) : 0;
	return error;
}

int map_lookup(struct store *s, uint64_t address, struct mapping *mapping)
{
	uint64_t drops;
	do {
		struct page *leaf;
		struct fmt_block *entry;
		drops = s->drops;
		int error = volume_slot(s, address, false, &leaf, &mapping->id);
		if (error || mapping->id == 0)
			return error;
		error = map_entry(s, mapping->id - 1, &leaf, &entry);
		if (error)
			return error;
		if (s->drops != drops)
			continue;
		if (!entry)
			return -LCPFS_E_CORRUPT;
		error = entry_check(entry);
		if (error)
			return error;
		mapping->block = entry_block(entry);
		mapping->checksum = le64_get(entry->checksum);
	} while (s->drops != drops);
	return 0;
}

/* The first free id in a leaf, from id on. */
static bool leaf_free_id(const struct page *leaf, uint64_t *id)
{
	for (uint64_t end = (*id / PAGE_SLOTS + 1) * PAGE_SLOTS; *id < end; ++*id) {
		if (entry_free(&leaf->data.block[*id % PAGE_SLOTS]))
			return true;
	}
	return false;
}

/* May drop the lock. */
static int pick_id(struct store *s, uint64_t *id)
{
	if (s->data_blocks == 0) /* the table is empty: as if it were new */
		s->id_end = s->id_cursor = 0;
	bool must = s->id_end >= id_limit(s);
	bool worth = s->id_end - s->data_blocks >= s->id_end / 8 + PAGE_SLOTS;
	uint64_t leaves = must ? s->tree[TREE_TABLE - 1].capacity : ID_SEARCH_LEAVES;
	for (uint64_t i = 0; (must || worth) && i < leaves; i++) {
		struct page *leaf;
		if (s->id_cursor >= s->id_end)
			s->id_cursor = 0;
		*id = s->id_cursor;
		int error = tree_page(s, TREE_TABLE, 0, *id / PAGE_SLOTS, true, &leaf);
		if (error)
			return error;
		bool found = leaf_free_id(leaf, id);
		s->id_cursor = *id;
		if (found && *id < s->id_end)
			return 0;
	}
	*id = s->id_end;
	return *id < id_limit(s) ? 0 : -LCPFS_E_NOSPC;
}

/* Loads and marks the table leaf of an id. May drop the lock. */
static int prepare_entry(struct store *s, uint64_t id)
{
	struct page *leaf;
	if (id >= id_limit(s))
		return -LCPFS_E_CORRUPT;
	int error = tree_page(s, TREE_TABLE, 0, id / PAGE_SLOTS, true, &leaf);
	return error ? error : page_modify(s, leaf);
}

static int prepare_once(struct store *s, uint64_t address, uint64_t asked, uint64_t *id, bool *fresh)
{
	struct page *leaf;
	uint64_t slot;
	int error = volume_slot(s, address, true, &leaf, &slot);
	if (error)
		return error;
	*fresh = slot == 0;
	*id = asked;
	if (*fresh && asked == ID_NONE) {
		error = pick_id(s, id);
	} else if (!*fresh) {
		error = prepare_entry(s, slot - 1);
		*id = asked == ID_NONE ? slot - 1 : asked;
	}
	if (!error && (*fresh || *id != slot - 1))
		error = prepare_entry(s, *id);
	return error;
}

int map_prepare(struct store *s, uint64_t address, uint64_t *id, bool *fresh)
{
	uint64_t drops, asked = *id;
	if (address >= s->volume_blocks)
		return -LCPFS_E_CORRUPT;
	struct page *leaf;
	do {
		drops = s->drops;
		int error = prepare_once(s, address, asked, id, fresh);
		if (error)
			return error;
		leaf = page_find(s, TREE_VOLUME, 0, address / VOLUME_SLOTS);
	} while (s->drops != drops || !leaf);
	return *fresh || le64_get(leaf->data.id[address % VOLUME_SLOTS]) != *id + 1 ? page_modify(s, leaf) : 0;
}

/* One reference less to an id whose leaf is marked. */
static int unreference(struct store *s, uint64_t id)
{
	struct page *leaf = page_find(s, TREE_TABLE, 0, id / PAGE_SLOTS);
	struct fmt_block *e = &leaf->data.block[id % PAGE_SLOTS];
	if (entry_free(e))
		return -LCPFS_E_CORRUPT;
	uint32_t references = le32_get(e->references) - 1;
	e->references = le32_of(references);
	if (references)
		return 0;
	int error = space_live_sub(&s->space, entry_block(e));
	memset(e, 0, sizeof(*e));
	s->data_blocks--;
	return error;
}

static int place_entry(struct store *s, struct fmt_block *e, uint64_t block, uint64_t checksum)
{
	int error = entry_free(e) ? 0 : space_live_sub(&s->space, entry_block(e));
	if (!error)
		error = space_live_add(&s->space, block);
	e->place = le64_of(block * BLOCK_SECTORS);
	e->checksum = le64_of(checksum);
	e->length = le16_of(BLOCK_SECTORS);
	return error;
}

int map_bind(struct store *s, uint64_t address, uint64_t id, uint64_t block, uint64_t checksum)
{
	le64 *slot = &page_find(s, TREE_VOLUME, 0, address / VOLUME_SLOTS)->data.id[address % VOLUME_SLOTS];
	struct page *leaf = page_find(s, TREE_TABLE, 0, id / PAGE_SLOTS);
	struct fmt_block *e = &leaf->data.block[id % PAGE_SLOTS];
	uint64_t old = le64_get(*slot);
	bool bound = old == id + 1;
	if (old && !bound) {
		int error = unreference(s, old - 1);
		if (error)
			return error;
	}
	if (bound == entry_free(e))
		return -LCPFS_E_CORRUPT; /* a free id that is referred to, or a new one that is in use */
	int error = place_entry(s, e, block, checksum);
	if (!bound) {
		e->references = le32_of(1);
		*slot = le64_of(id + 1);
		s->data_blocks++;
		s->id_end = MAX_OF(s->id_end, id + 1);
	}
	return error;
}

int map_move(struct store *s, struct page *leaf, struct fmt_block *entry, uint64_t block)
{
	int error = entry_check(entry);
	if (!error)
		error = page_modify(s, leaf);
	return error ? error : place_entry(s, entry, block, le64_get(entry->checksum));
}

/* Where the trim step that begins at `address` in this volume leaf has to end. May drop the lock. */
static int trim_reach(struct store *s, uint64_t address, uint64_t *end, bool *mapped)
{
	unsigned leaves = 0;
	uint64_t last = UINT64_MAX, drops = s->drops;
	for (uint64_t a = address; a < *end; a++) {
		struct page *leaf, *table;
		struct fmt_block *entry;
		uint64_t slot;
		int error = volume_slot(s, a, false, &leaf, &slot);
		if (error)
			return error;
		if (!slot)
			continue;
		*mapped = true;
		leaves += (slot - 1) / PAGE_SLOTS != last;
		last = (slot - 1) / PAGE_SLOTS;
		if (leaves > TRIM_LEAVES_MAX) {
			*end = a;
			return 0;
		}
		error = map_entry(s, slot - 1, &table, &entry);
		if (error || s->drops != drops)
			return error;
	}
	return 0;
}

int map_trim_prepare(struct store *s, uint64_t address, uint64_t *count, bool *mapped)
{
	uint64_t leaf = address / VOLUME_SLOTS, drops = s->drops;
	bool found;
	*mapped = false;
	int error = tree_next_leaf(s, TREE_VOLUME, &leaf, &found);
	if (error || s->drops != drops)
		return error;
	uint64_t end = address + *count;
	if (!found || leaf * VOLUME_SLOTS >= end)
		return 0;
	if (leaf * VOLUME_SLOTS > address) {
		*count = leaf * VOLUME_SLOTS - address;
		return 0;
	}
	end = MIN_OF(end, (leaf + 1) * VOLUME_SLOTS);
	error = trim_reach(s, address, &end, mapped);
	*count = end - address;
	return error;
}

int map_trim(struct store *s, uint64_t address, uint64_t count)
{
	for (uint64_t a = address; a < address + count; a++) {
		struct page *leaf = page_find(s, TREE_VOLUME, 0, a / VOLUME_SLOTS);
		uint64_t slot = leaf ? le64_get(leaf->data.id[a % VOLUME_SLOTS]) : 0;
		if (!slot)
			continue;
		struct page *table = page_find(s, TREE_TABLE, 0, (slot - 1) / PAGE_SLOTS);
		if (!table)
			return -LCPFS_E_CORRUPT;
		int error = page_modify(s, leaf);
		if (!error)
			error = page_modify(s, table);
		if (error)
			return error;
		leaf->data.id[a % VOLUME_SLOTS] = le64_of(0);
		error = unreference(s, slot - 1);
		if (error)
			return error;
	}
	return 0;
}
