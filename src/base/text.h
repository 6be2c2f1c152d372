/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A growing text buffer; every *_to_text and long message writes into one. After a failed allocation the buffer is
 * marked failed, further appends do nothing, and text_take returns NULL. Not thread-safe.
 */
#ifndef BASE_TEXT_H
#define BASE_TEXT_H

#include <stddef.h>

#include "base/check.h"

struct text {
	char *data; /* NUL-terminated once anything was appended */
	size_t length;
	size_t room;
	int failed;
};

#define TEXT_INIT {0}

void text_append(struct text *text, const char *format, ...) PRINTF_LIKE(2, 3);
const char *text_get(const struct text *text); /* "" if empty or failed; owned by the buffer */
char *text_take(struct text *text);            /* the caller frees; NULL if failed */
void text_free(struct text *text);

#endif
