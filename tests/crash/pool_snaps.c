/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots, clones, bookmarks and streams beside the models. What a crash, a fault or a failed allocation leaves
 * of an operation is the one or the other: with a snapshot or without it, the volume as it was or as it became, by
 * either name the same content whichever of them is the clone's.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "poolsim.h"

enum { STREAM_ROOM = 2 << 20 };

/* -- streams -- */

static void drop_stream(struct sim_stream *s)
{
	if (s && --s->users == 0)
		free(s);
}

static void forget_incoming(struct sim_part *p)
{
	drop_stream(p->incoming);
	p->incoming = NULL;
	p->half = p->giving_up = false;
}

static int put_bytes(void *context, const void *data, size_t length, struct lcpfs_failure *failure)
{
	struct sim_stream *s = context;
	(void)failure;
	if (length > STREAM_ROOM - s->length)
		sim_fail("a stream is longer than all that it can hold");
	memcpy(s->bytes + s->length, data, length);
	s->length += length;
	return 0;
}

struct reader {
	const struct sim_stream *stream;
	size_t at, end;
};

static int get_bytes(void *context, void *buffer, size_t *length, struct lcpfs_failure *failure)
{
	struct reader *in = context;
	(void)failure;
	*length = MIN_OF(*length, in->end - in->at);
	memcpy(buffer, in->stream->bytes + in->at, *length);
	in->at += *length;
	return 0;
}

/* -- the lists -- */

static void drop_snap(struct sim_snap *list, unsigned *count, unsigned i)
{
	for (--*count; i < *count; i++)
		list[i] = list[i + 1];
}

static void drop_clone(struct sim_part *p, unsigned i)
{
	model_free(&p->clone[i].model);
	for (p->clones--; i < p->clones; i++)
		p->clone[i] = p->clone[i + 1];
}

void snaps_copy(struct sim_part *to, const struct sim_part *from)
{
	for (unsigned i = 0; i < from->clones; i++)
		model_copy(&to->clone[i].model, &from->clone[i].model);
	if (from->becomes)
		to->becomes = to->target;
	if (from->incoming)
		from->incoming->users++;
}

void snaps_done(struct sim_part *p)
{
	while (p->clones)
		drop_clone(p, 0);
	p->snaps = p->marks = 0;
	p->becomes = NULL;
	p->promoting = false;
	forget_incoming(p);
}

static void list_flushed(struct sim_snap *list, unsigned *count)
{
	for (unsigned i = *count; i-- > 0;) {
		list[i].durable = list[i].hold_is_sure = true;
		list[i].was = 0;
		if (!list[i].listed)
			drop_snap(list, count, i);
	}
}

void snaps_flushed(struct sim_part *p)
{
	model_flushed(&p->model);
	list_flushed(p->snap, &p->snaps);
	list_flushed(p->mark, &p->marks);
	for (unsigned i = p->clones; i-- > 0;) {
		model_flushed(&p->clone[i].model);
		p->clone[i].durable = true;
		p->clone[i].was[0] = '\0';
		p->clone[i].blocks_were = p->clone[i].blocks;
		if (!p->clone[i].listed)
			drop_clone(p, i);
	}
	p->becomes = NULL;
	p->promoting = false;
	if (!p->half)
		forget_incoming(p);
}

bool snaps_any_held(const struct sim_part *p)
{
	for (unsigned i = 0; i < p->snaps; i++) {
		if (p->snap[i].listed && (p->snap[i].held || !p->snap[i].hold_is_sure))
			return true;
	}
	return false;
}

/* Does it have room for one more, and is it known what its volume holds? */
static bool may_take(const struct sim_part *p)
{
	return p->presence == PRESENT && !p->half && !p->model.any_unsure &&
	       p->snaps + (p->incoming != NULL) < SNAPS_MAX;
}

static struct sim_snap *any_listed(struct pool_run *r, struct sim_snap *list, unsigned count)
{
	unsigned at = (unsigned)pool_random(r, SNAPS_MAX);
	for (unsigned i = 0; i < count; i++) {
		if (list[(at + i) % count].listed)
			return &list[(at + i) % count];
	}
	return NULL;
}

static struct sim_snap *youngest(struct sim_part *p)
{
	unsigned i = p->snaps;
	while (i > 0 && (!p->snap[i - 1].listed || p->snap[i - 1].clone))
		i--;
	return i ? &p->snap[i - 1] : NULL;
}

static struct sim_clone *any_clone(struct pool_run *r, struct sim_part *p)
{
	unsigned at = (unsigned)pool_random(r, CLONES_SIM_MAX);
	for (unsigned i = 0; i < p->clones; i++) {
		if (p->clone[(at + i) % p->clones].listed)
			return &p->clone[(at + i) % p->clones];
	}
	return NULL;
}

static bool has_clone(const struct sim_part *p, const struct sim_snap *n)
{
	for (unsigned i = 0; i < p->clones; i++) {
		if (p->clone[i].listed && p->clone[i].origin == n->age)
			return true;
	}
	return false;
}

static bool is_mark_younger(const struct sim_part *p, const struct sim_snap *n)
{
	for (unsigned i = 0; i < p->marks; i++) {
		if (p->mark[i].listed && !p->mark[i].clone && p->mark[i].age > n->age)
			return true;
	}
	return false;
}

