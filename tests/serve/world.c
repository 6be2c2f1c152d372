/* SPDX-License-Identifier: Apache-2.0 */
#include "world.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

#include "base/clock.h"
#include "base/hash.h"

static struct world *current; /* lanes know nothing of worlds; one at a time is there */
static uint8_t workspace_in[WORKSPACE_IN_BYTES], workspace_out[WORKSPACE_OUT_BYTES];

uint64_t world_random(struct world *w, uint64_t below)
{
	w->random = hash_mix(w->random + 0x9e3779b97f4a7c15u);
	return w->random % below;
}

static bool chance(struct world *w, unsigned percent)
{
	return percent && world_random(w, 100) < percent;
}

/* -- volumes -- */

static int volume_list(void *context, struct backend_export **list, size_t *count, struct lcpfs_failure *failure)
{
	struct world *w = context;
	*list = calloc(w->volume_count, sizeof(**list));
	if (!*list)
		return failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	*count = w->volume_count;
	for (unsigned i = 0; i < w->volume_count; i++) {
		memcpy((*list)[i].name, w->volumes[i].name, WORLD_NAME_MAX);
		(*list)[i].bytes = w->volumes[i].bytes;
	}
	return 0;
}

static int volume_open(void *context, const char *name, void **volume, struct backend_export *info,
		       struct lcpfs_failure *failure)
{
	struct world *w = context;
	for (unsigned i = 0; i < w->volume_count; i++) {
		struct world_volume *v = &w->volumes[i];
		if (*name && strcmp(name, v->name) != 0)
			continue;
		*volume = v;
		*info = (struct backend_export){.bytes = v->bytes, .read_only = v->read_only};
		memcpy(info->name, v->name, WORLD_NAME_MAX);
		return 0;
	}
	return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no partition %s", name);
}

static void volume_close(void *volume)
{
	(void)volume;
}

static bool fits(const struct world_volume *v, uint64_t offset, uint64_t length)
{
	return offset <= v->bytes && length <= v->bytes - offset;
}

static int volume_read(void *volume, uint64_t offset, void *buffer, size_t length, struct lcpfs_failure *failure)
{
	struct world_volume *v = volume;
	CHECK(fits(v, offset, length));
	if (offset < v->bad_to && offset + length > v->bad_from)
		return failure_set(failure, LCPFS_E_CORRUPT, "partition %s, block %llu: cannot read", v->name,
				   (unsigned long long)offset / WORLD_BLOCK);
	memcpy(buffer, v->data + offset, length);
	return 0;
}

static int volume_try_read(void *volume, uint64_t offset, void *buffer, size_t length)
{
	return chance(current, current->nature.waits) ? -LCPFS_E_AGAIN
						      : volume_read(volume, offset, buffer, length, NULL);
}

static void mark(struct world_volume *v, uint64_t offset, uint64_t length, bool written)
{
	v->unflushed++;
	for (uint64_t at = offset; at < offset + length; at++) {
		bool whole = at % WORLD_BLOCK == 0 && offset + length - at >= WORLD_BLOCK;
		if (written || whole)
			v->written[at / WORLD_BLOCK] = written;
		at += whole ? WORLD_BLOCK - 1 : 0;
	}
}

static int volume_write(void *volume, uint64_t offset, const void *buffer, size_t length,
			struct lcpfs_failure *failure)
{
	struct world_volume *v = volume;
	CHECK(fits(v, offset, length) && !v->read_only);
	if (v->write_error)
		return failure_set(failure, (enum lcpfs_error)-v->write_error, "partition %s: cannot write",
				   v->name);
	memcpy(v->data + offset, buffer, length);
	mark(v, offset, length, true);
	return 0;
}

static int volume_try_write(void *volume, uint64_t offset, const void *buffer, size_t length, size_t *done,
			    bool *unsettled)
{
	*unsettled = chance(current, 10);
	*done = 0;
	if (((struct world_volume *)volume)->write_error)
		return -LCPFS_E_AGAIN;
	size_t n = chance(current, current->nature.waits) ? (size_t)world_random(current, length) : length;
	*done = n;
	(void)!volume_write(volume, offset, buffer, n, NULL);
	return n == length ? 0 : -LCPFS_E_AGAIN;
}

