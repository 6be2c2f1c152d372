/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Rot: every structure of a store is damaged in turn: bits flipped, zeroed, swapped or overwritten with another
 * block (misdirected writes), put back to what it was earlier (lost writes).
 *
 * One copy of metadata: check tells, everything stays readable, scrub repairs. Both copies: check tells, and what
 * depends on it fails cleanly. Data: check tells, its reads fail and no others. Nobody ever gets wrong bytes.
 * Once for a store that a power cut ended, its log confirmed (see recover.c), once for one that was closed.
 *
 * Mode rotcuts: a store whose metaslabs change hands all the time loses its power at any change, and something
 * of what is left rots; mostly the newest root, in both copies. Whatever opens then has everything that was
 * flushed, or says of each block that is lost that it is; never is it an older state in silence. The same after
 * all was cleaned and it was closed and opened once more.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "store/clean.h"
#include "store/log.h"
#include "store/map.h"
#include "store/place.h"
#include "store/record.h"
#include "store/table.h"
#include "store/tree.h"
#include "storesim.h"

enum target_kind { ROOT, TABLE_PAGE, TREE_PAGE, SPACE_PAGE, HEADER, DATA };
enum { DATA_MAX = 80, HEADERS_MAX = 150, WAYS = SIMIMAGE_STALE + 1, UNSURE_MAX = 64 };

struct target {
	enum target_kind kind;
	uint64_t block[2]; /* the second is that of the copy; the same one for data */
	uint64_t address;  /* of data, in the model */
	bool excused;      /* after a power cut a damaged copy of it may be a torn write */
};

struct rot {
	struct run *run;              /* as it was when it ended */
	struct simimage *image, *old; /* the device then, and some time before */
	struct target *list;
	unsigned count;
	uint64_t told;  /* records up to this one are flushed, as headers say, not roots */
	uint64_t epoch; /* of the older root */
	bool outlived;  /* by records of a later epoch */
	uint64_t unsure_from[UNSURE_MAX], unsure_end[UNSURE_MAX]; /* those that neither says it of */
	unsigned unsure;
};

static const char *const kind_name[] = {"root", "table page", "volume page", "space page", "log header", "data"};

/* -- what is there -- */

static void add(struct rot *rot, enum target_kind kind, uint64_t first, uint64_t second, uint64_t address,
		bool excused)
{
	rot->list = realloc(rot->list, (rot->count + 1) * sizeof(*rot->list));
	CHECK(rot->list);
	rot->list[rot->count++] = (struct target){kind, {first, second}, address, excused};
}

static void add_pointer(struct rot *rot, enum target_kind kind, const struct fmt_pointer *at)
{
	if (!pointer_null(at))
		add(rot, kind, block_of_place(at->place[0]), block_of_place(at->place[1]), 0, false);
}

static void add_table(struct rot *rot, struct store *s)
{
	bool found = true;
	store_lock(s);
	for (unsigned level = 0; level < s->table.levels; level++, found = true) {
		for (uint64_t index = 0; found; index++) {
			struct fmt_pointer at = {0};
			CHECK(!table_next(s, level, &index, &found));
			if (found)
				CHECK(!table_pointer(s, level, index, &at));
			add_pointer(rot, TABLE_PAGE, &at);
		}
	}
	store_unlock(s);
}

static int entry_at(struct store *s, void *context, struct need *need)
{
	struct fmt_block *e = context; /* in: its id as place */
	struct page *leaf;
	uint64_t id = le64_get(e->place);
	int error = table_leaf(s, id, need, &leaf);
	if (!error)
		*e = leaf ? *table_entry(leaf, id) : (struct fmt_block){.kind = 0};
	return error;
}

static void add_twin(struct rot *rot, struct store *s, uint64_t id)
{
	struct fmt_block e[2] = {{.place = le64_of(id)}, {.place = le64_of(id + 1)}};
	for (int i = 0; i < 2; i++)
		CHECK(!attempt(s, entry_at, &e[i]) && e[i].kind == BLOCK_VOLUME_PAGE);
	add(rot, TREE_PAGE, block_of_place(e[0].place), block_of_place(e[1].place), 0, false);
}

