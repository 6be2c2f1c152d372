/* SPDX-License-Identifier: Apache-2.0 */
/* What was destroyed, or left by a rollback, is freed in units. */
#include <stdlib.h>

#include "store/attempt.h"
#include "store/ids.h"
#include "store/log.h"
#include "store/room.h"
#include "store/snaplist.h"
#include "store/table.h"
#include "store/tree.h"

enum {
	FREE_LEAVES_MAX = 6, /* of the table, that one record of freeing changes */
	UNIT_PAGES = 64,     /* of a tree, that a unit looks at */
};

/* Does something that is LEFT still end where this one begins? */
static bool is_origin(const struct store *s, const struct snapshot *n)
{
	const struct snapshots *l = &s->trees.snapshots;
	for (unsigned i = 0; i < l->count; i++) {
		if (l->list[i]->volume.origin == n->number)
			return true;
	}
	return false;
}

static struct snapshot *next_dying(const struct store *s)
{
	const struct snapshots *l = &s->trees.snapshots;
	for (unsigned i = l->count; i-- > 0;) {
		struct snapshot *n = l->list[i];
		bool going = n->state == SNAPSHOT_DYING || n->state == SNAPSHOT_LEFT;
		if (going && !n->stuck && !is_origin(s, n))
			return n->users ? NULL : n;
	}
	return NULL;
}

static bool has_stale(const struct store *s)
{
	return s->trees.snapshots.stale && !s->trees.snapshots.is_stuck;
}

bool snap_pending(const struct store *s)
{
	return next_dying(s) || has_stale(s);
}

struct freeing {
	struct store *s;
	struct snapshot *n;
	uint32_t low;   /* what was born before is not its own */
	unsigned pages; /* left to look at */
	/* What is to be freed of one page. */
	uint64_t id[VOLUME_SLOTS];
	unsigned count, next;
};

/* Its own still? What is free, or was given out again, is not. */
static bool is_own(const struct freeing *f, const struct fmt_block *e, enum fmt_block_kind kind)
{
	return e->kind == kind && le32_get(e->birth) >= f->low && le32_get(e->birth) <= f->n->volume.birth;
}

/* As many of the ids as lie in a few leaves of the table. */
static int free_some(struct store *s, void *context, struct need *need)
{
	struct freeing *f = context;
	unsigned end = f->next, leaves = 0;
	uint64_t last = UINT64_MAX;
	struct page *table;
	struct record *record;
	int error = 0;
	for (; end < f->count && !error; end++) {
		leaves += f->id[end] / TABLE_SLOTS != last;
		last = f->id[end] / TABLE_SLOTS;
		if (leaves > FREE_LEAVES_MAX)
			break;
		error = table_leaf(s, f->id[end], need, &table);
		if (!error && table)
			error = table_modify(s, table);
	}
	if (!error)
		error = log_open(s, HEAD_COLD, 0, MIN_OF(end - f->next, (unsigned)RECORD_WORDS),
				 room_kept(s, USER_NOTE), need, &record);
	if (error)
		return error;
	log_order(s, record, 0, TELLS_MORE);
	for (unsigned room = RECORD_WORDS; f->next < end && room > 0; f->next++, room--) {
		uint64_t id = f->id[f->next];
		struct page_key key = table_key(0, id / TABLE_SLOTS);
		table = cache_find(&s->cache, &key);
		if (!table || !is_own(f, table_entry(table, id), BLOCK_DATA))
			continue;
		if (table_free(s, table_entry(table, id)))
			return store_contradiction(s);
		log_tell(record, &(struct entry){.kind = ENTRY_FREE, .count = 1, .id = id}, NULL);
		ids_freed(s, id, 1);
	}
	return 0;
}

static int drop_page(struct store *s, void *context, struct need *need)
{
	struct freeing *f = context;
	uint64_t id = f->id[0];
	struct page *table;
	struct record *record;
	int error = table_leaf(s, id, need, &table);
	if (!error && (!table || !is_own(f, table_entry(table, id), BLOCK_VOLUME_PAGE)))
		return 0;
	if (!error)
		error = log_open(s, HEAD_COLD, 0, fmt_entry_words(ENTRY_DROP, 2), room_kept(s, USER_NOTE), need,
				 &record);
	if (!error)
		error = table_modify(s, table);
	if (error)
		return error;
	log_order(s, record, 0, TELLS_MORE);
	log_tell(record, &(struct entry){.kind = ENTRY_DROP, .count = 2, .id = id}, NULL);
	for (unsigned i = 0; i < 2; i++) {
		if (table_free(s, table_entry(table, id + i)))
			return store_contradiction(s);
	}
	ids_freed(s, id, 2);
	return 0;
}

