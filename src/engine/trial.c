/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How little is enough for a partition that copies far less than the formula says? What makes it so (overwritten
 * in order, in a circle, all of it soon dead) usually holds down to some size and not below, and no curve through
 * what was measured above that size shows where. So it is found by trying: such a partition gives one step, is
 * measured without it before it gives more, then as much again as it has given without harm. Down to the least
 * size at which what it was seen to copy would be bearable now, nothing has to be found: it may go there at once.
 * And it is watched: as soon as the blocks copied since, beyond what was expected and what the receiver saves, are
 * as many as giving back costs, it gets back what it gave. So a trial that goes wrong costs about twice that (what
 * online algorithms know as ski rental: Karlin, Manasse, Rudolph, Sleator, Competitive snoopy caching, 1988).
 */
#include <float.h>
#include <math.h>

#include "engine/core.h"

#define LEVEL_ERROR 1 /* ln: what is further below the formula than a factor of e, it does not describe */

/*
 * How far it is above the least size that its curve has a point of: but not where it went over its cliff, nor
 * where it would now copy more, while the pool turns over, than it gives.
 */
static double measured_above(const struct engine_partition *p)
{
	double least = (double)p->size;
	for (int i = 0; i < p->curve.count; i++) {
		double size = (1 + (double)p->curve.points[i].spare) * (double)p->live;
		double copied = exp((double)p->curve.points[i].measured) * p->demand.memory[0].user;
		if (copied <= (double)p->size - size)
			least = fmin(least, size);
	}
	return (double)p->size - fmax(least, (double)p->hurt.size);
}

uint64_t engine_trial_limit(const struct engine_core *core, const struct engine_partition *p,
			    const struct lcpfs_engine_side *side)
{
	double off = log(side->cleaning_cost / side->uniform_copies);
	if (!(off < -core->foresight.quantile * hypot(LEVEL_ERROR, side->cleaning_error)))
		return core->options.pool_blocks;
	double tried = fmax(p->proven_blocks + (double)core->options.step_blocks, measured_above(p));
	return (uint64_t)fmin(tried, (double)core->options.pool_blocks);
}

uint64_t engine_barrier_floor(const struct engine_core *core, const struct engine_barrier *barrier)
{
	double wait = ldexp((double)core->options.pool_blocks, barrier->times - 1);
	return core->work - barrier->work < wait ? barrier->size : 0;
}

void engine_barrier_set(const struct engine_core *core, struct engine_barrier *barrier, uint64_t size)
{
	*barrier = (struct engine_barrier){size, core->work, MIN_OF(barrier->times + 1, ENGINE_TIMES_MAX)};
}

void engine_trial_begin(struct engine_core *core, struct engine_partition *from, const struct engine_partition *to,
			const struct lcpfs_engine_moved *moved)
{
	const struct lcpfs_engine_decision *d = &core->carried;
	double blocks = (double)moved->blocks, size = (double)d->from.size_blocks - blocks;
	double most = 1 + core->foresight.quantile * d->from.cleaning_error;
	if (d->from.give_blocks >= core->options.pool_blocks) {
		/* by the formula; once it is seen not to hold, this much has gone well */
		from->proven_blocks += blocks;
		return;
	}
	from->trial = (struct engine_trial){
		.blocks = moved->blocks,
		.to_id = to->id,
		.sequence = d->sequence,
		.expected_copies = most * engine_weigh_copies(&d->from, size),
		.saving_blocks_s = fmax(engine_weigh_saving(&d->to, blocks), 0),
		/* no more than can live there */
		.return_blocks = fmin(engine_weigh_copying(d, &to->side, blocks), blocks),
		/* what was copied for the move itself is its cost, and not what came of it */
		.copied = moved->copied_blocks == UINT64_MAX ? -d->cost_blocks : -from->moved_copied,
	};
}

void engine_trial_passed(struct engine_partition *p)
{
	if (!p->trial.blocks || p->trial.passed)
		return;
	p->proven_blocks += (double)p->trial.blocks;
	if (p->size < p->hurt.size)
		p->hurt = (struct engine_barrier){0};
	p->trial.passed = true;
}

/* Beyond what was expected, and what the receiver saves. */
static double excess_of(const struct engine_trial *t)
{
	return t->copied - t->expected_copies * t->user - t->saving_blocks_s * t->seconds;
}

/* One that hardly writes is not waited for longer than the pool takes to turn over: it has not been missed. */
void engine_trial_add(const struct engine_core *core, struct engine_partition *p, const struct engine_batch *batch,
		      double seconds)
{
	p->trial.user += batch->user;
	p->trial.copied += batch->copied;
	p->trial.seconds += seconds;
	if (engine_core_turned_over(core, p->changed_work))
		engine_trial_passed(p);
	/* it may go over its cliff later, too: what it did not miss before then is no credit */
	if (p->trial.passed && excess_of(&p->trial) < 0)
		p->trial.user = p->trial.copied = p->trial.seconds = 0;
}

bool engine_trial_failed(const struct engine_partition *p, double *rise)
{
	const struct engine_trial *t = &p->trial;
	if (!t->blocks || !(t->user > 0) || excess_of(t) <= t->return_blocks)
		return false;
	/* the blocks decide, however little of them latency shows */
	double ratio = engine_weigh_latency_ratio(&p->side, t->copied / t->user);
	*rise = fmax(p->side.epsilon * ratio - p->side.epsilon, DBL_MIN);
	return true;
}

void engine_trial_end(struct engine_core *core, struct engine_partition *p)
{
	engine_barrier_set(core, &p->hurt, p->size + p->trial.blocks);
	p->proven_blocks = 0;
	p->trial = (struct engine_trial){0};
}
