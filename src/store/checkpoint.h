/* SPDX-License-Identifier: Apache-2.0 */
/* See checkpoint.c. */
#ifndef STORE_CHECKPOINT_H
#define STORE_CHECKPOINT_H

#include "store/state.h"

enum {
	LOG_SHARE_OF_SIZE = 4,    /* the log since the redo point: at most 1/4 of the partition, the rest must stay cleanable */
	DIRTY_SHARE_OF_CACHE = 3, /* a page that is changed while it is being written is held twice */
};
#define LOG_LENGTH_MAX_BLOCKS (1024 * 1024) /* 4 GiB: its headers are rolled forward in a second or two at opening */

/*
 * One step: the leaves of one region of the table, and a root with them. With `work`, without the lock. `kept`:
 * metaslabs that are left when pages of volumes' trees are written; NOSPC if that does not do.
 */
int checkpoint_step(struct store *s, uint32_t kept) MUST_CHECK;
/* A new root with the table as it is: a new epoch, after opening. */
int checkpoint_root(struct store *s) MUST_CHECK;

/*
 * With `work` and the lock, which is let go meanwhile: all pages of trees lie in the log, as they are now, and
 * nobody changes any until trees.held is taken back. `kept` as above.
 */
int checkpoint_settle_trees(struct store *s, uint32_t kept) MUST_CHECK;

/* All with the lock. */
bool checkpoint_due(const struct store *s);
bool checkpoint_urgent(const struct store *s); /* too much of the cache waits for one */
uint64_t checkpoint_redo(const struct store *s); /* where roll-forward would begin with the root that is in memory */
bool checkpoint_pending(const struct store *s);  /* a step would move the redo point on */

int root_write(struct store *s, struct fmt_root *root, unsigned slot) MUST_CHECK;

#endif
