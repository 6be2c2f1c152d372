/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Partitions from their pages, and their stores.
 *
 * A partition that does not open is faulted: it keeps its metaslabs, and the others do not notice.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/core.h"

/* -- pages -- */

struct part *part_new(struct lcpfs_pool *pool, uint32_t slot, uint32_t id)
{
	struct part *part = calloc(1, sizeof(*part));
	if (!part)
		return NULL;
	part->pool = pool;
	part->slot = slot;
	part->id = id;
	part->counted_since_s = pool->clock.wall_s(pool->clock.context);
	part->counted_since_us = clock_us(&pool->clock);
	return part;
}

void part_free(struct part *part)
{
	if (!part)
		return;
	CHECK(!part->store && !part->has_service);
	free(part);
}

static void take_fields(struct part *part, const struct fmt_partition *page)
{
	part->min_blocks = le64_get(page->min_blocks);
	part->max_blocks = le64_get(page->max_blocks);
	part->volume_blocks = le64_get(page->volume_blocks);
	part->created_s = le64_get(page->created_s);
	part->min_data_blocks = le64_get(page->min_data_blocks);
	part->max_data_blocks = le64_get(page->max_data_blocks);
	part->volume_bytes = le64_get(page->volume_bytes);
	part->when_full_wait_s = le32_get(page->when_full_wait_s);
	memcpy(part->schedule.keep, page->keep, sizeof(page->keep));
}

/* Of a partition from before these fields were there. */
static void derive_fields(struct part *part)
{
	const struct lcpfs_pool *pool = part->pool;
	if (part->volume_bytes)
		return;
	part->volume_bytes = part->volume_blocks * BLOCK_SIZE;
	part->min_data_blocks = size_data_in(pool, part->min_blocks / pool->layout.metaslab_blocks);
	part->max_data_blocks = size_data_in(pool, part->max_blocks / pool->layout.metaslab_blocks);
}

/* NULL: sane. The page was sealed by somebody, but not by us. */
static const char *why_not_sane(const struct part *part, const struct fmt_partition *page)
{
	const uint32_t metaslab_blocks = part->pool->layout.metaslab_blocks;
	if (!memchr(page->name, 0, sizeof(page->name)) || !part_name_is_valid((const char *)page->name))
		return "its name is not acceptable";
	if (part_named(part->pool, (const char *)page->name))
		return "another partition has the same name";
	if (part->min_blocks > part->max_blocks || part->min_blocks % metaslab_blocks ||
	    part->max_blocks % metaslab_blocks)
		return "its limits make no sense";
	if (!part->volume_blocks || part->volume_blocks > STORE_VOLUME_BLOCKS_MAX ||
	    (part->volume_bytes && size_divide_up(part->volume_bytes, BLOCK_SIZE) != part->volume_blocks))
		return "its volume's size makes no sense";
	if (part->min_data_blocks > part->max_data_blocks || part->when_full_wait_s > LCPFS_WAIT_S_MAX)
		return "what was asked for makes no sense";
	return NULL;
}

/*
 * What it needs and this version does not know. It keeps its name and its metaslabs, and nobody touches it.
 */
static void take_features(struct part *part, const struct fmt_partition *page)
{
	if (le64_get(page->features.incompatible) & ~(uint64_t)PARTITION_INCOMPATIBLE_KNOWN)
		snprintf(part->fault, sizeof(part->fault),
			 "it uses a feature that this lcpfs does not know; use a newer one");
	else if (le64_get(page->features.read_only) && !part->pool->options.read_only)
		snprintf(part->fault, sizeof(part->fault),
			 "it uses a feature that this lcpfs can only read, in a pool that is open only for "
			 "reading; "
			 "use a newer one");
}

static int load_one(struct lcpfs_pool *pool, uint32_t slot, struct report *report)
{
	uint32_t number = layout_partition_page(&pool->layout, slot);
	const struct fmt_partition *page = txg_current(pool, number);
	uint32_t id = le32_get(page->page.head.partition);
	if (pool->lost[number] || id == NO_PARTITION)
		return 0;
	if (part_find(pool, id)) {
		report_found(report, UINT64_MAX, false, "partition id %" PRIu32 " is there twice", id);
		pool->lost[number] = true; /* so that it is not overwritten */
		return 0;
	}
	struct part *part = part_new(pool, slot, id);
	if (!part)
		return -LCPFS_E_NOMEM;
	take_fields(part, page);
	const char *why = why_not_sane(part, page);
	if (why) {
		snprintf(part->name, sizeof(part->name), "damaged.%" PRIu32, id);
		snprintf(part->fault, sizeof(part->fault), "%s", why);
		report_found(report, UINT64_MAX, false, "the page of partition %" PRIu32 ": %s", id, why);
	} else {
		memcpy(part->name, page->name, strlen((const char *)page->name));
		derive_fields(part);
	}
	if (!why)
		take_features(part, page);
	pool->parts[slot] = part;
	return 0;
}

