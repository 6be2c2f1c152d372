/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools with snapshots, for the second decoder: snappool SEED FOLDER. A partition is written, trimmed, snapshots
 * of it are taken, destroyed and rolled back to, and clones of these are made, written and destroyed, which have
 * snapshots in turn. On the way it leaves images of the pool in FOLDER: N.pool.
 *
 * Of an image that was closed, or flushed and cut off amid what the background does, N.held says what must be in
 * it: a line for each block, "NAME ADDRESS CHECK", NAME being db, or a clone's, or NAME@SNAPSHOT. The others were
 * cut off amid anything, so only that nothing is damaged is known of them.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "pool/core.h"
#include "pool/layout.h"
#include "store/state.h"
#include "tests/disk/simdisk.h"

#define MB (UINT64_C(1) << 20)

enum { SNAPS_MAX = 8, CLONES = 3, OPS = 700, CUTS_MAX = 8, STEPS = 40 };

struct held {
	char name[16], of[16]; /* of: a snapshot's volume */
	uint32_t *version;     /* by address; 0: a hole */
	bool goes;             /* it is about to be of another volume */
};

struct world {
	const char *folder;
	uint64_t random, now_us;
	struct simdisk *disk;
	struct clock clock;
	struct lcpfs_pool *pool;
	struct store *store;
	uint32_t blocks, hot, versions;
	uint32_t *version; /* of the volume */
	struct held snap[SNAPS_MAX], clone[CLONES];
	unsigned snaps, clones, names, images, cuts;
	uint64_t next_cut; /* the change at which an image is left */
};

static uint64_t now_us(void *context)
{
	return ((struct world *)context)->now_us += 50;
}

static uint64_t wall_s(void *context)
{
	return 1700000000 + ((struct world *)context)->now_us / 1000000;
}

static uint64_t chance(struct world *w, uint64_t n)
{
	return hash_mix(w->random++) % n;
}

static void must(bool good, const char *what, const struct lcpfs_failure *failure)
{
	if (good)
		return;
	fprintf(stderr, "snappool: %s: %s\n", what, failure ? failure->message : "");
	exit(1);
}

/* -- images -- */

static void leave_image(struct world *w, const struct simimage *image)
{
	char path[300];
	snprintf(path, sizeof(path), "%s/%u.pool", w->folder, w->images++);
	must(simimage_save(image, path) == 0, path, NULL);
}

static void content(uint32_t address, uint32_t version, uint8_t *data)
{
	for (unsigned i = 0; i < BLOCK_SIZE; i += 8) {
		uint64_t word = hash_mix(((uint64_t)version << 32 | address) + i);
		memcpy(data + i, &word, sizeof(word));
	}
}

static void tell_held(const struct world *w, FILE *out, const char *name, const uint32_t *version)
{
	uint8_t data[BLOCK_SIZE];
	for (uint32_t a = 0; a < w->blocks; a++) {
		if (!version[a])
			continue;
		content(a, version[a], data);
		struct fmt_check check = fmt_check_of(data);
		fprintf(out, "%s %" PRIu32 " %016" PRIx64 "%016" PRIx64 "\n", name, a, le64_get(check.high),
			le64_get(check.low));
	}
}

/* What the model has is in the image, and nothing else. */
static void leave_held(struct world *w, const struct simimage *image)
{
	char path[300], name[32];
	FILE *out;

	snprintf(path, sizeof(path), "%s/%u.held", w->folder, w->images);
	out = fopen(path, "w");
	must(out, path, NULL);
	tell_held(w, out, "db", w->version);
	for (unsigned i = 0; i < w->snaps; i++) {
		snprintf(name, sizeof(name), "%.14s@%.14s", w->snap[i].of, w->snap[i].name);
		fprintf(out, "%s\n", name); /* it may hold nothing */
		tell_held(w, out, name, w->snap[i].version);
	}
	for (unsigned i = 0; i < w->clones; i++) {
		fprintf(out, "%s\n", w->clone[i].name);
		tell_held(w, out, w->clone[i].name, w->clone[i].version);
	}
	must(fclose(out) == 0, path, NULL);
	leave_image(w, image);
}

/* Amid whatever is under way. */
static void on_change(void *context, struct simdisk *disk, uint64_t change)
{
	struct world *w = context;
	if (change != w->next_cut || w->cuts == CUTS_MAX)
		return;
	struct simdisk_fate fate = {.kind = SIMDISK_SCATTER, .seed = chance(w, UINT64_MAX)};
	struct simimage *image = simdisk_image(disk, &fate);
	leave_image(w, image);
	simimage_free(image);
	w->cuts++;
	w->next_cut += 1 + chance(w, 120);
}

/* -- the pool -- */

