/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/limits.h"

#include <dirent.h>
#include <sys/resource.h>

#include "serve/server.h"

enum {
	KEPT_MAX = 96,       /* 64 clients of the control socket, 16 rings for the device, and some */
	KEPT_SHARE = 3,      /* no more than this part of all, where there are few */
	CLIENTS_LEAST = 4,
	OPEN_UNKNOWN = 24,   /* where /proc does not tell: more than there are at the start */
};

void limits_raise(void)
{
	struct rlimit limit;
	if (getrlimit(RLIMIT_NOFILE, &limit))
		return;
	limit.rlim_cur = limit.rlim_max;
	(void)!setrlimit(RLIMIT_NOFILE, &limit); /* then it stays as it was */
}

static unsigned open_now(void)
{
	DIR *folder = opendir("/proc/self/fd");
	unsigned count = 0;
	if (!folder)
		return OPEN_UNKNOWN;
	while (readdir(folder))
		count++;
	closedir(folder);
	return count - 3; /* . and .. and the folder itself */
}

int limits_clients(unsigned *clients, struct lcpfs_failure *failure)
{
	struct rlimit limit = {.rlim_cur = 1024};
	(void)!getrlimit(RLIMIT_NOFILE, &limit);
	uint64_t all = MIN_OF((uint64_t)limit.rlim_cur, (uint64_t)SERVER_CLIENTS_MAX * 2);
	uint64_t taken = open_now() + MIN_OF(all / KEPT_SHARE, (uint64_t)KEPT_MAX);
	*clients = (unsigned)MIN_OF(all > taken ? all - taken : 0, (uint64_t)SERVER_CLIENTS_MAX);
	if (*clients >= CLIENTS_LEAST)
		return 0;
	return failure_set(
		failure, LCPFS_E_INVALID,
		"%llu file descriptors are too few to serve clients; raise the limit (ulimit -n, LimitNOFILE=)",
		(unsigned long long)all);
}
