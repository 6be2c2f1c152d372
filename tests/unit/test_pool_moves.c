/* SPDX-License-Identifier: Apache-2.0 */
/* Moves and emergencies that meet something: an error, another move, who may not give, a full pool. */
#include <unistd.h>

#include "pool_fixture.h"
#include "tests/crash/alloc.h"

static struct part *held(struct fixture *f, const char *name)
{
	struct part *part = part_named(f->pool, name);
	assert_non_null(part);
	part_hold(part);
	return part;
}

static void suspend(struct fixture *f)
{
	simdisk_add_fault(f->disk, &(struct simdisk_fault){.kind = SIMDISK_WRITE,
							   .offset = AREA_UBERBLOCKS * BLOCK_SIZE,
							   .length = UBERBLOCK_SLOTS * BLOCK_SIZE,
							   .effect = SIMDISK_FAILS,
							   .error = LCPFS_E_IO});
	assert_int_equal(lcpfs_pool_set_tune(f->pool, LCPFS_ENGINE_OFF, &f->failure), -LCPFS_E_IO);
	simdisk_clear_faults(f->disk);
}

static void closes_clean(struct fixture *f)
{
	fixture_invariants(f);
	if (fixture_close(f))
		fail_msg("%s", f->failure.message);
	assert_int_equal(fixture_check(f, true), 0);
	fixture_done(f);
}

/* -- moves -- */

/* As often as a 32nd of the pool was written and read, within a second, and for a 200th of the time at most. */
static void looking_follows_the_work_done(void **state)
{
	(void)state;
	assert_int_equal(keeper_wait_us(1 << 20, 0, 0), 1000000);
	assert_int_equal(keeper_wait_us(1 << 20, 0.001, 100), 1000000);
	assert_int_equal(keeper_wait_us(1 << 20, 1, 100), 32768);
	assert_int_equal(keeper_wait_us(1 << 20, 1, 1000), 200000);
	assert_int_equal(keeper_wait_us(1 << 20, 1, 1 << 20), 1000000);
	assert_int_equal(keeper_wait_us(1 << 20, 1000, 0), 10000);
}

static void a_suspended_pool_moves_nothing(void **state)
{
	struct fixture f;
	struct move move;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 10 * MB, 40 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, LEAST, 40 * MB), 0);
	suspend(&f);
	move = (struct move){.from = held(&f, "a"), .to = held(&f, "b"), .wanted = 2};
	assert_int_equal(move_run(&move, &f.failure), -LCPFS_E_FAULTED);
	assert_non_null(strstr(f.failure.message, "open the pool anew"));
	move = (struct move){.to = move.to, .wanted = 2};
	assert_int_equal(move_run(&move, &f.failure), -LCPFS_E_FAULTED);
	part_drop(part_named(f.pool, "a"));
	part_drop(part_named(f.pool, "b"));
	assert_int_equal(fixture_write(&f, "b", 0, 2500, 1), -LCPFS_E_NOSPC); /* no emergency either */
	assert_int_equal(fixture_size(&f, "b"), LEAST);
	assert_int_equal(fixture_close(&f), -LCPFS_E_FAULTED);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(fixture_size(&f, "a"), 10 * MB);
	assert_int_equal(fixture_write(&f, "b", 0, 2500, 2), 0);
	fixture_expect(&f, "b", 0, 2500, 2);
	closes_clean(&f);
}

static void closing_stops_the_engines_moves_only(void **state)
{
	struct fixture f;
	struct move move;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 10 * MB, 40 * MB), 0);
	move = (struct move){.to = held(&f, "a"), .wanted = 2, .by_engine = true};
	assert_int_equal(move_run(&move, &f.failure), 0);
	assert_int_equal(move.to->unreported, 2);
	move.to->unreported = 0;
	f.pool->stopping = true;
	move = (struct move){.from = move.to, .wanted = 2, .by_engine = true};
	assert_int_equal(move_run(&move, &f.failure), -LCPFS_E_STOPPED);
	assert_non_null(strstr(f.failure.message, "being closed"));
	move = (struct move){.from = move.from, .wanted = 2};
	assert_int_equal(move_run(&move, &f.failure), 0);
	part_drop(move.from);
	assert_int_equal(fixture_size(&f, "a"), 10 * MB);
	closes_clean(&f);
}

struct during {
	struct fixture *f;
	uint64_t at;
	int error;
};

static bool resize_again(void *context, uint64_t done, uint64_t total)
{
	struct during *d = context;
	(void)total;
	if (done == d->at)
		d->error = fixture_resize(d->f, "a", 20 * MB);
	return true;
}

