/* SPDX-License-Identifier: Apache-2.0 */
/* See work.c. */
#ifndef STORE_WORK_H
#define STORE_WORK_H

#include "store/room.h"
#include "store/state.h"

/*
 * With the lock, which is let go meanwhile: until there is an EMPTY metaslab beyond what `user` leaves, and room
 * for `blocks` more live ones. NOSPC: none can be had, by cleaning, flushing, checkpoints, or from the pool.
 */
int work_wait(struct store *s, enum room_user user, unsigned blocks) MUST_CHECK;
/*
 * With `work`, without the lock. A unit of work that makes room, for those who cannot go on without: heads of the
 * log, and destroyed snapshots, give what they can. 1; 0: nothing is to be gained; or an error.
 */
int work_hard(struct store *s) MUST_CHECK;
/* Steps of a checkpoint until nothing is left that a root does not have. With `work`, without the lock. */
int work_checkpoint(struct store *s) MUST_CHECK;
void work_wake(struct store *s); /* the background, if there is work for it; with the lock */

#endif
