/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/curve.h"

#include <math.h>
#include <string.h>

#include "engine/formula.h"

#define LOG_MAX 100.0 /* e^100 copies for a block: more is no measurement */

static double uniform_log(double live, double spare)
{
	return log(engine_uniform_copies(live > 0 ? spare / live : INFINITY));
}

bool engine_point_of(struct engine_point *point, double live, double spare, double copies, double error,
		     double user)
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

/*
 * Normal equations of (level here, power). Their priors, each worth one observation, are by default: the level is
 * the uniform formula's within a factor of e; the power is 1 within a quarter; and a measurement at one size says
 * what holds at another within 5 % even where it is itself exact (no load is a power law).
 */
struct normal {
	double ll, lp, pp, ly, py;
};

struct line {
	double level, power, level_error, power_error;
};

static void normal_add(struct normal *n, const struct engine_point *point, double here, double misfit)
{
	double weight = 1 / ((double)point->error * point->error + misfit);
	double x = point->uniform - here, y = point->measured - here;

	n->ll += weight;
	n->lp += weight * x;
	n->pp += weight * x * x;
	n->ly += weight * y;
	n->py += weight * x * y;
}

/* Variances: of the level about the formula's, of the power about 1, of points about the line. */
struct variances {
	double level, power, misfit;
};

static struct line fit_line(const struct engine_point *points, int count, double here, const struct variances *v)
{
	struct normal n = {.ll = 1 / v->level, .pp = 1 / v->power, .py = 1 / v->power};
	double determinant;

	for (int i = 0; i < count; i++)
		normal_add(&n, &points[i], here, v->misfit);
	determinant = n.ll * n.pp - n.lp * n.lp;
	return (struct line){
		.level = (n.ly * n.pp - n.py * n.lp) / determinant,
		.power = (n.py * n.ll - n.ly * n.lp) / determinant,
		.level_error = sqrt(n.pp / determinant),
		.power_error = sqrt(n.ll / determinant),
	};
}

/* How far the points scatter along the line (its level aside), beyond the prior misfit that counts as one of them.
 */
static double misfit_of(const struct engine_point *points, int count, double scatter, double power)
{
	double squares = scatter * scatter, mean = 0;

	for (int i = 0; i < count; i++)
		mean += (points[i].measured - power * points[i].uniform) / count;
	for (int i = 0; i < count; i++) {
		double off = points[i].measured - power * points[i].uniform - mean;
		squares += off * off;
	}
	return squares / (1 + count);
}

/* A prior's variance after one observation of how far off it was. */
static double learned_variance(double prior, double off, double error)
{
	return (prior * prior + off * off + error * error) / 2;
}

/*
 * A load that changes puts points off any line. How far, is learned with the line (expectation and maximisation in
 * turn, starting from a line of the prior power), so that such points do not pass for a steep or a flat curve. So
 * is how far off the formula is: a prior that was too sure of it is not believed against what was measured.
 */
struct engine_fit engine_curve_fit(const struct engine_curve *curve, const struct engine_point *current,
				   const struct lcpfs_engine_priors *priors, double live, double spare)
{
	struct engine_point points[ENGINE_CURVE_POINTS + 1];
	double here = uniform_log(live, spare);
	int count = curve->count;
	struct line line = {.power = 1, .level_error = priors->curve_level, .power_error = priors->curve_power};
	struct variances v;

	memcpy(points, curve->points, sizeof(curve->points));
	if (current)
		points[count++] = *current;
	for (int i = 0; i < 4; i++) {
		v.level = learned_variance(priors->curve_level, line.level, line.level_error);
		v.power = learned_variance(priors->curve_power, line.power - 1, line.power_error);
		v.misfit = misfit_of(points, count, priors->curve_scatter, line.power);
		line = fit_line(points, count, here, &v);
	}
	return (struct engine_fit){
		.copies = exp(fmin(fmax(here + line.level, -LOG_MAX), LOG_MAX)),
		.copies_error = line.level_error,
		.power = fmax(line.power, 0), /* more spare never means more copying */
		.power_error = line.power_error,
	};
}
