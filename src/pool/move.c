/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Boundary moves: metaslabs from one partition to another, from one to free space, from free space to one.
 *
 * Each metaslab goes through these states:
 *
 *	owner in the map   used by      step
 *	from               from
 *	from               nobody       store_release: cleaned out, empty in every state a crash can leave
 *	to                 nobody       the transaction
 *	to                 to           store_add
 *
 * In each of them the map names one owner or none, and only that owner ever uses it: invariant 1. A crash leaves
 * the map before or after the transaction. Before: it is `from`'s, and opening finds it empty there. After: it is
 * `to`'s. No data is in it in either case, since releasing made the new places of all live blocks durable first.
 *
 * Cleaning takes its time and holds no lock of the pool; `releasing` and `incoming` keep moves that run at the
 * same time from going below a min or above a max together. Between two metaslabs everything else can go on.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "base/words.h"
#include "pool/core.h"

static uint64_t in_mib(uint64_t blocks)
{
	return blocks * BLOCK_SIZE >> 20;
}

/*
 * The least size that can be asked for, of user data as all sizes that people give, in MiB. What it holds may fit
 * into fewer metaslabs than so much data needs at worst; nobody asks for less than there is.
 */
static uint64_t least_mib(struct part *part)
{
	const struct lcpfs_pool *pool = part->pool;
	uint64_t fits = size_data_in(pool, part_least_blocks(part) / pool->layout.metaslab_blocks);
	struct store_stats stats;
	store_stats(part->store, &stats);
	return DIV_UP(MAX_OF(fits, stats.data_blocks), (UINT64_C(1) << 20) / BLOCK_SIZE);
}

/* -- one step -- */

/* How many metaslabs it may give. */
static uint64_t spare_above_min(const struct part *part)
{
	uint64_t min = part->min_blocks / part->pool->layout.metaslab_blocks;
	uint64_t left = (uint64_t)part->metaslabs - part->releasing;
	min = MAX_OF(min, (uint64_t)STORE_METASLABS_MIN);
	return left - MIN_OF(left, min);
}

/* How many metaslabs it may still get. */
static uint64_t room_below_max(const struct part *part)
{
	uint64_t max = part->max_blocks / part->pool->layout.metaslab_blocks;
	uint64_t has = (uint64_t)part->metaslabs + part->incoming;
	return max - MIN_OF(max, has);
}

static struct lcpfs_pool *pool_of(const struct move *move)
{
	return move->from ? move->from->pool : move->to->pool;
}

/* With the lock: may another metaslab move? */
static int check_step(const struct move *move, struct lcpfs_failure *failure)
{
	const struct lcpfs_pool *pool = pool_of(move);
	int error = txg_refuse(pool, failure);
	if (!error && move->from)
		error = part_refuse(move->from, failure);
	if (!error && move->to)
		error = part_refuse(move->to, failure);
	if (error)
		return error;
	if (pool->stopping && move->by_engine)
		return failure_set(failure, LCPFS_E_STOPPED, "the pool is being closed");
	if (move->moved && move->from && move->from->emergencies != move->emergencies)
		return failure_set(failure, LCPFS_E_TOO_SMALL,
				   "partition %s needed space for its writers meanwhile", move->from->name);
	if (move->from && spare_above_min(move->from) == 0)
		return failure_set(failure, LCPFS_E_TOO_SMALL, "partition %s is at its min", move->from->name);
	if (move->to && room_below_max(move->to) == 0)
		return failure_set(failure, LCPFS_E_INVALID, "partition %s is at its max", move->to->name);
	return 0;
}

static void count_moved(struct move *move, uint32_t metaslabs)
{
	move->moved += metaslabs;
	if (!move->by_engine)
		return;
	if (move->from)
		move->from->unreported -= metaslabs;
	if (move->to)
		move->to->unreported += metaslabs;
}

static int commit_owner(struct lcpfs_pool *pool, const uint32_t *metaslabs, uint32_t count, const struct part *to,
			struct lcpfs_failure *failure)
{
	struct txg txg;
	txg_begin(pool, &txg);
	for (uint32_t i = 0; i < count; i++)
		map_set(&txg, metaslabs[i], to ? to->id : NO_PARTITION);
	return txg_commit(&txg, failure);
}

