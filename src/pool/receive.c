/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Receiving: a stream (stream/stream.h) is written into a volume, which becomes the snapshot that was sent.
 *
 * While that lasts, the volume is neither what it was nor what it will be. So a mark stands in the partition's
 * page from before the first change until the snapshot is taken: which snapshot is on its way, what it goes on
 * from, and up to where it has come. With a mark nobody opens the volume, no snapshot of it is taken or destroyed,
 * and a version that does not know marks leaves the partition alone. Snapshots that were there can be read all the
 * time.
 *
 * The mark moves on with what is durable, so a stream that comes again can go on there: by the number and the
 * checksum of the last record, which all before it went into, it is known to be the same stream. Records behind it
 * may have been written, too; writing them again does no harm.
 *
 * Giving up makes the volume what it was: the snapshot that the stream went on from, or empty. That is why the
 * volume has to be unchanged since that snapshot, or empty, when it begins.
 *
 * The snapshot carries the guid that was sent. So where the mark names the youngest snapshot, all is done, and
 * only the mark has not been taken away yet.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/core.h"
#include "stream/stream.h"

struct receiver {
	struct lcpfs_pool *pool;
	struct part *part;
	const struct lcpfs_receive_options *options;
	struct lcpfs_failure *failure;
	struct stream_about about;
	struct stream_position at;   /* what was read and is right */
	struct stream_position done; /* and is in the volume */
	struct stream_header header;
	uint8_t *payload;
	uint64_t saved_bytes; /* done.data_bytes when the mark was last moved */
	uint64_t skipped_bytes;
	bool ahead; /* the record behind `done` is read already */
};

/* False: who waits for it wants no more. */
static bool tell(const struct receiver *r, uint64_t done, uint64_t total)
{
	return !r->options->progress || r->options->progress(r->options->context, done, total);
}

/* -- the mark: with the lock -- */

static const struct fmt_receive *mark_of(const struct part *part)
{
	const struct fmt_partition *page =
		txg_current(part->pool, layout_partition_page(&part->pool->layout, part->slot));
	return &page->receive;
}

static bool is_marked(const struct part *part)
{
	return le64_get(mark_of(part)->guid);
}

static bool youngest(const struct part *part, struct store_snapshot *found)
{
	unsigned room = store_snapshots(part->store, NULL, 0);
	struct store_snapshot *list = calloc(room + 1, sizeof(*list));
	unsigned count = list ? store_snapshots(part->store, list, room) : 0;
	count = MIN_OF(count, room);
	if (count)
		*found = list[count - 1];
	free(list);
	return count;
}

static bool is_done(const struct part *part)
{
	struct store_snapshot found;
	return youngest(part, &found) && found.guid == le64_get(mark_of(part)->guid);
}

/* NULL: there is none from now on. */
static int put_mark(struct part *part, const struct fmt_receive *mark, struct lcpfs_failure *failure)
{
	static const struct fmt_receive none;
	struct lcpfs_pool *pool = part->pool;
	uint64_t bits = PARTITION_RECEIVING | PARTITION_SNAPSHOTS;
	struct txg txg;
	txg_begin(pool, &txg);
	struct fmt_partition *page = txg_change(&txg, layout_partition_page(&pool->layout, part->slot));
	uint64_t had = le64_get(page->features.incompatible);
	page->receive = mark ? *mark : none;
	page->features.incompatible = le64_of(mark ? had | bits : had & ~(uint64_t)PARTITION_RECEIVING);
	return txg_commit(&txg, failure);
}

int receive_refuse(const struct part *part, struct lcpfs_failure *failure)
{
	if (part->receiving)
		return failure_set(failure, LCPFS_E_BUSY, "partition %s is receiving a snapshot", part->name);
	if (!is_marked(part) || is_done(part))
		return 0;
	return failure_set(failure, LCPFS_E_BUSY,
			   "partition %s has received a part of a snapshot; go on with lcpfs receive --resume, or "
			   "give it up with --abort",
			   part->name);
}

enum lcpfs_receiving receive_state(const struct part *part)
{
	if (part->receiving)
		return LCPFS_RECEIVING_NOW;
	return part->store && is_marked(part) && !is_done(part) ? LCPFS_RECEIVING_INTERRUPTED
								: LCPFS_RECEIVING_NONE;
}

