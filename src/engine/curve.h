/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cleaning costs a partition as a function of its spare: the uniform formula, corrected by what was measured
 * at the sizes that the partition has had. ln(copies) is fitted as a line over ln(uniform copies), by least
 * squares with a prior.
 */
#ifndef ENGINE_CURVE_H
#define ENGINE_CURVE_H

#include <stdbool.h>

#include <lcpfs/engine.h>

#define ENGINE_CURVE_POINTS 6

struct engine_point {
	float uniform; /* ln of the uniform formula's copies per write at that spare */
	float measured; /* ln of the measured ones */
	float error; /* standard error of the latter */
};

struct engine_curve {
	struct engine_point points[ENGINE_CURVE_POINTS]; /* oldest first */
	int count;
};

struct engine_fit {
	double copies, copies_error; /* per user block at the size asked for; relative error */
	double power, power_error;
};

/*
 * A point from copies per write, its standard error, and the user blocks it was counted over (their resolution).
 */
bool engine_point_of(struct engine_point *point, double live, double spare, double copies, double error,
		     double user);
void engine_curve_keep(struct engine_curve *curve, const struct engine_point *point);
/* `current` (may be NULL) is the measurement at the present size, not kept yet. */
struct engine_fit engine_curve_fit(const struct engine_curve *curve, const struct engine_point *current,
				   const struct lcpfs_engine_priors *priors, double live, double spare);

#endif
