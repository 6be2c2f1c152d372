/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A regular file or a block device, through the page cache; log records past it while clients wait for flushes.
 *
 * Opened once: flock keeps out every second opening, by this process too, O_EXCL keeps away from block devices
 * that are mounted or otherwise claimed, and a lock on the file at the bottom (beneath.h) keeps out who comes by
 * another way.
 *
 * The path is looked up once, and what it leads to is looked at before and after it is opened: in a folder that
 * others may write to it could change at any moment. Descriptors keep clear of 0 to 2, which others print to.
 */
#include "vdev/file.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <pthread.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/resource.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/descriptor.h"
#include "vdev/backing.h"
#include "vdev/beneath.h"
#include "vdev/cached.h"
#include "vdev/fetch.h"
#include "vdev/holder.h"
#include "vdev/uring.h"

struct file {
	struct vdev vdev;
	struct uring_list *rings; /* NULL: plain system calls only */
	char *path;
	int fd;
	int direct_fd; /* the same file, past the page cache; -1: it cannot be had */
	int folder_fd; /* where a new file was made; else -1 */
	struct beneath beneath;
	struct cached cached;
	struct stat status; /* of what is open, when it was opened */
	bool is_block_device, is_read_only, is_peek, is_new, no_wait;
	struct {
		pthread_mutex_t entry; /* of who begins; held while waiting for the other way, taken first */
		pthread_mutex_t lock;  /* of what follows */
		pthread_cond_t ended;
		unsigned under_way[2]; /* writes through the page cache, and past it */
		uint64_t hurried;      /* bytes: past it go those that begin while this is more than 0 */
		uint64_t hurried_until_us; /* after a flush: until then another one begins that, and it lasts */
	} ways;
};

enum {
	/* udev locks a block device for the moment it looks at it; nobody else does so without O_EXCL. */
	LOCK_TRIES_DEVICE = 40,
	LOCK_TRIES_FILE = 3, /* a killed process's last requests hold on to its lock for a moment */
	LOCK_PAUSE_NS = 50 * 1000 * 1000,
	ZEROS_BYTES = 64 << 10,
	ZEROS_AT_ONCE = 64,
	RING_LEAST = 4,             /* reads from the system's cache: fewer cost less as system calls */
	WRITE_OUT_BYTES = 64 << 10, /* a write of so much is on its way to the device at once */
	HURRIED_BYTES = 4 << 20,    /* as long as a client waits for a flush that often, the next will come soon */
	HURRIED_US = 1000 * 1000,   /* and after that it is not waited for: one that comes alone begins nothing */
};

/* -- two ways to write -- */

static void file_hurry(struct vdev *vdev)
{
	struct file *file = (struct file *)vdev;
	uint64_t now_us = clock_us(&clock_system);
	pthread_mutex_lock(&file->ways.lock);
	file->ways.hurried = now_us < file->ways.hurried_until_us ? HURRIED_BYTES : 0;
	file->ways.hurried_until_us = now_us + HURRIED_US;
	pthread_mutex_unlock(&file->ways.lock);
}

/* Direct transfers want their memory and their place aligned. */
static bool can_go_past(const struct file *file, uint64_t offset, const struct iovec *iov, unsigned count)
{
	uint64_t bits = offset;
	for (unsigned i = 0; i < count; i++)
		bits |= (uintptr_t)iov[i].iov_base | iov[i].iov_len;
	return file->direct_fd >= 0 && bits % VDEV_DIRECT_ALIGN == 0;
}

/*
 * Past the page cache, while clients wait for flushes: a flush writes all that the cache has, the neighbours' too.
 * At other times through it: who reads soon what was written finds it there. The kernel keeps the two ways
 * consistent, but not where they meet in one page of the cache, and such a page may be larger than a block. So one
 * way waits until the other is done. Who comes meanwhile waits behind that one, who else might wait for ever.
 */
