/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clones beside the model: each has a model of its own, which begins as the snapshot that it is made of. A crash
 * leaves of each what a flush covered and a first part of what was changed since; one that was about to come or go
 * is there or not.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storesim.h"

bool clones_used(const struct run *r)
{
	return r->seed % 4 == 2 || r->seed % 8 == 3;
}

static void name_of(const struct clone *c, char name[16])
{
	snprintf(name, 16, "c%u", c->name);
}

static void drop(struct run *r, unsigned i)
{
	model_free(&r->clone[i].model);
	for (r->clones--; i < r->clones; i++)
		r->clone[i] = r->clone[i + 1];
}

static uint32_t *copy_of(const uint32_t *list, size_t bytes)
{
	uint32_t *copy = malloc(bytes);
	CHECK(copy);
	memcpy(copy, list, bytes);
	return copy;
}

void clones_copy(struct run *to, const struct run *from)
{
	size_t bytes = from->model.blocks * sizeof(uint32_t);
	for (unsigned i = 0; i < from->clones; i++)
		model_copy(&to->clone[i].model, &from->clone[i].model);
	for (unsigned i = 0; i < 2 && from->promoting[0]; i++)
		to->promoting[i] = copy_of(from->promoting[i], bytes);
}

static void end_promoting(struct run *r)
{
	for (unsigned i = 0; i < 2; i++) {
		free(r->promoting[i]);
		r->promoting[i] = NULL;
	}
}

void clones_done(struct run *r)
{
	while (r->clones)
		drop(r, 0);
	end_promoting(r);
}

/* -- who is there -- */

static uint32_t number_of(struct run *r, const struct clone *c)
{
	struct store_clone found;
	char name[16];
	name_of(c, name);
	return store_clone_find(r->store, name, &found) ? found.number : 0;
}

static void must_be_listed(struct run *r)
{
	unsigned count = store_clones(r->store, NULL, 0), listed = 0;
	for (unsigned i = 0; i < r->clones; i++) {
		listed += r->clone[i].listed;
		if ((number_of(r, &r->clone[i]) != 0) != r->clone[i].listed)
			sim_fail("clone c%u is %slisted", r->clone[i].name, r->clone[i].listed ? "not " : "");
	}
	if (count != listed)
		sim_fail("%u clones are listed, not %u", count, listed);
}

bool clones_have(const struct run *r, unsigned snap)
{
	for (unsigned i = 0; i < r->clones; i++) {
		if (r->clone[i].listed && r->clone[i].snap == snap)
			return true;
	}
	return false;
}

static struct clone *any(struct run *r)
{
	unsigned at = (unsigned)run_random(r, CLONES_SIM_MAX);
	for (unsigned i = 0; i < r->clones; i++) {
		struct clone *c = &r->clone[(at + i) % r->clones];
		if (c->listed)
			return c;
	}
	return NULL;
}

/* -- what they hold -- */

static int read_extent(struct run *r, uint32_t number, uint32_t first, uint32_t *count, int64_t *version)
{
	uint8_t data[READ_BLOCKS * BLOCK_SIZE];
	uint64_t at = run_offset(r, first), end, most = (uint64_t)*count * BLOCK_SIZE;
	bool is_data;
	int error = ALLOC_ARMED(store_volume_extent(r->store, number, at, most, &is_data, &end));
	if (!error)
		*count = (uint32_t)((end - at) >> BLOCK_SHIFT);
	if (!error && is_data && !store_volume_try_read(r->store, number, at, data, (size_t)(end - at)))
		;
	else if (!error && is_data)
		error = ALLOC_ARMED(
			store_volume_read(r->store, number, at, data, (size_t)(end - at), &r->failure));
	for (uint32_t i = 0; i < *count && !error; i++)
		version[i] = is_data ? sim_version(data + (size_t)i * BLOCK_SIZE, first + i) : 0;
	return error;
}

