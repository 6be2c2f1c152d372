/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Each image is made once, by the pool itself. Its structures are then listed by kind, those that are copies of
 * each other as one group, and for each group it is noted where its checksums stand: so that sealing anew what an
 * edit changed follows a list instead of searching the image.
 *
 * A structure has up to two checksums: its own seal, which the chain of records repeats, and that of the whole
 * block, which stands in what points at it. Pages of volumes have no head and only the second; they are found by
 * the log.
 */
#include "images.h"

#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "overlay.h"
#include "pool/core.h"

enum { POOL_MIB = 30, ROOM_MIB = IMAGES_ROOM_BYTES >> 20, BLOCKS = POOL_MIB * 256, RESEALS_MAX = 100 };

enum { SEAL_BYTES = 8, CHECK_BYTES = 16 };

struct place { /* where a checksum stands: in a group's content */
	uint32_t group, at;
	uint32_t bytes; /* which: its seal, or its check */
};

enum { KIND_VOLUME_PAGE = FMT_KIND_END, KINDS };

struct group { /* blocks of the same content */
	uint32_t first, count; /* of image.block */
	struct place *carriers;
	uint32_t carrier_count;
};

struct image {
	uint8_t *bytes;
	uint32_t *block; /* of structures, sorted by kind and checksum */
	uint8_t *is_volume_page; /* by block */
	uint32_t block_count;
	struct group *groups;
	uint32_t group_count;
	uint32_t kind_begin[KINDS + 1]; /* the kind's first group; the next kind's is its end */
};

static struct image images[6];
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

enum { SMALL_BLOCKS = 3 * 256, SPARSE_BLOCKS = 1500 * 256, WRITES = 12, WRITE_BLOCKS = 8 };

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
	struct lcpfs_partition_spec spec = {.thin = true,
					    .name = name,
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

static void snapshot(struct lcpfs_pool *pool, const char *name)
{
	const struct lcpfs_snapshot_options options = {0};
	CHECK(!lcpfs_snapshot_create(pool, &name, 1, &options, NULL));
}

static void bookmark(struct lcpfs_pool *pool, const char *name, const char *mark)
{
	const struct lcpfs_snapshot_options options = {0};
	CHECK(!lcpfs_bookmark_create(pool, name, mark, &options, NULL));
}

/* Snapshots, clones and bookmarks of a, snapshots and bookmarks of a clone, and a clone of one of these. */
static void branch(struct lcpfs_pool *pool)
{
	snapshot(pool, "a@one");
	fill(pool, "a", 1);
	bookmark(pool, "a@one", "mark");
	CHECK(!lcpfs_clone_create(pool, "a@one", "c", false, NULL));
	fill(pool, "c", 1);
	snapshot(pool, "c@own");
	bookmark(pool, "c@own", "mark");
	CHECK(!lcpfs_clone_create(pool, "c@own", "d", false, NULL));
	fill(pool, "d", 1);
	fill(pool, "c", 1);
	snapshot(pool, "c@later");
	snapshot(pool, "a@two");
	fill(pool, "a", 1);
	snapshot(pool, "a@three");
	snapshot(pool, "b@one");
	fill(pool, "b", 1);
	CHECK(!lcpfs_clone_create(pool, "b@one", "e", false, NULL));
	fill(pool, "e", 1);
}

/* What is going, and what only the log tells of: a crash leaves it so. */
static void prune(struct lcpfs_pool *pool)
{
	struct store *store = part_named(pool, "a")->store;
	CHECK(!store_checkpoint(store));
	CHECK(!store_rollback(store, "three"));
	CHECK(!store_clone(store, "two", "gone", 1));
	fill(pool, "gone", 1);
	CHECK(!store_clone_destroy(store, "gone"));
	fill(pool, "a", 1);
	snapshot(pool, "a@four");
	CHECK(!store_snapshot_destroy(store, "two"));
	CHECK(!store_snapshot_destroy(store, "three"));
	fill(pool, "a", 1);
	CHECK(!store_clone(store, "four", "f", 1));
	fill(pool, "f", 1);
}

static void list_structures(struct image *made);

/* As creating does it, but with few pages: each opening reads them all. */
static void create_pool(struct vdev *vdev)
{
	struct layout l = {
		.guid = 77,
		.device_guid = 78,
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
			fmt_seal(page, layout_page_kind(&l, p), l.guid, 0, p ? 0 : MAP_ENTRIES);
			CHECK(!vdev_write(vdev, layout_page_block(&l, copy, p, 0) * BLOCK_SIZE, page, BLOCK_SIZE));
		}
		CHECK(!vdev_write(vdev, layout_area_block(&l, copy, AREA_UBERBLOCKS + 1) * BLOCK_SIZE, &u,
				  BLOCK_SIZE));
		CHECK(!vdev_write(vdev, layout_area_block(&l, copy, AREA_LABEL) * BLOCK_SIZE, &label,
				  BLOCK_SIZE));
	}
}

