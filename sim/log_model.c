/* SPDX-License-Identifier: Apache-2.0 */
#include "log_model.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

#define NOWHERE UINT32_MAX
#define NONE UINT32_MAX

enum head_kind { HEAD_USER, HEAD_CLEANED, HEAD_TABLE, HEADS };

struct metaslab {
	uint32_t *owner; /* block number in each slot, NOWHERE once dead; NULL: not ours */
	uint32_t used, live;
	uint64_t sequence; /* when it was opened: its age */
	bool clean;
	uint32_t older, younger; /* closed ones form a list by age */
};

struct sim_log {
	struct sim_log_options options;
	uint32_t capacity; /* data blocks in a metaslab, headers taken off */
	uint32_t volume_blocks, page_count;
	uint32_t *place; /* of each block: metaslab · capacity + slot */
	uint8_t *page_dirty;
	struct metaslab *metaslabs;
	uint32_t slots, count; /* array length; owned */
	uint32_t *clean;
	uint32_t clean_count;
	uint32_t head[HEADS];
	uint32_t oldest, youngest;
	uint64_t sequence, live;
	uint64_t device_at_checkpoint;
	uint32_t header_left; /* data blocks until the next record header */
	struct sim_log_counts counts;
};

static void *zeroed(size_t n, size_t size)
{
	void *p = calloc(n ? n : 1, size);

	CHECK(p);
	return p;
}

static uint32_t capacity_of(const struct sim_log_options *o)
{
	uint64_t with_headers = (uint64_t)o->metaslab_blocks * o->record_data_blocks;

	return (uint32_t)(with_headers / (o->record_data_blocks + o->record_header_blocks));
}

static uint32_t pages_of(const struct sim_log_options *o, uint32_t volume_blocks)
{
	return o->page_records ? 2 * DIV_UP(volume_blocks, o->page_records) : 0;
}

uint32_t sim_log_metaslabs_min(const struct sim_log_options *o, uint32_t volume_blocks)
{
	uint32_t data = volume_blocks + pages_of(o, volume_blocks);

	/* one to spare: without it cleaning would turn full metaslabs into full ones for ever */
	return DIV_UP(data, capacity_of(o)) + HEADS + o->clean_min + 1;
}

static void own(struct sim_log *log, uint32_t metaslab)
{
	struct metaslab *m = &log->metaslabs[metaslab];

	m->owner = malloc(sizeof(uint32_t) * log->capacity);
	CHECK(m->owner);
	m->used = m->live = 0;
	m->clean = true;
	log->clean[log->clean_count++] = metaslab;
	log->count++;
}

void sim_log_grow(struct sim_log *log, uint32_t metaslabs)
{
	uint32_t slots = log->count + metaslabs;

	if (slots > log->slots) {
		log->metaslabs = realloc(log->metaslabs, slots * sizeof(log->metaslabs[0]));
		log->clean = realloc(log->clean, slots * sizeof(log->clean[0]));
		CHECK(log->metaslabs && log->clean);
		memset(log->metaslabs + log->slots, 0, (slots - log->slots) * sizeof(log->metaslabs[0]));
		log->slots = slots;
	}
	for (uint32_t i = 0; metaslabs; i++) {
		if (log->metaslabs[i].owner)
			continue;
		own(log, i);
		metaslabs--;
	}
}

static void list_append(struct sim_log *log, uint32_t metaslab)
{
	struct metaslab *m = &log->metaslabs[metaslab];

	m->older = log->youngest;
	m->younger = NONE;
	if (log->youngest != NONE)
		log->metaslabs[log->youngest].younger = metaslab;
	else
		log->oldest = metaslab;
	log->youngest = metaslab;
}

static void list_remove(struct sim_log *log, uint32_t metaslab)
{
	struct metaslab *m = &log->metaslabs[metaslab];

	if (m->older != NONE)
		log->metaslabs[m->older].younger = m->younger;
	else
		log->oldest = m->younger;
	if (m->younger != NONE)
		log->metaslabs[m->younger].older = m->older;
	else
		log->youngest = m->older;
}

