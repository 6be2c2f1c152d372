/* SPDX-License-Identifier: Apache-2.0 */
/* Pools on a simulated disk, single-threaded, with the clock in the tests' hands: what each call promises. */
#include "pool_fixture.h"
#include "store/state.h"

enum { HOT_BLOCKS = 2500 };

/* -- geometry and labels -- */

static void geometry_follows_from_the_size(void **state)
{
	static const struct {
		uint64_t bytes, metaslab;
		uint32_t count_min, slots;
	} cases[] = {
		{16 * MB, 1 * MB, 14, 16},
		{1024 * MB, 1 * MB, 1000, 128},
		{10240 * MB, 4 * MB, 2500, 256},
		{UINT64_C(1) << 40, 64 * MB, 16380, 256},
		{UINT64_C(60) << 40, 64 * MB, 980000, 256},
	};
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct layout l;
		assert_int_equal(layout_plan(cases[i].bytes, 0, 0, &l, NULL), 0);
		assert_int_equal((uint64_t)l.metaslab_blocks * BLOCK_SIZE, cases[i].metaslab);
		assert_true(l.metaslab_count >= cases[i].count_min);
		assert_int_equal(l.partition_slots, cases[i].slots);
		assert_int_equal(l.area_blocks % AREA_ALIGN_BLOCKS, 0);
		assert_true(layout_metaslab_block(&l, l.metaslab_count) <= l.device_blocks - l.area_blocks);
		assert_true(layout_root_block(&l, 1, l.partition_slots - 1, 1) < l.device_blocks);
		assert_true(layout_root_block(&l, 0, l.partition_slots - 1, 1) < l.metaslab_base);
	}
}

static void impossible_geometry_is_refused(void **state)
{
	struct lcpfs_failure failure;
	struct layout l;
	(void)state;
	assert_int_equal(layout_plan(16 * MB - 1, 0, 0, &l, &failure), -LCPFS_E_INVALID);
	assert_non_null(strstr(failure.message, "16 MiB"));
	assert_int_equal(layout_plan(64 * MB, 0, 3 * MB, &l, &failure), -LCPFS_E_INVALID);
	assert_int_equal(layout_plan(64 * MB, 0, 128 * MB, &l, &failure), -LCPFS_E_INVALID);
	assert_int_equal(layout_plan(64 * MB, 0, 512 * 1024, &l, &failure), -LCPFS_E_INVALID);
	assert_int_equal(layout_plan(64 * MB, 0, 64 * MB, &l, &failure), -LCPFS_E_INVALID);
	assert_non_null(strstr(failure.message, "smaller metaslab"));
	assert_int_equal(layout_plan(UINT64_C(65) << 40, 0, 0, &l, &failure), -LCPFS_E_INVALID);
	assert_int_equal(layout_plan(UINT64_MAX, 0, 0, &l, &failure), -LCPFS_E_INVALID);
	assert_int_equal(layout_plan(UINT64_C(1) << 40, 0, MB, &l, &failure), 0);
	assert_int_equal(layout_plan(UINT64_C(2) << 40, 0, MB, &l, &failure), -LCPFS_E_INVALID);
}

static void a_pool_reopens_as_it_was_created(void **state)
{
	struct fixture f;
	struct lcpfs_pool_info info;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(lcpfs_pool_get_info(f.pool, &info), 0);
	assert_int_equal(info.guid, POOL_GUID);
	assert_int_equal(info.metaslabs, 62);
	assert_int_equal(info.free_blocks, info.size_blocks);
	assert_int_equal(info.partitions, 0);
	assert_int_equal(info.health, LCPFS_HEALTH_ONLINE);
	assert_int_equal(info.engine.mode, LCPFS_ENGINE_OBSERVE);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	fixture_done(&f);
}

static void creating_over_a_pool_needs_force(void **state)
{
	struct lcpfs_create_options options = {0};
	struct lcpfs_pool_info info;
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 0, 8 * MB), 0);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(pool_create_vdev(f.vdev, &f.clock, &options, 77, &f.failure), -LCPFS_E_EXISTS);
	options.force = true;
	options.metaslab_bytes = 2 * MB;
	assert_int_equal(pool_create_vdev(f.vdev, &f.clock, &options, 77, &f.failure), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(lcpfs_pool_get_info(f.pool, &info), 0);
	assert_int_equal(info.guid, 77);
	assert_int_equal(info.partitions, 0);
	fixture_invariants(&f);
	fixture_done(&f);
}

