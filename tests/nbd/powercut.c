/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A page cache that can lose its power, under a real program: to be preloaded. It writes down what happens to
 * one file, so that what a power cut leaves of it can be made up afterwards: powercut.py does so.
 *
 * The file is whatever has the device and inode of POWERCUT_FILE, by any descriptor. Each write, discard and
 * flush of it gets an entry in POWERCUT_LOG when it begins and one when it is done. The log's order is that in
 * which these things happened, since each entry is one write to a file that is appended to; killing the
 * process loses nothing of it. What the program writes goes to the file as well, so it reads what it wrote. A
 * flush goes no further than to the log: what is durable is for powercut.py to say.
 *
 * POWERCUT_DELAY_US: each write and each flush takes up to so long. POWERCUT_FAIL_FLUSH: the n-th flush after
 * the file POWERCUT_ARMED is there fails, and what it should have covered is lost, as Linux does.
 * POWERCUT_FAIL_WRITE: the n-th write. POWERCUT_NO_URING: there are no rings.
 */
#include <dlfcn.h>
#include <errno.h>
#include <fcntl.h>
#include <liburing.h>
#include <linux/falloc.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdint.h>
#include <stdlib.h>
#include <sys/stat.h>
#include <sys/uio.h>
#include <unistd.h>

enum kind { WRITE = 1, WRITTEN, DISCARD, DISCARDED, FLUSH, FLUSHED, FAILED };
enum { PARTS_MAX = 1023, RING_MAX = 64 };

struct entry { /* little-endian machines only, as are the tests that read it */
	uint32_t magic, kind;
	uint64_t number; /* of the operation: its two entries have the same */
	uint64_t offset, length;
};

static struct {
	dev_t device;
	ino_t inode;
	int log;
	const char *armed;
	unsigned delay_us;
	bool no_uring;
	atomic_long until_flush_fails, until_write_fails;
	atomic_ullong operations;
} cut = {.log = -1};

static long number_in(const char *name)
{
	const char *text = getenv(name);
	return text ? atol(text) : 0;
}

__attribute__((constructor)) static void begin(void)
{
	const char *path = getenv("POWERCUT_FILE"), *log = getenv("POWERCUT_LOG");
	struct stat status;
	if (!path || !log || stat(path, &status))
		return;
	cut.device = status.st_dev;
	cut.inode = status.st_ino;
	cut.delay_us = (unsigned)number_in("POWERCUT_DELAY_US");
	cut.armed = getenv("POWERCUT_ARMED");
	cut.no_uring = number_in("POWERCUT_NO_URING");
	atomic_store(&cut.until_flush_fails, number_in("POWERCUT_FAIL_FLUSH"));
	atomic_store(&cut.until_write_fails, number_in("POWERCUT_FAIL_WRITE"));
	cut.log = fcntl(open(log, O_WRONLY | O_APPEND | O_CREAT | O_CLOEXEC, 0600), F_DUPFD_CLOEXEC, 100);
	if (cut.log < 0)
		abort();
}

static bool is_ours(int fd)
{
	struct stat status;
	return cut.log >= 0 && fstat(fd, &status) == 0 && status.st_dev == cut.device &&
	       status.st_ino == cut.inode;
}

/* What follows an entry of kind WRITE is the data. */
static void note(enum kind kind, uint64_t number, uint64_t offset, const struct iovec *data, int count)
{
	struct entry entry = {0x7463u, kind, number, offset, 0};
	struct iovec list[PARTS_MAX + 1] = {{&entry, sizeof(entry)}};
	size_t whole = sizeof(entry);
	if (count > PARTS_MAX)
		abort();
	for (int i = 0; i < count; i++) {
		list[i + 1] = data[i];
		entry.length += data[i].iov_len;
	}
	whole += entry.length;
	if (writev(cut.log, list, count + 1) != (ssize_t)whole)
		abort();
}

static void note_range(enum kind kind, uint64_t number, uint64_t offset, uint64_t length)
{
	struct entry entry = {0x7463u, kind, number, offset, length};
	if (write(cut.log, &entry, sizeof(entry)) != sizeof(entry))
		abort();
}

static uint64_t new_number(void)
{
	return atomic_fetch_add(&cut.operations, 1) + 1;
}

static void take_time(uint64_t number)
{
	uint64_t mixed = number * UINT64_C(0x9e3779b97f4a7c15);
	if (cut.delay_us)
		usleep((useconds_t)((mixed >> 32) % (cut.delay_us + 1)));
}

