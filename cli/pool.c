/* SPDX-License-Identifier: Apache-2.0 */
/* The commands of the common table (control/command.h): arguments in, the result as text or JSON out. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "cli.h"
#include "control/field.h"
#include "control/property.h"
#include "session.h"
#include "show.h"
#include "size.h"

typedef void show(struct json_object *result);

static void show_dry_run(struct json_object *result)
{
	if (field_flag(result, "dry_run"))
		printf("would be: ");
}

/* Runs it and shows its result; *kept (may be NULL) then gets the result. */
static int run_call(const struct cli *cli, struct session_call *call, show *show_text, struct json_object **kept)
{
	struct lcpfs_failure failure = {0};
	struct json_object *result;
	call->pool_path = cli->operands[0];
	call->command = call->command ? call->command : cli->command->name;
	int error = session_run(call, &result, &failure);
	if (call->progress)
		cli_progress_end(call->context, !error);
	if (error)
		return cli_failure(&failure);
	if (cli_flag(cli, "json"))
		show_json(result);
	else
		show_text(result);
	if (kept)
		*kept = result;
	else
		json_object_put(result);
	return CLI_DONE;
}

/* Of a command that changes something: "dry_run" too, and then the pool is opened only for reading. */
static bool take_dry_run(const struct cli *cli, struct json_object *arguments)
{
	bool is_dry = cli_flag(cli, "dry-run");
	if (is_dry)
		field_put_flag(arguments, "dry_run", true);
	return is_dry;
}

static int run(const struct cli *cli, struct json_object *arguments, show *show_text)
{
	struct session_call call = {.arguments = arguments, .only_asks = take_dry_run(cli, arguments)};
	return run_call(cli, &call, show_text, NULL);
}

/* For work that may take long. */
static int run_long(const struct cli *cli, struct json_object *arguments, show *show_text,
		    struct json_object **kept)
{
	struct cli_progress progress;
	struct session_call call = {.arguments = arguments,
				    .only_asks = take_dry_run(cli, arguments),
				    .progress = cli_progress,
				    .context = &progress};
	cli_progress_start(&progress, cli);
	return run_call(cli, &call, show_text, kept);
}

static struct json_object *named(const char *name)
{
	struct json_object *arguments = json_object_new_object();
	if (name)
		field_put_text(arguments, "name", name);
	return arguments;
}

int pool_list(const struct cli *cli)
{
	if (cli_flag(cli, "snapshots") + cli_flag(cli, "clones") + cli_flag(cli, "bookmarks") > 1)
		return cli_usage("--snapshots, --clones and --bookmarks go one at a time");
	if (cli_flag(cli, "snapshots"))
		return snapshots_list(cli);
	if (cli_flag(cli, "clones"))
		return clones_list(cli);
	if (cli_flag(cli, "bookmarks"))
		return bookmarks_list(cli);
	if (cli_flag(cli, "columns") || cli_flag(cli, "script"))
		return cli_usage("--columns and --script go with --snapshots, --clones or --bookmarks");
	return run(cli, NULL, show_list);
}

int pool_status(const struct cli *cli)
{
	return run(cli, NULL, show_status);
}

int pool_explain(const struct cli *cli)
{
	return run(cli, named(cli->operands[1]), show_explain);
}

static int add_size(const struct cli *cli, struct json_object *arguments, const char *option, const char *key)
{
	uint64_t bytes = 0;
	int error = cli_size(cli, option, &bytes);
	if (!error && bytes)
		field_put_count(arguments, key, bytes);
	return error;
}

/* "error", or "wait=60s": seconds. NULL, or what is wrong with it. */
static const char *parse_when_full(const char *text, uint64_t *seconds)
{
	static const char wrong[] = "is neither error nor wait=TIME, as in wait=60s or wait=5m";
	char *end;
	*seconds = 0;
	if (!strcmp(text, "error"))
		return NULL;
	if (strncmp(text, "wait=", 5) != 0 || text[5] < '0' || text[5] > '9')
		return wrong;
	unsigned long long n = strtoull(text + 5, &end, 10);
	if (n > LCPFS_WAIT_S_MAX || (*end && (end[1] || !strchr("smh", *end))))
		return wrong;
	*seconds = n * (*end == 'h' ? 3600 : *end == 'm' ? 60 : 1);
	return !*seconds || *seconds > LCPFS_WAIT_S_MAX ? "is not between 1 second and a day" : NULL;
}

