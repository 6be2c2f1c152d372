/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The engine through its public API, against a small world of its own: partitions whose cleaning follows the
 * uniform formula at once. (sim/ has the faithful store; here what matters is that every promise can be broken by
 * a change.)
 */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include <lcpfs/engine.h>

#define STEP 64u
#define WORLD_MAX 8

struct load {
	double live, writes_s, reads_s, noise; /* noise: relative spread of each window's latency */
	double copies; /* factor on the uniform formula's; 0 = a log */
	double size_blind; /* 1: latency does not depend on size at all */
	double flat; /* copies per write, whatever the size; latency is blind then too */
};

struct world {
	struct lcpfs_engine *engine;
	struct load load[WORLD_MAX];
	struct lcpfs_engine_counters counters[WORLD_MAX];
	uint64_t size[WORLD_MAX];
	uint32_t id[WORLD_MAX];
	size_t count;
	uint64_t now_us, seed;
	double written;
	unsigned moves;
};

static double uniform01(struct world *w)
{
	w->seed = w->seed * 6364136223846793005u + 1442695040888963407u;
	return (double)(w->seed >> 11) / 9007199254740992.0;
}

static double noisy(struct world *w, double spread)
{
	double sum = 0;

	for (int i = 0; i < 12; i++)
		sum += uniform01(w);
	return fmax(1 + spread * (sum - 6), 0.01);
}

static void world_init_with(struct world *w, uint64_t pool, enum lcpfs_engine_mode mode, uint64_t seed,
			    const struct lcpfs_engine_priors *priors)
{
	struct lcpfs_engine_options options = {
		.pool_blocks = pool, .step_blocks = STEP, .mode = mode, .priors = *priors};

	memset(w, 0, sizeof(*w));
	w->seed = seed;
	assert_int_equal(lcpfs_engine_create(&options, &w->engine), 0);
}

static void world_init(struct world *w, uint64_t pool, enum lcpfs_engine_mode mode, uint64_t seed)
{
	world_init_with(w, pool, mode, seed, &(struct lcpfs_engine_priors){0});
}

static void world_add(struct world *w, uint64_t size, struct load load)
{
	struct lcpfs_engine_spec spec = {
		.size_blocks = size, .min_size_blocks = STEP, .max_size_blocks = 1u << 30};

	w->load[w->count] = load;
	w->size[w->count] = size;
	assert_int_equal(lcpfs_engine_add(w->engine, &spec, &w->id[w->count]), 0);
	w->count++;
}

static void world_live(struct world *w, size_t i, double seconds)
{
	struct load *load = &w->load[i];
	struct lcpfs_engine_counters *c = &w->counters[i];
	double copies = load->copies * (lcpfs_engine_uniform_wa(load->live, (double)w->size[i] - load->live) - 1);
	double writes = load->writes_s * seconds;
	double latency = load->size_blind > 0 || load->flat > 0 ? 100 : 50 * (1 + copies);

	copies = load->flat > 0 ? load->flat : copies;
	c->write_ops += (uint64_t)writes;
	c->user_blocks += (uint64_t)writes;
	c->copied_blocks += (uint64_t)(writes * copies * noisy(w, load->noise / 4));
	c->device_blocks = c->user_blocks + c->copied_blocks;
	c->write_latency_us += writes * latency * noisy(w, load->noise);
	c->read_ops += (uint64_t)(load->reads_s * seconds);
	c->read_latency_us += load->reads_s * seconds * 40 * noisy(w, load->noise);
	c->live_blocks = (uint64_t)load->live;
	w->written += writes * (1 + copies);
}

static int world_move(void *context, uint32_t from, uint32_t to, uint64_t blocks, struct lcpfs_engine_moved *moved)
{
	struct world *w = context;

	for (size_t i = 0; i < w->count; i++) {
		w->size[i] -= w->id[i] == from ? blocks : 0;
		w->size[i] += w->id[i] == to ? blocks : 0;
	}
	w->moves++;
	*moved = (struct lcpfs_engine_moved){.blocks = blocks, .duration_us = 1000, .copied_blocks = blocks / 2};
	return 0;
}

static void check_conservation(struct world *w)
{
	struct lcpfs_engine_statistics s;
	struct lcpfs_engine_partition list[WORLD_MAX];
	uint64_t sum = 0;
	size_t count = lcpfs_engine_get_partitions(w->engine, list, WORLD_MAX);

	assert_int_equal(lcpfs_engine_get_statistics(w->engine, &s), 0);
	for (size_t i = 0; i < count; i++) {
		sum += list[i].size_blocks;
		assert_true(list[i].size_blocks <= list[i].max_size_blocks);
		assert_true(list[i].size_blocks >= list[i].min_size_blocks);
	}
	assert_int_equal(sum + s.free_blocks, s.pool_blocks);
}

