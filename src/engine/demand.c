/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/demand.h"

#include <math.h>
#include <string.h>

#define CLOCK_S 1e-6 /* what the clock resolves: shorter is no time */

double engine_demand_rate(const struct engine_rates *rates, double sum)
{
	return rates->seconds > CLOCK_S ? sum / rates->seconds : 0;
}

static void add_latency(struct engine_demand *d, const struct engine_batch *batch, double keep)
{
	d->latency_us = d->latency_us * keep + batch->latency_us;
	d->write_latency_us = d->write_latency_us * keep + batch->write_latency_us;
	d->samples *= keep;
	d->latency_squares *= keep;
	if (!(batch->ops > 0) || !(d->latency_us > 0))
		return;
	double off = batch->latency_us / batch->ops / (d->latency_us / d->memory[0].ops) - 1;
	d->samples++;
	d->latency_squares += off * off;
}

void engine_demand_add(struct engine_demand *d, const struct engine_batch *batch, double seconds, double age)
{
	double keep = exp(-age), fade = keep;
	for (int i = 0; i < ENGINE_MEMORIES; i++, fade = sqrt(fade)) {
		struct engine_rates *r = &d->memory[i];
		r->seconds = r->seconds * fade + seconds;
		r->ops = r->ops * fade + batch->ops;
		r->user = r->user * fade + batch->user;
	}
	add_latency(d, batch, keep);
	double off = batch->ops - engine_demand_rate(&d->memory[0], d->memory[0].ops) * seconds;
	d->squares = d->squares * keep * keep + off * off;
	d->turnover_ops += batch->ops;
}

double engine_demand_error(const struct engine_demand *d)
{
	double ops = d->memory[0].ops;
	/* never surer than counting allows */
	return ops > 0 ? sqrt(d->squares + ops) / ops : 0;
}

double engine_demand_latency_error(const struct engine_demand *d, double prior)
{
	double n = 1 + d->samples;
	return sqrt((prior * prior + d->latency_squares) / (n * n));
}

/* ---- which memory is believed ---- */

static double share(const double ops[ENGINE_MEMORIES], const struct engine_demand *d, int memory)
{
	return ops[memory] > 0 ? fmin(d->memory[memory].ops / ops[memory], 1) : 0;
}

/* The last turnover differs from what this memory holds by more than it has so far: something has changed. */
static bool is_contradicted(const struct engine_foresight *f, int i)
{
	return f->apart[i] * f->judged > f->quantile * f->quantile * f->usual[i];
}

static void choose(struct engine_foresight *f)
{
	f->best = 0;
	for (int i = 1; i < ENGINE_MEMORIES; i++)
		if (f->off[i] < f->off[f->best])
			f->best = i;
	while (f->best > 0 && is_contradicted(f, f->best))
		f->best--;
}

void engine_foresight_replace(struct engine_foresight *f, struct engine_demand *d, bool gone)
{
	for (int i = 0; i < ENGINE_MEMORIES; i++) {
		double off = share(f->ops, d, 0) - share(f->ops, d, i);
		double apart = gone ? 0 : off * off;
		f->apart[i] = fmax(f->apart[i] + apart - d->apart[i], 0);
		f->largest[i] = fmax(f->largest[i], f->apart[i]);
		d->apart[i] = apart;
		if (gone)
			f->ops[i] = fmax(f->ops[i] - d->memory[i].ops, 0);
	}
	if (gone)
		f->turnover_ops = fmax(f->turnover_ops - d->turnover_ops, 0);
}

void engine_foresight_add(struct engine_foresight *f, double ops, double age)
{
	double fade = exp(-age);
	for (int i = 0; i < ENGINE_MEMORIES; i++, fade = sqrt(fade))
		f->ops[i] = f->ops[i] * fade + ops;
	f->turnover += age;
	f->turnover_ops += ops;
}

void engine_foresight_judge(struct engine_foresight *f, struct engine_demand *d)
{
	if (d->turn == f->turn)
		return;
	double came = f->ended_turnover_ops > 0 ? d->turnover_ops / f->ended_turnover_ops : 0;
	for (int i = 0; i < ENGINE_AHEAD * ENGINE_MEMORIES; i++) {
		double off = d->foretold[i / ENGINE_MEMORIES][i % ENGINE_MEMORIES] - came;
		f->squares[i % ENGINE_MEMORIES] += off * off;
	}
	memmove(d->foretold[1], d->foretold[0], sizeof(d->foretold) - sizeof(d->foretold[0]));
	for (int i = 0; i < ENGINE_MEMORIES; i++)
		d->foretold[0][i] = share(f->ended_ops, d, i);
	d->turnover_ops = 0;
	d->turn = f->turn;
}

/* Each partition was judged by the turnover that ended. */
static void learn(struct engine_foresight *f)
{
	double keep = exp(-ldexp(1, 1 - ENGINE_MEMORIES)), least = INFINITY;
	bool known = f->ended == ENGINE_AHEAD;
	/* what none could foretell says nothing against any of them */
	for (int i = 0; i < ENGINE_MEMORIES; i++)
		least = fmin(least, f->squares[i]);
	f->judged = f->judged * keep + known;
	for (int i = 0; i < ENGINE_MEMORIES && known; i++) {
		f->off[i] = f->off[i] * keep + f->squares[i] - least;
		f->usual[i] = f->usual[i] * keep + f->largest[i];
	}
	memset(f->squares, 0, sizeof(f->squares));
	memset(f->largest, 0, sizeof(f->largest));
	f->ended += !known;
	f->learning = false;
}

static void turn(struct engine_foresight *f)
{
	f->turn++;
	f->learning = true;
	memcpy(f->ended_ops, f->ops, sizeof(f->ops));
	f->ended_turnover_ops = f->turnover_ops;
	f->turnover = f->turnover_ops = 0;
}

void engine_foresight_round(struct engine_foresight *f)
{
	if (f->learning)
		learn(f);
	if (f->turnover >= 1)
		turn(f);
	choose(f);
}
