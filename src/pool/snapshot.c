/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of volumes, by name: NAME@SNAP. What they are is the store's matter (store/snap.h); here they are
 * taken in groups, kept from being destroyed while somebody reads them, and noted in the history.
 *
 * Who changes snapshots of a partition has it for itself (snapshot_work), so what was looked up stays so without
 * the lock. Only readers come and go meanwhile: they are asked again just before a snapshot is destroyed, and from
 * then on none comes (doomed).
 *
 * A group of several partitions is of one instant because no write or trim of them is under way while it is taken:
 * their gates are closed, those under way end, then come the snapshots, one after the other. One partition alone
 * needs no gate: its store does the same by itself.
 *
 * Before its first snapshot a partition's page says that it has some, so that a version that does not know them
 * leaves it alone. So it does before the first one of a clone.
 *
 * NAME is a partition's, or a clone's (struct volume_name): by the store's numbers for volumes, both are alike.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "base/words.h"
#include "pool/core.h"

enum { DRAIN_US = 20 };

struct target {
	struct part *part;
	struct volume_name of;
	const char *snapshot; /* its name, without the volume's */
};

struct work {
	struct lcpfs_pool *pool;
	struct lcpfs_snapshot_options options;
	struct target *targets;
	size_t count;
	const char *new_name; /* as targets' */
	char separator;       /* between the names: '@', or '#' of bookmarks */
	struct lcpfs_failure *failure;
};

/* -- names -- */

size_t snapshot_split(const char *name, const char **snapshot)
{
	const char *at = strchr(name, '@');
	*snapshot = at ? at + 1 : NULL;
	return at ? (size_t)(at - name) : strlen(name);
}

int snapshot_find_volume(const struct lcpfs_pool *pool, const char *name, size_t length, struct part **part,
			 struct volume_name *of, struct lcpfs_failure *failure)
{
	struct store_clone clone;
	*of = (struct volume_name){.number = STORE_OWN_VOLUME};
	if (length < sizeof(of->name))
		memcpy(of->name, name, length);
	*part = part_named(pool, of->name);
	if (*part)
		return part_refuse(*part, failure);
	*part = clone_find(pool, of->name, &clone);
	if (!*part)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no partition %.*s",
				   (int)MIN_OF(length, (size_t)200), name);
	if (clone.number == (*part)->doomed)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "clone %s is being destroyed", of->name);
	of->number = clone.number;
	return part_refuse(*part, failure);
}

void snapshot_name_volume(const struct part *part, uint32_t number, struct volume_name *of)
{
	of->number = number;
	if (number == STORE_OWN_VOLUME)
		memcpy(of->name, part->name, sizeof(of->name));
	else
		clone_print_name(part, number, of->name);
}

static int refuse_none(const struct volume_name *of, const char *snapshot, struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no snapshot %s@%.100s", of->name, snapshot);
}

static int refuse_in_use(const struct volume_name *of, const char *snapshot, uint32_t readers,
			 struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_BUSY,
			   "snapshot %s@%s is in use by %" PRIu32 " client%s; disconnect %s first", of->name,
			   snapshot, readers, readers == 1 ? "" : "s", readers == 1 ? "it" : "them");
}

static int refuse_held(const struct volume_name *of, const char *snapshot, struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_BUSY,
			   "snapshot %s@%s is held, so that nobody destroys it; release it first", of->name,
			   snapshot);
}

static int refuse_cloned(const struct part *part, const struct volume_name *of, const struct store_snapshot *n,
			 struct lcpfs_failure *failure)
{
	char clones[200];
	clone_print_some(part, n->number, clones, sizeof(clones));
	return clones[0]
		       ? failure_set(failure, LCPFS_E_CLONED, "snapshot %s@%s has clones (%s); destroy them first",
				     of->name, n->name, clones)
		       : 0;
}

int snapshot_find(const struct part *part, const struct volume_name *of, const char *snapshot,
		  struct store_snapshot *found, struct lcpfs_failure *failure)
{
	if (!store_volume_snapshot_find(part->store, of->number, snapshot, found))
		return refuse_none(of, snapshot, failure);
	if (found->number == part->doomed)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "snapshot %s@%s is being destroyed", of->name,
				   snapshot);
	return 0;
}

static bool is_there(const struct target *t, struct store_snapshot *found)
{
	return store_volume_snapshot_find(t->part->store, t->of.number, t->snapshot, found);
}

/* -- lists: with the lock -- */

unsigned snapshot_count(const struct part *part)
{
	return store_volume_snapshots(part->store, 0, NULL, 0);
}

/* All of a volume's (0: all of a partition, of its clones too); *list is the caller's to free. NULL: there are
 * none, or there is no memory. */
static unsigned list_all(const struct part *part, uint32_t volume, struct store_snapshot **list)
{
	unsigned room = store_volume_snapshots(part->store, volume, NULL, 0);
	*list = room ? calloc(room, sizeof(**list)) : NULL;
	unsigned count = *list ? store_volume_snapshots(part->store, volume, *list, room) : 0;
	return MIN_OF(count, room);
}

/* "a@x, a@y", and how many more there is no room for. */
static void print_names(const struct part *part, const struct store_snapshot *list, unsigned count, char *text,
			size_t room)
{
	enum { MORE = 24 }; /* " and 4294967295 more" */
	size_t length = 0;
	text[0] = '\0';
	for (unsigned i = 0; i < count; i++) {
		struct volume_name of;
		snapshot_name_volume(part, list[i].volume, &of);
		size_t need = 2 + strlen(of.name) + 1 + strlen(list[i].name);
		if (i && length + need + MORE > room) {
			snprintf(text + length, room - length, " and %u more", count - i);
			return;
		}
		length += (size_t)snprintf(text + length, room - length, "%s%s@%s", i ? ", " : "", of.name,
					   list[i].name);
		length = MIN_OF(length, room - 1);
	}
}

