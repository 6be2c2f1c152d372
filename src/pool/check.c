/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Check: offline and read-only, every invariant of the pool and of each partition.
 *
 * The pool's structures are loaded as for opening, with everything that is wrong told instead of repaired. Then
 * each partition's store marks the blocks that it uses in one bitmap of the device: what is marked twice the store
 * reports, what lies outside of its own metaslabs is found here, by counting each metaslab's marks before and
 * after.
 *
 * A pool that is not closed cleanly is no damage. Where a crash may have torn a write that no one relied on yet
 * (the newest uberblock's copies, the lease), nothing is reported.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

#include "pool/core.h"

enum { CACHE_BYTES = 64 << 20 }; /* for tables; one partition is open at a time */

struct check {
	struct lcpfs_care *care;
	struct lcpfs_pool *pool;
	struct part *part;
	uint8_t *used;        /* bitmap over the device's blocks */
	uint64_t outside;     /* marks outside of all metaslabs */
	uint32_t *marks;      /* per metaslab */
	uint64_t done, total; /* blocks that partitions own */
};

static void found(struct check *check, const struct lcpfs_finding *finding)
{
	check->care->damaged++;
	if (check->care->found)
		check->care->found(check->care->context, finding);
}

static void found_in_pool(void *context, uint64_t block, bool repaired, const char *text)
{
	struct check *check = context;
	struct lcpfs_finding finding = {.repaired = repaired, .block = block, .address = UINT64_MAX};
	if (check->part)
		memcpy(finding.partition, check->part->name, sizeof(finding.partition));
	snprintf(finding.text, sizeof(finding.text), "%s", text);
	found(check, &finding);
}

static void found_in_store(void *context, const struct store_finding *f)
{
	struct check *check = context;
	struct lcpfs_finding finding = {.data = f->data, .block = f->block, .address = f->address};
	memcpy(finding.partition, check->part->name, sizeof(finding.partition));
	snprintf(finding.text, sizeof(finding.text), "%s", f->text);
	found(check, &finding);
}

static bool tell_progress(const struct check *check, uint64_t done)
{
	const struct lcpfs_care *care = check->care;
	return !care->progress || care->progress(care->context, done, check->total);
}

static bool progress(void *context, uint64_t done, uint64_t total)
{
	const struct check *check = context;
	double share = total ? (double)done / (double)total : 1;
	return tell_progress(check, check->done + (uint64_t)(share * (double)part_size_blocks(check->part)));
}

/* -- the bitmap -- */

static size_t bitmap_bytes(const struct lcpfs_pool *pool)
{
	return (size_t)(pool->layout.device_blocks / 8 + 8);
}

/* Sparse: only what is marked takes memory. */
static bool make_bitmap(struct check *check)
{
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	void *map = mmap(NULL, bitmap_bytes(check->pool), PROT_READ | PROT_WRITE, flags, -1, 0);
	check->used = map == MAP_FAILED ? NULL : map;
	check->marks = calloc(check->pool->layout.metaslab_count, sizeof(*check->marks));
	return check->used && check->marks;
}

static void free_bitmap(struct check *check)
{
	if (check->used)
		munmap(check->used, bitmap_bytes(check->pool));
	free(check->marks);
}

/* Areas and metaslabs begin and end at whole MiB, so at whole bytes of the bitmap. */
static uint64_t count_marks(const struct check *check, uint64_t block, uint64_t blocks)
{
	uint64_t sum = 0;
	for (uint64_t i = block / 8; i < (block + blocks) / 8; i++)
		sum += (unsigned)__builtin_popcount(check->used[i]);
	return sum;
}

static void verify_marks(struct check *check, struct report *report)
{
	const struct layout *l = &check->pool->layout;
	uint64_t end = layout_metaslab_block(l, l->metaslab_count);
	uint64_t outside =
		count_marks(check, 0, l->metaslab_base) + count_marks(check, end, l->device_blocks - end);
	if (outside != check->outside)
		report_found(report, UINT64_MAX, false, "%" PRIu64 " of its blocks lie outside of all metaslabs",
			     outside - check->outside);
	check->outside = outside;
	for (uint32_t m = 0; m < l->metaslab_count; m++) {
		uint64_t marks = count_marks(check, layout_metaslab_block(l, m), l->metaslab_blocks);
		uint32_t owner = map_owner(check->pool, m);
		if (marks != check->marks[m] && owner != check->part->id)
			report_found(report, layout_metaslab_block(l, m), false,
				     "%" PRIu64 " of its blocks lie in "
				     "metaslab %" PRIu32 ", which belongs to %s%" PRIu32,
				     marks - check->marks[m], m, owner ? "partition " : "nobody: ", owner);
		check->marks[m] = (uint32_t)marks;
	}
}

/* -- a partition -- */

static void verify_stats(struct check *check, struct report *report)
{
	struct store_stats stats;
	store_stats(check->part->store, &stats);
	if (stats.live_blocks > part_size_blocks(check->part))
		report_found(report, UINT64_MAX, false, "%" PRIu64 " blocks are live in a size of %" PRIu64,
			     stats.live_blocks, part_size_blocks(check->part));
}

/* Else a version that does not know what is there would do harm to it. */
static void verify_features(struct check *check, struct report *report)
{
	uint32_t page = layout_partition_page(&check->pool->layout, check->part->slot);
	const struct fmt_partition *p = txg_current(check->pool, page);
	uint64_t features = le64_get(p->features.incompatible);
	struct store_listed listed;
	store_listed(check->part->store, &listed);
	if (listed.list && !(features & PARTITION_SNAPSHOTS))
		report_found(report, UINT64_MAX, false,
			     "it has a list of snapshots, and its page does not say so");
	if (listed.clones && !(features & PARTITION_CLONES))
		report_found(report, UINT64_MAX, false, "it has clones, and its page does not say so");
	if (listed.bookmarks && !(features & PARTITION_BOOKMARKS))
		report_found(report, UINT64_MAX, false, "it has bookmarks, and its page does not say so");
	if (listed.of_clones && !(features & PARTITION_LINES))
		report_found(report, UINT64_MAX, false,
			     "a clone has snapshots or bookmarks, and its page does not say so");
	if (listed.turned && !(features & PARTITION_TURNS))
		report_found(report, UINT64_MAX, false,
			     "a clone was promoted past snapshots, and its page does not say so");
}

static int check_store(struct check *check, struct report *report, struct lcpfs_failure *failure)
{
	struct store_walk walk = {
		.found = found_in_store,
		.progress = progress,
		.context = check,
		.data = check->care->data,
		.after_crash = check->pool->was_open,
	};
	int error = store_check(check->part->store, check->used, &walk);
	check->care->checked_blocks += walk.checked_blocks;
	if (error)
		return failure_set(failure, (enum lcpfs_error) - error, "partition %s could not be checked: %s",
				   check->part->name, lcpfs_error_sentence(error));
	verify_features(check, report);
	verify_stats(check, report);
	verify_marks(check, report);
	return 0;
}

static int check_part(struct check *check, struct part *part, struct report *report, struct lcpfs_failure *failure)
{
	struct lcpfs_failure why = {0};
	check->part = part;
	int error = part_open_store(part, CACHE_BYTES, &why);
	if (error == -LCPFS_E_NOMEM)
		return failure_set(failure, LCPFS_E_NOMEM, "%s", why.message);
	if (error) {
		report_found(report, UINT64_MAX, false, "it does not open: %s", why.message);
		return 0;
	}
	error = check_store(check, report, failure);
	store_abandon(part->store);
	part->store = NULL;
	check->done += part_size_blocks(part);
	return error;
}

/* -- the pool -- */

static void verify_history(struct lcpfs_pool *pool, struct report *report)
{
	uint64_t next = le64_get(pool->uberblock.history_next);
	uint32_t capacity = pool->layout.history_pages * HISTORY_ENTRIES;
	for (uint64_t n = next - MIN_OF(next, (uint64_t)capacity); n < next; n++) {
		uint32_t place = (uint32_t)(n % capacity), page = place / HISTORY_ENTRIES;
		page += layout_history_page(&pool->layout);
		const struct fmt_history *h = txg_current(pool, page);
		if (!pool->lost[page] && le64_get(h->entry[place % HISTORY_ENTRIES].number) != n + 1)
			report_found(report, UINT64_MAX, false, "history entry %" PRIu64 " is not in its place",
				     n + 1);
	}
}

static uint64_t owned_blocks(const struct lcpfs_pool *pool)
{
	return (uint64_t)(pool->layout.metaslab_count - pool->free_metaslabs) * pool->layout.metaslab_blocks;
}

static int check_pool(struct check *check, struct report *report, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = check->pool;
	int error = 0;
	if (!make_bitmap(check))
		error = failure_set(failure, LCPFS_E_NOMEM, "%s: out of memory", pool->device->name);
	if (!error) {
		map_verify(pool, report);
		verify_history(pool, report);
		sample_verify(pool, report);
		lease_verify(pool, report);
		check->total = owned_blocks(pool);
	}
	for (uint32_t slot = 0; slot < pool->layout.partition_slots && !error; slot++) {
		if (pool->parts[slot])
			error = check_part(check, pool->parts[slot], report, failure);
	}
	check->part = NULL;
	check->care->checked_blocks += report->checked_blocks;
	if (!error)
		tell_progress(check, check->total);
	free_bitmap(check);
	return error;
}

int pool_check_vdev(struct vdev *vdev, const struct clock *clock, struct lcpfs_care *care,
		    struct lcpfs_failure *failure)
{
	struct lcpfs_open_options options = {.read_only = true};
	struct check check = {.care = care};
	struct report report = {.found = found_in_pool, .context = &check};
	struct lcpfs_failure why = {0};
	care->checked_blocks = care->damaged = care->repaired = 0;
	int error = pool_new(vdev, clock, &options, NULL, &report, &check.pool, &why);
	if (error == -LCPFS_E_CORRUPT) {
		report_found(&report, UINT64_MAX, false, "%s", why.message);
		return 0;
	}
	if (error) {
		if (failure)
			*failure = why;
		return error;
	}
	error = check_pool(&check, &report, failure);
	pool_free(check.pool);
	return error;
}

int lcpfs_pool_check(const char *path, struct lcpfs_care *care, struct lcpfs_failure *failure)
{
	static const struct lcpfs_open_options plain = {.read_only = true};
	struct vdev *vdev;
	int error = lease_open_device(path, VDEV_OPEN_READ_ONLY, 0, &vdev, failure);
	if (error)
		return error;
	error = claimant_look(vdev, &plain, failure);
	if (!error)
		error = pool_check_vdev(vdev, &clock_system, care, failure);
	if (!error && care->damaged) /* or did somebody open it meanwhile, by a way that no lock knows? */
		error = claimant_look(vdev, &plain, failure);
	vdev_close(vdev);
	return error;
}