static void world_run(struct world *w, unsigned ticks)
{
	for (unsigned t = 0; t < ticks; t++) {
		w->now_us += 1000000;
		for (size_t i = 0; i < w->count; i++) {
			world_live(w, i, 1);
			assert_int_equal(lcpfs_engine_update(w->engine, w->id[i], w->now_us, &w->counters[i]), 0);
		}
		assert_int_equal(lcpfs_engine_step(w->engine, w->now_us, world_move, w, NULL), 0);
	}
}

static void world_done(struct world *w)
{
	lcpfs_engine_destroy(w->engine);
}

/* Hot with 2 % spare beside cold with 60 %; blocks chosen so that the logs go round in seconds. */
static void add_hot_and_cold(struct world *w)
{
	world_add(w, 10200, (struct load){.live = 10000, .writes_s = 8000, .copies = 1, .noise = 0.05});
	world_add(w, 32000, (struct load){.live = 20000, .writes_s = 1000, .copies = 1, .noise = 0.05});
}

static void world_hot_and_cold(struct world *w, enum lcpfs_engine_mode mode, uint64_t seed)
{
	world_init(w, 10000 * 102 / 100 + 20000 * 160 / 100 + 16, mode, seed);
	add_hot_and_cold(w);
}

/* ---- the nine points ---- */

static void starts_from_nothing_with_one_step(void **state)
{
	struct world w;
	struct lcpfs_engine_outcome outcomes[100];

	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 1);
	world_run(&w, 60);
	assert_true(lcpfs_engine_get_outcomes(w.engine, outcomes, 100) >= 1);
	assert_int_equal(outcomes[0].blocks, STEP);
	assert_int_equal(outcomes[0].to_id, w.id[0]);
	assert_int_equal(outcomes[0].from_id, w.id[1]);
	world_done(&w);
}

static double wa_at(double live, double size)
{
	return lcpfs_engine_uniform_wa(live, size - live);
}

static void hot_partition_reaches_the_best_split_within_a_minute(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct world w;
		double spare, best;
		world_hot_and_cold(&w, LCPFS_ENGINE_ON, seed);
		world_run(&w, 60);
		/* s ∝ sqrt(f·U) */
		spare = 12200 * sqrt(8 * 1) / (sqrt(8 * 1) + sqrt(1 * 2));
		best = wa_at(10000, 10000 + spare);
		assert_true(wa_at(10000, (double)w.size[0]) <= 1.5 * best);
		check_conservation(&w);
		world_done(&w);
	}
}

/* Priors are worth one observation: ten times off, either way, they only cost time. */
static void wrong_priors_end_at_the_same_split(void **state)
{
	(void)state;
	for (int which = 0; which < 8; which++) {
		struct lcpfs_engine_priors priors = {100, 300, 0.10, 0.05};
		double *const each[] = {&priors.pressure, &priors.cooldown_s, &priors.growth_step,
					&priors.shrink_step};
		struct world w;
		double share, best;
		*each[which / 2] *= which % 2 ? 10 : 0.1;
		world_init_with(&w, 10000 * 102 / 100 + 20000 * 160 / 100 + 16, LCPFS_ENGINE_ON, 30, &priors);
		add_hot_and_cold(&w);
		world_run(&w, 200);
		share = sqrt(8 * 1) / (sqrt(8 * 1) + sqrt(1 * 2));
		best = wa_at(10000, 10000 + 12200 * share);
		assert_true(wa_at(10000, (double)w.size[0]) <= 1.1 * best);
		world_done(&w);
	}
}

static void learns_from_what_came_of_it(void **state)
{
	struct world w;
	struct lcpfs_engine_statistics s;
	struct lcpfs_engine_outcome o[100];

	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 3);
	world_run(&w, 100);
	lcpfs_engine_get_statistics(w.engine, &s);
	assert_true(s.improved >= 2);
	assert_true(s.pressure.observations >= 2 && s.pressure.value != 100);
	assert_true(s.cooldown_s.value < 60);
	assert_true(s.pressure_confidence > 0);
	assert_true(lcpfs_engine_get_outcomes(w.engine, o, 100) >= 2);
	assert_true(o[0].epsilon_after < o[0].epsilon_before);
	assert_true(o[0].verdict == LCPFS_ENGINE_IMPROVED);
	world_done(&w);
}

