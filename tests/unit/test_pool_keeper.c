/* SPDX-License-Identifier: Apache-2.0 */
/* The keeper, its engine and the history: what they do in each mode, and what survives a restart. */
#include "pool_fixture.h"

enum { HOT_BLOCKS = 2500 };

static void the_mode_and_what_was_learned_survive(void **state)
{
	struct fixture f;
	struct lcpfs_pool_info before, after;
	uint8_t *a = malloc(1 << 16), *b = malloc(1 << 16);
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 10 * MB, 40 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, 10 * MB, 40 * MB), 0);
	assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_OFF, NULL), 0);
	for (unsigned i = 0; i < 20; i++) {
		assert_int_equal(fixture_write(&f, "a", i * 50 % 500, 50, i), 0);
		fixture_rounds(&f, 1);
	}
	assert_int_equal(lcpfs_pool_get_info(f.pool, &before), 0);
	size_t length = lcpfs_engine_save(f.pool->engine, a, 1 << 16);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(lcpfs_pool_get_info(f.pool, &after), 0);
	assert_int_equal(after.engine.mode, LCPFS_ENGINE_OFF);
	assert_int_equal(lcpfs_engine_save(f.pool->engine, b, 1 << 16), length);
	/* Not to the byte, since restarting ends a window; but it did learn how often "a" is written. */
	assert_memory_equal(a, b, 12);
	assert_true(memcmp(a + 384 + 8, b + 384 + 8, 100) == 0);
	free(a);
	free(b);
	fixture_done(&f);
}

static double written_blocks(struct fixture *f)
{
	struct lcpfs_pool_info info;
	assert_int_equal(lcpfs_pool_get_info(f->pool, &info), 0);
	return info.engine.written_blocks;
}

/* The last look is when the pool is closed, and the first when it is opened. */
static void what_is_written_around_a_restart_is_measured(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 10 * MB, 40 * MB), 0);
	fixture_rounds(&f, 1);
	assert_int_equal(fixture_write(&f, "a", 0, 50, 1), 0);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	double before = written_blocks(&f);
	assert_true(before >= 50);
	assert_int_equal(fixture_write(&f, "a", 0, 50, 2), 0);
	fixture_rounds(&f, 1);
	assert_true(written_blocks(&f) >= before + 50);
	fixture_done(&f);
}

static void events_are_a_ring_that_survives(void **state)
{
	struct lcpfs_event *list = calloc(2000, sizeof(*list));
	struct fixture f;
	size_t count;
	(void)state;
	fixture_new(&f, 64 * MB);
	for (unsigned i = 0; i < 1000; i++) {
		history_note(f.pool, LCPFS_EVENT_TUNE, i, 0, i, "event %u", i + 1);
		if (i % 7 == 0)
			assert_int_equal(history_flush(f.pool), 0);
		if (i == 600) {
			assert_int_equal(fixture_close(&f), 0);
			assert_int_equal(fixture_open(&f, false), 0);
		}
	}
	assert_int_equal(lcpfs_pool_events(f.pool, 0, list, 2000, &count), 0);
	assert_true(count >= 512 && count <= 520);
	for (size_t i = 0; i < count; i++) {
		char text[32];
		assert_int_equal(list[i].number, 1000 - count + i + 1);
		snprintf(text, sizeof(text), "event %u", (unsigned)list[i].number);
		assert_string_equal(list[i].text, text);
		assert_int_equal(list[i].verdict, -1);
		assert_int_equal(list[i].reason, -1);
	}
	assert_int_equal(lcpfs_pool_events(f.pool, 995, list, 2000, &count), 0);
	assert_int_equal(count, 5);
	assert_int_equal(lcpfs_pool_events(f.pool, 900, list, 3, &count), 0);
	assert_int_equal(count, 3);
	assert_int_equal(list[0].number, 998);
	assert_int_equal(lcpfs_pool_events(f.pool, 1000, list, 3, &count), 0);
	assert_int_equal(count, 0);
	assert_int_equal(lcpfs_pool_events(f.pool, UINT64_MAX, list, 3, &count), 0);
	assert_int_equal(count, 0);
	free(list);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	fixture_done(&f);
}

