/* SPDX-License-Identifier: Apache-2.0 */
/* Who may take an EMPTY metaslab, where the next one comes from, and cleaning: as src/store/room.c and clean.c. */
#include <stddef.h>

#include "log_internal.h"

/* Of a metaslab filled with full records. */
uint64_t model_room_usable(uint32_t metaslab_blocks)
{
	uint32_t left = metaslab_blocks - LINK_BLOCKS, record = RECORD_HEADERS + RECORD_ENTRIES;
	uint32_t rest = left % record;

	return left / record * RECORD_ENTRIES + (rest > RECORD_HEADERS ? rest - RECORD_HEADERS : 0);
}

static uint32_t for_pages(const struct sim_log_options *o, uint64_t pages)
{
	uint64_t blocks = 2 * pages + 2 * RECORD_HEADERS * (2 * pages / RECORD_ENTRIES + 2 * TREE_LEVELS_MAX);

	return (uint32_t)DIV_UP(blocks, model_room_usable(o->metaslab_blocks));
}

/* EMPTY ones that a checkpoint of all pages can need. */
static uint32_t for_all_pages(const struct sim_log_options *o, uint32_t page_count, uint32_t metaslabs)
{
	if (!(o->checkpoint_share > 0))
		return 0;
	return for_pages(o, (uint64_t)page_count + 2 * TREE_LEVELS_MAX + model_tables_space_pages(metaslabs));
}

/* Pages that were never written give nothing back for what a checkpoint takes for them. */
static uint32_t all_pages(const struct sim_log *log)
{
	const struct sim_log_options *o = &log->options;
	uint64_t first = DIV_UP(2 * (uint64_t)log->unwritten_count, log->usable);

	return for_all_pages(o, log->page_count, log->count) + (uint32_t)first;
}

/*
 * What a metaslab holds for good. Smaller ones than a pool can have would not come round on what the store reckons
 * with: cleaning cuts a record where a metaslab ends, and a writer's where it flushes.
 */
static uint64_t capacity(uint32_t metaslab_blocks)
{
	uint64_t usable = model_room_usable(metaslab_blocks);

	return metaslab_blocks < METASLAB_BLOCKS_MIN ? usable - 2 * RECORD_HEADERS : usable;
}

uint64_t model_room_limit(const struct sim_log_options *o, uint32_t page_count, uint32_t metaslabs)
{
	enum { HEADS_METASLABS_MIN = 12, FEW = HEADS_METASLABS_MIN - LOG_HEADS + 1 };
	uint32_t heads = metaslabs >= HEADS_METASLABS_MIN ? LOG_HEADS : metaslabs > FEW ? metaslabs - FEW + 1 : 1;
	uint32_t overhead = heads + 3 + for_all_pages(o, page_count, metaslabs);

	return metaslabs > overhead ? (metaslabs - overhead) * capacity(o->metaslab_blocks) / 64 * 63 : 0;
}

void model_room_reckon(struct sim_log *log)
{
	log->kept = 2 + all_pages(log);
}

bool model_room_needs_full_checkpoint(const struct sim_log *log)
{
	const struct sim_log_options *o = &log->options;
	uint64_t pages = (uint64_t)log->changed_count + model_tables_space_pages(log->count);

	return log->empty < for_pages(o, pages) + for_all_pages(o, log->page_count, log->count) + 2;
}

bool model_room_low(const struct sim_log *log)
{
	return log->empty < log->kept + MIN_OF(2u, log->count / 16) &&
	       log->counts.user - log->user_at_clean >= log->usable / 8;
}

/* ---- when a metaslab is free again ---- */

static bool logged_since_root(const struct sim_log *log, uint64_t age)
{
	return log->page_slots && age > log->root_seq;
}

static bool needed_by_recovery(const struct sim_log *log, const struct metaslab *m)
{
	return m->held || logged_since_root(log, m->age);
}

void model_room_note_ready(struct sim_log *log)
{
	for (uint32_t i = 0; i < log->spent_count; i++) {
		struct metaslab *m = &log->metaslabs[log->spent[i]];
		if (!m->ready)
			m->ready = MAX_OF(log->seq, (uint64_t)1);
	}
}

