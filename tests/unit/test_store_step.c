/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A step of a checkpoint writes without the lock: what others do meanwhile must not contradict what its root will
 * say.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "format/format.h"
#include "store/store.h"
#include "tests/disk/memory.h"

enum { BASE = 16, METASLAB_BLOCKS = 64, METASLABS = 24, VOLUME_BLOCKS = 400, ROUNDS = 600 };

/* The device. Armed: at the next write all is trimmed; what comes after the next root is lost, as in a cut. */
static struct {
	struct vdev vdev, *behind;
	struct store *store;
	enum { IDLE, ARMED, TRIMMED, DEAD } state;
} front;

static uint64_t no_time(void *context)
{
	(void)context;
	return 0;
}

static const struct clock clock_still = {.now_us = no_time, .wall_s = no_time};

static void submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	bool writes = ios[0].op == VDEV_WRITE, root = writes && ios[0].offset < BASE * BLOCK_SIZE;
	(void)vdev;
	if (front.state == ARMED && writes) {
		front.state = IDLE;
		assert_int_equal(store_trim(front.store, 0, (uint64_t)VOLUME_BLOCKS * BLOCK_SIZE, true, NULL), 0);
		front.state = TRIMMED;
	}
	for (unsigned i = 0; i < count && front.state == DEAD && writes; i++)
		ios[i].result = 0;
	if (front.state != DEAD || !writes)
		front.behind->ops->submit(front.behind, ios, count);
	if (front.state == TRIMMED && root)
		front.state = DEAD;
}

static int flush(struct vdev *vdev)
{
	(void)vdev;
	return vdev_flush(front.behind);
}

static int discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	(void)vdev;
	return vdev_discard(front.behind, offset, length);
}

static void open_store(bool anew)
{
	static uint32_t metaslabs[METASLABS];
	const struct store_config config = {
		.clock = &clock_still,
		.vdev = &front.vdev,
		.guid = 1,
		.partition = 1,
		.name = "step",
		.metaslab_base = BASE,
		.metaslab_blocks = METASLAB_BLOCKS,
		.metaslab_count = METASLABS,
		.root_block = {{1, 2}, {3, 4}},
		.cache_bytes = 4 << 20,
	};
	struct lcpfs_failure failure = {0};
	for (uint32_t i = 0; i < METASLABS; i++)
		metaslabs[i] = i;
	if (anew)
		assert_int_equal(store_format(&config, VOLUME_BLOCKS, metaslabs, METASLABS), 0);
	if (store_open(&config, metaslabs, METASLABS, &front.store, &failure))
		fail_msg("%s", failure.message);
}

static void write_some(uint64_t seed)
{
	uint8_t data[BLOCK_SIZE];
	for (uint32_t i = 0; i < VOLUME_BLOCKS / 2; i++) {
		uint64_t block = hash_mix(seed * VOLUME_BLOCKS + i) % VOLUME_BLOCKS;
		memset(data, (int)i + 1, sizeof(data));
		assert_int_equal(store_write(front.store, block * BLOCK_SIZE, data, sizeof(data), false, NULL), 0);
	}
	assert_int_equal(store_flush(front.store, NULL), 0);
}

/*
 * Everything is trimmed while the pages of a step are written: metaslabs that its root lists come free, and the
 * table may want the next one in just that step. The root is good nevertheless.
 */
static void what_comes_free_during_a_step_is_not_used_in_it(void **state)
{
	static const struct vdev_ops ops = {.submit = submit, .flush = flush, .discard = discard};
	(void)state;
	front.behind = vdev_memory_new((uint64_t)(BASE + METASLABS * METASLAB_BLOCKS) << BLOCK_SHIFT);
	front.vdev = (struct vdev){.ops = &ops, .size_bytes = front.behind->size_bytes, .name = "front"};
	open_store(true);
	for (uint64_t round = 0; round < ROUNDS; round++) {
		write_some(round);
		assert_int_equal(store_checkpoint(front.store), 0);
		write_some(ROUNDS + round);
		front.state = ARMED;
		assert_int_equal(store_checkpoint(front.store), 0);
		assert_int_equal(front.state, DEAD);
		store_abandon(front.store);
		front.state = IDLE;
		open_store(false);
	}
	assert_int_equal(store_close(front.store), 0);
	vdev_close(front.behind);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_comes_free_during_a_step_is_not_used_in_it)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
