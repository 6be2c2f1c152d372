/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine has saved so far, against the sizes that partitions would have if it had left them alone (their
 * base sizes), and what going back to those would copy. It bounds the harm: nothing is spent that has not been
 * saved before, beyond the share of all writing that the harm bound allows, and the way back is always paid for
 * (weigh.c: engine_weigh_budget, decide.c: must_retreat).
 *
 * What a partition would have copied at its base size is what it copies now, times what its curve says of the two
 * sizes: that holds while the load changes, before anything has been measured anew.
 */
#include <math.h>

#include "engine/core.h"
#include "engine/formula.h"

/*
 * Where space was called back for a newcomer, both had it in the books: those below their base size would have had
 * to give it up if left alone, too. There are enough of them, since Σ size <= pool.
 */
void engine_ledger_fit(struct engine_core *core)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < core->count; i++)
		sum += core->partitions[i]->base;
	uint64_t over = sum > core->options.pool_blocks ? sum - core->options.pool_blocks : 0;
	for (size_t i = 0; i < core->count && over; i++) {
		struct engine_partition *p = core->partitions[i];
		uint64_t less = MIN_OF(p->base > p->size ? p->base - p->size : 0, over);
		p->base -= less;
		over -= less;
		if (less)
			engine_core_refresh(core, p);
	}
}

void engine_ledger_outgrown(struct engine_core *core, struct engine_partition *p)
{
	uint64_t least = MIN_OF(engine_core_least(core, p), p->size);
	if (p->base >= least)
		return;
	p->base = least;
	engine_ledger_fit(core);
}

void engine_ledger_resized(struct engine_core *core, struct engine_partition *p, uint64_t size,
			   enum lcpfs_engine_cause cause)
{
	p->base = cause == LCPFS_ENGINE_BY_HAND ? size : MAX_OF(p->base, size);
	engine_ledger_fit(core);
}

/*
 * How much more would have been copied at its base size: as little as may be (at the significance level), for all
 * that is known of how copies follow the size. Only what has surely been saved may be spent.
 */
static double saved_by(const struct engine_core *core, const struct engine_partition *p, double user,
		       double copied)
{
	struct lcpfs_engine_side side = p->side;
	side.curve_power += (p->size > p->base ? -1 : 1) * core->foresight.quantile * side.power_error;
	side.curve_power = fmax(side.curve_power, 0);
	double here = engine_weigh_copies(&side, (double)p->size);
	double there = engine_weigh_copies(&side, (double)p->base);
	if (!(here > 0))
		return 0;
	/* what is copied where hardly anything should be does not tell of elsewhere */
	return engine_finite_or(fmin(copied * (there / here - 1), user * there), 0);
}

/* Each block takes its share of summaries and tables along. */
static double overhead(const struct engine_batch *batch)
{
	return engine_finite_or(batch->device / (batch->user + batch->copied), 1);
}

void engine_ledger_add(struct engine_core *core, struct engine_partition *p, const struct engine_batch *batch)
{
	struct engine_ledger *l = &core->ledger;
	double for_moves = fmin(batch->copied, p->moved_copied);
	p->saved_lately = 0;
	l->lately += batch->device;
	if (core->carrying && core->carried.from_id == p->id) {
		engine_batch_add(&p->carried, batch); /* how much of it is for the move, its report will say */
		return;
	}
	p->moved_copied -= for_moves;
	p->saved_lately = overhead(batch) * saved_by(core, p, batch->user, batch->copied - for_moves);
	l->saved += p->saved_lately;
	l->saved_lately += p->saved_lately;
}

void engine_ledger_moved(struct engine_core *core, struct engine_partition *from, double copied)
{
	core->ledger.saved -= copied;
	if (!from)
		return;
	core->ledger.saved += overhead(&from->carried) *
			      saved_by(core, from, from->carried.user, fmax(from->carried.copied - copied, 0));
	from->moved_copied += fmax(copied - from->carried.copied, 0);
	from->carried = (struct engine_batch){0};
}
