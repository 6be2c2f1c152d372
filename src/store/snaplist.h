/* SPDX-License-Identifier: Apache-2.0 */
/* What lines, the list that has them on the device, and freeing know of each other. Users of snapshots: snap.h. */
#ifndef STORE_SNAPLIST_H
#define STORE_SNAPLIST_H

#include "store/snap.h"

/* -- snap.c: lists in memory -- */

/* Of snapshots and clones, or of bookmarks. */
struct snapshots *snap_list_of(struct store *s, const struct snapshot *n);
int snap_make_room(struct snapshots *l) MUST_CHECK;    /* for one more */
void snap_insert(struct store *s, struct snapshot *n); /* numbers rise */
void snap_take_out(struct store *s, const struct snapshot *n);
void snap_note_sharing(struct store *s); /* the list has changed: N3, N4 */

/* n's origin, when its line and the clone's are exchanged. Done twice, it is what it was. */
uint64_t snap_after_turn(const struct snapshot *clone, const struct snapshot *n);
/* Of those that stand in blocks that do not know it yet. */
void snap_turn_list(const struct snapshots *l, const struct snapshot *clone, uint64_t turn);
/* The list was read. CORRUPT: no clone tells which lines were exchanged. */
int snap_turn_loaded(struct store *s) MUST_CHECK;

/* -- snaplist.c -- */

/* It is not listed any more, and freed in memory. */
int snap_unlist(struct store *s, struct snapshot *n) MUST_CHECK;
/* A block that may not know the last turn is written as it is to be read. */
int snap_write_stale(struct store *s) MUST_CHECK;

#endif