/* Demand doubles right after the move: at constant demand the verdict must not mistake that for harm. */
static void judges_at_constant_demand(void **state)
{
	struct world w;
	struct lcpfs_engine_outcome o[100];
	unsigned t = 0;

	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 4);
	while (!w.moves && t++ < 100)
		world_run(&w, 1);
	w.load[0].writes_s *= 3;
	w.load[1].writes_s *= 3;
	world_run(&w, 20);
	assert_true(lcpfs_engine_get_outcomes(w.engine, o, 100) >= 1);
	assert_int_equal(o[0].verdict, LCPFS_ENGINE_IMPROVED);
	world_done(&w);
}

static void space_goes_where_it_gains_most(void **state)
{
	struct world w;

	(void)state;
	/* equal pressure would give spare in proportion to f; the optimum is sqrt(f·U): equal here */
	world_init(&w, 44000, LCPFS_ENGINE_ON, 5);
	world_add(&w, 8800, (struct load){.live = 8000, .writes_s = 8000, .copies = 1, .noise = 0.02});
	world_add(&w, 35200, (struct load){.live = 32000, .writes_s = 2000, .copies = 1, .noise = 0.02});
	world_run(&w, 600);
	assert_true(w.size[0] - 8000 > 1600 && w.size[0] - 8000 < 2400);
	world_done(&w);
}

static void a_log_gives_its_space_away(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 44000, LCPFS_ENGINE_ON, 6);
	world_add(&w, 22000, (struct load){.live = 20000, .writes_s = 5000, .copies = 1, .noise = 0.02});
	world_add(&w, 22000, (struct load){.live = 18000, .writes_s = 5000, .copies = 0, .noise = 0.02});
	world_run(&w, 400);
	assert_true(w.size[0] > 24500);
	world_done(&w);
}

static void free_space_is_put_to_use_and_called_back(void **state)
{
	struct world w;
	struct lcpfs_engine_decision d;
	struct lcpfs_engine_statistics s;

	(void)state;
	world_init(&w, 44000, LCPFS_ENGINE_ON, 7);
	world_add(&w, 11000, (struct load){.live = 10000, .writes_s = 5000, .copies = 1, .noise = 0.02});
	world_add(&w, 22000, (struct load){.live = 20000, .writes_s = 500, .copies = 1, .noise = 0.02});
	world_run(&w, 400);
	lcpfs_engine_get_statistics(w.engine, &s);
	assert_true(s.free_blocks < 3000);
	assert_true(s.free_blocks >= STEP); /* something is kept back */
	assert_int_equal(lcpfs_engine_call_back(w.engine, w.now_us, 640, 0, &d), 0);
	assert_int_equal(d.action, LCPFS_ENGINE_MOVE);
	assert_int_equal(d.reason, LCPFS_ENGINE_CALL_BACK);
	assert_int_equal(d.to_id, LCPFS_ENGINE_FREE);
	assert_int_equal(d.blocks, 640);
	assert_int_equal(
		lcpfs_engine_report(w.engine, w.now_us, d.sequence, &(struct lcpfs_engine_moved){.blocks = 640}),
		0);
	check_conservation(&w);
	world_done(&w);
}

static void a_move_that_hurts_is_taken_back(void **state)
{
	struct world w;
	struct lcpfs_engine_statistics s;
	unsigned t = 0;
	uint64_t before;

	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 8);
	before = w.size[0];
	while (!w.moves && t++ < 100)
		world_run(&w, 1);
	w.load[0].copies *= 5; /* by the world's whim it got worse, and stays so */
	for (t = 0; t < 60 && w.moves < 2; t++)
		world_run(&w, 1);
	assert_int_equal(w.size[0], before);
	lcpfs_engine_get_statistics(w.engine, &s);
	assert_int_equal(s.hurt, 1);
	assert_int_equal(s.undone, 1);
	world_done(&w);
}

static void partitions_at_their_max_poison_nothing(void **state)
{
	struct world w;
	struct lcpfs_engine_statistics s;

	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 9);
	assert_int_equal(lcpfs_engine_set_limits(w.engine, w.id[0], STEP, 12000), 0);
	world_run(&w, 200);
	assert_true(w.size[0] <= 12000);
	lcpfs_engine_get_statistics(w.engine, &s);
	assert_true(isfinite(s.pressure.value));
	check_conservation(&w);
	world_done(&w);
}