static int volume_trim(void *volume, uint64_t offset, uint64_t length, struct lcpfs_failure *failure)
{
	struct world_volume *v = volume;
	(void)failure;
	CHECK(fits(v, offset, length) && !v->read_only);
	memset(v->data + offset, 0, length);
	mark(v, offset, length, false);
	return 0;
}

static int volume_flush(void *volume, struct lcpfs_failure *failure)
{
	struct world_volume *v = volume;
	(void)failure;
	v->flushes++;
	v->unflushed = 0;
	if (v->flushing)
		v->flushing(v);
	return v->flush_error;
}

static int volume_extent(void *volume, uint64_t offset, uint64_t length, bool *data, uint64_t *end)
{
	struct world_volume *v = volume;
	CHECK(fits(v, offset, length) && length);
	if (v->lost_from && offset >= v->lost_from)
		return -LCPFS_E_CORRUPT;
	*data = v->written[offset / WORLD_BLOCK];
	*end = offset;
	while (*end < offset + length && v->written[*end / WORLD_BLOCK] == *data)
		*end = (*end / WORLD_BLOCK + 1) * WORLD_BLOCK;
	*end = MIN_OF(*end, offset + length);
	if (v->lost_from)
		*end = MIN_OF(*end, v->lost_from);
	return 0;
}

static int volume_changed(void *volume, uint64_t offset, uint64_t length, bool *changed, uint64_t *end)
{
	const struct world_volume *v = volume;
	CHECK(fits(v, offset, length) && length);
	*changed = world_changed(offset / WORLD_BLOCK);
	*end = offset;
	while (*end < offset + length && world_changed(*end / WORLD_BLOCK) == *changed)
		*end = (*end / WORLD_BLOCK + 1) * WORLD_BLOCK;
	*end = MIN_OF(*end, offset + length);
	return 0;
}

/* NULL: another one has its place. */
static struct world_fetch *find_fetch(struct world *w, const struct task *task, const void *buffer)
{
	for (unsigned i = 1; i <= ARRAY_LENGTH(w->fetches); i++) {
		struct world_fetch *f = &w->fetches[(w->fetch_count - i) % ARRAY_LENGTH(w->fetches)];
		if (f->task && (f->task == task || f->buffer == buffer))
			return f;
	}
	return NULL;
}

static int volume_verify(void *volume, uint64_t offset, const void *buffer, size_t length, uint64_t fetched_us)
{
	const struct world_volume *v = volume;
	const struct world_fetch *f = find_fetch(current, NULL, buffer);
	CHECK(!f || fetched_us >= f->ended_us - f->begun_us);
	bool is_bad = offset < v->bad_to && offset + length > v->bad_from;
	return is_bad || memcmp(buffer, v->data + offset, length) != 0 ? -LCPFS_E_AGAIN : 0;
}

static void volume_settle(void *volume)
{
	(void)volume;
}

static const struct backend backend = {
	.list = volume_list,
	.open = volume_open,
	.close = volume_close,
	.try_read = volume_try_read,
	.read = volume_read,
	.try_write = volume_try_write,
	.write = volume_write,
	.trim = volume_trim,
	.flush = volume_flush,
	.extent = volume_extent,
	.changed = volume_changed,
	.settle = volume_settle,
	.verify = volume_verify,
};

/* -- workers: --wrap=lane_submit -- */

void __wrap_lane_submit(struct lane *lane, struct task *task);
void __wrap_lane_submit(struct lane *lane, struct task *task)
{
	(void)lane;
	CHECK(current->pending_count < ARRAY_LENGTH(current->pending));
	current->pending[current->pending_count++] = task;
}

