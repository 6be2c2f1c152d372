/* SPDX-License-Identifier: Apache-2.0 */
#include "vdev/holder.h"

#include <dirent.h>
#include <stdbool.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <sys/sysmacros.h>
#include <unistd.h>

enum { LINE_BYTES = 4096 };

/* "process 123 (mkfs.ext4)"; the name is left out where it cannot be read. */
static void of_process(long pid, char *text, size_t room)
{
	char path[64], name[64] = "";
	snprintf(path, sizeof(path), "/proc/%ld/comm", pid);
	FILE *file = fopen(path, "re");
	if (file && !fgets(name, sizeof(name), file))
		name[0] = '\0';
	if (file)
		fclose(file);
	name[strcspn(name, "\n")] = '\0';
	snprintf(text, room, name[0] ? "process %ld (%s)" : "process %ld", pid, name);
}

/* "1: FLOCK  ADVISORY  WRITE 708 08:01:2055 0 EOF"; who waits has a "->" and is no holder. */
static bool lock_line(const char *line, const struct stat *status, long *pid)
{
	unsigned major_number, minor_number;
	unsigned long inode;
	if (sscanf(line, "%*u: %*s %*s %*s %ld %x:%x:%lu", pid, &major_number, &minor_number, &inode) != 4)
		return false;
	return *pid > 0 && *pid != getpid() && inode == status->st_ino && major_number == major(status->st_dev) &&
	       minor_number == minor(status->st_dev);
}

static bool find_lock(const struct stat *status, char *text, size_t room)
{
	char line[LINE_BYTES];
	FILE *file = fopen("/proc/locks", "re");
	long pid = 0;
	bool found = false;
	while (file && !found && fgets(line, sizeof(line), file))
		found = lock_line(line, status, &pid);
	if (file)
		fclose(file);
	if (found)
		of_process(pid, text, room);
	return found;
}

/* "36 35 98:0 /mnt1 /mnt2 rw,noatime ...": the third field is the device, the fifth the place. */
static bool find_mount(const struct stat *status, char *text, size_t room)
{
	char line[LINE_BYTES], place[1024];
	FILE *file = fopen("/proc/self/mountinfo", "re");
	unsigned major_number, minor_number;
	bool found = false;
	while (file && !found && fgets(line, sizeof(line), file))
		found = sscanf(line, "%*d %*d %u:%u %*s %1023s", &major_number, &minor_number, place) == 3 &&
			makedev(major_number, minor_number) == status->st_rdev;
	if (file)
		fclose(file);
	if (found)
		snprintf(text, room, "a mount at %s", place);
	return found;
}

static bool find_device(const struct stat *status, char *text, size_t room)
{
	char path[64];
	snprintf(path, sizeof(path), "/sys/dev/block/%u:%u/holders", major(status->st_rdev),
		 minor(status->st_rdev));
	DIR *folder = opendir(path);
	struct dirent *entry = folder ? readdir(folder) : NULL;
	while (entry && entry->d_name[0] == '.')
		entry = readdir(folder);
	if (entry)
		snprintf(text, room, "device %s", entry->d_name);
	if (folder)
		closedir(folder);
	return entry != NULL;
}

void holder_find(int fd, char *text, size_t room)
{
	struct stat status;
	text[0] = '\0';
	if (fstat(fd, &status) || find_lock(&status, text, room) || !S_ISBLK(status.st_mode))
		return;
	if (!find_mount(&status, text, room))
		(void)find_device(&status, text, room);
}
