/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Every operation of the device, or every allocation, fails in turn, once and for good.
 *
 * The same workload is run again for each of its reads, writes and flushes, and for each way to fail. Meanwhile
 * whoever asks gets an error or the right answer. When the fault is gone: what a flush covered is there, in the
 * running store and in a new one on what the disk holds, with and without its cache.
 */
#include <inttypes.h>
#include <stdio.h>

#include "base/hash.h"
#include "storesim.h"

static const struct simdisk_fault ways[] = {
	{.kind = SIMDISK_READ, .error = LCPFS_E_IO},
	{.kind = SIMDISK_WRITE, .error = LCPFS_E_IO},
	{.kind = SIMDISK_WRITE, .error = LCPFS_E_DEVICE_FULL},
	{.kind = SIMDISK_WRITE, .error = LCPFS_E_IO, .done_bytes = VDEV_SECTOR}, /* short */
	{.kind = SIMDISK_WRITE, .error = LCPFS_E_DEVICE_FULL, .done_bytes = 3 * BLOCK_SIZE + 5 * VDEV_SECTOR},
	{.kind = SIMDISK_FLUSH, .error = LCPFS_E_IO}, /* drops all that was cached */
	{.kind = SIMDISK_FLUSH, .error = LCPFS_E_IO, .drop_seed = 12345}, /* drops some of it */
};

static void reopen_on(const struct run *from, const struct simdisk_fate *fate)
{
	struct simimage *image = simdisk_image(from->disk, fate);
	struct run r;
	run_fork(&r, from, image, fate->seed);
	r.faulty = false;
	simimage_free(image);
	run_must_be_clean(&r);
	run_must_open(&r);
	run_settle(&r);
	for (int i = 0; i < 2; i++)
		run_op(&r);
	run_reopen(&r); /* what was put right in memory has to come to the device, too */
	run_done(&r);
}

static void fault_is_gone(struct run *r)
{
	run_mend(r);
	sim_stage = "opened after the fault";
	reopen_on(r, &(struct simdisk_fate){.kind = SIMDISK_ALL});
	reopen_on(r, &(struct simdisk_fate){.kind = SIMDISK_NONE});
	reopen_on(r, &(struct simdisk_fate){.kind = SIMDISK_SCATTER, .seed = r->seed});
	sim_stage = "after the fault";
	r->faulty = false;
	run_verify(r);
	int error = store_flush(r->store, NULL);
	if (error && !r->store->faulted)
		sim_fail("flush fails though the fault is gone: %s", lcpfs_error_sentence(error));
	if (!error)
		model_flushed(&r->model);
	run_verify(r);
	reopen_on(r, &(struct simdisk_fate){.kind = SIMDISK_NONE});
	sim_stage = "";
}

/* With a fault, or without. How many operations of its most frequent kind it has. */
static uint64_t workload(const struct sim_options *options, uint64_t seed, const struct simdisk_fault *fault)
{
	struct run r;
	run_init(&r, options, seed, 0, 0);
	struct simdisk_counts before = *simdisk_counts(r.disk);
	r.faulty = fault != NULL;
	if (fault)
		simdisk_add_fault(r.disk, fault);
	while (r.op < options->ops)
		run_op(&r);
	struct simdisk_counts after = *simdisk_counts(r.disk);
	if (fault) {
		sim_note_fault(simdisk_fault_hits(r.disk) > 0, r.noticed > 0);
		fault_is_gone(&r);
	}
	run_done(&r);
	return MAX_OF(after.reads - before.reads, MAX_OF(after.writes - before.writes,
			after.flushes - before.flushes));
}

/* -- opening what a crash left -- */

/* With operation `at` of a kind failing, or an allocation where fault is NULL. Was there one? */
static bool open_faulty(const struct run *from, const struct simimage *image, const struct simdisk_fault *fault,
			uint64_t at)
{
	struct lcpfs_failure failure = {0};
	struct run r;
	run_fork(&r, from, image, at);
	if (fault)
		simdisk_add_fault(r.disk, fault);
	else
		alloc_fail(at, false);
	int error = run_open(&r, &failure);
	bool met = fault ? simdisk_fault_hits(r.disk) > 0 : alloc_failed();
	enum lcpfs_error expected = fault ? fault->error : LCPFS_E_NOMEM;
	run_mend(&r);
	if (error && (error != -(int)expected || !met || !failure.message[0]))
		sim_fail("opening says: %s (%s)", lcpfs_error_sentence(error), failure.message);
	if (error)
		run_must_open(&r);
	run_settle(&r);
	run_done(&r);
	if (met)
		sim_note_fault(true, error != 0);
	return met;
}

static void open_in_all_ways(const struct sim_options *options, uint64_t seed, const struct simdisk_fault *faults,
			     unsigned count)
{
	struct run r;
	run_init(&r, options, seed, 0, 0);
	while (r.op < options->ops)
		run_op(&r);
	struct simimage *image = simdisk_image(r.disk, &(struct simdisk_fate){.kind = SIMDISK_ALL});
	sim_stage = "opened with a fault";
	for (unsigned way = 0; way < count; way++) {
		struct simdisk_fault fault = faults ? faults[way] : (struct simdisk_fault){0};
		fault.effect = SIMDISK_FAILS;
		for (fault.at = 0; open_faulty(&r, image, faults ? &fault : NULL, fault.at);
		     fault.at += options->cut_every)
			;
	}
	sim_stage = "";
	simimage_free(image);
	run_done(&r);
}

void errors_run(const struct sim_options *options, uint64_t seed)
{
	uint64_t operations = workload(options, seed, NULL);
	open_in_all_ways(options, seed, ways, ARRAY_LENGTH(ways));
	for (unsigned way = 0; way < ARRAY_LENGTH(ways); way++) {
		uint64_t met = UINT64_MAX;
		for (uint64_t at = 0; at < operations && met != sim_counts->faults_met; at += options->cut_every) {
			met = sim_counts->faults_met; /* no more met: there are no more operations of this kind */
			for (unsigned forever = 0; forever < 2; forever++) {
				struct simdisk_fault fault = ways[way];
				fault.at = at;
				fault.forever = forever;
				fault.effect = SIMDISK_FAILS;
				if (options->verbose)
					fprintf(stderr, "way %u, at %" PRIu64 ", forever %u\n", way, at, forever);
				workload(options, seed, &fault);
			}
		}
	}
}

/* -- memory -- */

/* Allocation `at` fails, or none does. How many there were. */
static uint64_t without_memory(const struct sim_options *options, uint64_t seed, uint64_t at, bool forever)
{
	struct run r;
	run_init(&r, options, seed, 0, 0);
	alloc_work();
	r.faulty = at != UINT64_MAX;
	if (r.faulty)
		alloc_fail(at, forever);
	while (r.op < options->ops)
		run_op(&r);
	uint64_t count = alloc_count();
	if (r.faulty) {
		sim_note_fault(alloc_failed(), r.noticed > 0);
		fault_is_gone(&r);
	}
	run_done(&r);
	return count;
}

void memory_run(const struct sim_options *options, uint64_t seed)
{
	uint64_t allocations = without_memory(options, seed, UINT64_MAX, false);
	open_in_all_ways(options, seed, NULL, 1);
	for (uint64_t at = 0; at < allocations; at += options->cut_every) {
		for (unsigned forever = 0; forever < 2; forever++) {
			if (options->verbose)
				fprintf(stderr, "allocation %" PRIu64 ", forever %u\n", at, forever);
			without_memory(options, seed, at, forever);
		}
	}
}
