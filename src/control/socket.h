/* SPDX-License-Identifier: Apache-2.0 */
/* Unix sockets that only their owner may use. */
#ifndef CONTROL_SOCKET_H
#define CONTROL_SOCKET_H

#include "base/error.h"

/*
 * A listening socket at `path`, permissions 0600; *fd is closed on exec. A socket file that nobody listens on is
 * replaced; BUSY if somebody does, EXISTS if the file is none of ours.
 */
int socket_listen(const char *path, int *fd, struct lcpfs_failure *failure) MUST_CHECK;
/* NOT_FOUND: nobody listens there. STOPPED: somebody does and accepts nobody for some seconds. */
int socket_connect(const char *path, int *fd, struct lcpfs_failure *failure) MUST_CHECK;

#endif
