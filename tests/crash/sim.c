/* SPDX-License-Identifier: Apache-2.0 */
#include "sim.h"

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
#include "model.h"
#include "tests/crash/hashset.h"

enum { JOBS_MAX = 64 };

struct shared { /* what a child leaves to its parent */
	struct sim_counts counts;
	uint64_t op;
};

struct job {
	pid_t pid;
	uint64_t seed;
	struct shared *shared;
};

struct sim_counts *sim_counts;
const char *sim_stage = "";
static struct shared *mine;
static uint64_t my_seed;

/* -- in the child -- */

void sim_begin_op(uint64_t op)
{
	mine->op = op;
	sim_counts->operations++;
}

void sim_note_fault(bool met, bool noticed)
{
	sim_counts->faults++;
	sim_counts->faults_met += met;
	sim_counts->faults_noticed += noticed;
}

void sim_fail(const char *format, ...)
{
	va_list args;
	fprintf(stderr, "  seed %" PRIu64 ", operation %" PRIu64 "%s%s: ", my_seed, mine->op, *sim_stage ?
			", " : "",
		sim_stage);
	va_start(args, format);
	vfprintf(stderr, format, args);
	va_end(args);
	fputc('\n', stderr);
	fflush(NULL);
	_exit(1);
}

int64_t sim_version(const uint8_t *data, uint32_t block)
{
	int64_t version = content_version(data, block);
	sim_counts->compared_blocks++;
	if (version < 0)
		sim_fail("block %" PRIu32 " has content that was never written there", block);
	return version;
}

bool sim_new_state(const struct simimage *image, uint64_t promise)
{
	static struct hashset images, promises;
	uint64_t hash = simimage_hash(image);
	sim_counts->states++;
	sim_counts->distinct += hashset_add(&images, hash);
	return hashset_add(&promises, hash_mix(hash) + promise);
}

/* -- in the parent -- */

static struct shared *share(void)
{
	void *memory =
		mmap(NULL, sizeof(struct shared), PROT_READ | PROT_WRITE, MAP_SHARED | MAP_ANONYMOUS, -1, 0);
	CHECK(memory != MAP_FAILED);
	return memory;
}

static pid_t start(const struct sim *sim, const struct sim_options *options, uint64_t seed, struct shared *shared)
{
	fflush(NULL);
	pid_t pid = fork();

	CHECK(pid >= 0);
	if (pid)
		return pid;
	mine = shared;
	my_seed = seed;
	sim_counts = &shared->counts;
	sim->run(options, seed);
	sim_counts->runs++;
	exit(0); /* not _exit: what counts coverage writes at exit */
}

static bool fails(const struct sim *sim, const struct sim_options *options, uint64_t seed, uint64_t ops)
{
	struct sim_options shorter = *options;
	struct shared *shared = share();
	int status;
	shorter.ops = ops;
	pid_t pid = start(sim, &shorter, seed, shared);
	CHECK(waitpid(pid, &status, 0) == pid);
	munmap(shared, sizeof(*shared));
	return status != 0;
}

/* Looks for the shortest prefix that fails; a run that ends earlier also has its last checks earlier. */
static void explain(const struct sim *sim, const struct sim_options *options, const struct job *job, int status)
{
	uint64_t low = 0, high = job->shared->op ? job->shared->op : options->ops;
	bool quiet = freopen("/dev/null", "w", stderr) != NULL;
	if (!quiet || !fails(sim, options, job->seed, high))
		high = options->ops;
	while (quiet && low + 1 < high) {
		uint64_t middle = low + (high - low) / 2;
		if (fails(sim, options, job->seed, middle))
			high = middle;
		else
			low = middle;
	}
	printf("%s: FAILED%s; again: %s --mode %s --seed %" PRIu64 " --seeds 1 --ops %" PRIu64
	       " --cut-every %" PRIu64 " --fates %" PRIu64 "\n",
	       sim->name, WIFSIGNALED(status) ? " (killed by a signal)" : "", sim->name, options->mode, job->seed,
	       high, options->cut_every, options->fates);
}

static void add_counts(struct sim_counts *total, const struct sim_counts *more)
{
	uint64_t *to = (uint64_t *)total;
	const uint64_t *from = (const uint64_t *)more;
	for (size_t i = 0; i < sizeof(*total) / sizeof(*to); i++)
		to[i] += from[i];
}

/* Waits for one child. Exits if it failed. */
static void reap(const struct sim *sim, const struct sim_options *options, struct job *jobs,
		struct sim_counts *total)
{
	int status;
	pid_t pid = wait(&status);
	for (unsigned i = 0; i < options->jobs; i++) {
		if (jobs[i].pid != pid)
			continue;
		if (status) {
			explain(sim, options, &jobs[i], status);
			exit(1);
		}
		add_counts(total, &jobs[i].shared->counts);
		munmap(jobs[i].shared, sizeof(*jobs[i].shared));
		jobs[i] = (struct job){0};
	}
}

