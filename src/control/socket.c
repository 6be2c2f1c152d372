/* SPDX-License-Identifier: Apache-2.0 */
#include "control/socket.h"

#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/descriptor.h"

enum { CONNECT_S_MAX = 4 };

int socket_address_set(struct sockaddr_un *address, const char *path, struct lcpfs_failure *failure)
{
	size_t length = strlen(path);
	if (length == 0 || length >= sizeof(address->sun_path))
		return failure_set(failure, LCPFS_E_INVALID,
				   "%s: a socket's path has 1 to %zu characters; choose a shorter one", path,
				   sizeof(address->sun_path) - 1);
	memset(address, 0, sizeof(*address));
	address->sun_family = AF_UNIX;
	memcpy(address->sun_path, path, length);
	return 0;
}

void socket_path_encode(const char *path, char *text)
{
	static const char plain[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789-._~/";
	for (; *path; path++)
		text += sprintf(text, strchr(plain, *path) ? "%c" : "%%%02X", (unsigned char)*path);
	*text = '\0';
}

static int failed(int fd, const char *path, struct lcpfs_failure *failure)
{
	int err = errno;
	if (fd >= 0)
		close(fd);
	return failure_set(failure, LCPFS_E_SYSTEM, "%s: %s", path, strerror(err));
}

int socket_connect(const char *path, int *fd, struct lcpfs_failure *failure)
{
	struct sockaddr_un address;
	int error = socket_address_set(&address, path, failure);
	if (error)
		return error;
	*fd = descriptor_keep_clear(socket(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0));
	if (*fd < 0)
		return failed(-1, path, failure);
	/* A full queue of a server that accepts nobody would hold us for ever. */
	setsockopt(*fd, SOL_SOCKET, SO_SNDTIMEO, &(struct timeval){.tv_sec = CONNECT_S_MAX},
		   sizeof(struct timeval));
	if (!connect(*fd, (struct sockaddr *)&address, sizeof(address)))
		return 0;
	if (errno == ECONNREFUSED || errno == ENOENT) {
		close(*fd);
		return failure_set(failure, LCPFS_E_NOT_FOUND, "%s: nobody listens there", path);
	}
	if (errno == EAGAIN) {
		close(*fd);
		return failure_set(failure, LCPFS_E_STOPPED, "%s: the server there accepts nobody", path);
	}
	return failed(*fd, path, failure);
}
