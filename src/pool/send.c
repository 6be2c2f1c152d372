/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sending: a snapshot, or what has changed since an earlier one, as a stream (stream/stream.h). Two handles keep
 * both from being destroyed meanwhile, or a bookmark says all of the earlier one that it takes; there is no lock,
 * and nothing is written, so a pool that is open read-only will do.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/core.h"
#include "stream/stream.h"

struct sender {
	const struct lcpfs_send_options *options;
	struct lcpfs_partition *from, *to; /* from NULL: all of it */
	struct store_snapshot from_found, to_found;
	struct volume_name of; /* to is of */
	bool since; /* from_found is what a bookmark says: `from` is NULL */
	struct stream_position at;
	uint8_t *data;
	struct lcpfs_failure *failure;
};

/* -- which -- */

/* "SNAP" or "@SNAP", of the volume of `name`; or "NAME@SNAP". */
static void name_from(const char *name, const char *from, char full[2 * LCPFS_NAME_MAX + 2])
{
	const char *snapshot;
	size_t length = snapshot_split(name, &snapshot);
	if (strchr(from, '@') && *from != '@')
		snprintf(full, 2 * LCPFS_NAME_MAX + 2, "%s", from);
	else
		snprintf(full, 2 * LCPFS_NAME_MAX + 2, "%.*s@%s", (int)MIN_OF(length, (size_t)LCPFS_NAME_MAX),
			 name, *from == '@' ? from + 1 : from);
}

static int open_snapshot(struct lcpfs_pool *pool, const char *name, struct lcpfs_partition **partition,
			 struct store_snapshot *found, struct lcpfs_failure *failure)
{
	const char *snapshot;
	snapshot_split(name, &snapshot);
	if (!snapshot)
		return failure_set(failure, LCPFS_E_INVALID, "%.200s names no snapshot: give NAME@SNAP", name);
	int error = lcpfs_partition_open(pool, name, partition, failure);
	if (!error && !volume_snapshot(*partition, found))
		error = failure_set(failure, LCPFS_E_NOT_FOUND, "there is no snapshot %.200s", name);
	return error;
}

/* "#MARK" or "NAME#MARK", of the volume of `name`. It says all that it takes, so it may go meanwhile. */
static int find_bookmark(struct sender *s, const char *name)
{
	const struct part *part = volume_part(s->to);
	const char *from = s->options->from, *mark = strchr(from, '#') + 1;
	size_t length = (size_t)(mark - 1 - from);
	if (length && (strncmp(from, s->of.name, length) != 0 || s->of.name[length]))
		return failure_set(s->failure, LCPFS_E_INVALID, "%.100s and %s are of two volumes", from, name);
	if (!store_volume_bookmark_find(part->store, s->of.number, mark, &s->from_found))
		return failure_set(s->failure, LCPFS_E_NOT_FOUND, "there is no bookmark %s#%.100s", s->of.name,
				   mark);
	s->since = true;
	return s->from_found.number < s->to_found.number
		       ? 0
		       : failure_set(s->failure, LCPFS_E_INVALID, "%s#%s is not older than %s", s->of.name, mark,
				     name);
}

static void name_volume(struct sender *s, struct lcpfs_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	snapshot_name_volume(volume_part(s->to), s->to_found.volume, &s->of);
	pthread_mutex_unlock(&pool->lock);
}

static int open_both(struct sender *s, struct lcpfs_pool *pool, const char *name)
{
	char from[2 * LCPFS_NAME_MAX + 2];
	int error = open_snapshot(pool, name, &s->to, &s->to_found, s->failure);
	if (!error)
		name_volume(s, pool);
	if (error || !s->options->from)
		return error;
	if (strchr(s->options->from, '#'))
		return find_bookmark(s, name);
	name_from(name, s->options->from, from);
	error = open_snapshot(pool, from, &s->from, &s->from_found, s->failure);
	if (!error && volume_part(s->from) != volume_part(s->to))
		return failure_set(s->failure, LCPFS_E_INVALID, "%s and %s are of two partitions", from, name);
	if (!error && s->from_found.number >= s->to_found.number)
		error = failure_set(s->failure, LCPFS_E_INVALID, "%s is not older than %s", from, name);
	return error;
}