/* What it is of. */
static const char *volume_of(const struct sim_part *p, const struct sim_snap *n)
{
	for (unsigned i = 0; i < p->clones && n->clone; i++) {
		if (p->clone[i].id == n->clone)
			return p->clone[i].name;
	}
	return p->name;
}

static const char *name_of(const struct sim_part *p, const struct sim_snap *n, char name[NAME_ROOM])
{
	snprintf(name, NAME_ROOM, "%s@s%u", volume_of(p, n), n->label);
	return name;
}

static const char *mark_name_of(const struct sim_part *p, const struct sim_snap *n, char name[NAME_ROOM])
{
	snprintf(name, NAME_ROOM, "%s#m%u", volume_of(p, n), n->label);
	return name;
}

/* -- what the pool says -- */

struct lists {
	struct lcpfs_snapshot_info snap[SNAPS_MAX + 2];
	struct lcpfs_bookmark_info mark[MARKS_MAX + 2];
	struct lcpfs_clone_info clone[PARTS * (CLONES_SIM_MAX + 2)];
	size_t snaps, marks, clones;
};

/* Those of its volume, and (NULL: of that) of its clones. */
static int list_volume(struct pool_run *r, const struct sim_part *p, const char *volume, struct lists *l)
{
	size_t snaps = ARRAY_LENGTH(l->snap) - l->snaps, marks = ARRAY_LENGTH(l->mark) - l->marks, count = 0,
	       more = 0;
	volume = volume ? volume : p->name;
	int error = lcpfs_snapshot_list(r->pool, volume, l->snap + l->snaps, snaps, &count, &r->failure);
	if (!error)
		error = lcpfs_bookmark_list(r->pool, volume, l->mark + l->marks, marks, &more, &r->failure);
	if (!error && (count > snaps || more > marks))
		sim_fail("%s has more of something than was ever made", volume);
	l->snaps += count;
	l->marks += more;
	return error;
}

/* False: it cannot be told, after a fault. */
static bool ask(struct pool_run *r, const struct sim_part *p, struct lists *l)
{
	l->snaps = l->marks = 0;
	(void)!lcpfs_clone_list(r->pool, l->clone, ARRAY_LENGTH(l->clone), &l->clones);
	if (l->clones > ARRAY_LENGTH(l->clone))
		sim_fail("%s has more of something than was ever made", p->name);
	int error = list_volume(r, p, NULL, l);
	for (size_t i = 0; i < l->clones && !error; i++) {
		if (strcmp(l->clone[i].partition, p->name) == 0)
			error = list_volume(r, p, l->clone[i].name, l);
	}
	if (error && !r->faulty)
		sim_fail("%s cannot be listed: %s", p->name, r->failure.message);
	return !error;
}

static const struct lcpfs_snapshot_info *find_snap(const struct lists *l, unsigned label)
{
	char name[NAME_ROOM];
	snprintf(name, sizeof(name), "s%u", label);
	for (size_t i = 0; i < l->snaps; i++) {
		if (strcmp(l->snap[i].snapshot, name) == 0)
			return &l->snap[i];
	}
	return NULL;
}

static bool has_mark(const struct lists *l, unsigned label)
{
	char name[NAME_ROOM];
	snprintf(name, sizeof(name), "m%u", label);
	for (size_t i = 0; i < l->marks; i++) {
		if (strcmp(l->mark[i].bookmark, name) == 0)
			return true;
	}
	return false;
}

static const struct lcpfs_clone_info *find_clone(const struct lists *l, const struct sim_part *p, const char *name)
{
	for (size_t i = 0; i < l->clones; i++) {
		if (strcmp(l->clone[i].name, name) == 0 && strcmp(l->clone[i].partition, p->name) == 0)
			return &l->clone[i];
	}
	return NULL;
}

static bool is_half(struct pool_run *r, const struct sim_part *p)
{
	struct lcpfs_partition_info info;
	return lcpfs_partition_get_info(r->pool, p->name, &info, NULL) == 0 &&
	       info.receiving == LCPFS_RECEIVING_INTERRUPTED;
}

/* What was received wholly is a snapshot, and what the volume holds. */
static void take_received(struct pool_run *r, struct sim_part *p)
{
	const struct sim_stream *s = p->incoming;
	struct sim_snap *n = &p->snap[p->snaps++];
	*n = (struct sim_snap){
		.label = s->label, .stamp = s->stamp, .age = ++r->ages, .listed = true, .hold_is_sure = true};
	memcpy(n->version, s->version, sizeof(n->version));
	model_become(&p->model, n->version);
	p->half = p->giving_up = false;
	p->becomes = NULL;
}

static void look_at_snap(struct sim_snap *n, const struct lists *l)
{
	const struct lcpfs_snapshot_info *info = find_snap(l, n->label);
	if (!info && n->was && find_snap(l, n->was)) {
		info = find_snap(l, n->was);
		n->label = n->was;
		n->was = 0;
	}
	n->listed = info;
	n->held = info && info->held;
}

