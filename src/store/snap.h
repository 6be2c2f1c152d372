/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots: volumes that nobody writes. One is the tree that the head had at that moment: the id of its top page
 * stands in a list, and from then on what was born before is left as it is. Where the head changes such a block,
 * the address gets a new id; the pages above it get new ids when they are written (tree.h). Cleaning moves a block
 * by its one entry in the block table, however many snapshots have it.
 *
 * Who has what. An id stays with its address, and a snapshot only ever adds to those that have an id. So the
 * volumes that refer to an id follow each other in time: it is born before the first of them, and it is gone in
 * the one behind the last. Hence no list of the dead is kept. What a snapshot alone has is in its tree, was born
 * after the snapshot before it, and is not in the tree behind it. A walk finds that; it goes only where both its
 * neighbours differ, since a page that is shared is shared with all that is below it.
 *
 * Destroying is two things. At once, in one record: the snapshot is DYING. Nobody sees it, and what it shares only
 * with the head is the head's own again. Later, in units: what it alone has is freed, pages after what is below
 * them. After a crash that begins anew; what is free by then, or was given out again (it is younger), is left
 * alone. Volumes that are dying go one by one, the youngest first.
 *
 * Rolling back makes the head the tree of the youngest snapshot, in one record. What it was is a volume of the
 * list, LEFT: dying, and nothing goes on from it.
 *
 * A clone is a volume that is written, too. It begins as a snapshot has it, and is beside the line: what was born
 * up to that snapshot stays as it is, and that snapshot stays as long as the clone. Destroying the clone is like
 * what a rollback does with the head: in one record it is LEFT. Its tree stands where the head's does, in the root
 * and in records; in the list is what it is called, and what it began as.
 *
 * Snapshots of a clone are a line of their own, which ends with the clone. All that is said above holds within a
 * line. It goes on from the clone's origin, its base: what was born up to that is the base's affair, and what is
 * born later nobody has outside of the line, but for clones that begin in it. So lines never look at each other.
 * A line is known by the number of the volume that it ends with: VOLUME_HEAD, or the clone's.
 *
 * A bookmark is what is noted of a snapshot: its name, guid and birth. What changed since can be told without the
 * snapshot, by births: what has not changed since was born before. So as long as there is a bookmark, what the
 * head has and was born before gets another id where it changes, also where no snapshot has it, and so do the
 * pages above; the id that it had is free at once (known_below). Going back behind a bookmark ends it: what was
 * born before would not be what it was then.
 *
 * Promoting a clone exchanges it with the head, and what followed on its origin in their lines: so what the head
 * was keeps its snapshots, and the clone its own. That is one record, whatever their number: the clone's slot gets
 * a `turn`, one higher than all before. A block of the list says which turn it knows. What stands in one that does
 * not know the last is of the other line (after_turn). Blocks are written anew one by one later, all of them
 * before the next turn, and before the clone's slot goes.
 *
 * The list is data of volume 0, in pairs of blocks (struct fmt_snapshots); a change is one record.
 *
 * Invariants (snap_audit):
 *   N1  the list is in the order of numbers, each once; all in it are born before what the root's number is now.
 *   N2  all levels of what nobody writes lie in the log; of a clone, not more than it has.
 *   N3  shared_below of the head is behind the birth of the youngest snapshot that is ALIVE, 0 without one; of a
 *       clone, behind that of its origin; of all others 0.
 *   N4  known_below of the head is that, or behind the youngest bookmark, whichever is higher.
 *
 * All with the lock. What changes the list: with `work`, too; the lock is let go meanwhile.
 */
#ifndef STORE_SNAP_H
#define STORE_SNAP_H

#include "store/state.h"

/* After roll-forward. CORRUPT: the list is damaged, or contradicts itself. */
int snap_load(struct store *s) MUST_CHECK;
void snap_free(struct store *s);

/* -- lines -- */

uint32_t snap_line(const struct snapshot *n); /* of one that is ALIVE or DYING, or of a bookmark */
/* The snapshot that the line goes on from. NULL: it is the head's. */
struct snapshot *snap_base(const struct store *s, uint32_t line);
uint32_t snap_based_below(const struct store *s, uint32_t line); /* what the base has was born before that; or 0 */

/* Of those that are ALIVE. NULL: there is none. */
struct snapshot *snap_find(struct store *s, uint32_t line, const char *name);
struct snapshot *snap_youngest(const struct store *s, uint32_t line);
/* What one of that number goes on from: the youngest before it in its line, else what its clone was made of. */
struct snapshot *snap_predecessor(const struct store *s, uint32_t line, uint32_t number);
/* It is not freed before snap_let. */
struct snapshot *snap_hold(struct store *s, uint32_t number);
void snap_let(struct store *s, struct snapshot *n);

