/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The requests of a connection, from their headers to their answers. What can be done at once is done at once;
 * else a request gets memory and is done in pieces by workers. Where the connection may not hold that memory now,
 * reads wait in connection->waiting and writes are not received.
 */
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "serve/parts.h"

enum {
	ALONE_TURNS = 4,            /* that a connection has had, one after the other: it seems to be alone */
	HELP_PIECES = 8,            /* that a helper reads before other connections get their turn */
	TURN_READ_BYTES = 128 << 10 /* that the loop reads before it sends again */
};

static void finish_piece(struct connection *c, struct piece *piece);

/* -- replies -- */

static void put_error(struct connection *c, const struct wire_request *request, uint32_t error,
		      const char *message)
{
	uint8_t *at = output_room(&c->output, WIRE_REPLY_MAX);
	output_put(&c->output, (size_t)(wire_put_error(&c->wire, request, error, message, at) - at));
}

static void put_done(struct connection *c, const struct wire_request *request)
{
	uint8_t *at = output_room(&c->output, WIRE_REPLY_MAX);
	output_put(&c->output, (size_t)(wire_put_done(&c->wire, request, at) - at));
}

static void put_data(struct connection *c, const struct wire_request *request, uint64_t offset, uint64_t length,
		     bool last)
{
	uint8_t *at = output_room(&c->output, WIRE_REPLY_MAX);
	output_put(&c->output,
		   (size_t)(wire_put_data(&c->wire, request, offset, (uint32_t)length, last, at) - at));
}

static enum begun no_memory(struct connection *c, const struct wire_request *request)
{
	put_error(c, request, NBD_ENOMEM, "the server is out of memory");
	return BEGUN;
}

/* -- requests -- */

static struct request *request_new(struct connection *c, const struct wire_request *wire)
{
	struct request *r = calloc(1, sizeof(*r));
	if (!r)
		return NULL;
	r->connection = c;
	r->export = c->export;
	r->wire = *wire;
	r->at = wire->offset;
	c->running++;
	return r;
}

static void end_request(struct connection *c, struct request *r)
{
	if (r->error == NBD_EIO && r->message)
		c->host->ops->failed(c->host, r->message);
	c->running--;
	request_free(r);
}

static void note_error(struct request *r, uint32_t error, char **message)
{
	if (!error || r->error)
		return;
	r->error = error;
	r->message = message ? *message : NULL;
	if (message)
		*message = NULL;
}

static void flush_done(struct task *task)
{
	connection_take_back(OWNER_OF(struct request, flush.task, task)->connection, task);
}

static void flush_request(struct connection *c, struct request *r)
{
	r->flush.task = (struct task){.done = flush_done, .home = &c->host->mailbox};
	export_flush(c->export, &r->flush);
}

/*
 * Somebody who writes and flushes, one after the other, and nobody else wants anything of this thread: then it
 * waits for the device itself, as the way to a worker and back takes a third of such a flush. False: a worker has
 * to do it.
 */
static bool flush_here(struct connection *c, const struct wire_request *request)
{
	int error;
	if (c->host->last_turns < ALONE_TURNS || c->running || !output_is_empty(&c->output) ||
	    !export_flush_here(c->export, &error))
		return false;
	if (error)
		put_error(c, request, request_error(error), NULL);
	else
		put_done(c, request);
	return true;
}

static void note_written(struct connection *c, size_t bytes)
{
	atomic_fetch_add_explicit(&c->export->unflushed_bytes, bytes, memory_order_relaxed);
}

static bool is_change(const struct request *r)
{
	return r->wire.type == NBD_CMD_WRITE || r->wire.type == NBD_CMD_TRIM ||
	       r->wire.type == NBD_CMD_WRITE_ZEROES;
}

