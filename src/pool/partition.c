/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Partitions: their pages, their stores, adding and removing.
 *
 * Adding: the new store's roots are written first, into root slots and metaslabs that nobody owns; then one
 * transaction makes the partition known. Removing: first the transaction, then the store is dropped in memory. A
 * crash in between leaves at most unused roots behind, which carry an id that is never given out again.
 *
 * A partition that does not open is faulted: it keeps its metaslabs, and the others do not notice.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/words.h"
#include "pool/core.h"

enum { WISH_US = 20000 };

#define VOLUME_BLOCKS_MAX (UINT64_C(1) << 40) /* what a log entry's address can name */

/* -- finding -- */

struct part *part_find(const struct lcpfs_pool *pool, uint32_t id)
{
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (pool->parts[slot] && pool->parts[slot]->id == id)
			return pool->parts[slot];
	}
	return NULL;
}

struct part *part_named(const struct lcpfs_pool *pool, const char *name)
{
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (name && pool->parts[slot] && strcmp(pool->parts[slot]->name, name) == 0)
			return pool->parts[slot];
	}
	return NULL;
}

bool part_name_is_valid(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t length = name ? strlen(name) : 0;
	return length > 0 && length <= LCPFS_NAME_MAX && strspn(name, allowed) == length && name[0] != '.' &&
	       name[0] != '-';
}

uint64_t part_size_blocks(const struct part *part)
{
	return (uint64_t)part->metaslabs * part->pool->layout.metaslab_blocks;
}

uint64_t part_least_blocks(struct part *part)
{
	uint64_t least = part->store ? store_size_least(part->store) : STORE_METASLABS_MIN;
	return MAX_OF(least * part->pool->layout.metaslab_blocks, part->min_blocks);
}

int part_refuse(const struct part *part, struct lcpfs_failure *failure)
{
	if (part->removing)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "partition %s is being removed", part->name);
	if (!part->store)
		return failure_set(failure, LCPFS_E_FAULTED, "partition %s is faulted: %s", part->name,
				   part->fault);
	return 0;
}

void part_hold(struct part *part)
{
	part->users++;
}

void part_drop(struct part *part)
{
	CHECK(part->users > 0);
	if (--part->users == 0)
		pthread_cond_broadcast(&part->pool->changed);
}

void part_let_go(struct part *part)
{
	pthread_mutex_lock(&part->pool->lock);
	part_drop(part);
	pthread_mutex_unlock(&part->pool->lock);
}

struct part *part_hold_next(struct lcpfs_pool *pool, uint32_t *slot)
{
	struct part *part = NULL;
	pthread_mutex_lock(&pool->lock);
	for (; !part && *slot < pool->layout.partition_slots; ++*slot) {
		if (pool->parts[*slot] && pool->parts[*slot]->store && !pool->parts[*slot]->removing)
			part = pool->parts[*slot];
	}
	if (part)
		part_hold(part);
	pthread_mutex_unlock(&pool->lock);
	return part;
}

/* -- loading -- */

static struct part *part_new(struct lcpfs_pool *pool, uint32_t slot, uint32_t id)
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
	if (!part->volume_blocks || part->volume_blocks > VOLUME_BLOCKS_MAX ||
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
			 "it uses a feature that this lcpfs can only read, in a pool that is open only for reading; "
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

/* -- stores -- */

static struct store_config config_of(struct part *part)
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
		.need_space = pool->options.read_only ? NULL : emergency_need_space,
		.context = part,
	};
	for (unsigned slot = 0; slot < 2; slot++) {
		for (unsigned copy = 0; copy < COPIES; copy++)
			config.root_block[slot][copy] = layout_root_block(&pool->layout, copy, part->slot, slot);
	}
	return config;
}

static uint32_t *list_metaslabs(const struct part *part)
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
	struct store_config config = config_of(part);
	uint32_t *metaslabs = list_metaslabs(part);
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

/* -- adding -- */

static int check_order(uint64_t min_bytes, uint64_t max_bytes, uint64_t size_bytes, struct lcpfs_failure *failure)
{
	if (min_bytes > max_bytes)
		return failure_set(failure, LCPFS_E_INVALID, "min is larger than max");
	if (size_bytes < min_bytes || size_bytes > max_bytes)
		return failure_set(failure, LCPFS_E_INVALID, "size is not between min and max");
	return 0;
}

