/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The real server, its loops and workers, on real sockets, with every system call and allocation that it makes
 * failing in turn: once and a few times in a row, with each error that is to be expected, and short. A client's
 * connection may end by that, and then in good time; what it was told is done has to be so; the server goes on,
 * lets the next client in, and ends when it is told to.
 *
 * usage: serve-faults [--every N]
 */
#include <errno.h>
#include <getopt.h>
#include <poll.h>
#include <pthread.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/eventfd.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <sys/un.h>
#include <unistd.h>

#include "serve/be.h"
#include "serve/server.h"

enum { VOLUME_BYTES = 1 << 20, WAIT_S = 60, TRIES = 40, STEPS = 12 };

/* -- faults -- */

enum call {
	RECVMSG,
	SENDMSG,
	ACCEPT4,
	EPOLL_WAIT,
	EPOLL_CTL,
	EPOLL_CREATE1,
	EVENTFD,
	PTHREAD_CREATE,
	ALLOCATE,
	CALLS
};

static const char *const call_names[CALLS] = {"recvmsg",    "sendmsg",        "accept4",
					      "epoll_wait", "epoll_ctl",      "epoll_create1",
					      "eventfd",    "pthread_create", "allocation"};

enum { SHORT = -1 }; /* in place of an errno: a transfer of one byte */

static struct fault {
	pthread_mutex_t lock;
	enum call call;
	int err;
	unsigned at, times; /* the at-th call and so many that follow it; times 0: none */
	unsigned seen, met;
} fault = {.lock = PTHREAD_MUTEX_INITIALIZER};

static __thread bool is_client; /* whose calls are its own */

/* The errno with which this call has to fail; 0: none. */
static int fails(enum call call)
{
	int err = 0;
	if (is_client)
		return 0;
	pthread_mutex_lock(&fault.lock);
	if (fault.times && call == fault.call) {
		fault.seen++;
		if (fault.seen >= fault.at && fault.seen < fault.at + fault.times) {
			fault.met++;
			err = fault.err;
		}
	}
	pthread_mutex_unlock(&fault.lock);
	return err;
}

static unsigned met(void)
{
	pthread_mutex_lock(&fault.lock);
	unsigned count = fault.met;
	pthread_mutex_unlock(&fault.lock);
	return count;
}

static void set_fault(enum call call, int err, unsigned at, unsigned times)
{
	pthread_mutex_lock(&fault.lock);
	fault.call = call;
	fault.err = err;
	fault.at = at;
	fault.times = times;
	fault.seen = fault.met = 0;
	pthread_mutex_unlock(&fault.lock);
}

#define REAL(name) __real_##name
#define WRAP(name) __wrap_##name
#define FAILING(type, name, call, failed, parameters, ...)                                                        \
	type REAL(name) parameters;                                                                               \
	type WRAP(name) parameters;                                                                               \
	type WRAP(name) parameters                                                                                \
	{                                                                                                         \
		int err = fails(call);                                                                            \
		if (err) {                                                                                        \
			errno = err;                                                                              \
			return failed;                                                                            \
		}                                                                                                 \
		return REAL(name)(__VA_ARGS__);                                                                   \
	}

FAILING(int, accept4, ACCEPT4, -1, (int fd, struct sockaddr *address, socklen_t *length, int flags), fd, address,
	length, flags)
FAILING(int, epoll_wait, EPOLL_WAIT, -1, (int fd, struct epoll_event *events, int most, int timeout), fd, events,
	most, timeout)
FAILING(int, epoll_ctl, EPOLL_CTL, -1, (int fd, int op, int of, struct epoll_event *event), fd, op, of, event)
FAILING(int, epoll_create1, EPOLL_CREATE1, -1, (int flags), flags)
FAILING(int, eventfd, EVENTFD, -1, (unsigned value, int flags), value, flags)
FAILING(int, pthread_create, PTHREAD_CREATE, err,
	(pthread_t * thread, const pthread_attr_t *attributes, void *(*run)(void *), void *context), thread,
	attributes, run, context)
FAILING(void *, malloc, ALLOCATE, NULL, (size_t bytes), bytes)
FAILING(void *, calloc, ALLOCATE, NULL, (size_t count, size_t bytes), count, bytes)
FAILING(void *, realloc, ALLOCATE, NULL, (void *memory, size_t bytes), memory, bytes)
FAILING(void *, aligned_alloc, ALLOCATE, NULL, (size_t alignment, size_t bytes), alignment, bytes)

