/* SPDX-License-Identifier: Apache-2.0 */
/* Clones as the pool offers them: volumes with names of their own, what they keep, and what is refused. */
#include <pthread.h>

#include "pool_fixture.h"
#include "store/state.h"

enum { BLOCKS = 600 };

static int take(struct fixture *f, const char *name)
{
	return lcpfs_snapshot_create(f->pool, &name, 1, NULL, &f->failure);
}

static int make_clone(struct fixture *f, const char *snapshot, const char *name)
{
	return lcpfs_clone_create(f->pool, snapshot, name, false, &f->failure);
}

static int destroy(struct fixture *f, const char *name)
{
	return lcpfs_clone_destroy(f->pool, &name, 1, false, &f->failure);
}

/* "NAME of ORIGIN" of each. */
static const char *names(struct fixture *f)
{
	static char text[1000];
	struct lcpfs_clone_info list[8];
	size_t count, length = 0;
	assert_int_equal(lcpfs_clone_list(f->pool, list, 8, &count), 0);
	text[0] = '\0';
	for (size_t i = 0; i < MIN_OF(count, (size_t)8); i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%s of %s", i ? ", " : "",
					   list[i].name, list[i].origin);
	return text;
}

static uint64_t features(struct fixture *f, const char *name)
{
	uint32_t page = layout_partition_page(&f->pool->layout, part_named(f->pool, name)->slot);
	const struct fmt_partition *p = txg_current(f->pool, page);
	return le64_get(p->features.incompatible);
}

static void new_pool(struct fixture *f)
{
	fixture_new(f, 64 * MB);
	assert_int_equal(fixture_add(f, "a", LEAST, 16 * MB, 16 * MB), 0);
	assert_int_equal(fixture_add(f, "b", LEAST, 12 * MB, 12 * MB), 0);
	assert_int_equal(fixture_write(f, "a", 0, BLOCKS, 1), 0);
	assert_int_equal(take(f, "a@one"), 0);
}

static void reopen(struct fixture *f)
{
	assert_int_equal(fixture_close(f), 0);
	assert_int_equal(fixture_check(f, true), 0);
	assert_int_equal(fixture_open(f, false), 0);
}

static void a_clone_is_a_volume(void **state)
{
	struct lcpfs_partition *c, *base;
	struct lcpfs_difference difference;
	uint8_t block[BLOCK_SIZE] = {0};
	struct fixture f;
	bool data, unsettled;
	uint64_t end;
	size_t done;
	(void)state;
	new_pool(&f);
	assert_int_equal(features(&f, "a"), PARTITION_SNAPSHOTS);
	assert_int_equal(lcpfs_clone_create(f.pool, "a@one", "c", true, &f.failure), 0);
	assert_int_equal(features(&f, "a"), PARTITION_SNAPSHOTS);
	assert_int_equal(make_clone(&f, "a@one", "c"), 0);
	assert_int_equal(features(&f, "a"), PARTITION_SNAPSHOTS | PARTITION_CLONES);
	assert_int_equal(fixture_write(&f, "a", 0, 50, 2), 0);
	assert_int_equal(fixture_write(&f, "c", 100, 50, 3), 0);
	for (int round = 0; round < 2; round++) {
		fixture_expect(&f, "a@one", 0, BLOCKS, 1);
		fixture_expect(&f, "a", 0, 50, 2);
		fixture_expect(&f, "a", 50, BLOCKS - 50, 1);
		fixture_expect(&f, "c", 0, 100, 1);
		fixture_expect(&f, "c", 100, 50, 3);
		fixture_expect(&f, "c", 150, BLOCKS - 150, 1);
		assert_string_equal(names(&f), "c of a@one");
		assert_int_equal(fixture_info(&f, "a").clones, 1);
		fixture_invariants(&f);
		reopen(&f);
	}

	assert_int_equal(lcpfs_partition_open(f.pool, "c", &c, &f.failure), 0);
	assert_int_equal(lcpfs_partition_open(f.pool, "a@one", &base, &f.failure), 0);
	assert_false(lcpfs_volume_is_snapshot(c));
	assert_int_equal(lcpfs_volume_bytes(c), 16 * MB);
	assert_int_equal(lcpfs_volume_difference(base, c, 0, &difference, &f.failure), 0);
	assert_int_equal(difference.offset, 100 * BLOCK_SIZE);
	assert_int_equal(difference.length, 50 * BLOCK_SIZE);
	assert_int_equal(lcpfs_volume_trim(c, 0, 10 * BLOCK_SIZE, true, &f.failure), 0);
	assert_int_equal(lcpfs_volume_extent(c, 0, MB, &data, &end), 0);
	assert_true(!data && end == 10 * BLOCK_SIZE);
	assert_int_equal(lcpfs_volume_try_read(c, 0, block, BLOCK_SIZE), 0);
	assert_int_equal(block[0], 0);
	memset(block, 9, sizeof(block));
	assert_int_equal(lcpfs_volume_try_write(c, 0, block, BLOCK_SIZE, &done, &unsettled), 0);
	lcpfs_volume_settle(c);
	assert_int_equal(lcpfs_volume_flush(c, &f.failure), 0);
	assert_int_equal(lcpfs_volume_write(c, 16 * MB - 1, block, 2, false, &f.failure), -LCPFS_E_RANGE);
	lcpfs_partition_close(base);
	lcpfs_partition_close(c);
	fixture_expect(&f, "a@one", 0, BLOCKS, 1);
	reopen(&f);
	assert_int_equal(destroy(&f, "c"), 0);
	assert_int_equal(lcpfs_partition_open(f.pool, "c", &c, &f.failure), -LCPFS_E_NOT_FOUND);
	assert_string_equal(names(&f), "");
	reopen(&f);
	fixture_done(&f);
}

