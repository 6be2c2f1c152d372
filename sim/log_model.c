/* SPDX-License-Identifier: Apache-2.0 */
/* The log itself, as src/store/log.c and clean.c; what is done next, as work.c; writing; and size. */
#include <stdlib.h>
#include <string.h>

#include "log_internal.h"
#include "memory.h"

enum {
	STORE_METASLABS_MIN = 6,
	ROOM_LEAST =
		RECORD_HEADERS + 1, /* blocks that another record needs at least: with less, the head goes on */
	LOG_BLOCKS_MAX = 1024 * 1024,
	FAILED_UNITS = 64,
};

/* -- room -- */

static struct space_needs needs_of(const struct sim_log_options *o, uint32_t table_pages, unsigned shift,
				   uint32_t metaslabs)
{
	struct plan_table t = {o->metaslab_blocks, table_pages, shift};
	struct space_needs needs = plan_needs(&t, metaslabs, 0, 1);
	if (!(o->checkpoint_share > 0))
		needs.step_units = 0;
	return needs;
}

static uint32_t table_pages(const struct sim_log *log)
{
	return log->table.pages;
}

static struct space_reserve reserve_of(const struct sim_log *log)
{
	struct space_needs needs =
		needs_of(&log->options, table_pages(log), log->table.region_shift, log->space.count);
	struct plan_table t = {log->options.metaslab_blocks, table_pages(log), log->table.region_shift};
	return plan_reserve(&log->space, &t, &needs);
}

static uint64_t data_units(const struct sim_log *log)
{
	return log->space.live[CLASS_HOT] + log->space.live[CLASS_COLD] + log->space.live[CLASS_MOVED];
}

static uint64_t live_units(const struct sim_log_options *o, uint64_t data, uint32_t pages)
{
	return o->checkpoint_share > 0 ? plan_live(data, pages) : data;
}

static uint64_t limit(const struct sim_log_options *o, uint32_t pages, unsigned shift, uint32_t metaslabs)
{
	struct space space = {.units = o->metaslab_blocks * BLOCK_SECTORS,
			      .usable = plan_usable_blocks(o->metaslab_blocks) * BLOCK_SECTORS};
	struct space_needs needs = needs_of(o, pages, shift, metaslabs);
	struct plan_table t = {o->metaslab_blocks, pages, shift};
	return o->checkpoint_share > 0 ? plan_limit(&space, &t, metaslabs, 1)
				       : space_limit(&space, &needs, metaslabs);
}

static void reckon(struct sim_log *log)
{
	const struct sim_log_options *o = &log->options;
	double most = o->checkpoint_share * (double)log->space.count * o->metaslab_blocks;
	log->kept = reserve_of(log).kept;
	log->due_blocks = (uint64_t)MIN_OF(most, (double)LOG_BLOCKS_MAX);
	log->limit_units = limit(o, table_pages(log), log->table.region_shift, log->space.count);
}

/* -- records -- */

static uint32_t head_room(const struct sim_log *log, const struct model_head *h)
{
	return log->options.metaslab_blocks - h->offset;
}

static enum space_class class_of(unsigned head)
{
	return head == 0 ? CLASS_HOT : head == 1 ? CLASS_COLD : CLASS_MOVED;
}

static bool take_next(struct sim_log *log, unsigned head, uint32_t kept)
{
	struct model_head *h = &log->head[head];
	if (h->next == SPACE_NONE && space_empty(&log->space) > kept)
		h->next = space_take(&log->space, class_of(head), log->written);
	return h->next != SPACE_NONE;
}

static void seal(struct sim_log *log, unsigned head)
{
	struct model_head *h = &log->head[head];
	uint32_t full = h->metaslab;
	h->record.open = false;
	h->offset += RECORD_HEADERS + h->record.blocks;
	log->appended += RECORD_HEADERS + h->record.blocks;
	log->counts.device += RECORD_HEADERS;
	space_recorded(&log->space, full, ++log->seq);
	if (head_room(log, h) >= ROOM_LEAST)
		return;
	CHECK(h->next != SPACE_NONE);
	*h = (struct model_head){.metaslab = h->next, .next = SPACE_NONE};
	space_close(&log->space, full);
}

