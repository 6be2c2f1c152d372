/* SPDX-License-Identifier: Apache-2.0 */
#include "vdev/beneath.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <limits.h>
#include <linux/loop.h>
#include <linux/major.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/file.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <sys/vfs.h>
#include <unistd.h>

#include "base/descriptor.h"

/* File systems of one machine that hand out no byte under two inodes; from linux/magic.h and their own sources. */
static const uint32_t local_file_systems[] = {
	0x0000ef53, /* ext2, ext3, ext4 */
	0x58465342, /* xfs */
	0x9123683e, /* btrfs */
	0x01021994, /* tmpfs */
	0x858458f6, /* ramfs */
	0xf2f52010, /* f2fs */
	0xca451a4e, /* bcachefs */
	0x2fc12fc1, /* zfs */
	0x00004d44, /* vfat */
	0x2011bab0, /* exfat */
};

static bool is_local(int fd)
{
	struct statfs status;
	if (fstatfs(fd, &status))
		return false;
	for (size_t i = 0; i < ARRAY_LENGTH(local_file_systems); i++) {
		if ((uint32_t)status.f_type == local_file_systems[i])
			return true;
	}
	return false;
}

/* -- one step down -- */

struct step {
	const struct stat *status; /* of the device to step down from */
	enum beneath_use use;
	uint64_t offset; /* out: how much further in the lower one begins */
};

/* The first line of a file in the device's folder of sysfs. */
static bool sysfs_line(dev_t device, const char *name, char *line, size_t room)
{
	char path[64];
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/%s", major(device), minor(device), name);
	FILE *file = fopen(path, "re");
	bool found = file && fgets(line, (int)room, file);
	if (file)
		fclose(file);
	if (found)
		line[strcspn(line, "\n")] = '\0';
	return found;
}

