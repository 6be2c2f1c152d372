/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pools and partitions for C programs: open, read and write, change, ask.
 *
 * A pool is open in one process at a time. All functions may be called from any thread. A partition handle stays
 * valid until it is closed; as long as there is one, the partition cannot be removed (BUSY).
 * Functions return 0 or a negative code of <lcpfs/error.h> and fill *failure (may be NULL) with one line that says
 * what to do. Sizes are blocks of 4 KiB where the name ends in _blocks, else bytes.
 */
#ifndef LCPFS_POOL_H
#define LCPFS_POOL_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lcpfs/engine.h>
#include <lcpfs/error.h>

#ifdef __cplusplus
extern "C" {
#endif
#pragma GCC visibility push(default)

#define LCPFS_BLOCK_BYTES 4096u
#define LCPFS_NAME_MAX 63u

struct lcpfs_pool;
struct lcpfs_partition;
struct lcpfs_partition_info;

/* Called now and then from long work; returning false asks it to stop (STOPPED). */
typedef bool lcpfs_progress(void *context, uint64_t done, uint64_t total);

/* ---- pool ---- */

struct lcpfs_create_options {
	uint64_t size_bytes;     /* 0: the whole of a file or device that exists */
	uint64_t metaslab_bytes; /* 0: chosen by size; a power of two, 1 MiB to 64 MiB */
	bool force;              /* also over something that is there already */
	bool dry_run;            /* only say whether it would be made */
};

/* Refuses what already is a pool or a file system (EXISTS) or is in use (BUSY), and leaves it untouched. */
int lcpfs_pool_create(const char *path, const struct lcpfs_create_options *options, struct lcpfs_failure *failure);

/* What whoever runs a pool should hear of, in one line of text. */
enum lcpfs_notice {
	LCPFS_NOTICE_WAITING, /* opening takes some seconds: was it left by a crash, or has another machine got it?
			       */
	LCPFS_NOTICE_REMOVED, /* the pool's file has no name any more */
	LCPFS_NOTICE_TAKEN_OVER, /* somebody else has the pool; nothing is written any more, and all calls fail */
	LCPFS_NOTICE_HOST_FULL,  /* the file system under a sparse pool file has no space left */
	LCPFS_NOTICE_HOST_SPACE, /* it has some again */
};

/* Kept in the pool, for whoever serves it and is told nothing else; 0: not given. */
struct lcpfs_pool_settings {
	uint64_t cache_bytes;   /* for tables, all partitions together; from the next opening on */
	uint32_t alarm_percent; /* how full something may be before somebody should hear of it; at most 100 */
};

struct lcpfs_open_options {
	bool read_only;      /* nothing is written, not even recovery */
	bool background;     /* cleaning and the engine run in threads of the pool; else only as a side of calls */
	size_t cache_bytes;  /* for tables, all partitions together; 0 = as kept in the pool, else 256 MiB */
	bool no_uring;
	bool no_wait;        /* one that is in use is BUSY at once; else its lock may take a moment to be gone */
	bool tune_given;     /* take `tune`, and keep it in the pool */
	enum lcpfs_engine_mode tune;
	/* May be NULL. Called from any thread; it must not call the pool. */
	void (*notice)(void *context, enum lcpfs_notice notice, const char *text);
	void *notice_context;
};

int lcpfs_pool_open(const char *path, const struct lcpfs_open_options *options, struct lcpfs_pool **pool,
		    struct lcpfs_failure *failure);
/* Makes everything durable. The handle is gone in any case; partition handles must be closed before. */
int lcpfs_pool_close(struct lcpfs_pool *pool, struct lcpfs_failure *failure);

struct lcpfs_grow_options {
	uint64_t size_bytes; /* a regular file is made that large first, sparse; 0: as large as it is */
	bool dry_run;        /* only say what would come of it; in a pool that is open read-only, too */
};

struct lcpfs_growth {
	/* Of metaslabs, as lcpfs_pool_info.size_blocks; the same: nothing was gained. */
	uint64_t old_size_blocks, new_size_blocks;
	uint64_t missing_blocks; /* nothing was gained: how much longer the file or device has to be at least */
};

/*
 * Takes what the file or device has gained at its end since the pool was created or grown, beside clients.
 * `options` may be NULL. Having gained nothing is no error. What was gained is zeroed, which on a device that
 * cannot do that by itself takes as long as writing all of it. RANGE: the pool was not made to grow that far,
 * which is 16 times its first size. All of it or nothing; after an error that says so the second label is missing.
 */
int lcpfs_pool_grow(struct lcpfs_pool *pool, const struct lcpfs_grow_options *options, struct lcpfs_growth *growth,
		    struct lcpfs_failure *failure);

/* ---- partitions ---- */

/*
 * Sizes are of user data. What the store needs besides, for tables, its log and room to clean in, comes on top:
 * see lcpfs_partition_info.
 */
struct lcpfs_partition_spec {
	const char *name;     /* 1..63 of A-Z a-z 0-9 . _ - , not starting with . or - */
	uint64_t min_bytes, max_bytes;
	uint64_t size_bytes;   /* 0 = min */
	uint64_t volume_bytes; /* exactly its length; 0 = max */
	bool thin;             /* the volume may be longer than max: then it cannot be filled */
	/*
	 * How long a write that finds no room, and nothing left to be had from the pool, waits for some before it
	 * fails with NOSPC or DEVICE_FULL; 0: not at all. At most LCPFS_WAIT_S_MAX. When one has waited in vain,
	 * others fail at once until something changes.
	 */
	uint32_t when_full_wait_s;
};

#define LCPFS_WAIT_S_MAX 86400u

enum lcpfs_snapshot_kind {
	LCPFS_SNAPSHOT_HOURLY,
	LCPFS_SNAPSHOT_DAILY,
	LCPFS_SNAPSHOT_WEEKLY,
	LCPFS_SNAPSHOT_MONTHLY,
	LCPFS_SNAPSHOT_KINDS
};

/*
 * Snapshots that a pool with a background takes by itself: one in each hour, day, week (from Monday) or month of
 * UTC, as soon as it can, called NAME@hourly-2026-11-27_18:00, NAME@daily-2026-11-27, NAME@weekly-2026-W48,
 * NAME@monthly-2026-11. Of each kind the youngest `keep` stay; 0: none is taken, and what there is stays. Those
 * that are held, or that somebody has open, are not destroyed.
 */
struct lcpfs_snapshot_schedule {
	uint8_t keep[LCPFS_SNAPSHOT_KINDS];
};

/* "hourly:24,daily:7", each kind once and 1 to 255 of it, or "off". INVALID. */
int lcpfs_snapshot_schedule_parse(const char *text, struct lcpfs_snapshot_schedule *schedule);
#define LCPFS_SNAPSHOT_SCHEDULE_TEXT 64
void lcpfs_snapshot_schedule_print(const struct lcpfs_snapshot_schedule *schedule,
				   char text[LCPFS_SNAPSHOT_SCHEDULE_TEXT]);

int lcpfs_partition_add(struct lcpfs_pool *pool, const struct lcpfs_partition_spec *spec,
			struct lcpfs_failure *failure);
int lcpfs_partition_remove(struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure);
/*
 * Makes room for so much user data: gets metaslabs, or cleans and hands over, or refuses (TOO_SMALL) and says how
 * small it can get. Rounds up to whole metaslabs.
 */
int lcpfs_partition_resize(struct lcpfs_pool *pool, const char *name, uint64_t size_bytes,
			   lcpfs_progress *progress, void *context, struct lcpfs_failure *failure);

/* What to change of a partition; NULL, 0 and false: nothing. */
struct lcpfs_partition_change {
	const char *new_name;
	uint64_t min_bytes, max_bytes, volume_bytes;
	bool thin; /* the volume may be longer than max */
	bool when_full_given;
	uint32_t when_full_wait_s;
	bool schedule_given;
	struct lcpfs_snapshot_schedule schedule;
	bool dry_run; /* only say what would come of it */
};

/*
 * All of it or, after an error, nothing but perhaps its size. What its size has to be for the new limits it is
 * made, as by lcpfs_partition_resize. The id stays. Names and shorter volumes are refused (BUSY) while there are
 * handles, and a shorter volume while there are data beyond its end (TOO_SMALL). Open handles go on with the
 * length that they know. *info: as it is, or would be, afterwards.
 */
int lcpfs_partition_set(struct lcpfs_pool *pool, const char *name, const struct lcpfs_partition_change *change,
			lcpfs_progress *progress, void *context, struct lcpfs_partition_info *info,
			struct lcpfs_failure *failure);

/*
 * "NAME@SNAP" opens a snapshot: a volume that never changes. Writing and trimming it is READ_ONLY. As long as it
 * is open it cannot be destroyed (BUSY).
 */
int lcpfs_partition_open(struct lcpfs_pool *pool, const char *name, struct lcpfs_partition **partition,
			 struct lcpfs_failure *failure);
void lcpfs_partition_close(struct lcpfs_partition *partition);

uint64_t lcpfs_volume_bytes(const struct lcpfs_partition *partition);
bool lcpfs_volume_is_snapshot(const struct lcpfs_partition *partition);
/* Any offset and length within the volume; each 4 KiB block changes as a whole. */
int lcpfs_volume_read(struct lcpfs_partition *partition, uint64_t offset, void *buffer, size_t length,
		      struct lcpfs_failure *failure);
int lcpfs_volume_write(struct lcpfs_partition *partition, uint64_t offset, const void *buffer, size_t length,
		       bool fua, struct lcpfs_failure *failure);
/* Of a write that may have to wait for room: all zero at first. */
struct lcpfs_write_wait {
	size_t done; /* bytes that are written */
	uint64_t since_us, tried_us, mark; /* not for callers */
};

/*
 * The same for a thread that has others to serve: where it would wait for room (when_full_wait_s) it returns AGAIN
 * after some milliseconds, and is to be called again with the same arguments.
 */
int lcpfs_volume_write_some(struct lcpfs_partition *partition, uint64_t offset, const void *buffer, size_t length,
			    bool fua, struct lcpfs_write_wait *wait, struct lcpfs_failure *failure);
int lcpfs_volume_trim(struct lcpfs_partition *partition, uint64_t offset, uint64_t length, bool fua,
		      struct lcpfs_failure *failure); /* reads as zeros afterwards */
/*
 * The same for a thread that must not wait: for a device, for room, or for work under way. AGAIN: that is
 * impossible, and the functions above are to be asked, by a thread that may. Reading: the buffer holds anything
 * then. Writing: *done bytes are written, whatever is returned. *unsettled: lcpfs_volume_settle should be called
 * soon, by a thread that may wait.
 */
int lcpfs_volume_try_read(struct lcpfs_partition *partition, uint64_t offset, void *buffer, size_t length);
int lcpfs_volume_try_write(struct lcpfs_partition *partition, uint64_t offset, const void *buffer, size_t length,
			   size_t *done, bool *unsettled);
void lcpfs_volume_settle(struct lcpfs_partition *partition);
int lcpfs_volume_flush(struct lcpfs_partition *partition, struct lcpfs_failure *failure);
int lcpfs_volume_extent(struct lcpfs_partition *partition, uint64_t offset, uint64_t length, bool *data,
			uint64_t *end);

/* A range in which two volumes differ. */
struct lcpfs_difference {
	uint64_t offset, length; /* length 0: there is none before `offset`, from where on to ask */
	bool data; /* what the second one has there; else it reads as zeros, where the first one has data */
};

/*
 * What is different in `to` from what `from` is, the next of it at or behind `offset`. Both are of one partition:
 * snapshots, or the volume as it is now, also what is not flushed. NULL: an empty volume. Different means written
 * anew, be it with the same bytes. It takes time in proportion to what is different, and a long range may come in
 * parts, one right behind the other. An offset of the end of the volume: that was all.
 */
int lcpfs_volume_difference(struct lcpfs_partition *from, struct lcpfs_partition *to, uint64_t offset,
			    struct lcpfs_difference *difference, struct lcpfs_failure *failure);
/*
 * The same of what has changed in `to`, a volume or a snapshot, since a bookmark of that volume: NAME#MARK. What
 * is zero now and was so then may be told, too: of what was there before nothing is known. NOT_FOUND; INVALID: it
 * is not of that volume, or not younger.
 */
int lcpfs_volume_difference_since(const char *bookmark, struct lcpfs_partition *to, uint64_t offset,
				  struct lcpfs_difference *difference, struct lcpfs_failure *failure);

/* ---- snapshots ---- */

/*
 * A snapshot is named NAME@SNAP: SNAP is 1 to 63 of A-Z a-z 0-9 . _ - : and NAME is its partition's. It is what
 * the volume was when it was taken, and takes space only for what was overwritten or trimmed since.
 */
struct lcpfs_snapshot_info {
	char name[2 * LCPFS_NAME_MAX + 2]; /* NAME@SNAP */
	char partition[LCPFS_NAME_MAX + 1], snapshot[LCPFS_NAME_MAX + 1];
	uint64_t created_s;    /* since 1970 */
	uint64_t volume_bytes; /* whole blocks */
	uint32_t clients;      /* open handles of it */
	bool held;             /* see lcpfs_snapshot_hold */
};

/* NULL instead: none of it. */
struct lcpfs_snapshot_options {
	bool dry_run;             /* only say whether it would be done; in a pool that is open read-only, too */
	bool force;               /* rolling back: destroys those that are younger */
	lcpfs_progress *progress; /* in snapshots; may be NULL */
	void *context;
	uint64_t *freed_blocks; /* destroying with dry_run: how much would come free; may be NULL */
};

/*
 * Takes them all, of several partitions at one instant: none of them has a write that came after one that another
 * lacks. Each is durable, with all that was acknowledged before, when it returns 0; after an error there is none
 * of them, unless the message says so. A crash meanwhile may leave some. EXISTS, INVALID, NOSPC, BUSY.
 */
int lcpfs_snapshot_create(struct lcpfs_pool *pool, const char *const *names, size_t count,
			  const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure);
/*
 * For good, one after the other. The space that only they take comes free in the background; before it returns, in
 * a pool without. NOT_FOUND, and BUSY for one that somebody has open, or that is held: then none is destroyed.
 */
int lcpfs_snapshot_destroy(struct lcpfs_pool *pool, const char *const *names, size_t count,
			   const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure);
/* Those that are held are not destroyed, also not with their partition, before they are released. NOT_FOUND. */
int lcpfs_snapshot_hold(struct lcpfs_pool *pool, const char *const *names, size_t count,
			const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure);
int lcpfs_snapshot_release(struct lcpfs_pool *pool, const char *const *names, size_t count,
			   const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure);
/*
 * It gets another name: NAME@NEW, of the same partition, @NEW or NEW. One of the two after a crash. BUSY for one
 * that somebody has open, who could not open it again. NOT_FOUND, EXISTS, INVALID.
 */
int lcpfs_snapshot_rename(struct lcpfs_pool *pool, const char *name, const char *new_name,
			  const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure);
/*
 * The volume becomes what it was; its length stays. What was written since is lost. Old or new after a crash,
 * never between. BUSY while somebody has the volume open. EXISTS: there are younger ones, and force is not given.
 * TOO_SMALL: it has data beyond the end that the volume has now.
 */
int lcpfs_snapshot_rollback(struct lcpfs_pool *pool, const char *name,
			    const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure);
/*
 * Of one partition or, with NULL, of all, by id; the oldest first. *count: how many there are; up to `room` are
 * filled.
 */
int lcpfs_snapshot_list(struct lcpfs_pool *pool, const char *partition, struct lcpfs_snapshot_info *list,
			size_t room, size_t *count, struct lcpfs_failure *failure);

/* Of one snapshot: its data and the pages that say where they are. */
struct lcpfs_snapshot_sizes {
	uint64_t used_blocks;       /* that come free when it is destroyed, and no other */
	uint64_t referenced_blocks; /* that it has, shared or not */
	uint64_t written_blocks;    /* of these, those that the snapshot before it has not */
};

/*
 * Exact at one moment, by looking at what it shares with its neighbours: reading takes time as they differ. The
 * first time after the pool was opened it reads the tables of the oldest one. NOT_FOUND, CORRUPT, IO.
 */
int lcpfs_snapshot_sizes(struct lcpfs_pool *pool, const char *name, struct lcpfs_snapshot_sizes *sizes,
			 struct lcpfs_failure *failure);
/* What comes free in a partition when all its snapshots go: more than the sum of used_blocks where they share. */
int lcpfs_snapshots_freed(struct lcpfs_pool *pool, const char *partition, uint64_t *blocks,
			  struct lcpfs_failure *failure);

/* ---- clones ---- */

/*
 * A clone is a volume that began as a snapshot, and is written. It shares with that what is the same, and lies in
 * the space of that partition. It is opened by its name, which no partition and no other clone of the pool has. It
 * is as long as the snapshot. A partition has 32 at most. It has snapshots and bookmarks as a partition has:
 * wherever NAME@SNAP or NAME#MARK is meant, NAME may be a clone's.
 */
struct lcpfs_clone_info {
	char name[LCPFS_NAME_MAX + 1];
	char partition[LCPFS_NAME_MAX + 1];
	char origin[2 * LCPFS_NAME_MAX + 2]; /* NAME@SNAP */
	uint64_t created_s;                  /* since 1970 */
	uint64_t volume_bytes;               /* whole blocks */
	uint32_t clients;                    /* open handles of it */
};

/*
 * Makes one of a snapshot, NAME@SNAP; durable when it returns 0. As long as there is the clone, the snapshot
 * cannot be destroyed. dry_run: only say whether it would be done. NOT_FOUND, EXISTS, INVALID, NOSPC; RANGE: there
 * are 32.
 */
int lcpfs_clone_create(struct lcpfs_pool *pool, const char *snapshot, const char *name, bool dry_run,
		       struct lcpfs_failure *failure);
/*
 * For good, one after the other; what they did not share comes free as with snapshots. NOT_FOUND, BUSY for one
 * that somebody has open, and NOT_EMPTY for one that has snapshots: then none is destroyed.
 */
int lcpfs_clone_destroy(struct lcpfs_pool *pool, const char *const *names, size_t count, bool dry_run,
			struct lcpfs_failure *failure);
/*
 * It is called otherwise, by a name as a clone gets one. One of the two after a crash. NOT_FOUND, EXISTS, INVALID,
 * and BUSY while somebody has it open.
 */
int lcpfs_clone_rename(struct lcpfs_pool *pool, const char *name, const char *new_name, bool dry_run,
		       struct lcpfs_failure *failure);
/*
 * It gets longer, in whole blocks of 4 KiB; what is new reads as zeros. Who has it open finds that at the next
 * opening. NOT_FOUND; INVALID: it would get shorter; RANGE: no volume can be that long.
 */
int lcpfs_clone_grow(struct lcpfs_pool *pool, const char *name, uint64_t volume_bytes, bool dry_run,
		     struct lcpfs_failure *failure);
/*
 * The clone and the volume of its partition change places. The partition, with its snapshots, its size and all
 * that was set of it, is called as the clone was from then on, and the clone as the partition was (which is
 * given): so by either name there is what was there before. One or the other after a crash. EXISTS: there are
 * snapshots or bookmarks younger than the one that it is a clone of. NOT_EMPTY: it has some of its own. INVALID:
 * it is of a clone's snapshot. RANGE: the volume has another length by now.
 * NOT_FOUND, and BUSY while anybody has the partition, a snapshot or a clone of it open.
 */
int lcpfs_clone_promote(struct lcpfs_pool *pool, const char *name, bool dry_run,
			char partition[LCPFS_NAME_MAX + 1], struct lcpfs_failure *failure);
/* Of all partitions. *count: how many there are; up to `room` are filled. */
int lcpfs_clone_list(struct lcpfs_pool *pool, struct lcpfs_clone_info *list, size_t room, size_t *count);

/*
 * How many blocks come free when it is destroyed, with its snapshots: what it does not share. As
 * lcpfs_snapshot_sizes. NOT_FOUND.
 */
int lcpfs_clone_used(struct lcpfs_pool *pool, const char *name, uint64_t *blocks, struct lcpfs_failure *failure);

/* ---- bookmarks ---- */

/*
 * NAME#MARK: what is noted of a snapshot of NAME. What has changed since can be sent, also when the snapshot is
 * gone. MARK is what SNAP may be, of its own kind. It takes no space of the snapshot's.
 */
struct lcpfs_bookmark_info {
	char name[2 * LCPFS_NAME_MAX + 2]; /* NAME#MARK */
	char partition[LCPFS_NAME_MAX + 1], bookmark[LCPFS_NAME_MAX + 1];
	uint64_t created_s; /* since 1970, the snapshot */
	uint64_t guid;      /* of the snapshot */
};

/* Of a snapshot, NAME@SNAP: NAME#MARK, #MARK or MARK. NOT_FOUND, EXISTS, INVALID, NOSPC. */
int lcpfs_bookmark_create(struct lcpfs_pool *pool, const char *snapshot, const char *name,
			  const struct lcpfs_snapshot_options *options, struct lcpfs_failure *failure);
int lcpfs_bookmark_destroy(struct lcpfs_pool *pool, const char *name, const struct lcpfs_snapshot_options *options,
			   struct lcpfs_failure *failure);
/* As lcpfs_snapshot_list. */
int lcpfs_bookmark_list(struct lcpfs_pool *pool, const char *partition, struct lcpfs_bookmark_info *list,
			size_t room, size_t *count, struct lcpfs_failure *failure);

/* ---- streams: snapshots on their way to another pool ---- */

struct lcpfs_stream {
	uint64_t guid, from_guid; /* of the snapshot, and of the one that it goes on from; from 0: it is whole */
	/* Names, where it was sent. */
	char partition[LCPFS_NAME_MAX + 1], snapshot[LCPFS_NAME_MAX + 1], from[LCPFS_NAME_MAX + 1];
	uint64_t created_s;    /* since 1970 */
	uint64_t volume_bytes; /* whole blocks */
	uint64_t stream_bytes; /* its length */
	uint64_t data_bytes, hole_bytes; /* of the volume, that it has data for, and that it says are zero now */
	uint64_t skipped_bytes;          /* receiving: of stream_bytes, what an earlier one had brought */
};

struct lcpfs_send_options {
	/*
	 * An older snapshot of the partition, or of a clone of it, which the receiver has: SNAP, or NAME@SNAP; or
	 * a bookmark of one of the same volume:
	 * #MARK, or NAME#MARK. NULL: none.
	 */
	const char *from;
	bool dry_run;     /* only says how long it is: reads no data, and `write` is not called */
	/* Takes all of it, or returns an error. */
	int (*write)(void *context, const void *data, size_t length, struct lcpfs_failure *failure);
	lcpfs_progress *progress; /* in bytes of the volume; may be NULL */
	void *context;
};

/*
 * A snapshot, NAME@SNAP, as a stream of bytes. Without `from` all of it, else what has changed since. Holes are
 * not sent as zeros. The same each time, so it can be sent again to be gone on with. Works in a pool that is open
 * read-only, and beside clients.
 */
int lcpfs_snapshot_send(struct lcpfs_pool *pool, const char *name, const struct lcpfs_send_options *options,
			struct lcpfs_stream *stream, struct lcpfs_failure *failure);

struct lcpfs_receive_options {
	bool force;  /* what the volume has that the stream does not go on from is given up */
	bool resume; /* goes on with one that was interrupted, and keeps what came, if it is interrupted itself */
	bool abort;  /* gives up one that was interrupted; no stream is read */
	bool dry_run; /* reads and checks the stream, and says whether it would be received; read-only, too */
	/* Fills *length bytes; fewer at the end of the stream only. */
	int (*read)(void *context, void *buffer, size_t *length, struct lcpfs_failure *failure);
	lcpfs_progress *progress; /* as of sending */
	void *context;
};

/*
 * Makes the volume of a partition what was sent, and takes a snapshot of it by the name that it had. A whole
 * stream needs a volume without snapshots and data, one that goes on from a snapshot needs that to be the
 * youngest, and the volume unchanged since. After an error the volume is as before, or, with `resume`, waits for
 * the rest: then nobody can open it (BUSY). So it is after a crash. NOT_FOUND, NOT_EMPTY, EXISTS, TOO_SMALL: it
 * does not fit the partition; CORRUPT, VERSION, INVALID: the stream; STOPPED: it ended early; BUSY: somebody has
 * the volume open.
 */
int lcpfs_snapshot_receive(struct lcpfs_pool *pool, const char *partition,
			   const struct lcpfs_receive_options *options, struct lcpfs_stream *stream,
			   struct lcpfs_failure *failure);

/* ---- what it knows ---- */

/* INTERRUPTED: it has received a part of a snapshot, and waits for the rest, or to be given up. */
enum lcpfs_receiving { LCPFS_RECEIVING_NONE, LCPFS_RECEIVING_NOW, LCPFS_RECEIVING_INTERRUPTED };

struct lcpfs_partition_info {
	uint32_t id;
	char name[LCPFS_NAME_MAX + 1];
	/* Of space in the pool. All sizes and free space add up to the pool. */
	uint64_t size_blocks, min_size_blocks, max_size_blocks;
	/* The same as user data: how much fits into its size for certain, or is there; what was asked for. */
	uint64_t size_data_blocks, min_data_blocks, max_data_blocks;
	uint64_t volume_blocks, volume_bytes; /* the last of its blocks may not be used whole */
	bool thin;                            /* the volume is longer than what max has room for */
	uint32_t when_full_wait_s;
	uint64_t live_blocks; /* data and tables */
	uint64_t data_blocks;
	uint64_t least_size_blocks; /* how small it could be made now */
	uint64_t snapshots, clones; /* how many it has; what they hold is live, too */
	struct lcpfs_snapshot_schedule schedule; /* that are taken by themselves */
	/* Over the engine's windows. */
	double utilization, access_frequency, avg_latency_us, pressure, epsilon, write_amplification;
	/* since the partition was created */
	uint64_t read_ops, write_ops, trim_ops, flush_ops;
	uint64_t read_blocks, written_blocks, trimmed_blocks;
	uint64_t read_us, write_us, flush_us;
	uint64_t device_blocks, copied_blocks, table_blocks, checkpoints, cleaned_metaslabs, errors;
	/* since it was opened: work ahead of the writers, what they wrote until it began, and while it lasted */
	uint64_t background_units, background_late_blocks, background_busy_blocks;
	uint64_t recoveries; /* how often it was opened after a crash: each may have cost what was not flushed */
	bool moving;
	bool faulted;
	size_t memory_bytes;
	enum lcpfs_receiving receiving;
};

/* Fills up to `room`, in order of id; *count is how many there are. */
int lcpfs_pool_list(struct lcpfs_pool *pool, struct lcpfs_partition_info *list, size_t room, size_t *count);
int lcpfs_partition_get_info(struct lcpfs_pool *pool, const char *name, struct lcpfs_partition_info *info,
			     struct lcpfs_failure *failure);

/*
 * What its users asked for since it was opened. What the server is asked for in one piece may be several
 * operations here: it passes on what is longer than 256 KiB in pieces.
 */
enum lcpfs_operation { LCPFS_READ, LCPFS_WRITE, LCPFS_TRIM, LCPFS_FLUSH };
#define LCPFS_OPERATIONS 4u
#define LCPFS_LATENCY_BUCKETS 208u

struct lcpfs_operation_stats {
	uint64_t ops, bytes; /* done */
	uint64_t us;         /* that these took, all together */
	uint64_t errors;     /* those that failed, */
	uint64_t no_space;   /* and how many of them for want of space */
	uint64_t latency[LCPFS_LATENCY_BUCKETS]; /* how many of `ops` took how long */
};

struct lcpfs_iostat {
	uint64_t since_s; /* since 1970: when counting began */
	uint64_t since_us, now_us; /* the same, and when this was read, by a clock that never jumps */
	struct lcpfs_operation_stats operation[LCPFS_OPERATIONS];
};

int lcpfs_partition_get_iostat(struct lcpfs_pool *pool, const char *name, struct lcpfs_iostat *iostat,
			       struct lcpfs_failure *failure);
/* The least latency in µs that is counted in a bucket. It ends where the next begins; the last one never does. */
uint64_t lcpfs_latency_bucket_us(unsigned bucket);

enum lcpfs_health { LCPFS_HEALTH_ONLINE, LCPFS_HEALTH_DEGRADED, LCPFS_HEALTH_FAULTED };

struct lcpfs_pool_info {
	uint64_t guid, txg;
	uint64_t size_blocks; /* metaslabs only */
	uint64_t free_blocks; /* owned by nobody */
	/* What all volumes would take if they were full; and how much of that is more than the pool has, or 0. */
	uint64_t promised_blocks, overcommitted_blocks;
	uint64_t metaslab_blocks, metaslabs;
	uint64_t created_s;
	uint32_t partitions, partitions_max;
	enum lcpfs_health health;
	char health_text[400];
	bool host_is_full; /* the file system under the pool file: new data is refused */
	uint64_t last_scrub_s; /* when it ended; 0 = there was none */
	uint64_t last_scrub_damaged, last_scrub_errors; /* places that it found, and those it could not repair */
	uint64_t read_errors; /* users' reads that failed since then */
	struct lcpfs_pool_settings settings;
	struct lcpfs_engine_statistics engine;
	uint32_t half_received; /* partitions that have received a part of a snapshot (INTERRUPTED) */
};

int lcpfs_pool_get_info(struct lcpfs_pool *pool, struct lcpfs_pool_info *info);

int lcpfs_pool_set_tune(struct lcpfs_pool *pool, enum lcpfs_engine_mode mode, struct lcpfs_failure *failure);
/* INVALID: a percentage above 100. */
int lcpfs_pool_set_settings(struct lcpfs_pool *pool, const struct lcpfs_pool_settings *settings,
			    struct lcpfs_failure *failure);
/* name NULL: the whole pool. */
int lcpfs_pool_explain(struct lcpfs_pool *pool, const char *name, struct lcpfs_engine_decision *decision,
		       struct lcpfs_failure *failure);

/*
 * One line of the pool's history: moves, their outcomes, decisions not to act, by-hand changes. Survives restarts.
 */
enum lcpfs_event_kind {
	LCPFS_EVENT_ADDED = 1, /* a partition */
	LCPFS_EVENT_REMOVED,
	LCPFS_EVENT_RESIZED,       /* by hand */
	LCPFS_EVENT_EMERGENCY,     /* a full writer got a free metaslab */
	LCPFS_EVENT_MOVED,         /* by the engine */
	LCPFS_EVENT_OUTCOME,       /* what came of a move */
	LCPFS_EVENT_DECISION,      /* the engine's answer changed, nothing moved (in mode observe: what would have
				      moved) */
	LCPFS_EVENT_TUNE,          /* mode changed */
	LCPFS_EVENT_DAMAGE,        /* found by scrub or in use */
	LCPFS_EVENT_SCRUB,         /* one ended: what it found */
	LCPFS_EVENT_HOST,          /* the file system under the pool file is full, or has space again */
	LCPFS_EVENT_CHANGED,       /* limits, volume or name of a partition */
	LCPFS_EVENT_GROWN,         /* the pool, by what its file or device had gained */
	LCPFS_EVENT_SNAPSHOT = 20, /* was taken, or several of one partition */
	LCPFS_EVENT_DESTROYED,     /* a snapshot, or several of one partition, or a clone */
	LCPFS_EVENT_ROLLED_BACK,   /* a partition, to a snapshot */
	LCPFS_EVENT_HELD,          /* a snapshot, or several of one partition */
	LCPFS_EVENT_RELEASED,      /* the same */
	LCPFS_EVENT_MISSED,        /* one that was due could not be taken; said once until one can */
	LCPFS_EVENT_RENAMED,       /* a snapshot */
	LCPFS_EVENT_BOOKMARK,      /* one was made */
	LCPFS_EVENT_CLONED = 30,   /* a clone was made of a snapshot */
	LCPFS_EVENT_PROMOTED,      /* a clone and the volume of its partition were exchanged */
};

const char *lcpfs_event_kind_name(enum lcpfs_event_kind kind);

struct lcpfs_event {
	uint64_t number; /* from 1 */
	uint64_t time_s; /* since 1970 */
	enum lcpfs_event_kind kind;
	uint32_t from_id, to_id; /* 0 = free space or not applicable */
	char from_name[LCPFS_NAME_MAX + 1], to_name[LCPFS_NAME_MAX + 1]; /* "" when gone or none */
	uint64_t blocks;
	uint64_t duration_us;
	uint64_t sequence; /* of the engine's decision, where there is one */
	double from_old_blocks, from_new_blocks, to_old_blocks, to_new_blocks;
	double expected_gain, expected_error, epsilon_before, epsilon_after, standard_error, pressure;
	int verdict; /* enum lcpfs_engine_verdict for OUTCOME, else -1 */
	int reason;  /* enum lcpfs_engine_reason where there is one, else -1 */
	/*
	 * OUTCOME: what was learned with it, the thresholds of pressure, cooldown (s), growth step and shrink
	 * step, and the confidence in each (0..1). All 0: not known.
	 */
	double learned[4], learned_confidence[4];
	char text[368];
};

/* The newest `room` events with number > after, oldest of these first. */
int lcpfs_pool_events(struct lcpfs_pool *pool, uint64_t after, struct lcpfs_event *list, size_t room,
		      size_t *count);

/* ---- care ---- */

struct lcpfs_finding {
	bool repaired;
	bool data;
	char partition[LCPFS_NAME_MAX + 1]; /* "" = pool level */
	uint64_t block;   /* on the device, UINT64_MAX if not known */
	uint64_t address; /* in the volume (blocks), UINT64_MAX if not known */
	char text[300];
};

/*
 * The functions are called from within, in the caller's thread. They may ask the pool (lcpfs_pool_list, _get_info,
 * _explain, _events), and must not change it, close it, nor wait for a thread that does.
 */
struct lcpfs_care {
	void (*found)(void *context, const struct lcpfs_finding *finding); /* may be NULL */
	lcpfs_progress *progress; /* may be NULL */
	void *context;
	bool data; /* check only: read user data too (scrub always does) */
	uint64_t checked_blocks, damaged, repaired; /* out */
};

/*
 * Reads and verifies every live block, all partitions; repairs metadata from its second copy. Runs beside clients.
 */
int lcpfs_pool_scrub(struct lcpfs_pool *pool, struct lcpfs_care *care, struct lcpfs_failure *failure);
/* Offline and read-only. 0: it ran (care->damaged says what it found); else it could not check. */
int lcpfs_pool_check(const char *path, struct lcpfs_care *care, struct lcpfs_failure *failure);
/*
 * On-disk structures as text, for developers. what: NULL = overview, "label", "uberblocks", "map", "partition
 * NAME", "block N". The caller frees *text. Works on damaged pools as far as it can.
 */
int lcpfs_pool_dump(const char *path, const char *what, char **text, struct lcpfs_failure *failure);

/* ---- serving ---- */

/* Who serves it: written by the server while it has the pool open, read by others to find its control socket. */
int lcpfs_pool_set_lease(struct lcpfs_pool *pool, const char *control_path, const char *nbd_path);
/* Reads the lease without opening the pool: NOT_FOUND if nobody serves it. `room` bytes each. */
int lcpfs_pool_read_lease(const char *path, char *control_path, char *nbd_path, size_t room, uint64_t *pid,
			  struct lcpfs_failure *failure);

/* Which bytes a pool is: its guid, which a copy of it shares, and where it lies beneath all names, which none
 * does. */
struct lcpfs_identity {
	uint64_t guid;
	uint64_t device, inode, offset; /* a file's device, inode and 0; of a block device its number, 0 and 0 */
};

void lcpfs_pool_get_identity(const struct lcpfs_pool *pool, struct lcpfs_identity *identity);

#pragma GCC visibility pop
#ifdef __cplusplus
}
#endif
#endif
