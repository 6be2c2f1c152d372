/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a store asks of its device, in which order, and what it makes of the answers. Things that others do happen
 * amid an operation of the device: its lock is free then.
 */
#include <pthread.h>
#include <sched.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hash.h"
#include "store/checkpoint.h"
#include "store/clean.h"
#include "store/ids.h"
#include "store/log.h"
#include "store/place.h"
#include "store/record.h"
#include "store/table.h"
#include "tests/disk/memory.h"

enum { BASE = 16, METASLAB_BLOCKS = 256, METASLABS = 16, VOLUME_BLOCKS = 1500 };

static struct front {
	struct vdev vdev, *behind;
	struct store *store;
	uint64_t now_us;
	unsigned writes, flushes; /* operations */
	bool unflushed, rooted;   /* since the last flush: something that is no root was written, or a root */
	uint64_t last_record;     /* offset of the last write that is no root */
	uint64_t generation;      /* of the last root that was written */
	unsigned copies, slot;    /* of it */
	unsigned durable_slot;    /* of the last one that was flushed */
	void (*did_read)(const struct vdev_io *io), (*wrote)(const struct vdev_io *io);
	int root_error, record_error;
	uint64_t unread_from, unread_to; /* blocks that cannot be read */
} front;

/* -- the device -- */

static uint64_t now_us(void *context)
{
	(void)context;
	return front.now_us;
}

static const struct clock front_clock = {.now_us = now_us, .wall_s = now_us};

static bool is_root(const struct vdev_io *io)
{
	return io->offset < BASE * BLOCK_SIZE;
}

static void note_root(const struct vdev_io *io)
{
	uint64_t generation = le64_get(((const struct fmt_root *)io->buffer)->generation);
	assert_false(front.unflushed); /* what it points at is durable */
	assert_true(front.rooted ? generation == front.generation : generation > front.generation);
	front.copies = front.rooted ? front.copies + 1 : 1;
	front.slot = (unsigned)(io->offset / BLOCK_SIZE - 1) / 2;
	assert_int_not_equal(front.slot, front.durable_slot); /* that one stays good */
	front.generation = generation;
	front.rooted = true;
}

static void note_write(const struct vdev_io *io)
{
	front.writes++;
	if (is_root(io)) {
		note_root(io);
		return;
	}
	assert_false(front.rooted); /* what the root before that one needs is still there */
	front.unflushed = true;
	front.last_record = io->offset;
}

static void submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	void (*did)(const struct vdev_io *io) = ios[0].op == VDEV_READ ? front.did_read : front.wrote;

	(void)vdev;
	for (unsigned i = 0; i < count; i++) {
		if (ios[i].op == VDEV_WRITE)
			note_write(&ios[i]);
	}
	front.behind->ops->submit(front.behind, ios, count);
	for (unsigned i = 0; i < count && front.root_error && is_root(ios); i++)
		ios[i].result = front.root_error;
	for (unsigned i = 0; i < count && front.record_error && ios[i].op == VDEV_WRITE && !is_root(&ios[i]); i++)
		ios[i].result = front.record_error;
	for (unsigned i = 0; i < count && ios[i].op == VDEV_READ; i++) {
		if (ios[i].offset < front.unread_to << BLOCK_SHIFT &&
		    ios[i].offset + ios[i].length > front.unread_from << BLOCK_SHIFT)
			ios[i].result = -LCPFS_E_IO;
	}
	if (did)
		did(ios);
}

static int flush(struct vdev *vdev)
{
	(void)vdev;
	front.flushes++;
	if (front.rooted) {
		assert_int_equal(front.copies, 2);
		front.durable_slot = front.slot;
	}
	front.unflushed = front.rooted = false;
	return vdev_flush(front.behind);
}

static int discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	(void)vdev;
	return vdev_discard(front.behind, offset, length);
}

/* -- the store -- */

static int open_as(bool read_only, bool was_closed, struct lcpfs_failure *failure)
{
	static uint32_t metaslabs[METASLABS];
	const struct store_config config = {
		.clock = &front_clock,
		.vdev = &front.vdev,
		.guid = 1,
		.partition = 1,
		.name = "front",
		.metaslab_base = BASE,
		.metaslab_blocks = METASLAB_BLOCKS,
		.metaslab_count = METASLABS,
		.root_block = {{1, 2}, {3, 4}},
		.cache_bytes = 4 << 20,
		.read_only = read_only,
		.was_closed = was_closed,
	};
	for (uint32_t i = 0; i < METASLABS; i++)
		metaslabs[i] = i;
	if (!front.generation)
		assert_int_equal(store_format(&config, VOLUME_BLOCKS, metaslabs, METASLABS), 0);
	return store_open(&config, metaslabs, METASLABS, &front.store, failure);
}

static int set_up(void **state)
{
	static const struct vdev_ops ops = {.submit = submit, .flush = flush, .discard = discard};
	uint64_t blocks = BASE + METASLABS * METASLAB_BLOCKS;
	(void)state;
	front = (struct front){.behind = vdev_memory_new(blocks << BLOCK_SHIFT), .now_us = 1, .durable_slot = 1};
	front.vdev = (struct vdev){.ops = &ops, .size_bytes = front.behind->size_bytes, .name = "front"};
	return open_as(false, false, NULL);
}

static int tear_down(void **state)
{
	(void)state;
	if (front.store)
		store_abandon(front.store);
	vdev_close(front.behind);
	return 0;
}

static void crash(void)
{
	store_abandon(front.store);
	front.store = NULL;
	front.unflushed = front.rooted = false;
	front.wrote = NULL;
}

static void write_block(uint64_t block, uint8_t value)
{
	uint8_t data[BLOCK_SIZE];
	memset(data, value, sizeof(data));
	assert_int_equal(store_write(front.store, block * BLOCK_SIZE, data, sizeof(data), false, NULL), 0);
}

