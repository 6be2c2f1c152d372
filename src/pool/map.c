/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who owns which metaslab: the map pages, and the counts derived from them.
 *
 * Invariant 1 holds because a metaslab has one entry and entries change in transactions only. Of invariant 2, Σ
 * size + free = pool holds because a size *is* the number of entries; min and max are kept by those who change
 * entries.
 *
 * A metaslab that became free is discarded on the device before it is given out again, and not while it is:
 * `blocked` marks those still to do, a run at a time is done without the lock. A discard that fails is no loss.
 */
#include <inttypes.h>
#include <stdlib.h>

#include "pool/core.h"

static uint32_t entry_of(const struct fmt_map *map, uint32_t index)
{
	return le32_get(map->owner[index]);
}

uint32_t map_owner(const struct lcpfs_pool *pool, uint32_t metaslab)
{
	return entry_of(txg_current(pool, metaslab / MAP_ENTRIES), metaslab % MAP_ENTRIES);
}

void map_set(struct txg *txg, uint32_t metaslab, uint32_t owner)
{
	struct fmt_map *map = txg_change(txg, metaslab / MAP_ENTRIES);
	CHECK(metaslab < txg->pool->layout.metaslab_count);
	map->owner[metaslab % MAP_ENTRIES] = le32_of(owner);
}

/* A map page lost in both copies reads as free: a pool that has one does not open. */
static bool is_available(const struct lcpfs_pool *pool, uint32_t metaslab)
{
	CHECK(!pool->lost[metaslab / MAP_ENTRIES]);
	return map_owner(pool, metaslab) == NO_PARTITION && !pool->blocked[metaslab];
}

uint32_t map_pick_free(const struct lcpfs_pool *pool, uint32_t *list, uint32_t count)
{
	uint32_t found = 0;
	for (uint32_t m = 0; m < pool->layout.metaslab_count && found < count; m++) {
		if (is_available(pool, m))
			list[found++] = m;
	}
	return found;
}

void map_list(const struct part *part, uint32_t *list)
{
	uint32_t found = 0;
	for (uint32_t m = 0; m < part->pool->layout.metaslab_count; m++) {
		if (map_owner(part->pool, m) != part->id)
			continue;
		CHECK(found < part->metaslabs);
		list[found++] = m;
	}
	CHECK(found == part->metaslabs);
}

static void count_owner(struct lcpfs_pool *pool, uint32_t owner, int by)
{
	struct part *part = owner ? part_find(pool, owner) : NULL;
	if (part)
		part->metaslabs += (uint32_t)by;
	else if (owner == NO_PARTITION)
		pool->free_metaslabs += (uint32_t)by;
}

void map_count(struct lcpfs_pool *pool)
{
	pool->free_metaslabs = 0;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (pool->parts[slot])
			pool->parts[slot]->metaslabs = 0;
	}
	for (uint32_t m = 0; m < pool->layout.metaslab_count; m++) {
		if (!pool->lost[m / MAP_ENTRIES])
			count_owner(pool, map_owner(pool, m), 1);
	}
}

void map_page_changed(struct lcpfs_pool *pool, uint32_t page, const struct fmt_map *before)
{
	const struct fmt_map *after = txg_current(pool, page);
	uint32_t first = page * MAP_ENTRIES;
	for (uint32_t i = 0; i < MAP_ENTRIES && first + i < pool->layout.metaslab_count; i++) {
		if (entry_of(before, i) == entry_of(after, i))
			continue;
		count_owner(pool, entry_of(before, i), -1);
		count_owner(pool, entry_of(after, i), 1);
	}
}

/* -- verifying -- */

