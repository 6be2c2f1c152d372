/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the chain of the log is broken, by a header that is damaged in both copies, and flushed records lie
 * behind: that is told, and not taken for the log's end. What is left behind an end tells what was flushed.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "store/log.h"
#include "store/place.h"
#include "store/state.h"
#include "store/work.h"
#include "tests/disk/memory.h"

enum { BASE = 16, COUNT_MAX = 12, VOLUME_BLOCKS = 4096 };

static uint64_t moving_us;

static uint64_t moving_time(void *context)
{
	(void)context;
	return moving_us;
}

static uint64_t no_time(void *context)
{
	(void)context;
	return 0;
}

struct bed {
	struct store_config config;
	struct store *store;
};

static int open_it(struct bed *b, struct lcpfs_failure *failure)
{
	uint32_t metaslabs[COUNT_MAX];
	for (uint32_t i = 0; i < COUNT_MAX; i++)
		metaslabs[i] = i;
	return store_open(&b->config, metaslabs, b->config.metaslab_count, &b->store, failure);
}

static void begin(struct bed *b, uint32_t metaslab_blocks, uint32_t count)
{
	static const struct clock clock = {.now_us = moving_time, .wall_s = no_time};
	uint32_t metaslabs[COUNT_MAX];
	for (uint32_t i = 0; i < COUNT_MAX; i++)
		metaslabs[i] = i;
	*b = (struct bed){{.vdev = vdev_memory_new((uint64_t)(BASE + count * metaslab_blocks) << BLOCK_SHIFT),
			   .clock = &clock,
			   .guid = 1,
			   .partition = 1,
			   .name = "broken",
			   .metaslab_base = BASE,
			   .metaslab_blocks = metaslab_blocks,
			   .metaslab_count = count,
			   .root_block = {{1, 2}, {3, 4}}}};
	assert_int_equal(store_format(&b->config, VOLUME_BLOCKS, metaslabs, count), 0);
	assert_int_equal(open_it(b, NULL), 0);
}

static void write_blocks(struct bed *b, uint64_t first, unsigned count)
{
	static const uint8_t data[BLOCK_SIZE] = {1};
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(
			store_write(b->store, (first + i) << BLOCK_SHIFT, data, sizeof(data), false, NULL), 0);
}

static void write_and_flush(struct bed *b, uint64_t first, unsigned count)
{
	write_blocks(b, first, count);
	assert_int_equal(store_flush(b->store, NULL), 0);
}

static void trim(struct bed *b, uint64_t first, unsigned count)
{
	assert_int_equal(store_trim(b->store, first << BLOCK_SHIFT, (uint64_t)count << BLOCK_SHIFT, false, NULL),
			 0);
}

static void write_and_let_rest(struct bed *b, uint64_t first, unsigned count)
{
	write_blocks(b, first, count);
	moving_us += 2 * IDLE_SEAL_US;
	assert_int_equal(store_step(b->store), 1);
}

/* And not flushed. */
static void write_and_seal(struct bed *b, uint64_t block)
{
	write_blocks(b, block, 1);
	store_lock(b->store);
	log_seal_open(b->store);
	log_drain(b->store);
	store_unlock(b->store);
}

/* Where the next record's header will be. */
static uint64_t next_block(const struct bed *b)
{
	const struct head *h = &b->store->log.head[0];
	return metaslab_block(b->store, h->metaslab) + h->offset;
}

/* After a crash, both copies of the header there are damaged. */
static void expect_told(struct bed *b, uint64_t block)
{
	static const uint8_t rot[2 * BLOCK_SIZE] = {1};
	struct lcpfs_failure failure = {0};
	store_abandon(b->store);
	assert_int_equal(vdev_write(b->config.vdev, block << BLOCK_SHIFT, rot, sizeof(rot)), 0);
	assert_int_equal(open_it(b, &failure), -LCPFS_E_CORRUPT);
	assert_non_null(strstr(failure.message, "was flushed and is damaged in both copies"));
	vdev_close(b->config.vdev);
}

/*
 * What was flushed is known from a header far behind the damaged one: that in between was sealed before the flush.
 */
static void a_far_header_tells(void **state)
{
	enum { MOST = (RECORD_WORDS - 2) / 2 };
	struct bed b;
	(void)state;
	begin(&b, 512, 8);
	uint64_t block = next_block(&b);
	write_and_let_rest(&b, 0, 10);
	write_and_let_rest(&b, 100, MOST);
	assert_int_equal(store_flush(b.store, NULL), 0);
	moving_us += 2 * CONFIRM_US;
	assert_int_equal(store_step(b.store), 1);
	expect_told(&b, block);
}

