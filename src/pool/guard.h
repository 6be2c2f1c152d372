/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vdev over the pool's vdev, through which all partitions and the pool itself flush.
 *
 * Flushing a device is one act for all who write to it. When it fails, nobody knows whose writes were lost, and
 * Linux reports that once: the next fsync succeeds, without the lost data. So one flush runs at a time, those who
 * come meanwhile share the next, and after a failed one every later flush fails too, until the pool is opened
 * anew.
 */
#ifndef POOL_GUARD_H
#define POOL_GUARD_H

#include <stdbool.h>
#include <stdint.h>

#include "base/clock.h"
#include "vdev/vdev.h"

struct claim;

/*
 * NULL: out of memory. `inner` must outlive it and is not closed with it. With a claim (may be NULL) nothing is
 * written that it does not allow, and no flush is done before it is confirmed. `refused` is called when a sparse
 * vdev has no place for something, in the thread that asked for it, which holds none of the guard's locks.
 */
struct vdev *guard_new(struct vdev *inner, struct claim *claim, const struct clock *clock,
		       void (*refused)(void *context), void *context);
void guard_set_size(struct vdev *guard, uint64_t size_bytes); /* that of the inner one, which has become larger */
bool guard_may_read(struct vdev *guard);                      /* false: somebody else has the device now */
bool guard_has_failed(struct vdev *guard);

/*
 * A host that is full is asked again at most once a second, or when something was discarded; what has its place
 * is always told so. *refused_us: when it last refused.
 */
bool guard_host_is_full(struct vdev *guard, uint64_t *refused_us);
void guard_ask_again(struct vdev *guard); /* for what it last refused, if it is full */

#endif
