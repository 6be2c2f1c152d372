/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/demand.h"

#include <math.h>

#define CLOCK_S 1e-6 /* what the clock resolves: shorter is no time */

void engine_demand_add(struct engine_demand *demand, const struct engine_batch *batch, double seconds, double age)
{
	double keep = exp(-age), off;

	demand->seconds = demand->seconds * keep + seconds;
	demand->ops = demand->ops * keep + batch->ops;
	demand->user = demand->user * keep + batch->user;
	demand->latency_us = demand->latency_us * keep + batch->latency_us;
	demand->write_latency_us = demand->write_latency_us * keep + batch->write_latency_us;
	off = batch->ops - engine_demand_frequency(demand) * seconds;
	demand->squares = demand->squares * keep * keep + off * off;
	demand->samples *= keep;
	demand->latency_squares *= keep;
	if (!(batch->ops > 0) || !(demand->latency_us > 0))
		return;
	off = batch->latency_us / batch->ops / (demand->latency_us / demand->ops) - 1;
	demand->samples++;
	demand->latency_squares += off * off;
}

double engine_demand_frequency(const struct engine_demand *demand)
{
	return demand->seconds > CLOCK_S ? demand->ops / demand->seconds : 0;
}

double engine_demand_writes(const struct engine_demand *demand)
{
	return demand->seconds > CLOCK_S ? demand->user / demand->seconds : 0;
}

double engine_demand_error(const struct engine_demand *demand)
{
	if (!(demand->ops > 0))
		return 0;
	/* never surer than counting allows */
	return sqrt(demand->squares + demand->ops) / demand->ops;
}

double engine_demand_latency_error(const struct engine_demand *demand, double prior)
{
	double n = 1 + demand->samples;

	return sqrt((prior * prior + demand->latency_squares) / (n * n));
}
