/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/handshake.h"

#include <stdlib.h>
#include <string.h>

#include "serve/be.h"

void handshake_init(struct handshake *h, enum serve_tls tls)
{
	*h = (struct handshake){.tls = tls};
	uint8_t *at = bytes_extend(&h->out, 18);
	if (!at)
		return;
	at = be64_put(at, NBD_MAGIC);
	at = be64_put(at, NBD_OPTION_MAGIC);
	be16_put(at, NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES);
}

void handshake_free(struct handshake *h)
{
	bytes_free(&h->out);
}

static void forget_agreements(struct handshake *h)
{
	h->wire = (struct wire){0};
	h->context_export[0] = '\0';
}

void handshake_secured(struct handshake *h)
{
	h->is_secure = true;
	forget_agreements(h);
}

/* -- replies to options -- */

/* A reply of that length: where to put what it holds; NULL where there is no memory. */
static uint8_t *put_reply(struct handshake *h, uint32_t type, size_t length)
{
	uint8_t *at = bytes_extend(&h->out, 20 + length);
	if (!at)
		return NULL;
	at = be64_put(at, NBD_OPTION_REPLY_MAGIC);
	at = be32_put(at, h->option);
	at = be32_put(at, type);
	return be32_put(at, (uint32_t)length);
}

/* A reply with a number, of 0, 2 or 4 bytes, and a text. */
static void put_text_reply(struct handshake *h, uint32_t type, unsigned number_bytes, uint32_t number,
			   const char *text)
{
	size_t length = strlen(text);
	uint8_t *at = put_reply(h, type, number_bytes + length);
	if (!at)
		return;
	if (number_bytes == 2)
		at = be16_put(at, (uint16_t)number);
	else if (number_bytes == 4)
		at = be32_put(at, number);
	memcpy(at, text, length);
}

static enum handshake_next go_on(const struct handshake *h)
{
	return h->out.failed ? HANDSHAKE_END : HANDSHAKE_AGAIN;
}

static enum handshake_next acknowledge(struct handshake *h)
{
	put_reply(h, NBD_REP_ACK, 0);
	return go_on(h);
}

static enum handshake_next refuse(struct handshake *h, uint32_t type, const char *message)
{
	if (h->option == NBD_OPT_EXPORT_NAME)
		return HANDSHAKE_END; /* it cannot be told */
	put_text_reply(h, type, 0, 0, message);
	return go_on(h);
}

/* -- what options hold -- */

struct reader {
	const uint8_t *at;
	size_t left;
	bool bad;
};

static const uint8_t *take(struct reader *r, size_t length)
{
	const uint8_t *at = r->at;
	r->bad |= length > r->left;
	if (r->bad)
		return NULL;
	r->at += length;
	r->left -= length;
	return at;
}

static uint32_t take_be32(struct reader *r)
{
	const uint8_t *at = take(r, 4);
	return at ? be32_get(at) : 0;
}

static uint16_t take_be16(struct reader *r)
{
	const uint8_t *at = take(r, 2);
	return at ? be16_get(at) : 0;
}

/* false: no export has such a name. */
static bool take_name(struct handshake *h, struct reader *r, uint32_t length)
{
	const uint8_t *name = take(r, length);
	if (!name || length > HANDSHAKE_NAME_MAX || memchr(name, '\0', length))
		return false;
	memcpy(h->name, name, length);
	h->name[length] = '\0';
	return true;
}

static enum handshake_next look_up(struct handshake *h, enum handshake_lookup lookup)
{
	h->lookup = lookup;
	return HANDSHAKE_LOOKUP;
}

static enum handshake_next no_such_export(struct handshake *h)
{
	return refuse(h, NBD_REP_ERR_UNKNOWN, "there is no export of that name");
}

static enum handshake_next option_export_name(struct handshake *h, struct reader *r)
{
	if (h->wire.style == WIRE_EXTENDED || !take_name(h, r, (uint32_t)r->left))
		return HANDSHAKE_END;
	return look_up(h, LOOKUP_ENTER);
}

