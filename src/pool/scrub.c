/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scrub: the pool's own structures in both copies, then every partition's store, one after the other, beside
 * clients.
 *
 * Pool pages are verified one at a time with the pool's lock, so that no transaction changes one meanwhile. A
 * partition that is to be removed ends its scrub early rather than waiting for it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "pool/core.h"

enum { EVENTS_MAX = 8 }; /* damage lines in the history per scrub; the count is in the last one */

struct scrub {
	struct lcpfs_pool *pool;
	struct lcpfs_care *care;
	struct part *part;    /* NULL: the pool's own structures */
	uint64_t done, total; /* blocks, over all partitions */
	unsigned events;
	bool stopped;
};

static void found(struct scrub *scrub, struct lcpfs_finding *finding)
{
	struct lcpfs_care *care = scrub->care;

	care->damaged++;
	care->repaired += finding->repaired;
	if (care->found)
		care->found(care->context, finding);
}

/* With the lock. */
static void note(struct scrub *scrub, const char *text)
{
	if (scrub->events++ < EVENTS_MAX)
		history_note(scrub->pool, LCPFS_EVENT_DAMAGE, scrub->part ? scrub->part->id : 0, 0, 0, "%.300s",
			     text);
}

static void found_in_pool(void *context, uint64_t block, bool repaired, const char *text)
{
	struct scrub *scrub = context;
	struct lcpfs_finding finding = {.repaired = repaired, .block = block, .address = UINT64_MAX};

	snprintf(finding.text, sizeof(finding.text), "%s", text);
	note(scrub, text);
	found(scrub, &finding);
}

static void found_in_store(void *context, const struct store_finding *f)
{
	struct scrub *scrub = context;
	struct lcpfs_finding finding = {
		.repaired = f->repaired,
		.data = f->data,
		.block = f->block,
		.address = f->address,
	};

	memcpy(finding.partition, scrub->part->name, sizeof(finding.partition));
	snprintf(finding.text, sizeof(finding.text), "%s", f->text);
	pthread_mutex_lock(&scrub->pool->lock);
	note(scrub, f->text);
	pthread_mutex_unlock(&scrub->pool->lock);
	found(scrub, &finding);
}

static bool progress(void *context, uint64_t done, uint64_t total)
{
	struct scrub *scrub = context;
	struct lcpfs_care *care = scrub->care;
	bool removing;

	(void)total;
	pthread_mutex_lock(&scrub->pool->lock);
	removing = scrub->part->removing || scrub->pool->stopping;
	pthread_mutex_unlock(&scrub->pool->lock);
	if (care->progress &&
	    !care->progress(care->context, scrub->done + done, MAX_OF(scrub->total, scrub->done + done)))
		scrub->stopped = true;
	return !removing && !scrub->stopped;
}

static int scrub_pool(struct scrub *scrub, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = scrub->pool;
	struct report report = {.found = found_in_pool, .context = scrub, .repair = !pool->options.read_only};
	int error;

	pthread_mutex_lock(&pool->lock);
	report.repair = report.repair && !pool->suspended;
	layout_verify(pool->vdev, &pool->layout, false, &report);
	error = txg_verify_uberblocks(pool, &report);
	lease_verify(pool, &report);
	pthread_mutex_unlock(&pool->lock);
	for (uint32_t page = 0; !error && page < layout_page_count(&pool->layout); page++) {
		pthread_mutex_lock(&pool->lock);
		txg_verify_page(pool, page, &report);
		pthread_mutex_unlock(&pool->lock);
	}
	scrub->care->checked_blocks += report.checked_blocks;
	if (error)
		failure_set(failure, (enum lcpfs_error) - error, "%s: out of memory", pool->device->name);
	return error;
}

/* The next partition by slot, held; NULL: that was the last. */
static struct part *next_part(struct lcpfs_pool *pool, uint32_t *slot)
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

static uint64_t live_blocks(struct lcpfs_pool *pool)
{
	uint64_t sum = 0;

	pthread_mutex_lock(&pool->lock);
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		struct store_stats stats;

		if (!pool->parts[slot] || !pool->parts[slot]->store)
			continue;
		store_stats(pool->parts[slot]->store, &stats);
		sum += stats.live_blocks;
	}
	pthread_mutex_unlock(&pool->lock);
	return sum;
}

static int scrub_part(struct scrub *scrub, struct part *part, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = scrub->pool;
	struct store_walk walk = {
		.found = found_in_store,
		.progress = progress,
		.context = scrub,
		.repair = !pool->options.read_only,
		.data = true,
	};
	int error;

	scrub->part = part;
	error = store_scrub(part->store, &walk);
	scrub->done += walk.checked_blocks;
	scrub->care->checked_blocks += walk.checked_blocks;
	if (error == -LCPFS_E_STOPPED && !scrub->stopped)
		error = 0; /* it is being removed */
	if (error)
		failure_set(failure, (enum lcpfs_error) - error,
			    "partition %s: the scrub did not come to its end: %s", part->name,
			    lcpfs_error_sentence(error));
	return error;
}

static void remember(struct scrub *scrub)
{
	struct lcpfs_pool *pool = scrub->pool;

	pthread_mutex_lock(&pool->lock);
	pool->last_scrub_s = pool->clock.wall_s(pool->clock.context);
	pool->last_scrub_errors = scrub->care->damaged - scrub->care->repaired;
	scrub->part = NULL;
	if (scrub->events > EVENTS_MAX) {
		scrub->events = 0;
		history_note(pool, LCPFS_EVENT_DAMAGE, 0, 0, 0,
			     "the scrub found %" PRIu64 " damaged blocks in all and "
			     "repaired %" PRIu64,
			     scrub->care->damaged, scrub->care->repaired);
	}
	may_fail(history_flush(pool));
	pthread_mutex_unlock(&pool->lock);
}

int lcpfs_pool_scrub(struct lcpfs_pool *pool, struct lcpfs_care *care, struct lcpfs_failure *failure)
{
	struct scrub scrub = {.pool = pool, .care = care, .total = live_blocks(pool)};
	struct part *part;
	uint32_t slot = 0;
	int error;

	care->checked_blocks = care->damaged = care->repaired = 0;
	error = scrub_pool(&scrub, failure);
	while (!error && (part = next_part(pool, &slot))) {
		error = scrub_part(&scrub, part, failure);
		pthread_mutex_lock(&pool->lock);
		part_drop(part);
		pthread_mutex_unlock(&pool->lock);
	}
	remember(&scrub);
	return error;
}
