/* SPDX-License-Identifier: Apache-2.0 */
/*
 * store: one partition's self-contained, log-structured, copy-on-write block store over the metaslabs that it
 * owns.
 *
 * The pool gives it metaslabs and takes them back; nothing else passes between them. All functions may be called
 * from any thread unless they say otherwise. Errors are negative lcpfs codes. Addresses and counts are blocks of 4
 * KiB. docs/design.md has the theory, docs/format.md the bytes.
 */
#ifndef STORE_STORE_H
#define STORE_STORE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/clock.h"
#include "base/error.h"
#include "base/text.h"
#include "vdev/vdev.h"

struct store;

struct store_config {
	struct vdev *vdev;
	const struct clock *clock;
	uint64_t guid;
	uint32_t partition;
	const char *name;          /* for messages; copied */
	uint64_t metaslab_base;    /* block number of metaslab 0 */
	uint32_t metaslab_blocks;
	uint32_t metaslab_count;   /* that the pool can ever have */
	uint64_t root_block[2][2]; /* [slot][copy]: where the two roots and their copies lie */
	size_t cache_bytes;        /* for tree pages; a floor of CACHE_PAGES_MIN is kept */
	bool read_only;
	bool was_closed;           /* the pool was closed well when last in use: all of it is durable */
	bool is_new;               /* store_format has just made it: there is no log to look for */
	unsigned list_slots;       /* that a block of the list of snapshots uses, for tests; 0: all */

	/*
	 * Called without locks when a writer finds no room although cleaning was tried: get the store another
	 * metaslab (through store_add). Returns true if it did, or if by now it has more than the `metaslabs` that
	 * it had then. May be NULL.
	 */
	bool (*need_space)(void *context, uint32_t metaslabs);
	void *context;
};

/* Least metaslabs that a partition can have. */
enum { STORE_METASLABS_MIN = 6 };
#define STORE_VOLUME_BLOCKS_MAX (UINT64_C(1) << 40)

/*
 * The fewest metaslabs in which so many blocks of user data always fit, in any order of writes, overwrites and
 * trims, together with what the store needs itself: trees, log headers, and what it keeps back for checkpoints and
 * cleaning. Promised to a volume of that length or shorter. Data that lie scattered over a longer one need more
 * tree pages, so a little less of them may fit. Pure arithmetic, which only metaslab_blocks of *config goes into;
 * never falls when data_blocks rises. UINT32_MAX: no number of metaslabs is enough.
 */
uint32_t store_metaslabs_for(const struct store_config *config, uint64_t data_blocks) MUST_CHECK;

/*
 * Writes the first root of a new, empty store; the caller makes the partition known only after this returned 0.
 * `metaslabs` are those that it will own, at least STORE_METASLABS_MIN.
 */
int store_format(const struct store_config *config, uint64_t volume_blocks, const uint32_t *metaslabs,
		 uint32_t count) MUST_CHECK;

/*
 * Reads the newest root and rolls the log forward. Ends with a checkpoint, unless it is read_only, or was_closed
 * and found so. `metaslabs` are those the pool says it owns. On failure fills *failure.
 */
int store_open(const struct store_config *config, const uint32_t *metaslabs, uint32_t count, struct store **store,
	       struct lcpfs_failure *failure) MUST_CHECK;

/*
 * Checkpoints, unless nothing happened since it was opened, and frees; 0, or the error that kept it from being
 * durable (it is freed all the same).
 */
int store_close(struct store *store);
void store_abandon(struct store *store); /* frees without writing anything */

uint64_t store_volume_blocks(const struct store *store);
/*
 * The volume gets longer: what is new reads as zeros. Durable, in every root, when it returns 0; after an error it
 * may or may not be longer. One that has so many blocks already stays as it is: a store's volume never gets
 * shorter, it is the pool's matter how much of it anybody sees. Others may read and write meanwhile, within the
 * length from before.
 */
int store_grow_volume(struct store *store, uint64_t volume_blocks) MUST_CHECK;
/*
 * Until store_let_roots nobody reads or writes its roots. Then the second copies lie at second[slot], where the
 * caller has put them meanwhile; NULL: where they were.
 */
void store_hold_roots(struct store *store);
void store_let_roots(struct store *store, const uint64_t second[2]);
/* For its messages. Not while anybody else calls it. */
void store_set_name(struct store *store, const char *name);

/* Byte ranges within the volume; any alignment, atomic for each block. NULL failure is allowed. */
int store_read(struct store *store, uint64_t offset, void *buffer, size_t length,
	       struct lcpfs_failure *failure) MUST_CHECK;
