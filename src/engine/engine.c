/* SPDX-License-Identifier: Apache-2.0 */
/* The public API: a handle with a mutex around the pure core. Nothing is decided in this file. */
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#include "engine/core.h"
#include "engine/formula.h"

struct lcpfs_engine {
	pthread_mutex_t lock;
	struct engine_core core;
};

static struct engine_core *lock(struct lcpfs_engine *engine)
{
	pthread_mutex_lock(&engine->lock);
	return &engine->core;
}

static void unlock(struct engine_core *const *core)
{
	pthread_mutex_unlock((pthread_mutex_t *)((char *)*core - offsetof(struct lcpfs_engine, core)));
}

/* To the end of the function. */
#define LOCKED(core, engine) __attribute__((cleanup(unlock))) struct engine_core *core = lock(engine)

int lcpfs_engine_create(const struct lcpfs_engine_options *options, struct lcpfs_engine **engine)
{
	if (!engine)
		return -LCPFS_E_INVALID;
	*engine = NULL;
	if (!options)
		return -LCPFS_E_INVALID;
	struct lcpfs_engine *e = calloc(1, sizeof(*e));
	if (!e)
		return -LCPFS_E_NOMEM;
	int error = engine_core_init(&e->core, options);
	if (error || pthread_mutex_init(&e->lock, NULL)) {
		engine_core_done(&e->core);
		free(e);
		return error ? error : -LCPFS_E_SYSTEM;
	}
	*engine = e;
	return 0;
}

void lcpfs_engine_destroy(struct lcpfs_engine *engine)
{
	if (!engine)
		return;
	engine_core_done(&engine->core);
	pthread_mutex_destroy(&engine->lock);
	free(engine);
}

int lcpfs_engine_set_mode(struct lcpfs_engine *engine, enum lcpfs_engine_mode mode)
{
	if ((unsigned)mode > LCPFS_ENGINE_ON)
		return -LCPFS_E_INVALID;
	LOCKED(core, engine);
	core->undo_wanted &= mode == core->options.mode;
	core->options.mode = mode;
	return 0;
}

enum lcpfs_engine_mode lcpfs_engine_get_mode(struct lcpfs_engine *engine)
{
	LOCKED(core, engine);
	return core->options.mode;
}

int lcpfs_engine_set_pool_blocks(struct lcpfs_engine *engine, uint64_t pool_blocks)
{
	LOCKED(core, engine);
	if (pool_blocks < core->used_blocks || pool_blocks < core->options.step_blocks)
		return -LCPFS_E_NOSPC;
	core->options.pool_blocks = pool_blocks;
	engine_ledger_fit(core);
	return 0;
}

int lcpfs_engine_add(struct lcpfs_engine *engine, const struct lcpfs_engine_spec *spec, uint32_t *id)
{
	if (!spec)
		return -LCPFS_E_INVALID;
	LOCKED(core, engine);
	int error = engine_input_add(core, spec);
	if (!error && id)
		*id = core->id_last;
	return error;
}

int lcpfs_engine_remove(struct lcpfs_engine *engine, uint32_t id)
{
	LOCKED(core, engine);
	return engine_input_remove(core, id);
}

int lcpfs_engine_set_limits(struct lcpfs_engine *engine, uint32_t id, uint64_t min_size_blocks,
			    uint64_t max_size_blocks)
{
	LOCKED(core, engine);
	return engine_input_limits(core, id, min_size_blocks, max_size_blocks);
}

int lcpfs_engine_rename(struct lcpfs_engine *engine, uint32_t id, const char *name)
{
	LOCKED(core, engine);
	struct engine_partition *p = engine_core_find(core, id);
	if (p)
		engine_input_name(p, name);
	return p ? 0 : -LCPFS_E_NOT_FOUND;
}

int lcpfs_engine_update(struct lcpfs_engine *engine, uint32_t id, uint64_t now_us,
			const struct lcpfs_engine_counters *counters)
{
	if (!counters)
		return -LCPFS_E_INVALID;
	LOCKED(core, engine);
	engine_core_time(core, now_us);
	return engine_input_update(core, id, counters);
}

int lcpfs_engine_resized(struct lcpfs_engine *engine, uint32_t id, uint64_t now_us, uint64_t size_blocks,
			 enum lcpfs_engine_cause cause)
{
	LOCKED(core, engine);
	engine_core_time(core, now_us);
	return engine_input_resized(core, id, size_blocks, cause);
}

int lcpfs_engine_decide(struct lcpfs_engine *engine, uint64_t now_us, struct lcpfs_engine_decision *decision)
{
	if (!decision)
		return -LCPFS_E_INVALID;
	LOCKED(core, engine);
	engine_core_time(core, now_us);
	engine_decide(core, decision);
	return 0;
}

int lcpfs_engine_explain(struct lcpfs_engine *engine, uint32_t id, struct lcpfs_engine_decision *decision)
{
	if (!decision)
		return -LCPFS_E_INVALID;
	LOCKED(core, engine);
	if (id && !engine_core_find(core, id))
		return -LCPFS_E_NOT_FOUND;
	engine_decide_explain(core, id, decision);
	return 0;
}

