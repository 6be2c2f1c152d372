/* SPDX-License-Identifier: Apache-2.0 */
/* How much room there is: the space policy's questions, with what this store needs. All with the lock. */
#ifndef STORE_ROOM_H
#define STORE_ROOM_H

#include "space/plan.h"
#include "store/state.h"

struct space_reserve room_reserve(const struct store *s);

/* Who wants an EMPTY metaslab, and what they leave for those behind them: see struct space_reserve. */
enum room_user { USER_WRITE, USER_NOTE, USER_CLEAN };
uint32_t room_kept(const struct store *s, enum room_user user); /* metaslabs */
uint32_t room_kept_by_writers(struct store *s); /* the same for USER_WRITE; quick where nothing has changed */
/* Sectors: what is live, or will be when what is pending is written; see room_limit. */
uint64_t room_live(const struct store *s);
uint64_t room_data(const struct store *s);  /* of these, what is in the log: all but the block table */
uint64_t room_limit(const struct store *s, uint32_t metaslabs); /* most that may be, in sectors */
bool room_fits_in(const struct store *s, unsigned blocks, uint32_t metaslabs); /* that many more blocks, live */
/* The same, in the metaslabs that have a place behind them. */
bool room_fits(const struct store *s, unsigned blocks);

#endif