static void open_head(struct sim_log *log, enum head_kind kind)
{
	uint32_t metaslab;

	CHECK(log->clean_count);
	metaslab = log->clean[--log->clean_count];
	log->metaslabs[metaslab].clean = false;
	log->metaslabs[metaslab].sequence = ++log->sequence;
	log->head[kind] = metaslab;
}

static void forget(struct sim_log *log, uint32_t block)
{
	uint32_t place = log->place[block];
	struct metaslab *m;

	if (place == NOWHERE)
		return;
	m = &log->metaslabs[place / log->capacity];
	m->owner[place % log->capacity] = NOWHERE;
	m->live--;
	log->live--;
}

static void count_device(struct sim_log *log)
{
	log->counts.device++;
	if (--log->header_left)
		return;
	log->counts.device += log->options.record_header_blocks;
	log->header_left = log->options.record_data_blocks;
}

static void append(struct sim_log *log, enum head_kind kind, uint32_t block)
{
	struct metaslab *m;

	if (log->head[kind] == NONE)
		open_head(log, kind);
	m = &log->metaslabs[log->head[kind]];
	forget(log, block);
	log->place[block] = log->head[kind] * log->capacity + m->used;
	m->owner[m->used++] = block;
	m->live++;
	log->live++;
	count_device(log);
	if (log->options.page_records && block < log->volume_blocks)
		log->page_dirty[block / log->options.page_records] = 1;
	if (m->used == log->capacity) {
		list_append(log, log->head[kind]);
		log->head[kind] = NONE;
	}
}

/* ---- cleaning ---- */

static double worth_cleaning(const struct sim_log *log, const struct metaslab *m)
{
	double live = (double)m->live / log->capacity;

	if (log->options.cleaning == SIM_GREEDY)
		return 1 - live;
	/* Rosenblum & Ousterhout 1991: free space gained · age / cost */
	return (1 - live) * (double)(log->sequence - m->sequence + 1) / (1 + live);
}

/* The one to clean next: oldest first skips what is full to the brim, as cleaning that gains nothing. */
static uint32_t victim(const struct sim_log *log)
{
	uint32_t best = NONE;
	double best_worth = 0;

	for (uint32_t i = log->oldest; i != NONE; i = log->metaslabs[i].younger) {
		const struct metaslab *m = &log->metaslabs[i];
		double worth;
		if (log->options.cleaning == SIM_OLDEST_FIRST) {
			if (m->live < log->capacity)
				return i;
			continue;
		}
		worth = worth_cleaning(log, m);
		if (worth > best_worth) {
			best_worth = worth;
			best = i;
		}
	}
	return best;
}

/* Copies the live blocks out; the metaslab is empty then, but neither clean nor in the list. */
static void empty(struct sim_log *log, uint32_t metaslab)
{
	struct metaslab *m = &log->metaslabs[metaslab];

	list_remove(log, metaslab);
	for (uint32_t i = 0; i < m->used && m->live; i++) {
		uint32_t block = m->owner[i];
		if (block == NOWHERE)
			continue;
		append(log, HEAD_CLEANED, block);
		log->counts.copied++;
		m = &log->metaslabs[metaslab];
	}
	m->used = m->live = 0;
}

static bool clean_one(struct sim_log *log)
{
	uint32_t metaslab = victim(log);

	if (metaslab == NONE)
		return false;
	empty(log, metaslab);
	log->metaslabs[metaslab].clean = true;
	log->clean[log->clean_count++] = metaslab;
	return true;
}

static void clean_if_needed(struct sim_log *log)
{
	while (log->clean_count <= log->options.clean_min && clean_one(log))
		;
}

/* ---- checkpoints ---- */

