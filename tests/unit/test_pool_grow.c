/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool takes what its device has gained: wholly or not at all, whatever is cut off, fails or is missing on the
 * way, and beside a client who writes. What is left opens, is clean, holds what was flushed, and can grow again.
 */
#include <pthread.h>
#include <stdatomic.h>

#include "pool_fixture.h"

#include "../crash/alloc.h"

enum { SCATTERS = 6, BLOCKS = 200 };
#define SMALL (48 * MB)
#define LARGE (80 * MB)

static void look_small(struct fixture *f, uint64_t bytes)
{
	f->vdev->size_bytes = bytes;
}

/* A pool on the first part of a disk, with a partition that holds something; open. */
static void begin(struct fixture *f, uint64_t disk_bytes, uint64_t pool_bytes)
{
	struct simimage *image = simimage_new(disk_bytes);
	struct lcpfs_create_options options = {0};
	fixture_init(f, image);
	simimage_free(image);
	look_small(f, pool_bytes);
	assert_int_equal(pool_create_vdev(f->vdev, &f->clock, &options, POOL_GUID, &f->failure), 0);
	assert_int_equal(fixture_open(f, false), 0);
	assert_int_equal(fixture_add(f, "a", LEAST, 10 * MB, 60 * MB), 0);
	assert_int_equal(fixture_add(f, "b", LEAST, LEAST, 1100 * MB), 0);
	assert_int_equal(fixture_write(f, "a", 0, BLOCKS, 1), 0);
}

static int grow(struct fixture *f)
{
	struct lcpfs_growth growth;
	memset(&f->failure, 0, sizeof(f->failure));
	return lcpfs_pool_grow(f->pool, NULL, &growth, &f->failure);
}

static void grow_to(struct fixture *f, uint64_t bytes)
{
	look_small(f, bytes);
	if (grow(f))
		fail_msg("%s", f->failure.message);
}

static uint64_t pool_bytes(struct fixture *f)
{
	struct lcpfs_pool_info info;
	assert_int_equal(lcpfs_pool_get_info(f->pool, &info), 0);
	assert_int_equal(info.engine.pool_blocks, info.size_blocks);
	assert_int_equal(info.engine.free_blocks, info.free_blocks);
	return info.size_blocks * BLOCK_SIZE;
}

static void close_clean(struct fixture *f)
{
	fixture_invariants(f);
	assert_int_equal(fixture_close(f), 0);
	assert_int_equal(fixture_check(f, true), 0);
}

/* All that is new can be used: b gets it, and fills it. */
static void use_all(struct fixture *f)
{
	uint64_t all = fixture_free(f) + fixture_size(f, "b");
	assert_int_equal(fixture_resize(f, "b", all), 0);
	assert_int_equal(fixture_free(f), 0);
	assert_int_equal(fixture_write(f, "b", 0, 4096, 3), 0);
	fixture_expect(f, "b", 0, 4096, 3);
	fixture_expect(f, "a", 0, BLOCKS, 1);
}

/* -- what it does -- */

/* From where the pool ended to where its back area begins then, a copy of it may have left a log. */
static void fill_gained(struct fixture *f)
{
	static uint8_t garbage[MB];
	memset(garbage, 0x55, sizeof(garbage));
	for (uint64_t at = SMALL; at < LARGE - MB; at += MB)
		assert_int_equal(vdev_write(f->vdev, at, garbage, sizeof(garbage)), 0);
}

static void expect_gained_is_zero(struct fixture *f)
{
	static uint8_t found[MB];
	for (uint64_t at = SMALL; at < LARGE - MB; at += MB) {
		assert_int_equal(vdev_read(f->vdev, at, found, sizeof(found)), 0);
		for (unsigned i = 0; i < sizeof(found); i += 512)
			assert_int_equal(found[i], 0);
	}
}