static int64_t read_one(struct run *r, const struct clone *c, uint32_t block)
{
	int64_t version;
	uint32_t count = 1;
	if (!read_extent(r, number_of(r, c), block, &count, &version))
		return version;
	r->noticed++;
	return -1;
}

/* Each block, in one go; where that fails one by one. */
static void read_all(struct run *r, const struct clone *c, int64_t *version)
{
	uint32_t number = number_of(r, c), most = r->stride == 1 ? READ_BLOCKS : 1;
	for (uint32_t b = 0, count; b < c->model.blocks; b += count) {
		count = MIN_OF(c->model.blocks - b, most);
		if (!read_extent(r, number, b, &count, version + b))
			continue;
		r->noticed++;
		count = 1;
		version[b] = read_one(r, c, b);
	}
}

static void verify(struct run *r, const struct clone *c)
{
	int64_t *version = malloc(c->model.blocks * sizeof(*version));
	CHECK(version);
	read_all(r, c, version);
	for (uint32_t b = 0; b < c->model.blocks; b++) {
		if (version[b] < 0 && run_may_fail(r))
			continue;
		if (version[b] < 0)
			sim_fail("clone c%u: block %" PRIu32 " cannot be read: %s", c->name, b,
				 r->failure.message);
		if (!model_allows(&c->model, b, (uint32_t)version[b]))
			sim_fail("clone c%u, block %" PRIu32 ": read %" PRId64 ", written %" PRIu32, c->name, b,
				 version[b], c->model.current[b]);
	}
	free(version);
}

void clones_verify(struct run *r)
{
	must_be_listed(r);
	for (unsigned i = 0; i < r->clones; i++) {
		if (!r->clone[i].listed)
			continue;
		verify(r, &r->clone[i]);
		if (!r->clone[i].model.any_unsure)
			snaps_compare(r, r->clone[i].snap, number_of(r, &r->clone[i]), r->clone[i].model.current);
	}
}

static void settle(struct run *r, struct clone *c)
{
	int64_t *version = malloc(c->model.blocks * sizeof(*version));
	uint32_t *seen = malloc(c->model.blocks * sizeof(*seen));
	CHECK(version && seen);
	read_all(r, c, version);
	for (uint32_t b = 0; b < c->model.blocks; b++) {
		if (version[b] < 0 && r->faulty) { /* the disk is replaced by one that works */
			run_mend(r);
			version[b] = read_one(r, c, b);
		}
		if (version[b] < 0)
			sim_fail("clone c%u: block %" PRIu32 " cannot be read: %s", c->name, b,
				 r->failure.message);
		seen[b] = (uint32_t)version[b];
	}
	if (!model_settle(&c->model, seen))
		sim_fail("no prefix of what was written to clone c%u gives this state", c->name);
	free(seen);
	free(version);
}

void clones_settle(struct run *r)
{
	for (unsigned i = r->clones; i-- > 0;) {
		struct clone *c = &r->clone[i];
		bool there = number_of(r, c);
		if (c->durable && there != c->listed)
			sim_fail("clone c%u is %s after a crash", c->name, there ? "back" : "gone");
		c->listed = there;
		c->durable = true;
		if (there)
			settle(r, c);
		else
			drop(r, i);
	}
	must_be_listed(r);
}

void clones_flushed(struct run *r)
{
	for (unsigned i = r->clones; i-- > 0;) {
		model_flushed(&r->clone[i].model);
		r->clone[i].durable = true;
		if (!r->clone[i].listed)
			drop(r, i);
	}
}

/* -- operations -- */

static void op_clone(struct run *r)
{
	struct clone *c = &r->clone[r->clones];
	const struct snap *base = snaps_any(r);
	char name[16], of[16];
	if (r->clones == CLONES_SIM_MAX || !base)
		return;
	*c = (struct clone){.name = ++r->clone_names, .snap = base->name};
	model_init(&c->model, r->model.blocks);
	model_become(&c->model, base->version);
	name_of(c, name);
	snprintf(of, sizeof(of), "s%u", base->label);
	r->clones++;
	bool done = run_worked(r, ALLOC_ARMED(store_clone(r->store, of, name, r->op)));
	if (simdisk_is_stopped(r->disk))
		return;
	c->listed = number_of(r, c);
	if (done && !c->listed)
		sim_fail("a clone was made and is not listed");
	if (done)
		run_flushed(r);
	else if (!c->listed)
		drop(r, r->clones - 1);
}

