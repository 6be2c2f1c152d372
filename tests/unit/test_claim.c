/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The claim under a search: some claimants, of one machine and of others, on one simulated device. Which of them
 * goes on is drawn from a seed at every operation and every sleep; they die, and stand still for longer than a
 * claim lasts.
 *
 * What must hold, whatever happens: once somebody has taken the pool, nobody who had it before may write, and
 * nothing that was acknowledged is missing from what the new owner finds.
 */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/error.h"
#include "base/hash.h"
#include "pool/claim.h"
#include "tests/disk/memory.h"

enum {
	ACTORS = 4,
	AREA_BLOCKS = 256,
	BLOCKS = 3 * AREA_BLOCKS,
	LATENCY_US = 20000, /* of one operation, at most: below a tenth of what claimants wait for each other */
	STEPS = 4000,
	FREEZE_US = 30000000,
};

enum state { READY, DEAD };

struct actor {
	struct arena *arena;
	unsigned number;
	pthread_t thread;
	pthread_cond_t turns; /* it is this actor's turn */
	struct claim_world world;
	struct vdev_place place; /* another name than the others', of the same bytes: no lock knows */
	enum state state;
	bool ended;
	uint64_t wake_us;
	bool frozen; /* stands still until then */
	bool owns, superseded;
	uint64_t wrote; /* the number of its last write */
};

struct arena {
	struct vdev vdev;
	struct layout layout;
	uint8_t bytes[BLOCKS][BLOCK_SIZE];
	struct actor actors[ACTORS];
	pthread_mutex_t lock;
	pthread_cond_t returned; /* it is the scheduler's turn */
	int turn; /* whose: an actor, or -1: the scheduler's */
	uint64_t now_us, seed;
	uint64_t value, acked, writes; /* the user's data: what lies there, what was acknowledged */
	unsigned takes, busy, takeovers;
	bool ending;
	char problem[200];
};

static __thread struct actor *self;

static uint64_t random_below(struct arena *arena, uint64_t n)
{
	return (arena->seed = hash_mix(arena->seed)) % n;
}

static void await_turn(void)
{
	while (self->arena->turn != (int)self->number)
		pthread_cond_wait(&self->turns, &self->arena->lock);
}

static void return_turn(void)
{
	self->arena->turn = -1;
	pthread_cond_signal(&self->arena->returned);
}

/* Lets somebody else go on, for at least that long. */
static void yield_for(uint64_t us)
{
	self->wake_us = self->arena->now_us + us;
	return_turn();
	await_turn();
}

static bool is_dead(void)
{
	return self->state == DEAD || self->arena->ending;
}

static void device_direct(struct vdev *vdev, struct vdev_io *io)
{
	struct arena *arena = (struct arena *)vdev;
	yield_for(random_below(arena, LATENCY_US));
	io->result = is_dead() ? -LCPFS_E_IO : 0;
	uint8_t *there = arena->bytes[io->offset / BLOCK_SIZE];
	if (!io->result && io->op == VDEV_READ)
		memcpy(io->buffer, there, io->length);
	else if (!io->result)
		memcpy(there, io->buffer, io->length);
	if (random_below(arena, 200) == 0 && io->op == VDEV_READ) { /* SIGSTOP, a suspended machine */
		self->frozen = true;
		yield_for(random_below(arena, FREEZE_US));
		self->frozen = false;
	}
	yield_for(random_below(arena, LATENCY_US));
}

static int device_flush(struct vdev *vdev)
{
	yield_for(random_below((struct arena *)vdev, 5 * LATENCY_US));
	return is_dead() ? -LCPFS_E_IO : 0;
}

static const struct vdev_ops device_ops = {.flush = device_flush, .direct = device_direct};

static uint64_t world_now_us(void *context)
{
	return ((struct actor *)context)->arena->now_us;
}

static void world_sleep_us(void *context, uint64_t us)
{
	(void)context;
	yield_for(us);
}

static enum claim_life world_life_of(void *context, uint64_t process, uint64_t start)
{
	const struct actor *actor = &((struct actor *)context)->arena->actors[process % ACTORS];
	if (actor->state == DEAD || actor->world.start != start)
		return CLAIM_GONE;
	return actor->frozen ? CLAIM_STOPPED : CLAIM_ALIVE;
}