static void a_pool_takes_what_its_device_has_gained(void **state)
{
	struct lcpfs_event events[16];
	struct lcpfs_growth growth;
	struct fixture f;
	size_t count;
	(void)state;
	begin(&f, LARGE, SMALL);
	assert_int_equal(lcpfs_pool_grow(f.pool, NULL, &growth, &f.failure), 0);
	assert_int_equal(growth.old_size_blocks, growth.new_size_blocks);
	assert_int_equal(growth.missing_blocks, 256);
	look_small(&f, LARGE);
	assert_int_equal(
		lcpfs_pool_grow(f.pool, &(struct lcpfs_grow_options){.dry_run = true}, &growth, &f.failure), 0);
	assert_int_equal(growth.new_size_blocks, 78 * MB / BLOCK_SIZE);
	assert_int_equal(pool_bytes(&f), 46 * MB);
	fill_gained(&f);
	assert_int_equal(lcpfs_pool_grow(f.pool, NULL, &growth, &f.failure), 0);
	expect_gained_is_zero(&f);
	assert_int_equal(growth.old_size_blocks, 46 * MB / BLOCK_SIZE);
	assert_int_equal(growth.new_size_blocks, 78 * MB / BLOCK_SIZE);
	assert_int_equal(pool_bytes(&f), 78 * MB);
	assert_int_equal(lcpfs_pool_events(f.pool, 0, events, 16, &count), 0);
	assert_int_equal(events[count - 1].kind, LCPFS_EVENT_GROWN);
	assert_int_equal(events[count - 1].blocks, 32 * MB / BLOCK_SIZE);
	fixture_invariants(&f);
	use_all(&f);
	close_clean(&f);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(pool_bytes(&f), 78 * MB);
	assert_int_equal(
		lcpfs_pool_grow(f.pool, &(struct lcpfs_grow_options){.size_bytes = LARGE}, &growth, &f.failure),
		-LCPFS_E_INVALID);
	close_clean(&f);
	fixture_done(&f);
}

static void it_grows_again_and_again(void **state)
{
	struct fixture f;
	(void)state;
	begin(&f, 60 * MB, 40 * MB);
	for (uint64_t bytes = 41 * MB; bytes <= 60 * MB; bytes += MB) {
		grow_to(&f, bytes);
		assert_int_equal(pool_bytes(&f), bytes - 2 * MB);
		fixture_expect(&f, "a", 0, BLOCKS, 1);
		if (bytes % 3 == 0) {
			assert_int_equal(fixture_resize(&f, "b", bytes - 15 * MB), 0);
			assert_int_equal(fixture_write(&f, "b", bytes / MB * 20, 100, bytes), 0);
		}
		if (bytes % 4)
			continue;
		pool_abandon(f.pool);
		assert_int_equal(fixture_open(&f, false), 0);
	}
	use_all(&f);
	close_clean(&f);
	fixture_done(&f);
}

/* Less than an area, or than a metaslab, is of no use. */
static void too_little_is_left_alone(void **state)
{
	static const struct {
		uint64_t bytes, metaslab, least;
	} cases[] = {{1024 * MB, MB, 4 * MB}, {200 * MB, 8 * MB, 1 * MB}, {201 * MB, 8 * MB, 8 * MB}};
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct simimage *image = simimage_new(cases[i].bytes + 8 * MB);
		struct lcpfs_create_options options = {.metaslab_bytes = cases[i].metaslab};
		struct lcpfs_growth growth;
		struct fixture f;
		fixture_init(&f, image);
		simimage_free(image);
		look_small(&f, cases[i].bytes);
		assert_int_equal(pool_create_vdev(f.vdev, &f.clock, &options, POOL_GUID, &f.failure), 0);
		assert_int_equal(fixture_open(&f, false), 0);
		uint64_t before = pool_bytes(&f);
		for (uint64_t more = 0; more < cases[i].least; more += MB) {
			look_small(&f, cases[i].bytes + more + MB - 512);
			assert_int_equal(lcpfs_pool_grow(f.pool, NULL, &growth, &f.failure), 0);
			assert_int_equal(growth.missing_blocks, (cases[i].least - more) / BLOCK_SIZE);
			assert_int_equal(pool_bytes(&f), before);
		}
		grow_to(&f, cases[i].bytes + cases[i].least);
		assert_true(pool_bytes(&f) > before);
		assert_int_equal(f.pool->layout.metaslab_base % f.pool->layout.metaslab_blocks, 0);
		close_clean(&f);
		fixture_done(&f);
	}
}

