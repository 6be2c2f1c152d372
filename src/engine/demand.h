/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What users ask of a partition: means over the last 1, 2, 4 … 32 turnovers of the pool (work, not time: a pool
 * that sleeps at night forgets nothing). Each of these memories has foretold the turnovers that came after it; the
 * one that did so best so far is believed, for all partitions alike.
 */
#ifndef ENGINE_DEMAND_H
#define ENGINE_DEMAND_H

#include "engine/window.h"

#define ENGINE_MEMORIES 6
#define ENGINE_LONGEST  (1 << (ENGINE_MEMORIES - 1)) /* turnovers that the last of them goes back */
#define ENGINE_AHEAD 3 /* turnovers that have to be foretold: one till an effect has arrived, two that have it */

struct engine_rates {
	double seconds, ops, user; /* decayed sums; demand is known for so many seconds */
};

struct engine_demand {
	struct engine_rates memory[ENGINE_MEMORIES]; /* that of index i fades over 2^i turnovers */
	double squares; /* of the shortest: decayed Σ (ops − mean·seconds)² of the updates */
	double latency_us, write_latency_us; /* likewise, over the operations */
	double samples, latency_squares; /* updates with operations, Σ (their latencies / expected − 1)² */
	/* As shares of all operations in the pool: how many more fit into a turnover is the engine's own doing. */
	double turnover_ops; /* operations in the present turnover so far */
	double foretold[ENGINE_AHEAD][ENGINE_MEMORIES]; /* when the last turnovers ended, newest first */
	double apart[ENGINE_MEMORIES]; /* (by the shortest memory − by this one)², now */
	unsigned turn;                 /* the last that it was judged by */
};

/* How well the memories foretell, over all partitions. */
struct engine_foresight {
	double quantile; /* of the normal distribution, at the significance: beyond it something has changed */
	double turnover, turnover_ops; /* how much of the present one is over, 0 to 1; operations in it */
	double ops[ENGINE_MEMORIES]; /* of all partitions, decayed like theirs */
	unsigned turn; /* the last that ended: each partition is judged by it when it is updated next */
	bool learning; /* that round is under way */
	double ended_ops[ENGINE_MEMORIES], ended_turnover_ops; /* `ops` and `turnover_ops` when it ended */
	double squares[ENGINE_MEMORIES]; /* Σ (foretold − came)² over the partitions judged by it so far */
	int ended; /* turnovers (ENGINE_AHEAD at most) of which it is known what was foretold when they ended */
	double judged; /* turnovers, decayed like what follows */
	double off[ENGINE_MEMORIES]; /* Σ (foretold − came)², beyond what the best of them was off by */
	double usual[ENGINE_MEMORIES]; /* Σ of the largest `apart` in each turnover */
	double apart[ENGINE_MEMORIES], largest[ENGINE_MEMORIES]; /* Σ over partitions, now; in this turnover */
	int best; /* for a round: all partitions are seen by the same one */
};

/* `age` is the pool's work since the last call / the pool's size. */
void engine_demand_add(struct engine_demand *demand, const struct engine_batch *batch, double seconds, double age);
double engine_demand_rate(const struct engine_rates *rates, double sum); /* of that, a second */
double engine_demand_error(const struct engine_demand *demand); /* relative standard error of the frequency */
/* Relative standard error of the mean latency; `prior` is that of one update, and worth one of them. */
double engine_demand_latency_error(const struct engine_demand *demand, double prior);

/* After an update; and before a partition goes: then what it asked for is taken out of all sums. */
void engine_foresight_replace(struct engine_foresight *foresight, struct engine_demand *demand, bool gone);
/* What a partition is about to add to its demand. */
void engine_foresight_add(struct engine_foresight *foresight, double ops, double age);
/* Before an update: by the turnover that ended, if it was not judged by that yet. */
void engine_foresight_judge(struct engine_foresight *foresight, struct engine_demand *demand);
void engine_foresight_round(struct engine_foresight *foresight); /* once all partitions of a round were updated */

#endif
