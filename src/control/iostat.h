/* SPDX-License-Identifier: Apache-2.0 */
/* Operations and their latencies as JSON (docs/control.md, `iostat`). */
#ifndef CONTROL_IOSTAT_H
#define CONTROL_IOSTAT_H

#include <json-c/json.h>
#include <lcpfs/pool.h>

#include "base/check.h"

/* In the order of enum lcpfs_operation: read, write, trim, flush. */
const char *iostat_operation_name(enum lcpfs_operation operation);

/* Of one partition, or of all where `name` is NULL: a new object, NULL on failure. */
int iostat_describe(struct lcpfs_pool *pool, const char *name, struct json_object **result,
		    struct lcpfs_failure *failure) MUST_CHECK;

/*
 * Into `latency_us` and `latency_ops`: the buckets that hold some. Two lists rather than one of pairs, since
 * readers bound how many they take.
 */
void iostat_put_latency(struct json_object *object, const uint64_t buckets[LCPFS_LATENCY_BUCKETS]);

/*
 * The latency in µs that a share of the operations (0 to 1) stayed below, told from how many there are in each
 * bucket: off by an eighth at most. Infinite where there are none.
 */
double iostat_percentile(const uint64_t buckets[LCPFS_LATENCY_BUCKETS], double share);

#endif
