/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block table and its checkpoints, as src/store/checkpoint.c: a region's leaves, what is above, the space
 * list, the root.
 */
#include <stdlib.h>

#include "log_internal.h"
#include "memory.h"

enum { GROUP = 64, ROOT_COPIES = 2 };

/* -- its shape -- */

static uint32_t level_pages(uint32_t ids, unsigned level)
{
	uint32_t pages = DIV_UP(ids + 2, (uint32_t)TABLE_SLOTS);
	for (; level; level--)
		pages = pages > 1 ? DIV_UP(pages, (uint32_t)TABLE_SLOTS) : 0;
	return pages;
}

uint32_t model_table_pages(uint32_t ids)
{
	uint32_t pages = 0, some;
	for (unsigned level = 0; (some = level_pages(ids, level)); level++)
		pages += some;
	return pages;
}

unsigned model_table_shift(uint32_t ids)
{
	unsigned shift = 0;
	while (ids / TABLE_SLOTS / TABLE_SLOTS >> shift >= REGIONS)
		shift++;
	return shift;
}

void model_table_init(struct sim_log *log)
{
	struct model_table *t = &log->table;
	uint32_t some;
	t->metaslab = SPACE_NONE;
	if (!(log->options.checkpoint_share > 0))
		return;
	for (; (some = level_pages(log->ids, t->levels)); t->pages += some)
		t->level[t->levels++] = t->pages;
	t->leaves = level_pages(log->ids, 0);
	t->region_shift = model_table_shift(log->ids);
	t->dirty = sim_zeroed(t->pages, sizeof(t->dirty[0]));
	t->at = sim_zeroed(2 * (size_t)t->pages, sizeof(t->at[0]));
	for (uint32_t i = 0; i < 2 * t->pages; i++)
		t->at[i] = NOWHERE;
}

void model_table_free(struct sim_log *log)
{
	free(log->table.dirty);
	free(log->table.at);
	free(log->table.list);
	free(log->table.freed);
}

static unsigned region_of(const struct model_table *t, uint32_t leaf)
{
	return leaf / TABLE_SLOTS >> t->region_shift;
}

void model_table_mark_new(struct sim_log *log, uint32_t leaf)
{
	struct model_table *t = &log->table;
	t->dirty[leaf] = true;
	t->region[region_of(t, leaf)].dirty++;
	t->dirty_leaves++;
}

/* -- questions -- */

static unsigned lowest_region(const struct model_table *t)
{
	unsigned lowest = 0;
	for (unsigned i = 1; i < REGIONS; i++)
		if (t->region[i].seq < t->region[lowest].seq)
			lowest = i;
	return lowest;
}

uint64_t model_table_next_redo(const struct sim_log *log)
{
	uint64_t next = log->seq;
	for (unsigned i = 0; i < REGIONS; i++)
		if (i != log->table.lowest && log->table.region[i].seq < next)
			next = log->table.region[i].seq;
	return next;
}

static struct metaslab *wasteful(const struct sim_log *log, const uint32_t *doomed)
{
	uint64_t live_pages = 2 * (uint64_t)log->table.written + log->table.list_count;
	return plan_wasteful(&log->space, doomed, live_pages, log->kept);
}

bool model_table_wasteful(const struct sim_log *log)
{
	const struct metaslab *m = wasteful(log, NULL);
	uint32_t room = log->table.metaslab == SPACE_NONE ? 0 : log->options.metaslab_blocks - log->table.offset;
	return m && m->live <= room * BLOCK_SECTORS / 2;
}

/* -- writing -- */

static uint32_t next_place(struct sim_log *log, uint32_t owner)
{
	struct model_table *t = &log->table;
	if (t->metaslab != SPACE_NONE && t->offset == log->options.metaslab_blocks) {
		space_close(&log->space, t->metaslab);
		t->metaslab = SPACE_NONE;
	}
	if (t->metaslab == SPACE_NONE) {
		t->metaslab = space_take(&log->space, CLASS_TABLE, log->written);
		t->offset = 0;
		CHECK(t->metaslab != SPACE_NONE);
	}
	uint32_t place = model_place(log, t->metaslab, t->offset++);
	model_take_place(log, place, owner);
	log->counts.device++;
	return place;
}

