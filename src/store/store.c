/* SPDX-License-Identifier: Apache-2.0 */
/* Making, opening and closing a store; what it says of itself. */
#include "store/store.h"

#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/back.h"
#include "store/checkpoint.h"
#include "store/ids.h"
#include "store/log.h"
#include "store/place.h"
#include "store/recover.h"
#include "store/room.h"
#include "store/snap.h"
#include "store/table.h"
#include "store/tree.h"
#include "store/work.h"

uint64_t store_volume_blocks(const struct store *s)
{
	return s->trees.volume[VOLUME_HEAD].blocks;
}

/* -- making and opening -- */

static void init_locks(struct store *s)
{
	pthread_condattr_t attr;
	pthread_condattr_init(&attr);
	pthread_condattr_setclock(&attr, CLOCK_MONOTONIC);
	pthread_mutex_init(&s->work, NULL);
	pthread_mutex_init(&s->lock, NULL);
	pthread_cond_init(&s->changed, NULL);
	pthread_cond_init(&s->wake, &attr);
	pthread_cond_init(&s->pause, &attr);
	pthread_condattr_destroy(&attr);
}

static void store_free(struct store *s)
{
	log_free(s);
	snap_free(s);
	cache_free(&s->cache);
	space_free(&s->space);
	free(s->checkpoint.space_pages);
	free(s->checkpoint.freed);
	pthread_cond_destroy(&s->pause);
	pthread_cond_destroy(&s->wake);
	pthread_cond_destroy(&s->changed);
	pthread_mutex_destroy(&s->lock);
	pthread_mutex_destroy(&s->work);
	free(s);
}

static void init_heads(struct store *s)
{
	const struct head none = {NO_METASLAB, 0, NO_METASLAB};
	for (unsigned i = 0; i < LOG_HEADS; i++)
		s->log.head[i] = none;
	s->table.head = none;
}

void store_set_name(struct store *s, const char *name)
{
	store_lock(s);
	snprintf(s->name, sizeof(s->name), "%s", name);
	store_unlock(s);
}

static struct store *store_new(const struct store_config *config, const uint32_t *metaslabs, uint32_t count,
			       int *error)
{
	struct store *s = calloc(1, sizeof(*s));
	uint32_t usable = plan_usable_blocks(config->metaslab_blocks);
	*error = -LCPFS_E_NOMEM;
	if (!s)
		return NULL;
	CHECK((config->metaslab_blocks & (config->metaslab_blocks - 1)) == 0);
	s->config = *config;
	snprintf(s->name, sizeof(s->name), "%s", config->name ? config->name : "");
	s->config.name = s->name;
	s->ids.end = IDS_FIRST;
	init_locks(s);
	init_heads(s);
	*error = cache_init(&s->cache, config->cache_bytes);
	if (!*error)
		*error = space_init(&s->space, config->metaslab_count, config->metaslab_blocks * BLOCK_SECTORS,
				    usable * BLOCK_SECTORS);
	for (uint32_t i = 0; i < count && !*error; i++)
		*error = space_add(&s->space, metaslabs[i], vdev_is_sparse(config->vdev) && !config->read_only);
	if (!*error)
		return s;
	store_free(s);
	return NULL;
}

static void first_root(struct fmt_root *root, uint64_t volume_blocks, const uint32_t *metaslabs, uint32_t count)
{
	*root = (struct fmt_root){.generation = le64_of(1),
				  .id_end = le64_of(IDS_FIRST),
				  .table_position = {le32_of(NO_METASLAB), le32_of(0)}};
	for (unsigned i = 0; i < ROOT_VOLUMES; i++)
		root->volume[i].levels = le32_of(1);
	root->volume[VOLUME_HEAD].blocks = le64_of(volume_blocks);
	for (unsigned i = 0; i < REGIONS; i++) {
		for (unsigned j = 0; j < LOG_HEADS; j++) {
			bool used = j == 0 || count >= HEADS_METASLABS_MIN;
			root->region[i].position[j].metaslab = le32_of(used ? metaslabs[j] : NO_METASLAB);
		}
	}
}

static int reserve_metaslab(struct store *s, uint32_t index)
{
	uint64_t bytes = (uint64_t)s->config.metaslab_blocks << BLOCK_SHIFT;
	return vdev_reserve(s->config.vdev, metaslab_block(s, index) << BLOCK_SHIFT, bytes);
}

