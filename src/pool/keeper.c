/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper: statistics → engine → move, and the engine's memory across restarts. It looks once a second; where
 * the pool turns over in seconds, it looks as often as a part of it was written and read.
 *
 * A round measures every partition (books.c), lets the engine judge and decide, carries a decision to move out and
 * reports it (decision.c), and writes down what happened.
 *
 * Locks: `round` is held by whoever has a decision to carry out, since the engine hands out one at a time; the
 * pool's lock is taken inside it, for short.
 */
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pool/core.h"
#include "pool/guard.h"

enum {
	ROUND_US_MIN = 10000,        /* between two looks at least */
	LOOK_SHARE = 200,            /* looking takes no more than this part of the time */
	EVENTS_US_MAX = 5 * 1000000, /* how long an event may wait for a transaction to ride on */
	SAVE_US = 60 * 1000000,      /* what a crash may cost of what was learned, outcomes aside: a minute */
	EVENTS_PENDING_MAX = HISTORY_ENTRIES,
	DISCARD_METASLABS = 64, /* per round, so that a round stays short */
};

/* -- what was learned -- */

static size_t blob_room(const struct lcpfs_pool *pool)
{
	return (size_t)pool->layout.engine_pages * BLOB_BYTES;
}

static bool blob_differs(const struct lcpfs_pool *pool, uint32_t i, const uint8_t *bytes, size_t length)
{
	const struct fmt_blob *page = txg_current(pool, layout_engine_page(&pool->layout) + i);
	return le32_get(page->page.head.count) != length || memcmp(page->bytes, bytes, length) != 0;
}

static void save_page(struct txg *txg, uint32_t i, const uint8_t *bytes, size_t length)
{
	if (!blob_differs(txg->pool, i, bytes, length))
		return;
	struct fmt_blob *page = txg_change(txg, layout_engine_page(&txg->pool->layout) + i);
	memset(page->bytes, 0, sizeof(page->bytes));
	memcpy(page->bytes, bytes, length);
	page->page.head.count = le32_of((uint32_t)length);
}

void keeper_save(struct txg *txg)
{
	struct lcpfs_pool *pool = txg->pool;
	uint8_t *bytes = malloc(blob_room(pool) + 1);
	size_t length = bytes ? lcpfs_engine_save(pool->engine, bytes, blob_room(pool)) : 0;
	sample_into(txg);
	/* What does not fit is not kept: the pool works without, and learns it again. */
	for (uint32_t i = 0; length && length <= blob_room(pool) && i < pool->layout.engine_pages; i++) {
		size_t at = MIN_OF((size_t)i * BLOB_BYTES, length);
		save_page(txg, i, bytes + at, MIN_OF(length - at, (size_t)BLOB_BYTES));
	}
	free(bytes);
	pool->keeper.saved_us = clock_us(&pool->clock);
}

/* 0, or NOMEM: what is damaged is learned again, what is not must not be forgotten. */
static int load(struct lcpfs_pool *pool)
{
	uint8_t *bytes = malloc(blob_room(pool) + 1);
	size_t length = 0;
	int error = 0;
	if (!bytes)
		return -LCPFS_E_NOMEM;
	for (uint32_t i = 0; i < pool->layout.engine_pages; i++) {
		const struct fmt_blob *page = txg_current(pool, layout_engine_page(&pool->layout) + i);
		size_t part = MIN_OF(le32_get(page->page.head.count), (uint32_t)BLOB_BYTES);
		memcpy(bytes + length, page->bytes, part);
		length += part;
	}
	if (length)
		error = lcpfs_engine_load(pool->engine, bytes, length);
	free(bytes);
	return error == -LCPFS_E_NOMEM ? error : 0;
}

