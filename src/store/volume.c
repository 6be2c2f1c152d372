/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The volume as its users see it: byte ranges to read, write, trim and flush.
 *
 * Reading takes the lock only to look up places, reads without it and verifies. If a block fails, its mapping is
 * looked up again: cleaning may have moved it and its old place may be in use anew. Only a block that fails where
 * the table says that it lies is an error.
 *
 * Writing computes checksums without the lock and copies into the users' open record under it. A write of a part
 * of a block reads the rest first and is done only if the block has not changed in between.
 */
#include <inttypes.h>
#include <string.h>

#include "base/hash.h"
#include "store/internal.h"

enum {
	CHUNK_BLOCKS = 64,
	REFUSALS_MAX = 1000, /* a writer that others always overtake is not told so before this */
};

static int fail(struct store *s, struct lcpfs_failure *failure, int error, const char *what, uint64_t address)
{
	store_lock(s);
	s->counters.errors++;
	if (error == -LCPFS_E_NOSPC && s->space.raw) /* it may have more, but the host has no place for that */
		error = -LCPFS_E_DEVICE_FULL;
	store_unlock(s);
	return failure_set(failure, (enum lcpfs_error)-error, "partition %s, block %" PRIu64 ": cannot %s: %s", s->name, address,
			   what, lcpfs_error_sentence(error));
}

static int check_range(struct store *s, uint64_t offset, uint64_t length, struct lcpfs_failure *failure)
{
	uint64_t end = s->volume_blocks << BLOCK_SHIFT;
	if (offset <= end && length <= end - offset)
		return 0;
	return failure_set(failure, LCPFS_E_RANGE, "partition %s: bytes %" PRIu64 " to %" PRIu64 " are outside its volume of %" PRIu64,
			   s->name, offset, offset + length, end);
}

/* --- reading --- */

int volume_look_up(struct store *s, uint64_t address, void *data, struct mapping *mapping, bool *filled)
{
	int error = map_lookup(s, address, mapping);
	const void *unwritten = !error && mapping->id ? log_peek(s, mapping->block) : NULL;
	if (unwritten)
		memcpy(data, unwritten, BLOCK_SIZE);
	else if (!error && !mapping->id)
		memset(data, 0, BLOCK_SIZE);
	*filled = unwritten || !mapping->id;
	return error;
}

/*
 * The same, and takes the lock: 1 if it is filled in. What is not written yet may be a block that was lost before
 * it was moved, so it is verified, too.
 */
static int look_up(struct store *s, uint64_t address, void *data, struct mapping *mapping)
{
	bool filled;
	store_lock(s);
	int error = volume_look_up(s, address, data, mapping, &filled);
	store_unlock(s);
	if (!error && filled && mapping->id && hash64(data, BLOCK_SIZE) != mapping->checksum)
		error = -LCPFS_E_CORRUPT;
	return error ? error : filled;
}

int volume_read_block(struct store *s, uint64_t address, void *data, struct mapping *mapping)
{
	struct mapping last = {0};
	for (;;) {
		int done = look_up(s, address, data, mapping);
		if (done)
			return done < 0 ? done : 0;
		int error = vdev_read(s->config.vdev, mapping->block << BLOCK_SHIFT, data, BLOCK_SIZE);
		if (!error && hash64(data, BLOCK_SIZE) == mapping->checksum)
			return 0;
		if (last.id == mapping->id && last.block == mapping->block && last.checksum == mapping->checksum)
			return error ? error : -LCPFS_E_CORRUPT;
		last = *mapping;
	}
}

struct read_plan {
	struct mapping mapping[CHUNK_BLOCKS];
	struct vdev_io io[CHUNK_BLOCKS];
	uint8_t wanted[CHUNK_BLOCKS];
	unsigned ios;
};

static int plan_read(struct store *s, uint64_t address, unsigned count, uint8_t *data, struct read_plan *plan)
{
	struct vdev_io *io = NULL;
	plan->ios = 0;
	for (unsigned i = 0; i < count; i++, data += BLOCK_SIZE) {
		int done = look_up(s, address + i, data, &plan->mapping[i]);
		if (done < 0)
			return done;
		plan->wanted[i] = !done;
		uint64_t offset = plan->mapping[i].block << BLOCK_SHIFT;
		if (done) {
			io = NULL;
		} else if (io && io->offset + io->length == offset) {
			io->length += BLOCK_SIZE;
		} else {
			io = &plan->io[plan->ios++];
			*io = (struct vdev_io){.op = VDEV_READ, .offset = offset, .buffer = data, .length = BLOCK_SIZE};
		}
	}
	return 0;
}

