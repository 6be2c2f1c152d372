/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/server.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netinet/in.h>
#include <netinet/tcp.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "serve/loop.h"
#include "serve/notice.h"
#include "serve/tls.h"

enum {
	ACCEPT_MAX = 64,       /* at a time, so that the caller sees to other things, too */
	PEER_TEXT = 64,
	LOOKUPS_MAX = 4,
	/* A client of TCP that has gone without a word is noticed after this; its socket would stay for ever. */
	KEEPALIVE_IDLE_S = 60,
	KEEPALIVE_INTERVAL_S = 15,
	KEEPALIVE_PROBES = 4,
};

struct server {
	struct server_config config;
	struct memory memory;
	struct workers *workers;
	struct exports *exports;
	struct lane *lookups;
	struct loop_shared shared;
	struct loop *loops[SERVER_LOOPS_MAX];
	unsigned loop_count;
	int spare_fd; /* given up for a moment to turn somebody away where there are no descriptors */
	unsigned clients_max;
	unsigned haste;
	struct notice refused, failed, ended;
};

/* -- what loops tell -- */

static void request_failed(void *context, const char *message)
{
	notice(&((struct server *)context)->failed, "%s", message);
}

static void client_begun(void *context, const char *peer)
{
	struct server *s = context;
	if (s->config.is_verbose)
		notice(&s->ended, "%s connected", peer);
}

static void client_ended(void *context, const char *peer, const char *why)
{
	struct server *s = context;
	if (why)
		notice(&s->ended, "%s: the connection ended: %s", peer, why);
	else if (s->config.is_verbose)
		notice(&s->ended, "%s disconnected", peer);
}

static struct channel *secure(void *context, struct channel *channel)
{
	return tls_channel(((struct server *)context)->config.tls_keys, channel);
}

/* -- beginning -- */

static unsigned processors(void)
{
	long count = sysconf(_SC_NPROCESSORS_ONLN);
	return count < 1 ? 1 : count > SERVER_LOOPS_MAX ? SERVER_LOOPS_MAX : (unsigned)count;
}

static int start_loops(struct server *s, unsigned wanted)
{
	int err = 0;
	s->shared = (struct loop_shared){
		.memory = &s->memory,
		.exports = s->exports,
		.lookups = s->lookups,
		.tls = s->config.tls,
		.context = s,
		.secure = secure,
		.failed = request_failed,
		.begun = client_begun,
		.ended = client_ended,
	};
	while (s->loop_count < wanted && !err) {
		err = loop_new(&s->shared, &s->loops[s->loop_count]);
		s->loop_count += !err;
	}
	return err;
}

static int start(struct server *s)
{
	unsigned loops = s->config.loops ? MIN_OF(s->config.loops, (unsigned)SERVER_LOOPS_MAX) : processors();
	s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	s->workers = workers_new();
	s->exports = s->workers ? exports_new(s->config.backend, s->config.context, s->workers, loops - 1) : NULL;
	s->lookups = s->exports ? lane_new(s->workers, LOOKUPS_MAX) : NULL;
	return s->lookups ? start_loops(s, loops) : ENOMEM;
}

int server_new(const struct server_config *config, struct server **server, struct lcpfs_failure *failure)
{
	struct server *s = calloc(1, sizeof(*s));
	*server = NULL;
	if (!s)
		return failure_set(failure, LCPFS_E_NOMEM, "%s", lcpfs_error_sentence(LCPFS_E_NOMEM));
	s->config = *config;
	s->clients_max = SERVER_CLIENTS_MAX;
	s->memory.total = MEMORY_TOTAL;
	s->refused = (struct notice)NOTICE_INIT(1);
	s->failed = (struct notice)NOTICE_INIT(10);
	s->ended = (struct notice)NOTICE_INIT(10);
	int err = start(s);
	if (!err) {
		*server = s;
		return 0;
	}
	server_end(s);
	server_wait(s);
	server_free(s);
	return failure_set(failure, LCPFS_E_SYSTEM, "the server cannot start: %s", strerrordesc_np(err));
}

void server_set_clients_max(struct server *s, unsigned clients_max)
{
	s->clients_max = clients_max;
}

/* -- accepting -- */

