/* SPDX-License-Identifier: Apache-2.0 */
/* What a client of the volume reads, is told of holes, and trims, also while others write. */
#include "store_front.h"

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

/* -- counting -- */

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

/* -- blocks that others have read from the device -- */

static int verify(uint64_t block, unsigned count, const void *data)
{
	return store_volume_verify(front.store, STORE_OWN_VOLUME, block * BLOCK_SIZE, data,
				   (size_t)count * BLOCK_SIZE);
}

static void fetch(uint64_t block, unsigned count, void *data)
{
	uint64_t place;
	assert_int_equal(store_volume_place(front.store, STORE_OWN_VOLUME, block * BLOCK_SIZE,
					    (size_t)count * BLOCK_SIZE, &place),
			 0);
	assert_int_equal(vdev_read(front.behind, place, data, (size_t)count * BLOCK_SIZE), 0);
}

static void only_what_the_volume_has_is_verified(void **state)
{
	uint8_t data[4 * BLOCK_SIZE], zeros[BLOCK_SIZE] = {0};
	struct store_stats before, after;
	(void)state;
	for (uint64_t block = 4; block < 8; block++)
		write_block(block, (uint8_t)block);
	assert_int_equal(store_flush(front.store, NULL), 0);
	fetch(4, 4, data);
	store_stats(front.store, &before);
	assert_int_equal(verify(4, 4, data), 0);
	assert_int_equal(verify(6, 1, data + 2 * BLOCK_SIZE), 0);
	assert_int_equal(verify(6, 1, data + BLOCK_SIZE), -LCPFS_E_AGAIN);
	for (unsigned i = 0; i < 4; i++) { /* rot, anywhere */
		data[i * BLOCK_SIZE + 999] ^= 1;
		assert_int_equal(verify(4, 4, data), -LCPFS_E_AGAIN);
		data[i * BLOCK_SIZE + 999] ^= 1;
	}
	store_stats(front.store, &after);
	assert_int_equal(after.counters.reads, before.counters.reads + 2);
	assert_int_equal(after.counters.read_blocks, before.counters.read_blocks + 5);
	assert_int_equal(after.counters.errors, before.counters.errors);
	assert_int_equal(
		store_volume_verify(front.store, STORE_OWN_VOLUME, 4 * BLOCK_SIZE + 512, data, BLOCK_SIZE),
		-LCPFS_E_AGAIN);
	assert_int_equal(verify(UINT64_MAX >> BLOCK_SHIFT, 1, data), -LCPFS_E_AGAIN);
	assert_int_equal(verify(4, 0, data), -LCPFS_E_AGAIN);
	write_block(5, 50); /* in memory, and nowhere else yet */
	assert_int_equal(verify(4, 4, data), -LCPFS_E_AGAIN);
	assert_int_equal(verify(4, 1, data), 0);
	memset(data, 50, BLOCK_SIZE);
	assert_int_equal(verify(5, 1, data), 0);
	assert_int_equal(store_trim(front.store, 4 * BLOCK_SIZE, BLOCK_SIZE, false, NULL), 0);
	assert_int_equal(verify(4, 1, zeros), -LCPFS_E_AGAIN); /* a hole has no checksum */
	assert_int_equal(verify(9, 1, zeros), -LCPFS_E_AGAIN);
}

/*
 * Blocks are read at one time and verified at another, while all kinds of things go on, so that places are left
 * and used anew: what is taken for right is what the volume has at that moment.
 */
static void what_is_verified_late_is_what_the_volume_has_then(void **state)
{
	enum { BLOCKS = 1400, HELD = 256, STEPS = 400000 };
	static struct {
		uint64_t block;
		bool is_there;
		uint8_t data[BLOCK_SIZE];
	} held[HELD];
	static uint8_t now[BLOCKS]; /* 0: a hole */
	unsigned right = 0, wrong = 0;
	(void)state;
	memset(now, 0, sizeof(now));
	for (uint64_t i = 0; i < STEPS; i++) {
		uint64_t random = hash_mix(i + 1), block = random % BLOCKS;
		unsigned h = (unsigned)(random >> 32) % HELD, kind = (unsigned)(random >> 40) % 32;
		if (kind < 10) {
			now[block] = (uint8_t)(1 + (random >> 48) % 3); /* often the same as it was, elsewhere */
			write_block(block, now[block]);
		} else if (kind == 10) {
			now[block] = 0;
			assert_int_equal(store_trim(front.store, block * BLOCK_SIZE, BLOCK_SIZE, false, NULL), 0);
		} else if (kind == 11) {
			assert_int_equal(store_flush(front.store, NULL), 0);
		} else if (kind < 14) {
			assert_true(store_step(front.store) >= 0);
		} else if (kind < 20) {
			uint64_t place;
			held[h].block = block;
			held[h].is_there = !store_volume_place(front.store, STORE_OWN_VOLUME, block * BLOCK_SIZE,
							       BLOCK_SIZE, &place);
			if (held[h].is_there)
				assert_int_equal(vdev_read(front.behind, place, held[h].data, BLOCK_SIZE), 0);
		} else if (held[h].is_there && !verify(held[h].block, 1, held[h].data)) {
			right++;
			assert_int_not_equal(now[held[h].block], 0);
			assert_int_equal(held[h].data[0], now[held[h].block]);
			assert_int_equal(held[h].data[BLOCK_SIZE - 1], now[held[h].block]);
		} else {
			wrong += held[h].is_there;
		}
	}
	struct store_stats stats;
	store_stats(front.store, &stats);
	assert_true(right > 1000 && wrong > 1000 && stats.counters.cleaned > 10);
	expect_whole();
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		STORE_TEST(parts_of_a_block_do_not_get_lost),
		STORE_TEST(a_long_trim_survives_a_crash),
		STORE_TEST(what_is_written_after_a_trim_stays),
		STORE_TEST(a_trim_across_a_border_zeroes_just_that),
		STORE_TEST(extents_are_what_is_mapped),
		STORE_TEST(what_is_not_as_closed_is_not_opened_so),
		STORE_TEST(every_block_written_is_counted),
		STORE_TEST(a_snapshot_that_goes_while_it_is_read_is_not_there),
		STORE_TEST(only_what_the_volume_has_is_verified),
		STORE_TEST(what_is_verified_late_is_what_the_volume_has_then),
	};
	return cmocka_run_group_tests_name("store_volume", tests, NULL, NULL);
}