/* Nothing of it is under way any more. */
static void finish_request(struct connection *c, struct request *r)
{
	bool has_flushed = r->flush.task.home;
	bool has_answer = r->wire.type == NBD_CMD_READ || r->wire.type == NBD_CMD_BLOCK_STATUS;
	if (!r->error && is_change(r) && r->wire.flags & NBD_CMD_FLAG_FUA && !has_flushed) {
		flush_request(c, r);
		return;
	}
	if (r->error)
		put_error(c, &r->wire, r->error, r->message);
	else if (!has_answer)
		put_done(c, &r->wire);
	end_request(c, r);
}

/* -- memory -- */

static void be_short(struct connection *c)
{
	c->is_short = true;
	c->short_at = c->held;
}

/* It may hold so much more; *bytes is made less where that helps and it is `divisible`. */
static bool take_memory(struct connection *c, size_t *bytes, bool divisible)
{
	if (memory_take(c->host->memory, &c->held, *bytes))
		return true;
	size_t reserve = c->held < MEMORY_RESERVE ? MEMORY_RESERVE - c->held : 0;
	size_t less = MIN_OF(*bytes, reserve) & ~(size_t)(WIRE_BLOCK_PREFERRED - 1);
	if (!divisible || less < MIN_OF((size_t)CONNECTION_SMALL_BYTES, *bytes) ||
	    !memory_take(c->host->memory, &c->held, less))
		return false;
	*bytes = less;
	return true;
}

/* With memory that was taken. NULL, with it given back: there is none in fact. */
static struct piece *piece_make(struct connection *c, struct request *r, uint64_t length, size_t bytes)
{
	struct piece *piece = piece_new(r, r->at, length, bytes, &c->host->buffers);
	if (piece) {
		piece->chunk.charged = bytes;
		piece->wire = &c->wire;
		return piece;
	}
	memory_give(c->host->memory, &c->held, bytes);
	note_error(r, NBD_ENOMEM, NULL);
	return NULL;
}

static void piece_drop(struct connection *c, struct piece *piece)
{
	memory_give(c->host->memory, &c->held, piece->chunk.charged);
	piece_free(piece);
}

static void piece_done(struct task *task)
{
	connection_take_back(((struct piece *)task)->request->connection, task);
}

static void piece_submit(struct connection *c, struct piece *piece, void (*run)(struct task *))
{
	uint16_t type = piece->request->wire.type;
	bool changes = is_change(piece->request);
	enum export_lane lane = type == NBD_CMD_WRITE ? EXPORT_WRITES : changes ? EXPORT_TRIMS : EXPORT_READS;
	piece->task = (struct task){.run = run, .done = piece_done, .home = &c->host->mailbox};
	if (lane == EXPORT_WRITES)
		atomic_fetch_add(&c->export->writes_queued, 1);
	lane_submit(c->export->lanes[lane], &piece->task);
}

/* -- reading -- */

static _Atomic uint64_t *end_place(struct export *x, uint64_t offset)
{
	return &x->ends[offset / WIRE_BLOCK_PREFERRED % EXPORT_ENDS];
}

/* Does it go on where one ended, by whatever client? Who does so lately is remembered; of others only misses. */
static bool note_order(struct export *x, uint64_t offset, uint64_t length, bool missed)
{
	bool in_order = atomic_load_explicit(end_place(x, offset), memory_order_relaxed) == offset;
	if (in_order || missed)
		atomic_store_explicit(end_place(x, offset + length), offset + length, memory_order_relaxed);
	return in_order;
}

static bool try_read(struct connection *c, struct piece *piece)
{
	struct export *x = c->export;
	return x->backend->try_read(x->volume, piece->offset, piece->chunk.data, piece->length) == 0;
}

static void fetch_done(struct task *task)
{
	connection_take_back(((struct piece *)task)->request->connection, task);
}

/* Without a worker: the way to one and back costs more than the read. */
static bool fetch(struct connection *c, struct piece *piece)
{
	bool in_order = note_order(c->export, piece->offset, piece->length, true);
	piece->task = (struct task){.done = fetch_done};
	piece->fetch_us = clock_us(&clock_system);
	return c->host->ops->fetch(c->host, c->export, piece->offset, piece->chunk.data, (size_t)piece->length,
				   in_order, &piece->task);
}

