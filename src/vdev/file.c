/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A regular file or a block device, through the page cache.
 *
 * Opened once: flock keeps out every second opening, by this process too, and O_EXCL keeps away from block devices
 * that are mounted or otherwise claimed.
 */
#include "vdev/vdev.h"

#include <errno.h>
#include <fcntl.h>
#include <libgen.h>
#include <linux/fs.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "vdev/uring.h"

struct file {
	struct vdev vdev;
	struct uring_list *rings; /* NULL: plain system calls only */
	char *path;
	int fd;
	bool is_block_device;
	bool is_read_only;
};

enum {
	/* udev locks a block device for the moment it looks at it; nobody else does so without O_EXCL. */
	LOCK_TRIES_DEVICE = 40,
	LOCK_TRIES_FILE = 3, /* a killed process's last requests hold on to its lock for a moment */
	LOCK_PAUSE_NS = 50 * 1000 * 1000,
};

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

static bool refuse_writes(struct vdev_io *ios, unsigned count)
{
	bool refused = false;

	for (struct vdev_io *io = ios; io < ios + count; io++)
		refused |= io->op == VDEV_WRITE;
	for (struct vdev_io *io = ios; refused && io < ios + count; io++)
		io->result = -LCPFS_E_READ_ONLY;
	return refused;
}

static void file_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	struct file *file = (struct file *)vdev;

	if (file->is_read_only && refuse_writes(ios, count))
		return;
	if (count > 1 && file->rings && uring_submit(file->rings, file->fd, ios, count))
		return;
	for (struct vdev_io *io = ios; io < ios + count; io++)
		transfer(file->fd, io, 0);
}

static int file_flush(struct vdev *vdev)
{
	struct file *file = (struct file *)vdev;
	int err;

	if (file->is_read_only)
		return 0;
	if (fdatasync(file->fd) == 0)
		return 0;
	err = errno;
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

static void file_close(struct vdev *vdev)
{
	struct file *file = (struct file *)vdev;

	uring_list_free(file->rings);
	if (file->fd >= 0)
		close(file->fd);
	free(file->path);
	free(file);
}

static const struct vdev_ops file_ops = {file_submit, file_flush, file_discard, file_close};

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

static int fail_busy(struct lcpfs_failure *failure, const char *path)
{
	return failure_set(failure, LCPFS_E_BUSY, "%s is in use; stop what serves, mounts or checks it first",
			   path);
}

/* Decides before opening: opening a pipe blocks, and opening some devices does things. */
static int check_kind(struct file *file, const struct stat *status, struct lcpfs_failure *failure)
{
	file->is_block_device = S_ISBLK(status->st_mode);
	if (file->is_block_device || S_ISREG(status->st_mode))
		return 0;
	return failure_set(failure, LCPFS_E_INVALID, "%s is neither a regular file nor a block device",
			   file->path);
}

static int open_existing(struct file *file, struct lcpfs_failure *failure)
{
	int flags = O_CLOEXEC | (file->is_read_only ? O_RDONLY : O_RDWR);
	struct stat status;
	int error;

	if (stat(file->path, &status))
		return fail(failure, file->path, "cannot open", errno);
	error = check_kind(file, &status, failure);
	if (error)
		return error;
	file->fd = open(file->path, flags | (file->is_block_device ? O_EXCL : 0));
	if (file->fd >= 0)
		return 0;
	return errno == EBUSY ? fail_busy(failure, file->path) : fail(failure, file->path, "cannot open", errno);
}

/* A file is found again after a crash only when its directory is durable too. */
static void flush_directory_of(const char *path)
{
	char *copy = strdup(path);
	int fd = copy ? open(dirname(copy), O_RDONLY | O_DIRECTORY | O_CLOEXEC) : -1;

	free(copy);
	if (fd < 0)
		return;
	fsync(fd);
	close(fd);
}

static int set_new_size(struct file *file, uint64_t size_bytes, struct lcpfs_failure *failure)
{
	int err = size_bytes > INT64_MAX ? EFBIG : 0;

	if (!err && (ftruncate(file->fd, (off_t)size_bytes) || fsync(file->fd)))
		err = errno;
	if (err) {
		unlink(file->path);
		return fail(failure, file->path, "cannot create a file of that size", err);
	}
	flush_directory_of(file->path);
	return 0;
}

static int open_or_create(struct file *file, unsigned flags, uint64_t size_bytes, struct lcpfs_failure *failure)
{
	if (!(flags & VDEV_OPEN_CREATE))
		return open_existing(file, failure);
	file->fd = open(file->path, O_RDWR | O_CREAT | O_EXCL | O_CLOEXEC, 0600);
	if (file->fd >= 0)
		return set_new_size(file, size_bytes, failure);
	if (errno == EEXIST)
		return open_existing(file, failure);
	return fail(failure, file->path, "cannot create", errno);
}

static int lock(struct file *file, struct lcpfs_failure *failure)
{
	int tries = file->is_block_device ? LOCK_TRIES_DEVICE : LOCK_TRIES_FILE;

	while (flock(file->fd, LOCK_EX | LOCK_NB)) {
		if (errno != EWOULDBLOCK)
			return fail(failure, file->path, "cannot lock", errno);
		if (--tries == 0)
			return fail_busy(failure, file->path);
		nanosleep(&(struct timespec){.tv_nsec = LOCK_PAUSE_NS}, NULL);
	}
	return 0;
}

static int find_size(struct file *file, struct lcpfs_failure *failure)
{
	uint64_t size_bytes;
	struct stat status;

	if (fstat(file->fd, &status))
		return fail(failure, file->path, "cannot tell its size", errno);
	size_bytes = (uint64_t)status.st_size;
	if (file->is_block_device && ioctl(file->fd, BLKGETSIZE64, &size_bytes))
		return fail(failure, file->path, "cannot tell its size", errno);
	file->vdev.size_bytes = size_bytes / VDEV_SECTOR * VDEV_SECTOR;
	return 0;
}

static struct file *file_new(const char *path, unsigned flags)
{
	struct file *file = calloc(1, sizeof(*file));

	if (!file)
		return NULL;
	file->fd = -1;
	file->is_read_only = flags & VDEV_OPEN_READ_ONLY;
	file->path = strdup(path);
	file->rings = flags & VDEV_OPEN_NO_URING ? NULL : uring_list_new(transfer);
	file->vdev = (struct vdev){.ops = &file_ops, .name = file->path};
	if (file->path && (file->rings || flags & VDEV_OPEN_NO_URING))
		return file;
	file_close(&file->vdev);
	return NULL;
}

int vdev_file_open(const char *path, unsigned flags, uint64_t size_bytes, struct vdev **vdev,
		   struct lcpfs_failure *failure)
{
	struct file *file = file_new(path, flags);
	int error;

	*vdev = NULL;
	if (!file)
		return failure_set(failure, LCPFS_E_NOMEM, "%s: out of memory", path);
	error = open_or_create(file, flags, size_bytes, failure);
	if (!error)
		error = lock(file, failure);
	if (!error)
		error = find_size(file, failure);
	if (error) {
		file_close(&file->vdev);
		return error;
	}
	*vdev = &file->vdev;
	return 0;
}
