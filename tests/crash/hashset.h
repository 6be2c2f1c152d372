/* SPDX-License-Identifier: Apache-2.0 */
/* An open-addressed set of hashes. */
#ifndef CRASH_HASHSET_H
#define CRASH_HASHSET_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct hashset {
	uint64_t *slot; /* to be freed */
	size_t room, count;
};

bool hashset_add(struct hashset *set, uint64_t hash); /* true: it was not there */

#endif