/* Where the front is damaged once, what lies in the midst must not be another pool. */
static void a_larger_pool_leaves_nothing_of_a_smaller_one(void **state)
{
	static const uint8_t zeros[BLOCK_SIZE];
	struct lcpfs_create_options options = {.force = true};
	uint8_t block[BLOCK_SIZE];
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_close(&f), 0);
	f.vdev->size_bytes = 32 * MB;
	assert_int_equal(pool_create_vdev(f.vdev, &f.clock, &options, 76, &f.failure), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	struct layout old = f.pool->layout;
	assert_int_equal(fixture_close(&f), 0);
	f.vdev->size_bytes = 64 * MB;
	assert_int_equal(pool_create_vdev(f.vdev, &f.clock, &options, 77, &f.failure), 0);
	for (uint64_t i = 0; i < old.area_blocks; i++) {
		uint64_t at = layout_area_block(&old, 1, 0) + i;
		assert_int_equal(vdev_read(f.vdev, at * BLOCK_SIZE, block, sizeof(block)), 0);
		assert_memory_equal(block, zeros, sizeof(block));
	}
	fixture_done(&f);
}

static void damage(struct fixture *f, uint64_t block, unsigned byte)
{
	struct simimage_damage flip = {.kind = SIMIMAGE_FLIP, .offset = block * BLOCK_SIZE + byte, .bit = 3};
	simdisk_damage(f->disk, &flip);
}

static void either_label_is_enough(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	struct layout l = f.pool->layout;
	assert_int_equal(fixture_close(&f), 0);
	for (unsigned copy = 0; copy < COPIES; copy++) {
		damage(&f, layout_area_block(&l, copy, AREA_LABEL), 100);
		assert_int_equal(fixture_check(&f, false), 1);
		assert_int_equal(fixture_open(&f, false), 0); /* repairs it */
		assert_int_equal(f.pool->damaged, 1);
		assert_int_equal(f.pool->repaired, 1);
		fixture_invariants(&f);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_check(&f, true), 0);
	}
	for (unsigned copy = 0; copy < COPIES; copy++)
		damage(&f, layout_area_block(&l, copy, AREA_LABEL), 100);
	assert_int_equal(fixture_open(&f, false), -LCPFS_E_CORRUPT);
	assert_non_null(strstr(f.failure.message, "both labels"));
	fixture_done(&f);
}

static void write_label(struct fixture *f, struct fmt_label *label)
{
	uint64_t version = le16_get(label->head.version);
	fmt_seal(label, FMT_LABEL, POOL_GUID, 0, 0);
	if (version != FMT_VERSION) {
		label->head.version = le16_of((uint16_t)version);
		label->head.checksum = le64_of(0);
		label->head.checksum = le64_of(hash64(label, sizeof(*label)));
	}
	assert_int_equal(vdev_write(f->vdev, 0, label, sizeof(*label)), 0);
}

static void what_is_no_pool_of_ours_is_named(void **state)
{
	struct fixture f;
	struct fmt_label good;
	char text[BLOCK_SIZE];
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(vdev_read(f.vdev, 0, &good, sizeof(good)), 0);

	struct fmt_label label = good;
	label.head.version = le16_of(FMT_VERSION + 1);
	write_label(&f, &label);
	assert_int_equal(fixture_open(&f, false), -LCPFS_E_VERSION);
	label = good;
	label.features.incompatible = le64_of(1);
	write_label(&f, &label);
	assert_int_equal(fixture_open(&f, false), -LCPFS_E_VERSION);
	assert_non_null(strstr(f.failure.message, "a feature that this lcpfs does not know"));
	label = good;
	label.device_blocks = le64_of(le64_get(good.device_blocks) * 2);
	write_label(&f, &label);
	assert_int_equal(fixture_open(&f, false), -LCPFS_E_CORRUPT);
	assert_non_null(strstr(f.failure.message, "truncated"));
	fixture_done(&f);

	struct simimage *image = simimage_new(16 * MB);
	memset(text, 'x', sizeof(text));
	for (uint64_t at = 0; at < 16 * MB; at += sizeof(text))
		simimage_write(image, at, text, sizeof(text));
	fixture_init(&f, image);
	simimage_free(image);
	assert_int_equal(fixture_open(&f, false), -LCPFS_E_NOT_A_POOL);
	assert_non_null(strstr(f.failure.message, "not an lcpfs pool"));
	fixture_done(&f);
	image = simimage_new(512);
	fixture_init(&f, image);
	simimage_free(image);
	assert_int_equal(fixture_open(&f, false), -LCPFS_E_NOT_A_POOL);
	fixture_done(&f);
}

