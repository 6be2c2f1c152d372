/* SPDX-License-Identifier: Apache-2.0 */
/* The arithmetic of the engine, against numbers worked out elsewhere. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include <lcpfs/engine.h>

#include "engine/curve.h"
#include "engine/core.h"
#include "engine/demand.h"
#include "engine/formula.h"
#include "engine/window.h"

static void assert_near(double a, double b, double relative)
{
	if (!(fabs(a - b) <= relative * fmax(fabs(a), fabs(b)) + 1e-300))
		fail_msg("%.12g is not %.12g within %g", a, b, relative);
}

static void pressure_is_utilization_times_frequency_over_headroom(void **state)
{
	(void)state;
	assert_near(lcpfs_engine_pressure(0.8, 1000, 500, 1000), 0.8 * 1000 / 0.5, 1e-12);
	assert_near(lcpfs_engine_pressure(0.5, 10, 0, 1000), 5, 1e-12);
	assert_true(isinf(lcpfs_engine_pressure(0.8, 1000, 991, 1000))); /* headroom 0.9 % */
	assert_false(isinf(lcpfs_engine_pressure(0.8, 1000, 990, 1000)));
	assert_true(isinf(lcpfs_engine_pressure(0.8, 1000, 2000, 1000)));
	assert_near(lcpfs_engine_epsilon(250, 0.8, 1000), 200000, 1e-12);
}

/* α/(α + W0(−α·e^(−α))), W0 from bisection in 50 digits: alpha 1.1, 1.2, 1.25, 1.5, 2, 3 */
static double uniform_wa(double live, double spare)
{
	return 1 + engine_uniform_copies(spare / live);
}

static void uniform_wa_is_lambert(void **state)
{
	(void)state;
	for (double spare = 0.001; spare < 5; spare *= 1.3) {
		double wa = uniform_wa(1, spare), alpha = 1 + spare;
		double w = alpha / wa - alpha; /* W0 */
		/* w·e^w = −α·e^(−α), on the branch above −1 */
		assert_near(w * exp(w), -alpha * exp(-alpha), 1e-9);
		assert_true(w > -1 && w < 0);
	}
	assert_near(uniform_wa(1, 0.02), 0.5 + 1 / 0.04, 0.02);
	assert_near(uniform_wa(1, 1e9), 1, 1e-12);
	assert_true(isfinite(uniform_wa(1, 0)));
	assert_true(isfinite(uniform_wa(1, -5)));
	assert_true(isfinite(uniform_wa(NAN, NAN)));
}

/* DESIGN, point 4: 80/20 at 10 % spare costs 5.68 split by size, 5.70 with s ∝ f, 3.89 at s ∝ sqrt(f·U). */
static void known_splits_cost_what_is_known(void **state)
{
	(void)state;
	assert_near(0.8 * uniform_wa(0.2, 0.02) + 0.2 * uniform_wa(0.8, 0.08), 5.68,
		    0.002);
	assert_near(0.8 * uniform_wa(0.2, 0.08) + 0.2 * uniform_wa(0.8, 0.02), 5.70,
		    0.005);
	assert_near(0.8 * uniform_wa(0.2, 0.05) + 0.2 * uniform_wa(0.8, 0.05), 3.89,
		    0.002);
}

/* Tables of Student's t. */
static void t_quantiles_match_the_tables(void **state)
{
	(void)state;
	assert_near(engine_t_quantile(0.05, 1e9), 1.6449, 1e-4);
	assert_near(engine_t_quantile(0.025, 1e9), 1.9600, 1e-4);
	assert_near(engine_t_quantile(0.05, 3), 2.3534, 0.01);
	assert_near(engine_t_quantile(0.05, 10), 1.8125, 1e-3);
	assert_near(engine_t_quantile(0.01, 15), 2.6025, 2e-3);
}

static void threshold_starts_uninformed(void **state)
{
	struct lcpfs_engine_threshold t;
	(void)state;
	lcpfs_engine_threshold_init(&t, 100);
	assert_near(t.value, 100, 0);
	assert_int_equal(t.observations, 0);
	assert_near(t.learning_rate, 1, 0);
	assert_true(isinf(t.uncertainty) && isinf(t.variance));
	assert_near(lcpfs_engine_threshold_confidence(&t), 0, 0);
	assert_false(lcpfs_engine_threshold_should_act(&t, 1e9, 1e9));
}

