/* SPDX-License-Identifier: Apache-2.0 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hash.h"
#include "tests/disk/simdisk.h"

enum { SIZE = 1024 * 1024 + 512, SECTOR = VDEV_SECTOR };

static struct simdisk *disk_new(void)
{
	struct simimage *image = simimage_new(SIZE);
	struct simdisk *disk = simdisk_new(image, SIMDISK_DISCARD_ZEROS);
	simimage_free(image);
	return disk;
}

/* Every byte of the `sectors` sectors becomes `value`. */
static int put(struct simdisk *disk, uint64_t sector, unsigned sectors, uint8_t value)
{
	uint8_t *bytes = malloc((size_t)sectors * SECTOR);
	memset(bytes, value, (size_t)sectors * SECTOR);
	int error = vdev_write(simdisk_vdev(disk), sector * SECTOR, bytes, (size_t)sectors * SECTOR);
	free(bytes);
	return error;
}

static int flush(struct simdisk *disk)
{
	return vdev_flush(simdisk_vdev(disk));
}

static int image_value(const struct simimage *image, uint64_t sector)
{
	uint8_t bytes[SECTOR];
	simimage_read(image, sector * SECTOR, bytes, SECTOR);
	assert_memory_equal(bytes, bytes + 1, SECTOR - 1);
	return bytes[0];
}

static int value(struct simdisk *disk, uint64_t sector)
{
	uint8_t bytes[SECTOR];
	assert_int_equal(vdev_read(simdisk_vdev(disk), sector * SECTOR, bytes, SECTOR), 0);
	return bytes[0];
}

static int value_after(const struct simdisk *disk, struct simdisk_fate fate, uint64_t sector)
{
	struct simimage *image = simdisk_image(disk, &fate);
	int found = image_value(image, sector);
	simimage_free(image);
	return found;
}

#define NONE ((struct simdisk_fate){.kind = SIMDISK_NONE})
#define ALL ((struct simdisk_fate){.kind = SIMDISK_ALL})
#define MASK(m) ((struct simdisk_fate){.kind = SIMDISK_MASK, .mask = (m)})

/* --- images --- */

static void clones_share_nothing_that_is_written_later(void **state)
{
	struct simimage *image = simimage_new(SIZE);
	char bytes[13] = {0};
	(void)state;
	simimage_write(image, 65530, "0123456789ab", 12); /* across a chunk's end */
	struct simimage *clone = simimage_clone(image);
	uint64_t hash = simimage_hash(image);
	assert_true(simimage_hash(clone) == hash);
	simimage_write(clone, 65535, "XY", 2);
	assert_true(simimage_hash(image) == hash);
	assert_true(simimage_hash(clone) != hash);
	simimage_free(image);
	simimage_read(clone, 65530, bytes, 12);
	assert_string_equal(bytes, "01234XY789ab");
	simimage_free(clone);
}

/* Words that count up, as tests write them; every other time one of them is off. */
static void fill_counting(uint8_t *bytes, size_t length, uint64_t seed)
{
	uint64_t base = hash_mix(seed), step = hash_mix(seed + 1) % 3;
	size_t words = SIMIMAGE_CHUNK / 8;
	size_t from = hash_mix(seed + 2) % 3 * (words - 4) / 2; /* start, middle, end */
	size_t off = seed % 2 ? from + hash_mix(seed + 3) % 4 : SIZE_MAX;
	for (size_t i = 0; i < length / 8; i++) {
		uint64_t word = i % words == off ? 0 : base + i * step;
		memcpy(bytes + 8 * i, &word, 8);
	}
}

