/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine leaves behind: the record of each decision, and its words. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "engine/core.h"
#include "engine_world.h"

/*
 * Each decision once more, from its record alone, by the formulae of docs/engine.md; nothing of the engine's is
 * called.
 */

#define Z 1.6448536 /* exceeded with the significance of 5 % */

/* Copies per user block at size/live = alpha: t/(1 − t), t = exp(−alpha·(1 − t)), by halving. */
static double uniform_copies(double alpha)
{
	double low = 0, high = 1 - 1e-7;
	for (int i = 0; i < 60; i++) {
		double t = (low + high) / 2;
		if (t < exp(-alpha * (1 - t)))
			low = t;
		else
			high = t;
	}
	return low / (1 - low);
}

static double copies_at(const struct lcpfs_engine_side *s, double size)
{
	double formula = uniform_copies((size - s->kept_blocks) / (double)s->live_blocks) / s->uniform_copies;
	return s->live_blocks ? s->cleaning_cost * pow(formula, s->curve_power) : 0;
}

static double epsilon_at(const struct lcpfs_engine_side *s, double size)
{
	double grown = (1 + copies_at(s, size)) / (1 + s->cleaning_cost);
	double latency = s->avg_latency_us * (1 - s->write_share + s->write_share * grown);
	return s->access_frequency * latency * (double)s->live_blocks / size;
}

static double fall(const struct lcpfs_engine_side *s, double blocks)
{
	double size = (double)s->size_blocks;
	if (!s->id || !(s->access_frequency > 0))
		return 0;
	return epsilon_at(s, size) - epsilon_at(s, size + blocks);
}

static double both_fall(const struct lcpfs_engine_decision *d, double blocks)
{
	return fall(&d->to, blocks) + fall(&d->from, -blocks);
}

static double saved(const struct lcpfs_engine_side *s, double blocks)
{
	if (!s->id || !(s->write_frequency > 0))
		return 0;
	return s->write_frequency * (s->cleaning_cost - copies_at(s, (double)s->size_blocks + blocks));
}

/* Adds the squares of what the fall would differ by, were one input off by its error. */
static void add_errors(const struct lcpfs_engine_side *s, double blocks, double *measurement, double *ignorance)
{
	struct lcpfs_engine_side level = *s, power = *s;
	double f = fall(s, blocks), known = s->measured;
	level.cleaning_cost *= 1 + s->cleaning_error;
	power.curve_power += s->power_error;
	*measurement += pow(f * s->frequency_error, 2);
	*measurement += known * (pow(f * s->latency_error, 2) + pow(fall(&level, blocks) - f, 2));
	*ignorance += (1 - known) * (pow(f * s->latency_error, 2) + pow(fall(&level, blocks) - f, 2));
	*ignorance += pow(fall(&power, blocks) - f, 2);
}

static void assert_near(double a, double b, double scale)
{
	if (!(fabs(a - b) <= 1e-5 * (fabs(a) + fabs(b)) + 1e-9 * scale))
		fail_msg("%.12g is not %.12g", a, b);
}

/* Freeing a block costs as many copies as cleaning does; times realised / expected of all moves before. */
static double copying(const struct lcpfs_engine_decision *d, double blocks)
{
	double copies = copies_at(&d->from, (double)d->from.size_blocks - blocks);
	double tried = (double)d->copying_tried, step = copies * (double)d->step_blocks;
	double prior = step > d->copying_expected ? step - d->copying_expected : 0;
	double ratio = (prior * d->copying_prior + d->copying_seen) / (prior + d->copying_expected);
	if (!(copies > 0))
		return 0;
	return copies * (blocks > tried ? ratio * tried + blocks - tried : ratio * blocks);
}

/* If the giver's curve is too low by its error, and what was never tried costs twice as much. */
static double most(const struct lcpfs_engine_decision *d)
{
	double b = (double)d->blocks, tried = (double)d->copying_tried;
	double untried = b > tried ? (b - tried) / b : 0;
	return d->cost_blocks * (1 + Z * sqrt(pow(d->from.cleaning_error, 2) + pow(untried, 2)));
}

/* To its base size from another, which may be beyond. */
static double way_back_of(const struct lcpfs_engine_side *s, double size)
{
	double live = (double)s->live_blocks, above = fmax(size - (double)s->base_blocks, 0);
	if (!s->id || !(above > 0))
		return 0;
	return above * fmin(copies_at(s, (double)s->base_blocks), live / fmax(size - live - s->kept_blocks, 1));
}

