/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every vdev has in common: the checks before an operation reaches a device. A misaligned operation is a
 * defect of the caller; one outside the device may come from a damaged pool and is an error.
 */
#include "vdev/vdev.h"

#include <stdbool.h>
#include <stdlib.h>
#include <string.h>

static bool fits(const struct vdev *vdev, uint64_t offset, uint64_t length)
{
	CHECK(offset % VDEV_SECTOR == 0 && length % VDEV_SECTOR == 0);
	return offset <= vdev->size_bytes && length <= vdev->size_bytes - offset;
}

static bool all_fit(const struct vdev *vdev, const struct vdev_io *ios, unsigned count)
{
	for (unsigned i = 0; i < count; i++) {
		if (!fits(vdev, ios[i].offset, ios[i].length))
			return false;
	}
	return true;
}

static int refuse_all(struct vdev_io *ios, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		ios[i].result = -LCPFS_E_IO;
	return -LCPFS_E_IO;
}

int vdev_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	if (!all_fit(vdev, ios, count))
		return refuse_all(ios, count);
	if (count > 0)
		vdev->ops->submit(vdev, ios, count);
	for (unsigned i = 0; i < count; i++) {
		if (ios[i].result)
			return ios[i].result;
	}
	return 0;
}

int vdev_read(struct vdev *vdev, uint64_t offset, void *buffer, size_t length)
{
	struct vdev_io io = {.op = VDEV_READ, .offset = offset, .buffer = buffer, .length = length};
	return vdev_submit(vdev, &io, 1);
}

int vdev_write(struct vdev *vdev, uint64_t offset, const void *buffer, size_t length)
{
	struct vdev_io io = {.op = VDEV_WRITE, .offset = offset, .buffer = (void *)buffer, .length = length};
	return vdev_submit(vdev, &io, 1);
}

static size_t iov_length(const struct iovec *iov, unsigned count)
{
	size_t length = 0;
	for (unsigned i = 0; i < count; i++)
		length += iov[i].iov_len;
	return length;
}

static int write_copy(struct vdev *vdev, uint64_t offset, const struct iovec *iov, unsigned count, size_t length)
{
	uint8_t *copy = malloc(length), *to = copy;
	if (!copy)
		return -LCPFS_E_NOMEM;
	for (unsigned i = 0; i < count; i++, to += iov[i - 1].iov_len)
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
	int error = vdev_write(vdev, offset, copy, length);
	free(copy);
	return error;
}

int vdev_writev(struct vdev *vdev, uint64_t offset, const struct iovec *iov, unsigned count)
{
	size_t length = iov_length(iov, count);
	CHECK(count <= VDEV_IOV_MAX);
	if (!fits(vdev, offset, length))
		return -LCPFS_E_IO;
	return vdev->ops->writev ? vdev->ops->writev(vdev, offset, iov, count) :
				   write_copy(vdev, offset, iov, count, length);
}

static int submit_direct(struct vdev *vdev, struct vdev_io io)
{
	CHECK((io.offset | io.length | (uintptr_t)io.buffer) % VDEV_DIRECT_ALIGN == 0);
	if (!vdev->ops->direct)
		return vdev_submit(vdev, &io, 1);
	if (!all_fit(vdev, &io, 1))
		return -LCPFS_E_IO;
	vdev->ops->direct(vdev, &io);
	return io.result;
}

int vdev_read_direct(struct vdev *vdev, uint64_t offset, void *buffer, size_t length)
{
	return submit_direct(vdev, (struct vdev_io){VDEV_READ, 0, offset, buffer, length});
}

int vdev_write_direct(struct vdev *vdev, uint64_t offset, const void *buffer, size_t length)
{
	return submit_direct(vdev, (struct vdev_io){VDEV_WRITE, 0, offset, (void *)(uintptr_t)buffer, length});
}

int vdev_flush(struct vdev *vdev)
{
	int error = vdev->ops->flush(vdev);
	if (error)
		atomic_fetch_add(&vdev->flush_failures, 1);
	return error;
}

int vdev_discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	if (!fits(vdev, offset, length))
		return -LCPFS_E_IO;
	return length == 0 ? 0 : vdev->ops->discard(vdev, offset, length);
}

static int write_zeros(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	enum { CHUNK = 1 << 20 };
	void *zeros = calloc(1, CHUNK);
	int error = zeros ? 0 : -LCPFS_E_NOMEM;

	for (uint64_t done = 0; done < length && !error; done += CHUNK)
		error = vdev_write(vdev, offset + done, zeros, (size_t)MIN_OF(length - done, (uint64_t)CHUNK));
	free(zeros);
	return error;
}

int vdev_zero(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	if (!fits(vdev, offset, length))
		return -LCPFS_E_IO;
	if (!length || (vdev->ops->zero && vdev->ops->zero(vdev, offset, length) == 0))
		return 0;
	return write_zeros(vdev, offset, length);
}

int vdev_reserve(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	if (!fits(vdev, offset, length))
		return -LCPFS_E_IO;
	return length == 0 || !vdev_is_sparse(vdev) ? 0 : vdev->ops->reserve(vdev, offset, length, true);
}

void vdev_scattered(struct vdev *vdev, bool is_scattered)
{
	if (vdev->ops->scattered)
		vdev->ops->scattered(vdev, is_scattered);
}

void vdev_hurry(struct vdev *vdev)
{
	if (vdev->ops->hurry)
		vdev->ops->hurry(vdev);
}

void vdev_prepare(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	if (vdev->ops->prepare && fits(vdev, offset, length))
		vdev->ops->prepare(vdev, offset, length);
}

struct fetches *vdev_fetches(struct vdev *vdev)
{
	return vdev->ops->fetches ? vdev->ops->fetches(vdev) : NULL;
}

void vdev_close(struct vdev *vdev)
{
	if (vdev)
		vdev->ops->close(vdev);
}
