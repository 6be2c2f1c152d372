/* SPDX-License-Identifier: Apache-2.0 */
/* What users ask for of snapshots: see snap.h. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/back.h"
#include "store/checkpoint.h"
#include "store/log.h"
#include "store/room.h"
#include "store/snap.h"
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
	const char *name;
	uint64_t created_s, guid;
	bool soon;        /* durable with the next flush, which the caller does */
	const char *base; /* of a clone: the snapshot */
	const char *new_name;
};

typedef int change_fn(struct store *s, const struct naming *n);

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

static struct snapshot *head_now(const struct store *s, uint8_t state, const struct naming *naming)
{
	const struct volume *head = &s->trees.volume[VOLUME_HEAD];
	const struct snapshot *before = snap_before_head(s);
	struct snapshot *n = calloc(1, sizeof(*n));
	if (!n)
		return NULL;
	n->number = s->checkpoint.birth + SNAPSHOT_FIRST;
	n->state = state;
	n->created_s = naming->created_s;
	n->guid = naming->guid;
	n->volume.root = head->root;
	n->volume.levels = n->volume.placed_levels = head->levels;
	n->volume.blocks = head->blocks;
	n->volume.birth = s->checkpoint.birth;
	n->volume.origin = state == SNAPSHOT_LEFT ? before->number : 0;
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
	return add(s, head_now(s, SNAPSHOT_ALIVE, naming), NULL);
}

