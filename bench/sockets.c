/* SPDX-License-Identifier: Apache-2.0 */
/*
 * How a loop should wait for its sockets: the same smallest server, one thread, once by epoll and once by
 * io_uring. It shakes hands with nbd-load (client.c) and answers reads with zeros, as many in one send as one
 * receive brought. docs/server.md has what came out.
 *
 * usage: serve-sockets epoll|uring SOCKET CONNECTIONS     (it ends when all of them have)
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "serve/be.h"
#include "serve/proto.h"

enum { HEADER = 28, REPLY = 16, IN_BYTES = 64 << 10, OUT_BYTES = 1 << 20, EVENTS = 64, ENTRIES = 1024 };

struct client {
	int fd;
	uint8_t *in, *out;
	size_t in_length, out_length, out_sent;
	bool is_sending; /* by io_uring: nothing more is put into `out` meanwhile */
};

static void fail(const char *what)
{
	perror(what);
	exit(1);
}

/* -- what both do -- */

static void transfer_all(int fd, void *bytes, size_t length, bool sends)
{
	for (uint8_t *at = bytes; length;) {
		ssize_t n = sends ? write(fd, at, length) : read(fd, at, length);
		if (n <= 0)
			fail("handshake");
		at += n;
		length -= (size_t)n;
	}
}

static void welcome(struct client *c, int listen_fd)
{
	uint8_t greeting[18], hello[20], name[256], size[10];
	c->fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (c->fd < 0)
		fail("accept");
	be16_put(be64_put(be64_put(greeting, NBD_MAGIC), NBD_OPTION_MAGIC), 3);
	transfer_all(c->fd, greeting, sizeof(greeting), true);
	transfer_all(c->fd, hello, sizeof(hello), false);
	if (be32_get(hello + 12) != NBD_OPT_EXPORT_NAME || be32_get(hello + 16) > sizeof(name))
		fail("handshake");
	transfer_all(c->fd, name, be32_get(hello + 16), false);
	be16_put(be64_put(size, UINT64_C(1) << 30), 1);
	transfer_all(c->fd, size, sizeof(size), true);
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	c->in = malloc(IN_BYTES);
	c->out = calloc(1, OUT_BYTES);
	if (!c->in || !c->out)
		fail("memory");
}

/* Answers what is whole of what is in, as far as there is room. */
static void answer(struct client *c)
{
	size_t used = 0;
	while (c->in_length - used >= HEADER) {
		const uint8_t *request = c->in + used;
		size_t length = be32_get(request + 24);
		if (c->out_length + REPLY + length > OUT_BYTES)
			break;
		uint8_t *at = c->out + c->out_length;
		at = be32_put(be32_put(at, NBD_SIMPLE_REPLY_MAGIC), 0);
		memcpy(at, request + 8, 8);
		memset(at + 8, 0, length);
		c->out_length += REPLY + length;
		used += HEADER;
	}
	memmove(c->in, c->in + used, c->in_length - used);
	c->in_length -= used;
}

static void sent(struct client *c, size_t length)
{
	c->out_sent += length;
	if (c->out_sent == c->out_length)
		c->out_sent = c->out_length = 0;
}

/* -- epoll -- */

/* false: it has gone. */
static bool turn(struct client *c)
{
	ssize_t n = recv(c->fd, c->in + c->in_length, IN_BYTES - c->in_length, 0);
	if (n == 0 || (n < 0 && errno != EAGAIN))
		return false;
	c->in_length += n > 0 ? (size_t)n : 0;
	answer(c);
	n = c->out_length ? send(c->fd, c->out + c->out_sent, c->out_length - c->out_sent, MSG_NOSIGNAL) : 0;
	if (n < 0 && errno != EAGAIN)
		return false;
	sent(c, n > 0 ? (size_t)n : 0);
	return true;
}

