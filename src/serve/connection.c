/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/connection.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "serve/parts.h"

enum { TURN_FINISHED = 12 }; /* tasks that came back, of one turn */

bool connection_is_shaking_hands(const struct connection *c)
{
	return c->phase != PHASE_TRANSMISSION;
}

void *connection_owner(const struct connection *c)
{
	return c->owner;
}

void connection_want_turn(struct connection *c)
{
	if (c->is_ready)
		return;
	c->is_ready = true;
	c->next_ready = c->host->ready;
	c->host->ready = c;
}

void connection_take_back(struct connection *c, struct task *task)
{
	tasks_append(&c->finished, task);
	connection_want_turn(c);
}

/* -- what is received -- */

void connection_end_input(struct connection *c, const char *why)
{
	if (c->is_input_over)
		return;
	c->is_input_over = true;
	c->why = c->why ? c->why : why;
	free(c->stash);
	c->stash = NULL;
	c->stash_bytes = 0;
	if (c->receiving)
		transfer_receive_no_more(c, NBD_ESHUTDOWN);
}

void connection_fail(struct connection *c, const char *why)
{
	connection_end_input(c, why);
	transfer_give_up_waiting(c);
	output_die(&c->output);
}

/* Must it finish something before it takes new requests? */
static bool is_full(const struct connection *c)
{
	return c->waiting || c->running >= CONNECTION_REQUESTS_MAX;
}

/* A request whose header is there. How many bytes it took; 0: it has to wait. */
static size_t take_request(struct connection *c, const uint8_t *bytes, size_t length, struct turn *turn)
{
	struct wire_request request;
	size_t header = wire_request_bytes(&c->wire);
	if (!wire_request_parse(&c->wire, bytes, &request)) {
		connection_end_input(c, "what it sent is no request");
		return 0;
	}
	if (request.type == NBD_CMD_DISC) {
		connection_end_input(c, NULL);
		return 0;
	}
	bool fits = request.payload_bytes <= CONNECTION_SMALL_BYTES;
	c->is_large = request.type == NBD_CMD_WRITE && !fits;
	if (!request.error && c->is_large)
		return transfer_begin_long_write(c, &request) == BEGUN ? header : 0;
	if (!request.error && request.payload_bytes && fits && length - header < request.payload_bytes)
		return 0;
	if (!request.error && request.type == NBD_CMD_BLOCK_STATUS && request.payload_bytes)
		wire_status_payload_parse(&c->wire, bytes + header, &request);
	if (request.error)
		return transfer_refuse(c, &request, request.error, request.reason) == BEGUN ? header : 0;
	if (transfer_begin(c, &request, bytes + header, turn) == LATER)
		return 0;
	return header + (size_t)request.payload_bytes;
}

static size_t take_some(struct connection *c, const uint8_t *bytes, size_t length, struct turn *turn)
{
	if (c->skip) {
		size_t n = (size_t)MIN_OF((uint64_t)length, c->skip);
		c->skip -= n;
		if (!c->skip && c->receiving)
			transfer_go_on_receiving(c, turn);
		return n;
	}
	if (c->place) {
		size_t n = MIN_OF(length, (size_t)c->place->length - c->place->filled);
		memcpy(c->place->chunk.data + c->place->filled, bytes, n);
		c->place->filled += n;
		transfer_go_on_receiving(c, turn);
		return n;
	}
	if (c->phase == PHASE_HANDSHAKE)
		return negotiate_take(c, bytes, length);
	if (c->receiving || c->is_short || is_full(c) || length < wire_request_bytes(&c->wire))
		return 0;
	turn->requests++;
	return take_request(c, bytes, length, turn);
}

static bool is_turn_over(const struct turn *turn)
{
	return turn->requests >= CONNECTION_TURN_REQUESTS || turn->bytes >= CONNECTION_TURN_BYTES;
}

static bool may_take(const struct connection *c)
{
	return !c->is_input_over && !c->is_looking_up && c->phase != PHASE_SECURING &&
	       (c->phase == PHASE_TRANSMISSION || !c->output.is_behind);
}

/* What is left is kept for the next turn. */
static void keep(struct connection *c, const uint8_t *bytes, size_t length)
{
	if (c->is_input_over)
		return;
	uint8_t *stash = length ? realloc(c->stash, length) : NULL;
	if (length && !stash) {
		connection_fail(c, "out of memory");
		return;
	}
	if (!length)
		free(c->stash);
	if (length)
		memcpy(stash, bytes, length);
	c->stash = stash;
	c->stash_bytes = length;
}

