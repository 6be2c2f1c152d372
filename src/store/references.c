/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What check counts: each block id that is in use has one reference, from an address, a page of a volume's tree or
 * a root, and one that is free has none. Ids are taken window by window, so memory is bounded; for each window all
 * volumes are gone through.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "store/snap.h"
#include "store/table.h"
#include "store/tree.h"
#include "store/walker.h"

/* Whose references are counted at a time: bounds memory, whatever the pool's size. */
enum { WINDOW_LEAVES = 16 * 1024 };

/* Leaves of the block table, in order. Those that do not exist take no time: the root's id_end can be anything. */
struct window {
	uint64_t *leaf;
	uint8_t (*count)[TABLE_SLOTS];
	size_t leaves, room;
	uint64_t next;     /* from where on to look for the leaves of the next window */
	uint64_t referred; /* slots that refer to an id, in all */
	uint64_t counted;  /* those whose id lies in a window */
	bool first;
};

static int window_add(struct window *win, uint64_t leaf)
{
	if (win->leaves == win->room) {
		size_t room = win->room ? 2 * win->room : 64;
		uint64_t *list = realloc(win->leaf, room * sizeof(*list));
		if (!list)
			return -LCPFS_E_NOMEM;
		win->leaf = list;
		void *count = realloc(win->count, room * sizeof(*win->count));
		if (!count)
			return -LCPFS_E_NOMEM;
		win->count = count;
		win->room = room;
	}
	win->leaf[win->leaves++] = leaf;
	return 0;
}