static int read_chunk(struct store *s, uint64_t address, unsigned count, uint8_t *data, struct lcpfs_failure *failure)
{
	struct read_plan plan;
	struct mapping mapping;
	int error = plan_read(s, address, count, data, &plan);
	if (error)
		return fail(s, failure, error, "read", address);
	int failed = vdev_submit(s->config.vdev, plan.io, plan.ios);
	for (unsigned i = 0; i < count; i++, data += BLOCK_SIZE) {
		if (!plan.wanted[i] || (!failed && hash64(data, BLOCK_SIZE) == plan.mapping[i].checksum))
			continue;
		error = volume_read_block(s, address + i, data, &mapping);
		if (error)
			return fail(s, failure, error, "read", address + i);
	}
	return 0;
}

static int read_part(struct store *s, uint64_t offset, void *buffer, size_t length, struct lcpfs_failure *failure)
{
	uint8_t data[BLOCK_SIZE];
	struct mapping mapping;
	int error = volume_read_block(s, offset >> BLOCK_SHIFT, data, &mapping);
	if (error)
		return fail(s, failure, error, "read", offset >> BLOCK_SHIFT);
	memcpy(buffer, data + offset % BLOCK_SIZE, length);
	return 0;
}

/*
 * How much of a range to do at a time: up to the next block border if it does not begin on one or is shorter, else
 * whole blocks.
 */
static size_t piece(uint64_t offset, uint64_t length, bool *whole)
{
	size_t in_block = BLOCK_SIZE - offset % BLOCK_SIZE;
	*whole = in_block == BLOCK_SIZE && length >= BLOCK_SIZE;
	if (!*whole)
		return MIN_OF((uint64_t)in_block, length);
	return MIN_OF(length / BLOCK_SIZE, (uint64_t)CHUNK_BLOCKS) * BLOCK_SIZE;
}

int store_read(struct store *s, uint64_t offset, void *buffer, size_t length, struct lcpfs_failure *failure)
{
	uint64_t start_us = store_now_us(s);
	uint8_t *data = buffer;
	size_t left = length;
	int error = check_range(s, offset, length, failure);
	while (left && !error) {
		bool whole;
		size_t n = piece(offset, left, &whole);
		error = whole ? read_chunk(s, offset >> BLOCK_SHIFT, (unsigned)(n / BLOCK_SIZE), data, failure) :
				read_part(s, offset, data, n, failure);
		offset += n;
		data += n;
		left -= n;
	}
	store_lock(s);
	s->counters.reads++;
	s->counters.read_blocks += DIV_UP(length, (size_t)BLOCK_SIZE);
	s->counters.read_us += store_now_us(s) - start_us;
	store_unlock(s);
	return error;
}

/* --- writing --- */

static bool mapping_same(const struct mapping *a, const struct mapping *b)
{
	return a->id == b->id && (a->id == 0 || (a->block == b->block && a->checksum == b->checksum));
}

/*
 * Everything that has to be there before a block can be appended; when it returns 0 the lock was not dropped
 * since.
 */
static int write_prepare(struct store *s, uint64_t address, struct record **record, uint64_t *id)
{
	uint64_t drops;
	unsigned refused = 0;
	do {
		bool fresh;
		drops = s->drops;
		if (s->faulted)
			return -LCPFS_E_FAULTED;
		int error = room_wait(s, false);
		if (error)
			return error;
		error = log_open_user(s, room_kept(s), record);
		if (error == -LCPFS_E_NOSPC && s->drops != drops && ++refused < REFUSALS_MAX)
			continue; /* others took the room while the lock was let go */
		*id = ID_NONE;
		if (!error)
			error = map_prepare(s, address, id, &fresh);
		if (!error && fresh)
			error = room_admit(s);
		if (error)
			return error;
	} while (s->drops != drops);
	return 0;
}