static void op_destroy(struct run *r)
{
	struct clone *c = any(r);
	char name[16];
	if (!c)
		return;
	bool durable = c->durable;
	name_of(c, name);
	c->durable = false;
	int error = ALLOC_ARMED(store_clone_destroy(r->store, name));
	if (error == -LCPFS_E_NOSPC && !r->faulty)
		sim_fail("a clone cannot be destroyed on a full partition");
	bool done = run_worked(r, error);
	if (simdisk_is_stopped(r->disk))
		return;
	c->listed = number_of(r, c);
	if (done && c->listed)
		sim_fail("a clone was destroyed and is listed");
	if (done)
		run_flushed(r);
	else if (c->listed)
		c->durable = durable;
}

/* A change of blocks failed: a part of it may be there. */
static void look_at_failed(struct run *r, struct clone *c, uint32_t first, uint32_t count, const uint32_t *before)
{
	for (uint32_t i = 0; i < count && !simdisk_is_stopped(r->disk); i++) {
		uint32_t wanted = c->model.current[first + i];
		int64_t version = read_one(r, c, first + i);
		if (version < 0 && run_may_fail(r))
			model_be_unsure(&c->model, first + i);
		else if (c->model.unsure[first + i] && model_allows(&c->model, first + i, (uint32_t)version))
			continue;
		else if (version != before[i] && version != wanted)
			sim_fail("clone c%u: block %" PRIu32
				 " is neither old nor new after a failed change: %" PRId64,
				 c->name, first + i, version);
		else if (version != wanted)
			model_change(&c->model, first + i, (uint32_t)version);
	}
}

static int write_blocks(struct run *r, uint32_t number, uint32_t first, const uint8_t *data, size_t length)
{
	uint64_t offset = run_offset(r, first);
	size_t done = 0;
	bool unsettled;
	if (r->op % 2)
		(void)!store_volume_try_write(r->store, number, offset, data, length, &done, &unsettled);
	return done == length ? 0
			      : store_volume_write(r->store, number, offset + done, data + done, length - done,
						   r->op % 16 == 0, NULL);
}

static void op_write(struct run *r, struct clone *c)
{
	uint8_t *data = malloc(RANGE_MAX * BLOCK_SIZE); /* its own: a cut in the middle of it writes, too */
	uint32_t before[RANGE_MAX], number = number_of(r, c);
	uint32_t count = 1 + (uint32_t)run_random(r, run_random(r, 4) ? 4 : RANGE_MAX);
	uint32_t first = (uint32_t)run_random(r, c->model.blocks - count);
	uint32_t piece = r->stride == 1 ? count : 1;
	int error = 0;
	CHECK(data);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t version = r->model.next_version++;
		before[i] = c->model.current[first + i];
		content_fill(data + (size_t)i * BLOCK_SIZE, first + i, version);
		model_change(&c->model, first + i, version);
	}
	for (uint32_t i = 0; i < count && !error; i += piece)
		error = ALLOC_ARMED(write_blocks(r, number, first + i, data + (size_t)i * BLOCK_SIZE,
						 (size_t)piece * BLOCK_SIZE));
	free(data);
	if (!run_worked(r, error))
		look_at_failed(r, c, first, count, before);
}

