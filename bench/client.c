/* SPDX-License-Identifier: Apache-2.0 */
/*
 * An NBD client that costs little, so that the server is what is measured: one thread, any number of connections,
 * each with so many requests under way; what has been answered together is asked anew together. It looks at no
 * data, and what it writes cannot be compressed. One line at the end: requests done in a second, and latencies in
 * microseconds.
 *
 * usage: nbd-load WHAT BYTES DEPTH AMOUNT VOLUME_BYTES SOCKET EXPORT [EXPORT ...]
 *
 * A connection for each EXPORT. WHAT: randread, randwrite; randrw70: 70 of 100 are reads; read, write, one after
 * the other; oncewrite: each place once, in random order; randflush: random writes, each followed by a flush, and
 * the two count as one. Offsets are multiples of BYTES below VOLUME_BYTES. AMOUNT is so many seconds; or
 * COUNT/SEED, so many requests of all connections together. After these every connection flushes, within the time
 * that counts; and the same SEED gives the same offsets. On SIGTERM it begins no more, and ends when all is
 * answered. NBD_LOAD_TIMES, in the environment, names a file: there go the times, by the monotonic clock, when
 * each request was begun and answered, in nanoseconds and as two numbers of 8 bytes.
 */
#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <time.h>
#include <unistd.h>

#include "serve/be.h"
#include "serve/proto.h"

enum { HEADER = 28, REPLY = 16, DEPTH_MAX = 256, BUCKETS = 64 * 16 };

struct client {
	int fd;
	uint32_t events;
	uint8_t *out; /* of `depth` requests at most */
	size_t out_length, out_sent;
	uint8_t reply[REPLY];
	size_t reply_length, skip; /* bytes of a reply's header that are there; of its data that are not */
	uint64_t begun_ns[DEPTH_MAX];
	unsigned running;
};

static struct {
	bool is_random, has_flush;
	uint64_t reads_percent;
	size_t bytes;
	unsigned depth;
	uint64_t volume_bytes, end_ns, begun_max, random, at, begun, done, max_us, buckets[BUCKETS];
	uint32_t *order; /* of places, where each is taken once */
	bool is_over;
	FILE *times;
} load;

static uint64_t now_ns(void)
{
	struct timespec now;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000000 + (uint64_t)now.tv_nsec;
}

static void fail(const char *what)
{
	fprintf(stderr, "nbd-load: %s: %s\n", what, errno ? strerror(errno) : "not what was expected");
	exit(1);
}

/* -- latencies: 16 steps for each power of two -- */

static unsigned bucket_of(uint64_t us)
{
	unsigned log = us < 32 ? 0 : 59 - (unsigned)__builtin_clzll(us);
	return log * 16 + (unsigned)(us >> log);
}

static double percentile_us(double part)
{
	uint64_t count = 0;
	for (unsigned i = 0; i < BUCKETS; i++) {
		count += load.buckets[i];
		if (count >= part * (double)load.done)
			return i < 32 ? i : (double)(16 + i % 16) * (double)(UINT64_C(1) << (i / 16 - 1));
	}
	return 0;
}

/* -- requests -- */

static uint64_t next_random(void)
{
	load.random = load.random * 6364136223846793005 + 1442695040888963407;
	return load.random >> 16;
}

static uint64_t next_offset(void)
{
	uint64_t places = load.volume_bytes / load.bytes;
	if (load.is_random)
		return next_random() % places * load.bytes;
	uint64_t place = load.at++ % places;
	return (load.order ? load.order[place] : place) * load.bytes;
}

/* The upper half of the cookie says which kind of request it was. */
static void put_request(struct client *c, uint16_t type, unsigned slot)
{
	uint8_t *at = c->out + c->out_length;
	at = be16_put(be16_put(be32_put(at, NBD_REQUEST_MAGIC), 0), type);
	at = be64_put(be64_put(at, (uint64_t)type << 32 | slot), type == NBD_CMD_FLUSH ? 0 : next_offset());
	be32_put(at, type == NBD_CMD_FLUSH ? 0 : (uint32_t)load.bytes);
	c->out_length += HEADER + (type == NBD_CMD_WRITE ? load.bytes : 0);
}

static void begin(struct client *c, unsigned slot)
{
	if (load.is_over || load.begun == load.begun_max)
		return;
	load.begun++;
	c->begun_ns[slot] = now_ns();
	c->running++;
	bool reads = load.reads_percent == 100 || (load.reads_percent && next_random() % 100 < load.reads_percent);
	put_request(c, reads ? NBD_CMD_READ : NBD_CMD_WRITE, slot);
}