int volume_write_block(struct store *s, uint64_t address, const void *data, uint64_t checksum,
		       const struct mapping *expected)
{
	struct record *record;
	uint64_t id, drops;
	do {
		struct mapping now;
		int error = write_prepare(s, address, &record, &id);
		drops = s->drops;
		if (!error && expected)
			error = map_lookup(s, address, &now);
		if (error)
			return error;
		if (expected && s->drops == drops && !mapping_same(&now, expected))
			return 1;
	} while (s->drops != drops);
	uint64_t block = log_append(record, fmt_entry_of(ENTRY_WRITE, address, id, checksum), data);
	return map_bind(s, address, id, block, checksum);
}

static int write_chunk(struct store *s, uint64_t address, unsigned count, const uint8_t *data,
		       struct lcpfs_failure *failure)
{
	uint64_t checksum[CHUNK_BLOCKS];
	unsigned done;
	int error = 0;
	for (unsigned i = 0; i < count; i++)
		checksum[i] = hash64(data + (size_t)i * BLOCK_SIZE, BLOCK_SIZE);
	store_lock(s);
	for (done = 0; done < count && !error; done++) {
		error = volume_write_block(s, address + done, data + (size_t)done * BLOCK_SIZE, checksum[done],
					   NULL);
		s->counters.written_blocks += error == 0;
	}
	store_unlock(s);
	return error ? fail(s, failure, error, "write", address + done - 1) : 0;
}

/* data NULL: zeros. */
static int write_part(struct store *s, uint64_t offset, const void *data, size_t length, struct lcpfs_failure *failure)
{
	uint64_t address = offset >> BLOCK_SHIFT;
	uint8_t block[BLOCK_SIZE];
	struct mapping mapping;
	int done;
	do {
		done = volume_read_block(s, address, block, &mapping);
		if (done)
			break;
		if (data)
			memcpy(block + offset % BLOCK_SIZE, data, length);
		else if (mapping.id)
			memset(block + offset % BLOCK_SIZE, 0, length);
		else
			return 0;
		store_lock(s);
		done = volume_write_block(s, address, block, hash64(block, BLOCK_SIZE), &mapping);
		s->counters.written_blocks += done == 0;
		store_unlock(s);
	} while (done > 0);
	return done ? fail(s, failure, done, "write", address) : 0;
}

static int check_writable(struct store *s, struct lcpfs_failure *failure)
{
	if (s->config.read_only)
		return failure_set(failure, LCPFS_E_READ_ONLY, "partition %s is opened read-only", s->name);
	return 0;
}

/* What every change ends with. */
static int finish_change(struct store *s, bool fua, struct lcpfs_failure *failure)
{
	int error = 0;
	store_lock(s);
	if (fua)
		error = log_flush(s);
	else
		log_drain(s);
	store_wake(s);
	store_unlock(s);
	if (error)
		return failure_set(failure, (enum lcpfs_error)-error, "partition %s: cannot flush: %s", s->name,
				   lcpfs_error_sentence(error));
	return 0;
}

int store_write(struct store *s, uint64_t offset, const void *buffer, size_t length, bool fua,
		struct lcpfs_failure *failure)
{
	uint64_t start_us = store_now_us(s);
	const uint8_t *data = buffer;
	int error = check_range(s, offset, length, failure);
	if (!error)
		error = check_writable(s, failure);
	while (length && !error) {
		bool whole;
		size_t n = piece(offset, length, &whole);
		error = whole ? write_chunk(s, offset >> BLOCK_SHIFT, (unsigned)(n / BLOCK_SIZE), data, failure) :
				write_part(s, offset, data, n, failure);
		offset += n;
		data += n;
		length -= n;
	}
	if (!error)
		error = finish_change(s, fua, failure);
	store_lock(s);
	s->counters.writes++;
	s->counters.write_us += store_now_us(s) - start_us;
	store_unlock(s);
	return error;
}

/* --- trimming --- */

/* Unmaps the first part of a range, as much as can be done in one go; with the lock. */
static int trim_some(struct store *s, uint64_t address, uint64_t *count)
{
	uint64_t drops, wanted = *count;
	struct record *record;
	unsigned refused = 0;
	bool mapped, scarce = false;
	do {
		*count = wanted;
		if (s->faulted)
			return -LCPFS_E_FAULTED;
		int error = scarce ? 0 : room_wait(s, true);
		scarce |= error == -LCPFS_E_NOSPC; /* the space kept back is for just this */
		drops = s->drops;
		if (scarce)
			error = 0;
		if (!error)
			error = log_open_user(s, scarce ? 0 : room_kept(s) - 1, &record);
		if (error == -LCPFS_E_NOSPC && s->drops != drops && ++refused < REFUSALS_MAX)
			continue; /* others took the room while the lock was let go */
		if (!error)
			error = map_trim_prepare(s, address, count, &mapped);
		if (error)
			return error;
	} while (s->drops != drops);
	if (!mapped)
		return 0;
	uint64_t before = s->data_blocks;
	log_append_note(record, fmt_entry_of(ENTRY_TRIM, address, *count, 0));
	int error = map_trim(s, address, *count);
	s->counters.trimmed_blocks += before - s->data_blocks;
	return error;
}