static void op_trim(struct run *r, struct clone *c)
{
	uint32_t count = 1 + (uint32_t)run_random(r, run_random(r, 8) ? RANGE_MAX : c->model.blocks / 2);
	uint32_t first = (uint32_t)run_random(r, c->model.blocks - count);
	uint32_t *before = malloc(count * sizeof(*before));
	CHECK(before);
	memcpy(before, c->model.current + first, count * sizeof(*before));
	for (uint32_t i = 0; i < count; i++) {
		if (before[i] || c->model.unsure[first + i])
			model_change(&c->model, first + i, 0);
	}
	if (!run_worked(r, ALLOC_ARMED(store_volume_trim(r->store, number_of(r, c), run_offset(r, first),
						     run_offset(r, count), false, NULL))))
		look_at_failed(r, c, first, count, before);
	free(before);
}

/* -- promoting -- */

static void exchange_models(struct run *r, struct clone *c)
{
	model_become(&r->model, r->promoting[1]);
	model_become(&c->model, r->promoting[0]);
}

bool clones_were_exchanged(struct run *r, const uint32_t *seen)
{
	bool done = r->promoting[0] && memcmp(seen, r->promoting[1], r->model.blocks * sizeof(*seen)) == 0;
	if (done)
		exchange_models(r, &r->clone[r->promoted]);
	end_promoting(r);
	return done;
}

/* After one that failed: both are what they were, or exchanged; what is in memory a crash may still undo. */
static void look_at_exchanged(struct run *r, struct clone *c)
{
	const uint32_t *head = r->promoting[0], *clone = r->promoting[1];
	uint32_t b = 0;
	while (b < r->model.blocks && head[b] == clone[b])
		b++;
	int64_t version = b < r->model.blocks ? run_read(r, b) : 0;
	bool exchanged = b < r->model.blocks && version == clone[b];
	if (version < 0 && !run_may_fail(r))
		sim_fail("block %" PRIu32 " cannot be read", b);
	for (; b < r->model.blocks && (version < 0 || exchanged); b++) {
		if (head[b] == clone[b])
			continue;
		model_change(&r->model, b, clone[b]);
		model_change(&c->model, b, head[b]);
		if (version >= 0)
			continue;
		model_be_unsure(&r->model, b);
		model_be_unsure(&c->model, b);
	}
}

static void op_promote(struct run *r)
{
	struct clone *c = any(r);
	size_t bytes = r->model.blocks * sizeof(uint32_t);
	char name[16];
	if (!c || c->model.any_unsure || r->model.any_unsure || ALLOC_ARMED(store_flush(r->store, NULL)))
		return;
	run_flushed(r);
	c = any(r); /* those that are gone were forgotten */
	CHECK(c);
	if (c->model.any_unsure)
		return;
	end_promoting(r);
	r->promoting[0] = copy_of(r->model.current, bytes);
	r->promoting[1] = copy_of(c->model.current, bytes);
	r->promoted = (unsigned)(c - r->clone);
	name_of(c, name);
	int error = ALLOC_ARMED(store_promote(r->store, name, name));
	if ((error == -LCPFS_E_EXISTS) != (!snaps_is_youngest(r, c->snap) || marks_younger(r, c->snap)))
		sim_fail("promoting c%u, of s%u: %s", c->name, c->snap, lcpfs_error_sentence(error));
	if (error == -LCPFS_E_NOSPC && !r->faulty)
		sim_fail("a clone cannot be promoted on a full partition");
	bool done = error != -LCPFS_E_EXISTS && run_worked(r, error);
	if (!simdisk_is_stopped(r->disk)) {
		if (done)
			exchange_models(r, c);
		else if (error != -LCPFS_E_EXISTS)
			look_at_exchanged(r, c);
		if (done)
			run_flushed(r);
		end_promoting(r);
	}
}

bool clones_change(struct run *r)
{
	struct clone *c = any(r);
	if (!c)
		return false;
	if (run_random(r, 6))
		op_write(r, c);
	else
		op_trim(r, c);
	return true;
}

void clones_give_up(struct run *r)
{
	op_destroy(r);
}

void clones_op(struct run *r)
{
	uint64_t what = run_random(r, 6);
	if (what < 3)
		op_clone(r);
	else if (what < 5)
		op_promote(r);
	else
		op_destroy(r);
}
