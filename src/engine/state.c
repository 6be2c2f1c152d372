/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What was learned, as bytes: fixed little-endian fields, a version, a checksum. One description of the fields
 * serves both directions, so that they cannot drift apart. Measurements under way are not kept: they are made
 * again after a restart. What a partition gave on trial is kept, and so are moves that wait for their verdict.
 *
 *	header   "LCPFSENG", u32 version, u32 length of all, u64 FNV-1a of what follows
 *	engine   4 thresholds, trust, copying, counts, highest id, written and saved, foresight, numbers of
 *	         partitions and outcomes
 *	partitions, outcomes (oldest first)
 *	awaited  u64 how many, the moves; all that is behind the outcomes may be missing
 */
#include <float.h>
#include <math.h>
#include <string.h>

#include "engine/core.h"

#define MAGIC "LCPFSENG"
#define VERSION 4u
#define HEADER_BYTES 24u
#define PARTITION_BYTES 320u
#define OUTCOME_BYTES 152u
#define ENGINE_BYTES 480u
#define PENDING_BYTES   220u

/* A cursor that writes fields to bytes, reads them from bytes, or only counts (bytes NULL). */
struct cursor {
	uint8_t *bytes;
	const uint8_t *input;
	size_t at;
};

static void put_u64(struct cursor *c, uint64_t *v, size_t width)
{
	if (c->input) {
		*v = 0;
		for (size_t i = width; i-- > 0;)
			*v = *v << 8 | c->input[c->at + i];
	} else if (c->bytes) {
		for (size_t i = 0; i < width; i++)
			c->bytes[c->at + i] = (uint8_t)(*v >> (8 * i));
	}
	c->at += width;
}

static void u64_field(struct cursor *c, uint64_t *v)
{
	put_u64(c, v, 8);
}

static void u32_field(struct cursor *c, uint32_t *v)
{
	uint64_t wide = *v;
	put_u64(c, &wide, 4);
	*v = (uint32_t)wide;
}

static void f64_field(struct cursor *c, double *v)
{
	uint64_t bits;
	memcpy(&bits, v, 8);
	put_u64(c, &bits, 8);
	memcpy(v, &bits, 8);
}

static void f32_field(struct cursor *c, float *v)
{
	uint32_t bits;
	memcpy(&bits, v, 4);
	u32_field(c, &bits);
	memcpy(v, &bits, 4);
}

/* A number of which seven digits are enough. */
static void short_field(struct cursor *c, double *v)
{
	float single = (float)fmin(fmax(*v, -FLT_MAX), FLT_MAX);
	f32_field(c, &single);
	*v = single;
}

static void threshold_fields(struct cursor *c, struct lcpfs_engine_threshold *t)
{
	f64_field(c, &t->value);
	f64_field(c, &t->uncertainty);
	u64_field(c, &t->observations);
	f64_field(c, &t->learning_rate);
	f64_field(c, &t->mean_outcome);
	f64_field(c, &t->variance);
	f64_field(c, &t->low);
	f64_field(c, &t->high);
}

struct counts {
	uint64_t partitions, outcomes;
};

static void engine_fields(struct cursor *c, struct engine_core *core, struct counts *counts)
{
	uint32_t tried_steps = (uint32_t)MIN_OF(core->copying_tried / core->options.step_blocks, UINT32_MAX);
	threshold_fields(c, &core->pressure);
	threshold_fields(c, &core->cooldown_s);
	threshold_fields(c, &core->growth);
	threshold_fields(c, &core->shrink);
	f64_field(c, &core->trust_sum);
	f64_field(c, &core->trust_weight);
	f64_field(c, &core->copying_seen);
	f64_field(c, &core->copying_expected);
	u64_field(c, &core->judged);
	u64_field(c, &core->moves);
	u64_field(c, &core->improved);
	u64_field(c, &core->hurt);
	u64_field(c, &core->inconclusive);
	u64_field(c, &core->undone);
	u32_field(c, &core->id_last);
	u32_field(c, &tried_steps);
	f64_field(c, &core->written);
	f64_field(c, &core->ledger.saved);
	f64_field(c, &core->foresight.judged);
	for (int i = 0; i < ENGINE_MEMORIES; i++) {
		f64_field(c, &core->foresight.off[i]);
		f64_field(c, &core->foresight.usual[i]);
	}
	u64_field(c, &counts->partitions);
	u64_field(c, &counts->outcomes);
	core->copying_tried = tried_steps * core->options.step_blocks;
}