int part_load_all(struct lcpfs_pool *pool, struct report *report)
{
	int error = 0;
	for (uint32_t slot = 0; !error && slot < pool->layout.partition_slots; slot++)
		error = load_one(pool, slot, report);
	map_count(pool);
	return error;
}

void part_fill_page(struct txg *txg, const struct part *part)
{
	struct fmt_partition *page = txg_change(txg, layout_partition_page(&part->pool->layout, part->slot));
	if (le32_get(page->page.head.partition) != part->id) /* else what others wrote there is kept */
		memset(page, 0, sizeof(*page));
	page->page.head.partition = le32_of(part->id);
	memset(page->name, 0, sizeof(page->name));
	memcpy(page->name, part->name, strlen(part->name));
	page->min_blocks = le64_of(part->min_blocks);
	page->max_blocks = le64_of(part->max_blocks);
	page->volume_blocks = le64_of(part->volume_blocks);
	page->created_s = le64_of(part->created_s);
	page->min_data_blocks = le64_of(part->min_data_blocks);
	page->max_data_blocks = le64_of(part->max_data_blocks);
	page->volume_bytes = le64_of(part->volume_bytes);
	page->when_full_wait_s = le32_of(part->when_full_wait_s);
	memcpy(page->keep, part->schedule.keep, sizeof(page->keep));
}

/* -- stores -- */

struct store_config part_store_config(struct part *part)
{
	struct lcpfs_pool *pool = part->pool;
	struct store_config config = {
		.vdev = pool->vdev,
		.clock = &pool->clock,
		.guid = pool->layout.guid,
		.partition = part->id,
		.name = part->name,
		.metaslab_base = pool->layout.metaslab_base,
		.metaslab_blocks = pool->layout.metaslab_blocks,
		.metaslab_count = layout_metaslabs_max(&pool->layout),
		.cache_bytes = part->cache_bytes,
		.read_only = pool->options.read_only,
		.was_closed = !pool->was_open,
		.is_new = part->is_new,
		.need_space = pool->options.read_only ? NULL : emergency_need_space,
		.context = part,
	};
	for (unsigned slot = 0; slot < 2; slot++) {
		for (unsigned copy = 0; copy < COPIES; copy++)
			config.root_block[slot][copy] = layout_root_block(&pool->layout, copy, part->slot, slot);
	}
	return config;
}

uint32_t *part_list_metaslabs(const struct part *part)
{
	uint32_t *list = malloc((part->metaslabs + 1) * sizeof(*list));
	if (list)
		map_list(part, list);
	return list;
}

static int set_fault(struct part *part, const struct lcpfs_failure *why, struct lcpfs_failure *failure)
{
	snprintf(part->fault, sizeof(part->fault), "%.*s", (int)sizeof(part->fault) - 1, why->message);
	if (failure)
		*failure = *why;
	return -why->code;
}

static int open_store(struct part *part, struct lcpfs_failure *why)
{
	struct store_config config = part_store_config(part);
	uint32_t *metaslabs = part_list_metaslabs(part);
	if (!metaslabs)
		return failure_set(why, LCPFS_E_NOMEM, "partition %s: out of memory", part->name);
	int error = store_open(&config, metaslabs, part->metaslabs, &part->store, why);
	free(metaslabs);
	if (!error && store_volume_blocks(part->store) < part->volume_blocks) {
		store_abandon(part->store);
		error = failure_set(why, LCPFS_E_CORRUPT,
				    "partition %s: its root and the pool disagree about its volume", part->name);
	}
	if (error)
		part->store = NULL;
	return error;
}

int part_open_store(struct part *part, size_t cache_bytes, struct lcpfs_failure *failure)
{
	struct lcpfs_failure why = {0};
	if (part->fault[0]) /* its page makes no sense */
		return failure_set(failure, LCPFS_E_CORRUPT, "partition %s: %s", part->name, part->fault);
	if (part->metaslabs < STORE_METASLABS_MIN)
		failure_set(&why, LCPFS_E_CORRUPT, "partition %s owns only %" PRIu32 " metaslabs", part->name,
			    part->metaslabs);
	part->cache_bytes = cache_bytes;
	if (why.code || open_store(part, &why))
		return set_fault(part, &why, failure);
	return 0;
}

static void *serve_store(void *context)
{
	store_service(((struct part *)context)->store);
	return NULL;
}

void part_start_service(struct part *part)
{
	if (!part->store || !part->pool->options.background || part->pool->options.read_only)
		return;
	part->has_service = pthread_create(&part->service, NULL, serve_store, part) == 0;
}

void part_stop_service(struct part *part)
{
	if (!part->has_service)
		return;
	store_stop(part->store);
	pthread_join(part->service, NULL);
	part->has_service = false;
}
