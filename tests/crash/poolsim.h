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

/* Is it there? MAYBE: adding or removing it was under way, or failed in a way that leaves both. */
enum presence { ABSENT, MAYBE, PRESENT };

struct sim_part {
	char name[8];
	enum presence presence;
	struct model model;
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
void pool_errors_run(const struct sim_options *options, uint64_t seed);
void pool_memory_run(const struct sim_options *options, uint64_t seed);

/* What a power cut left: opened, compared, worked with, closed. */
void pool_look_at(const struct pool_run *from, const struct simimage *image, uint64_t seed, unsigned ops);

#endif
