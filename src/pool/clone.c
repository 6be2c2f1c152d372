/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Clones by name: a further volume of a partition, which began as a snapshot of it. What they are is the store's
 * matter (store/snap.h); here they have names among those of partitions, and are opened, made and destroyed.
 *
 * A name is a partition's or a clone's. A clone is made without the pool's lock; until it is there its name is
 * reserved (pool->naming), one at a time. Of a partition that is faulted nobody knows the clones: so a name may
 * come to be there twice, and then it is the partition's, or of the clone that is found first.
 *
 * Who makes or destroys clones of a partition has its snapshots for itself, too (snapshot_work). Before its first
 * clone a partition's page says that it has some, so that a version that does not know them leaves it alone.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/words.h"
#include "pool/core.h"

enum { HELD_TRIES = 1000, HELD_US = 10000 }; /* how long it waits for scrubs and moves to let it go */

struct part *clone_find(const struct lcpfs_pool *pool, const char *name, struct store_clone *found)
{
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		struct part *part = pool->parts[slot];
		if (part && part->store && !part->removing && store_clone_find(part->store, name, found))
			return part;
	}
	return NULL;
}

int clone_refuse_name(const struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure)
{
	struct store_clone found;
	const struct part *part = clone_find(pool, name, &found);
	if (part)
		return failure_set(failure, LCPFS_E_EXISTS, "there is a clone %s already, in partition %s", name,
				   part->name);
	if (strcmp(pool->naming, name) == 0)
		return failure_set(failure, LCPFS_E_EXISTS, "a clone %s is being made", name);
	return 0;
}

int part_check_name(const struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure)
{
	if (!part_name_is_valid(name))
		return failure_set(failure, LCPFS_E_INVALID,
				   "a partition's name is 1 to 63 of A-Z a-z 0-9 . _ - and "
				   "does not start with . or -");
	if (part_named(pool, name))
		return failure_set(failure, LCPFS_E_EXISTS, "partition %s exists already", name);
	return clone_refuse_name(pool, name, failure);
}

/* -- lists: with the lock -- */

unsigned clone_count(const struct part *part)
{
	return store_clones(part->store, NULL, 0);
}

static unsigned list_all(const struct part *part, struct store_clone list[STORE_CLONES_MAX])
{
	return MIN_OF(store_clones(part->store, list, STORE_CLONES_MAX), (unsigned)STORE_CLONES_MAX);
}

bool clone_has_origin(const struct part *part, uint32_t number)
{
	struct store_clone list[STORE_CLONES_MAX];
	unsigned count = list_all(part, list);
	for (unsigned i = 0; i < count; i++) {
		if (list[i].origin == number)
			return true;
	}
	return false;
}

void clone_print_some(const struct part *part, uint32_t origin, char *text, size_t room)
{
	struct store_clone list[STORE_CLONES_MAX];
	unsigned count = list_all(part, list), printed = 0;
	size_t length = 0;
	text[0] = '\0';
	for (unsigned i = 0; i < count; i++) {
		if (origin && list[i].origin != origin)
			continue;
		if (length + 2 + strlen(list[i].name) + sizeof(" and more") > room) {
			snprintf(text + length, room - length, " and more");
			return;
		}
		length += (size_t)snprintf(text + length, room - length, "%s%s", printed++ ? ", " : "",
					   list[i].name);
	}
}

void clone_print_name(const struct part *part, uint32_t number, char name[LCPFS_NAME_MAX + 1])
{
	struct store_clone list[STORE_CLONES_MAX];
	unsigned count = list_all(part, list);
	name[0] = '\0';
	for (unsigned i = 0; i < count; i++) {
		if (list[i].number == number)
			memcpy(name, list[i].name, sizeof(list[i].name));
	}
}

