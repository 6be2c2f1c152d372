/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The server over a volume that stores nothing and reads as zeros: what of a pool's speed is the server's. The
 * peer is nbdkit's null plugin.
 *
 * usage: serve-null SOCKET BYTES [LOOPS]
 */
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "control/listen.h"
#include "serve/server.h"

static uint64_t bytes;

static int null_list(void *context, struct backend_export **list, size_t *count, struct lcpfs_failure *failure)
{
	(void)context, (void)failure;
	*list = calloc(1, sizeof(**list));
	*count = *list ? 1 : 0;
	return 0;
}

static int null_open(void *context, const char *name, void **volume, struct backend_export *info,
		     struct lcpfs_failure *failure)
{
	(void)name, (void)failure;
	*volume = context;
	*info = (struct backend_export){.bytes = bytes};
	return 0;
}

static void null_close(void *volume)
{
	(void)volume;
}

static int null_try_read(void *volume, uint64_t offset, void *buffer, size_t length)
{
	(void)volume, (void)offset;
	memset(buffer, 0, length);
	return 0;
}

static int null_read(void *volume, uint64_t offset, void *buffer, size_t length, struct lcpfs_failure *failure)
{
	(void)failure;
	return null_try_read(volume, offset, buffer, length);
}

static int null_try_write(void *volume, uint64_t offset, const void *buffer, size_t length, size_t *done,
			  bool *unsettled)
{
	(void)volume, (void)offset, (void)buffer, (void)unsettled;
	*done = length;
	return 0;
}

static int null_write(void *volume, uint64_t offset, const void *buffer, size_t length,
		      struct lcpfs_failure *failure)
{
	(void)volume, (void)offset, (void)buffer, (void)length, (void)failure;
	return 0;
}

static int null_trim(void *volume, uint64_t offset, uint64_t length, struct lcpfs_failure *failure)
{
	(void)volume, (void)offset, (void)length, (void)failure;
	return 0;
}

static int null_flush(void *volume, struct lcpfs_failure *failure)
{
	(void)volume, (void)failure;
	return 0;
}

static int null_extent(void *volume, uint64_t offset, uint64_t length, bool *data, uint64_t *end)
{
	(void)volume;
	*data = false;
	*end = offset + length;
	return 0;
}

static const struct backend null_backend = {
	.list = null_list,
	.open = null_open,
	.close = null_close,
	.try_read = null_try_read,
	.read = null_read,
	.try_write = null_try_write,
	.write = null_write,
	.trim = null_trim,
	.flush = null_flush,
	.extent = null_extent,
	.settle = null_close,
};

int main(int argc, char **argv)
{
	static int nothing;
	struct server_config config = {.backend = &null_backend, .context = &nothing};
	struct lcpfs_failure failure;
	struct server *server;
	struct listen_socket socket;
	if (argc < 3) {
		fprintf(stderr, "usage: %s SOCKET BYTES [LOOPS]\n", argv[0]);
		return 2;
	}
	bytes = strtoull(argv[2], NULL, 0);
	config.loops = argc > 3 ? (unsigned)atoi(argv[3]) : 0;
	if (listen_open(argv[1], &socket, &failure) || server_new(&config, &server, &failure)) {
		fprintf(stderr, "%s\n", failure.message);
		return 1;
	}
	fcntl(socket.fd, F_SETFL, O_NONBLOCK);
	for (struct pollfd listening = {.fd = socket.fd, .events = POLLIN};;) {
		poll(&listening, 1, -1);
		(void)!server_accept(server, socket.fd);
	}
}