static bool begin(struct sim_log *log, unsigned head, uint32_t kept)
{
	struct model_head *h = &log->head[head];
	uint32_t most = head_room(log, h) - RECORD_HEADERS;
	/* Without a next metaslab room for one more record has to stay behind this one. */
	if (most < ROOM_LEAST + 1 && !take_next(log, head, kept))
		return false;
	if (h->next == SPACE_NONE)
		most -= ROOM_LEAST;
	h->record = (struct model_record){.open = true,
					  .blocks_max = MIN_OF(most, (uint32_t)RECORD_BLOCKS_MAX),
					  .place = model_place(log, h->metaslab, h->offset)};
	return true;
}

static bool extend(struct sim_log *log, unsigned head, uint32_t kept)
{
	struct model_record *r = &log->head[head].record;
	uint32_t most = MIN_OF(head_room(log, &log->head[head]) - RECORD_HEADERS, (uint32_t)RECORD_BLOCKS_MAX);
	if (r->blocks_max >= most || !take_next(log, head, kept))
		return false;
	r->blocks_max = most;
	return true;
}

/* Words of its entry: joined with the one before it where ids follow each other. */
static unsigned entry_words(const struct model_record *r, uint32_t id, bool moved)
{
	bool joins = r->words && r->last_id + 1 == id && r->last_count < UINT8_MAX;
	return (moved ? 0 : 2) + (joins ? 0 : 1);
}

static struct model_record *open_record(struct sim_log *log, unsigned head, uint32_t id, uint32_t kept)
{
	bool moved = head == 2;
	unsigned number = log->heads == 1 ? 0 : head;
	struct model_record *r = &log->head[number].record;
	if (space_empty(&log->space) < kept)
		return NULL;
	if (r->open && (r->words + entry_words(r, id, moved) > RECORD_WORDS ||
			(r->blocks == r->blocks_max && !extend(log, number, kept))))
		seal(log, number);
	return r->open || begin(log, number, kept) ? r : NULL;
}

/* One more block at the record's end: its place. */
static uint32_t append(struct sim_log *log, struct model_record *r, uint32_t id, bool moved)
{
	unsigned words = entry_words(r, id, moved);
	bool joined = words == (moved ? 0u : 2u);
	r->words += words;
	r->last_count = joined ? r->last_count + 1 : 1;
	r->last_id = id;
	log->counts.device++;
	return r->place + RECORD_HEADERS + r->blocks++;
}

/* What another open record holds is told before what replaces it. */
static void order(struct sim_log *log, const struct model_record *record, uint32_t old)
{
	for (unsigned i = 0; i < log->heads; i++) {
		const struct model_record *r = &log->head[i].record;
		if (r != record && r->open && r->words && old - r->place < RECORD_HEADERS + r->blocks)
			seal(log, i);
	}
}

/* What the snapshot has of a block lives on under another id when the block is overwritten for the first time. */
static bool is_held(struct sim_log *log, uint32_t id)
{
	if (!log->held || id >= log->volume_blocks || log->place[log->held + id] != NOWHERE)
		return false;
	log->owner[log->place[id]] = log->held + id;
	log->place[log->held + id] = log->place[id];
	model_table_mark(log, log->held + id);
	return true;
}

static void bind(struct sim_log *log, uint32_t id, uint32_t place)
{
	if (log->place[id] != NOWHERE && !is_held(log, id))
		model_drop_place(log, log->place[id]);
	log->place[id] = place;
	model_take_place(log, place, id);
	model_table_mark(log, id);
}