static void use_disk(struct world *w, const struct simimage *image)
{
	simdisk_free(w->disk);
	w->disk = simdisk_new(image, SIMDISK_DISCARD_GARBAGE);
	w->next_cut = 1 + chance(w, 120);
	simdisk_on_change(w->disk, on_change, w);
}

static void open_pool(struct world *w)
{
	struct lcpfs_open_options options = {.cache_bytes = 4 * MB};
	struct lcpfs_failure failure = {0};
	must(!pool_open_vdev(simdisk_vdev(w->disk), &w->clock, &options, &w->pool, &failure), "open", &failure);
	struct part *part = part_named(w->pool, "db");
	w->store = part ? part->store : NULL;
	if (w->store)
		w->store->config.list_slots = 2; /* so the list has several blocks */
}

/* Before the first snapshot, and clone: who does not know of them keeps off. */
static void set_feature(struct world *w)
{
	struct lcpfs_failure failure = {0};
	const struct part *part = part_named(w->pool, "db");
	struct txg txg;
	txg_begin(w->pool, &txg);
	struct fmt_partition *page = txg_change(&txg, layout_partition_page(&w->pool->layout, part->slot));
	page->features.incompatible = le64_of(PARTITION_SNAPSHOTS | PARTITION_CLONES | PARTITION_BOOKMARKS |
					      PARTITION_LINES | PARTITION_TURNS);
	must(!txg_commit(&txg, &failure), "feature", &failure);
}

static void make_pool(struct world *w, uint64_t seed)
{
	struct lcpfs_create_options create = {0};
	struct lcpfs_failure failure = {0};
	struct lcpfs_partition_spec spec = {.name = "db", .min_bytes = 6 * MB, .thin = true,
					    .max_bytes = (seed % 2 ? 20 : 8) * MB, /* 8: one head of the log */
					    .size_bytes = (seed % 2 ? 16 : 6) * MB,
					    .volume_bytes = (uint64_t)w->blocks << BLOCK_SHIFT};
	struct simimage *image = simimage_new(24 * MB);
	use_disk(w, image);
	simimage_free(image);
	w->next_cut = UINT64_MAX;
	must(!pool_create_vdev(simdisk_vdev(w->disk), &w->clock, &create, seed + 1, &failure), "create", &failure);
	open_pool(w);
	must(!pool_add_of_space(w->pool, &spec, &failure), "add", &failure);
	must(!lcpfs_pool_close(w->pool, &failure), "close", &failure);
	open_pool(w);
	set_feature(w);
	w->next_cut = simdisk_counts(w->disk)->changes + 1 + chance(w, 120);
}

/* -- what happens to it -- */

static uint32_t any_address(struct world *w, uint32_t count)
{
	return (uint32_t)chance(w, chance(w, 8) ? w->hot : w->blocks - count);
}

static uint32_t number_of(struct world *w, const char *volume)
{
	struct store_clone found;
	if (strcmp(volume, "db") == 0)
		return STORE_OWN_VOLUME;
	must(store_clone_find(w->store, volume, &found), "find", NULL);
	return found.number;
}

static uint32_t *version_of(struct world *w, const char *volume)
{
	for (unsigned i = 0; i < w->clones; i++) {
		if (strcmp(w->clone[i].name, volume) == 0)
			return w->clone[i].version;
	}
	return w->version;
}

/* The volume, or a clone of it; its number, and what it holds. */
static uint32_t any_volume(struct world *w, uint32_t **version)
{
	unsigned i = (unsigned)chance(w, 2 * CLONES);
	const char *name = i < w->clones ? w->clone[i].name : "db";
	*version = version_of(w, name);
	return number_of(w, name);
}

static void op_write(struct world *w)
{
	static const unsigned counts[] = {1, 1, 1, 4, 20};
	uint32_t count = counts[chance(w, 5)], first = any_address(w, count);
	uint32_t *version, volume = any_volume(w, &version);
	uint8_t data[BLOCK_SIZE];
	for (uint32_t a = first; a < first + count; a++) {
		content(a, ++w->versions, data);
		int error = store_volume_write(w->store, volume, (uint64_t)a << BLOCK_SHIFT, data, BLOCK_SIZE,
					       false, NULL);
		must(!error || error == -LCPFS_E_NOSPC, "write", NULL);
		if (error)
			return;
		version[a] = w->versions;
	}
}

