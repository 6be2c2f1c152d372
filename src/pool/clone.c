/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clones by name: a further volume of a partition, which began as a snapshot of it. What they are is the store's
 * matter (store/snap.h); here they have names among those of partitions, and are opened, made and destroyed.
 *
 * A name is a partition's or a clone's. A clone is made without the pool's lock; until it is there its name is
 * reserved (pool->naming), one at a time. Of a partition that is faulted nobody knows the clones: so a name may
 * come to be there twice, and then it is the partition's, or of the clone that is found first.
 *
 * Who makes or destroys clones of a partition has its snapshots for itself, too (snapshot_work). Before its first
 * clone a partition's page says that it has some, so that a version that does not know them leaves it alone.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/core.h"

struct part *clone_find(const struct lcpfs_pool *pool, const char *name, struct store_clone *found)
{
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		struct part *part = pool->parts[slot];
		if (part && part->store && !part->removing && store_clone_find(part->store, name, found))
			return part;
	}
	return NULL;
}

int clone_refuse_name(const struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure)
{
	struct store_clone found;
	const struct part *part = clone_find(pool, name, &found);
	if (part)
		return failure_set(failure, LCPFS_E_EXISTS, "there is a clone %s already, in partition %s", name,
				   part->name);
	if (strcmp(pool->naming, name) == 0)
		return failure_set(failure, LCPFS_E_EXISTS, "a clone %s is being made", name);
	return 0;
}

/* -- lists: with the lock -- */

unsigned clone_count(const struct part *part)
{
	return store_clones(part->store, NULL, 0);
}

static unsigned list_all(const struct part *part, struct store_clone list[STORE_CLONES_MAX])
{
	return MIN_OF(store_clones(part->store, list, STORE_CLONES_MAX), (unsigned)STORE_CLONES_MAX);
}

bool clone_has_origin(const struct part *part, uint32_t number)
{
	struct store_clone list[STORE_CLONES_MAX];
	unsigned count = list_all(part, list);
	for (unsigned i = 0; i < count; i++) {
		if (list[i].origin == number)
			return true;
	}
	return false;
}

void clone_print_some(const struct part *part, uint32_t origin, char *text, size_t room)
{
	struct store_clone list[STORE_CLONES_MAX];
	unsigned count = list_all(part, list), printed = 0;
	size_t length = 0;
	text[0] = '\0';
	for (unsigned i = 0; i < count; i++) {
		if (origin && list[i].origin != origin)
			continue;
		if (length + 2 + strlen(list[i].name) + sizeof(" and more") > room) {
			snprintf(text + length, room - length, " and more");
			return;
		}
		length += (size_t)snprintf(text + length, room - length, "%s%s", printed++ ? ", " : "",
					   list[i].name);
	}
}

/* "" where it cannot be told: there is no such snapshot any more. */
static void print_origin(const struct part *part, uint32_t number, char *text, size_t room)
{
	unsigned count = store_snapshots(part->store, NULL, 0);
	struct store_snapshot *list = calloc(count + 1, sizeof(*list));
	count = list ? MIN_OF(store_snapshots(part->store, list, count), count) : 0;
	text[0] = '\0';
	for (unsigned i = 0; i < count; i++) {
		if (list[i].number == number)
			snprintf(text, room, "%s@%s", part->name, list[i].name);
	}
	free(list);
}

static void describe(const struct part *part, const struct store_clone *c, struct lcpfs_clone_info *info)
{
	*info = (struct lcpfs_clone_info){.created_s = c->created_s,
					  .volume_bytes = c->volume_blocks * BLOCK_SIZE,
					  .clients = volume_readers(part, c->number)};
	memcpy(info->name, c->name, sizeof(info->name));
	memcpy(info->partition, part->name, sizeof(info->partition));
	print_origin(part, c->origin, info->origin, sizeof(info->origin));
}

int lcpfs_clone_list(struct lcpfs_pool *pool, struct lcpfs_clone_info *infos, size_t room, size_t *count)
{
	struct store_clone list[STORE_CLONES_MAX];
	*count = 0;
	pthread_mutex_lock(&pool->lock);
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		const struct part *part = pool->parts[slot];
		unsigned found = part && part->store ? list_all(part, list) : 0;
		for (unsigned i = 0; i < found; i++, ++*count) {
			if (*count < room)
				describe(part, &list[i], &infos[*count]);
		}
	}
	pthread_mutex_unlock(&pool->lock);
	return 0;
}

/* -- making -- */

struct making {
	struct lcpfs_pool *pool;
	const char *snapshot, *name; /* NAME@SNAP; of the clone */
	bool dry_run;
	struct part *part;
	struct store_snapshot base;
	struct lcpfs_failure *failure;
};

static int find_base(struct making *m)
{
	char of[LCPFS_NAME_MAX + 1] = "";
	const char *snapshot;
	size_t length = snapshot_split(m->snapshot, &snapshot);
	if (!snapshot)
		return failure_set(m->failure, LCPFS_E_INVALID, "%.200s names no snapshot: give NAME@SNAP",
				   m->snapshot);
	if (length < sizeof(of))
		memcpy(of, m->snapshot, length);
	m->part = part_named(m->pool, of);
	if (!m->part)
		return failure_set(m->failure, LCPFS_E_NOT_FOUND, "there is no partition %.*s",
				   (int)MIN_OF(length, (size_t)200), m->snapshot);
	int error = part_refuse(m->part, m->failure);
	if (!error)
		error = receive_refuse(m->part, m->failure);
	return error ? error : snapshot_find(m->part, snapshot, &m->base, m->failure);
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
		error = store_clone(m.part->store, m.base.name, name, pool->clock.wall_s(pool->clock.context));
	if (error)
		failure_set(failure, (enum lcpfs_error) - error, "clone %s of %.200s was not made: %s", name,
			    snapshot, lcpfs_error_sentence(error));
	pthread_mutex_lock(&pool->lock);
	if (!error && !dry_run)
		history_note(pool, LCPFS_EVENT_CLONED, LCPFS_ENGINE_FREE, m.part->id, 0, "%s, of %s@%s", name,
			     m.part->name, m.base.name);
	end(&m);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

/* -- destroying -- */

static int refuse_none(const struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure)
{
	if (part_named(pool, name))
		return failure_set(failure, LCPFS_E_INVALID,
				   "%s is a partition, and names no snapshot or clone: lcpfs remove removes it",
				   name);
	return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no clone %.200s", name);
}

/* With the lock: it is there, and nobody has it open. */
static int check_unused(const struct lcpfs_pool *pool, const char *name, struct part **part,
			struct store_clone *found, struct lcpfs_failure *failure)
{
	*part = clone_find(pool, name, found);
	if (!*part)
		return refuse_none(pool, name, failure);
	uint32_t clients = volume_readers(*part, found->number);
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