/* The same bytes, and the same hash, as in a plain buffer: of chunks and of parts of them. */
static void an_image_holds_what_a_plain_buffer_would(void **state)
{
	enum { LENGTH = 3 * 1024 * 1024 + 512 };
	uint8_t *plain = calloc(2, LENGTH), *part = plain + LENGTH;
	struct simimage *image = simimage_new(LENGTH), *parts = simimage_new(LENGTH);
	struct simimage *shared = NULL;

	(void)state;
	for (uint64_t i = 0; i < 1000; i++) {
		uint64_t grid = hash_mix(i + 3000) % 2 ? SIMIMAGE_CHUNK : 1;
		uint64_t offset = hash_mix(i) % LENGTH / grid * grid;
		uint64_t from = hash_mix(i + 4000) % LENGTH / grid * grid;
		size_t length = hash_mix(i + 1000) % (LENGTH - MAX_OF(offset, from)) >> hash_mix(i + 2000) % 20;
		if (i % 5 == 0) {
			simimage_zero(image, offset, length);
			memset(plain + offset, 0, length);
		} else if (i % 5 == 1) {
			memset(plain + offset, (int)i, length);
			simimage_write(image, offset, plain + offset, length);
		} else if (i % 5 == 2 && shared) {
			simimage_copy(image, offset, shared, from, length);
			simimage_read(shared, from, plain + offset, length);
		} else {
			fill_counting(plain + offset, length, i / 5);
			simimage_write(image, offset, plain + offset, length);
		}
		simimage_free(shared);
		shared = simimage_clone(image);
	}
	simimage_read(image, 0, part, LENGTH);
	assert_memory_equal(plain, part, LENGTH);
	for (size_t at = 0; at < LENGTH; at += SECTOR)
		simimage_write(parts, at, plain + at, SECTOR);
	assert_true(simimage_hash(image) == simimage_hash(parts));
	simimage_free(parts);
	simimage_free(shared);
	simimage_free(image);
	free(plain);
}

static void equal_content_hashes_equal_however_it_came_about(void **state)
{
	struct simimage *a = simimage_new(SIZE);
	struct simimage *b = simimage_new(SIZE);
	(void)state;
	simimage_write(a, 70000, "x", 1);
	assert_true(simimage_hash(a) != simimage_hash(b));
	simimage_write(a, 70000, "", 1);
	assert_true(simimage_hash(a) == simimage_hash(b));
	simimage_zero(a, 0, SIZE);
	assert_true(simimage_hash(a) == simimage_hash(b));
	simimage_write(a, 1, "x", 1);
	simimage_write(b, 2, "x", 1);
	assert_true(simimage_hash(a) != simimage_hash(b));
	simimage_free(a);
	simimage_free(b);
}

static void an_image_survives_a_file(void **state)
{
	char path[] = "/tmp/lcpfs-image-XXXXXX";
	struct simimage *image = simimage_new(SIZE);
	struct simimage *loaded;
	int fd = mkstemp(path);
	(void)state;
	assert_true(fd >= 0);
	simimage_write(image, SIZE - 3, "end", 3);
	assert_int_equal(simimage_save(image, path), 0);
	assert_int_equal(simimage_load(path, &loaded), 0);
	assert_int_equal(simimage_size_bytes(loaded), SIZE);
	assert_true(simimage_hash(loaded) == simimage_hash(image));
	simimage_free(loaded);
	unlink(path);
	assert_int_not_equal(simimage_load(path, &loaded), 0);
	assert_null(loaded);
	simimage_free(image);
	close(fd);
}

static void damage_does_what_its_name_says(void **state)
{
	struct simimage *image = simimage_new(SIZE);
	struct simimage *old = simimage_clone(image);
	char bytes[9] = {0};
	(void)state;
	simimage_write(image, 0, "aaaabbbb", 8);
	simimage_damage(image, &(struct simimage_damage){.kind = SIMIMAGE_FLIP, .offset = 1, .bit = 1});
	simimage_read(image, 0, bytes, 8);
	assert_string_equal(bytes, "acaabbbb");
	simimage_damage(image, &(struct simimage_damage){.kind = SIMIMAGE_FLIP, .offset = 0, .bit = 6});
	simimage_read(image, 0, bytes, 1);
	assert_int_equal(bytes[0], 'a' ^ 0x40);
	simimage_damage(image, &(struct simimage_damage){.kind = SIMIMAGE_FLIP, .offset = 0, .bit = 6});
	simimage_damage(image, &(struct simimage_damage){.kind = SIMIMAGE_SWAP, .other = 4, .length = 4});
	simimage_read(image, 0, bytes, 8);
	assert_string_equal(bytes, "bbbbacaa");
	simimage_damage(image, &(struct simimage_damage){.kind = SIMIMAGE_REPEAT, .other = 4, .length = 2});
	simimage_read(image, 0, bytes, 8);
	assert_string_equal(bytes, "acbbacaa");
	simimage_damage(image, &(struct simimage_damage){.kind = SIMIMAGE_ZERO, .offset = 2, .length = 6});
	simimage_read(image, 0, bytes, 8);
	assert_memory_equal(bytes, "ac\0\0\0\0\0\0", 8);
	simimage_damage(image, &(struct simimage_damage){.kind = SIMIMAGE_STALE, .length = 8, .old = old});
	assert_true(simimage_hash(image) == simimage_hash(old));
	simimage_free(old);
	simimage_free(image);
}

