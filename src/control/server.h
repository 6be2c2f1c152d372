/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The control socket of a pool that is served (docs/control.md): a thread that accepts, and one for each client.
 * Clients are other processes of the same user and are not trusted to be well-behaved: none of them can hold up
 * the pool, another client or the server's end.
 */
#ifndef CONTROL_SERVER_H
#define CONTROL_SERVER_H

#include <lcpfs/pool.h>

#include "base/check.h"
#include "control/property.h"

struct control_server;

/* The pool must stay open until control_server_stop. */
int control_server_start(const char *path, struct lcpfs_pool *pool, const struct property_service *service,
			 struct control_server **server, struct lcpfs_failure *failure) MUST_CHECK;
/* Stops work that is under way, waits for its threads and removes the socket. NULL is allowed. */
void control_server_stop(struct control_server *server);

/* One connection, in this thread, until the other end is gone; closes `fd`. What the fuzz target calls. */
void control_serve(struct lcpfs_pool *pool, int fd);

#endif
