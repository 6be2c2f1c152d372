/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A whole pool under power cuts (mode cuts) and device errors (mode errors), driven by one thread.
 *
 * Several partitions are written, trimmed, added, removed, resized, moved between; the engine decides in
 * between. At every change of the device what a power cut may leave is opened, checked, compared and worked
 * with. In the other mode every operation of the device fails in turn, once and for good.
 */
#include "poolsim.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

#include "base/hash.h"

/* -- power cuts -- */

static uint64_t promise_of(const struct pool_run *r)
{
	uint64_t promise = 0;

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
	simdisk_free(r->disk);
	r->disk = simdisk_new(image, SIMDISK_DISCARD_GARBAGE);
	simimage_free(image);
	r->vdev = simdisk_vdev(r->disk);
}

static void look_at(const struct pool_run *from, const struct simimage *image, uint64_t seed, unsigned ops)
{
	struct pool_run r;

	pool_run_fork(&r, from, image, seed);
	r.faulty = false;
	if (pool_random(&r, 8) == 0)
		cut_again(&r);
	sim_stage = "check after a cut";
	pool_must_be_clean(&r);
	sim_stage = "open after a cut";
	pool_must_open(&r);
	pool_settle(&r);
	sim_stage = "work after a cut";
	for (unsigned i = 0; i < ops; i++)
		pool_op(&r);
	pool_verify(&r);
	if (pool_run_close(&r))
		sim_fail("close: %s", r.failure.message);
	pool_must_be_clean(&r);
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
			look_at(r, image, hash_mix(fate.seed), 3);
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
	pool_must_be_clean(&r);
	pool_run_done(&r);
}

/* -- errors -- */

static const struct simdisk_fault ways[] = {
	{.kind = SIMDISK_READ, .error = LCPFS_E_IO},
	{.kind = SIMDISK_WRITE, .error = LCPFS_E_IO},
	{.kind = SIMDISK_WRITE, .error = LCPFS_E_DEVICE_FULL, .done_bytes = VDEV_SECTOR},
	{.kind = SIMDISK_FLUSH, .error = LCPFS_E_IO},
	{.kind = SIMDISK_FLUSH, .error = LCPFS_E_IO, .drop_seed = 12345},
	{.kind = SIMDISK_DISCARD, .error = LCPFS_E_IO},
};

static void fault_is_gone(struct pool_run *r)
{
	static const enum simdisk_fate_kind kinds[] = {SIMDISK_ALL, SIMDISK_NONE, SIMDISK_SCATTER};

	simdisk_clear_faults(r->disk);
	pool_verify(r); /* still faulty: what a failed flush has lost may not be readable */
	for (unsigned i = 0; i < ARRAY_LENGTH(kinds); i++) {
		struct simimage *image = simdisk_image(r->disk, &(struct simdisk_fate){.kind = kinds[i],
				.seed = r->seed});

		look_at(r, image, 1 + i, 2);
		simimage_free(image);
	}
}

static bool workload(const struct sim_options *options, uint64_t seed, const struct simdisk_fault *fault)
{
	struct pool_run r;

	pool_run_init(&r, options, seed);
	r.faulty = true;
	simdisk_add_fault(r.disk, fault);
	while (r.op < options->ops)
		pool_op(&r);
	bool met = simdisk_fault_hits(r.disk) > 0;
	sim_counts->faults++;
	sim_counts->faults_met += met;
	sim_counts->faults_noticed += r.noticed > 0;
	fault_is_gone(&r);
	pool_run_done(&r);
	return met;
}

static void errors_run(const struct sim_options *options, uint64_t seed)
{
	for (unsigned way = 0; way < ARRAY_LENGTH(ways); way++) {
		bool met = true;

		for (uint64_t at = 0; met; at += options->cut_every) {
			struct simdisk_fault fault = ways[way];

			fault.at = at;
			fault.effect = SIMDISK_FAILS;
			if (options->verbose)
				fprintf(stderr, "way %u, at %" PRIu64 "\n", way, at);
			met = workload(options, seed, &fault);
			fault.forever = true;
			if (met)
				workload(options, seed, &fault);
		}
	}
}

static void run(const struct sim_options *options, uint64_t seed)
{
	if (strcmp(options->mode, "cuts") == 0)
		cuts_run(options, seed);
	else
		errors_run(options, seed);
}

int main(int argc, char **argv)
{
	static const struct sim sim = {.name = "poolsim", .modes = "cuts errors", .ops = 60, .run = run};

	return sim_main(&sim, argc, argv);
}
