/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots as the pool offers them: what they keep, what they are kept from, and what is refused with which
 * words. */
#include <time.h>
#include <unistd.h>

#include "pool_fixture.h"
#include "store/state.h"

enum { BLOCKS = 600 };

static int take(struct fixture *f, const char *name)
{
	return lcpfs_snapshot_create(f->pool, &name, 1, NULL, &f->failure);
}

static int destroy(struct fixture *f, const char *name)
{
	return lcpfs_snapshot_destroy(f->pool, &name, 1, NULL, &f->failure);
}

static int roll_back(struct fixture *f, const char *name, bool force)
{
	struct lcpfs_snapshot_options options = {.force = force};
	return lcpfs_snapshot_rollback(f->pool, name, &options, &f->failure);
}

/* All snapshots of a partition (NULL: of all), separated by spaces. */
static const char *names(struct fixture *f, const char *partition)
{
	static char text[1000];
	struct lcpfs_snapshot_info list[8];
	size_t count, length = 0;
	assert_int_equal(lcpfs_snapshot_list(f->pool, partition, list, 8, &count, &f->failure), 0);
	text[0] = '\0';
	for (size_t i = 0; i < MIN_OF(count, (size_t)8); i++)
		length +=
			(size_t)snprintf(text + length, sizeof(text) - length, "%s%s", i ? " " : "", list[i].name);
	return text;
}

static uint64_t features(struct fixture *f, const char *name)
{
	uint32_t page = layout_partition_page(&f->pool->layout, part_named(f->pool, name)->slot);
	const struct fmt_partition *p = txg_current(f->pool, page);
	return le64_get(p->features.incompatible);
}

static size_t events_of(struct fixture *f, enum lcpfs_event_kind kind, char text[400])
{
	struct lcpfs_event list[64];
	size_t count, found = 0;
	assert_int_equal(lcpfs_pool_events(f->pool, 0, list, 64, &count), 0);
	for (size_t i = 0; i < count; i++) {
		if (list[i].kind != kind)
			continue;
		snprintf(text, 400, "%s", list[i].text);
		found++;
	}
	return found;
}

static void new_pool(struct fixture *f)
{
	fixture_new(f, 64 * MB);
	assert_int_equal(fixture_add(f, "a", LEAST, 16 * MB, 16 * MB), 0);
	assert_int_equal(fixture_add(f, "b", LEAST, 12 * MB, 12 * MB), 0);
	assert_int_equal(fixture_write(f, "a", 0, BLOCKS, 1), 0);
}

static void reopen(struct fixture *f)
{
	assert_int_equal(fixture_close(f), 0);
	assert_int_equal(fixture_check(f, true), 0);
	assert_int_equal(fixture_open(f, false), 0);
}