static void world_random(void *context, uint8_t bytes[16])
{
	struct arena *arena = ((struct actor *)context)->arena;
	for (unsigned i = 0; i < 16; i++)
		bytes[i] = (uint8_t)random_below(arena, 256);
}

static void complain(const char *what)
{
	struct arena *arena = self->arena;
	if (!arena->problem[0])
		snprintf(arena->problem, sizeof(arena->problem), "actor %u at %llu us: %s", self->number,
			 (unsigned long long)arena->now_us, what);
}

/* Everybody who had it before has it no more. */
static void now_mine(void)
{
	struct arena *arena = self->arena;
	for (unsigned i = 0; i < ACTORS; i++) {
		struct actor *other = &arena->actors[i];
		if (other != self && other->owns && other->state != DEAD) {
			other->superseded = true;
			arena->takeovers++;
		}
	}
	self->owns = true;
	self->superseded = false;
	arena->takes++;
	if (arena->value < arena->acked)
		complain("acknowledged data is missing");
}

/* As the pool does: ask, write, flush, ask again, acknowledge. false: the claim is lost. */
static bool write_once(struct claim *claim)
{
	struct arena *arena = self->arena;
	if (claim_may_write(claim))
		return false;
	if (self->superseded)
		complain("may write, and another has the pool");
	self->wrote = arena->value = ++arena->writes;
	if (device_flush(&arena->vdev) || claim_confirm(claim))
		return false;
	if (self->superseded && arena->value != self->wrote && arena->value < self->wrote)
		complain("acknowledges what the new owner does not have");
	arena->acked = arena->acked > self->wrote ? arena->acked : self->wrote;
	return true;
}

static void use(struct claim *claim)
{
	uint64_t renewed_us = self->arena->now_us;
	bool good = true;
	for (uint64_t n = random_below(self->arena, 30); n > 0 && good && !is_dead(); n--) {
		yield_for(random_below(self->arena, 1500000));
		if (self->arena->now_us - renewed_us > CLAIM_PERIOD_MS * 1000u && random_below(self->arena, 2)) {
			good = !claim_renew(claim);
			renewed_us = self->arena->now_us;
		}
		good = good && write_once(claim);
	}
}

static void live(struct actor *actor)
{
	struct arena *arena = actor->arena;
	struct claim_options options = {.world = &actor->world, .place = &actor->place};
	while (!arena->ending) {
		struct claim *claim;
		if (actor->state == DEAD) { /* another process of that machine */
			yield_for(random_below(arena, 3000000));
			actor->world.start++;
			actor->state = READY;
		}
		if (claim_take(&arena->vdev, &arena->layout, &options, &claim, NULL)) {
			arena->busy++;
			yield_for(random_below(arena, 4000000));
			continue;
		}
		if (!claim_may_write(
			    claim)) { /* from here on; who stood still for long before has lost it already */
			now_mine();
			use(claim);
		}
		actor->owns = false;
		if (is_dead())
			claim_abandon(claim);
		else
			claim_release(claim);
	}
}

static void *actor_thread(void *context)
{
	self = context;
	pthread_mutex_lock(&self->arena->lock);
	await_turn();
	live(self);
	self->ended = true;
	return_turn();
	pthread_mutex_unlock(&self->arena->lock);
	return NULL;
}

/* -- the scheduler -- */

static void arena_make(struct arena *arena, uint64_t seed)
{
	*arena = (struct arena){.turn = -1, .now_us = 1000000000, .seed = seed};
	arena->vdev = (struct vdev){.ops = &device_ops, .size_bytes = sizeof(arena->bytes), .name = "arena"};
	arena->layout = (struct layout){.guid = 5, .device_blocks = BLOCKS, .area_blocks = AREA_BLOCKS};
	pthread_mutex_init(&arena->lock, NULL);
	pthread_cond_init(&arena->returned, NULL);
	for (unsigned i = 0; i < ACTORS; i++) {
		struct actor *actor = &arena->actors[i];
		*actor = (struct actor){.arena = arena, .number = i};
		pthread_cond_init(&actor->turns, NULL);
		actor->world = (struct claim_world){.pid_namespace = 1,
						    .process = i,
						    .start = 1,
						    .host = "host",
						    .now_us = world_now_us,
						    .sleep_us = world_sleep_us,
						    .life_of = world_life_of,
						    .random = world_random,
						    .context = actor};
		actor->world.boot[0] = (uint8_t)(1 + i / 2); /* two machines */
		actor->place.device = 7 + i;
	}
}

