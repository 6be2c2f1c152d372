/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Two images: `durable` is what the last flush left, `content` is durable with the whole cache applied. The cache
 * keeps a copy of each write's data, so that any part of it can be applied to a clone of `durable`.
 *
 * Lock: `lock` covers all of it; recursive, because the change hook runs under it and asks for images.
 */
#include "tests/disk/simdisk.h"

#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"

enum { FAULTS_MAX = 16 };

struct entry {
	struct simdisk_cached what;
	struct simimage *data; /* from `data_start` on; NULL for a discard, and zeros written without a buffer */
	uint64_t data_start;   /* below a chunk: so that the disk can share what it holds */
};

struct fault {
	struct simdisk_fault what;
	uint64_t seen; /* operations that matched kind and range */
};

struct simdisk {
	struct vdev vdev;
	pthread_mutex_t lock;
	struct simimage *durable;
	struct simimage *content;
	struct entry *cache;
	unsigned cached;
	unsigned cache_room;
	uint64_t uncached;    /* entries that were in the cache and are not any more */
	uint64_t flush_limit; /* see simdisk_limit_flush; UINT64_MAX: none */
	enum simdisk_discard discard;
	struct simdisk_counts counts;
	uint64_t stop_at;
	bool stopped;
	simdisk_hook hook;
	void *hook_context;
	struct fault faults[FAULTS_MAX];
	unsigned fault_count;
	uint64_t fault_hits;
};

static void *must(void *allocated)
{
	CHECK(allocated);
	return allocated;
}

/* --- the cache --- */

static void write_garbage(struct simimage *image, uint64_t offset, uint64_t length)
{
	for (uint64_t done = 0, part; done < length; done += part) {
		part = MIN_OF(length - done, (uint64_t)SIMIMAGE_CHUNK);
		simimage_count_up(image, offset + done, part, hash_mix(offset + done + 1));
	}
}

/* Applies `length` bytes of an entry, from `start` on. */
static void apply_part(const struct simdisk *disk, const struct entry *entry, uint64_t start, uint64_t length,
		       struct simimage *image)
{
	uint64_t offset = entry->what.offset + start;
	if (entry->data)
		simimage_copy(image, offset, entry->data, entry->data_start + start, length);
	else if (!entry->what.is_discard || disk->discard == SIMDISK_DISCARD_ZEROS)
		simimage_zero(image, offset, length);
	else if (disk->discard == SIMDISK_DISCARD_GARBAGE)
		write_garbage(image, offset, length);
}

static void apply(const struct simdisk *disk, const struct entry *entry, struct simimage *image)
{
	apply_part(disk, entry, 0, entry->what.length, image);
}

/* Takes `data` over, where it has the bytes from `data_start` on. NULL: a discard, or zeros. */
static void add_to_cache(struct simdisk *disk, uint64_t offset, struct simimage *data, uint64_t data_start,
			 uint64_t length, bool is_discard)
{
	if (length == 0) {
		simimage_free(data);
		return;
	}
	if (disk->cached == disk->cache_room) {
		disk->cache_room = disk->cache_room ? disk->cache_room * 2 : 16;
		disk->cache = must(realloc(disk->cache, disk->cache_room * sizeof(*disk->cache)));
	}
	struct entry *entry = &disk->cache[disk->cached++];
	entry->what = (struct simdisk_cached){disk->counts.changes - 1, offset, length, is_discard};
	entry->data_start = data_start;
	entry->data = data;
	apply(disk, entry, disk->content);
}

static void set_image(struct simimage **image, struct simimage *to)
{
	simimage_free(*image);
	*image = to;
}

/* The oldest `count` leave it. */
static void drop_oldest(struct simdisk *disk, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		simimage_free(disk->cache[i].data);
	disk->cached -= count;
	disk->uncached += count;
	if (disk->cached)
		memmove(disk->cache, disk->cache + count, disk->cached * sizeof(*disk->cache));
}

static void empty_cache(struct simdisk *disk)
{
	drop_oldest(disk, disk->cached);
}

