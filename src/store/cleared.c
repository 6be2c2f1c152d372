/* SPDX-License-Identifier: Apache-2.0 */
#include "store/cleared.h"

#include <string.h>

#include "base/check.h"

/* The first range that ends at or behind the address. */
static uint32_t first_reaching(const struct cleared *c, uint64_t address)
{
	uint32_t low = 0, high = c->count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (c->range[middle].end < address)
			low = middle + 1;
		else
			high = middle;
	}
	return low;
}

bool cleared_gap(const struct cleared *c, uint64_t begin, uint64_t end, uint64_t *gap_begin, uint64_t *gap_end)
{
	uint32_t i = first_reaching(c, begin);
	if (i < c->count && c->range[i].begin <= begin)
		begin = c->range[i++].end;
	*gap_begin = begin;
	*gap_end = i < c->count ? MIN_OF(end, c->range[i].begin) : end;
	return begin < end;
}

/* Makes `count` ranges from `first` on into `wanted` ones. */
static void make_room(struct cleared *c, uint32_t first, uint32_t count, uint32_t wanted)
{
	memmove(&c->range[first + wanted], &c->range[first + count],
		(c->count - first - count) * sizeof(c->range[0]));
	c->count += wanted - count;
}

void cleared_add(struct cleared *c, uint64_t begin, uint64_t end)
{
	uint32_t first = first_reaching(c, begin), last = first;
	for (; last < c->count && c->range[last].begin <= end; last++) {
		begin = MIN_OF(begin, c->range[last].begin);
		end = MAX_OF(end, c->range[last].end);
	}
	if (first == last && c->count == CLEARED_RANGES_MAX)
		first = last = c->count = 0;
	make_room(c, first, last - first, 1);
	c->range[first].begin = begin;
	c->range[first].end = end;
}

void cleared_remove(struct cleared *c, uint64_t address)
{
	uint32_t i = first_reaching(c, address + 1);
	if (i == c->count || c->range[i].begin > address)
		return;
	uint64_t begin = c->range[i].begin, end = c->range[i].end;
	if (c->count == CLEARED_RANGES_MAX) {
		c->count = 0;
		return;
	}
	bool before = begin < address, behind = address + 1 < end;
	make_room(c, i, 1, (uint32_t)before + behind);
	if (before)
		c->range[i].end = address;
	if (before)
		c->range[i].begin = begin;
	if (behind) {
		c->range[i + before].begin = address + 1;
		c->range[i + before].end = end;
	}
}