#define TRANSFERRING(name, call, constant)                                                                        \
	ssize_t REAL(name)(int fd, constant struct msghdr *message, int flags);                                   \
	ssize_t WRAP(name)(int fd, constant struct msghdr *message, int flags);                                   \
	ssize_t WRAP(name)(int fd, constant struct msghdr *message, int flags)                                    \
	{                                                                                                         \
		int err = fails(call);                                                                            \
		if (err == SHORT) {                                                                               \
			struct iovec one = {message->msg_iov->iov_base, 1};                                       \
			struct msghdr few = {.msg_iov = &one, .msg_iovlen = 1};                                   \
			return message->msg_iov->iov_len ? REAL(name)(fd, &few, flags) : 0;                       \
		}                                                                                                 \
		if (err) {                                                                                        \
			errno = err;                                                                              \
			return -1;                                                                                \
		}                                                                                                 \
		return REAL(name)(fd, message, flags);                                                            \
	}

TRANSFERRING(recvmsg, RECVMSG, )
TRANSFERRING(sendmsg, SENDMSG, const)

struct notice;
void WRAP(notice)(struct notice *notice, const char *format, ...);
void WRAP(notice)(struct notice *notice, const char *format, ...)
{
	(void)notice, (void)format; /* nobody wants to read that */
}

/* -- the volume: now at once, now by a worker -- */

static uint8_t volume_data[VOLUME_BYTES];
static pthread_mutex_t volume_lock = PTHREAD_MUTEX_INITIALIZER;
static unsigned volume_asked;

static bool waits(void)
{
	pthread_mutex_lock(&volume_lock);
	bool does = ++volume_asked % 2;
	pthread_mutex_unlock(&volume_lock);
	return does;
}

static int volume_list(void *context, struct backend_export **list, size_t *count, struct lcpfs_failure *failure)
{
	(void)context, (void)failure;
	*list = calloc(1, sizeof(**list));
	*count = 1;
	return *list ? 0 : -LCPFS_E_NOMEM;
}

static int volume_open(void *context, const char *name, void **volume, struct backend_export *info,
		       struct lcpfs_failure *failure)
{
	(void)name, (void)failure;
	*volume = context;
	*info = (struct backend_export){.name = "db", .bytes = VOLUME_BYTES};
	return 0;
}

static void volume_nothing(void *volume)
{
	(void)volume;
}

static int volume_read(void *volume, uint64_t offset, void *buffer, size_t length, struct lcpfs_failure *failure)
{
	(void)volume, (void)failure;
	pthread_mutex_lock(&volume_lock);
	memcpy(buffer, volume_data + offset, length);
	pthread_mutex_unlock(&volume_lock);
	return 0;
}

static int volume_try_read(void *volume, uint64_t offset, void *buffer, size_t length)
{
	return waits() ? -LCPFS_E_AGAIN : volume_read(volume, offset, buffer, length, NULL);
}

static int volume_write(void *volume, uint64_t offset, const void *buffer, size_t length,
			struct lcpfs_failure *failure)
{
	(void)volume, (void)failure;
	pthread_mutex_lock(&volume_lock);
	memcpy(volume_data + offset, buffer, length);
	pthread_mutex_unlock(&volume_lock);
	return 0;
}

static int volume_try_write(void *volume, uint64_t offset, const void *buffer, size_t length, size_t *done,
			    bool *unsettled)
{
	*unsettled = waits();
	*done = *unsettled ? 0 : length;
	return *unsettled ? -LCPFS_E_AGAIN : volume_write(volume, offset, buffer, length, NULL);
}

static int volume_trim(void *volume, uint64_t offset, uint64_t length, struct lcpfs_failure *failure)
{
	(void)volume, (void)failure;
	pthread_mutex_lock(&volume_lock);
	memset(volume_data + offset, 0, length);
	pthread_mutex_unlock(&volume_lock);
	return 0;
}

static int volume_flush(void *volume, struct lcpfs_failure *failure)
{
	(void)volume, (void)failure;
	return 0;
}

static int volume_extent(void *volume, uint64_t offset, uint64_t length, bool *data, uint64_t *end)
{
	(void)volume;
	*data = true;
	*end = offset + length;
	return 0;
}

static const struct backend backend = {
	.list = volume_list,
	.open = volume_open,
	.close = volume_nothing,
	.try_read = volume_try_read,
	.read = volume_read,
	.try_write = volume_try_write,
	.write = volume_write,
	.trim = volume_trim,
	.flush = volume_flush,
	.extent = volume_extent,
	.settle = volume_nothing,
};

/* -- a client that knows what it was told -- */

