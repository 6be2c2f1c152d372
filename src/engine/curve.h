/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What cleaning costs a partition as a function of its spare: the uniform formula, corrected by what was measured
 * at the sizes that the partition has had. ln(copies) is fitted as a line over ln(uniform copies), by least
 * squares with a prior; how much of what is not live is spare at all is learned from the same points.
 */
#ifndef ENGINE_CURVE_H
#define ENGINE_CURVE_H

#include <stdbool.h>

#include <lcpfs/engine.h>

#define ENGINE_CURVE_POINTS 6

struct engine_point {
	float spare; /* (size − live) / live */
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
	double kept;    /* blocks that the store keeps for itself: neither live nor spare */
	double uniform; /* the formula's copies at the size asked for, with that taken off */
};

struct engine_space {
	double live, size;
	double kept_max; /* the store keeps at most this for itself; 0: not known */
};

/*
 * A point from copies per write, its standard error, and the user blocks it was counted over (their resolution).
 */
bool engine_point_of(struct engine_point *point, const struct engine_space *space, double copies, double error,
		     double user);
void engine_curve_keep(struct engine_curve *curve, const struct engine_point *point);
/* `current` (may be NULL) is the measurement at the present size, not kept yet. */
struct engine_fit engine_curve_fit(const struct engine_curve *curve, const struct engine_point *current,
				   const struct lcpfs_engine_priors *priors, const struct engine_space *space);

#endif