static void expect_block(uint64_t block, uint8_t value)
{
	uint8_t data[BLOCK_SIZE];
	assert_int_equal(store_read(front.store, block * BLOCK_SIZE, data, sizeof(data), NULL), 0);
	assert_int_equal(data[0], value);
	assert_int_equal(data[BLOCK_SIZE - 1], value);
}

/* After a crash it is whole by every invariant. */
static void expect_whole(void)
{
	static uint8_t used[(BASE + METASLABS * METASLAB_BLOCKS) / 8 + 1];
	struct store_walk walk = {.data = true, .after_crash = true};
	struct lcpfs_failure failure = {0};

	crash();
	if (open_as(true, false, &failure))
		fail_msg("%s", failure.message);
	memset(used, 0, sizeof(used));
	assert_int_equal(store_check(front.store, used, &walk), 0);
	assert_int_equal(walk.damaged_blocks, 0);
}

/* -- order -- */

static void a_root_comes_after_what_it_needs_and_before_what_follows(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 40; round++) {
		for (uint64_t i = 0; i < 20; i++)
			write_block((round * 37 + i * 71) % VOLUME_BLOCKS, (uint8_t)round);
		if (round % 3 == 0)
			assert_int_equal(store_flush(front.store, NULL), 0);
		assert_int_equal(store_checkpoint(front.store), 0);
		if (round % 2 == 0) /* with nothing in the log */
			assert_int_equal(store_checkpoint(front.store), 0);
	}
	write_block(7, 77);
	assert_int_equal(store_flush(front.store, NULL), 0);
	expect_whole();
	expect_block(7, 77);
}

/* One that failed may have arrived all the same: the next one is told from it. */
static void a_root_that_failed_has_a_number_of_its_own(void **state)
{
	(void)state;
	write_block(1, 1);
	front.root_error = -LCPFS_E_IO;
	assert_int_equal(store_checkpoint(front.store), -LCPFS_E_IO);
	front.root_error = 0;
	front.rooted = false;
	assert_int_equal(store_checkpoint(front.store), 0); /* note_root compares */
	expect_block(1, 1);
}

static void what_idles_is_written_and_what_is_flushed_is_confirmed(void **state)
{
	unsigned writes = front.writes;
	(void)state;
	write_block(1, 1);
	assert_int_equal(store_step(front.store), 0);
	assert_int_equal(front.writes, writes);
	front.now_us += IDLE_SEAL_US;
	assert_int_equal(store_step(front.store), 1);
	assert_int_equal(front.writes, writes + 1);
	assert_int_equal(store_flush(front.store, NULL), 0);
	assert_int_equal(store_step(front.store), 0);
	writes = front.writes;
	front.now_us += CONFIRM_US;
	assert_int_equal(store_step(front.store), 1); /* a header behind it says that it is durable */
	assert_int_equal(front.writes, writes + 1);
	assert_int_equal(store_step(front.store), 0);
}

/* Whichever record it is of those that a flush waits for: also the last one. */
static void a_flush_whose_record_fails_is_told(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 3; round++) {
		write_block(round, 1);
		front.record_error = -LCPFS_E_IO;
		assert_int_equal(store_flush(front.store, NULL), -LCPFS_E_IO);
		front.record_error = 0;
		assert_int_equal(store_flush(front.store, NULL), 0);
	}
	expect_whole();
	expect_block(2, 1);
}

/* -- flushes of others -- */

static void another_flush_fails(const struct vdev_io *io)
{
	(void)io;
	atomic_fetch_add(&front.vdev.flush_failures, 1);
}

static void another_flush_fails_after_the_root(const struct vdev_io *io)
{
	if (is_root(io))
		atomic_fetch_add(&front.vdev.flush_failures, 1);
}

/* It was told of what we wrote, and ours, which succeeds, is not. */
static void a_loss_that_another_was_told_of_is_ours(void **state)
{
	(void)state;
	write_block(1, 1);
	front.wrote = another_flush_fails;
	assert_int_not_equal(store_flush(front.store, NULL), 0);
	front.wrote = NULL;
	assert_int_not_equal(store_flush(front.store, NULL), 0);
}

static void a_root_that_another_flush_lost_is_none(void **state)
{
	(void)state;
	write_block(1, 1);
	front.wrote = another_flush_fails_after_the_root;
	assert_int_not_equal(store_checkpoint(front.store), 0);
	front.wrote = NULL;
	assert_int_not_equal(store_flush(front.store, NULL), 0);
}

static struct {
	pthread_t thread;
	bool begun;
	atomic_int stage; /* 1: the second is amid its write; 2: the first one's flush has ended */
	int error;
} second;
static __thread bool is_second;

static void await_stage(int stage)
{
	while (atomic_load(&second.stage) < stage)
		sched_yield();
}

static void *write_second(void *context)
{
	(void)context;
	is_second = true;
	write_block(2, 2);
	second.error = store_flush(front.store, NULL);
	return NULL;
}

static void write_at_the_same_time(const struct vdev_io *io)
{
	(void)io;
	if (is_second && atomic_load(&second.stage) == 0) {
		atomic_store(&second.stage, 1);
		await_stage(2);
		atomic_fetch_add(&front.vdev.flush_failures, 1);
	} else if (!second.begun) {
		second.begun = true;
		assert_int_equal(pthread_create(&second.thread, NULL, write_second, NULL), 0);
		await_stage(1);
	}
}

/* A flush says nothing of what was on its way when it began: of its loss another may be told. */
static void what_was_on_its_way_is_not_covered(void **state)
{
	(void)state;
	memset(&second, 0, sizeof(second));
	write_block(1, 1);
	front.wrote = write_at_the_same_time;
	assert_int_equal(store_flush(front.store, NULL), 0);
	atomic_store(&second.stage, 2);
	pthread_join(second.thread, NULL);
	assert_int_not_equal(second.error, 0);
}

