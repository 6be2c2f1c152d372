/* SPDX-License-Identifier: Apache-2.0 */
#include "control/query.h"

#include <stdlib.h>
#include <string.h>

#include "control/describe.h"
#include "control/field.h"
#include "control/iostat.h"
#include "control/metrics.h"
#include "pool/pool.h"

enum {
	EVENTS_DEFAULT = 100,
	EVENTS_MAX = 4096,   /* in one answer: about 2 MiB of text */
	SAMPLES_MAX = 12288, /* likewise some 3 MiB */
};

static int put_pool(struct command_call *call)
{
	struct lcpfs_pool_info info;
	int error = lcpfs_pool_get_info(call->pool, &info);
	if (error)
		return command_failed(call, error);
	field_put(call->result, "pool", describe_pool(&info));
	return 0;
}

static int put_clones(struct command_call *call)
{
	struct json_object *array = json_object_new_array();
	struct lcpfs_clone_info *list;
	size_t count;
	int error = describe_clones_load(&list, &count, call->pool, call->failure);
	for (size_t i = 0; i < count && !error; i++)
		json_object_array_add(array, describe_clone(&list[i]));
	free(list);
	field_put(call->result, "clones", array);
	return error;
}

/* With the pool, for its totals and mode. */
int query_list(struct command_call *call)
{
	struct describe_partitions partitions;
	int error = describe_partitions_load(&partitions, call->pool);
	if (error)
		return command_failed(call, error);
	struct json_object *array = json_object_new_array();
	for (size_t i = 0; i < partitions.count; i++)
		json_object_array_add(array, describe_partition(&partitions.list[i]));
	field_put(call->result, "partitions", array);
	describe_partitions_free(&partitions);
	error = put_clones(call);
	return error ? error : put_pool(call);
}

/* The snapshot that would give most: 0 and no name where none can be measured. */
static uint64_t largest_snapshot(struct command_call *call, const char *partition, const char **name,
				 struct lcpfs_snapshot_info *list, size_t count)
{
	struct lcpfs_snapshot_sizes sizes;
	uint64_t most = 0;
	for (size_t i = 0; i < count; i++) {
		if (strcmp(list[i].partition, partition) != 0 ||
		    lcpfs_snapshot_sizes(call->pool, list[i].name, &sizes, NULL) || sizes.used_blocks < most)
			continue;
		most = sizes.used_blocks;
		*name = list[i].name;
	}
	return most;
}

/* What the snapshots of a partition hold, and the volume has no more. Damaged or just removed ones are left out.
 */
static struct json_object *held_by_snapshots(struct command_call *call, const struct lcpfs_partition_info *info)
{
	struct lcpfs_snapshot_info *list = NULL;
	struct json_object *object = NULL;
	const char *name = "";
	uint64_t freed;
	size_t count;
	if (lcpfs_snapshots_freed(call->pool, info->name, &freed, NULL) ||
	    describe_snapshots_load(&list, &count, call->pool, info->name, NULL))
		goto out;
	object = json_object_new_object();
	field_put_text(object, "partition", info->name);
	field_put_count(object, "snapshots", count);
	field_put_count(object, "stored_blocks", info->data_blocks);
	field_put_count(object, "freed_blocks", freed);
	field_put_count(object, "largest_blocks", largest_snapshot(call, info->name, &name, list, count));
	field_put_text(object, "largest", name);
out:
	free(list);
	return object;
}

static struct json_object *explain_snapshots(struct command_call *call,
					     const struct describe_partitions *partitions)
{
	const char *only = field_text(call->arguments, "name");
	struct json_object *array = json_object_new_array();
	for (size_t i = 0; i < partitions->count; i++) {
		const struct lcpfs_partition_info *info = &partitions->list[i];
		struct json_object *held = NULL;
		if (info->snapshots && (!only || !strcmp(only, info->name)))
			held = held_by_snapshots(call, info);
		if (held)
			json_object_array_add(array, held);
	}
	return array;
}

int query_explain(struct command_call *call)
{
	struct describe_partitions partitions;
	struct lcpfs_engine_decision decision;
	int error = lcpfs_pool_explain(call->pool, field_text(call->arguments, "name"), &decision, call->failure);
	if (error)
		return error;
	error = describe_partitions_load(&partitions, call->pool);
	if (error)
		return command_failed(call, error);
	field_put(call->result, "decision", describe_decision(&decision, &partitions));
	if (!field_flag(call->arguments, "brief"))
		field_put(call->result, "snapshots", explain_snapshots(call, &partitions));
	describe_partitions_free(&partitions);
	return 0;
}

/* With the last decision: it says which of the learned thresholds matter now. */
int query_status(struct command_call *call)
{
	struct describe_partitions partitions;
	struct lcpfs_engine_decision decision;
	int error = lcpfs_pool_explain(call->pool, NULL, &decision, call->failure);
	if (error)
		return command_failed(call, error);
	error = describe_partitions_load(&partitions, call->pool);
	if (error)
		return command_failed(call, error);
	field_put(call->result, "decision", describe_decision(&decision, &partitions));
	describe_partitions_free(&partitions);
	return put_pool(call);
}

