/* SPDX-License-Identifier: Apache-2.0 */
#include "load.h"

#include <math.h>

#include "base/check.h"
#include "base/hash.h"
#include "trace.h"

#define STREAM_OF_SEED_1 0x9e3779b97f4a7c16u /* what results were written down with */

/*
 * ---- zipf: W. Hörmann, G. Derflinger, Rejection-inversion to generate variates from monotone discrete
 * distributions ----
 */

static double h_integral(const struct sim_tenant *t, double x)
{
	double log_x = log(x), a = (1 - t->zipf) * log_x;
	return (fabs(a) > 1e-8 ? expm1(a) / a : 1 + a / 2) * log_x;
}

static double h_inverse(const struct sim_tenant *t, double x)
{
	double a = fmax(x * (1 - t->zipf), -1);
	return exp((fabs(a) > 1e-8 ? log1p(a) / a : 1 - a / 2) * x);
}

/* Multiplication by a number without common divisor is a permutation. */
static uint32_t factor_for(uint32_t n)
{
	uint32_t factor = 2654435761u % n | 1;
	for (;; factor += 2) {
		uint32_t a = factor, b = n;
		while (b) {
			uint32_t rest = a % b;
			a = b;
			b = rest;
		}
		if (a == 1)
			return factor;
	}
}

static void zipf_start(struct sim_tenant *t)
{
	t->zipf_factor = factor_for(t->live_blocks);
	t->zipf_h0 = h_integral(t, 1.5) - 1;
	t->zipf_hn = h_integral(t, t->live_blocks + 0.5);
	t->zipf_s = 2 - h_inverse(t, h_integral(t, 2.5) - exp(-t->zipf * log(2)));
}

static uint32_t zipf_rank(const struct sim_tenant *t, struct sim_random *random)
{
	for (;;) {
		double u = t->zipf_hn + sim_random_unit(random) * (t->zipf_h0 - t->zipf_hn);
		double x = h_inverse(t, u), k = floor(fmin(fmax(x + 0.5, 1), t->live_blocks));
		if (k - x <= t->zipf_s || u >= h_integral(t, k + 0.5) - exp(-t->zipf * log(k)))
			return (uint32_t)k - 1;
	}
}

static uint32_t pick_block(struct sim_tenant *t, struct sim_random *random)
{
	switch (t->pattern) {
	case SIM_ZIPF:
		return (uint32_t)((uint64_t)zipf_rank(t, random) * t->zipf_factor % t->live_blocks);
	case SIM_SEQUENTIAL:
		t->next = (t->next + 1) % t->live_blocks;
		return t->next;
	default:
		return (uint32_t)sim_random_below(random, t->live_blocks);
	}
}

/* ---- weights ---- */

/* share: of the way to the weights of `swing` */
static double weight_of(const struct sim_load *load, uint32_t tenant, double share)
{
	double weight = load->tenants[tenant].writes;
	for (uint32_t i = 0; i < load->shift_count; i++)
		if (load->shifts[i].tenant == tenant && load->made_blocks >= load->shifts[i].at_blocks)
			weight = load->shifts[i].writes;
	for (uint32_t i = 0; i < load->swing_count; i++)
		if (load->swing[i].tenant == tenant)
			return weight + share * (load->swing[i].writes - weight);
	return weight;
}

static double writes_at(const struct sim_load *load, double share)
{
	double sum = 0;
	for (uint32_t i = 0; i < load->count; i++)
		sum += weight_of(load, i, share);
	return sum;
}

double sim_load_least_writes(struct sim_load *load)
{
	double least = INFINITY;
	for (uint32_t i = 0; i <= load->shift_count; i++) {
		load->made_blocks = i ? load->shifts[i - 1].at_blocks : 0;
		least = fmin(least, fmin(writes_at(load, 0), writes_at(load, 1)));
	}
	return least;
}

static void weigh(struct sim_load *load)
{
	double turn = load->swing_count ? (double)load->made_blocks / (double)load->swing_blocks : 0;
	double share = (1 - cos(2 * M_PI * turn)) / 2;
	load->weight = 0;
	for (uint32_t i = 0; i < load->count; i++) {
		struct sim_tenant *t = &load->tenants[i];
		t->weight = weight_of(load, i, share);
		t->weight_all = t->weight + t->reads;
		load->weight += t->weight_all;
	}
	load->weights_until = load->swing_count ? load->made_blocks + 1 : UINT64_MAX;
	for (uint32_t i = 0; i < load->shift_count; i++)
		if (load->shifts[i].at_blocks > load->made_blocks)
			load->weights_until = MIN_OF(load->weights_until, load->shifts[i].at_blocks);
}

void sim_load_start(struct sim_load *load)
{
	/*
	 * Mixed, so that no two seeds begin near each other: a read takes one number and a write takes two, so
	 * streams that are a few numbers apart soon are one.
	 */
	load->random.state = STREAM_OF_SEED_1 + hash_mix(load->seed - 1);
	load->made_blocks = load->written_blocks = load->weights_until = load->trace_at = 0;
	load->time_us = 0;
	load->step_us = 1e6 / load->ops_per_s;
	for (uint32_t i = 0; i < load->count; i++) {
		load->tenants[i].next = load->tenants[i].live_blocks - 1;
		if (load->tenants[i].pattern == SIM_ZIPF)
			zipf_start(&load->tenants[i]);
	}
}

static void make_synthetic(struct sim_load *load, struct sim_op *op)
{
	if (load->made_blocks >= load->weights_until)
		weigh(load);
	double pick = sim_random_unit(&load->random) * load->weight;
	for (uint32_t i = 0; i < load->count; i++) {
		const struct sim_tenant *t = &load->tenants[i];
		op->tenant = i;
		op->write = pick < t->weight;
		pick -= t->weight_all;
		if (pick < 0)
			break;
	}
	op->blocks = 1;
	op->block = op->write ? pick_block(&load->tenants[op->tenant], &load->random) : 0;
	load->time_us += load->step_us;
	op->time_us = (uint64_t)load->time_us;
}

static bool make(struct sim_load *load, struct sim_op *op)
{
	if (load->trace)
		return sim_trace_next(load->trace, load->repeat, load->trace_at++, op);
	make_synthetic(load, op);
	return true;
}

uint32_t sim_load_make(struct sim_load *load, struct sim_op *ops, uint32_t count)
{
	uint32_t made = 0;
	for (; made < count && make(load, &ops[made]); made++)
		load->made_blocks += ops[made].write ? ops[made].blocks : 0;
	return made;
}
