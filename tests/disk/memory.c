/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/disk/memory.h"

#include <stdlib.h>
#include <string.h>
#include <sys/mman.h>

struct memory {
	struct vdev vdev;
	uint8_t *bytes;
};

enum { PAGE_BYTES = 4096 };

static void memory_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	struct memory *memory = (struct memory *)vdev;
	for (struct vdev_io *io = ios; io < ios + count; io++) {
		if (io->op == VDEV_READ)
			memcpy(io->buffer, memory->bytes + io->offset, io->length);
		else
			memcpy(memory->bytes + io->offset, io->buffer, io->length);
		io->result = 0;
	}
}

static int memory_writev(struct vdev *vdev, uint64_t offset, const struct iovec *iov, unsigned count)
{
	uint8_t *to = ((struct memory *)vdev)->bytes + offset;
	for (unsigned i = 0; i < count; to += iov[i++].iov_len)
		memcpy(to, iov[i].iov_base, iov[i].iov_len);
	return 0;
}

static int memory_flush(struct vdev *vdev)
{
	(void)vdev;
	return 0;
}

/* Whole pages only: advisory, and it keeps the mapping sparse. */
static int memory_discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct memory *memory = (struct memory *)vdev;
	uint64_t start = DIV_UP(offset, (uint64_t)PAGE_BYTES) * PAGE_BYTES;
	uint64_t end = (offset + length) / PAGE_BYTES * PAGE_BYTES;
	if (start < end)
		madvise(memory->bytes + start, end - start, MADV_DONTNEED);
	return 0;
}

static void memory_close(struct vdev *vdev)
{
	struct memory *memory = (struct memory *)vdev;
	munmap(memory->bytes, MAX_OF(vdev->size_bytes, 1));
	free(memory);
}

static const struct vdev_ops memory_ops = {memory_submit, memory_flush, memory_discard, memory_close,
					   .writev = memory_writev};

struct vdev *vdev_memory_new(uint64_t size_bytes)
{
	struct memory *memory = calloc(1, sizeof(*memory));
	int flags = MAP_PRIVATE | MAP_ANONYMOUS | MAP_NORESERVE;
	if (!memory)
		return NULL;
	memory->vdev = (struct vdev){.ops = &memory_ops, .size_bytes = size_bytes, .name = "memory"};
	memory->bytes = mmap(NULL, MAX_OF(size_bytes, 1), PROT_READ | PROT_WRITE, flags, -1, 0);
	if (memory->bytes == MAP_FAILED) {
		free(memory);
		return NULL;
	}
	return &memory->vdev;
}
