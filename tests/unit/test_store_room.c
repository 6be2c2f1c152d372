/* SPDX-License-Identifier: Apache-2.0 */
/* What a partition holds can be overwritten for ever, however full it is; and what its size promises, it holds. */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/hash.h"
#include "format/format.h"
#include "store/room.h"
#include "store/store.h"
#include "tests/disk/memory.h"

enum { BASE = 16, METASLAB_BLOCKS = 256, METASLABS = 48, VOLUME_BLOCKS = 1 << 20, OVERWRITES = 20000 };

static uint64_t no_time(void *context)
{
	(void)context;
	return 0;
}

static const struct clock clock_still = {.now_us = no_time, .wall_s = no_time};

static const struct store_config template = {
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

static const uint32_t *numbers(void)
{
	static uint32_t metaslabs[METASLABS];
	for (uint32_t i = 0; i < METASLABS; i++)
		metaslabs[i] = i;
	return metaslabs;
}

static struct store *open_again(struct vdev *vdev, const uint32_t *metaslabs, uint32_t count)
{
	struct store_config config = template;
	struct lcpfs_failure failure;
	struct store *store;
	config.vdev = vdev;
	assert_int_equal(store_open(&config, metaslabs, count, &store, &failure), 0);
	return store;
}

static struct store *open_sized(struct vdev *vdev, uint32_t count)
{
	struct store_config config = template;
	config.vdev = vdev;
	assert_int_equal(store_format(&config, VOLUME_BLOCKS, numbers(), count), 0);
	return open_again(vdev, numbers(), count);
}

static struct vdev *new_vdev(void)
{
	return vdev_memory_new((uint64_t)(BASE + METASLABS * METASLAB_BLOCKS) << BLOCK_SHIFT);
}

static struct store *open_new(struct vdev *vdev)
{
	return open_sized(vdev, METASLABS);
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
	struct vdev *vdev = new_vdev();
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
	struct vdev *vdev = new_vdev();
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
 * With a table of several regions, each step of a checkpoint leaves metaslabs of the table behind that are
 * partly filled: it takes more of them than it gives back. Steps that follow each other may not use up what
 * cleaning, or the next step, needs; and the size that was promised has to do.
 */
static void steps_leave_room_for_the_next(void **state)
{
	enum { SMALL_BLOCKS = 32, DATA_BLOCKS = 20000, WRITES = 8000, CHUNK = 50 };
	static const uint8_t data[CHUNK * BLOCK_SIZE] = {1};
	struct store_config config = template;
	struct lcpfs_failure failure;
	struct store *store;

	(void)state;
	config.metaslab_blocks = SMALL_BLOCKS;
	uint32_t count = config.metaslab_count = store_metaslabs_for(&config, DATA_BLOCKS);
	uint32_t *metaslabs = calloc(count, sizeof(*metaslabs));
	config.vdev = vdev_memory_new((BASE + (uint64_t)count * SMALL_BLOCKS) << BLOCK_SHIFT);
	for (uint32_t i = 0; i < count; i++)
		metaslabs[i] = i;
	assert_int_equal(store_format(&config, DATA_BLOCKS, metaslabs, count), 0);
	assert_int_equal(store_open(&config, metaslabs, count, &store, &failure), 0);
	for (uint64_t i = 0; i < DATA_BLOCKS; i += CHUNK)
		assert_int_equal(store_write(store, i * BLOCK_SIZE, data, sizeof(data), false, &failure), 0);
	for (uint64_t i = 0; i < WRITES; i++) {
		uint64_t offset = hash_mix(i) % DATA_BLOCKS * BLOCK_SIZE;
		assert_int_equal(store_write(store, offset, data, BLOCK_SIZE, false, &failure), 0);
	}
	assert_int_equal(store_close(store), 0);
	vdev_close(config.vdev);
	free(metaslabs);
}

/*
 * Cleaning fills the last metaslab that it may take. What it empties has to be more than that, or nothing can be
 * cleaned any more although much of the space is free.
 */
static void a_writer_alone_always_gets_room(void **state)
{
	struct vdev *vdev = new_vdev();
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
	struct vdev *vdev = new_vdev();
	struct store *store = open_new(vdev);
	static const uint8_t data[BLOCK_SIZE] = {1};
	uint32_t due = METASLABS * METASLAB_BLOCKS / 4; /* blocks in written records */

	(void)state;
	for (uint32_t i = 0; !background_of(store).units; i++) {
		assert_true(i < due + RECORD_BLOCKS_MAX);
		assert_int_equal(write_block(store, i), 0);
	}
	struct background before =
		background_of(store); /* a checkpoint, begun at once; the next is due after as much again */
	assert_int_equal(before.late_blocks, 0);
	for (uint32_t i = 0; i < due + LATE; i++)
		assert_int_equal(store_write(store, (uint64_t)i * BLOCK_SIZE, data, sizeof(data), false, NULL), 0);
	assert_int_equal(store_step(store), 1);
	assert_int_equal(background_of(store).units, before.units + 1);
	assert_in_range(background_of(store).late_blocks, LATE - RECORD_BLOCKS_MAX, LATE + RECORD_BLOCKS_MAX);
	store_abandon(store);
	vdev_close(vdev);
}

/* -- what a size promises -- */

static uint64_t limit_of(struct store *store, uint32_t metaslabs)
{
	store_lock(store);
	uint64_t limit = room_limit(store, metaslabs);
	store_unlock(store);
	return limit;
}

static uint64_t live_of(struct store *store)
{
	store_lock(store);
	uint64_t live = room_live(store);
	store_unlock(store);
	return live;
}

/* A larger partition holds at least as much: what may be given back is looked for by that. */
static void check_limits(struct store *store, uint32_t most)
{
	for (uint32_t i = 1; i < most; i++) {
		if (limit_of(store, i) > limit_of(store, i + 1))
			fail_msg("%u metaslabs hold %u sectors, %u hold %u", i, (unsigned)limit_of(store, i),
				 i + 1, (unsigned)limit_of(store, i + 1));
	}
	assert_true(limit_of(store, most) <= (uint64_t)most * METASLAB_BLOCKS * BLOCK_SECTORS);
	assert_true(limit_of(store, most) > 0);
}

static void a_larger_partition_holds_no_less(void **state)
{
	struct vdev *vdev = new_vdev();
	struct store *store = open_new(vdev);
	(void)state;
	check_limits(store, 20000);
	for (uint32_t i = 0; i < 4000; i++)
		assert_int_equal(write_block(store, i), 0);
	assert_int_equal(store_checkpoint(store), 0);
	check_limits(store, 20000);
	store_abandon(store);
	vdev_close(vdev);
}

/* A block written costs at most itself, its page, and its share of the table. */
static void a_block_costs_no_more_than_its_share(void **state)
{
	struct vdev *vdev = new_vdev();
	struct store *store = open_new(vdev);
	(void)state;
	for (uint32_t i = 0; i < 600; i++) {
		uint64_t before = live_of(store);
		assert_int_equal(write_block(store, i * VOLUME_SLOTS), 0);
		/* Four pages of the table at the most. */
		assert_true(live_of(store) - before <= (3 + 2 * 4) * BLOCK_SECTORS);
	}
	store_abandon(store);
	vdev_close(vdev);
}

/* What a checkpoint writes was counted when it came to be: it makes nothing larger but for a few pages above. */
static void a_checkpoint_takes_what_was_counted(void **state)
{
	enum { LEAVES = 30 };
	struct vdev *vdev = new_vdev();
	struct store *store = open_new(vdev);
	static const uint8_t data[BLOCK_SIZE] = {1};

	(void)state;
	for (uint64_t i = 0; i < LEAVES * TABLE_SLOTS; i++)
		assert_int_equal(store_write(store, i * BLOCK_SIZE, data, sizeof(data), false, NULL), 0);
	for (uint64_t i = 0; i < LEAVES; i++) /* leaves that hardly hold anything */
		assert_int_equal(store_trim(store, i * TABLE_SLOTS * BLOCK_SIZE,
					    (TABLE_SLOTS - 1) * BLOCK_SIZE, false, NULL), 0);
	uint64_t before = live_of(store);
	assert_int_equal(store_checkpoint(store), 0);
	assert_true(live_of(store) <= before + 3 * 4 * BLOCK_SECTORS);
	store_abandon(store);
	vdev_close(vdev);
}

/* Blocks far apart: each needs a page of the volume, too, which lies there twice. */
static void what_is_taken_fits_with_its_page(void **state)
{
	(void)state;
	for (uint32_t size = STORE_METASLABS_MIN; size < STORE_METASLABS_MIN + 8; size++) {
		struct vdev *vdev = new_vdev();
		struct store *store = open_sized(vdev, size);
		const uint64_t apart = VOLUME_SLOTS * BLOCK_SIZE;
		static const uint8_t data[BLOCK_SIZE] = {1};
		uint64_t pages = 0, sparse = 0;
		while (!store_write(store, sparse++ * apart, data, sizeof(data), false, NULL)) {
			uint64_t now = store->table.pages + store->table.fresh;
			if (now == pages) /* else it may be more by these */
				assert_true(live_of(store) <= limit_of(store, size) + BLOCK_SECTORS / 2);
			pages = now;
			while (store_step(store) > 0)
				;
		}
		assert_true(sparse > 80);
		store_abandon(store);
		vdev_close(vdev);
	}
}

/* In this order blocks lie in `spread` leaves at a time. */
static uint32_t block_at(uint32_t i, uint32_t spread)
{
	return i % spread * VOLUME_SLOTS + i / spread;
}

static uint32_t fill(struct store *store, uint32_t spread)
{
	uint32_t count = 0;
	while (!write_block(store, block_at(count, spread)))
		count++;
	return count;
}

/*
 * A page of the table counts when it is made: a leaf with the block that begins it, those above when a
 * checkpoint comes to them. So much more than the limit may be live then, and so many blocks may not fit any more.
 */
enum { PAGE_BLOCKS = 3 };

static void assert_full(struct store *store, uint32_t size)
{
	assert_true(live_of(store) <= limit_of(store, size) + PAGE_BLOCKS * BLOCK_SECTORS);
	assert_true(live_of(store) + 4 * BLOCK_SECTORS > limit_of(store, size));
}

static void trim_blocks(struct store *store, uint32_t from, uint32_t to, uint32_t spread)
{
	for (uint32_t i = from; i < to; i++)
		assert_int_equal(
			store_trim(store, (uint64_t)block_at(i, spread) * BLOCK_SIZE, BLOCK_SIZE, false, NULL), 0);
}

/* Full as it can be: all that takes no room goes on, and what was trimmed can be written anew. */
static void use_full(struct store *store, uint32_t count, uint32_t spread, uint32_t seed)
{
	uint32_t trimmed = count / 8;
	for (uint32_t i = 0; i < 2 * count; i++) {
		uint32_t at = (uint32_t)(hash_mix(i + seed) % count);
		if (at + PAGE_BLOCKS < count)
			assert_int_equal(write_block(store, block_at(at, spread)), 0);
		if (i % 500 == 0)
			assert_int_equal(store_checkpoint(store), 0);
	}
	trim_blocks(store, count - trimmed, count, spread);
	for (uint32_t i = count - trimmed; i + PAGE_BLOCKS < count; i++)
		assert_int_equal(write_block(store, block_at(i, spread)), 0);
	for (uint32_t i = count - PAGE_BLOCKS; i < count; i++)
		(void)!write_block(store, block_at(i, spread));
	assert_int_equal(store_checkpoint(store), 0);
}

static void fill_and_use(uint32_t size, uint32_t spread)
{
	struct vdev *vdev = new_vdev();
	struct store *store = open_sized(vdev, size);
	uint32_t count = fill(store, spread);
	assert_true(count > 0);
	assert_full(store, size);
	use_full(store, count, spread, size);
	assert_int_equal(store_flush(store, NULL), 0);
	store_abandon(store); /* as a crash leaves it */
	store = open_again(vdev, numbers(), size);
	use_full(store, count, spread, size + 1);
	trim_blocks(store, 0, count, spread);
	assert_int_equal(store_checkpoint(store), 0);
	/* And all over again, but for runs of ids here and there. */
	assert_true(fill(store, spread) >= count - count / 64);
	assert_int_equal(store_close(store), 0);
	vdev_close(vdev);
}

static void a_full_partition_of_any_size_goes_on(void **state)
{
	static const uint32_t sizes[] = {STORE_METASLABS_MIN, 7, 9, 15, 16, 17, 20};
	(void)state;
	for (unsigned i = 0; i < ARRAY_LENGTH(sizes); i++) {
		fill_and_use(sizes[i], 1);
		fill_and_use(sizes[i], 64);
	}
}

/* -- what is left -- */

static struct store_stats stats_of(struct store *store)
{
	struct store_stats stats;
	store_stats(store, &stats);
	return stats;
}

static uint32_t kept(struct store *store)
{
	store_lock(store);
	uint32_t metaslabs = room_kept(store, USER_WRITE);
	store_unlock(store);
	return metaslabs;
}

/*
 * Three quarters full and overwritten all over: who gives metaslabs away cleans for them, and leaves writers what
 * the background has ready for them, and as much again. No more is said to be copied for it than was copied.
 */
static void what_writers_need_soon_is_not_given(void **state)
{
	enum { LIVE = METASLABS * METASLAB_BLOCKS * 6 / 10, LEFT = 2 * PLAN_AHEAD_MOST };
	struct vdev *vdev = new_vdev();
	struct store *store = open_new(vdev);
	uint32_t written = 0, gone;
	(void)state;
	for (; written < LIVE + OVERWRITES; written++)
		assert_int_equal(
			write_block(store, (uint32_t)(written < LIVE ? written : hash_mix(written) % LIVE)), 0);
	struct store_stats before = stats_of(store), now;
	uint64_t all = 0;
	for (unsigned i = 0; i < 4; i++) {
		assert_int_equal(store_release(store, &gone), 0);
		now = stats_of(store);
		assert_true(now.empty >= kept(store) + LEFT);
		all = now.counters.copied_blocks - before.counters.copied_blocks;
		assert_true(now.release_copied_blocks <= all);
	}
	assert_true(now.release_copied_blocks > all / 2 && now.release_copied_blocks < all);
	for (unsigned i = 0; i < METASLAB_BLOCKS; i++, written++)
		assert_int_equal(write_block(store, (uint32_t)(hash_mix(written) % LIVE)), 0);
	assert_int_equal(store_close(store), 0);
	vdev_close(vdev);
}

/* -- the least size -- */

/* Gives back all that can be given; how many are left. */
static uint32_t shrink(struct store *store, uint32_t *left, uint32_t count)
{
	uint32_t gone;
	while (store_release(store, &gone) == 0) {
		uint32_t at = 0;
		while (left[at] != gone)
			assert_true(++at < count);
		left[at] = left[--count];
	}
	return count;
}

static void shrink_and_use(uint32_t blocks)
{
	struct vdev *vdev = new_vdev();
	struct store *store = open_new(vdev);
	uint32_t left[METASLABS];
	memcpy(left, numbers(), sizeof(left));
	for (uint32_t i = 0; i < blocks; i++)
		assert_int_equal(write_block(store, i), 0);
	assert_int_equal(store_checkpoint(store), 0);
	uint32_t least = store_size_least(store);
	assert_true(limit_of(store, least) >= live_of(store));
	assert_true(least == STORE_METASLABS_MIN || limit_of(store, least - 1) < live_of(store));
	uint32_t count = shrink(store, left, METASLABS);
	/* Its table may have become a little larger or smaller on the way. */
	assert_in_range(count, least, least + 1);
	for (uint32_t i = 0; i < 4 * blocks; i++)
		assert_int_equal(write_block(store, (uint32_t)(hash_mix(i) % blocks)), 0);
	assert_int_equal(store_close(store), 0);
	store = open_again(vdev, left, count);
	for (uint32_t i = 0; i < blocks; i++)
		assert_int_equal(write_block(store, i), 0);
	assert_int_equal(store_close(store), 0);
	vdev_close(vdev);
}

static void in_the_least_size_everything_goes_on(void **state)
{
	static const uint32_t blocks[] = {1, 300, 1500, 3000, 6000};
	(void)state;
	for (unsigned i = 0; i < ARRAY_LENGTH(blocks); i++)
		shrink_and_use(blocks[i]);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(what_is_full_of_new_pages_can_be_overwritten),
					   cmocka_unit_test(one_checkpoint_may_follow_another),
					   cmocka_unit_test(steps_leave_room_for_the_next),
					   cmocka_unit_test(a_writer_alone_always_gets_room),
					   cmocka_unit_test(how_late_the_background_is_is_counted),
					   cmocka_unit_test(a_larger_partition_holds_no_less),
					   cmocka_unit_test(a_block_costs_no_more_than_its_share),
					   cmocka_unit_test(a_checkpoint_takes_what_was_counted),
					   cmocka_unit_test(what_is_taken_fits_with_its_page),
					   cmocka_unit_test(a_full_partition_of_any_size_goes_on),
					   cmocka_unit_test(what_writers_need_soon_is_not_given),
					   cmocka_unit_test(in_the_least_size_everything_goes_on)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
