/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A decision of the engine is carried out, reported and written down; and so is what came of it, once that is
 * judged.
 */
#include <assert.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/words.h"
#include "pool/core.h"

enum { DECISION_US_MIN = 30 * 1000000 }; /* between two lines that say that nothing was done, */

#define DECISION_AGAIN_US (UINT64_C(3600) * 1000000) /* and two of them that give the same reason */

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

uint64_t decision_carry_out(struct lcpfs_pool *pool, const struct lcpfs_engine_decision *d)
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
	books_report(pool, d, &moved);
	pthread_mutex_lock(&pool->lock);
	books_tell_sizes(pool, LCPFS_ENGINE_BY_HAND);
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

void decision_note(struct lcpfs_pool *pool, const struct lcpfs_engine_decision *d)
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
bool decision_note_outcomes(struct lcpfs_pool *pool, bool quietly)
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