static bool begin_write(struct file *file, bool may_go_past, uint64_t length)
{
	pthread_mutex_lock(&file->ways.entry);
	pthread_mutex_lock(&file->ways.lock);
	bool past = may_go_past && file->ways.hurried && clock_us(&clock_system) < file->ways.hurried_until_us;
	file->ways.hurried -= MIN_OF(file->ways.hurried, length);
	while (file->ways.under_way[!past])
		pthread_cond_wait(&file->ways.ended, &file->ways.lock);
	file->ways.under_way[past]++;
	atomic_fetch_add(&file->cached.writes, !past);
	pthread_mutex_unlock(&file->ways.lock);
	pthread_mutex_unlock(&file->ways.entry);
	return past;
}

static void end_write(struct file *file, bool past)
{
	pthread_mutex_lock(&file->ways.lock);
	atomic_fetch_sub(&file->cached.writes, !past);
	if (--file->ways.under_way[past] == 0)
		pthread_cond_signal(&file->ways.ended); /* one waits at most */
	pthread_mutex_unlock(&file->ways.lock);
}

/* -- reading and writing -- */

static ssize_t transfer_once(int fd, const struct vdev_io *io, size_t done)
{
	char *buffer = (char *)io->buffer + done;
	off_t offset = (off_t)(io->offset + done);
	if (io->op == VDEV_READ)
		return pread(fd, buffer, io->length - done, offset);
	return pwrite(fd, buffer, io->length - done, offset);
}

static void transfer(int fd, struct vdev_io *io, size_t done)
{
	io->result = 0;
	while (done < io->length) {
		ssize_t n = transfer_once(fd, io, done);
		if (n > 0) {
			done += (size_t)n;
		} else if (n == 0 || errno != EINTR) {
			/* 0: the file was truncated under us. */
			io->result = -(int)(n == 0 ? LCPFS_E_IO : error_from_errno(errno));
			return;
		}
	}
}

static bool has_writes(const struct vdev_io *ios, unsigned count)
{
	bool has = false;
	for (const struct vdev_io *io = ios; io < ios + count; io++)
		has |= io->op == VDEV_WRITE;
	return has;
}

static bool refuse_writes(struct vdev_io *ios, unsigned count)
{
	bool refused = has_writes(ios, count);
	for (struct vdev_io *io = ios; refused && io < ios + count; io++)
		io->result = -LCPFS_E_READ_ONLY;
	return refused;
}

static uint64_t size_now(const struct file *file)
{
	uint64_t size_bytes = 0;
	struct stat status;
	if (file->is_block_device)
		return ioctl(file->fd, BLKGETSIZE64, &size_bytes) ? UINT64_MAX : size_bytes;
	return fstat(file->fd, &status) ? UINT64_MAX : (uint64_t)status.st_size;
}

/* A device that was cut short answers "no space left", a file "end of file": neither says what happened. */
static void tell_shrunk(const struct file *file, struct vdev_io *ios, unsigned count)
{
	uint64_t size_bytes = UINT64_MAX;
	for (struct vdev_io *io = ios; io < ios + count; io++) {
		if (!io->result)
			continue;
		if (size_bytes == UINT64_MAX)
			size_bytes = size_now(file);
		if (io->offset + io->length > size_bytes)
			io->result = -LCPFS_E_SHRUNK;
	}
}

static void file_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	struct file *file = (struct file *)vdev;
	if (count && ios->no_wait) {
		if (count < RING_LEAST || !file->rings || !uring_submit(file->rings, file->fd, ios, count))
			cached_read(&file->cached, ios, count);
		return;
	}
	if (file->is_read_only && refuse_writes(ios, count))
		return;
	bool writes = has_writes(ios, count);
	if (writes)
		(void)begin_write(file, false, 0);
	if (count < 2 || !file->rings || !uring_submit(file->rings, file->fd, ios, count)) {
		for (struct vdev_io *io = ios; io < ios + count; io++)
			transfer(file->fd, io, 0);
	}
	if (writes)
		end_write(file, false);
	tell_shrunk(file, ios, count);
}

/*
 * What a short transfer has left is written piece by piece. A long write is a full record, which nobody changes
 * any more: a flush that finds it on its way, or there, is shorter. Whether it got there is for the flush to tell.
 */
