/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: what a client sends over the control socket, served by the server's own code on a small pool. Every
 * line must get one answer.
 *
 * The first byte says in which pieces the rest is sent and whether the client then waits for its answers or only
 * ends its half of the connection. In the rest, a byte 1 stands for a long run: of the byte after the next, as
 * many KiB as the next says.
 */
#include <fcntl.h>
#include <poll.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "control/server.h"
#include "fuzz.h"
#include "images.h"
#include "pool/pool.h"

enum { SENT_MAX = 200 * 1024, LINE_MAX_BYTES = 64 * 1024, LINES_MAX = 64, RUN = 1 };

static const struct clock fuzz_clock = {images_now_us, images_wall_s, NULL};

struct client {
	int fd;
	char *bytes;
	size_t length, sent;
	size_t piece;
	bool hangs_up;
	unsigned asked, answered;
	bool too_long;       /* a line was: the server ends the connection */
	char begin[8];       /* of the line that is being received */
	size_t begin_length;
};

/* -- what is sent -- */

static void fill(struct client *c, const uint8_t *bytes, size_t length)
{
	c->bytes = malloc(SENT_MAX);
	CHECK(c->bytes);
	for (size_t i = 0; i < length && c->length < SENT_MAX; i++) {
		if (bytes[i] == RUN && i + 2 < length && bytes[i + 2] != '\n') {
			size_t run = MIN_OF((size_t)bytes[i + 1] * 1024, SENT_MAX - c->length);
			memset(c->bytes + c->length, bytes[i + 2], run);
			c->length += run;
			i += 2;
		} else {
			c->bytes[c->length++] = (char)bytes[i];
		}
	}
	for (size_t i = 0, line = 0; i < c->length; i++) {
		line++;
		c->too_long |= line >= LINE_MAX_BYTES;
		c->asked += c->bytes[i] == '\n';
		if (c->asked == LINES_MAX)
			c->length = i + 1;
		if (c->bytes[i] == '\n')
			line = 0;
	}
}

/* -- the client -- */

static void take_end_of_line(struct client *c)
{
	if (memcmp(c->begin, "{\"progr", 7) == 0)
		return;
	CHECK(memcmp(c->begin, "{\"ok\":", 6) == 0);
	c->answered++;
}

/* false: the server has ended the connection. */
static bool receive(struct client *c)
{
	char bytes[4096];
	ssize_t got = recv(c->fd, bytes, sizeof(bytes), MSG_DONTWAIT);
	for (ssize_t i = 0; i < got; i++) {
		if (bytes[i] == '\n')
			take_end_of_line(c);
		else if (c->begin_length < sizeof(c->begin))
			c->begin[c->begin_length++] = bytes[i];
		if (bytes[i] == '\n')
			c->begin_length = 0;
	}
	return got != 0;
}

static bool send_piece(struct client *c)
{
	size_t piece = MIN_OF(c->piece, c->length - c->sent);
	ssize_t sent = send(c->fd, c->bytes + c->sent, piece, MSG_DONTWAIT | MSG_NOSIGNAL);
	c->sent += sent > 0 ? (size_t)sent : 0;
	if (c->sent == c->length && c->hangs_up)
		shutdown(c->fd, SHUT_WR);
	return sent >= 0;
}

static void *client_thread(void *context)
{
	struct client *c = context;
	bool open = true;
	if (c->hangs_up && !c->length)
		shutdown(c->fd, SHUT_WR);
	while (open && (c->sent < c->length || c->hangs_up || c->too_long || c->answered < c->asked)) {
		struct pollfd fd = {.fd = c->fd, .events = POLLIN | (c->sent < c->length ? POLLOUT : 0)};
		poll(&fd, 1, -1);
		if (fd.revents & POLLOUT)
			open = send_piece(c);
		if (open && fd.revents & (POLLIN | POLLHUP))
			open = receive(c);
	}
	close(c->fd);
	return NULL;
}

/* -- the target -- */

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	struct lcpfs_open_options open = {.cache_bytes = MIB};
	struct lcpfs_pool *pool;
	pthread_t thread;
	int ends[2];
	if (length < 2)
		return 0;
	struct client client = {.hangs_up = bytes[0] % 2};
	fill(&client, bytes + 1, length - 1);
	client.piece = client.length / (bytes[0] / 2u % 32 + 1) + 1;
	CHECK(!pool_open_vdev(images_start(0), &fuzz_clock, &open, &pool, NULL));
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
	client.fd = ends[1];
	CHECK(!pthread_create(&thread, NULL, client_thread, &client));
	control_serve(pool, ends[0]);
	pthread_join(thread, NULL);
	CHECK(client.too_long || client.answered == client.asked);
	CHECK(!lcpfs_pool_close(pool, NULL));
	free(client.bytes);
	return 0;
}
