/* SPDX-License-Identifier: Apache-2.0 */
/* The list of snapshots and clones, as it lies in volume 0: read, and changed, each change in one record. */
#include "store/snaplist.h"

#include <stdlib.h>
#include <string.h>

#include "store/attempt.h"
#include "store/ids.h"
#include "store/log.h"
#include "store/map.h"
#include "store/place.h"
#include "store/room.h"
#include "store/table.h"
#include "store/tree.h"

/* -- the list, read -- */

static bool is_sane(const struct store *s, const struct fmt_snapshot *f)
{
	uint32_t number = le32_get(f->number), levels = le32_get(f->volume.levels),
		 birth = le32_get(f->volume.birth);
	uint64_t root = le64_get(f->volume.root);
	/* A clone that was destroyed has changed since it was made. */
	bool at_once = birth == number - SNAPSHOT_FIRST,
	     later = f->state == SNAPSHOT_LEFT && birth + SNAPSHOT_FIRST > number;
	bool began = f->state == SNAPSHOT_LEFT || f->state == SNAPSHOT_CLONE;
	return number >= SNAPSHOT_FIRST && number <= SNAPSHOT_LAST && (at_once || later) &&
	       birth < s->checkpoint.birth && f->state >= SNAPSHOT_ALIVE && f->state <= SNAPSHOT_BOOKMARK &&
	       f->held <= 1 && (f->state == SNAPSHOT_CLONE || !le64_get(f->turn)) && levels >= 1 &&
	       levels <= VOLUME_LEVELS_MAX && root % 2 == 0 && root <= FMT_ID_MASK &&
	       le64_get(f->volume.blocks) <= STORE_VOLUME_BLOCKS_MAX &&
	       le64_get(f->volume.origin) < (began ? number : SNAPSHOT_LAST + 1) &&
	       f->name[SNAPSHOT_NAME_MAX] == 0;
}

static int load_slot(struct store *s, const struct fmt_snapshot *f, unsigned slot, uint64_t turn)
{
	struct snapshot *n = is_sane(s, f) ? tree_snapshot(s, le32_get(f->number)) : NULL;
	bool clone = f->state == SNAPSHOT_CLONE, bookmark = f->state == SNAPSHOT_BOOKMARK;
	bool known = n && n->slot == NO_SLOT && n->volume.blocks == le64_get(f->volume.blocks);
	if (!is_sane(s, f) || (clone ? !known : n != NULL && !bookmark) || (bookmark && le64_get(f->volume.root)))
		return -LCPFS_E_CORRUPT;
	if (!clone)
		n = snap_make_room(bookmark ? &s->trees.bookmarks : &s->trees.snapshots) ? NULL
											 : calloc(1, sizeof(*n));
	if (!n)
		return -LCPFS_E_NOMEM;
	n->number = le32_get(f->number);
	n->state = f->state;
	n->held = f->held;
	n->slot = slot;
	n->turn = clone ? le64_get(f->turn) : turn;
	n->created_s = le64_get(f->created_s);
	n->guid = le64_get(f->guid);
	n->volume.birth = le32_get(f->volume.birth);
	n->volume.origin = le64_get(f->volume.origin);
	memcpy(n->name, f->name, sizeof(n->name));
	if (clone)
		return 0;
	n->volume.root = le64_get(f->volume.root);
	n->volume.levels = n->volume.placed_levels = le32_get(f->volume.levels);
	n->volume.blocks = le64_get(f->volume.blocks);
	snap_insert(s, n);
	return 0;
}

struct finding {
	unsigned pair;
	struct mapping mapping[2];
};

static int find_pair(struct store *s, void *context, struct need *need)
{
	struct finding *f = context;
	int error = 0;
	for (unsigned i = 0; i < 2 && !error; i++)
		error = map_lookup(s, VOLUME_LIST, 2 * (uint64_t)f->pair + i, need, &f->mapping[i]);
	return error;
}

static bool is_pair(const struct store *s, const struct fmt_snapshots *b, unsigned pair)
{
	return fmt_verify(b, FMT_SNAPSHOTS, s->config.guid, s->config.partition) == FMT_GOOD &&
	       le64_get(b->index) == pair;
}

/* With the lock: nobody else is there yet. */
static int read_pair(struct store *s, const struct finding *f, struct fmt_snapshots *b)
{
	int error = -LCPFS_E_CORRUPT;
	for (unsigned i = 0; i < 2 && error; i++) {
		error = vdev_read(s->config.vdev, f->mapping[i].block << BLOCK_SHIFT, b, BLOCK_SIZE);
		if (!error && (!fmt_check_fits(&f->mapping[i].check, b) || !is_pair(s, b, f->pair)))
			error = -LCPFS_E_CORRUPT;
	}
	return error;
}