int keeper_start_engine(struct lcpfs_pool *pool)
{
	struct lcpfs_engine_options options = {
		.pool_blocks = layout_pool_blocks(&pool->layout),
		.step_blocks = pool->layout.metaslab_blocks,
		.mode = (enum lcpfs_engine_mode)le32_get(pool->uberblock.tune_mode),
	};
	int error = lcpfs_engine_create(&options, &pool->engine);
	if (!error)
		error = books_add_all(pool);
	if (!error)
		error = load(pool);
	if (error)
		return error;
	pool->keeper.saved_us = clock_us(&pool->clock);
	decision_note_outcomes(pool, true);
	return 0;
}

/* -- rounds -- */

static void write_down(struct lcpfs_pool *pool, bool outcomes)
{
	uint64_t now_us = clock_us(&pool->clock);
	bool save = outcomes || now_us - pool->keeper.saved_us >= SAVE_US;
	bool events = pool->pending.count >= EVENTS_PENDING_MAX ||
		      (pool->pending.count && now_us - pool->keeper.events_us >= EVENTS_US_MAX);
	struct txg txg;
	if (txg_refuse(pool, NULL) || !(save || events))
		return;
	txg_begin(pool, &txg);
	if (save)
		keeper_save(&txg);
	if (txg.count || pool->pending.count || txg.error)
		may_fail(txg_commit(&txg, NULL)); /* the next round tries again */
	else
		txg_abort(&txg);
}

/* Deciding judges, too: what came of the last move is told before the next one is made. */
static bool note_answer(struct lcpfs_pool *pool, const struct lcpfs_engine_decision *d)
{
	pthread_mutex_lock(&pool->lock);
	bool outcomes = decision_note_outcomes(pool, false);
	decision_note(pool, d);
	pthread_mutex_unlock(&pool->lock);
	return outcomes;
}

/* How long measuring and deciding took. */
static uint64_t look(struct lcpfs_pool *pool)
{
	struct lcpfs_engine_decision d = {0};
	pthread_mutex_lock(&pool->round);
	uint64_t begin_us = clock_us(&pool->clock);
	books_measure(pool, false);
	may_fail(lcpfs_engine_decide(pool->engine, clock_us(&pool->clock), &d));
	uint64_t look_us = clock_us(&pool->clock) - begin_us;
	bool outcomes = note_answer(pool, &d);
	if (d.action == LCPFS_ENGINE_MOVE)
		decision_carry_out(pool, &d);
	pthread_mutex_lock(&pool->lock);
	emergency_note_due(pool, false);
	host_look(pool);
	sample_take(pool);
	write_down(pool, outcomes);
	pthread_mutex_unlock(&pool->lock);
	pthread_mutex_unlock(&pool->round);
	map_discard(pool, DISCARD_METASLABS);
	return look_us;
}

void pool_tick(struct lcpfs_pool *pool)
{
	(void)look(pool);
	guard_ask_again(pool->vdev);
}

uint64_t keeper_wait_us(uint64_t pool_blocks, double blocks_per_us, uint64_t look_us)
{
	double wait_us = (double)pool_blocks / LCPFS_ENGINE_LOOKS / blocks_per_us; /* may be infinite */
	uint64_t least_us = MAX_OF(look_us * LOOK_SHARE, (uint64_t)ROUND_US_MIN);
	return wait_us < KEEPER_ROUND_US ? MIN_OF(MAX_OF((uint64_t)wait_us, least_us), (uint64_t)KEEPER_ROUND_US)
					 : KEEPER_ROUND_US;
}

static bool wait_for_next(struct lcpfs_pool *pool, uint64_t wait_us)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	uint64_t nanoseconds = (uint64_t)until.tv_nsec + wait_us * 1000;
	until.tv_sec += (time_t)(nanoseconds / 1000000000);
	until.tv_nsec = (long)(nanoseconds % 1000000000);
	pthread_mutex_lock(&pool->lock);
	while (!pool->stopping && pthread_cond_timedwait(&pool->changed, &pool->lock, &until) == 0)
		;
	bool stopping = pool->stopping;
	pthread_mutex_unlock(&pool->lock);
	return !stopping;
}

