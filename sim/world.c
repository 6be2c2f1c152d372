/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "memory.h"

static struct sim_log_options log_options(const struct sim_world_options *options, const struct sim_tenant *tenant)
{
	struct sim_log_options log = options->log;
	log.lag_blocks = tenant->lag_blocks;
	log.busy_blocks = tenant->busy_blocks;
	log.unfilled = tenant->unfilled;
	log.snapshot_blocks = tenant->snapshot_blocks;
	return log;
}

uint32_t sim_tenant_metaslabs_min(const struct sim_world_options *options, const struct sim_tenant *tenant)
{
	struct sim_log_options log = log_options(options, tenant);
	return sim_log_metaslabs_min(&log, tenant->live_blocks);
}

void sim_world_init(struct sim_world *world, const struct sim_world_options *options, struct sim_load *load,
		    const uint32_t *metaslabs)
{
	uint64_t used = 0;
	memset(world, 0, sizeof(*world));
	world->options = options;
	world->load = load;
	world->members = sim_zeroed(load->count, sizeof(world->members[0]));
	world->series = sim_zeroed(options->series_points, sizeof(world->series[0]));
	world->noise.state = load->seed ^ 0x5851f42d4c957f2du;
	for (uint32_t i = 0; i < load->count; i++) {
		struct sim_log_options log = log_options(options, &load->tenants[i]);
		world->members[i].log = sim_log_new(&log, load->tenants[i].live_blocks, metaslabs[i]);
		used += metaslabs[i];
	}
	CHECK(used * options->log.metaslab_blocks <= options->pool_blocks);
	world->free_metaslabs = (uint32_t)(options->pool_blocks / options->log.metaslab_blocks - used);
	sim_load_start(load);
}

void sim_world_done(struct sim_world *world)
{
	for (uint32_t i = 0; i < world->load->count; i++)
		sim_log_free(world->members[i].log);
	for (uint32_t i = 0; i < world->point_count; i++)
		free(world->series[i].size_blocks);
	free(world->series);
	free(world->members);
}

uint64_t sim_world_size_blocks(const struct sim_world *world, uint32_t member)
{
	return (uint64_t)sim_log_metaslabs(world->members[member].log) * world->options->log.metaslab_blocks;
}

struct sim_log_counts sim_world_counts(const struct sim_world *world)
{
	struct sim_log_counts sum = {0};
	for (uint32_t i = 0; i < world->load->count; i++) {
		const struct sim_log_counts *c = sim_log_counts(world->members[i].log);
		sum.user += c->user;
		sum.copied += c->copied;
		sum.device += c->device;
	}
	return sum;
}

static void sync_counters(struct sim_member *m)
{
	const struct sim_log_counts *c = sim_log_counts(m->log);
	m->counters.user_blocks = c->user;
	m->counters.copied_blocks = c->copied;
	m->counters.device_blocks = c->device;
	m->counters.live_blocks = sim_log_live(m->log);
}

static bool is_late(const struct sim_world *world)
{
	return world->load->written_blocks >= world->options->total_blocks / 5 * 4;
}

static void note_late(struct sim_world *world, struct sim_member *m, double latency_us)
{
	/* most are those of a block without cleaning */
	if (world->bucket_latency_us < latency_us || world->bucket_latency_us > latency_us) {
		world->bucket_latency_us = latency_us;
		world->bucket = MIN_OF((int)(log2(fmax(latency_us, 1)) * 16), SIM_LATENCY_BUCKETS - 1);
	}
	if (!world->late_from_us)
		world->late_from_us = world->now_us;
	m->late.ops++;
	m->late.latency_us += latency_us;
	m->late.histogram[world->bucket]++;
}

static double service_us(const struct sim_world *world, const struct sim_request *r)
{
	const struct sim_world_options *o = world->options;
	if (!r->op.write)
		return o->request_us + r->op.blocks * o->read_us;
	return o->request_us + (double)r->device_blocks * o->write_us + (double)r->copied_blocks * o->read_us;
}

