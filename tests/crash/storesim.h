/* SPDX-License-Identifier: Apache-2.0 */
/* A store on a simulated disk beside a model: what the modes of storesim share. */
#ifndef CRASH_STORESIM_H
#define CRASH_STORESIM_H

#include "alloc.h"
#include "model.h"
#include "sim.h"
#include "store/state.h"

enum {
	METASLAB_BLOCKS = 256,
	BASE = 16,
	RANGE_MAX = 48,
	METASLABS_TOTAL_MAX = 64,
	READ_BLOCKS = 32,
	SNAPS_MAX = 5,
	CLONES_SIM_MAX = 3,
	OWN_MAX = 3,
	MARKS_MAX = 4
};

/* A snapshot as the model has it. */
struct snap {
	unsigned name;       /* in the model, always the same */
	unsigned label, was; /* what it is called; was: what it may be called after a crash, or 0 */
	uint32_t *version;   /* what it holds, by block */
	bool listed;       /* the store says that it is there */
	bool durable;      /* a crash leaves it as `listed` says; else it may come and go */
};

/* A clone as the model has it. */
struct clone {
	unsigned name, snap; /* snap: what it is a clone of */
	struct model model;
	bool listed, durable; /* as of a snapshot */
	struct snap own[OWN_MAX]; /* its snapshots, oldest first */
	unsigned owns;
	const uint32_t *rolling; /* as of the volume, below */
	uint32_t rolling_from;
};

/* A bookmark as the model has it. */
struct mark {
	unsigned name, snap;  /* snap: what it was made of, in the model; younger ones have higher ones */
	unsigned clone;       /* name of the one that it is of; 0: it is of the volume */
	unsigned label;       /* what that was called then */
	uint32_t *version;    /* what it held, by block */
	bool listed, durable; /* as of a snapshot */
};

struct run {
	const struct sim_options *options;
	uint64_t seed, random;
	struct simdisk *disk;
	struct alloc_front front; /* between the store and the disk */
	struct store *store;
	struct store_config config;
	struct clock clock;
	struct model model;
	uint32_t stride; /* of its blocks in the volume; above 1 each has a tree page of its own */
	uint32_t metaslab[METASLABS_TOTAL_MAX]; /* owned by the store */
	uint32_t owned;
	uint32_t spare[METASLABS_TOTAL_MAX]; /* not owned by it */
	uint32_t spares;
	uint32_t total;
	uint64_t now_us;
	uint64_t op;
	bool after_cut; /* continues from what a power cut left */
	bool turning;   /* the old root leads to what is gone */
	bool faulty;    /* operations may fail with any error of the device */
	struct lcpfs_failure failure; /* of the last read that failed */
	uint64_t noticed; /* operations that failed */
	struct snap snap[SNAPS_MAX]; /* oldest first */
	unsigned snaps, snap_names;
	struct clone clone[CLONES_SIM_MAX];
	unsigned clones, clone_names;
	uint32_t *promoting[2]; /* the volume, and this clone, before they are exchanged; NULL: they are not */
	unsigned promoted;
	unsigned exchanging; /* name of the clone whose line and the volume's a crash may exchange, or not; 0 */
	struct mark mark[MARKS_MAX];
	unsigned marks, mark_names;
	const uint32_t *rolling; /* the volume is about to become this, */
	uint32_t rolling_from;   /* after so many changes of the journal */
};

uint64_t run_random(struct run *r, uint64_t n); /* below n */
uint64_t run_offset(const struct run *r, uint32_t block); /* where it lies in the volume, in bytes */
/* A new, empty store, open. Both 0: by the seed. */
void run_init(struct run *r, const struct sim_options *options, uint64_t seed, uint32_t metaslabs,
	      uint32_t volume_blocks);
/* The same run on another disk; `to` must not be moved in memory afterwards. */
void run_fork(struct run *to, const struct run *from, const struct simimage *image, uint64_t seed);
void run_done(struct run *r); /* abandons the store */
void run_mend(struct run *r); /* neither operations nor allocations fail any more */

