/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/curve.h"

#include <math.h>
#include <string.h>

#include "engine/formula.h"

/*
 * Priors, each worth one observation: the level is the uniform formula's within a factor of e; the power is 1 within a quarter;
 * a measurement at one size says what holds at another within 5 % even where it is itself exact (no load is a power law).
 */
#define LEVEL_ERROR 1.0
#define POWER_ERROR 0.25
#define MISFIT_ERROR 0.05

static double uniform_log(double live, double spare)
{
	return log(engine_uniform_copies(live > 0 ? spare / live : INFINITY));
}

bool engine_point_of(struct engine_point *point, double live, double spare, double copies, double error, double user)
{
	double resolution, seen;

	if (!(user > 0) || !isfinite(copies) || !isfinite(error) || !(live > 0))
		return false;
	resolution = 1 / user; /* none copied: fewer than one in so many */
	seen = fmax(copies, resolution);
	point->uniform = (float)uniform_log(live, spare);
	point->measured = (float)log(seen);
	point->error = (float)(fmax(error, resolution) / seen);
	return true;
}

void engine_curve_keep(struct engine_curve *curve, const struct engine_point *point)
{
	if (curve->count == ENGINE_CURVE_POINTS) {
		curve->count--;
		memmove(curve->points, curve->points + 1, sizeof(curve->points[0]) * (size_t)curve->count);
	}
	curve->points[curve->count++] = *point;
}

/* Normal equations of (level here, power) with their priors. */
struct normal {
	double ll, lp, pp, ly, py;
};

static void normal_add(struct normal *n, const struct engine_point *point, double here)
{
	double weight = 1 / ((double)point->error * point->error + MISFIT_ERROR * MISFIT_ERROR);
	double x = point->uniform - here, y = point->measured - here;

	n->ll += weight;
	n->lp += weight * x;
	n->pp += weight * x * x;
	n->ly += weight * y;
	n->py += weight * x * y;
}

struct engine_fit engine_curve_fit(const struct engine_curve *curve, const struct engine_point *current, double live,
				   double spare)
{
	double here = uniform_log(live, spare), determinant, level, power;
	double prior_power = 1 / (POWER_ERROR * POWER_ERROR);
	struct normal n = {.ll = 1 / (LEVEL_ERROR * LEVEL_ERROR), .pp = prior_power, .py = prior_power};

	for (int i = 0; i < curve->count; i++)
		normal_add(&n, &curve->points[i], here);
	if (current)
		normal_add(&n, current, here);
	determinant = n.ll * n.pp - n.lp * n.lp;
	level = (n.ly * n.pp - n.py * n.lp) / determinant;
	power = (n.py * n.ll - n.ly * n.lp) / determinant;
	return (struct engine_fit){
		.copies = exp(here + level),
		.copies_error = sqrt(n.pp / determinant),
		.power = fmax(power, 0), /* more spare never means more copying */
		.power_error = sqrt(n.ll / determinant),
	};
}
