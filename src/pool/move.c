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

#include "pool/core.h"

/*
 * The least size that can be asked for, of user data as all sizes that people give, in MiB. What it holds may fit
 * into fewer metaslabs than so much data needs at worst; nobody asks for less than there is.
 */
uint64_t move_least_mib(struct part *part)
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

static int release(const struct move *move, uint32_t *metaslab, struct lcpfs_failure *failure)
{
	struct part *from = move->from;
	int error = (move->hurried ? store_release_now : store_release)(from->store, metaslab);
	if (error == -LCPFS_E_TOO_SMALL)
		failure_set(failure, LCPFS_E_TOO_SMALL,
			    "partition %s cannot give more: with what it holds it needs %" PRIu64 "M", from->name,
			    move_least_mib(from));
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
		int error = release(move, metaslab, failure);
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
		books_measure(pool, true);
	}
	return error;
}
