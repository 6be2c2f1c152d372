/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Samples: what partitions did, over weeks. Run as `test_pool_samples FILE DAYS` it makes a pool that has been in
 * use for so many days, for tests/cli/report.sh, and to look at with lcpfs report. Days take a second each.
 */
#include <fcntl.h>
#include <time.h>
#include <unistd.h>

#include "pool_fixture.h"

enum { BLOCKS = 3000, DAY_S = 24 * 3600 };

/* -- thinning out, alone -- */

struct sums {
	double written, device, operated; /* the last: epsilon times seconds */
	size_t count;
};

static struct sums sums_of(const struct pool_sample *list, size_t count, uint32_t id)
{
	struct sums s = {0};
	for (size_t i = 0; i < count; i++) {
		if (list[i].id != id)
			continue;
		s.written += list[i].written_blocks;
		s.device += list[i].device_blocks;
		s.operated += list[i].epsilon * list[i].span_s;
		s.count++;
	}
	return s;
}

/* One sample each ten seconds, of partitions 1 to `partitions`; the times shuffled, as pages have them. */
static struct pool_sample *make_samples(size_t count, uint32_t partitions, uint64_t first_s)
{
	struct pool_sample *list = calloc(count, sizeof(*list));
	assert_non_null(list);
	for (size_t i = 0; i < count; i++) {
		size_t n = i * 7919 % count; /* a prime that does not divide it */
		list[n] = (struct pool_sample){
			.id = (uint32_t)(i % partitions) + 1,
			.span_s = 10,
			.time_s = first_s + i / partitions * 10,
			.size_blocks = 256 * (i / partitions),
			.epsilon = (double)(i % 13),
			.written_blocks = (double)(i % 11),
			.device_blocks = (double)(i % 17),
		};
	}
	return list;
}

static void what_is_thinned_out_still_adds_up(void **state)
{
	const size_t whole = 3 * 2 * 8640;
	struct pool_sample *list = make_samples(whole, 3, 1000000);
	struct sums before = sums_of(list, whole, 2), after;
	uint64_t now_s = 1000000 + 2 * DAY_S;
	size_t count = sample_thin(list, whole, 2000, now_s);
	(void)state;
	assert_true(count <= 2000 && count > 600);
	after = sums_of(list, count, 2);
	assert_true(after.written == before.written && after.device == before.device);
	assert_true(after.operated > before.operated * 0.999 && after.operated < before.operated * 1.001);
	for (size_t i = 1; i < count; i++) {
		const struct pool_sample *s = &list[i], *last = &list[i - 1];
		uint64_t age_s = now_s - s->time_s;
		assert_true(s->id > last->id || s->time_s > last->time_s);
		if (s->id == last->id) /* nothing is counted twice, nothing is missing */
			assert_int_equal(s->time_s - s->span_s, last->time_s);
		assert_true(s->span_s <= 10 || s->span_s <= age_s / 8);
	}
	assert_int_equal(list[count - 1].time_s, 1000000 + (whole / 3 - 1) * 10);
	assert_int_equal(list[count - 1].size_blocks, 256 * (whole / 3 - 1));
	free(list);
}

static void thinning_always_makes_room(void **state)
{
	(void)state;
	for (size_t most = 0; most <= 500; most += 100) {
		/* More partitions than there is room, times from everywhere, of clocks that were set. */
		struct pool_sample *list = make_samples(5001, 333, 1000000);

		for (size_t i = 0; i < 5001; i += 5)
			list[i].time_s = hash_mix(i);
		assert_true(sample_thin(list, 5001, most, 1000000) <= most);
		free(list);
	}
	assert_int_equal(sample_thin(NULL, 0, 0, 0), 0);
}

static void what_is_older_than_weeks_is_dropped(void **state)
{
	struct pool_sample *list = make_samples(100, 1, 1000000);
	(void)state;
	assert_int_equal(sample_thin(list, 100, 100, 1000000 + 55 * DAY_S), 100);
	assert_int_equal(sample_thin(list, 100, 100, 1000000 + 57 * DAY_S), 0);
	free(list);
}

/* -- of a pool -- */

