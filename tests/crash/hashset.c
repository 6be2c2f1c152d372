/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/crash/hashset.h"

#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"

static void grow(struct hashset *set);

bool hashset_add(struct hashset *set, uint64_t hash)
{
	hash += hash == 0;
	if (2 * set->count >= set->room)
		grow(set);
	size_t at = hash_mix(hash) & (set->room - 1);
	while (set->slot[at] && set->slot[at] != hash)
		at = (at + 1) & (set->room - 1);
	if (set->slot[at])
		return false;
	set->slot[at] = hash;
	set->count++;
	return true;
}

static void grow(struct hashset *set)
{
	struct hashset larger = {.room = set->room ? 2 * set->room : 1024};
	larger.slot = calloc(larger.room, sizeof(*larger.slot));
	CHECK(larger.slot);
	for (size_t i = 0; i < set->room; i++) {
		if (set->slot[i])
			hashset_add(&larger, set->slot[i]);
	}
	free(set->slot);
	*set = larger;
}
