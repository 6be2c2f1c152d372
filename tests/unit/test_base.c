/* SPDX-License-Identifier: Apache-2.0 */
#include <errno.h>
#include <limits.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/le.h"
#include "base/plain.h"
#include "base/text.h"

static void little_endian_fields_have_their_bytes_in_order(void **state)
{
	le16 a = le16_of(0x1234);
	le32 b = le32_of(0x12345678);
	le64 c = le64_of(0x123456789abcdef0u);
	(void)state;
	assert_memory_equal(&a, "\x34\x12", 2);
	assert_memory_equal(&b, "\x78\x56\x34\x12", 4);
	assert_memory_equal(&c, "\xf0\xde\xbc\x9a\x78\x56\x34\x12", 8);
}

static void little_endian_fields_round_trip(void **state)
{
	(void)state;
	assert_int_equal(le16_get(le16_of(UINT16_MAX)), UINT16_MAX);
	assert_int_equal(le32_get(le32_of(UINT32_MAX)), UINT32_MAX);
	for (unsigned bit = 0; bit < 64; bit++)
		assert_true(le64_get(le64_of(UINT64_C(1) << bit)) == UINT64_C(1) << bit);
}

static void every_error_has_a_name_an_errno_and_a_sentence(void **state)
{
	(void)state;
	for (int code = 1; code < LCPFS_E_END; code++) {
		assert_non_null(lcpfs_error_name(code));
		assert_string_equal(lcpfs_error_name(code), lcpfs_error_name(-code));
		assert_true(strlen(lcpfs_error_sentence(code)) > 0);
		assert_true(lcpfs_error_errno(-code) > 0);
	}
	assert_string_equal(lcpfs_error_name(-LCPFS_E_NOSPC), "NOSPC");
	assert_int_equal(lcpfs_error_errno(-LCPFS_E_NOSPC), ENOSPC);
}

static void unknown_errors_are_named_so(void **state)
{
	static const int codes[] = {LCPFS_E_END, -LCPFS_E_END, INT_MAX, INT_MIN};
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(codes); i++) {
		assert_string_equal(lcpfs_error_sentence(codes[i]), "unknown error");
		assert_int_equal(lcpfs_error_errno(codes[i]), EIO);
	}
}

static void device_errnos_map_to_codes(void **state)
{
	(void)state;
	assert_int_equal(error_from_errno(ENOSPC), LCPFS_E_DEVICE_FULL);
	assert_int_equal(error_from_errno(ENOMEM), LCPFS_E_NOMEM);
	assert_int_equal(error_from_errno(EIO), LCPFS_E_IO);
	assert_int_equal(error_from_errno(EINVAL), LCPFS_E_IO);
}

static void a_failure_is_one_line_whatever_its_arguments(void **state)
{
	struct lcpfs_failure failure = {0};
	(void)state;
	assert_int_equal(failure_set(&failure, LCPFS_E_BUSY, "partition %s: %d", "a\nb\t\x7f", 7), -LCPFS_E_BUSY);
	assert_int_equal(failure.code, LCPFS_E_BUSY);
	assert_string_equal(failure.message, "partition a?b??: 7");
	assert_int_equal(failure_set(NULL, LCPFS_E_BUSY, "nobody listens"), -LCPFS_E_BUSY);
}

static void a_failure_too_long_is_cut_between_characters(void **state)
{
	struct lcpfs_failure failure = {0};
	char name[600];
	size_t length;
	(void)state;
	/* "é" is two bytes, so one of the two paddings puts the cut into the middle of one. */
	for (int padding = 0; padding < 2; padding++) {
		memset(name, 0, sizeof(name));
		for (int i = 0; i < 299; i++)
			memcpy(name + 2 * i, "\xc3\xa9", 2);
		failure_set(&failure, LCPFS_E_IO, "%s%s", padding ? "x" : "", name);
		length = strlen(failure.message);
		assert_true(length >= sizeof(failure.message) - 2);
		assert_int_equal((length - (size_t)padding) % 2, 0);
	}
}

static void encode(uint32_t c, char *to)
{
	unsigned length = c < 0x80 ? 1 : c < 0x800 ? 2 : c < 0x10000 ? 3 : 4;
	for (unsigned i = length - 1; i > 0; i--, c >>= 6)
		to[i] = (char)(0x80 | (c & 0x3f));
	to[0] = (char)(length == 1 ? c : (0xf00u >> length & 0xff & ~(1u << (7 - length))) | c);
	to[length] = '\0';
}

static void what_a_terminal_obeys_is_not_plain(void **state)
{
	static const char *const bad[] = {
		"\x80",
		"\x9b"
		"31m",
		"\xc0\xaf",
		"\xc1\x81",
		"\xe0\x80\xaf",
		"\xed\xa0\x80",
		"\xc3",
		"\xe2\x82",
		"\xf0\x9f\x98",
		"\xf4\x90\x80\x80",
		"\xf8\x88\x80\x80\x80",
		"\xff\xfe",
		"\xc2\x9b"
		"2J",
		"\xc2\x9d"
		"0;x\xc2\x9c",
		"\x1b[31m",
		"\x7f",
		"\r",
		"\n",
		"\t",
		"\xe2\x80\xae",
		"\xe2\x81\xa6",
		"\xe2\x80\x8f",
		"\xe2\x80\xa8",
		"\xef\xbb\xbf",
		"\xf3\xa0\x80\x81",
		"\xef\xbf\xbe",
		"\xd8\x9c",
		"\xc2\xad",
	};
	static const char *const good[] = {
		"", "a b~", "\u00e9", "\u03b5 \u2192 \u00b1\u00b7", "\u4e2d\u6587", "\U0001f600"};
	char text[64];
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++) {
		snprintf(text, sizeof(text), "a%sz", bad[i]);
		assert_false(plain_is(text));
		plain_text(text);
		assert_true(plain_is(text));
		assert_non_null(strchr(text, '?'));
		assert_int_equal(text[0], 'a');
		assert_int_equal(text[strlen(text) - 1], 'z');
	}
	for (size_t i = 0; i < ARRAY_LENGTH(good); i++) {
		snprintf(text, sizeof(text), "%s", good[i]);
		plain_text(text);
		assert_string_equal(text, good[i]);
	}
	for (uint32_t c = 1; c < 0x110000;
	     c++) { /* all of the first two kinds, no surrogate, most of the others */
		encode(c, text);
		bool control = c < 0x20 || (c >= 0x7f && c <= 0x9f), surrogate = c >= 0xd800 && c <= 0xdfff;
		if (plain_is(text) && (control || surrogate))
			fail_msg("U+%04x", (unsigned)c);
		if (!plain_is(text) && c < 0x600 && !control && c != 0xad)
			fail_msg("U+%04x", (unsigned)c);
	}
}