/* By how much the move makes it longer, for both. */
static double longer_back(const struct lcpfs_engine_decision *d)
{
	double b = (double)d->blocks, to = (double)d->to.size_blocks, from = (double)d->from.size_blocks;
	return way_back_of(&d->to, to + b) + way_back_of(&d->from, from - b) - way_back_of(&d->to, to) -
	       way_back_of(&d->from, from);
}

/* Not beyond what it saves nor what the harm bound leaves; but as far as was weighed. */
static double limit(const struct lcpfs_engine_decision *d)
{
	return fmax(most(d), fmin(d->expected_saving_blocks_s * d->horizon_s, d->copying_budget - longer_back(d)));
}

static void recompute_numbers(const struct lcpfs_engine_decision *d)
{
	double b = (double)d->blocks, f = both_fall(d, b), measurement = 0, ignorance = 0;
	double scale = d->from.epsilon + d->to.epsilon;
	add_errors(&d->to, b, &measurement, &ignorance);
	add_errors(&d->from, -b, &measurement, &ignorance);
	assert_near(d->expected_gain, f, scale);
	assert_near(d->measurement_error, sqrt(measurement), scale);
	assert_near(d->expected_error, sqrt(measurement + ignorance), scale);
	assert_near(d->expected_saving_blocks_s, saved(&d->to, b) + saved(&d->from, -b), d->to.write_frequency);
	assert_near(d->cost_blocks, d->from.id ? 1 + copying(d, b) : 0, b);
	assert_near(d->cost_limit_blocks, d->to.id ? limit(d) : 0, b);
}

/* What a move of some size would be, by the record: a copy of it with other results. */
static struct lcpfs_engine_decision at_size(const struct lcpfs_engine_decision *d, double steps)
{
	struct lcpfs_engine_decision other = *d;
	double b = steps * (double)d->step_blocks, f = both_fall(d, b), measurement = 0, ignorance = 0;
	add_errors(&d->to, b, &measurement, &ignorance);
	add_errors(&d->from, -b, &measurement, &ignorance);
	other.blocks = (uint64_t)b;
	other.expected_gain = f;
	other.measurement_error = sqrt(measurement);
	other.expected_error = sqrt(measurement + ignorance);
	other.expected_saving_blocks_s = saved(&d->to, b) + saved(&d->from, -b);
	other.cost_blocks = d->from.id ? 1 + copying(d, b) : 0;
	other.cost_limit_blocks = limit(&other);
	return other;
}

static bool pays_back(const struct lcpfs_engine_decision *d)
{
	double saves = d->expected_saving_blocks_s * d->horizon_s;
	bool first = d->copying_expected <= 0 && d->blocks == d->step_blocks && saves >= 1;
	return (saves >= d->cost_blocks || first) && most(d) + longer_back(d) <= d->copying_budget;
}

static bool is_sure(const struct lcpfs_engine_decision *d)
{
	return d->expected_gain > Z * d->expected_error;
}

/* The smallest whose effect could be told from noise; the very first is one step. */
static double exploring_steps(const struct lcpfs_engine_decision *d, double balance)
{
	double to = d->to.measured ? d->to.epsilon * d->to.latency_error : 0;
	double from = d->from.epsilon * fmin(d->from.latency_error, 1), steps = 1;
	double visible = Z * sqrt(2 * (to * to + from * from));
	if (d->joined_blocks && (!d->outcomes || d->joined_gain >= visible))
		return 0;
	while (d->outcomes && 2 * steps <= balance && d->joined_gain + at_size(d, steps).expected_gain < visible)
		steps *= 2;
	return steps;
}

