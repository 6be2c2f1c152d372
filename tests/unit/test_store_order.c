/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pages of a volume in the log: what changes one behind its being written stands behind it, in whatever head it
 * goes; and the ids of a page that is gone are another's in the same record, which goes on changing in it.
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

enum {
	BASE = 16,
	METASLAB_BLOCKS = 256,
	METASLABS = 32,
	FEW = STORE_METASLABS_MIN,
	VOLUME_BLOCKS = 4 * VOLUME_SLOTS
};

static uint64_t no_time(void *context)
{
	(void)context;
	return 0;
}

static const struct clock clock_still = {.now_us = no_time, .wall_s = no_time};

static struct vdev *new_vdev(uint32_t metaslabs)
{
	return vdev_memory_new((uint64_t)(BASE + metaslabs * METASLAB_BLOCKS) << BLOCK_SHIFT);
}

/* With METASLABS the log has three heads; with FEW one, so all is in one record. */
static struct store *open_store(struct vdev *vdev, uint32_t count, bool anew)
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
		.metaslab_count = count,
		.root_block = {{1, 2}, {3, 4}},
	};
	struct lcpfs_failure failure = {0};
	struct store *store;
	for (uint32_t i = 0; i < count; i++)
		metaslabs[i] = i;
	if (anew)
		assert_int_equal(store_format(&config, VOLUME_BLOCKS, metaslabs, count), 0);
	if (store_open(&config, metaslabs, count, &store, &failure))
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

static struct page *leaf_of(struct store *s, uint64_t block)
{
	struct page_key key = tree_key(VOLUME_HEAD, 0, block / VOLUME_SLOTS);
	return cache_find(&s->cache, &key);
}

/* As a checkpoint does that goes no further. */
static void write_leaf(struct store *s)
{
	store_lock(s);
	assert_int_equal(attempt(s, write_page, leaf_of(s, 0)), 0);
	store_unlock(s);
}

/* Flushed, and not closed. */
static struct store *crash(struct store *s, struct vdev *vdev)
{
	assert_int_equal(store_flush(s, NULL), 0);
	store_abandon(s);
	return open_store(vdev, METASLABS, false);
}

/* `placed`: the page keeps the id that it has; else it gets its first one. */
static void write_behind_a_page(bool placed)
{
	enum { FIRST, PLACED, BEHIND };
	struct vdev *vdev = new_vdev(METASLABS);
	struct store *s = open_store(vdev, METASLABS, true);
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

static void ids_are_given_out_again_in_the_record_that_frees_them(void **state)
{
	enum { GONE = 0, COMES = VOLUME_SLOTS, BLOCKS = 4 };
	struct vdev *vdev = new_vdev(FEW);
	struct store *s = open_store(vdev, FEW, true);
	(void)state;
	put(s, GONE);
	assert_int_equal(store_checkpoint(s), 0);
	uint64_t id = leaf_of(s, GONE)->id;
	assert_int_not_equal(id, 0);
	assert_int_equal(store_trim(s, GONE, BLOCK_SIZE, false, NULL), 0);
	for (uint64_t i = 0; i < BLOCKS; i++)
		put(s, COMES + i);
	store_lock(s);
	assert_int_equal(attempt(s, write_page, leaf_of(s, GONE)), 0);
	assert_int_equal(attempt(s, write_page, leaf_of(s, COMES)), 0);
	assert_int_equal(leaf_of(s, COMES)->id, id);
	const struct record *record = s->log.open[0];
	store_unlock(s);
	put(s, COMES + BLOCKS);
	assert_ptr_equal(s->log.open[0], record);
	assert_int_equal(store_flush(s, NULL), 0);
	store_abandon(s);
	s = open_store(vdev, FEW, false);
	for (uint64_t i = 0; i <= BLOCKS; i++)
		must_read(s, COMES + i);
	assert_int_equal(store_close(s), 0);
	vdev_close(vdev);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_write_stays_behind_a_page_that_is_new),
		cmocka_unit_test(a_write_stays_behind_a_page_that_was_there),
		cmocka_unit_test(ids_are_given_out_again_in_the_record_that_frees_them),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
