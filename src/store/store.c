/* SPDX-License-Identifier: Apache-2.0 */
/* Making, opening and closing a store; giving and taking metaslabs; its background; what it says of itself. */
#include "store/store.h"

#include <errno.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "store/internal.h"

uint64_t store_now_us(const struct store *s)
{
	return clock_us(s->config.clock);
}

uint64_t store_volume_blocks(const struct store *s)
{
	return s->volume_blocks;
}

/* --- making and opening --- */

static void init_locks(struct store *s)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&s->work, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	pthread_cond_init(&s->wake, &attr);
	pthread_condattr_destroy(&attr);
}

static void store_free(struct store *s)
{
	log_free(s);
	page_cache_free(s);
	space_free(&s->space);
	free(s->space_pages);
	free(s->freed);
	pthread_cond_destroy(&s->wake);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->work);
	free(s);
}

void store_set_name(struct store *s, const char *name)
{
	store_lock(s);
	snprintf(s->name, sizeof(s->name), "%s", name);
	store_unlock(s);
}

static struct store *store_new(const struct store_config *config, const uint32_t *metaslabs, uint32_t count, int *error)
{
	struct store *s = calloc(1, sizeof(*s));
	*error = -LCPFS_E_NOMEM;
	if (!s)
		return NULL;
	s->config = *config;
	snprintf(s->name, sizeof(s->name), "%s", config->name ? config->name : "");
	s->config.name = s->name;
	s->lru.older = s->lru.newer = &s->lru;
	init_locks(s);
	*error = page_cache_init(s);
	if (!*error)
		*error = space_init(&s->space, config->metaslab_base, config->metaslab_blocks,
				    config->metaslab_count, vdev_is_sparse(config->vdev) && !config->read_only);
	for (uint32_t i = 0; i < count && !*error; i++)
		*error = space_add(&s->space, metaslabs[i]);
	if (!*error)
		return s;
	store_free(s);
	return NULL;
}

/* Those that its heads begin in, and as many as the least of stores has. */
static int reserve_first(struct store *s, const uint32_t *metaslabs)
{
	uint64_t bytes = (uint64_t)s->config.metaslab_blocks << BLOCK_SHIFT;
	int error = 0;
	for (unsigned i = 0; i < STORE_METASLABS_MIN && !error; i++)
		error = vdev_reserve(s->config.vdev, space_first_block(&s->space, metaslabs[i]) << BLOCK_SHIFT,
				     bytes);
	return error;
}

int store_format(const struct store_config *config, uint64_t volume_blocks, const uint32_t *metaslabs, uint32_t count)
{
	int error;
	if (count < STORE_METASLABS_MIN || volume_blocks == 0 || volume_blocks > UINT64_C(1) << 40)
		return -LCPFS_E_INVALID;
	struct store *s = store_new(config, metaslabs, count, &error);
	if (!s)
		return error;
	tree_init(s, volume_blocks);
	struct fmt_root root = {.generation = le64_of(1), .volume_blocks = le64_of(volume_blocks)};
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		bool used = i == 0 || count >= HEADS_METASLABS_MIN;
		root.position[i].metaslab = le32_of(used ? metaslabs[i] : NO_METASLAB);
	}
	root.table.levels = le32_of(s->tree[TREE_TABLE - 1].levels);
	root.volume.levels = le32_of(s->tree[TREE_VOLUME - 1].levels);
	error = reserve_first(s, metaslabs);
	if (!error)
		error = root_write(s, &root, 0);
	store_free(s);
	return error ? error : vdev_flush(config->vdev);
}

/* Settles what a crash left, and sets later records apart from what may lie behind the log's end. */
static int open_checkpoint(struct store *s, bool must)
{
	s->epoch++;
	int error = checkpoint_write(s);
	if (error != -LCPFS_E_NOSPC || must)
		return error;
	s->epoch--; /* full to the brim: go on with the log as it is, so that something can be trimmed */
	return 0;
}

/* Writes nothing: a pool with many partitions is opened for the sake of one. */
static void open_as_closed(struct store *s)
{
	s->durable = s->claimed = s->quiet_seq = s->opened_seq = s->seq;
	s->opened_counters = s->counters;
}

static bool is_as_opened(const struct store *s)
{
	return s->as_closed && s->seq == s->opened_seq && !s->open && s->closure == 0 &&
	       memcmp(&s->counters, &s->opened_counters, sizeof(s->counters)) == 0;
}

int store_open(const struct store_config *config, const uint32_t *metaslabs, uint32_t count, struct store **store,
	       struct lcpfs_failure *failure)
{
	int error;
	struct store *s = store_new(config, metaslabs, count, &error);
	*store = NULL;
	if (!s)
		return failure_set(failure, (enum lcpfs_error)-error, "partition %s: %s", config->name,
				   lcpfs_error_sentence(error));
	error = recover(s, failure);
	bool moved = !error && !config->read_only && room_back_heads(s);
	s->as_closed &= !moved;
	if (!error && s->as_closed) {
		open_as_closed(s);
	} else if (!error && !config->read_only) {
		error = open_checkpoint(s, moved);
		if (error)
			failure_set(failure, (enum lcpfs_error)-error,
				    "partition %s: its first checkpoint failed: %s", s->name,
				    lcpfs_error_sentence(error));
	}
	if (error)
		store_free(s);
	else
		*store = s;
	return error;
}

