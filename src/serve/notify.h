/* SPDX-License-Identifier: Apache-2.0 */
/*
 * systemd's way to say how a service stands (Type=notify) and to hand it sockets (socket activation). Both are a
 * few lines by design, and documented to be written anew, sd_notify(3) and sd_listen_fds(3); so there is no need
 * for the library.
 */
#ifndef SERVE_NOTIFY_H
#define SERVE_NOTIFY_H

/* "READY=1", "STOPPING=1" and so on; nothing happens where nobody wants to know. */
void notify_send(const char *state);
/*
 * How many sockets were handed over, from descriptor 3 on. They are closed on exec from now on, and none is handed
 * on.
 */
unsigned notify_sockets(void);

enum { NOTIFY_SOCKET_FIRST = 3 };

#endif
