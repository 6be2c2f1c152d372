/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The one table of commands on an open pool. The CLI runs them on a pool that it opened itself, the control socket
 * on a pool that is served: same arguments, same results (docs/control.md).
 */
#ifndef CONTROL_COMMAND_H
#define CONTROL_COMMAND_H

#include <json-c/json.h>
#include <lcpfs/pool.h>

#include "base/check.h"
#include "base/error.h"
#include "control/property.h"

enum command_kind { COMMAND_TEXT, COMMAND_COUNT, COMMAND_FLAG };

struct command_argument {
	const char *name;
	enum command_kind kind;
	bool required;
};

enum { COMMAND_ARGUMENTS_MAX = 10 };

struct command_call {
	struct lcpfs_pool *pool;
	const struct property_service *service; /* NULL: nobody serves it */
	struct json_object *arguments; /* of the kinds that the table says */
	struct json_object *result;    /* an empty object, to be filled */
	lcpfs_progress *progress;      /* may be NULL */
	void *context;
	int fd; /* what the stream of the command comes from, or goes to; -1: none. The caller's */
	struct lcpfs_failure *failure;
};

/* A failure that has no sentence yet gets one; returns `error`. */
static inline int command_failed(struct command_call *call, int error)
{
	return error ? failure_set(call->failure, (enum lcpfs_error) - error, "%s", lcpfs_error_sentence(error))
		     : 0;
}

struct command {
	const char *name;
	bool changes; /* needs a pool that is open for writing */
	int (*run)(struct command_call *call);
	struct command_argument arguments[COMMAND_ARGUMENTS_MAX]; /* ends with a NULL name */
};

const struct command *command_find(const char *name); /* NULL: none */

/*
 * Checks the arguments (NULL: none) against the table and runs. *result is a new object, NULL on failure.
 * `progress` is called from the calling thread. `fd` stays the caller's, -1: none.
 */
int command_run(const struct command *command, struct lcpfs_pool *pool, const struct property_service *service,
		struct json_object *arguments, lcpfs_progress *progress, void *context, int fd,
		struct json_object **result, struct lcpfs_failure *failure) MUST_CHECK;

#endif
