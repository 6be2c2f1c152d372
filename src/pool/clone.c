/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clones by name: a further volume of a partition, which began as a snapshot of it. What they are is the store's
 * matter (store/snap.h); here they are listed, made and destroyed. Their names: clonename.c.
 *
 * Who makes or destroys clones of a partition has its snapshots for itself, too (snapshot_work). Before its first
 * clone a partition's page says that it has some, so that a version that does not know them leaves it alone.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/words.h"
#include "pool/core.h"

static void describe(const struct part *part, const struct store_clone *c, struct lcpfs_clone_info *info)
{
	*info = (struct lcpfs_clone_info){.created_s = c->created_s,
					  .volume_bytes = c->volume_blocks * BLOCK_SIZE,
					  .clients = part_readers(part, c->number)};
	memcpy(info->name, c->name, sizeof(info->name));
	memcpy(info->partition, part->name, sizeof(info->partition));
	snapshot_print_name(part, c->origin, info->origin, sizeof(info->origin));
}

int lcpfs_clone_list(struct lcpfs_pool *pool, struct lcpfs_clone_info *infos, size_t room, size_t *count)
{
	struct store_clone list[STORE_CLONES_MAX];
	*count = 0;
	pthread_mutex_lock(&pool->lock);
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		const struct part *part = pool->parts[slot];
		unsigned found = part && part->store ? clone_list_all(part, list) : 0;
		for (unsigned i = 0; i < found; i++, ++*count) {
			if (*count < room)
				describe(part, &list[i], &infos[*count]);
		}
	}
	pthread_mutex_unlock(&pool->lock);
	return 0;
}

int lcpfs_clone_used(struct lcpfs_pool *pool, const char *name, uint64_t *blocks, struct lcpfs_failure *failure)
{
	struct store_clone found;
	pthread_mutex_lock(&pool->lock);
	struct part *part = clone_find(pool, name, &found);
	if (part)
		part_hold(part);
	pthread_mutex_unlock(&pool->lock);
	if (!part)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no clone %.200s", name);
	int error = store_clone_used(part->store, found.number, blocks);
	part_let_go(part);
	return error ? failure_set(failure, (enum lcpfs_error) - error, "clone %s cannot be measured: %s", name,
				   lcpfs_error_sentence(error))
		     : 0;
}

/* -- making -- */

struct making {
	struct lcpfs_pool *pool;
	const char *snapshot, *name; /* NAME@SNAP; of the clone */
	bool dry_run;
	struct part *part;
	struct volume_name of;
	struct store_snapshot base;
	struct lcpfs_failure *failure;
};

static int find_base(struct making *m)
{
	const char *snapshot;
	size_t length = snapshot_split(m->snapshot, &snapshot);
	if (!snapshot)
		return failure_set(m->failure, LCPFS_E_INVALID, "%.200s names no snapshot: give NAME@SNAP",
				   m->snapshot);
	int error = snapshot_find_volume(m->pool, m->snapshot, length, &m->part, &m->of, m->failure);
	if (!error)
		error = receive_refuse(m->part, m->failure);
	return error ? error : snapshot_find(m->part, &m->of, snapshot, &m->base, m->failure);
}

static int check(struct making *m)
{
	int error = (m->dry_run ? txg_refuse_trying : txg_refuse)(m->pool, m->failure);
	if (!error)
		error = find_base(m);
	if (!error)
		error = part_check_name(m->pool, m->name, m->failure);
	if (!error && clone_count(m->part) >= STORE_CLONES_MAX)
		error = failure_set(m->failure, LCPFS_E_RANGE,
				    "partition %s has %d clones: there cannot be more of one", m->part->name,
				    STORE_CLONES_MAX);
	return error;
}

static int mark_page(struct making *m)
{
	uint32_t number = layout_partition_page(&m->pool->layout, m->part->slot);
	const struct fmt_partition *now = txg_current(m->pool, number);
	uint64_t features = le64_get(now->features.incompatible);
	struct txg txg;
	if (features & PARTITION_CLONES)
		return 0;
	txg_begin(m->pool, &txg);
	struct fmt_partition *page = txg_change(&txg, number);
	page->features.incompatible = le64_of(features | PARTITION_CLONES);
	return txg_commit(&txg, m->failure);
}

/* With the lock, which it lets go while others are at work. */
static int begin(struct making *m)
{
	int error = check(m);
	while (!error && (m->part->snapshot_work || m->pool->naming[0])) {
		pthread_cond_wait(&m->pool->changed, &m->pool->lock);
		error = check(m);
	}
	if (!error && !m->dry_run)
		error = mark_page(m);
	if (error)
		return error;
	snprintf(m->pool->naming, sizeof(m->pool->naming), "%s", m->name);
	m->part->snapshot_work = true;
	part_hold(m->part);
	return 0;
}

static void end(struct making *m)
{
	m->pool->naming[0] = '\0';
	m->part->snapshot_work = false;
	part_drop(m->part);
	pthread_cond_broadcast(&m->pool->changed);
}

