/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What users ask of a partition, averaged over as much work as the whole pool needs to turn over once: demand that
 * changes faster than a boundary move can take effect is not worth following.
 */
#ifndef ENGINE_DEMAND_H
#define ENGINE_DEMAND_H

#include "engine/window.h"

struct engine_demand {
	double seconds, ops, user; /* decayed sums; seconds is also how long demand is known for */
	double squares; /* decayed Σ (ops − mean·seconds)² of the updates */
	double latency_us, write_latency_us; /* decayed sums over the operations */
	double samples, latency_squares; /* decayed: updates with operations, Σ (their latencies / expected − 1)² */
};

/* `age` is the pool's work since the last call / the pool's size. */
void engine_demand_add(struct engine_demand *demand, const struct engine_batch *batch, double seconds, double age);
double engine_demand_frequency(const struct engine_demand *demand); /* operations/s */
double engine_demand_writes(const struct engine_demand *demand); /* user blocks/s */
double engine_demand_error(const struct engine_demand *demand); /* relative standard error of the frequency */
/* Relative standard error of the mean latency; `prior` is that of one update, and worth one of them. */
double engine_demand_latency_error(const struct engine_demand *demand, double prior);

#endif
