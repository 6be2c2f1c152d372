/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each image is made once, by the pool itself. Its structures are then listed by kind, those that are copies of each
 * other as one group, and for each group it is noted where its checksum stands: so that sealing anew what an edit
 * changed follows a list instead of searching the image.
 */
#include "images.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "overlay.h"
#include "pool/core.h"

enum { POOL_MIB = 30, ROOM_MIB = 36, BLOCKS = POOL_MIB * 256, RESEALS_MAX = 100 };

struct place { /* where a checksum stands: in a group's content */
	uint32_t group, at;
};

struct group { /* blocks of the same content */
	uint32_t first, count; /* of image.block */
	struct place *carriers;
	uint32_t carrier_count;
};

struct image {
	uint8_t *bytes;
	uint32_t *block; /* of structures, sorted by kind and checksum */
	uint32_t block_count;
	struct group *groups;
	uint32_t group_count;
	uint32_t kind_begin[FMT_KIND_END + 1]; /* the kind's first group; the next kind's is its end */
};

static struct image images[4];
static const struct image *image; /* the current one */
static struct overlay *disk;
static uint64_t now_us;

/* -- time -- */

uint64_t images_now_us(void *context)
{
	(void)context;
	return now_us += 1000;
}

uint64_t images_wall_s(void *context)
{
	(void)context;
	return 1700000000 + now_us / 1000000;
}

void images_pass_us(uint64_t us)
{
	now_us += us;
}

static const struct clock fuzz_clock = {images_now_us, images_wall_s, NULL};

/* -- making them -- */

enum { SMALL_BLOCKS = 3 * 256, SPARSE_BLOCKS = 400 * 256, WRITES = 12, WRITE_BLOCKS = 8 };

/* The sparse volume's trees have three levels, the small one's two. */
uint64_t images_written(const char *partition, unsigned i)
{
	i %= WRITES;
	if (*partition == 'b')
		return (uint64_t)(i % 4) * (SPARSE_BLOCKS / 4) + i * 2 * WRITE_BLOCKS;
	return hash_mix(i) % (SMALL_BLOCKS - WRITE_BLOCKS);
}

static void add(struct lcpfs_pool *pool, const char *name, unsigned min_mib, uint64_t volume_blocks)
{
	struct lcpfs_partition_spec spec = {.thin = true, .name = name,
					    .min_bytes = min_mib * MIB,
					    .max_bytes = (min_mib + 4) * MIB,
					    .volume_bytes = volume_blocks * BLOCK_SIZE};

	CHECK(!pool_add_of_space(pool, &spec, NULL));
}

static void fill(struct lcpfs_pool *pool, const char *name, unsigned rounds)
{
	uint8_t bytes[WRITE_BLOCKS * BLOCK_SIZE];
	struct lcpfs_partition *partition;

	CHECK(!lcpfs_partition_open(pool, name, &partition, NULL));
	for (unsigned i = 0; i < rounds * WRITES; i++) {
		memset(bytes, (int)i + 1, sizeof(bytes));
		CHECK(!lcpfs_volume_write(partition, images_written(name, i) * BLOCK_SIZE, bytes, sizeof(bytes),
					  i % 4 == 0, NULL));
		if (i % WRITES == WRITES - 1 && i / WRITES % 8 == 7)
			pool_step(pool);
	}
	CHECK(!lcpfs_volume_trim(partition, images_written(name, 1) * BLOCK_SIZE, 5 * BLOCK_SIZE, true, NULL));
	lcpfs_partition_close(partition);
}

/* Every block of the small volume, over and over, here and there: some are old when their metaslab is cleaned. */
static void wear(struct lcpfs_pool *pool, const char *name, unsigned from, unsigned to)
{
	uint8_t bytes[BLOCK_SIZE];
	struct lcpfs_partition *partition;

	CHECK(!lcpfs_partition_open(pool, name, &partition, NULL));
	for (unsigned i = from; i < to; i++) {
		uint64_t block = i < SMALL_BLOCKS ? i : hash_mix(i) % SMALL_BLOCKS;

		memset(bytes, (int)i, sizeof(bytes));
		CHECK(!lcpfs_volume_write(partition, block * BLOCK_SIZE, bytes, sizeof(bytes), i % 64 == 0, NULL));
		if (i % 8 == 0)
			pool_step(pool);
	}
	lcpfs_partition_close(partition);
}

