/* SPDX-License-Identifier: Apache-2.0 */
#include "session.h"

#include <limits.h>
#include <time.h>

#include "control/client.h"
#include "control/command.h"
#include "control/socket.h"

enum {
	TRIES = 10, /* a server that starts or ends has the pool for a moment without answering */
	TRY_MS = 100,
};

static int run_unserved(const struct session_call *call, struct json_object **result,
			struct lcpfs_failure *failure)
{
	const struct command *command = command_find(call->command);
	struct lcpfs_open_options options = {.read_only = !command->changes || call->only_asks};
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

/* A connection to whoever serves the pool; a lease that a killed server left behind leads nowhere. */
static bool find_server(const char *pool_path, int *fd)
{
	char control_path[PATH_MAX], nbd_path[PATH_MAX];
	uint64_t pid;

	return !lcpfs_pool_read_lease(pool_path, control_path, nbd_path, PATH_MAX, &pid, NULL) &&
	       !socket_connect(control_path, fd, NULL);
}

int session_run(const struct session_call *call, struct json_object **result, struct lcpfs_failure *failure)
{
	struct timespec pause = {.tv_nsec = TRY_MS * 1000000};
	int error = 0, fd;

	*result = NULL;
	for (int i = 0; i < TRIES; i++) {
		error = run_unserved(call, result, failure);
		if (error != -LCPFS_E_BUSY)
			break;
		if (find_server(call->pool_path, &fd)) {
			error = control_client_call(fd, call->command, call->arguments, call->progress,
						    call->context, result, failure);
			break;
		}
		nanosleep(&pause, NULL);
	}
	json_object_put(call->arguments);
	return error;
}