/* --- the cache and power cuts --- */

static void reads_see_the_cache_and_a_cut_may_lose_it(void **state)
{
	struct simdisk *disk = disk_new();
	(void)state;
	assert_int_equal(put(disk, 3, 1, 'a'), 0);
	assert_int_equal(value(disk, 3), 'a');
	assert_int_equal(simdisk_cached_count(disk), 1);
	assert_int_equal(simdisk_cached(disk, 0).offset, 3 * SECTOR);
	assert_int_equal(value_after(disk, NONE, 3), 0);
	assert_int_equal(value_after(disk, ALL, 3), 'a');
	simdisk_free(disk);
}

static void what_was_flushed_survives_every_fate(void **state)
{
	struct simdisk *disk = disk_new();
	(void)state;
	assert_int_equal(put(disk, 3, 1, 'a'), 0);
	assert_int_equal(flush(disk), 0);
	assert_int_equal(simdisk_cached_count(disk), 0);
	assert_int_equal(put(disk, 4, 1, 'b'), 0);
	assert_int_equal(value_after(disk, NONE, 3), 'a');
	assert_int_equal(value_after(disk, NONE, 4), 0);
	for (uint64_t seed = 0; seed < 50; seed++) {
		struct simdisk_fate fate = {.kind = SIMDISK_SCATTER, .seed = seed};
		assert_int_equal(value_after(disk, fate, 3), 'a');
	}
	simdisk_free(disk);
}

static void a_mask_keeps_exactly_its_operations(void **state)
{
	struct simdisk *disk = disk_new();
	(void)state;
	for (unsigned i = 0; i < 4; i++)
		assert_int_equal(put(disk, i, 1, (uint8_t)('a' + i)), 0);
	for (uint64_t mask = 0; mask < 16; mask++) {
		for (unsigned i = 0; i < 4; i++)
			assert_int_equal(value_after(disk, MASK(mask), i), mask >> i & 1 ? 'a' + (int)i : 0);
	}
	simdisk_free(disk);
}

static void a_torn_write_has_the_masks_sectors_only(void **state)
{
	struct simdisk *disk = disk_new();
	struct simdisk_fate fate = MASK(3);
	(void)state;
	assert_int_equal(put(disk, 0, 1, 'x'), 0);
	assert_int_equal(put(disk, 8, 8, 'a'), 0);
	fate.has_torn = true;
	fate.torn_index = 1;
	fate.torn_mask = 0x85;
	assert_int_equal(value_after(disk, fate, 0), 'x');
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(value_after(disk, fate, 8 + i), 0x85 >> i & 1 ? 'a' : 0);
	simdisk_free(disk);
}

/* One write without a buffer: cached, torn and failed as any other. */
static void zeros_are_one_write(void **state)
{
	struct simdisk *disk = disk_new();
	struct vdev *vdev = simdisk_vdev(disk);
	struct simdisk_fate fate = MASK(1);
	(void)state;
	assert_int_equal(put(disk, 0, 16, 'a'), 0);
	assert_int_equal(flush(disk), 0);
	uint64_t writes = simdisk_counts(disk)->writes;
	assert_int_equal(vdev_zero(vdev, 8 * SECTOR, 8 * SECTOR), 0);
	assert_int_equal(simdisk_counts(disk)->writes, writes + 1);
	assert_int_equal(value(disk, 7), 'a');
	assert_int_equal(value(disk, 8), 0);
	assert_int_equal(value_after(disk, NONE, 8), 'a');
	fate.has_torn = true;
	fate.torn_mask = 0x85;
	for (unsigned i = 0; i < 8; i++)
		assert_int_equal(value_after(disk, fate, 8 + i), 0x85 >> i & 1 ? 0 : 'a');
	simdisk_stop(disk);
	assert_int_equal(vdev_zero(vdev, 0, SECTOR), -LCPFS_E_STOPPED);
	simdisk_free(disk);
}

