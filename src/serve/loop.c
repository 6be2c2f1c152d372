/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread for each loop. Others reach it through its mailbox and `haste` only.
 *
 * epoll, level-triggered: a connection is given a turn whenever its socket is ready, and what it leaves makes it
 * ready again, behind the others. docs/server.md has the measurement against io_uring.
 */
#include "serve/loop.h"

#include <errno.h>
#include <signal.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/epoll.h>
#include <unistd.h>

#include "base/clock.h"
#include "vdev/fetch.h"

#define OWNER_OF(type, member, pointer) ((type *)((char *)(pointer) - offsetof(type, member)))

enum {
	EVENTS_MAX = 64,
	PEER_TEXT = 64,
	TRIM_MS = 1000, /* a loop that had nothing to do for so long gives back memory that it keeps */
};

/* A connection, as its loop sees it. */
struct client {
	struct client *next, *previous;             /* of the loop */
	struct client *next_shaking, *previous_shaking; /* of those in their handshake, oldest first */
	struct loop *loop;
	struct connection *connection;
	int fd;
	uint32_t events; /* watched for; 0: not in the epoll at all */
	uint64_t deadline_us;
	bool is_shaking;
	char peer[PEER_TEXT];
};

struct loop {
	struct host host; /* first: its operations get it */
	struct loop_shared *shared;
	struct fetches *fetches; /* NULL: there are none */
	bool is_behind;          /* some of them are still to be submitted */
	pthread_t thread;
	int epoll_fd;
	struct client clients;  /* head of the list */
	struct client *shaking, **shaking_last;
	atomic_uint count;
	atomic_int haste;
	int haste_seen;
	uint64_t end_us; /* when whoever is left is cut off */
	bool is_trimmed;
};

/* What comes in by the mailbox. */
struct arrival {
	struct task task;
	struct loop *loop;
	int fd;
	bool is_tcp, evict;
	char peer[PEER_TEXT];
};

static uint64_t now_us(void)
{
	return clock_us(&clock_system);
}

/* -- handshakes, oldest first: all have the same time -- */

static void shaking_add(struct client *k)
{
	struct loop *l = k->loop;
	k->is_shaking = true;
	k->next_shaking = NULL;
	k->previous_shaking =
		l->shaking_last == &l->shaking ? NULL : OWNER_OF(struct client, next_shaking, l->shaking_last);
	*l->shaking_last = k;
	l->shaking_last = &k->next_shaking;
	atomic_fetch_add(&l->shared->handshakes, 1);
}

static void shaking_remove(struct client *k)
{
	struct loop *l = k->loop;
	if (!k->is_shaking)
		return;
	k->is_shaking = false;
	if (k->next_shaking)
		k->next_shaking->previous_shaking = k->previous_shaking;
	else
		l->shaking_last = k->previous_shaking ? &k->previous_shaking->next_shaking : &l->shaking;
	if (k->previous_shaking)
		k->previous_shaking->next_shaking = k->next_shaking;
	else
		l->shaking = k->next_shaking;
	atomic_fetch_sub(&l->shared->handshakes, 1);
}

static void expire_handshakes(struct loop *l)
{
	for (struct client *k = l->shaking; k && k->deadline_us <= now_us(); k = l->shaking) {
		shaking_remove(k);
		connection_cut(k->connection, "it did not finish its handshake in time");
	}
}

/* -- what connections ask of their host -- */

static void host_watch(struct host *host, struct connection *connection, bool in, bool out)
{
	struct client *k = connection_owner(connection);
	struct loop *l = (struct loop *)host;
	uint32_t events = (in ? (uint32_t)EPOLLIN : 0) | (out ? (uint32_t)EPOLLOUT : 0);
	if (k->is_shaking && !connection_is_shaking_hands(connection))
		shaking_remove(k);
	if (events == k->events)
		return;
	/* Not watched for anything: out, or its hanging up would be told again and again. */
	int op = !events ? EPOLL_CTL_DEL : k->events ? EPOLL_CTL_MOD : EPOLL_CTL_ADD;
	struct epoll_event event = {.events = events, .data.ptr = k};
	if (epoll_ctl(l->epoll_fd, op, k->fd, &event))
		connection_cut(connection, "the system watches no more sockets");
	else
		k->events = events;
}

static struct channel *host_secure(struct host *host, struct channel *channel)
{
	struct loop_shared *shared = ((struct loop *)host)->shared;
	return shared->secure(shared->context, channel);
}