static void look_at_clone(struct sim_clone *c, const struct lists *l, const struct sim_part *p)
{
	const struct lcpfs_clone_info *info = find_clone(l, p, c->name);
	if (!info && c->was[0] && find_clone(l, p, c->was)) {
		info = find_clone(l, p, c->was);
		memcpy(c->name, c->was, sizeof(c->name));
		c->was[0] = '\0';
	}
	c->listed = info;
	if (info && !c->blocks) /* it is new */
		c->blocks = c->blocks_were = info->volume_bytes / BLOCK_SIZE;
	if (info && info->volume_bytes == c->blocks_were * BLOCK_SIZE)
		c->blocks = c->blocks_were;
}

/* After an operation, whether it worked or failed. */
static void look(struct pool_run *r, struct sim_part *p)
{
	struct lists l;
	if (!ask(r, p, &l))
		return;
	for (unsigned i = 0; i < p->snaps; i++)
		look_at_snap(&p->snap[i], &l);
	for (unsigned i = 0; i < p->marks; i++)
		p->mark[i].listed = has_mark(&l, p->mark[i].label);
	for (unsigned i = 0; i < p->clones; i++)
		look_at_clone(&p->clone[i], &l, p);
	p->half = p->incoming && is_half(r, p);
}

/* -- comparing -- */

static void must_be_listed(const struct sim_part *p, const struct lists *l)
{
	size_t snaps = 0, marks = 0, clones = 0, all = 0;
	char name[NAME_ROOM];
	for (unsigned i = 0; i < p->snaps; i++) {
		const struct sim_snap *n = &p->snap[i];
		const struct lcpfs_snapshot_info *info = find_snap(l, n->label);
		if ((info != NULL) != n->listed)
			sim_fail("%s@s%u is %slisted", p->name, n->label, n->listed ? "not " : "");
		if (info && strcmp(info->name, name_of(p, n, name)) != 0)
			sim_fail("%s is listed as %s", name, info->name);
		if (info && n->hold_is_sure && info->held != n->held)
			sim_fail("%s@s%u is %sheld", p->name, n->label, n->held ? "not " : "");
		snaps += n->listed;
	}
	for (unsigned i = 0; i < p->marks; i++) {
		if (has_mark(l, p->mark[i].label) != p->mark[i].listed)
			sim_fail("%s#m%u is %slisted", p->name, p->mark[i].label, p->mark[i].listed ? "not " : "");
		marks += p->mark[i].listed;
	}
	for (unsigned i = 0; i < p->clones; i++) {
		const struct lcpfs_clone_info *info = find_clone(l, p, p->clone[i].name);
		if ((info != NULL) != p->clone[i].listed)
			sim_fail("clone %s is %slisted", p->clone[i].name, p->clone[i].listed ? "not " : "");
		if (info && info->volume_bytes != p->clone[i].blocks * BLOCK_SIZE)
			sim_fail("clone %s has %" PRIu64 " bytes, not %" PRIu64 " blocks", info->name,
				 info->volume_bytes, p->clone[i].blocks);
		clones += p->clone[i].listed;
	}
	for (size_t i = 0; i < l->clones; i++)
		all += strcmp(l->clone[i].partition, p->name) == 0;
	if (snaps != l->snaps || marks != l->marks || clones != all)
		sim_fail("%s has %zu snapshots, %zu bookmarks and %zu clones, not %zu, %zu and %zu", p->name,
			 l->snaps, l->marks, all, snaps, marks, clones);
}

void snaps_verify(struct pool_run *r, struct sim_part *p)
{
	char name[NAME_ROOM];
	struct lists l;
	if (!r->snapshots || !ask(r, p, &l))
		return;
	must_be_listed(p, &l);
	if (p->half != is_half(r, p))
		sim_fail("%s does %swait for the rest of what it received", p->name, p->half ? "not " : "");
	for (unsigned i = 0; i < p->snaps; i++) {
		if (p->snap[i].listed)
			pool_verify_volume(r, name_of(p, &p->snap[i], name), NULL, p->snap[i].version);
	}
	for (unsigned i = 0; i < p->clones; i++) {
		if (p->clone[i].listed)
			pool_verify_volume(r, p->clone[i].name, &p->clone[i].model, NULL);
	}
}

/* -- after a crash -- */

/* What is younger than what the clone began as stays with what it is of, and so does what the clone has. */
static void exchange_lines(struct sim_snap *list, unsigned count, const struct sim_clone *c)
{
	for (unsigned i = 0; i < count; i++) {
		if (list[i].clone == c->id)
			list[i].clone = 0;
		else if (!list[i].clone && list[i].age > c->origin)
			list[i].clone = c->id;
	}
}

static void exchange(struct sim_part *p, struct sim_clone *c)
{
	struct model model = p->model;
	char name[sizeof(p->name)];
	memcpy(name, p->name, sizeof(name));
	memcpy(p->name, c->name, sizeof(name));
	memcpy(c->name, name, sizeof(name));
	p->model = c->model;
	c->model = model;
	exchange_lines(p->snap, p->snaps, c);
	exchange_lines(p->mark, p->marks, c);
}

static bool is_partition(struct pool_run *r, const char *name)
{
	return lcpfs_partition_get_info(r->pool, name, &(struct lcpfs_partition_info){0}, NULL) == 0;
}

void snaps_find_roles(struct pool_run *r, struct sim_part *p)
{
	for (unsigned i = 0; i < p->clones && p->promoting && !is_partition(r, p->name); i++) {
		if (is_partition(r, p->clone[i].name))
			exchange(p, &p->clone[i]);
	}
}

