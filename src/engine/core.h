/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine's state and its parts. Everything under this header is pure and takes no lock; engine.c is the thin
 * shell with the mutex. Invariants: Σ size + free = pool (free is computed, and no call lets Σ size exceed the
 * pool); every partition receives in at most one awaited move, which others may join; at most one move is being
 * carried out.
 *
 *   threshold.c  a learned threshold               window.c  what was measured at one size, with standard errors
 *   formula.c    pressure, ε, uniform WA, t        curve.c   cleaning cost over spare, corrected by measurement
 *   demand.c     what users ask for                core.c    what is known of partitions
 *   weigh.c      is one transfer worth it          decide.c  which transfer, or why none
 *   judge.c      what came of it                   explain.c a decision in words
 *   trial.c      how little is enough, where the formula does not hold
 *   ledger.c     what has been saved so far, and what the way back would cost
 *   input.c      what the engine is told: partitions, limits, sizes, counters
 *   state.c      what was learned, as bytes
 */
#ifndef ENGINE_CORE_H
#define ENGINE_CORE_H

#include <lcpfs/engine.h>

#include "base/check.h"
#include "engine/curve.h"
#include "engine/demand.h"
#include "engine/window.h"

#define ENGINE_LATENCY_SUM_MAX 1e18 /* µs: 30,000 years; more is no measurement */

#define ENGINE_TIMES_MAX 60 /* a wait of 2^59 turnovers is for ever */

/* A size not to go below for now: for a turnover of the pool, and twice as long each further time. */
struct engine_barrier {
	uint64_t size; /* 0: none */
	double work; /* of the pool, when it was set */
	int times;
};

/* What a partition gave last that the formula does not describe; it is watched until its size changes again. */
struct engine_trial {
	uint64_t blocks; /* 0: none under way */
	bool passed;     /* it has been measured without it, and did not miss it */
	uint32_t to_id;
	uint64_t sequence; /* of the decision */
	double expected_copies; /* per user block, at most */
	double saving_blocks_s; /* what the receiver writes less */
	double return_blocks; /* copied to give it back */
	double user, copied, seconds; /* since; once it has passed, since it last did not miss it */
};

/* Against the sizes that partitions would have if they had been left alone. */
struct engine_ledger {
	double saved; /* device blocks since the start, after all copying for moves; negative: more were written */
	double lately, saved_lately; /* device blocks since the last decision, and those saved in that time */
};

struct engine_partition {
	uint32_t id;
	char name[64]; /* never empty */
	uint64_t size, min, max, live;
	uint64_t base; /* its size if the engine had left it alone; Σ base <= pool */
	uint64_t least; /* the smallest size its data could live in; 0: not known */
	struct engine_barrier refused; /* it could not give below this size */
	uint64_t barrier_live; /* barriers are forgotten when its live data shrink, too */

	bool seen; /* `last` is a baseline */
	struct lcpfs_engine_counters last;
	uint64_t last_us;
	double seen_work; /* of the pool, when it came */
	double pool_work_seen;

	struct engine_demand demand;
	double window_frequency, window_latency_us, window_wa; /* the last update alone, for people */

	double since_blocks; /* device blocks written since the size last changed: its effect arrives with a
				turnover */
	uint64_t changed_us;
	double changed_work; /* of the pool */
	struct engine_window window; /* since then */
	struct engine_curve curve;   /* from sizes before */
	/* as last measured, carried over to the present size; the error is relative */
	double latency_us, latency_error, write_share;
	bool latency_known;

	struct lcpfs_engine_side side; /* as of the last update */
	double gain_step, loss_step; /* ε that one more step saves, one less costs */
	struct engine_trial trial;
	double proven_blocks; /* given since it last hurt, and found not to be missed */
	struct engine_barrier hurt; /* below this size a trial failed */
	bool awaited; /* receiver of a pending move: but for what joins that, it gets nothing until that is judged
		       */
	bool joined_all;     /* nothing more was found to join it */
	double awaited_work; /* of the pool, when it was made */

	double saved_lately; /* device blocks, by the last update */
	struct engine_batch carried; /* since it began to give in the move being carried out */
	double moved_copied; /* for moves reported, but not seen in its counters yet */
};

/* What choosing looks at, side by side: a decision among a thousand must not wait for a thousand cache misses. */
struct engine_rank {
	double gain_step, loss_step; /* as in the partition */
	double above_base, way_back; /* blocks; negative: below. Blocks copied to go back from above */
	bool can_get, can_give, measured;
};

