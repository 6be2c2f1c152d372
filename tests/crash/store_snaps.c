/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots beside the model: each keeps what the volume held when it was taken. A crash amid an operation leaves
 * it done or not; what was done and flushed stays.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storesim.h"

bool snaps_used(const struct run *r)
{
	return r->seed % 2 == 0 || r->seed % 8 == 3; /* with trees of one or two levels, and of three */
}

void snaps_name(const struct snap *n, char name[16])
{
	snprintf(name, 16, "s%u", n->label);
}

static void drop(struct run *r, unsigned i)
{
	free(r->snap[i].version);
	for (r->snaps--; i < r->snaps; i++)
		r->snap[i] = r->snap[i + 1];
}

void snaps_copy(struct run *to, const struct run *from)
{
	size_t bytes = from->model.blocks * sizeof(uint32_t);
	for (unsigned i = 0; i < from->snaps; i++) {
		to->snap[i].version = malloc(bytes);
		CHECK(to->snap[i].version);
		memcpy(to->snap[i].version, from->snap[i].version, bytes);
		if (from->rolling == from->snap[i].version)
			to->rolling = to->snap[i].version;
	}
}

void snaps_done(struct run *r)
{
	while (r->snaps)
		drop(r, 0);
}

/* -- who is there -- */

static bool find(struct run *r, const struct snap *n, struct store_snapshot *found)
{
	struct store_snapshot list[SNAPS_MAX + CLONES_SIM_MAX * OWN_MAX + 2];
	unsigned room = ARRAY_LENGTH(list), count = store_volume_snapshots(r->store, 0, list, room);
	char name[16];
	snaps_name(n, name);
	for (unsigned i = 0; i < MIN_OF(count, room); i++) {
		if (strcmp(list[i].name, name) != 0)
			continue;
		*found = list[i];
		return true;
	}
	return false;
}

uint32_t snaps_number(struct run *r, const struct snap *n)
{
	struct store_snapshot found;
	return find(r, n, &found) ? found.number : 0;
}

uint32_t snaps_volume(struct run *r, const struct snap *n)
{
	struct store_snapshot found;
	return find(r, n, &found) ? found.volume : 0;
}

static unsigned listed(const struct run *r)
{
	unsigned count = 0;
	for (unsigned i = 0; i < r->snaps; i++)
		count += r->snap[i].listed;
	return count;
}

static void must_be_listed(struct run *r)
{
	unsigned count = store_snapshots(r->store, NULL, 0);
	if (count != listed(r))
		sim_fail("%u snapshots are listed, not %u", count, listed(r));
	for (unsigned i = 0; i < r->snaps; i++) {
		if ((snaps_number(r, &r->snap[i]) != 0) != r->snap[i].listed)
			sim_fail("snapshot s%u is %slisted", r->snap[i].name, r->snap[i].listed ? "not " : "");
	}
}

/* -- what they hold -- */

static int read_extent(struct run *r, uint32_t number, uint32_t first, uint32_t *count, int64_t *version)
{
	uint8_t data[READ_BLOCKS * BLOCK_SIZE];
	uint64_t at = run_offset(r, first), end, most = (uint64_t)*count * BLOCK_SIZE;
	bool is_data;
	int error = ALLOC_ARMED(store_snapshot_extent(r->store, number, at, most, &is_data, &end));
	if (!error)
		*count = (uint32_t)((end - at) >> BLOCK_SHIFT);
	if (!error && is_data)
		error = ALLOC_ARMED(
			store_snapshot_read(r->store, number, at, data, (size_t)(end - at), &r->failure));
	for (uint32_t i = 0; i < *count && !error; i++)
		version[i] = is_data ? sim_version(data + (size_t)i * BLOCK_SIZE, first + i) : 0;
	return error;
}

void snaps_verify_one(struct run *r, const struct snap *n)
{
	int64_t version[READ_BLOCKS];
	uint32_t number = snaps_number(r, n), most = r->stride == 1 ? READ_BLOCKS : 1;
	for (uint32_t b = 0, count; b < r->model.blocks; b += count) {
		count = MIN_OF(r->model.blocks - b, most);
		if (read_extent(r, number, b, &count, version)) {
			r->noticed++;
			if (run_may_fail(r))
				return;
			sim_fail("snapshot s%u: block %" PRIu32 " cannot be read: %s", n->name, b,
				 r->failure.message);
		}
		for (uint32_t i = 0; i < count; i++) {
			if (version[i] != n->version[b + i])
				sim_fail("snapshot s%u, block %" PRIu32 ": read %" PRId64 ", not %" PRIu32,
					 n->name, b + i, version[i], n->version[b + i]);
		}
	}
}

