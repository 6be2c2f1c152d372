/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may take an EMPTY metaslab, and where the next one comes from.
 *
 * What must always be possible, however full the partition: a checkpoint (so: metaslabs kept back for the pages
 * that it would have to write now, twice each), the cleaning of one metaslab (one more kept back), and on top of
 * that a trim. A writer gets what is left; when there is nothing left it makes some itself, one unit at a time, or
 * waits for the background to.
 *
 * Empty for good: a CLOSED metaslab without live blocks may be used again once (1) roll-forward does not need the
 * records in it (its age <= root_seq) and (2) the state in which it is empty was flushed. Until then whoever reads
 * what it held (a crash's recovery, mainly) still finds it. Relocations count as soon as the log that tells them
 * is durable: no checkpoint is needed for that.
 */
#include "store/internal.h"

/* Blocks of a metaslab that can hold something when it is filled with full records. */
static uint64_t usable_blocks(const struct store *s)
{
	uint64_t left = s->config.metaslab_blocks - LINK_BLOCKS;
	uint64_t record = RECORD_HEADERS + RECORD_ENTRIES;
	uint64_t rest = left % record;
	return left / record * RECORD_ENTRIES + (rest > RECORD_HEADERS ? rest - RECORD_HEADERS : 0);
}

static uint32_t metaslabs_for_pages(const struct store *s, uint64_t pages, uint64_t have)
{
	/* Records are cut at level changes, so a few are not full. */
	uint64_t blocks = 2 * pages + 2 * RECORD_HEADERS * (pages / RECORD_ENTRIES + 2 * TREE_LEVELS_MAX);
	return blocks > have ? (uint32_t)DIV_UP(blocks - have, usable_blocks(s)) : 0;
}

/*
 * Metaslabs that never count as capacity: the open heads, two for cleaning, and the checkpoint that the cleaning of one full
 * metaslab can make necessary. Never falls as fast as `metaslabs` grows, so that a larger partition never holds less,
 * also where more heads come into use.
 */
static uint32_t overhead_metaslabs(const struct store *s, uint32_t metaslabs)
{
	uint64_t pages = metaslabs * usable_blocks(s) / (PAGE_SLOTS * 3 / 4) + 2 * TREE_LEVELS_MAX;
	uint32_t checkpoint = metaslabs_for_pages(s, MIN_OF(pages, usable_blocks(s)), 0);
	const uint32_t many = LOG_HEADS + 2 + checkpoint, few = 1 + 2 + checkpoint;
	if (metaslabs >= HEADS_METASLABS_MIN)
		return many;
	return metaslabs + many > few + HEADS_METASLABS_MIN ? metaslabs + many - HEADS_METASLABS_MIN : few;
}

uint64_t room_limit(const struct store *s, uint32_t metaslabs)
{
	uint32_t overhead = overhead_metaslabs(s, metaslabs);
	return metaslabs > overhead ? (metaslabs - overhead) * usable_blocks(s) : 0;
}

static uint64_t space_tree_pages(const struct store *s)
{
	return DIV_UP(s->space.count, PAGE_SLOTS) + (s->space.count > PAGE_SLOTS ? 1 + s->space.count / 28224 : 0);
}

uint64_t room_live(const struct store *s)
{
	return s->data_blocks + 2 * (s->page_count + space_tree_pages(s));
}

uint32_t room_for_pages(const struct store *s, uint64_t pages)
{
	uint64_t most = s->page_count + s->closure_frozen + 2 * TREE_LEVELS_MAX;
	pages = MIN_OF(pages + s->closure + s->closure_frozen, most) + space_tree_pages(s);
	return metaslabs_for_pages(s, pages, log_room(s, HEAD_META));
}

uint32_t room_kept(const struct store *s, uint64_t pages)
{
	return 2 + room_for_pages(s, pages + usable_blocks(s));
}

/*
 * Better than only what must be: room for a checkpoint of all pages. With less, one is forced each time that as many have changed
 * as there is room for, and under random writes that is after about as many blocks, which doubles what is written.
 * It takes from the space that cleaning thrives on, so at most half of that.
 */
static uint32_t room_comfortable(const struct store *s)
{
	uint32_t used = (uint32_t)(room_live(s) / usable_blocks(s)) + LOG_HEADS;
	uint32_t spare = s->space.count > used ? s->space.count - used : 0;
	return MAX_OF(room_kept(s, 0), 2 + MIN_OF(room_for_pages(s, s->page_count), spare / 2));
}

/*
 * Cleaning ahead of the writers: a little more than what they leave, and no faster than they write, so that a full or an
 * idle partition is not copied about for nothing.
 */
bool room_low(const struct store *s)
{
	uint64_t written = s->counters.written_blocks - s->written_at_clean;
	return s->space.empty < room_comfortable(s) + MIN_OF(2u, s->space.count / 16) && written >= usable_blocks(s) / 8;
}

/* Pages that one operation may change: two leaves and all above them, or a step of a trim. */
static uint64_t step_pages(const struct store *s, bool urgent)
{
	unsigned levels = s->tree[0].levels + s->tree[1].levels;
	return urgent ? 32 + levels : 2 * levels;
}

bool room_cache_full(const struct store *s)
{
	return s->closure + s->closure_frozen > s->pages_max / 2;
}

/* `comfort`: as much as is good for all; else as much as has to be. */
static bool room_enough(const struct store *s, bool urgent, bool comfort)
{
	if (room_cache_full(s))
		return false;
	uint32_t kept = room_kept(s, step_pages(s, urgent)) - urgent;
	bool full = !s->open && log_room(s, HEAD_USER) < RECORD_HEADERS + 1;
	bool next = s->open && s->open->entries + 1 >= MIN_OF(s->open->blocks_max, (unsigned)RECORD_ENTRIES);
	if (comfort && (full || next))
		kept = MAX_OF(kept, room_comfortable(s));
	return s->space.empty >= kept + (full || next);
}

/* Drops the lock. */
static int make_room(struct store *s, bool urgent, bool *progress)
{
	store_drop(s);
	pthread_mutex_lock(&s->work);
	store_lock(s);
	bool enough = room_enough(s, urgent, !urgent); /* somebody else may have made it meanwhile */
	store_unlock(s);
	int done = enough ? 1 : room_make(s);
	pthread_mutex_unlock(&s->work);
	store_lock(s);
	*progress = done > 0;
	return done < 0 ? done : 0;
}

/* Asks the pool for more. Drops the lock. */
static bool ask_pool(struct store *s)
{
	if (!s->config.need_space)
		return false;
	store_drop(s);
	bool got = s->config.need_space(s->config.context);
	store_lock(s);
	return got;
}

int room_wait(struct store *s, bool urgent)
{
	/*
	 * Each unit gains something where anything is to be gained, so this many are enough to go through all of
	 * it twice.
	 */
	for (uint32_t units = 0; !room_enough(s, urgent, !urgent); units++) {
		bool progress;
		if (s->faulted)
			return -LCPFS_E_FAULTED;
		int error = make_room(s, urgent, &progress);
		if (error && error != -LCPFS_E_NOSPC)
			return error;
		progress &= units < 2 * s->space.count + 16;
		if (!progress && room_enough(s, urgent, false))
			return 0;
		if (!progress && !ask_pool(s))
			return -LCPFS_E_NOSPC;
	}
	return 0;
}

int room_admit(struct store *s)
{
	while (room_live(s) + 1 > room_limit(s, s->space.count)) {
		if (!ask_pool(s))
			return -LCPFS_E_NOSPC;
	}
	return 0;
}

void room_note_ready(struct store *s)
{
	CHECK(!s->open); /* what emptied it is in a sealed record */
	for (uint32_t i = 0; i < s->space.count; i++) {
		struct metaslab *m = &s->space.slab[i];
		if (m->state == METASLAB_CLOSED && m->live == 0 && !m->ready)
			m->ready = MAX_OF(s->seq, (uint64_t)1);
	}
}

void room_reclaim(struct store *s)
{
	for (uint32_t i = 0; i < s->space.count; i++) {
		struct metaslab *m = &s->space.slab[i];
		if (m->state == METASLAB_CLOSED && m->live == 0 && !m->held && m->age <= s->root_seq && m->ready && m->ready <= MAX_OF(s->durable, (uint64_t)1))
			space_set_state(&s->space, m, METASLAB_EMPTY);
	}
	pthread_cond_broadcast(&s->changed);
}

struct prospect {
	uint32_t flush;      /* metaslabs that only wait for a flush */
	uint32_t checkpoint; /* and for a checkpoint */
	bool younger;        /* a checkpoint would make more metaslabs cleanable */
	struct metaslab *victim;
};

static struct prospect look_around(const struct store *s)
{
	struct prospect p = {0};
	for (uint32_t i = 0; i < s->space.count; i++) {
		const struct metaslab *m = &s->space.slab[i];
		if (m->state != METASLAB_CLOSED)
			continue;
		bool needed = m->held || m->age > s->root_seq; /* by roll-forward */
		p.flush += m->live == 0 && !needed;
		p.checkpoint += (m->live == 0 && needed) || m->waiting;
		p.younger |= m->live < usable_blocks(s) && m->age > s->root_seq;
	}
	/* Copying has to gain something: a link and the headers of the copies go off. */
	p.victim = space_victim(&s->space, s->root_seq, s->seq, (uint32_t)usable_blocks(s) - 1);
	return p;
}

/* Is a checkpoint the cheaper way to the next EMPTY metaslab, by blocks written for each metaslab gained? */
static bool checkpoint_pays(const struct store *s, const struct prospect *p)
{
	if (!p->victim)
		return true;
	if (s->log_blocks < 4 * 2 * s->page_count)
		return false; /* soon all pages would be changed again: at most a quarter of the log for the tables */
	double pages = (double)(s->closure + space_tree_pages(s));
	double clean_gain = 1 - (double)p->victim->live / (double)usable_blocks(s);
	return p->checkpoint > 0 && 2 * pages / p->checkpoint < p->victim->live / clean_gain;
}

/* With the lock held. */
static int flush_for_room(struct store *s)
{
	uint32_t empty = s->space.empty;
	int error = log_flush(s);
	return error ? error : s->space.empty > empty;
}

int room_make(struct store *s)
{
	store_lock(s);
	room_reclaim(s);
	s->written_at_clean = s->counters.written_blocks;
	struct prospect p = look_around(s);
	uint32_t victim = p.victim && !checkpoint_pays(s, &p) ? p.victim->index : NO_METASLAB;
	bool checkpoint = p.checkpoint || p.younger || s->closure;
	bool cache_full = room_cache_full(s);
	int done = p.flush && !cache_full ? flush_for_room(s) : 0;
	store_unlock(s);
	if (done)
		return done;
	if (cache_full)
		victim = NO_METASLAB;
	if (victim != NO_METASLAB) {
		int error = clean_metaslab(s, victim);
		if (error != -LCPFS_E_NOSPC)
			return error ? error : 1;
	}
	if (!checkpoint)
		return 0;
	int error = checkpoint_write(s);
	return error ? error : 1;
}