static void names_are_of_one_pool(void **state)
{
	struct lcpfs_partition_change change = {.new_name = "c"};
	struct lcpfs_partition_info info;
	const char *twice[] = {"c", "c"}, *one_wrong[] = {"c", "d"}, *snapshot = "c@x";
	struct fixture f;
	(void)state;
	new_pool(&f);
	assert_int_equal(take(&f, "b@one"), 0);
	assert_int_equal(make_clone(&f, "a@one", "b"), -LCPFS_E_EXISTS);
	assert_int_equal(make_clone(&f, "a@one", "no@name"), -LCPFS_E_INVALID);
	assert_int_equal(make_clone(&f, "a", "c"), -LCPFS_E_INVALID);
	assert_int_equal(make_clone(&f, "a@two", "c"), -LCPFS_E_NOT_FOUND);
	assert_int_equal(make_clone(&f, "x@one", "c"), -LCPFS_E_NOT_FOUND);
	assert_int_equal(make_clone(&f, "a@one", "c"), 0);
	assert_int_equal(make_clone(&f, "b@one", "c"), -LCPFS_E_EXISTS);
	assert_non_null(strstr(f.failure.message, "there is a clone c already, in partition a"));
	assert_int_equal(fixture_add(&f, "c", LEAST, LEAST, LEAST), -LCPFS_E_EXISTS);
	assert_int_equal(lcpfs_partition_set(f.pool, "b", &change, NULL, NULL, &info, &f.failure),
			 -LCPFS_E_EXISTS);
	assert_int_equal(take(&f, "d@x"), -LCPFS_E_NOT_FOUND);
	assert_false(features(&f, "a") & PARTITION_LINES);
	assert_int_equal(take(&f, snapshot), 0);
	assert_true(features(&f, "a") & PARTITION_LINES);
	assert_int_equal(lcpfs_clone_destroy(f.pool, twice, 1, false, &f.failure), -LCPFS_E_NOT_EMPTY);
	assert_int_equal(lcpfs_snapshot_destroy(f.pool, &snapshot, 1, NULL, &f.failure), 0);
	assert_int_equal(lcpfs_clone_destroy(f.pool, twice, 2, false, &f.failure), -LCPFS_E_INVALID);
	assert_int_equal(lcpfs_clone_destroy(f.pool, one_wrong, 2, false, &f.failure), -LCPFS_E_NOT_FOUND);
	assert_int_equal(destroy(&f, "a"), -LCPFS_E_INVALID);
	assert_string_equal(names(&f), "c of a@one");
	change.new_name = "d";
	assert_int_equal(lcpfs_partition_set(f.pool, "a", &change, NULL, NULL, &info, &f.failure), 0);
	assert_string_equal(names(&f), "c of d@one");
	reopen(&f);
	fixture_expect(&f, "c", 0, BLOCKS, 1);
	fixture_done(&f);
}

