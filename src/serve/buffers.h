/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Memory for the pieces of requests, kept for the next ones: what the system hands out afresh it clears first,
 * page by page, which costs more than to fill it. For one thread.
 */
#ifndef SERVE_BUFFERS_H
#define SERVE_BUFFERS_H

#include <stdbool.h>
#include <stddef.h>

enum {
	BUFFERS_LEAST_BYTES = 4 << 10, /* smaller ones are as cheap from malloc */
	BUFFERS_CLASSES = 7,           /* 4, 8, 16, ... 256 KiB; larger ones are not kept */
	BUFFERS_KEPT_MAX = 16,         /* of each class */
};

struct buffers {
	void *first[BUFFERS_CLASSES]; /* each begins with the address of the next */
	unsigned count[BUFFERS_CLASSES];
};

/* Aligned to 4 KiB, unless smaller. NULL: out of memory. */
void *buffers_take(struct buffers *buffers, size_t bytes);
/* `bytes` as it was taken with. */
void buffers_give(struct buffers *buffers, void *memory, size_t bytes);
/* Gives what is kept back to the system; false: there was none. */
bool buffers_trim(struct buffers *buffers);

#endif
