/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Addresses that are known to refer to nothing, while the log is rolled forward: what was trimmed and not written
 * since.
 *
 * A trim costs a look at every leaf in its range, and a record may hold 166 trims of everything. With this each
 * leaf is looked at once for each time that something in it was written, so that opening costs what the device
 * holds, whatever its trims claim. The memory is fixed; where the ranges get too many, all are forgotten, which
 * only costs time.
 */
#ifndef STORE_CLEARED_H
#define STORE_CLEARED_H

#include <stdbool.h>
#include <stdint.h>

enum { CLEARED_RANGES_MAX = 4096 };

struct cleared {
	uint32_t count;
	struct {
		uint64_t begin, end;
	} range[CLEARED_RANGES_MAX]; /* in order, apart from each other */
};

/* The first part of [begin, end) that is not known to be clear; false: all of it is. */
bool cleared_gap(const struct cleared *cleared, uint64_t begin, uint64_t end, uint64_t *gap_begin,
		 uint64_t *gap_end);
void cleared_add(struct cleared *cleared, uint64_t begin, uint64_t end);
void cleared_remove(struct cleared *cleared, uint64_t address); /* it was written */

#endif