static void *flush_second(void *context)
{
	(void)context;
	is_second = true;
	atomic_store(&second.stage, 1);
	second.error = store_flush(front.store, NULL);
	atomic_store(&second.stage, 2);
	return NULL;
}

static void flush_at_the_same_time(const struct vdev_io *io)
{
	(void)io;
	if (second.begun)
		return;
	second.begun = true;
	assert_int_equal(pthread_create(&second.thread, NULL, flush_second, NULL), 0);
	await_stage(1);
	usleep(50000); /* for it to come to its end, if it does not wait */
	assert_int_equal(atomic_load(&second.stage), 1);
}

static void a_flush_waits_for_what_is_on_its_way(void **state)
{
	(void)state;
	memset(&second, 0, sizeof(second));
	write_block(1, 1);
	front.wrote = flush_at_the_same_time;
	assert_int_equal(store_flush(front.store, NULL), 0);
	pthread_join(second.thread, NULL);
	assert_int_equal(second.error, 0);
}

/* The second one's record fails for good, once the first one's flush has written again what had failed before. */
static void fail_behind_what_is_retried(const struct vdev_io *io)
{
	(void)io;
	if (is_second && atomic_load(&second.stage) == 0) {
		atomic_store(&second.stage, 1);
		await_stage(2);
	} else if (!is_second && atomic_load(&second.stage) == 1) {
		front.record_error = -LCPFS_E_IO;
		atomic_store(&second.stage, 2);
	}
}

/* It gives up, rather than wait for somebody to write it. */
static void a_flush_ends_whose_last_record_fails_later(void **state)
{
	(void)state;
	memset(&second, 0, sizeof(second));
	write_block(1, 1);
	front.record_error = -LCPFS_E_IO;
	assert_int_equal(store_flush(front.store, NULL), -LCPFS_E_IO);
	front.wrote = fail_behind_what_is_retried;
	assert_int_equal(pthread_create(&second.thread, NULL, write_second, NULL), 0);
	await_stage(1);
	front.record_error = 0;
	alarm(60);
	assert_int_equal(store_flush(front.store, NULL), -LCPFS_E_IO);
	alarm(0);
	pthread_join(second.thread, NULL);
	assert_int_equal(second.error, -LCPFS_E_IO);
	front.wrote = NULL;
	front.record_error = 0;
	assert_int_equal(store_flush(front.store, NULL), 0);
	expect_block(1, 1);
	expect_block(2, 2);
}

/* -- damage -- */

static void damage(uint64_t offset, unsigned blocks)
{
	static const uint8_t zeros[BLOCK_SIZE];
	for (unsigned i = 0; i < blocks; i++)
		assert_int_equal(vdev_write(front.behind, offset + i * BLOCK_SIZE, zeros, sizeof(zeros)), 0);
}

static void a_flushed_record_is_not_lost_in_silence(void **state)
{
	struct lcpfs_failure failure = {0};
	(void)state;
	write_block(1, 1);
	assert_int_equal(store_flush(front.store, NULL), 0);
	uint64_t record = front.last_record;
	front.now_us += CONFIRM_US;
	assert_int_equal(store_step(front.store), 1);
	crash();
	damage(record, RECORD_HEADERS);
	assert_int_equal(open_as(false, false, &failure), -LCPFS_E_CORRUPT);
	front.store = NULL;
}

static bool writes_a_page(const struct vdev_io *io)
{
	return le16_get(((const struct fmt_head *)io->buffer)->kind) == FMT_PAGE;
}

static void a_write_comes_amid_a_checkpoint(const struct vdev_io *io)
{
	if (!writes_a_page(io))
		return;
	front.wrote = NULL;
	write_block(2, 2);
}

/* No header says yet that it was flushed; the root does, whose flush it was. */
static void what_a_checkpoint_flushed_is_not_lost_in_silence(void **state)
{
	struct lcpfs_failure failure = {0};
	(void)state;
	write_block(1, 1);
	front.wrote = a_write_comes_amid_a_checkpoint;
	assert_int_equal(checkpoint_step(front.store, 0), 0);
	assert_null(front.wrote);
	crash();
	damage(front.last_record, RECORD_HEADERS);
	assert_int_equal(open_as(false, false, &failure), -LCPFS_E_CORRUPT);
	front.store = NULL;
}

/* Whole, of the same epoch and number, and from where the head goes on: but it is another one's successor. */
static void a_record_that_follows_another_is_not_the_next(void **state)
{
	struct fmt_record r;
	(void)state;
	write_block(1, 1);
	assert_int_equal(store_flush(front.store, NULL), 0);
	write_block(1, 2);
	assert_int_equal(store_flush(front.store, NULL), 0);
	crash();
	assert_int_equal(vdev_read(front.behind, front.last_record, &r, sizeof(r)), 0);
	r.previous = le64_of(le64_get(r.previous) + 1);
	fmt_seal(&r, FMT_RECORD, 1, 1, le32_get(r.head.count));
	for (unsigned i = 0; i < RECORD_HEADERS; i++)
		assert_int_equal(vdev_write(front.behind, front.last_record + i * BLOCK_SIZE, &r, sizeof(r)), 0);
	assert_int_equal(open_as(false, false, NULL), 0);
	expect_block(1, 1);
}

