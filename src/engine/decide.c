/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which transfer, or why none: the partition that gains most from another step, and the one (or the free space)
 * that loses least by giving it. Weighing them is weigh.c's; this file chooses and logs.
 */
#include <math.h>
#include <string.h>

#include "engine/core.h"
#include "engine/formula.h"

#define RECEIVERS_TRIED 3 /* the first may be blocked by its noise or its room; each costs a weighing */

/* Of all or of those that can, who gains most by another step, less than `below`; NULL: nobody. */
static struct engine_partition *gains_most(const struct engine_core *core, bool who_can, double below)
{
	struct engine_partition *best = NULL;
	double most = 0;
	for (size_t i = 0; i < core->count; i++) {
		const struct engine_rank *r = &core->ranks[i];
		if (r->gain_step > most && r->gain_step < below && (r->can_get || !who_can)) {
			most = r->gain_step;
			best = core->partitions[i];
		}
	}
	return best;
}

/* Of the others that may, who loses least by giving a step. */
static struct engine_partition *loses_least(const struct engine_core *core, const struct engine_partition *but,
					    bool (*may)(const struct engine_core *core, size_t index))
{
	struct engine_partition *best = NULL;
	double least = INFINITY;
	for (size_t i = 0; i < core->count; i++) {
		double loss = core->ranks[i].loss_step;
		if ((!best || loss < least) && core->partitions[i] != but && may(core, i)) {
			least = loss;
			best = core->partitions[i];
		}
	}
	return best;
}

static bool anyone(const struct engine_core *core, size_t index)
{
	return index < core->count;
}

static bool can_give(const struct engine_core *core, size_t index)
{
	return core->ranks[index].can_give;
}

/* Where it is asked for, and not for a gain: what it gave or got last need not have been measured. */
static bool may_give(const struct engine_core *core, size_t index)
{
	const struct engine_partition *p = core->partitions[index];
	return p->size >= p->side.floor_blocks + core->options.step_blocks;
}

static bool may_give_unheld(const struct engine_core *core, size_t index)
{
	return may_give(core, index) && !engine_core_held(core, core->partitions[index]);
}

static bool is_above_base(const struct engine_core *core, size_t index)
{
	return core->ranks[index].above_base >= (double)core->options.step_blocks && may_give(core, index);
}

/* Who gains most and who loses least of all, whether they can or not. */
static void rank_all(const struct engine_core *core, struct lcpfs_engine_decision *d)
{
	const struct engine_partition *most = gains_most(core, false, INFINITY);
	const struct engine_partition *least = loses_least(core, most, anyone);
	double step = (double)core->options.step_blocks;
	d->partitions_measured = 0;
	for (size_t i = 0; i < core->count; i++)
		d->partitions_measured += core->ranks[i].measured;
	if (most) {
		d->gains_most_id = most->id;
		d->gains_most = most->gain_step / step;
	}
	if (least) {
		d->loses_least_id = least->id;
		d->loses_least = engine_finite_or(least->loss_step / step, 0);
	}
}

/* Blocks copied to go back to base sizes: what some miss can come from free space first, then from those above. */
static double way_back(const struct engine_core *core)
{
	double sum = 0, above = 0, copies = 0;
	for (size_t i = 0; i < core->count; i++) {
		double off = core->ranks[i].above_base;
		sum += off;
		above += off > 0 ? off : 0;
		copies += core->ranks[i].way_back;
	}
	double below = above - sum - (double)engine_core_free_blocks(core);
	return below > 0 && above > 0 ? copies * fmin(below / above, 1) : 0;
}

void engine_decide_inputs(const struct engine_core *core, struct lcpfs_engine_decision *d)
{
	memset(d, 0, sizeof(*d));
	d->now_us = core->now_us;
	d->step_blocks = core->options.step_blocks;
	d->free_blocks = engine_core_free_blocks(core);
	d->reserve_blocks = engine_core_reserve_blocks(core);
	d->mode = core->options.mode;
	d->partitions = (uint32_t)core->count;
	d->significance = core->options.significance;
	d->pressure_threshold = core->pressure.value;
	d->growth_step = core->growth.value;
	d->shrink_step = core->shrink.value;
	d->cooldown_s = core->cooldown_s.value;
	d->growth_rate = core->growth.learning_rate;
	d->shrink_rate = core->shrink.learning_rate;
	d->confidence = lcpfs_engine_threshold_confidence(&core->pressure);
	/* the prior is one expectation that came to nothing */
	d->trust = fmin(fmax(core->trust_sum / (core->options.priors.trust + core->trust_weight), 0), 1);
	d->outcomes = core->judged;
	d->copying_seen = core->copying_seen;
	d->copying_expected = core->copying_expected;
	d->copying_tried = MAX_OF(core->copying_tried_steps, 1) * core->options.step_blocks;
	d->pool_blocks = core->options.pool_blocks;
	d->harm = core->options.harm;
	d->written_blocks = core->written;
	d->saved_blocks = core->ledger.saved;
	d->lately_blocks = core->ledger.lately;
	d->lost_blocks = -core->ledger.saved_lately;
	d->copying_prior = core->options.priors.copy_share;
	d->demand_turnovers = ldexp(1, core->foresight.best);
	rank_all(core, d);
	d->return_blocks = way_back(core);
	d->copying_budget = engine_weigh_budget(d);
}

