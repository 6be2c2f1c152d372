/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of a connection share: connection.c receives and takes turns, negotiate.c does the handshake,
 * transfer.c the requests.
 */
#ifndef SERVE_PARTS_H
#define SERVE_PARTS_H

#include "serve/connection.h"
#include "serve/request.h"

#define OWNER_OF(type, member, pointer) ((type *)((char *)(pointer) - offsetof(type, member)))

enum phase { PHASE_HANDSHAKE, PHASE_SECURING, PHASE_TRANSMISSION };

/* What came of an attempt to begin a request. */
enum begun { BEGUN, LATER /* when the connection holds less memory */ };

/* A worker's way to a connection's unread pieces. */
struct helper {
	struct task task;
	struct connection *connection;
	bool is_called;
};

struct connection {
	struct host *host;
	void *owner;
	struct channel *channel;
	enum phase phase;
	struct handshake *handshake; /* NULL in the transmission phase */
	bool is_looking_up, is_secure;
	struct wire wire;
	struct export *export;

	uint8_t *stash;      /* received, and not taken yet */
	size_t stash_bytes;
	struct request *receiving; /* a write whose data does not fit into the shared buffer */
	struct piece *place;       /* for the next part of it; NULL: memory is short */
	uint64_t skip;             /* bytes to throw away */
	bool is_large; /* its last write was such a one: it receives the next header with little behind it */

	struct request *waiting, **waiting_last; /* reads that have not begun as a whole */
	struct tasks finished;                   /* came back from workers */
	unsigned running;                        /* requests, helpers, and a look-up */
	pthread_mutex_t unread_lock;
	struct tasks unread;                       /* pieces of reads that nobody has yet; helpers take some */
	struct helper helpers[EXPORT_HELPERS_MAX]; /* as many as the export may have */
	size_t held;                             /* memory */
	bool is_short;                           /* something waits for memory, */
	size_t short_at;                         /* since it held so much */
	struct output output;

	struct connection *next_ready;
	bool is_ready; /* it stands in host->ready */
	bool is_ending, is_cut; /* what the host wants */
	bool has_ended; /* the client sends no more; what is stashed is still taken */
	bool is_input_over, is_lingering;
	const char *why;
};

/* What has been done of the present turn. */
struct turn {
	unsigned requests;
	size_t bytes;
	bool has_more; /* of long writes, to be received */
};

/* -- connection.c -- */

void connection_want_turn(struct connection *connection);
/* What was given to a worker, or to the system, is done; it is finished in a turn of the connection. */
void connection_take_back(struct connection *connection, struct task *task);
/* Nothing more is received, and requests of which not all has come are given up. */
void connection_end_input(struct connection *connection, const char *why);
/* And nothing more is sent. */
void connection_fail(struct connection *connection, const char *why);

/* -- negotiate.c -- */

/* What the handshake takes of the bytes. */
size_t negotiate_take(struct connection *connection, const uint8_t *bytes, size_t length);
/* A look-up that came back from its worker. */
void negotiate_finish(struct connection *connection, struct task *task);
/* The next step of bringing TLS up. */
void negotiate_secure(struct connection *connection);
void negotiate_greet(struct connection *connection);
void negotiate_free(struct connection *connection);

/* -- transfer.c -- */

/* A request whose data, if it has any, is at `data`. */
enum begun transfer_begin(struct connection *connection, const struct wire_request *request, const uint8_t *data,
			  struct turn *turn) MUST_CHECK;
/* A write whose data is still to be received. */
enum begun transfer_begin_long_write(struct connection *connection, const struct wire_request *request) MUST_CHECK;
/* After something of connection->receiving came, or was thrown away, or where it has no place. */
void transfer_go_on_receiving(struct connection *connection, struct turn *turn);
/* No more of connection->receiving comes. `error`: so it has failed. */
void transfer_receive_no_more(struct connection *connection, uint32_t error);
void transfer_begin_waiting(struct connection *connection, struct turn *turn);
/* A share of what is unread; what is left then is for helpers and for the next turn. */
void transfer_read(struct connection *connection);
bool transfer_has_unread(struct connection *connection);
/* All that waits is given up. */
void transfer_give_up_waiting(struct connection *connection);
/* Something that came back from a worker; false: it is none of these. */
bool transfer_finish(struct connection *connection, struct task *task) MUST_CHECK;
/* The next data of a read that is read as it is sent: its place is at the front of the output. false: not yet. */
bool transfer_stream(struct connection *connection, struct chunk *place) MUST_CHECK;
/*
 * Once what it carries was received and thrown away: some clients take an answer that comes before for a mistake.
 */
enum begun transfer_refuse(struct connection *connection, const struct wire_request *request, uint32_t error,
			   const char *reason) MUST_CHECK;

#endif
