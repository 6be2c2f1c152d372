/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was learned, as bytes: fixed little-endian fields, a version, a checksum. Each field stands once, with what
 * it must be: that serves saving, loading and checking. What is being measured is kept, what a partition gave on
 * trial, and moves that wait for their verdict, so that a restart begins nothing anew.
 *
 *	header      "LCPFSENG", u32 version, u32 length of all, u64 FNV-1a of what follows
 *	engine      4 thresholds, trust, copying, counts, foresight; u64 numbers of partitions and of outcomes
 *	partitions  each with its window
 *	outcomes    oldest first
 *	awaited     u64 how many, the moves
 *	rest        what full writers took, what has to be taken back; may be missing
 *
 * Where there is no room for all, moves that are awaited come first, then windows. What a window measured that is
 * left out becomes a point of the curve. Version 4 is read, too: it has no windows, and may end behind the
 * outcomes.
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "engine/core.h"

#define MAGIC "LCPFSENG"

enum { VERSION = 5, VERSION_MIN = 4, HEADER_BYTES = 24, RESERVED_BYTES = 16 };

/* ---- numbers: written to bytes, read from them, or only counted ---- */

struct cursor {
	uint8_t *output;      /* NULL: nothing is written */
	const uint8_t *input; /* NULL: nothing is read */
	size_t at, end;
	double work; /* of the pool, now */
	bool sane;   /* what was read is what it must be */
};

/* Beyond the end of the input there are zeros, which are not sane. */
static void whole(struct cursor *c, uint64_t *value, size_t width)
{
	for (size_t i = 0; i < width && c->output; i++)
		c->output[c->at + i] = (uint8_t)(*value >> (8 * i));
	*value = c->input ? 0 : *value;
	for (size_t i = width; i-- > 0 && c->input;)
		*value = *value << 8 | (c->at + i < c->end ? c->input[c->at + i] : 0);
	c->at += width;
	c->sane &= !c->input || c->at <= c->end;
}

/* Lists end with NULL. */
static void u64s(struct cursor *c, uint64_t *const *values)
{
	for (; *values; values++)
		whole(c, *values, 8);
}

static void u32(struct cursor *c, uint32_t *value, uint32_t most)
{
	uint64_t wide = *value;
	whole(c, &wide, 4);
	*value = (uint32_t)wide;
	c->sane &= *value <= most;
}

static void number(struct cursor *c, int *value, int most)
{
	uint32_t wide = (uint32_t)*value;
	u32(c, &wide, (uint32_t)most);
	*value = (int)MIN_OF(wide, (uint32_t)most);
}

static void bits(struct cursor *c, bool *const *values)
{
	uint64_t all = 0;
	for (int i = 0; values[i]; i++)
		all |= (uint64_t)*values[i] << i;
	whole(c, &all, 4);
	for (int i = 0; values[i]; i++)
		*values[i] = all >> i & 1;
}

static void f64s(struct cursor *c, double low, double high, double *const *values)
{
	uint64_t all;
	for (; *values; values++) {
		memcpy(&all, *values, sizeof(all));
		whole(c, &all, sizeof(all));
		memcpy(*values, &all, sizeof(all));
		c->sane &= **values >= low && **values <= high;
	}
}

static void f32(struct cursor *c, float *value)
{
	uint32_t all;
	memcpy(&all, value, sizeof(all));
	u32(c, &all, UINT32_MAX);
	memcpy(value, &all, sizeof(all));
	c->sane &= isfinite(*value);
}

/* Those of which seven digits are enough. */
static void shorts(struct cursor *c, double low, double high, double *const *values)
{
	for (; *values; values++) {
		float single = (float)fmin(fmax(**values, -FLT_MAX), FLT_MAX);
		f32(c, &single);
		**values = single;
		c->sane &= **values >= low && **values <= high;
	}
}

#define U64S(c, ...)          u64s(c, (uint64_t *[]){__VA_ARGS__, NULL})
#define BITS(c, ...)          bits(c, (bool *[]){__VA_ARGS__, NULL})
#define F64S(c, range, ...)   f64s(c, range, (double *[]){__VA_ARGS__, NULL})
#define SHORTS(c, range, ...) shorts(c, range, (double *[]){__VA_ARGS__, NULL})