void model_seal_open(struct sim_log *log)
{
	for (unsigned i = 0; i < log->heads; i++) {
		if (log->head[i].record.open && log->head[i].record.words)
			seal(log, i);
		log->head[i].record.open = false;
	}
	space_sealed(&log->space, log->seq);
}

void model_flush(struct sim_log *log)
{
	model_seal_open(log);
	log->durable = log->seq;
	space_durable(&log->space, log->durable);
	if (!log->table.pages)
		space_rooted(&log->space, log->seq);
}

/* -- units of work -- */

/* As many heads as the size makes good use of, if there is room for more. */
static void choose_heads(struct sim_log *log)
{
	unsigned wanted = plan_heads(log->space.count);
	if (wanted == log->heads || (wanted > 1 && space_empty(&log->space) < log->kept + LOG_HEADS))
		return;
	model_seal_open(log);
	for (unsigned i = 1; i < LOG_HEADS; i++) {
		struct model_head *h = &log->head[i];
		if (wanted == 1)
			space_close(&log->space, h->metaslab);
		if (wanted == 1 && h->next != SPACE_NONE)
			space_close(&log->space, h->next);
		h->metaslab = wanted > 1 ? space_take(&log->space, class_of(i), log->written) : SPACE_NONE;
		h->next = SPACE_NONE;
		h->offset = 0;
	}
	log->heads = wanted;
}

/* Without a table all that a flush covers is as good as rooted. */
static bool checkpoint(struct sim_log *log)
{
	bool done;
	if (!log->table.pages) {
		done = log->space.redo < log->seq;
		model_flush(log);
		return done;
	}
	choose_heads(log);
	done = model_table_step(log);
	reckon(log);
	return done;
}

static int by_id(const void *a, const void *b)
{
	uint32_t x = *(const uint32_t *)a, y = *(const uint32_t *)b;
	return (x > y) - (x < y);
}

/* In the order of their ids, as the store moves them: what is overwritten in order then lies together. */
static uint32_t find_survivors(struct sim_log *log, uint32_t metaslab)
{
	uint32_t count = 0, first = model_place(log, metaslab, 0), end = model_place(log, metaslab + 1, 0);
	for (uint32_t word = first; word < end; word += 64) {
		for (uint64_t bits = log->alive[word / 64]; bits; bits &= bits - 1) {
			uint32_t id = log->owner[word + (uint32_t)__builtin_ctzll(bits)];
			__builtin_prefetch(&log->place[id], 1);
			log->survivors[count++] = id;
		}
	}
	qsort(log->survivors, count, sizeof(log->survivors[0]), by_id);
	return count;
}

/* Then as much comes back when the moving is flushed, and what is kept for a checkpoint may be used. */
static bool fits_one(const struct sim_log *log, uint32_t left)
{
	uint32_t records = DIV_UP(left, (uint32_t)RECORD_BLOCKS_MAX) + 1;
	return left + records * RECORD_HEADERS <= log->options.metaslab_blocks;
}

/* To the record's end, as many as it has room for; each has an entry of one word at most. */
static uint32_t move_some(struct sim_log *log, uint32_t metaslab, struct model_record *r, const uint32_t *ids,
			  uint32_t most)
{
	uint32_t count = MIN_OF(most, MIN_OF(r->blocks_max - r->blocks, RECORD_WORDS - r->words));
	uint32_t to = r->place + RECORD_HEADERS + r->blocks;
	for (uint32_t i = 0; i < count; i++) {
		uint32_t from = log->place[ids[i]];
		log->alive[from / 64] &= ~(1ull << from % 64);
		log->alive[(to + i) / 64] |= 1ull << (to + i) % 64;
		log->owner[to + i] = ids[i];
		log->place[ids[i]] = to + i;
		model_table_mark(log, ids[i]);
	}
	space_live_add(&log->space, space_find(&log->space, to >> log->place_bits), count * BLOCK_SECTORS);
	space_live_sub(&log->space, space_find(&log->space, metaslab), count * BLOCK_SECTORS);
	r->blocks += count;
	r->words += count;
	r->last_id = NOWHERE;
	log->counts.device += count;
	log->counts.copied += count;
	return count;
}

