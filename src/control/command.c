/* SPDX-License-Identifier: Apache-2.0 */
#include "control/command.h"

#include <string.h>

#include "control/backup.h"
#include "control/change.h"
#include "control/field.h"
#include "control/query.h"
#include "control/snapshots.h"

static const struct command commands[] = {
	{"list", false, query_list, {{0}}},
	{"status", false, query_status, {{0}}},
	{"add",
	 true,
	 change_add,
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
	 change_set,
	 {{"name", COMMAND_TEXT, true},
	  {"new_name", COMMAND_TEXT, false},
	  {"min_bytes", COMMAND_COUNT, false},
	  {"max_bytes", COMMAND_COUNT, false},
	  {"volume_bytes", COMMAND_COUNT, false},
	  {"thin", COMMAND_FLAG, false},
	  {"when_full_wait_s", COMMAND_COUNT, false},
	  {"schedule", COMMAND_TEXT, false},
	  {"dry_run", COMMAND_FLAG, false}}},
	{"get", false, query_get, {{"name", COMMAND_TEXT, false}, {"property", COMMAND_TEXT, false}}},
	{"remove",
	 true,
	 change_remove,
	 {{"name", COMMAND_TEXT, true}, {"only_empty", COMMAND_FLAG, false}, {"dry_run", COMMAND_FLAG, false}}},
	{"resize",
	 true,
	 change_resize,
	 {{"name", COMMAND_TEXT, true},
	  {"size_bytes", COMMAND_COUNT, true},
	  {"of_space", COMMAND_FLAG, false},
	  {"dry_run", COMMAND_FLAG, false}}},
	{"grow", true, change_grow, {{"size_bytes", COMMAND_COUNT, false}, {"dry_run", COMMAND_FLAG, false}}},
	{"tune",
	 true,
	 change_tune,
	 {{"mode", COMMAND_TEXT, false},
	  {"cache_bytes", COMMAND_COUNT, false},
	  {"alarm_percent", COMMAND_COUNT, false},
	  {"dry_run", COMMAND_FLAG, false}}},
	{"explain", false, query_explain, {{"name", COMMAND_TEXT, false}, {"brief", COMMAND_FLAG, false}}},
	{"log", false, query_log, {{"after", COMMAND_COUNT, false}, {"limit", COMMAND_COUNT, false}}},
	{"report", false, query_report, {{0}}},
	{"iostat", false, query_iostat, {{"name", COMMAND_TEXT, false}}},
	{"metrics", false, query_metrics, {{"path", COMMAND_TEXT, false}, {"format", COMMAND_TEXT, false}}},
	{"scrub", true, change_scrub, {{0}}},
	{"snapshot", true, snapshots_take, {{"names", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"destroy", true, snapshots_destroy, {{"names", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"clone",
	 true,
	 snapshots_clone,
	 {{"snapshot", COMMAND_TEXT, true}, {"name", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"clones", false, snapshots_clones, {{"sizes", COMMAND_FLAG, false}}},
	{"promote", true, snapshots_promote, {{"name", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"hold", true, snapshots_hold, {{"names", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"release", true, snapshots_release, {{"names", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"bookmark",
	 true,
	 snapshots_bookmark,
	 {{"name", COMMAND_TEXT, true}, {"bookmark", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"bookmarks", false, snapshots_bookmarks, {{"name", COMMAND_TEXT, false}}},
	{"rename",
	 true,
	 snapshots_rename,
	 {{"name", COMMAND_TEXT, true}, {"new_name", COMMAND_TEXT, true}, {"dry_run", COMMAND_FLAG, false}}},
	{"rollback",
	 true,
	 snapshots_rollback,
	 {{"name", COMMAND_TEXT, true}, {"force", COMMAND_FLAG, false}, {"dry_run", COMMAND_FLAG, false}}},
	{"snapshots", false, snapshots_show, {{"name", COMMAND_TEXT, false}, {"sizes", COMMAND_FLAG, false}}},
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
