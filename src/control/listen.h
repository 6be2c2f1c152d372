/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Listening Unix sockets, and the files that stand for them. Such a file outlives a server that is killed, and a
 * name can be taken by others meanwhile: so a file is only ever removed when it is certain that nobody listens
 * there, or that it is ours.
 */
#ifndef CONTROL_LISTEN_H
#define CONTROL_LISTEN_H

#include <sys/types.h>

#include "base/error.h"

enum { LISTEN_PATH_MAX = 108 }; /* a socket's address holds no more, with its end */

struct listen_socket {
	int fd; /* -1: none */
	char path[LISTEN_PATH_MAX];
	dev_t device; /* of the file that is ours, */
	ino_t inode;  /* 0: it could not be told */
};

#define LISTEN_NONE {.fd = -1}

/*
 * A listening socket at `path`, permissions 0600, closed on exec. A socket file that nobody listens on is
 * replaced; BUSY if somebody does, EXISTS if the file is no socket.
 */
int listen_open(const char *path, struct listen_socket *socket, struct lcpfs_failure *failure) MUST_CHECK;
/* Removes the file if it still is ours, and closes. Does nothing where there is none. */
void listen_close(struct listen_socket *socket);

#endif
