/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The space policy against a model that knows no lists, heaps or buckets: after each of many random events both
 * say the same, and the policy's own audit holds. And the audit finds what is planted.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/hash.h"
#include "space/plan.h"
#include "space/space.h"

enum { POOL = 48, UNITS = 512, USABLE = 480, EVENTS = 60000 };

struct known { /* one metaslab */
	bool owned, bare, barren, sealed, fresh;
	enum space_state state;
	unsigned class, pins;
	uint32_t live;
	uint64_t last, born, emptied;
};

struct bed {
	struct space space;
	struct known known[POOL];
	uint64_t seq, durable, redo, now, seed;
	uint32_t cursor;
};

static uint64_t any(struct bed *b, uint64_t below)
{
	b->seed = hash_mix(b->seed + 1);
	return b->seed % below;
}

/* -- the model -- */

static bool is_log(const struct known *k) { return k->class != CLASS_TABLE; }

/* What is SPENT becomes EMPTY as soon as it may: nothing else does. */
static void settle(struct bed *b)
{
	for (uint32_t i = 0; i < POOL; i++) {
		struct known *k = &b->known[i];
		bool waits = is_log(k) && (!k->sealed || k->emptied > b->durable || k->last > b->redo);
		if (!k->owned || k->state != SPACE_SPENT || k->pins || waits)
			continue;
		k->state = k->bare ? SPACE_RAW : SPACE_EMPTY;
		k->last = 0;
		k->barren = k->fresh = false;
	}
}

static void spend(struct bed *b, struct known *k)
{
	if (k->state != SPACE_CLOSED || k->live)
		return;
	k->state = SPACE_SPENT;
	k->sealed = false;
	settle(b);
}

/* One in this state, from a random one on; SPACE_NONE if there is none. */
static uint32_t one_in(struct bed *b, enum space_state state)
{
	uint32_t from = (uint32_t)any(b, POOL);
	for (uint32_t i = 0; i < POOL; i++) {
		uint32_t at = (from + i) % POOL;
		if (b->known[at].owned && b->known[at].state == state)
			return at;
	}
	return SPACE_NONE;
}

/* -- events -- */

static void do_add(struct bed *b)
{
	uint32_t i = (uint32_t)any(b, POOL + 1);
	bool raw = any(b, 2);
	int error = space_add(&b->space, i, raw);
	assert_int_equal(error, i == POOL ? -LCPFS_E_INVALID : b->known[i].owned ? -LCPFS_E_EXISTS : 0);
	if (!error)
		b->known[i] = (struct known){.owned = true, .state = raw ? SPACE_RAW : SPACE_EMPTY};
}

static void do_remove(struct bed *b)
{
	uint32_t i = one_in(b, any(b, 2) ? SPACE_RAW : SPACE_EMPTY);
	if (i == SPACE_NONE || b->known[i].pins || any(b, 4))
		return;
	space_remove(&b->space, i);
	b->known[i] = (struct known){0};
	assert_null(space_find(&b->space, i));
}

static uint32_t next_empty(const struct bed *b)
{
	for (uint32_t i = 0; i < POOL; i++) {
		const struct known *k = &b->known[(b->cursor + i) % POOL];
		if (k->owned && k->state == SPACE_EMPTY)
			return (b->cursor + i) % POOL;
	}
	return SPACE_NONE;
}

static void do_take(struct bed *b)
{
	unsigned class = (unsigned)any(b, SPACE_CLASSES);
	uint32_t wanted = next_empty(b);
	assert_int_equal(space_take(&b->space, (enum space_class)class, b->now), wanted);
	if (wanted == SPACE_NONE)
		return;
	struct known *k = &b->known[wanted];
	*k = (struct known){.owned = true, .state = SPACE_OPEN, .class = class, .born = b->now};
	b->cursor = wanted + 1;
}

static void do_record(struct bed *b)
{
	uint32_t i = one_in(b, SPACE_OPEN);
	if (i == SPACE_NONE || !is_log(&b->known[i]))
		return;
	space_recorded(&b->space, i, ++b->seq);
	b->known[i].last = b->seq;
}

