/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where two volumes differ, compared with a model over random histories: writes, trims, snapshots that come and
 * go, rollbacks, checkpoints, reopenings. Addresses lie so that trees have from one to five levels, and differ in
 * that.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "store/state.h"
#include "tests/disk/simdisk.h"

enum {
	BASE = 16,
	METASLAB_BLOCKS = 256,
	METASLABS = 32,
	PLACES = 6,
	NEAR = 40, /* addresses of a place */
	ADDRESSES = PLACES * NEAR,
	SNAPS_MAX = 5,
};

/* From where on the addresses of a place lie side by side: over the border of a leaf, of a page above, and so on.
 */
static const uint64_t place[PLACES] = {
	0, 500, 512 * 512 - 20, 512 * 512 * 512 - 7, UINT64_C(1) << 36, (UINT64_C(1) << 40) - NEAR};

struct state {
	uint32_t version[ADDRESSES];
};

static struct bed {
	struct simdisk *disk;
	struct store *store;
	struct store_config config;
	uint32_t metaslab[METASLABS];
	uint64_t now_us, random;
	uint32_t versions, names;
	struct state head, snap[SNAPS_MAX];
	unsigned name[SNAPS_MAX], snaps;
	unsigned places; /* that are in use by now */
} bed;

static uint64_t now_us(void *context)
{
	(void)context;
	return bed.now_us += 10;
}

static const struct clock bed_clock = {.now_us = now_us, .wall_s = now_us};

static uint64_t below(uint64_t n)
{
	return hash_mix(bed.random++) % n;
}

static uint64_t address_of(unsigned i)
{
	return place[i / NEAR] + i % NEAR;
}

static void must_open(void)
{
	struct lcpfs_failure failure = {0};
	assert_int_equal(store_open(&bed.config, bed.metaslab, METASLABS, &bed.store, &failure), 0);
}

static void set_up(uint64_t seed)
{
	struct simimage *image = simimage_new((uint64_t)(BASE + METASLABS * METASLAB_BLOCKS) * BLOCK_SIZE);
	bed = (struct bed){.disk = simdisk_new(image, SIMDISK_DISCARD_GARBAGE), .random = seed << 32, .places = 1};
	simimage_free(image);
	for (uint32_t i = 0; i < METASLABS; i++)
		bed.metaslab[i] = i;
	bed.config = (struct store_config){.vdev = simdisk_vdev(bed.disk),
					   .clock = &bed_clock,
					   .guid = 1,
					   .partition = 7,
					   .name = "bed",
					   .metaslab_base = BASE,
					   .metaslab_blocks = METASLAB_BLOCKS,
					   .metaslab_count = METASLABS,
					   .root_block = {{0, 1}, {2, 3}}};
	assert_int_equal(store_format(&bed.config, UINT64_C(1) << 40, bed.metaslab, METASLABS), 0);
	must_open();
}

static void tear_down(void)
{
	store_abandon(bed.store);
	simdisk_free(bed.disk);
}

static uint32_t number_of(unsigned snap)
{
	struct store_snapshot found;
	char name[16];
	snprintf(name, sizeof(name), "%u", bed.name[snap]);
	assert_true(store_snapshot_find(bed.store, name, &found));
	return found.number;
}

/* The model's answer: the run at or behind `first`. */
static struct store_difference expected(const struct state *from, const struct state *to, uint64_t first)
{
	struct store_difference run = {.first = UINT64_MAX};
	for (unsigned i = 0; i < ADDRESSES; i++) {
		uint64_t address = address_of(i);
		if (address < first || from->version[i] == to->version[i])
			continue;
		if (run.count && (address != run.first + run.count || run.data != (to->version[i] != 0)))
			break;
		if (!run.count)
			run = (struct store_difference){.first = address, .data = to->version[i] != 0};
		run.count++;
	}
	return run;
}

/* The store's, however many calls it takes. */
static struct store_difference next(uint32_t from, uint32_t to, uint64_t first)
{
	struct store_difference run = {.first = first}, more;
	while (!run.count && run.first != UINT64_MAX)
		assert_int_equal(store_difference(bed.store, from, to, run.first, &run), 0);
	for (more = run; run.count; run.count += more.count) {
		assert_int_equal(store_difference(bed.store, from, to, run.first + run.count, &more), 0);
		if (!more.count || more.first != run.first + run.count || more.data != run.data)
			break;
	}
	return run;
}

static void compare(const struct state *from, uint32_t from_number, const struct state *to, uint32_t to_number)
{
	uint64_t first = below(3) ? 0 : address_of((unsigned)below(ADDRESSES));
	for (bool more = true; more;) {
		struct store_difference want = expected(from, to, first),
					got = next(from_number, to_number, first);
		assert_int_equal(got.first, want.first);
		assert_int_equal(got.count, want.count);
		if (want.count)
			assert_int_equal(got.data, want.data);
		first = got.first + got.count;
		more = got.count;
	}
}

