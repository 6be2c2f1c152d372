/* SPDX-License-Identifier: Apache-2.0 */
#include "control/backup.h"

#include <errno.h>
#include <fcntl.h>
#include <poll.h>
#include <stdio.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/error.h"
#include "control/field.h"

enum {
	RANGES_MAX = 4096, /* in one answer: some 300 KiB of text */
	WAIT_MS = 200,     /* for the other end of a stream, before it is asked whether anybody still wants it */
};

/* ---- diff ---- */

struct comparison {
	struct command_call *call;
	struct lcpfs_partition *from, *to;
	const char *bookmark; /* in the place of `from`, or NULL */
	struct json_object *ranges;
	struct lcpfs_difference last; /* length 0: none yet */
	uint64_t next;                /* everything before is known */
};

static void put_range(struct comparison *c)
{
	struct json_object *range = json_object_new_object();
	field_put_count(range, "offset", c->last.offset);
	field_put_count(range, "length", c->last.length);
	field_put_text(range, "kind", c->last.data ? "data" : "hole");
	json_object_array_add(c->ranges, range);
	c->last.length = 0;
}

static bool continues(const struct lcpfs_difference *last, const struct lcpfs_difference *more)
{
	return more->length && more->offset == last->offset + last->length && more->data == last->data;
}

/* A range goes out when it is known where it ends. */
static int compare(struct comparison *c)
{
	uint64_t end = lcpfs_volume_bytes(c->to);
	bool full = false;
	int error = 0;
	while (c->next < end && !full && !error) {
		struct lcpfs_difference more;
		struct command_call *call = c->call;
		error = c->bookmark
				? lcpfs_volume_difference_since(c->bookmark, c->to, c->next, &more, call->failure)
				: lcpfs_volume_difference(c->from, c->to, c->next, &more, call->failure);
		if (error)
			break;
		if (c->last.length && continues(&c->last, &more)) {
			c->last.length += more.length;
		} else {
			if (c->last.length)
				put_range(c);
			full = json_object_array_length(c->ranges) == RANGES_MAX;
			c->last = more;
		}
		c->next = full ? more.offset : more.offset + more.length;
		if (call->progress && !call->progress(call->context, c->next, end))
			error = failure_set(call->failure, LCPFS_E_STOPPED, "stopped");
	}
	if (!full && !error && c->last.length)
		put_range(c);
	return error;
}

/* The partition of NAME@SNAP or NAME#MARK; "" for a name that none has. */
static void partition_of(const char *snapshot, char partition[LCPFS_NAME_MAX + 1])
{
	size_t length = strcspn(snapshot, "@#");
	snprintf(partition, LCPFS_NAME_MAX + 1, "%.*s", length > LCPFS_NAME_MAX ? 0 : (int)length, snapshot);
}

static int open_both(struct comparison *c, const char *from, const char *to)
{
	c->bookmark = strchr(from, '#') ? from : NULL;
	if (!strchr(from, '@') && !c->bookmark)
		return failure_set(c->call->failure, LCPFS_E_INVALID, "%.200s names no snapshot: give NAME@SNAP",
				   from);
	int error = c->bookmark ? 0 : lcpfs_partition_open(c->call->pool, from, &c->from, c->call->failure);
	if (!error)
		error = lcpfs_partition_open(c->call->pool, to, &c->to, c->call->failure);
	return error;
}

static void put_next(struct comparison *c)
{
	if (c->next < lcpfs_volume_bytes(c->to))
		field_put_count(c->call->result, "next", c->next);
	else
		field_put(c->call->result, "next", NULL);
}

int backup_diff(struct command_call *call)
{
	const char *from = field_text(call->arguments, "from"), *to = field_text(call->arguments, "to");
	struct comparison c = {.call = call, .next = field_count(call->arguments, "offset")};
	char partition[LCPFS_NAME_MAX + 1];
	partition_of(from, partition);
	to = to ? to : partition;
	int error = open_both(&c, from, to);
	if (!error) {
		c.ranges = json_object_new_array();
		field_put_text(call->result, "from", from);
		field_put_text(call->result, "to", to);
		field_put(call->result, "ranges", c.ranges);
		error = compare(&c);
		put_next(&c);
	}
	lcpfs_partition_close(c.from);
	lcpfs_partition_close(c.to);
	return error;
}

/* ---- send and receive: whoever asks gives a descriptor ---- */

struct bulk {
	struct command_call *call;
	uint64_t done, total; /* as it was last told */
};

static bool bulk_progress(void *context, uint64_t done, uint64_t total)
{
	struct bulk *b = context;
	b->done = done;
	b->total = total;
	return !b->call->progress || b->call->progress(b->call->context, done, total);
}

