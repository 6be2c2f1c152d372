/* SPDX-License-Identifier: Apache-2.0 */
/* Pools on a simulated disk, single-threaded, with the clock in the tests' hands: what each call promises. */
#include "pool_fixture.h"
#include "store/state.h"

/* -- adding and removing -- */

static void partitions_are_kept_over_a_restart(void **state)
{
	struct fixture f;
	struct lcpfs_partition_info info;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 6 * MB + 1, 9 * MB - 1), 0);
	assert_int_equal(fixture_add(&f, "b", 9 * MB, 0, 20 * MB), 0);
	for (int i = 0; i < 2; i++) {
		info = fixture_info(&f, "a");
		assert_int_equal(info.id, 1);
		assert_int_equal(info.min_size_blocks, LEAST / BLOCK_SIZE);
		assert_int_equal(info.size_blocks, 7 * MB / BLOCK_SIZE);
		assert_int_equal(info.max_size_blocks, 8 * MB / BLOCK_SIZE);
		assert_int_equal(info.volume_blocks, 9 * MB / BLOCK_SIZE); /* whole blocks of what was asked for */
		info = fixture_info(&f, "b");
		assert_int_equal(info.id, 2);
		assert_int_equal(info.size_blocks, 9 * MB / BLOCK_SIZE);
		fixture_invariants(&f);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_open(&f, false), 0);
	}
	fixture_done(&f);
}

static void ids_are_never_used_again(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 0, 8 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, 0, 8 * MB), 0);
	assert_int_equal(lcpfs_partition_remove(f.pool, "b", NULL), 0);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, 0, 8 * MB), 0);
	assert_int_equal(fixture_info(&f, "b").id, 3);
	fixture_expect(&f, "a", 0, 0, 0);
	fixture_done(&f);
}

static void expect_refusal(struct fixture *f, const char *name, uint64_t min, uint64_t size, uint64_t max,
			   int error, const char *words)
{
	uint64_t txg = le64_get(f->pool->uberblock.txg), free = fixture_free(f);
	assert_int_equal(fixture_add(f, name, min, size, max), error);
	if (!strstr(f->failure.message, words))
		fail_msg("\"%s\" does not say \"%s\"", f->failure.message, words);
	assert_int_equal(le64_get(f->pool->uberblock.txg), txg);
	assert_int_equal(fixture_free(f), free);
}

static void impossible_partitions_are_refused(void **state)
{
	static const char *const names[] = {"", ".a", "-a", "a b", "a/b", "ä", "a\n"};
	char name[66];
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", 40 * MB, 0, 50 * MB), 0);
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++)
		expect_refusal(&f, names[i], LEAST, 0, 8 * MB, -LCPFS_E_INVALID, "name");
	memset(name, 'n', sizeof(name));
	name[64] = '\0';
	expect_refusal(&f, name, LEAST, 0, 8 * MB, -LCPFS_E_INVALID, "name");
	expect_refusal(&f, NULL, LEAST, 0, 8 * MB, -LCPFS_E_INVALID, "name");
	expect_refusal(&f, "a", LEAST, 0, 8 * MB, -LCPFS_E_EXISTS, "exists");
	expect_refusal(&f, "b", 8 * MB, 0, LEAST, -LCPFS_E_INVALID, "min is larger than max");
	expect_refusal(&f, "b", LEAST, 3 * MB, 8 * MB, -LCPFS_E_INVALID, "between");
	expect_refusal(&f, "b", LEAST, 9 * MB, 8 * MB, -LCPFS_E_INVALID, "between");
	expect_refusal(&f, "b", 1 * MB, 0, 8 * MB, -LCPFS_E_INVALID, "at least 6M");
	expect_refusal(&f, "b", LEAST + 1, 0, LEAST + MB - 1, -LCPFS_E_INVALID, "whole metaslabs");
	expect_refusal(&f, "b", 23 * MB, 0, 30 * MB, -LCPFS_E_NOSPC, "room left for a min of 14M");
	expect_refusal(&f, "b", LEAST, 23 * MB, 30 * MB, -LCPFS_E_NOSPC, "only 22M");
	expect_refusal(&f, "b", UINT64_MAX - 1, 0, UINT64_MAX, -LCPFS_E_INVALID, "whole");
	expect_refusal(&f, "b", UINT64_C(1) << 60, 0, UINT64_C(2) << 60, -LCPFS_E_INVALID, "volume");
	expect_refusal(&f, "b", LEAST, UINT64_MAX, UINT64_MAX, -LCPFS_E_INVALID, "");
	name[63] = '\0';
	assert_int_equal(fixture_add(&f, name, LEAST, 0, 22 * MB), 0);
	assert_int_equal(fixture_add(&f, "A-z_0.9", 22 * MB - LEAST, 0, 22 * MB), 0);
	assert_int_equal(fixture_free(&f), 0);
	fixture_invariants(&f);
	fixture_done(&f);
}

