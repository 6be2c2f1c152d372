/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/request.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

enum {
	EXTENT_BYTES_MAX = 16,
	CACHE_BYTES_MAX = WIRE_PAYLOAD_MAX, /* that one request has read: more would not stay in a cache anyway */
};

#define TRIM_STEP_BYTES (UINT64_C(1) << 30)   /* between two looks at whether the server ends */
#define EXTENT_STEP_BYTES (UINT64_C(1) << 30) /* of one question to the volume, which may hold it up that long */
#define EXTENT_SCAN_BYTES (UINT64_C(1) << 38) /* of one answer */

uint32_t request_error(int error)
{
	switch (error ? lcpfs_error_errno(error) : 0) {
	case 0:
		return 0;
	case ENOSPC:
		return NBD_ENOSPC;
	case ENOMEM:
		return NBD_ENOMEM;
	case EINVAL:
		return NBD_EINVAL;
	case EROFS:
		return NBD_EPERM;
	case ESHUTDOWN:
		return NBD_ESHUTDOWN;
	default:
		return NBD_EIO;
	}
}

/* -- memory -- */

/* The memory goes with the piece. */
static void release_piece(struct chunk *chunk)
{
	piece_free((struct piece *)((char *)chunk - offsetof(struct piece, chunk)));
}

struct piece *piece_new(struct request *request, uint64_t offset, uint64_t length, size_t bytes,
			struct buffers *buffers)
{
	struct piece *piece = calloc(1, sizeof(*piece));
	if (!piece)
		return NULL;
	piece->request = request;
	piece->offset = offset;
	piece->length = length;
	piece->buffers = buffers;
	piece->memory_bytes = bytes;
	piece->memory = bytes ? buffers_take(buffers, bytes) : NULL;
	piece->chunk = (struct chunk){.data = piece->memory, .length = bytes, .release = release_piece};
	if (piece->memory || !bytes)
		return piece;
	free(piece);
	return NULL;
}

void piece_free(struct piece *piece)
{
	if (!piece)
		return;
	buffers_give(piece->buffers, piece->memory, piece->memory_bytes);
	free(piece->message);
	free(piece);
}

void request_free(struct request *request)
{
	free(request->message);
	free(request);
}

/* -- what workers do -- */

static int stopped(struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_STOPPED, "the server is ending");
}

/* In pieces of the memory that there is, and nothing is kept. */
static int read_through(struct piece *piece, uint64_t length, struct lcpfs_failure *failure)
{
	struct export *x = piece->request->export;
	int error = 0;
	for (uint64_t done = 0; done < length && !error;) {
		size_t n = (size_t)MIN_OF(length - done, (uint64_t)piece->chunk.length);
		if (export_is_stopping(x))
			return stopped(failure);
		error = x->backend->read(x->volume, piece->offset + done, piece->chunk.data, n, failure);
		done += n;
	}
	return error;
}

static int trim(struct piece *piece, struct lcpfs_failure *failure)
{
	struct export *x = piece->request->export;
	int error = 0;
	for (uint64_t done = 0; done < piece->length && !error;) {
		uint64_t n = MIN_OF(piece->length - done, TRIM_STEP_BYTES);
		if (export_is_stopping(x))
			return stopped(failure);
		error = x->backend->trim(x->volume, piece->offset + done, n, failure);
		done += n;
	}
	return error;
}

/* AGAIN: it waits for room; the lane's other tasks come first, then it is to be asked again. */
static int write_some(struct piece *piece, uint64_t offset, size_t length, struct lcpfs_failure *failure)
{
	struct export *x = piece->request->export;
	if (!x->backend->write_some)
		return x->backend->write(x->volume, offset, piece->chunk.data, length, failure);
	return x->backend->write_some(x->volume, offset, piece->chunk.data, length, &piece->wait, failure);
}

/* Blocks of zeros take their space, so that writing there later needs no more. */
static int write_zeros(struct piece *piece, struct lcpfs_failure *failure)
{
	int error = 0;
	memset(piece->chunk.data, 0, piece->chunk.length);
	while (piece->zeroed < piece->length && !error) {
		size_t n = (size_t)MIN_OF(piece->length - piece->zeroed, (uint64_t)piece->chunk.length);
		if (export_is_stopping(piece->request->export))
			return stopped(failure);
		error = write_some(piece, piece->offset + piece->zeroed, n, failure);
		if (error)
			break;
		piece->zeroed += n;
		piece->wait.done = 0;
	}
	return error;
}

