/* SPDX-License-Identifier: Apache-2.0 */
#include "vdev/ghost.h"

#include <stdatomic.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"

enum { NOTE_BITS = 16 };

struct ghosts {
	uint64_t words;
	_Atomic uint64_t word[]; /* four notes each, the youngest lowest; 0: none */
};

struct ghosts *ghosts_new(size_t bytes)
{
	size_t words = MAX_OF(bytes / sizeof(uint64_t), (size_t)1);
	struct ghosts *g = calloc(1, sizeof(*g) + words * sizeof(uint64_t));
	if (g)
		g->words = words;
	return g;
}

bool ghosts_meet(struct ghosts *g, uint64_t block)
{
	uint64_t hash = hash_mix(block), note = hash % UINT16_MAX + 1;
	_Atomic uint64_t *at = &g->word[(hash >> NOTE_BITS) % g->words];
	uint64_t word = atomic_load_explicit(at, memory_order_relaxed);
	for (unsigned shift = 0; shift < 64; shift += NOTE_BITS) {
		if ((word >> shift & UINT16_MAX) != note)
			continue;
		atomic_store_explicit(at, word & ~((uint64_t)UINT16_MAX << shift), memory_order_relaxed);
		return true;
	}
	atomic_store_explicit(at, word << NOTE_BITS | note, memory_order_relaxed);
	return false;
}

void ghosts_free(struct ghosts *g)
{
	free(g);
}