struct client {
	int fd; /* -1: not connected */
	const char *path;
	uint8_t data[VOLUME_BYTES];
	bool sure[VOLUME_BYTES / 4096]; /* what a block holds */
	unsigned lost;                  /* connections */
};

static bool exchange(struct client *c, const void *request, size_t length, void *reply, size_t wanted)
{
	if (send(c->fd, request, length, MSG_NOSIGNAL) != (ssize_t)length)
		return false;
	return recv(c->fd, reply, wanted, MSG_WAITALL) == (ssize_t)wanted;
}

static void disconnect(struct client *c)
{
	if (c->fd >= 0)
		close(c->fd);
	c->fd = -1;
}

static bool try_connect(struct client *c)
{
	static const uint8_t hello[] = "\0\0\0\3IHAVEOPT\0\0\0\1\0\0\0\2db";
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	struct timeval limit = {.tv_sec = WAIT_S};
	uint8_t reply[18];
	strcpy(address.sun_path, c->path);
	c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	CHECK(c->fd >= 0);
	setsockopt(c->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit));
	setsockopt(c->fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	CHECK(!connect(c->fd, (struct sockaddr *)&address, sizeof(address)));
	bool up = recv(c->fd, reply, 18, MSG_WAITALL) == 18 && exchange(c, hello, sizeof(hello) - 1, reply, 10);
	CHECK(up || (errno != EAGAIN && errno != EWOULDBLOCK)); /* it was ended, and did not hang */
	if (!up)
		disconnect(c);
	return up;
}

static void ensure_connected(struct client *c)
{
	for (int i = 0; c->fd < 0; i++) {
		CHECK(i < TRIES);
		if (!try_connect(c))
			c->lost++;
	}
}

/* One request and its answer: 0, an NBD error, or -1: the connection is lost. */
static int64_t ask(struct client *c, uint16_t type, uint64_t offset, uint32_t length, const uint8_t *payload,
		   uint8_t *data)
{
	uint8_t request[28], reply[16], *at = request;
	at = be16_put(be16_put(be32_put(at, NBD_REQUEST_MAGIC), 0), type);
	be32_put(be64_put(be64_put(at, 9), offset), length);
	bool sent = send(c->fd, request, 28, MSG_NOSIGNAL) == 28;
	if (sent && payload)
		sent = send(c->fd, payload, length, MSG_NOSIGNAL) == (ssize_t)length;
	bool answered = sent && recv(c->fd, reply, 16, MSG_WAITALL) == 16;
	if (answered && data && !be32_get(reply + 4))
		answered = recv(c->fd, data, length, MSG_WAITALL) == (ssize_t)length;
	CHECK(answered || (errno != EAGAIN && errno != EWOULDBLOCK));
	if (!answered) {
		disconnect(c);
		c->lost++;
		return -1;
	}
	CHECK(be32_get(reply) == NBD_SIMPLE_REPLY_MAGIC && be64_get(reply + 8) == 9);
	return be32_get(reply + 4);
}

static void be_sure(struct client *c, uint64_t offset, uint32_t length, bool sure)
{
	for (uint64_t block = offset / 4096; block < (offset + length) / 4096; block++)
		c->sure[block] = sure;
}

static void write_step(struct client *c, unsigned step, uint64_t offset, uint32_t length)
{
	static uint8_t payload[VOLUME_BYTES];
	memset(payload, (int)(step + 1), length);
	be_sure(c, offset, length, false);
	if (ask(c, NBD_CMD_WRITE, offset, length, payload, NULL))
		return;
	memcpy(c->data + offset, payload, length);
	be_sure(c, offset, length, true);
}

static void read_step(struct client *c, uint64_t offset, uint32_t length)
{
	static uint8_t data[VOLUME_BYTES];
	if (ask(c, NBD_CMD_READ, offset, length, NULL, data))
		return;
	for (uint64_t at = 0; at < length; at += 4096)
		CHECK(!c->sure[(offset + at) / 4096] || !memcmp(data + at, c->data + offset + at, 4096));
}

static void converse(struct client *c)
{
	for (unsigned step = 0; step < STEPS; step++) {
		uint64_t offset = step * 7 % 10 * 65536;
		uint32_t length = step % 3 ? 4096 : 300000 / 4096 * 4096;
		ensure_connected(c);
		write_step(c, step, offset, length);
		ensure_connected(c);
		read_step(c, offset, length);
		ensure_connected(c);
		(void)!ask(c, step % 2 ? NBD_CMD_FLUSH : NBD_CMD_CACHE, 0, step % 2 ? 0 : 4096, NULL, NULL);
	}
}

/* -- the server -- */

