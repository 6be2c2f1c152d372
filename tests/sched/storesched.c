/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One partition's store under the scheduler: several clients, its background, scrubs, checkpoints, metaslabs that
 * come and go, on a disk whose operations overlap and complete in any order; with power cuts at any step and
 * operations under way.
 *
 * Mode mix: enough room. full: clients write new blocks until they are refused, and overwrite; nobody may be
 * refused while the store says that it could hold one more, nor, in any mode, at a moment when there is room.
 * faults: an operation of the device fails. host: the device is sparse, and its host is full at times; nothing
 * is written where no place was reserved, nobody is refused who does not need more, and what is left opens,
 * can be overwritten, trimmed and closed on a full host. short: as mix, but few clients with few operations on
 * a small store: most mistakes need no more, and ten times as many orders fit into the same time. reuse: the
 * same blocks are written over and over, so that metaslabs come into use anew under the eyes of cleaning and
 * of scrubs.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../crash/model.h"
#include "../crash/sparse.h"
#include "base/hash.h"
#include "content.h"
#include "disk.h"
#include "driver.h"
#include "store/clean.h"
#include "store/place.h"
#include "store/room.h"
#include "store/state.h"
#include "store/table.h"
#include "store/work.h"

enum { BASE = 16, CLIENTS_MAX = 8, OWNED_MAX = 72, WRITE_MAX = 40, COMPARED_BLOCKS = 16, SNAPS_MAX = 3 };
enum { CACHED_LEAST = 24, ADDRESSES = 16 }; /* pages in a small cache; of a page, where they lie far apart */
enum { DENSE = 62, DENSE_PIECE = 32 }; /* metaslabs of a dense one, and what it is filled by */

/* A snapshot: each block is as it was at one moment between two, by the indices of its versions. */
struct snap {
	char name[8];
	uint32_t *from, *to;
	bool began, done; /* taking it */
	bool to_go, gone; /* destroying it */
};

/* A clone of the first snapshot, written by one. */
struct clone {
	bool began, done;
	bool failed, flushed; /* a write of it; flushed: all of them, and none failed */
	bool to_go, gone;
	uint32_t *wrote; /* by block: the version; 0: what the snapshot has */
	/* A snapshot of it, taken between two times of writing: what it has, as `wrote`. */
	uint32_t *own;
	bool own_done, own_sure; /* taken; with all that was written before */
};

struct world {
	const struct sched_options *options;
	uint64_t seed;
	bool full, faults, host, brief, reuse;
	bool dense; /* mode host: filled in order, to the last block */
	struct simdisk *disk;
	struct slow_disk slow;
	struct sparse sparse; /* mode host: over the slow one */
	struct store_config config;
	struct clock clock;
	struct store *store;
	struct content content;
	uint32_t metaslab_blocks;
	uint32_t owned[OWNED_MAX], owned_count;
	uint32_t spare[OWNED_MAX], spares;
	uint32_t stride; /* of its blocks in the volume; above VOLUME_SLOTS each has a tree page of its own */
	unsigned clients;
	bool closed;   /* what it starts from was closed: opening reads next to nothing, so nothing is at hand */
	bool in_order; /* clients write one block after the other */
	uint32_t hot;  /* so many blocks of each client's share are used: the fewer, the sooner metaslabs are empty
			*/
	unsigned flush_percent;
	bool scrubs, resizes, checkpoints, trims, takes;
	unsigned ops;
	uint64_t offline_us;
	uint32_t cached_pages; /* in so small a cache that they come and go; 0: all stay */

	/* of the run under way */
	struct simimage *cut;
	uint64_t cut_step, cut_seed;
	bool cut_in_flush; /* then, or at the first step after that at which the device is being flushed */
	bool need_space_refused;
	unsigned granting; /* 1: a metaslab is on its way */
	struct snap snap[SNAPS_MAX];
	struct clone clone;
};

struct client {
	struct world *world;
	unsigned number;
	uint64_t random;
	uint32_t next; /* in order: where it goes on, from the start of its share */
};

static uint64_t next_random(uint64_t *random, uint64_t below)
{
	return hash_mix((*random)++) % below;
}

static uint64_t live_blocks(const struct world *w)
{
	return room_live(w->store) / BLOCK_SECTORS;
}

static uint64_t limit_blocks(const struct world *w)
{
	return room_limit(w->store, space_with_place(&w->store->space)) / BLOCK_SECTORS;
}

static uint64_t offset_of(const struct world *w, uint32_t block)
{
	return (uint64_t)block * w->stride << BLOCK_SHIFT;
}

/* Blocks that do not lie side by side are written one by one. */
static int write_range(struct world *w, uint32_t first, uint32_t count, const uint8_t *data, bool fua,
		       struct lcpfs_failure *failure)
{
	uint32_t piece = w->stride == 1 ? count : 1;
	int error = 0;
	for (uint32_t i = 0; i < count && !error; i += piece)
		error = store_write(w->store, offset_of(w, first + i), data + (size_t)i * BLOCK_SIZE,
				    (size_t)piece * BLOCK_SIZE, fua, failure);
	return error;
}

/* -- beginnings -- */

static uint64_t world_now_us(void *context)
{
	struct world *w = context;
	if (!sched_is_running())
		return ++w->offline_us;
	sched_point();
	return sched_now_us();
}

static void sched_point_if_running(void)
{
	if (sched_is_running())
		sched_point();
}

static uint64_t world_wall_s(void *context)
{
	(void)context;
	return 1700000000;
}

/* The pool's part: one of the spare metaslabs, while there are any. Who asks meanwhile gets the same answer. */
static bool need_space(void *context, uint32_t metaslabs)
{
	struct world *w = context;
	for (unsigned steps = 1 + w->seed % 32; steps; steps--) /* meanwhile others may make room */
		sched_point();
	if (w->granting) {
		sched_await(&w->granting);
		return true;
	}
	if (w->store->space.count > metaslabs)
		return true;
	if (!w->full || !w->spares) {
		w->need_space_refused = true;
		return false;
	}
	w->granting = 1;
	uint32_t metaslab = w->spare[--w->spares];
	w->owned[w->owned_count++] = metaslab;
	if (store_add(w->store, &metaslab, 1))
		sched_fail("a metaslab cannot be added");
	w->granting = 0;
	return true;
}

