/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Promoting a clone.
 *
 * The volume and the clone exchange what they are, and their names with that: so whoever opens either by its name
 * finds what was there, but for the snapshots up to the clone's origin: these are the volume's, whoever that is.
 * The store does its part in one record, in which the clone gets the partition's name. The partition's own is in
 * its page: so before that a mark stands there, with both names. What the clone is called tells whether the record
 * was written, and so which name is the partition's, also after a crash.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pool/core.h"

enum { HELD_TRIES = 1000, HELD_US = 10000 }; /* how long it waits for scrubs and moves to let it go */

struct promoting {
	struct lcpfs_pool *pool;
	const char *name; /* of the clone */
	bool dry_run, begun;
	bool turns; /* snapshots or bookmarks change places, too */
	struct part *part;
	struct store_clone clone;
	struct lcpfs_failure *failure;
};

static uint32_t promotion_page(const struct part *part)
{
	return layout_partition_page(&part->pool->layout, part->slot);
}

static int check_alone(const struct promoting *p)
{
	const struct part *part = p->part;
	if (part->resizing || part->closed_to_clients)
		return failure_set(p->failure, LCPFS_E_BUSY, "partition %s is being changed; try again",
				   part->name);
	if (!part->clients)
		return 0;
	return failure_set(p->failure, LCPFS_E_BUSY,
			   "partition %s, its snapshots and clones are in use by %" PRIu32
			   " client%s, who would lose their names; disconnect %s first",
			   part->name, part->clients, part->clients == 1 ? "" : "s",
			   part->clients == 1 ? "it" : "them");
}

/* A clone of a clone's snapshot takes two steps: then the snapshot is the volume's. */
static int check_origin(const struct promoting *p)
{
	char origin[2 * LCPFS_NAME_MAX + 2];
	size_t length = strlen(p->part->name);
	snapshot_print_name(p->part, p->clone.origin, origin, sizeof(origin));
	if (strncmp(origin, p->part->name, length) == 0 && origin[length] == '@')
		return 0;
	return failure_set(p->failure, LCPFS_E_INVALID,
			   "%s is a clone of %s, which is of a clone: promote %.*s first", p->name, origin,
			   (int)strcspn(origin, "@"), origin);
}

typedef unsigned list_fn(struct store *store, uint32_t volume, struct store_snapshot *list, unsigned room);

/* What goes from one to the other: of the volume, those that are younger than the clone's origin; all of the
 * clone's. */
struct moving {
	struct store_snapshot *of_volume, *of_clone;
	unsigned volume, clone, older; /* older: of the volume, that stay its own */
};

static bool list_moving(const struct promoting *p, list_fn *list, struct moving *m)
{
	struct store *s = p->part->store;
	m->volume = list(s, STORE_OWN_VOLUME, NULL, 0);
	m->clone = list(s, p->clone.number, NULL, 0);
	m->of_volume = calloc(m->volume + 1, sizeof(*m->of_volume));
	m->of_clone = calloc(m->clone + 1, sizeof(*m->of_clone));
	if (!m->of_volume || !m->of_clone)
		return false;
	m->volume = MIN_OF(list(s, STORE_OWN_VOLUME, m->of_volume, m->volume), m->volume);
	m->clone = MIN_OF(list(s, p->clone.number, m->of_clone, m->clone), m->clone);
	while (m->older < m->volume && m->of_volume[m->older].number <= p->clone.origin)
		m->older++;
	return true;
}

static const char *find_clash(const struct moving *m)
{
	for (unsigned i = 0; i < m->older; i++) {
		for (unsigned k = 0; k < m->clone; k++) {
			if (strcmp(m->of_volume[i].name, m->of_clone[k].name) == 0)
				return m->of_clone[k].name;
		}
	}
	return NULL;
}