static enum handshake_next option_info(struct handshake *h, struct reader *r)
{
	bool named = take_name(h, r, take_be32(r));
	uint16_t count = take_be16(r);
	h->infos = 0;
	for (unsigned i = 0; i < count && !r->bad; i++) {
		uint16_t info = take_be16(r);
		h->infos |= info <= NBD_INFO_BLOCK_SIZE ? UINT32_C(1) << info : 0;
	}
	if (r->bad || r->left)
		return refuse(h, NBD_REP_ERR_INVALID, "not a name and a list of what is asked");
	if (!named)
		return no_such_export(h);
	return look_up(h, h->option == NBD_OPT_GO ? LOOKUP_ENTER : LOOKUP_INFO);
}

/* The contexts that a query means, by bit. In a list, a namespace alone means all that is in it. */
static uint32_t contexts_of(const uint8_t *query, size_t length, bool lists)
{
	uint32_t found = 0;
	for (unsigned i = 0; i < WIRE_CONTEXTS; i++) {
		const char *name = wire_context_names[i];
		size_t space = strcspn(name, ":") + 1;
		bool whole = length == strlen(name) && !memcmp(query, name, length);
		bool all = lists && length == space && !memcmp(query, name, length);
		found |= whole || all ? UINT32_C(1) << i : 0;
	}
	return found;
}

static enum handshake_next option_contexts(struct handshake *h, struct reader *r)
{
	bool lists = h->option == NBD_OPT_LIST_META_CONTEXT;
	if (!lists) { /* what was selected before is gone, also where this fails */
		h->wire.contexts = 0;
		h->context_export[0] = '\0';
	}
	if (h->wire.style == WIRE_SIMPLE)
		return refuse(h, NBD_REP_ERR_INVALID,
			      "metadata contexts need structured replies or extended headers");
	bool named = take_name(h, r, take_be32(r));
	uint32_t count = take_be32(r);
	h->queried = lists && !count ? (UINT32_C(1) << WIRE_CONTEXTS) - 1 : 0;
	for (uint32_t i = 0; i < count && !r->bad; i++) {
		uint32_t length = take_be32(r);
		const uint8_t *query = take(r, length);
		if (query)
			h->queried |= contexts_of(query, length, lists);
	}
	if (r->bad || r->left)
		return refuse(h, NBD_REP_ERR_INVALID, "not a name and a list of queries");
	return named ? look_up(h, LOOKUP_INFO) : no_such_export(h);
}

static enum handshake_next option_starttls(struct handshake *h)
{
	if (h->tls == SERVE_TLS_OFF)
		return refuse(h, NBD_REP_ERR_POLICY, "this server has no TLS");
	if (h->is_secure)
		return refuse(h, NBD_REP_ERR_INVALID, "TLS is up already");
	put_reply(h, NBD_REP_ACK, 0);
	return h->out.failed ? HANDSHAKE_END : HANDSHAKE_STARTTLS;
}

static enum handshake_next option_style(struct handshake *h)
{
	if (h->option == NBD_OPT_EXTENDED_HEADERS)
		h->wire.style = WIRE_EXTENDED;
	else if (h->wire.style == WIRE_EXTENDED)
		return refuse(h, NBD_REP_ERR_EXT_HEADER_REQD, "extended headers are agreed on already");
	else
		h->wire.style = WIRE_STRUCTURED;
	return acknowledge(h);
}

static bool takes_data(uint32_t option)
{
	return option == NBD_OPT_EXPORT_NAME || option == NBD_OPT_INFO || option == NBD_OPT_GO ||
	       option == NBD_OPT_LIST_META_CONTEXT || option == NBD_OPT_SET_META_CONTEXT ||
	       option == NBD_OPT_ABORT;
}

static bool is_known(uint32_t option)
{
	return takes_data(option) || option == NBD_OPT_LIST || option == NBD_OPT_STARTTLS ||
	       option == NBD_OPT_STRUCTURED_REPLY || option == NBD_OPT_EXTENDED_HEADERS;
}