/* The newest `room` events after the one of that number. */
static int put_events(struct command_call *call, uint64_t after, size_t room)
{
	struct lcpfs_event *events = calloc(room + 1, sizeof(*events));
	struct json_object *array;
	size_t count = 0;
	if (!events)
		return command_failed(call, -LCPFS_E_NOMEM);
	int error = lcpfs_pool_events(call->pool, after, events, room, &count);
	if (!error) {
		array = json_object_new_array();
		for (size_t i = 0; i < MIN_OF(count, room); i++)
			json_object_array_add(array, describe_event(&events[i]));
		field_put(call->result, "events", array);
	}
	free(events);
	return command_failed(call, error);
}

int query_log(struct command_call *call)
{
	size_t room = EVENTS_DEFAULT;
	if (field_get(call->arguments, "limit"))
		room = (size_t)MIN_OF(field_count(call->arguments, "limit"), (uint64_t)EVENTS_MAX);
	return put_events(call, field_count(call->arguments, "after"), room);
}

static int put_samples(struct command_call *call)
{
	struct pool_sample *list;
	size_t count;
	int error = pool_samples(call->pool, SAMPLES_MAX, &list, &count);
	if (error)
		return command_failed(call, error);
	struct json_object *array = json_object_new_array();
	for (size_t i = 0; i < count; i++)
		json_object_array_add(array, describe_sample(&list[i]));
	field_put(call->result, "samples", array);
	free(list);
	return 0;
}

/* All that the pool knows of its past, and what it is now. */
int query_report(struct command_call *call)
{
	int error = query_list(call);
	if (!error)
		error = put_samples(call);
	return error ? error : put_events(call, 0, EVENTS_MAX);
}

int query_iostat(struct command_call *call)
{
	struct json_object *partitions;
	int error = iostat_describe(call->pool, field_text(call->arguments, "name"), &partitions, call->failure);
	if (!error)
		field_put(call->result, "partitions", partitions);
	return error;
}

static void put_partition_properties(struct command_call *call, const struct lcpfs_partition_info *info,
				     const struct lcpfs_pool_info *pool, const char *wanted)
{
	struct json_object *object, *properties = property_describe_partition(info, pool, call->service, wanted);
	if (!json_object_object_length(properties)) { /* nothing that was asked for is a partition's */
		json_object_put(properties);
		return;
	}
	object = json_object_new_object();
	field_put_text(object, "name", info->name);
	field_put_count(object, "id", info->id);
	field_put(object, "properties", properties);
	json_object_array_add(field_get(call->result, "partitions"), object);
}

static int get_partition(struct command_call *call, const struct lcpfs_pool_info *pool, const char *wanted)
{
	const char *name = field_text(call->arguments, "name");
	struct lcpfs_partition_info info;
	int error = lcpfs_partition_get_info(call->pool, name, &info, call->failure);
	if (!error)
		error = property_check(wanted, PROPERTY_OF_PARTITION, call->failure);
	if (!error)
		put_partition_properties(call, &info, pool, wanted);
	return error;
}

/* The pool's own, and those of all partitions. */
static int get_all(struct command_call *call, const struct lcpfs_pool_info *pool, const char *wanted)
{
	struct describe_partitions partitions;
	int error = property_check(wanted, PROPERTY_OF_POOL | PROPERTY_OF_PARTITION, call->failure);
	if (error)
		return error;
	error = describe_partitions_load(&partitions, call->pool);
	if (error)
		return command_failed(call, error);
	for (size_t i = 0; i < partitions.count; i++)
		put_partition_properties(call, &partitions.list[i], pool, wanted);
	describe_partitions_free(&partitions);
	struct json_object *object = json_object_new_object();
	field_put(object, "properties", property_describe_pool(pool, call->service, wanted));
	field_put(call->result, "pool", object);
	return 0;
}

int query_get(struct command_call *call)
{
	const char *wanted = field_text(call->arguments, "property");
	struct lcpfs_pool_info pool;
	int error = lcpfs_pool_get_info(call->pool, &pool);
	if (error)
		return command_failed(call, error);
	field_put(call->result, "partitions", json_object_new_array());
	return (field_text(call->arguments, "name") ? get_partition : get_all)(call, &pool, wanted);
}

/* As a list: texts that go through the socket have no line breaks. Cuts `text` up. */
static void put_lines(struct json_object *result, char *text)
{
	struct json_object *lines = json_object_new_array();
	char *line;
	while ((line = strsep(&text, "\n")))
		if (*line)
			json_object_array_add(lines, json_object_new_string(line));
	field_put(result, "lines", lines);
}

int query_metrics(struct command_call *call)
{
	const char *path = field_text(call->arguments, "path"), *format = field_text(call->arguments, "format");
	bool is_open = format && !strcmp(format, "openmetrics");
	char *text;
	if (format && !is_open && strcmp(format, "prometheus") != 0)
		return failure_set(call->failure, LCPFS_E_INVALID,
				   "no such format: %s; it is prometheus or openmetrics", format);
	int error = metrics_text(call->pool, path ? path : "", is_open ? METRICS_OPENMETRICS : METRICS_PROMETHEUS,
				 &text, call->failure);
	if (error)
		return error;
	put_lines(call->result, text);
	free(text);
	return 0;
}
