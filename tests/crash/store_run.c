/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of a run, and how what they did is compared with the model. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "store/clean.h"
#include "store/log.h"
#include "store/room.h"
#include "storesim.h"

static uint64_t sim_now_us(void *context)
{
	return ++((struct run *)context)->now_us;
}

static uint64_t sim_wall_s(void *context)
{
	return ((struct run *)context)->now_us / 1000000;
}

uint64_t run_random(struct run *r, uint64_t n)
{
	return hash_mix(r->random++) % n;
}

uint64_t run_offset(const struct run *r, uint32_t block)
{
	return (uint64_t)block * r->stride << BLOCK_SHIFT;
}

/* -- beginning and ending -- */

static void bind(struct run *r)
{
	r->clock = (struct clock){sim_now_us, sim_wall_s, r};
	r->config.clock = &r->clock;
	alloc_front_init(&r->front, simdisk_vdev(r->disk));
	r->config.vdev = &r->front.vdev;
}

static void choose_metaslabs(struct run *r, uint32_t metaslabs)
{
	r->total = metaslabs ? metaslabs : STORE_METASLABS_MIN + 2 + (uint32_t)run_random(r, 14);
	uint32_t more = metaslabs ? 0 : (uint32_t)run_random(r, r->total - STORE_METASLABS_MIN + 1);
	uint32_t owned = metaslabs ? metaslabs : STORE_METASLABS_MIN + more;

	for (uint32_t i = 0; i < r->total; i++) {
		if (i < owned)
			r->metaslab[r->owned++] = i;
		else
			r->spare[r->spares++] = i;
	}
}

void run_init(struct run *r, const struct sim_options *options, uint64_t seed, uint32_t metaslabs,
	      uint32_t volume_blocks)
{
	*r = (struct run){.options = options, .seed = seed, .random = hash_mix(seed)};
	choose_metaslabs(r, metaslabs);
	uint32_t metaslab_blocks = METASLAB_BLOCKS << (strcmp(options->mode, "rotcuts") == 0 ? (seed + 1) % 3 : 0);
	struct simimage *image = simimage_new((BASE + r->total * (uint64_t)metaslab_blocks) << BLOCK_SHIFT);
	r->disk = simdisk_new(image, SIMDISK_DISCARD_GARBAGE);
	simimage_free(image);
	r->config = (struct store_config){.guid = seed + 1,
					  .partition = 7,
					  .name = "sim",
					  .metaslab_base = BASE,
					  .metaslab_blocks = metaslab_blocks,
					  .metaslab_count = r->total,
					  .root_block = {{0, 1}, {2, 3}},
					  .list_slots = seed / 8 % 2 ? 2 : 0};
	bind(r);
	model_init(&r->model, volume_blocks ? volume_blocks : 120 + (uint32_t)run_random(r, run_random(r, 4) ?
			400 : 1500));
	r->stride = seed % 4 == 3 ? VOLUME_SLOTS + 1 : 1; /* more pages than the cache holds */
	if (store_format(&r->config, (uint64_t)r->model.blocks * r->stride, r->metaslab, r->owned))
		sim_fail("format");
	run_must_open(r);
}

void run_fork(struct run *to, const struct run *from, const struct simimage *image, uint64_t seed)
{
	*to = *from;
	model_copy(&to->model, &from->model);
	snaps_copy(to, from);
	clones_copy(to, from);
	marks_copy(to, from);
	to->random = seed;
	to->after_cut = true;
	to->store = NULL;
	/* Others of its pool were opened and closed since, and it was not. */
	to->config.was_closed = hash_mix(seed) & 1;
	to->disk = simdisk_new(image, (enum simdisk_discard)(seed % 3));
	bind(to);
}

void run_mend(struct run *r)
{
	simdisk_clear_faults(r->disk);
	alloc_work();
}

void run_done(struct run *r)
{
	if (r->store)
		store_abandon(r->store);
	snaps_done(r);
	clones_done(r);
	marks_done(r);
	model_free(&r->model);
	simdisk_free(r->disk);
}

/* -- verifying -- */

/* Half of the time as the server does it: what can be done without waiting is done so. */
static bool as_served(const struct run *r)
{
	return (r->seed + r->op) % 2;
}