void snapshot_print_some(const struct part *part, char *text, size_t room)
{
	struct store_snapshot *list;
	unsigned count = list_all(part, 0, &list);
	print_names(part, list, count, text, room);
	free(list);
}

int snapshot_refuse_held(const struct part *part, struct lcpfs_failure *failure)
{
	struct store_snapshot *list;
	struct volume_name of;
	unsigned count = list_all(part, 0, &list);
	int error = 0;
	if (!list && snapshot_count(part))
		return failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	for (unsigned i = 0; i < count && !error; i++) {
		snapshot_name_volume(part, list[i].volume, &of);
		error = list[i].held ? refuse_held(&of, list[i].name, failure) : 0;
	}
	free(list);
	return error;
}

static void describe(const struct part *part, const struct store_snapshot *n, struct lcpfs_snapshot_info *info)
{
	*info = (struct lcpfs_snapshot_info){.created_s = n->created_s,
					     .volume_bytes = n->volume_blocks * BLOCK_SIZE,
					     .clients = volume_readers(part, n->number),
					     .held = n->held};
	struct volume_name of;
	snapshot_name_volume(part, n->volume, &of);
	snprintf(info->name, sizeof(info->name), "%s@%s", of.name, n->name);
	memcpy(info->partition, part->name, sizeof(info->partition));
	memcpy(info->snapshot, n->name, sizeof(info->snapshot));
}

static void list_part(const struct part *part, uint32_t volume, struct lcpfs_snapshot_info *infos, size_t room,
		      size_t *count)
{
	struct store_snapshot *list;
	unsigned found = list_all(part, volume, &list);
	for (unsigned i = 0; i < found; i++, ++*count) {
		if (*count < room)
			describe(part, &list[i], &infos[*count]);
	}
	free(list);
}

static const struct part *next_part(const struct lcpfs_pool *pool, uint32_t behind)
{
	const struct part *next = NULL;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		const struct part *part = pool->parts[slot];
		if (part && part->id > behind && (!next || part->id < next->id))
			next = part;
	}
	return next;
}

static int list(const struct lcpfs_pool *pool, const char *name, struct lcpfs_snapshot_info *infos, size_t room,
		size_t *count, struct lcpfs_failure *failure)
{
	struct volume_name of;
	struct part *only = NULL;
	int error = name ? snapshot_find_volume(pool, name, strlen(name), &only, &of, failure) : 0;
	if (only && !error)
		list_part(only, of.number, infos, room, count);
	for (const struct part *part = next_part(pool, 0); part && !name; part = next_part(pool, part->id)) {
		if (part->store)
			list_part(part, 0, infos, room, count);
	}
	return error;
}

