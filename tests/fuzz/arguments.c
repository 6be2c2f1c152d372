/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: command lines, a line of the input for each argument, given to the CLI. What the arguments ask for
 * is not done: whatever would touch a file or a socket is replaced here (the linker's --wrap, see meson.build and
 * run.sh).
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "cli/cli.h"
#include "cli/config.h"
#include "cli/help.h"
#include "cli/report.h"
#include "cli/session.h"
#include "control/command.h"
#include "fuzz.h"
#include "serve/run.h"
#include "sim/policy.h"
#include "sim/report.h"
#include "sim/requests.h"
#include "sim/trace.h"

enum { ARGUMENTS_MAX = 60 };

/* -- what commands do -- */

/* As far as the command's own look at its arguments. */
int session_run(const struct session_call *call, struct json_object **result, struct lcpfs_failure *failure)
{
	CHECK(command_find(call->command));
	json_object_put(call->arguments);
	*result = NULL;
	return failure_set(failure, LCPFS_E_NOT_FOUND, "%s: not here", call->pool_path);
}

int session_open(struct session *session, const char *pool_path, bool read_only, struct lcpfs_failure *failure)
{
	*session = (struct session){.pool_path = pool_path};
	(void)read_only;
	return failure_set(failure, LCPFS_E_NOT_FOUND, "%s: not here", pool_path);
}

int session_ask(struct session *session, const struct session_call *call, struct json_object **result,
		struct lcpfs_failure *failure)
{
	(void)session;
	return session_run(call, result, failure);
}

int session_close(struct session *session, struct lcpfs_failure *failure)
{
	(void)session, (void)failure;
	return 0;
}

int session_watch_call(struct session_watch *watch, const char *command, struct json_object *arguments,
		       struct json_object **result, struct lcpfs_failure *failure)
{
	CHECK(watch->pool_path && command_find(command));
	json_object_put(arguments);
	*result = NULL;
	return failure_set(failure, LCPFS_E_NOT_FOUND, "%s: not here", watch->pool_path);
}

bool session_watch_goes_on(struct session_watch *watch, const struct lcpfs_failure *failure)
{
	(void)watch, (void)failure;
	return false;
}

void session_watch_close(struct session_watch *watch)
{
	(void)watch;
}

void session_sleep(struct timespec *next, double interval_s)
{
	CHECK(next && interval_s > 0);
}

/* Without man pages, which a build of its own does not have. */
const struct help_page help_pages[] = {{"add", "A\bAdd a _\bpartition\n"}, {"lcpfs", "\b"}, {0}};

const char report_style[] = "";

/* They run other programs. */
int attach_command(const struct cli *cli)
{
	CHECK(cli->operands[1]);
	return CLI_DONE;
}

int top_command(const struct cli *cli)
{
	CHECK(cli->operands[0]);
	return CLI_DONE;
}

int detach_command(const struct cli *cli)
{
	CHECK(cli->operands[1]);
	return CLI_DONE;
}

#define WRAP(name) __wrap_##name

int WRAP(lcpfs_pool_create)(const char *path, const struct lcpfs_create_options *options,
			    struct lcpfs_failure *failure);
int WRAP(lcpfs_pool_create)(const char *path, const struct lcpfs_create_options *options,
			    struct lcpfs_failure *failure)
{
	(void)failure;
	CHECK(path && options);
	return 0;
}

int WRAP(lcpfs_pool_check)(const char *path, struct lcpfs_care *care, struct lcpfs_failure *failure);
int WRAP(lcpfs_pool_check)(const char *path, struct lcpfs_care *care, struct lcpfs_failure *failure)
{
	(void)failure;
	CHECK(path);
	care->damaged = care->data;
	return 0;
}

int WRAP(lcpfs_pool_dump)(const char *path, const char *what, char **text, struct lcpfs_failure *failure);
int WRAP(lcpfs_pool_dump)(const char *path, const char *what, char **text, struct lcpfs_failure *failure)
{
	(void)failure;
	CHECK(path && (!what || strlen(what) < 128));
	*text = strdup("");
	return 0;
}

int WRAP(serve_run)(const struct serve_options *options, struct lcpfs_failure *failure);
int WRAP(serve_run)(const struct serve_options *options, struct lcpfs_failure *failure)
{
	CHECK(options->pool_path &&
	      (options->tls == SERVE_TLS_OFF) == !(options->tls_files.certificates || options->tls_files.psk));
	return failure_set(failure, LCPFS_E_BUSY, "%s: not here", options->pool_path);
}

/* The name is what the file says, with commas for line ends. */
int WRAP(config_read)(struct config *config, const char *path, struct cli *cli);
int WRAP(config_read)(struct config *config, const char *path, struct cli *cli)
{
	config->text = strdup(path);
	CHECK(config->text);
	for (char *p = config->text; (p = strchr(p, ','));)
		*p = '\n';
	return config_parse(config->text, "file", cli);
}

char *WRAP(realpath)(const char *path, char *resolved);
char *WRAP(realpath)(const char *path, char *resolved)
{
	snprintf(resolved, PATH_MAX, "/%s", path);
	return resolved;
}

int WRAP(nanosleep)(const struct timespec *time, struct timespec *rest);
int WRAP(nanosleep)(const struct timespec *time, struct timespec *rest)
{
	(void)time, (void)rest;
	errno = EINTR;
	return -1;
}

/* -- the simulator: from the arguments to the sizes it would start with -- */

bool WRAP(sim_policy_run)(struct sim_config *config, enum sim_policy_kind policy, struct sim_result *result);
bool WRAP(sim_policy_run)(struct sim_config *config, enum sim_policy_kind policy, struct sim_result *result)
{
	(void)result;
	CHECK(policy < SIM_POLICIES);
	free(sim_start_sizes(config, config->start, true));
	return false;
}

struct sim_trace *WRAP(sim_trace_load)(const char *path, enum sim_trace_format format, uint64_t split_blocks);
struct sim_trace *WRAP(sim_trace_load)(const char *path, enum sim_trace_format format, uint64_t split_blocks)
{
	CHECK(path && (unsigned)format <= SIM_CSV && split_blocks);
	return NULL;
}

bool WRAP(sim_requests_print)(struct sim_config *config);
bool WRAP(sim_requests_print)(struct sim_config *config)
{
	free(sim_start_sizes(config, config->start, true));
	return true;
}

bool WRAP(sim_report_plot_possible)(const char *path);
bool WRAP(sim_report_plot_possible)(const char *path)
{
	return *path;
}

/* -- the target -- */

static void quiet(void)
{
	static bool done;
	if (done)
		return;
	done = true;
	stdout = fopen("/dev/null", "w");
	stderr = fopen("/dev/null", "w");
	CHECK(stdout && stderr);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	char *text = malloc(length + 1), *next = text, *arguments[ARGUMENTS_MAX + 2] = {(char[]){"lcpfs"}};
	int count = 1;
	CHECK(text);
	memcpy(text, bytes, length);
	text[length] = 0;
	quiet();
	while (count <= ARGUMENTS_MAX && (arguments[count] = strsep(&next, "\n")))
		count++;
	arguments[count] = NULL;
	optind = 0;
	(void)!cli_main(count, arguments);
	free(text);
	return 0;
}
