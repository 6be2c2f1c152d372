/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Who may take an EMPTY metaslab, and where the next one comes from.
 *
 * What must always be possible, however full the partition: a checkpoint, the cleaning of one
 * metaslab, and on top of that a trim. So writers leave EMPTY metaslabs for a checkpoint of all pages,
 * twice each, as much again for pages never written before, and two more; cleaning leaves the
 * checkpoint's. Where space is short, a checkpoint does write all pages: then every other metaslab that
 * held pages comes free, and it gives back what it takes. When nothing is left for a writer it makes
 * some itself, one unit at a time, or waits for the background to.
 *
 * Empty for good: a CLOSED metaslab without live blocks may be used again once (1) roll-forward does
 * not need the records in it (its age <= root_seq) and (2) the state in which it is empty was flushed.
 * Until then whoever reads what it held (a crash's recovery, mainly) still finds it. Relocations count
 * as soon as the log that tells them is durable: no checkpoint is needed for that.
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

static uint32_t metaslabs_for_pages(const struct store *s, uint64_t pages)
{
	/* Records are cut at level changes and at metaslabs' ends, so some are not full. */
	uint64_t blocks = 2 * pages + 2 * RECORD_HEADERS * (2 * pages / RECORD_ENTRIES + 2 * TREE_LEVELS_MAX);
	return (uint32_t)DIV_UP(blocks, usable_blocks(s));
}

static uint64_t space_tree_pages(const struct store *s)
{
	return DIV_UP(s->space.count, PAGE_SLOTS) + (s->space.count > PAGE_SLOTS ? 1 + s->space.count / 28224 : 0);
}

static uint32_t metaslabs_for_all_pages(const struct store *s)
{
	uint64_t most = s->pages_max / 2; /* the cache cannot hold more that wait for a checkpoint */
	uint64_t pages = MIN_OF(s->page_count + 2 * TREE_LEVELS_MAX, most);
	return metaslabs_for_pages(s, pages + space_tree_pages(s));
}

/*
 * For a page that is written for the first time a checkpoint gives nothing back, and when it is done the
 * room for the next must still be there.
 */
uint32_t room_for_all_pages(const struct store *s)
{
	return metaslabs_for_all_pages(s) + (uint32_t)DIV_UP(2 * s->unwritten, usable_blocks(s));
}

/*
 * Metaslabs that never count as capacity: the open heads, two for cleaning, one for what is lost at records' ends, and a
 * checkpoint of all pages. Does not rise faster than `metaslabs`, so that a larger partition never holds less, also where
 * more heads come into use.
 */
static uint32_t overhead_metaslabs(const struct store *s, uint32_t metaslabs, uint32_t heads_used)
{
	uint32_t few = HEADS_METASLABS_MIN - LOG_HEADS + 1;
	uint32_t heads = metaslabs >= HEADS_METASLABS_MIN ? LOG_HEADS : metaslabs > few ? metaslabs - few + 1 : 1;
	return MAX_OF(heads, heads_used) + 3 + metaslabs_for_all_pages(s);
}

/*
 * One block in 64 stays free besides, so that also a full partition cleans at a bounded price: when the spare is a share x of
 * the size, cleaning copies about 1 / (2x) blocks for each that is written.
 */
static uint64_t limit_of(const struct store *s, uint32_t metaslabs, uint32_t heads_used)
{
	uint32_t overhead = overhead_metaslabs(s, metaslabs, heads_used);
	return metaslabs > overhead ? (metaslabs - overhead) * usable_blocks(s) / 64 * 63 : 0;
}

uint64_t room_limit(const struct store *s, uint32_t metaslabs)
{
	return limit_of(s, metaslabs, 1);
}

/* With few backed there may be more heads than a partition of that size would have. */
uint64_t room_capacity(const struct store *s)
{
	return limit_of(s, space_backed(&s->space), s->space.raw ? s->heads : 1);
}

uint64_t room_capacity_without_one(const struct store *s)
{
	return limit_of(s, space_backed(&s->space) - 1, s->heads);
}

/* Of a store that holds just that, and as many pages as there can be. */
static bool would_hold(struct store *s, uint32_t metaslabs, uint64_t data_blocks)
{
	s->space.count = metaslabs;
	s->data_blocks = data_blocks;
	return room_live(s) <= room_limit(s, metaslabs);
}

uint32_t store_metaslabs_for(const struct store_config *config, uint64_t data_blocks)
{
	struct store s = {.config = *config, .pages_max = SIZE_MAX, .page_count = tree_pages_max(data_blocks)};
	uint32_t low = STORE_METASLABS_MIN, high = UINT32_MAX;
	if (data_blocks > UINT64_C(1) << 40)
		return UINT32_MAX;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (would_hold(&s, middle, data_blocks))
			high = middle;
		else
			low = middle + 1;
	}
	return low;
}

uint64_t room_live(const struct store *s)
{
	return s->data_blocks + 2 * (s->page_count + space_tree_pages(s));
}

uint32_t room_kept(const struct store *s)
{
	return 2 + room_for_all_pages(s);
}

bool room_needs_full_checkpoint(const struct store *s)
{
	uint32_t all = metaslabs_for_all_pages(s), now = metaslabs_for_pages(s, s->closure + space_tree_pages(s));
	return s->page_count < s->pages_max / 3 && s->space.empty < now + all + 2;
}

/*
 * Cleaning ahead of the writers: a little more than what they leave, and no faster than they write, so that a full or an
 * idle partition is not copied about for nothing.
 */
bool room_low(const struct store *s)
{
	uint64_t written = s->counters.written_blocks - s->written_at_clean;
	return s->space.empty < room_kept(s) + MIN_OF(2u, s->space.count / 16) && written >= usable_blocks(s) / 8;
}

