/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: what an NBD client sends, to a connection of the server in a world without sockets and threads
 * (tests/serve/world.h): handshakes and requests, whole and broken, received in pieces, done at once or by
 * workers. What comes back has to be well-formed as far as it goes, memory within its bound, and nothing may be
 * left at the end.
 *
 * The first two bytes say how the client comes in and what the world is like, the third is its seed. The rest is a
 * list of items: an option in the handshake and a request behind it, or the other one, whose fields are drawn from
 * the bytes that follow so that many of them are valid; or raw bytes.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "serve/be.h"
#include "serve/parts.h"
#include "tests/serve/world.h"

enum { VOLUME_BYTES = 80000, SENT_MAX = 48 << 10, RAW = 200 };

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

static void put_text(struct bytes *data, const char *text)
{
	uint8_t length[4];
	be32_put(length, (uint32_t)strlen(text));
	bytes_append(data, length, sizeof(length));
	bytes_append(data, text, strlen(text));
}

/* As the option has it, but for counts that are wrong now and then. */
static void put_option_data(struct bytes *data, uint32_t option, struct input *in)
{
	static const char *const names[] = {"db", "ro", "", "none"}, *const queries[] = {"base:allocation",
											 "base:", "x"};
	const char *name = names[next(in) % ARRAY_LENGTH(names)];
	uint8_t count = next(in) % 8, wrong = next(in) % 16 == 0, number[4];
	bool has_queries = option == NBD_OPT_LIST_META_CONTEXT || option == NBD_OPT_SET_META_CONTEXT;
	if (option == NBD_OPT_EXPORT_NAME)
		bytes_append(data, name, strlen(name));
	if (!has_queries && option != NBD_OPT_INFO && option != NBD_OPT_GO)
		return;
	put_text(data, name);
	if (has_queries)
		bytes_append(data, number, (size_t)(be32_put(number, count + wrong) - number));
	else
		bytes_append(data, number, (size_t)(be16_put(number, count + wrong) - number));
	for (uint8_t i = 0; i < count; i++)
		if (has_queries)
			put_text(data, queries[next(in) % ARRAY_LENGTH(queries)]);
		else
			bytes_append(data, number, (size_t)(be16_put(number, next(in) % 5) - number));
}

static void send_option(struct world *w, struct input *in)
{
	uint8_t header[16], how = next(in);
	uint32_t option = how % 16;
	bool is_right = how / 16 % 4;
	struct bytes data = {0};
	if (is_right)
		put_option_data(&data, option, in);
	uint64_t length = is_right ? data.length : number(in);
	be32_put(be32_put(be64_put(header, NBD_OPTION_MAGIC), option), (uint32_t)length);
	world_send(w, header, sizeof(header));
	world_send(w, data.data, data.length);
	if (!is_right)
		send_zeros(w, (uint32_t)length);
	bytes_free(&data);
}

static void send_items(struct world *w, struct input *in)
{
	while (in->left && w->to_server.length < SENT_MAX) {
		uint8_t kind = next(in);
		size_t raw = MIN_OF(in->left, (size_t)kind - MIN_OF(kind, RAW));
		bool shakes = w->connection && connection_is_shaking_hands(w->connection);
		if (kind >= RAW) {
			world_send(w, in->at, raw);
			in->at += raw;
			in->left -= raw;
		} else if (shakes == (kind % 8 != 0)) {
			send_option(w, in);
		} else {
			send_request(w, in, w->connection && w->connection->wire.style == WIRE_EXTENDED);
		}
		if (kind / 8 % (shakes ? 2 : 8) == 0)
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

/* What may go wrong in the world, beside the client. */
static void be_bad(struct world *w, uint8_t what)
{
	struct world_volume *db = &w->volumes[0];
	w->connection->handshake->tls = (enum serve_tls)(what % 4 % 3);
	if (what / 4 % 2)
		w->memory.total = 0; /* others have it all: the reserve is left */
	if (what / 8 % 4 == 1) {
		db->bad_from = 30000;
		db->bad_to = 40000;
	}
	if (what / 8 % 4 == 2)
		db->lost_from = 40960;
	if (what / 32 % 4 == 1)
		db->write_error = -LCPFS_E_NOSPC;
	if (what / 32 % 4 == 2)
		db->flush_error = -LCPFS_E_IO;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	static const struct world_nature natures[] = {{0, 0, 0}, {50, 0, 0}, {30, 80, 0}, {30, 30, 80}};
	struct input in = {bytes, length};
	struct world w;
	uint8_t how = next(&in), bad = next(&in);
	enum wire_style style = (enum wire_style)(how / 4 % 4);
	bool shakes = style > WIRE_EXTENDED;
	world_begin(&w, next(&in), natures[how % 4], VOLUME_BYTES);
	be_bad(&w, shakes ? bad : bad & ~3u);
	world_settle(&w);
	if (shakes)
		world_send(&w, (const uint8_t[4]){0, 0, 0, how / 16 % 2 ? 3 : next(&in)}, 4);
	else
		come_in(&w, style, how / 16 % 2 && style != WIRE_SIMPLE);
	world_settle(&w);
	CHECK(shakes || (w.connection && !connection_is_shaking_hands(w.connection)));
	size_t begun = w.to_client.length;
	send_items(&w, &in);
	w.is_closed = how / 32 % 2;
	world_settle(&w);
	CHECK(!w.is_closed || !w.connection);
	CHECK(w.held_most <= MEMORY_CONNECTION_MAX + WORKSPACE_OUT_BYTES + 2 * MEMORY_RESERVE);
	if (style == WIRE_STRUCTURED || style == WIRE_EXTENDED)
		check_replies(&w, begun);
	world_end(&w);
	return 0;
}
