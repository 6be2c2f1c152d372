/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Making room: what the space policy would have done is done here, one unit at a time, by the background ahead of
 * writers and by writers that have to wait; and the metaslabs that the partition gives back.
 *
 * What must always be possible, however full the partition: a step of a checkpoint, the cleaning of one metaslab,
 * and a trim. So writers leave EMPTY metaslabs for the first two (space_reserve); cleaning leaves the
 * checkpoint's; a trim may use what writers leave. A writer is refused only where the partition holds as much as
 * its size allows (room_fits), and the pool gives it no more; where a metaslab is missing it waits until a unit of
 * work has made one.
 *
 * Why a unit makes one: as long as live units are below the limit, some metaslab is not full of live ones. Either
 * its records are before the redo point: then it is cleaned, into room that is kept back for that, and gains more
 * than it costs. Or they are behind it: then steps of a checkpoint, each with room that is kept back for it, move
 * the redo point past them.
 */
#include "store/work.h"

#include "store/back.h"
#include "store/checkpoint.h"
#include "store/clean.h"
#include "store/log.h"
#include "store/pages.h"
#include "store/room.h"
#include "store/snap.h"
#include "store/table.h"

#define DOZE_US 1000000 /* between two looks of an idle partition: there may be hundreds */

enum {
	FAILED_UNITS =
		64, /* units in a row that gain nothing, times the metaslabs: then nothing is to be gained */
	/*
	 * Beside users a release pauses so many times as long as a unit of its work took, and within these bounds.
	 * So few of their requests are held up by one.
	 */
	PAUSE_SHARE = 3,
	PAUSE_US_MIN = 5000,
	PAUSE_US_MAX = 100000,
};

/* -- what to do next -- */

/* Where roll-forward would begin after one more step. */
static uint64_t next_redo(const struct store *s)
{
	uint64_t redo = checkpoint_redo(s), next = s->log.seq;
	bool skipped = false;
	for (unsigned i = 0; i < REGIONS; i++) {
		uint64_t seq = s->table.region[i].seq;
		if (seq == redo && !skipped)
			skipped = true;
		else
			next = MIN_OF(next, seq);
	}
	return next;
}

static enum plan_unit choose(struct store *s, uint32_t *victim)
{
	struct plan_state state = {
		.reserve = room_reserve(s),
		.now = s->counters.written_blocks,
		.next_redo = next_redo(s),
		.step_pages = 2.0 * (s->table.dirty_count / (double)REGIONS + s->table.levels +
				     (double)plan_list_pages(s->space.count)),
		.urgent = checkpoint_urgent(s),
		.pending = checkpoint_pending(s) || pages_wasteful(s),
	};
	return plan_next(&s->space, &state, victim);
}

static int flush_unit(struct store *s)
{
	store_lock(s);
	int error = log_flush(s);
	store_unlock(s);
	return error;
}

/* The victim stays pinned meanwhile: a flush could otherwise hand it out again under the cleaner's eyes. */
static int clean_unit(struct store *s, uint32_t victim)
{
	int error = clean_metaslab(s, victim);
	store_lock(s);
	space_unpin(&s->space, victim);
	store_changed(s);
	store_unlock(s);
	return error;
}

static int checkpoint_unit(struct store *s)
{
	store_lock(s);
	struct space_reserve reserve = room_reserve(s);
	store_unlock(s);
	/* Where pages of trees find no room, cleaning may not either: then what it needs is used. */
	int error = checkpoint_step(s, reserve.notes);
	return error == -LCPFS_E_NOSPC ? checkpoint_step(s, reserve.table) : error;
}

/* The metaslab that is best cleaned. false: there is none. */
static bool clean_best(struct store *s, int *error)
{
	store_lock(s);
	struct metaslab *m = space_victim(&s->space, s->counters.written_blocks);
	uint32_t victim = m ? m->index : SPACE_NONE;
	if (m)
		space_pin(&s->space, victim);
	store_unlock(s);
	if (m)
		*error = clean_unit(s, victim);
	return m;
}