static void a_partition_is_resized_once_at_a_time(void **state)
{
	struct fixture f;
	struct during during = {.f = &f, .at = 2};
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 20 * MB, 40 * MB), 0);
	assert_int_equal(pool_resize_to_space(f.pool, "a", 10 * MB, resize_again, &during, NULL), 0);
	assert_int_equal(during.error, -LCPFS_E_BUSY);
	assert_non_null(strstr(f.failure.message, "being resized already"));
	assert_int_equal(fixture_size(&f, "a"), 10 * MB);
	assert_int_equal(fixture_resize(&f, NULL, 10 * MB), -LCPFS_E_NOT_FOUND);
	assert_int_equal(fixture_resize(&f, "a", 10 * MB), 0);
	closes_clean(&f);
}

static bool need_space_at(void *context, uint64_t done, uint64_t total)
{
	struct during *d = context;
	(void)total;
	if (done == d->at)
		assert_true(emergency_need_space(part_named(d->f->pool, "a"), UINT32_MAX));
	return true;
}

static void a_move_ends_when_the_giver_needs_space_itself(void **state)
{
	struct fixture f;
	struct during during = {.f = &f, .at = 3};
	struct move move;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 40 * MB, 50 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, LEAST, 40 * MB), 0);
	move = (struct move){.from = held(&f, "a"), .to = held(&f, "b"), .wanted = 30, .progress = need_space_at,
			     .context = &during};
	assert_int_equal(move_run(&move, &f.failure), -LCPFS_E_TOO_SMALL);
	assert_non_null(strstr(f.failure.message, "needed space for its writers"));
	assert_true(move.moved >= 3 && move.moved < 30);
	assert_int_equal(fixture_size(&f, "b"), LEAST + move.moved * MB);
	part_drop(move.from);
	part_drop(move.to);
	closes_clean(&f);
}

/* It is reported, too, what was copied for it and nothing else. */
static void a_move_of_the_engine_ends_where_it_costs_too_much(void **state)
{
	(void)state;
	for (uint64_t limit = 0; limit <= 400; limit += 400) {
		struct lcpfs_engine_decision d = {
			.blocks = 6 * MB / BLOCK_SIZE, .cost_limit_blocks = (double)limit};
		struct store_stats stats;
		struct fixture f;
		fixture_new(&f, 64 * MB);
		assert_int_equal(fixture_add(&f, "a", LEAST, 30 * MB, 40 * MB), 0);
		assert_int_equal(fixture_add(&f, "b", LEAST, LEAST, 40 * MB), 0);
		d.from_id = part_named(f.pool, "a")->id;
		d.to_id = part_named(f.pool, "b")->id;
		for (unsigned i = 0; i < 34; i++) { /* half of what is in each metaslab is old */
			assert_int_equal(fixture_write(&f, "a", i * 100, 100, 1), 0);
			assert_int_equal(fixture_write(&f, "a", 5000, 100, 1), 0);
		}
		uint64_t moved = decision_carry_out(f.pool, &d) / (MB / BLOCK_SIZE);
		store_stats(part_named(f.pool, "a")->store, &stats);
		assert_int_equal(fixture_size(&f, "b"), LEAST + moved * MB);
		if (limit) {
			assert_true(moved > 0 && moved < 6);
			assert_in_range(stats.release_copied_blocks, limit, limit + 2 * MB / BLOCK_SIZE);
		} else {
			assert_int_equal(moved, 6);
			assert_true(stats.release_copied_blocks > 400 + 2 * MB / BLOCK_SIZE);
		}
		fixture_expect(&f, "a", 0, 3400, 1);
		closes_clean(&f);
	}
}

static void what_cannot_be_copied_is_not_released(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 20 * MB, 20 * MB), 0);
	for (unsigned i = 0; i < 10; i++) { /* many metaslabs with a little in each */
		assert_int_equal(fixture_write(&f, "a", i * 100, 100, 1), 0);
		assert_int_equal(fixture_write(&f, "a", 1000, 200, 1), 0);
	}
	struct layout l = f.pool->layout;
	uint64_t least = fixture_info(&f, "a").least_size_blocks * BLOCK_SIZE;
	simdisk_add_fault(f.disk, &(struct simdisk_fault){.kind = SIMDISK_WRITE,
							  .forever = true,
							  .offset = layout_metaslab_block(&l, 0) * BLOCK_SIZE,
							  .length = 62 * MB,
							  .effect = SIMDISK_FAILS,
							  .error = LCPFS_E_IO});
	assert_int_equal(fixture_resize(&f, "a", least), -LCPFS_E_IO);
	assert_non_null(strstr(f.failure.message, "partition a: cleaning out a metaslab failed"));
	simdisk_clear_faults(f.disk);
	fixture_expect(&f, "a", 0, 1200, 1);
	pool_abandon(f.pool);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(fixture_resize(&f, "a", least), 0);
	fixture_expect(&f, "a", 0, 1200, 1);
	closes_clean(&f);
}

