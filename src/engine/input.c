/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the engine is told: partitions that come and go, their limits, sizes and counters. Hostile input (NaN,
 * infinity, counters or clocks that run backwards) is turned into "nothing was measured" here, so that no other
 * file has to defend itself.
 */
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "engine/core.h"
#include "engine/formula.h"

static int reserve_room(struct engine_core *core)
{
	size_t room = core->room ? core->room * 2 : 8;
	if (core->count < core->room)
		return 0;
	void *partitions = realloc(core->partitions, room * sizeof(*core->partitions));
	core->partitions = partitions ? partitions : core->partitions;
	/* one for each receiver, and as many that joined these */
	void *pending = realloc(core->pending, 2 * room * sizeof(*core->pending));
	core->pending = pending ? pending : core->pending;
	void *ranks = realloc(core->ranks, room * sizeof(*core->ranks));
	core->ranks = ranks ? ranks : core->ranks;
	if (!partitions || !pending || !ranks)
		return -LCPFS_E_NOMEM;
	core->room = room;
	return 0;
}

/* What all are promised together fits into the pool. `p` is the one that they are for; NULL: a new one. */
static int limits_check(const struct engine_core *core, const struct engine_partition *p, uint64_t min,
			uint64_t max)
{
	uint64_t sum = min;
	if (min > max || !max)
		return -LCPFS_E_INVALID;
	for (size_t i = 0; i < core->count; i++)
		if (core->partitions[i] != p && __builtin_add_overflow(sum, core->partitions[i]->min, &sum))
			return -LCPFS_E_NOSPC;
	return sum > core->options.pool_blocks ? -LCPFS_E_NOSPC : 0;
}

static int spec_check(const struct engine_core *core, const struct lcpfs_engine_spec *spec)
{
	if (spec->id && spec->id <= core->id_last)
		return -LCPFS_E_EXISTS;
	if (!spec->id && core->id_last == UINT32_MAX)
		return -LCPFS_E_RANGE;
	if (spec->size_blocks < spec->min_size_blocks || spec->size_blocks > spec->max_size_blocks)
		return -LCPFS_E_INVALID;
	int error = limits_check(core, NULL, spec->min_size_blocks, spec->max_size_blocks);
	return !error && spec->size_blocks > engine_core_free_blocks(core) ? -LCPFS_E_NOSPC : error;
}

void engine_input_name(struct engine_partition *p, const char *name)
{
	if (name && name[0])
		snprintf(p->name, sizeof(p->name), "%.*s", (int)sizeof(p->name) - 1, name);
	else
		snprintf(p->name, sizeof(p->name), "partition %u", p->id);
}

int engine_input_add(struct engine_core *core, const struct lcpfs_engine_spec *spec)
{
	int error = spec_check(core, spec);
	if (error || (error = reserve_room(core)))
		return error;
	struct engine_partition *p = calloc(1, sizeof(*p));
	if (!p)
		return -LCPFS_E_NOMEM;
	p->id = spec->id ? spec->id : core->id_last + 1;
	engine_input_name(p, spec->name);
	p->size = p->base = spec->size_blocks;
	p->min = spec->min_size_blocks;
	p->max = spec->max_size_blocks;
	p->window_wa = 1;
	p->changed_us = core->now_us;
	p->pool_work_seen = p->seen_work = core->work;
	core->id_last = p->id;
	core->partitions[core->count++] = p;
	core->used_blocks += p->size;
	engine_core_refresh(core, p);
	engine_ledger_fit(core);
	return 0;
}

int engine_input_remove(struct engine_core *core, uint32_t id)
{
	size_t i = engine_core_index(core, id);
	struct engine_partition *p = engine_core_find(core, id);
	if (!p)
		return -LCPFS_E_NOT_FOUND;
	engine_judge_cut_off(core, id);
	core->used_blocks -= p->size;
	engine_foresight_replace(&core->foresight, &p->demand, true);
	free(p);
	core->count--;
	memmove(core->partitions + i, core->partitions + i + 1, (core->count - i) * sizeof(core->partitions[0]));
	memmove(core->ranks + i, core->ranks + i + 1, (core->count - i) * sizeof(core->ranks[0]));
	return 0;
}

int engine_input_limits(struct engine_core *core, uint32_t id, uint64_t min, uint64_t max)
{
	struct engine_partition *p = engine_core_find(core, id);
	int error = p ? limits_check(core, p, min, max) : -LCPFS_E_NOT_FOUND;
	if (error)
		return error;
	p->min = min;
	p->max = max;
	p->base = MIN_OF(p->base, max);
	engine_core_refresh(core, p);
	return 0;
}

