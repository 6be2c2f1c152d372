/* SPDX-License-Identifier: Apache-2.0 */
#include "control/snapshots.h"

#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "control/describe.h"
#include "control/field.h"
#include "control/names.h"

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

int snapshots_hold(struct command_call *call)
{
	return run_on_snapshots(call, lcpfs_snapshot_hold, "held");
}

int snapshots_release(struct command_call *call)
{
	return run_on_snapshots(call, lcpfs_snapshot_release, "released");
}

int snapshots_take(struct command_call *call)
{
	return run_on_snapshots(call, lcpfs_snapshot_create, "created");
}

/* Names of bookmarks, separated by commas. */
static int destroy_bookmarks(struct command_call *call)
{
	struct lcpfs_snapshot_options options = snapshot_options(call);
	struct json_object *array = json_object_new_array();
	char *copy = strdup(field_text(call->arguments, "names")), *rest = copy, *name;
	int error = copy ? 0 : command_failed(call, -LCPFS_E_NOMEM);
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
int snapshots_destroy(struct command_call *call)
{
	const char *names = field_text(call->arguments, "names");
	if (strchr(names, '#'))
		return destroy_bookmarks(call);
	if (!memchr(names, '@', strcspn(names, ",")))
		return run_on_snapshots(call, destroy_clones, "destroyed");
	return run_on_snapshots(call, lcpfs_snapshot_destroy, "destroyed");
}

int snapshots_clone(struct command_call *call)
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

int snapshots_promote(struct command_call *call)
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

/* One of a list, with its sizes where they are asked for. */
static void put_sized(struct command_call *call, struct json_object *array, const char *name,
		      struct json_object *object,
		      int (*add)(struct command_call *, const char *, struct json_object *))
{
	if (field_flag(call->arguments, "sizes") && !add(call, name, object))
		json_object_put(object);
	else
		json_object_array_add(array, object);
}

/* Sizes take long: is who asked for them gone? */
static bool is_given_up(const struct command_call *call, size_t done, size_t count)
{
	return field_flag(call->arguments, "sizes") && call->progress &&
	       !call->progress(call->context, done, count);
}

int snapshots_show(struct command_call *call)
{
	struct json_object *array = json_object_new_array();
	struct lcpfs_snapshot_info *list;
	size_t count;
	int error = describe_snapshots_load(&list, &count, call->pool, field_text(call->arguments, "name"),
					    call->failure);
	for (size_t i = 0; i < count && !error; i++) {
		put_sized(call, array, list[i].name, describe_snapshot(&list[i]), add_sizes);
		if (is_given_up(call, i + 1, count))
			break;
	}
	free(list);
	field_put(call->result, "snapshots", array);
	return error;
}

/* As add_sizes. */
static int add_used(struct command_call *call, const char *name, struct json_object *object)
{
	uint64_t blocks;
	int error = lcpfs_clone_used(call->pool, name, &blocks, NULL);
	if (!error)
		field_put_count(object, "used_blocks", blocks);
	return error != -LCPFS_E_NOT_FOUND;
}

int snapshots_clones(struct command_call *call)
{
	struct json_object *array = json_object_new_array();
	struct lcpfs_clone_info *list;
	size_t count;
	int error = describe_clones_load(&list, &count, call->pool, call->failure);
	for (size_t i = 0; i < count && !error; i++) {
		put_sized(call, array, list[i].name, describe_clone(&list[i]), add_used);
		if (is_given_up(call, i + 1, count))
			break;
	}
	free(list);
	field_put(call->result, "clones", array);
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

int snapshots_rollback(struct command_call *call)
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

int snapshots_bookmark(struct command_call *call)
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

int snapshots_bookmarks(struct command_call *call)
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

static int rename_clone(struct command_call *call)
{
	const char *name = field_text(call->arguments, "name"),
		   *new_name = field_text(call->arguments, "new_name");
	bool dry_run = field_flag(call->arguments, "dry_run");
	int error = lcpfs_clone_rename(call->pool, name, new_name, dry_run, call->failure);
	field_put_text(call->result, "renamed", name);
	field_put_text(call->result, "name", new_name);
	field_put_flag(call->result, "dry_run", dry_run);
	return error;
}

/* Of snapshots by their whole names. */
int snapshots_rename(struct command_call *call)
{
	if (!strchr(field_text(call->arguments, "name"), '@'))
		return rename_clone(call);
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