static void it_grows_no_further_than_its_map(void **state)
{
	struct fixture f;
	(void)state;
	begin(&f, 1200 * MB, SMALL);
	look_small(&f, 1011 * MB);
	assert_int_equal(grow(&f), -LCPFS_E_RANGE);
	assert_non_null(strstr(f.failure.message, "can grow to 1010M"));
	assert_int_equal(pool_bytes(&f), 46 * MB);
	grow_to(&f, 1010 * MB);
	assert_int_equal(pool_bytes(&f), 1008 * MB);
	use_all(&f);
	close_clean(&f);
	assert_int_equal(fixture_open(&f, false), 0);
	look_small(&f, 1200 * MB);
	assert_int_equal(grow(&f), -LCPFS_E_RANGE);
	close_clean(&f);
	fixture_done(&f);
}

static void a_device_that_shrank_is_truncated(void **state)
{
	struct fixture f;
	(void)state;
	begin(&f, LARGE, SMALL);
	grow_to(&f, LARGE);
	close_clean(&f);
	look_small(&f, SMALL);
	assert_int_equal(fixture_open(&f, false), -LCPFS_E_CORRUPT);
	assert_non_null(strstr(f.failure.message, "truncated"));
	/* Without the front label, too: the old back one is gone. */
	struct simimage_damage flip = {.kind = SIMIMAGE_FLIP, .offset = 100};
	simdisk_damage(f.disk, &flip);
	assert_int_equal(fixture_open(&f, false), -LCPFS_E_CORRUPT);
	assert_non_null(strstr(f.failure.message, "both labels"));
	fixture_done(&f);
}

/* -- what the new area holds -- */

/* Each structure of one area is damaged; what was whole in either is whole in the new one. */
static void damage_is_not_copied(void **state)
{
	(void)state;
	for (unsigned copy = 0; copy < COPIES; copy++) {
		static const uint8_t zeros[BLOCK_SIZE];
		struct fixture f;
		begin(&f, LARGE, SMALL);
		struct layout l = f.pool->layout;
		for (uint64_t i = AREA_LEASE; i < l.area_blocks; i++) {
			struct simimage_damage flip = {.kind = SIMIMAGE_FLIP,
						       .offset = layout_area_block(&l, copy, i) * BLOCK_SIZE +
								 33 * i % BLOCK_SIZE};
			simdisk_damage(f.disk, &flip);
		}
		grow_to(&f, LARGE);
		pool_abandon(f.pool);
		for (uint64_t i = 0; i < l.area_blocks; i++)
			assert_int_equal(vdev_write(f.vdev, i * BLOCK_SIZE, zeros, BLOCK_SIZE), 0);
		assert_int_equal(fixture_open(&f, false), 0);
		assert_int_equal(pool_bytes(&f), 78 * MB);
		fixture_expect(&f, "a", 0, BLOCKS, 1);
		use_all(&f);
		close_clean(&f);
		fixture_done(&f);
	}
}

/* A checkpoint was cut off between the copies of a root: the newer one is the one to take. */
static void the_newer_root_is_taken(void **state)
{
	(void)state;
	for (unsigned older = 0; older < COPIES; older++) {
		static const uint8_t zeros[BLOCK_SIZE];
		uint8_t old[2][BLOCK_SIZE];
		struct fixture f;
		begin(&f, LARGE, SMALL);
		struct layout l = f.pool->layout;
		for (unsigned slot = 0; slot < 2; slot++)
			assert_int_equal(vdev_read(f.vdev, layout_root_block(&l, older, 0, slot) * BLOCK_SIZE,
						   old[slot], BLOCK_SIZE),
					 0);
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(store_checkpoint(f.pool->parts[0]->store), 0);
		for (unsigned slot = 0; slot < 2; slot++)
			assert_int_equal(vdev_write(f.vdev, layout_root_block(&l, older, 0, slot) * BLOCK_SIZE,
						    old[slot], BLOCK_SIZE),
					 0);
		uint64_t generation = 0;
		grow_to(&f, LARGE);
		pool_abandon(f.pool);
		f.pool = NULL;
		l.device_blocks = LARGE / BLOCK_SIZE;
		for (unsigned slot = 0; slot < 2; slot++) {
			struct fmt_root root;
			uint64_t at = layout_root_block(&l, 1, 0, slot) * BLOCK_SIZE;
			assert_int_equal(vdev_read(f.vdev, at, &root, sizeof(root)), 0);
			generation = MAX_OF(generation, le64_get(root.generation));
			at = layout_root_block(&l, 0, 0, slot) * BLOCK_SIZE;
			assert_int_equal(vdev_write(f.vdev, at, zeros, BLOCK_SIZE), 0);
		}
		assert_true(generation >= 5);
		assert_int_equal(fixture_open(&f, false), 0);
		fixture_expect(&f, "a", 0, BLOCKS, 1);
		close_clean(&f);
		fixture_done(&f);
	}
}