void store_abandon(struct store *s)
{
	store_free(s);
}

int store_checkpoint(struct store *s)
{
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	pthread_mutex_lock(&s->work);
	int error = checkpoint_write(s);
	pthread_mutex_unlock(&s->work);
	return error;
}

int store_close(struct store *s)
{
	int error = 0;
	if (!s->config.read_only && !is_as_opened(s)) {
		store_lock(s);
		error = log_retry(s);
		store_unlock(s);
		for (int slot = 0; slot < 2 && !error; slot++)
			error = store_checkpoint(s); /* into both slots: a closed store can lose either root */
	}
	store_free(s);
	return error;
}

int store_grow_volume(struct store *s, uint64_t volume_blocks)
{
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	pthread_mutex_lock(&s->work); /* no checkpoint is under way */
	store_lock(s);
	int error = s->faulted ? -LCPFS_E_FAULTED : 0;
	if (!error && volume_blocks > s->volume_blocks)
		error = tree_grow(s, volume_blocks);
	store_unlock(s);
	for (int slot = 0; slot < 2 && !error; slot++)
		error = checkpoint_write(
			s); /* into both slots: roll-forward from the other knows the length, too */
	pthread_mutex_unlock(&s->work);
	return error;
}

/* --- metaslabs in and out --- */

int store_add(struct store *s, const uint32_t *metaslabs, uint32_t count)
{
	int error = 0;
	store_lock(s);
	for (uint32_t i = 0; i < count && !error; i++)
		error = space_add(&s->space, metaslabs[i]);
	pthread_cond_broadcast(&s->changed);
	store_unlock(s);
	return error;
}

static bool can_release(const struct store *s)
{
	return s->space.count > STORE_METASLABS_MIN && room_live(s) <= room_limit(s, s->space.count - 1);
}

/* Is what it holds, and what it keeps back, in metaslabs that have a place behind them? */
static bool is_backed(const struct store *s)
{
	return s->space.empty >= room_kept(s) && room_live(s) <= room_capacity(s);
}

/* A RAW one, else the EMPTY one that lies last, if one can be spared. */
static bool take_spare(struct store *s, uint32_t *metaslab)
{
	struct metaslab *last = s->space.raw && is_backed(s) ? space_last(&s->space, METASLAB_RAW) : NULL;
	if (!last && s->space.empty > room_kept(s) &&
	    (!s->space.raw || room_live(s) <= room_capacity_without_one(s)))
		last = space_last(&s->space, METASLAB_EMPTY);
	if (!last)
		return false;
	*metaslab = last->index;
	space_remove(&s->space, last->index);
	return true;
}

static int release_step(struct store *s, uint32_t *metaslab)
{
	store_lock(s);
	bool can = can_release(s) && !s->faulted;
	bool done = can && take_spare(s, metaslab);
	uint64_t copied = s->counters.copied_blocks;
	store_unlock(s);
	if (done || !can)
		return done ? 1 : -LCPFS_E_TOO_SMALL;
	int made = room_make(s);
	store_lock(s);
	s->release_copied += s->counters.copied_blocks - copied; /* who cleans holds `work` */
	store_unlock(s);
	if (made == -LCPFS_E_NOSPC || made == 0)
		return -LCPFS_E_TOO_SMALL;
	return made < 0 ? made : 0;
}

int store_release(struct store *s, uint32_t *metaslab)
{
	int done = 0;
	if (s->config.read_only)
		return -LCPFS_E_READ_ONLY;
	store_lock(s);
	uint32_t units_max = 2 * s->space.count + 16;
	store_unlock(s);
	for (uint32_t units = 0; done == 0; units++) {
		if (units > units_max)
			return -LCPFS_E_TOO_SMALL;
		pthread_mutex_lock(&s->work); /* anew for each unit: writers in need of room get their turn */
		done = release_step(s, metaslab);
		pthread_mutex_unlock(&s->work);
	}
	return done < 0 ? done : 0;
}

