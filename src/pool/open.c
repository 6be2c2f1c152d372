/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening and closing a pool.
 *
 * Opening: label, uberblock, pool pages, partitions, engine, stores, threads, in this order. What is damaged in
 * one copy is repaired on the way when the pool may be written. A partition that fails is faulted and the rest
 * goes on; only a lost label, uberblock or map keep the pool from opening.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/core.h"
#include "pool/guard.h"
#include "vdev/ghost.h"

enum { MARK_BYTES = 64 << 20 };

enum {
	CACHE_BYTES_DEFAULT = 256 << 20,
	CACHE_NEWCOMERS = 8, /* this share of the cache is kept for partitions that are added later */
	GHOSTS_SHARE = 64,   /* and this one is for what was read lately: 256 MiB are enough for 8 GiB */
};

/* -- the pool's own memory -- */

static bool allocate(struct lcpfs_pool *pool)
{
	const struct layout *l = &pool->layout;
	pool->pages = calloc(layout_page_count(l), BLOCK_SIZE);
	pool->lost = calloc(layout_page_count(l), sizeof(*pool->lost));
	pool->scratch = malloc(BLOCK_SIZE);
	pool->parts = calloc(l->partition_slots, sizeof(struct part *));
	pool->blocked = calloc(layout_metaslabs_max(l), 1);
	pool->vdev = guard_new(pool->device, claimant_claim(pool->claimant), &pool->clock, host_refused, pool);
	return pool->pages && pool->lost && pool->scratch && pool->parts && pool->blocked && pool->vdev;
}

static void init_locks(struct lcpfs_pool *pool)
{
	pthread_condattr_t attributes;
	pthread_mutex_init(&pool->lock, NULL);
	pthread_mutex_init(&pool->round, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&pool->changed, &attributes);
	pthread_condattr_destroy(&attributes);
}

void pool_free(struct lcpfs_pool *pool)
{
	for (uint32_t slot = 0; pool->parts && slot < pool->layout.partition_slots; slot++)
		part_free(pool->parts[slot]);
	lcpfs_engine_destroy(pool->engine);
	vdev_close(pool->vdev);
	if (pool->owns_device)
		vdev_close(pool->device);
	free(pool->pages);
	free(pool->lost);
	free(pool->scratch);
	free(pool->parts);
	free(pool->blocked);
	free(pool->pending.list);
	free(pool->samples.list);
	ghosts_free(pool->ghosts);
	pthread_cond_destroy(&pool->changed);
	pthread_mutex_destroy(&pool->round);
	pthread_mutex_destroy(&pool->lock);
	free(pool);
}

/* Creating closes the pool once both labels are there. Growing writes the one in front first. */
static enum layout_crash crash_of(const struct lcpfs_pool *pool)
{
	if (!pool->was_open)
		return LAYOUT_CLOSED;
	return le64_get(pool->uberblock.txg) == 1 ? LAYOUT_BOTH : LAYOUT_BACK;
}

int pool_new(struct vdev *vdev, const struct clock *clock, const struct lcpfs_open_options *options,
	     struct claimant *claimant, struct report *report, struct lcpfs_pool **out,
	     struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = calloc(1, sizeof(*pool));
	*out = NULL;
	if (!pool)
		return failure_set(failure, LCPFS_E_NOMEM, "%s: out of memory", vdev->name);
	init_locks(pool);
	pool->device = vdev;
	pool->clock = *clock;
	pool->options = *options;
	pool->claimant = claimant;
	pool->mark_bytes = MARK_BYTES;
	atomic_init(&pool->host.is_full, false);
	atomic_init(&pool->host.unnoted, false);
	int error = layout_read(vdev, &pool->layout, failure);
	if (!error && !options->read_only)
		error = layout_refuse_writing(&pool->layout, vdev->name, failure);
	if (!error && !allocate(pool))
		error = failure_set(failure, LCPFS_E_NOMEM, "%s: out of memory", vdev->name);
	if (!error && !options->read_only)
		may_fail(layout_reserve(pool->vdev, &pool->layout)); /* one of a version that did not */
	if (!error)
		error = txg_load(pool, report, failure);
	if (!error)
		layout_verify(pool->vdev, &pool->layout, crash_of(pool), report);
	if (!error && part_load_all(pool, report))
		error = failure_set(failure, LCPFS_E_NOMEM, "%s: out of memory", vdev->name);
	if (error) {
		pool_free(pool);
		return error;
	}
	*out = pool;
	return 0;
}