static size_t count_kind(struct fixture *f, enum lcpfs_event_kind kind)
{
	struct lcpfs_event *list = calloc(600, sizeof(*list));
	size_t count, found = 0;
	assert_int_equal(lcpfs_pool_events(f->pool, 0, list, 600, &count), 0);
	for (size_t i = 0; i < count; i++)
		found += list[i].kind == kind;
	free(list);
	return found;
}

/* What a move tells of sizes fits together; the newest names the present ones. */
static void moves_tell_true_sizes(struct fixture *f)
{
	struct lcpfs_event *list = calloc(600, sizeof(*list));
	struct lcpfs_partition_info hot = fixture_info(f, "hot"), cold = fixture_info(f, "cold");
	bool is_newest = true;
	size_t count;
	assert_int_equal(lcpfs_pool_events(f->pool, 0, list, 600, &count), 0);
	for (struct lcpfs_event *e = list + count; e-- > list;) {
		if (e->kind != LCPFS_EVENT_MOVED)
			continue;
		assert_true(e->from_old_blocks == e->from_new_blocks + (double)e->blocks);
		assert_true(e->to_old_blocks == e->to_new_blocks - (double)e->blocks);
		if (is_newest && e->from_id && e->to_id) {
			assert_true(e->from_new_blocks == (double)(e->from_id == hot.id ? hot : cold).size_blocks);
			assert_true(e->to_new_blocks == (double)(e->to_id == hot.id ? hot : cold).size_blocks);
		}
		is_newest = false;
	}
	free(list);
}

static size_t outcomes_of(struct fixture *f)
{
	struct lcpfs_engine_outcome *list = calloc(LCPFS_ENGINE_OUTCOMES_MAX, sizeof(*list));
	size_t count = lcpfs_engine_get_outcomes(f->pool->engine, list, LCPFS_ENGINE_OUTCOMES_MAX);
	free(list);
	return count;
}

/* A small hot partition beside a large cold one: the wrong guess that the engine is there for. */
static void load_hot(struct fixture *f, unsigned seconds, uint64_t *seed)
{
	struct lcpfs_partition *hot, *cold;
	uint8_t bytes[BLOCK_SIZE];
	assert_int_equal(lcpfs_partition_open(f->pool, "hot", &hot, NULL), 0);
	assert_int_equal(lcpfs_partition_open(f->pool, "cold", &cold, NULL), 0);
	for (unsigned s = 0; s < seconds; s++) {
		for (unsigned i = 0; i < 400; i++) {
			*seed = hash_mix(*seed + 1);
			fixture_pattern(*seed % HOT_BLOCKS, *seed, bytes);
			assert_int_equal(lcpfs_volume_write(hot, *seed % HOT_BLOCKS * BLOCK_SIZE, bytes,
							    BLOCK_SIZE, false, &f->failure),
					 0);
			f->now_us += 2000 + *seed % 100;
			if (i % 40 == 0)
				assert_int_equal(lcpfs_volume_write(cold, *seed % 500 * BLOCK_SIZE, bytes,
								    BLOCK_SIZE, false, &f->failure),
						 0);
		}
		f->now_us += 100000;
		pool_step(f->pool);
		pool_tick(f->pool);
	}
	lcpfs_partition_close(hot);
	lcpfs_partition_close(cold);
}

/* A device that takes its time, or all latencies would be 0. */
static void take_time(void *context, struct simdisk *disk, uint64_t change)
{
	(void)disk;
	(void)change;
	((struct fixture *)context)->now_us += 300;
}

