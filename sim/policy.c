/* SPDX-License-Identifier: Apache-2.0 */
#include "policy.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/check.h"
#include "memory.h"

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

/* Whole metaslabs of a size that was given; at least one. */
static uint32_t whole(const struct sim_config *c, uint64_t blocks)
{
	return (uint32_t)MAX_OF(blocks / c->world.log.metaslab_blocks, 1);
}

static uint32_t min_of(const struct sim_config *c, uint32_t i)
{
	const struct sim_tenant *t = &c->load.tenants[i];
	uint32_t floor = sim_tenant_metaslabs_min(&c->world, t);
	return t->min_blocks ? MAX_OF(floor, whole(c, t->min_blocks)) : floor;
}

static uint32_t max_of(const struct sim_config *c, uint32_t i)
{
	const struct sim_tenant *t = &c->load.tenants[i];
	return t->max_blocks ? whole(c, t->max_blocks) : UINT32_MAX;
}

/* The one furthest below its wish (or, to take away, above) that may still change; UINT32_MAX: none. */
static uint32_t furthest_off(const struct sim_config *c, const double *want, const uint32_t *sizes, bool as_given,
			     bool below)
{
	uint32_t best = UINT32_MAX;
	double most = -INFINITY;
	for (uint32_t i = 0; i < c->load.count; i++) {
		double off = below ? want[i] - sizes[i] : sizes[i] - want[i];
		if (off <= most || (as_given && c->load.tenants[i].size_blocks) ||
		    (below ? sizes[i] >= max_of(c, i) : sizes[i] <= min_of(c, i)))
			continue;
		most = off;
		best = i;
	}
	return best;
}

/*
 * Whole metaslabs that come as near as can be to live + share · spare, none below its minimum or above its
 * maximum. All of the pool is used, but for what no one may have. A size that was given stands. False if those are
 * too large.
 */
static bool fill_sizes(const struct sim_config *c, const double *weights, double weight, bool as_given,
		       uint32_t *sizes)
{
	double metaslab = c->world.log.metaslab_blocks, live = 0, *want = sim_zeroed(c->load.count, sizeof(double));
	int64_t left = (int64_t)(c->world.pool_blocks / c->world.log.metaslab_blocks);
	uint32_t best = 0;
	for (uint32_t i = 0; i < c->load.count; i++)
		live += c->load.tenants[i].live_blocks;
	for (uint32_t i = 0; i < c->load.count; i++) {
		double spare = ((double)c->world.pool_blocks - live) * weights[i] / weight;
		want[i] = (c->load.tenants[i].live_blocks + spare) / metaslab;
		sizes[i] = MIN_OF(MAX_OF(min_of(c, i), (uint32_t)want[i]), max_of(c, i));
		if (as_given && c->load.tenants[i].size_blocks)
			sizes[i] = whole(c, c->load.tenants[i].size_blocks);
		left -= sizes[i];
	}
	while (left && (best = furthest_off(c, want, sizes, as_given, left > 0)) != UINT32_MAX) {
		sizes[best] += left > 0 ? 1 : -1;
		left -= left > 0 ? 1 : -1;
	}
	free(want);
	return left >= 0;
}

static bool too_small(const char *what, uint64_t need, uint64_t given)
{
	fprintf(stderr,
		"lcpfs simulate: %s needs at least %llu blocks of 4096 bytes and has %llu; give it more, or "
		"smaller --metaslab\n",
		what, (unsigned long long)need, (unsigned long long)given);
	return false;
}

static bool sizes_possible(const struct sim_config *c, bool as_given)
{
	uint64_t need = 0, metaslab = c->world.log.metaslab_blocks;
	for (uint32_t i = 0; i < c->load.count; i++) {
		const struct sim_tenant *t = &c->load.tenants[i];
		uint32_t min = min_of(c, i), given = as_given && t->size_blocks ? whole(c, t->size_blocks) : min;
		if (MIN_OF(given, max_of(c, i)) < min)
			return too_small(t->name, min * metaslab, MIN_OF(given, max_of(c, i)) * metaslab);
		need += given;
	}
	return need * metaslab <= c->world.pool_blocks ||
	       too_small("the pool", need * metaslab, c->world.pool_blocks);
}

