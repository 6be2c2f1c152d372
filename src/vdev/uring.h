/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Batches of file operations through io_uring. Rings are made when first needed (a ring does not survive a fork),
 * kept on a small free list, and each is used by one batch at a time, so that batches of several threads share
 * nothing.
 */
#ifndef VDEV_URING_H
#define VDEV_URING_H

#include <stdbool.h>

#include "vdev/vdev.h"

struct uring_list;

/* Finishes an operation that may wait, whose first `done` bytes are transferred, by plain system calls. */
typedef void (*uring_plain)(int fd, struct vdev_io *io, size_t done);

struct uring_list *uring_list_new(uring_plain plain); /* NULL when out of memory */
void uring_list_free(struct uring_list *list);        /* NULL is allowed */

/*
 * Runs all and sets their results. False, with nothing done, where no ring can be had (containers often forbid
 * it).
 */
bool uring_submit(struct uring_list *list, int fd, struct vdev_io *ios, unsigned count) MUST_CHECK;

#endif