static void new_hot_and_cold(struct fixture *f, enum lcpfs_engine_mode mode)
{
	fixture_new(f, 64 * MB);
	simdisk_on_change(f->disk, take_time, f);
	assert_int_equal(lcpfs_pool_set_tune(f->pool, mode, NULL), 0);
	assert_int_equal(fixture_add(f, "hot", LEAST, 20 * MB, 50 * MB), 0);
	assert_int_equal(fixture_add(f, "cold", 6 * MB, 42 * MB, 50 * MB), 0);
	assert_int_equal(fixture_write(f, "hot", 0, HOT_BLOCKS, 1), 0);
	assert_int_equal(fixture_write(f, "cold", 0, 500, 1), 0);
}

static void the_engine_moves_boundaries_in_mode_on(void **state)
{
	struct fixture f;
	uint64_t seed = 1;
	(void)state;
	new_hot_and_cold(&f, LCPFS_ENGINE_ON);
	for (unsigned i = 0; i < 40 && !count_kind(&f, LCPFS_EVENT_MOVED); i++)
		load_hot(&f, 10, &seed);
	assert_true(count_kind(&f, LCPFS_EVENT_MOVED) > 0);
	assert_true(fixture_size(&f, "hot") != 20 * MB);
	moves_tell_true_sizes(&f);
	fixture_invariants(&f);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_true(count_kind(&f, LCPFS_EVENT_MOVED) > 0);
	/* What came of a move outlives whoever serves the pool. */
	for (unsigned i = 0; i < 200 && !outcomes_of(&f); i++)
		load_hot(&f, 1, &seed);
	assert_int_equal(outcomes_of(&f), 1);
	pool_abandon(f.pool);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(outcomes_of(&f), 1);
	fixture_done(&f);
}

/* What the engine takes cleaning to cost is what the store has copied. */
static void copies_are_as_counted(struct fixture *f)
{
	struct part *hot = part_named(f->pool, "hot");
	struct lcpfs_engine_decision d;
	struct store_stats stats;
	store_stats(hot->store, &stats);
	assert_int_equal(lcpfs_pool_explain(f->pool, "hot", &d, NULL), 0);
	const struct lcpfs_engine_side *side = d.to.id == hot->id ? &d.to : &d.from;
	double copies = (double)stats.counters.copied_blocks / (double)stats.counters.written_blocks;
	assert_true(side->measured);
	assert_in_range(1000 * side->cleaning_cost, 500 * copies, 1500 * copies);
}

static void the_engine_moves_nothing_in_mode_observe(void **state)
{
	struct fixture f;
	uint64_t seed = 1;
	(void)state;
	new_hot_and_cold(&f, LCPFS_ENGINE_OBSERVE);
	load_hot(&f, 150, &seed);
	copies_are_as_counted(&f);
	assert_int_equal(count_kind(&f, LCPFS_EVENT_MOVED), 0);
	assert_true(count_kind(&f, LCPFS_EVENT_DECISION) > 0);
	assert_int_equal(fixture_size(&f, "hot"), 20 * MB);
	assert_int_equal(fixture_size(&f, "cold"), 42 * MB);
	fixture_done(&f);
}

static void explain_names_the_partition(void **state)
{
	struct lcpfs_engine_decision d;
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 10 * MB, 40 * MB), 0);
	assert_int_equal(lcpfs_pool_explain(f.pool, NULL, &d, &f.failure), 0);
	assert_int_equal(lcpfs_pool_explain(f.pool, "a", &d, &f.failure), 0);
	assert_int_equal(lcpfs_pool_explain(f.pool, "b", &d, &f.failure), -LCPFS_E_NOT_FOUND);
	fixture_done(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_mode_and_what_was_learned_survive),
		cmocka_unit_test(what_is_written_around_a_restart_is_measured),
		cmocka_unit_test(events_are_a_ring_that_survives),
		cmocka_unit_test(the_engine_moves_boundaries_in_mode_on),
		cmocka_unit_test(the_engine_moves_nothing_in_mode_observe),
		cmocka_unit_test(explain_names_the_partition),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
