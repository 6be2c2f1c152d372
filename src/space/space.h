/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The space policy of one partition: what state each of its metaslabs is in, which may be written into, which is
 * cleaned next, how much fits. Pure: no I/O, no lock, no clock, no threads; the store tells it what happened
 * (events) and asks it what to do. The simulator runs the same code.
 *
 * Two kinds of metaslabs are in use. LOG ones hold log records: user data and whatever else has a block id. TABLE
 * ones hold pages of the block table, which lie outside of the log.
 *
 * States of a metaslab:
 *
 *   RAW ----backed----> EMPTY ----take----> OPEN ----close----> CLOSED ----last unit gone----> SPENT ---> EMPTY
 *
 * RAW: on a sparse vdev, it is not known to have a place behind it; else it starts EMPTY. What is counted on is
 * counted in those that are not RAW. SPENT: nothing in it is live, but it must not be written over yet, because
 *
 *   1. what emptied it is not in a sealed record, or that record is not flushed (LOG), so a crash would bring the
 *      old state back;
 *   2. roll-forward still needs its records: its last one is behind the redo point (LOG).
 *
 * A TABLE metaslab loses its units only when the root without them is durable, so it is free at once.
 *
 * Invariants (space_audit checks S1 to S3; S4 is checked each time):
 *
 *   S1  a metaslab is on exactly one list, the one of its state (and stage, if SPENT); the counts per state are
 *       right.
 *   S2  live <= metaslab units; live == 0 in RAW, EMPTY and SPENT, live > 0 in CLOSED.
 *   S3  live of a class == sum over its metaslabs.
 *   S4  EMPTY, or RAW if it is bare, follows SPENT only when emptied <= durable, last <= redo, and it is not
 * pinned.
 *
 * No event costs more than O(log metaslabs). Not thread-safe: the store's lock covers it.
 */
#ifndef SPACE_SPACE_H
#define SPACE_SPACE_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "space/indexset.h"

enum space_state { SPACE_RAW, SPACE_EMPTY, SPACE_OPEN, SPACE_CLOSED, SPACE_SPENT, SPACE_STATES };

/* What a metaslab is filled with: by how soon it is expected to be overwritten. */
enum space_class {
	CLASS_HOT,   /* user blocks that replace young ones */
	CLASS_COLD,  /* other user blocks */
	CLASS_MOVED, /* survivors of cleaning */
	CLASS_TABLE, /* pages of the block table */
	SPACE_CLASSES
};

/* Stages of SPENT, in order. */
enum space_stage { STAGE_UNSEALED, STAGE_UNFLUSHED, STAGE_LOGGED, STAGE_PINNED, SPACE_STAGES };

enum { SPACE_NONE = 0xffffffff, SPACE_BUCKETS = 64 };

struct metaslab {
	uint32_t index; /* in the pool */
	uint32_t live;  /* units that something refers to */
	uint8_t state, stage, class;
	bool bare;    /* RAW, or SPENT and RAW after that: the host was asked, and has no place for it */
	bool fresh;   /* it has got its place, and was neither in use nor prepared since */
	bool barren;  /* cleaning it gained nothing: blocks in it cannot be read */
	uint16_t pins; /* looked at or being cleaned: it must not come into use anew meanwhile */
	uint64_t first, last; /* sequence numbers of its oldest and youngest record in this life; 0: none */
	uint64_t born;    /* users' clock when it was taken (its blocks were written then or later) */
	uint64_t emptied; /* SPENT: records up to this one tell that it is empty */
	/*
	 * its neighbours in what holds it, by pool index: a heap's (parent, left, right), a list's (previous,
	 * next)
	 */
	uint32_t parent, left, right;
	uint8_t rank; /* in a heap: the length of the way down to the right */
};

/*
 * A leftist heap (Crane, 1972) through the metaslabs themselves, ordered by a key; each operation takes O(log
 * count).
 */