static void what_is_in_use_stays(void **state)
{
	const char *one = "a@one";
	struct lcpfs_snapshot_options force = {.force = true};
	struct lcpfs_partition *c;
	struct fixture f;
	(void)state;
	new_pool(&f);
	assert_int_equal(make_clone(&f, "a@one", "c"), 0);
	assert_int_equal(lcpfs_snapshot_destroy(f.pool, &one, 1, NULL, &f.failure), -LCPFS_E_CLONED);
	assert_non_null(strstr(f.failure.message, "snapshot a@one has clones (c); destroy them first"));
	assert_int_equal(lcpfs_partition_open(f.pool, "c", &c, &f.failure), 0);
	assert_int_equal(destroy(&f, "c"), -LCPFS_E_BUSY);
	assert_non_null(strstr(f.failure.message, "clone c is in use by 1 client; disconnect it first"));
	assert_int_equal(lcpfs_partition_remove(f.pool, "a", &f.failure), -LCPFS_E_BUSY);
	/* Whoever has it open does not see the volume go back. */
	assert_int_equal(fixture_write(&f, "a", 0, 50, 2), 0);
	assert_int_equal(lcpfs_snapshot_rollback(f.pool, "a@one", NULL, &f.failure), 0);
	fixture_expect(&f, "a", 0, BLOCKS, 1);
	lcpfs_partition_close(c);
	assert_int_equal(take(&f, "a@old"), 0);
	assert_int_equal(make_clone(&f, "a@old", "d"), 0);
	assert_int_equal(lcpfs_snapshot_rollback(f.pool, "a@one", &force, &f.failure), -LCPFS_E_CLONED);
	assert_int_equal(destroy(&f, "d"), 0);
	assert_int_equal(lcpfs_snapshot_rollback(f.pool, "a@one", &force, &f.failure), 0);
	reopen(&f);
	assert_int_equal(lcpfs_partition_remove(f.pool, "a", &f.failure), 0);
	assert_string_equal(names(&f), "");
	assert_int_equal(fixture_add(&f, "c", LEAST, LEAST, LEAST), 0);
	fixture_done(&f);
}

static void a_read_only_pool_has_them(void **state)
{
	struct lcpfs_partition *c;
	uint8_t block[BLOCK_SIZE] = {0};
	struct fixture f;
	(void)state;
	new_pool(&f);
	assert_int_equal(make_clone(&f, "a@one", "c"), 0);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_open(&f, true), 0);
	fixture_expect(&f, "c", 0, BLOCKS, 1);
	assert_int_equal(lcpfs_clone_create(f.pool, "a@one", "d", true, &f.failure), 0);
	assert_int_equal(make_clone(&f, "a@one", "d"), -LCPFS_E_READ_ONLY);
	assert_int_equal(destroy(&f, "c"), -LCPFS_E_READ_ONLY);
	assert_int_equal(lcpfs_partition_open(f.pool, "c", &c, &f.failure), 0);
	assert_int_equal(lcpfs_volume_write(c, 0, block, BLOCK_SIZE, false, &f.failure), -LCPFS_E_READ_ONLY);
	lcpfs_partition_close(c);
	fixture_done(&f);
}

/* One that keeps its clone's beginning is not too many. */
static void a_schedule_leaves_what_is_cloned(void **state)
{
	struct lcpfs_partition_change change = {.schedule_given = true};
	struct lcpfs_snapshot_info list[8];
	struct lcpfs_partition_info info;
	struct fixture f;
	size_t count;
	(void)state;
	new_pool(&f);
	for (int i = 0; i < 4; i++) {
		char name[64];
		snprintf(name, sizeof(name), "a@hourly-2023-11-14_%02d:59", i);
		assert_int_equal(take(&f, name), 0);
	}
	assert_int_equal(make_clone(&f, "a@hourly-2023-11-14_01:59", "c"), 0);
	assert_int_equal(lcpfs_snapshot_schedule_parse("hourly:1", &change.schedule), 0);
	assert_int_equal(lcpfs_partition_set(f.pool, "a", &change, NULL, NULL, &info, &f.failure), 0);
	schedule_look(f.pool);
	assert_int_equal(lcpfs_snapshot_list(f.pool, "a", list, 8, &count, &f.failure), 0);
	assert_int_equal(count, 3); /* one, the one that is cloned, and a new one */
	assert_string_equal(list[1].name, "a@hourly-2023-11-14_01:59");
	fixture_done(&f);
}

struct maker {
	struct lcpfs_pool *pool;
	const char *snapshot;
	int error;
};

static void *make_one(void *context)
{
	struct maker *m = context;
	m->error = lcpfs_clone_create(m->pool, m->snapshot, "same", false, NULL);
	return NULL;
}

/* Of two partitions, at the same time: one of them gets the name. */
static void two_want_one_name(void **state)
{
	struct fixture f;
	(void)state;
	new_pool(&f);
	assert_int_equal(take(&f, "b@one"), 0);
	for (int i = 0; i < 20; i++) {
		struct maker maker[2] = {{f.pool, "a@one", 0}, {f.pool, "b@one", 0}};
		pthread_t thread[2];
		for (int k = 0; k < 2; k++)
			assert_int_equal(pthread_create(&thread[k], NULL, make_one, &maker[k]), 0);
		for (int k = 0; k < 2; k++)
			assert_int_equal(pthread_join(thread[k], NULL), 0);
		assert_int_equal(maker[0].error + maker[1].error, -LCPFS_E_EXISTS);
		assert_int_equal(destroy(&f, "same"), 0);
	}
	fixture_done(&f);
}

static int promote(struct fixture *f, const char *name)
{
	char partition[LCPFS_NAME_MAX + 1];
	return lcpfs_clone_promote(f->pool, name, false, partition, &f->failure);
}

