/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What clients asked of a partition since it was opened, and how long each answer took.
 *
 * It is kept for every operation, so it has to cost next to nothing: no lock, three additions, the clock twice. A
 * reader may see an operation in one number and not yet in another.
 */
#ifndef POOL_IOSTAT_H
#define POOL_IOSTAT_H

#include <stdatomic.h>

#include <lcpfs/pool.h>

struct iostat_operation {
	atomic_uint_fast64_t bytes, us, errors, no_space;
	atomic_uint_fast64_t latency[LCPFS_LATENCY_BUCKETS];
};

struct iostat {
	struct iostat_operation operation[LCPFS_OPERATIONS];
};

/* One that has ended, well (error 0) or not. Failed ones are counted as errors and have no latency. */
void iostat_count(struct iostat *io, enum lcpfs_operation kind, uint64_t us, uint64_t bytes, int error);
/* Of an operation that goes on and will be counted when it ends. */
void iostat_count_bytes(struct iostat *io, enum lcpfs_operation kind, uint64_t bytes);
void iostat_read(struct iostat *io, struct lcpfs_operation_stats stats[LCPFS_OPERATIONS]);

#endif