static void a_snapshot_stays_what_it_was(void **state)
{
	struct lcpfs_partition *p;
	uint8_t block[BLOCK_SIZE] = {0};
	struct fixture f;
	char text[400];
	bool data, unsettled;
	uint64_t end;
	size_t done;
	(void)state;
	new_pool(&f);
	assert_int_equal(features(&f, "a"), 0);
	assert_int_equal(take(&f, "a@one"), 0);
	assert_int_equal(features(&f, "a"), PARTITION_SNAPSHOTS);
	assert_int_equal(features(&f, "b"), 0);
	assert_int_equal(fixture_write(&f, "a", 100, BLOCKS, 2), 0);
	assert_int_equal(take(&f, "a@two"), 0);
	for (int round = 0; round < 2; round++) {
		fixture_expect(&f, "a@one", 0, BLOCKS, 1);
		fixture_expect(&f, "a@two", 0, 100, 1);
		fixture_expect(&f, "a@two", 100, BLOCKS, 2);
		fixture_expect(&f, "a", 100, BLOCKS, 2);
		assert_string_equal(names(&f, NULL), "a@one a@two");
		assert_int_equal(fixture_info(&f, "a").snapshots, 2);
		fixture_invariants(&f);
		reopen(&f);
	}
	assert_int_equal(events_of(&f, LCPFS_EVENT_SNAPSHOT, text), 2);
	assert_string_equal(text, "a@two");

	assert_int_equal(lcpfs_partition_open(f.pool, "a@one", &p, &f.failure), 0);
	assert_true(lcpfs_volume_is_snapshot(p));
	assert_int_equal(lcpfs_volume_bytes(p) % BLOCK_SIZE, 0);
	assert_int_equal(lcpfs_volume_extent(p, 0, MB * 4, &data, &end), 0);
	assert_true(data && end == BLOCKS * BLOCK_SIZE);
	assert_int_equal(lcpfs_volume_extent(p, end, MB, &data, &end), 0);
	assert_false(data);
	assert_int_equal(lcpfs_volume_read(p, lcpfs_volume_bytes(p), block, 1, &f.failure), -LCPFS_E_RANGE);
	assert_int_equal(lcpfs_volume_write(p, 0, block, BLOCK_SIZE, false, &f.failure), -LCPFS_E_READ_ONLY);
	assert_int_equal(lcpfs_volume_trim(p, 0, BLOCK_SIZE, false, &f.failure), -LCPFS_E_READ_ONLY);
	assert_int_equal(lcpfs_volume_try_write(p, 0, block, BLOCK_SIZE, &done, &unsettled), -LCPFS_E_READ_ONLY);
	assert_int_equal(lcpfs_volume_try_read(p, 0, block, BLOCK_SIZE), -LCPFS_E_AGAIN);
	assert_int_equal(lcpfs_volume_flush(p, &f.failure), 0);
	lcpfs_partition_close(p);
	fixture_expect(&f, "a@one", 0, BLOCKS, 1);
	fixture_done(&f);
}

static void names_are_checked(void **state)
{
	static const char *const bad[] = {"a", "a@", "a@x y", "a@x@y", "a@x/y", "@x", "nobody@x", "", "a@ä"};
	const char *twice[] = {"b@x", "a@x", "b@x"}, *one_wrong[] = {"b@x", "a@there"};
	char name[67] = "a@";
	struct fixture f;
	(void)state;
	new_pool(&f);
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		int error = take(&f, bad[i]);
		assert_true(error == -LCPFS_E_INVALID || error == -LCPFS_E_NOT_FOUND);
		assert_true(destroy(&f, bad[i]) && roll_back(&f, bad[i], true));
	}
	memset(name + 2, '.', 64);
	assert_int_equal(take(&f, name), -LCPFS_E_INVALID);
	name[65] = '\0';
	assert_int_equal(take(&f, name), 0);
	assert_int_equal(destroy(&f, name), 0);
	assert_int_equal(lcpfs_snapshot_create(f.pool, twice, 3, NULL, &f.failure), -LCPFS_E_INVALID);
	assert_int_equal(take(&f, "a@there"), 0);
	assert_int_equal(take(&f, "a@there"), -LCPFS_E_EXISTS);
	assert_int_equal(lcpfs_snapshot_create(f.pool, one_wrong, 2, NULL, &f.failure), -LCPFS_E_EXISTS);
	assert_string_equal(names(&f, NULL), "a@there"); /* all or none */
	assert_int_equal(lcpfs_snapshot_destroy(f.pool, one_wrong, 2, NULL, &f.failure), -LCPFS_E_NOT_FOUND);
	assert_string_equal(names(&f, NULL), "a@there");
	struct lcpfs_partition *p;
	assert_int_equal(lcpfs_partition_open(f.pool, "a@nowhere", &p, &f.failure), -LCPFS_E_NOT_FOUND);
	assert_string_equal(f.failure.message, "there is no snapshot a@nowhere");
	fixture_done(&f);
}

