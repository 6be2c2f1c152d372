/* SPDX-License-Identifier: Apache-2.0 */
/* See root.c. */
#ifndef STORE_ROOT_H
#define STORE_ROOT_H

#include "store/state.h"

/* Reads the newest one that is good; notes in s->found whether the other one is lost. Without the lock. */
int root_load(struct store *s, struct fmt_root *root, struct lcpfs_failure *failure) MUST_CHECK;
/* All with the lock. Fills the store with what it says. */
int root_apply(struct store *s, const struct fmt_root *root, struct lcpfs_failure *failure) MUST_CHECK;

/* Metaslabs named by the root but not owned any more: the log must empty them. */
struct foreign {
	uint32_t *index;
	size_t count;
};

/* Then the space list. The caller frees foreign->index, after an error, too. */
int root_load_space(struct store *s, struct foreign *foreign) MUST_CHECK;
/* After the log. CORRUPT: one of them holds something. */
int root_settle_foreign(struct store *s, const struct foreign *foreign) MUST_CHECK;

/* -- what a field of a root, or of a record, may be -- */

/* Ids that there can be at most: more than blocks in the pool, since freed ones are found again late. */
static inline uint64_t ids_max(const struct store *s)
{
	return MIN_OF(4 * (uint64_t)s->config.metaslab_blocks * s->config.metaslab_count + 65536, FMT_ID_MASK);
}

/* A head always has room for one more record. */
static inline bool position_sane(const struct store *s, const struct fmt_position *p)
{
	return le32_get(p->metaslab) == NO_METASLAB ||
	       (uint64_t)le32_get(p->offset) + RECORD_HEADERS + 1 <= s->config.metaslab_blocks;
}

static inline bool tree_sane(uint64_t root, uint64_t levels, uint64_t blocks)
{
	return blocks <= STORE_VOLUME_BLOCKS_MAX && levels >= 1 && levels <= VOLUME_LEVELS_MAX && root % 2 == 0 &&
	       root <= FMT_ID_MASK;
}

static inline bool clone_number_sane(uint32_t number)
{
	return number >= SNAPSHOT_FIRST && number <= SNAPSHOT_LAST;
}

#endif
