/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Bookmarks beside the model: each keeps what its snapshot held, also when that is gone. What a younger snapshot
 * has of it, and what has changed, is told by the store as the model has it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "storesim.h"

bool marks_used(const struct run *r)
{
	return snaps_used(r) && r->seed % 3 == 0;
}

static void name_of(const struct mark *m, char name[16])
{
	snprintf(name, 16, "m%u", m->name);
}

static void drop(struct run *r, unsigned i)
{
	free(r->mark[i].version);
	for (r->marks--; i < r->marks; i++)
		r->mark[i] = r->mark[i + 1];
}

void marks_copy(struct run *to, const struct run *from)
{
	size_t bytes = from->model.blocks * sizeof(uint32_t);
	for (unsigned i = 0; i < from->marks; i++) {
		to->mark[i].version = malloc(bytes);
		CHECK(to->mark[i].version);
		memcpy(to->mark[i].version, from->mark[i].version, bytes);
	}
}

void marks_done(struct run *r)
{
	while (r->marks)
		drop(r, 0);
}

static uint32_t volume_of(struct run *r, const struct mark *m)
{
	return m->clone ? clones_number(r, m->clone) : STORE_OWN_VOLUME;
}

static uint32_t number_of(struct run *r, const struct mark *m)
{
	struct store_snapshot found;
	char name[16];
	name_of(m, name);
	uint32_t volume = volume_of(r, m);
	return volume && store_volume_bookmark_find(r->store, volume, name, &found) ? found.number : 0;
}

/* -- what is told since -- */

static void must_be_same(struct run *r, uint32_t from, uint32_t to, const struct store_difference *told)
{
	struct store_difference run;
	if (!told->data || ALLOC_ARMED(store_difference(r->store, from, to, told->first, &run)))
		return;
	if (run.first != told->first || !run.count || !run.data)
		sim_fail("volumes %" PRIu32 " and %" PRIu32 ": told to differ at %" PRIu64 ", by births only",
			 from, to, told->first);
}

static void verify_since(struct run *r, const struct mark *m, const uint32_t *version, uint32_t to)
{
	struct store_difference run = {0};
	struct store_snapshot found;
	uint32_t number = number_of(r, m), b = 0;
	char name[16];
	snprintf(name, sizeof(name), "s%u", m->label);
	bool known = store_volume_snapshot_find(r->store, volume_of(r, m), name, &found) && found.number == number;
	while (run.first != UINT64_MAX) {
		int error = ALLOC_ARMED(store_difference_since(r->store, number, to, run.first, &run));
		if (error && run_may_fail(r))
			return;
		if (error)
			sim_fail("what volume %u has since m%u cannot be told: %s", to, m->name,
				 lcpfs_error_sentence(error));
		for (; b < r->model.blocks && run_offset(r, b) >> BLOCK_SHIFT < run.first; b++) {
			if (m->version[b] != version[b])
				sim_fail("volume %u differs since m%u at block %" PRIu32, to, m->name, b);
		}
		if (run.first == UINT64_MAX)
			break;
		if (known && run.count)
			must_be_same(r, number, to, &run);
		uint64_t end = run.first + run.count, blocks = 0;
		for (; b < r->model.blocks && run_offset(r, b) >> BLOCK_SHIFT < end; b++, blocks++) {
			if (run.data != (version[b] != 0))
				sim_fail("volume %u since m%u: block %" PRIu32 " is told to be what it is not", to,
					 m->name, b);
		}
		if (run.data && blocks != run.count)
			sim_fail("volume %u since m%u: data where there are none", to, m->name);
		run.first = end;
	}
}

static void verify_line(struct run *r, const struct mark *m, const struct snap *list, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (list[i].listed && list[i].name > m->snap)
			verify_since(r, m, list[i].version, snaps_number(r, &list[i]));
	}
}

void marks_verify(struct run *r)
{
	unsigned count = store_volume_bookmarks(r->store, 0, NULL, 0), listed = 0;
	for (unsigned i = 0; i < r->marks; i++) {
		const struct mark *m = &r->mark[i];
		listed += m->listed;
		if ((number_of(r, m) != 0) != m->listed)
			sim_fail("bookmark m%u is %slisted", m->name, m->listed ? "not " : "");
		for (unsigned k = 0; m->listed && m->clone && k < r->clones; k++) {
			if (r->clone[k].name != m->clone)
				continue;
			verify_line(r, m, r->clone[k].own, r->clone[k].owns);
			if (!r->clone[k].model.any_unsure)
				verify_since(r, m, r->clone[k].model.current, clones_number(r, m->clone));
		}
		if (m->listed && !m->clone)
			verify_line(r, m, r->snap, r->snaps);
		if (m->listed && !m->clone && !r->model.any_unsure)
			verify_since(r, m, r->model.current, 0);
	}
	if (count != listed)
		sim_fail("%u bookmarks are listed, not %u", count, listed);
}