static void nothing_to_gain_means_staying_put(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 10; seed++) {
		struct world w;
		world_init(&w, 44000, LCPFS_ENGINE_ON, seed);
		world_add(&w, 22000, (struct load){.live = 20000, .writes_s = 5000, .copies = 1, .noise = 0.2});
		world_add(&w, 22000, (struct load){.live = 20000, .writes_s = 5000, .copies = 1, .noise = 0.2});
		world_run(&w, 500);
		assert_true(fabs((double)w.size[0] - 22000) <= 400);
		world_done(&w);
	}
}

/* Pure noise: latencies at random, no effect of size. Verdicts "improved" stay within the significance level. */
static void pure_noise_moves_nothing(void **state)
{
	unsigned improved = 0, judged = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 50; seed++) {
		struct world w;
		struct lcpfs_engine_statistics s;
		world_init(&w, 44000, LCPFS_ENGINE_ON, seed);
		world_add(&w, 22000,
			  (struct load){.live = 20000, .writes_s = 5000, .noise = 0.5, .size_blind = 1});
		world_add(&w, 22000,
			  (struct load){.live = 20000, .writes_s = 5000, .noise = 0.5, .size_blind = 1});
		world_run(&w, 300);
		lcpfs_engine_get_statistics(w.engine, &s);
		improved += s.improved;
		judged += s.improved + s.hurt + s.inconclusive;
		assert_true(fabs((double)w.size[0] - 22000) <= 10 * STEP);
		world_done(&w);
	}
	assert_true(improved <= 1 + judged * 0.05);
}

/*
 * The same where cleaning is seen, costs the same at every size, and the two differ: the formula promises gains
 * that never come.
 */
static void promises_that_are_not_kept_stop_the_exploring(void **state)
{
	unsigned improved = 0, judged = 0;
	double drift = 0;

	(void)state;
	for (uint64_t seed = 1; seed <= 20; seed++) {
		struct world w;
		struct lcpfs_engine_statistics s;
		world_init(&w, 44000, LCPFS_ENGINE_ON, seed);
		world_add(&w, 22000, (struct load){.live = 20000, .writes_s = 8000, .noise = 0.5, .flat = 2});
		world_add(&w, 22000, (struct load){.live = 20000, .writes_s = 2000, .noise = 0.5, .flat = 2});
		world_run(&w, 1000);
		lcpfs_engine_get_statistics(w.engine, &s);
		improved += s.improved;
		judged += s.improved + s.hurt + s.inconclusive;
		drift += fabs((double)w.size[0] - 22000) / 22000 / 20;
		world_done(&w);
	}
	assert_true(judged > 20);
	assert_true(improved <= judged * 0.05);
	assert_true(drift < 0.10); /* utilization does fall with size, so a little of the promise is real */
}

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
	world_done(&w);
}

static void first_cooldown_is_not_waited_for(void **state)
{
	struct world w;

	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 10);
	world_run(&w, 40); /* prior 300 s */
	assert_true(w.moves >= 2);
	world_done(&w);
}

static void emergencies_are_not_outcomes(void **state)
{
	struct world w;
	struct lcpfs_engine_outcome o[100];
	struct lcpfs_engine_statistics s;
	unsigned t = 0;

	(void)state;
	world_init(&w, 43000, LCPFS_ENGINE_ON, 11);
	world_add(&w, 10200, (struct load){.live = 10000, .writes_s = 8000, .copies = 1, .noise = 0.05});
	world_add(&w, 32000, (struct load){.live = 20000, .writes_s = 1000, .copies = 1, .noise = 0.05});
	while (!w.moves && t++ < 100)
		world_run(&w, 1);
	w.size[0] += STEP;
	assert_int_equal(lcpfs_engine_resized(w.engine, w.id[0], w.now_us, w.size[0], LCPFS_ENGINE_EMERGENCY), 0);
	assert_int_equal(lcpfs_engine_get_outcomes(w.engine, o, 100), 1);
	assert_int_equal(o[0].verdict, LCPFS_ENGINE_NOT_JUDGED);
	lcpfs_engine_get_statistics(w.engine, &s);
	assert_int_equal(s.pressure.observations, 0);
	check_conservation(&w);
	world_done(&w);
}

/* ---- modes ---- */

