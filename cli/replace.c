/* SPDX-License-Identifier: Apache-2.0 */
#include "replace.h"

#include <errno.h>
#include <fcntl.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "cli.h"

int replace_file(const char *path, mode_t mode, void (*print)(void *context, FILE *out), void *context)
{
	char name[PATH_MAX];
	FILE *file;

	if (snprintf(name, sizeof(name), "%s.XXXXXX", path) >= (int)sizeof(name))
		return cli_failed("%s: too long", path);
	int fd = mkostemp(name, O_CLOEXEC);
	if (fd < 0)
		return cli_failed("%s: %s", path, strerror(errno));
	file = fdopen(fd, "w");
	CHECK(file);
	print(context, file);
	int failed = ferror(file) | fchmod(fd, mode) | fflush(file);
	failed |= fclose(file);
	if (!failed && !rename(name, path))
		return CLI_DONE;
	failed = errno;
	unlink(name);
	return cli_failed("%s: %s", path, strerror(failed));
}
