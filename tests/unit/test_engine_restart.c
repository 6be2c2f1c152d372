/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine has learned, saved and loaded again: it goes on as if it had not been stopped. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "engine_world.h"

static void what_was_learned_survives_a_restart(void **state)
{
	static uint8_t bytes[65536], again[65536];
	struct world a, b;
	struct lcpfs_engine_statistics sa, sb;
	struct lcpfs_engine_outcome oa[100], ob[100];
	struct lcpfs_engine_decision d, da;
	(void)state;
	world_hot_and_cold(&a, LCPFS_ENGINE_ON, 19);
	a.load[1].copies = 0; /* what it gives is a trial */
	world_run(&a, 200);
	size_t length = lcpfs_engine_save(a.engine, bytes, sizeof(bytes));
	assert_true(length <= sizeof(bytes));
	world_hot_and_cold(&b, LCPFS_ENGINE_ON, 19);
	lcpfs_engine_resized(b.engine, 2, 0, a.size[1], LCPFS_ENGINE_BY_HAND);
	lcpfs_engine_resized(b.engine, 1, 0, a.size[0], LCPFS_ENGINE_BY_HAND);
	assert_int_equal(lcpfs_engine_load(b.engine, bytes, length), 0);
	/* what it decided before is not what it says now */
	assert_int_equal(lcpfs_engine_explain(b.engine, 0, &d), 0);
	assert_true(strlen(d.sentence) > 20 && d.reason != LCPFS_ENGINE_MODE_OFF);
	assert_int_equal(lcpfs_engine_explain(a.engine, 1, &da), 0);
	assert_int_equal(lcpfs_engine_explain(b.engine, 1, &d), 0);
	assert_true(da.trust > 0 && d.trust == da.trust);
	lcpfs_engine_get_statistics(a.engine, &sa);
	lcpfs_engine_get_statistics(b.engine, &sb);
	assert_memory_equal(&sa.pressure, &sb.pressure, sizeof(sa.pressure));
	assert_memory_equal(&sa.cooldown_s, &sb.cooldown_s, sizeof(sa.cooldown_s));
	assert_memory_equal(&sa.growth_step, &sb.growth_step, sizeof(sa.growth_step));
	assert_memory_equal(&sa.shrink_step, &sb.shrink_step, sizeof(sa.shrink_step));
	assert_int_equal(sa.improved, sb.improved);
	size_t n = lcpfs_engine_get_outcomes(a.engine, oa, 100);
	assert_int_equal(lcpfs_engine_get_outcomes(b.engine, ob, 100), n);
	assert_true(n > 0);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(oa[i].sequence, ob[i].sequence);
		assert_true(oa[i].epsilon_after == ob[i].epsilon_after);
		assert_int_equal(oa[i].verdict, ob[i].verdict);
		assert_int_equal(oa[i].taken_us, ob[i].taken_us);
	}
	assert_int_equal(lcpfs_engine_save(b.engine, again, sizeof(again)), length);
	assert_memory_equal(again, bytes, length);
	world_done(&a);
	world_done(&b);
}

static void a_restart_midway_ends_where_an_uninterrupted_run_ends(void **state)
{
	static uint8_t bytes[65536];
	struct world a, c;
	(void)state;
	world_hot_and_cold(&a, LCPFS_ENGINE_ON, 20);
	world_run(&a, 30);
	size_t length = lcpfs_engine_save(a.engine, bytes, sizeof(bytes));
	struct world b = a;
	world_hot_and_cold(&c, LCPFS_ENGINE_ON, 20); /* a fresh engine with the pool's sizes and counters */
	b.engine = c.engine;
	lcpfs_engine_resized(b.engine, 2, 0, a.size[1], LCPFS_ENGINE_BY_HAND);
	lcpfs_engine_resized(b.engine, 1, 0, a.size[0], LCPFS_ENGINE_BY_HAND);
	assert_int_equal(lcpfs_engine_load(b.engine, bytes, length), 0);
	world_run(&a, 170);
	world_run(&b, 170);
	assert_true(fabs((double)a.size[0] - (double)b.size[0]) <= 0.05 * (double)a.size[0]);
	world_done(&a);
	world_done(&b);
}

