/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "cli.h"
#include "control/client.h"
#include "control/command.h"
#include "control/socket.h"
#include "pool/pool.h"

enum {
	TRIES = 10, /* a server that starts or ends has the pool for a moment without answering */
	TRY_MS = 100,
	TRY_S_MAX = 3, /* with all that looking at who has it takes */
};

/* Only where somebody watches: a script gets its answer, or one line that says why not. */
static void tell(void *context, enum lcpfs_notice notice, const char *text)
{
	(void)context, (void)notice;
	if (isatty(STDERR_FILENO))
		fprintf(stderr, "lcpfs: %s\n", text);
}

enum finding {
	SERVER_FOUND,
	SERVER_NOT_THERE, /* nobody answers where the lease says, or it says nothing: it may be starting or ending
			   */
	SERVER_WRONG,     /* *failure says why */
};

/* What the lease says is believed only as far as who answers there proves it. */
static enum finding check_server(struct control_client *client, const char *pool_path,
				 const struct pool_seen *seen, struct lcpfs_failure *failure)
{
	struct lcpfs_failure why;
	if (!control_client_peer_may_serve(client, seen->owner_uid)) {
		failure_set(failure, LCPFS_E_BUSY,
			    "%s is in use, and whoever listens at %.108s, where its lease leads, is not its owner",
			    pool_path, seen->control_path);
		return SERVER_WRONG;
	}
	if (!control_client_identify(client, &seen->identity, &why))
		return SERVER_FOUND;
	if (why.code == LCPFS_E_BUSY)
		failure_set(failure, LCPFS_E_BUSY,
			    "%s; the server that its lease names (%.108s) serves another pool, or this one by "
			    "another name",
			    failure->message, seen->control_path);
	else
		failure_set(failure, (enum lcpfs_error)why.code,
			    "%s is in use by process %llu, and %s (control socket %.108s)", pool_path,
			    (unsigned long long)seen->pid, why.message, seen->control_path);
	return SERVER_WRONG;
}

static enum finding find_server(const char *pool_path, struct control_client *client, struct pool_seen *seen,
				struct lcpfs_failure *failure)
{
	struct lcpfs_failure why;
	int fd;
	if (pool_look(pool_path, seen, NULL) || !seen->pid || !seen->control_path[0])
		return SERVER_NOT_THERE;
	int error = socket_connect(seen->control_path, &fd, &why);
	if (error == -LCPFS_E_STOPPED) {
		failure_set(failure, LCPFS_E_STOPPED, "%s is in use by process %llu: %s", pool_path,
			    (unsigned long long)seen->pid, why.message);
		return SERVER_WRONG;
	}
	if (error)
		return SERVER_NOT_THERE;
	control_client_open(client, fd);
	enum finding finding = check_server(client, pool_path, seen, failure);
	if (finding != SERVER_FOUND)
		control_client_close(client);
	return finding;
}

static int open_here(struct session *session, bool read_only, bool no_wait, struct lcpfs_failure *failure)
{
	struct lcpfs_open_options options = {.read_only = read_only, .no_wait = no_wait, .notice = tell};
	return lcpfs_pool_open(session->pool_path, &options, &session->pool, failure);
}

int session_open(struct session *session, const char *pool_path, bool read_only, struct lcpfs_failure *failure)
{
	struct timespec pause = {.tv_nsec = TRY_MS * 1000000};
	enum finding finding = SERVER_NOT_THERE;
	time_t end = time(NULL) + TRY_S_MAX;
	int error = 0;
	*session = (struct session){.pool_path = pool_path};
	for (int i = 0; i < TRIES && finding == SERVER_NOT_THERE && (i == 0 || time(NULL) <= end); i++) {
		error = open_here(session, read_only, i == 0, failure); /* mostly its server has it, and answers */
		if (error != -LCPFS_E_BUSY)
			break;
		finding = find_server(pool_path, &session->client, &session->seen, failure);
		if (finding == SERVER_FOUND)
			error = 0;
		else if (finding == SERVER_NOT_THERE && i)
			nanosleep(&pause, NULL);
	}
	return error;
}

static int ask_served(struct session *session, const struct session_call *call, struct json_object **result,
		      struct lcpfs_failure *failure)
{
	struct control_call asked = {.command = call->command,
				     .arguments = call->arguments,
				     .progress = call->progress,
				     .context = call->context,
				     .fd = call->fd};
	int error = control_client_call(&session->client, &asked, result, failure);
	if (error == -LCPFS_E_STOPPED && failure && !(call->progress && cli_interrupted()))
		failure_set(failure, LCPFS_E_STOPPED, "%s: %s (process %llu, control socket %.108s)",
			    session->pool_path, failure->message, (unsigned long long)session->seen.pid,
			    session->seen.control_path);
	return error;
}

