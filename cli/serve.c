/* SPDX-License-Identifier: Apache-2.0 */
/* lcpfs serve: its options. What it does is in src/serve/run.c. */
#include <errno.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include "cli.h"
#include "config.h"
#include "events.h"
#include "exporter.h"
#include "journal.h"
#include "serve/listeners.h"
#include "serve/run.h"
#include "size.h"

struct paths {
	char pool[PATH_MAX], socket[PATH_MAX], control[PATH_MAX];
};

/* From the root on: the pool's lease names it to processes in other folders. */
static int make_absolute(const char *given, char path[PATH_MAX])
{
	char folder[PATH_MAX];
	if (*given != '/' && !getcwd(folder, sizeof(folder)))
		return cli_failed("current folder: %s", strerror(errno));
	if (snprintf(path, PATH_MAX, "%s%s%s", *given == '/' ? "" : folder, *given == '/' ? "" : "/", given) >=
	    PATH_MAX)
		return cli_failed("%s: too long", given);
	return 0;
}

static int find_paths(const struct cli *cli, struct paths *paths, struct serve_options *options)
{
	const char *pool = cli->operands[0], *socket = cli_value(cli, "socket"),
		   *control = cli_value(cli, "control");
	if (cli_value(cli, "listen") && !listeners_is_tcp(cli_value(cli, "listen")))
		return cli_usage("--listen %s is not HOST:PORT", cli_value(cli, "listen"));
	if (!socket && !getenv("LISTEN_FDS") && !(control && cli_value(cli, "listen")))
		return cli_usage("serve needs --socket PATH; see lcpfs help serve");
	if (!realpath(pool, paths->pool))
		return cli_failed("%s: %s", pool, strerror(errno));
	int error = socket ? make_absolute(socket, paths->socket) : 0;
	if (!error && control)
		error = make_absolute(control, paths->control);
	options->pool_path = paths->pool;
	options->socket_path = socket ? paths->socket : NULL;
	options->control_path = control ? paths->control : NULL;
	return error;
}

/* Whoever names keys means TLS, and nothing without it. */
static int find_tls(const struct cli *cli, struct serve_options *o)
{
	static const char *const modes[] = {
		[SERVE_TLS_OFF] = "off", [SERVE_TLS_ON] = "on", [SERVE_TLS_REQUIRE] = "require"};
	const char *mode = cli_value(cli, "tls");
	o->tls_files = (struct tls_files){
		.certificates = cli_value(cli, "tls-certificates"),
		.psk = cli_value(cli, "tls-psk"),
		.verify_peer = cli_flag(cli, "tls-verify-peer"),
	};
	bool has_keys = o->tls_files.certificates || o->tls_files.psk;
	unsigned given = 0;
	while (mode && given < ARRAY_LENGTH(modes) && strcmp(mode, modes[given]) != 0)
		given++;
	if (given == ARRAY_LENGTH(modes))
		return cli_usage("--tls %s: it is off, on or require", mode);
	o->tls = mode                                   ? (enum serve_tls)given
		 : has_keys || o->tls_files.verify_peer ? SERVE_TLS_REQUIRE
							: SERVE_TLS_OFF;
	if (o->tls == SERVE_TLS_OFF && (has_keys || o->tls_files.verify_peer))
		return cli_usage("--tls off, but keys for TLS are given");
	if (o->tls != SERVE_TLS_OFF && !has_keys)
		return cli_usage("TLS needs --tls-certificates DIR or --tls-psk FILE");
	if (o->tls_files.verify_peer && !o->tls_files.certificates)
		return cli_usage("--tls-verify-peer needs --tls-certificates DIR");
	return 0;
}

static int find_pool_options(const struct cli *cli, struct lcpfs_open_options *open)
{
	const char *tune = cli_value(cli, "tune");
	uint64_t cache_bytes = 0;
	*open = (struct lcpfs_open_options){
		.background = true, .no_uring = cli_flag(cli, "no-uring"), .tune_given = tune != NULL};
	if ((tune && cli_mode(tune, &open->tune)) || cli_size(cli, "cache", &cache_bytes))
		return CLI_USAGE;
	if (cache_bytes > SIZE_MAX)
		return cli_usage("--cache %s is too much", cli_value(cli, "cache"));
	open->cache_bytes = (size_t)cache_bytes;
	return 0;
}

/* ---- what goes with the pool while it is open ---- */

struct extras {
	const struct cli *cli;
	const char *pool_path;
	struct exporter *exporter;
	struct events *events;
	struct property_service service;
};

static int find_service(const struct cli *cli, const struct lcpfs_open_options *open,
			struct property_service *service)
{
	const char *alarm = cli_value(cli, "alarm");
	*service = (struct property_service){.cache_bytes = open->cache_bytes};
	if (alarm && !size_parse_alarm(alarm, &service->alarm_percent))
		return cli_usage("--alarm %s is not a percentage from 10 to 100", alarm);
	return 0;
}

static int check_extras(const struct cli *cli)
{
	const char *address = cli_value(cli, "metrics"), *hook = cli_value(cli, "hook");
	if (address && !exporter_is_address(address))
		return cli_usage("--metrics %s is not PORT, ADDRESS:PORT or [ADDRESS]:PORT; an ADDRESS has no "
				 "names, and 0.0.0.0 is every one",
				 address);
	if (hook && (*hook != '/' || access(hook, X_OK)))
		return cli_usage("--hook %s: %s", hook,
				 *hook == '/' ? strerror(errno) : "name the program from the root on");
	return 0;
}

static int start_extras(void *context, struct lcpfs_pool *pool, struct lcpfs_failure *failure)
{
	struct extras *extras = context;
	const char *address = cli_value(extras->cli, "metrics");
	struct events_options options = {
		.pool = pool,
		.pool_path = extras->pool_path,
		.hook = cli_value(extras->cli, "hook"),
		.service = &extras->service,
	};
	int error = address ? exporter_start(address, pool, extras->pool_path, &extras->exporter, failure) : 0;
	if (!error && (options.hook || journal_is_there()))
		error = events_start(&options, &extras->events, failure);
	return error;
}

static void stop_extras(void *context)
{
	struct extras *extras = context;
	events_stop(extras->events);
	exporter_stop(extras->exporter);
}

static int serve(const struct cli *cli)
{
	struct serve_options options = {.listen = cli_value(cli, "listen"),
					.is_verbose = cli_flag(cli, "verbose")};
	struct lcpfs_failure failure = {0};
	struct paths paths;
	struct extras extras = {.cli = cli, .pool_path = paths.pool};
	options.opened = start_extras;
	options.closing = stop_extras;
	options.context = &extras;
	int status = find_pool_options(cli, &options.open);
	if (!status)
		status = find_tls(cli, &options);
	if (!status)
		status = check_extras(cli);
	if (!status)
		status = find_service(cli, &options.open, &extras.service);
	options.service = extras.service;
	if (!status)
		status = find_paths(cli, &paths, &options);
	if (status)
		return status;
	return serve_run(&options, &failure) ? cli_failed("%s", failure.message) : CLI_DONE;
}

int serve_command(const struct cli *cli)
{
	struct config config = {0};
	struct cli all = *cli;
	const char *path = cli_value(cli, "config");
	int error = path ? config_read(&config, path, &all) : 0;
	if (!error)
		error = serve(&all);
	config_free(&config);
	return error;
}
