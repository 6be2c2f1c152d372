/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A writer found no room although its store cleaned: another metaslab, at once, if its partition is below its max.
 *
 * First from free space. Where there is none, and in mode `on` only, from another partition: the one the engine
 * names, or, if the engine is busy, the one with the most empty metaslabs; never below anyone's min.
 *
 * It runs in the thread of a writer, of a service or of a move, and must not wait in a circle. It waits for three
 * things: the pool's lock, which nobody keeps for long; another emergency of the same partition; a store_release
 * of another partition, which may itself end up here. The last two could form a circle, so a partition that wants
 * space (`wants_space`) is never chosen to give: whoever comes later in a circle finds the earlier ones spared.
 * The keeper's round is tried, never waited for.
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
	NOTE_US = 10 * 1000000,
};

static bool may_grow(const struct part *part)
{
	uint64_t has = (uint64_t)part->metaslabs + part->incoming;

	return !txg_refuse(part->pool, NULL) && !part_refuse(part, NULL) &&
	       (has + 1) * part->pool->layout.metaslab_blocks <= part->max_blocks;
}

/* Another thread of the same partition is at it: its result is ours. */
static bool await_other(struct part *part)
{
	uint64_t before = part->emergencies;

	while (part->wants_space)
		pthread_cond_wait(&part->pool->changed, &part->pool->lock);
	return part->emergencies > before;
}

static uint32_t take_free(struct part *part)
{
	struct move move = {.to = part, .wanted = 1 + part->metaslabs / SHARE};

	if (move_run(&move, NULL) && !move.moved) {
		map_discard(part->pool, move.wanted);
		may_fail(move_run(&move, NULL));
	}
	return move.moved;
}

static bool may_give(const struct part *part, const struct part *to)
{
	uint64_t left = (uint64_t)part->metaslabs - part->releasing;

	return part != to && part->store && !part->removing && !part->wants_space && left > STORE_METASLABS_MIN &&
	       (left - 1) * part->pool->layout.metaslab_blocks >= part->min_blocks;
}

/* With the lock. Empty ones cost nothing to take. */
static struct part *with_most_empty(const struct part *to)
{
	const struct lcpfs_pool *pool = to->pool;
	struct part *best = NULL;
	uint32_t most = 0;

	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		struct part *part = pool->parts[slot];
		struct store_stats stats;

		if (!part || !may_give(part, to))
			continue;
		store_stats(part->store, &stats);
		if (!best || stats.empty > most) {
			best = part;
			most = stats.empty;
		}
	}
	return best;
}

static void drop(struct part *part)
{
	pthread_mutex_lock(&part->pool->lock);
	part_drop(part);
	pthread_mutex_unlock(&part->pool->lock);
}

/*
 * What `from` gave was its move to free space, as the engine proposed; what `to` gets it learns of as an
 * emergency.
 */
static uint32_t take_proposed(struct part *to, const struct lcpfs_engine_decision *d, uint32_t *from_id)
{
	struct lcpfs_pool *pool = to->pool;
	struct move move = {.to = to, .wanted = 1, .by_engine = true};
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
		drop(move.from);
	}
	keeper_report(pool, d, &moved);
	return move.moved;
}

static uint32_t take_by_engine(struct part *to, uint32_t *from_id)
{
	struct lcpfs_pool *pool = to->pool;
	struct lcpfs_engine_decision d;
	uint32_t got = 0;

	if (pthread_mutex_trylock(&pool->round))
		return 0;
	CHECK(!lcpfs_engine_call_back(pool->engine, clock_us(&pool->clock), pool->layout.metaslab_blocks, to->id,
				      &d));
	if (d.action == LCPFS_ENGINE_MOVE)
		got = take_proposed(to, &d, from_id);
	pthread_mutex_unlock(&pool->round);
	return got;
}

static uint32_t take_empty(struct part *to, uint32_t *from_id)
{
	struct lcpfs_pool *pool = to->pool;
	struct move move = {.to = to, .wanted = 1};

	pthread_mutex_lock(&pool->lock);
	move.from = with_most_empty(to);
	if (move.from)
		part_hold(move.from);
	pthread_mutex_unlock(&pool->lock);
	if (!move.from)
		return 0;
	*from_id = move.from->id;
	may_fail(move_run(&move, NULL));
	drop(move.from);
	return move.moved;
}

static void note(struct part *part, uint32_t from_id)
{
	struct lcpfs_pool *pool = part->pool;
	const struct part *from = from_id ? part_find(pool, from_id) : NULL;
	char size[WORDS_ROOM];

	history_note(pool, LCPFS_EVENT_EMERGENCY, from_id, part->id, part->granted,
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
			note(part, LCPFS_ENGINE_FREE);
	}
}

static void count(struct part *part, uint32_t from_id, uint32_t got)
{
	part->emergencies++;
	part->granted += got;
	keeper_tell_sizes(part->pool, LCPFS_ENGINE_EMERGENCY);
	if (from_id != LCPFS_ENGINE_FREE || !part->noted_us)
		note(part, from_id);
}

/* It has metaslabs, but the host of a sparse pool file has no place for them: more of those would not help. */
static bool lacks_host_space(const struct part *part)
{
	struct store_stats stats;

	store_stats(part->store, &stats);
	return stats.raw > 0;
}

bool emergency_need_space(void *context)
{
	struct part *part = context;
	struct lcpfs_pool *pool = part->pool;
	uint32_t got, from_id = LCPFS_ENGINE_FREE;

	if (lacks_host_space(part))
		return host_call_back(part) > 0;
	pthread_mutex_lock(&pool->lock);
	if (part->wants_space || !may_grow(part)) {
		bool granted = await_other(part);

		pthread_mutex_unlock(&pool->lock);
		return granted;
	}
	part->wants_space = true;
	part_hold(part);
	pthread_mutex_unlock(&pool->lock);

	got = take_free(part);
	if (!got && lcpfs_engine_get_mode(pool->engine) == LCPFS_ENGINE_ON) {
		got = take_by_engine(part, &from_id);
		if (!got)
			got = take_empty(part, &from_id);
	}

	pthread_mutex_lock(&pool->lock);
	if (got)
		count(part, from_id, got);
	part->wants_space = false;
	part_drop(part);
	pthread_cond_broadcast(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
	return got > 0;
}
