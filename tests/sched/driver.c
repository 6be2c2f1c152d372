/* SPDX-License-Identifier: Apache-2.0 */
#include "driver.h"

#include <getopt.h>
#include <inttypes.h>
#include <malloc.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/check.h"
#include "base/hash.h"
#include "tests/crash/hashset.h"

enum { JOBS_MAX = 64, DEVIATIONS_MAX = 1 << 16, SHRINKS_MAX = 400, STEPS_MAX = 400000 };

/* What a child leaves to its parent. */
struct shared {
	struct sched_counts counts;
	uint64_t index; /* of the schedule under way */
	struct sched_trace trace;
	struct sched_deviation deviation[DEVIATIONS_MAX];
	char message[1024];
};

struct job {
	pid_t pid;
	uint64_t seed;
	struct shared *shared;
};

/* What to run in a child: all schedules, or one of them, or one with the order given. */
struct work {
	const struct sched_test *test;
	const struct sched_options *options;
	uint64_t seed;
	bool one;
	uint64_t index;
	const struct sched_deviation *deviation; /* NULL: as the index says */
	size_t deviations;
};

struct sched_counts *sched_counts;
static struct shared *mine;

/* -- in the child -- */

void sched_fail(const char *format, ...)
{
	va_list args;
	va_start(args, format);
	vsnprintf(mine->message, sizeof(mine->message), format, args);
	va_end(args);
	fprintf(stderr, "  %s\n", mine->message);
	fflush(NULL);
	_exit(1);
}

/*
 * The first is the default order; the others by turns with few and with many changes of thread, every other one
 * with a cut.
 */
static struct sched_plan drawn_plan(uint64_t seed, uint64_t index, uint64_t steps)
{
	static const unsigned stay[] = {980, 900, 600, 990};
	struct sched_plan plan = {.seed = seed, .steps_max = STEPS_MAX, .steps_guess = steps};
	plan.kind = index == 0 ? SCHED_GIVEN : index % 3 == 1 ? SCHED_PCT : SCHED_RANDOM;
	plan.changes = 1 + (unsigned)(index / 3 % 5);
	plan.stay_permille = stay[index / 3 % ARRAY_LENGTH(stay)];
	return plan;
}

static void run_schedule(const struct work *work, void *prepared, uint64_t index,
			 const struct sched_deviation *deviation, size_t deviations, uint64_t steps)
{
	uint64_t seed = hash_mix(hash_mix(work->seed) + index);
	struct schedule schedule = {.plan = drawn_plan(seed, index, steps),
				    .seed = seed,
				    .cut_step = UINT64_MAX,
				    .trace = &mine->trace};
	if (index % 2)
		schedule.cut_step = hash_mix(seed + 77) % steps;
	if (deviation) {
		schedule.plan.kind = SCHED_GIVEN;
		schedule.plan.deviation = deviation;
		schedule.plan.deviations = deviations;
	}
	mine->index = index;
	mine->trace = (struct sched_trace){.deviation = mine->deviation, .room = DEVIATIONS_MAX};
	work->test->run(prepared, &schedule);
	sched_counts->schedules++;
	sched_counts->steps += mine->trace.steps;
	sched_counts->switches += mine->trace.switches;
}

/* How many steps the default order takes. */
static uint64_t measure(const struct work *work, void *prepared)
{
	run_schedule(work, prepared, 0, NULL, 0, 1);
	return MAX_OF(mine->trace.steps, (uint64_t)1);
}

static void run_drawn(const struct work *work, void *prepared, uint64_t steps)
{
	struct hashset seen = {0};
	for (uint64_t i = 1; i < work->options->schedules; i++) {
		run_schedule(work, prepared, i, NULL, 0, steps);
		sched_counts->distinct += hashset_add(&seen, mine->trace.hash);
	}
	free(seen.slot);
}

/*
 * All orders with up to `preemptions` deviations, in order of where the last one is, each with 2 picks; index 2
 * for all but a power cut for every other one.
 */
static void run_all_of(const struct work *work, void *prepared, uint64_t steps)
{
	struct sched_deviation list[8];
	unsigned depth = MIN_OF(work->options->preemptions, (unsigned)ARRAY_LENGTH(list));
	struct hashset seen = {0};
	uint64_t left = work->options->schedules;
	for (unsigned used = 1; used <= depth; used++) {
		for (unsigned i = 0; i < used; i++)
			list[i] = (struct sched_deviation){i, 1};
		for (bool more = true; more && left; left--) {
			run_schedule(work, prepared, 2 + left % 2, list, used, steps);
			sched_counts->distinct += hashset_add(&seen, mine->trace.hash);
			unsigned at = used; /* the next combination: picks count up, then steps */
			while (at-- > 0) {
				uint32_t end = at + 1 < used ? list[at + 1].step : (uint32_t)steps;
				if (++list[at].pick <= 2)
					break;
				list[at].pick = 1;
				if (++list[at].step < end)
					break;
				list[at].step = at ? list[at - 1].step + 1 : 0;
			}
			more = at < used;
			for (unsigned i = at + 1; more && i < used; i++)
				list[i] = (struct sched_deviation){list[i - 1].step + 1, 1};
		}
	}
	free(seen.slot);
}

