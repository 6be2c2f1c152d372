/* SPDX-License-Identifier: Apache-2.0 */
/* What tests of the pool share: a simulated disk, a clock that is set by hand, partitions with known contents. */
#ifndef UNIT_POOL_FIXTURE_H
#define UNIT_POOL_FIXTURE_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "pool/core.h"
#include "tests/disk/simdisk.h"

#define MB    (UINT64_C(1) << 20)
#define LEAST (6 * MB) /* of a partition, with metaslabs of 1 MiB */
_Static_assert(STORE_METASLABS_MIN == 6, "what the tests reckon with");
#define POOL_GUID UINT64_C(0x600dcafe)

struct fixture {
	struct simdisk *disk;
	struct vdev *vdev;
	struct clock clock;
	uint64_t now_us;
	struct lcpfs_pool *pool;
	struct lcpfs_failure failure;
};

static inline uint64_t fixture_now_us(void *context)
{
	return ((struct fixture *)context)->now_us;
}

static inline uint64_t fixture_wall_s(void *context)
{
	return 1700000000 + ((struct fixture *)context)->now_us / 1000000;
}

static inline void fixture_init(struct fixture *f, const struct simimage *image)
{
	memset(f, 0, sizeof(*f));
	f->disk = simdisk_new(image, SIMDISK_DISCARD_GARBAGE);
	f->vdev = simdisk_vdev(f->disk);
	f->now_us = 1000000;
	f->clock = (struct clock){fixture_now_us, fixture_wall_s, f};
}

static inline void fixture_done(struct fixture *f)
{
	pool_abandon(f->pool);
	simdisk_free(f->disk);
	memset(f, 0, sizeof(*f));
}

static inline int fixture_open(struct fixture *f, bool read_only)
{
	struct lcpfs_open_options options = {.read_only = read_only, .cache_bytes = 4 * MB};
	memset(&f->failure, 0, sizeof(f->failure));
	return pool_open_vdev(f->vdev, &f->clock, &options, &f->pool, &f->failure);
}

static inline int fixture_close(struct fixture *f)
{
	struct lcpfs_pool *pool = f->pool;
	f->pool = NULL;
	return lcpfs_pool_close(pool, &f->failure);
}

/* A new pool of that size, open. */
static inline void fixture_new(struct fixture *f, uint64_t bytes)
{
	struct simimage *image = simimage_new(bytes);
	struct lcpfs_create_options options = {0};
	fixture_init(f, image);
	simimage_free(image);
	assert_int_equal(pool_create_vdev(f->vdev, &f->clock, &options, POOL_GUID, &f->failure), 0);
	assert_int_equal(fixture_open(f, false), 0);
}

static inline int fixture_add(struct fixture *f, const char *name, uint64_t min, uint64_t size, uint64_t max)
{
	struct lcpfs_partition_spec spec = {
		.thin = true,
		.name = name,
		.min_bytes = min,
		.size_bytes = size,
		.max_bytes = max,
	};
	memset(&f->failure, 0, sizeof(f->failure));
	return pool_add_of_space(f->pool, &spec, &f->failure);
}

static inline int fixture_resize(struct fixture *f, const char *name, uint64_t bytes)
{
	memset(&f->failure, 0, sizeof(f->failure));
	return pool_resize_to_space(f->pool, name, bytes, NULL, NULL, &f->failure);
}

static inline struct lcpfs_partition_info fixture_info(struct fixture *f, const char *name)
{
	struct lcpfs_partition_info info;
	assert_int_equal(lcpfs_partition_get_info(f->pool, name, &info, NULL), 0);
	return info;
}

static inline uint64_t fixture_size(struct fixture *f, const char *name)
{
	return fixture_info(f, name).size_blocks * BLOCK_SIZE;
}

static inline uint64_t fixture_free(struct fixture *f)
{
	struct lcpfs_pool_info info;
	assert_int_equal(lcpfs_pool_get_info(f->pool, &info), 0);
	return info.free_blocks * BLOCK_SIZE;
}

/* Block `block` of generation `generation` of a partition: content that names itself. */
static inline void fixture_pattern(uint64_t block, uint64_t generation, uint8_t *bytes)
{
	uint64_t word = hash_mix(block * 1000003 + generation * 7);
	for (unsigned i = 0; i < BLOCK_SIZE; i += 8, word++)
		memcpy(bytes + i, &word, 8);
}