static void no_room_is_made_for_what_never_fits(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, NULL), 0);
	assert_int_equal(fixture_add(&f, "a", LEAST, 50 * MB, 50 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, 200 * MB, 300 * MB), -LCPFS_E_NOSPC);
	assert_non_null(strstr(f.failure.message, "only 12M"));
	assert_int_equal(fixture_size(&f, "a"), 50 * MB);
	part_named(f.pool, "a")->removing = true; /* the engine does not know yet */
	assert_int_equal(fixture_add(&f, "b", LEAST, 20 * MB, 30 * MB), -LCPFS_E_NOSPC);
	part_named(f.pool, "a")->removing = false;
	assert_int_equal(fixture_size(&f, "a"), 50 * MB);
	closes_clean(&f);
	fixture_new(&f, 64 * MB);
	assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, NULL), 0);
	assert_int_equal(fixture_add(&f, "a", 50 * MB, 50 * MB, 50 * MB), 0); /* cannot give */
	assert_int_equal(fixture_add(&f, "b", LEAST, 20 * MB, 30 * MB), -LCPFS_E_NOSPC);
	closes_clean(&f);
}

/* -- two at a time -- */

static void *remove_a(void *context)
{
	return (void *)(intptr_t)lcpfs_partition_remove(((struct fixture *)context)->pool, "a", NULL);
}

static bool until_asked_thrice(void *context, uint64_t done, uint64_t total)
{
	unsigned *asked = context;
	assert_true(done == 0 && total == 0);
	return ++*asked < 3;
}

static bool no_more(void *context, uint64_t done, uint64_t total)
{
	(void)context, (void)done, (void)total;
	return false;
}

static int remove_if(struct fixture *f, lcpfs_progress *wanted, void *context)
{
	const struct pool_removal how = {.wanted = wanted, .context = context};
	return pool_remove(f->pool, "a", &how, NULL, &f->failure);
}

static void a_removal_that_nobody_wants_any_more_is_not_made(void **state)
{
	unsigned asked = 0;
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 20 * MB, 40 * MB), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 100, 1), 0);
	struct part *part = held(&f, "a");
	assert_int_equal(remove_if(&f, until_asked_thrice, &asked), -LCPFS_E_STOPPED);
	assert_int_equal(asked, 3);
	part_drop(part);
	assert_int_equal(remove_if(&f, no_more, NULL), -LCPFS_E_STOPPED);
	fixture_expect(&f, "a", 0, 100, 1);
	assert_int_equal(fixture_resize(&f, "a", 30 * MB), 0);
	asked = 0;
	assert_int_equal(remove_if(&f, until_asked_thrice, &asked), 0);
	closes_clean(&f);
}

static bool is_removing(struct fixture *f)
{
	pthread_mutex_lock(&f->pool->lock);
	bool removing = part_named(f->pool, "a")->removing;
	pthread_mutex_unlock(&f->pool->lock);
	return removing;
}

static void removing_waits_for_those_who_use_it(void **state)
{
	struct lcpfs_partition *handle[2];
	struct fixture f;
	pthread_t thread;
	void *result;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 20 * MB, 40 * MB), 0);
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(lcpfs_partition_open(f.pool, "a", &handle[i], NULL), 0);
	assert_int_equal(lcpfs_partition_remove(f.pool, "a", &f.failure), -LCPFS_E_BUSY);
	assert_non_null(strstr(f.failure.message, "2 clients; disconnect them"));
	for (unsigned i = 0; i < 2; i++)
		lcpfs_partition_close(handle[i]);
	struct part *part = held(&f, "a");
	assert_int_equal(pthread_create(&thread, NULL, remove_a, &f), 0);
	while (!is_removing(&f))
		usleep(1000);
	assert_int_equal(lcpfs_partition_remove(f.pool, "a", &f.failure), -LCPFS_E_BUSY);
	assert_non_null(strstr(f.failure.message, "being removed already"));
	assert_int_equal(lcpfs_partition_open(f.pool, "a", &handle[0], &f.failure), -LCPFS_E_NOT_FOUND);
	assert_int_equal(fixture_resize(&f, "a", 10 * MB), -LCPFS_E_NOT_FOUND);
	assert_false(emergency_need_space(part, UINT32_MAX));
	pthread_mutex_lock(&f.pool->lock);
	part_drop(part);
	pthread_mutex_unlock(&f.pool->lock);
	pthread_join(thread, &result);
	assert_null(result);
	assert_int_equal(fixture_free(&f), 62 * MB);
	closes_clean(&f);
}