static void add_tree(struct rot *rot, struct store *s, uint32_t volume)
{
	bool found = true;
	store_lock(s);
	for (unsigned level = 0; level < tree_volume(s, volume)->levels; level++, found = true) {
		for (uint64_t index = 0; found; index++) {
			struct page *p = NULL;
			CHECK(!tree_next(s, volume, level, &index, &found));
			struct page_key key = tree_key(volume, level, index);
			if (found)
				CHECK(!tree_page(s, &key, &p));
			if (p && p->id)
				add_twin(rot, s, p->id);
			if (p)
				page_unpin(&s->cache, p);
		}
	}
	store_unlock(s);
}

/* What they share is there twice. */
static void add_clones(struct rot *rot, struct store *s)
{
	struct store_clone list[CLONES_SIM_MAX];
	unsigned count = store_clones(s, list, CLONES_SIM_MAX);
	for (unsigned i = 0; i < count; i++)
		add_tree(rot, s, list[i].number);
}

static void add_unsure(struct rot *rot, uint64_t block, unsigned blocks)
{
	if (rot->unsure == UNSURE_MAX)
		return;
	rot->unsure_from[rot->unsure] = block;
	rot->unsure_end[rot->unsure++] = block + RECORD_HEADERS + blocks;
}

/* The records that cleaning or roll-forward would follow. */
static void add_headers(struct rot *rot, struct store *s, const struct metaslab *m)
{
	struct record_walk walk = {.metaslab = m->index};
	struct fmt_record header;
	uint64_t last = 0;
	if (m->class == CLASS_TABLE || (!m->live && m->last <= s->space.redo))
		return;
	while (record_next(s, &walk, &header) && le64_get(header.seq) > last &&
			le64_get(header.seq) <= m->last) {
		last = le64_get(header.seq);
		rot->told = MAX_OF(rot->told, le64_get(header.durable));
		rot->outlived |= le64_get(header.epoch) > rot->epoch;
		add(rot, HEADER, walk.block, walk.block + 1, 0, last > s->found.claimed);
		if (last > s->found.claimed)
			add_unsure(rot, walk.block, le16_get(header.blocks));
	}
}

struct asked {
	uint64_t address;
	struct mapping mapping;
};

static int look_up(struct store *s, void *context, struct need *need)
{
	struct asked *a = context;
	return map_lookup(s, VOLUME_HEAD, a->address, need, &a->mapping);
}

static void add_data(struct rot *rot, struct store *s)
{
	uint64_t step = MAX_OF(s->data_blocks / DATA_MAX, (uint64_t)1), seen = 0;
	for (uint64_t a = 0; a < store_volume_blocks(s); a += rot->run->stride) {
		struct asked asked = {.address = a};
		store_lock(s);
		CHECK(!attempt(s, look_up, &asked));
		store_unlock(s);
		if (asked.mapping.id && seen++ % step == 0)
			add(rot, DATA, asked.mapping.block, asked.mapping.block, a / rot->run->stride, false);
	}
}

static uint64_t epoch_of_older(const struct rot *rot, const struct store *s)
{
	uint64_t block = s->config.root_block[1 - s->checkpoint.root_slot][0];
	struct fmt_root root;
	simimage_read(rot->image, block << BLOCK_SHIFT, &root, sizeof(root));
	bool good = fmt_verify(&root, FMT_ROOT, s->config.guid, s->config.partition) == FMT_GOOD;
	return good ? le64_get(root.epoch) : UINT64_MAX;
}

static void find_targets(struct rot *rot, bool all)
{
	struct run r;
	run_fork(&r, rot->run, rot->image, 0);
	r.config.read_only = true;
	run_must_open(&r);
	struct store *s = r.store;
	rot->epoch = epoch_of_older(rot, s);
	add(rot, ROOT, s->config.root_block[s->checkpoint.root_slot][0],
	    s->config.root_block[s->checkpoint.root_slot][1], 0, true);
	if (all) {
		add_table(rot, s);
		add_tree(rot, s, VOLUME_HEAD);
		add_clones(rot, s);
	}
	for (size_t i = 0; i < s->checkpoint.space_page_count; i++)
		add_pointer(rot, SPACE_PAGE, &s->checkpoint.space_pages[i]);
	for (uint32_t i = 0; i < s->space.count; i++)
		add_headers(rot, s, &s->space.slab[i]);
	if (all)
		add_data(rot, s);
	run_done(&r);
}

