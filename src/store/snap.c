/* SPDX-License-Identifier: Apache-2.0 */
/* Lines: who follows on whom, and who has what of whom. The theory is in snap.h. */
#include <stdlib.h>
#include <string.h>

#include "store/snaplist.h"
#include "store/tree.h"

/* -- who there is -- */

static bool is_in_line(const struct snapshot *n)
{
	return n->state == SNAPSHOT_ALIVE || n->state == SNAPSHOT_DYING;
}

uint32_t snap_line(const struct snapshot *n)
{
	return n->volume.origin ? (uint32_t)n->volume.origin : VOLUME_HEAD;
}

static bool is_of_line(const struct snapshot *n, uint32_t line)
{
	return is_in_line(n) && snap_line(n) == line;
}

struct snapshot *snap_base(const struct store *s, uint32_t line)
{
	const struct snapshot *clone = line == VOLUME_HEAD ? NULL : tree_snapshot(s, line);
	return clone ? tree_snapshot(s, clone->volume.origin) : NULL;
}

static uint32_t births_up_to(const struct snapshot *n)
{
	return n ? n->volume.birth + 1 : 0;
}

uint32_t snap_based_below(const struct store *s, uint32_t line)
{
	return births_up_to(snap_base(s, line));
}

struct snapshot *snap_find(struct store *s, uint32_t line, const char *name)
{
	const struct snapshots *l = &s->trees.snapshots;
	for (unsigned i = l->count; i-- > 0;) {
		const struct snapshot *n = l->list[i];
		if (n->state == SNAPSHOT_ALIVE && snap_line(n) == line && strcmp(n->name, name) == 0)
			return l->list[i];
	}
	return NULL;
}

static struct snapshot *youngest_below(const struct store *s, uint32_t line, uint32_t number)
{
	const struct snapshots *l = &s->trees.snapshots;
	for (unsigned i = l->count; i-- > 0;) {
		const struct snapshot *n = l->list[i];
		if (n->number < number && n->state == SNAPSHOT_ALIVE && snap_line(n) == line)
			return l->list[i];
	}
	return NULL;
}

struct snapshot *snap_youngest(const struct store *s, uint32_t line)
{
	return youngest_below(s, line, UINT32_MAX);
}

struct snapshot *snap_predecessor(const struct store *s, uint32_t line, uint32_t number)
{
	struct snapshot *n = youngest_below(s, line, number);
	return n ? n : snap_base(s, line);
}

struct snapshot *snap_hold(struct store *s, uint32_t number)
{
	struct snapshot *n = tree_snapshot(s, number);
	if (!n || n->state != SNAPSHOT_ALIVE)
		return NULL;
	n->users++;
	return n;
}

void snap_let(struct store *s, struct snapshot *n)
{
	CHECK(n->users > 0);
	n->users--;
	if (n->state == SNAPSHOT_DYING || n->state == SNAPSHOT_LEFT) /* who waits, waits for the last one */
		store_changed(s);
}

struct snapshot *snap_before(const struct store *s, uint32_t line)
{
	const struct snapshots *l = &s->trees.snapshots;
	for (unsigned i = l->count; i-- > 0;) {
		if (is_of_line(l->list[i], line))
			return l->list[i];
	}
	return NULL;
}

/* What a volume that is written shares, with the last of its line, or with what the line goes on from. */
static uint32_t line_shared_below(const struct store *s, uint32_t line)
{
	return births_up_to(snap_predecessor(s, line, UINT32_MAX));
}

uint32_t snap_shared_below(const struct store *s, const struct snapshot *n)
{
	if (n->state == SNAPSHOT_CLONE)
		return line_shared_below(s, n->number);
	return births_up_to(is_in_line(n) ? snap_predecessor(s, snap_line(n), n->number)
					  : tree_snapshot(s, n->volume.origin));
}

uint32_t snap_follower(const struct store *s, const struct snapshot *n, uint32_t behind)
{
	const struct snapshots *l = &s->trees.snapshots;
	if (!is_in_line(n) || behind == snap_line(n))
		return 0;
	for (unsigned i = 0; i < l->count; i++) {
		if (l->list[i]->number > behind && is_of_line(l->list[i], snap_line(n)))
			return l->list[i]->number;
	}
	return snap_line(n);
}

uint32_t snap_heir(const struct store *s, const struct snapshot *n)
{
	const struct snapshots *l = &s->trees.snapshots;
	for (unsigned i = 0; is_in_line(n) && i < l->count; i++) {
		if (l->list[i]->number > n->number && l->list[i]->state == SNAPSHOT_ALIVE &&
		    snap_line(l->list[i]) == snap_line(n))
			return l->list[i]->number;
	}
	return is_in_line(n) ? snap_line(n) : 0;
}

static struct snapshot *last_bookmark(const struct store *s, uint32_t line)
{
	const struct snapshots *b = &s->trees.bookmarks;
	for (unsigned i = b->count; i-- > 0;) {
		if (snap_line(b->list[i]) == line)
			return b->list[i];
	}
	return NULL;
}