static void hostile_labels_are_refused(void **state)
{
	static const uint64_t values[] = {
		0, 1, 255, 257, 65536, UINT32_MAX, UINT64_C(1) << 40, UINT64_MAX - 1, UINT64_MAX};
	struct fixture f;
	struct fmt_label good;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(vdev_read(f.vdev, 0, &good, sizeof(good)), 0);
	/* Every 4 and 8 bytes of the fields. Whatever is believed must work. */
	for (unsigned at = sizeof(struct fmt_head); at < MBR_OFFSET - 2; at += at < 136 ? 4 : 44) {
		for (size_t i = 0; i < ARRAY_LENGTH(values); i++) {
			struct fmt_label label = good;
			le64 value = le64_of(values[i]);
			memcpy((uint8_t *)&label + at, &value, i % 2 ? 4 : 8);
			write_label(&f, &label);
			if (fixture_open(&f, true) == 0)
				assert_int_equal(fixture_close(&f), 0);
		}
	}
	fixture_done(&f);
}

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
	assert_in_range(strtoull(needs + 6, NULL, 10), 12, 13); /* of data: 3000 blocks, and what else fits into as many metaslabs */
	assert_int_equal(fixture_size(&f, "a"), 20 * MB);
	assert_int_equal(fixture_resize(&f, "a", least), 0);
	assert_int_equal(fixture_size(&f, "a"), least);
	fixture_expect(&f, "a", 0, 3000, 1);
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

/* -- the engine and the history -- */

static void rounds(struct fixture *f, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		f->now_us += 1000000;
		pool_tick(f->pool);
	}
}

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
		rounds(&f, 1);
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
	rounds(&f, 3);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(simdisk_counts(f.disk)->changes, changes);
	fixture_done(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(geometry_follows_from_the_size),
		cmocka_unit_test(impossible_geometry_is_refused),
		cmocka_unit_test(a_pool_reopens_as_it_was_created),
		cmocka_unit_test(creating_over_a_pool_needs_force),
		cmocka_unit_test(a_larger_pool_leaves_nothing_of_a_smaller_one),
		cmocka_unit_test(either_label_is_enough),
		cmocka_unit_test(what_is_no_pool_of_ours_is_named),
		cmocka_unit_test(hostile_labels_are_refused),
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
		cmocka_unit_test(a_resize_can_be_stopped),
		cmocka_unit_test(metaslabs_move_between_partitions),
		cmocka_unit_test(moves_stop_at_the_min),
		cmocka_unit_test(a_full_writer_gets_free_space_up_to_its_max),
		cmocka_unit_test(without_free_space_others_give_in_every_mode),
		cmocka_unit_test(every_giver_is_tried),
		cmocka_unit_test(nobody_is_taken_below_its_min),
		cmocka_unit_test(a_newcomer_is_made_room_in_mode_on),
		cmocka_unit_test(the_mode_and_what_was_learned_survive),
		cmocka_unit_test(events_are_a_ring_that_survives),
		cmocka_unit_test(the_engine_moves_boundaries_in_mode_on),
		cmocka_unit_test(the_engine_moves_nothing_in_mode_observe),
		cmocka_unit_test(explain_names_the_partition),
		cmocka_unit_test(a_read_only_pool_writes_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
