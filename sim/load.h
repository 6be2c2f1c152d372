/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What users do, operation by operation: synthetic patterns with weights that may change, or a trace that is
 * repeated.
 */
#ifndef SIM_LOAD_H
#define SIM_LOAD_H

#include <stdbool.h>
#include <stdint.h>

#include <lcpfs/pool.h>

#include "random.h"

#define SIM_SHIFTS_MAX 16

enum sim_pattern { SIM_UNIFORM, SIM_ZIPF, SIM_SEQUENTIAL };

struct sim_tenant {
	char name[LCPFS_NAME_MAX + 1];
	uint32_t live_blocks;
	double writes, reads; /* weights */
	enum sim_pattern pattern;
	double zipf;
	uint64_t size_blocks, min_blocks, max_blocks; /* 0: not given */
	double unfilled;                              /* as in struct sim_log_options, and what follows, too */
	uint64_t snapshot_blocks;
	uint32_t lag_blocks, busy_blocks;
	double weight, weight_all; /* of writes, and of all operations, now */
	/* state of the pattern */
	uint32_t next;
	double zipf_h0, zipf_hn, zipf_s; /* Hörmann & Derflinger's rejection-inversion */
	uint32_t zipf_factor; /* spreads ranks over the volume */
};

struct sim_shift {
	uint64_t at_blocks;
	uint32_t tenant;
	double writes;
};

struct sim_op {
	uint32_t tenant, block, blocks;
	bool write;
	uint64_t time_us;
};

struct sim_trace; /* trace.c */

struct sim_load {
	struct sim_tenant *tenants;
	uint32_t count;
	struct sim_shift shifts[SIM_SHIFTS_MAX], swing[SIM_SHIFTS_MAX];
	uint32_t shift_count, swing_count;
	uint64_t swing_blocks; /* period: weights go to those of `swing` and back */
	double ops_per_s;
	const struct sim_trace *trace; /* NULL: synthetic */
	uint32_t repeat;
	uint64_t seed;
	/* state */
	struct sim_random random;
	uint64_t made_blocks, written_blocks; /* by the operations made; of those, by the ones that were applied */
	uint64_t weights_until; /* made_blocks */
	uint64_t trace_at;
	double time_us, step_us;
	double weight; /* of all tenants' operations, now */
};

/* What all partitions' writes weigh together when that is least: shifts and swings change it. */
double sim_load_least_writes(struct sim_load *load);
void sim_load_start(struct sim_load *load); /* from the beginning, same seed */
uint32_t sim_load_make(struct sim_load *load, struct sim_op *ops, uint32_t count); /* how many: fewer at the end */

#endif
