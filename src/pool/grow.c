/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Growing: the pool takes what its file or device has gained at its end, while clients work.
 *
 * The back area moves to the new end; metaslabs stay where they are, and new ones come behind them. In this order:
 *
 *  1. The new back area is written whole, all but the label, as everything is at this moment; flush.
 *  2. The front label says the new size; flush. It is believed before the back one, and what changes in it lies in
 *     one sector: so here the pool becomes large, wholly or not at all.
 *  3. The label in the new back area; flush. A crash before that leaves zeros there, or a part of it.
 *  4. The old back label is wiped. Its area is a part of free metaslabs now.
 *
 * A crash before 2 leaves the pool as it was: the old back area was not touched, and lies before all that was
 * written. That is why the device must have gained as much as an area has, at least.
 *
 * Meanwhile nobody changes what lies in the areas: each store's `work` is held (its roots), and the pool's lock
 * (pages, uberblocks, lease). The claim's owner and server cannot change either. Its renewals go on, and go to the
 * front copy, whose count may be ahead of the other's at any time.
 *
 * Locks: stores are held before the pool's lock is taken. Nobody waits for a store's `work` with that lock, but
 * for stores that no one else knows of.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "base/words.h"
#include "pool/core.h"
#include "pool/guard.h"

enum { CHUNK_BLOCKS = 256, HOLD_TRIES = 100, MIB = 1 << 20 };

struct grow {
	struct lcpfs_pool *pool;
	struct layout to;
	uint8_t *chunk;
	struct part **held;
	uint32_t held_count;
	struct lcpfs_failure *failure;
};

static int fail(const struct grow *g, int error, const char *what)
{
	return error ? failure_set(g->failure, (enum lcpfs_error) - error, "%s: %s: %s", g->pool->device->name,
				   what, lcpfs_error_sentence(error))
		     : 0;
}

/* -- a block of the new area -- */

struct copies {
	uint8_t block[COPIES][BLOCK_SIZE];
	bool good[COPIES];
};

static int read_copies(struct grow *g, uint64_t area_block, struct copies *copies)
{
	const struct layout *l = &g->pool->layout;
	int error = 0;
	bool any = false;
	for (unsigned copy = 0; copy < COPIES; copy++) {
		uint8_t *block = copies->block[copy];
		int failed = vdev_read(g->pool->vdev, layout_area_block(l, copy, area_block) * BLOCK_SIZE, block,
				       BLOCK_SIZE);
		unsigned kind = le16_get(((struct fmt_head *)block)->kind);
		copies->good[copy] = !failed && fmt_verify(block, kind, l->guid, UINT32_MAX) == FMT_GOOD;
		error = failed ? failed : error;
		any |= !failed;
	}
	return any ? 0 : error;
}

/* Of roots the higher generation; all else is the same in both copies, or not in use. */
static unsigned better_of(const struct copies *copies)
{
	const struct fmt_root *a = (const void *)copies->block[0], *b = (const void *)copies->block[1];
	if (!copies->good[0] || !copies->good[1])
		return copies->good[1];
	return le16_get(a->head.kind) == FMT_ROOT && le16_get(b->head.kind) == FMT_ROOT &&
	       le64_get(b->generation) > le64_get(a->generation);
}

/* What memory knows better than the device. NULL: it does not. */
static const void *known(const struct lcpfs_pool *pool, uint64_t area_block)
{
	uint64_t page = (area_block - AREA_PAGES) / 2, slot = (area_block - AREA_PAGES) % 2;
	if (area_block == AREA_UBERBLOCKS + le64_get(pool->uberblock.txg) % UBERBLOCK_SLOTS)
		return &pool->uberblock;
	if (area_block < AREA_PAGES || page >= layout_page_count(&pool->layout) || pool->lost[page] ||
	    slot != txg_slot(pool, (uint32_t)page))
		return NULL;
	return txg_current(pool, (uint32_t)page);
}

static int fill_block(struct grow *g, uint64_t area_block, uint8_t *out)
{
	const void *wanted = known(g->pool, area_block);
	struct copies copies;
	int error = 0;
	memset(out, 0, BLOCK_SIZE);
	if (area_block == AREA_LABEL)
		return 0;
	if (!wanted)
		error = read_copies(g, area_block, &copies);
	if (!error)
		memcpy(out, wanted ? wanted : copies.block[better_of(&copies)], BLOCK_SIZE);
	return error;
}

