/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every change of snapshots does around itself. Who changes those of a partition has it for itself
 * (snapshot_work), so what was looked up stays so without the lock. Only readers come and go meanwhile: they are
 * asked again just before a snapshot is destroyed, and from then on none comes (doomed).
 *
 * Before its first snapshot a partition's page says that it has some, so that a version that does not know them
 * leaves it alone. So it does before the first one of a clone.
 */
#ifndef POOL_SNAPWORK_H
#define POOL_SNAPWORK_H

#include "pool/core.h"

struct snapwork_target {
	struct part *part;
	struct volume_name of;
	const char *snapshot; /* its name, without the volume's */
};

struct snapwork {
	struct lcpfs_pool *pool;
	struct lcpfs_snapshot_options options;
	struct snapwork_target *targets;
	size_t count;
	const char *new_name; /* as targets' */
	char separator;       /* between the names: '@', or '#' of bookmarks */
	struct lcpfs_failure *failure;
};

typedef int snapwork_fn(struct snapwork *w);

struct snapwork snapwork_of(struct lcpfs_pool *pool, size_t count, const struct lcpfs_snapshot_options *options,
			    struct lcpfs_failure *failure);
/* `begin` with the lock, `go` without, with the targets' partitions for itself. */
int snapwork_run(struct snapwork *w, const char *const *names, snapwork_fn *begin, snapwork_fn *go) MUST_CHECK;
/* The same of what `find` adds, as snapshot_create_found() has it. */
int snapwork_run_found(struct part *part, snapshot_find_fn *find, uint64_t now_s, struct snapshot_names *found,
		       snapwork_fn *begin, snapwork_fn *go, struct lcpfs_failure *failure) MUST_CHECK;

bool snapwork_find(const struct snapwork_target *t, struct store_snapshot *found);
bool snapwork_is_repeated(const struct snapwork *w, size_t i); /* has a target before it the same partition? */
int snapwork_check_twice(const struct snapwork *w) MUST_CHECK;
/* Is this a name for a snapshot, and there is none of it yet? */
int snapwork_check_new(const struct snapwork *w, const struct snapwork_target *t) MUST_CHECK;
int snapwork_refuse_in_use(const struct volume_name *of, const char *snapshot, uint32_t readers,
			   struct lcpfs_failure *failure) MUST_CHECK;
int snapwork_refuse_cloned(const struct part *part, const struct volume_name *of, const struct store_snapshot *n,
			   struct lcpfs_failure *failure) MUST_CHECK;
/* All pages that do not say it yet, in one transaction. What a clone gets is of a line of its own. */
int snapwork_mark_pages(struct snapwork *w, uint64_t bit) MUST_CHECK;
/* "NAME@NEW" of the same volume, "@NEW" or "NEW"; or with '#', where it is a bookmark's. */
int snapwork_new_name(struct snapwork *w, char separator) MUST_CHECK;
/* With the lock. The first `count` targets, an event for each partition. */
void snapwork_note(struct snapwork *w, enum lcpfs_event_kind kind, size_t count);

/* -- snapchange.c -- */

/* Without the lock. Nobody else gives back what they had, in a pool without threads of its own. */
int snapwork_destroy_all(struct snapwork *w) MUST_CHECK;
void snapwork_give_back(struct snapwork *w);

#endif