static void threshold_arithmetic(void **state)
{
	struct lcpfs_engine_threshold t;
	double rate1 = 1 / 1.1, rate2 = 1 / (1 + 0.1 * sqrt(2)), value;
	(void)state;
	lcpfs_engine_threshold_init(&t, 100);
	assert_true(lcpfs_engine_threshold_observe(&t, 200, -4)); /* rate 1: all the way */
	assert_near(t.value, 200, 1e-12);
	assert_near(t.learning_rate, rate1, 1e-12);
	assert_true(isinf(t.uncertainty));
	assert_true(lcpfs_engine_threshold_observe(&t, 300, -8));
	value = 200 + 100 * rate1;
	assert_near(t.value, value, 1e-12);
	assert_near(t.mean_outcome, -6, 1e-12);
	assert_near(t.variance, 8, 1e-12);
	assert_near(t.uncertainty, 2, 1e-12);
	assert_near(t.learning_rate, rate2, 1e-12);
	assert_true(lcpfs_engine_threshold_observe(&t, 295, 6)); /* hurt: half as far, away from it */
	assert_near(t.value, value - (295 - value) * rate2 / 2, 1e-12);
	assert_near(t.mean_outcome, -2, 1e-12);
	assert_near(t.variance, ((-4 + 2) * (-4 + 2) + (-8 + 2) * (-8 + 2) + 64) / 2.0, 1e-12);
	assert_near(lcpfs_engine_threshold_confidence(&t), (1 - 1 / 1.03) / (1 + t.uncertainty / 2), 1e-12);
	assert_true(lcpfs_engine_threshold_should_act(&t, t.value, t.uncertainty * 1.01));
	assert_false(lcpfs_engine_threshold_should_act(&t, t.value, t.uncertainty * 0.99));
	assert_false(lcpfs_engine_threshold_should_act(&t, t.value * 0.99, 1e9));
}

/* Else it would be 0 wherever many operations are waited for. */
static void confidence_does_not_depend_on_the_unit_of_epsilon(void **state)
{
	struct lcpfs_engine_threshold t, same, thousand;
	(void)state;
	lcpfs_engine_threshold_init(&t, 100);
	lcpfs_engine_threshold_init(&same, 100);
	lcpfs_engine_threshold_init(&thousand, 100);
	for (int i = 0; i < 50; i++) {
		lcpfs_engine_threshold_observe(&t, 100 + i, -3 - i % 5);
		lcpfs_engine_threshold_observe(&thousand, 100 + i, 1000 * (-3 - i % 5));
		lcpfs_engine_threshold_observe(&same, 100 + i, 0);
	}
	assert_true(lcpfs_engine_threshold_confidence(&t) > 0.3);
	assert_near(lcpfs_engine_threshold_confidence(&t), lcpfs_engine_threshold_confidence(&thousand), 1e-12);
	assert_near(lcpfs_engine_threshold_confidence(&same), 0, 0);
}

/* Point 6: infinity is not learned, and what is learned stays in the range of what was seen. */
static void threshold_learns_only_finite_things_and_stays_in_range(void **state)
{
	struct lcpfs_engine_threshold t;
	(void)state;
	lcpfs_engine_threshold_init(&t, 100);
	assert_false(lcpfs_engine_threshold_observe(&t, INFINITY, -1));
	assert_false(lcpfs_engine_threshold_observe(&t, 50, NAN));
	assert_int_equal(t.observations, 0);
	for (int i = 0; i < 1000; i++) {
		double action = 40 + i % 7, change = i % 3 ? 5.0 : -5.0;
		assert_true(lcpfs_engine_threshold_observe(&t, action, change));
		assert_true(t.value >= 40 && t.value <= 46);
	}
}