void model_room_reclaim(struct sim_log *log)
{
	uint32_t left = 0;

	for (uint32_t i = 0; i < log->spent_count; i++) {
		struct metaslab *m = &log->metaslabs[log->spent[i]];
		if (needed_by_recovery(log, m) || !m->ready || m->ready > MAX_OF(log->durable, (uint64_t)1)) {
			log->spent[left++] = log->spent[i];
			continue;
		}
		m->state = METASLAB_EMPTY;
		log->closed[m->rank] = NOWHERE;
		log->empty++;
	}
	log->spent_count = left;
}

/* ---- cleaning ---- */

/* Lists where its live blocks are. The pages in it are only marked: the next checkpoint writes them elsewhere. */
static uint32_t look_at_live(struct sim_log *log, uint32_t metaslab)
{
	uint32_t count = 0, first = model_place(log, metaslab, 0), end = model_place(log, metaslab + 1, 0);

	for (uint32_t word = first; word < end; word += 64)
		for (uint64_t bits = log->alive[word / 64]; bits; bits &= bits - 1) {
			uint32_t place = word + (uint32_t)__builtin_ctzll(bits), owner = log->owner[place];
			if (owner >= log->volume_blocks) {
				if (owner != NOWHERE)
					model_tables_mark_page(log, owner - log->volume_blocks);
				continue;
			}
			log->list[count++] = place;
			__builtin_prefetch(&log->place[owner], 1);
		}
	return count;
}

/* Leaves room for a checkpoint. */
static bool begin_copies(struct sim_log *log, uint32_t left, struct record *record)
{
	uint32_t next = model_room(log, HEAD_CLEAN) < RECORD_HEADERS + 1, all = all_pages(log);

	return log->empty >= all + next && model_begin(log, HEAD_CLEAN, left, all, record);
}

/* At most a record's blocks are read at a time, and sealed before the next are; false: no room for more. */
static bool move_batch(struct sim_log *log, const uint32_t *places, uint32_t count, uint32_t *moved)
{
	struct record record;

	for (*moved = 0; *moved < count; *moved += record.blocks) {
		if (!begin_copies(log, count - *moved, &record))
			return false;
		model_move(log, &record, places + *moved, record.blocks_max);
		model_seal(log, &record);
	}
	return true;
}

/* False: nothing could be moved. */
static bool clean(struct sim_log *log, uint32_t metaslab)
{
	uint32_t count = look_at_live(log, metaslab), done = 0;
	bool room = true, pages = log->metaslabs[metaslab].live > count;

	while (room && done < count) {
		uint32_t moved;
		room = move_batch(log, log->list + done, MIN_OF(count - done, (uint32_t)RECORD_ENTRIES), &moved);
		done += moved;
	}
	if (pages && (room || done)) {
		log->metaslabs[metaslab].waiting = true;
		log->waiting_count++;
	}
	model_room_reclaim(log);
	return room || done;
}

/* The more, the fewer live blocks and the less the age. */
static double worth_cleaning(const struct sim_log *log, uint32_t live_blocks, uint64_t age)
{
	double live = (double)live_blocks / log->options.metaslab_blocks;

	if (log->options.cleaning == SIM_OLDEST_FIRST)
		return -(double)age;
	if (log->options.cleaning == SIM_GREEDY)
		return -live;
	/* Rosenblum & Ousterhout 1991: free space gained · age / cost */
	return (1 - live) * (double)(log->seq - age + 1) / (1 + live);
}

/* ---- one unit of work ---- */

struct prospect {
	uint32_t flush, checkpoint; /* metaslabs that only wait for one; for one as well */
	uint32_t victim;
	double worth; /* of cleaning it */
};

static const struct metaslab *closed_at(const struct sim_log *log, uint32_t rank)
{
	return log->closed[rank] == NOWHERE ? NULL : &log->metaslabs[log->closed[rank]];
}

/* Is it worth more than the victim there is? Of those worth the same the first by number is taken. */
static bool better(const struct prospect *p, double worth, uint32_t metaslab)
{
	return p->victim == NOWHERE || worth > p->worth || (!(worth < p->worth) && metaslab < p->victim);
}

