/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the log model share, lowest first: log_table.c, log_model.c. */
#ifndef SIM_LOG_INTERNAL_H
#define SIM_LOG_INTERNAL_H

#include "base/check.h"
#include "format/format.h"
#include "log_model.h"
#include "random.h"
#include "space/plan.h"

#define NOWHERE UINT32_MAX

/* A log record that is being filled. */
struct model_record {
	bool open;
	uint32_t place; /* of its first header */
	unsigned blocks, blocks_max, words;
	uint32_t last_id; /* its last entry goes on with the one behind */
	unsigned last_count;
};

struct model_head {
	uint32_t metaslab, offset, next; /* next: where it goes on, taken already; or SPACE_NONE */
	struct model_record record;
};

/* The block table: pages with places of their own, written region by region. */
struct model_table {
	uint32_t leaves, pages;  /* pages: with those above the leaves, level by level */
	uint32_t level[8], levels; /* number of the first page of each level */
	uint32_t *at;            /* two places for each page; NOWHERE */
	bool *dirty;             /* for each page */
	uint32_t written;        /* pages that have places */
	unsigned region_shift;
	struct {
		uint64_t seq, appended;
		uint32_t dirty; /* leaves */
	} region[REGIONS];
	unsigned lowest; /* the region that holds back the redo point */
	uint32_t dirty_leaves;
	uint32_t metaslab, offset; /* where pages are written; SPACE_NONE */
	uint32_t *list, list_count, list_room; /* places of the space list */
	uint32_t *freed, freed_count, freed_room; /* places that the last root needs */
};

struct sim_log {
	struct sim_log_options options;
	uint32_t volume_blocks, ids; /* ids: of the volume's blocks, and behind them both copies of its tree's pages */
	uint32_t held; /* behind those, what the snapshot has of each block that was overwritten since; 0: no
			  snapshot */
	struct space space;
	uint32_t slots; /* metaslabs that `owner` and `alive` have room for */
	uint32_t *place; /* of each id: metaslab << place_bits | offset */
	unsigned place_bits;
	uint32_t *owner; /* of each place: an id, or `ids` + a page of the table; NOWHERE: the space list's */
	uint64_t *alive; /* a bit for each place */
	struct model_head head[LOG_HEADS];
	unsigned heads; /* in use */
	uint64_t seq, durable;
	uint64_t appended; /* blocks of sealed records */
	struct model_table table;
	uint32_t kept; /* what writers leave: reckoned anew when the size or the table has changed */
	uint64_t limit_units; /* that can live in it; likewise */
	uint64_t due_blocks; /* of log behind the redo point beyond which a checkpoint is due */
	uint64_t written; /* the users' clock: blocks, since it was made */
	uint64_t written_at_clean, written_at_flush, written_at_snapshot, due_at;
	struct {
		enum plan_unit unit; /* UNIT_NONE: at nothing */
		uint32_t victim;
		uint64_t until; /* users' clock */
	} work;                 /* the background's */
	bool due, waits; /* waits: a writer found no room, and wants more than it leaves */
	bool full;       /* the last request would be more than it can keep */
	uint32_t failed; /* units of work in a row that gained nothing */
	struct sim_random random;
	uint32_t *survivors;
	struct sim_log_counts counts;
};

static inline uint32_t model_place(const struct sim_log *log, uint32_t metaslab, uint32_t offset)
{
	return metaslab << log->place_bits | offset;
}

static inline void model_take_place(struct sim_log *log, uint32_t place, uint32_t owner)
{
	log->owner[place] = owner;
	log->alive[place / 64] |= 1ull << place % 64;
	space_live_add(&log->space, space_find(&log->space, place >> log->place_bits), BLOCK_SECTORS);
}

static inline void model_drop_place(struct sim_log *log, uint32_t place)
{
	log->alive[place / 64] &= ~(1ull << place % 64);
	space_live_sub(&log->space, space_find(&log->space, place >> log->place_bits), BLOCK_SECTORS);
}

static inline bool model_is_alive(const struct sim_log *log, uint32_t place)
{
	return log->alive[place / 64] >> place % 64 & 1;
}

/* -- log_table.c -- */

uint32_t model_table_pages(uint32_t ids);
unsigned model_table_shift(uint32_t ids); /* of its regions */
void model_table_init(struct sim_log *log);
void model_table_free(struct sim_log *log);
void model_table_mark_new(struct sim_log *log, uint32_t leaf);

/* An id's entry changes. */
static inline void model_table_mark(struct sim_log *log, uint32_t id)
{
	uint32_t leaf = (id + 2) / TABLE_SLOTS; /* the first id is 2 */
	if (log->table.pages && !log->table.dirty[leaf])
		model_table_mark_new(log, leaf);
}

uint64_t model_table_next_redo(const struct sim_log *log); /* after one more step */
bool model_table_wasteful(const struct sim_log *log);
/* A region of the table goes out. What is open in the log is sealed. False: there was no room for it. */
bool model_table_step(struct sim_log *log);

/* -- log_model.c -- */

void model_seal_open(struct sim_log *log);
void model_flush(struct sim_log *log);

#endif
