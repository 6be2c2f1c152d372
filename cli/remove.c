/* SPDX-License-Identifier: Apache-2.0 */
/* lcpfs remove. What holds data goes only by --force, or at a terminal by its name, typed once more. */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cli.h"
#include "control/field.h"
#include "session.h"
#include "show.h"
#include "size.h"

static bool at_terminal(void)
{
	return isatty(STDIN_FILENO) && isatty(STDERR_FILENO);
}

static int ask(const struct cli *cli, bool only_empty, bool dry_run, struct json_object **result,
	       struct lcpfs_failure *failure)
{
	struct session_call call = {.pool_path = cli->operands[0],
				    .command = "remove",
				    .arguments = json_object_new_object(),
				    .only_asks = dry_run};
	field_put_text(call.arguments, "name", cli->operands[1]);
	if (only_empty)
		field_put_flag(call.arguments, "only_empty", true);
	if (dry_run)
		field_put_flag(call.arguments, "dry_run", true);
	return session_run(&call, result, failure);
}

/* What the user types, without its end; NULL: nothing. The caller frees it. */
static char *read_answer(void)
{
	char *line = NULL;
	size_t room = 0;
	ssize_t length = getline(&line, &room, stdin);
	if (length < 0) {
		fputc('\n', stderr);
		free(line);
		return NULL;
	}
	line[strcspn(line, "\n")] = '\0';
	return line;
}

enum { SNAPSHOTS_TEXT = 48 };

/* " and 2 snapshots", or nothing where there are none. */
static void print_snapshots(char text[SNAPSHOTS_TEXT], struct json_object *result)
{
	uint64_t count = field_count(result, "snapshots");
	text[0] = '\0';
	if (count)
		snprintf(text, SNAPSHOTS_TEXT, " and %llu snapshot%s", (unsigned long long)count,
			 count == 1 ? "" : "s");
}

/* Of one that holds data: what is lost, and is that meant? 0, or the exit code. */
static int confirm(const struct cli *cli)
{
	const char *name = cli->operands[1];
	struct lcpfs_failure failure = {0};
	char data[SIZE_TEXT], snapshots[SNAPSHOTS_TEXT], *answer;
	struct json_object *result;
	if (ask(cli, false, true, &result, &failure))
		return cli_failure(&failure);
	size_print_blocks(data, field_count(result, "data_blocks"));
	print_snapshots(snapshots, result);
	json_object_put(result);
	fprintf(stderr, "Partition %s of %s holds %s of data%s, which will be lost.\n", name, cli->operands[0],
		data, snapshots);
	fprintf(stderr, "Its name, if that is meant: ");
	answer = read_answer();
	bool is_meant = answer && !strcmp(answer, name);
	free(answer);
	return is_meant ? 0 : cli_failed("partition %s was not removed: that was not its name", name);
}

static void show(const struct cli *cli, struct json_object *result)
{
	char data[SIZE_TEXT], space[SIZE_TEXT], snapshots[SNAPSHOTS_TEXT];
	print_snapshots(snapshots, result);
	size_print_blocks(data, field_count(result, "data_blocks"));
	size_print_blocks(space, field_count(result, "size_blocks"));
	if (cli_flag(cli, "json"))
		show_json(result);
	else if (field_flag(result, "dry_run"))
		printf("would be: %s: removed, with %s of data%s; %s of the pool would be free\n",
		       cli->operands[1], data, snapshots, space);
	else
		printf("%s: removed\n", cli->operands[1]);
}

int remove_command(const struct cli *cli)
{
	bool force = cli_flag(cli, "force"), dry_run = cli_flag(cli, "dry-run");
	struct lcpfs_failure failure = {0};
	struct json_object *result;
	int error = ask(cli, !force && !(dry_run && at_terminal()), dry_run, &result, &failure);
	if (error == -LCPFS_E_NOT_EMPTY && at_terminal()) {
		int status = confirm(cli);
		if (status)
			return status;
		error = ask(cli, false, false, &result, &failure);
	}
	if (error)
		return cli_failure(&failure);
	show(cli, result);
	json_object_put(result);
	return CLI_DONE;
}