/* One party of a move whose effect is awaited, as it was before. */
struct engine_before {
	double frequency, latency_us, latency_error, utilization; /* error in µs */
	double freedom;
	bool measured;
	bool changed; /* its size changed again since: what is measured now is not this move's effect */
	double new_utilization;
	double expected_ratio; /* latency after / before, by the curve: stands in where the effect takes too long
				  to arrive */
};

struct engine_pending {
	struct lcpfs_engine_outcome outcome; /* filled as far as known */
	struct engine_before from, to;
	double made_work; /* of the pool */
};

struct engine_core {
	struct lcpfs_engine_options options;
	struct lcpfs_engine_threshold pressure, cooldown_s, growth, shrink;
	double trust_sum, trust_weight; /* of realised / expected */
	double copying_seen, copying_expected; /* for moves, in blocks: what it was, what the curves said */
	double written; /* device blocks of all partitions, since the start */
	struct engine_ledger ledger;
	uint32_t copying_tried_steps;      /* the largest such move */
	struct engine_foresight foresight; /* which demand is believed */
	uint64_t judged, moves, improved, hurt, inconclusive, undone;

	struct engine_partition **partitions; /* ascending id */
	struct engine_rank *ranks; /* in the same order */
	uint64_t used_blocks; /* Σ size */
	size_t count, room;
	uint32_t id_last; /* highest ever seen */
	uint64_t now_us;
	double work; /* of the whole pool: device blocks + reads, since the start */
	double emergency_blocks; /* taken by full writers, decayed with the pool's work: free space kept back */
	double emergency_work;
	uint64_t sequence;

	bool carrying; /* `carried` was handed out and not reported */
	struct lcpfs_engine_decision carried;
	struct lcpfs_engine_decision last;
	bool undo_wanted;
	struct lcpfs_engine_outcome undo;
	double undo_freedom, undo_work; /* of the pool, when it became wanted */

	struct engine_pending *pending;
	size_t pending_count; /* up to 2 · room */
	struct lcpfs_engine_outcome outcomes[LCPFS_ENGINE_OUTCOMES_MAX];
	size_t outcome_count; /* ever; the ring holds the last 100 */
};

/* The pool has written and read as much as its size since its work was this. */
static inline bool engine_core_turned_over(const struct engine_core *core, double since_work)
{
	return core->work - since_work >= (double)core->options.pool_blocks;
}

/* core.c */
int engine_core_init(struct engine_core *core, const struct lcpfs_engine_options *options) MUST_CHECK;
void engine_core_done(struct engine_core *core);
size_t engine_core_index(const struct engine_core *core, uint32_t id); /* where it is, or would be */
struct engine_partition *engine_core_find(const struct engine_core *core, uint32_t id);
uint64_t engine_core_free_blocks(const struct engine_core *core);
uint64_t engine_core_reserve_blocks(const struct engine_core *core);
void engine_core_time(struct engine_core *core, uint64_t now_us);
void engine_core_refresh(struct engine_core *core, struct engine_partition *p); /* after any change to it */
void engine_core_set_size(struct engine_core *core, struct engine_partition *p, uint64_t size);
double engine_core_utilization(const struct engine_partition *p);
/* what is left of an amount of that time: forgotten over a turnover of the pool */
double engine_core_decayed(const struct engine_core *core, double amount, double since_work);
uint64_t engine_core_least(const struct engine_core *core, const struct engine_partition *p); /* it can work in */
bool engine_core_held(const struct engine_core *core, const struct engine_partition *p); /* it may not give yet */
/* it has waited for a verdict longer than the pool takes to turn over once: it is not held still any more */
bool engine_core_overdue(const struct engine_core *core, const struct engine_partition *p);
bool engine_core_settled(const struct engine_core *core, const struct engine_partition *p);
struct lcpfs_engine_side engine_core_side(const struct engine_core *core,
					  const struct engine_partition *p); /* as of now; NULL: free space */
bool engine_core_point(const struct engine_partition *p, struct engine_point *point);

/* ledger.c */
void engine_ledger_fit(struct engine_core *core); /* after what may have made Σ base more than the pool */
/* it could not work at its base size, as its data or limits are now: so it would not have been there */
void engine_ledger_outgrown(struct engine_core *core, struct engine_partition *p);
void engine_ledger_resized(struct engine_core *core, struct engine_partition *p, uint64_t size,
			   enum lcpfs_engine_cause cause);
void engine_ledger_add(struct engine_core *core, struct engine_partition *p, const struct engine_batch *batch);
/* `copied` blocks for a move; `from` may be NULL, and is if only an estimate is known */
void engine_ledger_moved(struct engine_core *core, struct engine_partition *from, double copied);

