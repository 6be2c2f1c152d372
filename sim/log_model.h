/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model of one partition's store, in memory: metaslabs, separate open metaslabs for user data, cleaned data and
 * table pages, cleaning, checkpoints that rewrite dirty table pages twice. It moves block numbers instead of
 * blocks and counts.
 */
#ifndef SIM_LOG_MODEL_H
#define SIM_LOG_MODEL_H

#include <stdbool.h>
#include <stdint.h>

enum sim_cleaning {
	SIM_OLDEST_FIRST,
	SIM_GREEDY,
	SIM_COST_BENEFIT,
};

struct sim_log_options {
	uint32_t metaslab_blocks;
	uint32_t record_data_blocks; /* data blocks behind each log record's header (167) */
	uint32_t record_header_blocks; /* (2) */
	uint32_t page_records; /* block-table records in a page (168); 0 = no tables */
	double checkpoint_share; /* of the partition's size, written since the last: then tables are written */
	uint32_t clean_min; /* clean metaslabs below which cleaning starts */
	enum sim_cleaning cleaning;
};

struct sim_log_counts {
	uint64_t user, copied, device; /* blocks written */
};

struct sim_log;

struct sim_log *sim_log_new(const struct sim_log_options *options, uint32_t volume_blocks, uint32_t metaslabs);
void sim_log_free(struct sim_log *log);
/* The fewest metaslabs that this much data needs to be overwritten in at all. */
uint32_t sim_log_metaslabs_min(const struct sim_log_options *options, uint32_t volume_blocks);
void sim_log_write(struct sim_log *log, uint32_t block);
void sim_log_grow(struct sim_log *log, uint32_t metaslabs);
uint32_t sim_log_shrink(struct sim_log *log, uint32_t metaslabs); /* how many it could give */
uint32_t sim_log_metaslabs(const struct sim_log *log);
uint64_t sim_log_live(const struct sim_log *log);
const struct sim_log_counts *sim_log_counts(const struct sim_log *log);

#endif
