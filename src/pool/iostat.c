/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Buckets of latency: one for each µs below 16, from there on eight for each power of two. So a percentile is off
 * by an eighth at most, and the whole range up to four minutes takes 208 counters.
 */
#include "pool/iostat.h"

#include "base/check.h"
#include "base/error.h"

enum { SUB_BITS = 3, SUBS = 1 << SUB_BITS };

static unsigned latency_bucket(uint64_t us)
{
	if (us < SUBS)
		return (unsigned)us;
	unsigned octave = 63 - (unsigned)__builtin_clzll(us);
	unsigned bucket = (octave - SUB_BITS + 1) * SUBS + (unsigned)(us >> (octave - SUB_BITS) & (SUBS - 1));
	return MIN_OF(bucket, LCPFS_LATENCY_BUCKETS - 1);
}

uint64_t lcpfs_latency_bucket_us(unsigned bucket)
{
	if (bucket < SUBS)
		return bucket;
	return (uint64_t)(SUBS + bucket % SUBS) << (bucket / SUBS - 1);
}

static void bump(atomic_uint_fast64_t *counter, uint64_t by)
{
	atomic_fetch_add_explicit(counter, by, memory_order_relaxed);
}

void iostat_count_bytes(struct iostat *io, enum lcpfs_operation kind, uint64_t bytes)
{
	bump(&io->operation[kind].bytes, bytes);
}

void iostat_count(struct iostat *io, enum lcpfs_operation kind, uint64_t us, uint64_t bytes, int error)
{
	struct iostat_operation *o = &io->operation[kind];
	if (error) {
		bump(&o->errors, 1);
		bump(&o->no_space, error == -LCPFS_E_NOSPC || error == -LCPFS_E_DEVICE_FULL);
		return;
	}
	bump(&o->bytes, bytes);
	bump(&o->us, us);
	bump(&o->latency[latency_bucket(us)], 1);
}

static uint64_t get(atomic_uint_fast64_t *counter)
{
	return atomic_load_explicit(counter, memory_order_relaxed);
}

void iostat_read(struct iostat *io, struct lcpfs_operation_stats stats[LCPFS_OPERATIONS])
{
	for (unsigned kind = 0; kind < LCPFS_OPERATIONS; kind++) {
		struct iostat_operation *o = &io->operation[kind];
		struct lcpfs_operation_stats *to = &stats[kind];
		*to = (struct lcpfs_operation_stats){
			.bytes = get(&o->bytes),
			.us = get(&o->us),
			.errors = get(&o->errors),
			.no_space = get(&o->no_space),
		};
		for (unsigned i = 0; i < LCPFS_LATENCY_BUCKETS; i++) {
			to->latency[i] = get(&o->latency[i]);
			to->ops += to->latency[i];
		}
	}
}
