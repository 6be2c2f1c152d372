/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where two volumes differ: the trees of both are walked side by side, and what they share is not looked at.
 *
 * An id names one content as long as a snapshot has it. So two volumes that have the same id in the same place
 * have the same there, and below it. One thing may hide a difference: a page of the head that has changed in
 * memory is still kept under the id that it had. Such a page is dirty, and so is every page above it that a
 * snapshot has too (tree_own); so a page that is dirty is always entered.
 *
 * From a bookmark there is no tree. What has changed since has a higher birth, and so has every page above it
 * (snap.h), or it will have one when it is written: then it is dirty. So the other tree is walked where that is
 * so. A hole has no birth: all those are told that are below a page that has changed.
 *
 * Nothing is remembered between calls but an address: whoever asks holds no lock, and only as much memory as a
 * page of each tree for each level. A call ends after some pages, also where it has found nothing.
 */
#include <string.h>

#include "store/snap.h"
#include "store/table.h"
#include "store/tree.h"

enum { CALL_PAGES = 256 }; /* of each tree, that one call looks at */

struct comparison {
	struct store *s;
	uint32_t from, to; /* volumes; from 0: nothing */
	uint32_t since;    /* of a bookmark: its birth */
	unsigned pages;    /* left to look at */
	uint64_t address;  /* everything before is known */
	struct store_difference *run;
	bool ended; /* the run: what follows belongs to another one */
};

/* Of a level: what there is of a volume whose tree is not that high. It is never the id of a page. */
#define BELOW_IS_TOP UINT64_MAX

static int slots_of(struct store *s, uint32_t volume, unsigned level, uint64_t index, uint64_t slot[VOLUME_SLOTS])
{
	const struct volume *v = volume ? tree_volume(s, volume) : NULL;
	struct page_key key = tree_key(volume, level, index);
	if (v && level < v->levels)
		return tree_slots(s, &key, slot);
	memset(slot, 0, VOLUME_SLOTS * sizeof(*slot));
	if (v && index == 0)
		slot[0] = level == v->levels && v->levels == v->placed_levels ? v->root : BELOW_IS_TOP;
	return 0;
}

static unsigned height(const struct comparison *c)
{
	const struct volume *from = c->from ? tree_volume(c->s, c->from) : NULL, *to = tree_volume(c->s, c->to);
	return MAX_OF(from ? from->levels : 0, to->levels);
}

/* Is it in memory other than what lies under its id? Only that of a volume that is written can be. */
static bool has_changed(const struct comparison *c, unsigned level, uint64_t index)
{
	struct page_key key = tree_key(c->to, level, index);
	return tree_is_written(c->s, c->to) && tree_page_dirty(c->s, &key);
}

/* An address whose ids in the two are these. */
static void take_address(struct comparison *c, uint64_t address, uint64_t from, uint64_t to)
{
	struct store_difference *run = c->run;
	bool differs = from != to;
	if (run->count && (!differs || address != run->first + run->count || run->data != (to != 0)))
		c->ended = true;
	if (c->ended || !differs)
		return;
	if (!run->count)
		*run = (struct store_difference){.first = address, .data = to};
	run->count++;
}

static uint64_t span_of(unsigned level)
{
	uint64_t span = 1;
	for (; level > 0; level--)
		span *= VOLUME_SLOTS;
	return span;
}

static int compare_page(struct comparison *c, unsigned level, uint64_t index);

/*
 * Meanwhile others had the lock. A page of the head that had changed in memory may have been written, and have an
 * id of its own now: so what is copied from the page above is looked up again.
 */
static int compare_child(struct comparison *c, unsigned level, uint64_t index, uint64_t i,
			 uint64_t to[VOLUME_SLOTS])
{
	int error = compare_page(c, level - 1, index * VOLUME_SLOTS + i);
	return error || !tree_is_written(c->s, c->to) ? error : slots_of(c->s, c->to, level, index, to);
}

/* A page's place, from c->address on. */
static int compare_page(struct comparison *c, unsigned level, uint64_t index)
{
	uint64_t from[VOLUME_SLOTS], to[VOLUME_SLOTS], span = span_of(level), first = index * VOLUME_SLOTS;
	int error = slots_of(c->s, c->from, level, index, from);
	if (!error)
		error = slots_of(c->s, c->to, level, index, to);
	c->pages--;
	for (uint64_t i = c->address / span - first; i < VOLUME_SLOTS && !error && !c->ended && c->pages; i++) {
		if (!level)
			take_address(c, first + i, from[i], to[i]);
		else if (from[i] != to[i] || has_changed(c, level - 1, first + i))
			error = compare_child(c, level, index, i, to);
		else
			c->ended = c->run->count > 0;
		if (!error && !c->ended && (!level || c->pages))
			c->address = MAX_OF(c->address, (first + i + 1) * span);
	}
	return error;
}

/* Both volumes held. */
static int compare(struct comparison *c)
{
	unsigned levels = height(c);
	uint64_t end = span_of(levels);
	int error = 0;
	if (c->address < end)
		error = compare_page(c, levels - 1, 0);
	if (!c->run->count)
		c->run->first = c->address < end ? c->address : UINT64_MAX;
	return error;
}

/* -- since a bookmark -- */