static void bind(struct world *w, struct simdisk *disk, uint64_t seed)
{
	w->disk = disk;
	slow_disk_init(&w->slow, disk, seed);
	w->sparse.behind = &w->slow.vdev;
	w->clock = (struct clock){world_now_us, world_wall_s, w};
	w->config.clock = &w->clock;
	w->config.vdev = w->host ? &w->sparse.vdev : &w->slow.vdev;
	w->config.need_space = need_space;
	w->config.context = w;
}

static void must_open(struct world *w)
{
	struct lcpfs_failure failure = {0};
	if (store_open(&w->config, w->owned, w->owned_count, &w->store, &failure))
		sched_fail("it does not open: %s", failure.message);
	if (w->cached_pages)
		w->store->cache.max = w->cached_pages;
}

static bool write_blocks(struct world *w, uint32_t first, uint32_t count)
{
	uint8_t *data = calloc(count, BLOCK_SIZE);
	CHECK(data);
	for (uint32_t i = 0; i < count; i++)
		content_fill(data + (size_t)i * BLOCK_SIZE, first + i,
			     content_begin(&w->content, first + i, false));
	int error = write_range(w, first, count, data, false, NULL);
	for (uint32_t i = 0; i < count && !error; i++)
		content_answered(&w->content, first + i);
	free(data);
	return !error;
}

/* As one long write: metaslabs are as full as they get. */
static void fill(struct world *w)
{
	uint32_t first = 0;
	while (first + DENSE_PIECE < w->content.blocks && write_blocks(w, first, DENSE_PIECE))
		first += DENSE_PIECE;
}

/* Some history: blocks written, overwritten, trimmed. */
static void age(struct world *w, uint64_t *random, unsigned percent)
{
	uint64_t limit = limit_blocks(w) * percent / 100;
	for (unsigned i = 0; i < (w->brief ? 40 : 400); i++) {
		uint32_t count = 1 + (uint32_t)next_random(random, 16);
		uint32_t first = (uint32_t)next_random(random, w->content.blocks - count);
		if (live_blocks(w) + count > limit)
			first = first % (w->content.blocks / 4);
		if (live_blocks(w) + count > limit && !w->content.block[first].version)
			break;
		if (!write_blocks(w, first, count))
			break;
	}
}

static void draw_shape(struct world *w, uint64_t *random)
{
	uint32_t total = STORE_METASLABS_MIN + 2 + (uint32_t)next_random(random, next_random(random, 2) ? 8 : 24);
	w->metaslab_blocks = next_random(random, 8) ? 64 : 256;
	w->owned_count = total;
	w->spares = 1 + (uint32_t)next_random(random, 4);
	for (uint32_t i = 0; i < total + w->spares; i++) {
		if (i < total)
			w->owned[i] = i;
		else
			w->spare[i - total] = i;
	}
	w->clients = 2 + (unsigned)next_random(random, next_random(random, 3) ? 3 : CLIENTS_MAX - 1);
	w->in_order = next_random(random, 4) == 0;
	w->hot = next_random(random, 2) ? UINT32_MAX : WRITE_MAX + 1 + (uint32_t)next_random(random, 80);
	w->flush_percent = 3 + (unsigned)next_random(random, 30);
	w->stride = !w->full && next_random(random, 4) == 0 ? VOLUME_SLOTS + 1 : 1;
	if (w->stride > 1 && next_random(random, 2))
		w->stride = VOLUME_SLOTS / ADDRESSES + 1;
	w->scrubs = next_random(random, 3) == 0;
	w->resizes = !w->full && next_random(random, 2);
	w->checkpoints = next_random(random, 3) == 0;
	w->trims = !w->full && next_random(random, 4);
	w->ops = 4 + (unsigned)next_random(random, w->hot == UINT32_MAX ? 12 : 30);
}

static void draw_brief(struct world *w, uint64_t *random)
{
	w->metaslab_blocks = 64;
	w->owned_count = STORE_METASLABS_MIN + (uint32_t)next_random(random, 3);
	w->spares = 1;
	w->spare[0] = w->owned_count;
	w->clients = 2 + (unsigned)next_random(random, 2);
	w->ops = 2 + (unsigned)next_random(random, 3);
}

static void draw_dense(struct world *w)
{
	w->dense = w->in_order = true;
	w->metaslab_blocks = 64;
	w->owned_count = DENSE;
	w->spares = 1;
	w->spare[0] = DENSE;
	for (uint32_t i = 0; i < DENSE; i++)
		w->owned[i] = i;
	w->stride = 1;
	w->hot = UINT32_MAX;
	w->trims = w->resizes = false;
	w->ops = 12;
}

/* Next to no room, and few blocks that are written over and over. */
static void draw_reuse(struct world *w, uint64_t *random)
{
	w->hot = 9 + (uint32_t)next_random(random, 24);
	w->flush_percent = 10 + (unsigned)next_random(random, 30);
	w->stride = 1;
	w->scrubs = true;
	w->checkpoints = next_random(random, 4);
	w->resizes = false;
	w->ops = 20 + (unsigned)next_random(random, 30);
}

/* Enough for now, but for two metaslabs of a dense one; where the roots lie is the pool's care. */
static void init_host(struct world *w)
{
	uint64_t blocks = w->slow.vdev.size_bytes >> BLOCK_SHIFT;
	sparse_init(&w->sparse, &w->slow.vdev, w->dense ? (DENSE - 2) * (uint64_t)w->metaslab_blocks : blocks);
	w->sparse.step = sched_point_if_running;
	w->sparse.fail = sched_fail;
	sparse_back(&w->sparse, 0, BASE);
}