static void demand_fields(struct cursor *c, struct engine_demand *d)
{
	for (int i = 0; i < ENGINE_MEMORIES; i++) {
		short_field(c, &d->memory[i].seconds);
		short_field(c, &d->memory[i].ops);
		short_field(c, &d->memory[i].user);
	}
	short_field(c, &d->squares);
	short_field(c, &d->latency_us);
	short_field(c, &d->write_latency_us);
	short_field(c, &d->samples);
	short_field(c, &d->latency_squares);
}

static void trial_fields(struct cursor *c, struct engine_trial *t)
{
	u64_field(c, &t->blocks);
	u32_field(c, &t->to_id);
	short_field(c, &t->expected_copies);
	short_field(c, &t->saving_blocks_s);
	short_field(c, &t->return_blocks);
	short_field(c, &t->user);
	short_field(c, &t->copied);
	short_field(c, &t->seconds);
}

/* Its work is how long it has stood. */
static void barrier_fields(struct cursor *c, struct engine_barrier *b)
{
	uint32_t times = (uint32_t)b->times;
	u64_field(c, &b->size);
	short_field(c, &b->work);
	u32_field(c, &times);
	b->times = (int)MIN_OF(times, (uint32_t)ENGINE_TIMES_MAX);
}

static void partition_fields(struct cursor *c, struct engine_partition *p)
{
	uint32_t points = (uint32_t)p->curve.count, known = p->latency_known, passed = p->trial.passed;
	u32_field(c, &p->id);
	u32_field(c, &points);
	for (int i = 0; i < ENGINE_CURVE_POINTS; i++) {
		f32_field(c, &p->curve.points[i].spare);
		f32_field(c, &p->curve.points[i].measured);
		f32_field(c, &p->curve.points[i].error);
	}
	demand_fields(c, &p->demand);
	trial_fields(c, &p->trial);
	f64_field(c, &p->latency_us);
	f64_field(c, &p->latency_error);
	f64_field(c, &p->write_share);
	f64_field(c, &p->since_blocks);
	u64_field(c, &p->size);
	u64_field(c, &p->base);
	barrier_fields(c, &p->refused);
	barrier_fields(c, &p->hurt);
	u64_field(c, &p->barrier_live);
	u32_field(c, &known);
	short_field(c, &p->proven_blocks);
	u32_field(c, &passed);
	p->curve.count = (int)MIN_OF(points, (uint32_t)ENGINE_CURVE_POINTS);
	p->latency_known = known;
	p->trial.passed = passed;
}

static void outcome_fields(struct cursor *c, struct lcpfs_engine_outcome *o)
{
	uint32_t verdict = o->verdict;
	uint32_t reason = o->reason | (o->undone ? 1u << 31 : 0) | (o->joined ? 1u << 30 : 0);
	u64_field(c, &o->sequence);
	u32_field(c, &o->from_id);
	u32_field(c, &o->to_id);
	u64_field(c, &o->blocks);
	u64_field(c, &o->from_old_blocks);
	u64_field(c, &o->from_new_blocks);
	u64_field(c, &o->to_old_blocks);
	u64_field(c, &o->to_new_blocks);
	f64_field(c, &o->pressure);
	f64_field(c, &o->expected_gain);
	f64_field(c, &o->expected_error);
	f64_field(c, &o->epsilon_before);
	f64_field(c, &o->epsilon_after);
	f64_field(c, &o->standard_error);
	u64_field(c, &o->moved_us);
	u64_field(c, &o->duration_us);
	u64_field(c, &o->taken_us);
	u32_field(c, &verdict);
	u32_field(c, &reason);
	o->verdict = verdict;
	o->reason = reason & ~(3u << 30);
	o->undone = reason >> 31;
	o->joined = reason >> 30 & 1;
}

static void before_fields(struct cursor *c, struct engine_before *b)
{
	uint32_t measured = b->measured, changed = b->changed;
	short_field(c, &b->frequency);
	short_field(c, &b->latency_us);
	short_field(c, &b->latency_error);
	short_field(c, &b->utilization);
	short_field(c, &b->freedom);
	short_field(c, &b->new_utilization);
	short_field(c, &b->expected_ratio);
	measured |= changed << 1;
	u32_field(c, &measured);
	b->measured = measured & 1;
	b->changed = measured >> 1 & 1;
}

static void pending_fields(struct cursor *c, struct engine_pending *p)
{
	outcome_fields(c, &p->outcome);
	before_fields(c, &p->from);
	before_fields(c, &p->to);
	short_field(c, &p->waited);
}