/* Somebody has sealed a map with owners of metaslabs that the pool does not have. */
static void new_metaslabs_are_free(void **state)
{
	struct fixture f;
	struct txg txg;
	(void)state;
	begin(&f, LARGE, SMALL);
	txg_begin(f.pool, &txg);
	((struct fmt_map *)txg_change(&txg, 0))->owner[f.pool->layout.metaslab_count + 3] = le32_of(1);
	assert_int_equal(txg_commit(&txg, &f.failure), 0);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, false), 1);
	assert_int_equal(fixture_open(&f, false), 0);
	grow_to(&f, LARGE);
	use_all(&f);
	close_clean(&f);
	fixture_done(&f);
}

/* -- what is cut off or fails -- */

struct seen {
	uint64_t states, old, new;
};

/* It opens as one or the other, and both are clean. */
static void verify(struct fixture *f, bool may_be_old, bool may_be_new, struct seen *seen)
{
	struct lcpfs_growth growth;
	assert_int_equal(fixture_check(f, true), 0);
	if (fixture_open(f, false))
		fail_msg("it does not open: %s", f->failure.message);
	bool is_new = pool_bytes(f) == 78 * MB;
	assert_true(is_new ? may_be_new : may_be_old && pool_bytes(f) == 46 * MB);
	assert_int_equal(f->pool->damaged, 0);
	fixture_expect(f, "a", 0, BLOCKS, 1);
	assert_int_equal(lcpfs_pool_grow(f->pool, NULL, &growth, &f->failure), 0);
	assert_int_equal(growth.new_size_blocks, 78 * MB / BLOCK_SIZE);
	assert_int_equal(pool_bytes(f), 78 * MB);
	if (seen->states % 16 == 0)
		use_all(f);
	close_clean(f);
	seen->states++;
	seen->new += is_new;
	seen->old += !is_new;
}

/* Nothing in the back of a device that the pool has not taken yet is believed, should the front label be lost. */
static void verify_back(const struct simimage *image)
{
	struct fmt_label label, none = {0};
	struct fixture f;
	fixture_init(&f, image);
	assert_int_equal(vdev_read(f.vdev, 0, &label, sizeof(label)), 0);
	assert_int_equal(vdev_write(f.vdev, 0, &none, sizeof(none)), 0);
	if (le64_get(label.device_blocks) == SMALL / BLOCK_SIZE) {
		assert_int_equal(fixture_open(&f, false), -LCPFS_E_NOT_A_POOL);
		look_small(&f, SMALL);
		assert_int_equal(fixture_open(&f, false), 0);
		fixture_expect(&f, "a", 0, BLOCKS, 1);
		close_clean(&f);
	}
	fixture_done(&f);
}

/* Nothing, all, the last one torn behind or before its first sector, and at random. */
static struct simdisk_fate fate_of(const struct simdisk *disk, uint64_t change, unsigned i)
{
	unsigned cached = simdisk_cached_count(disk);
	if (i < 2)
		return (struct simdisk_fate){.kind = i ? SIMDISK_ALL : SIMDISK_NONE};
	if (i < 4 && cached)
		return (struct simdisk_fate){.kind = SIMDISK_MASK,
					     .mask = UINT64_MAX,
					     .has_torn = true,
					     .torn_index = cached - 1,
					     .torn_mask = i == 2 ? 1 : ~UINT64_C(1)};
	return (struct simdisk_fate){.kind = SIMDISK_SCATTER, .seed = change * 37 + i};
}

static void cut_here(void *context, struct simdisk *disk, uint64_t change)
{
	for (unsigned i = 0; i < 4 + SCATTERS; i++) {
		struct simdisk_fate fate = fate_of(disk, change, i);
		struct simimage *image = simdisk_image(disk, &fate);
		struct fixture f;
		verify_back(image);
		fixture_init(&f, image);
		simimage_free(image);
		verify(&f, true, true, context);
		fixture_done(&f);
	}
}

