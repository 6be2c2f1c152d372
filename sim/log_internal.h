/* SPDX-License-Identifier: Apache-2.0 */
/* What the files of the log model share; functions follow those of the store of the same name. */
#ifndef SIM_LOG_INTERNAL_H
#define SIM_LOG_INTERNAL_H

#include "base/check.h"
#include "format/format.h"
#include "log_model.h"
#include "random.h"

#define NOWHERE UINT32_MAX

enum { TREES = 2, TREE_LEVELS_MAX = 8, LINK_BLOCKS = RECORD_HEADERS };

enum head_kind { HEAD_USER, HEAD_CLEAN, HEAD_META };

enum metaslab_state { METASLAB_ABSENT, METASLAB_EMPTY, METASLAB_OPEN, METASLAB_CLOSED };

struct metaslab {
	uint32_t live;
	uint8_t state; /* enum metaslab_state */
	bool held; /* the last root has a log head here */
	bool waiting; /* cleaned but for pages, which the next checkpoint writes elsewhere */
	uint32_t rank; /* in sim_log.closed, if it is CLOSED */
	uint64_t age; /* sequence number of its youngest record */
	uint64_t ready; /* sequence number of the state in which it is empty; 0: none yet */
};

/* GROUP CLOSED metaslabs that follow each other in age. None that could be cleaned has less of either. */
struct group {
	uint32_t live;
	uint64_t age;
};

enum { GROUP = 16 };
#define NO_BOUNDS ((struct group){.live = UINT32_MAX, .age = UINT64_MAX})

struct record {
	unsigned head, blocks, blocks_max; /* blocks_max 0: there is none */
	uint32_t place; /* of its first header */
};

/* A page of one of the trees: the block table (by id, here the address) and the volume. */
struct page {
	uint32_t at[2]; /* both copies */
	uint32_t parent; /* NOWHERE: the top */
	uint8_t level;
	bool exists;
};

struct sim_log {
	struct sim_log_options options;
	uint32_t volume_blocks;
	uint32_t *place; /* of each block: metaslab << place_bits | offset */
	unsigned place_bits;
	uint32_t *owner; /* who was written to each place: a block, or volume_blocks + a page */
	uint64_t *alive; /* a bit for each place: it is live */
	struct metaslab *metaslabs;
	uint32_t *closed; /* CLOSED ones, as they were closed: in order of age; NOWHERE: it is not any longer */
	uint32_t closed_count, closed_room;
	struct group *groups;
	uint32_t *spent; /* CLOSED ones without live blocks */
	uint32_t spent_count, waiting_count;
	uint32_t slots, count, empty, cursor; /* array length; owned; EMPTY; where the last was taken */
	uint32_t usable; /* of a metaslab: model_room_usable */
	uint32_t kept; /* metaslabs that writers leave */
	uint64_t due_blocks; /* log_blocks beyond which a checkpoint is due */
	/* trees */
	struct page *pages; /* by level, then tree, then index: as checkpoints write them */
	bool *changed; /* of each page */
	uint32_t page_slots, page_count; /* that can exist; that do */
	uint32_t changed_count, unwritten_count; /* that wait for a checkpoint; for their first */
	uint32_t leaf[TREES]; /* each tree's first */
	uint32_t *space_pages; /* places of the space tree, both copies */
	uint32_t space_page_count;
	uint32_t *freed; /* places that the last root needs */
	uint32_t freed_count, freed_room;
	/* log */
	struct {
		uint32_t metaslab, offset;
	} head[LOG_HEADS];
	unsigned heads; /* in use */
	struct record open; /* the users' */
	uint64_t seq, durable, root_seq, quiet_seq;
	uint64_t log_blocks; /* sealed since the last checkpoint */
	uint64_t user_at_clean, user_at_flush;
	uint64_t due_at; /* counts.user from which the background, woken, is at work */
	bool due;
	struct sim_random random;
	uint32_t units; /* of work that writers did since one of them found room */
	uint32_t *list; /* room for the places of a metaslab's live blocks */
	struct sim_log_counts counts;
};

/* -- log_model.c -- */

static inline uint32_t model_place(const struct sim_log *log, uint32_t metaslab, uint32_t offset)
{
	return metaslab << log->place_bits | offset;
}

static inline void model_take_place(struct sim_log *log, uint32_t place, uint32_t owner)
{
	log->owner[place] = owner;
	log->alive[place / 64] |= 1ull << place % 64;
	log->metaslabs[place >> log->place_bits].live++;
}

static inline void model_drop_live(struct sim_log *log, uint32_t metaslab, uint32_t blocks)
{
	struct metaslab *m = &log->metaslabs[metaslab];

	m->live -= blocks;
	if (m->state != METASLAB_CLOSED)
		return;
	if (m->live < log->groups[m->rank / GROUP].live)
		log->groups[m->rank / GROUP].live = m->live;
	if (!m->live)
		log->spent[log->spent_count++] = metaslab;
}

static inline void model_drop_place(struct sim_log *log, uint32_t place)
{
	log->alive[place / 64] &= ~(1ull << place % 64);
	model_drop_live(log, place >> log->place_bits, 1);
}

/* Blocks left in the head's metaslab, without the link's. */
uint32_t model_room(const struct sim_log *log, enum head_kind kind);
bool model_begin(struct sim_log *log, enum head_kind kind, uint32_t blocks, uint32_t kept, struct record *record);
uint32_t model_append(struct sim_log *log, struct record *record); /* the place of one more block */
void model_seal(struct sim_log *log, struct record *record);
void model_flush(struct sim_log *log);
/* The blocks at places of one metaslab. */
void model_move(struct sim_log *log, struct record *record, const uint32_t *from, uint32_t count);
uint32_t model_take_empty(struct sim_log *log); /* one becomes OPEN */
void model_close(struct sim_log *log, uint32_t metaslab);

/* -- log_tables.c: trees and checkpoints -- */

uint32_t model_tables_page_slots(uint32_t volume_blocks);
void model_tables_init(struct sim_log *log);
void model_tables_free(struct sim_log *log);
/* It, and what is above, changed. */
void model_tables_mark_page(struct sim_log *log, uint32_t page);

/* Its leaf, and what is above, changed. */
static inline void model_tables_mark(struct sim_log *log, unsigned tree, uint32_t block)
{
	uint32_t leaf = log->leaf[tree] + block / (tree ? VOLUME_SLOTS : PAGE_SLOTS);

	if (log->page_slots && !log->changed[leaf])
		model_tables_mark_page(log, leaf);
}

uint32_t model_tables_space_pages(uint32_t metaslabs);
void model_checkpoint_reckon(struct sim_log *log); /* due_blocks: when the size changed */
bool model_checkpoint_due(const struct sim_log *log);
void model_checkpoint_write(struct sim_log *log);

/* -- log_room.c: who may take space, and cleaning -- */

uint64_t model_room_usable(uint32_t metaslab_blocks);
uint64_t model_room_limit(const struct sim_log_options *o, uint32_t page_count, uint32_t metaslabs);
void model_room_reckon(struct sim_log *log); /* kept: when the size changed, or how many pages there are */
bool model_room_needs_full_checkpoint(const struct sim_log *log);
void model_room_note_ready(struct sim_log *log);
void model_room_reclaim(struct sim_log *log);
bool model_room_low(const struct sim_log *log);
bool model_room_make(struct sim_log *log);
/*
 * Before a user's block. False: one unit of work was done, and there is no room yet. When no more can be made it
 * is true all the same.
 */
bool model_room_wait(struct sim_log *log);

#endif