static void all_slots_can_be_used(void **state)
{
	struct fixture f;
	char name[16];
	(void)state;
	fixture_new(&f, 128 * MB);
	for (unsigned i = 0; i < 16; i++) {
		snprintf(name, sizeof(name), "p%u", i);
		assert_int_equal(fixture_add(&f, name, LEAST, 0, 8 * MB), 0);
	}
	expect_refusal(&f, "more", LEAST, 0, 8 * MB, -LCPFS_E_NOSPC, "all the 16 partitions");
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(fixture_info(&f, "p15").id, 16);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	fixture_done(&f);
}

static void a_partition_in_use_is_not_removed(void **state)
{
	struct lcpfs_partition *partition;
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 0, 8 * MB), 0);
	assert_int_equal(lcpfs_partition_open(f.pool, "a", &partition, NULL), 0);
	assert_int_equal(lcpfs_partition_remove(f.pool, "a", &f.failure), -LCPFS_E_BUSY);
	assert_non_null(strstr(f.failure.message, "1 client;"));
	lcpfs_partition_close(partition);
	assert_int_equal(lcpfs_partition_remove(f.pool, "a", &f.failure), 0);
	assert_int_equal(fixture_free(&f), 62 * MB);
	assert_int_equal(lcpfs_partition_remove(f.pool, "a", &f.failure), -LCPFS_E_NOT_FOUND);
	assert_int_equal(lcpfs_partition_open(f.pool, "a", &partition, &f.failure), -LCPFS_E_NOT_FOUND);
	assert_null(partition);
	fixture_invariants(&f);
	fixture_done(&f);
}

static void removed_space_is_discarded(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 10 * MB, 10 * MB), 0);
	uint64_t before = simdisk_counts(f.disk)->discarded_bytes;
	assert_int_equal(lcpfs_partition_remove(f.pool, "a", NULL), 0);
	assert_int_equal(simdisk_counts(f.disk)->discarded_bytes - before, 10 * MB);
	assert_int_equal(map_available(f.pool), 62);
	fixture_done(&f);
}

/* -- I/O -- */

static void ranges_outside_of_the_volume_are_refused(void **state)
{
	struct lcpfs_partition *p;
	uint8_t bytes[BLOCK_SIZE] = {0};
	struct fixture f;
	bool data;
	uint64_t end;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 0, 8 * MB), 0);
	assert_int_equal(lcpfs_partition_open(f.pool, "a", &p, NULL), 0);
	assert_int_equal(lcpfs_volume_bytes(p), 8 * MB);
	assert_int_equal(lcpfs_volume_write(p, 8 * MB - BLOCK_SIZE, bytes, BLOCK_SIZE, true, NULL), 0);
	assert_int_equal(lcpfs_volume_write(p, 8 * MB - 1, bytes, 2, false, &f.failure), -LCPFS_E_RANGE);
	assert_int_equal(lcpfs_volume_read(p, 8 * MB + 1, bytes, 1, &f.failure), -LCPFS_E_RANGE);
	assert_int_equal(lcpfs_volume_read(p, UINT64_MAX, bytes, 2, &f.failure), -LCPFS_E_RANGE);
	assert_int_equal(lcpfs_volume_trim(p, 1, UINT64_MAX, false, &f.failure), -LCPFS_E_RANGE);
	assert_int_equal(lcpfs_volume_extent(p, 9 * MB, 1, &data, &end), -LCPFS_E_RANGE);
	assert_int_equal(lcpfs_volume_read(p, 8 * MB, bytes, 0, NULL), 0);
	lcpfs_partition_close(p);
	fixture_done(&f);
}

