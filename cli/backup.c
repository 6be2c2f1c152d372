/* SPDX-License-Identifier: Apache-2.0 */
/* What backups are made of: diff, send, receive. */
#include <errno.h>
#include <fcntl.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "base/error.h"
#include "cli.h"
#include "control/field.h"
#include "session.h"
#include "show.h"
#include "size.h"

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
	field_put_text(arguments, "from", c->cli->operands[1]);
	if (c->cli->operands[2])
		field_put_text(arguments, "to", c->cli->operands[2]);
	field_put_count(arguments, "offset", c->next);
	int error = session_ask(&c->session, &call, &result, &c->failure);
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

/* ---- send ---- */

/*
 * The stream comes through a pipe of our own, and a thread writes it to standard output. So it is never the server
 * that waits for whoever reads there.
 */
struct pump {
	int from;
	int error; /* errno of standard output */
	pthread_t thread;
};

enum { PIPE_BYTES = 1 << 20, PUMP_BYTES = 256 << 10 };

static bool write_out(const char *data, size_t length)
{
	while (length) {
		ssize_t n = write(STDOUT_FILENO, data, length);
		if (n < 0 && errno != EINTR)
			return false;
		data += n > 0 ? n : 0;
		length -= n > 0 ? (size_t)n : 0;
	}
	return true;
}

static void *run_pump(void *context)
{
	static char data[PUMP_BYTES];
	struct pump *pump = context;
	ssize_t n;
	while ((n = read(pump->from, data, sizeof(data))) > 0 && !pump->error) {
		if (!write_out(data, (size_t)n))
			pump->error = errno;
	}
	close(pump->from); /* where we end early, the other end learns of it */
	return NULL;
}

/* Signals are for the main thread. */
static int start_pump(struct pump *pump, int *to)
{
	sigset_t all, before;
	int ends[2], error;
	if (pipe2(ends, O_CLOEXEC))
		return errno;
	(void)!fcntl(ends[1], F_SETPIPE_SZ, PIPE_BYTES); /* else it is just slower */
	pump->from = ends[0];
	*to = ends[1];
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	error = pthread_create(&pump->thread, NULL, run_pump, pump);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return error;
}

static struct json_object *send_arguments(const struct cli *cli)
{
	struct json_object *arguments = json_object_new_object();
	field_put_text(arguments, "name", cli->operands[1]);
	if (cli_flag(cli, "from"))
		field_put_text(arguments, "from", cli_value(cli, "from"));
	if (cli_flag(cli, "dry-run"))
		field_put_flag(arguments, "dry_run", true);
	return arguments;
}

static const char *text_of(struct json_object *result, const char *key)
{
	const char *text = field_text(result, key);
	return text ? text : "";
}

static void show_stream(struct json_object *result, const char *name, const char *what)
{
	char size[SIZE_TEXT];
	size_print(size, field_count(result, "stream_bytes"));
	printf("%s%s@%s: %s, %s", field_flag(result, "dry_run") ? "would be: " : "", name,
	       text_of(result, "snapshot"), what, size);
	if (field_get(result, "from"))
		printf(", goes on from %s", text_of(result, "from"));
	printf("\n");
}

static int send_for(const struct cli *cli, struct cli_progress *progress, const int *fd,
		    struct json_object **result, struct lcpfs_failure *failure)
{
	struct session_call call = {.pool_path = cli->operands[0],
				    .command = "send",
				    .arguments = send_arguments(cli),
				    .progress = cli_progress,
				    .context = progress,
				    .fd = fd};
	cli_progress_start(progress, cli);
	int error = session_run(&call, result, failure);
	cli_progress_end(progress, !error);
	return error;
}

static int send_dry(const struct cli *cli)
{
	struct cli_progress progress;
	struct lcpfs_failure failure = {0};
	struct json_object *result;
	if (send_for(cli, &progress, NULL, &result, &failure))
		return cli_failure(&failure);
	if (cli_flag(cli, "json"))
		show_json(result);
	else
		show_stream(result, text_of(result, "partition"), "sent");
	json_object_put(result);
	return CLI_DONE;
}

int send_command(const struct cli *cli)
{
	struct cli_progress progress;
	struct lcpfs_failure failure = {0};
	struct pump pump = {.error = 0};
	struct json_object *result;
	int to;
	if (cli_flag(cli, "dry-run"))
		return send_dry(cli);
	if (isatty(STDOUT_FILENO))
		return cli_usage("a stream is not for a terminal: lcpfs send … > FILE, or | lcpfs receive …");
	signal(SIGPIPE, SIG_IGN);
	int error = start_pump(&pump, &to);
	if (error)
		return cli_failed("no pipe: %s", strerrordesc_np(error));
	error = send_for(cli, &progress, &to, &result, &failure);
	close(to);
	if (error && !pump.error) /* what is still in the pipe is worth nothing */
		return cli_failure(&failure);
	pthread_join(pump.thread, NULL);
	if (!error)
		json_object_put(result);
	return pump.error ? cli_failed("standard output: %s", strerrordesc_np(pump.error)) : CLI_DONE;
}

/* ---- receive ---- */

int receive_command(const struct cli *cli)
{
	static const char *const flags[][2] = {
		{"force", "force"}, {"resume", "resume"}, {"abort", "abort"}, {"dry-run", "dry_run"}};
	const int from = STDIN_FILENO;
	struct cli_progress progress;
	struct session_call call = {.pool_path = cli->operands[0],
				    .command = "receive",
				    .arguments = json_object_new_object(),
				    .only_asks = cli_flag(cli, "dry-run"),
				    .progress = cli_progress,
				    .context = &progress,
				    .fd = cli_flag(cli, "abort") ? NULL : &from};
	struct lcpfs_failure failure = {0};
	struct json_object *result;
	if (cli_flag(cli, "abort") && (cli_flag(cli, "resume") || cli_flag(cli, "force")))
		return json_object_put(call.arguments),
		       cli_usage("--abort goes with neither --resume nor --force");
	if (!cli_flag(cli, "abort") && isatty(STDIN_FILENO))
		return json_object_put(call.arguments),
		       cli_usage("a stream comes from no terminal: lcpfs send … | lcpfs receive …");
	field_put_text(call.arguments, "name", cli->operands[1]);
	for (size_t i = 0; i < ARRAY_LENGTH(flags); i++) {
		if (cli_flag(cli, flags[i][0]))
			field_put_flag(call.arguments, flags[i][1], true);
	}
	(void)!fcntl(STDIN_FILENO, F_SETPIPE_SZ, PIPE_BYTES); /* else it is just slower */
	cli_progress_start(&progress, cli);
	int error = session_run(&call, &result, &failure);
	cli_progress_end(&progress, !error);
	if (error)
		return cli_failure(&failure);
	if (cli_flag(cli, "json"))
		show_json(result);
	else if (cli_flag(cli, "abort"))
		printf("%s%s: given up\n", cli_flag(cli, "dry-run") ? "would be: " : "", cli->operands[1]);
	else
		show_stream(result, cli->operands[1], "received");
	json_object_put(result);
	return CLI_DONE;
}