/* False: it had to stop, and a checkpoint has to come first. */
static bool clean(struct sim_log *log, uint32_t metaslab)
{
	uint32_t count = find_survivors(log, metaslab), left = reserve_of(log).table, done = 0;
	struct model_record *r;
	space_pin(&log->space, metaslab);
	while (done < count) {
		uint32_t batch = done / RECORD_BLOCKS_MAX * RECORD_BLOCKS_MAX;
		/* Without a table nothing is kept for it. */
		uint32_t kept = left && fits_one(log, count - batch) ? MIN_OF(left - 1, 1u) : left;
		r = open_record(log, 2, log->survivors[done], kept);
		if (!r)
			break;
		done += move_some(log, metaslab, r, log->survivors + done,
				  MIN_OF(count, batch + RECORD_BLOCKS_MAX) - done);
	}
	space_unpin(&log->space, metaslab);
	return done == count;
}

static bool is_pending(const struct sim_log *log)
{
	return log->space.redo < log->seq ||
	       (log->table.pages && (log->table.dirty_leaves || model_table_wasteful(log)));
}

/* What makes room. */
static enum plan_unit choose(struct sim_log *log, uint32_t *victim)
{
	struct plan_state state = {
		.reserve = reserve_of(log),
		.now = log->written,
		.next_redo = model_table_next_redo(log),
		.step_pages = 2.0 * (log->table.dirty_leaves / (double)REGIONS + log->table.levels +
				     (double)plan_list_pages(log->space.count)),
		.pending = is_pending(log),
	};
	log->written_at_clean = log->written;
	return plan_next(&log->space, &state, victim);
}

/* False if nothing is to be gained. */
static bool carry_out(struct sim_log *log, enum plan_unit next, uint32_t victim)
{
	if (next == UNIT_FLUSH)
		model_flush(log);
	if (next == UNIT_CHECKPOINT || (next == UNIT_CLEAN && !clean(log, victim)))
		return checkpoint(log);
	return next != UNIT_NONE;
}

/* What the background is at. It holds what only one may do at a time: who wants to do a unit waits for it. */
static void end_work(struct sim_log *log)
{
	enum plan_unit next = log->work.unit;
	log->work.unit = UNIT_NONE;
	(void)carry_out(log, next, log->work.victim);
	if (next == UNIT_CLEAN)
		space_unpin(&log->space, log->work.victim);
}

static bool unit(struct sim_log *log)
{
	uint32_t victim;
	end_work(log);
	enum plan_unit next = choose(log, &victim);
	return carry_out(log, next, victim);
}

/* -- the background -- */

static bool checkpoint_due(const struct sim_log *log)
{
	uint64_t length = log->appended - log->table.region[log->table.lowest].appended;
	return log->table.pages && length > log->due_blocks;
}

static bool is_low(const struct sim_log *log)
{
	return plan_is_low(&log->space, log->kept, log->written - log->written_at_clean);
}

/* Of a thread: anything from none to twice the mean. */
static uint64_t drawn(struct sim_log *log, uint32_t mean)
{
	return log->options.thread ? sim_random_below(&log->random, 2 * (uint64_t)mean + 1) : mean;
}

/* A step takes room before it gives some back: where there is hardly any, cleaning comes first. */
static bool checkpoint_or_room(struct sim_log *log)
{
	return (space_empty(&log->space) < reserve_of(log).notes && unit(log)) || checkpoint(log);
}

/* What users overwrite until the unit ends is not copied, and what it gains is there only then. */
static void begin_work(struct sim_log *log)
{
	log->work.unit = choose(log, &log->work.victim);
	log->work.until = log->written + drawn(log, log->options.busy_blocks);
	if (log->work.unit == UNIT_CLEAN)
		space_pin(&log->space, log->work.victim);
	if (log->work.until == log->written)
		end_work(log);
}