static void window_gives_ratio_and_its_error(void **state)
{
	struct engine_window w;
	(void)state;
	engine_window_reset(&w);
	for (int i = 0; i < 3; i++)
		engine_window_add(&w, &(struct engine_batch){.ops = 10, .latency_us = 100, .work = 10}, 1000);
	assert_false(engine_window_ready(&w));
	assert_true(isinf(engine_window_latency(&w).error));
	engine_window_add(&w, &(struct engine_batch){.ops = 10, .latency_us = 140, .work = 10}, 1000);
	assert_true(engine_window_ready(&w));
	struct engine_mean mean = engine_window_latency(&w);
	assert_near(mean.value, 11, 1e-12);
	/* offs −10, −10, −10, +30 around 110: s² = 1200/3 = 400; error = sqrt(400/4)/10 = 1 */
	assert_near(mean.error, 1, 1e-12);
	assert_near(mean.freedom, 3, 0);
}

static void window_spans_two_turnovers_and_forgets(void **state)
{
	struct engine_window w;
	(void)state;
	engine_window_reset(&w);
	for (int i = 0; i < 10000; i++) {
		double latency = i < 5000 ? 1 : 2;
		engine_window_add(&w, &(struct engine_batch){.ops = 1, .latency_us = latency, .work = 1}, 400);
		assert_true(w.count <= ENGINE_BATCHES_MAX);
	}
	assert_near(engine_window_latency(&w).value, 2, 0);
	assert_true(engine_window_sum(&w).work >= 800 && engine_window_sum(&w).work <= 1700);
}

/* Batch means hold for what hangs together in time: a slow wave must not look surer than it is. */
static void window_error_covers_autocorrelation(void **state)
{
	uint64_t seed = 12345;
	int outside = 0;
	(void)state;
	for (int run = 0; run < 400; run++) {
		struct engine_window w;
		double wave = 0;
		engine_window_reset(&w);
		for (int i = 0; i < 1600; i++) {
			seed = seed * 6364136223846793005u + 1442695040888963407u;
			wave = 0.9 * wave + ((double)(seed >> 11) / 9007199254740992.0 - 0.5);
			engine_window_add(&w, &(struct engine_batch){.ops = 1, .latency_us = 10 + wave, .work = 1},
					  1e9);
		}
		struct engine_mean mean = engine_window_latency(&w);
		outside += fabs(mean.value - 10) > engine_t_quantile(0.025, mean.freedom) * mean.error;
	}
	assert_true(outside <=
		    400 * 0.09); /* 5 % plus what 32 batches of 50 leave uncovered; naive would give 60 % */
}

static const struct lcpfs_engine_priors priors = {
	.curve_level = 1, .curve_power = 0.25, .curve_scatter = 0.05, .kept = 0.5};

static struct engine_fit fit_at(const struct engine_curve *curve, const struct engine_point *current, double live,
				double spare)
{
	return engine_curve_fit(curve, current, &priors, &(struct engine_space){live, live + spare, 0});
}

static struct engine_point point(double live, double spare, double copies)
{
	struct engine_point p;
	assert_true(
		engine_point_of(&p, &(struct engine_space){live, live + spare, 0}, copies, copies * 0.001, 1e6));
	return p;
}

static void curve_without_points_is_uniform(void **state)
{
	struct engine_curve curve = {.count = 0};
	struct engine_fit fit = fit_at(&curve, NULL, 1000, 100);
	(void)state;
	assert_near(fit.copies, uniform_wa(1000, 100) - 1, 1e-9);
	assert_near(fit.power, 1, 1e-9);
	assert_near(fit.copies_error, 1, 1e-9);
}

static void curve_believes_measurement_over_formula(void **state)
{
	struct engine_curve curve = {.count = 0};
	double at[] = {50, 80, 130, 200, 320};
	(void)state;
	for (size_t i = 0; i < 5; i++) {
		double uniform = uniform_wa(1000, at[i]) - 1;
		struct engine_point p = point(1000, at[i], 0.4 * pow(uniform, 0.6));
		engine_curve_keep(&curve, &p);
	}
	struct engine_fit fit = fit_at(&curve, NULL, 1000, 100);
	assert_near(fit.copies, 0.4 * pow(uniform_wa(1000, 100) - 1, 0.6), 0.03);
	assert_near(fit.power, 0.6, 0.08);
	assert_true(fit.power_error < 0.1);
}

static void curve_of_a_log_is_flat_and_near_zero(void **state)
{
	struct engine_curve curve = {.count = 0};
	struct engine_space space = {1000, 1100, 0};
	struct engine_point none;
	(void)state;
	assert_true(engine_point_of(&none, &space, 0, 0, 100000));
	assert_true(fit_at(&curve, &none, 1000, 100).copies < 1e-2);
	assert_false(engine_point_of(&none, &space, NAN, 0, 1));
	assert_false(engine_point_of(&none, &space, 1, 0, 0));
}

