/* SPDX-License-Identifier: Apache-2.0 */
#include "control/command.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "base/text.h"
#include "control/backup.h"
#include "control/describe.h"
#include "control/field.h"
#include "control/iostat.h"
#include "control/metrics.h"
#include "control/names.h"
#include "control/property.h"
#include "pool/pool.h"

enum {
	EVENTS_DEFAULT = 100,
	EVENTS_MAX = 4096,  /* in one answer: about 2 MiB of text */
	SAMPLES_MAX = 12288, /* likewise some 3 MiB */
	FINDINGS_MAX = 100, /* listed; all are counted */
};

static int without_sentence(struct command_call *call, int error)
{
	return error ? failure_set(call->failure, (enum lcpfs_error) - error, "%s", lcpfs_error_sentence(error))
		     : 0;
}

static int put_pool(struct command_call *call)
{
	struct lcpfs_pool_info info;
	int error = lcpfs_pool_get_info(call->pool, &info);
	if (error)
		return without_sentence(call, error);
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
static int run_list(struct command_call *call)
{
	struct describe_partitions partitions;
	int error = describe_partitions_load(&partitions, call->pool);
	if (error)
		return without_sentence(call, error);
	struct json_object *array = json_object_new_array();
	for (size_t i = 0; i < partitions.count; i++)
		json_object_array_add(array, describe_partition(&partitions.list[i]));
	field_put(call->result, "partitions", array);
	describe_partitions_free(&partitions);
	error = put_clones(call);
	return error ? error : put_pool(call);
}

/* What the partition looks like after a change. */
static int put_partition(struct command_call *call, const char *name)
{
	struct lcpfs_partition_info info;
	int error = lcpfs_partition_get_info(call->pool, name, &info, call->failure);
	if (error)
		return error;
	field_put(call->result, "partition", describe_partition(&info));
	field_put_flag(call->result, "dry_run", false);
	return 0;
}

/* What it would look like. */
static int put_foreseen(struct command_call *call, const struct lcpfs_partition_info *info)
{
	field_put(call->result, "partition", describe_partition(info));
	field_put_flag(call->result, "dry_run", true);
	return 0;
}

/* As given; what is too long is refused by the pool. */
static uint32_t wait_of(struct command_call *call)
{
	return (uint32_t)MIN_OF(field_count(call->arguments, "when_full_wait_s"), (uint64_t)UINT32_MAX);
}

static int run_add(struct command_call *call)
{
	struct lcpfs_partition_spec spec = {
		.name = field_text(call->arguments, "name"),
		.min_bytes = field_count(call->arguments, "min_bytes"),
		.max_bytes = field_count(call->arguments, "max_bytes"),
		.size_bytes = field_count(call->arguments, "size_bytes"),
		.volume_bytes = field_count(call->arguments, "volume_bytes"),
		.thin = field_flag(call->arguments, "thin"),
		.when_full_wait_s = wait_of(call),
	};
	bool of_space = field_flag(call->arguments, "of_space");
	struct lcpfs_partition_info info;
	int error;
	if (field_flag(call->arguments, "dry_run")) {
		error = pool_try_add(call->pool, &spec, of_space, &info, call->failure);
		return error ? error : put_foreseen(call, &info);
	}
	error = of_space ? pool_add_of_space(call->pool, &spec, call->failure)
			 : lcpfs_partition_add(call->pool, &spec, call->failure);
	return error ? error : put_partition(call, spec.name);
}

static int run_remove(struct command_call *call)
{
	const char *name = field_text(call->arguments, "name");
	const struct pool_removal how = {
		.only_empty = field_flag(call->arguments, "only_empty"),
		.dry_run = field_flag(call->arguments, "dry_run"),
		.wanted = call->progress,
		.context = call->context,
	};
	struct lcpfs_partition_info info;
	int error = pool_remove(call->pool, name, &how, &info, call->failure);
	if (error)
		return error;
	field_put_text(call->result, "removed", name);
	field_put_count(call->result, "data_blocks", info.data_blocks);
	field_put_count(call->result, "size_blocks", info.size_blocks);
	field_put_count(call->result, "snapshots", info.snapshots);
	field_put_count(call->result, "clones", info.clones);
	field_put_flag(call->result, "dry_run", how.dry_run);
	return 0;
}

static int run_resize(struct command_call *call)
{
	const char *name = field_text(call->arguments, "name");
	uint64_t size_bytes = field_count(call->arguments, "size_bytes");
	bool of_space = field_flag(call->arguments, "of_space");
	struct lcpfs_partition_info info;
	int error;
	if (field_flag(call->arguments, "dry_run")) {
		error = pool_try_resize(call->pool, name, size_bytes, of_space, &info, call->failure);
		return error ? error : put_foreseen(call, &info);
	}
	error = (of_space ? pool_resize_to_space : lcpfs_partition_resize)(
		call->pool, name, size_bytes, call->progress, call->context, call->failure);

	return error ? error : put_partition(call, name);
}

static int run_set(struct command_call *call)
{
	const char *schedule = field_text(call->arguments, "schedule");
	struct lcpfs_partition_change change = {
		.new_name = field_text(call->arguments, "new_name"),
		.min_bytes = field_count(call->arguments, "min_bytes"),
		.max_bytes = field_count(call->arguments, "max_bytes"),
		.volume_bytes = field_count(call->arguments, "volume_bytes"),
		.thin = field_flag(call->arguments, "thin"),
		.when_full_given = field_get(call->arguments, "when_full_wait_s") != NULL,
		.when_full_wait_s = wait_of(call),
		.dry_run = field_flag(call->arguments, "dry_run"),
	};
	struct lcpfs_partition_info info;
	if (schedule && lcpfs_snapshot_schedule_parse(schedule, &change.schedule))
		return failure_set(call->failure, LCPFS_E_INVALID, "%.100s is no schedule of snapshots", schedule);
	change.schedule_given = schedule;
	int error = lcpfs_partition_set(call->pool, field_text(call->arguments, "name"), &change, call->progress,
					call->context, &info, call->failure);

	if (error)
		return error;
	field_put(call->result, "partition", describe_partition(&info));
	field_put_flag(call->result, "dry_run", change.dry_run);
	return 0;
}

static int run_grow(struct command_call *call)
{
	const struct lcpfs_grow_options options = {
		.size_bytes = field_count(call->arguments, "size_bytes"),
		.dry_run = field_flag(call->arguments, "dry_run"),
	};
	struct lcpfs_growth growth;
	int error = lcpfs_pool_grow(call->pool, &options, &growth, call->failure);
	if (error)
		return error;
	field_put_count(call->result, "old_size_blocks", growth.old_size_blocks);
	field_put_count(call->result, "size_blocks", growth.new_size_blocks);
	field_put_count(call->result, "missing_blocks", growth.missing_blocks);
	field_put_flag(call->result, "dry_run", options.dry_run);
	return 0;
}

/* What is not given stays. */
static int take_settings(struct command_call *call, struct lcpfs_pool_settings *settings,
			 enum lcpfs_engine_mode *mode)
{
	const char *name = field_text(call->arguments, "mode");
	uint64_t percent = field_count(call->arguments, "alarm_percent");
	if (name && !describe_mode_parse(name, mode))
		return failure_set(call->failure, LCPFS_E_INVALID, "no such mode: %s; it is off, observe or on",
				   name);
	if (percent && (percent < PROPERTY_ALARM_LEAST || percent > 100))
		return failure_set(call->failure, LCPFS_E_INVALID, "alarm: it is a percentage from %d to 100",
				   PROPERTY_ALARM_LEAST);
	if (field_get(call->arguments, "alarm_percent"))
		settings->alarm_percent = (uint32_t)percent;
	if (field_get(call->arguments, "cache_bytes"))
		settings->cache_bytes = field_count(call->arguments, "cache_bytes");
	return 0;
}

static int run_tune(struct command_call *call)
{
	bool is_dry = field_flag(call->arguments, "dry_run");
	struct lcpfs_pool_info info;
	int error = lcpfs_pool_get_info(call->pool, &info);
	if (error)
		return without_sentence(call, error);
	enum lcpfs_engine_mode mode = info.engine.mode;
	error = take_settings(call, &info.settings, &mode);
	if (!error && !is_dry)
		error = lcpfs_pool_set_settings(call->pool, &info.settings, call->failure);
	if (!error && !is_dry && mode != info.engine.mode)
		error = lcpfs_pool_set_tune(call->pool, mode, call->failure);
	if (error)
		return error;
	field_put_text(call->result, "mode", describe_mode_name(mode));
	field_put_count(call->result, "cache_bytes", info.settings.cache_bytes);
	field_put_count(call->result, "alarm_percent", info.settings.alarm_percent);
	field_put_flag(call->result, "dry_run", is_dry);
	return 0;
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

static int run_explain(struct command_call *call)
{
	struct describe_partitions partitions;
	struct lcpfs_engine_decision decision;
	int error = lcpfs_pool_explain(call->pool, field_text(call->arguments, "name"), &decision, call->failure);
	if (error)
		return error;
	error = describe_partitions_load(&partitions, call->pool);
	if (error)
		return without_sentence(call, error);
	field_put(call->result, "decision", describe_decision(&decision, &partitions));
	if (!field_flag(call->arguments, "brief"))
		field_put(call->result, "snapshots", explain_snapshots(call, &partitions));
	describe_partitions_free(&partitions);
	return 0;
}

/* With the last decision: it says which of the learned thresholds matter now. */
static int run_status(struct command_call *call)
{
	struct describe_partitions partitions;
	struct lcpfs_engine_decision decision;
	int error = lcpfs_pool_explain(call->pool, NULL, &decision, call->failure);
	if (error)
		return without_sentence(call, error);
	error = describe_partitions_load(&partitions, call->pool);
	if (error)
		return without_sentence(call, error);
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
		return without_sentence(call, -LCPFS_E_NOMEM);
	int error = lcpfs_pool_events(call->pool, after, events, room, &count);
	if (!error) {
		array = json_object_new_array();
		for (size_t i = 0; i < MIN_OF(count, room); i++)
			json_object_array_add(array, describe_event(&events[i]));
		field_put(call->result, "events", array);
	}
	free(events);
	return without_sentence(call, error);
}

static int run_log(struct command_call *call)
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
		return without_sentence(call, error);
	struct json_object *array = json_object_new_array();
	for (size_t i = 0; i < count; i++)
		json_object_array_add(array, describe_sample(&list[i]));
	field_put(call->result, "samples", array);
	free(list);
	return 0;
}

/* All that the pool knows of its past, and what it is now. */
static int run_report(struct command_call *call)
{
	int error = run_list(call);
	if (!error)
		error = put_samples(call);
	return error ? error : put_events(call, 0, EVENTS_MAX);
}

static int run_iostat(struct command_call *call)
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
		return without_sentence(call, error);
	for (size_t i = 0; i < partitions.count; i++)
		put_partition_properties(call, &partitions.list[i], pool, wanted);
	describe_partitions_free(&partitions);
	struct json_object *object = json_object_new_object();
	field_put(object, "properties", property_describe_pool(pool, call->service, wanted));
	field_put(call->result, "pool", object);
	return 0;
}

