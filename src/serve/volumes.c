/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/volumes.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/describe.h"

static struct backend_export of_snapshot(const struct lcpfs_snapshot_info *info)
{
	struct backend_export export = {.bytes = info->volume_bytes, .read_only = true};
	memcpy(export.name, info->name, sizeof(info->name));
	return export;
}

static struct backend_export of_clone(const struct lcpfs_clone_info *info)
{
	struct backend_export export = {.bytes = info->volume_bytes};
	memcpy(export.name, info->name, sizeof(info->name));
	return export;
}

static int volumes_list(void *context, struct backend_export **list, size_t *count, struct lcpfs_failure *failure)
{
	struct describe_partitions partitions;
	int error = describe_partitions_load(&partitions, context);
	if (error)
		return failure_set(failure, (enum lcpfs_error)-error, "%s", lcpfs_error_sentence(error));
	struct lcpfs_snapshot_info *snapshots;
	size_t found;
	error = describe_snapshots_load(&snapshots, &found, context, NULL, failure);
	struct lcpfs_clone_info *clones = NULL;
	size_t cloned = 0;
	if (!error)
		error = describe_clones_load(&clones, &cloned, context, failure);
	*count = partitions.count + found + cloned;
	*list = error ? NULL : calloc(*count + 1, sizeof(**list));
	for (size_t i = 0; *list && i < partitions.count; i++) {
		memcpy((*list)[i].name, partitions.list[i].name, sizeof(partitions.list[i].name));
		(*list)[i].bytes = partitions.list[i].volume_bytes;
	}
	for (size_t i = 0; *list && i < found; i++)
		(*list)[partitions.count + i] = of_snapshot(&snapshots[i]);
	for (size_t i = 0; *list && i < cloned; i++)
		(*list)[partitions.count + found + i] = of_clone(&clones[i]);
	describe_partitions_free(&partitions);
	free(snapshots);
	free(clones);
	if (error)
		return error;
	return *list ? 0 : failure_set(failure, LCPFS_E_NOMEM, "%s", lcpfs_error_sentence(LCPFS_E_NOMEM));
}

/* The name of the only partition there is. */
static int only_name(struct lcpfs_pool *pool, char name[LCPFS_NAME_MAX + 1], struct lcpfs_failure *failure)
{
	struct lcpfs_partition_info info;
	size_t count;
	int error = lcpfs_pool_list(pool, &info, 1, &count);
	if (error)
		return failure_set(failure, (enum lcpfs_error)-error, "%s", lcpfs_error_sentence(error));
	if (count != 1)
		return failure_set(failure, LCPFS_E_NOT_FOUND,
				   "the pool has %zu partitions: ask for one by its name", count);
	memcpy(name, info.name, sizeof(info.name));
	return 0;
}

static int volumes_open(void *context, const char *name, void **volume, struct backend_export *info,
			struct lcpfs_failure *failure)
{
	char only[LCPFS_NAME_MAX + 1];
	struct lcpfs_partition *partition;
	int error = *name ? 0 : only_name(context, only, failure);
	if (!error)
		error = lcpfs_partition_open(context, *name ? name : only, &partition, failure);
	if (error)
		return error;
	*info = (struct backend_export){.bytes = lcpfs_volume_bytes(partition),
					.read_only = lcpfs_volume_is_snapshot(partition)};
	snprintf(info->name, sizeof(info->name), "%s", *name ? name : only);
	*volume = partition;
	return 0;
}

static void volumes_close(void *volume)
{
	lcpfs_partition_close(volume);
}

static int volumes_try_read(void *volume, uint64_t offset, void *buffer, size_t length)
{
	return lcpfs_volume_try_read(volume, offset, buffer, length);
}

static int volumes_read(void *volume, uint64_t offset, void *buffer, size_t length, struct lcpfs_failure *failure)
{
	return lcpfs_volume_read(volume, offset, buffer, length, failure);
}

static int volumes_try_write(void *volume, uint64_t offset, const void *buffer, size_t length, size_t *done,
			     bool *unsettled)
{
	return lcpfs_volume_try_write(volume, offset, buffer, length, done, unsettled);
}

static int volumes_write(void *volume, uint64_t offset, const void *buffer, size_t length,
			 struct lcpfs_failure *failure)
{
	return lcpfs_volume_write(volume, offset, buffer, length, false, failure);
}

static int volumes_write_some(void *volume, uint64_t offset, const void *buffer, size_t length,
			      struct lcpfs_write_wait *wait, struct lcpfs_failure *failure)
{
	return lcpfs_volume_write_some(volume, offset, buffer, length, false, wait, failure);
}

static int volumes_trim(void *volume, uint64_t offset, uint64_t length, struct lcpfs_failure *failure)
{
	return lcpfs_volume_trim(volume, offset, length, false, failure);
}

static int volumes_flush(void *volume, struct lcpfs_failure *failure)
{
	return lcpfs_volume_flush(volume, failure);
}

static int volumes_extent(void *volume, uint64_t offset, uint64_t length, bool *data, uint64_t *end)
{
	return lcpfs_volume_extent(volume, offset, length, data, end);
}

static int volumes_changed(void *volume, uint64_t offset, uint64_t length, bool *changed, uint64_t *end)
{
	return pool_volume_changed(volume, offset, length, changed, end);
}

static void volumes_settle(void *volume)
{
	lcpfs_volume_settle(volume);
}

static struct fetches *volumes_fetches(void *context)
{
	return pool_fetches(context);
}

static int volumes_fetch(void *volume, struct fetches *fetches, uint64_t offset, void *buffer, size_t length,
			 bool in_order, void *cookie)
{
	return pool_volume_fetch(volume, fetches, offset, buffer, length, in_order, cookie);
}

static int volumes_verify(void *volume, uint64_t offset, const void *buffer, size_t length, uint64_t fetched_us)
{
	return pool_volume_verify(volume, offset, buffer, length, fetched_us);
}

const struct backend volumes_backend = {
	.list = volumes_list,
	.open = volumes_open,
	.close = volumes_close,
	.try_read = volumes_try_read,
	.read = volumes_read,
	.try_write = volumes_try_write,
	.write = volumes_write,
	.write_some = volumes_write_some,
	.trim = volumes_trim,
	.flush = volumes_flush,
	.extent = volumes_extent,
	.changed = volumes_changed,
	.settle = volumes_settle,
	.fetches = volumes_fetches,
	.fetch = volumes_fetch,
	.verify = volumes_verify,
};