/* The claim may be renewed at any moment, past the system's cache. */
static int fill_lease(struct grow *g, uint8_t *out)
{
	if (!g->pool->claimant)
		return fill_block(g, AREA_LEASE, out);
	claim_copy(claimant_claim(g->pool->claimant), (struct fmt_lease *)out);
	return 0;
}

/* -- writing -- */

static int write_area(struct grow *g)
{
	uint64_t blocks = g->to.area_blocks, used = layout_root_block(&g->to, 0, g->to.partition_slots, 0);
	int error = 0;
	for (uint64_t at = 0; at < blocks && !error; at += CHUNK_BLOCKS) { /* areas are whole MiB */
		memset(g->chunk, 0, (size_t)CHUNK_BLOCKS * BLOCK_SIZE);
		for (uint64_t i = at; i < MIN_OF(at + CHUNK_BLOCKS, used) && !error; i++)
			error = (i == AREA_LEASE ? fill_lease(g, g->chunk + i * BLOCK_SIZE)
						 : fill_block(g, i, g->chunk + (i - at) * BLOCK_SIZE));
		if (!error)
			error = vdev_write(g->pool->vdev, layout_area_block(&g->to, 1, at) * BLOCK_SIZE, g->chunk,
					   (size_t)CHUNK_BLOCKS * BLOCK_SIZE);
	}
	return error ? error : vdev_flush(g->pool->vdev);
}

static int write_label(struct grow *g, const struct layout *l, unsigned copy)
{
	struct fmt_label label;
	layout_to_label(l, &label);
	int error = vdev_write(g->pool->vdev, layout_area_block(l, copy, AREA_LABEL) * BLOCK_SIZE, &label,
			       sizeof(label));
	return error ? error : vdev_flush(g->pool->vdev);
}

/* Where it failed the device may hold either. The old one again, or nobody knows. */
static int write_front(struct grow *g)
{
	struct lcpfs_pool *pool = g->pool;
	int error = write_label(g, &g->to, 0);
	if (!error)
		return 0;
	if (write_label(g, &pool->layout, 0) == 0)
		return fail(g, error, "writing the label failed, and nothing was changed");
	pool->suspended = true;
	return fail(g, error, "writing the label failed; open the pool anew to see whether it has grown");
}

static void wipe_old_label(struct grow *g)
{
	static const uint8_t zeros[BLOCK_SIZE];
	may_fail(vdev_write(g->pool->vdev, layout_area_block(&g->pool->layout, 1, AREA_LABEL) * BLOCK_SIZE, zeros,
			    sizeof(zeros)));
}

/* -- everyone else -- */

static void let_go(struct grow *g, bool moved)
{
	for (uint32_t i = 0; i < g->held_count; i++) {
		uint64_t second[2];
		for (unsigned slot = 0; slot < 2; slot++)
			second[slot] = layout_root_block(&g->to, 1, g->held[i]->slot, slot);
		store_let_roots(g->held[i]->store, moved ? second : NULL);
		part_drop(g->held[i]);
	}
	g->held_count = 0;
}

/* Without the lock in between: false, if there is a store that is not held. */
static bool all_are_held(const struct grow *g)
{
	uint32_t stores = 0;
	for (uint32_t slot = 0; slot < g->pool->layout.partition_slots; slot++)
		stores += g->pool->parts[slot] && g->pool->parts[slot]->store;
	return stores == g->held_count; /* those that are held cannot go */
}

/* Returns with the lock, and with all stores held, or neither. */
static bool try_hold(struct grow *g)
{
	struct part *part;
	uint32_t slot = 0;
	while ((part = part_hold_next(g->pool, &slot))) {
		store_hold_roots(part->store);
		g->held[g->held_count++] = part;
	}
	pthread_mutex_lock(&g->pool->lock);
	if (all_are_held(g))
		return true;
	let_go(g, false);
	pthread_mutex_unlock(&g->pool->lock);
	return false;
}