/* The device's node, by the name that the kernel gave it. */
static int open_device(dev_t device)
{
	char path[PATH_MAX], target[PATH_MAX];
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u", major(device), minor(device));
	ssize_t length = readlink(path, target, sizeof(target) - 1);
	if (length <= 0)
		return -1;
	target[length] = '\0';
	const char *name = strrchr(target, '/');
	snprintf(path, sizeof(path), "/dev/%.200s", name ? name + 1 : target);
	int fd = descriptor_keep_clear(open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK));
	struct stat status;
	if (fd >= 0 && (fstat(fd, &status) || !S_ISBLK(status.st_mode) || status.st_rdev != device)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int disk_of_partition(struct step *step)
{
	char start[32], disk[32];
	unsigned major_number, minor_number;
	if (!sysfs_line(step->status->st_rdev, "start", start, sizeof(start)) ||
	    !sysfs_line(step->status->st_rdev, "../dev", disk, sizeof(disk)) ||
	    sscanf(disk, "%u:%u", &major_number, &minor_number) != 2)
		return -1;
	step->offset = strtoull(start, NULL, 10) * VDEV_SECTOR;
	return open_device(makedev(major_number, minor_number));
}

/* The path is only a hint, and may lead elsewhere by now: the loop device knows its inode. */
static int open_backing_file(const char *path, const struct loop_info64 *info, bool read_only)
{
	int flags = O_CLOEXEC | O_NONBLOCK | O_NOCTTY;
	int fd = descriptor_keep_clear(open(path, flags | (read_only ? O_RDONLY : O_RDWR)));
	if (fd < 0 && !read_only)
		fd = descriptor_keep_clear(open(path, flags | O_RDONLY));
	struct stat status;
	if (fd >= 0 &&
	    (fstat(fd, &status) || status.st_ino != info->lo_inode || status.st_dev != info->lo_device)) {
		close(fd);
		fd = -1;
	}
	return fd;
}

static int file_of_loop(int fd, struct step *step)
{
	struct loop_info64 info;
	char path[PATH_MAX];
	if (ioctl(fd, LOOP_GET_STATUS64, &info) ||
	    !sysfs_line(step->status->st_rdev, "loop/backing_file", path, sizeof(path)))
		return -1;
	step->offset = info.lo_offset;
	return open_backing_file(path, &info, step->use != BENEATH_WRITE);
}

/* The lower file or device, opened; -1: this is the bottom, or no way further down can be seen. */
static int step_down(int fd, struct step *step)
{
	char line[32];
	if (!S_ISBLK(step->status->st_mode))
		return -1;
	if (sysfs_line(step->status->st_rdev, "partition", line, sizeof(line)))
		return disk_of_partition(step);
	if (major(step->status->st_rdev) == LOOP_MAJOR)
		return file_of_loop(fd, step);
	return -1;
}

/* -- the whole way -- */

static bool lock_range(int fd, uint64_t offset, uint64_t length, bool read_only)
{
	struct flock range = {
		.l_type = read_only ? F_RDLCK : F_WRLCK,
		.l_whence = SEEK_SET,
		.l_start = (off_t)offset,
		.l_len = (off_t)length, /* 0: however long it becomes */
	};
	return fcntl(fd, F_OFD_SETLK, &range) == 0;
}

enum { PEEK_BYTES = 1 << 20 }; /* from the start: label and lease */

/*
 * What this device's own cache keeps may be older than what was written by another name. A peek leaves alone what
 * the pool's user may be using: its direct reads do not pass the cache at the top.
 */
static void drop_cache(int fd, const struct step *step, uint64_t offset, bool is_top)
{
	if (step->use != BENEATH_PEEK) {
		fdatasync(fd);
		posix_fadvise(fd, 0, 0, POSIX_FADV_DONTNEED);
	} else if (!is_top) {
		posix_fadvise(fd, (off_t)offset, PEEK_BYTES, POSIX_FADV_DONTNEED);
	}
}

/*
 * `length` 0: the bottom is the top, which its user has locked as a whole. Others may have other ranges of one
 * file; what they share of its flock keeps out who opens it as a whole, and shows in /proc/locks whose it is.
 */
static int lock_bottom(int fd, const struct stat *status, uint64_t length, bool read_only,
		       struct vdev_place *place)
{
	if (!S_ISREG(status->st_mode))
		return 0;
	if (length && flock(fd, LOCK_SH | LOCK_NB) && errno == EWOULDBLOCK)
		return -LCPFS_E_BUSY;
	if (lock_range(fd, place->offset, length, read_only))
		place->is_ours_alone = is_local(fd);
	else if (errno == EAGAIN || errno == EACCES)
		return -LCPFS_E_BUSY;
	return 0; /* it cannot be locked: then the claim has to do */
}

int beneath_open(struct beneath *beneath, int fd, uint64_t size_bytes, enum beneath_use use,
		 struct vdev_place *place, int *bottom)
{
	struct stat status;
	struct step step = {.status = &status, .use = use};
	beneath->count = 0;
	*place = (struct vdev_place){0};
	for (*bottom = fd; fstat(*bottom, &status) == 0 && beneath->count < BENEATH_MAX;
	     place->offset += step.offset) {
		if (S_ISBLK(status.st_mode))
			drop_cache(*bottom, &step, place->offset, beneath->count == 0);
		int lower = step_down(*bottom, &step);
		if (lower < 0)
			break;
		beneath->fds[beneath->count++] = *bottom = lower;
	}
	bool is_block_device = S_ISBLK(status.st_mode);
	place->device = is_block_device ? status.st_rdev : status.st_dev;
	place->inode = is_block_device ? 0 : status.st_ino;
	if (use == BENEATH_PEEK)
		return 0;
	return lock_bottom(*bottom, &status, beneath->count ? size_bytes : 0, use == BENEATH_READ, place);
}

void beneath_close(struct beneath *beneath)
{
	while (beneath->count)
		close(beneath->fds[--beneath->count]);
}