static void do_close(struct bed *b)
{
	uint32_t i = one_in(b, SPACE_OPEN);
	if (i == SPACE_NONE)
		return;
	space_close(&b->space, i);
	b->known[i].state = SPACE_CLOSED;
	spend(b, &b->known[i]);
}

static void do_live_add(struct bed *b)
{
	uint32_t i = one_in(b, SPACE_OPEN);
	if (i == SPACE_NONE)
		return;
	uint32_t units = (uint32_t)any(b, UNITS - b->known[i].live + 1);
	space_live_add(&b->space, space_find(&b->space, i), units);
	b->known[i].live += units;
	b->now += units;
}

static void do_live_sub(struct bed *b)
{
	uint32_t i = one_in(b, any(b, 4) ? SPACE_CLOSED : SPACE_OPEN);
	if (i == SPACE_NONE)
		return;
	struct known *k = &b->known[i];
	uint32_t units = any(b, 3) ? k->live : (uint32_t)any(b, k->live + 1);
	space_live_sub(&b->space, space_find(&b->space, i), units);
	k->live -= units;
	spend(b, k);
}

static void do_seal(struct bed *b)
{
	for (uint32_t i = 0; i < POOL; i++) {
		struct known *k = &b->known[i];
		if (!k->owned || k->state != SPACE_SPENT || k->sealed || !is_log(k))
			continue;
		k->sealed = true;
		k->emptied = b->seq;
	}
	space_sealed(&b->space, b->seq);
	settle(b);
}

static void do_flush(struct bed *b)
{
	/* An older flush may end later: nothing is taken back. */
	uint64_t upto = any(b, 2) ? b->seq : any(b, b->seq + 1);
	space_durable(&b->space, upto);
	b->durable = MAX_OF(b->durable, upto);
	settle(b);
}

static void do_root(struct bed *b)
{
	b->redo += any(b, any(b, 4) ? 2 : b->seq - b->redo + 1) * (b->redo < b->seq);
	space_rooted(&b->space, b->redo);
	settle(b);
}

static void do_pin(struct bed *b)
{
	static const enum space_state states[] = {SPACE_RAW, SPACE_OPEN, SPACE_CLOSED, SPACE_SPENT};
	uint32_t i = one_in(b, states[any(b, ARRAY_LENGTH(states))]);
	if (i == SPACE_NONE || b->known[i].pins > 2)
		return;
	space_pin(&b->space, i);
	b->known[i].pins++;
}

static void do_unpin(struct bed *b)
{
	uint32_t i = (uint32_t)any(b, POOL);
	if (!b->known[i].pins)
		return;
	space_unpin(&b->space, i);
	b->known[i].pins--;
	settle(b);
}

static void do_back(struct bed *b)
{
	uint32_t i = one_in(b, SPACE_RAW);
	if (i == SPACE_NONE || b->known[i].pins)
		return;
	b->known[i].fresh = any(b, 2);
	space_backed(&b->space, i, b->known[i].fresh);
	b->known[i].state = SPACE_EMPTY;
	b->known[i].bare = false;
}

static void do_bare(struct bed *b)
{
	static const enum space_state states[] = {SPACE_RAW, SPACE_EMPTY, SPACE_SPENT};
	uint32_t i = one_in(b, states[any(b, 3)]);
	if (i == SPACE_NONE || b->known[i].pins || any(b, 3))
		return;
	space_bare(&b->space, i);
	b->known[i].state = b->known[i].state == SPACE_SPENT ? SPACE_SPENT : SPACE_RAW;
	b->known[i].bare = true;
	b->known[i].fresh = false;
}

static void do_barren(struct bed *b)
{
	uint32_t i = one_in(b, SPACE_CLOSED);
	if (i == SPACE_NONE || any(b, 4))
		return;
	b->known[i].barren = !b->known[i].barren;
	space_barren(&b->space, i, b->known[i].barren);
}

static void do_event(struct bed *b)
{
	static void (*const events[])(struct bed *b) = {
		do_add,   do_add,      do_remove,   do_take,     do_take, do_record, do_record, do_record,
		do_close, do_live_add, do_live_add, do_live_sub, do_seal, do_seal,   do_flush,  do_flush,
		do_root,  do_pin,      do_unpin,    do_unpin,    do_back, do_bare,   do_barren,
	};
	events[any(b, ARRAY_LENGTH(events))](b);
}

