/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Handles of partitions, and I/O through them. A handle keeps its part, so I/O needs no lock and no look-up here:
 * it goes straight to the store.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pool/core.h"
#include "pool/guard.h"
#include "vdev/fetch.h"
#include "vdev/ghost.h"

enum { WAITING_PIECE = 128 << 10 };

static bool is_own(const struct lcpfs_partition *handle)
{
	return !handle->snapshot && !handle->clone;
}

/* Of those that are written. */
static uint32_t volume_of(const struct lcpfs_partition *handle)
{
	return handle->clone ? handle->clone : STORE_OWN_VOLUME;
}

static int find_clone(struct lcpfs_pool *pool, const char *name, struct lcpfs_partition *handle,
		      struct lcpfs_failure *failure)
{
	struct store_clone found;
	struct part *part = clone_find(pool, name, &found);
	if (!part)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no partition %.200s", name);
	if (found.number == part->doomed)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "clone %s is being destroyed", name);
	if (part->closed_to_clients)
		return failure_set(failure, LCPFS_E_BUSY, "partition %s is being changed; try again", part->name);
	*handle = (struct lcpfs_partition){.part = part,
					   .store = part->store,
					   .bytes = found.volume_blocks * BLOCK_SIZE,
					   .clone = found.number};
	return 0;
}

static int find_volume(struct lcpfs_pool *pool, const char *name, struct lcpfs_partition *handle,
		       struct lcpfs_failure *failure)
{
	const char *snapshot = NULL;
	size_t length = name ? snapshot_split(name, &snapshot) : 0;
	struct store_snapshot found = {0};
	struct volume_name of;
	struct part *part;
	int error = snapshot_find_volume(pool, name ? name : "", length, &part, &of, failure);
	if (!error && !snapshot && of.number != STORE_OWN_VOLUME)
		return find_clone(pool, of.name, handle, failure);
	if (!error && part->closed_to_clients)
		error = failure_set(failure, LCPFS_E_BUSY, "partition %s is being changed; try again", part->name);
	if (!error && !snapshot)
		error = receive_refuse(part, failure);
	if (error)
		return error;
	*handle =
		(struct lcpfs_partition){.part = part, .store = part->store, .bytes = part->volume_bytes};
	if (!snapshot)
		return 0;
	error = snapshot_find(part, &of, snapshot, &found, failure);
	handle->bytes = found.volume_blocks * BLOCK_SIZE;
	handle->snapshot = found.number;
	return error;
}

/* With the lock, as the next two. */
static void hold_client(struct lcpfs_partition *handle)
{
	struct part *part = handle->part;
	part->clients++;
	part_hold(part);
	if (is_own(handle))
		return;
	part->readers++;
	handle->next = part->first_reader;
	part->first_reader = handle;
}

static void drop_client(struct lcpfs_partition *handle)
{
	struct lcpfs_partition **link = &handle->part->first_reader;
	handle->part->clients--;
	if (!is_own(handle)) {
		while (*link != handle)
			link = &(*link)->next;
		*link = handle->next;
		handle->part->readers--;
	}
	part_drop(handle->part);
}

int lcpfs_partition_open(struct lcpfs_pool *pool, const char *name, struct lcpfs_partition **partition,
			 struct lcpfs_failure *failure)
{
	struct lcpfs_partition *handle = malloc(sizeof(*handle));
	*partition = NULL;
	if (!handle)
		return failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	pthread_mutex_lock(&pool->lock);
	int error = find_volume(pool, name, handle, failure);
	if (!error)
		hold_client(handle);
	pthread_mutex_unlock(&pool->lock);
	if (error) {
		free(handle);
		return error;
	}
	*partition = handle;
	return 0;
}

void lcpfs_partition_close(struct lcpfs_partition *partition)
{
	if (!partition)
		return;
	struct lcpfs_pool *pool = partition->part->pool;
	pthread_mutex_lock(&pool->lock);
	drop_client(partition);
	pthread_mutex_unlock(&pool->lock);
	free(partition);
}

uint64_t lcpfs_volume_bytes(const struct lcpfs_partition *partition)
{
	return partition->bytes;
}

struct part *volume_part(const struct lcpfs_partition *partition)
{
	return partition->part;
}

bool volume_snapshot(const struct lcpfs_partition *partition, struct store_snapshot *found)
{
	unsigned room = store_volume_snapshots(partition->store, 0, NULL, 0);
	struct store_snapshot *list = calloc(room + 1, sizeof(*list));
	unsigned count = list ? MIN_OF(store_volume_snapshots(partition->store, 0, list, room), room) : 0, i = 0;
	while (i < count && list[i].number != partition->snapshot)
		i++;
	if (i < count)
		*found = list[i];
	free(list);
	return i < count;
}

