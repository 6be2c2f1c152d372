/* SPDX-License-Identifier: Apache-2.0 */
/* Locks: a mailbox's, and the workers' for all of theirs. Neither is held while a task runs. */
#include "serve/task.h"

#include <errno.h>
#include <signal.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum {
	WORKER_IDLE_S = 10,              /* a thread that had nothing to do for so long ends */
	WORKER_STACK_BYTES = 1 << 20,    /* the system gives 8 MiB to each otherwise */
};

/* -- mailboxes -- */

int mailbox_init(struct mailbox *mailbox)
{
	tasks_init(&mailbox->tasks);
	mailbox->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (mailbox->event_fd < 0)
		return errno;
	pthread_mutex_init(&mailbox->lock, NULL);
	return 0;
}

void mailbox_destroy(struct mailbox *mailbox)
{
	close(mailbox->event_fd);
	pthread_mutex_destroy(&mailbox->lock);
}

void mailbox_poke(struct mailbox *mailbox)
{
	eventfd_write(mailbox->event_fd, 1);
}

void mailbox_post(struct mailbox *mailbox, struct task *task)
{
	pthread_mutex_lock(&mailbox->lock);
	bool was_empty = !mailbox->tasks.first;
	tasks_append(&mailbox->tasks, task);
	pthread_mutex_unlock(&mailbox->lock);
	if (was_empty) /* else somebody has woken the owner already */
		mailbox_poke(mailbox);
}

struct task *mailbox_take_all(struct mailbox *mailbox)
{
	pthread_mutex_lock(&mailbox->lock);
	struct task *first = mailbox->tasks.first;
	tasks_init(&mailbox->tasks);
	pthread_mutex_unlock(&mailbox->lock);
	return first;
}

/* -- workers -- */

struct lane {
	struct workers *workers;
	struct lane *next; /* among those that wait for a thread */
	struct tasks tasks;
	unsigned running, running_max;
	bool is_queued, is_free;
};

struct workers {
	pthread_mutex_t lock; /* of the lanes, too */
	pthread_cond_t wanted;
	pthread_cond_t ended; /* the last thread did */
	struct lane *first, **last; /* lanes whose next task may run */
	unsigned threads;
	unsigned idle;   /* threads that wait for `wanted` */
	unsigned called; /* those of them that were told to come */
	bool stopping;
};

struct workers *workers_new(void)
{
	struct workers *w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	pthread_condattr_t attributes;
	pthread_condattr_init(&attributes);
	pthread_condattr_setclock(&attributes, CLOCK_MONOTONIC);
	pthread_mutex_init(&w->lock, NULL);
	pthread_cond_init(&w->wanted, &attributes);
	pthread_cond_init(&w->ended, NULL);
	pthread_condattr_destroy(&attributes);
	w->last = &w->first;
	return w;
}

/* The next functions are called with the lock. */

static void lane_queue(struct lane *lane)
{
	struct workers *w = lane->workers;
	if (lane->is_queued || !lane->tasks.first || lane->running >= lane->running_max)
		return;
	lane->is_queued = true;
	lane->next = NULL;
	*w->last = lane;
	w->last = &lane->next;
}

static struct lane *lane_take(struct workers *w)
{
	struct lane *lane = w->first;
	if (!lane)
		return NULL;
	w->first = lane->next;
	if (!w->first)
		w->last = &w->first;
	lane->is_queued = false;
	return lane;
}

static void *worker_thread(void *context);

static bool start_thread(struct workers *w)
{
	pthread_attr_t attributes;
	pthread_t thread;
	sigset_t all, before;
	pthread_attr_init(&attributes);
	pthread_attr_setdetachstate(&attributes, PTHREAD_CREATE_DETACHED);
	pthread_attr_setstacksize(&attributes, WORKER_STACK_BYTES);
	sigfillset(&all); /* signals belong to the program, not to a thread of ours */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	bool started = !pthread_create(&thread, &attributes, worker_thread, w);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	pthread_attr_destroy(&attributes);
	w->threads += started;
	return started;
}

/* Somebody for the first lane that waits, if there is one. */
static void call_thread(struct workers *w)
{
	if (!w->first)
		return;
	if (w->idle > w->called) {
		w->called++;
		pthread_cond_signal(&w->wanted);
	} else if (w->threads < WORKERS_MAX || !w->first->running) {
		(void)!start_thread(w);
	}
}

static bool work_once(struct workers *w)
{
	struct lane *lane = lane_take(w);
	if (!lane)
		return false;
	struct task *task = tasks_take(&lane->tasks);
	struct mailbox *home = task->home;
	lane->running++;
	lane_queue(lane); /* behind the others */
	call_thread(w);
	pthread_mutex_unlock(&w->lock);
	task->run(task);
	bool again = home && task->again;
	if (home && !again)
		mailbox_post(home, task);
	pthread_mutex_lock(&w->lock);
	if (again)
		tasks_append(&lane->tasks, task);
	lane->running--;
	lane_queue(lane);
	if (lane->is_free && !lane->running && !lane->is_queued)
		free(lane);
	return true;
}

/* false: for too long. */
static bool wait_for_lane(struct workers *w)
{
	struct timespec until;
	clock_gettime(CLOCK_MONOTONIC, &until);
	until.tv_sec += WORKER_IDLE_S;
	int err = 0;
	w->idle++;
	while (!w->called && !w->stopping && !err)
		err = pthread_cond_timedwait(&w->wanted, &w->lock, &until);
	w->idle--;
	w->called -= w->called > 0;
	return !err || w->first;
}

static void *worker_thread(void *context)
{
	struct workers *w = context;
	pthread_mutex_lock(&w->lock);
	do {
		while (work_once(w))
			;
	} while (!w->stopping && wait_for_lane(w));
	while (w->stopping && work_once(w))
		;
	if (--w->threads == 0)
		pthread_cond_signal(&w->ended);
	pthread_mutex_unlock(&w->lock);
	return NULL;
}

struct lane *lane_new(struct workers *w, unsigned running_max)
{
	struct lane *lane = calloc(1, sizeof(*lane));
	if (!lane)
		return NULL;
	lane->workers = w;
	lane->running_max = running_max;
	tasks_init(&lane->tasks);
	return lane;
}

void lane_free(struct lane *lane)
{
	struct workers *w = lane->workers;
	pthread_mutex_lock(&w->lock);
	lane->is_free = true;
	if (!lane->running && !lane->is_queued)
		free(lane);
	pthread_mutex_unlock(&w->lock);
}

void lane_submit(struct lane *lane, struct task *task)
{
	struct workers *w = lane->workers;
	pthread_mutex_lock(&w->lock);
	tasks_append(&lane->tasks, task);
	lane_queue(lane);
	call_thread(w);
	while (!w->threads && work_once(w))
		;
	pthread_mutex_unlock(&w->lock);
}

void workers_finish(struct workers *w)
{
	pthread_mutex_lock(&w->lock);
	w->stopping = true;
	pthread_cond_broadcast(&w->wanted);
	while (w->threads)
		pthread_cond_wait(&w->ended, &w->lock);
	pthread_mutex_unlock(&w->lock);
}

void workers_free(struct workers *w)
{
	if (!w)
		return;
	pthread_cond_destroy(&w->ended);
	pthread_cond_destroy(&w->wanted);
	pthread_mutex_destroy(&w->lock);
	free(w);
}