/* -- do both say the same? -- */

static void compare_each(struct bed *b)
{
	for (uint32_t i = 0; i < POOL; i++) {
		const struct known *k = &b->known[i];
		const struct metaslab *m = space_find(&b->space, i);
		assert_int_equal(m != NULL, k->owned);
		if (!m)
			continue;
		assert_int_equal(m->state, k->state);
		assert_int_equal(m->live, k->live);
		assert_int_equal(m->pins, k->pins);
		if (k->state == SPACE_OPEN || k->state == SPACE_CLOSED)
			assert_int_equal(m->class, k->class);
		if (k->state != SPACE_RAW)
			assert_int_equal(m->last, k->last);
	}
}

static void compare_sums(struct bed *b)
{
	uint64_t live[SPACE_CLASSES] = {0};
	uint32_t count = 0, state[SPACE_STATES] = {0}, unflushed = 0, bare = 0;
	bool gains = false;
	for (uint32_t i = 0; i < POOL; i++) {
		const struct known *k = &b->known[i];
		if (!k->owned)
			continue;
		count++;
		state[k->state]++;
		live[k->class] += k->live;
		bare += k->bare && k->state == SPACE_SPENT;
		bool waits = k->state == SPACE_SPENT && is_log(k) && (!k->sealed || k->emptied > b->durable);
		unflushed += waits;
		gains |= is_log(k) && k->last > b->redo &&
			 (k->state == SPACE_CLOSED || (k->state == SPACE_SPENT && !waits));
	}
	assert_int_equal(b->space.count, count);
	assert_int_equal(space_empty(&b->space), state[SPACE_EMPTY]);
	assert_int_equal(space_raw(&b->space), state[SPACE_RAW]);
	assert_int_equal(space_with_place(&b->space), count - state[SPACE_RAW] - bare);
	assert_int_equal(space_unflushed(&b->space), unflushed);
	assert_int_equal(b->space.young.count || b->space.logged.count, gains); /* by a later redo point */
	for (unsigned i = 0; i < SPACE_CLASSES; i++)
		assert_int_equal(b->space.live[i], live[i]);
}

static void compare_raw(struct bed *b)
{
	uint32_t next[2] = {SPACE_NONE, SPACE_NONE}, last[2] = {SPACE_NONE, SPACE_NONE};
	for (uint32_t i = 0; i < POOL; i++) {
		const struct known *k = &b->known[i];
		if (!k->owned || k->state != SPACE_RAW || k->pins)
			continue;
		next[k->bare] = next[k->bare] == SPACE_NONE ? i : next[k->bare];
		last[k->bare] = i;
	}
	assert_int_equal(space_next_raw(&b->space), next[0] != SPACE_NONE ? next[0] : next[1]);
	assert_int_equal(space_last_raw(&b->space), last[1] != SPACE_NONE ? last[1] : last[0]);
}

/* What cleaning it gains, if `more` units of it were live. */
static double gain(const struct bed *b, const struct known *k, double more)
{
	double used = ((double)k->live + more) / UNITS, age = (double)(b->now - k->born) + 1;
	return used < 1 ? (1 - used) * age / (1 + used) : 0;
}

static bool may_be_cleaned(const struct bed *b, const struct known *k)
{
	return k->owned && k->state == SPACE_CLOSED && is_log(k) && k->last <= b->redo && !k->barren;
}

/* The best, but for what those in one bucket differ in: a bucket's width of live units. */
/* The next EMPTY ones, from where the last one was taken. */
static void compare_fresh(struct bed *b)
{
	uint32_t among = (uint32_t)any(b, 8), left = among, wanted = SPACE_NONE;
	for (uint32_t i = 0; i < POOL && left && wanted == SPACE_NONE; i++) {
		uint32_t at = (b->cursor + i) % POOL;
		const struct known *k = &b->known[at];
		if (!k->owned || k->state != SPACE_EMPTY)
			continue;
		left--;
		wanted = k->fresh ? at : SPACE_NONE;
	}
	assert_int_equal(space_next_fresh(&b->space, among), wanted);
}

