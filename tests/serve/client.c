/* SPDX-License-Identifier: Apache-2.0 */
#include "client.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve/be.h"

void client_begin(struct client *c, struct world *w)
{
	*c = (struct client){.world = w, .bytes = w->volumes[0].bytes};
	uint64_t blocks = DIV_UP(c->bytes, (uint64_t)WORLD_BLOCK);
	c->data = calloc(blocks, WORLD_BLOCK);
	c->written = calloc(blocks, sizeof(bool));
	CHECK(c->data && c->written);
}

void client_free(struct client *c)
{
	free(c->data);
	free(c->written);
}

/* -- what has come -- */

static size_t there(const struct client *c)
{
	return c->world->to_client.length - c->taken;
}

static const uint8_t *look(const struct client *c)
{
	return c->world->to_client.data + c->taken;
}

static const uint8_t *need(struct client *c, size_t length)
{
	const uint8_t *at = look(c);
	CHECK(there(c) >= length);
	c->taken += length;
	return at;
}

/* -- handshake -- */

static void send_option(struct client *c, uint32_t option, const void *data, size_t length)
{
	uint8_t header[16];
	be32_put(be32_put(be64_put(header, NBD_OPTION_MAGIC), option), (uint32_t)length);
	world_send(c->world, header, sizeof(header));
	world_send(c->world, data, length);
	world_settle(c->world);
}

/* The type of the next reply; its data in *data. */
static uint32_t take_option_reply(struct client *c, uint32_t option, const uint8_t **data, uint32_t *length)
{
	const uint8_t *at = need(c, 20);
	CHECK(be64_get(at) == NBD_OPTION_REPLY_MAGIC && be32_get(at + 8) == option);
	*length = be32_get(at + 16);
	*data = need(c, *length);
	return be32_get(at + 12);
}

static void expect_ack(struct client *c, uint32_t option)
{
	const uint8_t *data;
	uint32_t length;
	CHECK(take_option_reply(c, option, &data, &length) == NBD_REP_ACK && !length);
}

static void enter_by_go(struct client *c)
{
	static const uint8_t go[] = {0, 0, 0, 2, 'd', 'b', 0, 1, 0, NBD_INFO_BLOCK_SIZE};
	const uint8_t *data;
	uint32_t length, type;
	bool has_sizes = false;
	send_option(c, NBD_OPT_GO, go, sizeof(go));
	while ((type = take_option_reply(c, NBD_OPT_GO, &data, &length)) == NBD_REP_INFO) {
		if (be16_get(data) == NBD_INFO_EXPORT) {
			CHECK(length == 12 && be64_get(data + 2) == c->bytes);
			c->flags = be16_get(data + 10);
		} else if (be16_get(data) == NBD_INFO_BLOCK_SIZE) {
			CHECK(length == 14 && be32_get(data + 2) == 1 && be32_get(data + 10) == WIRE_PAYLOAD_MAX);
			has_sizes = true;
		}
	}
	CHECK(type == NBD_REP_ACK && has_sizes);
}

static void enter_oldly(struct client *c)
{
	send_option(c, NBD_OPT_EXPORT_NAME, "db", 2);
	const uint8_t *at = need(c, 10 + 124);
	CHECK(be64_get(at) == c->bytes);
	c->flags = be16_get(at + 8);
	for (int i = 10; i < 134; i++)
		CHECK(!at[i]);
}