/* It should be there. If not, somebody who may wait finds out why. */
static void read_or_submit(struct connection *c, struct piece *piece)
{
	if (try_read(c, piece))
		finish_piece(c, piece);
	else
		piece_submit(c, piece, piece_run);
}

/* What was changed meanwhile is still in memory. */
static void finish_fetched(struct connection *c, struct piece *piece)
{
	struct export *x = c->export;
	uint64_t us = clock_us(&clock_system) - piece->fetch_us;
	if (x->backend->verify(x->volume, piece->offset, piece->chunk.data, (size_t)piece->length, us))
		read_or_submit(c, piece);
	else
		finish_piece(c, piece);
}

static void begin_read_piece(struct connection *c, struct request *r, struct piece *piece)
{
	r->at += piece->length;
	r->running++;
	if (r->is_cold) { /* a try would be the second one */
		if (!fetch(c, piece))
			piece_submit(c, piece, piece_run);
		return;
	}
	piece->home = &c->host->mailbox;
	piece->task = (struct task){.done = piece_done};
	pthread_mutex_lock(&c->unread_lock);
	tasks_append(&c->unread, &piece->task);
	pthread_mutex_unlock(&c->unread_lock);
}

static struct piece *take_unread(struct connection *c)
{
	pthread_mutex_lock(&c->unread_lock);
	struct task *task = tasks_take(&c->unread);
	pthread_mutex_unlock(&c->unread_lock);
	return (struct piece *)task;
}

bool transfer_has_unread(struct connection *c)
{
	pthread_mutex_lock(&c->unread_lock);
	bool has = c->unread.first;
	pthread_mutex_unlock(&c->unread_lock);
	return has;
}

/* By a worker: as long as there are some, but other connections get their turn. */
static void help(struct task *task)
{
	struct connection *c = OWNER_OF(struct helper, task, task)->connection;
	struct piece *piece = NULL;
	for (unsigned i = 0; i < HELP_PIECES && (piece = take_unread(c)); i++)
		piece_run_copy(&piece->task);
	task->again = piece;
}

static void help_done(struct task *task)
{
	connection_take_back(OWNER_OF(struct helper, task, task)->connection, task);
}

/* If there is one that has not been called. */
static void call_helper(struct connection *c)
{
	struct helper *h = c->helpers, *end = h + c->export->helpers;
	while (h < end && h->is_called)
		h++;
	if (h == end)
		return;
	h->is_called = true;
	h->connection = c;
	h->task = (struct task){.run = help, .done = help_done, .home = &c->host->mailbox};
	c->running++;
	lane_submit(c->export->lanes[EXPORT_COPIES], &h->task);
}

/*
 * Copying and checking is most of a large read. So helpers take what is unread, too, while we read and send. They
 * are called only where there is more than the next one, which is ours: the way to a helper and back would only
 * cost time.
 */
void transfer_read(struct connection *c)
{
	struct piece *piece;
	size_t bytes = 0;
	while (bytes < TURN_READ_BYTES && (piece = take_unread(c))) {
		if (transfer_has_unread(c))
			call_helper(c);
		bytes += (size_t)piece->length;
		read_or_submit(c, piece);
	}
}

/* Too long for the memory there is: it is read through once, and if that goes well again while it is sent. */
static enum begun check_request(struct connection *c, struct request *r)
{
	size_t bytes = PIECE_SCRATCH_BYTES;
	if (!take_memory(c, &bytes, true))
		return LATER;
	struct piece *piece = piece_make(c, r, r->wire.length, bytes);
	if (!piece)
		return BEGUN;
	r->is_streamed = true;
	r->running++;
	piece_submit(c, piece, piece_run_check);
	return BEGUN;
}

