/* SPDX-License-Identifier: Apache-2.0 */
#include "space/metaslab.h"

#include <stdlib.h>

int space_init(struct space *space, uint64_t base, uint32_t metaslab_blocks, uint32_t pool_count, bool sparse)
{
	*space = (struct space){
		.base = base, .metaslab_blocks = metaslab_blocks, .pool_count = pool_count, .sparse = sparse};
	space->slot = calloc(pool_count ? pool_count : 1, sizeof(*space->slot));
	return space->slot ? 0 : -LCPFS_E_NOMEM;
}

void space_free(struct space *space)
{
	free(space->slab);
	free(space->slot);
	*space = (struct space){0};
}

static void count_state(struct space *space, unsigned state, int by)
{
	if (state == METASLAB_EMPTY)
		space->empty += (uint32_t)by;
	else if (state == METASLAB_RAW)
		space->raw += (uint32_t)by;
}

int space_add(struct space *space, uint32_t index)
{
	if (index >= space->pool_count)
		return -LCPFS_E_INVALID;
	if (space->slot[index])
		return -LCPFS_E_EXISTS;
	if (space->count == space->room) {
		uint32_t room = space->room ? 2 * space->room : 16;
		struct metaslab *slab = realloc(space->slab, room * sizeof(*slab));
		if (!slab)
			return -LCPFS_E_NOMEM;
		space->slab = slab;
		space->room = room;
	}
	enum metaslab_state state = space->sparse ? METASLAB_RAW : METASLAB_EMPTY;
	space->slab[space->count] = (struct metaslab){.index = index, .state = (uint8_t)state};
	space->slot[index] = ++space->count;
	count_state(space, state, 1);
	return 0;
}

void space_remove(struct space *space, uint32_t index)
{
	struct metaslab *gone = space_find(space, index);
	CHECK(gone);
	count_state(space, gone->state, -1);
	*gone = space->slab[--space->count];
	space->slot[gone->index] = (uint32_t)(gone - space->slab) + 1;
	space->slot[index] = 0;
}

struct metaslab *space_find(const struct space *space, uint32_t index)
{
	if (index >= space->pool_count || !space->slot[index])
		return NULL;
	return &space->slab[space->slot[index] - 1];
}

struct metaslab *space_of_block(const struct space *space, uint64_t block)
{
	if (block < space->base)
		return NULL;
	uint64_t index = (block - space->base) / space->metaslab_blocks;
	return index < space->pool_count ? space_find(space, (uint32_t)index) : NULL;
}

uint64_t space_first_block(const struct space *space, uint32_t index)
{
	return space->base + (uint64_t)index * space->metaslab_blocks;
}

/* In order of index, so that what is written together lies together; `cursor` is where the last one was. */
struct metaslab *space_take(struct space *space)
{
	struct metaslab *behind = NULL, *first = NULL;
	for (uint32_t i = 0; i < space->count; i++) {
		struct metaslab *m = &space->slab[i];
		if (m->state != METASLAB_EMPTY)
			continue;
		if (!first || m->index < first->index)
			first = m;
		if (m->index >= space->cursor && (!behind || m->index < behind->index))
			behind = m;
	}
	struct metaslab *taken = behind ? behind : first;
	if (!taken)
		return NULL;
	space->cursor = taken->index + 1;
	taken->age = taken->first = 0; /* the records in it are of an earlier life */
	space_set_state(space, taken, METASLAB_OPEN);
	return taken;
}

void space_set_state(struct space *space, struct metaslab *metaslab, enum metaslab_state state)
{
	count_state(space, metaslab->state, -1);
	count_state(space, state, 1);
	metaslab->state = (uint8_t)state;
	metaslab->ready = 0;
	metaslab->waiting = metaslab->unread = metaslab->bare = false;
}

struct metaslab *space_last(const struct space *space, enum metaslab_state state)
{
	struct metaslab *last = NULL;
	for (uint32_t i = 0; i < space->count; i++) {
		struct metaslab *m = &space->slab[i];
		if (m->state == state && !m->pinned &&
		    (!last || m->bare > last->bare || (m->bare == last->bare && m->index > last->index)))
			last = m;
	}
	return last;
}

struct metaslab *space_next_raw(const struct space *space)
{
	struct metaslab *next = NULL;
	for (uint32_t i = 0; i < space->count && space->raw; i++) {
		struct metaslab *m = &space->slab[i];
		if (m->state == METASLAB_RAW && !m->pinned &&
		    (!next || m->bare < next->bare || (m->bare == next->bare && m->index < next->index)))
			next = m;
	}
	return next;
}

int space_live_add(struct space *space, uint64_t block)
{
	struct metaslab *m = space_of_block(space, block);
	if (!m || m->live >= space->metaslab_blocks)
		return -LCPFS_E_CORRUPT;
	m->live++;
	m->ready = 0;
	return 0;
}

int space_live_sub(struct space *space, uint64_t block)
{
	struct metaslab *m = space_of_block(space, block);
	if (!m || m->live == 0)
		return -LCPFS_E_CORRUPT;
	m->live--;
	return 0;
}

struct metaslab *space_victim(const struct space *space, uint64_t age_max, uint64_t age_now, uint32_t live_max)
{
	struct metaslab *best = NULL;
	double best_score = -1;
	for (uint32_t i = 0; i < space->count; i++) {
		struct metaslab *m = &space->slab[i];
		if (m->state != METASLAB_CLOSED || m->waiting || m->unread || m->age > age_max || m->live == 0 || m->live > live_max)
			continue;
		double used = (double)m->live / space->metaslab_blocks;
		double score = (1 - used) * (double)(age_now - m->age + 1) / (1 + used);
		if (score > best_score) {
			best = m;
			best_score = score;
		}
	}
	return best;
}