/* What the store's background does: a request that finds something due wakes it, and others go on meanwhile. */
static void tend(struct sim_log *log)
{
	if (log->work.unit != UNIT_NONE && log->written < log->work.until)
		return;
	end_work(log);
	bool due = is_low(log) || checkpoint_due(log);
	if (due && !log->due)
		log->due_at = log->written + drawn(log, log->options.lag_blocks);
	log->due = due;
	if (!due || log->written < log->due_at)
		return;
	log->due = false;
	for (unsigned steps = 0; checkpoint_due(log) && steps < 4 * REGIONS && checkpoint_or_room(log); steps++)
		;
	if (is_low(log))
		begin_work(log);
}

/* -- writing -- */

/* Is there room for one more block? With `force` whatever there is: the store would ask the pool for more. */
static bool try_append(struct sim_log *log, uint32_t id, bool force)
{
	uint32_t old = log->place[id] == NOWHERE ? SPACE_NONE : log->place[id] >> log->place_bits;
	unsigned head = space_place(&log->space, id, old, log->written) == CLASS_HOT ? 0 : 1;
	struct model_record *r = open_record(log, head, id, force ? 0 : log->kept);
	if (!r)
		return false;
	order(log, r, log->place[id]);
	bind(log, id, append(log, r, id, false));
	return true;
}

/* A writer's unit of work, or the background's between two of them: nobody wakes it then, but it polls. */
static bool make_some(struct sim_log *log)
{
	end_work(log);
	if (space_empty(&log->space) > log->kept)
		return true;
	if (!log->options.thread || !checkpoint_due(log))
		return unit(log);
	return checkpoint_or_room(log);
}

/* False: there is no room; one unit of work was done. */
static bool append_user(struct sim_log *log, uint32_t id)
{
	bool stuck = false;
	if (!log->waits && try_append(log, id, false))
		return true;
	log->waits = space_empty(&log->space) <= log->kept;
	if (log->waits) {
		uint32_t before = space_empty(&log->space);
		stuck = !make_some(log);
		log->failed = space_empty(&log->space) > before ? 0 : log->failed + 1;
		stuck |= log->failed > FAILED_UNITS * (log->space.count + 16);
		log->waits = !stuck && space_empty(&log->space) <= log->kept;
	}
	log->full = stuck && !try_append(log, id, true);
	return stuck && !log->full;
}

/* One more block could not be kept: the store refuses it, whatever is empty. */
static bool is_full(const struct sim_log *log, uint32_t id)
{
	const struct sim_log_options *o = &log->options;
	if (log->place[id] != NOWHERE && (!log->held || log->place[log->held + id] != NOWHERE))
		return false;
	return live_units(o, data_units(log) + BLOCK_SECTORS, table_pages(log)) > log->limit_units;
}

/* The last one goes with all that it alone has. */
static void snapshot(struct sim_log *log)
{
	log->written_at_snapshot = log->written;
	for (uint32_t id = log->held; id < log->ids; id++) {
		if (log->place[id] == NOWHERE)
			continue;
		model_drop_place(log, log->place[id]);
		log->place[id] = NOWHERE;
		model_table_mark(log, id);
	}
}

void sim_log_expect(const struct sim_log *log, uint32_t block)
{
	__builtin_prefetch(&log->place[block], 1);
}

uint32_t sim_log_write(struct sim_log *log, uint32_t block, uint32_t blocks)
{
	CHECK(blocks <= log->volume_blocks && block <= log->volume_blocks - blocks);
	for (uint32_t i = 0; i < blocks; i++) {
		log->full = is_full(log, block + i);
		if (log->full || !append_user(log, block + i))
			return i;
		log->written++;
		log->counts.user++;
	}
	if (log->options.flush_blocks && log->written - log->written_at_flush >= log->options.flush_blocks) {
		log->written_at_flush = log->written;
		model_flush(log);
	}
	if (log->held && log->written - log->written_at_snapshot >= log->options.snapshot_blocks)
		snapshot(log);
	tend(log);
	return blocks;
}

