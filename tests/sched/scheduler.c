/* SPDX-License-Identifier: Apache-2.0 */
#include "scheduler.h"

#include <errno.h>
#include <inttypes.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <time.h>
#include <ucontext.h>

#include "base/check.h"
#include "base/hash.h"

enum {
	FIBERS_MAX = 64,
	MUTEXES = 1024, /* a power of two */
	STACK_BYTES = 512 * 1024,
	GUARD_BYTES = 4096,
	QUANTUM = 400, /* steps of one thread without a wait before the default order looks at others, too */
};

enum fiber_state { FIBER_READY, FIBER_MUTEX, FIBER_COND, FIBER_JOIN, FIBER_AWAIT, FIBER_DONE };

struct mutex {
	const void *address; /* NULL: slot free */
	struct sched_fiber *owner;
	unsigned depth;
};

struct sched_fiber {
	ucontext_t context;
	void *stack;
	void (*run)(void *context);
	void *argument;
	void *(*thread)(void *argument); /* instead of run: started by pthread_create */
	unsigned number;
	enum fiber_state state;
	struct mutex *mutex;   /* MUTEX, and COND: to take again */
	const void *cond;      /* COND */
	bool timed, timed_out; /* COND */
	uint64_t deadline_us;  /* COND, timed */
	uint64_t waits_since;  /* COND: for signals in order */
	struct sched_fiber *joins;
	const unsigned *left; /* AWAIT */
	uint64_t priority;
};

enum agent_kind { AGENT_FIBER, AGENT_EVENT, AGENT_TIMEOUT };

struct agent {
	enum agent_kind kind;
	struct sched_fiber *fiber;
	struct sched_event *event;
};

static struct {
	const struct sched_plan *plan;
	struct sched_trace *trace;
	void (*stuck)(const char *text);
	struct sched_fiber fiber[FIBERS_MAX];
	unsigned fibers;
	struct sched_fiber *current;
	struct sched_event *events, **events_end;
	uint64_t event_numbers;
	uint64_t step, now_us, random, waits;
	unsigned in_a_row; /* steps of the current fiber */
	size_t next_deviation;
	uint64_t lowest; /* PCT: below all priorities given so far */
	struct mutex mutex[MUTEXES];
	ucontext_t outside;
	bool running;
	bool firing; /* an event happens: whatever it calls does not wait */
} S;

static void *spare_stack[FIBERS_MAX];
static unsigned spare_stacks;

bool sched_is_running(void)
{
	return S.running;
}

uint64_t sched_step(void)
{
	return S.step;
}

uint64_t sched_now_us(void)
{
	return S.now_us;
}

static uint64_t draw(uint64_t below)
{
	return hash_mix(S.plan->seed ^ hash_mix(++S.random)) % below;
}

/* -- what each waits for -- */

static struct mutex *mutex_of(const void *address)
{
	size_t at = hash_mix((uintptr_t)address) & (MUTEXES - 1);
	for (unsigned tries = 0; tries < MUTEXES; tries++, at = (at + 1) & (MUTEXES - 1)) {
		struct mutex *m = &S.mutex[at];
		if (m->address == address)
			return m;
		if (!m->address) {
			m->address = address;
			return m;
		}
	}
	CHECK(!"more mutexes than the table holds");
	return NULL;
}

static bool can_go_on(const struct sched_fiber *f)
{
	switch (f->state) {
	case FIBER_READY:
		return true;
	case FIBER_MUTEX:
		return !f->mutex->owner;
	case FIBER_JOIN:
		return f->joins->state == FIBER_DONE;
	case FIBER_AWAIT:
		return *f->left == 0;
	default:
		return false;
	}
}

static void describe_stuck(char *text, size_t room)
{
	static const char *const what[] = {"can go on", "waits for a mutex",  "waits for a condition",
					   "joins",     "waits for a device", "has ended"};
	size_t used = 0;
	for (unsigned i = 0; i < S.fibers && used < room; i++) {
		const struct sched_fiber *f = &S.fiber[i];
		int owner = f->state == FIBER_MUTEX && f->mutex->owner ? (int)f->mutex->owner->number : -1;
		used += (size_t)snprintf(text + used, room - used, "%sthread %u %s", i ? ", " : "", i,
					 what[f->state]);
		if (owner >= 0 && used < room)
			used += (size_t)snprintf(text + used, room - used, " that thread %d has", owner);
	}
}

