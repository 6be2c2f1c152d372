/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The simulator's model of a store beside the store: the same writes, in the same order, on a device of memory.
 * What both count has to stay together, or what `lcpfs simulate` says is said of something else.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "format/format.h"
#include "sim/log_model.h"
#include "sim/random.h"
#include "store/store.h"
#include "tests/disk/memory.h"

enum { BASE = 16, MIB = 256, METASLAB_BLOCKS = MIB, GIVEN = 6 };
#define APART_MAX 0.015 /* nothing here depends on time; over NBD they are further apart */
#define COPIED_APART_MAX 0.05  /* few, so chance counts for more */

struct scenario {
	const char *name;
	uint32_t volume_blocks, metaslabs; /* beyond the least */
	uint32_t hot_blocks; /* where three quarters of the writes go; 0: one after the other */
	uint32_t flush_blocks;
	uint32_t move_blocks; /* written between two moves of GIVEN metaslabs, to and fro */
};

struct pair {
	struct vdev *vdev;
	struct store *store;
	struct sim_log *log;
	uint64_t written[2]; /* to the device: by the store, by the model; of all draws */
	uint64_t copied[2];  /* likewise, for what was given away */
	uint32_t given[GIVEN];
	bool away; /* they are given away */
};

static uint64_t no_time(void *context)
{
	(void)context;
	return 0;
}

static const struct clock clock_still = {.now_us = no_time, .wall_s = no_time};

static void open_store(struct pair *p, uint32_t volume_blocks, uint32_t count)
{
	struct store_config config = {
		.clock = &clock_still,
		.guid = 1,
		.partition = 1,
		.name = "model",
		.metaslab_base = BASE,
		.metaslab_blocks = METASLAB_BLOCKS,
		.metaslab_count = count,
		.root_block = {{1, 2}, {3, 4}},
		.cache_bytes = 64 << 20,
	};
	uint32_t *metaslabs = calloc(count, sizeof(*metaslabs));
	struct lcpfs_failure failure;
	assert_non_null(metaslabs);
	for (uint32_t i = 0; i < count; i++)
		metaslabs[i] = i;
	p->vdev = config.vdev = vdev_memory_new((uint64_t)(BASE + count * METASLAB_BLOCKS) << BLOCK_SHIFT);
	assert_int_equal(store_format(&config, volume_blocks, metaslabs, count), 0);
	assert_int_equal(store_open(&config, metaslabs, count, &p->store, &failure), 0);
	free(metaslabs);
}

static void write_to_store(struct pair *p, uint32_t block)
{
	static const uint8_t data[BLOCK_SIZE] = {1};
	uint64_t offset = (uint64_t)block << BLOCK_SHIFT;
	assert_int_equal(store_write(p->store, offset, data, sizeof(data), false, NULL), 0);
	while (store_step(p->store) > 0)
		;
}

static uint64_t device_blocks(struct pair *p)
{
	struct store_stats stats;
	store_stats(p->store, &stats);
	return stats.counters.device_blocks;
}

static uint32_t pick(const struct scenario *s, struct sim_random *random, uint32_t i)
{
	if (!s->hot_blocks)
		return i % s->volume_blocks;
	return (uint32_t)sim_random_below(random, sim_random_below(random, 4) ? s->hot_blocks : s->volume_blocks);
}

static void move(struct pair *p)
{
	struct store_stats before, after;
	uint64_t copied;
	store_stats(p->store, &before);
	if (p->away) {
		assert_int_equal(store_add(p->store, p->given, GIVEN), 0);
		sim_log_grow(p->log, GIVEN);
	}
	for (unsigned i = 0; i < GIVEN && !p->away; i++)
		assert_int_equal(store_release(p->store, &p->given[i]), 0);
	if (!p->away) {
		assert_int_equal(sim_log_shrink(p->log, GIVEN, INFINITY, &copied), GIVEN);
		p->copied[1] += copied;
	}
	store_stats(p->store, &after);
	p->copied[0] += after.release_copied_blocks - before.release_copied_blocks;
	p->away = !p->away;
}

/* What both write for `writes` blocks of users'. */
static void run(struct pair *p, const struct scenario *s, struct sim_random *random, uint32_t writes)
{
	uint64_t store = device_blocks(p), model = sim_log_counts(p->log)->device;
	for (uint32_t i = 1; i <= writes; i++) {
		uint32_t block = pick(s, random, i);
		write_to_store(p, block);
		if (s->flush_blocks && i % s->flush_blocks == 0)
			assert_int_equal(store_flush(p->store, NULL), 0);
		while (!sim_log_write(p->log, block, 1))
			;
		if (s->move_blocks && i % s->move_blocks == 0)
			move(p);
	}
	p->written[0] += device_blocks(p) - store;
	p->written[1] += sim_log_counts(p->log)->device - model;
}

static void draw(struct pair *p, const struct scenario *s, uint64_t seed)
{
	struct sim_log_options options = {
		.metaslab_blocks = METASLAB_BLOCKS,
		.checkpoint_share = 0.25,
		.flush_blocks = s->flush_blocks,
	};
	uint32_t least = sim_log_metaslabs_min(&options, s->volume_blocks), count = least + s->metaslabs;
	struct sim_random random = {seed};
	open_store(p, s->volume_blocks, count);
	for (uint32_t i = 0; i < s->volume_blocks; i++)
		write_to_store(p, i);
	p->away = false;
	p->log = sim_log_new(&options, s->volume_blocks, count);
	assert_int_equal(store_size_least(p->store), least);
	run(p, s, &random, 12 * count * METASLAB_BLOCKS);
	sim_log_free(p->log);
	store_abandon(p->store);
	vdev_close(p->vdev);
}

/* One draw alone may be 2 % off by chance; what the model leaves out shows in all. */
static void compare(const struct scenario *s)
{
	enum { DRAWS = 3 };
	struct pair p = {0};
	for (uint64_t seed = 1; seed <= DRAWS; seed++)
		draw(&p, s, seed);
	double apart = (double)p.written[1] / (double)p.written[0] - 1;
	print_message("# %s: %+.2f %%\n", s->name, 100 * apart);
	assert_true(apart < APART_MAX && apart > -APART_MAX);
	if (!s->move_blocks)
		return;
	apart = (double)p.copied[1] / (double)p.copied[0] - 1;
	print_message("# %s, copied for what was given: %+.2f %%\n", s->name, 100 * apart);
	assert_true(apart < COPIED_APART_MAX && apart > -COPIED_APART_MAX);
}

static void the_model_writes_what_the_store_writes(void **state)
{
	static const struct scenario scenarios[] = {
		{"uniform, some spare", 16 * MIB, 4, 16 * MIB, 0},
		{"uniform, hardly any spare", 16 * MIB, 0, 16 * MIB, 0},
		{"a hot tenth", 24 * MIB, 4, 2 * MIB, 0},
		{"one after the other", 16 * MIB, 3, 0, 0},
		{"few metaslabs, one head", 3 * MIB, 1, 3 * MIB, 0},
		{"flushed every 8 blocks", 16 * MIB, 4, 16 * MIB, 8},
		{"given away and got back", 32 * MIB, 12, 32 * MIB, 0, 4 * MIB},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(scenarios); i++)
		compare(&scenarios[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(the_model_writes_what_the_store_writes)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
