/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The gate of a partition: around each write and trim of it. A group of several partitions' snapshots is of one
 * instant because none is under way while it is taken: their gates are closed, those under way end, then come the
 * snapshots, one after the other. One partition alone needs no gate: its store does the same by itself.
 */
#include <time.h>

#include "pool/core.h"

enum { DRAIN_US = 20 };

bool snapshot_try_enter(struct part *part)
{
	atomic_fetch_add(&part->changing, 1);
	if (!atomic_load(&part->gated))
		return true;
	atomic_fetch_sub(&part->changing, 1);
	return false;
}

void snapshot_enter(struct part *part)
{
	while (!snapshot_try_enter(part)) {
		pthread_mutex_lock(&part->pool->lock);
		while (atomic_load(&part->gated))
			pthread_cond_wait(&part->pool->changed, &part->pool->lock);
		pthread_mutex_unlock(&part->pool->lock);
	}
}

void snapshot_leave(struct part *part)
{
	atomic_fetch_sub(&part->changing, 1);
}

void gate_close(struct part *part)
{
	atomic_store(&part->gated, true);
}

void gate_drain(const struct part *part)
{
	struct timespec pause = {.tv_nsec = DRAIN_US * 1000};
	while (atomic_load(&part->changing))
		nanosleep(&pause, NULL);
}

void gate_open(struct part *part)
{
	atomic_store(&part->gated, false);
	pthread_mutex_lock(&part->pool->lock);
	pthread_cond_broadcast(&part->pool->changed);
	pthread_mutex_unlock(&part->pool->lock);
}