static void account(struct sim_world *world, const struct sim_request *r)
{
	const struct sim_op *op = &r->op;
	struct sim_member *m = &world->members[op->tenant];
	double latency = service_us(world, r);
	world->now_us = MAX_OF(world->now_us, op->time_us);
	world->load->written_blocks += op->write ? op->blocks : 0;
	world->work += op->write ? (double)r->device_blocks : 1;
	if (world->options->random_latency)
		latency = -100 * log(1 - sim_random_unit(&world->noise));
	if (op->write) {
		m->counters.write_ops++;
		m->counters.write_latency_us += latency;
	} else {
		m->counters.read_ops++;
		m->counters.read_latency_us += latency;
	}
	if (is_late(world))
		note_late(world, m, latency);
}

/* ---- the series ---- */

static double point_epsilon(struct sim_world *world, struct sim_member *m, uint32_t i, double seconds)
{
	uint64_t ops = m->counters.read_ops + m->counters.write_ops;
	double latency = m->counters.read_latency_us + m->counters.write_latency_us;
	double n = (double)(ops - m->point_ops), sum = latency - m->point_latency_us;
	double utilization = (double)sim_log_live(m->log) / (double)sim_world_size_blocks(world, i);
	m->point_ops = ops;
	m->point_latency_us = latency;
	return n > 0 && seconds > 0 ? lcpfs_engine_epsilon(sum / n, utilization, n / seconds) : 0;
}

static void add_point(struct sim_world *world)
{
	struct sim_point *point = &world->series[world->point_count++];
	struct sim_log_counts counts = sim_world_counts(world);
	double seconds = (double)(world->now_us - world->point_us) / 1e6;
	point->user_blocks = counts.user;
	point->device_blocks = counts.device;
	point->wa = counts.user > world->point_user ? (double)(counts.device - world->point_device) /
							      (double)(counts.user - world->point_user)
						    : 1;
	point->size_blocks = sim_zeroed(world->load->count, sizeof(uint64_t));
	for (uint32_t i = 0; i < world->load->count; i++) {
		point->size_blocks[i] = sim_world_size_blocks(world, i);
		point->epsilon += point_epsilon(world, &world->members[i], i, seconds);
	}
	world->point_user = counts.user;
	world->point_device = counts.device;
	world->point_us = world->now_us;
}

/* By what was written, and not by the clock: so runs of one load have their points at the same places. */
static void add_point_if_due(struct sim_world *world)
{
	const struct sim_world_options *o = world->options;
	uint64_t due = (uint64_t)((double)o->total_blocks * (world->point_count + 1) / o->series_points);
	if (world->load->written_blocks >= due && world->point_count + 1 < o->series_points)
		add_point(world);
}

/* ---- the run ---- */

static void begin_late(struct sim_world *world)
{
	for (uint32_t i = 0; i < world->load->count; i++)
		world->members[i].late.counts = *sim_log_counts(world->members[i].log);
}

static void sample(struct sim_world *world)
{
	for (uint32_t i = 0; i < world->load->count; i++) {
		struct sim_member *m = &world->members[i];
		sync_counters(m);
		if (!is_late(world))
			continue;
		m->late.utilization += (double)m->counters.live_blocks / (double)sim_world_size_blocks(world, i);
		m->late.samples++;
	}
}

static void end_late(struct sim_world *world)
{
	for (uint32_t i = 0; i < world->load->count; i++) {
		struct sim_log_counts now = *sim_log_counts(world->members[i].log);
		struct sim_log_counts *late = &world->members[i].late.counts;
		*late = (struct sim_log_counts){now.user - late->user, now.copied - late->copied,
						now.device - late->device};
	}
}

static const struct sim_op *next_op(struct sim_world *world)
{
	struct sim_load *load = world->load;
	if (world->op_next == world->op_count) {
		world->op_next = 0;
		world->op_count = sim_load_make(load, world->ops, SIM_OPS_AHEAD);
		for (uint32_t i = 0; i < world->op_count; i++)
			if (world->ops[i].write)
				sim_log_expect(world->members[world->ops[i].tenant].log, world->ops[i].block);
	}
	return world->op_count ? &world->ops[world->op_next++] : NULL;
}