int part_check_volume(const struct part_plan *plan, struct lcpfs_failure *failure)
{
	uint64_t blocks = size_divide_up(plan->volume_bytes, BLOCK_SIZE);
	char volume[WORDS_ROOM], max[WORDS_ROOM];
	if (blocks > VOLUME_BLOCKS_MAX)
		return failure_set(failure, LCPFS_E_INVALID, "the volume is too large: it can have up to 4 PiB");
	if (blocks <= plan->max_data_blocks || plan->may_be_thin)
		return 0;
	return failure_set(
		failure, LCPFS_E_INVALID,
		"a volume of %s cannot be filled with a max of %s: give a max that is as large, or --thin "
		"if that is meant",
		words_blocks(volume, (double)blocks), words_blocks(max, (double)plan->max_data_blocks));
}

/* Sizes of user data. */
static int plan_of_data(const struct lcpfs_pool *pool, const struct lcpfs_partition_spec *spec,
			struct part_plan *plan, struct lcpfs_failure *failure)
{
	uint64_t size_bytes = spec->size_bytes ? spec->size_bytes : spec->min_bytes;
	int error = check_order(spec->min_bytes, spec->max_bytes, size_bytes, failure);
	*plan = (struct part_plan){
		.min_data_blocks = size_divide_up(spec->min_bytes, BLOCK_SIZE),
		.max_data_blocks = size_divide_up(spec->max_bytes, BLOCK_SIZE),
		.volume_bytes = spec->volume_bytes ? spec->volume_bytes : spec->max_bytes,
		.when_full_wait_s = spec->when_full_wait_s,
		.may_be_thin = spec->thin,
	};
	if (!error && !plan->volume_bytes)
		error = failure_set(failure, LCPFS_E_INVALID, "min and max are missing");
	if (!error && spec->when_full_wait_s > LCPFS_WAIT_S_MAX)
		error = failure_set(failure, LCPFS_E_INVALID, "a writer can wait for room for up to a day");
	if (!error)
		error = part_check_volume(plan, failure);
	plan->min = size_for_data(pool, plan->min_data_blocks);
	plan->max = size_for_data(pool, plan->max_data_blocks);
	plan->size = size_for_data(pool, size_divide_up(size_bytes, BLOCK_SIZE));
	return error;
}

static int refuse_small_min(const struct lcpfs_pool *pool, struct lcpfs_failure *failure)
{
	uint64_t least = (uint64_t)STORE_METASLABS_MIN * pool->layout.metaslab_blocks * BLOCK_SIZE >> 20;
	return failure_set(failure, LCPFS_E_INVALID,
			   "min is too small: a partition of this pool has at least %" PRIu64 "M (%d metaslabs)",
			   least, STORE_METASLABS_MIN);
}

/* Sizes of space. */
static int plan_of_space(const struct lcpfs_pool *pool, const struct lcpfs_partition_spec *spec,
			 struct part_plan *plan, struct lcpfs_failure *failure)
{
	uint64_t metaslab_bytes = (uint64_t)pool->layout.metaslab_blocks * BLOCK_SIZE;
	uint64_t size_bytes = spec->size_bytes ? spec->size_bytes : spec->min_bytes;
	int error = check_order(spec->min_bytes, spec->max_bytes, size_bytes, failure);
	if (error)
		return error;
	*plan = (struct part_plan){
		.min = size_divide_up(spec->min_bytes, metaslab_bytes),
		.max = spec->max_bytes / metaslab_bytes,
		.size = size_divide_up(size_bytes, metaslab_bytes),
		.when_full_wait_s = spec->when_full_wait_s,
		.may_be_thin = spec->thin,
	};
	if (plan->min < STORE_METASLABS_MIN)
		return refuse_small_min(pool, failure);
	if (plan->min > plan->max)
		return failure_set(failure, LCPFS_E_INVALID,
				   "max is below min when both are whole metaslabs of %" PRIu64 "M",
				   metaslab_bytes >> 20);
	plan->size = MIN_OF(plan->size, plan->max);
	plan->min_data_blocks = size_data_in(pool, plan->min);
	plan->max_data_blocks = size_data_in(pool, plan->max);
	plan->volume_bytes = spec->volume_bytes ? spec->volume_bytes
			     : spec->thin       ? spec->max_bytes
						: plan->max_data_blocks * BLOCK_SIZE;
	return part_check_volume(plan, failure);
}

int part_check_name(const struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure)
{
	if (!part_name_is_valid(name))
		return failure_set(failure, LCPFS_E_INVALID,
				   "a partition's name is 1 to 63 of A-Z a-z 0-9 . _ - and "
				   "does not start with . or -");
	if (part_named(pool, name))
		return failure_set(failure, LCPFS_E_EXISTS, "partition %s exists already", name);
	return clone_refuse_name(pool, name, failure);
}