static void persist_cache(struct simdisk *disk)
{
	uint64_t limit = disk->flush_limit;
	disk->flush_limit = UINT64_MAX;
	if (limit >= disk->uncached + disk->cached) {
		if (disk->cached > 0)
			set_image(&disk->durable, simimage_clone(disk->content));
		empty_cache(disk);
		return;
	}
	unsigned count = limit > disk->uncached ? (unsigned)(limit - disk->uncached) : 0;
	for (unsigned i = 0; i < count; i++)
		apply(disk, &disk->cache[i], disk->durable);
	drop_oldest(disk, count);
}

static bool coin(uint64_t seed, uint64_t n)
{
	return hash_mix(seed + n * 0x9e3779b97f4a7c15u) & 1;
}

static void drop_from_cache(struct simdisk *disk, uint64_t seed)
{
	unsigned kept = 0;
	set_image(&disk->content, simimage_clone(disk->durable));
	for (unsigned i = 0; i < disk->cached; i++) {
		struct entry entry = disk->cache[i];
		if (seed == 0 || coin(seed, i)) {
			simimage_free(entry.data);
			disk->uncached++;
			continue;
		}
		apply(disk, &entry, disk->content);
		disk->cache[kept++] = entry;
	}
	disk->cached = kept;
}

/* --- faults --- */

static bool kind_matches(enum simdisk_kind pattern, enum simdisk_kind kind)
{
	return pattern == kind || pattern == SIMDISK_ANY || (pattern == SIMDISK_CHANGE && kind != SIMDISK_READ);
}

static bool range_matches(const struct simdisk_fault *fault, uint64_t offset, uint64_t length)
{
	return fault->length == 0 || (offset < fault->offset + fault->length && fault->offset < offset + length);
}

/* Counts the operation with every fault that it matches; returns the first that strikes. */
static const struct simdisk_fault *strike(struct simdisk *disk, enum simdisk_kind kind, uint64_t offset,
					  uint64_t length)
{
	const struct simdisk_fault *striking = NULL;
	for (unsigned i = 0; i < disk->fault_count; i++) {
		struct fault *fault = &disk->faults[i];
		if (!kind_matches(fault->what.kind, kind) || !range_matches(&fault->what, offset, length))
			continue;
		uint64_t n = fault->seen++;
		if (!striking && (n == fault->what.at || (fault->what.forever && n > fault->what.at)))
			striking = &fault->what;
	}
	disk->fault_hits += striking != NULL;
	return striking;
}

static int result_of(const struct simdisk_fault *fault)
{
	return fault && fault->effect == SIMDISK_FAILS ? -(int)fault->error : 0;
}

/* --- operations --- */

static int begin_change(struct simdisk *disk, uint64_t *count)
{
	if (disk->stopped)
		return -LCPFS_E_STOPPED;
	if (disk->hook)
		disk->hook(disk->hook_context, disk, disk->counts.changes);
	if (disk->counts.changes >= disk->stop_at)
		disk->stopped = true;
	if (disk->stopped)
		return -LCPFS_E_STOPPED;
	disk->counts.changes++;
	++*count;
	return 0;
}

static int do_read(struct simdisk *disk, const struct vdev_io *io)
{
	if (disk->stopped)
		return -LCPFS_E_STOPPED;
	disk->counts.reads++;
	disk->counts.read_bytes += io->length;
	int result = result_of(strike(disk, SIMDISK_READ, io->offset, io->length));
	if (result == 0)
		simimage_read(disk->content, io->offset, io->buffer, io->length);
	return result;
}

/* Takes `data` over, as add_to_cache does. */
static int do_write(struct simdisk *disk, uint64_t offset, struct simimage *data, uint64_t data_start,
		    uint64_t length)
{
	int error = begin_change(disk, &disk->counts.writes);
	if (error) {
		simimage_free(data);
		return error;
	}
	disk->counts.written_bytes += length;
	const struct simdisk_fault *fault = strike(disk, SIMDISK_WRITE, offset, length);
	if (fault && fault->effect == SIMDISK_IS_MISDIRECTED)
		offset = fault->to_offset;
	else if (fault)
		length = fault->effect == SIMDISK_FAILS ? MIN_OF(fault->done_bytes, length) : 0;
	add_to_cache(disk, offset, data, data_start, length, false);
	return result_of(fault);
}

static int write_bytes(struct simdisk *disk, const struct vdev_io *io)
{
	uint64_t start = io->offset % SIMIMAGE_CHUNK; /* so that the disk can share its chunks */
	struct simimage *data = simimage_new(start + io->length);
	simimage_write(data, start, io->buffer, io->length);
	return do_write(disk, io->offset, data, start, io->length);
}