/* Where there is no room for pages of trees, cleaning makes some. */
int work_checkpoint(struct store *s)
{
	int error = 0;
	bool more = true;
	for (uint32_t tries = 0; more && !error; tries++) {
		store_lock(s);
		back_least(s);
		uint32_t tries_max = FAILED_UNITS * s->space.count;
		store_unlock(s);
		error = checkpoint_unit(s);
		bool cleaned = error == -LCPFS_E_NOSPC && tries < tries_max && clean_best(s, &error);
		if (cleaned && (!error || error == -LCPFS_E_NOSPC))
			error = flush_unit(s);
		store_lock(s);
		more = cleaned || checkpoint_pending(s);
		store_unlock(s);
	}
	return error;
}

/* One unit of work that makes room: 1; 0: nothing is to be gained; or an error. With `work`, without the lock. */
static int work_unit(struct store *s)
{
	uint32_t victim = SPACE_NONE;
	store_lock(s);
	back_least(s);
	s->written_at_clean = s->counters.written_blocks;
	enum plan_unit unit = s->faulted ? UNIT_NONE : choose(s, &victim);
	if (unit == UNIT_CLEAN)
		space_pin(&s->space, victim);
	store_unlock(s);
	int error = unit == UNIT_FLUSH ? flush_unit(s) : unit == UNIT_CLEAN ? clean_unit(s, victim) : 0;
	/* Cleaning stops where a checkpoint has to come first, and a checkpoint where it would find no room. */
	if (unit == UNIT_CHECKPOINT || error == -LCPFS_E_NOSPC)
		error = checkpoint_unit(s);
	if (unit == UNIT_CHECKPOINT && error == -LCPFS_E_NOSPC)
		(void)clean_best(s, &error);
	return error ? error : unit != UNIT_NONE;
}

/*
 * The same for those who cannot go on without an EMPTY metaslab: before they give up, the log's heads give back
 * what they can.
 */
int work_hard(struct store *s)
{
	int done = work_unit(s);
	if (done && done != -LCPFS_E_NOSPC)
		return done;
	int freed = snap_unit(s);
	if (freed && freed != -LCPFS_E_NOSPC)
		return freed;
	store_lock(s);
	bool any = !s->faulted && log_return_next(s);
	store_unlock(s);
	if (!any)
		return done;
	int error = flush_unit(s);
	return error ? error : 1;
}

/* -- waiting for room -- */

/* EMPTY metaslabs beyond what this user leaves; not above 0: none. */
static int64_t spare(const struct store *s, enum room_user user)
{
	return (int64_t)space_empty(&s->space) - room_kept(s, user);
}

static bool has_room(const struct store *s, enum room_user user, unsigned blocks)
{
	return spare(s, user) > 0 && (!blocks || room_fits(s, blocks));
}

/*
 * Asks the pool for more. The lock is let go: what the caller lacked may be there then although it gave nothing.
 */
static bool ask_pool(struct store *s)
{
	if (!s->config.need_space)
		return false;
	uint32_t count = s->space.count;
	bool raw = space_raw(&s->space) > 0;
	store_unlock(s);
	bool got = s->config.need_space(s->config.context, count);
	store_lock(s);
	return got || (space_raw(&s->space) && !raw);
}

/* One unit, unless others have made room before its turn came. */
static int make_room(struct store *s, enum room_user user)
{
	store_unlock(s);
	pthread_mutex_lock(&s->work);
	store_lock(s);
	bool enough = spare(s, user) > 0;
	store_unlock(s);
	int done = enough ? 1 : work_hard(s);
	pthread_mutex_unlock(&s->work);
	store_lock(s);
	return done;
}

/* Where there is no room to say what is free, cleaning comes first. */
static int free_or_room(struct store *s)
{
	int done = snap_unit(s);
	return done == -LCPFS_E_NOSPC ? work_unit(s) : done;
}

/* What destroyed snapshots had is as good as free. True: some more of it is. */
static bool free_dying(struct store *s)
{
	if (!snap_pending(s))
		return false;
	store_unlock(s);
	pthread_mutex_lock(&s->work);
	int done = free_or_room(s);
	pthread_mutex_unlock(&s->work);
	store_lock(s);
	return done > 0;
}

