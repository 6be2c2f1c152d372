/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: whatever has a block id is appended to one of its heads, in records.
 *
 * Order. Sealing a record gives it the next sequence number and the checksum of the one before it, over all heads,
 * so roll-forward applies records in sequence. What is sealed later has to have been decided later, as far as one
 * can tell: the same block, the same address, an id that was freed and given out again, a page of a volume and
 * what changes it. Records of different heads may be open at the same time; log_order() seals those that have to
 * come first.
 *
 * Places. A record's place is fixed when it is begun, a block's when it is appended. A head's metaslab ends with
 * the record that leaves no room for another one behind it; that one names the next metaslab, which is taken in
 * time for that.
 *
 * Failure. A record that could not be written stays in memory, its pages in the cache, and is tried again by every
 * flush and by the background; flush fails as long as it does. After a failed device flush nobody knows what of
 * the unflushed the device has lost: the store stops (FAULTED) until it is opened anew from what is really there.
 *
 * Invariants (log_audit):
 *   L1  sequence numbers of records in flight rise; the last one sealed has log.seq, and the chain is of it.
 *   L2  durable <= the last written; claimed <= durable.
 *   L3  a record's pages are pinned.
 */
#ifndef STORE_LOG_H
#define STORE_LOG_H

#include "space/plan.h"
#include "store/state.h"

enum {
	RECORDS_IN_FLIGHT_MAX = 4, /* bounds memory: a MiB each */
};

#define IDLE_SEAL_US 1000000 /* what nobody flushes still goes out after this, as from any cache */
#define CONFIRM_US 100000    /* see log_confirm */

void log_free(struct store *s);

/* All with the lock, which they keep. */

/*
 * The open record of this head with room for `blocks` more blocks and `words` of entries (not more than an empty
 * record has).
 * TRY_AGAIN: NEED_WRITE, or NEED_ROOM if it needs a new metaslab and there are not more than `kept` EMPTY ones.
 */
int log_open(struct store *s, enum log_head head, unsigned blocks, unsigned words, uint32_t kept, struct need *need,
	     struct record **record) MUST_CHECK;
/* What will be told: where a block lies; what an address refers to, too; or anything else. */
enum log_tells { TELLS_PLACE, TELLS_ADDRESS, TELLS_MORE };

/* Before something goes into `record` that may not be told before what stands in other open ones: seals those. */
void log_order(struct store *s, const struct record *record, uint64_t old_block, enum log_tells what);
/* Appends a page, which gets a pin; the block number that it will have. Its entry is the caller's business. */
uint64_t log_append(struct record *r, struct page *page);
/*
 * Appends an entry for one more id at the record's end, joined with the entry before it where that fits: `check`
 * NULL for kinds without.
 */
void log_tell(struct record *r, const struct entry *entry, const struct fmt_check *check);
uint64_t log_seal(struct store *s, struct record *r); /* its sequence number; it has to be written by somebody */
void log_seal_open(struct store *s);                  /* all that are open */
uint32_t log_room(const struct store *s, enum log_head head); /* blocks left in its metaslab */
/* As many heads as the partition's size makes good use of, if there is room for more. */
void log_choose_heads(struct store *s, uint32_t kept);
/*
 * Metaslabs that heads have taken to go on in, and not written to yet, for whoever needs one first. Were there
 * any?
 */
bool log_return_next(struct store *s);
bool log_confirm_due(const struct store *s, uint32_t kept);

/* All with the lock, which they let go meanwhile. */

void log_drain(struct store *s); /* writes what is sealed and not taken by others; what fails stays, to be tried again */
int log_retry(struct store *s) MUST_CHECK;              /* failed records once more */
/* Everything that was appended so far becomes durable. */
int log_flush(struct store *s) MUST_CHECK;
/* The device's flush with everything around it that a failure means; `upto` is then durable. */
int log_flush_device(struct store *s, uint64_t upto) MUST_CHECK;
/*
 * After a flush that nothing followed, a record that says so: roll-forward then knows that a damaged record before
 * it is damage and not the torn end of the log. Not flushed itself.
 */
void log_confirm(struct store *s, uint32_t kept);

bool log_has_sealed(const struct store *s); /* there is something for log_drain */
bool log_is_idle(const struct store *s); /* nothing is open or on its way */
/* The page with the bytes of a block that is not written yet; NULL: it is. Good with the lock, or a pin. */
struct page *log_page(const struct store *s, uint64_t block);
size_t log_bytes(const struct store *s);
void log_audit(const struct store *s);

#endif