static void *prepare(const struct sched_options *options, uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));
	uint64_t random = hash_mix(seed) ^ 1;
	CHECK(w);
	w->options = options;
	w->seed = seed;
	w->full = strcmp(options->mode, "full") == 0;
	w->faults = strcmp(options->mode, "faults") == 0;
	w->host = strcmp(options->mode, "host") == 0;
	w->reuse = strcmp(options->mode, "reuse") == 0;
	w->brief = strcmp(options->mode, "short") == 0 || w->reuse;
	w->takes = !w->full && !w->host && !w->reuse && seed % 2;
	draw_shape(w, &random);
	if (w->brief)
		draw_brief(w, &random);
	if (w->reuse)
		draw_reuse(w, &random);
	if (w->host && seed % 30 == 7)
		draw_dense(w);
	w->trims |= w->full && seed % 4 == 3;
	/* A scrub would read all of a tree again for each of its leaves. */
	w->cached_pages = seed % 3 == 2 && !w->scrubs ? CACHED_LEAST + (uint32_t)next_random(&random, 32) : 0;
	uint32_t total = w->owned_count + w->spares;
	uint64_t blocks = BASE + (uint64_t)total * w->metaslab_blocks;
	struct simimage *image = simimage_new(blocks << BLOCK_SHIFT);
	w->config = (struct store_config){.guid = seed + 1,
					  .partition = 7,
					  .name = "sched",
					  .metaslab_base = BASE,
					  .metaslab_blocks = w->metaslab_blocks,
					  .list_slots = seed % 4 == 1 ? 2 : 0,
					  .metaslab_count = total,
					  .root_block = {{0, 1}, {2, 3}}};
	bind(w, simdisk_new(image, SIMDISK_DISCARD_GARBAGE), seed);
	simimage_free(image);
	uint32_t held = (w->owned_count - 4) * w->metaslab_blocks;
	if (w->reuse) /* all of it is written over */
		held = w->hot * w->clients;
	else
		held = w->full ? held * 2 : held * (5 + (uint32_t)next_random(&random, 3)) / 8;
	content_init(&w->content, held);
	if (w->host)
		init_host(w);
	if (store_format(&w->config, (uint64_t)w->content.blocks * w->stride, w->owned, w->owned_count))
		sched_fail("format");
	must_open(w);
	if (w->dense)
		fill(w);
	else
		age(w, &random,
		    w->full ? 60 + (unsigned)next_random(&random, 40) : 20 + (unsigned)next_random(&random, 60));
	if (store_flush(w->store, NULL))
		sched_fail("flush");
	uint32_t *covered = content_flush_begins(&w->content);
	content_flushed(&w->content, covered);
	free(covered);
	w->closed = seed % 3 == 1;
	if (!w->closed)
		store_abandon(w->store);
	else if (store_close(w->store))
		sched_fail("close");
	w->store = NULL;
	return w;
}

/* -- clients -- */

static bool is_over(const struct world *w)
{
	return w->cut != NULL;
}

static bool is_refusal(const struct world *w, int error)
{
	return error == -LCPFS_E_NOSPC || (w->host && error == -LCPFS_E_DEVICE_FULL);
}

/* May a call fail with this? */
static bool is_excused(const struct world *w, int error)
{
	return is_over(w) || w->faults || is_refusal(w, error);
}

/* As a loop of the server reads: from the place it had, by itself; then the store looks at what that brought. */
static bool fetch(struct world *w, uint32_t block, uint8_t *data)
{
	uint64_t place;
	if (store_volume_place(w->store, STORE_OWN_VOLUME, offset_of(w, block), BLOCK_SIZE, &place))
		return false;
	(void)!vdev_read(w->config.vdev, place, data, BLOCK_SIZE);
	return !store_volume_verify(w->store, STORE_OWN_VOLUME, offset_of(w, block), data, BLOCK_SIZE);
}

static void read_and_compare(struct client *c, uint32_t block, bool own)
{
	struct world *w = c->world;
	uint8_t data[BLOCK_SIZE];
	uint32_t before = w->content.block[block].answered;
	struct lcpfs_failure failure = {0};
	int error = next_random(&c->random, 2) && fetch(w, block, data)
			    ? 0
			    : store_read(w->store, offset_of(w, block), data, BLOCK_SIZE, &failure);
	sched_counts->compared_blocks++;
	if (error && !is_excused(w, error))
		sched_fail("block %" PRIu32 " cannot be read: %s", block, failure.message);
	if (error)
		return;
	int64_t version = content_version(data, block);
	struct block_history *h = &w->content.block[block];
	uint32_t answered = h->answered;
	h->answered = own ? answered : before; /* another client may have gone on meanwhile */
	bool fine = version >= 0 && content_may_be_read(&w->content, block, (uint32_t)version);
	h->answered = answered;
	if (!fine)
		sched_fail("block %" PRIu32 " reads as version %" PRId64 "; last written %" PRIu32, block, version,
			   h->version ? h->version[h->answered] : 0);
}

static void look_at_failed(struct client *c, uint32_t first, uint32_t count)
{
	struct world *w = c->world;
	uint8_t data[BLOCK_SIZE];
	for (uint32_t i = 0; i < count && !is_over(w); i++) {
		int error = store_read(w->store, offset_of(w, first + i), data, BLOCK_SIZE, NULL);
		int64_t version = error ? -1 : content_version(data, first + i);
		if (is_over(w) || (error && w->faults))
			return;
		if (version < 0 || !content_failed(&w->content, first + i, (uint32_t)version))
			sched_fail("block %" PRIu32 " is neither old nor new after a failed change: %" PRId64,
				   first + i, version);
	}
}

/* A part of the volume that this client alone writes. */
static uint32_t own_range(struct client *c, uint32_t *count)
{
	struct world *w = c->world;
	uint32_t share = w->content.blocks / w->clients, used = MIN_OF(share, w->hot);
	uint32_t most = next_random(&c->random, w->reuse ? 2 : 3) ? 4 : WRITE_MAX;
	*count = 1 + (uint32_t)next_random(&c->random, MIN_OF(most, used - 1));
	return c->number * share + (uint32_t)next_random(&c->random, used - *count);
}

static uint32_t range_to_write(struct client *c, uint32_t *count)
{
	uint32_t share = c->world->content.blocks / c->world->clients, used = MIN_OF(share, c->world->hot),
		 at = c->next;
	if (!c->world->in_order)
		return own_range(c, count);
	*count = MIN_OF(32u, used - at);
	c->next = (at + *count) % used;
	return c->number * share + at;
}

/*
 * Told that there is no room: was that so? Only new blocks need any, and only if the store is as full as it says
 * it gets.
 */
static void check_refusal(struct world *w, bool fresh, uint64_t refusals_before, uint64_t given_before)
{
	bool none_came = !w->resizes && w->store->backing.given == given_before; /* else raw may be new */
	sched_counts->refused++;
	if (w->host && !is_over(w) && none_came && space_raw(&w->store->space) && w->sparse.refusals == refusals_before)
		sched_fail("refused, and the host was not asked");
	if (w->trims || w->resizes || w->takes || is_over(w))
		return;
	uint64_t live = live_blocks(w), limit = limit_blocks(w);
	if (!fresh)
		sched_fail("an overwrite is refused with %" PRIu64 " live of %" PRIu64, live, limit);
	/*
	 * A new block may bring pages of both trees, which cost room, up to a metaslab; those of one refused are
	 * gone by now.
	 */
	if (live + 1 + w->metaslab_blocks <= limit && !w->host) /* there the limit may have grown since */
		sched_fail("a new block is refused with %" PRIu64 " live of %" PRIu64, live, limit);
	if (!w->need_space_refused)
		sched_fail("refused, and the pool was not asked");
}