/* What was being measured is not measured anew, and is known as soon as the counters are. */
static void a_restart_goes_on_measuring(void **state)
{
	static uint8_t bytes[65536];
	struct lcpfs_engine_decision da, db;
	struct world a, b;
	(void)state;
	world_hot_and_cold(&a, LCPFS_ENGINE_OBSERVE, 20);
	world_run(&a, 100);
	world_hot_and_cold(&b, LCPFS_ENGINE_OBSERVE, 20);
	size_t length = lcpfs_engine_save(a.engine, bytes, sizeof(bytes));
	assert_int_equal(lcpfs_engine_load(b.engine, bytes, length), 0);
	memcpy(b.counters, a.counters, sizeof(b.counters));
	for (size_t i = 0; i < b.count; i++)
		assert_int_equal(lcpfs_engine_update(b.engine, b.id[i], a.now_us, &b.counters[i]), 0);
	for (uint32_t id = 1; id <= 2; id++) {
		assert_int_equal(lcpfs_engine_explain(a.engine, id, &da), 0);
		assert_int_equal(lcpfs_engine_explain(b.engine, id, &db), 0);
		assert_true(da.partitions_measured == 2 && db.partitions_measured == 2);
		assert_int_equal(db.reason, da.reason);
		assert_int_equal(db.blocks, da.blocks);
		assert_true(fabs(db.to.cleaning_error - da.to.cleaning_error) <= 1e-5 * da.to.cleaning_error);
		assert_true(fabs(db.expected_error - da.expected_error) <= 1e-5 * da.expected_error);
	}
	world_done(&a);
	world_done(&b);
}

struct earlier {
	const char *file;
	uint64_t hot, cold, moves;
	double trust;
	enum lcpfs_engine_reason reason;
};

/* What was learned, and the verdict that was awaited. Version 4 kept nothing of what was being measured. */
static void states_of_earlier_versions_are_read(void **state)
{
	static const struct earlier list[] = {
		{"learned-4.bin", 18520, 23680, 5, 0.74539756446610228, LCPFS_ENGINE_WAIT_EFFECT},
		{"learned-5.bin", 18200, 24000, 4, 0.74536238295649193, LCPFS_ENGINE_WAIT_MEASURE},
	};
	static uint8_t bytes[65536];
	struct lcpfs_engine_statistics s;
	struct lcpfs_engine_decision d;
	char path[4096];
	struct world w;
	const char *folder = getenv("LCPFS_GOLDEN");
	(void)state;
	for (const struct earlier *e = list; e < list + ARRAY_LENGTH(list); e++) {
		snprintf(path, sizeof(path), "%s/%s", folder ? folder : "tests/golden", e->file);
		FILE *file = fopen(path, "rb");
		assert_non_null(file);
		size_t length = fread(bytes, 1, sizeof(bytes), file);
		fclose(file);
		world_hot_and_cold(&w, LCPFS_ENGINE_ON, 19);
		assert_int_equal(lcpfs_engine_resized(w.engine, 2, 0, e->cold, LCPFS_ENGINE_BY_HAND), 0);
		assert_int_equal(lcpfs_engine_resized(w.engine, 1, 0, e->hot, LCPFS_ENGINE_BY_HAND), 0);
		assert_int_equal(lcpfs_engine_load(w.engine, bytes, length), 0);
		lcpfs_engine_get_statistics(w.engine, &s);
		assert_true(s.moves == e->moves && s.improved == 3);
		assert_int_equal(lcpfs_engine_get_outcomes(w.engine, NULL, 0), e->moves - 1);
		assert_int_equal(lcpfs_engine_explain(w.engine, 1, &d), 0);
		assert_true(d.trust == e->trust);
		assert_true(fabs(d.to.access_frequency - 8000) < 1e-3);
		assert_int_equal(d.reason, e->reason);
		world_done(&w);
	}
}

