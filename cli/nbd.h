/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The kernel's own NBD devices: a connection to a server that is handed to the kernel, and another one in its
 * place when the first is lost. What is asked of the device meanwhile waits.
 */
#ifndef CLI_NBD_H
#define CLI_NBD_H

#include <lcpfs/error.h>
#include <stdbool.h>
#include <stdint.h>
#include <sys/types.h>

#include "base/check.h"

/* A connection that is past its handshake, over the Unix socket of a server. */
struct nbd_link {
	int fd;
	uint64_t bytes; /* length of the export */
	uint16_t flags; /* transmission flags, as the protocol has them */
};

/*
 * NOT_FOUND: nobody listens there, or there is no such export. BUSY: who listens there is neither root nor
 * `owner`, whose the pool is; any socket may be named in a pool.
 */
int nbd_link_open(const char *socket_path, uid_t owner, const char *export_name, struct nbd_link *link,
		  struct lcpfs_failure *failure) MUST_CHECK;
void nbd_link_close(struct nbd_link *link);

struct nbd_device {
	unsigned index; /* of /dev/nbdN */
	char owner[64]; /* a text that no other device has: who holds it can tell that it is still the same one */
	bool is_read_only;
	unsigned wait_s; /* how long what is asked of it waits for another connection, where it has none */
};

/* Takes one that is free, and sets its index. The connection stays open here, too. */
int nbd_device_connect(struct nbd_device *device, const struct nbd_link *link,
		       struct lcpfs_failure *failure) MUST_CHECK;
/* In place of the one that was lost, with the length that the export has now. Nothing happens where none was lost.
 */
int nbd_device_reconnect(const struct nbd_device *device, const struct nbd_link *link,
			 struct lcpfs_failure *failure) MUST_CHECK;
/* What is asked of it fails from now on. */
int nbd_device_disconnect(const struct nbd_device *device, struct lcpfs_failure *failure) MUST_CHECK;
bool nbd_device_is_connected(const struct nbd_device *device);

#endif
