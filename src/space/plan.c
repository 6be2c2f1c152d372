/* SPDX-License-Identifier: Apache-2.0 */
#include "space/plan.h"

enum {
	FLUSH_SHARE = 64, /* SPENT metaslabs wait for each other up to this share of all: a flush for each costs
			     too much */
	TABLE_WASTE_SHARE =
		8, /* dead pages that the table's metaslabs may hold beside live ones: one in so many */
	FEW = 12,
	SOME = 75, /* percent of live pages: always worth moving; where room is short or many are dead */
};

/* -- what it needs -- */

uint32_t plan_usable_blocks(uint32_t metaslab_blocks)
{
	enum { RECORD = RECORD_HEADERS + RECORD_BLOCKS_MAX };
	uint32_t headers = RECORD_HEADERS * (metaslab_blocks / RECORD + 1) + RECORD_HEADERS,
		 wasted = RECORD_HEADERS;
	return metaslab_blocks - headers - wasted;
}

uint32_t plan_heads(uint32_t metaslabs)
{
	return metaslabs < HEADS_METASLABS_MIN ? 1 : LOG_HEADS;
}

uint64_t plan_list_pages(uint32_t metaslabs)
{
	uint64_t pages = 0, level = metaslabs;
	do {
		level = DIV_UP(level, pages ? (uint64_t)TABLE_SLOTS : (uint64_t)SPACE_SLOTS);
		pages += level;
	} while (level > 1);
	return pages;
}

/*
 * What depends on the table is reckoned as if the partition were full, if that is more: so one block more never
 * costs more than itself and its share of the table.
 */
static uint64_t table_leaves(const struct plan_table *t, uint32_t metaslabs)
{
	uint64_t full = DIV_UP((uint64_t)metaslabs * t->metaslab_blocks, (uint64_t)TABLE_SLOTS);
	return MAX_OF(full, t->pages);
}

static unsigned step_shift(const struct plan_table *t, uint64_t leaves)
{
	unsigned shift = t->region_shift;
	while (DIV_UP(leaves, (uint64_t)TABLE_SLOTS) > (uint64_t)REGIONS << shift)
		shift++;
	return shift;
}

/* Pages that one step of a checkpoint writes at most: the leaves of a region, and what is above them. */
static uint64_t step_pages(const struct plan_table *t, uint64_t leaves)
{
	unsigned shift = step_shift(t, leaves);
	uint64_t above = UINT64_C(1) << shift, some = MIN_OF(above * TABLE_SLOTS, leaves);
	return some + MIN_OF(above, DIV_UP(some, (uint64_t)TABLE_SLOTS)) + 2;
}

struct space_needs plan_needs(const struct plan_table *t, uint32_t metaslabs, uint64_t notes_blocks,
			      uint32_t heads_used)
{
	uint64_t step = 2 * (step_pages(t, table_leaves(t, metaslabs)) + plan_list_pages(metaslabs));
	return (struct space_needs){
		.step_units = step * BLOCK_SECTORS,
		.notes_units = (notes_blocks + notes_blocks / 32) * BLOCK_SECTORS, /* with headers */
		.heads = MAX_OF(plan_heads(metaslabs), heads_used) + 1,
	};
}

/* The next size at which a step of a checkpoint gets twice as long. */
static uint32_t next_shift(const struct plan_table *t, uint32_t metaslabs)
{
	unsigned shift = step_shift(t, table_leaves(t, metaslabs));
	uint64_t blocks = ((uint64_t)REGIONS << shift) * TABLE_SLOTS * TABLE_SLOTS;
	return (uint32_t)MIN_OF(blocks / t->metaslab_blocks + 1, (uint64_t)UINT32_MAX);
}

static uint64_t limit_at(const struct space *s, const struct plan_table *t, uint32_t metaslabs,
			 uint32_t heads_used)
{
	struct space_needs needs = plan_needs(t, metaslabs, 0, heads_used);
	return space_limit(s, &needs, metaslabs);
}

uint64_t plan_limit(const struct space *s, const struct plan_table *t, uint32_t metaslabs, uint32_t heads_used)
{
	uint64_t limit = limit_at(s, t, metaslabs, heads_used);
	if (metaslabs < HEADS_METASLABS_MIN)
		limit = MIN_OF(limit, limit_at(s, t, HEADS_METASLABS_MIN, heads_used));
	return MIN_OF(limit, limit_at(s, t, next_shift(t, metaslabs), heads_used));
}

/* A leaf for so many blocks, and one page in so many above, each twice; and dead pages among live ones. */
static uint64_t table_share(uint64_t data)
{
	return data * 2 * 127 / 126 / TABLE_SLOTS * (TABLE_WASTE_SHARE + 1) / TABLE_WASTE_SHARE;
}

uint64_t plan_live(uint64_t data_sectors, uint64_t table_pages)
{
	uint64_t pages = 2 * BLOCK_SECTORS * table_pages * (TABLE_WASTE_SHARE + 1) / TABLE_WASTE_SHARE;
	return data_sectors + MAX_OF(table_share(data_sectors), pages);
}

struct space_reserve plan_reserve(const struct space *s, const struct plan_table *t,
				  const struct space_needs *needs)
{
	struct space_reserve r = space_reserve_for(s, needs);
	uint64_t most = needs->step_units ? plan_live(0, t->pages) / s->units : 0, held = s->in_class[CLASS_TABLE];
	uint32_t more = most > held ? (uint32_t)(most - held) : 0;
	return (struct space_reserve){r.table + more, r.notes + more, r.kept + more};
}

