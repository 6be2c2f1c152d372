/* SPDX-License-Identifier: Apache-2.0 */
/* What scrub and check have in common: who looks, what is found, how far it is. See walk.c. */
#ifndef STORE_WALKER_H
#define STORE_WALKER_H

#include "store/state.h"

struct walker {
	struct store *s;
	struct store_walk *walk;
	uint8_t *used;  /* check: bitmap over the device */
	uint32_t *live; /* check: counted live blocks by position in space.slab */
	uint64_t done, total;
	struct fmt_page scratch;
};

void walker_found(struct walker *w, bool repaired, bool data, uint64_t block, uint64_t address, const char *format,
		  ...) PRINTF_LIKE(6, 7);
/* After so many blocks; STOPPED: whoever asked wants no more of it. */
int walker_progress(struct walker *w, uint64_t blocks) MUST_CHECK;
int walker_checked(struct walker *w,
		   uint64_t blocks) MUST_CHECK; /* of what was not counted in the total: roots, headers */
/* Writes a good copy over a bad one; false if that is not wanted or fails. */
bool walker_repair(struct walker *w, uint64_t block, const void *good) MUST_CHECK;
/* check: something lies there, and nothing else may. */
void walker_use(struct walker *w, uint64_t block, const char *what);

/* Damage of what is looked at, or an error of the device there: the rest is looked at all the same. */
static inline bool walker_is_damage(int error)
{
	return error == -LCPFS_E_CORRUPT || error == -LCPFS_E_IO;
}

/* Of an id in use, else UINT32_MAX; what cannot be read was told before. With the lock. */
uint32_t walker_birth(struct store *s, uint64_t id, unsigned *kind);

/* check: each block id that is in use is referred to once, and no other; and the counts of the root. */
int references_check(struct walker *w) MUST_CHECK;

#endif
