/* SPDX-License-Identifier: Apache-2.0 */
/* Geometry and labels: what a new pool is like, and what is one. */
#include "pool_fixture.h"

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
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