/* By either name there is what was there before, and by its new name the partition with its snapshots. */
static void a_clone_takes_the_place(void **state)
{
	static const uint64_t lengths[] = {8 * MB, 16 * MB + 512, 18 * MB};
	char partition[LCPFS_NAME_MAX + 1];
	struct lcpfs_partition_info info;
	struct lcpfs_partition *p;
	struct fixture f;
	(void)state;
	new_pool(&f);
	assert_int_equal(make_clone(&f, "a@one", "c"), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 50, 2), 0);
	assert_int_equal(fixture_write(&f, "c", 0, 50, 3), 0);
	assert_int_equal(promote(&f, "none"), -LCPFS_E_NOT_FOUND);
	assert_int_equal(promote(&f, "a"), -LCPFS_E_NOT_FOUND);
	assert_int_equal(lcpfs_partition_open(f.pool, "a", &p, &f.failure), 0);
	assert_int_equal(promote(&f, "c"), -LCPFS_E_BUSY);
	lcpfs_partition_close(p);
	assert_int_equal(lcpfs_clone_promote(f.pool, "c", true, partition, &f.failure), 0);
	assert_string_equal(partition, "a");
	assert_string_equal(names(&f), "c of a@one");
	assert_int_equal(promote(&f, "c"), 0);
	for (int round = 0; round < 2; round++) {
		assert_string_equal(names(&f), "a of c@one");
		assert_int_equal(fixture_info(&f, "c").clones, 1);
		fixture_expect(&f, "a", 0, 50, 2);
		fixture_expect(&f, "c", 0, 50, 3);
		fixture_expect(&f, "c@one", 0, BLOCKS, 1);
		assert_int_equal(features(&f, "c"), PARTITION_SNAPSHOTS | PARTITION_CLONES);
		reopen(&f);
	}
	assert_int_equal(promote(&f, "a"), 0); /* and back */
	assert_string_equal(names(&f), "c of a@one");
	for (size_t i = 0; i < ARRAY_LENGTH(lengths); i++) {
		struct lcpfs_partition_change change = {.volume_bytes = lengths[i], .thin = true};
		assert_int_equal(lcpfs_partition_set(f.pool, "a", &change, NULL, NULL, &info, &f.failure), 0);
		assert_int_equal(promote(&f, "c"), -LCPFS_E_RANGE);
	}
	assert_int_equal(destroy(&f, "c"), 0);
	fixture_expect(&f, "a", 0, 50, 2);
	reopen(&f);
	fixture_done(&f);
}

static const char *snapshots(struct fixture *f)
{
	static char text[1000];
	struct lcpfs_snapshot_info list[16];
	struct lcpfs_bookmark_info mark[40];
	size_t count, marks, length = 0;
	assert_int_equal(lcpfs_snapshot_list(f->pool, NULL, list, 16, &count, &f->failure), 0);
	assert_int_equal(lcpfs_bookmark_list(f->pool, NULL, mark, 40, &marks, &f->failure), 0);
	text[0] = '\0';
	for (size_t i = 0; i < count + marks; i++)
		length += (size_t)snprintf(text + length, sizeof(text) - length, "%s%s", i ? " " : "",
					   i < count ? list[i].name : mark[i - count].name);
	return text;
}

