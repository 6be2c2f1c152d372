/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A scheduler of steps, for tests: threads of the code under test run as fibers of one thread, and the order in
 * which they go on is a function of a plan. The same plan gives the same run.
 *
 * A step is a moment at which another thread could go on: before a mutex is taken, at a wait, when a device
 * operation is begun or done, when a clock is read, when a thread starts or ends. At each, the scheduler lists who
 * can go on (the agents) and picks one. Device operations are agents, too (see sched_event): they complete when
 * they are picked, in any order. Waits with a time limit end when nothing else can go on, or now and then before.
 *
 * The program is linked with --wrap for the functions in wraps.txt. Outside of sched_run they do what they always
 * do.
 *
 * What it cannot see: threads that share memory without any of these. The thread sanitizer is for those.
 */
#ifndef SCHED_SCHEDULER_H
#define SCHED_SCHEDULER_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * In the default order a thread goes on until it has to wait; then the oldest device operation completes, then the
 * thread with the lowest number goes on, then the wait with the nearest limit ends. A deviation says that at this
 * step another agent was picked: the one with this position in that order.
 */
struct sched_deviation {
	uint32_t step;
	uint32_t pick;
};

enum sched_kind {
	SCHED_GIVEN,  /* the default order with the deviations given */
	SCHED_RANDOM, /* at each step the thread stays with a probability, else anyone */
	SCHED_PCT,    /* by priorities drawn, changed at a few steps drawn (Burckhardt et al., 2010) */
};

struct sched_plan {
	enum sched_kind kind;
	uint64_t seed;
	unsigned stay_permille;    /* RANDOM */
	unsigned changes;          /* PCT: how often a priority is lowered */
	uint64_t steps_guess;      /* PCT: among how many first steps the changes fall */
	const struct sched_deviation *deviation; /* GIVEN: in order of steps */
	size_t deviations;
	uint64_t steps_max; /* more are a run that does not end */
	void (*at_step)(void *context, uint64_t step); /* before each choice; may be NULL */
	void *context;
};

struct sched_trace {
	uint64_t steps, switches;
	uint64_t hash; /* of who was picked at each step */
	struct sched_deviation *deviation; /* out: from the default order; with room for `room` of them */
	size_t deviations, room;           /* more than room: the last ones are missing */
};

/*
 * Runs `main` and the threads that it starts. Returns when main has returned; all threads have to be joined by
 * then. A run in which nobody can go on, or that does not end, calls `stuck` with a description, which must not
 * return.
 */
void sched_run(const struct sched_plan *plan, void (*main)(void *context), void *context,
	       struct sched_trace *trace, void (*stuck)(const char *text));

bool sched_is_running(void);
uint64_t sched_step(void);   /* of the run under way */
uint64_t sched_now_us(void); /* its clock: each step takes a microsecond, a wait's limit as long as it says */

/* For what a test starts itself. Ends when `run` returns. */
struct sched_fiber *sched_spawn(void (*run)(void *context), void *context);
void sched_join(struct sched_fiber *fiber);
void sched_point(void); /* a step */

/* Something that happens when it is picked: fire is then called once, in no thread's name, and must not wait. */
struct sched_event {
	void (*fire)(struct sched_event *event);
	uint64_t priority;         /* internal, as are the next two */
	uint64_t number;
	struct sched_event *next;
};

void sched_post(struct sched_event *event);
struct sched_event *sched_events(void); /* those not yet picked, oldest first */
/* Waits until *left is 0; events count it down. */
void sched_await(const unsigned *left);

#endif