/* How far it goes: as trust in the way to balance allows, as the learned steps do, and what surely pays back. */
static double right_steps(const struct lcpfs_engine_decision *d)
{
	double step = (double)d->step_blocks, balance = d->balance_blocks / step,
	       joined = (double)d->joined_blocks;
	double growth = d->growth_step * (1 + d->growth_rate) * ((double)d->to.size_blocks - joined);
	double shrink = d->shrink_step * (1 + d->shrink_rate) * (double)d->from.size_blocks;
	double cap = fmax(fmax(ceil(growth / step), 1) - joined / step, 0);
	cap = d->from.id ? fmin(cap, fmax(ceil(shrink / step), 1)) : cap;
	double explore = fmin(exploring_steps(d, balance), cap), steps = explore;
	double pressed = fmin(d->to.pressure / (0.7 * d->pressure_threshold), 1);
	double full = floor(pressed * d->trust * (balance + joined / step)) - joined / step;
	steps = fmin(fmax(explore, full), cap);
	struct lcpfs_engine_decision weighed = at_size(d, steps);
	if (!is_sure(&weighed))
		steps = fmin(steps, explore);
	for (weighed = at_size(d, steps); steps > 1 && !pays_back(&weighed); weighed = at_size(d, steps))
		steps = floor(steps / 2);
	return steps;
}

static void recompute_weighing(const struct lcpfs_engine_decision *d)
{
	double step = (double)d->step_blocks, balance = d->balance_blocks, b = (double)d->blocks;
	double cap = d->growth_step * (1 + d->growth_rate) * (double)d->to.size_blocks;
	bool pays = pays_back(d);
	bool noise = d->expected_gain <= Z * d->measurement_error;
	bool sure = d->expected_gain > Z * d->expected_error;
	bool get = d->to.size_blocks + d->step_blocks <= d->to.ceiling_blocks;
	uint64_t room = MIN_OF(d->from.size_blocks - d->from.floor_blocks, d->from.give_blocks);
	bool give = d->from.size_blocks >= d->from.floor_blocks && room >= d->step_blocks;
	recompute_numbers(d);
	assert_int_equal(d->reason == LCPFS_ENGINE_NO_ROOM, !(get && give));
	if (d->reason == LCPFS_ENGINE_NO_ROOM)
		return;
	/* the last step before another would lose */
	if (balance > 0)
		assert_true(both_fall(d, balance) > both_fall(d, balance - step));
	if ((double)(d->to.ceiling_blocks - d->to.size_blocks) >= balance + step && (double)room >= balance + step)
		assert_true(both_fall(d, balance + step) <= both_fall(d, balance));
	assert_int_equal(d->reason == LCPFS_ENGINE_IN_BALANCE, balance == 0);
	if (!(balance > 0))
		return;
	if (d->from.id)
		cap = fmin(cap, d->shrink_step * (1 + d->shrink_rate) * (double)d->from.size_blocks);
	assert_true(b < cap + step && b <= balance);
	assert_near(b / step, right_steps(d), 0);
	assert_int_equal(d->reason == LCPFS_ENGINE_NO_PAYBACK, !pays);
	assert_int_equal(d->reason == LCPFS_ENGINE_WITHIN_NOISE, pays && noise);
	assert_int_equal(d->reason == LCPFS_ENGINE_EXPLORE, pays && !noise && !sure);
	assert_int_equal(d->reason == LCPFS_ENGINE_GAIN, pays && !noise && sure);
	assert_int_equal(d->action == LCPFS_ENGINE_NONE, noise || !pays);
	assert_near(d->to.gain_per_block, fall(&d->to, step) / step, d->to.epsilon);
	assert_true(d->to.gain_per_block <= d->gains_most && d->from.gain_per_block >= 0);
}

static bool arrived(const struct lcpfs_engine_decision *d)
{
	if (d->to.since_change_blocks > 0)
		return d->to.since_change_blocks >= (double)d->to.size_blocks;
	return d->to.since_change_s >= d->cooldown_s;
}

/* What the harm bound leaves for copying, beyond the way back. */
static double budget(const struct lcpfs_engine_decision *d)
{
	return fmax(d->harm * (d->written_blocks + d->saved_blocks) + d->saved_blocks - d->return_blocks, 0);
}

/* That will soon be lost, and going back costs no more than a turnover of the pool like this. */
static void recompute_retreat(const struct lcpfs_engine_decision *d)
{
	double looks = 1 + ceil(d->return_blocks / d->lately_blocks);
	double room = (double)(d->to.base_blocks - d->to.size_blocks);
	recompute_numbers(d);
	assert_true(budget(d) <= d->lost_blocks * looks);
	assert_true(d->lost_blocks / d->lately_blocks * (double)d->pool_blocks >= d->return_blocks);
	room = fmin(room, (double)(d->from.size_blocks - d->from.floor_blocks));
	if (d->from_id && d->from.size_blocks >= d->from.base_blocks + d->step_blocks)
		room = fmin(room, (double)(d->from.size_blocks - d->from.base_blocks));
	else if (d->from_id)
		room = fmin(room, (double)d->step_blocks);
	assert_true((double)d->blocks <= room && (double)(d->blocks + d->step_blocks) > room);
}