static void what_is_read_is_not_destroyed(void **state)
{
	const char *both[] = {"a@one", "a@two"};
	struct lcpfs_partition *reader, *writer;
	struct fixture f;
	char text[400];
	(void)state;
	new_pool(&f);
	uint64_t data = fixture_info(&f, "a").data_blocks;
	assert_int_equal(take(&f, "a@one"), 0);
	assert_int_equal(fixture_write(&f, "a", 0, BLOCKS, 2), 0);
	assert_int_equal(take(&f, "a@two"), 0);
	assert_true(fixture_info(&f, "a").data_blocks >= 2 * BLOCKS);
	assert_int_equal(lcpfs_partition_open(f.pool, "a@two", &reader, &f.failure), 0);
	assert_int_equal(lcpfs_snapshot_destroy(f.pool, both, 2, NULL, &f.failure), -LCPFS_E_BUSY);
	assert_string_equal(f.failure.message, "snapshot a@two is in use by 1 client; disconnect it first");
	assert_int_equal(roll_back(&f, "a@one", true), -LCPFS_E_BUSY);
	assert_string_equal(names(&f, "a"), "a@one a@two");
	assert_int_equal(lcpfs_partition_remove(f.pool, "a", &f.failure), -LCPFS_E_BUSY);
	assert_int_equal(lcpfs_partition_open(f.pool, "a", &writer, &f.failure), 0);
	assert_int_equal(roll_back(&f, "a@two", false), -LCPFS_E_BUSY);
	assert_non_null(strstr(f.failure.message, "in use by 1 client, who would see it change"));
	lcpfs_partition_close(writer);
	assert_int_equal(roll_back(&f, "a@two", false), 0); /* a reader of the snapshot sees no change */
	lcpfs_partition_close(reader);
	assert_int_equal(lcpfs_snapshot_destroy(f.pool, both, 2, NULL, &f.failure), 0);
	assert_int_equal(events_of(&f, LCPFS_EVENT_DESTROYED, text), 1);
	assert_string_equal(text, "a@one, a@two");
	fixture_expect(&f, "a", 0, BLOCKS, 2);
	reopen(&f);
	assert_in_range(fixture_info(&f, "a").data_blocks, data, data + 2); /* the list has a pair of blocks */
	assert_int_equal(fixture_info(&f, "a").snapshots, 0);
	fixture_done(&f);
}

static void rolling_back(void **state)
{
	struct lcpfs_snapshot_options dry = {.dry_run = true};
	struct fixture f;
	char text[400];
	(void)state;
	new_pool(&f);
	assert_int_equal(take(&f, "a@one"), 0);
	assert_int_equal(fixture_write(&f, "a", 0, BLOCKS, 2), 0);
	assert_int_equal(take(&f, "a@two"), 0);
	assert_int_equal(take(&f, "a@three"), 0);
	assert_int_equal(fixture_write(&f, "a", 0, BLOCKS, 3), 0);
	assert_int_equal(roll_back(&f, "a@one", false), -LCPFS_E_EXISTS);
	assert_string_equal(f.failure.message,
			    "a@two, a@three are younger than a@one; --force destroys them first");
	assert_int_equal(lcpfs_snapshot_rollback(f.pool, "a@three", &dry, &f.failure), 0);
	fixture_expect(&f, "a", 0, BLOCKS, 3);
	assert_int_equal(roll_back(&f, "a@three", false), 0);
	fixture_expect(&f, "a", 0, BLOCKS, 2);
	assert_int_equal(events_of(&f, LCPFS_EVENT_ROLLED_BACK, text), 1);
	assert_string_equal(text, "a to a@three");
	reopen(&f);
	fixture_expect(&f, "a", 0, BLOCKS, 2);
	assert_int_equal(fixture_write(&f, "a", 0, BLOCKS, 4), 0);
	assert_int_equal(roll_back(&f, "a@one", true), 0);
	fixture_expect(&f, "a", 0, BLOCKS, 1);
	assert_string_equal(names(&f, "a"), "a@one");
	reopen(&f);
	fixture_expect(&f, "a", 0, BLOCKS, 1);
	fixture_invariants(&f);
	fixture_done(&f);
}

static int set_volume(struct fixture *f, uint64_t bytes)
{
	struct lcpfs_partition_change change = {.volume_bytes = bytes, .thin = true};
	struct lcpfs_partition_info info;
	return lcpfs_partition_set(f->pool, "a", &change, NULL, NULL, &info, &f->failure);
}

