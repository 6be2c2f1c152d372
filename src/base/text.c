/* SPDX-License-Identifier: Apache-2.0 */
#include "base/text.h"

#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>

enum { ROOM_MIN = 128 };

static void fail(struct text *text)
{
	text_free(text);
	text->failed = 1;
}

/* Makes room for `more` characters and the NUL. */
static int reserve(struct text *text, size_t more)
{
	size_t room = MAX_OF(text->room, (size_t)ROOM_MIN);
	while (room - text->length <= more)
		room *= 2;
	if (room == text->room)
		return 1;
	char *data = realloc(text->data, room);
	if (!data) {
		fail(text);
		return 0;
	}
	text->data = data;
	text->room = room;
	return 1;
}

void text_append(struct text *text, const char *format, ...)
{
	va_list args;
	if (text->failed)
		return;
	va_start(args, format);
	int length = vsnprintf(NULL, 0, format, args);
	va_end(args);
	if (length < 0) {
		fail(text);
		return;
	}
	if (!reserve(text, (size_t)length))
		return;
	va_start(args, format);
	vsnprintf(text->data + text->length, text->room - text->length, format, args);
	va_end(args);
	text->length += (size_t)length;
}

const char *text_get(const struct text *text)
{
	return text->data ? text->data : "";
}

char *text_take(struct text *text)
{
	text_append(text, "%s", "");
	char *data = text->data;
	text->data = NULL;
	text_free(text);
	return data;
}

void text_free(struct text *text)
{
	free(text->data);
	*text = (struct text)TEXT_INIT;
}
