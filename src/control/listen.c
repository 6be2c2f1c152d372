/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a file that a killed server left behind is replaced, with others at it at the same time.
 *
 * bind() is what decides: it makes the file or fails, in one step. Where the name is taken and nobody answers
 * there, the file is moved away under a name of ours, and looked at again: if it is another one now, it is put
 * back. So no name is ever removed that might have become somebody's meanwhile. From bind to listen a socket
 * answers nobody and looks as if it were left behind: servers of ours therefore hold a lock on the folder from the
 * one to the other, and while they look. (On the folder, so that no lock file is left behind.) Where it cannot be
 * had, because the folder cannot be read or somebody keeps it, they go on without.
 */
#include "control/listen.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/file.h>
#include <sys/socket.h>
#include <sys/stat.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "control/socket.h"

enum {
	BACKLOG = 512,
	TRIES = 20,           /* a name may be taken again and again while it is cleared */
	LOCK_TRIES = 40,
	LOCK_PAUSE_NS = 50 * 1000 * 1000,
};

static int failed(const char *path, struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_SYSTEM, "%s: %s", path, strerrordesc_np(errno));
}

/* -1: without. */
static int lock_folder(const char *path)
{
	char copy[LISTEN_PATH_MAX];
	snprintf(copy, sizeof(copy), "%s", path);
	int fd = descriptor_keep_clear(open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC));
	for (int i = 0; fd >= 0 && flock(fd, LOCK_EX | LOCK_NB); i++) {
		if (errno == EWOULDBLOCK && i < LOCK_TRIES) {
			nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
			continue;
		}
		close(fd);
		return -1;
	}
	return fd;
}

static void unlock_folder(int fd)
{
	if (fd >= 0)
		close(fd);
}

/* -- a name that is taken -- */

/* Moves what lies at `path` to `away`, if it still is the file of this status. false: it is not. */
static bool move_away(const char *path, const struct stat *status, const char *away)
{
	struct stat moved;
	if (rename(path, away))
		return false;
	if (!lstat(away, &moved) && moved.st_ino == status->st_ino && moved.st_dev == status->st_dev)
		return true;
	(void)!link(away, path); /* back, unless the name has become somebody else's */
	unlink(away);
	return false;
}

/* With the folder locked. 0: it is to be tried again; what is at `away` is to be removed. */
static int clear_name(const char *path, const char *away, struct lcpfs_failure *failure)
{
	struct stat status;
	int fd;
	if (lstat(path, &status))
		return errno == ENOENT ? 0 : failed(path, failure);
	if (!S_ISSOCK(status.st_mode))
		return failure_set(failure, LCPFS_E_EXISTS, "%s exists and is not a socket; choose another path",
				   path);
	int error = socket_connect(path, &fd, failure);
	if (!error)
		close(fd);
	if (!error || error == -LCPFS_E_STOPPED)
		return failure_set(failure, LCPFS_E_BUSY,
				   "%s: a server listens there already; stop it or choose another path", path);
	if (error != -LCPFS_E_NOT_FOUND)
		return error;
	(void)!move_away(path, &status, away);
	return 0;
}

/* -- listening -- */

static bool try_bind(struct listen_socket *s, const struct sockaddr_un *address)
{
	struct stat status;
	/* Before bind: Linux gives the file these permissions, so that it never exists with others. */
	if (fchmod(s->fd, 0600) || bind(s->fd, (const struct sockaddr *)address, sizeof(*address)))
		return false;
	bool known = !lstat(s->path, &status);
	s->device = known ? status.st_dev : 0;
	s->inode = known ? status.st_ino : 0;
	return !listen(s->fd, BACKLOG);
}

/* 0: listening; 1: to be tried again. */
static int listen_once(struct listen_socket *s, const struct sockaddr_un *address, struct lcpfs_failure *failure)
{
	char away[LISTEN_PATH_MAX + 32];
	int lock = lock_folder(s->path), result = 0;
	snprintf(away, sizeof(away), "%s.stale.%d", s->path, (int)getpid());
	if (!try_bind(s, address)) {
		bool taken = errno == EADDRINUSE && !s->inode;
		result = taken ? clear_name(s->path, away, failure) : failed(s->path, failure);
		result = result ? result : 1;
	}
	unlock_folder(lock);
	if (result == 1)
		unlink(away); /* by a name that nobody else uses */
	return result;
}

int listen_open(const char *path, struct listen_socket *s, struct lcpfs_failure *failure)
{
	struct sockaddr_un address;
	int error = socket_address_set(&address, path, failure);
	*s = (struct listen_socket)LISTEN_NONE;
	if (error)
		return error;
	memcpy(s->path, address.sun_path, sizeof(s->path));
	s->fd = descriptor_keep_clear(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	if (s->fd < 0)
		return failed(path, failure);
	error = 1;
	for (int i = 0; i < TRIES && error == 1; i++)
		error = listen_once(s, &address, failure);
	if (error == 1)
		error = failure_set(failure, LCPFS_E_BUSY,
				    "%s: others take this path again and again; choose another", path);
	if (error)
		listen_close(s);
	return error;
}

void listen_close(struct listen_socket *s)
{
	struct stat status;
	if (s->fd < 0)
		return;
	/* Before closing: an inode that a socket holds is nobody else's. */
	int lock = s->inode ? lock_folder(s->path) : -1;
	if (s->inode && !lstat(s->path, &status) && status.st_ino == s->inode && status.st_dev == s->device)
		unlink(s->path);
	unlock_folder(lock);
	close(s->fd);
	*s = (struct listen_socket)LISTEN_NONE;
}