int store_write(struct store *store, uint64_t offset, const void *buffer, size_t length, bool fua,
		struct lcpfs_failure *failure) MUST_CHECK;
/* Afterwards the range reads as zeros, and whole blocks of it take no space. */
int store_trim(struct store *store, uint64_t offset, uint64_t length, bool fua,
	       struct lcpfs_failure *failure) MUST_CHECK;
/* Everything acknowledged before the call is durable when it returns 0. */
int store_flush(struct store *store, struct lcpfs_failure *failure) MUST_CHECK;

/*
 * The same without waiting for a device, for room, or for work under way. Where that is impossible, always so for
 * parts of blocks, they return AGAIN: the functions above are to be asked then. Reading: the buffer holds anything
 * then. Writing: *done bytes are written, whatever is returned. *unsettled: store_settle should be called, by
 * somebody who can wait for the device.
 */
int store_try_read(struct store *store, uint64_t offset, void *buffer, size_t length) MUST_CHECK;
int store_try_write(struct store *store, uint64_t offset, const void *buffer, size_t length, size_t *done,
		    bool *unsettled) MUST_CHECK;
void store_settle(struct store *store);

/* From offset on: is there data, and up to which byte (<= offset + length) does that stay so? */
int store_extent(struct store *store, uint64_t offset, uint64_t length, bool *data, uint64_t *end) MUST_CHECK;

/*
 * The same of any volume that is written: the partition's own, or a clone by its number (see store_clone).
 * NOT_FOUND: there is none of that number. What they count is the partition's.
 */
enum { STORE_OWN_VOLUME = 1 };
int store_volume_read(struct store *store, uint32_t volume, uint64_t offset, void *buffer, size_t length,
		      struct lcpfs_failure *failure) MUST_CHECK;
int store_volume_write(struct store *store, uint32_t volume, uint64_t offset, const void *buffer, size_t length,
		       bool fua, struct lcpfs_failure *failure) MUST_CHECK;
int store_volume_trim(struct store *store, uint32_t volume, uint64_t offset, uint64_t length, bool fua,
		      struct lcpfs_failure *failure) MUST_CHECK;
int store_volume_try_read(struct store *store, uint32_t volume, uint64_t offset, void *buffer,
			  size_t length) MUST_CHECK;
int store_volume_try_write(struct store *store, uint32_t volume, uint64_t offset, const void *buffer,
			   size_t length, size_t *done, bool *unsettled) MUST_CHECK;
int store_volume_extent(struct store *store, uint32_t volume, uint64_t offset, uint64_t length, bool *data,
			uint64_t *end) MUST_CHECK;
/*
 * For who reads from the device himself. Where a range lies now, of at most 64 whole blocks. AGAIN: not side by
 * side, or it cannot be told without waiting.
 */
int store_volume_place(struct store *store, uint32_t volume, uint64_t offset, size_t length,
		       uint64_t *place) MUST_CHECK;
/*
 * 0: what he has read is what the range holds now, wherever it lies, and counts as a read. AGAIN: it is not, or it
 * has holes, or it cannot be told without waiting; it says nothing of damage.
 */
int store_volume_verify(struct store *store, uint32_t volume, uint64_t offset, const void *buffer,
			size_t length) MUST_CHECK;

/* --- snapshots: see snap.h --- */

struct store_snapshot {
	char name[64];          /* without the volume's */
	uint32_t number;        /* what it is read by; a later one has a higher one */
	uint32_t volume;        /* that it is of: STORE_OWN_VOLUME, or the number of a clone */
	uint64_t created_s;     /* seconds since 1970, as it was given */
	uint64_t guid;          /* likewise; 0: none was given */
	uint64_t volume_blocks; /* how long the volume was */
	bool held;
};

bool store_snapshot_is_name(const char *name); /* may one be called so? */
/*
 * The volume as it is now, under a name of 1 to 63 of A-Z a-z 0-9 . _ - : that no other has. Durable when it
 * returns 0, with everything acknowledged before; after an error it may be there or not. EXISTS, INVALID, NOSPC.
 */
int store_snapshot(struct store *store, const char *name, uint64_t created_s) MUST_CHECK;
/* The same with a guid, which tells it from all others, wherever they are. */
int store_snapshot_as(struct store *store, const char *name, uint64_t created_s, uint64_t guid) MUST_CHECK;
/* Durable when it returns 0. What it alone has comes free later, in the background. NOT_FOUND; CLONED. */
int store_snapshot_destroy(struct store *store, const char *name) MUST_CHECK;
/* The same, durable with the next flush: for many. */
int store_snapshot_destroy_soon(struct store *store, const char *name) MUST_CHECK;
/* A mark that it should stay, for those who would destroy it; here nobody looks. Durable when it returns 0.
 * NOT_FOUND. */
