/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/ending.h"

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/signalfd.h>
#include <unistd.h>

static const int always[] = {SIGTERM, SIGINT, SIGQUIT};

static bool is_ignored(int number)
{
	struct sigaction now;
	return !sigaction(number, NULL, &now) && now.sa_handler == SIG_IGN;
}

int ending_watch(int *fd, struct lcpfs_failure *failure)
{
	sigset_t set;
	sigemptyset(&set);
	for (size_t i = 0; i < ARRAY_LENGTH(always); i++) {
		signal(always[i], SIG_DFL); /* one that is ignored never comes */
		sigaddset(&set, always[i]);
	}
	if (!is_ignored(SIGHUP))
		sigaddset(&set, SIGHUP);
	signal(SIGPIPE, SIG_IGN); /* a reader of our messages may go */
	int err = pthread_sigmask(SIG_BLOCK, &set, NULL);
	*fd = err ? -1 : signalfd(-1, &set, SFD_CLOEXEC | SFD_NONBLOCK);
	if (*fd >= 0)
		return 0;
	return failure_set(failure, LCPFS_E_SYSTEM, "signals: %s", strerrordesc_np(err ? err : errno));
}

/* " (NAME)", as far as it can be told. */
static void name_process(unsigned pid, char *text, size_t room)
{
	char path[40], name[32] = "";
	snprintf(path, sizeof(path), "/proc/%u/comm", pid);
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	ssize_t length = fd < 0 ? 0 : read(fd, name, sizeof(name) - 1);
	if (fd >= 0)
		close(fd);
	for (ssize_t i = 0; i < length; i++) {
		if (name[i] == '\n')
			name[i] = '\0';
		else if ((unsigned char)name[i] < ' ' || (unsigned char)name[i] > '~')
			name[i] = '?';
	}
	snprintf(text, room, *name ? " (%s)" : "%s", name);
}

int ending_take(int fd, char text[ENDING_TEXT])
{
	struct signalfd_siginfo info;
	char name[40];
	if (read(fd, &info, sizeof(info)) != sizeof(info))
		return 0;
	const char *what = strsignal((int)info.ssi_signo);
	if (info.ssi_code == SI_KERNEL) {
		snprintf(text, ENDING_TEXT, "%s, from the terminal", what);
	} else {
		name_process(info.ssi_pid, name, sizeof(name));
		snprintf(text, ENDING_TEXT, "%s, from process %u%s", what, info.ssi_pid, name);
	}
	return (int)info.ssi_signo;
}