/* Until something can be read, or written, or the other end is gone. STOPPED: nobody wants it any more. */
static int bulk_wait(struct bulk *b, short events, struct lcpfs_failure *failure)
{
	struct pollfd fd = {.fd = b->call->fd, .events = events};
	while (poll(&fd, 1, WAIT_MS) <= 0) {
		if (b->call->progress && !b->call->progress(b->call->context, b->done, MAX_OF(b->total, 1u)))
			return failure_set(failure, LCPFS_E_STOPPED, "stopped");
	}
	return 0;
}

static int bulk_write(void *context, const void *data, size_t length, struct lcpfs_failure *failure)
{
	struct bulk *b = context;
	const char *at = data;
	int error = 0;
	while (length && !error) {
		ssize_t n = write(b->call->fd, at, length);
		if (n >= 0) {
			at += n;
			length -= (size_t)n;
		} else if (errno == EAGAIN) {
			error = bulk_wait(b, POLLOUT, failure);
		} else if (errno != EINTR) {
			error = failure_set(failure, LCPFS_E_STOPPED, "the stream cannot be written: %s",
					    strerrordesc_np(errno));
		}
	}
	return error;
}

static int bulk_read(void *context, void *buffer, size_t *length, struct lcpfs_failure *failure)
{
	struct bulk *b = context;
	size_t done = 0;
	ssize_t n = 1;
	int error = 0;
	while (done < *length && n && !error) {
		error = bulk_wait(b, POLLIN, failure);
		n = error ? 0 : read(b->call->fd, (char *)buffer + done, *length - done);
		if (n < 0 && errno != EINTR && errno != EAGAIN)
			error = failure_set(failure, LCPFS_E_SYSTEM, "the stream cannot be read: %s",
					    strerrordesc_np(errno));
		done += n > 0 ? (size_t)n : 0;
	}
	*length = done;
	return error;
}

static void put_guid(struct json_object *object, const char *key, uint64_t guid)
{
	if (guid)
		field_put_id(object, key, guid);
	else
		field_put(object, key, NULL);
}

static void put_stream(struct command_call *call, const struct lcpfs_stream *s)
{
	field_put_text(call->result, "partition", s->partition);
	field_put_text(call->result, "snapshot", s->snapshot);
	field_put(call->result, "from", s->from_guid ? json_object_new_string(s->from) : NULL);
	put_guid(call->result, "guid", s->guid);
	put_guid(call->result, "from_guid", s->from_guid);
	field_put_count(call->result, "created_s", s->created_s);
	field_put_count(call->result, "volume_bytes", s->volume_bytes);
	field_put_count(call->result, "stream_bytes", s->stream_bytes);
	field_put_count(call->result, "data_bytes", s->data_bytes);
	field_put_count(call->result, "hole_bytes", s->hole_bytes);
	field_put_count(call->result, "skipped_bytes", s->skipped_bytes);
	field_put_flag(call->result, "dry_run", field_flag(call->arguments, "dry_run"));
}

/* Writing must never hold us: only what cannot do that is taken. */
static int check_sink(struct command_call *call)
{
	struct stat st;
	if (call->fd < 0 || fstat(call->fd, &st) || !S_ISFIFO(st.st_mode) ||
	    fcntl(call->fd, F_SETFL, O_WRONLY | O_NONBLOCK))
		return failure_set(call->failure, LCPFS_E_INVALID, "send needs a pipe to write to");
	return 0;
}

int backup_send(struct command_call *call)
{
	struct bulk b = {.call = call};
	struct lcpfs_send_options options = {.from = field_text(call->arguments, "from"),
					     .dry_run = field_flag(call->arguments, "dry_run"),
					     .write = bulk_write,
					     .progress = bulk_progress,
					     .context = &b};
	struct lcpfs_stream stream;
	int error = options.dry_run ? 0 : check_sink(call);
	if (!error)
		error = lcpfs_snapshot_send(call->pool, field_text(call->arguments, "name"), &options, &stream,
					    call->failure);
	if (!error)
		put_stream(call, &stream);
	return error;
}

int backup_receive(struct command_call *call)
{
	struct bulk b = {.call = call};
	struct lcpfs_receive_options options = {.force = field_flag(call->arguments, "force"),
						.resume = field_flag(call->arguments, "resume"),
						.abort = field_flag(call->arguments, "abort"),
						.dry_run = field_flag(call->arguments, "dry_run"),
						.read = bulk_read,
						.progress = bulk_progress,
						.context = &b};
	struct lcpfs_stream stream;
	int error = 0;
	if (call->fd < 0 && !options.abort)
		return failure_set(call->failure, LCPFS_E_INVALID, "receive needs a descriptor to read from");
	error = lcpfs_snapshot_receive(call->pool, field_text(call->arguments, "name"), &options, &stream,
				       call->failure);
	if (error)
		return error;
	put_stream(call, &stream);
	field_put_text(call->result, "name", field_text(call->arguments, "name"));
	return 0;
}