static void select_contexts(struct client *c, unsigned contexts)
{
	static const uint8_t one[] = "\0\0\0\2db\0\0\0\1\0\0\0\17base:allocation",
			     both[] = "\0\0\0\2db\0\0\0\2\0\0\0\15lcpfs:changed\0\0\0\17base:allocation";
	const uint8_t *data;
	uint32_t length;
	send_option(c, NBD_OPT_SET_META_CONTEXT, contexts > 1 ? both : one,
		    (contexts > 1 ? sizeof(both) : sizeof(one)) - 1);
	CHECK(take_option_reply(c, NBD_OPT_SET_META_CONTEXT, &data, &length) == NBD_REP_META_CONTEXT);
	CHECK(length == 19 && be32_get(data) == 1 && !memcmp(data + 4, "base:allocation", 15));
	if (contexts > 1) {
		CHECK(take_option_reply(c, NBD_OPT_SET_META_CONTEXT, &data, &length) == NBD_REP_META_CONTEXT);
		CHECK(length == 17 && be32_get(data) == 2 && !memcmp(data + 4, "lcpfs:changed", 13));
	}
	expect_ack(c, NBD_OPT_SET_META_CONTEXT);
	c->contexts = contexts;
}

void client_shake_hands(struct client *c, enum wire_style style, unsigned contexts, bool oldly)
{
	const uint8_t flags[4] = {0, 0, 0, NBD_FLAG_FIXED_NEWSTYLE};
	world_settle(c->world);
	const uint8_t *at = need(c, 18);
	CHECK(!memcmp(at, "NBDMAGICIHAVEOPT", 16) && be16_get(at + 16) == 3);
	world_send(c->world, flags, 4);
	c->style = style;
	if (style != WIRE_SIMPLE) {
		uint32_t option = style == WIRE_EXTENDED ? NBD_OPT_EXTENDED_HEADERS : NBD_OPT_STRUCTURED_REPLY;
		send_option(c, option, NULL, 0);
		expect_ack(c, option);
	}
	if (contexts)
		select_contexts(c, contexts);
	if (oldly && style != WIRE_EXTENDED)
		enter_oldly(c);
	else
		enter_by_go(c);
	CHECK(c->flags & NBD_FLAG_HAS_FLAGS && c->flags & NBD_FLAG_CAN_MULTI_CONN);
	CHECK(!(c->flags & NBD_FLAG_SEND_DF) == (style == WIRE_SIMPLE));
}

/* -- requests -- */

static bool changes(uint16_t type)
{
	return type == NBD_CMD_WRITE || type == NBD_CMD_TRIM || type == NBD_CMD_WRITE_ZEROES;
}

/* Would it be uncertain which of the two comes first? */
static bool collides(const struct client *c, uint16_t type, uint64_t offset, uint64_t length)
{
	uint64_t first = offset / WORLD_BLOCK, last = (offset + length) / WORLD_BLOCK;
	for (unsigned i = 0; i < CLIENT_REQUESTS_MAX; i++) {
		const struct client_request *r = &c->requests[i];
		bool matters = r->is_open && !r->error && (changes(r->type) || changes(type));
		if (matters && first <= (r->offset + r->length) / WORLD_BLOCK && r->offset / WORLD_BLOCK <= last)
			return true;
	}
	return false;
}

static void apply(struct client *c, uint16_t type, uint16_t flags, uint64_t offset, uint64_t length,
		  const uint8_t *payload)
{
	bool data = type == NBD_CMD_WRITE || flags & NBD_CMD_FLAG_NO_HOLE;
	for (uint64_t i = 0; i < length; i++) {
		uint64_t at = offset + i;
		bool whole = at % WORLD_BLOCK == 0 && length - i >= WORLD_BLOCK;
		c->data[at] = payload ? payload[i] : 0;
		if (data || whole)
			c->written[at / WORLD_BLOCK] = data;
		if (!data && whole) {
			memset(c->data + at, 0, WORLD_BLOCK);
			i += WORLD_BLOCK - 1;
		}
	}
}

static uint8_t *random_payload(struct client *c, size_t length)
{
	uint8_t *payload = malloc(length + 8);
	CHECK(payload);
	for (size_t i = 0; i < length; i += 8) {
		uint64_t r = world_random(c->world, UINT64_MAX);
		memcpy(payload + i, &r, 8);
	}
	return payload;
}