static void *keep(void *context)
{
	struct lcpfs_pool *pool = context;
	uint64_t wait_us = KEEPER_ROUND_US, asked_us = 0;
	while (wait_for_next(pool, wait_us)) {
		uint64_t look_us = look(pool), now_us = clock_us(&pool->clock);
		if (now_us - asked_us >= KEEPER_ROUND_US) { /* a full host is not bothered more often */
			guard_ask_again(pool->vdev);
			asked_us = now_us;
		}
		pthread_mutex_lock(&pool->lock);
		wait_us = keeper_wait_us(layout_pool_blocks(&pool->layout), pool->keeper.pace, look_us);
		pthread_mutex_unlock(&pool->lock);
	}
	return NULL;
}

/* Apart from rounds: taking and destroying snapshots may last. */
static void *keep_schedule(void *context)
{
	while (wait_for_next(context, KEEPER_ROUND_US))
		schedule_look(context);
	return NULL;
}

void keeper_start(struct lcpfs_pool *pool)
{
	if (!pool->options.background || pool->options.read_only)
		return;
	pool->has_thread = pthread_create(&pool->thread, NULL, keep, pool) == 0;
	pool->has_schedule_thread = pthread_create(&pool->schedule_thread, NULL, keep_schedule, pool) == 0;
}

void keeper_stop(struct lcpfs_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->stopping = true;
	pthread_cond_broadcast(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
	if (pool->has_thread)
		pthread_join(pool->thread, NULL);
	if (pool->has_schedule_thread)
		pthread_join(pool->schedule_thread, NULL);
	pool->has_thread = pool->has_schedule_thread = false;
}

unsigned pool_step(struct lcpfs_pool *pool)
{
	struct part *part;
	unsigned busy = 0;
	uint32_t slot = 0;
	while ((part = part_hold_next(pool, &slot))) {
		busy += store_step(part->store) > 0;
		part_let_go(part);
	}
	return busy;
}

int lcpfs_pool_set_tune(struct lcpfs_pool *pool, enum lcpfs_engine_mode mode, struct lcpfs_failure *failure)
{
	static const char *const names[] = {"off", "observe", "on"};
	struct txg txg;
	if ((unsigned)mode > LCPFS_ENGINE_ON)
		return failure_set(failure, LCPFS_E_INVALID, "the mode is off, observe or on");
	pthread_mutex_lock(&pool->lock);
	uint32_t pending = pool->pending.count;
	if (le32_get(pool->uberblock.tune_mode) == mode) {
		pthread_mutex_unlock(&pool->lock);
		return 0;
	}
	history_note(pool, LCPFS_EVENT_TUNE, 0, 0, 0, "mode %s, was %s", names[mode],
		     names[le32_get(pool->uberblock.tune_mode)]);
	txg_begin(pool, &txg);
	txg.uberblock.tune_mode = le32_of(mode);
	int error = txg_commit(&txg, failure);
	if (!error)
		error = lcpfs_engine_set_mode(pool->engine, mode);
	else
		pool->pending.count = pending; /* without the line that was not to be */
	pthread_mutex_unlock(&pool->lock);
	return error;
}

int lcpfs_pool_set_settings(struct lcpfs_pool *pool, const struct lcpfs_pool_settings *settings,
			    struct lcpfs_failure *failure)
{
	struct txg txg;
	int error = 0;
	if (settings->alarm_percent > 100)
		return failure_set(failure, LCPFS_E_INVALID, "nothing is fuller than 100 percent");
	pthread_mutex_lock(&pool->lock);
	if (le64_get(pool->uberblock.cache_bytes) != settings->cache_bytes ||
	    le32_get(pool->uberblock.alarm_percent) != settings->alarm_percent) {
		txg_begin(pool, &txg);
		txg.uberblock.cache_bytes = le64_of(settings->cache_bytes);
		txg.uberblock.alarm_percent = le32_of(settings->alarm_percent);
		error = txg_commit(&txg, failure);
	}
	pthread_mutex_unlock(&pool->lock);
	return error;
}
