/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is known of each partition, and what it may do by that. Owns the arrays of the engine; keeps Σ size + free
 * = pool by computing free.
 */
#include "engine/core.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "engine/formula.h"

static double prior_or(double given, double otherwise)
{
	return isfinite(given) && given > 0 ? given : otherwise;
}

/* All that is believed before anything was observed; docs/engine.md says why these. */
static void fill_priors(struct lcpfs_engine_priors *p)
{
	p->pressure = prior_or(p->pressure, 100);
	p->cooldown_s = prior_or(p->cooldown_s, 300);
	p->growth_step = prior_or(p->growth_step, 0.10);
	p->shrink_step = prior_or(p->shrink_step, 0.05);
	p->curve_level = prior_or(p->curve_level, 1);
	p->curve_power = prior_or(p->curve_power, 0.25);
	p->curve_scatter = prior_or(p->curve_scatter, 0.05);
	p->kept = prior_or(p->kept, 0.5);
	p->latency_error = prior_or(p->latency_error, 1);
	p->copy_share = prior_or(p->copy_share, 1);
	p->trust = prior_or(p->trust, 1);
}

int engine_core_init(struct engine_core *core, const struct lcpfs_engine_options *options)
{
	struct lcpfs_engine_priors *priors = &core->options.priors;
	memset(core, 0, sizeof(*core));
	if (!options->step_blocks || options->step_blocks > options->pool_blocks)
		return -LCPFS_E_INVALID;
	if (options->mode < LCPFS_ENGINE_OFF || options->mode > LCPFS_ENGINE_ON)
		return -LCPFS_E_INVALID;
	core->options = *options;
	core->options.significance = prior_or(options->significance, 0.05);
	core->options.harm = prior_or(options->harm, 0.02);
	if (core->options.significance > 0.5)
		return -LCPFS_E_INVALID;
	fill_priors(priors);
	core->foresight.quantile = engine_t_quantile(core->options.significance, ENGINE_CERTAIN);
	lcpfs_engine_threshold_init(&core->pressure, priors->pressure);
	lcpfs_engine_threshold_init(&core->cooldown_s, priors->cooldown_s);
	lcpfs_engine_threshold_init(&core->growth, priors->growth_step);
	lcpfs_engine_threshold_init(&core->shrink, priors->shrink_step);
	return 0;
}

void engine_core_done(struct engine_core *core)
{
	for (size_t i = 0; i < core->count; i++)
		free(core->partitions[i]);
	free(core->partitions);
	free(core->pending);
	free(core->ranks);
}