/* Of what the store may keep for itself, as much is believed to be kept as makes the points fit the formula. */
static void curve_learns_what_the_store_keeps(void **state)
{
	const double shares[] = {0.1, 0.9}, at[] = {150, 200, 280, 400};
	double kept[2];
	(void)state;
	for (int k = 0; k < 2; k++) {
		struct engine_curve curve = {.count = 0};
		for (int i = 0; i < 4; i++) {
			double copies = uniform_wa(1000, at[i] - shares[k] * 100) - 1;
			struct engine_point p = point(1000, at[i], copies);
			engine_curve_keep(&curve, &p);
		}
		kept[k] = engine_curve_fit(&curve, NULL, &priors, &(struct engine_space){1000, 1200, 100}).kept;
	}
	assert_true(kept[0] < 30 && kept[1] > 70);
}

/* Who would lose beyond all numbers must not pass for one who loses nothing. */
static void a_loss_beyond_all_numbers_is_not_none(void **state)
{
	struct lcpfs_engine_side side = {.id = 1,
					 .size_blocks = 1001,
					 .live_blocks = 1000,
					 .access_frequency = 1,
					 .avg_latency_us = 1,
					 .write_share = 1,
					 .cleaning_cost = 1,
					 .uniform_copies = 1e-3,
					 .curve_power = 1000};
	(void)state;
	assert_true(engine_weigh_fall(&side, -1) < -1e300);
	assert_true(isfinite(engine_weigh_fall(&side, -1)) && isfinite(engine_weigh_fall(&side, 1)));
}

/* However sure a prior is of the formula: a log that copies nothing copies nothing. */
static void a_narrow_prior_gives_way_to_what_is_measured(void **state)
{
	struct lcpfs_engine_priors narrow = priors;
	struct engine_space space = {1000, 1200, 0};
	struct engine_curve curve = {.count = 0};
	struct engine_point none;
	(void)state;
	narrow.curve_level = 0.05;
	assert_true(engine_point_of(&none, &space, 0, 0, 10000));
	assert_true(engine_curve_fit(&curve, &none, &narrow, &space).copies < 0.01);
}

/*
 * Two sizes so near one another that noise alone makes the larger one copy more: this does not say that spare is
 * worth nothing, by a prior that lets it.
 */
static void noise_does_not_make_a_curve_flat(void **state)
{
	struct lcpfs_engine_priors wide = priors;
	struct engine_space space = {1000, 1062, 0};
	struct engine_curve curve = {.count = 0};
	struct engine_point here, before;
	(void)state;
	wide.curve_power = 2.5;
	assert_near(engine_curve_fit(&curve, NULL, &wide, &space).power, 1, 1e-9);
	assert_true(engine_point_of(&before, &(struct engine_space){1000, 1060, 0}, 17.5, 1.5, 1e6));
	assert_true(engine_point_of(&here, &space, 19, 1.5, 1e6));
	engine_curve_keep(&curve, &before);
	struct engine_fit fit = engine_curve_fit(&curve, &here, &wide, &space);
	assert_true(fit.power > 0.5 && fit.power < 1 && fit.power_error > 0.4 && fit.power_error < 0.6);
	/* nor does it say that it is worth beyond all measure, by any prior */
	assert_true(engine_point_of(&here, &space, 9, 0.5, 1e6));
	fit = engine_curve_fit(&curve, &here, &wide, &space);
	assert_true(fit.power > 1 && fit.power <= 2);
	wide.curve_power = 1e30;
	fit = engine_curve_fit(&curve, &here, &wide, &space);
	assert_true(fit.power > 1 && fit.power <= 2);
}

static void a_latency_is_as_sure_as_its_samples_are_alike(void **state)
{
	const struct engine_batch steady = {.ops = 10, .latency_us = 1000};
	const struct engine_batch twice = {.ops = 10, .latency_us = 2000};
	struct engine_demand d = {0};
	(void)state;
	assert_near(engine_demand_latency_error(&d, 1), 1, 1e-9);
	for (int i = 0; i < 99; i++)
		engine_demand_add(&d, &steady, 1, 0);
	assert_near(engine_demand_latency_error(&d, 1), 0.01, 1e-9);
	assert_near(engine_demand_latency_error(&d, 10), 0.1, 1e-9);
	for (int i = 0; i < 99; i++)
		engine_demand_add(&d, &twice, 1, 0);
	assert_true(engine_demand_latency_error(&d, 1) > 0.02);
}

