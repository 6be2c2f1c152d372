/* SPDX-License-Identifier: Apache-2.0 */
/* One command on a pool, wherever it is: through its server's control socket, else opened for this. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include <json-c/json.h>
#include <lcpfs/pool.h>

#include "base/check.h"

struct session_call {
	const char *pool_path;
	const char *command;           /* of the table in control/command.h */
	struct json_object *arguments; /* taken over; NULL: none */
	bool only_asks;                /* of a command that may change something: this call does not */
	lcpfs_progress *progress;      /* may be NULL */
	void *context;
};

/* *result is a new object, NULL on failure. */
int session_run(const struct session_call *call, struct json_object **result,
		struct lcpfs_failure *failure) MUST_CHECK;

#endif
