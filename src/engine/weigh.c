/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Is one transfer, from one side to another, worth it, and how large should it be? Pure functions of the inputs
 * that a decision records, so that anyone can compute them again from the log.
 */
#include <float.h>
#include <math.h>

#include "engine/core.h"
#include "engine/formula.h"

#define SIMILAR_PRESSURE 0.30 /* two pressures count as alike within this (the first version's) */

/* Copies per user block at another size. */
double engine_weigh_copies(const struct lcpfs_engine_side *side, double size_blocks)
{
	double live = (double)side->live_blocks;
	if (!(live > 0) || !(side->cleaning_cost > 0) || !(side->uniform_copies > 0))
		return 0;
	if (size_blocks == (double)side->size_blocks)
		return side->cleaning_cost;
	return side->cleaning_cost *
	       pow(engine_uniform_copies((size_blocks - live - side->kept_blocks) / live) / side->uniform_copies,
		   side->curve_power);
}

/* Reads do not wait for cleaning; the part that writes cause grows with what is written for each of them. */
double engine_weigh_latency_ratio(const struct lcpfs_engine_side *side, double copies)
{
	return 1 - side->write_share + side->write_share * (1 + copies) / (1 + side->cleaning_cost);
}

static double epsilon_at(const struct lcpfs_engine_side *side, double size_blocks)
{
	double copies = engine_weigh_copies(side, size_blocks);
	double latency = side->avg_latency_us * engine_weigh_latency_ratio(side, copies);
	double utilization = size_blocks > 0 ? fmin((double)side->live_blocks / size_blocks, 1) : 1;
	return lcpfs_engine_epsilon(latency, utilization, side->access_frequency);
}

double engine_weigh_fall(const struct lcpfs_engine_side *side, double blocks)
{
	double now = (double)side->size_blocks;
	if (side->id == LCPFS_ENGINE_FREE || !(side->access_frequency > 0) || !(side->avg_latency_us > 0))
		return 0;
	/* a loss beyond all numbers is not none */
	return engine_finite_or(epsilon_at(side, now) - epsilon_at(side, now + blocks),
				blocks < 0 ? -DBL_MAX : 0);
}

static double pair_fall(const struct lcpfs_engine_decision *d, double blocks)
{
	return engine_finite_or(engine_weigh_fall(&d->to, blocks) + engine_weigh_fall(&d->from, -blocks), 0);
}

double engine_weigh_saving(const struct lcpfs_engine_side *side, double blocks)
{
	double size = (double)side->size_blocks;
	if (side->id == LCPFS_ENGINE_FREE || !(side->write_frequency > 0))
		return 0;
	return side->write_frequency * (side->cleaning_cost - engine_weigh_copies(side, size + blocks));
}

/*
 * Blocks copied to take so many away. To free a block costs the log C copies, whether for a writer or for a move.
 * That empty metaslabs lie about, or that one comes of much cleaning, is learned: realised / expected of moves so
 * far, the prior being one move of one step. A small move says nothing about a large one: what goes beyond the
 * largest one so far costs what the curve says.
 */
double engine_weigh_copying(const struct lcpfs_engine_decision *d, const struct lcpfs_engine_side *from,
			    double blocks)
{
	double copies = engine_weigh_copies(from, (double)from->size_blocks - blocks);
	double known = fmin(blocks, (double)d->copying_tried);
	/* the prior is for as long as less was seen */
	double prior = fmax(copies * (double)d->step_blocks - d->copying_expected, 0);

	if (!(copies > 0))
		return 0;
	known *= (d->copying_prior * prior + d->copying_seen) / (prior + d->copying_expected);
	return copies * (known + fmax(blocks - (double)d->copying_tried, 0));
}

/*
 * To shrink to its base size costs a side, for each block, what cleaning costs it there, or what lives in as much
 * of it as has to be emptied: the less of the two.
 */
double engine_weigh_way_back(const struct lcpfs_engine_side *side, double size_blocks)
{
	double live = (double)side->live_blocks, spare = size_blocks - live - side->kept_blocks;
	double blocks = fmax(size_blocks - (double)side->base_blocks, 0);
	double copies = engine_weigh_copies(side, (double)side->base_blocks);
	if (side->id == LCPFS_ENGINE_FREE)
		return 0;
	return engine_finite_or(fmin(copies, live / fmax(spare, 1)) * blocks, 0);
}

/* How much longer a move makes the way back to base sizes; negative: shorter. */
static double longer_way_back(const struct lcpfs_engine_decision *d)
{
	double to = (double)d->to.size_blocks, from = (double)d->from.size_blocks, blocks = (double)d->blocks;
	double longer = engine_weigh_way_back(&d->to, to + blocks) - engine_weigh_way_back(&d->to, to);
	double shorter = engine_weigh_way_back(&d->from, from) - engine_weigh_way_back(&d->from, from - blocks);
	return longer - shorter;
}

struct errors {
	double measurement, ignorance; /* squares */
};

