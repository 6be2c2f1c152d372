/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What came of a move: its report, the wait for its effect, the verdict at constant demand, and what is learned
 * from that.
 *
 * Only the two parties are compared: the others did not change size, so that including them would add their noise
 * and no signal. A giver so slow that its log does not go round while the receiver's does enters with what the
 * curve expects of it; its own measurement corrects the curve when it comes. So does one that took part in another
 * move meanwhile: only the receiver is held still.
 */
#include <math.h>
#include <string.h>

#include "engine/core.h"
#include "engine/formula.h"

/* ---- carrying out ---- */

static void remember_before(const struct engine_partition *p, const struct lcpfs_engine_side *side,
			    uint64_t new_size, struct engine_before *before)
{
	double copies = engine_weigh_copies(side, (double)new_size);
	memset(before, 0, sizeof(*before));
	if (!p)
		return;
	*before = (struct engine_before){
		.frequency = side->access_frequency,
		.latency_us = side->avg_latency_us,
		.latency_error = side->avg_latency_us * side->latency_error,
		.utilization = side->utilization,
		.new_utilization = new_size ? fmin((double)p->live / (double)new_size, 1) : 1,
		.freedom = fmax(p->window.count - 1, 1),
		.measured = side->measured,
		.expected_ratio = engine_finite_or(engine_weigh_latency_ratio(side, copies), 1),
	};
}

static void learn_copying(struct engine_core *core, const struct lcpfs_engine_moved *moved)
{
	const struct lcpfs_engine_decision *d = &core->carried;
	double size = (double)d->from.size_blocks - (double)moved->blocks;
	if (moved->copied_blocks == UINT64_MAX) {
		engine_ledger_moved(core, NULL, d->cost_blocks);
		return;
	}
	engine_ledger_moved(core, engine_core_find(core, d->from_id), (double)moved->copied_blocks);
	if (d->from_id == LCPFS_ENGINE_FREE)
		return;
	core->copying_seen += (double)moved->copied_blocks;
	core->copying_tried_steps =
		(uint32_t)MAX_OF(core->copying_tried_steps, MIN_OF(moved->blocks / d->step_blocks, UINT32_MAX));
	core->copying_expected += engine_finite_or((double)moved->blocks * engine_weigh_copies(&d->from, size), 0);
}

static void await(struct engine_core *core, struct engine_partition *from, struct engine_partition *to,
		  const struct lcpfs_engine_moved *moved)
{
	const struct lcpfs_engine_decision *d = &core->carried;
	struct engine_pending *pending = &core->pending[core->pending_count];
	uint64_t free_before = engine_core_free_blocks(core);
	memset(pending, 0, sizeof(*pending));
	pending->outcome = (struct lcpfs_engine_outcome){
		.sequence = d->sequence,
		.from_id = d->from_id,
		.to_id = d->to_id,
		.blocks = moved->blocks,
		.from_old_blocks = from ? from->size : free_before,
		.from_new_blocks = (from ? from->size : free_before) - moved->blocks,
		.to_old_blocks = to->size,
		.to_new_blocks = to->size + moved->blocks,
		.pressure = d->to.pressure,
		.expected_gain = d->expected_gain * (double)moved->blocks / (double)d->blocks,
		.expected_error = d->expected_error * (double)moved->blocks / (double)d->blocks,
		.moved_us = core->now_us,
		.duration_us = moved->duration_us,
		.reason = d->reason,
	};
	pending->made_work = core->work;
	remember_before(from, &d->from, pending->outcome.from_new_blocks, &pending->from);
	remember_before(to, &d->to, pending->outcome.to_new_blocks, &pending->to);
	core->pending_count++;
	for (size_t i = 0; i + 1 < core->pending_count; i++) {
		struct engine_pending *before = &core->pending[i];
		if (before->outcome.to_id != to->id)
			continue;
		before->outcome.joined = true;
		pending->to = before->to;
	}
	to->awaited = true;
	to->awaited_work = core->work;
	to->joined_all = false;
}