static void *need_space(void *context)
{
	return (void *)(intptr_t)emergency_need_space(context, UINT32_MAX);
}

static _Atomic pid_t second;

static void *need_space_second(void *context)
{
	second = gettid();
	return need_space(context);
}

/* So it waits for something, and of the two that it takes the pool's lock is free. */
static bool second_waits(void)
{
	char path[64], state = 0;
	snprintf(path, sizeof(path), "/proc/self/task/%d/stat", (int)second);
	FILE *file = second ? fopen(path, "r") : NULL;
	if (!file || fscanf(file, "%*d %*s %c", &state) != 1)
		state = 0;
	if (file)
		fclose(file);
	return state == 'S';
}

static bool wants_space(struct part *part)
{
	pthread_mutex_lock(&part->pool->lock);
	bool wants = part->wants_space;
	pthread_mutex_unlock(&part->pool->lock);
	return wants;
}

/* The first waits for a discard that goes on, the second for the first; the result is that of both. */
static void writers_of_a_partition_share_an_emergency(void **state)
{
	(void)state;
	for (unsigned granted = 0; granted < 2; granted++) {
		struct lcpfs_partition *client; /* so that it is in use all the time */
		struct fixture f;
		pthread_t thread[2];
		fixture_new(&f, 64 * MB);
		assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, NULL), 0);
		assert_int_equal(fixture_add(&f, "idle", granted ? LEAST : 56 * MB, 56 * MB, 56 * MB), 0);
		assert_int_equal(fixture_add(&f, "full", LEAST, LEAST, 40 * MB), 0);
		assert_int_equal(lcpfs_partition_open(f.pool, "full", &client, NULL), 0);
		struct part *part = part_named(f.pool, "full");
		f.pool->discarding_count = 1;
		second = 0;
		assert_int_equal(pthread_create(&thread[0], NULL, need_space, part), 0);
		while (!wants_space(part))
			usleep(1000);
		assert_int_equal(pthread_create(&thread[1], NULL, need_space_second, part), 0);
		while (!second_waits())
			usleep(1000);
		pthread_mutex_lock(&f.pool->lock);
		f.pool->discarding_count = 0;
		pthread_cond_broadcast(&f.pool->changed);
		pthread_mutex_unlock(&f.pool->lock);
		for (unsigned i = 0; i < 2; i++) {
			void *result;
			pthread_join(thread[i], &result);
			assert_int_equal((intptr_t)result, granted);
		}
		if (!granted)
			assert_int_equal(fixture_size(&f, "full"), LEAST);
		else
			assert_true(fixture_size(&f, "full") > LEAST);
		lcpfs_partition_close(client);
		closes_clean(&f);
	}
}

/* Nothing is to be had now; what a move under way leaves is. */
static void space_that_is_coming_is_waited_for(void **state)
{
	struct fixture f;
	pthread_t thread;
	void *granted;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "idle", LEAST, 56 * MB, 56 * MB), 0);
	assert_int_equal(fixture_add(&f, "full", LEAST, LEAST, 40 * MB), 0);
	struct part *idle = part_named(f.pool, "idle");
	idle->min_blocks = 56 * MB / BLOCK_SIZE;
	idle->incoming = 1;
	assert_int_equal(pthread_create(&thread, NULL, need_space, part_named(f.pool, "full")), 0);
	usleep(50000);
	pthread_mutex_lock(&f.pool->lock);
	idle->incoming = 0;
	idle->min_blocks = LEAST / BLOCK_SIZE;
	f.pool->changes++;
	pthread_cond_broadcast(&f.pool->changed);
	pthread_mutex_unlock(&f.pool->lock);
	pthread_join(thread, &granted);
	assert_non_null(granted);
	assert_true(fixture_size(&f, "full") > LEAST);
	closes_clean(&f);
}

/* -- who gives in an emergency -- */

