/* SPDX-License-Identifier: Apache-2.0 */
/* Errors reach whoever asked, and leave behind what was there before. */
#include "pool_fixture.h"
#include "store/state.h"

/* From now on nothing can be written into the roots of this partition. */
static void fail_roots(struct fixture *f, const char *name)
{
	const struct layout *l = &f->pool->layout;
	uint32_t slot = part_named(f->pool, name)->slot;
	for (unsigned copy = 0; copy < COPIES; copy++)
		simdisk_add_fault(f->disk, &(struct simdisk_fault){
						   .kind = SIMDISK_WRITE,
						   .forever = true,
						   .offset = layout_root_block(l, copy, slot, 0) * BLOCK_SIZE,
						   .length = 2 * BLOCK_SIZE,
						   .error = LCPFS_E_IO,
					   });
}

/* Whoever's error it is, and whoever else can be closed: it is told, and the pool counts as not closed. */
static void what_could_not_be_closed_is_told(void **state)
{
	static const char *const names[] = {"a", "b", "c"};
	struct fixture f;
	(void)state;
	for (unsigned failing = 0; failing < ARRAY_LENGTH(names); failing++) {
		fixture_new(&f, 64 * MB);
		for (unsigned i = 0; i < ARRAY_LENGTH(names); i++) {
			assert_int_equal(fixture_add(&f, names[i], LEAST, LEAST, LEAST), 0);
			assert_int_equal(fixture_write(&f, names[i], 0, 50, i), 0);
		}
		fail_roots(&f, names[failing]);
		assert_int_equal(fixture_close(&f), -LCPFS_E_IO);
		assert_non_null(strstr(f.failure.message, names[failing]));
		simdisk_clear_faults(f.disk);
		assert_int_equal(fixture_open(&f, true), 0);
		assert_true(f.pool->was_open);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_open(&f, false), 0);
		for (unsigned i = 0; i < ARRAY_LENGTH(names); i++)
			fixture_expect(&f, names[i], 0, 50, i);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_check(&f, true), 0);
		fixture_done(&f);
	}
}

static void a_failed_flush_shows_in_the_status(void **state)
{
	struct lcpfs_pool_info info;
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, LEAST, LEAST), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, LEAST, LEAST), 0);
	assert_int_equal(lcpfs_pool_get_info(f.pool, &info), 0);
	assert_int_equal(info.health, LCPFS_HEALTH_ONLINE);
	simdisk_add_fault(f.disk, &(struct simdisk_fault){.kind = SIMDISK_FLUSH, .error = LCPFS_E_IO});
	assert_int_not_equal(fixture_write(&f, "a", 0, 1, 1), 0);
	assert_int_equal(lcpfs_pool_get_info(f.pool, &info), 0);
	assert_int_equal(info.health, LCPFS_HEALTH_FAULTED);
	assert_non_null(strstr(info.health_text, "flush"));
	assert_int_not_equal(fixture_write(&f, "b", 0, 1, 1), 0); /* nobody knows whose writes are lost */
	assert_int_not_equal(fixture_write(&f, "a", 0, 1, 1), 0);
	pool_abandon(f.pool);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 1, 2), 0);
	fixture_expect(&f, "a", 0, 1, 2);
	fixture_done(&f);
}

/* Shrinks "a", while nothing can be written into so many blocks of the areas. */
static uint32_t shrink_in_vain(struct fixture *f, uint64_t area_block, uint64_t blocks)
{
	const struct layout *l = &f->pool->layout;
	struct store_stats stats;
	assert_int_equal(fixture_add(f, "a", LEAST, 3 * LEAST, 3 * LEAST), 0);
	simdisk_add_fault(f->disk, &(struct simdisk_fault){
					   .kind = SIMDISK_WRITE,
					   .forever = true,
					   .offset = layout_area_block(l, 0, area_block) * BLOCK_SIZE,
					   .length = blocks * BLOCK_SIZE,
					   .error = LCPFS_E_IO,
				   });
	assert_int_not_equal(fixture_resize(f, "a", 2 * LEAST), 0);
	simdisk_clear_faults(f->disk);
	struct part *part = part_named(f->pool, "a");
	store_stats(part->store, &stats);
	assert_int_equal(part->metaslabs, 3 * LEAST / MB);
	return stats.metaslabs;
}

/* Where its transaction did not happen it is given back; where it may have happened, nobody uses it. */
static void what_a_failed_move_took_is_given_back_or_nobodys(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(shrink_in_vain(&f, AREA_PAGES, 2 * layout_page_count(&f.pool->layout)), 3 * LEAST / MB);
	fixture_invariants(&f);
	fixture_done(&f);
	fixture_new(&f, 64 * MB);
	assert_true(shrink_in_vain(&f, AREA_UBERBLOCKS, UBERBLOCK_SLOTS) < 3 * LEAST / MB);
	fixture_done(&f);
}

static bool give_up(void *context, uint64_t done, uint64_t total)
{
	(void)context;
	(void)total;
	return done < 2;
}