static void note_refusal(struct engine_core *core, struct engine_partition *from,
			 const struct lcpfs_engine_moved *moved)
{
	double most = core->carried.cost_limit_blocks;
	bool known = moved->copied_blocks != UINT64_MAX;
	if (!from)
		return;
	if (moved->blocks >= core->carried.blocks) { /* it can, after all */
		if (from->size < from->refused.size)
			from->refused = (struct engine_barrier){0};
		return;
	}
	/* it could, but at too high a price, or too late */
	if (moved->enough || (moved->blocks && most > 0 && known && (double)moved->copied_blocks >= most))
		return;
	engine_barrier_set(core, &from->refused, from->size); /* after the move: it could not give more */
	from->barrier_live = from->live;
	engine_core_refresh(core, from);
}

/* The newest that was judged with what was just taken back, and has not been taken back itself. */
static struct lcpfs_engine_outcome *joined_before(struct engine_core *core,
						  const struct lcpfs_engine_outcome *undone)
{
	struct lcpfs_engine_outcome *newest = NULL;
	for (size_t i = 0; i < MIN_OF(core->outcome_count, LCPFS_ENGINE_OUTCOMES_MAX); i++) {
		struct lcpfs_engine_outcome *o = &core->outcomes[i];
		if (o->joined && !o->undone && o->to_id == undone->to_id && o->verdict == LCPFS_ENGINE_HURT &&
		    o->moved_us + o->taken_us == undone->moved_us + undone->taken_us &&
		    (!newest || o->sequence > newest->sequence))
			newest = o;
	}
	return newest;
}

/* What could not be taken back yet stays wanted; then what was judged with it. */
static void mark_undone(struct engine_core *core, uint64_t blocks)
{
	const struct lcpfs_engine_outcome *next;
	core->undo.blocks -= MIN_OF(blocks, core->undo.blocks);
	core->undo_wanted = core->undo.blocks > 0;
	core->undone++;
	for (size_t i = 0; i < MIN_OF(core->outcome_count, LCPFS_ENGINE_OUTCOMES_MAX); i++)
		if (core->outcomes[i].sequence == core->undo.sequence)
			core->outcomes[i].undone = true;
	if (!core->undo_wanted && (next = joined_before(core, &core->undo))) {
		core->undo = *next;
		core->undo_wanted = true;
	}
}

static int check_report(const struct engine_core *core, uint64_t sequence, const struct lcpfs_engine_moved *moved)
{
	const struct lcpfs_engine_decision *d = &core->carried;
	struct engine_partition *from = engine_core_find(core, d->from_id);
	if (!core->carrying || sequence != d->sequence || moved->blocks > d->blocks)
		return -LCPFS_E_INVALID;
	if (moved->blocks > (from ? from->size : engine_core_free_blocks(core)))
		return -LCPFS_E_NOSPC;
	return 0;
}

int engine_judge_report(struct engine_core *core, uint64_t sequence, const struct lcpfs_engine_moved *moved)
{
	const struct lcpfs_engine_decision *d = &core->carried;
	struct engine_partition *from = engine_core_find(core, d->from_id), *to = engine_core_find(core, d->to_id);
	int error = check_report(core, sequence, moved);
	bool judged = d->reason == LCPFS_ENGINE_GAIN || d->reason == LCPFS_ENGINE_EXPLORE, awaited = false;
	if (error)
		return error;
	core->carrying = false;
	learn_copying(core, moved);
	if (moved->blocks) {
		core->moves++;
		if (from && from->awaited)
			engine_judge_cut_off(core, from->id);
		if (to && to->awaited && !(judged && d->joined_blocks))
			engine_judge_cut_off(core, to->id);
		awaited = judged && to && (from || d->from_id == LCPFS_ENGINE_FREE);
		if (awaited)
			await(core, from, to, moved);
		if (d->reason == LCPFS_ENGINE_UNDO)
			mark_undone(core, moved->blocks);
		else if (d->reason == LCPFS_ENGINE_RETREAT && core->undo.to_id == d->from_id)
			core->undo_wanted = false; /* it has gone back, and more */
		/* the giver first: in between the blocks are free */
		if (from)
			engine_core_set_size(core, from, from->size - moved->blocks);
		if (to)
			engine_core_set_size(core, to, to->size + moved->blocks);
		if (awaited)
			core->pending[core->pending_count - 1].from.changed = false;
		if (judged && from && to)
			engine_trial_begin(core, from, to, moved);
		if (from && from->trial.blocks)
			engine_core_refresh(core, from);
	}
	if (d->reason != LCPFS_ENGINE_UNDO)
		note_refusal(core, from, moved);
	return 0;
}