static void less_than_a_share_is_better_than_nothing(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 40 * MB, 50 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, 21 * MB, 21 * MB), 0);
	assert_true(emergency_need_space(part_named(f.pool, "a"), UINT32_MAX));
	assert_int_equal(fixture_size(&f, "a"), 41 * MB);
	part_named(f.pool, "b")->min_blocks = 21 * MB / BLOCK_SIZE;
	assert_false(emergency_need_space(part_named(f.pool, "a"), UINT32_MAX));
	part_named(f.pool, "b")->min_blocks = LEAST / BLOCK_SIZE;
	assert_int_equal(fixture_resize(&f, "b", 20 * MB), 0);
	assert_int_equal(fixture_resize(&f, "a", 40 * MB), 0);
	struct move move = {.to = held(&f, "b"), .wanted = 2}; /* to its max */
	assert_int_equal(move_run(&move, &f.failure), -LCPFS_E_INVALID);
	assert_int_equal(move.moved, 1);
	assert_int_equal(fixture_size(&f, "b"), 21 * MB);
	part_drop(move.to);
	closes_clean(&f);
}

static uint64_t each_look_takes_long(void *context)
{
	return ((struct fixture *)context)->now_us += 60000;
}

/* An eighth of its size; but a writer waits for more than a metaslab only so long. */
static void the_engine_calls_back_a_share_at_once(void **state)
{
	struct lcpfs_engine_decision d;
	struct fixture f;
	(void)state;
	fixture_new(&f, 200 * MB);
	assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, NULL), 0);
	assert_int_equal(fixture_add(&f, "idle", LEAST, 94 * MB, 94 * MB), 0);
	assert_int_equal(fixture_add(&f, "full", LEAST, 96 * MB, 150 * MB), 0);
	while (fixture_free(&f))
		assert_true(emergency_need_space(part_named(f.pool, "full"), UINT32_MAX));
	uint64_t before = fixture_size(&f, "full");
	assert_true(emergency_need_space(part_named(f.pool, "full"), UINT32_MAX));
	assert_int_equal(fixture_size(&f, "full"), before + 13 * MB);
	assert_int_equal(fixture_size(&f, "idle"), 81 * MB);
	f.pool->clock.now_us = each_look_takes_long;
	assert_true(emergency_need_space(part_named(f.pool, "full"), UINT32_MAX));
	f.pool->clock.now_us = f.clock.now_us;
	assert_int_equal(fixture_size(&f, "full"), before + 14 * MB);
	assert_int_equal(fixture_size(&f, "idle"), 80 * MB);
	/* it was not asked for all that it could give */
	assert_int_equal(lcpfs_engine_call_back(f.pool->engine, f.now_us, 4 * MB / BLOCK_SIZE, 2, &d), 0);
	assert_int_equal(d.from_id, 1);
	assert_int_equal(d.blocks, 4 * MB / BLOCK_SIZE);
	closes_clean(&f);
}

/* With the engine busy the one with the most empty metaslabs is taken from, whatever its slot. */
static void a_busy_engine_is_not_waited_for(void **state)
{
	(void)state;
	for (unsigned order = 0; order < 2; order++) {
		struct fixture f;
		fixture_new(&f, 64 * MB);
		assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, NULL), 0);
		assert_int_equal(fixture_add(&f, order ? "more" : "less", LEAST, 25 * MB, 40 * MB), 0);
		assert_int_equal(fixture_add(&f, order ? "less" : "more", LEAST, 25 * MB, 40 * MB), 0);
		assert_int_equal(fixture_add(&f, "none", LEAST, LEAST, 40 * MB), 0);
		assert_int_equal(fixture_add(&f, "full", LEAST, LEAST, 40 * MB), 0);
		assert_int_equal(fixture_write(&f, "less", 0, 2000, 1), 0);
		pthread_mutex_lock(&f.pool->round);
		assert_true(emergency_need_space(part_named(f.pool, "full"), UINT32_MAX));
		assert_int_equal(fixture_size(&f, "more"), 24 * MB);
		assert_int_equal(fixture_size(&f, "less"), 25 * MB);
		part_named(f.pool, "more")->min_blocks = 24 * MB / BLOCK_SIZE;
		assert_true(emergency_need_space(part_named(f.pool, "full"), UINT32_MAX));
		assert_int_equal(fixture_size(&f, "less"), 24 * MB);
		pthread_mutex_unlock(&f.pool->round);
		fixture_expect(&f, "less", 0, 2000, 1);
		fixture_invariants(&f);
		fixture_done(&f);
	}
}

enum reason { GONE, FAULTED, REMOVING, REASONS };