uint32_t *sim_start_sizes(const struct sim_config *config, enum sim_start start, bool as_given)
{
	struct sim_random random = {config->load.seed};
	double *weights = sim_zeroed(config->load.count, sizeof(double)), sum = 0;
	uint32_t *sizes = sim_zeroed(config->load.count, sizeof(uint32_t));
	for (uint32_t i = 0; i < config->load.count; i++) {
		weights[i] = start_weight(config, start, i, &random);
		sum += weights[i];
	}
	if (!sizes_possible(config, as_given) || !fill_sizes(config, weights, sum, as_given, sizes)) {
		free(sizes);
		sizes = NULL;
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

/* Metaslabs below its maximum. */
static uint32_t room_of(const struct driver *d, uint32_t i)
{
	return max_of(d->config, i) - sim_log_metaslabs(d->world->members[i].log);
}

/*
 * LVM's dmeventd with thin_pool_autoextend_threshold 70 and _percent 20: grow by a fifth at 70 % full; never
 * shrink.
 */
static void threshold_tick(void *context, struct sim_world *world)
{
	uint64_t copied;
	for (uint32_t i = 0; i < world->load->count; i++) {
		double size = (double)sim_world_size_blocks(world, i);
		double live = (double)sim_log_live(world->members[i].log);
		uint32_t more = (uint32_t)ceil(0.2 * size / world->options->log.metaslab_blocks);
		if (live / size < 0.7)
			continue;
		more = MIN_OF(more, room_of(context, i));
		world->moves += sim_world_move(world, UINT32_MAX, i, more, INFINITY, &copied) > 0;
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
		uint64_t max = world->load->tenants[i].max_blocks;
		double pressure = lcpfs_engine_pressure((double)c->live_blocks / (double)size, frequency, size,
							max ? max : world->options->pool_blocks);
		double benefit = -d->pressure.mean_outcome;
		uint32_t step = (uint32_t)(0.1 * (double)size / world->options->log.metaslab_blocks);
		if (!lcpfs_engine_threshold_should_act(&d->pressure, pressure, benefit))
			continue;
		step = MIN_OF(step, room_of(d, i));
		world->moves += sim_world_move(world, UINT32_MAX, i, step, INFINITY, &copied) > 0;
		/* ε after is read at the instant of ε before */
		lcpfs_engine_threshold_observe(&d->pressure, pressure, 0);
	}
}

/* ---- learned: the real engine ---- */

static int actuate(void *context, const struct lcpfs_engine_decision *decision, struct lcpfs_engine_moved *moved)
{
	struct driver *d = context;
	const struct sim_world_options *o = d->world->options;
	uint32_t metaslabs = (uint32_t)(decision->blocks / o->log.metaslab_blocks);
	double most = decision->cost_limit_blocks > 0 ? decision->cost_limit_blocks : INFINITY;
	uint64_t copied;
	/* ids are members counted from 1; free space is 0, and UINT32_MAX for the world */
	metaslabs = sim_world_move(d->world, decision->from_id - 1, decision->to_id - 1, metaslabs, most, &copied);
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
			.min_size_blocks = t->min_blocks - t->min_blocks % o->log.metaslab_blocks,
			.max_size_blocks = t->max_blocks ? t->max_blocks : o->pool_blocks,
		};
		CHECK(lcpfs_engine_add(engine, &spec, NULL) == 0);
	}
	return engine;
}

static void look(struct driver *d)
{
	for (uint32_t i = 0; i < d->world->load->count; i++) {
		struct lcpfs_engine_counters counters = d->world->members[i].counters;
		uint32_t least = sim_log_metaslabs_least(d->world->members[i].log);
		counters.least_blocks = (uint64_t)least * d->config->world.log.metaslab_blocks;
		CHECK(lcpfs_engine_update(d->engine, i + 1, d->world->now_us, &counters) == 0);
	}
}

/* As src/pool/open.c: the last look is when it is closed, and the first when it is opened. */
static void restart(struct driver *d)
{
	size_t need = lcpfs_engine_save(d->engine, NULL, 0);
	void *bytes = sim_zeroed(need, 1);
	CHECK(lcpfs_engine_save(d->engine, bytes, need) == need);
	lcpfs_engine_destroy(d->engine);
	d->engine = make_engine(d);
	CHECK(lcpfs_engine_load(d->engine, bytes, need) == 0);
	free(bytes);
	d->restarted = true;
	look(d);
}

static void learned_tick(void *context, struct sim_world *world)
{
	struct driver *d = context;
	struct lcpfs_engine_decision decision;
	look(d);
	CHECK(lcpfs_engine_step(d->engine, world->now_us, actuate, d, &decision) == 0);
	if (d->config->restart && !d->restarted && world->load->written_blocks >= world->options->total_blocks / 2)
		restart(d);
}