static int file_writev(struct vdev *vdev, uint64_t offset, const struct iovec *iov, unsigned count)
{
	struct file *file = (struct file *)vdev;
	struct vdev_io io = {.op = VDEV_WRITE, .offset = offset};
	if (file->is_read_only)
		return -LCPFS_E_READ_ONLY;
	uint64_t length = 0;
	for (unsigned i = 0; i < count; i++)
		length += iov[i].iov_len;
	bool past = begin_write(file, can_go_past(file, offset, iov, count), length);
	ssize_t n = pwritev(past ? file->direct_fd : file->fd, iov, (int)count, (off_t)offset);
	if (past && n != (ssize_t)length) { /* the rest goes through the cache */
		end_write(file, true);
		past = begin_write(file, false, 0);
	}
	for (unsigned i = 0; i < count && !io.result; i++, io.offset += io.length) {
		io.buffer = iov[i].iov_base;
		io.length = iov[i].iov_len;
		if (n >= (ssize_t)(io.offset - offset + io.length))
			continue;
		transfer(file->fd, &io, 0);
		tell_shrunk(file, &io, 1);
	}
	if (!past && !io.result && length >= WRITE_OUT_BYTES)
		sync_file_range(file->fd, (off_t)offset, (off_t)length, SYNC_FILE_RANGE_WRITE);
	end_write(file, past);
	return io.result;
}

/* Without O_DIRECT: what the cache keeps is dropped before reading, and written out after writing. */
static void transfer_and_drop(int fd, struct vdev_io *io)
{
	if (io->op == VDEV_READ)
		posix_fadvise(fd, (off_t)io->offset, (off_t)io->length, POSIX_FADV_DONTNEED);
	transfer(fd, io, 0);
	if (io->op == VDEV_WRITE && !io->result && fdatasync(fd))
		io->result = -(int)error_from_errno(errno);
}

static void file_direct(struct vdev *vdev, struct vdev_io *io)
{
	struct file *file = (struct file *)vdev;
	if (file->is_read_only && refuse_writes(io, 1))
		return;
	if (file->direct_fd >= 0)
		transfer(file->direct_fd, io, 0);
	else
		transfer_and_drop(file->fd, io);
	tell_shrunk(file, io, 1);
}

static int file_flush(struct vdev *vdev)
{
	struct file *file = (struct file *)vdev;
	if (file->is_read_only)
		return 0;
	if (fdatasync(file->fd) == 0)
		return 0;
	int err = errno;
	/*
	 * Linux has marked the pages clean that it could not write. Dropped, later reads show what the device
	 * holds, not what it lost.
	 */
	posix_fadvise(file->fd, 0, 0, POSIX_FADV_DONTNEED);
	return -(int)error_from_errno(err);
}

static int file_discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct file *file = (struct file *)vdev;
	uint64_t range[2] = {offset, length};
	int punch = FALLOC_FL_PUNCH_HOLE | FALLOC_FL_KEEP_SIZE;
	int failed;
	if (file->is_read_only)
		return -LCPFS_E_READ_ONLY;
	if (file->is_block_device)
		failed = ioctl(file->fd, BLKDISCARD, range);
	else
		failed = fallocate(file->fd, punch, (off_t)offset, (off_t)length);
	return failed ? -(int)error_from_errno(errno) : 0;
}

static int file_zero(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct file *file = (struct file *)vdev;
	uint64_t range[2] = {offset, length};
	if (file->is_read_only)
		return -LCPFS_E_READ_ONLY;
	if (!file->is_block_device)
		return file_discard(vdev, offset, length); /* a hole reads as zeros */
	return ioctl(file->fd, BLKZEROOUT, range) ? -(int)error_from_errno(errno) : 0;
}

static void file_scattered(struct vdev *vdev, bool is_scattered)
{
	posix_fadvise(((struct file *)vdev)->fd, 0, 0, is_scattered ? POSIX_FADV_RANDOM : POSIX_FADV_NORMAL);
}

/*
 * Past the page cache, and with the note: else the next flush would wait for both. By another descriptor than that
 * of flushes, so that an error which the system has yet to report is still reported there.
 */