static void set_pair(const struct engine_core *core, struct lcpfs_engine_decision *d,
		     const struct engine_partition *from, const struct engine_partition *to)
{
	int memory = core->foresight.best;
	d->from = engine_core_side(core, from);
	d->to = engine_core_side(core, to);
	if (from)
		d->from.gain_per_block = from->loss_step / (double)core->options.step_blocks;
	d->from_id = d->from.id;
	d->to_id = d->to.id;
	d->horizon_s = to ? to->demand.memory[memory].seconds : 0;
	if (from)
		d->horizon_s = fmin(d->horizon_s, from->demand.memory[memory].seconds);
}

/* The first pair worth moving, else the first that was weighed. Free space loses nothing by giving. */
static bool weigh_candidates(const struct engine_core *core, struct lcpfs_engine_decision *d)
{
	struct engine_partition *to = gains_most(core, true, INFINITY);
	struct lcpfs_engine_decision first;
	bool weighed = false, free = engine_weigh_free_can_give(d);
	for (int i = 0; i < RECEIVERS_TRIED && to; i++, to = gains_most(core, true, to->gain_step)) {
		const struct engine_partition *from = free ? NULL : loses_least(core, to, can_give);
		if (!from && !free)
			continue;
		set_pair(core, d, from, to);
		engine_judge_joined(core, d);
		d->to.measured = true; /* or it was, before what it got lately */
		engine_weigh(d);
		if (d->action == LCPFS_ENGINE_MOVE)
			return true;
		to->joined_all = true; /* if it is awaited: its effect shall arrive */
		if (!weighed)
			first = *d;
		weighed = true;
	}
	if (weighed)
		*d = first;
	return false;
}

/*
 * What is still missing before the oldest move (of those to `only`, if that is not 0) can be judged; true if one
 * is awaited.
 */
static bool say_what_is_awaited(const struct engine_core *core, uint32_t only,
				struct lcpfs_engine_decision *d)
{
	const struct lcpfs_engine_outcome *oldest = NULL;
	const struct engine_partition *to = NULL;
	for (size_t i = 0; i < core->pending_count && !oldest; i++) {
		to = engine_core_find(core, core->pending[i].outcome.to_id);
		if (to && (only ? to->id == only : !engine_core_overdue(core, to)))
			oldest = &core->pending[i].outcome;
	}
	if (!oldest)
		return false;
	set_pair(core, d, engine_core_find(core, oldest->from_id), to);
	engine_judge_joined(core, d);
	d->blocks = d->joined_blocks;
	d->expected_gain = d->joined_gain;
	d->expected_error = oldest->expected_error;
	d->reason = engine_core_settled(core, to) ? LCPFS_ENGINE_WAIT_MEASURE : LCPFS_ENGINE_WAIT_EFFECT;
	return true;
}

/* How much of it can be taken back now. */
static uint64_t undo_blocks(const struct engine_core *core)
{
	const struct engine_partition *from = engine_core_find(core, core->undo.to_id);
	const struct engine_partition *to = engine_core_find(core, core->undo.from_id);
	uint64_t step = core->options.step_blocks, room = core->undo.blocks;
	if (!from || from->awaited || (core->undo.from_id != LCPFS_ENGINE_FREE && (!to || to->awaited)))
		return 0;
	uint64_t floor = engine_core_least(core, from);
	room = MIN_OF(room, from->size > floor ? from->size - floor : 0);
	if (to)
		room = MIN_OF(room, to->max > to->size ? to->max - to->size : 0);
	return room / step * step;
}

