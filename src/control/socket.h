/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting to a Unix socket; listening is in listen.h. */
#ifndef CONTROL_SOCKET_H
#define CONTROL_SOCKET_H

#include <sys/un.h>

#include "base/error.h"

/* INVALID: too long, or empty. */
int socket_address_set(struct sockaddr_un *address, const char *path, struct lcpfs_failure *failure) MUST_CHECK;

/* As a part of a URI's query; `text` has room for three times the path and a NUL. */
void socket_path_encode(const char *path, char *text);

/* NOT_FOUND: nobody listens there. STOPPED: somebody does and accepts nobody for some seconds. */
int socket_connect(const char *path, int *fd, struct lcpfs_failure *failure) MUST_CHECK;

#endif