static int take_once(struct store *s, const struct naming *naming)
{
	pthread_mutex_lock(&s->work);
	store_lock(s);
	int error = snap_find(s, naming->name) ? -LCPFS_E_EXISTS : change_still(s, take, naming);
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

static int with_room(struct store *s, change_fn *once, const struct naming *naming)
{
	int error = once(s, naming);
	for (unsigned tries = 0; error == -LCPFS_E_NOSPC && tries < TRIES_MAX; tries++) {
		store_lock(s);
		error = work_wait(s, USER_WRITE, LIST_BLOCKS); /* the pool may give it some */
		store_unlock(s);
		if (!error)
			error = once(s, naming);
	}
	return error;
}

int store_snapshot_as(struct store *s, const char *name, uint64_t created_s, uint64_t guid)
{
	const struct naming naming = {name, created_s, guid};
	if (s->config.read_only || !store_snapshot_is_name(name))
		return s->config.read_only ? -LCPFS_E_READ_ONLY : -LCPFS_E_INVALID;
	return with_room(s, take_once, &naming);
}

int store_snapshot(struct store *s, const char *name, uint64_t created_s)
{
	return store_snapshot_as(s, name, created_s, 0);
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
	return add(s, clone_of(s, snap_find(s, naming->base), naming), NULL);
}

static int check_clone(struct store *s, const struct naming *naming)
{
	if (!snap_find(s, naming->base))
		return -LCPFS_E_NOT_FOUND;
	if (snap_find_clone(s, naming->name))
		return -LCPFS_E_EXISTS;
	return snap_clones(s, NULL) < CLONES_MAX ? 0 : -LCPFS_E_RANGE;
}

static int clone_once(struct store *s, const struct naming *naming)
{
	pthread_mutex_lock(&s->work);
	store_lock(s);
	int error = check_clone(s, naming);
	if (!error)
		error = change_still(s, make_clone, naming);
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

int store_clone(struct store *s, const char *snapshot, const char *name, uint64_t created_s)
{
	const struct naming naming = {.name = name, .created_s = created_s, .base = snapshot};
	if (s->config.read_only || !store_snapshot_is_name(name))
		return s->config.read_only ? -LCPFS_E_READ_ONLY : -LCPFS_E_INVALID;
	return with_room(s, clone_once, &naming);
}

static int end_clone(struct store *s, const struct naming *naming)
{
	return snap_end_clone(s, snap_find_clone(s, naming->name));
}

/* Who comes meanwhile does not find it any more. */
static int destroy_clone(struct store *s, const char *name)
{
	struct snapshot *n = snap_find_clone(s, name);
	if (!n)
		return -LCPFS_E_NOT_FOUND;
	if (n->clients)
		return -LCPFS_E_BUSY;
	n->ending = true;
	int error = change_still(s, end_clone, &(struct naming){.name = name});
	n->ending = n->state == SNAPSHOT_CLONE ? false : n->ending;
	return error;
}

int store_clone_destroy(struct store *s, const char *name)
{
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	pthread_mutex_lock(&s->work);
	store_lock(s);
	int error = destroy_clone(s, name);
	pthread_cond_signal(&s->wake);
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
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
	return snap_kill(s, snap_find(s, naming->name));
}

static int destroy_by_name(struct store *s, const char *name, bool flush)
{
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	pthread_mutex_lock(&s->work);
	store_lock(s);
	const struct snapshot *n = snap_find(s, name);
	int error = !n ? -LCPFS_E_NOT_FOUND : snap_clones(s, n) ? -LCPFS_E_CLONED : 0;
	if (!error)
		error = change_still(s, destroy, &(struct naming){.name = name, .soon = !flush});
	pthread_cond_signal(&s->wake);
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

int store_snapshot_destroy(struct store *s, const char *name)
{
	return destroy_by_name(s, name, true);
}

int store_snapshot_destroy_soon(struct store *s, const char *name)
{
	return destroy_by_name(s, name, false);
}

static int hold(struct store *s, const struct naming *naming)
{
	return snap_keep(s, snap_find(s, naming->name), true);
}

static int release(struct store *s, const struct naming *naming)
{
	return snap_keep(s, snap_find(s, naming->name), false);
}

int store_snapshot_hold(struct store *s, const char *name, bool held)
{
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	pthread_mutex_lock(&s->work);
	store_lock(s);
	int error = -LCPFS_E_NOT_FOUND;
	if (snap_find(s, name))
		error = change_still(s, held ? hold : release, &(struct naming){.name = name});
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

static int rename_to(struct store *s, const struct naming *naming)
{
	return snap_rename(s, snap_find(s, naming->name), naming->new_name);
}

int store_snapshot_rename(struct store *s, const char *name, const char *new_name)
{
	if (s->config.read_only || !store_snapshot_is_name(new_name))
		return s->config.read_only ? -LCPFS_E_READ_ONLY : -LCPFS_E_INVALID;
	pthread_mutex_lock(&s->work);
	store_lock(s);
	int error = snap_find(s, new_name) ? -LCPFS_E_EXISTS : -LCPFS_E_NOT_FOUND;
	if (snap_find(s, name) && error == -LCPFS_E_NOT_FOUND)
		error = change_still(s, rename_to, &(struct naming){.name = name, .new_name = new_name});
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

/* Those that are DYING are between the youngest and the head. */
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
	return add(s, head_now(s, SNAPSHOT_LEFT, &(struct naming){.name = ""}), snap_find(s, naming->name));
}

/* -- bookmarks -- */

static int note_bookmark(struct store *s, const struct naming *naming)
{
	const struct snapshot *of = snap_find(s, naming->base);
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
	snprintf(n->name, sizeof(n->name), "%s", naming->name);
	return snap_bookmark(s, n);
}

int store_bookmark(struct store *s, const char *snapshot, const char *name)
{
	if (s->config.read_only || !store_snapshot_is_name(name))
		return s->config.read_only ? -LCPFS_E_READ_ONLY : -LCPFS_E_INVALID;
	pthread_mutex_lock(&s->work);
	store_lock(s);
	int error = snap_find_bookmark(s, name) ? -LCPFS_E_EXISTS : -LCPFS_E_NOT_FOUND;
	if (error == -LCPFS_E_NOT_FOUND && snap_find(s, snapshot))
		error = change_still(s, note_bookmark, &(struct naming){.name = name, .base = snapshot});
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

static int forget_bookmark(struct store *s, const struct naming *naming)
{
	return snap_forget_bookmark(s, snap_find_bookmark(s, naming->name));
}

int store_bookmark_destroy(struct store *s, const char *name)
{
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	pthread_mutex_lock(&s->work);
	store_lock(s);
	int error = -LCPFS_E_NOT_FOUND;
	if (snap_find_bookmark(s, name))
		error = change_still(s, forget_bookmark, &(struct naming){.name = name});
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

/* Going back behind them ends them. */
static int forget_younger(struct store *s, const struct snapshot *to)
{
	struct snapshot *n;
	int error = 0;
	while (!error && (n = snap_younger_bookmark(s, to)))
		error = change_still(s, forget_bookmark, &(struct naming){.name = n->name, .soon = true});
	return error;
}

static int roll_back(struct store *s, const char *name)
{
	const struct snapshot *to = snap_find(s, name);
	if (!to)
		return -LCPFS_E_NOT_FOUND;
	if (to != snap_youngest(s))
		return -LCPFS_E_EXISTS;
	int error = finish_dying(s);
	if (!error && snap_before_head(s) != to)
		error = -LCPFS_E_BUSY; /* somebody still reads one */
	if (!error)
		error = forget_younger(s, to);
	return error ? error : change_still(s, back, &(struct naming){.name = name});
}

/* `base`: what the clone is called now. */
static int exchange(struct store *s, const struct naming *naming)
{
	return snap_promote(s, snap_find_clone(s, naming->base), naming->name);
}

static int check_promote(struct store *s, const struct snapshot *n, const struct naming *naming)
{
	const struct snapshot *other = snap_find_clone(s, naming->name), *youngest = snap_youngest(s);
	if (n->clients)
		return -LCPFS_E_BUSY;
	if ((other && other != n) || !youngest || youngest->number != n->volume.origin ||
	    snap_younger_bookmark(s, youngest))
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
	if (!error && snap_before_head(s)->number != n->volume.origin)
		error = -LCPFS_E_BUSY; /* somebody still reads one */
	if (!error)
		error = change_still(s, exchange, naming);
	n->ending = false;
	return error;
}

int store_promote(struct store *s, const char *clone, const char *name)
{
	if (s->config.read_only || !store_snapshot_is_name(name))
		return s->config.read_only ? -LCPFS_E_READ_ONLY : -LCPFS_E_INVALID;
	pthread_mutex_lock(&s->work);
	store_lock(s);
	int error = promote(s, &(struct naming){.name = name, .base = clone});
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

int store_rollback(struct store *s, const char *name)
{
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	pthread_mutex_lock(&s->work);
	store_lock(s);
	int error = roll_back(s, name);
	pthread_cond_signal(&s->wake);
	store_unlock(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

static struct store_snapshot described(const struct snapshot *n)
{
	struct store_snapshot d = {.number = n->number,
				   .created_s = n->created_s,
				   .guid = n->guid,
				   .volume_blocks = n->volume.blocks,
				   .held = n->held};
	memcpy(d.name, n->name, sizeof(n->name));
	return d;
}

unsigned store_snapshots(struct store *s, struct store_snapshot *list, unsigned room)
{
	const struct snapshots *l = &s->trees.snapshots;
	unsigned count = 0;
	store_lock(s);
	for (unsigned i = 0; i < l->count; i++) {
		const struct snapshot *n = l->list[i];
		if (n->state != SNAPSHOT_ALIVE)
			continue;
		if (count < room)
			list[count] = described(n);
		count++;
	}
	store_unlock(s);
	return count;
}

unsigned store_bookmarks(struct store *s, struct store_snapshot *list, unsigned room)
{
	const struct snapshots *b = &s->trees.bookmarks;
	store_lock(s);
	unsigned count = b->count;
	for (unsigned i = 0; i < MIN_OF(count, room); i++)
		list[i] = described(b->list[i]);
	store_unlock(s);
	return count;
}

bool store_bookmark_find(struct store *s, const char *name, struct store_snapshot *found)
{
	store_lock(s);
	const struct snapshot *n = snap_find_bookmark(s, name);
	if (n)
		*found = described(n);
	store_unlock(s);
	return n;
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

bool store_snapshot_find(struct store *s, const char *name, struct store_snapshot *found)
{
	store_lock(s);
	const struct snapshot *n = snap_find(s, name);
	if (n)
		*found = described(n);
	store_unlock(s);
	return n;
}
