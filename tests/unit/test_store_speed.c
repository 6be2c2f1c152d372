/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a flush costs, in a partition of few metaslabs and of many: a block is overwritten and flushed, on a device
 * in memory, without audits. It must not depend on how many metaslabs there are.
 *
 * Times are the machine's: they are printed, and judged so loosely that only a scan of all metaslabs is noticed.
 * Instructions, as one may count them on any machine:
 *
 *	valgrind --tool=callgrind --toggle-collect=flush_few --toggle-collect=flush_many
 *build/tests/unit/test_store_speed callgrind_annotate --inclusive=yes callgrind.out.PID | grep flush_
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/hash.h"
#include "format/format.h"
#include "store/store.h"
#include "tests/disk/memory.h"

enum { METASLAB_BLOCKS = 256, FEW = 64, MANY = 16384, BASE = 16, VOLUME_BLOCKS = 4096 };
/* In all so few that the log stays below a quarter of the smaller one: no checkpoint is due. */
enum { ROUNDS = 6, FLUSHES = 200 };

static uint64_t no_time(void *context)
{
	(void)context;
	return 0;
}

static const struct clock clock_still = {.now_us = no_time, .wall_s = no_time};
static uint8_t data[BLOCK_SIZE];

static void write_block(struct store *store, uint64_t block)
{
	CHECK(!store_write(store, block << BLOCK_SHIFT, data, sizeof(data), false, NULL));
}

static struct store *make(uint32_t count, struct vdev **vdev)
{
	*vdev = vdev_memory_new(((uint64_t)count * METASLAB_BLOCKS + BASE) << BLOCK_SHIFT);
	const struct store_config config = {.vdev = *vdev,
					    .clock = &clock_still,
					    .guid = 1,
					    .partition = 1,
					    .name = "speed",
					    .metaslab_base = BASE,
					    .metaslab_blocks = METASLAB_BLOCKS,
					    .metaslab_count = count,
					    .root_block = {{1, 2}, {3, 4}}};
	uint32_t *metaslabs = malloc(count * sizeof(*metaslabs));
	struct store *store;
	CHECK(metaslabs);
	for (uint32_t i = 0; i < count; i++)
		metaslabs[i] = i;
	CHECK(!store_format(&config, VOLUME_BLOCKS, metaslabs, count));
	CHECK(!store_open(&config, metaslabs, count, &store, NULL));
	free(metaslabs);
	for (uint64_t block = 0; block < VOLUME_BLOCKS; block++)
		write_block(store, block);
	CHECK(!store_checkpoint(store));
	return store;
}

static void flush(struct store *store, uint64_t seed)
{
	for (unsigned i = 0; i < FLUSHES; i++) {
		write_block(store, hash_mix(seed * FLUSHES + i) % VOLUME_BLOCKS);
		CHECK(!store_flush(store, NULL));
		CHECK(store_step(store) >= 0);
	}
}

/* Two names, for callgrind. */
__attribute__((noinline)) static void flush_few(struct store *store, uint64_t seed)
{
	flush(store, seed);
	__asm__ volatile(""); /* no tail call */
}

__attribute__((noinline)) static void flush_many(struct store *store, uint64_t seed)
{
	flush(store, seed);
	__asm__ volatile("");
}

static double cpu_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static void a_flush_costs_the_same_with_many_metaslabs(void **state)
{
	static void (*const run[2])(struct store * store, uint64_t seed) = {flush_few, flush_many};
	static const uint32_t counts[2] = {FEW, MANY};
	double least[2] = {1e9, 1e9};
	struct store *store[2];
	struct vdev *vdev[2];
	(void)state;
	for (unsigned i = 0; i < 2; i++)
		store[i] = make(counts[i], &vdev[i]);
	for (unsigned round = 0; round < 2 * ROUNDS; round++) {
		double begin = cpu_us();
		run[round % 2](store[round % 2], round / 2);
		least[round % 2] = MIN_OF(least[round % 2], (cpu_us() - begin) / FLUSHES);
	}
	for (unsigned i = 0; i < 2; i++) {
		CHECK(!store_close(store[i]));
		vdev_close(vdev[i]);
	}
	print_message(
		"# a write and a flush: %.2f us of a processor with %d metaslabs, %.2f with %d; %.3f times\n",
		least[0], FEW, least[1], MANY, least[1] / least[0]);
	assert_true(least[1] < 2 * least[0]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(a_flush_costs_the_same_with_many_metaslabs)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
