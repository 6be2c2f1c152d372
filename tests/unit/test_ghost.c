/* SPDX-License-Identifier: Apache-2.0 */
/* What is remembered of blocks that were read lately. */
#include <malloc.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>

#include <cmocka.h>

#include "vdev/ghost.h"

enum { BYTES = 64 << 10, BLOCKS = BYTES / 2 };

static void the_second_time_is_told_from_the_first(void **state)
{
	struct ghosts *ghosts = ghosts_new(BYTES);
	(void)state;
	for (uint64_t block = 0; block < 100; block++) {
		assert_false(ghosts_meet(ghosts, block));
		assert_true(ghosts_meet(ghosts, block));
		assert_false(ghosts_meet(ghosts, block)); /* it went into the cache, and has left it again */
	}
	ghosts_free(ghosts);
	ghosts_free(NULL);
}

/* Of half as many as there is room for most are remembered; of what was before many others hardly any. */
static void it_forgets_what_is_long_ago(void **state)
{
	struct ghosts *ghosts = ghosts_new(BYTES);
	unsigned met = 0, recent = 0, old = 0;
	(void)state;
	assert_in_range(malloc_usable_size(ghosts), BYTES, BYTES + 64);
	for (uint64_t block = 0; block < 8 * BLOCKS; block++)
		met += ghosts_meet(ghosts, block);
	for (uint64_t block = 8 * BLOCKS - BLOCKS / 2; block < 8 * BLOCKS; block++)
		recent += ghosts_meet(ghosts, block);
	for (uint64_t block = 0; block < BLOCKS; block++)
		old += ghosts_meet(ghosts, block);
	assert_true(met < 8 * BLOCKS / 4096);
	assert_true(recent > BLOCKS / 2 * 8 / 10);
	assert_true(old < BLOCKS / 1024);
	ghosts_free(ghosts);
}

static void the_least_memory_will_do(void **state)
{
	struct ghosts *ghosts = ghosts_new(0);
	(void)state;
	assert_false(ghosts_meet(ghosts, 1));
	assert_true(ghosts_meet(ghosts, 1));
	ghosts_free(ghosts);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(the_second_time_is_told_from_the_first),
		cmocka_unit_test(it_forgets_what_is_long_ago),
		cmocka_unit_test(the_least_memory_will_do),
	};
	return cmocka_run_group_tests_name("ghost", tests, NULL, NULL);
}