/* Where a range lies is told as long as it lies side by side there, and not in memory. */
static void what_lies_side_by_side_has_a_place(void **state)
{
	uint8_t data[3][BLOCK_SIZE], found[3][BLOCK_SIZE];
	uint64_t place;
	(void)state;
	for (uint64_t i = 1; i <= 3; i++)
		write_block(i, (uint8_t)i);
	assert_int_equal(store_volume_place(front.store, STORE_OWN_VOLUME, BLOCK_SIZE, BLOCK_SIZE, &place),
			 -LCPFS_E_AGAIN); /* it is in the open record */
	assert_int_equal(store_flush(front.store, NULL), 0);
	for (uint64_t count = 1; count <= 3; count++) {
		assert_int_equal(
			store_volume_place(front.store, STORE_OWN_VOLUME, BLOCK_SIZE, count * BLOCK_SIZE, &place),
			0);
		assert_int_equal(vdev_read(front.behind, place, found, count * BLOCK_SIZE), 0);
		assert_int_equal(store_read(front.store, BLOCK_SIZE, data, count * BLOCK_SIZE, NULL), 0);
		assert_memory_equal(found, data, count * BLOCK_SIZE);
	}
	write_block(2, 9);
	assert_int_equal(store_flush(front.store, NULL), 0);
	static const size_t not_so[][2] = {{1, 3 * BLOCK_SIZE},  {3, 2 * BLOCK_SIZE},  {1, 100}, {1, 0},
					   {0, 65 * BLOCK_SIZE}, {1 << 20, BLOCK_SIZE}};
	for (unsigned i = 0; i < ARRAY_LENGTH(not_so); i++)
		assert_int_equal(store_volume_place(front.store, STORE_OWN_VOLUME, not_so[i][0] * BLOCK_SIZE,
						    not_so[i][1], &place),
				 -LCPFS_E_AGAIN);
	assert_int_equal(store_volume_place(front.store, 77, BLOCK_SIZE, BLOCK_SIZE, &place), -LCPFS_E_AGAIN);
}

static void a_rotten_block_is_given_to_nobody(void **state)
{
	uint8_t data[BLOCK_SIZE];
	(void)state;
	write_block(1, 1);
	assert_int_equal(store_flush(front.store, NULL), 0);
	assert_int_equal(store_try_read(front.store, BLOCK_SIZE, data, sizeof(data)), 0);
	damage(front.last_record + RECORD_HEADERS * BLOCK_SIZE, 1);
	assert_int_equal(store_try_read(front.store, BLOCK_SIZE, data, sizeof(data)), -LCPFS_E_AGAIN);
	assert_int_equal(store_read(front.store, BLOCK_SIZE, data, sizeof(data), NULL), -LCPFS_E_CORRUPT);
}

/* Also while cleaning has it in memory, on its way to another place. */
static void a_rotten_block_stays_rotten_where_it_is_moved(void **state)
{
	uint8_t data[BLOCK_SIZE];
	struct store_stats stats;
	(void)state;
	write_block(1, 1);
	assert_int_equal(store_flush(front.store, NULL), 0);
	damage(front.last_record + RECORD_HEADERS * BLOCK_SIZE, 1);
	for (uint64_t i = 0; i < 8000; i++) {
		write_block(2 + hash_mix(i) % 1000, (uint8_t)i);
		if (store_step(front.store) > 0)
			assert_int_equal(store_read(front.store, BLOCK_SIZE, data, sizeof(data), NULL),
					 -LCPFS_E_CORRUPT);
	}
	store_stats(front.store, &stats);
	assert_true(stats.counters.cleaned > 16);
}

/* -- cleaning -- */

/* A metaslab with records of its own, the first of them with blocks 1 and 2, and nothing more to come. */
static uint32_t filled_metaslab(void)
{
	write_block(1, 1);
	write_block(2, 2);
	assert_int_equal(store_flush(front.store, NULL), 0);
	uint64_t first = front.last_record / BLOCK_SIZE;
	for (uint64_t block = 3; block < METASLAB_BLOCKS + 10; block++)
		write_block(block, 3);
	assert_int_equal(store_flush(front.store, NULL), 0);
	assert_int_equal((first - BASE) % METASLAB_BLOCKS, 0);
	return (uint32_t)(first - BASE) / METASLAB_BLOCKS;
}

static uint64_t first_block_in(uint32_t metaslab)
{
	return BASE + metaslab * METASLAB_BLOCKS + RECORD_HEADERS;
}

static void another_overwrites_it(const struct vdev_io *io)
{
	if (((const uint8_t *)io->buffer)[0] != 1) /* a header */
		return;
	front.did_read = NULL;
	write_block(1, 7);
}

static void what_is_overwritten_while_it_is_moved_stays_new(void **state)
{
	uint32_t metaslab = filled_metaslab();
	(void)state;
	front.did_read = another_overwrites_it;
	assert_int_equal(clean_metaslab(front.store, metaslab), 0);
	assert_null(front.did_read);
	expect_block(1, 7);
	expect_block(2, 2);
	assert_int_equal(store_flush(front.store, NULL), 0);
	expect_whole();
	expect_block(1, 7);
	expect_block(2, 2);
}

/* Its record is not whole by its checksums, and is no torn end of the log for that. */
static void a_rotten_block_that_is_moved_hides_nothing_behind_it(void **state)
{
	uint32_t metaslab = filled_metaslab();
	(void)state;
	damage(first_block_in(metaslab) << BLOCK_SHIFT, 1);
	assert_int_equal(clean_metaslab(front.store, metaslab), 0);
	write_block(2, 7); /* which comes behind where that has been moved to */
	assert_int_equal(store_flush(front.store, NULL), 0);
	crash();
	assert_int_equal(open_as(false, false, NULL), 0);
	expect_block(2, 7);
}

static void what_cannot_be_read_is_left_alone(void **state)
{
	uint32_t metaslab = filled_metaslab();
	(void)state;
	front.unread_from = first_block_in(metaslab);
	front.unread_to = front.unread_from + 1;
	assert_int_equal(clean_metaslab(front.store, metaslab), 0);
	front.unread_to = 0;
	assert_int_equal(space_find(&front.store->space, metaslab)->live, BLOCK_SECTORS);
	assert_true(space_find(&front.store->space, metaslab)->barren);
	expect_block(1, 1);
	expect_block(2, 2);
}