static bool could_go_back(const struct lcpfs_engine_side *to, const struct lcpfs_engine_side *from, uint64_t step)
{
	return to->base_blocks >= to->size_blocks + step && from->size_blocks >= from->base_blocks + step &&
	       from->size_blocks >= from->floor_blocks + step;
}

/* Of two, the one below its base size is the one that loses. */
static bool had_to_go_back(const struct lcpfs_engine_decision *d)
{
	uint64_t step = d->step_blocks;
	if (d->partitions != 2 || !d->to_id || !d->from_id || !(d->lost_blocks > 0) ||
	    !(could_go_back(&d->to, &d->from, step) || could_go_back(&d->from, &d->to, step)))
		return false;
	return budget(d) <= d->lost_blocks * (1 + ceil(d->return_blocks / d->lately_blocks)) &&
	       d->lost_blocks / d->lately_blocks * (double)d->pool_blocks >= d->return_blocks;
}

static void recompute(const struct lcpfs_engine_decision *d)
{
	bool idle = d->free_blocks >= d->reserve_blocks + d->step_blocks;
	assert_near(d->copying_budget, budget(d), d->written_blocks);
	if (d->reason > LCPFS_ENGINE_WAIT_REPORT && d->reason < LCPFS_ENGINE_CALL_BACK)
		assert_false(had_to_go_back(d));
	if (d->reason == LCPFS_ENGINE_MODE_OFF)
		assert_int_equal(d->mode, LCPFS_ENGINE_OFF);
	else if (d->reason == LCPFS_ENGINE_FEW_PARTITIONS)
		assert_true(!d->partitions || (d->partitions == 1 && !idle));
	else if (d->reason == LCPFS_ENGINE_NOT_MEASURED)
		assert_int_equal(d->partitions_measured, 0);
	else if (d->reason == LCPFS_ENGINE_WAIT_EFFECT || d->reason == LCPFS_ENGINE_WAIT_MEASURE)
		assert_int_equal(d->reason == LCPFS_ENGINE_WAIT_MEASURE, arrived(d));
	else if (d->reason == LCPFS_ENGINE_UNDO)
		assert_true(d->expected_gain > Z * d->expected_error);
	else if (d->reason == LCPFS_ENGINE_RETREAT)
		recompute_retreat(d);
	else if (d->reason == LCPFS_ENGINE_CALL_BACK || d->reason == LCPFS_ENGINE_WAIT_REPORT)
		recompute_numbers(d);
	else if (d->to_id || d->from_id)
		recompute_weighing(d);
	else
		assert_true(d->reason == LCPFS_ENGINE_NO_ROOM && d->partitions_measured);
}

struct seen {
	unsigned reasons[LCPFS_ENGINE_REASON_END];
};

/* All decisions of the log: recomputed here and by the engine; a record that was tampered with does not hold. */
static void recompute_log(struct world *w, struct seen *seen)
{
	struct lcpfs_engine_decision list[ENGINE_DECISIONS_MAX];
	size_t n = engine_get_decisions(w->engine, list, ENGINE_DECISIONS_MAX);
	for (size_t i = 0; i < n; i++) {
		struct lcpfs_engine_decision off = list[i];
		recompute(&list[i]);
		if (!engine_decision_holds(&list[i]))
			fail_msg("does not hold: %s", list[i].sentence);
		seen->reasons[list[i].reason]++;
		off.reason = (list[i].reason + 1) % LCPFS_ENGINE_REASON_END;
		if (engine_decision_holds(&off))
			fail_msg("holds as %s, too: %s", lcpfs_engine_reason_name(off.reason), list[i].sentence);
		if (list[i].reason < LCPFS_ENGINE_EXPLORE || list[i].reason > LCPFS_ENGINE_GAIN)
			continue;
		off = list[i];
		off.to.cleaning_cost *= 1.001;
		assert_false(engine_decision_holds(&off));
	}
	world_done(w);
}

