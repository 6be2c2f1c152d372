/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Work that may block, and who does it: a bounded number of threads, started as they are needed.
 *
 * A task belongs to a lane; each partition has its own. Lanes take turns, and a lane has only so many of its tasks
 * under way, so that a partition that is slow or stuck holds up itself alone; one that has none under way gets a
 * thread even when all are busy. So there are at most WORKERS_MAX threads and one more for each lane.
 *
 * A task that has run is put into its mailbox, from where the thread that it belongs to takes it.
 */
#ifndef SERVE_TASK_H
#define SERVE_TASK_H

#include <pthread.h>
#include <stdbool.h>

#include "base/check.h"

enum { WORKERS_MAX = 32 };

struct mailbox;

struct task {
	struct task *next;
	void (*run)(struct task *task);  /* by a worker */
	void (*done)(struct task *task); /* by the mailbox's owner, afterwards */
	struct mailbox *home;            /* NULL: nobody is told, and `run` may free it */
	bool again; /* set by `run`, of one that has a home: it is not done, and goes to the end of its lane */
};

struct tasks { /* first in, first out */
	struct task *first, **last;
};

static inline void tasks_init(struct tasks *tasks)
{
	tasks->first = NULL;
	tasks->last = &tasks->first;
}

static inline void tasks_append(struct tasks *tasks, struct task *task)
{
	task->next = NULL;
	*tasks->last = task;
	tasks->last = &task->next;
}

static inline struct task *tasks_take(struct tasks *tasks)
{
	struct task *task = tasks->first;
	if (task && !(tasks->first = task->next))
		tasks->last = &tasks->first;
	return task;
}

/* -- mailboxes -- */

struct mailbox {
	pthread_mutex_t lock;
	struct tasks tasks; /* under the lock */
	int event_fd; /* written to when something is put into an empty one; never read, so watch it for edges */
};

int mailbox_init(struct mailbox *mailbox) MUST_CHECK; /* 0 or an errno */
void mailbox_destroy(struct mailbox *mailbox);
void mailbox_post(struct mailbox *mailbox, struct task *task);
void mailbox_poke(struct mailbox *mailbox); /* wakes its owner */
struct task *mailbox_take_all(struct mailbox *mailbox); /* linked by `next` */

/* -- workers -- */

struct workers;
struct lane;

struct workers *workers_new(void); /* NULL: no memory */
/* With so many tasks under way at most. NULL: no memory. */
struct lane *lane_new(struct workers *workers, unsigned running_max);
/* Nothing more will be submitted; what was is still done. */
void lane_free(struct lane *lane);
/* Has it run, now or later; where no thread can be had at all, by the caller. */
void lane_submit(struct lane *lane, struct task *task);
/* Waits for all that was submitted, and ends the threads. */
void workers_finish(struct workers *workers);
/* After that, and when there are no lanes any more. NULL is allowed. */
void workers_free(struct workers *workers);

#endif
