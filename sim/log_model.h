/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A model of one partition's store, in memory: src/space decides in it as it does in the store; records and their
 * headers, three heads, cleaning and checkpoints follow src/store, but move block numbers instead of blocks, and
 * count. docs/engine.md says what it leaves out.
 */
#ifndef SIM_LOG_MODEL_H
#define SIM_LOG_MODEL_H

#include <stdbool.h>
#include <stdint.h>

struct sim_log_options {
	uint32_t metaslab_blocks; /* at least SIM_METASLAB_BLOCKS_MIN */
	double checkpoint_share; /* of the size, logged since the last: then one is due; 0: tables cost nothing */
	uint64_t flush_blocks; /* that users write between two flushes; 0: they never flush */
	uint32_t lag_blocks; /* that users write until the background, woken, is at work; with `thread` the mean */
	uint32_t busy_blocks; /* likewise that users write while it is at one unit of work, on the average */
	bool thread; /* the background is one: its lag varies, and it gets on while a writer waits for room */
	double unfilled;          /* the share of the volume that has not been written at first */
	uint64_t snapshot_blocks; /* that users write until the next snapshot, when the last one goes; 0: there is
				     none */
};

enum { SIM_METASLAB_BLOCKS_MIN = 32 };

struct sim_log_counts {
	uint64_t user, copied, device; /* blocks written */
};

struct sim_log;

/* What is filled of the volume has been written once, in order. A snapshot is made then. */
struct sim_log *sim_log_new(const struct sim_log_options *options, uint32_t volume_blocks, uint32_t metaslabs);
void sim_log_free(struct sim_log *log);
/* The fewest metaslabs that a full volume can live in, whatever its snapshot holds: store_size_least. */
uint32_t sim_log_metaslabs_min(const struct sim_log_options *options, uint32_t volume_blocks);
/* That block will be written soon: its memory should be at hand then. */
void sim_log_expect(const struct sim_log *log, uint32_t block);
uint32_t sim_log_metaslabs_least(const struct sim_log *log); /* that it could live in now */
/* The last request was more than it can keep, or there is no room and nothing makes any: it has to grow. */
bool sim_log_is_full(const struct sim_log *log);
/*
 * A request, or what is left of one: how many of its blocks were written. If not all, there was no room: one unit
 * of the work that makes some was done, and now it is another's turn, as in the store.
 */
uint32_t sim_log_write(struct sim_log *log, uint32_t block, uint32_t blocks);
void sim_log_grow(struct sim_log *log, uint32_t metaslabs);
/* Ends when it has copied so many blocks for it. How many it could give. */
uint32_t sim_log_shrink(struct sim_log *log, uint32_t metaslabs, double copied_most, uint64_t *copied);
uint32_t sim_log_metaslabs(const struct sim_log *log);
uint64_t sim_log_live(const struct sim_log *log); /* data and tables, in blocks */
const struct sim_log_counts *sim_log_counts(const struct sim_log *log);

#endif