/* -- opening -- */

struct notes { /* of damage, before there is a pool to keep them */
	uint64_t damaged, repaired;
	char text[160];
};

static void note_damage(void *context, uint64_t block, bool repaired, const char *text)
{
	struct notes *notes = context;
	(void)block;
	notes->damaged++;
	notes->repaired += repaired;
	if (!notes->text[0])
		snprintf(notes->text, sizeof(notes->text), "%.*s", (int)sizeof(notes->text) - 1, text);
}

static void keep_notes(struct lcpfs_pool *pool, const struct notes *notes)
{
	pool->damaged = notes->damaged;
	pool->repaired = notes->repaired;
	memcpy(pool->damage_text, notes->text, sizeof(pool->damage_text));
	if (notes->damaged)
		history_note(pool, LCPFS_EVENT_DAMAGE, 0, 0, 0,
			     "%" PRIu64 " damaged blocks of the pool's metadata, %" PRIu64 " repaired; %s",
			     notes->damaged, notes->repaired, notes->text);
}

static int check_map_is_there(const struct lcpfs_pool *pool, struct lcpfs_failure *failure)
{
	for (uint32_t page = 0; page < pool->layout.map_pages; page++) {
		if (pool->lost[page])
			return failure_set(failure, LCPFS_E_CORRUPT,
					   "%s: page %" PRIu32 " of the metaslab map is damaged "
					   "in both copies; who owns what cannot be told",
					   pool->device->name, page);
	}
	return 0;
}

/* All share the cache; what is over is for partitions to come. */
static void open_stores(struct lcpfs_pool *pool)
{
	uint64_t kept = le64_get(pool->uberblock.cache_bytes);
	size_t total = pool->options.cache_bytes      ? pool->options.cache_bytes
		       : kept && kept <= SIZE_MAX / 2 ? (size_t)kept
						      : CACHE_BYTES_DEFAULT;
	uint32_t count = 0;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++)
		count += pool->parts[slot] != NULL;
	size_t ghosts = total / GHOSTS_SHARE;
	pool->ghosts = ghosts_new(ghosts);
	total -= ghosts;
	pool->cache_left = total;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		size_t share = (total - total / CACHE_NEWCOMERS) / MAX_OF(count, 1u);
		struct part *part = pool->parts[slot];
		struct lcpfs_failure why = {0};
		if (!part)
			continue;
		pool->cache_left -= share;
		if (!part_open_store(part, share, &why)) {
			clone_settle_promotion(part);
			continue;
		}
		books_fix_size(pool, part);
		history_note(pool, LCPFS_EVENT_DAMAGE, part->id, 0, 0, "%.300s", why.message);
	}
}

static void start_threads(struct lcpfs_pool *pool)
{
	books_measure(pool, false); /* what comes from here on is measured */
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (pool->parts[slot])
			part_start_service(pool->parts[slot]);
	}
	keeper_start(pool);
}

static int bring_up(struct lcpfs_pool *pool, struct lcpfs_failure *failure)
{
	int error = check_map_is_there(pool, failure);
	if (error)
		return error;
	error = keeper_start_engine(pool);
	if (error)
		return failure_set(failure, (enum lcpfs_error) - error, "%s: the engine does not start: %s",
				   pool->device->name, lcpfs_error_sentence(error));
	if (!pool->options.read_only) {
		struct report quiet = {.repair = true};
		lease_verify(pool, &quiet);
	}
	open_stores(pool);
	if (pool->options.tune_given && !pool->options.read_only)
		error = lcpfs_pool_set_tune(pool, pool->options.tune, failure);
	return error;
}

static int open_claimed(struct vdev *vdev, const struct clock *clock, const struct lcpfs_open_options *options,
			struct claimant *claimant, struct lcpfs_pool **pool, struct lcpfs_failure *failure)
{
	struct notes notes = {0};
	struct report report = {.found = note_damage, .context = &notes, .repair = !options->read_only};
	vdev_scattered(vdev, true); /* a header for each record since the checkpoint, and each page by itself */
	int error = pool_new(vdev, clock, options, claimant, &report, pool, failure);
	if (!error) {
		keep_notes(*pool, &notes);
		error = bring_up(*pool, failure);
	}
	vdev_scattered(vdev, false);
	if (!*pool)
		return error;
	if (error) {
		(*pool)->claimant = NULL; /* the caller's again */
		pool_abandon(*pool);
		*pool = NULL;
		return error;
	}
	if (!options->read_only)
		(*pool)->was_open = false; /* what a crash left behind is settled */
	if (claimant)
		claimant_set_pool(claimant, *pool);
	start_threads(*pool);
	return 0;
}

