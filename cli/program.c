/* SPDX-License-Identifier: Apache-2.0 */
#include "program.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <poll.h>
#include <signal.h>
#include <spawn.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/pidfd.h>
#include <sys/socket.h>
#include <sys/wait.h>
#include <unistd.h>

#include "base/error.h"

extern char **environ;

enum { LINE_MAX_BYTES = 400, STOP_MS = 2000 };

void program_extend_path(void)
{
	const char *path = getenv("PATH");
	char *longer;
	CHECK(asprintf(&longer, "%s%s/usr/local/sbin:/usr/sbin:/sbin:/usr/bin:/bin", path ? path : "",
		       path ? ":" : "") >= 0);
	setenv("PATH", longer, 1);
	free(longer);
}

bool program_exists(const char *name)
{
	const char *path = getenv("PATH");
	char *copy = strdup(path ? path : ""), *rest = copy, *folder, file[PATH_MAX];
	bool found = false;
	CHECK(copy);
	while (!found && (folder = strsep(&rest, ":")))
		found = snprintf(file, sizeof(file), "%s/%s", folder, name) < (int)sizeof(file) &&
			!access(file, X_OK);
	free(copy);
	return found;
}

struct plumbing {
	int in, out, error; /* in -1: empty */
	bool own_session;
};

/* All signals are as they usually are. */
static int spawn(const char *const *arguments, const struct plumbing *plumbing, pid_t *pid)
{
	posix_spawn_file_actions_t files;
	posix_spawnattr_t attributes;
	sigset_t none, all;
	sigemptyset(&none);
	sigfillset(&all);
	posix_spawn_file_actions_init(&files);
	if (plumbing->in >= 0)
		posix_spawn_file_actions_adddup2(&files, plumbing->in, STDIN_FILENO);
	else
		posix_spawn_file_actions_addopen(&files, STDIN_FILENO, "/dev/null", O_RDONLY, 0);
	posix_spawn_file_actions_adddup2(&files, plumbing->out, STDOUT_FILENO);
	posix_spawn_file_actions_adddup2(&files, plumbing->error, STDERR_FILENO);
	posix_spawnattr_init(&attributes);
	posix_spawnattr_setsigmask(&attributes, &none);
	posix_spawnattr_setsigdefault(&attributes, &all);
	posix_spawnattr_setflags(&attributes, (short)(POSIX_SPAWN_SETSIGMASK | POSIX_SPAWN_SETSIGDEF |
						      (plumbing->own_session ? POSIX_SPAWN_SETSID : 0)));
	int error = posix_spawnp(pid, arguments[0], &files, &attributes, (char *const *)arguments, environ);
	posix_spawn_file_actions_destroy(&files);
	posix_spawnattr_destroy(&attributes);
	return error;
}

static int cannot_run(const char *program, int error, struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_SYSTEM, "%s: %s", program, strerrordesc_np(error));
}

static void cut_line_end(char *line)
{
	line[strcspn(line, "\n")] = '\0';
}

/* The first line and the last one that say something. */
static void read_lines(FILE *from, char *first, size_t room, char last[LINE_MAX_BYTES])
{
	char line[LINE_MAX_BYTES];
	first[0] = last[0] = '\0';
	while (fgets(line, sizeof(line), from)) {
		cut_line_end(line);
		if (!*line)
			continue;
		if (!*first)
			snprintf(first, room, "%s", line);
		memcpy(last, line, sizeof(line));
	}
}

static int result_of(const char *program, pid_t pid, const char *last, struct lcpfs_failure *failure)
{
	int status;
	while (waitpid(pid, &status, 0) < 0 && errno == EINTR)
		;
	if (WIFEXITED(status) && !WEXITSTATUS(status))
		return 0;
	if (*last)
		return failure_set(failure, LCPFS_E_SYSTEM, "%s: %s", program, last);
	if (WIFSIGNALED(status))
		return failure_set(failure, LCPFS_E_SYSTEM, "%s: ended by signal %d", program, WTERMSIG(status));
	return failure_set(failure, LCPFS_E_SYSTEM, "%s: exit code %d", program, WEXITSTATUS(status));
}

