/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What is damaged on the device, or cannot be read: it is told, repaired where there is another copy, and given to
 * nobody.
 */
#include "store/checkpoint.h"
#include "store/clean.h"
#include "store/ids.h"
#include "store/record.h"
#include "store_front.h"

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
						   sizeof(copy[i])),
					 0);
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

/* -- headers -- */

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

int main(void)
{
	static const struct CMUnitTest tests[] = {
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
		STORE_TEST(headers_are_of_this_life_and_place),
		STORE_TEST(a_header_of_an_earlier_life_is_damage),
	};
	return cmocka_run_group_tests_name("store_damage", tests, NULL, NULL);
}
