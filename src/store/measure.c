/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much a snapshot has: found by walks of trees when somebody asks, not counted by writers.
 *
 * Two walks, and both go only where something differs. One compares a snapshot with the next that stays: what is
 * gone in that one and, of this, what was born after the snapshot before, which is its own. The other takes what
 * was born after the snapshot before: what was written since. All that a snapshot has is then
 *
 *     what the one before has + what was written since - what was gone by then
 *
 * and of the oldest one everything was "written since". What was found is kept while it cannot change: what there
 * is in all for ever, the others until a neighbour goes. Only the head changes by itself.
 */
#include "store/snap.h"
#include "store/table.h"
#include "store/tree.h"

enum { BREATH_PAGES = 16 }; /* others get the lock in between */

struct walk {
	struct store *s;
	uint32_t volume, other; /* what is in `volume` and not in `other` (0: there is none) */
	uint32_t low;           /* nothing that was born before is looked at */
	uint32_t own_low;       /* and what was not, counts as its own */
	uint64_t blocks, own;
	unsigned pages;
};

/* A page that the head, or a clone, has as well may have changed there in memory: it will get an id of its own. */
static bool has_changed(struct walk *w, unsigned level, uint64_t index)
{
	struct page_key key = tree_key(w->other, level, index);
	return tree_is_written(w->s, w->other) && tree_page_dirty(w->s, &key);
}

static int walk_page(struct walk *w, unsigned level, uint64_t index);

/* What a slot of a page refers to, or the root does; `other` is what the other one has there. */
static int walk_slot(struct walk *w, unsigned level, uint64_t index, uint64_t id, uint64_t other)
{
	uint32_t birth;
	bool page = level > 0, changed = page && has_changed(w, level - 1, index);
	if (!id || (id == other && !changed))
		return 0;
	int error = table_birth(w->s, id, &birth);
	if (error || birth < w->low)
		return error;
	if (id != other || tree_shares(w->s, w->other, birth)) {
		w->blocks += page ? 2 : 1;
		w->own += birth < w->own_low ? 0 : page ? 2 : 1;
	}
	return page ? walk_page(w, level - 1, index) : 0;
}

static int walk_page(struct walk *w, unsigned level, uint64_t index)
{
	struct page_key key = tree_key(w->volume, level, index), other_key = tree_key(w->other, level, index);
	uint64_t slot[VOLUME_SLOTS], other[VOLUME_SLOTS] = {0};
	int error = tree_slots(w->s, &key, slot);
	if (!error && w->other)
		error = tree_slots(w->s, &other_key, other);
	if (++w->pages % BREATH_PAGES == 0) {
		store_unlock(w->s);
		store_lock(w->s);
	}
	for (unsigned i = 0; i < VOLUME_SLOTS && !error; i++)
		error = walk_slot(w, level, index * VOLUME_SLOTS + i, slot[i], other[i]);
	return error;
}

static int walk_tree(struct walk *w, const struct snapshot *n)
{
	struct page_key top = tree_key(w->other, n->volume.levels - 1, 0);
	uint64_t other = 0;
	int error = w->other ? tree_page_id(w->s, &top, &other) : 0;
	return error ? error : walk_slot(w, n->volume.levels, 0, n->volume.root, other);
}

/* n->sizes.gone and .used. Of what a written volume has in place of it only what is its own is looked at. */
static int compare(struct store *s, struct snapshot *n)
{
	uint32_t low = snap_shared_below(s, n), heir = snap_heir(s, n);
	bool is_written = tree_is_written(s, heir);
	struct walk w = {.s = s, .volume = n->number, .other = heir, .own_low = low};
	if (n->sizes.heir == heir && n->sizes.heir_low == low)
		return 0;
	w.low = is_written ? low : 0;
	int error = walk_tree(&w, n);
	if (error)
		return error;
	n->sizes.gone = w.blocks;
	n->sizes.used = w.own;
	n->sizes.heir = is_written ? 0 : heir;
	n->sizes.heir_low = low;
	return 0;
}

/* n->sizes.written. */
static int look_back(struct store *s, struct snapshot *n)
{
	uint32_t low = snap_shared_below(s, n);
	struct walk w = {.s = s, .volume = n->number, .low = low};
	if (n->sizes.is_written_known && n->sizes.written_low == low)
		return 0;
	int error = walk_tree(&w, n);
	if (error)
		return error;
	n->sizes.written = w.blocks;
	n->sizes.written_low = low;
	n->sizes.is_written_known = true;
	return 0;
}

