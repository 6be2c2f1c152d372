/* SPDX-License-Identifier: Apache-2.0 */
#include "control/server.h"

#include <errno.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptor.h"
#include "base/error.h"
#include "control/command.h"
#include "control/field.h"
#include "control/lines.h"
#include "control/listen.h"

enum {
	REQUEST_BYTES_MAX = 64 * 1024,
	CLIENTS_MAX = 64,     /* threads; a further client is told to come back */
	IDLE_MS_MAX = 60000,  /* without a whole request */
	SEND_S_MAX = 3,       /* a client that does not read its answer is dropped */
	PROGRESS_US = 200000, /* between two lines of progress */
	REQUEST_MEMBERS_MAX = 1000,
};

struct control_server {
	struct lcpfs_pool *pool;
	struct property_service service;
	struct listen_socket listening;
	int stop_fd; /* readable from the stop on, never read: wakes every thread */
	pthread_t acceptor;
	pthread_mutex_t lock;
	pthread_cond_t client_gone;
	unsigned clients; /* under lock */
};

struct client {
	struct control_server *server;
	struct lines lines;
	uint64_t progress_us; /* when the last line of progress was sent */
};

static int send_and_put(struct client *client, struct json_object *reply)
{
	int error = reply ? lines_send(&client->lines, reply) : -LCPFS_E_NOMEM;
	json_object_put(reply);
	return error;
}

static int send_failure(struct client *client, const struct lcpfs_failure *failure)
{
	struct json_object *reply = json_object_new_object();
	struct json_object *error = json_object_new_object();
	field_put_flag(reply, "ok", false);
	field_put_text(error, "name", lcpfs_error_name(failure->code));
	field_put_text(error, "message", failure->message);
	field_put(reply, "error", error);
	return send_and_put(client, reply);
}

static int refuse(struct client *client, enum lcpfs_error code, const char *message)
{
	struct lcpfs_failure failure;
	failure_set(&failure, code, "%s", message);
	return send_failure(client, &failure);
}

/* Waits for one of: something to read, the client's end, the server's stop, the time limit. */
static bool wait_readable(int fd, int stop_fd, int timeout_ms)
{
	struct pollfd fds[2] = {{.fd = fd, .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};
	int ready;
	do
		ready = poll(fds, 2, timeout_ms);
	while (ready < 0 && errno == EINTR);
	return ready > 0 && fds[0].revents && !fds[1].revents;
}

/*
 * Nothing is begun, and long work ends, when the server stops or the client hangs up: nobody would hear of its
 * result. A client that only says that it will send no more still listens.
 */
static bool is_wanted(struct client *client)
{
	struct pollfd fds[2] = {{.fd = client->lines.fd}, /* that it hung up is always reported */
				{.fd = client->server->stop_fd, .events = POLLIN}};
	return poll(fds, 2, 0) <= 0;
}

static bool client_progress(void *context, uint64_t done, uint64_t total)
{
	struct client *client = context;
	if (!is_wanted(client))
		return false;
	if (!total) /* only asks; a lock may be held */
		return true;
	uint64_t now_us = clock_us(&clock_system);
	if (client->progress_us && now_us - client->progress_us < PROGRESS_US)
		return true;
	client->progress_us = now_us;
	struct json_object *reply = json_object_new_object();
	struct json_object *progress = json_object_new_object();
	field_put_count(progress, "done", done);
	field_put_count(progress, "total", total);
	field_put(reply, "progress", progress);
	return !send_and_put(client, reply);
}

static int send_result(struct client *client, struct json_object *result)
{
	struct json_object *reply = json_object_new_object();
	field_put_flag(reply, "ok", true);
	field_put(reply, "result", result);
	return send_and_put(client, reply);
}

/* So that a client can tell whether the pool that it means is the one served here. Waits for nothing. */
static int answer_identify(struct client *client)
{
	struct json_object *result = json_object_new_object();
	struct lcpfs_identity identity;
	lcpfs_pool_get_identity(client->server->pool, &identity);
	field_put_id(result, "guid", identity.guid);
	field_put_id(result, "device", identity.device);
	field_put_id(result, "inode", identity.inode);
	field_put_id(result, "offset", identity.offset);
	field_put_count(result, "pid", (uint64_t)getpid());
	return send_result(client, result);
}

static int answer_command(struct client *client, const struct command *command, struct json_object *arguments)
{
	struct lcpfs_failure failure = {0};
	struct json_object *result;
	client->progress_us = 0;
	if (command->changes && !is_wanted(client))
		return -LCPFS_E_STOPPED;
	int fd = lines_take_passed(&client->lines);
	int error = command_run(command, client->server->pool, &client->server->service, arguments,
				client_progress, client, fd, &result, &failure);
	if (fd >= 0)
		close(fd);
	return error ? send_failure(client, &failure) : send_result(client, result);
}

static int answer_request(struct client *client, struct json_object *request)
{
	const char *name = field_text(request, "command");
	const struct command *command = name ? command_find(name) : NULL;
	struct lcpfs_failure failure;
	if (!json_object_is_type(request, json_type_object))
		return refuse(client, LCPFS_E_INVALID, "a request is one JSON object on one line");
	if (!name)
		return refuse(client, LCPFS_E_INVALID, "the request has no \"command\"");
	if (!strcmp(name, "identify"))
		return answer_identify(client);
	if (!command) {
		failure_set(&failure, LCPFS_E_INVALID, "no such command: %s", name);
		return send_failure(client, &failure);
	}
	json_object_object_del(request, "command"); /* what remains are its arguments */
	return answer_command(client, command, request);
}

static int answer_line(struct client *client, const char *line)
{
	const char *reason;
	struct json_object *request = lines_parse(line, REQUEST_MEMBERS_MAX, &reason);
	struct lcpfs_failure failure;
	if (!request) {
		failure_set(&failure, LCPFS_E_INVALID, "not a request in JSON: %s", reason);
		return send_failure(client, &failure);
	}
	int error = answer_request(client, request);
	json_object_put(request);
	return error;
}

static void serve_client(struct client *client)
{
	char *line;
	int error = 0;
	while (!error) {
		if (lines_next(&client->lines, &line)) {
			error = answer_line(client, line);
			continue;
		}
		if (!wait_readable(client->lines.fd, client->server->stop_fd, IDLE_MS_MAX))
			return;
		error = lines_receive(&client->lines);
		if (error == -LCPFS_E_RANGE)
			(void)!refuse(client, LCPFS_E_RANGE, "a request has at most 64 KiB");
	}
}

static void client_open(struct client *client, struct control_server *server, int fd)
{
	struct timeval limit = {.tv_sec = SEND_S_MAX};
	*client = (struct client){.server = server};
	lines_open(&client->lines, fd, REQUEST_BYTES_MAX);
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
}

void control_serve(struct lcpfs_pool *pool, int fd)
{
	struct control_server server = {.pool = pool, .stop_fd = -1};
	struct client client;
	client_open(&client, &server, fd);
	serve_client(&client);
	lines_close(&client.lines);
}

static void *client_thread(void *context)
{
	struct client *client = context;
	struct control_server *server = client->server;
	serve_client(client);
	lines_close(&client->lines);
	free(client);
	pthread_mutex_lock(&server->lock);
	server->clients--;
	pthread_cond_signal(&server->client_gone);
	pthread_mutex_unlock(&server->lock);
	return NULL;
}

/* The socket's permissions say the same; this also holds where somebody changed those. */
static bool peer_is_allowed(int fd)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);
	if (getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length))
		return false;
	return peer.uid == 0 || peer.uid == geteuid();
}