/* ---- the verdict ---- */

/* What came of all that a receiver got. */
struct verdict {
	double before, change, square; /* ε, what became of it, and the squared standard error of that */
	double freedom;
	double expected_gain, expected_error, blocks, to_old_blocks;
};

static void compare(const struct engine_core *core, const struct engine_partition *p,
		    const struct engine_before *before, struct verdict *v)
{
	if (!p)
		return;
	double latency = before->latency_us * before->expected_ratio, error = before->latency_error;
	double old = before->latency_us * before->utilization;
	double utilization = before->changed ? before->new_utilization : engine_core_utilization(p);
	if (before->measured)
		v->freedom = fmin(v->freedom, before->freedom);
	if (!before->changed && engine_core_settled(core, p) && engine_window_ready(&p->window)) {
		struct engine_mean mean = engine_window_latency(&p->window);
		if (isfinite(mean.error)) {
			latency = mean.value;
			error = hypot(mean.error * utilization, before->latency_error * before->utilization);
			v->freedom = fmin(v->freedom, mean.freedom);
		}
	} else {
		/* not measured: the same latency stands on both sides, only its expected change counts */
		error *= fabs(before->expected_ratio * utilization - before->utilization);
	}
	v->before += before->frequency * old;
	v->change += before->frequency * (latency * utilization - old);
	v->square += before->frequency * error * before->frequency * error;
}

/* `grown`: by what share of it, with what joined it */
static void learn(struct engine_core *core, const struct lcpfs_engine_outcome *o, double grown)
{
	double change = o->epsilon_after - o->epsilon_before;
	double shrunk = o->from_id ? (double)o->blocks / (double)o->from_old_blocks : 0;
	double ratio = -change / o->expected_gain, error = o->standard_error / o->expected_gain;
	double weight = 1 / (1 + error * error);
	lcpfs_engine_threshold_observe(&core->pressure, o->pressure, change);
	/* how long an effect takes is seen whichever way it went */
	lcpfs_engine_threshold_observe(&core->cooldown_s, (double)o->taken_us / 1e6, -fabs(change));
	/* a step below the threshold was not limited by it and says nothing about it */
	if (grown >= core->growth.value)
		lcpfs_engine_threshold_observe(&core->growth, grown, change);
	if (o->from_id && shrunk >= core->shrink.value)
		lcpfs_engine_threshold_observe(&core->shrink, shrunk, change);
	if (!isfinite(ratio) || !isfinite(weight))
		return;
	core->trust_sum += weight * fmin(fmax(ratio, -1), 1);
	core->trust_weight += weight;
	if (core->trust_weight > LCPFS_ENGINE_OUTCOMES_MAX) { /* as long a memory as the outcomes' */
		core->trust_sum *= LCPFS_ENGINE_OUTCOMES_MAX / core->trust_weight;
		core->trust_weight = LCPFS_ENGINE_OUTCOMES_MAX;
	}
}

