/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/bytes.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { ROOM_FIRST = 256 };

uint8_t *bytes_extend(struct bytes *bytes, size_t length)
{
	size_t needed = bytes->length + length;
	if (!bytes->failed && (needed > bytes->room || !bytes->data)) {
		size_t room = MAX_OF(MAX_OF(needed, bytes->room * 2), (size_t)ROOM_FIRST);
		uint8_t *data = realloc(bytes->data, room);
		bytes->failed = !data;
		if (data) {
			bytes->data = data;
			bytes->room = room;
		}
	}
	if (bytes->failed)
		return NULL;
	bytes->length = needed;
	return bytes->data + needed - length;
}

void bytes_append(struct bytes *bytes, const void *data, size_t length)
{
	uint8_t *at = bytes_extend(bytes, length);
	if (at && length)
		memcpy(at, data, length);
}

void bytes_free(struct bytes *bytes)
{
	free(bytes->data);
	*bytes = (struct bytes){0};
}
