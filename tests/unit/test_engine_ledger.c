/* SPDX-License-Identifier: Apache-2.0 */
/* What was saved against sizes left alone, and going back to those in time: the harm bound. */
#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include <cmocka.h>

#include "engine_world.h"

#define HARM 0.02

/* The same load twice, side by side: with the engine, and left alone. */
struct twins {
	struct world tuned, alone;
	double worst; /* written by the first beyond the second, relative, after a pool's size of user writes */
	double at; /* when: seconds */
	unsigned retreats;
};

static void twins_init(struct twins *t, double spare, double busy, uint64_t seed)
{
	uint64_t size = (uint64_t)(10000 * (1 + spare)) / STEP * STEP;
	*t = (struct twins){.worst = -1};
	for (int i = 0; i < 2; i++) {
		struct world *w = i ? &t->alone : &t->tuned;
		struct load load = {.live = 10000, .writes_s = 400 * busy, .copies = 1, .noise = 0.02};
		world_init(w, 2 * size, i ? LCPFS_ENGINE_OFF : LCPFS_ENGINE_ON, seed);
		world_add(w, size, load);
		load.writes_s = 400 * (1 - busy);
		world_add(w, size, load);
	}
}

static void twins_second(struct twins *t)
{
	struct world *a = &t->tuned, *b = &t->alone;
	struct lcpfs_engine_decision d;
	world_second(a);
	assert_int_equal(lcpfs_engine_step(a->engine, a->now_us, world_move, a, &d), 0);
	t->retreats += d.reason == LCPFS_ENGINE_RETREAT;
	world_second(b);
	double user = (double)(a->counters[0].user_blocks + a->counters[1].user_blocks);
	if (user < (double)(b->size[0] + b->size[1]) || a->written / b->written - 1 <= t->worst)
		return;
	t->worst = a->written / b->written - 1;
	t->at = (double)a->now_us / 1e6;
}

static void swap_loads(struct world *w)
{
	double writes = w->load[0].writes_s;
	w->load[0].writes_s = w->load[1].writes_s;
	w->load[1].writes_s = writes;
}

/* Whenever the two change places, and however little spare there is. */
static void loads_that_change_places_do_no_harm(void **state)
{
	static const double spares[] = {0.1, 0.2, 0.3}, shares[] = {0.8, 0.9, 0.95, 0.99};
	unsigned retreats = 0;
	(void)state;
	for (int k = 0; k < 3 * 4 * 12; k++) {
		double spare = spares[k % 3], busy = shares[k / 3 % 4];
		int swap = 30 + 13 * (k / 12);
		struct twins t;
		twins_init(&t, spare, busy, 100 + (uint64_t)k);
		for (int s = 0; s < swap + 150; s++) {
			if (s == swap) {
				swap_loads(&t.tuned);
				swap_loads(&t.alone);
			}
			twins_second(&t);
		}
		retreats += t.retreats;
		if (t.worst > HARM)
			fail_msg("spare %g, %g busy, after %d s: harm %.4f after %.0f s", spare, busy, swap,
				 t.worst, t.at);
		world_done(&t.tuned);
		world_done(&t.alone);
	}
	assert_true(retreats > 20);
}

/* What it says it has saved, the other wrote more; and when the curves are known, nearly all of that. */
static void what_was_saved_is_counted(void **state)
{
	struct twins t;
	struct lcpfs_engine_statistics s;
	double total, saved_before = 0, total_before = 0;
	(void)state;
	twins_init(&t, 0.1, 0.9, 7);
	for (int i = 0; i < 400; i++) {
		twins_second(&t);
		lcpfs_engine_get_statistics(t.tuned.engine, &s);
		total = t.alone.written - t.tuned.written;
		assert_true(s.saved_blocks <= total + 0.002 * t.alone.written);
		if (i == 200) {
			swap_loads(&t.tuned);
			swap_loads(&t.alone);
		}
		if (i != 300)
			continue;
		saved_before = s.saved_blocks;
		total_before = total;
	}
	assert_true(s.saved_blocks > 0.1 * t.alone.written);
	assert_true(s.saved_blocks - saved_before > 0.9 * (total - total_before));
	world_done(&t.tuned);
	world_done(&t.alone);
}

