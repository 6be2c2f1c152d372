/* SPDX-License-Identifier: Apache-2.0 */
#include "policy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"

const char *const sim_policy_names[SIM_POLICIES] = {"static",   "equal",   "threshold",
						    "lcpfs-rs", "learned", "oracle"};
const char *const sim_start_names[SIM_STARTS] = {"proportional", "equal", "first", "last", "inverse", "random"};

/* ---- where runs start ---- */

static double start_weight(const struct sim_config *c, enum sim_start start, uint32_t i, struct sim_random *random)
{
	const struct sim_tenant *t = &c->load.tenants[i];

	switch (start) {
	case SIM_START_EQUAL:
		return 1;
	case SIM_START_FIRST:
		return i == 0;
	case SIM_START_LAST:
		return i == c->load.count - 1;
	case SIM_START_INVERSE:
		return 1 / fmax(t->writes, 1e-6);
	case SIM_START_RANDOM:
		return -log(1 - sim_random_unit(random));
	default:
		return t->live_blocks;
	}
}

static uint32_t min_of(const struct sim_config *c, uint32_t i)
{
	const struct sim_tenant *t = &c->load.tenants[i];
	uint32_t floor = sim_log_metaslabs_min(&c->world.log, t->live_blocks);

	return MAX_OF(floor, (uint32_t)DIV_UP(t->min_blocks, c->world.log.metaslab_blocks));
}

/*
 * Whole metaslabs that come as near as can be to live + share · spare, none below its minimum, all of the pool
 * used.
 */
static void fill_sizes(const struct sim_config *c, const double *weights, double weight, uint32_t *sizes)
{
	double metaslab = c->world.log.metaslab_blocks, live = 0, *want = calloc(c->load.count, sizeof(double));
	int64_t left = (int64_t)(c->world.pool_blocks / c->world.log.metaslab_blocks);

	CHECK(want);
	for (uint32_t i = 0; i < c->load.count; i++)
		live += c->load.tenants[i].live_blocks;
	for (uint32_t i = 0; i < c->load.count; i++) {
		double spare = ((double)c->world.pool_blocks - live) * weights[i] / weight;
		want[i] = (c->load.tenants[i].live_blocks + spare) / metaslab;
		if (c->load.tenants[i].size_blocks)
			want[i] = (double)c->load.tenants[i].size_blocks / metaslab;
		sizes[i] = MAX_OF(min_of(c, i), (uint32_t)want[i]);
		left -= sizes[i];
	}
	while (left) {
		uint32_t best = UINT32_MAX;
		double most = -INFINITY;
		for (uint32_t i = 0; i < c->load.count; i++) {
			double off = left > 0 ? want[i] - sizes[i] : sizes[i] - want[i];
			if (off <= most || (left < 0 && sizes[i] <= min_of(c, i)))
				continue;
			most = off;
			best = i;
		}
		if (best == UINT32_MAX)
			break;
		sizes[best] += left > 0 ? 1 : -1;
		left -= left > 0 ? 1 : -1;
	}
	free(want);
}

uint32_t *sim_start_sizes(const struct sim_config *config, enum sim_start start)
{
	struct sim_random random = {config->load.seed};
	double *weights = calloc(config->load.count, sizeof(double)), sum = 0;
	uint32_t *sizes = calloc(config->load.count, sizeof(uint32_t));
	uint64_t need = 0;

	CHECK(weights && sizes);
	for (uint32_t i = 0; i < config->load.count; i++) {
		weights[i] = start_weight(config, start, i, &random);
		sum += weights[i];
		need += min_of(config, i);
	}
	if (need * config->world.log.metaslab_blocks > config->world.pool_blocks) {
		fprintf(stderr,
			"lcpfs simulate: the pool is too small: its partitions need at least %llu blocks, it has "
			"%llu; give more --pool or --spare, or smaller --metaslab\n",
			(unsigned long long)(need * config->world.log.metaslab_blocks),
			(unsigned long long)config->world.pool_blocks);
		free(sizes);
		sizes = NULL;
	} else {
		fill_sizes(config, weights, sum, sizes);
	}
	free(weights);
	return sizes;
}

