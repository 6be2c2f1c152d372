/* SPDX-License-Identifier: Apache-2.0 */
/* What the engine leaves behind: the record of each decision, and its words. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/check.h"
#include "engine_record.h"
#include "engine_world.h"

struct seen {
	unsigned reasons[LCPFS_ENGINE_REASON_END];
};

/* All decisions of a world. */
static void recompute_log(struct world *w, struct seen *seen)
{
	for (size_t i = 0; i < w->recorded; i++) {
		record_recompute(&w->record[i]);
		seen->reasons[w->record[i].reason]++;
	}
	world_done(w);
}

static void log_of_hot_and_cold(struct seen *seen)
{
	struct world w;
	struct lcpfs_engine_decision d;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 15);
	world_run(&w, 200);
	assert_int_equal(lcpfs_engine_call_back(w.engine, w.now_us, 640, 0, &d), 0);
	world_record(&w, &d);
	assert_int_equal(lcpfs_engine_decide(w.engine, w.now_us, &d), 0);
	assert_int_equal(d.reason, LCPFS_ENGINE_WAIT_REPORT);
	world_record(&w, &d);
	recompute_log(&w, seen);
	world_hot_and_cold(&w, LCPFS_ENGINE_OBSERVE, 16);
	world_run(&w, 60);
	lcpfs_engine_set_mode(w.engine, LCPFS_ENGINE_OFF);
	world_run(&w, 2);
	recompute_log(&w, seen);
}

/* Nothing measured at first, then no room at the top; and a partition alone. */
static void log_without_room(struct seen *seen)
{
	struct world w;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 9);
	world_run(&w, 1);
	assert_int_equal(lcpfs_engine_set_limits(w.engine, w.id[0], STEP, 10200), 0);
	assert_int_equal(lcpfs_engine_set_limits(w.engine, w.id[1], STEP, 32000), 0);
	world_run(&w, 100);
	recompute_log(&w, seen);
	world_init(&w, 11000, LCPFS_ENGINE_ON, 9);
	world_add(&w, 11000, (struct load){.live = 10000, .writes_s = 8000, .copies = 1});
	world_run(&w, 2);
	recompute_log(&w, seen);
}

/* Measurements so noisy that a gain is lost in them; and one that got worse after the first move. */
static void log_of_noise(struct seen *seen)
{
	struct world w;
	world_init(&w, 44000, LCPFS_ENGINE_ON, 3);
	world_add(&w, 22000, (struct load){.live = 20000, .writes_s = 5000, .copies = 1, .noise = 2});
	world_add(&w, 22000, (struct load){.live = 20000, .writes_s = 4000, .copies = 1, .noise = 2});
	world_run(&w, 200);
	recompute_log(&w, seen);
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 8);
	while (!w.moves)
		world_run(&w, 1);
	w.load[0].copies *= 5;
	world_run(&w, 60);
	recompute_log(&w, seen);
}

/* What the cold one would give is all live: copying it costs more than the little that is written can save. */
static void log_without_payback(struct seen *seen)
{
	struct world w;
	world_init(&w, 44000, LCPFS_ENGINE_ON, 4);
	world_add(&w, 2200,
		  (struct load){.live = 2000, .writes_s = 900, .reads_s = 40000, .copies = 1, .noise = 0.01});
	world_add(&w, 41800,
		  (struct load){.live = 41000, .writes_s = 2, .reads_s = 1, .copies = 1, .noise = 0.01});
	world_run(&w, 300);
	recompute_log(&w, seen);
}

/* Who was idle is busy, and the other way round. */
static void log_of_swapped_loads(struct seen *seen)
{
	struct world w;
	world_init(&w, 22000, LCPFS_ENGINE_ON, 17);
	world_add(&w, 11000, (struct load){.live = 10000, .writes_s = 396, .copies = 1, .noise = 0.02});
	world_add(&w, 11000, (struct load){.live = 10000, .writes_s = 4, .copies = 1, .noise = 0.02});
	world_run(&w, 60);
	w.load[0].writes_s = 4;
	w.load[1].writes_s = 396;
	world_run(&w, 60);
	recompute_log(&w, seen);
}

static void every_decision_follows_from_its_record(void **state)
{
	struct seen seen = {{0}};
	(void)state;
	log_of_hot_and_cold(&seen);
	log_without_room(&seen);
	log_of_noise(&seen);
	log_without_payback(&seen);
	log_of_swapped_loads(&seen);
	for (int i = 0; i < LCPFS_ENGINE_REASON_END; i++)
		if (!seen.reasons[i])
			fail_msg("no decision was %s", lcpfs_engine_reason_name(i));
}

