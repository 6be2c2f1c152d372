/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handshake by the book (doc/proto.md of the NetworkBlockDevice project): each rule that a server MUST or
 * SHOULD keep.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "serve/be.h"
#include "serve/handshake.h"

/* -- a client, in few words -- */

static struct handshake h;
static size_t taken; /* of h.out */

static void begin_with(enum serve_tls tls, uint32_t flags)
{
	uint8_t bytes[4];
	size_t used;
	handshake_free(&h);
	handshake_init(&h, tls);
	assert_int_equal(h.out.length, 18);
	assert_memory_equal(h.out.data, "NBDMAGICIHAVEOPT\0\3", 18);
	be32_put(bytes, flags);
	assert_int_equal(handshake_step(&h, bytes, 3, &used), HANDSHAKE_MORE);
	assert_int_equal(used, 0);
	assert_int_equal(handshake_step(&h, bytes, 4, &used), flags & ~3u ? HANDSHAKE_END : HANDSHAKE_AGAIN);
	assert_int_equal(used, 4);
	h.out.length = 0;
	taken = 0;
}

static int end(void **state)
{
	(void)state;
	handshake_free(&h);
	return 0;
}

static enum handshake_next option(uint32_t number, const void *data, size_t length)
{
	uint8_t *bytes = malloc(16 + length);
	size_t used;
	assert_non_null(bytes);
	be32_put(be32_put(be64_put(bytes, NBD_OPTION_MAGIC), number), (uint32_t)length);
	if (length)
		memcpy(bytes + 16, data, length);
	for (size_t n = 0; n < 16 + length && n < 200; n++) { /* less than all of it: it asks for more */
		assert_int_equal(handshake_step(&h, bytes, n, &used), HANDSHAKE_MORE);
		assert_int_equal(used, 0);
	}
	enum handshake_next next = handshake_step(&h, bytes, 16 + length, &used);
	assert_int_equal(used, 16 + length);
	free(bytes);
	return next;
}

/* The next reply has to be this; its data. */
static const uint8_t *reply(uint32_t number, uint32_t type, uint32_t *length)
{
	const uint8_t *at = h.out.data + taken;
	assert_true(h.out.length - taken >= 20);
	assert_true(be64_get(at) == NBD_OPTION_REPLY_MAGIC);
	assert_int_equal(be32_get(at + 8), number);
	assert_int_equal(be32_get(at + 12), type);
	*length = be32_get(at + 16);
	taken += 20 + *length;
	assert_true(taken <= h.out.length);
	return at + 20;
}

static void only_reply(uint32_t number, uint32_t type)
{
	uint32_t length;
	reply(number, type, &length);
	assert_int_equal(taken, h.out.length);
	assert_true(type != NBD_REP_ACK || !length);
}

static const struct handshake_export db = {.name = "db", .description = "a volume", .bytes = 12345, .contexts = 1};

#define GO "\0\0\0\2db\0\0"
#define CONTEXT "\0\0\0\2db\0\0\0\1\0\0\0\17base:allocation"
#define DATA(text) (text), sizeof(text) - 1

static void refused(uint32_t number, const void *data, size_t length, uint32_t type)
{
	assert_int_equal(option(number, data, length), HANDSHAKE_AGAIN);
	only_reply(number, type);
}

static void accepted(uint32_t number)
{
	refused(number, NULL, 0, NBD_REP_ACK);
}

/* -- rules -- */

static void unknown_client_flags_end_it(void **state)
{
	(void)state;
	begin_with(SERVE_TLS_OFF, 4);
	begin_with(SERVE_TLS_OFF, 0x80000001);
}

static void what_is_no_option_ends_it(void **state)
{
	uint8_t bytes[16] = "IHAVEOPU";
	size_t used;
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	assert_int_equal(handshake_step(&h, bytes, 16, &used), HANDSHAKE_END);
}

