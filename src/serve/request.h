/* SPDX-License-Identifier: Apache-2.0 */
/* What a worker does of a request, and the memory it does it in. */
#ifndef SERVE_REQUEST_H
#define SERVE_REQUEST_H

#include "serve/buffers.h"
#include "serve/export.h"
#include "serve/output.h"
#include "serve/wire.h"

struct connection;

/* One request under way. */
struct request {
	struct request *next; /* among those that wait for memory */
	struct connection *connection;
	struct export *export;
	struct wire_request wire;
	uint64_t at;          /* up to where pieces of it have begun */
	unsigned running;     /* pieces, a flush */
	uint32_t error;       /* the first one */
	char *message;        /* for it; may be NULL */
	bool is_queued;       /* more pieces of it may begin */
	bool is_streamed;     /* its data is read as it is sent, once it was read through */
	bool is_cold;         /* a try to read it has found that it has to be fetched */
	bool is_placed;       /* `place` stands for it in the output */
	struct chunk place;
	struct flush_waiter flush;
};

/* A part of it, done in one go. */
struct piece {
	struct task task;
	struct chunk chunk; /* its memory: what is written, or was read, or descriptors; moves on as it is sent */
	void *memory;       /* all of it, */
	size_t memory_bytes;
	struct buffers *buffers; /* and where it goes back to */
	struct request *request;
	struct mailbox *home;
	uint64_t offset, length; /* of the export */
	size_t filled;      /* bytes of a write that have been received */
	uint64_t zeroed;    /* bytes of a write of zeros that are done */
	uint64_t fetch_us;  /* when the fetch of a read began, by the system's clock */
	struct lcpfs_write_wait wait; /* of the write, or of these, that waits for room */
	uint32_t error;
	char *message;
	const struct wire *wire;   /* for a block status: how descriptors look */
	enum wire_context context; /* and of what */
	uint32_t extents;          /* of them in the chunk */
};

/* NULL: no memory. With `bytes` of memory, which may be 0. */
struct piece *piece_new(struct request *request, uint64_t offset, uint64_t length, size_t bytes,
			struct buffers *buffers);
void piece_free(struct piece *piece);
void request_free(struct request *request);

enum {
	PIECE_STATUS_BYTES = 128 << 10,
	PIECE_SCRATCH_BYTES = 128 << 10
}; /* memory that block status, caching, zeros take */

/* What a worker runs, by the request's type. */
void piece_run(struct task *task);
/*
 * A read, by a helper, that needs no waiting; if it does need it, others go on with it. The task's home is NULL:
 * this posts it to piece->home.
 */
void piece_run_copy(struct task *task);
/* For a read that is to be streamed: reads it all and keeps nothing. */
void piece_run_check(struct task *task);
/* The NBD error for an lcpfs one. */
uint32_t request_error(int error);

#endif