static void op_trim(struct world *w)
{
	static const unsigned counts[] = {1, 10, 100, 700};
	uint32_t count = counts[chance(w, 4)], first = any_address(w, count);
	uint32_t *version, volume = any_volume(w, &version);
	uint64_t from = (uint64_t)first << BLOCK_SHIFT;
	int error = store_volume_trim(w->store, volume, from, (uint64_t)count << BLOCK_SHIFT, false, NULL);
	bool data = false;
	must(!error || error == -LCPFS_E_NOSPC, "trim", NULL);
	/* Some of it, where there was no room to say so of all. */
	for (uint32_t a = first; a < first + count; a++) {
		uint64_t offset = (uint64_t)a << BLOCK_SHIFT, end;
		must(!error || !store_volume_extent(w->store, volume, offset, BLOCK_SIZE, &data, &end), "extent",
		     NULL);
		version[a] = data ? version[a] : 0;
	}
}

static void op_snapshot(struct world *w)
{
	struct held *h = &w->snap[w->snaps];
	size_t bytes = w->blocks * sizeof(*w->version);
	if (w->snaps == SNAPS_MAX)
		return;
	unsigned i = (unsigned)chance(w, 2 * CLONES);
	snprintf(h->name, sizeof(h->name), "s%u", ++w->names);
	snprintf(h->of, sizeof(h->of), "%s", i < w->clones ? w->clone[i].name : "db");
	int error = store_volume_snapshot(w->store, number_of(w, h->of), h->name, wall_s(w), 0);
	must(!error || error == -LCPFS_E_NOSPC, "snapshot", NULL);
	if (error)
		return;
	h->version = malloc(bytes);
	must(h->version, "memory", NULL);
	memcpy(h->version, version_of(w, h->of), bytes);
	w->snaps++;
}

static void op_destroy(struct world *w)
{
	if (!w->snaps)
		return;
	unsigned i = (unsigned)chance(w, w->snaps);
	int error = store_volume_snapshot_destroy_soon(w->store, number_of(w, w->snap[i].of), w->snap[i].name);

	must(!error || error == -LCPFS_E_NOSPC || error == -LCPFS_E_CLONED, "destroy", NULL);
	if (error)
		return;
	free(w->snap[i].version);
	for (w->snaps--; i < w->snaps; i++)
		w->snap[i] = w->snap[i + 1];
}

static void op_clone(struct world *w)
{
	struct held *h = &w->clone[w->clones];
	size_t bytes = w->blocks * sizeof(*w->version);
	if (w->clones == CLONES || !w->snaps)
		return;
	const struct held *of = &w->snap[chance(w, w->snaps)];
	snprintf(h->name, sizeof(h->name), "c%u", ++w->names);
	int error = store_volume_clone(w->store, number_of(w, of->of), of->name, h->name, wall_s(w));
	must(!error || error == -LCPFS_E_NOSPC, "clone", NULL);
	if (error)
		return;
	h->version = malloc(bytes);
	must(h->version, "memory", NULL);
	memcpy(h->version, of->version, bytes);
	w->clones++;
}

static void op_destroy_clone(struct world *w)
{
	if (!w->clones)
		return;
	unsigned i = (unsigned)chance(w, w->clones);
	int error = store_clone_destroy(w->store, w->clone[i].name);

	must(!error || error == -LCPFS_E_NOSPC || error == -LCPFS_E_NOT_EMPTY, "destroy clone", NULL);
	if (error)
		return;
	free(w->clone[i].version);
	for (w->clones--; i < w->clones; i++)
		w->clone[i] = w->clone[i + 1];
}

static void op_promote(struct world *w)
{
	if (!w->clones)
		return;
	struct held *c = &w->clone[chance(w, w->clones)];
	struct store_snapshot found;
	struct store_clone clone;
	must(store_clone_find(w->store, c->name, &clone), "find", NULL);
	for (unsigned i = 0; i < w->snaps; i++) {
		must(store_volume_snapshot_find(w->store, number_of(w, w->snap[i].of), w->snap[i].name, &found),
		     "find", NULL);
		w->snap[i].goes = strcmp(w->snap[i].of, c->name) == 0 ||
				  (strcmp(w->snap[i].of, "db") == 0 && found.number > clone.origin);
	}
	int error = store_promote(w->store, c->name, c->name);

	must(!error || error == -LCPFS_E_NOSPC || error == -LCPFS_E_INVALID, "promote", NULL);
	if (error)
		return;
	for (unsigned i = 0; i < w->snaps; i++) {
		struct held *n = &w->snap[i];
		if (n->goes)
			snprintf(n->of, sizeof(n->of), "%s", strcmp(n->of, "db") == 0 ? c->name : "db");
	}
	uint32_t *version = w->version;
	w->version = c->version;
	c->version = version;
}

