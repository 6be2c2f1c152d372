/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a volume may hold while several threads change it: for each block the versions that it was given, oldest
 * first, up to which of them its writer has an answer, and up to which a flush has covered. One thread writes each
 * block.
 *
 * Version 0 is zeros: never written, or trimmed.
 */
#ifndef SCHED_CONTENT_H
#define SCHED_CONTENT_H

#include <stdbool.h>
#include <stdint.h>

struct block_history {
	uint32_t *version;
	uint32_t count, room;
	uint32_t answered; /* index of the newest whose writer was told that it is done */
	uint32_t durable;  /* index of the oldest that may be read after a crash */
};

struct content {
	struct block_history *block;
	uint32_t blocks;
	uint32_t next_version;
};

void content_init(struct content *content, uint32_t blocks);
void content_free(struct content *content);
void content_copy(struct content *to, const struct content *from);

/* A change is begun. Returns its version (0 for a trim). */
uint32_t content_begin(struct content *content, uint32_t block, bool trim);
void content_answered(struct content *content, uint32_t block); /* its newest change is done */
/* A change failed; this version was then read: the last one answered, or the newer one. False: it may not be. */
bool content_failed(struct content *content, uint32_t block, uint32_t seen);

/* What a flush that begins now will cover: the caller frees it. */
uint32_t *content_flush_begins(const struct content *content);
void content_flushed(struct content *content, const uint32_t *covered);
void content_covered(struct content *content, uint32_t block); /* by FUA, up to what was answered */

bool content_may_be_read(const struct content *content, uint32_t block, uint32_t version);
bool content_may_be_left(const struct content *content, uint32_t block, uint32_t version); /* after a crash */

#endif
