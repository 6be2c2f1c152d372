/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine of lcpfs: it decides which partition should give space to which, and learns from what came of it.
 *
 * It is pure: no I/O, no clock, no threads, no globals. Time and measurements come in, decisions go out; the same
 * calls in the same order give the same answers. It moves nothing itself: the caller carries a decision out and
 * reports. One handle may be used from several threads (a mutex inside the handle; every call is short).
 * docs/engine.md derives the arithmetic.
 *
 * The caller's loop, about once a second, and where the pool turns over in seconds as often as it has written and
 * read a LCPFS_ENGINE_LOOKS-th of its size:
 *
 *	for each partition: lcpfs_engine_update(e, id, now_us, &counters);	(cumulative counters, see below)
 *	lcpfs_engine_decide(e, now_us, &d);
 *	if (d.action == LCPFS_ENGINE_MOVE) {	(only ever in mode `on`)
 *		move d.blocks from d.from_id to d.to_id; either may be LCPFS_ENGINE_FREE; end early where it
 *		has copied d.cost_limit_blocks
 *		lcpfs_engine_report(e, now_us, d.sequence, &moved);	(always, also when nothing was moved)
 *	}
 *
 * The second half may be left to lcpfs_engine_step(), which does it through an actuator function. The move may
 * take seconds, may be cut short, and may be refused. Until it is reported, decide answers
 * LCPFS_ENGINE_WAIT_REPORT. Every change of size that the engine did not decide (by hand, a full writer's
 * emergency) is told with lcpfs_engine_resized().
 *
 * Units: blocks are the pool's blocks (4 KiB); times are µs of any monotonic clock (one that runs backwards is
 * tolerated: the engine's own time then stands still); latencies are µs; frequencies are operations/s.
 * Every function that can fail returns 0 or a negative code of <lcpfs/error.h>.
 */
#ifndef LCPFS_ENGINE_H
#define LCPFS_ENGINE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lcpfs/error.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

struct lcpfs_engine;

#define LCPFS_ENGINE_FREE 0u /* the id of the space that nobody owns; partitions have ids from 1 */
#define LCPFS_ENGINE_LOOKS 32u /* in a turnover of the pool, where that takes less than as many seconds */
#define LCPFS_ENGINE_OUTCOMES_MAX 100u /* outcomes kept */
#define LCPFS_ENGINE_SENTENCE_MAX 400u
#define LCPFS_ENGINE_RANKING_MAX 600u
#define LCPFS_ENGINE_ADVICE_MAX 280u

enum lcpfs_engine_mode {
	LCPFS_ENGINE_OFF, /* measures, decides nothing */
	LCPFS_ENGINE_OBSERVE, /* decides and logs what it would do; moves nothing */
	LCPFS_ENGINE_ON,
};

/* What a learned threshold believes before its first observation; 0 means the default in brackets. */
struct lcpfs_engine_priors {
	double pressure; /* that triggers a move (100) */
	double cooldown_s; /* between moves (300) */
	double growth_step; /* share of the receiver's size (0.10) */
	double shrink_step; /* share of the giver's size (0.05) */
	/* How far cleaning may be from the uniform formula: standard errors of */
	double curve_level; /* the logarithm of its cost (1) */
	double curve_power; /* the power with which it follows the formula (0.25) */
	double curve_scatter; /* one size's measurement about the curve, relative (0.05) */
	double kept; /* share of (least size − live data) that the store keeps for itself (0.5) */
	double latency_error; /* relative, of a latency that has no batches to compare yet (1) */
	double copy_share; /* copied for a move / what freeing as much costs the giver by its curve (1) */
	double trust; /* how many outcomes the belief counts for that expectations come to nothing (1) */
};

struct lcpfs_engine_options {
	uint64_t pool_blocks; /* Σ size + free, always */
	uint64_t step_blocks; /* the smallest move: one metaslab */
	enum lcpfs_engine_mode mode;
	double significance; /* chance of a false verdict to either side; 0 = 0.05 */
	double harm; /* by what share more than without moves may have been written; 0 = 0.02 */
	struct lcpfs_engine_priors priors;
};