/* Two versions over an old one: each sector ends as any of the three, independently of its neighbour. */
static void scattering_reaches_every_version_of_every_sector(void **state)
{
	struct simdisk *disk = disk_new();
	unsigned seen[3][3] = {{0}};
	(void)state;
	assert_int_equal(put(disk, 0, 2, 0), 0);
	assert_int_equal(flush(disk), 0);
	assert_int_equal(put(disk, 0, 2, 1), 0);
	assert_int_equal(put(disk, 0, 2, 2), 0);
	for (uint64_t seed = 0; seed < 1000; seed++) {
		struct simdisk_fate fate = {.kind = SIMDISK_SCATTER, .seed = seed};
		struct simimage *image = simdisk_image(disk, &fate);
		seen[image_value(image, 0)][image_value(image, 1)]++;
		simimage_free(image);
	}
	for (unsigned i = 0; i < 9; i++)
		assert_true(seen[i / 3][i % 3] > 0);
	simdisk_free(disk);
}

static void a_fate_replays_from_its_seed(void **state)
{
	struct simdisk *disk = disk_new();
	struct simdisk_fate fate = {.kind = SIMDISK_SCATTER, .seed = 12345};
	(void)state;
	for (unsigned i = 0; i < 100; i++)
		assert_int_equal(put(disk, i * 7 % 50, 5, (uint8_t)(i + 1)), 0);
	struct simimage *a = simdisk_image(disk, &fate);
	struct simimage *b = simdisk_image(disk, &fate);
	assert_true(simimage_hash(a) == simimage_hash(b));
	simimage_free(b);
	fate.seed++;
	b = simdisk_image(disk, &fate);
	assert_true(simimage_hash(a) != simimage_hash(b));
	simimage_free(a);
	simimage_free(b);
	simdisk_free(disk);
}

static void after_the_stop_everything_fails_and_nothing_changes(void **state)
{
	struct simdisk *disk = disk_new();
	uint8_t bytes[SECTOR];
	(void)state;
	simdisk_stop_at(disk, 2);
	assert_int_equal(put(disk, 0, 1, 'a'), 0);
	assert_int_equal(value(disk, 0), 'a'); /* a read is no change */
	assert_int_equal(flush(disk), 0);
	assert_int_equal(put(disk, 0, 1, 'b'), -LCPFS_E_STOPPED);
	assert_true(simdisk_is_stopped(disk));
	assert_int_equal(flush(disk), -LCPFS_E_STOPPED);
	assert_int_equal(vdev_discard(simdisk_vdev(disk), 0, SECTOR), -LCPFS_E_STOPPED);
	assert_int_equal(vdev_read(simdisk_vdev(disk), 0, bytes, SECTOR), -LCPFS_E_STOPPED);
	assert_int_equal(simdisk_counts(disk)->changes, 2);
	assert_int_equal(value_after(disk, ALL, 0), 'a');
	simdisk_free(disk);
}

static void a_cut_inside_a_batch_keeps_what_came_before(void **state)
{
	struct simdisk *disk = disk_new();
	uint8_t bytes[SECTOR] = {0};
	struct vdev_io ios[] = {
		{.op = VDEV_WRITE, .offset = 0, .buffer = bytes, .length = SECTOR},
		{.op = VDEV_WRITE, .offset = SECTOR, .buffer = bytes, .length = SECTOR},
	};
	(void)state;
	simdisk_stop_at(disk, 1);
	assert_int_equal(vdev_submit(simdisk_vdev(disk), ios, 2), -LCPFS_E_STOPPED);
	assert_int_equal(ios[0].result, 0);
	assert_int_equal(ios[1].result, -LCPFS_E_STOPPED);
	assert_int_equal(simdisk_cached_count(disk), 1);
	simdisk_free(disk);
}

