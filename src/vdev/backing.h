/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The place behind the bytes of a sparse file: whether it has it, getting it, and who gives it.
 *
 * ext4, XFS, tmpfs, btrfs and whatever else has fallocate keep their word, but for two cases. A file system that
 * writes everything to a new place (btrfs) needs space for each write again, unless the file is marked as one
 * that stays in place, which only an empty file can be. A network file system may promise nothing.
 */
#ifndef VDEV_BACKING_H
#define VDEV_BACKING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/error.h"

/* Of an empty file: what is written stays in its place, where the file system can be told so. */
void backing_keep_in_place(int fd);

/*
 * 0: every byte of the range has a place of its own; *took: it did not before. DEVICE_FULL: some have none, and
 * there is none to be had, or !may_take. What the range holds stays in any case. Where the file system cannot
 * tell or cannot do it: 0.
 */
int backing_take(int fd, uint64_t offset, uint64_t length, bool may_take, bool *took) MUST_CHECK;

/* Has the range places that were never written, by what the file system tells? */
bool backing_is_unwritten(int fd, uint64_t offset, uint64_t length);

/* "ext4 at /srv"; "" where it cannot be told. */
void backing_text(int fd, char *text, size_t room);

#endif