/* *engine is set to NULL on failure. Destroy with lcpfs_engine_destroy (NULL is allowed). */
int lcpfs_engine_create(const struct lcpfs_engine_options *options, struct lcpfs_engine **engine);
void lcpfs_engine_destroy(struct lcpfs_engine *engine);

int lcpfs_engine_set_mode(struct lcpfs_engine *engine, enum lcpfs_engine_mode mode);
enum lcpfs_engine_mode lcpfs_engine_get_mode(struct lcpfs_engine *engine);
/* The pool grew (or shrank: refused below Σ size). */
int lcpfs_engine_set_pool_blocks(struct lcpfs_engine *engine, uint64_t pool_blocks);

/* ---- partitions ---- */

struct lcpfs_engine_spec {
	uint32_t id; /* 0: the engine picks the next; else above every id it has ever seen: none is reused */
	const char *name; /* copied (first 63 bytes); for sentences only; NULL or "": "partition ID" */
	uint64_t size_blocks, min_size_blocks, max_size_blocks;
};

/* Refused: min > max, size outside them, Σ min or Σ size above the pool. *id may be NULL. */
int lcpfs_engine_add(struct lcpfs_engine *engine, const struct lcpfs_engine_spec *spec, uint32_t *id);
int lcpfs_engine_remove(struct lcpfs_engine *engine, uint32_t id); /* its blocks become free */
int lcpfs_engine_set_limits(struct lcpfs_engine *engine, uint32_t id, uint64_t min_size_blocks,
			    uint64_t max_size_blocks);
int lcpfs_engine_rename(struct lcpfs_engine *engine, uint32_t id, const char *name);

/*
 * What a partition has done since it was opened: CUMULATIVE counters that only grow, plus live_blocks as of now. A
 * counter below its last value means a restart: it is taken as the new baseline. An operation counts when it ends.
 */
struct lcpfs_engine_counters {
	uint64_t read_ops, write_ops;
	double read_latency_us, write_latency_us; /* sums over those operations */
	uint64_t user_blocks; /* blocks written by users */
	uint64_t copied_blocks; /* live blocks copied by cleaning, whatever it was for */
	uint64_t device_blocks; /* all blocks written to the device: user, copied, summaries, tables */
	uint64_t live_blocks;
	uint64_t least_blocks; /* the smallest size that its data could live in; 0: not known */
};

int lcpfs_engine_update(struct lcpfs_engine *engine, uint32_t id, uint64_t now_us,
			const struct lcpfs_engine_counters *counters);

/*
 * A size changed without the engine's decision. `blocks` is the new size; kept even outside min and max, not above
 * the pool.
 */
enum lcpfs_engine_cause {
	LCPFS_ENGINE_BY_HAND,
	LCPFS_ENGINE_EMERGENCY, /* a full writer took a free metaslab */
};
int lcpfs_engine_resized(struct lcpfs_engine *engine, uint32_t id, uint64_t now_us, uint64_t size_blocks,
			 enum lcpfs_engine_cause cause);

/* ---- learned thresholds, public because they can be used alone ---- */

struct lcpfs_engine_threshold {
	double value;
	double uncertainty; /* standard error of the mean outcome; INFINITY while unknown */
	uint64_t observations;
	double learning_rate; /* 1 / (1 + 0.1·√observations) */
	double mean_outcome; /* mean Δε of what was observed */
	double variance; /* of Δε; INFINITY while unknown */
	double low, high; /* range of what was seen: value never leaves it once there is an observation */
};

void lcpfs_engine_threshold_init(struct lcpfs_engine_threshold *t, double guess);
/* Values that are not finite teach nothing: false. */
bool lcpfs_engine_threshold_observe(struct lcpfs_engine_threshold *t, double action, double epsilon_change);
double lcpfs_engine_threshold_confidence(const struct lcpfs_engine_threshold *t); /* 0..1 */
bool lcpfs_engine_threshold_should_act(const struct lcpfs_engine_threshold *t, double current, double benefit);

/* utilization · frequency / ((max − size) / max); INFINITY below 1 % headroom: pressure does not count there. */
double lcpfs_engine_pressure(double utilization, double access_frequency, uint64_t size_blocks,
			     uint64_t max_size_blocks);
double lcpfs_engine_epsilon(double avg_latency_us, double utilization, double access_frequency);

/* ---- decisions ---- */