/* A writer who waits for room writes in pieces: durable is what it wrote when the last of them is. */
static void a_write_in_pieces_is_durable_as_a_whole(void **state)
{
	static uint8_t bytes[MB];
	struct lcpfs_partition *p;
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 0, 8 * MB), 0);
	assert_int_equal(lcpfs_partition_open(f.pool, "a", &p, NULL), 0);
	struct lcpfs_write_wait wait = {.since_us = f.now_us};
	f.now_us += 10 * 1000000;
	assert_int_equal(lcpfs_volume_write_some(p, 0, bytes, sizeof(bytes), true, &wait, &f.failure), 0);
	assert_int_equal(wait.done, sizeof(bytes));
	const struct store *store = part_named(f.pool, "a")->store;
	assert_true(store->log.seq > 2 && store->log.durable == store->log.seq);
	lcpfs_partition_close(p);
	fixture_done(&f);
}

/* -- moving -- */

static void resizing_keeps_the_data(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 20 * MB, 40 * MB), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 1000, 1), 0);
	assert_int_equal(fixture_write(&f, "a", 500, 1000, 2), 0);
	assert_int_equal(fixture_resize(&f, "a", 40 * MB), 0);
	assert_int_equal(fixture_size(&f, "a"), 40 * MB);
	if (fixture_resize(&f, "a", 16 * MB - 5)) /* rounds up */
		fail_msg("%s", f.failure.message);
	assert_int_equal(fixture_size(&f, "a"), 16 * MB);
	assert_int_equal(fixture_free(&f), 46 * MB);
	fixture_expect(&f, "a", 0, 500, 1);
	fixture_expect(&f, "a", 500, 1000, 2);
	fixture_invariants(&f);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(fixture_size(&f, "a"), 16 * MB);
	fixture_expect(&f, "a", 0, 500, 1);
	fixture_expect(&f, "a", 500, 1000, 2);
	fixture_done(&f);
}

static void impossible_sizes_are_refused(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 20 * MB, 62 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, 20 * MB, 30 * MB), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 3000, 1), 0);
	assert_int_equal(fixture_resize(&f, "a", LEAST - MB), -LCPFS_E_TOO_SMALL);
	assert_non_null(strstr(f.failure.message, "min of"));
	assert_int_equal(fixture_resize(&f, "a", 63 * MB), -LCPFS_E_INVALID);
	assert_non_null(strstr(f.failure.message, "max of"));
	assert_int_equal(fixture_resize(&f, "a", UINT64_MAX), -LCPFS_E_INVALID);
	assert_int_equal(fixture_resize(&f, "a", 50 * MB), -LCPFS_E_NOSPC);
	assert_non_null(strstr(f.failure.message, "only 22M"));
	assert_int_equal(fixture_resize(&f, "c", 8 * MB), -LCPFS_E_NOT_FOUND);
	/* 3000 blocks are live: it says how small it can get, and that is true. */
	assert_int_equal(fixture_resize(&f, "a", LEAST), -LCPFS_E_TOO_SMALL);
	const char *needs = strstr(f.failure.message, "needs ");
	assert_non_null(needs);
	uint64_t least = fixture_info(&f, "a").least_size_blocks * BLOCK_SIZE;
	/* Of data: 3000 blocks, and what else fits into as many metaslabs. */
	assert_in_range(strtoull(needs + 6, NULL, 10), 12, 13);
	assert_int_equal(fixture_size(&f, "a"), 20 * MB);
	assert_int_equal(fixture_resize(&f, "a", least), 0);
	assert_int_equal(fixture_size(&f, "a"), least);
	fixture_expect(&f, "a", 0, 3000, 1);
	fixture_invariants(&f);
	fixture_done(&f);
}

/* It is about to be removed, and the engine has not been told. */
static void who_cannot_give_leaves_it_to_others(void **state)
{
	static const char *const givers[] = {"a", "b"};
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(givers); i++) {
		struct fixture f;
		fixture_new(&f, 64 * MB);
		assert_int_equal(fixture_add(&f, "a", LEAST, 20 * MB, 40 * MB), 0);
		assert_int_equal(fixture_add(&f, "b", LEAST, 20 * MB, 40 * MB), 0);
		assert_int_equal(fixture_add(&f, "c", LEAST, 20 * MB, 40 * MB), 0);
		assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, NULL), 0);
		part_named(f.pool, givers[i])->removing = true;
		if (fixture_resize(&f, "c", 28 * MB))
			fail_msg("%s gives nothing: %s", givers[i], f.failure.message);
		assert_int_equal(fixture_size(&f, givers[i]), 20 * MB);
		part_named(f.pool, givers[i])->removing = false;
		fixture_invariants(&f);
		fixture_done(&f);
	}
}

