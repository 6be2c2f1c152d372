/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What the files of the store share. docs/design.md ("The store") has the theory; in short:
 *
 * State.  Two trees in 4 KiB pages, the block table (id -> place, checksum, references) and the volume (address -> id),
 * cached in memory; the log, which everything is appended to; and the live count of each metaslab.
 *
 * Locks.  `work` serializes cleaning, checkpoints and releases; `lock` covers everything else and is never held over
 * device I/O. Order: work, then lock. A function whose comment says "may drop the lock" lets others in: what was
 * looked up before has to be looked up again (struct store's `drops` counts these moments).
 *
 * Invariants, by the number they have in docs/design.md:
 *  3  flush returns 0 only when every record up to the last sealed one is written and a device flush followed.
 *  4  a metaslab is used again only when it is empty in a durable state, and no record that roll-forward needs is in it.
 *  5  nothing read from the device is used before its checksum was compared.
 */
#ifndef STORE_INTERNAL_H
#define STORE_INTERNAL_H

#include <pthread.h>

#include "format/format.h"
#include "space/metaslab.h"
#include "store/store.h"

enum log_head { HEAD_USER, HEAD_CLEAN, HEAD_META };

enum {
	/* A partition smaller than this writes everything through one head: three open metaslabs would be too many. */
	HEADS_METASLABS_MIN = 12,
	LINK_BLOCKS = RECORD_HEADERS, /* kept free at a metaslab's end for the record that names the next one */
	RECORDS_IN_FLIGHT_MAX = 4,    /* bounds memory: 0.7 MiB each */
	TREE_LEVELS_MAX = 8,
	CACHE_PAGES_MIN = 256,
	PAGES_IN_USE_MAX = 128, /* that one operation may hold on to without marking them */
};

/* Numbers that steer behaviour, each with its reason. */
#define LOG_LENGTH_MAX_BLOCKS (256 * 1024) /* 1 GiB: rolled forward in a second or two at opening */
#define LOG_SHARE_OF_SIZE 4                /* at most 1/4 of the partition: the rest must stay cleanable */
#define DIRTY_SHARE_OF_CACHE 3             /* a page changed while a checkpoint writes it is held twice */
#define IDLE_SEAL_US 1000000               /* what nobody flushes still goes out after this, as from any cache */
#define CONFIRM_US 100000                  /* see log_confirm */

/* A tree page in memory. */
struct page {
	struct page *hash_next;
	struct page *older, *newer; /* in the list of all pages, least recently used first */
	struct page *parent;        /* NULL for the top */
	uint64_t index;
	uint64_t path_epoch;        /* == store.freezes + 1: the next checkpoint has to write it (it, or one below it, changed) */
	struct fmt_pointer at;      /* where it lies on the device; place 0: nowhere yet */
	struct fmt_page *frozen;    /* what the checkpoint under way has to write, where that differs from data */
	uint64_t used;              /* store.uses when it was last wanted */
	uint32_t children;          /* cached pages, and loads under way, that need this one */
	uint8_t tree, level;
	bool counted;               /* in store.page_count */
	bool freezing;              /* must be written by the checkpoint under way */
	struct fmt_page data;
};

struct tree {
	struct page *top;      /* NULL: not cached (or does not exist: see at) */
	struct fmt_pointer at; /* of the top, as the last tree walk has it */
	unsigned levels;       /* by the volume's length */
	uint64_t capacity;     /* leaves */
};

enum record_state { RECORD_OPEN, RECORD_SEALED, RECORD_WRITING, RECORD_FAILED };

struct record {
	struct record *next;
	enum record_state state;
	uint64_t seq;
	uint64_t block; /* of the first header */
	unsigned head;
	unsigned blocks, entries, blocks_max;
	unsigned room; /* blocks that the buffer holds */
	int error;
	uint64_t opened_us;
	struct fmt_record *header; /* RECORD_HEADERS + RECORD_ENTRIES blocks */
};

struct head {
	uint32_t metaslab; /* NO_METASLAB: not in use */
	uint32_t offset;   /* blocks */
};

struct store {
	struct store_config config;
	char name[64];
	_Atomic uint64_t volume_blocks;
	pthread_mutex_t work;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a record was written, a flush ended, space appeared */
	pthread_cond_t wake;    /* the background has something to do */
	uint64_t drops;         /* how often `lock` was let go with work half done */
	bool trying;            /* `lock` may not be let go now: what would have to fails with AGAIN */
	bool stopping;

	struct space space;

	/* pages */
	struct tree tree[3]; /* by enum fmt_tree - 1; the space tree keeps nothing cached */
	struct page **bucket;
	size_t buckets;
	struct page lru; /* list head */
	size_t pages, pages_max;
	uint64_t uses;
	uint64_t freezes;
	uint64_t closure;        /* pages that the next checkpoint has to write */
	uint64_t closure_frozen; /* and those of the one under way */
	uint64_t page_count;     /* tree pages that exist (each twice on the device once written) */
	uint64_t unwritten;      /* those of them that lie nowhere on the device yet */
	struct fmt_pointer *space_pages; /* of the durable root */
	size_t space_page_count;

	/* log */
	struct head head[LOG_HEADS];
	unsigned heads; /* in use: 1 or LOG_HEADS */
	struct record *open;     /* the users' record being filled, or NULL */
	struct record *inflight; /* sealed and not yet written, oldest first */
	struct record *unused;   /* buffers kept for the next records */
	unsigned inflight_count;
	uint64_t seq;      /* of the last sealed record */
	uint64_t chain;    /* checksum of its header */
	uint64_t durable;  /* records up to this one are flushed */
	uint64_t claimed;  /* the highest `durable` that a header says */
	uint64_t claimed_before; /* the same, as found when it was opened */
	uint64_t work_seq; /* the last record that was more than a claim */
	uint64_t flushed_us;
	uint64_t epoch;
	bool flushing;
	bool unflushed;          /* something was written since the last flush began */
	unsigned flush_failures; /* the vdev's count when the first of these writes began */
	bool faulted;

	/* checkpoint: what the durable root says */
	uint64_t generation;
	unsigned root_slot;
	bool root_lost;      /* as found when it was opened: the other root was damaged in both copies */
	uint64_t root_seq;
	uint64_t flushed_at_root; /* as found when it was opened: what was durable when the root was written */
	uint64_t log_blocks; /* appended since */
	uint64_t *freed;     /* blocks that the durable root still needs, free when the next one is durable */
	size_t freed_count, freed_room;
	uint64_t quiet_seq; /* seq when the last checkpoint was done */
	/*
	 * It was found as store_close left it: both copies of both roots are good, and no header lies behind the
	 * log's end. Nothing is to be settled, and nothing that a new epoch would have to be set apart from.
	 */
	bool as_closed;
	uint64_t opened_seq; /* seq when it was opened, and the counters */
	struct store_counters opened_counters;
	uint64_t written_at_clean; /* counters.written_blocks when room was last made */
	uint64_t written_at_back;  /* the same, when metaslabs were last backed ahead */
	uint32_t giving;           /* metaslabs that are being given back to the host at this moment */
	uint64_t given;            /* and those that were */
	uint64_t trimmed_at_give;  /* counters.trimmed_blocks when a checkpoint last emptied what could be given */

	/* how late the background is */
	bool due;               /* it was woken and is not at work yet */
	uint64_t due_blocks;    /* counters.written_blocks when it was woken */
	struct background background;

	uint64_t id_end, id_cursor, data_blocks;
	uint64_t release_copied; /* of counters.copied_blocks, by store_release since it was opened */
	struct store_counters counters;
};

/* -- store.c ------------------------------------------------------------------------------------------------------ */

static inline void store_lock(struct store *s) { pthread_mutex_lock(&s->lock); }
static inline void store_unlock(struct store *s) { pthread_mutex_unlock(&s->lock); }
/* Letting the lock go in the middle of something. */
static inline void store_drop(struct store *s)
{
	s->drops++;
	pthread_mutex_unlock(&s->lock);
}
uint64_t store_now_us(const struct store *s);
void store_wake(struct store *s); /* the background, if there is work for it */

/* -- page.c: the cache -------------------------------------------------------------------------------------------- */

int page_cache_init(struct store *s) MUST_CHECK;
void page_cache_free(struct store *s);
/* Makes it the most recently used one. NULL: not cached. */
struct page *page_find(struct store *s, unsigned tree, unsigned level, uint64_t index);
/* A new zero page, counted in its parent; may evict others, never `parent`. NULL: out of memory. */
struct page *page_insert(struct store *s, unsigned tree, unsigned level, uint64_t index, struct page *parent);
/* Call before changing a leaf: keeps the version that a checkpoint is writing, and marks it. */
int page_modify(struct store *s, struct page *p) MUST_CHECK;
/* The next checkpoint writes it, and all above it, to a new place. */
void page_mark(struct store *s, struct page *p);
bool page_empty(const struct fmt_page *data); /* nothing but zeros behind the header */

/* -- tree.c ------------------------------------------------------------------------------------------------------- */

void tree_init(struct store *s, uint64_t volume_blocks);
/* For a longer volume: more levels where that needs them. What it adds is marked for the next checkpoint. */
int tree_grow(struct store *s, uint64_t volume_blocks) MUST_CHECK;
uint64_t tree_pages_max(uint64_t volume_blocks); /* that a volume of that length can have, in both trees */
/*
 * The page of a tree, loaded if need be. *page is NULL if there is none and !create. May drop the lock (s->drops).
 * A page that fails its checksum in both copies: CORRUPT.
 */
int tree_page(struct store *s, unsigned tree, unsigned level, uint64_t index, bool create, struct page **page) MUST_CHECK;
struct fmt_pointer *tree_pointer(struct store *s, struct page *p); /* where its parent points at it */
static inline struct tree *tree_of(struct store *s, unsigned tree) { return &s->tree[tree - 1]; }
/* Reads a page at a pointer, from either copy; with what each copy was like in good[2] (may be NULL). No lock needed. */
int tree_read_page(struct store *s, const struct fmt_pointer *at, unsigned tree, unsigned level, uint64_t index,
		   struct fmt_page *out, bool good[2]) MUST_CHECK;
static inline bool pointer_null(const struct fmt_pointer *p) { return le64_get(p->place[0]) == 0; }

/*
 * The first page of a level, at or behind *index, that exists, in *index; false in *found if there is none. May
 * drop the lock. After an error *index is the last page that cannot be had for it, and *found says whether it is
 * the only one.
 */
int tree_next(struct store *s, unsigned tree, unsigned level, uint64_t *index, bool *found) MUST_CHECK;
static inline int MUST_CHECK tree_next_leaf(struct store *s, unsigned tree, uint64_t *index, bool *found)
{
	return tree_next(s, tree, 0, index, found);
}

/* -- map.c: what a block and an address mean ---------------------------------------------------------------------- */

struct mapping {
	uint64_t id;       /* 0 = hole, else block id + 1 */
	uint64_t block;    /* on the device */
	uint64_t checksum;
};

#define ID_NONE UINT64_MAX

/* These may drop the lock before they look anything up for good: what they answer holds until the lock is let go. */
int map_lookup(struct store *s, uint64_t address, struct mapping *mapping) MUST_CHECK;
/*
 * Gets everything into memory and marked that map_bind will need. *id: ID_NONE for "the one it has, else a new one", or the id
 * (roll-forward). *fresh: the address has no block yet.
 */
int map_prepare(struct store *s, uint64_t address, uint64_t *id, bool *fresh) MUST_CHECK;
/* After map_prepare without a drop in between: address now refers to id, which lies in `block`. */
int map_bind(struct store *s, uint64_t address, uint64_t id, uint64_t block, uint64_t checksum) MUST_CHECK;
/* The entry of an id and its leaf; *entry is NULL if there is no such id. May drop the lock. */
int map_entry(struct store *s, uint64_t id, struct page **leaf, struct fmt_block **entry) MUST_CHECK;
/* The same block at another place. */
int map_move(struct store *s, struct page *leaf, struct fmt_block *entry, uint64_t block) MUST_CHECK;
/*
 * How much of [address, address + *count) can be unmapped in one go, and whether anything is mapped there; loads what
 * that needs. May drop the lock; the answer holds if it did not.
 */
int map_trim_prepare(struct store *s, uint64_t address, uint64_t *count, bool *mapped) MUST_CHECK;
int map_trim(struct store *s, uint64_t address, uint64_t count) MUST_CHECK;

/* -- log.c -------------------------------------------------------------------------------------------------------- */

void log_free(struct store *s);
/*
 * The users' record, with room for one more entry and block. May drop the lock, to get a full one written. NOSPC: it needs a
 * new metaslab and there are not more than `kept` EMPTY ones.
 */
int log_open_user(struct store *s, uint32_t kept, struct record **record) MUST_CHECK;
/*
 * A private record for up to `blocks` blocks (as many as fit, at least one), to be sealed before the lock is let go: so
 * its place in the order of things is certain. NOSPC as above.
 */
int log_begin(struct store *s, enum log_head head, unsigned blocks, uint32_t kept, struct record **record) MUST_CHECK;
/* Appends a block and its entry; returns the block number that it will have. */
uint64_t log_append(struct record *r, struct fmt_entry entry, const void *data);
void log_append_note(struct record *r, struct fmt_entry entry); /* an entry without a block */
/* Gives it its sequence number; returns that. Somebody has to call log_drain, log_wait or log_flush afterwards. */
uint64_t log_seal(struct store *s, struct record *r);
void log_seal_open(struct store *s); /* the users' record, if there is one */
/* Writes what is sealed; drops the lock if there is any. What fails stays in memory, to be tried again. */
void log_drain(struct store *s);
bool log_has_sealed(const struct store *s); /* there is something for log_drain */
/* Until record `seq` is written: 0, or the error with which it failed. Drops the lock. */
int log_wait(struct store *s, uint64_t seq) MUST_CHECK;
int log_retry(struct store *s) MUST_CHECK; /* failed records once more; drops the lock */
/* Everything that was appended so far becomes durable. Drops the lock. */
int log_flush(struct store *s) MUST_CHECK;
/* The device's flush with everything around it that a failure means; `upto` is then durable. Drops the lock. */
int log_flush_device(struct store *s, uint64_t upto) MUST_CHECK;
/* If the block is in a record that is not written yet: its content there. */
const void *log_peek(const struct store *s, uint64_t block);
/*
 * After a flush that nothing followed, a record that says so: roll-forward then knows that a damaged record before it is
 * damage and not the torn end of the log. Not flushed itself.
 */
bool log_confirm_due(const struct store *s);
void log_confirm(struct store *s);
uint32_t log_room(const struct store *s, enum log_head head); /* blocks left in its metaslab, without the link's */

/* -- room.c: who may take space ------------------------------------------------------------------------------------ */

/* Most live blocks that the store can hold in this many metaslabs. */
uint64_t room_limit(const struct store *s, uint32_t metaslabs);
/* The same, of what is backed, and of one metaslab less. */
uint64_t room_capacity(const struct store *s);
uint64_t room_capacity_without_one(const struct store *s);
uint64_t room_live(const struct store *s);
/* EMPTY metaslabs that a checkpoint of all pages can need; cleaning and checkpoints leave as many. */
uint32_t room_for_all_pages(const struct store *s);
/* What writers leave: that, and what cleaning needs. */
uint32_t room_kept(const struct store *s);
/* Would a checkpoint of just what has changed eat into that? Then it has to write all pages, which frees as much as it takes. */
bool room_needs_full_checkpoint(const struct store *s);
/* Too much of the cache waits for a checkpoint. */
bool room_cache_full(const struct store *s);
/* Before something that changes up to a handful of pages and appends a block: waits for, or makes, room. May drop the lock. */
int room_wait(struct store *s, bool urgent) MUST_CHECK;
/* For one more data block: 0, or NOSPC if the partition is full even after it was offered more. May drop the lock. */
int room_admit(struct store *s) MUST_CHECK;
/*
 * One unit of work that makes EMPTY metaslabs. Called with `work` held and `lock` not. 1: done something, 0: nothing to
 * gain, or an error.
 */
int room_make(struct store *s) MUST_CHECK;
void room_note_ready(struct store *s); /* what is empty now will be so for good when the flush that begins ends */
void room_reclaim(struct store *s);    /* what is empty for good becomes EMPTY */
bool room_low(const struct store *s);

/* -- back.c: on a sparse vdev, a place behind what is used --------------------------------------------------- */

/* One RAW metaslab becomes EMPTY: 0. DEVICE_FULL: no place for any. NOSPC: none is RAW. May drop the lock. */
int room_back(struct store *s) MUST_CHECK;
/* Some, so that the next writers find them. 1: some were. May drop the lock. */
int room_back_ahead(struct store *s);
bool room_wants_backing(const struct store *s); /* there should be more EMPTY ones, or more capacity, and can be */
bool room_should_back(const struct store *s);   /* and enough was written since that was last tried */
/*
 * When it is opened: the heads of an earlier version may stand where there is no place. True: they go on elsewhere,
 * and nothing may be written before a root says so.
 */
bool room_back_heads(struct store *s);
/* Gives what is EMPTY beyond need back to a host that is full; how many. Drops the lock. */
uint32_t room_give_back(struct store *s);
bool room_should_give_back(const struct store *s);
/* The same after a checkpoint, where trims have emptied enough. With `work` held and `lock` not. 1: gave some. */
int room_empty_and_give_back(struct store *s) MUST_CHECK;

/* -- clean.c, checkpoint.c, recover.c: called with `work` held and `lock` not ------------------------------------------ */

/* Copies what is live elsewhere. 0 also if it had to stop half-way (no room): then another unit of work is due first. */
int clean_metaslab(struct store *s, uint32_t index) MUST_CHECK;
int checkpoint_write(struct store *s) MUST_CHECK;
bool checkpoint_due(const struct store *s);
int recover(struct store *s, struct lcpfs_failure *failure) MUST_CHECK;
int root_write(struct store *s, struct fmt_root *root, unsigned slot) MUST_CHECK;

/* Follows the records of one metaslab. */
struct record_walk {
	uint32_t metaslab, offset;
	uint64_t block;  /* of the record returned */
	bool good[2];    /* which of its two headers were good */
};
/* The next record; false: there is none that can be read. No lock needed. */
bool record_next(struct store *s, struct record_walk *walk, struct fmt_record *header) MUST_CHECK;
/* The record header at a block, from either of its copies: 1, or 0 if there is none, or an error. */
int record_read(struct store *s, uint64_t block, struct fmt_record *header, bool good[2]) MUST_CHECK;

/* -- volume.c ------------------------------------------------------------------------------------------------------ */

/*
 * Looks a block up and, if it is a hole or not written yet, fills it in: *filled. What was not written yet has
 * still to be verified. With the lock; may drop it.
 */
int volume_look_up(struct store *s, uint64_t address, void *data, struct mapping *mapping,
		   bool *filled) MUST_CHECK;
/* With the lock; may drop it. 1: the block is not what was expected (NULL: anything will do) any more. */
int volume_write_block(struct store *s, uint64_t address, const void *data, uint64_t checksum,
		       const struct mapping *expected) MUST_CHECK;
/* One block, verified, as it is now. */
int volume_read_block(struct store *s, uint64_t address, void *data, struct mapping *mapping) MUST_CHECK;
static inline bool entry_has_block(unsigned kind) { return kind != ENTRY_TRIM; }

#endif