static void note_line(struct store *s, uint32_t line)
{
	const struct snapshot *mark = last_bookmark(s, line);
	uint32_t shared = line_shared_below(s, line), marked = mark ? mark->volume.birth + 1 : 0;
	tree_share_below(s, tree_volume(s, line), shared, MAX_OF(shared, marked));
}

void snap_note_sharing(struct store *s)
{
	const struct snapshots *l = &s->trees.snapshots;
	for (unsigned i = 0; i < l->count; i++) {
		struct volume *v = &l->list[i]->volume;
		if (l->list[i]->state == SNAPSHOT_CLONE)
			note_line(s, l->list[i]->number);
		else
			v->shared_below = v->known_below = 0;
	}
	note_line(s, VOLUME_HEAD);
}

struct snapshots *snap_list_of(struct store *s, const struct snapshot *n)
{
	return n->state == SNAPSHOT_BOOKMARK ? &s->trees.bookmarks : &s->trees.snapshots;
}

int snap_make_room(struct snapshots *l)
{
	if (l->count < l->room)
		return 0;
	unsigned room = l->room ? 2 * l->room : 16;
	struct snapshot **list = realloc(l->list, room * sizeof(struct snapshot *));
	if (!list)
		return -LCPFS_E_NOMEM;
	l->list = list;
	l->room = room;
	return 0;
}

void snap_insert(struct store *s, struct snapshot *n)
{
	struct snapshots *l = snap_list_of(s, n);
	CHECK(l->count < l->room);
	unsigned at = l->count++;
	for (; at > 0 && l->list[at - 1]->number > n->number; at--)
		l->list[at] = l->list[at - 1];
	l->list[at] = n;
}

void snap_take_out(struct store *s, const struct snapshot *n)
{
	struct snapshots *l = snap_list_of(s, n);
	unsigned at = 0;
	while (l->list[at] != n)
		at++;
	for (l->count--; at < l->count; at++)
		l->list[at] = l->list[at + 1];
}

/* -- lines that are exchanged -- */

static bool is_of_some_line(const struct snapshot *n)
{
	return is_in_line(n) || n->state == SNAPSHOT_BOOKMARK;
}

uint64_t snap_after_turn(const struct snapshot *clone, const struct snapshot *n)
{
	uint64_t line = n->volume.origin;
	if (!is_of_some_line(n))
		return line;
	if (line == clone->number)
		return 0;
	return !line && n->number > clone->volume.origin ? clone->number : line;
}

typedef bool test_fn(const struct store *s, const struct snapshot *clone, const struct snapshot *n);

static bool any_of(const struct store *s, const struct snapshots *l, const struct snapshot *clone, test_fn *fn)
{
	for (unsigned i = 0; i < l->count; i++) {
		if (fn(s, clone, l->list[i]))
			return true;
	}
	return false;
}

static bool moves(const struct store *s, const struct snapshot *clone, const struct snapshot *n)
{
	(void)s;
	return snap_after_turn(clone, n) != n->volume.origin;
}

static bool moves_dying(const struct store *s, const struct snapshot *clone, const struct snapshot *n)
{
	return n->state == SNAPSHOT_DYING && moves(s, clone, n);
}

/* One of the clone's, with the name of one that the clone will have as well. */
static bool clashes(const struct store *s, const struct snapshot *clone, const struct snapshot *n)
{
	const struct snapshots *l = n->state == SNAPSHOT_BOOKMARK ? &s->trees.bookmarks : &s->trees.snapshots;
	for (unsigned i = 0; i < l->count && n->volume.origin == clone->number; i++) {
		const struct snapshot *other = l->list[i];
		if (other->state == n->state && !other->volume.origin && other->number <= clone->volume.origin &&
		    n->state != SNAPSHOT_DYING && strcmp(other->name, n->name) == 0)
			return true;
	}
	return false;
}

bool snap_turns(const struct store *s, const struct snapshot *clone)
{
	return any_of(s, &s->trees.snapshots, clone, moves) || any_of(s, &s->trees.bookmarks, clone, moves);
}

bool snap_turn_clashes(const struct store *s, const struct snapshot *clone)
{
	return any_of(s, &s->trees.snapshots, clone, clashes) || any_of(s, &s->trees.bookmarks, clone, clashes);
}

bool snap_turn_moves_dying(const struct store *s, const struct snapshot *clone)
{
	return any_of(s, &s->trees.snapshots, clone, moves_dying);
}

void snap_turn_list(const struct snapshots *l, const struct snapshot *clone, uint64_t turn)
{
	for (unsigned i = 0; i < l->count; i++) {
		if (l->list[i]->turn < turn)
			l->list[i]->volume.origin = snap_after_turn(clone, l->list[i]);
	}
}

static void forget_turns(const struct snapshots *l)
{
	for (unsigned i = 0; i < l->count; i++) {
		if (l->list[i]->state != SNAPSHOT_CLONE)
			l->list[i]->turn = 0;
	}
}