/* -- where the log has gone on -- */

static uint32_t distance(const struct space *s, uint32_t index)
{
	return (index + COUNT_MAX - s->cursor) % COUNT_MAX;
}

/* Would it be the next to be taken, if it were EMPTY? */
static bool comes_next(const struct store *s, uint32_t metaslab)
{
	uint32_t empty = indexset_next(&s->space.empty, s->space.cursor);
	if (empty == INDEXSET_NONE)
		empty = indexset_next(&s->space.empty, 0);
	return s->log.head[0].next == NO_METASLAB && distance(&s->space, metaslab) < distance(&s->space, empty);
}

enum { HELD = 40, OTHER = 100 }; /* in one page of the volume */

/* The log will go on in a metaslab that holds something by the newest root, and that was emptied since: which? */
static uint32_t go_round(struct bed *b)
{
	begin(b, 64, COUNT_MAX);
	write_and_flush(b, 0, HELD);
	uint32_t held = b->store->log.head[0].metaslab;
	do {
		write_and_flush(b, OTHER, 1);
		trim(b, OTHER, 1); /* so that the page changes, and does not stay there */
		assert_int_equal(store_checkpoint(b->store), 0);
	} while (!comes_next(b->store, held));
	assert_int_equal(space_find(&b->store->space, held)->state, SPACE_CLOSED);
	trim(b, 0, HELD);
	assert_int_equal(store_flush(b->store, NULL), 0);
	assert_int_equal(space_find(&b->store->space, held)->state, SPACE_EMPTY);
	return held;
}

/* The last header before it is damaged. */
static void a_header_in_what_was_emptied_tells(void **state)
{
	struct bed b;
	uint64_t block = 0;
	(void)state;
	uint32_t held = go_round(&b);
	uint64_t root = b.store->checkpoint.generation;
	while (b.store->log.head[0].metaslab != held) {
		block = next_block(&b);
		write_and_flush(&b, OTHER, 1);
	}
	write_and_flush(&b, OTHER, 1);
	write_and_flush(&b, OTHER, 1);
	assert_int_equal(b.store->checkpoint.generation, root);
	expect_told(&b, block);
}

/*
 * A record is flushed, and one of its blocks damaged. The next one was not flushed, and is lost; it led on to the
 * emptied metaslab, where another one is left that says what was flushed. So it is damage of that block alone.
 * false: it is the record before that led on.
 */
static bool damage_is_told_by_what_is_left(unsigned more)
{
	static const uint8_t rot[2 * BLOCK_SIZE] = {2};
	struct lcpfs_failure failure = {0};
	struct bed b;
	uint8_t data[BLOCK_SIZE];
	uint64_t flushed = 0, lost = 0;
	uint32_t held = go_round(&b);
	uint64_t root = b.store->checkpoint.generation;
	write_and_flush(&b, OTHER, more);
	while (b.store->log.head[0].metaslab != held) {
		flushed = next_block(&b);
		write_and_flush(&b, OTHER, 1);
		lost = next_block(&b);
		write_and_seal(&b, OTHER + 1);
	}
	bool led = lost < metaslab_block(b.store, held) || lost >= metaslab_block(b.store, held + 1);
	write_and_seal(&b, OTHER + 1);
	assert_int_equal(b.store->checkpoint.generation, root);
	store_abandon(b.store);
	if (led) {
		assert_int_equal(vdev_write(b.config.vdev, (flushed + 2) << BLOCK_SHIFT, rot, BLOCK_SIZE), 0);
		assert_int_equal(vdev_write(b.config.vdev, lost << BLOCK_SHIFT, rot, sizeof(rot)), 0);
		if (open_it(&b, &failure))
			fail_msg("%s", failure.message);
		assert_int_not_equal(store_read(b.store, OTHER << BLOCK_SHIFT, data, sizeof(data), NULL), 0);
		store_abandon(b.store);
	}
	vdev_close(b.config.vdev);
	return led;
}

static void a_block_before_what_is_lost_is_damage(void **state)
{
	bool led = false;
	(void)state;
	for (unsigned more = 0; more < 4; more++)
		led |= damage_is_told_by_what_is_left(more);
	assert_true(led);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_far_header_tells),
		cmocka_unit_test(a_header_in_what_was_emptied_tells),
		cmocka_unit_test(a_block_before_what_is_lost_is_damage),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