static double saved_by(struct world *w)
{
	struct lcpfs_engine_statistics s;
	lcpfs_engine_get_statistics(w->engine, &s);
	return s.saved_blocks;
}

/* Both sides of the pair, as one of them sees it. */
static uint64_t base_of(struct world *w, size_t i)
{
	struct lcpfs_engine_decision d;
	assert_int_equal(lcpfs_engine_explain(w->engine, w->id[i], &d), 0);
	return d.to.id == w->id[i] ? d.to.base_blocks : d.from.base_blocks;
}

/* It is what its user made it, and what its data made of it, and nothing else. */
static void a_base_size_follows_the_hand(void **state)
{
	struct world w;
	(void)state;
	world_init(&w, 44000, LCPFS_ENGINE_ON, 5);
	world_add(&w, 12000, (struct load){.live = 10000, .writes_s = 4000, .copies = 1, .noise = 0.02});
	world_add(&w, 26000, (struct load){.live = 20000, .writes_s = 100, .copies = 1, .noise = 0.02});
	world_run(&w, 200);
	assert_true(w.moves > 3 && w.size[0] > 12000 && w.size[1] < 26000 - STEP);
	assert_int_equal(base_of(&w, 0), 12000);
	assert_int_equal(base_of(&w, 1), 26000);
	/* a full writer that would not be one if left alone; then one that would */
	lcpfs_engine_resized(w.engine, w.id[1], w.now_us, w.size[1] + STEP, LCPFS_ENGINE_EMERGENCY);
	assert_int_equal(base_of(&w, 1), 26000);
	lcpfs_engine_resized(w.engine, w.id[1], w.now_us, 21008, LCPFS_ENGINE_BY_HAND);
	assert_int_equal(base_of(&w, 1), 21008);
	lcpfs_engine_resized(w.engine, w.id[0], w.now_us, w.size[0] + STEP, LCPFS_ENGINE_EMERGENCY);
	assert_int_equal(base_of(&w, 0), w.size[0] + STEP);
	lcpfs_engine_resized(w.engine, w.id[0], w.now_us, 12000, LCPFS_ENGINE_BY_HAND);
	assert_int_equal(base_of(&w, 0), 12000);
	assert_int_equal(lcpfs_engine_set_limits(w.engine, w.id[0], STEP, 11008), 0);
	assert_int_equal(base_of(&w, 0), 11008);
	/* so much would have had to fit there, too */
	w.load[0].live = 11500;
	world_run(&w, 1);
	assert_int_equal(base_of(&w, 0), 11500 + STEP);
	world_done(&w);
}

static uint64_t all_bases(struct world *w)
{
	uint64_t sum = 0;
	for (size_t i = 0; i < w->count; i++)
		sum += base_of(w, i);
	return sum;
}

/* What was called back for a newcomer would have been, if left alone: both cannot have it in the books. */
static void base_sizes_fit_into_the_pool(void **state)
{
	struct lcpfs_engine_statistics s;
	struct lcpfs_engine_decision d;
	struct lcpfs_engine_moved moved;
	struct world w;
	(void)state;
	world_init(&w, 32000, LCPFS_ENGINE_ON, 21);
	world_add(&w, 20000, (struct load){.live = 15000, .writes_s = 50, .copies = 1, .noise = 0.02});
	world_add(&w, 12000, (struct load){.live = 8000, .writes_s = 2000, .copies = 1, .noise = 0.02});
	world_run(&w, 200);
	for (uint64_t freed = 0; freed < 3000; freed += moved.blocks) {
		assert_int_equal(lcpfs_engine_call_back(w.engine, w.now_us, 3000 - freed, 0, &d), 0);
		assert_int_equal(d.action, LCPFS_ENGINE_MOVE);
		world_move(&w, &d, &moved);
		assert_int_equal(lcpfs_engine_report(w.engine, w.now_us, d.sequence, &moved), 0);
	}
	world_add(&w, 3000, (struct load){.live = 2500, .writes_s = 2000, .copies = 1, .noise = 0.02});
	world_run(&w, 1);
	assert_true(all_bases(&w) <= 32000);
	double saved = saved_by(&w);
	w.moves = 0;
	world_run(&w, 600);
	assert_true(w.moves > 3 && saved_by(&w) > saved);
	assert_true(all_bases(&w) <= 32000);
	lcpfs_engine_get_statistics(w.engine, &s);
	assert_true(s.saved_blocks < s.written_blocks);
	world_done(&w);
}