static void client_write(struct client *c)
{
	struct world *w = c->world;
	uint32_t count, first = range_to_write(c, &count);
	bool fua = next_random(&c->random, 8) == 0, fresh = false;
	uint8_t *data = calloc(count, BLOCK_SIZE);
	CHECK(data);
	for (uint32_t i = 0; i < count; i++) {
		const struct block_history *h = &w->content.block[first + i];
		fresh |= !h->version || h->version[h->answered] == 0;
		content_fill(data + (size_t)i * BLOCK_SIZE, first + i,
			     content_begin(&w->content, first + i, false));
	}
	struct lcpfs_failure failure = {0};
	uint64_t refusals = w->sparse.refusals, given = w->store->backing.given;
	int error = write_range(w, first, count, data, fua, &failure);
	free(data);
	for (uint32_t i = 0; i < count && !error; i++) {
		content_answered(&w->content, first + i);
		if (fua)
			content_covered(&w->content, first + i);
	}
	if (!error)
		return;
	if (!is_excused(w, error))
		sched_fail("write: %s", failure.message);
	if (is_refusal(w, error))
		check_refusal(w, fresh, refusals, given);
	look_at_failed(c, first, count);
}

static void client_trim(struct client *c)
{
	struct world *w = c->world;
	uint32_t count, first = own_range(c, &count);
	for (uint32_t i = 0; i < count; i++)
		content_begin(&w->content, first + i, true);
	struct lcpfs_failure failure = {0};
	int error = store_trim(w->store, offset_of(w, first), offset_of(w, count), false, &failure);
	for (uint32_t i = 0; i < count && !error; i++)
		content_answered(&w->content, first + i);
	if (error && ((is_refusal(w, error) && !w->takes) || !is_excused(w, error)))
		sched_fail("trim: %s", failure.message);
	if (error)
		look_at_failed(c, first, count);
}

static void client_flush(struct client *c)
{
	struct world *w = c->world;
	uint32_t *covered = content_flush_begins(&w->content);
	struct lcpfs_failure failure = {0};
	int error = store_flush(w->store, &failure);
	if (error && (is_refusal(w, error) || !is_excused(w, error)))
		sched_fail("flush: %s", failure.message);
	if (!error)
		content_flushed(&w->content, covered);
	free(covered);
}

/* Every block that has an answer and was not trimmed is data; zeros that were read are the same either way. */
static void client_extent(struct client *c)
{
	struct world *w = c->world;
	uint32_t count, first = own_range(c, &count);
	bool data;
	uint64_t end;
	int error = store_extent(w->store, offset_of(w, first), offset_of(w, count), &data, &end);
	if (error && !is_excused(w, error))
		sched_fail("extent: %s", lcpfs_error_sentence(error));
	if (w->stride > 1)
		return;
	for (uint32_t b = first; !error && offset_of(w, b) < end; b++) {
		const struct block_history *h = &w->content.block[b];
		bool written = h->version && h->version[h->answered];
		if (written != data && h->answered == h->count - 1)
			sched_fail("block %" PRIu32 " is said to be %s", b, data ? "data" : "a hole");
	}
}

/* -- snapshots -- */

static uint32_t *indices(const struct world *w, bool newest)
{
	uint32_t *list = malloc(w->content.blocks * sizeof(*list));
	CHECK(list);
	for (uint32_t b = 0; b < w->content.blocks; b++)
		list[b] = newest ? w->content.block[b].count - 1 : w->content.block[b].answered;
	return list;
}

static uint32_t number_of(struct world *w, const struct snap *n)
{
	struct store_snapshot list[SNAPS_MAX];
	unsigned count = store_snapshots(w->store, list, SNAPS_MAX);
	if (count > SNAPS_MAX)
		sched_fail("%u snapshots", count);
	for (unsigned i = 0; i < count; i++) {
		if (strcmp(list[i].name, n->name) == 0)
			return list[i].number;
	}
	return 0;
}

static void verify_snap_block(struct world *w, const struct snap *n, uint32_t number, uint32_t block)
{
	const struct block_history *h = &w->content.block[block];
	struct lcpfs_failure failure = {0};
	uint8_t data[BLOCK_SIZE];
	int error = store_snapshot_read(w->store, number, offset_of(w, block), data, BLOCK_SIZE, &failure);
	bool found = false;
	sched_counts->compared_blocks++;
	if (error == -LCPFS_E_NOT_FOUND && n->to_go)
		return;
	if (error && !is_excused(w, error))
		sched_fail("snapshot %s, block %" PRIu32 ": %s", n->name, block, failure.message);
	int64_t version = error ? -1 : content_version(data, block);
	for (uint32_t i = n->from[block]; i <= n->to[block] && !error; i++)
		found |= version == (h->version ? h->version[i] : 0);
	if (!error && !found)
		sched_fail("snapshot %s, block %" PRIu32 " reads as version %" PRId64, n->name, block, version);
}

/* -- a clone -- */

enum { CLONE_WRITES = 24, CLONE_VERSION = 1 << 30 }; /* versions that nobody else writes */

static uint32_t clone_number(struct world *w)
{
	struct store_clone found;
	return store_clone_find(w->store, "clone", &found) ? found.number : 0;
}

/* Of the clone, or its snapshot; `sure`: it has what was written. */
static void verify_cloned_block(struct world *w, uint32_t number, uint32_t block, const uint32_t *wrote, bool sure)
{
	const struct snap *n = &w->snap[0];
	const struct block_history *h = &w->content.block[block];
	struct lcpfs_failure failure = {0};
	uint8_t data[BLOCK_SIZE];
	int error = (wrote == w->clone.own ? store_snapshot_read : store_volume_read)(
		w->store, number, offset_of(w, block), data, BLOCK_SIZE, &failure);
	bool own = wrote[block], found = false;
	sched_counts->compared_blocks++;
	if (error && !is_excused(w, error))
		sched_fail("clone, block %" PRIu32 ": %s", block, failure.message);
	if (error)
		return;
	int64_t version = content_version(data, block);
	for (uint32_t i = n->from[block]; i <= n->to[block] && !(own && sure); i++)
		found |= version == (h->version ? h->version[i] : 0);
	if (!found && !(own && version == wrote[block]))
		sched_fail("clone, block %" PRIu32 " reads as version %" PRId64, block, version);
}

