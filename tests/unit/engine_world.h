/* SPDX-License-Identifier: Apache-2.0 */
/* A small world for the engine's tests: partitions whose cleaning follows the uniform formula at once. */
#ifndef TESTS_UNIT_ENGINE_WORLD_H
#define TESTS_UNIT_ENGINE_WORLD_H

#include <stddef.h>
#include <stdint.h>

#include <lcpfs/engine.h>

#define STEP 64u
#define WORLD_MAX 8
#define RECORD_MAX 100

struct load {
	double live, writes_s, reads_s, noise; /* noise: relative spread of each window's latency */
	double copies; /* factor on the uniform formula's; 0 = a log */
	double size_blind; /* 1: latency does not depend on size at all */
	uint64_t cliff; /* written in a circle: no copies from this size on, five per write below */
	double buffered; /* 1: writes take no time that anybody sees */
	double flat; /* copies per write, whatever the size; latency is blind then too */
};

struct world {
	struct lcpfs_engine *engine;
	struct load load[WORLD_MAX];
	struct lcpfs_engine_counters counters[WORLD_MAX];
	uint64_t size[WORLD_MAX];
	uint32_t id[WORLD_MAX];
	size_t count;
	uint64_t now_us, seed;
	double written;
	unsigned moves;
	struct lcpfs_engine_decision record[RECORD_MAX]; /* the last ones that differ from the one before */
	size_t recorded;
};

double uniform01(struct world *w);
void world_init_with(struct world *w, uint64_t pool, enum lcpfs_engine_mode mode, uint64_t seed,
			    const struct lcpfs_engine_priors *priors);
void world_init(struct world *w, uint64_t pool, enum lcpfs_engine_mode mode, uint64_t seed);
void world_add(struct world *w, uint64_t size, struct load load);
void world_live(struct world *w, size_t i, double seconds);
int world_move(void *context, const struct lcpfs_engine_decision *decision, struct lcpfs_engine_moved *moved);
/* All that there are, up to `room`, in order of id; returns how many those are. */
size_t world_list(struct world *w, struct lcpfs_engine_partition *list, size_t room);
void check_conservation(struct world *w);
void world_second(struct world *w); /* a second passes, and is measured */
void world_record(struct world *w, const struct lcpfs_engine_decision *decision);
void world_run(struct world *w, unsigned ticks);
void world_done(struct world *w);
void add_hot_and_cold(struct world *w);
void world_hot_and_cold(struct world *w, enum lcpfs_engine_mode mode, uint64_t seed);

#endif