/* One that has to be answered in one piece. */
static enum begun begin_whole(struct connection *c, struct request *r, struct turn *turn)
{
	size_t bytes = (size_t)r->wire.length;
	if (!take_memory(c, &bytes, false))
		return check_request(c, r);
	struct piece *piece = piece_make(c, r, r->wire.length, bytes);
	if (piece)
		begin_read_piece(c, r, piece);
	turn->bytes += bytes;
	return BEGUN;
}

/* In as many pieces as memory and turn allow. */
static enum begun begin_pieces(struct connection *c, struct request *r, struct turn *turn)
{
	uint64_t end = r->wire.offset + r->wire.length;
	while (r->at < end && !r->error) {
		size_t bytes = (size_t)MIN_OF(end - r->at, (uint64_t)CONNECTION_PIECE_BYTES);
		if (turn->bytes >= CONNECTION_TURN_BYTES || !take_memory(c, &bytes, true))
			return LATER;
		struct piece *piece = piece_make(c, r, bytes, bytes);
		if (piece)
			begin_read_piece(c, r, piece);
		turn->bytes += bytes;
	}
	return BEGUN;
}

void transfer_begin_waiting(struct connection *c, struct turn *turn)
{
	while (c->waiting) {
		struct request *r = c->waiting;
		enum begun begun =
			wire_is_whole(&c->wire, &r->wire) ? begin_whole(c, r, turn) : begin_pieces(c, r, turn);
		if (begun == LATER && turn->bytes >= CONNECTION_TURN_BYTES)
			connection_want_turn(c);
		else if (begun == LATER)
			be_short(c);
		if (begun == LATER)
			return;
		c->waiting = r->next;
		if (!c->waiting)
			c->waiting_last = &c->waiting;
		r->is_queued = false;
		if (!r->running)
			finish_request(c, r);
	}
}

/* From the volume straight into the workspace. */
static bool read_now(struct connection *c, const struct wire_request *request, bool *is_cold)
{
	size_t length = (size_t)request->length;
	*is_cold = false;
	if (length > CONNECTION_SMALL_BYTES || c->output.is_behind)
		return false;
	*is_cold = true;
	uint8_t *at = output_room(&c->output, WIRE_REPLY_MAX + length);
	uint8_t *data = wire_put_data(&c->wire, request, request->offset, (uint32_t)length, true, at);
	if (c->export->backend->try_read(c->export->volume, request->offset, data, length))
		return false;
	output_put(&c->output, (size_t)(data - at) + length);
	note_order(c->export, request->offset, length, false);
	return true;
}

static enum begun execute_read(struct connection *c, const struct wire_request *request, struct turn *turn)
{
	if (!request->length) {
		put_done(c, request);
		return BEGUN;
	}
	bool is_cold;
	if (read_now(c, request, &is_cold)) {
		turn->bytes += (size_t)request->length;
		return BEGUN;
	}
	struct request *r = request_new(c, request);
	if (!r)
		return no_memory(c, request);
	r->is_queued = true;
	r->is_cold = is_cold;
	*c->waiting_last = r;
	c->waiting_last = &r->next;
	transfer_begin_waiting(c, turn);
	return BEGUN;
}

/* -- a read whose data is read as it is sent -- */

/* The output is done with it, or will never be. */
static void release_place(struct chunk *chunk)
{
	struct request *r = OWNER_OF(struct request, place, chunk);
	r->is_placed = false;
	if (!r->running)
		end_request(r->connection, r);
}

static void check_done(struct connection *c, struct request *r)
{
	if (r->error) {
		finish_request(c, r);
		return;
	}
	put_data(c, &r->wire, r->wire.offset, r->wire.length, true);
	r->is_placed = true;
	r->place.release = release_place;
	output_give(&c->output, &r->place);
}

static void stream_done(struct connection *c, struct request *r, struct piece *piece)
{
	if (r->is_placed && !r->error) {
		output_insert(&c->output, &piece->chunk);
		return;
	}
	piece_drop(c, piece);
	if (r->is_placed) /* the reply has begun, so it cannot be told otherwise */
		connection_fail(c, "what could be read when a reply began cannot be read any more");
	else
		end_request(c, r);
}