static void file_prepare(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	static _Alignas(VDEV_DIRECT_ALIGN) const char zeros[ZEROS_BYTES];
	struct file *file = (struct file *)vdev;
	struct iovec iov[ZEROS_AT_ONCE];
	if (file->is_read_only || file->direct_fd < 0 || !backing_is_unwritten(file->fd, offset, length))
		return;
	for (uint64_t done = 0; done < length;) {
		unsigned count = 0;
		for (uint64_t n = done; n < length && count < ZEROS_AT_ONCE; n += ZEROS_BYTES)
			iov[count++] = (struct iovec){(void *)zeros, MIN_OF(length - n, (uint64_t)ZEROS_BYTES)};
		ssize_t n = pwritev2(file->direct_fd, iov, (int)count, (off_t)(offset + done), RWF_DSYNC);
		if (n <= 0)
			return;
		done += (uint64_t)n;
	}
}

static struct fetches *file_fetches(struct vdev *vdev)
{
	struct file *file = (struct file *)vdev;
	return file->rings ? fetches_new(&file->cached, file->direct_fd) : NULL;
}

static void file_close(struct vdev *vdev)
{
	struct file *file = (struct file *)vdev;
	pthread_cond_destroy(&file->ways.ended);
	pthread_mutex_destroy(&file->ways.lock);
	pthread_mutex_destroy(&file->ways.entry);
	uring_list_free(file->rings);
	beneath_close(&file->beneath);
	if (file->direct_fd >= 0)
		close(file->direct_fd);
	if (file->folder_fd >= 0)
		close(file->folder_fd);
	if (file->fd >= 0)
		close(file->fd);
	free(file->path);
	free(file);
}

static int file_reserve(struct vdev *vdev, uint64_t offset, uint64_t length, bool may_take)
{
	struct file *file = (struct file *)vdev;
	bool took;
	if (file->is_read_only)
		return -LCPFS_E_READ_ONLY;
	int error = backing_take(file->fd, offset, length, may_take, &took);
	if (took || (error == -LCPFS_E_DEVICE_FULL && may_take))
		vdev_note_host(vdev, error != 0);
	return error;
}

static const struct vdev_ops device_ops = {.submit = file_submit,
					   .flush = file_flush,
					   .discard = file_discard,
					   .close = file_close,
					   .direct = file_direct,
					   .writev = file_writev,
					   .zero = file_zero,
					   .scattered = file_scattered,
					   .hurry = file_hurry,
					   .fetches = file_fetches};
static const struct vdev_ops file_ops = {.submit = file_submit,
					 .flush = file_flush,
					 .discard = file_discard,
					 .close = file_close,
					 .direct = file_direct,
					 .writev = file_writev,
					 .reserve = file_reserve,
					 .zero = file_zero,
					 .prepare = file_prepare,
					 .scattered = file_scattered,
					 .hurry = file_hurry,
					 .fetches = file_fetches};

/* -- opening -- */

static enum lcpfs_error open_error(int err)
{
	switch (err) {
	case ENOENT:
		return LCPFS_E_NOT_FOUND;
	case EBUSY:
		return LCPFS_E_BUSY;
	case EROFS:
		return LCPFS_E_READ_ONLY;
	case ENOSPC:
	case EDQUOT:
	case ENOMEM:
		return error_from_errno(err);
	default:
		return LCPFS_E_SYSTEM;
	}
}

static int fail(struct lcpfs_failure *failure, const char *path, const char *what, int err)
{
	return failure_set(failure, open_error(err), "%s: %s: %s", path, what, strerrordesc_np(err));
}

/* `fd`: of what is locked or claimed, -1 if it could not be opened. */
static int fail_busy(struct lcpfs_failure *failure, const struct file *file, int fd)
{
	char holder[256] = "";
	int looked_at = fd >= 0 ? fd : open(file->path, O_PATH | O_CLOEXEC);
	if (looked_at >= 0)
		holder_find(looked_at, holder, sizeof(holder));
	if (looked_at >= 0 && fd < 0)
		close(looked_at);
	return failure_set(failure, LCPFS_E_BUSY, "%s is in use%s%s; stop what serves, mounts or checks it first",
			   file->path, holder[0] ? " by " : "", holder);
}