static void what_lies_behind_a_damaged_header_is_moved(void **state)
{
	uint32_t metaslab = filled_metaslab();
	(void)state;
	damage((first_block_in(metaslab) + 2) << BLOCK_SHIFT, RECORD_HEADERS); /* of the second record */
	assert_int_equal(clean_metaslab(front.store, metaslab), 0);
	assert_int_equal(space_find(&front.store->space, metaslab)->live, 0);
	expect_block(1, 1);
	expect_block(2, 2);
	expect_block(METASLAB_BLOCKS / 2, 3);
}

/* -- roots and pages -- */

/* Until what the roots before the last ones need has been written over. */
static void use_much(void)
{
	for (uint64_t i = 0; i < 3000; i++) {
		write_block(hash_mix(i) % 700, (uint8_t)i);
		while (store_step(front.store) > 0)
			;
	}
}

static void damage_newest_root(void)
{
	damage((1 + 2 * (uint64_t)front.slot) << BLOCK_SHIFT, 1);
	damage((2 + 2 * (uint64_t)front.slot) << BLOCK_SHIFT, 1);
}

static bool roots_are_twice(void)
{
	struct fmt_root copy[2];
	for (unsigned slot = 0; slot < 2; slot++) {
		for (unsigned i = 0; i < 2; i++)
			assert_int_equal(vdev_read(front.behind, (1 + 2 * slot + i) << BLOCK_SHIFT, &copy[i],
						   sizeof(copy[i])), 0);
		if (memcmp(&copy[0], &copy[1], sizeof(copy[0])) || !le64_get(copy[0].generation))
			return false;
	}
	return true;
}

static void scrub_repairs_each_copy_of_a_root(void **state)
{
	(void)state;
	write_block(1, 1);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(store_checkpoint(front.store), 0);
	assert_true(roots_are_twice());
	for (uint64_t i = 0; i < 2; i++) { /* of the current one */
		uint64_t block = 1 + 2 * (uint64_t)front.slot + i;
		struct store_walk walk = {.repair = true};
		uint8_t garbage[BLOCK_SIZE] = {0x55};

		assert_int_equal(vdev_write(front.behind, block << BLOCK_SHIFT, garbage, sizeof(garbage)), 0);
		assert_false(roots_are_twice());
		front.generation = 0; /* what is written is no new one */
		front.durable_slot = 2;
		assert_int_equal(store_scrub(front.store, &walk), 0);
		front.rooted = false;
		assert_int_equal(walk.damaged_blocks, 1);
		assert_int_equal(walk.repaired_blocks, 1);
		assert_true(roots_are_twice());
	}
}

static void a_root_that_cannot_be_read_now_is_waited_for(void **state)
{
	struct lcpfs_failure failure = {0};
	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		write_block(1, (uint8_t)round + 1);
		assert_int_equal(store_checkpoint(front.store), 0);
		crash();
		front.unread_from = 1 + 2 * front.slot;
		front.unread_to = front.unread_from + 2;
		assert_int_equal(open_as(false, false, &failure), -LCPFS_E_IO);
		front.unread_to = 0;
		assert_int_equal(open_as(false, false, &failure), 0);
		expect_block(1, (uint8_t)round + 1);
		if (front.slot == (round + 1) % 2)
			assert_int_equal(store_checkpoint(front.store), 0);
	}
}

/* It needs no log; and all it needs lies there twice. */
static void a_closed_store_can_lose_a_root_and_its_log(void **state)
{
	(void)state;
	use_much();
	write_block(1, 1);
	assert_int_equal(store_flush(front.store, NULL), 0);
	uint64_t record = front.last_record;
	assert_int_equal(store_close(front.store), 0);
	damage_newest_root();
	damage(record, RECORD_HEADERS);
	front.unflushed = front.rooted = false;
	assert_int_equal(open_as(true, true, NULL), 0);
	expect_block(1, 1);
}

static void one_copy_of_each_page_is_enough(void **state)
{
	struct fmt_root root;
	(void)state;
	for (unsigned copy = 0; copy < 2; copy++) {
		write_block(1, 1);
		assert_int_equal(store_close(front.store), 0);
		front.unflushed = front.rooted = false;
		uint64_t newest = (1 + 2 * (uint64_t)front.slot) << BLOCK_SHIFT;
		assert_int_equal(vdev_read(front.behind, newest, &root, sizeof(root)), 0);
		damage(block_of_place(root.table.top.place[copy]) << BLOCK_SHIFT, 1);
		assert_int_equal(open_as(false, true, NULL), 0);
		expect_block(1, 1);
	}
}

/* Where the pages of the volume lie: the first slots of which are these. */
static unsigned find_pages(const uint64_t slots[2], uint64_t found[2])
{
	unsigned count = 0;
	for (uint64_t block = BASE; block < BASE + METASLABS * METASLAB_BLOCKS && count < 2; block++) {
		uint64_t data[BLOCK_SIZE / 8];
		assert_int_equal(vdev_read(front.behind, block << BLOCK_SHIFT, data, sizeof(data)), 0);
		if (data[0] == slots[0] && data[1] == slots[1])
			found[count++] = block;
	}
	return count;
}

static void one_of_two_twins_is_enough(void **state)
{
	const uint64_t slots[2] = {IDS_FIRST, IDS_FIRST + 1};
	uint64_t found[2];
	(void)state;
	write_block(0, 1);
	write_block(1, 1);
	assert_int_equal(store_close(front.store), 0);
	assert_int_equal(find_pages(slots, found), 2);
	for (unsigned twin = 0; twin < 2; twin++) {
		uint8_t whole[BLOCK_SIZE];
		assert_int_equal(vdev_read(front.behind, found[twin] << BLOCK_SHIFT, whole, sizeof(whole)), 0);
		damage(found[twin] << BLOCK_SHIFT, 1);
		front.unflushed = front.rooted = false;
		assert_int_equal(open_as(true, true, NULL), 0);
		expect_block(1, 1);
		store_abandon(front.store);
		assert_int_equal(vdev_write(front.behind, found[twin] << BLOCK_SHIFT, whole, sizeof(whole)), 0);
	}
	front.store = NULL;
}