static void without_fixed_newstyle_only_export_name_is_an_option(void **state)
{
	(void)state;
	begin_with(SERVE_TLS_OFF, 0);
	assert_int_equal(option(NBD_OPT_LIST, NULL, 0), HANDSHAKE_END);
	begin_with(SERVE_TLS_OFF, 0);
	assert_int_equal(option(NBD_OPT_EXPORT_NAME, DATA("db")), HANDSHAKE_LOOKUP);
	assert_string_equal(h.name, "db");
}

static void unknown_options_are_refused_and_the_next_is_understood(void **state)
{
	static const uint8_t data[1000];
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	refused(4, NULL, 0, NBD_REP_ERR_UNSUP); /* PEEK_EXPORT, withdrawn */
	refused(0x12345678, data, sizeof(data), NBD_REP_ERR_UNSUP);
	accepted(NBD_OPT_STRUCTURED_REPLY);
}

static void options_that_take_no_data_refuse_it(void **state)
{
	static const uint32_t options[] = {NBD_OPT_LIST, NBD_OPT_STRUCTURED_REPLY, NBD_OPT_EXTENDED_HEADERS};
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	for (size_t i = 0; i < ARRAY_LENGTH(options); i++)
		refused(options[i], DATA("x"), NBD_REP_ERR_INVALID);
	assert_int_equal(h.wire.style, WIRE_SIMPLE);
}

static void abort_is_acknowledged_whatever_comes_with_it(void **state)
{
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	assert_int_equal(option(NBD_OPT_ABORT, DATA("x")), HANDSHAKE_END);
	only_reply(NBD_OPT_ABORT, NBD_REP_ACK);
	begin_with(SERVE_TLS_REQUIRE, 1);
	assert_int_equal(option(NBD_OPT_ABORT, NULL, 0), HANDSHAKE_END);
	only_reply(NBD_OPT_ABORT, NBD_REP_ACK);
}

static void a_list_has_every_export(void **state)
{
	uint32_t length;
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	assert_int_equal(option(NBD_OPT_LIST, NULL, 0), HANDSHAKE_LOOKUP);
	assert_int_equal(handshake_listed(&h, (struct handshake_export[]){db, db}, 2, NULL), HANDSHAKE_AGAIN);
	for (int i = 0; i < 2; i++) {
		const uint8_t *data = reply(NBD_OPT_LIST, NBD_REP_SERVER, &length);
		assert_int_equal(length, 14);
		assert_memory_equal(data, "\0\0\0\2dba volume", 14);
	}
	only_reply(NBD_OPT_LIST, NBD_REP_ACK);
	assert_int_equal(option(NBD_OPT_LIST, NULL, 0), HANDSHAKE_LOOKUP);
	assert_int_equal(handshake_listed(&h, NULL, 0, "it hurts"), HANDSHAKE_AGAIN);
	only_reply(NBD_OPT_LIST, NBD_REP_ERR_PLATFORM);
}

static void info_tells_and_agrees_on_nothing(void **state)
{
	uint32_t length;
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	assert_int_equal(option(NBD_OPT_INFO, DATA("\0\0\0\0\0\4\0\1\0\2\0\3\0\x63")), HANDSHAKE_LOOKUP);
	assert_string_equal(h.name, "");
	assert_int_equal(handshake_found(&h, &db, NULL), HANDSHAKE_AGAIN);
	const uint8_t *data = reply(NBD_OPT_INFO, NBD_REP_INFO, &length);
	assert_int_equal(length, 12);
	assert_true(be64_get(data + 2) == 12345);
	data = reply(NBD_OPT_INFO, NBD_REP_INFO, &length);
	assert_memory_equal(data, "\0\1db", length);
	data = reply(NBD_OPT_INFO, NBD_REP_INFO, &length);
	assert_memory_equal(data, "\0\2a volume", length);
	data = reply(NBD_OPT_INFO, NBD_REP_INFO, &length);
	assert_memory_equal(data, "\0\3\0\0\0\1\0\0\x10\0\2\0\0\0", length);
	only_reply(NBD_OPT_INFO, NBD_REP_ACK);
	assert_true(h.wire.bytes == 0);
}