static int check_kind(struct file *file, const struct stat *status, struct lcpfs_failure *failure)
{
	file->is_block_device = S_ISBLK(status->st_mode);
	if (file->is_block_device || S_ISREG(status->st_mode))
		return 0;
	return failure_set(failure, LCPFS_E_INVALID, "%s is neither a regular file nor a block device",
			   file->path);
}

/* In a folder of others a link may lead to any file of whoever follows it. */
static int check_link(const struct file *file, struct lcpfs_failure *failure)
{
	struct stat link;
	if (lstat(file->path, &link) || !S_ISLNK(link.st_mode) || link.st_uid == 0 || link.st_uid == geteuid())
		return 0;
	return failure_set(failure, LCPFS_E_INVALID,
			   "%s is a symbolic link of another user; give the path that it leads to", file->path);
}

/* What the path leads to, without opening it: opening some devices does things. */
static int look_up(struct file *file, bool trusts_links, struct lcpfs_failure *failure)
{
	if (!trusts_links) {
		int error = check_link(file, failure);
		if (error)
			return error;
	}
	int at = open(file->path, O_PATH | O_CLOEXEC);
	int err = at < 0 || fstat(at, &file->status) ? errno : 0;
	if (at >= 0)
		close(at);
	return err ? fail(failure, file->path, "cannot open", err) : check_kind(file, &file->status, failure);
}

static bool is_same(const struct stat *a, const struct stat *b)
{
	return a->st_dev == b->st_dev && a->st_ino == b->st_ino && a->st_rdev == b->st_rdev;
}

/* O_NONBLOCK: should it have become a pipe meanwhile. */
static int open_existing(struct file *file, bool trusts_links, struct lcpfs_failure *failure)
{
	int flags = O_CLOEXEC | O_NOCTTY | O_NONBLOCK | (file->is_read_only ? O_RDONLY : O_RDWR);
	struct stat status;
	int error = look_up(file, trusts_links, failure);
	if (error)
		return error;
	file->fd = descriptor_keep_clear(
		open(file->path, flags | (file->is_block_device && !file->is_peek ? O_EXCL : 0)));
	if (file->fd < 0 && errno == EBUSY)
		return fail_busy(failure, file, -1);
	if (file->fd < 0 || fstat(file->fd, &status))
		return fail(failure, file->path, "cannot open", errno);
	if (!is_same(&status, &file->status))
		return failure_set(failure, LCPFS_E_SYSTEM,
				   "%s became another file while it was opened; try again", file->path);
	fcntl(file->fd, F_SETFL, flags & ~O_NONBLOCK);
	return 0;
}

static int check_writable(const struct file *file, struct lcpfs_failure *failure)
{
	int is_read_only = 0;
	if (file->is_read_only || !file->is_block_device || ioctl(file->fd, BLKROGET, &is_read_only) ||
	    !is_read_only)
		return 0;
	return failure_set(
		failure, LCPFS_E_READ_ONLY,
		"%s is a read-only device: list, status and check work on it; to change or serve it, make it "
		"writable first (blockdev --setrw)",
		file->path);
}

/* -- making a file -- */

/* A file is found again after a crash only when its folder is durable too. */
static int open_folder(struct file *file, struct lcpfs_failure *failure)
{
	char *copy = strdup(file->path);
	file->folder_fd =
		copy ? descriptor_keep_clear(open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC)) : -1;
	free(copy);
	return file->folder_fd >= 0 ? 0 : fail(failure, file->path, "cannot open its folder", errno);
}

static const char *name_of(const struct file *file)
{
	const char *slash = strrchr(file->path, '/');
	return slash ? slash + 1 : file->path;
}

static int make_or_open(struct file *file, struct lcpfs_failure *failure)
{
	int flags = O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC;
	int error = open_folder(file, failure);
	if (error)
		return error;
	file->fd = descriptor_keep_clear(openat(file->folder_fd, name_of(file), flags, 0600));
	file->is_new = file->fd >= 0;
	if (file->is_new)
		backing_keep_in_place(file->fd);
	if (file->is_new)
		return fstat(file->fd, &file->status) ? fail(failure, file->path, "cannot create", errno) : 0;
	if (errno == EEXIST || errno == EISDIR)
		return open_existing(file, false, failure);
	return fail(failure, file->path, "cannot create", errno);
}