struct space_heap {
	uint32_t top, count;
};

struct space_list {
	uint32_t first, last, count;
};

struct space {
	uint32_t units;  /* of a metaslab */
	uint32_t usable; /* of them, when it is filled with full records */
	uint32_t pool_count;
	uint32_t count;  /* owned */
	uint32_t room;
	uint32_t in_state[SPACE_STATES], in_class[SPACE_CLASSES]; /* OPEN and CLOSED ones, by class */
	uint32_t bare_spent;                                      /* SPENT and bare */
	uint64_t live[SPACE_CLASSES]; /* units */
	uint32_t cursor; /* pool index behind the one taken last */
	struct indexset empty;      /* by pool index, as the next two */
	struct indexset raw, bare;  /* RAW ones without a pin */
	struct metaslab *slab;      /* `count` of them, dense */
	uint32_t *slot;             /* pool index -> position in slab + 1 */
	struct space_heap young; /* CLOSED LOG ones with records behind the redo point, smallest `last` on top */
	struct space_heap bucket[SPACE_BUCKETS]; /* the others, by share of live units, oldest on top */
	struct space_heap table;    /* CLOSED TABLE ones, fewest live units on top */
	struct space_list spent[SPACE_STAGES]; /* UNSEALED, UNFLUSHED (in order of `emptied`), PINNED */
	struct space_heap logged;   /* STAGE_LOGGED, smallest `last` on top */
	uint64_t durable, redo, now; /* as told */
	struct {
		uint64_t next; /* address behind the block that was placed last; 0: none was */
		uint8_t class; /* where that went */
		bool follows;  /* with what was placed before it */
	} run;
	struct {
		uint64_t known; /* how long a metaslab of CLASS_HOT lives, by the users' clock; 0: not yet */
		uint64_t sum;   /* of those seen since it was last known */
		uint32_t seen;
	} lifespan;
};

int space_init(struct space *space, uint32_t pool_count, uint32_t units, uint32_t usable) MUST_CHECK;
void space_free(struct space *space);

/* EXISTS if it is there already, INVALID if the pool has no such metaslab. It starts EMPTY, or RAW. */
int space_add(struct space *space, uint32_t index, bool raw) MUST_CHECK;
/* Must be there, RAW or EMPTY. */
void space_remove(struct space *space, uint32_t index);
/* NULL: not ours; good until the next add or remove. */
struct metaslab *space_find(const struct space *space, uint32_t index);
/* For recovery: an EMPTY one is what the root says instead, CLOSED with so many live units. */
void space_restore(struct space *space, uint32_t index, enum space_class class, uint32_t live, uint64_t last,
		   uint64_t born);

/* For roll-forward: record `seq` lies in it, which makes an EMPTY one SPENT. */
void space_seen(struct space *space, uint32_t index, enum space_class class, uint64_t seq, uint64_t born);
/* For recovery: one that nothing is live in goes, whatever its state. False: something is. */
bool space_forget(struct space *space, uint32_t index);

/* -- events -- */

void space_backed(struct space *space, uint32_t index, bool fresh); /* RAW -> EMPTY */
/*
 * It has no place behind it: RAW or EMPTY -> RAW. A SPENT one, found so by recovery, becomes RAW where others
 * become EMPTY, and is not counted on meanwhile.
 */
