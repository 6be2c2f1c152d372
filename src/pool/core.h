/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a pool is in memory, and what the files of this folder offer each other.
 *
 * Locks, outermost first: pool.round, a store's `work` (a scrub and growing hold it when they take the next one),
 * pool.lock, a store's other one, the engine's. The pool's lock covers everything
 * below that is not marked otherwise. It is held while a pool transaction commits (two device flushes), never
 * while a store cleans or serves a client. A store is called with the lock held only to ask it for numbers, and by
 * adding and removing a partition, while nobody else knows of its store.
 *
 * A part (one partition) is kept alive by `users`: open handles, moves, scrubs. Removing waits until there are
 * none, and what wants to begin then finds `removing` set.
 */
#ifndef POOL_CORE_H
#define POOL_CORE_H

#include <pthread.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include <lcpfs/pool.h>

#include "base/clock.h"
#include "base/error.h"
#include "pool/claimant.h"
#include "pool/iostat.h"
#include "pool/layout.h"
#include "pool/pool.h"
#include "pool/report.h"
#include "store/store.h"
#include "vdev/file.h"

/* For what is tried and not relied on. */
static inline void may_fail(int error)
{
	(void)error;
}

/* What a client has open. */
struct lcpfs_partition {
	struct part *part;
	struct store *store;
	uint64_t bytes;
	uint32_t snapshot, clone;     /* its number; both 0: this is the partition's own volume */
	struct lcpfs_partition *next; /* among those of snapshots and clones */
};

struct part {
	struct lcpfs_pool *pool; /* fixed, as are the next three lines */
	uint32_t slot, id;
	char name[LCPFS_NAME_MAX +
		  1]; /* this and the next six change only with the lock and no user but who changes them */
	_Atomic uint64_t min_blocks; /* of space: whole metaslabs */
	uint64_t max_blocks, volume_blocks, created_s;
	uint64_t min_data_blocks, max_data_blocks; /* of user data, as they were asked for */
	uint64_t volume_bytes;
	_Atomic uint32_t when_full_wait_s;
	struct lcpfs_snapshot_schedule schedule; /* changes with the lock */
	bool missed; /* the last snapshot that was due could not be taken, and the history shows it */

	struct store *store; /* NULL: it could not be opened, `fault` says why; fixed from opening to removal */
	bool is_new;         /* its store was formatted just now */
	char fault[300];
	size_t cache_bytes;
	uint32_t metaslabs; /* that the map says are its own */
	uint32_t releasing; /* of these, being cleaned out at this moment */
	uint32_t incoming;  /* on their way to it */
	int64_t unreported; /* metaslabs got by a move of the engine that it has not been told of yet */
	uint32_t clients;   /* open handles */
	uint32_t readers;   /* of these, on snapshots and clones: */
	struct lcpfs_partition *first_reader;
	bool receiving;            /* a stream is received into it at this moment */
	bool snapshot_work;        /* snapshots or clones of it are made or destroyed, or it is rolled back */
	uint32_t doomed;           /* the snapshot or clone that is being destroyed, by its number; 0: none */
	_Atomic uint32_t changing; /* writes and trims under way, */
	atomic_bool gated;         /* which have to wait now: see gate.c */
	uint32_t users;     /* open handles, moves, scrubs */
	uint32_t moves;     /* under way */
	uint64_t emergencies;
	uint64_t tried;    /* the last emergency that tried it as a giver */
	uint32_t granted;  /* metaslabs got in emergencies that the history does not show yet, */
	uint32_t granted_by; /* all of them from this one, or from free space */
	uint64_t noted_us; /* when it last showed some */
	uint64_t full_mark, full_since_us; /* what there was when a writer found no room, and since when: wait.c */
	bool removing, resizing;
	bool closed_to_clients; /* while its name or its volume changes */
	bool wants_space; /* a writer of it is waiting for an emergency's metaslab */
	pthread_t service;
	bool has_service;

	uint64_t counted_since_s, counted_since_us; /* fixed: what follows counts from here on */
	struct iostat iostat;
	struct {
		uint64_t operations, latency_us, written, device; /* counters at the last one */
		uint32_t metaslabs;
		bool begun;
	} sampled;
};