static void weigh_undo(const struct engine_core *core, uint64_t blocks, struct lcpfs_engine_decision *d)
{
	/* what was received goes back */
	set_pair(core, d, engine_core_find(core, core->undo.to_id), engine_core_find(core, core->undo.from_id));
	d->blocks = blocks;
	d->expected_gain = core->undo.epsilon_after - core->undo.epsilon_before;
	d->expected_error = core->undo.standard_error;
	d->freedom = core->undo_freedom;
	d->reason = LCPFS_ENGINE_UNDO;
	d->action = LCPFS_ENGINE_MOVE;
}

/* Who lost most lately for want of its base size. */
static const struct engine_partition *lost_most(const struct engine_core *core)
{
	const struct engine_partition *loser = NULL;
	for (size_t i = 0; i < core->count; i++)
		if (core->ranks[i].above_base <= -(double)core->options.step_blocks &&
		    core->partitions[i]->saved_lately < (loser ? loser->saved_lately : 0))
			loser = core->partitions[i];
	return loser;
}

/*
 * From free space, else from those above base sizes; where none of these can give, a step from whom that costs
 * less than it gains.
 */
static bool find_retreat(const struct engine_core *core, struct lcpfs_engine_decision *d)
{
	const struct engine_partition *to = lost_most(core), *from = NULL;
	if (!to)
		return false;
	if (!engine_weigh_free_can_give(d) && !(from = loses_least(core, to, is_above_base))) {
		from = loses_least(core, to, may_give);
		if (!from || !(from->loss_step < to->gain_step))
			return false;
	}
	set_pair(core, d, from, to);
	return true;
}

/*
 * Ski rental (trial.c), for all partitions together: what is lost is borne as long as the way back can still be
 * paid for out of what was saved. It is noticed at the next look, and users write on while it is gone. A loss that
 * would not cost as much within a turnover of the pool is none to go back for.
 */
static bool must_retreat(const struct lcpfs_engine_decision *d)
{
	double looks = 1 + ceil(d->return_blocks / d->lately_blocks);
	if (!(d->lost_blocks > 0) || !(d->lately_blocks > 0))
		return false;
	return d->copying_budget <= d->lost_blocks * looks &&
	       d->lost_blocks / d->lately_blocks * (double)d->pool_blocks >= d->return_blocks;
}

static bool weigh_retreat(const struct engine_core *core, struct lcpfs_engine_decision *d)
{
	if (!must_retreat(d) || !find_retreat(core, d))
		return false;
	uint64_t step = d->step_blocks, blocks = d->to.base_blocks - d->to.size_blocks;
	blocks = MIN_OF(blocks, d->from.size_blocks - d->from.floor_blocks);
	/* all that it is above its base size by, or else a step */
	blocks = MIN_OF(blocks,
			MAX_OF(d->from.size_blocks - MIN_OF(d->from.base_blocks, d->from.size_blocks), step));
	engine_weigh_fixed(d, blocks / step * step);
	d->reason = LCPFS_ENGINE_RETREAT;
	d->action = LCPFS_ENGINE_MOVE;
	return true;
}

static void wait_for_report(const struct engine_core *core, struct lcpfs_engine_decision *d)
{
	*d = core->carried;
	rank_all(core, d);
	d->action = LCPFS_ENGINE_NONE;
	d->reason = LCPFS_ENGINE_WAIT_REPORT;
}

/* Where not even a pair could be weighed. */
static enum lcpfs_engine_reason why_no_pair(const struct lcpfs_engine_decision *d)
{
	if (d->partitions < 1 || (d->partitions < 2 && !engine_weigh_free_can_give(d)))
		return LCPFS_ENGINE_FEW_PARTITIONS;
	return d->partitions_measured ? LCPFS_ENGINE_NO_ROOM : LCPFS_ENGINE_NOT_MEASURED;
}

static void choose(struct engine_core *core, struct lcpfs_engine_decision *d)
{
	/* after that the reason for it is no longer what it was */
	bool stands = core->undo_wanted && !engine_core_turned_over(core, core->undo_work);
	uint64_t back = stands ? undo_blocks(core) : 0;
	if (core->options.mode == LCPFS_ENGINE_OFF) {
		d->reason = LCPFS_ENGINE_MODE_OFF;
	} else if (core->carrying) {
		wait_for_report(core, d);
	} else if (weigh_retreat(core, d)) {
		return;
	} else if (back) {
		weigh_undo(core, back, d);
	} else {
		core->undo_wanted = stands;
		if (weigh_candidates(core, d))
			return;
		if (!say_what_is_awaited(core, 0, d) && !d->to_id)
			d->reason = why_no_pair(d);
	}
}

