/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reads of a file into the system's cache, begun by one thread, which is told when they have ended. They say
 * nothing of what was read, or whether: whoever wanted it looks again. So nothing that counts depends on them.
 */
#ifndef VDEV_FETCH_H
#define VDEV_FETCH_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct fetches;

/* For the thread that calls this, and no other. NULL: the system has no io_uring for us, or no memory. */
struct fetches *fetches_new(int fd);
int fetches_event(const struct fetches *fetches); /* a descriptor that has an edge when some have ended */
/* The buffer is written to until it has ended. False: too many are under way. */
bool fetches_begin(struct fetches *fetches, uint64_t offset, void *buffer, size_t length, void *cookie);
/* Has the kernel begin them, and tell of those that have ended. False: it cannot begin all now; ask again. */
bool fetches_submit(struct fetches *fetches);
/* The cookie of one that has ended; NULL: none has. */
void *fetches_next(struct fetches *fetches);
void fetches_free(struct fetches *fetches); /* when none is under way; NULL is allowed */

#endif