struct serving {
	struct server *server;
	int listen_fd, stop_fd;
	pthread_t thread;
};

static void *accept_thread(void *context)
{
	struct serving *s = context;
	struct pollfd fds[2] = {{.fd = s->listen_fd, .events = POLLIN}, {.fd = s->stop_fd, .events = POLLIN}};
	while (poll(fds, 2, -1) > 0 && !fds[1].revents) {
		if (!server_accept(s->server, s->listen_fd))
			usleep(1000);
	}
	return NULL;
}

static bool start(struct serving *s, const char *path)
{
	struct server_config config = {.backend = &backend, .context = volume_data, .loops = 1};
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	is_client = false;
	int error = server_new(&config, &s->server, NULL);
	is_client = true;
	if (error)
		return false;
	strcpy(address.sun_path, path);
	unlink(path);
	s->listen_fd = socket(AF_UNIX, SOCK_STREAM | SOCK_NONBLOCK, 0);
	s->stop_fd = eventfd(0, 0);
	CHECK(!bind(s->listen_fd, (struct sockaddr *)&address, sizeof(address)) && !listen(s->listen_fd, 10));
	CHECK(!pthread_create(&s->thread, NULL, accept_thread, s));
	return true;
}

static void stop(struct serving *s)
{
	eventfd_write(s->stop_fd, 1);
	pthread_join(s->thread, NULL);
	server_end(s->server);
	server_wait(s->server);
	server_free(s->server);
	close(s->listen_fd);
	close(s->stop_fd);
}

static void tell_fault(int number)
{
	char text[128];
	int length =
		snprintf(text, sizeof(text), "serve-faults: FAILED: %s, error %d, from call %u on, %u times\n",
			 call_names[fault.call], fault.err, fault.at, fault.times);
	(void)number;
	(void)!write(STDERR_FILENO, text, (size_t)length);
}

/* false: the fault was never met. */
static bool run(const char *path, enum call call, int err, unsigned at, unsigned times)
{
	static struct client c;
	struct serving s;
	set_fault(call, err, at, times);
	bool started = start(&s, path);
	CHECK(started || met());
	if (!started)
		return true;
	c = (struct client){.fd = -1, .path = path};
	memset(volume_data, 0, sizeof(volume_data));
	converse(&c);
	bool was_met = met();
	CHECK(was_met || !c.lost);
	set_fault(call, err, 0, 0);
	converse(&c); /* as if nothing had been */
	CHECK(c.fd >= 0);
	stop(&s);
	disconnect(&c);
	return was_met;
}

int main(int argc, char **argv)
{
	static const struct {
		enum call call;
		int err;
	} faults[] = {
		{RECVMSG, SHORT},      {RECVMSG, EINTR},         {RECVMSG, EAGAIN},       {RECVMSG, ECONNRESET},
		{RECVMSG, ENOMEM},     {SENDMSG, SHORT},         {SENDMSG, EINTR},        {SENDMSG, EAGAIN},
		{SENDMSG, ECONNRESET}, {SENDMSG, EPIPE},         {SENDMSG, ENOMEM},       {ACCEPT4, EMFILE},
		{ACCEPT4, ENFILE},     {ACCEPT4, ENOMEM},        {ACCEPT4, ECONNABORTED}, {ACCEPT4, EINTR},
		{EPOLL_WAIT, EINTR},   {EPOLL_CTL, ENOMEM},      {EPOLL_CTL, ENOSPC},     {EPOLL_CREATE1, EMFILE},
		{EVENTFD, EMFILE},     {PTHREAD_CREATE, EAGAIN}, {ALLOCATE, ENOMEM},
	};
	static const struct option options[] = {{"every", required_argument, NULL, 'e'}, {0}};
	char path[64];
	unsigned every = 1;
	while (getopt_long(argc, argv, "", options, NULL) == 'e')
		every = (unsigned)strtoul(optarg, NULL, 0);
	snprintf(path, sizeof(path), "/tmp/serve-faults.%d", (int)getpid());
	is_client = true;
	signal(SIGABRT, tell_fault);
	for (size_t i = 0; i < ARRAY_LENGTH(faults); i++) {
		for (unsigned times = 1; times <= 5; times += 4) {
			unsigned at = 1;
			while (run(path, faults[i].call, faults[i].err, at, times))
				at += at < 10 ? 1 : every;
			printf("%s: %s, %u at a time: the first %u calls\n", call_names[faults[i].call],
			       faults[i].err == SHORT ? "short" : strerrordesc_np(faults[i].err), times, at);
		}
	}
	unlink(path);
	return 0;
}
