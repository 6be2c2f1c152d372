/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The block table and the volume as trees of pages, and checkpoints, as src/store/checkpoint.c: changed pages
 * twice each, then the space tree; what the last root referred to is free afterwards.
 */
#include <stdlib.h>
#include <string.h>

#include "log_internal.h"
#include "memory.h"

enum { HEADS_METASLABS_MIN = 12, LOG_BLOCKS_MAX = 256 * 1024, ROOT_COPIES = 2 };

/* ---- trees ---- */

/* Pages of one tree at a level; the depth is fixed by what the tree may have to hold one day. */
static uint32_t pages_at(unsigned tree, unsigned level, uint32_t volume_blocks)
{
	uint32_t slots = tree ? VOLUME_SLOTS : PAGE_SLOTS;
	uint32_t leaves = DIV_UP(volume_blocks, slots), most = tree ? leaves : DIV_UP(2 * volume_blocks, slots);

	for (unsigned i = 0; i < level; i++) {
		if (most == 1)
			return 0;
		leaves = DIV_UP(leaves, PAGE_SLOTS);
		most = DIV_UP(most, PAGE_SLOTS);
	}
	return leaves;
}

uint32_t model_tables_page_slots(uint32_t volume_blocks)
{
	uint32_t count = 0;

	for (unsigned level = 0; level < TREE_LEVELS_MAX; level++)
		for (unsigned tree = 0; tree < TREES; tree++)
			count += pages_at(tree, level, volume_blocks);
	return count;
}

/* Fills in a level of a tree that begins at page `first`; its parents begin at `above`. */
static void init_level(struct sim_log *log, uint32_t first, uint32_t count, unsigned level, uint32_t above)
{
	for (uint32_t i = 0; i < count; i++)
		log->pages[first + i] = (struct page){
			.at = {NOWHERE, NOWHERE},
			.parent = above == NOWHERE ? NOWHERE : above + i / PAGE_SLOTS,
			.level = (uint8_t)level,
		};
}

void model_tables_init(struct sim_log *log)
{
	uint32_t next = 0, volume = log->volume_blocks;

	log->page_slots = log->options.checkpoint_share > 0 ? model_tables_page_slots(volume) : 0;
	log->pages = sim_zeroed(log->page_slots + 1, sizeof(log->pages[0]));
	log->changed = sim_zeroed(log->page_slots + 1, sizeof(log->changed[0]));
	for (unsigned level = 0; log->page_slots && level < TREE_LEVELS_MAX; level++) {
		uint32_t above = next + pages_at(0, level, volume) + pages_at(1, level, volume);
		for (unsigned tree = 0; tree < TREES; tree++) {
			uint32_t count = pages_at(tree, level, volume), higher = pages_at(tree, level + 1, volume);
			if (level == 0)
				log->leaf[tree] = next;
			init_level(log, next, count, level, higher ? above : NOWHERE);
			next += count;
			above += higher;
		}
	}
}

void model_tables_free(struct sim_log *log)
{
	free(log->pages);
	free(log->changed);
	free(log->space_pages);
	free(log->freed);
}

void model_tables_mark_page(struct sim_log *log, uint32_t page)
{
	for (; page != NOWHERE && !log->changed[page]; page = log->pages[page].parent) {
		log->changed[page] = true;
		log->changed_count++;
		if (log->pages[page].exists)
			continue;
		log->pages[page].exists = true;
		log->page_count++;
		log->unwritten_count++;
		model_room_reckon(log);
	}
}

/* As room.c reckons. */
uint32_t model_tables_space_pages(uint32_t metaslabs)
{
	uint32_t leaves = DIV_UP(metaslabs, PAGE_SLOTS);

	return metaslabs > PAGE_SLOTS ? leaves + 1 + metaslabs / (PAGE_SLOTS * PAGE_SLOTS) : leaves;
}

/* ---- checkpoints ---- */

static void free_later(struct sim_log *log, uint32_t place)
{
	if (log->freed_count == log->freed_room) {
		log->freed_room = 2 * log->freed_room + 64;
		log->freed = sim_resized(log->freed, log->freed_room, sizeof(log->freed[0]));
	}
	log->freed[log->freed_count++] = place;
}

/* Copies of pages go to places[0], [2], [4] …: in as many records as it takes. pages NULL: of the space tree. */
static void append_copy(struct sim_log *log, const uint32_t *pages, uint32_t count, uint32_t *places)
{
	struct record record = {0};

	for (uint32_t i = 0; i < count; i++) {
		if (!record.blocks_max)
			CHECK(model_begin(log, HEAD_META, count - i, 0, &record));
		places[(size_t)2 * i] = model_append(log, &record);
		model_take_place(log, places[(size_t)2 * i], pages ? log->volume_blocks + pages[i] : NOWHERE);
		if (record.blocks == record.blocks_max || i + 1 == count)
			model_seal(log, &record);
	}
}