/* A log hundreds of times larger than when it was made: a block copied there is not worth millions. */
static void no_second_saves_more_than_it_could(void **state)
{
	struct lcpfs_engine_counters c = {.live_blocks = 1000, .least_blocks = 1100};
	struct lcpfs_engine_spec spec = {
		.size_blocks = 1280, .min_size_blocks = STEP, .max_size_blocks = 1u << 30};
	struct world w;
	(void)state;
	world_init(&w, 262144, LCPFS_ENGINE_ON, 3);
	assert_int_equal(lcpfs_engine_add(w.engine, &spec, &w.id[0]), 0);
	for (int t = 1; t < 200; t++) {
		struct lcpfs_engine_decision d;
		c.user_blocks += 2000;
		c.write_ops += 2000;
		c.write_latency_us += 2000 * 50;
		c.copied_blocks += t < 60 ? 3000 : 4;
		c.device_blocks = c.user_blocks + c.copied_blocks;
		w.now_us += 1000000;
		assert_int_equal(lcpfs_engine_update(w.engine, w.id[0], w.now_us, &c), 0);
		assert_int_equal(lcpfs_engine_decide(w.engine, w.now_us, &d), 0);
		struct lcpfs_engine_moved moved = {.blocks = d.blocks};
		if (d.action == LCPFS_ENGINE_MOVE)
			assert_int_equal(lcpfs_engine_report(w.engine, w.now_us, d.sequence, &moved), 0);
	}
	assert_true(saved_by(&w) < 10.0 * (double)c.user_blocks);
	world_done(&w);
}

/* The giver of a move that was handed out copies, as its counters say, and writes so much of all for it. */
static void giver_writes(struct world *w, const struct lcpfs_engine_decision *d, uint64_t blocks, uint64_t all)
{
	struct lcpfs_engine_counters *c = &w->counters[d->from_id - 1];
	w->now_us += 1000;
	c->copied_blocks += blocks;
	c->device_blocks += all;
	assert_int_equal(lcpfs_engine_update(w->engine, d->from_id, w->now_us, c), 0);
}

static void giver_copies(struct world *w, const struct lcpfs_engine_decision *d, uint64_t blocks)
{
	giver_writes(w, d, blocks, blocks);
}

/*
 * Of what a giver copies while it moves, and a second later, so much was for the move, as is reported then. The
 * rest it would have copied less of at its base size.
 */
static void copying_for_a_move_is_counted_once(void **state)
{
	static const uint64_t cases[][3] = {{1000, 1000, 0}, {1000, 0, 1000}, {1000, 600, 400}, {400, 1000, 0}};
	(void)state;
	for (int i = 0; i < 4; i++) {
		struct lcpfs_engine_decision d = {.action = LCPFS_ENGINE_NONE};
		struct lcpfs_engine_moved moved = {.copied_blocks = cases[i][0]};
		struct world w;
		world_hot_and_cold(&w, LCPFS_ENGINE_ON, 9);
		while (w.moves < 2)
			world_run(&w, 1);
		while (d.action != LCPFS_ENGINE_MOVE) {
			world_second(&w);
			assert_int_equal(lcpfs_engine_decide(w.engine, w.now_us, &d), 0);
		}
		assert_true(w.moves > 1 && d.from_id == w.id[1]);
		double saved = saved_by(&w) - (double)moved.copied_blocks;
		double bar = 1e-9 * fabs(saved);
		moved.blocks = d.blocks;
		giver_copies(&w, &d, cases[i][1]);
		assert_int_equal(lcpfs_engine_report(w.engine, w.now_us, d.sequence, &moved), 0);
		giver_copies(&w, &d, cases[i][2]);
		if (cases[i][1] + cases[i][2] > cases[i][0])
			assert_true(saved_by(&w) < saved - 10);
		else
			assert_true(fabs(saved_by(&w) - saved) <= bar);
		saved = saved_by(&w);
		giver_copies(&w, &d, 500); /* its own again */
		bar = saved - saved_by(&w);
		assert_true(bar > 10);
		saved = saved_by(&w);
		giver_writes(&w, &d, 500, 1000); /* with as many summaries and tables */
		assert_true(fabs((saved - saved_by(&w)) / bar - 2) < 0.2);
		world_done(&w);
	}
}