static void compare_victim(struct bed *b)
{
	const double width = (double)(UNITS + 1) / SPACE_BUCKETS;
	const struct metaslab *m = space_victim(&b->space, b->now);
	double got = m ? gain(b, &b->known[m->index], 0) : 0;
	if (m)
		assert_true(may_be_cleaned(b, &b->known[m->index]) && m->live < USABLE);
	for (uint32_t i = 0; i < POOL; i++) {
		const struct known *k = &b->known[i];
		if (may_be_cleaned(b, k) && k->live + width < USABLE)
			assert_true(m && got >= gain(b, k, width));
	}
}

static void compare_table_victim(struct bed *b)
{
	unsigned share = (unsigned)any(b, 101);
	const struct metaslab *m = space_table_victim(&b->space, share);
	uint32_t least = SPACE_NONE;
	for (uint32_t i = 0; i < POOL; i++) {
		const struct known *k = &b->known[i];
		if (k->owned && k->state == SPACE_CLOSED && !is_log(k))
			least = MIN_OF(least, k->live);
	}
	bool wanted = least != SPACE_NONE && (uint64_t)least * 100 < (uint64_t)UNITS * share;
	assert_int_equal(m != NULL, wanted);
	if (m)
		assert_int_equal(m->live, least);
}

static void start(struct bed *b, uint64_t seed)
{
	*b = (struct bed){.seed = seed, .seq = 1, .durable = 1};
	assert_int_equal(space_init(&b->space, POOL, UNITS, USABLE), 0);
	space_durable(&b->space, 1);
}

static void any_events_leave_what_the_model_says(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 4; seed++) {
		struct bed b;
		uint32_t states = 0;
		start(&b, seed);
		for (unsigned i = 0; i < EVENTS; i++) {
			do_event(&b);
			space_audit(&b.space);
			compare_each(&b);
			compare_sums(&b);
			compare_raw(&b);
			compare_fresh(&b);
			compare_victim(&b);
			compare_table_victim(&b);
			for (unsigned k = 0; k < SPACE_STAGES; k++)
				states |= (k == STAGE_LOGGED ? b.space.logged.count : b.space.spent[k].count)
						  ? 1u << k
						  : 0;
		}
		assert_int_equal(states, (1u << SPACE_STAGES) - 1); /* the test came by every stage */
		space_free(&b.space);
	}
}

/* -- single promises -- */

/* Neither alone makes it EMPTY: that its end is flushed, and that no record in it is needed. */
static void what_was_emptied_waits_for_both(void **state)
{
	(void)state;
	for (unsigned first = 0; first < 2; first++) {
		struct bed b;
		start(&b, 0);
		assert_int_equal(space_add(&b.space, 5, false), 0);
		assert_int_equal(space_take(&b.space, CLASS_HOT, 0), 5);
		struct metaslab *m = space_find(&b.space, 5);
		space_live_add(&b.space, m, 10);
		space_recorded(&b.space, 5, 7);
		space_close(&b.space, 5);
		space_live_sub(&b.space, m, 10);
		space_sealed(&b.space, 9);
		for (unsigned i = 0; i < 2; i++) {
			assert_int_equal(m->state, SPACE_SPENT);
			if (i == first) {
				space_durable(&b.space, 8);
				assert_int_equal(m->state, SPACE_SPENT);
				space_durable(&b.space, 9);
			} else {
				space_rooted(&b.space, 6);
				assert_int_equal(m->state, SPACE_SPENT);
				space_rooted(&b.space, 7);
			}
		}
		assert_int_equal(m->state, SPACE_EMPTY);
		space_free(&b.space);
	}
}

