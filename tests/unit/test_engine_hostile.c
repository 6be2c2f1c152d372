/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What holds whatever comes in: sizes are conserved and within limits, numbers finite, ids never reused, questions
 * change nothing, the same calls give the same answers.
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "engine/core.h"
#include "engine_world.h"

static void ids_are_never_reused(void **state)
{
	struct world w;
	struct lcpfs_engine_spec spec = {.size_blocks = STEP, .max_size_blocks = 10 * STEP};
	uint32_t id = 0, last = 0;
	(void)state;
	world_init(&w, 100 * STEP, LCPFS_ENGINE_ON, 1);
	for (int i = 0; i < 50; i++) {
		assert_int_equal(lcpfs_engine_add(w.engine, &spec, &id), 0);
		assert_true(id > last);
		last = id;
		assert_int_equal(lcpfs_engine_remove(w.engine, id), 0);
	}
	spec.id = last;
	assert_int_equal(lcpfs_engine_add(w.engine, &spec, &id), -LCPFS_E_EXISTS);
	spec.id = last + 7;
	assert_int_equal(lcpfs_engine_add(w.engine, &spec, &id), 0);
	assert_int_equal(id, last + 7);
	world_done(&w);
}

static void impossible_partitions_are_refused(void **state)
{
	struct world w;
	struct lcpfs_engine_spec s = {.size_blocks = 10, .min_size_blocks = 20, .max_size_blocks = 30};
	(void)state;
	world_init(&w, 1000, LCPFS_ENGINE_ON, 1);
	assert_int_equal(lcpfs_engine_add(w.engine, &s, NULL), -LCPFS_E_INVALID);
	s = (struct lcpfs_engine_spec){.size_blocks = 10, .min_size_blocks = 20, .max_size_blocks = 5};
	assert_int_equal(lcpfs_engine_add(w.engine, &s, NULL), -LCPFS_E_INVALID);
	s = (struct lcpfs_engine_spec){.size_blocks = 600, .min_size_blocks = 600, .max_size_blocks = 5000};
	assert_int_equal(lcpfs_engine_add(w.engine, &s, NULL), 0);
	assert_int_equal(lcpfs_engine_add(w.engine, &s, NULL), -LCPFS_E_NOSPC); /* Σ min */
	s.min_size_blocks = 1;
	assert_int_equal(lcpfs_engine_add(w.engine, &s, NULL), -LCPFS_E_NOSPC); /* Σ size */
	assert_int_equal(lcpfs_engine_remove(w.engine, 99), -LCPFS_E_NOT_FOUND);
	assert_int_equal(lcpfs_engine_resized(w.engine, 1, 0, 1001, LCPFS_ENGINE_BY_HAND), -LCPFS_E_NOSPC);
	/* a promise that is still to be kept leaves no room for another one, however much is free */
	assert_int_equal(lcpfs_engine_set_limits(w.engine, 1, 900, 5000), 0);
	s = (struct lcpfs_engine_spec){.size_blocks = 200, .min_size_blocks = 200, .max_size_blocks = 5000};
	assert_int_equal(lcpfs_engine_add(w.engine, &s, NULL), -LCPFS_E_NOSPC);
	s.min_size_blocks = 100;
	assert_int_equal(lcpfs_engine_add(w.engine, &s, NULL), 0);
	world_done(&w);
}

static void explaining_changes_nothing(void **state)
{
	struct world a, b;
	struct lcpfs_engine_decision d;
	(void)state;
	world_hot_and_cold(&a, LCPFS_ENGINE_ON, 17);
	world_hot_and_cold(&b, LCPFS_ENGINE_ON, 17);
	for (int t = 0; t < 100; t++) {
		world_run(&a, 1);
		world_run(&b, 1);
		lcpfs_engine_explain(b.engine, b.id[t % 2], &d);
	}
	assert_true(a.moves > 0);
	assert_memory_equal(a.size, b.size, sizeof(a.size));
	world_done(&a);
	world_done(&b);
}