static void write_some(struct fixture *f, const char *name, unsigned count, uint64_t *seed)
{
	struct lcpfs_partition *partition;
	uint8_t bytes[BLOCK_SIZE] = {0};
	assert_int_equal(lcpfs_partition_open(f->pool, name, &partition, NULL), 0);
	for (unsigned i = 0; i < count; i++) {
		*seed = hash_mix(*seed + 1);
		memcpy(bytes, seed, sizeof(*seed));
		assert_int_equal(lcpfs_volume_write(partition, *seed % BLOCKS * BLOCK_SIZE, bytes, BLOCK_SIZE,
						    i % 8 == 0, &f->failure),
				 0);
	}
	assert_int_equal(lcpfs_volume_flush(partition, &f->failure), 0);
	lcpfs_partition_close(partition);
}

static void rounds(struct fixture *f, unsigned count, uint64_t us)
{
	for (unsigned i = 0; i < count; i++) {
		f->now_us += us;
		pool_step(f->pool);
		pool_tick(f->pool);
	}
}

static void take_time(void *context, struct simdisk *disk, uint64_t change)
{
	(void)disk;
	(void)change;
	((struct fixture *)context)->now_us += 300;
}

static void new_pair(struct fixture *f)
{
	fixture_new(f, 64 * MB);
	simdisk_on_change(f->disk, take_time, f);
	assert_int_equal(lcpfs_pool_set_tune(f->pool, LCPFS_ENGINE_OFF, NULL), 0);
	assert_int_equal(fixture_add(f, "busy", LEAST, 20 * MB, 40 * MB), 0);
	assert_int_equal(fixture_add(f, "idle", LEAST, 10 * MB, 40 * MB), 0);
	rounds(f, 1, 1000000);
}

static size_t load_samples(struct fixture *f, struct pool_sample **list)
{
	size_t count;
	assert_int_equal(pool_samples(f->pool, 100000, list, &count), 0);
	return count;
}

static void who_does_something_is_sampled(void **state)
{
	uint64_t seed = 1, written = 0;
	struct pool_sample *list;
	struct fixture f;
	size_t count;
	(void)state;
	new_pair(&f);
	for (unsigned i = 0; i < 12; i++) {
		write_some(&f, "busy", 50, &seed);
		written += 50;
		rounds(&f, 10, 1000000);
	}
	rounds(&f, 100, 1000000); /* nobody does anything */
	for (unsigned again = 0; again < 2; again++) {
		count = load_samples(&f, &list);
		struct sums sums = sums_of(list, count, 1);
		assert_int_equal(sums.count, count);
		assert_in_range(count, 10, 14);
		assert_true(sums.written == (double)written);
		assert_true(sums.device > sums.written && sums.operated > 0);
		assert_string_equal(list[0].name, "busy");
		assert_int_equal(list[0].size_blocks, 20 * MB / BLOCK_SIZE);
		assert_true(list[count - 1].live_blocks > 100);
		free(list);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_check(&f, true), 0);
		assert_int_equal(fixture_open(&f, true), 0);
	}
	fixture_done(&f);
}

static void a_crash_costs_a_minute(void **state)
{
	struct pool_sample *list;
	struct fixture f;
	uint64_t seed = 1;
	(void)state;
	new_pair(&f);
	for (unsigned i = 0; i < 60; i++) {
		write_some(&f, "busy", 5, &seed);
		rounds(&f, 10, 1000000);
	}
	pool_abandon(f.pool);
	assert_int_equal(fixture_open(&f, false), 0);
	size_t count = load_samples(&f, &list);
	assert_in_range(count, 52, 60);
	free(list);
	/* It goes on behind them. */
	rounds(&f, 1, 1000000);
	write_some(&f, "busy", 5, &seed);
	rounds(&f, 61, 1000000);
	assert_true(load_samples(&f, &list) > count);
	free(list);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	fixture_done(&f);
}

/* All the room there is, again and again; the first ones are still there, coarser. */
static void weeks_fit(void **state)
{
	struct pool_sample *list;
	struct fixture f;
	uint64_t seed = 1, first_s;
	(void)state;
	new_pair(&f);
	size_t room = (size_t)f.pool->layout.engine_pages * SAMPLES;
	first_s = f.clock.wall_s(f.clock.context);
	for (unsigned i = 0; i < 7000; i++) {
		write_some(&f, i % 10 ? "busy" : "idle", 1, &seed);
		rounds(&f, 1, 60000000);
	}
	size_t count = load_samples(&f, &list);
	assert_true(count <= room && count > room / 3);
	assert_true(list[0].time_s < first_s + 3 * 3600);
	assert_true(sums_of(list, count, 1).written > 6290);
	assert_true(sums_of(list, count, 2).written > 690);
	free(list);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	fixture_done(&f);
}