void world_run_one(struct world *w)
{
	unsigned i = (unsigned)world_random(w, w->pending_count);
	struct task *task = w->pending[i];
	struct mailbox *home = task->home;
	w->pending[i] = w->pending[--w->pending_count];
	if (!task->run) { /* it was fetched, and no worker had it */
		struct world_fetch *f = find_fetch(w, task, NULL);
		if (f)
			f->ended_us = clock_us(&clock_system);
		task->done(task);
		return;
	}
	task->run(task);
	if (home && task->again)
		w->pending[w->pending_count++] = task;
	else if (home)
		mailbox_post(home, task);
}

/* -- the channel -- */

static struct world *world_of(const struct channel *channel)
{
	return (struct world *)((char *)channel - offsetof(struct world, channel));
}

static size_t how_much(struct world *w, size_t most)
{
	return chance(w, w->nature.dribbles) ? (size_t)world_random(w, most) + 1 : most;
}

static ssize_t channel_receive(struct channel *channel, struct iovec *list, unsigned count)
{
	struct world *w = world_of(channel);
	size_t there = w->to_server.length - w->received, done = 0;
	if (w->is_reset)
		return -ECONNRESET;
	if (!there)
		return w->is_closed ? 0 : -EAGAIN;
	there = how_much(w, there);
	for (unsigned i = 0; i < count && done < there; i++) {
		size_t n = MIN_OF(list[i].iov_len, there - done);
		memcpy(list[i].iov_base, w->to_server.data + w->received, n);
		w->received += n;
		done += n;
	}
	return (ssize_t)done;
}

static ssize_t channel_send(struct channel *channel, struct iovec *list, unsigned count)
{
	struct world *w = world_of(channel);
	size_t total = 0, done = 0;
	for (unsigned i = 0; i < count; i++)
		total += list[i].iov_len;
	if (w->is_reset)
		return -EPIPE;
	if (chance(w, w->nature.stalls))
		return -EAGAIN;
	total = total ? how_much(w, total) : 0;
	for (unsigned i = 0; i < count && done < total; i++) {
		size_t n = MIN_OF(list[i].iov_len, total - done);
		bytes_append(&w->to_client, list[i].iov_base, n);
		done += n;
	}
	return (ssize_t)done;
}

static int channel_greet(struct channel *channel)
{
	return chance(world_of(channel), 50) ? 0 : -EAGAIN;
}

static bool channel_has_none(const struct channel *channel)
{
	(void)channel;
	return false;
}

static void channel_finish(struct channel *channel)
{
	world_of(channel)->is_finished = true;
}

static void channel_free(struct channel *channel)
{
	CHECK(!world_of(channel)->is_freed);
	world_of(channel)->is_freed = true;
}

static const struct channel_ops channel_ops = {
	.receive = channel_receive,
	.send = channel_send,
	.greet = channel_greet,
	.has_more = channel_has_none,
	.has_unsent = channel_has_none,
	.finish = channel_finish,
	.free = channel_free,
};

/* -- the host -- */

static void host_watch(struct host *host, struct connection *connection, bool in, bool out)
{
	struct world *w = (struct world *)host;
	(void)connection;
	w->watches_in = in;
	w->watches_out = out;
}

static struct channel *host_secure(struct host *host, struct channel *channel)
{
	(void)host;
	return channel;
}

static void host_failed(struct host *host, const char *message)
{
	CHECK(*message);
	((struct world *)host)->failures++;
}

/* As often as not, and it may bring what is not right, or is not right any more when it is looked at. */
static bool host_fetch(struct host *host, const struct export *export, uint64_t offset, void *buffer,
		       size_t length, bool in_order, struct task *task)
{
	(void)in_order;
	struct world *w = (struct world *)host;
	CHECK(fits(export->volume, offset, length) && w->pending_count < ARRAY_LENGTH(w->pending));
	if (chance(w, 50))
		return false;
	if (chance(w, 50) || volume_read(export->volume, offset, buffer, length, NULL))
		memset(buffer, 0x5a, length);
	w->fetches[w->fetch_count++ % ARRAY_LENGTH(w->fetches)] =
		(struct world_fetch){.task = task, .buffer = buffer, .begun_us = clock_us(&clock_system)};
	w->pending[w->pending_count++] = task;
	return true;
}