static int read_blocks(struct run *r, uint32_t first, uint32_t count, uint8_t *data)
{
	size_t length = (size_t)count * BLOCK_SIZE;
	if (as_served(r) && !store_try_read(r->store, run_offset(r, first), data, length))
		return 0;
	return store_read(r->store, run_offset(r, first), data, length, &r->failure);
}

int64_t run_read(struct run *r, uint32_t block)
{
	uint8_t data[BLOCK_SIZE];
	if (ALLOC_ARMED(read_blocks(r, block, 1, data))) {
		r->noticed++;
		return -1;
	}
	return sim_version(data, block);
}

/* What lies side by side, holes or data, at once. Of a hole it is enough that it is one: it has version 0. */
static int read_extent(struct run *r, uint32_t first, uint32_t *count, int64_t *version)
{
	uint8_t data[READ_BLOCKS * BLOCK_SIZE];
	uint64_t end;
	bool is_data;
	uint64_t most = (uint64_t)*count * BLOCK_SIZE;
	int error = ALLOC_ARMED(store_extent(r->store, run_offset(r, first), most, &is_data, &end));
	if (!error)
		*count = (uint32_t)(end >> BLOCK_SHIFT) - first;
	if (!error && is_data)
		error = ALLOC_ARMED(read_blocks(r, first, *count, data));
	for (uint32_t i = 0; i < *count && !error; i++)
		version[i] = is_data ? sim_version(data + (size_t)i * BLOCK_SIZE, first + i) : 0;
	sim_counts->compared_blocks += error || is_data ? 0 : *count;
	return error;
}

/* The versions of up to READ_BLOCKS blocks, mostly by extents. Where that fails, and sometimes, each by itself. */
static uint32_t read_some(struct run *r, uint32_t first, int64_t *version)
{
	uint32_t count = MIN_OF(r->model.blocks - first, (uint32_t)READ_BLOCKS);
	if (r->stride == 1 && (r->seed + r->op) % 8) {
		if (!read_extent(r, first, &count, version))
			return count;
		r->noticed++;
	}
	for (uint32_t i = 0; i < count; i++)
		version[i] = run_read(r, first + i);
	return count;
}

bool run_may_fail(const struct run *r)
{
	return r->faulty || simdisk_is_stopped(r->disk) || r->store->faulted;
}

bool run_worked(struct run *r, int error)
{
	if (!error)
		return true;
	r->noticed += error != -LCPFS_E_NOSPC;
	if (error != -LCPFS_E_NOSPC && !run_may_fail(r))
		sim_fail("an operation on snapshots or clones failed: %s", lcpfs_error_sentence(error));
	return false;
}

static void verify_version(struct run *r, uint32_t block, int64_t version)
{
	if (version < 0 && run_may_fail(r))
		return;
	if (version < 0)
		sim_fail("block %" PRIu32 " cannot be read: %s", block, r->failure.message);
	if (!model_allows(&r->model, block, (uint32_t)version))
		sim_fail("block %" PRIu32 ": read %" PRId64 ", written %" PRIu32, block, version,
				r->model.current[block]);
}

static void verify_one(struct run *r, uint32_t block)
{
	verify_version(r, block, run_read(r, block));
}

void run_verify(struct run *r)
{
	int64_t version[READ_BLOCKS];
	for (uint32_t b = 0, count; b < r->model.blocks; b += count) {
		count = read_some(r, b, version);
		for (uint32_t i = 0; i < count; i++)
			verify_version(r, b + i, version[i]);
	}
	snaps_verify(r);
	clones_verify(r);
	marks_verify(r);
}

static uint32_t settled_version(struct run *r, uint32_t block, int64_t version)
{
	if (version < 0 && r->faulty) { /* the disk is replaced by one that works, with the same content */
		run_mend(r);
		version = run_read(r, block);
	}
	if (version < 0)
		sim_fail("block %" PRIu32 " cannot be read: %s", block, r->failure.message);
	return (uint32_t)version;
}