static void describe_peer(int fd, const struct sockaddr_storage *address, char *text)
{
	char host[INET6_ADDRSTRLEN] = "";
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
	struct ucred peer;
	socklen_t length = sizeof(peer);
	if (address->ss_family == AF_INET && inet_ntop(AF_INET, &v4->sin_addr, host, sizeof(host)))
		snprintf(text, PEER_TEXT, "client %s:%u", host, ntohs(v4->sin_port));
	else if (address->ss_family == AF_INET6 && inet_ntop(AF_INET6, &v6->sin6_addr, host, sizeof(host)))
		snprintf(text, PEER_TEXT, "client [%s]:%u", host, ntohs(v6->sin6_port));
	else if (!getsockopt(fd, SOL_SOCKET, SO_PEERCRED, &peer, &length))
		snprintf(text, PEER_TEXT, "client process %d", (int)peer.pid);
	else
		snprintf(text, PEER_TEXT, "client");
}

static void set_up_tcp(int fd)
{
	const int on = 1, idle = KEEPALIVE_IDLE_S, interval = KEEPALIVE_INTERVAL_S, probes = KEEPALIVE_PROBES;
	setsockopt(fd, IPPROTO_TCP, TCP_NODELAY, &on, sizeof(on));
	setsockopt(fd, SOL_SOCKET, SO_KEEPALIVE, &on, sizeof(on));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPIDLE, &idle, sizeof(idle));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPINTVL, &interval, sizeof(interval));
	setsockopt(fd, IPPROTO_TCP, TCP_KEEPCNT, &probes, sizeof(probes));
}

static struct loop *least_busy(const struct server *s)
{
	struct loop *best = s->loops[0];
	for (unsigned i = 1; i < s->loop_count; i++)
		if (loop_connections(s->loops[i]) < loop_connections(best))
			best = s->loops[i];
	return best;
}

/*
 * Where all places are taken, who has not finished the handshake goes first: they come back if they are honest,
 * and could otherwise keep everybody out by saying nothing. Clients that work are never turned out.
 */
static void take_in(struct server *s, int fd, const struct sockaddr_storage *address)
{
	unsigned count = atomic_load(&s->shared.connections), shaking = atomic_load(&s->shared.handshakes);
	bool is_tcp = address->ss_family == AF_INET || address->ss_family == AF_INET6;
	bool full = count >= s->clients_max;
	char peer[PEER_TEXT];
	if (full && (!shaking || count >= s->clients_max + s->loop_count)) {
		close(fd);
		notice(&s->refused, "too many clients: %u; one more was turned away", count);
		return;
	}
	describe_peer(fd, address, peer);
	if (is_tcp)
		set_up_tcp(fd);
	loop_add(least_busy(s), fd, is_tcp, peer, full);
}

/* Nobody can be let in, but they shall know; else they would wait, and the socket would be ready for ever. */
static bool turn_away(struct server *s, int listen_fd, int err)
{
	if (err != EMFILE && err != ENFILE)
		return err == ECONNABORTED || err == EINTR;
	close(s->spare_fd);
	int fd = accept4(listen_fd, NULL, NULL, SOCK_CLOEXEC);
	if (fd >= 0)
		close(fd);
	s->spare_fd = open("/dev/null", O_RDONLY | O_CLOEXEC);
	notice(&s->refused, "%s; a client was turned away", strerrordesc_np(err));
	return fd >= 0;
}

bool server_accept(struct server *s, int listen_fd)
{
	for (int i = 0; i < ACCEPT_MAX; i++) {
		struct sockaddr_storage address = {0};
		socklen_t length = sizeof(address);
		int fd = accept4(listen_fd, (struct sockaddr *)&address, &length, SOCK_CLOEXEC | SOCK_NONBLOCK);
		int err = errno;
		if (fd >= 0)
			take_in(s, fd, &address);
		else if (err == EAGAIN)
			return true;
		else if (!turn_away(s, listen_fd, err))
			return false;
	}
	return true;
}

/* -- the end -- */

void server_end(struct server *s)
{
	s->haste++;
	if (s->exports)
		exports_stop(s->exports);
	for (unsigned i = 0; i < s->loop_count; i++)
		loop_end(s->loops[i], s->haste > 1 ? LOOP_HURRIES : LOOP_ENDS);
}

void server_wait(struct server *s)
{
	for (unsigned i = 0; i < s->loop_count; i++)
		loop_wait(s->loops[i]);
	if (s->workers)
		workers_finish(s->workers);
}

void server_free(struct server *s)
{
	if (!s)
		return;
	for (unsigned i = 0; i < s->loop_count; i++)
		loop_free(s->loops[i]);
	if (s->lookups)
		lane_free(s->lookups);
	exports_free(s->exports);
	workers_free(s->workers);
	if (s->spare_fd >= 0)
		close(s->spare_fd);
	free(s);
}