static void host_ended(struct host *host, void *owner, const char *why)
{
	struct world *w = (struct world *)host;
	CHECK(owner == w);
	w->connection = NULL;
	w->why = why;
}

static const struct host_ops host_ops = {host_watch, host_secure, host_failed, host_fetch, host_ended};

/* -- what happens -- */

static void deliver(struct world *w)
{
	for (struct task *task = mailbox_take_all(&w->host.mailbox), *next; task; task = next) {
		next = task->next;
		task->done(task);
	}
	connection_turn_ready(&w->host);
}

/* What the socket would tell an event loop. */
static bool is_eventful(const struct world *w, bool *readable)
{
	bool there = w->received < w->to_server.length || w->is_closed || w->is_reset;
	*readable = w->watches_in && there;
	return *readable || w->watches_out;
}

bool world_step(struct world *w)
{
	bool readable = false, eventful = w->connection && is_eventful(w, &readable);
	bool mail = w->host.mailbox.tasks.first || w->host.ready;
	unsigned choices = (eventful ? 1 : 0) + (mail ? 1 : 0) + (w->pending_count ? 1 : 0);
	if (!choices)
		return false;
	unsigned choice = (unsigned)world_random(w, choices);
	if (eventful && choice-- == 0)
		connection_turn(w->connection, readable);
	else if (mail && choice-- == 0)
		deliver(w);
	else
		world_run_one(w);
	w->held_most = MAX_OF(w->held_most, atomic_load(&w->memory.used));
	return true;
}

void world_settle(struct world *w)
{
	while (world_step(w))
		;
}

void world_send(struct world *w, const void *bytes, size_t length)
{
	bytes_append(&w->to_server, bytes, length);
}

/* -- beginning and end -- */

static void add_volume(struct world *w, const char *name, uint64_t bytes, bool read_only)
{
	struct world_volume *v = &w->volumes[w->volume_count++];
	uint64_t blocks = DIV_UP(bytes, (uint64_t)WORLD_BLOCK);
	*v = (struct world_volume){.bytes = bytes, .read_only = read_only};
	strcpy(v->name, name);
	v->data = calloc(blocks, WORLD_BLOCK);
	v->written = calloc(blocks, sizeof(bool));
	CHECK(v->data && v->written);
}

void world_begin(struct world *w, uint64_t seed, struct world_nature nature, uint64_t bytes)
{
	*w = (struct world){.random = seed, .nature = nature};
	current = w;
	add_volume(w, "db", bytes, false);
	add_volume(w, "ro", WORLD_BLOCK, true);
	w->memory.total = MEMORY_TOTAL;
	w->workers = workers_new();
	w->host.ops = &host_ops;
	w->host.memory = &w->memory;
	w->host.exports = exports_new(&backend, w, w->workers, seed % 3);
	w->host.lookups = lane_new(w->workers, 1);
	w->host.in = workspace_in;
	w->host.workspace.out = workspace_out;
	CHECK(!mailbox_init(&w->host.mailbox) && w->host.exports);
	w->channel = (struct channel){.ops = &channel_ops, .fd = -1};
	w->connection = connection_new(&w->host, &w->channel, w);
	CHECK(w->connection);
	connection_turn(w->connection, false);
}

void world_end(struct world *w)
{
	w->is_reset = true;
	if (w->connection)
		connection_cut(w->connection, "the world ends");
	world_settle(w);
	CHECK(!w->connection && w->is_freed && !w->pending_count);
	CHECK(!atomic_load(&w->memory.used));
	exports_free(w->host.exports);
	lane_free(w->host.lookups);
	workers_free(w->workers);
	mailbox_destroy(&w->host.mailbox);
	buffers_trim(&w->host.buffers);
	for (unsigned i = 0; i < w->volume_count; i++) {
		free(w->volumes[i].data);
		free(w->volumes[i].written);
	}
	bytes_free(&w->to_server);
	bytes_free(&w->to_client);
}