/* A life with everything in it: cleaning, boundary moves, a partition that came and went, events. */
static void live(struct lcpfs_pool *pool)
{
	add(pool, "c", 6, SMALL_BLOCKS);
	fill(pool, "c", 1);
	CHECK(!lcpfs_partition_remove(pool, "c", NULL));
	CHECK(!lcpfs_pool_set_lease(pool, "control", "nbd"));
	CHECK(!lcpfs_pool_set_tune(pool, LCPFS_ENGINE_ON, NULL));
	for (unsigned i = 0; i < 4; i++) {
		wear(pool, "a", i * 1000, i * 1000 + 1000);
		fill(pool, "b", 10);
		now_us += 2000000;
		pool_tick(pool);
	}
	CHECK(!pool_resize_to_space(pool, "a", 10 * MIB, NULL, NULL, NULL));
	fill(pool, "a", 1);
	CHECK(!pool_resize_to_space(pool, "a", 9 * MIB, NULL, NULL, NULL));
	wear(pool, "a", 5000, 5080);
}

static void list_structures(struct image *made);

/* As creating does it, but with few pages: each opening reads them all. */
static void create_pool(struct vdev *vdev)
{
	struct layout l = {
		.guid = 77,
		.device_blocks = BLOCKS,
		.area_blocks = 256,
		.metaslab_base = 256,
		.metaslab_blocks = 256,
		.metaslab_count = POOL_MIB - 2,
		.partition_slots = 4,
		.map_pages = 1,
		.engine_pages = 4,
		.history_pages = 4,
	};
	struct fmt_uberblock u = {.txg = le64_of(1), .partition_next = le32_of(1)};
	struct fmt_label label;

	u.page_count = le32_of(layout_page_count(&l));
	fmt_seal(&u, FMT_UBERBLOCK, l.guid, 0, 0);
	layout_to_label(&l, &label);
	for (unsigned copy = 0; copy < COPIES; copy++) {
		for (uint32_t p = 0; p < layout_page_count(&l); p++) {
			uint8_t block[BLOCK_SIZE] = {0};
			struct fmt_pool_page *page = (struct fmt_pool_page *)block;

			page->txg = le64_of(1);
			page->page = le32_of(p);
			fmt_seal(page, layout_page_kind(&l, p), l.guid, 0, p ? 0 : l.metaslab_count);
			CHECK(!vdev_write(vdev, layout_page_block(&l, copy, p, 0) * BLOCK_SIZE, page, BLOCK_SIZE));
		}
		CHECK(!vdev_write(vdev, layout_area_block(&l, copy, AREA_UBERBLOCKS + 1) * BLOCK_SIZE, &u,
				  BLOCK_SIZE));
		CHECK(!vdev_write(vdev, layout_area_block(&l, copy, AREA_LABEL) * BLOCK_SIZE, &label,
				  BLOCK_SIZE));
	}
}

/* 0: closed; 1: left by a crash; 2: left by one after a longer life; 3: without partitions. */
static void make(unsigned which)
{
	struct lcpfs_open_options open = {.cache_bytes = MIB};
	struct lcpfs_pool *pool;
	struct vdev *vdev = &disk->vdev;

	vdev->size_bytes = POOL_MIB * MIB;
	create_pool(vdev);
	CHECK(!pool_open_vdev(vdev, &fuzz_clock, &open, &pool, NULL));
	if (which != 3) {
		add(pool, "a", 6, SMALL_BLOCKS);
		add(pool, "b", 13, SPARSE_BLOCKS);
		fill(pool, "a", 1);
		fill(pool, "b", 1);
	}
	if (which == 2)
		live(pool);
	if (which == 1 || which == 2)
		pool_abandon(pool);
	else
		CHECK(!lcpfs_pool_close(pool, NULL));
	images[which].bytes = overlay_copy(disk);
	list_structures(&images[which]);
	overlay_reset(disk, disk->zeros, disk->room_bytes);
}

/* -- listing -- */

static unsigned kind_of(const uint8_t *block)
{
	return le16_get(((const struct fmt_head *)block)->kind);
}

static const uint8_t *block_of(const struct image *of, uint32_t i)
{
	return of->bytes + (size_t)of->block[i] * BLOCK_SIZE;
}

static const struct image *sorting;

static int by_kind_and_sum(const void *a, const void *b)
{
	const uint8_t *x = sorting->bytes + (size_t)*(const uint32_t *)a * BLOCK_SIZE;
	const uint8_t *y = sorting->bytes + (size_t)*(const uint32_t *)b * BLOCK_SIZE;
	uint64_t sum_x = fmt_checksum_of(x), sum_y = fmt_checksum_of(y);

	if (kind_of(x) != kind_of(y))
		return kind_of(x) < kind_of(y) ? -1 : 1;
	return (sum_x > sum_y) - (sum_x < sum_y);
}