/*
 * 0: closed; 1: left by a crash; 2: left by one after a longer life; 3: without partitions. With snapshots, clones
 * and bookmarks: 4: closed; 5: left by a crash.
 */
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
	if (which >= 4)
		branch(pool);
	if (which == 5)
		prune(pool);
	if (which == 1 || which == 2 || which == 5)
		pool_abandon(pool);
	else
		CHECK(!lcpfs_pool_close(pool, NULL));
	images[which].bytes = overlay_copy(disk);
	list_structures(&images[which]);
	overlay_reset(disk, disk->zeros, disk->room_bytes);
}

/* -- listing -- */

struct sums {
	uint64_t seal; /* 0: it has none */
	struct hash128 check;
};

static bool has_head(const uint8_t *block)
{
	const struct fmt_head *head = (const struct fmt_head *)block;
	return le32_get(head->magic) == FMT_MAGIC && le16_get(head->kind) < FMT_KIND_END;
}

static struct sums sums_of(const uint8_t *block, bool head)
{
	return (struct sums){head ? fmt_checksum_of(block) : 0, hash128(block, BLOCK_SIZE)};
}

static unsigned kind_of(const struct image *of, uint32_t block)
{
	const struct fmt_head *head = (const struct fmt_head *)(of->bytes + (size_t)block * BLOCK_SIZE);
	return of->is_volume_page[block] ? KIND_VOLUME_PAGE : le16_get(head->kind);
}

static const uint8_t *block_of(const struct image *of, uint32_t i)
{
	return of->bytes + (size_t)of->block[i] * BLOCK_SIZE;
}

static const struct image *sorting;

/* What tells contents apart. */
static uint64_t sum_of(const struct image *of, uint32_t block)
{
	const uint8_t *bytes = of->bytes + (size_t)block * BLOCK_SIZE;
	return of->is_volume_page[block] ? hash64(bytes, BLOCK_SIZE) : fmt_checksum_of(bytes);
}

static int by_kind_and_sum(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	unsigned kind_x = kind_of(sorting, x), kind_y = kind_of(sorting, y);
	uint64_t sum_x = sum_of(sorting, x), sum_y = sum_of(sorting, y);
	if (kind_x != kind_y)
		return kind_x < kind_y ? -1 : 1;
	return (sum_x > sum_y) - (sum_x < sum_y);
}

/* The pages of volumes among the blocks of a record. */
static void note_volume_pages(struct image *of, uint32_t block)
{
	const struct fmt_record *r = (const struct fmt_record *)(of->bytes + (size_t)block * BLOCK_SIZE);
	uint64_t first = le64_get(r->place) / BLOCK_SECTORS + RECORD_HEADERS;
	struct entry e;
	for (unsigned at = 0; fmt_entry_next(r, &at, &e); first += e.blocks) {
		if (e.kind == ENTRY_PAGE && first < BLOCKS && !has_head(of->bytes + first * BLOCK_SIZE))
			of->is_volume_page[first] = 1;
	}
}

static void find_blocks(struct image *of)
{
	of->block = calloc(BLOCKS, sizeof(*of->block));
	of->is_volume_page = calloc(BLOCKS, 1);
	CHECK(of->block && of->is_volume_page);
	for (uint32_t b = 0; b < BLOCKS; b++) {
		const uint8_t *bytes = of->bytes + (size_t)b * BLOCK_SIZE;
		if (has_head(bytes) && le16_get(((const struct fmt_head *)bytes)->kind) == FMT_RECORD)
			note_volume_pages(of, b);
	}
	for (uint32_t b = 0; b < BLOCKS; b++) {
		if (of->is_volume_page[b] || has_head(of->bytes + (size_t)b * BLOCK_SIZE))
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
		unsigned kind = kind_of(of, of->block[i]);
		if (of->group_count && !by_kind_and_sum(&of->block[last->first], &of->block[i])) {
			last->count++;
			continue;
		}
		of->groups[of->group_count++] = (struct group){.first = i, .count = 1};
		for (unsigned k = kind + 1; k <= KINDS; k++)
			of->kind_begin[k] = of->group_count;
	}
}

