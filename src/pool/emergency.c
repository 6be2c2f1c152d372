/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer found no room although its store cleaned: more metaslabs, at once, if its partition is below its max.
 *
 * First from free space, then what any other partition has above its min, in every mode of the engine: it is an
 * emergency, not tuning. In mode `on` the engine names the first giver; then each of the others is tried, the
 * one with the most empty metaslabs first. While metaslabs are on their way, given up by somebody or about to be
 * discarded, it is not known what there will be, and it waits for them. So a writer is refused only when nothing
 * is left to be had. Where the host of a sparse pool file is full, more metaslabs would not help: then the
 * others give to the host what they do not need.
 *
 * It runs in the thread of a writer and must not wait in a circle. It waits for the pool's lock, which nobody
 * keeps for long; for another emergency of the same partition; and for moves and a store_release of another
 * partition, which wait for cleaning and for the device only. The keeper's round is tried, never waited for. Of
 * two partitions that want space at the same time none takes from the other what that one is about to use.
 */
#include <stdlib.h>

#include "base/words.h"
#include "pool/core.h"

enum {
	/*
	 * From free space it gets this share of its size at once, one metaslab at least, so that filling a
	 * partition takes a number of emergencies that grows with the logarithm of its size.
	 */
	SHARE = 32,
	/*
	 * And this from whom the engine names. That changes the sizes of two, and in between they have to stand for
	 * long enough to be measured.
	 */
	CALLED_SHARE = 8,
	WAIT_US = 100000, /* a writer waits no longer while more than one metaslab is given */
	NOTE_US = 10 * 1000000,
};

static bool is_below_max(const struct part *part)
{
	uint64_t has = (uint64_t)part->metaslabs + part->incoming;
	return (has + 1) * part->pool->layout.metaslab_blocks <= part->max_blocks;
}

static bool may_grow(const struct part *part)
{
	return !txg_refuse(part->pool, NULL) && !part_refuse(part, NULL) && is_below_max(part);
}

/*
 * With the lock. While another thread of the partition is at it, or a move brings it metaslabs up to its max:
 * their result is ours. True: there are more now.
 */
static bool await_other(struct part *part)
{
	uint64_t before = part->emergencies;
	uint32_t had = part->metaslabs;
	while (part->wants_space || (part->incoming && !is_below_max(part)))
		pthread_cond_wait(&part->pool->changed, &part->pool->lock);
	return part->emergencies > before || part->metaslabs > had;
}

/* -- free space -- */

static uint32_t share_of(const struct part *part)
{
	return 1 + part->metaslabs / SHARE;
}

static uint32_t take_free(struct part *part)
{
	struct move move = {.to = part, .wanted = share_of(part)};
	if (move_run(&move, NULL) && !move.moved) {
		map_discard(part->pool, move.wanted);
		may_fail(move_run(&move, NULL));
	}
	return move.moved;
}

/* -- other partitions -- */

static bool may_give(const struct part *part, const struct part *to)
{
	uint64_t left = (uint64_t)part->metaslabs - part->releasing;
	return part != to && part->store && !part->removing && left > STORE_METASLABS_MIN &&
	       (left - 1) * part->pool->layout.metaslab_blocks >= part->min_blocks &&
	       (!part->wants_space || left > store_size_least(part->store) + 1);
}

struct deadline {
	struct clock *clock;
	uint64_t at_us;
	bool passed;
};

static bool in_time(void *context, uint64_t done, uint64_t wanted)
{
	struct deadline *deadline = context;
	deadline->passed = done < wanted && clock_us(deadline->clock) >= deadline->at_us;
	return !deadline->passed;
}

/*
 * What `from` gave was its move to free space, as the engine proposed; what `to` gets it learns of as an
 * emergency.
 */
static uint32_t take_proposed(struct part *to, const struct lcpfs_engine_decision *d, uint32_t *from_id)
{
	struct lcpfs_pool *pool = to->pool;
	struct deadline deadline = {&pool->clock, clock_us(&pool->clock) + WAIT_US};
	struct move move = {.to = to,
			    .wanted = (uint32_t)(d->blocks / pool->layout.metaslab_blocks),
			    .by_engine = true,
			    .hurried = true,
			    .progress = in_time,
			    .context = &deadline};
	struct lcpfs_engine_moved moved = {.copied_blocks = UINT64_MAX};
	pthread_mutex_lock(&pool->lock);
	move.from = part_find(pool, d->from_id);
	if (move.from && !may_give(move.from, to))
		move.from = NULL;
	if (move.from)
		part_hold(move.from);
	pthread_mutex_unlock(&pool->lock);
	if (move.from) {
		*from_id = d->from_id;
		may_fail(move_run(&move, NULL));
		moved.blocks = (uint64_t)move.moved * pool->layout.metaslab_blocks;
		pthread_mutex_lock(&pool->lock);
		moved.enough = deadline.passed || !is_below_max(to);
		part_drop(move.from);
		pthread_mutex_unlock(&pool->lock);
	}
	books_report(pool, d, &moved);
	return move.moved;
}

static uint32_t take_by_engine(struct part *to, uint32_t *from_id)
{
	struct lcpfs_pool *pool = to->pool;
	struct lcpfs_engine_decision d;
	uint32_t got = 0;
	if (pthread_mutex_trylock(&pool->round))
		return 0;
	uint64_t blocks = (uint64_t)(1 + to->metaslabs / CALLED_SHARE) * pool->layout.metaslab_blocks;
	CHECK(!lcpfs_engine_call_back(pool->engine, clock_us(&pool->clock), blocks, to->id, &d));
	if (d.action == LCPFS_ENGINE_MOVE)
		got = take_proposed(to, &d, from_id);
	pthread_mutex_unlock(&pool->round);
	return got;
}