/* -- two at a time -- */

static void another_writes_a_part(const struct vdev_io *io)
{
	(void)io;
	front.did_read = NULL;
	assert_int_equal(store_write(front.store, BLOCK_SIZE + 200, "other", 5, false, NULL), 0);
}

static void parts_of_a_block_do_not_get_lost(void **state)
{
	uint8_t data[BLOCK_SIZE];
	(void)state;
	write_block(1, 1);
	assert_int_equal(store_flush(front.store, NULL), 0);
	front.did_read = another_writes_a_part;
	assert_int_equal(store_write(front.store, BLOCK_SIZE + 100, "one", 3, false, NULL), 0);
	assert_null(front.did_read);
	assert_int_equal(store_read(front.store, BLOCK_SIZE, data, sizeof(data), NULL), 0);
	assert_memory_equal(data + 100, "one", 3);
	assert_memory_equal(data + 200, "other", 5);
	assert_int_equal(data[103] | data[205], 1);
}

/* -- trims -- */

/* Its ids lie side by side, and are more than one count can hold. */
static void a_long_trim_survives_a_crash(void **state)
{
	(void)state;
	for (uint64_t block = 0; block < 512; block++)
		write_block(block, 1);
	assert_int_equal(store_flush(front.store, NULL), 0);
	assert_int_equal(store_trim(front.store, 0, (uint64_t)500 * BLOCK_SIZE, true, NULL), 0);
	expect_whole();
	expect_block(0, 0);
	expect_block(499, 0);
	expect_block(500, 1);
}

/* It is written where others go than the trim before it; that has to happen first. */
static void what_is_written_after_a_trim_stays(void **state)
{
	(void)state;
	assert_true(front.store->log.heads > 1);
	for (uint64_t i = 0; !front.store->space.lifespan.known; i++) { /* until new and old go to two places */
		assert_true(i < 20000);
		write_block(100 + hash_mix(i) % 300, (uint8_t)i);
		while (store_step(front.store) > 0)
			;
	}
	write_block(5, 1);
	assert_int_equal(store_flush(front.store, NULL), 0);
	assert_int_equal(store_trim(front.store, 5 * BLOCK_SIZE, BLOCK_SIZE, false, NULL), 0);
	write_block(5, 2);
	for (uint64_t i = 0; i < RECORD_BLOCKS_MAX + 9; i++)
		write_block(1000 + i, 3);
	assert_int_equal(store_flush(front.store, NULL), 0);
	expect_whole();
	expect_block(5, 2);
}

/* The end of one block and the start of the next: both stay, but for that. */
static void a_trim_across_a_border_zeroes_just_that(void **state)
{
	uint8_t data[2 * BLOCK_SIZE];
	(void)state;
	write_block(1, 1);
	write_block(2, 2);
	assert_int_equal(store_trim(front.store, 2 * BLOCK_SIZE - 10, 30, false, NULL), 0);
	assert_int_equal(store_read(front.store, BLOCK_SIZE, data, sizeof(data), NULL), 0);
	for (unsigned i = 0; i < sizeof(data); i++) {
		bool gone = i >= BLOCK_SIZE - 10 && i < BLOCK_SIZE + 20;
		assert_int_equal(data[i], gone ? 0 : i < BLOCK_SIZE ? 1 : 2);
	}
}

/* -- extents -- */

/* At every border of a leaf, from every offset there to every other. */
static void extents_are_what_is_mapped(void **state)
{
	static const uint64_t edges[] = {0, 1, 510, 511, 512, 513, 1022, 1023, 1024, 1025, 1498, 1499, 1500};
	bool mapped[VOLUME_BLOCKS] = {false};
	(void)state;
	for (unsigned round = 0; round < 12; round++) {
		uint64_t block = edges[(round * 5 + 8) % 12]; /* at first the leaves before it are not there */
		write_block(block, 1);
		mapped[block] = true;
		for (unsigned from = 0; from < ARRAY_LENGTH(edges); from++) {
			for (unsigned to = from + 1; to < ARRAY_LENGTH(edges); to++) {
				uint64_t first = edges[from], last = edges[to], wanted = first + 1, end;
				bool data;
				while (wanted < last && mapped[wanted] == mapped[first])
					wanted++;
				assert_int_equal(store_extent(front.store, first * BLOCK_SIZE,
							      (last - first) * BLOCK_SIZE, &data, &end),
						 0);
				assert_int_equal(data, mapped[first]);
				assert_int_equal(end, wanted * BLOCK_SIZE);
			}
		}
	}
}

/* -- opening -- */

/* The pool's word is not enough where its log goes on behind its root: it is opened as after a crash. */
static void what_is_not_as_closed_is_not_opened_so(void **state)
{
	(void)state;
	write_block(1, 1);
	assert_int_equal(store_flush(front.store, NULL), 0);
	crash();
	uint64_t before = front.generation;
	assert_int_equal(open_as(false, true, NULL), 0);
	assert_true(front.generation > before);
	expect_block(1, 1);
	assert_int_equal(store_close(front.store), 0);
	before = front.generation;
	assert_int_equal(open_as(false, true, NULL), 0);
	assert_true(front.generation == before);
}

static void put_header(uint64_t at, uint64_t says, uint64_t seq)
{
	struct fmt_record r = {.seq = le64_of(seq), .place = place_of_block(says)};
	fmt_seal(&r, FMT_RECORD, 1, 1, 0);
	assert_int_equal(vdev_write(front.behind, at * BLOCK_SIZE, &r, sizeof(r)), 0);
}