/* An hour of a pool whose contents turn over once in two weeks. */
static void slow_hour(struct world *w, bool is_busy)
{
	w->now_us += UINT64_C(3600) * 1000000;
	for (size_t i = 0; i < w->count; i++) {
		if (is_busy)
			world_live(w, i, 3600);
		assert_int_equal(lcpfs_engine_update(w->engine, w->id[i], w->now_us, &w->counters[i]), 0);
	}
	assert_int_equal(lcpfs_engine_step(w->engine, w->now_us, world_move, w, NULL), 0);
}

static void slow_pool(struct world *w)
{
	world_init(w, 42216, LCPFS_ENGINE_ON, 20);
	world_add(w, 10200, (struct load){.live = 10000, .writes_s = 0.1, .copies = 1, .noise = 0.05});
	world_add(w, 32000, (struct load){.live = 20000, .writes_s = 0.0125, .copies = 1, .noise = 0.05});
}

/* Stopped and started again, as a pool does it: it looks at both times. */
static void restart(struct world *w)
{
	static uint8_t bytes[65536];
	struct lcpfs_engine_statistics s;
	struct world fresh;
	size_t length = lcpfs_engine_save(w->engine, bytes, sizeof(bytes));
	assert_true(length <= sizeof(bytes));
	lcpfs_engine_get_statistics(w->engine, &s);
	world_init(&fresh, s.pool_blocks, s.mode, 0);
	for (size_t i = 0; i < w->count; i++)
		world_add(&fresh, w->size[i], w->load[i]);
	assert_int_equal(lcpfs_engine_load(fresh.engine, bytes, length), 0);
	lcpfs_engine_destroy(w->engine);
	w->engine = fresh.engine;
	for (size_t i = 0; i < w->count; i++)
		assert_int_equal(lcpfs_engine_update(w->engine, w->id[i], w->now_us, &w->counters[i]), 0);
}

/* The first partition's size after so many weeks; restarted every so many hours; idle for a month meanwhile. */
static double slow_weeks(int weeks, int restart_hours, bool is_idle)
{
	struct world w;
	slow_pool(&w);
	for (int hour = 0; hour < weeks * 7 * 24; hour++) {
		slow_hour(&w, true);
		if (restart_hours && hour % restart_hours == restart_hours - 1)
			restart(&w);
		for (int i = 0; hour == 12 * 24 && is_idle && i < 31 * 24; i++)
			slow_hour(&w, false);
	}
	double size = (double)w.size[0];
	world_done(&w);
	return size;
}

/* However often it is stopped, it takes no longer. */
static void weeks_of_restarts_and_a_month_of_idling_end_at_the_same_sizes(void **state)
{
	double there = slow_weeks(3, 0, false);
	(void)state;
	assert_true(there > 17000);
	assert_true(fabs(slow_weeks(3, 0, true) - there) <= 0.02 * there);
	assert_true(fabs(slow_weeks(3, 60, true) - there) <= 0.05 * there);
	assert_true(fabs(slow_weeks(3, 24, false) - there) <= 0.05 * there);
}

/* ---- at each second of a story ---- */

enum { STORY_SECONDS = 240, STORY_CHANGES = 60 };

static void copies_more(struct world *w, unsigned second)
{
	w->load[0].copies *= second == STORY_CHANGES ? 5 : 1;
}

static void hot_and_cold(struct world *w)
{
	world_hot_and_cold(w, LCPFS_ENGINE_ON, 8);
}