static void be_stuck(const char *why)
{
	char text[2048], threads[1800];
	describe_stuck(threads, sizeof(threads));
	snprintf(text, sizeof(text), "%s after %" PRIu64 " steps: %s", why, S.step, threads);
	S.stuck(text);
	abort();
}

/* -- choosing -- */

struct agents {
	struct agent list[2 * FIBERS_MAX + 512];
	unsigned count;
};

static void add_agent(struct agents *a, enum agent_kind kind, struct sched_fiber *fiber, struct sched_event *event)
{
	if (a->count < ARRAY_LENGTH(a->list))
		a->list[a->count++] = (struct agent){kind, fiber, event};
}

static void add_timeouts(struct agents *a)
{
	unsigned first = a->count;
	for (unsigned i = 0; i < S.fibers; i++) {
		struct sched_fiber *f = &S.fiber[i];
		if (f->state == FIBER_COND && f->timed)
			add_agent(a, AGENT_TIMEOUT, f, NULL);
	}
	for (unsigned i = first; i < a->count; i++) { /* the nearest first */
		for (unsigned j = i;
		     j > first && a->list[j].fiber->deadline_us < a->list[j - 1].fiber->deadline_us; j--) {
			struct agent t = a->list[j];
			a->list[j] = a->list[j - 1];
			a->list[j - 1] = t;
		}
	}
}

static void add_fibers(struct agents *a, unsigned from, unsigned end)
{
	for (struct sched_fiber *f = &S.fiber[from]; f < &S.fiber[end]; f++) {
		if (f != S.current && can_go_on(f))
			add_agent(a, AGENT_FIBER, f, NULL);
	}
}

/* In the default order. */
static void list_agents(struct agents *a)
{
	bool tired = S.in_a_row >= QUANTUM;
	a->count = 0;
	if (S.current && can_go_on(S.current) && !tired)
		add_agent(a, AGENT_FIBER, S.current, NULL);
	for (struct sched_event *e = S.events; e; e = e->next)
		add_agent(a, AGENT_EVENT, NULL, e);
	unsigned first = S.current ? S.current->number + 1u : 0;
	add_fibers(a, first, S.fibers);
	add_fibers(a, 0, MIN_OF(first, S.fibers));
	add_timeouts(a);
	if (tired && S.current && can_go_on(S.current))
		add_agent(a, AGENT_FIBER, S.current, NULL);
}

static unsigned pick_given(const struct agents *a)
{
	const struct sched_plan *plan = S.plan;
	while (S.next_deviation < plan->deviations && plan->deviation[S.next_deviation].step < S.step)
		S.next_deviation++;
	if (S.next_deviation == plan->deviations || plan->deviation[S.next_deviation].step != S.step)
		return 0;
	return MIN_OF(plan->deviation[S.next_deviation].pick, a->count - 1);
}

/* Some device operations are slow: much else happens before they are done. */
static unsigned weight_of(const struct agent *agent)
{
	bool slow =
		agent->kind == AGENT_TIMEOUT || (agent->kind == AGENT_EVENT && agent->event->priority % 4 == 0);
	return slow ? 1 : 64;
}

static unsigned pick_random(const struct agents *a)
{
	unsigned sum = 0, i = 0;
	if (a->list[0].fiber == S.current && a->list[0].kind == AGENT_FIBER && draw(1000) < S.plan->stay_permille)
		return 0;
	for (i = 0; i < a->count; i++)
		sum += weight_of(&a->list[i]);
	uint64_t at = draw(sum);
	for (i = 0; at >= weight_of(&a->list[i]); i++)
		at -= weight_of(&a->list[i]);
	return i;
}

static uint64_t *priority_of(const struct agent *agent)
{
	return agent->kind == AGENT_EVENT ? &agent->event->priority : &agent->fiber->priority;
}

static bool is_change_point(void)
{
	for (unsigned i = 0; i < S.plan->changes; i++) {
		if (hash_mix(S.plan->seed * 31 + i) % S.plan->steps_guess == S.step)
			return true;
	}
	return false;
}