/* What lies beyond the end of a volume would come back when it gets longer. */
static void rolling_back_keeps_the_length(void **state)
{
	static const uint8_t zeros[BLOCK_SIZE];
	uint8_t bytes[BLOCK_SIZE];
	struct lcpfs_partition *p;
	struct fixture f;
	(void)state;
	new_pool(&f);
	assert_int_equal(take(&f, "a@one"), 0);
	assert_int_equal(lcpfs_partition_open(f.pool, "a", &p, &f.failure), 0);
	assert_int_equal(
		lcpfs_volume_trim(p, 10 * BLOCK_SIZE, lcpfs_volume_bytes(p) - 10 * BLOCK_SIZE, false, &f.failure),
		0);
	assert_int_equal(lcpfs_volume_write(p, 9 * BLOCK_SIZE + 100, zeros, BLOCK_SIZE - 100, false, &f.failure),
			 0);
	lcpfs_partition_close(p);
	assert_int_equal(set_volume(&f, 9 * BLOCK_SIZE + 100),
			 0); /* the end cuts a block of the snapshot's data */
	assert_int_equal(roll_back(&f, "a@one", false), -LCPFS_E_TOO_SMALL);
	assert_non_null(strstr(f.failure.message, "make it longer first"));
	fixture_expect(&f, "a@one", 0, BLOCKS, 1);
	assert_int_equal(set_volume(&f, (BLOCKS - 1) * BLOCK_SIZE), 0);
	assert_int_equal(roll_back(&f, "a@one", false), -LCPFS_E_TOO_SMALL);
	assert_int_equal(set_volume(&f, BLOCKS * BLOCK_SIZE), 0);
	assert_int_equal(roll_back(&f, "a@one", false), 0);
	fixture_expect(&f, "a", 0, BLOCKS, 1);
	assert_int_equal(set_volume(&f, 64 * MB), 0); /* longer than the store's ever was */
	assert_int_equal(fixture_write(&f, "a", 16000, 4, 5), 0);
	assert_int_equal(roll_back(&f, "a@one", false), 0);
	assert_int_equal(lcpfs_partition_open(f.pool, "a", &p, &f.failure), 0);
	assert_int_equal(lcpfs_volume_bytes(p), 64 * MB);
	assert_int_equal(lcpfs_volume_read(p, 16000 * BLOCK_SIZE, bytes, BLOCK_SIZE, &f.failure), 0);
	assert_memory_equal(bytes, zeros, BLOCK_SIZE);
	lcpfs_partition_close(p);
	reopen(&f);
	fixture_done(&f);
}

static void removing_says_what_is_lost(void **state)
{
	const struct pool_removal careful = {.only_empty = true};
	struct lcpfs_partition_info info;
	struct fixture f;
	(void)state;
	new_pool(&f);
	assert_int_equal(take(&f, "b@one"), 0);
	assert_int_equal(take(&f, "b@two"), 0);
	assert_int_equal(pool_remove(f.pool, "b", &careful, &info, &f.failure), -LCPFS_E_NOT_EMPTY);
	assert_non_null(strstr(f.failure.message, "has 2 snapshots (b@one, b@two)"));
	assert_int_equal(lcpfs_partition_remove(f.pool, "b", &f.failure), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, 12 * MB, 12 * MB), 0);
	assert_int_equal(features(&f, "b"), 0); /* in the same slot */
	assert_string_equal(names(&f, NULL), "");
	fixture_done(&f);
}

static int rename_it(struct fixture *f, const char *name, const char *new_name, bool dry_run)
{
	struct lcpfs_snapshot_options options = {.dry_run = dry_run};
	return lcpfs_snapshot_rename(f->pool, name, new_name, &options, &f->failure);
}

