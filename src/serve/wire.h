/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The transmission phase on the wire: requests taken apart and checked, replies put together. Pure: bytes in,
 * bytes out.
 *
 * A request that the protocol does not allow is refused here, with the error that its specification names for it,
 * once what it carries was taken from the stream. What is left for others to refuse is what only the volume knows.
 */
#ifndef SERVE_WIRE_H
#define SERVE_WIRE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "serve/proto.h"

enum {
	WIRE_PAYLOAD_MAX = 32 << 20, /* bytes that a request may carry, or one chunk of a reply; as advertised */
	WIRE_BLOCK_MIN = 1,
	WIRE_BLOCK_PREFERRED = 4096,
	WIRE_MESSAGE_MAX = 512,                 /* of an error's text; longer ones are cut */
	WIRE_REPLY_MAX = 64 + WIRE_MESSAGE_MAX, /* any reply without its data and descriptors */
};

/* Metadata contexts: a bit each, and on the wire the bit's number + 1. */
enum wire_context {
	WIRE_ALLOCATION,
	WIRE_CHANGED, /* since the snapshot before; status 1: it has */
	WIRE_CONTEXTS
};
extern const char *const wire_context_names[WIRE_CONTEXTS];

enum wire_style { WIRE_SIMPLE, WIRE_STRUCTURED, WIRE_EXTENDED };

/* What client and server have agreed on. */
struct wire {
	enum wire_style style;
	uint16_t flags; /* transmission flags */
	uint32_t contexts;
	uint64_t bytes; /* of the export */
};

struct wire_request {
	uint16_t flags, type;
	uint32_t contexts;       /* that a block status is asked of */
	uint64_t cookie, offset;
	uint64_t length;         /* of the range of the export */
	uint64_t payload_bytes;  /* that follow the header */
	uint32_t error;          /* not 0: to be refused with this NBD error */
	const char *reason;      /* a sentence for it */
};

size_t wire_request_bytes(const struct wire *wire); /* of a header */
/* false: whoever sent this does not speak the protocol, or is too much for us; the connection has to end. */
bool wire_request_parse(const struct wire *wire, const uint8_t *header, struct wire_request *request) MUST_CHECK;
/* The payload of a NBD_CMD_BLOCK_STATUS, all of it. */
void wire_status_payload_parse(const struct wire *wire, const uint8_t *payload, struct wire_request *request);
enum { WIRE_STATUS_PAYLOAD_MAX = 8 + 4 * WIRE_CONTEXTS };

/* Must the reply to this read come in one piece? */
bool wire_is_whole(const struct wire *wire, const struct wire_request *request);

/*
 * Replies are put at `at`, which has room for WIRE_REPLY_MAX bytes; each returns the address behind. `last`:
 * nothing more follows for this request. `message` may be NULL.
 */
uint8_t *wire_put_done(const struct wire *wire, const struct wire_request *request, uint8_t *at);
uint8_t *wire_put_error(const struct wire *wire, const struct wire_request *request, uint32_t error,
			const char *message, uint8_t *at);
/* `length` bytes of data follow. */
uint8_t *wire_put_data(const struct wire *wire, const struct wire_request *request, uint64_t offset,
		       uint32_t length, bool last, uint8_t *at);
/* `count` descriptors follow, each put by wire_put_extent. */
uint8_t *wire_put_status(const struct wire *wire, const struct wire_request *request, enum wire_context context,
			 uint32_t count, bool last, uint8_t *at);
uint8_t *wire_put_extent(const struct wire *wire, uint64_t length, uint32_t status, uint8_t *at);
size_t wire_extent_bytes(const struct wire *wire);
uint64_t wire_extent_max(const struct wire *wire); /* length of one extent */

#endif