static void do_work(const struct work *work)
{
	void *prepared = work->test->prepare(work->options, work->seed);
	uint64_t steps = measure(work, prepared);
	sched_counts->distinct = 1;
	if (work->one && (work->index || work->deviation))
		run_schedule(work, prepared, work->index, work->deviation, work->deviations, steps);
	else if (!work->one && work->options->preemptions)
		run_all_of(work, prepared, steps);
	else if (!work->one)
		run_drawn(work, prepared, steps);
}

/* -- in the parent -- */

static struct shared *share(void)
{
	void *memory =
		mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	return memory;
}

static pid_t start(const struct work *work, struct shared *shared)
{
	fflush(NULL);
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid)
		return pid;
	mine = shared;
	sched_counts = &shared->counts;
	do_work(work);
	exit(0); /* not _exit: what counts coverage writes at exit */
}

/* In a child that says nothing. */
static bool fails(const struct work *work, struct shared *shared)
{
	int status, saved = dup(STDERR_FILENO);
	CHECK(freopen("/dev/null", "w", stderr));
	shared->message[0] = 0;
	pid_t pid = start(work, shared);
	CHECK(waitpid(pid, &status, 0) == pid);
	fflush(stderr);
	CHECK(dup2(saved, STDERR_FILENO) >= 0);
	close(saved);
	return status != 0;
}

/* Takes deviations away as long as it goes on failing, in ever smaller pieces. */
static size_t shrink(struct work *work, struct sched_deviation *list, size_t count, struct shared *shared)
{
	struct sched_deviation *tried = malloc((count + 1) * sizeof(*tried));
	unsigned tries = 0;
	CHECK(tried);
	work->deviation = tried;
	for (size_t piece = count; piece && tries < SHRINKS_MAX; piece /= 2) {
		for (size_t from = 0; from < count && tries < SHRINKS_MAX; tries++) {
			size_t taken = MIN_OF(piece, count - from);
			memcpy(tried, list, from * sizeof(*list));
			memcpy(tried + from, list + from + taken, (count - from - taken) * sizeof(*list));
			work->deviations = count - taken;
			if (!fails(work, shared)) {
				from += taken;
				continue;
			}
			count -= taken;
			memcpy(list, tried, count * sizeof(*list));
		}
	}
	memcpy(tried, list, count * sizeof(*list));
	work->deviations = count;
	bool still = fails(work, shared);
	free(tried);
	return still ? count : SIZE_MAX;
}

static void print_replay(const struct work *work, const struct sched_deviation *list, size_t count)
{
	printf("%s: FAILED; again: %s --mode %s --seed %" PRIu64 " --schedule %" PRIu64, work->test->name,
	       work->test->name, work->options->mode, work->seed, work->index);
	if (list)
		printf(" --order '");
	for (size_t i = 0; list && i < count; i++)
		printf("%s%" PRIu32 ":%" PRIu32, i ? "," : "", list[i].step, list[i].pick);
	puts(list ? "'" : "");
}

static void explain(struct work *work, struct shared *shared)
{
	size_t count = shared->trace.deviations;
	struct sched_deviation *list = malloc((count + 1) * sizeof(*list));
	struct shared *scratch = share();
	CHECK(list);
	work->one = true;
	work->index = shared->index;
	memcpy(list, shared->deviation, MIN_OF(count, (size_t)DEVIATIONS_MAX) * sizeof(*list));
	work->deviation = list;
	work->deviations = count;
	if (count > DEVIATIONS_MAX || !fails(work, scratch))
		count = SIZE_MAX; /* its order cannot be told this way */
	else
		count = shrink(work, list, count, scratch);
	print_replay(work, count == SIZE_MAX ? NULL : list, count);
	if (count != SIZE_MAX && scratch->message[0])
		printf("  shortened: %s\n", scratch->message);
	free(list);
}

static void add_counts(struct sched_counts *total, const struct sched_counts *more)
{
	uint64_t *to = (uint64_t *)total;
	const uint64_t *from = (const uint64_t *)more;
	for (size_t i = 0; i < sizeof(*total) / sizeof(*to); i++)
		to[i] += from[i];
}

/* Waits for one child. Exits if it failed. */
static void reap(const struct work *work, struct job *jobs, struct sched_counts *total)
{
	int status;
	pid_t pid = wait(&status);
	for (unsigned i = 0; i < work->options->jobs; i++) {
		if (jobs[i].pid != pid)
			continue;
		if (status) {
			struct work failed = *work;
			failed.seed = jobs[i].seed;
			explain(&failed, jobs[i].shared);
			exit(1);
		}
		add_counts(total, &jobs[i].shared->counts);
		munmap(jobs[i].shared, sizeof(*jobs[i].shared));
		jobs[i] = (struct job){0};
	}
}

