/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store in memory: its parts, each owned by the file of its name, and its two locks.
 *
 * Locks.  `work` serializes what runs in the background of writers: cleaning, checkpoints, releases. `lock` covers
 * everything else; it is held for short and never over device I/O. Order: work, then lock.
 *
 * Attempts.  What needs several pages, room in the log and space at once is done in an attempt: a function that
 * runs under the lock from beginning to end and changes nothing before it has all it needs. Where something is
 * missing it says what (struct need) and is tried again once that is there. So nobody has to reason about what
 * others did while the lock was let go: see attempt().
 */
#ifndef STORE_STATE_H
#define STORE_STATE_H

#include <pthread.h>

#include "format/format.h"
#include "space/space.h"
#include "store/cache.h"
#include "store/store.h"

enum log_head { HEAD_HOT, HEAD_COLD, HEAD_MOVED };

enum record_state { RECORD_OPEN, RECORD_SEALED, RECORD_WRITING, RECORD_FAILED };

struct record {
	struct record *next;
	enum record_state state;
	uint64_t seq;
	uint64_t block; /* of the first header */
	unsigned head;
	unsigned blocks, words, blocks_max;
	unsigned last_entry; /* the word where the last entry begins */
	bool last;  /* the head goes on in the next metaslab, whatever room is left */
	bool pages; /* of volumes stand in it */
	bool notes; /* it tells of something else than blocks */
	int error;
	uint64_t opened_us;
	struct fmt_record *header; /* one block, aligned */
	struct page *page[RECORD_BLOCKS_MAX]; /* pinned until it is written */
};

struct head {
	uint32_t metaslab; /* NO_METASLAB: not in use */
	uint32_t offset;   /* blocks */
	uint32_t next;     /* where it goes on, already taken; NO_METASLAB: not yet */
};

struct log {
	struct head head[LOG_HEADS];
	unsigned heads;                  /* in use: 1 or LOG_HEADS */
	struct record *open[LOG_HEADS];  /* being filled, or NULL */
	struct record *inflight;         /* sealed and not yet written, oldest first */
	struct record *unused;           /* kept for the next ones */
	unsigned inflight_count;
	uint64_t seq;      /* of the last sealed record */
	uint64_t chain;    /* checksum of its header */
	uint64_t chain_seq; /* of the record whose checksum that is: the last one sealed */
	uint64_t durable;  /* records up to this one are flushed */
	uint64_t claimed;  /* the highest `durable` that a header says */
	uint64_t work_seq; /* the last record that was more than a claim */
	uint64_t flushed_us;
	uint64_t epoch, epoch_seq; /* see struct fmt_root */
	uint64_t appended; /* blocks, since it was opened; from there on counting what was rolled forward, too */
	bool flushing;
	uint64_t flushes, flushed; /* of the device, begun since it was opened; which of them ended last, well */
	bool unflushed;            /* something was written since the last flush began */
	unsigned flush_failures;   /* the vdev's count when the first of these writes began */
};

/* A region of the block table: see struct fmt_region. */
struct region {
	uint64_t seq, chain;
	struct fmt_position position[LOG_HEADS];
	uint64_t appended;   /* log.appended at that time */
	struct page *dirty;  /* its leaves that changed since */
	uint32_t dirty_count;
};

struct table {
	struct fmt_pointer top;
	unsigned levels;
	uint64_t pages;  /* that exist on the device; each lies there twice */
	uint64_t fresh;  /* dirty ones that lie nowhere yet */
	unsigned region_shift;
	struct region region[REGIONS];
	struct page *dirty_inner; /* pages above the leaves */
	uint32_t dirty_count, inner_count; /* leaves of all regions; pages above */
	struct head head; /* where pages are written; no `next` */
};

/* A volume's tree. */
struct volume {
	unsigned levels;        /* in memory; at least 1 */
	uint64_t root;          /* id of the top page of the tree that lies in the log; 0: there is none */
	unsigned placed_levels; /* of that one: not more than `levels` */
	_Atomic uint64_t blocks; /* its length; grows */
	uint32_t birth;
	uint64_t origin; /* of what is LEFT, or a clone: the number of the snapshot that it began as; else 0 */
	uint32_t shared_below; /* what it refers to and was born before that, a snapshot refers to as well */
	uint32_t known_below;  /* not less: what was born before that gets another id where it changes */
};