size_t engine_core_index(const struct engine_core *core, uint32_t id)
{
	size_t low = 0, high = core->count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (core->partitions[middle]->id < id)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

struct engine_partition *engine_core_find(const struct engine_core *core, uint32_t id)
{
	size_t i = engine_core_index(core, id);
	return i < core->count && core->partitions[i]->id == id ? core->partitions[i] : NULL;
}

uint64_t engine_core_free_blocks(const struct engine_core *core)
{
	return core->options.pool_blocks - core->used_blocks;
}

double engine_core_decayed(const struct engine_core *core, double amount, double since_work)
{
	return amount * exp((since_work - core->work) / (double)core->options.pool_blocks);
}

/* What full writers took within the last turnover of the pool is kept back for the next; at least one step. */
uint64_t engine_core_reserve_blocks(const struct engine_core *core)
{
	double kept = engine_core_decayed(core, core->emergency_blocks, core->emergency_work);
	uint64_t steps = (uint64_t)(kept / (double)core->options.step_blocks);
	return (1 + steps) * core->options.step_blocks;
}

/* The caller's clock may count from long ago: before it was told for the first time, no time has passed. */
void engine_core_time(struct engine_core *core, uint64_t now_us)
{
	for (size_t i = 0; core->now_us == 0 && i < core->count; i++)
		core->partitions[i]->changed_us = now_us;
	for (size_t i = 0; core->now_us == 0 && i < core->pending_count; i++) /* made before a restart */
		core->pending[i].outcome.moved_us = now_us - MIN_OF(now_us, core->pending[i].outcome.taken_us);
	core->now_us = MAX_OF(core->now_us, now_us);
}

double engine_core_utilization(const struct engine_partition *p)
{
	return p->size ? fmin((double)p->live / (double)p->size, 1) : 0;
}

static double since_change_s(const struct engine_core *core, const struct engine_partition *p)
{
	return (double)(core->now_us - p->changed_us) / 1e6;
}

/*
 * The effect of a change of size has arrived when the log has gone round once: only then has every metaslab been
 * filled and emptied under the new size. A partition that writes nothing has no such clock; the learned cooldown
 * stands in.
 */
bool engine_core_settled(const struct engine_core *core, const struct engine_partition *p)
{
	return p->since_blocks > 0 ? p->since_blocks >= (double)p->size
				   : since_change_s(core, p) >= core->cooldown_s.value;
}

static struct engine_space space_of(const struct engine_partition *p)
{
	double kept_max = p->least > p->live ? (double)(p->least - p->live) : 0;
	return (struct engine_space){.live = (double)p->live, .size = (double)p->size, .kept_max = kept_max};
}

/* The measurement at the present size as a point of the curve. */
bool engine_core_point(const struct engine_partition *p, struct engine_point *point)
{
	struct engine_space space = space_of(p);
	if (!engine_window_ready(&p->window))
		return false;
	struct engine_mean copies = engine_window_copies(&p->window);
	return engine_point_of(point, &space, copies.value, copies.error, engine_window_sum(&p->window).user);
}

static void side_curve(const struct engine_core *core, const struct engine_partition *p,
		       struct lcpfs_engine_side *side)
{
	struct engine_space space = space_of(p);
	struct engine_point point;
	const struct engine_point *now = engine_core_point(p, &point) ? &point : NULL;
	struct engine_fit fit = engine_curve_fit(&p->curve, now, &core->options.priors, &space);
	side->cleaning_cost = fit.copies;
	side->kept_blocks = fit.kept;
	side->uniform_copies = p->live ? fit.uniform : 0;
	side->cleaning_error = fit.copies_error;
	side->curve_power = fit.power;
	side->power_error = fit.power_error;
}

static void side_latency(const struct engine_core *core, const struct engine_partition *p,
			 struct lcpfs_engine_side *side)
{
	/* of another size, and so long ago that reads may be left of a load that was all writes */
	bool is_stale = !engine_window_ready(&p->window) && engine_core_turned_over(core, p->changed_work);

	side->avg_latency_us = p->latency_us;
	side->latency_error = p->latency_error;
	side->write_share = p->write_share;
	if ((p->latency_known && !is_stale) || !(p->demand.memory[0].ops > 0))
		return;
	side->avg_latency_us = p->demand.latency_us / p->demand.memory[0].ops;
	side->latency_error = engine_demand_latency_error(&p->demand, core->options.priors.latency_error);
	side->write_share = p->demand.latency_us > 0 ? p->demand.write_latency_us / p->demand.latency_us : 0;
}

/* One step beyond the least: a log without a place to write cannot even clean. */
uint64_t engine_core_least(const struct engine_core *core, const struct engine_partition *p)
{
	return MAX_OF(p->min, MAX_OF(p->live, p->least) + core->options.step_blocks);
}

static uint64_t floor_of(const struct engine_core *core, const struct engine_partition *p)
{
	uint64_t barrier = MAX_OF(engine_barrier_floor(core, &p->refused), engine_barrier_floor(core, &p->hurt));
	return MAX_OF(barrier, engine_core_least(core, p));
}

static void fill_side(const struct engine_core *core, const struct engine_partition *p,
		      struct lcpfs_engine_side *side)
{
	const struct engine_rates *rates = &p->demand.memory[core->foresight.best];
	memset(side, 0, sizeof(*side));
	side->id = p->id;
	side->size_blocks = p->size;
	side->live_blocks = p->live;
	side->floor_blocks = floor_of(core, p);
	side->ceiling_blocks = p->max;
	side->base_blocks = p->base;
	side->access_frequency = engine_demand_rate(rates, rates->ops);
	side->write_frequency = engine_demand_rate(rates, rates->user);
	side->frequency_error = engine_demand_error(&p->demand);
	side->utilization = engine_core_utilization(p);
	side_latency(core, p, side);
	side_curve(core, p, side);
	side->give_blocks = engine_trial_limit(core, p, side);
	side->measured = engine_window_ready(&p->window);
	side->since_change_blocks = p->since_blocks;
	side->since_change_s = since_change_s(core, p);
	side->pressure = lcpfs_engine_pressure(side->utilization, side->access_frequency, p->size, p->max);
	side->epsilon = lcpfs_engine_epsilon(side->avg_latency_us, side->utilization, side->access_frequency);
}

struct lcpfs_engine_side engine_core_side(const struct engine_core *core, const struct engine_partition *p)
{
	struct lcpfs_engine_side side = {
		.id = LCPFS_ENGINE_FREE,
		.size_blocks = engine_core_free_blocks(core),
		.floor_blocks = engine_core_reserve_blocks(core),
		.ceiling_blocks = core->options.pool_blocks,
		.give_blocks = core->options.pool_blocks,
		.measured = true,
	};
	if (!p)
		return side;
	side = p->side;
	side.since_change_s = since_change_s(core, p);
	return side;
}

bool engine_core_overdue(const struct engine_core *core, const struct engine_partition *p)
{
	return p->awaited && engine_core_turned_over(core, p->awaited_work);
}

/*
 * Its log goes round while the pool turns over, at the pace of the last turnover. By the pace of less than one,
 * only who would not go round in as long as anything is remembered for is known not to.
 */
static bool goes_round(const struct engine_core *core, const struct engine_partition *p)
{
	double seen = 1 - engine_core_decayed(core, 1, p->seen_work);
	double ahead = engine_core_turned_over(core, p->seen_work) ? ENGINE_AHEAD : ENGINE_LONGEST;
	return ahead * p->demand.memory[0].user * (1 + p->side.cleaning_cost) >= seen * (double)p->size;
}

/*
 * It gives nothing before what its last change of size did to it has been measured. But a partition that hardly
 * writes must not hold up all others: not longer than the pool takes to turn over once, and not at all where
 * nothing will have been measured by then. What is given on trial is waited for.
 */
bool engine_core_held(const struct engine_core *core, const struct engine_partition *p)
{
	bool on_trial = p->trial.blocks && !p->trial.passed;
	if (p->awaited && !engine_core_overdue(core, p))
		return true;
	return !p->side.measured && !engine_core_turned_over(core, p->changed_work) &&
	       (on_trial || goes_round(core, p));
}

/* What comes before the effect of the last move has arrived is measured with it. */
static bool may_join(const struct engine_core *core, const struct engine_partition *p)
{
	return !p->joined_all && core->pending_count < core->room && !engine_core_settled(core, p) &&
	       !engine_core_overdue(core, p);
}

static struct engine_rank rank_of(const struct engine_core *core, const struct engine_partition *p)
{
	uint64_t step = core->options.step_blocks;
	return (struct engine_rank){
		.gain_step = p->gain_step,
		.loss_step = p->loss_step,
		.above_base = (double)p->size - (double)p->base,
		.way_back = p->size > p->base ? engine_weigh_way_back(&p->side, (double)p->size) : 0,
		.measured = p->side.measured,
		.can_give = !engine_core_held(core, p) && p->size >= p->side.floor_blocks &&
			    p->size - p->side.floor_blocks >= step,
		.can_get = (p->awaited ? may_join(core, p) : p->side.measured) && p->gain_step > 0 &&
			   p->size < p->max && p->max - p->size >= step,
	};
}

void engine_core_refresh(struct engine_core *core, struct engine_partition *p)
{
	double step = (double)core->options.step_blocks;
	fill_side(core, p, &p->side);
	p->gain_step = engine_weigh_fall(&p->side, step);
	p->loss_step = p->size > core->options.step_blocks ? -engine_weigh_fall(&p->side, -step) : INFINITY;
	p->side.gain_per_block = p->gain_step / step;
	core->ranks[engine_core_index(core, p->id)] = rank_of(core, p);
}

/* What it gave lately can no longer be seen in it. */
static void giver_changed(struct engine_core *core, uint32_t id)
{
	for (size_t i = 0; i < core->pending_count; i++)
		if (core->pending[i].outcome.from_id == id)
			core->pending[i].from.changed = true;
}

/* Keeps what was measured at the old size as a point of the curve, and carries the latency over to the new one. */
void engine_core_set_size(struct engine_core *core, struct engine_partition *p, uint64_t size)
{
	struct engine_point point;
	if (size == p->size)
		return;
	double copies = engine_weigh_copies(&p->side, (double)size);
	p->latency_us *= engine_finite_or(engine_weigh_latency_ratio(&p->side, copies), 1);
	p->latency_us = fmin(p->latency_us, ENGINE_LATENCY_SUM_MAX);
	if (engine_core_point(p, &point))
		engine_curve_keep(&p->curve, &point);
	giver_changed(core, p->id);
	engine_window_reset(&p->window);
	p->since_blocks = 0;
	p->trial = (struct engine_trial){0};
	p->changed_us = core->now_us;
	p->changed_work = core->work;
	core->used_blocks += size - p->size;
	p->size = size;
	engine_core_refresh(core, p);
}
