/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The NBD server: event loops, workers, and who may come in. One thread, the caller's, accepts and ends it; the
 * loops do the rest.
 */
#ifndef SERVE_SERVER_H
#define SERVE_SERVER_H

#include "serve/backend.h"
#include "serve/handshake.h"

enum {
	SERVER_CLIENTS_MAX = 4096, /* also where more descriptors are to be had */
	SERVER_LOOPS_MAX = 8,
};

struct server;
struct tls;

struct server_config {
	const struct backend *backend;
	void *context;         /* the backend's */
	enum serve_tls tls;
	struct tls *tls_keys;  /* NULL with SERVE_TLS_OFF */
	unsigned loops;        /* 0: as many as there are processors, but no more than SERVER_LOOPS_MAX */
	bool is_verbose;       /* a line for each connection that begins or ends */
};

int server_new(const struct server_config *config, struct server **server,
	       struct lcpfs_failure *failure) MUST_CHECK;
/* SERVER_CLIENTS_MAX if this is not called; before clients are accepted. */
void server_set_clients_max(struct server *server, unsigned clients_max);
/*
 * Takes in who waits at a listening socket that does not block. By one thread at a time, never after server_end.
 * false: the system lacks something, and it is better tried again a moment later.
 */
bool server_accept(struct server *server, int listen_fd);
/*
 * Nobody is taken in any more. What is under way is finished, and its answers are sent as far as clients take
 * them; again: nobody is waited for any longer. Does not wait.
 */
void server_end(struct server *server);
/*
 * After server_end: waits until all is done that was begun; the volumes are closed then. server_end may be called
 * meanwhile.
 */
void server_wait(struct server *server);
void server_free(struct server *server); /* after that; NULL is allowed */

#endif