static enum handshake_next answer(struct handshake *h, struct reader *r)
{
	uint32_t option = h->option;
	if (!h->is_fixed && option != NBD_OPT_EXPORT_NAME)
		return HANDSHAKE_END;
	if (option == NBD_OPT_ABORT) {
		(void)acknowledge(h);
		return HANDSHAKE_END;
	}
	if (h->tls == SERVE_TLS_REQUIRE && !h->is_secure && option != NBD_OPT_STARTTLS)
		return refuse(h, NBD_REP_ERR_TLS_REQD, "this server wants TLS first");
	if (!is_known(option))
		return refuse(h, NBD_REP_ERR_UNSUP, "no such option");
	if (r->bad)
		return refuse(h, NBD_REP_ERR_TOO_BIG, "the option is too long");
	if (r->left && !takes_data(option))
		return refuse(h, NBD_REP_ERR_INVALID, "this option takes no data");
	switch (option) {
	case NBD_OPT_EXPORT_NAME:
		return option_export_name(h, r);
	case NBD_OPT_LIST:
		return look_up(h, LOOKUP_LIST);
	case NBD_OPT_STARTTLS:
		return option_starttls(h);
	case NBD_OPT_INFO:
	case NBD_OPT_GO:
		return option_info(h, r);
	case NBD_OPT_STRUCTURED_REPLY:
	case NBD_OPT_EXTENDED_HEADERS:
		return option_style(h);
	default:
		return option_contexts(h, r);
	}
}

/* -- the stream -- */

static enum handshake_next take_flags(struct handshake *h, const uint8_t *bytes, size_t length, size_t *used)
{
	if (length < 4)
		return HANDSHAKE_MORE;
	uint32_t flags = be32_get(bytes);
	*used = 4;
	h->has_flags = true;
	h->is_fixed = flags & NBD_FLAG_FIXED_NEWSTYLE;
	h->no_zeroes = flags & NBD_FLAG_NO_ZEROES;
	return flags & ~(uint32_t)(NBD_FLAG_FIXED_NEWSTYLE | NBD_FLAG_NO_ZEROES) ? HANDSHAKE_END : HANDSHAKE_AGAIN;
}

/* An option that is too long, thrown away piece by piece. */
static enum handshake_next skip(struct handshake *h, size_t length, size_t *used)
{
	*used = length < h->skip ? length : (size_t)h->skip;
	h->skip -= *used;
	if (h->skip)
		return HANDSHAKE_MORE;
	struct reader lost = {.bad = true};
	return answer(h, &lost);
}

enum handshake_next handshake_step(struct handshake *h, const uint8_t *bytes, size_t length, size_t *used)
{
	*used = 0;
	if (h->out.failed)
		return HANDSHAKE_END;
	if (!h->has_flags)
		return take_flags(h, bytes, length, used);
	if (h->skip)
		return skip(h, length, used);
	if (length < HANDSHAKE_OPTION_BYTES)
		return HANDSHAKE_MORE;
	if (be64_get(bytes) != NBD_OPTION_MAGIC)
		return HANDSHAKE_END;
	uint32_t data_bytes = be32_get(bytes + 12);
	h->option = be32_get(bytes + 8);
	if (data_bytes > HANDSHAKE_OPTION_MAX) {
		*used = HANDSHAKE_OPTION_BYTES;
		h->skip = data_bytes;
		return HANDSHAKE_AGAIN;
	}
	if (length - HANDSHAKE_OPTION_BYTES < data_bytes)
		return HANDSHAKE_MORE;
	*used = HANDSHAKE_OPTION_BYTES + data_bytes;
	struct reader r = {.at = bytes + HANDSHAKE_OPTION_BYTES, .left = data_bytes};
	return answer(h, &r);
}

/* -- what was looked up -- */

static void agree(struct handshake *h, const struct handshake_export *found)
{
	unsigned flags = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN |
			 NBD_FLAG_SEND_CACHE;
	if (strcmp(found->name, h->context_export) != 0)
		h->wire.contexts = 0;
	if (found->read_only)
		flags |= NBD_FLAG_READ_ONLY;
	else
		flags |= NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	if (h->wire.style != WIRE_SIMPLE)
		flags |= NBD_FLAG_SEND_DF;
	if (h->wire.style == WIRE_EXTENDED && h->wire.contexts)
		flags |= NBD_FLAG_BLOCK_STATUS_PAYLOAD;
	h->wire.flags = (uint16_t)flags;
	h->wire.bytes = found->bytes;
}