static void stream_next(struct connection *c, struct request *r)
{
	size_t bytes = (size_t)MIN_OF(r->wire.offset + r->wire.length - r->at, (uint64_t)MEMORY_RESERVE);
	memory_add(c->host->memory, &c->held, bytes); /* whatever it holds waits behind this */
	struct piece *piece = piece_make(c, r, bytes, bytes);
	if (piece)
		begin_read_piece(c, r, piece);
	else
		connection_fail(c, "out of memory");
}

/* -- writing -- */

/* How much could be written without waiting. */
static size_t write_now(struct connection *c, uint64_t offset, const uint8_t *data, size_t length)
{
	size_t done = 0;
	bool unsettled = false;
	if (atomic_load_explicit(&c->export->writes_queued, memory_order_relaxed))
		return 0;
	(void)!c->export->backend->try_write(c->export->volume, offset, data, length, &done, &unsettled);
	note_written(c, done);
	if (unsettled)
		export_settle(c->export);
	return done;
}

/* What is left of a write, from its place in the shared buffer to a worker. */
static enum begun write_later(struct connection *c, struct request *r, const uint8_t *data, size_t length)
{
	size_t bytes = length;
	if (!take_memory(c, &bytes, false)) { /* nothing is lost: all of it will be asked for again */
		end_request(c, r);
		return LATER;
	}
	struct piece *piece = piece_make(c, r, length, bytes);
	if (!piece) {
		finish_request(c, r);
		return BEGUN;
	}
	memcpy(piece->chunk.data, data, length);
	r->running++;
	piece_submit(c, piece, piece_run);
	return BEGUN;
}

static enum begun execute_write(struct connection *c, const struct wire_request *request, const uint8_t *data,
				struct turn *turn)
{
	size_t length = (size_t)request->length;
	size_t done = length ? write_now(c, request->offset, data, length) : 0;
	turn->bytes += length;
	if (done == length && !(request->flags & NBD_CMD_FLAG_FUA)) {
		put_done(c, request);
		return BEGUN;
	}
	if (done == length && flush_here(c, request))
		return BEGUN;
	struct request *r = request_new(c, request);
	if (!r)
		return no_memory(c, request);
	if (done == length) {
		flush_request(c, r);
		return BEGUN;
	}
	r->at += done;
	return write_later(c, r, data + done, length - done);
}

/* A place for the next part of a long write. */
static enum begun make_place(struct connection *c, struct request *r)
{
	size_t bytes = (size_t)MIN_OF(r->wire.offset + r->wire.length - r->at, (uint64_t)CONNECTION_PIECE_BYTES);
	if (!take_memory(c, &bytes, true)) {
		be_short(c);
		return LATER;
	}
	c->place = piece_make(c, r, bytes, bytes);
	r->at += c->place ? bytes : 0;
	return BEGUN;
}

void transfer_receive_no_more(struct connection *c, uint32_t error)
{
	struct request *r = c->receiving;
	note_error(r, error, NULL);
	c->receiving = NULL;
	c->skip = 0;
	r->is_queued = false;
	if (c->place)
		piece_drop(c, c->place);
	c->place = NULL;
	if (!r->running)
		finish_request(c, r);
}

static void begin_receiving(struct connection *c, struct request *r)
{
	c->receiving = r;
	r->is_queued = true;
}

/* It has failed: what is still to come of it is thrown away. */
static void skip_rest(struct connection *c, struct request *r)
{
	uint64_t end = r->wire.offset + r->wire.length;
	c->skip = end - r->at + (c->place ? c->place->length - c->place->filled : 0);
	r->at = end;
	if (c->place)
		piece_drop(c, c->place);
	c->place = NULL;
}

