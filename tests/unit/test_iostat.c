/* SPDX-License-Identifier: Apache-2.0 */
/* What is counted of operations, and the buckets of their latencies, with the clock in the test's hands. */
#include "pool_fixture.h"

#include "pool/iostat.h"

static void buckets_cover_all_latencies_without_gaps(void **state)
{
	struct lcpfs_operation_stats stats[LCPFS_OPERATIONS];
	(void)state;
	for (unsigned i = 0; i + 1 < LCPFS_LATENCY_BUCKETS; i++) {
		struct iostat io = {0};
		uint64_t low = lcpfs_latency_bucket_us(i), high = lcpfs_latency_bucket_us(i + 1);
		assert_true(low < high);
		assert_true(low < 16 ? high == low + 1 : (high - low) * 8 <= low);
		iostat_count(&io, LCPFS_READ, low, 0, 0);
		iostat_count(&io, LCPFS_READ, high - 1, 0, 0);
		iostat_read(&io, stats);
		assert_int_equal(stats[LCPFS_READ].latency[i], 2);
		assert_int_equal(stats[LCPFS_READ].ops, 2);
	}
}

static void the_longest_latency_is_in_the_last_bucket(void **state)
{
	struct lcpfs_operation_stats stats[LCPFS_OPERATIONS];
	struct iostat io = {0};
	(void)state;
	iostat_count(&io, LCPFS_FLUSH, UINT64_MAX, 0, 0);
	iostat_read(&io, stats);
	assert_int_equal(stats[LCPFS_FLUSH].latency[LCPFS_LATENCY_BUCKETS - 1], 1);
}

static void failed_ones_are_errors_and_have_no_latency(void **state)
{
	struct lcpfs_operation_stats stats[LCPFS_OPERATIONS];
	struct iostat io = {0};
	(void)state;
	iostat_count(&io, LCPFS_WRITE, 5, 4096, -LCPFS_E_IO);
	iostat_count(&io, LCPFS_WRITE, 5, 4096, -LCPFS_E_NOSPC);
	iostat_count(&io, LCPFS_WRITE, 5, 4096, -LCPFS_E_DEVICE_FULL);
	iostat_read(&io, stats);
	assert_int_equal(stats[LCPFS_WRITE].ops, 0);
	assert_int_equal(stats[LCPFS_WRITE].bytes, 0);
	assert_int_equal(stats[LCPFS_WRITE].errors, 3);
	assert_int_equal(stats[LCPFS_WRITE].no_space, 2);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(buckets_cover_all_latencies_without_gaps),
		cmocka_unit_test(the_longest_latency_is_in_the_last_bucket),
		cmocka_unit_test(failed_ones_are_errors_and_have_no_latency),
	};
	return cmocka_run_group_tests_name("iostat", tests, NULL, NULL);
}