int snap_turn_loaded(struct store *s)
{
	struct snapshots *l = &s->trees.snapshots;
	const struct snapshot *clone = NULL;
	for (unsigned i = 0; i < l->count; i++) {
		if (l->list[i]->state == SNAPSHOT_CLONE && l->list[i]->turn == l->turn)
			clone = l->list[i];
	}
	if (l->stale && !clone)
		return -LCPFS_E_CORRUPT;
	if (l->stale) {
		snap_turn_list(l, clone, l->turn);
		snap_turn_list(&s->trees.bookmarks, clone, l->turn);
	}
	forget_turns(l);
	forget_turns(&s->trees.bookmarks);
	return 0;
}

/* -- bookmarks -- */

struct snapshot *snap_find_bookmark(const struct store *s, uint32_t line, const char *name)
{
	const struct snapshots *b = &s->trees.bookmarks;
	for (unsigned i = 0; i < b->count; i++) {
		if (snap_line(b->list[i]) == line && strcmp(b->list[i]->name, name) == 0)
			return b->list[i];
	}
	return NULL;
}

struct snapshot *snap_younger_bookmark(const struct store *s, uint32_t line, const struct snapshot *n)
{
	struct snapshot *last = last_bookmark(s, line);
	return last && (!n || last->number > n->number) ? last : NULL;
}

/* -- clones -- */

struct snapshot *snap_find_clone(const struct store *s, const char *name)
{
	const struct snapshots *l = &s->trees.snapshots;
	for (unsigned i = 0; i < l->count; i++) {
		if (l->list[i]->state == SNAPSHOT_CLONE && strcmp(l->list[i]->name, name) == 0)
			return l->list[i];
	}
	return NULL;
}

struct snapshot *snap_hold_clone(struct store *s, uint32_t number)
{
	struct snapshot *n = tree_snapshot(s, number);
	if (!n || n->state != SNAPSHOT_CLONE || n->ending)
		return NULL;
	n->users++;
	return n;
}

unsigned snap_clones(const struct store *s, const struct snapshot *base)
{
	const struct snapshots *l = &s->trees.snapshots;
	unsigned count = 0;
	for (unsigned i = 0; i < l->count; i++)
		count += l->list[i]->state == SNAPSHOT_CLONE &&
			 (!base || l->list[i]->volume.origin == base->number);
	return count;
}

int snap_clone_was_made(struct store *s, uint32_t number, uint64_t root, unsigned levels, uint64_t blocks)
{
	struct snapshot *n = tree_snapshot(s, number);
	int error = n ? tree_become(s, number, root, levels) : snap_make_room(&s->trees.snapshots);
	if (!n && !error)
		n = calloc(1, sizeof(*n));
	if (!n || error)
		return error ? error : -LCPFS_E_NOMEM;
	n->volume.blocks = blocks;
	if (n->number)
		return 0;
	n->number = number;
	n->state = SNAPSHOT_CLONE;
	n->slot = NO_SLOT;
	n->volume.root = root;
	n->volume.levels = n->volume.placed_levels = levels;
	n->volume.birth = number - SNAPSHOT_FIRST;
	snap_insert(s, n);
	return 0;
}

void snap_clone_was_ended(struct store *s, uint32_t number)
{
	struct snapshot *n = tree_snapshot(s, number);
	tree_forget(s, number);
	snap_take_out(s, n);
	free(n);
}

static void free_list(struct snapshots *l)
{
	for (unsigned i = 0; i < l->count; i++)
		free(l->list[i]);
	free(l->list);
	*l = (struct snapshots){0};
}

void snap_free(struct store *s)
{
	free_list(&s->trees.snapshots);
	free_list(&s->trees.bookmarks);
}

void snap_audit(const struct store *s)
{
	const struct snapshots *l = &s->trees.snapshots;
	const struct volume *head = &s->trees.volume[VOLUME_HEAD];
	const struct snapshot *mark = last_bookmark(s, VOLUME_HEAD);
	uint32_t marked = mark ? mark->volume.birth + 1 : 0;
	for (unsigned i = 0; i < l->count; i++) {
		const struct snapshot *n = l->list[i];
		CHECK(!i || l->list[i - 1]->number < n->number); /* N1 */
		bool clone = n->state == SNAPSHOT_CLONE;
		CHECK(n->volume.birth < s->checkpoint.birth ||
		      n->slot == NO_SLOT); /* N1; else not rolled forward yet */
		CHECK(clone ? n->volume.levels >= n->volume.placed_levels
			    : n->volume.levels == n->volume.placed_levels); /* N2 */
		CHECK(n->volume.shared_below ==
		      (clone && n->slot != NO_SLOT ? snap_shared_below(s, n) : 0)); /* N3 */
	}
	CHECK(head->shared_below == line_shared_below(s, VOLUME_HEAD)); /* N3 */
	CHECK(head->known_below == MAX_OF(head->shared_below, marked)); /* N4 */
}