static void log_of_hot_and_cold(struct seen *seen)
{
	struct world w;
	struct lcpfs_engine_decision d;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 15);
	world_run(&w, 200);
	assert_int_equal(lcpfs_engine_call_back(w.engine, w.now_us, 640, 0, &d), 0);
	assert_int_equal(lcpfs_engine_decide(w.engine, w.now_us, &d), 0);
	assert_int_equal(d.reason, LCPFS_ENGINE_WAIT_REPORT);
	recompute_log(&w, seen);
	world_hot_and_cold(&w, LCPFS_ENGINE_OBSERVE, 16);
	world_run(&w, 60);
	lcpfs_engine_set_mode(w.engine, LCPFS_ENGINE_OFF);
	world_run(&w, 2);
	recompute_log(&w, seen);
}

/* Nothing measured at first, then no room at the top; and a partition alone. */
static void log_without_room(struct seen *seen)
{
	struct world w;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 9);
	world_run(&w, 1);
	assert_int_equal(lcpfs_engine_set_limits(w.engine, w.id[0], STEP, 10200), 0);
	assert_int_equal(lcpfs_engine_set_limits(w.engine, w.id[1], STEP, 32000), 0);
	world_run(&w, 100);
	recompute_log(&w, seen);
	world_init(&w, 11000, LCPFS_ENGINE_ON, 9);
	world_add(&w, 11000, (struct load){.live = 10000, .writes_s = 8000, .copies = 1});
	world_run(&w, 2);
	recompute_log(&w, seen);
}

/* Measurements so noisy that a gain is lost in them; and one that got worse after the first move. */
static void log_of_noise(struct seen *seen)
{
	struct world w;
	world_init(&w, 44000, LCPFS_ENGINE_ON, 3);
	world_add(&w, 22000, (struct load){.live = 20000, .writes_s = 5000, .copies = 1, .noise = 2});
	world_add(&w, 22000, (struct load){.live = 20000, .writes_s = 4000, .copies = 1, .noise = 2});
	world_run(&w, 200);
	recompute_log(&w, seen);
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 8);
	while (!w.moves)
		world_run(&w, 1);
	w.load[0].copies *= 5;
	world_run(&w, 60);
	recompute_log(&w, seen);
}

/* What the cold one would give is all live: copying it costs more than the little that is written can save. */
static void log_without_payback(struct seen *seen)
{
	struct world w;
	world_init(&w, 44000, LCPFS_ENGINE_ON, 4);
	world_add(&w, 2200,
		  (struct load){.live = 2000, .writes_s = 900, .reads_s = 40000, .copies = 1, .noise = 0.01});
	world_add(&w, 41800,
		  (struct load){.live = 41000, .writes_s = 2, .reads_s = 1, .copies = 1, .noise = 0.01});
	world_run(&w, 300);
	recompute_log(&w, seen);
}

/* Who was idle is busy, and the other way round. */
static void log_of_swapped_loads(struct seen *seen)
{
	struct world w;
	world_init(&w, 22000, LCPFS_ENGINE_ON, 17);
	world_add(&w, 11000, (struct load){.live = 10000, .writes_s = 396, .copies = 1, .noise = 0.02});
	world_add(&w, 11000, (struct load){.live = 10000, .writes_s = 4, .copies = 1, .noise = 0.02});
	world_run(&w, 60);
	w.load[0].writes_s = 4;
	w.load[1].writes_s = 396;
	world_run(&w, 60);
	recompute_log(&w, seen);
}

static void every_decision_follows_from_its_record(void **state)
{
	struct seen seen = {{0}};
	(void)state;
	log_of_hot_and_cold(&seen);
	log_without_room(&seen);
	log_of_noise(&seen);
	log_without_payback(&seen);
	log_of_swapped_loads(&seen);
	for (int i = 0; i < LCPFS_ENGINE_REASON_END; i++)
		if (!seen.reasons[i])
			fail_msg("no decision was %s", lcpfs_engine_reason_name(i));
}

/* ---- whom it chose, among many ---- */

#define NEAR 1e-3 /* a verdict just before the decision may have changed a curve */