/* Both would be the volume's. */
static int check_names(struct promoting *p, list_fn *list, char separator)
{
	struct moving m = {.older = 0};
	bool known = list_moving(p, list, &m);
	const char *clash = known ? find_clash(&m) : NULL;
	int error =
		!known  ? failure_set(p->failure, LCPFS_E_NOMEM, "out of memory")
		: clash ? failure_set(p->failure, LCPFS_E_EXISTS,
				      "there are %s%c%s and %s%c%s, which would have one name: rename one first",
				      p->part->name, separator, clash, p->name, separator, clash)
			: 0;
	p->turns |= m.clone || m.volume > m.older;
	free(m.of_volume);
	free(m.of_clone);
	return error;
}

static int check_promotion(struct promoting *p)
{
	int error = (p->dry_run ? txg_refuse_trying : txg_refuse)(p->pool, p->failure);
	if (error)
		return error;
	p->part = clone_find(p->pool, p->name, &p->clone);
	if (!p->part)
		return failure_set(p->failure, LCPFS_E_NOT_FOUND, "there is no clone %.200s", p->name);
	/* That something was received whole is told by the youngest snapshot, which may go to the other. */
	error = p->dry_run ? receive_refuse(p->part, p->failure) : receive_clear(p->part, p->failure);
	if (!error)
		error = check_alone(p);
	if (!error)
		error = check_origin(p);
	p->turns = false;
	if (!error)
		error = check_names(p, store_volume_snapshots, '@');
	if (!error)
		error = check_names(p, store_volume_bookmarks, '#');
	if (!error && (p->part->volume_bytes != p->clone.volume_blocks * BLOCK_SIZE ||
		       store_volume_blocks(p->part->store) != p->clone.volume_blocks))
		error = failure_set(p->failure, LCPFS_E_RANGE,
				    "clone %s has another length than the volume of %s has by now", p->name,
				    p->part->name);
	return error;
}

static void put_name(uint8_t to[64], const char *name)
{
	memset(to, 0, 64);
	memcpy(to, name, MIN_OF(strlen(name), (size_t)LCPFS_NAME_MAX));
}

/* With the lock, as all that follows unless it says otherwise. */
static int put_mark(const struct promoting *p)
{
	struct txg txg;
	txg_begin(p->pool, &txg);
	struct fmt_partition *page = txg_change(&txg, promotion_page(p->part));
	uint64_t bits = PARTITION_PROMOTING | (p->turns ? PARTITION_LINES | PARTITION_TURNS : 0u);
	page->features.incompatible = le64_of(le64_get(page->features.incompatible) | bits);
	page->promotion.clone = le32_of(p->clone.number);
	put_name(page->promotion.partition, p->part->name);
	put_name(page->promotion.name, p->name);
	return txg_commit(&txg, p->failure);
}

/* The partition is called so from now on. */
static int take_mark(struct part *part, const char *name, struct lcpfs_failure *failure)
{
	struct txg txg;
	txg_begin(part->pool, &txg);
	struct fmt_partition *page = txg_change(&txg, promotion_page(part));
	uint64_t had = le64_get(page->features.incompatible);
	page->features.incompatible = le64_of(had & ~(uint64_t)PARTITION_PROMOTING);
	page->promotion = (struct fmt_promotion){.clone = le32_of(0)};
	put_name(page->name, name);
	return txg_commit(&txg, failure);
}

static void take_name(struct part *part, const char *name)
{
	snprintf(part->name, sizeof(part->name), "%s", name);
	store_set_name(part->store, part->name);
	may_fail(lcpfs_engine_rename(part->pool->engine, part->id, part->name));
}

int clone_end_promotion(struct part *part, struct lcpfs_failure *failure)
{
	const struct fmt_partition *page = txg_current(part->pool, promotion_page(part));
	if (!le32_get(page->promotion.clone))
		return 0;
	int error = store_flush(part->store, failure); /* done, or not done, durably too */
	return error ? error : take_mark(part, part->name, failure);
}

/* Does the clone have the partition's name? */
static bool is_promoted(const struct part *part, uint32_t clone, const char *partition)
{
	struct store_clone found;
	return store_clone_find(part->store, partition, &found) && found.number == clone;
}