/* What the engine names may have changed since it was asked. */
static void who_may_not_give_is_left_alone(void **state)
{
	(void)state;
	for (unsigned why = 0; why < REASONS; why++) {
		struct fixture f;
		fixture_new(&f, 64 * MB);
		assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, NULL), 0);
		assert_int_equal(fixture_add(&f, "idle", LEAST, 56 * MB, 56 * MB), 0);
		assert_int_equal(fixture_add(&f, "full", LEAST, LEAST, 40 * MB), 0);
		struct part *idle = part_named(f.pool, "idle"), *full = part_named(f.pool, "full");
		struct store *store = idle->store;
		f.pool->parts[idle->slot] = why == GONE ? NULL : idle;
		idle->store = why == FAULTED ? NULL : store;
		idle->removing = why == REMOVING;
		assert_false(emergency_need_space(full, UINT32_MAX));
		f.pool->parts[idle->slot] = idle;
		idle->store = store;
		idle->removing = false;
		assert_int_equal(fixture_size(&f, "full"), LEAST);
		assert_true(emergency_need_space(full, UINT32_MAX));
		assert_true(fixture_size(&f, "full") > LEAST);
		closes_clean(&f);
	}
}

/* One that is short of space, too, gives nothing of what it is about to use. */
static void who_needs_it_itself_gives_nothing(void **state)
{
	(void)state;
	for (enum lcpfs_engine_mode mode = LCPFS_ENGINE_OFF; mode <= LCPFS_ENGINE_ON; mode++) {
		struct fixture f;
		fixture_new(&f, 64 * MB);
		assert_int_equal(lcpfs_pool_set_tune(f.pool, mode, NULL), 0);
		assert_int_equal(fixture_add(&f, "rest", 49 * MB, 49 * MB, 49 * MB), 0);
		assert_int_equal(fixture_add(&f, "short", LEAST, LEAST + MB, 40 * MB), 0);
		assert_int_equal(fixture_add(&f, "full", LEAST, LEAST, 40 * MB), 0);
		part_named(f.pool, "short")->wants_space = true;
		assert_false(emergency_need_space(part_named(f.pool, "full"), UINT32_MAX));
		part_named(f.pool, "short")->wants_space = false;
		assert_true(emergency_need_space(part_named(f.pool, "full"), UINT32_MAX));
		closes_clean(&f);
	}
}

static size_t emergencies_noted(struct fixture *f)
{
	struct lcpfs_event *list = calloc(600, sizeof(*list));
	size_t count, found = 0;
	assert_int_equal(lcpfs_pool_events(f->pool, 0, list, 600, &count), 0);
	for (size_t i = 0; i < count; i++)
		found += list[i].kind == LCPFS_EVENT_EMERGENCY;
	free(list);
	return found;
}

static void emergencies_of_a_while_are_one_line(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, LEAST, 40 * MB), 0);
	for (unsigned i = 0; i < 3; i++)
		assert_true(emergency_need_space(part_named(f.pool, "a"), UINT32_MAX));
	pool_tick(f.pool);
	assert_int_equal(emergencies_noted(&f), 1);
	f.now_us += 11 * 1000000;
	pool_tick(f.pool);
	assert_int_equal(emergencies_noted(&f), 2);
	f.now_us += 11 * 1000000;
	pool_tick(f.pool); /* nothing new */
	assert_int_equal(emergencies_noted(&f), 2);
	assert_true(emergency_need_space(part_named(f.pool, "a"), UINT32_MAX));
	assert_int_equal(fixture_close(&f), 0); /* tells the rest */
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(emergencies_noted(&f), 3);
	closes_clean(&f);
}

/* -- freed space -- */

static void removed_space_is_discarded_before_it_is_given_out(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, LEAST, 40 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, 56 * MB, 56 * MB), 0); /* up to the last one */
	f.pool->options.background = true; /* as in a served pool: the keeper discards later */
	assert_int_equal(lcpfs_partition_remove(f.pool, "b", NULL), 0);
	f.pool->options.background = false;
	assert_int_equal(map_available(f.pool), 0);
	uint64_t before = simdisk_counts(f.disk)->discarded_bytes;
	assert_true(emergency_need_space(part_named(f.pool, "a"), UINT32_MAX));
	assert_int_equal(simdisk_counts(f.disk)->discarded_bytes - before, 1 * MB);
	assert_int_equal(map_available(f.pool), 0);
	assert_int_equal(fixture_resize(&f, "a", 20 * MB), 0); /* discards the rest */
	assert_int_equal(simdisk_counts(f.disk)->discarded_bytes - before, 56 * MB);
	map_discard(f.pool, 1); /* nothing left */
	closes_clean(&f);
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "b", LEAST, 20 * MB, 56 * MB), 0);
	assert_int_equal(fixture_add(&f, "a", LEAST, LEAST, 40 * MB), 0);
	f.pool->options.background = true;
	assert_int_equal(lcpfs_partition_remove(f.pool, "b", NULL), 0);
	f.pool->options.background = false;
	assert_true(emergency_need_space(part_named(f.pool, "a"), UINT32_MAX)); /* from behind what is pending */
	assert_int_equal(map_owner(f.pool, 0), NO_PARTITION);
	assert_int_equal(f.pool->blocked_count, 20);
	closes_clean(&f);
}