static int add_schedule(struct json_object *arguments, const char *text)
{
	struct lcpfs_snapshot_schedule schedule;
	if (lcpfs_snapshot_schedule_parse(text, &schedule))
		return cli_usage(
			"snapshots=%s: give off, or one or more of hourly:N,daily:N,weekly:N,monthly:N with "
			"N from 1 to 255",
			text);
	field_put_text(arguments, "schedule", text);
	return 0;
}

static int add_when_full(struct json_object *arguments, const char *text)
{
	uint64_t seconds;
	const char *wrong = parse_when_full(text, &seconds);
	if (wrong)
		return cli_usage("when-full: %s %s", text, wrong);
	field_put_count(arguments, "when_full_wait_s", seconds);
	return 0;
}

static void show_changed(struct json_object *result)
{
	struct json_object *clone = field_get(result, "clone");
	const char *name = clone ? field_text(clone, "name") : NULL;
	char volume[SIZE_TEXT];
	show_dry_run(result);
	if (name) {
		printf("%s: volume %s\n", name, show_volume(clone, volume));
		return;
	}
	show_partition(result);
}

int pool_add(const struct cli *cli)
{
	static const char *const sizes[][2] = {
		{"min", "min_bytes"}, {"max", "max_bytes"}, {"size", "size_bytes"}, {"volume", "volume_bytes"}};
	int error = 0;
	if (!cli_flag(cli, "min") || !cli_flag(cli, "max"))
		return cli_usage("add needs --min SIZE and --max SIZE; see lcpfs help add");
	struct json_object *arguments = named(cli->operands[1]);
	for (size_t i = 0; i < ARRAY_LENGTH(sizes) && !error; i++)
		error = add_size(cli, arguments, sizes[i][0], sizes[i][1]);
	if (!error && cli_flag(cli, "thin"))
		field_put_flag(arguments, "thin", true);
	if (!error && cli_flag(cli, "space"))
		field_put_flag(arguments, "of_space", true);
	if (!error && cli_flag(cli, "when-full"))
		error = add_when_full(arguments, cli_value(cli, "when-full"));
	if (!error)
		return run(cli, arguments, show_changed);
	json_object_put(arguments);
	return error;
}

/* ---- set ---- */

static int set_size(struct json_object *arguments, const char *key, const char *text)
{
	uint64_t bytes;
	const char *wrong = size_parse(text, &bytes);
	if (wrong)
		return cli_usage("%s %s", text, wrong);
	field_put_count(arguments, key, bytes);
	return 0;
}

static int set_value(struct json_object *arguments, const char *assignment)
{
	static const char *const sizes[][2] = {
		{"min", "min_bytes"}, {"max", "max_bytes"}, {"volume", "volume_bytes"}};
	const char *equals = strchr(assignment, '=');
	size_t length = equals ? (size_t)(equals - assignment) : 0;
	char key[16] = "";
	if (length < sizeof(key))
		memcpy(key, assignment, length);
	for (size_t i = 0; i < ARRAY_LENGTH(sizes); i++) {
		if (!strcmp(key, sizes[i][0]))
			return set_size(arguments, sizes[i][1], equals + 1);
	}
	if (!strcmp(key, "when-full"))
		return add_when_full(arguments, equals + 1);
	if (!strcmp(key, "snapshots"))
		return add_schedule(arguments, equals + 1);
	if (strcmp(key, "name") != 0)
		return cli_usage(
			"%s: what can be set is min=SIZE, max=SIZE, volume=SIZE, name=NAME, "
			"when-full=error or wait=TIME, snapshots=off or hourly:N,daily:N,weekly:N,monthly:N",
			assignment);
	field_put_text(arguments, "new_name", equals + 1);
	return 0;
}

static void show_mode(struct json_object *result)
{
	const char *mode = field_text(result, "mode");
	show_dry_run(result);
	printf("%s\n", mode ? mode : "");
}

