/* SPDX-License-Identifier: Apache-2.0 */
/* lcpfs: one table of commands, their options and their usage; getopt_long does the rest. */
#include <errno.h>
#include <getopt.h>
#include <signal.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "base/error.h"
#include "base/text.h"
#include "cli.h"
#include "control/describe.h"
#include "control/field.h"
#include "help.h"
#include "sim/simulate.h"
#include "size.h"

#define JSON_HELP     "print one JSON object"
#define DRY_HELP      "only say what would come of it"
#define PROGRESS_HELP "show progress also where standard error is no terminal"

static const struct cli_option create_options[] = {
	{"size", "SIZE", "size of the pool; the whole of a file or device that exists if not given"},
	{"metaslab", "SIZE",
	 "size of a metaslab, a power of two from 1M to 64M; chosen by the pool's size if not given"},
	{"force", NULL, "also over something that is there already"},
	{"dry-run", NULL, DRY_HELP},
	{0},
};
static const struct cli_option add_options[] = {
	{"min", "SIZE", "it always has room for so much data (required)"},
	{"max", "SIZE", "it never gets room for more (required)"},
	{"size", "SIZE", "for how much it has room at first; min if not given"},
	{"volume", "SIZE", "length of the volume that clients see, to the byte; max if not given"},
	{"space", NULL, "min, max and size are of space in the pool, with all that the partition needs itself"},
	{"thin", NULL, "the volume may be longer than max, though it cannot be filled then"},
	{"when-full", "WHAT", "error, or wait=TIME as in wait=60s: what writers get who find no room (error)"},
	{"dry-run", NULL, DRY_HELP},
	{"json", NULL, JSON_HELP},
	{0},
};
static const struct cli_option resize_options[] = {
	{"space", NULL, "SIZE is of space in the pool, with all that the partition needs itself"},
	{"dry-run", NULL, DRY_HELP},
	{"json", NULL, JSON_HELP},
	{"progress", NULL, PROGRESS_HELP},
	{0},
};
static const struct cli_option grow_options[] = {
	{"size", "SIZE", "make the file that large first, sparse; of a device, and else, what is there is taken"},
	{"dry-run", NULL, DRY_HELP},
	{"json", NULL, JSON_HELP},
	{0},
};
static const struct cli_option set_options[] = {
	{"dry-run", NULL, DRY_HELP},
	{"thin", NULL, "the volume may be longer than max, though it cannot be filled then"},
	{"json", NULL, JSON_HELP},
	{"progress", NULL, PROGRESS_HELP},
	{0},
};
static const struct cli_option remove_options[] = {
	{"force", NULL, "also if it holds data or has snapshots, and without a question"},
	{"dry-run", NULL, DRY_HELP},
	{"json", NULL, JSON_HELP},
	{0},
};
static const struct cli_option list_options[] = {
	{"snapshots", NULL, "the snapshots instead: what each takes, its length, when it was taken"},
	{"clones", NULL, "the clones instead: of which snapshots, what each takes, its length, when it was made"},
	{"bookmarks", NULL, "the bookmarks instead, and when their snapshots were taken"},
	{"script", NULL, "no titles, columns separated by tabs", 'H'},
	{"columns", "LIST",
	 "of snapshots: which of name,used,referenced,written,length,created,state (all), of clones: of "
	 "name,of,used,length,created; the rest is not looked for",
	 'o'},
	{"json", NULL, JSON_HELP},
	{0},
};
static const struct cli_option snapshot_options[] = {{"dry-run", NULL, DRY_HELP}, {"json", NULL, JSON_HELP}, {0}};
static const struct cli_option destroy_options[] = {
	{"dry-run", NULL, DRY_HELP, 'n'},
	{"json", NULL, JSON_HELP},
	{"progress", NULL, PROGRESS_HELP},
	{0},
};
static const struct cli_option rollback_options[] = {
	{"force", NULL, "destroy the snapshots and bookmarks that are younger, first"},
	{"dry-run", NULL, DRY_HELP},
	{"json", NULL, JSON_HELP},
	{"progress", NULL, PROGRESS_HELP},
	{0},
};
static const struct cli_option send_options[] = {
	{"from", "SNAP", "only what has changed since this snapshot, or #BOOKMARK of one, which the receiver has"},
	{"dry-run", NULL, "only say how long the stream would be", 'n'},
	{"json", NULL, "with --dry-run: print one JSON object"},
	{"progress", NULL, PROGRESS_HELP},
	{0},
};
static const struct cli_option receive_options[] = {
	{"force", NULL, "give up what the volume has that the stream does not go on from"},
	{"resume", NULL, "go on with one that was interrupted, and keep what comes if this one is"},
	{"abort", NULL, "give up one that was interrupted: the volume is what it was before"},
	{"dry-run", NULL, "only check the stream, and whether it would be received", 'n'},
	{"json", NULL, JSON_HELP},
	{"progress", NULL, PROGRESS_HELP},
	{0},
};
static const struct cli_option tune_options[] = {{"dry-run", NULL, DRY_HELP}, {"json", NULL, JSON_HELP}, {0}};
static const struct cli_option json_options[] = {{"json", NULL, JSON_HELP}, {0}};
static const struct cli_option long_work_options[] = {
	{"json", NULL, JSON_HELP}, {"progress", NULL, PROGRESS_HELP}, {0}};