static void a_map_of_several_pages_works(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 1300 * MB);
	assert_true(f.pool->layout.map_pages > 1);
	assert_int_equal(fixture_add(&f, "a", LEAST, 1100 * MB, 1200 * MB), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 500, 1), 0);
	assert_int_equal(fixture_resize(&f, "a", 1200 * MB), 0);
	assert_int_equal(fixture_resize(&f, "a", 900 * MB), 0);
	fixture_expect(&f, "a", 0, 500, 1);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(fixture_size(&f, "a"), 900 * MB);
	assert_int_equal(lcpfs_partition_remove(f.pool, "a", NULL), 0);
	closes_clean(&f);
}

/* -- adding and closing -- */

static void a_partition_whose_roots_cannot_be_written_is_not_there(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	for (unsigned copy = 0; copy < COPIES; copy++)
		simdisk_add_fault(f.disk, &(struct simdisk_fault){
				.kind = SIMDISK_WRITE,
				.forever = true,
				.offset = layout_root_block(&f.pool->layout, copy, 0, 0) * BLOCK_SIZE,
				.length = 2 * BLOCK_SIZE,
				.effect = SIMDISK_FAILS,
				.error = LCPFS_E_IO});
	assert_int_equal(fixture_add(&f, "a", LEAST, 0, 40 * MB), -LCPFS_E_IO);
	assert_non_null(strstr(f.failure.message, "partition a: writing its roots failed"));
	simdisk_clear_faults(f.disk);
	assert_int_equal(fixture_free(&f), 62 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 0, 40 * MB), 0);
	closes_clean(&f);
}

static void a_lease_that_cannot_be_cleared_is_told(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(lcpfs_pool_set_lease(f.pool, "/c", "/n"), 0);
	simdisk_add_fault(f.disk, &(struct simdisk_fault){.kind = SIMDISK_WRITE,
							  .offset = AREA_LEASE * BLOCK_SIZE,
							  .length = BLOCK_SIZE,
							  .effect = SIMDISK_FAILS,
							  .error = LCPFS_E_IO});
	assert_int_equal(fixture_close(&f), -LCPFS_E_IO);
	assert_non_null(strstr(f.failure.message, "the lease cannot be written"));
	assert_int_equal(lcpfs_pool_close(NULL, NULL), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	closes_clean(&f);
}

static void opening_read_only_keeps_the_mode(void **state)
{
	struct lcpfs_open_options options = {.read_only = true, .background = true, .tune_given = true,
					     .tune = LCPFS_ENGINE_ON};
	struct lcpfs_pool_info info;
	struct fixture f;
	(void)state;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 0, 40 * MB), 0);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(pool_open_vdev(f.vdev, &f.clock, &options, &f.pool, &f.failure), 0);
	assert_int_equal(lcpfs_pool_get_info(f.pool, &info), 0);
	assert_int_equal(info.engine.mode, LCPFS_ENGINE_OBSERVE);
	closes_clean(&f);
}

/* -- without memory -- */

typedef int attempt(struct fixture *f);

static int try_add(struct fixture *f)
{
	return fixture_add(f, "b", LEAST, LEAST, 40 * MB);
}

static int try_grow(struct fixture *f)
{
	return fixture_resize(f, "a", 18 * MB);
}

static int try_shrink(struct fixture *f)
{
	return fixture_resize(f, "a", 10 * MB);
}

static int try_remove(struct fixture *f)
{
	return lcpfs_partition_remove(f->pool, "a", &f->failure);
}

static int try_set(struct fixture *f)
{
	const struct lcpfs_partition_change change = {
		.new_name = "a", .min_bytes = 2 * MB, .max_bytes = 5 * MB, .volume_bytes = 100 * MB, .thin = true};
	struct lcpfs_partition_info info;
	return lcpfs_partition_set(f->pool, "a", &change, NULL, NULL, &info, &f->failure);
}