enum lcpfs_engine_action {
	LCPFS_ENGINE_NONE,
	LCPFS_ENGINE_MOVE, /* carry it out and report */
	LCPFS_ENGINE_WOULD_MOVE, /* mode observe: the same decision, not to be carried out */
};

enum lcpfs_engine_reason {
	LCPFS_ENGINE_MODE_OFF,
	LCPFS_ENGINE_FEW_PARTITIONS, /* nothing to move between */
	LCPFS_ENGINE_NOT_MEASURED, /* too little traffic so far to know what a block is worth */
	LCPFS_ENGINE_WAIT_REPORT, /* the last move has not been reported yet */
	LCPFS_ENGINE_WAIT_EFFECT, /* the last move's effect cannot have arrived yet */
	LCPFS_ENGINE_WAIT_MEASURE, /* it has arrived; the window is still too short for its own standard error */
	LCPFS_ENGINE_NO_ROOM, /* those that would gain are at their max, or those that could give at their min */
	LCPFS_ENGINE_IN_BALANCE, /* another step would lose as much as it gains */
	LCPFS_ENGINE_WITHIN_NOISE, /* there may be a gain, but it does not beat its noise */
	/* the copying would not be repaid as long as demand is known for, or the harm bound leaves too little */
	LCPFS_ENGINE_NO_PAYBACK,
	LCPFS_ENGINE_EXPLORE, /* move: one step, to learn */
	LCPFS_ENGINE_GAIN, /* move: the expected gain beats its noise */
	LCPFS_ENGINE_UNDO, /* move: the last one hurt, it is taken back */
	LCPFS_ENGINE_CALL_BACK, /* move: free space is needed (lcpfs_engine_call_back) */
	LCPFS_ENGINE_RETREAT, /* move: towards base sizes, before what was saved is used up */
	LCPFS_ENGINE_REASON_END
};

const char *lcpfs_engine_reason_name(enum lcpfs_engine_reason reason); /* "within_noise" … */

/* One side of a move as the engine saw it: enough to recompute the decision. Relative errors: 0.1 = 10 %. */
struct lcpfs_engine_side {
	uint32_t id;
	uint64_t size_blocks, live_blocks;
	/* how far it may go: min and max, narrowed by live data and past refusals */
	uint64_t floor_blocks, ceiling_blocks;
	uint64_t base_blocks; /* its size if the engine had left it alone; of all no more than the pool */
	uint64_t give_blocks; /* the most it gives at once: less than all where the formula does not hold */
	double access_frequency; /* operations/s over the demand window */
	double write_frequency; /* user blocks/s over the demand window */
	double frequency_error; /* relative */
	double avg_latency_us; /* at this size */
	double latency_error; /* relative */
	double write_share; /* share of the latency sum that writes cause: the part that spare can change */
	double utilization, pressure, epsilon;
	/*
	 * Copied blocks per user block at a size with spare s: cleaning_cost · (u(s) / u(now))^curve_power, u =
	 * uniform WA − 1.
	 */
	double cleaning_cost, cleaning_error; /* at this size; relative */
	double kept_blocks; /* of its size, what the store keeps for itself: neither live nor spare */
	double uniform_copies; /* u(now) */
	double curve_power, power_error;
	double gain_per_block; /* what ε falls by per block that it gets (receiver) or rises by (giver) */
	bool measured; /* at this size; else what is known from other sizes, or only the prior */
	double since_change_blocks, since_change_s; /* device blocks written, and time, since its size changed */
};

