/* SPDX-License-Identifier: Apache-2.0 */
/* A pool, served in this process from its opening to its closing. */
#ifndef SERVE_RUN_H
#define SERVE_RUN_H

#include <lcpfs/pool.h>

#include "control/property.h"
#include "serve/handshake.h"
#include "serve/tls.h"

struct serve_options {
	const char *pool_path;
	const char *socket_path;  /* of the Unix socket for NBD; NULL: none but those that are handed over */
	const char *listen;       /* HOST:PORT; NULL: no TCP */
	const char *control_path; /* NULL: ".control" behind the Unix socket's path */
	struct lcpfs_open_options open;
	struct property_service service; /* of these what lcpfs get tells */
	enum serve_tls tls;
	struct tls_files tls_files;
	bool is_verbose;
	/*
	 * What else goes with a pool that is open: may be NULL. `opened` comes before the first client, `closing`
	 * in any case, when the last one has gone; the pool can be used between them.
	 */
	int (*opened)(void *context, struct lcpfs_pool *pool, struct lcpfs_failure *failure);
	void (*closing)(void *context);
	void *context;
};

/*
 * Serves until a signal ends it. 0: all is durable. To be called before there are threads; blocks signals, and
 * prints to standard output that it is ready and to standard error what happens.
 */
int serve_run(const struct serve_options *options, struct lcpfs_failure *failure) MUST_CHECK;

#endif