static int run_get(struct command_call *call)
{
	const char *wanted = field_text(call->arguments, "property");
	struct lcpfs_pool_info pool;
	int error = lcpfs_pool_get_info(call->pool, &pool);
	if (error)
		return without_sentence(call, error);
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

static int run_metrics(struct command_call *call)
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

static void scrub_found(void *context, const struct lcpfs_finding *finding)
{
	struct command_call *call = context;
	struct json_object *findings = field_get(call->result, "findings");
	if (json_object_array_length(findings) < FINDINGS_MAX)
		json_object_array_add(findings, describe_finding(finding));
}

static bool scrub_progress(void *context, uint64_t done, uint64_t total)
{
	struct command_call *call = context;
	return !call->progress || call->progress(call->context, done, total);
}

static int run_scrub(struct command_call *call)
{
	struct lcpfs_care care = {.found = scrub_found, .progress = scrub_progress, .context = call};
	field_put(call->result, "findings", json_object_new_array());
	int error = lcpfs_pool_scrub(call->pool, &care, call->failure);
	if (error)
		return error;
	field_put_count(call->result, "checked_blocks", care.checked_blocks);
	field_put_count(call->result, "damaged", care.damaged);
	field_put_count(call->result, "repaired", care.repaired);
	return 0;
}

/* ---- snapshots ---- */

static struct lcpfs_snapshot_options snapshot_options(const struct command_call *call)
{
	return (struct lcpfs_snapshot_options){.dry_run = field_flag(call->arguments, "dry_run"),
					       .force = field_flag(call->arguments, "force"),
					       .progress = call->progress,
					       .context = call->context};
}

typedef int change_snapshots(struct lcpfs_pool *pool, const char *const *names, size_t count,
			     const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure);

static int run_on_snapshots(struct command_call *call, change_snapshots *change, const char *key)
{
	struct lcpfs_snapshot_options options = snapshot_options(call);
	struct json_object *array = json_object_new_array();
	struct snapshot_names names;
	uint64_t freed_blocks = UINT64_MAX;
	int error = snapshot_names_split(&names, call->pool, field_text(call->arguments, "names"), call->failure);
	options.freed_blocks = &freed_blocks;
	if (!error)
		error = change(call->pool, (const char *const *)names.list, names.count, &options, call->failure);
	for (size_t i = 0; i < names.count; i++)
		json_object_array_add(array, json_object_new_string(names.list[i]));
	snapshot_names_free(&names);
	field_put(call->result, key, array);
	field_put_flag(call->result, "dry_run", options.dry_run);
	if (freed_blocks != UINT64_MAX)
		field_put_count(call->result, "freed_blocks", freed_blocks);
	return error;
}

static int run_hold(struct command_call *call)
{
	return run_on_snapshots(call, lcpfs_snapshot_hold, "held");
}

static int run_release(struct command_call *call)
{
	return run_on_snapshots(call, lcpfs_snapshot_release, "released");
}

static int run_snapshot(struct command_call *call)
{
	return run_on_snapshots(call, lcpfs_snapshot_create, "created");
}

/* Names of bookmarks, separated by commas. */
static int destroy_bookmarks(struct command_call *call)
{
	struct lcpfs_snapshot_options options = snapshot_options(call);
	struct json_object *array = json_object_new_array();
	char *copy = strdup(field_text(call->arguments, "names")), *rest = copy, *name;
	int error = copy ? 0 : without_sentence(call, -LCPFS_E_NOMEM);
	while (!error && (name = strsep(&rest, ","))) {
		error = lcpfs_bookmark_destroy(call->pool, name, &options, call->failure);
		if (!error)
			json_object_array_add(array, json_object_new_string(name));
	}
	free(copy);
	field_put(call->result, "destroyed", array);
	field_put_flag(call->result, "dry_run", options.dry_run);
	return error;
}

static int destroy_clones(struct lcpfs_pool *pool, const char *const *names, size_t count,
			  const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure)
{
	int error = lcpfs_clone_destroy(pool, names, count, options->dry_run, failure);
	if (options->dry_run && !error)
		*options->freed_blocks = 0;
	for (size_t i = 0; i < count && options->dry_run && !error; i++) {
		uint64_t blocks = 0;
		error = lcpfs_clone_used(pool, names[i], &blocks, failure);
		*options->freed_blocks += blocks;
	}
	return error;
}

/* Bookmarks, or snapshots, or, where the first name is not NAME@SNAP, clones. */
static int run_destroy(struct command_call *call)
{
	const char *names = field_text(call->arguments, "names");
	if (strchr(names, '#'))
		return destroy_bookmarks(call);
	if (!memchr(names, '@', strcspn(names, ",")))
		return run_on_snapshots(call, destroy_clones, "destroyed");
	return run_on_snapshots(call, lcpfs_snapshot_destroy, "destroyed");
}

static int run_clone(struct command_call *call)
{
	const char *snapshot = field_text(call->arguments, "snapshot"),
		   *name = field_text(call->arguments, "name");
	bool dry_run = field_flag(call->arguments, "dry_run");
	int error = lcpfs_clone_create(call->pool, snapshot, name, dry_run, call->failure);
	if (error)
		return error;
	field_put_text(call->result, "cloned", name);
	field_put_text(call->result, "origin", snapshot);
	field_put_flag(call->result, "dry_run", dry_run);
	return 0;
}

static int run_promote(struct command_call *call)
{
	const char *name = field_text(call->arguments, "name");
	bool dry_run = field_flag(call->arguments, "dry_run");
	char partition[LCPFS_NAME_MAX + 1];
	int error = lcpfs_clone_promote(call->pool, name, dry_run, partition, call->failure);
	if (error)
		return error;
	field_put_text(call->result, "promoted", name);
	field_put_text(call->result, "clone", partition);
	field_put_flag(call->result, "dry_run", dry_run);
	return 0;
}

/* 1: with its sizes; damaged ones have none. 0: it was destroyed in between. */
static int add_sizes(struct command_call *call, const char *name, struct json_object *object)
{
	struct lcpfs_snapshot_sizes sizes;
	int error = lcpfs_snapshot_sizes(call->pool, name, &sizes, NULL);
	if (error)
		return error != -LCPFS_E_NOT_FOUND;
	field_put_count(object, "used_blocks", sizes.used_blocks);
	field_put_count(object, "referenced_blocks", sizes.referenced_blocks);
	field_put_count(object, "written_blocks", sizes.written_blocks);
	return 1;
}

static int run_snapshots(struct command_call *call)
{
	struct json_object *array = json_object_new_array();
	bool sizes = field_flag(call->arguments, "sizes");
	struct lcpfs_snapshot_info *list;
	size_t count;
	int error = describe_snapshots_load(&list, &count, call->pool, field_text(call->arguments, "name"),
					    call->failure);
	for (size_t i = 0; i < count && !error; i++) {
		struct json_object *object = describe_snapshot(&list[i]);
		if (sizes && !add_sizes(call, list[i].name, object))
			json_object_put(object);
		else
			json_object_array_add(array, object);
		if (sizes && call->progress && !call->progress(call->context, i + 1, count))
			break; /* who asked is gone */
	}
	free(list);
	field_put(call->result, "snapshots", array);
	return error;
}

/* Those of the same partition that are younger, the youngest first: they go. */
static struct json_object *younger_snapshots(struct command_call *call, const char *name)
{
	char partition[LCPFS_NAME_MAX + 1] = "";
	struct json_object *array = json_object_new_array();
	struct lcpfs_snapshot_info *list;
	size_t count, length = strcspn(name, "@");
	if (length < sizeof(partition))
		memcpy(partition, name, length);
	if (!describe_snapshots_load(&list, &count, call->pool, partition, NULL)) {
		while (count-- > 0 && strcmp(list[count].name, name) != 0)
			json_object_array_add(array, json_object_new_string(list[count].name));
	}
	free(list);
	return array;
}

static int run_rollback(struct command_call *call)
{
	const char *name = field_text(call->arguments, "name");
	struct lcpfs_snapshot_options options = snapshot_options(call);
	struct json_object *younger = younger_snapshots(call, name);
	int error = lcpfs_snapshot_rollback(call->pool, name, &options, call->failure);
	field_put_text(call->result, "rolled_back", name);
	field_put(call->result, "destroyed", younger);
	field_put_flag(call->result, "dry_run", options.dry_run);
	return error;
}

static int run_bookmark(struct command_call *call)
{
	const char *name = field_text(call->arguments, "name"), *mark = field_text(call->arguments, "bookmark");
	const char *own = strrchr(mark, '#');
	struct lcpfs_snapshot_options options = snapshot_options(call);
	int error = lcpfs_bookmark_create(call->pool, name, mark, &options, call->failure);
	struct text full = TEXT_INIT;
	text_append(&full, "%.*s#%s", (int)strcspn(name, "@"), name, own ? own + 1 : mark);
	field_put_text(call->result, "bookmark", text_get(&full));
	field_put_text(call->result, "snapshot", name);
	field_put_flag(call->result, "dry_run", options.dry_run);
	text_free(&full);
	return error;
}

static int run_bookmarks(struct command_call *call)
{
	struct json_object *array = json_object_new_array();
	struct lcpfs_bookmark_info *list;
	size_t count;
	int error = describe_bookmarks_load(&list, &count, call->pool, field_text(call->arguments, "name"),
					    call->failure);
	for (size_t i = 0; i < count && !error; i++)
		json_object_array_add(array, describe_bookmark(&list[i]));
	free(list);
	field_put(call->result, "bookmarks", array);
	return error;
}

/* By their whole names. */
static int run_rename(struct command_call *call)
{
	const char *name = field_text(call->arguments, "name"),
		   *new_name = field_text(call->arguments, "new_name");
	const char *snapshot = strrchr(new_name, '@');
	struct lcpfs_snapshot_options options = snapshot_options(call);
	int error = lcpfs_snapshot_rename(call->pool, name, new_name, &options, call->failure);
	struct text full = TEXT_INIT;
	text_append(&full, "%.*s@%s", (int)strcspn(name, "@"), name, snapshot ? snapshot + 1 : new_name);
	field_put_text(call->result, "renamed", name);
	field_put_text(call->result, "name", text_get(&full));
	field_put_flag(call->result, "dry_run", options.dry_run);
	text_free(&full);
	return error;
}

static const struct command commands[] = {
	{"list", false, run_list, {{0}}},
	{"status", false, run_status, {{0}}},
	{"add",
	 true,
	 run_add,
	 {{"name", COMMAND_TEXT, true},
	  {"min_bytes", COMMAND_COUNT, true},
	  {"max_bytes", COMMAND_COUNT, true},
	  {"size_bytes", COMMAND_COUNT, false},
	  {"volume_bytes", COMMAND_COUNT, false},
	  {"thin", COMMAND_FLAG, false},
	  {"when_full_wait_s", COMMAND_COUNT, false},
	  {"of_space", COMMAND_FLAG, false},
	  {"dry_run", COMMAND_FLAG, false}}},
	{"set",
	 true,
	 run_set,
	 {{"name", COMMAND_TEXT, true},
	  {"new_name", COMMAND_TEXT, false},
	  {"min_bytes", COMMAND_COUNT, false},
	  {"max_bytes", COMMAND_COUNT, false},
	  {"volume_bytes", COMMAND_COUNT, false},
	  {"thin", COMMAND_FLAG, false},
	  {"when_full_wait_s", COMMAND_COUNT, false},
	  {"schedule", COMMAND_TEXT, false},
	  {"dry_run", COMMAND_FLAG, false}}},
	{"get", false, run_get, {{"name", COMMAND_TEXT, false}, {"property", COMMAND_TEXT, false}}},
	{"remove",
	 true,
	 run_remove,
	 {{"name", COMMAND_TEXT, true}, {"only_empty", COMMAND_FLAG, false}, {"dry_run", COMMAND_FLAG, false}}},
	{"resize",
	 true,
	 run_resize,
	 {{"name", COMMAND_TEXT, true},
	  {"size_bytes", COMMAND_COUNT, true},
	  {"of_space", COMMAND_FLAG, false},
	  {"dry_run", COMMAND_FLAG, false}}},
	{"grow", true, run_grow, {{"size_bytes", COMMAND_COUNT, false}, {"dry_run", COMMAND_FLAG, false}}},
	{"tune",
	 true,
	 run_tune,
	 {{"mode", COMMAND_TEXT, false},
	  {"cache_bytes", COMMAND_COUNT, false},
	  {"alarm_percent", COMMAND_COUNT, false},
	  {"dry_run", COMMAND_FLAG, false}}},
	{"explain", false, run_explain, {{"name", COMMAND_TEXT, false}, {"brief", COMMAND_FLAG, false}}},
	{"log", false, run_log, {{"after", COMMAND_COUNT, false}, {"limit", COMMAND_COUNT, false}}},
	{"report", false, run_report, {{0}}},
	{"iostat", false, run_iostat, {{"name", COMMAND_TEXT, false}}},
	{"metrics", false, run_metrics, {{"path", COMMAND_TEXT, false}, {"format", COMMAND_TEXT, false}}},
	{"scrub", true, run_scrub, {{0}}},
	{"snapshot", true, run_snapshot, {{"names", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"destroy", true, run_destroy, {{"names", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"clone",
	 true,
	 run_clone,
	 {{"snapshot", COMMAND_TEXT, true}, {"name", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"promote", true, run_promote, {{"name", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"hold", true, run_hold, {{"names", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"release", true, run_release, {{"names", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"bookmark",
	 true,
	 run_bookmark,
	 {{"name", COMMAND_TEXT, true}, {"bookmark", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"bookmarks", false, run_bookmarks, {{"name", COMMAND_TEXT, false}}},
	{"rename",
	 true,
	 run_rename,
	 {{"name", COMMAND_TEXT, true}, {"new_name", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"rollback",
	 true,
	 run_rollback,
	 {{"name", COMMAND_TEXT, true}, {"force", COMMAND_FLAG, false}, {"dry_run", COMMAND_FLAG, false}}},
	{"snapshots", false, run_snapshots, {{"name", COMMAND_TEXT, false}, {"sizes", COMMAND_FLAG, false}}},
	{"send",
	 false,
	 backup_send,
	 {{"name", COMMAND_TEXT, true}, {"from", COMMAND_TEXT, false}, {"dry_run", COMMAND_FLAG, false}}},
	{"receive",
	 true,
	 backup_receive,
	 {{"name", COMMAND_TEXT, true},
	  {"force", COMMAND_FLAG, false},
	  {"resume", COMMAND_FLAG, false},
	  {"abort", COMMAND_FLAG, false},
	  {"dry_run", COMMAND_FLAG, false}}},
	{"diff",
	 false,
	 backup_diff,
	 {{"from", COMMAND_TEXT, true}, {"to", COMMAND_TEXT, false}, {"offset", COMMAND_COUNT, false}}},
};

const struct command *command_find(const char *name)
{
	for (size_t i = 0; i < ARRAY_LENGTH(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

static bool is_of_kind(struct json_object *value, enum command_kind kind)
{
	if (kind == COMMAND_TEXT)
		return json_object_is_type(value, json_type_string) &&
		       strlen(json_object_get_string(value)) == (size_t)json_object_get_string_len(value);
	if (kind == COMMAND_FLAG)
		return json_object_is_type(value, json_type_boolean);
	return json_object_is_type(value, json_type_int) && json_object_get_int64(value) >= 0;
}

static const char *kind_words(enum command_kind kind)
{
	return kind == COMMAND_TEXT   ? "a text"
	       : kind == COMMAND_FLAG ? "true or false"
				      : "a whole number from 0 on";
}

static const struct command_argument *argument_find(const struct command *command, const char *name)
{
	for (const struct command_argument *a = command->arguments; a->name; a++)
		if (!strcmp(a->name, name))
			return a;
	return NULL;
}

static int check_arguments(const struct command *command, struct json_object *arguments,
			   struct lcpfs_failure *failure)
{
	const struct command_argument *a;
	json_object_object_foreach(arguments, name, value)
	{
		a = argument_find(command, name);
		if (!a)
			return failure_set(failure, LCPFS_E_INVALID, "%s takes no argument %s", command->name,
					   name);
		if (!is_of_kind(value, a->kind))
			return failure_set(failure, LCPFS_E_INVALID, "%s: %s must be %s", command->name, name,
					   kind_words(a->kind));
	}
	for (a = command->arguments; a->name; a++)
		if (a->required && !field_get(arguments, a->name))
			return failure_set(failure, LCPFS_E_INVALID, "%s needs the argument %s", command->name,
					   a->name);
	return 0;
}

int command_run(const struct command *command, struct lcpfs_pool *pool, const struct property_service *service,
		struct json_object *arguments, lcpfs_progress *progress, void *context, int fd,
		struct json_object **result, struct lcpfs_failure *failure)
{
	struct command_call call = {.pool = pool,
				    .service = service,
				    .arguments = arguments,
				    .progress = progress,
				    .context = context,
				    .fd = fd,
				    .failure = failure};
	int error = 0;
	*result = NULL;
	if (arguments)
		error = check_arguments(command, arguments, failure);
	else if (command->arguments[0].required)
		error = failure_set(failure, LCPFS_E_INVALID, "%s needs the argument %s", command->name,
				    command->arguments[0].name);
	if (error)
		return error;
	call.result = json_object_new_object();
	if (!call.result)
		return failure_set(failure, LCPFS_E_NOMEM, "%s", lcpfs_error_sentence(LCPFS_E_NOMEM));
	error = command->run(&call);
	if (error)
		json_object_put(call.result);
	else
		*result = call.result;
	return error;
}
