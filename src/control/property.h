/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Properties of a pool and its partitions, each with where its value comes from: what lcpfs get shows. Their names
 * are a contract (docs/control.md), and where one can be set, lcpfs set takes the same.
 */
#ifndef CONTROL_PROPERTY_H
#define CONTROL_PROPERTY_H

#include <json-c/json.h>
#include <lcpfs/pool.h>
#include <stdbool.h>

#include "base/check.h"

/* What a value is, in JSON and for people. */
enum property_kind {
	PROPERTY_TEXT,
	PROPERTY_BYTES,  /* a whole number */
	PROPERTY_COUNT,  /* likewise */
	PROPERTY_PERCENT, /* likewise */
	PROPERTY_TIME,   /* seconds since 1970; null: never */
	PROPERTY_SWITCH, /* true or false; on or off for people */
};

enum property_of { PROPERTY_OF_POOL = 1, PROPERTY_OF_PARTITION = 2 };

struct property {
	const char *name;
	enum property_kind kind;
	unsigned of; /* enum property_of, one or both */
};

/* All of them, in the order in which they are shown; ends with a NULL name. */
const struct property *property_list(void);
const struct property *property_find(const char *name); /* NULL: none */

/*
 * Which of them are wanted: names separated by commas, of `of`; NULL and "all": every one. INVALID: *failure names
 * the first that is none.
 */
int property_check(const char *wanted, unsigned of, struct lcpfs_failure *failure) MUST_CHECK;

enum { PROPERTY_CACHE_BYTES = 256 << 20, PROPERTY_ALARM_PERCENT = 90, PROPERTY_ALARM_LEAST = 10 };

/* How a pool is served: what whoever started its server gave, instead of what the pool keeps; 0: nothing. */
struct property_service {
	uint64_t cache_bytes;
	unsigned alarm_percent;
};

/* How full something may be before somebody should hear of it. */
unsigned property_alarm_percent(const struct property_service *service, const struct lcpfs_pool_settings *kept);

/*
 * A new object, {"min":{"value":…,"source":…},…}. `wanted` as above, checked already. The source is given,
 * default or inherited (from the pool), null where nobody sets the value. `service`: NULL where nobody
 * serves it.
 */
struct json_object *property_describe_pool(const struct lcpfs_pool_info *info,
					   const struct property_service *service, const char *wanted);
struct json_object *property_describe_partition(const struct lcpfs_partition_info *info,
						const struct lcpfs_pool_info *pool,
						const struct property_service *service, const char *wanted);

#endif
