/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a partition needs for itself, and what is best done next: arithmetic over what the store, or the simulator,
 * says of its log and its block table. Pure, as space.h; units are sectors.
 */
#ifndef SPACE_PLAN_H
#define SPACE_PLAN_H

#include "format/format.h"
#include "space/space.h"

enum {
	HEADS_METASLABS_MIN = 16, /* a smaller partition writes through one head: three would be too many */
};

/* A partition's block table, as far as room depends on it. */
struct plan_table {
	uint32_t metaslab_blocks;
	uint64_t pages;        /* that exist, or will after the next checkpoint; each lies there twice */
	unsigned region_shift; /* see struct fmt_root */
};

/*
 * Blocks of a metaslab that cleaning can fill for certain, where it has to flush after each metaslab that it has
 * cleaned: its records are cut then, and what is left at a metaslab's end may be too little for another one.
 */
uint32_t plan_usable_blocks(uint32_t metaslab_blocks);
uint32_t plan_heads(uint32_t metaslabs);       /* of the log */
uint64_t plan_list_pages(uint32_t metaslabs);  /* of a space list with so many */
/*
 * What so many metaslabs need; `notes_blocks`: in memory, to be written to the log before a checkpoint;
 * `heads_used`: at least so many heads.
 */
struct space_needs plan_needs(const struct plan_table *table, uint32_t metaslabs, uint64_t notes_blocks,
			      uint32_t heads_used);
/*
 * What is kept back, for whom. Steps of a checkpoint leave the table's metaslabs partly filled, and so may take
 * more of them than they give back, up to the waste that plan_live reckons with. What the table does not hold of
 * that yet is kept back as well: so there is room for another step behind each.
 */
struct space_reserve plan_reserve(const struct space *space, const struct plan_table *table,
				  const struct space_needs *needs);
/*
 * Most live sectors, the table's among them, that so many metaslabs may hold. A larger partition never holds less:
 * where it needs more for itself than one metaslab more gives, those a little smaller are reckoned as if they
 * needed that, too.
 */
uint64_t plan_limit(const struct space *space, const struct plan_table *table, uint32_t metaslabs,
		    uint32_t heads_used);
/*
 * Live sectors that so much data in the log comes to with its table, and with what lies dead among the table's
 * live pages.
 */
uint64_t plan_live(uint64_t data_sectors, uint64_t table_pages);
/*
 * The fewest metaslabs that hold so many live sectors in the log and a table of so many pages, with all that is
 * kept back.
 */
uint32_t plan_metaslabs_for(uint32_t metaslab_blocks, uint64_t data_sectors, uint64_t table_pages);

/* -- what to do next -- */

enum plan_unit { UNIT_NONE, UNIT_FLUSH, UNIT_CLEAN, UNIT_CHECKPOINT };

enum {
	PLAN_AHEAD_SHARE = 16, /* the background cleans ahead of writers, */
	PLAN_AHEAD_MOST = 2,   /* at most so many metaslabs */
};

/* What a choice depends on beside space. */
struct plan_state {
	struct space_reserve reserve;
	uint64_t now;          /* users' clock: blocks written */
	uint64_t next_redo;    /* roll-forward begins behind it after one more step of a checkpoint */
	double step_pages;     /* that a step writes, both copies */
	bool urgent;           /* too much of the table has changed */
	bool pending;          /* a step would move the redo point on, or make the table tighter */
};

/* *victim: UNIT_CLEAN's, else SPACE_NONE. */
enum plan_unit plan_next(const struct space *space, const struct plan_state *state, uint32_t *victim);
/*
 * Ahead of writers, and no faster than they write, so that a full or an idle partition is not copied about for
 * nothing. `written`: blocks since that was last done.
 */
bool plan_is_low(const struct space *space, uint32_t kept, uint64_t written);

/* -- giving a metaslab away -- */

enum {
	PLAN_PATIENCE = 64
}; /* units of work for one: after more, writers take what is gained, and nothing is left */

/*
 * EMPTY ones beyond those kept back that stay with the writers when another is given: so many that the background
 * need not begin. `live` units, and the `limit` of what fits when it is given: without spare nothing stays.
 */
uint32_t plan_left(const struct space *space, uint64_t live, uint64_t limit);
/* For one to be given: writers should not find less than that because what is emptied waits to be flushed. */
bool plan_flushes_first(const struct space *space, uint32_t kept, uint32_t left);
/* What was seen while one was made EMPTY, in blocks but for the last two. */
struct plan_gain {
	uint64_t copied;        /* by whoever gives it */
	uint64_t all;           /* and by all */
	uint64_t written;       /* by users */
	uint32_t before, after; /* EMPTY metaslabs, that one among them */
};
/* Blocks copied for that one. The rest was for what users wrote meanwhile, and for what is EMPTY now. */
uint64_t plan_price(const struct space *space, const struct plan_gain *gain);

/*
 * The metaslab of the table whose live pages should go elsewhere, since too many dead ones lie among the live;
 * NULL: none. `live_pages`: of the table and the space list, both copies. `doomed`: by position in the slab, units
 * that the next root makes dead; NULL: not known.
 */
struct metaslab *plan_wasteful(const struct space *space, const uint32_t *doomed, uint64_t live_pages,
			       uint32_t kept);

#endif