/* A write that was cut off leaves the second copy of an earlier life; and a volume may hold a copy of a log. */
static void headers_are_of_this_life_and_place(void **state)
{
	uint64_t block = BASE + 5;
	struct fmt_record r;
	bool good[2];
	(void)state;
	put_header(block, block, 9);
	put_header(block + 1, block, 5);
	assert_int_equal(record_read(front.store, block, &r, good), 1);
	assert_true(le64_get(r.seq) == 9 && good[0] && !good[1]);
	put_header(block + 1, block, 12);
	assert_int_equal(record_read(front.store, block, &r, good), 1);
	assert_true(le64_get(r.seq) == 12 && !good[0] && good[1]);
	put_header(block, block + 7, 9);
	put_header(block + 1, block + 7, 9);
	assert_int_equal(record_read(front.store, block, &r, good), 0);
}

/* Where a younger one was flushed, it is no end of the log, but a write that the device has lost. */
static void a_header_of_an_earlier_life_is_damage(void **state)
{
	uint64_t header = first_block_in(filled_metaslab()) + 2;
	struct store_walk walk = {0};
	(void)state;
	assert_int_equal(store_scrub(front.store, &walk), 0);
	assert_int_equal(walk.damaged_blocks, 0);
	put_header(header, header, 1);
	put_header(header + 1, header, 1);
	assert_int_equal(store_scrub(front.store, &walk), 0);
	assert_int_equal(walk.damaged_blocks, 1);
}

/* -- ids and pages -- */

/* The next ids are these. */
static void next_ids(uint64_t first, uint64_t count)
{
	struct ids *ids = &front.store->ids;
	ids->run[0].first = first;
	ids->run[0].count = count;
	ids->runs = 1;
	ids->end = MAX_OF(ids->end, first + count);
}

static void an_id_that_came_into_use_is_not_given_out(void **state)
{
	(void)state;
	write_block(1, 1);
	next_ids(IDS_FIRST, 1);
	write_block(2, 2);
	expect_block(1, 1);
	expect_block(2, 2);
}

/* A page that was let go is another's soon, whoever found it last. */
static void a_page_that_went_is_not_found(void **state)
{
	static const struct page_key other = {.kind = PAGE_VOLUME, .index = 5}, first = {.kind = PAGE_VOLUME};
	struct cache cache;
	(void)state;
	assert_int_equal(cache_init(&cache, 0), 0);
	struct page *page = cache_take(&cache);
	cache_insert(&cache, page, &other, PAGE_READY);
	page_unpin(&cache, page);
	assert_ptr_equal(cache_find(&cache, &other), page);
	cache_forget(&cache, page);
	assert_null(cache_find(&cache, &other));
	assert_null(cache_find(&cache, &first));
	cache_free(&cache);
}

/* -- regions -- */

enum { REGION_IDS = TABLE_SLOTS * TABLE_SLOTS };

/* The pages of one region could not be written; another one's are. What the first has is still in the log. */
static void a_region_that_was_not_written_is_as_old_as_before(void **state)
{
	(void)state;
	write_block(1, 1);
	next_ids(REGION_IDS, 20);
	write_block(2, 2);
	assert_int_equal(store_flush(front.store, NULL), 0);
	front.record_error = -LCPFS_E_IO;
	assert_int_not_equal(checkpoint_step(front.store, 0), 0);
	front.record_error = 0;
	assert_int_equal(store_flush(front.store, NULL), 0);
	assert_int_equal(checkpoint_step(front.store, 0), 0);
	expect_whole();
	expect_block(1, 1);
	expect_block(2, 2);
}

/* A page of the volume that lies in another region than what it has got since. */
static void a_region_with_a_page_to_write_is_not_settled(void **state)
{
	(void)state;
	write_block(1, 1);
	next_ids(REGION_IDS, 20); /* of the page, when it is written */
	assert_int_equal(store_checkpoint(front.store), 0);
	next_ids(IDS_FIRST + 50, 1);
	write_block(2, 2);
	assert_int_equal(checkpoint_step(front.store, 0), 0);
	expect_whole();
	expect_block(1, 1);
	expect_block(2, 2);
}

enum { FROZEN_LEAVES = 120 }; /* more than are written at a time */

static void changes_amid_a_checkpoint(const struct vdev_io *io)
{
	if (!writes_a_page(io))
		return;
	front.wrote = NULL;
	for (uint64_t block = 0; block < FROZEN_LEAVES; block += 10) {
		assert_int_equal(store_trim(front.store, block * BLOCK_SIZE, BLOCK_SIZE, false, NULL), 0);
		write_block(block + 1, 9);
	}
}

/* What is not written yet goes out as it was when the checkpoint began. */
static void a_checkpoint_is_of_one_moment(void **state)
{
	(void)state;
	for (uint64_t block = 0; block < FROZEN_LEAVES; block++) {
		next_ids(IDS_FIRST + block * TABLE_SLOTS, 1);
		write_block(block, 1);
	}
	assert_int_equal(store_flush(front.store, NULL), 0);
	front.wrote = changes_amid_a_checkpoint;
	assert_int_equal(checkpoint_step(front.store, 0), 0);
	assert_null(front.wrote);
	assert_int_equal(store_flush(front.store, NULL), 0);
	expect_whole();
	expect_block(0, 0);
	expect_block(1, 9);
	expect_block(2, 1);
}