/* `mode` NULL: only asks. */
static int tune(const struct cli *cli, const char *mode)
{
	struct session_call call = {.command = "tune", .only_asks = !mode || cli_flag(cli, "dry-run")};
	enum lcpfs_engine_mode checked;
	if (mode) {
		if (cli_mode(mode, &checked))
			return CLI_USAGE;
		call.arguments = json_object_new_object();
		field_put_text(call.arguments, "mode", mode);
		take_dry_run(cli, call.arguments);
	}
	return run_call(cli, &call, show_mode, NULL);
}

static void show_settings(struct json_object *result)
{
	uint64_t cache = field_count(result, "cache_bytes"), alarm = field_count(result, "alarm_percent");
	const char *mode = field_text(result, "mode");
	char size[SIZE_TEXT];
	size_print(size, cache ? cache : PROPERTY_CACHE_BYTES);
	show_dry_run(result);
	printf("tune %s, cache %s, alarm %llu%%\n", mode ? mode : "", size,
	       (unsigned long long)(alarm ? alarm : PROPERTY_ALARM_PERCENT));
}

/* Of the pool. 0 or CLI_USAGE. */
static int set_pool_value(struct json_object *arguments, const char *assignment)
{
	const char *value = strchr(assignment, '=');
	enum lcpfs_engine_mode mode;
	unsigned percent = 0;
	uint64_t bytes = 0;
	const char *wrong;
	value = value ? value + 1 : "";
	if (!strncmp(assignment, "tune=", 5)) {
		if (cli_mode(value, &mode))
			return CLI_USAGE;
		field_put_text(arguments, "mode", value);
	} else if (!strncmp(assignment, "cache=", 6)) {
		wrong = strcmp(value, "default") != 0 ? size_parse(value, &bytes) : NULL;
		if (wrong)
			return cli_usage("cache=%s %s", value, wrong);
		field_put_count(arguments, "cache_bytes", bytes);
	} else if (!strncmp(assignment, "alarm=", 6)) {
		if (strcmp(value, "default") != 0 && !size_parse_alarm(value, &percent))
			return cli_usage("alarm=%s is not a percentage from 10 to 100", value);
		field_put_count(arguments, "alarm_percent", percent);
	} else {
		return cli_usage(
			"%s: what can be set of the pool is tune=off, tune=observe or tune=on, cache=SIZE, "
			"alarm=PERCENT; to set something of a partition, name it: lcpfs set POOL NAME "
			"KEY=VALUE",
			assignment);
	}
	return 0;
}

/* Without a name in between. */
static int set_pool(const struct cli *cli)
{
	struct session_call call = {
		.command = "tune", .only_asks = cli_flag(cli, "dry-run"), .arguments = json_object_new_object()};
	int error = 0;
	if (!strncmp(cli->operands[1], "tune=", 5) && !cli->operands[2]) {
		json_object_put(call.arguments);
		return tune(cli, cli->operands[1] + 5);
	}
	for (int i = 1; i < CLI_OPERANDS_MAX && cli->operands[i] && !error; i++)
		error = set_pool_value(call.arguments, cli->operands[i]);
	if (error) {
		json_object_put(call.arguments);
		return error;
	}
	take_dry_run(cli, call.arguments);
	return run_call(cli, &call, show_settings, NULL);
}

int pool_set(const struct cli *cli)
{
	int error = 0;
	if (strchr(cli->operands[1], '='))
		return set_pool(cli);
	if (!cli->operands[2])
		return cli_usage("set needs KEY=VALUE behind the name; see lcpfs help set");
	struct json_object *arguments = named(cli->operands[1]);
	for (int i = 2; i < CLI_OPERANDS_MAX && cli->operands[i] && !error; i++)
		error = set_value(arguments, cli->operands[i]);
	if (error) {
		json_object_put(arguments);
		return error;
	}
	if (cli_flag(cli, "thin"))
		field_put_flag(arguments, "thin", true);
	return run_long(cli, arguments, show_changed, NULL);
}

int pool_resize(const struct cli *cli)
{
	uint64_t bytes;
	const char *wrong = size_parse(cli->operands[2], &bytes);
	if (wrong)
		return cli_usage("%s %s", cli->operands[2], wrong);
	struct json_object *arguments = named(cli->operands[1]);
	field_put_count(arguments, "size_bytes", bytes);
	if (cli_flag(cli, "space"))
		field_put_flag(arguments, "of_space", true);
	return run_long(cli, arguments, show_changed, NULL);
}