bool lcpfs_volume_is_snapshot(const struct lcpfs_partition *partition)
{
	return partition->snapshot;
}

static int check_range(const struct lcpfs_partition *partition, uint64_t offset, uint64_t length,
		       struct lcpfs_failure *failure)
{
	if (offset <= partition->bytes && length <= partition->bytes - offset)
		return 0;
	return failure_set(failure, LCPFS_E_RANGE,
			   "partition %s: bytes %" PRIu64 " to %" PRIu64 " lie outside of its "
			   "volume of %" PRIu64 " bytes",
			   partition->part->name, offset, offset + length, partition->bytes);
}

/* Of what changes something. */
static int check_change(const struct lcpfs_partition *partition, uint64_t offset, uint64_t length,
			struct lcpfs_failure *failure)
{
	if (partition->snapshot)
		return failure_set(failure, LCPFS_E_READ_ONLY, "partition %s: a snapshot of it cannot be written",
				   partition->part->name);
	return check_range(partition, offset, length, failure);
}

static uint64_t now_us(const struct lcpfs_partition *partition)
{
	return clock_us(&partition->part->pool->clock);
}

static void count(struct lcpfs_partition *partition, enum lcpfs_operation kind, uint64_t begin_us, uint64_t bytes,
		  int error)
{
	iostat_count(&partition->part->iostat, kind, now_us(partition) - begin_us, bytes, error);
}

int lcpfs_volume_read(struct lcpfs_partition *partition, uint64_t offset, void *buffer, size_t length,
		      struct lcpfs_failure *failure)
{
	uint64_t begin_us = now_us(partition);
	int error = check_range(partition, offset, length, failure);
	if (error)
		return error;
	error = partition->snapshot ? store_snapshot_read(partition->store, partition->snapshot, offset, buffer,
							  length, failure)
				    : store_volume_read(partition->store, volume_of(partition), offset, buffer,
							length, failure);
	count(partition, LCPFS_READ, begin_us, length, error);
	if (error == -LCPFS_E_CORRUPT || error == -LCPFS_E_IO)
		scrub_note_read_error(partition->part, offset, error);
	return error;
}

/* In pieces once it has to wait, so that what is tried again does not write much of it twice. */
static int write_pieces(struct lcpfs_partition *partition, uint64_t offset, const uint8_t *buffer, size_t length,
			bool fua, struct lcpfs_write_wait *wait, struct lcpfs_failure *failure)
{
	int error = 0;
	do {
		size_t left = length - wait->done,
		       piece = wait->since_us ? MIN_OF(left, (size_t)WAITING_PIECE) : left;
		error = store_volume_write(partition->store, volume_of(partition), offset + wait->done,
					   buffer + wait->done, piece, fua && piece == left, failure);
		wait->done += error ? 0 : piece;
	} while (wait->done < length && !error);
	return error;
}

int lcpfs_volume_write_some(struct lcpfs_partition *partition, uint64_t offset, const void *buffer, size_t length,
			    bool fua, struct lcpfs_write_wait *wait, struct lcpfs_failure *failure)
{
	uint64_t begin_us = wait->since_us ? wait->since_us : now_us(partition);
	int error = check_change(partition, offset, length, failure);
	if (error)
		return error;
	if (wait->since_us && !wait_moment(partition->part, wait))
		return -LCPFS_E_AGAIN;
	snapshot_enter(partition->part);
	error = write_pieces(partition, offset, buffer, length, fua, wait, failure);
	snapshot_leave(partition->part);
	if ((error == -LCPFS_E_NOSPC || error == -LCPFS_E_DEVICE_FULL) && wait_begin(partition->part, wait))
		return -LCPFS_E_AGAIN;
	count(partition, LCPFS_WRITE, begin_us, length, error);
	return error;
}

int lcpfs_volume_write(struct lcpfs_partition *partition, uint64_t offset, const void *buffer, size_t length,
		       bool fua, struct lcpfs_failure *failure)
{
	struct lcpfs_write_wait wait = {0};
	int error;
	do
		error = lcpfs_volume_write_some(partition, offset, buffer, length, fua, &wait, failure);
	while (error == -LCPFS_E_AGAIN);
	return error;
}

int lcpfs_volume_trim(struct lcpfs_partition *partition, uint64_t offset, uint64_t length, bool fua,
		      struct lcpfs_failure *failure)
{
	uint64_t begin_us = now_us(partition);
	int error = check_change(partition, offset, length, failure);
	if (error)
		return error;
	snapshot_enter(partition->part);
	error = store_volume_trim(partition->store, volume_of(partition), offset, length, fua, failure);
	snapshot_leave(partition->part);
	count(partition, LCPFS_TRIM, begin_us, length, error);
	return error;
}

