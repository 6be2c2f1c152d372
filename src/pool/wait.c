/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Writers that wait for room, as those of a device-mapper thin pool do: each for as long as its partition says.
 * When one has waited in vain, others are refused at once, until something has changed that could have made room:
 * a trim, a metaslab more, something that others gave up.
 *
 * Nothing of the pool is held meanwhile. It looks several times a second, since what makes room is many things in
 * many places, and a partition that is full is rare.
 */
#include <time.h>

#include "base/hash.h"
#include "pool/core.h"

enum {
	LOOK_US = 10000,
	TRY_US = 1000000, /* tries again, even where nothing seems to have changed: the host may have space */
};

/* With the lock. What a writer could find room by. */
static uint64_t mark_of(const struct part *part)
{
	struct store_stats stats;
	store_stats(part->store, &stats);
	return hash_mix(stats.counters.trimmed_blocks) ^
	       hash_mix(stats.metaslabs + UINT64_C(1000003) * stats.raw) ^
	       hash_mix(part->pool->changes + part->max_blocks) ^ hash_mix(part->pool->free_metaslabs + 1);
}

bool wait_begin(struct part *part, struct lcpfs_write_wait *wait)
{
	struct lcpfs_pool *pool = part->pool;
	uint64_t now_us = clock_us(&pool->clock), wait_us = UINT64_C(1000000) * part->when_full_wait_s, full_us;
	if (!wait_us)
		return false;
	pthread_mutex_lock(&pool->lock);
	wait->mark = mark_of(part);
	if (wait->mark != part->full_mark || !part->full_since_us) {
		part->full_mark = wait->mark;
		part->full_since_us = now_us;
	}
	full_us = part->full_since_us;
	pthread_mutex_unlock(&pool->lock);
	wait->tried_us = now_us;
	if (!wait->since_us)
		wait->since_us = now_us;
	return now_us - wait->since_us < wait_us && now_us - full_us < wait_us;
}

bool wait_moment(struct part *part, const struct lcpfs_write_wait *wait)
{
	struct timespec pause = {.tv_nsec = LOOK_US * 1000};
	struct lcpfs_pool *pool = part->pool;
	nanosleep(&pause, NULL);
	pthread_mutex_lock(&pool->lock);
	bool changed = mark_of(part) != wait->mark;
	pthread_mutex_unlock(&pool->lock);
	return changed || clock_us(&pool->clock) - wait->tried_us >= TRY_US;
}
