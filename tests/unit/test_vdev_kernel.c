/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A vdev on a file whose kernel fails, or does a part of what it is asked for. The system calls are wrapped: see
 * link_args in meson.build.
 */
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/fiemap.h>
#include <linux/fs.h>
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdatomic.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/hash.h"
#include "vdev/backing.h"
#include "vdev/cached.h"
#include "vdev/fetch.h"
#include "vdev/file.h"

enum { SIZE = 1 << 20, PART = 64 << 10, PARTS = 4, PIECE = 4096, PIECES = 128 };
enum piece { HOLE, SHARED, OWN };

static struct {
	int flush_errno;         /* fdatasync fails with it, 0: it works */
	unsigned flushes, drops; /* calls of fdatasync, and of posix_fadvise for all of a file */
	unsigned folder_syncs;
	bool halves;     /* a transfer is half of what it could be */
	bool interrupts; /* and each other one is interrupted */
	unsigned calls;
	int ring_error; /* the ring takes nothing, 0: it works */
	int fetches_begun;
	/* Writes through the cache, and past it: gathered ones, and all of this moment. */
	atomic_uint gathered[2], inside[2];
	atomic_bool met; /* one of each was under way at a time */
	bool refuses_direct;
	atomic_bool holds_direct; /* they do not end */
	unsigned refuses_each;    /* so many direct writes it refuses one; 0: none */
	bool has_map;  /* what lies behind a file is this, and not what the system says */
	enum piece piece[PIECES];
} kernel;

static char folder[64], path[96];

/* -- the kernel -- */

int __real_fdatasync(int fd);
int __wrap_fdatasync(int fd);
int __real_fsync(int fd);
int __wrap_fsync(int fd);
int __real_posix_fadvise64(int fd, off_t offset, off_t length, int advice);
int __wrap_posix_fadvise64(int fd, off_t offset, off_t length, int advice);
ssize_t __real_pread64(int fd, void *buffer, size_t length, off_t offset);
ssize_t __wrap_pread64(int fd, void *buffer, size_t length, off_t offset);
ssize_t __real_pwrite64(int fd, const void *buffer, size_t length, off_t offset);
ssize_t __wrap_pwrite64(int fd, const void *buffer, size_t length, off_t offset);
ssize_t __real_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset);
int __real_io_uring_submit_and_wait(struct io_uring *ring, unsigned count);
int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned count);
int __real_io_uring_submit_and_get_events(struct io_uring *ring);
int __wrap_io_uring_submit_and_get_events(struct io_uring *ring);
int __real_io_uring_submit(struct io_uring *ring);
int __wrap_io_uring_submit(struct io_uring *ring);
int __real_ioctl(int fd, unsigned long request, void *argument);
int __wrap_ioctl(int fd, unsigned long request, void *argument);
int __real_fallocate64(int fd, int mode, off_t offset, off_t length);
int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length);

int __wrap_fdatasync(int fd)
{
	kernel.flushes++;
	if (!kernel.flush_errno)
		return __real_fdatasync(fd);
	errno = kernel.flush_errno;
	return -1;
}

int __wrap_fsync(int fd)
{
	struct stat status;
	kernel.folder_syncs += !fstat(fd, &status) && S_ISDIR(status.st_mode);
	return __real_fsync(fd);
}

int __wrap_posix_fadvise64(int fd, off_t offset, off_t length, int advice)
{
	kernel.drops += !offset && !length && advice == POSIX_FADV_DONTNEED;
	return __real_posix_fadvise64(fd, offset, length, advice);
}

static bool interrupted(void)
{
	errno = EINTR;
	return kernel.interrupts && kernel.calls++ % 2 == 0;
}

static size_t part_of(size_t length)
{
	return kernel.halves && length > 1 ? length / 2 : length;
}

ssize_t __wrap_pread64(int fd, void *buffer, size_t length, off_t offset)
{
	return interrupted() ? -1 : __real_pread64(fd, buffer, part_of(length), offset);
}

static void leave(bool past)
{
	while (past && kernel.holds_direct)
		usleep(1000);
	if (kernel.inside[!past])
		kernel.met = true;
	kernel.inside[past]--;
}

