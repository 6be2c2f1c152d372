/* SPDX-License-Identifier: Apache-2.0 */
/* A socket as it is. */
#include "serve/channel.h"

#include <errno.h>
#include <stdlib.h>
#include <sys/socket.h>
#include <unistd.h>

/* The kernel doubles it, as its own books take their part, and gives no more than net.core.wmem_max. */
enum { UNIX_SEND_BYTES = 512 << 10 };

static ssize_t result(ssize_t done)
{
	if (done >= 0)
		return done;
	return errno == EWOULDBLOCK || errno == EINTR ? -EAGAIN : -errno;
}

static ssize_t socket_receive(struct channel *channel, struct iovec *list, unsigned count)
{
	struct msghdr message = {.msg_iov = list, .msg_iovlen = count};
	return result(recvmsg(channel->fd, &message, MSG_DONTWAIT));
}

/*
 * As the system makes it, a Unix socket is full with one reply of 128 KiB, and the client has to take that before
 * the next can be sent. TCP's room grows by itself, as long as it is not set.
 */
static void make_room(struct channel *channel)
{
	channel->has_filled = true;
	setsockopt(channel->fd, SOL_SOCKET, SO_SNDBUF, &(int){UNIX_SEND_BYTES}, sizeof(int));
}

static ssize_t socket_send(struct channel *channel, struct iovec *list, unsigned count)
{
	struct msghdr message = {.msg_iov = list, .msg_iovlen = count};
	ssize_t sent = result(sendmsg(channel->fd, &message, MSG_DONTWAIT | MSG_NOSIGNAL));
	if (sent == -EAGAIN && !channel->is_tcp && !channel->has_filled)
		make_room(channel);
	return sent;
}

static int socket_greet(struct channel *channel)
{
	(void)channel;
	return 0;
}

static bool socket_has_none(const struct channel *channel)
{
	(void)channel;
	return false;
}

static void socket_finish(struct channel *channel)
{
	shutdown(channel->fd, SHUT_WR);
}

static void socket_free(struct channel *channel)
{
	close(channel->fd);
	free(channel);
}

static const struct channel_ops socket_ops = {
	.receive = socket_receive,
	.send = socket_send,
	.greet = socket_greet,
	.has_more = socket_has_none,
	.has_unsent = socket_has_none,
	.finish = socket_finish,
	.free = socket_free,
};

struct channel *channel_of_socket(int fd, bool is_tcp)
{
	struct channel *channel = malloc(sizeof(*channel));
	if (!channel) {
		close(fd);
		return NULL;
	}
	*channel = (struct channel){.ops = &socket_ops, .fd = fd, .is_tcp = is_tcp};
	return channel;
}
