/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the schedule searches share: options, a child process per seed, many schedules in each, and the shortest
 * schedule that still fails when one has failed.
 *
 * A run is its mode, its seed (what the threads do) and its schedule (in which order); the same three give the
 * same run.
 */
#ifndef SCHED_DRIVER_H
#define SCHED_DRIVER_H

#include <stdbool.h>
#include <stdint.h>

#include "scheduler.h"

struct sched_options {
	const char *mode;
	uint64_t seed, seeds;
	uint64_t schedules;   /* for each seed */
	unsigned preemptions; /* 0: drawn; else all orders with up to so many deviations, up to `schedules` */
	unsigned jobs;
	bool verbose;
};

/* One schedule of one seed. */
struct schedule {
	struct sched_plan plan;   /* complete but for at_step and context */
	uint64_t seed;            /* for what is drawn besides the order: cuts, how long operations take */
	uint64_t cut_step;        /* the power fails there; UINT64_MAX: it does not */
	struct sched_trace *trace;
};

struct sched_test {
	const char *name;
	const char *modes; /* separated by spaces; the first is the default */
	/* Once in each child: what all schedules of a seed start from. */
	void *(*prepare)(const struct sched_options *options, uint64_t seed);
	void (*run)(void *prepared, const struct schedule *schedule);
};

struct sched_counts {
	uint64_t schedules, distinct, steps, switches, cuts, faults, refused, operations, compared_blocks;
};

/* In the child. */
extern struct sched_counts *sched_counts;
_Noreturn void sched_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));

int sched_main(const struct sched_test *test, int argc, char **argv);

#endif
