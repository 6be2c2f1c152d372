/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A learned threshold: a value that outcomes pull toward what helped and push away from what hurt, with what is
 * known about how sure that is (Welford's online mean and variance of Δε). Differs from the first version in three
 * ways: only finite observations teach, the value stays within the range of the actions seen, and the confidence,
 * which is for people and decides nothing, does not depend on the unit of ε.
 */
#include <math.h>

#include <lcpfs/engine.h>

void lcpfs_engine_threshold_init(struct lcpfs_engine_threshold *t, double guess)
{
	*t = (struct lcpfs_engine_threshold){
		.value = isfinite(guess) ? guess : 0,
		.uncertainty = INFINITY,
		.variance = INFINITY,
		.learning_rate = 1,
		.low = INFINITY,
		.high = -INFINITY,
	};
}

static void learn_outcome(struct lcpfs_engine_threshold *t, double change)
{
	double n = (double)++t->observations;
	double delta = change - t->mean_outcome;
	double squares = t->observations > 2 ? t->variance * (n - 2) : 0;
	t->mean_outcome += delta / n;
	if (t->observations < 2)
		return;
	t->variance = (squares + delta * (change - t->mean_outcome)) / (n - 1);
	t->uncertainty = sqrt(t->variance / n);
}

bool lcpfs_engine_threshold_observe(struct lcpfs_engine_threshold *t, double action, double epsilon_change)
{
	/* 1e100: its square is still finite, and no measurement is that large */
	if (!(fabs(action) < 1e100) || !(fabs(epsilon_change) < 1e100))
		return false;
	double pull = (action - t->value) * t->learning_rate;
	t->value += epsilon_change < 0 ? pull : -pull / 2;
	t->low = fmin(t->low, action);
	t->high = fmax(t->high, action);
	t->value = fmin(fmax(t->value, t->low), t->high);
	learn_outcome(t, epsilon_change);
	t->learning_rate = 1 / (1 + 0.1 * sqrt((double)t->observations));
	return true;
}

double lcpfs_engine_threshold_confidence(const struct lcpfs_engine_threshold *t)
{
	double off = t->uncertainty / fabs(t->mean_outcome); /* relative; not a number while nothing ever changed */
	if (!t->observations || !isfinite(off))
		return 0;
	return (1 - 1 / (1 + 0.01 * (double)t->observations)) / (1 + off);
}

bool lcpfs_engine_threshold_should_act(const struct lcpfs_engine_threshold *t, double current, double benefit)
{
	return current >= t->value && benefit > t->uncertainty;
}
