/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The exports that connections have open; connections to the same one share it, and its flushes.
 *
 * One flush of an export runs at a time, and serves all that were asked for before it began: what is asked for
 * meanwhile is served by the next. So a worker is all that an export's flushes ever take, and many clients that
 * flush share a device's flush. Those that one flush has served often come back at once with the next: a part of
 * the time that a flush takes is waited for them, or the first would have one of its own and all others the next.
 */
#ifndef SERVE_EXPORT_H
#define SERVE_EXPORT_H

#include <stdatomic.h>

#include "serve/backend.h"
#include "serve/task.h"

struct exports;

/* What is to be done for an export, each with lanes of its own, so that none of it keeps another waiting. */
enum export_lane { EXPORT_READS, EXPORT_COPIES, EXPORT_WRITES, EXPORT_TRIMS, EXPORT_FLUSHES, EXPORT_LANES };

enum { EXPORT_HELPERS_MAX = 7, EXPORT_ENDS = 64 };

struct export {
	const struct backend *backend;
	void *volume;
	struct backend_export info;
	struct lane *lanes[EXPORT_LANES];
	atomic_uint writes_queued; /* in their lane: others have to queue behind them */
	atomic_size_t unflushed_bytes; /* written since the last flush began, about */
	/* Where reads have ended, each in the place that is its own: what begins there goes on with one. */
	_Atomic uint64_t ends[EXPORT_ENDS];
	unsigned helpers; /* workers that may do what a loop could do at once, while it does something else */
	/* What follows is export.c's. */
	struct exports *exports;
	struct export *next;
	unsigned users;
	pthread_mutex_t lock;
	struct tasks waiting; /* for a flush */
	unsigned waiting_count;
	pthread_cond_t joined; /* one more waits */
	unsigned serving;      /* by the flush that runs, or was the last */
	unsigned group;        /* those, and who came meanwhile: as many may be expected for the next */
	uint64_t flush_us;     /* so long it took */
	uint64_t flushed_us;   /* and then it ended */
	struct task flush, settle, closing;
	bool is_flushing, is_settling;
};

/* A task that waits for a flush. */
struct flush_waiter {
	struct task task;
	int error; /* how it ended */
};

/* `workers` and the backend's context have to live as long. NULL: no memory. */
struct exports *exports_new(const struct backend *backend, void *context, struct workers *workers,
			    unsigned helpers);
/* When none is open any more. NULL is allowed. */
void exports_free(struct exports *exports);

/* For the thread that calls this: see backend.h. NULL: there are none. */
struct fetches *exports_fetches(struct exports *exports);
/* May wait, for the pool: for workers. */
int exports_list(struct exports *exports, struct backend_export **list, size_t *count,
		 struct lcpfs_failure *failure) MUST_CHECK;
int exports_open(struct exports *exports, const char *name, struct export **export,
		 struct lcpfs_failure *failure) MUST_CHECK;
/* Does not wait: a worker does what there is to do. NULL is allowed. */
void export_close(struct export *export);

/* When all that was written before is durable, the waiter goes into its mailbox. */
void export_flush(struct export *export, struct flush_waiter *waiter);
/*
 * The same in the caller's thread, *error being how it ended. False: others are being served, or it may take long;
 * nothing is done then.
 */
bool export_flush_here(struct export *export, int *error) MUST_CHECK;
/* What is asked of any export from now on may be refused (STOPPED), to get to an end. */
void exports_stop(struct exports *exports);
bool export_is_stopping(const struct export *export);
/* A worker settles it. */
void export_settle(struct export *export);

#endif