static void same_inputs_give_the_same_decisions(void **state)
{
	struct world a, b;
	(void)state;
	world_hot_and_cold(&a, LCPFS_ENGINE_ON, 18);
	world_hot_and_cold(&b, LCPFS_ENGINE_ON, 18);
	world_run(&a, 200);
	world_run(&b, 200);
	assert_true(a.recorded > 0 && a.recorded == b.recorded);
	assert_memory_equal(a.record, b.record, a.recorded * sizeof(a.record[0]));
	world_done(&a);
	world_done(&b);
}

static double hostile(struct world *w)
{
	static const double values[] = {0, -1, 1e-300, 1, 1e300, 1e18, INFINITY, -INFINITY, NAN};
	double pick = uniform01(w);
	return pick < 0.5 ? values[(size_t)(pick * 2 * 9)] : pick * 1e6;
}

static uint64_t hostile_u64(struct world *w)
{
	double pick = uniform01(w);
	if (pick < 0.1)
		return UINT64_MAX - (uint64_t)(pick * 100);
	return pick < 0.2 ? 0 : (uint64_t)(pick * 1e5);
}

static void check_finite(struct world *w)
{
	struct lcpfs_engine_partition list[WORLD_MAX];
	struct lcpfs_engine_statistics s;
	struct lcpfs_engine_decision d;
	size_t n = world_list(w, list, WORLD_MAX);
	for (size_t i = 0; i < n; i++) {
		assert_true(isfinite(list[i].access_frequency) && isfinite(list[i].avg_latency_us));
		assert_true(isfinite(list[i].epsilon));
		assert_true(list[i].utilization >= 0 && list[i].utilization <= 1);
		assert_int_equal(lcpfs_engine_explain(w->engine, list[i].id, &d), 0);
		assert_true(isfinite(d.expected_gain) && isfinite(d.expected_saving_blocks_s));
	}
	lcpfs_engine_get_statistics(w->engine, &s);
	assert_true(isfinite(s.epsilon) && isfinite(s.pressure.value) && isfinite(s.growth_step.value));
}

static void check_side_is_finite(const struct lcpfs_engine_side *s)
{
	const double numbers[] = {s->access_frequency, s->write_frequency, s->frequency_error,
				  s->avg_latency_us,   s->latency_error,   s->write_share,
				  s->utilization,      s->epsilon,         s->cleaning_cost,
				  s->cleaning_error,   s->uniform_copies,  s->curve_power,
				  s->power_error,      s->since_change_s,  s->since_change_blocks};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (!isfinite(numbers[i]))
			fail_msg("number %zu of a side is %g", i, numbers[i]);
	assert_true(s->pressure >= 0); /* infinite at its max, by definition */
}

static void check_decision_is_finite(const struct lcpfs_engine_decision *d)
{
	const double numbers[] = {
		d->pressure_threshold,
		d->growth_step,
		d->shrink_step,
		d->cooldown_s,
		d->trust,
		d->expected_gain,
		d->expected_error,
		d->measurement_error,
		d->cost_blocks,
		d->copying_seen,
		d->copying_expected,
		d->balance_blocks,
		d->horizon_s,
		d->gains_most,
		d->loses_least,
		d->freedom,
		d->expected_saving_blocks_s,
		d->cost_limit_blocks,
		d->copying_budget,
		d->demand_turnovers,
	};
	for (size_t i = 0; i < sizeof(numbers) / sizeof(numbers[0]); i++)
		if (!isfinite(numbers[i]))
			fail_msg("number %zu of a decision is %g: %s", i, numbers[i], d->sentence);
	check_side_is_finite(&d->from);
	check_side_is_finite(&d->to);
	assert_null(strstr(d->sentence, "nan"));
	assert_null(strstr(d->ranking, "nan"));
}

/* An engine under fire, and what the test knows of it by itself. */
struct siege {
	struct world w;
	uint32_t id_last;
	uint64_t decisions_hash;
};

static void hostile_add(struct siege *s)
{
	struct world *w = &s->w;
	struct lcpfs_engine_spec spec = {.size_blocks = hostile_u64(w) % 5000,
					 .min_size_blocks = hostile_u64(w) % 2000,
					 .max_size_blocks = hostile_u64(w)};
	uint32_t id = 0;
	if (lcpfs_engine_add(w->engine, &spec, &id))
		return;
	assert_true(id > s->id_last);
	s->id_last = id;
}

