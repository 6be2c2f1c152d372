/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/notice.h"

#include <stdarg.h>
#include <stdio.h>

#include "base/clock.h"

enum { SECOND_US = 1000000, LINE_BYTES = 700 };

/* With the lock. How many lines were left out before this one; -1: this one, too. */
static long admit(struct notice *n)
{
	uint64_t now = clock_us(&clock_system);
	if (now - n->second_us >= SECOND_US) {
		n->second_us = now;
		n->printed = 0;
	}
	if (n->printed >= n->lines) {
		n->missed++;
		return -1;
	}
	long missed = n->missed;
	n->printed++;
	n->missed = 0;
	return missed;
}

void notice(struct notice *n, const char *format, ...)
{
	char line[LINE_BYTES];
	va_list values;
	pthread_mutex_lock(&n->lock);
	long missed = admit(n);
	pthread_mutex_unlock(&n->lock);
	if (missed < 0)
		return;
	va_start(values, format);
	vsnprintf(line, sizeof(line), format, values);
	va_end(values);
	if (missed)
		fprintf(stderr, "lcpfs: %s (and %ld more such lines before it)\n", line, missed);
	else
		fprintf(stderr, "lcpfs: %s\n", line);
}