static int hand_to(struct part *to, const uint32_t *metaslabs, uint32_t count, struct lcpfs_failure *failure)
{
	int error = store_add(to->store, metaslabs, count);
	if (error)
		failure_set(failure, (enum lcpfs_error) - error,
			    "partition %s owns %" PRIu32 " metaslabs more, but will "
			    "use them only when the pool is opened anew: %s",
			    to->name, count, lcpfs_error_sentence(error));
	return error;
}

static int release(struct part *from, uint32_t *metaslab, struct lcpfs_failure *failure)
{
	int error = store_release(from->store, metaslab);
	if (error == -LCPFS_E_TOO_SMALL)
		failure_set(failure, LCPFS_E_TOO_SMALL,
			    "partition %s cannot give more: with what it holds it needs %" PRIu64 "M", from->name,
			    least_mib(from));
	else if (error)
		failure_set(failure, (enum lcpfs_error) - error,
			    "partition %s: cleaning out a metaslab failed: %s", from->name,
			    lcpfs_error_sentence(error));
	return error;
}

/*
 * Metaslabs that go through the steps together: a transaction waits for two flushes, so where releasing costs
 * nothing, since they are empty, several share one. Where it does cost, a batch ends soon, for others wait for its
 * metaslabs.
 */
struct batch {
	uint32_t list[16];
	uint32_t count, limit;
	bool passed; /* to the new owner */
};

enum { BATCH_US = 20000 };

/* Releases up to the limit. An error or a stop ends it; what was released until then is passed on all the same. */
static int fill_batch(struct move *move, struct batch *batch, struct lcpfs_failure *failure)
{
	const struct lcpfs_pool *pool = move->from->pool;
	const struct layout *l = &pool->layout;
	uint64_t end_us = clock_us(&pool->clock) + BATCH_US;
	do {
		uint32_t *metaslab = &batch->list[batch->count];
		int error = release(move->from, metaslab, failure);
		if (error)
			return error;
		batch->count++;
		if (!move->to) /* nobody uses it now, and nobody can be given it yet */
			vdev_discard(pool->vdev, layout_metaslab_block(l, *metaslab) * BLOCK_SIZE,
				     (uint64_t)l->metaslab_blocks * BLOCK_SIZE);
		if (move->progress && !move->progress(move->context, move->moved + batch->count, move->wanted))
			return failure_set(failure, LCPFS_E_STOPPED,
					   "stopped after %" PRIu32 " of %" PRIu32 " metaslabs",
					   move->moved + batch->count, move->wanted);
	} while (batch->count < batch->limit && clock_us(&pool->clock) < end_us);
	return 0;
}

/* They are released; give them a new owner, or back to the old one. */
static int pass_on(struct move *move, struct batch *batch, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = move->from->pool;
	if (!batch->count)
		return 0;
	pthread_mutex_lock(&pool->lock);
	int error = commit_owner(pool, batch->list, batch->count, move->to, failure);
	batch->passed = !error;
	if (!error)
		count_moved(move, batch->count);
	/* Suspended, nobody knows whose they are: then nobody uses them. */
	bool give_back = error && !pool->suspended;
	pthread_mutex_unlock(&pool->lock);
	if (give_back)
		may_fail(hand_to(move->from, batch->list, batch->count, NULL));
	return error || !move->to ? error : hand_to(move->to, batch->list, batch->count, failure);
}

/* With the lock. Sets aside what the batch may take from one and bring to the other. */
static int begin_batch(struct move *move, struct batch *batch, struct lcpfs_failure *failure)
{
	int error = check_step(move, failure);
	if (error)
		return error;
	if (!move->moved)
		move->emergencies = move->from->emergencies;
	batch->limit = MIN_OF(move->wanted - move->moved, (uint32_t)ARRAY_LENGTH(batch->list));
	batch->limit = (uint32_t)MIN_OF(batch->limit, spare_above_min(move->from));
	if (move->to) {
		batch->limit = (uint32_t)MIN_OF(batch->limit, room_below_max(move->to));
		move->to->incoming += batch->limit;
	}
	move->from->releasing += batch->limit;
	return 0;
}