/* ---- whom it chose, among many ---- */

#define NEAR 1e-3 /* a verdict just before the decision may have changed a curve */

struct crowd {
	struct world w;
	struct lcpfs_engine_side side[WORLD_MAX]; /* before the decision */
	double gain[WORLD_MAX], loss[WORLD_MAX]; /* of ε, by one step */
	uint64_t awaited[WORLD_MAX]; /* sequence of the move whose effect it waits for; 0: none */
	double since[WORLD_MAX], awaited_since[WORLD_MAX]; /* the pool's work when its size changed, and then */
	bool on_trial[WORLD_MAX];  /* what it gave last, while it has not been measured without it */
	double written[WORLD_MAX]; /* by its users in about the last turnover of the pool */
	double base; /* work before the first update: it counts from there */
	double before; /* work a second ago: what waits for work was looked at since then */
	unsigned chosen;
};

static double work_of(const struct crowd *c)
{
	double work = -c->base;
	for (size_t i = 0; i < c->w.count; i++)
		work += (double)(c->w.counters[i].device_blocks + c->w.counters[i].read_ops);
	return work;
}

static void look_at_all(struct crowd *c)
{
	struct lcpfs_engine_decision e;
	for (size_t i = 0; i < c->w.count; i++) {
		assert_int_equal(lcpfs_engine_explain(c->w.engine, c->w.id[i], &e), 0);
		c->side[i] = e.to.id == c->w.id[i] ? e.to : e.from;
		assert_int_equal(c->side[i].id, c->w.id[i]);
		c->gain[i] = record_fall(&c->side[i], STEP);
		c->loss[i] = -record_fall(&c->side[i], -(double)STEP);
	}
}

/* What was waited for has been judged. */
static void forget_judged(struct crowd *c)
{
	struct lcpfs_engine_outcome o[LCPFS_ENGINE_OUTCOMES_MAX];
	size_t n = lcpfs_engine_get_outcomes(c->w.engine, o, LCPFS_ENGINE_OUTCOMES_MAX);
	for (size_t k = 0; k < n; k++)
		for (size_t i = 0; i < c->w.count; i++)
			if (c->awaited[i] == o[k].sequence)
				c->awaited[i] = 0;
}

static bool can_get(const struct crowd *c, size_t i)
{
	const struct lcpfs_engine_side *s = &c->side[i];
	return !c->awaited[i] && s->measured && c->gain[i] > 0 && s->size_blocks + STEP <= s->ceiling_blocks;
}

/* It will not have been measured within three turnovers. A tenth off, since work is counted within a round. */
static bool is_too_slow(const struct crowd *c, size_t i, double now, bool surely)
{
	double writes = 3 * c->written[i] * (1 + c->side[i].cleaning_cost) * (surely ? 1.1 : 0.9);
	return now >= 60000 && !c->on_trial[i] && writes < (double)c->side[i].size_blocks;
}

/* By what work there was at that time. */
static bool can_give(const struct crowd *c, size_t i, double now, bool surely)
{
	const struct lcpfs_engine_side *s = &c->side[i];
	double pool = 60000;
	if (c->awaited[i] && now - c->awaited_since[i] < pool)
		return false;
	return (s->measured || now - c->since[i] >= pool || is_too_slow(c, i, now, surely)) &&
	       s->size_blocks >= s->floor_blocks + STEP;
}

static size_t index_of(const struct crowd *c, uint32_t id)
{
	size_t i = 0;
	while (c->w.id[i] != id)
		i++;
	return i;
}

static bool names_a_pair(const struct lcpfs_engine_decision *d)
{
	return d->reason >= LCPFS_ENGINE_NO_ROOM && d->reason <= LCPFS_ENGINE_GAIN && d->to_id;
}

/* What it got last is not judged yet, and its effect has not arrived. */
static bool can_get_more(const struct crowd *c, size_t i, double now)
{
	const struct lcpfs_engine_side *s = &c->side[i];
	return c->awaited[i] && now - c->awaited_since[i] < 60000 && c->gain[i] > 0 &&
	       s->since_change_blocks < (double)s->size_blocks && s->size_blocks + STEP <= s->ceiling_blocks;
}

static void check_pair(struct crowd *c, const struct lcpfs_engine_decision *d)
{
	size_t to = index_of(c, d->to_id);
	assert_true(d->joined_blocks ? can_get_more(c, to, c->before) : can_get(c, to));
	assert_true(!d->from_id || can_give(c, index_of(c, d->from_id), work_of(c), false));
	c->chosen += d->from_id != 0;
}

