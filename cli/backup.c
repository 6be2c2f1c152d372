/* SPDX-License-Identifier: Apache-2.0 */
/* What backups are made of: diff. */
#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "cli.h"
#include "control/field.h"
#include "session.h"

/* ---- diff ---- */

struct comparison {
	const struct cli *cli;
	struct session session;
	struct cli_progress progress;
	struct lcpfs_failure failure;
	bool begun; /* something was printed */
	uint64_t next;
	bool more;
};

static void print_head(struct comparison *c, struct json_object *result)
{
	struct json_object *head = json_object_new_object();

	if (!cli_flag(c->cli, "json")) {
		printf("%18s %18s KIND\n", "OFFSET", "LENGTH");
	} else {
		field_put_text(head, "from", field_text(result, "from"));
		field_put_text(head, "to", field_text(result, "to"));
		printf("%.*s,\"ranges\":[", (int)strlen(field_line(head)) - 1, field_line(head));
	}
	json_object_put(head);
}

static void print_ranges(struct comparison *c, struct json_object *ranges)
{
	for (size_t i = 0; i < field_length(ranges); i++) {
		struct json_object *range = json_object_array_get_idx(ranges, i);
		const char *kind = field_text(range, "kind");

		if (cli_flag(c->cli, "json"))
			printf("%s%s", c->begun ? "," : "", field_line(range));
		else
			printf("%18llu %18llu %s\n", (unsigned long long)field_count(range, "offset"),
			       (unsigned long long)field_count(range, "length"), kind ? kind : "");
		c->begun = true;
	}
}

/* What one answer has room for. */
static int compare_some(struct comparison *c)
{
	struct json_object *arguments = json_object_new_object(), *result;
	struct session_call call = {
		.command = "diff", .arguments = arguments, .progress = cli_progress, .context = &c->progress};
	bool is_first = !c->next;
	int error;

	field_put_text(arguments, "from", c->cli->operands[1]);
	if (c->cli->operands[2])
		field_put_text(arguments, "to", c->cli->operands[2]);
	field_put_count(arguments, "offset", c->next);
	error = session_ask(&c->session, &call, &result, &c->failure);
	if (error)
		return error;
	if (is_first)
		print_head(c, result);
	print_ranges(c, field_get(result, "ranges"));
	c->more = field_get(result, "next");
	c->next = field_count(result, "next");
	json_object_put(result);
	return 0;
}

int diff_command(const struct cli *cli)
{
	struct comparison c = {.cli = cli};
	int error = session_open(&c.session, cli->operands[0], true, &c.failure);

	if (error)
		return cli_failure(&c.failure);
	cli_progress_start(&c.progress, cli);
	do
		error = compare_some(&c);
	while (!error && c.more);
	cli_progress_end(&c.progress, !error);
	if (!error && cli_flag(cli, "json"))
		printf("],\"next\":null}\n");
	error = session_close(&c.session, error ? NULL : &c.failure) || error;
	return error ? cli_failure(&c.failure) : CLI_DONE;
}