static struct actor *pick(struct arena *arena)
{
	struct actor *ready[ACTORS];
	unsigned count = 0;
	uint64_t first_us = UINT64_MAX;
	for (unsigned i = 0; i < ACTORS; i++) {
		struct actor *actor = &arena->actors[i];
		if (actor->ended)
			continue;
		first_us = actor->wake_us < first_us ? actor->wake_us : first_us;
		if (actor->wake_us <= arena->now_us || arena->ending)
			ready[count++] = actor;
	}
	if (count)
		return ready[random_below(arena, count)];
	arena->now_us = first_us;
	return first_us == UINT64_MAX ? NULL : pick(arena);
}

static bool step(struct arena *arena)
{
	struct actor *actor = pick(arena);
	if (!actor)
		return false;
	if (!arena->ending && random_below(arena, 400) == 0)
		actor->state = DEAD; /* kill -9, a power cut */
	arena->turn = (int)actor->number;
	pthread_cond_signal(&actor->turns);
	while (arena->turn != -1)
		pthread_cond_wait(&arena->returned, &arena->lock);
	return true;
}

static void run_arena(struct arena *arena, uint64_t seed)
{
	arena_make(arena, seed);
	for (unsigned i = 0; i < ACTORS; i++)
		assert_int_equal(pthread_create(&arena->actors[i].thread, NULL, actor_thread, &arena->actors[i]),
				 0);
	pthread_mutex_lock(&arena->lock);
	for (unsigned i = 0; i < STEPS && !arena->problem[0]; i++)
		step(arena);
	arena->ending = true;
	while (step(arena))
		;
	pthread_mutex_unlock(&arena->lock);
	for (unsigned i = 0; i < ACTORS; i++)
		pthread_join(arena->actors[i].thread, NULL);
}

static void one_writes_whatever_happens(void **state)
{
	unsigned takes = 0, busy = 0, takeovers = 0;
	(void)state;
	for (uint64_t seed = 1; seed <= 60; seed++) {
		struct arena *arena = aligned_alloc(BLOCK_SIZE, DIV_UP(sizeof(*arena), BLOCK_SIZE) * BLOCK_SIZE);
		run_arena(arena, seed);
		if (arena->problem[0])
			fail_msg("seed %llu: %s", (unsigned long long)seed, arena->problem);
		takes += arena->takes;
		busy += arena->busy;
		takeovers += arena->takeovers;
		free(arena);
	}
	print_message("# taken %u times, %u of them from an owner who was still alive; refused %u times\n", takes,
		      takeovers, busy);
	assert_true(takes > 300 && takeovers > 10 && busy > 500);
}

static uint64_t quick_now_us(void *context) { return ++*(uint64_t *)context; }
static void quick_sleep_us(void *context, uint64_t us) { *(uint64_t *)context += us; }
static enum claim_life nobody_lives(void *context, uint64_t process, uint64_t start)
{
	(void)context;
	(void)process;
	(void)start;
	return CLAIM_GONE;
}
static void no_chance(void *context, uint8_t bytes[16])
{
	(void)context;
	memset(bytes, 7, 16);
}

/* -- one owner, and somebody who comes over it -- */

struct overtaken {
	uint64_t now_us;
	bool comes; /* somebody, while the owner sleeps */
	struct vdev *vdev;
	struct layout layout;
	struct claim_world world;
	struct vdev_place place;
	struct claim *claim;
};

static uint64_t overtaken_now_us(void *context) { return ++((struct overtaken *)context)->now_us; }

static void overtake(struct overtaken *o)
{
	struct fmt_lease lease = {.owner = {99}};
	fmt_seal(&lease, FMT_LEASE, o->layout.guid, 0, 0);
	for (unsigned copy = 0; copy < COPIES; copy++)
		assert_int_equal(vdev_write(o->vdev, layout_area_block(&o->layout, copy, AREA_LEASE) * BLOCK_SIZE,
					    &lease, sizeof(lease)),
				 0);
}

static void overtaken_sleep_us(void *context, uint64_t us)
{
	struct overtaken *o = context;
	o->now_us += us;
	if (o->comes)
		overtake(o);
}