uint32_t plan_metaslabs_for(uint32_t metaslab_blocks, uint64_t data_sectors, uint64_t table_pages)
{
	struct space space = {.units = metaslab_blocks * BLOCK_SECTORS,
			      .usable = plan_usable_blocks(metaslab_blocks) * BLOCK_SECTORS};
	struct plan_table table = {.metaslab_blocks = metaslab_blocks, .pages = table_pages};
	uint64_t live = plan_live(data_sectors, table_pages), least = DIV_UP(live, (uint64_t)space.usable);
	uint32_t low = (uint32_t)MIN_OF(MAX_OF(least, (uint64_t)1), (uint64_t)UINT32_MAX), high = low, more = 8;
	/* What it needs for itself is mostly little beside that. */
	while (high < UINT32_MAX && plan_limit(&space, &table, high, 1) < live) {
		low = high + 1;
		high += MIN_OF(more, UINT32_MAX - high);
		more = MIN_OF(more, UINT32_MAX / 2) * 2;
	}
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (plan_limit(&space, &table, middle, 1) >= live)
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

/* -- what to do next -- */

/* Is a step of a checkpoint the cheaper way to the next EMPTY metaslab? */
static bool checkpoint_pays(const struct space *s, const struct plan_state *p, const struct metaslab *victim)
{
	const struct metaslab *waiting = s->logged.count ? space_find(s, s->logged.top) : NULL;
	if (!waiting || waiting->last > p->next_redo)
		return false;
	double gained = 1 - (double)victim->live / s->units;
	return p->step_pages * BLOCK_SECTORS < victim->live / gained;
}

enum plan_unit plan_next(const struct space *s, const struct plan_state *p, uint32_t *victim)
{
	uint32_t unflushed = space_unflushed(s);
	struct metaslab *m = space_victim(s, p->now);
	bool many = unflushed > MAX_OF((uint32_t)PLAN_AHEAD_MOST, s->count / FLUSH_SHARE);
	*victim = SPACE_NONE;
	if (unflushed && (many || !m || space_empty(s) <= p->reserve.table + 1))
		return UNIT_FLUSH;
	if (p->urgent || (m && checkpoint_pays(s, p, m)))
		return UNIT_CHECKPOINT;
	if (m) {
		*victim = m->index;
		return UNIT_CLEAN;
	}
	return p->pending ? UNIT_CHECKPOINT : UNIT_NONE;
}

static uint32_t ahead(const struct space *s)
{
	return MIN_OF((uint32_t)PLAN_AHEAD_MOST, s->count / PLAN_AHEAD_SHARE);
}

bool plan_is_low(const struct space *s, uint32_t kept, uint64_t written)
{
	return space_empty(s) <= kept + ahead(s) && written >= s->usable / BLOCK_SECTORS / 8;
}

/* Two are taken before the next is EMPTY: one by writers, one by cleaning. */
uint32_t plan_left(const struct space *s, uint64_t live, uint64_t limit)
{
	uint64_t spare = limit > live ? (limit - live) / s->usable : 0;
	return (uint32_t)MIN_OF((uint64_t)ahead(s) * 2, spare);
}

bool plan_flushes_first(const struct space *s, uint32_t kept, uint32_t left)
{
	return left && space_unflushed(s) && space_empty(s) <= kept + left;
}

uint64_t plan_price(const struct space *s, const struct plan_gain *g)
{
	uint64_t one = s->usable / BLOCK_SECTORS, more = g->after > g->before ? g->after - g->before : 1;
	return MIN_OF(g->copied, g->all * one / (more * one + g->written));
}

static bool is_closed_table(const struct metaslab *m)
{
	return m->state == SPACE_CLOSED && m->class == CLASS_TABLE;
}

/* Without what goes empty anyway. */
static struct metaslab *fewest_left(const struct space *s, const uint32_t *doomed, uint32_t *left, uint64_t *held)
{
	struct metaslab *best = NULL;
	*held = s->in_class[CLASS_TABLE];
	for (uint32_t i = 0; i < s->count; i++) {
		struct metaslab *m = &s->slab[i];
		if (!is_closed_table(m))
			continue;
		*held -= m->live <= doomed[i];
		if (m->live > doomed[i] && (!best || m->live - doomed[i] < *left)) {
			best = m;
			*left = m->live - doomed[i];
		}
	}
	return best;
}

struct metaslab *plan_wasteful(const struct space *s, const uint32_t *doomed, uint64_t live_pages, uint32_t kept)
{
	uint64_t needed = DIV_UP(live_pages * BLOCK_SECTORS, (uint64_t)s->units) + 1,
		 held = s->in_class[CLASS_TABLE];
	struct metaslab *m = space_table_victim(s, SOME);
	uint32_t left = m ? m->live : 0;
	if (doomed)
		m = fewest_left(s, doomed, &left, &held);
	bool is_short = space_empty(s) <= kept, many = held > needed + needed / TABLE_WASTE_SHARE;
	return m && (uint64_t)left * 100 < (uint64_t)s->units * (is_short || many ? SOME : FEW) ? m : NULL;
}