#define ANY     -INFINITY, INFINITY
#define FINITE  -DBL_MAX, DBL_MAX
#define AMOUNT  0, DBL_MAX
#define SHARE   0, 1
#define UNKNOWN 0, INFINITY

/* The pool's work at some time: kept is how long ago that was. */
static void age(struct cursor *c, double *work)
{
	double since = c->work - *work;
	SHORTS(c, AMOUNT, &since);
	*work = c->work - since;
}

/* ---- records ---- */

static void threshold_fields(struct cursor *c, struct lcpfs_engine_threshold *t)
{
	F64S(c, FINITE, &t->value);
	F64S(c, UNKNOWN, &t->uncertainty);
	U64S(c, &t->observations);
	F64S(c, SHARE, &t->learning_rate);
	F64S(c, FINITE, &t->mean_outcome);
	F64S(c, UNKNOWN, &t->variance);
	F64S(c, ANY, &t->low, &t->high);
}

static void engine_fields(struct cursor *c, struct engine_core *core)
{
	threshold_fields(c, &core->pressure);
	threshold_fields(c, &core->cooldown_s);
	threshold_fields(c, &core->growth);
	threshold_fields(c, &core->shrink);
	F64S(c, FINITE, &core->trust_sum);
	F64S(c, AMOUNT, &core->trust_weight, &core->copying_seen, &core->copying_expected);
	U64S(c, &core->judged, &core->moves, &core->improved, &core->hurt, &core->inconclusive, &core->undone);
	u32(c, &core->id_last, UINT32_MAX);
	u32(c, &core->copying_tried_steps, UINT32_MAX);
	F64S(c, AMOUNT, &core->written);
	F64S(c, FINITE, &core->ledger.saved);
	F64S(c, AMOUNT, &core->foresight.judged);
	for (int i = 0; i < ENGINE_MEMORIES; i++)
		F64S(c, AMOUNT, &core->foresight.off[i], &core->foresight.usual[i]);
}

static void demand_fields(struct cursor *c, struct engine_demand *d)
{
	for (struct engine_rates *r = d->memory; r < d->memory + ENGINE_MEMORIES; r++)
		SHORTS(c, AMOUNT, &r->seconds, &r->ops, &r->user);
	SHORTS(c, AMOUNT, &d->squares, &d->latency_us, &d->write_latency_us, &d->samples, &d->latency_squares);
}

static void trial_fields(struct cursor *c, struct engine_trial *t)
{
	U64S(c, &t->blocks);
	u32(c, &t->to_id, UINT32_MAX);
	SHORTS(c, AMOUNT, &t->expected_copies, &t->saving_blocks_s, &t->return_blocks, &t->user);
	SHORTS(c, FINITE, &t->copied);
	SHORTS(c, AMOUNT, &t->seconds);
}

static void barrier_fields(struct cursor *c, struct engine_barrier *b)
{
	U64S(c, &b->size);
	age(c, &b->work);
	number(c, &b->times, ENGINE_TIMES_MAX);
}

static void batch_fields(struct cursor *c, struct engine_batch *b)
{
	SHORTS(c, AMOUNT, &b->ops, &b->latency_us, &b->write_latency_us, &b->user, &b->copied, &b->device,
	       &b->work);
}

/* What is measured since a size changed; before the first batch is full that is nothing yet. */
static void window_fields(struct cursor *c, struct engine_window *w)
{
	number(c, &w->count, ENGINE_BATCHES_MAX);
	if (!w->count)
		return;
	SHORTS(c, AMOUNT, &w->width);
	batch_fields(c, &w->open);
	for (int i = 0; i < w->count; i++)
		batch_fields(c, &w->batches[i]);
}