static void own(struct overtaken *o, bool is_local)
{
	*o = (struct overtaken){.now_us = 1, .place = {.device = 1, .inode = 2, .is_ours_alone = is_local}};
	o->world = (struct claim_world){.process = 1,
					.start = 1,
					.now_us = overtaken_now_us,
					.sleep_us = overtaken_sleep_us,
					.life_of = nobody_lives,
					.random = no_chance,
					.context = o};
	o->vdev = vdev_memory_new(64 << 20);
	assert_int_equal(layout_plan(64 << 20, 0, 1 << 20, &o->layout, NULL), 0);
	struct fmt_label label;
	layout_to_label(&o->layout, &label);
	assert_int_equal(vdev_write(o->vdev, 0, &label, sizeof(label)), 0);
	struct claim_options options = {.world = &o->world, .place = &o->place};
	assert_int_equal(claim_take(o->vdev, &o->layout, &options, &o->claim, NULL), 0);
	assert_int_equal(claim_may_write(o->claim), 0);
	assert_int_equal(claim_confirm(o->claim), 0);
}

static void disown(struct overtaken *o)
{
	claim_abandon(o->claim);
	vdev_close(o->vdev);
}

static void who_is_overtaken_while_it_renews_writes_nothing(void **state)
{
	struct overtaken o;
	(void)state;
	own(&o, false);
	o.now_us += FREEZE_US;
	o.comes = true;
	assert_int_equal(claim_may_write(o.claim), -LCPFS_E_TAKEN_OVER);
	assert_true(claim_is_lost(o.claim));
	disown(&o);
}

static void a_flush_looks_for_who_came_meanwhile(void **state)
{
	(void)state;
	for (int is_local = 0; is_local <= 1; is_local++) {
		struct overtaken o;
		own(&o, is_local);
		assert_int_equal(claim_renew(o.claim), 0);
		overtake(&o);
		assert_int_equal(claim_confirm(o.claim), -LCPFS_E_TAKEN_OVER);
		disown(&o);
	}
}

/* -- a pool that has grown between reading its label and claiming it -- */

static bool is_blank(struct vdev *vdev, uint64_t block)
{
	static const uint8_t zeros[BLOCK_SIZE];
	uint8_t found[BLOCK_SIZE];
	assert_int_equal(vdev_read(vdev, block * BLOCK_SIZE, found, sizeof(found)), 0);
	return !memcmp(found, zeros, sizeof(found));
}

static void an_old_label_claims_nothing(void **state)
{
	enum { MIB = 1 << 20 };
	uint64_t clock = 1, missing;
	struct claim_world world = {.process = 1, .start = 1, .now_us = quick_now_us, .sleep_us = quick_sleep_us,
				    .life_of = nobody_lives, .random = no_chance, .context = &clock};
	struct vdev_place place = {.device = 1, .inode = 2};
	struct claim_options options = {.world = &world, .place = &place};
	struct vdev *vdev = vdev_memory_new(128 * MIB);
	struct layout before, after;
	struct fmt_label label;
	struct claim *claim;
	(void)state;
	assert_int_equal(layout_plan(64 * MIB, 0, MIB, &before, NULL), 0);
	assert_int_equal(layout_grow(&before, 128 * MIB, &after, &missing, "pool", NULL), 0);
	layout_to_label(&after, &label);
	assert_int_equal(vdev_write(vdev, 0, &label, sizeof(label)), 0);
	assert_int_equal(claim_take(vdev, &before, &options, &claim, NULL), -LCPFS_E_BUSY);
	assert_true(is_blank(vdev, layout_area_block(&before, 1, AREA_LEASE)));
	assert_int_equal(claim_take(vdev, &after, &options, &claim, NULL), 0);
	claim_release(claim);
	assert_false(is_blank(vdev, layout_area_block(&after, 1, AREA_LEASE)));
	assert_true(is_blank(vdev, layout_area_block(&before, 1, AREA_LEASE)));
	vdev_close(vdev);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(one_writes_whatever_happens),
		cmocka_unit_test(who_is_overtaken_while_it_renews_writes_nothing),
		cmocka_unit_test(a_flush_looks_for_who_came_meanwhile),
		cmocka_unit_test(an_old_label_claims_nothing),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
