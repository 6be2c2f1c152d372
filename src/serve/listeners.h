/* SPDX-License-Identifier: Apache-2.0 */
/* Where the server listens: a Unix socket of its own, TCP, sockets that were handed over. */
#ifndef SERVE_LISTENERS_H
#define SERVE_LISTENERS_H

#include <stdbool.h>

#include "control/listen.h"

enum { LISTENERS_MAX = 32 };

struct listeners {
	struct listen_socket own; /* the Unix socket; its file goes with it */
	int fds[LISTENERS_MAX];   /* of all, not blocking */
	unsigned count;
	char handed_path[LISTEN_PATH_MAX]; /* of a Unix socket that was handed over; "": none */
	bool is_open_to_others;   /* TCP beyond this machine */
};

void listeners_init(struct listeners *listeners);
/* Each adds to what there is. */
int listeners_add_unix(struct listeners *listeners, const char *path, struct lcpfs_failure *failure) MUST_CHECK;
/* HOST:PORT, [V6ADDRESS]:PORT, :PORT for every address: is it one of these? */
bool listeners_is_tcp(const char *text);
int listeners_add_tcp(struct listeners *listeners, const char *text, struct lcpfs_failure *failure) MUST_CHECK;
/* From systemd, by its convention; may be none. */
int listeners_add_handed(struct listeners *listeners, struct lcpfs_failure *failure) MUST_CHECK;
void listeners_close(struct listeners *listeners);

#endif
