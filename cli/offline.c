/* SPDX-License-Identifier: Apache-2.0 */
/* Commands on a pool that nobody has open: create, check, dump. */
#include <stdio.h>
#include <stdlib.h>

#include "cli.h"
#include "control/describe.h"
#include "control/field.h"
#include "show.h"
#include "size.h"

/* With --force it may be over something: then that refuses without. */
static int show_would_create(const char *path, const struct lcpfs_create_options *options)
{
	struct lcpfs_create_options careful = *options;
	struct lcpfs_failure failure;
	careful.force = false;
	if (lcpfs_pool_create(path, &careful, &failure) && failure.code == LCPFS_E_EXISTS)
		printf("would be: %s: created; what is there would be lost\n", path);
	else
		printf("would be: %s: created\n", path);
	return CLI_DONE;
}

int offline_create(const struct cli *cli)
{
	struct lcpfs_create_options options = {.force = cli_flag(cli, "force"),
					       .dry_run = cli_flag(cli, "dry-run")};
	struct lcpfs_failure failure;
	if (cli_size(cli, "size", &options.size_bytes) || cli_size(cli, "metaslab", &options.metaslab_bytes))
		return CLI_USAGE;
	if (lcpfs_pool_create(cli->operands[0], &options, &failure))
		return cli_failure(&failure);
	if (options.dry_run)
		return show_would_create(cli->operands[0], &options);
	printf("%s: created. Boundaries are watched, and not moved before lcpfs tune %s on\n", cli->operands[0],
	       cli->operands[0]);
	return CLI_DONE;
}

/* ---- check ---- */

enum {
	CHECK_IMPOSSIBLE = 2,
	FINDINGS_MAX = 1000, /* listed; all are counted. A pool may have millions */
};

struct checking {
	struct cli_progress progress;
	struct json_object *findings;
};

static void found(void *context, const struct lcpfs_finding *finding)
{
	struct checking *checking = context;
	if (field_length(checking->findings) < FINDINGS_MAX)
		json_object_array_add(checking->findings, describe_finding(finding));
}

static bool go_on(void *context, uint64_t done, uint64_t total)
{
	struct checking *checking = context;
	return cli_progress(&checking->progress, done, total);
}

static struct json_object *check_result(const struct lcpfs_care *care, struct json_object *findings)
{
	struct json_object *result = json_object_new_object();
	field_put_flag(result, "clean", care->damaged == 0);
	field_put_count(result, "checked_blocks", care->checked_blocks);
	field_put_count(result, "damaged", care->damaged);
	field_put(result, "findings", json_object_get(findings));
	return result;
}

static int show_check(const struct cli *cli, const struct lcpfs_care *care, struct json_object *findings)
{
	char checked[SIZE_TEXT];
	struct json_object *result;
	size_print_blocks(checked, care->checked_blocks);
	if (cli_flag(cli, "json")) {
		result = check_result(care, findings);
		show_json(result);
		json_object_put(result);
	} else {
		show_findings(findings);
		if (care->damaged > FINDINGS_MAX)
			printf("and %llu more\n", (unsigned long long)care->damaged - FINDINGS_MAX);
		if (!care->damaged)
			printf("%s: clean, %s verified\n", cli->operands[0], checked);
	}
	if (care->damaged)
		return cli_failed("%s: %llu damaged place%s; lcpfs scrub repairs what has a second copy",
				  cli->operands[0], (unsigned long long)care->damaged,
				  care->damaged == 1 ? "" : "s");
	return CLI_DONE;
}

int offline_check(const struct cli *cli)
{
	struct checking checking = {.findings = json_object_new_array()};
	struct lcpfs_care care = {
		.found = found, .progress = go_on, .context = &checking, .data = cli_flag(cli, "data")};
	struct lcpfs_failure failure;
	cli_progress_start(&checking.progress, cli);
	int status = lcpfs_pool_check(cli->operands[0], &care, &failure);
	cli_progress_end(&checking.progress, status == 0);
	if (status) {
		cli_failure(&failure);
		status = CHECK_IMPOSSIBLE;
	} else {
		status = show_check(cli, &care, checking.findings);
	}
	json_object_put(checking.findings);
	return status;
}

/* ---- dump ---- */

static void show_dump(const struct cli *cli, const char *text)
{
	if (!cli_flag(cli, "json")) {
		fputs(text, stdout);
		return;
	}
	struct json_object *result = json_object_new_object();
	field_put_text(result, "text", text);
	show_json(result);
	json_object_put(result);
}

int offline_dump(const struct cli *cli)
{
	const char *kind = cli->operands[1], *name = cli->operands[2];
	struct lcpfs_failure failure;
	char what[128], *text;
	snprintf(what, sizeof(what), "%s%s%s", kind ? kind : "", name ? " " : "", name ? name : "");
	if (lcpfs_pool_dump(cli->operands[0], kind ? what : NULL, &text, &failure))
		return cli_failure(&failure);
	show_dump(cli, text);
	free(text);
	return CLI_DONE;
}