/* "" where it cannot be told: there is no such snapshot any more. */
static void print_origin(const struct part *part, uint32_t number, char *text, size_t room)
{
	unsigned count = store_volume_snapshots(part->store, 0, NULL, 0);
	struct store_snapshot *list = calloc(count + 1, sizeof(*list));
	struct volume_name of;
	count = list ? MIN_OF(store_volume_snapshots(part->store, 0, list, count), count) : 0;
	text[0] = '\0';
	for (unsigned i = 0; i < count; i++) {
		if (list[i].number != number)
			continue;
		snapshot_name_volume(part, list[i].volume, &of);
		snprintf(text, room, "%s@%s", of.name, list[i].name);
	}
	free(list);
}

static void describe(const struct part *part, const struct store_clone *c, struct lcpfs_clone_info *info)
{
	*info = (struct lcpfs_clone_info){.created_s = c->created_s,
					  .volume_bytes = c->volume_blocks * BLOCK_SIZE,
					  .clients = volume_readers(part, c->number)};
	memcpy(info->name, c->name, sizeof(info->name));
	memcpy(info->partition, part->name, sizeof(info->partition));
	print_origin(part, c->origin, info->origin, sizeof(info->origin));
}

int lcpfs_clone_list(struct lcpfs_pool *pool, struct lcpfs_clone_info *infos, size_t room, size_t *count)
{
	struct store_clone list[STORE_CLONES_MAX];
	*count = 0;
	pthread_mutex_lock(&pool->lock);
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		const struct part *part = pool->parts[slot];
		unsigned found = part && part->store ? list_all(part, list) : 0;
		for (unsigned i = 0; i < found; i++, ++*count) {
			if (*count < room)
				describe(part, &list[i], &infos[*count]);
		}
	}
	pthread_mutex_unlock(&pool->lock);
	return 0;
}

int lcpfs_clone_used(struct lcpfs_pool *pool, const char *name, uint64_t *blocks, struct lcpfs_failure *failure)
{
	struct store_clone found;
	pthread_mutex_lock(&pool->lock);
	struct part *part = clone_find(pool, name, &found);
	if (part)
		part_hold(part);
	pthread_mutex_unlock(&pool->lock);
	if (!part)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no clone %.200s", name);
	int error = store_clone_used(part->store, found.number, blocks);
	part_let_go(part);
	return error ? failure_set(failure, (enum lcpfs_error) - error, "clone %s cannot be measured: %s", name,
				   lcpfs_error_sentence(error))
		     : 0;
}

/* -- making -- */

struct making {
	struct lcpfs_pool *pool;
	const char *snapshot, *name; /* NAME@SNAP; of the clone */
	bool dry_run;
	struct part *part;
	struct volume_name of;
	struct store_snapshot base;
	struct lcpfs_failure *failure;
};

static int find_base(struct making *m)
{
	const char *snapshot;
	size_t length = snapshot_split(m->snapshot, &snapshot);
	if (!snapshot)
		return failure_set(m->failure, LCPFS_E_INVALID, "%.200s names no snapshot: give NAME@SNAP",
				   m->snapshot);
	int error = snapshot_find_volume(m->pool, m->snapshot, length, &m->part, &m->of, m->failure);
	if (!error)
		error = receive_refuse(m->part, m->failure);
	return error ? error : snapshot_find(m->part, &m->of, snapshot, &m->base, m->failure);
}

static int check(struct making *m)
{
	int error = (m->dry_run ? txg_refuse_trying : txg_refuse)(m->pool, m->failure);
	if (!error)
		error = find_base(m);
	if (!error)
		error = part_check_name(m->pool, m->name, m->failure);
	if (!error && clone_count(m->part) >= STORE_CLONES_MAX)
		error = failure_set(m->failure, LCPFS_E_RANGE,
				    "partition %s has %d clones: there cannot be more of one", m->part->name,
				    STORE_CLONES_MAX);
	return error;
}