static void verify_clone_block(struct world *w, uint32_t number, uint32_t block, bool sure)
{
	verify_cloned_block(w, number, block, w->clone.wrote, sure);
}

static void write_clone_block(struct world *w, uint32_t number, uint32_t block, uint32_t version)
{
	uint8_t data[BLOCK_SIZE];
	if (w->clone.wrote[block])
		return;
	content_fill(data, block, version);
	w->clone.wrote[block] = version;
	int error = store_volume_write(w->store, number, offset_of(w, block), data, BLOCK_SIZE, false, NULL);
	if (error && !is_excused(w, error))
		sched_fail("writing to a clone: %s", lcpfs_error_sentence(error));
	w->clone.failed |= error != 0;
}

static void write_clone(struct world *w, uint64_t *random, uint32_t version)
{
	uint32_t number = clone_number(w);
	for (unsigned i = 0; i < CLONE_WRITES && number && !is_over(w); i++) {
		uint32_t block = (uint32_t)next_random(random, w->content.blocks);
		write_clone_block(w, number, block, version + i);
		verify_clone_block(w, number, i % 2 ? block : (uint32_t)next_random(random, w->content.blocks),
				   !w->clone.failed && !is_over(w));
	}
	int error = is_over(w) ? -LCPFS_E_STOPPED : store_flush(w->store, NULL);
	w->clone.flushed = !error && !w->clone.failed && !is_over(w);
}

static uint32_t own_number(struct world *w)
{
	struct store_snapshot found;
	uint32_t clone = clone_number(w);
	return clone && store_volume_snapshot_find(w->store, clone, "own", &found) ? found.number : 0;
}

/* A snapshot of the clone, beside all who write the volume; and the clone goes on. */
static void snapshot_clone(struct world *w, uint64_t *random)
{
	struct clone *c = &w->clone;
	size_t bytes = w->content.blocks * sizeof(*c->own);
	c->own = malloc(bytes);
	CHECK(c->own);
	memcpy(c->own, c->wrote, bytes);
	bool sure = !c->failed;
	int error = store_volume_snapshot(w->store, clone_number(w), "own", 0, 0);
	if (is_over(w))
		return;
	if (error && !is_excused(w, error))
		sched_fail("snapshot of a clone: %s", lcpfs_error_sentence(error));
	c->own_done = !error;
	c->own_sure = c->own_done && sure;
	write_clone(w, random, CLONE_VERSION + CLONE_WRITES);
	uint32_t number = is_over(w) ? 0 : own_number(w);
	for (unsigned k = 0; k < 8 && number && !is_over(w); k++)
		verify_cloned_block(w, number, (uint32_t)next_random(random, w->content.blocks), c->own,
				    c->own_sure && !is_over(w));
}

/* It goes before its clone does. */
static void destroy_own(struct world *w)
{
	uint32_t clone = clone_number(w);
	int error = own_number(w) ? store_volume_snapshot_destroy_soon(w->store, clone, "own") : 0;
	if (!is_over(w) && error && (is_refusal(w, error) || !is_excused(w, error)))
		sched_fail("destroying a snapshot of a clone: %s", lcpfs_error_sentence(error));
}

static void run_clone(struct world *w, uint64_t *random)
{
	struct clone *c = &w->clone;
	c->wrote = calloc(w->content.blocks, sizeof(*c->wrote));
	CHECK(c->wrote);
	c->began = true;
	int error = store_clone(w->store, w->snap[0].name, "clone", 0);
	if (is_over(w))
		return;
	if (error && !is_excused(w, error))
		sched_fail("clone: %s", lcpfs_error_sentence(error));
	c->done = !error;
	if (c->done)
		write_clone(w, random, CLONE_VERSION);
	if (c->done && !is_over(w) && next_random(random, 2))
		snapshot_clone(w, random);
	if (!c->done || is_over(w) || next_random(random, 3))
		return;
	c->to_go = true;
	destroy_own(w);
	if (is_over(w))
		return;
	error = store_clone_destroy(w->store, "clone");
	if (!is_over(w) && error && (is_refusal(w, error) || !is_excused(w, error)))
		sched_fail("destroying a clone: %s", lcpfs_error_sentence(error));
	c->gone = !error && !is_over(w);
}

/* -- the clone takes the volume's place, and gives it back -- */

/* The volume is what the clone is, with its snapshot; by the name "was" there is what the volume was, with its
 * own. */
static void verify_promoted(struct world *w, uint64_t *random)
{
	struct store_snapshot own;
	for (unsigned i = 0; i < 8 && !is_over(w); i++)
		verify_clone_block(w, STORE_OWN_VOLUME, (uint32_t)next_random(random, w->content.blocks),
				   w->clone.flushed && !is_over(w));
	if (!w->clone.own_done || is_over(w))
		return;
	if (!store_snapshot_find(w->store, "own", &own))
		sched_fail("the clone was promoted, and its snapshot is not the volume's");
	verify_cloned_block(w, own.number, (uint32_t)next_random(random, w->content.blocks), w->clone.own,
			    w->clone.own_sure && !is_over(w));
}

/* When nobody has either open any more; beside all that works behind their backs. */
static void run_promotion(void *context)
{
	struct world *w = context;
	uint64_t random = hash_mix(w->seed ^ 79);
	for (unsigned i = 0; i < 2 && !is_over(w) && clone_number(w); i++) {
		int error = store_promote(w->store, "clone", "was");
		if (!error && !is_over(w))
			verify_promoted(w, &random);
		if (!error && !is_over(w))
			error = store_promote(w->store, "was", "clone");
		bool read = error == -LCPFS_E_BUSY && w->scrubs; /* one that was destroyed */
		if (!is_over(w) && error && !w->faults && !read)
			sched_fail("promoting a clone: %s", lcpfs_error_sentence(error));
	}
}

/* A crash, or a fault, may have left it in the volume's place. */
static void take_back(struct world *w)
{
	struct store_clone found;
	if (store_clone_find(w->store, "was", &found) && store_promote(w->store, "was", "clone"))
		sched_fail("a clone that was promoted before a crash cannot give the place back");
}