/* -- damaging it -- */

/* Metadata changes places with metadata only: what else it could hit has no copy. */
static bool may_swap(const struct rot *rot, const struct target *t, uint64_t other)
{
	return t->kind == DATA || rot->list[other].kind != DATA;
}

static struct simimage_damage damage_of(const struct rot *rot, const struct target *t, unsigned copy,
		uint64_t roll)
{
	struct simimage_damage damage = {.kind = (enum simimage_damage_kind)(roll % WAYS),
					 .bit = roll / 8 % 8,
					 .offset = t->block[copy] << BLOCK_SHIFT,
					 .length = BLOCK_SIZE,
					 .old = rot->old};
	roll = hash_mix(roll);
	do {
		roll++;
		damage.other = rot->list[roll % rot->count].block[roll / 8 % 2] << BLOCK_SHIFT;
	} while (damage.other == damage.offset || !may_swap(rot, t, roll % rot->count));
	if (damage.kind == SIMIMAGE_FLIP)
		damage.offset += roll % BLOCK_SIZE;
	return damage;
}

/* NULL if nothing changes by it. */
static struct simimage *damaged_image(const struct rot *rot, const struct target *t, unsigned copies,
		uint64_t roll,
				      bool *swapped, bool *stale)
{
	struct simimage *image = simimage_clone(rot->image);
	*swapped = false;
	*stale = true;
	for (unsigned copy = 0; copy < 2; copy++) {
		if (!(copies >> copy & 1))
			continue;
		struct simimage_damage damage = damage_of(rot, t, copy, hash_mix(roll + copy));
		uint8_t before[BLOCK_SIZE], after[BLOCK_SIZE];

		if (copies == 3 && damage.kind == SIMIMAGE_SWAP)
			damage.kind = SIMIMAGE_REPEAT; /* not with its own copy */
		*swapped |= damage.kind == SIMIMAGE_SWAP;
		simimage_read(rot->image, t->block[copy] << BLOCK_SHIFT, before, BLOCK_SIZE);
		simimage_damage(image, &damage);
		simimage_read(image, t->block[copy] << BLOCK_SHIFT, after, BLOCK_SIZE);
		if (memcmp(before, after, BLOCK_SIZE) != 0) {
			simimage_read(rot->old, t->block[copy] << BLOCK_SHIFT, before, BLOCK_SIZE);
			*stale &= memcmp(before, after, BLOCK_SIZE) == 0;
			continue;
		}
		simimage_free(image);
		return NULL;
	}
	return image;
}

/* -- what must hold -- */

static void scrub(struct run *r)
{
	struct store_walk walk = {.repair = true, .data = true};
	int error = store_scrub(r->store, &walk);
	if (error)
		sim_fail("scrub: %s", lcpfs_error_sentence(error));
}

/* Reads may fail, but are never wrong; how many failed. */
static uint64_t count_unreadable(struct run *r)
{
	uint64_t failed = 0;
	for (uint32_t b = 0; b < r->model.blocks; b++) {
		int64_t version = run_read(r, b);
		failed += version < 0;
		if (version >= 0 && !model_allows(&r->model, b, (uint32_t)version))
			sim_fail("block %" PRIu32 ": read %" PRId64 ", written %" PRIu32, b, version,
					r->model.current[b]);
	}
	return failed;
}

/* With damaged headers, by way of the tables. */
static void clean_everything(struct run *r)
{
	struct store *s = r->store;
	for (uint32_t i = 0; i < r->owned; i++) {
		struct metaslab *m = space_find(&s->space, r->metaslab[i]);
		if (!m || m->state != SPACE_CLOSED || m->class == CLASS_TABLE)
			continue;
		pthread_mutex_lock(&s->work);
		space_pin(&s->space, m->index);
		(void)!clean_metaslab(s, r->metaslab[i]);
		space_unpin(&s->space, r->metaslab[i]);
		pthread_mutex_unlock(&s->work);
		(void)!store_checkpoint(s);
	}
}