ssize_t __wrap_pwrite64(int fd, const void *buffer, size_t length, off_t offset)
{
	if (interrupted())
		return -1;
	kernel.inside[0]++;
	ssize_t n = __real_pwrite64(fd, buffer, part_of(length), offset);
	leave(false);
	return n;
}

/* The first half of the buffers, and half of the next one. */
ssize_t __wrap_pwritev64(int fd, const struct iovec *iov, int count, off_t offset)
{
	struct iovec part[PARTS];
	bool past = fcntl(fd, F_GETFL) & O_DIRECT;
	unsigned before = kernel.gathered[past]++;
	if (past && (kernel.refuses_direct || (kernel.refuses_each && before % kernel.refuses_each == 0))) {
		errno = EINVAL;
		return -1;
	}
	if (!kernel.halves) {
		kernel.inside[past]++;
		ssize_t n = __real_pwritev64(fd, iov, count, offset);
		leave(past);
		return n;
	}
	memcpy(part, iov, (size_t)count * sizeof(*iov));
	part[count / 2].iov_len /= 2;
	return __real_pwritev64(fd, part, count / 2 + 1, offset);
}

/* What has come is made half of that: what lies behind it in the buffer was never read. */
static void halve_completions(struct io_uring *ring)
{
	unsigned head = *ring->cq.khead, tail = io_uring_smp_load_acquire(ring->cq.ktail);
	for (; head != tail; head++) {
		struct io_uring_cqe *cqe = &ring->cq.cqes[head & *ring->cq.kring_mask];
		struct vdev_io *io = io_uring_cqe_get_data(cqe);
		if (io->op != VDEV_READ || cqe->res != (int)io->length)
			continue;
		cqe->res /= 2;
		memset((uint8_t *)io->buffer + cqe->res, 0xee, io->length - (size_t)cqe->res);
	}
}

int __wrap_io_uring_submit_and_wait(struct io_uring *ring, unsigned count)
{
	int taken = kernel.ring_error ? -kernel.ring_error : __real_io_uring_submit_and_wait(ring, count);
	if (kernel.halves && taken >= 0)
		halve_completions(ring);
	return taken;
}

int __wrap_io_uring_submit_and_get_events(struct io_uring *ring)
{
	int taken = kernel.ring_error ? -kernel.ring_error : __real_io_uring_submit_and_get_events(ring);
	kernel.fetches_begun += MAX_OF(taken, 0);
	return taken;
}

int __wrap_io_uring_submit(struct io_uring *ring)
{
	int taken = kernel.ring_error ? -kernel.ring_error : __real_io_uring_submit(ring);
	kernel.fetches_begun += MAX_OF(taken, 0);
	return taken;
}

/* One extent per piece, as many as are asked for. */
int __wrap_ioctl(int fd, unsigned long request, void *argument)
{
	struct fiemap *map = argument;
	if (!kernel.has_map || request != FS_IOC_FIEMAP)
		return __real_ioctl(fd, request, argument);
	map->fm_mapped_extents = 0;
	for (uint64_t i = map->fm_start / PIECE; i < PIECES && i * PIECE < map->fm_start + map->fm_length; i++) {
		if (kernel.piece[i] == HOLE || map->fm_mapped_extents == map->fm_extent_count)
			continue;
		map->fm_extents[map->fm_mapped_extents++] = (struct fiemap_extent){
			.fe_logical = i * PIECE,
			.fe_length = PIECE,
			.fe_flags = kernel.piece[i] == SHARED ? FIEMAP_EXTENT_SHARED : 0};
	}
	return 0;
}

int __wrap_fallocate64(int fd, int mode, off_t offset, off_t length)
{
	if (!kernel.has_map)
		return __real_fallocate64(fd, mode, offset, length);
	for (off_t i = offset / PIECE; i * PIECE < offset + length; i++) {
		assert_true(mode || kernel.piece[i] == HOLE); /* XFS would want space for what is there, too */
		if (kernel.piece[i] == HOLE || mode == FALLOC_FL_UNSHARE_RANGE)
			kernel.piece[i] = OWN;
	}
	return 0;
}

/* -- a file -- */