/* The engine's own pages are never touched, and what it knows is there after all of that. */
static void the_engine_keeps_what_it_knows(void **state)
{
	struct lcpfs_pool_info info;
	struct fixture f;
	uint64_t seed = 1;
	(void)state;
	new_pair(&f);
	assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, NULL), 0);
	for (unsigned i = 0; i < 1000; i++) {
		write_some(&f, "busy", 40, &seed);
		rounds(&f, 1, 10000000);
	}
	assert_int_equal(lcpfs_pool_get_info(f.pool, &info), 0);
	struct lcpfs_engine_threshold before = info.engine.pressure;
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_open(&f, true), 0);
	assert_int_equal(lcpfs_pool_get_info(f.pool, &info), 0);
	struct lcpfs_engine_threshold after = info.engine.pressure;
	assert_true(before.value == after.value && before.observations == after.observations);
	fixture_done(&f);
}

static void nonsense_is_found_and_harms_nobody(void **state)
{
	struct pool_sample *list;
	struct fixture f;
	uint64_t seed = 1;
	struct txg txg;
	(void)state;
	new_pair(&f);
	write_some(&f, "busy", 5, &seed);
	rounds(&f, 70, 1000000);
	txg_begin(f.pool, &txg);
	struct fmt_samples *page = txg_change(&txg, layout_history_page(&f.pool->layout) - 1);
	memset((uint8_t *)page + sizeof(page->page), 0xff, sizeof(*page) - sizeof(page->page));
	assert_int_equal(txg_commit(&txg, NULL), 0);
	size_t count = load_samples(&f, &list);
	assert_true(count > SAMPLES);
	for (size_t i = 0; i < count; i++) {
		assert_true(list[i].epsilon >= 0 && list[i].epsilon < 1e40);
		assert_true(list[i].size_blocks <= layout_pool_blocks(&f.pool->layout));
	}
	free(list);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, false), 1);
	fixture_done(&f);
}

/* Each of its fields alone is noticed, too. */
static void each_field_that_makes_no_sense_is_found(void **state)
{
	struct fixture f;
	struct txg txg;
	(void)state;
	new_pair(&f);
	uint32_t ids = le32_get(f.pool->uberblock.partition_next), metaslabs = f.pool->layout.metaslab_count;
	const struct {
		uint32_t count, id, span_s, metaslabs;
		uint64_t damaged;
	} cases[] = {
		{1, ids - 1, 1, metaslabs, 0},
		{SAMPLES, 1, UINT32_MAX, 0, 0},
		{SAMPLES + 1, 1, 1, 1, 1},
		{1, 0, 1, 1, 1},
		{1, ids, 1, 1, 1},
		{1, 1, 0, 1, 1},
		{SAMPLES, 1, 1, metaslabs + 1, 1},
	};

	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		txg_begin(f.pool, &txg);
		struct fmt_samples *page = txg_change(&txg, layout_history_page(&f.pool->layout) - 1);
		page->count = le32_of(cases[i].count);
		for (unsigned k = 0; k < SAMPLES; k++)
			page->sample[k] = (struct fmt_sample){.partition = le32_of(1), .span_s = le32_of(1)};
		page->sample[MIN_OF(cases[i].count, (uint32_t)SAMPLES) - 1] =
			(struct fmt_sample){.partition = le32_of(cases[i].id),
					    .span_s = le32_of(cases[i].span_s),
					    .metaslabs = le32_of(cases[i].metaslabs)};
		assert_int_equal(txg_commit(&txg, NULL), 0);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_check(&f, false), cases[i].damaged);
		assert_int_equal(fixture_open(&f, false), 0);
	}
	fixture_done(&f);
}

/* -- what was learned -- */

static void an_outcome_says_what_was_learned(void **state)
{
	struct lcpfs_event outcome = {.kind = LCPFS_EVENT_OUTCOME,
				      .from_id = 1,
				      .to_id = 2,
				      .verdict = 1,
				      .reason = 1,
				      .learned = {100.5, 300, 0.1, 0.05},
				      .learned_confidence = {0.25, 0.5, 0, 1}};
	struct lcpfs_event list[8];
	struct fixture f;
	size_t count;
	(void)state;
	new_pair(&f);
	memset(outcome.text, 'x', sizeof(outcome.text) - 1);
	history_add(f.pool, &outcome);
	history_note(f.pool, LCPFS_EVENT_TUNE, 0, 0, 0, "%.360s", outcome.text);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	assert_int_equal(fixture_open(&f, true), 0);
	assert_int_equal(lcpfs_pool_events(f.pool, 0, list, 8, &count), 0);
	assert_true(count >= 2);
	assert_memory_equal(list[count - 2].learned, outcome.learned, sizeof(outcome.learned));
	assert_memory_equal(list[count - 2].learned_confidence, outcome.learned_confidence,
			    sizeof(outcome.learned_confidence));
	assert_int_equal(strlen(list[count - 2].text), HISTORY_LEARNED_AT - 1);
	assert_true(list[count - 1].learned[0] == 0);
	assert_int_equal(strlen(list[count - 1].text), 360);
	fixture_done(&f);
}