static void find_blocks(struct image *of)
{
	of->block = calloc(BLOCKS, sizeof(*of->block));
	CHECK(of->block);
	for (uint32_t b = 0; b < BLOCKS; b++) {
		const struct fmt_head *head = (const struct fmt_head *)(of->bytes + (size_t)b * BLOCK_SIZE);

		if (le32_get(head->magic) == FMT_MAGIC && le16_get(head->kind) < FMT_KIND_END)
			of->block[of->block_count++] = b;
	}
	sorting = of;
	qsort(of->block, of->block_count, sizeof(*of->block), by_kind_and_sum);
}

static void find_groups(struct image *of)
{
	of->groups = calloc(of->block_count + 1, sizeof(*of->groups));
	CHECK(of->groups);
	for (uint32_t i = 0; i < of->block_count; i++) {
		struct group *last = of->groups + of->group_count - (of->group_count > 0);
		unsigned kind = kind_of(block_of(of, i));

		if (of->group_count && !by_kind_and_sum(&of->block[last->first], &of->block[i])) {
			last->count++;
			continue;
		}
		of->groups[of->group_count++] = (struct group){.first = i, .count = 1};
		for (unsigned k = kind + 1; k <= FMT_KIND_END; k++)
			of->kind_begin[k] = of->group_count;
	}
}

static const uint8_t *content_of(const struct image *of, uint32_t group)
{
	return block_of(of, of->groups[group].first);
}

struct sum {
	uint64_t sum;
	uint32_t group;
};

static int by_sum(const void *a, const void *b)
{
	uint64_t x = ((const struct sum *)a)->sum, y = ((const struct sum *)b)->sum;

	return (x > y) - (x < y);
}

static void add_carrier(struct group *of, uint32_t group, uint32_t at)
{
	of->carriers = realloc(of->carriers, (of->carrier_count + 1) * sizeof(*of->carriers));
	CHECK(of->carriers);
	of->carriers[of->carrier_count++] = (struct place){group, at};
}

static void find_carriers(struct image *of)
{
	struct sum *sums = calloc(of->group_count + 1, sizeof(*sums)), *found;

	CHECK(sums);
	for (uint32_t g = 0; g < of->group_count; g++)
		sums[g] = (struct sum){fmt_checksum_of(content_of(of, g)), g};
	qsort(sums, of->group_count, sizeof(*sums), by_sum);
	for (uint32_t g = 0; g < of->group_count; g++) {
		for (uint32_t at = sizeof(struct fmt_head); at < BLOCK_SIZE; at += 8) {
			struct sum word = {0};

			memcpy(&word.sum, content_of(of, g) + at, 8);
			found = word.sum ? bsearch(&word, sums, of->group_count, sizeof(*sums), by_sum) : NULL;
			if (found)
				add_carrier(&of->groups[found->group], g, at);
		}
	}
	free(sums);
}

static void list_structures(struct image *made)
{
	find_blocks(made);
	find_groups(made);
	find_carriers(made);
}

/* -- changing one -- */

struct vdev *images_start(unsigned which)
{
	if (!disk) {
		disk = overlay_new(ROOM_MIB * MIB);
		for (unsigned i = 0; i < ARRAY_LENGTH(images); i++)
			make(i);
	}
	image = &images[which % ARRAY_LENGTH(images)];
	overlay_reset(disk, image->bytes, POOL_MIB * MIB);
	now_us = 1000000;
	return &disk->vdev;
}

/* As fmt_seal, but version and kind stay what an edit made of them. */
static void reseal(uint8_t *block)
{
	struct fmt_head *head = (struct fmt_head *)block;

	head->checksum = le64_of(0);
	head->checksum = le64_of(hash64(block, BLOCK_SIZE));
}

static uint8_t *change_copy(uint32_t group, uint32_t copy)
{
	return overlay_change(disk, image->block[image->groups[group].first + copy]);
}

/* The first copy was changed and not sealed yet; the others and all that carry its checksum follow. */
static void spread(uint32_t group, unsigned *left)
{
	const struct group *g = &image->groups[group];
	uint8_t *first = change_copy(group, 0);
	uint64_t old = fmt_checksum_of(first), new;

	reseal(first);
	new = fmt_checksum_of(first);
	for (uint32_t i = 1; i < g->count; i++)
		memcpy(change_copy(group, i), first, BLOCK_SIZE);
	for (uint32_t i = 0; i < g->carrier_count && *left; i++) {
		uint8_t *carrier = change_copy(g->carriers[i].group, 0) + g->carriers[i].at;

		if (memcmp(carrier, &old, 8) != 0)
			continue;
		memcpy(carrier, &new, 8);
		--*left;
		spread(g->carriers[i].group, left);
	}
}