/* -- size -- */

/* Pages of the volume's tree. */
static uint32_t volume_pages(uint32_t volume_blocks)
{
	uint32_t pages = 0, level = volume_blocks;
	do {
		level = DIV_UP(level, (uint32_t)VOLUME_SLOTS);
		pages += level;
	} while (level > 1);
	return pages;
}

static uint32_t ids_of(uint32_t volume_blocks)
{
	return volume_blocks + 2 * volume_pages(volume_blocks);
}

static uint32_t held_of(const struct sim_log_options *o, uint32_t volume_blocks)
{
	return o->snapshot_blocks ? volume_blocks : 0;
}

/* The fewest metaslabs for so much data, with a table for so many ids. */
static uint32_t metaslabs_for(const struct sim_log_options *o, uint32_t ids, uint64_t data)
{
	uint32_t pages = o->checkpoint_share > 0 ? model_table_pages(ids) : 0, count = STORE_METASLABS_MIN;
	count = MAX_OF(count, (uint32_t)(data / BLOCK_SECTORS / o->metaslab_blocks));
	while (limit(o, pages, model_table_shift(ids), count) < live_units(o, data, pages))
		count++;
	return count;
}

uint32_t sim_log_metaslabs_min(const struct sim_log_options *o, uint32_t volume_blocks)
{
	uint32_t ids = ids_of(volume_blocks) + held_of(o, volume_blocks);
	return metaslabs_for(o, ids, (uint64_t)ids * BLOCK_SECTORS);
}

uint32_t sim_log_metaslabs_least(const struct sim_log *log)
{
	return metaslabs_for(&log->options, log->ids, data_units(log));
}

bool sim_log_is_full(const struct sim_log *log)
{
	return log->full;
}

static void more_slots(struct sim_log *log, uint32_t slots)
{
	size_t places = model_place(log, slots, 0), old = model_place(log, log->slots, 0);
	log->owner = sim_resized(log->owner, places, sizeof(log->owner[0]));
	log->alive = sim_resized(log->alive, places / 64, sizeof(log->alive[0]));
	memset(log->alive + old / 64, 0, (places - old) / 8);
	log->slots = slots;
}

enum { SLOTS_MAX = 1 << 20 };

void sim_log_grow(struct sim_log *log, uint32_t metaslabs)
{
	for (uint32_t i = 0; metaslabs; i++) {
		if (space_find(&log->space, i))
			continue;
		if (i >= log->slots)
			more_slots(log, MAX_OF(i + metaslabs, log->slots + log->slots / 4));
		if (space_add(&log->space, i, false))
			sim_memory(NULL);
		metaslabs--;
	}
	reckon(log);
}

static uint32_t left(const struct sim_log *log)
{
	uint64_t most = limit(&log->options, table_pages(log), log->table.region_shift, log->space.count - 1);
	return plan_left(&log->space, live_units(&log->options, data_units(log), table_pages(log)), most);
}

static bool make_spare(struct sim_log *log, bool patient)
{
	if (!plan_flushes_first(&log->space, log->kept, patient ? left(log) : 0))
		return unit(log);
	end_work(log);
	model_flush(log);
	return true;
}