int pool_open_vdev(struct vdev *vdev, const struct clock *clock, const struct lcpfs_open_options *options,
		   struct lcpfs_pool **pool, struct lcpfs_failure *failure)
{
	return open_claimed(vdev, clock, options, NULL, pool, failure);
}

/* Before anything is written, and for reading, too: what another writes meanwhile would look like damage. */
static int claim(struct vdev *vdev, const struct lcpfs_open_options *options, struct claimant **claimant,
		 struct lcpfs_failure *failure)
{
	*claimant = NULL;
	return options->read_only ? claimant_look(vdev, options, failure)
				  : claimant_new(vdev, options, claimant, failure);
}

int lcpfs_pool_open(const char *path, const struct lcpfs_open_options *options, struct lcpfs_pool **pool,
		    struct lcpfs_failure *failure)
{
	static const struct lcpfs_open_options defaults;
	const struct lcpfs_open_options *o = options ? options : &defaults;
	unsigned flags = (o->read_only ? VDEV_OPEN_READ_ONLY : 0u) | (o->no_uring ? VDEV_OPEN_NO_URING : 0u) |
			 (o->no_wait ? VDEV_OPEN_NO_WAIT : 0u);
	struct claimant *claimant = NULL;
	struct vdev *vdev;
	int error = lease_open_device(path, flags, 0, &vdev, failure);
	*pool = NULL;
	if (error)
		return error;
	error = claim(vdev, o, &claimant, failure);
	if (!error)
		error = open_claimed(vdev, &clock_system, o, claimant, pool, failure);
	if (error) {
		claimant_end(claimant, true);
		vdev_close(vdev);
		return error;
	}
	(*pool)->owns_device = true;
	return 0;
}

/* -- closing -- */

static int close_stores(struct lcpfs_pool *pool, struct lcpfs_failure *failure)
{
	int first = 0;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		struct part *part = pool->parts[slot];
		if (!part || !part->store)
			continue;
		CHECK(!part->clients); /* handles are closed before */
		part_stop_service(part);
		int error = store_close(part->store);
		part->store = NULL;
		if (error && !first)
			first = failure_set(failure, (enum lcpfs_error) - error,
					    "partition %s: not everything is durable: %s", part->name,
					    lcpfs_error_sentence(error));
	}
	return first;
}

static int last_words(struct lcpfs_pool *pool, struct lcpfs_failure *failure)
{
	struct txg txg;
	int error = 0;
	if (pool->lease_set && !pool->claimant)
		error = lease_write(pool->vdev, &pool->layout, 0, "", "");
	if (error)
		return failure_set(failure, (enum lcpfs_error) - error, "%s: the lease cannot be written",
				   pool->device->name);
	pthread_mutex_lock(&pool->lock);
	emergency_note_due(pool, true);
	host_look(pool);
	txg_begin(pool, &txg);
	keeper_save(&txg);
	if (txg.count || txg.error || pool->pending.count)
		error = txg_commit(&txg, failure);
	else
		txg_abort(&txg);
	if (!error && txg_mark_open(pool, false))
		error = failure_set(failure, LCPFS_E_IO, "%s: the uberblock cannot be written",
				    pool->device->name);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

int lcpfs_pool_close(struct lcpfs_pool *pool, struct lcpfs_failure *failure)
{
	if (!pool)
		return 0;
	keeper_stop(pool);
	if (!pool->options.read_only) {
		map_discard(pool, UINT32_MAX);
		books_measure_last(pool);
	}
	int error = close_stores(pool, failure);
	/* Without this the next opening takes it for a crash, which is right when something went wrong. */
	if (!error && !txg_refuse(pool, NULL))
		error = last_words(pool, failure);
	else if (!error && pool->suspended)
		error = txg_refuse(pool, failure);
	claimant_end(pool->claimant, true); /* the very last that is written */
	pool_free(pool);
	return error;
}

void pool_abandon(struct lcpfs_pool *pool)
{
	if (!pool)
		return;
	keeper_stop(pool);
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		struct part *part = pool->parts[slot];
		if (!part || !part->store)
			continue;
		part_stop_service(part);
		store_abandon(part->store);
		part->store = NULL;
	}
	claimant_end(pool->claimant, false);
	pool_free(pool);
}