/* ---- policies that act ---- */

struct driver {
	struct sim_config *config;
	struct sim_world *world;
	struct lcpfs_engine *engine;
	struct lcpfs_engine_threshold pressure; /* lcpfs-rs */
	bool restarted;
};

/*
 * LVM's dmeventd with thin_pool_autoextend_threshold 70 and _percent 20: grow by a fifth at 70 % full; never
 * shrink.
 */
static void threshold_tick(void *context, struct sim_world *world)
{
	uint64_t copied;

	(void)context;
	for (uint32_t i = 0; i < world->load->count; i++) {
		double size = (double)sim_world_size_blocks(world, i);
		double live = (double)sim_log_live(world->members[i].log);
		uint32_t more = (uint32_t)ceil(0.2 * size / world->options->log.metaslab_blocks);
		if (live / size < 0.7)
			continue;
		world->moves += sim_world_move(world, UINT32_MAX, i, more, &copied) > 0;
	}
}

/* The first version, literally: acts when confident, and is not confident before it has acted. */
static void lcpfs_rs_tick(void *context, struct sim_world *world)
{
	struct driver *d = context;
	uint64_t copied;

	for (uint32_t i = 0; i < world->load->count; i++) {
		const struct lcpfs_engine_counters *c = &world->members[i].counters;
		uint64_t size = sim_world_size_blocks(world, i);
		double seconds = (double)world->now_us / 1e6;
		double frequency = seconds > 0 ? (double)(c->read_ops + c->write_ops) / seconds : 0;
		double pressure = lcpfs_engine_pressure((double)c->live_blocks / (double)size, frequency, size,
							world->options->pool_blocks);
		double benefit = -d->pressure.mean_outcome;
		uint32_t step = (uint32_t)(0.1 * (double)size / world->options->log.metaslab_blocks);
		if (!lcpfs_engine_threshold_should_act(&d->pressure, pressure, benefit))
			continue;
		world->moves += sim_world_move(world, UINT32_MAX, i, step, &copied) > 0;
		/* ε after is read at the instant of ε before */
		lcpfs_engine_threshold_observe(&d->pressure, pressure, 0);
	}
}

/* ---- learned: the real engine ---- */

static int actuate(void *context, uint32_t from_id, uint32_t to_id, uint64_t blocks,
		   struct lcpfs_engine_moved *moved)
{
	struct driver *d = context;
	const struct sim_world_options *o = d->world->options;
	uint32_t metaslabs = (uint32_t)(blocks / o->log.metaslab_blocks);
	uint64_t copied;

	/* ids are members counted from 1; free space is 0, and UINT32_MAX for the world */
	metaslabs = sim_world_move(d->world, from_id - 1, to_id - 1, metaslabs, &copied);
	moved->blocks = (uint64_t)metaslabs * o->log.metaslab_blocks;
	moved->copied_blocks = copied;
	moved->duration_us = (uint64_t)((double)copied * (o->write_us + o->read_us));
	return 0;
}

static struct lcpfs_engine *make_engine(struct driver *d)
{
	const struct sim_world_options *o = d->world->options;
	struct lcpfs_engine_options options = {
		.pool_blocks = o->pool_blocks,
		.step_blocks = o->log.metaslab_blocks,
		.mode = LCPFS_ENGINE_ON,
		.priors = d->config->priors,
	};
	struct lcpfs_engine *engine;

	CHECK(lcpfs_engine_create(&options, &engine) == 0);
	for (uint32_t i = 0; i < d->world->load->count; i++) {
		const struct sim_tenant *t = &d->world->load->tenants[i];
		struct lcpfs_engine_spec spec = {
			.name = t->name,
			.size_blocks = sim_world_size_blocks(d->world, i),
			.min_size_blocks = t->min_blocks,
			.max_size_blocks = t->max_blocks ? t->max_blocks : o->pool_blocks,
		};
		CHECK(lcpfs_engine_add(engine, &spec, NULL) == 0);
	}
	return engine;
}