static void put_export(struct handshake *h, uint8_t *at)
{
	be16_put(be64_put(at, h->wire.bytes), h->wire.flags);
}

/* NBD_OPT_EXPORT_NAME is answered without the usual form. */
static enum handshake_next enter_oldly(struct handshake *h)
{
	size_t zeroes = h->no_zeroes ? 0 : NBD_NO_ZEROES_BYTES;
	uint8_t *at = bytes_extend(&h->out, 10 + zeroes);
	if (!at)
		return HANDSHAKE_END;
	memset(at, 0, 10 + zeroes);
	put_export(h, at);
	return HANDSHAKE_TRANSMIT;
}

static void put_infos(struct handshake *h, const struct handshake_export *found)
{
	uint8_t *at = put_reply(h, NBD_REP_INFO, 12);
	if (at)
		put_export(h, be16_put(at, NBD_INFO_EXPORT));
	if (h->infos & 1u << NBD_INFO_NAME)
		put_text_reply(h, NBD_REP_INFO, 2, NBD_INFO_NAME, found->name);
	if (h->infos & 1u << NBD_INFO_DESCRIPTION)
		put_text_reply(h, NBD_REP_INFO, 2, NBD_INFO_DESCRIPTION, found->description);
	at = h->infos & 1u << NBD_INFO_BLOCK_SIZE ? put_reply(h, NBD_REP_INFO, 14) : NULL;
	if (!at)
		return;
	at = be16_put(at, NBD_INFO_BLOCK_SIZE);
	at = be32_put(at, WIRE_BLOCK_MIN);
	at = be32_put(at, WIRE_BLOCK_PREFERRED);
	be32_put(at, WIRE_PAYLOAD_MAX);
}

static enum handshake_next contexts_found(struct handshake *h, const struct handshake_export *found)
{
	bool selects = h->option == NBD_OPT_SET_META_CONTEXT;
	h->queried &= found->contexts;
	for (unsigned i = 0; i < WIRE_CONTEXTS; i++)
		if (h->queried & UINT32_C(1) << i)
			put_text_reply(h, NBD_REP_META_CONTEXT, 4, selects ? i + 1 : 0, wire_context_names[i]);
	if (selects) {
		h->wire.contexts = h->queried;
		memcpy(h->context_export, found->name, sizeof(h->context_export));
	}
	return acknowledge(h);
}

enum handshake_next handshake_found(struct handshake *h, const struct handshake_export *found, const char *message)
{
	CHECK(h->lookup == LOOKUP_INFO || h->lookup == LOOKUP_ENTER);
	bool enters = h->lookup == LOOKUP_ENTER;
	h->lookup = LOOKUP_NONE;
	if (!found)
		return refuse(h, NBD_REP_ERR_UNKNOWN, message);
	if (h->option == NBD_OPT_LIST_META_CONTEXT || h->option == NBD_OPT_SET_META_CONTEXT)
		return contexts_found(h, found);
	struct wire before = h->wire;
	agree(h, found);
	if (h->option == NBD_OPT_EXPORT_NAME)
		return enter_oldly(h);
	put_infos(h, found);
	enum handshake_next next = acknowledge(h);
	if (enters && next == HANDSHAKE_AGAIN)
		return HANDSHAKE_TRANSMIT;
	h->wire = before; /* asking alone agrees on nothing */
	return next;
}

enum handshake_next handshake_listed(struct handshake *h, const struct handshake_export *list, size_t count,
				     const char *message)
{
	CHECK(h->lookup == LOOKUP_LIST);
	h->lookup = LOOKUP_NONE;
	if (!list && message)
		return refuse(h, NBD_REP_ERR_PLATFORM, message);
	for (size_t i = 0; i < count; i++) {
		size_t name = strlen(list[i].name), description = strlen(list[i].description);
		uint8_t *at = put_reply(h, NBD_REP_SERVER, 4 + name + description);
		if (!at)
			break;
		at = be32_put(at, (uint32_t)name);
		memcpy(at, list[i].name, name);
		memcpy(at + name, list[i].description, description);
	}
	return acknowledge(h);
}
