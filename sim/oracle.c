/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The best static split for the known load, found numerically: partitions share no log, so a few runs of the whole
 * load, each with every partition at another spare, measure what each costs at any size. Between the sizes
 * measured, cost is interpolated over the logarithm of spare. Then space goes, step by step, to where it gains
 * most.
 */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "memory.h"
#include "policy.h"

#define GRID 12

struct curve {
	double spare_log[GRID], copies[GRID], latency_us[GRID]; /* copies: device blocks per user block */
	double user, ops_s, live;
	uint32_t min, low; /* low: the smallest size measured */
};

/* The k-th size of a geometric row, from a sixty-fourth of the pool's spare to all of it. */
static uint32_t grid_size(const struct curve *curve, uint32_t extra, int k)
{
	double least = fmax(1, extra / 64.0), most = fmax(extra, least + GRID);
	return curve->min + (uint32_t)lround(least * pow(most / least, k / (GRID - 1.0)));
}

static double spare_log(const struct sim_config *c, const struct curve *curve, double metaslabs)
{
	/* beyond what the log needs to turn at all */
	return log((metaslabs - curve->min + 1) * c->world.log.metaslab_blocks);
}

static void measure(struct sim_config *c, struct curve *curves, uint32_t extra, int k)
{
	uint32_t *sizes = sim_zeroed(c->load.count, sizeof(uint32_t));
	struct sim_world_options options = c->world;
	struct sim_world world;
	uint64_t sum = 0;
	for (uint32_t i = 0; i < c->load.count; i++) {
		sizes[i] = grid_size(&curves[i], extra, k);
		sum += sizes[i];
	}
	options.pool_blocks = sum * options.log.metaslab_blocks; /* each as if it were alone with all the spare */
	sim_world_init(&world, &options, &c->load, sizes);
	sim_world_run(&world, NULL, NULL, NULL, NULL);
	for (uint32_t i = 0; i < c->load.count; i++) {
		const struct sim_late *late = &world.members[i].late;
		double seconds = (double)(world.now_us - world.late_from_us) / 1e6;
		curves[i].spare_log[k] = spare_log(c, &curves[i], sizes[i]);
		curves[i].copies[k] =
			late->counts.user ? (double)late->counts.device / (double)late->counts.user : 1;
		curves[i].latency_us[k] = late->ops > 0 ? late->latency_us / late->ops : 0;
		curves[i].user = (double)late->counts.user;
		curves[i].ops_s = seconds > 0 ? late->ops / seconds : 0;
		curves[i].live = (double)sim_log_live(world.members[i].log);
	}
	sim_world_done(&world);
	free(sizes);
}

static double interpolate(const struct curve *curve, const double *values, double x)
{
	int k = 1;
	while (k < GRID - 1 && curve->spare_log[k] < x)
		k++;
	while (k > 1 && curve->spare_log[k] <= curve->spare_log[k - 1])
		k--;
	if (curve->spare_log[k] <= curve->spare_log[k - 1])
		return values[k];
	x = (x - curve->spare_log[k - 1]) / (curve->spare_log[k] - curve->spare_log[k - 1]);
	if (!(values[k] > 0) || !(values[k - 1] > 0))
		return values[k];
	/* below the row the first stretch goes on: cleaning costs ever more */
	return values[k - 1] * pow(values[k] / values[k - 1], fmin(x, 1));
}

static double cost(const struct sim_config *c, const struct curve *curve, double metaslabs, bool wa)
{
	double x = spare_log(c, curve, metaslabs), size = metaslabs * c->world.log.metaslab_blocks;
	if (wa)
		return curve->user * interpolate(curve, curve->copies, x);
	return lcpfs_engine_epsilon(interpolate(curve, curve->latency_us, x), curve->live / size, curve->ops_s);
}

/* From any split: the pair that gains most trades steps that halve in size. */
static void improve(const struct sim_config *c, const struct curve *curves, uint32_t *sizes, bool wa)
{
	uint32_t n = c->load.count, step = 1;
	while (step < c->world.pool_blocks / c->world.log.metaslab_blocks / 8)
		step *= 2;
	while (step) {
		double most = 0;
		uint32_t from = 0, to = 0;
		for (uint32_t i = 0; i < n; i++)
			for (uint32_t k = 0; k < n; k++) {
				uint64_t max = c->load.tenants[k].max_blocks / c->world.log.metaslab_blocks;
				if (i == k || sizes[i] < curves[i].low + step || (max && sizes[k] + step > max))
					continue;
				double gain = cost(c, &curves[i], sizes[i], wa) -
				       cost(c, &curves[i], sizes[i] - step, wa) +
				       cost(c, &curves[k], sizes[k], wa) -
				       cost(c, &curves[k], sizes[k] + step, wa);
				if (gain <= most)
					continue;
				most = gain;
				from = i;
				to = k;
			}
		if (!(most > 0)) {
			step /= 2;
			continue;
		}
		sizes[from] -= step;
		sizes[to] += step;
	}
}

bool sim_oracle_sizes(struct sim_config *config, uint32_t *sizes[2])
{
	uint32_t n = config->load.count, metaslab = config->world.log.metaslab_blocks;
	struct sim_progress progress = {.name = "oracle seeks"};
	uint32_t extra = (uint32_t)(config->world.pool_blocks / metaslab);
	for (int wa = 0; wa < 2; wa++) {
		sizes[wa] = sim_start_sizes(config, SIM_START_PROPORTIONAL, false);
		if (!sizes[wa])
			return false; /* the first: both start alike */
	}
	struct curve *curves = sim_zeroed(n, sizeof(*curves));
	for (uint32_t i = 0; i < n; i++) {
		curves[i].min = sim_tenant_metaslabs_min(&config->world, &config->load.tenants[i]);
		curves[i].min = MAX_OF(curves[i].min, (uint32_t)(config->load.tenants[i].min_blocks / metaslab));
		extra -= curves[i].min;
	}
	/* nothing is known below the row: near the least that is possible cleaning has a cliff */
	for (uint32_t i = 0; i < n; i++)
		curves[i].low = grid_size(&curves[i], extra, 0);
	for (int k = 0; k < GRID; k++) {
		measure(config, curves, extra, k);
		sim_policy_progress(&progress, (k + 1.0) / GRID);
	}
	for (int wa = 0; wa < 2; wa++)
		improve(config, curves, sizes[wa], wa);
	free(curves);
	return true;
}