static int load_pairs(struct store *s, struct fmt_snapshots *b)
{
	struct snapshots *l = &s->trees.snapshots;
	uint64_t lowest = UINT64_MAX;
	for (;; l->pairs++) {
		struct finding f = {.pair = l->pairs};
		int error = attempt(s, find_pair, &f);
		if (error || (!f.mapping[0].id && !f.mapping[1].id)) {
			l->stale = lowest < l->turn ? l->pairs : 0;
			return error;
		}
		if (f.mapping[0].id % 2 || f.mapping[1].id != f.mapping[0].id + 1)
			return -LCPFS_E_CORRUPT;
		error = read_pair(s, &f, b);
		for (unsigned i = 0; i < SNAPSHOT_SLOTS && !error; i++) {
			if (le32_get(b->slot[i].number))
				error = load_slot(s, &b->slot[i], l->pairs * SNAPSHOT_SLOTS + i,
						  le64_get(b->turn));
		}
		if (error)
			return error;
		lowest = MIN_OF(lowest, le64_get(b->turn));
		l->turn = MAX_OF(l->turn, le64_get(b->turn));
	}
}

/* Behind the last pair nothing may be mapped. */
static int check_end(struct store *s)
{
	uint64_t address = 2 * (uint64_t)s->trees.snapshots.pairs, leaf = address / VOLUME_SLOTS;
	bool found = true;
	int error = 0;
	for (; found && !error; leaf++) {
		struct page_key key = tree_key(VOLUME_LIST, 0, leaf);
		struct page *p = NULL;
		error = tree_next_leaf(s, VOLUME_LIST, UINT64_MAX, &leaf, &found);
		key.index = leaf;
		if (!error && found)
			error = tree_page(s, &key, &p);
		for (unsigned i = 0; p && i < VOLUME_SLOTS; i++) {
			if (leaf * VOLUME_SLOTS + i >= address && tree_slot(p, i))
				error = -LCPFS_E_CORRUPT;
		}
		if (p)
			page_unpin(&s->cache, p);
	}
	return error;
}

/* Is there a line that it can be of? What is DYING may outlive its clone. */
static bool has_line(const struct store *s, const struct snapshot *n)
{
	const struct snapshot *clone = tree_snapshot(s, n->volume.origin), *base = snap_base(s, snap_line(n));
	bool goes_on = clone && (clone->state == SNAPSHOT_CLONE ||
				 (clone->state == SNAPSHOT_LEFT && n->state == SNAPSHOT_DYING));
	return !n->volume.origin || (goes_on && base && base->number < n->number);
}

/* A clone's is ALIVE as long as there is the clone. What is LEFT is freed down to its own. */
static int check_origin(const struct store *s, const struct snapshot *n)
{
	const struct snapshot *origin = tree_snapshot(s, n->volume.origin);
	bool good = n->state == SNAPSHOT_CLONE  ? n->slot != NO_SLOT && origin && origin->state == SNAPSHOT_ALIVE
		    : n->state == SNAPSHOT_LEFT ? origin != NULL
						: has_line(s, n);
	return good ? 0 : -LCPFS_E_CORRUPT;
}

int snap_load(struct store *s)
{
	const struct snapshots *l = &s->trees.snapshots, *marks = &s->trees.bookmarks;
	struct fmt_snapshots *b = malloc(sizeof(*b));
	int error = b ? load_pairs(s, b) : -LCPFS_E_NOMEM;
	free(b);
	if (!error)
		error = check_end(s);
	if (!error)
		error = snap_turn_loaded(s);
	for (unsigned i = 0; i < l->count && !error; i++)
		error = check_origin(s, l->list[i]);
	for (unsigned i = 0; i < marks->count && !error; i++)
		error = check_origin(s, marks->list[i]);
	if (!error && snap_clones(s, NULL) > CLONES_MAX)
		error = -LCPFS_E_CORRUPT;
	if (!error)
		snap_note_sharing(s);
	return error;
}

/* -- the list, changed -- */

/* What becomes of a snapshot's slot, and what else happens in the same record. */
struct change {
	struct snapshot *n; /* NULL: none, its block is only written anew */
	unsigned pair;
	uint8_t state;               /* NONE: it is taken out */
	const struct snapshot *back; /* the volume of its line becomes this tree; or NULL */
	bool exchanges;              /* n is a clone: the head becomes its tree, and it becomes the head's; */
	bool turns;                  /* so do their lines */
	bool adds;
	bool grows; /* n is a clone: it has another length */
	struct page *page;
	struct fmt_check check;
};

