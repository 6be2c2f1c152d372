/* SPDX-License-Identifier: Apache-2.0 */
#include "base/descriptor.h"

#include <errno.h>
#include <fcntl.h>
#include <unistd.h>

enum { STANDARD_LAST = 2 };

int descriptor_keep_clear(int fd)
{
	if (fd < 0 || fd > STANDARD_LAST)
		return fd;
	int clear = fcntl(fd, F_DUPFD_CLOEXEC, STANDARD_LAST + 1);
	int err = errno;
	close(fd);
	errno = err;
	return clear;
}

void descriptor_fill_standard(void)
{
	for (int fd = 0; fd <= STANDARD_LAST; fd++) {
		if (fcntl(fd, F_GETFD) < 0 && errno == EBADF)
			(void)!open("/dev/null", fd ? O_RDONLY : O_WRONLY); /* the lowest that is free: this one */
	}
}