static void a_power_cut_leaves_the_old_size_or_the_new(void **state)
{
	struct fixture f;
	struct seen seen = {0};
	(void)state;
	begin(&f, LARGE, SMALL);
	simdisk_on_change(f.disk, cut_here, &seen);
	grow_to(&f, LARGE);
	assert_int_equal(fixture_close(&f), 0);
	assert_true(seen.old > 0 && seen.new > 0);
	print_message("# %lu states, %lu of them new\n", (unsigned long)seen.states, (unsigned long)seen.new);
	fixture_done(&f);
}

static void read_label(struct fixture *f, const struct layout *l, unsigned copy, struct fmt_label *label)
{
	uint64_t at = layout_area_block(l, copy, AREA_LABEL) * BLOCK_SIZE;
	assert_int_equal(vdev_read(f->vdev, at, label, sizeof(*label)), 0);
}

/* A compatible one has a bit, and bytes somewhere in the label. */
static void a_feature_that_is_ignored_is_kept(void **state)
{
	struct seen seen = {0};
	struct fmt_label label;
	struct fixture f;
	(void)state;
	begin(&f, LARGE, SMALL);
	struct layout l = f.pool->layout;
	assert_int_equal(fixture_close(&f), 0);
	read_label(&f, &l, 0, &label);
	label.features.compatible = le64_of(1);
	memset(label.zero1 + 500, 0x5a, 1000);
	fmt_seal(&label, FMT_LABEL, POOL_GUID, 0, 0);
	for (unsigned copy = 0; copy < COPIES; copy++)
		assert_int_equal(vdev_write(f.vdev, layout_area_block(&l, copy, AREA_LABEL) * BLOCK_SIZE, &label,
					    sizeof(label)),
				 0);
	assert_int_equal(fixture_open(&f, false), 0);
	simdisk_on_change(f.disk, cut_here, &seen);
	grow_to(&f, LARGE);
	l = f.pool->layout;
	assert_int_equal(fixture_close(&f), 0);
	assert_true(seen.old > 0 && seen.new > 0);
	for (unsigned copy = 0; copy < COPIES; copy++) {
		struct fmt_label now;
		read_label(&f, &l, copy, &now);
		assert_int_equal(le64_get(now.features.compatible), 1);
		assert_memory_equal(now.zero1, label.zero1, sizeof(now.zero1));
		assert_int_equal(le64_get(now.device_blocks), LARGE / BLOCK_SIZE);
	}
	fixture_done(&f);
}

/* Operation `at` fails. Was there one? */
static bool with_error(enum simdisk_kind kind, uint64_t at, uint64_t drop_seed, struct seen *seen)
{
	struct simdisk_fault fault = {
		.kind = kind, .at = at, .effect = SIMDISK_FAILS, .error = LCPFS_E_IO, .drop_seed = drop_seed};
	struct fixture f;
	begin(&f, LARGE, SMALL);
	look_small(&f, LARGE);
	simdisk_add_fault(f.disk, &fault);
	int error = grow(&f);
	bool hit = simdisk_fault_hits(f.disk) > 0;
	assert_true(hit || !error);
	simdisk_clear_faults(f.disk);
	bool unsure = error && (f.pool->suspended || strstr(f.failure.message, "has grown"));
	if (!error && pool_bytes(&f) != 78 * MB)
		fail_msg("operation %d fails unnoticed", (int)at);
	fixture_expect(&f, "a", 0, BLOCKS, 1); /* it goes on serving */
	pool_abandon(f.pool);
	f.pool = NULL;
	verify(&f, error != 0, !error || unsure, seen);
	fixture_done(&f);
	return hit;
}

static void an_error_leaves_the_old_size_or_the_new(void **state)
{
	struct seen seen = {0};
	(void)state;
	for (uint64_t seed = 0; seed < 3; seed++) {
		for (uint64_t at = 0; with_error(SIMDISK_CHANGE, at, seed, &seen); at++)
			;
	}
	for (uint64_t at = 0; with_error(SIMDISK_READ, at, 0, &seen); at++)
		;
	assert_true(seen.old > 0 && seen.new > 0);
	print_message("# %lu errors\n", (unsigned long)seen.states);
}