static void run_all(const struct sim *sim, const struct sim_options *options, struct sim_counts *total)
{
	struct job jobs[JOBS_MAX] = {0};
	unsigned running = 0;
	for (uint64_t i = 0; i < options->seeds || running; i++) {
		if (running == options->jobs || i >= options->seeds) {
			reap(sim, options, jobs, total);
			running--;
			if (i >= options->seeds)
				continue;
		}
		unsigned free_job = 0;
		while (jobs[free_job].pid)
			free_job++;
		struct shared *shared = share();
		jobs[free_job] = (struct job){start(sim, options, options->seed + i, shared), options->seed + i,
				shared};
		running++;
	}
}

static void print_counts(const struct sim *sim, const struct sim_options *options, const struct sim_counts *c)
{
	printf("%s %s: seeds %" PRIu64 "..%" PRIu64 ", %" PRIu64 " operations, %" PRIu64 " blocks compared",
			sim->name,
	       options->mode, options->seed, options->seed + options->seeds - 1, c->operations,
			c->compared_blocks);
	if (c->states)
		printf(", %" PRIu64 " power cuts, %" PRIu64 " crash states (%" PRIu64 " distinct, %" PRIu64
		       " with a second cut)", c->cuts, c->states, c->distinct, c->second_cuts);
	if (c->faults)
		printf(", %" PRIu64 " faults injected, %" PRIu64 " met, %" PRIu64 " noticed", c->faults,
				c->faults_met,
		       c->faults_noticed);
	if (c->metadata_injected)
		printf(", rot found / injected: metadata %" PRIu64 " / %" PRIu64 " (%" PRIu64
		       " repaired), both copies %" PRIu64 " / %" PRIu64 ", data %" PRIu64 " / %" PRIu64,
		       c->metadata_found, c->metadata_injected, c->metadata_repaired, c->twice_found,
		       c->twice_injected, c->data_found, c->data_injected);
	if (c->fills)
		printf(", filled %" PRIu64 " times", c->fills);
	printf("; 0 lost, 0 wrong\n");
}

static bool knows_mode(const struct sim *sim, const char *mode)
{
	size_t length = strlen(mode);
	for (const char *at = sim->modes; (at = strstr(at, mode)); at += length) {
		if ((at == sim->modes || at[-1] == ' ') && (at[length] == 0 || at[length] == ' '))
			return true;
	}
	return false;
}

static int usage(const struct sim *sim)
{
	fprintf(stderr,
		"usage: %s [--mode %s] [--seed N] [--seeds COUNT] [--ops N] [--cut-every N] [--fates N] "
		"[--jobs N] [--verbose]\n",
		sim->name, sim->modes);
	return 2;
}

int sim_main(const struct sim *sim, int argc, char **argv)
{
	static const struct option known[] = {{"mode", 1, 0, 'm'}, {"seed", 1, 0, 's'}, {"seeds", 1, 0, 'n'},
					      {"ops", 1, 0, 'o'}, {"cut-every", 1, 0, 'c'}, {"fates", 1, 0, 'f'},
					      {"jobs", 1, 0, 'j'}, {"verbose", 0, 0, 'v'}, {0}};
	struct sim_options options = {.seed = 1, .seeds = 1, .ops = sim->ops, .cut_every = 1, .fates = 4,
			.jobs = 1};
	char first[32] = {0};
	int option;
	memcpy(first, sim->modes, strcspn(sim->modes, " "));
	options.mode = first;
	while ((option = getopt_long(argc, argv, "", known, NULL)) != -1) {
		uint64_t n = optarg ? strtoull(optarg, NULL, 0) : 0;
		options.mode = option == 'm' ? optarg : options.mode;
		options.seed = option == 's' ? n : options.seed;
		options.seeds = option == 'n' ? n : options.seeds;
		options.ops = option == 'o' ? n : options.ops;
		options.cut_every = option == 'c' && n ? n : options.cut_every;
		options.fates = option == 'f' ? n : options.fates;
		options.jobs = option == 'j' && n && n <= JOBS_MAX ? (unsigned)n : options.jobs;
		options.verbose |= option == 'v';
		if (option == '?')
			return usage(sim);
	}
	if (!knows_mode(sim, options.mode))
		return usage(sim);
	/* Each of a million states frees all it has: that stays for the next one. */
	mallopt(M_MMAP_THRESHOLD, 64 << 20);
	mallopt(M_TRIM_THRESHOLD, 512 << 20);
	struct sim_counts total = {0};
	run_all(sim, &options, &total);
	print_counts(sim, &options, &total);
	return 0;
}