static inline int fixture_write(struct fixture *f, const char *name, uint64_t first, uint64_t count,
				uint64_t generation)
{
	struct lcpfs_partition *partition;
	uint8_t bytes[BLOCK_SIZE];
	int error = lcpfs_partition_open(f->pool, name, &partition, &f->failure);
	for (uint64_t i = first; i < first + count && !error; i++) {
		fixture_pattern(i, generation, bytes);
		error = lcpfs_volume_write(partition, i * BLOCK_SIZE, bytes, BLOCK_SIZE, false, &f->failure);
	}
	if (!error)
		error = lcpfs_volume_flush(partition, &f->failure);
	lcpfs_partition_close(partition);
	return error;
}

static inline void fixture_expect(struct fixture *f, const char *name, uint64_t first, uint64_t count,
				  uint64_t generation)
{
	struct lcpfs_partition *partition;
	uint8_t wanted[BLOCK_SIZE], got[BLOCK_SIZE];
	assert_int_equal(lcpfs_partition_open(f->pool, name, &partition, &f->failure), 0);
	for (uint64_t i = first; i < first + count; i++) {
		fixture_pattern(i, generation, wanted);
		if (lcpfs_volume_read(partition, i * BLOCK_SIZE, got, BLOCK_SIZE, &f->failure))
			fail_msg("block %lu: %s", (unsigned long)i, f->failure.message);
		if (memcmp(wanted, got, BLOCK_SIZE))
			assert_memory_equal(wanted, got, BLOCK_SIZE); /* says where; byte by byte */
	}
	lcpfs_partition_close(partition);
}

static inline void fixture_print(void *context, const struct lcpfs_finding *finding)
{
	(void)context;
	print_message("# found: %s: %s, block %ld\n", finding->partition, finding->text, (long)finding->block);
}

/* How much damage check finds; prints it where none is expected. */
static inline uint64_t fixture_check(struct fixture *f, bool print)
{
	struct lcpfs_care care = {.data = true, .found = print ? fixture_print : NULL};
	int error = pool_check_vdev(f->vdev, &f->clock, &care, &f->failure);
	if (error)
		fail_msg("check did not run: %s", f->failure.message);
	return care.damaged;
}

/* What the map says a partition owns its store uses. */
static inline void fixture_books_agree(struct fixture *f)
{
	for (uint32_t slot = 0; slot < f->pool->layout.partition_slots; slot++) {
		const struct part *part = f->pool->parts[slot];
		struct store_stats stats;
		if (!part || !part->store)
			continue;
		store_stats(part->store, &stats);
		assert_int_equal(stats.metaslabs, part->metaslabs);
		assert_int_equal(part->releasing, 0);
		assert_int_equal(part->incoming, 0);
		assert_int_equal(part->unreported, 0);
		assert_int_equal(part->users, part->clients);
	}
}

/* Invariant 2 as the API shows it. */
static inline void fixture_invariants(struct fixture *f)
{
	struct lcpfs_partition_info list[8];
	struct lcpfs_pool_info info;
	uint64_t sum, min_sum = 0;
	size_t count;
	assert_int_equal(lcpfs_pool_get_info(f->pool, &info), 0);
	assert_int_equal(lcpfs_pool_list(f->pool, list, 8, &count), 0);
	sum = info.free_blocks;
	for (size_t i = 0; i < count; i++) {
		sum += list[i].size_blocks;
		min_sum += list[i].min_size_blocks;
		assert_true(list[i].min_size_blocks <= list[i].size_blocks);
		assert_true(list[i].size_blocks <= list[i].max_size_blocks);
		assert_true(list[i].live_blocks <= list[i].size_blocks);
		assert_false(list[i].faulted);
	}
	assert_true(sum == info.size_blocks);
	assert_true(min_sum <= info.size_blocks);
	assert_int_equal(info.health, LCPFS_HEALTH_ONLINE);
	fixture_books_agree(f);
}

static inline void fixture_rounds(struct fixture *f, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		f->now_us += 1000000;
		pool_tick(f->pool);
	}
}

#endif