static const struct cli_option attach_options[] = {
	{"read-only", NULL, "nothing can be written to it"},
	{"method", "METHOD", "nbd (the kernel's) or fuse (nbdfuse and a loop device); what there is if not given"},
	{"wait", "SECONDS", "how long what is asked of it waits for a server that is gone; 300 if not given"},
	{"dry-run", NULL, DRY_HELP},
	{"json", NULL, JSON_HELP},
	{0},
};
static const struct cli_option detach_options[] = {
	{"force", NULL, "also where what was written cannot be made durable"},
	{"dry-run", NULL, DRY_HELP},
	{"json", NULL, JSON_HELP},
	{0},
};
static const struct cli_option iostat_options[] = {
	{"latency", NULL, "latency percentiles instead of sizes and rates", 'l'},
	{"histogram", NULL, "how many operations took how long", 'w'},
	{"skip-first", NULL, "without the first report, which goes back to when the pool was opened", 'y'},
	{"time", NULL, "the time before each report", 'T'},
	{"script", NULL, "no titles, columns separated by tabs", 'H'},
	{"parsable", NULL, "exact numbers: bytes, microseconds", 'p'},
	{"json", NULL, "one JSON object a line for each report"},
	{0},
};
static const struct cli_option get_options[] = {
	{"script", NULL, "no titles, columns separated by tabs", 'H'},
	{"parsable", NULL, "exact numbers: bytes, seconds since 1970", 'p'},
	{"columns", "LIST", "which of partition,property,value,source, and in which order (all)", 'o'},
	{"json", NULL, JSON_HELP},
	{0},
};
static const struct cli_option metrics_options[] = {
	{"format", "FORMAT", "prometheus (if not given) or openmetrics"},
	{"output", "FILE", "into this file, which is replaced as a whole; for node-exporter"},
	{0},
};
static const struct cli_option report_options[] = {
	{"output", "FILE", "into this file, which is replaced as a whole; else to standard output"},
	{"last", "TIME", "only what is not older, as in 90m, 12h, 7d; all that is kept if not given"},
	{"json", NULL, "print what the page is made of, as one JSON object, instead of the page"},
	{0},
};
static const struct cli_option log_options[] = {
	{"follow", NULL, "go on with what happens from now on, until interrupted"},
	{"last", "N", "how many events (100)"},
	{"after", "NUMBER", "only events after the one of this number"},
	{"json", NULL, JSON_HELP},
	{0},
};
static const struct cli_option check_options[] = {
	{"data", NULL, "read and verify the users' data, too"},
	{"json", NULL, JSON_HELP},
	{"progress", NULL, PROGRESS_HELP},
	{0},
};
static const struct cli_option serve_options[] = {
	{"socket", "PATH", "Unix socket for NBD clients; control is at PATH.control"},
	{"listen", "HOST:PORT", "also serve NBD over TCP"},
	{"control", "PATH", "control socket elsewhere"},
	{"tune", "MODE", "off, observe or on: whether boundaries move by themselves; as it was if not given"},
	{"cache", "SIZE", "memory for tables, all partitions together (256M)"},
	{"metrics", "[ADDRESS:]PORT",
	 "metrics over HTTP at /metrics, for this machine only unless ADDRESS says so"},
	{"hook", "PROGRAM", "is run with each event that somebody should hear of, as JSON on its standard input"},
	{"alarm", "PERCENT", "how full a partition or the pool may be before that is such an event (90)"},
	{"config", "FILE", "more options, a line NAME=VALUE each; behind a - it is a file that need not be there"},
	{"no-uring", NULL, "do without io_uring"},
	{"tls", "MODE", "off, on (clients may use it) or require; require where keys are given"},
	{"tls-certificates", "DIR", "folder with server-cert.pem, server-key.pem and ca-cert.pem"},
	{"tls-psk", "FILE", "pre-shared keys, lines USER:KEY"},
	{"tls-verify-peer", NULL, "clients need a certificate that ca-cert.pem has signed"},
	{"foreground", NULL, "stay in the foreground, as it always does"},
	{"verbose", NULL, "a line for each client that comes and goes"},
	{0},
};