static void demand_forgets_with_the_pools_turnover(void **state)
{
	const struct engine_batch busy = {.ops = 1000, .user = 500}, calm = {.ops = 100, .user = 50};
	struct engine_demand d = {0};
	(void)state;
	for (int i = 0; i < 100; i++)
		engine_demand_add(&d, &busy, 1, 0.01);
	assert_near(engine_demand_rate(&d.memory[0], d.memory[0].ops), 1000, 1e-9);
	assert_near(engine_demand_rate(&d.memory[0], d.memory[0].user), 500, 1e-9);
	for (int i = 0; i < 300; i++)
		engine_demand_add(&d, &calm, 1, 0.01);
	assert_near(engine_demand_rate(&d.memory[0], d.memory[0].ops),
		    100 + 900 * exp(-3) * (1 - exp(-1)) / (1 - exp(-4)), 0.05);
	assert_true(engine_demand_error(&d) > 0);
}

/* Two partitions during a turnover of the pool; `share` of the operations are the first one's. */
static void turn(struct engine_foresight *f, struct engine_demand *d, double share)
{
	unsigned ended = f->turn;
	for (int i = 0; i < 20; i++) {
		struct engine_batch batch = {.ops = 50 * (i % 2 ? share : 1 - share), .user = 1};
		engine_foresight_add(f, batch.ops, 0.05);
		engine_demand_add(&d[!(i % 2)], &batch, 1, 0.1); /* since it was there last */
		engine_foresight_replace(f, &d[!(i % 2)], false);
	}
	engine_foresight_round(f);
	assert_int_equal(f->turn, ended + 1);
	for (int i = 0; i < 4; i++) /* once each */
		engine_foresight_judge(f, &d[i % 2]);
	engine_foresight_round(f);
}

static double square_wave(int turnover, int period)
{
	return turnover % period < period / 2 ? 0.9 : 0.1;
}

/* What swings faster than a move could follow is the same on average; what changes slowly is followed. */
static void the_memory_that_foretells_best_is_believed(void **state)
{
	for (int period = 2; period <= 128; period *= 2) {
		struct engine_foresight f = {.quantile = 1.645};
		struct engine_demand d[2] = {{.squares = 0}};
		int longer = 0;
		(void)state;
		for (int t = 0; t < 400; t++) {
			turn(&f, d, square_wave(t, period));
			longer += t >= 272 && ldexp(1, f.best) >= period;
		}
		if (period <= 8)
			assert_true(longer > 120); /* of 128 */
		if (period >= 32)
			assert_int_equal(longer, 0);
	}
}

static void a_change_is_noticed_at_once(void **state)
{
	struct engine_foresight f = {.quantile = 1.645};
	struct engine_demand d[2] = {{.squares = 0}};
	(void)state;
	for (int t = 0; t < 100; t++)
		turn(&f, d, 0.5 + 0.05 * (t % 2 ? 1 : -1));
	assert_true(ldexp(1, f.best) >= 2);
	turn(&f, d, 0.9);
	assert_near(ldexp(1, f.best), 1, 0);
	for (int i = 0; i < 2; i++)
		engine_foresight_replace(&f, &d[i], true);
	for (int i = 0; i < ENGINE_MEMORIES; i++)
		assert_true(f.apart[i] < 1e-12); /* who is gone does not count */
}

/* ---- the whole of it, from inside ---- */