/* Nobody moves anything for the engine while the pool is being closed. */
static void what_the_pool_refuses_is_held_against_nobody(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 30 * MB, 40 * MB), 0);
	assert_int_equal(fixture_add(&f, "c", LEAST, 30 * MB, 40 * MB), 0);
	assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, NULL), 0);
	f.pool->stopping = true;
	assert_int_equal(fixture_resize(&f, "c", 38 * MB), -LCPFS_E_NOSPC);
	f.pool->stopping = false;
	if (fixture_resize(&f, "c", 38 * MB))
		fail_msg("%s", f.failure.message);
	fixture_invariants(&f);
	fixture_done(&f);
}

static bool stop_after_two(void *context, uint64_t done, uint64_t total)
{
	(void)context;
	assert_int_equal(total, 10);
	return done < 2;
}

static void a_resize_can_be_stopped(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 20 * MB, 30 * MB), 0);
	assert_int_equal(pool_resize_to_space(f.pool, "a", 10 * MB, stop_after_two, NULL, &f.failure),
			 -LCPFS_E_STOPPED);
	assert_int_equal(fixture_size(&f, "a"), 18 * MB);
	fixture_invariants(&f);
	fixture_done(&f);
}

static struct part *held(struct fixture *f, const char *name)
{
	struct part *part = part_named(f->pool, name);
	assert_non_null(part);
	part_hold(part);
	return part;
}

static void metaslabs_move_between_partitions(void **state)
{
	struct fixture f;
	struct move move;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", 8 * MB, 40 * MB, 40 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, 8 * MB, 15 * MB), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 1500, 1), 0);
	assert_int_equal(fixture_write(&f, "b", 0, 300, 2), 0);
	move = (struct move){.from = held(&f, "a"), .to = held(&f, "b"), .wanted = 100};
	assert_int_equal(move_run(&move, &f.failure), -LCPFS_E_INVALID);
	assert_non_null(strstr(f.failure.message, "b is at its max"));
	assert_int_equal(move.moved, 7);
	assert_int_equal(fixture_size(&f, "a"), 33 * MB);
	assert_int_equal(fixture_size(&f, "b"), 15 * MB);
	fixture_expect(&f, "a", 0, 1500, 1);
	fixture_expect(&f, "b", 0, 300, 2);
	assert_int_equal(fixture_write(&f, "b", 300, 1000, 2), 0); /* what it got can be used */
	move = (struct move){.from = move.from, .wanted = 100};
	assert_true(move_run(&move, &f.failure) == -LCPFS_E_TOO_SMALL);
	assert_true(fixture_size(&f, "a") >= 8 * MB);
	part_drop(part_named(f.pool, "a"));
	part_drop(part_named(f.pool, "b"));
	fixture_expect(&f, "a", 0, 1500, 1);
	fixture_invariants(&f);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	fixture_done(&f);
}

static void moves_stop_at_the_min(void **state)
{
	struct fixture f;
	struct move move;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", 10 * MB, 40 * MB, 40 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, LEAST, 30 * MB), 0);
	move = (struct move){.from = held(&f, "a"), .wanted = 20};
	assert_int_equal(move_run(&move, &f.failure), 0);
	assert_int_equal(fixture_size(&f, "a"), 20 * MB);
	move = (struct move){.from = move.from, .to = held(&f, "b"), .wanted = 20};
	assert_int_equal(move_run(&move, &f.failure), -LCPFS_E_TOO_SMALL);
	assert_non_null(strstr(f.failure.message, "a is at its min"));
	assert_int_equal(fixture_size(&f, "a"), 10 * MB);
	assert_int_equal(fixture_size(&f, "b"), LEAST + 10 * MB);
	part_drop(part_named(f.pool, "a"));
	part_drop(part_named(f.pool, "b"));
	fixture_invariants(&f);
	fixture_done(&f);
}

/* -- emergencies -- */

