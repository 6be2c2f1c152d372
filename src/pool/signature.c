/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What lies on a device or in a file already, so that creating a pool does not destroy it by accident: file
 * systems, partition tables, RAID members and the like by libblkid, and in a regular file any data at all.
 */
#include <blkid/blkid.h>
#include <errno.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "pool/core.h"

enum { CHUNK_BYTES = 1 << 16 };

static bool look_up(blkid_probe probe, const char *name, const char *format, char *text, size_t room)
{
	const char *value = NULL;
	if (blkid_probe_lookup_value(probe, name, &value, NULL) || !value)
		return false;
	snprintf(text, room, format, value);
	return true;
}

static int probe_all(blkid_probe probe, char *text, size_t room)
{
	blkid_probe_enable_superblocks(probe, 1);
	blkid_probe_set_superblocks_flags(probe, BLKID_SUBLKS_TYPE);
	blkid_probe_enable_partitions(probe, 1);
	int found = blkid_do_safeprobe(probe);
	if (found == 1)
		return 0;
	if (found == 0 && (look_up(probe, "TYPE", "a file system or volume of type %s", text, room) ||
			   look_up(probe, "PTTYPE", "a partition table of type %s", text, room)))
		return 1;
	/* Several at once, or it could not be read: nothing to write over. */
	snprintf(text, room, "something that libblkid cannot name for sure");
	return 1;
}

static bool is_zero(const char *bytes, size_t length)
{
	return length == 0 || (bytes[0] == 0 && memcmp(bytes, bytes + 1, length - 1) == 0);
}

static bool range_is_zero(int fd, off_t begin, off_t end)
{
	char bytes[CHUNK_BYTES];
	while (begin < end) {
		ssize_t n = pread(fd, bytes, (size_t)MIN_OF(end - begin, (off_t)sizeof(bytes)), begin);
		if (n <= 0 || !is_zero(bytes, (size_t)n))
			return false;
		begin += n;
	}
	return true;
}

/* Holes are skipped, so that a large sparse file is looked through at once. */
static bool file_is_zero(int fd, off_t size)
{
	off_t begin = 0;
	while (begin < size) {
		off_t data = lseek(fd, begin, SEEK_DATA), hole;
		if (data < 0)
			return errno == ENXIO || range_is_zero(fd, begin, size);
		hole = lseek(fd, data, SEEK_HOLE);
		hole = hole < 0 ? size : MIN_OF(hole, size);
		if (!range_is_zero(fd, data, hole))
			return false;
		begin = hole;
	}
	return true;
}

int signature_find(int fd, char *text, size_t room)
{
	int found = 1;
	blkid_probe probe = blkid_new_probe();
	struct stat status;
	snprintf(text, room, "something that cannot be read");
	if (!fstat(fd, &status) && S_ISREG(status.st_mode) && file_is_zero(fd, status.st_size)) {
		found = 0;
	} else if (probe && !blkid_probe_set_device(probe, fd, 0, 0)) {
		found = probe_all(probe, text, room);
		if (!found && S_ISREG(status.st_mode)) {
			snprintf(text, room, "data");
			found = 1;
		}
	}
	if (probe)
		blkid_free_probe(probe);
	return found;
}
