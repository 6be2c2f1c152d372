/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What must be read back from a volume: a plain array of versions, and the changes since the last flush.
 *
 * A block's content names the block and the version, so that whatever is read tells what it is. Version 0 is
 * zeros.
 */
#ifndef CRASH_MODEL_H
#define CRASH_MODEL_H

#include <stdbool.h>
#include <stdint.h>

enum { JOURNAL_MAX = 1 << 16 };

struct change {
	uint32_t block, version;
};

struct model {
	uint32_t blocks;
	uint32_t *durable; /* what a flush covered */
	uint32_t *current; /* what reads see */
	bool *unsure;      /* a write of it failed and nobody could look: any version since the last flush */
	bool any_unsure;
	struct change *journal; /* since the last flush, in order */
	uint32_t journal_count;
	uint32_t next_version;
	uint64_t flushes;
};

void content_fill(uint8_t *data, uint32_t block, uint32_t version);
/* The version that a block holds, or -1 if it is none that was ever written there. */
int64_t content_version(const uint8_t *data, uint32_t block);

void model_init(struct model *model, uint32_t blocks);
void model_free(struct model *model);
void model_copy(struct model *to, const struct model *from);
void model_change(struct model *model, uint32_t block, uint32_t version);
void model_flushed(struct model *model);
void model_be_unsure(struct model *model, uint32_t block);
/* May a read give this version now? */
bool model_allows(const struct model *model, uint32_t block, uint32_t version);
/* May a crash now leave this version of the block, whatever it leaves of others? */
bool model_may_be_left(const struct model *model, uint32_t block, uint32_t version);
/*
 * After a crash: is `seen` the durable state and the first k changes of the journal, for one k? Where writes had
 * failed before, each block may be at any of its versions since the last flush. Then takes it as the state, all
 * durable.
 */
bool model_settle(struct model *model, const uint32_t *seen);
/* The same of a state that is known whatever was written before: all durable. */
void model_become(struct model *model, const uint32_t *state);

#endif