static void write_group(struct sim_log *log, const uint32_t *pages, uint32_t count, uint32_t *places)
{
	append_copy(log, pages, count, places);
	append_copy(log, pages, count, places + 1);
}

static void write_pages(struct sim_log *log)
{
	uint32_t group[RECORD_ENTRIES], places[2 * RECORD_ENTRIES];

	for (uint32_t i = 0; i < log->page_slots;) {
		unsigned level = log->pages[i].level;
		uint32_t count = 0;
		for (; i < log->page_slots && log->pages[i].level == level && count < RECORD_ENTRIES; i++) {
			if (log->changed[i])
				group[count++] = i;
			log->changed[i] = false;
		}
		write_group(log, group, count, places);
		for (uint32_t k = 0; k < 2 * count; k++) {
			uint32_t *at = &log->pages[group[k / 2]].at[k % 2];
			if (*at != NOWHERE)
				free_later(log, *at);
			*at = places[k];
		}
	}
	log->changed_count = log->unwritten_count = 0;
	model_room_reckon(log);
}

/* The space tree has a slot for every metaslab in which something lives; it is written anew each time. */
static void write_space(struct sim_log *log)
{
	uint32_t slots = 0, room, *old = log->space_pages, old_count = log->space_page_count;

	for (uint32_t i = 0; i < log->slots; i++)
		slots += log->metaslabs[i].live > 0;
	room = model_tables_space_pages(log->slots) + TREE_LEVELS_MAX;
	log->space_pages = sim_zeroed(2 * (size_t)room, sizeof(uint32_t));
	log->space_page_count = 0;
	for (bool more = slots > 0; more; more = slots > 1) {
		uint32_t *places = log->space_pages + 2 * (size_t)log->space_page_count;
		slots = DIV_UP(slots, PAGE_SLOTS);
		write_group(log, NULL, slots, places);
		log->space_page_count += slots;
	}
	for (uint32_t i = 0; i < 2 * old_count; i++)
		free_later(log, old[i]);
	free(old);
}

/* With few metaslabs one head writes everything. */
static void choose_heads(struct sim_log *log)
{
	bool few = log->count < HEADS_METASLABS_MIN;

	for (unsigned i = 1; few && i < log->heads; i++) {
		struct metaslab *m = &log->metaslabs[log->head[i].metaslab];
		model_close(log, log->head[i].metaslab);
		m->held = true;
	}
	if (few)
		log->heads = 1;
	if (few || log->heads > 1 || log->empty < log->kept + LOG_HEADS)
		return;
	log->heads = LOG_HEADS;
	for (unsigned i = 1; i < LOG_HEADS; i++) {
		log->head[i].metaslab = model_take_empty(log);
		log->head[i].offset = 0;
	}
}

void model_checkpoint_reckon(struct sim_log *log)
{
	double size = (double)log->count * log->options.metaslab_blocks;
	double most = log->options.checkpoint_share * size;

	log->due_blocks = log->page_slots ? (uint64_t)MIN_OF(most, (double)LOG_BLOCKS_MAX) : UINT64_MAX;
}

bool model_checkpoint_due(const struct sim_log *log)
{
	return log->changed_count && log->log_blocks > log->due_blocks;
}

void model_checkpoint_write(struct sim_log *log)
{
	uint64_t log_blocks, seq;

	if (log->empty < log->kept - 2)
		model_flush(log);
	for (uint32_t i = 0; model_room_needs_full_checkpoint(log) && i < log->page_slots; i++)
		if (log->pages[i].exists)
			model_tables_mark_page(log, i);
	if (log->open.blocks_max)
		model_seal(log, &log->open);
	choose_heads(log);
	log_blocks = log->log_blocks;
	seq = log->seq;
	write_pages(log);
	write_space(log);
	model_flush(log);
	log->counts.device += ROOT_COPIES;
	log->root_seq = seq;
	log->log_blocks -= log_blocks;
	for (uint32_t i = 0; i < log->freed_count; i++)
		model_drop_place(log, log->freed[i]);
	log->freed_count = 0;
	for (uint32_t i = 0; i < log->slots; i++) {
		struct metaslab *m = &log->metaslabs[i];
		if (m->waiting)
			log->groups[m->rank / GROUP] = (struct group){0}; /* which were without it */
		m->held = m->waiting = false;
	}
	log->waiting_count = 0;
	model_room_reclaim(log);
	log->quiet_seq = log->seq;
}
