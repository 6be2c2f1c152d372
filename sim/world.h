/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One run of one policy: a pool of log models under a load, device time, and the measurements that policies and
 * reports see. Device time: every block written or read takes its time, and whoever's write makes cleaning
 * necessary waits for it. Operations arrive when the load says and do not queue behind other partitions'
 * (docs/engine.md says what that leaves out).
 */
#ifndef SIM_WORLD_H
#define SIM_WORLD_H

#include <lcpfs/engine.h>

#include "load.h"
#include "log_model.h"

#define SIM_LATENCY_BUCKETS 512 /* 16 per power of two */
#define SIM_OPS_AHEAD 32 /* made at once: enough for memory to follow */
#define SIM_IN_FLIGHT_MAX 64

struct sim_world_options {
	struct sim_log_options log;
	uint64_t pool_blocks;
	uint64_t total_blocks; /* user blocks to write in the run */
	double request_us, write_us, read_us; /* per operation, per block written, per block read */
	bool random_latency; /* latencies drawn at random: no effect of anything */
	uint32_t series_points;
	uint32_t in_flight; /* writes under way at once, up to SIM_IN_FLIGHT_MAX */
};

struct sim_request {
	struct sim_op op;
	uint64_t number; /* as they are sent */
	uint32_t done_blocks;
	uint64_t device_blocks, copied_blocks; /* written for it so far */
};

struct sim_late { /* over the last fifth of the writes */
	struct sim_log_counts counts;
	double ops, latency_us, utilization, samples;
	uint32_t histogram[SIM_LATENCY_BUCKETS];
};

struct sim_member {
	struct sim_log *log;
	struct lcpfs_engine_counters counters;
	struct sim_late late;
	uint64_t point_ops; /* at the last point of the series */
	double point_latency_us;
};

struct sim_point {
	uint64_t user_blocks, device_blocks;
	double wa, epsilon; /* since the last point; ε per second */
	uint64_t *size_blocks;
};

struct sim_world {
	const struct sim_world_options *options;
	struct sim_load *load;
	struct sim_member *members;
	uint32_t free_metaslabs;
	uint64_t now_us, late_from_us;
	struct sim_random noise;
	struct sim_op ops[SIM_OPS_AHEAD]; /* to come */
	uint32_t op_count, op_next;
	struct sim_request queue[SIM_IN_FLIGHT_MAX]; /* writes under way, as they have their turn */
	uint32_t queued;
	uint64_t sent;
	double bucket_latency_us; /* that was last asked for */
	int bucket;
	struct sim_point *series;
	uint32_t point_count;
	uint64_t point_user, point_device, point_us;
	double work; /* blocks that requests wrote and read */
	/* a writer finds no room: with this policy it has to get some */
	void (*full)(void *context, struct sim_world *world, uint32_t member);
	void *context; /* of that */
	uint64_t moves, undone;
};

/* The fewest metaslabs that it always has room in. */
uint32_t sim_tenant_metaslabs_min(const struct sim_world_options *options, const struct sim_tenant *tenant);
/* sizes in metaslabs; the rest of the pool is free */
void sim_world_init(struct sim_world *world, const struct sim_world_options *options, struct sim_load *load,
		    const uint32_t *metaslabs);
void sim_world_done(struct sim_world *world);
/* Until the load ends; tick is called as often as a pool's keeper looks. */
void sim_world_run(struct sim_world *world, void (*tick)(void *context, struct sim_world *world), void *context,
		   void (*progress)(void *context, double share), void *progress_context);
/* Moves between members (or UINT32_MAX: free space); returns the metaslabs moved and the blocks copied for it. */
uint32_t sim_world_move(struct sim_world *world, uint32_t from, uint32_t to, uint32_t metaslabs,
			double copied_most, uint64_t *copied);
uint64_t sim_world_size_blocks(const struct sim_world *world, uint32_t member);
struct sim_log_counts sim_world_counts(const struct sim_world *world);
double sim_world_late_epsilon(const struct sim_world *world, uint32_t member);
double sim_world_late_p99_us(const struct sim_world *world, uint32_t member);

#endif
