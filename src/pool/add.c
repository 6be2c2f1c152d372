/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Adding a partition, and what a partition may be.
 *
 * The new store's roots are written first, into root slots and metaslabs that nobody owns; then one transaction
 * makes the partition known. A crash in between leaves at most unused roots behind, which carry an id that is
 * never given out again.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/words.h"
#include "pool/core.h"

static int check_order(uint64_t min_bytes, uint64_t max_bytes, uint64_t size_bytes, struct lcpfs_failure *failure)
{
	if (min_bytes > max_bytes)
		return failure_set(failure, LCPFS_E_INVALID, "min is larger than max");
	if (size_bytes < min_bytes || size_bytes > max_bytes)
		return failure_set(failure, LCPFS_E_INVALID, "size is not between min and max");
	return 0;
}

int part_check_volume(const struct part_plan *plan, struct lcpfs_failure *failure)
{
	uint64_t blocks = size_divide_up(plan->volume_bytes, BLOCK_SIZE);
	char volume[WORDS_ROOM], max[WORDS_ROOM];
	if (blocks > STORE_VOLUME_BLOCKS_MAX)
		return failure_set(failure, LCPFS_E_INVALID, "the volume is too large: it can have up to 4 PiB");
	if (blocks <= plan->max_data_blocks || plan->may_be_thin)
		return 0;
	return failure_set(
		failure, LCPFS_E_INVALID,
		"a volume of %s cannot be filled with a max of %s: give a max that is as large, or --thin "
		"if that is meant",
		words_blocks(volume, (double)blocks), words_blocks(max, (double)plan->max_data_blocks));
}

/* Sizes of user data. */
static int plan_of_data(const struct lcpfs_pool *pool, const struct lcpfs_partition_spec *spec,
			struct part_plan *plan, struct lcpfs_failure *failure)
{
	uint64_t size_bytes = spec->size_bytes ? spec->size_bytes : spec->min_bytes;
	int error = check_order(spec->min_bytes, spec->max_bytes, size_bytes, failure);
	*plan = (struct part_plan){
		.min_data_blocks = size_divide_up(spec->min_bytes, BLOCK_SIZE),
		.max_data_blocks = size_divide_up(spec->max_bytes, BLOCK_SIZE),
		.volume_bytes = spec->volume_bytes ? spec->volume_bytes : spec->max_bytes,
		.when_full_wait_s = spec->when_full_wait_s,
		.may_be_thin = spec->thin,
	};
	if (!error && !plan->volume_bytes)
		error = failure_set(failure, LCPFS_E_INVALID, "min and max are missing");
	if (!error && spec->when_full_wait_s > LCPFS_WAIT_S_MAX)
		error = failure_set(failure, LCPFS_E_INVALID, "a writer can wait for room for up to a day");
	if (!error)
		error = part_check_volume(plan, failure);
	plan->min = size_for_data(pool, plan->min_data_blocks);
	plan->max = size_for_data(pool, plan->max_data_blocks);
	plan->size = size_for_data(pool, size_divide_up(size_bytes, BLOCK_SIZE));
	return error;
}

static int refuse_small_min(const struct lcpfs_pool *pool, struct lcpfs_failure *failure)
{
	uint64_t least = (uint64_t)STORE_METASLABS_MIN * pool->layout.metaslab_blocks * BLOCK_SIZE >> 20;
	return failure_set(failure, LCPFS_E_INVALID,
			   "min is too small: a partition of this pool has at least %" PRIu64 "M (%d metaslabs)",
			   least, STORE_METASLABS_MIN);
}