int lcpfs_clone_create(struct lcpfs_pool *pool, const char *snapshot, const char *name, bool dry_run,
		       struct lcpfs_failure *failure)
{
	struct making m = {
		.pool = pool, .snapshot = snapshot, .name = name, .dry_run = dry_run, .failure = failure};
	pthread_mutex_lock(&pool->lock);
	int error = begin(&m);
	pthread_mutex_unlock(&pool->lock);
	if (error)
		return error;
	if (!dry_run)
		error = store_volume_clone(m.part->store, m.of.number, m.base.name, name,
					   pool->clock.wall_s(pool->clock.context));
	if (error)
		failure_set(failure, (enum lcpfs_error) - error, "clone %s of %.200s was not made: %s", name,
			    snapshot, lcpfs_error_sentence(error));
	pthread_mutex_lock(&pool->lock);
	if (!error && !dry_run)
		history_note(pool, LCPFS_EVENT_CLONED, LCPFS_ENGINE_FREE, m.part->id, 0, "%s, of %s@%s", name,
			     m.of.name, m.base.name);
	end(&m);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

/* -- what they are asked for by their names -- */

static int refuse_none(const struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure)
{
	if (part_named(pool, name))
		return failure_set(failure, LCPFS_E_INVALID,
				   "%s is a partition, and names no snapshot or clone: lcpfs remove removes it",
				   name);
	return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no clone %.200s", name);
}

/* -- another name, and a longer volume -- */

struct changing {
	struct lcpfs_pool *pool;
	const char *name, *new_name; /* new_name NULL: it gets longer */
	uint64_t volume_blocks;
	bool dry_run;
	struct part *part;
	struct store_clone clone;
	struct lcpfs_failure *failure;
};

static int check_new_name(const struct changing *c)
{
	uint32_t clients = part_readers(c->part, c->clone.number);
	if (!clients)
		return part_check_name(c->pool, c->new_name, c->failure);
	return failure_set(c->failure, LCPFS_E_BUSY,
			   "clone %s is in use by %" PRIu32 " client%s, who would lose its name; disconnect first",
			   c->name, clients, clients == 1 ? "" : "s");
}

static int check_new_length(const struct changing *c)
{
	if (c->volume_blocks < c->clone.volume_blocks)
		return failure_set(c->failure, LCPFS_E_INVALID, "clone %s: a clone does not get shorter", c->name);
	if (c->volume_blocks > STORE_VOLUME_BLOCKS_MAX)
		return failure_set(c->failure, LCPFS_E_RANGE, "clone %s: no volume can be that long", c->name);
	return 0;
}

static int check_change(struct changing *c)
{
	int error = (c->dry_run ? txg_refuse_trying : txg_refuse)(c->pool, c->failure);
	if (error)
		return error;
	c->part = clone_find(c->pool, c->name, &c->clone);
	if (!c->part)
		return refuse_none(c->pool, c->name, c->failure);
	return c->new_name ? check_new_name(c) : check_new_length(c);
}

/* Lets the lock go while others are at work. */
static int begin_change(struct changing *c)
{
	int error = check_change(c);
	while (!error && (c->part->snapshot_work || c->pool->naming[0])) {
		pthread_cond_wait(&c->pool->changed, &c->pool->lock);
		error = check_change(c);
	}
	if (!error && c->new_name && !c->dry_run)
		error = clone_end_promotion(c->part, c->failure);
	if (error || c->dry_run)
		return error;
	snprintf(c->pool->naming, sizeof(c->pool->naming), "%s", c->new_name ? c->new_name : c->name);
	c->part->snapshot_work = true;
	part_hold(c->part);
	return 0;
}

static void note_change(const struct changing *c)
{
	char was[WORDS_ROOM], is[WORDS_ROOM];
	if (c->new_name)
		history_note(c->pool, LCPFS_EVENT_RENAMED, LCPFS_ENGINE_FREE, c->part->id, 0, "clone %s, once %s",
			     c->new_name, c->name);
	else
		history_note(c->pool, LCPFS_EVENT_CHANGED, LCPFS_ENGINE_FREE, c->part->id, 0,
			     "clone %s: volume %s → %s", c->name,
			     words_blocks(was, (double)c->clone.volume_blocks),
			     words_blocks(is, (double)c->volume_blocks));
}

static int change(struct changing *c)
{
	pthread_mutex_lock(&c->pool->lock);
	int error = begin_change(c);
	pthread_mutex_unlock(&c->pool->lock);
	if (error || c->dry_run)
		return error;
	error = c->new_name ? store_clone_rename(c->part->store, c->name, c->new_name)
			    : store_clone_grow(c->part->store, c->name, c->volume_blocks);
	if (error)
		failure_set(c->failure, (enum lcpfs_error) - error, "clone %s was not %s: %s", c->name,
			    c->new_name ? "renamed" : "made longer", lcpfs_error_sentence(error));
	pthread_mutex_lock(&c->pool->lock);
	if (!error)
		note_change(c);
	c->pool->naming[0] = '\0';
	c->part->snapshot_work = false;
	part_drop(c->part);
	pthread_cond_broadcast(&c->pool->changed);
	pthread_mutex_unlock(&c->pool->lock);
	return error;
}

int lcpfs_clone_rename(struct lcpfs_pool *pool, const char *name, const char *new_name, bool dry_run,
		       struct lcpfs_failure *failure)
{
	struct changing c = {
		.pool = pool, .name = name, .new_name = new_name, .dry_run = dry_run, .failure = failure};
	return change(&c);
}

int lcpfs_clone_grow(struct lcpfs_pool *pool, const char *name, uint64_t volume_bytes, bool dry_run,
		     struct lcpfs_failure *failure)
{
	struct changing c = {.pool = pool,
			     .name = name,
			     .volume_blocks = size_divide_up(volume_bytes, BLOCK_SIZE),
			     .dry_run = dry_run,
			     .failure = failure};
	return change(&c);
}

/* -- destroying -- */

/* With the lock: it is there, and nobody has it open. */
static int check_unused(const struct lcpfs_pool *pool, const char *name, struct part **part,
			struct store_clone *found, struct lcpfs_failure *failure)
{
	*part = clone_find(pool, name, found);
	if (!*part)
		return refuse_none(pool, name, failure);
	uint32_t clients = part_readers(*part, found->number),
		 snapshots = store_volume_snapshots((*part)->store, found->number, NULL, 0);
	if (!clients && snapshots)
		return failure_set(
			failure, LCPFS_E_NOT_EMPTY,
			"clone %s has %" PRIu32 " snapshot%s; destroy %s first, with lcpfs destroy POOL %s@%%",
			name, snapshots, snapshots == 1 ? "" : "s", snapshots == 1 ? "it" : "them", name);
	if (!clients)
		return 0;
	return failure_set(failure, LCPFS_E_BUSY,
			   "clone %s is in use by %" PRIu32 " client%s; disconnect %s first", name, clients,
			   clients == 1 ? "" : "s", clients == 1 ? "it" : "them");
}

static int begin_destroy(struct lcpfs_pool *pool, const char *name, struct part **part,
			 struct lcpfs_failure *failure)
{
	struct store_clone found;
	int error = check_unused(pool, name, part, &found, failure);
	while (!error && (*part)->snapshot_work) {
		pthread_cond_wait(&pool->changed, &pool->lock);
		error = check_unused(pool, name, part, &found, failure);
	}
	if (!error)
		error = clone_end_promotion(*part, failure);
	if (error)
		return error;
	(*part)->snapshot_work = true;
	(*part)->doomed = found.number;
	part_hold(*part);
	return 0;
}

/* What it had is given back by the background; in a pool without, before it returns. */
static void give_back(struct store *store)
{
	while (store_snapshots_pending(store) && store_step(store) > 0)
		;
}

static int destroy_one(struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure)
{
	struct part *part;
	pthread_mutex_lock(&pool->lock);
	int error = begin_destroy(pool, name, &part, failure);
	pthread_mutex_unlock(&pool->lock);
	if (error)
		return error;
	error = store_clone_destroy(part->store, name);
	if (error)
		failure_set(failure, (enum lcpfs_error) - error, "clone %s was not destroyed: %s", name,
			    lcpfs_error_sentence(error));
	else if (!pool->options.background)
		give_back(part->store);
	pthread_mutex_lock(&pool->lock);
	if (!error)
		history_note(pool, LCPFS_EVENT_DESTROYED, LCPFS_ENGINE_FREE, part->id, 0, "clone %s", name);
	part->doomed = 0;
	part->snapshot_work = false;
	part_drop(part);
	pthread_cond_broadcast(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

static int check_all(struct lcpfs_pool *pool, const char *const *names, size_t count, bool dry_run,
		     struct lcpfs_failure *failure)
{
	struct store_clone found;
	struct part *part;
	int error = (dry_run ? txg_refuse_trying : txg_refuse)(pool, failure);
	for (size_t i = 0; i < count && !error; i++) {
		error = check_unused(pool, names[i], &part, &found, failure);
		for (size_t j = 0; j < i && !error; j++) {
			if (strcmp(names[i], names[j]) == 0)
				error = failure_set(failure, LCPFS_E_INVALID, "%s is named twice", names[i]);
		}
	}
	return error;
}

int lcpfs_clone_destroy(struct lcpfs_pool *pool, const char *const *names, size_t count, bool dry_run,
			struct lcpfs_failure *failure)
{
	pthread_mutex_lock(&pool->lock);
	int error = check_all(pool, names, count, dry_run, failure);
	pthread_mutex_unlock(&pool->lock);
	for (size_t i = 0; i < count && !error && !dry_run; i++)
		error = destroy_one(pool, names[i], failure);
	return error;
}