/* A repeated answer keeps its number and the time it was first given. */
static void hand_out(struct engine_core *core, struct lcpfs_engine_decision *d)
{
	const struct lcpfs_engine_decision *last = &core->last;
	bool same = last->sequence && d->action == last->action && d->reason == last->reason &&
		    d->from_id == last->from_id && d->to_id == last->to_id && d->action != LCPFS_ENGINE_MOVE;
	d->now_us = core->now_us;
	d->since_us = same ? last->since_us : core->now_us;
	d->sequence = same ? last->sequence : ++core->sequence;
	engine_explain(core, d);
	core->last = *d;
	if (d->action != LCPFS_ENGINE_MOVE)
		return;
	core->carrying = true;
	core->carried = *d;
}

void engine_decide(struct engine_core *core, struct lcpfs_engine_decision *d)
{
	engine_judge_all(core);
	engine_decide_inputs(core, d);
	choose(core, d);
	if (d->action == LCPFS_ENGINE_MOVE && core->options.mode == LCPFS_ENGINE_OBSERVE)
		d->action = LCPFS_ENGINE_WOULD_MOVE;
	hand_out(core, d);
	core->ledger.lately = core->ledger.saved_lately = 0; /* what comes now is new */
	engine_foresight_round(&core->foresight);
}

/* The best partner for `p` in one role; false if there is none. */
static bool weigh_role(const struct engine_core *core, const struct engine_partition *p, bool receives,
		       struct lcpfs_engine_decision *d)
{
	const struct engine_partition *other = receives ? loses_least(core, p, anyone) : NULL;
	bool free = engine_core_free_blocks(core) > engine_core_reserve_blocks(core);
	for (size_t i = 0; !receives && i < core->count; i++)
		if (core->partitions[i] != p && (!other || core->ranks[i].gain_step > other->gain_step))
			other = core->partitions[i];
	if (!other && !(receives && free))
		return false;
	engine_decide_inputs(core, d);
	set_pair(core, d, receives ? (free ? NULL : other) : p, receives ? p : other);
	engine_weigh(d);
	return true;
}

static void explain_one(struct engine_core *core, const struct engine_partition *p,
			struct lcpfs_engine_decision *d)
{
	struct lcpfs_engine_decision gives;
	bool weighed = weigh_role(core, p, true, d);
	if (weigh_role(core, p, false, &gives) && (!weighed || gives.expected_gain > d->expected_gain)) {
		*d = gives;
		weighed = true;
	}
	const struct engine_partition *giver = engine_core_find(core, d->from_id);
	if (core->options.mode == LCPFS_ENGINE_OFF)
		d->reason = LCPFS_ENGINE_MODE_OFF;
	else if (!weighed)
		d->reason = LCPFS_ENGINE_FEW_PARTITIONS;
	else if (say_what_is_awaited(core, p->id, d))
		return;
	else if (!p->side.measured || (giver && engine_core_held(core, giver)))
		d->reason = LCPFS_ENGINE_NOT_MEASURED;
}

void engine_decide_explain(struct engine_core *core, uint32_t id, struct lcpfs_engine_decision *d)
{
	const struct engine_partition *p = engine_core_find(core, id);
	if (!p && core->last.sequence) {
		*d = core->last;
		return;
	}
	engine_decide_inputs(core, d);
	if (p)
		explain_one(core, p, d);
	else
		choose(core, d);
	d->action = LCPFS_ENGINE_NONE; /* only decide hands out moves */
	d->since_us = core->now_us;
	engine_explain(core, d);
}

void engine_decide_call_back(struct engine_core *core, uint64_t blocks, uint32_t but_not,
			     struct lcpfs_engine_decision *d)
{
	const struct engine_partition *but = engine_core_find(core, but_not), *best = NULL;
	uint64_t step = core->options.step_blocks, room;
	engine_decide_inputs(core, d);
	d->reason = LCPFS_ENGINE_NO_ROOM;
	if (core->carrying)
		wait_for_report(core, d);
	/* for a full writer nobody is spared, if it has to be */
	else if (!(best = loses_least(core, but, may_give_unheld)))
		best = loses_least(core, but, may_give);
	if (best) {
		set_pair(core, d, best, NULL);
		room = MIN_OF(best->size - best->side.floor_blocks, best->side.give_blocks) / step;
		engine_weigh_fixed(d, MIN_OF(room, MAX_OF(DIV_UP(blocks, step), 1)) * step);
		d->cost_limit_blocks = 0; /* it is asked for, whatever it costs */
		d->reason = LCPFS_ENGINE_CALL_BACK;
		d->action = LCPFS_ENGINE_MOVE;
	}
	hand_out(core, d);
}
