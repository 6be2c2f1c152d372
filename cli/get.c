/* SPDX-License-Identifier: Apache-2.0 */
/* lcpfs get: properties of the pool and of its partitions, and where their values come from. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/text.h"
#include "cli.h"
#include "control/field.h"
#include "control/property.h"
#include "session.h"
#include "show.h"
#include "size.h"
#include "table.h"

enum { COLUMNS = 4, CELL = 256 };

static const char *const column_names[COLUMNS] = {"partition", "property", "value", "source"};
static const char *const column_titles[COLUMNS] = {"<PARTITION", "<PROPERTY", "<VALUE", "<SOURCE"};

struct getting {
	const struct cli *cli;
	int columns[COLUMNS]; /* which, from left to right */
	int count;
	struct table *table; /* NULL: for scripts */
};

/* ---- what is asked for ---- */

/* The names from this operand on, separated by commas; NULL: there are none. The caller frees it. */
static char *join(const struct cli *cli, int first)
{
	struct text all = TEXT_INIT;
	char *copy = NULL;
	for (int i = first; i < CLI_OPERANDS_MAX && cli->operands[i]; i++)
		text_append(&all, "%s%s", i > first ? "," : "", cli->operands[i]);
	if (cli->operands[first])
		CHECK(copy = strdup(text_get(&all)));
	text_free(&all);
	return copy;
}

static int check_names(const char *names, unsigned of)
{
	struct lcpfs_failure failure;
	return property_check(names, of, &failure) ? cli_usage("%s; see lcpfs help get", failure.message) : 0;
}

static int ask(const struct cli *cli, const char *partition, const char *names, struct json_object **result,
	       struct lcpfs_failure *failure)
{
	struct session_call call = {
		.pool_path = cli->operands[0], .command = "get", .arguments = json_object_new_object()};
	if (partition)
		field_put_text(call.arguments, "name", partition);
	if (names)
		field_put_text(call.arguments, "property", names);
	return session_run(&call, result, failure);
}

/* What comes behind the pool is a partition; where none is called so, it may be a property like the rest. */
static int ask_either(const struct cli *cli, struct json_object **result, struct lcpfs_failure *failure)
{
	const unsigned any = PROPERTY_OF_POOL | PROPERTY_OF_PARTITION;
	char *all = join(cli, 1), *rest = all ? join(cli, 2) : NULL;
	int error = ask(cli, cli->operands[1], rest, result, failure);
	if (error == -LCPFS_E_NOT_FOUND && all && !property_check(all, any, NULL))
		error = ask(cli, NULL, all, result, failure);
	free(all);
	free(rest);
	return error;
}

/* ---- what is shown ---- */

static void value_text(const struct getting *g, const char *name, struct json_object *value, char text[CELL])
{
	const struct property *property = property_find(name);
	enum property_kind kind = property ? property->kind : PROPERTY_TEXT;
	bool is_exact = cli_flag(g->cli, "parsable");
	if (!value)
		snprintf(text, CELL, kind == PROPERTY_TIME ? "never" : "-");
	else if (kind == PROPERTY_SWITCH)
		snprintf(text, CELL, json_object_get_boolean(value) ? "on" : "off");
	else if (kind == PROPERTY_BYTES && !is_exact)
		size_print(text, json_object_get_uint64(value));
	else if (kind == PROPERTY_PERCENT && !is_exact)
		snprintf(text, CELL, "%s%%", json_object_get_string(value));
	else if (kind == PROPERTY_TIME && !is_exact)
		show_time(json_object_get_uint64(value), text);
	else
		snprintf(text, CELL, "%s", json_object_get_string(value));
}

static const char *source_text(struct json_object *property)
{
	const char *source = field_text(property, "source");
	if (!source)
		return "-";
	return strcmp(source, "inherited") != 0 ? source : "inherited from the pool";
}

static void show_property(struct getting *g, const char *partition, const char *name, struct json_object *property)
{
	char value[CELL];
	value_text(g, name, field_get(property, "value"), value);
	const char *const cells[COLUMNS] = {partition, name, value, source_text(property)};
	if (g->table)
		table_row(g->table);
	for (int i = 0; i < g->count; i++) {
		const char *cell = cells[g->columns[i]];
		if (g->table)
			table_cell(g->table, "%s", cell);
		else
			printf("%s%s", i ? "\t" : "", cell);
	}
	if (!g->table)
		printf("\n");
}

static void show_object(struct getting *g, const char *partition, struct json_object *object)
{
	struct json_object *properties = field_get(object, "properties");
	if (!json_object_is_type(properties, json_type_object))
		return;
	json_object_object_foreach(properties, name, property)
	{
		show_property(g, partition, name, property);
	}
}

static void show_all(struct getting *g, struct json_object *result)
{
	struct json_object *partitions = field_get(result, "partitions");
	const char *titles[COLUMNS + 1] = {NULL};
	for (int i = 0; i < g->count; i++)
		titles[i] = column_titles[g->columns[i]];
	g->table = cli_flag(g->cli, "script") ? NULL : table_new(titles);
	show_object(g, "-", field_get(result, "pool"));
	for (size_t i = 0; i < field_length(partitions); i++) {
		struct json_object *partition = json_object_array_get_idx(partitions, i);
		const char *name = field_text(partition, "name");
		show_object(g, name ? name : "", partition);
	}
	if (g->table)
		table_print(g->table);
}

int get_command(const struct cli *cli)
{
	struct getting getting = {.cli = cli};
	struct lcpfs_failure failure = {0};
	struct json_object *result;
	char *names = cli->operands[1] ? join(cli, 2) : NULL;
	int error = check_names(names, PROPERTY_OF_POOL | PROPERTY_OF_PARTITION);
	free(names);
	if (!error)
		error = cli_columns(cli, column_names, COLUMNS, getting.columns, &getting.count);
	if (error)
		return error;
	if (ask_either(cli, &result, &failure))
		return cli_failure(&failure);
	if (cli_flag(cli, "json"))
		show_json(result);
	else
		show_all(&getting, result);
	json_object_put(result);
	return CLI_DONE;
}