static void verify_owners(struct lcpfs_pool *pool, struct report *report)
{
	uint32_t reported = 0;
	for (uint32_t m = 0; m < pool->layout.metaslab_count; m++) {
		uint32_t owner = map_owner(pool, m);
		if (owner == NO_PARTITION || part_find(pool, owner) || owner == reported)
			continue;
		report_found(report, UINT64_MAX, false,
			     "metaslab %" PRIu32 " and maybe more belong to partition %" PRIu32
			     ", which does not exist",
			     m, owner);
		reported = owner;
	}
	for (uint32_t m = pool->layout.metaslab_count; m < layout_metaslabs_max(&pool->layout); m++) {
		if (map_owner(pool, m) == NO_PARTITION)
			continue;
		report_found(report, UINT64_MAX, false,
			     "metaslab %" PRIu32 " belongs to partition %" PRIu32
			     " and does not exist: the pool has %" PRIu32,
			     m, map_owner(pool, m), pool->layout.metaslab_count);
		return;
	}
}

static void verify_part(struct lcpfs_pool *pool, const struct part *part, struct report *report)
{
	uint64_t size = part_size_blocks(part);
	if (size < part->min_blocks || size > part->max_blocks)
		report_found(report, UINT64_MAX, false,
			     "partition %s has %" PRIu64 " blocks, not between its min of %" PRIu64
			     " and its max of %" PRIu64,
			     part->name, size, part->min_blocks, part->max_blocks);
	if (part->id >= le32_get(pool->uberblock.partition_next))
		report_found(report, UINT64_MAX, false,
			     "partition %s has the id %" PRIu32 ", which is not given out yet", part->name,
			     part->id);
}

void map_verify(struct lcpfs_pool *pool, struct report *report)
{
	uint64_t min_sum = 0, size_sum = pool->free_metaslabs;
	verify_owners(pool, report);
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		const struct part *part = pool->parts[slot];
		if (!part)
			continue;
		verify_part(pool, part, report);
		min_sum += MIN_OF(part->min_blocks, layout_pool_blocks(&pool->layout) + 1);
		size_sum += part->metaslabs;
	}
	if (min_sum > layout_pool_blocks(&pool->layout))
		report_found(report, UINT64_MAX, false, "the partitions' min add up to more than the pool");
	if (size_sum != pool->layout.metaslab_count)
		report_found(report, UINT64_MAX, false,
			     "sizes and free space add up to %" PRIu64 " metaslabs of %" PRIu32, size_sum,
			     pool->layout.metaslab_count);
}

/* -- discarding -- */

/* The next run of blocked metaslabs, of which there are some; at most `most` long. */
static uint32_t next_run(const struct lcpfs_pool *pool, uint32_t most, uint32_t *first)
{
	uint32_t m = 0, count = 0;
	for (; !pool->blocked[m]; m++)
		CHECK(m + 1 < pool->layout.metaslab_count);
	*first = m;
	while (count < most && m + count < pool->layout.metaslab_count && pool->blocked[m + count])
		count++;
	return count;
}

void map_discard(struct lcpfs_pool *pool, uint32_t metaslabs)
{
	uint64_t metaslab_bytes = (uint64_t)pool->layout.metaslab_blocks * BLOCK_SIZE;
	uint32_t first, count;
	pthread_mutex_lock(&pool->lock);
	while (pool->discarding_count)
		pthread_cond_wait(&pool->changed, &pool->lock);
	while (pool->blocked_count && metaslabs) {
		count = next_run(pool, metaslabs, &first);
		pool->discarding_count = count;
		pthread_mutex_unlock(&pool->lock);
		vdev_discard(pool->vdev, layout_metaslab_block(&pool->layout, first) * BLOCK_SIZE,
			     count * metaslab_bytes);
		pthread_mutex_lock(&pool->lock);
		pool->discarding_count = 0;
		for (uint32_t m = first; m < first + count; m++)
			pool->blocked[m] = 0;
		pool->blocked_count -= count;
		metaslabs -= count;
		pool->changes++;
		pthread_cond_broadcast(&pool->changed);
	}
	pthread_mutex_unlock(&pool->lock);
}