static void blocks_are_placed_by_how_long_the_last_ones_lived(void **state)
{
	enum { LIFE = 100, SEEN = 16 };
	struct bed b;
	uint64_t now = 0;
	(void)state;
	start(&b, 0);
	for (uint32_t i = 0; i < SEEN + 2; i++)
		assert_int_equal(space_add(&b.space, i, false), 0);
	for (uint32_t i = 0; i < SEEN; i++, now += LIFE) {
		assert_int_equal(space_place(&b.space, 2 * i, SPACE_NONE, now), CLASS_HOT); /* not known yet */
		uint32_t taken = space_take(&b.space, CLASS_HOT, now);
		struct metaslab *m = space_find(&b.space, taken);
		space_live_add(&b.space, m, 1);
		space_close(&b.space, taken);
		uint32_t other = space_take(&b.space, CLASS_COLD, now + LIFE); /* so it knows the time */
		space_close(&b.space, other);
		space_live_sub(&b.space, m, 1);
		space_sealed(&b.space, 1);
	}
	uint32_t young = space_take(&b.space, CLASS_HOT, now), moved = space_take(&b.space, CLASS_MOVED, now);
	assert_int_equal(space_place(&b.space, 7, SPACE_NONE, now), CLASS_COLD);
	assert_int_equal(space_place(&b.space, 9, young, now + LIFE - 1), CLASS_HOT);
	assert_int_equal(space_place(&b.space, 11, young, now + 2 * LIFE), CLASS_COLD);
	assert_int_equal(space_place(&b.space, 7, moved, now), CLASS_COLD);
	/* What follows goes with it, up to where a run ends. */
	assert_int_equal(space_place(&b.space, 8, young, now), CLASS_COLD);
	assert_int_equal(space_place(&b.space, 10, young, now), CLASS_HOT);
	for (uint64_t address = 11; address < 128; address++)
		assert_int_equal(space_place(&b.space, address, moved, now), CLASS_HOT);
	assert_int_equal(space_place(&b.space, 127, moved, now), CLASS_HOT); /* asked again */
	assert_int_equal(space_place(&b.space, 128, moved, now), CLASS_COLD);
	space_free(&b.space);
}

/* -- what is kept back -- */

/* For a step of a checkpoint, all its pages twice: leaves of a region, those above, the space list. */
static void a_step_has_room_for_all_its_pages(void **state)
{
	(void)state;
	for (uint32_t metaslabs = 6; metaslabs < 4000000; metaslabs = metaslabs * 5 / 3) {
		struct plan_table t = {.metaslab_blocks = 256, .pages = UINT64_C(1) << 33};
		uint64_t few = plan_needs(&t, 1, 0, 1).step_units, list = 0, level = metaslabs;
		for (unsigned slots = SPACE_SLOTS; list == 0 || level > 1; slots = TABLE_SLOTS) {
			level = (level + slots - 1) / slots;
			list += level;
		}
		assert_int_equal(plan_list_pages(metaslabs), list);
		assert_int_equal(plan_needs(&t, metaslabs, 0, 1).step_units - few, 2 * (list - 1) * BLOCK_SECTORS);
	}
}

/* Writers leave what trims need, these what cleaning needs, and that what a checkpoint needs. */
static void each_leaves_something_to_the_next(void **state)
{
	(void)state;
	for (uint64_t units = 0; units < 100000; units += 777) {
		struct space space = {.units = 256 * BLOCK_SECTORS, .usable = 250 * BLOCK_SECTORS};
		struct space_needs needs = {.step_units = units, .notes_units = units / 3, .heads = 3};
		struct space_reserve r = space_reserve_for(&space, &needs);
		assert_true((uint64_t)r.table * space.units >= units);
		assert_true(r.notes > r.table && r.kept > r.notes);
		assert_true((uint64_t)(r.kept - r.notes) * space.usable >= needs.notes_units);
	}
}

/* -- indexsets -- */

static void check_set(const struct indexset *set, const bool *has, uint32_t bound, uint32_t from)
{
	uint32_t next = from, last = bound;
	while (next < bound && !has[next])
		next++;
	while (last > 0 && !has[last - 1])
		last--;
	assert_int_equal(indexset_next(set, from), next < bound ? next : INDEXSET_NONE);
	assert_int_equal(indexset_last(set), last > 0 ? last - 1 : INDEXSET_NONE);
	assert_int_equal(indexset_has(set, from), from < bound && has[from]);
}

