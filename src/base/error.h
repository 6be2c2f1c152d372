/* SPDX-License-Identifier: Apache-2.0 */
/* Filling a failure message (thread-safe; no allocation). The public list of codes is in <lcpfs/error.h>. */
#ifndef BASE_ERROR_H
#define BASE_ERROR_H

#include <lcpfs/error.h>

#include "base/check.h"

/*
 * Writes the message into *failure (may be NULL) and returns -code. Newlines and control characters of the
 * arguments are replaced, so that the message stays one line.
 */
int failure_set(struct lcpfs_failure *failure, enum lcpfs_error code, const char *format, ...) PRINTF_LIKE(3, 4);

/*
 * Puts "prefix: " before an existing message, or starts from the code's own sentence if there is none; returns
 * error.
 */
int failure_prefix(struct lcpfs_failure *failure, int error, const char *format, ...) PRINTF_LIKE(3, 4);

/*
 * The lcpfs code (positive) that stands for an errno from a device operation: ENOSPC → DEVICE_FULL, ENOMEM →
 * NOMEM, else IO.
 */
enum lcpfs_error error_from_errno(int err);

#endif
