/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Keeps the claim of one open pool: takes it before anything is written, renews it in a thread of its own from
 * then on (rolling a log forward may take longer than a period), tells whoever runs the pool when it is lost, and
 * gives it up.
 */
#ifndef POOL_CLAIMANT_H
#define POOL_CLAIMANT_H

#include <lcpfs/pool.h>

#include "pool/claim.h"

struct claimant;

/* BUSY: somebody has the pool. `device` must outlive it. */
int claimant_new(struct vdev *device, const struct lcpfs_open_options *options, struct claimant **claimant,
		 struct lcpfs_failure *failure) MUST_CHECK;
/* For who only reads: BUSY if somebody has the pool open for writing. */
int claimant_look(struct vdev *device, const struct lcpfs_open_options *options,
		  struct lcpfs_failure *failure) MUST_CHECK;
struct claim *claimant_claim(struct claimant *claimant);
/* The pool has grown: from now on the second copy of the claim lies there, where it is already. */
void claimant_move(struct claimant *claimant, uint64_t device_blocks);
/* Once the pool is open its history hears of what happens, too. */
void claimant_set_pool(struct claimant *claimant, struct lcpfs_pool *pool);
bool claimant_file_is_gone(struct claimant *claimant); /* no name leads to it any more */
/* Ends the thread; NULL is allowed. `release`: the claim is given up, else left as by a crash. */
void claimant_end(struct claimant *claimant, bool release);

#endif
