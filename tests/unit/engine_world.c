/* SPDX-License-Identifier: Apache-2.0 */
#include "engine_world.h"

#include <math.h>
#include <setjmp.h>
#include <stdarg.h>
#include <string.h>

#include <cmocka.h>

#include "engine/formula.h"

double uniform01(struct world *w)
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

void world_init_with(struct world *w, uint64_t pool, enum lcpfs_engine_mode mode, uint64_t seed,
			    const struct lcpfs_engine_priors *priors)
{
	struct lcpfs_engine_options options = {
		.pool_blocks = pool, .step_blocks = STEP, .mode = mode, .priors = *priors};
	memset(w, 0, sizeof(*w));
	w->seed = seed;
	assert_int_equal(lcpfs_engine_create(&options, &w->engine), 0);
}

void world_init(struct world *w, uint64_t pool, enum lcpfs_engine_mode mode, uint64_t seed)
{
	world_init_with(w, pool, mode, seed, &(struct lcpfs_engine_priors){0});
}

void world_add(struct world *w, uint64_t size, struct load load)
{
	struct lcpfs_engine_spec spec = {
		.size_blocks = size, .min_size_blocks = STEP, .max_size_blocks = 1u << 30};
	w->load[w->count] = load;
	w->size[w->count] = size;
	assert_int_equal(lcpfs_engine_add(w->engine, &spec, &w->id[w->count]), 0);
	w->count++;
}

void world_live(struct world *w, size_t i, double seconds)
{
	struct load *load = &w->load[i];
	struct lcpfs_engine_counters *c = &w->counters[i];
	double copies = load->copies * engine_uniform_copies((double)w->size[i] / load->live - 1);
	double writes = load->writes_s * seconds;
	copies = load->flat > 0 ? load->flat : copies;
	copies = !load->cliff ? copies : w->size[i] < load->cliff ? 5 : 0;
	double latency = load->size_blind > 0 || load->flat > 0 ? 100 : 50 * (1 + copies);
	latency *= load->buffered > 0 ? 0 : 1;
	c->write_ops += (uint64_t)writes;
	c->user_blocks += (uint64_t)writes;
	c->copied_blocks += (uint64_t)(writes * copies * noisy(w, load->noise / 4));
	c->device_blocks = (c->user_blocks + c->copied_blocks) * 21 / 20; /* summaries */
	c->write_latency_us += writes * latency * noisy(w, load->noise);
	c->read_ops += (uint64_t)(load->reads_s * seconds);
	c->read_latency_us += load->reads_s * seconds * 40 * noisy(w, load->noise);
	c->live_blocks = (uint64_t)load->live;
	w->written += writes * (1 + copies) * 21 / 20;
}

int world_move(void *context, const struct lcpfs_engine_decision *decision, struct lcpfs_engine_moved *moved)
{
	struct world *w = context;
	uint64_t blocks = decision->blocks;
	for (size_t i = 0; i < w->count; i++) {
		w->size[i] -= w->id[i] == decision->from_id ? blocks : 0;
		w->size[i] += w->id[i] == decision->to_id ? blocks : 0;
		w->counters[i].copied_blocks += w->id[i] == decision->from_id ? blocks / 2 : 0;
	}
	w->written += decision->from_id ? blocks / 2 : 0;
	w->moves++;
	*moved = (struct lcpfs_engine_moved){.blocks = blocks, .duration_us = 1000, .copied_blocks = blocks / 2};
	return 0;
}

size_t world_list(struct world *w, struct lcpfs_engine_partition *list, size_t room)
{
	struct lcpfs_engine_statistics s;
	size_t count = 0;
	assert_int_equal(lcpfs_engine_get_statistics(w->engine, &s), 0);
	for (uint32_t id = 1; count < s.partitions && count < room; id++)
		count += lcpfs_engine_get_partition(w->engine, id, &list[count]) == 0;
	return count;
}

void check_conservation(struct world *w)
{
	struct lcpfs_engine_statistics s;
	struct lcpfs_engine_partition list[WORLD_MAX];
	uint64_t sum = 0;
	size_t count = world_list(w, list, WORLD_MAX);
	assert_int_equal(lcpfs_engine_get_statistics(w->engine, &s), 0);
	for (size_t i = 0; i < count; i++) {
		sum += list[i].size_blocks;
		assert_true(list[i].size_blocks <= list[i].max_size_blocks);
		assert_true(list[i].size_blocks >= list[i].min_size_blocks);
	}
	assert_int_equal(sum + s.free_blocks, s.pool_blocks);
}

void world_second(struct world *w)
{
	w->now_us += 1000000;
	for (size_t i = 0; i < w->count; i++) {
		world_live(w, i, 1);
		assert_int_equal(lcpfs_engine_update(w->engine, w->id[i], w->now_us, &w->counters[i]), 0);
	}
}

void world_record(struct world *w, const struct lcpfs_engine_decision *decision)
{
	if (w->recorded && w->record[w->recorded - 1].sequence == decision->sequence)
		return;
	if (w->recorded == RECORD_MAX)
		memmove(w->record, w->record + 1, --w->recorded * sizeof(w->record[0]));
	w->record[w->recorded++] = *decision;
}

void world_run(struct world *w, unsigned ticks)
{
	struct lcpfs_engine_decision d;
	for (unsigned t = 0; t < ticks; t++) {
		world_second(w);
		assert_int_equal(lcpfs_engine_step(w->engine, w->now_us, world_move, w, &d), 0);
		world_record(w, &d);
	}
}

void world_done(struct world *w)
{
	lcpfs_engine_destroy(w->engine);
}

/* Hot with 2 % spare beside cold with 60 %; blocks chosen so that the logs go round in seconds. */
void add_hot_and_cold(struct world *w)
{
	world_add(w, 10200, (struct load){.live = 10000, .writes_s = 8000, .copies = 1, .noise = 0.05});
	world_add(w, 32000, (struct load){.live = 20000, .writes_s = 1000, .copies = 1, .noise = 0.05});
}

void world_hot_and_cold(struct world *w, enum lcpfs_engine_mode mode, uint64_t seed)
{
	world_init(w, 10000 * 102 / 100 + 20000 * 160 / 100 + 16, mode, seed);
	add_hot_and_cold(w);
}
