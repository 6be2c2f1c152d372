/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/curve.h"

#include <float.h>
#include <math.h>
#include <string.h>

#include "engine/formula.h"

#define SHARES 5 /* of what it may keep, that are tried: none to all */
#define KEPT_ERROR 0.5 /* of the prior share: it can be any */
#define LOG_MAX 100.0 /* e^100 copies for a block: more is no measurement */
#define POWER_MAX  2.0   /* as far above the formula's as 0 is below */

bool engine_point_of(struct engine_point *point, const struct engine_space *space, double copies, double error,
		     double user)
{
	if (!(user > 0) || !isfinite(copies) || !isfinite(error) || !(space->live > 0))
		return false;
	double resolution = 1 / user; /* none copied: fewer than one in so many */
	double seen = fmax(copies, resolution);
	point->spare = (float)(space->size / space->live - 1);
	point->measured = (float)log(seen);
	point->error = (float)fmax(fmax(error, resolution) / seen, FLT_EPSILON); /* as it is kept */
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

/* The points over ln of the formula's copies, for one share of what the store may keep for itself. */
struct cloud {
	double x[ENGINE_CURVE_POINTS + 1], y[ENGINE_CURVE_POINTS + 1], error[ENGINE_CURVE_POINTS + 1];
	int count;
	int now; /* which of them is being measured now, at this size; count: none is */
	double here; /* x at the size asked for */
};

static void normal_add(struct normal *n, const struct cloud *c, int i, double misfit)
{
	/* what is so here and now is so, however badly it goes with what was elsewhere and before */
	double weight = 1 / (c->error[i] * c->error[i] + (i == c->now ? 0 : misfit));
	double x = c->x[i] - c->here, y = c->y[i] - c->here;

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

static struct line fit_line(const struct cloud *c, const struct variances *v)
{
	struct normal n = {.ll = 1 / v->level, .pp = 1 / v->power, .py = 1 / v->power};
	for (int i = 0; i < c->count; i++)
		normal_add(&n, c, i, v->misfit);
	/* no less than by the priors alone, however much is lost in rounding */
	double determinant = fmax(n.ll * n.pp - n.lp * n.lp, 1 / (v->level * v->power));
	return (struct line){
		.level = (n.ly * n.pp - n.py * n.lp) / determinant,
		.power = (n.py * n.ll - n.ly * n.lp) / determinant,
		.level_error = sqrt(n.pp / determinant),
		.power_error = sqrt(n.ll / determinant),
	};
}

/* Where a line of that power meets x = 0: it goes through what is measured now, else through the points' mean. */
static double level_of(const struct cloud *c, double power)
{
	double level = 0;
	for (int i = 0; i < c->count; i++)
		if (c->now == c->count || c->now == i)
			level += (c->y[i] - power * c->x[i]) / (c->now == i ? 1 : c->count);
	return level;
}

/* How far the points scatter along the line, beyond the prior misfit that counts as one of them. */
static double misfit_of(const struct cloud *c, double scatter, double power)
{
	double squares = scatter * scatter, level = level_of(c, power);
	for (int i = 0; i < c->count; i++) {
		double off = c->y[i] - power * c->x[i] - level;
		squares += off * off;
	}
	return squares / (c->now == c->count ? 1 + c->count : c->count);
}

/* A prior's variance after one observation of how far off it was. */
static double learned_variance(double prior, double off, double error)
{
	return (prior * prior + off * off + error * error) / 2;
}

/*
 * A load that changes puts points off any line. How far, is learned with the line (expectation and maximisation in
 * turn, starting from a line of the prior power through them), so that such points do not pass for a steep or a
 * flat curve. So is how far off the formula is: a prior that was too sure of it is not believed against what was
 * measured.
 */
static struct line fit_cloud(const struct cloud *c, const struct lcpfs_engine_priors *priors)
{
	struct line line = {
		.level = level_of(c, 1),
		.power = 1,
		.level_error = priors->curve_level,
		.power_error = priors->curve_power,
	};
	struct variances v;
	for (int i = 0; i < 4; i++) {
		v.level = learned_variance(priors->curve_level, line.level, line.level_error);
		v.power = learned_variance(priors->curve_power, line.power - 1, line.power_error);
		v.misfit = misfit_of(c, priors->curve_scatter, line.power);
		line = fit_line(c, &v);
	}
	return line;
}

static double density(double z)
{
	return exp(-z * z / 2) / sqrt(2 * M_PI);
}

/*
 * More spare never means more copying, so no power is below 0. Noise, or a prior that says nothing, may well put
 * the line there: then the power is what is likely of those that there are (a normal distribution cut at 0 and at
 * POWER_MAX), and not 0, by which nothing would ever be worth a try.
 */
static void bound_power(struct line *line)
{
	double error = line->power_error, low = -line->power / error, high = (POWER_MAX - line->power) / error;
	double inside = (erf(high / M_SQRT2) - erf(low / M_SQRT2)) / 2;
	double shift = (density(low) - density(high)) / inside;
	double narrowed = 1 + (low * density(low) - high * density(high)) / inside - shift * shift;
	if (inside > 1e-6 && isfinite(narrowed)) { /* else it is beyond one of them, and no doubt of it */
		line->power += error * shift;
		line->power_error *= sqrt(fmax(narrowed, 0));
	}
	line->power = fmin(fmax(line->power, 0), POWER_MAX);
}

static double surprise(double off, double prior)
{
	return log1p(off * off / (prior * prior));
}

/* −ln of how likely a line and its share are: a Cauchy prior for each, and for the scatter about it. */
static double unlikeliness(const struct cloud *c, const struct line *line, double share,
			   const struct lcpfs_engine_priors *priors)
{
	double squares = 0, scatter = priors->curve_scatter * priors->curve_scatter;
	for (int i = 0; i < c->count; i++) {
		double off = c->y[i] - c->here - line->level - line->power * (c->x[i] - c->here);
		squares += off * off / (scatter + c->error[i] * c->error[i]);
	}
	return surprise(line->level, priors->curve_level) + surprise(line->power - 1, priors->curve_power) +
	       surprise(share - priors->kept, KEPT_ERROR) + (c->count + 1) / 2.0 * log1p(squares);
}

static double uniform_log(double spare, double kept)
{
	return log(engine_uniform_copies(spare - kept));
}

/* `now`: the index of the point that is being measured now, or count */
static void spread(struct cloud *c, const struct engine_point *points, int count, int now,
		   const struct engine_space *space, double share)
{
	double kept = space->live > 0 ? share * space->kept_max / space->live : 0;
	c->count = count;
	c->now = now;
	for (int i = 0; i < count; i++) {
		c->x[i] = uniform_log(points[i].spare, kept);
		c->y[i] = points[i].measured;
		c->error[i] = points[i].error;
	}
	c->here = uniform_log(space->live > 0 ? space->size / space->live - 1 : INFINITY, kept);
	if (now < count)
		c->x[now] = c->here; /* it is kept in fewer digits */
}

/* The mean of five shares, each as likely as the line through the points that it leads to. */
static double kept_share(const struct engine_point *points, int count, int now,
			 const struct lcpfs_engine_priors *priors, const struct engine_space *space)
{
	double least = INFINITY, off[SHARES], weights = 0, sum = 0;
	struct cloud cloud;
	struct line line;
	for (int k = 0; k < SHARES; k++) {
		double share = k / (SHARES - 1.0);
		spread(&cloud, points, count, now, space, share);
		line = fit_cloud(&cloud, priors);
		off[k] = unlikeliness(&cloud, &line, share, priors);
		least = fmin(least, off[k]);
	}
	for (int k = 0; k < SHARES; k++) {
		weights += exp(least - off[k]);
		sum += exp(least - off[k]) * k / (SHARES - 1.0);
	}
	return weights > 0 ? sum / weights : 0;
}

struct engine_fit engine_curve_fit(const struct engine_curve *curve, const struct engine_point *current,
				   const struct lcpfs_engine_priors *priors, const struct engine_space *space)
{
	struct engine_point points[ENGINE_CURVE_POINTS + 1];
	struct cloud cloud;
	int count = curve->count, now = count;
	memcpy(points, curve->points, sizeof(curve->points));
	if (current)
		points[count++] = *current;
	double share = space->kept_max > 0 ? kept_share(points, count, now, priors, space) : 0;
	spread(&cloud, points, count, now, space, share);
	struct line line = fit_cloud(&cloud, priors);
	bound_power(&line);
	return (struct engine_fit){
		.copies = exp(fmin(fmax(cloud.here + line.level, -LOG_MAX), LOG_MAX)),
		.copies_error = line.level_error,
		.power = line.power,
		.power_error = line.power_error,
		.kept = share * space->kept_max,
		.uniform = exp(cloud.here),
	};
}