/* All in which the other differs is told, and nothing else but what op_part wrote again with the same bytes. */
void snaps_compare(struct run *r, const struct snap *from, uint32_t other, const uint32_t *version)
{
	struct store_difference run = {0};
	uint32_t number = snaps_number(r, from), b = 0;
	while (run.first != UINT64_MAX) {
		int error = ALLOC_ARMED(store_difference(r->store, number, other, run.first, &run));
		if (error && run_may_fail(r))
			return;
		if (error)
			sim_fail("s%u and volume %u cannot be compared: %s", from->name, other,
				 lcpfs_error_sentence(error));
		for (; b < r->model.blocks && run_offset(r, b) >> BLOCK_SHIFT < run.first; b++) {
			if (from->version[b] != version[b])
				sim_fail("s%u and volume %u: block %" PRIu32 " differs", from->name, other, b);
		}
		for (; run.count; run.first++, run.count--, b++) {
			if (b == r->model.blocks || run_offset(r, b) >> BLOCK_SHIFT != run.first ||
			    run.data != (version[b] != 0) || !(from->version[b] | version[b]))
				sim_fail("s%u and volume %u: told to differ at %" PRIu64, from->name, other,
					 run.first);
		}
	}
}

const struct snap *snaps_any(struct run *r)
{
	unsigned at = (unsigned)run_random(r, SNAPS_MAX);
	for (unsigned i = 0; i < r->snaps; i++) {
		if (r->snap[(at + i) % r->snaps].listed)
			return &r->snap[(at + i) % r->snaps];
	}
	return NULL;
}

void snaps_verify(struct run *r)
{
	const struct snap *before = NULL;
	must_be_listed(r);
	for (unsigned i = 0; i < r->snaps; i++) {
		if (!r->snap[i].listed)
			continue;
		snaps_verify_one(r, &r->snap[i]);
		if (before)
			snaps_compare(r, before, snaps_number(r, &r->snap[i]), r->snap[i].version);
		before = &r->snap[i];
	}
}

void snaps_settle(struct run *r)
{
	for (unsigned i = r->snaps; i-- > 0;) {
		struct snap *n = &r->snap[i];
		if (n->was && !snaps_number(r, n))
			n->label = n->was;
		n->was = 0;
		bool there = snaps_number(r, n);

		if (n->durable && there != n->listed)
			sim_fail("snapshot s%u is %s after a crash", n->name, there ? "back" : "gone");
		n->listed = there;
		n->durable = true;
		if (!there)
			drop(r, i);
	}
	must_be_listed(r);
	if (r->snaps) /* one of them: settling happens often */
		snaps_verify_one(r, &r->snap[run_random(r, r->snaps)]);
}

void snaps_flushed(struct run *r)
{
	for (unsigned i = r->snaps; i-- > 0;) {
		r->snap[i].durable = true;
		r->snap[i].was = 0;
		if (!r->snap[i].listed)
			drop(r, i);
	}
}

/* -- operations -- */

/* However full the partition is, this works. */
static void never_full(const struct run *r, int error)
{
	if (error == -LCPFS_E_NOSPC && !r->faulty)
		sim_fail("a snapshot cannot be destroyed, or rolled back to, on a full partition");
}

struct snap snaps_new(struct run *r, const struct model *model)
{
	size_t bytes = model->blocks * sizeof(uint32_t);
	struct snap n = {.name = ++r->snap_names, .label = r->snap_names, .version = malloc(bytes)};
	CHECK(n.version);
	memcpy(n.version, model->current, bytes);
	return n;
}

void snaps_take(struct run *r)
{
	struct snap *n = &r->snap[r->snaps];
	char name[16];
	if (r->snaps == SNAPS_MAX || r->model.any_unsure)
		return;
	*n = snaps_new(r, &r->model);
	snaps_name(n, name);
	r->snaps++;
	bool done = run_worked(r, ALLOC_ARMED(store_snapshot(r->store, name, r->op)));
	if (simdisk_is_stopped(r->disk))
		return;
	n->listed = snaps_number(r, n);
	if (done && !n->listed)
		sim_fail("a snapshot was taken and is not listed");
	if (done)
		run_flushed(r);
	else if (!n->listed)
		drop(r, r->snaps - 1);
}

