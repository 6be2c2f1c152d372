/* SPDX-License-Identifier: Apache-2.0 */
/* The other end of the control socket: what the CLI uses on a pool that is served. */
#ifndef CONTROL_CLIENT_H
#define CONTROL_CLIENT_H

#include <json-c/json.h>
#include <lcpfs/pool.h>

#include "base/check.h"

/*
 * Sends one command with its arguments (NULL: none) and waits for its result: a new object, NULL on failure. The
 * failure is the one that the server gave; NOT_FOUND: nobody listens at `path`. `progress` (may be NULL) is called
 * about five times a second, also while nothing is heard; when it returns false, the server is told to stop.
 */
int control_client_call(const char *path, const char *command, struct json_object *arguments,
			lcpfs_progress *progress, void *context, struct json_object **result,
			struct lcpfs_failure *failure) MUST_CHECK;

#endif