enum { HOW_SET, HOW_XOR, HOW_ADD, HOW_ROT, HOW_ONE_COPY, HOW_REPLACE, HOW_WIPE, HOW_DEVICE };
enum { ALIGNED = 8, NEAR = 16, PICKED = 32, OTHER = 64 }; /* further bits of `how` */
enum { NEAR_BYTES = 256 };

struct edit { /* IMAGES_EDIT_BYTES of an input */
	uint8_t how, kind, index[2], at[2], length, value[8];
};

static uint32_t pick_group(const struct edit *e)
{
	unsigned kind = 1 + e->kind % (FMT_KIND_END - 1), index = e->index[0] | e->index[1] << 8;
	uint32_t begin = image->kind_begin[kind], count = image->kind_begin[kind + 1] - begin;

	return count ? begin + index % count : index % image->group_count;
}

/* Values that matter where any eight bytes would seldom hit one. */
static uint64_t pick_value(const struct edit *e, const uint8_t *old)
{
	const uint8_t *v = e->value;
	uint64_t n = v[1] | v[2] << 8, was;

	memcpy(&was, old, 8);
	switch (v[0] % 8) {
	case 0:
		return n;
	case 1:
		return UINT64_MAX - n;
	case 2:
		return UINT64_C(1) << n % 64;
	case 3:
		return was + n - 0x8000;
	case 4: /* a block that something lies in, and its sector */
		return image->block[n % image->block_count];
	case 5:
		return (uint64_t)image->block[n % image->block_count] * 8;
	case 6:
		return fmt_checksum_of(content_of(image, (uint32_t)n % image->group_count));
	default:
		return was << v[1] % 64 | was >> v[2] % 64;
	}
}

static void change_bytes(uint8_t *block, const struct edit *e)
{
	unsigned at = (e->at[0] | e->at[1] << 8) % (e->how & NEAR ? NEAR_BYTES : BLOCK_SIZE);
	unsigned length = e->how & ALIGNED ? 1u << e->length % 4 : 1u + e->length % 8;
	uint64_t value, was;

	if (e->how & ALIGNED)
		at -= at % length;
	at = MIN_OF(at, BLOCK_SIZE - 8u);
	memcpy(&value, e->value, 8);
	memcpy(&was, block + at, 8);
	if (e->how & PICKED)
		value = pick_value(e, block + at);
	else if (e->how % 8 == HOW_XOR)
		value ^= was;
	else if (e->how % 8 == HOW_ADD)
		value = was + (uint64_t)(int64_t)(int8_t)e->value[0];
	memcpy(block + at, &value, length);
}

static void edit_device(const struct edit *e)
{
	uint64_t block = (e->index[0] | e->index[1] << 8) % (disk->room_bytes / BLOCK_SIZE);

	if (e->how & OTHER)
		disk->vdev.size_bytes = block * BLOCK_SIZE + (uint64_t)(e->length % 8) * VDEV_SECTOR;
	else
		change_bytes(overlay_change(disk, (uint32_t)block), e);
}

static void edit_group(const struct edit *e)
{
	uint32_t group = pick_group(e), other = (uint32_t)(e->value[0] | e->value[1] << 8) % image->group_count;
	uint32_t copy = e->length / 8u % image->groups[group].count;
	uint8_t *block = change_copy(group, e->how % 8 >= HOW_ROT && e->how % 8 != HOW_REPLACE ? copy : 0);
	unsigned left = RESEALS_MAX;
	uint64_t sum = fmt_checksum_of(block);

	if (e->how % 8 == HOW_WIPE) {
		memset(block, e->how & OTHER ? 0xa5 : 0, BLOCK_SIZE);
	} else if (e->how % 8 == HOW_REPLACE) {
		memcpy(block, content_of(image, other), BLOCK_SIZE);
		((struct fmt_head *)block)->checksum = le64_of(sum); /* what its carriers have */
		spread(group, &left);
	} else {
		change_bytes(block, e);
		if (e->how % 8 == HOW_ONE_COPY)
			reseal(block);
		if (e->how % 8 >= HOW_ROT)
			return;
		((struct fmt_head *)block)->checksum = le64_of(sum);
		spread(group, &left);
	}
}

void images_edit(const uint8_t *bytes, size_t length)
{
	struct edit edit = {0};

	memcpy(&edit, bytes, MIN_OF(length, sizeof(edit)));
	if (edit.how % 8 == HOW_DEVICE)
		edit_device(&edit);
	else
		edit_group(&edit);
}