static void run_all(const struct work *work, struct sched_counts *total)
{
	const struct sched_options *options = work->options;
	struct job jobs[JOBS_MAX] = {0};
	unsigned running = 0;
	for (uint64_t i = 0; i < options->seeds || running;) {
		if (running == options->jobs || i >= options->seeds) {
			reap(work, jobs, total);
			running--;
			continue;
		}
		struct work one = *work;
		unsigned free_job = 0;

		while (jobs[free_job].pid)
			free_job++;
		one.seed = options->seed + i++;
		struct shared *shared = share();
		jobs[free_job] = (struct job){start(&one, shared), one.seed, shared};
		running++;
	}
}

static void print_counts(const struct work *work, const struct sched_counts *c)
{
	const struct sched_options *options = work->options;
	printf("%s %s: seeds %" PRIu64 "..%" PRIu64 ", %" PRIu64 " schedules (%" PRIu64 " distinct) of %" PRIu64
	       " steps on average, %" PRIu64 " changes of thread, %" PRIu64 " operations, %" PRIu64
	       " power cuts, %" PRIu64 " faults, %" PRIu64 " writes refused, %" PRIu64
	       " blocks compared; 0 lost, 0 wrong, 0 refused wrongly\n",
	       work->test->name, options->mode, options->seed, options->seed + options->seeds - 1, c->schedules,
	       c->distinct, c->steps / MAX_OF(c->schedules, (uint64_t)1), c->switches, c->operations, c->cuts,
	       c->faults, c->refused, c->compared_blocks);
}

static bool knows_mode(const struct sched_test *test, const char *mode)
{
	size_t length = strlen(mode);
	for (const char *at = test->modes; (at = strstr(at, mode)); at += length) {
		if ((at == test->modes || at[-1] == ' ') && (at[length] == 0 || at[length] == ' '))
			return true;
	}
	return false;
}

static int usage(const struct sched_test *test)
{
	fprintf(stderr,
		"usage: %s [--mode %s] [--seed N] [--seeds COUNT] [--schedules COUNT] [--preemptions N] [--jobs "
		"N]\n"
		"       %s --mode MODE --seed N --schedule N [--order STEP:PICK,...]\n",
		test->name, test->modes, test->name);
	return 2;
}

static size_t parse_order(const char *text, struct sched_deviation *list)
{
	size_t count = 0;
	char *end;
	while (text && *text && count < DEVIATIONS_MAX) {
		list[count].step = (uint32_t)strtoul(text, &end, 10);
		if (*end != ':')
			return SIZE_MAX;
		list[count++].pick = (uint32_t)strtoul(end + 1, &end, 10);
		text = *end == ',' ? end + 1 : end;
	}
	return count;
}

int sched_main(const struct sched_test *test, int argc, char **argv)
{
	static const struct option known[] = {{"mode", 1, 0, 'm'},        {"seed", 1, 0, 's'},
					      {"seeds", 1, 0, 'n'},       {"schedules", 1, 0, 'c'},
					      {"preemptions", 1, 0, 'p'}, {"jobs", 1, 0, 'j'},
					      {"schedule", 1, 0, 'i'},    {"order", 1, 0, 'o'},
					      {"verbose", 0, 0, 'v'},     {0}};
	static struct sched_deviation order[DEVIATIONS_MAX];
	struct sched_options options = {.seed = 1, .seeds = 1, .schedules = 64, .jobs = 1};
	struct work work = {.test = test, .options = &options};
	char first[32] = {0};
	int option;
	memcpy(first, test->modes, strcspn(test->modes, " "));
	options.mode = first;
	/* What a schedule needs is freed after it: the next one gets the same, without new pages. */
	mallopt(M_MMAP_THRESHOLD, 1 << 30);
	mallopt(M_TRIM_THRESHOLD, 1 << 30);
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		uint64_t n = optarg ? strtoull(optarg, NULL, 0) : 0;
		options.mode = option == 'm' ? optarg : options.mode;
		options.seed = option == 's' ? n : options.seed;
		options.seeds = option == 'n' ? n : options.seeds;
		options.schedules = option == 'c' ? n : options.schedules;
		options.preemptions = option == 'p' ? (unsigned)n : options.preemptions;
		options.jobs = option == 'j' && n && n <= JOBS_MAX ? (unsigned)n : options.jobs;
		options.verbose |= option == 'v';
		work.one |= option == 'i';
		work.index = option == 'i' ? n : work.index;
		work.deviation = option == 'o' ? order : work.deviation;
		if (option == 'o' && (work.deviations = parse_order(optarg, order)) == SIZE_MAX)
			return usage(test);
		if (option == '?')
			return usage(test);
	}
	if (!knows_mode(test, options.mode) || (work.deviation && !work.one))
		return usage(test);
	struct sched_counts total = {0};
	run_all(&work, &total);
	print_counts(&work, &total);
	return 0;
}