/* Those that are younger than the clone's origin stay with what they are of, and so do the clone's. */
static void snapshots_stay_with_what_they_are_of(void **state)
{
	struct lcpfs_snapshot_sizes before, sizes;
	struct fixture f;
	(void)state;
	new_pool(&f);
	assert_int_equal(lcpfs_bookmark_create(f.pool, "a@one", "m", NULL, &f.failure), 0);
	assert_int_equal(make_clone(&f, "a@one", "c"), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 50, 2), 0);
	assert_int_equal(fixture_write(&f, "c", 0, 50, 3), 0);
	assert_int_equal(take(&f, "a@two"), 0);
	assert_int_equal(lcpfs_bookmark_create(f.pool, "a@two", "n", NULL, &f.failure), 0);
	assert_int_equal(make_clone(&f, "a@two", "d"), 0);
	assert_int_equal(take(&f, "c@one"), 0);
	assert_int_equal(promote(&f, "c"), -LCPFS_E_EXISTS);
	assert_string_equal(f.failure.message,
			    "there are a@one and c@one, which would have one name: rename one first");
	assert_int_equal(lcpfs_snapshot_rename(f.pool, "c@one", "two", NULL, &f.failure), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 20, 4), 0);
	assert_int_equal(fixture_write(&f, "c", 0, 20, 5), 0);
	assert_int_equal(take(&f, "a@three"), 0);
	assert_int_equal(lcpfs_snapshot_sizes(f.pool, "a@two", &before, &f.failure), 0);
	assert_int_equal(before.used_blocks, 20 + 2 * 2);
	assert_int_equal(features(&f, "a") & PARTITION_TURNS, 0);
	assert_int_equal(promote(&f, "c"), 0);
	assert_int_equal(features(&f, "c"), PARTITION_SNAPSHOTS | PARTITION_CLONES | PARTITION_BOOKMARKS |
						    PARTITION_LINES | PARTITION_TURNS);
	for (int round = 0; round < 3; round++) {
		assert_string_equal(names(&f), "a of c@one, d of a@two");
		assert_string_equal(snapshots(&f), "c@one a@two c@two a@three c#m a#n");
		fixture_expect(&f, "a", 0, 20, 4);
		fixture_expect(&f, "c", 0, 20, 5);
		fixture_expect(&f, "d", 0, 50, 2);
		fixture_expect(&f, "c@one", 0, BLOCKS, 1);
		fixture_expect(&f, "a@two", 0, 50, 2);
		fixture_expect(&f, "c@two", 0, 50, 3);
		fixture_expect(&f, "a@three", 0, 20, 4);
		assert_int_equal(lcpfs_snapshot_sizes(f.pool, "a@two", &sizes, &f.failure), 0);
		assert_memory_equal(&sizes, &before, sizeof(sizes));
		if (round == 1)
			assert_int_equal(fixture_write(&f, "a", 100, 20, 6), 0);
		reopen(&f);
	}
	assert_int_equal(promote(&f, "d"), -LCPFS_E_INVALID);
	assert_string_equal(f.failure.message, "d is a clone of a@two, which is of a clone: promote a first");
	assert_int_equal(lcpfs_snapshot_rollback(f.pool, "a@three", NULL, &f.failure), 0);
	assert_int_equal(promote(&f, "a"), 0); /* and back */
	assert_string_equal(names(&f), "c of a@one, d of a@two");
	assert_string_equal(snapshots(&f), "a@one a@two c@two a@three a#m a#n");
	reopen(&f);
	assert_int_equal(promote(&f, "d"), 0);
	assert_string_equal(names(&f), "c of d@one, a of d@two");
	assert_string_equal(snapshots(&f), "d@one d@two c@two a@three d#m d#n");
	fixture_expect(&f, "d", 0, 50, 2);
	assert_int_equal(lcpfs_snapshot_destroy(f.pool, (const char *[]){"a@three"}, 1, NULL, &f.failure), 0);
	assert_int_equal(destroy(&f, "a"), 0);
	reopen(&f);
	fixture_expect(&f, "d", 0, 50, 2);
	fixture_expect(&f, "c", 0, 20, 5);
	fixture_done(&f);
}

/* A clone gets another name and a longer volume, and is then as long as a volume that was made longer. */
static void a_clone_is_renamed_and_gets_longer(void **state)
{
	struct lcpfs_partition_change change = {.volume_bytes = 24 * MB, .thin = true};
	struct lcpfs_partition_info info;
	struct lcpfs_partition *p;
	uint8_t block[BLOCK_SIZE] = {7};
	struct fixture f;
	(void)state;
	new_pool(&f);
	assert_int_equal(make_clone(&f, "a@one", "c"), 0);
	assert_int_equal(fixture_write(&f, "c", 0, 50, 3), 0);
	assert_int_equal(take(&f, "c@own"), 0);
	assert_int_equal(lcpfs_partition_open(f.pool, "c", &p, &f.failure), 0);
	assert_int_equal(lcpfs_clone_rename(f.pool, "c", "d", false, &f.failure), -LCPFS_E_BUSY);
	assert_int_equal(lcpfs_clone_grow(f.pool, "c", 24 * MB - 1, false, &f.failure), 0);
	assert_int_equal(lcpfs_volume_bytes(p), 16 * MB);
	lcpfs_partition_close(p);
	assert_int_equal(lcpfs_clone_rename(f.pool, "c", "b", false, &f.failure), -LCPFS_E_EXISTS);
	assert_int_equal(lcpfs_clone_rename(f.pool, "c", "-", false, &f.failure), -LCPFS_E_INVALID);
	assert_int_equal(lcpfs_clone_rename(f.pool, "b", "d", false, &f.failure), -LCPFS_E_INVALID);
	assert_int_equal(lcpfs_clone_rename(f.pool, "x", "d", false, &f.failure), -LCPFS_E_NOT_FOUND);
	assert_int_equal(lcpfs_clone_rename(f.pool, "c", "d", true, &f.failure), 0);
	assert_int_equal(lcpfs_clone_rename(f.pool, "c", "d", false, &f.failure), 0);
	assert_int_equal(lcpfs_clone_grow(f.pool, "d", 8 * MB, false, &f.failure), -LCPFS_E_INVALID);
	assert_int_equal(lcpfs_clone_grow(f.pool, "d", UINT64_MAX, false, &f.failure), -LCPFS_E_RANGE);
	for (int round = 0; round < 2; round++) {
		assert_string_equal(names(&f), "d of a@one");
		fixture_expect(&f, "d", 0, 50, 3);
		fixture_expect(&f, "d@own", 0, 50, 3);
		assert_int_equal(lcpfs_partition_open(f.pool, "d", &p, &f.failure), 0);
		assert_int_equal(lcpfs_volume_bytes(p), 24 * MB);
		if (!round) /* the tree gets a further level */
			assert_int_equal(
				lcpfs_volume_write(p, 24 * MB - BLOCK_SIZE, block, BLOCK_SIZE, false, &f.failure),
				0);
		block[0] = 0;
		assert_int_equal(lcpfs_volume_read(p, 24 * MB - BLOCK_SIZE, block, BLOCK_SIZE, &f.failure), 0);
		assert_int_equal(block[0], 7);
		lcpfs_partition_close(p);
		reopen(&f);
	}
	assert_int_equal(lcpfs_snapshot_rollback(f.pool, "d@own", NULL, &f.failure), 0);
	assert_int_equal(lcpfs_partition_open(f.pool, "d", &p, &f.failure), 0);
	assert_int_equal(lcpfs_volume_read(p, 24 * MB - BLOCK_SIZE, block, BLOCK_SIZE, &f.failure), 0);
	assert_int_equal(block[0], 0);
	lcpfs_partition_close(p);
	assert_int_equal(lcpfs_snapshot_destroy(f.pool, (const char *[]){"d@own"}, 1, NULL, &f.failure), 0);
	assert_int_equal(promote(&f, "d"), -LCPFS_E_RANGE);
	assert_int_equal(lcpfs_partition_set(f.pool, "a", &change, NULL, NULL, &info, &f.failure), 0);
	assert_int_equal(promote(&f, "d"), 0);
	fixture_expect(&f, "d", 0, 50, 3);
	reopen(&f);
	fixture_done(&f);
}

