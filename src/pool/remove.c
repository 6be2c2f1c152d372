/* SPDX-License-Identifier: Apache-2.0 */
/* Removing a partition: first the transaction, then the store is dropped in memory. */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/words.h"
#include "pool/core.h"

enum { WISH_US = 20000 };

/* Does who asked for the removal still want it? It may have given up meanwhile. */
static int check_wish(const struct pool_removal *how, struct lcpfs_failure *failure)
{
	if (!how->wanted || how->wanted(how->context, 0, 0))
		return 0;
	return failure_set(failure, LCPFS_E_STOPPED, "given up: nothing was removed");
}

/* With the lock, which it lets go meanwhile. Until moves and scrubs under way are done with it. */
static int await_unused(struct part *part, const struct pool_removal *how, struct lcpfs_failure *failure)
{
	struct timespec pause = {.tv_nsec = WISH_US * 1000};
	struct lcpfs_pool *pool = part->pool;
	int error = 0;
	while (part->users && !error) {
		if (!how->wanted) {
			pthread_cond_wait(&pool->changed, &pool->lock);
			continue;
		}
		pthread_mutex_unlock(&pool->lock);
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&pool->lock);
		error = check_wish(how, failure);
	}
	return error;
}

static int check_empty(const struct part *part, const struct lcpfs_partition_info *info,
		       struct lcpfs_failure *failure)
{
	char data[WORDS_ROOM], snapshots[200], clones[100];
	if (info->faulted)
		return failure_set(failure, LCPFS_E_NOT_EMPTY,
				   "partition %s is faulted, and may hold data; --force removes it all the same",
				   part->name);
	words_blocks(data, (double)info->data_blocks);
	if (info->clones) {
		clone_print_some(part, 0, clones, sizeof(clones));
		return failure_set(failure, LCPFS_E_NOT_EMPTY,
				   "partition %s has %" PRIu64 " clone%s (%s) and holds %s of data; --force "
				   "removes it with all of them, and with its snapshots",
				   part->name, info->clones, info->clones == 1 ? "" : "s", clones, data);
	}
	if (info->snapshots) {
		snapshot_print_some(part, snapshots, sizeof(snapshots));
		return failure_set(failure, LCPFS_E_NOT_EMPTY,
				   "partition %s has %" PRIu64
				   " snapshot%s (%s) and holds %s of data; --force removes "
				   "it with all of them",
				   part->name, info->snapshots, info->snapshots == 1 ? "" : "s", snapshots, data);
	}
	if (!info->data_blocks)
		return 0;
	return failure_set(failure, LCPFS_E_NOT_EMPTY,
			   "partition %s holds %s of data; --force removes it all the same", part->name, data);
}

/* What can be told without doing anything. */
static int check_removal(struct part *part, const struct pool_removal *how,
			 const struct lcpfs_partition_info *info, struct lcpfs_failure *failure)
{
	if (part->clients)
		return failure_set(failure, LCPFS_E_BUSY,
				   "partition %s is in use by %" PRIu32 " client%s; disconnect "
				   "%s first",
				   part->name, part->clients, part->clients == 1 ? "" : "s",
				   part->clients == 1 ? "it" : "them");
	if (part->removing)
		return failure_set(failure, LCPFS_E_BUSY, "partition %s is being removed already", part->name);
	int error = part->store ? snapshot_refuse_held(part, failure) : 0;
	return !error && how->only_empty ? check_empty(part, info, failure) : error;
}

/* With the lock. From here on no client gets in, so an empty one stays so. */
static int begin_removing(struct part *part, const struct pool_removal *how, struct lcpfs_partition_info *info,
			  struct lcpfs_failure *failure)
{
	info_of_part(info, part);
	int error = check_removal(part, how, info, failure);
	if (error || how->dry_run)
		return error;
	part->removing = true;
	error = await_unused(part, how, failure);
	if (!error && part->store) /* who was waited for may have held one */
		error = snapshot_refuse_held(part, failure);
	part->removing = !error;
	return error;
}

static int commit_removal(struct part *part, const uint32_t *metaslabs, uint32_t count,
			  struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = part->pool;
	uint32_t events = pool->pending.count;
	char size[WORDS_ROOM];
	struct txg txg;
	history_note(pool, LCPFS_EVENT_REMOVED, part->id, LCPFS_ENGINE_FREE, count, "%s, whose %s are free now",
		     part->name, words_blocks(size, (double)count * pool->layout.metaslab_blocks));
	txg_begin(pool, &txg);
	memset(txg_change(&txg, layout_partition_page(&pool->layout, part->slot)), 0, BLOCK_SIZE);
	for (uint32_t i = 0; i < count; i++)
		map_set(&txg, metaslabs[i], NO_PARTITION);
	int error = txg_commit(&txg, failure);
	if (error) {
		pool->pending.count = MIN_OF(pool->pending.count, events);
		return error;
	}
	for (uint32_t i = 0; i < count; i++)
		pool->blocked[metaslabs[i]] = 1;
	pool->blocked_count += count;
	return 0;
}

/* With the lock; nothing works on the store any more. */
static int remove_quiet(struct part *part, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = part->pool;
	uint32_t *metaslabs = part_list_metaslabs(part);
	if (!metaslabs)
		return failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	int error = commit_removal(part, metaslabs, part->metaslabs, failure);
	free(metaslabs);
	if (error)
		return error;
	pool->parts[part->slot] = NULL;
	lcpfs_engine_remove(pool->engine, part->id);
	if (part->store)
		store_abandon(part->store);
	pool->cache_left += part->cache_bytes;
	part->store = NULL;
	part_free(part);
	return 0;
}

/* With the lock: *part is marked as being removed, if it is more than a dry run. */
static int find_to_remove(struct lcpfs_pool *pool, const char *name, const struct pool_removal *how,
			  struct part **part, struct lcpfs_partition_info *info, struct lcpfs_failure *failure)
{
	int error = (how->dry_run ? txg_refuse_trying : txg_refuse)(pool, failure);
	if (error)
		return error;
	struct store_clone clone;
	*part = part_named(pool, name);
	if (!*part && clone_find(pool, name, &clone))
		return failure_set(failure, LCPFS_E_INVALID,
				   "%s is a clone, and no partition: lcpfs destroy destroys it", name);
	if (!*part)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no partition %s", name);
	return begin_removing(*part, how, info, failure);
}

static int remove_begun(struct part *part, const struct pool_removal *how, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = part->pool;
	part_stop_service(part); /* not under the lock: it may be waiting for space */
	pthread_mutex_lock(&pool->lock);
	int error = check_wish(how, failure); /* the last moment */
	if (!error)
		error = remove_quiet(part, failure);
	if (error) {
		part->removing = false;
		part_start_service(part);
	}
	pthread_mutex_unlock(&pool->lock);
	if (!error && !pool->options.background)
		map_discard(pool, UINT32_MAX);
	return error;
}

int pool_remove(struct lcpfs_pool *pool, const char *name, const struct pool_removal *how,
		struct lcpfs_partition_info *info, struct lcpfs_failure *failure)
{
	struct lcpfs_partition_info unasked;
	struct part *part;
	pthread_mutex_lock(&pool->lock);
	int error = find_to_remove(pool, name, how, &part, info ? info : &unasked, failure);
	pthread_mutex_unlock(&pool->lock);
	return error || how->dry_run ? error : remove_begun(part, how, failure);
}

int lcpfs_partition_remove(struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure)
{
	return pool_remove(pool, name, &(struct pool_removal){.only_empty = false}, NULL, failure);
}