static void renaming(void **state)
{
	struct store_snapshot before, after;
	struct lcpfs_partition *reader;
	struct fixture f;
	char text[400];
	(void)state;
	new_pool(&f);
	assert_int_equal(take(&f, "a@one"), 0);
	assert_int_equal(take(&f, "a@two"), 0);
	assert_int_equal(lcpfs_snapshot_hold(f.pool, &(const char *){"a@one"}, 1, NULL, &f.failure), 0);
	assert_int_equal(fixture_write(&f, "a", 0, BLOCKS, 2), 0);
	assert_true(store_snapshot_find(part_named(f.pool, "a")->store, "one", &before));
	assert_int_equal(rename_it(&f, "a@one", "a@two", false), -LCPFS_E_EXISTS);
	assert_int_equal(rename_it(&f, "a@one", "a@one", false), -LCPFS_E_EXISTS);
	assert_int_equal(rename_it(&f, "a@none", "a@new", false), -LCPFS_E_NOT_FOUND);
	assert_int_equal(rename_it(&f, "a", "b", false), -LCPFS_E_INVALID);
	assert_int_equal(rename_it(&f, "a@one", "b@new", false), -LCPFS_E_INVALID);
	assert_string_equal(f.failure.message, "b@new: a snapshot of a stays one of a; give a@NEW, or NEW");
	assert_int_equal(rename_it(&f, "a@one", "a@b@c", false), -LCPFS_E_INVALID);
	assert_int_equal(rename_it(&f, "a@one", "x y", false), -LCPFS_E_INVALID);
	assert_int_equal(rename_it(&f, "a@one", "", false), -LCPFS_E_INVALID);
	assert_int_equal(rename_it(&f, "a@one", "new", true), 0);
	assert_int_equal(lcpfs_partition_open(f.pool, "a@one", &reader, &f.failure), 0);
	assert_int_equal(rename_it(&f, "a@one", "new", false), -LCPFS_E_BUSY);
	lcpfs_partition_close(reader);
	assert_string_equal(names(&f, NULL), "a@one a@two");
	assert_int_equal(events_of(&f, LCPFS_EVENT_RENAMED, text), 0);

	assert_int_equal(rename_it(&f, "a@one", "a@a-much-longer-name-than-before", false), 0);
	assert_int_equal(rename_it(&f, "a@a-much-longer-name-than-before", "@new", false), 0);
	assert_string_equal(names(&f, NULL), "a@new a@two");
	assert_int_equal(events_of(&f, LCPFS_EVENT_RENAMED, text), 2);
	assert_string_equal(text, "a@new, once a@a-much-longer-name-than-before");
	assert_int_equal(lcpfs_partition_open(f.pool, "a@one", &reader, &f.failure), -LCPFS_E_NOT_FOUND);
	reopen(&f);
	fixture_expect(&f, "a@new", 0, BLOCKS, 1);
	assert_true(store_snapshot_find(part_named(f.pool, "a")->store, "new", &after));
	memcpy(after.name, before.name, sizeof(after.name));
	assert_memory_equal(&after, &before, sizeof(after)); /* its guid, and that it is held */
	assert_int_equal(take(&f, "a@one"), 0);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_open(&f, true), 0);
	assert_int_equal(rename_it(&f, "a@one", "three", true), 0);
	assert_int_equal(rename_it(&f, "a@one", "three", false), -LCPFS_E_READ_ONLY);
	fixture_done(&f);
}

static void a_read_only_pool_has_them(void **state)
{
	struct lcpfs_snapshot_options dry = {.dry_run = true};
	const char *name = "a@two";
	struct fixture f;
	(void)state;
	new_pool(&f);
	assert_int_equal(take(&f, "a@one"), 0);
	assert_int_equal(fixture_write(&f, "a", 0, BLOCKS, 2), 0);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_open(&f, true), 0);
	fixture_expect(&f, "a@one", 0, BLOCKS, 1);
	assert_string_equal(names(&f, NULL), "a@one");
	assert_int_equal(lcpfs_snapshot_create(f.pool, &name, 1, &dry, &f.failure), 0);
	assert_int_equal(take(&f, "a@two"), -LCPFS_E_READ_ONLY);
	assert_int_equal(destroy(&f, "a@one"), -LCPFS_E_READ_ONLY);
	fixture_done(&f);
}

/* -- groups: a writer of two partitions never sees one of them ahead -- */

struct pair_writer {
	struct fixture *f;
	atomic_bool stop;
	atomic_uint written;
};

/* The same number into a, then into b: at no instant is b ahead of a. */
static void *write_pairs(void *context)
{
	struct pair_writer *w = context;
	struct lcpfs_partition *a, *b;
	uint64_t number[BLOCK_SIZE / 8] = {0};
	CHECK(!lcpfs_partition_open(w->f->pool, "a", &a, NULL) &&
	      !lcpfs_partition_open(w->f->pool, "b", &b, NULL));
	while (!atomic_load(&w->stop)) {
		number[0]++;
		CHECK(!lcpfs_volume_write(a, 0, number, BLOCK_SIZE, false, NULL));
		CHECK(!lcpfs_volume_write(b, 0, number, BLOCK_SIZE, false, NULL));
		atomic_store(&w->written, (unsigned)number[0]);
	}
	lcpfs_partition_close(a);
	lcpfs_partition_close(b);
	return NULL;
}

