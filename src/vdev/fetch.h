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

struct cached;
struct fetches;

/* For the thread that calls this, and no other. NULL: the system has no io_uring for us, or no memory. */
struct fetches *fetches_new(const struct cached *cached, int direct_fd);
int fetches_event(const struct fetches *fetches); /* a descriptor that has an edge when some have ended */
/*
 * Is a read past the cache a gain now? Not where the kernel has begun to read into it already, see cached.h, or
 * while something is written through it.
 */
bool fetches_may_pass(const struct fetches *fetches);
/*
 * `past`: past the cache, where memory and place are aligned for that. The buffer is written to until it has
 * ended. False: too many are under way.
 */
bool fetches_begin(struct fetches *fetches, uint64_t offset, void *buffer, size_t length, bool past, void *cookie);
/*
 * Has the kernel begin them, and tell of those that have ended. Some may be kept until others have ended: to be
 * called when the descriptor says so. False: it cannot begin all now; ask again.
 */
bool fetches_submit(struct fetches *fetches);
/* The cookie of one that has ended; NULL: none has. */
void *fetches_next(struct fetches *fetches);
void fetches_free(struct fetches *fetches); /* when none is under way; NULL is allowed */

#endif
