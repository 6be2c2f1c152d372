/* SPDX-License-Identifier: Apache-2.0 */
/* Other programs, run for a command of ours: those that know how to make block devices. */
#ifndef CLI_PROGRAM_H
#define CLI_PROGRAM_H

#include <lcpfs/error.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/check.h"

/* So that those of administrators are found, whatever PATH says. To be called once. */
void program_extend_path(void);
bool program_exists(const char *name);

/*
 * Runs it to its end. `output` (may be NULL) gets the first line of what it printed. What it says when it fails is
 * in *failure: its last line.
 */
int program_run(const char *const *arguments, char *output, size_t room, struct lcpfs_failure *failure) MUST_CHECK;

/*
 * Starts it in a session of its own, where it outlives this process, and waits until it has printed a line that
 * begins with `ready`, or, where that is NULL, for nothing. What it complains of goes to the end of `log_path`.
 */
int program_start(const char *const *arguments, const char *ready, const char *log_path,
		  struct lcpfs_failure *failure) MUST_CHECK;

/*
 * Runs it with `input` as its standard input, in a session of its own. It may take timeout_s, and until stop_fd
 * (-1: none) can be read from; then it is killed, with what it started, and that is a failure.
 */
int program_feed(const char *path, const char *input, unsigned timeout_s, int stop_fd,
		 struct lcpfs_failure *failure) MUST_CHECK;

#endif
