/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A volume goes back to a snapshot of it, when nobody has it open. Of the work, targets[0] is what to; behind it
 * are the younger ones, the youngest first.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/snapwork.h"

static int refuse_younger(const struct snapwork *w, const struct store_snapshot *younger, unsigned count)
{
	char names[250];
	snapshot_print_names(w->targets[0].part, younger, count, names, sizeof(names));
	return failure_set(w->failure, LCPFS_E_EXISTS, "%s %s younger than %s@%s; --force destroys %s first",
			   names, count == 1 ? "is" : "are", w->targets[0].of.name, w->targets[0].snapshot,
			   count == 1 ? "it" : "them");
}

static int check_younger(const struct snapwork *w, const struct store_snapshot *younger, unsigned count)
{
	const struct part *part = w->targets[0].part;
	const struct volume_name *of = &w->targets[0].of;
	if (count && !w->options.force)
		return refuse_younger(w, younger, count);
	for (unsigned i = 0; i < count; i++) {
		uint32_t readers = part_readers(part, younger[i].number);
		if (younger[i].held)
			return snapshot_fail_held(of, younger[i].name, w->failure);
		if (readers)
			return snapwork_refuse_in_use(of, younger[i].name, readers, w->failure);
		int error = snapwork_refuse_cloned(part, of, &younger[i], w->failure);
		if (error)
			return error;
	}
	return 0;
}

/* Bookmarks of what is given up go, too. */
static int check_younger_marks(const struct snapwork *w, const struct store_snapshot *to)
{
	const struct snapwork_target *t = &w->targets[0];
	struct store_snapshot last;
	if (w->options.force || !snapshot_last_bookmark(t->part, t->of.number, &last) || last.number <= to->number)
		return 0;
	return failure_set(w->failure, LCPFS_E_EXISTS,
			   "bookmark %s#%s is younger than %s@%s; --force destroys those that are", t->of.name,
			   last.name, t->of.name, to->name);
}

static int check_no_writer(const struct snapwork *w)
{
	const struct part *part = w->targets[0].part;
	const struct volume_name *of = &w->targets[0].of;
	bool own = of->number == STORE_OWN_VOLUME;
	uint32_t clients = own ? part->clients - part->readers : part_readers(part, of->number);
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

static int begin_rollback(struct snapwork *w)
{
	struct snapwork_target *t = &w->targets[0];
	struct store_snapshot to, *all;
	if (!snapwork_find(t, &to))
		return snapshot_fail_none(&t->of, t->snapshot, w->failure);
	int error = check_no_writer(w);
	if (error)
		return error;
	unsigned count = snapshot_list_all(t->part, t->of.number, &all), older = 0;
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

static uint64_t volume_end(const struct snapwork_target *t)
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
static int check_beyond(const struct snapwork *w)
{
	const struct snapwork_target *t = &w->targets[0];
	static const uint8_t zeros[BLOCK_SIZE];
	uint8_t cut[BLOCK_SIZE];
	struct store_snapshot to;
	bool data = false;
	int error = 0;
	if (!snapwork_find(t, &to))
		return snapshot_fail_none(&t->of, t->snapshot, w->failure);
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
static int destroy_younger(struct snapwork *w)
{
	struct snapwork_target *t = &w->targets[0];
	struct store_snapshot *all, to;
	int error = 0;
	pthread_mutex_lock(&w->pool->lock);
	unsigned count = snapshot_list_all(t->part, t->of.number, &all);
	pthread_mutex_unlock(&w->pool->lock);
	if (!snapwork_find(t, &to) || !count) {
		free(all);
		return snapshot_fail_none(&t->of, t->snapshot, w->failure);
	}
	struct snapwork_target *younger = calloc(count, sizeof(*younger));
	struct snapwork w2 = *w;
	w2.targets = younger;
	w2.count = 0;
	for (unsigned i = count; younger && i-- > 0 && all[i].number > to.number;)
		younger[w2.count++] = (struct snapwork_target){t->part, t->of, all[i].name};
	error = younger ? snapwork_destroy_all(&w2) : failure_set(w->failure, LCPFS_E_NOMEM, "out of memory");
	free(younger);
	free(all);
	return error;
}

static int go_rollback(struct snapwork *w)
{
	struct snapwork_target *t = &w->targets[0];
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
	snapwork_give_back(w);
	return error;
}

int lcpfs_snapshot_rollback(struct lcpfs_pool *pool, const char *name,
			    const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure)
{
	struct snapwork w = snapwork_of(pool, 1, options, failure);
	return snapwork_run(&w, &name, begin_rollback, go_rollback);
}