static void compare_all(void)
{
	static const struct state nothing;
	for (unsigned b = 0; b <= bed.snaps; b++) {
		const struct state *to = b < bed.snaps ? &bed.snap[b] : &bed.head;
		uint32_t to_number = b < bed.snaps ? number_of(b) : 0;
		compare(&nothing, 0, to, to_number);
		for (unsigned a = 0; a < bed.snaps; a++) /* also backwards, and with itself */
			compare(&bed.snap[a], number_of(a), to, to_number);
	}
}

/* -- what happens -- */

static void write_some(unsigned first, unsigned count)
{
	uint8_t data[BLOCK_SIZE];
	for (unsigned i = first; i < first + count; i++) {
		bed.head.version[i] = ++bed.versions;
		memset(data, (int)bed.versions, sizeof(data));
		assert_int_equal(store_write(bed.store, address_of(i) * BLOCK_SIZE, data, BLOCK_SIZE, false, NULL),
				 0);
	}
}

static void trim_some(unsigned first, unsigned count)
{
	assert_int_equal(
		store_trim(bed.store, address_of(first) * BLOCK_SIZE, (uint64_t)count * BLOCK_SIZE, false, NULL),
		0);
	memset(&bed.head.version[first], 0, count * sizeof(*bed.head.version));
}

static void take(void)
{
	char name[16];
	if (bed.snaps == SNAPS_MAX)
		return;
	snprintf(name, sizeof(name), "%u", ++bed.names);
	assert_int_equal(store_snapshot(bed.store, name, 1), 0);
	bed.name[bed.snaps] = bed.names;
	bed.snap[bed.snaps++] = bed.head;
}

static void destroy(unsigned snap)
{
	char name[16];
	snprintf(name, sizeof(name), "%u", bed.name[snap]);
	assert_int_equal(store_snapshot_destroy(bed.store, name), 0);
	for (bed.snaps--; snap < bed.snaps; snap++) {
		bed.name[snap] = bed.name[snap + 1];
		bed.snap[snap] = bed.snap[snap + 1];
	}
}

static void roll_back(void)
{
	char name[16];
	snprintf(name, sizeof(name), "%u", bed.name[bed.snaps - 1]);
	assert_int_equal(store_rollback(bed.store, name), 0);
	bed.head = bed.snap[bed.snaps - 1];
}

static void something(void)
{
	unsigned at = (unsigned)below(bed.places), first = (unsigned)below(NEAR), count;
	count = 1 + (unsigned)below(NEAR - first);
	first += at * NEAR;
	switch (below(16)) {
	case 0:
	case 1:
		take();
		break;
	case 2:
		if (bed.snaps)
			destroy((unsigned)below(bed.snaps));
		break;
	case 3:
		if (bed.snaps && !below(3))
			roll_back();
		break;
	case 4:
		assert_true(store_step(bed.store) >= 0);
		break;
	case 5:
		assert_int_equal(below(3) ? store_checkpoint(bed.store) : store_flush(bed.store, NULL), 0);
		break;
	case 6:
		if (!below(4)) {
			assert_int_equal(store_close(bed.store), 0);
			must_open();
		}
		break;
	case 7:
		bed.places = MIN_OF(bed.places + 1, (unsigned)PLACES);
		break;
	case 8:
	case 9:
		trim_some(at * NEAR, NEAR); /* leaves and pages above them vanish */
		break;
	case 10:
	case 11:
		trim_some(first, count);
		break;
	default:
		write_some(first, below(2) ? count : 1);
	}
}

static void random_histories(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 12; seed++) {
		set_up(seed);
		for (unsigned op = 0; op < 160; op++) {
			something();
			if (op % 8 == 0)
				compare_all();
		}
		compare_all();
		tear_down();
	}
}

/*
 * A call looks at some pages only, so that nobody is kept waiting; what it says leads to the end all the same.
 * Here nearly all leaves are others, and have the same in them.
 */