static uint64_t fnv1a(const uint8_t *bytes, size_t length)
{
	uint64_t hash = 0xcbf29ce484222325u;
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3u;
	return hash;
}

static void write_header(uint8_t *bytes, size_t length)
{
	struct cursor c = {.bytes = bytes, .at = sizeof(MAGIC) - 1};
	uint32_t version = VERSION, all = (uint32_t)length;
	uint64_t hash = fnv1a(bytes + HEADER_BYTES, length - HEADER_BYTES);
	memcpy(bytes, MAGIC, sizeof(MAGIC) - 1);
	u32_field(&c, &version);
	u32_field(&c, &all);
	u64_field(&c, &hash);
}

/* A partition as it would be known after a restart: what the present window measured is a point of its curve. */
static struct engine_partition partition_to_save(const struct engine_core *core, const struct engine_partition *p)
{
	struct engine_partition copy = *p;
	struct engine_point point;
	copy.refused.work = core->work - p->refused.work;
	copy.hurt.work = core->work - p->hurt.work;

	if (engine_core_point(p, &point))
		engine_curve_keep(&copy.curve, &point);
	return copy;
}

/* Its clocks go on from how long ago it was made. */
static struct engine_pending pending_to_save(const struct engine_core *core, const struct engine_pending *p)
{
	struct engine_pending copy = *p;
	if (core->now_us) /* else it was loaded, and no time has passed */
		copy.outcome.taken_us = core->now_us - p->outcome.moved_us;
	copy.outcome.moved_us = 0;
	copy.waited = core->work - engine_core_find(core, p->outcome.to_id)->awaited_work;
	return copy;
}

static size_t outcomes_kept(const struct engine_core *core)
{
	return MIN_OF(core->outcome_count, LCPFS_ENGINE_OUTCOMES_MAX);
}

size_t engine_state_save(const struct engine_core *core, void *bytes, size_t room)
{
	struct engine_core copy = *core;
	struct counts counts = {core->count, outcomes_kept(core)};
	struct cursor c = {.bytes = bytes, .at = HEADER_BYTES};
	size_t awaited_at =
		HEADER_BYTES + ENGINE_BYTES + core->count * PARTITION_BYTES + counts.outcomes * OUTCOME_BYTES;
	size_t need = awaited_at, all = awaited_at + 8 + core->pending_count * PENDING_BYTES;
	size_t first = core->outcome_count - counts.outcomes;
	uint64_t awaited = core->pending_count;
	if (!bytes || room >= all) /* what was learned matters more than a verdict */
		need = all;
	if (!bytes || room < need || need > UINT32_MAX)
		return need;
	memset(bytes, 0, need);
	engine_fields(&c, &copy, &counts);
	for (size_t i = 0; i < core->count; i++) {
		struct engine_partition p = partition_to_save(core, core->partitions[i]);
		c.at = HEADER_BYTES + ENGINE_BYTES + i * PARTITION_BYTES;
		partition_fields(&c, &p);
	}
	for (size_t i = 0; i < counts.outcomes; i++) {
		struct lcpfs_engine_outcome o = core->outcomes[(first + i) % LCPFS_ENGINE_OUTCOMES_MAX];
		c.at = HEADER_BYTES + ENGINE_BYTES + core->count * PARTITION_BYTES + i * OUTCOME_BYTES;
		outcome_fields(&c, &o);
	}
	c.at = awaited_at;
	if (need == all)
		u64_field(&c, &awaited);
	for (size_t i = 0; i < awaited && need == all; i++) {
		struct engine_pending p = pending_to_save(core, &core->pending[i]);
		c.at = awaited_at + 8 + i * PENDING_BYTES;
		pending_fields(&c, &p);
	}
	write_header(bytes, need);
	return need;
}

/* `length` becomes what the checksum is of. */
static int check_header(const uint8_t *bytes, size_t *length)
{
	struct cursor c = {.input = bytes, .at = sizeof(MAGIC) - 1};
	uint32_t version = 0, all = 0;
	uint64_t hash = 0;
	if (*length < HEADER_BYTES + ENGINE_BYTES || memcmp(bytes, MAGIC, sizeof(MAGIC) - 1))
		return -LCPFS_E_CORRUPT;
	u32_field(&c, &version);
	u32_field(&c, &all);
	u64_field(&c, &hash);
	if (version != VERSION)
		return -LCPFS_E_VERSION;
	if (all > *length || all < HEADER_BYTES + ENGINE_BYTES)
		return -LCPFS_E_CORRUPT;
	*length = all;
	return fnv1a(bytes + HEADER_BYTES, all - HEADER_BYTES) == hash ? 0 : -LCPFS_E_CORRUPT;
}

