/* SPDX-License-Identifier: Apache-2.0 */
/* What users ask for of snapshots: see snap.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/back.h"
#include "store/checkpoint.h"
#include "store/log.h"
#include "store/room.h"
#include "store/snaplist.h"
#include "store/tree.h"
#include "store/work.h"

enum {
	TRIES_MAX = 64,                           /* units of work that make room, before it is given up */
	BIRTHS_KEPT = 2 * CLONES_MAX * TRIES_MAX, /* for rolling back, and for clones to end with */
	LIST_BLOCKS = 2 + 2 * VOLUME_LEVELS_MAX,  /* that a new part of the list takes at most */
};

bool store_snapshot_is_name(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:";
	size_t length = strlen(name);
	return length >= 1 && length <= SNAPSHOT_NAME_MAX && strspn(name, allowed) == length;
}

/* Pages of the head lie in the log as they are, and stay so until let_go(). */
static int hold_still(struct store *s, unsigned tries)
{
	if (s->faulted)
		return -LCPFS_E_FAULTED;
	return checkpoint_settle_trees(s, room_kept(s, tries % 2 ? USER_CLEAN : USER_NOTE));
}

static void let_go(struct store *s)
{
	s->trees.held = false;
	store_changed(s);
}

/* What a snapshot is called, and what is noted of it. */
struct naming {
	uint32_t line;
	const char *name;
	uint64_t created_s, guid;
	bool soon;        /* durable with the next flush, which the caller does */
	const char *base; /* of a clone: the snapshot */
	const char *new_name;
	uint64_t blocks; /* that a clone has from now on */
	bool held;
};

typedef int change_fn(struct store *s, const struct naming *n);

