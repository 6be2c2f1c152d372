/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include <stdio.h>
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

static int run_unserved(const struct session_call *call, struct json_object **result,
			struct lcpfs_failure *failure)
{
	const struct command *command = command_find(call->command);
	struct lcpfs_open_options options = {.read_only = !command->changes || call->only_asks, .notice = tell};
	struct lcpfs_pool *pool;
	int error, close_error;

	error = lcpfs_pool_open(call->pool_path, &options, &pool, failure);
	if (error)
		return error;
	error = command_run(command, pool, call->arguments, call->progress, call->context, result, failure);
	close_error = lcpfs_pool_close(pool, error ? NULL : failure);
	if (!error && close_error) {
		json_object_put(*result);
		*result = NULL;
		error = close_error;
	}
	return error;
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
	enum finding finding;
	int fd, error;

	if (pool_look(pool_path, seen, NULL) || !seen->pid || !seen->control_path[0])
		return SERVER_NOT_THERE;
	error = socket_connect(seen->control_path, &fd, &why);
	if (error == -LCPFS_E_STOPPED) {
		failure_set(failure, LCPFS_E_STOPPED, "%s is in use by process %llu: %s", pool_path,
			    (unsigned long long)seen->pid, why.message);
		return SERVER_WRONG;
	}
	if (error)
		return SERVER_NOT_THERE;
	control_client_open(client, fd);
	finding = check_server(client, pool_path, seen, failure);
	if (finding != SERVER_FOUND)
		control_client_close(client);
	return finding;
}

static int run_served(const struct session_call *call, struct control_client *client, const struct pool_seen *seen,
		      struct json_object **result, struct lcpfs_failure *failure)
{
	struct control_call asked = {.command = call->command,
				     .arguments = call->arguments,
				     .progress = call->progress,
				     .context = call->context};
	int error = control_client_call(client, &asked, result, failure);

	control_client_close(client);
	if (error == -LCPFS_E_STOPPED && failure && !(call->progress && cli_interrupted()))
		failure_set(failure, LCPFS_E_STOPPED, "%s: %s (process %llu, control socket %.108s)",
			    call->pool_path, failure->message, (unsigned long long)seen->pid, seen->control_path);
	return error;
}

int session_run(const struct session_call *call, struct json_object **result, struct lcpfs_failure *failure)
{
	struct timespec pause = {.tv_nsec = TRY_MS * 1000000};
	enum finding finding = SERVER_NOT_THERE;
	time_t end = time(NULL) + TRY_S_MAX;
	struct control_client client;
	struct pool_seen seen;
	int error = 0;

	*result = NULL;
	for (int i = 0; i < TRIES && finding == SERVER_NOT_THERE && (i == 0 || time(NULL) <= end); i++) {
		error = run_unserved(call, result, failure);
		if (error != -LCPFS_E_BUSY)
			break;
		finding = find_server(call->pool_path, &client, &seen, failure);
		if (finding == SERVER_FOUND)
			error = run_served(call, &client, &seen, result, failure);
		else if (finding == SERVER_NOT_THERE)
			nanosleep(&pause, NULL);
	}
	json_object_put(call->arguments);
	return error;
}