static void seven_logs_and_one(struct world *w)
{
	world_init(w, 90000, LCPFS_ENGINE_ON, 7);
	world_add(w, 11250, (struct load){.live = 10000, .writes_s = 3000, .copies = 1, .noise = 0.01});
	for (int i = 1; i < 8; i++)
		world_add(w, 11250, (struct load){.live = 10000, .writes_s = 3000 + 100 * i});
}

static void a_cliff(struct world *w)
{
	world_init(w, 32000, LCPFS_ENGINE_ON, 77);
	world_add(w, 10000, (struct load){.live = 9000, .writes_s = 3000, .copies = 1, .noise = 0.02});
	world_add(w, 22000, (struct load){.live = 18000, .writes_s = 3000, .noise = 0.02, .cliff = 21800});
}

/* Some is free, and the second one takes a step of it now and then. */
static void free_space(struct world *w)
{
	world_init(w, 46000, LCPFS_ENGINE_ON, 11);
	add_hot_and_cold(w);
}

static void is_full(struct world *w, unsigned second)
{
	struct lcpfs_engine_statistics s;
	lcpfs_engine_get_statistics(w->engine, &s);
	if (second % 20 || s.free_blocks < STEP)
		return;
	w->size[1] += STEP;
	assert_int_equal(lcpfs_engine_resized(w->engine, 2, w->now_us, w->size[1], LCPFS_ENGINE_EMERGENCY), 0);
}

/* What has to go back does so step by step. */
static int reluctant(void *context, const struct lcpfs_engine_decision *d, struct lcpfs_engine_moved *moved)
{
	struct lcpfs_engine_decision less = *d;
	less.blocks = d->reason == LCPFS_ENGINE_UNDO ? MIN_OF(d->blocks, (uint64_t)STEP) : d->blocks;
	return world_move(context, &less, moved);
}

struct story {
	void (*begin)(struct world *w);
	void (*second)(struct world *w, unsigned second);
};

struct step {
	uint64_t from, to, blocks;
};

static void tell(const struct story *story, unsigned restart_at, struct step steps[STORY_SECONDS])
{
	struct lcpfs_engine_decision d;
	struct world w;
	story->begin(&w);
	for (unsigned t = 0; t < STORY_SECONDS; t++) {
		if (story->second)
			story->second(&w, t);
		world_second(&w);
		assert_int_equal(lcpfs_engine_step(w.engine, w.now_us, reluctant, &w, &d), 0);
		bool moves = d.action == LCPFS_ENGINE_MOVE;
		steps[t] = (struct step){moves * d.from_id, moves * d.to_id, moves * d.blocks};
		if (t + 1 == restart_at)
			restart(&w);
	}
	world_done(&w);
}

/* Whenever it is stopped, it makes the same moves as if it had not been. */
static void a_restart_changes_no_move(void **state)
{
	static const struct story stories[] = {{hot_and_cold, NULL},
					       {hot_and_cold, copies_more},
					       {seven_logs_and_one, NULL},
					       {seven_logs_and_one, copies_more},
					       {a_cliff, NULL},
					       {free_space, is_full}};
	static struct step whole[STORY_SECONDS], restarted[STORY_SECONDS];
	(void)state;
	for (size_t s = 0; s < ARRAY_LENGTH(stories); s++) {
		tell(&stories[s], 0, whole);
		for (unsigned at = 1; at < STORY_SECONDS; at++) {
			tell(&stories[s], at, restarted);
			for (unsigned t = 0; t < STORY_SECONDS; t++)
				if (memcmp(&whole[t], &restarted[t], sizeof(whole[t])))
					fail_msg("story %zu: stopped after %u s, another move at %u s", s, at, t);
		}
	}
}

/*
 * The verdict of the first move, of which `before` seconds have passed at a restart; 0: it is not restarted. So
 * many bytes are missing to save it all, but no more than what was learned can do without.
 */