static void show_growth(struct json_object *result)
{
	uint64_t before = field_count(result, "old_size_blocks"), after = field_count(result, "size_blocks");
	char old[SIZE_TEXT], new[SIZE_TEXT], missing[SIZE_TEXT];
	size_print_blocks(old, before);
	size_print_blocks(new, after);
	size_print_blocks(missing, field_count(result, "missing_blocks"));
	if (before == after) {
		printf("nothing gained: the pool stays at %s; its file or device has to be at least %s larger\n",
		       old, missing);
		return;
	}
	show_dry_run(result);
	printf("the pool: %s → %s\n", old, new);
}

int pool_grow(const struct cli *cli)
{
	struct json_object *arguments = json_object_new_object();
	int error = add_size(cli, arguments, "size", "size_bytes");
	if (!error)
		return run(cli, arguments, show_growth);
	json_object_put(arguments);
	return error;
}

int pool_tune(const struct cli *cli)
{
	return tune(cli, cli->operands[1]);
}

/* ---- scrub ---- */

static void show_scrub(struct json_object *result)
{
	char read[SIZE_TEXT];
	show_findings(field_get(result, "findings"));
	size_print_blocks(read, field_count(result, "checked_blocks"));
	printf("%s verified, %llu damaged, %llu repaired\n", read,
	       (unsigned long long)field_count(result, "damaged"),
	       (unsigned long long)field_count(result, "repaired"));
}

int pool_scrub(const struct cli *cli)
{
	struct json_object *result;
	uint64_t damaged, repaired;
	int status = run_long(cli, NULL, show_scrub, &result);
	if (status)
		return status;
	damaged = field_count(result, "damaged");
	repaired = field_count(result, "repaired");
	json_object_put(result);
	if (damaged > repaired)
		return cli_failed("%s: %llu damaged place%s cannot be repaired: write what was there anew, "
				  "from a copy",
				  cli->operands[0], (unsigned long long)(damaged - repaired),
				  damaged - repaired == 1 ? "" : "s");
	return CLI_DONE;
}

/* ---- log ---- */

static int parse_count(const struct cli *cli, const char *option, struct json_object *arguments, const char *key)
{
	const char *text = cli_value(cli, option);
	char *end;
	if (!text)
		return 0;
	unsigned long long n = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || n > INT32_MAX)
		return cli_usage("--%s %s is not a whole number", option, text);
	field_put_count(arguments, key, n);
	return 0;
}

static uint64_t last_number(struct json_object *result, uint64_t before)
{
	struct json_object *events = field_get(result, "events");
	size_t count = field_length(events);
	return count ? field_count(json_object_array_get_idx(events, count - 1), "number") : before;
}

/* In JSON an object per round that has events, so that each line stands for itself. */
static void show_new_events(const struct cli *cli, struct json_object *result)
{
	if (!field_length(field_get(result, "events")))
		return;
	if (cli_flag(cli, "json"))
		show_json(result);
	else
		show_events(result);
	fflush(stdout);
}

static int follow(const struct cli *cli, uint64_t after)
{
	struct timespec pause = {.tv_sec = 1};
	struct session_call call = {.pool_path = cli->operands[0], .command = "log"};
	struct json_object *result = NULL; /* GCC at -O3 cannot see that session_run sets it */
	struct lcpfs_failure failure;
	while (nanosleep(&pause, NULL) == 0 && !cli_interrupted()) {
		call.arguments = json_object_new_object();
		field_put_count(call.arguments, "after", after);
		if (session_run(&call, &result, &failure))
			return cli_failure(&failure);
		after = last_number(result, after);
		show_new_events(cli, result);
		json_object_put(result);
	}
	return CLI_DONE;
}

int pool_log(const struct cli *cli)
{
	struct cli_progress progress;
	struct session_call call = {.arguments = json_object_new_object()};
	struct json_object *result;
	uint64_t after;
	int status = parse_count(cli, "last", call.arguments, "limit");
	if (!status)
		status = parse_count(cli, "after", call.arguments, "after");
	if (status) {
		json_object_put(call.arguments);
		return status;
	}
	after = field_count(call.arguments, "after");
	status = run_call(cli, &call, show_events, &result);
	if (status)
		return status;
	after = last_number(result, after);
	json_object_put(result);
	if (!cli_flag(cli, "follow"))
		return CLI_DONE;
	fflush(stdout);
	cli_progress_start(&progress, cli);
	(void)cli_progress(&progress, 0, 0);
	return follow(cli, after);
}