static void compare_clone(struct world *w)
{
	struct clone *c = &w->clone;
	uint32_t number = c->began ? clone_number(w) : 0, own = c->own && number ? own_number(w) : 0;
	if (c->own_done && !c->to_go && !own)
		sched_fail("the clone's snapshot is not there");
	for (uint32_t b = 0; own && b < w->content.blocks; b++)
		verify_cloned_block(w, own, b, c->own, c->own_sure);
	if (c->done && !c->to_go && !number)
		sched_fail("the clone is not there");
	if (c->gone && number)
		sched_fail("the clone is there again");
	for (uint32_t b = 0; number && b < w->content.blocks; b++)
		verify_clone_block(w, number, b, c->flushed);
	free(c->wrote);
	free(c->own);
	*c = (struct clone){.began = false};
}

/* Beside whoever destroys it: right, or not there any more. */
static void client_read_snap(struct client *c)
{
	struct world *w = c->world;
	const struct snap *n = &w->snap[next_random(&c->random, SNAPS_MAX)];
	uint32_t number = n->done ? number_of(w, n) : 0;
	if (number)
		verify_snap_block(w, n, number, (uint32_t)next_random(&c->random, w->content.blocks));
}

static void run_client(void *context)
{
	struct client *c = context;
	struct world *w = c->world;
	for (unsigned i = 0; i < w->ops && !is_over(w); i++) {
		uint64_t what = next_random(&c->random, 100);
		sched_counts->operations++;
		if (what < w->flush_percent)
			client_flush(c);
		else if (what < (w->full && w->trims ? 60 : 75))
			client_write(c);
		else if (what < 80 && w->trims)
			client_trim(c);
		else if (what < 84)
			client_extent(c);
		else if (what < 88 && w->takes)
			client_read_snap(c);
		else if (what < 90)
			read_and_compare(c, (uint32_t)next_random(&c->random, w->content.blocks), false);
		else
			read_and_compare(c, own_range(c, &(uint32_t){0}), true);
	}
}

/* -- the others -- */

static void *run_service(void *context)
{
	store_service(context);
	return NULL;
}

static void found(void *context, const struct store_finding *finding)
{
	struct world *w = context;
	if (!is_over(w) && !w->faults)
		sched_fail("scrub: %s", finding->text);
}

static void run_scrub(void *context)
{
	struct world *w = context;
	struct store_walk walk = {.found = found, .context = w, .repair = true, .data = w->stride == 1};
	for (int i = 0; i < (w->reuse ? 8 : 2) && !is_over(w); i++) {
		int error = store_scrub(w->store, &walk);
		if (error && !is_excused(w, error))
			sched_fail("scrub: %s", lcpfs_error_sentence(error));
	}
}

static void run_checkpoints(void *context)
{
	struct world *w = context;
	for (int i = 0; i < (w->reuse ? 12 : 3) && !is_over(w); i++) {
		int error = store_checkpoint(w->store);
		if (error && !is_excused(w, error))
			sched_fail("checkpoint: %s", lcpfs_error_sentence(error));
	}
}

/* A metaslab goes, somebody else writes into it, it comes back. */
static void run_resizes(void *context)
{
	struct world *w = context;
	size_t bytes = (size_t)w->metaslab_blocks << BLOCK_SHIFT;
	uint8_t *junk = malloc(bytes);
	CHECK(junk);
	memset(junk, 0x5a, bytes);
	for (int i = 0; i < 3 && !is_over(w); i++) {
		uint32_t metaslab, at = 0;
		int error = store_release(w->store, &metaslab);
		if (error && error != -LCPFS_E_TOO_SMALL && !is_excused(w, error))
			sched_fail("release: %s", lcpfs_error_sentence(error));
		if (error || is_over(w))
			continue;
		while (w->owned[at] != metaslab)
			at++;
		w->owned[at] = w->owned[--w->owned_count];
		uint64_t offset = (BASE + (uint64_t)metaslab * w->metaslab_blocks) << BLOCK_SHIFT;
		(void)!vdev_write(&w->slow.vdev, offset, junk, bytes);
		if (w->host && i % 2)
			(void)!vdev_discard(&w->sparse.vdev, offset, bytes);
		if (is_over(w))
			break;
		w->owned[w->owned_count++] = metaslab;
		if (store_add(w->store, &metaslab, 1))
			sched_fail("add");
	}
	free(junk);
}

/* -- those who take them -- */

static void take(struct world *w, struct snap *n)
{
	n->from = indices(w, false);
	n->began = true;
	int error = store_snapshot(w->store, n->name, 0);
	n->to = indices(w, true);
	if (is_over(w))
		return;
	if (error && !is_excused(w, error))
		sched_fail("snapshot: %s", lcpfs_error_sentence(error));
	n->done = !error;
}

static void run_snaps(void *context)
{
	struct world *w = context;
	uint64_t random = hash_mix(w->seed ^ 78);
	for (unsigned i = 0; i < SNAPS_MAX && !is_over(w); i++) {
		struct snap *n = &w->snap[i];
		snprintf(n->name, sizeof(n->name), "n%u", i);
		take(w, n);
		for (unsigned k = 0; n->done && k < 8 && !is_over(w); k++)
			verify_snap_block(w, n, number_of(w, n),
					  (uint32_t)next_random(&random, w->content.blocks));
		if (i == 0 && n->done && !is_over(w))
			run_clone(w, &random);
		n = &w->snap[next_random(&random, i + 1)];
		if (!n->done || n->to_go || is_over(w) || next_random(&random, 2))
			continue;
		n->to_go = true;
		int error = store_snapshot_destroy(w->store, n->name);
		if (is_over(w))
			break;
		if (error == -LCPFS_E_CLONED && n == w->snap && w->clone.began) {
			n->to_go = false;
			continue;
		}
		if (error && (is_refusal(w, error) || !is_excused(w, error)))
			sched_fail("destroying a snapshot: %s", lcpfs_error_sentence(error));
		n->gone = !error;
	}
}

/* What was said to be there is there, and what was said to be gone is gone. */
static void compare_snaps(struct world *w)
{
	compare_clone(w);
	for (struct snap *n = w->snap; n < w->snap + SNAPS_MAX; n++) {
		uint32_t number = n->began ? number_of(w, n) : 0;
		if (n->done && !n->to_go && !number)
			sched_fail("snapshot %s is not there", n->name);
		if (n->gone && number)
			sched_fail("snapshot %s is there again", n->name);
		if (n->began && !n->to)
			n->to = indices(w, true);
		for (uint32_t b = 0; number && b < w->content.blocks; b++)
			verify_snap_block(w, n, number, b);
		free(n->from);
		free(n->to);
		*n = (struct snap){.began = false};
	}
}