static void host_failed(struct host *host, const char *message)
{
	struct loop_shared *shared = ((struct loop *)host)->shared;
	shared->failed(shared->context, message);
}

static bool host_fetch(struct host *host, const struct export *x, uint64_t offset, void *buffer, size_t length,
		       bool in_order, struct task *task)
{
	struct loop *l = (struct loop *)host;
	return l->fetches && !x->backend->fetch(x->volume, l->fetches, offset, buffer, length, in_order, task);
}

static void host_ended(struct host *host, void *owner, const char *why)
{
	struct client *k = owner;
	struct loop *l = (struct loop *)host;
	shaking_remove(k);
	k->previous->next = k->next;
	k->next->previous = k->previous;
	l->shared->ended(l->shared->context, k->peer, why);
	free(k);
	atomic_fetch_sub(&l->count, 1);
	atomic_fetch_sub(&l->shared->connections, 1);
}

static const struct host_ops host_ops = {host_watch, host_secure, host_failed, host_fetch, host_ended};

/* -- arrivals -- */

static void welcome(struct loop *l, struct arrival *a)
{
	struct client *k = calloc(1, sizeof(*k));
	struct channel *channel = channel_of_socket(a->fd, a->is_tcp);
	if (k && channel)
		k->connection = connection_new(&l->host, channel, k);
	else if (channel)
		channel->ops->free(channel);
	if (!k || !k->connection) {
		free(k);
		atomic_fetch_sub(&l->count, 1);
		atomic_fetch_sub(&l->shared->connections, 1);
		return;
	}
	k->loop = l;
	k->fd = a->fd;
	k->deadline_us = now_us() + LOOP_HANDSHAKE_MS_MAX * UINT64_C(1000);
	memcpy(k->peer, a->peer, sizeof(k->peer));
	k->next = l->clients.next;
	k->previous = &l->clients;
	k->next->previous = k;
	l->clients.next = k;
	shaking_add(k);
	l->shared->begun(l->shared->context, k->peer);
	if (l->haste_seen)
		connection_end(k->connection);
	connection_turn(k->connection, false);
}

static void arrived(struct task *task)
{
	struct arrival *a = (struct arrival *)task;
	struct loop *l = a->loop;
	if (a->evict && l->shaking) {
		struct client *oldest = l->shaking;
		shaking_remove(oldest);
		connection_cut(oldest->connection, "it did not finish its handshake, and others want to come");
	}
	welcome(l, a);
	free(a);
}

void loop_add(struct loop *l, int fd, bool is_tcp, const char *peer, bool evict)
{
	struct arrival *a = calloc(1, sizeof(*a));
	if (!a) {
		close(fd);
		return;
	}
	a->task.done = arrived;
	a->loop = l;
	a->fd = fd;
	a->is_tcp = is_tcp;
	a->evict = evict;
	snprintf(a->peer, sizeof(a->peer), "%s", peer);
	atomic_fetch_add(&l->count, 1);
	atomic_fetch_add(&l->shared->connections, 1);
	mailbox_post(&l->host.mailbox, &a->task);
}

unsigned loop_connections(const struct loop *l)
{
	return atomic_load(&l->count);
}

/* -- the end -- */

static void end_all(struct loop *l)
{
	l->end_us = now_us() + LOOP_GRACE_MS * UINT64_C(1000);
	for (struct client *k = l->clients.next; k != &l->clients; k = k->next)
		connection_end(k->connection);
}

static void cut_all(struct loop *l)
{
	l->end_us = UINT64_MAX;
	for (struct client *k = l->clients.next; k != &l->clients; k = k->next)
		connection_cut(k->connection, NULL);
}

static void look_at_haste(struct loop *l)
{
	int haste = atomic_load(&l->haste);
	if (haste != l->haste_seen) {
		bool is_first = !l->haste_seen;
		l->haste_seen = haste;
		if (is_first)
			end_all(l);
		if (haste == LOOP_HURRIES)
			cut_all(l);
	}
	if (l->haste_seen && now_us() >= l->end_us)
		cut_all(l);
}

/* -- the thread -- */

static int timeout_ms(const struct loop *l)
{
	uint64_t until = l->shaking ? l->shaking->deadline_us : UINT64_MAX;
	if (l->host.ready)
		return 0;
	if (l->is_behind)
		return 1;
	if (l->haste_seen)
		until = MIN_OF(until, l->end_us);
	if (until == UINT64_MAX)
		return l->is_trimmed ? -1 : TRIM_MS;
	uint64_t now = now_us();
	return until <= now ? 0 : (int)MIN_OF((until - now) / 1000 + 1, (uint64_t)TRIM_MS);
}

