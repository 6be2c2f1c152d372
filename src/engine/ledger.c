/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine has saved so far, against the sizes that partitions would have if it had left them alone (their
 * base sizes), and what going back to those would copy. It bounds the harm: nothing is spent that has not been
 * saved before, beyond the share of all writing that the harm bound allows, and the way back is always paid for
 * (weigh.c: engine_weigh_budget, engine_weigh_must_retreat).
 *
 * What a partition would have copied at its base size is what it copies now, times what its curve says of the two
 * sizes: that holds while the load changes, before anything has been measured anew.
 */
#include <math.h>

#include "engine/core.h"
#include "engine/formula.h"

/* Its user may have set limits since, and its data may have outgrown it. */
uint64_t engine_ledger_base(const struct engine_core *core, const struct engine_partition *p)
{
	uint64_t least = MIN_OF(engine_core_least(core, p), p->size);

	return MAX_OF(MIN_OF(p->base, p->max), least);
}

void engine_ledger_by_hand(struct engine_partition *p, uint64_t size_before, uint64_t size)
{
	p->base = p->base + size > size_before ? p->base + size - size_before : 0;
}

/*
 * How much more would have been copied at its base size: as little as may be (at the significance level), for all
 * that is known of how copies follow the size. Only what has surely been saved may be spent.
 */
static double saved_by(const struct engine_core *core, const struct engine_partition *p, double user,
		       double copied)
{
	double quantile = engine_t_quantile(core->options.significance, ENGINE_CERTAIN);
	struct lcpfs_engine_side side = p->side;
	double here, there;

	side.curve_power += (p->size > side.base_blocks ? -1 : 1) * quantile * side.power_error;
	side.curve_power = fmax(side.curve_power, 0);
	here = engine_weigh_copies(&side, (double)p->size);
	there = engine_weigh_copies(&side, (double)side.base_blocks);
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

void engine_ledger_replace(struct engine_core *core, struct engine_partition *p, bool gone)
{
	struct engine_ledger *l = &core->ledger;
	double off = gone ? 0 : (double)p->size - (double)p->side.base_blocks;
	struct engine_off_base now = {.below = fmax(-off, 0), .above = fmax(off, 0)};

	now.copies = now.above > 0 ? engine_weigh_way_back(&p->side, (double)p->size) : 0;
	l->all.below += now.below - p->off_base.below;
	l->all.above += now.above - p->off_base.above;
	l->all.copies += now.copies - p->off_base.copies;
	p->off_base = now;
}

double engine_ledger_return(const struct engine_core *core)
{
	const struct engine_off_base *all = &core->ledger.all;
	double need = all->below - (double)engine_core_free_blocks(core);

	return need > 0 && all->above > 0 ? fmax(all->copies, 0) * fmin(need / all->above, 1) : 0;
}

void engine_ledger_looked(struct engine_core *core)
{
	core->ledger.lately = core->ledger.saved_lately = 0;
}