static void hostile_act(struct siege *s)
{
	struct world *w = &s->w;
	struct lcpfs_engine_counters c = {
		hostile_u64(w), hostile_u64(w), hostile(w),     hostile(w),
		hostile_u64(w), hostile_u64(w), hostile_u64(w), hostile_u64(w),
	};
	uint32_t id = 1 + (uint32_t)(uniform01(w) * 12);
	double pick = uniform01(w);
	int refused = 0;
	if (pick < 0.05)
		hostile_add(s);
	else if (pick < 0.07)
		refused = lcpfs_engine_remove(w->engine, id);
	else if (pick < 0.12)
		refused = lcpfs_engine_resized(w->engine, id, hostile_u64(w), hostile_u64(w), pick < 0.1);
	else if (pick < 0.15)
		refused = lcpfs_engine_set_limits(w->engine, id, hostile_u64(w), hostile_u64(w));
	else
		refused = lcpfs_engine_update(w->engine, id, hostile_u64(w), &c);
	assert_true(refused <= 0 && refused > -LCPFS_E_END);
}

/* What it wants keeps to the limits: a receiver's maximum, a giver's minimum and live data, what is free. */
static void check_limits(struct world *w, const struct lcpfs_engine_decision *d)
{
	struct lcpfs_engine_partition p;
	assert_true(d->blocks > 0 && d->from_id != d->to_id);
	if (!lcpfs_engine_get_partition(w->engine, d->from_id, &p))
		assert_true(p.size_blocks >= d->blocks + (d->reason == LCPFS_ENGINE_UNDO
								  ? p.min_size_blocks
								  : p.min_size_blocks > p.live_blocks
								    ? p.min_size_blocks
								    : p.live_blocks));
	else
		assert_true(d->from_id == LCPFS_ENGINE_FREE && d->blocks <= d->free_blocks);
	if (!lcpfs_engine_get_partition(w->engine, d->to_id, &p))
		assert_true(d->blocks <= p.max_size_blocks && p.size_blocks <= p.max_size_blocks - d->blocks);
	else
		assert_int_equal(d->to_id, LCPFS_ENGINE_FREE);
}

static void hostile_decide(struct siege *s, bool fire)
{
	struct world *w = &s->w;
	struct lcpfs_engine_decision d;
	struct lcpfs_engine_moved moved = {hostile_u64(w), hostile_u64(w), hostile_u64(w)};
	assert_int_equal(lcpfs_engine_decide(w->engine, fire ? hostile_u64(w) : w->now_us, &d), 0);
	check_decision_is_finite(&d);
	for (const char *c = d.sentence; *c; c++)
		s->decisions_hash = (s->decisions_hash ^ (uint8_t)*c) * 0x100000001b3u;
	if (d.action != LCPFS_ENGINE_MOVE)
		return;
	check_limits(w, &d);
	moved.blocks %= d.blocks + 2; /* one too many is refused */
	if (!fire)
		moved = (struct lcpfs_engine_moved){.blocks = d.blocks, .copied_blocks = UINT64_MAX};
	if (!fire || uniform01(w) < 0.9)
		assert_int_equal(lcpfs_engine_report(w->engine, hostile_u64(w), d.sequence, &moved),
				 moved.blocks > d.blocks ? -LCPFS_E_INVALID : 0);
}

/* Two partitions at work, and now and then, or all the time, something that makes no sense. */
static void besiege_once(struct siege *s, double fire)
{
	struct world *w = &s->w;
	w->now_us += 1000000;
	for (size_t i = 0; i < w->count && fire < 1; i++) {
		world_live(w, i, 1);
		(void)!lcpfs_engine_update(w->engine, w->id[i], w->now_us, &w->counters[i]);
	}
	if (uniform01(w) < fire)
		hostile_act(s);
	hostile_decide(s, uniform01(w) < fire);
}

static void check_sizes(struct world *w)
{
	struct lcpfs_engine_statistics statistics;
	struct lcpfs_engine_partition list[64];
	size_t n = world_list(w, list, 64);
	uint64_t sum = 0;
	for (size_t i = 0; i < n; i++)
		sum += list[i].size_blocks;
	lcpfs_engine_get_statistics(w->engine, &statistics);
	assert_int_equal(sum + statistics.free_blocks, statistics.pool_blocks);
	if (n <= WORLD_MAX)
		check_finite(w);
}