static void run_epoll(struct client *clients, unsigned count)
{
	struct epoll_event events[EVENTS];
	int epoll_fd = epoll_create1(0);
	for (unsigned i = 0; i < count; i++) {
		struct epoll_event event = {.events = EPOLLIN, .data.ptr = &clients[i]};
		if (epoll_ctl(epoll_fd, EPOLL_CTL_ADD, clients[i].fd, &event))
			fail("epoll");
	}
	while (count) {
		int ready = epoll_wait(epoll_fd, events, EVENTS, -1);
		for (int i = 0; i < ready; i++) {
			struct client *c = events[i].data.ptr;
			if (!turn(c)) {
				close(c->fd);
				count--;
				continue;
			}
			struct epoll_event event = {.events = EPOLLIN | (c->out_length ? (uint32_t)EPOLLOUT : 0),
						    .data.ptr = c};
			if (c->out_length || events[i].events & EPOLLOUT)
				epoll_ctl(epoll_fd, EPOLL_CTL_MOD, c->fd, &event);
		}
	}
}

/* -- io_uring: what is to be sent and received of all of them goes into one system call -- */

enum { RECEIVED = 0, SENT = 1 };

static struct io_uring_sqe *entry(struct io_uring *ring)
{
	struct io_uring_sqe *sqe = io_uring_get_sqe(ring);
	if (!sqe) {
		io_uring_submit(ring);
		sqe = io_uring_get_sqe(ring);
	}
	return sqe;
}

static void ask(struct io_uring *ring, struct client *c)
{
	struct io_uring_sqe *sqe = entry(ring);
	io_uring_prep_recv(sqe, c->fd, c->in + c->in_length, IN_BYTES - c->in_length, 0);
	sqe->ioprio = IORING_RECVSEND_POLL_FIRST;
	io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)c | RECEIVED);
}

static void send_answers(struct io_uring *ring, struct client *c)
{
	if (c->is_sending || !c->out_length)
		return;
	struct io_uring_sqe *sqe = entry(ring);
	io_uring_prep_send(sqe, c->fd, c->out + c->out_sent, c->out_length - c->out_sent, MSG_NOSIGNAL);
	io_uring_sqe_set_data64(sqe, (uint64_t)(uintptr_t)c | SENT);
	c->is_sending = true;
}

/* false: it has gone. */
static bool complete(struct io_uring *ring, struct client *c, bool was_send, int result)
{
	if (was_send) {
		c->is_sending = false;
		sent(c, result > 0 ? (size_t)result : 0);
	} else if (result > 0) {
		c->in_length += (size_t)result;
	} else {
		return false;
	}
	if (!c->is_sending && !c->out_length)
		answer(c);
	send_answers(ring, c);
	if (!was_send)
		ask(ring, c);
	return true;
}

static void run_uring(struct client *clients, unsigned count)
{
	struct io_uring ring;
	struct io_uring_cqe *cqe;
	unsigned head, seen;
	int err = io_uring_queue_init(ENTRIES, &ring, IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN);
	if (err) {
		errno = -err;
		fail("io_uring");
	}
	for (unsigned i = 0; i < count; i++)
		ask(&ring, &clients[i]);
	while (count) {
		io_uring_submit_and_wait(&ring, 1);
		seen = 0;
		io_uring_for_each_cqe (&ring, head, cqe) {
			uint64_t data = io_uring_cqe_get_data64(cqe);
			struct client *c = (struct client *)(uintptr_t)(data & ~UINT64_C(1));
			if (!complete(&ring, c, data & SENT, cqe->res))
				count--;
			seen++;
		}
		io_uring_cq_advance(&ring, seen);
	}
}

int main(int argc, char **argv)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	if (argc != 4 || strlen(argv[2]) >= sizeof(address.sun_path)) {
		fprintf(stderr, "usage: %s epoll|uring SOCKET CONNECTIONS\n", argv[0]);
		return 2;
	}
	unsigned count = (unsigned)atoi(argv[3]);
	struct client *clients = calloc(count, sizeof(*clients));
	int listen_fd = socket(AF_UNIX, SOCK_STREAM, 0);
	strcpy(address.sun_path, argv[2]);
	if (!clients || bind(listen_fd, (struct sockaddr *)&address, sizeof(address)) || listen(listen_fd, 128))
		fail(argv[2]);
	for (unsigned i = 0; i < count; i++)
		welcome(&clients[i], listen_fd);
	if (strcmp(argv[1], "uring"))
		run_epoll(clients, count);
	else
		run_uring(clients, count);
	unlink(argv[2]);
	return 0;
}