/* What was said to be done is done, what was refused is not, but for a store's growth of which it learns later. */
static void expect_done_or_not(struct fixture *f, attempt *try, int error)
{
	struct lcpfs_partition_info info;
	uint64_t size = try == try_grow  ? 18 * MB
			: try == try_set ? size_for_data(f->pool, 5 * MB / BLOCK_SIZE) * MB
					 : 10 * MB;
	bool has_a = lcpfs_partition_get_info(f->pool, "a", &info, NULL) == 0;
	bool has_b = lcpfs_partition_get_info(f->pool, "b", &info, NULL) == 0;
	assert_int_equal(has_a, error || try != try_remove);
	assert_true(error ? try == try_add || !has_b : has_b == (try == try_add));
	if (has_a)
		fixture_expect(f, "a", 0, 100, 1);
	if (has_a && !error)
		assert_int_equal(fixture_size(f, "a"), try == try_add ? 16 * MB : size);
	if (error && try == try_set) { /* nothing but perhaps its size */
		assert_int_equal(fixture_info(f, "a").min_size_blocks, LEAST / BLOCK_SIZE);
		assert_int_equal(fixture_info(f, "a").max_size_blocks, 40 * MB / BLOCK_SIZE);
		assert_int_equal(fixture_info(f, "a").volume_bytes, 40 * MB);
	} else if (has_a && error)
		assert_true(fixture_size(f, "a") == 16 * MB || strstr(f->failure.message, "opened anew"));
}

/* Allocation `at` of it fails. Was there one? */
static bool without_memory(attempt *try, uint64_t at)
{
	struct alloc_front front;
	struct fixture f;
	fixture_new(&f, 64 * MB);
	assert_int_equal(fixture_close(&f), 0);
	alloc_front_init(&front, f.vdev);
	f.vdev = &front.vdev;
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(fixture_add(&f, "a", LEAST, 16 * MB, 40 * MB), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 100, 1), 0);
	f.failure = (struct lcpfs_failure){0};
	alloc_fail(at, false);
	int error = ALLOC_ARMED(try(&f));
	bool failed = alloc_failed();
	alloc_work();
	if (error && (error != -LCPFS_E_NOMEM || !failed || !f.failure.message[0]))
		fail_msg("allocation %d: %d (%s)", (int)at, error, f.failure.message);
	expect_done_or_not(&f, try, error);
	f.failure = (struct lcpfs_failure){0};
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	closes_clean(&f);
	return failed;
}

static void without_memory_it_is_done_or_not(void **state)
{
	static attempt *const list[] = {try_add, try_grow, try_shrink, try_remove, try_set};
	(void)state;
	for (unsigned i = 0; i < ARRAY_LENGTH(list); i++) {
		for (uint64_t at = 0; without_memory(list[i], at); at++)
			;
	}
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(without_memory_it_is_done_or_not),
		cmocka_unit_test(looking_follows_the_work_done),
		cmocka_unit_test(a_suspended_pool_moves_nothing),
		cmocka_unit_test(closing_stops_the_engines_moves_only),
		cmocka_unit_test(a_move_of_the_engine_ends_where_it_costs_too_much),
		cmocka_unit_test(a_partition_is_resized_once_at_a_time),
		cmocka_unit_test(a_move_ends_when_the_giver_needs_space_itself),
		cmocka_unit_test(what_cannot_be_copied_is_not_released),
		cmocka_unit_test(no_room_is_made_for_what_never_fits),
		cmocka_unit_test(removing_waits_for_those_who_use_it),
		cmocka_unit_test(a_removal_that_nobody_wants_any_more_is_not_made),
		cmocka_unit_test(writers_of_a_partition_share_an_emergency),
		cmocka_unit_test(space_that_is_coming_is_waited_for),
		cmocka_unit_test(less_than_a_share_is_better_than_nothing),
		cmocka_unit_test(a_busy_engine_is_not_waited_for),
		cmocka_unit_test(who_may_not_give_is_left_alone),
		cmocka_unit_test(who_needs_it_itself_gives_nothing),
		cmocka_unit_test(the_engine_calls_back_a_share_at_once),
		cmocka_unit_test(emergencies_of_a_while_are_one_line),
		cmocka_unit_test(removed_space_is_discarded_before_it_is_given_out),
		cmocka_unit_test(a_map_of_several_pages_works),
		cmocka_unit_test(a_partition_whose_roots_cannot_be_written_is_not_there),
		cmocka_unit_test(a_lease_that_cannot_be_cleared_is_told),
		cmocka_unit_test(opening_read_only_keeps_the_mode),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