static void checkpoint_if_due(struct sim_log *log)
{
	double since = (double)(log->counts.device - log->device_at_checkpoint);

	if (!log->options.page_records ||
	    since < log->options.checkpoint_share * (double)log->count * log->options.metaslab_blocks)
		return;
	log->device_at_checkpoint = log->counts.device;
	for (uint32_t page = 0; page < log->page_count / 2; page++) {
		if (!log->page_dirty[page])
			continue;
		log->page_dirty[page] = 0;
		for (uint32_t copy = 0; copy < 2; copy++) {
			append(log, HEAD_TABLE, log->volume_blocks + 2 * page + copy);
			clean_if_needed(log);
		}
	}
}

void sim_log_write(struct sim_log *log, uint32_t block)
{
	CHECK(block < log->volume_blocks);
	clean_if_needed(log);
	append(log, HEAD_USER, block);
	log->counts.user++;
	checkpoint_if_due(log);
}

/* ---- size ---- */

static uint32_t emptiest(const struct sim_log *log)
{
	uint32_t best = NONE;

	for (uint32_t i = log->oldest; i != NONE; i = log->metaslabs[i].younger)
		if (best == NONE || log->metaslabs[i].live < log->metaslabs[best].live)
			best = i;
	return best;
}

static void disown(struct sim_log *log, uint32_t metaslab)
{
	free(log->metaslabs[metaslab].owner);
	log->metaslabs[metaslab].owner = NULL;
	log->metaslabs[metaslab].clean = false;
	log->count--;
}

uint32_t sim_log_shrink(struct sim_log *log, uint32_t metaslabs)
{
	uint32_t min = sim_log_metaslabs_min(&log->options, log->volume_blocks), given = 0;

	while (given < metaslabs && log->count > min) {
		uint32_t metaslab;
		if (log->clean_count > log->options.clean_min + 1) {
			metaslab = log->clean[--log->clean_count];
		} else {
			clean_if_needed(log);
			metaslab = emptiest(log);
			if (metaslab == NONE || log->metaslabs[metaslab].live == log->capacity)
				break;
			empty(log, metaslab);
		}
		disown(log, metaslab);
		given++;
	}
	clean_if_needed(log);
	return given;
}

uint32_t sim_log_metaslabs(const struct sim_log *log)
{
	return log->count;
}

uint64_t sim_log_live(const struct sim_log *log)
{
	return log->live;
}

const struct sim_log_counts *sim_log_counts(const struct sim_log *log)
{
	return &log->counts;
}

struct sim_log *sim_log_new(const struct sim_log_options *options, uint32_t volume_blocks, uint32_t metaslabs)
{
	struct sim_log *log = zeroed(1, sizeof(*log));
	uint32_t blocks;

	log->options = *options;
	log->capacity = capacity_of(options);
	log->volume_blocks = volume_blocks;
	log->page_count = pages_of(options, volume_blocks);
	blocks = volume_blocks + log->page_count;
	log->place = zeroed(blocks, sizeof(log->place[0]));
	memset(log->place, 0xff, blocks * sizeof(log->place[0]));
	log->page_dirty = zeroed(log->page_count / 2, 1);
	log->oldest = log->youngest = NONE;
	log->header_left = options->record_data_blocks;
	for (int i = 0; i < HEADS; i++)
		log->head[i] = NONE;
	CHECK(metaslabs >= sim_log_metaslabs_min(options, volume_blocks));
	sim_log_grow(log, metaslabs);
	for (uint32_t i = 0; i < volume_blocks; i++)
		append(log, HEAD_USER, i);
	for (uint32_t i = volume_blocks; i < blocks; i++)
		append(log, HEAD_TABLE, i);
	memset(log->page_dirty, 0, log->page_count / 2);
	memset(&log->counts, 0, sizeof(log->counts));
	return log;
}

void sim_log_free(struct sim_log *log)
{
	if (!log)
		return;
	for (uint32_t i = 0; i < log->slots; i++)
		free(log->metaslabs[i].owner);
	free(log->metaslabs);
	free(log->clean);
	free(log->place);
	free(log->page_dirty);
	free(log);
}