static int set_up(void **state)
{
	(void)state;
	memset(&kernel, 0, sizeof(kernel));
	strcpy(folder, "/tmp/lcpfs-test-XXXXXX");
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/pool", folder);
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	unlink(path);
	rmdir(folder);
	return 0;
}

static struct vdev *open_file(unsigned flags)
{
	struct vdev *vdev = NULL;
	assert_int_equal(vdev_file_open(path, VDEV_OPEN_CREATE | flags, SIZE, &vdev, NULL), 0);
	return vdev;
}

static void fill(uint8_t *bytes, uint64_t seed)
{
	for (size_t i = 0; i < (size_t)PARTS * PART; i++)
		bytes[i] = (uint8_t)(hash_mix(seed + i / 8) >> i % 8);
}

/* Both in one batch of PARTS operations. */
static void transfer(struct vdev *vdev, enum vdev_op op, uint8_t *bytes)
{
	struct vdev_io ios[PARTS];
	for (unsigned i = 0; i < PARTS; i++)
		ios[i] = (struct vdev_io){.op = op,
					  .offset = (uint64_t)i * PART,
					  .buffer = bytes + (size_t)i * PART,
					  .length = PART};
	assert_int_equal(vdev_submit(vdev, ios, PARTS), 0);
}

/* What `vdev` writes and reads while the kernel is as it is now, and what lies there in fact. */
static void expect_all_to_arrive(struct vdev *vdev)
{
	static uint8_t wrote[PARTS * PART], read[PARTS * PART];
	int fd = vdev_file_descriptor(vdev);
	fill(wrote, 1);
	transfer(vdev, VDEV_WRITE, wrote);
	assert_int_equal(__real_pread64(fd, read, sizeof(read), 0), sizeof(read));
	assert_memory_equal(read, wrote, sizeof(read));
	memset(read, 0, sizeof(read));
	transfer(vdev, VDEV_READ, read);
	assert_memory_equal(read, wrote, sizeof(read));
}

/* -- flushing -- */

static void every_flush_asks_the_kernel(void **state)
{
	struct vdev *vdev = open_file(0);
	(void)state;
	for (unsigned i = 1; i <= 3; i++) {
		unsigned before = kernel.flushes;
		assert_int_equal(vdev_flush(vdev), 0);
		assert_int_equal(kernel.flushes, before + 1);
	}
	assert_int_equal(atomic_load(&vdev->flush_failures), 0);
	vdev_close(vdev);
}

/* To the one who asked, and to all others by the count; what the cache still has is not what the device has. */
static void a_flush_that_fails_is_told(void **state)
{
	struct vdev *vdev = open_file(0);
	(void)state;
	kernel.flush_errno = EIO;
	assert_int_equal(vdev_flush(vdev), -LCPFS_E_IO);
	assert_int_equal(atomic_load(&vdev->flush_failures), 1);
	assert_int_equal(kernel.drops, 1);
	kernel.flush_errno = ENOSPC;
	assert_int_equal(vdev_flush(vdev), -LCPFS_E_DEVICE_FULL);
	assert_int_equal(atomic_load(&vdev->flush_failures), 2);
	kernel.flush_errno = 0;
	assert_int_equal(vdev_flush(vdev), 0);
	vdev_close(vdev);
}

static void a_new_file_is_durable_in_its_folder(void **state)
{
	struct vdev *vdev = open_file(0);
	(void)state;
	assert_int_equal(kernel.folder_syncs, 1);
	vdev_close(vdev);
	vdev = open_file(0);
	assert_int_equal(kernel.folder_syncs, 1); /* it is there already */
	vdev_close(vdev);
}

/* -- parts -- */

static void what_is_left_of_a_transfer_is_done(void **state)
{
	struct vdev *vdev = open_file(VDEV_OPEN_NO_URING);
	(void)state;
	kernel.halves = kernel.interrupts = true;
	expect_all_to_arrive(vdev);
	assert_true(kernel.calls > 2 * PARTS); /* else they have other names here */
	vdev_close(vdev);
}