int lcpfs_engine_report(struct lcpfs_engine *engine, uint64_t now_us, uint64_t sequence,
			const struct lcpfs_engine_moved *moved)
{
	if (!moved)
		return -LCPFS_E_INVALID;
	LOCKED(core, engine);
	engine_core_time(core, now_us);
	return engine_judge_report(core, sequence, moved);
}

int lcpfs_engine_step(struct lcpfs_engine *engine, uint64_t now_us, lcpfs_engine_actuator *actuator, void *context,
		      struct lcpfs_engine_decision *decision)
{
	struct lcpfs_engine_decision d;
	struct lcpfs_engine_moved moved = {.copied_blocks = UINT64_MAX};
	int error = actuator ? lcpfs_engine_decide(engine, now_us, &d) : -LCPFS_E_INVALID;
	if (error)
		return error;
	if (decision)
		*decision = d;
	if (d.action != LCPFS_ENGINE_MOVE)
		return 0;
	int refused = actuator(context, &d, &moved);
	error = lcpfs_engine_report(engine, now_us, d.sequence, &moved);
	return refused ? refused : error;
}

int lcpfs_engine_call_back(struct lcpfs_engine *engine, uint64_t now_us, uint64_t blocks, uint32_t but_not,
			   struct lcpfs_engine_decision *decision)
{
	if (!decision)
		return -LCPFS_E_INVALID;
	LOCKED(core, engine);
	engine_core_time(core, now_us);
	engine_decide_call_back(core, blocks, but_not, decision);
	return 0;
}

/* ---- questions ---- */

static double epsilon_of(const struct engine_partition *p)
{
	return lcpfs_engine_epsilon(p->window_latency_us, p->side.utilization, p->window_frequency);
}

static double total_epsilon(const struct engine_core *core)
{
	double sum = 0;
	for (size_t i = 0; i < core->count; i++)
		sum += epsilon_of(core->partitions[i]);
	return engine_finite_or(sum, 0);
}

int lcpfs_engine_get_partition(struct lcpfs_engine *engine, uint32_t id, struct lcpfs_engine_partition *partition)
{
	if (!partition)
		return -LCPFS_E_INVALID;
	LOCKED(core, engine);
	const struct engine_partition *p = engine_core_find(core, id);
	if (!p)
		return -LCPFS_E_NOT_FOUND;
	*partition = (struct lcpfs_engine_partition){
		.id = p->id,
		.size_blocks = p->size,
		.min_size_blocks = p->min,
		.max_size_blocks = p->max,
		.live_blocks = p->live,
		.access_frequency = p->window_frequency,
		.avg_latency_us = p->window_latency_us,
		.utilization = p->side.utilization,
		.pressure = lcpfs_engine_pressure(p->side.utilization, p->window_frequency, p->size, p->max),
		.epsilon = epsilon_of(p),
		.write_amplification = p->window_wa,
		.moving = core->carrying && (core->carried.from_id == p->id || core->carried.to_id == p->id),
	};
	memcpy(partition->name, p->name, sizeof(partition->name));
	return 0;
}

int lcpfs_engine_get_statistics(struct lcpfs_engine *engine, struct lcpfs_engine_statistics *statistics)
{
	if (!statistics)
		return -LCPFS_E_INVALID;
	LOCKED(core, engine);
	*statistics = (struct lcpfs_engine_statistics){
		.pool_blocks = core->options.pool_blocks,
		.free_blocks = engine_core_free_blocks(core),
		.step_blocks = core->options.step_blocks,
		.partitions = (uint32_t)core->count,
		.mode = core->options.mode,
		.epsilon = total_epsilon(core),
		.moving = core->carrying,
		.pressure = core->pressure,
		.cooldown_s = core->cooldown_s,
		.growth_step = core->growth,
		.shrink_step = core->shrink,
		.pressure_confidence = lcpfs_engine_threshold_confidence(&core->pressure),
		.cooldown_confidence = lcpfs_engine_threshold_confidence(&core->cooldown_s),
		.growth_confidence = lcpfs_engine_threshold_confidence(&core->growth),
		.shrink_confidence = lcpfs_engine_threshold_confidence(&core->shrink),
		.moves = core->moves,
		.improved = core->improved,
		.hurt = core->hurt,
		.inconclusive = core->inconclusive,
		.undone = core->undone,
		.written_blocks = core->written,
		.saved_blocks = core->ledger.saved,
	};
	return 0;
}

size_t lcpfs_engine_get_outcomes(struct lcpfs_engine *engine, struct lcpfs_engine_outcome *list, size_t room)
{
	LOCKED(core, engine);
	size_t count = MIN_OF(core->outcome_count, LCPFS_ENGINE_OUTCOMES_MAX);
	size_t first = core->outcome_count - count;
	for (size_t i = 0; list && i < MIN_OF(count, room); i++)
		list[i] = core->outcomes[(first + i) % LCPFS_ENGINE_OUTCOMES_MAX];
	return count;
}

size_t lcpfs_engine_save(struct lcpfs_engine *engine, void *bytes, size_t room)
{
	LOCKED(core, engine);
	return engine_state_save(core, bytes, room);
}

int lcpfs_engine_load(struct lcpfs_engine *engine, const void *bytes, size_t length)
{
	if (!bytes)
		return -LCPFS_E_INVALID;
	LOCKED(core, engine);
	return engine_state_load(core, bytes, length);
}