int store_snapshot_hold(struct store *store, const char *name, bool held) MUST_CHECK;
/* Durable when it returns 0; after an error it may have either name. Its number stays. NOT_FOUND, EXISTS, INVALID.
 */
int store_snapshot_rename(struct store *store, const char *name, const char *new_name) MUST_CHECK;
/*
 * The volume becomes what the youngest snapshot has. Durable when it returns 0. EXISTS: there are younger ones,
 * which have to be destroyed first. Not while others read or write the volume. How long it is stays.
 */
int store_rollback(struct store *store, const char *name) MUST_CHECK;
/* By number. How many there are; at most `room` are noted. */
unsigned store_snapshots(struct store *store, struct store_snapshot *list, unsigned room);
/* In blocks of data and of pages of its tree. */
struct store_snapshot_sizes {
	uint64_t used;       /* that come free if this one is destroyed and no other */
	uint64_t referenced; /* that it has, shared or not */
	uint64_t written;    /* of these, those that the snapshot before it has not */
};

/*
 * They are looked for, beside clients: it takes time as what differs from its neighbours is much; once, as what it
 * has is. NOT_FOUND: it is gone.
 */
int store_snapshot_sizes(struct store *store, uint32_t number, struct store_snapshot_sizes *sizes) MUST_CHECK;
/* Blocks that come free if all these are destroyed, and no other. What is not there has none. */
int store_snapshots_freed(struct store *store, const uint32_t *numbers, size_t count, uint64_t *blocks) MUST_CHECK;
bool store_snapshot_find(struct store *store, const char *name, struct store_snapshot *found);
bool store_snapshots_pending(struct store *store); /* what destroyed ones had is not all free yet */
/* As of the volume. NOT_FOUND: it is gone. */
int store_snapshot_read(struct store *store, uint32_t number, uint64_t offset, void *buffer, size_t length,
			struct lcpfs_failure *failure) MUST_CHECK;
int store_snapshot_extent(struct store *store, uint32_t number, uint64_t offset, uint64_t length, bool *data,
			  uint64_t *end) MUST_CHECK;

/* --- clones: volumes that begin as a snapshot has them, and are written --- */

enum { STORE_CLONES_MAX = 32 }; /* of one partition */

struct store_clone {
	char name[64];
	uint32_t number; /* what it is read and written by */
	uint32_t origin; /* number of the snapshot that it began as */
	uint64_t created_s;
	uint64_t volume_blocks;
};

/*
 * A further volume, as the snapshot has it, under a name that no other clone has; it shares all blocks with that.
 * Durable when it returns 0; after an error it may be there or not. The snapshot cannot be destroyed as long as
 * there is the clone. NOT_FOUND, EXISTS, INVALID, NOSPC; RANGE: there are STORE_CLONES_MAX.
 */
int store_clone(struct store *store, const char *snapshot, const char *name, uint64_t created_s) MUST_CHECK;
/* Durable when it returns 0; after an error it may have either name. NOT_FOUND, EXISTS, INVALID. */
int store_clone_rename(struct store *store, const char *name, const char *new_name) MUST_CHECK;
/* As long as that, or longer already: INVALID. Durable when it returns 0. NOT_FOUND; RANGE: too long. */
int store_clone_grow(struct store *store, const char *name, uint64_t volume_blocks) MUST_CHECK;
/* Durable when it returns 0. What it does not share comes free in the background. NOT_FOUND; BUSY: in use. */
int store_clone_destroy(struct store *store, const char *name) MUST_CHECK;
/*
 * The volume becomes what the clone is, and the clone what the volume was, under a new name; in one record. So do
 * their snapshots and bookmarks, but those up to the one that the clone began as: these stay the volume's. Durable
 * when it returns 0. Not while others read or write either. EXISTS: there is a clone of that name, or the volume
 * would have two snapshots or bookmarks of one name. RANGE: the two have different lengths. INVALID: it began as a
 * snapshot of another clone. NOT_FOUND; BUSY: somebody reads one that was destroyed.
 */
int store_promote(struct store *store, const char *clone, const char *name) MUST_CHECK;
/* Oldest first. How many there are; at most `room` are noted. */
unsigned store_clones(struct store *store, struct store_clone *list, unsigned room);
bool store_clone_find(struct store *store, const char *name, struct store_clone *found);
/*
 * Blocks of it, by its number, that come free when it is destroyed with its snapshots. Looked for, as sizes of
 * snapshots. NOT_FOUND.
 */
