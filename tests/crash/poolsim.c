/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole pool under power cuts (mode cuts), device errors, failing allocations and rot, driven by one thread.
 *
 * Several partitions are written, trimmed, added, removed, resized, moved between; the engine decides in
 * between. At every change of the device what a power cut may leave is opened, checked, compared and worked
 * with. In mode errors every operation of the device fails in turn, once and for good; in mode memory every
 * allocation does. Mode rot damages every structure of the pool in every way. Mode host: as cuts, on a sparse
 * device whose host is full at times. Modes snaps, snaperrors, snapmemory: as cuts, errors and memory, with
 * snapshots, clones, bookmarks and streams among the operations.
 */
#include "poolsim.h"

#include <string.h>

#include "base/hash.h"

/* -- power cuts -- */

static uint64_t promise_of(const struct pool_run *r)
{
	uint64_t promise = r->snapshots ? r->op : 0;
	for (unsigned i = 0; i < PARTS; i++)
		promise = hash_mix(promise + r->part[i].model.flushes * 4 + r->part[i].presence);
	return promise;
}

static void cut_again(struct pool_run *r)
{
	struct lcpfs_open_options options = {.cache_bytes = 1 << 20};
	sim_counts->second_cuts++;
	simdisk_stop_at(r->disk, pool_random(r, 60));
	if (!pool_open_vdev(r->vdev, &r->clock, &options, &r->pool, NULL))
		pool_abandon(r->pool);
	r->pool = NULL;
	struct simdisk_fate fate = {.kind = SIMDISK_SCATTER, .seed = pool_random(r, UINT64_MAX)};
	struct simimage *image = simdisk_image(r->disk, &fate);
	pool_run_use(r, simdisk_new(image, SIMDISK_DISCARD_GARBAGE));
	simimage_free(image);
}

void pool_look_at(const struct pool_run *from, const struct simimage *image, uint64_t seed, unsigned ops)
{
	struct pool_run r;
	pool_run_fork(&r, from, image, seed);
	r.faulty = false;
	if (pool_random(&r, 8) == 0)
		cut_again(&r);
	sim_stage = "check after a cut";
	pool_must_be_clean(&r, false);
	sim_stage = "open after a cut";
	pool_must_open(&r);
	pool_settle(&r);
	sim_stage = "work after a cut";
	for (unsigned i = 0; i < ops; i++)
		pool_op(&r);
	pool_verify(&r);
	if (pool_run_close(&r))
		sim_fail("close: %s", r.failure.message);
	pool_must_be_clean(&r, true);
	pool_run_done(&r);
	sim_stage = "";
}

static void on_change(void *context, struct simdisk *disk, uint64_t change)
{
	struct pool_run *r = context;
	if (change % r->options->cut_every)
		return;
	sim_counts->cuts++;
	for (uint64_t i = 0; i < r->options->fates; i++) {
		struct simdisk_fate fate = {.kind = i == 0 ? SIMDISK_NONE : i == 1 ? SIMDISK_ALL : SIMDISK_SCATTER,
					    .seed = hash_mix(r->seed * 1000003 + change * 1024 + i)};
		struct simimage *image = simdisk_image(disk, &fate);
		if (sim_new_state(image, promise_of(r)))
			pool_look_at(r, image, hash_mix(fate.seed), 3);
		simimage_free(image);
	}
}

static void cuts_run(const struct sim_options *options, uint64_t seed)
{
	struct pool_run r;
	pool_run_init(&r, options, seed);
	simdisk_on_change(r.disk, on_change, &r);
	while (r.op < options->ops)
		pool_op(&r);
	simdisk_on_change(r.disk, NULL, NULL);
	sim_stage = "end";
	pool_verify(&r);
	if (pool_run_close(&r))
		sim_fail("close: %s", r.failure.message);
	pool_must_be_clean(&r, true);
	pool_run_done(&r);
}

static void run(const struct sim_options *options, uint64_t seed)
{
	static const struct {
		const char *mode;
		void (*run)(const struct sim_options *options, uint64_t seed);
	} modes[] = {{"cuts", cuts_run},
		     {"host", cuts_run},
		     {"errors", pool_errors_run},
		     {"memory", pool_memory_run},
		     {"snaps", cuts_run},
		     {"snaperrors", pool_errors_run},
		     {"snapmemory", pool_memory_run}};

	for (unsigned i = 0; i < ARRAY_LENGTH(modes); i++) {
		if (strcmp(options->mode, modes[i].mode) == 0)
			modes[i].run(options, seed);
	}
}

int main(int argc, char **argv)
{
	static const struct sim sim = {.name = "poolsim",
				       .modes = "cuts host errors memory snaps snaperrors snapmemory",
				       .ops = 60,
				       .run = run};
	return sim_main(&sim, argc, argv);
}