static const struct cli_command commands[] = {
	{"create", "POOL", "make a pool in a file or on a block device", offline_create, create_options},
	{"add", "POOL NAME", "add a partition", pool_add, add_options},
	{"set", "POOL [NAME] KEY=VALUE ...",
	 "min=, max=, volume=, name=, when-full=, snapshots= of a partition, also while served; tune=, cache=, "
	 "alarm= of the pool",
	 pool_set, set_options},
	{"get", "POOL [NAME] [PROPERTY ...]",
	 "properties of the pool and of partitions, and where each value comes from", get_command, get_options},
	{"remove", "POOL NAME", "remove a partition with all that is in it", remove_command, remove_options},
	{"list", "POOL", "partitions: size, min, max, live, pressure, epsilon …; or snapshots", pool_list,
	 list_options},
	{"status", "POOL", "the pool: totals, health, engine, thresholds with confidence", pool_status,
	 json_options},
	{"snapshot", "POOL NAME@SNAP ...", "keep volumes as they are now, several at one instant", pool_snapshot,
	 snapshot_options},
	{"rollback", "POOL NAME@SNAP", "make a volume what it was when a snapshot was taken", pool_rollback,
	 rollback_options},
	{"clone", "POOL NAME@SNAP NEW", "a volume of its own that begins as a snapshot, and can be written",
	 pool_clone, snapshot_options},
	{"promote", "POOL CLONE", "a clone and the volume that it was made of change places", pool_promote,
	 snapshot_options},
	{"destroy", "POOL NAME@SNAP|CLONE ...",
	 "destroy snapshots, NAME@SNAP,SNAP%SNAP for several, or clones; what only they hold comes free",
	 pool_destroy, destroy_options},
	{"diff", "POOL NAME@SNAP|NAME#MARK [NAME@LATER]",
	 "which ranges of a volume have changed between two snapshots, or since one", diff_command,
	 long_work_options},
	{"hold", "POOL NAME@SNAP ...", "let nobody destroy snapshots, before they are released", pool_hold,
	 snapshot_options},
	{"release", "POOL NAME@SNAP ...", "let them be destroyed again", pool_release, snapshot_options},
	{"bookmark", "POOL NAME@SNAP BOOKMARK", "note a snapshot, so that send can go on from it when it is gone",
	 pool_bookmark, snapshot_options},
	{"rename", "POOL NAME@SNAP|CLONE NEW", "give a snapshot or a clone another name", pool_rename,
	 snapshot_options},
	{"send", "POOL NAME@SNAP", "a snapshot, or what has changed since an earlier one, to standard output",
	 send_command, send_options},
	{"receive", "POOL NAME", "what send has made, from standard input into a partition", receive_command,
	 receive_options},
	{"serve", "POOL", "serve the partitions to NBD clients until SIGTERM", serve_command, serve_options},
	{"attach", "POOL NAME", "a partition as a block device of this machine; prints which", attach_command,
	 attach_options},
	{"detach", "POOL NAME", "take that away again", detach_command, detach_options},
	{"resize", "POOL NAME SIZE",
	 "give a partition room for more or less data by hand, also while it is served", pool_resize,
	 resize_options},
	{"grow", "POOL", "take what the file or device has gained, also while it is served", pool_grow,
	 grow_options},
	{"tune", "POOL [MODE]", "whether boundaries move by themselves: off, observe or on", pool_tune,
	 tune_options},
	{"explain", "POOL [NAME]", "what the engine sees and wants, and why it does or does not act", pool_explain,
	 json_options},
	{"log", "POOL", "boundary moves, their reasons and their outcomes", pool_log, log_options},
	{"iostat", "POOL [NAME] [INTERVAL [COUNT]]",
	 "operations, bytes and latencies, once or every INTERVAL seconds", iostat_command, iostat_options},
	{"top", "POOL [INTERVAL]", "watch partitions, moves and what the engine waits for, at a terminal",
	 top_command, NULL},
	{"metrics", "POOL", "the pool's numbers for Prometheus", metrics_command, metrics_options},
	{"report", "POOL", "a page of boundaries over time, with every move and what came of it, as HTML",
	 report_command, report_options},
	{"check", "POOL", "verify every invariant; offline, changes nothing", offline_check, check_options},
	{"scrub", "POOL", "read and verify every live block", pool_scrub, long_work_options},
	{"dump", "POOL [WHAT [NAME]]", "on-disk structures, for developers", offline_dump, json_options},
	{"completion", "bash", "completion for a shell, to be sourced by it", completion_command, NULL},
	{"simulate", "...", "policies against traces and synthetic load, no pool needed", NULL, NULL},
};