static unsigned pick_pct(const struct agents *a)
{
	unsigned best = 0;
	if ((is_change_point() || S.in_a_row >= QUANTUM) && S.current)
		S.current->priority = --S.lowest;
	for (unsigned i = 1; i < a->count; i++) {
		bool later = a->list[i].kind == AGENT_TIMEOUT, best_later = a->list[best].kind == AGENT_TIMEOUT;
		if (later != best_later ? best_later : *priority_of(&a->list[i]) > *priority_of(&a->list[best]))
			best = i;
	}
	/* Limits do pass while others are at work. */
	if (a->list[a->count - 1].kind == AGENT_TIMEOUT && draw(64) == 0)
		best = a->count - 1;
	return best;
}

static void note_pick(const struct agent *agent, unsigned pick)
{
	struct sched_trace *t = S.trace;
	uint64_t who = agent->kind == AGENT_EVENT ? agent->event->number << 8 : agent->fiber->number + 1u;
	t->hash = hash_mix(t->hash * 3 + who * 4 + (uint64_t)agent->kind);
	t->switches += agent->fiber != S.current;
	if (!pick)
		return;
	if (t->deviations < t->room)
		t->deviation[t->deviations] = (struct sched_deviation){(uint32_t)S.step, pick};
	t->deviations++;
}

static struct agent choose(void)
{
	struct agents a;
	if (S.plan->at_step)
		S.plan->at_step(S.plan->context, S.step);
	list_agents(&a);
	if (!a.count)
		be_stuck("nobody can go on");
	unsigned pick = S.plan->kind == SCHED_GIVEN    ? pick_given(&a)
			: S.plan->kind == SCHED_RANDOM ? pick_random(&a)
						       : pick_pct(&a);
	note_pick(&a.list[pick], pick);
	S.step++;
	S.now_us++;
	if (S.step > S.plan->steps_max)
		be_stuck("no end");
	return a.list[pick];
}

/* -- going on -- */

static void switch_to(struct sched_fiber *next)
{
	struct sched_fiber *from = S.current;
	S.in_a_row = from == next ? S.in_a_row + 1 : 0;
	S.current = next;
	if (next->state == FIBER_MUTEX) {
		next->mutex->owner = next;
		next->mutex->depth = 1;
	}
	next->state = FIBER_READY;
	if (from == next)
		return;
	if (from->state == FIBER_DONE)
		setcontext(&next->context);
	else
		swapcontext(&from->context, &next->context);
}

static void fire(struct sched_event *event)
{
	struct sched_event **link = &S.events;
	while (*link != event)
		link = &(*link)->next;
	*link = event->next;
	if (!*link)
		S.events_end = link;
	S.firing = true;
	event->fire(event);
	S.firing = false;
}

/* Lets whoever is picked go on; returns when it is the caller's turn again. Its state says what it waits for. */
static void step(void)
{
	for (;;) {
		struct agent agent = choose();
		if (agent.kind == AGENT_EVENT) {
			fire(agent.event);
		} else if (agent.kind == AGENT_TIMEOUT) {
			S.now_us = MAX_OF(S.now_us, agent.fiber->deadline_us);
			agent.fiber->timed_out = true;
			agent.fiber->state = FIBER_MUTEX;
		} else {
			switch_to(agent.fiber);
			return;
		}
	}
}

void sched_point(void)
{
	if (S.running)
		step();
}

/* -- threads -- */

static void *take_stack(void)
{
	if (spare_stacks)
		return spare_stack[--spare_stacks];
	uint8_t *memory = mmap(NULL, STACK_BYTES, PROT_READ | PROT_WRITE, MAP_PRIVATE | MAP_ANONYMOUS, -1, 0);

	CHECK(memory != MAP_FAILED && mprotect(memory, GUARD_BYTES, PROT_NONE) == 0);
	return memory;
}

static void fiber_start(unsigned number)
{
	struct sched_fiber *f = &S.fiber[number];
	if (f->thread)
		f->thread(f->argument);
	else
		f->run(f->argument);
	f->state = FIBER_DONE;
	if (number == 0) {
		setcontext(&S.outside);
		abort();
	}
	step();
	abort(); /* nobody goes on with one that has ended */
}

