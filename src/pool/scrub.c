/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Scrub: the pool's own structures in both copies, then every partition's store, one after the other, beside
 * clients.
 *
 * Pool pages are verified one at a time with the pool's lock, so that no transaction changes one meanwhile; what
 * is found there is told when the lock is let go. A partition that is to be removed ends its scrub early rather
 * than waiting for it. What the last scrub found, and how many reads have met damage since, the uberblock keeps.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/words.h"
#include "pool/core.h"

enum { EVENTS_MAX = 8 }; /* damage lines in the history per scrub, and of failed reads per opening */

struct scrub {
	struct lcpfs_pool *pool;
	struct lcpfs_care *care;
	struct part *part;           /* NULL: the pool's own structures */
	uint64_t live;               /* blocks of `part` when it was begun */
	uint64_t done, total;        /* live blocks, over all partitions */
	struct lcpfs_finding *found; /* with the lock held, to be told without it */
	size_t found_count, found_room;
	unsigned events;
	bool stopped;
};

static void tell(struct scrub *scrub, const struct lcpfs_finding *finding)
{
	struct lcpfs_care *care = scrub->care;
	care->damaged++;
	care->repaired += finding->repaired;
	if (care->found)
		care->found(care->context, finding);
}

static void tell_all(struct scrub *scrub)
{
	for (size_t i = 0; i < scrub->found_count; i++)
		tell(scrub, &scrub->found[i]);
	scrub->found_count = 0;
}

/* With the lock. */
static void note(struct scrub *scrub, const char *text)
{
	if (scrub->events++ < EVENTS_MAX)
		history_note(scrub->pool, LCPFS_EVENT_DAMAGE, scrub->part ? scrub->part->id : 0, 0, 0, "%.300s",
			     text);
}

static bool make_room(struct scrub *scrub)
{
	size_t room = scrub->found_room ? 2 * scrub->found_room : 16;
	if (scrub->found_count < scrub->found_room)
		return true;
	struct lcpfs_finding *list = realloc(scrub->found, room * sizeof(*list));
	if (!list)
		return false;
	scrub->found = list;
	scrub->found_room = room;
	return true;
}

/* With the lock. Without memory it is counted, but not told. */
static void found_in_pool(void *context, uint64_t block, bool repaired, const char *text)
{
	struct scrub *scrub = context;
	struct lcpfs_finding finding = {.repaired = repaired, .block = block, .address = UINT64_MAX};
	snprintf(finding.text, sizeof(finding.text), "%s", text);
	note(scrub, text);
	if (make_room(scrub)) {
		scrub->found[scrub->found_count++] = finding;
	} else {
		scrub->care->damaged++;
		scrub->care->repaired += repaired;
	}
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
	tell(scrub, &finding);
}

/* A partition counts for what lived in it at first, whatever comes and goes meanwhile: so it ends at the total. */
static bool progress(void *context, uint64_t done, uint64_t total)
{
	struct scrub *scrub = context;
	struct lcpfs_care *care = scrub->care;
	double share = total ? (double)done / (double)total : 1;
	pthread_mutex_lock(&scrub->pool->lock);
	bool removing = scrub->part->removing || scrub->pool->stopping;
	pthread_mutex_unlock(&scrub->pool->lock);
	if (care->progress && !care->progress(care->context, scrub->done + (uint64_t)(share * (double)scrub->live),
					      scrub->total))
		scrub->stopped = true;
	return !removing && !scrub->stopped;
}

static int scrub_pool(struct scrub *scrub, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = scrub->pool;
	struct report report = {.found = found_in_pool, .context = scrub, .repair = !pool->options.read_only};
	pthread_mutex_lock(&pool->lock);
	report.repair = report.repair && !pool->suspended;
	layout_verify(pool->vdev, &pool->layout, LAYOUT_CLOSED, &report);
	int error = txg_verify_uberblocks(pool, &report);
	lease_verify(pool, &report);
	pthread_mutex_unlock(&pool->lock);
	tell_all(scrub);
	for (uint32_t page = 0; !error && page < layout_page_count(&pool->layout); page++) {
		pthread_mutex_lock(&pool->lock);
		txg_verify_page(pool, page, &report);
		pthread_mutex_unlock(&pool->lock);
		tell_all(scrub);
	}
	scrub->care->checked_blocks += report.checked_blocks;
	if (error)
		failure_set(failure, (enum lcpfs_error) - error, "%s: out of memory", pool->device->name);
	return error;
}