/* Of a level's page, or block: c->address is moved behind what it has. */
static void take_range(struct comparison *c, uint64_t address, uint64_t end, bool differs, bool data)
{
	struct store_difference *run = c->run;
	if (run->count && (!differs || address != run->first + run->count || run->data != data)) {
		c->ended = true;
		return;
	}
	if (differs && !run->count)
		*run = (struct store_difference){.first = address, .data = data};
	run->count += differs ? end - address : 0;
	c->address = end;
}

static int walk_since(struct comparison *c, unsigned level, uint64_t index);

/* As compare_child(). */
static int walk_child(struct comparison *c, unsigned level, uint64_t index, uint64_t i,
		      uint64_t slot[VOLUME_SLOTS])
{
	struct page_key key = tree_key(c->to, level, index);
	int error = walk_since(c, level - 1, index * VOLUME_SLOTS + i);
	return error || !tree_is_written(c->s, c->to) ? error : tree_slots(c->s, &key, slot);
}

static int walk_since(struct comparison *c, unsigned level, uint64_t index)
{
	struct page_key key = tree_key(c->to, level, index);
	uint64_t slot[VOLUME_SLOTS], span = span_of(level), first = index * VOLUME_SLOTS;
	int error = tree_slots(c->s, &key, slot);
	c->pages--;
	for (uint64_t i = c->address / span - first; i < VOLUME_SLOTS && !error && !c->ended && c->pages; i++) {
		uint64_t address = MAX_OF(c->address, (first + i) * span), end = (first + i + 1) * span;
		uint32_t birth = UINT32_MAX;
		if (slot[i])
			error = table_birth(c->s, slot[i], &birth);
		if (error)
			break;
		bool younger = birth > c->since, changed = level && has_changed(c, level - 1, first + i);
		if (changed || (slot[i] && younger && level))
			error = walk_child(c, level, index, i, slot);
		else
			take_range(c, address, end, younger, slot[i]);
	}
	return error;
}

static int compare_since(struct comparison *c)
{
	const struct volume *v = tree_volume(c->s, c->to);
	uint64_t end = span_of(v->levels);
	uint32_t birth = UINT32_MAX;
	bool changed = v->levels > v->placed_levels || has_changed(c, v->levels - 1, 0);
	int error = v->root && !changed ? table_birth(c->s, v->root, &birth) : 0;
	if (!error && birth <= c->since)
		c->address = end;
	else if (!error && !v->root && !changed)
		take_range(c, c->address, end, c->address < end, false);
	else if (!error && c->address < end)
		error = walk_since(c, v->levels - 1, 0);
	if (!c->run->count)
		c->run->first = c->address < end ? c->address : UINT64_MAX;
	return error;
}

static bool is_alive(const struct snapshot *n)
{
	return !n || n->state == SNAPSHOT_ALIVE || n->state == SNAPSHOT_CLONE;
}

/* A snapshot, or a clone. NULL: it is not there, or 0, which is the head. */
static struct snapshot *hold(struct store *s, uint32_t to)
{
	struct snapshot *n = to ? snap_hold(s, to) : NULL;
	return n || !to ? n : snap_hold_clone(s, to);
}

int store_difference_since(struct store *s, uint32_t since, uint32_t to, uint64_t first,
			   struct store_difference *run)
{
	struct comparison c = {.s = s,
			       .since = since - SNAPSHOT_FIRST,
			       .to = to ? to : VOLUME_HEAD,
			       .pages = CALL_PAGES,
			       .address = first,
			       .run = run};
	*run = (struct store_difference){.first = first};
	store_lock(s);
	struct snapshot *n = hold(s, to);
	int error = to && !n ? -LCPFS_E_NOT_FOUND : compare_since(&c);
	if (!is_alive(n))
		error = -LCPFS_E_NOT_FOUND;
	if (n)
		snap_let(s, n);
	store_unlock(s);
	return error;
}

int store_difference(struct store *s, uint32_t from, uint32_t to, uint64_t first, struct store_difference *run)
{
	struct comparison c = {.s = s,
			       .from = from,
			       .to = to ? to : VOLUME_HEAD,
			       .pages = CALL_PAGES,
			       .address = first,
			       .run = run};
	*run = (struct store_difference){.first = first};
	store_lock(s);
	struct snapshot *a = from ? snap_hold(s, from) : NULL, *b = hold(s, to);
	int error = (from && !a) || (to && !b) ? -LCPFS_E_NOT_FOUND : compare(&c);
	if (!is_alive(a) || !is_alive(b))
		error = -LCPFS_E_NOT_FOUND;
	if (a)
		snap_let(s, a);
	if (b)
		snap_let(s, b);
	store_unlock(s);
	return error;
}

static uint32_t number_before(const struct store *s, uint32_t to)
{
	const struct snapshot *n = to ? tree_snapshot(s, to) : NULL;
	bool written = !n || n->state == SNAPSHOT_CLONE;
	uint32_t line = !n ? (uint32_t)VOLUME_HEAD : written ? to : snap_line(n);
	const struct snapshot *before = snap_predecessor(s, line, written ? UINT32_MAX : to);
	return before ? before->number : 0;
}

int store_difference_before(struct store *s, uint32_t to, uint64_t first, struct store_difference *run)
{
	uint32_t last = to;
	for (;;) {
		store_lock(s);
		uint32_t from = number_before(s, to);
		store_unlock(s);
		int error = store_difference(s, from, to, first, run);
		if (error != -LCPFS_E_NOT_FOUND || from == last)
			return error;
		last = from; /* it may have been destroyed meanwhile: then another one is before */
	}
}
