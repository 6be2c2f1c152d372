/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store of store_metaslabs_for(n) metaslabs holds n blocks, whatever was done to it before, and a volume grows
 * with all that is in it, crash or no crash.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/hash.h"
#include "format/format.h"
#include "store/store.h"
#include "tests/disk/memory.h"

enum { BASE = 16, METASLAB_BLOCKS = 256, CACHE_BYTES = 2 << 20 };

static uint64_t no_time(void *context)
{
	(void)context;
	return 0;
}

static const struct clock clock_still = {.now_us = no_time, .wall_s = no_time};

/* A store, its device, and what each block of it should hold: 0 for zeros. */
struct bed {
	struct vdev *vdev;
	struct store *store;
	uint32_t metaslabs;
	uint64_t blocks, random;
	uint32_t *content;
};

static struct store_config config_of(const struct bed *b)
{
	return (struct store_config){
		.vdev = b->vdev,
		.clock = &clock_still,
		.guid = 1,
		.partition = 1,
		.name = "length",
		.metaslab_base = BASE,
		.metaslab_blocks = METASLAB_BLOCKS,
		.metaslab_count = b->metaslabs,
		.root_block = {{1, 2}, {3, 4}},
		.cache_bytes = CACHE_BYTES,
	};
}

static uint64_t below(struct bed *b, uint64_t limit)
{
	b->random = hash_mix(b->random + 1);
	return b->random % limit;
}

static uint32_t *all_metaslabs(const struct bed *b)
{
	uint32_t *list = calloc(b->metaslabs, sizeof(*list));
	assert_non_null(list);
	for (uint32_t i = 0; i < b->metaslabs; i++)
		list[i] = i;
	return list;
}

static void open_bed(struct bed *b)
{
	struct store_config config = config_of(b);
	uint32_t *metaslabs = all_metaslabs(b);
	struct lcpfs_failure failure;
	assert_int_equal(store_open(&config, metaslabs, b->metaslabs, &b->store, &failure), 0);
	free(metaslabs);
}

static void new_bed(struct bed *b, uint64_t blocks, uint32_t metaslabs, uint64_t seed)
{
	*b = (struct bed){.metaslabs = metaslabs, .blocks = blocks, .random = seed};
	b->vdev = vdev_memory_new((uint64_t)(BASE + metaslabs * METASLAB_BLOCKS) << BLOCK_SHIFT);
	b->content = calloc(blocks, sizeof(*b->content));
	assert_non_null(b->content);
	struct store_config config = config_of(b);
	uint32_t *list = all_metaslabs(b);
	assert_int_equal(store_format(&config, blocks, list, metaslabs), 0);
	free(list);
	open_bed(b);
}

static void free_bed(struct bed *b)
{
	assert_int_equal(store_close(b->store), 0);
	vdev_close(b->vdev);
	free(b->content);
}

static void write_at(struct bed *b, uint64_t block)
{
	uint32_t data[BLOCK_SIZE / 4] = {0};
	data[0] = data[1023] = b->content[block] = (uint32_t)below(b, UINT32_MAX - 1) + 1;
	assert_int_equal(store_write(b->store, block << BLOCK_SHIFT, data, sizeof(data), below(b, 64) == 0, NULL),
			 0);
}

static void trim_at(struct bed *b, uint64_t block, uint64_t count)
{
	count = MIN_OF(count, b->blocks - block);
	memset(b->content + block, 0, count * sizeof(*b->content));
	assert_int_equal(store_trim(b->store, block << BLOCK_SHIFT, count << BLOCK_SHIFT, false, NULL), 0);
}

static void do_something(struct bed *b)
{
	switch (below(b, 16)) {
	case 0:
		trim_at(b, below(b, b->blocks), below(b, 40) + 1);
		break;
	case 1:
		while (store_step(b->store) > 0)
			;
		break;
	default:
		write_at(b, below(b, b->blocks));
	}
}

static void compare(struct bed *b)
{
	uint32_t data[BLOCK_SIZE / 4];
	for (uint64_t block = 0; block < b->blocks; block++) {
		assert_int_equal(store_read(b->store, block << BLOCK_SHIFT, data, sizeof(data), NULL), 0);
		assert_int_equal(data[0], b->content[block]);
		assert_int_equal(data[1023], b->content[block]);
	}
}