static void observe_moves_nothing_and_says_what_it_would(void **state)
{
	struct world w;
	struct lcpfs_engine_decision d[100];
	size_t n;
	bool would = false;

	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_OBSERVE, 1);
	world_run(&w, 60);
	assert_int_equal(w.moves, 0);
	n = lcpfs_engine_get_decisions(w.engine, d, 100);
	for (size_t i = 0; i < n; i++)
		would |= d[i].action == LCPFS_ENGINE_WOULD_MOVE && d[i].to_id == w.id[0] &&
			 strlen(d[i].sentence) > 20;
	assert_true(would);
	world_done(&w);
}

static void off_decides_nothing(void **state)
{
	struct world w;
	struct lcpfs_engine_decision d;

	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_OFF, 1);
	world_run(&w, 60);
	assert_int_equal(w.moves, 0);
	lcpfs_engine_decide(w.engine, w.now_us, &d);
	assert_int_equal(d.reason, LCPFS_ENGINE_MODE_OFF);
	world_done(&w);
}

/* ---- carrying out ---- */

static int refuse(void *context, uint32_t from, uint32_t to, uint64_t blocks, struct lcpfs_engine_moved *moved)
{
	(void)from;
	(void)to;
	(void)blocks;
	++*(unsigned *)context;
	*moved = (struct lcpfs_engine_moved){.blocks = 0};
	return -LCPFS_E_TOO_SMALL;
}

static void a_refusal_is_remembered(void **state)
{
	struct world w;
	unsigned asked = 0;

	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 12);
	for (int t = 0; t < 100; t++) {
		w.now_us += 1000000;
		for (size_t i = 0; i < w.count; i++) {
			world_live(&w, i, 1);
			assert_int_equal(lcpfs_engine_update(w.engine, w.id[i], w.now_us, &w.counters[i]), 0);
		}
		lcpfs_engine_step(w.engine, w.now_us, refuse, &asked, NULL);
	}
	assert_int_equal(asked, 1);
	check_conservation(&w);
	world_done(&w);
}

static void only_the_move_handed_out_can_be_reported_once(void **state)
{
	struct world w;
	struct lcpfs_engine_decision d, again;
	struct lcpfs_engine_moved moved = {.blocks = STEP};

	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 13);
	do {
		w.now_us += 1000000;
		for (size_t i = 0; i < w.count; i++) {
			world_live(&w, i, 1);
			assert_int_equal(lcpfs_engine_update(w.engine, w.id[i], w.now_us, &w.counters[i]), 0);
		}
		lcpfs_engine_decide(w.engine, w.now_us, &d);
	} while (d.action != LCPFS_ENGINE_MOVE && w.now_us < 200000000);
	assert_int_equal(d.action, LCPFS_ENGINE_MOVE);
	lcpfs_engine_decide(w.engine, w.now_us, &again);
	assert_int_equal(again.reason, LCPFS_ENGINE_WAIT_REPORT);
	assert_int_equal(lcpfs_engine_report(w.engine, w.now_us, d.sequence + 100, &moved), -LCPFS_E_INVALID);
	moved.blocks = d.blocks + STEP;
	assert_int_equal(lcpfs_engine_report(w.engine, w.now_us, d.sequence, &moved), -LCPFS_E_INVALID);
	moved.blocks = d.blocks;
	assert_int_equal(lcpfs_engine_report(w.engine, w.now_us, d.sequence, &moved), 0);
	assert_int_equal(lcpfs_engine_report(w.engine, w.now_us, d.sequence, &moved), -LCPFS_E_INVALID);
	check_conservation(&w);
	world_done(&w);
}

static void idle_partitions_may_always_give(void **state)
{
	struct world w;

	(void)state;
	world_init(&w, 44000, LCPFS_ENGINE_ON, 14);
	world_add(&w, 11000, (struct load){.live = 10000, .writes_s = 5000, .copies = 1, .noise = 0.02});
	world_add(&w, 33000, (struct load){.live = 10000});
	world_run(&w, 300);
	assert_true(w.size[0] > 20000);
	assert_true(w.size[1] >= 10000 + STEP);
	world_done(&w);
}

/* ---- records ---- */

static void every_decision_follows_from_its_record(void **state)
{
	struct world w;
	struct lcpfs_engine_decision d[100], off;
	size_t n, moves = 0;

	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 15);
	world_run(&w, 200);
	n = lcpfs_engine_get_decisions(w.engine, d, 100);
	for (size_t i = 0; i < n; i++) {
		assert_true(lcpfs_engine_decision_holds(&d[i]));
		if (d[i].action != LCPFS_ENGINE_MOVE || d[i].reason == LCPFS_ENGINE_UNDO)
			continue;
		moves++;
		off = d[i];
		off.to.cleaning_cost *= 1.001; /* a record that was tampered with does not hold */
		assert_false(lcpfs_engine_decision_holds(&off));
	}
	assert_true(moves >= 2);
	world_done(&w);
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

