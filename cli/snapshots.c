/* SPDX-License-Identifier: Apache-2.0 */
/* lcpfs list --snapshots, --clones, --bookmarks: what takes time is looked for only where it is asked for. */
#include <stdio.h>

#include "cli.h"
#include "control/field.h"
#include "session.h"
#include "show.h"
#include "size.h"
#include "table.h"

enum { NAME, USED, REFERENCED, WRITTEN, LENGTH, CREATED, STATE, OF, COLUMNS, CELL = 160 };

static const char *const column_names[OF] = {"name",   "used",    "referenced", "written",
					     "length", "created", "state"};
static const char *const column_titles[COLUMNS] = {"<NAME",  "USED",     "REFERENCED", "WRITTEN",
						   "LENGTH", "<CREATED", "<STATE",     "<OF"};
static const char *const size_keys[COLUMNS] = {
	[USED] = "used_blocks", [REFERENCED] = "referenced_blocks", [WRITTEN] = "written_blocks"};

struct listing {
	const struct cli *cli;
	int columns[COLUMNS]; /* which, from left to right */
	int count;
};

static void cell_text(struct json_object *snapshot, int column, char text[CELL])
{
	char size[SIZE_TEXT] = "-", time[TIME_TEXT];
	const char *name = field_text(snapshot, column == OF ? "origin" : "name");
	if (size_keys[column]) { /* "-": a part of it cannot be read */
		if (field_get(snapshot, size_keys[column]))
			size_print_blocks(size, field_count(snapshot, size_keys[column]));
		snprintf(text, CELL, "%s", size);
	} else if (column == LENGTH) {
		snprintf(text, CELL, "%s", show_volume(snapshot, size));
	} else if (column == CREATED) {
		snprintf(text, CELL, "%s", show_time(field_count(snapshot, "created_s"), time));
	} else if (column == STATE) {
		snprintf(text, CELL, "%s", field_flag(snapshot, "held") ? "held" : "");
	} else {
		snprintf(text, CELL, "%s", name ? name : "");
	}
}

static void show(const struct listing *l, struct json_object *snapshots)
{
	const char *titles[COLUMNS + 1] = {NULL};
	char text[CELL];
	for (int i = 0; i < l->count; i++)
		titles[i] = column_titles[l->columns[i]];
	struct table *table = cli_flag(l->cli, "script") ? NULL : table_new(titles);
	for (size_t i = 0; i < field_length(snapshots); i++) {
		if (table)
			table_row(table);
		for (int c = 0; c < l->count; c++) {
			cell_text(json_object_array_get_idx(snapshots, i), l->columns[c], text);
			if (table)
				table_cell(table, "%s", text);
			else
				printf("%s%s%s", c ? "\t" : "", text, c + 1 < l->count ? "" : "\n");
		}
	}
	if (table)
		table_print(table);
}

static int ask(struct listing *l, struct session_call *call, const char *key)
{
	struct cli_progress progress;
	struct lcpfs_failure failure = {0};
	struct json_object *result;
	call->pool_path = l->cli->operands[0];
	call->progress = cli_progress;
	call->context = &progress;
	cli_progress_start(&progress, l->cli);
	int error = session_run(call, &result, &failure);
	cli_progress_end(&progress, !error);
	if (error)
		return cli_failure(&failure);
	if (cli_flag(l->cli, "json"))
		show_json(result);
	else
		show(l, field_get(result, key));
	json_object_put(result);
	return CLI_DONE;
}

int bookmarks_list(const struct cli *cli)
{
	static const char *const names[] = {"name", "created"};
	static const int columns[] = {NAME, CREATED};
	struct session_call call = {.command = "bookmarks"};
	struct listing l = {.cli = cli};
	int error = cli_columns(cli, names, ARRAY_LENGTH(names), l.columns, &l.count);
	for (int i = 0; i < l.count; i++)
		l.columns[i] = columns[l.columns[i]];
	return error ? error : ask(&l, &call, "bookmarks");
}

/* With the sizes, if a column is of one. */
static int ask_sizes(struct listing *l, const char *command)
{
	struct session_call call = {.command = command, .arguments = json_object_new_object()};
	bool sizes = false;
	for (int i = 0; i < l->count; i++)
		sizes |= size_keys[l->columns[i]] != NULL;
	field_put_flag(call.arguments, "sizes", sizes);
	return ask(l, &call, command);
}

int clones_list(const struct cli *cli)
{
	static const char *const names[] = {"name", "of", "used", "length", "created"};
	static const int columns[] = {NAME, OF, USED, LENGTH, CREATED};
	struct listing l = {.cli = cli};
	int error = cli_columns(cli, names, ARRAY_LENGTH(names), l.columns, &l.count);
	for (int i = 0; i < l.count; i++)
		l.columns[i] = columns[l.columns[i]];
	return error ? error : ask_sizes(&l, "clones");
}

int snapshots_list(const struct cli *cli)
{
	struct listing l = {.cli = cli};
	int error = cli_columns(cli, column_names, ARRAY_LENGTH(column_names), l.columns, &l.count);
	return error ? error : ask_sizes(&l, "snapshots");
}