static struct lcpfs_engine_outcome first_verdict(unsigned before, uint64_t resized, unsigned missing)
{
	static uint8_t bytes[65536];
	struct lcpfs_engine_outcome first = {0};
	struct world w, fresh;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 23);
	while (!w.moves)
		world_run(&w, 1);
	if (before) {
		world_run(&w, before - 1);
		assert_int_equal(lcpfs_engine_get_outcomes(w.engine, NULL, 0), 0);
		size_t room = lcpfs_engine_save(w.engine, NULL, 0), length;
		while (missing && lcpfs_engine_save(w.engine, bytes, room - 1) < room) {
			missing--;
			room--;
		}
		length = lcpfs_engine_save(w.engine, bytes, room);
		world_hot_and_cold(&fresh, LCPFS_ENGINE_ON, 23);
		lcpfs_engine_resized(fresh.engine, 2, 0, w.size[1], LCPFS_ENGINE_BY_HAND);
		lcpfs_engine_resized(fresh.engine, 1, 0, w.size[0] - resized, LCPFS_ENGINE_BY_HAND);
		assert_int_equal(lcpfs_engine_load(fresh.engine, bytes, length), 0);
		lcpfs_engine_destroy(w.engine);
		w.engine = fresh.engine;
		w.size[0] -= resized;
	}
	lcpfs_engine_set_mode(w.engine, LCPFS_ENGINE_OBSERVE);
	for (int i = 0; i < 300 && !lcpfs_engine_get_outcomes(w.engine, &first, 1); i++)
		world_run(&w, 1);
	world_done(&w);
	return first;
}

static void a_verdict_under_way_comes_after_a_restart(void **state)
{
	struct lcpfs_engine_outcome never = first_verdict(0, 0, 0), o;
	(void)state;
	assert_true(never.verdict != LCPFS_ENGINE_NOT_JUDGED && never.taken_us > 3000000);
	for (unsigned before = 1; before < never.taken_us / 1000000; before++) {
		o = first_verdict(before, 0, 0);
		assert_int_equal(o.sequence, never.sequence);
		assert_int_equal(o.verdict, never.verdict);
		assert_in_range(o.taken_us, never.taken_us, never.taken_us + before * UINT64_C(1000000));
		assert_true(fabs(o.epsilon_before - never.epsilon_before) <= 1e-6 * never.epsilon_before);
		assert_true(fabs(o.epsilon_after - never.epsilon_after) <=
			    3 * hypot(o.standard_error, never.standard_error));
	}
	/* resized meanwhile, it is said not to have been judged */
	o = first_verdict(2, STEP, 0);
	assert_int_equal(o.sequence, never.sequence);
	assert_int_equal(o.verdict, LCPFS_ENGINE_NOT_JUDGED);
	/* what it measured is left out first; and what was learned is kept without the verdict, too */
	assert_int_equal(first_verdict(never.taken_us / 1000000 - 1, 0, 1).sequence, never.sequence);
	assert_int_equal(first_verdict(2, 0, 10000).sequence, 0);
}

/* What it waits for is told in hours. */
static void a_slow_pool_says_how_many_hours_it_waits(void **state)
{
	struct lcpfs_engine_decision d;
	struct world w;
	bool is_said = false;
	(void)state;
	slow_pool(&w);
	for (int hour = 0; hour < 7 * 24; hour++) {
		slow_hour(&w, true);
		assert_int_equal(lcpfs_engine_explain(w.engine, 0, &d), 0);
		is_said |= strstr(d.sentence, "fill its space once, about ") && strstr(d.sentence, " h more");
	}
	assert_true(is_said);
	world_done(&w);
}

