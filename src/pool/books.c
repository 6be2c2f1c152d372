/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's books: what it is told of the pool. Partitions and their sizes, what they did, and what a move of
 * its own came to.
 *
 * Other changes of size it learns at once, also while a move of its own runs; of that move's progress
 * (`unreported`) it learns from the report alone.
 */
#include "pool/core.h"

static struct lcpfs_engine_spec spec_of(const struct part *part)
{
	uint64_t size = part_size_blocks(part);
	return (struct lcpfs_engine_spec){
		.id = part->id,
		.name = part->name,
		.size_blocks = size,
		/* A damaged pool may have sizes outside the limits. */
		.min_size_blocks = MIN_OF(part->min_blocks, size),
		.max_size_blocks = MAX_OF(part->max_blocks, size),
	};
}

/*
 * Of what it got, some may have come free by a move of which the engine has not had the report yet: in its books
 * that still belongs to the giver. Then it begins with nothing, and books_tell_sizes says the size after the
 * report.
 */
int books_add_part(struct lcpfs_pool *pool, const struct part *part)
{
	struct lcpfs_engine_spec spec = spec_of(part), nothing = spec;
	int error = lcpfs_engine_add(pool->engine, &spec, NULL);
	if (error != -LCPFS_E_NOSPC)
		return error;
	nothing.size_blocks = nothing.min_size_blocks = 0;
	error = lcpfs_engine_add(pool->engine, &nothing, NULL);
	if (!error)
		may_fail(lcpfs_engine_set_limits(pool->engine, part->id, spec.min_size_blocks,
						 spec.max_size_blocks));
	return error;
}

static struct part *next_id(const struct lcpfs_pool *pool, uint32_t after)
{
	struct part *next = NULL;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		struct part *part = pool->parts[slot];
		if (part && part->id > after && (!next || part->id < next->id))
			next = part;
	}
	return next;
}

int books_add_all(struct lcpfs_pool *pool)
{
	for (const struct part *part = next_id(pool, 0); part; part = next_id(pool, part->id)) {
		struct lcpfs_engine_spec spec = spec_of(part);
		if (lcpfs_engine_add(pool->engine, &spec, NULL) == -LCPFS_E_NOMEM)
			return -LCPFS_E_NOMEM;
	}
	return 0;
}

void books_fix_size(struct lcpfs_pool *pool, const struct part *part)
{
	uint64_t size = part_size_blocks(part);
	may_fail(lcpfs_engine_set_limits(pool->engine, part->id, size, size));
}

static uint64_t told_size(const struct part *part)
{
	return (uint64_t)((int64_t)part->metaslabs - part->unreported) * part->pool->layout.metaslab_blocks;
}

/*
 * Telling it what it knows changes nothing. Twice, since one can only grow, in its books, by what others have
 * given up.
 */
void books_tell_sizes(struct lcpfs_pool *pool, enum lcpfs_engine_cause cause)
{
	uint64_t now_us = clock_us(&pool->clock);
	for (unsigned pass = 0; pass < 2; pass++) {
		for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
			const struct part *part = pool->parts[slot];
			if (part)
				may_fail(lcpfs_engine_resized(pool->engine, part->id, now_us, told_size(part),
							      cause));
		}
	}
}

/* Blocks that it has written and read. */
static double work_of(const struct store_stats *s)
{
	return (double)(s->counters.device_blocks + s->counters.reads);
}

static double measure_part(struct lcpfs_pool *pool, struct part *part, uint64_t now_us)
{
	struct store_stats s;
	store_stats(part->store, &s);
	struct lcpfs_engine_counters counters = {
		.read_ops = s.counters.reads,
		.write_ops = s.counters.writes,
		.read_latency_us = (double)s.counters.read_us,
		.write_latency_us = (double)s.counters.write_us,
		.user_blocks = s.counters.written_blocks,
		.copied_blocks = s.counters.copied_blocks,
		.device_blocks = s.counters.device_blocks,
		.live_blocks = s.live_blocks,
		.least_blocks = (uint64_t)store_size_least(part->store) * pool->layout.metaslab_blocks,
	};
	may_fail(lcpfs_engine_update(pool->engine, part->id, now_us, &counters));
	return work_of(&s);
}

/* Where a partition went since the last time, the sum may have gone back. */
static void set_pace(struct lcpfs_pool *pool, double work, uint64_t now_us)
{
	double done = work - pool->keeper.work, span_us = (double)(now_us - pool->keeper.measured_us);
	pool->keeper.pace = done > 0 && span_us > 0 ? done / span_us : 0;
	pool->keeper.work = work;
	pool->keeper.measured_us = now_us;
}

void books_measure(struct lcpfs_pool *pool, bool only_if_due)
{
	uint64_t now_us = clock_us(&pool->clock);
	double work = 0;
	pthread_mutex_lock(&pool->lock);
	if (!only_if_due || now_us - pool->keeper.measured_us >= KEEPER_ROUND_US) {
		for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
			if (pool->parts[slot] && pool->parts[slot]->store)
				work += measure_part(pool, pool->parts[slot], now_us);
		}
		set_pace(pool, work, now_us);
	}
	pthread_mutex_unlock(&pool->lock);
}

void books_measure_last(struct lcpfs_pool *pool)
{
	double work = 0;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		struct store_stats s;
		if (!pool->parts[slot] || !pool->parts[slot]->store)
			continue;
		store_stats(pool->parts[slot]->store, &s);
		work += work_of(&s);
	}
	if (work != pool->keeper.work)
		books_measure(pool, false);
}

void books_report(struct lcpfs_pool *pool, const struct lcpfs_engine_decision *d,
		  const struct lcpfs_engine_moved *moved)
{
	pthread_mutex_lock(&pool->lock);
	may_fail(lcpfs_engine_report(pool->engine, clock_us(&pool->clock), d->sequence, moved));
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (pool->parts[slot])
			pool->parts[slot]->unreported = 0;
	}
	pthread_mutex_unlock(&pool->lock);
}
