/* SPDX-License-Identifier: Apache-2.0 */
#include "control/backup.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "control/field.h"

enum { RANGES_MAX = 4096 }; /* in one answer: some 300 KiB of text */

/* ---- diff ---- */

struct comparison {
	struct command_call *call;
	struct lcpfs_partition *from, *to;
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

		error = lcpfs_volume_difference(c->from, c->to, c->next, &more, call->failure);
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

/* The partition of NAME@SNAP; "" for a name that none has. */
static void partition_of(const char *snapshot, char partition[LCPFS_NAME_MAX + 1])
{
	size_t length = strcspn(snapshot, "@");

	snprintf(partition, LCPFS_NAME_MAX + 1, "%.*s", length > LCPFS_NAME_MAX ? 0 : (int)length, snapshot);
}

static int open_both(struct comparison *c, const char *from, const char *to)
{
	int error;

	if (!strchr(from, '@'))
		return failure_set(c->call->failure, LCPFS_E_INVALID, "%.200s names no snapshot: give NAME@SNAP",
				   from);
	error = lcpfs_partition_open(c->call->pool, from, &c->from, c->call->failure);
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
	int error;

	partition_of(from, partition);
	to = to ? to : partition;
	error = open_both(&c, from, to);
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
