/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A stranger's program: it sees the public headers and the shared library, nothing else, has no pool, and lets the
 * engine move boundaries between two stores of its own.
 */
#include <lcpfs/engine.h>
#include <lcpfs/error.h>
#include <lcpfs/pool.h>

#include <stdio.h>
#include <stdlib.h>

enum { STEP = 1024, POOL = 100 * STEP, PARTITIONS = 2, SECONDS = 600 };

struct store {
	uint32_t id;
	uint64_t size_blocks, live_blocks, writes_per_s;
	struct lcpfs_engine_counters counters;
};

static struct store stores[PARTITIONS] = {
	{.size_blocks = 32 * STEP, .live_blocks = 30 * STEP, .writes_per_s = 5000}, /* hot, hardly any spare */
	{.size_blocks = 60 * STEP, .live_blocks = 20 * STEP, .writes_per_s = 5},
};

static void expect(int holds, const char *what)
{
	if (!holds) {
		fprintf(stderr, "engine_alone: %s does not hold\n", what);
		exit(1);
	}
}

/* One second of a log-structured store's life. */
static void live(struct store *store)
{
	uint64_t n = store->writes_per_s;
	uint64_t spare_blocks = store->size_blocks - store->live_blocks;
	double wa = 1 + (double)store->live_blocks / (2 * (double)spare_blocks);
	store->counters.write_ops += n;
	store->counters.user_blocks += n;
	store->counters.copied_blocks += (uint64_t)((wa - 1) * (double)n);
	store->counters.device_blocks += (uint64_t)(wa * (double)n);
	store->counters.write_latency_us += 20 * wa * (double)n;
	store->counters.live_blocks = store->live_blocks;
}

static int move(void *context, const struct lcpfs_engine_decision *decision, struct lcpfs_engine_moved *moved)
{
	for (unsigned i = 0; i < PARTITIONS; i++) {
		if (stores[i].id == decision->from_id)
			stores[i].size_blocks -= decision->blocks;
		if (stores[i].id == decision->to_id)
			stores[i].size_blocks += decision->blocks;
	}
	++*(unsigned *)context;
	*moved = (struct lcpfs_engine_moved){.blocks = decision->blocks, .duration_us = 1000};
	return 0;
}

static void add(struct lcpfs_engine *engine, struct store *store)
{
	struct lcpfs_engine_spec spec = {
		.name = store == stores ? "hot" : "cold",
		.size_blocks = store->size_blocks,
		.min_size_blocks = store->live_blocks + STEP,
		.max_size_blocks = POOL,
	};
	expect(lcpfs_engine_add(engine, &spec, &store->id) == 0, "adding a partition");
}

int main(void)
{
	struct lcpfs_engine_options options = {.pool_blocks = POOL, .step_blocks = STEP, .mode = LCPFS_ENGINE_ON};
	struct lcpfs_engine_statistics statistics;
	struct lcpfs_engine *engine;
	unsigned moves = 0;
	expect(lcpfs_engine_create(&options, &engine) == 0, "creating an engine");
	for (unsigned i = 0; i < PARTITIONS; i++)
		add(engine, &stores[i]);
	for (uint64_t s = 1; s <= SECONDS; s++) {
		for (unsigned i = 0; i < PARTITIONS; i++) {
			struct store *store = &stores[i];
			live(store);
			expect(lcpfs_engine_update(engine, store->id, s * 1000000, &store->counters) == 0,
			       "update");
		}
		expect(lcpfs_engine_step(engine, s * 1000000, move, &moves, NULL) == 0, "step");
	}
	expect(lcpfs_engine_get_statistics(engine, &statistics) == 0, "statistics");
	expect(moves > 0 && statistics.moves > 0, "that boundaries move");
	expect(stores[0].size_blocks > 40 * STEP, "that the hot store gets space");
	expect(stores[0].size_blocks + stores[1].size_blocks + statistics.free_blocks == POOL,
	       "that blocks are conserved");
	expect(lcpfs_engine_remove(engine, 99) == -LCPFS_E_NOT_FOUND, "that unknown ids are refused");
	lcpfs_engine_destroy(engine);
	printf("%u moves, hot from %u to %u steps\n", moves, 32, (unsigned)(stores[0].size_blocks / STEP));
	return 0;
}