static int free_slot(const struct lcpfs_pool *pool, uint32_t *slot, struct lcpfs_failure *failure)
{
	for (*slot = 0; *slot < pool->layout.partition_slots; ++*slot) {
		if (!pool->parts[*slot] && !pool->lost[layout_partition_page(&pool->layout, *slot)])
			return 0;
	}
	return failure_set(failure, LCPFS_E_NOSPC, "the pool has all the %" PRIu32 " partitions that it can have",
			   pool->layout.partition_slots);
}

int part_check_min_sum(const struct lcpfs_pool *pool, uint64_t min, const struct part *but,
		       struct lcpfs_failure *failure)
{
	uint64_t sum = 0, total = layout_pool_blocks(&pool->layout);
	uint32_t metaslab_blocks = pool->layout.metaslab_blocks;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (pool->parts[slot] && pool->parts[slot] != but)
			sum += MIN_OF(pool->parts[slot]->min_blocks, total);
	}
	if (min <= total / metaslab_blocks && sum + min * metaslab_blocks <= total)
		return 0;
	return failure_set(
		failure, LCPFS_E_NOSPC,
		"the min of all partitions would add up to more than the pool: there is room left for a "
		"min of %" PRIu64 "M",
		size_data_in(pool, (total - MIN_OF(sum, total)) / metaslab_blocks) * BLOCK_SIZE >> 20);
}

static int check_free(const struct lcpfs_pool *pool, struct part_plan *plan, struct lcpfs_failure *failure)
{
	uint64_t metaslab_bytes = (uint64_t)pool->layout.metaslab_blocks * BLOCK_SIZE;
	plan->missing = plan->size - MIN_OF(plan->size, (uint64_t)map_available(pool));
	if (!plan->missing)
		return 0;
	return failure_set(failure, LCPFS_E_NOSPC,
			   "only %" PRIu64 "M of the pool are free, with room for %" PRIu64
			   "M of data; shrink a partition, or give a smaller size",
			   map_available(pool) * metaslab_bytes >> 20,
			   size_data_in(pool, map_available(pool)) * BLOCK_SIZE >> 20);
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

static int format_store(struct part *part, const uint32_t *metaslabs, uint32_t count,
			struct lcpfs_failure *failure)
{
	struct store_config config = config_of(part);
	int error = store_format(&config, part->volume_blocks, metaslabs, count);
	if (error)
		failure_set(failure, (enum lcpfs_error) - error, "partition %s: writing its roots failed: %s",
			    part->name, lcpfs_error_sentence(error));
	return error;
}

static int commit_part(struct part *part, const uint32_t *metaslabs, uint32_t count, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = part->pool;
	uint32_t events = pool->pending.count;
	char size[WORDS_ROOM], min[WORDS_ROOM], max[WORDS_ROOM];
	struct txg txg;
	pool->parts[part->slot] = part; /* so that its metaslabs are counted */
	words_blocks(size, (double)count * pool->layout.metaslab_blocks);
	words_blocks(min, (double)part->min_data_blocks);
	words_blocks(max, (double)part->max_data_blocks);
	history_note(pool, LCPFS_EVENT_ADDED, LCPFS_ENGINE_FREE, part->id, count,
		     "%s: min %s, max %s; it got %s of the pool", part->name, min, max, size);
	txg_begin(pool, &txg);
	part_fill_page(&txg, part);
	for (uint32_t i = 0; i < count; i++)
		map_set(&txg, metaslabs[i], part->id);
	txg.uberblock.partition_next = le32_of(part->id + 1);
	int error = txg_commit(&txg, failure);
	if (error) {
		pool->parts[part->slot] = NULL;
		pool->pending.count = MIN_OF(pool->pending.count, events);
	}
	return error;
}

/* From here on it is there; that its store does not open makes it faulted, not absent. */
static int bring_up(struct part *part, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = part->pool;
	size_t cache_bytes = pool->cache_left / 2;
	int error = keeper_add_part(pool, part);
	if (error)
		return failure_set(failure, (enum lcpfs_error) - error,
				   "partition %s was added, but the engine does not "
				   "take it: %s",
				   part->name, lcpfs_error_sentence(error));
	pool->cache_left -= cache_bytes;
	error = part_open_store(part, cache_bytes, failure);
	if (!error)
		part_start_service(part);
	return error;
}

/*
 * The next id that was never given out; UINT32_MAX: there is none. In a damaged pool a partition or the map may
 * have ids that the uberblock does not know of: what has such an id must not become one with a new partition.
 */
static uint32_t unused_id(const struct lcpfs_pool *pool)
{
	uint32_t id = le32_get(pool->uberblock.partition_next);
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (pool->parts[slot] && pool->parts[slot]->id >= id)
			id = pool->parts[slot]->id + (pool->parts[slot]->id < UINT32_MAX);
	}
	for (uint32_t m = 0; m < pool->layout.metaslab_count; m++) {
		if (map_owner(pool, m) >= id)
			id = map_owner(pool, m) + (map_owner(pool, m) < UINT32_MAX);
	}
	return id;
}