/* A volume of the list: one that nobody writes, or a clone. See snap.h. */
struct snapshot {
	uint32_t number;
	uint8_t state; /* enum fmt_snapshot_state, not NONE */
	bool held;     /* who destroys is to ask first */
	struct volume volume;
	uint64_t created_s;
	uint64_t guid; /* 0: none */
	char name[SNAPSHOT_NAME_MAX + 1];
	unsigned slot;  /* where it is listed; NO_SLOT: nowhere yet */
	unsigned users; /* who reads it, or writes the clone, at this moment; */
	unsigned clients; /* of these, those who read or write the clone for somebody */
	bool ending;    /* the clone is being destroyed */
	uint64_t turn;  /* of a clone: see snap.h. Of others, while the list is read, of the block that they stand
			   in */
	bool stuck;     /* a part of its tree cannot be read: what it had is not freed before it is opened anew */
	/* In blocks, as found by measure.c, with what it was found against. */
	struct {
		bool is_referenced_known, is_written_known;
		uint64_t referenced, written, used;
		uint64_t gone; /* that the heir has not */
		uint32_t written_low, heir, heir_low;
	} sizes;
};

enum { NO_SLOT = 1 << 30 };

struct snapshots {
	struct snapshot **list; /* by number */
	unsigned count, room;
	unsigned pairs; /* blocks that the list has, each twice */
	uint64_t turn;  /* how often lines were exchanged, see snap.h; */
	unsigned stale; /* blocks below this one may not know the last time yet */
	bool is_stuck;  /* one of these cannot be written */
};

struct trees {
	struct volume volume[ROOT_VOLUMES];
	struct snapshots snapshots;
	struct snapshots bookmarks; /* by number, too, which several may have; `pairs` is not used */
	struct page *dirty;
	uint32_t dirty_count;
	uint32_t unplaced; /* of these, those that will get ids when they are written */
	bool held;         /* a checkpoint is about to freeze: nobody changes pages meanwhile */
	/*
	 * While it is rolled forward: does the page kept as `id` vanish later? It is then as if it were not there.
	 */
	bool (*vanishes_later)(void *context, uint64_t id);
	void *vanishes_context;
};

/* Block ids to give out. */
struct ids {
	uint64_t end;    /* ids at or above were never used; the first one is 2 */
	uint64_t cursor; /* where free ones are looked for next */
	struct {
		uint64_t first, count;
	} run[64];       /* free ones that are known */
	unsigned runs;
};

struct checkpoints {
	uint64_t generation;
	unsigned root_slot;
	uint64_t root_seq;  /* what the durable root says: the counts are as after this record */
	uint64_t *freed;    /* places of pages that the durable root still needs */
	size_t freed_count, freed_room;
	struct fmt_pointer *space_pages; /* of the durable root */
	size_t space_page_count;
	unsigned space_levels;
	struct fmt_pointer space_top;
	uint32_t birth;
};

struct backing { /* of a sparse vdev */
	uint64_t written_at_back; /* counters.written_blocks when metaslabs were last backed ahead */
	uint64_t flushes_at_back; /* and log.flushes */
	uint64_t device_at_prepare; /* counters.device_blocks when something was last prepared */
	uint32_t prepared_of;       /* the metaslab of which so much was prepared, from its beginning */
	uint64_t prepared_bytes;
	bool was_waited_for;      /* a client has flushed, and not all was prepared since while nobody wrote */
	uint32_t giving;          /* metaslabs that are being given back to the host at this moment */
	uint64_t given;           /* and those that were */
	uint64_t trimmed_at_give; /* counters.trimmed_blocks when a checkpoint last emptied what could be given */
	bool cleaning;            /* what those trims have left in pieces is being cleaned, to be given too */
};

struct reckoned { /* what writers leave, and what that was reckoned from; see room_kept_by_writers */
	uint64_t pages;
	unsigned region_shift;
	uint32_t dirty, metaslabs, held, heads; /* metaslabs 0: nothing yet; held: by the table */
	uint32_t kept;
};

struct found { /* what opening it showed */
	bool root_lost;         /* the other root was damaged in both copies */
	uint64_t claimed;       /* log.claimed then */
	uint64_t root_durable;  /* what was durable when the root was written */
	bool snapshots;         /* all of them: what volumes share is known */
	bool clean;             /* nothing was rolled forward, and nothing lies behind */
	bool as_closed; /* and the pool says that it was closed well: it was opened without writing anything */
};