/* Those that its heads begin in, and as many as the least of stores has. */
static int reserve_first(struct store *s, const uint32_t *metaslabs)
{
	int error = 0;
	for (unsigned i = 0; i < STORE_METASLABS_MIN && !error; i++)
		error = reserve_metaslab(s, metaslabs[i]);
	return error;
}

/*
 * They have their places, unless somebody has copied the pool without what looked empty. Where there is no place
 * for them now, writing fails until there is.
 */
static void reserve_heads(struct store *s)
{
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		if (s->log.head[i].metaslab != NO_METASLAB)
			(void)!reserve_metaslab(s, s->log.head[i].metaslab);
	}
	if (s->table.head.metaslab != NO_METASLAB)
		(void)!reserve_metaslab(s, s->table.head.metaslab);
}

int store_format(const struct store_config *config, uint64_t volume_blocks, const uint32_t *metaslabs,
		 uint32_t count)
{
	struct fmt_root root;
	int error;
	if (count < STORE_METASLABS_MIN || volume_blocks == 0 || volume_blocks > STORE_VOLUME_BLOCKS_MAX)
		return -LCPFS_E_INVALID;
	struct store *s = store_new(config, metaslabs, count, &error);
	if (!s)
		return error;
	first_root(&root, volume_blocks, metaslabs, count);
	error = reserve_first(s, metaslabs);
	if (!error)
		error = root_write(s, &root, 0);
	store_free(s);
	return error ? error : vdev_flush(config->vdev);
}

/* After the root that recovery began with they may have been emptied and given to a full host. */
static void reserve_spent(struct store *s)
{
	for (uint32_t i = 0; i < s->space.count; i++) {
		const struct metaslab *m = &s->space.slab[i];
		if (m->state == SPACE_SPENT && reserve_metaslab(s, m->index))
			space_bare(&s->space, m->index);
	}
}

/* What was rolled forward is made durable, and set apart from what may lie behind the log's end by a new epoch. */
static int open_anew(struct store *s)
{
	reserve_heads(s);
	store_lock(s);
	reserve_spent(s);
	back_least(s);
	store_unlock(s);
	s->log.epoch++;
	s->log.epoch_seq = s->log.seq;
	return checkpoint_root(s);
}

/* Writes nothing: a pool with many partitions is opened for the sake of one. */
static void open_as_closed(struct store *s)
{
	s->log.durable = s->log.claimed = s->log.seq;
	s->opened_seq = s->log.seq;
	s->opened_counters = s->counters;
	space_durable(&s->space, s->log.durable);
}

static bool is_as_opened(struct store *s)
{
	return s->found.as_closed && s->log.seq == s->opened_seq && !checkpoint_pending(s) && log_is_idle(s) &&
	       memcmp(&s->counters, &s->opened_counters, sizeof(s->counters)) == 0;
}