static int mark_page(struct making *m)
{
	uint32_t number = layout_partition_page(&m->pool->layout, m->part->slot);
	const struct fmt_partition *now = txg_current(m->pool, number);
	uint64_t features = le64_get(now->features.incompatible);
	struct txg txg;
	if (features & PARTITION_CLONES)
		return 0;
	txg_begin(m->pool, &txg);
	struct fmt_partition *page = txg_change(&txg, number);
	page->features.incompatible = le64_of(features | PARTITION_CLONES);
	return txg_commit(&txg, m->failure);
}

/* With the lock, which it lets go while others are at work. */
static int begin(struct making *m)
{
	int error = check(m);
	while (!error && (m->part->snapshot_work || m->pool->naming[0])) {
		pthread_cond_wait(&m->pool->changed, &m->pool->lock);
		error = check(m);
	}
	if (!error && !m->dry_run)
		error = mark_page(m);
	if (error)
		return error;
	snprintf(m->pool->naming, sizeof(m->pool->naming), "%s", m->name);
	m->part->snapshot_work = true;
	part_hold(m->part);
	return 0;
}

static void end(struct making *m)
{
	m->pool->naming[0] = '\0';
	m->part->snapshot_work = false;
	part_drop(m->part);
	pthread_cond_broadcast(&m->pool->changed);
}