static void go_enters_and_tells_the_flags(void **state)
{
	unsigned common = NBD_FLAG_HAS_FLAGS | NBD_FLAG_SEND_FLUSH | NBD_FLAG_SEND_FUA | NBD_FLAG_CAN_MULTI_CONN |
			  NBD_FLAG_SEND_CACHE;
	unsigned writes = NBD_FLAG_SEND_TRIM | NBD_FLAG_SEND_WRITE_ZEROES | NBD_FLAG_SEND_FAST_ZERO;
	struct handshake_export ro = db;
	(void)state;
	begin_with(SERVE_TLS_OFF, 3);
	assert_int_equal(option(NBD_OPT_GO, DATA(GO)), HANDSHAKE_LOOKUP);
	assert_int_equal(handshake_found(&h, &db, NULL), HANDSHAKE_TRANSMIT);
	assert_int_equal(h.wire.flags, common | writes);
	begin_with(SERVE_TLS_OFF, 1);
	accepted(NBD_OPT_STRUCTURED_REPLY);
	ro.read_only = true;
	assert_int_equal(option(NBD_OPT_GO, DATA(GO)), HANDSHAKE_LOOKUP);
	assert_int_equal(handshake_found(&h, &ro, NULL), HANDSHAKE_TRANSMIT);
	assert_int_equal(h.wire.flags, common | NBD_FLAG_READ_ONLY | NBD_FLAG_SEND_DF);
}

static void a_malformed_go_is_invalid(void **state)
{
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	refused(NBD_OPT_GO, NULL, 0, NBD_REP_ERR_INVALID);
	refused(NBD_OPT_GO, DATA("\0\0\0\3db\0\0"), NBD_REP_ERR_INVALID);
	refused(NBD_OPT_GO, DATA("\xff\xff\xff\xff" "db\0\0"), NBD_REP_ERR_INVALID);
	refused(NBD_OPT_INFO, DATA("\0\0\0\2db\0\2\0\0"), NBD_REP_ERR_INVALID);
	refused(NBD_OPT_INFO, DATA("\0\0\0\2db\0\0x"), NBD_REP_ERR_INVALID);
}

static void an_export_that_is_not_there_is_unknown(void **state)
{
	uint8_t data[HANDSHAKE_NAME_MAX + 1 + 6] = {0, 0, 1, 0};
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	assert_int_equal(option(NBD_OPT_GO, DATA(GO)), HANDSHAKE_LOOKUP);
	assert_int_equal(handshake_found(&h, NULL, "there is no partition db"), HANDSHAKE_AGAIN);
	only_reply(NBD_OPT_GO, NBD_REP_ERR_UNKNOWN);
	refused(NBD_OPT_GO, data, sizeof(data), NBD_REP_ERR_UNKNOWN); /* none of ours has such a long name */
	refused(NBD_OPT_GO, DATA("\0\0\0\2d\0\0\0"), NBD_REP_ERR_UNKNOWN);
	assert_int_equal(option(NBD_OPT_EXPORT_NAME, DATA("db")), HANDSHAKE_LOOKUP);
	assert_int_equal(handshake_found(&h, NULL, "there is no partition db"),
			 HANDSHAKE_END); /* it cannot be told */
	assert_int_equal(taken, h.out.length);
}

static void export_name_is_answered_with_or_without_zeroes(void **state)
{
	(void)state;
	for (uint32_t flags = 1; flags <= 3; flags += 2) {
		begin_with(SERVE_TLS_OFF, flags);
		assert_int_equal(option(NBD_OPT_EXPORT_NAME, NULL, 0), HANDSHAKE_LOOKUP);
		assert_int_equal(handshake_found(&h, &db, NULL), HANDSHAKE_TRANSMIT);
		assert_int_equal(h.out.length, flags == 1 ? 134 : 10);
		assert_true(be64_get(h.out.data) == 12345);
	}
}