static uint64_t live_blocks(const struct part *part)
{
	struct store_stats stats;
	store_stats(part->store, &stats);
	return stats.live_blocks;
}

static uint64_t all_live_blocks(struct lcpfs_pool *pool)
{
	uint64_t sum = 0;
	pthread_mutex_lock(&pool->lock);
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++)
		sum += pool->parts[slot] && pool->parts[slot]->store ? live_blocks(pool->parts[slot]) : 0;
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
	scrub->part = part;
	scrub->live = live_blocks(part);
	scrub->total = MAX_OF(scrub->total, scrub->done + scrub->live);
	int error = store_scrub(part->store, &walk);
	scrub->done += scrub->live;
	scrub->care->checked_blocks += walk.checked_blocks;
	if (error == -LCPFS_E_STOPPED && !scrub->stopped)
		error = 0; /* it is being removed */
	if (error)
		failure_set(failure, (enum lcpfs_error) - error,
			    "partition %s: the scrub did not come to its end: %s", part->name,
			    lcpfs_error_sentence(error));
	return error;
}

/* In the uberblock, so that it is known after the next opening, too. With the lock. */
static void keep_result(struct scrub *scrub)
{
	struct lcpfs_pool *pool = scrub->pool;
	uint64_t read_errors = pool->read_errors;
	struct txg txg;
	pool->read_errors = 0;
	txg_begin(pool, &txg);
	txg.uberblock.scrub_s = le64_of(pool->clock.wall_s(pool->clock.context));
	txg.uberblock.scrub_found = le64_of(scrub->care->damaged);
	txg.uberblock.scrub_repaired = le64_of(scrub->care->repaired);
	if (txg_commit(&txg, NULL)) /* the caller has the result all the same */
		pool->read_errors = read_errors;
}

static void remember(struct scrub *scrub, bool ended)
{
	const struct lcpfs_care *care = scrub->care;
	struct lcpfs_pool *pool = scrub->pool;
	char read[WORDS_ROOM];
	pthread_mutex_lock(&pool->lock);
	if (!txg_refuse(pool, NULL)) {
		history_note(pool, LCPFS_EVENT_SCRUB, 0, 0, 0,
			     "%s%s verified, %" PRIu64 " damaged, %" PRIu64 " repaired",
			     ended ? "" : "stopped before its end: ",
			     words_blocks(read, (double)care->checked_blocks), care->damaged, care->repaired);
		pool->read_errors += ended ? 0 : care->damaged - care->repaired;
		if (ended)
			keep_result(scrub);
		else
			may_fail(history_flush(pool));
	}
	pthread_mutex_unlock(&pool->lock);
}

int lcpfs_pool_scrub(struct lcpfs_pool *pool, struct lcpfs_care *care, struct lcpfs_failure *failure)
{
	struct scrub scrub = {.pool = pool, .care = care, .total = all_live_blocks(pool)};
	struct part *part;
	uint32_t slot = 0;
	care->checked_blocks = care->damaged = care->repaired = 0;
	int error = scrub_pool(&scrub, failure);
	while (!error && (part = part_hold_next(pool, &slot))) {
		error = scrub_part(&scrub, part, failure);
		part_let_go(part);
	}
	if (!error && care->progress)
		care->progress(care->context, scrub.total, scrub.total);
	scrub.part = NULL;
	remember(&scrub, !error);
	free(scrub.found);
	return error;
}

void scrub_note_read_error(struct part *part, uint64_t offset, int error)
{
	struct lcpfs_pool *pool = part->pool;
	pthread_mutex_lock(&pool->lock);
	pool->read_errors++;
	if (pool->read_events++ < EVENTS_MAX)
		history_note(pool, LCPFS_EVENT_DAMAGE, part->id, 0, 0,
			     "a read at byte %" PRIu64 " of its volume failed: %s", offset,
			     lcpfs_error_sentence(error));
	pthread_mutex_unlock(&pool->lock);
}