static void end_batch(struct move *move, const struct batch *batch)
{
	move->from->releasing -= batch->limit;
	if (move->to)
		move->to->incoming -= batch->limit;
	move->from->pool->changes += batch->passed;
	pthread_cond_broadcast(&move->from->pool->changed);
}

static int move_batch(struct move *move, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = move->from->pool;
	struct batch batch = {.count = 0};
	pthread_mutex_lock(&pool->lock);
	int error = begin_batch(move, &batch, failure);
	pthread_mutex_unlock(&pool->lock);
	if (error)
		return error;
	error = fill_batch(move, &batch, failure);
	int passed = pass_on(move, &batch, error ? NULL : failure);
	pthread_mutex_lock(&pool->lock);
	end_batch(move, &batch);
	pthread_mutex_unlock(&pool->lock);
	return error ? error : passed;
}

/* From free space nothing has to be cleaned: as many as there are, in one transaction. */
static int move_from_free(struct move *move, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = move->to->pool;
	uint32_t count = 0, *list = NULL;
	pthread_mutex_lock(&pool->lock);
	int error = check_step(move, failure);
	if (!error) {
		count = (uint32_t)MIN_OF(room_below_max(move->to), (uint64_t)(move->wanted - move->moved));
		count = MIN_OF(count, map_available(pool));
		list = malloc((count + 1) * sizeof(*list));
	}
	if (!error && !count)
		error = failure_set(failure, LCPFS_E_NOSPC, "the pool has no free space");
	if (!error && !list)
		error = failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	if (!error) {
		CHECK(map_pick_free(pool, list, count) == count);
		error = commit_owner(pool, list, count, move->to, failure);
	}
	if (!error)
		count_moved(move, count);
	pthread_mutex_unlock(&pool->lock);
	if (!error)
		error = hand_to(move->to, list, count, failure);
	free(list);
	return error;
}

int move_run(struct move *move, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = pool_of(move);
	int error = 0;
	CHECK(move->from != move->to);
	while (!error && move->moved < move->wanted) {
		error = move->from ? move_batch(move, failure) : move_from_free(move, failure);
		keeper_measure(pool);
	}
	return error;
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

void move_make_room(struct lcpfs_pool *pool, uint64_t missing, uint32_t but_not)
{
	uint64_t target = available(pool) + missing, has;
	map_discard(pool, UINT32_MAX);
	if (never_fits(pool, missing) || lcpfs_engine_get_mode(pool->engine) != LCPFS_ENGINE_ON)
		return;
	pthread_mutex_lock(&pool->round);
	while ((has = available(pool)) < target) {
		struct lcpfs_engine_decision d;
		uint64_t blocks = (target - has) * pool->layout.metaslab_blocks;
		CHECK(!lcpfs_engine_call_back(pool->engine, clock_us(&pool->clock), blocks, but_not, &d));
		if (d.action != LCPFS_ENGINE_MOVE || keeper_carry_out(pool, &d) == 0)
			break;
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
		keeper_tell_sizes(pool, LCPFS_ENGINE_BY_HAND);
		history_add(pool, &event);
		may_fail(history_flush(pool)); /* it stays pending if that fails */
	}
	part_drop(part);
}

static int refuse_growing(const struct lcpfs_pool *pool, uint64_t has, uint64_t by, struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_NOSPC,
			   "only %" PRIu64 "M of the pool are free, %" PRIu64
			   "M more are needed; shrink another partition",
			   in_mib(has * pool->layout.metaslab_blocks),
			   in_mib((by - has) * pool->layout.metaslab_blocks));
}

static int refuse_shrinking(struct part *part, struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_TOO_SMALL,
			   "partition %s cannot get that small: with what it holds it "
			   "needs %" PRIu64 "M",
			   part->name, least_mib(part));
}

static int grow(struct part *part, uint64_t by, lcpfs_progress *progress, void *context,
		struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = part->pool;
	struct move move = {.to = part, .wanted = (uint32_t)by, .progress = progress, .context = context};
	uint64_t has = available(pool);
	if (has < by)
		move_make_room(pool, by - has, part->id);
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

int move_refuse_unsure(struct lcpfs_pool *pool, int error, struct lcpfs_failure *failure)
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
		return move_refuse_unsure(part->pool, refuse_growing(pool, has, by, failure), failure);
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