/* -- bookmarks: what is noted of a snapshot stays, when it is gone -- */

struct snapshot *snap_find_bookmark(const struct store *s, uint32_t line, const char *name);
/* Lists `n`, as snap_add does. */
int snap_bookmark(struct store *s, struct snapshot *n) MUST_CHECK;
/* One of the line that is younger than n (NULL: any); NULL: there is none. */
struct snapshot *snap_younger_bookmark(const struct store *s, uint32_t line, const struct snapshot *n);

/* -- clones -- */

struct snapshot *snap_find_clone(const struct store *s, const char *name);
/* It is not freed before snap_let. NULL: there is none of that number. */
struct snapshot *snap_hold_clone(struct store *s, uint32_t number);
unsigned snap_clones(const struct store *s, const struct snapshot *base); /* of this one, or (NULL) in all */
/* Roll-forward, and the root, before snap_load. */
int snap_clone_was_made(struct store *s, uint32_t number, uint64_t root, unsigned levels,
			uint64_t blocks) MUST_CHECK;
void snap_clone_was_ended(struct store *s, uint32_t number);
/* Its pages lie in the log. */
int snap_end_clone(struct store *s, struct snapshot *n) MUST_CHECK;

/* As long as that from now on, which is longer. Its pages lie in the log. */
int snap_grow_clone(struct store *s, struct snapshot *n, uint64_t blocks) MUST_CHECK;

/* Does a snapshot or a bookmark get into another line when this clone is promoted? */
bool snap_turns(const struct store *s, const struct snapshot *clone);
/* Would two in one line have the same name then? Or would one that is DYING get into another? */
bool snap_turn_clashes(const struct store *s, const struct snapshot *clone);
bool snap_turn_moves_dying(const struct store *s, const struct snapshot *clone);

/*
 * The clone and the head exchange their trees, and what followed on its origin, in one record; the clone is called
 * so. Both lie in the log.
 */
int snap_promote(struct store *s, struct snapshot *n, const char *name) MUST_CHECK;

/* The last of the line, ALIVE or DYING. NULL: it has none. */
struct snapshot *snap_before(const struct store *s, uint32_t line);
/*
 * What n refers to and was born before this has to stay: an ALIVE one before it in its line, or the base, has it
 * as well. Of one that is LEFT it is the affair of the one that was rolled back to, or that it began as. Of a
 * clone: of the youngest of its line, or of the base.
 */
uint32_t snap_shared_below(const struct store *s, const struct snapshot *n);
/* What followed on n in its line with a higher number than `behind`; at last what the line ends with. 0: nothing.
 */
uint32_t snap_follower(const struct store *s, const struct snapshot *n, uint32_t behind);

/* Of what follows, the first that is ALIVE, or what the line ends with: what it has stays when n goes. 0: nothing.
 */
uint32_t snap_heir(const struct store *s, const struct snapshot *n);

/*
 * Lists `n`, which was allocated and is taken over whatever comes. `back`: in the same record the volume of its
 * line becomes that tree.
 */
int snap_add(struct store *s, struct snapshot *n, const struct snapshot *back) MUST_CHECK;
/* ALIVE to DYING. */
int snap_kill(struct store *s, struct snapshot *n) MUST_CHECK;

int snap_keep(struct store *s, struct snapshot *n, bool held) MUST_CHECK;
int snap_rename(struct store *s, struct snapshot *n, const char *name) MUST_CHECK; /* or a clone */

/*
 * How much of it there is, see store_snapshot_sizes(). With `work`, and held; the lock is let go meanwhile. Takes
 * time as what differs from its neighbours is much; the first time, as what the oldest one has is.
 */
int snap_measure(struct store *s, struct snapshot *n, struct store_snapshot_sizes *sizes) MUST_CHECK;

/* Blocks of a clone, and of its snapshots, that its origin has not. As snap_measure. */
int snap_measure_clone(struct store *s, struct snapshot *n, uint64_t *blocks) MUST_CHECK;

/* Blocks that come free when all these go, and no other. As snap_measure. */
int snap_freed(struct store *s, const uint32_t *numbers, size_t count, uint64_t *blocks) MUST_CHECK;

/* Something is DYING, or LEFT, and nobody reads it; or blocks of the list do not know the last turn. */
bool snap_pending(const struct store *s);
/*
 * A unit of freeing, or of writing such a block, without the lock: 1: did something; 0: nothing to do; NOSPC:
 * something has to be cleaned first.
 */
int snap_unit(struct store *s) MUST_CHECK;

void snap_audit(const struct store *s);

#endif
