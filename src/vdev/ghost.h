/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Which blocks were read from the device of late, but are not in a cache: a ghost list, as ARC and 2Q have it.
 * What is read for the first time need not go into a cache; what is read again soon should.
 *
 * It is a table of fixed size. A block is noted by 16 bits of its hash, in one of the four places that belong to
 * it; the oldest of the four goes. So it may forget, or take one block for another (once in 16,384 times): it is
 * for hints. Takes no lock: of two threads at the same four places one may be forgotten.
 */
#ifndef VDEV_GHOST_H
#define VDEV_GHOST_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct ghosts;

/* With so much memory, 2 bytes a block. NULL: there is none. */
struct ghosts *ghosts_new(size_t bytes);
/* Is it noted? Then it is forgotten, as it goes into the cache now; else it is noted. */
bool ghosts_meet(struct ghosts *ghosts, uint64_t block);
void ghosts_free(struct ghosts *ghosts); /* NULL is allowed */

#endif