static void a_long_way_is_gone_in_parts(void **state)
{
	enum { LEAVES = 900 };
	static uint8_t data[BLOCK_SIZE];
	struct store_difference run = {0};
	uint64_t leaf_bytes = UINT64_C(512) * BLOCK_SIZE;
	unsigned calls = 0;

	(void)state;
	set_up(99);
	for (uint64_t leaf = 0; leaf < LEAVES; leaf++)
		assert_int_equal(store_write(bed.store, leaf * leaf_bytes, data, BLOCK_SIZE, false, NULL), 0);
	assert_int_equal(store_snapshot(bed.store, "1", 1), 0);
	bed.name[0] = 1;
	for (uint64_t leaf = 0; leaf < LEAVES; leaf++) {
		uint64_t at = leaf * leaf_bytes + BLOCK_SIZE;
		assert_int_equal(store_write(bed.store, at, data, BLOCK_SIZE, false, NULL), 0);
		if (leaf % 300 != 299)
			assert_int_equal(store_trim(bed.store, at, BLOCK_SIZE, false, NULL), 0);
	}
	for (unsigned i = 0; i < 4; i++, run.first++) {
		do {
			assert_int_equal(store_difference(bed.store, number_of(0), 0, run.first, &run), 0);
			calls++;
		} while (!run.count && run.first != UINT64_MAX);
		assert_int_equal(run.count, i < 3);
		assert_true(i == 3 || (run.first == (i * 300 + 299) * UINT64_C(512) + 1 && run.data));
	}
	assert_in_range(calls, LEAVES / 256, LEAVES / 256 + 6);
	/* An empty difference of all that. */
	assert_int_equal(store_rollback(bed.store, "1"), 0);
	assert_int_equal(store_difference(bed.store, number_of(0), 0, 0, &run), 0);
	assert_true(!run.count && run.first == UINT64_MAX);
	tear_down();
}

static void what_is_gone_is_told(void **state)
{
	struct store_difference run;
	(void)state;
	set_up(7);
	assert_int_equal(store_difference(bed.store, 0, 5, 0, &run), -LCPFS_E_NOT_FOUND);
	assert_int_equal(store_difference(bed.store, 5, 0, 0, &run), -LCPFS_E_NOT_FOUND);
	assert_int_equal(store_difference(bed.store, 0, 0, UINT64_MAX, &run), 0);
	assert_true(!run.count && run.first == UINT64_MAX);
	tear_down();
}

/* A device in whose n-th read others go on: a checkpoint is done. */
static struct busy {
	struct vdev vdev; /* first */
	struct vdev *behind;
	unsigned reads; /* left until then; 0: never */
} busy;

static void busy_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	(void)vdev;
	for (unsigned i = 0; i < count; i++) {
		if (ios[i].op == VDEV_READ && busy.reads && --busy.reads == 0)
			assert_int_equal(store_checkpoint(bed.store), 0);
	}
	busy.behind->ops->submit(busy.behind, ios, count);
}

static int busy_flush(struct vdev *vdev)
{
	(void)vdev;
	return busy.behind->ops->flush(busy.behind);
}

static int busy_discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	(void)vdev;
	return busy.behind->ops->discard(busy.behind, offset, length);
}

static void busy_close(struct vdev *vdev)
{
	(void)vdev;
}

static void busy_init(struct vdev *behind)
{
	static const struct vdev_ops ops = {
		.submit = busy_submit, .flush = busy_flush, .discard = busy_discard, .close = busy_close};
	busy = (struct busy){.vdev = {.ops = &ops, .size_bytes = behind->size_bytes, .name = "busy"},
			     .behind = behind};
}

/* Blocks in six leaves of the tree; then the same again. */
static void write_leaves(void)
{
	uint8_t data[BLOCK_SIZE];
	memset(data, ++bed.versions, sizeof(data));
	for (uint64_t leaf = 0; leaf < 6; leaf++)
		assert_int_equal(
			store_write(bed.store, leaf * VOLUME_SLOTS * BLOCK_SIZE, data, sizeof(data), false, NULL),
			0);
}

static uint64_t blocks_that_differ(uint32_t from)
{
	struct store_difference run = {0};
	uint64_t blocks = 0;
	while (run.first != UINT64_MAX) {
		assert_int_equal(store_difference(bed.store, from, 0, run.first + run.count, &run), 0);
		blocks += run.first == UINT64_MAX ? 0 : run.count;
	}
	return blocks;
}

/* What was written before is told of, also when its pages get ids of their own meanwhile. */
static void a_checkpoint_meanwhile_hides_nothing(void **state)
{
	(void)state;
	for (unsigned n = 1; n <= 24; n++) {
		struct store_snapshot found;
		set_up(n);
		busy_init(bed.config.vdev);
		bed.config.vdev = &busy.vdev;
		write_leaves();
		assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
		assert_int_equal(store_close(bed.store), 0);
		must_open();
		write_leaves();
		assert_true(store_snapshot_find(bed.store, "a", &found));
		busy.reads = n;
		assert_int_equal(blocks_that_differ(found.number), 6);
		busy.reads = 0;
		tear_down();
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(random_histories),
		cmocka_unit_test(a_long_way_is_gone_in_parts),
		cmocka_unit_test(what_is_gone_is_told),
		cmocka_unit_test(a_checkpoint_meanwhile_hides_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