struct crowd {
	struct world w;
	struct lcpfs_engine_side side[WORLD_MAX]; /* before the decision */
	double gain[WORLD_MAX], loss[WORLD_MAX]; /* of ε, by one step */
	uint64_t awaited[WORLD_MAX]; /* sequence of the move whose effect it waits for; 0: none */
	double since[WORLD_MAX], awaited_since[WORLD_MAX]; /* the pool's work when its size changed, and then */
	bool on_trial[WORLD_MAX];  /* what it gave last, while it has not been measured without it */
	double written[WORLD_MAX]; /* by its users in about the last turnover of the pool */
	double base; /* work before the first update: it counts from there */
	double before; /* work a second ago: what waits for work was looked at since then */
	unsigned chosen;
};

static double work_of(const struct crowd *c)
{
	double work = -c->base;
	for (size_t i = 0; i < c->w.count; i++)
		work += (double)(c->w.counters[i].device_blocks + c->w.counters[i].read_ops);
	return work;
}

static void look_at_all(struct crowd *c)
{
	struct lcpfs_engine_decision e;
	for (size_t i = 0; i < c->w.count; i++) {
		assert_int_equal(lcpfs_engine_explain(c->w.engine, c->w.id[i], &e), 0);
		c->side[i] = e.to.id == c->w.id[i] ? e.to : e.from;
		assert_int_equal(c->side[i].id, c->w.id[i]);
		c->gain[i] = fall(&c->side[i], STEP);
		c->loss[i] = -fall(&c->side[i], -(double)STEP);
	}
}

/* What was waited for has been judged. */
static void forget_judged(struct crowd *c)
{
	struct lcpfs_engine_outcome o[LCPFS_ENGINE_OUTCOMES_MAX];
	size_t n = lcpfs_engine_get_outcomes(c->w.engine, o, LCPFS_ENGINE_OUTCOMES_MAX);
	for (size_t k = 0; k < n; k++)
		for (size_t i = 0; i < c->w.count; i++)
			if (c->awaited[i] == o[k].sequence)
				c->awaited[i] = 0;
}

static bool can_get(const struct crowd *c, size_t i)
{
	const struct lcpfs_engine_side *s = &c->side[i];
	return !c->awaited[i] && s->measured && c->gain[i] > 0 && s->size_blocks + STEP <= s->ceiling_blocks;
}

/* It will not have been measured within three turnovers. A tenth off, since work is counted within a round. */
static bool is_too_slow(const struct crowd *c, size_t i, double now, bool surely)
{
	double writes = 3 * c->written[i] * (1 + c->side[i].cleaning_cost) * (surely ? 1.1 : 0.9);
	return now >= 60000 && !c->on_trial[i] && writes < (double)c->side[i].size_blocks;
}

/* By what work there was at that time. */
static bool can_give(const struct crowd *c, size_t i, double now, bool surely)
{
	const struct lcpfs_engine_side *s = &c->side[i];
	double pool = 60000;
	if (c->awaited[i] && now - c->awaited_since[i] < pool)
		return false;
	return (s->measured || now - c->since[i] >= pool || is_too_slow(c, i, now, surely)) &&
	       s->size_blocks >= s->floor_blocks + STEP;
}

static size_t index_of(const struct crowd *c, uint32_t id)
{
	size_t i = 0;
	while (c->w.id[i] != id)
		i++;
	return i;
}

static bool names_a_pair(const struct lcpfs_engine_decision *d)
{
	return d->reason >= LCPFS_ENGINE_NO_ROOM && d->reason <= LCPFS_ENGINE_GAIN && d->to_id;
}

/* What it got last is not judged yet, and its effect has not arrived. */
static bool can_get_more(const struct crowd *c, size_t i, double now)
{
	const struct lcpfs_engine_side *s = &c->side[i];
	return c->awaited[i] && now - c->awaited_since[i] < 60000 && c->gain[i] > 0 &&
	       s->since_change_blocks < (double)s->size_blocks && s->size_blocks + STEP <= s->ceiling_blocks;
}

static void check_pair(struct crowd *c, const struct lcpfs_engine_decision *d)
{
	size_t to = index_of(c, d->to_id);
	assert_true(d->joined_blocks ? can_get_more(c, to, c->before) : can_get(c, to));
	assert_true(!d->from_id || can_give(c, index_of(c, d->from_id), work_of(c), false));
	c->chosen += d->from_id != 0;
}