static void must_be_durable(const struct sim_part *p, const struct sim_snap *before, const struct sim_snap *now,
			    unsigned count, char separator)
{
	for (unsigned i = 0; i < count; i++) {
		if (before[i].durable && before[i].listed != now[i].listed)
			sim_fail("%s%c%u is %s after a crash", p->name, separator, now[i].label,
				 now[i].listed ? "back" : "gone");
		if (now[i].listed && before[i].hold_is_sure && before[i].held != now[i].held)
			sim_fail("%s%c%u is %sheld after a crash", p->name, separator, now[i].label,
				 now[i].held ? "" : "not ");
	}
}

static bool has_label(const struct sim_part *p, unsigned label)
{
	for (unsigned i = 0; i < p->snaps; i++) {
		if (p->snap[i].label == label || p->snap[i].was == label)
			return true;
	}
	return false;
}

static void settle_lists(struct pool_run *r, struct sim_part *p)
{
	struct sim_snap snap[SNAPS_MAX], mark[MARKS_MAX];
	bool clone[CLONES_SIM_MAX];
	struct lists l;
	memcpy(snap, p->snap, sizeof(snap));
	memcpy(mark, p->mark, sizeof(mark));
	for (unsigned i = 0; i < p->clones; i++)
		clone[i] = p->clone[i].listed;
	look(r, p);
	must_be_durable(p, snap, p->snap, p->snaps, '@');
	must_be_durable(p, mark, p->mark, p->marks, '#');
	for (unsigned i = 0; i < p->clones; i++) {
		if (p->clone[i].durable && clone[i] != p->clone[i].listed)
			sim_fail("clone %s is %s after a crash", p->clone[i].name, clone[i] ? "gone" : "back");
	}
	list_flushed(p->snap, &p->snaps);
	list_flushed(p->mark, &p->marks);
	for (unsigned i = p->clones; i-- > 0;) {
		p->clone[i].durable = true;
		p->clone[i].was[0] = '\0';
		p->clone[i].blocks_were = p->clone[i].blocks;
		if (!p->clone[i].listed)
			drop_clone(p, i);
	}
	/* Or was it there before the crash already? */
	if (ask(r, p, &l) && p->incoming && !has_label(p, p->incoming->label) &&
	    find_snap(&l, p->incoming->label)) {
		take_received(r, p);
		p->snap[p->snaps - 1].durable = true;
		forget_incoming(p);
	}
	if (ask(r, p, &l))
		must_be_listed(p, &l);
}

static void settle_volume(struct pool_run *r, const char *name, struct model *model, const uint32_t *becomes)
{
	uint32_t seen[VOLUME_BLOCKS];
	if (!pool_read_volume(r, name, seen))
		return;
	if (becomes && memcmp(seen, becomes, sizeof(seen)) == 0)
		model_become(model, becomes);
	else if (!model_settle(model, seen))
		sim_fail("%s: no prefix of what was written gives this state", name);
}

void snaps_settle(struct pool_run *r, struct sim_part *p)
{
	bool was_half = p->half;
	char name[NAME_ROOM];
	if (r->snapshots)
		settle_lists(r, p);
	if (was_half && p->incoming && !p->half) {
		if (!p->giving_up && !r->faulty)
			sim_fail("%s does not wait any more for the rest of what it received", p->name);
		model_become(&p->model, p->incoming->base);
	}
	if (!p->half) {
		settle_volume(r, p->name, &p->model, p->becomes);
		forget_incoming(p);
	}
	p->becomes = NULL;
	p->promoting = p->giving_up = false;
	for (unsigned i = 0; i < p->clones; i++)
		settle_volume(r, p->clone[i].name, &p->clone[i].model, NULL);
	for (unsigned i = 0; i < p->snaps && r->snapshots; i++)
		pool_verify_volume(r, name_of(p, &p->snap[i], name), NULL, p->snap[i].version);
	if (p->half)
		snaps_finish(r, p);
}

/* -- operations -- */

enum outcome { DONE, REFUSED, FAILED };

/* `refusal`: 0, or the error that it has to end with. */
static enum outcome came_to(struct pool_run *r, int error, int refusal)
{
	if (refusal && !r->faulty && error != refusal)
		sim_fail("it is not refused: %s (%s)", lcpfs_error_sentence(error), r->failure.message);
	if (r->options->verbose)
		fprintf(stderr, "  came to %d\n", error);
	if (refusal && error == refusal)
		return REFUSED;
	return pool_worked(r, error) ? DONE : FAILED;
}

/* However full the partition is, this works. */
static void never_full(const struct pool_run *r, int error)
{
	if (error == -LCPFS_E_NOSPC && !r->faulty)
		sim_fail("it does not work on a full partition: %s", r->failure.message);
}

static void begin_taking(struct pool_run *r, struct sim_part *p)
{
	struct sim_snap *n = &p->snap[p->snaps++];
	*n = (struct sim_snap){.label = ++r->names, .stamp = ++r->stamps, .age = ++r->ages, .hold_is_sure = true};
	memcpy(n->version, p->model.current, sizeof(n->version));
}