static void simdisk_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	struct simdisk *disk = (struct simdisk *)vdev;
	pthread_mutex_lock(&disk->lock);
	for (struct vdev_io *io = ios; io < ios + count; io++)
		io->result = io->op == VDEV_READ ? do_read(disk, io) : write_bytes(disk, io);
	pthread_mutex_unlock(&disk->lock);
}

/* One write, as a device's own command for it is. */
static int simdisk_zero(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct simdisk *disk = (struct simdisk *)vdev;
	pthread_mutex_lock(&disk->lock);
	int error = do_write(disk, offset, NULL, 0, length);
	pthread_mutex_unlock(&disk->lock);
	return error;
}

int simdisk_write_image(struct simdisk *disk, uint64_t offset, const struct simimage *data, uint64_t data_start,
			uint64_t length)
{
	pthread_mutex_lock(&disk->lock);
	int error = do_write(disk, offset, simimage_clone(data), data_start, length);
	pthread_mutex_unlock(&disk->lock);
	return error;
}

static int do_flush(struct simdisk *disk)
{
	int error = begin_change(disk, &disk->counts.flushes);
	if (error)
		return error;
	const struct simdisk_fault *fault = strike(disk, SIMDISK_FLUSH, 0, UINT64_MAX);
	if (!fault)
		persist_cache(disk);
	else if (fault->effect == SIMDISK_FAILS)
		drop_from_cache(disk, fault->drop_seed);
	return result_of(fault);
}

static int simdisk_flush(struct vdev *vdev)
{
	struct simdisk *disk = (struct simdisk *)vdev;
	pthread_mutex_lock(&disk->lock);
	int error = do_flush(disk);
	pthread_mutex_unlock(&disk->lock);
	return error;
}

static int do_discard(struct simdisk *disk, uint64_t offset, uint64_t length)
{
	int error = begin_change(disk, &disk->counts.discards);
	if (error)
		return error;
	disk->counts.discarded_bytes += length;
	const struct simdisk_fault *fault = strike(disk, SIMDISK_DISCARD, offset, length);
	if (!fault)
		add_to_cache(disk, offset, NULL, 0, length, true);
	return result_of(fault);
}

static int simdisk_discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct simdisk *disk = (struct simdisk *)vdev;
	pthread_mutex_lock(&disk->lock);
	int error = do_discard(disk, offset, length);
	pthread_mutex_unlock(&disk->lock);
	return error;
}

static void simdisk_close(struct vdev *vdev)
{
	(void)vdev;
}

static const struct vdev_ops simdisk_ops = {simdisk_submit, simdisk_flush, simdisk_discard, simdisk_close,
					    .zero = simdisk_zero};

/* --- the harness's side --- */

struct simdisk *simdisk_new(const struct simimage *image, enum simdisk_discard discard)
{
	struct simdisk *disk = must(calloc(1, sizeof(*disk)));
	pthread_mutexattr_t attributes;
	pthread_mutexattr_init(&attributes);
	pthread_mutexattr_settype(&attributes, PTHREAD_MUTEX_RECURSIVE);
	pthread_mutex_init(&disk->lock, &attributes);
	pthread_mutexattr_destroy(&attributes);
	disk->vdev.ops = &simdisk_ops;
	disk->vdev.size_bytes = simimage_size_bytes(image);
	disk->vdev.name = "simdisk";
	disk->durable = simimage_clone(image);
	disk->content = simimage_clone(image);
	disk->discard = discard;
	disk->stop_at = UINT64_MAX;
	disk->flush_limit = UINT64_MAX;
	return disk;
}

void simdisk_free(struct simdisk *disk)
{
	if (!disk)
		return;
	empty_cache(disk);
	free(disk->cache);
	simimage_free(disk->durable);
	simimage_free(disk->content);
	pthread_mutex_destroy(&disk->lock);
	free(disk);
}

struct vdev *simdisk_vdev(struct simdisk *disk)
{
	return &disk->vdev;
}

uint64_t simdisk_mark(const struct simdisk *disk)
{
	return disk->uncached + disk->cached;
}

void simdisk_limit_flush(struct simdisk *disk, uint64_t mark)
{
	disk->flush_limit = mark;
}