static void take(struct connection *c, const uint8_t *bytes, size_t length, struct turn *turn)
{
	size_t used = 0, n = 1;
	while (n && used < length && may_take(c) && !is_turn_over(turn)) {
		n = take_some(c, bytes + used, length - used, turn);
		used += n;
	}
	if (used < length && is_turn_over(turn))
		connection_want_turn(c);
	keep(c, bytes + used, length - used);
}

/*
 * Into the place, or behind `have` bytes in host->in: what was stashed. That came first, so it goes into the place
 * first, and nothing goes there at once before it.
 */
static size_t receive(struct connection *c, size_t have, struct turn *turn)
{
	struct iovec list[2];
	unsigned count = 0;
	size_t room = WORKSPACE_IN_BYTES - have, for_place = 0;
	if (c->place && !have) {
		for_place = (size_t)c->place->length - c->place->filled;
		list[count++] = (struct iovec){c->place->chunk.data + c->place->filled, for_place};
	}
	if (c->is_large)
		room = MIN_OF(room, (size_t)WIRE_BLOCK_PREFERRED);
	list[count++] = (struct iovec){c->host->in + have, room};
	ssize_t n = room ? c->channel->ops->receive(c->channel, list, count) : -EAGAIN;
	turn->has_more = c->is_large && n == (ssize_t)(for_place + room);
	if (n == -EAGAIN)
		return have;
	if (n <= 0) {
		bool is_news = n && n != -ECONNRESET; /* clients go, that is nothing to tell */
		c->why = is_news && !c->why ? strerrordesc_np((int)-n) : c->why;
		c->has_ended = true;
		return have;
	}
	size_t placed = MIN_OF((size_t)n, for_place);
	if (placed) {
		c->place->filled += placed;
		transfer_go_on_receiving(c, turn);
	}
	return have + (size_t)n - placed;
}

static bool may_receive(const struct connection *c)
{
	if (c->is_input_over || c->has_ended || c->is_looking_up || c->phase == PHASE_SECURING)
		return false;
	if (c->phase == PHASE_HANDSHAKE)
		return !c->output.is_behind;
	return c->skip || c->place || !(c->receiving || c->is_short || is_full(c));
}

/* Will it go on with what is stashed? Else the rest of that is missing. */
static bool is_waiting(const struct connection *c)
{
	return c->is_short || is_full(c) || c->is_looking_up || c->phase == PHASE_SECURING ||
	       (c->phase == PHASE_HANDSHAKE && c->output.is_behind);
}

static void take_input(struct connection *c, bool readable, struct turn *turn)
{
	size_t have = c->stash_bytes;
	turn->has_more = false;
	if (have)
		memcpy(c->host->in, c->stash, have);
	if (readable && may_receive(c))
		have = receive(c, have, turn);
	take(c, c->host->in, have, turn);
	if (c->has_ended && (!c->stash_bytes || !(is_turn_over(turn) || is_waiting(c))))
		connection_end_input(c, NULL);
}

/* -- turns -- */

/* Some: while the client takes these answers, and asks anew, the next ones follow. */
static void take_finished(struct connection *c)
{
	struct task *task;
	for (unsigned i = 0; i < TURN_FINISHED && (task = tasks_take(&c->finished)); i++)
		if (!transfer_finish(c, task))
			negotiate_finish(c, task);
	if (c->finished.first)
		connection_want_turn(c);
}

/* Sends what there is; what is read as it is sent is read on. */
static void send_output(struct connection *c)
{
	struct chunk *place;
	output_send(&c->output);
	while ((place = output_place(&c->output)) && transfer_stream(c, place))
		output_send(&c->output);
}

static void connection_free(struct connection *c)
{
	struct host *host = c->host;
	void *owner = c->owner;
	const char *why = c->why;
	if (host->last == c)
		host->last = NULL;
	struct connection **link = &host->ready;
	while (c->is_ready && *link != c)
		link = &(*link)->next_ready;
	if (c->is_ready)
		*link = c->next_ready;
	CHECK(!c->held);
	negotiate_free(c);
	free(c->stash);
	export_close(c->export);
	if (c->channel)
		c->channel->ops->free(c->channel);
	pthread_mutex_destroy(&c->unread_lock);
	free(c);
	host->ops->ended(host, owner, why);
}

