/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a pool image from a stranger. It may be refused or found damaged; it must not crash, hang or take
 * memory without bound.
 *
 * The input is a list of changes to a small valid image, which is made at the first call. A change alters a few
 * bytes of one structure, in all of its copies, and may seal it anew: then whatever carries its checksum
 * follows, up to the root, so that what lies behind the checksums is reached.
 */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "fuzz.h"
#include "pool/core.h"
#include "vdev/simdisk.h"

#define MB (UINT64_C(1) << 20)

enum { POOL_MB = 24, BLOCKS = POOL_MB * 256, LISTED_MAX = 1024, RESEALS_MAX = 60, READ_BLOCKS = 64,
		CHANGES_MAX = 8 };

struct listing { /* the structures of an image */
	uint32_t block[LISTED_MAX];
	unsigned count;
};

static struct simimage *base[2]; /* closed, and left by a crash */
static struct listing listed[2];
static uint64_t now_us;

static uint64_t fuzz_now_us(void *context)
{
	(void)context;
	return now_us += 1000;
}

static uint64_t fuzz_wall_s(void *context)
{
	(void)context;
	return 1700000000;
}

static const struct clock fuzz_clock = {fuzz_now_us, fuzz_wall_s, NULL};

/* -- the images to start from -- */

static void fill(struct lcpfs_pool *pool, const char *name)
{
	uint8_t bytes[16 * BLOCK_SIZE];
	struct lcpfs_partition_spec spec = {.name = name, .min_bytes = STORE_METASLABS_MIN * MB,
					    .max_bytes = (STORE_METASLABS_MIN + 2) * MB, .volume_bytes = 3 * MB};
	struct lcpfs_partition *partition;

	CHECK(!lcpfs_partition_add(pool, &spec, NULL));
	CHECK(!lcpfs_partition_open(pool, name, &partition, NULL));
	for (unsigned i = 0; i < 30; i++) {
		memset(bytes, (int)i + 1, sizeof(bytes));
		CHECK(!lcpfs_volume_write(partition, hash_mix(i) % 600 * BLOCK_SIZE, bytes, sizeof(bytes),
				i % 8 == 0, NULL));
	}
	CHECK(!lcpfs_volume_trim(partition, 100 * BLOCK_SIZE, 50 * BLOCK_SIZE, true, NULL));
	lcpfs_partition_close(partition);
}

static void list_structures(const struct simimage *image, struct listing *listing)
{
	struct fmt_head head;

	for (uint32_t b = 0; b < BLOCKS && listing->count < LISTED_MAX; b++) {
		simimage_read(image, (uint64_t)b * BLOCK_SIZE, &head, sizeof(head));
		if (le32_get(head.magic) == FMT_MAGIC)
			listing->block[listing->count++] = b;
	}
}

static void make_bases(void)
{
	struct simimage *empty = simimage_new(POOL_MB * MB);
	struct simdisk *disk = simdisk_new(empty, SIMDISK_DISCARD_ZEROS);
	struct lcpfs_create_options create = {0};
	struct lcpfs_open_options open = {.cache_bytes = MB};
	struct lcpfs_pool *pool;

	CHECK(!pool_create_vdev(simdisk_vdev(disk), &fuzz_clock, &create, 77, NULL));
	CHECK(!pool_open_vdev(simdisk_vdev(disk), &fuzz_clock, &open, &pool, NULL));
	fill(pool, "a");
	fill(pool, "b");
	base[1] = simimage_clone(simdisk_content(disk));
	CHECK(!lcpfs_pool_close(pool, NULL));
	base[0] = simimage_clone(simdisk_content(disk));
	simdisk_free(disk);
	simimage_free(empty);
	for (unsigned i = 0; i < 2; i++)
		list_structures(base[i], &listed[i]);
}

/* -- changing one -- */

static void read_block(const struct simimage *image, uint32_t block, void *bytes)
{
	simimage_read(image, (uint64_t)block * BLOCK_SIZE, bytes, BLOCK_SIZE);
}

static void write_block(struct simimage *image, uint32_t block, const void *bytes)
{
	simimage_write(image, (uint64_t)block * BLOCK_SIZE, bytes, BLOCK_SIZE);
}

static uint64_t reseal(uint8_t *block)
{
	struct fmt_head head;

	memcpy(&head, block, sizeof(head));
	fmt_seal(block, (enum fmt_kind)le16_get(head.kind), le64_get(head.guid), le32_get(head.partition),
		 le32_get(head.count));
	return fmt_checksum_of(block);
}

/* Replaces what refers to `from` by `to` in one block; false if nothing does. */
static bool redirect(uint8_t *block, uint64_t from, uint64_t to)
{
	bool any = false;

	for (unsigned i = sizeof(struct fmt_head); i < BLOCK_SIZE; i += 8) {
		if (memcmp(block + i, &from, 8) != 0)
			continue;
		memcpy(block + i, &to, 8);
		any = true;
	}
	return any;
}

