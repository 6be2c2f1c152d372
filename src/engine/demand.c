/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/demand.h"

#include <math.h>

#define CLOCK_S 1e-6 /* what the clock resolves: shorter is no time */

void engine_demand_add(struct engine_demand *demand, double seconds, double ops, double user, double age)
{
	double keep = exp(-age), off;

	demand->seconds = demand->seconds * keep + seconds;
	demand->ops = demand->ops * keep + ops;
	demand->user = demand->user * keep + user;
	off = ops - engine_demand_frequency(demand) * seconds;
	demand->squares = demand->squares * keep * keep + off * off;
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