/* What was given on trial is watched on after a restart, and goes back. */
static void a_trial_survives_a_restart(void **state)
{
	struct load circle = {.live = 18000, .writes_s = 300, .noise = 0.02, .cliff = 21980};
	static uint8_t bytes[65536];
	struct world w, fresh;
	(void)state;
	for (int again = 0; again < 2; again++) {
		world_init(again ? &fresh : &w, 32000, LCPFS_ENGINE_OBSERVE, 77);
		world_add(again ? &fresh : &w, 10000,
			  (struct load){.live = 9000, .writes_s = 300, .copies = 1, .noise = 0.02});
		world_add(again ? &fresh : &w, 22000, circle);
	}
	world_run(&w, 200);
	lcpfs_engine_set_mode(w.engine, LCPFS_ENGINE_ON);
	while (!w.moves)
		world_run(&w, 1);
	size_t length = lcpfs_engine_save(w.engine, bytes, sizeof(bytes));
	world_done(&w);
	w.engine = fresh.engine;
	lcpfs_engine_resized(w.engine, 2, 0, w.size[1], LCPFS_ENGINE_BY_HAND);
	lcpfs_engine_resized(w.engine, 1, 0, w.size[0], LCPFS_ENGINE_BY_HAND);
	assert_int_equal(lcpfs_engine_load(w.engine, bytes, length), 0);
	lcpfs_engine_set_mode(w.engine, LCPFS_ENGINE_ON);
	world_run(&w, 10);
	assert_int_equal(w.size[1], 22000);
	world_done(&w);
}

static void a_full_engine_fits_its_room(void **state)
{
	struct world w;
	struct lcpfs_engine_spec spec = {.size_blocks = STEP, .max_size_blocks = 10 * STEP};
	(void)state;
	world_init(&w, 1000 * STEP, LCPFS_ENGINE_ON, 1);
	for (int i = 0; i < 256; i++)
		assert_int_equal(lcpfs_engine_add(w.engine, &spec, NULL), 0);
	/* 100 outcomes of 152 bytes come on top; a pool sets 25 pages aside */
	assert_true(lcpfs_engine_save(w.engine, NULL, 0) + 100 * 152 <= 25 * (4096 - 64));
	world_done(&w);
}

static void damaged_state_is_refused_whole(void **state)
{
	static uint8_t bytes[65536], copy[65536];
	struct world w;
	struct lcpfs_engine_statistics before, after;
	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 21);
	world_run(&w, 100);
	size_t length = lcpfs_engine_save(w.engine, bytes, sizeof(bytes));
	lcpfs_engine_get_statistics(w.engine, &before);
	for (size_t i = 0; i < length; i++) {
		memcpy(copy, bytes, length);
		copy[i] ^= 0x40;
		assert_true(lcpfs_engine_load(w.engine, copy, length) < 0);
	}
	for (size_t cut = 0; cut < length; cut++)
		assert_int_equal(lcpfs_engine_load(w.engine, bytes, cut), -LCPFS_E_CORRUPT);
	memcpy(copy, bytes, length);
	copy[8]++;
	assert_int_equal(lcpfs_engine_load(w.engine, copy, length), -LCPFS_E_VERSION);
	lcpfs_engine_get_statistics(w.engine, &after);
	assert_memory_equal(&before.pressure, &after.pressure, sizeof(before.pressure));
	assert_int_equal(lcpfs_engine_load(w.engine, bytes, length), 0);
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_was_learned_survives_a_restart),
		cmocka_unit_test(a_verdict_under_way_comes_after_a_restart),
		cmocka_unit_test(a_restart_midway_ends_where_an_uninterrupted_run_ends),
		cmocka_unit_test(a_restart_goes_on_measuring),
		cmocka_unit_test(states_of_earlier_versions_are_read),
		cmocka_unit_test(weeks_of_restarts_and_a_month_of_idling_end_at_the_same_sizes),
		cmocka_unit_test(a_slow_pool_says_how_many_hours_it_waits),
		cmocka_unit_test(a_trial_survives_a_restart),
		cmocka_unit_test(a_full_engine_fits_its_room),
		cmocka_unit_test(a_restart_changes_no_move),
		cmocka_unit_test(damaged_state_is_refused_whole),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