static void take_mail(struct loop *l)
{
	for (struct task *task = mailbox_take_all(&l->host.mailbox), *next; task; task = next) {
		next = task->next;
		task->done(task);
	}
}

/* What was fetched while the connections had their turns may be there already: then they get another. */
static void turn_to_fetches(struct loop *l)
{
	struct task *task;
	if (!l->fetches)
		return;
	l->is_behind = !fetches_submit(l->fetches);
	while ((task = fetches_next(l->fetches)))
		task->done(task);
}

static void wait_once(struct loop *l)
{
	struct epoll_event events[EVENTS_MAX];
	int count = epoll_wait(l->epoll_fd, events, EVENTS_MAX, timeout_ms(l));
	bool has_mail = false;
	l->is_trimmed = count == 0 && !l->host.ready && !buffers_trim(&l->host.buffers);
	for (int i = 0; i < count; i++) {
		struct client *k = events[i].data.ptr;
		if ((void *)k == &l->fetches)
			continue;
		if (k)
			connection_turn(k->connection,
					events[i].events & ~(uint32_t)EPOLLOUT && k->events & EPOLLIN);
		else
			has_mail = true;
	}
	if (has_mail)
		take_mail(l);
	expire_handshakes(l);
	look_at_haste(l);
	connection_turn_ready(&l->host);
	turn_to_fetches(l);
}

/* Their event is not looked at: each time it wakes up the loop looks for all of them. */
static void begin_fetches(struct loop *l)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET, .data.ptr = &l->fetches};
	l->fetches = exports_fetches(l->host.exports);
	if (!l->fetches || !epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, fetches_event(l->fetches), &event))
		return;
	fetches_free(l->fetches);
	l->fetches = NULL;
}

static void *loop_thread(void *context)
{
	struct loop *l = context;
	begin_fetches(l);
	while (!l->haste_seen || atomic_load(&l->count))
		wait_once(l);
	fetches_free(l->fetches);
	return NULL;
}

void loop_end(struct loop *l, enum loop_haste haste)
{
	atomic_store(&l->haste, haste);
	mailbox_poke(&l->host.mailbox);
}

void loop_free(struct loop *l)
{
	mailbox_destroy(&l->host.mailbox);
	if (l->epoll_fd >= 0)
		close(l->epoll_fd);
	buffers_trim(&l->host.buffers);
	free(l->host.in);
	free(l->host.workspace.out);
	free(l);
}

void loop_wait(struct loop *l)
{
	pthread_join(l->thread, NULL);
}

static int start(struct loop *l)
{
	struct epoll_event event = {.events = EPOLLIN | EPOLLET};
	sigset_t all, before;
	l->epoll_fd = epoll_create1(EPOLL_CLOEXEC);
	if (l->epoll_fd < 0 || epoll_ctl(l->epoll_fd, EPOLL_CTL_ADD, l->host.mailbox.event_fd, &event))
		return errno;
	sigfillset(&all); /* signals belong to the program, not to a thread of ours */
	pthread_sigmask(SIG_SETMASK, &all, &before);
	int err = pthread_create(&l->thread, NULL, loop_thread, l);
	pthread_sigmask(SIG_SETMASK, &before, NULL);
	return err;
}

int loop_new(struct loop_shared *shared, struct loop **loop)
{
	struct loop *l = calloc(1, sizeof(*l));
	if (!l)
		return ENOMEM;
	int err = mailbox_init(&l->host.mailbox);
	if (err) {
		free(l);
		return err;
	}
	l->shared = shared;
	l->epoll_fd = -1;
	l->clients.next = l->clients.previous = &l->clients;
	l->shaking_last = &l->shaking;
	l->host.ops = &host_ops;
	l->host.memory = shared->memory;
	l->host.exports = shared->exports;
	l->host.lookups = shared->lookups;
	l->host.tls = shared->tls;
	l->host.in = malloc(WORKSPACE_IN_BYTES);
	l->host.workspace.out = malloc(WORKSPACE_OUT_BYTES);
	err = l->host.in && l->host.workspace.out ? start(l) : ENOMEM;
	if (err)
		loop_free(l);
	else
		*loop = l;
	return err;
}
