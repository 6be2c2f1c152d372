/* SPDX-License-Identifier: Apache-2.0 */
/* What a store asks of its device, in which order, and whose flush covers what. */
#include <pthread.h>
#include <sched.h>
#include <unistd.h>

#include "store_front.h"

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

/* Cleaning and checkpoints flush, too, but nobody waits for these. */
static void who_waits_for_a_flush_hurries_the_device(void **state)
{
	uint8_t block[BLOCK_SIZE] = {7};
	(void)state;
	write_block(1, 1);
	assert_int_equal(store_checkpoint(front.store), 0);
	assert_int_equal(front.hurries, 0);
	assert_int_equal(store_flush(front.store, NULL), 0);
	assert_int_equal(front.hurries, 1);
	assert_int_equal(store_write(front.store, 0, block, BLOCK_SIZE, true, NULL), 0);
	assert_int_equal(front.hurries, 2);
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

/* -- the background -- */

enum { AMID = 7 };

static void users_write_meanwhile(const struct vdev_io *io)
{
	(void)io;
	front.wrote = NULL;
	for (uint64_t block = 0; block < AMID; block++)
		write_block(block, 2);
}

/* The simulator is told so: what they overwrite meanwhile is not copied. */
static void what_users_write_while_the_background_works_is_counted(void **state)
{
	enum { DUE = METASLABS * METASLAB_BLOCKS / 4 + RECORD_BLOCKS_MAX };
	struct store_stats stats;
	(void)state;
	for (uint64_t i = 0; i < DUE; i++)
		write_block(i % VOLUME_BLOCKS, 1);
	front.wrote = users_write_meanwhile;
	assert_int_equal(store_step(front.store), 1);
	assert_null(front.wrote);
	store_stats(front.store, &stats);
	assert_int_equal(stats.background.units, 1);
	assert_int_equal(stats.background.busy_blocks, AMID);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		STORE_TEST(a_root_comes_after_what_it_needs_and_before_what_follows),
		STORE_TEST(a_root_that_failed_has_a_number_of_its_own),
		STORE_TEST(what_idles_is_written_and_what_is_flushed_is_confirmed),
		STORE_TEST(a_flush_whose_record_fails_is_told),
		STORE_TEST(who_waits_for_a_flush_hurries_the_device),
		STORE_TEST(a_loss_that_another_was_told_of_is_ours),
		STORE_TEST(a_root_that_another_flush_lost_is_none),
		STORE_TEST(what_was_on_its_way_is_not_covered),
		STORE_TEST(a_flush_waits_for_what_is_on_its_way),
		STORE_TEST(a_flush_ends_whose_last_record_fails_later),
		STORE_TEST(what_users_write_while_the_background_works_is_counted),
	};
	return cmocka_run_group_tests_name("store_device", tests, NULL, NULL);
}