static void send_some(struct client *c)
{
	while (c->out_sent < c->out_length) {
		ssize_t n = send(c->fd, c->out + c->out_sent, c->out_length - c->out_sent, MSG_NOSIGNAL);
		if (n < 0 && errno == EAGAIN)
			break;
		if (n < 0)
			fail("send");
		c->out_sent += (size_t)n;
	}
	if (c->out_sent == c->out_length) {
		c->out_sent = c->out_length = 0;
	} else if (c->out_sent) { /* so that there is always room for what is under way */
		memmove(c->out, c->out + c->out_sent, c->out_length - c->out_sent);
		c->out_length -= c->out_sent;
		c->out_sent = 0;
	}
}

static void take_reply(struct client *c)
{
	uint64_t cookie = be64_get(c->reply + 8);
	unsigned slot = (unsigned)(cookie & 0xffff), type = (unsigned)(cookie >> 32);
	if (be32_get(c->reply) != NBD_SIMPLE_REPLY_MAGIC || be32_get(c->reply + 4) || slot >= load.depth) {
		errno = 0;
		fail("a reply");
	}
	c->skip = type == NBD_CMD_READ ? load.bytes : 0;
	if (load.has_flush && type != NBD_CMD_FLUSH) {
		put_request(c, NBD_CMD_FLUSH, slot);
		return;
	}
	uint64_t times[2] = {c->begun_ns[slot], now_ns()}, us = (times[1] - times[0]) / 1000;
	if (load.times)
		fwrite(times, sizeof(times), 1, load.times);
	load.max_us = us > load.max_us ? us : load.max_us;
	load.buckets[bucket_of(us)]++;
	load.done++;
	c->running--;
	begin(c, slot);
}

static void take(struct client *c, const uint8_t *bytes, size_t length)
{
	while (length) {
		size_t n = c->skip ? c->skip : REPLY - c->reply_length;
		n = n < length ? n : length;
		if (c->skip) {
			c->skip -= n;
		} else {
			memcpy(c->reply + c->reply_length, bytes, n);
			c->reply_length += n;
		}
		bytes += n;
		length -= n;
		if (c->reply_length == REPLY) {
			c->reply_length = 0;
			take_reply(c);
		}
	}
}

static void receive_some(struct client *c)
{
	static uint8_t buffer[1 << 20];
	ssize_t n = recv(c->fd, buffer, sizeof(buffer), 0);
	if (n < 0 && errno == EAGAIN)
		return;
	if (n <= 0)
		fail("recv");
	take(c, buffer, (size_t)n);
}

/* -- beginning -- */

static void transfer_all(int fd, void *bytes, size_t length, bool sends)
{
	for (uint8_t *at = bytes; length;) {
		ssize_t n = sends ? write(fd, at, length) : read(fd, at, length);
		if (n <= 0)
			fail("handshake");
		at += n;
		length -= (size_t)n;
	}
}

static void enter(struct client *c, const char *path, const char *name)
{
	struct sockaddr_un address = {.sun_family = AF_UNIX};
	uint8_t greeting[18], hello[4 + 16 + 256], size[10];
	size_t length = strlen(name);
	if (length > 255 || strlen(path) >= sizeof(address.sun_path))
		fail("a name is too long");
	strcpy(address.sun_path, path);
	c->fd = socket(AF_UNIX, SOCK_STREAM, 0);
	if (c->fd < 0 || connect(c->fd, (struct sockaddr *)&address, sizeof(address)))
		fail(path);
	transfer_all(c->fd, greeting, sizeof(greeting), false);
	be32_put(be32_put(be64_put(be32_put(hello, 3), NBD_OPTION_MAGIC), NBD_OPT_EXPORT_NAME), (uint32_t)length);
	memcpy(hello + 20, name, length);
	transfer_all(c->fd, hello, 20 + length, true);
	transfer_all(c->fd, size, sizeof(size), false);
	fcntl(c->fd, F_SETFL, O_NONBLOCK);
	size_t length_max = load.depth * 2 * (HEADER + load.bytes);
	c->out = malloc(length_max);
	if (!c->out)
		fail("memory");
	for (size_t i = 0; i < length_max; i++)
		c->out[i] = (uint8_t)next_random();
}

static void watch(int epoll_fd, struct client *c)
{
	uint32_t events = EPOLLIN | (c->out_length ? (uint32_t)EPOLLOUT : 0);
	struct epoll_event event = {.events = events, .data.ptr = c};
	if (events != c->events && epoll_ctl(epoll_fd, c->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD, c->fd, &event))
		fail("epoll");
	c->events = events;
}

static volatile sig_atomic_t was_told_to_end;