int store_open(const struct store_config *config, const uint32_t *metaslabs, uint32_t count, struct store **store,
	       struct lcpfs_failure *failure)
{
	int error;
	struct store *s = store_new(config, metaslabs, count, &error);
	*store = NULL;
	if (!s)
		return failure_set(failure, (enum lcpfs_error) - error, "partition %s: %s", config->name,
				   lcpfs_error_sentence(error));
	error = recover(s, failure);
	if (!error)
		space_sealed(&s->space, s->log.seq);
	s->found.as_closed = !error && config->was_closed && s->found.clean && !config->read_only;
	if (s->found.as_closed) {
		open_as_closed(s);
	} else if (!error && !config->read_only) {
		error = open_anew(s);
		if (error)
			failure_set(failure, (enum lcpfs_error) - error,
				    "partition %s: its first root cannot be written: %s", s->name,
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
	int error = work_checkpoint(s);
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
	if (volume_blocks > STORE_VOLUME_BLOCKS_MAX)
		return -LCPFS_E_RANGE;
	store_lock(s);
	struct volume *v = &s->trees.volume[VOLUME_HEAD];
	int error = s->faulted ? -LCPFS_E_FAULTED : 0;
	if (!error && volume_blocks > v->blocks)
		v->blocks = volume_blocks;
	store_unlock(s);
	for (int slot = 0; slot < 2 && !error; slot++)
		error = store_checkpoint(
			s); /* into both slots: roll-forward from the other knows the length, too */
	return error;
}

void store_hold_roots(struct store *s)
{
	pthread_mutex_lock(&s->work);
}

void store_let_roots(struct store *s, const uint64_t second[2])
{
	for (unsigned slot = 0; slot < 2 && second; slot++)
		s->config.root_block[slot][1] = second[slot];
	pthread_mutex_unlock(&s->work);
}

/* -- what it knows -- */

static size_t memory_used(const struct store *s)
{
	size_t bytes = sizeof(*s) + cache_bytes(&s->cache) + log_bytes(s);
	bytes += s->space.room * sizeof(*s->space.slab) + s->space.pool_count * sizeof(*s->space.slot);
	return bytes + s->checkpoint.freed_room * sizeof(*s->checkpoint.freed);
}

void store_stats(struct store *s, struct store_stats *stats)
{
	store_lock(s);
	uint64_t live = (room_data(s) + s->space.live[CLASS_TABLE]) / BLOCK_SECTORS + 2 * s->table.fresh;
	*stats = (struct store_stats){
		.counters = s->counters,
		.background = s->background,
		.metaslabs = s->space.count,
		.empty = space_empty(&s->space),
		.raw = space_raw(&s->space),
		.release_copied_blocks = s->release_copied,
		.live_blocks = live,
		.data_blocks = s->data_blocks,
		.page_blocks = live - s->data_blocks,
		.memory_bytes = memory_used(s),
		.recoveries = s->log.epoch, /* no other opening begins one */
		.faulted = s->faulted,
		.contradicts = s->contradicts,
	};
	for (const struct record *r = s->log.inflight; r; r = r->next)
		stats->write_error = r->state == RECORD_FAILED ? r->error : stats->write_error;
	store_unlock(s);
}

static void dump_metaslab(const struct metaslab *m, struct text *out)
{
	static const char *const state[] = {"raw", "empty", "open", "closed", "spent"};
	static const char *const class[] = {"hot", "cold", "moved", "table"};
	bool used = m->state == SPACE_OPEN || m->state == SPACE_CLOSED;
	text_append(out, "  metaslab %" PRIu32 ": %s%s%s, live %" PRIu32 " blocks, last record %" PRIu64 "\n",
		    m->index, state[m->state], used ? ", " : "", used ? class[m->class] : "",
		    m->live / BLOCK_SECTORS, m->last);
}

void store_dump(struct store *s, struct text *out)
{
	store_lock(s);
	text_append(out,
		    "partition %" PRIu32 " (%s): generation %" PRIu64 ", epoch %" PRIu64 ", root seq %" PRIu64
		    ", redo %" PRIu64 ", seq %" PRIu64 "\n",
		    s->config.partition, s->name, s->checkpoint.generation, s->log.epoch, s->checkpoint.root_seq,
		    checkpoint_redo(s), s->log.seq);
	text_append(out,
		    "  volume %" PRIu64 " blocks, data %" PRIu64 ", volume pages %" PRIu64 ", table pages %" PRIu64
		    ", ids below %" PRIu64 "\n",
		    store_volume_blocks(s), s->data_blocks, s->page_blocks, s->table.pages, s->ids.end);
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		if (s->log.head[i].metaslab != NO_METASLAB)
			text_append(out, "  head %u: metaslab %" PRIu32 ", offset %" PRIu32 "\n", i,
				    s->log.head[i].metaslab, s->log.head[i].offset);
	}
	for (uint32_t i = 0; i < s->space.count; i++)
		dump_metaslab(&s->space.slab[i], out);
	store_unlock(s);
}

static bool audit_due(size_t *saved, size_t size)
{
	*saved += AUDIT_SHARE;
	if (size > AUDIT_SMALL && *saved < size)
		return false;
	*saved = 0;
	return true;
}

void store_audit(struct store *s)
{
	size_t volume = s->trees.dirty_count, table = s->table.dirty_count + s->table.inner_count;
	if (audit_due(&s->audit.cache, s->cache.buckets + s->cache.allocated)) {
		size_t dirty[PAGE_KINDS] = {0};
		cache_audit(&s->cache, dirty);
		CHECK(dirty[PAGE_VOLUME] == volume && dirty[PAGE_TABLE] == table); /* V1, T1 */
	}
	if (!audit_due(&s->audit.rest, s->space.count + volume + table))
		return;
	space_audit(&s->space);
	log_audit(s);
	table_audit(s);
	tree_audit(s);
	if (s->found.snapshots)
		snap_audit(s);
}