int lcpfs_snapshot_list(struct lcpfs_pool *pool, const char *partition, struct lcpfs_snapshot_info *infos,
			size_t room, size_t *count, struct lcpfs_failure *failure)
{
	*count = 0;
	pthread_mutex_lock(&pool->lock);
	int error = list(pool, partition, infos, room, count, failure);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

/* The partition of NAME@SNAP, held, and its snapshot; with the lock. */
static int hold_named(const struct lcpfs_pool *pool, const char *name, struct part **part,
		      struct store_snapshot *found, struct lcpfs_failure *failure)
{
	const char *snapshot;
	struct volume_name of;
	size_t length = snapshot_split(name, &snapshot);
	if (!snapshot)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no snapshot %.200s", name);
	int error = snapshot_find_volume(pool, name, length, part, &of, failure);
	if (!error)
		error = snapshot_find(*part, &of, snapshot, found, failure);
	if (!error)
		part_hold(*part);
	return error;
}

int lcpfs_snapshot_sizes(struct lcpfs_pool *pool, const char *name, struct lcpfs_snapshot_sizes *sizes,
			 struct lcpfs_failure *failure)
{
	struct store_snapshot found;
	struct store_snapshot_sizes blocks;
	struct part *part = NULL;
	pthread_mutex_lock(&pool->lock);
	int error = hold_named(pool, name, &part, &found, failure);
	pthread_mutex_unlock(&pool->lock);
	if (error)
		return error;
	error = store_snapshot_sizes(part->store, found.number, &blocks);
	part_let_go(part);
	if (error)
		return failure_set(failure, (enum lcpfs_error) - error, "snapshot %.200s cannot be measured: %s",
				   name, lcpfs_error_sentence(error));
	*sizes = (struct lcpfs_snapshot_sizes){blocks.used, blocks.referenced, blocks.written};
	return 0;
}

/* The same partition, held; *numbers are of its snapshots, the caller's to free. With the lock. */
static int hold_with_all(const struct lcpfs_pool *pool, const char *name, struct part **part, uint32_t **numbers,
			 unsigned *count, struct lcpfs_failure *failure)
{
	struct store_snapshot *all = NULL;
	*part = part_named(pool, name);
	int error = *part ? part_refuse(*part, failure)
			  : failure_set(failure, LCPFS_E_NOT_FOUND, "there is no partition %.200s", name);
	*count = error ? 0 : list_all(*part, STORE_OWN_VOLUME, &all);
	*numbers = error ? NULL : calloc(*count + 1, sizeof(**numbers));
	for (unsigned i = 0; *numbers && i < *count; i++)
		(*numbers)[i] = all[i].number;
	free(all);
	if (!error && !*numbers)
		error = failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	if (!error)
		part_hold(*part);
	return error;
}

int lcpfs_snapshots_freed(struct lcpfs_pool *pool, const char *partition, uint64_t *blocks,
			  struct lcpfs_failure *failure)
{
	struct part *part;
	uint32_t *numbers;
	unsigned count;
	pthread_mutex_lock(&pool->lock);
	int error = hold_with_all(pool, partition, &part, &numbers, &count, failure);
	pthread_mutex_unlock(&pool->lock);
	if (error)
		return error;
	error = store_snapshots_freed(part->store, numbers, count, blocks);
	if (error)
		failure_set(failure, (enum lcpfs_error) - error, "the snapshots of %s cannot be measured: %s",
			    part->name, lcpfs_error_sentence(error));
	part_let_go(part);
	free(numbers);
	return error;
}

/* -- having partitions for oneself: with the lock -- */

static int resolve_one(struct work *w, const char *name, struct target *target)
{
	const char *at = strchr(name, w->separator);
	size_t length = at ? (size_t)(at - name) : 0;
	if (!at)
		return failure_set(w->failure, LCPFS_E_INVALID, "%.200s names no %s", name,
				   w->separator == '#' ? "bookmark: give NAME#MARK" : "snapshot: give NAME@SNAP");
	target->snapshot = at + 1;
	int error = snapshot_find_volume(w->pool, name, length, &target->part, &target->of, w->failure);
	if (error)
		return error;
	return w->options.dry_run ? receive_refuse(target->part, w->failure)
				  : receive_clear(target->part, w->failure);
}

static int resolve(struct work *w, const char *const *names)
{
	int error = 0;
	for (size_t i = 0; i < w->count && !error; i++)
		error = resolve_one(w, names[i], &w->targets[i]);
	return error;
}

static bool is_any_taken(const struct work *w)
{
	for (size_t i = 0; i < w->count; i++) {
		if (w->targets[i].part->snapshot_work)
			return true;
	}
	return false;
}

static int take_parts(struct work *w, const char *const *names)
{
	int error = (w->options.dry_run ? txg_refuse_trying : txg_refuse)(w->pool, w->failure);
	if (!error)
		error = resolve(w, names);
	while (!error && is_any_taken(w)) {
		pthread_cond_wait(&w->pool->changed, &w->pool->lock);
		error = resolve(w, names);
	}
	for (size_t i = 0; i < w->count && !error; i++) {
		w->targets[i].part->snapshot_work = true;
		part_hold(w->targets[i].part);
	}
	return error;
}

static void let_parts(struct work *w)
{
	for (size_t i = 0; i < w->count; i++) {
		w->targets[i].part->snapshot_work = false;
		part_drop(w->targets[i].part);
	}
	pthread_cond_broadcast(&w->pool->changed);
}

/* Has a target before it the same partition? */
static bool is_repeated(const struct work *w, size_t i)
{
	for (size_t j = 0; j < i; j++) {
		if (w->targets[j].part == w->targets[i].part)
			return true;
	}
	return false;
}

static int check_twice(const struct work *w)
{
	for (size_t i = 0; i < w->count; i++) {
		const struct target *a = &w->targets[i];
		for (size_t j = 0; j < i; j++) {
			const struct target *b = &w->targets[j];
			if (a->part == b->part && a->of.number == b->of.number &&
			    strcmp(a->snapshot, b->snapshot) == 0)
				return failure_set(w->failure, LCPFS_E_INVALID, "%s@%s is named twice", a->of.name,
						   a->snapshot);
		}
	}
	return 0;
}

/* The first `count` targets, an event for each partition. */
static void note(struct work *w, enum lcpfs_event_kind kind, size_t count)
{
	struct store_snapshot *names = calloc(count + 1, sizeof(*names));
	char text[300];
	for (size_t i = 0; i < count && names; i++) {
		const struct part *part = w->targets[i].part;
		unsigned of_it = 0;
		if (is_repeated(w, i))
			continue;
		for (size_t j = i; j < count; j++) {
			if (w->targets[j].part != part)
				continue;
			names[of_it].volume = w->targets[j].of.number;
			snprintf(names[of_it++].name, sizeof(names->name), "%s", w->targets[j].snapshot);
		}
		print_names(part, names, of_it, text, sizeof(text));
		history_note(w->pool, kind, LCPFS_ENGINE_FREE, part->id, 0, "%s", text);
	}
	free(names);
}

typedef int act(struct work *w);

/* -- those that the schedule finds -- */

static bool goes_on_with_pool(void *context, uint64_t done, uint64_t total)
{
	struct lcpfs_pool *pool = context;
	(void)done;
	(void)total;
	pthread_mutex_lock(&pool->lock);
	bool stopping = pool->stopping;
	pthread_mutex_unlock(&pool->lock);
	return !stopping;
}

/* With the lock. 0 and no targets: there is nothing to do. */
static int take_found(struct work *w, struct part *part, const struct snapshot_names *found)
{
	if (!found->count)
		return 0;
	if (part->removing)
		return -LCPFS_E_STOPPED;
	if (part->snapshot_work && !part->receiving)
		return -LCPFS_E_AGAIN;
	int error = txg_refuse(w->pool, w->failure);
	if (!error)
		error = receive_clear(part, w->failure);
	if (error)
		return error;
	for (; w->count < found->count; w->count++) {
		struct target *t = &w->targets[w->count];
		*t = (struct target){.part = part, .snapshot = found->list[w->count]};
		snapshot_name_volume(part, STORE_OWN_VOLUME, &t->of);
		part_hold(part);
	}
	part->snapshot_work = true;
	return 0;
}

static int run_found(struct part *part, snapshot_find_fn *find, uint64_t now_s, struct snapshot_names *found,
		     act *begin, act *go, struct lcpfs_failure *failure)
{
	struct target targets[SNAPSHOT_NAMES];
	struct lcpfs_pool *pool = part->pool;
	struct work w = {.pool = pool,
			 .targets = targets,
			 .separator = '@',
			 .options = {.progress = goes_on_with_pool, .context = pool},
			 .failure = failure};
	found->count = 0;
	pthread_mutex_lock(&pool->lock);
	find(part, now_s, found);
	int error = take_found(&w, part, found);
	if (!error && w.count)
		error = begin(&w);
	pthread_mutex_unlock(&pool->lock);
	if (!error && w.count)
		error = go(&w);
	pthread_mutex_lock(&pool->lock);
	if (w.count)
		let_parts(&w);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

/* `begin` with the lock, `go` without. */
static int run(struct work *w, const char *const *names, act *begin, act *go)
{
	w->targets = calloc(w->count + 1, sizeof(*w->targets));
	if (!w->targets)
		return failure_set(w->failure, LCPFS_E_NOMEM, "out of memory");
	pthread_mutex_lock(&w->pool->lock);
	int error = take_parts(w, names);
	bool taken = !error;
	if (!error)
		error = begin(w);
	pthread_mutex_unlock(&w->pool->lock);
	if (!error)
		error = go(w);
	pthread_mutex_lock(&w->pool->lock);
	if (taken)
		let_parts(w);
	pthread_mutex_unlock(&w->pool->lock);
	free(w->targets);
	return error;
}

/* -- the gate -- */

bool snapshot_try_enter(struct part *part)
{
	atomic_fetch_add(&part->changing, 1);
	if (!atomic_load(&part->gated))
		return true;
	atomic_fetch_sub(&part->changing, 1);
	return false;
}

void snapshot_enter(struct part *part)
{
	while (!snapshot_try_enter(part)) {
		pthread_mutex_lock(&part->pool->lock);
		while (atomic_load(&part->gated))
			pthread_cond_wait(&part->pool->changed, &part->pool->lock);
		pthread_mutex_unlock(&part->pool->lock);
	}
}

void snapshot_leave(struct part *part)
{
	atomic_fetch_sub(&part->changing, 1);
}

static void close_gates(struct work *w)
{
	struct timespec pause = {.tv_nsec = DRAIN_US * 1000};
	for (size_t i = 0; i < w->count; i++)
		atomic_store(&w->targets[i].part->gated, true);
	for (size_t i = 0; i < w->count; i++) {
		while (atomic_load(&w->targets[i].part->changing))
			nanosleep(&pause, NULL);
	}
}

static void open_gates(struct work *w)
{
	for (size_t i = 0; i < w->count; i++)
		atomic_store(&w->targets[i].part->gated, false);
	pthread_mutex_lock(&w->pool->lock);
	pthread_cond_broadcast(&w->pool->changed);
	pthread_mutex_unlock(&w->pool->lock);
}

/* -- taking -- */

static int check_new(const struct work *w, const struct target *t)
{
	struct store_snapshot found;
	if (!store_snapshot_is_name(t->snapshot))
		return failure_set(w->failure, LCPFS_E_INVALID,
				   "%s@%.100s: a snapshot's name is 1 to 63 of A-Z a-z 0-9 . _ - :", t->of.name,
				   t->snapshot);
	if (is_there(t, &found))
		return failure_set(w->failure, LCPFS_E_EXISTS, "snapshot %s@%s exists already", t->of.name,
				   t->snapshot);
	return 0;
}

/* All pages that do not say it yet, in one transaction. What a clone gets is of a line of its own. */
static int mark_pages(struct work *w, uint64_t bit)
{
	struct txg txg;
	txg_begin(w->pool, &txg);
	for (size_t i = 0; i < w->count; i++) {
		uint32_t number = layout_partition_page(&w->pool->layout, w->targets[i].part->slot);
		uint64_t bits = bit | (w->targets[i].of.number == STORE_OWN_VOLUME ? 0u : PARTITION_LINES);
		const struct fmt_partition *now = txg_current(w->pool, number);
		if ((le64_get(now->features.incompatible) & bits) == bits)
			continue;
		struct fmt_partition *page = txg_change(&txg, number);
		page->features.incompatible = le64_of(le64_get(page->features.incompatible) | bits);
	}
	if (txg.count || txg.error)
		return txg_commit(&txg, w->failure);
	txg_abort(&txg);
	return 0;
}

static int begin_create(struct work *w)
{
	int error = 0;
	for (size_t i = 0; i < w->count && !error; i++)
		error = check_new(w, &w->targets[i]);
	if (!error)
		error = check_twice(w);
	return error || w->options.dry_run ? error : mark_pages(w, PARTITION_SNAPSHOTS);
}

/* What was taken before target `failed`, and that one, where it is there. */
static int undo_create(struct work *w, size_t failed, int why)
{
	const struct target *t = &w->targets[failed];
	size_t left = 0;
	for (size_t i = 0; i <= failed; i++) {
		const struct target *taken = &w->targets[i];
		int error =
			store_volume_snapshot_destroy_soon(taken->part->store, taken->of.number, taken->snapshot);
		if (!error)
			error = store_flush(taken->part->store, NULL);
		left += error && error != -LCPFS_E_NOT_FOUND;
	}
	return failure_set(w->failure, (enum lcpfs_error) - why, "snapshot %s@%s was not taken: %s%s", t->of.name,
			   t->snapshot, lcpfs_error_sentence(why),
			   left ? "; some of those named before it were, and stay" : "");
}

static int go_create(struct work *w)
{
	uint64_t now_s = w->pool->clock.wall_s(w->pool->clock.context);
	bool group = false;
	size_t done = 0;
	int error = 0;
	if (w->options.dry_run)
		return 0;
	for (size_t i = 1; i < w->count; i++)
		group |= w->targets[i].part != w->targets[0].part;
	if (group)
		close_gates(w);
	while (done < w->count && !error) {
		const struct target *t = &w->targets[done];
		error = store_volume_snapshot(t->part->store, t->of.number, t->snapshot, now_s,
					      guid_new(t->part, t->snapshot));
		done += !error;
	}
	if (group)
		open_gates(w);
	if (error)
		return undo_create(w, done, error);
	pthread_mutex_lock(&w->pool->lock);
	note(w, LCPFS_EVENT_SNAPSHOT, w->count);
	pthread_mutex_unlock(&w->pool->lock);
	return 0;
}

static struct work work_of(struct lcpfs_pool *pool, size_t count, const struct lcpfs_snapshot_options *options,
			   struct lcpfs_failure *failure)
{
	struct work w = {.pool = pool, .count = count, .separator = '@', .failure = failure};
	if (options)
		w.options = *options;
	return w;
}

int lcpfs_snapshot_create(struct lcpfs_pool *pool, const char *const *names, size_t count,
			  const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure)
{
	struct work w = work_of(pool, count, options, failure);
	return run(&w, names, begin_create, go_create);
}

int snapshot_create_found(struct part *part, snapshot_find_fn *find, uint64_t now_s, struct snapshot_names *found,
			  struct lcpfs_failure *failure)
{
	return run_found(part, find, now_s, found, begin_create, go_create, failure);
}

/* -- destroying -- */

static bool goes_on(const struct work *w, size_t done, size_t total)
{
	return !w->options.progress || w->options.progress(w->options.context, done, total);
}

/* With the lock: it is there, nobody has it open, and nobody holds it. */
static int check_unused(const struct work *w, const struct target *t, struct store_snapshot *found)
{
	if (!is_there(t, found))
		return refuse_none(&t->of, t->snapshot, w->failure);
	if (found->held)
		return refuse_held(&t->of, t->snapshot, w->failure);
	uint32_t readers = volume_readers(t->part, found->number);
	return readers ? refuse_in_use(&t->of, t->snapshot, readers, w->failure)
		       : refuse_cloned(t->part, &t->of, found, w->failure);
}

static int begin_destroy(struct work *w)
{
	struct store_snapshot found;
	int error = 0;
	for (size_t i = 0; i < w->count && !error; i++)
		error = check_unused(w, &w->targets[i], &found);
	return error ? error : check_twice(w);
}

static int destroy_one(struct work *w, const struct target *t)
{
	struct part *part = t->part;
	struct store_snapshot found;
	pthread_mutex_lock(&w->pool->lock);
	int error = check_unused(w, t, &found);
	part->doomed = error ? 0 : found.number;
	pthread_mutex_unlock(&w->pool->lock);
	if (error)
		return error;
	error = store_volume_snapshot_destroy_soon(part->store, t->of.number, t->snapshot);
	pthread_mutex_lock(&w->pool->lock);
	part->doomed = 0;
	pthread_mutex_unlock(&w->pool->lock);
	return error ? failure_set(w->failure, (enum lcpfs_error) - error, "snapshot %s@%s was not destroyed: %s",
				   t->of.name, t->snapshot, lcpfs_error_sentence(error))
		     : 0;
}

/* Nobody else gives back what they had, in a pool without threads of its own. */
static void give_back(struct work *w)
{
	if (w->pool->options.background)
		return;
	for (size_t i = 0; i < w->count; i++) {
		struct store *store = w->targets[i].part->store;
		while (store_snapshots_pending(store) && goes_on(w, w->count, w->count) && store_step(store) > 0)
			;
	}
}

/* The first `count` targets, a flush for each partition. */
static int make_durable(const struct work *w, size_t count, struct lcpfs_failure *failure)
{
	int error = 0;
	for (size_t i = 0; i < count && !error; i++) {
		if (!is_repeated(w, i))
			error = store_flush(w->targets[i].part->store, failure);
	}
	return error;
}

static int destroy_all(struct work *w)
{
	size_t done = 0;
	int error = 0;
	while (done < w->count && !error) {
		error = goes_on(w, done, w->count)
				? destroy_one(w, &w->targets[done])
				: failure_set(w->failure, LCPFS_E_STOPPED, "given up: %zu of %zu were destroyed",
					      done, w->count);
		done += !error;
	}
	int flush_error = make_durable(w, done, error ? NULL : w->failure);
	error = error ? error : flush_error;
	pthread_mutex_lock(&w->pool->lock);
	note(w, LCPFS_EVENT_DESTROYED, done);
	pthread_mutex_unlock(&w->pool->lock);
	return error;
}

/* Those of the targets that are of one partition, whose first is target i. */
static int count_freed(const struct work *w, size_t i, uint64_t *blocks)
{
	struct store *store = w->targets[i].part->store;
	uint32_t *numbers = calloc(w->count, sizeof(*numbers));
	size_t count = 0;
	for (size_t j = i; j < w->count && numbers; j++) {
		struct store_snapshot found;
		if (w->targets[j].part->store == store && is_there(&w->targets[j], &found))
			numbers[count++] = found.number;
	}
	int error = numbers ? store_snapshots_freed(store, numbers, count, blocks) : -LCPFS_E_NOMEM;
	free(numbers);
	return error;
}

static int count_all_freed(const struct work *w)
{
	*w->options.freed_blocks = 0;
	for (size_t i = 0; i < w->count; i++) {
		uint64_t blocks;
		if (is_repeated(w, i))
			continue;
		int error = count_freed(w, i, &blocks);
		if (error)
			return failure_set(w->failure, (enum lcpfs_error) - error,
					   "what comes free in %s cannot be said: %s", w->targets[i].part->name,
					   lcpfs_error_sentence(error));
		*w->options.freed_blocks += blocks;
	}
	return 0;
}

static int go_destroy(struct work *w)
{
	if (w->options.dry_run)
		return w->options.freed_blocks ? count_all_freed(w) : 0;
	int error = destroy_all(w);
	give_back(w);
	return error;
}

int lcpfs_snapshot_destroy(struct lcpfs_pool *pool, const char *const *names, size_t count,
			   const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure)
{
	struct work w = work_of(pool, count, options, failure);
	return run(&w, names, begin_destroy, go_destroy);
}

int snapshot_destroy_found(struct part *part, snapshot_find_fn *find, uint64_t now_s, struct snapshot_names *found,
			   struct lcpfs_failure *failure)
{
	return run_found(part, find, now_s, found, begin_destroy, go_destroy, failure);
}

/* -- holding -- */

static int begin_hold(struct work *w)
{
	struct store_snapshot found;
	for (size_t i = 0; i < w->count; i++) {
		const struct target *t = &w->targets[i];
		if (!is_there(t, &found))
			return refuse_none(&t->of, t->snapshot, w->failure);
	}
	return check_twice(w);
}

static int mark_all(struct work *w, bool held)
{
	size_t done = 0;
	int error = 0;
	for (; done < w->count && !error && !w->options.dry_run; done += !error) {
		const struct target *t = &w->targets[done];
		error = store_volume_snapshot_hold(t->part->store, t->of.number, t->snapshot, held);
		if (error)
			failure_set(w->failure, (enum lcpfs_error) - error, "snapshot %s@%s was not %s: %s",
				    t->of.name, t->snapshot, held ? "held" : "released",
				    lcpfs_error_sentence(error));
	}
	pthread_mutex_lock(&w->pool->lock);
	note(w, held ? LCPFS_EVENT_HELD : LCPFS_EVENT_RELEASED, done);
	pthread_mutex_unlock(&w->pool->lock);
	return error;
}

static int go_hold(struct work *w)
{
	return mark_all(w, true);
}

static int go_release(struct work *w)
{
	return mark_all(w, false);
}

int lcpfs_snapshot_hold(struct lcpfs_pool *pool, const char *const *names, size_t count,
			const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure)
{
	struct work w = work_of(pool, count, options, failure);
	return run(&w, names, begin_hold, go_hold);
}

int lcpfs_snapshot_release(struct lcpfs_pool *pool, const char *const *names, size_t count,
			   const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure)
{
	struct work w = work_of(pool, count, options, failure);
	return run(&w, names, begin_hold, go_release);
}

/* -- renaming -- */

/* "NAME@NEW" of the same partition, "@NEW" or "NEW"; or with '#', where it is a bookmark's. */
static int take_new_name(struct work *w, char separator)
{
	const char *name = w->targets[0].of.name, *at = strchr(w->new_name, separator);
	size_t length = at ? (size_t)(at - w->new_name) : 0;
	if (length && (length != strlen(name) || strncmp(w->new_name, name, length) != 0))
		return failure_set(w->failure, LCPFS_E_INVALID,
				   "%.200s: a %s of %s stays one of %s; give %s%cNEW, or NEW", w->new_name,
				   separator == '#' ? "bookmark" : "snapshot", name, name, name, separator);
	w->new_name = at ? at + 1 : w->new_name;
	return 0;
}

static int begin_rename(struct work *w)
{
	const struct target *t = &w->targets[0];
	struct store_snapshot found;
	if (!is_there(t, &found))
		return refuse_none(&t->of, t->snapshot, w->failure);
	uint32_t readers = volume_readers(t->part, found.number);
	if (readers)
		return refuse_in_use(&t->of, t->snapshot, readers, w->failure);
	int error = take_new_name(w, '@');
	return error ? error : check_new(w, &(struct target){t->part, t->of, w->new_name});
}

static int go_rename(struct work *w)
{
	const struct target *t = &w->targets[0];
	if (w->options.dry_run)
		return 0;
	int error = store_volume_snapshot_rename(t->part->store, t->of.number, t->snapshot, w->new_name);
	if (error)
		return failure_set(w->failure, (enum lcpfs_error) - error, "snapshot %s@%s was not renamed: %s",
				   t->of.name, t->snapshot, lcpfs_error_sentence(error));
	pthread_mutex_lock(&w->pool->lock);
	history_note(w->pool, LCPFS_EVENT_RENAMED, LCPFS_ENGINE_FREE, t->part->id, 0, "%s@%s, once %s@%s",
		     t->of.name, w->new_name, t->of.name, t->snapshot);
	pthread_mutex_unlock(&w->pool->lock);
	return 0;
}

int lcpfs_snapshot_rename(struct lcpfs_pool *pool, const char *name, const char *new_name,
			  const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure)
{
	struct work w = work_of(pool, 1, options, failure);
	w.new_name = new_name;
	return run(&w, &name, begin_rename, go_rename);
}

/* -- bookmarks -- */

static int begin_bookmark(struct work *w)
{
	const struct target *t = &w->targets[0];
	struct store_snapshot found;
	if (!is_there(t, &found))
		return refuse_none(&t->of, t->snapshot, w->failure);
	int error = take_new_name(w, '#');
	if (!error && !store_snapshot_is_name(w->new_name))
		error = failure_set(w->failure, LCPFS_E_INVALID,
				    "%s#%.100s: a bookmark's name is 1 to 63 of A-Z a-z 0-9 . _ - :", t->of.name,
				    w->new_name);
	if (!error && store_volume_bookmark_find(t->part->store, t->of.number, w->new_name, &found))
		error = failure_set(w->failure, LCPFS_E_EXISTS, "bookmark %s#%s exists already", t->of.name,
				    w->new_name);
	return error || w->options.dry_run ? error : mark_pages(w, PARTITION_BOOKMARKS);
}

static int go_bookmark(struct work *w)
{
	const struct target *t = &w->targets[0];
	if (w->options.dry_run)
		return 0;
	int error = store_volume_bookmark(t->part->store, t->of.number, t->snapshot, w->new_name);
	if (error)
		return failure_set(w->failure, (enum lcpfs_error) - error, "bookmark %s#%s was not made: %s",
				   t->of.name, w->new_name, lcpfs_error_sentence(error));
	pthread_mutex_lock(&w->pool->lock);
	history_note(w->pool, LCPFS_EVENT_BOOKMARK, LCPFS_ENGINE_FREE, t->part->id, 0, "%s#%s of %s@%s",
		     t->of.name, w->new_name, t->of.name, t->snapshot);
	pthread_mutex_unlock(&w->pool->lock);
	return 0;
}

int lcpfs_bookmark_create(struct lcpfs_pool *pool, const char *snapshot, const char *name,
			  const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure)
{
	struct work w = work_of(pool, 1, options, failure);
	w.new_name = name;
	return run(&w, &snapshot, begin_bookmark, go_bookmark);
}

static int begin_forget(struct work *w)
{
	const struct target *t = &w->targets[0];
	struct store_snapshot found;
	if (store_volume_bookmark_find(t->part->store, t->of.number, t->snapshot, &found))
		return 0;
	return failure_set(w->failure, LCPFS_E_NOT_FOUND, "there is no bookmark %s#%.100s", t->of.name,
			   t->snapshot);
}

static int go_forget(struct work *w)
{
	const struct target *t = &w->targets[0];
	if (w->options.dry_run)
		return 0;
	int error = store_volume_bookmark_destroy(t->part->store, t->of.number, t->snapshot);
	if (error)
		return failure_set(w->failure, (enum lcpfs_error) - error, "bookmark %s#%s was not destroyed: %s",
				   t->of.name, t->snapshot, lcpfs_error_sentence(error));
	pthread_mutex_lock(&w->pool->lock);
	history_note(w->pool, LCPFS_EVENT_DESTROYED, LCPFS_ENGINE_FREE, t->part->id, 0, "%s#%s", t->of.name,
		     t->snapshot);
	pthread_mutex_unlock(&w->pool->lock);
	return 0;
}

int lcpfs_bookmark_destroy(struct lcpfs_pool *pool, const char *name, const struct lcpfs_snapshot_options *options,
			   struct lcpfs_failure *failure)
{
	struct work w = work_of(pool, 1, options, failure);
	w.separator = '#';
	return run(&w, &name, begin_forget, go_forget);
}

static void list_marks(const struct part *part, uint32_t volume, struct lcpfs_bookmark_info *infos, size_t room,
		       size_t *count)
{
	unsigned all = store_volume_bookmarks(part->store, volume, NULL, 0);
	struct store_snapshot *list = calloc(all + 1, sizeof(*list));
	struct volume_name of;
	all = list ? MIN_OF(store_volume_bookmarks(part->store, volume, list, all), all) : 0;
	for (unsigned i = 0; i < all; i++, ++*count) {
		if (*count >= room)
			continue;
		struct lcpfs_bookmark_info *info = &infos[*count];
		*info = (struct lcpfs_bookmark_info){.created_s = list[i].created_s,
						     .guid = guid_of(part, &list[i])};
		snapshot_name_volume(part, list[i].volume, &of);
		snprintf(info->name, sizeof(info->name), "%s#%s", of.name, list[i].name);
		memcpy(info->partition, part->name, sizeof(info->partition));
		memcpy(info->bookmark, list[i].name, sizeof(info->bookmark));
	}
	free(list);
}

int lcpfs_bookmark_list(struct lcpfs_pool *pool, const char *partition, struct lcpfs_bookmark_info *infos,
			size_t room, size_t *count, struct lcpfs_failure *failure)
{
	struct volume_name of = {.number = 0};
	struct part *only = NULL;
	int error = 0;
	*count = 0;
	pthread_mutex_lock(&pool->lock);
	if (partition)
		error = snapshot_find_volume(pool, partition, strlen(partition), &only, &of, failure);
	for (const struct part *part = next_part(pool, 0); part && !error; part = next_part(pool, part->id)) {
		if (part->store && (!only || part == only))
			list_marks(part, of.number, infos, room, count);
	}
	pthread_mutex_unlock(&pool->lock);
	return error;
}

/* -- rolling back: targets[0] is what to, behind it are the younger ones, the youngest first -- */

static int refuse_younger(const struct work *w, const struct store_snapshot *younger, unsigned count)
{
	char names[250];
	print_names(w->targets[0].part, younger, count, names, sizeof(names));
	return failure_set(w->failure, LCPFS_E_EXISTS, "%s %s younger than %s@%s; --force destroys %s first",
			   names, count == 1 ? "is" : "are", w->targets[0].of.name, w->targets[0].snapshot,
			   count == 1 ? "it" : "them");
}

static int check_younger(const struct work *w, const struct store_snapshot *younger, unsigned count)
{
	const struct part *part = w->targets[0].part;
	const struct volume_name *of = &w->targets[0].of;
	if (count && !w->options.force)
		return refuse_younger(w, younger, count);
	for (unsigned i = 0; i < count; i++) {
		uint32_t readers = volume_readers(part, younger[i].number);
		if (younger[i].held)
			return refuse_held(of, younger[i].name, w->failure);
		if (readers)
			return refuse_in_use(of, younger[i].name, readers, w->failure);
		int error = refuse_cloned(part, of, &younger[i], w->failure);
		if (error)
			return error;
	}
	return 0;
}

bool snapshot_last_bookmark(const struct part *part, uint32_t volume, struct store_snapshot *last)
{
	unsigned all = store_volume_bookmarks(part->store, volume, NULL, 0);
	struct store_snapshot *list = calloc(all + 1, sizeof(*list));
	all = list ? MIN_OF(store_volume_bookmarks(part->store, volume, list, all), all) : 0;
	if (all)
		*last = list[all - 1];
	free(list);
	return all;
}

/* Bookmarks of what is given up go, too. */
static int check_younger_marks(const struct work *w, const struct store_snapshot *to)
{
	const struct target *t = &w->targets[0];
	struct store_snapshot last;
	if (w->options.force || !snapshot_last_bookmark(t->part, t->of.number, &last) || last.number <= to->number)
		return 0;
	return failure_set(w->failure, LCPFS_E_EXISTS,
			   "bookmark %s#%s is younger than %s@%s; --force destroys those that are", t->of.name,
			   last.name, t->of.name, to->name);
}

static int check_no_writer(const struct work *w)
{
	const struct part *part = w->targets[0].part;
	const struct volume_name *of = &w->targets[0].of;
	bool own = of->number == STORE_OWN_VOLUME;
	uint32_t clients = own ? part->clients - part->readers : volume_readers(part, of->number);
	if (part->closed_to_clients)
		return failure_set(w->failure, LCPFS_E_BUSY, "partition %s is being changed; try again",
				   part->name);
	if (!clients)
		return 0;
	return failure_set(w->failure, LCPFS_E_BUSY,
			   "%s %s is in use by %" PRIu32 " client%s, who would see it change; disconnect %s first",
			   own ? "partition" : "clone", of->name, clients, clients == 1 ? "" : "s",
			   clients == 1 ? "it" : "them");
}

static int begin_rollback(struct work *w)
{
	struct target *t = &w->targets[0];
	struct store_snapshot to, *all;
	if (!is_there(t, &to))
		return refuse_none(&t->of, t->snapshot, w->failure);
	int error = check_no_writer(w);
	if (error)
		return error;
	unsigned count = list_all(t->part, t->of.number, &all), older = 0;
	while (older < count && all[older].number <= to.number)
		older++;
	error = count ? check_younger(w, all + older, count - older)
		      : failure_set(w->failure, LCPFS_E_NOMEM, "out of memory");
	free(all);
	if (!error)
		error = check_younger_marks(w, &to);
	if (!error && !w->options.dry_run)
		t->part->closed_to_clients = true;
	return error;
}

static uint64_t volume_end(const struct target *t)
{
	struct store_clone list[STORE_CLONES_MAX];
	unsigned count = store_clones(t->part->store, list, STORE_CLONES_MAX);
	for (unsigned i = 0; i < count && t->of.number != STORE_OWN_VOLUME; i++) {
		if (list[i].number == t->of.number)
			return list[i].volume_blocks * BLOCK_SIZE;
	}
	return t->part->volume_bytes;
}

/* Without the lock. Beyond the end of a volume there have to be none: they would come back when it gets longer. */
static int check_beyond(const struct work *w)
{
	const struct target *t = &w->targets[0];
	static const uint8_t zeros[BLOCK_SIZE];
	uint8_t cut[BLOCK_SIZE];
	struct store_snapshot to;
	bool data = false;
	int error = 0;
	if (!is_there(t, &to))
		return refuse_none(&t->of, t->snapshot, w->failure);
	uint64_t end = volume_end(t), at = size_divide_up(end, BLOCK_SIZE) * BLOCK_SIZE;
	if (at > end && at <= to.volume_blocks * BLOCK_SIZE) {
		error = store_snapshot_read(t->part->store, to.number, end, cut, at - end, w->failure);
		data = !error && memcmp(cut, zeros, at - end) != 0;
	}
	for (uint64_t last = to.volume_blocks * BLOCK_SIZE; !error && !data && at < last;) {
		error = store_snapshot_extent(t->part->store, to.number, at, last - at, &data, &at);
		if (error)
			error = failure_set(w->failure, (enum lcpfs_error) - error,
					    "snapshot %s@%s cannot be read: %s", t->of.name, t->snapshot,
					    lcpfs_error_sentence(error));
	}
	if (error || !data)
		return error;
	return failure_set(
		w->failure, LCPFS_E_TOO_SMALL,
		"snapshot %s@%s has data beyond the end that the volume of %s has now; make it longer first, "
		"with lcpfs set",
		t->of.name, t->snapshot, t->of.name);
}

/* The same of the younger ones, as a list of targets behind the first. */
static int destroy_younger(struct work *w)
{
	struct target *t = &w->targets[0];
	struct store_snapshot *all, to;
	int error = 0;
	pthread_mutex_lock(&w->pool->lock);
	unsigned count = list_all(t->part, t->of.number, &all);
	pthread_mutex_unlock(&w->pool->lock);
	if (!is_there(t, &to) || !count) {
		free(all);
		return refuse_none(&t->of, t->snapshot, w->failure);
	}
	struct target *younger = calloc(count, sizeof(*younger));
	struct work w2 = *w;
	w2.targets = younger;
	w2.count = 0;
	for (unsigned i = count; younger && i-- > 0 && all[i].number > to.number;)
		younger[w2.count++] = (struct target){t->part, t->of, all[i].name};
	error = younger ? destroy_all(&w2) : failure_set(w->failure, LCPFS_E_NOMEM, "out of memory");
	free(younger);
	free(all);
	return error;
}

static int go_rollback(struct work *w)
{
	struct target *t = &w->targets[0];
	int error = check_beyond(w);
	if (w->options.dry_run)
		return error;
	if (!error)
		error = destroy_younger(w);
	if (!error) {
		error = store_volume_rollback(t->part->store, t->of.number, t->snapshot);
		if (error)
			failure_set(w->failure, (enum lcpfs_error) - error, "%s %s was not rolled back: %s",
				    t->of.number == STORE_OWN_VOLUME ? "partition" : "clone", t->of.name,
				    lcpfs_error_sentence(error));
	}
	pthread_mutex_lock(&w->pool->lock);
	if (!error)
		history_note(w->pool, LCPFS_EVENT_ROLLED_BACK, LCPFS_ENGINE_FREE, t->part->id, 0, "%s to %s@%s",
			     t->of.name, t->of.name, t->snapshot);
	t->part->closed_to_clients = false;
	pthread_mutex_unlock(&w->pool->lock);
	give_back(w);
	return error;
}

int lcpfs_snapshot_rollback(struct lcpfs_pool *pool, const char *name,
			    const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure)
{
	struct work w = work_of(pool, 1, options, failure);
	return run(&w, &name, begin_rollback, go_rollback);
}