int store_clone_used(struct store *store, uint32_t number, uint64_t *blocks) MUST_CHECK;

/*
 * Snapshots of clones. Names are of one volume: the partition's own, or a clone by its number. A clone that has
 * snapshots is not destroyed (NOT_EMPTY); its bookmarks go with it. NOT_FOUND: there is no such volume. All else
 * is as above.
 */
int store_volume_snapshot(struct store *store, uint32_t volume, const char *name, uint64_t created_s,
			  uint64_t guid) MUST_CHECK;
int store_volume_snapshot_destroy_soon(struct store *store, uint32_t volume, const char *name) MUST_CHECK;
int store_volume_snapshot_hold(struct store *store, uint32_t volume, const char *name, bool held) MUST_CHECK;
int store_volume_snapshot_rename(struct store *store, uint32_t volume, const char *name,
				 const char *new_name) MUST_CHECK;
int store_volume_rollback(struct store *store, uint32_t volume, const char *name) MUST_CHECK;
/* Volume 0: of all. By number. */
unsigned store_volume_snapshots(struct store *store, uint32_t volume, struct store_snapshot *list, unsigned room);
bool store_volume_snapshot_find(struct store *store, uint32_t volume, const char *name,
				struct store_snapshot *found);
int store_volume_clone(struct store *store, uint32_t volume, const char *snapshot, const char *name,
		       uint64_t created_s) MUST_CHECK;

/* A run of blocks in which two volumes differ. */
struct store_difference {
	/* count 0: there is none before `first`, from where on to ask again; UINT64_MAX: none at all. */
	uint64_t first, count;
	bool data;             /* what the second one has there; else it has nothing, and the first one has data */
};

/*
 * Of the snapshots with these numbers the next run at or behind block `first`. from 0: an empty volume; to 0: the
 * volume as it is now, which others may write meanwhile; it may also be a clone, as that is now. Different means
 * written anew, be it with the same bytes. What is the same in both is skipped, so it takes time in proportion to
 * what is not. A long run may come in parts, one right behind the other. NOT_FOUND: a snapshot is gone.
 */
int store_difference(struct store *store, uint32_t from, uint32_t to, uint64_t first,
		     struct store_difference *run) MUST_CHECK;

/*
 * The same from the snapshot before `to` in its line; where there is none, from what its clone was made of, or
 * from an empty volume.
 */
int store_difference_before(struct store *store, uint32_t to, uint64_t first,
			    struct store_difference *run) MUST_CHECK;

/* --- bookmarks --- */

/*
 * Notes a snapshot under a name of its own kind, which no other bookmark has: what changed since can be told when
 * it is gone. Durable when it returns 0. NOT_FOUND, EXISTS, INVALID, NOSPC.
 */
int store_bookmark(struct store *store, const char *snapshot, const char *name) MUST_CHECK;
int store_bookmark_destroy(struct store *store, const char *name) MUST_CHECK;
/* What was noted: the snapshot's, but for the name. As store_snapshots. A rollback ends those that are younger. */
unsigned store_bookmarks(struct store *store, struct store_snapshot *list, unsigned room);
bool store_bookmark_find(struct store *store, const char *name, struct store_snapshot *found);
/* Of any volume, as snapshots of clones. */
int store_volume_bookmark(struct store *store, uint32_t volume, const char *snapshot, const char *name) MUST_CHECK;
int store_volume_bookmark_destroy(struct store *store, uint32_t volume, const char *name) MUST_CHECK;
unsigned store_volume_bookmarks(struct store *store, uint32_t volume, struct store_snapshot *list, unsigned room);
bool store_volume_bookmark_find(struct store *store, uint32_t volume, const char *name,
				struct store_snapshot *found);
/*
 * The same as store_difference, from a bookmark, whose snapshot had the number `since`, to a younger snapshot of
 * that volume, or to the volume. Where that has nothing the first one may have had nothing, too.
 */
int store_difference_since(struct store *store, uint32_t since, uint32_t to, uint64_t first,
			   struct store_difference *run) MUST_CHECK;

/* --- space --- */

/* Metaslabs that are durably this partition's in the pool; from now on the store uses them. */
int store_add(struct store *store, const uint32_t *metaslabs, uint32_t count) MUST_CHECK;

/*
 * Cleans out one metaslab and takes it off the store: *metaslab is then empty, in every state a crash can leave,
 * and no longer used. TOO_SMALL: nothing more can be given (see store_size_least). A second call may run
 * elsewhere.
 */
int store_release(struct store *store, uint32_t *metaslab) MUST_CHECK;
/* Its own users, who may have to wait for it then, are not let go first: somebody has no room. */
int store_release_now(struct store *store, uint32_t *metaslab) MUST_CHECK;