static void end_taking(struct pool_run *r, struct sim_part *p, enum outcome outcome)
{
	struct sim_snap *n = &p->snap[p->snaps - 1];
	look(r, p);
	if (outcome == DONE && !n->listed)
		sim_fail("%s@s%u was taken and is not listed", p->name, n->label);
	if (outcome == DONE)
		snaps_flushed(p);
}

/* Of one partition, or of two at one instant. */
static void op_take(struct pool_run *r, struct sim_part *p)
{
	struct sim_part *q = &r->part[pool_random(r, PARTS)];
	char text[2][NAME_ROOM];
	const char *names[2] = {text[0], text[1]};
	bool both = q != p && may_take(q) && pool_random(r, 2);
	if (!may_take(p))
		return;
	begin_taking(r, p);
	name_of(p, &p->snap[p->snaps - 1], text[0]);
	if (both) {
		begin_taking(r, q);
		name_of(q, &q->snap[q->snaps - 1], text[1]);
	}
	int error = ALLOC_ARMED(lcpfs_snapshot_create(r->pool, names, 1 + both, NULL, &r->failure));
	enum outcome outcome = came_to(r, error, 0);
	end_taking(r, p, outcome);
	if (both)
		end_taking(r, q, outcome);
}

static int why_not_destroyed(const struct sim_part *p, const struct sim_snap *n)
{
	return n->held ? -LCPFS_E_BUSY : has_clone(p, n) ? -LCPFS_E_CLONED : 0;
}

/* One, or all. */
static void op_destroy(struct pool_run *r, struct sim_part *p)
{
	struct sim_snap *one = any_listed(r, p->snap, p->snaps), *list[SNAPS_MAX];
	bool all = pool_random(r, 4) == 0, durable[SNAPS_MAX];
	char text[SNAPS_MAX][NAME_ROOM];
	const char *names[SNAPS_MAX];
	unsigned count = 0;
	int refusal = 0;
	for (unsigned i = 0; i < p->snaps; i++) {
		struct sim_snap *n = &p->snap[i];
		if (!n->listed || (n != one && !all))
			continue;
		refusal = refusal ? refusal : why_not_destroyed(p, n);
		durable[count] = n->durable;
		names[count] = name_of(p, n, text[count]);
		list[count++] = n;
	}
	if (!count)
		return;
	for (unsigned i = 0; i < count && !refusal; i++)
		list[i]->durable = false;
	int error = ALLOC_ARMED(lcpfs_snapshot_destroy(r->pool, names, count, NULL, &r->failure));
	never_full(r, error);
	enum outcome outcome = came_to(r, error, refusal);
	look(r, p);
	for (unsigned i = 0; i < count; i++) {
		if (outcome == DONE && list[i]->listed)
			sim_fail("%s was destroyed and is listed", names[i]);
		if (list[i]->listed)
			list[i]->durable = durable[i];
	}
	if (outcome == DONE)
		snaps_flushed(p);
}

static void op_hold(struct pool_run *r, struct sim_part *p)
{
	struct sim_snap *n = any_listed(r, p->snap, p->snaps);
	char text[NAME_ROOM];
	if (!n)
		return;
	const char *name = name_of(p, n, text);
	bool release = n->held;
	n->hold_is_sure = false;
	int error = ALLOC_ARMED(
		(release ? lcpfs_snapshot_release : lcpfs_snapshot_hold)(r->pool, &name, 1, NULL, &r->failure));
	if (release)
		never_full(r, error);
	enum outcome outcome = came_to(r, error, 0);
	look(r, p);
	if (outcome == DONE && n->held == release)
		sim_fail("%s was %s, and is%s held", name, release ? "released" : "held", release ? "" : " not");
	if (outcome == DONE)
		snaps_flushed(p);
}

static void op_rename(struct pool_run *r, struct sim_part *p)
{
	struct sim_snap *n = any_listed(r, p->snap, p->snaps);
	char name[NAME_ROOM], new_name[NAME_ROOM];
	if (!n || n->was)
		return;
	name_of(p, n, name);
	n->was = n->label;
	n->label = ++r->names;
	name_of(p, n, new_name);
	int error = ALLOC_ARMED(lcpfs_snapshot_rename(r->pool, name, new_name, NULL, &r->failure));
	enum outcome outcome = came_to(r, error, 0);
	look(r, p);
	if (outcome == DONE && !n->listed)
		sim_fail("%s was renamed and is not there", name);
	if (outcome == DONE)
		snaps_flushed(p);
}

static void op_mark(struct pool_run *r, struct sim_part *p)
{
	const struct sim_snap *n = any_listed(r, p->snap, p->snaps);
	char name[NAME_ROOM], snapshot[NAME_ROOM];
	if (!n || p->marks == MARKS_MAX)
		return;
	struct sim_snap *m = &p->mark[p->marks++];
	*m = *n;
	m->label = ++r->names;
	m->listed = m->durable = m->held = false;
	m->hold_is_sure = true;
	m->was = 0;
	name_of(p, n, snapshot);
	mark_name_of(p, m, name);
	int error = ALLOC_ARMED(lcpfs_bookmark_create(r->pool, snapshot, name, NULL, &r->failure));
	enum outcome outcome = came_to(r, error, 0);
	look(r, p);
	if (outcome == DONE && !m->listed)
		sim_fail("%s was made and is not listed", name);
	if (outcome == DONE)
		snaps_flushed(p);
}

