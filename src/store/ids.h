/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Block ids to give out. The first one is 2: 0 means none, and pairs begin with an even one. In attempts.
 *
 * Free ids come from runs that are known (freed lately, or found), else from behind the last one ever used, else
 * the table is searched from a cursor on. A run may be out of date: an id counts as free only if its entry says
 * so.
 */
#ifndef STORE_IDS_H
#define STORE_IDS_H

#include "store/state.h"

enum {
	IDS_FIRST = 2,
	/*
	 * Ids below the end may be free, up to this share of those in use and so many more, before they are looked
	 * for.
	 */
	IDS_FREE_SHARE = 4,
	IDS_FREE_LEAST = TABLE_SLOTS,
};

/*
 * One, or an even one and the odd one behind it; with the leaf of its entry, which may have been made. TRY_AGAIN
 * as usual.
 */
int ids_take(struct store *s, bool pair, struct need *need, uint64_t *id, struct page **leaf) MUST_CHECK;
void ids_freed(struct store *s, uint64_t id, unsigned count);
void ids_used(struct store *s, uint64_t id); /* by roll-forward */

#endif