static int with_locks(struct store *s, change_fn *fn, const struct naming *naming)
{
	pthread_mutex_lock(&s->work);
	store_lock(s);
	int error = fn(s, naming);
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

static int refuse_name(const struct store *s, const char *name)
{
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	return store_snapshot_is_name(name) ? 0 : -LCPFS_E_INVALID;
}

/* With `work` and the lock. Where a metaslab is missing, work makes one: destroying works however full it is. */
static int change_still(struct store *s, change_fn *fn, const struct naming *naming)
{
	int error = 0;
	for (unsigned tries = 0; tries < TRIES_MAX; tries++) {
		back_least(s);
		error = hold_still(s, tries);
		if (!error)
			error = fn(s, naming);
		let_go(s);
		if (error != -LCPFS_E_NOSPC)
			break;
		store_unlock(s);
		int done = work_hard(s);
		store_lock(s);
		if (done <= 0)
			return done ? done : error;
	}
	return error || naming->soon ? error : log_flush(s);
}

/* The volume of a line as a snapshot of it, or as what a rollback to the youngest one leaves. */
static struct snapshot *volume_now(struct store *s, uint8_t state, const struct naming *naming)
{
	const struct volume *v = tree_volume(s, naming->line);
	uint32_t line = naming->line == VOLUME_HEAD ? 0 : naming->line;
	struct snapshot *n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->number = s->checkpoint.birth + SNAPSHOT_FIRST;
	n->state = state;
	n->created_s = naming->created_s;
	n->guid = naming->guid;
	n->volume.root = v->root;
	n->volume.levels = n->volume.placed_levels = v->levels;
	n->volume.blocks = v->blocks;
	n->volume.birth = s->checkpoint.birth;
	n->volume.origin = state == SNAPSHOT_LEFT ? snap_before(s, naming->line)->number : line;
	snprintf(n->name, sizeof(n->name), "%s", naming->name);
	return n;
}

/* What is born from now on is younger than that. */
static int add(struct store *s, struct snapshot *n, const struct snapshot *back)
{
	if (!n)
		return -LCPFS_E_NOMEM;
	if (n->number > (back ? SNAPSHOT_LAST : SNAPSHOT_LAST - BIRTHS_KEPT)) {
		free(n);
		return -LCPFS_E_RANGE;
	}
	log_seal_open(s);
	s->checkpoint.birth++;
	return snap_add(s, n, back);
}

static int take(struct store *s, const struct naming *naming)
{
	return add(s, volume_now(s, SNAPSHOT_ALIVE, naming), NULL);
}

/* Is there a volume that this line ends with? */
static int check_line(const struct store *s, uint32_t line)
{
	const struct snapshot *clone = tree_snapshot(s, line);
	bool there = line == VOLUME_HEAD || (clone && clone->state == SNAPSHOT_CLONE);
	return there ? 0 : -LCPFS_E_NOT_FOUND;
}

static int take_new(struct store *s, const struct naming *naming)
{
	int error = check_line(s, naming->line);
	if (error)
		return error;
	return snap_find(s, naming->line, naming->name) ? -LCPFS_E_EXISTS : change_still(s, take, naming);
}

static int with_room(struct store *s, change_fn *fn, const struct naming *naming)
{
	int error = with_locks(s, fn, naming);
	for (unsigned tries = 0; error == -LCPFS_E_NOSPC && tries < TRIES_MAX; tries++) {
		store_lock(s);
		error = work_wait(s, USER_WRITE, LIST_BLOCKS); /* the pool may give it some */
		store_unlock(s);
		if (!error)
			error = with_locks(s, fn, naming);
	}
	return error;
}

int store_volume_snapshot(struct store *s, uint32_t volume, const char *name, uint64_t created_s, uint64_t guid)
{
	const struct naming naming = {.line = volume, .name = name, .created_s = created_s, .guid = guid};
	int error = refuse_name(s, name);
	return error ? error : with_room(s, take_new, &naming);
}

int store_snapshot_as(struct store *s, const char *name, uint64_t created_s, uint64_t guid)
{
	return store_volume_snapshot(s, VOLUME_HEAD, name, created_s, guid);
}

int store_snapshot(struct store *s, const char *name, uint64_t created_s)
{
	return store_snapshot_as(s, name, created_s, 0);
}

/* -- bookmarks -- */

static int note_bookmark(struct store *s, const struct naming *naming)
{
	const struct snapshot *of = snap_find(s, naming->line, naming->base);
	struct snapshot *n = calloc(1, sizeof(*n));
	if (!n)
		return -LCPFS_E_NOMEM;
	n->number = of->number;
	n->state = SNAPSHOT_BOOKMARK;
	n->created_s = of->created_s;
	n->guid = of->guid;
	n->volume.levels = n->volume.placed_levels = 1;
	n->volume.blocks = of->volume.blocks;
	n->volume.birth = of->volume.birth;
	n->volume.origin = of->volume.origin;
	snprintf(n->name, sizeof(n->name), "%s", naming->name);
	return snap_bookmark(s, n);
}

static int bookmark(struct store *s, const struct naming *naming)
{
	if (snap_find_bookmark(s, naming->line, naming->name))
		return -LCPFS_E_EXISTS;
	return snap_find(s, naming->line, naming->base) ? change_still(s, note_bookmark, naming)
							: -LCPFS_E_NOT_FOUND;
}

int store_volume_bookmark(struct store *s, uint32_t volume, const char *snapshot, const char *name)
{
	int error = refuse_name(s, name);
	return error ? error
		     : with_locks(s, bookmark, &(struct naming){.line = volume, .name = name, .base = snapshot});
}

int store_bookmark(struct store *s, const char *snapshot, const char *name)
{
	return store_volume_bookmark(s, VOLUME_HEAD, snapshot, name);
}

static int forget_bookmark(struct store *s, const struct naming *naming)
{
	return snap_unlist(s, snap_find_bookmark(s, naming->line, naming->name));
}

static int destroy_bookmark(struct store *s, const struct naming *naming)
{
	bool there = snap_find_bookmark(s, naming->line, naming->name);
	return there ? change_still(s, forget_bookmark, naming) : -LCPFS_E_NOT_FOUND;
}

int store_volume_bookmark_destroy(struct store *s, uint32_t volume, const char *name)
{
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	return with_locks(s, destroy_bookmark, &(struct naming){.line = volume, .name = name});
}

int store_bookmark_destroy(struct store *s, const char *name)
{
	return store_volume_bookmark_destroy(s, VOLUME_HEAD, name);
}

/* Going back behind them ends them; NULL: all of the line. */
static int forget_younger(struct store *s, uint32_t line, const struct snapshot *to)
{
	struct snapshot *n;
	int error = 0;
	while (!error && (n = snap_younger_bookmark(s, line, to)))
		error = change_still(s, forget_bookmark,
				     &(struct naming){.line = line, .name = n->name, .soon = true});
	return error;
}

/* -- clones -- */

static struct snapshot *clone_of(const struct store *s, const struct snapshot *base, const struct naming *naming)
{
	struct snapshot *n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->number = s->checkpoint.birth + SNAPSHOT_FIRST;
	n->state = SNAPSHOT_CLONE;
	n->created_s = naming->created_s;
	n->volume.root = base->volume.root;
	n->volume.levels = n->volume.placed_levels = base->volume.levels;
	n->volume.blocks = base->volume.blocks;
	n->volume.birth = s->checkpoint.birth;
	n->volume.origin = base->number;
	snprintf(n->name, sizeof(n->name), "%s", naming->name);
	return n;
}

static int make_clone(struct store *s, const struct naming *naming)
{
	return add(s, clone_of(s, snap_find(s, naming->line, naming->base), naming), NULL);
}

static int check_clone(struct store *s, const struct naming *naming)
{
	if (!snap_find(s, naming->line, naming->base))
		return -LCPFS_E_NOT_FOUND;
	if (snap_find_clone(s, naming->name))
		return -LCPFS_E_EXISTS;
	return snap_clones(s, NULL) < CLONES_MAX ? 0 : -LCPFS_E_RANGE;
}

static int clone_new(struct store *s, const struct naming *naming)
{
	int error = check_clone(s, naming);
	return error ? error : change_still(s, make_clone, naming);
}

int store_volume_clone(struct store *s, uint32_t volume, const char *snapshot, const char *name,
		       uint64_t created_s)
{
	const struct naming naming = {.line = volume, .name = name, .created_s = created_s, .base = snapshot};
	int error = refuse_name(s, name);
	return error ? error : with_room(s, clone_new, &naming);
}

int store_clone(struct store *s, const char *snapshot, const char *name, uint64_t created_s)
{
	return store_volume_clone(s, VOLUME_HEAD, snapshot, name, created_s);
}

static int rename_clone(struct store *s, const struct naming *naming)
{
	return snap_rename(s, snap_find_clone(s, naming->name), naming->new_name);
}

static int grow_clone(struct store *s, const struct naming *naming)
{
	return snap_grow_clone(s, snap_find_clone(s, naming->name), naming->blocks);
}

static int change_clone(struct store *s, const struct naming *naming)
{
	const struct snapshot *n = snap_find_clone(s, naming->name);
	if (!n)
		return -LCPFS_E_NOT_FOUND;
	if (naming->new_name && snap_find_clone(s, naming->new_name))
		return -LCPFS_E_EXISTS;
	if (!naming->new_name && naming->blocks <= n->volume.blocks)
		return naming->blocks < n->volume.blocks ? -LCPFS_E_INVALID : 0;
	return change_still(s, naming->new_name ? rename_clone : grow_clone, naming);
}

int store_clone_rename(struct store *s, const char *name, const char *new_name)
{
	int error = refuse_name(s, new_name);
	return error ? error : with_locks(s, change_clone, &(struct naming){.name = name, .new_name = new_name});
}

int store_clone_grow(struct store *s, const char *name, uint64_t volume_blocks)
{
	if (s->config.read_only || volume_blocks > STORE_VOLUME_BLOCKS_MAX)
		return s->config.read_only ? -LCPFS_E_READ_ONLY : -LCPFS_E_RANGE;
	return with_locks(s, change_clone, &(struct naming){.name = name, .blocks = volume_blocks});
}

static int end_clone(struct store *s, const struct naming *naming)
{
	return snap_end_clone(s, snap_find_clone(s, naming->name));
}

/* Who comes meanwhile does not find it any more. Its bookmarks go first. */
static int destroy_clone(struct store *s, const struct naming *naming)
{
	struct snapshot *n = snap_find_clone(s, naming->name);
	if (!n)
		return -LCPFS_E_NOT_FOUND;
	if (n->clients || snap_youngest(s, n->number))
		return n->clients ? -LCPFS_E_BUSY : -LCPFS_E_NOT_EMPTY;
	n->ending = true;
	int error = forget_younger(s, n->number, NULL);
	if (!error)
		error = change_still(s, end_clone, naming);
	n->ending = n->state == SNAPSHOT_CLONE ? false : n->ending;
	pthread_cond_signal(&s->wake);
	return error;
}

int store_clone_destroy(struct store *s, const char *name)
{
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	return with_locks(s, destroy_clone, &(struct naming){.name = name});
}

static struct store_clone clone_described(const struct snapshot *n)
{
	struct store_clone d = {.number = n->number,
				.origin = (uint32_t)n->volume.origin,
				.created_s = n->created_s,
				.volume_blocks = n->volume.blocks};
	memcpy(d.name, n->name, sizeof(n->name));
	return d;
}

unsigned store_clones(struct store *s, struct store_clone *list, unsigned room)
{
	const struct snapshots *l = &s->trees.snapshots;
	unsigned count = 0;
	static_assert((int)STORE_CLONES_MAX == CLONES_MAX && (int)STORE_OWN_VOLUME == VOLUME_HEAD,
		      "as on the device");
	store_lock(s);
	for (unsigned i = 0; i < l->count; i++) {
		if (l->list[i]->state != SNAPSHOT_CLONE)
			continue;
		if (count < room)
			list[count] = clone_described(l->list[i]);
		count++;
	}
	store_unlock(s);
	return count;
}

bool store_clone_find(struct store *s, const char *name, struct store_clone *found)
{
	store_lock(s);
	const struct snapshot *n = snap_find_clone(s, name);
	if (n)
		*found = clone_described(n);
	store_unlock(s);
	return n;
}

int store_clone_used(struct store *s, uint32_t number, uint64_t *blocks)
{
	pthread_mutex_lock(&s->work);
	store_lock(s);
	struct snapshot *n = snap_hold_clone(s, number);
	int error = n ? snap_measure_clone(s, n, blocks) : -LCPFS_E_NOT_FOUND;
	if (n)
		snap_let(s, n);
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

/* -- destroying, and going back -- */

/* What the head shared with it alone may be overwritten from now on: so its pages are whole in the log before. */
static int destroy(struct store *s, const struct naming *naming)
{
	return snap_kill(s, snap_find(s, naming->line, naming->name));
}

static int destroy_unused(struct store *s, const struct naming *naming)
{
	const struct snapshot *n = snap_find(s, naming->line, naming->name);
	int error = !n ? -LCPFS_E_NOT_FOUND : snap_clones(s, n) ? -LCPFS_E_CLONED : 0;
	if (!error)
		error = change_still(s, destroy, naming);
	pthread_cond_signal(&s->wake);
	return error;
}

static int destroy_by_name(struct store *s, uint32_t line, const char *name, bool flush)
{
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	return with_locks(s, destroy_unused, &(struct naming){.line = line, .name = name, .soon = !flush});
}

int store_snapshot_destroy(struct store *s, const char *name)
{
	return destroy_by_name(s, VOLUME_HEAD, name, true);
}

int store_volume_snapshot_destroy_soon(struct store *s, uint32_t volume, const char *name)
{
	return destroy_by_name(s, volume, name, false);
}

int store_snapshot_destroy_soon(struct store *s, const char *name)
{
	return destroy_by_name(s, VOLUME_HEAD, name, false);
}

static int keep(struct store *s, const struct naming *naming)
{
	return snap_keep(s, snap_find(s, naming->line, naming->name), naming->held);
}

static int keep_if_there(struct store *s, const struct naming *naming)
{
	return snap_find(s, naming->line, naming->name) ? change_still(s, keep, naming) : -LCPFS_E_NOT_FOUND;
}

int store_volume_snapshot_hold(struct store *s, uint32_t volume, const char *name, bool held)
{
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	return with_locks(s, keep_if_there, &(struct naming){.line = volume, .name = name, .held = held});
}

int store_snapshot_hold(struct store *s, const char *name, bool held)
{
	return store_volume_snapshot_hold(s, VOLUME_HEAD, name, held);
}

static int rename_to(struct store *s, const struct naming *naming)
{
	return snap_rename(s, snap_find(s, naming->line, naming->name), naming->new_name);
}

static int rename_snapshot(struct store *s, const struct naming *naming)
{
	if (snap_find(s, naming->line, naming->new_name))
		return -LCPFS_E_EXISTS;
	return snap_find(s, naming->line, naming->name) ? change_still(s, rename_to, naming) : -LCPFS_E_NOT_FOUND;
}

int store_volume_snapshot_rename(struct store *s, uint32_t volume, const char *name, const char *new_name)
{
	const struct naming naming = {.line = volume, .name = name, .new_name = new_name};
	int error = refuse_name(s, new_name);
	return error ? error : with_locks(s, rename_snapshot, &naming);
}

int store_snapshot_rename(struct store *s, const char *name, const char *new_name)
{
	return store_volume_snapshot_rename(s, VOLUME_HEAD, name, new_name);
}

/* Those that are DYING are between the youngest and what the line ends with. */
static int finish_dying(struct store *s)
{
	int error = 0;
	while (!error && snap_pending(s)) {
		store_unlock(s);
		error = snap_unit(s);
		if (error == -LCPFS_E_NOSPC)
			error = work_hard(s);
		store_lock(s);
		error = error > 0 ? 0 : error ? error : -LCPFS_E_NOSPC;
	}
	return error;
}

static int back(struct store *s, const struct naming *naming)
{
	return add(s, volume_now(s, SNAPSHOT_LEFT, &(struct naming){.line = naming->line, .name = ""}),
		   snap_find(s, naming->line, naming->name));
}

static int roll_back(struct store *s, const struct naming *naming)
{
	const struct snapshot *to = snap_find(s, naming->line, naming->name);
	if (!to)
		return -LCPFS_E_NOT_FOUND;
	if (to != snap_youngest(s, naming->line))
		return -LCPFS_E_EXISTS;
	int error = finish_dying(s);
	if (!error && snap_before(s, naming->line) != to)
		error = -LCPFS_E_BUSY; /* somebody still reads one */
	if (!error)
		error = forget_younger(s, naming->line, to);
	if (!error)
		error = change_still(s, back, naming);
	pthread_cond_signal(&s->wake);
	return error;
}

/* `base`: what the clone is called now. */
static int exchange(struct store *s, const struct naming *naming)
{
	return snap_promote(s, snap_find_clone(s, naming->base), naming->name);
}

static int check_promote(struct store *s, const struct snapshot *n, const struct naming *naming)
{
	const struct snapshot *other = snap_find_clone(s, naming->name),
			      *origin = tree_snapshot(s, n->volume.origin);
	if (n->clients)
		return -LCPFS_E_BUSY;
	if (!origin || snap_line(origin) != VOLUME_HEAD)
		return -LCPFS_E_INVALID;
	if ((other && other != n) || snap_turn_clashes(s, n))
		return -LCPFS_E_EXISTS;
	return n->volume.blocks == s->trees.volume[VOLUME_HEAD].blocks ? 0 : -LCPFS_E_RANGE;
}

static int promote(struct store *s, const struct naming *naming)
{
	struct snapshot *n = snap_find_clone(s, naming->base);
	int error = n ? check_promote(s, n, naming) : -LCPFS_E_NOT_FOUND;
	if (error)
		return error;
	n->ending = true; /* nobody begins to use it */
	error = finish_dying(s);
	if (!error && snap_turn_moves_dying(s, n))
		error = -LCPFS_E_BUSY; /* somebody still reads one */
	if (!error)
		error = change_still(s, exchange, naming);
	n->ending = false;
	return error;
}

int store_promote(struct store *s, const char *clone, const char *name)
{
	int error = refuse_name(s, name);
	return error ? error : with_locks(s, promote, &(struct naming){.name = name, .base = clone});
}

int store_volume_rollback(struct store *s, uint32_t volume, const char *name)
{
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	return with_locks(s, roll_back, &(struct naming){.line = volume, .name = name});
}

int store_rollback(struct store *s, const char *name)
{
	return store_volume_rollback(s, VOLUME_HEAD, name);
}

static struct store_snapshot described(const struct snapshot *n)
{
	struct store_snapshot d = {.number = n->number,
				   .volume = snap_line(n),
				   .created_s = n->created_s,
				   .guid = n->guid,
				   .volume_blocks = n->volume.blocks,
				   .held = n->held};
	memcpy(d.name, n->name, sizeof(n->name));
	return d;
}

static unsigned list_some(struct store *s, const struct snapshots *l, uint8_t state, uint32_t volume,
			  struct store_snapshot *list, unsigned room)
{
	unsigned count = 0;
	store_lock(s);
	for (unsigned i = 0; i < l->count; i++) {
		const struct snapshot *n = l->list[i];
		if (n->state != state || (volume && snap_line(n) != volume))
			continue;
		if (count < room)
			list[count] = described(n);
		count++;
	}
	store_unlock(s);
	return count;
}

unsigned store_volume_snapshots(struct store *s, uint32_t volume, struct store_snapshot *list, unsigned room)
{
	return list_some(s, &s->trees.snapshots, SNAPSHOT_ALIVE, volume, list, room);
}

unsigned store_snapshots(struct store *s, struct store_snapshot *list, unsigned room)
{
	return store_volume_snapshots(s, VOLUME_HEAD, list, room);
}

unsigned store_volume_bookmarks(struct store *s, uint32_t volume, struct store_snapshot *list, unsigned room)
{
	return list_some(s, &s->trees.bookmarks, SNAPSHOT_BOOKMARK, volume, list, room);
}

unsigned store_bookmarks(struct store *s, struct store_snapshot *list, unsigned room)
{
	return store_volume_bookmarks(s, VOLUME_HEAD, list, room);
}

bool store_volume_bookmark_find(struct store *s, uint32_t volume, const char *name, struct store_snapshot *found)
{
	store_lock(s);
	const struct snapshot *n = snap_find_bookmark(s, volume, name);
	if (n)
		*found = described(n);
	store_unlock(s);
	return n;
}

bool store_bookmark_find(struct store *s, const char *name, struct store_snapshot *found)
{
	return store_volume_bookmark_find(s, VOLUME_HEAD, name, found);
}

int store_snapshot_sizes(struct store *s, uint32_t number, struct store_snapshot_sizes *sizes)
{
	pthread_mutex_lock(&s->work);
	store_lock(s);
	struct snapshot *n = snap_hold(s, number);
	int error = n ? snap_measure(s, n, sizes) : -LCPFS_E_NOT_FOUND;
	if (n)
		snap_let(s, n);
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

int store_snapshots_freed(struct store *s, const uint32_t *numbers, size_t count, uint64_t *blocks)
{
	pthread_mutex_lock(&s->work);
	store_lock(s);
	int error = snap_freed(s, numbers, count, blocks);
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

bool store_snapshots_pending(struct store *s)
{
	store_lock(s);
	bool pending = snap_pending(s);
	store_unlock(s);
	return pending;
}

bool store_volume_snapshot_find(struct store *s, uint32_t volume, const char *name, struct store_snapshot *found)
{
	store_lock(s);
	const struct snapshot *n = snap_find(s, volume, name);
	if (n)
		*found = described(n);
	store_unlock(s);
	return n;
}

bool store_snapshot_find(struct store *s, const char *name, struct store_snapshot *found)
{
	return store_volume_snapshot_find(s, VOLUME_HEAD, name, found);
}

/* -- for check -- */

static bool any_of_clones(const struct snapshots *l)
{
	for (unsigned i = 0; i < l->count; i++) {
		if (snap_line(l->list[i]) != VOLUME_HEAD && l->list[i]->state != SNAPSHOT_CLONE &&
		    l->list[i]->state != SNAPSHOT_LEFT)
			return true;
	}
	return false;
}

void store_listed(struct store *s, struct store_listed *listed)
{
	store_lock(s);
	const struct snapshots *l = &s->trees.snapshots, *marks = &s->trees.bookmarks;
	*listed = (struct store_listed){.list = l->pairs,
					.clones = snap_clones(s, NULL),
					.bookmarks = marks->count,
					.turned = l->turn,
					.of_clones = any_of_clones(l) || any_of_clones(marks)};
	store_unlock(s);
}