static int window_gather(struct store *s, struct window *win)
{
	bool any = true;
	win->leaves = 0;
	for (; any && win->leaves < WINDOW_LEAVES; win->next++) {
		int error = table_next(s, 0, &win->next, &any);
		if (walker_is_damage(error))
			any = true; /* reported with the page */
		else if (!error && any)
			error = window_add(win, win->next);
		if (error && !walker_is_damage(error))
			return error;
	}
	if (win->leaves)
		memset(win->count, 0, win->leaves * sizeof(*win->count));
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void window_count(struct window *win, uint64_t id)
{
	win->referred += win->first;
	if (!win->leaves)
		return;
	uint64_t leaf = id / TABLE_SLOTS, guess = leaf - win->leaf[0]; /* right where none is missing */
	const uint64_t *at = guess < win->leaves ? &win->leaf[guess] : NULL;
	if (!at || *at != leaf)
		at = bsearch(&leaf, win->leaf, win->leaves, sizeof(leaf), by_number);
	if (!at)
		return;
	uint8_t *count = &win->count[at - win->leaf][id % TABLE_SLOTS];
	*count += *count < UINT8_MAX;
	win->counted++;
}

static void count_slot(struct walker *w, struct window *win, const struct page_key *key, unsigned i, uint64_t id)
{
	uint64_t index = key->index * VOLUME_SLOTS + i;
	if (!id)
		return;
	if (id >= w->s->ids.end || (key->level && id % 2)) {
		if (win->first)
			walker_found(w, false, false, UINT64_MAX, key->level ? UINT64_MAX : index,
				     "%s refers to a block id that was never given out",
				     key->level ? "a page of the volume" : "an address");
		return;
	}
	window_count(win, id);
	if (key->level) /* the second copy of a page */
		window_count(win, id + 1);
}

/*
 * What a snapshot and the volume that follows on it both have is counted there: so each id is counted where it is
 * for the last time. Of one that is destroyed: what is not free by now, or of others. Of one that is LEFT, or of a
 * clone's: what it has beyond where it, or the clone, began.
 */
static bool counts_for(struct walker *w, const struct snapshot *n, uint64_t id, unsigned *kind)
{
	uint32_t birth = walker_birth(w->s, id, kind);
	uint32_t low =
		n->state == SNAPSHOT_LEFT ? snap_shared_below(w->s, n) : snap_based_below(w->s, snap_line(n));
	return birth >= low && (n->state == SNAPSHOT_ALIVE || birth <= n->volume.birth);
}

/* What a DYING one had may be free by now, and its ids be given out again: then they are younger. */
static int has_page(struct store *s, uint32_t volume, unsigned level, uint64_t index, bool *has)
{
	const struct volume *v = tree_volume(s, volume);
	bool all = tree_is_written(s, volume);
	*has = true;
	for (; !all && level < v->levels && *has; level++, index /= VOLUME_SLOTS) {
		struct page_key key = tree_key(volume, level, index);
		struct page *p;
		int error = tree_page(s, &key, &p);
		if (error && !walker_is_damage(error))
			return error;
		*has = !error && (!p || p->birth <= v->birth);
		if (!error && p)
			page_unpin(&s->cache, p);
	}
	return 0;
}

/* The volume that follows on n and has its page in this place still; 0: none. */
static int next_with(struct store *s, const struct snapshot *n, unsigned level, uint64_t index, uint32_t *volume)
{
	bool has = false;
	int error = 0;
	for (*volume = n->number; !error && !has && *volume;) {
		*volume = snap_follower(s, n, *volume);
		error = *volume ? has_page(s, *volume, level, index, &has) : 0;
	}
	return error;
}

/*
 * Both have this page. Is there something below that changed in memory? Where the head, or a clone, has taken a
 * page back from one that is DYING, that one need not be dirty.
 */
static bool is_changed_below(struct store *s, const struct page_key *key, uint64_t id)
{
	unsigned kind;
	return tree_is_written(s, key->volume) &&
	       (tree_page_dirty(s, key) || !tree_shares(s, key->volume, walker_birth(s, id, &kind)));
}

/* What the snapshot has there that a clone, and its line, go on from; NULL: there is none. */
static int base_slots(struct store *s, const struct snapshot *base, unsigned level, uint64_t index,
		      uint64_t slot[VOLUME_SLOTS])
{
	struct page_key key = tree_key(base ? base->number : 0, level, index);
	int error = base ? tree_slots(s, &key, slot) : 0;
	if (base && level == base->volume.levels && index == 0) /* the clone's tree is higher by now */
		slot[0] = base->volume.root;
	return error;
}

static void tell_foreign(struct walker *w, const struct window *win, const struct snapshot *n, uint64_t id)
{
	if (win->first)
		walker_found(w, false, false, UINT64_MAX, UINT64_MAX,
			     "%s %s refers to block id %" PRIu64 ", which its origin does not have there",
			     n->state == SNAPSHOT_CLONE ? "clone" : "snapshot", n->name, id);
}

static int count_snapshot_page(struct walker *w, struct window *win, const struct snapshot *n, unsigned level,
			       uint64_t index)
{
	const struct snapshot *base = n->state == SNAPSHOT_ALIVE ? snap_base(w->s, snap_line(n)) : NULL;
	struct page_key key = tree_key(n->number, level, index), next_key = key;
	uint64_t slot[VOLUME_SLOTS], next[VOLUME_SLOTS] = {0}, origin[VOLUME_SLOTS] = {0};
	unsigned kind;
	int error = tree_slots(w->s, &key, slot);
	if (!error)
		error = next_with(w->s, n, level, index, &next_key.volume);
	if (!error && next_key.volume)
		error = tree_slots(w->s, &next_key, next);
	if (!error)
		error = base_slots(w->s, base, level, index, origin);
	if (walker_is_damage(error))
		return 0; /* reported */
	for (unsigned i = 0; i < VOLUME_SLOTS && !error; i++) {
		bool counts = slot[i] && counts_for(w, n, slot[i], &kind);
		if (base && slot[i] && !counts && slot[i] != origin[i])
			tell_foreign(w, win, n, slot[i]);
		if (!counts)
			continue;
		bool same = slot[i] == next[i];
		if (!same)
			count_slot(w, win, &key, i, slot[i]);
		if (!level || kind != BLOCK_VOLUME_PAGE)
			continue;
		/* The head's may have changed in memory, and not be written yet. */
		struct page_key below = tree_key(next_key.volume, level - 1, index * VOLUME_SLOTS + i);
		if (!same || is_changed_below(w->s, &below, slot[i]))
			error = count_snapshot_page(w, win, n, level - 1, below.index);
	}
	return error;
}

static int count_snapshot(struct walker *w, struct window *win, const struct snapshot *n)
{
	struct page_key above = tree_key(n->number, n->volume.levels, 0);
	struct page_key top = tree_key(n->number, n->volume.levels - 1, 0);
	const struct snapshot *base = n->state == SNAPSHOT_ALIVE ? snap_base(w->s, snap_line(n)) : NULL;
	uint64_t root = n->volume.root, id = 0;
	unsigned kind;
	bool counts = root && counts_for(w, n, root, &kind);
	if (base && root && !counts && root != base->volume.root)
		tell_foreign(w, win, n, root);
	if (!counts)
		return 0;
	int error = next_with(w->s, n, top.level, 0, &top.volume);
	if (!error && top.volume)
		error = tree_page_id(w->s, &top, &id);
	if (error)
		return walker_is_damage(error) ? 0 : error; /* reported */
	if (root != id)
		count_slot(w, win, &above, 0, root);
	else if (!is_changed_below(w->s, &top, root))
		return 0;
	return kind == BLOCK_VOLUME_PAGE ? count_snapshot_page(w, win, n, n->volume.levels - 1, 0) : 0;
}

/* What a clone has beyond the snapshot that it began as; the rest that one has, in the same place. */
struct clone_count {
	struct walker *w;
	struct window *win;
	const struct snapshot *n, *origin;
	uint32_t low;
};

/* Is what lies there its own, or changed in memory? Then it has to be looked at. */
static bool count_clone_slot(const struct clone_count *c, const struct page_key *key, unsigned i, uint64_t id,
			     uint64_t origin)
{
	unsigned kind = BLOCK_FREE;
	struct page_key below = tree_key(key->volume, key->level - 1u, key->index * VOLUME_SLOTS + i);
	bool own = id && walker_birth(c->w->s, id, &kind) >= c->low;
	if (own)
		count_slot(c->w, c->win, key, i, id);
	else if (id && id != origin)
		tell_foreign(c->w, c->win, c->n, id);
	return key->level && ((own && kind == BLOCK_VOLUME_PAGE) || tree_page_dirty(c->w->s, &below));
}

static int count_clone_page(const struct clone_count *c, unsigned level, uint64_t index)
{
	struct store *s = c->w->s;
	struct page_key key = tree_key(c->n->number, level, index);
	uint64_t slot[VOLUME_SLOTS], origin[VOLUME_SLOTS];
	int error = tree_slots(s, &key, slot);
	if (!error)
		error = base_slots(s, c->origin, level, index, origin);
	if (error)
		return walker_is_damage(error) ? 0 : error; /* reported */
	for (unsigned i = 0; i < VOLUME_SLOTS && !error; i++) {
		if (count_clone_slot(c, &key, i, slot[i], origin[i]))
			error = count_clone_page(c, level - 1, index * VOLUME_SLOTS + i);
	}
	return error;
}

static int count_clone(struct walker *w, struct window *win, const struct snapshot *n)
{
	const struct volume *v = &n->volume;
	const struct clone_count c = {w, win, n, snap_base(w->s, n->number), snap_based_below(w->s, n->number)};
	struct page_key above = tree_key(n->number, v->levels, 0), top = tree_key(n->number, v->levels - 1, 0);
	bool into = tree_page_dirty(w->s, &top);
	if (v->levels == v->placed_levels) /* else a page that is in memory only refers to it */
		into |= count_clone_slot(&c, &above, 0, v->root, c.origin->volume.root);
	return into ? count_clone_page(&c, v->levels - 1, 0) : 0;
}

static int count_volume(struct walker *w, struct window *win, uint32_t volume)
{
	struct store *s = w->s;
	const struct volume *v = &s->trees.volume[volume];
	if (v->root && v->levels == v->placed_levels) { /* else a page that is in memory only refers to it */
		struct page_key above = tree_key(volume, v->placed_levels, 0);
		count_slot(w, win, &above, 0, v->root);
	}
	for (unsigned level = 0; level < v->levels; level++) {
		for (uint64_t index = 0;; index++) {
			struct page *p = NULL;
			bool any;
			int error = tree_next(s, volume, level, &index, &any);
			struct page_key key = tree_key(volume, level, index);
			if (!error && any)
				error = tree_page(s, &key, &p);
			if (walker_is_damage(error))
				continue;
			if (error)
				return error;
			if (!any)
				break;
			for (unsigned i = 0; p && i < VOLUME_SLOTS; i++)
				count_slot(w, win, &key, i, tree_slot(p, i));
			if (p)
				page_unpin(&s->cache, p);
		}
	}
	return 0;
}

/* How often volumes refer to the ids of the window: from addresses, from pages, from their roots. */
static int count_references(struct walker *w, struct window *win)
{
	const struct snapshots *l = &w->s->trees.snapshots;
	int error = count_volume(w, win, VOLUME_HEAD);
	if (!error)
		error = count_volume(w, win, VOLUME_LIST);
	for (unsigned i = 0; i < l->count && !error; i++)
		error = l->list[i]->state == SNAPSHOT_CLONE ? count_clone(w, win, l->list[i])
							    : count_snapshot(w, win, l->list[i]);
	return error;
}

static void check_entry(struct walker *w, uint64_t id, const struct fmt_block *e, unsigned references,
			uint64_t in_use[2])
{
	if (references != !entry_free(e))
		walker_found(w, false, false, UINT64_MAX, UINT64_MAX, "block id %" PRIu64 " is %s; %u refer to it",
			     id, entry_free(e) ? "free" : "in use", references);
	if (entry_free(e))
		return;
	uint64_t block = table_block(w->s, e);
	in_use[0] += e->kind == BLOCK_DATA;
	in_use[1] += e->kind == BLOCK_VOLUME_PAGE;
	if (block == UINT64_MAX)
		walker_found(w, false, false, block, UINT64_MAX,
			     "block id %" PRIu64 " has an entry that makes no sense", id);
	else
		walker_use(w, block, "a block");
}

static int check_window(struct walker *w, const struct window *win, uint64_t in_use[2])
{
	struct store *s = w->s;
	for (size_t l = 0; l < win->leaves; l++) {
		struct page *p;
		int error = table_page(s, 0, win->leaf[l], &p);
		if (walker_is_damage(error))
			continue;
		if (error)
			return error;
		for (unsigned i = 0; p && i < TABLE_SLOTS; i++)
			check_entry(w, win->leaf[l] * TABLE_SLOTS + i, &page_table(p)->block[i], win->count[l][i],
				    in_use);
		if (p)
			page_unpin(&s->cache, p);
	}
	return 0;
}

static void check_totals(struct walker *w, const uint64_t in_use[2])
{
	struct store *s = w->s;
	if (in_use[0] != s->data_blocks)
		walker_found(w, false, false, UINT64_MAX, UINT64_MAX,
			     "%" PRIu64 " data blocks are live; the root says %" PRIu64, in_use[0],
			     s->data_blocks);
	if (in_use[1] != s->page_blocks)
		walker_found(w, false, false, UINT64_MAX, UINT64_MAX,
			     "%" PRIu64 " blocks hold pages of volumes; the root says %" PRIu64, in_use[1],
			     s->page_blocks);
}

int references_check(struct walker *w)
{
	struct store *s = w->s;
	struct window win = {.first = true};
	uint64_t in_use[2] = {0};
	int error = 0;
	store_lock(s);
	for (; !error && (win.first || win.leaves == WINDOW_LEAVES); win.first = false) {
		error = window_gather(s, &win);
		if (!error)
			error = count_references(w, &win);
		if (!error)
			error = check_window(w, &win, in_use);
	}
	if (!error && win.counted != win.referred)
		walker_found(w, false, false, UINT64_MAX, UINT64_MAX,
			     "%" PRIu64 " slots refer to blocks that the block table does not have",
			     win.referred - win.counted);
	if (!error)
		check_totals(w, in_use);
	store_unlock(s);
	free(win.leaf);
	free(win.count);
	return error;
}