/* -- extents -- */

struct extents {
	const struct wire *wire;
	uint8_t *at;
	uint32_t count, count_max;
	uint64_t length; /* of the one that is growing */
	uint32_t status;
};

static void end_extent(struct extents *e)
{
	if (!e->length)
		return;
	e->at = wire_put_extent(e->wire, e->length, e->status, e->at);
	e->count++;
	e->length = 0;
}

/* How much of it could be taken. */
static uint64_t add_extent(struct extents *e, uint64_t length, uint32_t status)
{
	uint64_t most = wire_extent_max(e->wire);
	if (e->length && (status != e->status || e->length == most))
		end_extent(e);
	if (e->count == e->count_max)
		return 0;
	uint64_t taken = MIN_OF(length, most - e->length);
	e->length += taken;
	e->status = status;
	return taken;
}

static int find_extents(struct piece *piece, const struct wire *wire, struct lcpfs_failure *failure)
{
	struct export *x = piece->request->export;
	bool one = piece->request->wire.flags & NBD_CMD_FLAG_REQ_ONE;
	/* The client asks on from where it ends. */
	uint32_t room = (uint32_t)(piece->chunk.length / EXTENT_BYTES_MAX);
	struct extents e = {.wire = wire, .at = piece->chunk.data, .count_max = one ? 1 : room};
	uint64_t offset = piece->offset, end = offset + MIN_OF(piece->length, EXTENT_SCAN_BYTES), next, taken;
	bool changes = piece->context == WIRE_CHANGED;
	backend_extent_fn *find = changes ? x->backend->changed : x->backend->extent;
	uint32_t set = changes, unset = changes ? 0 : NBD_STATE_HOLE | NBD_STATE_ZERO;
	do {
		bool is;
		int error = export_is_stopping(x)
				    ? -LCPFS_E_STOPPED
				    : find(x->volume, offset, MIN_OF(end - offset, EXTENT_STEP_BYTES), &is, &next);
		if (error && !e.count && !e.length)
			return failure_set(failure, (enum lcpfs_error)-error, "%s", lcpfs_error_sentence(error));
		if (error)
			break; /* what is known is an answer */
		taken = add_extent(&e, next - offset, is ? set : unset);
		offset += taken;
	} while (taken && offset < end);
	end_extent(&e);
	piece->extents = e.count;
	piece->chunk.length = (size_t)(e.at - piece->chunk.data);
	return 0;
}

static int run(struct piece *piece, struct lcpfs_failure *failure)
{
	struct request *r = piece->request;
	struct export *x = r->export;
	if (export_is_stopping(x))
		return stopped(failure);
	switch (r->wire.type) {
	case NBD_CMD_READ:
		return x->backend->read(x->volume, piece->offset, piece->chunk.data, piece->length, failure);
	case NBD_CMD_WRITE:
		return write_some(piece, piece->offset, piece->length, failure);
	case NBD_CMD_CACHE:
		return read_through(piece, MIN_OF(piece->length, (uint64_t)CACHE_BYTES_MAX), failure);
	case NBD_CMD_WRITE_ZEROES:
		return r->wire.flags & NBD_CMD_FLAG_NO_HOLE ? write_zeros(piece, failure) : trim(piece, failure);
	case NBD_CMD_TRIM:
		return trim(piece, failure);
	default:
		return find_extents(piece, piece->wire, failure);
	}
}

static void note_failure(struct piece *piece, int error, const struct lcpfs_failure *failure)
{
	piece->error = request_error(error);
	piece->message = piece->error && failure->message[0] ? strdup(failure->message) : NULL;
}

void piece_run(struct task *task)
{
	struct piece *piece = (struct piece *)task;
	struct lcpfs_failure failure = {0};
	int error = run(piece, &failure);
	task->again = error == -LCPFS_E_AGAIN;
	if (!task->again)
		note_failure(piece, error, &failure);
}

void piece_run_copy(struct task *task)
{
	struct piece *piece = (struct piece *)task;
	struct export *x = piece->request->export;
	if (!x->backend->try_read(x->volume, piece->offset, piece->chunk.data, piece->length)) {
		mailbox_post(piece->home, task);
		return;
	}
	task->run = piece_run;
	task->home = piece->home;
	lane_submit(x->lanes[EXPORT_READS], task);
}

void piece_run_check(struct task *task)
{
	struct piece *piece = (struct piece *)task;
	struct lcpfs_failure failure = {0};
	note_failure(piece, read_through(piece, piece->length, &failure), &failure);
}
