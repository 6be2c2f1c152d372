/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What users ask of a partition, averaged over as much work as the whole pool needs to turn over once: demand that
 * changes faster than a boundary move can take effect is not worth following.
 */
#ifndef ENGINE_DEMAND_H
#define ENGINE_DEMAND_H

struct engine_demand {
	double seconds, ops, user; /* decayed sums; seconds is also how long demand is known for */
	double squares; /* decayed Σ (rate − mean)²·seconds² of the windows */
};

/* `age` is the pool's work since the last call / the pool's size. */
void engine_demand_add(struct engine_demand *demand, double seconds, double ops, double user, double age);
double engine_demand_frequency(const struct engine_demand *demand); /* operations/s */
double engine_demand_writes(const struct engine_demand *demand); /* user blocks/s */
double engine_demand_error(const struct engine_demand *demand); /* relative standard error of the frequency */

#endif
