/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: command lines, a line of the input for each argument, given to the CLI; or, where the first line is
 * "nbdkit", parameters of the plugin, KEY=VALUE. What the arguments ask for is not done: whatever would touch a
 * file, a socket or another program is replaced here (the linker's --wrap, see meson.build and run.sh).
 */
#include <errno.h>
#include <getopt.h>
#include <limits.h>
#include <netdb.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include "cli/cli.h"
#include "cli/session.h"
#include "control/command.h"
#include "control/socket.h"
#include "fuzz.h"
#include "sim/policy.h"
#include "sim/report.h"
#include "sim/requests.h"
#include "sim/trace.h"

enum { ARGUMENTS_MAX = 60, INTERNED_MAX = 64 };

/* -- what commands do -- */

/* As far as the command's own look at its arguments. */
int session_run(const struct session_call *call, struct json_object **result, struct lcpfs_failure *failure)
{
	CHECK(command_find(call->command));
	json_object_put(call->arguments);
	*result = NULL;
	return failure_set(failure, LCPFS_E_NOT_FOUND, "%s: not here", call->pool_path);
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

int WRAP(socket_listen)(const char *path, int *fd, struct lcpfs_failure *failure);
int WRAP(socket_listen)(const char *path, int *fd, struct lcpfs_failure *failure)
{
	*fd = -1;
	return failure_set(failure, LCPFS_E_BUSY, "%s: not here", path);
}

int WRAP(getaddrinfo)(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **found);
int WRAP(getaddrinfo)(const char *host, const char *port, const struct addrinfo *hints, struct addrinfo **found)
{
	(void)host, (void)hints, (void)found;
	CHECK(atoi(port) > 0);
	return EAI_NONAME;
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

/* -- nbdkit -- */

static char *interned[INTERNED_MAX];
static unsigned interned_count;

static const char *intern(char *text)
{
	CHECK(text && interned_count < INTERNED_MAX);
	return interned[interned_count++] = text;
}

const char *nbdkit_strdup_intern(const char *text)
{
	return intern(strdup(text));
}

const char *nbdkit_printf_intern(const char *format, ...)
{
	return intern(strdup(format));
}

char *nbdkit_realpath(const char *path)
{
	return strdup(path);
}

int64_t nbdkit_parse_size(const char *text)
{
	return strtoll(text, NULL, 10);
}

int nbdkit_parse_bool(const char *text)
{
	return !strcmp(text, "true") ? 1 : !strcmp(text, "false") ? 0 : -1;
}

void nbdkit_error(const char *format, ...)
{
	va_list values;

	va_start(values, format);
	vfprintf(stderr, format, values);
	va_end(values);
}

void nbdkit_set_error(int error)
{
	errno = error;
}

/* Nobody connects here. */
const char *nbdkit_export_name(void)
{
	return NULL;
}

int nbdkit_add_export(struct nbdkit_exports *exports, const char *name, const char *description)
{
	(void)exports, (void)name, (void)description;
	return 0;
}

int nbdkit_add_extent(struct nbdkit_extents *extents, uint64_t offset, uint64_t length, uint32_t type)
{
	(void)extents, (void)offset, (void)length, (void)type;
	return 0;
}

struct nbdkit_plugin *plugin_init(void);

static void configure(char **lines, int count)
{
	const struct nbdkit_plugin *plugin = plugin_init();

	for (int i = 0; i < count && interned_count < INTERNED_MAX; i++) {
		char *value = strchr(lines[i], '=');

		if (!value)
			continue;
		*value = 0;
		(void)!plugin->config(lines[i], value + 1);
	}
	(void)!plugin->config_complete();
	plugin->unload();
	while (interned_count)
		free(interned[--interned_count]);
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
	CHECK(stdout && stderr && !setenv("LCPFS_PLUGIN", "/dev/null", 1));
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
	if (!strcmp(arguments[1], "nbdkit"))
		configure(arguments + 2, count - 2);
	else
		(void)!cli_main(count, arguments);
	free(text);
	return 0;
}