void run_op(struct run *r);
void run_turn_over(struct run *r); /* metaslabs are filled, cleaned, given away, and come back */
int run_open(struct run *r, struct lcpfs_failure *failure) MUST_CHECK;
void run_must_open(struct run *r);
void run_reopen(struct run *r);        /* closed and opened anew */
void run_must_be_clean(struct run *r); /* check, opened read-only beside nothing */
/* How much check finds, or a negative error if it does not open. */
int64_t run_check(struct run *r, bool print);
/* -1: the read failed */
int64_t run_read(struct run *r, uint32_t block);
void run_verify(struct run *r); /* everything as the model has it; a faulted store's reads may fail */
void run_settle(struct run *r); /* everything as a crash may leave it */

/* Of most of the seeds: snapshots are taken, destroyed, rolled back to, and compared. */
bool snaps_used(const struct run *r);
void snaps_op(struct run *r);
void snaps_take(struct run *r);
void snaps_give_up(struct run *r); /* one is destroyed, or rolled back to */
void snaps_copy(struct run *to, const struct run *from);
void snaps_done(struct run *r);
void snaps_flushed(struct run *r);
const struct snap *snaps_any(struct run *r); /* one that is there; NULL: there is none */
/* Is what differs between the snapshot and this volume, which holds these versions, told, and nothing else? */
void snaps_compare(struct run *r, const struct snap *from, uint32_t number, const uint32_t *version);
/* Of any volume: what it is called; its number, or 0; does it hold what it must? */
void snaps_name(const struct snap *n, char name[16]);
uint32_t snaps_number(struct run *r, const struct snap *n);
uint32_t snaps_volume(struct run *r, const struct snap *n); /* that it is of; 0: it is not there */
void snaps_verify_one(struct run *r, const struct snap *n);
struct snap snaps_new(struct run *r, const struct model *model);

/* The same of clones, of half of these seeds. */
bool clones_used(const struct run *r);
void clones_op(struct run *r);
/*
 * After a crash. Where they were about to be exchanged: is the volume what the clone was? Then the models are,
 * too, and whose snapshots are whose is found.
 */
bool clones_were_exchanged(struct run *r, const uint32_t *seen);
bool clones_change(struct run *r); /* one is written to; false: there is none */
void clones_give_up(struct run *r);
bool clones_have(const struct run *r, unsigned snap); /* are there some of it? */
void clones_copy(struct run *to, const struct run *from);
void clones_done(struct run *r);
void clones_flushed(struct run *r);
void clones_verify(struct run *r);
void clones_settle(struct run *r);

/* And of bookmarks, of some of them. */
bool marks_used(const struct run *r);
void marks_op(struct run *r);
void marks_copy(struct run *to, const struct run *from);
void marks_done(struct run *r);
void marks_flushed(struct run *r);
void marks_verify(struct run *r);
void marks_settle(struct run *r);
/* Before the volume (clone 0), or a clone of that name, is rolled back, and after. NULL: the clone is destroyed.
 */
void marks_go_back(struct run *r, unsigned clone, const struct snap *to);
void marks_went_back(struct run *r, unsigned clone, const struct snap *to, bool done);
/* The volume's that are younger than `snap` are the clone's from now on, and the clone's are the volume's. */
void marks_turn(struct run *r, unsigned clone, unsigned snap);
/* 1: there are some of these, and they were; 0: and they were not; -1: there are none. */
int marks_were_turned(struct run *r, const struct clone *c);
uint32_t clones_number(struct run *r, unsigned name); /* the store's, of the clone of this name; or 0 */

void run_flushed(struct run *r);        /* all that was done is durable */
bool run_may_fail(const struct run *r); /* reads of what is there */
bool run_worked(struct run *r, int error); /* else there was no room, or it may fail */
void snaps_verify(struct run *r);
/* After a crash, or what may have done anything: which are there, and do they hold what they must? */
void snaps_settle(struct run *r);

/* The modes. */
void cuts_run(const struct sim_options *options, uint64_t seed);
void subsets_run(const struct sim_options *options, uint64_t seed);
void errors_run(const struct sim_options *options, uint64_t seed);
void memory_run(const struct sim_options *options, uint64_t seed);
void rot_run(const struct sim_options *options, uint64_t seed);
void rotcuts_run(const struct sim_options *options, uint64_t seed);
void full_run(const struct sim_options *options, uint64_t seed);

#endif