static void explaining_changes_nothing(void **state)
{
	struct world a, b;
	struct lcpfs_engine_decision d;

	(void)state;
	world_hot_and_cold(&a, LCPFS_ENGINE_ON, 17);
	world_hot_and_cold(&b, LCPFS_ENGINE_ON, 17);
	for (int t = 0; t < 100; t++) {
		double gain, error;
		bool should;
		world_run(&a, 1);
		world_run(&b, 1);
		lcpfs_engine_explain(b.engine, b.id[t % 2], &d);
		assert_int_equal(lcpfs_engine_should_move(b.engine, b.id[t % 2], &should), 0);
		assert_int_equal(lcpfs_engine_expected_gain(b.engine, b.id[0], 100, &gain, &error), 0);
		assert_true(gain >= 0 && error >= 0);
		assert_int_equal(lcpfs_engine_expected_gain(b.engine, b.id[0], -100, &gain, &error), 0);
		assert_true(gain <= 0);
	}
	assert_true(a.moves > 0);
	assert_memory_equal(a.size, b.size, sizeof(a.size));
	world_done(&a);
	world_done(&b);
}

static void same_inputs_give_the_same_decisions(void **state)
{
	struct world a, b;
	struct lcpfs_engine_decision da[100], db[100];
	size_t n;

	(void)state;
	world_hot_and_cold(&a, LCPFS_ENGINE_ON, 18);
	world_hot_and_cold(&b, LCPFS_ENGINE_ON, 18);
	world_run(&a, 200);
	world_run(&b, 200);
	n = lcpfs_engine_get_decisions(a.engine, da, 100);
	assert_int_equal(lcpfs_engine_get_decisions(b.engine, db, 100), n);
	assert_memory_equal(da, db, n * sizeof(da[0]));
	world_done(&a);
	world_done(&b);
}

/* ---- across restarts ---- */

static void what_was_learned_survives_a_restart(void **state)
{
	static uint8_t bytes[65536], again[65536];
	struct world a, b;
	struct lcpfs_engine_statistics sa, sb;
	struct lcpfs_engine_outcome oa[100], ob[100];
	size_t length, n;

	(void)state;
	world_hot_and_cold(&a, LCPFS_ENGINE_ON, 19);
	world_run(&a, 200);
	length = lcpfs_engine_save(a.engine, bytes, sizeof(bytes));
	assert_true(length <= sizeof(bytes));
	world_hot_and_cold(&b, LCPFS_ENGINE_ON, 19);
	lcpfs_engine_resized(b.engine, 2, 0, a.size[1], LCPFS_ENGINE_BY_HAND);
	lcpfs_engine_resized(b.engine, 1, 0, a.size[0], LCPFS_ENGINE_BY_HAND);
	assert_int_equal(lcpfs_engine_load(b.engine, bytes, length), 0);
	lcpfs_engine_get_statistics(a.engine, &sa);
	lcpfs_engine_get_statistics(b.engine, &sb);
	assert_memory_equal(&sa.pressure, &sb.pressure, sizeof(sa.pressure));
	assert_memory_equal(&sa.cooldown_s, &sb.cooldown_s, sizeof(sa.cooldown_s));
	assert_memory_equal(&sa.growth_step, &sb.growth_step, sizeof(sa.growth_step));
	assert_memory_equal(&sa.shrink_step, &sb.shrink_step, sizeof(sa.shrink_step));
	assert_int_equal(sa.improved, sb.improved);
	n = lcpfs_engine_get_outcomes(a.engine, oa, 100);
	assert_int_equal(lcpfs_engine_get_outcomes(b.engine, ob, 100), n);
	assert_true(n > 0);
	for (size_t i = 0; i < n; i++) {
		assert_int_equal(oa[i].sequence, ob[i].sequence);
		assert_true(oa[i].epsilon_after == ob[i].epsilon_after);
		assert_int_equal(oa[i].verdict, ob[i].verdict);
		assert_int_equal(oa[i].taken_us, ob[i].taken_us);
	}
	assert_int_equal(lcpfs_engine_save(b.engine, again, sizeof(again)), length);
	world_done(&a);
	world_done(&b);
}

