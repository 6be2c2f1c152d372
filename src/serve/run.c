/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The thread that calls serve_run accepts clients and waits for signals. The first signal begins the end, which a
 * thread of its own then brings about, so that this one can go on listening to signals: the second has no client
 * waited for, the third ends the process at once, as a crash would.
 */
#include "serve/run.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "control/server.h"
#include "control/socket.h"
#include "serve/ending.h"
#include "serve/limits.h"
#include "serve/listeners.h"
#include "serve/notify.h"
#include "serve/server.h"
#include "serve/volumes.h"

enum {
	PAUSE_MS = 100,          /* before accepting is tried again where the system lacked something */
	URI_TEXT = 3 * LISTEN_PATH_MAX,
};

struct serving {
	const struct serve_options *options;
	int signal_fd, ended_fd;
	struct tls *tls;
	struct listeners listeners;
	char control_path[PATH_MAX];
	struct lcpfs_pool *pool;
	struct control_server *control;
	pthread_mutex_t lock; /* of `server`: the thread that ends it frees it */
	struct server *server;
	unsigned signals;
	int error; /* with which the pool closed */
	struct lcpfs_failure failure;
};

/* -- beginning -- */

static int find_control_path(struct serving *s, struct lcpfs_failure *failure)
{
	const struct serve_options *o = s->options;
	const char *nbd = o->socket_path ? o->socket_path : s->listeners.handed_path;
	if (!o->control_path && !*nbd)
		return failure_set(failure, LCPFS_E_INVALID,
				   "where is the control socket to be? Give --control PATH");
	if (o->control_path)
		snprintf(s->control_path, sizeof(s->control_path), "%s", o->control_path);
	else
		snprintf(s->control_path, sizeof(s->control_path), "%s.control", nbd);
	if (strlen(s->control_path) < LISTEN_PATH_MAX)
		return 0;
	return failure_set(failure, LCPFS_E_INVALID, "%s: too long for a socket; choose a shorter path",
			   s->control_path);
}

static int open_listeners(struct serving *s, struct lcpfs_failure *failure)
{
	const struct serve_options *o = s->options;
	int error = listeners_add_handed(&s->listeners, failure);
	if (!error)
		error = find_control_path(s, failure);
	if (!error && o->listen)
		error = listeners_add_tcp(&s->listeners, o->listen, failure);
	if (!error && o->socket_path)
		error = listeners_add_unix(&s->listeners, o->socket_path, failure);
	if (!error && !s->listeners.count)
		error = failure_set(failure, LCPFS_E_INVALID, "nothing to listen on; give --socket PATH");
	if (!error && s->listeners.is_open_to_others && o->tls != SERVE_TLS_REQUIRE)
		fprintf(stderr, "lcpfs: warning: without --tls require, anyone who reaches the TCP port can read "
				"and write\n");
	return error;
}

/* A server whose pool somebody else has taken is of no use to anybody, and its clients should hear of that. */
static void notice_of_pool(void *context, enum lcpfs_notice kind, const char *text)
{
	fprintf(stderr, "lcpfs: %s: %s\n", ((const struct serving *)context)->options->pool_path, text);
	if (kind == LCPFS_NOTICE_TAKEN_OVER)
		kill(getpid(), SIGTERM);
}

static int open_pool(struct serving *s, struct lcpfs_failure *failure)
{
	const struct serve_options *o = s->options;
	struct lcpfs_open_options options = o->open;
	options.notice = notice_of_pool;
	options.notice_context = s;
	int error = lcpfs_pool_open(o->pool_path, &options, &s->pool, failure);
	if (error)
		return error;
	error = control_server_start(s->control_path, s->pool, &o->service, &s->control, failure);
	if (error)
		return error;
	error = lcpfs_pool_set_lease(s->pool, s->control_path,
				     o->socket_path ? o->socket_path : s->listeners.handed_path);
	if (error)
		failure_set(failure, (enum lcpfs_error)-error, "%s: cannot note who serves it: %s", o->pool_path,
			    lcpfs_error_sentence(error));
	if (!error && o->opened)
		error = o->opened(o->context, s->pool, failure);
	return error;
}

static int start_server(struct serving *s, struct lcpfs_failure *failure)
{
	struct server_config config = {
		.backend = &volumes_backend,
		.context = s->pool,
		.tls = s->options->tls,
		.tls_keys = s->tls,
		.is_verbose = s->options->is_verbose,
	};
	unsigned clients_max;
	int error = server_new(&config, &s->server, failure);
	if (!error)
		error = limits_clients(&clients_max, failure);
	if (!error)
		server_set_clients_max(s->server, clients_max);
	return error;
}

static int begin(struct serving *s, struct lcpfs_failure *failure)
{
	const struct serve_options *o = s->options;
	limits_raise();
	int error = ending_watch(&s->signal_fd, failure);
	s->ended_fd = eventfd(0, EFD_CLOEXEC);
	if (!error && s->ended_fd < 0)
		error = failure_set(failure, LCPFS_E_SYSTEM, "%s", strerrordesc_np(errno));
	if (!error && o->tls != SERVE_TLS_OFF)
		error = tls_load(&o->tls_files, &s->tls, failure);
	if (!error)
		error = open_listeners(s, failure);
	if (!error)
		error = open_pool(s, failure);
	if (!error)
		error = start_server(s, failure);
	return error;
}