static void release(struct engine_core *core, size_t index)
{
	struct lcpfs_engine_outcome *o = &core->pending[index].outcome;
	struct engine_partition *to = engine_core_find(core, o->to_id);
	core->outcomes[core->outcome_count++ % LCPFS_ENGINE_OUTCOMES_MAX] = *o;
	if (to) {
		to->awaited = false;
		engine_core_refresh(core, to);
	}
	core->pending_count--;
	memmove(&core->pending[index], &core->pending[index + 1],
		(core->pending_count - index) * sizeof(core->pending[0]));
}

static void want_undo(struct engine_core *core, const struct lcpfs_engine_outcome *o, double freedom)
{
	core->undo_wanted = true;
	core->undo = *o;
	core->undo_freedom = freedom;
	core->undo_work = core->work;
}

static void conclude(struct engine_core *core, struct lcpfs_engine_outcome *o, double grown, double freedom)
{
	double change = o->epsilon_after - o->epsilon_before;
	double bound = engine_t_quantile(core->options.significance, freedom) * o->standard_error;
	o->verdict = change < -bound  ? LCPFS_ENGINE_IMPROVED
		     : change > bound ? LCPFS_ENGINE_HURT
				      : LCPFS_ENGINE_INCONCLUSIVE;
	core->judged++;
	core->improved += o->verdict == LCPFS_ENGINE_IMPROVED;
	core->hurt += o->verdict == LCPFS_ENGINE_HURT;
	core->inconclusive += o->verdict == LCPFS_ENGINE_INCONCLUSIVE;
	learn(core, o, grown);
	if (o->verdict == LCPFS_ENGINE_HURT)
		want_undo(core, o, freedom);
}

/* All that joined one another have one verdict: that of `judged`. NULL: none of them is judged any more. */
static void release_all(struct engine_core *core, uint32_t to_id, const struct lcpfs_engine_outcome *judged)
{
	for (size_t i = 0; i < core->pending_count;) {
		struct lcpfs_engine_outcome *o = &core->pending[i].outcome;
		if (o->to_id != to_id) {
			i++;
			continue;
		}
		if (judged) {
			o->expected_gain = judged->expected_gain;
			o->expected_error = judged->expected_error;
			o->epsilon_before = judged->epsilon_before;
			o->epsilon_after = judged->epsilon_after;
			o->standard_error = judged->standard_error;
		}
		o->taken_us = core->now_us - o->moved_us;
		o->verdict = judged ? judged->verdict : LCPFS_ENGINE_NOT_JUDGED;
		release(core, i);
	}
}

void engine_judge_cut_off(struct engine_core *core, uint32_t id)
{
	release_all(core, id, NULL);
}

/*
 * One look, at a time that does not depend on what is seen: when the standard error could resolve the gain that
 * was expected, at the latest after one turnover of measuring.
 */
static bool long_enough(const struct engine_core *core, const struct engine_partition *to, double expected,
			double error)
{
	double turnover = (double)to->size;
	if (engine_t_quantile(core->options.significance, to->window.count - 1) * error <= expected)
		return true;
	return engine_window_sum(&to->window).work >= turnover;
}

/*
 * The effect will never be seen: the receiver writes nothing. One that does, however slowly, is judged when it has
 * been measured, since it gets nothing before that anyway; it may give meanwhile, and then is not judged.
 */
static bool hopeless(const struct engine_core *core, const struct engine_pending *pending,
		     const struct engine_partition *to)
{
	double waited_s = (double)(core->now_us - pending->outcome.moved_us) / 1e6;
	if (to->since_blocks > 0 || engine_window_ready(&to->window))
		return false;
	/* once for the effect to arrive, and as long to measure */
	return engine_core_overdue(core, to) || waited_s > 2 * core->cooldown_s.value;
}