/* Others write into the host's file system, and remove. */
static void run_host(void *context)
{
	struct world *w = context;
	uint64_t random = hash_mix(w->seed ^ 77);
	for (int i = 0; i < 8 && !is_over(w); i++) {
		for (uint64_t steps = next_random(&random, 120); steps && !is_over(w); steps--)
			sched_point();
		w->sparse.free_blocks =
			next_random(&random, 3) ? next_random(&random, 3 * (uint64_t)w->metaslab_blocks) : 0;
	}
}

/* -- what the store decides, judged at that moment -- */

int __real_work_wait(struct store *s, enum room_user user, unsigned blocks);
int __wrap_work_wait(struct store *s, enum room_user user, unsigned blocks);
int __real_clean_metaslab(struct store *s, uint32_t metaslab);
int __wrap_clean_metaslab(struct store *s, uint32_t metaslab);
void __real_space_bare(struct space *space, uint32_t index);
void __wrap_space_bare(struct space *space, uint32_t index);

int __wrap_work_wait(struct store *s, enum room_user user, unsigned blocks)
{
	int error = __real_work_wait(s, user, blocks);
	const struct world *w = s->config.context;
	bool room = space_empty(&s->space) > room_kept(s, user) && (!blocks || room_fits(s, blocks));
	bool steady = !w->trims && !w->resizes && !w->takes && !is_over(w);
	if (error == -LCPFS_E_NOSPC && room)
		sched_fail("refused, and there is room");
	if (error == -LCPFS_E_NOSPC && w->host && steady && blocks && room_fits(s, 1 + w->metaslab_blocks))
		sched_fail("a new block is refused, and fits");
	return error;
}

/* Flushes come and go meanwhile; whoever took the metaslab would write under the cleaner's eyes. */
int __wrap_clean_metaslab(struct store *s, uint32_t metaslab)
{
	int error = __real_clean_metaslab(s, metaslab);
	store_lock(s);
	const struct metaslab *m = space_find(&s->space, metaslab);
	if (!m || (m->state != SPACE_CLOSED && m->state != SPACE_SPENT))
		sched_fail("metaslab %" PRIu32 " was given away while it was cleaned", metaslab);
	store_unlock(s);
	return error;
}

/* An EMPTY metaslab goes back to the host: what the store holds has to fit into the others. */
void __wrap_space_bare(struct space *space, uint32_t index)
{
	struct store *s = (struct store *)((char *)space - offsetof(struct store, space));
	bool fitted = room_fits(s, 0);
	__real_space_bare(space, index);
	if (fitted && !room_fits(s, 0))
		sched_fail("metaslab %" PRIu32 " is given back, and is needed", index);
}

static void must_be_durable(const struct simimage *durable, const struct fmt_pointer *at)
{
	uint8_t page[BLOCK_SIZE];
	for (unsigned i = 0; i < 2 && !pointer_null(at); i++) {
		simimage_read(durable, block_of_place(at->place[i]) << BLOCK_SHIFT, page, BLOCK_SIZE);
		if (!fmt_check_fits(&at->check, page))
			sched_fail("a root is written before what it points at is durable");
	}
}

static void look_at_root(void *context, const struct vdev_io *io)
{
	const struct world *w = context;
	const struct fmt_root *root = io->buffer;
	struct simdisk_fate fate = {.kind = SIMDISK_NONE};
	if (io->offset >= BASE << BLOCK_SHIFT)
		return;
	struct simimage *durable = simdisk_image(w->disk, &fate);
	must_be_durable(durable, &root->table.top);
	must_be_durable(durable, &root->space.top);
	simimage_free(durable);
}

/* -- a run -- */

static void stuck(const char *text)
{
	sched_fail("%s", text);
}

static void at_step(void *context, uint64_t step)
{
	struct world *w = context;
	if (step < w->cut_step || !w->store || w->cut || (w->cut_in_flush && !w->slow.flushing))
		return;
	w->cut = slow_disk_cut(&w->slow, w->cut_seed);
	sched_counts->cuts++;
}

static void run_all(void *context)
{
	struct world *w = context;
	struct client client[CLIENTS_MAX];
	struct sched_fiber *fiber[CLIENTS_MAX + 6];
	unsigned fibers = 0;
	pthread_t service;
	if (!w->faults)
		must_open(w);
	else if (store_open(&w->config, w->owned, w->owned_count, &w->store, NULL))
		return;
	CHECK(pthread_create(&service, NULL, run_service, w->store) == 0);
	for (unsigned i = 0; i < w->clients; i++) {
		client[i] = (struct client){.world = w, .number = i, .random = hash_mix(w->seed * 16 + i)};
		fiber[fibers++] = sched_spawn(run_client, &client[i]);
	}
	if (w->scrubs)
		fiber[fibers++] = sched_spawn(run_scrub, w);
	if (w->resizes)
		fiber[fibers++] = sched_spawn(run_resizes, w);
	if (w->checkpoints)
		fiber[fibers++] = sched_spawn(run_checkpoints, w);
	if (w->host)
		fiber[fibers++] = sched_spawn(run_host, w);
	if (w->takes)
		fiber[fibers++] = sched_spawn(run_snaps, w);
	if (w->takes)
		sched_join(fiber[--fibers]);
	for (unsigned i = 0; i < w->clients; i++)
		sched_join(fiber[i]);
	if (w->takes)
		fiber[fibers++] = sched_spawn(run_promotion, w);
	while (fibers > w->clients)
		sched_join(fiber[--fibers]);
	store_stop(w->store);
	pthread_join(service, NULL);
}

static void print_finding(void *context, const struct store_finding *finding)
{
	(void)context;
	fprintf(stderr, "  finding: %s (device block %" PRId64 ", address %" PRId64 ")\n", finding->text,
		(int64_t)finding->block, (int64_t)finding->address);
}

static void must_be_clean(struct world *w, bool after_crash)
{
	struct store_walk walk = {.found = print_finding, .after_crash = after_crash};
	struct store_config config = w->config;
	struct store *store;
	struct lcpfs_failure failure = {0};
	uint8_t *used = calloc(1, config.vdev->size_bytes / BLOCK_SIZE / 8 + 1);
	CHECK(used);
	config.read_only = true;
	if (store_open(&config, w->owned, w->owned_count, &store, &failure))
		sched_fail("check: it does not open: %s", failure.message);
	int error = store_check(store, used, &walk);
	store_abandon(store);
	free(used);
	if (error || walk.damaged_blocks)
		sched_fail("check: %" PRIu64 " damaged%s%s", walk.damaged_blocks, error ? ", " : "",
			   error ? lcpfs_error_sentence(error) : "");
}