struct event_list {
	struct fmt_history_entry *list;
	uint32_t count, room;
};

struct lcpfs_pool {
	struct vdev *device; /* the caller's, or our own to close */
	struct vdev *vdev;   /* the guard over it: everyone writes through this one */
	bool owns_device;
	struct clock clock;
	struct lcpfs_open_options options;
	struct layout layout;

	pthread_mutex_t lock;
	pthread_cond_t changed; /* something that somebody waits for under the lock */

	uint8_t *pages;   /* the current contents of all pool pages, one behind the other */
	bool *lost;       /* pages that are damaged in both copies */
	uint8_t *scratch; /* where a transaction writes that has run out of memory */
	struct fmt_uberblock uberblock;
	bool growing;   /* one at a time */
	bool suspended; /* an uberblock may or may not have reached the device: no more transactions */
	bool was_open;  /* it had not been closed cleanly */

	struct part **parts; /* one per partition slot, NULL: free */
	uint32_t free_metaslabs;
	uint8_t *blocked; /* metaslabs that are free but not to be given out yet: discards are pending */
	uint32_t blocked_count;
	uint32_t discarding_count;             /* metaslabs that are being discarded at this moment */
	char naming[LCPFS_NAME_MAX + 1];       /* what a clone is about to be called; : none */
	uint64_t changes;    /* counts what may have given a writer that found nothing something to find */
	uint64_t emergency_rounds;

	struct lcpfs_engine *engine; /* locks itself */
	struct event_list pending;   /* events for the next transaction */
	struct {                     /* samples that are not written yet */
		struct fmt_sample *list;
		uint32_t count, room;
		uint64_t taken_us;
	} samples;
	struct {
		uint64_t measured_us, events_us, saved_us, decision_us;
		double work, pace; /* blocks written and read when it was measured; of these per us, before that */
		uint64_t decision_sequence;
		uint64_t reason_us[LCPFS_ENGINE_RETREAT + 1]; /* when a decision was last noted for it */
		uint64_t outcome_sequence, outcome_moved_us; /* the newest one in the history */
	} keeper;

	uint64_t schedule_s; /* when it was last looked whether snapshots are due; 0: a schedule has changed */

	size_t cache_left; /* for partitions to come */
	struct ghosts *ghosts; /* blocks that were fetched of late; NULL: no memory, and all go into the cache */
	uint64_t mark_bytes; /* of data received, after which the mark moves on; of a volume emptied at a time */
	pthread_t thread, schedule_thread;
	bool has_thread, has_schedule_thread, stopping;
	pthread_mutex_t round; /* one keeper round at a time; outside of `lock` */

	uint64_t damaged, repaired; /* found while it was opened or scrubbed */
	char damage_text[160];      /* the first of them */
	uint64_t read_errors; /* users' reads that failed since the last scrub */
	unsigned read_events; /* of these, told in the history since it was opened */
	bool lease_set;
	struct claimant *claimant; /* NULL: on a vdev that nobody else reaches, or read-only */

	struct { /* host.c: of the file system under a sparse pool file */
		atomic_bool is_full; /* as people were told */
		atomic_bool unnoted; /* not in the history yet */
	} host;
};

/* -- txg.c: pool pages and transactions -- */

struct txg_page {
	uint32_t page;
	uint8_t *block;
};

struct txg {
	struct lcpfs_pool *pool;
	struct txg_page *list;
	struct vdev_io *ios;
	uint32_t count, room;
	uint32_t samples; /* that it takes along */
	struct fmt_uberblock uberblock; /* the new one; txg, time and slot map are filled in by txg_commit */
	int error;
};

static inline void *txg_current(const struct lcpfs_pool *pool, uint32_t page)
{
	return pool->pages + (size_t)page * BLOCK_SIZE;
}

/* Which of the page's two slots is current. */
static inline unsigned txg_slot(const struct lcpfs_pool *pool, uint32_t page)
{
	return pool->uberblock.slot_map[page / 8] >> page % 8 & 1;
}

