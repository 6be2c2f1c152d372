/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Stays with a device of the kernel's nbd: when its server is restarted it gives the kernel another connection,
 * and it tells the kernel when the volume has grown.
 *
 * A connection is only replaced where nothing can be missing: what was written and not flushed is gone when a
 * server crashes, and a file system that goes on as if it were there would be damaged. Then the device fails, as a
 * disk that was pulled out.
 */
#ifndef CLI_FOLLOW_H
#define CLI_FOLLOW_H

#include <json-c/json.h>
#include <limits.h>

#include "nbd.h"
#include "pool/pool.h"

/* By which one can tell that a volume is still what it was. */
struct follow_state {
	uint64_t id, recoveries, volume_bytes; /* of the partition */
	uint64_t event;                        /* the newest of the pool's history */
	uint64_t created_s;                    /* of a snapshot; then the others are 0 */
};

struct follow {
	char pool_path[PATH_MAX];
	uint64_t guid;
	const char *name; /* of a partition or a snapshot */
	struct nbd_device device;
	struct nbd_link link;
	struct follow_state state;
};

/* Asks the server. Before the device is anybody's. */
int follow_begin(struct follow *follow, struct lcpfs_failure *failure) MUST_CHECK;

/* In a process of its own, which ends with the device. What it has to say goes to the end of `log_path`. */
int follow_start(struct follow *follow, const char *log_path, struct lcpfs_failure *failure) MUST_CHECK;

/* What a server is asked with about the partition of a name, which may be that of a snapshot. */
struct json_object *follow_arguments(const char *whole_name);
/* Of the list in an answer, the one that is called so; NULL: there is none, or no answer. */
struct json_object *follow_find(struct json_object *result, const char *list_key, const char *name);

#endif
