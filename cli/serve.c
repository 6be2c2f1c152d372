/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lcpfs serve: opens the sockets, then becomes nbdkit with our plugin, which opens the pool.
 *
 * The sockets are handed over as systemd does it (LISTEN_FDS): so that a Unix socket and TCP can be served
 * together, that the socket file never exists with other permissions than the owner's, and that every refusal is
 * one line of ours.
 */
#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <netdb.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"
#include "control/socket.h"
#include "size.h"

enum {
	LISTEN_FD_FIRST = 3, /* by systemd's convention */
	SOCKETS_MAX = 9,     /* a name may stand for several addresses */
	ARGUMENTS_MAX = 32,
	BACKLOG = 128,
	SPARE_FD = 64, /* where descriptors wait out of the way */
};

static const char plugin_file[] = "nbdkit-lcpfs-plugin.so";

struct serving {
	const struct cli *cli;
	char pool_path[PATH_MAX];
	char socket_path[PATH_MAX];
	char control_path[PATH_MAX + 16];
	char plugin_path[PATH_MAX + 64];
	int sockets[SOCKETS_MAX];
	int count;
	char *arguments[ARGUMENTS_MAX];
	int argument_count;
};

/* ---- what is needed ---- */

static bool is_readable(const char *path)
{
	return access(path, R_OK) == 0;
}

/* Beside the executable (built, not installed), in nbdkit's folder beside it, else where it was to be installed.
 */
static int find_plugin(struct serving *s)
{
	static const char *const beside[] = {"", "nbdkit/"};
	const char *given = getenv("LCPFS_PLUGIN");
	char folder[PATH_MAX];
	ssize_t length = readlink("/proc/self/exe", folder, sizeof(folder) - 1);

	if (given) {
		snprintf(s->plugin_path, sizeof(s->plugin_path), "%s", given);
		return is_readable(given) ? 0 : cli_failed("LCPFS_PLUGIN=%s: %s", given, strerror(errno));
	}
	folder[MAX_OF(length, (ssize_t)0)] = '\0';
	if (strrchr(folder, '/'))
		strrchr(folder, '/')[1] = '\0';
	for (size_t i = 0; i < ARRAY_LENGTH(beside); i++) {
		snprintf(s->plugin_path, sizeof(s->plugin_path), "%s%s%s", folder, beside[i], plugin_file);
		if (is_readable(s->plugin_path))
			return 0;
	}
	snprintf(s->plugin_path, sizeof(s->plugin_path), "%s/%s", LCPFS_PLUGIN_DIR, plugin_file);
	return is_readable(s->plugin_path) ? 0
					   : cli_failed("%s is missing: install lcpfs as a whole", s->plugin_path);
}

static int find_paths(struct serving *s)
{
	const char *pool = s->cli->operands[0], *path = cli_value(s->cli, "socket");
	char folder[PATH_MAX];

	if (!path)
		return cli_usage("serve needs --socket PATH; see lcpfs help serve");
	if (!realpath(pool, s->pool_path))
		return cli_failed("%s: %s", pool, strerror(errno));
	if (*path != '/' && !getcwd(folder, sizeof(folder)))
		return cli_failed("current folder: %s", strerror(errno));
	if (snprintf(s->socket_path, PATH_MAX, "%s%s%s", *path == '/' ? "" : folder, *path == '/' ? "" : "/",
		     path) >= PATH_MAX)
		return cli_failed("%s: too long", path);
	snprintf(s->control_path, sizeof(s->control_path), "%s.control", s->socket_path);
	return 0;
}

/* ---- sockets ---- */

static int listen_at(const struct addrinfo *address)
{
	int on = 1;
	int fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, address->ai_protocol);

	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (!bind(fd, address->ai_addr, address->ai_addrlen) && !listen(fd, BACKLOG))
		return fd;
	close(fd);
	return -1;
}

static int listen_tcp(struct serving *s, const char *text, const char *host, const char *port)
{
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
	int wrong = getaddrinfo(*host ? host : NULL, port, &hints, &found);

	if (wrong)
		return cli_failed("--listen %s: %s", text, gai_strerror(wrong));
	for (struct addrinfo *a = found; a && s->count < SOCKETS_MAX; a = a->ai_next) {
		s->sockets[s->count] = listen_at(a);
		if (s->sockets[s->count] < 0 && errno != EAFNOSUPPORT && errno != EADDRNOTAVAIL) {
			freeaddrinfo(found);
			return cli_failed("--listen %s: %s", text, strerror(errno));
		}
		s->count += s->sockets[s->count] >= 0;
	}
	freeaddrinfo(found);
	return s->count ? 0 : cli_failed("--listen %s: this machine has no such address", text);
}

/* getaddrinfo takes numbers modulo 65536. */
static bool is_port(const char *text)
{
	size_t length = strlen(text);

	return length >= 1 && length <= 5 && strspn(text, "0123456789") == length && atoi(text) >= 1 &&
	       atoi(text) <= 65535;
}

