/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A simulated disk, for tests: in memory, deterministic, with a volatile write cache, power cuts and faults.
 *
 * Writes and discards go into the cache, in order, and reads see them at once. A flush makes all of them durable.
 * What a power cut leaves of the cache is up to the harness (a "fate"): the disk may have persisted any of it, in
 * any order, torn at sectors, so each sector may hold any version written to it since the last flush, or the old
 * one. What was flushed stays.
 *
 * Operations are counted from 0. A "change" is a write, a flush or a discard (a batch is as many changes as it has
 * writes); power cuts are at changes, since between them nothing differs.
 *
 * The vdev's functions may be called from several threads; which operation is the n-th is then up to the
 * scheduler. All others are for one thread, while no operation runs, or from the change hook.
 */
#ifndef DISK_SIMDISK_H
#define DISK_SIMDISK_H

#include <stdbool.h>
#include <stdint.h>

#include "tests/disk/simimage.h"
#include "vdev/vdev.h"

struct simdisk;

/* What a discarded range reads as. All are allowed by the vdev's contract. */
enum simdisk_discard {
	SIMDISK_DISCARD_ZEROS,
	SIMDISK_DISCARD_KEEPS,   /* what was there before */
	SIMDISK_DISCARD_GARBAGE, /* the same garbage each time */
};

/* Starts with a copy of the image, all of it durable. */
struct simdisk *simdisk_new(const struct simimage *image, enum simdisk_discard discard);
void simdisk_free(struct simdisk *disk); /* NULL is allowed */

/* Owned by the disk. vdev_close keeps the disk and its cache, as closing a file does; it may be used again. */
struct vdev *simdisk_vdev(struct simdisk *disk);
/*
 * A write of what `data` has from `data_start` on. Costs little where that is at the same place in a chunk as
 * `offset` is.
 */
int simdisk_write_image(struct simdisk *disk, uint64_t offset, const struct simimage *data, uint64_t data_start,
			uint64_t length) MUST_CHECK;

/*
 * For a device whose flushes take time: how much was ever cached, to be noted when a flush begins; and that the
 * next flush makes only what was cached before that durable.
 */
uint64_t simdisk_mark(const struct simdisk *disk);
void simdisk_limit_flush(struct simdisk *disk, uint64_t mark);

struct simdisk_counts {
	uint64_t reads, writes, flushes, discards; /* operations begun, those that failed included */
	uint64_t changes;                          /* writes + flushes + discards */
	uint64_t read_bytes, written_bytes, discarded_bytes;
};
const struct simdisk_counts *simdisk_counts(const struct simdisk *disk);

/* --- power cuts --- */

/*
 * Change number `change` and every operation after it fail with LCPFS_E_STOPPED and do nothing. UINT64_MAX: never.
 */
void simdisk_stop_at(struct simdisk *disk, uint64_t change);
void simdisk_stop(struct simdisk *disk); /* now */
bool simdisk_is_stopped(const struct simdisk *disk);

/*
 * Called before each change with its number, in the thread that makes it. From there, simdisk_image tells what a
 * cut at this change would leave, so one run of a workload visits all of its cuts.
 */
typedef void (*simdisk_hook)(void *context, struct simdisk *disk, uint64_t change);
void simdisk_on_change(struct simdisk *disk, simdisk_hook hook, void *context); /* NULL: none */

/* An operation in the cache, oldest first. */
struct simdisk_cached {
	uint64_t change; /* its number */
	uint64_t offset;
	uint64_t length;
	bool is_discard;
};
unsigned simdisk_cached_count(const struct simdisk *disk);
struct simdisk_cached simdisk_cached(const struct simdisk *disk, unsigned index);

enum simdisk_fate_kind {
	SIMDISK_NONE,    /* nothing in the cache was persisted */
	SIMDISK_ALL,     /* everything was */
	SIMDISK_MASK,    /* those were whose bit in `mask` is set; of those from the 64th on, none */
	SIMDISK_SCATTER, /* by `seed`: some whole, some not at all, some in part, each sector for itself */
};

struct simdisk_fate {
	enum simdisk_fate_kind kind;
	uint64_t mask;
	uint64_t seed;
	/*
	 * MASK: of cached operation `torn_index`, whatever its bit, only the sectors set in `torn_mask` (the first
	 * 64).
	 */
	bool has_torn;
	unsigned torn_index;
	uint64_t torn_mask;
};

/* What the device holds after a power cut now. The caller frees it. Changes nothing; may be called again. */
struct simimage *simdisk_image(const struct simdisk *disk, const struct simdisk_fate *fate);

/* What reads see now, cache included. Owned by the disk, and good until its next change. */
const struct simimage *simdisk_content(const struct simdisk *disk);

/* --- faults --- */

enum simdisk_kind { SIMDISK_READ, SIMDISK_WRITE, SIMDISK_FLUSH, SIMDISK_DISCARD, SIMDISK_CHANGE, SIMDISK_ANY };

enum simdisk_effect {
	/*
	 * The operation fails with `error`. Of a write, the first `done_bytes` (whole sectors) reach the cache all
	 * the same (a short transfer). A flush drops cached operations, as Linux does after a failed fsync: all if
	 * drop_seed is 0, else some; reads then see what is left, later flushes succeed without them.
	 */
	SIMDISK_FAILS,
	SIMDISK_IS_LOST,       /* acknowledged and not done; a flush, too */
	SIMDISK_IS_MISDIRECTED /* a write that is done at `to_offset` instead */
};

struct simdisk_fault {
	enum simdisk_kind kind;
	uint64_t at;             /* counted from 0 over the operations that match kind and range, from now on */
	bool forever;            /* those after it, too */
	uint64_t offset, length; /* only operations that touch this range (not flushes); length 0: all */
	enum simdisk_effect effect;
	enum lcpfs_error error;
	uint64_t done_bytes;
	uint64_t drop_seed;
	uint64_t to_offset;
};

/* Where several match an operation, the one added first strikes. */
void simdisk_add_fault(struct simdisk *disk, const struct simdisk_fault *fault);
void simdisk_clear_faults(struct simdisk *disk);
uint64_t simdisk_fault_hits(const struct simdisk *disk); /* operations that a fault met, since the disk was made */

/* Rot: at once, in what is durable and in what reads see. */
void simdisk_damage(struct simdisk *disk, const struct simimage_damage *damage);

#endif
