/* SPDX-License-Identifier: Apache-2.0 */
/* Connecting to a Unix socket; listening is in listen.h. */
#ifndef CONTROL_SOCKET_H
#define CONTROL_SOCKET_H

#include "base/error.h"

/* NOT_FOUND: nobody listens there. STOPPED: somebody does and accepts nobody for some seconds. */
int socket_connect(const char *path, int *fd, struct lcpfs_failure *failure) MUST_CHECK;

#endif
