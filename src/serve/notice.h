/* SPDX-License-Identifier: Apache-2.0 */
/* Lines on standard error that clients can cause: at most NOTICE_LINES a second of a kind, the rest is counted. */
#ifndef SERVE_NOTICE_H
#define SERVE_NOTICE_H

#include <pthread.h>
#include <stdint.h>

#include "base/check.h"

struct notice {
	pthread_mutex_t lock;
	unsigned lines;     /* a second */
	uint64_t second_us; /* when the present one began */
	unsigned printed, missed;
};

#define NOTICE_INIT(lines_a_second) {.lock = PTHREAD_MUTEX_INITIALIZER, .lines = (lines_a_second)}

/* "lcpfs: " is put before it, a newline behind it. */
void notice(struct notice *notice, const char *format, ...) PRINTF_LIKE(2, 3);

#endif