static void op_rollback(struct world *w)
{
	if (!w->snaps)
		return;
	const struct held *to = &w->snap[w->snaps - 1 - chance(w, MIN_OF(w->snaps, 3u))];
	int error = store_volume_rollback(w->store, number_of(w, to->of), to->name);

	must(!error || error == -LCPFS_E_NOSPC || error == -LCPFS_E_EXISTS, "rollback", NULL);
	if (!error)
		memcpy(version_of(w, to->of), to->version, w->blocks * sizeof(*w->version));
}

static void op_rename(struct world *w)
{
	char name[16];
	if (!w->snaps)
		return;
	struct held *h = &w->snap[chance(w, w->snaps)];
	snprintf(name, sizeof(name), "r%u", ++w->names);
	int error = store_volume_snapshot_rename(w->store, number_of(w, h->of), h->name, name);
	must(!error || error == -LCPFS_E_NOSPC, "rename", NULL);
	if (!error)
		memcpy(h->name, name, sizeof(name));
}

/* Of what they stand for nothing is left, mostly; the decoder looks at what is under other ids for it. */
static void op_bookmark(struct world *w)
{
	struct store_snapshot list[8];
	unsigned count = store_volume_bookmarks(w->store, 0, list, 8);
	char name[16];
	if (count && (count == 8 || chance(w, 3) == 0)) {
		const struct store_snapshot *mark = &list[chance(w, count)];
		int error = store_volume_bookmark_destroy(w->store, mark->volume, mark->name);
		must(!error || error == -LCPFS_E_NOSPC, "destroy bookmark", NULL);
	} else if (w->snaps) {
		snprintf(name, sizeof(name), "m%u", ++w->names);
		const struct held *of = &w->snap[chance(w, w->snaps)];
		int error = store_volume_bookmark(w->store, number_of(w, of->of), of->name, name);
		must(!error || error == -LCPFS_E_NOSPC, "bookmark", NULL);
	}
}

static void op_close(struct world *w)
{
	struct lcpfs_failure failure = {0};
	must(!lcpfs_pool_close(w->pool, &failure), "close", &failure);
	leave_held(w, simdisk_content(w->disk));
	open_pool(w);
}

/* The power goes while the background frees and writes out. */
static void op_cut(struct world *w)
{
	struct simdisk_fate fate = {.kind = SIMDISK_SCATTER, .seed = chance(w, UINT64_MAX)};
	must(!store_flush(w->store, NULL), "flush", NULL);
	simdisk_on_change(w->disk, NULL, NULL);
	simdisk_stop_at(w->disk, simdisk_counts(w->disk)->changes + chance(w, 60));
	for (int i = 0; i < STEPS && !simdisk_is_stopped(w->disk); i++) {
		int done = store_step(w->store);
		if (done == 0)
			(void)!store_checkpoint(w->store);
	}
	struct simimage *image = simdisk_image(w->disk, &fate);
	pool_abandon(w->pool);
	leave_held(w, image);
	use_disk(w, image);
	simimage_free(image);
	open_pool(w);
}

static void op(struct world *w)
{
	uint64_t what = chance(w, 1000);
	if (what < 700)
		op_write(w);
	else if (what < 800)
		op_trim(w);
	else if (what < 830)
		must(!store_flush(w->store, NULL), "flush", NULL);
	else if (what < 880)
		op_snapshot(w);
	else if (what < 915)
		op_destroy(w);
	else if (what < 930)
		op_rollback(w);
	else if (what < 937)
		op_close(w);
	else if (what < 947)
		op_cut(w);
	else if (what < 962)
		op_clone(w);
	else if (what < 970)
		op_destroy_clone(w);
	else if (what < 978)
		op_promote(w);
	else if (what < 983)
		op_rename(w);
	else if (what < 993)
		op_bookmark(w);
	else
		must(store_step(w->store) >= -LCPFS_E_NOSPC, "step", NULL);
}

int main(int argc, char **argv)
{
	if (argc != 3)
		return 2;
	uint64_t seed = strtoull(argv[1], NULL, 10);
	struct world w = {.folder = argv[2], .random = hash_mix(seed), .now_us = 1000000};

	w.blocks = (seed % 3 ? 1100 : 48) * 256; /* a tree of three levels, or of two */
	w.hot = seed % 2 ? 700 : 250;
	w.clock = (struct clock){now_us, wall_s, &w};
	w.version = calloc(w.blocks, sizeof(*w.version));
	must(w.version, "memory", NULL);
	make_pool(&w, seed);
	for (int i = 0; i < OPS; i++)
		op(&w);
	op_clone(&w);
	op_destroy(&w);
	op_close(&w); /* something is dying still, mostly */
	pool_abandon(w.pool);
	simdisk_free(w.disk);
	while (w.snaps)
		free(w.snap[--w.snaps].version);
	while (w.clones)
		free(w.clone[--w.clones].version);
	free(w.version);
	return 0;
}