/* All of these with the lock. A transaction holds nothing but memory: abort frees it, commit does so too. */
void txg_begin(struct lcpfs_pool *pool, struct txg *txg);
/* A copy of the page to change; never NULL (when memory ran out, commit will refuse). */
void *txg_change(struct txg *txg, uint32_t page);
void txg_abort(struct txg *txg);
/*
 * 0: durable. Else nothing has changed, or, when the uberblock's own write or flush failed, the pool is suspended.
 */
int txg_write(struct txg *txg, struct lcpfs_failure *failure) MUST_CHECK;
/* commit.c: the same, with what is pending of the history; then pool->pages, counts and history show it. */
int txg_commit(struct txg *txg, struct lcpfs_failure *failure) MUST_CHECK;

/* Reads the uberblocks and all pages; damaged pages that the other copy still has are reported and repaired. */
int txg_load(struct lcpfs_pool *pool, struct report *report, struct lcpfs_failure *failure) MUST_CHECK;
/* Both copies of everything again; for scrub. NOMEM: nothing was looked at. */
void txg_verify_page(struct lcpfs_pool *pool, uint32_t page, struct report *report);
int txg_verify_uberblocks(struct lcpfs_pool *pool, struct report *report) MUST_CHECK;
/* Writes the current uberblock anew in place, marked as open or closed. */
int txg_mark_open(struct lcpfs_pool *pool, bool open) MUST_CHECK;
int txg_refuse(const struct lcpfs_pool *pool,
	       struct lcpfs_failure *failure); /* 0, or why nothing can be changed */
/* The same for what only tries: that it is open read-only is no reason. */
int txg_refuse_trying(const struct lcpfs_pool *pool, struct lcpfs_failure *failure);

/* -- map.c: who owns which metaslab -- */

uint32_t map_owner(const struct lcpfs_pool *pool, uint32_t metaslab);
void map_set(struct txg *txg, uint32_t metaslab, uint32_t owner);
/* Up to `count` free metaslabs, lowest first, into list; how many there were. */
uint32_t map_pick_free(const struct lcpfs_pool *pool, uint32_t *list, uint32_t count);
void map_list(const struct part *part, uint32_t *list); /* all of its own: part->metaslabs */
void map_count(struct lcpfs_pool *pool);
/* After a transaction: brings the counts in line with a changed page. */
void map_page_changed(struct lcpfs_pool *pool, uint32_t page, const struct fmt_map *before);
/* Invariants 1 and 2, as far as the map and the partitions show them. */
void map_verify(struct lcpfs_pool *pool, struct report *report);
/* Gives freed metaslabs back to the device, up to `metaslabs` of them. */
void map_discard(struct lcpfs_pool *pool, uint32_t metaslabs);
static inline uint32_t map_available(const struct lcpfs_pool *pool)
{
	return pool->free_metaslabs - pool->blocked_count;
}

/* -- partition.c -- */

struct part *part_find(const struct lcpfs_pool *pool, uint32_t id);
struct part *part_named(const struct lcpfs_pool *pool, const char *name);
bool part_name_is_valid(const char *name);
int part_refuse(const struct part *part, struct lcpfs_failure *failure); /* 0, or why it cannot be worked with */
uint32_t part_readers(const struct part *part, uint32_t number); /* of a snapshot or clone; with the lock */
void part_hold(struct part *part);                                       /* with the lock */
void part_drop(struct part *part);                                       /* with the lock */
void part_let_go(struct part *part);                                     /* the same without it */
/*
 * Without the lock. The next partition by slot, from *slot on, that can be worked with, held; *slot is then the
 * one behind it. NULL: that was the last.
 */
struct part *part_hold_next(struct lcpfs_pool *pool, uint32_t *slot);
uint64_t part_size_blocks(const struct part *part);
/* The least blocks it can be made; with or without the lock. */
uint64_t part_least_blocks(struct part *part);

/* -- load.c -- */

struct part *part_new(struct lcpfs_pool *pool, uint32_t slot, uint32_t id); /* NULL: no memory */
/* Reads all partition pages; a partition that makes no sense is reported and faulted. */
int part_load_all(struct lcpfs_pool *pool, struct report *report) MUST_CHECK;
/* Opens its store; on failure it is faulted, and *failure says why. */
int part_open_store(struct part *part, size_t cache_bytes, struct lcpfs_failure *failure);
void part_start_service(struct part *part);
void part_stop_service(struct part *part);
void part_free(struct part *part);
void part_fill_page(struct txg *txg, const struct part *part);
struct store_config part_store_config(struct part *part);
uint32_t *part_list_metaslabs(const struct part *part); /* part->metaslabs of them, to be freed; NULL: no memory */