/* What could not be done at once is asked for again, by somebody who may wait, and counted then. */
int lcpfs_volume_try_read(struct lcpfs_partition *partition, uint64_t offset, void *buffer, size_t length)
{
	uint64_t begin_us = now_us(partition);
	int error = partition->snapshot ? -LCPFS_E_AGAIN
					: store_volume_try_read(partition->store, volume_of(partition), offset,
								buffer, length);
	if (!error)
		count(partition, LCPFS_READ, begin_us, length, 0);
	return error;
}

struct fetches *pool_fetches(struct lcpfs_pool *pool)
{
	return vdev_fetches(pool->device);
}

/* Of any block of it: then all of it goes into the cache. */
static bool was_read_lately(struct ghosts *ghosts, uint64_t place, size_t length)
{
	bool was = false;
	for (uint64_t done = 0; done < length; done += BLOCK_SIZE)
		was |= ghosts_meet(ghosts, (place + done) / BLOCK_SIZE);
	return was;
}

int pool_volume_fetch(struct lcpfs_partition *partition, struct fetches *fetches, uint64_t offset, void *buffer,
		      size_t length, bool in_order, void *cookie)
{
	struct ghosts *ghosts = partition->part->pool->ghosts;
	uint64_t place;
	int error = partition->snapshot
			    ? -LCPFS_E_AGAIN
			    : store_volume_place(partition->store, volume_of(partition), offset, length, &place);
	if (error)
		return -LCPFS_E_AGAIN;
	bool past = ghosts && !in_order && fetches_may_pass(fetches) && !was_read_lately(ghosts, place, length);
	return fetches_begin(fetches, place, buffer, length, past, cookie) ? 0 : -LCPFS_E_AGAIN;
}

int pool_volume_verify(struct lcpfs_partition *partition, uint64_t offset, const void *buffer, size_t length,
		       uint64_t fetched_us)
{
	int error = -LCPFS_E_AGAIN;
	if (!partition->snapshot && guard_may_read(partition->part->pool->vdev))
		error = store_volume_verify(partition->store, volume_of(partition), offset, buffer, length);
	if (!error)
		iostat_count(&partition->part->iostat, LCPFS_READ, fetched_us, length, 0);
	return error;
}

int lcpfs_volume_try_write(struct lcpfs_partition *partition, uint64_t offset, const void *buffer, size_t length,
			   size_t *done, bool *unsettled)
{
	uint64_t begin_us = now_us(partition);
	*done = 0;
	*unsettled = false;
	if (partition->snapshot || !snapshot_try_enter(partition->part))
		return partition->snapshot ? -LCPFS_E_READ_ONLY : -LCPFS_E_AGAIN;
	int error = store_volume_try_write(partition->store, volume_of(partition), offset, buffer, length, done,
					   unsettled);
	snapshot_leave(partition->part);
	if (!error)
		count(partition, LCPFS_WRITE, begin_us, length, 0);
	else if (*done)
		iostat_count_bytes(&partition->part->iostat, LCPFS_WRITE, *done);
	return error;
}

void lcpfs_volume_settle(struct lcpfs_partition *partition)
{
	store_settle(partition->store);
}

int lcpfs_volume_flush(struct lcpfs_partition *partition, struct lcpfs_failure *failure)
{
	uint64_t begin_us = now_us(partition);
	int error = partition->snapshot ? 0 : store_flush(partition->store, failure); /* a snapshot is durable */
	count(partition, LCPFS_FLUSH, begin_us, 0, error);
	return error;
}

int lcpfs_volume_extent(struct lcpfs_partition *partition, uint64_t offset, uint64_t length, bool *data,
			uint64_t *end)
{
	int error = check_range(partition, offset, length, NULL);
	if (error)
		return error;
	return partition->snapshot
		       ? store_snapshot_extent(partition->store, partition->snapshot, offset, length, data, end)
		       : store_volume_extent(partition->store, volume_of(partition), offset, length, data, end);
}

int pool_volume_changed(struct lcpfs_partition *partition, uint64_t offset, uint64_t length, bool *changed,
			uint64_t *end)
{
	struct store_difference run = {0};
	uint64_t stop = offset + length, next;
	int error = check_range(partition, offset, length, NULL);
	if (!error)
		error = store_difference_before(partition->store,
						partition->clone ? partition->clone : partition->snapshot,
						offset / BLOCK_SIZE, &run);
	if (error)
		return error;
	*changed = run.count && run.first == offset / BLOCK_SIZE;
	next = *changed ? run.first + run.count : run.first;
	*end = next > stop / BLOCK_SIZE ? stop : next * BLOCK_SIZE;
	return 0;
}