static uint64_t number_in(struct fixture *f, const char *name)
{
	struct lcpfs_partition *p;
	uint64_t number = 0;
	assert_int_equal(lcpfs_partition_open(f->pool, name, &p, &f->failure), 0);
	assert_int_equal(lcpfs_volume_read(p, 0, &number, 8, &f->failure), 0);
	lcpfs_partition_close(p);
	return number;
}

/* b is taken first: without the gate it could miss what a has, by more than the write under way. */
static void a_group_is_of_one_instant(void **state)
{
	const char *group[] = {"b@x", "a@x"};
	struct pair_writer w = {0};
	struct fixture f;
	pthread_t thread;
	(void)state;
	new_pool(&f);
	w.f = &f;
	assert_int_equal(pthread_create(&thread, NULL, write_pairs, &w), 0);
	for (unsigned round = 0; round < 40; round++) {
		unsigned before = atomic_load(&w.written);
		while (atomic_load(&w.written) < before + 3)
			sched_yield();
		assert_int_equal(lcpfs_snapshot_create(f.pool, group, 2, NULL, &f.failure), 0);
		uint64_t in_a = number_in(&f, "a@x"), in_b = number_in(&f, "b@x");

		assert_in_range(in_a, in_b, in_b + 1);
		assert_true(in_b > before);
		assert_int_equal(lcpfs_snapshot_destroy(f.pool, group, 2, NULL, &f.failure), 0);
	}
	atomic_store(&w.stop, true);
	pthread_join(thread, NULL);
	fixture_invariants(&f);
	fixture_done(&f);
}

static void schedule(struct fixture *f, const char *partition, const char *text)
{
	struct lcpfs_partition_change change = {.schedule_given = true};
	struct lcpfs_partition_info info;
	assert_int_equal(lcpfs_snapshot_schedule_parse(text, &change.schedule), 0);
	assert_int_equal(lcpfs_partition_set(f->pool, partition, &change, NULL, NULL, &info, &f->failure), 0);
	assert_memory_equal(&info.schedule, &change.schedule, sizeof(change.schedule));
}

static void after_minutes(struct fixture *f, unsigned minutes)
{
	f->now_us += minutes * 60000000ull;
	schedule_look(f->pool);
}

/* The clock begins on Tuesday 2023-11-14 at 22:13:21. */
static void snapshots_are_taken_by_the_clock(void **state)
{
	struct lcpfs_partition *reader;
	const char *name = "a@hourly-2023-11-15_00:00";
	struct fixture f;
	char text[400];
	(void)state;
	new_pool(&f);
	after_minutes(&f, 0);
	assert_string_equal(names(&f, NULL), "");
	schedule(&f, "a", "hourly:2,weekly:1");
	schedule(&f, "b", "daily:1,monthly:9");
	after_minutes(&f, 0);
	assert_string_equal(names(&f, "a"), "a@hourly-2023-11-14_22:00 a@weekly-2023-W46");
	assert_string_equal(names(&f, "b"), "b@daily-2023-11-14 b@monthly-2023-11");
	after_minutes(&f, 46);
	after_minutes(&f, 1);
	assert_string_equal(names(&f, "a"),
			    "a@hourly-2023-11-14_22:00 a@weekly-2023-W46 a@hourly-2023-11-14_23:00");
	reopen(&f);
	after_minutes(&f, 60);
	assert_string_equal(names(&f, "a"),
			    "a@weekly-2023-W46 a@hourly-2023-11-14_23:00 a@hourly-2023-11-15_00:00");
	assert_string_equal(names(&f, "b"), "b@monthly-2023-11 b@daily-2023-11-15");
	assert_int_equal(events_of(&f, LCPFS_EVENT_DESTROYED, text), 2);

	/* What is held or open stays, and so does what others have taken. */
	assert_int_equal(take(&f, "a@hourly-mine"), 0);
	assert_int_equal(lcpfs_snapshot_hold(f.pool, &(const char *){"a@hourly-2023-11-14_23:00"}, 1, NULL, NULL),
			 0);
	assert_int_equal(lcpfs_partition_open(f.pool, name, &reader, NULL), 0);
	for (unsigned i = 0; i < 4; i++)
		after_minutes(&f, 60);
	assert_string_equal(names(&f, "a"),
			    "a@weekly-2023-W46 a@hourly-2023-11-14_23:00 a@hourly-2023-11-15_00:00 "
			    "a@hourly-mine a@hourly-2023-11-15_03:00 a@hourly-2023-11-15_04:00");
	lcpfs_partition_close(reader);
	schedule(&f, "a", "off");
	after_minutes(&f, 60);
	assert_int_equal(fixture_info(&f, "a").snapshots, 6);
	schedule(&f, "a", "hourly:1");
	after_minutes(&f, 0);
	assert_string_equal(names(&f, "a"),
			    "a@weekly-2023-W46 a@hourly-2023-11-14_23:00 a@hourly-mine a@hourly-2023-11-15_05:00");
	assert_int_equal(fixture_close(&f), 0);
	fixture_done(&f);
}