static void restart(struct driver *d)
{
	size_t need = lcpfs_engine_save(d->engine, NULL, 0);
	void *bytes = malloc(need);

	CHECK(bytes && lcpfs_engine_save(d->engine, bytes, need) == need);
	lcpfs_engine_destroy(d->engine);
	d->engine = make_engine(d);
	CHECK(lcpfs_engine_load(d->engine, bytes, need) == 0);
	free(bytes);
	d->restarted = true;
}

static void learned_tick(void *context, struct sim_world *world)
{
	struct driver *d = context;
	struct lcpfs_engine_decision decision;

	if (d->config->restart && !d->restarted && world->load->written_blocks >= world->options->total_blocks / 2)
		restart(d);
	for (uint32_t i = 0; i < world->load->count; i++)
		CHECK(lcpfs_engine_update(d->engine, i + 1, world->now_us, &world->members[i].counters) == 0);
	CHECK(lcpfs_engine_step(d->engine, world->now_us, actuate, d, &decision) == 0);
}

static void collect(struct driver *d, struct sim_result *result)
{
	lcpfs_engine_get_statistics(d->engine, &result->statistics);
	result->outcome_count = lcpfs_engine_get_outcomes(d->engine, result->outcomes, LCPFS_ENGINE_OUTCOMES_MAX);
	result->world.moves = result->statistics.moves;
	result->world.undone = result->statistics.undone;
	lcpfs_engine_destroy(d->engine);
}

/* ---- running ---- */

void sim_policy_progress(void *progress, double share)
{
	struct sim_progress *p = progress;
	int percent = (int)(share * 100);

	if (percent == p->percent || !isatty(STDERR_FILENO))
		return;
	p->percent = percent;
	fprintf(stderr, "\r%-12s %3d %%%s", p->name, percent, percent >= 100 ? "\n" : "");
}

/* The rule needs room to grow into: half of the spare starts out free. */
static void leave_half_free(const struct sim_config *c, uint32_t *sizes)
{
	for (uint32_t i = 0; i < c->load.count; i++)
		sizes[i] -= (sizes[i] - min_of(c, i)) / 2;
}

static uint32_t *sizes_for(struct sim_config *config, enum sim_policy_kind policy)
{
	uint32_t *sizes;

	if (policy == SIM_ORACLE)
		return sim_oracle_sizes(config);
	sizes = sim_start_sizes(config, policy == SIM_EQUAL ? SIM_START_EQUAL : config->start);
	if (sizes && policy == SIM_THRESHOLD)
		leave_half_free(config, sizes);
	return sizes;
}

bool sim_policy_run(struct sim_config *config, enum sim_policy_kind policy, struct sim_result *result)
{
	static void (*const ticks[SIM_POLICIES])(void *, struct sim_world *) = {
		[SIM_THRESHOLD] = threshold_tick, [SIM_LCPFS_RS] = lcpfs_rs_tick, [SIM_LEARNED] = learned_tick};
	struct driver d = {.config = config, .world = &result->world};
	struct sim_progress progress = {.name = sim_policy_names[policy]};
	uint32_t *sizes = sizes_for(config, policy);

	if (!sizes)
		return false;
	result->policy = policy;
	lcpfs_engine_threshold_init(&d.pressure, 100);
	sim_world_init(&result->world, &config->world, &config->load, sizes);
	free(sizes);
	if (policy == SIM_LEARNED)
		d.engine = make_engine(&d);
	sim_world_run(&result->world, ticks[policy], &d, config->quiet ? NULL : sim_policy_progress, &progress);
	if (d.engine)
		collect(&d, result);
	return true;
}
