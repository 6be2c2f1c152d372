/* SPDX-License-Identifier: Apache-2.0 */
#include "vdev/fetch.h"

#include <liburing.h>
#include <stdlib.h>
#include <sys/eventfd.h>
#include <unistd.h>

#include "vdev/cached.h"

enum {
	FETCHES_MAX = 256,
	/*
	 * Past the cache so many wait for each other, and not for all that a thread finds to do; and no more than
	 * are under way, so that a device which has nothing to do gets the first one at once.
	 */
	TOGETHER = 8,
	/*
	 * Some devices report reads when all that they were given are done, and then have nothing to do until what
	 * was read is answered and asked anew. Such a one gets this part of what is there (1/4) only then, at
	 * once.
	 */
	KEPT_PART = 4,
	ALL_LEAST = 4, /* so many that ended together are no chance */
};

struct fetches {
	struct io_uring ring;
	const struct cached *cached;
	int direct_fd, event_fd;
	unsigned running;
	bool keeps; /* when it was last told of some, these were all that had been under way */
};

/* Newer kernels leave what there is to do at a completion to the thread, when it asks: it is interrupted less. */
static int open_ring(struct io_uring *ring)
{
	static const unsigned flags[] = {IORING_SETUP_SINGLE_ISSUER | IORING_SETUP_DEFER_TASKRUN,
					 IORING_SETUP_COOP_TASKRUN, 0};
	int error = -1;
	for (unsigned i = 0; i < sizeof(flags) / sizeof(flags[0]) && error; i++)
		error = io_uring_queue_init(FETCHES_MAX, ring, flags[i]);
	return error;
}

struct fetches *fetches_new(const struct cached *cached, int direct_fd)
{
	struct fetches *f = calloc(1, sizeof(*f));
	if (!f)
		return NULL;
	f->cached = cached;
	f->direct_fd = direct_fd;
	f->event_fd = eventfd(0, EFD_CLOEXEC | EFD_NONBLOCK);
	if (f->event_fd >= 0 && !open_ring(&f->ring)) {
		if (!io_uring_register_eventfd(&f->ring, f->event_fd))
			return f;
		io_uring_queue_exit(&f->ring);
	}
	if (f->event_fd >= 0)
		close(f->event_fd);
	free(f);
	return NULL;
}

int fetches_event(const struct fetches *f)
{
	return f->event_fd;
}

bool fetches_may_pass(const struct fetches *f)
{
	return f->direct_fd >= 0 && cached_is_cold(f->cached) && !atomic_load(&f->cached->writes);
}

/* Direct transfers want their memory and their place aligned. */
static bool can_go_past(const struct fetches *f, uint64_t offset, const void *buffer, size_t length)
{
	return f->direct_fd >= 0 && (offset | (uintptr_t)buffer | length) % VDEV_DIRECT_ALIGN == 0;
}

/* May those that are not submitted yet wait until some of the others have ended? */
static bool may_keep(const struct fetches *f)
{
	return f->keeps && io_uring_sq_ready(&f->ring) * KEPT_PART <= f->running;
}

bool fetches_begin(struct fetches *f, uint64_t offset, void *buffer, size_t length, bool past, void *cookie)
{
	struct io_uring_sqe *sqe = f->running < FETCHES_MAX ? io_uring_get_sqe(&f->ring) : NULL;
	if (!sqe)
		return false;
	past = past && can_go_past(f, offset, buffer, length);
	io_uring_prep_read(sqe, past ? f->direct_fd : f->cached->fd, buffer, (unsigned)length, offset);
	io_uring_sqe_set_data(sqe, cookie);
	f->running++;
	unsigned ready = io_uring_sq_ready(&f->ring), under_way = f->running - ready;
	if (past && !may_keep(f) && ready >= MIN_OF(MAX_OF(under_way, 1u), (unsigned)TOGETHER))
		io_uring_submit(&f->ring); /* what it does not take is left to fetches_submit */
	return true;
}

bool fetches_submit(struct fetches *f)
{
	if (!f->running)
		return true;
	if (may_keep(f))
		io_uring_get_events(&f->ring);
	else
		io_uring_submit_and_get_events(&f->ring);
	unsigned kept = io_uring_sq_ready(&f->ring), ended = io_uring_cq_ready(&f->ring);
	if (ended) {
		f->keeps = ended >= ALL_LEAST && ended + kept == f->running;
		if (kept)
			io_uring_submit(&f->ring);
	}
	return may_keep(f) || !io_uring_sq_ready(&f->ring);
}

void *fetches_next(struct fetches *f)
{
	struct io_uring_cqe *cqe;
	if (!f->running || io_uring_peek_cqe(&f->ring, &cqe))
		return NULL;
	void *cookie = io_uring_cqe_get_data(cqe);
	io_uring_cqe_seen(&f->ring, cqe);
	f->running--;
	return cookie;
}

void fetches_free(struct fetches *f)
{
	if (!f)
		return;
	io_uring_queue_exit(&f->ring);
	close(f->event_fd);
	free(f);
}