enum begun transfer_begin_long_write(struct connection *c, const struct wire_request *request)
{
	struct request *r = request_new(c, request);
	if (!r)
		return transfer_refuse(c, request, NBD_ENOMEM, "the server is out of memory");
	if (make_place(c, r) == LATER) {
		end_request(c, r);
		return LATER;
	}
	begin_receiving(c, r);
	if (r->error)
		skip_rest(c, r);
	return BEGUN;
}

enum begun transfer_refuse(struct connection *c, const struct wire_request *request, uint32_t error,
			   const char *reason)
{
	struct request *r = request->payload_bytes ? request_new(c, request) : NULL;
	c->skip = request->payload_bytes;
	if (!r) {
		put_error(c, request, error, reason);
		return BEGUN;
	}
	r->error = error;
	r->message = strdup(reason);
	r->at = r->wire.offset + r->wire.length;
	begin_receiving(c, r);
	return BEGUN;
}

static void write_place(struct connection *c, struct request *r, struct turn *turn)
{
	struct piece *piece = c->place;
	c->place = NULL;
	turn->bytes += (size_t)piece->length;
	r->running++;
	if (write_now(c, piece->offset, piece->chunk.data, (size_t)piece->length) == piece->length)
		finish_piece(c, piece);
	else
		piece_submit(c, piece, piece_run);
}

void transfer_go_on_receiving(struct connection *c, struct turn *turn)
{
	struct request *r = c->receiving;
	uint64_t end = r->wire.offset + r->wire.length;
	if (c->place && c->place->filled == c->place->length)
		write_place(c, r, turn);
	if (!r->error && !c->place && r->at < end && make_place(c, r) == LATER)
		return;
	if (r->error)
		skip_rest(c, r);
	if (r->at == end && !c->place && !c->skip)
		transfer_receive_no_more(c, 0);
}

/* -- what else there is -- */

static enum begun execute_flush(struct connection *c, const struct wire_request *request)
{
	if (flush_here(c, request))
		return BEGUN;
	struct request *r = request_new(c, request);
	if (!r)
		return no_memory(c, request);
	flush_request(c, r);
	return BEGUN;
}

/* Everything that only a worker does. */
static enum begun execute_later(struct connection *c, const struct wire_request *request, size_t bytes)
{
	if (!request->length) {
		put_done(c, request);
		return BEGUN;
	}
	if (bytes && !take_memory(c, &bytes, false))
		return LATER;
	struct request *r = request_new(c, request);
	struct piece *piece = r ? piece_make(c, r, request->length, bytes) : NULL;
	if (!r)
		memory_give(c->host->memory, &c->held, bytes);
	if (r && !piece)
		finish_request(c, r);
	if (!piece)
		return r ? BEGUN : no_memory(c, request);
	r->running++;
	piece_submit(c, piece, piece_run);
	return BEGUN;
}

static void begin_status(struct connection *c, struct request *r, enum wire_context context, size_t bytes)
{
	struct piece *piece = NULL;
	if (r->error)
		memory_give(c->host->memory, &c->held, bytes);
	else
		piece = piece_make(c, r, r->wire.length, bytes);
	if (!piece)
		return;
	piece->context = context;
	r->running++;
	piece_submit(c, piece, piece_run);
}

/* Each context has a piece and a chunk of its own, in memory that they share. */
static enum begun execute_status(struct connection *c, const struct wire_request *request)
{
	unsigned count = (unsigned)__builtin_popcount(request->contexts);
	size_t each = PIECE_STATUS_BYTES / count, bytes = each * count;
	if (!take_memory(c, &bytes, false))
		return LATER;
	struct request *r = request_new(c, request);
	if (!r) {
		memory_give(c->host->memory, &c->held, bytes);
		return no_memory(c, request);
	}
	for (unsigned i = 0; i < WIRE_CONTEXTS; i++) {
		if (request->contexts & UINT32_C(1) << i)
			begin_status(c, r, i, each);
	}
	if (!r->running)
		finish_request(c, r);
	return BEGUN;
}