/* -- a pool to look at -- */

static void write_out(struct fixture *f, const char *path)
{
	int fd = open(path, O_CREAT | O_TRUNC | O_WRONLY | O_CLOEXEC, 0644);
	static uint8_t bytes[1 << 20];
	assert_true(fd >= 0);
	for (uint64_t at = 0; at < f->vdev->size_bytes; at += sizeof(bytes)) {
		assert_int_equal(vdev_read(f->vdev, at, bytes, sizeof(bytes)), 0);
		assert_int_equal(write(fd, bytes, sizeof(bytes)), sizeof(bytes));
	}
	close(fd);
}

/* By day the database works, by night the log, at weekends nobody; an archive is seldom touched. */
static void a_minute(struct fixture *f, uint64_t minute, uint64_t *seed)
{
	uint64_t hour = minute / 60 % 24, day = minute / 60 / 24;
	bool is_weekend = day % 7 >= 5;
	write_some(f, "db", is_weekend ? 1 : hour >= 8 && hour < 18 ? 40 : 4, seed);
	write_some(f, "log", hour < 6 ? 40 : 5, seed);
	if (minute % 30 == 0)
		write_some(f, "archive", 30, seed);
	rounds(f, 4, 15000000);
}

struct aged {
	struct fixture f; /* first: the clock's context is one of these */
	uint64_t begin_s;
};

static uint64_t aged_wall_s(void *context)
{
	const struct aged *aged = context;
	return aged->begin_s + aged->f.now_us / 1000000;
}

static void make_pool(const char *path, unsigned days)
{
	struct aged aged = {.begin_s = (uint64_t)time(NULL) - days * UINT64_C(86400)};
	struct fixture *f = &aged.f;
	uint64_t seed = 1;
	fixture_new(f, 96 * MB);
	assert_int_equal(fixture_close(f), 0);
	f->clock.wall_s = aged_wall_s;
	assert_int_equal(fixture_open(f, false), 0);
	simdisk_on_change(f->disk, take_time, f);
	assert_int_equal(fixture_add(f, "db", LEAST, 20 * MB, 60 * MB), 0);
	assert_int_equal(fixture_add(f, "log", LEAST, 22 * MB, 60 * MB), 0);
	assert_int_equal(fixture_add(f, "archive", LEAST, 38 * MB, 60 * MB), 0);
	for (uint64_t minute = 0; minute < days * UINT64_C(1440); minute++) {
		a_minute(f, minute, &seed);
		if (minute == 600)
			assert_int_equal(lcpfs_pool_set_tune(f->pool, LCPFS_ENGINE_ON, NULL), 0);
		if (minute == days * UINT64_C(720)) /* half of the time has passed */
			assert_int_equal(fixture_resize(f, "archive", 20 * MB), 0);
	}
	assert_int_equal(fixture_close(f), 0);
	write_out(f, path);
	fixture_done(f);
}

int main(int argc, char **argv)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_thinned_out_still_adds_up),
		cmocka_unit_test(thinning_always_makes_room),
		cmocka_unit_test(what_is_older_than_weeks_is_dropped),
		cmocka_unit_test(who_does_something_is_sampled),
		cmocka_unit_test(a_crash_costs_a_minute),
		cmocka_unit_test(weeks_fit),
		cmocka_unit_test(the_engine_keeps_what_it_knows),
		cmocka_unit_test(nonsense_is_found_and_harms_nobody),
		cmocka_unit_test(each_field_that_makes_no_sense_is_found),
		cmocka_unit_test(an_outcome_says_what_was_learned),
	};
	if (argc == 3) {
		make_pool(argv[1], (unsigned)atoi(argv[2]));
		return 0;
	}
	return cmocka_run_group_tests(tests, NULL, NULL);
}