struct store {
	struct store_config config;
	char name[64];
	pthread_mutex_t work;
	pthread_mutex_t lock;
	pthread_cond_t changed; /* a record was written, a flush ended, a page was loaded, space appeared */
	pthread_cond_t wake;    /* the background has something to do */
	pthread_cond_t pause;   /* nobody signals it: a release lets others go first for a while */
	bool stopping;
	bool faulted;           /* nothing is written any more until it is opened anew */
	bool contradicts;       /* that is why: see store_contradiction */

	struct space space;
	struct cache cache;
	struct log log;
	struct table table;
	struct trees trees;
	struct ids ids;
	struct checkpoints checkpoint;
	struct found found;
	struct backing backing;
	struct reckoned reckoned;

	uint64_t data_blocks;      /* ids in use for data */
	uint64_t page_blocks;      /* and for volume pages */
	uint64_t written_at_clean; /* counters.written_blocks when room was last made */
	uint64_t changes;          /* raised whenever somebody may go on who waits for room */
	bool dozes;                /* the background looks seldom, and wants to be told of the next change */
	bool due;                  /* the background was woken and is not at work yet */
	uint64_t due_blocks;       /* counters.written_blocks when it was woken */
	struct background background;
	uint64_t opened_seq;       /* as_closed: log.seq then */
	struct store_counters opened_counters;
	struct {
		size_t cache, rest; /* the share that unlocks have had of the next audit, see store_audit */
	} audit;
	uint64_t release_copied;   /* of counters.copied_blocks, by store_release since it was opened */
	struct store_counters counters;
};

/*
 * With the lock: what is in memory, or in a record, contradicts the table. Nothing is changed any more. FAULTED:
 * it is no rot, unless it is met while the store is opened; then all of it has just come from the device
 * (recover.c).
 */
static inline int store_contradiction(struct store *s)
{
	s->faulted = s->contradicts = true;
	return -LCPFS_E_FAULTED;
}

static inline void store_lock(struct store *s) { pthread_mutex_lock(&s->lock); }

/*
 * Every invariant of its parts, in test builds at every unlock. What has more than AUDIT_SMALL things to look at
 * (metaslabs, changed pages; buckets and pages of the cache) is looked at less often: an unlock pays for AUDIT_SHARE.
 */
enum { AUDIT_SMALL = 64, AUDIT_SHARE = 32 };
void store_audit(struct store *s);

static inline void store_unlock(struct store *s)
{
#ifdef LCPFS_AUDIT
	store_audit(s);
#endif
	pthread_mutex_unlock(&s->lock);
}

/* Lets the lock go until something has changed. */
static inline void store_wait(struct store *s) { pthread_cond_wait(&s->changed, &s->lock); }

/* A page that the cache has, pinned; where others load it, that is waited for. NULL: it has to be loaded. */
static inline struct page *store_cached(struct store *s, const struct page_key *key)
{
	struct page *page;
	while ((page = cache_find(&s->cache, key)) && page->state == PAGE_LOADING)
		store_wait(s);
	if (page)
		page_pin(page);
	return page;
}

static inline void store_changed(struct store *s)
{
	s->changes++;
	pthread_cond_broadcast(&s->changed);
}

static inline uint64_t store_now_us(const struct store *s)
{
	return clock_us(s->config.clock);
}

/* -- what an attempt misses -- */

enum need_kind {
	NEED_NOTHING,
	NEED_PAGE,   /* the page with `key` in the cache */
	NEED_HELD,   /* that trees are not held any more */
	NEED_WRITE,  /* fewer records in flight */
	NEED_ROOM,   /* an EMPTY metaslab beyond what is kept back */
};

enum { PINS_MAX = 12, ABSENT_MAX = 12 };

struct need {
	enum need_kind kind;
	struct page_key key;
	struct page *pin[PINS_MAX]; /* loaded for this attempt: they stay until it has succeeded */
	unsigned pins;
	struct page_key absent[ABSENT_MAX]; /* looked for, and they do not exist */
	unsigned absents;
};

static inline void need_begin(struct need *need)
{
	need->kind = NEED_NOTHING;
	need->pins = need->absents = 0;
}

static inline bool need_is_absent(const struct need *need, const struct page_key *key)
{
	for (unsigned i = 0; i < need->absents; i++) {
		if (page_key_same(&need->absent[i], key))
			return true;
	}
	return false;
}

/* An attempt returns this when `need` says what is missing. */
enum { TRY_AGAIN = 1 };

#endif
