/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A batch keeps up to DEPTH operations in the kernel. Whatever the ring does not finish in one go (short
 * transfers, EINTR, EAGAIN, a ring that refuses to submit) is finished by plain system calls: rare, and one place
 * to get right.
 *
 * Lock: `lock` guards the free list only; no I/O happens under it.
 */
#include "vdev/uring.h"

#include <errno.h>
#include <liburing.h>
#include <pthread.h>
#include <stdatomic.h>
#include <stdlib.h>

enum {
	DEPTH = 64,              /* enough for an NVMe queue per batch; a ring costs about 20 KiB */
	FREE_RINGS_MAX = 16,     /* beyond that many idle ones, a ring is torn down */
	PIECE_BYTES_MAX = 1 << 30, /* a submission's length has 32 bits */
};

struct ring {
	struct ring *next;
	struct io_uring uring;
	unsigned queued;    /* prepared, not yet taken by the kernel */
	unsigned in_kernel; /* taken, not yet completed */
};

struct uring_list {
	pthread_mutex_t lock;
	struct ring *free;
	unsigned free_count;
	atomic_bool unavailable;
	uring_plain plain;
};

struct uring_list *uring_list_new(uring_plain plain)
{
	struct uring_list *list = calloc(1, sizeof(*list));
	if (!list)
		return NULL;
	pthread_mutex_init(&list->lock, NULL);
	list->plain = plain;
	return list;
}

static void ring_free(struct ring *ring)
{
	io_uring_queue_exit(&ring->uring);
	free(ring);
}

void uring_list_free(struct uring_list *list)
{
	if (!list)
		return;
	while (list->free) {
		struct ring *ring = list->free;
		list->free = ring->next;
		ring_free(ring);
	}
	pthread_mutex_destroy(&list->lock);
	free(list);
}

/* Kernels before 5.6 have rings, but not the operations used here. */
static bool has_operations(struct io_uring *uring)
{
	struct io_uring_probe *probe = io_uring_get_probe_ring(uring);
	bool has = probe && io_uring_opcode_supported(probe, IORING_OP_READ) &&
		   io_uring_opcode_supported(probe, IORING_OP_WRITE);
	io_uring_free_probe(probe);
	return has;
}

static struct ring *ring_new(struct uring_list *list)
{
	struct ring *ring = calloc(1, sizeof(*ring));
	if (!ring)
		return NULL;
	int error = io_uring_queue_init(DEPTH, &ring->uring, 0);
	if (error) {
		/* Out of locked memory or descriptors may pass; the rest will not. */
		if (error != -ENOMEM && error != -EMFILE && error != -ENFILE && error != -EAGAIN)
			atomic_store(&list->unavailable, true);
		free(ring);
		return NULL;
	}
	if (!has_operations(&ring->uring)) {
		atomic_store(&list->unavailable, true);
		ring_free(ring);
		return NULL;
	}
	return ring;
}

static struct ring *take_ring(struct uring_list *list)
{
	if (atomic_load(&list->unavailable))
		return NULL;
	pthread_mutex_lock(&list->lock);
	struct ring *ring = list->free;
	if (ring) {
		list->free = ring->next;
		list->free_count--;
	}
	pthread_mutex_unlock(&list->lock);
	return ring ? ring : ring_new(list);
}

static void give_ring(struct uring_list *list, struct ring *ring)
{
	pthread_mutex_lock(&list->lock);
	if (list->free_count < FREE_RINGS_MAX) {
		ring->next = list->free;
		list->free = ring;
		list->free_count++;
		ring = NULL;
	}
	pthread_mutex_unlock(&list->lock);
	if (ring)
		ring_free(ring);
}

static bool queue(struct ring *ring, int fd, struct vdev_io *io)
{
	unsigned length = (unsigned)MIN_OF(io->length, (size_t)PIECE_BYTES_MAX);
	if (ring->queued + ring->in_kernel == DEPTH)
		return false;
	struct io_uring_sqe *sqe = io_uring_get_sqe(&ring->uring);
	if (!sqe)
		return false;
	if (io->op == VDEV_READ)
		io_uring_prep_read(sqe, fd, io->buffer, length, io->offset);
	else
		io_uring_prep_write(sqe, fd, io->buffer, length, io->offset);
	sqe->rw_flags = io->no_wait ? RWF_NOWAIT : 0;
	io_uring_sqe_set_data(sqe, io);
	ring->queued++;
	return true;
}

static void complete(struct uring_list *list, int fd, struct vdev_io *io, int transferred)
{
	if (transferred >= 0 && (size_t)transferred == io->length)
		io->result = 0;
	else if (io->no_wait)
		io->result = -LCPFS_E_AGAIN;
	else if (transferred >= 0)
		list->plain(fd, io, (size_t)transferred);
	else if (transferred == -EINTR || transferred == -EAGAIN)
		list->plain(fd, io, 0);
	else
		io->result = -(int)error_from_errno(-transferred);
}

static void reap(struct uring_list *list, struct ring *ring, int fd)
{
	struct io_uring_cqe *cqe;
	while (io_uring_peek_cqe(&ring->uring, &cqe) == 0) {
		struct vdev_io *io = io_uring_cqe_get_data(cqe);
		int transferred = cqe->res;
		ring->in_kernel--;
		io_uring_cqe_seen(&ring->uring, cqe);
		complete(list, fd, io, transferred);
	}
}

/* Hands the queued operations to the kernel and waits for a completion. False: it takes none and owns none. */
static bool submit_and_wait(struct ring *ring)
{
	int taken = io_uring_submit_and_wait(&ring->uring, 1);
	if (taken >= 0) {
		ring->queued -= (unsigned)taken;
		ring->in_kernel += (unsigned)taken;
		return true;
	}
	if (taken == -EINTR)
		return true;
	if (ring->in_kernel == 0)
		return false;
	/* It is short of memory or of completion room: one that ends makes some. */
	io_uring_wait_cqe(&ring->uring, &(struct io_uring_cqe *){NULL});
	return true;
}

/* Returns false when the ring is of no further use. */
static bool run(struct uring_list *list, struct ring *ring, int fd, struct vdev_io *ios, unsigned count)
{
	unsigned next = 0;
	while (next < count || ring->queued || ring->in_kernel) {
		while (next < count && queue(ring, fd, &ios[next]))
			next++;
		if (!submit_and_wait(ring)) {
			/* Taken in order, so those that the kernel left are the last ones queued. */
			for (next -= ring->queued; next < count; next++)
				complete(list, fd, &ios[next], -EAGAIN);
			return false;
		}
		reap(list, ring, fd);
	}
	return true;
}

bool uring_submit(struct uring_list *list, int fd, struct vdev_io *ios, unsigned count)
{
	struct ring *ring = take_ring(list);
	if (!ring)
		return false;
	if (run(list, ring, fd, ios, count))
		give_ring(list, ring);
	else
		ring_free(ring);
	return true;
}