/* Of who can: one of the three who gain most (the first that a move is worth for), and who loses least. */
static void check_choice(const struct crowd *c, const struct lcpfs_engine_decision *d)
{
	size_t to = index_of(c, d->to_id), from = d->from_id ? index_of(c, d->from_id) : 0;
	unsigned better = 0;
	for (size_t i = 0; i < c->w.count; i++)
		better += i != to && can_get(c, i) && c->gain[i] > c->gain[to] * (1 + NEAR);
	assert_true(better < (d->action == LCPFS_ENGINE_MOVE ? 3 : 1));
	assert_int_equal(!d->from_id, d->free_blocks >= d->reserve_blocks + STEP);
	for (size_t i = 0; d->from_id && i < c->w.count; i++)
		if (i != to && i != from && can_give(c, i, c->before, true))
			assert_true(c->loss[i] >= c->loss[from] * (1 - NEAR));
}

static void check_ranking(const struct crowd *c, const struct lcpfs_engine_decision *d)
{
	for (size_t i = 0; i < c->w.count; i++) {
		if (c->gain[i] > 0)
			assert_true(d->gains_most_id && c->gain[i] <= d->gains_most * STEP * (1 + NEAR));
		if (c->w.id[i] == d->gains_most_id)
			assert_true(c->gain[i] >= d->gains_most * STEP * (1 - NEAR));
		else
			assert_true(c->loss[i] >= d->loses_least * STEP * (1 - NEAR));
		if (c->w.id[i] == d->loses_least_id)
			assert_true(c->loss[i] <= d->loses_least * STEP * (1 + NEAR));
	}
}

/* What going back to all base sizes would copy; none is free here but a step or two. */
static void check_return(const struct crowd *c, const struct lcpfs_engine_decision *d)
{
	double below = 0, above = 0, copies = 0;
	for (size_t i = 0; i < c->w.count; i++) {
		const struct lcpfs_engine_side *s = &c->side[i];
		double off = (double)s->size_blocks - (double)s->base_blocks;
		below += fmax(-off, 0);
		above += fmax(off, 0);
		copies += way_back_of(s, (double)s->size_blocks);
	}
	below = fmax(below - (double)d->free_blocks, 0);
	assert_near(d->return_blocks, above > 0 ? copies * fmin(below / above, 1) : 0, d->return_blocks + 1e-3);
}

static void note_move(struct crowd *c, const struct lcpfs_engine_decision *d)
{
	double now = work_of(c);
	size_t to = index_of(c, d->to_id), from = d->from_id ? index_of(c, d->from_id) : to;
	c->since[to] = c->since[from] = now;
	c->on_trial[to] = false;
	c->on_trial[from] = d->from_id && d->from.give_blocks < 60000;
	c->awaited[from] = 0;
	c->awaited[to] = d->reason == LCPFS_ENGINE_GAIN || d->reason == LCPFS_ENGINE_EXPLORE ? d->sequence : 0;
	c->awaited_since[to] = now;
}

/* A move is not taken back from under the verdict of another. */
static void check_undo(const struct crowd *c, const struct lcpfs_engine_decision *d)
{
	assert_true(!c->awaited[index_of(c, d->from_id)]);
	assert_true(!d->to_id || !c->awaited[index_of(c, d->to_id)]);
}

static void crowd_init(struct crowd *c, uint64_t seed)
{
	memset(c, 0, sizeof(*c));
	world_init(&c->w, 60000, LCPFS_ENGINE_ON, seed);
	for (int i = 0; i < 6; i++) {
		struct load load = {.live = 7000 + 200 * i, .writes_s = 200 * (1 << i), .reads_s = 300 * (i % 3),
				    .copies = i == 2 ? 0.3 : 1, .noise = 0.05};
		world_add(&c->w, i == 3 ? 14000 : 9000, load);
	}
}

static void crowd_second(struct crowd *c, struct lcpfs_engine_decision *d)
{
	uint64_t user[WORLD_MAX];
	bool is_first = !c->w.now_us;
	c->before = work_of(c);
	for (size_t i = 0; i < c->w.count; i++)
		user[i] = c->w.counters[i].user_blocks;
	world_second(&c->w);
	c->base = is_first ? c->base + work_of(c) : c->base;
	for (size_t i = 0; i < c->w.count && !is_first; i++)
		c->written[i] = c->written[i] * exp((c->before - work_of(c)) / 60000) +
				(double)(c->w.counters[i].user_blocks - user[i]);
	look_at_all(c);
	assert_int_equal(lcpfs_engine_step(c->w.engine, c->w.now_us, world_move, &c->w, d), 0);
	forget_judged(c);
	if (names_a_pair(d))
		check_pair(c, d);
	if (d->reason == LCPFS_ENGINE_UNDO)
		check_undo(c, d);
}

