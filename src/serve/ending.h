/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The signals that end the server, as something to wait for. TERM, INT and QUIT end it whatever they did before (a
 * shell has its background jobs ignore the last two); HUP, which a terminal sends that goes away, ends it unless
 * it was ignored: that is how nohup(1) asks not to be ended. Nothing here depends on the time of day.
 */
#ifndef SERVE_ENDING_H
#define SERVE_ENDING_H

#include "base/error.h"

enum { ENDING_TEXT = 160 };

/* Before any thread is started: these signals are blocked from now on. A descriptor to wait for in *fd. */
int ending_watch(int *fd, struct lcpfs_failure *failure) MUST_CHECK;
/* The signal that came, 0 if there is none, and in words which it was and who sent it. */
int ending_take(int fd, char text[ENDING_TEXT]);

#endif