struct visits {
	uint64_t count;
	uint64_t last;
	int value; /* of sector 0, all kept */
};

static void visit(void *context, struct simdisk *disk, uint64_t change)
{
	struct visits *visits = context;
	visits->count++;
	visits->last = change;
	visits->value = value_after(disk, ALL, 0);
}

static void the_hook_sees_each_change_before_it_is_made(void **state)
{
	struct simdisk *disk = disk_new();
	struct visits visits = {0};
	(void)state;
	simdisk_on_change(disk, visit, &visits);
	assert_int_equal(put(disk, 0, 1, 'a'), 0);
	assert_int_equal(visits.value, 0);
	assert_int_equal(put(disk, 0, 1, 'b'), 0);
	assert_int_equal(visits.value, 'a');
	assert_int_equal(flush(disk), 0);
	assert_int_equal(vdev_discard(simdisk_vdev(disk), 0, SECTOR), 0);
	assert_int_equal(visits.count, 4);
	assert_int_equal(visits.last, 3);
	simdisk_free(disk);
}

static void discarded_reads_as_the_disk_was_told(void **state)
{
	static const enum simdisk_discard kinds[] = {SIMDISK_DISCARD_ZEROS, SIMDISK_DISCARD_KEEPS,
						     SIMDISK_DISCARD_GARBAGE};
	struct simimage *image = simimage_new(SIZE);
	uint8_t bytes[SECTOR];
	(void)state;
	memset(bytes, 'a', SECTOR);
	simimage_write(image, 0, bytes, SECTOR);
	for (unsigned i = 0; i < 3; i++) {
		struct simdisk *disk = simdisk_new(image, kinds[i]);
		assert_int_equal(vdev_discard(simdisk_vdev(disk), 0, SECTOR), 0);
		assert_int_equal(vdev_read(simdisk_vdev(disk), 0, bytes, SECTOR), 0);
		assert_int_equal(bytes[0] == 0 && bytes[9] == 0, kinds[i] == SIMDISK_DISCARD_ZEROS);
		assert_int_equal(bytes[0] == 'a' && bytes[9] == 'a', kinds[i] == SIMDISK_DISCARD_KEEPS);
		assert_int_equal(value_after(disk, NONE, 0), 'a'); /* it, too, is lost with the cache */
		simdisk_free(disk);
	}
	simimage_free(image);
}

static void a_disk_goes_on_from_an_image(void **state)
{
	struct simdisk *disk = disk_new();
	(void)state;
	assert_int_equal(put(disk, 0, 1, 'a'), 0);
	struct simimage *image = simdisk_image(disk, &ALL);
	simdisk_free(disk);
	disk = simdisk_new(image, SIMDISK_DISCARD_ZEROS);
	simimage_free(image);
	assert_int_equal(value(disk, 0), 'a');
	assert_int_equal(simdisk_cached_count(disk), 0);
	simdisk_free(disk);
}

/* --- faults --- */

static void the_kth_operation_fails_once(void **state)
{
	struct simdisk *disk = disk_new();
	(void)state;
	simdisk_add_fault(disk, &(struct simdisk_fault){.kind = SIMDISK_WRITE, .at = 1, .error = LCPFS_E_IO});
	assert_int_equal(put(disk, 0, 1, 'a'), 0);
	assert_int_equal(put(disk, 0, 1, 'b'), -LCPFS_E_IO);
	assert_int_equal(value(disk, 0), 'a');
	assert_int_equal(put(disk, 0, 1, 'c'), 0);
	assert_int_equal(simdisk_fault_hits(disk), 1);
	simdisk_free(disk);
}