static void extended_headers_come_before_structured_replies(void **state)
{
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	accepted(NBD_OPT_STRUCTURED_REPLY);
	accepted(NBD_OPT_EXTENDED_HEADERS);
	refused(NBD_OPT_STRUCTURED_REPLY, NULL, 0, NBD_REP_ERR_EXT_HEADER_REQD);
	assert_int_equal(h.wire.style, WIRE_EXTENDED);
	assert_int_equal(option(NBD_OPT_EXPORT_NAME, DATA("db")), HANDSHAKE_END);
}

static void select_allocation(void)
{
	uint32_t length;
	assert_int_equal(option(NBD_OPT_SET_META_CONTEXT, DATA(CONTEXT)), HANDSHAKE_LOOKUP);
	assert_int_equal(handshake_found(&h, &db, NULL), HANDSHAKE_AGAIN);
	const uint8_t *data = reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_META_CONTEXT, &length);
	assert_memory_equal(data, "\0\0\0\1base:allocation", length);
	only_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK);
}

static uint32_t contexts_after_go(const char *name)
{
	struct handshake_export found = db;
	strcpy(found.name, name);
	assert_int_equal(option(NBD_OPT_GO, DATA(GO)), HANDSHAKE_LOOKUP);
	assert_int_equal(handshake_found(&h, &found, NULL), HANDSHAKE_TRANSMIT);
	return h.wire.contexts;
}

static void contexts_hold_for_their_export_alone(void **state)
{
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	accepted(NBD_OPT_STRUCTURED_REPLY);
	select_allocation();
	assert_int_equal(contexts_after_go("db"), 1);
	assert_false(h.wire.flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD);
	begin_with(SERVE_TLS_OFF, 1);
	accepted(NBD_OPT_EXTENDED_HEADERS);
	select_allocation();
	assert_int_equal(contexts_after_go("other"), 0);
	assert_false(h.wire.flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD);
	begin_with(SERVE_TLS_OFF, 1);
	accepted(NBD_OPT_EXTENDED_HEADERS);
	select_allocation();
	assert_int_equal(contexts_after_go("db"), 1);
	assert_true(h.wire.flags & NBD_FLAG_BLOCK_STATUS_PAYLOAD);
}

static void a_failed_selection_selects_nothing(void **state)
{
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	refused(NBD_OPT_SET_META_CONTEXT, DATA(CONTEXT), NBD_REP_ERR_INVALID); /* without structured replies */
	accepted(NBD_OPT_STRUCTURED_REPLY);
	select_allocation();
	refused(NBD_OPT_SET_META_CONTEXT, DATA("\0\0\0\2db\0\0\0\1\0\0\0\x63" "base:"), NBD_REP_ERR_INVALID);
	assert_int_equal(contexts_after_go("db"), 0);
}

static struct handshake_export found_export = {.name = "db", .contexts = 1};

/* What a query of one option finds: how many contexts. */
static unsigned found_by(uint32_t number, const char *query)
{
	uint8_t data[64] = "\0\0\0\2db\0\0\0\1", *at = data + 10;
	uint32_t length;
	unsigned count = 0;
	at = be32_put(at, (uint32_t)strlen(query));
	memcpy(at, query, strlen(query));
	assert_int_equal(option(number, data, 14 + strlen(query)), HANDSHAKE_LOOKUP);
	assert_int_equal(handshake_found(&h, &found_export, NULL), HANDSHAKE_AGAIN);
	while (be32_get(h.out.data + taken + 12) == NBD_REP_META_CONTEXT) {
		reply(number, NBD_REP_META_CONTEXT, &length);
		count++;
	}
	only_reply(number, NBD_REP_ACK);
	return count;
}