/* A client sends a write when the one that it sent in_flight before is done. */
static bool may_send(const struct sim_world *world)
{
	uint64_t oldest = world->sent;
	for (uint32_t i = 0; i < world->queued; i++)
		oldest = MIN_OF(oldest, world->queue[i].number);
	return world->sent - oldest < world->options->in_flight;
}

/* The first of the queue; if it finds no room, it is the last. True: it is done. */
static bool take_turn(struct sim_world *world, struct sim_request *r)
{
	*r = world->queue[0];
	struct sim_log *log = world->members[r->op.tenant].log;
	struct sim_log_counts before = *sim_log_counts(log);
	r->done_blocks += sim_log_write(log, r->op.block + r->done_blocks, r->op.blocks - r->done_blocks);
	r->device_blocks += sim_log_counts(log)->device - before.device;
	r->copied_blocks += sim_log_counts(log)->copied - before.copied;
	world->queued--;
	memmove(world->queue, world->queue + 1, world->queued * sizeof(world->queue[0]));
	if (r->done_blocks < r->op.blocks)
		world->queue[world->queued++] = *r;
	if (r->done_blocks < r->op.blocks && sim_log_is_full(log))
		world->full(world->context, world, r->op.tenant);
	return r->done_blocks == r->op.blocks;
}

/* Goes on until a request is done. Reads change nothing and wait for nobody. */
static bool next_done(struct sim_world *world, struct sim_request *r)
{
	const struct sim_op *op;
	for (;;) {
		while (may_send(world) && (op = next_op(world))) {
			*r = (struct sim_request){.op = *op, .number = world->sent};
			if (!op->write)
				return true;
			world->sent++;
			world->queue[world->queued++] = *r;
		}
		if (!world->queued)
			return false;
		if (take_turn(world, r))
			return true;
	}
}

void sim_world_run(struct sim_world *world, void (*tick)(void *context, struct sim_world *world), void *context,
		   void (*progress)(void *context, double share), void *progress_context)
{
	uint64_t total = world->options->total_blocks, next_tick_us = 0;
	double look = (double)world->options->pool_blocks / LCPFS_ENGINE_LOOKS, next_look = look;
	struct sim_request request;
	bool late = false;
	while (world->load->written_blocks < total && next_done(world, &request)) {
		account(world, &request);
		add_point_if_due(world);
		if (!late && is_late(world)) {
			late = true;
			begin_late(world);
		}
		if (world->now_us < next_tick_us && world->work < next_look)
			continue;
		next_tick_us = world->now_us + 1000000;
		next_look = world->work + look;
		sample(world);
		if (tick)
			tick(context, world);
		if (progress)
			progress(progress_context, (double)world->load->written_blocks / (double)total);
	}
	sample(world);
	add_point(world);
	end_late(world);
}

uint32_t sim_world_move(struct sim_world *world, uint32_t from, uint32_t to, uint32_t metaslabs,
			double copied_most, uint64_t *copied)
{
	*copied = 0;
	if (from == UINT32_MAX) {
		metaslabs = MIN_OF(metaslabs, world->free_metaslabs);
		world->free_metaslabs -= metaslabs;
	} else {
		metaslabs = sim_log_shrink(world->members[from].log, metaslabs, copied_most, copied);
		sync_counters(&world->members[from]);
	}
	if (to == UINT32_MAX)
		world->free_metaslabs += metaslabs;
	else
		sim_log_grow(world->members[to].log, metaslabs);
	return metaslabs;
}

double sim_world_late_epsilon(const struct sim_world *world, uint32_t member)
{
	const struct sim_late *late = &world->members[member].late;
	double seconds = (double)(world->now_us - world->late_from_us) / 1e6;
	if (!(late->ops > 0) || !(seconds > 0) || !(late->samples > 0))
		return 0;
	return lcpfs_engine_epsilon(late->latency_us / late->ops, late->utilization / late->samples,
				    late->ops / seconds);
}

double sim_world_late_p99_us(const struct sim_world *world, uint32_t member)
{
	const struct sim_late *late = &world->members[member].late;
	double seen = 0;
	for (int i = 0; i < SIM_LATENCY_BUCKETS; i++) {
		seen += late->histogram[i];
		if (seen > 0 && seen >= 0.99 * late->ops)
			return exp2((i + 1) / 16.0);
	}
	return 0;
}
