/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool with several partitions on a simulated disk, each partition beside a model: what poolsim's files share.
 */
#ifndef CRASH_POOLSIM_H
#define CRASH_POOLSIM_H

#include "alloc.h"
#include "model.h"
#include "pool/core.h"
#include "sim.h"
#include "sparse.h"

enum { PARTS = 4, VOLUME_BLOCKS = 280, WRITE_BLOCKS_MAX = 40, READ_BLOCKS = 32 };
enum { SNAPS_MAX = 4, CLONES_SIM_MAX = 2, MARKS_MAX = 3, NAME_ROOM = 32 };

/* Is it there? MAYBE: adding or removing it was under way, or failed in a way that leaves both. */
enum presence { ABSENT, MAYBE, PRESENT };

/* A snapshot, or a bookmark of one. */
struct sim_snap {
	unsigned label, was; /* what it is called; was: what it may be called after a crash, or 0 */
	unsigned stamp;      /* the same of what was sent and of what was received */
	unsigned age;        /* within its partition; a bookmark has its snapshot's */
	uint32_t version[VOLUME_BLOCKS];
	bool listed;  /* the pool says that it is there */
	bool durable; /* a crash leaves it as `listed` says; else it may come and go */
	bool held, hold_is_sure;
	unsigned clone; /* id of the one that it is of; 0: of the volume */
};

struct sim_clone {
	char name[8], was[8];         /* was: what it may be called after a crash, or "" */
	uint64_t blocks, blocks_were; /* how long it is, likewise */
	unsigned origin; /* the snapshot's age */
	unsigned id;     /* never that of another, nor an age */
	struct model model;
	bool listed, durable;
};

/* What is on its way from one partition to another. */
struct sim_stream {
	unsigned users;
	unsigned label, stamp;
	uint32_t version[VOLUME_BLOCKS], base[VOLUME_BLOCKS];
	size_t length;
	uint8_t bytes[];
};

struct sim_part {
	char name[8];
	enum presence presence;
	struct model model;
	struct sim_snap snap[SNAPS_MAX], mark[MARKS_MAX]; /* the oldest first */
	struct sim_clone clone[CLONES_SIM_MAX];
	unsigned snaps, marks, clones;
	const uint32_t *becomes; /* what the volume may be after a crash, besides what was written to it */
	uint32_t target[VOLUME_BLOCKS];
	bool promoting;              /* a crash may leave it and a clone exchanged, or not */
	struct sim_stream *incoming; /* may have been received, in part or wholly */
	bool half;                   /* in part, and it waits for the rest */
	bool giving_up;              /* that */
};

struct pool_run {
	const struct sim_options *options;
	uint64_t seed, random, now_us, op;
	struct simdisk *disk;
	struct alloc_front front;
	struct sparse sparse; /* mode host */
	struct vdev *vdev;    /* the front, or the sparse one */
	struct clock clock;
	struct lcpfs_pool *pool;
	struct sim_part part[PARTS];
	bool after_cut, faulty;
	bool snapshots;        /* among the operations */
	uint32_t next_version; /* of blocks, in all of the pool */
	unsigned names, stamps, ages;
	uint64_t device_bytes; /* that the pool sees of the disk: grows */
	uint64_t size_blocks;  /* that the pool has, at least: it said so */
	bool host; /* the device is sparse, and its host is full at times */
	uint64_t noticed;
	struct lcpfs_failure failure;
};

uint64_t pool_random(struct pool_run *r, uint64_t n);
void pool_run_init(struct pool_run *r, const struct sim_options *options, uint64_t seed); /* created and open */
void pool_run_fork(struct pool_run *to, const struct pool_run *from, const struct simimage *image, uint64_t seed);
void pool_run_done(struct pool_run *r);
void pool_run_use(struct pool_run *r, struct simdisk *disk); /* from now on; the old one is freed */
void pool_faults_end(struct pool_run *r);
void pool_op(struct pool_run *r);
int pool_run_open(struct pool_run *r) MUST_CHECK;
void pool_must_open(struct pool_run *r);
/* Closed, or left by a crash. `data`: that is read, too; else what settles reads it. */
void pool_must_be_clean(struct pool_run *r, bool data);
void pool_verify(struct pool_run *r);        /* as the models have it, and the invariants */
void pool_settle(struct pool_run *r);        /* as a crash may leave it */
int pool_run_close(struct pool_run *r) MUST_CHECK;
bool pool_is_degraded(struct pool_run *r); /* something could not be read, or there was no memory for it */

/* A volume, by its name: of a partition, a snapshot or a clone. */
struct lcpfs_partition *pool_open_volume(struct pool_run *r, const char *name);
/* Each block is as the model, or `version` allows it, of which one is NULL. */
void pool_verify_volume(struct pool_run *r, const char *name, const struct model *model, const uint32_t *version);
bool pool_read_volume(struct pool_run *r, const char *name, uint32_t *seen); /* what a crash left */
int64_t pool_read_one(struct pool_run *r, const char *name, uint32_t block); /* -1: not readable */
void pool_change_volume(struct pool_run *r, const char *name, struct model *model, bool trim);
bool pool_worked(struct pool_run *r, int error); /* else there was no room, or it may fail */
/* Snapshots, clones, bookmarks and streams: pool_snaps.c. */
void snaps_op(struct pool_run *r, struct sim_part *p);
void snaps_finish(struct pool_run *r,
		  struct sim_part *p); /* a receiving that was interrupted: gone on with, or given up */
bool snaps_any_held(const struct sim_part *p);
void snaps_flushed(struct sim_part *p); /* all that was done to it is durable */
void snaps_copy(struct sim_part *to, const struct sim_part *from);
void snaps_done(struct sim_part *p); /* it has none any more */
void snaps_verify(struct pool_run *r, struct sim_part *p);
void snaps_find_roles(struct pool_run *r, struct sim_part *p); /* after a crash: which name is the partition's? */
void snaps_settle(struct pool_run *r, struct sim_part *p); /* all of a partition that is there, its volume, too */

void pool_errors_run(const struct sim_options *options, uint64_t seed);
void pool_memory_run(const struct sim_options *options, uint64_t seed);

/* What a power cut left: opened, compared, worked with, closed. */
void pool_look_at(const struct pool_run *from, const struct simimage *image, uint64_t seed, unsigned ops);

#endif