/* Three partitions, the third the busiest; each update is a twentieth of a turnover. */
static void busy_core(struct engine_core *core)
{
	struct lcpfs_engine_options options = {.pool_blocks = 30000, .step_blocks = 64, .mode = LCPFS_ENGINE_ON};
	struct lcpfs_engine_counters c[3] = {{.read_ops = 0}};
	struct lcpfs_engine_decision d;
	assert_int_equal(engine_core_init(core, &options), 0);
	for (int i = 0; i < 3; i++) {
		struct lcpfs_engine_spec spec = {
			.size_blocks = 9000, .min_size_blocks = 64, .max_size_blocks = 30000};
		assert_int_equal(engine_input_add(core, &spec), 0);
	}
	for (uint64_t t = 1; t <= 600; t++) {
		engine_core_time(core, t * 1000000);
		for (unsigned i = 0; i < 3; i++) {
			uint64_t writes = 200u << 2 * i;
			c[i].write_ops += writes + 7 * (t % 5);
			c[i].user_blocks += writes;
			c[i].device_blocks += writes;
			c[i].live_blocks = 8000;
			assert_int_equal(engine_input_update(core, i + 1, &c[i]), 0);
		}
		engine_decide(core, &d);
		core->carrying = false;
	}
}

static void assert_shares_add_up(const struct engine_core *core)
{
	for (int m = 0; m < ENGINE_MEMORIES; m++) {
		double ops = 0;
		for (size_t i = 0; i < core->count; i++)
			ops += core->partitions[i]->demand.memory[m].ops;
		/* each fades when it is updated, a seventh of a turnover apart */
		assert_true(fabs(ops / core->foresight.ops[m] - 1) < 0.2);
	}
}

static void the_pools_demand_is_that_of_its_partitions(void **state)
{
	static uint8_t bytes[1 << 16];
	struct engine_core core, again;
	(void)state;
	busy_core(&core);
	assert_shares_add_up(&core);
	size_t length = engine_state_save(&core, bytes, sizeof(bytes));
	assert_int_equal(engine_input_remove(&core, 3), 0);
	assert_shares_add_up(&core);
	busy_core(&again);
	assert_int_equal(engine_state_load(&again, bytes, length), 0);
	assert_shares_add_up(&again);
	engine_core_done(&core);
	engine_core_done(&again);
}

/* A refusal whose time is over does not come back with a restart, and one that stands goes on standing. */
static void a_barrier_stands_as_long_after_a_restart(void **state)
{
	static uint8_t bytes[1 << 16];
	struct engine_core core, again;
	size_t length;
	(void)state;
	for (int over = 0; over < 2; over++) {
		busy_core(&core);
		engine_barrier_set(&core, &core.partitions[0]->refused, 9000);
		core.work += over ? 30000 : 20000;
		length = engine_state_save(&core, bytes, sizeof(bytes));
		busy_core(&again);
		assert_int_equal(engine_state_load(&again, bytes, length), 0);
		assert_int_equal(engine_barrier_floor(&again, &again.partitions[0]->refused), over ? 0 : 9000);
		again.work += 11000;
		assert_int_equal(engine_barrier_floor(&again, &again.partitions[0]->refused), 0);
		engine_core_done(&core);
		engine_core_done(&again);
	}
}

/* Of a pool that had more partitions once: there has to be room for one more for each receiver. */
static void no_more_verdicts_are_awaited_than_there_is_room_for(void **state)
{
	static uint8_t bytes[1 << 16];
	(void)state;
	for (int over = 0; over < 2; over++) {
		struct engine_core core, again;
		busy_core(&core);
		for (size_t n = core.room + over; core.pending_count < n; core.pending_count++) {
			bool last = core.pending_count + 1 == n;
			struct lcpfs_engine_outcome o = {
				.to_id = 1, .to_new_blocks = core.partitions[0]->size, .joined = !last};
			o.expected_gain = 1;
			core.pending[core.pending_count] = (struct engine_pending){.outcome = o};
		}
		core.partitions[0]->awaited = true;
		size_t length = engine_state_save(&core, bytes, sizeof(bytes));
		busy_core(&again);
		assert_int_equal(engine_state_load(&again, bytes, length), 0);
		assert_int_equal(again.pending_count, over ? 0 : again.room);
		assert_int_equal(again.partitions[0]->awaited, !over);
		engine_core_done(&core);
		engine_core_done(&again);
	}
}

/* What is measured beyond the digits that are kept must not pass for a slope. */
static void a_curve_through_one_exact_point_is_finite(void **state)
{
	(void)state;
	for (double copies = 1e-3; copies < 1e16; copies *= 10) {
		struct engine_space space = {1000, 1234.5678, 30};
		struct engine_curve curve = {.count = 0};
		struct engine_point now;
		assert_true(engine_point_of(&now, &space, copies, 0, 1e9));
		struct engine_fit fit = engine_curve_fit(&curve, &now, &priors, &space);
		assert_true(isfinite(fit.copies) && isfinite(fit.copies_error) && isfinite(fit.power_error));
		assert_true(fit.power < 10);
	}
}