/* What a power cut, or a fault, left of it: the content by its names is always the same. */
static void must_be_whole(struct fixture *f, bool *promoted)
{
	assert_int_equal(fixture_check(f, true), 0);
	for (int read_only = 1; read_only >= 0; read_only--) {
		assert_int_equal(fixture_open(f, read_only), 0);
		*promoted = strcmp(names(f), "a of c@one") == 0;
		assert_true(*promoted || strcmp(names(f), "c of a@one") == 0);
		fixture_expect(f, "a", 0, 50, 2);
		fixture_expect(f, "c", 0, 50, 3);
		fixture_expect(f, *promoted ? "c@one" : "a@one", 0, BLOCKS, 1);
		uint64_t bits = features(f, *promoted ? "c" : "a");
		if (!read_only)
			assert_int_equal(
				bits & ~(uint64_t)(PARTITION_LINES | PARTITION_TURNS | PARTITION_BOOKMARKS),
				PARTITION_SNAPSHOTS | PARTITION_CLONES);
		if (bits & PARTITION_LINES) { /* they have some; the first block of the list is full */
			fixture_expect(f, "a@two", 0, 50, 2);
			fixture_expect(f, "c@two", 0, 50, 3);
			assert_non_null(
				strstr(snapshots(f), *promoted ? "c@one a@two c@two c#" : "a@one a@two c@two a#"));
		}
		assert_int_equal(fixture_close(f), 0);
	}
	assert_int_equal(fixture_check(f, true), 0);
}

/* `others`: the volume and the clone have snapshots, and the list has two blocks. */
static struct simimage *about_to_promote(bool others)
{
	struct fixture f;
	char name[8];
	new_pool(&f);
	assert_int_equal(fixture_write(&f, "a", 0, 50, 2), 0);
	if (others)
		assert_int_equal(take(&f, "a@two"), 0);
	for (unsigned i = 2; others && i < SNAPSHOT_SLOTS; i++) {
		snprintf(name, sizeof(name), "%u", i);
		assert_int_equal(lcpfs_bookmark_create(f.pool, "a@one", name, NULL, &f.failure), 0);
	}
	assert_int_equal(make_clone(&f, "a@one", "c"), 0);
	assert_int_equal(fixture_write(&f, "c", 0, 50, 3), 0);
	if (others)
		assert_int_equal(take(&f, "c@two"), 0);
	struct simimage *image = simimage_clone(simdisk_content(f.disk));
	fixture_done(&f);
	return image;
}