static void take_plan(struct part *part, const char *name, const struct part_plan *plan)
{
	uint32_t metaslab_blocks = part->pool->layout.metaslab_blocks;
	snprintf(part->name, sizeof(part->name), "%s", name);
	part->min_blocks = plan->min * metaslab_blocks;
	part->max_blocks = plan->max * metaslab_blocks;
	part->volume_blocks = size_divide_up(plan->volume_bytes, BLOCK_SIZE);
	part->min_data_blocks = plan->min_data_blocks;
	part->max_data_blocks = plan->max_data_blocks;
	part->volume_bytes = plan->volume_bytes;
	part->when_full_wait_s = plan->when_full_wait_s;
}

static int add_planned(struct lcpfs_pool *pool, const char *name, const struct part_plan *plan, uint32_t slot,
		       struct lcpfs_failure *failure)
{
	uint32_t count = (uint32_t)plan->size;
	struct part *part = part_new(pool, slot, unused_id(pool));
	uint32_t *metaslabs = malloc(count * sizeof(*metaslabs));
	int error = 0;
	if (!part || !metaslabs) {
		free(metaslabs);
		part_free(part);
		return failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	}
	take_plan(part, name, plan);
	part->created_s = pool->clock.wall_s(pool->clock.context);
	CHECK(map_pick_free(pool, metaslabs, count) == count);
	error = format_store(part, metaslabs, count, failure);
	if (!error)
		error = commit_part(part, metaslabs, count, failure);
	free(metaslabs);
	if (error) {
		part_free(part);
		return error;
	}
	return bring_up(part, failure);
}

static int check_plan(struct lcpfs_pool *pool, const char *name, struct part_plan *plan, uint32_t *slot,
		      struct lcpfs_failure *failure)
{
	int error = part_check_name(pool, name, failure);
	if (!error)
		error = free_slot(pool, slot, failure);
	if (!error && unused_id(pool) == UINT32_MAX)
		error = failure_set(failure, LCPFS_E_NOSPC, "all partition ids were given out");
	if (!error)
		error = part_check_min_sum(pool, plan->min, NULL, failure);
	if (!error)
		error = check_free(pool, plan, failure);
	return error;
}

static int add_locked(struct lcpfs_pool *pool, const char *name, struct part_plan *plan,
		      struct lcpfs_failure *failure)
{
	uint32_t slot = 0;
	int error = txg_refuse(pool, failure);
	if (!error)
		error = check_plan(pool, name, plan, &slot, failure);
	return error ? error : add_planned(pool, name, plan, slot, failure);
}

