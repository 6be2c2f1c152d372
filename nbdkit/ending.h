/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a server ends. When nbdkit is told to, it waits for idle clients to go, and they may never; whoever stops a
 * server wants it stopped. So after a moment the process ends itself, with everything durable: to its clients it
 * is as if they were disconnected.
 */
#ifndef NBDKIT_ENDING_H
#define NBDKIT_ENDING_H

/* From now on, SIGINT and SIGTERM lead to finish(), called once. Returns 0 or an errno. */
int ending_watch(void (*finish)(void));
/* nbdkit's cleanup has come: calls finish(), if nobody has. */
void ending_cleanup(void);

#endif