/* Copying far less than the formula says, it gives by little and little: but down to where it has been measured.
 */
static void what_was_measured_is_not_felt_for_again(void **state)
{
	struct engine_core core = {.options = {.pool_blocks = 100000, .step_blocks = 64, .significance = 0.05}};
	struct engine_partition p = {.size = 22000, .live = 9000, .proven_blocks = 128};
	struct lcpfs_engine_side side = {.cleaning_cost = 1e-5, .uniform_copies = 0.1, .cleaning_error = 0.5};
	(void)state;
	assert_int_equal(engine_trial_limit(&core, &p, &side), 192);
	p.curve.points[p.curve.count++].spare = 1;    /* 18000 */
	p.curve.points[p.curve.count++].spare = 0.5F; /* 13500 */
	p.curve.points[p.curve.count++].spare = 2;    /* 27000 */
	assert_int_equal(engine_trial_limit(&core, &p, &side), 8500);
	p.curve.points[0].measured = p.curve.points[1].measured = logf(2); /* copies for each block of users */
	p.demand.memory[0].user = 2001;                                    /* while the pool turns over */
	assert_int_equal(engine_trial_limit(&core, &p, &side), 8500);
	p.demand.memory[0].user = 4251; /* more than it gives: over its cliff */
	assert_int_equal(engine_trial_limit(&core, &p, &side), 192);
	p.curve.points[0].measured = -1;
	assert_int_equal(engine_trial_limit(&core, &p, &side), 4000);
	p.demand.memory[0].user = 0;
	p.hurt.size = 20000; /* where it went over its cliff it is as if it had never been there */
	assert_int_equal(engine_trial_limit(&core, &p, &side), 2000);
	p.hurt.size = 30000;
	assert_int_equal(engine_trial_limit(&core, &p, &side), 192);
	side.cleaning_cost = 0.1;
	assert_int_equal(engine_trial_limit(&core, &p, &side), 100000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(pressure_is_utilization_times_frequency_over_headroom),
		cmocka_unit_test(uniform_wa_is_lambert),
		cmocka_unit_test(known_splits_cost_what_is_known),
		cmocka_unit_test(t_quantiles_match_the_tables),
		cmocka_unit_test(threshold_starts_uninformed),
		cmocka_unit_test(threshold_arithmetic),
		cmocka_unit_test(confidence_does_not_depend_on_the_unit_of_epsilon),
		cmocka_unit_test(threshold_learns_only_finite_things_and_stays_in_range),
		cmocka_unit_test(window_gives_ratio_and_its_error),
		cmocka_unit_test(window_spans_two_turnovers_and_forgets),
		cmocka_unit_test(window_error_covers_autocorrelation),
		cmocka_unit_test(curve_without_points_is_uniform),
		cmocka_unit_test(curve_believes_measurement_over_formula),
		cmocka_unit_test(curve_of_a_log_is_flat_and_near_zero),
		cmocka_unit_test(curve_learns_what_the_store_keeps),
		cmocka_unit_test(a_loss_beyond_all_numbers_is_not_none),
		cmocka_unit_test(a_narrow_prior_gives_way_to_what_is_measured),
		cmocka_unit_test(noise_does_not_make_a_curve_flat),
		cmocka_unit_test(a_latency_is_as_sure_as_its_samples_are_alike),
		cmocka_unit_test(the_memory_that_foretells_best_is_believed),
		cmocka_unit_test(a_change_is_noticed_at_once),
		cmocka_unit_test(the_pools_demand_is_that_of_its_partitions),
		cmocka_unit_test(a_barrier_stands_as_long_after_a_restart),
		cmocka_unit_test(no_more_verdicts_are_awaited_than_there_is_room_for),
		cmocka_unit_test(a_curve_through_one_exact_point_is_finite),
		cmocka_unit_test(demand_forgets_with_the_pools_turnover),
		cmocka_unit_test(what_was_measured_is_not_felt_for_again),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