static void op_unmark(struct pool_run *r, struct sim_part *p)
{
	struct sim_snap *m = any_listed(r, p->mark, p->marks);
	char name[NAME_ROOM];
	if (!m)
		return;
	bool durable = m->durable;
	m->durable = false;
	int error = ALLOC_ARMED(lcpfs_bookmark_destroy(r->pool, mark_name_of(p, m, name), NULL, &r->failure));
	never_full(r, error);
	enum outcome outcome = came_to(r, error, 0);
	look(r, p);
	if (outcome == DONE && m->listed)
		sim_fail("%s was destroyed and is listed", name);
	if (outcome == DONE)
		snaps_flushed(p);
	else if (m->listed)
		m->durable = durable;
}

/* -- the volume becomes what it was, or what was sent -- */

static void may_become(struct sim_part *p, const uint32_t *version)
{
	memcpy(p->target, version, sizeof(p->target));
	p->becomes = p->target;
}

/* After one that failed: is it what it may have become? */
static void look_at_volume(struct pool_run *r, struct sim_part *p)
{
	struct model *m = &p->model;
	uint32_t b = 0;
	while (p->becomes && b < VOLUME_BLOCKS && m->current[b] == p->becomes[b])
		b++;
	if (!p->becomes || b == VOLUME_BLOCKS)
		return;
	int64_t version = pool_read_one(r, p->name, b);
	if (version == m->current[b])
		return;
	if (version < 0 ? !r->faulty : version != p->becomes[b])
		sim_fail("%s, block %" PRIu32 " is neither old nor new: %" PRId64, p->name, b, version);
	for (; b < VOLUME_BLOCKS; b++) {
		if (m->current[b] == p->becomes[b])
			continue;
		model_change(m, b, p->becomes[b]);
		if (version < 0)
			model_be_unsure(m, b);
	}
}

static int why_not_rolled_back(struct sim_part *p, const struct sim_snap *to, bool force)
{
	int refusal = 0;
	for (const struct sim_snap *n = to + 1; n < p->snap + p->snaps; n++) {
		if (n->clone)
			continue;
		if (n->listed && !force)
			return -LCPFS_E_EXISTS;
		if (n->listed && !refusal)
			refusal = why_not_destroyed(p, n);
	}
	return refusal || force || !is_mark_younger(p, to) ? refusal : -LCPFS_E_EXISTS;
}

static void op_rollback(struct pool_run *r, struct sim_part *p)
{
	struct lcpfs_snapshot_options options = {.force = pool_random(r, 2)};
	struct sim_snap *to = any_listed(r, p->snap, p->snaps);
	bool durable[SNAPS_MAX], mark_durable[MARKS_MAX];
	char name[NAME_ROOM];
	if (!to || to->clone || p->model.any_unsure)
		return;
	unsigned younger = (unsigned)(to + 1 - p->snap);
	int refusal = why_not_rolled_back(p, to, options.force);
	for (unsigned i = younger; i < p->snaps; i++) {
		durable[i] = p->snap[i].durable;
		p->snap[i].durable &= refusal || p->snap[i].clone;
	}
	for (unsigned i = 0; i < p->marks; i++) {
		mark_durable[i] = p->mark[i].durable;
		p->mark[i].durable &= refusal || p->mark[i].clone || p->mark[i].age <= to->age;
	}
	if (!refusal)
		may_become(p, to->version);
	int error = ALLOC_ARMED(lcpfs_snapshot_rollback(r->pool, name_of(p, to, name), &options, &r->failure));
	never_full(r, error);
	enum outcome outcome = came_to(r, error, refusal);
	look(r, p);
	for (unsigned i = younger; i < p->snaps; i++) {
		if (outcome == DONE && p->snap[i].listed && !p->snap[i].clone)
			sim_fail("%s@s%u has outlived a rollback", p->name, p->snap[i].label);
		if (p->snap[i].listed)
			p->snap[i].durable = durable[i];
	}
	for (unsigned i = 0; i < p->marks; i++) {
		if (p->mark[i].listed && outcome == DONE && !p->mark[i].clone && p->mark[i].age > to->age)
			sim_fail("%s#m%u has outlived a rollback", p->name, p->mark[i].label);
		if (p->mark[i].listed)
			p->mark[i].durable = mark_durable[i];
	}
	if (outcome == DONE)
		model_become(&p->model, p->target);
	if (outcome == DONE)
		snaps_flushed(p);
	if (outcome == FAILED)
		look_at_volume(r, p);
}

/* -- clones -- */

static void op_clone(struct pool_run *r, struct sim_part *p)
{
	const struct sim_snap *of = pool_random(r, 2) ? youngest(p) : any_listed(r, p->snap, p->snaps);
	struct sim_clone *c = &p->clone[p->clones];
	char snapshot[NAME_ROOM];
	if (!of || p->clones == CLONES_SIM_MAX)
		return;
	*c = (struct sim_clone){.origin = of->age, .id = ++r->ages};
	snprintf(c->name, sizeof(c->name), "c%u", ++r->names % 100000);
	model_init(&c->model, VOLUME_BLOCKS);
	model_become(&c->model, of->version);
	p->clones++;
	int error =
		ALLOC_ARMED(lcpfs_clone_create(r->pool, name_of(p, of, snapshot), c->name, false, &r->failure));
	enum outcome outcome = came_to(r, error, 0);
	look(r, p);
	if (outcome == DONE && !c->listed)
		sim_fail("clone %s was made and is not listed", c->name);
	if (outcome == DONE)
		snaps_flushed(p);
}

