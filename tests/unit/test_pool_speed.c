/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a look of the keeper costs: measuring 256 partitions that are written to, and deciding. It is printed and
 * not judged: how long it takes is the machine's. Looks are a second apart, so 5 ms are half a per cent of a
 * processor; see meson test --benchmark pool_speed -v.
 */
#include <time.h>

#include "pool_fixture.h"
#include "pool/pool.h"

enum { PARTITIONS = 256, ROUNDS = 60, WRITTEN = 4 /* of 256 partitions, in each round */ };

static double cpu_us(void)
{
	struct timespec t;
	clock_gettime(CLOCK_THREAD_CPUTIME_ID, &t);
	return (double)t.tv_sec * 1e6 + (double)t.tv_nsec / 1e3;
}

static int ascending(const void *a, const void *b)
{
	double x = *(const double *)a, y = *(const double *)b;
	return (x > y) - (x < y);
}

static void name_of(char room[16], unsigned i)
{
	snprintf(room, 16, "p%u", i % PARTITIONS);
}

static void a_look_at_256_partitions_is_measured(void **state)
{
	struct fixture f;
	double taken[ROUNDS];
	char name[16];
	(void)state;
	/* an eighth as many partitions as metaslabs */
	fixture_new(&f, (PARTITIONS * 8 + 128) * MB);
	for (unsigned i = 0; i < PARTITIONS; i++) {
		name_of(name, i);
		assert_int_equal(fixture_add(&f, name, LEAST, LEAST, 512 * MB), 0);
		assert_int_equal(fixture_write(&f, name, 0, 16, 1), 0);
	}
	assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, &f.failure), 0);
	for (unsigned round = 0; round < ROUNDS; round++) {
		for (unsigned i = 0; i < WRITTEN; i++) {
			name_of(name, round * WRITTEN + i);
			assert_int_equal(fixture_write(&f, name, i, 8, round), 0);
		}
		f.now_us += 1000000;
		double begin = cpu_us();
		pool_tick(f.pool);
		taken[round] = cpu_us() - begin;
	}
	qsort(taken, ROUNDS, sizeof(taken[0]), ascending);
	print_message("# a look at 256 partitions: median %.0f us, largest %.0f us; 5000 us are half a per cent\n",
		      taken[ROUNDS / 2], taken[ROUNDS - 1]);
	fixture_done(&f);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(a_look_at_256_partitions_is_measured),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