static bool count_client(struct control_server *server)
{
	pthread_mutex_lock(&server->lock);
	bool room = server->clients < CLIENTS_MAX;
	server->clients += room;
	pthread_mutex_unlock(&server->lock);
	return room;
}

static int start_thread(pthread_t *thread, void *(*run)(void *), void *context)
{
	sigset_t all, before;
	/* Signals belong to the program, not to a thread of ours. */
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(thread, NULL, run, context);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

static void welcome(struct control_server *server, int fd)
{
	struct client *client = calloc(1, sizeof(*client));
	pthread_t thread;
	if (!client) {
		close(fd);
		return;
	}
	client_open(client, server, fd);
	if (!peer_is_allowed(fd)) {
		(void)!refuse(client, LCPFS_E_INVALID, "only the pool's owner may control it");
	} else if (!count_client(server)) {
		(void)!refuse(client, LCPFS_E_BUSY, "too many clients of the control socket; try again later");
	} else if (!start_thread(&thread, client_thread, client)) {
		pthread_detach(thread);
		return;
	} else {
		pthread_mutex_lock(&server->lock);
		server->clients--;
		pthread_mutex_unlock(&server->lock);
	}
	lines_close(&client->lines);
	free(client);
}

static void *acceptor_thread(void *context)
{
	struct control_server *server = context;
	struct timespec pause = {.tv_nsec = 10000000};
	int fd;
	while (wait_readable(server->listening.fd, server->stop_fd, -1)) {
		fd = descriptor_keep_clear(accept4(server->listening.fd, NULL, NULL, SOCK_CLOEXEC));
		if (fd >= 0)
			welcome(server, fd);
		else
			nanosleep(&pause, NULL); /* out of descriptors: the client stays in the queue */
	}
	return NULL;
}

static void server_free(struct control_server *server)
{
	listen_close(&server->listening);
	if (server->stop_fd >= 0)
		close(server->stop_fd);
	pthread_cond_destroy(&server->client_gone);
	pthread_mutex_destroy(&server->lock);
	free(server);
}

int control_server_start(const char *path, struct lcpfs_pool *pool, const struct property_service *service,
			 struct control_server **result, struct lcpfs_failure *failure)
{
	struct control_server *server = calloc(1, sizeof(*server));
	int error, err;
	*result = NULL;
	if (!server)
		return failure_set(failure, LCPFS_E_NOMEM, "%s", lcpfs_error_sentence(LCPFS_E_NOMEM));
	server->pool = pool;
	server->service = *service;
	server->listening.fd = -1;
	pthread_mutex_init(&server->lock, NULL);
	pthread_cond_init(&server->client_gone, NULL);
	server->stop_fd = descriptor_keep_clear(eventfd(0, EFD_CLOEXEC));
	if (server->stop_fd < 0)
		error = failure_set(failure, LCPFS_E_SYSTEM, "%s: %s", path, strerror(errno));
	else
		error = listen_open(path, &server->listening, failure);
	if (!error) {
		err = start_thread(&server->acceptor, acceptor_thread, server);
		if (err)
			error = failure_set(failure, LCPFS_E_SYSTEM, "%s: no thread: %s", path, strerror(err));
	}
	if (error)
		server_free(server);
	else
		*result = server;
	return error;
}

void control_server_stop(struct control_server *server)
{
	if (!server)
		return;
	eventfd_write(server->stop_fd, 1);
	pthread_join(server->acceptor, NULL);
	pthread_mutex_lock(&server->lock);
	while (server->clients)
		pthread_cond_wait(&server->client_gone, &server->lock);
	pthread_mutex_unlock(&server->lock);
	server_free(server);
}