static int check_comparable(const struct lcpfs_partition *from, const struct lcpfs_partition *to,
			    struct lcpfs_failure *failure)
{
	if (from && from->part != to->part)
		return failure_set(failure, LCPFS_E_INVALID,
				   "%s and %s are two partitions: they have nothing in common", from->part->name,
				   to->part->name);
	if (from && !from->snapshot)
		return failure_set(failure, LCPFS_E_INVALID, "partition %s: only a snapshot can be compared with",
				   from->part->name);
	return 0;
}

/* What the store has found, within the volume. */
static int put_difference(const struct lcpfs_partition *to, uint64_t offset, int error,
			  const struct store_difference *run, struct lcpfs_difference *difference,
			  struct lcpfs_failure *failure)
{
	if (error)
		return failure_set(failure, (enum lcpfs_error) - error, "partition %s: cannot compare: %s",
				   to->part->name, lcpfs_error_sentence(error));
	uint64_t first = MIN_OF(run->first, to->bytes / BLOCK_SIZE + 1) * BLOCK_SIZE;
	first = MIN_OF(MAX_OF(first, offset), to->bytes);
	uint64_t end = run->count ? MIN_OF((run->first + run->count) * BLOCK_SIZE, to->bytes) : first;
	*difference = (struct lcpfs_difference){.offset = first, .length = end - first, .data = run->data};
	return 0;
}

int lcpfs_volume_difference(struct lcpfs_partition *from, struct lcpfs_partition *to, uint64_t offset,
			    struct lcpfs_difference *difference, struct lcpfs_failure *failure)
{
	struct store_difference run = {0};
	int error = check_comparable(from, to, failure);
	if (error)
		return error;
	error = store_difference(to->store, from ? from->snapshot : 0, to->clone ? to->clone : to->snapshot,
				 offset / BLOCK_SIZE, &run);
	return put_difference(to, offset, error, &run, difference, failure);
}

/* What the snapshot is of, or the volume itself. */
static uint32_t line_of(const struct lcpfs_partition *handle)
{
	unsigned count = snapshot_count(handle->part);
	struct store_snapshot *list = handle->snapshot ? calloc(count + 1, sizeof(*list)) : NULL;
	uint32_t line = volume_of(handle);
	count = list ? MIN_OF(store_volume_snapshots(handle->store, 0, list, count), count) : 0;
	for (unsigned i = 0; i < count; i++)
		line = list[i].number == handle->snapshot ? list[i].volume : line;
	free(list);
	return line;
}

static int find_bookmark(const struct lcpfs_partition *to, const char *bookmark, struct store_snapshot *found,
			 struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = to->part->pool;
	const char *mark = strchr(bookmark, '#');
	struct volume_name of, wanted;
	struct part *part;
	pthread_mutex_lock(&pool->lock);
	uint32_t line = line_of(to);
	snapshot_name_volume(to->part, line, &of);
	int error =
		snapshot_find_volume(pool, bookmark, mark ? (size_t)(mark - bookmark) : 0, &part, &wanted, NULL);
	pthread_mutex_unlock(&pool->lock);
	if (!mark || error || part != to->part || wanted.number != line)
		return failure_set(failure, LCPFS_E_INVALID, "%.200s is no bookmark of %s: give NAME#MARK",
				   bookmark, of.name);
	return store_volume_bookmark_find(to->store, line, mark + 1, found)
		       ? 0
		       : failure_set(failure, LCPFS_E_NOT_FOUND, "there is no bookmark %.200s", bookmark);
}

int lcpfs_volume_difference_since(const char *bookmark, struct lcpfs_partition *to, uint64_t offset,
				  struct lcpfs_difference *difference, struct lcpfs_failure *failure)
{
	struct store_snapshot found;
	int error = find_bookmark(to, bookmark, &found, failure);
	if (error)
		return error;
	if (to->snapshot && found.number > to->snapshot)
		return failure_set(failure, LCPFS_E_INVALID, "%.200s is younger than that snapshot", bookmark);
	return volume_difference_since(to, found.number, offset, difference, failure);
}

int volume_difference_since(struct lcpfs_partition *to, uint32_t number, uint64_t offset,
			    struct lcpfs_difference *difference, struct lcpfs_failure *failure)
{
	struct store_difference run = {0};
	int error = store_difference_since(to->store, number, to->clone ? to->clone : to->snapshot,
					   offset / BLOCK_SIZE, &run);
	return put_difference(to, offset, error, &run, difference, failure);
}