static void what_is_left_of_a_gathered_write_is_done(void **state)
{
	static uint8_t wrote[PARTS * PART], read[PARTS * PART];
	struct vdev *vdev = open_file(0);
	struct iovec iov[PARTS];
	(void)state;
	fill(wrote, 2);
	for (unsigned i = 0; i < PARTS; i++)
		iov[i] = (struct iovec){wrote + (size_t)i * PART, PART};
	kernel.halves = true;
	assert_int_equal(vdev_writev(vdev, PART, iov, PARTS), 0);
	assert_int_equal(__real_pread64(vdev_file_descriptor(vdev), read, sizeof(read), PART), sizeof(read));
	assert_memory_equal(read, wrote, sizeof(read));
	vdev_close(vdev);
}

/* What a ring leaves of reads that must not wait is left to others. */
static void expect_nobody_to_wait(struct vdev *vdev)
{
	uint8_t bytes[PARTS][PIECE];
	struct vdev_io ios[PARTS];
	for (unsigned i = 0; i < PARTS; i++)
		ios[i] = (struct vdev_io){VDEV_READ, 1, i * PIECE, bytes[i], PIECE, true};
	assert_int_equal(vdev_submit(vdev, ios, PARTS), -LCPFS_E_AGAIN);
	for (unsigned i = 0; i < PARTS; i++)
		assert_int_equal(ios[i].result, -LCPFS_E_AGAIN);
}

static void what_is_left_by_a_ring_is_done(void **state)
{
	struct vdev *vdev = open_file(0);
	(void)state;
	kernel.halves = true;
	expect_all_to_arrive(vdev);
	kernel.halves = false;
	kernel.ring_error = EBUSY;
	expect_all_to_arrive(vdev);
	expect_nobody_to_wait(vdev);
	kernel.ring_error = 0;
	kernel.halves = true;
	expect_nobody_to_wait(vdev);
	vdev_close(vdev);
}

/* Nothing is lost: they are begun when it is asked again. */
static void a_ring_that_takes_no_fetches_is_asked_again(void **state)
{
	struct vdev *vdev = open_file(0);
	struct fetches *fetches = vdev_fetches(vdev);
	uint8_t bytes[PIECE];
	(void)state;
	for (unsigned i = 0; fetches && i < 2; i++) {
		kernel.ring_error = EBUSY;
		assert_true(fetches_begin(fetches, 0, bytes, sizeof(bytes), false, bytes));
		assert_false(fetches_submit(fetches));
		assert_null(fetches_next(fetches));
		kernel.ring_error = 0;
		void *cookie = NULL;
		while (!cookie) {
			assert_true(fetches_submit(fetches));
			cookie = fetches_next(fetches);
		}
		assert_ptr_equal(cookie, bytes);
	}
	fetches_free(fetches);
	vdev_close(vdev);
}

static void begin_fetches(struct fetches *fetches, unsigned count, int begun)
{
	static uint8_t bytes[16];
	for (unsigned i = 0; i < count; i++)
		assert_true(fetches_begin(fetches, 0, bytes + i, 1, false, bytes));
	assert_true(fetches_submit(fetches));
	assert_int_equal(kernel.fetches_begun, begun);
}

static void end_fetches(struct fetches *fetches, int pipe_end, unsigned count, int begun)
{
	uint8_t bytes[16] = {0};
	assert_int_equal(write(pipe_end, bytes, count), count);
	for (unsigned n = 0; n < count;) {
		(void)fetches_submit(fetches);
		while (fetches_next(fetches))
			n++;
	}
	assert_int_equal(kernel.fetches_begun, begun);
}

/* Reads of a pipe, which end when they are told to. */
static void what_ends_together_keeps_some_of_the_next(void **state)
{
	struct cached cached = {0};
	int ends[2];
	(void)state;
	assert_int_equal(pipe(ends), 0);
	cached.fd = ends[0];
	struct fetches *fetches = fetches_new(&cached, -1);
	if (!fetches)
		skip();
	kernel.fetches_begun = 0;
	begin_fetches(fetches, 8, 8);
	end_fetches(fetches, ends[1], 8, 8);
	begin_fetches(fetches, 6, 14);
	begin_fetches(fetches, 2, 14); /* a quarter */
	begin_fetches(fetches, 1, 17); /* more than that */
	begin_fetches(fetches, 3, 17);
	end_fetches(fetches, ends[1], 5, 20); /* they follow at once, and not all has ended */
	begin_fetches(fetches, 1, 21);
	end_fetches(fetches, ends[1], 8, 21);
	fetches_free(fetches);
	close(ends[0]);
	close(ends[1]);
}