/* At each change of the device, and of what is in its cache nothing, all, or some. */
static void cut_amid_promoting(bool others)
{
	struct simimage *image = about_to_promote(others);
	unsigned done = 0, not_done = 0;
	bool stopped = true;
	for (uint64_t at = 0; stopped; at++) {
		for (unsigned fate = 0; fate < 4; fate++) {
			static const enum simdisk_fate_kind kinds[] = {SIMDISK_NONE, SIMDISK_ALL, SIMDISK_SCATTER,
								       SIMDISK_SCATTER};
			struct fixture f;
			bool promoted;
			fixture_init(&f, image);
			assert_int_equal(fixture_open(&f, false), 0);
			simdisk_stop_at(f.disk, simdisk_counts(f.disk)->changes + at);
			if (promote(&f, "c") == 0 && others) { /* as the background does */
				struct store *store = part_named(f.pool, "c")->store;
				assert_true(store_snapshots_pending(store) || simdisk_is_stopped(f.disk));
				while (store_snapshots_pending(store) && store_step(store) > 0)
					;
				(void)!store_flush(store, NULL);
			}
			stopped = simdisk_is_stopped(f.disk);
			struct simimage *left = simdisk_image(
				f.disk, &(struct simdisk_fate){.kind = kinds[fate], .seed = at * 4 + fate});
			fixture_done(&f);
			fixture_init(&f, left);
			simimage_free(left);
			must_be_whole(&f, &promoted);
			*(promoted ? &done : &not_done) += 1;
			fixture_done(&f);
		}
	}
	assert_true(done > 4 && not_done > 4);
	simimage_free(image);
}

static void a_cut_amid_promoting_leaves_it_done_or_not(void **state)
{
	(void)state;
	cut_amid_promoting(false);
	cut_amid_promoting(true);
}

/* Either is done or not; and whoever has clones says so in its page. */
static void a_cut_amid_making_or_destroying_leaves_it_done_or_not(void **state)
{
	struct simimage *with = about_to_promote(false), *without;
	struct fixture f;
	(void)state;
	new_pool(&f);
	assert_int_equal(fixture_write(&f, "a", 0, 50, 2), 0);
	without = simimage_clone(simdisk_content(f.disk));
	fixture_done(&f);
	for (unsigned making = 0; making < 2; making++) {
		unsigned there = 0, gone = 0;
		bool stopped = true;
		for (uint64_t at = 0; stopped || at % 2; at++) {
			fixture_init(&f, making ? without : with);
			assert_int_equal(fixture_open(&f, false), 0);
			simdisk_stop_at(f.disk, simdisk_counts(f.disk)->changes + at / 2);
			(void)!(making ? make_clone(&f, "a@one", "c") : destroy(&f, "c"));
			stopped = simdisk_is_stopped(f.disk);
			struct simimage *left = simdisk_image(
				f.disk, &(struct simdisk_fate){.kind = at % 2 ? SIMDISK_SCATTER : SIMDISK_ALL,
							       .seed = at});
			fixture_done(&f);
			fixture_init(&f, left);
			simimage_free(left);
			assert_int_equal(fixture_check(&f, true), 0);
			assert_int_equal(fixture_open(&f, false), 0);
			bool is_there = *names(&f);
			*(is_there ? &there : &gone) += 1;
			assert_true(!is_there || features(&f, "a") & PARTITION_CLONES);
			fixture_expect(&f, "a", 0, 50, 2);
			fixture_expect(&f, "a@one", 0, BLOCKS, 1);
			if (is_there)
				fixture_expect(&f, "c", 0, 50, making ? 1 : 3);
			fixture_done(&f);
		}
		assert_true(there > 2 && gone > 2);
	}
	simimage_free(with);
	simimage_free(without);
}

/* Each write and flush fails, once or for good. Then a cut, or it is closed. */
static void a_fault_amid_promoting_leaves_it_done_or_not(void **state)
{
	static const enum simdisk_kind kinds[] = {SIMDISK_WRITE, SIMDISK_FLUSH};
	struct simimage *images[] = {about_to_promote(false), about_to_promote(true)};
	(void)state;
	for (unsigned way = 0; way < 8; way++) {
		const struct simimage *image = images[way / 4];
		bool met = true;
		for (uint64_t at = 0; met; at++) {
			struct simdisk_fault fault = {.kind = kinds[way / 2 % 2],
						      .error = LCPFS_E_IO,
						      .at = at,
						      .forever = way % 2,
						      .effect = SIMDISK_FAILS};
			struct fixture f;
			bool promoted;
			fixture_init(&f, image);
			assert_int_equal(fixture_open(&f, false), 0);
			simdisk_add_fault(f.disk, &fault);
			int error = promote(&f, "c");
			met = simdisk_fault_hits(f.disk) > 0;
			simdisk_clear_faults(f.disk);
			struct simimage *left = simdisk_image(
				f.disk, &(struct simdisk_fate){.kind = at % 2 ? SIMDISK_ALL : SIMDISK_SCATTER,
							       .seed = at});
			fixture_done(&f);
			fixture_init(&f, left);
			simimage_free(left);
			must_be_whole(&f, &promoted);
			assert_true(promoted || error);
			fixture_done(&f);
		}
	}
	simimage_free(images[0]);
	simimage_free(images[1]);
}