int receive_clear(struct part *part, struct lcpfs_failure *failure)
{
	int error = receive_refuse(part, failure);
	if (!error && is_marked(part)) {
		error = store_flush(part->store, failure); /* done durably, too? */
		if (!error)
			error = put_mark(part, NULL, failure);
	}
	return error;
}

/* Without the lock. */
static int write_mark(struct part *part, const struct fmt_receive *mark, struct lcpfs_failure *failure)
{
	pthread_mutex_lock(&part->pool->lock);
	int error = put_mark(part, mark, failure);
	pthread_mutex_unlock(&part->pool->lock);
	return error;
}

static int save(struct receiver *r, struct lcpfs_failure *failure)
{
	struct fmt_receive mark = {.guid = le64_of(r->about.guid),
				   .from = le64_of(r->about.from),
				   .records = le64_of(r->done.records),
				   .check = {le64_of(r->done.check.low), le64_of(r->done.check.high)}};
	int error = store_flush(r->part->store, failure);
	r->saved_bytes = r->done.data_bytes;
	return error ? error : write_mark(r->part, &mark, failure);
}

/* -- the volume, made what it was -- */

/* Nobody else does it in a pool without threads of its own. */
static void finish_freeing(struct part *part)
{
	bool more = !part->pool->options.background;
	while (more && store_snapshots_pending(part->store))
		more = store_step(part->store) > 0;
}

/* In pieces, since a full volume may take minutes, and who waits is told in between. */
static int empty(struct receiver *r, struct lcpfs_failure *failure)
{
	struct part *part = r->part;
	uint64_t end = store_volume_blocks(part->store) * BLOCK_SIZE, length;
	int error = 0;
	for (uint64_t at = 0; at < end && !error; at += length) {
		length = MIN_OF(end - at, r->pool->mark_bytes);
		error = store_trim(part->store, at, length, false, failure);
		if (!error && !tell(r, at + length, end) && r->options->abort)
			error = failure_set(failure, LCPFS_E_STOPPED, "stopped; give it up again to go on");
	}
	return error ? error : store_flush(part->store, failure);
}

static int reset(struct receiver *r, uint64_t from, struct lcpfs_failure *failure)
{
	struct part *part = r->part;
	struct store_snapshot base;
	if (!from)
		return empty(r, failure);
	if (!youngest(part, &base) || guid_of(part, &base) != from)
		return failure_set(failure, LCPFS_E_CORRUPT,
				   "partition %s: the snapshot that its youngest goes on from is not there",
				   part->name);
	int error = store_rollback(part->store, base.name);
	if (error)
		return failure_set(failure, (enum lcpfs_error) - error, "partition %s was not rolled back: %s",
				   part->name, lcpfs_error_sentence(error));
	finish_freeing(part);
	return 0;
}

static int give_up(struct receiver *r, struct lcpfs_failure *failure)
{
	struct part *part = r->part;
	pthread_mutex_lock(&part->pool->lock);
	struct fmt_receive mark = *mark_of(part);
	bool done = is_done(part);
	pthread_mutex_unlock(&part->pool->lock);
	mark.records = le64_of(0); /* if this is interrupted and the same stream comes again, nothing is skipped */
	int error = done ? store_flush(part->store, failure) : write_mark(part, &mark, failure);
	if (!error && !done)
		error = reset(r, le64_get(mark.from), failure);
	return error ? error : write_mark(part, NULL, failure);
}

/* -- the stream -- */

static int ends_early(struct receiver *r)
{
	return failure_set(r->failure, LCPFS_E_STOPPED, "the stream ends before its end, at byte %" PRIu64,
			   r->at.bytes);
}

static int read_bytes(struct receiver *r, void *buffer, size_t length)
{
	size_t got = length;
	int error = r->options->read(r->options->context, buffer, &got, r->failure);
	return error ? error : got < length ? ends_early(r) : 0;
}

static int read_record(struct receiver *r)
{
	size_t payload = 0;
	int error = read_bytes(r, &r->header, sizeof(r->header));
	if (!error)
		error = stream_check_header(&r->at, r->about.volume_bytes, &r->header, &payload, r->failure);
	if (!error && payload)
		error = read_bytes(r, r->payload, payload);
	return error ? error : stream_check_record(&r->at, &r->header, r->payload, r->failure);
}

static int read_begin(struct receiver *r)
{
	struct stream_begin begin;
	int error = read_record(r);
	if (error)
		return error;
	memcpy(&begin, r->payload, sizeof(begin));
	return stream_read_begin(&begin, &r->about, r->failure);
}

/* -- does it fit? -- */

