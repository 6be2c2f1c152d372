/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every command of the CLI shares: the shape of the command table, parsed options, how it fails. A command
 * returns its exit code: 0 done, 1 refused or failed (one line on standard error was written), 2 wrong usage
 * (likewise).
 */
#ifndef CLI_CLI_H
#define CLI_CLI_H

#include <lcpfs/pool.h>
#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

enum { CLI_DONE = 0, CLI_FAILED = 1, CLI_USAGE = 2 };
enum { CLI_OPTIONS_MAX = 20, CLI_OPERANDS_MAX = 260 };

struct cli_option {
	const char *name;
	const char *value; /* what to call its value in help; NULL: a flag */
	const char *help;
	char letter; /* 0: it has none */
};

struct cli;

struct cli_command {
	const char *name;
	const char *operands; /* "POOL NAME", optional ones in brackets at the end; " ...": more of the last */
	const char *help;     /* one line */
	int (*run)(const struct cli *cli);
	const struct cli_option *options; /* ends with a NULL name; NULL: none */
};

struct cli {
	const struct cli_command *command;
	const char *operands[CLI_OPERANDS_MAX]; /* NULL from the first that was not given on */
	const char *values[CLI_OPTIONS_MAX];    /* by position in command->options; "" for a flag */
};

/* The whole program: parses, runs the command, returns the exit code. */
int cli_main(int argc, char **argv);

/* The table of all commands, in the order of the help. */
const struct cli_command *cli_commands(size_t *count);

/* The option's value, "" for a flag, NULL where it was not given. */
const char *cli_value(const struct cli *cli, const char *option);
bool cli_flag(const struct cli *cli, const char *option);
/* A size in bytes; *bytes stays as it is where the option was not given. 0 or CLI_USAGE. */
int cli_size(const struct cli *cli, const char *option, uint64_t *bytes);
/* The value of --columns, "property,value", as places in `names`, up to `all`; each of them where it was not
 * given. */
int cli_columns(const struct cli *cli, const char *const *names, int all, int *columns, int *count);
int cli_mode(const char *text, enum lcpfs_engine_mode *mode);

/*
 * One line on standard error: "lcpfs: …", or with --json {"error":{"name":…,"message":…}}, where the name is
 * that of the failure, FAILED or USAGE. They return CLI_FAILED, CLI_FAILED and CLI_USAGE.
 */
int cli_failure(const struct lcpfs_failure *failure);
int cli_failed(const char *format, ...) PRINTF_LIKE(1, 2);
int cli_usage(const char *format, ...) PRINTF_LIKE(1, 2);
/* Standard output reached its reader (a full disk is a failure, too). */
int cli_finish_output(void);

/*
 * Progress of long work on standard error: at a terminal once it takes longer than a moment, five times a second;
 * elsewhere if --progress was given, a line every other second. SIGINT and SIGTERM make cli_progress ask the work
 * to stop. A second signal ends the program at once.
 */
struct cli_progress {
	bool terminal, asked;
	bool drawn;
	bool armed;        /* signals are ours now */
	uint64_t drawn_ms; /* when last, at first when it began */
};

void cli_progress_start(struct cli_progress *progress, const struct cli *cli);
bool cli_progress(void *progress, uint64_t done, uint64_t total);
/* Before any result is printed. `done`: it came to its end, so 100 % is shown. A second call does nothing. */
void cli_progress_end(struct cli_progress *progress, bool done);
bool cli_interrupted(void);

/* ---- the commands ---- */

int pool_list(const struct cli *cli);
int pool_status(const struct cli *cli);
int pool_add(const struct cli *cli);
int pool_set(const struct cli *cli);
int pool_resize(const struct cli *cli);
int pool_grow(const struct cli *cli);
int pool_tune(const struct cli *cli);
int pool_explain(const struct cli *cli);
int pool_log(const struct cli *cli);
int pool_scrub(const struct cli *cli);
int pool_snapshot(const struct cli *cli);
int pool_clone(const struct cli *cli);
int pool_promote(const struct cli *cli);
int pool_destroy(const struct cli *cli);
int pool_rollback(const struct cli *cli);
int pool_hold(const struct cli *cli);
int pool_release(const struct cli *cli);
int pool_rename(const struct cli *cli);
int pool_bookmark(const struct cli *cli);

int snapshots_list(const struct cli *cli);
int clones_list(const struct cli *cli);
int bookmarks_list(const struct cli *cli);
int diff_command(const struct cli *cli);
int send_command(const struct cli *cli);
int receive_command(const struct cli *cli);
int attach_command(const struct cli *cli);
int detach_command(const struct cli *cli);
int get_command(const struct cli *cli);
int remove_command(const struct cli *cli);
int iostat_command(const struct cli *cli);
int top_command(const struct cli *cli);
int metrics_command(const struct cli *cli);
int report_command(const struct cli *cli);

int completion_command(const struct cli *cli);

int offline_create(const struct cli *cli);
int offline_check(const struct cli *cli);
int offline_dump(const struct cli *cli);

int serve_command(const struct cli *cli);

#endif