/* Of who can: one of the three who gain most (the first that a move is worth for), and who loses least. */
static void check_choice(const struct crowd *c, const struct lcpfs_engine_decision *d)
{
	size_t to = index_of(c, d->to_id), from = d->from_id ? index_of(c, d->from_id) : 0;
	unsigned better = 0;
	for (size_t i = 0; i < c->w.count; i++)
		better += i != to && can_get(c, i) && c->gain[i] > c->gain[to] * (1 + NEAR);
	assert_true(better < (d->action == LCPFS_ENGINE_MOVE ? 3 : 1));
	assert_int_equal(!d->from_id, d->free_blocks >= d->reserve_blocks + STEP);
	for (size_t i = 0; d->from_id && i < c->w.count; i++)
		if (i != to && i != from && can_give(c, i, c->before, true))
			assert_true(c->loss[i] >= c->loss[from] * (1 - NEAR));
}

static void check_ranking(const struct crowd *c, const struct lcpfs_engine_decision *d)
{
	for (size_t i = 0; i < c->w.count; i++) {
		if (c->gain[i] > 0)
			assert_true(d->gains_most_id && c->gain[i] <= d->gains_most * STEP * (1 + NEAR));
		if (c->w.id[i] == d->gains_most_id)
			assert_true(c->gain[i] >= d->gains_most * STEP * (1 - NEAR));
		else
			assert_true(c->loss[i] >= d->loses_least * STEP * (1 - NEAR));
		if (c->w.id[i] == d->loses_least_id)
			assert_true(c->loss[i] <= d->loses_least * STEP * (1 + NEAR));
	}
}

/* What going back to all base sizes would copy; none is free here but a step or two. */
static void check_return(const struct crowd *c, const struct lcpfs_engine_decision *d)
{
	double below = 0, above = 0, copies = 0;
	for (size_t i = 0; i < c->w.count; i++) {
		const struct lcpfs_engine_side *s = &c->side[i];
		double off = (double)s->size_blocks - (double)s->base_blocks;
		below += fmax(-off, 0);
		above += fmax(off, 0);
		copies += record_way_back(s, (double)s->size_blocks);
	}
	below = fmax(below - (double)d->free_blocks, 0);
	record_near(d->return_blocks, above > 0 ? copies * fmin(below / above, 1) : 0, d->return_blocks + 1e-3);
}

static void note_move(struct crowd *c, const struct lcpfs_engine_decision *d)
{
	double now = work_of(c);
	size_t to = index_of(c, d->to_id), from = d->from_id ? index_of(c, d->from_id) : to;
	c->since[to] = c->since[from] = now;
	c->on_trial[to] = false;
	c->on_trial[from] = d->from_id && d->from.give_blocks < 60000;
	c->awaited[from] = 0;
	c->awaited[to] = d->reason == LCPFS_ENGINE_GAIN || d->reason == LCPFS_ENGINE_EXPLORE ? d->sequence : 0;
	c->awaited_since[to] = now;
}

/* A move is not taken back from under the verdict of another. */
static void check_undo(const struct crowd *c, const struct lcpfs_engine_decision *d)
{
	assert_true(!c->awaited[index_of(c, d->from_id)]);
	assert_true(!d->to_id || !c->awaited[index_of(c, d->to_id)]);
}

static void crowd_init(struct crowd *c, uint64_t seed)
{
	memset(c, 0, sizeof(*c));
	world_init(&c->w, 60000, LCPFS_ENGINE_ON, seed);
	for (int i = 0; i < 6; i++) {
		struct load load = {.live = 7000 + 200 * i, .writes_s = 200 * (1 << i), .reads_s = 300 * (i % 3),
				    .copies = i == 2 ? 0.3 : 1, .noise = 0.05};
		world_add(&c->w, i == 3 ? 14000 : 9000, load);
	}
}

static void crowd_second(struct crowd *c, struct lcpfs_engine_decision *d)
{
	uint64_t user[WORLD_MAX];
	bool is_first = !c->w.now_us;
	c->before = work_of(c);
	for (size_t i = 0; i < c->w.count; i++)
		user[i] = c->w.counters[i].user_blocks;
	world_second(&c->w);
	c->base = is_first ? c->base + work_of(c) : c->base;
	for (size_t i = 0; i < c->w.count && !is_first; i++)
		c->written[i] = c->written[i] * exp((c->before - work_of(c)) / 60000) +
				(double)(c->w.counters[i].user_blocks - user[i]);
	look_at_all(c);
	assert_int_equal(lcpfs_engine_step(c->w.engine, c->w.now_us, world_move, &c->w, d), 0);
	forget_judged(c);
	if (names_a_pair(d))
		check_pair(c, d);
	if (d->reason == LCPFS_ENGINE_UNDO)
		check_undo(c, d);
}

