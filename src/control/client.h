/* SPDX-License-Identifier: Apache-2.0 */
/* The other end of the control socket: what the CLI uses on a pool that is served. */
#ifndef CONTROL_CLIENT_H
#define CONTROL_CLIENT_H

#include <json-c/json.h>
#include <lcpfs/pool.h>

#include "base/check.h"

/*
 * Sends one command with its arguments (NULL: none) over `fd`, a connection to a control socket, and waits for its
 * result: a new object, NULL on failure; the failure is the one that the server gave. `fd` is closed in any case.
 * `progress` (may be NULL) is called about five times a second, also while nothing is heard; when it returns
 * false, the connection ends, and with it the server's work.
 */
int control_client_call(int fd, const char *command, struct json_object *arguments, lcpfs_progress *progress,
			void *context, struct json_object **result, struct lcpfs_failure *failure) MUST_CHECK;

#endif