/* -- that it is ready -- */

static void print_ready(const struct serving *s)
{
	const struct serve_options *o = s->options;
	const char *scheme = o->tls == SERVE_TLS_REQUIRE ? "nbds" : "nbd";
	const char *path = o->socket_path ? o->socket_path : s->listeners.handed_path, *and = " at ";
	char encoded[URI_TEXT];
	printf("lcpfs: serving %s", o->pool_path);
	if (*path) {
		socket_path_encode(path, encoded);
		printf("%s%s+unix:///NAME?socket=%s", and, scheme, encoded);
		and = " and ";
	}
	if (o->listen) /* without a host it is every address that this machine has */
		printf("%s%s://%s%s/NAME", and, scheme, *o->listen == ':' ? "localhost" : "", o->listen);
	printf("\n");
	fflush(stdout);
	/* Whoever reads until the end need not wait for ours. */
	int null_fd = open("/dev/null", O_WRONLY | O_CLOEXEC);
	if (null_fd >= 0) {
		dup2(null_fd, STDOUT_FILENO);
		close(null_fd);
	}
}

/* -- the end -- */

/* What cannot fail any more is left for last: the pool. */
static void *end_thread(void *context)
{
	struct serving *s = context;
	if (s->server)
		server_wait(s->server);
	pthread_mutex_lock(&s->lock);
	server_free(s->server);
	s->server = NULL;
	pthread_mutex_unlock(&s->lock);
	control_server_stop(s->control);
	if (s->options->closing)
		s->options->closing(s->options->context);
	s->error = s->pool ? lcpfs_pool_close(s->pool, &s->failure) : 0;
	eventfd_write(s->ended_fd, 1);
	return NULL;
}

static void tell_server(struct serving *s)
{
	pthread_mutex_lock(&s->lock);
	if (s->server)
		server_end(s->server);
	pthread_mutex_unlock(&s->lock);
}

static void take_signal(struct serving *s)
{
	char text[ENDING_TEXT];
	if (!ending_take(s->signal_fd, text))
		return;
	switch (++s->signals) {
	case 1:
		fprintf(stderr, "lcpfs: stopping: %s\n", text);
		notify_send("STOPPING=1");
		listeners_close(&s->listeners);
		tell_server(s);
		break;
	case 2:
		fprintf(stderr, "lcpfs: stopping without waiting for clients: %s\n", text);
		tell_server(s);
		break;
	default:
		fprintf(stderr, "lcpfs: stopped at once, what was not flushed may be lost: %s\n", text);
		_exit(EXIT_FAILURE);
	}
}

static void wait_for_end(struct serving *s)
{
	struct pollfd fds[2] = {{.fd = s->signal_fd, .events = POLLIN}, {.fd = s->ended_fd, .events = POLLIN}};
	while (!fds[1].revents) {
		if (poll(fds, 2, -1) > 0 && fds[0].revents)
			take_signal(s);
	}
}

/* Closes all there is, also what was only half begun. */
static void end(struct serving *s)
{
	pthread_t thread;
	if (!s->signals)
		tell_server(s);
	if (s->signal_fd < 0 || s->ended_fd < 0 || pthread_create(&thread, NULL, end_thread, s)) {
		end_thread(s);
	} else {
		wait_for_end(s);
		pthread_join(thread, NULL);
	}
	listeners_close(&s->listeners);
	tls_free(s->tls);
	close(s->signal_fd);
	close(s->ended_fd);
	pthread_mutex_destroy(&s->lock);
}

/* -- between the two -- */

static bool accept_all(struct serving *s, const struct pollfd *fds)
{
	bool go_on = true;
	for (unsigned i = 0; i < s->listeners.count; i++)
		if (fds[i].revents)
			go_on &= server_accept(s->server, fds[i].fd);
	return go_on;
}

static void accept_until_signal(struct serving *s)
{
	struct pollfd fds[LISTENERS_MAX + 1] = {{.fd = s->signal_fd, .events = POLLIN}};
	bool paused = false;
	for (unsigned i = 0; i < s->listeners.count; i++)
		fds[i + 1] = (struct pollfd){.fd = s->listeners.fds[i], .events = POLLIN};
	while (!s->signals) {
		int ready = poll(fds, paused ? 1 : s->listeners.count + 1, paused ? PAUSE_MS : -1);
		if (ready > 0 && fds[0].revents)
			take_signal(s);
		else
			paused = ready > 0 && !accept_all(s, fds + 1);
	}
}

int serve_run(const struct serve_options *options, struct lcpfs_failure *failure)
{
	struct serving s = {
		.options = options, .signal_fd = -1, .ended_fd = -1, .lock = PTHREAD_MUTEX_INITIALIZER};
	listeners_init(&s.listeners);
	int error = begin(&s, failure);
	if (!error) {
		print_ready(&s);
		notify_send("READY=1");
		accept_until_signal(&s);
	}
	end(&s);
	if (!error && s.error)
		error = failure_set(failure, (enum lcpfs_error) - s.error, "closing the pool: %s",
				    s.failure.message);
	return error;
}
