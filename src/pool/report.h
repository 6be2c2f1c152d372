/* SPDX-License-Identifier: Apache-2.0 */
/* What reading the pool's own structures finds: to whom it is told, and whether it is repaired on the way. */
#ifndef POOL_REPORT_H
#define POOL_REPORT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"

struct report {
	void (*found)(void *context, uint64_t block, bool repaired, const char *text);
	void *context;
	bool repair; /* the device may be written */
	uint64_t checked_blocks;
};

/* `block` is UINT64_MAX where no one block is meant. */
void report_found(const struct report *report, uint64_t block, bool repaired, const char *format, ...)
	PRINTF_LIKE(4, 5);

#endif