/* Nobody is below its base size or above it for one that is there no more. */
static void a_partition_removed_is_not_gone_back_for(void **state)
{
	struct world w;
	struct lcpfs_engine_decision d;
	(void)state;
	world_hot_and_cold(&w, LCPFS_ENGINE_ON, 9);
	world_run(&w, 100);
	assert_int_equal(lcpfs_engine_explain(w.engine, 0, &d), 0);
	assert_true(w.size[1] < 32000 - STEP && d.return_blocks > 0);
	assert_int_equal(lcpfs_engine_remove(w.engine, w.id[1]), 0);
	world_add(&w, w.size[1], (struct load){.live = 10000, .writes_s = 100, .copies = 1, .noise = 0.02});
	assert_int_equal(lcpfs_engine_explain(w.engine, w.id[0], &d), 0);
	assert_true(d.return_blocks <= 0);
	world_done(&w);
}

/* Nobody would want to go back to these, whatever it costs to get away. */
static void a_bad_start_is_left_for_good(void **state)
{
	struct world w;
	(void)state;
	for (int hot = 0; hot < 2; hot++) {
		uint64_t few = hot ? 2000 : 8000, many = 10000 - few, room = few + 2 * STEP;
		struct load load = {.live = (double)few, .writes_s = hot ? 320 : 80, .copies = 1, .noise = 0.02};
		world_init(&w, 12032, LCPFS_ENGINE_ON, 11);
		world_add(&w, room, load);
		load.live = (double)many;
		load.writes_s = 400 - load.writes_s;
		world_add(&w, 12032 - room, load);
		world_run(&w, 600);
		/* the best split gives both the same spare */
		assert_true(w.size[0] > few + 800 && w.size[0] < few + 1200);
		assert_true(w.moves < 60);
		world_done(&w);
	}
}

/* With all it has saved. What it moved after it was saved, before a crash, was no hand. */
static void a_ledger_survives_a_restart(void **state)
{
	static uint8_t bytes[65536];
	struct world a, b;
	(void)state;
	world_hot_and_cold(&a, LCPFS_ENGINE_ON, 13);
	world_run(&a, 100);
	size_t length = lcpfs_engine_save(a.engine, bytes, sizeof(bytes));
	world_init(&b, 42216, LCPFS_ENGINE_ON, 13);
	world_add(&b, a.size[0], a.load[0]);
	world_add(&b, a.size[1] - 2 * STEP, a.load[1]);
	assert_int_equal(lcpfs_engine_load(b.engine, bytes, length), 0);
	assert_true(saved_by(&a) > 1000 && fabs(saved_by(&a) - saved_by(&b)) < 1e-9 * saved_by(&a));
	assert_int_equal(base_of(&b, 0), 10200);
	assert_int_equal(base_of(&b, 1), 32000);
	world_done(&a);
	world_done(&b);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(loads_that_change_places_do_no_harm),
		cmocka_unit_test(what_was_saved_is_counted),
		cmocka_unit_test(a_base_size_follows_the_hand),
		cmocka_unit_test(base_sizes_fit_into_the_pool),
		cmocka_unit_test(no_second_saves_more_than_it_could),
		cmocka_unit_test(copying_for_a_move_is_counted_once),
		cmocka_unit_test(a_partition_removed_is_not_gone_back_for),
		cmocka_unit_test(a_bad_start_is_left_for_good),
		cmocka_unit_test(a_ledger_survives_a_restart),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
