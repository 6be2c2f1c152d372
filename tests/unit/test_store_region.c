/* SPDX-License-Identifier: Apache-2.0 */
/* Ids and the regions of the block table that they are in: what a step of a checkpoint writes, and as of when. */
#include "store/checkpoint.h"
#include "store/ids.h"
#include "store/table.h"
#include "store_front.h"

/* The next ids are these. */
static void next_ids(uint64_t first, uint64_t count)
{
	struct ids *ids = &front.store->ids;
	ids->run[0].first = first;
	ids->run[0].count = count;
	ids->runs = 1;
	ids->end = MAX_OF(ids->end, first + count);
}

/* -- ids and pages -- */

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

int main(void)
{
	static const struct CMUnitTest tests[] = {
		STORE_TEST(an_id_that_came_into_use_is_not_given_out),
		STORE_TEST(a_region_that_was_not_written_is_as_old_as_before),
		STORE_TEST(a_region_with_a_page_to_write_is_not_settled),
		STORE_TEST(a_checkpoint_is_of_one_moment),
		cmocka_unit_test(a_page_that_went_is_not_found),
		cmocka_unit_test(merged_regions_are_as_old_as_the_older),
	};
	return cmocka_run_group_tests_name("store_region", tests, NULL, NULL);
}
