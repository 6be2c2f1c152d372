/* SPDX-License-Identifier: Apache-2.0 */
/* An event loop: a thread, its connections, and what they share. */
#ifndef SERVE_LOOP_H
#define SERVE_LOOP_H

#include "serve/connection.h"

enum {
	LOOP_HANDSHAKE_MS_MAX = 10000, /* from the connection to its first request */
	LOOP_GRACE_MS = 500,           /* that clients have, when the server ends, to take their last answers */
};

struct loop;

/* What loops have in common; all of it outlives them. */
struct loop_shared {
	struct memory *memory;
	struct exports *exports;
	struct lane *lookups;
	enum serve_tls tls;
	void *context; /* for the functions, which may be called by any loop's thread */
	struct channel *(*secure)(void *context, struct channel *channel);
	void (*failed)(void *context, const char *message); /* a request did */
	void (*begun)(void *context, const char *peer);
	void (*ended)(void *context, const char *peer, const char *why);
	/* Over all loops. */
	atomic_uint connections, handshakes;
};

/* Starts its thread. 0 or an errno. */
int loop_new(struct loop_shared *shared, struct loop **loop) MUST_CHECK;
unsigned loop_connections(const struct loop *loop);
/* A connected socket, which the loop owns from now on. `evict`: its oldest handshake has to go for it. */
void loop_add(struct loop *loop, int fd, bool is_tcp, const char *peer, bool evict);

enum loop_haste { LOOP_ENDS = 1, LOOP_HURRIES /* nobody is waited for but workers */ };

/* No connection is added any more; it ends when all are gone. May be called again, with more haste. */
void loop_end(struct loop *loop, enum loop_haste haste);
void loop_wait(struct loop *loop); /* for its end */
void loop_free(struct loop *loop); /* after that */

#endif
