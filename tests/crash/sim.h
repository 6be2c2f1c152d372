/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the simulators share: options, counts, one process per seed, and what is printed when a run fails.
 *
 * A run is its seed, its mode and its number of operations; the same three give the same run. It happens in a
 * child process, so that a crash of the code under test is a failure like any other, and the shortest prefix of
 * operations that fails can be looked for by running it again.
 */
#ifndef CRASH_SIM_H
#define CRASH_SIM_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/disk/simdisk.h"

struct sim_counts {
	uint64_t runs, operations;
	uint64_t cuts, states, distinct, second_cuts; /* distinct: by content of the device */
	uint64_t faults, faults_met, faults_noticed;  /* noticed: some call returned an error */
	uint64_t data_injected, data_found;
	uint64_t metadata_injected, metadata_found, metadata_repaired;
	uint64_t twice_injected, twice_found; /* both copies */
	uint64_t fills, filled_blocks;
	uint64_t compared_blocks;
};

struct sim_options {
	const char *mode;
	uint64_t seed, seeds, ops, cut_every, fates;
	unsigned jobs;
	bool verbose;
};

struct sim {
	const char *name;
	const char *modes; /* separated by spaces; the first is the default */
	uint64_t ops;      /* by default */
	void (*run)(const struct sim_options *options, uint64_t seed);
};

/* In the child. */
extern struct sim_counts *sim_counts;
void sim_note_fault(bool met, bool noticed); /* one was injected */
extern const char *sim_stage; /* for messages */
void sim_begin_op(uint64_t op);
_Noreturn void sim_fail(const char *format, ...) __attribute__((format(printf, 1, 2)));
/* The version that a block holds; counts it. One that was never written there is a failure. */
int64_t sim_version(const uint8_t *data, uint32_t block);
/* Counts a state; true if it has to be looked at: nothing like it was seen under the same `promise`. */
bool sim_new_state(const struct simimage *image, uint64_t promise);

int sim_main(const struct sim *sim, int argc, char **argv);

#endif