static void op_destroy_clone(struct pool_run *r, struct sim_part *p)
{
	struct sim_clone *c = any_clone(r, p);
	if (!c)
		return;
	bool durable = c->durable, mark_durable[MARKS_MAX];
	const char *name = c->name;
	int refusal = 0;
	for (unsigned i = 0; i < p->snaps; i++)
		refusal = p->snap[i].listed && p->snap[i].clone == c->id ? -LCPFS_E_NOT_EMPTY : refusal;
	c->durable &= refusal != 0;
	for (unsigned i = 0; i < p->marks; i++) {
		mark_durable[i] = p->mark[i].durable;
		p->mark[i].durable &= refusal || p->mark[i].clone != c->id;
	}
	int error = ALLOC_ARMED(lcpfs_clone_destroy(r->pool, &name, 1, false, &r->failure));
	never_full(r, error);
	enum outcome outcome = came_to(r, error, refusal);
	look(r, p);
	if (outcome == DONE && c->listed)
		sim_fail("clone %s was destroyed and is listed", c->name);
	for (unsigned i = 0; i < p->marks; i++) {
		if (p->mark[i].listed)
			p->mark[i].durable = mark_durable[i];
	}
	if (outcome == DONE)
		snaps_flushed(p);
	else if (c->listed)
		c->durable = durable;
}

static void op_rename_clone(struct pool_run *r, struct sim_part *p)
{
	struct sim_clone *c = any_clone(r, p);
	if (!c || c->was[0])
		return;
	memcpy(c->was, c->name, sizeof(c->was));
	snprintf(c->name, sizeof(c->name), "c%u", ++r->names % 100000);
	enum outcome outcome =
		came_to(r, ALLOC_ARMED(lcpfs_clone_rename(r->pool, c->was, c->name, false, &r->failure)), 0);
	look(r, p);
	if (outcome == DONE && (!c->listed || !c->was[0]))
		sim_fail("clone %s was renamed and is not there", c->name);
	if (outcome == DONE)
		snaps_flushed(p);
}

static void op_grow_clone(struct pool_run *r, struct sim_part *p)
{
	struct sim_clone *c = any_clone(r, p);
	if (!c || c->blocks_were != c->blocks)
		return;
	c->blocks += 1 + pool_random(r, 600);
	enum outcome outcome = came_to(
		r, ALLOC_ARMED(lcpfs_clone_grow(r->pool, c->name, c->blocks * BLOCK_SIZE, false, &r->failure)), 0);
	look(r, p);
	if (outcome == DONE && c->blocks == c->blocks_were)
		sim_fail("clone %s was made longer and is not", c->name);
	if (outcome == DONE)
		snaps_flushed(p);
}

static void op_change_clone(struct pool_run *r, struct sim_part *p)
{
	struct sim_clone *c = any_clone(r, p);
	if (c)
		pool_change_volume(r, c->name, &c->model, pool_random(r, 4) == 0);
}

/* By either name there is what was there before, so the models change places with the names. */
static void op_promote(struct pool_run *r, struct sim_part *p)
{
	struct sim_clone *c = any_clone(r, p);
	int refusal = 0;
	char partition[LCPFS_NAME_MAX + 1];
	if (!c)
		return;
	if (c->was[0] || c->blocks_were != c->blocks)
		return;
	for (unsigned i = 0; i < p->snaps; i++)
		refusal = p->snap[i].age == c->origin && p->snap[i].clone ? -LCPFS_E_INVALID : refusal;
	p->promoting = true;
	int error = ALLOC_ARMED(lcpfs_clone_promote(r->pool, c->name, false, partition, &r->failure));
	never_full(r, error);
	if (error == -LCPFS_E_RANGE && !refusal) /* the volume is longer by now */
		return;
	enum outcome outcome = came_to(r, error, refusal);
	if (is_partition(r, c->name))
		exchange(p, c);
	else if (outcome == DONE)
		sim_fail("clone %s was promoted and is no partition", c->name);
	look(r, p);
	if (outcome == DONE)
		snaps_flushed(p);
}

/* -- sending and receiving -- */

/* "@s7" or "#m7" of p, older than n, that q's youngest is. */
static const uint32_t *find_base(const struct sim_part *p, const struct sim_snap *n, const struct sim_snap *last,
				 char from[NAME_ROOM])
{
	for (unsigned i = 0; i < p->snaps; i++) {
		if (p->snap[i].listed && p->snap[i].clone == n->clone && p->snap[i].age < n->age &&
		    p->snap[i].stamp == last->stamp) {
			snprintf(from, NAME_ROOM, "s%u", p->snap[i].label);
			return p->snap[i].version;
		}
	}
	for (unsigned i = 0; i < p->marks; i++) {
		if (p->mark[i].listed && p->mark[i].clone == n->clone && p->mark[i].age < n->age &&
		    p->mark[i].stamp == last->stamp) {
			snprintf(from, NAME_ROOM, "#m%u", p->mark[i].label);
			return p->mark[i].version;
		}
	}
	return NULL;
}