/* Sizes of space. */
static int plan_of_space(const struct lcpfs_pool *pool, const struct lcpfs_partition_spec *spec,
			 struct part_plan *plan, struct lcpfs_failure *failure)
{
	uint64_t metaslab_bytes = (uint64_t)pool->layout.metaslab_blocks * BLOCK_SIZE;
	uint64_t size_bytes = spec->size_bytes ? spec->size_bytes : spec->min_bytes;
	int error = check_order(spec->min_bytes, spec->max_bytes, size_bytes, failure);
	if (error)
		return error;
	*plan = (struct part_plan){
		.min = size_divide_up(spec->min_bytes, metaslab_bytes),
		.max = spec->max_bytes / metaslab_bytes,
		.size = size_divide_up(size_bytes, metaslab_bytes),
		.when_full_wait_s = spec->when_full_wait_s,
		.may_be_thin = spec->thin,
	};
	if (plan->min < STORE_METASLABS_MIN)
		return refuse_small_min(pool, failure);
	if (plan->min > plan->max)
		return failure_set(failure, LCPFS_E_INVALID,
				   "max is below min when both are whole metaslabs of %" PRIu64 "M",
				   metaslab_bytes >> 20);
	plan->size = MIN_OF(plan->size, plan->max);
	plan->min_data_blocks = size_data_in(pool, plan->min);
	plan->max_data_blocks = size_data_in(pool, plan->max);
	plan->volume_bytes = spec->volume_bytes ? spec->volume_bytes
			     : spec->thin       ? spec->max_bytes
						: plan->max_data_blocks * BLOCK_SIZE;
	return part_check_volume(plan, failure);
}

static int free_slot(const struct lcpfs_pool *pool, uint32_t *slot, struct lcpfs_failure *failure)
{
	for (*slot = 0; *slot < pool->layout.partition_slots; ++*slot) {
		if (!pool->parts[*slot] && !pool->lost[layout_partition_page(&pool->layout, *slot)])
			return 0;
	}
	return failure_set(failure, LCPFS_E_NOSPC, "the pool has all the %" PRIu32 " partitions that it can have",
			   pool->layout.partition_slots);
}

int part_check_min_sum(const struct lcpfs_pool *pool, uint64_t min, const struct part *but,
		       struct lcpfs_failure *failure)
{
	uint64_t sum = 0, total = layout_pool_blocks(&pool->layout);
	uint32_t metaslab_blocks = pool->layout.metaslab_blocks;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (pool->parts[slot] && pool->parts[slot] != but)
			sum += MIN_OF(pool->parts[slot]->min_blocks, total);
	}
	if (min <= total / metaslab_blocks && sum + min * metaslab_blocks <= total)
		return 0;
	return failure_set(
		failure, LCPFS_E_NOSPC,
		"the min of all partitions would add up to more than the pool: there is room left for a "
		"min of %" PRIu64 "M",
		size_data_in(pool, (total - MIN_OF(sum, total)) / metaslab_blocks) * BLOCK_SIZE >> 20);
}

static int check_free(const struct lcpfs_pool *pool, struct part_plan *plan, struct lcpfs_failure *failure)
{
	uint64_t metaslab_bytes = (uint64_t)pool->layout.metaslab_blocks * BLOCK_SIZE;
	plan->missing = plan->size - MIN_OF(plan->size, (uint64_t)map_available(pool));
	if (!plan->missing)
		return 0;
	return failure_set(failure, LCPFS_E_NOSPC,
			   "only %" PRIu64 "M of the pool are free, with room for %" PRIu64
			   "M of data; shrink a partition, or give a smaller size",
			   map_available(pool) * metaslab_bytes >> 20,
			   size_data_in(pool, map_available(pool)) * BLOCK_SIZE >> 20);
}

static int format_store(struct part *part, const uint32_t *metaslabs, uint32_t count,
			struct lcpfs_failure *failure)
{
	struct store_config config = part_store_config(part);
	int error = store_format(&config, part->volume_blocks, metaslabs, count);
	if (error)
		failure_set(failure, (enum lcpfs_error) - error, "partition %s: writing its roots failed: %s",
			    part->name, lcpfs_error_sentence(error));
	return error;
}

