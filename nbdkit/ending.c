/* SPDX-License-Identifier: Apache-2.0 */
#include "ending.h"

#include <errno.h>
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

enum { IDLE_CLIENTS_S = 1 }; /* that clients without a request under way have to go */

/* Global, as signal handlers and nbdkit's callbacks have no context. */
static struct {
	void (*finish)(void);
	int told_fd; /* to be read from once the server is told to end */
	pthread_t watcher;
	struct sigaction term_action, int_action; /* nbdkit's */
	volatile sig_atomic_t signal_number, sender;
	pthread_mutex_t lock; /* held by who finishes: nbdkit's cleanup or the watcher */
	pthread_cond_t finished;
	bool has_finished;
} ending = {.lock = PTHREAD_MUTEX_INITIALIZER, .finished = PTHREAD_COND_INITIALIZER};

/* Has nbdkit's cleanup come, within the time? Called with the lock. */
static bool wait_for_cleanup(void)
{
	struct timespec until;
	int err = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += IDLE_CLIENTS_S;
	while (!ending.has_finished && !err)
		err = pthread_cond_timedwait(&ending.finished, &ending.lock, &until);
	return ending.has_finished;
}

static void *watch(void *context)
{
	eventfd_t count;

	while (eventfd_read(ending.told_fd, &count) && errno == EINTR)
		;
	if (ending.sender > 0) /* not from a terminal: so that a log says why it ends there */
		fprintf(stderr, "lcpfs: stopping: %s, from process %d\n", strsignal(ending.signal_number),
			(int)ending.sender);
	pthread_mutex_lock(&ending.lock);
	if (!wait_for_cleanup()) {
		ending.finish();
		_exit(EXIT_SUCCESS);
	}
	pthread_mutex_unlock(&ending.lock);
	return context;
}

/* nbdkit's own handlers still do all they did. */
static void tell(int signal_number, siginfo_t *info, void *context)
{
	const struct sigaction *theirs = signal_number == SIGINT ? &ending.int_action : &ending.term_action;
	int err = errno;

	ending.signal_number = signal_number;
	ending.sender = info->si_pid;
	eventfd_write(ending.told_fd, 1);
	if (theirs->sa_flags & SA_SIGINFO)
		theirs->sa_sigaction(signal_number, info, context);
	else if (theirs->sa_handler != SIG_DFL && theirs->sa_handler != SIG_IGN)
		theirs->sa_handler(signal_number);
	errno = err;
}

int ending_watch(void (*finish)(void))
{
	struct sigaction ours = {.sa_sigaction = tell, .sa_flags = SA_SIGINFO | SA_RESTART};
	int err;

	ending.told_fd = eventfd(0, EFD_CLOEXEC);
	if (ending.told_fd < 0)
		return errno;
	ending.finish = finish;
	err = pthread_create(&ending.watcher, NULL, watch, NULL);
	if (err) {
		ending.finish = NULL;
		return err;
	}
	sigaction(SIGINT, &ours, &ending.int_action);
	sigaction(SIGTERM, &ours, &ending.term_action);
	return 0;
}

void ending_cleanup(void)
{
	if (!ending.finish)
		return;
	pthread_mutex_lock(&ending.lock); /* for ever, where the watcher is ending the process already */
	ending.finish();
	ending.has_finished = true;
	pthread_cond_signal(&ending.finished);
	pthread_mutex_unlock(&ending.lock);
	eventfd_write(ending.told_fd, 1); /* it may have ended without a signal */
	pthread_join(ending.watcher, NULL);
}
