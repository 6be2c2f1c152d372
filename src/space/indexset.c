/* SPDX-License-Identifier: Apache-2.0 */
#include "space/indexset.h"

#include <stdlib.h>

#include "base/check.h"

int indexset_init(struct indexset *set, uint32_t bound)
{
	uint32_t bits = MAX_OF(bound, 1u);
	*set = (struct indexset){.bound = bound};
	do {
		CHECK(set->levels < INDEXSET_LEVELS);
		bits = DIV_UP(bits, 64u);
		set->word[set->levels] = calloc(bits, sizeof(uint64_t));
		if (!set->word[set->levels++]) {
			indexset_free(set);
			return -LCPFS_E_NOMEM;
		}
	} while (bits > 1);
	return 0;
}

void indexset_free(struct indexset *set)
{
	for (unsigned i = 0; i < set->levels; i++)
		free(set->word[i]);
	*set = (struct indexset){0};
}

void indexset_add(struct indexset *set, uint32_t number)
{
	CHECK(number < set->bound);
	for (unsigned level = 0; level < set->levels; level++, number /= 64) {
		uint64_t before = set->word[level][number / 64];
		set->word[level][number / 64] = before | UINT64_C(1) << number % 64;
		if (before)
			return;
	}
}

void indexset_remove(struct indexset *set, uint32_t number)
{
	CHECK(number < set->bound);
	for (unsigned level = 0; level < set->levels; level++, number /= 64) {
		set->word[level][number / 64] &= ~(UINT64_C(1) << number % 64);
		if (set->word[level][number / 64])
			return;
	}
}

bool indexset_has(const struct indexset *set, uint32_t number)
{
	return number < set->bound && set->word[0][number / 64] >> number % 64 & 1;
}

/* Up until a word has a bit at or above, then down to its lowest. */
uint32_t indexset_next(const struct indexset *set, uint32_t from)
{
	if (from >= set->bound)
		return INDEXSET_NONE;
	uint32_t words = DIV_UP(MAX_OF(set->bound, 1u), 64u), at = from;
	unsigned level = 0;
	for (;; level++, words = DIV_UP(words, 64u)) {
		if (level == set->levels || at / 64 >= words)
			return INDEXSET_NONE;
		uint64_t left = set->word[level][at / 64] >> at % 64;
		if (left) {
			at += (uint32_t)__builtin_ctzll(left);
			break;
		}
		at = at / 64 + 1;
	}
	for (; level > 0; level--)
		at = at * 64 + (uint32_t)__builtin_ctzll(set->word[level - 1][at]);
	return at;
}

uint32_t indexset_last(const struct indexset *set)
{
	uint32_t at = 0;
	if (!set->word[set->levels - 1][0])
		return INDEXSET_NONE;
	for (unsigned level = set->levels; level-- > 0;)
		at = at * 64 + 63 - (uint32_t)__builtin_clzll(set->word[level][at]);
	return at;
}
