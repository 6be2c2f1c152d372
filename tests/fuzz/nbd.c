/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: what an NBD client sends, to a connection of the server in a world without sockets and threads
 * (tests/serve/world.h): handshakes and requests, whole and broken, received in pieces, done at once or by
 * workers. What comes back has to be well-formed as far as it goes, memory within its bound, and nothing may be
 * left at the end.
 *
 * The first byte says how the client comes in and what the world is like, the second is its seed. The rest is a
 * list of items: a request or an option, whose fields are drawn from the bytes that follow so that many of them
 * are valid, or raw bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "serve/be.h"
#include "tests/serve/world.h"

enum { VOLUME_BYTES = 80000, SENT_MAX = 120 << 10, RAW = 200 };

struct input {
	const uint8_t *at;
	size_t left;
};

static uint8_t next(struct input *in)
{
	if (!in->left)
		return 0;
	in->left--;
	return *in->at++;
}

/* Small ones, ones around the volume's end, ones without end. */
static uint64_t number(struct input *in)
{
	uint8_t kind = next(in), value = next(in);
	switch (kind % 8) {
	case 0: return value;
	case 1: return value * UINT64_C(4096);
	case 2: return VOLUME_BYTES - value;
	case 3: return UINT64_MAX - value;
	case 4: return UINT64_C(1) << value % 64;
	case 5: return (UINT64_C(32) << 20) + value - 128;
	default: return value * UINT64_C(300);
	}
}

static void send_zeros(struct world *w, uint64_t length)
{
	static const uint8_t zeros[4096];
	for (; length && w->to_server.length < SENT_MAX; length -= MIN_OF(length, (uint64_t)sizeof(zeros)))
		world_send(w, zeros, (size_t)MIN_OF(length, (uint64_t)sizeof(zeros)));
}

static void send_request(struct world *w, struct input *in, bool extended)
{
	uint8_t header[32], *at = header;
	uint16_t type = next(in) % 10, flags = next(in) % 64;
	uint64_t offset = number(in), length = number(in);
	at = be32_put(at, extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC);
	at = be64_put(be64_put(be16_put(be16_put(at, flags), type), in->left), offset);
	at = extended ? be64_put(at, length) : be32_put(at, (uint32_t)length);
	world_send(w, header, (size_t)(at - header));
	if (extended ? flags & NBD_CMD_FLAG_PAYLOAD_LEN : type == NBD_CMD_WRITE)
		send_zeros(w, extended ? length : (uint32_t)length);
}

static void send_option(struct world *w, struct input *in)
{
	static const char *const data[] = {
		"", "db", "\0\0\0\2db\0\0", "\0\0\0\2ro\0\2\0\1\0\3", "\0\0\0\2db\0\0\0\1\0\0\0\17base:allocation",
		"\0\0\0\0\0\0\0\1\0\0\0\5base:"};
	static const uint8_t lengths[] = {0, 2, 8, 12, 29, 17};
	unsigned option = next(in) % 13, choice = next(in) % (ARRAY_LENGTH(data) + 2);
	uint8_t header[16];
	uint64_t length = choice < ARRAY_LENGTH(data) ? lengths[choice] : number(in);
	be32_put(be32_put(be64_put(header, NBD_OPTION_MAGIC), option), (uint32_t)length);
	world_send(w, header, sizeof(header));
	if (choice < ARRAY_LENGTH(data))
		world_send(w, data[choice], (size_t)length);
	else
		send_zeros(w, (uint32_t)length);
}

static void send_items(struct world *w, struct input *in, bool extended)
{
	while (in->left && w->to_server.length < SENT_MAX) {
		uint8_t kind = next(in);
		size_t raw = MIN_OF(in->left, (size_t)kind - MIN_OF(kind, RAW));
		if (kind >= RAW) {
			world_send(w, in->at, raw);
			in->at += raw;
			in->left -= raw;
		} else if (kind % 4 == 0) {
			send_option(w, in);
		} else {
			send_request(w, in, extended);
		}
		if (kind % 16 == 7)
			world_settle(w); /* it waits for the answer */
	}
}

/* Up to the transmission phase, by the way that `style` says. */
static void come_in(struct world *w, enum wire_style style, bool contexts)
{
	static const uint8_t hello[] = "\0\0\0\3", go[] = "IHAVEOPT\0\0\0\7\0\0\0\10\0\0\0\2db\0\0";
	static const uint8_t structured[] = "IHAVEOPT\0\0\0\10\0\0\0\0", extended[] = "IHAVEOPT\0\0\0\13\0\0\0\0";
	static const uint8_t select[] = "IHAVEOPT\0\0\0\12\0\0\0\35\0\0\0\2db\0\0\0\1\0\0\0\17base:allocation";
	world_send(w, hello, 4);
	if (style == WIRE_STRUCTURED)
		world_send(w, structured, sizeof(structured) - 1);
	if (style == WIRE_EXTENDED)
		world_send(w, extended, sizeof(extended) - 1);
	if (contexts)
		world_send(w, select, sizeof(select) - 1);
	world_send(w, go, sizeof(go) - 1);
	world_settle(w);
}

/* Chunks and simple replies without data, one behind the other; the last may have been cut off. */
static void check_replies(const struct world *w, size_t from)
{
	const uint8_t *at = w->to_client.data + from, *end = w->to_client.data + w->to_client.length;
	while (end - at >= 32) {
		uint32_t magic = be32_get(at);
		uint64_t length = 0;
		if (magic == NBD_STRUCTURED_REPLY_MAGIC)
			length = 20 + be32_get(at + 16);
		else if (magic == NBD_EXTENDED_REPLY_MAGIC)
			length = 32 + be64_get(at + 24);
		else if (magic == NBD_SIMPLE_REPLY_MAGIC)
			length = 16;
		CHECK(length && length <= WIRE_PAYLOAD_MAX + 64);
		at += MIN_OF(length, (uint64_t)(end - at));
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	static const struct world_nature natures[] = {{0, 0, 0}, {50, 0, 0}, {30, 80, 0}, {30, 30, 80}};
	struct input in = {bytes, length};
	struct world w;
	uint8_t how = next(&in);
	enum wire_style style = (enum wire_style)(how / 4 % 4);
	bool shakes = style > WIRE_EXTENDED;
	world_begin(&w, next(&in), natures[how % 4], VOLUME_BYTES);
	world_settle(&w);
	if (!shakes)
		come_in(&w, style, how / 16 % 2 && style != WIRE_SIMPLE);
	size_t begun = w.to_client.length;
	send_items(&w, &in, style == WIRE_EXTENDED);
	w.is_closed = how / 32 % 2;
	world_settle(&w);
	CHECK(!w.is_closed || !w.connection);
	CHECK(w.held_most <= MEMORY_CONNECTION_MAX + WORKSPACE_OUT_BYTES + 2 * MEMORY_RESERVE);
	if (style == WIRE_STRUCTURED || style == WIRE_EXTENDED)
		check_replies(&w, begun);
	world_end(&w);
	return 0;
}
