/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The way to a client: a socket, with TLS on it or without, or what a test puts in its place. Never waits.
 *
 * Functions return what was transferred, or -EAGAIN where they would have to wait, or the negative of another
 * errno, after which the channel is of no use any more. Receiving returns 0 at the end of what the client sends.
 */
#ifndef SERVE_CHANNEL_H
#define SERVE_CHANNEL_H

#include <stdbool.h>
#include <sys/types.h>
#include <sys/uio.h>

struct channel;

struct channel_ops {
	ssize_t (*receive)(struct channel *channel, struct iovec *list, unsigned count);
	ssize_t (*send)(struct channel *channel, struct iovec *list, unsigned count);
	/* Brings it up, where that takes more than a socket: 0 when it is. */
	int (*greet)(struct channel *channel);
	/* There may be something to receive although the socket is not readable. */
	bool (*has_more)(const struct channel *channel);
	/* Something that `send` took is still to be sent by another call of it. */
	bool (*has_unsent)(const struct channel *channel);
	/* The client shall see the end of what we send. */
	void (*finish)(struct channel *channel);
	void (*free)(struct channel *channel);
};

struct channel {
	const struct channel_ops *ops;
	int fd;
	bool is_tcp;
	bool has_filled; /* a Unix socket once, which has more room since */
};

/* On a connected socket that does not block; the channel owns it. NULL: no memory, and the socket is closed. */
struct channel *channel_of_socket(int fd, bool is_tcp);

#endif
