/* SPDX-License-Identifier: Apache-2.0 */
/* A host that is full gets back what trims free, also where they leave no metaslab empty. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "../crash/sparse.h"
#include "base/hash.h"
#include "format/format.h"
#include "store/store.h"
#include "tests/disk/memory.h"

enum { BASE = 16, METASLAB_BLOCKS = 256, METASLABS = 48, PLACES = 36, VOLUME_BLOCKS = 1 << 16, RUN = 16 };

static uint64_t now_us;

static uint64_t time_now(void *context)
{
	(void)context;
	return now_us;
}

static const struct clock clock_by_hand = {.now_us = time_now, .wall_s = time_now};

static const struct store_config template = {
	.clock = &clock_by_hand,
	.guid = 1,
	.partition = 1,
	.name = "host",
	.metaslab_base = BASE,
	.metaslab_blocks = METASLAB_BLOCKS,
	.metaslab_count = METASLABS,
	.root_block = {{1, 2}, {3, 4}},
	.cache_bytes = 16 << 20,
};

static void never_reserved(const char *format, ...)
{
	fail_msg("%s", format);
}

static struct store *open_as(struct sparse *host, bool is_new)
{
	struct store_config config = template;
	struct lcpfs_failure failure;
	uint32_t metaslabs[METASLABS];
	struct store *store;
	for (uint32_t i = 0; i < METASLABS; i++)
		metaslabs[i] = i;
	config.vdev = &host->vdev;
	if (is_new)
		assert_int_equal(store_format(&config, VOLUME_BLOCKS, metaslabs, METASLABS), 0);
	assert_int_equal(store_open(&config, metaslabs, METASLABS, &store, &failure), 0);
	return store;
}

/* A new store on a sparse host that has room for so many blocks behind the base. */
static struct store *open_with_room(struct sparse *host, struct vdev **memory, uint64_t blocks)
{
	*memory = vdev_memory_new((uint64_t)(BASE + METASLABS * METASLAB_BLOCKS) << BLOCK_SHIFT);
	sparse_init(host, *memory, blocks);
	sparse_back(host, 0, BASE);
	host->fail = never_reserved;
	return open_as(host, true);
}

static void close_all(struct store *store, struct sparse *host, struct vdev *memory)
{
	assert_int_equal(store_close(store), 0);
	sparse_free(host);
	vdev_close(memory);
}

static void fill_block(uint8_t *data, uint64_t block)
{
	for (unsigned i = 0; i < BLOCK_SIZE / 8; i++)
		memcpy(data + 8 * i, &(uint64_t){block * 1000 + i + 1}, 8);
}

/* Until it is refused; how many it took. */
static uint64_t fill(struct store *store)
{
	uint8_t data[BLOCK_SIZE];
	for (uint64_t block = 0; block < VOLUME_BLOCKS; block++) {
		fill_block(data, block);
		if (store_write(store, block << BLOCK_SHIFT, data, sizeof(data), false, NULL))
			return block;
	}
	fail_msg("it was never refused");
	return 0;
}

static void step_to_the_end(struct store *store)
{
	while (store_step(store) > 0)
		;
}

static void pieces_that_were_trimmed_come_back(void **state)
{
	struct vdev *memory;
	struct lcpfs_failure failure;
	uint8_t data[BLOCK_SIZE], expected[BLOCK_SIZE];
	struct sparse host;
	(void)state;
	struct store *store = open_with_room(&host, &memory, BASE + PLACES * METASLAB_BLOCKS);
	uint64_t end = fill(store), free_before = host.free_blocks;
	assert_int_equal(store_flush(store, NULL), 0);
	for (uint64_t block = 0; block < end; block += 2 * RUN)
		assert_int_equal(store_trim(store, block << BLOCK_SHIFT, RUN << BLOCK_SHIFT, false, NULL), 0);
	assert_int_equal(store_flush(store, NULL), 0);
	step_to_the_end(store);
	assert_true(host.free_blocks - free_before >= end / 4);
	for (uint64_t block = 0; block < end; block++) {
		fill_block(expected, block);
		if (block % (2 * RUN) < RUN)
			memset(expected, 0, sizeof(expected));
		assert_int_equal(store_read(store, block << BLOCK_SHIFT, data, sizeof(data), &failure), 0);
		assert_memory_equal(data, expected, sizeof(data));
	}
	close_all(store, &host, memory);
}

enum { NEVER = 1 << 30 };

/* Flushes after `each` of them. How many blocks were prepared behind a flush at the most. */
static uint64_t write_blocks(struct store *store, const struct sparse *host, uint64_t first, uint64_t count,
			     unsigned each)
{
	uint8_t data[BLOCK_SIZE];
	uint64_t most = 0;
	for (uint64_t block = first; block < first + count; block++) {
		fill_block(data, block);
		assert_int_equal(store_write(store, block << BLOCK_SHIFT, data, sizeof(data), false, NULL), 0);
		if ((block + 1) % each)
			continue;
		uint64_t before = host->prepared;
		assert_int_equal(store_flush(store, NULL), 0);
		step_to_the_end(store);
		most = host->prepared - before > most ? host->prepared - before : most;
	}
	return most;
}