int session_ask(struct session *session, const struct session_call *call, struct json_object **result,
		struct lcpfs_failure *failure)
{
	*result = NULL;
	int error = session->pool ? command_run(command_find(call->command), session->pool, NULL, call->arguments,
						call->progress, call->context, call->fd ? *call->fd : -1, result,
						failure)
				  : ask_served(session, call, result, failure);
	json_object_put(call->arguments);
	return error;
}

int session_close(struct session *session, struct lcpfs_failure *failure)
{
	if (session->pool)
		return lcpfs_pool_close(session->pool, failure);
	control_client_close(&session->client);
	return 0;
}

int session_run(const struct session_call *call, struct json_object **result, struct lcpfs_failure *failure)
{
	bool read_only = !command_find(call->command)->changes || call->only_asks;
	struct session session;
	int error = session_open(&session, call->pool_path, read_only, failure), close_error;
	*result = NULL;
	if (error) {
		json_object_put(call->arguments);
		return error;
	}
	error = session_ask(&session, call, result, failure);
	close_error = session_close(&session, error ? NULL : failure);
	if (!error && close_error) {
		json_object_put(*result);
		*result = NULL;
		error = close_error;
	}
	return error;
}

/* ---- again and again ---- */

static int connect_watch(struct session_watch *watch, struct lcpfs_failure *failure)
{
	struct timespec pause = {.tv_nsec = TRY_MS * 1000000};
	enum finding finding = SERVER_NOT_THERE;
	struct pool_seen seen;
	for (int i = 0; i < TRIES / 2 && finding == SERVER_NOT_THERE; i++) {
		if (i)
			nanosleep(&pause, NULL);
		finding = find_server(watch->pool_path, &watch->client, &seen, failure);
	}
	watch->is_connected = finding == SERVER_FOUND;
	if (finding == SERVER_NOT_THERE && access(watch->pool_path, F_OK))
		return failure_set(failure, LCPFS_E_SYSTEM, "%s: %s", watch->pool_path, strerrordesc_np(errno));
	if (finding == SERVER_NOT_THERE)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "%s is not served: start lcpfs serve %s first",
				   watch->pool_path, watch->pool_path);
	return watch->is_connected ? 0 : -failure->code;
}

static int ask(struct session_watch *watch, const struct control_call *call, struct json_object **result,
	       struct lcpfs_failure *failure)
{
	int error = watch->is_connected ? 0 : connect_watch(watch, failure);
	if (!error)
		error = control_client_call(&watch->client, call, result, failure);
	if (error == -LCPFS_E_STOPPED)
		session_watch_close(watch);
	return error;
}

/* A connection that was kept may have been closed meanwhile, for having been silent: so it is tried twice. */
int session_watch_call(struct session_watch *watch, const char *command, struct json_object *arguments,
		       struct json_object **result, struct lcpfs_failure *failure)
{
	struct control_call call = {.command = command,
				    .arguments = arguments,
				    .progress = watch->progress,
				    .context = watch->context};
	bool was_connected = watch->is_connected;
	*result = NULL;
	int error = ask(watch, &call, result, failure);
	if (error == -LCPFS_E_STOPPED && was_connected)
		error = ask(watch, &call, result, failure);
	watch->is_waiting &= error != 0;
	json_object_put(arguments);
	return error;
}

bool session_watch_goes_on(struct session_watch *watch, const struct lcpfs_failure *failure)
{
	bool may_come_back =
		!watch->is_connected && (failure->code == LCPFS_E_STOPPED || failure->code == LCPFS_E_NOT_FOUND);
	if (may_come_back && !watch->is_waiting)
		fprintf(stderr, "lcpfs: %s: its server ended; waiting for it\n", watch->pool_path);
	watch->is_waiting = may_come_back;
	return may_come_back;
}

void session_watch_close(struct session_watch *watch)
{
	if (watch->is_connected)
		control_client_close(&watch->client);
	watch->is_connected = false;
}

void session_sleep(struct timespec *next, double interval_s)
{
	struct timespec now;
	double end = (double)next->tv_sec + (double)next->tv_nsec / 1e9 + interval_s;
	clock_gettime(CLOCK_MONOTONIC, &now);
	end = end < (double)now.tv_sec ? (double)now.tv_sec + (double)now.tv_nsec / 1e9 : end;
	next->tv_sec = (time_t)end;
	next->tv_nsec = (long)((end - (double)next->tv_sec) * 1e9);
	(void)clock_nanosleep(CLOCK_MONOTONIC, TIMER_ABSTIME, next, NULL);
}
