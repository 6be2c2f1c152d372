/* SPDX-License-Identifier: Apache-2.0 */
#include "requests.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>

bool sim_requests_print(struct sim_config *config)
{
	uint32_t *sizes = sim_start_sizes(config, config->start, true);
	struct sim_load *load = &config->load;
	struct sim_op op;
	if (!sizes)
		return false;
	printf("writes %" PRIu64 "\n", config->world.total_blocks);
	for (uint32_t i = 0; i < load->count; i++)
		printf("partition %s %" PRIu32 " %" PRIu64 "\n", load->tenants[i].name, load->tenants[i].live_blocks,
		       (uint64_t)sizes[i] * config->world.log.metaslab_blocks);
	free(sizes);
	sim_load_start(load);
	while (load->made_blocks < config->world.total_blocks && sim_load_make(load, &op, 1))
		if (op.write)
			printf("%" PRIu32 " %" PRIu32 " %" PRIu32 "\n", op.tenant, op.block, op.blocks);
	return true;
}