/* -- what becomes of them -- */

void marks_settle(struct run *r)
{
	for (unsigned i = r->marks; i-- > 0;) {
		struct mark *m = &r->mark[i];
		bool there = number_of(r, m);
		if (m->durable && there != m->listed)
			sim_fail("bookmark m%u is %s after a crash", m->name, there ? "back" : "gone");
		m->listed = there;
		m->durable = true;
		if (!there)
			drop(r, i);
	}
}

void marks_flushed(struct run *r)
{
	for (unsigned i = r->marks; i-- > 0;) {
		r->mark[i].durable = true;
		if (!r->mark[i].listed)
			drop(r, i);
	}
}

static bool is_behind(const struct mark *m, unsigned clone, const struct snap *to)
{
	return m->clone == clone && (!to || m->snap > to->name);
}

void marks_go_back(struct run *r, unsigned clone, const struct snap *to)
{
	for (unsigned i = 0; i < r->marks; i++)
		r->mark[i].durable &= !is_behind(&r->mark[i], clone, to);
}

void marks_went_back(struct run *r, unsigned clone, const struct snap *to, bool done)
{
	for (unsigned i = 0; i < r->marks; i++) {
		struct mark *m = &r->mark[i];
		if (!is_behind(m, clone, to))
			continue;
		m->listed = number_of(r, m);
		if (done && m->listed)
			sim_fail("bookmark m%u has outlived a rollback", m->name);
	}
}

static bool moves(const struct mark *m, unsigned clone, unsigned snap)
{
	return m->clone == clone || (!m->clone && m->snap > snap);
}

void marks_turn(struct run *r, unsigned clone, unsigned snap)
{
	for (unsigned i = 0; i < r->marks; i++) {
		struct mark *m = &r->mark[i];
		if (moves(m, clone, snap))
			m->clone = m->clone ? 0 : clone;
	}
}

int marks_were_turned(struct run *r, const struct clone *c)
{
	struct mark other;
	for (unsigned i = 0; i < r->marks; i++) {
		if (!r->mark[i].durable || !r->mark[i].listed || !moves(&r->mark[i], c->name, c->snap))
			continue;
		other = r->mark[i];
		other.clone = other.clone ? 0 : c->name;
		bool here = number_of(r, &r->mark[i]), there = number_of(r, &other);
		if (here == there)
			sim_fail("bookmark m%u is %s", other.name, here ? "there twice" : "not there");
		return there;
	}
	return -1;
}

/* -- operations -- */

static bool worked(struct run *r, int error)
{
	r->noticed += error && error != -LCPFS_E_NOSPC;
	if (error && error != -LCPFS_E_NOSPC && !run_may_fail(r))
		sim_fail("an operation on bookmarks failed: %s", lcpfs_error_sentence(error));
	return !error;
}

static void take(struct run *r)
{
	const struct snap *of = snaps_any(r);
	struct mark *m = &r->mark[r->marks];
	size_t bytes = r->model.blocks * sizeof(uint32_t);
	char name[16], snapshot[16];
	if (!of)
		return;
	*m = (struct mark){
		.name = ++r->mark_names, .snap = of->name, .label = of->label, .version = malloc(bytes)};
	CHECK(m->version);
	memcpy(m->version, of->version, bytes);
	r->marks++;
	name_of(m, name);
	snprintf(snapshot, sizeof(snapshot), "s%u", of->label);
	bool done = worked(r, ALLOC_ARMED(store_bookmark(r->store, snapshot, name)));
	if (simdisk_is_stopped(r->disk))
		return;
	m->listed = number_of(r, m);
	if (done && !m->listed)
		sim_fail("a bookmark was made and is not listed");
	if (done)
		run_flushed(r);
	else if (!m->listed)
		drop(r, r->marks - 1);
}

static void destroy(struct run *r)
{
	struct mark *m = &r->mark[run_random(r, r->marks)];
	bool durable = m->durable;
	uint32_t volume = volume_of(r, m);
	char name[16];
	if (!m->listed || !volume)
		return;
	name_of(m, name);
	m->durable = false;
	int error = ALLOC_ARMED(store_volume_bookmark_destroy(r->store, volume, name));
	if (error == -LCPFS_E_NOSPC && !r->faulty)
		sim_fail("a bookmark cannot be destroyed on a full partition");
	bool done = worked(r, error);
	if (simdisk_is_stopped(r->disk))
		return;
	m->listed = number_of(r, m);
	if (done && m->listed)
		sim_fail("a bookmark was destroyed and is listed");
	if (done)
		run_flushed(r);
	else if (m->listed)
		m->durable = durable;
}

void marks_op(struct run *r)
{
	if (r->marks < MARKS_MAX && (!r->marks || run_random(r, 3)))
		take(r);
	else
		destroy(r);
}