/* What a page of it refers to, with 0 for what its heir's page in that place refers to as well. */
static int own_slots(struct freeing *f, unsigned level, uint64_t index, uint64_t slot[VOLUME_SLOTS])
{
	struct page_key key = tree_key(f->n->number, level, index);
	uint64_t other[VOLUME_SLOTS] = {0}, id;
	int error = tree_page_id(f->s, &key, &id);
	if (!error)
		error = id ? tree_slots(f->s, &key, slot) : -LCPFS_E_CORRUPT;
	key.volume = snap_heir(f->s, f->n);
	if (!error && key.volume)
		error = tree_slots(f->s, &key, other);
	for (unsigned i = 0; i < VOLUME_SLOTS && !error; i++)
		slot[i] = slot[i] == other[i] ? 0 : slot[i];
	return error;
}

static int is_own_page(struct freeing *f, uint64_t id, bool *own)
{
	struct page *table;
	int error = table_page(f->s, 0, id / TABLE_SLOTS, &table);
	*own = !error && table && is_own(f, table_entry(table, id), BLOCK_VOLUME_PAGE);
	if (!error && table)
		page_unpin(&f->s->cache, table);
	return error;
}

/* A page that is its own, and all below that is. 1: there was too much for one unit. */
static int free_page(struct freeing *f, unsigned level, uint64_t index, uint64_t id)
{
	uint64_t slot[VOLUME_SLOTS];
	int error = f->pages-- == 0 ? 1 : own_slots(f, level, index, slot);
	if (error)
		return error;
	for (unsigned i = 0; level > 0 && i < VOLUME_SLOTS && !error; i++) {
		bool own = false;
		if (slot[i])
			error = is_own_page(f, slot[i], &own);
		if (!error && own)
			error = free_page(f, level - 1, index * VOLUME_SLOTS + i, slot[i]);
	}
	for (unsigned i = f->count = f->next = 0; level == 0 && i < VOLUME_SLOTS; i++) {
		if (slot[i])
			f->id[f->count++] = slot[i];
	}
	while (level == 0 && f->next < f->count && !error)
		error = attempt(f->s, free_some, f);
	f->id[0] = id;
	return error ? error : attempt(f->s, drop_page, f);
}

/* The top page, unless it is the heir's as well. */
static int own_root(struct freeing *f, bool *own)
{
	const struct volume *v = &f->n->volume;
	struct page_key key = tree_key(snap_heir(f->s, f->n), v->levels - 1, 0);
	uint64_t id = 0;
	int error = key.volume ? tree_page_id(f->s, &key, &id) : 0;
	*own = false;
	return error || !v->root || id == v->root ? error : is_own_page(f, v->root, own);
}

/* Nothing is left that is its own: it is not listed any more. */
static int bury(struct store *s, struct snapshot *n)
{
	tree_forget(s, n->number);
	int error = snap_unlist(s, n);
	return error ? error : 1;
}

static int free_unit(struct store *s, struct snapshot *n)
{
	struct freeing *f = calloc(1, sizeof(*f));
	bool own;
	if (!f)
		return -LCPFS_E_NOMEM;
	f->s = s;
	f->n = n;
	f->low = snap_shared_below(s, n);
	f->pages = UNIT_PAGES;
	int error = own_root(f, &own);
	if (!error && own)
		error = free_page(f, n->volume.levels - 1, 0, n->volume.root);
	free(f);
	log_drain(s);
	return error ? error : bury(s, n);
}

int snap_unit(struct store *s)
{
	store_lock(s);
	bool stale = !s->faulted && has_stale(s);
	struct snapshot *n = s->faulted || stale ? NULL : next_dying(s);
	int done = stale ? snap_write_stale(s) : n ? free_unit(s, n) : 0;
	/* Others go on: check tells of it, and nobody is kept from working. */
	if (done == -LCPFS_E_CORRUPT || done == -LCPFS_E_IO) {
		*(stale ? &s->trees.snapshots.is_stuck : &n->stuck) = true;
		done = 1;
	}
	done = stale && !done ? 1 : done;
	store_changed(s);
	store_unlock(s);
	return done;
}
