/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clones beside the model: each has a model of its own, which begins as the snapshot that it is made of. A crash
 * leaves of each what a flush covered and a first part of what was changed since; one that was about to come or go
 * is there or not. So are snapshots of them, which they can be rolled back to, and which have clones in turn.
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

static void drop_own(struct clone *c, unsigned i)
{
	free(c->own[i].version);
	for (c->owns--; i < c->owns; i++)
		c->own[i] = c->own[i + 1];
}

static void drop(struct run *r, unsigned i)
{
	while (r->clone[i].owns)
		drop_own(&r->clone[i], 0);
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
	for (unsigned i = 0; i < from->clones; i++) {
		const struct clone *c = &from->clone[i];
		model_copy(&to->clone[i].model, &c->model);
		for (unsigned k = 0; k < c->owns; k++) {
			to->clone[i].own[k].version = copy_of(c->own[k].version, bytes);
			if (c->rolling == c->own[k].version)
				to->clone[i].rolling = to->clone[i].own[k].version;
		}
	}
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

uint32_t clones_number(struct run *r, unsigned name)
{
	return number_of(r, &(struct clone){.name = name});
}

static void owns_must_be_listed(struct run *r, struct clone *c)
{
	unsigned listed = 0, count = store_volume_snapshots(r->store, number_of(r, c), NULL, 0);
	for (unsigned i = 0; i < c->owns; i++) {
		listed += c->own[i].listed;
		if ((snaps_number(r, &c->own[i]) != 0) != c->own[i].listed)
			sim_fail("snapshot s%u of clone c%u is %slisted", c->own[i].name, c->name,
				 c->own[i].listed ? "not " : "");
	}
	if (count != listed)
		sim_fail("%u snapshots of clone c%u are listed, not %u", count, c->name, listed);
}

static void must_be_listed(struct run *r)
{
	unsigned count = store_clones(r->store, NULL, 0), listed = 0;
	for (unsigned i = 0; i < r->clones; i++) {
		listed += r->clone[i].listed;
		if (r->clone[i].listed)
			owns_must_be_listed(r, &r->clone[i]);
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

/* A snapshot by its name, whatever it is of. */
static const struct snap *find_snap(const struct run *r, unsigned name)
{
	for (unsigned i = 0; i < r->snaps; i++) {
		if (r->snap[i].name == name)
			return &r->snap[i];
	}
	for (unsigned i = 0; i < r->clones; i++) {
		for (unsigned k = 0; k < r->clone[i].owns; k++) {
			if (r->clone[i].own[k].name == name)
				return &r->clone[i].own[k];
		}
	}
	return NULL;
}

static struct snap *youngest_own(struct clone *c)
{
	unsigned i = c->owns;
	while (i > 0 && !c->own[i - 1].listed)
		i--;
	return i ? &c->own[i - 1] : NULL;
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

/* Each with the one before it, and the last one with the clone: so all that they share is looked at. */
static void verify_line(struct run *r, const struct clone *c)
{
	const struct snap *before = find_snap(r, c->snap);
	for (unsigned i = 0; i < c->owns; i++) {
		if (!c->own[i].listed)
			continue;
		snaps_verify_one(r, &c->own[i]);
		if (before)
			snaps_compare(r, before, snaps_number(r, &c->own[i]), c->own[i].version);
		before = &c->own[i];
	}
	if (before && !c->model.any_unsure)
		snaps_compare(r, before, number_of(r, c), c->model.current);
}

void clones_verify(struct run *r)
{
	must_be_listed(r);
	for (unsigned i = 0; i < r->clones; i++) {
		if (!r->clone[i].listed)
			continue;
		verify(r, &r->clone[i]);
		verify_line(r, &r->clone[i]);
	}
}

static void settle_own(struct run *r, struct clone *c)
{
	for (unsigned i = c->owns; i-- > 0;) {
		struct snap *n = &c->own[i];
		bool there = snaps_number(r, n);
		if (n->durable && there != n->listed)
			sim_fail("snapshot s%u of clone c%u is %s after a crash", n->name, c->name,
				 there ? "back" : "gone");
		n->listed = n->durable = true;
		if (!there)
			drop_own(c, i);
	}
	if (c->owns)
		snaps_verify_one(r, &c->own[run_random(r, c->owns)]);
}

/* A crash amid a rollback leaves it done, or what was there before. */
static bool was_rolled_back(struct clone *c, const uint32_t *seen)
{
	bool back = c->rolling && memcmp(seen, c->rolling, c->model.blocks * sizeof(*seen)) == 0;
	if (back)
		model_become(&c->model, seen);
	else if (c->rolling)
		c->model.journal_count = c->rolling_from;
	c->rolling = NULL;
	return back;
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
	if (!was_rolled_back(c, seen) && !model_settle(&c->model, seen))
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
		if (there) {
			settle(r, c);
			settle_own(r, c);
		} else {
			drop(r, i);
		}
	}
	must_be_listed(r);
}

void clones_flushed(struct run *r)
{
	r->exchanging = 0;
	for (unsigned i = r->clones; i-- > 0;) {
		model_flushed(&r->clone[i].model);
		r->clone[i].durable = true;
		for (unsigned k = r->clone[i].owns; k-- > 0;) {
			r->clone[i].own[k].durable = true;
			if (!r->clone[i].own[k].listed)
				drop_own(&r->clone[i], k);
		}
		if (!r->clone[i].listed)
			drop(r, i);
	}
}

/* -- operations -- */

static void op_clone(struct run *r)
{
	struct clone *c = &r->clone[r->clones], *of_clone = run_random(r, 4) ? NULL : any(r);
	const struct snap *base = of_clone ? youngest_own(of_clone) : snaps_any(r);
	uint32_t volume = of_clone ? number_of(r, of_clone) : STORE_OWN_VOLUME;
	char name[16], of[16];
	if (r->clones == CLONES_SIM_MAX || !base)
		return;
	*c = (struct clone){.name = ++r->clone_names, .snap = base->name};
	model_init(&c->model, r->model.blocks);
	model_become(&c->model, base->version);
	name_of(c, name);
	snprintf(of, sizeof(of), "s%u", base->label);
	r->clones++;
	bool done = run_worked(r, ALLOC_ARMED(store_volume_clone(r->store, volume, of, name, r->op)));
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
	bool durable = c->durable, kept = youngest_own(c);
	name_of(c, name);
	c->durable = false;
	if (!kept)
		marks_go_back(r, c->name, NULL);
	int error = ALLOC_ARMED(store_clone_destroy(r->store, name));
	if ((error == -LCPFS_E_NOT_EMPTY) != kept)
		sim_fail("clone c%u, which has %s snapshots, is destroyed: %s", c->name, kept ? "some" : "no",
			 lcpfs_error_sentence(error));
	if (kept) {
		c->durable = durable;
		return;
	}
	if (error == -LCPFS_E_NOSPC && !r->faulty)
		sim_fail("a clone cannot be destroyed on a full partition");
	bool done = run_worked(r, error);
	if (simdisk_is_stopped(r->disk))
		return;
	c->listed = number_of(r, c);
	marks_went_back(r, c->name, NULL, done);
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

/* -- its snapshots -- */

static void op_take_own(struct run *r, struct clone *c)
{
	struct snap *n = &c->own[c->owns];
	char name[16];
	if (c->owns == OWN_MAX || c->model.any_unsure)
		return;
	*n = snaps_new(r, &c->model);
	snaps_name(n, name);
	c->owns++;
	bool done = run_worked(r, ALLOC_ARMED(store_volume_snapshot(r->store, number_of(r, c), name, r->op, 0)));
	if (simdisk_is_stopped(r->disk))
		return;
	n->listed = snaps_number(r, n);
	if (done && !n->listed)
		sim_fail("a snapshot of a clone was taken and is not listed");
	if (done)
		run_flushed(r);
	else if (!n->listed)
		drop_own(c, c->owns - 1);
}

static void op_destroy_own(struct run *r, struct clone *c)
{
	struct snap *n = &c->own[run_random(r, c->owns)];
	bool durable = n->durable;
	char name[16];
	if (!n->listed)
		return;
	snaps_name(n, name);
	n->durable = false;
	int error = ALLOC_ARMED(store_volume_snapshot_destroy_soon(r->store, number_of(r, c), name));
	if ((error == -LCPFS_E_CLONED) != clones_have(r, n->name))
		sim_fail("s%u of a clone, of which there are %s clones, is destroyed: %s", n->name,
			 clones_have(r, n->name) ? "some" : "no", lcpfs_error_sentence(error));
	if (error == -LCPFS_E_NOSPC && !r->faulty)
		sim_fail("a snapshot of a clone cannot be destroyed on a full partition");
	bool done = error != -LCPFS_E_CLONED && run_worked(r, error);
	if (simdisk_is_stopped(r->disk))
		return;
	n->listed = snaps_number(r, n);
	if (done && n->listed)
		sim_fail("a snapshot of a clone was destroyed and is listed");
	if (n->listed)
		n->durable = durable;
}

/* After a rollback that failed: the clone is what it was, or what the snapshot is. */
static void look_at_rolled(struct run *r, struct clone *c, const uint32_t *before, const struct snap *to)
{
	for (uint32_t b = 0; b < c->model.blocks; b++) {
		if (before[b] == to->version[b])
			continue;
		int64_t version = read_one(r, c, b);
		if (version < 0)
			model_be_unsure(&c->model, b);
		else if (version != before[b] && version != to->version[b])
			sim_fail("clone c%u: block %" PRIu32 " is neither old nor rolled back: %" PRId64, c->name,
				 b, version);
		for (uint32_t i = 0; version == before[b] && i < c->model.blocks; i++) {
			if (c->model.current[i] != before[i])
				model_change(&c->model, i, before[i]);
		}
		if (version >= 0)
			return;
	}
}

static void op_roll_own(struct run *r, struct clone *c)
{
	const struct snap *to = youngest_own(c);
	char name[16];
	if (!to || c->model.any_unsure)
		return;
	uint32_t *before = copy_of(c->model.current, c->model.blocks * sizeof(uint32_t));
	c->rolling = to->version;
	c->rolling_from = c->model.journal_count;
	for (uint32_t b = 0; b < c->model.blocks; b++) {
		if (before[b] != to->version[b])
			model_change(&c->model, b, to->version[b]);
	}
	snaps_name(to, name);
	marks_go_back(r, c->name, to);
	int error = ALLOC_ARMED(store_volume_rollback(r->store, number_of(r, c), name));
	if (error == -LCPFS_E_NOSPC && !r->faulty)
		sim_fail("a clone cannot be rolled back on a full partition");
	bool done = run_worked(r, error);
	if (!simdisk_is_stopped(r->disk)) {
		c->rolling = NULL;
		marks_went_back(r, c->name, to, done);
		if (done)
			run_flushed(r);
		else
			look_at_rolled(r, c, before, to);
	}
	free(before);
}

static void op_own(struct run *r)
{
	struct clone *c = any(r);
	uint64_t what = run_random(r, 6);
	if (!c)
		return;
	if (what < 3)
		op_take_own(r, c);
	else if (what < 5 && c->owns)
		op_destroy_own(r, c);
	else
		op_roll_own(r, c);
}

/* -- promoting -- */

static void exchange_models(struct run *r, struct clone *c)
{
	model_become(&r->model, r->promoting[1]);
	model_become(&c->model, r->promoting[0]);
}

/* The volume's snapshots that are younger than what the clone began as are the clone's, and the clone's are its.
 */
static void exchange_lines(struct run *r, struct clone *c)
{
	struct snap own[OWN_MAX];
	unsigned owns = c->owns, kept = 0;
	memcpy(own, c->own, sizeof(own));
	c->owns = 0;
	for (unsigned i = 0; i < r->snaps; i++) {
		if (r->snap[i].name > c->snap)
			c->own[c->owns++] = r->snap[i];
		else
			r->snap[kept++] = r->snap[i];
	}
	for (unsigned i = 0; i < owns; i++)
		r->snap[kept++] = own[i];
	r->snaps = kept;
	marks_turn(r, c->name, c->snap);
}

static bool lines_fit(const struct run *r, const struct clone *c)
{
	unsigned moving = 0;
	for (unsigned i = 0; i < r->snaps; i++)
		moving += r->snap[i].name > c->snap;
	return moving <= OWN_MAX && r->snaps - moving + c->owns <= SNAPS_MAX;
}

/* By its snapshots and bookmarks, and the volume's: as marks_were_turned(). */
static int were_turned(struct run *r, const struct clone *c)
{
	for (unsigned i = 0; i < r->snaps; i++) {
		uint32_t volume = r->snap[i].name > c->snap ? snaps_volume(r, &r->snap[i]) : 0;
		if (volume)
			return volume == number_of(r, c);
	}
	for (unsigned i = 0; i < c->owns; i++) {
		uint32_t volume = snaps_volume(r, &c->own[i]);
		if (volume)
			return volume == STORE_OWN_VOLUME;
	}
	return marks_were_turned(r, c);
}

/* After a crash. If nothing tells, there is nothing that could have been exchanged. */
static void find_lines(struct run *r)
{
	for (unsigned i = 0; i < r->clones; i++) {
		if (r->clone[i].name == r->exchanging && were_turned(r, &r->clone[i]) == 1)
			exchange_lines(r, &r->clone[i]);
	}
	r->exchanging = 0;
}

bool clones_were_exchanged(struct run *r, const uint32_t *seen)
{
	struct clone *c = r->promoting[0] ? &r->clone[r->promoted] : NULL;
	int lines = c ? were_turned(r, c) : -1;
	bool same = c && memcmp(seen, r->promoting[1], r->model.blocks * sizeof(*seen)) == 0;
	bool done = lines < 0 ? same : lines;
	if (done && !same)
		sim_fail("c%u was promoted after a crash by its snapshots, and not by what the volume holds",
			 c->name);
	if (done)
		exchange_models(r, c);
	end_promoting(r);
	find_lines(r);
	return done;
}

/* After one that failed: both are what they were, or exchanged; what is in memory a crash may still undo. */
static void look_at_exchanged(struct run *r, struct clone *c)
{
	const uint32_t *head = r->promoting[0], *clone = r->promoting[1];
	int lines = were_turned(r, c);
	uint32_t b = 0;
	while (b < r->model.blocks && head[b] == clone[b])
		b++;
	int64_t version = b < r->model.blocks ? run_read(r, b) : 0;
	bool exchanged = b < r->model.blocks && (lines < 0 ? version == clone[b] : lines);
	if (version < 0 && !run_may_fail(r))
		sim_fail("block %" PRIu32 " cannot be read", b);
	if (b < r->model.blocks && version >= 0 && version != (exchanged ? clone[b] : head[b]))
		sim_fail("promoting c%u: block %" PRIu32 " is not as its snapshots tell", c->name, b);
	for (; b < r->model.blocks && ((version < 0 && lines < 0) || exchanged); b++) {
		if (head[b] == clone[b])
			continue;
		model_change(&r->model, b, clone[b]);
		model_change(&c->model, b, head[b]);
		if (version >= 0 || lines >= 0)
			continue;
		model_be_unsure(&r->model, b);
		model_be_unsure(&c->model, b);
	}
	if (lines == 1)
		exchange_lines(r, c);
}

static bool is_of_volume(const struct run *r, unsigned snap)
{
	for (unsigned i = 0; i < r->snaps; i++) {
		if (r->snap[i].name == snap)
			return true;
	}
	return false;
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
	if (c->model.any_unsure || !lines_fit(r, c))
		return;
	end_promoting(r);
	r->promoting[0] = copy_of(r->model.current, bytes);
	r->promoting[1] = copy_of(c->model.current, bytes);
	r->promoted = (unsigned)(c - r->clone);
	r->exchanging = c->name;
	name_of(c, name);
	bool refused = !is_of_volume(r, c->snap);
	int error = ALLOC_ARMED(store_promote(r->store, name, name));
	if ((error == -LCPFS_E_INVALID) != refused)
		sim_fail("promoting c%u, of s%u: %s", c->name, c->snap, lcpfs_error_sentence(error));
	if (error == -LCPFS_E_NOSPC && !r->faulty)
		sim_fail("a clone cannot be promoted on a full partition");
	bool done = !refused && run_worked(r, error);
	if (!simdisk_is_stopped(r->disk)) {
		if (done) {
			exchange_models(r, c);
			exchange_lines(r, c);
		} else if (!refused) {
			look_at_exchanged(r, c);
		}
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
	struct clone *c = any(r);
	if (c && c->owns)
		op_destroy_own(r, c);
	else
		op_destroy(r);
}

void clones_op(struct run *r)
{
	uint64_t what = run_random(r, 10);
	if (what < 3)
		op_clone(r);
	else if (what < 5)
		op_promote(r);
	else if (what < 6)
		op_destroy(r);
	else
		op_own(r);
}