static void op_destroy(struct run *r)
{
	unsigned i = (unsigned)run_random(r, r->snaps);
	struct snap *n = &r->snap[i];
	bool durable = n->durable;
	char name[16];
	if (!n->listed)
		return;
	snaps_name(n, name);
	n->durable = false;
	int error = ALLOC_ARMED(store_snapshot_destroy(r->store, name));
	if ((error == -LCPFS_E_CLONED) != clones_have(r, n->name))
		sim_fail("s%u, of which there are %s clones, is destroyed: %s", n->name,
			 clones_have(r, n->name) ? "some" : "no", lcpfs_error_sentence(error));
	if (error == -LCPFS_E_CLONED) {
		n->durable = durable;
		return;
	}
	never_full(r, error);
	bool done = run_worked(r, error);
	if (simdisk_is_stopped(r->disk))
		return;
	n->listed = snaps_number(r, n);
	if (done && n->listed)
		sim_fail("a snapshot was destroyed and is listed");
	if (done)
		run_flushed(r);
	else if (n->listed)
		n->durable = durable;
}

static void op_rename(struct run *r)
{
	struct snap *n = &r->snap[run_random(r, r->snaps)];
	char name[16], new_name[16];
	if (!n->listed || n->was)
		return;
	snaps_name(n, name);
	n->was = n->label;
	n->label = ++r->snap_names;
	snaps_name(n, new_name);
	bool done = run_worked(r, ALLOC_ARMED(store_snapshot_rename(r->store, name, new_name)));
	if (simdisk_is_stopped(r->disk))
		return;
	if (done) {
		run_flushed(r);
	} else if (!snaps_number(r, n)) {
		n->label = n->was;
		n->was = 0;
	}
}

static void change_all(struct run *r, const uint32_t *to)
{
	for (uint32_t b = 0; b < r->model.blocks; b++) {
		if (r->model.current[b] != to[b])
			model_change(&r->model, b, to[b]);
	}
}

/* After one that failed: the volume is what it was, or what the snapshot is. */
static void look_at_failed(struct run *r, const uint32_t *before, const struct snap *to)
{
	for (uint32_t b = 0; b < r->model.blocks; b++) {
		if (before[b] == to->version[b])
			continue;
		int64_t version = run_read(r, b);

		if (version < 0)
			model_be_unsure(&r->model, b);
		else if (version == before[b])
			change_all(r, before);
		else if (version != to->version[b])
			sim_fail("block %" PRIu32 " is neither old nor rolled back: %" PRId64, b, version);
		if (version >= 0)
			return;
	}
}

static void op_rollback(struct run *r)
{
	size_t bytes = r->model.blocks * sizeof(uint32_t);
	unsigned i = r->snaps;
	char name[16];
	while (i > 0 && !r->snap[i - 1].listed)
		i--;
	if (!i || r->model.any_unsure)
		return;
	const struct snap *n = &r->snap[i - 1];
	uint32_t *before = malloc(bytes);
	CHECK(before);
	memcpy(before, r->model.current, bytes);
	r->rolling = n->version;
	r->rolling_from = r->model.journal_count;
	change_all(r, n->version);
	snaps_name(n, name);
	marks_go_back(r, 0, n);
	int error = ALLOC_ARMED(store_rollback(r->store, name));
	never_full(r, error);
	bool done = run_worked(r, error);
	if (!simdisk_is_stopped(r->disk)) {
		r->rolling = NULL;
		marks_went_back(r, 0, n, done);
		if (done)
			run_flushed(r);
		else
			look_at_failed(r, before, n);
	}
	free(before);
}

void snaps_give_up(struct run *r)
{
	if (r->clones && run_random(r, 2))
		clones_give_up(r);
	else if (r->snaps && run_random(r, 4))
		op_destroy(r);
	else if (r->snaps)
		op_rollback(r);
}

void snaps_op(struct run *r)
{
	if (marks_used(r) && run_random(r, 3) == 0)
		marks_op(r);
	else if (clones_used(r) && run_random(r, 2))
		clones_op(r);
	else if (run_random(r, 2) || !r->snaps)
		snaps_take(r);
	else if (run_random(r, 4) == 0)
		op_rename(r);
	else
		snaps_give_up(r);
}