static int check_length(struct receiver *r)
{
	uint64_t bytes = size_divide_up(r->part->volume_bytes, BLOCK_SIZE) * BLOCK_SIZE;
	if (r->about.volume_bytes <= bytes)
		return 0;
	return failure_set(r->failure, LCPFS_E_TOO_SMALL,
			   "the volume that was sent has %" PRIu64 " bytes, and that of %s %" PRIu64
			   "; make it longer first, with lcpfs set",
			   r->about.volume_bytes, r->part->name, r->part->volume_bytes);
}

static int check_base(struct receiver *r, bool has, const struct store_snapshot *base)
{
	const struct part *part = r->part;
	struct store_snapshot there;
	if (has && guid_of(part, base) == r->about.guid)
		return failure_set(r->failure, LCPFS_E_EXISTS, "%s@%s is that snapshot already", part->name,
				   base->name);
	if (has && !r->about.from)
		return failure_set(
			r->failure, LCPFS_E_NOT_EMPTY,
			"%s has snapshots, and the stream is a whole one; receive into a new partition, "
			"or destroy them first",
			part->name);
	if (r->about.from && (!has || guid_of(part, base) != r->about.from))
		return failure_set(r->failure, LCPFS_E_NOT_FOUND,
				   "the stream goes on from %s@%s, and the youngest snapshot of %s is %s%s",
				   r->about.partition, r->about.from_name, part->name,
				   has ? "another one: " : "none", has ? base->name : "");
	if (store_snapshot_find(part->store, r->about.snapshot, &there))
		return failure_set(r->failure, LCPFS_E_EXISTS, "snapshot %s@%s exists already", part->name,
				   there.name);
	return 0;
}

/* Anything that it would lose? */
static int check_unchanged(struct receiver *r, bool has, const struct store_snapshot *base)
{
	struct store_difference run = {0};
	int error = 0;
	while (!error && !run.count && run.first != UINT64_MAX)
		error = store_difference(r->part->store, has ? base->number : 0, 0, run.first, &run);
	if (error)
		return failure_set(r->failure, (enum lcpfs_error) - error, "partition %s cannot be compared: %s",
				   r->part->name, lcpfs_error_sentence(error));
	if (!run.count || r->options->force)
		return 0;
	if (has)
		return failure_set(r->failure, LCPFS_E_NOT_EMPTY,
				   "partition %s has changed since %s@%s; --force gives that up", r->part->name,
				   r->part->name, base->name);
	return failure_set(r->failure, LCPFS_E_NOT_EMPTY, "partition %s holds data; --force gives it up",
			   r->part->name);
}

static int check_target(struct receiver *r)
{
	struct store_snapshot base = {0};
	bool has = youngest(r->part, &base);
	int error = check_length(r);
	if (!error)
		error = check_base(r, has, &base);
	return error ? error : check_unchanged(r, has, &base);
}

/* -- going on -- */

static int another_stream(struct receiver *r)
{
	return failure_set(
		r->failure, LCPFS_E_INVALID,
		"%s has received a part of another stream; --resume goes on with that one only, and --abort "
		"gives it up",
		r->part->name);
}

static int check_mark(struct receiver *r, const struct fmt_receive *mark)
{
	bool same = le64_get(mark->guid) == r->about.guid && le64_get(mark->from) == r->about.from;
	return same ? 0 : another_stream(r);
}

/* What an earlier one has brought is read, and known again. */
static int skip(struct receiver *r, const struct fmt_receive *mark)
{
	uint64_t records = le64_get(mark->records);
	int error = 0;
	while (r->at.records < records && !error) {
		error = read_record(r);
		if (!error && stream_kind(&r->header) == STREAM_END)
			error = another_stream(r);
		if (!error && !tell(r, r->at.offset, r->about.volume_bytes))
			error = failure_set(r->failure, LCPFS_E_STOPPED, "stopped");
	}
	if (!error && records &&
	    (r->at.check.low != le64_get(mark->check[0]) || r->at.check.high != le64_get(mark->check[1])))
		error = another_stream(r);
	r->skipped_bytes = records > 1 ? r->at.bytes : 0;
	r->saved_bytes = r->at.data_bytes;
	r->done = r->at;
	return error;
}

