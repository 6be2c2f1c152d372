/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A partition of another size, by hand: what is missing comes from free space, and from others where the engine
 * may move boundaries; what is too much goes to free space.
 */
#include <inttypes.h>

#include "base/words.h"
#include "pool/core.h"

static uint64_t in_mib(uint64_t blocks)
{
	return blocks * BLOCK_SIZE >> 20;
}

/* -- making room -- */

static uint64_t available(struct lcpfs_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	uint64_t metaslabs = map_available(pool);
	pthread_mutex_unlock(&pool->lock);
	return metaslabs;
}

static bool never_fits(struct lcpfs_pool *pool, uint64_t missing)
{
	pthread_mutex_lock(&pool->lock);
	bool never = missing > pool->layout.metaslab_count;
	pthread_mutex_unlock(&pool->lock);
	return never;
}

/* Then it is nobody's fault that nobody gives. */
static bool moves_nothing(struct lcpfs_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	bool nothing = pool->stopping || txg_refuse(pool, NULL);
	pthread_mutex_unlock(&pool->lock);
	return nothing;
}

void resize_make_room(struct lcpfs_pool *pool, uint64_t missing, uint32_t but_not)
{
	uint64_t target = available(pool) + missing, has;
	uint32_t refusals = 0; /* who cannot give is not asked again: the engine is told */
	map_discard(pool, UINT32_MAX);
	if (never_fits(pool, missing) || lcpfs_engine_get_mode(pool->engine) != LCPFS_ENGINE_ON)
		return;
	pthread_mutex_lock(&pool->round);
	while ((has = available(pool)) < target && refusals < pool->layout.partition_slots &&
	       !moves_nothing(pool)) {
		struct lcpfs_engine_decision d;
		uint64_t blocks = (target - has) * pool->layout.metaslab_blocks;
		CHECK(!lcpfs_engine_call_back(pool->engine, clock_us(&pool->clock), blocks, but_not, &d));
		if (d.action != LCPFS_ENGINE_MOVE)
			break;
		refusals += decision_carry_out(pool, &d) == 0;
	}
	pthread_mutex_unlock(&pool->round);
}

/* -- by hand -- */

int part_begin_resize(struct lcpfs_pool *pool, const char *name, bool tries, struct part **part,
		      struct lcpfs_failure *failure)
{
	int error = (tries ? txg_refuse_trying : txg_refuse)(pool, failure);
	if (error)
		return error;
	*part = part_named(pool, name);
	if (!*part)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no partition %s", name ? name : "");
	error = part_refuse(*part, failure);
	if (error)
		return error;
	if ((*part)->resizing)
		return failure_set(failure, LCPFS_E_BUSY, "partition %s is being resized already", name);
	(*part)->resizing = true;
	part_hold(*part);
	return 0;
}

void part_end_resize(struct part *part, uint32_t before)
{
	struct lcpfs_pool *pool = part->pool;
	bool grew = part->metaslabs > before;
	uint32_t by = grew ? part->metaslabs - before : before - part->metaslabs;
	double was = (double)before * pool->layout.metaslab_blocks, is = (double)part_size_blocks(part);
	struct lcpfs_event event = {
		.kind = LCPFS_EVENT_RESIZED,
		.from_id = grew ? LCPFS_ENGINE_FREE : part->id,
		.to_id = grew ? part->id : LCPFS_ENGINE_FREE,
		.blocks = (uint64_t)by * pool->layout.metaslab_blocks,
		.from_old_blocks = grew ? 0 : was,
		.from_new_blocks = grew ? 0 : is,
		.to_old_blocks = grew ? was : 0,
		.to_new_blocks = grew ? is : 0,
		.verdict = -1,
		.reason = -1,
		.text = "of the pool, by hand",
	};
	part->resizing = false;
	if (by) {
		books_tell_sizes(pool, LCPFS_ENGINE_BY_HAND);
		history_add(pool, &event);
		may_fail(history_flush(pool)); /* it stays pending if that fails */
	}
	part_drop(part);
}

static int refuse_growing(const struct lcpfs_pool *pool, uint64_t has, uint64_t by, struct lcpfs_failure *failure)
{
	return failure_set(
		failure, LCPFS_E_NOSPC,
		"only %" PRIu64 "M of the pool are free, %" PRIu64 "M more are needed; shrink another partition",
		in_mib(has * pool->layout.metaslab_blocks), in_mib((by - has) * pool->layout.metaslab_blocks));
}

static int refuse_shrinking(struct part *part, struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_TOO_SMALL,
			   "partition %s cannot get that small: with what it holds it "
			   "needs %" PRIu64 "M",
			   part->name, move_least_mib(part));
}

static int grow(struct part *part, uint64_t by, lcpfs_progress *progress, void *context,
		struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = part->pool;
	struct move move = {.to = part, .wanted = (uint32_t)by, .progress = progress, .context = context};
	uint64_t has = available(pool);
	if (has < by)
		resize_make_room(pool, by - has, part->id);
	has = available(pool);
	if (has < by)
		return refuse_growing(pool, has, by, failure);
	return move_run(&move, failure);
}