static struct verdict weigh_all(const struct engine_core *core, const struct engine_pending *last)
{
	const struct engine_partition *to = engine_core_find(core, last->outcome.to_id);
	struct verdict v = {.freedom = ENGINE_CERTAIN};
	compare(core, to, &last->to, &v);
	for (size_t i = 0; i < core->pending_count; i++) {
		const struct engine_pending *p = &core->pending[i];
		if (p->outcome.to_id != to->id)
			continue;
		compare(core, engine_core_find(core, p->outcome.from_id), &p->from, &v);
		v.expected_gain += p->outcome.expected_gain;
		v.expected_error += p->outcome.expected_error;
		v.blocks += (double)p->outcome.blocks;
		v.to_old_blocks = (double)p->outcome.to_new_blocks - v.blocks;
	}
	return v;
}

static bool judge(struct engine_core *core, size_t index)
{
	struct engine_pending *pending = &core->pending[index];
	struct lcpfs_engine_outcome *o = &pending->outcome, judged;
	struct engine_partition *to = engine_core_find(core, o->to_id);
	if (o->joined)
		return false;
	if (hopeless(core, pending, to)) {
		engine_judge_cut_off(core, o->to_id);
		return true;
	}
	if (!engine_core_settled(core, to) || !engine_window_ready(&to->window))
		return false;
	struct verdict v = weigh_all(core, pending);
	double error = sqrt(v.square);
	if (!long_enough(core, to, v.expected_gain, error))
		return false;
	o->expected_gain = v.expected_gain;
	o->expected_error = v.expected_error;
	o->epsilon_before = v.before;
	o->epsilon_after = v.before + v.change;
	o->standard_error = error;
	o->taken_us = core->now_us - o->moved_us;
	conclude(core, o, v.blocks / v.to_old_blocks, v.freedom);
	judged = *o;
	release_all(core, o->to_id, &judged);
	return true;
}

/*
 * What a partition gave is missed before it was measured without it: that is the verdict of the move, and it goes
 * back. Where the move has been judged by its receiver alone, or never will be, it just goes back.
 */
void engine_judge_trial(struct engine_core *core, struct engine_partition *p)
{
	struct engine_trial trial = p->trial;
	struct lcpfs_engine_outcome unknown = {
		.sequence = trial.sequence, .from_id = p->id, .to_id = trial.to_id, .blocks = trial.blocks};
	double rise;
	size_t i = 0;
	if (!engine_trial_failed(p, &rise) || core->undo_wanted || core->carrying)
		return;
	while (i < core->pending_count && core->pending[i].outcome.sequence != trial.sequence)
		i++;
	struct lcpfs_engine_outcome *o = i < core->pending_count ? &core->pending[i].outcome : &unknown;
	o->epsilon_before = p->side.epsilon;
	o->epsilon_after = fmax(p->side.epsilon + rise, nextafter(p->side.epsilon, INFINITY));
	o->standard_error = 0; /* blocks are counted, not measured */
	o->taken_us = core->now_us - o->moved_us;
	p->barrier_live = p->live;
	engine_trial_end(core, p);
	engine_core_refresh(core, p);
	if (o == &unknown) {
		want_undo(core, o, ENGINE_CERTAIN);
	} else {
		o->joined = false;
		conclude(core, o, (double)o->blocks / (double)o->to_old_blocks, ENGINE_CERTAIN);
		release(core, i);
	}
	engine_judge_cut_off(core, trial.to_id);
}

void engine_judge_all(struct engine_core *core)
{
	for (size_t i = 0; i < core->pending_count;)
		i = judge(core, i) ? 0 : i + 1;
}

void engine_judge_joined(const struct engine_core *core, struct lcpfs_engine_decision *d)
{
	d->joined_blocks = 0;
	d->joined_gain = 0;
	for (size_t i = 0; i < core->pending_count; i++) {
		if (core->pending[i].outcome.to_id != d->to_id)
			continue;
		d->joined_blocks += core->pending[i].outcome.blocks;
		d->joined_gain += core->pending[i].outcome.expected_gain;
	}
}