const struct simdisk_counts *simdisk_counts(const struct simdisk *disk)
{
	return &disk->counts;
}

void simdisk_stop_at(struct simdisk *disk, uint64_t change)
{
	disk->stop_at = change;
}

void simdisk_stop(struct simdisk *disk)
{
	disk->stopped = true;
}

bool simdisk_is_stopped(const struct simdisk *disk)
{
	return disk->stopped;
}

void simdisk_on_change(struct simdisk *disk, simdisk_hook hook, void *context)
{
	disk->hook = hook;
	disk->hook_context = context;
}

unsigned simdisk_cached_count(const struct simdisk *disk)
{
	return disk->cached;
}

struct simdisk_cached simdisk_cached(const struct simdisk *disk, unsigned index)
{
	CHECK(index < disk->cached);
	return disk->cache[index].what;
}

/* --- fates --- */

static void apply_torn(const struct simdisk *disk, const struct entry *entry, uint64_t mask,
		       struct simimage *image)
{
	for (unsigned i = 0; i < 64 && (uint64_t)i * VDEV_SECTOR < entry->what.length; i++) {
		if (mask >> i & 1)
			apply_part(disk, entry, (uint64_t)i * VDEV_SECTOR, VDEV_SECTOR, image);
	}
}

static void apply_mask(const struct simdisk *disk, const struct simdisk_fate *fate, struct simimage *image)
{
	for (unsigned i = 0; i < disk->cached; i++) {
		if (fate->has_torn && fate->torn_index == i)
			apply_torn(disk, &disk->cache[i], fate->torn_mask, image);
		else if (i < 64 && fate->mask >> i & 1)
			apply(disk, &disk->cache[i], image);
	}
}

/* Each sector by a coin of its own, or a run from the start (the usual tear), or a run up to the end. */
static void apply_scattered(const struct simdisk *disk, const struct entry *entry, uint64_t seed,
			    struct simimage *image)
{
	uint64_t sectors = entry->what.length / VDEV_SECTOR;
	uint64_t cut = hash_mix(seed ^ 1) % (sectors + 1);
	for (uint64_t i = 0; i < sectors; i++) {
		bool kept = seed % 4 == 0 ? i < cut : seed % 4 == 1 ? i >= cut : coin(seed, i);
		if (kept)
			apply_part(disk, entry, i * VDEV_SECTOR, VDEV_SECTOR, image);
	}
}

/* In order: where a later write is lost, an earlier one shows, so every version of a sector can come out. */
static void apply_scatter(const struct simdisk *disk, uint64_t seed, struct simimage *image)
{
	for (unsigned i = 0; i < disk->cached; i++) {
		uint64_t roll = hash_mix(hash_mix(seed) + i);
		if (roll % 3 == 0)
			apply(disk, &disk->cache[i], image);
		else if (roll % 3 == 1)
			apply_scattered(disk, &disk->cache[i], hash_mix(roll), image);
	}
}

struct simimage *simdisk_image(const struct simdisk *disk, const struct simdisk_fate *fate)
{
	struct simimage *image = simimage_clone(fate->kind == SIMDISK_ALL ? disk->content : disk->durable);
	if (fate->kind == SIMDISK_MASK)
		apply_mask(disk, fate, image);
	else if (fate->kind == SIMDISK_SCATTER)
		apply_scatter(disk, fate->seed, image);
	return image;
}

const struct simimage *simdisk_content(const struct simdisk *disk)
{
	return disk->content;
}

void simdisk_add_fault(struct simdisk *disk, const struct simdisk_fault *fault)
{
	CHECK(disk->fault_count < FAULTS_MAX);
	CHECK(fault->done_bytes % VDEV_SECTOR == 0 && fault->to_offset % VDEV_SECTOR == 0);
	disk->faults[disk->fault_count++] = (struct fault){*fault, 0};
}

void simdisk_clear_faults(struct simdisk *disk)
{
	disk->fault_count = 0;
}

uint64_t simdisk_fault_hits(const struct simdisk *disk)
{
	return disk->fault_hits;
}

void simdisk_damage(struct simdisk *disk, const struct simimage_damage *damage)
{
	pthread_mutex_lock(&disk->lock);
	simimage_damage(disk->durable, damage);
	simimage_damage(disk->content, damage);
	pthread_mutex_unlock(&disk->lock);
}