/* While the host of a sparse vdev is full: what is empty beyond need gets discarded; how many metaslabs. */
uint32_t store_give_back(struct store *store);

/* The least metaslabs this store can live in with what it holds now. */
uint32_t store_size_least(struct store *store);

/* --- background work --- */

/*
 * Does one unit of cleaning, checkpointing or writing out, if any is due; returns 1 if it did something, 0 if not,
 * or an error.
 */
int store_step(struct store *store);
/* Runs store_step whenever there is work, until store_stop; for a thread of its own. */
void store_service(struct store *store);
void store_stop(struct store *store);

int store_checkpoint(struct store *store) MUST_CHECK;

/* --- what it knows --- */

/*
 * Totals since the partition was created (kept in the root, in this order). Blocks unless the name says otherwise.
 */
struct store_counters {
	uint64_t reads, writes, trims, flushes; /* operations of users */
	uint64_t read_blocks, written_blocks, trimmed_blocks;
	uint64_t read_us, write_us, flush_us; /* sums of latencies */
	uint64_t device_blocks;   /* written to the device for any reason: log, copies, tables, roots */
	uint64_t copied_blocks;   /* by cleaning */
	uint64_t page_blocks;     /* tree pages, both copies */
	uint64_t checkpoints;
	uint64_t cleaned;         /* metaslabs cleaned */
	uint64_t errors;          /* reads and writes that failed */
};

/*
 * Since it was opened: how late the background is, and how long at work. The more users write meanwhile, the fewer
 * live blocks it finds to copy.
 */
struct background {
	uint64_t units;       /* of cleaning, or checkpoints, that it began */
	uint64_t late_blocks; /* that users wrote from when it was woken, or done with the unit before, until it
				 began; the sum over all units */
	uint64_t busy_blocks; /* that they wrote while it was at them */
};

struct store_stats {
	struct store_counters counters;
	struct background background;
	uint32_t metaslabs; /* owned */
	uint32_t empty;     /* of these, ready for use */
	uint32_t raw;       /* and empty, but on a sparse vdev without a place behind them as far as is known */
	uint64_t release_copied_blocks; /* by store_release, since it was opened */
	uint64_t live_blocks; /* data and tree pages (both copies) */
	uint64_t data_blocks;
	uint64_t page_blocks;
	size_t memory_bytes; /* cache, log buffers, metaslab table */
	uint64_t recoveries; /* how often it was opened after a crash */
	bool faulted;        /* it stopped: after a failed device flush, */
	bool contradicts;    /* or as what it has in memory contradicts its block table */
	int write_error; /* a log write that is still failing, or 0 */
};

void store_stats(struct store *store, struct store_stats *stats);

/* One thing found by check or scrub. */
struct store_finding {
	bool repaired;
	bool data;          /* user data; else metadata */
	uint64_t block;     /* on the device, where known */
	uint64_t address;   /* in the volume, where known, else UINT64_MAX */
	const char *text;   /* valid during the call */
};

struct store_walk {
	void (*found)(void *context, const struct store_finding *finding); /* may be NULL */
	/* Called now and then; returning false stops the walk with LCPFS_E_STOPPED. May be NULL. */
	bool (*progress)(void *context, uint64_t done_blocks, uint64_t total_blocks);
	void *context;
	bool repair; /* write damaged copies of metadata anew (not when read_only) */
	bool data;   /* read and verify user data too */
	/*
	 * The pool was not closed cleanly: a newest root of which one copy is missing may be a write that a power
	 * cut interrupted, and is not reported. (The next opening writes a new one.)
	 */
	bool after_crash;
	uint64_t checked_blocks, damaged_blocks, repaired_blocks; /* out */
};

/* Reads and verifies everything live, both copies of metadata included; runs beside other work. */
int store_scrub(struct store *store, struct store_walk *walk) MUST_CHECK;

/*
 * For a store that was opened read-only and is otherwise idle: every invariant of its structures. Marks each live
 * block in `used` (a bitmap over the device's blocks), reporting those marked twice.
 */
int store_check(struct store *store, uint8_t *used, struct store_walk *walk) MUST_CHECK;

/* What is listed, as whoever reads the partition has to know of it. */
struct store_listed {
	bool list; /* there is, or was, something */
	bool clones, bookmarks;
	bool of_clones; /* snapshots or bookmarks */
	bool turned;    /* a clone was promoted past snapshots or bookmarks */
};

void store_listed(struct store *store, struct store_listed *listed);

/* Roots, heads, metaslabs and trees, for developers. */
void store_dump(struct store *store, struct text *out);

#endif