static void put_slot(struct fmt_snapshots *b, const struct snapshot *n, uint8_t state, const struct change *c)
{
	struct fmt_snapshot *f = &b->slot[n->slot % SNAPSHOT_SLOTS];
	f->number = le32_of(n->number);
	f->state = state;
	f->held = n->held;
	bool clone = state == SNAPSHOT_CLONE; /* where its tree is stands in the root */
	uint64_t origin = c->turns ? snap_after_turn(c->n, n) : n->volume.origin;
	f->volume = (struct fmt_volume){le64_of(clone ? 0 : n->volume.root), le32_of(clone ? 1 : n->volume.levels),
					le32_of(n->volume.birth), le64_of(n->volume.blocks), le64_of(origin)};
	if (clone)
		f->turn = c->turns && n == c->n ? b->turn : le64_of(n->turn);
	f->created_s = le64_of(n->created_s);
	f->guid = le64_of(n->guid);
	memcpy(f->name, n->name, sizeof(f->name));
}

static void put_slots(struct fmt_snapshots *b, const struct snapshots *l, const struct change *c)
{
	for (unsigned i = 0; i < l->count; i++) {
		if (l->list[i] != c->n && l->list[i]->slot / SNAPSHOT_SLOTS == c->pair)
			put_slot(b, l->list[i], l->list[i]->state, c);
	}
}

static void fill_pair(struct store *s, const struct change *c)
{
	struct fmt_snapshots *b = (struct fmt_snapshots *)c->page->data;
	uint32_t used = 0;
	memset(b, 0, sizeof(*b));
	b->index = le64_of(c->pair);
	b->turn = le64_of(s->trees.snapshots.turn + c->turns);
	put_slots(b, &s->trees.snapshots, c);
	put_slots(b, &s->trees.bookmarks, c);
	if (c->state != SNAPSHOT_NONE)
		put_slot(b, c->n, c->state, c);
	for (unsigned i = 0; i < SNAPSHOT_SLOTS; i++)
		used += le32_get(b->slot[i].number) != 0;
	fmt_seal(b, FMT_SNAPSHOTS, s->config.guid, s->config.partition, used);
}

/* Its ids, or a new pair. */
static int find_ids(struct store *s, uint64_t address, struct need *need, uint64_t *id, struct page **leaf,
		    struct page **table)
{
	int error = tree_leaf(s, VOLUME_LIST, address, need, leaf);
	*id = !error && *leaf ? tree_slot(*leaf, address) : 0;
	if (error || *id)
		return error ? error : table_leaf(s, *id, need, table);
	if (!room_fits(s, 2 + (*leaf ? 0 : 2 * VOLUME_LEVELS_MAX)))
		return -LCPFS_E_NOSPC;
	return tree_leaf_made(s, VOLUME_LIST, address, need, leaf);
}

static void turn(struct store *s, struct snapshot *clone)
{
	struct snapshots *l = &s->trees.snapshots;
	clone->turn = ++l->turn;
	l->stale = l->pairs;
	l->is_stuck = false;
	snap_turn_list(l, clone, l->turn);
	snap_turn_list(&s->trees.bookmarks, clone, l->turn);
}

static void apply(struct store *s, const struct change *c)
{
	struct snapshot *n = c->n;
	if (!n)
		return;
	if (c->adds)
		snap_insert(s, n);
	s->trees.snapshots.pairs = MAX_OF(s->trees.snapshots.pairs, n->slot / SNAPSHOT_SLOTS + 1);
	if (c->state == SNAPSHOT_NONE)
		snap_take_out(s, n);
	n->state = c->state;
	if (c->state == SNAPSHOT_LEFT)
		n->volume.placed_levels = n->volume.levels;
	if (c->state != SNAPSHOT_CLONE)
		n->turn = 0;
	if (c->turns)
		turn(s, n);
	snap_note_sharing(s);
}

/* Which tree a volume is from now on. NULL: there is no such clone any more. */
static void tell_tree(struct record *record, uint32_t volume, const struct volume *v)
{
	struct entry e = {.kind = volume == VOLUME_HEAD ? ENTRY_VOLUME : ENTRY_CLONE, .volume = volume};
	if (v) {
		e.id = v->root;
		e.level = v->levels;
		e.length = volume == VOLUME_HEAD ? 0 : (uint64_t)v->blocks;
	}
	log_tell(record, &e, NULL);
}