static void free_later(struct model_table *t, uint32_t place)
{
	if (t->freed_count == t->freed_room) {
		t->freed_room = 2 * t->freed_room + 64;
		t->freed = sim_resized(t->freed, t->freed_room, sizeof(t->freed[0]));
	}
	t->freed[t->freed_count++] = place;
}

static void mark_above(struct model_table *t, uint32_t page, unsigned level)
{
	if (level + 1 < t->levels)
		t->dirty[t->level[level + 1] + (page - t->level[level]) / TABLE_SLOTS] = true;
}

static unsigned level_of(const struct model_table *t, uint32_t page)
{
	unsigned level = 0;
	while (level + 1 < t->levels && page >= t->level[level + 1])
		level++;
	return level;
}

static void write_group(struct sim_log *log, const uint32_t *pages, uint32_t count)
{
	struct model_table *t = &log->table;
	uint32_t places[2][GROUP];
	for (unsigned copy = 0; copy < 2; copy++)
		for (uint32_t i = 0; i < count; i++)
			places[copy][i] = next_place(log, log->ids + pages[i]);
	for (uint32_t i = 0; i < 2 * count; i++) {
		uint32_t page = pages[i / 2], *at = &t->at[2 * (size_t)page + i % 2];
		if (*at != NOWHERE)
			free_later(t, *at);
		else if (i % 2)
			t->written++;
		*at = places[i % 2][i / 2];
		mark_above(t, page, level_of(t, page));
	}
}

/* Dirty ones of `first` to `end`; they are clean then. */
static void write_dirty(struct sim_log *log, uint32_t first, uint32_t end)
{
	struct model_table *t = &log->table;
	uint32_t pages[GROUP], count = 0;
	for (uint32_t page = first; page < end; page++) {
		if (!t->dirty[page])
			continue;
		t->dirty[page] = false;
		pages[count++] = page;
		if (count == GROUP) {
			write_group(log, pages, count);
			count = 0;
		}
	}
	write_group(log, pages, count);
}

/* Live pages of one metaslab go elsewhere. How many went. */
static uint32_t move_from(struct sim_log *log, uint32_t index)
{
	struct model_table *t = &log->table;
	uint32_t pages[GROUP], count = 0, moved = 0;
	for (uint32_t i = 0; i < log->options.metaslab_blocks; i++) {
		uint32_t place = model_place(log, index, i), owner = log->owner[place];
		uint32_t page = owner - log->ids;
		if (!model_is_alive(log, place) || owner == NOWHERE || (page >= t->leaves && t->dirty[page]) ||
		    (t->at[2 * (size_t)page] != place && t->at[2 * (size_t)page + 1] != place))
			continue;
		bool twice = false; /* the other copy is in the same metaslab */
		for (uint32_t k = 0; k < count; k++)
			twice |= pages[k] == page;
		if (!twice)
			pages[count++] = page;
		moved += !twice;
		if (count == GROUP) {
			write_group(log, pages, count);
			count = 0;
		}
	}
	write_group(log, pages, count);
	return moved;
}

static void doom(const struct sim_log *log, uint32_t place, uint32_t *doomed)
{
	const struct metaslab *m = space_find(&log->space, place >> log->place_bits);
	doomed[m - log->space.slab] += BLOCK_SECTORS;
}

static uint64_t table_room(const struct sim_log *log)
{
	const struct model_table *t = &log->table;
	uint64_t head = t->metaslab == SPACE_NONE ? 0 : log->options.metaslab_blocks - t->offset;
	return (uint64_t)space_empty(&log->space) * log->options.metaslab_blocks + head;
}