static int hold(struct grow *g)
{
	for (unsigned i = 0; i < HOLD_TRIES; i++) {
		if (try_hold(g))
			return 0;
	}
	return failure_set(g->failure, LCPFS_E_BUSY, "%s: a partition is being added or removed; try again",
			   g->pool->device->name);
}

/* -- the pool -- */

/* With the lock, as all that follows. Entries of metaslabs that were not there: sealed, but not by us. */
static int free_new_entries(struct grow *g)
{
	const struct layout *l = &g->pool->layout;
	struct txg txg;
	txg_begin(g->pool, &txg);
	for (uint32_t m = l->metaslab_count; m < layout_metaslabs_max(l); m++) {
		if (map_owner(g->pool, m) != NO_PARTITION)
			((struct fmt_map *)txg_change(&txg, m / MAP_ENTRIES))->owner[m % MAP_ENTRIES] =
				le32_of(NO_PARTITION);
	}
	if (txg.count || txg.error)
		return txg_commit(&txg, g->failure);
	txg_abort(&txg);
	return 0;
}

static void take_over(struct grow *g)
{
	struct lcpfs_pool *pool = g->pool;
	uint32_t gained = g->to.metaslab_count - pool->layout.metaslab_count;
	char before[WORDS_ROOM], after[WORDS_ROOM];
	words_blocks(before, (double)layout_pool_blocks(&pool->layout));
	words_blocks(after, (double)layout_pool_blocks(&g->to));
	/* Field by field: the others are read without the lock. */
	pool->layout.device_blocks = g->to.device_blocks;
	pool->layout.metaslab_count = g->to.metaslab_count;
	pool->free_metaslabs += gained;
	if (pool->claimant)
		claimant_move(pool->claimant, g->to.device_blocks);
	may_fail(lcpfs_engine_set_pool_blocks(pool->engine, layout_pool_blocks(&g->to)));
	history_note(pool, LCPFS_EVENT_GROWN, 0, 0, gained, "the pool: %s → %s", before, after);
	pool->changes++; /* who waits for room may find some */
	pthread_cond_broadcast(&pool->changed);
}

static int grow_held(struct grow *g, bool *grown)
{
	int error = txg_refuse(g->pool, g->failure);
	if (!error)
		error = free_new_entries(g);
	if (!error)
		error = fail(g, write_area(g), "writing the new back area failed, and nothing was changed");
	if (!error)
		error = write_front(g);
	if (error)
		return error;
	*grown = true;
	error = fail(g, write_label(g, &g->to, 1),
		     "the pool has grown, but the second copy of its label could not be written; scrub writes it");
	wipe_old_label(g);
	take_over(g);
	return error;
}

/*
 * What lies there may be records of this very pool: of a copy of it that had grown, too. Roll-forward would take
 * them for its own.
 */
static int zero_gained(struct grow *g)
{
	uint64_t from = layout_area_block(&g->pool->layout, 1, 0) + g->pool->layout.area_blocks;
	uint64_t end = layout_area_block(&g->to, 1, 0), step = (uint64_t)64 * MIB / BLOCK_SIZE;
	int error = 0;
	for (uint64_t at = from; at < end && !error; at += step)
		error = vdev_zero(g->pool->vdev, at * BLOCK_SIZE, MIN_OF(step, end - at) * BLOCK_SIZE);
	return error;
}

static int grow_to(struct grow *g)
{
	struct lcpfs_pool *pool = g->pool;
	uint64_t area = layout_area_block(&g->to, 1, 0) * BLOCK_SIZE;
	bool grown = false;
	guard_set_size(pool->vdev, pool->device->size_bytes);
	int error = fail(g, zero_gained(g), "what was gained could not be zeroed");
	if (!error)
		error = fail(g, vdev_reserve(pool->vdev, area, g->to.area_blocks * BLOCK_SIZE),
			     "there is no place for the new back area");
	if (!error) /* so that the flushes with everyone held are short */
		error = fail(g, vdev_flush(pool->vdev), "flushing the device failed");
	if (!error)
		error = hold(g);
	if (error)
		return error;
	error = grow_held(g, &grown);
	let_go(g, grown);
	if (grown)
		may_fail(history_flush(pool));
	pthread_mutex_unlock(&pool->lock);
	return error;
}