/* weigh.c: pure functions of a decision's inputs */
double engine_weigh_fall(const struct lcpfs_engine_side *side, double blocks); /* of ε, if it gets that many */
double engine_weigh_copies(const struct lcpfs_engine_side *side, double size_blocks);
double engine_weigh_saving(const struct lcpfs_engine_side *side, double blocks); /* device blocks/s, likewise */
/* blocks copied to take so many away from a side, by what this decision knows of copying */
double engine_weigh_copying(const struct lcpfs_engine_decision *d, const struct lcpfs_engine_side *from,
			    double blocks);
/* blocks copied to go from that size to its base size, if that is less */
double engine_weigh_way_back(const struct lcpfs_engine_side *side, double size_blocks);
double engine_weigh_saved(const struct lcpfs_engine_decision *d); /* blocks, as long as demand is known for */
bool engine_weigh_repays(const struct lcpfs_engine_decision *d); /* what it saves is worth what it copies */
/* the most that a move may copy, with what it makes the way back longer by */
double engine_weigh_there_and_back(const struct lcpfs_engine_decision *d);
double engine_weigh_latency_ratio(const struct lcpfs_engine_side *side, double copies);
/* inputs → results, reason and action (as in mode on) */
void engine_weigh(struct lcpfs_engine_decision *decision);
void engine_weigh_fixed(struct lcpfs_engine_decision *decision, uint64_t blocks); /* results for a given size */
/* what a move may copy at most: what the harm bound leaves, less the way back */
double engine_weigh_budget(const struct lcpfs_engine_decision *decision);
bool engine_weigh_free_can_give(const struct lcpfs_engine_decision *decision);

/* decide.c */
void engine_decide(struct engine_core *core, struct lcpfs_engine_decision *decision);
void engine_decide_explain(struct engine_core *core, uint32_t id, struct lcpfs_engine_decision *decision);
void engine_decide_call_back(struct engine_core *core, uint64_t blocks, uint32_t but_not,
			     struct lcpfs_engine_decision *decision);
void engine_decide_inputs(const struct engine_core *core, struct lcpfs_engine_decision *decision);

/* trial.c: where the formula does not hold */
uint64_t engine_trial_limit(const struct engine_core *core, const struct engine_partition *p,
			    const struct lcpfs_engine_side *side); /* the most it may give at once */
uint64_t engine_barrier_floor(const struct engine_core *core, const struct engine_barrier *barrier); /* 0: none */
void engine_barrier_set(const struct engine_core *core, struct engine_barrier *barrier, uint64_t size);
/* it gave as much: on trial, unless it went by the formula */
void engine_trial_begin(struct engine_core *core, struct engine_partition *from, const struct engine_partition *to,
			const struct lcpfs_engine_moved *moved);
void engine_trial_add(const struct engine_core *core, struct engine_partition *p, const struct engine_batch *batch,
		      double seconds);
void engine_trial_passed(struct engine_partition *p); /* it has been measured without what it gave */
/* true if that has to go back: by the blocks copied, ε rose by *rise */
bool engine_trial_failed(const struct engine_partition *p, double *rise);
void engine_trial_end(struct engine_core *core, struct engine_partition *p); /* it goes back */

/* judge.c */
int engine_judge_report(struct engine_core *core, uint64_t sequence,
			const struct lcpfs_engine_moved *moved) MUST_CHECK;
void engine_judge_trial(struct engine_core *core, struct engine_partition *p);
void engine_judge_all(struct engine_core *core);
void engine_judge_cut_off(struct engine_core *core, uint32_t id); /* its awaited move can no longer be judged */
/* what the receiver got and is not judged yet, and the fall of ε that is expected of that */
void engine_judge_joined(const struct engine_core *core, struct lcpfs_engine_decision *decision);

/* input.c */
void engine_input_name(struct engine_partition *p, const char *name); /* NULL or "": by its number */
int engine_input_add(struct engine_core *core, const struct lcpfs_engine_spec *spec) MUST_CHECK;
int engine_input_remove(struct engine_core *core, uint32_t id) MUST_CHECK;
int engine_input_limits(struct engine_core *core, uint32_t id, uint64_t min, uint64_t max) MUST_CHECK;
int engine_input_update(struct engine_core *core, uint32_t id,
		       const struct lcpfs_engine_counters *counters) MUST_CHECK;
int engine_input_resized(struct engine_core *core, uint32_t id, uint64_t size,
			enum lcpfs_engine_cause cause) MUST_CHECK;

/* explain.c */
/* after all else of the decision is filled in */
void engine_explain(const struct engine_core *core, struct lcpfs_engine_decision *decision);

/* state.c */
size_t engine_state_save(const struct engine_core *core, void *bytes, size_t room);
int engine_state_load(struct engine_core *core, const void *bytes, size_t length) MUST_CHECK;

#endif
