/* SPDX-License-Identifier: Apache-2.0 */
/* Locks: `exports.lock` for the list and the counts of users, taken first; an export's own for its flushes. */
#include "serve/export.h"

#include <stdatomic.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/clock.h"

enum {
	/* A loop does a flush itself: */
	HERE_US_MAX = 1000,         /* if the last one took no longer, */
	HERE_AGE_US = 20 * 1000,    /* and that is no longer ago: others of the pool write, too, */
	HERE_BYTES_MAX = 256 << 10, /* and no more is to be written */
	JOIN_PERCENT = 25,          /* of the last flush's time, for those that it served to come back */
	JOIN_US_MIN = 20,           /* less is not worth going to sleep */
	JOIN_US_MAX = 5000,
};

/* Tasks under way at a time. A store does one change after the other: more would only wait for each other. */
static const unsigned running_max[EXPORT_LANES] = {
	[EXPORT_READS] = 16,
	[EXPORT_WRITES] = 1,
	[EXPORT_TRIMS] = 1,
	[EXPORT_FLUSHES] = 2, /* a flush, and what settles writes */
};

struct exports {
	const struct backend *backend;
	void *context;
	struct workers *workers;
	unsigned helpers;
	struct lane *lane; /* for closing */
	pthread_mutex_t lock;
	struct export *first;
	atomic_bool is_stopping;
};

#define OWNER_OF(type, member, pointer) ((type *)((char *)(pointer) - offsetof(type, member)))

struct exports *exports_new(const struct backend *backend, void *context, struct workers *workers,
			    unsigned helpers)
{
	struct exports *e = calloc(1, sizeof(*e));
	if (!e)
		return NULL;
	*e = (struct exports){.backend = backend,
			      .context = context,
			      .workers = workers,
			      .helpers = MIN_OF(helpers, (unsigned)EXPORT_HELPERS_MAX),
			      .lane = lane_new(workers, 1)};
	if (!e->lane) {
		free(e);
		return NULL;
	}
	pthread_mutex_init(&e->lock, NULL);
	return e;
}

void exports_free(struct exports *e)
{
	if (!e)
		return;
	CHECK(!e->first);
	lane_free(e->lane);
	pthread_mutex_destroy(&e->lock);
	free(e);
}

struct fetches *exports_fetches(struct exports *e)
{
	return e->backend->fetches ? e->backend->fetches(e->context) : NULL;
}

int exports_list(struct exports *e, struct backend_export **list, size_t *count, struct lcpfs_failure *failure)
{
	return e->backend->list(e->context, list, count, failure);
}

void exports_stop(struct exports *e)
{
	atomic_store(&e->is_stopping, true);
}

bool export_is_stopping(const struct export *x)
{
	return atomic_load_explicit(&x->exports->is_stopping, memory_order_relaxed);
}

/* -- flushes -- */

/* With the lock. */
static void wait_for_others(struct export *x)
{
	uint64_t us = MIN_OF(x->flush_us * JOIN_PERCENT / 100, (uint64_t)JOIN_US_MAX);
	struct timespec until;
	int err = us < JOIN_US_MIN || export_is_stopping(x);
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_nsec += (long)us * 1000;
	until.tv_sec += until.tv_nsec / 1000000000;
	until.tv_nsec %= 1000000000;
	while (x->waiting_count < x->group && !err)
		err = pthread_cond_timedwait(&x->joined, &x->lock, &until);
}

static struct task *take_waiting(struct export *x)
{
	pthread_mutex_lock(&x->lock);
	wait_for_others(x);
	struct task *served = x->waiting.first;
	tasks_init(&x->waiting);
	x->serving = x->waiting_count;
	x->waiting_count = 0;
	pthread_mutex_unlock(&x->lock);
	return served;
}

/* *more: others wait for the next one, which the caller has to see to. */
static int flush_once(struct export *x, bool *more)
{
	uint64_t start_us = clock_us(&clock_system);
	atomic_store_explicit(&x->unflushed_bytes, 0, memory_order_relaxed);
	int error = x->backend->flush(x->volume, NULL);
	pthread_mutex_lock(&x->lock);
	x->flushed_us = clock_us(&clock_system);
	x->flush_us = x->flushed_us - start_us;
	x->group = x->serving + x->waiting_count;
	*more = x->waiting.first;
	x->is_flushing = *more;
	pthread_mutex_unlock(&x->lock);
	return error;
}

static void flush_run(struct task *task)
{
	struct export *x = OWNER_OF(struct export, flush, task);
	bool more;
	do {
		struct task *served = take_waiting(x);
		int error = flush_once(x, &more);
		/* If there are no more, those that are served now may be all that keeps the export open. */
		for (struct task *next; served; served = next) {
			next = served->next;
			OWNER_OF(struct flush_waiter, task, served)->error = error;
			mailbox_post(served->home, served);
		}
	} while (more);
}

