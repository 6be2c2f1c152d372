/* SPDX-License-Identifier: Apache-2.0 */
/* What a partition holds can be overwritten for ever, however full it is. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "format/format.h"
#include "store/store.h"

enum { BASE = 16, METASLAB_BLOCKS = 256, METASLABS = 48, VOLUME_BLOCKS = 1 << 20, OVERWRITES = 20000 };

static uint64_t no_time(void *context)
{
	(void)context;
	return 0;
}

static const struct clock clock_still = {.now_us = no_time, .wall_s = no_time};

static struct store *open_new(struct vdev *vdev)
{
	struct store_config config = {
		.vdev = vdev,
		.clock = &clock_still,
		.guid = 1,
		.partition = 1,
		.name = "full",
		.metaslab_base = BASE,
		.metaslab_blocks = METASLAB_BLOCKS,
		.metaslab_count = METASLABS,
		.root_block = {{1, 2}, {3, 4}},
		.cache_bytes = 64 << 20,
	};
	uint32_t metaslabs[METASLABS];
	struct lcpfs_failure failure;
	struct store *store;

	for (uint32_t i = 0; i < METASLABS; i++)
		metaslabs[i] = i;
	assert_int_equal(store_format(&config, VOLUME_BLOCKS, metaslabs, METASLABS), 0);
	assert_int_equal(store_open(&config, metaslabs, METASLABS, &store, &failure), 0);
	return store;
}

static int write_block(struct store *store, uint32_t block)
{
	static const uint8_t data[BLOCK_SIZE] = {1};
	int error = store_write(store, (uint64_t)block * BLOCK_SIZE, data, sizeof(data), false, NULL);

	for (uint32_t units = 0; store_step(store) > 0; units++)
		assert_true(units < 4 * METASLABS); /* it comes to rest */
	return error;
}

/*
 * Blocks far apart need a page each. What is full with pages that no checkpoint has written yet is the hardest: a
 * checkpoint gets nothing back for what it takes for them.
 */
static void what_is_full_of_new_pages_can_be_overwritten(void **state)
{
	struct vdev *vdev = vdev_memory_new((uint64_t)(BASE + METASLABS * METASLAB_BLOCKS) << BLOCK_SHIFT);
	struct store *store = open_new(vdev);
	uint32_t dense = METASLABS * METASLAB_BLOCKS / 2, sparse = 0;

	(void)state;
	for (uint32_t i = 0; i < dense; i++)
		assert_int_equal(write_block(store, i), 0);
	assert_int_equal(store_checkpoint(store), 0);
	while (!write_block(store, VOLUME_BLOCKS - 1 - sparse * VOLUME_SLOTS))
		sparse++;
	assert_true(sparse > METASLAB_BLOCKS);
	for (uint32_t i = 0; i < OVERWRITES; i++)
		assert_int_equal(write_block(store, (uint32_t)((uint64_t)i * 2654435761u % dense)), 0);
	assert_int_equal(store_close(store), 0);
	vdev_close(vdev);
}

/*
 * A checkpoint of all pages takes what was kept for it. What it gives back is free when what emptied it is
 * flushed, which may be after the next one has begun.
 */
static void one_checkpoint_may_follow_another(void **state)
{
	struct vdev *vdev = vdev_memory_new((uint64_t)(BASE + METASLABS * METASLAB_BLOCKS) << BLOCK_SHIFT);
	struct store *store = open_new(vdev);
	uint32_t sparse = 0, checkpoints = 0;

	(void)state;
	while (!write_block(store, sparse * VOLUME_SLOTS))
		sparse++;
	assert_true(sparse > 2 * METASLAB_BLOCKS);
	for (uint32_t i = 0; i < OVERWRITES / 8; i++) {
		assert_int_equal(write_block(store, i % sparse * VOLUME_SLOTS), 0);
		for (uint32_t k = 0; i % 100 == 0 && k < 3; k++, checkpoints++)
			assert_int_equal(store_checkpoint(store), 0);
	}
	assert_true(checkpoints > 50);
	assert_int_equal(store_close(store), 0);
	vdev_close(vdev);
}

/*
 * Cleaning fills the last metaslab that it may take. What it empties has to be more than that, or nothing can be
 * cleaned any more although much of the space is free.
 */
static void a_writer_alone_always_gets_room(void **state)
{
	struct vdev *vdev = vdev_memory_new((uint64_t)(BASE + METASLABS * METASLAB_BLOCKS) << BLOCK_SHIFT);
	struct store *store = open_new(vdev);
	static const uint8_t data[BLOCK_SIZE] = {1};
	uint32_t dense = METASLABS * METASLAB_BLOCKS * 3 / 4;

	(void)state;
	for (uint32_t i = 0; i < dense; i++)
		assert_int_equal(write_block(store, i), 0);
	for (uint32_t i = 0; i < 2 * OVERWRITES; i++) {
		uint64_t offset = (i / 4096 % 2 ? (uint64_t)i * 2654435761u % dense : i % dense) * BLOCK_SIZE;
		if (i % 4 == 1) /* which may take one metaslab more than a write */
			assert_int_equal(store_trim(store, offset, BLOCK_SIZE, true, NULL), 0);
		else
			assert_int_equal(store_write(store, offset, data, sizeof(data), true, NULL), 0);
	}
	assert_int_equal(store_close(store), 0);
	vdev_close(vdev);
}

static struct background background_of(struct store *store)
{
	struct store_stats stats;

	store_stats(store, &stats);
	return stats.background;
}

/* Nobody calls the background when it is woken: all that is written until then is its lateness. */
static void how_late_the_background_is_is_counted(void **state)
{
	enum { LATE = 400 };
	struct vdev *vdev = vdev_memory_new((uint64_t)(BASE + METASLABS * METASLAB_BLOCKS) << BLOCK_SHIFT);
	struct store *store = open_new(vdev);
	static const uint8_t data[BLOCK_SIZE] = {1};
	struct background before;
	uint32_t due = METASLABS * METASLAB_BLOCKS / 4; /* blocks in written records */

	(void)state;
	for (uint32_t i = 0; !background_of(store).units; i++) {
		assert_true(i < due + RECORD_ENTRIES);
		assert_int_equal(write_block(store, i), 0);
	}
	before = background_of(store); /* a checkpoint, begun at once; the next is due after as much again */
	assert_int_equal(before.late_blocks, 0);
	for (uint32_t i = 0; i < due + LATE; i++)
		assert_int_equal(store_write(store, (uint64_t)i * BLOCK_SIZE, data, sizeof(data), false, NULL), 0);
	assert_int_equal(store_step(store), 1);
	assert_int_equal(background_of(store).units, before.units + 1);
	assert_in_range(background_of(store).late_blocks, LATE - RECORD_ENTRIES, LATE + RECORD_ENTRIES);
	store_abandon(store);
	vdev_close(vdev);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_full_of_new_pages_can_be_overwritten),
					   cmocka_unit_test(one_checkpoint_may_follow_another),
					   cmocka_unit_test(a_writer_alone_always_gets_room),
					   cmocka_unit_test(how_late_the_background_is_is_counted)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