int work_wait(struct store *s, enum room_user user, unsigned blocks)
{
	uint32_t failed = 0;
	while (!has_room(s, user, blocks)) {
		int64_t before = spare(s, user);
		if (s->faulted)
			return -LCPFS_E_FAULTED;
		if (back_one(s) == 0 || (blocks && !room_fits(s, blocks) && free_dying(s)))
			continue;
		bool full = blocks && !room_fits(s, blocks);
		int done = full ? 0 : make_room(s, user);
		if (done < 0 && done != -LCPFS_E_NOSPC)
			return done;
		if (s->faulted)
			return -LCPFS_E_FAULTED;
		failed = spare(s, user) > before ? 0 : failed + 1;
		bool stuck = done <= 0 || failed > FAILED_UNITS * (s->space.count + 16);
		if (!stuck || has_room(s, user, blocks) || ask_pool(s) || has_room(s, user, blocks))
			continue;
		/* While the pool was asked, others may have made room, or been given some: now it may fit. */
		if (!full || !room_fits(s, blocks))
			return -LCPFS_E_NOSPC;
	}
	return 0;
}

/* -- giving metaslabs back -- */

static bool can_release(const struct store *s)
{
	return s->space.count > STORE_METASLABS_MIN && room_fits_in(s, 0, s->space.count - 1);
}

/* Is what it holds, and what it keeps back, in metaslabs that have a place behind them? */
static bool has_enough_place(const struct store *s)
{
	return space_empty(&s->space) >= room_kept(s, USER_WRITE) && room_fits(s, 0);
}

/* -- giving one -- */

struct release {
	uint32_t *metaslab;
	bool patient; /* leaves some to writers */
	struct plan_gain gain;
	uint64_t all, written; /* counters when it began: blocks copied, and written by users */
	uint64_t used;         /* how often users had read or written before the last unit; */
	uint64_t took_us;      /* what that took */
};

static uint32_t left(const struct store *s, const struct release *r)
{
	if (!r->patient)
		return 0;
	return plan_left(&s->space, room_live(s), room_limit(s, space_with_place(&s->space) - 1));
}

/*
 * One that has no place behind it, else the EMPTY one that lies last, if one can be spared. Writers take those
 * that stay beyond what is kept back, while the next one is made.
 */
static bool take_spare(struct store *s, struct release *r)
{
	bool spare = space_empty(&s->space) > room_kept(s, USER_WRITE) + left(s, r);
	uint32_t metaslab = has_enough_place(s) ? space_last_raw(&s->space) : SPACE_NONE;
	if (metaslab == SPACE_NONE && spare && room_fits_in(s, 0, space_with_place(&s->space) - 1))
		metaslab = indexset_last(&s->space.empty);
	if (metaslab == SPACE_NONE)
		return false;
	r->gain.after = space_empty(&s->space);
	space_remove(&s->space, metaslab);
	*r->metaslab = metaslab;
	return true;
}

static int make_spare(struct store *s, const struct release *r)
{
	store_lock(s);
	bool flush = plan_flushes_first(&s->space, room_kept(s, USER_WRITE), left(s, r));
	store_unlock(s);
	int error = flush ? flush_unit(s) : 0;
	return error ? error : flush ? 1 : work_hard(s);
}

static uint64_t uses(const struct store *s)
{
	return s->counters.reads + s->counters.writes;
}

static int release_step(struct store *s, struct release *r)
{
	store_lock(s);
	bool can = can_release(s) && !s->faulted;
	/* What it holds gets its place first: then one without can go, and nothing has to be cleaned. */
	while (can && space_raw(&s->space) && !has_enough_place(s) && back_one(s) == 0)
		;
	bool done = can && take_spare(s, r);
	uint64_t copied = s->counters.copied_blocks, begun_us = store_now_us(s);
	r->used = uses(s);
	store_unlock(s);
	if (done || !can)
		return done ? 1 : -LCPFS_E_TOO_SMALL;
	int made = make_spare(s, r);
	store_lock(s);
	r->gain.copied += s->counters.copied_blocks - copied; /* who cleans holds `work` */
	r->took_us = store_now_us(s) - begun_us;
	done = can_release(s) && !s->faulted && take_spare(s, r); /* it may have got a place for one just now */
	store_unlock(s);
	if (done)
		return 1;
	bool nothing = made == -LCPFS_E_NOSPC || made == 0;
	if (nothing && !r->patient)
		return -LCPFS_E_TOO_SMALL;
	r->patient &= !nothing;
	return made < 0 && !nothing ? made : 0;
}

static void begin_release(struct store *s, struct release *r)
{
	store_lock(s);
	r->gain.before = space_empty(&s->space);
	r->all = s->counters.copied_blocks;
	r->written = s->counters.written_blocks;
	store_unlock(s);
}