/* Where two become one, roll-forward begins at the older one's: what it finds twice does no harm. */
static void merged_regions_are_as_old_as_the_older(void **state)
{
	struct store *s = calloc(1, sizeof(*s));
	uint64_t seq[REGIONS], youngest = 0;
	(void)state;
	for (unsigned i = 0; i < REGIONS; i++) {
		seq[i] = 1 + i * 7 % 31 + i % 2 * 100 * (i % 4 / 2);
		youngest = MAX_OF(youngest, seq[i]);
		s->table.region[i].seq = seq[i];
		s->table.region[i].chain = seq[i] * 3;
	}
	table_make_regions(s, (uint64_t)REGIONS * TABLE_SLOTS * TABLE_SLOTS);
	assert_int_equal(s->table.region_shift, 1);
	for (unsigned i = 0; i < REGIONS; i++) {
		uint64_t wanted = i < REGIONS / 2 ? MIN_OF(seq[2 * i], seq[2 * i + 1]) : youngest;
		assert_int_equal(s->table.region[i].seq, wanted);
		assert_int_equal(s->table.region[i].chain, wanted * 3);
	}
	free(s);
}

/* However it is written, and also where it is not done at once to its end. */
static void every_block_written_is_counted(void **state)
{
	static uint8_t data[40 * BLOCK_SIZE];
	struct store_stats before, stats;
	bool unsettled;
	size_t done;
	(void)state;
	store_stats(front.store, &before);
	assert_int_equal(store_write(front.store, 0, data, 40 * BLOCK_SIZE, false, NULL), 0);
	assert_int_equal(store_try_write(front.store, 0, data, 7 * BLOCK_SIZE, &done, &unsettled), 0);
	assert_int_equal(done, 7 * BLOCK_SIZE);
	store_stats(front.store, &stats);
	assert_int_equal(stats.counters.written_blocks - before.counters.written_blocks, 47);
	assert_int_equal(stats.counters.writes - before.counters.writes, 2);
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

/* -- snapshots -- */

static void destroy_it_and_write(const struct vdev_io *io)
{
	(void)io;
	front.did_read = NULL;
	front.unread_from = front.unread_to = 0;
	assert_int_equal(store_snapshot_destroy(front.store, "s"), 0);
	write_block(3, 4);
	assert_int_equal(store_flush(front.store, NULL), 0);
}

/* What the volume has written over it since is never given for what it held. */
static void a_snapshot_that_goes_while_it_is_read_is_not_there(void **state)
{
	uint8_t data[BLOCK_SIZE];
	struct store_snapshot s;
	(void)state;
	write_block(3, 1);
	assert_int_equal(store_snapshot(front.store, "s", 0), 0);
	assert_int_equal(store_snapshots(front.store, &s, 1), 1);
	assert_int_equal(store_snapshot_read(front.store, s.number, 3 * BLOCK_SIZE, data, BLOCK_SIZE, NULL), 0);
	front.did_read = destroy_it_and_write;
	front.unread_to = UINT64_MAX >> BLOCK_SHIFT; /* so that it is looked for again, afterwards */
	assert_int_equal(store_snapshot_read(front.store, s.number, 3 * BLOCK_SIZE, data, BLOCK_SIZE, NULL),
			 -LCPFS_E_NOT_FOUND);
	expect_block(3, 4);
	expect_whole();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		STORE_TEST(a_root_comes_after_what_it_needs_and_before_what_follows),
		STORE_TEST(a_root_that_failed_has_a_number_of_its_own),
		STORE_TEST(what_idles_is_written_and_what_is_flushed_is_confirmed),
		STORE_TEST(a_flush_whose_record_fails_is_told),
		STORE_TEST(a_loss_that_another_was_told_of_is_ours),
		STORE_TEST(a_root_that_another_flush_lost_is_none),
		STORE_TEST(what_was_on_its_way_is_not_covered),
		STORE_TEST(a_flush_waits_for_what_is_on_its_way),
		STORE_TEST(a_flush_ends_whose_last_record_fails_later),
		STORE_TEST(a_flushed_record_is_not_lost_in_silence),
		STORE_TEST(what_a_checkpoint_flushed_is_not_lost_in_silence),
		STORE_TEST(a_record_that_follows_another_is_not_the_next),
		STORE_TEST(what_lies_side_by_side_has_a_place),
		STORE_TEST(a_rotten_block_is_given_to_nobody),
		STORE_TEST(a_rotten_block_stays_rotten_where_it_is_moved),
		STORE_TEST(what_is_overwritten_while_it_is_moved_stays_new),
		STORE_TEST(a_rotten_block_that_is_moved_hides_nothing_behind_it),
		STORE_TEST(what_cannot_be_read_is_left_alone),
		STORE_TEST(what_lies_behind_a_damaged_header_is_moved),
		STORE_TEST(scrub_repairs_each_copy_of_a_root),
		STORE_TEST(a_root_that_cannot_be_read_now_is_waited_for),
		STORE_TEST(a_closed_store_can_lose_a_root_and_its_log),
		STORE_TEST(one_copy_of_each_page_is_enough),
		STORE_TEST(one_of_two_twins_is_enough),
		STORE_TEST(parts_of_a_block_do_not_get_lost),
		STORE_TEST(a_long_trim_survives_a_crash),
		STORE_TEST(what_is_written_after_a_trim_stays),
		STORE_TEST(a_trim_across_a_border_zeroes_just_that),
		STORE_TEST(extents_are_what_is_mapped),
		STORE_TEST(what_is_not_as_closed_is_not_opened_so),
		STORE_TEST(headers_are_of_this_life_and_place),
		STORE_TEST(a_header_of_an_earlier_life_is_damage),
		STORE_TEST(an_id_that_came_into_use_is_not_given_out),
		STORE_TEST(every_block_written_is_counted),
		STORE_TEST(a_region_that_was_not_written_is_as_old_as_before),
		STORE_TEST(a_region_with_a_page_to_write_is_not_settled),
		STORE_TEST(a_checkpoint_is_of_one_moment),
		STORE_TEST(a_snapshot_that_goes_while_it_is_read_is_not_there),
		cmocka_unit_test(a_page_that_went_is_not_found),
		cmocka_unit_test(merged_regions_are_as_old_as_the_older),
	};
	return cmocka_run_group_tests_name("store_device", tests, NULL, NULL);
}