void space_bare(struct space *space, uint32_t index);
/* The next EMPTY one, in order of index from where the last was, becomes OPEN; SPACE_NONE if there is none. */
uint32_t space_take(struct space *space, enum space_class class, uint64_t now);
/* The first fresh one of those that are taken next, so many; SPACE_NONE if none is. */
uint32_t space_next_fresh(const struct space *space, uint32_t among);
/* That very one, EMPTY (or CLOSED without live units, for recovery), becomes OPEN. */
void space_take_this(struct space *space, uint32_t index, enum space_class class, uint64_t now);
void space_recorded(struct space *space, uint32_t index, uint64_t seq); /* record `seq` lies in it (sealed) */
void space_close(struct space *space, uint32_t index);                  /* OPEN -> CLOSED */
/* `units` of it are live, or not any more. The caller has checked that they fit. */
void space_live_add(struct space *space, struct metaslab *m, uint32_t units);
void space_live_sub(struct space *space, struct metaslab *m, uint32_t units);
/* All that was emptied so far is told by records up to this one. */
void space_sealed(struct space *space, uint64_t seq);
void space_durable(struct space *space, uint64_t seq); /* records up to this one are flushed */
void space_rooted(struct space *space, uint64_t redo); /* roll-forward begins behind this record */
void space_pin(struct space *space, uint32_t index);
void space_unpin(struct space *space, uint32_t index);
void space_barren(struct space *space, uint32_t index, bool barren);

/* -- placement.c -- */

/*
 * The class of a user's block at `address` that replaces one in metaslab `old` (SPACE_NONE: it is new). SepBIT
 * (Wang et al., FAST 2022): a block whose predecessor died young will die young. What follows on the block placed
 * last goes with it: else a long write would be torn apart, and read in pieces ever after. Asked again, it follows
 * again.
 * `now` is the users' clock: units written by users so far.
 */
enum space_class space_place(struct space *space, uint64_t address, uint32_t old, uint64_t now);

/* -- reserve.c, victim.c, and questions to space.c -- */

/* How much is kept back, and for what: in metaslabs. */
struct space_reserve {
	uint32_t table; /* for the largest step of a checkpoint, which may use all of it: what cleaning leaves */
	uint32_t notes; /* that, and what cleaning one metaslab needs: what trims and pages of trees leave */
	uint32_t kept;  /* that, and what those need: what writers leave */
};

/* What the partition's block table needs, in units. */
struct space_needs {
	uint64_t step_units;  /* most that one step of a checkpoint writes to the table */
	uint64_t notes_units; /* pages of trees that have to go to the log before a step; 0 for space_limit */
	uint32_t heads;       /* metaslabs that are OPEN at a time */
};

struct space_reserve space_reserve_for(const struct space *space, const struct space_needs *needs);
/*
 * Most live units, the table's (with its waste) included, that so many metaslabs can hold so that every write can
 * be done.
 */
uint64_t space_limit(const struct space *space, const struct space_needs *needs, uint32_t metaslabs);

/*
 * The CLOSED LOG metaslab that is best cleaned, with all its records before the redo point; NULL: none gains
 * anything.
 */
struct metaslab *space_victim(const struct space *space, uint64_t now);
/* Of those, about the one with the fewest live units, if it has less than `share` percent; NULL: none. */
struct metaslab *space_sparse_victim(const struct space *space, unsigned share);
/* The CLOSED TABLE one with the fewest live units, if it has less than `share` percent; NULL: none. */
struct metaslab *space_table_victim(const struct space *space, unsigned share);
static inline uint32_t space_empty(const struct space *space) { return space->in_state[SPACE_EMPTY]; }
static inline uint32_t space_raw(const struct space *space) { return space->in_state[SPACE_RAW]; }
static inline uint32_t space_with_place(const struct space *space)
{
	return space->count - space->in_state[SPACE_RAW] - space->bare_spent;
}
/*
 * The RAW one to be tried next: the first that is not known to be bare, else a bare one. SPACE_NONE: all are
 * pinned.
 */
uint32_t space_next_raw(const struct space *space);
/* The RAW one that is best given away: the last bare one, else the last. SPACE_NONE as above. */
uint32_t space_last_raw(const struct space *space);
static inline uint32_t space_unflushed(const struct space *space)
{
	return space->spent[STAGE_UNSEALED].count + space->spent[STAGE_UNFLUSHED].count;
}

/* Every invariant above; the first that does not hold ends the program. O(metaslabs * log). */
void space_audit(const struct space *space);

#endif