static void a_fault_for_good_lasts_until_cleared(void **state)
{
	struct simdisk *disk = disk_new();
	(void)state;
	simdisk_add_fault(disk, &(struct simdisk_fault){.kind = SIMDISK_CHANGE, .at = 1, .forever = true,
							.error = LCPFS_E_DEVICE_FULL});
	assert_int_equal(put(disk, 0, 1, 'a'), 0);
	for (int i = 0; i < 3; i++)
		assert_int_equal(put(disk, 0, 1, 'b'), -LCPFS_E_DEVICE_FULL);
	assert_int_equal(flush(disk), -LCPFS_E_DEVICE_FULL);
	assert_int_equal(vdev_discard(simdisk_vdev(disk), 0, SECTOR), -LCPFS_E_DEVICE_FULL);
	value(disk, 0); /* reads go on */
	simdisk_clear_faults(disk);
	assert_int_equal(put(disk, 0, 1, 'b'), 0);
	simdisk_free(disk);
}

static void a_fault_with_a_range_strikes_there_only(void **state)
{
	struct simdisk *disk = disk_new();
	uint8_t bytes[2 * SECTOR];
	(void)state;
	simdisk_add_fault(disk, &(struct simdisk_fault){.kind = SIMDISK_READ, .forever = true, .offset = SECTOR,
							.length = SECTOR, .error = LCPFS_E_IO});
	assert_int_equal(vdev_read(simdisk_vdev(disk), 0, bytes, SECTOR), 0);
	assert_int_equal(vdev_read(simdisk_vdev(disk), 0, bytes, 2 * SECTOR), -LCPFS_E_IO);
	assert_int_equal(vdev_read(simdisk_vdev(disk), 2 * SECTOR, bytes, SECTOR), 0);
	simdisk_free(disk);
}

static void a_short_write_fails_with_its_first_sectors_done(void **state)
{
	struct simdisk *disk = disk_new();
	(void)state;
	simdisk_add_fault(disk, &(struct simdisk_fault){.kind = SIMDISK_WRITE, .error = LCPFS_E_IO,
							.done_bytes = 2 * SECTOR});
	assert_int_equal(put(disk, 0, 4, 'a'), -LCPFS_E_IO);
	assert_int_equal(value(disk, 1), 'a');
	assert_int_equal(value(disk, 2), 0);
	simdisk_free(disk);
}

/* What Linux does, and why a second fsync that returns 0 proves nothing. */
static void a_failed_flush_loses_writes_and_the_next_one_succeeds(void **state)
{
	struct simdisk *disk = disk_new();
	(void)state;
	assert_int_equal(put(disk, 0, 1, 'a'), 0);
	assert_int_equal(flush(disk), 0);
	simdisk_add_fault(disk, &(struct simdisk_fault){.kind = SIMDISK_FLUSH, .error = LCPFS_E_IO});
	assert_int_equal(put(disk, 0, 1, 'b'), 0);
	assert_int_equal(flush(disk), -LCPFS_E_IO);
	assert_int_equal(value(disk, 0), 'a');
	assert_int_equal(simdisk_vdev(disk)->flush_failures, 1);
	assert_int_equal(flush(disk), 0);
	assert_int_equal(simdisk_vdev(disk)->flush_failures, 1);
	assert_int_equal(value_after(disk, NONE, 0), 'a');
	simdisk_free(disk);
}

static void a_failed_flush_with_a_seed_loses_some(void **state)
{
	struct simdisk *disk = disk_new();
	unsigned kept = 0;
	(void)state;
	simdisk_add_fault(disk, &(struct simdisk_fault){.kind = SIMDISK_FLUSH, .error = LCPFS_E_IO,
							.drop_seed = 5});
	for (unsigned i = 0; i < 64; i++)
		assert_int_equal(put(disk, i, 1, 'a'), 0);
	assert_int_equal(flush(disk), -LCPFS_E_IO);
	for (unsigned i = 0; i < 64; i++) {
		kept += value(disk, i) == 'a';
		assert_int_equal(value_after(disk, NONE, i), 0);
	}
	assert_in_range(kept, 16, 48);
	assert_int_equal(kept, simdisk_cached_count(disk));
	simdisk_free(disk);
}

