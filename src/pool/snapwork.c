/* SPDX-License-Identifier: Apache-2.0 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/snapwork.h"

bool snapwork_find(const struct snapwork_target *t, struct store_snapshot *found)
{
	return store_volume_snapshot_find(t->part->store, t->of.number, t->snapshot, found);
}

int snapwork_refuse_in_use(const struct volume_name *of, const char *snapshot, uint32_t readers,
			   struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_BUSY,
			   "snapshot %s@%s is in use by %" PRIu32 " client%s; disconnect %s first", of->name,
			   snapshot, readers, readers == 1 ? "" : "s", readers == 1 ? "it" : "them");
}

int snapwork_refuse_cloned(const struct part *part, const struct volume_name *of, const struct store_snapshot *n,
			   struct lcpfs_failure *failure)
{
	char clones[200];
	clone_print_some(part, n->number, clones, sizeof(clones));
	return clones[0]
		       ? failure_set(failure, LCPFS_E_CLONED, "snapshot %s@%s has clones (%s); destroy them first",
				     of->name, n->name, clones)
		       : 0;
}

int snapwork_check_new(const struct snapwork *w, const struct snapwork_target *t)
{
	struct store_snapshot found;
	if (!store_snapshot_is_name(t->snapshot))
		return failure_set(w->failure, LCPFS_E_INVALID,
				   "%s@%.100s: a snapshot's name is 1 to 63 of A-Z a-z 0-9 . _ - :", t->of.name,
				   t->snapshot);
	if (snapwork_find(t, &found))
		return failure_set(w->failure, LCPFS_E_EXISTS, "snapshot %s@%s exists already", t->of.name,
				   t->snapshot);
	return 0;
}

int snapwork_mark_pages(struct snapwork *w, uint64_t bit)
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

int snapwork_new_name(struct snapwork *w, char separator)
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

/* -- having partitions for oneself: with the lock -- */

static int resolve_one(struct snapwork *w, const char *name, struct snapwork_target *target)
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

static int resolve(struct snapwork *w, const char *const *names)
{
	int error = 0;
	for (size_t i = 0; i < w->count && !error; i++)
		error = resolve_one(w, names[i], &w->targets[i]);
	return error;
}

static bool is_any_taken(const struct snapwork *w)
{
	for (size_t i = 0; i < w->count; i++) {
		if (w->targets[i].part->snapshot_work)
			return true;
	}
	return false;
}

static int take_parts(struct snapwork *w, const char *const *names)
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

static void let_parts(struct snapwork *w)
{
	for (size_t i = 0; i < w->count; i++) {
		w->targets[i].part->snapshot_work = false;
		part_drop(w->targets[i].part);
	}
	pthread_cond_broadcast(&w->pool->changed);
}

bool snapwork_is_repeated(const struct snapwork *w, size_t i)
{
	for (size_t j = 0; j < i; j++) {
		if (w->targets[j].part == w->targets[i].part)
			return true;
	}
	return false;
}

int snapwork_check_twice(const struct snapwork *w)
{
	for (size_t i = 0; i < w->count; i++) {
		const struct snapwork_target *a = &w->targets[i];
		for (size_t j = 0; j < i; j++) {
			const struct snapwork_target *b = &w->targets[j];
			if (a->part == b->part && a->of.number == b->of.number &&
			    strcmp(a->snapshot, b->snapshot) == 0)
				return failure_set(w->failure, LCPFS_E_INVALID, "%s@%s is named twice", a->of.name,
						   a->snapshot);
		}
	}
	return 0;
}

void snapwork_note(struct snapwork *w, enum lcpfs_event_kind kind, size_t count)
{
	struct store_snapshot *names = calloc(count + 1, sizeof(*names));
	char text[300];
	for (size_t i = 0; i < count && names; i++) {
		const struct part *part = w->targets[i].part;
		unsigned of_it = 0;
		if (snapwork_is_repeated(w, i))
			continue;
		for (size_t j = i; j < count; j++) {
			if (w->targets[j].part != part)
				continue;
			names[of_it].volume = w->targets[j].of.number;
			snprintf(names[of_it++].name, sizeof(names->name), "%s", w->targets[j].snapshot);
		}
		snapshot_print_names(part, names, of_it, text, sizeof(text));
		history_note(w->pool, kind, LCPFS_ENGINE_FREE, part->id, 0, "%s", text);
	}
	free(names);
}

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
static int take_found(struct snapwork *w, struct part *part, const struct snapshot_names *found)
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
		struct snapwork_target *t = &w->targets[w->count];
		*t = (struct snapwork_target){.part = part, .snapshot = found->list[w->count]};
		snapshot_name_volume(part, STORE_OWN_VOLUME, &t->of);
		part_hold(part);
	}
	part->snapshot_work = true;
	return 0;
}

int snapwork_run_found(struct part *part, snapshot_find_fn *find, uint64_t now_s, struct snapshot_names *found,
		       snapwork_fn *begin, snapwork_fn *go, struct lcpfs_failure *failure)
{
	struct snapwork_target targets[SNAPSHOT_NAMES];
	struct lcpfs_pool *pool = part->pool;
	struct snapwork w = {.pool = pool,
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

int snapwork_run(struct snapwork *w, const char *const *names, snapwork_fn *begin, snapwork_fn *go)
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

struct snapwork snapwork_of(struct lcpfs_pool *pool, size_t count, const struct lcpfs_snapshot_options *options,
			    struct lcpfs_failure *failure)
{
	struct snapwork w = {.pool = pool, .count = count, .separator = '@', .failure = failure};
	if (options)
		w.options = *options;
	return w;
}