static void any_bytes_become_plain_and_no_longer(void **state)
{
	uint64_t seed = 7;
	(void)state;
	for (unsigned round = 0; round < 20000; round++) {
		char text[24], was[24];
		for (size_t i = 0; i < sizeof(text) - 1; i++) {
			seed = hash_mix(seed);
			text[i] = (char)(seed % 3 ? 0x80 | (seed >> 8 & 0x7f) : 1 + (seed >> 8) % 255);
		}
		text[sizeof(text) - 1] = '\0';
		memcpy(was, text, sizeof(text));
		plain_text(text);
		assert_true(plain_is(text));
		assert_true(strlen(text) <= strlen(was));
	}
}

static void a_prefix_goes_before_what_was_said(void **state)
{
	struct lcpfs_failure failure = {0};
	(void)state;
	failure_set(&failure, LCPFS_E_IO, "block 9");
	assert_int_equal(failure_prefix(&failure, -LCPFS_E_IO, "partition %s", "db"), -LCPFS_E_IO);
	assert_string_equal(failure.message, "partition db: block 9");
	assert_int_equal(failure.code, LCPFS_E_IO);
}

static void a_prefix_alone_is_followed_by_the_codes_sentence(void **state)
{
	struct lcpfs_failure failure = {0};
	(void)state;
	assert_int_equal(failure_prefix(&failure, -LCPFS_E_NOSPC, "partition db"), -LCPFS_E_NOSPC);
	assert_string_equal(failure.message, "partition db: no space left");
	assert_int_equal(failure_prefix(NULL, -LCPFS_E_NOSPC, "x"), -LCPFS_E_NOSPC);
}

static void text_grows_with_what_is_appended(void **state)
{
	struct text text = TEXT_INIT;
	(void)state;
	assert_string_equal(text_get(&text), "");
	for (int i = 0; i < 1000; i++)
		text_append(&text, "%03d,", i);
	assert_int_equal(text.length, 4000);
	char *taken = text_take(&text);
	assert_int_equal(strlen(taken), 4000);
	assert_memory_equal(taken, "000,001,", 8);
	assert_memory_equal(taken + 3992, "998,999,", 8);
	assert_string_equal(text_get(&text), "");
	free(taken);
}

static void text_taken_empty_is_an_empty_string(void **state)
{
	struct text text = TEXT_INIT;
	char *taken = text_take(&text);
	(void)state;
	assert_non_null(taken);
	assert_string_equal(taken, "");
	free(taken);
}

static void text_once_failed_stays_failed(void **state)
{
	struct text text = {.failed = 1};
	(void)state;
	text_append(&text, "lost");
	assert_string_equal(text_get(&text), "");
	assert_null(text_take(&text));
}

/* The checksum is on disk: it may never change. */
static void the_checksum_is_xxh3(void **state)
{
	(void)state;
	assert_true(hash64("", 0) == 0x2d06800538d394c2u);
	assert_true(hash64("lcpfs", 5) != hash64("lcpfS", 5));
}

static void the_mixer_matches_splitmix64(void **state)
{
	(void)state;
	/* The first output of splitmix64 seeded with 0. */
	assert_true(hash_mix(0x9e3779b97f4a7c15u) == 0xe220a8397b1dcdafu);
}

static void the_system_clock_goes_forward(void **state)
{
	uint64_t before_us = clock_us(&clock_system);
	(void)state;
	assert_true(clock_us(&clock_system) >= before_us);
	assert_true(clock_system.wall_s(clock_system.context) > 1600000000);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(little_endian_fields_have_their_bytes_in_order),
		cmocka_unit_test(little_endian_fields_round_trip),
		cmocka_unit_test(every_error_has_a_name_an_errno_and_a_sentence),
		cmocka_unit_test(unknown_errors_are_named_so),
		cmocka_unit_test(device_errnos_map_to_codes),
		cmocka_unit_test(a_failure_is_one_line_whatever_its_arguments),
		cmocka_unit_test(what_a_terminal_obeys_is_not_plain),
		cmocka_unit_test(any_bytes_become_plain_and_no_longer),
		cmocka_unit_test(a_failure_too_long_is_cut_between_characters),
		cmocka_unit_test(a_prefix_goes_before_what_was_said),
		cmocka_unit_test(a_prefix_alone_is_followed_by_the_codes_sentence),
		cmocka_unit_test(text_grows_with_what_is_appended),
		cmocka_unit_test(text_taken_empty_is_an_empty_string),
		cmocka_unit_test(text_once_failed_stays_failed),
		cmocka_unit_test(the_checksum_is_xxh3),
		cmocka_unit_test(the_mixer_matches_splitmix64),
		cmocka_unit_test(the_system_clock_goes_forward),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