/* How much the fall of ε would differ if one input were off by its standard error. */
static void side_errors(const struct lcpfs_engine_side *side, double blocks, struct errors *errors)
{
	double fall = engine_weigh_fall(side, blocks);
	struct lcpfs_engine_side other = *side;
	errors->measurement += fall * fall * side->frequency_error * side->frequency_error;
	double off = fall * side->latency_error;
	*(side->measured ? &errors->measurement : &errors->ignorance) += off * off;
	other.cleaning_cost *= 1 + side->cleaning_error;
	off = engine_weigh_fall(&other, blocks) - fall;
	*(side->measured ? &errors->measurement : &errors->ignorance) += off * off;
	other.cleaning_cost = side->cleaning_cost;
	other.curve_power += side->power_error;
	off = engine_weigh_fall(&other, blocks) - fall;
	errors->ignorance += off * off;
}

double engine_weigh_saved(const struct lcpfs_engine_decision *d)
{
	return d->expected_saving_blocks_s * d->horizon_s;
}

/* If the giver copies as much more as may be; what goes beyond all moves so far is as unsure as it is large. */
static double most_copied(const struct lcpfs_engine_decision *d)
{
	double quantile = engine_t_quantile(d->significance, ENGINE_CERTAIN), blocks = (double)d->blocks;
	double untried = fmax(blocks - (double)d->copying_tried, 0) / fmax(blocks, 1);
	return d->cost_blocks * (1 + quantile * hypot(d->from.cleaning_error, untried));
}

void engine_weigh_fixed(struct lcpfs_engine_decision *d, uint64_t blocks)
{
	double size = (double)blocks;
	struct errors errors = {0};
	side_errors(&d->to, size, &errors);
	side_errors(&d->from, -size, &errors);
	d->blocks = blocks;
	d->expected_gain = pair_fall(d, size);
	/* what cannot be told by any number is noise beyond all measure */
	d->measurement_error = engine_finite_or(sqrt(errors.measurement), DBL_MAX);
	d->expected_error = engine_finite_or(sqrt(errors.measurement + errors.ignorance), DBL_MAX);
	d->expected_saving_blocks_s =
		engine_finite_or(engine_weigh_saving(&d->to, size) + engine_weigh_saving(&d->from, -size), 0);
	/* one at least: who owns what */
	d->cost_blocks = 0;
	if (d->from.id != LCPFS_ENGINE_FREE)
		d->cost_blocks = engine_finite_or(1 + engine_weigh_copying(d, &d->from, size), DBL_MAX);
	d->cost_limit_blocks =
		fmax(most_copied(d), fmin(engine_weigh_saved(d), d->copying_budget - longer_way_back(d)));
	d->cost_limit_blocks = engine_finite_or(d->cost_limit_blocks, DBL_MAX);
}

static uint64_t steps_between(uint64_t high, uint64_t low, uint64_t step)
{
	return high > low ? (high - low) / step : 0;
}

static uint64_t room_steps(const struct lcpfs_engine_decision *d)
{
	uint64_t get = steps_between(d->to.ceiling_blocks, d->to.size_blocks, d->step_blocks);
	uint64_t give = steps_between(d->from.size_blocks, d->from.floor_blocks, d->step_blocks);
	return MIN_OF(get, MIN_OF(give, d->from.give_blocks / d->step_blocks));
}

