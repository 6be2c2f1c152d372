/* SPDX-License-Identifier: Apache-2.0 */
/* See chain.c. All with the lock. */
#ifndef STORE_CHAIN_H
#define STORE_CHAIN_H

#include "store/state.h"

enum { CHUNK_BLOCKS = 32 }; /* read at a time */

struct chain {
	struct store *s;
	struct head head[LOG_HEADS];
	struct fmt_record peeked[LOG_HEADS];
	bool have[LOG_HEADS];
	bool good[LOG_HEADS][2]; /* which copy of the header */
	uint64_t redo;
	uint64_t seq, chain; /* of the last record that was followed */
	uint64_t durable;    /* the highest that a header declares */
	bool more;           /* something lies behind the end */
	bool outlived;       /* there are records of a later epoch: the root that began it is lost */
	uint8_t chunk[CHUNK_BLOCKS * BLOCK_SIZE]; /* without a value */
};

typedef int chain_fn(void *context, const struct fmt_record *r, unsigned head);

void chain_start(struct chain *f); /* at the redo point of the store's regions */
/* Each record of the log in sequence, from the redo point on. Where fn, which may be NULL, returns 1, it ends. */
int chain_follow(struct chain *f, chain_fn *fn, void *context) MUST_CHECK;
int chain_go_on(struct chain *f, chain_fn *fn, void *context) MUST_CHECK; /* from where it ended */
/* Are the blocks of a record what it says? 1, 0, or an error. LOST ones are not expected to match. */
int chain_blocks_good(struct chain *f, const struct fmt_record *r) MUST_CHECK;
/* A second header of the record at hand that was torn, or is damaged, is written anew. */
int chain_mend_header(const struct chain *f, unsigned head) MUST_CHECK;
/* What lies behind the last record: raises `durable`, `more` and `outlived` if that was not the end. */
void chain_look_behind(struct chain *f);

#endif