static void look_at_group(struct sim_log *log, uint32_t group, struct prospect *p)
{
	struct group bounds = NO_BOUNDS;

	for (uint32_t i = group * GROUP; i < MIN_OF((group + 1) * GROUP, log->closed_count); i++) {
		const struct metaslab *m = closed_at(log, i);
		double worth;
		if (!m || !m->live || m->waiting)
			continue;
		bounds.live = MIN_OF(bounds.live, m->live);
		bounds.age = MIN_OF(bounds.age, m->age);
		worth = worth_cleaning(log, m->live, m->age);
		if (m->live >= log->usable || needed_by_recovery(log, m) || !better(p, worth, log->closed[i]))
			continue;
		p->worth = worth;
		p->victim = log->closed[i];
	}
	log->groups[group] = bounds;
}

static struct prospect look_around(struct sim_log *log)
{
	struct prospect p = {.checkpoint = log->waiting_count, .victim = NOWHERE};

	for (uint32_t i = 0; i < log->spent_count; i++) {
		bool needed = needed_by_recovery(log, &log->metaslabs[log->spent[i]]);
		p.flush += !needed;
		p.checkpoint += needed;
	}
	for (uint32_t i = 0; i < DIV_UP(log->closed_count, GROUP); i++) {
		const struct group *group = &log->groups[i];
		if (!logged_since_root(log, group->age) &&
		    better(&p, worth_cleaning(log, group->live, group->age), 0))
			look_at_group(log, i, &p);
	}
	return p;
}

/* By blocks written for each metaslab gained; and at most a quarter of the log for the tables. */
static bool checkpoint_pays(const struct sim_log *log, const struct prospect *p)
{
	double live, pages = (double)log->changed_count + model_tables_space_pages(log->count), gain;

	if (p->victim == NOWHERE)
		return true;
	if (log->log_blocks < 4 * 2 * (uint64_t)log->page_count)
		return false;
	live = log->metaslabs[p->victim].live;
	gain = 1 - live / log->usable;
	return p->checkpoint > 0 && 2 * pages / p->checkpoint < live / gain;
}

/* It would make more of them cleanable. */
static bool some_are_younger(const struct sim_log *log)
{
	for (uint32_t i = log->closed_count; i-- > 0;) {
		const struct metaslab *m = closed_at(log, i);
		if (m && (!needed_by_recovery(log, m) || m->live < log->usable))
			return needed_by_recovery(log, m);
	}
	return false;
}

static bool checkpoint_helps(const struct sim_log *log)
{
	bool news = log->seq != log->quiet_seq; /* else the last one has done what one can */

	return news && (model_room_needs_full_checkpoint(log) || some_are_younger(log));
}

bool model_room_make(struct sim_log *log)
{
	uint32_t empty = log->empty;
	struct prospect p;
	bool checkpoint;

	model_room_reclaim(log);
	log->user_at_clean = log->counts.user;
	p = look_around(log);
	if (p.flush) {
		empty = log->empty;
		model_flush(log);
		if (log->empty > empty)
			return true;
		p = look_around(log);
	}
	checkpoint = log->page_slots && (p.checkpoint || log->unwritten_count || checkpoint_helps(log));
	if (p.victim != NOWHERE && !(checkpoint && checkpoint_pays(log, &p)) && clean(log, p.victim))
		return true;
	if (checkpoint)
		model_checkpoint_write(log);
	return checkpoint;
}

static bool enough(const struct sim_log *log)
{
	const struct record *r = &log->open;
	bool full = !r->blocks_max && model_room(log, HEAD_USER) < RECORD_HEADERS + 1;
	bool next = r->blocks_max && r->blocks + 1 >= r->blocks_max;

	return log->empty >= log->kept + (full || next);
}

/* A writer's unit of work, or the background's between two of them: nobody wakes it then, but it polls. */
static bool make_some(struct sim_log *log)
{
	if (!log->options.thread || !model_checkpoint_due(log))
		return model_room_make(log);
	model_checkpoint_write(log);
	return true;
}

bool model_room_wait(struct sim_log *log)
{
	bool room = enough(log) || !make_some(log) || ++log->units >= 2 * log->count + 16 || enough(log);

	if (room)
		log->units = 0;
	return room;
}