static int shrink(struct part *part, uint64_t size, uint64_t by, lcpfs_progress *progress, void *context,
		  struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = part->pool;
	struct move move = {.from = part, .wanted = (uint32_t)by, .progress = progress, .context = context};
	if (part_least_blocks(part) > size * pool->layout.metaslab_blocks)
		return refuse_shrinking(part, failure);
	return move_run(&move, failure);
}

static uint32_t metaslabs_of(struct part *part)
{
	pthread_mutex_lock(&part->pool->lock);
	uint32_t count = part->metaslabs;
	pthread_mutex_unlock(&part->pool->lock);
	return count;
}

static int check_limits(const struct part *part, uint64_t size, struct lcpfs_failure *failure)
{
	uint64_t metaslab_blocks = part->pool->layout.metaslab_blocks;
	char limit[WORDS_ROOM];
	if (size > part->max_blocks / metaslab_blocks)
		return failure_set(failure, LCPFS_E_INVALID, "partition %s has a max of %s", part->name,
				   words_blocks(limit, (double)part->max_data_blocks));
	if (size < part->min_blocks / metaslab_blocks)
		return failure_set(failure, LCPFS_E_TOO_SMALL, "partition %s has a min of %s", part->name,
				   words_blocks(limit, (double)part->min_data_blocks));
	return 0;
}

/* `size` in metaslabs. The limits come first: they are why, even when the pool is full as well. */
int part_resize_to(struct part *part, uint64_t size, lcpfs_progress *progress, void *context,
		   struct lcpfs_failure *failure)
{
	uint32_t before = metaslabs_of(part);
	int error = check_limits(part, size, failure);
	if (error)
		return error;
	if (size > before)
		return grow(part, size - before, progress, context, failure);
	return size < before ? shrink(part, size, before - size, progress, context, failure) : 0;
}

/* -- only to tell what would come of it -- */

int resize_refuse_unsure(struct lcpfs_pool *pool, int error, struct lcpfs_failure *failure)
{
	if (lcpfs_engine_get_mode(pool->engine) != LCPFS_ENGINE_ON)
		return error;
	return failure_set(failure, LCPFS_E_NOSPC,
			   "only %" PRIu64 "M of the pool are free, and whether other partitions would give what "
			   "is missing only doing it tells",
			   in_mib((uint64_t)pool->free_metaslabs * pool->layout.metaslab_blocks));
}

int part_check_resize(struct part *part, uint64_t size, struct lcpfs_failure *failure)
{
	const struct lcpfs_pool *pool = part->pool;
	uint64_t has = pool->free_metaslabs, by = size - MIN_OF(size, (uint64_t)part->metaslabs);
	if (size < part->metaslabs && store_size_least(part->store) > size)
		return refuse_shrinking(part, failure);
	if (has < by)
		return resize_refuse_unsure(part->pool, refuse_growing(pool, has, by, failure), failure);
	return 0;
}

int pool_try_resize(struct lcpfs_pool *pool, const char *name, uint64_t size_bytes, bool of_space,
		    struct lcpfs_partition_info *info, struct lcpfs_failure *failure)
{
	uint64_t metaslab_bytes = (uint64_t)pool->layout.metaslab_blocks * BLOCK_SIZE;
	uint64_t size = of_space ? size_divide_up(size_bytes, metaslab_bytes)
				 : size_for_data(pool, size_divide_up(size_bytes, BLOCK_SIZE));
	struct part *part;
	pthread_mutex_lock(&pool->lock);
	int error = part_begin_resize(pool, name, true, &part, failure);
	if (!error) {
		error = check_limits(part, size, failure);
		if (!error)
			error = part_check_resize(part, size, failure);
		part_end_resize(part, part->metaslabs);
		info_of_part(info, part);
		info->size_blocks = size * pool->layout.metaslab_blocks;
		info->size_data_blocks = MAX_OF(size_data_in(pool, size), info->data_blocks);
	}
	pthread_mutex_unlock(&pool->lock);
	return error;
}

/* -- by hand, once more -- */

static int resize(struct lcpfs_pool *pool, const char *name, uint64_t size, lcpfs_progress *progress,
		  void *context, struct lcpfs_failure *failure)
{
	struct part *part = NULL;
	uint32_t before = 0;
	pthread_mutex_lock(&pool->lock);
	int error = part_begin_resize(pool, name, false, &part, failure);
	if (!error)
		before = part->metaslabs;
	pthread_mutex_unlock(&pool->lock);
	if (error)
		return error;
	error = part_resize_to(part, size, progress, context, failure);
	pthread_mutex_lock(&pool->lock);
	part_end_resize(part, before);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

int lcpfs_partition_resize(struct lcpfs_pool *pool, const char *name, uint64_t size_bytes,
			   lcpfs_progress *progress, void *context, struct lcpfs_failure *failure)
{
	uint64_t size = size_for_data(pool, size_divide_up(size_bytes, BLOCK_SIZE));
	return resize(pool, name, size, progress, context, failure);
}

int pool_resize_to_space(struct lcpfs_pool *pool, const char *name, uint64_t size_bytes, lcpfs_progress *progress,
			 void *context, struct lcpfs_failure *failure)
{
	uint64_t size = size_divide_up(size_bytes, (uint64_t)pool->layout.metaslab_blocks * BLOCK_SIZE);
	return resize(pool, name, size, progress, context, failure);
}
