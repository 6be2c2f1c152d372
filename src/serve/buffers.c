/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/buffers.h"

#include <stdlib.h>

#include "base/check.h"

enum { ALIGNMENT = 4096 };

/* BUFFERS_CLASSES: too large for any. */
static unsigned class_of(size_t bytes)
{
	unsigned class = 0;
	while (class < BUFFERS_CLASSES && bytes > (size_t)BUFFERS_LEAST_BYTES << class)
		class++;
	return class;
}

void *buffers_take(struct buffers *b, size_t bytes)
{
	if (bytes < BUFFERS_LEAST_BYTES)
		return malloc(bytes);
	unsigned class = class_of(bytes);
	if (class == BUFFERS_CLASSES)
		return aligned_alloc(ALIGNMENT, DIV_UP(bytes, (size_t)ALIGNMENT) * ALIGNMENT);
	void **kept = b->first[class];
	if (!kept)
		return aligned_alloc(ALIGNMENT, (size_t)BUFFERS_LEAST_BYTES << class);
	b->first[class] = *kept;
	b->count[class]--;
	return kept;
}

void buffers_give(struct buffers *b, void *memory, size_t bytes)
{
	unsigned class = class_of(bytes);
	if (!memory || bytes < BUFFERS_LEAST_BYTES || class == BUFFERS_CLASSES ||
	    b->count[class] == BUFFERS_KEPT_MAX) {
		free(memory);
		return;
	}
	*(void **)memory = b->first[class];
	b->first[class] = memory;
	b->count[class]++;
}

bool buffers_trim(struct buffers *b)
{
	bool any = false;
	for (unsigned class = 0; class < BUFFERS_CLASSES; class++) {
		while (b->first[class]) {
			void **kept = b->first[class];
			b->first[class] = *kept;
			free(kept);
			any = true;
		}
		b->count[class] = 0;
	}
	return any;
}