/* Whatever lies behind a range: it is all its own afterwards, and nothing else has changed. */
static void what_is_taken_has_a_place_of_its_own(void **state)
{
	enum piece before[PIECES];
	bool took;
	(void)state;
	kernel.has_map = true;
	for (uint64_t seed = 1; seed <= 300; seed++) {
		uint64_t from = hash_mix(seed) % PIECES, to = from + 1 + hash_mix(seed * 77) % (PIECES - from);
		bool all = true;
		for (uint64_t i = 0; i < PIECES; i++) {
			before[i] = kernel.piece[i] = (enum piece)(hash_mix(seed * 1000 + i) >> seed % 7) % 3;
			all &= i < from || i >= to || before[i] == OWN;
		}
		assert_int_equal(backing_take(0, from * PIECE, (to - from) * PIECE, false, &took),
				 all ? 0 : -LCPFS_E_DEVICE_FULL);
		assert_memory_equal(kernel.piece, before, sizeof(before));
		assert_int_equal(backing_take(0, from * PIECE, (to - from) * PIECE, true, &took), 0);
		for (uint64_t i = 0; i < PIECES; i++)
			assert_int_equal(kernel.piece[i], i >= from && i < to ? OWN : before[i]);
	}
	kernel.has_map = false;
}

/* -- the two ways of a gathered write -- */

/* How many of the writes since the last call went past the cache; *through: and how many did not. */
static unsigned went_past(unsigned *through)
{
	*through = atomic_exchange(&kernel.gathered[0], 0);
	return atomic_exchange(&kernel.gathered[1], 0);
}

static void gather(struct vdev *vdev, uint8_t *from, uint64_t offset)
{
	uint8_t read[2 * PIECE];
	struct iovec iov[2] = {{from, PIECE}, {from + PIECE, PIECE}};
	assert_int_equal(vdev_writev(vdev, offset, iov, 2), 0);
	assert_int_equal(__real_pread64(vdev_file_descriptor(vdev), read, sizeof(read), (off_t)offset),
			 sizeof(read));
	assert_memory_equal(read, from, sizeof(read));
}

static bool has_direct(void)
{
	int fd = open(path, O_RDONLY | O_DIRECT);
	if (fd >= 0)
		close(fd);
	return fd >= 0;
}

static void writes_go_past_the_cache_while_flushes_are_waited_for(void **state)
{
	static _Alignas(PIECE) uint8_t bytes[PARTS * PART];
	struct vdev *vdev = open_file(0);
	unsigned through;
	(void)state;
	if (!has_direct())
		skip();
	fill(bytes, 4);
	(void)went_past(&through);
	gather(vdev, bytes, 0);
	assert_int_equal(went_past(&through), 0);
	vdev_hurry(vdev);
	gather(vdev, bytes, 0);
	assert_int_equal(went_past(&through), 0); /* one flush says nothing of another */
	vdev_hurry(vdev);
	gather(vdev, bytes + PIECE, 0);
	gather(vdev, bytes, PIECE); /* beside what the cache has */
	assert_int_equal(went_past(&through), 2);
	gather(vdev, bytes + 512, 4 * PIECE); /* not as it would have to lie in memory */
	gather(vdev, bytes, 512);             /* nor on the device */
	assert_int_equal(went_past(&through), 0);
	kernel.refuses_direct = true;
	gather(vdev, bytes, 2 * PIECE);
	kernel.refuses_direct = false;
	for (unsigned i = 0; i < (4 << 20) / (2 * PIECE); i++)
		gather(vdev, bytes, 3 * PIECE);
	assert_true(went_past(&through) > 0);
	(void)went_past(&through);
	gather(vdev, bytes, 0);
	assert_int_equal(went_past(&through), 0); /* nobody waits any more */
	vdev_close(vdev);
}

enum { WRITERS = 4, WRITES = 300 };

struct writer {
	struct vdev *vdev;
	unsigned number;
};

