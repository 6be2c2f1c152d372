/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The journal's own protocol is one datagram of lines NAME=VALUE, documented to be spoken without its library
 * (systemd.io/JOURNAL_NATIVE_PROTOCOL); less than that library's conditional build, as in serve/notify.c.
 */
#include "journal.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "base/check.h"

bool journal_is_there(void)
{
	return getenv("JOURNAL_STREAM") != NULL;
}

/* Where it listens; LCPFS_JOURNAL_SOCKET is for tests. */
static void set_address(struct sockaddr_un *address)
{
	const char *other = getenv("LCPFS_JOURNAL_SOCKET");
	*address = (struct sockaddr_un){.sun_family = AF_UNIX};
	snprintf(address->sun_path, sizeof(address->sun_path), "%s",
		 other ? other : "/run/systemd/journal/socket");
}

void journal_send(int priority, const char *message, const struct journal_field *fields)
{
	struct sockaddr_un address;
	size_t length;
	char *text = NULL;
	FILE *out = open_memstream(&text, &length);
	int fd = socket(AF_UNIX, SOCK_DGRAM | SOCK_CLOEXEC, 0);

	CHECK(out);
	fprintf(out, "SYSLOG_IDENTIFIER=lcpfs\nPRIORITY=%d\nMESSAGE=%s\n", priority, message);
	for (; fields->name; fields++)
		fprintf(out, "%s=%s\n", fields->name, fields->value);
	CHECK(!fclose(out));
	set_address(&address);
	if (fd >= 0) {
		(void)!sendto(fd, text, length, MSG_NOSIGNAL | MSG_DONTWAIT, (struct sockaddr *)&address,
			      sizeof(address));
		close(fd);
	}
	free(text);
}
