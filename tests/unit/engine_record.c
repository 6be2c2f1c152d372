/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_record.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "base/check.h"

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

double record_fall(const struct lcpfs_engine_side *s, double blocks)
{
	double size = (double)s->size_blocks;
	if (!s->id || !(s->access_frequency > 0))
		return 0;
	return epsilon_at(s, size) - epsilon_at(s, size + blocks);
}

static double both_fall(const struct lcpfs_engine_decision *d, double blocks)
{
	return record_fall(&d->to, blocks) + record_fall(&d->from, -blocks);
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
	double f = record_fall(s, blocks), known = s->measured;
	level.cleaning_cost *= 1 + s->cleaning_error;
	power.curve_power += s->power_error;
	*measurement += pow(f * s->frequency_error, 2);
	*measurement += known * (pow(f * s->latency_error, 2) + pow(record_fall(&level, blocks) - f, 2));
	*ignorance += (1 - known) * (pow(f * s->latency_error, 2) + pow(record_fall(&level, blocks) - f, 2));
	*ignorance += pow(record_fall(&power, blocks) - f, 2);
}

void record_near(double a, double b, double scale)
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
double record_way_back(const struct lcpfs_engine_side *s, double size)
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
	return record_way_back(&d->to, to + b) + record_way_back(&d->from, from - b) -
	       record_way_back(&d->to, to) - record_way_back(&d->from, from);
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
	record_near(d->expected_gain, f, scale);
	record_near(d->measurement_error, sqrt(measurement), scale);
	record_near(d->expected_error, sqrt(measurement + ignorance), scale);
	record_near(d->expected_saving_blocks_s, saved(&d->to, b) + saved(&d->from, -b), d->to.write_frequency);
	record_near(d->cost_blocks, d->from.id ? 1 + copying(d, b) : 0, b);
	record_near(d->cost_limit_blocks, d->to.id ? limit(d) : 0, b);
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
	record_near(b / step, right_steps(d), 0);
	assert_int_equal(d->reason == LCPFS_ENGINE_NO_PAYBACK, !pays);
	assert_int_equal(d->reason == LCPFS_ENGINE_WITHIN_NOISE, pays && noise);
	assert_int_equal(d->reason == LCPFS_ENGINE_EXPLORE, pays && !noise && !sure);
	assert_int_equal(d->reason == LCPFS_ENGINE_GAIN, pays && !noise && sure);
	assert_int_equal(d->action == LCPFS_ENGINE_NONE, noise || !pays);
	record_near(d->to.gain_per_block, record_fall(&d->to, step) / step, d->to.epsilon);
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

void record_recompute(const struct lcpfs_engine_decision *d)
{
	bool idle = d->free_blocks >= d->reserve_blocks + d->step_blocks;
	record_near(d->copying_budget, budget(d), d->written_blocks);
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
