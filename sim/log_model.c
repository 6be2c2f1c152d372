/* SPDX-License-Identifier: Apache-2.0 */
/* The log itself, as src/store/log.c; writing; and size, as src/store/store.c. */
#include <stdlib.h>
#include <string.h>

#include "log_internal.h"
#include "memory.h"

enum { HEADS_METASLABS_MIN = 12, STORE_METASLABS_MIN = 6 };

/* ---- heads ---- */

static unsigned head_of(const struct sim_log *log, enum head_kind kind)
{
	return log->heads == 1 ? 0 : kind;
}

uint32_t model_room(const struct sim_log *log, enum head_kind kind)
{
	uint32_t used = log->head[head_of(log, kind)].offset + LINK_BLOCKS;

	return used >= log->options.metaslab_blocks ? 0 : log->options.metaslab_blocks - used;
}

uint32_t model_take_empty(struct sim_log *log)
{
	struct metaslab *m;

	CHECK(log->empty);
	while (log->metaslabs[log->cursor % log->slots].state != METASLAB_EMPTY)
		log->cursor++;
	log->cursor %= log->slots;
	m = &log->metaslabs[log->cursor];
	CHECK(!m->live);
	m->state = METASLAB_OPEN;
	m->ready = 0;
	m->waiting = false;
	log->empty--;
	return log->cursor++;
}

static void add_closed(struct sim_log *log, uint32_t metaslab)
{
	struct metaslab *m = &log->metaslabs[metaslab];
	struct group *group;

	m->rank = log->closed_count++;
	log->closed[m->rank] = metaslab;
	group = &log->groups[m->rank / GROUP];
	if (m->rank % GROUP == 0)
		*group = NO_BOUNDS;
	group->live = MIN_OF(group->live, m->live);
	group->age = MIN_OF(group->age, m->age);
}

void model_close(struct sim_log *log, uint32_t metaslab)
{
	if (log->closed_count == log->closed_room) {
		log->closed_count = 0;
		for (uint32_t i = 0; i < log->closed_room; i++)
			if (log->closed[i] != NOWHERE)
				add_closed(log, log->closed[i]);
	}
	log->metaslabs[metaslab].state = METASLAB_CLOSED;
	add_closed(log, metaslab);
	if (!log->metaslabs[metaslab].live)
		log->spent[log->spent_count++] = metaslab;
}

static void place_record(const struct sim_log *log, unsigned head, struct record *record)
{
	*record = (struct record){.head = head};
	record->place = model_place(log, log->head[head].metaslab, log->head[head].offset);
}

/* On to an EMPTY metaslab; the old one ends with a link, a record without blocks. */
static void head_advance(struct sim_log *log, unsigned head)
{
	uint32_t left = log->head[head].metaslab;
	struct record link;

	place_record(log, head, &link);
	log->counts.device += RECORD_HEADERS;
	model_seal(log, &link);
	model_close(log, left);
	log->head[head].metaslab = model_take_empty(log);
	log->head[head].offset = 0;
}

/* ---- records ---- */

bool model_begin(struct sim_log *log, enum head_kind kind, uint32_t blocks, uint32_t kept, struct record *record)
{
	unsigned head = head_of(log, kind);

	if (log->open.blocks_max && log->open.head == head)
		model_seal(log, &log->open);
	if (model_room(log, kind) < RECORD_HEADERS + 1) {
		if (log->empty <= kept)
			return false;
		head_advance(log, head);
	}
	place_record(log, head, record);
	record->blocks_max = MIN_OF(MIN_OF(blocks, RECORD_ENTRIES), model_room(log, kind) - RECORD_HEADERS);
	log->counts.device += RECORD_HEADERS;
	return true;
}

uint32_t model_append(struct sim_log *log, struct record *record)
{
	CHECK(record->blocks < record->blocks_max);
	log->counts.device++; /* counted when appended, not when sealed: whoever writes pays for his own block */
	return record->place + RECORD_HEADERS + record->blocks++;
}

static void bind(struct sim_log *log, uint32_t block, uint32_t place)
{
	if (log->place[block] != NOWHERE)
		model_drop_place(log, log->place[block]);
	log->place[block] = place;
	model_take_place(log, place, block);
	model_tables_mark(log, 0, block);
}

