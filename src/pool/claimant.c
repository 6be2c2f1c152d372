/* SPDX-License-Identifier: Apache-2.0 */
#include "pool/claimant.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>

#include "pool/core.h"

struct claimant {
	struct claim *claim;
	struct vdev *device;
	struct layout layout;
	struct lcpfs_open_options options;
	pthread_t thread;
	pthread_mutex_t lock;
	pthread_cond_t wake;
	bool stopping;              /* under lock */
	struct lcpfs_pool *pool;    /* under lock */
	bool told_taken, told_gone; /* the thread's own */
};

/* -- telling -- */

static void tell(struct claimant *claimant, enum lcpfs_notice notice, const char *text)
{
	if (claimant->options.notice)
		claimant->options.notice(claimant->options.notice_context, notice, text);
}

static void tell_waiting(void *context, const char *owner, unsigned seconds)
{
	const struct lcpfs_open_options *options = context;
	struct lcpfs_failure text;
	failure_set(&text, LCPFS_E_BUSY,
		    "it was not closed by %s; waiting up to %u s to see whether that still has it", owner,
		    seconds);
	if (options->notice)
		options->notice(options->notice_context, LCPFS_NOTICE_WAITING, text.message);
}

static void note(struct claimant *claimant, const char *text)
{
	pthread_mutex_lock(&claimant->lock);
	struct lcpfs_pool *pool = claimant->pool;
	pthread_mutex_unlock(&claimant->lock);
	if (!pool) /* set once; the pool waits for this thread before it goes */
		return;
	pthread_mutex_lock(&pool->lock);
	history_note(pool, LCPFS_EVENT_DAMAGE, 0, 0, 0, "%s", text);
	pthread_mutex_unlock(&pool->lock);
}

bool claimant_file_is_gone(struct claimant *claimant)
{
	struct stat status;
	return !fstat(vdev_file_descriptor(claimant->device), &status) && S_ISREG(status.st_mode) &&
	       status.st_nlink == 0;
}

static void look_after(struct claimant *claimant)
{
	static const char taken[] = "another process or machine has taken the pool over; this one writes no more";
	static const char gone[] =
		"the pool's file was removed while it is in use: all of it is lost when this process "
		"ends; copy it out first (from /proc/PID/fd)";
	if (claim_renew(claimant->claim) == -LCPFS_E_TAKEN_OVER && !claimant->told_taken) {
		claimant->told_taken = true;
		tell(claimant, LCPFS_NOTICE_TAKEN_OVER, taken);
	}
	if (!claimant->told_gone && claimant_file_is_gone(claimant)) {
		claimant->told_gone = true;
		note(claimant, gone);
		tell(claimant, LCPFS_NOTICE_REMOVED, gone);
	}
}

/* -- the thread -- */

static bool wait_period(struct claimant *claimant)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += CLAIM_PERIOD_MS / 1000;
	pthread_mutex_lock(&claimant->lock);
	int err = 0;
	while (!claimant->stopping && !err)
		err = pthread_cond_timedwait(&claimant->wake, &claimant->lock, &until);
	bool go_on = !claimant->stopping;
	pthread_mutex_unlock(&claimant->lock);
	return go_on;
}

static void *run(void *context)
{
	while (wait_period(context))
		look_after(context);
	return NULL;
}

static int start_thread(struct claimant *claimant, struct lcpfs_failure *failure)
{
	sigset_t all, before;
	sigfillset(&all);
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(&claimant->thread, NULL, run, claimant);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err ? failure_set(failure, LCPFS_E_SYSTEM, "%s: no thread: %s", claimant->device->name,
				 strerrordesc_np(err))
		   : 0;
}

/* -- its life -- */

static struct claim_options options_of(struct vdev *device, const struct lcpfs_open_options *options,
				       struct claim_world *world)
{
	claim_world_system(world);
	return (struct claim_options){world, &device->place, tell_waiting, (void *)(uintptr_t)options};
}

int claimant_look(struct vdev *device, const struct lcpfs_open_options *options, struct lcpfs_failure *failure)
{
	struct claim_world world;
	struct claim_options how = options_of(device, options, &world);
	struct layout layout;
	if (!layout_find(device, &layout))
		return 0; /* no pool that somebody could have: who opens it finds out */
	return claim_look(device, &layout, &how, failure);
}

static void claimant_free(struct claimant *claimant)
{
	pthread_cond_destroy(&claimant->wake);
	pthread_mutex_destroy(&claimant->lock);
	free(claimant);
}

static struct claimant *claimant_alloc(struct vdev *device, const struct lcpfs_open_options *options)
{
	struct claimant *claimant = calloc(1, sizeof(*claimant));
	pthread_condattr_t attributes;
	if (!claimant)
		return NULL;
	claimant->device = device;
	claimant->options = *options;
	pthread_mutex_init(&claimant->lock, NULL);
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_cond_init(&claimant->wake, &attributes);
	pthread_condattr_destroy(&attributes);
	return claimant;
}

int claimant_new(struct vdev *device, const struct lcpfs_open_options *options, struct claimant **result,
		 struct lcpfs_failure *failure)
{
	struct claim_world world;
	struct claim_options how = options_of(device, options, &world);
	struct claimant *claimant = claimant_alloc(device, options);
	*result = NULL;
	if (!claimant)
		return failure_set(failure, LCPFS_E_NOMEM, "%s: out of memory", device->name);
	int error = layout_read(device, &claimant->layout, failure);
	if (!error)
		error = layout_refuse_writing(&claimant->layout, device->name, failure);
	if (!error)
		error = claim_take(device, &claimant->layout, &how, &claimant->claim, failure);
	if (!error)
		error = start_thread(claimant, failure);
	if (!error) {
		*result = claimant;
		return 0;
	}
	claim_release(claimant->claim);
	claimant_free(claimant);
	return error;
}

struct claim *claimant_claim(struct claimant *claimant)
{
	return claimant ? claimant->claim : NULL;
}

/* The claim reads the layout with its lock. */
void claimant_move(struct claimant *claimant, uint64_t device_blocks)
{
	claim_lock(claimant->claim);
	claimant->layout.device_blocks = device_blocks;
	claim_unlock(claimant->claim);
}

void claimant_set_pool(struct claimant *claimant, struct lcpfs_pool *pool)
{
	pthread_mutex_lock(&claimant->lock);
	claimant->pool = pool;
	pthread_mutex_unlock(&claimant->lock);
}

void claimant_end(struct claimant *claimant, bool release)
{
	if (!claimant)
		return;
	pthread_mutex_lock(&claimant->lock);
	claimant->stopping = true;
	pthread_cond_signal(&claimant->wake);
	pthread_mutex_unlock(&claimant->lock);
	pthread_join(claimant->thread, NULL);
	if (release)
		claim_release(claimant->claim);
	else
		claim_abandon(claimant->claim);
	claimant_free(claimant);
}