const struct cli_command *cli_commands(size_t *count)
{
	*count = ARRAY_LENGTH(commands);
	return commands;
}

/* ---- failing ---- */

/*
 * With --json the one line on standard error is an object, too. The flag is global because failing is possible
 * before and outside of what a command gets passed; it is set once, before anything can fail.
 */
static bool complains_in_json;

static void complain(const char *name, const char *format, va_list arguments)
{
	struct lcpfs_failure failure; /* makes it one line, and plain */
	char text[sizeof(failure.message)];

	vsnprintf(text, sizeof(text), format, arguments);
	failure_set(&failure, LCPFS_E_SYSTEM, "%s", text);
	if (!complains_in_json) {
		fprintf(stderr, "lcpfs: %s\n", failure.message);
		return;
	}
	struct json_object *object = json_object_new_object(), *error = json_object_new_object();
	field_put_text(error, "name", name);
	field_put_text(error, "message", failure.message);
	field_put(object, "error", error);
	fprintf(stderr, "%s\n", field_line(object));
	json_object_put(object);
}

int cli_failed(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	complain("FAILED", format, arguments);
	va_end(arguments);
	return CLI_FAILED;
}

static void PRINTF_LIKE(2, 3) complain_of(const char *name, const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	complain(name, format, arguments);
	va_end(arguments);
}

int cli_failure(const struct lcpfs_failure *failure)
{
	complain_of(lcpfs_error_name(failure->code), "%s", failure->message);
	return CLI_FAILED;
}

int cli_usage(const char *format, ...)
{
	va_list arguments;
	va_start(arguments, format);
	complain("USAGE", format, arguments);
	va_end(arguments);
	return CLI_USAGE;
}

int cli_finish_output(void)
{
	if (fflush(stdout) || ferror(stdout))
		return cli_failed("standard output: %s", strerror(errno));
	return CLI_DONE;
}

/* ---- options ---- */

const char *cli_value(const struct cli *cli, const char *option)
{
	for (int i = 0; cli->command->options && cli->command->options[i].name; i++)
		if (!strcmp(cli->command->options[i].name, option))
			return cli->values[i];
	return NULL;
}

bool cli_flag(const struct cli *cli, const char *option)
{
	return cli_value(cli, option) != NULL;
}

int cli_size(const struct cli *cli, const char *option, uint64_t *bytes)
{
	const char *text = cli_value(cli, option), *wrong;
	if (!text)
		return 0;
	wrong = size_parse(text, bytes);
	return wrong ? cli_usage("--%s %s %s", option, text, wrong) : 0;
}

static int find_column(const char *const *names, int all, const char *name, size_t length)
{
	int i = 0;
	while (i < all && (strlen(names[i]) != length || strncmp(names[i], name, length) != 0))
		i++;
	return i;
}

static int bad_columns(const struct cli *cli, const char *const *names, int all)
{
	struct text list = TEXT_INIT;
	for (int i = 0; i < all; i++)
		text_append(&list, "%s%s", i ? ", " : "", names[i]);
	int code = cli_usage("--columns %s: up to %d of %s, separated by commas", cli_value(cli, "columns"), all,
			     text_get(&list));
	text_free(&list);
	return code;
}

int cli_columns(const struct cli *cli, const char *const *names, int all, int *columns, int *count)
{
	const char *text = cli_value(cli, "columns");
	for (*count = 0; !text && *count < all; ++*count)
		columns[*count] = *count;
	for (size_t length; text; text = text[length] ? text + length + 1 : NULL) {
		length = strcspn(text, ",");
		int column = find_column(names, all, text, length);
		if (column == all || *count == all)
			return bad_columns(cli, names, all);
		columns[(*count)++] = column;
	}
	return 0;
}

int cli_mode(const char *text, enum lcpfs_engine_mode *mode)
{
	return describe_mode_parse(text, mode) ? 0 : cli_usage("no such mode: %s; it is off, observe or on", text);
}

/* ---- parsing ---- */

static const struct cli_command *command_by_name(const char *name)
{
	for (size_t i = 0; i < ARRAY_LENGTH(commands); i++)
		if (!strcmp(commands[i].name, name))
			return &commands[i];
	return NULL;
}