void model_move(struct sim_log *log, struct record *record, const uint32_t *from, uint32_t count)
{
	uint32_t to = record->place + RECORD_HEADERS + record->blocks;

	CHECK(count && record->blocks + count <= record->blocks_max);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t block = log->owner[from[i]];
		log->alive[from[i] / 64] &= ~(1ull << from[i] % 64);
		log->alive[(to + i) / 64] |= 1ull << (to + i) % 64;
		log->owner[to + i] = block;
		log->place[block] = to + i;
		model_tables_mark(log, 0, block);
	}
	log->metaslabs[to >> log->place_bits].live += count;
	model_drop_live(log, from[0] >> log->place_bits, count);
	record->blocks += count;
	log->counts.device += count;
	log->counts.copied += count;
}

void model_seal(struct sim_log *log, struct record *record)
{
	uint32_t blocks = RECORD_HEADERS + record->blocks;

	log->metaslabs[log->head[record->head].metaslab].age = ++log->seq;
	log->head[record->head].offset += blocks;
	log->log_blocks += blocks;
	record->blocks_max = 0;
}

void model_flush(struct sim_log *log)
{
	if (log->open.blocks_max)
		model_seal(log, &log->open);
	model_room_note_ready(log);
	log->durable = log->seq;
	model_room_reclaim(log);
}

/* ---- writing ---- */

static void open_user(struct sim_log *log)
{
	if (log->open.blocks_max && log->open.blocks == log->open.blocks_max)
		model_seal(log, &log->open);
	/* A writer that finds no room gets what there is: the store would ask the pool for more. */
	if (!log->open.blocks_max)
		CHECK(model_begin(log, HEAD_USER, RECORD_ENTRIES, 0, &log->open));
}

/* Of a thread: anything from none to twice the mean. */
static uint64_t lag(struct sim_log *log)
{
	uint64_t mean = log->options.lag_blocks;

	return log->options.thread ? sim_random_below(&log->random, 2 * mean + 1) : mean;
}

/* What the store's background does: a request that finds something due wakes it, and others go on meanwhile. */
static void tend(struct sim_log *log)
{
	bool due = model_checkpoint_due(log) || model_room_low(log);

	if (due && !log->due)
		log->due_at = log->counts.user + lag(log);
	log->due = due;
	if (!due || log->counts.user < log->due_at)
		return;
	log->due = false;
	if (model_checkpoint_due(log))
		model_checkpoint_write(log);
	if (model_room_low(log))
		model_room_make(log);
}

static bool append_user(struct sim_log *log, uint32_t block)
{
	if (!model_room_wait(log))
		return false;
	open_user(log);
	bind(log, block, model_append(log, &log->open));
	log->counts.user++;
	return true;
}

void sim_log_expect(const struct sim_log *log, uint32_t block)
{
	__builtin_prefetch(&log->place[block], 1);
}

uint32_t sim_log_write(struct sim_log *log, uint32_t block, uint32_t blocks)
{
	CHECK(blocks <= log->volume_blocks && block <= log->volume_blocks - blocks);
	for (uint32_t i = 0; i < blocks; i++)
		if (!append_user(log, block + i))
			return i;
	if (log->options.flush_blocks && log->counts.user - log->user_at_flush >= log->options.flush_blocks) {
		log->user_at_flush = log->counts.user;
		model_flush(log);
	}
	tend(log);
	return blocks;
}

/* ---- size ---- */

static uint64_t live_of(uint32_t data_blocks, uint32_t page_count, uint32_t metaslabs)
{
	return data_blocks + (page_count ? 2 * ((uint64_t)page_count + model_tables_space_pages(metaslabs)) : 0);
}

uint32_t sim_log_metaslabs_min(const struct sim_log_options *o, uint32_t volume_blocks)
{
	uint32_t pages = o->checkpoint_share > 0 ? model_tables_page_slots(volume_blocks) : 0, count;

	for (count = volume_blocks / o->metaslab_blocks + STORE_METASLABS_MIN;; count++)
		if (model_room_limit(o, pages, count) >= live_of(volume_blocks, pages, count))
			return count;
}

static void more_slots(struct sim_log *log, uint32_t slots)
{
	size_t places = model_place(log, slots, 0), old = model_place(log, log->slots, 0);

	log->metaslabs = sim_resized(log->metaslabs, slots, sizeof(log->metaslabs[0]));
	log->closed_room = slots + slots / 4 + GROUP;
	log->closed = sim_resized(log->closed, log->closed_room, sizeof(log->closed[0]));
	log->groups = sim_resized(log->groups, DIV_UP(log->closed_room, GROUP), sizeof(log->groups[0]));
	log->spent = sim_resized(log->spent, slots, sizeof(log->spent[0]));
	log->owner = sim_resized(log->owner, places, sizeof(log->owner[0]));
	log->alive = sim_resized(log->alive, places / 64, sizeof(log->alive[0]));
	memset(log->metaslabs + log->slots, 0, (slots - log->slots) * sizeof(log->metaslabs[0]));
	memset(log->alive + old / 64, 0, (places - old) / 8);
	log->slots = slots;
}