static int fail_size(const struct file *file, uint64_t size_bytes, int err, struct lcpfs_failure *failure)
{
	struct rlimit limit;
	if (err == EFBIG && !getrlimit(RLIMIT_FSIZE, &limit) && limit.rlim_cur < size_bytes)
		return failure_set(
			failure, LCPFS_E_SYSTEM,
			"%s: a file may have at most %llu bytes here (ulimit -f); raise that, or give a "
			"smaller size",
			file->path, (unsigned long long)limit.rlim_cur);
	return fail(failure, file->path, "cannot make a file of that size", err);
}

int vdev_file_resize(struct vdev *vdev, uint64_t size_bytes, struct lcpfs_failure *failure)
{
	struct file *file = (struct file *)vdev;
	int err = size_bytes > INT64_MAX ? EFBIG : 0;
	CHECK(!file->is_block_device);
	if (!err && (ftruncate(file->fd, (off_t)size_bytes) || fsync(file->fd)))
		err = errno;
	if (err)
		return fail_size(file, size_bytes, err, failure);
	vdev->size_bytes = size_bytes / VDEV_SECTOR * VDEV_SECTOR;
	return 0;
}

void vdev_file_look_again(struct vdev *vdev)
{
	uint64_t size_bytes = size_now((struct file *)vdev);
	if (size_bytes != UINT64_MAX && size_bytes / VDEV_SECTOR * VDEV_SECTOR > vdev->size_bytes)
		vdev->size_bytes = size_bytes / VDEV_SECTOR * VDEV_SECTOR;
}

void vdev_file_unmake(struct vdev *vdev)
{
	struct file *file = (struct file *)vdev;
	struct stat status;
	if (file->is_new && !fstatat(file->folder_fd, name_of(file), &status, AT_SYMLINK_NOFOLLOW) &&
	    is_same(&status, &file->status))
		unlinkat(file->folder_fd, name_of(file), 0);
}

static int set_first_size(struct file *file, uint64_t size_bytes, struct lcpfs_failure *failure)
{
	int error = vdev_file_resize(&file->vdev, size_bytes, failure);
	if (error)
		vdev_file_unmake(&file->vdev);
	else
		fsync(file->folder_fd);
	return error;
}

/* -- locking -- */

static int lock(struct file *file, struct lcpfs_failure *failure)
{
	int tries = file->no_wait ? 1 : file->is_block_device ? LOCK_TRIES_DEVICE : LOCK_TRIES_FILE;
	if (file->is_peek)
		return 0;
	while (flock(file->fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK)
			return fail(failure, file->path, "cannot lock", errno);
		if (--tries == 0)
			return fail_busy(failure, file, file->fd);
		nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
	}
	return 0;
}

/* While this one waited for the lock, who made it may have failed and removed it, or who found it have used it. */
static int look_after_locking(struct file *file, struct lcpfs_failure *failure)
{
	struct stat status;
	if (file->is_block_device || fstat(file->fd, &status))
		return 0;
	file->is_new &= status.st_size == 0;
	if (status.st_nlink > 0)
		return 0;
	return failure_set(failure, LCPFS_E_NOT_FOUND, "%s was removed while it was opened", file->path);
}

static int lock_beneath(struct file *file, struct lcpfs_failure *failure)
{
	struct vdev *vdev = &file->vdev;
	enum beneath_use use = file->is_peek ? BENEATH_PEEK : file->is_read_only ? BENEATH_READ : BENEATH_WRITE;
	for (int tries = file->no_wait ? 1 : LOCK_TRIES_FILE; tries > 0; tries--) {
		int bottom, error = beneath_open(&file->beneath, file->fd, vdev->size_bytes, use, &vdev->place,
						 &bottom);
		if (!error)
			return 0;
		if (tries == 1)
			error = fail_busy(failure, file, bottom);
		beneath_close(&file->beneath);
		if (tries == 1)
			return error;
		nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
	}
	return 0;
}