static void partition_fields(struct cursor *c, struct engine_partition *p)
{
	u32(c, &p->id, UINT32_MAX);
	number(c, &p->curve.count, ENGINE_CURVE_POINTS);
	for (int i = 0; i < ENGINE_CURVE_POINTS; i++) {
		f32(c, &p->curve.points[i].spare);
		f32(c, &p->curve.points[i].measured);
		f32(c, &p->curve.points[i].error);
	}
	demand_fields(c, &p->demand);
	trial_fields(c, &p->trial);
	F64S(c, AMOUNT, &p->latency_us, &p->latency_error);
	F64S(c, SHARE, &p->write_share);
	F64S(c, AMOUNT, &p->since_blocks);
	U64S(c, &p->size, &p->base);
	barrier_fields(c, &p->refused);
	barrier_fields(c, &p->hurt);
	U64S(c, &p->barrier_live);
	BITS(c, &p->latency_known);
	SHORTS(c, AMOUNT, &p->proven_blocks);
	BITS(c, &p->trial.passed, &p->joined_all);
	age(c, &p->seen_work);
	age(c, &p->changed_work);
	window_fields(c, &p->window);
}

static void outcome_fields(struct cursor *c, struct lcpfs_engine_outcome *o)
{
	uint32_t verdict = o->verdict, reason = o->reason | (uint32_t)o->undone << 31 | (uint32_t)o->joined << 30;
	U64S(c, &o->sequence);
	u32(c, &o->from_id, UINT32_MAX);
	u32(c, &o->to_id, UINT32_MAX);
	U64S(c, &o->blocks, &o->from_old_blocks, &o->from_new_blocks, &o->to_old_blocks, &o->to_new_blocks);
	F64S(c, ANY, &o->pressure);
	F64S(c, FINITE, &o->expected_gain, &o->expected_error, &o->epsilon_before, &o->epsilon_after);
	F64S(c, AMOUNT, &o->standard_error);
	U64S(c, &o->moved_us, &o->duration_us, &o->taken_us);
	u32(c, &verdict, LCPFS_ENGINE_NOT_JUDGED);
	u32(c, &reason, UINT32_MAX);
	o->verdict = verdict;
	o->reason = reason & ~(3u << 30);
	o->undone = reason >> 31;
	o->joined = reason >> 30 & 1;
}

static void before_fields(struct cursor *c, struct engine_before *b)
{
	SHORTS(c, AMOUNT, &b->frequency, &b->latency_us, &b->latency_error, &b->utilization, &b->freedom);
	SHORTS(c, AMOUNT, &b->new_utilization, &b->expected_ratio);
	BITS(c, &b->measured, &b->changed);
}

static void pending_fields(struct cursor *c, struct engine_pending *p)
{
	outcome_fields(c, &p->outcome);
	before_fields(c, &p->from);
	before_fields(c, &p->to);
	age(c, &p->made_work);
	c->at += RESERVED_BYTES;
}

static void rest_fields(struct cursor *c, struct engine_core *core)
{
	SHORTS(c, AMOUNT, &core->emergency_blocks);
	age(c, &core->emergency_work);
	BITS(c, &core->undo_wanted);
	outcome_fields(c, &core->undo);
	SHORTS(c, AMOUNT, &core->undo_freedom);
	age(c, &core->undo_work);
}

static void header_fields(struct cursor *c, uint32_t *version, uint32_t *length, uint64_t *hash)
{
	c->at = sizeof(MAGIC) - 1;
	u32(c, version, UINT32_MAX);
	u32(c, length, UINT32_MAX);
	U64S(c, hash);
}

static uint64_t fnv1a(const uint8_t *bytes, size_t length)
{
	uint64_t hash = 0xcbf29ce484222325u;
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3u;
	return hash;
}

/* ---- saving ---- */

/* That it takes beyond one in which nothing was measured yet. */
static size_t window_bytes(const struct engine_window *window)
{
	struct engine_window copy = *window, none = {.count = 0};
	struct cursor full = {0}, empty = {0};
	window_fields(&full, &copy);
	window_fields(&empty, &none);
	return full.at - empty.at;
}