/* Each further step gains less and costs more: the last one that still gains is found by halving. */
static uint64_t balance_steps(const struct lcpfs_engine_decision *d, uint64_t room)
{
	uint64_t low = 0, high = room;
	double step = (double)d->step_blocks;
	while (low < high) {
		uint64_t middle = low + (high - low + 1) / 2;
		if (pair_fall(d, (double)middle * step) > pair_fall(d, (double)(middle - 1) * step))
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

/*
 * The smallest move whose effect could be told from noise afterwards; the very first is one step, whatever its
 * effect.
 */
static uint64_t explore_steps(const struct lcpfs_engine_decision *d, uint64_t balance)
{
	double to = d->to.measured ? d->to.epsilon * d->to.latency_error : 0;
	/* measured lately or not, its noise will be there then */
	double from = d->from.epsilon * fmin(d->from.latency_error, 1);
	double visible = engine_t_quantile(d->significance, ENGINE_CERTAIN) * sqrt(2 * (to * to + from * from));
	uint64_t steps = 1;
	if (d->joined_blocks && (!d->outcomes || d->joined_gain >= visible))
		return 0;
	while (d->outcomes && 2 * steps <= balance &&
	       d->joined_gain + pair_fall(d, (double)(steps * d->step_blocks)) < visible)
		steps *= 2;
	return steps;
}

/* Rounded up: else what is less than two steps could never be learned to be too little. */
static uint64_t capped(const struct lcpfs_engine_decision *d, double blocks)
{
	return (uint64_t)fmin(fmax(ceil(blocks / (double)d->step_blocks), 1), 1e15);
}

/*
 * How far the learned steps let it go; they may be tried beyond by as much as they are still unsure of themselves.
 */
static uint64_t cap_steps(const struct lcpfs_engine_decision *d)
{
	double growth = d->growth_step * (1 + d->growth_rate) * (double)(d->to.size_blocks - d->joined_blocks);
	double shrink = d->shrink_step * (1 + d->shrink_rate) * (double)d->from.size_blocks;
	uint64_t get = capped(d, growth);
	get -= MIN_OF(d->joined_blocks / d->step_blocks, get);
	return d->from.id == LCPFS_ENGINE_FREE ? get : MIN_OF(get, capped(d, shrink));
}

/*
 * Within the time that demand is known for. The very first step only has to save something: else a prior by which
 * no move ever pays would never be put to the test.
 */
bool engine_weigh_repays(const struct lcpfs_engine_decision *d)
{
	bool first = !(d->copying_expected > 0) && d->blocks == d->step_blocks && engine_weigh_saved(d) >= 1;
	return engine_weigh_saved(d) >= d->cost_blocks || first;
}

double engine_weigh_there_and_back(const struct lcpfs_engine_decision *d)
{
	return most_copied(d) + longer_way_back(d);
}

/* And what it may cost at most is no more than the harm bound leaves, however surely it pays. */
static bool pays_back(const struct lcpfs_engine_decision *d)
{
	return engine_weigh_repays(d) && engine_weigh_there_and_back(d) <= d->copying_budget;
}

/* Measured beyond doubt, or at least so far as measurement goes: then the curve may be explored. */
static enum lcpfs_engine_reason sureness(const struct lcpfs_engine_decision *d)
{
	double quantile = engine_t_quantile(d->significance, ENGINE_CERTAIN);
	if (!(d->expected_gain > quantile * d->measurement_error))
		return LCPFS_ENGINE_WITHIN_NOISE;
	return d->expected_gain > quantile * d->expected_error ? LCPFS_ENGINE_GAIN : LCPFS_ENGINE_EXPLORE;
}

/*
 * At a pressure like those at which moves helped, or above, it may go as far as trust allows; below, less far.
 */
static double pressed(const struct lcpfs_engine_decision *d)
{
	double like = (1 - SIMILAR_PRESSURE) * d->pressure_threshold;
	return d->to.pressure < like ? d->to.pressure / like : 1;
}

static enum lcpfs_engine_reason weigh_size(struct lcpfs_engine_decision *d, uint64_t balance)
{
	uint64_t cap = cap_steps(d), joined = d->joined_blocks / d->step_blocks,
		 explore = MIN_OF(explore_steps(d, balance), cap);
	uint64_t full = (uint64_t)(pressed(d) * d->trust * (double)(joined + balance));
	uint64_t steps = MIN_OF(MAX_OF(explore, full - MIN_OF(joined, full)), cap);
	if (!steps)
		return LCPFS_ENGINE_WAIT_EFFECT;
	engine_weigh_fixed(d, steps * d->step_blocks);
	enum lcpfs_engine_reason reason = sureness(d);
	if (reason != LCPFS_ENGINE_GAIN && !explore)
		return LCPFS_ENGINE_WAIT_EFFECT;
	if (reason != LCPFS_ENGINE_GAIN && steps > explore)
		engine_weigh_fixed(d, explore * d->step_blocks);
	while (!pays_back(d) && d->blocks > d->step_blocks)
		engine_weigh_fixed(d, d->blocks / d->step_blocks / 2 * d->step_blocks);
	if (!pays_back(d))
		return LCPFS_ENGINE_NO_PAYBACK;
	return sureness(d);
}

void engine_weigh(struct lcpfs_engine_decision *d)
{
	uint64_t room = room_steps(d);
	d->action = LCPFS_ENGINE_NONE;
	d->reason = LCPFS_ENGINE_NO_ROOM;
	engine_weigh_fixed(d, d->step_blocks);
	d->balance_blocks = 0;
	if (!room)
		return;
	uint64_t balance = balance_steps(d, room);
	d->balance_blocks = (double)(balance * d->step_blocks);
	d->reason = LCPFS_ENGINE_IN_BALANCE;
	if (!balance)
		return;
	d->reason = weigh_size(d, balance);
	if (d->reason == LCPFS_ENGINE_GAIN || d->reason == LCPFS_ENGINE_EXPLORE)
		d->action = LCPFS_ENGINE_MOVE;
}

/* Of what was written at base sizes, by the ledger, so much more may be written. */
double engine_weigh_budget(const struct lcpfs_engine_decision *d)
{
	double left = d->harm * (d->written_blocks + d->saved_blocks) + d->saved_blocks - d->return_blocks;
	return fmax(engine_finite_or(left, 0), 0);
}

bool engine_weigh_free_can_give(const struct lcpfs_engine_decision *d)
{
	return d->free_blocks >= d->reserve_blocks + d->step_blocks;
}