static int trim_blocks(struct store *s, uint64_t address, uint64_t count, struct lcpfs_failure *failure)
{
	int error = 0;
	while (count && !error) {
		uint64_t n = count;
		store_lock(s);
		error = trim_some(s, address, &n);
		store_unlock(s);
		if (error)
			return fail(s, failure, error, "trim", address);
		address += n;
		count -= n;
	}
	return 0;
}

int store_trim(struct store *s, uint64_t offset, uint64_t length, bool fua, struct lcpfs_failure *failure)
{
	int error = check_range(s, offset, length, failure);
	if (!error)
		error = check_writable(s, failure);
	if (error)
		return error;
	uint64_t end = offset + length;
	uint64_t first = DIV_UP(offset, (uint64_t)BLOCK_SIZE), last = end >> BLOCK_SHIFT;
	if (first > last) /* inside one block */
		error = write_part(s, offset, NULL, length, failure);
	else if (offset % BLOCK_SIZE)
		error = write_part(s, offset, NULL, (first << BLOCK_SHIFT) - offset, failure);
	if (!error && first < last)
		error = trim_blocks(s, first, last - first, failure);
	if (!error && first <= last && end % BLOCK_SIZE)
		error = write_part(s, last << BLOCK_SHIFT, NULL, end % BLOCK_SIZE, failure);
	if (!error)
		error = finish_change(s, fua, failure);
	store_lock(s);
	s->counters.trims++;
	store_unlock(s);
	return error;
}

/* --- the rest --- */

int store_flush(struct store *s, struct lcpfs_failure *failure)
{
	uint64_t start_us = store_now_us(s);
	if (s->config.read_only)
		return 0;
	int error = finish_change(s, true, failure);
	store_lock(s);
	s->counters.flushes++;
	s->counters.flush_us += store_now_us(s) - start_us;
	store_unlock(s);
	return error;
}

/* The next address at or behind `address`, before `end`, that is mapped (or not mapped, if !data). */
static int next_edge(struct store *s, uint64_t address, uint64_t end, bool data, uint64_t *edge)
{
	int error = 0;
	for (*edge = address; *edge < end; ++*edge) {
		uint64_t leaf = *edge / VOLUME_SLOTS;
		struct page *p;
		bool found;
		error = tree_next_leaf(s, TREE_VOLUME, &leaf, &found);
		if (error)
			return error;
		if (!found || leaf > *edge / VOLUME_SLOTS) {
			if (!data)
				return 0;
			*edge = found ? MIN_OF(leaf * VOLUME_SLOTS, end) : end;
			if (*edge == end)
				return 0;
		}
		error = tree_page(s, TREE_VOLUME, 0, *edge / VOLUME_SLOTS, false, &p);
		if (error)
			return error;
		uint64_t leaf_end = MIN_OF(end, (*edge / VOLUME_SLOTS + 1) * VOLUME_SLOTS);
		while (*edge < leaf_end && (p && le64_get(p->data.id[*edge % VOLUME_SLOTS]) != 0) != data)
			++*edge;
		if (*edge < leaf_end)
			return 0;
		--*edge; /* the loop goes on with the next leaf */
	}
	return 0;
}

int store_extent(struct store *s, uint64_t offset, uint64_t length, bool *data, uint64_t *end)
{
	int error = check_range(s, offset, length, NULL);
	if (error || !length)
		return error ? error : -LCPFS_E_INVALID;
	uint64_t first = offset >> BLOCK_SHIFT, last = DIV_UP(offset + length, (uint64_t)BLOCK_SIZE), edge;
	store_lock(s);
	error = next_edge(s, first, first + 1, true, &edge);
	*data = edge == first;
	if (!error)
		error = next_edge(s, first + 1, last, !*data, &edge);
	store_unlock(s);
	*end = MIN_OF(edge << BLOCK_SHIFT, offset + length);
	return error;
}
