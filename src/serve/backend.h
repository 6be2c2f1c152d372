/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where the data is: the seam between the server and a pool. (A second one, that stores nothing, is for tests and
 * benchmarks.)
 *
 * Functions return 0 or a negative lcpfs error and fill the failure. All may be called by several threads at once,
 * on one volume too. What `try_` functions do they do without waiting for a device or for room; where that is
 * impossible they return AGAIN, and the same is then asked of the function that may wait, by a worker.
 *
 * This is where copies can be saved later, without a change of the server: a volume that lends the memory it keeps
 * a block in gives it to the reply instead of filling the server's buffer (a reply is a list of memory with
 * owners, see output.h), and one that lends a place in its log has a write received there (the server asks for a
 * place before it receives, see connection.c).
 */
#ifndef SERVE_BACKEND_H
#define SERVE_BACKEND_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lcpfs/pool.h>

#include "base/error.h"

struct fetches;

struct backend_export {
	char name[256];
	uint64_t bytes;
	bool read_only;
};

typedef int backend_extent_fn(void *volume, uint64_t offset, uint64_t length, bool *is, uint64_t *end);

struct backend {
	/* The caller frees *list. */
	int (*list)(void *context, struct backend_export **list, size_t *count, struct lcpfs_failure *failure);
	/* "": the one that is meant where there is no doubt. `info` tells what was opened. */
	int (*open)(void *context, const char *name, void **volume, struct backend_export *info,
		    struct lcpfs_failure *failure);
	void (*close)(void *volume);
	int (*try_read)(void *volume, uint64_t offset, void *buffer, size_t length);
	int (*read)(void *volume, uint64_t offset, void *buffer, size_t length, struct lcpfs_failure *failure);
	/* *done bytes are written, whatever it returns; *unsettled: a worker should call `settle`. */
	int (*try_write)(void *volume, uint64_t offset, const void *buffer, size_t length, size_t *done,
			 bool *unsettled);
	int (*write)(void *volume, uint64_t offset, const void *buffer, size_t length,
		     struct lcpfs_failure *failure);
	/*
	 * The same, but where it would wait for room it returns AGAIN after some milliseconds, to be called again
	 * with the same arguments; *wait is all zero at first. NULL: it never waits for that.
	 */
	int (*write_some)(void *volume, uint64_t offset, const void *buffer, size_t length,
			  struct lcpfs_write_wait *wait, struct lcpfs_failure *failure);
	int (*trim)(void *volume, uint64_t offset, uint64_t length, struct lcpfs_failure *failure);
	int (*flush)(void *volume, struct lcpfs_failure *failure);
	/* Does [offset, *end) hold data, *end being at most offset + length? */
	backend_extent_fn *extent;
	backend_extent_fn *changed; /* has it changed since the snapshot before? NULL: nobody knows */
	void (*settle)(void *volume);
	/*
	 * For a loop: reads of what try_read has not found (vdev/fetch.h). NULL, also as an answer: there are
	 * none. `fetch`: AGAIN where it cannot be begun; what is read in order, or again soon, is to be found by
	 * try_read later. `verify`, when one has ended: 0 where the buffer has what the volume has; else AGAIN.
	 * fetched_us: how long it took, since it began, in microseconds.
	 */
	struct fetches *(*fetches)(void *context);
	int (*fetch)(void *volume, struct fetches *fetches, uint64_t offset, void *buffer, size_t length,
		     bool in_order, void *cookie);
	int (*verify)(void *volume, uint64_t offset, const void *buffer, size_t length, uint64_t fetched_us);
};

#endif