static enum begun begin(struct connection *c, const struct wire_request *request, const uint8_t *data,
			struct turn *turn)
{
	bool scratch = request->type == NBD_CMD_CACHE || request->flags & NBD_CMD_FLAG_NO_HOLE;
	switch (request->type) {
	case NBD_CMD_READ:
		return execute_read(c, request, turn);
	case NBD_CMD_WRITE:
		return execute_write(c, request, data, turn);
	case NBD_CMD_FLUSH:
		return execute_flush(c, request);
	case NBD_CMD_BLOCK_STATUS:
		return execute_status(c, request);
	default:
		return execute_later(c, request, scratch ? PIECE_SCRATCH_BYTES : 0);
	}
}

enum begun transfer_begin(struct connection *c, const struct wire_request *request, const uint8_t *data,
			  struct turn *turn)
{
	enum begun begun = begin(c, request, data, turn);
	if (begun == LATER)
		be_short(c);
	return begun;
}

/* -- what comes back from workers -- */

static void status_done(struct connection *c, struct request *r, struct piece *piece)
{
	uint8_t *at = output_room(&c->output, WIRE_REPLY_MAX);
	uint8_t *end = wire_put_status(&c->wire, &r->wire, piece->context, piece->extents, !r->running, at);
	output_put(&c->output, (size_t)(end - at));
	output_give(&c->output, &piece->chunk);
}

static void answer_piece(struct connection *c, struct request *r, struct piece *piece)
{
	uint64_t end = r->wire.offset + r->wire.length;
	if (!r->error && r->wire.type == NBD_CMD_READ) {
		put_data(c, &r->wire, piece->offset, piece->length, !r->running && r->at == end);
		output_give(&c->output, &piece->chunk);
	} else if (!r->error && r->wire.type == NBD_CMD_BLOCK_STATUS) {
		status_done(c, r, piece);
	} else {
		piece_drop(c, piece);
	}
}

static void finish_piece(struct connection *c, struct piece *piece)
{
	struct request *r = piece->request;
	bool was_check = piece->task.run == piece_run_check;
	r->running--;
	if (piece->task.run && r->wire.type == NBD_CMD_WRITE)
		atomic_fetch_sub(&c->export->writes_queued, 1);
	if (piece->task.run && is_change(r))
		note_written(c, (size_t)piece->length);
	note_error(r, piece->error, &piece->message);
	if (was_check) {
		piece_drop(c, piece);
		check_done(c, r);
		return;
	}
	if (r->is_streamed) {
		stream_done(c, r, piece);
		return;
	}
	answer_piece(c, r, piece);
	if (!r->running && !r->is_queued)
		finish_request(c, r);
}

bool transfer_finish(struct connection *c, struct task *task)
{
	if (task->done == piece_done) {
		finish_piece(c, (struct piece *)task);
	} else if (task->done == fetch_done) {
		finish_fetched(c, (struct piece *)task);
	} else if (task->done == help_done) {
		OWNER_OF(struct helper, task, task)->is_called = false;
		c->running--;
	} else if (task->done == flush_done) {
		struct request *r = OWNER_OF(struct request, flush.task, task);
		note_error(r, request_error(r->flush.error), NULL);
		finish_request(c, r);
	} else {
		return false;
	}
	return true;
}

void transfer_give_up_waiting(struct connection *c)
{
	while (c->waiting) {
		struct request *r = c->waiting;
		c->waiting = r->next;
		r->is_queued = false;
		note_error(r, NBD_ESHUTDOWN, NULL);
		if (!r->running)
			finish_request(c, r);
	}
	c->waiting_last = &c->waiting;
}

bool transfer_stream(struct connection *c, struct chunk *place)
{
	struct request *r = OWNER_OF(struct request, place, place);
	if (r->running)
		return false;
	if (r->at == r->wire.offset + r->wire.length)
		output_remove(&c->output);
	else
		stream_next(c, r);
	return true;
}