static void tell_trees(const struct store *s, struct record *record, const struct change *c)
{
	const struct snapshot *n = c->n;
	if (!n)
		return;
	if (c->exchanges)
		tell_tree(record, VOLUME_HEAD, &s->trees.volume[VOLUME_HEAD]);
	if (c->back && snap_line(c->back) == VOLUME_HEAD)
		tell_tree(record, VOLUME_HEAD, &s->trees.volume[VOLUME_HEAD]);
	else if (c->back)
		tell_tree(record, snap_line(c->back), &tree_snapshot(s, snap_line(c->back))->volume);
	else if (c->exchanges || c->grows || (c->adds && c->state == SNAPSHOT_CLONE))
		tell_tree(record, n->number, &n->volume);
	else if (n->state == SNAPSHOT_CLONE && c->state == SNAPSHOT_LEFT)
		tell_tree(record, n->number, NULL);
}

/* Both trees lie in the log, and they share what the same snapshot has. */
static int exchange(struct store *s, struct snapshot *n)
{
	struct volume *head = &s->trees.volume[VOLUME_HEAD];
	uint64_t root = head->root;
	unsigned levels = head->levels;
	if (tree_is_loading(s, VOLUME_HEAD) || tree_is_loading(s, n->number))
		return TRY_AGAIN;
	int error = tree_become(s, VOLUME_HEAD, n->volume.root, n->volume.levels);
	return error ? error : tree_become(s, n->number, root, levels);
}

static int put_pair(struct store *s, void *context, struct need *need)
{
	struct change *c = context;
	uint64_t address = 2 * (uint64_t)c->pair, id;
	struct page *leaf, *table = NULL;
	struct record *record;
	unsigned words = fmt_entry_words(ENTRY_WRITE, 2) + fmt_entry_words(ENTRY_VOLUME, 0) +
			 fmt_entry_words(ENTRY_CLONE, 0);
	int error = find_ids(s, address, need, &id, &leaf, &table);
	bool fresh = !id;
	if (!error)
		error = log_open(s, HEAD_COLD, 2, words, room_kept(s, USER_NOTE), need, &record);
	if (!error && fresh)
		error = ids_take(s, true, need, &id, &table);
	if (error)
		return error;
	if (!table || tree_slot(leaf, address + 1) != (fresh ? 0 : id + 1))
		return -LCPFS_E_CORRUPT;
	error = table_modify(s, table);
	if (!error && c->back) {
		error = tree_become(s, snap_line(c->back), c->back->volume.root, c->back->volume.levels);
		need->kind = NEED_HELD; /* that somebody has read what he reads */
	}
	if (!error && c->exchanges) {
		error = exchange(s, c->n);
		need->kind = NEED_HELD;
	}
	if (error) {
		if (fresh)
			ids_freed(s, id, 2);
		return error;
	}
	log_order(s, record, 0, TELLS_MORE);
	if (fresh)
		tree_modify(s, leaf);
	for (unsigned i = 0; i < 2 && !error; i++) {
		struct entry e = {.kind = fresh ? ENTRY_WRITE : ENTRY_OVERWRITE,
				  .count = 1,
				  .blocks = 1,
				  .id = id + i,
				  .volume = VOLUME_LIST,
				  .address = address + i};
		uint64_t block = log_append(record, c->page);
		log_tell(record, &e, &c->check);
		error = table_store(s, table_entry(table, id + i), BLOCK_DATA, block, &c->check);
		tree_set_slot(leaf, address + i, id + i);
	}
	if (error)
		return store_contradiction(s);
	tell_trees(s, record, c);
	apply(s, c);
	return 0;
}

/* In one record. */
static int change_list(struct store *s, struct change *c)
{
	c->page = cache_take(&s->cache);
	if (!c->page)
		return -LCPFS_E_NOMEM;
	if (c->n)
		c->pair = c->n->slot / SNAPSHOT_SLOTS;
	fill_pair(s, c);
	c->check = fmt_check_of(c->page->data);
	int error = attempt(s, put_pair, c);
	page_unpin(&s->cache, c->page);
	return error;
}

int snap_write_stale(struct store *s)
{
	struct snapshots *l = &s->trees.snapshots;
	int error = change_list(s, &(struct change){.pair = l->stale - 1});
	l->stale -= !error;
	return error;
}

static int write_all_stale(struct store *s)
{
	int error = 0;
	while (s->trees.snapshots.stale && !error)
		error = snap_write_stale(s);
	return error;
}