static const uint8_t *content_of(const struct image *of, uint32_t group)
{
	return block_of(of, of->groups[group].first);
}

struct sum {
	uint64_t sum; /* the seal, or the low half of the check */
	uint32_t group, bytes;
};

static int by_sum(const void *a, const void *b)
{
	uint64_t x = ((const struct sum *)a)->sum, y = ((const struct sum *)b)->sum;
	return (x > y) - (x < y);
}

static void add_carrier(struct group *of, uint32_t group, uint32_t at, uint32_t bytes)
{
	of->carriers = realloc(of->carriers, (of->carrier_count + 1) * sizeof(*of->carriers));
	CHECK(of->carriers);
	of->carriers[of->carrier_count++] = (struct place){group, at, bytes};
}

static bool group_has_head(const struct image *of, uint32_t group)
{
	return !of->is_volume_page[of->block[of->groups[group].first]];
}

/* What stands in one structure. A page of a volume holds nothing but ids. */
static void find_carried(struct image *of, uint32_t group, const struct sum *sums, size_t count)
{
	for (uint32_t at = sizeof(struct fmt_head); at < BLOCK_SIZE && group_has_head(of, group); at += 8) {
		struct sum word = {0}, *found;
		memcpy(&word.sum, content_of(of, group) + at, 8);
		found = word.sum ? bsearch(&word, sums, count, sizeof(*sums), by_sum) : NULL;
		if (found && found->bytes <= BLOCK_SIZE - at)
			add_carrier(&of->groups[found->group], group, at, found->bytes);
	}
}

static void find_carriers(struct image *of)
{
	size_t count = 0;
	struct sum *sums = calloc(2 * of->group_count + 1, sizeof(*sums));
	CHECK(sums);
	for (uint32_t g = 0; g < of->group_count; g++) {
		struct sums s = sums_of(content_of(of, g), group_has_head(of, g));
		sums[count++] = (struct sum){s.check.low, g, CHECK_BYTES};
		if (s.seal)
			sums[count++] = (struct sum){s.seal, g, SEAL_BYTES};
	}
	qsort(sums, count, sizeof(*sums), by_sum);
	for (uint32_t g = 0; g < of->group_count; g++)
		find_carried(of, g, sums, count);
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

/* The first copy was changed and not sealed yet; the others and all that carry what its checksums were follow. */
static void spread(uint32_t group, const struct sums *old, unsigned *left)
{
	const struct group *g = &image->groups[group];
	uint8_t *first = change_copy(group, 0);
	bool head = group_has_head(image, group);
	if (head)
		reseal(first);
	struct sums new = sums_of(first, head);
	for (uint32_t i = 1; i < g->count; i++)
		memcpy(change_copy(group, i), first, BLOCK_SIZE);
	for (uint32_t i = 0; i < g->carrier_count && *left; i++) {
		const struct place *p = &g->carriers[i];
		bool check = p->bytes == CHECK_BYTES;
		uint8_t *carrier = change_copy(p->group, 0);
		struct sums before = sums_of(carrier, true);
		if (memcmp(carrier + p->at, check ? (const void *)&old->check : &old->seal, p->bytes) != 0)
			continue;
		memcpy(carrier + p->at, check ? (const void *)&new.check : &new.seal, p->bytes);
		--*left;
		spread(p->group, &before, left);
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
	unsigned kind = 1 + e->kind % (KINDS - 1), index = e->index[0] | e->index[1] << 8;
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
		return sum_of(image, image->block[n % image->block_count]);
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
	bool head = group_has_head(image, group);
	struct sums old = sums_of(block, head);
	if (e->how % 8 == HOW_WIPE) {
		memset(block, e->how & OTHER ? 0xa5 : 0, BLOCK_SIZE);
	} else if (e->how % 8 == HOW_REPLACE) {
		memcpy(block, content_of(image, other), BLOCK_SIZE);
		spread(group, &old, &left);
	} else {
		change_bytes(block, e);
		if (e->how % 8 == HOW_ONE_COPY && head)
			reseal(block);
		if (e->how % 8 < HOW_ROT)
			spread(group, &old, &left);
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
