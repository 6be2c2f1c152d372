/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of volumes, by name: NAME@SNAP. What they are is the store's matter (store/snap.h); here they are
 * found and listed. NAME is a partition's, or a clone's (struct volume_name): by the store's numbers for volumes,
 * both are alike. Who changes them: snapwork.h.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/snapwork.h"

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

int snapshot_fail_none(const struct volume_name *of, const char *snapshot, struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no snapshot %s@%.100s", of->name, snapshot);
}

int snapshot_fail_held(const struct volume_name *of, const char *snapshot, struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_BUSY,
			   "snapshot %s@%s is held, so that nobody destroys it; release it first", of->name,
			   snapshot);
}

int snapshot_find(const struct part *part, const struct volume_name *of, const char *snapshot,
		  struct store_snapshot *found, struct lcpfs_failure *failure)
{
	if (!store_volume_snapshot_find(part->store, of->number, snapshot, found))
		return snapshot_fail_none(of, snapshot, failure);
	if (found->number == part->doomed)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "snapshot %s@%s is being destroyed", of->name,
				   snapshot);
	return 0;
}

void snapshot_print_name(const struct part *part, uint32_t number, char *text, size_t room)
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

/* -- lists: with the lock -- */

unsigned snapshot_count(const struct part *part)
{
	return store_volume_snapshots(part->store, 0, NULL, 0);
}

/* All of a volume's (0: all of a partition, of its clones too); *list is the caller's to free. NULL: there are
 * none, or there is no memory. */
unsigned snapshot_list_all(const struct part *part, uint32_t volume, struct store_snapshot **list)
{
	unsigned room = store_volume_snapshots(part->store, volume, NULL, 0);
	*list = room ? calloc(room, sizeof(**list)) : NULL;
	unsigned count = *list ? store_volume_snapshots(part->store, volume, *list, room) : 0;
	return MIN_OF(count, room);
}

/* "a@x, a@y", and how many more there is no room for. */
void snapshot_print_names(const struct part *part, const struct store_snapshot *list, unsigned count, char *text,
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
	unsigned count = snapshot_list_all(part, 0, &list);
	snapshot_print_names(part, list, count, text, room);
	free(list);
}

int snapshot_refuse_held(const struct part *part, struct lcpfs_failure *failure)
{
	struct store_snapshot *list;
	struct volume_name of;
	unsigned count = snapshot_list_all(part, 0, &list);
	int error = 0;
	if (!list && snapshot_count(part))
		return failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	for (unsigned i = 0; i < count && !error; i++) {
		snapshot_name_volume(part, list[i].volume, &of);
		error = list[i].held ? snapshot_fail_held(&of, list[i].name, failure) : 0;
	}
	free(list);
	return error;
}

static void describe(const struct part *part, const struct store_snapshot *n, struct lcpfs_snapshot_info *info)
{
	*info = (struct lcpfs_snapshot_info){.created_s = n->created_s,
					     .volume_bytes = n->volume_blocks * BLOCK_SIZE,
					     .clients = part_readers(part, n->number),
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
	unsigned found = snapshot_list_all(part, volume, &list);
	for (unsigned i = 0; i < found; i++, ++*count) {
		if (*count < room)
			describe(part, &list[i], &infos[*count]);
	}
	free(list);
}

const struct part *snapshot_next_part(const struct lcpfs_pool *pool, uint32_t behind)
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
	for (const struct part *part = snapshot_next_part(pool, 0); part && !name;
	     part = snapshot_next_part(pool, part->id)) {
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
	*count = error ? 0 : snapshot_list_all(*part, STORE_OWN_VOLUME, &all);
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