static int commit_part(struct part *part, const uint32_t *metaslabs, uint32_t count, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = part->pool;
	uint32_t events = pool->pending.count;
	char size[WORDS_ROOM], min[WORDS_ROOM], max[WORDS_ROOM];
	struct txg txg;
	pool->parts[part->slot] = part; /* so that its metaslabs are counted */
	words_blocks(size, (double)count * pool->layout.metaslab_blocks);
	words_blocks(min, (double)part->min_data_blocks);
	words_blocks(max, (double)part->max_data_blocks);
	history_note(pool, LCPFS_EVENT_ADDED, LCPFS_ENGINE_FREE, part->id, count,
		     "%s: min %s, max %s; it got %s of the pool", part->name, min, max, size);
	txg_begin(pool, &txg);
	part_fill_page(&txg, part);
	for (uint32_t i = 0; i < count; i++)
		map_set(&txg, metaslabs[i], part->id);
	txg.uberblock.partition_next = le32_of(part->id + 1);
	int error = txg_commit(&txg, failure);
	if (error) {
		pool->parts[part->slot] = NULL;
		pool->pending.count = MIN_OF(pool->pending.count, events);
	}
	return error;
}

/* From here on it is there; that its store does not open makes it faulted, not absent. */
static int bring_up(struct part *part, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = part->pool;
	size_t cache_bytes = pool->cache_left / 2;
	int error = books_add_part(pool, part);
	if (error)
		return failure_set(failure, (enum lcpfs_error) - error,
				   "partition %s was added, but the engine does not "
				   "take it: %s",
				   part->name, lcpfs_error_sentence(error));
	pool->cache_left -= cache_bytes;
	part->is_new = true;
	error = part_open_store(part, cache_bytes, failure);
	part->is_new = false;
	if (!error)
		part_start_service(part);
	return error;
}

/*
 * The next id that was never given out; UINT32_MAX: there is none. In a damaged pool a partition or the map may
 * have ids that the uberblock does not know of: what has such an id must not become one with a new partition.
 */
static uint32_t unused_id(const struct lcpfs_pool *pool)
{
	uint32_t id = le32_get(pool->uberblock.partition_next);
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (pool->parts[slot] && pool->parts[slot]->id >= id)
			id = pool->parts[slot]->id + (pool->parts[slot]->id < UINT32_MAX);
	}
	for (uint32_t m = 0; m < pool->layout.metaslab_count; m++) {
		if (map_owner(pool, m) >= id)
			id = map_owner(pool, m) + (map_owner(pool, m) < UINT32_MAX);
	}
	return id;
}

static void take_plan(struct part *part, const char *name, const struct part_plan *plan)
{
	uint32_t metaslab_blocks = part->pool->layout.metaslab_blocks;
	snprintf(part->name, sizeof(part->name), "%s", name);
	part->min_blocks = plan->min * metaslab_blocks;
	part->max_blocks = plan->max * metaslab_blocks;
	part->volume_blocks = size_divide_up(plan->volume_bytes, BLOCK_SIZE);
	part->min_data_blocks = plan->min_data_blocks;
	part->max_data_blocks = plan->max_data_blocks;
	part->volume_bytes = plan->volume_bytes;
	part->when_full_wait_s = plan->when_full_wait_s;
}

static int add_planned(struct lcpfs_pool *pool, const char *name, const struct part_plan *plan, uint32_t slot,
		       struct lcpfs_failure *failure)
{
	uint32_t count = (uint32_t)plan->size;
	struct part *part = part_new(pool, slot, unused_id(pool));
	uint32_t *metaslabs = malloc(count * sizeof(*metaslabs));
	int error = 0;
	if (!part || !metaslabs) {
		free(metaslabs);
		part_free(part);
		return failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	}
	take_plan(part, name, plan);
	part->created_s = pool->clock.wall_s(pool->clock.context);
	CHECK(map_pick_free(pool, metaslabs, count) == count);
	error = format_store(part, metaslabs, count, failure);
	if (!error)
		error = commit_part(part, metaslabs, count, failure);
	free(metaslabs);
	if (error) {
		part_free(part);
		return error;
	}
	return bring_up(part, failure);
}