/* -- add.c -- */

/* A new partition, or new values for one, in metaslabs and in what was asked for. */
struct part_plan {
	uint64_t min, max, size;
	uint64_t min_data_blocks, max_data_blocks, volume_bytes;
	uint32_t when_full_wait_s;
	struct lcpfs_snapshot_schedule schedule;
	bool may_be_thin;
	uint64_t missing; /* out: free metaslabs that it lacked */
};

int part_check_name(const struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure);
/* Is the volume one that it may have? Thin only where that was asked for. */
int part_check_volume(const struct part_plan *plan, struct lcpfs_failure *failure);
/* Do all minima fit into the pool, with this one in place of `but` (may be NULL)? */
int part_check_min_sum(const struct lcpfs_pool *pool, uint64_t min, const struct part *but,
		       struct lcpfs_failure *failure);

/* -- size.c: user data and the space that it takes -- */

uint64_t size_divide_up(uint64_t bytes, uint64_t unit); /* of any bytes: DIV_UP would overflow */
uint64_t size_for_data(const struct lcpfs_pool *pool, uint64_t data_blocks); /* metaslabs */
uint64_t size_data_in(const struct lcpfs_pool *pool, uint64_t metaslabs);    /* blocks of data, at least */
bool size_is_thin(const struct part *part);
/* What all volumes would take if they were full, in blocks of space. With the lock. */
uint64_t size_promised_blocks(const struct lcpfs_pool *pool);

/* -- move.c -- */

struct move {
	struct part *from, *to; /* NULL: free space; both held by the caller */
	uint32_t wanted, moved; /* metaslabs */
	bool by_engine;         /* reported to it afterwards, so that its own books stay right meanwhile */
	bool hurried;           /* a writer has no room until it has come somewhere */
	uint64_t emergencies;   /* internal: of `from`, when it began */
	lcpfs_progress *progress;
	void *context;
};

/* Without the lock. Stops early where it has to: then an error, and `moved` says how far it came. */
int move_run(struct move *move, struct lcpfs_failure *failure) MUST_CHECK;
/* The least size that can be asked for, of user data as all sizes that people give, in MiB. */
uint64_t move_least_mib(struct part *part);

/* -- resize.c -- */

/*
 * Discards what waits for it, and in mode `on` has the engine call back what partitions other than `but_not` (id,
 * or 0) can spare, until `missing` more metaslabs are free or nobody can give.
 */
void resize_make_room(struct lcpfs_pool *pool, uint64_t missing, uint32_t but_not);
/* Marks it as being resized and holds it, until part_end_resize; with the lock. `tries`: nothing will change. */
int part_begin_resize(struct lcpfs_pool *pool, const char *name, bool tries, struct part **part,
		      struct lcpfs_failure *failure) MUST_CHECK;
/* With the lock: can it get so many metaslabs, as far as that can be told without doing it? */
int part_check_resize(struct part *part, uint64_t size, struct lcpfs_failure *failure) MUST_CHECK;
/* Space is missing. In mode `on` others may give it, and *failure says so; `error` in any case. */
int resize_refuse_unsure(struct lcpfs_pool *pool, int error, struct lcpfs_failure *failure) MUST_CHECK;
void part_end_resize(struct part *part, uint32_t before); /* with the lock; `before`: metaslabs */
/* To so many metaslabs, within its limits; without the lock. */
int part_resize_to(struct part *part, uint64_t size, lcpfs_progress *progress, void *context,
		   struct lcpfs_failure *failure) MUST_CHECK;

/* -- emergency.c -- */

bool emergency_need_space(void *part, uint32_t metaslabs); /* as store_config.need_space has it */
/* With the lock. Writes down what was given since the last time: `all`, or what has waited long enough. */
void emergency_note_due(struct lcpfs_pool *pool, bool all);

/* -- wait.c: --when-full wait -- */