struct lcpfs_engine_decision {
	uint64_t sequence; /* counts decisions from 1; repeated while the answer stays the same */
	uint64_t since_us; /* engine time at which this answer was first given */
	uint64_t now_us;
	enum lcpfs_engine_action action;
	enum lcpfs_engine_reason reason;
	uint32_t from_id, to_id; /* also set for a decision not to move, where two candidates were weighed */
	uint64_t blocks; /* to move, in whole steps; for NONE what was weighed */
	struct lcpfs_engine_side from, to;
	/* inputs */
	enum lcpfs_engine_mode mode;
	uint32_t partitions, partitions_measured; /* how many; of them measured at their present size */
	uint64_t step_blocks, free_blocks, reserve_blocks; /* reserve: kept back of what is free */
	double significance;
	double pressure_threshold, growth_step, shrink_step, cooldown_s; /* learned values */
	double growth_rate, shrink_rate; /* learning rates of the two steps: how far beyond them it may try */
	double confidence; /* of the pressure threshold */
	double trust; /* 0..1: how far outcomes bear out expectations; scales the step */
	uint64_t outcomes; /* judged so far */
	/* blocks: copied for moves so far, and what the givers' curves said; the prior ratio of the two */
	double copying_seen, copying_expected, copying_prior;
	/*
	 * Of all partitions since the start: device blocks written, and how many fewer that were than at base
	 * sizes, after all copying for moves (negative: more).
	 */
	double written_blocks, saved_blocks;
	double return_blocks; /* what going back to base sizes is expected to copy */
	double lately_blocks, lost_blocks; /* written since the last look, and how many more than at base sizes */
	double harm; /* the bound, as given */
	uint64_t pool_blocks;
	double copying_budget; /* blocks: what the harm bound leaves for a move to copy at most */
	uint64_t copying_tried; /* the largest move so far, at least a step */
	double demand_turnovers; /* of the pool, over which demand is averaged: that foretold it best */
	double horizon_s; /* how long demand is known for by that: the cost must be repaid within it */
	/* results */
	double expected_gain; /* fall of ε (as defined, at today's demand); > 0 is good */
	double expected_error; /* its standard error */
	double measurement_error; /* the part of it that is not ignorance of the curve */
	double expected_saving_blocks_s; /* device blocks/s that it should save (may be negative) */
	double cost_blocks; /* copying that the move is expected to cost */
	double cost_limit_blocks; /* where it ends, with what was moved by then; 0: nowhere (UNDO, CALL_BACK) */
	double balance_blocks; /* how much would go over if the expectation were certain */
	double freedom; /* UNDO: degrees of freedom of the error of the verdict that it follows */
	uint64_t joined_blocks; /* what the receiver got lately, if this would be judged with it */
	double joined_gain; /* the fall of ε that is expected of that */
	/*
	 * Of all partitions, whether they can or not: whose ε falls most by another block, and whose rises least
	 * by giving one (of the others, where there are others). 0 where there is none.
	 */
	uint32_t gains_most_id, loses_least_id;
	double gains_most, loses_least; /* of ε, per block */
	char sentence[LCPFS_ENGINE_SENTENCE_MAX]; /* what, and why, or what is awaited and for how long */
	char advice[LCPFS_ENGINE_ADVICE_MAX]; /* what a person could do, by commands of lcpfs */
	char ranking[LCPFS_ENGINE_RANKING_MAX]; /* who gains most and loses least, how sure, since when */
};

/* Judges what can be judged, then answers. */
int lcpfs_engine_decide(struct lcpfs_engine *engine, uint64_t now_us, struct lcpfs_engine_decision *decision);
/*
 * The last answer (id 0), or the same view narrowed to one partition as receiver or giver. Changes nothing, and
 * hands nothing out: of one partition it says what could be, since what is done next is decided among all.
 */
int lcpfs_engine_explain(struct lcpfs_engine *engine, uint32_t id, struct lcpfs_engine_decision *decision);

struct lcpfs_engine_moved {
	uint64_t blocks; /* really moved: 0 (refused) to decision.blocks, any multiple of a step */
	uint64_t duration_us;
	uint64_t copied_blocks; /* copied for it; UINT64_MAX if not known */
	bool enough;            /* it could have given more, but was not waited for any longer */
};
int lcpfs_engine_report(struct lcpfs_engine *engine, uint64_t now_us, uint64_t sequence,
			const struct lcpfs_engine_moved *moved);

/*
 * Moves up to decision->blocks, and ends when it has copied cost_limit_blocks for that; fills *moved; 0 or a
 * negative code (then moved->blocks still counts). Called without the lock.
 */
typedef int lcpfs_engine_actuator(void *context, const struct lcpfs_engine_decision *decision,
				  struct lcpfs_engine_moved *moved);
/* decide, and if it is a move: actuator, report. *decision may be NULL. */
int lcpfs_engine_step(struct lcpfs_engine *engine, uint64_t now_us, lcpfs_engine_actuator *actuator, void *context,
		      struct lcpfs_engine_decision *decision);

