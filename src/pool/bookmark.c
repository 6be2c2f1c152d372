/* SPDX-License-Identifier: Apache-2.0 */
/* Bookmarks by name: NAME#MARK. What is noted of a snapshot stays when that is gone. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/snapwork.h"

static int begin_bookmark(struct snapwork *w)
{
	const struct snapwork_target *t = &w->targets[0];
	struct store_snapshot found;
	if (!snapwork_find(t, &found))
		return snapshot_fail_none(&t->of, t->snapshot, w->failure);
	int error = snapwork_new_name(w, '#');
	if (!error && !store_snapshot_is_name(w->new_name))
		error = failure_set(w->failure, LCPFS_E_INVALID,
				    "%s#%.100s: a bookmark's name is 1 to 63 of A-Z a-z 0-9 . _ - :", t->of.name,
				    w->new_name);
	if (!error && store_volume_bookmark_find(t->part->store, t->of.number, w->new_name, &found))
		error = failure_set(w->failure, LCPFS_E_EXISTS, "bookmark %s#%s exists already", t->of.name,
				    w->new_name);
	return error || w->options.dry_run ? error : snapwork_mark_pages(w, PARTITION_BOOKMARKS);
}

static int go_bookmark(struct snapwork *w)
{
	const struct snapwork_target *t = &w->targets[0];
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
	struct snapwork w = snapwork_of(pool, 1, options, failure);
	w.new_name = name;
	return snapwork_run(&w, &snapshot, begin_bookmark, go_bookmark);
}

static int begin_forget(struct snapwork *w)
{
	const struct snapwork_target *t = &w->targets[0];
	struct store_snapshot found;
	if (store_volume_bookmark_find(t->part->store, t->of.number, t->snapshot, &found))
		return 0;
	return failure_set(w->failure, LCPFS_E_NOT_FOUND, "there is no bookmark %s#%.100s", t->of.name,
			   t->snapshot);
}

static int go_forget(struct snapwork *w)
{
	const struct snapwork_target *t = &w->targets[0];
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
	struct snapwork w = snapwork_of(pool, 1, options, failure);
	w.separator = '#';
	return snapwork_run(&w, &name, begin_forget, go_forget);
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
	for (const struct part *part = snapshot_next_part(pool, 0); part && !error;
	     part = snapshot_next_part(pool, part->id)) {
		if (part->store && (!only || part == only))
			list_marks(part, of.number, infos, room, count);
	}
	pthread_mutex_unlock(&pool->lock);
	return error;
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