static int check_plan(struct lcpfs_pool *pool, const char *name, struct part_plan *plan, uint32_t *slot,
		      struct lcpfs_failure *failure)
{
	int error = part_check_name(pool, name, failure);
	if (!error)
		error = free_slot(pool, slot, failure);
	if (!error && unused_id(pool) == UINT32_MAX)
		error = failure_set(failure, LCPFS_E_NOSPC, "all partition ids were given out");
	if (!error)
		error = part_check_min_sum(pool, plan->min, NULL, failure);
	if (!error)
		error = check_free(pool, plan, failure);
	return error;
}

static int add_locked(struct lcpfs_pool *pool, const char *name, struct part_plan *plan,
		      struct lcpfs_failure *failure)
{
	uint32_t slot = 0;
	int error = txg_refuse(pool, failure);
	if (!error)
		error = check_plan(pool, name, plan, &slot, failure);
	return error ? error : add_planned(pool, name, plan, slot, failure);
}

static int add(struct lcpfs_pool *pool, const char *name, struct part_plan *plan, struct lcpfs_failure *failure)
{
	pthread_mutex_lock(&pool->lock);
	int error = add_locked(pool, name, plan, failure);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

static int add_making_room(struct lcpfs_pool *pool, const char *name, struct part_plan *plan,
			   struct lcpfs_failure *failure)
{
	int error = add(pool, name, plan, failure);
	if (!error || !plan->missing)
		return error;
	resize_make_room(pool, plan->missing, LCPFS_ENGINE_FREE);
	return add(pool, name, plan, failure);
}

int lcpfs_partition_add(struct lcpfs_pool *pool, const struct lcpfs_partition_spec *spec,
			struct lcpfs_failure *failure)
{
	struct part_plan plan;
	int error = plan_of_data(pool, spec, &plan, failure);
	return error ? error : add_making_room(pool, spec->name, &plan, failure);
}

int pool_add_of_space(struct lcpfs_pool *pool, const struct lcpfs_partition_spec *spec,
		      struct lcpfs_failure *failure)
{
	struct part_plan plan;
	int error = plan_of_space(pool, spec, &plan, failure);
	return error ? error : add_making_room(pool, spec->name, &plan, failure);
}

/* What is missing is there as soon as discards are done, or others may give it. */
static int weigh_missing(struct lcpfs_pool *pool, const struct part_plan *plan, int error,
			 struct lcpfs_failure *failure)
{
	if (!plan->missing || plan->missing <= pool->blocked_count)
		return plan->missing ? 0 : error;
	return resize_refuse_unsure(pool, error, failure);
}

/* With the lock: what it would be. */
static void foresee_added(struct lcpfs_pool *pool, const char *name, const struct part_plan *plan,
			  struct lcpfs_partition_info *info)
{
	struct part part = {.pool = pool, .id = unused_id(pool), .metaslabs = (uint32_t)plan->size};
	take_plan(&part, name, plan);
	info_of_part(info, &part);
	info->faulted = false;
}

int pool_try_add(struct lcpfs_pool *pool, const struct lcpfs_partition_spec *spec, bool of_space,
		 struct lcpfs_partition_info *info, struct lcpfs_failure *failure)
{
	struct part_plan plan;
	uint32_t slot;
	int error = (of_space ? plan_of_space : plan_of_data)(pool, spec, &plan, failure);
	if (error)
		return error;
	pthread_mutex_lock(&pool->lock);
	error = txg_refuse_trying(pool, failure);
	if (!error)
		error = check_plan(pool, spec->name, &plan, &slot, failure);
	if (error)
		error = weigh_missing(pool, &plan, error, failure);
	if (!error)
		foresee_added(pool, spec->name, &plan, info);
	pthread_mutex_unlock(&pool->lock);
	return error;
}