/* HOST:PORT, [V6ADDRESS]:PORT, :PORT for every address. */
static int open_tcp(struct serving *s)
{
	const char *text = cli_value(s->cli, "listen");
	char host[256];
	const char *colon = text ? strrchr(text, ':') : NULL;
	bool in_brackets;

	if (!text)
		return 0;
	if (!colon || !is_port(colon + 1) || (size_t)(colon - text) >= sizeof(host))
		return cli_usage("--listen %s is not HOST:PORT", text);
	in_brackets = *text == '[' && colon[-1] == ']';
	snprintf(host, sizeof(host), "%.*s", (int)(colon - text) - 2 * in_brackets, text + in_brackets);
	return listen_tcp(s, text, host, colon + 1);
}

static int open_unix(struct serving *s)
{
	struct lcpfs_failure failure;

	if (strlen(s->control_path) >= 108)
		return cli_failed("%s: too long for a socket with .control behind it; choose a shorter path",
				  s->socket_path);
	if (socket_listen(s->socket_path, &s->sockets[s->count], &failure))
		return cli_failed("%s", failure.message);
	s->count++;
	return 0;
}

/* To the numbers that the convention wants; first out of each other's way. */
static int pass_sockets(struct serving *s)
{
	char text[32];

	for (int i = 0; i < s->count; i++) {
		s->sockets[i] = fcntl(s->sockets[i], F_DUPFD_CLOEXEC, SPARE_FD);
		if (s->sockets[i] < 0)
			return cli_failed("sockets: %s", strerror(errno));
	}
	for (int i = 0; i < s->count; i++)
		if (dup2(s->sockets[i], LISTEN_FD_FIRST + i) < 0)
			return cli_failed("sockets: %s", strerror(errno));
	snprintf(text, sizeof(text), "%d", s->count);
	setenv("LISTEN_FDS", text, 1);
	snprintf(text, sizeof(text), "%d", (int)getpid());
	setenv("LISTEN_PID", text, 1);
	return 0;
}

/* ---- nbdkit's command line ---- */

static void PRINTF_LIKE(2, 3) argument(struct serving *s, const char *format, ...)
{
	va_list values;

	CHECK(s->argument_count < ARGUMENTS_MAX - 1);
	va_start(values, format);
	CHECK(vasprintf(&s->arguments[s->argument_count++], format, values) >= 0);
	va_end(values);
}

static void pass_option(struct serving *s, const char *option)
{
	const char *value = cli_value(s->cli, option);

	if (value)
		argument(s, "--%s%s%s", option, *value ? "=" : "", value);
}

static void ready_argument(struct serving *s)
{
	const char *tls = cli_value(s->cli, "tls"), *listen_text = cli_value(s->cli, "listen");
	const char *scheme = tls && !strcmp(tls, "require") ? "nbds" : "nbd";
	char tcp[300] = "";

	if (listen_text)
		snprintf(tcp, sizeof(tcp), " and %s://%s/NAME", scheme, listen_text);
	argument(s, "serve-ready=lcpfs: serving %s at %s+unix:///NAME?socket=%s%s", s->pool_path, scheme,
		 s->socket_path, tcp);
}

static int build_arguments(struct serving *s)
{
	const char *tune = cli_value(s->cli, "tune");
	enum lcpfs_engine_mode mode;
	uint64_t cache_bytes = 0;

	if ((tune && cli_mode(tune, &mode)) || cli_size(s->cli, "cache", &cache_bytes))
		return CLI_USAGE;
	argument(s, "lcpfs"); /* its name in nbdkit's messages, so that they look like ours */
	argument(s, "--foreground");
	pass_option(s, "tls");
	pass_option(s, "tls-certificates");
	pass_option(s, "tls-psk");
	pass_option(s, "tls-verify-peer");
	pass_option(s, "verbose");
	argument(s, "%s", s->plugin_path);
	argument(s, "pool=%s", s->pool_path);
	argument(s, "control=%s", s->control_path);
	argument(s, "serve=true");
	argument(s, "serve-socket=%s", s->socket_path);
	ready_argument(s);
	if (tune)
		argument(s, "tune=%s", tune);
	if (cache_bytes)
		argument(s, "cache=%llu", (unsigned long long)cache_bytes);
	if (cli_flag(s->cli, "no-uring"))
		argument(s, "no-uring=true");
	return 0;
}

static int become_nbdkit(struct serving *s)
{
	int err;

	execvp("nbdkit", s->arguments);
	err = errno;
	unlink(s->socket_path);
	if (err == ENOENT)
		return cli_failed("nbdkit is not installed: apt-get install nbdkit");
	return cli_failed("nbdkit: %s", strerror(err));
}

int serve_run(const struct cli *cli)
{
	struct serving *s = calloc(1, sizeof(*s)); /* is gone, too, when this process becomes nbdkit */
	int status;

	CHECK(s);
	s->cli = cli;
	status = find_paths(s);
	if (!status)
		status = find_plugin(s);
	if (!status)
		status = build_arguments(s);
	if (!status)
		status = open_tcp(s);
	if (!status)
		status = open_unix(s);
	if (!status)
		status = pass_sockets(s);
	if (!status)
		status = become_nbdkit(s);
	for (int i = 0; i < s->argument_count; i++)
		free(s->arguments[i]);
	free(s);
	return status;
}