static void whom_it_chooses_follows_from_all_of_them(void **state)
{
	struct crowd c;
	struct lcpfs_engine_decision d;
	(void)state;
	crowd_init(&c, 41);
	for (int t = 0; t < 400; t++) {
		crowd_second(&c, &d);
		check_ranking(&c, &d);
		check_return(&c, &d);
		if (names_a_pair(&d))
			check_choice(&c, &d);
		if (d.action == LCPFS_ENGINE_MOVE)
			note_move(&c, &d);
	}
	assert_true(c.chosen > 50 && c.w.moves > 10);
	world_done(&c.w);
}

static void swap_loads(struct world *w, size_t i, size_t j)
{
	double writes_s = w->load[i].writes_s, copies = w->load[i].copies;
	w->load[i].writes_s = w->load[j].writes_s;
	w->load[i].copies = w->load[j].copies * (uniform01(w) < 0.5 ? 1 : 4);
	w->load[j].writes_s = writes_s;
	w->load[j].copies = fmin(copies, 1);
}

/* Who has just received is the first to give when its load goes; what hurts is to go back amid other moves. */
static void whom_it_chooses_while_loads_change_places(void **state)
{
	unsigned chosen = 0, undone = 0;
	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct crowd c;
		struct lcpfs_engine_decision d;
		crowd_init(&c, seed);
		for (int t = 0; t < 200; t++) {
			if (uniform01(&c.w) < 0.1)
				swap_loads(&c.w, (size_t)(uniform01(&c.w) * 6), (size_t)(uniform01(&c.w) * 6));
			crowd_second(&c, &d);
			if (d.action == LCPFS_ENGINE_MOVE)
				note_move(&c, &d);
			undone += d.reason == LCPFS_ENGINE_UNDO;
		}
		chosen += c.chosen;
		world_done(&c.w);
	}
	assert_true(chosen > 200);
}

static void every_answer_has_words_and_a_name(void **state)
{
	struct world w;
	struct lcpfs_engine_decision d;
	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 16);
	for (int t = 0; t < 100; t++) {
		world_run(&w, 1);
		for (uint32_t id = 0; id <= 2; id++) {
			assert_int_equal(lcpfs_engine_explain(w.engine, id, &d), 0);
			assert_true(strlen(d.sentence) > 20);
			assert_true(strlen(lcpfs_engine_reason_name(d.reason)) > 3);
		}
	}
	assert_int_equal(lcpfs_engine_explain(w.engine, 77, &d), -LCPFS_E_NOT_FOUND);
	assert_string_equal(lcpfs_engine_reason_name(LCPFS_ENGINE_CALL_BACK), "call_back");
	assert_string_equal(lcpfs_engine_reason_name(LCPFS_ENGINE_NO_ROOM), "no_room");
	assert_string_equal(lcpfs_engine_verdict_name(LCPFS_ENGINE_HURT), "hurt");
	world_done(&w);
}

/* Nobody can be called back where all are at their least, measured or not. */
static void that_nobody_can_be_called_back_holds(void **state)
{
	struct lcpfs_engine_decision d;
	struct world w;
	(void)state;
	world_init(&w, 22000, LCPFS_ENGINE_ON, 3);
	world_add(&w, 11000, (struct load){.live = 10970, .writes_s = 10, .copies = 1});
	world_run(&w, 2);
	assert_int_equal(lcpfs_engine_call_back(w.engine, w.now_us, 640, 0, &d), 0);
	assert_int_equal(d.reason, LCPFS_ENGINE_NO_ROOM);
	assert_true(engine_decision_holds(&d));
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_decision_follows_from_its_record),
		cmocka_unit_test(whom_it_chooses_follows_from_all_of_them),
		cmocka_unit_test(whom_it_chooses_while_loads_change_places),
		cmocka_unit_test(every_answer_has_words_and_a_name),
		cmocka_unit_test(that_nobody_can_be_called_back_holds),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
