/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The keeper: statistics → engine → move, and the engine's memory across restarts. It looks once a second; where
 * the pool turns over in seconds, it looks as often as a part of it was written and read.
 *
 * A round measures every partition, lets the engine judge and decide, carries a decision to move out, reports it,
 * and writes down what happened. While a move runs the engine is told of other changes of size at once, but not of
 * this move's own progress (`unreported`): that it learns from the report.
 *
 * Locks: `round` is held by whoever has a decision to carry out, since the engine hands out one at a time; the
 * pool's lock is taken inside it, for short.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/words.h"
#include "pool/core.h"
#include "pool/guard.h"

enum {
	ROUND_US = 1000000,             /* between two looks at most: the engine's own rhythm, <lcpfs/engine.h> */
	ROUND_US_MIN = 10000,           /* and at least */
	LOOK_SHARE = 200,               /* looking takes no more than this part of the time */
	EVENTS_US_MAX = 5 * 1000000,    /* how long an event may wait for a transaction to ride on */
	SAVE_US = 60 * 1000000,         /* what a crash may cost of what was learned, outcomes aside: a minute */
	DECISION_US_MIN = 30 * 1000000, /* between two lines that say that nothing was done, */
	EVENTS_PENDING_MAX = HISTORY_ENTRIES,
	DISCARD_METASLABS = 64, /* per round, so that a round stays short */
};

#define DECISION_AGAIN_US (UINT64_C(3600) * 1000000) /* and two of them that give the same reason */

/* -- telling the engine -- */

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
 * that still belongs to the giver. Then it begins with nothing, and keeper_tell_sizes says the size after the report.
 */
int keeper_add_part(struct lcpfs_pool *pool, const struct part *part)
{
	struct lcpfs_engine_spec spec = spec_of(part), nothing = spec;
	int error = lcpfs_engine_add(pool->engine, &spec, NULL);
	if (error != -LCPFS_E_NOSPC)
		return error;
	nothing.size_blocks = nothing.min_size_blocks = 0;
	error = lcpfs_engine_add(pool->engine, &nothing, NULL);
	if (!error)
		may_fail(lcpfs_engine_set_limits(pool->engine, part->id, spec.min_size_blocks, spec.max_size_blocks));
	return error;
}

void keeper_fix_size(struct lcpfs_pool *pool, const struct part *part)
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
void keeper_tell_sizes(struct lcpfs_pool *pool, enum lcpfs_engine_cause cause)
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
	return (double)(counters.device_blocks + counters.read_ops);
}

/* Where a partition went since the last time, the sum may have gone back. */
static void set_pace(struct lcpfs_pool *pool, double work, uint64_t now_us)
{
	double done = work - pool->keeper.work, span_us = (double)(now_us - pool->keeper.measured_us);
	pool->keeper.pace = done > 0 && span_us > 0 ? done / span_us : 0;
	pool->keeper.work = work;
	pool->keeper.measured_us = now_us;
}

static void measure(struct lcpfs_pool *pool, bool only_if_due)
{
	uint64_t now_us = clock_us(&pool->clock);
	double work = 0;
	pthread_mutex_lock(&pool->lock);
	if (!only_if_due || now_us - pool->keeper.measured_us >= ROUND_US) {
		for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
			if (pool->parts[slot] && pool->parts[slot]->store)
				work += measure_part(pool, pool->parts[slot], now_us);
		}
		set_pace(pool, work, now_us);
	}
	pthread_mutex_unlock(&pool->lock);
}

void keeper_measure(struct lcpfs_pool *pool)
{
	measure(pool, true);
}

/* -- carrying out -- */

/* NULL: there is none, or it is about to go: who removes it waits for those who hold it only once. */
static struct part *hold(struct lcpfs_pool *pool, uint32_t id)
{
	struct part *part = id ? part_find(pool, id) : NULL;
	if (!part || part->removing)
		return NULL;
	part_hold(part);
	return part;
}

/* For moves. */
static uint64_t copied_blocks(const struct part *part)
{
	struct store_stats stats;
	if (!part || !part->store)
		return 0;
	store_stats(part->store, &stats);
	return stats.release_copied_blocks;
}