static void a_set_has_what_was_put_into_it(void **state)
{
	static const uint32_t bounds[] = {1, 2, 63, 64, 65, 4095, 4096, 4097, 70000};
	static bool has[70000];
	(void)state;
	for (unsigned i = 0; i < ARRAY_LENGTH(bounds); i++) {
		uint32_t bound = bounds[i];
		struct indexset set;
		memset(has, 0, sizeof(has));
		assert_int_equal(indexset_init(&set, bound), 0);
		for (uint64_t round = 0; round < 3000; round++) {
			uint64_t seed = hash_mix(round);
			uint32_t number = (uint32_t)(seed % bound);
			has[number] = seed >> 40 & 1 && round % 500 > 100; /* nearly empty now and then */
			if (has[number])
				indexset_add(&set, number);
			else
				indexset_remove(&set, number);
			check_set(&set, has, bound, (uint32_t)(hash_mix(seed) % (bound + 2)));
		}
		indexset_free(&set);
	}
}

/* -- the audit -- */

/* Some of each state and stage. */
static void fill(struct bed *b)
{
	start(b, 1);
	alarm(60);
	while (!b->space.spent[STAGE_UNFLUSHED].count || !b->space.logged.count || b->space.young.count < 2 ||
	       b->space.spent[STAGE_UNSEALED].count < 2 || !b->space.in_state[SPACE_EMPTY] ||
	       !b->space.in_state[SPACE_OPEN] || b->space.table.count < 2 || !b->space.in_state[SPACE_RAW])
		do_event(b);
	space_audit(&b->space);
}

static struct metaslab *of_state(struct bed *b, enum space_state state)
{
	return space_find(&b->space, one_in(b, state));
}

static void wrong_live_sum(struct bed *b) { b->space.live[CLASS_COLD]++; }
static void wrong_live(struct bed *b) { of_state(b, SPACE_CLOSED)->live++; }
static void too_much_live(struct bed *b)
{
	struct metaslab *m = of_state(b, SPACE_OPEN);
	b->space.live[m->class] += UNITS + 1 - m->live;
	m->live = UNITS + 1;
}
static void live_in_empty(struct bed *b)
{
	struct metaslab *m = of_state(b, SPACE_EMPTY);
	m->live = 1;
	b->space.live[m->class]++;
}
static void wrong_state_count(struct bed *b)
{
	b->space.in_state[SPACE_OPEN]--;
	b->space.in_state[SPACE_CLOSED]++;
}
static void wrong_class_count(struct bed *b) { b->space.in_class[CLASS_HOT]++; }
static void wrong_list_count(struct bed *b) { b->space.spent[STAGE_UNSEALED].count--; }
static void wrong_heap_count(struct bed *b) { b->space.young.count++; }
static void wrong_state(struct bed *b) { of_state(b, SPACE_OPEN)->state = SPACE_CLOSED; }
static void wrong_stage(struct bed *b)
{
	space_find(&b->space, b->space.spent[STAGE_UNSEALED].first)->stage = STAGE_PINNED;
}
static void wrong_order(struct bed *b) { space_find(&b->space, b->space.young.top)->last = UINT64_MAX; }
static void wrong_parent(struct bed *b) { space_find(&b->space, b->space.table.top)->parent = 0; }
static void wrong_slot(struct bed *b)
{
	uint32_t first = b->space.slab[0].index, second = b->space.slab[1].index, slot = b->space.slot[first];
	b->space.slot[first] = b->space.slot[second];
	b->space.slot[second] = slot;
}
static void not_among_empty(struct bed *b) { indexset_remove(&b->space.empty, of_state(b, SPACE_EMPTY)->index); }
static void also_among_empty(struct bed *b) { indexset_add(&b->space.empty, of_state(b, SPACE_CLOSED)->index); }
static void also_among_raw(struct bed *b) { indexset_add(&b->space.raw, of_state(b, SPACE_EMPTY)->index); }
static void on_two_lists(struct bed *b) /* the first that is not sealed also ends the list of those not flushed */
{
	struct space_list *other = &b->space.spent[STAGE_UNFLUSHED];
	uint32_t index = b->space.spent[STAGE_UNSEALED].first;
	space_find(&b->space, other->last)->right = index;
	other->last = index;
	other->count++;
}
static void in_two_heaps(struct bed *b) /* and in none of its own */
{
	b->space.bucket[SPACE_BUCKETS - 1] = b->space.young;
}
static void off_its_list(struct bed *b)
{
	struct space_list *l = &b->space.spent[STAGE_UNSEALED];
	l->first = space_find(&b->space, l->first)->right;
	space_find(&b->space, l->first)->left = SPACE_NONE;
	l->count--;
}
static void whole(struct bed *b) { (void)b; }