/* Moves everything about; with what is damaged it may do what it likes, but give wrong bytes. */
static void work_on(struct run *r)
{
	clean_everything(r);
	for (int i = 0; i < 6; i++) {
		uint32_t metaslab;
		(void)!store_step(r->store);
		(void)!store_checkpoint(r->store);
		if (store_release(r->store, &metaslab) == 0 && store_add(r->store, &metaslab, 1))
			sim_fail("add");
	}
}

static void one_copy(struct run *r, const struct target *t)
{
	bool counts = !(r->after_cut && t->excused);
	int64_t found = run_check(r, false);
	sim_counts->metadata_injected += counts;
	sim_counts->metadata_found += counts && found > 0;
	if (counts && found <= 0)
		sim_fail("check does not find it (%" PRId64 ")", found);
	run_must_open(r);
	run_verify(r);
	scrub(r);
	run_verify(r);
	if (store_close(r->store))
		sim_fail("close");
	r->store = NULL;
	r->after_cut = false;
	run_must_be_clean(r);
	sim_counts->metadata_repaired += counts;
}

static void both_copies(struct run *r, const struct target *t, bool stale)
{
	/* the other root of a closed store says the same */
	bool counts = !(t->excused && (r->after_cut || stale));
	int64_t found = run_check(r, false);

	sim_counts->twice_injected += counts;
	sim_counts->twice_found += counts && found != 0;
	if (!found && counts)
		sim_fail("check does not find it");
	int error = run_open(r, NULL);
	if (error && error != -LCPFS_E_CORRUPT)
		sim_fail("opening says: %s", lcpfs_error_sentence(error));
	if (error)
		return;
	uint64_t unreadable = count_unreadable(r);
	work_on(r);
	unreadable += count_unreadable(r);
	if (t->kind == HEADER && unreadable)
		sim_fail("%" PRIu64 " blocks cannot be read, though no read needs a header", unreadable);
}

static void data(struct run *r, const struct target *t, bool swapped)
{
	int64_t found = run_check(r, false);
	sim_counts->data_injected++;
	sim_counts->data_found += found > 0;
	if (found <= 0)
		sim_fail("check does not find it (%" PRId64 ")", found);
	run_must_open(r);
	if (run_read(r, (uint32_t)t->address) >= 0)
		sim_fail("block %" PRIu64 " is damaged and can be read", t->address);
	uint64_t failed = count_unreadable(r);
	if (failed > 1u + swapped)
		sim_fail("%" PRIu64 " blocks cannot be read", failed);
	work_on(r);
	if (run_read(r, (uint32_t)t->address) >= 0)
		sim_fail("block %" PRIu64 " was damaged and can be read after cleaning", t->address);
}

static void damage_one(const struct rot *rot, const struct target *t, unsigned copies, uint64_t roll)
{
	bool swapped, stale;
	struct simimage *image = damaged_image(rot, t, copies, roll, &swapped, &stale);
	char stage[120];
	struct run r;
	if (image && t->kind == ROOT && copies == 3 && stale && rot->run->after_cut) {
		simimage_free(image); /* a device that loses both, acknowledged: see docs/reliability.md */
		return;
	}
	if (!image)
		return;
	snprintf(stage, sizeof(stage), "%s of device block %" PRIu64 ", copies %u, roll %" PRIx64 "%s",
		 kind_name[t->kind], t->block[0], copies, roll, rot->run->after_cut ? ", after a cut" : "");
	sim_stage = stage;
	run_fork(&r, rot->run, image, roll);
	r.after_cut = rot->run->after_cut;
	if (t->kind == DATA)
		data(&r, t, swapped);
	else if (copies == 3)
		both_copies(&r, t, stale && t->kind == ROOT);
	else
		one_copy(&r, t);
	run_done(&r);
	simimage_free(image);
	sim_stage = "";
}