static void *write_on(void *context)
{
	const struct writer *w = context;
	_Alignas(PIECE) uint8_t bytes[PIECE];
	struct iovec iov = {bytes, PIECE};
	memset(bytes, (int)w->number, sizeof(bytes));
	for (unsigned i = 0; i < WRITES; i++) {
		if (i % 16 == w->number)
			vdev_hurry(w->vdev);
		/* Every other one of its own, side by side with those of others. */
		assert_int_equal(vdev_writev(w->vdev, ((i % 8) * WRITERS + w->number) * PIECE, &iov, 1), 0);
		if (i % 4 == 0) /* as roots and mended blocks are: through the cache always */
			assert_int_equal(vdev_write(w->vdev, (uint64_t)w->number * PIECE, bytes, PIECE), 0);
		if (i % 16 == 8 + w->number) { /* until nobody hurries */
			static uint8_t much[SIZE];
			struct iovec long_one = {much + 1, SIZE / 2};
			for (unsigned n = 0; n < 8; n++)
				assert_int_equal(vdev_writev(w->vdev, SIZE / 2, &long_one, 1), 0);
		}
	}
	return NULL;
}

static void one_way_waits_for_the_other(void **state)
{
	struct vdev *vdev = open_file(0);
	struct writer writer[WRITERS];
	pthread_t thread[WRITERS];
	unsigned through;
	(void)state;
	if (!has_direct())
		skip();
	(void)went_past(&through);
	kernel.met = false;
	kernel.refuses_each = 5;
	for (unsigned i = 0; i < WRITERS; i++) {
		writer[i] = (struct writer){vdev, i};
		assert_int_equal(pthread_create(&thread[i], NULL, write_on, &writer[i]), 0);
	}
	for (unsigned i = 0; i < WRITERS; i++)
		pthread_join(thread[i], NULL);
	assert_true(went_past(&through) > 0 && through > 0);
	assert_false(kernel.met);
	vdev_close(vdev);
}

static void *write_past(void *vdev)
{
	_Alignas(PIECE) static uint8_t bytes[PIECE];
	struct iovec iov = {bytes, PIECE};
	assert_int_equal(vdev_writev(vdev, 0, &iov, 1), 0);
	return NULL;
}

static void *write_through(void *vdev)
{
	uint8_t bytes[PIECE] = {0};
	assert_int_equal(vdev_write(vdev, PIECE, bytes, PIECE), 0);
	return NULL;
}

/* However many come of those who need not wait. */
static void who_waits_for_the_other_way_is_not_overtaken(void **state)
{
	void *(*const run[])(void *) = {write_past, write_through, write_past};
	struct vdev *vdev = open_file(0);
	pthread_t thread[3];
	unsigned through;
	(void)state;
	if (!has_direct())
		skip();
	vdev_hurry(vdev);
	vdev_hurry(vdev);
	(void)went_past(&through);
	kernel.holds_direct = true;
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(pthread_create(&thread[i], NULL, run[i], vdev), 0);
		usleep(200 * 1000); /* it comes as far as it gets */
	}
	unsigned past = went_past(&through);
	kernel.holds_direct = false;
	for (unsigned i = 0; i < 3; i++)
		pthread_join(thread[i], NULL);
	assert_int_equal(past, 1);
	assert_false(kernel.met);
	vdev_close(vdev);
}

#define FILE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

int main(void)
{
	const struct CMUnitTest tests[] = {
		FILE_TEST(every_flush_asks_the_kernel),
		FILE_TEST(a_flush_that_fails_is_told),
		FILE_TEST(a_new_file_is_durable_in_its_folder),
		FILE_TEST(what_is_left_of_a_transfer_is_done),
		FILE_TEST(what_is_left_of_a_gathered_write_is_done),
		FILE_TEST(writes_go_past_the_cache_while_flushes_are_waited_for),
		FILE_TEST(one_way_waits_for_the_other),
		FILE_TEST(who_waits_for_the_other_way_is_not_overtaken),
		FILE_TEST(what_is_left_by_a_ring_is_done),
		FILE_TEST(a_ring_that_takes_no_fetches_is_asked_again),
		FILE_TEST(what_ends_together_keeps_some_of_the_next),
		FILE_TEST(what_is_taken_has_a_place_of_its_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