static uint64_t besiege(uint64_t seed, unsigned *moves)
{
	struct siege s = {.id_last = 2, .decisions_hash = 0xcbf29ce484222325u};
	struct lcpfs_engine_statistics statistics;
	double fire = seed % 3 ? 0.003 : 1;
	world_hot_and_cold(&s.w, LCPFS_ENGINE_ON, seed);
	/* limits within which it would not stay by itself */
	assert_int_equal(lcpfs_engine_set_limits(s.w.engine, 1, STEP, seed % 2 ? 1u << 30 : 11000), 0);
	assert_int_equal(lcpfs_engine_set_limits(s.w.engine, 2, seed % 2 ? 31000 : STEP, 1u << 30), 0);
	for (int i = 0; i < 1000; i++) {
		besiege_once(&s, fire);
		if (i % 20 == 0)
			check_sizes(&s.w);
	}
	check_sizes(&s.w);
	lcpfs_engine_get_statistics(s.w.engine, &statistics);
	*moves += (unsigned)statistics.moves;
	world_done(&s.w);
	return s.decisions_hash;
}

static void whatever_comes_in_the_promises_hold(void **state)
{
	unsigned moves = 0;
	(void)state;
	for (uint64_t seed = 1; seed <= 30; seed++)
		assert_int_equal(besiege(seed, &moves), besiege(seed, &moves));
	print_message("# %u moves\n", moves);
	assert_true(moves > 100);
}

/* A clock that jumps back stands still: nothing is decided by it, and no rate is measured over no time. */
static void time_never_runs_backwards(void **state)
{
	struct world a, b;
	struct lcpfs_engine_decision d;
	struct lcpfs_engine_partition p;
	(void)state;
	world_hot_and_cold(&a, LCPFS_ENGINE_ON, 23);
	world_hot_and_cold(&b, LCPFS_ENGINE_ON, 23);
	for (int t = 0; t < 100; t++) {
		world_run(&a, 1);
		world_run(&b, 1);
		assert_int_equal(lcpfs_engine_update(b.engine, 1, b.now_us / 2, &b.counters[0]), 0);
		assert_int_equal(lcpfs_engine_explain(b.engine, 1, &d), 0);
		assert_true(d.now_us == b.now_us);
		assert_int_equal(lcpfs_engine_get_partition(b.engine, 1, &p), 0);
		assert_true(t == 0 || fabs(p.access_frequency - 8000) < 1);
	}
	assert_true(a.moves > 2);
	assert_memory_equal(a.size, b.size, sizeof(a.size));
	world_done(&a);
	world_done(&b);
}

static uint64_t fnv1a(const uint8_t *bytes, size_t length)
{
	uint64_t hash = 0xcbf29ce484222325u;
	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3u;
	return hash;
}

/* Nonsense under a valid checksum: refused or left out, never a number that is none. */
static void forged_state_does_no_harm(void **state)
{
	static uint8_t bytes[65536], copy[65536];
	struct world w;
	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 22);
	world_run(&w, 100);
	size_t length = lcpfs_engine_save(w.engine, bytes, sizeof(bytes));
	for (int i = 0; i < 2000; i++) {
		memcpy(copy, bytes, length);
		for (int k = 0; k < 8; k++) {
			size_t at = 24 + (size_t)(uniform01(&w) * (double)(length - 24)) / 8 * 8;
			memset(copy + at, uniform01(&w) < 0.5 ? 0xff : (int)(uniform01(&w) * 256), 8);
		}
		uint64_t hash = fnv1a(copy + 24, length - 24);
		for (int k = 0; k < 8; k++)
			copy[16 + k] = (uint8_t)(hash >> 8 * k);
		(void)!lcpfs_engine_load(w.engine, copy, length);
		world_run(&w, 2);
		check_finite(&w);
		check_conservation(&w);
	}
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(ids_are_never_reused),
		cmocka_unit_test(impossible_partitions_are_refused),
		cmocka_unit_test(explaining_changes_nothing),
		cmocka_unit_test(same_inputs_give_the_same_decisions),
		cmocka_unit_test(forged_state_does_no_harm),
		cmocka_unit_test(whatever_comes_in_the_promises_hold),
		cmocka_unit_test(time_never_runs_backwards),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
