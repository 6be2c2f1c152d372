/* SPDX-License-Identifier: Apache-2.0 */
#include "content.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

void content_init(struct content *c, uint32_t blocks)
{
	*c = (struct content){.blocks = blocks, .next_version = 1, .block = calloc(blocks, sizeof(*c->block))};
	CHECK(c->block);
	for (uint32_t b = 0; b < blocks; b++)
		c->block[b].count = 1; /* version 0; the list is made with the first change */
}

void content_free(struct content *c)
{
	for (uint32_t b = 0; b < c->blocks; b++)
		free(c->block[b].version);
	free(c->block);
	*c = (struct content){0};
}

/* Only what may still be read. */
void content_copy(struct content *to, const struct content *from)
{
	content_init(to, from->blocks);
	to->next_version = from->next_version;
	for (uint32_t b = 0; b < from->blocks; b++) {
		const struct block_history *old = &from->block[b];
		struct block_history *h = &to->block[b];
		if (!old->version)
			continue;
		h->count = h->room = old->count - old->durable;
		h->answered = old->answered - old->durable;
		h->version = malloc(h->room * sizeof(*h->version));
		CHECK(h->version);
		memcpy(h->version, old->version + old->durable, h->count * sizeof(*h->version));
	}
}

static uint32_t version_at(const struct block_history *h, uint32_t index)
{
	return h->version ? h->version[index] : 0;
}

static void append(struct block_history *h, uint32_t version)
{
	if (h->count >= h->room || !h->version) {
		h->room = h->room ? 2 * h->room : 8;
		h->version = realloc(h->version, h->room * sizeof(*h->version));
		CHECK(h->version);
		if (h->count == 1 && h->room == 8)
			h->version[0] = 0;
	}
	h->version[h->count++] = version;
}

uint32_t content_begin(struct content *c, uint32_t block, bool trim)
{
	uint32_t version = trim ? 0 : c->next_version++;
	append(&c->block[block], version);
	return version;
}

void content_answered(struct content *c, uint32_t block)
{
	c->block[block].answered = c->block[block].count - 1;
}

bool content_failed(struct content *c, uint32_t block, uint32_t seen)
{
	struct block_history *h = &c->block[block];
	if (!content_may_be_read(c, block, seen))
		return false;
	append(h, seen); /* this is the state from which it goes on */
	content_answered(c, block);
	return true;
}

uint32_t *content_flush_begins(const struct content *c)
{
	uint32_t *covered = malloc(c->blocks * sizeof(*covered));
	CHECK(covered);
	for (uint32_t b = 0; b < c->blocks; b++)
		covered[b] = c->block[b].answered;
	return covered;
}

void content_flushed(struct content *c, const uint32_t *covered)
{
	for (uint32_t b = 0; b < c->blocks; b++)
		c->block[b].durable = MAX_OF(c->block[b].durable, covered[b]);
}

void content_covered(struct content *c, uint32_t block)
{
	c->block[block].durable = c->block[block].answered;
}

static bool is_among(const struct block_history *h, uint32_t first, uint32_t version)
{
	for (uint32_t i = first; i < h->count; i++) {
		if (version_at(h, i) == version)
			return true;
	}
	return false;
}

bool content_may_be_read(const struct content *c, uint32_t block, uint32_t version)
{
	return is_among(&c->block[block], c->block[block].answered, version);
}

bool content_may_be_left(const struct content *c, uint32_t block, uint32_t version)
{
	return is_among(&c->block[block], c->block[block].durable, version);
}