static bool without_memory(uint64_t at)
{
	struct alloc_front front;
	struct fixture f;
	struct seen seen = {0};
	begin(&f, LARGE, SMALL);
	assert_int_equal(fixture_close(&f), 0);
	alloc_front_init(&front, f.vdev);
	struct vdev *behind = f.vdev;
	f.vdev = &front.vdev;
	assert_int_equal(fixture_open(&f, false), 0);
	look_small(&f, LARGE);
	behind->size_bytes = LARGE;
	alloc_fail(at, false);
	int error = ALLOC_ARMED(grow(&f));
	bool failed = alloc_failed();
	alloc_work();
	if (error && (error != -LCPFS_E_NOMEM || !failed || !f.failure.message[0]))
		fail_msg("allocation %d: %d (%s)", (int)at, error, f.failure.message);
	assert_int_equal(pool_bytes(&f), error ? 46 * MB : 78 * MB);
	close_clean(&f);
	verify(&f, error != 0, !error, &seen);
	f.vdev = behind;
	fixture_done(&f);
	return failed;
}

static void without_memory_it_is_done_or_not(void **state)
{
	(void)state;
	for (uint64_t at = 0; without_memory(at); at++)
		;
}

/* -- beside a client -- */

struct client {
	struct lcpfs_pool *pool;
	struct lcpfs_partition *partition;
	uint64_t written[BLOCKS]; /* generations */
	atomic_bool stop;
};

static void *write_on(void *context)
{
	struct client *client = context;
	uint8_t bytes[BLOCK_SIZE];
	for (uint64_t n = 2; !atomic_load(&client->stop); n++) {
		uint64_t block = hash_mix(n) % BLOCKS;
		fixture_pattern(block, n, bytes);
		assert_int_equal(
			lcpfs_volume_write(client->partition, block * BLOCK_SIZE, bytes, BLOCK_SIZE, false, NULL),
			0);
		client->written[block] = n;
		if (n % 50 == 0)
			assert_int_equal(lcpfs_volume_flush(client->partition, NULL), 0);
		if (n % 20 == 0)
			pool_step(client->pool);
	}
	assert_int_equal(lcpfs_volume_flush(client->partition, NULL), 0);
	return NULL;
}

static void a_client_writes_meanwhile(void **state)
{
	struct client client = {0};
	struct fixture f;
	pthread_t thread;
	(void)state;
	begin(&f, LARGE, 40 * MB);
	for (unsigned i = 0; i < BLOCKS; i++)
		client.written[i] = 1;
	client.pool = f.pool;
	assert_int_equal(lcpfs_partition_open(f.pool, "a", &client.partition, &f.failure), 0);
	assert_int_equal(pthread_create(&thread, NULL, write_on, &client), 0);
	for (uint64_t bytes = 41 * MB; bytes <= LARGE; bytes += MB) {
		struct lcpfs_care care = {0};
		grow_to(&f, bytes);
		assert_int_equal(lcpfs_pool_scrub(f.pool, &care, &f.failure), 0);
		assert_int_equal(care.damaged, 0);
		if (bytes == 60 * MB)
			assert_int_equal(fixture_resize(&f, "a", 30 * MB), 0);
	}
	atomic_store(&client.stop, true);
	assert_int_equal(pthread_join(thread, NULL), 0);
	lcpfs_partition_close(client.partition);
	pool_abandon(f.pool);
	f.pool = NULL;
	assert_int_equal(fixture_check(&f, true), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	for (unsigned i = 0; i < BLOCKS; i++)
		fixture_expect(&f, "a", i, 1, client.written[i]);
	assert_int_equal(pool_bytes(&f), 78 * MB);
	close_clean(&f);
	fixture_done(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_pool_takes_what_its_device_has_gained),
		cmocka_unit_test(it_grows_again_and_again),
		cmocka_unit_test(too_little_is_left_alone),
		cmocka_unit_test(it_grows_no_further_than_its_map),
		cmocka_unit_test(a_device_that_shrank_is_truncated),
		cmocka_unit_test(damage_is_not_copied),
		cmocka_unit_test(the_newer_root_is_taken),
		cmocka_unit_test(new_metaslabs_are_free),
		cmocka_unit_test(a_power_cut_leaves_the_old_size_or_the_new),
		cmocka_unit_test(a_feature_that_is_ignored_is_kept),
		cmocka_unit_test(an_error_leaves_the_old_size_or_the_new),
		cmocka_unit_test(without_memory_it_is_done_or_not),
		cmocka_unit_test(a_client_writes_meanwhile),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