static void compare_block(struct world *w, uint32_t block, int64_t version)
{
	sched_counts->compared_blocks++;
	if (version < 0 || !content_may_be_left(&w->content, block, (uint32_t)version))
		sched_fail("afterwards block %" PRIu32 " reads as version %" PRId64, block, version);
}

/* What lies side by side, holes or data, at once. Of a hole it is enough that it is one: it has version 0. */
static uint32_t compare_extent(struct world *w, uint32_t first)
{
	uint8_t data[COMPARED_BLOCKS * BLOCK_SIZE];
	struct lcpfs_failure failure = {0};
	uint32_t most = w->stride == 1 ? MIN_OF(w->content.blocks - first, (uint32_t)COMPARED_BLOCKS) : 1;
	uint64_t at = offset_of(w, first), end;
	bool is_data;
	int error = store_extent(w->store, at, (uint64_t)most * BLOCK_SIZE, &is_data, &end);
	if (!error && is_data)
		error = store_read(w->store, at, data, (size_t)(end - at), &failure);
	if (error)
		sched_fail("afterwards block %" PRIu32 " or one behind it cannot be read: %s", first,
			   failure.message);
	uint32_t count = (uint32_t)((end - at) / BLOCK_SIZE);
	for (uint32_t i = 0; i < count; i++)
		compare_block(w, first + i,
			      is_data ? content_version(data + (size_t)i * BLOCK_SIZE, first + i) : 0);
	return count;
}

static void compare_all(struct world *w)
{
	for (uint32_t b = 0; b < w->content.blocks;)
		b += compare_extent(w, b);
}

static void end_whole(struct world *w)
{
	if (!w->store)
		return;
	if (!w->store->faulted) {
		uint32_t *covered = content_flush_begins(&w->content);
		int error = store_close(w->store);
		if (!error)
			content_flushed(&w->content, covered);
		else if (!w->faults)
			sched_fail("close: %s", lcpfs_error_sentence(error));
		free(covered);
	} else {
		store_abandon(w->store);
	}
	w->store = NULL;
}

static void end_cut(struct world *w, uint64_t seed)
{
	if (w->store)
		store_abandon(w->store);
	w->store = NULL;
	simdisk_free(w->disk);
	bind(w, simdisk_new(w->cut, SIMDISK_DISCARD_GARBAGE), seed);
	simimage_free(w->cut);
}

static bool holds_data(struct world *w, uint32_t block)
{
	uint8_t data[BLOCK_SIZE];
	if (store_read(w->store, offset_of(w, block), data, BLOCK_SIZE, NULL))
		sched_fail("block %" PRIu32 " cannot be read while the host is full", block);
	return content_version(data, block) > 0;
}

/* It goes on with what it has: every block there is is written again, some are trimmed. */
static void work_on_full_host(struct world *w)
{
	w->sparse.free_blocks = 0;
	for (uint32_t b = 0; b < w->content.blocks; b++) {
		if (!w->content.block[b].version)
			continue;
		if (b % 5 == 0 || !holds_data(w, b)) {
			content_begin(&w->content, b, true);
			if (store_trim(w->store, offset_of(w, b), BLOCK_SIZE, false, NULL))
				sched_fail("block %" PRIu32 " cannot be trimmed while the host is full", b);
			content_answered(&w->content, b);
		} else if (!write_blocks(w, b, 1)) {
			sched_fail("block %" PRIu32 " cannot be overwritten while the host is full", b);
		}
		while (b % 64 == 0 && store_step(w->store) > 0)
			;
	}
	if (store_flush(w->store, NULL))
		sched_fail("it cannot be flushed while the host is full");
}

/* What was put right in memory has to come to the device, too. */
static void close_and_compare(struct world *w)
{
	if (store_close(w->store))
		sched_fail("it cannot be closed afterwards");
	w->store = NULL;
	must_be_clean(w, false);
	must_open(w);
	compare_all(w);
}

static void inject(struct world *w, uint64_t seed)
{
	static const enum simdisk_kind kinds[] = {SIMDISK_READ, SIMDISK_WRITE, SIMDISK_WRITE, SIMDISK_FLUSH};
	struct simdisk_fault fault = {.kind = kinds[seed % 4],
				      .at = hash_mix(seed) % 30,
				      .forever = hash_mix(seed + 1) % 4 == 0,
				      .effect = SIMDISK_FAILS,
				      .error = LCPFS_E_IO,
				      .drop_seed = hash_mix(seed + 2) % 3};
	simdisk_add_fault(w->disk, &fault);
	sched_counts->faults++;
}

static void run(void *prepared, const struct schedule *schedule)
{
	struct world w = *(const struct world *)prepared;
	const struct world *start = prepared;
	struct sched_plan plan = schedule->plan;
	content_copy(&w.content, &start->content);
	bind(&w, simdisk_new(simdisk_content(start->disk), SIMDISK_DISCARD_GARBAGE), schedule->seed);
	if (w.host)
		sparse_copy(&w.sparse, &start->sparse, &w.slow.vdev);
	if (w.host)
		w.sparse.free_blocks = hash_mix(schedule->seed + 5) % (4 * (uint64_t)w.metaslab_blocks);
	w.slow.will_write = look_at_root;
	w.slow.context = &w;
	w.cut_step = schedule->cut_step;
	w.cut_seed = schedule->seed;
	w.cut_in_flush = schedule->seed % 2;
	if (w.faults && schedule->plan.kind != SCHED_GIVEN)
		inject(&w, schedule->seed);
	plan.at_step = at_step;
	plan.context = &w;
	sched_run(&plan, run_all, &w, schedule->trace, stuck);
	bool cut = w.cut != NULL;
	simdisk_clear_faults(w.disk);
	if (cut)
		end_cut(&w, schedule->seed);
	else
		end_whole(&w);
	must_be_clean(&w, cut || w.faults);
	must_open(&w);
	take_back(&w);
	compare_all(&w);
	compare_snaps(&w);
	if (w.host)
		work_on_full_host(&w);
	close_and_compare(&w);
	end_whole(&w);
	sparse_free(&w.sparse);
	content_free(&w.content);
	simdisk_free(w.disk);
}

int main(int argc, char **argv)
{
	static const struct sched_test test = {
		.name = "storesched", .modes = "mix full faults host short reuse", .prepare = prepare, .run = run};
	return sched_main(&test, argc, argv);
}
