/* SPDX-License-Identifier: Apache-2.0 */
/* poolsim --mode errors and memory: every operation of the device fails, and every allocation. */
#include <inttypes.h>
#include <stdio.h>

#include "poolsim.h"

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
	pool_faults_end(r);
	pool_verify(r); /* still faulty: what a failed flush has lost may not be readable */
	for (unsigned i = 0; i < ARRAY_LENGTH(kinds); i++) {
		struct simimage *image =
			simdisk_image(r->disk, &(struct simdisk_fate){.kind = kinds[i], .seed = r->seed});
		pool_look_at(r, image, 1 + i, 2);
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
	sim_note_fault(met, r.noticed > 0);
	fault_is_gone(&r);
	pool_run_done(&r);
	return met;
}

void pool_errors_run(const struct sim_options *options, uint64_t seed)
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

/* -- memory -- */

/* With memory again the pool that was running has everything; but for partitions that did not open. */
static void memory_is_back(struct pool_run *r)
{
	alloc_work();
	if (!pool_is_degraded(r)) {
		r->faulty = false;
		pool_verify(r);
	}
	fault_is_gone(r);
}

/* Allocation `at` fails, or none does. How many there were. */
static uint64_t without_memory(const struct sim_options *options, uint64_t seed, uint64_t at, bool forever)
{
	struct pool_run r;
	pool_run_init(&r, options, seed);
	alloc_work();
	r.faulty = at != UINT64_MAX;
	if (r.faulty)
		alloc_fail(at, forever);
	while (r.op < options->ops)
		pool_op(&r);
	uint64_t count = alloc_count();
	if (r.faulty) {
		sim_note_fault(alloc_failed(), r.noticed > 0);
		memory_is_back(&r);
	}
	pool_run_done(&r);
	return count;
}

typedef int attempt(struct pool_run *r);

/* All of these say so when there is no memory, and do wholly what they do when they say nothing. */
static int try_open(struct pool_run *r)
{
	return pool_run_open(r);
}

static int try_check(struct pool_run *r)
{
	struct lcpfs_care care = {0};
	int error = ALLOC_ARMED(pool_check_vdev(r->vdev, &r->clock, &care, &r->failure));
	if (!error && care.damaged != 1)
		sim_fail("check finds %" PRIu64 " where 1 is damaged, and says nothing of memory", care.damaged);
	return error;
}

static int try_scrub(struct pool_run *r)
{
	struct lcpfs_care care = {0};
	struct lcpfs_open_options options = {.cache_bytes = 1 << 20, .read_only = true};
	CHECK(!pool_open_vdev(r->vdev, &r->clock, &options, &r->pool, &r->failure));
	int error = ALLOC_ARMED(lcpfs_pool_scrub(r->pool, &care, &r->failure));
	if (!error && care.damaged != 1)
		sim_fail("scrub finds %" PRIu64 " where 1 is damaged, and says nothing of memory", care.damaged);
	return error;
}

static int try_create(struct pool_run *r)
{
	struct lcpfs_create_options create = {.force = true};
	return ALLOC_ARMED(pool_create_vdev(r->vdev, &r->clock, &create, r->seed + 1, &r->failure));
}

/* On a closed pool with one damaged copy of an uberblock. Was there an allocation `at`? */
static bool attempt_without_memory(const struct pool_run *from, const struct simimage *image, attempt *try,
				   uint64_t at)
{
	struct pool_run r;
	pool_run_fork(&r, from, image, at);
	r.failure = (struct lcpfs_failure){0};
	alloc_fail(at, false);
	int error = try(&r);
	bool failed = alloc_failed();
	alloc_work();
	if (error && (error != -LCPFS_E_NOMEM || !failed || !r.failure.message[0]))
		sim_fail("it says: %s (%s)", lcpfs_error_sentence(error), r.failure.message);
	if (failed)
		sim_note_fault(true, error != 0);
	if (try != try_create) {
		pool_abandon(r.pool);
		pool_must_open(&r);
		pool_settle(&r);
	}
	pool_run_done(&r);
	return failed;
}

static void attempts(const struct sim_options *options, uint64_t seed)
{
	static attempt *const list[] = {try_open, try_check, try_scrub, try_create};
	struct pool_run r;
	pool_run_init(&r, options, seed);
	while (r.op < options->ops)
		pool_op(&r);
	uint64_t newest = le64_get(r.pool->uberblock.txg);
	struct layout l = r.pool->layout;
	pool_verify(&r);
	if (pool_run_close(&r))
		sim_fail("close: %s", r.failure.message);
	for (unsigned i = 0; i < PARTS; i++)
		snaps_flushed(&r.part[i]);
	simdisk_damage(r.disk,
		       &(struct simimage_damage){
			       .kind = SIMIMAGE_FLIP,
			       .offset = layout_area_block(&l, 1, AREA_UBERBLOCKS + newest % UBERBLOCK_SLOTS) *
					 BLOCK_SIZE});
	struct simimage *image = simdisk_image(r.disk, &(struct simdisk_fate){.kind = SIMDISK_ALL});
	for (unsigned i = 0; i < ARRAY_LENGTH(list); i++) {
		for (uint64_t at = 0; attempt_without_memory(&r, image, list[i], at); at += options->cut_every)
			;
	}
	simimage_free(image);
	pool_run_done(&r);
}

void pool_memory_run(const struct sim_options *options, uint64_t seed)
{
	uint64_t allocations = without_memory(options, seed, UINT64_MAX, false);
	attempts(options, seed);
	for (uint64_t at = 0; at < allocations; at += options->cut_every) {
		for (unsigned forever = 0; forever < 2; forever++) {
			if (options->verbose)
				fprintf(stderr, "allocation %" PRIu64 ", forever %u\n", at, forever);
			without_memory(options, seed, at, forever);
		}
	}
}