/*
 * The client may still be sending, and would lose our last words if the socket were closed now: TCP is like that.
 */
static bool linger(struct connection *c)
{
	bool was = c->is_lingering;
	if (!c->is_ending || !c->channel || !c->channel->is_tcp || c->output.is_dead)
		return false;
	c->is_lingering = true;
	if (!was)
		c->channel->ops->finish(c->channel);
	return true;
}

static void throw_away_input(struct connection *c)
{
	struct iovec list = {c->host->in, WORKSPACE_IN_BYTES};
	ssize_t n = c->channel->ops->receive(c->channel, &list, 1);
	if (n <= 0 && n != -EAGAIN)
		c->is_ending = false;
}

/* What it waits for now; or it is over. */
static void rest(struct connection *c)
{
	bool unsent =
		!c->output.is_dead && (!output_is_empty(&c->output) || c->channel->ops->has_unsent(c->channel));
	bool over = c->is_input_over && !c->running && !unsent;
	if (over && !linger(c)) {
		if (!c->output.is_dead)
			c->channel->ops->finish(c->channel);
		connection_free(c);
		return;
	}
	bool securing = c->phase == PHASE_SECURING && !c->is_input_over;
	bool in = may_receive(c) || c->is_lingering || (securing && !unsent);
	if (c->channel)
		c->host->ops->watch(c->host, c, in, unsent && !output_place(&c->output));
	if (in && !c->output.is_dead && c->channel->ops->has_more(c->channel))
		connection_want_turn(c);
}

void connection_turn(struct connection *c, bool readable)
{
	struct turn turn = {0};
	struct host *host = c->host;
	bool was_behind = c->output.is_behind;
	host->last_turns = host->last == c ? host->last_turns + 1 : 0;
	host->last = c;
	if (c->is_ending)
		connection_end_input(c, NULL);
	if (c->is_cut)
		connection_fail(c, NULL);
	if (c->is_lingering && readable)
		throw_away_input(c);
	take_finished(c);
	if (c->is_short && c->held < c->short_at)
		c->is_short = false;
	transfer_begin_waiting(c, &turn);
	if (c->receiving && !c->place && !c->skip)
		transfer_go_on_receiving(c, &turn);
	bool more = c->stash_bytes || readable;
	while (more) {
		take_input(c, readable, &turn);
		more = turn.has_more && may_receive(c) && !is_turn_over(&turn);
	}
	transfer_read(c);
	send_output(c);
	if (transfer_has_unread(c))
		connection_want_turn(c);
	if (c->output.is_dead && c->phase != PHASE_TRANSMISSION)
		connection_end_input(c, NULL);
	if (c->phase == PHASE_SECURING && !c->is_input_over && output_is_empty(&c->output))
		negotiate_secure(c);
	bool is_freed = c->is_short && c->held < c->short_at, has_caught_up = was_behind && !c->output.is_behind;
	if (is_freed || (has_caught_up && c->stash_bytes))
		connection_want_turn(c);
	rest(c);
}

void connection_turn_ready(struct host *host)
{
	struct connection *first = host->ready, *next;
	host->ready = NULL;
	for (struct connection *c = first; c; c = next) {
		next = c->next_ready;
		c->is_ready = false;
		connection_turn(c, c->channel && c->channel->ops->has_more(c->channel));
	}
}

/* -- beginning and end -- */

struct connection *connection_new(struct host *host, struct channel *channel, void *owner)
{
	struct connection *c = calloc(1, sizeof(*c));
	if (c)
		c->handshake = malloc(sizeof(*c->handshake));
	if (!c || !c->handshake) {
		free(c);
		channel->ops->free(channel);
		return NULL;
	}
	c->host = host;
	c->owner = owner;
	c->channel = channel;
	c->waiting_last = &c->waiting;
	tasks_init(&c->finished);
	tasks_init(&c->unread);
	pthread_mutex_init(&c->unread_lock, NULL);
	output_init(&c->output, &host->workspace, host->memory, &c->held, channel);
	handshake_init(c->handshake, host->tls);
	negotiate_greet(c);
	return c;
}

void connection_end(struct connection *c)
{
	c->is_ending = true;
	connection_want_turn(c);
}

void connection_cut(struct connection *c, const char *why)
{
	c->is_cut = true;
	c->why = c->why ? c->why : why;
	connection_want_turn(c);
}