uint32_t store_give_back(struct store *s)
{
	store_lock(s);
	uint32_t given = s->config.read_only || s->faulted ? 0 : room_give_back(s);
	store_unlock(s);
	return given;
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

/* --- background --- */

/* What needs only the lock. 1: did something. */
static int tend_log(struct store *s)
{
	bool failed = false, done = false;
	for (const struct record *r = s->inflight; r; r = r->next)
		failed |= r->state == RECORD_FAILED;
	if (failed) {
		int error = log_retry(s);
		return error ? error : 1;
	}
	if (s->open && s->open->entries && store_now_us(s) - s->open->opened_us >= IDLE_SEAL_US) {
		log_seal_open(s);
		log_drain(s);
		done = true;
	}
	if (log_confirm_due(s)) {
		log_confirm(s);
		done = true;
	}
	return done;
}

void store_wake(struct store *s)
{
	bool due = room_low(s) || checkpoint_due(s);
	if (due && !s->due)
		s->due_blocks = s->counters.written_blocks;
	s->due = due;
	if (due || room_should_back(s))
		pthread_cond_signal(&s->wake);
}

/* It holds `work` now. What it found by itself is not late. */
static void note_background(struct store *s)
{
	store_lock(s);
	s->background.units++;
	s->background.late_blocks += s->due ? s->counters.written_blocks - s->due_blocks : 0;
	s->due = false;
	store_unlock(s);
}

int store_step(struct store *s)
{
	if (s->config.read_only)
		return 0;
	store_lock(s);
	int done = s->faulted ? 0 : tend_log(s);
	if (!done && !s->faulted && room_should_back(s))
		done = room_back_ahead(s);
	bool due = !s->faulted && checkpoint_due(s), low = !s->faulted && room_low(s);
	bool give = !s->faulted && room_should_give_back(s);
	store_unlock(s);
	if (done || !(due || low || give))
		return done;
	pthread_mutex_lock(&s->work);
	if (due || low)
		note_background(s);
	if (due) {
		int error = checkpoint_write(s);
		done = error ? error : 1;
	} else {
		done = low ? room_make(s) : room_empty_and_give_back(s);
	}
	pthread_mutex_unlock(&s->work);
	return done;
}

static void wait_for_work(struct store *s)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += CONFIRM_US / 2 * 1000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	store_lock(s);
	if (!s->stopping)
		pthread_cond_timedwait(&s->wake, &s->lock, &until);
	store_unlock(s);
}

static bool stopping(struct store *s)
{
	store_lock(s);
	bool stop = s->stopping;
	store_unlock(s);
	return stop;
}

void store_service(struct store *s)
{
	while (!stopping(s)) {
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

/* --- what it knows --- */

static size_t memory_used(const struct store *s)
{
	size_t bytes = sizeof(*s) + s->pages * sizeof(struct page) + s->closure_frozen * sizeof(struct fmt_page);
	bytes += s->buckets * sizeof(*s->bucket) + s->space.room * sizeof(*s->space.slab);
	bytes += s->space.pool_count * sizeof(*s->space.slot) + s->freed_room * sizeof(*s->freed);
	for (const struct record *r = s->unused; r; r = r->next)
		bytes += (RECORD_HEADERS + r->room) * (size_t)BLOCK_SIZE;
	for (const struct record *r = s->inflight; r; r = r->next)
		bytes += (RECORD_HEADERS + r->room) * (size_t)BLOCK_SIZE;
	return bytes + (s->open ? (RECORD_HEADERS + s->open->room) * (size_t)BLOCK_SIZE : 0);
}

void store_stats(struct store *s, struct store_stats *stats)
{
	store_lock(s);
	*stats = (struct store_stats){
		.counters = s->counters,
		.background = s->background,
		.metaslabs = s->space.count,
		.empty = s->space.empty,
		.raw = s->space.raw,
		.release_copied_blocks = s->release_copied,
		.live_blocks = room_live(s),
		.data_blocks = s->data_blocks,
		.page_blocks = room_live(s) - s->data_blocks,
		.dirty_pages = s->closure,
		.cached_pages = s->pages,
		.memory_bytes = memory_used(s),
		.faulted = s->faulted,
	};
	for (const struct record *r = s->inflight; r; r = r->next)
		stats->write_error = r->state == RECORD_FAILED ? r->error : stats->write_error;
	store_unlock(s);
}

static void dump_metaslab(const struct metaslab *m, struct text *out)
{
	static const char *const state[] = {"raw", "empty", "open", "closed"};
	text_append(out, "  metaslab %" PRIu32 ": %s, live %" PRIu32 ", age %" PRIu64 "\n", m->index, state[m->state], m->live,
		    m->age);
}

void store_dump(struct store *s, struct text *out)
{
	store_lock(s);
	text_append(out, "partition %" PRIu32 " (%s): generation %" PRIu64 ", epoch %" PRIu64 ", root seq %" PRIu64 ", seq %" PRIu64
		    "\n", s->config.partition, s->name, s->generation, s->epoch, s->root_seq, s->seq);
	text_append(out, "  volume %" PRIu64 " blocks, data %" PRIu64 ", tree pages %" PRIu64 ", ids below %" PRIu64 "\n",
		    s->volume_blocks, s->data_blocks, s->page_count, s->id_end);
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		if (s->head[i].metaslab != NO_METASLAB)
			text_append(out, "  head %u: metaslab %" PRIu32 ", offset %" PRIu32 "\n", i, s->head[i].metaslab,
				    s->head[i].offset);
	}
	for (uint32_t i = 0; i < s->space.count; i++)
		dump_metaslab(&s->space.slab[i], out);
	store_unlock(s);
}