bool room_cache_full(const struct store *s)
{
	return s->closure + s->closure_frozen > s->pages_max / 2;
}

static bool room_enough(const struct store *s, bool urgent)
{
	if (room_cache_full(s))
		return false;
	bool full = !s->open && log_room(s, HEAD_USER) < RECORD_HEADERS + 1;
	bool next = s->open && s->open->entries + 1 >= MIN_OF(s->open->blocks_max, (unsigned)RECORD_ENTRIES);
	return s->space.empty >= room_kept(s) - urgent + (full || next);
}

/* Drops the lock. */
static int make_room(struct store *s, bool urgent, bool *progress)
{
	store_drop(s);
	pthread_mutex_lock(&s->work);
	store_lock(s);
	bool enough = room_enough(s, urgent); /* somebody else may have made it meanwhile */
	store_unlock(s);
	int done = enough ? 1 : room_make(s);
	pthread_mutex_unlock(&s->work);
	store_lock(s);
	*progress = done > 0;
	return done < 0 ? done : 0;
}

/* Asks the pool for more. Drops the lock: what the caller lacked may be there then although it gave nothing. */
static bool ask_pool(struct store *s)
{
	if (!s->config.need_space)
		return false;
	uint32_t count = s->space.count;
	bool raw = s->space.raw > 0;
	store_drop(s);
	bool got = s->config.need_space(s->config.context, count);
	store_lock(s);
	return got || (s->space.raw && !raw);
}

int room_wait(struct store *s, bool urgent)
{
	int error = 0;
	uint64_t written = s->counters.written_blocks;
	/*
	 * Each unit gains something where anything is to be gained, so this many are enough to go through all of
	 * it twice. What others have taken meanwhile does not count: as long as they get room this one waits.
	 */
	for (uint32_t units = 0; !error && !room_enough(s, urgent); units++) {
		bool progress;
		units = s->counters.written_blocks != written ? 0 : units;
		written = s->counters.written_blocks;
		if (s->faulted || s->trying)
			return s->faulted ? -LCPFS_E_FAULTED : -LCPFS_E_AGAIN;
		if (room_back(s) == 0)
			continue;
		error = make_room(s, urgent, &progress);
		if (error == -LCPFS_E_NOSPC)
			error = 0;
		progress &= units < 2 * s->space.count + 16;
		if (!error && !progress && !room_enough(s, urgent) && !ask_pool(s) && !room_enough(s, urgent))
			return -LCPFS_E_NOSPC;
	}
	return error;
}

static bool is_full(const struct store *s)
{
	return room_live(s) + 1 > room_capacity(s);
}

int room_admit(struct store *s)
{
	while (is_full(s)) {
		if (s->trying)
			return -LCPFS_E_AGAIN;
		if (room_back(s) && !ask_pool(s) && is_full(s))
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
		if (m->state == METASLAB_CLOSED && m->live == 0 && !m->held && !m->pinned && m->age <= s->root_seq && m->ready && m->ready <= MAX_OF(s->durable, (uint64_t)1))
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

/* When nothing is EMPTY but what a checkpoint needs: the one that is most likely to fit into one of those. */
static struct metaslab *emptiest(const struct store *s)
{
	struct metaslab *best = NULL;
	for (uint32_t i = 0; i < s->space.count; i++) {
		struct metaslab *m = &s->space.slab[i];
		bool can = m->state == METASLAB_CLOSED && !m->waiting && !m->unread && m->live;
		if (can && m->age <= s->root_seq && (!best || m->live < best->live))
			best = m;
	}
	return best;
}

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
	if (p.victim && s->space.empty <= room_for_all_pages(s))
		p.victim = emptiest(s);
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

/* The victim stays pinned while it is cleaned: a flush could otherwise hand it out again under the cleaner's eyes. */
static int clean_victim(struct store *s, uint32_t victim)
{
	int error = clean_metaslab(s, victim);
	store_lock(s);
	space_find(&s->space, victim)->pinned = false;
	room_reclaim(s);
	store_unlock(s);
	return error;
}

/* What to do next, with the lock held: a victim (pinned) or NO_METASLAB, and whether a checkpoint would help. */
static uint32_t choose(struct store *s, bool *checkpoint)
{
	struct prospect p = look_around(s);
	bool news = s->seq != s->quiet_seq; /* else the last checkpoint has done what one can */
	*checkpoint = p.checkpoint || room_cache_full(s) || s->unwritten ||
		      (news && (p.younger || room_needs_full_checkpoint(s)));
	if (!p.victim || room_cache_full(s) || (*checkpoint && checkpoint_pays(s, &p)))
		return NO_METASLAB;
	p.victim->pinned = true;
	return p.victim->index;
}

int room_make(struct store *s)
{
	store_lock(s);
	room_reclaim(s);
	s->written_at_clean = s->counters.written_blocks;
	int done = room_back_ahead(s);
	if (!done && look_around(s).flush)
		done = flush_for_room(s);
	bool checkpoint = false;
	uint32_t victim = done ? NO_METASLAB : choose(s, &checkpoint);
	store_unlock(s);
	int error = victim != NO_METASLAB ? clean_victim(s, victim) : -LCPFS_E_NOSPC;
	if (done || error != -LCPFS_E_NOSPC)
		return done ? done : error ? error : 1;
	store_lock(s);
	checkpoint |= room_cache_full(s); /* cleaning may have stopped for that */
	store_unlock(s);
	if (!checkpoint)
		return 0;
	error = checkpoint_write(s);
	return error ? error : 1;
}