/* With its window, if there is so much to spare; else what that measured is a point of its curve. */
static void save_partition(struct cursor *c, const struct engine_partition *p, size_t *spare)
{
	struct engine_partition copy = *p;
	struct engine_point point;
	size_t bytes = window_bytes(&p->window);
	if (bytes <= *spare) {
		*spare -= bytes;
	} else {
		copy.window.count = 0;
		copy.changed_work = c->work; /* it is measured anew */
		if (engine_core_point(p, &point))
			engine_curve_keep(&copy.curve, &point);
	}
	partition_fields(c, &copy);
}

/* Its clocks go on from how long ago it was made. */
static void save_pending(struct cursor *c, const struct engine_core *core, const struct engine_pending *p)
{
	struct engine_pending copy = *p;
	if (core->now_us) /* else it was loaded, and no time has passed */
		copy.outcome.taken_us = core->now_us - p->outcome.moved_us;
	copy.outcome.moved_us = 0;
	pending_fields(c, &copy);
}

/* With so many of the moves that are awaited; returns where it ends. */
static size_t save_all(const struct engine_core *core, uint8_t *bytes, uint64_t awaited, size_t spare)
{
	struct cursor c = {.output = bytes, .at = HEADER_BYTES, .work = core->work};
	struct engine_core copy = *core;
	uint64_t partitions = core->count, outcomes = MIN_OF(core->outcome_count, LCPFS_ENGINE_OUTCOMES_MAX);
	engine_fields(&c, &copy);
	U64S(&c, &partitions, &outcomes);
	for (size_t i = 0; i < core->count; i++)
		save_partition(&c, core->partitions[i], &spare);
	for (size_t i = core->outcome_count - outcomes; i < core->outcome_count; i++) {
		outcome_fields(&c, &copy.outcomes[i % LCPFS_ENGINE_OUTCOMES_MAX]);
		c.at += RESERVED_BYTES;
	}
	U64S(&c, &awaited);
	for (size_t i = 0; i < awaited; i++)
		save_pending(&c, core, &core->pending[i]);
	rest_fields(&c, &copy);
	return c.at;
}

size_t engine_state_save(const struct engine_core *core, void *bytes, size_t room)
{
	struct cursor c = {.output = bytes};
	uint32_t version = VERSION, length;
	uint64_t hash, awaited = core->pending_count;
	size_t need = save_all(core, NULL, awaited, bytes ? 0 : SIZE_MAX);
	if (bytes && room < need) /* what was learned matters more than a verdict */
		need = save_all(core, NULL, awaited = 0, 0);
	if (!bytes || room < need || room > UINT32_MAX)
		return need;
	memset(bytes, 0, room);
	length = (uint32_t)save_all(core, bytes, awaited, room - need);
	hash = fnv1a(c.output + HEADER_BYTES, length - HEADER_BYTES);
	memcpy(bytes, MAGIC, sizeof(MAGIC) - 1);
	header_fields(&c, &version, &length, &hash);
	return length;
}

/* ---- loading ---- */

/* The cursor is at the end of the header then. */
static int load_header(struct cursor *c, size_t length)
{
	uint32_t version = 0, all = 0;
	uint64_t hash;
	if (length < HEADER_BYTES || memcmp(c->input, MAGIC, sizeof(MAGIC) - 1) != 0)
		return -LCPFS_E_CORRUPT;
	c->end = HEADER_BYTES;
	header_fields(c, &version, &all, &hash);
	if (version < VERSION_MIN || version > VERSION)
		return -LCPFS_E_VERSION;
	if (all > length || all < HEADER_BYTES || fnv1a(c->input + HEADER_BYTES, all - HEADER_BYTES) != hash)
		return -LCPFS_E_CORRUPT;
	c->end = all;
	return 0;
}