/* It is said once, and comes when there is room; another partition has its own. */
static void a_full_partition_misses_its_snapshot(void **state)
{
	struct fixture f;
	struct lcpfs_partition *p;
	char text[400];
	uint64_t end = 0;
	(void)state;
	new_pool(&f);
	while (!fixture_write(&f, "b", end, 1, 1))
		end++;
	schedule(&f, "b", "hourly:2");
	schedule(&f, "a", "hourly:2");
	for (unsigned i = 0; i < 3; i++)
		after_minutes(&f, 1);
	assert_string_equal(names(&f, NULL), "a@hourly-2023-11-14_22:00");
	assert_int_equal(events_of(&f, LCPFS_EVENT_MISSED, text), 1);
	assert_non_null(
		strstr(text, "b@hourly-2023-11-14_22:00: snapshot b@hourly-2023-11-14_22:00 was not taken: "));
	assert_int_equal(lcpfs_partition_open(f.pool, "b", &p, NULL), 0);
	assert_int_equal(lcpfs_volume_trim(p, 0, end / 2 * BLOCK_SIZE, false, NULL), 0);
	lcpfs_partition_close(p);
	after_minutes(&f, 1);
	assert_string_equal(names(&f, "b"), "b@hourly-2023-11-14_22:00");
	assert_int_equal(fixture_close(&f), 0);
	fixture_done(&f);
}

static void take_hourly(struct fixture *f, unsigned count)
{
	char name[64];
	for (unsigned i = 0; i < count; i++) {
		snprintf(name, sizeof(name), "a@hourly-2023-11-14_%02u:59", i);
		assert_int_equal(take(f, name), 0);
	}
}

/* It neither waits for who has the partition for himself, nor does what it found before. */
static void a_schedule_comes_back_to_who_is_busy(void **state)
{
	struct fixture f;
	(void)state;
	new_pool(&f);
	schedule(&f, "a", "daily:1");
	schedule(&f, "b", "daily:1");
	part_named(f.pool, "a")->snapshot_work = true;
	alarm(60);
	after_minutes(&f, 0);
	alarm(0);
	assert_string_equal(names(&f, NULL), "b@daily-2023-11-14");
	after_minutes(&f, 0);
	part_named(f.pool, "a")->snapshot_work = false;
	schedule_look(f.pool); /* in the same minute */
	assert_string_equal(names(&f, NULL), "a@daily-2023-11-14 b@daily-2023-11-14");
	fixture_done(&f);
}

static void find_some(const struct part *part, uint64_t now_s, struct snapshot_names *found)
{
	(void)now_s;
	for (; found->count < 5; found->count++)
		snprintf(found->list[found->count], 64, "hourly-2023-11-14_%02u:59", found->count);
	part->pool->stopping = true; /* from now on */
}