/*
 * With the lock. The one with the most empty metaslabs, which cost nothing to take, of those not tried in this
 * round.
 */
static struct part *next_giver(const struct part *to, uint64_t round, uint32_t *empty)
{
	const struct lcpfs_pool *pool = to->pool;
	struct part *best = NULL;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		struct part *part = pool->parts[slot];
		struct store_stats stats;
		if (!part || part->tried == round || !may_give(part, to))
			continue;
		store_stats(part->store, &stats);
		if (best && stats.empty + stats.raw <= *empty)
			continue;
		best = part;
		*empty = stats.empty + stats.raw;
	}
	return best;
}

static struct part *hold_next_giver(struct part *to, uint64_t round, uint32_t *wanted)
{
	uint32_t empty = 0;
	pthread_mutex_lock(&to->pool->lock);
	struct part *giver = next_giver(to, round, &empty);
	if (giver) {
		giver->tried = round;
		part_hold(giver);
	}
	pthread_mutex_unlock(&to->pool->lock);
	*wanted = MAX_OF(MIN_OF(share_of(to), empty / 4), 1u);
	return giver;
}

static uint32_t take_from_others(struct part *to, uint32_t *from_id)
{
	struct move move = {.to = to, .hurried = true};
	pthread_mutex_lock(&to->pool->lock);
	uint64_t round = ++to->pool->emergency_rounds;
	pthread_mutex_unlock(&to->pool->lock);
	while (!move.moved && (move.from = hold_next_giver(to, round, &move.wanted))) {
		*from_id = move.from->id;
		may_fail(move_run(&move, NULL));
		part_let_go(move.from);
	}
	return move.moved;
}

/* -- all of them -- */

/* With the lock. */
static bool is_under_way(const struct lcpfs_pool *pool)
{
	bool moves = pool->blocked_count > 0;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots && !moves; slot++)
		moves = pool->parts[slot] && (pool->parts[slot]->releasing || pool->parts[slot]->incoming);
	return moves;
}

/* Nothing was found after the lock was last taken at `seen`. True: something may be there now. */
static bool await_moves(struct part *part, uint64_t seen)
{
	struct lcpfs_pool *pool = part->pool;
	pthread_mutex_lock(&pool->lock);
	while (pool->changes == seen && is_under_way(pool))
		pthread_cond_wait(&pool->changed, &pool->lock);
	bool changed = pool->changes != seen && may_grow(part);
	pthread_mutex_unlock(&pool->lock);
	return changed;
}

static uint64_t changes_of(struct lcpfs_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	uint64_t changes = pool->changes;
	pthread_mutex_unlock(&pool->lock);
	return changes;
}

static uint32_t take_any(struct part *part, uint32_t *from_id)
{
	struct lcpfs_pool *pool = part->pool;
	uint64_t seen;
	uint32_t got;
	do {
		seen = changes_of(pool);
		*from_id = LCPFS_ENGINE_FREE;
		got = take_free(part);
		if (!got && lcpfs_engine_get_mode(pool->engine) == LCPFS_ENGINE_ON)
			got = take_by_engine(part, from_id);
		if (!got)
			got = take_from_others(part, from_id);
	} while (!got && await_moves(part, seen));
	return got;
}

/* -- writing down -- */

static void note(struct part *part)
{
	struct lcpfs_pool *pool = part->pool;
	const struct part *from = part->granted_by ? part_find(pool, part->granted_by) : NULL;
	char size[WORDS_ROOM];
	history_note(pool, LCPFS_EVENT_EMERGENCY, part->granted_by, part->id, part->granted,
		     "a writer of %s had no room left, and got %s from %s", part->name,
		     words_blocks(size, (double)part->granted * pool->layout.metaslab_blocks),
		     from ? from->name : "free space");
	part->granted = 0;
	part->noted_us = clock_us(&pool->clock);
}

/* A partition that fills up has one after the other: one line in the history stands for those of a while. */
void emergency_note_due(struct lcpfs_pool *pool, bool all)
{
	uint64_t now_us = clock_us(&pool->clock);
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		struct part *part = pool->parts[slot];
		if (part && part->granted && (all || now_us - part->noted_us >= NOTE_US))
			note(part);
	}
}

static void count(struct part *part, uint32_t from_id, uint32_t got)
{
	if (part->granted && part->granted_by != from_id)
		note(part);
	part->emergencies++;
	part->granted += got;
	part->granted_by = from_id;
	books_tell_sizes(part->pool, LCPFS_ENGINE_EMERGENCY);
	if (!part->noted_us)
		note(part);
}

bool emergency_need_space(void *context, uint32_t metaslabs)
{
	struct part *part = context;
	struct lcpfs_pool *pool = part->pool;
	struct store_stats stats;
	uint32_t from_id;
	store_stats(part->store, &stats);
	if (stats.raw) /* what it has has no place behind it: more of that would not help */
		return host_call_back(part) > 0;
	pthread_mutex_lock(&pool->lock);
	if (part->wants_space || !may_grow(part)) {
		bool granted = await_other(part);
		pthread_mutex_unlock(&pool->lock);
		return granted;
	}
	store_stats(part->store, &stats);
	if (stats.metaslabs > metaslabs) { /* another writer of it was faster */
		pthread_mutex_unlock(&pool->lock);
		return true;
	}
	part->wants_space = true;
	part_hold(part);
	pthread_mutex_unlock(&pool->lock);

	uint32_t got = take_any(part, &from_id);
	pthread_mutex_lock(&pool->lock);
	if (got)
		count(part, from_id, got);
	part->wants_space = false;
	part_drop(part);
	pthread_cond_broadcast(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
	return got > 0;
}