void run_settle(struct run *r)
{
	uint32_t *seen = calloc(r->model.blocks, sizeof(*seen));
	int64_t version[READ_BLOCKS];
	CHECK(seen);
	for (uint32_t b = 0, count; b < r->model.blocks; b += count) {
		count = read_some(r, b, version);
		for (uint32_t i = 0; i < count; i++)
			seen[b + i] = settled_version(r, b + i, version[i]);
	}
	/* A crash amid a rollback leaves it done, or what was there before. */
	bool back = r->rolling && memcmp(seen, r->rolling, r->model.blocks * sizeof(*seen)) == 0;
	if (back)
		model_become(&r->model, seen);
	else if (r->rolling)
		r->model.journal_count = r->rolling_from;
	r->rolling = NULL;
	bool exchanged = clones_were_exchanged(r, seen);
	if (!back && !exchanged && !model_settle(&r->model, seen))
		sim_fail("no prefix of what was written gives this state");
	free(seen);
	snaps_settle(r);
	clones_settle(r);
	marks_settle(r);
}

static void print_finding(void *context, const struct store_finding *finding)
{
	(void)context;
	fprintf(stderr, "  finding: %s (device block %" PRId64 ", address %" PRId64 ")\n", finding->text,
		(int64_t)finding->block, (int64_t)finding->address);
}

int64_t run_check(struct run *r, bool print)
{
	/* else settling reads it */
	struct store_walk walk = {.found = print ? print_finding : NULL, .data = !r->after_cut || !print,
			.after_crash = r->after_cut};
	struct store_config config = r->config;
	struct store *store;
	struct lcpfs_failure failure = {0};
	uint8_t *used = calloc(1, config.vdev->size_bytes / BLOCK_SIZE / 8 + 1);

	CHECK(used);
	config.read_only = true;
	int error = store_open(&config, r->metaslab, r->owned, &store, &failure);
	if (!error) {
		error = store_check(store, used, &walk);
		store_abandon(store);
	}
	free(used);
	if (error && print)
		fprintf(stderr, "  %s\n", failure.message);
	return error ? error : (int64_t)walk.damaged_blocks;
}

void run_must_be_clean(struct run *r)
{
	int64_t damaged = run_check(r, true);
	if (damaged)
		sim_fail("check: %" PRId64, damaged);
}

int run_open(struct run *r, struct lcpfs_failure *failure)
{
	return ALLOC_ARMED(store_open(&r->config, r->metaslab, r->owned, &r->store, failure));
}

void run_must_open(struct run *r)
{
	struct lcpfs_failure failure = {0};
	int error = run_open(r, &failure);
	if (error)
		sim_fail("it does not open: %s", failure.message);
}

/* -- operations -- */

void run_flushed(struct run *r)
{
	model_flushed(&r->model);
	snaps_flushed(r);
	clones_flushed(r);
	marks_flushed(r);
}

/* Did it work? If not, was it allowed to fail? */
static bool worked(struct run *r, int error)
{
	if (!error)
		return true;
	r->noticed += error != -LCPFS_E_NOSPC;
	if (error == -LCPFS_E_STOPPED || simdisk_is_stopped(r->disk) || error == -LCPFS_E_NOSPC || r->faulty)
		return false;
	sim_fail("an operation failed: %s", lcpfs_error_sentence(error));
}

/* A change of blocks failed: a part of it may be there. */
static void look_at_failed(struct run *r, uint32_t first, uint32_t count, const uint32_t *before)
{
	for (uint32_t i = 0; i < count && !simdisk_is_stopped(r->disk); i++) {
		uint32_t wanted = r->model.current[first + i];
		int64_t version = run_read(r, first + i);
		if (version < 0 && r->faulty)
			model_be_unsure(&r->model, first + i);
		else if (r->model.unsure[first + i] && model_allows(&r->model, first + i, (uint32_t)version))
			continue;
		else if (version != before[i] && version != wanted)
			sim_fail("block %" PRIu32 " is neither old nor new after a failed change: %" PRId64,
					first + i, version);
		else if (version != wanted)
			model_change(&r->model, first + i, (uint32_t)version);
	}
}

static int write_blocks(struct run *r, uint32_t first, const uint8_t *data, size_t length, bool fua)
{
	uint64_t offset = run_offset(r, first);
	size_t done = 0;
	bool unsettled = false;
	if (as_served(r))
		(void)!store_try_write(r->store, offset, data, length, &done, &unsettled);
	if (unsettled && r->op % 3)
		store_settle(r->store);
	if (done < length)
		return store_write(r->store, offset + done, data + done, length - done, fua, NULL);
	return fua ? store_flush(r->store, NULL) : 0;
}

