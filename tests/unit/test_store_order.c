/* SPDX-License-Identifier: Apache-2.0 */
/* What changes a page of a volume behind its being written stands behind it in the log, in whatever head it goes.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "store/attempt.h"
#include "store/tree.h"
#include "tests/disk/memory.h"

enum { BASE = 16, METASLAB_BLOCKS = 256, METASLABS = 32, VOLUME_BLOCKS = 4 * VOLUME_SLOTS };

static uint64_t no_time(void *context)
{
	(void)context;
	return 0;
}

static const struct clock clock_still = {.now_us = no_time, .wall_s = no_time};

/* So many metaslabs that the log has three heads. */
static struct store *open_store(struct vdev *vdev, bool anew)
{
	static uint32_t metaslabs[METASLABS];
	const struct store_config config = {
		.clock = &clock_still,
		.vdev = vdev,
		.guid = 1,
		.partition = 1,
		.name = "order",
		.metaslab_base = BASE,
		.metaslab_blocks = METASLAB_BLOCKS,
		.metaslab_count = METASLABS,
		.root_block = {{1, 2}, {3, 4}},
	};
	struct lcpfs_failure failure = {0};
	struct store *store;
	for (uint32_t i = 0; i < METASLABS; i++)
		metaslabs[i] = i;
	if (anew)
		assert_int_equal(store_format(&config, VOLUME_BLOCKS, metaslabs, METASLABS), 0);
	if (store_open(&config, metaslabs, METASLABS, &store, &failure))
		fail_msg("%s", failure.message);
	return store;
}

static void put(struct store *s, uint64_t block)
{
	uint8_t data[BLOCK_SIZE];
	memset(data, (int)(block % 251) + 1, sizeof(data));
	assert_int_equal(store_write(s, block * BLOCK_SIZE, data, sizeof(data), false, NULL), 0);
}

static void must_read(struct store *s, uint64_t block)
{
	uint8_t data[BLOCK_SIZE];
	assert_int_equal(store_read(s, block * BLOCK_SIZE, data, sizeof(data), NULL), 0);
	assert_int_equal(data[0], block % 251 + 1);
}

static int write_page(struct store *s, void *context, struct need *need)
{
	return tree_write_page(s, context, 0, need);
}

/* As a checkpoint does that goes no further. */
static void write_leaf(struct store *s)
{
	struct page_key key = tree_key(VOLUME_HEAD, 0, 0);
	store_lock(s);
	assert_int_equal(attempt(s, write_page, cache_find(&s->cache, &key)), 0);
	store_unlock(s);
}

/* Flushed, and not closed. */
static struct store *crash(struct store *s, struct vdev *vdev)
{
	assert_int_equal(store_flush(s, NULL), 0);
	store_abandon(s);
	return open_store(vdev, false);
}

/* `placed`: the page keeps the id that it has; else it gets its first one. */
static void write_behind_a_page(bool placed)
{
	enum { FIRST, PLACED, BEHIND };
	uint64_t blocks = BASE + METASLABS * METASLAB_BLOCKS;
	struct vdev *vdev = vdev_memory_new(blocks << BLOCK_SHIFT);
	struct store *s = open_store(vdev, true);

	put(s, FIRST);
	assert_int_equal(placed ? store_checkpoint(s) : store_flush(s, NULL), 0);
	put(s, PLACED);
	write_leaf(s);
	put(s, BEHIND);
	s = crash(s, vdev);
	must_read(s, BEHIND);
	/* Again, when it was written as it is known now. */
	assert_int_equal(store_checkpoint(s), 0);
	s = crash(s, vdev);
	for (uint64_t block = FIRST; block <= BEHIND; block++)
		must_read(s, block);
	assert_int_equal(store_close(s), 0);
	vdev_close(vdev);
}

static void a_write_stays_behind_a_page_that_is_new(void **state)
{
	(void)state;
	write_behind_a_page(false);
}

static void a_write_stays_behind_a_page_that_was_there(void **state)
{
	(void)state;
	write_behind_a_page(true);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_write_stays_behind_a_page_that_is_new),
		cmocka_unit_test(a_write_stays_behind_a_page_that_was_there),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