static void whom_it_chooses_follows_from_all_of_them(void **state)
{
	struct crowd c;
	struct lcpfs_engine_decision d;
	(void)state;
	crowd_init(&c, 41);
	for (int t = 0; t < 400; t++) {
		crowd_second(&c, &d);
		check_ranking(&c, &d);
		check_return(&c, &d);
		if (names_a_pair(&d))
			check_choice(&c, &d);
		if (d.action == LCPFS_ENGINE_MOVE)
			note_move(&c, &d);
	}
	assert_true(c.chosen > 50 && c.w.moves > 10);
	world_done(&c.w);
}

static void swap_loads(struct world *w, size_t i, size_t j)
{
	double writes_s = w->load[i].writes_s, copies = w->load[i].copies;
	w->load[i].writes_s = w->load[j].writes_s;
	w->load[i].copies = w->load[j].copies * (uniform01(w) < 0.5 ? 1 : 4);
	w->load[j].writes_s = writes_s;
	w->load[j].copies = fmin(copies, 1);
}

/* Who has just received is the first to give when its load goes; what hurts is to go back amid other moves. */
static void whom_it_chooses_while_loads_change_places(void **state)
{
	unsigned chosen = 0, undone = 0;
	(void)state;
	for (uint64_t seed = 1; seed <= 12; seed++) {
		struct crowd c;
		struct lcpfs_engine_decision d;
		crowd_init(&c, seed);
		for (int t = 0; t < 200; t++) {
			if (uniform01(&c.w) < 0.1)
				swap_loads(&c.w, (size_t)(uniform01(&c.w) * 6), (size_t)(uniform01(&c.w) * 6));
			crowd_second(&c, &d);
			if (d.action == LCPFS_ENGINE_MOVE)
				note_move(&c, &d);
			undone += d.reason == LCPFS_ENGINE_UNDO;
		}
		chosen += c.chosen;
		world_done(&c.w);
	}
	assert_true(chosen > 200);
}

static void every_answer_has_words_and_a_name(void **state)
{
	struct world w;
	struct lcpfs_engine_decision d;
	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 16);
	for (int t = 0; t < 100; t++) {
		world_run(&w, 1);
		for (uint32_t id = 0; id <= 2; id++) {
			assert_int_equal(lcpfs_engine_explain(w.engine, id, &d), 0);
			assert_true(strlen(d.sentence) > 20);
			assert_true(strlen(lcpfs_engine_reason_name(d.reason)) > 3);
		}
	}
	assert_int_equal(lcpfs_engine_explain(w.engine, 77, &d), -LCPFS_E_NOT_FOUND);
	assert_string_equal(lcpfs_engine_reason_name(LCPFS_ENGINE_CALL_BACK), "call_back");
	assert_string_equal(lcpfs_engine_reason_name(LCPFS_ENGINE_NO_ROOM), "no_room");
	assert_string_equal(lcpfs_engine_verdict_name(LCPFS_ENGINE_HURT), "hurt");
	world_done(&w);
}

/* Measured or not. */
static void nobody_is_called_back_where_all_are_at_their_least(void **state)
{
	struct lcpfs_engine_decision d;
	struct world w;
	(void)state;
	world_init(&w, 22000, LCPFS_ENGINE_ON, 3);
	world_add(&w, 11000, (struct load){.live = 10970, .writes_s = 10, .copies = 1});
	world_run(&w, 2);
	assert_int_equal(lcpfs_engine_call_back(w.engine, w.now_us, 640, 0, &d), 0);
	assert_int_equal(d.reason, LCPFS_ENGINE_NO_ROOM);
	assert_true(d.action == LCPFS_ENGINE_NONE && !d.from_id && !d.to_id);
	world_done(&w);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(every_decision_follows_from_its_record),
		cmocka_unit_test(whom_it_chooses_follows_from_all_of_them),
		cmocka_unit_test(whom_it_chooses_while_loads_change_places),
		cmocka_unit_test(every_answer_has_words_and_a_name),
		cmocka_unit_test(nobody_is_called_back_where_all_are_at_their_least),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