/* n->sizes.referenced; `before` is known, and NULL for the oldest of a line: that is looked at as a whole. */
static int add_up(struct store *s, struct snapshot *before, struct snapshot *n)
{
	struct walk all = {.s = s, .volume = n->number};
	if (n->sizes.is_referenced_known)
		return 0;
	int error = before ? look_back(s, n) : walk_tree(&all, n);
	if (!error && before)
		error = compare(s, before);
	if (error)
		return error;
	n->sizes.referenced =
		before ? n->sizes.written + before->sizes.referenced - before->sizes.gone : all.blocks;
	n->sizes.is_referenced_known = true;
	return 0;
}

int snap_measure(struct store *s, struct snapshot *n, struct store_snapshot_sizes *sizes)
{
	const struct snapshots *l = &s->trees.snapshots;
	struct snapshot *before = NULL;
	int error = 0;
	for (unsigned i = 0; i < l->count && before != n && !error; i++) {
		if (l->list[i]->state != SNAPSHOT_ALIVE || snap_line(l->list[i]) != snap_line(n))
			continue;
		error = add_up(s, before, l->list[i]);
		before = l->list[i];
	}
	if (!error)
		error = look_back(s, n);
	if (!error)
		error = compare(s, n);
	if (!error)
		*sizes = (struct store_snapshot_sizes){n->sizes.used, n->sizes.referenced, n->sizes.written};
	return error;
}

/* -- clones -- */

static int walk_clone_page(struct walk *w, unsigned level, uint64_t index);

/* What changed in memory has ids of its own, or gets some. */
static int walk_clone_slot(struct walk *w, unsigned level, uint64_t index, uint64_t id)
{
	struct page_key key = tree_key(w->volume, level - 1, index);
	bool page = level > 0, changed = page && tree_page_dirty(w->s, &key);
	uint32_t birth = 0;
	int error = id ? table_birth(w->s, id, &birth) : 0;
	if (error || (!changed && (!id || birth < w->low)))
		return error;
	w->blocks += page ? 2 : 1;
	return page ? walk_clone_page(w, level - 1, index) : 0;
}

static int walk_clone_page(struct walk *w, unsigned level, uint64_t index)
{
	struct page_key key = tree_key(w->volume, level, index);
	uint64_t slot[VOLUME_SLOTS];
	int error = tree_slots(w->s, &key, slot);
	if (++w->pages % BREATH_PAGES == 0) {
		store_unlock(w->s);
		store_lock(w->s);
	}
	for (unsigned i = 0; i < VOLUME_SLOTS && !error; i++)
		error = walk_clone_slot(w, level, index * VOLUME_SLOTS + i, slot[i]);
	return error;
}

static bool is_among(const uint32_t *numbers, size_t count, uint32_t number)
{
	for (size_t i = 0; i < count; i++) {
		if (numbers[i] == number)
			return true;
	}
	return false;
}

/* Of a line. Each block counts where it is for the last time, unless it was born before one that stays. */
static int count_freed(struct store *s, uint32_t line, const uint32_t *numbers, size_t count, uint64_t *blocks)
{
	const struct snapshots *l = &s->trees.snapshots;
	uint32_t low = snap_based_below(s, line);
	int error = 0;
	for (unsigned i = 0; i < l->count && !error; i++) {
		const struct snapshot *n = l->list[i];
		struct walk w = {.s = s, .volume = n->number, .other = snap_heir(s, n), .low = low};
		if (n->state != SNAPSHOT_ALIVE || snap_line(n) != line)
			continue;
		if (numbers && !is_among(numbers, count, n->number)) {
			low = n->volume.birth + 1;
			continue;
		}
		error = walk_tree(&w, n);
		*blocks += w.blocks;
	}
	return error;
}

int snap_freed(struct store *s, const uint32_t *numbers, size_t count, uint64_t *blocks)
{
	const struct snapshots *l = &s->trees.snapshots;
	*blocks = 0;
	int error = count_freed(s, VOLUME_HEAD, numbers, count, blocks);
	for (unsigned i = 0; i < l->count && !error; i++) {
		if (l->list[i]->state == SNAPSHOT_CLONE)
			error = count_freed(s, l->list[i]->number, numbers, count, blocks);
	}
	return error;
}

int snap_measure_clone(struct store *s, struct snapshot *n, uint64_t *blocks)
{
	const struct volume *v = &n->volume;
	struct walk w = {.s = s, .volume = n->number, .low = snap_based_below(s, n->number)};
	int error = walk_clone_slot(&w, v->levels, 0, v->levels == v->placed_levels ? v->root : 0);
	*blocks = w.blocks;
	return error ? error : count_freed(s, n->number, NULL, 0, blocks);
}