/*
 * Free space is wanted now (a newcomer, a sudden writer): who should give? One answer at a time, to be carried out
 * and reported like any move (from a partition to LCPFS_ENGINE_FREE, or NONE with its reason). Answers in every
 * mode: it is asked for by a user, not a tuning question. `but_not` (0 = none) is spared.
 */
int lcpfs_engine_call_back(struct lcpfs_engine *engine, uint64_t now_us, uint64_t blocks, uint32_t but_not,
			   struct lcpfs_engine_decision *decision);

/* ---- questions ---- */

struct lcpfs_engine_partition {
	uint32_t id;
	char name[64];
	uint64_t size_blocks, min_size_blocks, max_size_blocks, live_blocks;
	double access_frequency, avg_latency_us, utilization; /* over the last window(s) */
	double pressure; /* INFINITY at its max */
	double epsilon;
	double write_amplification; /* device blocks / user blocks over the last windows; 1 without writes */
	bool moving; /* a move of it is under way */
};

struct lcpfs_engine_statistics {
	uint64_t pool_blocks, free_blocks, step_blocks;
	uint32_t partitions;
	enum lcpfs_engine_mode mode;
	double epsilon;
	bool moving;
	struct lcpfs_engine_threshold pressure, cooldown_s, growth_step, shrink_step;
	double pressure_confidence, cooldown_confidence, growth_confidence, shrink_confidence;
	uint64_t moves, improved, hurt, inconclusive, undone; /* over the engine's whole life */
	double written_blocks, saved_blocks; /* as in the decision */
};

int lcpfs_engine_get_statistics(struct lcpfs_engine *engine, struct lcpfs_engine_statistics *statistics);
int lcpfs_engine_get_partition(struct lcpfs_engine *engine, uint32_t id, struct lcpfs_engine_partition *partition);

enum lcpfs_engine_verdict {
	LCPFS_ENGINE_INCONCLUSIVE,
	LCPFS_ENGINE_IMPROVED,
	LCPFS_ENGINE_HURT,
	LCPFS_ENGINE_NOT_JUDGED, /* cut off: removed, resized from outside, or too little traffic afterwards */
};

const char *lcpfs_engine_verdict_name(enum lcpfs_engine_verdict verdict);

struct lcpfs_engine_outcome {
	uint64_t sequence; /* of the decision */
	uint32_t from_id, to_id;
	uint64_t blocks; /* really moved */
	/* sizes; for free space: the free blocks */
	uint64_t from_old_blocks, from_new_blocks, to_old_blocks, to_new_blocks;
	double pressure; /* of the receiver, at decision */
	double expected_gain, expected_error;
	double epsilon_before, epsilon_after; /* of those concerned, at the demand of before */
	double standard_error; /* of the difference */
	uint64_t moved_us; /* engine time when it was carried out */
	uint64_t duration_us; /* of carrying it out */
	uint64_t taken_us; /* from then until it could be judged */
	enum lcpfs_engine_verdict verdict;
	enum lcpfs_engine_reason reason; /* why it was done */
	bool undone;
	bool joined; /* judged with the next one to that receiver: the numbers are those of all of these */
};

/* Oldest first, up to `room`; returns how many there are. */
size_t lcpfs_engine_get_outcomes(struct lcpfs_engine *engine, struct lcpfs_engine_outcome *list, size_t room);

/* ---- what was learned, across restarts ---- */

/*
 * A little-endian layout with version and checksum; 96 KiB hold 256 partitions and 100 outcomes. Moves that wait
 * for their verdict, and what is being measured, are kept if they fit in besides. Save returns the bytes needed (of
 * all, where bytes is NULL), or those that it has written into `room`. Load into an engine that already has its
 * partitions: those are matched by id, sizes come from the caller, only what was learned is taken over; what is
 * unknown is skipped. A bad checksum is -LCPFS_E_CORRUPT, a version that is not known -LCPFS_E_VERSION; then
 * nothing was changed.
 */
size_t lcpfs_engine_save(struct lcpfs_engine *engine, void *bytes, size_t room);
int lcpfs_engine_load(struct lcpfs_engine *engine, const void *bytes, size_t length);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