static void a_lost_write_and_a_lying_flush_are_acknowledged(void **state)
{
	struct simdisk *disk = disk_new();
	(void)state;
	simdisk_add_fault(disk, &(struct simdisk_fault){.kind = SIMDISK_WRITE, .effect = SIMDISK_IS_LOST});
	simdisk_add_fault(disk, &(struct simdisk_fault){.kind = SIMDISK_FLUSH, .effect = SIMDISK_IS_LOST});
	assert_int_equal(put(disk, 0, 1, 'a'), 0);
	assert_int_equal(value(disk, 0), 0);
	assert_int_equal(put(disk, 0, 1, 'b'), 0);
	assert_int_equal(flush(disk), 0);
	assert_int_equal(value_after(disk, NONE, 0), 0);
	assert_int_equal(flush(disk), 0);
	assert_int_equal(value_after(disk, NONE, 0), 'b');
	simdisk_free(disk);
}

static void a_misdirected_write_goes_elsewhere(void **state)
{
	struct simdisk *disk = disk_new();
	(void)state;
	simdisk_add_fault(disk, &(struct simdisk_fault){.kind = SIMDISK_WRITE, .effect = SIMDISK_IS_MISDIRECTED,
							.to_offset = 9 * SECTOR});
	assert_int_equal(put(disk, 0, 1, 'a'), 0);
	assert_int_equal(value(disk, 0), 0);
	assert_int_equal(value(disk, 9), 'a');
	simdisk_free(disk);
}

static void rot_shows_at_once_and_survives_a_flush_and_a_cut(void **state)
{
	struct simdisk *disk = disk_new();
	(void)state;
	assert_int_equal(put(disk, 0, 1, 'a'), 0);
	assert_int_equal(flush(disk), 0);
	assert_int_equal(put(disk, 1, 1, 'b'), 0);
	simdisk_damage(disk, &(struct simimage_damage){.kind = SIMIMAGE_ZERO, .length = SECTOR});
	assert_int_equal(value(disk, 0), 0);
	assert_int_equal(value_after(disk, NONE, 0), 0);
	assert_int_equal(flush(disk), 0);
	assert_int_equal(value_after(disk, NONE, 0), 0);
	assert_int_equal(value(disk, 1), 'b');
	simdisk_free(disk);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(clones_share_nothing_that_is_written_later),
		cmocka_unit_test(an_image_holds_what_a_plain_buffer_would),
		cmocka_unit_test(equal_content_hashes_equal_however_it_came_about),
		cmocka_unit_test(an_image_survives_a_file),
		cmocka_unit_test(damage_does_what_its_name_says),
		cmocka_unit_test(reads_see_the_cache_and_a_cut_may_lose_it),
		cmocka_unit_test(what_was_flushed_survives_every_fate),
		cmocka_unit_test(a_mask_keeps_exactly_its_operations),
		cmocka_unit_test(a_torn_write_has_the_masks_sectors_only),
		cmocka_unit_test(zeros_are_one_write),
		cmocka_unit_test(scattering_reaches_every_version_of_every_sector),
		cmocka_unit_test(a_fate_replays_from_its_seed),
		cmocka_unit_test(after_the_stop_everything_fails_and_nothing_changes),
		cmocka_unit_test(a_cut_inside_a_batch_keeps_what_came_before),
		cmocka_unit_test(the_hook_sees_each_change_before_it_is_made),
		cmocka_unit_test(discarded_reads_as_the_disk_was_told),
		cmocka_unit_test(a_disk_goes_on_from_an_image),
		cmocka_unit_test(the_kth_operation_fails_once),
		cmocka_unit_test(a_fault_for_good_lasts_until_cleared),
		cmocka_unit_test(a_fault_with_a_range_strikes_there_only),
		cmocka_unit_test(a_short_write_fails_with_its_first_sectors_done),
		cmocka_unit_test(a_failed_flush_loses_writes_and_the_next_one_succeeds),
		cmocka_unit_test(a_failed_flush_with_a_seed_loses_some),
		cmocka_unit_test(a_lost_write_and_a_lying_flush_are_acknowledged),
		cmocka_unit_test(a_misdirected_write_goes_elsewhere),
		cmocka_unit_test(rot_shows_at_once_and_survives_a_flush_and_a_cut),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
