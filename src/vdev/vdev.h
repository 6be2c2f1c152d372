/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vdev: the bytes of one backing device behind a small table of functions.
 *
 * Guarantees to the layers above: operations of one vdev_submit call are unordered among each other and all done
 * when it returns. A write is durable only after a later vdev_flush that returned 0. A discarded range reads back
 * as anything until it is written again. All functions may be called from several threads at once. Offsets and
 * lengths are multiples of VDEV_SECTOR; buffers need no alignment.
 *
 * A vdev that has `reserve` is sparse: its bytes may have no place behind them yet, and writing there may fail
 * with DEVICE_FULL. What was reserved, and not discarded since, can be written.
 *
 * The vdev does not retry, cache, checksum or interpret.
 */
#ifndef VDEV_VDEV_H
#define VDEV_VDEV_H

#include <stdatomic.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>
#include <sys/uio.h>

#include "base/error.h"

enum { VDEV_IOV_MAX = 512, VDEV_SECTOR = 512, VDEV_DIRECT_ALIGN = 4096 };

enum vdev_op { VDEV_READ, VDEV_WRITE };

struct vdev_io {
	enum vdev_op op;
	int result; /* out: 0 or a negative lcpfs error; a short transfer is an error */
	uint64_t offset; /* bytes */
	void *buffer;    /* not changed by a write */
	size_t length;   /* bytes */
	bool no_wait;    /* all of a submit are reads: what the system has not cached may fail with AGAIN */
};

struct vdev;
struct fetches;

struct vdev_ops {
	void (*submit)(struct vdev *vdev, struct vdev_io *ios, unsigned count);
	int (*flush)(struct vdev *vdev);
	int (*discard)(struct vdev *vdev, uint64_t offset, uint64_t length); /* advisory: failing is harmless */
	void (*close)(struct vdev *vdev);
	/*
	 * One operation, past every cache that this machine could keep of it, so that others who share the bytes
	 * see it, and it sees theirs. Whole blocks of 4 KiB only. NULL: submit does.
	 */
	void (*direct)(struct vdev *vdev, struct vdev_io *io);
	/*
	 * NULL: the vdev is not sparse. Else as vdev_reserve; without `may_take` it only finds out whether the
	 * range has its place. Keeps vdev->is_full.
	 */
	int (*reserve)(struct vdev *vdev, uint64_t offset, uint64_t length, bool may_take);
	/* One write from several buffers. NULL: it is done from a copy. */
	int (*writev)(struct vdev *vdev, uint64_t offset, const struct iovec *iov, unsigned count);
	/* The range reads as zeros from now on. NULL, or an error: they are written. */
	int (*zero)(struct vdev *vdev, uint64_t offset, uint64_t length);
	/* As vdev_scattered. NULL: nothing is read ahead. */
	void (*scattered)(struct vdev *vdev, bool is_scattered);
	/* As vdev_hurry. NULL: it makes no difference. */
	void (*hurry)(struct vdev *vdev);
	/* As vdev_prepare. NULL: there is nothing to be gained. */
	void (*prepare)(struct vdev *vdev, uint64_t offset, uint64_t length);
	/* As vdev_fetches. NULL: there are none. */
	struct fetches *(*fetches)(struct vdev *vdev);
};

/*
 * Where the bytes lie, beneath all names, loop devices and partitions of disks that lead to them. All zero: where
 * no other process gets at them.
 */
struct vdev_place {
	uint64_t device, inode, offset; /* of a regular file; of a block device its number and inode 0 */
	/* No other machine gets at them, and on this one our lock keeps out whoever opens the same by way of
	 * lcpfs. */
	bool is_ours_alone;
};

struct vdev {
	const struct vdev_ops *ops;
	_Atomic uint64_t size_bytes; /* never falls while it is in use; rises when its owner has looked anew */
	const char *name; /* for messages; owned by the vdev */
	struct vdev_place place;
	/*
	 * How many flushes failed. A system reports a lost write to one caller of flush only: all others find out
	 * here.
	 */
	atomic_uint flush_failures;
	atomic_bool is_full;  /* sparse: when a place was last asked for there was none */
	atomic_bool was_full; /* and this has happened since it was opened */
};

/* The host was asked for a place: had it one? */
static inline void vdev_note_host(struct vdev *vdev, bool full)
{
	atomic_store(&vdev->is_full, full);
	if (full)
		atomic_store(&vdev->was_full, true);
}

/* Runs all of them; returns 0, or the error of the first (by position) that failed. Each io's result is set. */
int vdev_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count) MUST_CHECK;
int vdev_read(struct vdev *vdev, uint64_t offset, void *buffer, size_t length) MUST_CHECK;
int vdev_write(struct vdev *vdev, uint64_t offset, const void *buffer, size_t length) MUST_CHECK;
/* One write, from several buffers behind each other; at most VDEV_IOV_MAX of them. */
int vdev_writev(struct vdev *vdev, uint64_t offset, const struct iovec *iov, unsigned count) MUST_CHECK;
int vdev_flush(struct vdev *vdev) MUST_CHECK;
/* As vdev_read and vdev_write, past the caches of this machine; whole blocks of 4 KiB, `buffer` aligned to that.
 */
int vdev_read_direct(struct vdev *vdev, uint64_t offset, void *buffer, size_t length) MUST_CHECK;
int vdev_write_direct(struct vdev *vdev, uint64_t offset, const void *buffer, size_t length) MUST_CHECK;
int vdev_discard(struct vdev *vdev, uint64_t offset, uint64_t length);
/* The range reads as zeros once it is flushed; quick where the system can do it without writing. */
int vdev_zero(struct vdev *vdev, uint64_t offset, uint64_t length) MUST_CHECK;
static inline bool vdev_is_sparse(const struct vdev *vdev)
{
	return vdev->ops->reserve != NULL;
}
/*
 * 0: the range can be written whatever happens; what it holds stays. DEVICE_FULL: there is no place for all of
 * it.
 */
int vdev_reserve(struct vdev *vdev, uint64_t offset, uint64_t length) MUST_CHECK;
/*
 * From now on blocks are read here and there, and nothing is gained by reading ahead of them: the system may read
 * megabytes for each. Or no more so. A hint.
 */
void vdev_scattered(struct vdev *vdev, bool is_scattered);
/*
 * A client waits for a flush, and may soon do so again. What is written meanwhile should not be found waiting in a
 * cache by it, whoever writes it. A hint, to be given each time.
 */
void vdev_hurry(struct vdev *vdev);
/*
 * The range was reserved and holds nothing. Where a file system has yet to note that it was ever written, each
 * flush of something new there waits for that note as well: then it is written now, with zeros. Advisory.
 */
void vdev_prepare(struct vdev *vdev, uint64_t offset, uint64_t length);
/*
 * For the thread that calls this: reads that bring what they read into the system's cache (fetch.h), where a
 * no_wait read finds it then. To be freed before the vdev is closed. NULL: it has none.
 */
struct fetches *vdev_fetches(struct vdev *vdev);
void vdev_close(struct vdev *vdev); /* NULL is allowed */

#endif