static struct stream_about about(const struct sender *s)
{
	const struct part *part = volume_part(s->to);
	struct stream_about a = {.pool = part->pool->layout.guid,
				 .guid = guid_of(part, &s->to_found),
				 .from = s->from || s->since ? guid_of(part, &s->from_found) : 0,
				 .created_s = s->to_found.created_s,
				 .volume_bytes = lcpfs_volume_bytes(s->to)};
	memcpy(a.partition, s->of.name, sizeof(s->of.name));
	memcpy(a.snapshot, s->to_found.name, sizeof(a.snapshot));
	memcpy(a.from_name, s->from_found.name, sizeof(a.from_name));
	return a;
}

/* -- what -- */

static int put(struct sender *s, const void *data, size_t length)
{
	return s->options->dry_run || !length ? 0
					      : s->options->write(s->options->context, data, length, s->failure);
}

static int put_record(struct sender *s, const struct stream_header *header, const void *payload)
{
	int error = put(s, header, sizeof(*header));
	return error ? error : put(s, payload, le32_get(header->payload));
}

static int goes_on(struct sender *s, uint64_t done)
{
	const struct lcpfs_send_options *o = s->options;
	if (!o->progress || o->progress(o->context, done, lcpfs_volume_bytes(s->to)))
		return 0;
	return failure_set(s->failure, LCPFS_E_STOPPED, "stopped");
}

/* Records end at multiples of their greatest length, wherever ranges were cut: so the same is always the same. */
static int send_data(struct sender *s, uint64_t offset, uint64_t length)
{
	int error = 0;
	for (uint64_t end = offset + length; offset < end && !error;) {
		struct stream_header header;
		uint64_t border = (offset / STREAM_PAYLOAD_MAX + 1) * STREAM_PAYLOAD_MAX;
		size_t piece = (size_t)(MIN_OF(border, end) - offset);
		if (!s->options->dry_run)
			error = lcpfs_volume_read(s->to, offset, s->data, piece, s->failure);
		if (error)
			break;
		stream_put_data(&s->at, offset, s->options->dry_run ? NULL : s->data, piece, &header);
		error = put_record(s, &header, s->data);
		offset += piece;
		if (!error)
			error = goes_on(s, offset);
	}
	return error;
}

static int send_hole(struct sender *s, uint64_t offset, uint64_t length)
{
	struct stream_header header;
	stream_put_hole(&s->at, offset, length, &header);
	return put_record(s, &header, NULL);
}

static int send_changes(struct sender *s)
{
	uint64_t next = 0, end = lcpfs_volume_bytes(s->to);
	int error = 0;
	while (next < end && !error) {
		struct lcpfs_difference d;
		error = s->since ? volume_difference_since(s->to, s->from_found.number, next, &d, s->failure)
				 : lcpfs_volume_difference(s->from, s->to, next, &d, s->failure);
		if (!error && d.length)
			error = (d.data ? send_data : send_hole)(s, d.offset, d.length);
		next = d.offset + d.length;
		if (!error)
			error = goes_on(s, next);
	}
	return error;
}

static int send_all(struct sender *s, const struct stream_about *a)
{
	struct stream_header header;
	struct stream_begin begin;
	struct stream_end end;
	stream_put_begin(&s->at, a, &header, &begin);
	int error = put_record(s, &header, &begin);
	if (!error)
		error = send_changes(s);
	if (error)
		return error;
	stream_put_end(&s->at, a->volume_bytes, &header, &end);
	return put_record(s, &header, &end);
}

int lcpfs_snapshot_send(struct lcpfs_pool *pool, const char *name, const struct lcpfs_send_options *options,
			struct lcpfs_stream *stream, struct lcpfs_failure *failure)
{
	struct sender s = {.options = options, .failure = failure, .data = malloc(STREAM_PAYLOAD_MAX)};
	int error = s.data ? 0 : failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	if (!error)
		error = open_both(&s, pool, name);
	if (!error) {
		struct stream_about a = about(&s);
		error = send_all(&s, &a);
		stream_describe(&a, &s.at, stream);
	}
	lcpfs_partition_close(s.from);
	lcpfs_partition_close(s.to);
	free(s.data);
	return error;
}
