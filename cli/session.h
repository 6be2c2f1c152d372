/* SPDX-License-Identifier: Apache-2.0 */
/* One command on a pool, wherever it is: through its server's control socket, else opened for this. */
#ifndef CLI_SESSION_H
#define CLI_SESSION_H

#include <json-c/json.h>
#include <lcpfs/pool.h>

#include <time.h>

#include "base/check.h"
#include "control/client.h"
#include "pool/pool.h"

struct session_call {
	const char *pool_path;
	const char *command;           /* of the table in control/command.h */
	struct json_object *arguments; /* taken over; NULL: none */
	bool only_asks;                /* of a command that may change something: this call does not */
	lcpfs_progress *progress;      /* may be NULL */
	void *context;
	const int *fd; /* what the command reads from, or writes to; NULL: none. It stays the caller's */
};

/*
 * A pool for several commands: opened here, or through its server over one connection. What is in it is for
 * session.c only.
 */
struct session {
	const char *pool_path;
	struct lcpfs_pool *pool; /* NULL: it is served */
	struct control_client client;
	struct pool_seen seen;
};

int session_open(struct session *session, const char *pool_path, bool read_only,
		 struct lcpfs_failure *failure) MUST_CHECK;
/* `pool_path` and `only_asks` of the call do not count. *result is a new object, NULL on failure. */
int session_ask(struct session *session, const struct session_call *call, struct json_object **result,
		struct lcpfs_failure *failure) MUST_CHECK;
int session_close(struct session *session, struct lcpfs_failure *failure) MUST_CHECK;

/* *result is a new object, NULL on failure. */
int session_run(const struct session_call *call, struct json_object **result,
		struct lcpfs_failure *failure) MUST_CHECK;

/*
 * A pool's server, asked again and again over one connection; made anew where it ended. What comes first is the
 * caller's to set, all from `client` on begins as zero.
 */
struct session_watch {
	const char *pool_path;
	lcpfs_progress *progress; /* may be NULL; asked about five times a second whether to go on waiting */
	void *context;
	struct control_client client;
	bool is_connected;
	bool is_waiting; /* somebody was told that the server is gone */
};

/* Takes `arguments` over. NOT_FOUND: nobody serves the pool at the moment. */
int session_watch_call(struct session_watch *watch, const char *command, struct json_object *arguments,
		       struct json_object **result, struct lcpfs_failure *failure) MUST_CHECK;
/* Whether a failed call is worth another one later: the server ended, and may come back. Says so once. */
bool session_watch_goes_on(struct session_watch *watch, const struct lcpfs_failure *failure);
void session_watch_close(struct session_watch *watch);
/* Until *next plus the interval, and moves *next there: what happens between two calls delays no later one. */
void session_sleep(struct timespec *next, double interval_s);

#endif