static int take_up(struct receiver *r)
{
	pthread_mutex_lock(&r->pool->lock);
	const struct fmt_receive mark = *mark_of(r->part);
	pthread_mutex_unlock(&r->pool->lock);
	int error = check_length(r);

	if (!error)
		error = check_mark(r, &mark);
	if (!error && le64_get(mark.records) <= 1) /* perhaps it had not been made ready for the stream */
		error = reset(r, r->about.from, r->failure);
	return error ? error : skip(r, &mark);
}

/* Before anything is given up something has to have come behind the beginning. */
static int begin_new(struct receiver *r)
{
	int error = check_target(r);
	if (!error && r->options->force) {
		error = read_record(r);
		r->ahead = true;
	}
	if (!error)
		error = save(r, r->failure);
	if (!error && r->options->force)
		error = reset(r, r->about.from, r->failure);
	return error;
}

/* -- what is in it -- */

/* A volume may end within its last block. Behind that there must be nothing, or it would show when it gets longer.
 */
static int check_beyond(struct receiver *r, uint64_t offset, uint64_t length)
{
	static const uint8_t zeros[BLOCK_SIZE];
	uint64_t end = r->part->volume_bytes;
	if (offset + length <= end || memcmp(r->payload + (end - offset), zeros, offset + length - end) == 0)
		return 0;
	return failure_set(
		r->failure, LCPFS_E_TOO_SMALL,
		"there are data beyond the end that the volume of %s has; make it longer first, with lcpfs set",
		r->part->name);
}

static int apply(struct receiver *r)
{
	uint64_t offset = le64_get(r->header.offset), length = le64_get(r->header.length);
	if (stream_kind(&r->header) == STREAM_HOLE)
		return store_trim(r->part->store, offset, length, false, r->failure);
	int error = check_beyond(r, offset, length);
	return error ? error : store_write(r->part->store, offset, r->payload, (size_t)length, false, r->failure);
}

static int apply_all(struct receiver *r)
{
	int error = 0;
	while (!error) {
		error = r->ahead ? 0 : read_record(r);
		r->ahead = false;
		if (error || stream_kind(&r->header) == STREAM_END)
			break;
		error = apply(r);
		if (!error)
			r->done = r->at;
		if (!error && r->done.data_bytes - r->saved_bytes >= r->pool->mark_bytes)
			error = save(r, r->failure);
		if (!error && !tell(r, r->at.offset, r->about.volume_bytes))
			error = failure_set(r->failure, LCPFS_E_STOPPED, "stopped");
	}
	return error;
}

static int finish(struct receiver *r)
{
	struct part *part = r->part;
	int error = store_snapshot_as(part->store, r->about.snapshot, r->about.created_s, r->about.guid);
	if (error)
		return failure_set(r->failure, (enum lcpfs_error) - error, "snapshot %s@%s was not taken: %s",
				   part->name, r->about.snapshot, lcpfs_error_sentence(error));
	pthread_mutex_lock(&r->pool->lock);
	history_note(r->pool, LCPFS_EVENT_SNAPSHOT, LCPFS_ENGINE_FREE, part->id, 0, "%s@%s, received", part->name,
		     r->about.snapshot);
	pthread_mutex_unlock(&r->pool->lock);
	return write_mark(part, NULL, r->failure);
}

/* After a failure: it stays as far as it came, where somebody wants to go on; else nothing has happened. */
static int settle(struct receiver *r, int error)
{
	struct lcpfs_failure why = {0};
	if (r->options->resume) {
		if (r->done.records > 1 && save(r, &why))
			return error;
		return failure_prefix(r->failure, error, "what came is kept for --resume");
	}
	if (!give_up(r, &why))
		return error;
	return failure_set(r->failure, (enum lcpfs_error) - error,
			   "%.200s; and what came of it stays, until lcpfs receive --abort: %.200s",
			   r->failure->message, why.message);
}

/* All but changing something. */
static int try_to_receive(struct receiver *r, bool marked)
{
	int error = marked ? check_length(r) : check_target(r);
	pthread_mutex_lock(&r->pool->lock);
	const struct fmt_receive mark = *mark_of(r->part);
	pthread_mutex_unlock(&r->pool->lock);
	if (!error && marked)
		error = check_mark(r, &mark);
	while (!error && stream_kind(&r->header) != STREAM_END)
		error = read_record(r);
	return error;
}