static void settle(struct part *part)
{
	const struct fmt_partition *page = txg_current(part->pool, promotion_page(part));
	uint32_t clone = le32_get(page->promotion.clone);
	char before[64], after[64];
	memcpy(before, page->promotion.partition, sizeof(before));
	memcpy(after, page->promotion.name, sizeof(after));
	before[63] = after[63] = '\0';
	if (!clone || !part_name_is_valid(before) || !part_name_is_valid(after))
		return;
	take_name(part, is_promoted(part, clone, before) ? after : before);
	if (!part->pool->options.read_only)
		may_fail(take_mark(part, part->name, NULL)); /* else it is found the next time */
}

void clone_settle_promotion(struct part *part)
{
	pthread_mutex_lock(&part->pool->lock);
	settle(part);
	pthread_mutex_unlock(&part->pool->lock);
}

/* Lets the lock go. Scrubs and moves hold the partition, too. */
static int await_alone(struct promoting *p)
{
	struct timespec pause = {.tv_nsec = HELD_US * 1000};
	for (unsigned tries = 0; p->part->users > 1 && tries < HELD_TRIES; tries++) {
		pthread_mutex_unlock(&p->pool->lock);
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&p->pool->lock);
	}
	return p->part->users == 1
		       ? 0
		       : failure_set(p->failure, LCPFS_E_BUSY,
				     "partition %s is being scrubbed or moved; try again later", p->part->name);
}

/* Lets the lock go while others are at work. */
static int begin_promotion(struct promoting *p)
{
	int error = check_promotion(p);
	while (!error && (p->part->snapshot_work || p->pool->naming[0])) {
		pthread_cond_wait(&p->pool->changed, &p->pool->lock);
		error = check_promotion(p);
	}
	if (error || p->dry_run)
		return error;
	snprintf(p->pool->naming, sizeof(p->pool->naming), "%s", p->name);
	p->part->snapshot_work = p->part->closed_to_clients = p->begun = true;
	part_hold(p->part);
	error = await_alone(p);
	if (!error)
		error = clone_end_promotion(p->part, p->failure);
	return error ? error : put_mark(p);
}

/* Lets the lock go. After an error the mark stays if what is in memory may not be durable. */
static int promote(struct promoting *p)
{
	struct part *part = p->part;
	char before[LCPFS_NAME_MAX + 1];
	snprintf(before, sizeof(before), "%s", part->name);
	pthread_mutex_unlock(&p->pool->lock);
	int error = store_promote(part->store, p->name, before);
	pthread_mutex_lock(&p->pool->lock);
	bool done = is_promoted(part, p->clone.number, before);
	if (error)
		failure_set(p->failure, (enum lcpfs_error) - error, "clone %s was not promoted: %s", p->name,
			    lcpfs_error_sentence(error));
	if (done)
		take_name(part, p->name);
	if (error && !done)
		may_fail(take_mark(part, before, NULL));
	if (error)
		return error;
	history_note(p->pool, LCPFS_EVENT_PROMOTED, LCPFS_ENGINE_FREE, part->id, 0, "%s; %s is its clone now",
		     p->name, before);
	return take_mark(part, p->name, p->failure);
}

int lcpfs_clone_promote(struct lcpfs_pool *pool, const char *name, bool dry_run,
			char partition[LCPFS_NAME_MAX + 1], struct lcpfs_failure *failure)
{
	struct promoting p = {.pool = pool, .name = name, .dry_run = dry_run, .failure = failure};
	pthread_mutex_lock(&pool->lock);
	int error = begin_promotion(&p);
	if (!error)
		snprintf(partition, LCPFS_NAME_MAX + 1, "%s", p.part->name);
	if (!error && !dry_run)
		error = promote(&p);
	if (p.begun) {
		pool->naming[0] = '\0';
		p.part->snapshot_work = p.part->closed_to_clients = false;
		part_drop(p.part);
		pthread_cond_broadcast(&pool->changed);
	}
	pthread_mutex_unlock(&pool->lock);
	return error;
}