/* One slot is kept for a rollback: so that never needs a new block. */
static int find_slot(const struct store *s, bool last, unsigned *slot)
{
	const struct snapshots *l = &s->trees.snapshots, *marks = &s->trees.bookmarks;
	unsigned slots = l->pairs * SNAPSHOT_SLOTS, unused = 0;
	unsigned of_block = s->config.list_slots ? s->config.list_slots : SNAPSHOT_SLOTS;
	bool *used = calloc(slots + 1, sizeof(*used));
	if (!used)
		return -LCPFS_E_NOMEM;
	for (unsigned i = 0; i < slots; i++)
		used[i] = i % SNAPSHOT_SLOTS >= of_block;
	for (unsigned i = 0; i < l->count; i++)
		used[l->list[i]->slot] = true;
	for (unsigned i = 0; i < marks->count; i++)
		used[marks->list[i]->slot] = true;
	for (unsigned i = 0; i < slots; i++)
		unused += !used[i];
	*slot = 0;
	while (used[*slot])
		++*slot;
	if (unused < (last ? 1 : 2))
		*slot = slots;
	free(used);
	return 0;
}

int snap_add(struct store *s, struct snapshot *n, const struct snapshot *back)
{
	struct change c = {.n = n, .state = n->state, .back = back, .adds = true};
	int error = snap_make_room(snap_list_of(s, n));
	if (!error)
		error = find_slot(s, back, &n->slot);
	if (!error)
		error = change_list(s, &c);
	if (error)
		free(n);
	return error;
}

int snap_bookmark(struct store *s, struct snapshot *n)
{
	return snap_add(s, n, NULL);
}

int snap_unlist(struct store *s, struct snapshot *n)
{
	struct change c = {.n = n, .state = SNAPSHOT_NONE};
	int error = change_list(s, &c);
	if (!error)
		free(n);
	return error;
}

int snap_kill(struct store *s, struct snapshot *n)
{
	struct change c = {.n = n, .state = SNAPSHOT_DYING};
	return change_list(s, &c);
}

/* What it shares is the affair of the snapshot that it began as; what is born from now on is younger. */
int snap_end_clone(struct store *s, struct snapshot *n)
{
	struct change c = {.n = n, .state = SNAPSHOT_LEFT};
	if (s->checkpoint.birth + SNAPSHOT_FIRST > SNAPSHOT_LAST)
		return -LCPFS_E_RANGE;
	int error = write_all_stale(s); /* its slot tells which lines were exchanged */
	if (error)
		return error;
	uint32_t before = n->volume.birth;
	log_seal_open(s);
	n->volume.birth = s->checkpoint.birth++;
	error = change_list(s, &c);
	if (error)
		n->volume.birth = before;
	return error;
}

int snap_grow_clone(struct store *s, struct snapshot *n, uint64_t blocks)
{
	struct change c = {.n = n, .state = SNAPSHOT_CLONE, .grows = true};
	uint64_t before = n->volume.blocks;
	n->volume.blocks = blocks;
	int error = change_list(s, &c);
	if (error)
		n->volume.blocks = before;
	return error;
}

int snap_promote(struct store *s, struct snapshot *n, const char *name)
{
	struct change c = {.n = n, .state = SNAPSHOT_CLONE, .exchanges = true, .turns = snap_turns(s, n)};
	char before[sizeof(n->name)];
	int error = write_all_stale(s);
	if (error)
		return error;
	memcpy(before, n->name, sizeof(before));
	memset(n->name, 0, sizeof(n->name));
	memcpy(n->name, name, MIN_OF(strlen(name), (size_t)SNAPSHOT_NAME_MAX));
	error = change_list(s, &c);
	if (error)
		memcpy(n->name, before, sizeof(before));
	return error;
}

int snap_keep(struct store *s, struct snapshot *n, bool held)
{
	struct change c = {.n = n, .state = n->state};
	bool before = n->held;
	n->held = held;
	int error = change_list(s, &c);
	if (error)
		n->held = before;
	return error;
}

int snap_rename(struct store *s, struct snapshot *n, const char *name)
{
	struct change c = {.n = n, .state = n->state};
	struct snapshot before = *n;
	memset(n->name, 0, sizeof(n->name));
	memcpy(n->name, name, strnlen(name, SNAPSHOT_NAME_MAX));
	int error = change_list(s, &c);
	if (error)
		memcpy(n->name, before.name, sizeof(n->name));
	return error;
}