static bool threshold_is_sane(const struct lcpfs_engine_threshold *t)
{
	return isfinite(t->value) && isfinite(t->mean_outcome) && t->learning_rate > 0 && t->learning_rate <= 1 &&
	       t->uncertainty >= 0 && t->variance >= 0;
}

static bool are_sane(const double *numbers, size_t count)
{
	for (size_t i = 0; i < count; i++)
		if (!isfinite(numbers[i]) || numbers[i] < 0)
			return false;
	return true;
}

static bool engine_is_sane(const struct engine_core *core)
{
	return threshold_is_sane(&core->pressure) && threshold_is_sane(&core->cooldown_s) &&
	       threshold_is_sane(&core->growth) && threshold_is_sane(&core->shrink) && isfinite(core->trust_sum) &&
	       core->trust_weight >= 0 && isfinite(core->trust_weight) && core->copying_seen >= 0 &&
	       isfinite(core->copying_seen) && core->copying_expected >= 0 && isfinite(core->copying_expected) &&
	       are_sane(&core->written, 1) && isfinite(core->ledger.saved) &&
	       are_sane(&core->foresight.judged, 1) && are_sane(core->foresight.off, ENGINE_MEMORIES) &&
	       are_sane(core->foresight.usual, ENGINE_MEMORIES);
}

static bool partition_is_sane(const struct engine_partition *p)
{
	const struct engine_demand *d = &p->demand;
	const double numbers[] = {d->squares,         d->latency_us,     d->write_latency_us, d->samples,
				  d->latency_squares, p->latency_us,     p->latency_error,    p->write_share,
				  p->since_blocks,    p->proven_blocks,  p->trial.user,       p->trial.seconds,
				  p->trial.expected_copies, p->trial.saving_blocks_s, p->trial.return_blocks,
				  p->refused.work, p->hurt.work};
	if (!are_sane(numbers, ARRAY_LENGTH(numbers)) || !isfinite(p->trial.copied))
		return false;
	for (int i = 0; i < ENGINE_MEMORIES; i++) {
		const struct engine_rates *r = &d->memory[i];
		if (!are_sane((const double[]){r->seconds, r->ops, r->user}, 3))
			return false;
	}
	for (int i = 0; i < p->curve.count; i++)
		if (!isfinite(p->curve.points[i].spare) || !isfinite(p->curve.points[i].measured) ||
		    !(p->curve.points[i].error >= 0))
			return false;
	return p->write_share <= 1;
}

static bool outcome_is_sane(const struct lcpfs_engine_outcome *o)
{
	return isfinite(o->expected_gain) && isfinite(o->expected_error) && isfinite(o->epsilon_before) &&
	       isfinite(o->epsilon_after) && isfinite(o->standard_error) && o->standard_error >= 0;
}

static struct engine_barrier barrier_from(const struct engine_core *core, const struct engine_barrier *saved)
{
	return (struct engine_barrier){saved->size, core->work - saved->work, saved->times};
}

static void load_partition(struct engine_core *core, const struct engine_partition *saved)
{
	struct engine_partition *p = engine_core_find(core, saved->id);
	if (!p || !partition_is_sane(saved))
		return;
	p->curve = saved->curve;
	engine_foresight_replace(&core->foresight, &p->demand, true);
	p->demand = saved->demand;
	for (int i = 0; i < ENGINE_MEMORIES; i++)
		core->foresight.ops[i] += p->demand.memory[i].ops;
	engine_foresight_replace(&core->foresight, &p->demand, false);
	p->latency_us = saved->latency_us;
	p->latency_error = saved->latency_error;
	p->write_share = saved->write_share;
	p->latency_known = saved->latency_known;
	p->refused = barrier_from(core, &saved->refused);
	p->hurt = barrier_from(core, &saved->hurt);
	p->barrier_live = saved->barrier_live;
	p->proven_blocks = saved->proven_blocks;
	/* what else happened to its size since was the engine's doing, before a crash */
	p->base = MIN_OF(saved->base, p->max);
	/* the log has gone round under another size: its effect has to arrive anew */
	p->since_blocks = p->size == saved->size ? saved->since_blocks : 0;
	if (p->size == saved->size && saved->trial.blocks <= core->options.pool_blocks)
		p->trial = saved->trial;
	engine_core_refresh(core, p);
}

