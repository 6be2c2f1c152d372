/* SPDX-License-Identifier: Apache-2.0 */
/* One partition's store, under power cuts, faults, rot, and full. Each mode's file says what it does. */
#include "storesim.h"

#include <string.h>

static void run(const struct sim_options *options, uint64_t seed)
{
	static const struct {
		const char *mode;
		void (*run)(const struct sim_options *options, uint64_t seed);
	} modes[] = {{"cuts", cuts_run}, {"subsets", subsets_run}, {"errors", errors_run},
		     {"memory", memory_run}, {"rot", rot_run}, {"rotcuts", rotcuts_run},
		     {"full", full_run}};

	for (unsigned i = 0; i < ARRAY_LENGTH(modes); i++) {
		if (strcmp(modes[i].mode, options->mode) == 0)
			modes[i].run(options, seed);
	}
}

int main(int argc, char **argv)
{
	static const struct sim sim = {.name = "storesim",
				       .modes = "cuts subsets errors memory rot rotcuts full",
				       .ops = 100,
				       .run = run};
	return sim_main(&sim, argc, argv);
}