/* Some disorder first, then what is not there yet, up and down, then overwriting all of it. */
static void fill(uint64_t blocks, uint64_t seed)
{
	struct store_config config = {.metaslab_blocks = METASLAB_BLOCKS};
	struct bed b;
	new_bed(&b, blocks, store_metaslabs_for(&config, blocks), seed);
	for (uint64_t i = below(&b, 3 * blocks); i > 0; i--)
		do_something(&b);
	for (uint64_t i = 0; i < blocks; i++) {
		uint64_t block = seed % 2 ? i : blocks - 1 - i;
		if (!b.content[block])
			write_at(&b, block);
	}
	for (uint64_t i = below(&b, blocks); i > 0; i--)
		write_at(&b, below(&b, blocks));
	assert_int_equal(store_flush(b.store, NULL), 0);
	compare(&b);
	store_abandon(b.store); /* it opens as full as it is, too */
	open_bed(&b);
	write_at(&b, 0);
	compare(&b);
	free_bed(&b);
}

static void what_it_is_said_to_hold_fits(void **state)
{
	static const uint64_t sizes[] = {1, 200, 1024, 1337, 2560, 4096};
	(void)state;
	for (unsigned i = 0; i < ARRAY_LENGTH(sizes); i++) {
		for (uint64_t seed = 0; seed < 5; seed++)
			fill(sizes[i], 100 * i + seed);
	}
}

static void more_data_never_need_fewer_metaslabs(void **state)
{
	struct store_config config = {.metaslab_blocks = METASLAB_BLOCKS};
	uint32_t last = STORE_METASLABS_MIN;
	(void)state;
	for (uint64_t blocks = 1; blocks < UINT64_C(1) << 41; blocks += blocks / 7 + 1) {
		uint32_t now = store_metaslabs_for(&config, blocks);
		assert_true(now >= last);
		assert_true((uint64_t)now * METASLAB_BLOCKS > blocks || now == UINT32_MAX);
		assert_true(blocks < 100000 || now < blocks * 112 / 100 / METASLAB_BLOCKS);
		last = now;
	}
}

static void grow_to(struct bed *b, uint64_t blocks)
{
	b->content = realloc(b->content, blocks * sizeof(*b->content));
	assert_non_null(b->content);
	memset(b->content + b->blocks, 0, (blocks - b->blocks) * sizeof(*b->content));
	b->blocks = blocks;
	assert_int_equal(store_grow_volume(b->store, blocks), 0);
	assert_int_equal(store_volume_blocks(b->store), blocks);
}

/* Over all numbers of levels that trees of that size have, each time with changes that no checkpoint has yet. */
static void a_volume_grows_with_what_is_in_it(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 25; seed++) {
		struct bed b;
		new_bed(&b, 1 + hash_mix(seed) % 600, 80, seed);
		while (b.blocks < 200000) {
			for (uint64_t i = below(&b, 300); i > 0; i--)
				do_something(&b);
			grow_to(&b, b.blocks + 1 + below(&b, b.blocks * 20));
			if (below(&b, 2))
				write_at(&b, b.blocks - 1);
			if (below(&b, 3))
				continue;
			if (below(&b, 2)) {
				assert_int_equal(store_flush(b.store, NULL), 0);
				store_abandon(b.store);
			} else {
				assert_int_equal(store_close(b.store), 0);
			}
			open_bed(&b);
			assert_int_equal(store_volume_blocks(b.store), b.blocks);
		}
		compare(&b);
		free_bed(&b);
	}
}

static void a_volume_does_not_get_shorter(void **state)
{
	struct bed b;
	(void)state;
	new_bed(&b, 1000, 20, 1);
	write_at(&b, 999);
	assert_int_equal(store_grow_volume(b.store, 10), 0);
	assert_int_equal(store_volume_blocks(b.store), 1000);
	compare(&b);
	free_bed(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_it_is_said_to_hold_fits),
		cmocka_unit_test(more_data_never_need_fewer_metaslabs),
		cmocka_unit_test(a_volume_grows_with_what_is_in_it),
		cmocka_unit_test(a_volume_does_not_get_shorter),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