/* What is done after a promotion, however that ended: by its names the pool has this then. */
struct names {
	const char *clone, *partition; /* NULL: there is no clone any more */
	uint8_t clone_value, partition_value;
};

enum { DESTROY, RENAME, RENAME_CLONE, PROMOTE, FOLLOWERS };

/* False: it failed, and may have been done or not. */
static bool follow(struct fixture *f, unsigned what, struct names *n)
{
	struct lcpfs_partition_change change = {.new_name = "new"};
	struct lcpfs_partition_info info;
	bool promoted = strcmp(names(f), "a of c@one") == 0;
	assert_true(promoted || strcmp(names(f), "c of a@one") == 0);
	*n = promoted ? (struct names){"a", "c", 2, 3} : (struct names){"c", "a", 3, 2};
	int error = what == DESTROY ? destroy(f, n->clone)
		    : what == RENAME
			    ? lcpfs_partition_set(f->pool, n->partition, &change, NULL, NULL, &info, &f->failure)
		    : what == RENAME_CLONE ? lcpfs_clone_rename(f->pool, n->clone, "new", false, &f->failure)
					   : promote(f, n->clone);
	if (what == DESTROY)
		n->clone = NULL;
	else if (what == RENAME)
		n->partition = "new";
	else if (what == RENAME_CLONE)
		n->clone = "new";
	else
		*n = (struct names){n->partition, n->clone, n->partition_value, n->clone_value};
	return !error;
}

static void must_be_named(struct fixture *f, const struct names *n)
{
	char snapshot[LCPFS_NAME_MAX + 5], clones[100] = "";
	snprintf(snapshot, sizeof(snapshot), "%s@one", n->partition);
	if (n->clone)
		snprintf(clones, sizeof(clones), "%s of %s", n->clone, snapshot);
	assert_string_equal(names(f), clones);
	fixture_expect(f, n->partition, 0, 50, n->partition_value);
	fixture_expect(f, snapshot, 0, BLOCKS, 1);
	if (n->clone)
		fixture_expect(f, n->clone, 0, 50, n->clone_value);
}

/* Each write and flush of a promotion fails, and then the pool goes on: names stay with what they are names of. */
static void what_follows_a_promotion_finds_its_names(void **state)
{
	static const enum simdisk_kind kinds[] = {SIMDISK_WRITE, SIMDISK_FLUSH};
	struct simimage *image = about_to_promote(false);
	(void)state;
	for (unsigned way = 0; way < 2 * FOLLOWERS; way++) {
		unsigned worked = 0;
		bool met = true;
		for (uint64_t at = 0; met; at++) {
			struct simdisk_fault fault = {
				.kind = kinds[way % 2], .error = LCPFS_E_IO, .at = at, .effect = SIMDISK_FAILS};
			struct fixture f;
			struct names n;
			fixture_init(&f, image);
			assert_int_equal(fixture_open(&f, false), 0);
			simdisk_add_fault(f.disk, &fault);
			(void)!promote(&f, "c");
			met = simdisk_fault_hits(f.disk) > 0;
			simdisk_clear_faults(f.disk);
			if (!follow(&f, way / 2, &n)) {
				fixture_done(&f);
				continue;
			}
			worked++;
			must_be_named(&f, &n);
			struct simimage *left = simdisk_image(
				f.disk, &(struct simdisk_fate){.kind = at % 2 ? SIMDISK_ALL : SIMDISK_SCATTER,
							       .seed = at});
			fixture_done(&f);
			fixture_init(&f, left);
			simimage_free(left);
			assert_int_equal(fixture_check(&f, true), 0);
			assert_int_equal(fixture_open(&f, false), 0);
			must_be_named(&f, &n);
			fixture_done(&f);
		}
		assert_true(worked > (way % 2 ? 0 : 4));
	}
	simimage_free(image);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_clone_is_a_volume),
		cmocka_unit_test(names_are_of_one_pool),
		cmocka_unit_test(what_is_in_use_stays),
		cmocka_unit_test(a_read_only_pool_has_them),
		cmocka_unit_test(a_schedule_leaves_what_is_cloned),
		cmocka_unit_test(two_want_one_name),
		cmocka_unit_test(a_clone_takes_the_place),
		cmocka_unit_test(a_clone_is_renamed_and_gets_longer),
		cmocka_unit_test(snapshots_stay_with_what_they_are_of),
		cmocka_unit_test(a_cut_amid_promoting_leaves_it_done_or_not),
		cmocka_unit_test(a_cut_amid_making_or_destroying_leaves_it_done_or_not),
		cmocka_unit_test(a_fault_amid_promoting_leaves_it_done_or_not),
		cmocka_unit_test(what_follows_a_promotion_finds_its_names),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