int engine_input_resized(struct engine_core *core, uint32_t id, uint64_t size, enum lcpfs_engine_cause cause)
{
	struct engine_partition *p = engine_core_find(core, id);
	if (!p)
		return -LCPFS_E_NOT_FOUND;
	if (size > p->size && size - p->size > engine_core_free_blocks(core))
		return -LCPFS_E_NOSPC;
	if (size == p->size)
		return 0;
	engine_judge_cut_off(core, id);
	if (cause == LCPFS_ENGINE_EMERGENCY && size > p->size) {
		core->emergency_blocks = engine_core_decayed(core, core->emergency_blocks, core->emergency_work);
		core->emergency_blocks += (double)(size - p->size);
		core->emergency_work = core->work;
	}
	engine_core_set_size(core, p, size);
	engine_ledger_resized(core, p, size, cause);
	engine_core_refresh(core, p);
	return 0;
}

static double latency_since(double now, double before)
{
	double sum = now - before;
	return sum >= 0 && sum < ENGINE_LATENCY_SUM_MAX ? sum : 0; /* false for NaN */
}

static bool went_back(const struct lcpfs_engine_counters *now, const struct lcpfs_engine_counters *before)
{
	return now->read_ops < before->read_ops || now->write_ops < before->write_ops ||
	       now->user_blocks < before->user_blocks || now->copied_blocks < before->copied_blocks ||
	       now->device_blocks < before->device_blocks || now->read_latency_us < before->read_latency_us ||
	       now->write_latency_us < before->write_latency_us;
}

static struct engine_batch batch_of(const struct lcpfs_engine_counters *now,
				    const struct lcpfs_engine_counters *before)
{
	double reads = (double)(now->read_ops - before->read_ops);
	double writes = latency_since(now->write_latency_us, before->write_latency_us);
	return (struct engine_batch){
		.ops = reads + (double)(now->write_ops - before->write_ops),
		.latency_us = latency_since(now->read_latency_us, before->read_latency_us) + writes,
		.write_latency_us = writes,
		.user = (double)(now->user_blocks - before->user_blocks),
		.copied = (double)(now->copied_blocks - before->copied_blocks),
		.device = (double)(now->device_blocks - before->device_blocks),
		.work = (double)(now->device_blocks - before->device_blocks) + reads,
	};
}

static void add_demand(struct engine_core *core, struct engine_partition *p, const struct engine_batch *batch)
{
	double seconds = (double)(core->now_us - p->last_us) / 1e6;
	double age = (core->work - p->pool_work_seen) / (double)core->options.pool_blocks;
	engine_foresight_judge(&core->foresight, &p->demand);
	engine_foresight_add(&core->foresight, batch->ops, batch->work / (double)core->options.pool_blocks);
	engine_demand_add(&p->demand, batch, seconds, age);
	engine_foresight_replace(&core->foresight, &p->demand, false);
	p->pool_work_seen = core->work;
	if (!(seconds > 0))
		return;
	p->window_frequency = batch->ops / seconds;
	if (batch->ops > 0)
		p->window_latency_us = batch->latency_us / batch->ops;
	if (batch->user > 0)
		p->window_wa = batch->device / batch->user;
}

static void add_measurement(struct engine_core *core, struct engine_partition *p, const struct engine_batch *batch)
{
	p->since_blocks += batch->device;
	if (!engine_core_settled(core, p))
		return;
	engine_window_add(&p->window, batch, (double)p->size);
	if (!engine_window_ready(&p->window))
		return;
	engine_trial_passed(p);
	struct engine_mean latency = engine_window_latency(&p->window);
	if (!(latency.value > 0) || !isfinite(latency.error))
		return;
	struct engine_batch sum = engine_window_sum(&p->window);
	p->latency_us = latency.value;
	p->latency_error = latency.error / latency.value;
	p->write_share = sum.write_latency_us / sum.latency_us;
	p->latency_known = true;
}

int engine_input_update(struct engine_core *core, uint32_t id, const struct lcpfs_engine_counters *counters)
{
	struct engine_partition *p = engine_core_find(core, id);
	struct lcpfs_engine_counters now = *counters;
	struct engine_batch batch;
	if (!p)
		return -LCPFS_E_NOT_FOUND;
	now.read_latency_us = engine_finite_or(now.read_latency_us, p->last.read_latency_us);
	now.write_latency_us = engine_finite_or(now.write_latency_us, p->last.write_latency_us);
	if (now.live_blocks < p->barrier_live) {
		p->refused = p->hurt = (struct engine_barrier){0};
		p->barrier_live = 0;
	}
	p->live = MIN_OF(now.live_blocks, core->options.pool_blocks);
	p->least = MIN_OF(now.least_blocks, core->options.pool_blocks);
	if (p->seen && !went_back(&now, &p->last)) {
		batch = batch_of(&now, &p->last);
		core->work += batch.work;
		core->written += batch.device;
		add_demand(core, p, &batch);
		engine_ledger_add(core, p, &batch);
		engine_trial_add(core, p, &batch, (double)(core->now_us - p->last_us) / 1e6);
		add_measurement(core, p, &batch);
	}
	p->seen = true;
	p->last = now;
	p->last_us = core->now_us;
	engine_ledger_outgrown(core, p);
	engine_core_refresh(core, p);
	engine_judge_trial(core, p);
	return 0;
}