static void op_write(struct run *r)
{
	uint8_t *data = malloc(RANGE_MAX * BLOCK_SIZE); /* its own: a cut in the middle of it writes, too */
	uint32_t before[RANGE_MAX];
	uint32_t count = 1 + (uint32_t)run_random(r, run_random(r, 4) ? 4 : RANGE_MAX);
	uint32_t first = (uint32_t)run_random(r, r->model.blocks - count);
	bool fua = run_random(r, 8) == 0;
	CHECK(data);
	if (run_random(r, 2)) /* a hot part */
		first = (uint32_t)run_random(r, (r->model.blocks - count) / 8 + 1);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t version = r->model.next_version++;
		before[i] = r->model.current[first + i];
		content_fill(data + (size_t)i * BLOCK_SIZE, first + i, version);
		model_change(&r->model, first + i, version);
	}
	uint32_t piece = r->stride == 1 ? count : 1;
	int error = 0;
	for (uint32_t i = 0; i < count && !error; i += piece)
		error = ALLOC_ARMED(write_blocks(r, first + i, data + (size_t)i * BLOCK_SIZE,
				(size_t)piece * BLOCK_SIZE, fua));
	free(data);
	if (!worked(r, error))
		look_at_failed(r, first, count, before);
	else if (fua)
		run_flushed(r);
}

/* A part of a block is written, with the bytes that it has: the rest is read, and nothing changes. */
static void op_write_part(struct run *r)
{
	uint8_t data[BLOCK_SIZE];
	uint32_t block = (uint32_t)run_random(r, r->model.blocks), version = r->model.current[block];
	uint32_t from = (uint32_t)run_random(r, BLOCK_SIZE - 1),
		 length = 1 + (uint32_t)run_random(r, BLOCK_SIZE - 1 - from);
	if (!version || r->model.unsure[block])
		return;
	content_fill(data, block, version);
	for (unsigned i = 0; i < 2; i++) /* the second time it is at hand */
		(void)!worked(r, ALLOC_ARMED(store_write(r->store, run_offset(r, block) + from, data + from,
							 length, false, NULL)));
}

static void op_trim(struct run *r)
{
	uint32_t count = 1 + (uint32_t)run_random(r, run_random(r, 8) ? RANGE_MAX : r->model.blocks / 2);
	uint32_t first = (uint32_t)run_random(r, r->model.blocks - count);
	uint32_t *before = malloc(count * sizeof(*before));
	CHECK(before);
	memcpy(before, r->model.current + first, count * sizeof(*before));
	for (uint32_t i = 0; i < count; i++) {
		if (before[i] || r->model.unsure[first + i])
			model_change(&r->model, first + i, 0);
	}
	int error = ALLOC_ARMED(store_trim(r->store, run_offset(r, first), run_offset(r, count), false, NULL));
	if (error == -LCPFS_E_NOSPC && !r->faulty && !r->snaps)
		sim_fail("trim does not work on a full partition");
	if (!worked(r, error))
		look_at_failed(r, first, count, before);
	free(before);
}

static void op_flush(struct run *r)
{
	if (worked(r, ALLOC_ARMED(store_flush(r->store, NULL))))
		run_flushed(r);
}

static void op_release(struct run *r)
{
	uint32_t metaslab, i = 0;
	int error = ALLOC_ARMED(store_release(r->store, &metaslab));
	if (error == -LCPFS_E_TOO_SMALL || !worked(r, error))
		return;
	while (r->metaslab[i] != metaslab)
		i++;
	r->metaslab[i] = r->metaslab[--r->owned];
	r->spare[r->spares++] = metaslab;
	size_t bytes = (size_t)r->config.metaslab_blocks << BLOCK_SHIFT;
	uint8_t *junk = malloc(bytes); /* as if somebody else used it at once */
	CHECK(junk);
	memset(junk, (int)run_random(r, 256), bytes);
	(void)!vdev_write(r->config.vdev, (BASE << BLOCK_SHIFT) + metaslab * bytes, junk, bytes);
	free(junk);
}