static void be_told(int number)
{
	(void)number;
	was_told_to_end = 1;
}

static void run(struct client *clients, unsigned count)
{
	struct epoll_event events[64];
	int epoll_fd = epoll_create1(0);
	bool running = true;
	for (unsigned i = 0; i < count; i++) {
		for (unsigned slot = 0; slot < load.depth; slot++)
			begin(&clients[i], slot);
		send_some(&clients[i]);
		watch(epoll_fd, &clients[i]);
	}
	while (running) {
		int ready = epoll_wait(epoll_fd, events, 64, 1000);
		load.is_over = was_told_to_end || now_ns() >= load.end_ns;
		for (int i = 0; i < ready; i++) {
			struct client *c = events[i].data.ptr;
			if (events[i].events & ~(uint32_t)EPOLLOUT)
				receive_some(c);
			send_some(c);
			watch(epoll_fd, c);
		}
		running = !load.is_over && load.begun < load.begun_max;
		for (unsigned i = 0; i < count && !running; i++)
			running = clients[i].running || clients[i].skip;
	}
}

/* All at the same time, as the requests before them. */
static void flush_all(struct client *clients, unsigned count)
{
	uint8_t reply[REPLY];
	for (unsigned i = 0; i < count; i++) {
		fcntl(clients[i].fd, F_SETFL, 0);
		put_request(&clients[i], NBD_CMD_FLUSH, 0);
		transfer_all(clients[i].fd, clients[i].out, clients[i].out_length, true);
	}
	for (unsigned i = 0; i < count; i++) {
		transfer_all(clients[i].fd, reply, REPLY, false);
		if (be32_get(reply) != NBD_SIMPLE_REPLY_MAGIC || be32_get(reply + 4))
			fail("a flush");
	}
}

static void shuffle(void)
{
	uint64_t places = load.volume_bytes / load.bytes;
	load.order = calloc(places, sizeof(*load.order));
	if (!load.order)
		fail("memory");
	for (uint64_t i = 0; i < places; i++) {
		uint64_t other = next_random() % (i + 1);
		load.order[i] = load.order[other];
		load.order[other] = (uint32_t)i;
	}
}

int main(int argc, char **argv)
{
	if (argc < 8) {
		fprintf(stderr, "usage: %s WHAT BYTES DEPTH AMOUNT VOLUME_BYTES SOCKET EXPORT ...\n", argv[0]);
		return 2;
	}
	unsigned count = (unsigned)argc - 7;
	struct client *clients = calloc(count, sizeof(*clients));
	const char *seed = strchr(argv[4], '/');
	load.reads_percent = strstr(argv[1], "read") ? 100 : strstr(argv[1], "rw70") ? 70 : 0;
	load.is_random = !strncmp(argv[1], "rand", 4);
	load.has_flush = strstr(argv[1], "flush");
	load.bytes = strtoull(argv[2], NULL, 0);
	load.depth = (unsigned)atoi(argv[3]);
	load.begun_max = seed ? strtoull(argv[4], NULL, 0) : UINT64_MAX;
	load.volume_bytes = strtoull(argv[5], NULL, 0);
	load.random = seed ? strtoull(seed + 1, NULL, 0) : (uint64_t)getpid();
	if (!clients || !load.bytes || load.volume_bytes < load.bytes || !load.depth || load.depth > DEPTH_MAX)
		fail("arguments");
	if (getenv("NBD_LOAD_TIMES") && !(load.times = fopen(getenv("NBD_LOAD_TIMES"), "wb")))
		fail("NBD_LOAD_TIMES");
	signal(SIGTERM, be_told);
	if (!strcmp(argv[1], "oncewrite"))
		shuffle();
	for (unsigned i = 0; i < count; i++)
		enter(&clients[i], argv[6], argv[7 + i]);
	uint64_t start_ns = now_ns();
	load.end_ns = seed ? UINT64_MAX : start_ns + (uint64_t)(atof(argv[4]) * 1e9);
	run(clients, count);
	if (seed)
		flush_all(clients, count);
	double took_s = (double)(now_ns() - start_ns) / 1e9;
	if (load.times && fclose(load.times))
		fail("NBD_LOAD_TIMES");
	printf("{\"seconds\": %.6f, \"rate\": %.1f, \"p50_us\": %.0f, \"p99_us\": %.0f, \"p999_us\": %.0f, "
	       "\"p9999_us\": %.0f, \"max_us\": %" PRIu64 "}\n",
	       took_s, (double)load.done / took_s, percentile_us(.5), percentile_us(.99), percentile_us(.999),
	       percentile_us(.9999), load.max_us);
	return 0;
}