static void resized(struct sim_log *log)
{
	model_room_reckon(log);
	model_checkpoint_reckon(log);
}

void sim_log_grow(struct sim_log *log, uint32_t metaslabs)
{
	if (log->count + metaslabs > log->slots)
		more_slots(log, log->count + metaslabs);
	for (uint32_t i = 0; metaslabs; i++) {
		if (log->metaslabs[i].state != METASLAB_ABSENT)
			continue;
		log->metaslabs[i] = (struct metaslab){.state = METASLAB_EMPTY};
		log->count++;
		log->empty++;
		metaslabs--;
	}
	resized(log);
}

/* The EMPTY one that lies last. */
static void disown(struct sim_log *log)
{
	uint32_t i = log->slots;

	while (log->metaslabs[--i].state != METASLAB_EMPTY)
		;
	log->metaslabs[i] = (struct metaslab){.state = METASLAB_ABSENT};
	log->count--;
	log->empty--;
	resized(log);
}

static bool release_one(struct sim_log *log)
{
	uint64_t limit = model_room_limit(&log->options, log->page_count, log->count - 1);

	if (log->count <= STORE_METASLABS_MIN || sim_log_live(log) > limit)
		return false;
	for (uint32_t units = 2 * log->count + 16; log->empty <= log->kept; units--)
		if (!units || !model_room_make(log))
			return false;
	disown(log);
	return true;
}

uint32_t sim_log_shrink(struct sim_log *log, uint32_t metaslabs, double copied_most)
{
	uint64_t before = log->counts.copied;
	uint32_t given = 0;

	while (given < metaslabs && (double)(log->counts.copied - before) < copied_most && release_one(log))
		given++;
	return given;
}

uint32_t sim_log_metaslabs(const struct sim_log *log)
{
	return log->count;
}

uint64_t sim_log_live(const struct sim_log *log)
{
	return live_of(log->volume_blocks, log->page_count, log->count);
}

const struct sim_log_counts *sim_log_counts(const struct sim_log *log)
{
	return &log->counts;
}

/* ---- making ---- */

struct sim_log *sim_log_new(const struct sim_log_options *options, uint32_t volume_blocks, uint32_t metaslabs)
{
	struct sim_log *log = sim_zeroed(1, sizeof(*log));

	CHECK(options->metaslab_blocks >= SIM_METASLAB_BLOCKS_MIN);
	CHECK(metaslabs >= sim_log_metaslabs_min(options, volume_blocks));
	log->options = *options;
	log->options.flush_blocks = 0; /* not while it is filled */
	log->volume_blocks = volume_blocks;
	while (1u << log->place_bits < MAX_OF(options->metaslab_blocks, 64u))
		log->place_bits++;
	log->usable = (uint32_t)model_room_usable(options->metaslab_blocks);
	log->place = sim_zeroed(volume_blocks, sizeof(log->place[0]));
	memset(log->place, 0xff, volume_blocks * sizeof(log->place[0]));
	log->list = sim_zeroed(options->metaslab_blocks, sizeof(log->list[0]));
	model_tables_init(log);
	sim_log_grow(log, metaslabs);
	log->heads = metaslabs < HEADS_METASLABS_MIN ? 1 : LOG_HEADS;
	for (unsigned i = 0; i < log->heads; i++)
		log->head[i].metaslab = model_take_empty(log);
	for (uint32_t i = 0; i < volume_blocks; i++) {
		model_tables_mark(log, 1, i); /* the volume changes when an address is first written only */
		while (!sim_log_write(log, i, 1))
			;
	}
	memset(&log->counts, 0, sizeof(log->counts));
	log->user_at_clean = 0;
	log->due = false;
	log->options.flush_blocks = options->flush_blocks;
	return log;
}

void sim_log_free(struct sim_log *log)
{
	if (!log)
		return;
	model_tables_free(log);
	free(log->metaslabs);
	free(log->closed);
	free(log->groups);
	free(log->spent);
	free(log->owner);
	free(log->alive);
	free(log->place);
	free(log->list);
	free(log);
}