/* Too many dead ones lie among the live, and there is room for them and for what is written after them. */
static uint32_t next_to_move(const struct sim_log *log)
{
	const struct model_table *t = &log->table;
	uint32_t *doomed = sim_zeroed(log->space.count, sizeof(*doomed));
	for (uint32_t i = 0; i < t->freed_count; i++)
		doom(log, t->freed[i], doomed);
	for (uint32_t i = 0; i < t->list_count; i++)
		doom(log, t->list[i], doomed);
	const struct metaslab *m = wasteful(log, doomed);
	uint32_t left = m ? (m->live - doomed[m - log->space.slab]) / BLOCK_SECTORS : 0;
	free(doomed);
	uint64_t rest = (t->pages - t->leaves) + plan_list_pages(log->space.count);
	return m && 2 * left + 2 * rest <= table_room(log) ? m->index : SPACE_NONE;
}

/* As many as it takes to keep the waste within bounds, but no more than the step's own pages again. */
static void move_pages(struct sim_log *log, uint32_t written)
{
	uint32_t last = SPACE_NONE, next = next_to_move(log), moved = 0;
	uint32_t most = written + log->options.metaslab_blocks / 2;
	for (; next != SPACE_NONE && next != last && moved < most; next = next_to_move(log)) {
		last = next;
		moved += move_from(log, last);
	}
}

/* A slot for every metaslab in which something lives; it is written anew each time. The old places go. */
static void write_list(struct sim_log *log, uint32_t *old_count)
{
	struct model_table *t = &log->table;
	uint32_t slots = 0;
	for (uint32_t i = 0; i < log->space.count; i++)
		slots += log->space.slab[i].live > 0;
	uint32_t pages = (uint32_t)plan_list_pages(slots);
	*old_count = t->list_count;
	if (t->list_count + 2 * pages > t->list_room) {
		t->list_room = 2 * (t->list_count + 2 * pages);
		t->list = sim_resized(t->list, t->list_room, sizeof(t->list[0]));
	}
	for (uint32_t i = 0; i < 2 * pages; i++)
		t->list[t->list_count++] = next_place(log, NOWHERE);
}

static void publish(struct sim_log *log, uint32_t old_list)
{
	struct model_table *t = &log->table;
	model_flush(log);
	log->counts.device += ROOT_COPIES;
	for (uint32_t i = 0; i < t->freed_count; i++)
		model_drop_place(log, t->freed[i]);
	t->freed_count = 0;
	for (uint32_t i = 0; i < old_list; i++)
		model_drop_place(log, t->list[i]);
	t->list_count -= old_list;
	for (uint32_t i = 0; i < t->list_count; i++)
		t->list[i] = t->list[old_list + i];
	space_rooted(&log->space, t->region[t->lowest].seq);
}

/* All pages that it may write, whatever is moved. */
static bool has_room(const struct sim_log *log)
{
	const struct model_table *t = &log->table;
	uint64_t pages = t->region[t->lowest].dirty + (t->pages - t->leaves) + plan_list_pages(log->space.count);
	return 2 * pages <= table_room(log);
}

bool model_table_step(struct sim_log *log)
{
	struct model_table *t = &log->table;
	unsigned region = t->lowest;
	uint32_t per_region = (uint32_t)TABLE_SLOTS << t->region_shift, first = region * per_region, old_list;
	if (space_empty(&log->space) < log->kept && space_unflushed(&log->space))
		model_flush(log);
	if (!has_room(log))
		return false;
	model_seal_open(log);
	uint64_t seq = log->seq;
	for (unsigned i = 0; i < REGIONS; i++) {
		if (i != region && t->region[i].dirty)
			continue;
		t->region[i].seq = seq;
		t->region[i].appended = log->appended;
	}
	t->lowest = lowest_region(t);
	if (first < t->leaves)
		write_dirty(log, first, MIN_OF(first + per_region, t->leaves));
	uint32_t written = t->region[region].dirty;
	t->dirty_leaves -= written;
	t->region[region].dirty = 0;
	move_pages(log, written);
	for (unsigned level = 1; level < t->levels; level++)
		write_dirty(log, t->level[level], level + 1 < t->levels ? t->level[level + 1] : t->pages);
	write_list(log, &old_list);
	publish(log, old_list);
	return true;
}