/* Its size comes from the caller. Where that was another, what followed from it is known no more. */
static void load_partition(struct cursor *c, struct engine_core *core)
{
	struct cursor again = *c;
	struct engine_partition saved;
	memset(&saved, 0, sizeof(saved));
	c->sane = true;
	partition_fields(c, &saved);
	struct engine_partition *p = engine_core_find(core, saved.id);
	uint64_t size = p ? p->size : 0;
	if (!p || !c->sane)
		return;
	engine_foresight_replace(&core->foresight, &p->demand, true);
	engine_window_reset(&p->window);
	partition_fields(&again, p);
	for (int i = 0; i < ENGINE_MEMORIES; i++)
		core->foresight.ops[i] += p->demand.memory[i].ops;
	engine_foresight_replace(&core->foresight, &p->demand, false);
	p->size = size;
	/* what else happened to its size since was the engine's doing, before a crash */
	p->base = MIN_OF(saved.base, p->max);
	if (size != saved.size) { /* the log has gone round under another: its effect has to arrive anew */
		engine_window_reset(&p->window);
		p->since_blocks = 0;
		p->changed_work = core->work;
	}
	if (size != saved.size || saved.trial.blocks > core->options.pool_blocks)
		p->trial = (struct engine_trial){0};
	engine_core_refresh(core, p);
}

/* Where its receiver has another size now, it can be judged no more. */
static void load_pending(struct cursor *c, struct engine_core *core)
{
	struct engine_pending *p = &core->pending[core->pending_count];
	const struct lcpfs_engine_outcome *o = &p->outcome;
	memset(p, 0, sizeof(*p));
	c->sane = true;
	pending_fields(c, p);
	struct engine_partition *to = engine_core_find(core, o->to_id), *from = engine_core_find(core, o->from_id);
	if (!to || !c->sane || !(o->expected_gain > 0))
		return;
	core->pending_count++;
	p->outcome.moved_us = core->now_us - MIN_OF(core->now_us, o->taken_us);
	p->from.changed |= from && from->size != o->from_new_blocks;
	to->awaited = true;
	to->awaited_work = p->made_work;
	if (from && from->trial.blocks == o->blocks && from->trial.to_id == to->id)
		from->trial.sequence = o->sequence;
	core->sequence = MAX_OF(core->sequence, o->sequence);
	if (!o->joined && to->size != o->to_new_blocks)
		engine_judge_cut_off(core, to->id);
	engine_core_refresh(core, to);
}

static void load_rest(struct cursor *c, struct engine_core *core)
{
	c->sane = true;
	rest_fields(c, core);
	core->undo_wanted &= c->sane && core->undo.from_id != core->undo.to_id;
	if (!(c->sane && core->emergency_blocks <= (double)core->options.pool_blocks))
		core->emergency_blocks = core->emergency_work = 0;
}

static void load_outcome(struct cursor *c, struct engine_core *core)
{
	struct lcpfs_engine_outcome *o = &core->outcomes[core->outcome_count];
	c->sane = true;
	outcome_fields(c, o);
	c->at += RESERVED_BYTES;
	core->outcome_count += c->sane;
	core->sequence = MAX_OF(core->sequence, o->sequence); /* no two decisions share a number */
}

int engine_state_load(struct engine_core *core, const void *bytes, size_t length)
{
	struct cursor c = {.input = bytes, .work = core->work, .sane = true};
	uint64_t partitions = 0, outcomes = 0, awaited = 0;
	struct engine_core learned = *core;
	int error = load_header(&c, length);
	if (error)
		return error;
	engine_fields(&c, &learned);
	U64S(&c, &partitions, &outcomes);
	if (!c.sane || outcomes > LCPFS_ENGINE_OUTCOMES_MAX)
		return -LCPFS_E_CORRUPT;
	learned.id_last = MAX_OF(learned.id_last, core->id_last);
	*core = learned;
	engine_foresight_round(&core->foresight); /* whom to believe is known at once */
	for (uint64_t i = 0; i < partitions && c.at < c.end; i++)
		load_partition(&c, core);
	core->outcome_count = 0;
	for (uint64_t i = 0; i < outcomes && c.at < c.end; i++)
		load_outcome(&c, core);
	U64S(&c, &awaited);
	/* there has to be room for one more for each receiver */
	if (awaited > core->room - MIN_OF(core->room, core->pending_count))
		return 0;
	for (uint64_t i = 0; i < awaited && c.at < c.end; i++)
		load_pending(&c, core);
	load_rest(&c, core);
	return 0;
}
