/* SPDX-License-Identifier: Apache-2.0 */
/*
 * On a sparse vdev: metaslabs get a place behind them before they are used, and give it back while the host is
 * full.
 *
 * The log and the table are only written into metaslabs that have a place, so they never meet a full host in the
 * middle of anything. All that is promised counts on those only: a new block is taken in when they can hold it,
 * and those that are kept back for a checkpoint, for cleaning and for a trim are among them. So a store whose host
 * is full is like a full one of the size that it has a place for: what it holds can be overwritten, trimmed,
 * cleaned, closed and opened.
 *
 * A place is got a little ahead of the writers. While the host is full it is only asked for when it is needed, and
 * what is EMPTY beyond need goes back to the host.
 */
#ifndef STORE_BACK_H
#define STORE_BACK_H

#include "store/state.h"

/* All with the lock, which they let go meanwhile. */

/* One RAW metaslab becomes EMPTY: 0. DEVICE_FULL: no place for any. NOSPC: none is RAW. */
int back_one(struct store *s) MUST_CHECK;
/* Until a checkpoint, cleaning and a trim find what they need, or the host is full. */
void back_least(struct store *s);
int back_ahead(struct store *s);       /* some, so that the next writers find them; 1: some were */
int back_idly(struct store *s);        /* the same for those who flush often, while nobody writes */
uint32_t back_give(struct store *s);   /* what is EMPTY beyond need, to a host that is full; how many */

/* All with the lock, which they keep. */

/* There should be more, and enough was written since that was last tried. */
bool back_should_ahead(const struct store *s);
/*
 * What a trim has emptied is EMPTY when a checkpoint is done. It is worth one when there is a metaslab to be had.
 */
bool back_should_give(const struct store *s);
/* What is cleaned so that it can be given. NULL: nothing is left of that. */
struct metaslab *back_victim(const struct store *s);
bool back_has_trimmed(const struct store *s); /* enough for that, since backing.trimmed_at_give */

#endif
