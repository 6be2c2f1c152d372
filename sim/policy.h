/* SPDX-License-Identifier: Apache-2.0 */
/* What decides sizes during a run, and the sizes that runs start from. */
#ifndef SIM_POLICY_H
#define SIM_POLICY_H

#include "world.h"

enum sim_policy_kind {
	SIM_STATIC,
	SIM_EQUAL,
	SIM_THRESHOLD,
	SIM_LCPFS_RS,
	SIM_LEARNED,
	SIM_ORACLE,
	SIM_POLICIES,
};

enum sim_start {
	SIM_START_PROPORTIONAL, /* spare in proportion to live data */
	SIM_START_EQUAL, /* the same spare for each */
	SIM_START_FIRST, /* all spare to the first, the least possible to the others */
	SIM_START_LAST,
	SIM_START_INVERSE, /* spare in inverse proportion to the writes */
	SIM_START_RANDOM,
	SIM_STARTS,
};

extern const char *const sim_policy_names[SIM_POLICIES];
extern const char *const sim_start_names[SIM_STARTS];

struct sim_config {
	struct sim_world_options world;
	struct sim_load load;
	enum sim_start start;
	bool minimise_wa; /* the oracle's objective: WA instead of ε */
	struct lcpfs_engine_priors priors;
	bool restart; /* save, destroy, load halfway */
};

struct sim_result {
	enum sim_policy_kind policy;
	struct sim_world world;
	struct sim_world other; /* oracle only: with the sizes that are best by the other objective */
	struct lcpfs_engine_outcome outcomes[LCPFS_ENGINE_OUTCOMES_MAX];
	size_t outcome_count;
	struct lcpfs_engine_statistics statistics; /* learned only */
};

/*
 * Metaslabs per tenant; the caller frees. Sizes that were given count only if as_given. NULL with a message if
 * they or the pool are too small for the load.
 */
uint32_t *sim_start_sizes(const struct sim_config *config, enum sim_start start, bool as_given);
/* The best by ε (sizes[0]) and by WA (sizes[1]); false with a message if there are none. */
bool sim_oracle_sizes(struct sim_config *config, uint32_t *sizes[2]);
/* Runs one policy; false with a message if it cannot. */
bool sim_policy_run(struct sim_config *config, enum sim_policy_kind policy, struct sim_result *result);
void sim_result_done(struct sim_result *result);

struct sim_progress {
	const char *name;
	int percent; /* as last written */
};

void sim_policy_progress(void *progress, double share); /* on stderr */

#endif
