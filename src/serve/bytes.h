/* SPDX-License-Identifier: Apache-2.0 */
/* A growing run of bytes. After a failed allocation it is marked failed, and further appends do nothing. */
#ifndef SERVE_BYTES_H
#define SERVE_BYTES_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

struct bytes {
	uint8_t *data;
	size_t length, room;
	bool failed;
};

/* Makes it longer by `length`: where to put that; NULL where there is no memory. */
uint8_t *bytes_extend(struct bytes *bytes, size_t length);
void bytes_append(struct bytes *bytes, const void *data, size_t length);
void bytes_free(struct bytes *bytes);

#endif