static void damage_all(struct rot *rot)
{
	unsigned headers = 0;
	find_targets(rot, true);
	for (unsigned i = 0; i < rot->count; i++) {
		const struct target *t = &rot->list[i];
		uint64_t roll = hash_mix(rot->run->seed * 7919 + i * 64);
		if (t->kind == HEADER && headers++ > HEADERS_MAX)
			continue;
		for (unsigned n = 0; n < (t->kind == ROOT ? 4 * WAYS : 1); n++) {
			damage_one(rot, t, 1, roll + n * 4);
			if (t->kind == DATA)
				continue;
			damage_one(rot, t, 2, roll + n * 4 + 1);
			damage_one(rot, t, 3, roll + n * 4 + 2);
		}
	}
	free(rot->list);
	simimage_free(rot->image);
	rot->list = NULL;
	rot->count = 0;
}

void rot_run(const struct sim_options *options, uint64_t seed)
{
	struct run r;
	struct rot rot = {.run = &r};
	run_init(&r, options, seed, 0, 0);
	while (r.op < options->ops / 2)
		run_op(&r);
	rot.old = simimage_clone(simdisk_content(r.disk));
	while (r.op < options->ops)
		run_op(&r);
	if (store_flush(r.store, NULL))
		sim_fail("flush");
	model_flushed(&r.model);
	r.now_us += 10 * CONFIRM_US;
	(void)!store_step(r.store);
	rot.image = simimage_clone(simdisk_content(r.disk));
	r.after_cut = true;
	damage_all(&rot);
	r.after_cut = false;
	if (store_close(r.store))
		sim_fail("close");
	r.store = NULL;
	rot.image = simimage_clone(simdisk_content(r.disk));
	damage_all(&rot);
	simimage_free(rot.old);
	run_done(&r);
}

/* -- power cuts, and rot in what is left -- */

enum { ROTTEN_CUT_EVERY = 16 }; /* but for when the older root leads to what is gone */

/* A record that nothing tells to be flushed, and that is damaged, is the torn end of the log: see recover.c. */
static bool is_unsure(const struct rot *rot, const struct target *t)
{
	bool unsure = rot->unsure == UNSURE_MAX;
	for (unsigned i = 0; i < rot->unsure; i++) {
		for (unsigned copy = 0; copy < 2; copy++)
			unsure |= t->block[copy] >= rot->unsure_from[i] && t->block[copy] < rot->unsure_end[i];
	}
	return unsure;
}

static bool shows(const struct run *r, const int64_t *seen, const uint32_t *whole)
{
	bool same = true;
	for (uint32_t b = 0; b < r->model.blocks; b++)
		same &= seen[b] < 0 || seen[b] == whole[b];
	return same;
}

/* A crash amid a rollback, or a clone's promotion, leaves it done, or what was there before. */
static void choose_whole(struct run *r, const int64_t *seen)
{
	const uint32_t *whole = NULL;
	if (r->rolling && shows(r, seen, r->rolling))
		whole = r->rolling;
	else if (r->promoting[1] && shows(r, seen, r->promoting[1]))
		whole = r->promoting[1];
	if (whole)
		model_become(&r->model, whole);
	else if (r->rolling)
		r->model.journal_count = r->rolling_from;
}

/* What can be read is what was flushed, or newer. */
static void settle_rotten(struct run *r, bool first)
{
	int64_t *seen = malloc(r->model.blocks * sizeof(*seen));
	CHECK(seen);
	for (uint32_t b = 0; b < r->model.blocks; b++)
		seen[b] = run_read(r, b);
	if (first)
		choose_whole(r, seen);
	for (uint32_t b = 0; b < r->model.blocks; b++) {
		if (seen[b] >= 0 && !model_may_be_left(&r->model, b, (uint32_t)seen[b]))
			sim_fail("block %" PRIu32 ": read %" PRId64 ", flushed %" PRIu32 ", written %" PRIu32, b,
				 seen[b], r->model.durable[b], r->model.current[b]);
	}
	free(seen);
}

static void close_and_open(struct run *r, bool may_lose)
{
	int error = store_close(r->store);
	r->store = NULL;
	if (error && !may_lose)
		sim_fail("close: %s", lcpfs_error_sentence(error));
	r->config.was_closed = !error;
	error = run_open(r, &r->failure);
	if (error && !may_lose)
		sim_fail("it does not open again: %s", r->failure.message);
}

/* One copy is left of everything: it is as after any other cut, with snapshots, clones and bookmarks. */
static void live_on_whole(struct run *r)
{
	run_settle(r);
	work_on(r);
	run_verify(r);
	close_and_open(r, false);
	run_verify(r);
}

