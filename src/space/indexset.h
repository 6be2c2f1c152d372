/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A set of numbers below a bound, as a tree of bitmaps: every operation takes O(log) of the bound. Not
 * thread-safe.
 */
#ifndef SPACE_INDEXSET_H
#define SPACE_INDEXSET_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"

enum { INDEXSET_LEVELS = 4, INDEXSET_NONE = 0xffffffff };

struct indexset {
	uint32_t bound;
	unsigned levels;
	/* Level 0: a bit for each number; above: a bit for each word that is not 0. */
	uint64_t *word[INDEXSET_LEVELS];
};

int indexset_init(struct indexset *set, uint32_t bound) MUST_CHECK; /* empty; bound up to 2^24 */
void indexset_free(struct indexset *set);
void indexset_add(struct indexset *set, uint32_t number);
void indexset_remove(struct indexset *set, uint32_t number);
bool indexset_has(const struct indexset *set, uint32_t number);
uint32_t indexset_next(const struct indexset *set, uint32_t from); /* the first at or above; NONE */
uint32_t indexset_last(const struct indexset *set);                /* the highest; NONE */

#endif