/* Many that are too many go in pieces, and no more of them when the pool stops. */
static void a_schedule_ends_with_the_pool(void **state)
{
	struct fixture f;
	(void)state;
	new_pool(&f);
	take_hourly(&f, 60);
	schedule(&f, "a", "hourly:4");
	struct snapshot_names found;
	assert_int_equal(snapshot_destroy_found(part_named(f.pool, "a"), find_some, 0, &found, &f.failure),
			 -LCPFS_E_STOPPED);
	after_minutes(&f, 0);
	f.pool->stopping = false;
	assert_int_equal(fixture_info(&f, "a").snapshots, 60);
	after_minutes(&f, 1);
	assert_string_equal(names(&f, "a"), "a@hourly-2023-11-14_57:59 a@hourly-2023-11-14_58:59 "
					    "a@hourly-2023-11-14_59:59 a@hourly-2023-11-14_22:00");
	fixture_done(&f);
}

/* 0: nobody is at a's snapshots. */
static uint64_t round_us(struct lcpfs_pool *pool)
{
	nanosleep(&(struct timespec){.tv_nsec = 50000000}, NULL);
	pthread_mutex_lock(&pool->lock);
	uint64_t us = part_named(pool, "a")->snapshot_work ? pool->keeper.measured_us : 0;
	pthread_mutex_unlock(&pool->lock);
	return us;
}

/* While a snapshot that is due waits for the partition's own work, the pool's rounds go on. */
static void a_schedule_holds_up_no_rounds(void **state)
{
	struct lcpfs_open_options options = {.background = true, .cache_bytes = 4 * MB};
	struct fixture f;
	(void)state;
	new_pool(&f);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(pool_open_vdev(f.vdev, &clock_system, &options, &f.pool, &f.failure), 0);
	struct part *part = part_named(f.pool, "a");
	pthread_mutex_lock(&part->store->work);
	schedule(&f, "a", "hourly:1");
	uint64_t begin_us = 0, now_us = 0;
	for (unsigned i = 0; i < 600 && !begin_us; i++)
		begin_us = round_us(f.pool);
	for (unsigned i = 0; i < 600 && now_us < begin_us + 2000000; i++)
		now_us = round_us(f.pool);
	pthread_mutex_unlock(&part->store->work);
	assert_true(begin_us && now_us >= begin_us + 2000000);
	assert_int_equal(fixture_close(&f), 0);
	fixture_done(&f);
}

static void schedules_as_text(void **state)
{
	static const char *const wrong[] = {"",
					    "hourly",
					    "hourly:",
					    "hourly:0",
					    "hourly:256",
					    "hourly:1,",
					    ",hourly:1",
					    "hourly:1,hourly:1",
					    "yearly:1",
					    "hourly:-1",
					    "hourly:1x",
					    "Off",
					    "daily:99999999999999999999",
					    "off,daily:1"};
	struct lcpfs_snapshot_schedule schedule;
	char text[LCPFS_SNAPSHOT_SCHEDULE_TEXT];
	(void)state;
	for (unsigned i = 0; i < ARRAY_LENGTH(wrong); i++)
		assert_int_equal(lcpfs_snapshot_schedule_parse(wrong[i], &schedule), -LCPFS_E_INVALID);
	assert_int_equal(lcpfs_snapshot_schedule_parse("monthly:255,weekly:255,hourly:255,daily:255", &schedule),
			 0);
	lcpfs_snapshot_schedule_print(&schedule, text);
	assert_string_equal(text, "hourly:255,daily:255,weekly:255,monthly:255");
	assert_int_equal(lcpfs_snapshot_schedule_parse("off", &schedule), 0);
	lcpfs_snapshot_schedule_print(&schedule, text);
	assert_string_equal(text, "off");
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(snapshots_are_taken_by_the_clock),
		cmocka_unit_test(a_full_partition_misses_its_snapshot),
		cmocka_unit_test(a_schedule_comes_back_to_who_is_busy),
		cmocka_unit_test(a_schedule_ends_with_the_pool),
		cmocka_unit_test(a_schedule_holds_up_no_rounds),
		cmocka_unit_test(schedules_as_text),
		cmocka_unit_test(a_snapshot_stays_what_it_was),
		cmocka_unit_test(names_are_checked),
		cmocka_unit_test(what_is_read_is_not_destroyed),
		cmocka_unit_test(rolling_back),
		cmocka_unit_test(rolling_back_keeps_the_length),
		cmocka_unit_test(removing_says_what_is_lost),
		cmocka_unit_test(renaming),
		cmocka_unit_test(a_read_only_pool_has_them),
		cmocka_unit_test(a_group_is_of_one_instant),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
