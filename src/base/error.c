/* SPDX-License-Identifier: Apache-2.0 */
#include "base/error.h"

#include <errno.h>
#include <stdarg.h>
#include <stdio.h>
#include <string.h>

#include "base/plain.h"

struct error_entry {
	const char *name;
	int err;
	const char *sentence;
};

static const struct error_entry entries[] = {
	[LCPFS_OK] = {"OK", 0, "success"},
#define ENTRY(name, err, sentence) [LCPFS_E_##name] = {#name, err, sentence},
	LCPFS_ERRORS(ENTRY)
#undef ENTRY
};

_Static_assert(ARRAY_LENGTH(entries) == LCPFS_E_END, "one entry per code");

static const struct error_entry unknown = {"UNKNOWN", EIO, "unknown error"};

static const struct error_entry *entry_of(int error)
{
	/* Without negating: INT_MIN has no positive counterpart. */
	if (error > -LCPFS_E_END && error < LCPFS_E_END)
		return &entries[error < 0 ? -error : error];
	return &unknown;
}

const char *lcpfs_error_name(int error)
{
	return entry_of(error)->name;
}

const char *lcpfs_error_sentence(int error)
{
	return entry_of(error)->sentence;
}

int lcpfs_error_errno(int error)
{
	return entry_of(error)->err;
}

static size_t utf8_length(unsigned char first)
{
	return first >= 0xf0 ? 4 : first >= 0xe0 ? 3 : first >= 0xc0 ? 2 : 1;
}

/*
 * A cut in the middle of a character would make the message invalid UTF-8, and JSON that carries it invalid too.
 */
static void drop_cut_character(char *message, size_t length)
{
	size_t last = length;
	while (last > 0 && ((unsigned char)message[last - 1] & 0xc0) == 0x80)
		last--;
	if (last > 0 && last - 1 + utf8_length((unsigned char)message[last - 1]) > length)
		message[last - 1] = '\0';
}

static void format_message(char *message, size_t room, const char *format, va_list args)
{
	int length = vsnprintf(message, room, format, args);
	if (length < 0)
		message[0] = '\0';
	else if ((size_t)length >= room)
		drop_cut_character(message, room - 1);
	plain_text(message);
}

int failure_set(struct lcpfs_failure *failure, enum lcpfs_error code, const char *format, ...)
{
	char message[sizeof(failure->message)];
	va_list args;
	if (failure) {
		/* By way of a copy, since an argument may be the failure's own old message. */
		va_start(args, format);
		format_message(message, sizeof(message), format, args);
		va_end(args);
		failure->code = (int)code;
		memcpy(failure->message, message, sizeof(message));
	}
	return -(int)code;
}

int failure_prefix(struct lcpfs_failure *failure, int error, const char *format, ...)
{
	char prefix[sizeof(failure->message)];
	char old[sizeof(failure->message)];
	va_list args;
	if (!failure)
		return error;
	va_start(args, format);
	format_message(prefix, sizeof(prefix), format, args);
	va_end(args);
	memcpy(old, failure->message, sizeof(old));
	failure_set(failure, (enum lcpfs_error)(error < 0 ? -error : error), "%s: %s", prefix,
		    old[0] ? old : lcpfs_error_sentence(error));
	return error;
}

enum lcpfs_error error_from_errno(int err)
{
	switch (err) {
	case ENOSPC:
	case EDQUOT:
		return LCPFS_E_DEVICE_FULL;
	case ENOMEM:
		return LCPFS_E_NOMEM;
	case EROFS:
		return LCPFS_E_READ_ONLY;
	default:
		return LCPFS_E_IO;
	}
}