static int receive(struct receiver *r)
{
	int error = read_begin(r);
	if (error)
		return error;
	r->done = r->at;
	pthread_mutex_lock(&r->pool->lock);
	bool marked = is_marked(r->part) && !is_done(r->part);
	pthread_mutex_unlock(&r->pool->lock);
	if (r->options->dry_run)
		return try_to_receive(r, marked);
	error = marked ? take_up(r) : begin_new(r);
	bool begun = !error;
	if (!error)
		error = apply_all(r);
	if (!error)
		error = finish(r);
	if (!error)
		return 0;
	pthread_mutex_lock(&r->pool->lock);
	begun |= !marked && is_marked(r->part) && !is_done(r->part);
	pthread_mutex_unlock(&r->pool->lock);
	return begun ? settle(r, error) : error;
}

/* -- having the partition for oneself: with the lock -- */

static int check_clients(const struct part *part, struct lcpfs_failure *failure)
{
	uint32_t clients = part->clients - part->readers;
	if (part->closed_to_clients)
		return failure_set(failure, LCPFS_E_BUSY, "partition %s is being changed; try again", part->name);
	if (!clients)
		return 0;
	return failure_set(failure, LCPFS_E_BUSY,
			   "partition %s is in use by %" PRIu32
			   " client%s, who would see it change; disconnect %s first",
			   part->name, clients, clients == 1 ? "" : "s", clients == 1 ? "it" : "them");
}

static int find_part(struct lcpfs_pool *pool, const char *name, struct part **part, struct lcpfs_failure *failure)
{
	*part = part_named(pool, name);
	if (!*part)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no partition %.200s", name ? name : "");
	return part_refuse(*part, failure);
}

static int take_part(struct lcpfs_pool *pool, const char *name, const struct lcpfs_receive_options *options,
		     struct part **part, struct lcpfs_failure *failure)
{
	int error = (options->dry_run ? txg_refuse_trying : txg_refuse)(pool, failure);
	if (!error)
		error = find_part(pool, name, part, failure);
	while (!error && (*part)->snapshot_work && !(*part)->receiving) {
		pthread_cond_wait(&pool->changed, &pool->lock);
		error = find_part(pool, name, part, failure);
	}
	if (!error && ((*part)->receiving || !(options->resume || options->abort)))
		error = options->dry_run ? receive_refuse(*part, failure) : receive_clear(*part, failure);
	if (!error && options->abort && !is_marked(*part))
		error = failure_set(failure, LCPFS_E_NOT_FOUND, "partition %s has received no part of a snapshot",
				    (*part)->name);
	if (!error)
		error = check_clients(*part, failure);
	if (error)
		return error;
	(*part)->receiving = (*part)->snapshot_work = true;
	(*part)->clients++;
	part_hold(*part);
	return 0;
}

static void let_part(struct part *part)
{
	struct lcpfs_pool *pool = part->pool;
	pthread_mutex_lock(&pool->lock);
	part->receiving = part->snapshot_work = false;
	part->clients--;
	part_drop(part);
	pthread_cond_broadcast(&pool->changed);
	pthread_mutex_unlock(&pool->lock);
}

void stream_describe(const struct stream_about *a, const struct stream_position *at, struct lcpfs_stream *stream)
{
	*stream = (struct lcpfs_stream){.guid = a->guid,
					.from_guid = a->from,
					.created_s = a->created_s,
					.volume_bytes = a->volume_bytes,
					.stream_bytes = at->bytes,
					.data_bytes = at->data_bytes,
					.hole_bytes = at->hole_bytes};
	memcpy(stream->partition, a->partition, sizeof(a->partition));
	memcpy(stream->snapshot, a->snapshot, sizeof(a->snapshot));
	memcpy(stream->from, a->from_name, sizeof(a->from_name));
}

int lcpfs_snapshot_receive(struct lcpfs_pool *pool, const char *partition,
			   const struct lcpfs_receive_options *options, struct lcpfs_stream *stream,
			   struct lcpfs_failure *failure)
{
	struct receiver r = {
		.pool = pool, .options = options, .failure = failure, .payload = malloc(STREAM_PAYLOAD_MAX)};
	int error = r.payload ? 0 : failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	if (!error) {
		pthread_mutex_lock(&pool->lock);
		error = take_part(pool, partition, options, &r.part, failure);
		pthread_mutex_unlock(&pool->lock);
	}
	if (!error) {
		if (!options->abort)
			error = receive(&r);
		else if (!options->dry_run)
			error = give_up(&r, failure);
		let_part(r.part);
	}
	stream_describe(&r.about, &r.at, stream);
	stream->skipped_bytes = r.skipped_bytes;
	free(r.payload);
	return error;
}
