/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pressure and ε as the first version defines them, the cleaning cost of uniform overwrites, and Student's t.
 * docs/engine.md gives sources. Owns nothing, keeps no state.
 */
#include "engine/formula.h"

#include <math.h>

#include <lcpfs/engine.h>

#define HEADROOM_MIN 0.01 /* below 1 % a partition counts as one that cannot grow */
#define RATIO_MIN 1e-6 /* spare/live below this: the series is at its limit of sense (WA above 500,000) */
#define RATIO_MAX 40.0 /* e^-40 copies per write: nothing is ever copied */

double engine_finite_or(double x, double otherwise)
{
	return isfinite(x) ? x : otherwise;
}

double lcpfs_engine_pressure(double utilization, double access_frequency, uint64_t size_blocks,
			     uint64_t max_size_blocks)
{
	double headroom = 0;
	if (max_size_blocks > size_blocks)
		headroom = (double)(max_size_blocks - size_blocks) / (double)max_size_blocks;
	if (headroom < HEADROOM_MIN)
		return INFINITY;
	return utilization * access_frequency / headroom;
}

double lcpfs_engine_epsilon(double avg_latency_us, double utilization, double access_frequency)
{
	return avg_latency_us * utilization * access_frequency;
}

/* t = −W0(−α·e^(−α)) in (0, 1): the root of ln t − t = ln α − α. Newton on a concave function, from a series. */
static double share_still_live(double alpha)
{
	double x = alpha - 1, c = log(alpha) - alpha;
	double t = x < 0.5 ? 1 - x + 2 * x * x / 3 - 4 * x * x * x / 9 : alpha * exp(-alpha);
	for (int i = 0; i < 6 && x > 1e-4; i++) {
		double step = (log(t) - t - c) / (1 / t - 1);
		t -= step;
		if (fabs(step) < 1e-9 * t) /* the next would be below rounding: Newton squares it */
			break;
	}
	return t;
}

double engine_uniform_copies(double ratio)
{
	double alpha = 1 + fmin(fmax(engine_finite_or(ratio, RATIO_MAX), RATIO_MIN), RATIO_MAX);
	double t = share_still_live(alpha);
	return t / (alpha - t);
}

/* Upper quantile of the normal distribution (Acklam's rational approximation, relative error below 1.2e-9). */
static double normal_quantile(double upper)
{
	static const double a[] = {-3.969683028665376e+01, 2.209460984245205e+02,  -2.759285104469687e+02,
				   1.383577518672690e+02,  -3.066479806614716e+01, 2.506628277459239e+00};
	static const double b[] = {-5.447609879822406e+01, 1.615858368580409e+02, -1.556989798598866e+02,
				   6.680131188771972e+01, -1.328068155288572e+01};
	static const double c[] = {-7.784894002430293e-03, -3.223964580411365e-01, -2.400758277161838e+00,
				   -2.549732539343734e+00, 4.374664141464968e+00,  2.938163982698783e+00};
	static const double d[] = {7.784695709041462e-03, 3.224671290700398e-01, 2.445134137142996e+00,
				   3.754408661907416e+00};
	double q;
	if (upper < 0.02425) {
		q = sqrt(-2 * log(upper));
		return -(((((c[0] * q + c[1]) * q + c[2]) * q + c[3]) * q + c[4]) * q + c[5]) /
		       ((((d[0] * q + d[1]) * q + d[2]) * q + d[3]) * q + 1);
	}
	q = 0.5 - upper;
	double r = q * q;
	return (((((a[0] * r + a[1]) * r + a[2]) * r + a[3]) * r + a[4]) * r + a[5]) * q /
	       (((((b[0] * r + b[1]) * r + b[2]) * r + b[3]) * r + b[4]) * r + 1);
}

/* Cornish–Fisher expansion around the normal quantile (Abramowitz & Stegun 26.7.5). */
double engine_t_quantile(double significance, double freedom)
{
	double z = normal_quantile(fmin(fmax(significance, 1e-12), 0.5));
	double n = fmax(freedom, 1), z2 = z * z;
	return z + z * (z2 + 1) / (4 * n) + z * ((5 * z2 + 16) * z2 + 3) / (96 * n * n) +
	       z * (((3 * z2 + 19) * z2 + 17) * z2 - 15) / (384 * n * n * n);
}