/* NULL: it could not be sent. */
static struct sim_stream *send_one(struct pool_run *r, const struct sim_part *p, const struct sim_snap *n,
				   const uint32_t *base, const char *from)
{
	struct sim_stream *s = malloc(sizeof(*s) + STREAM_ROOM);
	struct lcpfs_send_options options = {.from = base ? from : NULL, .write = put_bytes, .context = s};
	struct lcpfs_stream told, sent;
	char name[NAME_ROOM];
	CHECK(s);
	*s = (struct sim_stream){.users = 1, .label = n->label, .stamp = n->stamp};
	memcpy(s->version, n->version, sizeof(s->version));
	if (base)
		memcpy(s->base, base, sizeof(s->base));
	name_of(p, n, name);
	options.dry_run = true;
	int error = ALLOC_ARMED(lcpfs_snapshot_send(r->pool, name, &options, &told, &r->failure));
	options.dry_run = false;
	if (came_to(r, error, 0) == DONE)
		error = ALLOC_ARMED(lcpfs_snapshot_send(r->pool, name, &options, &sent, &r->failure));
	if (came_to(r, error, 0) == DONE) {
		if (told.stream_bytes != sent.stream_bytes || sent.stream_bytes != s->length)
			sim_fail("%s: a stream of %zu bytes was told to have %" PRIu64, name, s->length,
				 told.stream_bytes);
		return s;
	}
	free(s);
	return NULL;
}

/* What came of it, whatever it said. */
static void end_receiving(struct pool_run *r, struct sim_part *p, enum outcome outcome)
{
	struct lists l;
	look(r, p);
	bool known = ask(r, p, &l);
	if (known && find_snap(&l, p->incoming->label)) {
		take_received(r, p);
		if (outcome == DONE)
			snaps_flushed(p);
		return;
	}
	if (outcome == DONE)
		sim_fail("%s has received a snapshot, and has it not", p->name);
	if (!p->half)
		look_at_volume(r, p);
}

/* The first `end` bytes of it. */
static enum outcome receive(struct pool_run *r, struct sim_part *p, struct lcpfs_receive_options *options,
			    size_t end)
{
	struct reader in = {p->incoming, 0, end};
	struct lcpfs_stream stream;
	options->read = get_bytes;
	options->context = &in;
	int error = ALLOC_ARMED(lcpfs_snapshot_receive(r->pool, p->name, options, &stream, &r->failure));
	if (end < p->incoming->length && error == -LCPFS_E_STOPPED)
		return FAILED;
	return came_to(r, error, 0);
}

static void op_send(struct pool_run *r, struct sim_part *p)
{
	struct sim_snap *n = any_listed(r, p->snap, p->snaps);
	unsigned at = (unsigned)pool_random(r, PARTS);
	struct lcpfs_receive_options options = {.resume = pool_random(r, 2)};
	char from[NAME_ROOM];
	for (unsigned i = 0; n && i < PARTS; i++) {
		struct sim_part *q = &r->part[(at + i) % PARTS];
		const struct sim_snap *last = youngest(q);
		const uint32_t *base = last ? find_base(p, n, last, from) : NULL;
		if (q == p || !may_take(q) || q->incoming || has_label(q, n->label) || (last && !base) ||
		    (!last && q->snaps))
			continue;
		q->incoming = send_one(r, p, n, base, from);
		if (!q->incoming)
			return;
		options.force = memcmp(q->model.current, q->incoming->base, sizeof(q->incoming->base)) != 0;
		may_become(q, q->incoming->base);
		q->giving_up = !options.resume;
		size_t end = pool_random(r, 2) ? q->incoming->length : pool_random(r, q->incoming->length);
		end_receiving(r, q, receive(r, q, &options, end));
		return;
	}
}

void snaps_finish(struct pool_run *r, struct sim_part *p)
{
	struct lcpfs_receive_options options = {.resume = true};
	if (pool_random(r, 2)) {
		options = (struct lcpfs_receive_options){.abort = true};
		p->giving_up = true;
	}
	enum outcome outcome = receive(r, p, &options, p->incoming->length);
	if (!options.abort) {
		end_receiving(r, p, outcome);
		return;
	}
	never_full(r, outcome == FAILED && !r->faulty ? -LCPFS_E_NOSPC : 0);
	look(r, p);
	if (outcome == DONE && p->half)
		sim_fail("%s waits for the rest of what was given up", p->name);
	if (!p->half)
		model_become(&p->model, p->incoming->base);
	if (outcome == DONE)
		snaps_flushed(p);
}

void snaps_op(struct pool_run *r, struct sim_part *p)
{
	static void (*const ops[])(struct pool_run * r, struct sim_part * p) = {
		op_take,    op_take,    op_take,          op_destroy,      op_hold,         op_rename,
		op_mark,    op_unmark,  op_clone,         op_clone,        op_change_clone, op_change_clone,
		op_promote, op_promote, op_destroy_clone, op_rename_clone, op_grow_clone,   op_rollback,
		op_send,    op_send,    op_send};
	unsigned what = (unsigned)pool_random(r, ARRAY_LENGTH(ops));
	if (r->options->verbose)
		fprintf(stderr, "  snapshots: %u, %s\n", what, p->name);
	if (p->half)
		snaps_finish(r, p);
	else
		ops[what](r, p);
}