static void queries_find_what_they_name(void **state)
{
	uint32_t length;
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	accepted(NBD_OPT_STRUCTURED_REPLY);
	assert_int_equal(found_by(NBD_OPT_LIST_META_CONTEXT, "base:"), 1);
	assert_int_equal(found_by(NBD_OPT_SET_META_CONTEXT, "base:"), 0);
	assert_int_equal(found_by(NBD_OPT_LIST_META_CONTEXT, "base:allocation"), 1);
	assert_int_equal(found_by(NBD_OPT_LIST_META_CONTEXT, "base:allocatio"), 0);
	assert_int_equal(found_by(NBD_OPT_SET_META_CONTEXT, "base:allocations"), 0);
	assert_int_equal(found_by(NBD_OPT_SET_META_CONTEXT, "qemu:allocation-depth"), 0);
	assert_int_equal(found_by(NBD_OPT_SET_META_CONTEXT, "lcpfs:changed"),
			 0); /* there is none of this export */
	found_export.contexts = 3;
	assert_int_equal(found_by(NBD_OPT_LIST_META_CONTEXT, "lcpfs:"), 1);
	assert_int_equal(found_by(NBD_OPT_LIST_META_CONTEXT, "base:"), 1);
	assert_int_equal(found_by(NBD_OPT_SET_META_CONTEXT, "lcpfs:changed"), 1);
	assert_int_equal(found_by(NBD_OPT_SET_META_CONTEXT, "lcpfs:"), 0);
	found_export.contexts = 1;
	assert_int_equal(found_by(NBD_OPT_SET_META_CONTEXT, ""), 0);
	assert_int_equal(option(NBD_OPT_LIST_META_CONTEXT, DATA("\0\0\0\2db\0\0\0\0")), HANDSHAKE_LOOKUP);
	assert_int_equal(handshake_found(&h, &db, NULL), HANDSHAKE_AGAIN);
	reply(NBD_OPT_LIST_META_CONTEXT, NBD_REP_META_CONTEXT, &length); /* no query: all */
	only_reply(NBD_OPT_LIST_META_CONTEXT, NBD_REP_ACK);
	assert_int_equal(option(NBD_OPT_SET_META_CONTEXT, DATA("\0\0\0\2db\0\0\0\0")), HANDSHAKE_LOOKUP);
	assert_int_equal(handshake_found(&h, &db, NULL), HANDSHAKE_AGAIN);
	only_reply(NBD_OPT_SET_META_CONTEXT, NBD_REP_ACK); /* no query: none */
}

static void tls_that_is_off_is_refused(void **state)
{
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	refused(NBD_OPT_STARTTLS, NULL, 0, NBD_REP_ERR_POLICY);
}

static void tls_that_is_required_comes_first(void **state)
{
	static const uint32_t options[] = {NBD_OPT_LIST, NBD_OPT_INFO, NBD_OPT_GO, NBD_OPT_STRUCTURED_REPLY, 99};
	(void)state;
	begin_with(SERVE_TLS_REQUIRE, 1);
	for (size_t i = 0; i < ARRAY_LENGTH(options); i++)
		refused(options[i], NULL, 0, NBD_REP_ERR_TLS_REQD);
	refused(NBD_OPT_STARTTLS, DATA("x"), NBD_REP_ERR_INVALID);
	assert_int_equal(option(NBD_OPT_STARTTLS, NULL, 0), HANDSHAKE_STARTTLS);
	only_reply(NBD_OPT_STARTTLS, NBD_REP_ACK);
	handshake_secured(&h);
	refused(NBD_OPT_STARTTLS, NULL, 0, NBD_REP_ERR_INVALID);
	assert_int_equal(option(NBD_OPT_GO, DATA(GO)), HANDSHAKE_LOOKUP);
	begin_with(SERVE_TLS_REQUIRE, 1);
	assert_int_equal(option(NBD_OPT_EXPORT_NAME, DATA("db")), HANDSHAKE_END);
}