/* The signal that ends a process that plants this and audits. */
static int ending(void (*plant)(struct bed *b))
{
	int status;
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		struct bed b;
		fill(&b);
		alarm(20);
		plant(&b);
		(void)!freopen("/dev/null", "w", stderr);
		space_audit(&b.space);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return WIFSIGNALED(status) ? WTERMSIG(status) : 0;
}

static void the_audit_finds_what_is_wrong(void **state)
{
	static void (*const plants[])(struct bed *b) = {
		wrong_live_sum,    wrong_live,       too_much_live,    live_in_empty,   wrong_state_count,
		wrong_class_count, wrong_list_count, wrong_heap_count, wrong_state,     wrong_stage,
		wrong_order,       wrong_parent,     wrong_slot,       not_among_empty, also_among_empty,
		also_among_raw,    on_two_lists,     in_two_heaps,     off_its_list,
	};
	(void)state;
	assert_int_equal(ending(whole), 0);
	for (unsigned i = 0; i < ARRAY_LENGTH(plants); i++) {
		int signal = ending(plants[i]);
		if (signal != SIGABRT)
			fail_msg("defect %u is not found (%d)", i, signal);
	}
}

/* -- what is given away -- */

static void what_is_given_is_charged_what_one_cost(void **state)
{
	struct space s = {.units = UNITS, .usable = USABLE, .count = 64};
	struct plan_gain one = {.copied = 300, .all = 300, .before = 8, .after = 9}, gain = one;
	uint64_t blocks = USABLE / BLOCK_SECTORS;
	(void)state;
	assert_int_equal(plan_price(&s, &gain), 300);
	gain.after = 12; /* three more stay: writers need not clean for them */
	assert_int_equal(plan_price(&s, &gain), 75);
	gain = one;
	gain.written = 2 * blocks; /* users took two meanwhile */
	assert_int_equal(plan_price(&s, &gain), 100);
	gain.all = 1200; /* others cleaned, too */
	assert_int_equal(plan_price(&s, &gain), 300);
	gain = one;
	gain.before = 12; /* what was there went */
	assert_int_equal(plan_price(&s, &gain), 300);
}

static void what_is_left_is_to_be_had(void **state)
{
	struct space s = {.units = UNITS, .usable = USABLE, .count = 64};
	(void)state;
	assert_int_equal(plan_left(&s, 1000, 1000 + 100 * USABLE), 2 * PLAN_AHEAD_MOST);
	assert_int_equal(plan_left(&s, 1000, 1000 + 3 * USABLE), 3);
	assert_int_equal(plan_left(&s, 1000, 1000), 0);
	assert_int_equal(plan_left(&s, 1000, 999), 0);
	s.count = PLAN_AHEAD_SHARE - 1;
	assert_int_equal(plan_left(&s, 1000, 1000 + 100 * USABLE), 0);
	s.in_state[SPACE_EMPTY] = 10;
	s.spent[STAGE_UNFLUSHED].count = 1;
	assert_true(plan_flushes_first(&s, 8, 2) && !plan_flushes_first(&s, 7, 2) &&
		    !plan_flushes_first(&s, 10, 0));
	s.spent[STAGE_UNFLUSHED].count = 0;
	assert_false(plan_flushes_first(&s, 8, 2));
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(any_events_leave_what_the_model_says),
					   cmocka_unit_test(what_was_emptied_waits_for_both),
					   cmocka_unit_test(blocks_are_placed_by_how_long_the_last_ones_lived),
					   cmocka_unit_test(a_set_has_what_was_put_into_it),
					   cmocka_unit_test(a_step_has_room_for_all_its_pages),
					   cmocka_unit_test(each_leaves_something_to_the_next),
					   cmocka_unit_test(what_is_given_is_charged_what_one_cost),
					   cmocka_unit_test(what_is_left_is_to_be_had),
					   cmocka_unit_test(the_audit_finds_what_is_wrong)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