/* ---- snapshots ---- */

/* All operands behind the pool, separated by commas. */
static struct json_object *snapshot_names(const struct cli *cli)
{
	struct json_object *arguments = json_object_new_object();
	struct text names = TEXT_INIT;
	for (int i = 1; i < CLI_OPERANDS_MAX && cli->operands[i]; i++)
		text_append(&names, "%s%s", i > 1 ? "," : "", cli->operands[i]);
	field_put_text(arguments, "names", text_get(&names));
	text_free(&names);
	return arguments;
}

static void show_each(struct json_object *result, const char *key)
{
	struct json_object *names = field_get(result, key);
	for (size_t i = 0; i < field_length(names); i++) {
		show_dry_run(result);
		printf("%s: %s\n", json_object_get_string(json_object_array_get_idx(names, i)), key);
	}
}

static void show_names(struct json_object *result)
{
	show_each(result, "created");
	show_each(result, "held");
	show_each(result, "released");
}

static void show_destroyed(struct json_object *result)
{
	char size[SIZE_TEXT];
	show_each(result, "destroyed");
	if (!field_get(result, "freed_blocks"))
		return;
	size_print_blocks(size, field_count(result, "freed_blocks"));
	printf("would free %s\n", size);
}

static void show_rolled_back(struct json_object *result)
{
	const char *name = field_text(result, "rolled_back");
	show_each(result, "destroyed");
	show_dry_run(result);
	printf("%.*s: rolled back to %s\n", (int)strcspn(name ? name : "", "@"), name ? name : "",
	       name ? name : "");
}

int pool_snapshot(const struct cli *cli)
{
	return run(cli, snapshot_names(cli), show_names);
}

/* `key` and `other_key`: the names of two that have to do with each other. */
static void show_pair(struct json_object *result, const char *key, const char *words, const char *other_key,
		      const char *rest)
{
	const char *name = field_text(result, key), *other = field_text(result, other_key);
	show_dry_run(result);
	printf("%s: %s %s%s\n", name ? name : "", words, other ? other : "", rest);
}

static void show_cloned(struct json_object *result)
{
	show_pair(result, "cloned", "a clone of", "origin", "");
}

int pool_clone(const struct cli *cli)
{
	struct json_object *arguments = named(cli->operands[2]);
	field_put_text(arguments, "snapshot", cli->operands[1]);
	return run(cli, arguments, show_cloned);
}

static void show_promoted(struct json_object *result)
{
	show_pair(result, "promoted", "promoted;", "clone", " is its clone now");
}

int pool_promote(const struct cli *cli)
{
	return run(cli, named(cli->operands[1]), show_promoted);
}

int pool_destroy(const struct cli *cli)
{
	return run_long(cli, snapshot_names(cli), show_destroyed, NULL);
}

int pool_hold(const struct cli *cli)
{
	return run(cli, snapshot_names(cli), show_names);
}

int pool_release(const struct cli *cli)
{
	return run(cli, snapshot_names(cli), show_names);
}

static void show_renamed(struct json_object *result)
{
	show_pair(result, "name", "renamed, was", "renamed", "");
}

int pool_rename(const struct cli *cli)
{
	struct json_object *arguments = named(cli->operands[1]);
	field_put_text(arguments, "new_name", cli->operands[2]);
	return run(cli, arguments, show_renamed);
}

static void show_bookmark(struct json_object *result)
{
	show_pair(result, "bookmark", "bookmark of", "snapshot", "");
}

int pool_bookmark(const struct cli *cli)
{
	struct json_object *arguments = named(cli->operands[1]);
	field_put_text(arguments, "bookmark", cli->operands[2]);
	return run(cli, arguments, show_bookmark);
}

int pool_rollback(const struct cli *cli)
{
	struct json_object *arguments = named(cli->operands[1]);
	if (cli_flag(cli, "force"))
		field_put_flag(arguments, "force", true);
	return run_long(cli, arguments, show_rolled_back, NULL);
}