static void end_release(struct store *s, struct release *r, bool done)
{
	store_lock(s);
	r->gain.all = s->counters.copied_blocks - r->all;
	r->gain.written = s->counters.written_blocks - r->written;
	s->release_copied += done ? plan_price(&s->space, &r->gain) : r->gain.copied;
	store_unlock(s);
}

/*
 * Where users were at work meanwhile they go first: cleaning beside them takes a processor, and the device.
 */
static void let_users_go_first(struct store *s, const struct release *r)
{
	struct timespec until;
	store_lock(s);
	uint64_t pause_us = MAX_OF(r->took_us * PAUSE_SHARE, (uint64_t)PAUSE_US_MIN);
	pause_us = r->took_us && uses(s) > r->used ? MIN_OF(pause_us, (uint64_t)PAUSE_US_MAX) : 0;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)pause_us * 1000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	if (pause_us)
		pthread_cond_timedwait(&s->pause, &s->lock, &until);
	store_unlock(s);
}

static int give(struct store *s, uint32_t *metaslab, bool patient)
{
	struct release r = {.metaslab = metaslab, .patient = patient};
	int done = 0;
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	store_lock(s);
	uint32_t units_max = FAILED_UNITS * (s->space.count + 16);
	store_unlock(s);
	begin_release(s, &r);
	for (uint32_t units = 0; done == 0; units++) {
		r.patient &= units < PLAN_PATIENCE;
		if (r.patient)
			let_users_go_first(s, &r);
		pthread_mutex_lock(&s->work); /* anew for each unit: writers in need of room get their turn */
		done = units > units_max ? -LCPFS_E_TOO_SMALL : release_step(s, &r);
		pthread_mutex_unlock(&s->work);
	}
	end_release(s, &r, done > 0);
	return done < 0 ? done : 0;
}

int store_release(struct store *s, uint32_t *metaslab)
{
	return give(s, metaslab, true);
}

int store_release_now(struct store *s, uint32_t *metaslab)
{
	return give(s, metaslab, false);
}

uint32_t store_size_least(struct store *s)
{
	store_lock(s);
	uint64_t live = room_live(s);
	uint32_t low = STORE_METASLABS_MIN, high = s->space.count;
	while (low < high) {
		uint32_t middle = low + (high - low) / 2;
		if (room_limit(s, middle) >= live)
			high = middle;
		else
			low = middle + 1;
	}
	store_unlock(s);
	return low;
}

int store_add(struct store *s, const uint32_t *metaslabs, uint32_t count)
{
	int error = 0;
	store_lock(s);
	for (uint32_t i = 0; i < count && !error; i++)
		error = space_add(&s->space, metaslabs[i], vdev_is_sparse(s->config.vdev));
	store_changed(s);
	store_unlock(s);
	return error;
}

uint32_t store_give_back(struct store *s)
{
	store_lock(s);
	uint32_t given = s->config.read_only || s->faulted ? 0 : back_give(s);
	store_unlock(s);
	return given;
}

/* -- the background -- */

static bool is_low(const struct store *s)
{
	return plan_is_low(&s->space, room_kept(s, USER_WRITE), s->counters.written_blocks - s->written_at_clean);
}

/* What needs only the lock. 1: did something. */
static int tend_log(struct store *s)
{
	bool failed = false, old = false;
	for (const struct record *r = s->log.inflight; r; r = r->next)
		failed |= r->state == RECORD_FAILED;
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		const struct record *r = s->log.open[i];
		old |= r && r->words && store_now_us(s) - r->opened_us >= IDLE_SEAL_US;
	}
	if (failed) {
		int error = log_retry(s);
		return error ? error : 1;
	}
	if (old) {
		log_seal_open(s);
		log_drain(s);
		return 1;
	}
	uint32_t kept = room_kept(s, USER_WRITE);
	bool confirm = log_confirm_due(s, kept);
	if (confirm)
		log_confirm(s, kept);
	return confirm;
}

void work_wake(struct store *s)
{
	bool due = is_low(s) || checkpoint_due(s);
	if (due && !s->due)
		s->due_blocks = s->counters.written_blocks;
	s->due = due;
	if (due || s->dozes || back_should_ahead(s))
		pthread_cond_signal(&s->wake);
}