/* A writer of it was refused for want of room. True: it should wait. */
bool wait_begin(struct part *part, struct lcpfs_write_wait *wait);
/* It waits a moment. True: it should try again now. */
bool wait_moment(struct part *part, const struct lcpfs_write_wait *wait);

/* -- snapshot.c -- */

/* Length of its part before the '@'; the whole of it, where there is none. */
size_t snapshot_split(const char *name, const char **snapshot);
/* A volume that is written: the partition's own, or a clone. */
struct volume_name {
	uint32_t number; /* as the store has it */
	char name[LCPFS_NAME_MAX + 1];
};
/* With the lock: of a partition or a clone by so many bytes of its name. NOT_FOUND, or why it is no use. */
int snapshot_find_volume(const struct lcpfs_pool *pool, const char *name, size_t length, struct part **part,
			 struct volume_name *of, struct lcpfs_failure *failure) MUST_CHECK;
void snapshot_name_volume(const struct part *part, uint32_t number, struct volume_name *of);
/* With the lock: the one that `snapshot` names, which a client may open. Held, as long as its handle is among the
 * readers. */
int snapshot_find(const struct part *part, const struct volume_name *of, const char *snapshot,
		  struct store_snapshot *found, struct lcpfs_failure *failure) MUST_CHECK;
/* Some of them by name, for a message: ", a@x, a@y and 3 more". `room` of at least 40. With the lock. */
unsigned snapshot_count(const struct part *part);                                 /* of its clones, too */
int snapshot_refuse_held(const struct part *part, struct lcpfs_failure *failure); /* 0: none is */
void snapshot_print_some(const struct part *part, char *text, size_t room);
/* The same of these. */
void snapshot_print_names(const struct part *part, const struct store_snapshot *list, unsigned count, char *text,
			  size_t room);
/* All of a volume's (0: all of a partition, of its clones too); *list is the caller's to free. NULL: there are
 * none, or there is no memory. */
unsigned snapshot_list_all(const struct part *part, uint32_t volume, struct store_snapshot **list);
/* "NAME@SNAP" by its number; "": there is no such snapshot any more. */
void snapshot_print_name(const struct part *part, uint32_t number, char *text, size_t room);
/* The partition with the next id above `behind`; NULL: that was the last. */
const struct part *snapshot_next_part(const struct lcpfs_pool *pool, uint32_t behind);
/* There is none of that name; or it is held. */
int snapshot_fail_none(const struct volume_name *of, const char *snapshot, struct lcpfs_failure *failure);
int snapshot_fail_held(const struct volume_name *of, const char *snapshot, struct lcpfs_failure *failure);

/* -- gate.c -- */

/*
 * Around each write and trim, without the lock: those of several partitions stand still while a group of snapshots
 * is taken. False: it has to wait.
 */
bool snapshot_try_enter(struct part *part);
void snapshot_enter(struct part *part);
void snapshot_leave(struct part *part);
/* Nobody enters from now on; all who had, have left; they may again. Without the lock. */
void gate_close(struct part *part);
void gate_drain(const struct part *part);
void gate_open(struct part *part);

/* -- bookmark.c -- */

/* The youngest of a volume; with the lock. */
bool snapshot_last_bookmark(const struct part *part, uint32_t volume, struct store_snapshot *last);

/* -- snapchange.c -- */

/* Without those of their partition. */
enum { SNAPSHOT_NAMES = 16 };
struct snapshot_names {
	char list[SNAPSHOT_NAMES][LCPFS_NAME_MAX + 1];
	unsigned count;
};
typedef void snapshot_find_fn(const struct part *part, uint64_t now_s, struct snapshot_names *found);

/*
 * Takes, or destroys, what `find` adds to *found, with the lock and before anybody else can change snapshots of
 * the partition, which the caller holds. AGAIN: somebody is changing some. STOPPED: the pool closes, or it is
 * removed.
 */
int snapshot_create_found(struct part *part, snapshot_find_fn *find, uint64_t now_s, struct snapshot_names *found,
			  struct lcpfs_failure *failure) MUST_CHECK;
int snapshot_destroy_found(struct part *part, snapshot_find_fn *find, uint64_t now_s, struct snapshot_names *found,
			   struct lcpfs_failure *failure) MUST_CHECK;

