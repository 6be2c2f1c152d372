/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection: what is received is taken apart, done or given to workers, and answered. It belongs to one thread,
 * its host's, and takes no lock; what workers do for it comes back through the host's mailbox. It knows neither
 * sockets nor the event loop, so that tests can drive it.
 *
 * Order. Requests are begun in the order in which they come and may end in any. A flush begins after all that was
 * answered before it came, on any connection.
 *
 * Memory. What is received goes into a buffer that all connections of a host share; small requests are done from
 * there and answered from the workspace (output.h). What has to wait for a worker or for the client is charged to
 * the connection (memory.h); where it may not hold more, it stops receiving. Long reads and writes are done in
 * pieces.
 *
 * End. After NBD_CMD_DISC, the end of what is received, a breach of the protocol or connection_end, nothing more
 * is begun; what is under way is finished and answered as far as the client takes it. A client that is gone, at
 * whatever moment, leaves requests whose answers go nowhere. Nothing of this can touch another connection.
 */
#ifndef SERVE_CONNECTION_H
#define SERVE_CONNECTION_H

#include "serve/buffers.h"
#include "serve/export.h"
#include "serve/handshake.h"
#include "serve/output.h"

enum {
	WORKSPACE_IN_BYTES = 64 << 10,
	CONNECTION_REQUESTS_MAX = 128,   /* under way */
	CONNECTION_PIECE_BYTES = 256 << 10,
	CONNECTION_SMALL_BYTES = 32 << 10, /* a request that carries no more is done from the shared buffer */
	CONNECTION_TURN_REQUESTS = 64,   /* then others get their turn */
	CONNECTION_TURN_BYTES = 1 << 20,
};

struct connection;

/* The thread that a connection belongs to. */
struct host {
	const struct host_ops *ops;
	struct memory *memory;
	struct exports *exports;
	struct lane *lookups; /* for what is asked of the pool as a whole */
	struct mailbox mailbox;
	uint8_t *in; /* WORKSPACE_IN_BYTES */
	struct workspace workspace;
	struct buffers buffers;
	struct connection *ready; /* those that want a turn, by `next_ready` */
	const struct connection *last; /* who had the last turn, */
	unsigned last_turns;           /* and so many before it: nobody else wants anything, it seems */
	enum serve_tls tls;
};

struct host_ops {
	/* Which of the two the connection waits for, from now on. */
	void (*watch)(struct host *host, struct connection *connection, bool in, bool out);
	/* TLS on top of the channel, which it takes over also where it fails: NULL. */
	struct channel *(*secure)(struct host *host, struct channel *channel);
	/* A request failed, and somebody should know. */
	void (*failed)(struct host *host, const char *message);
	/*
	 * Reads a range of the volume, after which the task is done; verify tells whether the buffer has it then.
	 * False: that cannot be begun, and a worker has to read it.
	 */
	bool (*fetch)(struct host *host, const struct export *export, uint64_t offset, void *buffer, size_t length,
		      bool in_order, struct task *task);
	/* It is over; the connection has been freed. `why` is for a log, NULL where there is nothing to say. */
	void (*ended)(struct host *host, void *owner, const char *why);
};

/* It has to have its first turn at once. `owner` is the host's. NULL: no memory; the channel is freed. */
struct connection *connection_new(struct host *host, struct channel *channel, void *owner);
void *connection_owner(const struct connection *connection);

/* Gives it a turn: something can be received or sent, or it stands in host->ready. It may be gone afterwards. */
void connection_turn(struct connection *connection, bool readable);
/* All that stand in host->ready. */
void connection_turn_ready(struct host *host);
/* From its next turn on nothing more is received. */
void connection_end(struct connection *connection);
/* And nothing more is sent: the client is cut off. */
void connection_cut(struct connection *connection, const char *why);
bool connection_is_shaking_hands(const struct connection *connection);

#endif