static struct sched_fiber *fiber_new(void (*run)(void *), void *(*thread)(void *), void *argument)
{
	CHECK(S.fibers < FIBERS_MAX);
	struct sched_fiber *f = &S.fiber[S.fibers];
	*f = (struct sched_fiber){.stack = take_stack(),
				  .run = run,
				  .thread = thread,
				  .argument = argument,
				  .number = S.fibers,
				  .priority = (UINT64_C(1) << 40) + draw(UINT64_C(1) << 32)};
	CHECK(getcontext(&f->context) == 0);
	f->context.uc_stack.ss_sp = f->stack;
	f->context.uc_stack.ss_size = STACK_BYTES;
	f->context.uc_link = NULL;
	makecontext(&f->context, (void (*)(void))fiber_start, 1, S.fibers);
	S.fibers++;
	return f;
}

struct sched_fiber *sched_spawn(void (*run)(void *context), void *context)
{
	struct sched_fiber *f = fiber_new(run, NULL, context);
	step();
	return f;
}

void sched_join(struct sched_fiber *fiber)
{
	S.current->state = FIBER_JOIN;
	S.current->joins = fiber;
	step();
}

void sched_run(const struct sched_plan *plan, void (*main)(void *context), void *context,
	       struct sched_trace *trace, void (*stuck)(const char *text))
{
	CHECK(!S.running);
	memset(&S, 0, sizeof(S));
	S.plan = plan;
	S.trace = trace;
	S.stuck = stuck;
	S.events_end = &S.events;
	S.now_us = 1000000;
	S.lowest = UINT64_C(1) << 40;
	S.current = fiber_new(main, NULL, context);
	S.running = true;
	volatile bool entered = false;
	CHECK(getcontext(&S.outside) == 0);
	if (!entered) {
		entered = true;
		setcontext(&S.fiber[0].context);
	}
	S.running = false;
	trace->steps = S.step;
	CHECK(!S.events);
	for (unsigned i = 0; i < S.fibers; i++) {
		CHECK(S.fiber[i].state == FIBER_DONE);
		spare_stack[spare_stacks++] = S.fiber[i].stack;
	}
}

/* -- devices -- */

void sched_post(struct sched_event *event)
{
	CHECK(S.running);
	event->next = NULL;
	event->number = ++S.event_numbers;
	event->priority = (UINT64_C(1) << 40) + draw(UINT64_C(1) << 32);
	*S.events_end = event;
	S.events_end = &event->next;
}

struct sched_event *sched_events(void)
{
	return S.events;
}

void sched_await(const unsigned *left)
{
	S.current->state = FIBER_AWAIT;
	S.current->left = left;
	step();
}

/* -- in the place of the system's -- */

static bool is_ours(void)
{
	return S.running && !S.firing;
}

int __real_pthread_mutex_lock(pthread_mutex_t *mutex);
int __real_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __real_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __real_pthread_mutex_destroy(pthread_mutex_t *mutex);
int __real_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __real_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until);
int __real_pthread_cond_signal(pthread_cond_t *cond);
int __real_pthread_cond_broadcast(pthread_cond_t *cond);
int __real_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *argument);
int __real_pthread_join(pthread_t thread, void **result);
int __real_clock_gettime(clockid_t clock, struct timespec *now);

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex);
int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex);
int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex);
int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until);
int __wrap_pthread_cond_signal(pthread_cond_t *cond);
int __wrap_pthread_cond_broadcast(pthread_cond_t *cond);
int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *argument);
int __wrap_pthread_join(pthread_t thread, void **result);
int __wrap_clock_gettime(clockid_t clock, struct timespec *now);

int __wrap_pthread_mutex_lock(pthread_mutex_t *mutex)
{
	if (!is_ours())
		return __real_pthread_mutex_lock(mutex);
	struct mutex *m = mutex_of(mutex);

	if (m->owner == S.current) { /* a recursive one, of the simulated disk */
		m->depth++;
		return 0;
	}
	S.current->state = FIBER_MUTEX;
	S.current->mutex = m;
	step();
	return 0;
}