static void a_full_writer_gets_free_space_up_to_its_max(void **state)
{
	struct lcpfs_event events[8];
	struct fixture f;
	size_t count;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, LEAST, 20 * MB), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 2500, 1), 0);
	assert_true(fixture_size(&f, "a") > 9 * MB);
	int error = fixture_write(&f, "a", 2500, 2600, 1);
	assert_int_equal(error, -LCPFS_E_NOSPC); /* its volume is as large as its max, so it cannot all fit */
	assert_int_equal(fixture_size(&f, "a"), 20 * MB);
	fixture_expect(&f, "a", 0, 2500, 1);
	assert_int_equal(lcpfs_pool_events(f.pool, 0, events, 8, &count), 0);
	assert_true(count >= 2);
	assert_int_equal(events[1].kind, LCPFS_EVENT_EMERGENCY);
	assert_int_equal(events[1].to_id, 1);
	fixture_invariants(&f);
	fixture_done(&f);
}

static void fill_pool_but_for(struct fixture *f, enum lcpfs_engine_mode mode)
{
	fixture_new(f, 64 * MB);
	assert_int_equal(lcpfs_pool_set_tune(f->pool, mode, NULL), 0);
	assert_int_equal(fixture_add(f, "idle", 10 * MB, 62 * MB - LEAST, 62 * MB - LEAST), 0);
	assert_int_equal(fixture_add(f, "full", LEAST, LEAST, 40 * MB), 0);
}

static void without_free_space_others_give_in_every_mode(void **state)
{
	(void)state;
	for (enum lcpfs_engine_mode mode = LCPFS_ENGINE_OFF; mode <= LCPFS_ENGINE_ON; mode++) {
		struct fixture f;
		fill_pool_but_for(&f, mode);
		assert_int_equal(fixture_write(&f, "full", 0, 2500, 1), 0);
		assert_true(fixture_size(&f, "full") > 9 * MB);
		assert_true(fixture_size(&f, "idle") < 62 * MB - LEAST);
		fixture_expect(&f, "full", 0, 2500, 1);
		fixture_invariants(&f);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_check(&f, true), 0);
		fixture_done(&f);
	}
}

/* Whoever has the most empty metaslabs is asked first, and may be unable to give: then the others are. */
static void every_giver_is_tried(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "stuck", LEAST, 30 * MB, 30 * MB), 0);
	assert_int_equal(fixture_add(&f, "tight", LEAST, 20 * MB, 20 * MB), 0);
	assert_int_equal(fixture_add(&f, "full", LEAST, 12 * MB, 40 * MB), 0);
	assert_int_equal(fixture_write(&f, "tight", 0, 2000, 1), 0);
	part_named(f.pool, "stuck")->min_blocks = 30 * MB / BLOCK_SIZE;
	while (fixture_size(&f, "full") + fixture_size(&f, "stuck") + fixture_size(&f, "tight") < 62 * MB)
		assert_true(emergency_need_space(part_named(f.pool, "full"), UINT32_MAX));
	assert_true(emergency_need_space(part_named(f.pool, "full"), UINT32_MAX));
	assert_int_equal(fixture_size(&f, "stuck"), 30 * MB);
	assert_true(fixture_size(&f, "tight") < 20 * MB);
	while (emergency_need_space(part_named(f.pool, "full"), UINT32_MAX))
		;
	assert_int_equal(fixture_size(&f, "stuck"), 30 * MB);
	fixture_expect(&f, "tight", 0, 2000, 1);
	fixture_invariants(&f);
	fixture_done(&f);
}

static void nobody_is_taken_below_its_min(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, NULL), 0);
	assert_int_equal(fixture_add(&f, "idle", 50 * MB, 62 * MB - LEAST, 62 * MB - LEAST), 0);
	assert_int_equal(fixture_add(&f, "full", LEAST, LEAST, 40 * MB), 0);
	assert_int_equal(fixture_write(&f, "full", 0, 8000, 1), -LCPFS_E_NOSPC);
	assert_int_equal(fixture_size(&f, "idle"), 50 * MB);
	assert_int_equal(fixture_size(&f, "full"), 12 * MB);
	fixture_invariants(&f);
	fixture_done(&f);
}

static void a_newcomer_is_made_room_in_mode_on(void **state)
{
	struct fixture f;
	(void)state;
	fill_pool_but_for(&f, LCPFS_ENGINE_OBSERVE);
	expect_refusal(&f, "new", 8 * MB, 0, 8 * MB, -LCPFS_E_NOSPC, "only 0M");
	assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, NULL), 0);
	assert_int_equal(fixture_add(&f, "new", 8 * MB, 0, 8 * MB), 0);
	assert_int_equal(fixture_size(&f, "new"), 8 * MB);
	fixture_invariants(&f);
	fixture_done(&f);
}