enum { OPTION_HELP = 1000 };

/* letters: for getopt, which is to tell a missing value (':') and to take -h everywhere. */
static void fill_options(const struct cli_command *command, struct option *long_options, char *letters)
{
	int n = 0;
	letters = stpcpy(letters, ":h");
	for (const struct cli_option *o = command->options; o && o->name; o++, n++) {
		CHECK(n < CLI_OPTIONS_MAX);
		long_options[n] = (struct option){o->name, o->value ? required_argument : no_argument, NULL, n};
		if (o->letter)
			letters += sprintf(letters, "%c%s", o->letter, o->value ? ":" : "");
	}
	long_options[n] = (struct option){"help", no_argument, NULL, OPTION_HELP};
	long_options[n + 1] = (struct option){0};
}

/* What getopt answers with is an option's place in the table, or its letter. */
static int option_index(const struct cli_command *command, int answer)
{
	int n = 0;
	while (answer >= CLI_OPTIONS_MAX && command->options[n].letter != answer)
		n++;
	return answer < CLI_OPTIONS_MAX ? answer : n;
}

static int count_of(const char *text, char wanted)
{
	int count = 0;
	for (; *text; text++)
		count += *text == wanted;
	return count;
}

/* "POOL NAME [SIZE]" asks for two operands at least and three at most. */
static int take_operands(struct cli *cli, char **operands, int count)
{
	const char *names = cli->command->operands;
	bool more = strstr(names, "...");
	int named = 1 + count_of(names, ' ') - more, least = named - count_of(names, '[');
	int most = more ? CLI_OPERANDS_MAX : named;
	if (count > most)
		return cli_usage("%s: too much: %s; see lcpfs help %s", cli->command->name, operands[most],
				 cli->command->name);
	if (count < least)
		return cli_usage("%s needs %s; see lcpfs help %s", cli->command->name, names, cli->command->name);
	for (int i = 0; i < count; i++)
		cli->operands[i] = operands[i];
	return 0;
}

static int wrong_option(const struct cli_command *command, int answer, char **argv, int index)
{
	return cli_usage("%s: %s: %s; see lcpfs help %s", command->name, argv[index - 1],
			 answer == ':' ? "a value is missing" : "no such option", command->name);
}

/* argv[0] is the command's name. */
static int run_command(const struct cli_command *command, int argc, char **argv)
{
	struct option long_options[CLI_OPTIONS_MAX + 2];
	char letters[2 * CLI_OPTIONS_MAX + 3];
	struct cli cli = {.command = command};
	int answer;
	fill_options(command, long_options, letters);
	while ((answer = getopt_long(argc, argv, letters, long_options, NULL)) != -1) {
		if (answer == 'h' || answer == OPTION_HELP)
			return help_usage(command);
		if (answer == '?' || answer == ':')
			return wrong_option(command, answer, argv, optind);
		cli.values[option_index(command, answer)] = optarg ? optarg : "";
	}
	int error = take_operands(&cli, argv + optind, argc - optind);
	if (error)
		return error;
	error = command->run(&cli);
	return error ? error : cli_finish_output();
}

static int simulate(int argc, char **argv)
{
	int status = simulate_main(argc, argv);
	return status ? status : cli_finish_output();
}

static bool is_help(const char *word)
{
	return !strcmp(word, "help") || !strcmp(word, "--help") || !strcmp(word, "-h");
}

static int help(int argc, char **argv)
{
	if (argc < 2 || is_help(argv[1]))
		return help_list();
	if (!help_has_manual(argv[1]))
		return cli_usage("no such command: %s; see lcpfs help", argv[1]);
	return help_manual(argv[1]);
}

int cli_main(int argc, char **argv)
{
	for (int i = 1; i < argc && strcmp(argv[i], "--") != 0; i++)
		complains_in_json |= !strcmp(argv[i], "--json");
	descriptor_fill_standard();
	signal(SIGXFSZ, SIG_IGN); /* a file that may not become that long is an error, not the end */
	opterr = 0; /* our messages say what to do */
	if (argc < 2)
		return cli_usage("a command is missing; see lcpfs help");
	if (!strcmp(argv[1], "--version")) {
		printf("lcpfs %s\n", LCPFS_VERSION);
		return cli_finish_output();
	}
	if (is_help(argv[1]))
		return help(argc - 1, argv + 1);
	const struct cli_command *command = command_by_name(argv[1]);
	if (!command)
		return cli_usage("no such command: %s; see lcpfs help", argv[1]);
	return command->run ? run_command(command, argc - 1, argv + 1) : simulate(argc - 1, argv + 1);
}
