/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A conversation with every kind of request, cut after each of its bytes: the client closes, or is gone, or says
 * nothing more and the server ends it. Nothing may be left of it, in memory or under way, and the volume holds in
 * each block what was there before or what the client wrote.
 *
 * usage: serve-cuts [--every N]
 */
#include <getopt.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "client.h"

enum cut { CUT_NONE, CUT_CLOSE, CUT_RESET, CUT_SILENCE, CUTS };

enum { VOLUME_BYTES = 1 << 20 };

struct recording {
	struct bytes sent;
	uint8_t *after; /* the volume */
};

/* In the order in which a client would wait for each answer; what is under way together is in search.c. */
static void say_everything(struct client *c, enum wire_style style)
{
	client_shake_hands(c, style, style == WIRE_SIMPLE ? 0 : 2, style == WIRE_SIMPLE);
	client_send(c, NBD_CMD_WRITE, 0, 4096, 4096, 0);
	client_send(c, NBD_CMD_WRITE, NBD_CMD_FLAG_FUA, 10000, 100, 0);
	client_send(c, NBD_CMD_WRITE, 0, 65536, CONNECTION_SMALL_BYTES + 1, 0); /* a long one */
	client_send(c, NBD_CMD_READ, 0, 200000, 5000, 0);
	client_send(c, NBD_CMD_READ, 0, 200000, 300000, 0);
	client_send(c, NBD_CMD_FLUSH, 0, 0, 0, 0);
	client_send(c, NBD_CMD_TRIM, 0, 600000, 9000, 0);
	client_send(c, NBD_CMD_WRITE_ZEROES, NBD_CMD_FLAG_NO_HOLE, 700000, 5000, 0);
	client_send(c, NBD_CMD_CACHE, 0, 0, 4096, 0);
	client_send(c, NBD_CMD_BLOCK_STATUS, 0, 800000, 200000, style == WIRE_SIMPLE ? NBD_EINVAL : 0);
	client_send(c, NBD_CMD_READ, 0, VOLUME_BYTES, 1, NBD_EINVAL);
	client_send_disconnect(c);
}

static void record(struct recording *r, enum wire_style style)
{
	struct world w;
	struct client c;
	world_begin(&w, 1, (struct world_nature){0}, VOLUME_BYTES);
	client_begin(&c, &w);
	say_everything(&c, style);
	r->sent = (struct bytes){0};
	bytes_append(&r->sent, w.to_server.data, w.to_server.length);
	client_check_end(&c);
	CHECK(!w.connection && w.is_finished);
	r->after = c.data;
	c.data = NULL;
	client_free(&c);
	world_end(&w);
}

static void check_blocks(const struct world *w, const struct recording *r)
{
	static const uint8_t zeros[WORLD_BLOCK];
	for (uint64_t at = 0; at < VOLUME_BYTES; at += 512) {
		const uint8_t *now = w->volumes[0].data + at;
		bool is_new = !memcmp(now, r->after + at, 512), is_old = !memcmp(now, zeros, 512);
		bool is_within = (at + 512 > 10000 && at < 10100) || (at + 512 > 65536 + CONNECTION_SMALL_BYTES);
		CHECK(is_new || is_old || is_within);
	}
}

static void cut_once(const struct recording *r, size_t length, enum cut cut, struct world_nature nature)
{
	struct world w;
	world_begin(&w, length, nature, VOLUME_BYTES);
	world_send(&w, r->sent.data, length);
	w.is_closed = cut == CUT_CLOSE;
	world_settle(&w);
	if (cut == CUT_RESET) {
		w.is_reset = true;
	} else if (cut == CUT_SILENCE && w.connection) {
		connection_end(w.connection);
		world_settle(&w);
		CHECK(!w.connection && w.is_finished);
	}
	world_settle(&w);
	CHECK(cut != CUT_CLOSE || !w.connection);
	check_blocks(&w, r);
	world_end(&w);
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"every", required_argument, NULL, 'e'}, {0}};
	static const struct world_nature natures[] = {{0, 0, 0}, {60, 60, 60}};
	size_t every = 1, count = 0;
	while (getopt_long(argc, argv, "", options, NULL) == 'e')
		every = strtoul(optarg, NULL, 0);
	for (enum wire_style style = WIRE_SIMPLE; style <= WIRE_EXTENDED; style++) {
		struct recording r;
		record(&r, style);
		for (size_t length = 0; length <= r.sent.length; length += every) {
			for (enum cut cut = CUT_CLOSE; cut < CUTS; cut++, count++)
				cut_once(&r, length, cut, natures[(length / every + cut) % ARRAY_LENGTH(natures)]);
		}
		bytes_free(&r.sent);
		free(r.after);
	}
	printf("%zu cuts\n", count);
	return 0;
}