int __wrap_pthread_mutex_trylock(pthread_mutex_t *mutex)
{
	if (!is_ours())
		return __real_pthread_mutex_trylock(mutex);
	step();
	struct mutex *m = mutex_of(mutex);

	if (m->owner)
		return EBUSY;
	m->owner = S.current;
	m->depth = 1;
	return 0;
}

int __wrap_pthread_mutex_unlock(pthread_mutex_t *mutex)
{
	if (!is_ours())
		return __real_pthread_mutex_unlock(mutex);
	struct mutex *m = mutex_of(mutex);

	CHECK(m->owner == S.current);
	if (--m->depth == 0)
		m->owner = NULL;
	return 0;
}

int __wrap_pthread_mutex_destroy(pthread_mutex_t *mutex)
{
	if (S.running) {
		CHECK(!mutex_of(mutex)->owner);
		for (unsigned i = 0; i < S.fibers; i++)
			CHECK(S.fiber[i].state != FIBER_MUTEX || S.fiber[i].mutex->address != mutex);
	}
	return __real_pthread_mutex_destroy(mutex);
}

static int cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
	struct sched_fiber *f = S.current;
	struct mutex *m = mutex_of(mutex);
	CHECK(m->owner == f && m->depth == 1);
	m->owner = NULL;
	f->state = FIBER_COND;
	f->mutex = m;
	f->cond = cond;
	f->timed = until != NULL;
	f->timed_out = false;
	f->waits_since = ++S.waits;
	if (until)
		f->deadline_us = (uint64_t)until->tv_sec * 1000000 + (uint64_t)until->tv_nsec / 1000;
	step();
	return f->timed_out ? ETIMEDOUT : 0;
}

int __wrap_pthread_cond_wait(pthread_cond_t *cond, pthread_mutex_t *mutex)
{
	return is_ours() ? cond_wait(cond, mutex, NULL) : __real_pthread_cond_wait(cond, mutex);
}

int __wrap_pthread_cond_timedwait(pthread_cond_t *cond, pthread_mutex_t *mutex, const struct timespec *until)
{
	return is_ours() ? cond_wait(cond, mutex, until) : __real_pthread_cond_timedwait(cond, mutex, until);
}

static void wake(struct sched_fiber *f)
{
	f->state = FIBER_MUTEX;
	f->timed = false;
}

/* Any of those who wait may be the one; which is drawn, except in the default order. */
int __wrap_pthread_cond_signal(pthread_cond_t *cond)
{
	if (!is_ours())
		return __real_pthread_cond_signal(cond);
	struct sched_fiber *waiting[FIBERS_MAX];
	unsigned count = 0;

	for (unsigned i = 0; i < S.fibers; i++) {
		struct sched_fiber *f = &S.fiber[i];
		if (f->state == FIBER_COND && f->cond == cond)
			waiting[count++] = f;
	}
	if (count)
		wake(waiting[hash_mix(S.step) % count]);
	return 0;
}

int __wrap_pthread_cond_broadcast(pthread_cond_t *cond)
{
	if (!is_ours())
		return __real_pthread_cond_broadcast(cond);
	for (unsigned i = 0; i < S.fibers; i++) {
		if (S.fiber[i].state == FIBER_COND && S.fiber[i].cond == cond)
			wake(&S.fiber[i]);
	}
	return 0;
}

int __wrap_pthread_create(pthread_t *thread, const pthread_attr_t *attr, void *(*run)(void *), void *argument)
{
	if (!is_ours())
		return __real_pthread_create(thread, attr, run, argument);
	*thread = (pthread_t)fiber_new(NULL, run, argument);
	step();
	return 0;
}

int __wrap_pthread_join(pthread_t thread, void **result)
{
	if (!is_ours())
		return __real_pthread_join(thread, result);
	sched_join((struct sched_fiber *)thread);
	return 0;
}

int __wrap_clock_gettime(clockid_t clock, struct timespec *now)
{
	if (!is_ours())
		return __real_clock_gettime(clock, now);
	step();
	*now = (struct timespec){(time_t)(S.now_us / 1000000), (long)(S.now_us % 1000000 * 1000)};
	return 0;
}