static int grow_with_memory(struct lcpfs_pool *pool, const struct layout *to, struct lcpfs_failure *failure)
{
	struct grow g = {.pool = pool, .to = *to, .failure = failure};
	int error;
	g.chunk = malloc((size_t)CHUNK_BLOCKS * BLOCK_SIZE);
	g.held = calloc(to->partition_slots, sizeof(struct part *));
	if (g.chunk && g.held)
		error = grow_to(&g);
	else
		error = fail(&g, -LCPFS_E_NOMEM, "nothing was changed");
	free(g.chunk);
	free(g.held);
	return error;
}

/* -- how far -- */

/* What the file or device has, or is to get. */
static int find_size(struct lcpfs_pool *pool, uint64_t wanted_bytes, uint64_t *bytes,
		     struct lcpfs_failure *failure)
{
	const char *name = pool->device->name;
	if (pool->owns_device)
		vdev_file_look_again(pool->device);
	*bytes = pool->device->size_bytes;
	if (!wanted_bytes)
		return 0;
	if (!pool->owns_device || !vdev_file_is_regular(pool->device))
		return failure_set(failure, LCPFS_E_INVALID,
				   "%s is a device: make that larger first, then grow takes all of it", name);
	if (wanted_bytes > UINT64_MAX - MIB || wanted_bytes < *bytes)
		return failure_set(failure, LCPFS_E_INVALID,
				   "%s has %" PRIu64 " bytes already; a pool does not get smaller", name, *bytes);
	*bytes = DIV_UP(wanted_bytes, (uint64_t)MIB) * MIB;
	return 0;
}

/* What was made longer for nothing gets as short as it was: in a longer file the back label is not found. */
static int grow_by(struct lcpfs_pool *pool, const struct layout *to, uint64_t bytes, struct lcpfs_failure *failure)
{
	uint64_t before = pool->device->size_bytes;
	bool resizes = bytes > before;
	int error = resizes ? vdev_file_resize(pool->device, bytes, failure) : 0;
	if (!error)
		error = grow_with_memory(pool, to, failure);
	if (error && resizes && !pool->suspended && pool->layout.device_blocks != to->device_blocks)
		may_fail(vdev_file_resize(pool->device, before, NULL));
	return error;
}

static int plan(struct lcpfs_pool *pool, const struct lcpfs_grow_options *options, struct layout *to,
		uint64_t *bytes, struct lcpfs_growth *growth, struct lcpfs_failure *failure)
{
	int error = (options->dry_run ? txg_refuse_trying : txg_refuse)(pool, failure);
	if (!error)
		error = find_size(pool, options->size_bytes, bytes, failure);
	if (!error)
		error = layout_grow(&pool->layout, *bytes, to, &growth->missing_blocks, pool->device->name,
				    failure);
	if (error)
		return error;
	growth->old_size_blocks = layout_pool_blocks(&pool->layout);
	growth->new_size_blocks = layout_pool_blocks(to);
	return 0;
}

int lcpfs_pool_grow(struct lcpfs_pool *pool, const struct lcpfs_grow_options *options, struct lcpfs_growth *growth,
		    struct lcpfs_failure *failure)
{
	static const struct lcpfs_grow_options defaults;
	const struct lcpfs_grow_options *o = options ? options : &defaults;
	struct layout to;
	uint64_t bytes = 0;
	memset(growth, 0, sizeof(*growth));
	pthread_mutex_lock(&pool->lock);
	int error = pool->growing ? failure_set(failure, LCPFS_E_BUSY, "%s is growing already", pool->device->name)
				  : plan(pool, o, &to, &bytes, growth, failure);
	if (error || growth->missing_blocks || o->dry_run) {
		pthread_mutex_unlock(&pool->lock);
		return error;
	}
	pool->growing = true;
	pthread_mutex_unlock(&pool->lock);
	error = grow_by(pool, &to, bytes, failure);
	pthread_mutex_lock(&pool->lock);
	pool->growing = false;
	pthread_mutex_unlock(&pool->lock);
	return error;
}