/*
 * Only where flushes come often: to others it would be one more writing of everything. Also those that were got
 * before that began. And a little at a time, as a flush waits for what is being prepared.
 */
static void places_are_prepared_for_who_flushes_often(void **state)
{
	(void)state;
	struct vdev *memory;
	struct sparse host;
	struct store *store = open_with_room(&host, &memory, METASLABS * METASLAB_BLOCKS);
	write_blocks(store, &host, 0, 12 * METASLAB_BLOCKS, METASLAB_BLOCKS);
	assert_int_equal(host.prepared, 0);
	uint64_t before = host.first_writes;
	/* with two headers each */
	assert_int_equal(write_blocks(store, &host, 12 * METASLAB_BLOCKS, 3 * METASLAB_BLOCKS, 1), 64);
	assert_true(host.prepared >= 8 * METASLAB_BLOCKS && host.prepared <= 2 * 9 * METASLAB_BLOCKS);
	assert_int_equal(host.in_vain, 0);
	assert_true(host.first_writes - before <= 2 * METASLAB_BLOCKS);
	close_all(store, &host, memory);
}

/* One flush shows that somebody waits for them. Who only writes has nothing written twice, whatever the pauses. */
static void who_has_flushed_finds_places_after_a_pause(void **state)
{
	(void)state;
	struct vdev *memory;
	struct sparse host;
	struct store *store = open_with_room(&host, &memory, METASLABS * METASLAB_BLOCKS);
	for (unsigned i = 0; i < 4; i++) {
		write_blocks(store, &host, i * METASLAB_BLOCKS, METASLAB_BLOCKS, NEVER);
		now_us += 2000000; /* what is written so goes out after a second */
		step_to_the_end(store);
	}
	assert_int_equal(host.prepared, 0);
	write_blocks(store, &host, 4 * METASLAB_BLOCKS, METASLAB_BLOCKS, METASLAB_BLOCKS);
	assert_int_equal(host.prepared, 0);
	now_us += 1000000;
	step_to_the_end(store);
	uint64_t once = host.prepared;
	assert_true(once >= 11 * METASLAB_BLOCKS);
	write_blocks(store, &host, 5 * METASLAB_BLOCKS, 4 * METASLAB_BLOCKS, NEVER);
	now_us += 2000000;
	step_to_the_end(store);
	assert_int_equal(host.prepared, once);
	assert_int_equal(host.in_vain, 0);
	close_all(store, &host, memory);
}

/* While flushes come, no more than is soon needed: each piece costs one of them. The rest when nobody writes. */
static void the_rest_is_prepared_while_nobody_writes(void **state)
{
	(void)state;
	struct vdev *memory;
	struct sparse host;
	struct store *store = open_with_room(&host, &memory, METASLABS * METASLAB_BLOCKS);
	write_blocks(store, &host, 0, METASLAB_BLOCKS, NEVER);
	write_blocks(store, &host, METASLAB_BLOCKS, 2 * METASLAB_BLOCKS, 1); /* with two headers each */
	uint64_t soon = host.prepared;
	assert_true(soon <= (6 + 4 + 1) * METASLAB_BLOCKS);
	now_us += 1000000;
	step_to_the_end(store);
	assert_true(host.prepared - soon >= 11 * METASLAB_BLOCKS);
	assert_int_equal(host.in_vain, 0);
	uint64_t idle = host.prepared, before = host.first_writes;
	write_blocks(store, &host, 3 * METASLAB_BLOCKS, 3 * METASLAB_BLOCKS, 1);
	assert_int_equal(host.prepared, idle);
	assert_true(host.first_writes - before < METASLAB_BLOCKS / 8); /* in heads that were there */
	close_all(store, &host, memory);
}

/*
 * By the newest root they hold something; the log has emptied them since, and the host, which was full, has got
 * them back. After a crash the log does not go on in them.
 */
static void what_was_given_is_not_written_after_a_crash(void **state)
{
	struct vdev *memory;
	struct sparse host;
	(void)state;
	struct store *store = open_with_room(&host, &memory, BASE + PLACES * METASLAB_BLOCKS);
	uint64_t end = fill(store);
	assert_int_equal(store_flush(store, NULL), 0);
	assert_int_equal(store_checkpoint(store), 0);
	assert_int_equal(store_trim(store, 0, end / 2 << BLOCK_SHIFT, false, NULL), 0);
	assert_int_equal(store_flush(store, NULL), 0);
	assert_true(store_give_back(store) > 0);
	host.free_blocks = 0; /* somebody else has them now */
	store_abandon(store);
	store = open_as(&host, false);
	for (uint64_t block = end / 2; block < end; block++) { /* before its background has seen to anything */
		uint8_t data[BLOCK_SIZE];
		fill_block(data, block);
		assert_int_equal(store_write(store, block << BLOCK_SHIFT, data, sizeof(data), false, NULL), 0);
	}
	close_all(store, &host, memory);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pieces_that_were_trimmed_come_back),
		cmocka_unit_test(places_are_prepared_for_who_flushes_often),
		cmocka_unit_test(who_has_flushed_finds_places_after_a_pause),
		cmocka_unit_test(the_rest_is_prepared_while_nobody_writes),
		cmocka_unit_test(what_was_given_is_not_written_after_a_crash),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