/* As src/pool/emergency.c: a share of its size from free space, else from whom the engine calls it back. */
static void grow_full(void *context, struct sim_world *world, uint32_t member)
{
	struct driver *d = context;
	uint32_t share = world->free_metaslabs ? 32 : 8;
	uint32_t wanted = 1 + sim_log_metaslabs(world->members[member].log) / share;
	uint64_t copied;
	wanted = MAX_OF(MIN_OF(wanted, room_of(d, member)), 1u);
	while (d->engine && !world->free_metaslabs) {
		struct lcpfs_engine_decision decision;
		struct lcpfs_engine_moved moved;
		uint64_t blocks = (uint64_t)wanted * world->options->log.metaslab_blocks;
		CHECK(lcpfs_engine_call_back(d->engine, world->now_us, blocks, member + 1, &decision) == 0);
		if (decision.action != LCPFS_ENGINE_MOVE)
			break;
		CHECK(actuate(d, &decision, &moved) == 0);
		CHECK(lcpfs_engine_report(d->engine, world->now_us, decision.sequence, &moved) == 0);
	}
	if (!sim_world_move(world, UINT32_MAX, member, wanted, INFINITY, &copied)) {
		too_small(world->load->tenants[member].name, sim_world_size_blocks(world, member) + 1,
			  sim_world_size_blocks(world, member));
		exit(1);
	}
	if (d->engine)
		CHECK(lcpfs_engine_resized(d->engine, member + 1, world->now_us,
					   sim_world_size_blocks(world, member), LCPFS_ENGINE_EMERGENCY) == 0);
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

/* On a terminal one line that counts up, elsewhere a line for each tenth. */
void sim_policy_progress(void *progress, double share)
{
	struct sim_progress *p = progress;
	bool terminal = isatty(STDERR_FILENO);
	int percent = (int)(share * 100);
	if (percent < p->percent + (terminal ? 1 : 10))
		return;
	p->percent = terminal ? percent : percent - percent % 10;
	fprintf(stderr, "%s%-12s %3d %%%s", terminal ? "\r" : "", p->name, p->percent,
		terminal && percent < 100 ? "" : "\n");
}

/* The rule needs room to grow into: half of the spare starts out free. */
static void leave_half_free(const struct sim_config *c, uint32_t *sizes)
{
	for (uint32_t i = 0; i < c->load.count; i++)
		if (!c->load.tenants[i].size_blocks)
			sizes[i] -= (sizes[i] - min_of(c, i)) / 2;
}

static uint32_t *sizes_for(const struct sim_config *config, enum sim_policy_kind policy)
{
	enum sim_start start = policy == SIM_EQUAL ? SIM_START_EQUAL : config->start;
	uint32_t *sizes = sim_start_sizes(config, start, policy != SIM_EQUAL);
	if (sizes && policy == SIM_THRESHOLD)
		leave_half_free(config, sizes);
	return sizes;
}

static void run(struct sim_config *config, enum sim_policy_kind policy, const uint32_t *sizes, const char *name,
		struct sim_result *result)
{
	static void (*const ticks[SIM_POLICIES])(void *, struct sim_world *) = {
		[SIM_THRESHOLD] = threshold_tick, [SIM_LCPFS_RS] = lcpfs_rs_tick, [SIM_LEARNED] = learned_tick};
	struct driver d = {.config = config, .world = &result->world};
	struct sim_progress progress = {.name = name};

	result->policy = policy;
	lcpfs_engine_threshold_init(&d.pressure, 100);
	sim_world_init(&result->world, &config->world, &config->load, sizes);
	result->world.full = grow_full;
	result->world.context = &d;
	if (policy == SIM_LEARNED)
		d.engine = make_engine(&d);
	sim_world_run(&result->world, ticks[policy], &d, sim_policy_progress, &progress);
	if (d.engine)
		collect(&d, result);
}

/* The best split by either objective; the one that was asked for is the policy's result. */
static bool run_oracle(struct sim_config *config, struct sim_result *result)
{
	struct sim_result other = {0};
	uint32_t *sizes[2];
	if (!sim_oracle_sizes(config, sizes))
		return false;
	run(config, SIM_ORACLE, sizes[config->minimise_wa], "oracle", result);
	run(config, SIM_ORACLE, sizes[!config->minimise_wa], "oracle, too", &other);
	result->other = other.world;
	free(sizes[0]);
	free(sizes[1]);
	return true;
}

bool sim_policy_run(struct sim_config *config, enum sim_policy_kind policy, struct sim_result *result)
{
	if (policy == SIM_ORACLE)
		return run_oracle(config, result);
	uint32_t *sizes = sizes_for(config, policy);
	if (!sizes)
		return false;
	run(config, policy, sizes, sim_policy_names[policy], result);
	free(sizes);
	return true;
}

void sim_result_done(struct sim_result *result)
{
	sim_world_done(&result->world);
	if (result->policy == SIM_ORACLE)
		sim_world_done(&result->other);
}