static void op_add(struct run *r)
{
	if (!r->spares)
		return;
	uint32_t i = (uint32_t)run_random(r, r->spares), metaslab = r->spare[i];
	if (!worked(r, ALLOC_ARMED(store_add(r->store, &metaslab, 1))))
		return;
	r->spare[i] = r->spare[--r->spares];
	r->metaslab[r->owned++] = metaslab;
}

static void reopen_faulty(struct run *r, bool closed)
{
	r->config.was_closed = closed;
	int error = run_open(r, NULL);
	r->config.was_closed = false;
	if (error) {
		r->noticed++;
		run_mend(r);
		run_must_open(r);
	}
	run_settle(r);
}

void run_reopen(struct run *r)
{
	bool whole = !r->store->faulted;
	int error = ALLOC_ARMED(store_close(r->store));
	r->store = NULL;
	if (simdisk_is_stopped(r->disk))
		return;
	bool closed = worked(r, error) && whole;
	if (closed)
		run_flushed(r);
	if (r->faulty) {
		reopen_faulty(r, closed);
		return;
	}
	if (!r->after_cut)
		run_must_be_clean(r);
	r->config.was_closed = closed;
	run_must_open(r);
	r->config.was_closed = false;
	run_verify(r);
}

void run_op(struct run *r)
{
	uint64_t what = run_random(r, 100);
	r->op++;
	if (!r->after_cut)
		sim_begin_op(r->op);
	r->now_us += run_random(r, 400000);
	if (snaps_used(r) && run_random(r, marks_used(r) ? 3 : 6) == 0)
		snaps_op(r);
	else if (clones_used(r) && what < 24 && clones_change(r))
		;
	else if (what < 55)
		op_write(r);
	else if (what < 63)
		op_trim(r);
	else if (what < 66)
		op_write_part(r);
	else if (what < 72)
		verify_one(r, (uint32_t)run_random(r, r->model.blocks));
	else if (what < 82)
		op_flush(r);
	else if (what < 88)
		r->noticed += ALLOC_ARMED(store_step(r->store)) < 0;
	else if (what < 91)
		(void)!worked(r, ALLOC_ARMED(store_checkpoint(r->store)));
	else if (what < 94)
		op_release(r);
	else if (what < 98)
		op_add(r);
	else
		run_reopen(r);
	if (r->options->verbose && r->store)
		fprintf(stderr,
			"op %" PRIu64 " (%" PRIu64 "): owned %" PRIu32 ", live %" PRIu64 ", empty %" PRIu32 "\n",
			r->op, what, r->owned, room_live(r->store), space_empty(&r->store->space));
}

/* That all is flushed stands in the log then, too. */
static void confirm(struct run *r)
{
	op_flush(r);
	r->now_us += 10 * CONFIRM_US;
	r->noticed += ALLOC_ARMED(store_step(r->store)) < 0;
}

/* As much as one more root makes possible, and without another one. */
static void clean_some(struct run *r)
{
	struct store *s = r->store;
	for (uint32_t i = 0; i < r->owned; i++) {
		const struct metaslab *m = space_find(&s->space, r->metaslab[i]);
		if (m->state != SPACE_CLOSED || m->class == CLASS_TABLE || m->last > s->space.redo)
			continue;
		pthread_mutex_lock(&s->work);
		space_pin(&s->space, m->index);
		r->noticed += ALLOC_ARMED(clean_metaslab(s, r->metaslab[i])) < 0;
		space_unpin(&s->space, r->metaslab[i]);
		pthread_mutex_unlock(&s->work);
	}
	op_flush(r);
}

/*
 * What the root before the last one leads to is gone by then: the heads stood in metaslabs that were filled up
 * since, and cleaned and given away once the last root was there.
 */
void run_turn_over(struct run *r)
{
	uint32_t blocks = r->config.metaslab_blocks;
	uint64_t until = r->store->counters.written_blocks + blocks / 2 + run_random(r, blocks);
	while (r->spares)
		op_add(r);
	for (unsigned i = 0; i < blocks && r->store->counters.written_blocks < until; i++)
		op_write(r);
	(void)!worked(r, ALLOC_ARMED(store_checkpoint(r->store)));
	r->turning = true;
	clean_some(r);
	const uint64_t *generation = &r->store->checkpoint.generation, before = *generation;
	for (unsigned given = 0; given < METASLABS_TOTAL_MAX && *generation == before; given++)
		op_release(r);
	confirm(r);
}