void keeper_report(struct lcpfs_pool *pool, const struct lcpfs_engine_decision *d,
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

static struct lcpfs_event event_of(const struct lcpfs_engine_decision *d, enum lcpfs_event_kind kind)
{
	struct lcpfs_event event = {
		.kind = kind,
		.from_id = d->from_id,
		.to_id = d->to_id,
		.blocks = d->blocks,
		.sequence = d->sequence,
		.expected_gain = d->expected_gain,
		.expected_error = d->expected_error,
		.pressure = d->to.pressure,
		.verdict = -1,
		.reason = (int)d->reason,
	};
	snprintf(event.text, sizeof(event.text), "%.*s", (int)sizeof(event.text) - 1, d->sentence);
	return event;
}

static double size_or_free(const struct lcpfs_pool *pool, const struct part *part)
{
	return part ? (double)part_size_blocks(part) : (double)pool->free_metaslabs * pool->layout.metaslab_blocks;
}

static void note_move(struct lcpfs_pool *pool, const struct lcpfs_engine_decision *d, const struct move *move,
		      const struct lcpfs_engine_moved *moved)
{
	struct lcpfs_event event = event_of(d, LCPFS_EVENT_MOVED);
	char size[WORDS_ROOM];
	event.blocks = moved->blocks;
	event.duration_us = moved->duration_us;
	event.from_new_blocks = size_or_free(pool, move->from);
	event.from_old_blocks = event.from_new_blocks + (double)moved->blocks;
	event.to_new_blocks = size_or_free(pool, move->to);
	event.to_old_blocks = event.to_new_blocks - (double)moved->blocks;
	if (moved->blocks < d->blocks)
		snprintf(event.text, sizeof(event.text), "%s of this: %.*s",
			 words_blocks(size, (double)moved->blocks), (int)sizeof(event.text) - WORDS_ROOM - 16,
			 d->sentence);
	history_add(pool, &event);
	may_fail(history_flush(pool));
}

static bool can_run(const struct move *move, const struct lcpfs_engine_decision *d)
{
	return (move->from || d->from_id == LCPFS_ENGINE_FREE) && (move->to || d->to_id == LCPFS_ENGINE_FREE) &&
	       move->from != move->to;
}

/* A move between nobody and free space: given back without asking anyone. */
static int run(struct move *move)
{
	return move->from || move->to ? move_run(move, NULL) : -LCPFS_E_INVALID;
}

struct purse {
	const struct part *from;
	uint64_t before;
	double most; /* blocks that may be copied; 0: any number */
};

/* A move ends where it has cost what it may at most. */
static bool within_cost(void *context, uint64_t done, uint64_t total)
{
	const struct purse *purse = context;
	(void)done;
	(void)total;
	return !(purse->most > 0) || (double)(copied_blocks(purse->from) - purse->before) < purse->most;
}

uint64_t keeper_carry_out(struct lcpfs_pool *pool, const struct lcpfs_engine_decision *d)
{
	struct move move = {.wanted = (uint32_t)(d->blocks / pool->layout.metaslab_blocks), .by_engine = true};
	struct lcpfs_engine_moved moved = {0};
	struct purse purse = {.most = d->cost_limit_blocks};
	uint64_t begin_us = clock_us(&pool->clock);
	pthread_mutex_lock(&pool->lock);
	move.from = hold(pool, d->from_id);
	move.to = hold(pool, d->to_id);
	pthread_mutex_unlock(&pool->lock);
	purse.from = move.from;
	purse.before = copied_blocks(move.from);
	move.progress = within_cost;
	move.context = &purse;
	if (can_run(&move, d))
		may_fail(run(&move)); /* the report says how far it came */
	moved.blocks = (uint64_t)move.moved * pool->layout.metaslab_blocks;
	moved.duration_us = clock_us(&pool->clock) - begin_us;
	moved.copied_blocks = copied_blocks(move.from) - purse.before;
	keeper_report(pool, d, &moved);
	pthread_mutex_lock(&pool->lock);
	keeper_tell_sizes(pool, LCPFS_ENGINE_BY_HAND);
	if (move.moved)
		note_move(pool, d, &move, &moved);
	if (move.from)
		part_drop(move.from);
	if (move.to)
		part_drop(move.to);
	pthread_mutex_unlock(&pool->lock);
	return moved.blocks;
}

/* -- writing down -- */

/*
 * Waiting is not worth a line each time; what would have been done, and why nothing is, are. That it is switched
 * off, whoever did so was told.
 */
static bool worth_noting(const struct lcpfs_pool *pool, const struct lcpfs_engine_decision *d, uint64_t now_us)
{
	if (d->sequence == pool->keeper.decision_sequence)
		return false;
	if (d->action == LCPFS_ENGINE_WOULD_MOVE)
		return true;
	if (d->action == LCPFS_ENGINE_MOVE || d->reason == LCPFS_ENGINE_MODE_OFF ||
	    d->reason == LCPFS_ENGINE_WAIT_REPORT || d->reason == LCPFS_ENGINE_WAIT_EFFECT ||
	    d->reason == LCPFS_ENGINE_WAIT_MEASURE)
		return false;
	if (pool->keeper.decision_us && now_us - pool->keeper.decision_us < DECISION_US_MIN)
		return false;
	return !pool->keeper.reason_us[d->reason] ||
	       now_us - pool->keeper.reason_us[d->reason] >= DECISION_AGAIN_US;
}

static void note_decision(struct lcpfs_pool *pool, const struct lcpfs_engine_decision *d)
{
	uint64_t now_us = clock_us(&pool->clock);
	if (worth_noting(pool, d, now_us)) {
		struct lcpfs_event event = event_of(d, LCPFS_EVENT_DECISION);
		history_add(pool, &event);
		pool->keeper.decision_us = pool->keeper.reason_us[d->reason] = now_us;
		pool->keeper.decision_sequence = d->sequence;
	}
}

/* Of what clients of the two waited before. */
static double percent_less(const struct lcpfs_engine_outcome *o, double epsilon)
{
	return o->epsilon_before > 0 ? 100 * epsilon / o->epsilon_before : 0;
}

/* In the words of the engine's own sentences. Where it counted blocks, there is no error. */
static void say_outcome(const struct lcpfs_engine_outcome *o, struct lcpfs_event *event)
{
	double less = percent_less(o, o->epsilon_before - o->epsilon_after);
	char came[WORDS_ROOM], error[WORDS_ROOM], expected[WORDS_ROOM];
	words_number(came, less < 0 ? -less : less);
	words_number(error, percent_less(o, o->standard_error));
	words_number(expected, percent_less(o, o->expected_gain));
	if (o->verdict == LCPFS_ENGINE_NOT_JUDGED)
		snprintf(event->text, sizeof(event->text), "not judged: its effect could not be measured");
	else if (!(o->standard_error > 0))
		snprintf(event->text, sizeof(event->text), "%s: more was copied since than it saves",
			 lcpfs_engine_verdict_name(o->verdict));
	else
		snprintf(event->text, sizeof(event->text),
			 "%s%s: clients wait %s %% ± %s %% %s, expected was %s %% less",
			 o->joined ? "with the next move, " : "", lcpfs_engine_verdict_name(o->verdict), came,
			 error, less < 0 ? "longer" : "less", expected);
}

static void put_learned(struct lcpfs_event *event, const struct lcpfs_engine_statistics *s)
{
	const double learned[] = {s->pressure.value, s->cooldown_s.value, s->growth_step.value,
				  s->shrink_step.value};
	const double confidence[] = {s->pressure_confidence, s->cooldown_confidence, s->growth_confidence,
				     s->shrink_confidence};
	static_assert(sizeof(learned) == sizeof(event->learned), "thresholds");
	memcpy(event->learned, learned, sizeof(learned));
	memcpy(event->learned_confidence, confidence, sizeof(confidence));
}

static void note_outcome(struct lcpfs_pool *pool, const struct lcpfs_engine_outcome *o)
{
	struct lcpfs_engine_statistics s;
	struct lcpfs_event event = {
		.kind = LCPFS_EVENT_OUTCOME,
		.from_id = o->from_id,
		.to_id = o->to_id,
		.blocks = o->blocks,
		.duration_us = o->taken_us,
		.sequence = o->sequence,
		.from_old_blocks = (double)o->from_old_blocks,
		.from_new_blocks = (double)o->from_new_blocks,
		.to_old_blocks = (double)o->to_old_blocks,
		.to_new_blocks = (double)o->to_new_blocks,
		.expected_gain = o->expected_gain,
		.expected_error = o->expected_error,
		.epsilon_before = o->epsilon_before,
		.epsilon_after = o->epsilon_after,
		.standard_error = o->standard_error,
		.pressure = o->pressure,
		.verdict = (int)o->verdict,
		.reason = (int)o->reason,
	};
	say_outcome(o, &event);
	if (!lcpfs_engine_get_statistics(pool->engine, &s))
		put_learned(&event, &s);
	history_add(pool, &event);
}

static bool is_newest_known(const struct lcpfs_pool *pool, const struct lcpfs_engine_outcome *o)
{
	return o->sequence == pool->keeper.outcome_sequence && o->moved_us == pool->keeper.outcome_moved_us;
}

static void remember_newest(struct lcpfs_pool *pool, const struct lcpfs_engine_outcome *o)
{
	pool->keeper.outcome_sequence = o->sequence;
	pool->keeper.outcome_moved_us = o->moved_us;
}

/* They come in the order in which they were judged, the newest last. True if there were new ones. */
static bool note_outcomes(struct lcpfs_pool *pool, bool quietly)
{
	struct lcpfs_engine_outcome *list = calloc(LCPFS_ENGINE_OUTCOMES_MAX, sizeof(*list));
	size_t first;
	if (!list)
		return false;
	size_t count = lcpfs_engine_get_outcomes(pool->engine, list, LCPFS_ENGINE_OUTCOMES_MAX);
	for (first = count; first > 0 && !is_newest_known(pool, &list[first - 1]); first--)
		;
	for (size_t i = first; i < count && !quietly; i++)
		note_outcome(pool, &list[i]);
	if (count)
		remember_newest(pool, &list[count - 1]);
	free(list);
	return first < count;
}

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

static int load_part(struct lcpfs_pool *pool, const struct part *part)
{
	struct lcpfs_engine_spec spec = spec_of(part);
	return lcpfs_engine_add(pool->engine, &spec, NULL);
}

int keeper_start_engine(struct lcpfs_pool *pool)
{
	struct lcpfs_engine_options options = {
		.pool_blocks = layout_pool_blocks(&pool->layout),
		.step_blocks = pool->layout.metaslab_blocks,
		.mode = (enum lcpfs_engine_mode)le32_get(pool->uberblock.tune_mode),
	};
	int error = lcpfs_engine_create(&options, &pool->engine);
	/* One that the engine does not take is one of a damaged pool: it is not moved then. */
	for (struct part *part = next_id(pool, 0); part && !error; part = next_id(pool, part->id))
		error = load_part(pool, part) == -LCPFS_E_NOMEM ? -LCPFS_E_NOMEM : 0;
	if (!error)
		error = load(pool);
	if (error)
		return error;
	pool->keeper.saved_us = clock_us(&pool->clock);
	note_outcomes(pool, true);
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
	bool outcomes = note_outcomes(pool, false);
	note_decision(pool, d);
	pthread_mutex_unlock(&pool->lock);
	return outcomes;
}

/* How long measuring and deciding took. */
static uint64_t look(struct lcpfs_pool *pool)
{
	struct lcpfs_engine_decision d = {0};
	pthread_mutex_lock(&pool->round);
	uint64_t begin_us = clock_us(&pool->clock);
	measure(pool, false);
	may_fail(lcpfs_engine_decide(pool->engine, clock_us(&pool->clock), &d));
	uint64_t look_us = clock_us(&pool->clock) - begin_us;
	bool outcomes = note_answer(pool, &d);
	if (d.action == LCPFS_ENGINE_MOVE)
		keeper_carry_out(pool, &d);
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
	return wait_us < ROUND_US ? MIN_OF(MAX_OF((uint64_t)wait_us, least_us), (uint64_t)ROUND_US) : ROUND_US;
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
	uint64_t wait_us = ROUND_US, asked_us = 0;
	while (wait_for_next(pool, wait_us)) {
		uint64_t look_us = look(pool), now_us = clock_us(&pool->clock);
		if (now_us - asked_us >= ROUND_US) { /* a full host is not bothered more often */
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
	while (wait_for_next(context, ROUND_US))
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