/* What trims have left is pieces of metaslabs. 1: one more is EMPTY, or soon will be. */
static int clean_to_give(struct store *s)
{
	store_lock(s);
	struct metaslab *m = back_victim(s);
	uint32_t victim = m ? m->index : SPACE_NONE;
	if (m)
		space_pin(&s->space, victim);
	store_unlock(s);
	int error = m ? clean_unit(s, victim) : -LCPFS_E_NOSPC;
	if (!error)
		error = flush_unit(s);
	store_lock(s);
	s->backing.cleaning = !error;
	store_unlock(s);
	return error == -LCPFS_E_NOSPC ? 0 : error ? error : 1;
}

/*
 * To a full host: after trims of some size what a checkpoint makes EMPTY, then what cleaning does. 1: did
 * something.
 */
static int give_unit(struct store *s)
{
	store_lock(s);
	uint64_t trimmed = s->counters.trimmed_blocks;
	bool enough = back_has_trimmed(s);
	store_unlock(s);
	int error = enough ? work_checkpoint(s) : 0;
	store_lock(s);
	if (enough) {
		s->backing.trimmed_at_give = trimmed;
		s->backing.cleaning = !error;
	}
	uint32_t given = back_give(s);
	store_unlock(s);
	return error ? error : given ? 1 : clean_to_give(s);
}

/* It holds `work` now. What it found by itself is not late. When it begins, in blocks of users'. */
static uint64_t note_begin(struct store *s)
{
	store_lock(s);
	uint64_t now = s->counters.written_blocks;
	s->background.units++;
	s->background.late_blocks += s->due ? now - s->due_blocks : 0;
	s->due = false;
	store_unlock(s);
	return now;
}

/* If it was woken meanwhile, it is late only from now on. */
static void note_end(struct store *s, uint64_t begun)
{
	store_lock(s);
	s->background.busy_blocks += s->counters.written_blocks - begun;
	s->due_blocks = s->counters.written_blocks;
	store_unlock(s);
}

/* A step takes room before it gives some back: where there is hardly any, cleaning comes first. */
static int checkpoint_or_room(struct store *s)
{
	store_lock(s);
	bool room = space_empty(&s->space) >= room_kept(s, USER_NOTE);
	store_unlock(s);
	int done = room ? 0 : work_unit(s);
	if (done)
		return done;
	int error = checkpoint_unit(s);
	return error ? error : 1;
}

/* Until the first change nothing becomes due by itself, but what the host does. */
static bool may_doze(const struct store *s)
{
	return log_is_idle(s) && s->log.claimed >= s->log.work_seq;
}

int store_step(struct store *s)
{
	if (s->config.read_only)
		return 0;
	store_lock(s);
	int done = s->faulted ? 0 : tend_log(s);
	if (!done && !s->faulted && back_should_ahead(s))
		done = back_ahead(s);
	bool due = checkpoint_due(s), low = !s->faulted && is_low(s), give = !s->faulted && back_should_give(s);
	bool dying = !s->faulted && snap_pending(s);
	if (!done && !(due || low || give || dying) && !s->faulted && may_doze(s))
		done = back_idly(s);
	store_unlock(s);
	if (done || !(due || low || give || dying))
		return done;
	pthread_mutex_lock(&s->work);
	uint64_t begun = due || low ? note_begin(s) : 0;
	if (due)
		done = checkpoint_or_room(s);
	else if (low)
		done = work_unit(s);
	else if (!dying)
		done = give_unit(s);
	if (!done && dying) /* also where cleaning gains nothing: that is what makes room then */
		done = free_or_room(s);
	if (due || low)
		note_end(s, begun);
	pthread_mutex_unlock(&s->work);
	return done;
}

static void wait_for_work(struct store *s)
{
	struct timespec until;
	store_lock(s);
	s->dozes = may_doze(s);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (s->dozes ? DOZE_US : CONFIRM_US / 2) % 1000000 * 1000;
	until.tv_sec += (s->dozes ? DOZE_US : 0) / 1000000 + until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	if (!s->stopping)
		pthread_cond_timedwait(&s->wake, &s->lock, &until);
	s->dozes = false;
	store_unlock(s);
}

static bool is_stopping(struct store *s)
{
	store_lock(s);
	bool stop = s->stopping;
	store_unlock(s);
	return stop;
}

void store_service(struct store *s)
{
	while (!is_stopping(s)) {
		if (store_step(s) <= 0)
			wait_for_work(s);
	}
}

void store_stop(struct store *s)
{
	store_lock(s);
	s->stopping = true;
	pthread_cond_signal(&s->wake);
	store_unlock(s);
}
