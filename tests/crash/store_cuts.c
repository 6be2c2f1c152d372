/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power cuts at every change of the device.
 *
 * Mode cuts: at each, what the disk may have kept is sampled. Mode subsets: a short run, at each change every
 * subset of the youngest cached writes and every tear of the last one at a sector.
 *
 * What is left is checked, opened, compared, worked on a little, and sometimes cut again while it is being opened.
 */
#include <inttypes.h>

#include "base/hash.h"
#include "storesim.h"

enum { SUBSET_WRITES_MAX = 5, TEARS_MAX = 24 };

static void cut_now(struct run *r)
{
	sim_counts->second_cuts++;
	struct simdisk_fate fate = {.kind = SIMDISK_SCATTER, .seed = run_random(r, UINT64_MAX)};
	struct simimage *image = simdisk_image(r->disk, &fate);
	simdisk_free(r->disk);
	r->disk = simdisk_new(image, SIMDISK_DISCARD_GARBAGE);
	simimage_free(image);
	alloc_front_init(&r->front, simdisk_vdev(r->disk));
}

static void cut_while_opening(struct run *r)
{
	struct store *store;
	simdisk_stop_at(r->disk, run_random(r, 40));
	int error = store_open(&r->config, r->metaslab, r->owned, &store, NULL);
	for (int i = 0; !error && i < 3; i++)
		(void)!store_checkpoint(store);
	if (!error)
		store_abandon(store);
	cut_now(r);
}

static void cut_after_work(struct run *r)
{
	sim_stage = "open after work after a cut";
	store_abandon(r->store);
	cut_now(r);
	r->config.was_closed = false;
	run_must_open(r);
	run_settle(r);
}

static void go_on(struct run *r)
{
	sim_stage = "check after a cut";
	run_must_be_clean(r);
	sim_stage = "open after a cut";
	run_must_open(r);
	run_settle(r);
	sim_stage = "work after a cut";
	for (int i = 0; i < 4; i++)
		run_op(r);
	uint64_t rest = run_random(r, 8);
	if (rest < 2) /* settling has just read it all */
		run_verify(r);
	else if (rest < 4)
		cut_after_work(r);
	else if (rest < 5)
		run_reopen(r); /* what was put right in memory has to come to the device, too */
	sim_stage = "";
}

static void after_cut(const struct run *from, const struct simdisk_fate *fate)
{
	struct simimage *image = simdisk_image(from->disk, fate);
	if (sim_new_state(image, from->model.flushes)) {
		struct run r;
		run_fork(&r, from, image, hash_mix(fate->seed + 1));
		if (run_random(&r, 8) == 0)
			cut_while_opening(&r);
		go_on(&r);
		run_done(&r);
	}
	simimage_free(image);
}

static void on_change(void *context, struct simdisk *disk, uint64_t change)
{
	struct run *r = context;
	(void)disk;
	if (change % r->options->cut_every)
		return;
	sim_counts->cuts++;
	for (uint64_t i = 0; i < r->options->fates; i++) {
		struct simdisk_fate fate = {.kind = i == 0 ? SIMDISK_NONE : i == 1 ? SIMDISK_ALL : SIMDISK_SCATTER,
					    .seed = hash_mix(r->seed * 1000003 + change * 1024 + i)};
		after_cut(r, &fate);
	}
}

static void tear(struct run *r, unsigned index, uint64_t mask, uint64_t seed)
{
	uint64_t sectors = simdisk_cached(r->disk, index).length / VDEV_SECTOR;
	/* Torn in front, in the back, or with a hole, in the first sectors: headers and the first block. */
	for (uint64_t at = 1; at < MIN_OF(sectors, (uint64_t)TEARS_MAX); at++) {
		uint64_t head = (UINT64_C(1) << at) - 1;
		uint64_t torn[3] = {head, ~head, ~(UINT64_C(1) << at)};
		for (unsigned i = 0; i < ARRAY_LENGTH(torn); i++) {
			struct simdisk_fate fate = {.kind = SIMDISK_MASK, .mask = mask, .has_torn = true,
					.torn_index = index,
						    .torn_mask = torn[i], .seed = seed + at * 4 + i};
			after_cut(r, &fate);
		}
	}
}

static void on_change_all(void *context, struct simdisk *disk, uint64_t change)
{
	struct run *r = context;
	unsigned cached = simdisk_cached_count(disk), few = MIN_OF(cached, (unsigned)SUBSET_WRITES_MAX);
	uint64_t seed = hash_mix(r->seed * 1000003 + change * 1024);
	uint64_t older = cached > few ? (UINT64_C(1) << (cached - few)) - 1 : 0;
	sim_counts->cuts++;
	if (cached > 60) {
		on_change(context, disk, change);
		return;
	}
	for (uint64_t subset = 0; subset < UINT64_C(1) << few; subset++) {
		/* The youngest in all combinations, with all older ones and with none. */
		struct simdisk_fate fate = {.kind = SIMDISK_MASK, .mask = subset << (cached - few) | older,
				.seed = seed};

		after_cut(r, &fate);
		fate.mask &= ~older;
		after_cut(r, &fate);
	}
	if (cached) /* each write is the last one before some change */
		tear(r, cached - 1, (UINT64_C(1) << (cached - 1)) - 1, seed);
	for (uint64_t i = 0; i < r->options->fates && cached; i++)
		after_cut(r, &(struct simdisk_fate){.kind = SIMDISK_SCATTER, .seed = seed + i});
}

static void run_with(const struct sim_options *options, uint64_t seed, simdisk_hook hook)
{
	struct run r;
	run_init(&r, options, seed, 0, 0);
	simdisk_on_change(r.disk, hook, &r);
	while (r.op < options->ops)
		run_op(&r);
	sim_stage = "end";
	run_verify(&r);
	simdisk_on_change(r.disk, NULL, NULL);
	if (store_close(r.store))
		sim_fail("close");
	r.store = NULL;
	run_must_be_clean(&r);
	run_must_open(&r);
	run_verify(&r);
	run_done(&r);
}

void cuts_run(const struct sim_options *options, uint64_t seed)
{
	run_with(options, seed, on_change);
}

void subsets_run(const struct sim_options *options, uint64_t seed)
{
	run_with(options, seed, on_change_all);
}