static int add(struct lcpfs_pool *pool, const char *name, struct part_plan *plan, struct lcpfs_failure *failure)
{
	pthread_mutex_lock(&pool->lock);
	int error = add_locked(pool, name, plan, failure);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

static int add_making_room(struct lcpfs_pool *pool, const char *name, struct part_plan *plan,
			   struct lcpfs_failure *failure)
{
	int error = add(pool, name, plan, failure);
	if (!error || !plan->missing)
		return error;
	move_make_room(pool, plan->missing, LCPFS_ENGINE_FREE);
	return add(pool, name, plan, failure);
}

int lcpfs_partition_add(struct lcpfs_pool *pool, const struct lcpfs_partition_spec *spec,
			struct lcpfs_failure *failure)
{
	struct part_plan plan;
	int error = plan_of_data(pool, spec, &plan, failure);
	return error ? error : add_making_room(pool, spec->name, &plan, failure);
}

int pool_add_of_space(struct lcpfs_pool *pool, const struct lcpfs_partition_spec *spec,
		      struct lcpfs_failure *failure)
{
	struct part_plan plan;
	int error = plan_of_space(pool, spec, &plan, failure);
	return error ? error : add_making_room(pool, spec->name, &plan, failure);
}

/* What is missing is there as soon as discards are done, or others may give it. */
static int weigh_missing(struct lcpfs_pool *pool, const struct part_plan *plan, int error,
			 struct lcpfs_failure *failure)
{
	if (!plan->missing || plan->missing <= pool->blocked_count)
		return plan->missing ? 0 : error;
	return move_refuse_unsure(pool, error, failure);
}

/* With the lock: what it would be. */
static void foresee_added(struct lcpfs_pool *pool, const char *name, const struct part_plan *plan,
			  struct lcpfs_partition_info *info)
{
	struct part part = {.pool = pool, .id = unused_id(pool), .metaslabs = (uint32_t)plan->size};
	take_plan(&part, name, plan);
	info_of_part(info, &part);
	info->faulted = false;
}

int pool_try_add(struct lcpfs_pool *pool, const struct lcpfs_partition_spec *spec, bool of_space,
		 struct lcpfs_partition_info *info, struct lcpfs_failure *failure)
{
	struct part_plan plan;
	uint32_t slot;
	int error = (of_space ? plan_of_space : plan_of_data)(pool, spec, &plan, failure);
	if (error)
		return error;
	pthread_mutex_lock(&pool->lock);
	error = txg_refuse_trying(pool, failure);
	if (!error)
		error = check_plan(pool, spec->name, &plan, &slot, failure);
	if (error)
		error = weigh_missing(pool, &plan, error, failure);
	if (!error)
		foresee_added(pool, spec->name, &plan, info);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

/* -- removing -- */

/* Does who asked for the removal still want it? It may have given up meanwhile. */
static int check_wish(const struct pool_removal *how, struct lcpfs_failure *failure)
{
	if (!how->wanted || how->wanted(how->context, 0, 0))
		return 0;
	return failure_set(failure, LCPFS_E_STOPPED, "given up: nothing was removed");
}

/* With the lock, which it lets go meanwhile. Until moves and scrubs under way are done with it. */
static int await_unused(struct part *part, const struct pool_removal *how, struct lcpfs_failure *failure)
{
	struct timespec pause = {.tv_nsec = WISH_US * 1000};
	struct lcpfs_pool *pool = part->pool;
	int error = 0;
	while (part->users && !error) {
		if (!how->wanted) {
			pthread_cond_wait(&pool->changed, &pool->lock);
			continue;
		}
		pthread_mutex_unlock(&pool->lock);
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&pool->lock);
		error = check_wish(how, failure);
	}
	return error;
}

static int check_empty(const struct part *part, const struct lcpfs_partition_info *info,
		       struct lcpfs_failure *failure)
{
	char data[WORDS_ROOM], snapshots[200], clones[100];
	if (info->faulted)
		return failure_set(failure, LCPFS_E_NOT_EMPTY,
				   "partition %s is faulted, and may hold data; --force removes it all the same",
				   part->name);
	words_blocks(data, (double)info->data_blocks);
	if (info->clones) {
		clone_print_some(part, 0, clones, sizeof(clones));
		return failure_set(failure, LCPFS_E_NOT_EMPTY,
				   "partition %s has %" PRIu64 " clone%s (%s) and holds %s of data; --force "
				   "removes it with all of them, and with its snapshots",
				   part->name, info->clones, info->clones == 1 ? "" : "s", clones, data);
	}
	if (info->snapshots) {
		snapshot_print_some(part, snapshots, sizeof(snapshots));
		return failure_set(failure, LCPFS_E_NOT_EMPTY,
				   "partition %s has %" PRIu64
				   " snapshot%s (%s) and holds %s of data; --force removes "
				   "it with all of them",
				   part->name, info->snapshots, info->snapshots == 1 ? "" : "s", snapshots, data);
	}
	if (!info->data_blocks)
		return 0;
	return failure_set(failure, LCPFS_E_NOT_EMPTY,
			   "partition %s holds %s of data; --force removes it all the same", part->name, data);
}

/* What can be told without doing anything. */
static int check_removal(struct part *part, const struct pool_removal *how,
			 const struct lcpfs_partition_info *info, struct lcpfs_failure *failure)
{
	if (part->clients)
		return failure_set(failure, LCPFS_E_BUSY,
				   "partition %s is in use by %" PRIu32 " client%s; disconnect "
				   "%s first",
				   part->name, part->clients, part->clients == 1 ? "" : "s",
				   part->clients == 1 ? "it" : "them");
	if (part->removing)
		return failure_set(failure, LCPFS_E_BUSY, "partition %s is being removed already", part->name);
	int error = part->store ? snapshot_refuse_held(part, failure) : 0;
	return !error && how->only_empty ? check_empty(part, info, failure) : error;
}

/* With the lock. From here on no client gets in, so an empty one stays so. */
static int begin_removing(struct part *part, const struct pool_removal *how, struct lcpfs_partition_info *info,
			  struct lcpfs_failure *failure)
{
	info_of_part(info, part);
	int error = check_removal(part, how, info, failure);
	if (error || how->dry_run)
		return error;
	part->removing = true;
	error = await_unused(part, how, failure);
	if (!error && part->store) /* who was waited for may have held one */
		error = snapshot_refuse_held(part, failure);
	part->removing = !error;
	return error;
}

static int commit_removal(struct part *part, const uint32_t *metaslabs, uint32_t count,
			  struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = part->pool;
	uint32_t events = pool->pending.count;
	char size[WORDS_ROOM];
	struct txg txg;
	history_note(pool, LCPFS_EVENT_REMOVED, part->id, LCPFS_ENGINE_FREE, count, "%s, whose %s are free now",
		     part->name, words_blocks(size, (double)count * pool->layout.metaslab_blocks));
	txg_begin(pool, &txg);
	memset(txg_change(&txg, layout_partition_page(&pool->layout, part->slot)), 0, BLOCK_SIZE);
	for (uint32_t i = 0; i < count; i++)
		map_set(&txg, metaslabs[i], NO_PARTITION);
	int error = txg_commit(&txg, failure);
	if (error) {
		pool->pending.count = MIN_OF(pool->pending.count, events);
		return error;
	}
	for (uint32_t i = 0; i < count; i++)
		pool->blocked[metaslabs[i]] = 1;
	pool->blocked_count += count;
	return 0;
}

/* With the lock; nothing works on the store any more. */
static int remove_quiet(struct part *part, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = part->pool;
	uint32_t *metaslabs = list_metaslabs(part);
	if (!metaslabs)
		return failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	int error = commit_removal(part, metaslabs, part->metaslabs, failure);
	free(metaslabs);
	if (error)
		return error;
	pool->parts[part->slot] = NULL;
	lcpfs_engine_remove(pool->engine, part->id);
	if (part->store)
		store_abandon(part->store);
	pool->cache_left += part->cache_bytes;
	part->store = NULL;
	part_free(part);
	return 0;
}

/* With the lock: *part is marked as being removed, if it is more than a dry run. */
static int find_to_remove(struct lcpfs_pool *pool, const char *name, const struct pool_removal *how,
			  struct part **part, struct lcpfs_partition_info *info, struct lcpfs_failure *failure)
{
	int error = (how->dry_run ? txg_refuse_trying : txg_refuse)(pool, failure);
	if (error)
		return error;
	struct store_clone clone;
	*part = part_named(pool, name);
	if (!*part && clone_find(pool, name, &clone))
		return failure_set(failure, LCPFS_E_INVALID,
				   "%s is a clone, and no partition: lcpfs destroy destroys it", name);
	if (!*part)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no partition %s", name);
	return begin_removing(*part, how, info, failure);
}

static int remove_begun(struct part *part, const struct pool_removal *how, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = part->pool;
	part_stop_service(part); /* not under the lock: it may be waiting for space */
	pthread_mutex_lock(&pool->lock);
	int error = check_wish(how, failure); /* the last moment */
	if (!error)
		error = remove_quiet(part, failure);
	if (error) {
		part->removing = false;
		part_start_service(part);
	}
	pthread_mutex_unlock(&pool->lock);
	if (!error && !pool->options.background)
		map_discard(pool, UINT32_MAX);
	return error;
}

int pool_remove(struct lcpfs_pool *pool, const char *name, const struct pool_removal *how,
		struct lcpfs_partition_info *info, struct lcpfs_failure *failure)
{
	struct lcpfs_partition_info unasked;
	struct part *part;
	pthread_mutex_lock(&pool->lock);
	int error = find_to_remove(pool, name, how, &part, info ? info : &unasked, failure);
	pthread_mutex_unlock(&pool->lock);
	return error || how->dry_run ? error : remove_begun(part, how, failure);
}

int lcpfs_partition_remove(struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure)
{
	return pool_remove(pool, name, &(struct pool_removal){.only_empty = false}, NULL, failure);
}