static uint64_t reads_to_open(struct fixture *f)
{
	uint64_t before = simdisk_counts(f->disk)->reads;
	assert_int_equal(fixture_open(f, false), 0);
	return simdisk_counts(f->disk)->reads - before;
}

/* What a log may have lost is looked for at the start of each EMPTY metaslab; a new one has lost nothing. */
static void adding_does_not_read_each_metaslab(void **state)
{
	enum { METASLABS = 400, FEW = 100 };
	struct fixture f;
	(void)state;
	fixture_new(&f, 512 * MB);
	assert_int_equal(fixture_close(&f), 0);
	uint64_t least = reads_to_open(&f), before = simdisk_counts(f.disk)->reads;
	assert_int_equal(fixture_add(&f, "a", LEAST, METASLABS * MB, METASLABS * MB), 0);
	assert_in_range(simdisk_counts(f.disk)->reads - before, 1, FEW);
	assert_int_equal(fixture_write(&f, "a", 0, 100, 1), 0);
	assert_int_equal(fixture_close(&f), 0);
	assert_in_range(reads_to_open(&f), least + METASLABS, UINT64_MAX);
	fixture_expect(&f, "a", 0, 100, 1);
	fixture_done(&f);
}

/* -- read-only -- */

static void a_read_only_pool_writes_nothing(void **state)
{
	struct lcpfs_partition *p;
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 10 * MB, 40 * MB), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 100, 1), 0);
	pool_abandon(f.pool); /* not closed: reading has to roll forward */
	uint64_t changes = simdisk_counts(f.disk)->changes;
	assert_int_equal(fixture_open(&f, true), 0);
	fixture_expect(&f, "a", 0, 100, 1);
	assert_int_equal(fixture_add(&f, "b", LEAST, 0, 8 * MB), -LCPFS_E_READ_ONLY);
	assert_int_equal(fixture_resize(&f, "a", 20 * MB), -LCPFS_E_READ_ONLY);
	assert_int_equal(lcpfs_partition_remove(f.pool, "a", &f.failure), -LCPFS_E_READ_ONLY);
	assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, &f.failure), -LCPFS_E_READ_ONLY);
	assert_int_equal(lcpfs_pool_set_lease(f.pool, "/c", "/n"), -LCPFS_E_READ_ONLY);
	assert_int_equal(lcpfs_partition_open(f.pool, "a", &p, NULL), 0);
	assert_int_equal(lcpfs_volume_write(p, 0, "x", 1, true, &f.failure), -LCPFS_E_READ_ONLY);
	lcpfs_partition_close(p);
	fixture_rounds(&f, 3);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(simdisk_counts(f.disk)->changes, changes);
	fixture_done(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(partitions_are_kept_over_a_restart),
		cmocka_unit_test(ids_are_never_used_again),
		cmocka_unit_test(impossible_partitions_are_refused),
		cmocka_unit_test(all_slots_can_be_used),
		cmocka_unit_test(a_partition_in_use_is_not_removed),
		cmocka_unit_test(removed_space_is_discarded),
		cmocka_unit_test(ranges_outside_of_the_volume_are_refused),
		cmocka_unit_test(a_write_in_pieces_is_durable_as_a_whole),
		cmocka_unit_test(resizing_keeps_the_data),
		cmocka_unit_test(impossible_sizes_are_refused),
		cmocka_unit_test(who_cannot_give_leaves_it_to_others),
		cmocka_unit_test(what_the_pool_refuses_is_held_against_nobody),
		cmocka_unit_test(a_resize_can_be_stopped),
		cmocka_unit_test(metaslabs_move_between_partitions),
		cmocka_unit_test(moves_stop_at_the_min),
		cmocka_unit_test(a_full_writer_gets_free_space_up_to_its_max),
		cmocka_unit_test(without_free_space_others_give_in_every_mode),
		cmocka_unit_test(every_giver_is_tried),
		cmocka_unit_test(nobody_is_taken_below_its_min),
		cmocka_unit_test(a_newcomer_is_made_room_in_mode_on),
		cmocka_unit_test(adding_does_not_read_each_metaslab),
		cmocka_unit_test(a_read_only_pool_writes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
