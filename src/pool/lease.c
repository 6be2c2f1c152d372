/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease: who serves the pool at this moment, for those who find it locked and look for the control socket.
 *
 * It is written by who holds the pool's lock and read by others without it. The copies are written one after the
 * other, so a reader, and a crash, find at least one of them whole. A lease that outlived its server is found out
 * by its socket, where nobody answers; opening the pool for writing clears it.
 */
#include <fcntl.h>
#include <stdio.h>
#include <string.h>
#include <unistd.h>

#include "pool/core.h"

int lease_write(struct vdev *vdev, const struct layout *layout, uint64_t pid, const char *control_path,
		const char *nbd_path)
{
	struct fmt_lease lease = {.pid = le64_of(pid)};
	int error = 0;

	if (strlen(control_path) >= sizeof(lease.control_path) || strlen(nbd_path) >= sizeof(lease.nbd_path))
		return -LCPFS_E_INVALID;
	memcpy(lease.control_path, control_path, strlen(control_path));
	memcpy(lease.nbd_path, nbd_path, strlen(nbd_path));
	fmt_seal(&lease, FMT_LEASE, layout->guid, 0, 0);
	for (unsigned copy = 0; copy < COPIES && !error; copy++) {
		uint64_t block = layout_area_block(layout, copy, AREA_LEASE);

		error = vdev_write(vdev, block * BLOCK_SIZE, &lease, sizeof(lease));
		if (!error)
			error = vdev_flush(vdev);
	}
	return error;
}

static bool ends(const uint8_t *field, size_t room)
{
	return memchr(field, 0, room) != NULL;
}

/* GOOD, BLANK (never written) or why it is neither. */
static enum fmt_verdict read_copy(struct vdev *vdev, const struct layout *layout, unsigned copy,
				  struct fmt_lease *lease)
{
	uint64_t block = layout_area_block(layout, copy, AREA_LEASE);
	enum fmt_verdict verdict;

	if (vdev_read(vdev, block * BLOCK_SIZE, lease, sizeof(*lease)))
		return FMT_DAMAGED;
	verdict = fmt_verify(lease, FMT_LEASE, layout->guid, 0);
	if (verdict == FMT_GOOD && !(ends(lease->control_path, sizeof(lease->control_path)) &&
				     ends(lease->nbd_path, sizeof(lease->nbd_path))))
		return FMT_DAMAGED;
	return verdict;
}

/* Writes the lease again as it was, if its server is us, else an empty one. */
static bool rewrite(struct lcpfs_pool *pool, const struct fmt_lease *good)
{
	const struct layout *l = &pool->layout;

	if (!pool->lease_set || !good)
		return !lease_write(pool->vdev, l, 0, "", "");
	return !lease_write(pool->vdev, l, le64_get(good->pid), (const char *)good->control_path,
			    (const char *)good->nbd_path);
}

/* A lease that is of no use any more, or damaged, is written anew; one that a crash may have torn is not reported.
 */
void lease_verify(struct lcpfs_pool *pool, struct report *report)
{
	struct fmt_lease lease[COPIES];
	enum fmt_verdict verdict[COPIES];
	const struct fmt_lease *good = NULL;
	bool stale = false, damaged[COPIES], repaired = false;

	for (unsigned copy = 0; copy < COPIES; copy++) {
		verdict[copy] = read_copy(pool->vdev, &pool->layout, copy, &lease[copy]);
		report->checked_blocks++;
		if (verdict[copy] == FMT_GOOD) {
			good = &lease[copy];
			stale |= le64_get(good->pid) && !pool->lease_set;
		}
	}
	for (unsigned copy = 0; copy < COPIES; copy++) /* a blank one beside a good one has lost its write */
		damaged[copy] = verdict[copy] != FMT_GOOD && (verdict[copy] != FMT_BLANK || good);
	if (report->repair && (stale || damaged[0] || damaged[1]))
		repaired = rewrite(pool, good);
	for (unsigned copy = 0; copy < COPIES; copy++) {
		if (damaged[copy] && !pool->was_open)
			report_found(report, layout_area_block(&pool->layout, copy, AREA_LEASE), repaired,
				     "the lease's copy %u: %s", copy, fmt_verdict_text(verdict[copy]));
	}
}

int lcpfs_pool_set_lease(struct lcpfs_pool *pool, const char *control_path, const char *nbd_path)
{
	int error;

	if (pool->options.read_only)
		return -LCPFS_E_READ_ONLY;
	pthread_mutex_lock(&pool->lock);
	pool->lease_set = true;
	error = lease_write(pool->vdev, &pool->layout, (uint64_t)getpid(), control_path, nbd_path);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

/* -- reading beside the server -- */

struct peek { /* a file without its lock, for reading */
	struct vdev vdev;
	int fd;
};

static void peek_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	int fd = ((struct peek *)vdev)->fd;

	for (unsigned i = 0; i < count; i++) {
		ssize_t n = ios[i].op == VDEV_READ ? pread(fd, ios[i].buffer, ios[i].length, (off_t)ios[i].offset)
						   : -1;

		ios[i].result = n == (ssize_t)ios[i].length ? 0 : -LCPFS_E_IO;
	}
}

static int peek_flush(struct vdev *vdev)
{
	(void)vdev;
	return 0;
}

static const struct vdev_ops peek_ops = {.submit = peek_submit, .flush = peek_flush};

static int peek_open(const char *path, struct peek *peek, struct lcpfs_failure *failure)
{
	off_t end;

	*peek = (struct peek){.fd = open(path, O_RDONLY | O_CLOEXEC | O_NONBLOCK)};
	end = peek->fd >= 0 ? lseek(peek->fd, 0, SEEK_END) : -1;
	if (end < 0) {
		if (peek->fd >= 0)
			close(peek->fd);
		return failure_set(failure, LCPFS_E_NOT_FOUND, "%s cannot be opened: %m", path);
	}
	peek->vdev.ops = &peek_ops;
	peek->vdev.size_bytes = (uint64_t)end / VDEV_SECTOR * VDEV_SECTOR;
	peek->vdev.name = path;
	return 0;
}

static int read_lease(struct vdev *vdev, struct fmt_lease *lease, struct lcpfs_failure *failure)
{
	struct layout layout;
	int error = layout_read(vdev, &layout, failure);

	if (error)
		return error;
	for (unsigned copy = 0; copy < COPIES; copy++) {
		if (read_copy(vdev, &layout, copy, lease) == FMT_GOOD && le64_get(lease->pid))
			return 0;
	}
	return failure_set(failure, LCPFS_E_NOT_FOUND, "%s is not served", vdev->name);
}

int lcpfs_pool_read_lease(const char *path, char *control_path, char *nbd_path, size_t room, uint64_t *pid,
			  struct lcpfs_failure *failure)
{
	struct fmt_lease lease;
	struct peek peek;
	int error = peek_open(path, &peek, failure);

	if (error)
		return error;
	error = read_lease(&peek.vdev, &lease, failure);
	close(peek.fd);
	if (error)
		return error;
	snprintf(control_path, room, "%s", (const char *)lease.control_path);
	snprintf(nbd_path, room, "%s", (const char *)lease.nbd_path);
	*pid = le64_get(lease.pid);
	return 0;
}