int lcpfs_clone_create(struct lcpfs_pool *pool, const char *snapshot, const char *name, bool dry_run,
		       struct lcpfs_failure *failure)
{
	struct making m = {
		.pool = pool, .snapshot = snapshot, .name = name, .dry_run = dry_run, .failure = failure};
	pthread_mutex_lock(&pool->lock);
	int error = begin(&m);
	pthread_mutex_unlock(&pool->lock);
	if (error)
		return error;
	if (!dry_run)
		error = store_volume_clone(m.part->store, m.of.number, m.base.name, name,
					   pool->clock.wall_s(pool->clock.context));
	if (error)
		failure_set(failure, (enum lcpfs_error) - error, "clone %s of %.200s was not made: %s", name,
			    snapshot, lcpfs_error_sentence(error));
	pthread_mutex_lock(&pool->lock);
	if (!error && !dry_run)
		history_note(pool, LCPFS_EVENT_CLONED, LCPFS_ENGINE_FREE, m.part->id, 0, "%s, of %s@%s", name,
			     m.of.name, m.base.name);
	end(&m);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

/* -- promoting -- */

/*
 * The volume and the clone exchange what they are, and their names with that: so whoever opens either by its name
 * finds what was there, but for the snapshots up to the clone's origin: these are the volume's, whoever that is.
 * The store does its part in one record, in which the clone gets the partition's name. The partition's own is in
 * its page: so before that a mark stands there, with both names. What the clone is called tells whether the record
 * was written, and so which name is the partition's, also after a crash.
 */
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
	print_origin(p->part, p->clone.origin, origin, sizeof(origin));
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
	error = receive_refuse(p->part, p->failure);
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

/* -- what they are asked for by their names -- */

static int refuse_none(const struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure)
{
	if (part_named(pool, name))
		return failure_set(failure, LCPFS_E_INVALID,
				   "%s is a partition, and names no snapshot or clone: lcpfs remove removes it",
				   name);
	return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no clone %.200s", name);
}

/* -- another name, and a longer volume -- */

struct changing {
	struct lcpfs_pool *pool;
	const char *name, *new_name; /* new_name NULL: it gets longer */
	uint64_t volume_blocks;
	bool dry_run;
	struct part *part;
	struct store_clone clone;
	struct lcpfs_failure *failure;
};

static int check_new_name(const struct changing *c)
{
	uint32_t clients = volume_readers(c->part, c->clone.number);
	if (!clients)
		return part_check_name(c->pool, c->new_name, c->failure);
	return failure_set(c->failure, LCPFS_E_BUSY,
			   "clone %s is in use by %" PRIu32 " client%s, who would lose its name; disconnect first",
			   c->name, clients, clients == 1 ? "" : "s");
}

static int check_new_length(const struct changing *c)
{
	if (c->volume_blocks < c->clone.volume_blocks)
		return failure_set(c->failure, LCPFS_E_INVALID, "clone %s: a clone does not get shorter", c->name);
	if (c->volume_blocks > STORE_VOLUME_BLOCKS_MAX)
		return failure_set(c->failure, LCPFS_E_RANGE, "clone %s: no volume can be that long", c->name);
	return 0;
}

static int check_change(struct changing *c)
{
	int error = (c->dry_run ? txg_refuse_trying : txg_refuse)(c->pool, c->failure);
	if (error)
		return error;
	c->part = clone_find(c->pool, c->name, &c->clone);
	if (!c->part)
		return refuse_none(c->pool, c->name, c->failure);
	return c->new_name ? check_new_name(c) : check_new_length(c);
}

/* Lets the lock go while others are at work. */
static int begin_change(struct changing *c)
{
	int error = check_change(c);
	while (!error && (c->part->snapshot_work || c->pool->naming[0])) {
		pthread_cond_wait(&c->pool->changed, &c->pool->lock);
		error = check_change(c);
	}
	if (!error && c->new_name && !c->dry_run)
		error = clone_end_promotion(c->part, c->failure);
	if (error || c->dry_run)
		return error;
	snprintf(c->pool->naming, sizeof(c->pool->naming), "%s", c->new_name ? c->new_name : c->name);
	c->part->snapshot_work = true;
	part_hold(c->part);
	return 0;
}

static void note_change(const struct changing *c)
{
	char was[WORDS_ROOM], is[WORDS_ROOM];
	if (c->new_name)
		history_note(c->pool, LCPFS_EVENT_RENAMED, LCPFS_ENGINE_FREE, c->part->id, 0, "clone %s, once %s",
			     c->new_name, c->name);
	else
		history_note(c->pool, LCPFS_EVENT_CHANGED, LCPFS_ENGINE_FREE, c->part->id, 0,
			     "clone %s: volume %s → %s", c->name,
			     words_blocks(was, (double)c->clone.volume_blocks),
			     words_blocks(is, (double)c->volume_blocks));
}

static int change(struct changing *c)
{
	pthread_mutex_lock(&c->pool->lock);
	int error = begin_change(c);
	pthread_mutex_unlock(&c->pool->lock);
	if (error || c->dry_run)
		return error;
	error = c->new_name ? store_clone_rename(c->part->store, c->name, c->new_name)
			    : store_clone_grow(c->part->store, c->name, c->volume_blocks);
	if (error)
		failure_set(c->failure, (enum lcpfs_error) - error, "clone %s was not %s: %s", c->name,
			    c->new_name ? "renamed" : "made longer", lcpfs_error_sentence(error));
	pthread_mutex_lock(&c->pool->lock);
	if (!error)
		note_change(c);
	c->pool->naming[0] = '\0';
	c->part->snapshot_work = false;
	part_drop(c->part);
	pthread_cond_broadcast(&c->pool->changed);
	pthread_mutex_unlock(&c->pool->lock);
	return error;
}

int lcpfs_clone_rename(struct lcpfs_pool *pool, const char *name, const char *new_name, bool dry_run,
		       struct lcpfs_failure *failure)
{
	struct changing c = {
		.pool = pool, .name = name, .new_name = new_name, .dry_run = dry_run, .failure = failure};
	return change(&c);
}

int lcpfs_clone_grow(struct lcpfs_pool *pool, const char *name, uint64_t volume_bytes, bool dry_run,
		     struct lcpfs_failure *failure)
{
	struct changing c = {.pool = pool,
			     .name = name,
			     .volume_blocks = size_divide_up(volume_bytes, BLOCK_SIZE),
			     .dry_run = dry_run,
			     .failure = failure};
	return change(&c);
}

/* -- destroying -- */

/* With the lock: it is there, and nobody has it open. */
static int check_unused(const struct lcpfs_pool *pool, const char *name, struct part **part,
			struct store_clone *found, struct lcpfs_failure *failure)
{
	*part = clone_find(pool, name, found);
	if (!*part)
		return refuse_none(pool, name, failure);
	uint32_t clients = volume_readers(*part, found->number),
		 snapshots = store_volume_snapshots((*part)->store, found->number, NULL, 0);
	if (!clients && snapshots)
		return failure_set(
			failure, LCPFS_E_NOT_EMPTY,
			"clone %s has %" PRIu32 " snapshot%s; destroy %s first, with lcpfs destroy POOL %s@%%",
			name, snapshots, snapshots == 1 ? "" : "s", snapshots == 1 ? "it" : "them", name);
	if (!clients)
		return 0;
	return failure_set(failure, LCPFS_E_BUSY,
			   "clone %s is in use by %" PRIu32 " client%s; disconnect %s first", name, clients,
			   clients == 1 ? "" : "s", clients == 1 ? "it" : "them");
}

static int begin_destroy(struct lcpfs_pool *pool, const char *name, struct part **part,
			 struct lcpfs_failure *failure)
{
	struct store_clone found;
	int error = check_unused(pool, name, part, &found, failure);
	while (!error && (*part)->snapshot_work) {
		pthread_cond_wait(&pool->changed, &pool->lock);
		error = check_unused(pool, name, part, &found, failure);
	}
	if (!error)
		error = clone_end_promotion(*part, failure);
	if (error)
		return error;
	(*part)->snapshot_work = true;
	(*part)->doomed = found.number;
	part_hold(*part);
	return 0;
}

/* What it had is given back by the background; in a pool without, before it returns. */
static void give_back(struct store *store)
{
	while (store_snapshots_pending(store) && store_step(store) > 0)
		;
}

static int destroy_one(struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure)
{
	struct part *part;
	pthread_mutex_lock(&pool->lock);
	int error = begin_destroy(pool, name, &part, failure);
	pthread_mutex_unlock(&pool->lock);
	if (error)
		return error;
	error = store_clone_destroy(part->store, name);
	if (error)
		failure_set(failure, (enum lcpfs_error) - error, "clone %s was not destroyed: %s", name,
			    lcpfs_error_sentence(error));
	else if (!pool->options.background)
		give_back(part->store);
	pthread_mutex_lock(&pool->lock);
	if (!error)
		history_note(pool, LCPFS_EVENT_DESTROYED, LCPFS_ENGINE_FREE, part->id, 0, "clone %s", name);
	part->doomed = 0;
	part->snapshot_work = false;
	part_drop(part);
	pthread_cond_broadcast(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

static int check_all(struct lcpfs_pool *pool, const char *const *names, size_t count, bool dry_run,
		     struct lcpfs_failure *failure)
{
	struct store_clone found;
	struct part *part;
	int error = (dry_run ? txg_refuse_trying : txg_refuse)(pool, failure);
	for (size_t i = 0; i < count && !error; i++) {
		error = check_unused(pool, names[i], &part, &found, failure);
		for (size_t j = 0; j < i && !error; j++) {
			if (strcmp(names[i], names[j]) == 0)
				error = failure_set(failure, LCPFS_E_INVALID, "%s is named twice", names[i]);
		}
	}
	return error;
}

int lcpfs_clone_destroy(struct lcpfs_pool *pool, const char *const *names, size_t count, bool dry_run,
			struct lcpfs_failure *failure)
{
	pthread_mutex_lock(&pool->lock);
	int error = check_all(pool, names, count, dry_run, failure);
	pthread_mutex_unlock(&pool->lock);
	for (size_t i = 0; i < count && !error && !dry_run; i++)
		error = destroy_one(pool, names[i], failure);
	return error;
}