static void live_on(struct run *r)
{
	settle_rotten(r, true);
	work_on(r);
	settle_rotten(r, false);
	close_and_open(r, true);
	if (r->store)
		settle_rotten(r, false);
}

static void rot_one(const struct rot *rot, const struct target *t, unsigned copies, uint64_t roll)
{
	bool swapped, stale, may_lose = t->kind == DATA || copies == 3;
	struct simimage *image = damaged_image(rot, t, copies, roll, &swapped, &stale);
	char stage[120];
	struct run r;
	if (!image || swapped || (t->kind == ROOT && copies == 3 && stale)) {
		simimage_free(image);
		return;
	}
	snprintf(stage, sizeof(stage), "%s of device block %" PRIu64 " after a cut, copies %u, roll %" PRIx64,
		 kind_name[t->kind], t->block[0], copies, roll);
	sim_stage = stage;
	run_fork(&r, rot->run, image, roll);
	int error = run_open(&r, &r.failure);
	if (error && (t->kind == DATA || !may_lose || error != -LCPFS_E_CORRUPT))
		sim_fail("it does not open: %s", r.failure.message);
	if (!error && may_lose)
		live_on(&r);
	else if (!error)
		live_on_whole(&r);
	sim_note_fault(true, error || r.noticed > rot->run->noticed);
	run_done(&r);
	simimage_free(image);
	sim_stage = "";
}

static void rot_some(struct rot *rot, uint64_t roll, uint64_t fates)
{
	const struct target *root = &rot->list[0];
	CHECK(root->kind == ROOT);
	if (rot->run->store && (rot->outlived || rot->told >= rot->run->store->log.durable))
		rot_one(rot, root, 3, roll * 8);
	for (unsigned i = 1; i < fates; i++) {
		roll = hash_mix(roll + i);
		const struct target *t = &rot->list[roll % rot->count];
		unsigned copies = t->kind == DATA ? 1 : 1 + (unsigned)(roll / rot->count % 3);

		if (!is_unsure(rot, t))
			rot_one(rot, t, copies, roll);
	}
}

static void rot_after_cut(void *context, struct simdisk *disk, uint64_t change)
{
	struct rot *rot = context;
	uint64_t roll = hash_mix(rot->run->seed * 1000003 + change);
	struct simdisk_fate fate = {.kind = (enum simdisk_fate_kind[]){SIMDISK_NONE, SIMDISK_ALL, SIMDISK_SCATTER,
								       SIMDISK_SCATTER}[roll % 4],
				    .seed = roll};
	if (change % (rot->run->options->cut_every * (rot->run->turning ? 1 : ROTTEN_CUT_EVERY)))
		return;
	sim_counts->cuts++;
	rot->image = simdisk_image(disk, &fate);
	if (sim_new_state(rot->image, rot->run->model.flushes)) {
		uint64_t fates = roll / 4 % 8 ? 1 : rot->run->options->fates;
		find_targets(rot, fates > 1);
		rot_some(rot, roll, fates);
	}
	simimage_free(rot->image);
	free(rot->list);
	simimage_free(rot->old);
	rot->old = simimage_clone(simdisk_content(disk));
	rot->image = NULL;
	rot->list = NULL;
	rot->count = rot->unsure = 0;
	rot->told = 0;
	rot->outlived = false;
}

void rotcuts_run(const struct sim_options *options, uint64_t seed)
{
	struct run r;
	struct rot rot = {.run = &r};
	/* Mostly with one head: then fewer places tell. */
	run_init(&r, options, seed, seed % 4 ? 8 + seed % 8 : 0, 0);
	rot.old = simimage_clone(simdisk_content(r.disk));
	simdisk_on_change(r.disk, rot_after_cut, &rot);
	for (uint64_t epoch = 0; r.op < options->ops; epoch = r.store->log.epoch) {
		/* An older root of an earlier epoch is as dangerous. */
		r.turning = r.store->log.epoch != epoch || (r.turning && run_random(&r, 4) > 0);
		if (!r.turning)
			run_turn_over(&r);
		run_op(&r);
	}
	simimage_free(rot.old);
	run_done(&r);
}