void export_flush(struct export *x, struct flush_waiter *waiter)
{
	pthread_mutex_lock(&x->lock);
	tasks_append(&x->waiting, &waiter->task);
	x->waiting_count++;
	pthread_cond_signal(&x->joined);
	bool begin = !x->is_flushing;
	x->is_flushing = true;
	pthread_mutex_unlock(&x->lock);
	if (begin)
		lane_submit(x->lanes[EXPORT_FLUSHES], &x->flush);
}

static void export_drop(struct export *x);
static void close_run(struct task *task);

static void settle_run(struct task *task)
{
	struct export *x = OWNER_OF(struct export, settle, task);
	pthread_mutex_lock(&x->lock);
	x->is_settling = false;
	pthread_mutex_unlock(&x->lock);
	x->backend->settle(x->volume);
	export_drop(x);
}

void export_settle(struct export *x)
{
	pthread_mutex_lock(&x->lock);
	bool begin = !x->is_settling;
	x->is_settling = true;
	pthread_mutex_unlock(&x->lock);
	if (!begin)
		return;
	pthread_mutex_lock(&x->exports->lock);
	x->users++; /* its connections may go meanwhile */
	pthread_mutex_unlock(&x->exports->lock);
	lane_submit(x->lanes[EXPORT_FLUSHES], &x->settle);
}

bool export_flush_here(struct export *x, int *error)
{
	size_t bytes = atomic_load_explicit(&x->unflushed_bytes, memory_order_relaxed);
	uint64_t now_us = clock_us(&clock_system);
	pthread_mutex_lock(&x->lock);
	bool is_recent = x->flushed_us + HERE_AGE_US > now_us;
	bool may = !x->is_flushing && is_recent && x->flush_us <= HERE_US_MAX && bytes <= HERE_BYTES_MAX;
	x->is_flushing |= may;
	x->serving = may ? 1 : x->serving;
	pthread_mutex_unlock(&x->lock);
	if (!may)
		return false;
	bool more;
	*error = flush_once(x, &more);
	if (more)
		lane_submit(x->lanes[EXPORT_FLUSHES], &x->flush);
	return true;
}

/* -- opening and closing -- */

static void export_destroy(struct export *x)
{
	if (x->volume)
		x->backend->close(x->volume);
	for (unsigned i = 0; i < EXPORT_LANES; i++)
		if (x->lanes[i])
			lane_free(x->lanes[i]);
	pthread_cond_destroy(&x->joined);
	pthread_mutex_destroy(&x->lock);
	free(x);
}

static struct export *export_new(struct exports *e)
{
	struct export *x = calloc(1, sizeof(*x));
	pthread_condattr_t attributes;
	if (!x)
		return NULL;
	x->backend = e->backend;
	x->exports = e;
	x->users = 1;
	x->helpers = e->helpers;
	x->flush.run = flush_run;
	x->settle.run = settle_run;
	x->closing.run = close_run;
	tasks_init(&x->waiting);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&x->joined, &attributes);
	pthread_condattr_destroy(&attributes);
	pthread_mutex_init(&x->lock, NULL);
	bool all = true;
	for (unsigned i = 0; i < EXPORT_LANES; i++) {
		unsigned most = i == EXPORT_COPIES ? MAX_OF(e->helpers, 1u) : running_max[i];
		x->lanes[i] = lane_new(e->workers, most);
		all &= x->lanes[i] != NULL;
	}
	if (all)
		return x;
	export_destroy(x);
	return NULL;
}

/* The one of that name that is open already, with one more user; else the new one. */
static struct export *enlist(struct exports *e, struct export *fresh)
{
	pthread_mutex_lock(&e->lock);
	struct export *x = e->first;
	while (x && (strcmp(x->info.name, fresh->info.name) != 0 || x->info.bytes != fresh->info.bytes))
		x = x->next;
	if (x) {
		x->users++;
	} else {
		fresh->next = e->first;
		e->first = fresh;
	}
	pthread_mutex_unlock(&e->lock);
	return x ? x : fresh;
}

int exports_open(struct exports *e, const char *name, struct export **export, struct lcpfs_failure *failure)
{
	struct export *fresh = export_new(e);
	*export = NULL;
	if (!fresh)
		return failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	int error = e->backend->open(e->context, name, &fresh->volume, &fresh->info, failure);
	if (!error)
		*export = enlist(e, fresh);
	if (*export != fresh)
		export_destroy(fresh);
	return error;
}

static void export_drop(struct export *x)
{
	struct exports *e = x->exports;
	pthread_mutex_lock(&e->lock);
	bool last = --x->users == 0;
	struct export **link = &e->first;
	while (last && *link != x)
		link = &(*link)->next;
	if (last)
		*link = x->next;
	pthread_mutex_unlock(&e->lock);
	if (last)
		export_destroy(x);
}

static void close_run(struct task *task)
{
	export_drop(OWNER_OF(struct export, closing, task));
}

void export_close(struct export *x)
{
	if (!x)
		return;
	struct exports *e = x->exports;
	pthread_mutex_lock(&e->lock);
	bool last = x->users == 1;
	if (!last)
		x->users--;
	pthread_mutex_unlock(&e->lock);
	if (!last)
		return;
	lane_submit(e->lane, &x->closing);
}
