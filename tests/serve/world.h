/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A connection of the server in a world without sockets, threads and time: what is received and sent, whether the
 * volume answers at once, which worker gets on and when, all that is drawn from a seed. So a run is its seed.
 */
#ifndef SERVE_WORLD_H
#define SERVE_WORLD_H

#include "serve/connection.h"

enum { WORLD_NAME_MAX = 16, WORLD_BLOCK = 4096 };

struct world_volume {
	char name[WORLD_NAME_MAX];
	uint64_t bytes;
	bool read_only;
	uint8_t *data;
	bool *written;       /* by block: it is no hole */
	uint64_t bad_from, bad_to; /* reading there fails */
	uint64_t lost_from;        /* 0, or from where on the map cannot be read */
	int write_error;           /* of whoever may wait; who may not is told to come again */
	int flush_error;
	void (*flushing)(struct world_volume *volume); /* called amid a flush, or NULL */
	unsigned flushes;
	uint64_t unflushed;  /* writes since the last flush began */
};

/* What the world does, in percent. */
struct world_nature {
	unsigned waits;    /* what is tried would have to wait */
	unsigned dribbles; /* a transfer is a part of what it could be */
	unsigned stalls;   /* the client takes nothing for the moment */
};

/* A read past everything else: when it was asked for, and when it had ended, in µs. */
struct world_fetch {
	const struct task *task;
	const void *buffer;
	uint64_t begun_us, ended_us;
};

struct world {
	struct host host; /* first: operations get it */
	struct memory memory;
	struct workers *workers;
	struct world_volume volumes[2];
	unsigned volume_count;
	struct world_nature nature;
	uint64_t random;

	struct channel channel; /* the server's end */
	struct bytes to_server;
	size_t received;
	bool is_closed;  /* the client sends no more */
	bool is_reset;   /* and takes no more */
	struct bytes to_client;
	bool is_finished, is_freed; /* the server's end */

	struct connection *connection; /* NULL when it is over */
	const char *why;
	bool watches_in, watches_out;
	struct task *pending[1024];
	unsigned pending_count;
	struct world_fetch fetches[64]; /* the youngest ones, by turns */
	unsigned fetch_count;
	unsigned failures; /* reported */
	size_t held_most;
};

/* Volumes: "db" of `bytes`, and "ro", read-only, of a block. The connection has greeted. */
void world_begin(struct world *world, uint64_t seed, struct world_nature nature, uint64_t bytes);
/* Everything that was begun is ended, whatever state it is in. */
void world_end(struct world *world);
uint64_t world_random(struct world *world, uint64_t below);
/* One thing happens; false: nothing can happen until the client does something. */
bool world_step(struct world *world);
void world_run_one(struct world *world); /* a worker does one of what is pending */
void world_settle(struct world *world); /* until nothing can happen */
void world_send(struct world *world, const void *bytes, size_t length); /* the client does */

/* What the context of changes says of a block. */
static inline bool world_changed(uint64_t block)
{
	return block / 3 % 2;
}

#endif