static bool fails_now(atomic_long *until)
{
	bool armed = atomic_load(until) > 0 && cut.armed && access(cut.armed, F_OK) == 0;
	return armed && atomic_fetch_sub(until, 1) == 1;
}

#define REAL(function) ((__typeof__(&function))dlsym(RTLD_NEXT, #function))

/* -- writes -- */

static ssize_t write_noted(int fd, const struct iovec *data, int count, off64_t offset)
{
	static __typeof__(&pwritev64) real;

	if (!real)
		real = REAL(pwritev64);
	if (!is_ours(fd))
		return real(fd, data, count, offset);
	uint64_t number = new_number();
	if (fails_now(&cut.until_write_fails)) {
		errno = EIO;
		return -1;
	}
	note(WRITE, number, (uint64_t)offset, data, count);
	take_time(number);
	ssize_t done = real(fd, data, count, offset);
	if (done >= 0)
		note_range(WRITTEN, number, (uint64_t)offset, (uint64_t)done);
	return done;
}

ssize_t pwritev64(int fd, const struct iovec *data, int count, off64_t offset)
{
	return write_noted(fd, data, count, offset);
}

ssize_t pwrite64(int fd, const void *data, size_t length, off64_t offset)
{
	struct iovec part = {(void *)data, length};
	return write_noted(fd, &part, 1, offset);
}

/* -- flushes -- */

static int flush_noted(int fd, int (*real)(int fd))
{
	if (!is_ours(fd))
		return real(fd);
	uint64_t number = new_number();
	note_range(FLUSH, number, 0, 0);
	take_time(number);
	if (fails_now(&cut.until_flush_fails)) {
		note_range(FAILED, number, 0, 0);
		errno = EIO;
		return -1;
	}
	note_range(FLUSHED, number, 0, 0);
	return 0;
}

int fdatasync(int fd)
{
	return flush_noted(fd, REAL(fdatasync));
}

int fsync(int fd)
{
	return flush_noted(fd, REAL(fsync));
}

/* -- discards -- */

int fallocate64(int fd, int mode, off64_t offset, off64_t length)
{
	__typeof__(&fallocate64) real = REAL(fallocate64);
	bool noted = mode & (FALLOC_FL_PUNCH_HOLE | FALLOC_FL_ZERO_RANGE) && is_ours(fd);

	if (!noted)
		return real(fd, mode, offset, length);
	uint64_t number = new_number();
	note_range(DISCARD, number, (uint64_t)offset, (uint64_t)length);
	int failed = real(fd, mode, offset, length);
	if (!failed)
		note_range(DISCARDED, number, (uint64_t)offset, (uint64_t)length);
	return failed;
}

/* -- rings -- */

int io_uring_queue_init(unsigned entries, struct io_uring *ring, unsigned flags)
{
	return cut.no_uring ? -ENOSYS : REAL(io_uring_queue_init)(entries, ring, flags);
}

/*
 * Writes begin when they are submitted. They are done when what waits for the last of them returns; until
 * then, for all that is known, they may be lost. So the ring is waited for until it is empty.
 */
int io_uring_submit_and_wait(struct io_uring *ring, unsigned least)
{
	__typeof__(&io_uring_submit_and_wait) real = REAL(io_uring_submit_and_wait);
	struct io_uring_sq *sq = &ring->sq;
	uint64_t number[RING_MAX];
	struct io_uring_sqe list[RING_MAX];
	unsigned queued = sq->sqe_tail - sq->sqe_head, writes = 0;

	for (unsigned i = 0; i < queued && i < RING_MAX; i++) {
		const struct io_uring_sqe *sqe = &sq->sqes[(sq->sqe_head + i) & *sq->kring_mask];
		struct iovec data = {(void *)(uintptr_t)sqe->addr, sqe->len};
		if (sqe->opcode != IORING_OP_WRITE || !is_ours(sqe->fd))
			continue;
		list[writes] = *sqe;
		number[writes] = new_number();
		note(WRITE, number[writes], sqe->off, &data, 1);
		take_time(number[writes++]);
	}
	int taken = real(ring, writes && queued > least ? queued : least);
	for (unsigned i = 0; taken == (int)queued && i < writes; i++)
		note_range(WRITTEN, number[i], list[i].off, list[i].len);
	return taken;
}
