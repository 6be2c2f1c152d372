/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How much memory connections may hold for requests under way and for replies that their clients have not taken
 * yet.
 *
 * Each may always hold MEMORY_RESERVE, so that it gets on whatever the others do. Beyond that it may hold an
 * eighth of what is free of the common total, and no more than MEMORY_CONNECTION_MAX: so those that hold much
 * leave something for newcomers, however many they are and however long they do not read (the dynamic thresholds
 * of Choudhury and Hahne). All together they hold at most the total and a reserve each.
 */
#ifndef SERVE_MEMORY_H
#define SERVE_MEMORY_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>

enum {
	MEMORY_RESERVE = 128 << 10,
	MEMORY_CONNECTION_MAX = 4 << 20,
	MEMORY_TOTAL = 64 << 20,
	MEMORY_SHARE = 8,
};

struct memory {
	atomic_size_t used;
	size_t total;
};

/* One more of `bytes` for a connection that holds `held`; false: it has to wait until it holds less. */
static inline bool memory_take(struct memory *memory, size_t *held, size_t bytes)
{
	size_t used = atomic_load_explicit(&memory->used, memory_order_relaxed);
	size_t free = used < memory->total ? memory->total - used : 0;
	size_t wanted = *held + bytes;
	if (wanted > MEMORY_RESERVE &&
	    (wanted > MEMORY_CONNECTION_MAX || wanted > MEMORY_RESERVE + free / MEMORY_SHARE))
		return false;
	atomic_fetch_add_explicit(&memory->used, bytes, memory_order_relaxed);
	*held = wanted;
	return true;
}

/* The same where there is no choice. */
static inline void memory_add(struct memory *memory, size_t *held, size_t bytes)
{
	atomic_fetch_add_explicit(&memory->used, bytes, memory_order_relaxed);
	*held += bytes;
}

static inline void memory_give(struct memory *memory, size_t *held, size_t bytes)
{
	atomic_fetch_sub_explicit(&memory->used, bytes, memory_order_relaxed);
	*held -= bytes;
}

#endif
