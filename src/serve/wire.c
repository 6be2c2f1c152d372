/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/wire.h"

#include <string.h>

#include "serve/be.h"

const char *const wire_context_names[WIRE_CONTEXTS] = {
	[WIRE_ALLOCATION] = "base:allocation", [WIRE_CHANGED] = "lcpfs:changed"};

/* -- requests -- */

size_t wire_request_bytes(const struct wire *wire)
{
	return wire->style == WIRE_EXTENDED ? 32 : 28;
}

bool wire_is_whole(const struct wire *wire, const struct wire_request *request)
{
	return wire->style == WIRE_SIMPLE || request->flags & NBD_CMD_FLAG_DF;
}

static void refuse(struct wire_request *request, uint32_t error, const char *reason)
{
	if (request->error)
		return; /* the first reason counts */
	request->error = error;
	request->reason = reason;
}

/* How many bytes follow the header. false: more than anybody may send. */
static bool find_payload(const struct wire *wire, struct wire_request *request)
{
	bool flagged = request->flags & NBD_CMD_FLAG_PAYLOAD_LEN;
	if (wire->style != WIRE_EXTENDED) {
		request->payload_bytes = request->type == NBD_CMD_WRITE ? request->length : 0;
		if (request->payload_bytes > WIRE_PAYLOAD_MAX)
			refuse(request, NBD_EINVAL, "more data than a request may carry");
		return true;
	}
	request->payload_bytes = flagged ? request->length : 0;
	if (request->type == NBD_CMD_WRITE && !flagged)
		refuse(request, NBD_EINVAL, "a write without the payload flag");
	return request->payload_bytes <= WIRE_PAYLOAD_MAX;
}

static uint16_t flags_allowed(const struct wire *wire, uint16_t type)
{
	uint16_t payload = wire->style == WIRE_EXTENDED ? NBD_CMD_FLAG_PAYLOAD_LEN : 0;
	switch (type) {
	case NBD_CMD_READ:
		return NBD_CMD_FLAG_FUA | (wire->flags & NBD_FLAG_SEND_DF ? NBD_CMD_FLAG_DF : 0);
	case NBD_CMD_WRITE:
		return NBD_CMD_FLAG_FUA | payload;
	case NBD_CMD_WRITE_ZEROES:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_NO_HOLE | NBD_CMD_FLAG_FAST_ZERO;
	case NBD_CMD_BLOCK_STATUS:
		return NBD_CMD_FLAG_FUA | NBD_CMD_FLAG_REQ_ONE |
		       (wire->flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD ? NBD_CMD_FLAG_PAYLOAD_LEN : 0);
	default:
		return NBD_CMD_FLAG_FUA;
	}
}

static bool changes(uint16_t type)
{
	return type == NBD_CMD_WRITE || type == NBD_CMD_TRIM || type == NBD_CMD_WRITE_ZEROES;
}

static void check_range(const struct wire *wire, struct wire_request *request)
{
	bool inside = request->offset <= wire->bytes && request->length <= wire->bytes - request->offset;
	bool fills = request->type == NBD_CMD_WRITE || request->type == NBD_CMD_WRITE_ZEROES;
	if (!inside)
		refuse(request, fills ? NBD_ENOSPC : NBD_EINVAL, "outside of the export");
}

static void check_length(const struct wire *wire, struct wire_request *request)
{
	uint64_t length = request->length;
	switch (request->type) {
	case NBD_CMD_READ:
		if (wire->style == WIRE_SIMPLE && length > WIRE_PAYLOAD_MAX)
			refuse(request, NBD_EINVAL, "more data than a reply may carry");
		if (request->flags & NBD_CMD_FLAG_DF && length > WIRE_PAYLOAD_MAX)
			refuse(request, NBD_EOVERFLOW, "too long to come unfragmented");
		break;
	case NBD_CMD_FLUSH:
		if (request->offset || length)
			refuse(request, NBD_EINVAL, "a flush has neither offset nor length");
		break;
	case NBD_CMD_WRITE_ZEROES:
		if (request->flags & NBD_CMD_FLAG_FAST_ZERO && request->flags & NBD_CMD_FLAG_NO_HOLE)
			refuse(request, NBD_ENOTSUP, "zeros that take space are no faster than a write");
		break;
	case NBD_CMD_BLOCK_STATUS:
		if (!length)
			refuse(request, NBD_EINVAL, "a block status of nothing");
		break;
	}
}

/* What can be said before the payload is there. */
static void check(const struct wire *wire, struct wire_request *request)
{
	if (request->type > NBD_CMD_BLOCK_STATUS)
		refuse(request, NBD_EINVAL, "no such command");
	if (request->flags & ~flags_allowed(wire, request->type))
		refuse(request, NBD_EINVAL, "a flag that the command does not have");
	if (request->type == NBD_CMD_BLOCK_STATUS && !request->contexts)
		refuse(request, NBD_EINVAL, "no metadata context was selected");
	if (changes(request->type) && wire->flags & NBD_FLAG_READ_ONLY)
		refuse(request, NBD_EPERM, "the export is read-only");
	if (request->type == NBD_CMD_BLOCK_STATUS && request->payload_bytes)
		return; /* the range is in the payload */
	check_length(wire, request);
	check_range(wire, request);
}

