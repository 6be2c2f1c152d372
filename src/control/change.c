/* SPDX-License-Identifier: Apache-2.0 */
#include "control/change.h"

#include <stdlib.h>
#include <string.h>

#include "control/describe.h"
#include "control/field.h"
#include "pool/pool.h"

enum { FINDINGS_MAX = 100 }; /* listed; all are counted */

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

int change_add(struct command_call *call)
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

int change_remove(struct command_call *call)
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

int change_resize(struct command_call *call)
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

/* 0: it is none. */
static int find_clone(struct command_call *call, const char *name, struct lcpfs_clone_info *clone, bool *found)
{
	struct lcpfs_clone_info *list;
	size_t count;
	int error = describe_clones_load(&list, &count, call->pool, call->failure);
	*found = false;
	for (size_t i = 0; i < count && !error && !*found; i++) {
		*found = !strcmp(list[i].name, name);
		*clone = list[i];
	}
	free(list);
	return error;
}

/* Its length is all that can be set. */
static int set_clone(struct command_call *call, struct lcpfs_clone_info *clone)
{
	static const char *const others[] = {"new_name", "min_bytes", "max_bytes",
					     "thin",     "schedule",  "when_full_wait_s"};
	bool dry_run = field_flag(call->arguments, "dry_run");
	for (size_t i = 0; i < ARRAY_LENGTH(others); i++) {
		if (field_get(call->arguments, others[i]))
			return failure_set(call->failure, LCPFS_E_INVALID,
					   "%s is a clone: volume=SIZE is all that can be set; lcpfs rename "
					   "gives it another name",
					   clone->name);
	}
	uint64_t bytes = field_count(call->arguments, "volume_bytes");
	int error = lcpfs_clone_grow(call->pool, clone->name, bytes, dry_run, call->failure);
	if (!error)
		clone->volume_bytes = DIV_UP(bytes, 4096) * 4096;
	field_put(call->result, "clone", describe_clone(clone));
	field_put_flag(call->result, "dry_run", dry_run);
	return error;
}

int change_set(struct command_call *call)
{
	struct lcpfs_clone_info clone;
	bool is_clone;
	int error = find_clone(call, field_text(call->arguments, "name"), &clone, &is_clone);
	if (error || is_clone)
		return error ? error : set_clone(call, &clone);
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
	error = lcpfs_partition_set(call->pool, field_text(call->arguments, "name"), &change, call->progress,
				    call->context, &info, call->failure);
	if (error)
		return error;
	field_put(call->result, "partition", describe_partition(&info));
	field_put_flag(call->result, "dry_run", change.dry_run);
	return 0;
}

int change_grow(struct command_call *call)
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

int change_tune(struct command_call *call)
{
	bool is_dry = field_flag(call->arguments, "dry_run");
	struct lcpfs_pool_info info;
	int error = lcpfs_pool_get_info(call->pool, &info);
	if (error)
		return command_failed(call, error);
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

int change_scrub(struct command_call *call)
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
