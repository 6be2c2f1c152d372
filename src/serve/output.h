/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a connection has to send: a list of memory, each piece with an owner that gets it back when it was sent.
 *
 * Replies are put together in memory that all connections of a thread share, the workspace; they mostly go out at
 * once, and only what the client does not take yet is copied. So a connection that is idle holds no buffer.
 */
#ifndef SERVE_OUTPUT_H
#define SERVE_OUTPUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/check.h"
#include "serve/channel.h"
#include "serve/memory.h"

enum {
	OUTPUT_LIST_MAX = 64,             /* pieces that one system call sends */
	WORKSPACE_OUT_BYTES = 128 << 10,
};

/* Memory with an owner. */
struct chunk {
	struct chunk *next;
	uint8_t *data;
	size_t length;  /* still to be sent; 0 with data NULL: a place for data, see output_place */
	size_t charged; /* of the connection's memory, given back with it */
	void (*release)(struct chunk *chunk);
};

struct workspace {
	uint8_t *out;
	size_t out_used;
	struct chunk chunks[OUTPUT_LIST_MAX];
	unsigned chunks_used;
};

struct output {
	struct workspace *workspace;
	struct memory *memory;
	size_t *held; /* by the connection */
	struct channel *channel;
	struct chunk *first, **last;
	bool is_behind; /* the client does not take it as fast; what is put together now will have to be copied */
	bool is_dead;   /* nothing can be sent any more: everything is thrown away */
};

void output_init(struct output *output, struct workspace *workspace, struct memory *memory, size_t *held,
		 struct channel *channel);
static inline bool output_is_empty(const struct output *output)
{
	return !output->first;
}

/*
 * Where up to `length` bytes can be put, at most WORKSPACE_OUT_BYTES; output_put then says how many there are. May
 * send what is there already.
 */
uint8_t *output_room(struct output *output, size_t length);
void output_put(struct output *output, size_t length);
void output_put_bytes(struct output *output, const void *bytes, size_t length);
/* Takes the chunk over. */
void output_give(struct output *output, struct chunk *chunk);
/* Sends what can be sent now. Afterwards nothing of it is in the workspace. */
void output_send(struct output *output);
/*
 * The chunk that is next to be sent, if it is a place; output_insert puts data before it, output_remove ends it.
 */
struct chunk *output_place(struct output *output);
void output_insert(struct output *output, struct chunk *chunk);
void output_remove(struct output *output);
/* Nothing more is sent. */
void output_die(struct output *output);
void output_free(struct output *output);

#endif