static bool before_is_sane(const struct engine_before *b)
{
	const double numbers[] = {b->frequency, b->latency_us,      b->latency_error, b->utilization,
				  b->freedom,   b->new_utilization, b->expected_ratio};
	return are_sane(numbers, ARRAY_LENGTH(numbers));
}

/* Nothing joins it any more. Where its receiver has another size now, it can be judged no more. */
static void load_pending(struct engine_core *core, const struct engine_pending *saved)
{
	const struct lcpfs_engine_outcome *o = &saved->outcome;
	struct engine_partition *to = engine_core_find(core, o->to_id), *from = engine_core_find(core, o->from_id);
	if (!to || !outcome_is_sane(o) || !(o->expected_gain > 0) || !before_is_sane(&saved->from) ||
	    !before_is_sane(&saved->to) || !are_sane(&saved->waited, 1))
		return;
	struct engine_pending *p = &core->pending[core->pending_count++];
	*p = *saved;
	p->outcome.moved_us = core->now_us - MIN_OF(core->now_us, o->taken_us);
	p->from.changed |= from && from->size != o->from_new_blocks;
	to->awaited = to->joined_all = true;
	to->awaited_work = core->work - saved->waited;
	if (from && from->trial.blocks == o->blocks && from->trial.to_id == to->id)
		from->trial.sequence = o->sequence;
	core->sequence = MAX_OF(core->sequence, o->sequence);
	if (!o->joined && to->size != o->to_new_blocks)
		engine_judge_cut_off(core, to->id);
	engine_core_refresh(core, to);
}

static void load_all_pending(struct engine_core *core, struct cursor *c, size_t length)
{
	uint64_t awaited = 0;
	if (c->at + 8 <= length)
		u64_field(c, &awaited);
	if (awaited > core->room - MIN_OF(core->room, core->pending_count))
		return; /* there has to be room for one more for each receiver */
	for (size_t at = c->at; awaited && at + PENDING_BYTES <= length; at += PENDING_BYTES, awaited--) {
		struct engine_pending saved;
		memset(&saved, 0, sizeof(saved));
		c->at = at;
		pending_fields(c, &saved);
		load_pending(core, &saved);
	}
}

int engine_state_load(struct engine_core *core, const void *bytes, size_t length)
{
	struct cursor c = {.input = bytes, .at = HEADER_BYTES};
	struct counts counts = {0};
	int error = check_header(bytes, &length);
	struct engine_core learned = *core;
	if (error)
		return error;
	c.at = HEADER_BYTES + ENGINE_BYTES - 16;
	u64_field(&c, &counts.partitions);
	u64_field(&c, &counts.outcomes);
	if (counts.outcomes > LCPFS_ENGINE_OUTCOMES_MAX || counts.partitions > length / PARTITION_BYTES ||
	    HEADER_BYTES + ENGINE_BYTES + counts.partitions * PARTITION_BYTES + counts.outcomes * OUTCOME_BYTES >
		    length)
		return -LCPFS_E_CORRUPT;
	c.at = HEADER_BYTES;
	engine_fields(&c, &learned, &counts);
	if (!engine_is_sane(&learned))
		return -LCPFS_E_CORRUPT;
	learned.id_last = MAX_OF(learned.id_last, core->id_last);
	*core = learned;
	for (size_t i = 0; i < counts.partitions; i++) {
		struct engine_partition saved;
		memset(&saved, 0, sizeof(saved));
		c.at = HEADER_BYTES + ENGINE_BYTES + i * PARTITION_BYTES;
		partition_fields(&c, &saved);
		load_partition(core, &saved);
	}
	core->outcome_count = 0;
	for (size_t i = 0; i < counts.outcomes; i++) {
		struct lcpfs_engine_outcome *o = &core->outcomes[core->outcome_count];
		c.at = HEADER_BYTES + ENGINE_BYTES + counts.partitions * PARTITION_BYTES + i * OUTCOME_BYTES;
		outcome_fields(&c, o);
		core->outcome_count += outcome_is_sane(o);
		core->sequence = MAX_OF(core->sequence, o->sequence); /* no two decisions share a number */
	}
	c.at = HEADER_BYTES + ENGINE_BYTES + counts.partitions * PARTITION_BYTES + counts.outcomes * OUTCOME_BYTES;
	load_all_pending(core, &c, length);
	return 0;
}
