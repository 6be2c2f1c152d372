/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Full: written until the last block is taken, and kept there under overwriting, trimming and handing metaslabs
 * over and back. The writer is told; everybody else is served; after trimming everything there is as much room
 * as there was.
 */
#include <inttypes.h>
#include <stdio.h>

#include "storesim.h"

enum { CYCLES = 3 };

static int write_one(struct run *r, uint32_t block)
{
	uint8_t data[BLOCK_SIZE];
	uint32_t version = r->model.next_version++;
	content_fill(data, block, version);
	int error = store_write(r->store, run_offset(r, block), data, BLOCK_SIZE, false, NULL);
	if (error && error != -LCPFS_E_NOSPC)
		sim_fail("write to a full partition: %s", lcpfs_error_sentence(error));
	if (r->model.journal_count == JOURNAL_MAX)
		model_flushed(&r->model);
	if (!error)
		model_change(&r->model, block, version);
	return error;
}

/* New blocks in order of address until no more fit; how many. */
static uint64_t fill_up(struct run *r)
{
	uint64_t written = 0;
	unsigned refused = 0;
	for (uint32_t b = 0; b < r->model.blocks && refused < 20; b++) {
		if (r->model.current[b])
			continue;
		if (write_one(r, b))
			refused++;
		else
			written++;
	}
	if (!refused)
		sim_fail("the volume is smaller than the partition");
	sim_counts->fills++;
	sim_counts->filled_blocks += written;
	return written;
}

static void trim(struct run *r, uint32_t first, uint32_t count)
{
	int error = store_trim(r->store, run_offset(r, first), run_offset(r, count), false, NULL);
	if (error)
		sim_fail("trim of a full partition: %s", lcpfs_error_sentence(error));
	for (uint32_t b = first; b < first + count; b++) {
		if (r->model.journal_count == JOURNAL_MAX)
			model_flushed(&r->model);
		if (r->model.current[b])
			model_change(&r->model, b, 0);
	}
}

static void must(int error, const char *what)
{
	if (error < 0)
		sim_fail("%s of a full partition: %s", what, lcpfs_error_sentence(error));
}

static void hand_over(struct run *r)
{
	uint32_t metaslab;
	int error = store_release(r->store, &metaslab);
	if (error == -LCPFS_E_TOO_SMALL)
		return;
	must(error, "release");
	must(store_add(r->store, &metaslab, 1), "add");
}

static void reopen(struct run *r)
{
	must(store_close(r->store), "close");
	r->store = NULL;
	run_must_be_clean(r);
	run_must_open(r);
}

/* Overwrites what is there, and now and then makes a little room and takes it again. */
static void live_there(struct run *r)
{
	uint32_t block = (uint32_t)run_random(r, r->model.blocks);
	switch (run_random(r, 16)) {
	case 0:
		trim(r, (uint32_t)run_random(r, r->model.blocks - 16), 1 + (uint32_t)run_random(r, 16));
		break;
	case 1:
		must(store_flush(r->store, NULL), "flush");
		model_flushed(&r->model);
		break;
	case 2:
		hand_over(r);
		break;
	case 3:
		must(store_checkpoint(r->store), "checkpoint");
		break;
	case 4:
		must(store_step(r->store), "background work");
		break;
	case 5:
		if (run_random(r, 8) == 0)
			reopen(r);
		break;
	case 6:
		fill_up(r);
		break;
	default:
		if (r->model.current[block] && write_one(r, block))
			sim_fail("overwriting block %" PRIu32 " of a full partition: no space", block);
	}
}

static void must_be_empty(struct run *r)
{
	struct store_stats stats;
	must(store_checkpoint(r->store), "checkpoint");
	store_stats(r->store, &stats);
	if (stats.data_blocks || stats.page_blocks)
		sim_fail("after trimming everything %" PRIu64 " data blocks and %" PRIu64
			 " blocks of pages are left",
			 stats.data_blocks, stats.page_blocks);
}

/* What is overwritten takes room now. Where there is none left, snapshots can be given up, or gone back to. */
static void with_snapshots(struct run *r, uint64_t ops)
{
	fill_up(r);
	for (uint64_t i = 0; i < ops; i++) {
		sim_begin_op(++r->op);
		if (run_random(r, 3) == 0)
			snaps_take(r);
		if (clones_used(r) && run_random(r, 2) == 0)
			clones_op(r);
		for (unsigned k = 0; k < 20; k++) {
			(void)!write_one(r, (uint32_t)run_random(r, r->model.blocks));
			if (clones_used(r) && run_random(r, 2))
				(void)!clones_change(r);
		}
		if (run_random(r, 3) == 0)
			snaps_give_up(r);
		must(store_step(r->store), "background work");
	}
	run_verify(r);
	reopen(r);
	run_verify(r);
}

void full_run(const struct sim_options *options, uint64_t seed)
{
	uint32_t metaslabs = STORE_METASLABS_MIN + (uint32_t)(seed % 12);
	uint64_t first = 0;
	struct run r;
	run_init(&r, options, seed, metaslabs, metaslabs * METASLAB_BLOCKS);
	for (unsigned cycle = 0; cycle < CYCLES; cycle++) {
		uint64_t written = fill_up(&r);
		if (options->verbose)
			fprintf(stderr, "cycle %u: %" PRIu64 " blocks of %u\n", cycle, written,
					metaslabs * METASLAB_BLOCKS);
		first = cycle ? first : written;
		if (written != first)
			sim_fail("%" PRIu64 " blocks fit the first time, %" PRIu64 " now", first, written);
		for (uint64_t i = 0; i < options->ops; i++) {
			sim_begin_op(++r.op);
			live_there(&r);
		}
		run_verify(&r);
		trim(&r, 0, r.model.blocks);
		must_be_empty(&r);
		if (run_random(&r, 2))
			reopen(&r);
		run_verify(&r);
	}
	with_snapshots(&r, options->ops);
	run_done(&r);
}