/* The EMPTY one that lies last; and some stay, where there is patience. */
static bool release_one(struct sim_log *log, uint64_t *copied)
{
	uint64_t most = limit(&log->options, table_pages(log), log->table.region_shift, log->space.count - 1);
	uint64_t live = live_units(&log->options, data_units(log), table_pages(log)), before = log->counts.copied;
	uint32_t units_max = FAILED_UNITS * (log->space.count + 16);
	struct plan_gain gain = {.before = space_empty(&log->space)};
	bool patient = true;
	if (log->space.count <= STORE_METASLABS_MIN || live > most)
		return false;
	for (uint32_t units = 0; space_empty(&log->space) <= log->kept + (patient ? left(log) : 0); units++) {
		bool made = units < units_max && make_spare(log, patient);
		if (!made && !patient) {
			*copied += log->counts.copied - before;
			return false;
		}
		patient &= made && units + 1 < PLAN_PATIENCE;
	}
	gain.after = space_empty(&log->space);
	gain.copied = gain.all = log->counts.copied - before;
	*copied += plan_price(&log->space, &gain);
	space_remove(&log->space, indexset_last(&log->space.empty));
	reckon(log);
	return true;
}

uint32_t sim_log_shrink(struct sim_log *log, uint32_t metaslabs, double copied_most, uint64_t *copied)
{
	uint32_t given = 0;
	*copied = 0;
	while (given < metaslabs && (double)*copied < copied_most && release_one(log, copied))
		given++;
	return given;
}

uint32_t sim_log_metaslabs(const struct sim_log *log)
{
	return log->space.count;
}

uint64_t sim_log_live(const struct sim_log *log)
{
	return (data_units(log) + log->space.live[CLASS_TABLE]) / BLOCK_SECTORS;
}

const struct sim_log_counts *sim_log_counts(const struct sim_log *log)
{
	return &log->counts;
}

/* -- making -- */

static void init_heads(struct sim_log *log)
{
	for (unsigned i = 0; i < LOG_HEADS; i++)
		log->head[i] = (struct model_head){.metaslab = SPACE_NONE, .next = SPACE_NONE};
	log->heads = plan_heads(log->space.count);
	for (unsigned i = 0; i < log->heads; i++)
		log->head[i].metaslab = space_take(&log->space, class_of(i), 0);
}

static void write_first(struct sim_log *log, uint32_t id)
{
	while (!append_user(log, id))
		;
	log->written++;
	tend(log);
}

struct sim_log *sim_log_new(const struct sim_log_options *options, uint32_t volume_blocks, uint32_t metaslabs)
{
	struct sim_log *log = sim_zeroed(1, sizeof(*log));
	uint32_t units = options->metaslab_blocks * BLOCK_SECTORS;
	CHECK(options->metaslab_blocks >= SIM_METASLAB_BLOCKS_MIN);
	CHECK(metaslabs >= sim_log_metaslabs_min(options, volume_blocks));
	log->options = *options;
	log->volume_blocks = volume_blocks;
	log->ids = ids_of(volume_blocks) + held_of(options, volume_blocks);
	while (1u << log->place_bits < MAX_OF(options->metaslab_blocks, 64u))
		log->place_bits++;
	log->place = sim_zeroed(log->ids, sizeof(log->place[0]));
	memset(log->place, 0xff, log->ids * sizeof(log->place[0]));
	log->survivors = sim_zeroed(options->metaslab_blocks, sizeof(log->survivors[0]));
	if (space_init(&log->space, SLOTS_MAX, units,
		       plan_usable_blocks(options->metaslab_blocks) * BLOCK_SECTORS))
		sim_memory(NULL);
	model_table_init(log);
	sim_log_grow(log, metaslabs);
	init_heads(log);
	uint32_t filled = (uint32_t)((1 - options->unfilled) * volume_blocks);
	for (uint32_t id = 0; id < ids_of(volume_blocks); id++)
		if (id < filled || id >= volume_blocks)
			write_first(log, id);
	log->held = options->snapshot_blocks ? ids_of(volume_blocks) : 0;
	log->written_at_snapshot = log->written;
	memset(&log->counts, 0, sizeof(log->counts));
	log->written_at_flush = log->written;
	log->due = false;
	return log;
}

void sim_log_free(struct sim_log *log)
{
	if (!log)
		return;
	model_table_free(log);
	space_free(&log->space);
	free(log->owner);
	free(log->alive);
	free(log->place);
	free(log->survivors);
	free(log);
}
