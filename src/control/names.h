/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots as a person names several: "a@x,y,b@x%z". One without a partition's name has that of the one before
 * it. A % stands for all from one to another, both included, by when they were taken; without a name on one side,
 * from the oldest or to the youngest.
 */
#ifndef CONTROL_NAMES_H
#define CONTROL_NAMES_H

#include <stddef.h>

#include <lcpfs/pool.h>

struct snapshot_names {
	char **list; /* NAME@SNAP; what is not there, or is no name, as it was given */
	size_t count;
};

/* snapshot_names_free() whatever comes. NOT_FOUND: an end of a range; INVALID: it ends before it begins. */
int snapshot_names_split(struct snapshot_names *names, struct lcpfs_pool *pool, const char *text,
			 struct lcpfs_failure *failure);
void snapshot_names_free(struct snapshot_names *names);

#endif