static void send_header(struct client *c, const struct client_request *r)
{
	uint8_t header[32], *at = header;
	bool extended = c->style == WIRE_EXTENDED;
	at = be32_put(at, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
	at = be16_put(at, r->flags | (extended && r->type == NBD_CMD_WRITE ? NBD_CMD_FLAG_PAYLOAD_LEN : 0));
	at = be16_put(at, r->type);
	at = be64_put(be64_put(at, r->cookie), r->offset);
	at = extended ? be64_put(at, r->length) : be32_put(at, (uint32_t)r->length);
	world_send(c->world, header, (size_t)(at - header));
}

void client_send(struct client *c, uint16_t type, uint16_t flags, uint64_t offset, uint64_t length, uint32_t error)
{
	struct client_request *r = c->requests;
	while (r->is_open)
		r++;
	*r = (struct client_request){true, flags, type, ++c->cookie * 7919, offset, length, error, 0, false, 0};
	c->open++;
	send_header(c, r);
	uint8_t *payload = type == NBD_CMD_WRITE ? random_payload(c, (size_t)length) : NULL;
	if (payload)
		world_send(c->world, payload, (size_t)length);
	if (changes(type) && !error)
		apply(c, type, flags, offset, length, payload);
	free(payload);
	r->sent_end = c->forgotten + c->world->to_server.length;
}

void client_send_disconnect(struct client *c)
{
	send_header(c, &(struct client_request){.type = NBD_CMD_DISC});
	c->world->is_closed = true;
}

static uint64_t random_length(struct client *c)
{
	static const uint64_t most[] = {1, 511, 4096, 4096, 16384, 65536, 300000, 3000000};
	uint64_t length = most[world_random(c->world, ARRAY_LENGTH(most))];
	if (world_random(c->world, 2))
		length = world_random(c->world, length) + 1;
	return MIN_OF(length, c->bytes);
}

static uint16_t random_flags(struct client *c, uint16_t type)
{
	uint16_t flags = world_random(c->world, 5) == 0 ? NBD_CMD_FLAG_FUA : 0;
	uint64_t dice = world_random(c->world, 6);
	if (type == NBD_CMD_READ && dice == 0 && c->style != WIRE_SIMPLE)
		flags |= NBD_CMD_FLAG_DF;
	if (type == NBD_CMD_WRITE_ZEROES && dice < 2)
		flags |= dice ? NBD_CMD_FLAG_NO_HOLE : NBD_CMD_FLAG_FAST_ZERO;
	if (type == NBD_CMD_BLOCK_STATUS && dice < 2)
		flags |= NBD_CMD_FLAG_REQ_ONE;
	return flags;
}

/* One that has to be refused. */
static void send_wrong(struct client *c)
{
	uint64_t end = c->bytes;
	bool simple = c->style == WIRE_SIMPLE;
	switch (world_random(c->world, 9)) {
	case 0: client_send(c, NBD_CMD_READ, 0, end - 1, 2, NBD_EINVAL); break;
	case 1: client_send(c, NBD_CMD_WRITE, 0, end, 5000, NBD_ENOSPC); break;
	case 2: client_send(c, NBD_CMD_TRIM, 0, UINT64_MAX - 4, 8, NBD_EINVAL); break;
	case 3: client_send(c, NBD_CMD_WRITE_ZEROES, 0, end - 4096, 4097, NBD_ENOSPC); break;
	case 4: client_send(c, 99, 0, 0, 0, NBD_EINVAL); break;
	case 5: client_send(c, NBD_CMD_READ, NBD_CMD_FLAG_NO_HOLE, 0, 10, NBD_EINVAL); break;
	case 6: client_send(c, NBD_CMD_FLUSH, 0, 0, 1, NBD_EINVAL); break;
	case 7: client_send(c, NBD_CMD_READ, NBD_CMD_FLAG_DF, 0, simple ? 10 : end + 1, NBD_EINVAL); break;
	case 8:
		client_send(c, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO, 0, 10,
			    NBD_ENOTSUP);
		break;
	}
}

bool client_send_any(struct client *c)
{
	static const uint16_t types[] = {NBD_CMD_READ,  NBD_CMD_READ,         NBD_CMD_READ,        NBD_CMD_WRITE,
					 NBD_CMD_WRITE, NBD_CMD_WRITE,        NBD_CMD_FLUSH,       NBD_CMD_TRIM,
					 NBD_CMD_CACHE, NBD_CMD_WRITE_ZEROES, NBD_CMD_BLOCK_STATUS};
	if (c->open == CLIENT_REQUESTS_MAX)
		return false;
	if (world_random(c->world, 20) == 0) {
		send_wrong(c);
		return true;
	}
	uint16_t type = types[world_random(c->world, ARRAY_LENGTH(types))];
	uint64_t length = type == NBD_CMD_FLUSH ? 0 : random_length(c);
	uint64_t offset = length ? world_random(c->world, c->bytes - length + 1) : 0;
	if (length && collides(c, type, offset, length))
		return false;
	uint32_t error = type == NBD_CMD_BLOCK_STATUS && !c->contexts ? NBD_EINVAL : 0;
	client_send(c, type, random_flags(c, type), offset, length, error);
	return true;
}

/* -- replies -- */

static struct client_request *request_of(struct client *c, uint64_t cookie)
{
	for (unsigned i = 0; i < CLIENT_REQUESTS_MAX; i++)
		if (c->requests[i].is_open && c->requests[i].cookie == cookie)
			return &c->requests[i];
	CHECK(!"a reply to nothing");
	return NULL;
}

static void close_request(struct client *c, struct client_request *r, uint32_t error)
{
	if (error != r->error)
		fprintf(stderr, "command %u, flags %u, %llu + %llu: error %u, not %u\n", r->type, r->flags,
			(unsigned long long)r->offset, (unsigned long long)r->length, error, r->error);
	CHECK(error == r->error);
	CHECK(c->forgotten + c->world->received >= r->sent_end); /* not before all of it was received */
	CHECK(error || r->type != NBD_CMD_READ || r->covered == r->length);
	CHECK(error || r->type != NBD_CMD_BLOCK_STATUS || !r->length || r->statuses == (1u << c->contexts) - 1);
	CHECK(error || r->type != NBD_CMD_WRITE || !(r->flags & NBD_CMD_FLAG_FUA) || c->world->volumes[0].flushes);
	r->is_open = false;
	c->open--;
	c->done++;
}

static void check_data(struct client *c, struct client_request *r, uint64_t offset, const uint8_t *data,
		       uint64_t length)
{
	CHECK(r->type == NBD_CMD_READ && length && offset >= r->offset &&
	      offset + length <= r->offset + r->length);
	CHECK(!(r->flags & NBD_CMD_FLAG_DF) || length == r->length);
	CHECK(!memcmp(data, c->data + offset, length));
	r->covered += length;
}

static void check_status(struct client *c, struct client_request *r, const uint8_t *at, uint64_t length)
{
	bool extended = c->style == WIRE_EXTENDED;
	size_t each = extended ? 16 : 8, head = extended ? 8 : 4;
	uint64_t offset = r->offset, count = (length - head) / each;
	unsigned context = be32_get(at);
	CHECK(r->type == NBD_CMD_BLOCK_STATUS && (length - head) % each == 0 && count);
	CHECK(context >= 1 && context <= c->contexts && !(r->statuses & 1u << (context - 1)));
	CHECK(!extended || be32_get(at + 4) == count);
	CHECK(!(r->flags & NBD_CMD_FLAG_REQ_ONE) || count == 1);
	for (uint64_t i = 0; i < count; i++) {
		const uint8_t *d = at + head + i * each;
		uint64_t n = extended ? be64_get(d) : be32_get(d),
			 status = extended ? be64_get(d + 8) : be32_get(d + 4);
		CHECK(n && offset + n <= r->offset + r->length &&
		      (status == 0 || status == (context == 1 ? 3 : 1)));
		for (uint64_t b = offset / WORLD_BLOCK; b <= (offset + n - 1) / WORLD_BLOCK; b++)
			CHECK(context == 1 ? c->written[b] == !status : world_changed(b) == (status == 1));
		offset += n;
	}
	r->statuses |= 1u << (context - 1);
}

/* false: not all of it is there yet. */
static bool take_simple(struct client *c)
{
	if (there(c) < 16)
		return false;
	const uint8_t *at = look(c);
	struct client_request *r = request_of(c, be64_get(at + 8));
	uint32_t error = be32_get(at + 4);
	uint64_t data = r->type == NBD_CMD_READ && !error ? r->length : 0;
	CHECK(c->style != WIRE_EXTENDED && (c->style == WIRE_SIMPLE || r->type != NBD_CMD_READ));
	if (there(c) < 16 + data)
		return false;
	c->taken += 16 + data;
	if (data)
		check_data(c, r, r->offset, at + 16, data);
	close_request(c, r, error);
	return true;
}

static void take_payload(struct client *c, struct client_request *r, uint16_t type, bool done, const uint8_t *at,
			 uint64_t length)
{
	uint32_t error = 0;
	if (type == NBD_REPLY_TYPE_OFFSET_DATA) {
		CHECK(length > 8);
		check_data(c, r, be64_get(at), at + 8, length - 8);
	} else if (type == NBD_REPLY_TYPE_ERROR) {
		CHECK(done && length >= 6 && be16_get(at + 4) == length - 6);
		error = be32_get(at);
		CHECK(error);
	} else if (type == NBD_REPLY_TYPE_NONE) {
		CHECK(done && !length);
	} else {
		CHECK(type ==
		      (c->style == WIRE_EXTENDED ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS));
		check_status(c, r, at, length);
	}
	if (done)
		close_request(c, r, error);
}

static bool take_chunk(struct client *c)
{
	size_t head = c->style == WIRE_EXTENDED ? 32 : 20;
	if (there(c) < head)
		return false;
	const uint8_t *at = look(c);
	struct client_request *r = request_of(c, be64_get(at + 8));
	uint64_t length = c->style == WIRE_EXTENDED ? be64_get(at + 24) : be32_get(at + 16);
	CHECK(length <= WIRE_PAYLOAD_MAX + 8 && be16_get(at + 4) <= 1);
	CHECK(c->style != WIRE_EXTENDED || be64_get(at + 16) == r->offset);
	if (there(c) < head + length)
		return false;
	c->taken += head + length;
	take_payload(c, r, be16_get(at + 6), be16_get(at + 4), at + head, length);
	return true;
}

static bool take_one(struct client *c)
{
	if (there(c) < 4)
		return false;
	uint32_t magic = be32_get(look(c));
	if (magic == NBD_SIMPLE_REPLY_MAGIC)
		return take_simple(c);
	CHECK(magic == (c->style == WIRE_EXTENDED ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC));
	return take_chunk(c);
}

/* What was taken is thrown away now and then, so that long conversations do not take much memory. */
static void shrink(struct client *c)
{
	struct bytes *b = &c->world->to_client, *s = &c->world->to_server;
	if (c->taken > 1 << 20) {
		memmove(b->data, b->data + c->taken, b->length - c->taken);
		b->length -= c->taken;
		c->taken = 0;
	}
	if (c->world->received > 1 << 20) {
		memmove(s->data, s->data + c->world->received, s->length - c->world->received);
		s->length -= c->world->received;
		c->forgotten += c->world->received;
		c->world->received = 0;
	}
}

void client_take(struct client *c)
{
	while (take_one(c))
		;
	shrink(c);
}

void client_check_end(struct client *c)
{
	world_settle(c->world);
	client_take(c);
	CHECK(!c->open && !there(c));
	CHECK(!memcmp(c->data, c->world->volumes[0].data, c->bytes));
}
