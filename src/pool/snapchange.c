/* SPDX-License-Identifier: Apache-2.0 */
/* Snapshots are taken, destroyed, held, released and renamed, and that is noted in the history. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/snapwork.h"

/* -- taking -- */

static int begin_create(struct snapwork *w)
{
	int error = 0;
	for (size_t i = 0; i < w->count && !error; i++)
		error = snapwork_check_new(w, &w->targets[i]);
	if (!error)
		error = snapwork_check_twice(w);
	return error || w->options.dry_run ? error : snapwork_mark_pages(w, PARTITION_SNAPSHOTS);
}

/* What was taken before target `failed`, and that one, where it is there. */
static int undo_create(struct snapwork *w, size_t failed, int why)
{
	const struct snapwork_target *t = &w->targets[failed];
	size_t left = 0;
	for (size_t i = 0; i <= failed; i++) {
		const struct snapwork_target *taken = &w->targets[i];
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

static int go_create(struct snapwork *w)
{
	uint64_t now_s = w->pool->clock.wall_s(w->pool->clock.context);
	bool group = false;
	size_t done = 0;
	int error = 0;
	if (w->options.dry_run)
		return 0;
	for (size_t i = 1; i < w->count; i++)
		group |= w->targets[i].part != w->targets[0].part;
	for (size_t i = 0; i < w->count && group; i++)
		gate_close(w->targets[i].part);
	for (size_t i = 0; i < w->count && group; i++)
		gate_drain(w->targets[i].part);
	while (done < w->count && !error) {
		const struct snapwork_target *t = &w->targets[done];
		error = store_volume_snapshot(t->part->store, t->of.number, t->snapshot, now_s,
					      guid_new(t->part, t->snapshot));
		done += !error;
	}
	for (size_t i = 0; i < w->count && group; i++)
		gate_open(w->targets[i].part);
	if (error)
		return undo_create(w, done, error);
	pthread_mutex_lock(&w->pool->lock);
	snapwork_note(w, LCPFS_EVENT_SNAPSHOT, w->count);
	pthread_mutex_unlock(&w->pool->lock);
	return 0;
}

int lcpfs_snapshot_create(struct lcpfs_pool *pool, const char *const *names, size_t count,
			  const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure)
{
	struct snapwork w = snapwork_of(pool, count, options, failure);
	return snapwork_run(&w, names, begin_create, go_create);
}

int snapshot_create_found(struct part *part, snapshot_find_fn *find, uint64_t now_s, struct snapshot_names *found,
			  struct lcpfs_failure *failure)
{
	return snapwork_run_found(part, find, now_s, found, begin_create, go_create, failure);
}

/* -- destroying -- */

static bool goes_on(const struct snapwork *w, size_t done, size_t total)
{
	return !w->options.progress || w->options.progress(w->options.context, done, total);
}

/* With the lock: it is there, nobody has it open, and nobody holds it. */
static int check_unused(const struct snapwork *w, const struct snapwork_target *t, struct store_snapshot *found)
{
	if (!snapwork_find(t, found))
		return snapshot_fail_none(&t->of, t->snapshot, w->failure);
	if (found->held)
		return snapshot_fail_held(&t->of, t->snapshot, w->failure);
	uint32_t readers = part_readers(t->part, found->number);
	return readers ? snapwork_refuse_in_use(&t->of, t->snapshot, readers, w->failure)
		       : snapwork_refuse_cloned(t->part, &t->of, found, w->failure);
}

static int begin_destroy(struct snapwork *w)
{
	struct store_snapshot found;
	int error = 0;
	for (size_t i = 0; i < w->count && !error; i++)
		error = check_unused(w, &w->targets[i], &found);
	return error ? error : snapwork_check_twice(w);
}

static int destroy_one(struct snapwork *w, const struct snapwork_target *t)
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

void snapwork_give_back(struct snapwork *w)
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
static int make_durable(const struct snapwork *w, size_t count, struct lcpfs_failure *failure)
{
	int error = 0;
	for (size_t i = 0; i < count && !error; i++) {
		if (!snapwork_is_repeated(w, i))
			error = store_flush(w->targets[i].part->store, failure);
	}
	return error;
}

int snapwork_destroy_all(struct snapwork *w)
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
	snapwork_note(w, LCPFS_EVENT_DESTROYED, done);
	pthread_mutex_unlock(&w->pool->lock);
	return error;
}

/* Those of the targets that are of one partition, whose first is target i. */
static int count_freed(const struct snapwork *w, size_t i, uint64_t *blocks)
{
	struct store *store = w->targets[i].part->store;
	uint32_t *numbers = calloc(w->count, sizeof(*numbers));
	size_t count = 0;
	for (size_t j = i; j < w->count && numbers; j++) {
		struct store_snapshot found;
		if (w->targets[j].part->store == store && snapwork_find(&w->targets[j], &found))
			numbers[count++] = found.number;
	}
	int error = numbers ? store_snapshots_freed(store, numbers, count, blocks) : -LCPFS_E_NOMEM;
	free(numbers);
	return error;
}

static int count_all_freed(const struct snapwork *w)
{
	*w->options.freed_blocks = 0;
	for (size_t i = 0; i < w->count; i++) {
		uint64_t blocks;
		if (snapwork_is_repeated(w, i))
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

static int go_destroy(struct snapwork *w)
{
	if (w->options.dry_run)
		return w->options.freed_blocks ? count_all_freed(w) : 0;
	int error = snapwork_destroy_all(w);
	snapwork_give_back(w);
	return error;
}

int lcpfs_snapshot_destroy(struct lcpfs_pool *pool, const char *const *names, size_t count,
			   const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure)
{
	struct snapwork w = snapwork_of(pool, count, options, failure);
	return snapwork_run(&w, names, begin_destroy, go_destroy);
}

int snapshot_destroy_found(struct part *part, snapshot_find_fn *find, uint64_t now_s, struct snapshot_names *found,
			   struct lcpfs_failure *failure)
{
	return snapwork_run_found(part, find, now_s, found, begin_destroy, go_destroy, failure);
}

/* -- holding -- */

static int begin_hold(struct snapwork *w)
{
	struct store_snapshot found;
	for (size_t i = 0; i < w->count; i++) {
		const struct snapwork_target *t = &w->targets[i];
		if (!snapwork_find(t, &found))
			return snapshot_fail_none(&t->of, t->snapshot, w->failure);
	}
	return snapwork_check_twice(w);
}

static int mark_all(struct snapwork *w, bool held)
{
	size_t done = 0;
	int error = 0;
	for (; done < w->count && !error && !w->options.dry_run; done += !error) {
		const struct snapwork_target *t = &w->targets[done];
		error = store_volume_snapshot_hold(t->part->store, t->of.number, t->snapshot, held);
		if (error)
			failure_set(w->failure, (enum lcpfs_error) - error, "snapshot %s@%s was not %s: %s",
				    t->of.name, t->snapshot, held ? "held" : "released",
				    lcpfs_error_sentence(error));
	}
	pthread_mutex_lock(&w->pool->lock);
	snapwork_note(w, held ? LCPFS_EVENT_HELD : LCPFS_EVENT_RELEASED, done);
	pthread_mutex_unlock(&w->pool->lock);
	return error;
}

static int go_hold(struct snapwork *w)
{
	return mark_all(w, true);
}

static int go_release(struct snapwork *w)
{
	return mark_all(w, false);
}

int lcpfs_snapshot_hold(struct lcpfs_pool *pool, const char *const *names, size_t count,
			const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure)
{
	struct snapwork w = snapwork_of(pool, count, options, failure);
	return snapwork_run(&w, names, begin_hold, go_hold);
}

int lcpfs_snapshot_release(struct lcpfs_pool *pool, const char *const *names, size_t count,
			   const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure)
{
	struct snapwork w = snapwork_of(pool, count, options, failure);
	return snapwork_run(&w, names, begin_hold, go_release);
}

/* -- renaming -- */

static int begin_rename(struct snapwork *w)
{
	const struct snapwork_target *t = &w->targets[0];
	struct store_snapshot found;
	if (!snapwork_find(t, &found))
		return snapshot_fail_none(&t->of, t->snapshot, w->failure);
	uint32_t readers = part_readers(t->part, found.number);
	if (readers)
		return snapwork_refuse_in_use(&t->of, t->snapshot, readers, w->failure);
	int error = snapwork_new_name(w, '@');
	return error ? error : snapwork_check_new(w, &(struct snapwork_target){t->part, t->of, w->new_name});
}

static int go_rename(struct snapwork *w)
{
	const struct snapwork_target *t = &w->targets[0];
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
	struct snapwork w = snapwork_of(pool, 1, options, failure);
	w.new_name = new_name;
	return snapwork_run(&w, &name, begin_rename, go_rename);
}
