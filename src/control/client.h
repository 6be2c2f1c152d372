/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The other end of the control socket: what the CLI uses on a pool that is served.
 *
 * The server is not trusted: a pool's lease may name any socket. It has to be somebody who may serve that pool, to
 * say which one it serves, and to answer in time; what it answers is bounded in length, and made plain text.
 */
#ifndef CONTROL_CLIENT_H
#define CONTROL_CLIENT_H

#include <json-c/json.h>
#include <lcpfs/pool.h>
#include <sys/types.h>

#include "base/check.h"
#include "control/lines.h"

struct control_client {
	struct lines lines;
};

void control_client_open(struct control_client *client, int fd); /* a connection to a control socket; taken over */
void control_client_close(struct control_client *client);

/* Root, this process's user and the pool's owner may serve a pool. */
bool control_client_peer_may_serve(const struct control_client *client, uid_t owner);

/* 0: it serves this pool. BUSY: it serves another one. STOPPED: it does not answer. */
int control_client_identify(struct control_client *client, const struct lcpfs_identity *wanted,
			    struct lcpfs_failure *failure) MUST_CHECK;

struct control_call {
	const char *command;
	struct json_object *arguments; /* the caller's; NULL: none */
	/*
	 * May be NULL: then an answer is due within a minute. Called about five times a second, also while nothing
	 * is heard; when it returns false, the connection ends, and with it the server's work.
	 */
	lcpfs_progress *progress;
	void *context;
	const int *fd; /* what the command reads from, or writes to; NULL: none. It stays the caller's */
};

/* Waits for the result: a new object, NULL on failure; the failure is the one that the server gave. */
int control_client_call(struct control_client *client, const struct control_call *call,
			struct json_object **result, struct lcpfs_failure *failure) MUST_CHECK;

#endif