static void a_restart_midway_ends_where_an_uninterrupted_run_ends(void **state)
{
	static uint8_t bytes[65536];
	struct world a, b, c;
	size_t length;

	(void)state;
	world_hot_and_cold(&a, LCPFS_ENGINE_ON, 20);
	world_run(&a, 30);
	length = lcpfs_engine_save(a.engine, bytes, sizeof(bytes));
	b = a;
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

static void a_full_engine_fits_its_room(void **state)
{
	struct world w;
	struct lcpfs_engine_spec spec = {.size_blocks = STEP, .max_size_blocks = 10 * STEP};

	(void)state;
	world_init(&w, 1000 * STEP, LCPFS_ENGINE_ON, 1);
	for (int i = 0; i < 256; i++)
		assert_int_equal(lcpfs_engine_add(w.engine, &spec, NULL), 0);
	/* 100 outcomes of 152 bytes come on top */
	assert_true(lcpfs_engine_save(w.engine, NULL, 0) + 100 * 152 <= 65536);
	world_done(&w);
}

static void damaged_state_is_refused_whole(void **state)
{
	static uint8_t bytes[65536], copy[65536];
	struct world w;
	size_t length;
	struct lcpfs_engine_statistics before, after;

	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 21);
	world_run(&w, 100);
	length = lcpfs_engine_save(w.engine, bytes, sizeof(bytes));
	lcpfs_engine_get_statistics(w.engine, &before);
	for (size_t i = 0; i < length; i++) {
		memcpy(copy, bytes, length);
		copy[i] ^= 0x40;
		assert_true(lcpfs_engine_load(w.engine, copy, length) < 0);
	}
	for (size_t cut = 0; cut < length; cut++)
		assert_int_equal(lcpfs_engine_load(w.engine, bytes, cut), -LCPFS_E_CORRUPT);
	memcpy(copy, bytes, length);
	copy[8] = 2;
	assert_int_equal(lcpfs_engine_load(w.engine, copy, length), -LCPFS_E_VERSION);
	lcpfs_engine_get_statistics(w.engine, &after);
	assert_memory_equal(&before.pressure, &after.pressure, sizeof(before.pressure));
	assert_int_equal(lcpfs_engine_load(w.engine, bytes, length), 0);
	world_done(&w);
}

static uint64_t fnv1a(const uint8_t *bytes, size_t length)
{
	uint64_t hash = 0xcbf29ce484222325u;

	for (size_t i = 0; i < length; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3u;
	return hash;
}

static void check_finite(struct world *w);

/* Nonsense under a valid checksum: refused or left out, never a number that is none. */
static void forged_state_does_no_harm(void **state)
{
	static uint8_t bytes[65536], copy[65536];
	struct world w;
	size_t length;

	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 22);
	world_run(&w, 100);
	length = lcpfs_engine_save(w.engine, bytes, sizeof(bytes));
	for (int i = 0; i < 2000; i++) {
		uint64_t hash;
		memcpy(copy, bytes, length);
		for (int k = 0; k < 8; k++) {
			size_t at = 24 + (size_t)(uniform01(&w) * (double)(length - 24)) / 8 * 8;
			memset(copy + at, uniform01(&w) < 0.5 ? 0xff : (int)(uniform01(&w) * 256), 8);
		}
		hash = fnv1a(copy + 24, length - 24);
		for (int k = 0; k < 8; k++)
			copy[16 + k] = (uint8_t)(hash >> 8 * k);
		(void)!lcpfs_engine_load(w.engine, copy, length);
		world_run(&w, 2);
		check_finite(&w);
		check_conservation(&w);
	}
	world_done(&w);
}

/* ---- hostile input ---- */

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
	size_t n = lcpfs_engine_get_partitions(w->engine, list, WORLD_MAX);
	double epsilon;

	for (size_t i = 0; i < n && i < WORLD_MAX; i++) {
		double gain, error;
		assert_true(isfinite(list[i].access_frequency) && isfinite(list[i].avg_latency_us));
		assert_true(isfinite(list[i].epsilon) && isfinite(list[i].best_size_blocks));
		assert_true(list[i].utilization >= 0 && list[i].utilization <= 1);
		assert_int_equal(lcpfs_engine_expected_gain(w->engine, list[i].id, 1000, &gain, &error), 0);
		assert_true(isfinite(gain) && isfinite(error));
		assert_int_equal(lcpfs_engine_explain(w->engine, list[i].id, &d), 0);
		assert_true(isfinite(d.expected_gain) && isfinite(d.expected_saving_blocks_s));
	}
	lcpfs_engine_get_statistics(w->engine, &s);
	assert_true(isfinite(s.epsilon) && isfinite(s.pressure.value) && isfinite(s.growth_step.value));
	lcpfs_engine_update_epsilon(w->engine, 0, &epsilon);
	assert_true(isfinite(epsilon));
}

