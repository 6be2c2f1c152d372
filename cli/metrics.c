/* SPDX-License-Identifier: Apache-2.0 */
/* lcpfs metrics: the text of control/metrics.c on standard output, or in a file that is replaced as a whole. */
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "control/field.h"
#include "replace.h"
#include "session.h"

static void print_lines(void *result, FILE *out)
{
	struct json_object *lines = field_get(result, "lines");
	for (size_t i = 0; i < field_length(lines); i++)
		fprintf(out, "%s\n", json_object_get_string(json_object_array_get_idx(lines, i)));
}

int metrics_command(const struct cli *cli)
{
	const char *format = cli_value(cli, "format"), *output = cli_value(cli, "output");
	struct session_call call = {
		.pool_path = cli->operands[0], .command = "metrics", .arguments = json_object_new_object()};
	char path[PATH_MAX];
	struct lcpfs_failure failure = {0};
	struct json_object *result;
	int status = CLI_DONE;
	field_put_text(call.arguments, "path", realpath(cli->operands[0], path) ? path : cli->operands[0]);
	if (format)
		field_put_text(call.arguments, "format", format);
	if (session_run(&call, &result, &failure))
		return cli_failure(&failure);
	if (output) /* others read it, node-exporter as a user of its own */
		status = replace_file(output, 0644, print_lines, result);
	else
		print_lines(result, stdout);
	json_object_put(result);
	return status;
}