bool wire_request_parse(const struct wire *wire, const uint8_t *header, struct wire_request *request)
{
	bool extended = wire->style == WIRE_EXTENDED;
	if (be32_get(header) != (extended ? NBD_EXTENDED_REQUEST_MAGIC : NBD_REQUEST_MAGIC))
		return false;
	*request = (struct wire_request){
		.flags = be16_get(header + 4),
		.type = be16_get(header + 6),
		.contexts = wire->contexts,
		.cookie = be64_get(header + 8),
		.offset = be64_get(header + 16),
		.length = extended ? be64_get(header + 24) : be32_get(header + 24),
	};
	if (!find_payload(wire, request))
		return false;
	if (request->type != NBD_CMD_DISC)
		check(wire, request);
	return true;
}

void wire_status_payload_parse(const struct wire *wire, const uint8_t *payload, struct wire_request *request)
{
	uint64_t bytes = request->payload_bytes;
	if (bytes < 8 || bytes > WIRE_STATUS_PAYLOAD_MAX || bytes % 4) {
		refuse(request, NBD_EINVAL, "not a list of metadata contexts");
		return;
	}
	request->length = be64_get(payload);
	request->contexts = 0;
	for (uint64_t at = 8; at < bytes; at += 4) {
		uint32_t id = be32_get(payload + at) - 1;
		bool known = id < WIRE_CONTEXTS && wire->contexts & UINT32_C(1) << id;
		if (!known || request->contexts & UINT32_C(1) << id)
			refuse(request, NBD_EINVAL, "a metadata context that was not selected, or twice the same");
		else
			request->contexts |= UINT32_C(1) << id;
	}
	if (!request->contexts)
		refuse(request, NBD_EINVAL, "no metadata context is named");
	check_length(wire, request);
	check_range(wire, request);
}

/* -- replies -- */

static uint8_t *put_simple(const struct wire_request *request, uint32_t error, uint8_t *at)
{
	at = be32_put(at, NBD_SIMPLE_REPLY_MAGIC);
	at = be32_put(at, error);
	return be64_put(at, request->cookie);
}

static uint8_t *put_chunk(const struct wire *wire, const struct wire_request *request, enum nbd_reply_type type,
			  uint64_t length, bool last, uint8_t *at)
{
	bool extended = wire->style == WIRE_EXTENDED;
	at = be32_put(at, extended ? NBD_EXTENDED_REPLY_MAGIC : NBD_STRUCTURED_REPLY_MAGIC);
	at = be16_put(at, last ? NBD_REPLY_FLAG_DONE : 0);
	at = be16_put(at, (uint16_t)type);
	at = be64_put(at, request->cookie);
	if (!extended)
		return be32_put(at, (uint32_t)length);
	at = be64_put(at, request->offset);
	return be64_put(at, length);
}

/* A simple reply will do wherever it is allowed: it is the shorter one. */
uint8_t *wire_put_done(const struct wire *wire, const struct wire_request *request, uint8_t *at)
{
	bool simple =
		wire->style == WIRE_SIMPLE || (wire->style == WIRE_STRUCTURED && request->type != NBD_CMD_READ);
	return simple ? put_simple(request, 0, at) : put_chunk(wire, request, NBD_REPLY_TYPE_NONE, 0, true, at);
}

uint8_t *wire_put_error(const struct wire *wire, const struct wire_request *request, uint32_t error,
			const char *message, uint8_t *at)
{
	CHECK(error);
	if (wire->style == WIRE_SIMPLE)
		return put_simple(request, error, at);
	size_t length = message ? strnlen(message, WIRE_MESSAGE_MAX) : 0;
	at = put_chunk(wire, request, NBD_REPLY_TYPE_ERROR, 6 + length, true, at);
	at = be32_put(at, error);
	at = be16_put(at, (uint16_t)length);
	if (length)
		memcpy(at, message, length);
	return at + length;
}

uint8_t *wire_put_data(const struct wire *wire, const struct wire_request *request, uint64_t offset,
		       uint32_t length, bool last, uint8_t *at)
{
	if (wire->style == WIRE_SIMPLE)
		return put_simple(request, 0, at);
	at = put_chunk(wire, request, NBD_REPLY_TYPE_OFFSET_DATA, UINT64_C(8) + length, last, at);
	return be64_put(at, offset);
}

size_t wire_extent_bytes(const struct wire *wire)
{
	return wire->style == WIRE_EXTENDED ? 16 : 8;
}

uint64_t wire_extent_max(const struct wire *wire)
{
	return wire->style == WIRE_EXTENDED ? INT64_MAX : UINT32_MAX & ~(uint32_t)(WIRE_BLOCK_PREFERRED - 1);
}

uint8_t *wire_put_status(const struct wire *wire, const struct wire_request *request, enum wire_context context,
			 uint32_t count, bool last, uint8_t *at)
{
	bool extended = wire->style == WIRE_EXTENDED;
	size_t length = (extended ? 8 : 4) + count * wire_extent_bytes(wire);
	at = put_chunk(wire, request, extended ? NBD_REPLY_TYPE_BLOCK_STATUS_EXT : NBD_REPLY_TYPE_BLOCK_STATUS,
		       length, last, at);
	at = be32_put(at, context + 1);
	return extended ? be32_put(at, count) : at;
}

uint8_t *wire_put_extent(const struct wire *wire, uint64_t length, uint32_t status, uint8_t *at)
{
	if (wire->style != WIRE_EXTENDED)
		return be32_put(be32_put(at, (uint32_t)length), status);
	return be64_put(be64_put(at, length), status);
}
