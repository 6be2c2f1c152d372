/* SPDX-License-Identifier: Apache-2.0 */
#include "vdev/backing.h"

#include <errno.h>
#include <fcntl.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <linux/magic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/vfs.h>

enum { EXTENTS = 32, LINE_BYTES = 4096 };

void backing_keep_in_place(int fd)
{
	struct statfs status;
	int flags = 0;
	if (fstatfs(fd, &status) || status.f_type != BTRFS_SUPER_MAGIC || ioctl(fd, FS_IOC_GETFLAGS, &flags))
		return;
	flags |= FS_NOCOW_FL;
	ioctl(fd, FS_IOC_SETFLAGS, &flags);
}

/* -- taking -- */

static int allocate(int fd, int mode, uint64_t offset, uint64_t length)
{
	int failed;
	do {
		failed = fallocate(fd, mode, (off_t)offset, (off_t)length);
	} while (failed && errno == EINTR);
	return failed ? errno : 0;
}

static int64_t blocks_of(int fd)
{
	struct stat status;
	return fstat(fd, &status) ? 0 : (int64_t)status.st_blocks;
}

/* What it got before it was refused stays: only a hole that is known for certain might be punched again. */
static int fill_hole(int fd, uint64_t offset, uint64_t length, bool may_take, bool *took)
{
	if (!may_take)
		return -LCPFS_E_DEVICE_FULL;
	int64_t before = blocks_of(fd);
	int err = allocate(fd, 0, offset, length);
	*took |= blocks_of(fd) > before;
	if (!err || err == EOPNOTSUPP || err == ENOSYS || err == EINVAL)
		return 0;
	return -(int)error_from_errno(err);
}

/* What a copy of the file shares needs a new place when it is written. */
static int unshare(int fd, uint64_t offset, uint64_t length, bool may_take)
{
	if (!may_take)
		return -LCPFS_E_DEVICE_FULL;
	int err = allocate(fd, FALLOC_FL_UNSHARE_RANGE, offset, length);
	return err == ENOSPC || err == EDQUOT ? -LCPFS_E_DEVICE_FULL : 0;
}

struct extents {
	struct fiemap map;
	struct fiemap_extent list[EXTENTS];
};

/* Those that begin before `end`, from `at` on, and the holes before them. *at: how far it came. */
static int take_extents(int fd, const struct extents *e, uint64_t *at, uint64_t end, bool may_take, bool *took)
{
	int error = 0;
	for (unsigned i = 0; i < e->map.fm_mapped_extents && !error && *at < end; i++) {
		const struct fiemap_extent *x = &e->list[i];
		uint64_t begins = MAX_OF(*at, (uint64_t)x->fe_logical);
		uint64_t ends = MIN_OF(end, x->fe_logical + x->fe_length);
		if (begins > *at)
			error = fill_hole(fd, *at, MIN_OF(begins, end) - *at, may_take, took);
		if (!error && begins < ends && x->fe_flags & FIEMAP_EXTENT_SHARED)
			error = unshare(fd, begins, ends - begins, may_take);
		*at = MAX_OF(*at, ends);
	}
	return error;
}

/* XFS wants space for all of a range, also where it has it: so the holes are looked for, and filled one by one. */
int backing_take(int fd, uint64_t offset, uint64_t length, bool may_take, bool *took)
{
	uint64_t at = offset, end = offset + length;
	int error = 0;
	*took = false;
	while (at < end && !error) {
		struct extents e = {.map = {.fm_start = at, .fm_length = end - at, .fm_extent_count = EXTENTS}};
		if (ioctl(fd, FS_IOC_FIEMAP, &e.map)) /* tmpfs: there it costs nothing to ask for what is there */
			return fill_hole(fd, at, end - at, true, took);
		error = take_extents(fd, &e, &at, end, may_take, took);
		if (e.map.fm_mapped_extents < EXTENTS)
			break;
	}
	return error || at >= end ? error : fill_hole(fd, at, end - at, may_take, took);
}

bool backing_is_unwritten(int fd, uint64_t offset, uint64_t length)
{
	struct extents e = {.map = {.fm_start = offset, .fm_length = length, .fm_extent_count = EXTENTS}};
	bool any = false;
	if (ioctl(fd, FS_IOC_FIEMAP, &e.map))
		return false;
	for (unsigned i = 0; i < e.map.fm_mapped_extents; i++)
		any |= (e.list[i].fe_flags & FIEMAP_EXTENT_UNWRITTEN) != 0;
	return any;
}

/* -- who gives it -- */

/* "\040" stands for a blank. */
static void decode(char *text)
{
	char *to = text;
	for (const char *from = text; *from; to++) {
		bool coded = from[0] == '\\' && from[1] && from[2] && from[3];
		*to = coded ? (char)strtol((char[]){from[1], from[2], from[3], 0}, NULL, 8) : *from;
		from += coded ? 4 : 1;
	}
	*to = '\0';
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime master:1 - ext3 /dev/root rw": number, ..., the place; then the kind. */
static bool mount_line(const char *line, uint64_t mount, char *text, size_t room)
{
	char place[1024], kind[64];
	unsigned long long number;
	const char *dash = strstr(line, " - ");
	if (!dash || sscanf(line, "%llu %*d %*s %*s %1023s", &number, place) != 2 || number != mount ||
	    sscanf(dash, " - %63s", kind) != 1)
		return false;
	decode(place);
	snprintf(text, room, "%s at %s", kind, place);
	return true;
}

void backing_text(int fd, char *text, size_t room)
{
	struct statx status;
	char line[LINE_BYTES];
	text[0] = '\0';
	if (statx(fd, "", AT_EMPTY_PATH, STATX_MNT_ID, &status) || !(status.stx_mask & STATX_MNT_ID))
		return;
	FILE *file = fopen("/proc/self/mountinfo", "re");
	bool found = false;
	while (file && !found && fgets(line, sizeof(line), file))
		found = mount_line(line, status.stx_mnt_id, text, room);
	if (file)
		fclose(file);
}