/* All copies of a block get new content; what carried the old checksum follows, and so on. */
static void replace(struct simimage *image, const struct listing *l, uint64_t old, const uint8_t *with,
		unsigned *left)
{
	uint8_t block[BLOCK_SIZE];
	uint64_t new = fmt_checksum_of(with);

	for (unsigned i = 0; i < l->count; i++) {
		read_block(image, l->block[i], block);
		if (fmt_checksum_of(block) == old)
			write_block(image, l->block[i], with);
	}
	for (unsigned i = 0; i < l->count && *left && new != old; i++) {
		read_block(image, l->block[i], block);
		uint64_t before = fmt_checksum_of(block);

		if (!redirect(block, old, new))
			continue;
		--*left;
		reseal(block);
		replace(image, l, before, block, left);
	}
}

struct edit { /* of the input */
	uint8_t how, structure[2], at[2], length, value[6];
};

static void apply_edit(struct simimage *image, const struct listing *l, const struct edit *e)
{
	uint8_t block[BLOCK_SIZE];
	uint32_t target = l->block[(e->structure[0] | e->structure[1] << 8) % l->count];
	unsigned at = (e->at[0] | e->at[1] << 8) % BLOCK_SIZE, left = RESEALS_MAX;

	read_block(image, target, block);
	uint64_t old = fmt_checksum_of(block);
	for (unsigned i = 0; i < 1u + e->length % 8 && at + i < BLOCK_SIZE; i++)
		block[at + i] = e->how & 2 ? block[at + i] ^ e->value[i % 6] : e->value[i % 6];
	if (e->how & 1) {
		write_block(image, target, block);
		return;
	}
	reseal(block);
	replace(image, l, old, block, &left);
}

/* -- what is done with it -- */

static void use_partition(struct lcpfs_pool *pool, const char *name)
{
	uint8_t bytes[4 * BLOCK_SIZE];
	struct lcpfs_partition *partition;
	uint64_t end, volume;
	bool data;

	if (lcpfs_partition_open(pool, name, &partition, NULL))
		return;
	volume = lcpfs_volume_bytes(partition);
	for (unsigned i = 0; i < READ_BLOCKS; i++)
		(void)!lcpfs_volume_read(partition, hash_mix(i) % 700 * BLOCK_SIZE % volume, bytes, BLOCK_SIZE,
				NULL);
	(void)!lcpfs_volume_extent(partition, 0, MIN_OF(volume, MB), &data, &end);
	memset(bytes, 7, sizeof(bytes));
	for (unsigned i = 0; i < 4; i++)
		(void)!lcpfs_volume_write(partition, (uint64_t)i * 90 * BLOCK_SIZE, bytes, sizeof(bytes), i == 3,
				NULL);
	(void)!lcpfs_volume_trim(partition, 0, MB, true, NULL);
	lcpfs_partition_close(partition);
}

static void use_pool(struct vdev *vdev)
{
	struct lcpfs_open_options options = {.cache_bytes = MB};
	struct lcpfs_care care = {0};
	struct lcpfs_pool *pool;

	if (pool_open_vdev(vdev, &fuzz_clock, &options, &pool, NULL))
		return;
	use_partition(pool, "a");
	use_partition(pool, "b");
	(void)!lcpfs_partition_resize(pool, "a", STORE_METASLABS_MIN * MB + MB, NULL, NULL, NULL);
	for (unsigned i = 0; i < 3; i++) {
		now_us += 1000000;
		pool_tick(pool);
		pool_step(pool);
	}
	(void)!lcpfs_pool_scrub(pool, &care, NULL);
	(void)!lcpfs_partition_remove(pool, "b", NULL);
	(void)!lcpfs_pool_close(pool, NULL);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	struct lcpfs_care care = {.data = true};
	struct edit edit;

	if (!base[0])
		make_bases();
	if (length < 1)
		return 0;
	unsigned which = bytes[0] & 1, changes = 0;
	struct simimage *image = simimage_clone(base[which]);
	for (size_t at = 1; at + sizeof(edit) <= length && changes < CHANGES_MAX; at += sizeof(edit), changes++) {
		memcpy(&edit, bytes + at, sizeof(edit));
		apply_edit(image, &listed[which], &edit);
	}
	struct simdisk *disk = simdisk_new(image, SIMDISK_DISCARD_ZEROS);
	simimage_free(image);
	now_us = 1000000;
	(void)!pool_check_vdev(simdisk_vdev(disk), &fuzz_clock, &care, NULL);
	use_pool(simdisk_vdev(disk));
	use_pool(simdisk_vdev(disk)); /* what became of it */
	simdisk_free(disk);
	return 0;
}
