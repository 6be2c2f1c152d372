/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The partitions that connections have open. A connection may outlive the pool, when the server ends: its
 * partition is taken away from it then, once what it is doing is done.
 */
#ifndef NBDKIT_HANDLE_H
#define NBDKIT_HANDLE_H

#include <lcpfs/pool.h>

#include "base/check.h"

struct handle;

int handle_open(struct lcpfs_pool *pool, const char *name, struct handle **handle,
		struct lcpfs_failure *failure) MUST_CHECK;
void handle_close(struct handle *handle);
uint64_t handle_bytes(const struct handle *handle);

/* Keeps the partition open until handle_end; NULL: it was taken away. */
struct lcpfs_partition *handle_begin(struct handle *handle);
void handle_end(struct handle *handle);

/* Around what uses the pool itself. false: it is being closed. */
bool handle_enter_pool(void);
void handle_leave_pool(void);

/* Waits for what is under way; afterwards nothing uses the pool any more. */
void handle_take_away_all(void);

#endif
