/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The lease: who serves the pool at this moment, for those who find it locked and look for the control socket.
 *
 * It is written by who holds the pool's lock and read by others without it. The copies are written one after the
 * other, so a reader, and a crash, find at least one of them whole. A lease that outlived its server is found out
 * by its socket, where nobody answers; opening the pool for writing clears it.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
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
	_Alignas(BLOCK_SIZE) struct fmt_lease block;

	if (vdev_read_direct(vdev, layout_area_block(layout, copy, AREA_LEASE) * BLOCK_SIZE, &block,
			     sizeof(block)))
		return FMT_DAMAGED;
	*lease = block;
	enum fmt_verdict verdict = fmt_verify(lease, FMT_LEASE, layout->guid, 0);
	if (verdict == FMT_GOOD && !(ends(lease->control_path, sizeof(lease->control_path)) &&
				     ends(lease->nbd_path, sizeof(lease->nbd_path))))
		return FMT_DAMAGED;
	return verdict;
}

/* Writes the lease again as it was, if its server is us, else an empty one. */
static bool rewrite(struct lcpfs_pool *pool, const struct fmt_lease *good)
{
	const struct layout *l = &pool->layout;
	if (pool->claimant)
		return !claim_rewrite(claimant_claim(pool->claimant));
	if (!pool->lease_set || !good)
		return !lease_write(pool->vdev, l, 0, "", "");
	return !lease_write(pool->vdev, l, le64_get(good->pid), (const char *)good->control_path,
			    (const char *)good->nbd_path);
}

/*
 * A lease that is of no use any more, or damaged, is written anew. One that a crash may have torn is not reported:
 * of a pool that was not closed, and where the other copy shows that the claim was just being given up.
 */
void lease_verify(struct lcpfs_pool *pool, struct report *report)
{
	struct fmt_lease lease[COPIES];
	enum fmt_verdict verdict[COPIES];
	const struct fmt_lease *good = NULL;
	bool stale = false, in_flux = pool->was_open, damaged[COPIES], repaired = false;
	if (pool->claimant)
		claim_lock(claimant_claim(pool->claimant)); /* or it could be read half written */
	for (unsigned copy = 0; copy < COPIES; copy++) {
		verdict[copy] = read_copy(pool->device, &pool->layout, copy, &lease[copy]);
		report->checked_blocks++;
		if (verdict[copy] == FMT_GOOD) {
			good = &lease[copy];
			stale |= le64_get(good->pid) && !pool->lease_set;
			in_flux |= le64_get(good->count) != 0;
		}
	}
	if (pool->claimant)
		claim_unlock(claimant_claim(pool->claimant));
	for (unsigned copy = 0; copy < COPIES; copy++) /* a blank one beside a good one has lost its write */
		damaged[copy] = verdict[copy] != FMT_GOOD && (verdict[copy] != FMT_BLANK || good);
	if (report->repair && (stale || damaged[0] || damaged[1]))
		repaired = rewrite(pool, good);
	for (unsigned copy = 0; copy < COPIES; copy++) {
		if (damaged[copy] && !in_flux)
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
	if (pool->claimant)
		error = claim_set_server(claimant_claim(pool->claimant), (uint64_t)getpid(), control_path,
					 nbd_path);
	else
		error = lease_write(pool->vdev, &pool->layout, (uint64_t)getpid(), control_path, nbd_path);
	pthread_mutex_unlock(&pool->lock);
	return error;
}

/* -- reading beside the server -- */

static void look_at(struct vdev *vdev, const struct layout *layout, struct pool_seen *seen)
{
	struct fmt_lease lease;
	struct stat status;
	seen->owner_uid = fstat(vdev_file_descriptor(vdev), &status) ? 0 : status.st_uid;
	seen->identity =
		(struct lcpfs_identity){layout->guid, vdev->place.device, vdev->place.inode, vdev->place.offset};
	for (unsigned copy = 0; copy < COPIES; copy++) {
		if (read_copy(vdev, layout, copy, &lease) != FMT_GOOD || !le64_get(lease.pid))
			continue;
		seen->pid = le64_get(lease.pid);
		memcpy(seen->control_path, lease.control_path, sizeof(lease.control_path));
		memcpy(seen->nbd_path, lease.nbd_path, sizeof(lease.nbd_path));
		return;
	}
}

int pool_look(const char *path, struct pool_seen *seen, struct lcpfs_failure *failure)
{
	struct layout layout;
	struct vdev *vdev;
	int error =
		vdev_file_open(path, VDEV_OPEN_READ_ONLY | VDEV_OPEN_PEEK | VDEV_OPEN_NO_URING, 0, &vdev, failure);
	memset(seen, 0, sizeof(*seen));
	if (error)
		return error;
	error = layout_read(vdev, &layout, failure);
	if (!error)
		look_at(vdev, &layout, seen);
	vdev_close(vdev);
	return error;
}

/* Who has it is said by the system; where it is served by the lease, which may be out of date. */
static void explain_busy(const char *path, struct lcpfs_failure *failure)
{
	struct pool_seen seen;
	if (!failure || pool_look(path, &seen, NULL) || !seen.pid || !seen.control_path[0])
		return;
	failure_set(failure, LCPFS_E_BUSY, "%s (served at %.108s by process %" PRIu64 ", control socket %.108s)",
		    failure->message, seen.nbd_path, seen.pid, seen.control_path);
}

int lease_open_device(const char *path, unsigned flags, uint64_t size_bytes, struct vdev **vdev,
		      struct lcpfs_failure *failure)
{
	int error = vdev_file_open(path, flags, size_bytes, vdev, failure);
	if (error == -LCPFS_E_BUSY)
		explain_busy(path, failure);
	return error;
}

int lcpfs_pool_read_lease(const char *path, char *control_path, char *nbd_path, size_t room, uint64_t *pid,
			  struct lcpfs_failure *failure)
{
	struct pool_seen seen;
	int error = pool_look(path, &seen, failure);
	if (!error && !seen.pid)
		error = failure_set(failure, LCPFS_E_NOT_FOUND, "%s is not served", path);
	if (error)
		return error;
	snprintf(control_path, room, "%s", seen.control_path);
	snprintf(nbd_path, room, "%s", seen.nbd_path);
	*pid = seen.pid;
	return 0;
}

void lcpfs_pool_get_identity(const struct lcpfs_pool *pool, struct lcpfs_identity *identity)
{
	const struct vdev_place *place = &pool->device->place;
	*identity = (struct lcpfs_identity){pool->layout.guid, place->device, place->inode, place->offset};
}