/* To get there its limits are widened; who gives up half way has the old ones. */
static void a_change_that_failed_leaves_the_old_limits(void **state)
{
	struct lcpfs_partition_change change = {.min_bytes = 2 * MB, .max_bytes = 4 * MB, .thin = true};
	struct lcpfs_partition_info after;
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", 2 * LEAST, 4 * LEAST, 4 * LEAST), 0);
	struct lcpfs_partition_info before = fixture_info(&f, "a");
	assert_int_equal(lcpfs_partition_set(f.pool, "a", &change, give_up, NULL, &after, &f.failure),
			 -LCPFS_E_STOPPED);
	after = fixture_info(&f, "a");
	assert_int_equal(after.min_size_blocks, before.min_size_blocks);
	assert_int_equal(after.max_size_blocks, before.max_size_blocks);
	assert_int_equal(after.min_data_blocks, before.min_data_blocks);
	assert_true(after.size_blocks < before.size_blocks); /* that far it came */
	fixture_invariants(&f);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	after = fixture_info(&f, "a");
	assert_int_equal(after.min_size_blocks, before.min_size_blocks);
	assert_int_equal(after.max_size_blocks, before.max_size_blocks);
	fixture_done(&f);
}

/* To the last byte: the end of the volume may lie amid a block, and a write at its end amid that. */
static void no_byte_is_cut_off(void **state)
{
	struct lcpfs_partition_change change = {.volume_bytes = MB - 100, .thin = true};
	struct lcpfs_partition *partition;
	struct lcpfs_partition_info info;
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", 2 * LEAST, 2 * LEAST, 2 * LEAST), 0);
	assert_int_equal(lcpfs_partition_open(f.pool, "a", &partition, &f.failure), 0);
	assert_int_equal(lcpfs_volume_write(partition, MB - 1, "x", 1, true, &f.failure), 0);
	lcpfs_partition_close(partition);
	assert_int_equal(lcpfs_partition_set(f.pool, "a", &change, NULL, NULL, &info, &f.failure),
			 -LCPFS_E_TOO_SMALL);
	change.volume_bytes = MB;
	assert_int_equal(lcpfs_partition_set(f.pool, "a", &change, NULL, NULL, &info, &f.failure), 0);
	assert_int_equal(info.volume_bytes, MB);
	fixture_done(&f);
}

/* All of it, and not only what can be derived from the rest. */
static void what_was_set_is_kept(void **state)
{
	struct lcpfs_partition_change change = {.new_name = "b",
						.min_bytes = 3 * MB,
						.max_bytes = 9 * MB,
						.volume_bytes = 5 * MB - 1000,
						.thin = true,
						.when_full_given = true,
						.when_full_wait_s = 77};
	struct lcpfs_partition_info set;
	struct fixture f;
	(void)state;
	fixture_new(&f, 128 * MB);
	assert_int_equal(fixture_add(&f, "a", 2 * LEAST, 2 * LEAST, 4 * LEAST), 0);
	assert_int_equal(lcpfs_partition_set(f.pool, "a", &change, NULL, NULL, &set, &f.failure), 0);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	struct lcpfs_partition_info kept = fixture_info(&f, "b");
	assert_int_equal(kept.volume_bytes, 5 * MB - 1000);
	assert_int_equal(kept.when_full_wait_s, 77);
	assert_int_equal(kept.min_data_blocks, 3 * MB / BLOCK_SIZE);
	assert_int_equal(kept.max_data_blocks, 9 * MB / BLOCK_SIZE);
	assert_int_equal(kept.min_size_blocks, set.min_size_blocks);
	assert_int_equal(kept.max_size_blocks, set.max_size_blocks);
	assert_int_equal(kept.volume_blocks, set.volume_blocks);
	assert_int_equal(fixture_close(&f), 0);
	fixture_done(&f);
}

/* A defect of ours, and no rot. What is on the device is whole. */
static void what_contradicts_itself_stops_the_partition(void **state)
{
	struct lcpfs_partition *p;
	struct lcpfs_pool_info info;
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, LEAST, LEAST), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 50, 1), 0);
	struct store *s = part_named(f.pool, "a")->store;
	store_lock(s);
	s->data_blocks = 0; /* and yet one is freed */
	store_unlock(s);
	assert_int_equal(lcpfs_partition_open(f.pool, "a", &p, NULL), 0);
	assert_int_equal(lcpfs_volume_trim(p, 0, BLOCK_SIZE, false, &f.failure), -LCPFS_E_FAULTED);
	assert_int_equal(lcpfs_volume_write(p, 0, "x", 1, true, &f.failure), -LCPFS_E_FAULTED);
	lcpfs_partition_close(p);
	assert_int_equal(lcpfs_pool_get_info(f.pool, &info), 0);
	assert_int_equal(info.health, LCPFS_HEALTH_DEGRADED);
	assert_non_null(strstr(info.health_text, "contradicts"));
	pool_abandon(f.pool);
	assert_int_equal(fixture_open(&f, false), 0);
	fixture_expect(&f, "a", 0, 50, 1);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_could_not_be_closed_is_told),
		cmocka_unit_test(a_failed_flush_shows_in_the_status),
		cmocka_unit_test(what_a_failed_move_took_is_given_back_or_nobodys),
		cmocka_unit_test(a_change_that_failed_leaves_the_old_limits),
		cmocka_unit_test(no_byte_is_cut_off),
		cmocka_unit_test(what_was_set_is_kept),
		cmocka_unit_test(what_contradicts_itself_stops_the_partition),
	};
	return cmocka_run_group_tests_name("pool_errors", tests, NULL, NULL);
}
