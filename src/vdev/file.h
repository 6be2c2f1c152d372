/* SPDX-License-Identifier: Apache-2.0 */
/* A vdev on a regular file or a block device: what only such a one has beyond vdev.h. */
#ifndef VDEV_FILE_H
#define VDEV_FILE_H

#include <stdbool.h>

#include "vdev/vdev.h"

enum vdev_open_flags {
	VDEV_OPEN_READ_ONLY = 1,
	/*
	 * A regular file that does not exist is made, sparse, with size_bytes. Nobody else's symbolic link is
	 * followed, so that in a folder that others may write to a name leads nowhere that they chose.
	 */
	VDEV_OPEN_CREATE = 2,
	VDEV_OPEN_EXISTING = 8, /* with CREATE: nothing is made, all else holds */
	VDEV_OPEN_PEEK =
		16, /* with READ_ONLY: beside who has it, without any lock; only direct reads see what it wrote */
	VDEV_OPEN_NO_URING = 4, /* pread and pwrite even where io_uring works */
	VDEV_OPEN_NO_WAIT = 32, /* BUSY at once; else a lock is waited for that may be gone in a moment */
};

/*
 * Opens it once: an exclusive lock keeps out whoever opens the same file again, by any name (BUSY; the message
 * says who has it). The path is looked up once; everything else goes through the one descriptor.
 */
int vdev_file_open(const char *path, unsigned flags, uint64_t size_bytes, struct vdev **vdev,
		   struct lcpfs_failure *failure) MUST_CHECK;

bool vdev_file_is_new(const struct vdev *vdev); /* made by VDEV_OPEN_CREATE */
bool vdev_file_is_regular(const struct vdev *vdev);
int vdev_file_descriptor(const struct vdev *vdev); /* for looking at; its position is nobody's */
/* "ext4 at /srv": the file system that a regular file lies in; "" where it cannot be told. */
void vdev_file_host(const struct vdev *vdev, char *text, size_t room);
/* Of a regular file; the vdev has the new size at once. */
int vdev_file_resize(struct vdev *vdev, uint64_t size_bytes, struct lcpfs_failure *failure) MUST_CHECK;
/* Looks whether it has become longer; the vdev has the new size at once. One that is shorter now stays as it was. */
void vdev_file_look_again(struct vdev *vdev);
/* Removes a file that VDEV_OPEN_CREATE made, if its name still leads to it. */
void vdev_file_unmake(struct vdev *vdev);

#endif