static void tls_forgets_what_was_agreed_before(void **state)
{
	(void)state;
	begin_with(SERVE_TLS_ON, 1);
	accepted(NBD_OPT_STRUCTURED_REPLY);
	select_allocation();
	assert_int_equal(option(NBD_OPT_STARTTLS, NULL, 0), HANDSHAKE_STARTTLS);
	only_reply(NBD_OPT_STARTTLS, NBD_REP_ACK);
	handshake_secured(&h);
	assert_int_equal(h.wire.style, WIRE_SIMPLE);
	assert_int_equal(contexts_after_go("db"), 0);
}

/* An option of `length` bytes, given in pieces. */
static enum handshake_next long_option(uint32_t number, uint32_t length)
{
	static uint8_t bytes[4096];
	size_t used;
	enum handshake_next next = HANDSHAKE_AGAIN;
	be32_put(be32_put(be64_put(bytes, NBD_OPTION_MAGIC), number), length);
	assert_int_equal(handshake_step(&h, bytes, 16, &used), HANDSHAKE_AGAIN);
	assert_int_equal(used, 16);
	for (uint64_t left = length; left; left -= used) {
		next = handshake_step(&h, bytes, (size_t)MIN_OF(left, (uint64_t)sizeof(bytes)), &used);
		assert_true(used);
		assert_int_equal(next == HANDSHAKE_MORE, used < left);
	}
	return next;
}

static void an_option_that_is_too_long_is_skipped(void **state)
{
	(void)state;
	begin_with(SERVE_TLS_OFF, 1);
	assert_int_equal(long_option(NBD_OPT_GO, HANDSHAKE_OPTION_MAX + 1), HANDSHAKE_AGAIN);
	only_reply(NBD_OPT_GO, NBD_REP_ERR_TOO_BIG);
	assert_int_equal(long_option(77, 10000000), HANDSHAKE_AGAIN);
	only_reply(77, NBD_REP_ERR_UNSUP);
	accepted(NBD_OPT_STRUCTURED_REPLY);
	assert_int_equal(long_option(NBD_OPT_EXPORT_NAME, 100000), HANDSHAKE_END);
}

/* No export has one; and there is no place for it. */
static void a_long_name_is_unknown(void **state)
{
	static uint8_t go[4 + 4096 + 2];
	(void)state;
	for (uint32_t length = HANDSHAKE_NAME_MAX + 1; length <= 4096; length = length < 4096 ? 4096 : 4097) {
		begin_with(SERVE_TLS_OFF, 1);
		memset(be32_put(go, length), 'a', length);
		memset(go + 4 + length, 0, 2);
		refused(NBD_OPT_GO, go, 4 + length + 2, NBD_REP_ERR_UNKNOWN);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(unknown_client_flags_end_it),
		cmocka_unit_test(what_is_no_option_ends_it),
		cmocka_unit_test(without_fixed_newstyle_only_export_name_is_an_option),
		cmocka_unit_test(unknown_options_are_refused_and_the_next_is_understood),
		cmocka_unit_test(options_that_take_no_data_refuse_it),
		cmocka_unit_test(abort_is_acknowledged_whatever_comes_with_it),
		cmocka_unit_test(a_list_has_every_export),
		cmocka_unit_test(info_tells_and_agrees_on_nothing),
		cmocka_unit_test(go_enters_and_tells_the_flags),
		cmocka_unit_test(a_malformed_go_is_invalid),
		cmocka_unit_test(an_export_that_is_not_there_is_unknown),
		cmocka_unit_test(export_name_is_answered_with_or_without_zeroes),
		cmocka_unit_test(extended_headers_come_before_structured_replies),
		cmocka_unit_test(contexts_hold_for_their_export_alone),
		cmocka_unit_test(a_failed_selection_selects_nothing),
		cmocka_unit_test(queries_find_what_they_name),
		cmocka_unit_test(tls_that_is_off_is_refused),
		cmocka_unit_test(tls_that_is_required_comes_first),
		cmocka_unit_test(tls_forgets_what_was_agreed_before),
		cmocka_unit_test(an_option_that_is_too_long_is_skipped),
		cmocka_unit_test(a_long_name_is_unknown),
	};
	return cmocka_run_group_tests_name("handshake", tests, NULL, end);
}
