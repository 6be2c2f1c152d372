/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the pool knows, as JSON. The names of fields are a contract (docs/control.md): they are the names of the
 * public structs. Sizes are blocks, times µs where the name says so. Every function returns a new object, NULL
 * without memory.
 */
#ifndef CONTROL_DESCRIBE_H
#define CONTROL_DESCRIBE_H

#include <json-c/json.h>
#include <lcpfs/pool.h>

#include "pool/pool.h"

/* The partitions of a pool at one moment: reports name those that a decision knows by id. */
struct describe_partitions {
	struct lcpfs_partition_info *list;
	size_t count;
};

int describe_partitions_load(struct describe_partitions *partitions, struct lcpfs_pool *pool);
void describe_partitions_free(struct describe_partitions *partitions);

/* As lcpfs_snapshot_list, all of them; *list is the caller's to free, whatever is returned. */
int describe_snapshots_load(struct lcpfs_snapshot_info **list, size_t *count, struct lcpfs_pool *pool,
			    const char *partition, struct lcpfs_failure *failure);

/* Those of all partitions; likewise. */
int describe_clones_load(struct lcpfs_clone_info **list, size_t *count, struct lcpfs_pool *pool,
			 struct lcpfs_failure *failure);

struct json_object *describe_partition(const struct lcpfs_partition_info *info);
/* *list is the caller's to free, whatever it returns. */
int describe_bookmarks_load(struct lcpfs_bookmark_info **list, size_t *count, struct lcpfs_pool *pool,
			    const char *partition, struct lcpfs_failure *failure);
struct json_object *describe_bookmark(const struct lcpfs_bookmark_info *info);
struct json_object *describe_snapshot(const struct lcpfs_snapshot_info *info);
struct json_object *describe_clone(const struct lcpfs_clone_info *info);
struct json_object *describe_pool(const struct lcpfs_pool_info *info);
struct json_object *describe_decision(const struct lcpfs_engine_decision *decision,
				      const struct describe_partitions *partitions);
struct json_object *describe_event(const struct lcpfs_event *event);
/* write_amplification is null where nothing was written. */
struct json_object *describe_sample(const struct pool_sample *sample);
struct json_object *describe_finding(const struct lcpfs_finding *finding);

const char *describe_mode_name(enum lcpfs_engine_mode mode);
const char *describe_health_name(enum lcpfs_health health);
/* false: no such mode */
bool describe_mode_parse(const char *name, enum lcpfs_engine_mode *mode);

#endif