static int find_size(struct file *file, struct lcpfs_failure *failure)
{
	uint64_t size_bytes = size_now(file);
	if (size_bytes == UINT64_MAX)
		return fail(failure, file->path, "cannot tell its size", errno);
	file->vdev.size_bytes = size_bytes / VDEV_SECTOR * VDEV_SECTOR;
	return 0;
}

/* By way of the descriptor, so that it is the same file; given up where it does not work. */
static void open_direct(struct file *file)
{
	void *block = NULL;
	char path[64];
	snprintf(path, sizeof(path), "/proc/self/fd/%d", file->fd);
	file->direct_fd =
		descriptor_keep_clear(open(path, O_DIRECT | O_CLOEXEC | (file->is_read_only ? O_RDONLY : O_RDWR)));
	if (file->direct_fd < 0 || posix_memalign(&block, VDEV_DIRECT_ALIGN, VDEV_DIRECT_ALIGN))
		return;
	if (pread(file->direct_fd, block, VDEV_DIRECT_ALIGN, 0) < 0) {
		close(file->direct_fd);
		file->direct_fd = -1;
	}
	free(block);
}

static struct file *file_new(const char *path, unsigned flags)
{
	struct file *file = calloc(1, sizeof(*file));
	if (!file)
		return NULL;
	file->fd = file->direct_fd = file->folder_fd = -1;
	pthread_mutex_init(&file->ways.entry, NULL);
	pthread_mutex_init(&file->ways.lock, NULL);
	pthread_cond_init(&file->ways.ended, NULL);
	file->is_read_only = flags & VDEV_OPEN_READ_ONLY;
	file->is_peek = flags & VDEV_OPEN_PEEK;
	file->no_wait = flags & VDEV_OPEN_NO_WAIT;
	file->path = strdup(path);
	file->rings = flags & VDEV_OPEN_NO_URING ? NULL : uring_list_new(transfer);
	file->vdev = (struct vdev){.ops = &device_ops, .name = file->path}; /* until it is known what it is */
	if (file->path && (file->rings || flags & VDEV_OPEN_NO_URING))
		return file;
	file_close(&file->vdev);
	return NULL;
}

static int open_file(struct file *file, unsigned flags, uint64_t size_bytes, struct lcpfs_failure *failure)
{
	bool creates = flags & VDEV_OPEN_CREATE;
	int error = creates && !(flags & VDEV_OPEN_EXISTING) ? make_or_open(file, failure)
							     : open_existing(file, !creates, failure);
	if (!error)
		error = check_writable(file, failure);
	if (!error)
		error = lock(file, failure);
	if (!error)
		error = look_after_locking(file, failure);
	if (!error) /* a new file that somebody else has locked first is theirs now: it stays */
		error = file->is_new ? set_first_size(file, size_bytes, failure) : find_size(file, failure);
	if (!error)
		error = lock_beneath(file, failure);
	if (!error)
		open_direct(file);
	file->cached.fd = file->fd;
	atomic_store(&file->cached.is_mute, file->direct_fd < 0 || !file->rings);
	if (!error && !file->is_block_device)
		file->vdev.ops = &file_ops;
	return error;
}

int vdev_file_open(const char *path, unsigned flags, uint64_t size_bytes, struct vdev **vdev,
		   struct lcpfs_failure *failure)
{
	struct file *file = file_new(path, flags);
	*vdev = NULL;
	if (!file)
		return failure_set(failure, LCPFS_E_NOMEM, "%s: out of memory", path);
	int error = open_file(file, flags, size_bytes, failure);
	if (error) {
		file_close(&file->vdev);
		return error;
	}
	*vdev = &file->vdev;
	return 0;
}

bool vdev_file_is_new(const struct vdev *vdev)
{
	return ((const struct file *)vdev)->is_new;
}

bool vdev_file_is_regular(const struct vdev *vdev)
{
	return !((const struct file *)vdev)->is_block_device;
}

int vdev_file_descriptor(const struct vdev *vdev)
{
	return ((const struct file *)vdev)->fd;
}

void vdev_file_host(const struct vdev *vdev, char *text, size_t room)
{
	backing_text(((const struct file *)vdev)->fd, text, room);
}