int program_run(const char *const *arguments, char *output, size_t room, struct lcpfs_failure *failure)
{
	char first[LINE_MAX_BYTES], last[LINE_MAX_BYTES];
	int pipe_fds[2], error;
	pid_t pid;
	if (pipe2(pipe_fds, O_CLOEXEC))
		return cannot_run(arguments[0], errno, failure);
	error = spawn(arguments, &(struct plumbing){-1, pipe_fds[1], pipe_fds[1], false}, &pid);
	close(pipe_fds[1]);
	FILE *from = fdopen(pipe_fds[0], "r");
	CHECK(from);
	if (!error)
		read_lines(from, first, sizeof(first), last);
	fclose(from);
	if (error)
		return cannot_run(arguments[0], error, failure);
	if (output)
		snprintf(output, room, "%s", first);
	return result_of(arguments[0], pid, last, failure);
}

static int wait_until_ready(const char *ready, int fd)
{
	char line[LINE_MAX_BYTES] = "";
	FILE *from = fdopen(fd, "r");
	bool found = false;

	CHECK(from);
	while (!found && fgets(line, sizeof(line), from))
		found = !strncmp(line, ready, strlen(ready));
	fclose(from);
	return found ? 0 : -LCPFS_E_STOPPED;
}

static void read_last_line(const char *path, char last[LINE_MAX_BYTES])
{
	char first[LINE_MAX_BYTES];
	FILE *log = fopen(path, "re");

	last[0] = '\0';
	if (!log)
		return;
	read_lines(log, first, sizeof(first), last);
	fclose(log);
}

int program_start(const char *const *arguments, const char *ready, const char *log_path,
		  struct lcpfs_failure *failure)
{
	int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	int pipe_fds[2], error;
	char last[LINE_MAX_BYTES];
	pid_t pid;
	if (log_fd < 0)
		return cannot_run(log_path, errno, failure);
	if (pipe2(pipe_fds, O_CLOEXEC)) {
		close(log_fd);
		return cannot_run(arguments[0], errno, failure);
	}
	error = spawn(arguments, &(struct plumbing){-1, ready ? pipe_fds[1] : log_fd, log_fd, true}, &pid);
	close(pipe_fds[1]);
	close(log_fd);
	if (error || !ready) {
		close(pipe_fds[0]);
		return error ? cannot_run(arguments[0], error, failure) : 0;
	}
	if (!wait_until_ready(ready, pipe_fds[0]))
		return 0;
	read_last_line(log_path, last);
	return failure_set(failure, LCPFS_E_SYSTEM, "%s did not start: %s", arguments[0],
			   strncmp(last, "lcpfs: ", 7) ? last : last + 7);
}

/* ---- with something to read ---- */

/* false: it was killed. */
static bool wait_or_kill(pid_t pid, unsigned timeout_s, int stop_fd)
{
	struct pollfd fds[2] = {{.fd = pidfd_open(pid, 0), .events = POLLIN}, {.fd = stop_fd, .events = POLLIN}};
	int ready = poll(fds, stop_fd < 0 ? 1 : 2, (int)timeout_s * 1000);
	bool ended = ready > 0 && fds[0].revents;
	if (ready > 0 && !ended) /* to be stopped: a moment is left to it */
		ended = poll(fds, 1, STOP_MS) > 0;
	if (!ended)
		kill(-pid, SIGKILL);
	close(fds[0].fd);
	return ended;
}

/* A socket pair takes all of it at once, and a program that does not read it sends no signal. */
static void feed(int fd, const char *input)
{
	(void)!send(fd, input, strlen(input), MSG_NOSIGNAL | MSG_DONTWAIT);
	shutdown(fd, SHUT_WR);
}

int program_feed(const char *path, const char *input, unsigned timeout_s, int stop_fd,
		 struct lcpfs_failure *failure)
{
	const char *arguments[] = {path, NULL};
	int ends[2], error;
	pid_t pid;
	if (socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends))
		return cannot_run(path, errno, failure);
	error = spawn(arguments, &(struct plumbing){ends[1], STDERR_FILENO, STDERR_FILENO, true}, &pid);
	close(ends[1]);
	if (!error)
		feed(ends[0], input);
	bool ended = error || wait_or_kill(pid, timeout_s, stop_fd);
	close(ends[0]);
	if (error)
		return cannot_run(path, error, failure);
	error = result_of(path, pid, "", failure);
	return ended ? error : failure_set(failure, LCPFS_E_STOPPED, "%s: took too long and was killed", path);
}