static void hostile_act(struct world *w, uint32_t id)
{
	struct lcpfs_engine_counters c = {
		hostile_u64(w), hostile_u64(w), hostile(w),     hostile(w),
		hostile_u64(w), hostile_u64(w), hostile_u64(w), hostile_u64(w),
	};
	struct lcpfs_engine_spec spec = {.size_blocks = hostile_u64(w) % 5000,
					 .min_size_blocks = hostile_u64(w) % 2000,
					 .max_size_blocks = hostile_u64(w)};
	double pick = uniform01(w);
	int refused;

	if (pick < 0.05)
		refused = lcpfs_engine_add(w->engine, &spec, NULL);
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

static void any_input_leaves_sizes_conserved_and_numbers_finite(void **state)
{
	(void)state;
	for (uint64_t seed = 1; seed <= 30; seed++) {
		struct world w;
		struct lcpfs_engine_statistics s;
		struct lcpfs_engine_partition list[64];
		world_init(&w, 50000, LCPFS_ENGINE_ON, seed);
		for (int i = 0; i < 1000; i++) {
			struct lcpfs_engine_decision d;
			uint64_t sum = 0;
			size_t n;
			hostile_act(&w, 1 + (uint32_t)(uniform01(&w) * 12));
			lcpfs_engine_decide(w.engine, hostile_u64(&w), &d);
			if (d.action == LCPFS_ENGINE_MOVE && uniform01(&w) < 0.9)
				(void)!lcpfs_engine_report(
					w.engine, hostile_u64(&w), d.sequence,
					&(struct lcpfs_engine_moved){hostile_u64(&w) % (d.blocks + 2),
								     hostile_u64(&w), hostile_u64(&w)});
			n = lcpfs_engine_get_partitions(w.engine, list, 64);
			for (size_t k = 0; k < n; k++)
				sum += list[k].size_blocks;
			lcpfs_engine_get_statistics(w.engine, &s);
			assert_int_equal(sum + s.free_blocks, 50000);
			if (i % 100 == 0 && n <= WORLD_MAX)
				check_finite(&w);
		}
		world_done(&w);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(starts_from_nothing_with_one_step),
		cmocka_unit_test(hot_partition_reaches_the_best_split_within_a_minute),
		cmocka_unit_test(wrong_priors_end_at_the_same_split),
		cmocka_unit_test(learns_from_what_came_of_it),
		cmocka_unit_test(judges_at_constant_demand),
		cmocka_unit_test(space_goes_where_it_gains_most),
		cmocka_unit_test(a_log_gives_its_space_away),
		cmocka_unit_test(free_space_is_put_to_use_and_called_back),
		cmocka_unit_test(a_move_that_hurts_is_taken_back),
		cmocka_unit_test(partitions_at_their_max_poison_nothing),
		cmocka_unit_test(nothing_to_gain_means_staying_put),
		cmocka_unit_test(pure_noise_moves_nothing),
		cmocka_unit_test(promises_that_are_not_kept_stop_the_exploring),
		cmocka_unit_test(ids_are_never_reused),
		cmocka_unit_test(impossible_partitions_are_refused),
		cmocka_unit_test(first_cooldown_is_not_waited_for),
		cmocka_unit_test(emergencies_are_not_outcomes),
		cmocka_unit_test(observe_moves_nothing_and_says_what_it_would),
		cmocka_unit_test(off_decides_nothing),
		cmocka_unit_test(a_refusal_is_remembered),
		cmocka_unit_test(only_the_move_handed_out_can_be_reported_once),
		cmocka_unit_test(idle_partitions_may_always_give),
		cmocka_unit_test(every_decision_follows_from_its_record),
		cmocka_unit_test(every_answer_has_words_and_a_name),
		cmocka_unit_test(explaining_changes_nothing),
		cmocka_unit_test(same_inputs_give_the_same_decisions),
		cmocka_unit_test(what_was_learned_survives_a_restart),
		cmocka_unit_test(a_restart_midway_ends_where_an_uninterrupted_run_ends),
		cmocka_unit_test(a_full_engine_fits_its_room),
		cmocka_unit_test(damaged_state_is_refused_whole),
		cmocka_unit_test(forged_state_does_no_harm),
		cmocka_unit_test(any_input_leaves_sizes_conserved_and_numbers_finite),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