/* -- schedule.c -- */

/* Takes the snapshots that are due, and destroys those that there are too many of. Without the lock. */
void schedule_look(struct lcpfs_pool *pool);

/* -- clonename.c: with the lock -- */

/* Its partition, which can be worked with. NULL: there is no clone of that name. */
struct part *clone_find(const struct lcpfs_pool *pool, const char *name, struct store_clone *found);
int clone_refuse_name(const struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure);
unsigned clone_count(const struct part *part);
unsigned clone_list_all(const struct part *part, struct store_clone list[STORE_CLONES_MAX]);
bool clone_has_origin(const struct part *part, uint32_t number); /* is one of them of this snapshot? */
void clone_print_name(const struct part *part, uint32_t number, char name[LCPFS_NAME_MAX + 1]);
/* Their names, for a message: all, or those of one snapshot, by its number. `room` of at least 80. */
void clone_print_some(const struct part *part, uint32_t origin, char *text, size_t room);

/* -- promote.c -- */

/* After its store was opened, without the lock: what a crash left of promoting a clone. */
void clone_settle_promotion(struct part *part);
/*
 * With the lock, before a name changes: a promotion whose last transaction failed gets to its end, so that the
 * next opening finds nothing of it.
 */
int clone_end_promotion(struct part *part, struct lcpfs_failure *failure) MUST_CHECK;

/* -- guid.c -- */

uint64_t guid_new(const struct part *part, const char *snapshot); /* for one that is about to be taken */
/* Of one that was taken before there were guids: derived, the same each time. */
uint64_t guid_of(const struct part *part, const struct store_snapshot *snapshot);

/* -- send.c, receive.c -- */

struct stream_about;
struct stream_position;
void stream_describe(const struct stream_about *about, const struct stream_position *at,
		     struct lcpfs_stream *stream);
/* With the lock: 0, or why its volume is not to be opened and its snapshots stay as they are. */
int receive_refuse(const struct part *part, struct lcpfs_failure *failure);
enum lcpfs_receiving receive_state(const struct part *part); /* with the lock */
/*
 * The same before they change. What a crash has left of one that is done goes then: by the next snapshot, or
 * another volume's, it would not look done any more.
 */
int receive_clear(struct part *part, struct lcpfs_failure *failure);

/* -- volume.c -- */

struct part *volume_part(const struct lcpfs_partition *partition);

/* Is it a snapshot's, and which? */
bool volume_snapshot(const struct lcpfs_partition *partition, struct store_snapshot *found);
/* As lcpfs_volume_difference, from a bookmark, whose snapshot had that number. */
int volume_difference_since(struct lcpfs_partition *to, uint32_t number, uint64_t offset,
			    struct lcpfs_difference *difference, struct lcpfs_failure *failure) MUST_CHECK;

/* -- info.c -- */

void info_of_part(struct lcpfs_partition_info *info, struct part *part); /* with the lock */

/* -- books.c -- */

int books_add_part(struct lcpfs_pool *pool, const struct part *part) MUST_CHECK;
/* NOMEM. All there are, by id. One that the engine does not take is one of a damaged pool: it is not moved. */
int books_add_all(struct lcpfs_pool *pool) MUST_CHECK;
/* One that cannot be used neither gives nor gets. */
void books_fix_size(struct lcpfs_pool *pool, const struct part *part);
/* Tells the engine every size that it does not know yet; with the lock. */
void books_tell_sizes(struct lcpfs_pool *pool, enum lcpfs_engine_cause cause);
/* Tells it what all partitions did. `only_if_due`: unless that was less than a round ago. Without the lock. */
void books_measure(struct lcpfs_pool *pool, bool only_if_due);
/* Before it is closed: what was written or read since the last time. Nothing at all leaves the engine as it is. */
void books_measure_last(struct lcpfs_pool *pool);
void books_report(struct lcpfs_pool *pool, const struct lcpfs_engine_decision *d,
		  const struct lcpfs_engine_moved *moved); /* with `round` */

/* -- decision.c -- */

/* With `round`. Carries out a decision to move, reports it and writes it down; how many blocks moved. */
uint64_t decision_carry_out(struct lcpfs_pool *pool, const struct lcpfs_engine_decision *d);
void decision_note(struct lcpfs_pool *pool, const struct lcpfs_engine_decision *d); /* with the lock */
/* With the lock: of those that were judged since; `quietly`: they are only remembered. True: there were some. */
bool decision_note_outcomes(struct lcpfs_pool *pool, bool quietly);

/* -- keeper.c -- */

enum { KEEPER_ROUND_US = 1000000 }; /* between two looks at most: the engine's own rhythm, <lcpfs/engine.h> */

int keeper_start_engine(struct lcpfs_pool *pool) MUST_CHECK;
/* Puts the engine's state into the transaction where it changed. */
void keeper_save(struct txg *txg);
void keeper_start(struct lcpfs_pool *pool);
void keeper_stop(struct lcpfs_pool *pool);
/* Until the next look, at that pace of a pool of so many blocks, where a look takes so long. */
uint64_t keeper_wait_us(uint64_t pool_blocks, double blocks_per_us, uint64_t look_us);

/* -- scrub.c -- */

/* A user's read met damage; counted until the next scrub. Without the lock. */
void scrub_note_read_error(struct part *part, uint64_t offset, int error);
/* -- host.c: a full file system under the pool file -- */

void host_refused(void *pool); /* for the guard */
void host_look(struct lcpfs_pool *pool); /* with the lock: notes what has changed */
bool host_text(struct lcpfs_pool *pool, char *text, size_t room); /* with the lock: is it full? In words */
/* Without the lock. Others give back to the host what they do not need; how many metaslabs. */
uint32_t host_call_back(struct part *part);

/* -- history.c -- */

/* With the lock; numbers and dates it. Kept in memory and written with the next transaction. */
void history_add(struct lcpfs_pool *pool, const struct lcpfs_event *event);
void history_into(struct txg *txg);
void history_written(struct lcpfs_pool *pool, const struct txg *txg);
void history_note(struct lcpfs_pool *pool, enum lcpfs_event_kind kind, uint32_t from, uint32_t to,
		  uint32_t metaslabs, const char *format, ...) PRINTF_LIKE(6, 7);
int history_flush(struct lcpfs_pool *pool); /* commit.c: a transaction of its own if something is pending */
/* The newest `room` of those after number `after`, oldest first; how many. */
size_t history_list(const struct lcpfs_pool *pool, uint64_t after, struct lcpfs_event *list, size_t room);

/* -- sample.c: what partitions did, over weeks -- */

/* Both with the lock. Once a round: a sample of each partition that did something, when one is due. */
void sample_take(struct lcpfs_pool *pool);
/* Before anything else of the transaction changes the engine's pages. */
void sample_into(struct txg *txg);
void sample_written(struct lcpfs_pool *pool, const struct txg *txg);
void sample_verify(struct lcpfs_pool *pool, struct report *report);
/*
 * Sorts by partition and time, and makes coarser what is old, until there are at most `most`; how many there are.
 * Only the ids, times, spans and sums count.
 */
size_t sample_thin(struct pool_sample *list, size_t count, size_t most, uint64_t now_s);

/* -- open.c, create.c, signature.c, lease.c -- */

/* Everything but stores, engine and threads; for opening and checking. */
int pool_new(struct vdev *vdev, const struct clock *clock, const struct lcpfs_open_options *options,
	     struct claimant *claimant, struct report *report, struct lcpfs_pool **pool,
	     struct lcpfs_failure *failure) MUST_CHECK;
void pool_free(struct lcpfs_pool *pool);

/* What lies on the open device or file, for a refusal; 0 if nothing known does. Fills text. */
int signature_find(int fd, char *text, size_t room);

/* vdev_file_open, with all that is known about who has it where it is in use. */
int lease_open_device(const char *path, unsigned flags, uint64_t size_bytes, struct vdev **vdev,
		      struct lcpfs_failure *failure) MUST_CHECK;
int lease_write(struct vdev *vdev, const struct layout *layout, uint64_t pid, const char *control_path,
		const char *nbd_path) MUST_CHECK;
void lease_verify(struct lcpfs_pool *pool, struct report *report);

#endif
