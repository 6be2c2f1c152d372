/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Reading and writing without waiting, for a thread that serves many: what is in memory, or in the system's cache.
 *
 * The lock is held from the look-ups to the end of a chunk and not let go in between (struct store's `trying`
 * makes whatever would have to do so fail), so there is nothing to be looked up again. What cannot be done so, for
 * whatever reason, is left to store_read and store_write: they find out more, and have the words for it.
 */
#include <string.h>

#include "base/hash.h"
#include "store/internal.h"

enum { CHUNK_BLOCKS = 64 };

static uint64_t try_lock(struct store *s)
{
	store_lock(s);
	s->trying = true;
	return s->drops;
}

static void try_unlock(struct store *s, uint64_t drops)
{
	CHECK(s->drops == drops); /* it was not let go */
	s->trying = false;
	store_unlock(s);
}

static bool is_whole(const struct store *s, uint64_t offset, size_t length)
{
	uint64_t end = s->volume_blocks << BLOCK_SHIFT;
	return offset % BLOCK_SIZE == 0 && length % BLOCK_SIZE == 0 && offset <= end && length <= end - offset;
}

/* -- reading -- */

struct try_plan {
	struct mapping mapping[CHUNK_BLOCKS];
	struct vdev_io io[CHUNK_BLOCKS];
	unsigned ios;
};

static int plan_chunk(struct store *s, uint64_t address, unsigned count, uint8_t *data, struct try_plan *plan)
{
	struct vdev_io *io = NULL;
	int error = 0;
	plan->ios = 0;
	uint64_t drops = try_lock(s);
	for (unsigned i = 0; i < count && !error; i++, data += BLOCK_SIZE) {
		bool filled;
		error = volume_look_up(s, address + i, data, &plan->mapping[i], &filled);
		uint64_t offset = plan->mapping[i].block << BLOCK_SHIFT;
		if (error || filled) {
			io = NULL;
		} else if (io && io->offset + io->length == offset) {
			io->length += BLOCK_SIZE;
		} else {
			io = &plan->io[plan->ios++];
			*io = (struct vdev_io){.op = VDEV_READ,
					       .offset = offset,
					       .buffer = data,
					       .length = BLOCK_SIZE,
					       .no_wait = true};
		}
	}
	try_unlock(s, drops);
	return error;
}

static int try_chunk(struct store *s, uint64_t address, unsigned count, uint8_t *data)
{
	struct try_plan plan;
	int error = plan_chunk(s, address, count, data, &plan);
	if (!error && plan.ios)
		error = vdev_submit(s->config.vdev, plan.io, plan.ios);
	for (unsigned i = 0; i < count && !error; i++, data += BLOCK_SIZE) {
		const struct mapping *m = &plan.mapping[i];
		if (m->id && hash64(data, BLOCK_SIZE) != m->checksum)
			error = -LCPFS_E_AGAIN; /* moved meanwhile, or damaged */
	}
	return error;
}

int store_try_read(struct store *s, uint64_t offset, void *buffer, size_t length)
{
	uint64_t start_us = store_now_us(s), address = offset >> BLOCK_SHIFT;
	size_t blocks = length >> BLOCK_SHIFT, n;
	uint8_t *data = buffer;
	if (!is_whole(s, offset, length))
		return -LCPFS_E_AGAIN;
	for (size_t done = 0; done < blocks; done += n) {
		n = MIN_OF(blocks - done, (size_t)CHUNK_BLOCKS);
		if (try_chunk(s, address + done, (unsigned)n, data + (done << BLOCK_SHIFT)))
			return -LCPFS_E_AGAIN;
	}
	store_lock(s);
	s->counters.reads++;
	s->counters.read_blocks += blocks;
	s->counters.read_us += store_now_us(s) - start_us;
	store_unlock(s);
	return 0;
}

/* -- writing -- */

/* How many of the blocks could be written. */
static unsigned try_write_chunk(struct store *s, uint64_t address, unsigned count, const uint8_t *data)
{
	uint64_t checksum[CHUNK_BLOCKS];
	unsigned done = 0;
	for (unsigned i = 0; i < count; i++)
		checksum[i] = hash64(data + (size_t)i * BLOCK_SIZE, BLOCK_SIZE);
	uint64_t drops = try_lock(s);
	while (done < count &&
	       volume_write_block(s, address + done, data + (size_t)done * BLOCK_SIZE, checksum[done], NULL) == 0)
		done++;
	s->counters.written_blocks += done;
	try_unlock(s, drops);
	return done;
}

static void count_write(struct store *s, bool whole, uint64_t start_us, bool *unsettled)
{
	store_lock(s);
	s->counters.writes += whole;
	s->counters.write_us += store_now_us(s) - start_us;
	*unsettled = log_has_sealed(s);
	store_wake(s);
	store_unlock(s);
}

int store_try_write(struct store *s, uint64_t offset, const void *buffer, size_t length, size_t *done,
		    bool *unsettled)
{
	uint64_t start_us = store_now_us(s), address = offset >> BLOCK_SHIFT;
	size_t blocks = length >> BLOCK_SHIFT, written = 0, n = 0, did = 0;
	*done = 0;
	*unsettled = false;
	if (!is_whole(s, offset, length) || s->config.read_only)
		return -LCPFS_E_AGAIN;
	while (written < blocks && did == n) {
		n = MIN_OF(blocks - written, (size_t)CHUNK_BLOCKS);
		did = try_write_chunk(s, address + written, (unsigned)n,
				      (const uint8_t *)buffer + (written << BLOCK_SHIFT));
		written += did;
	}
	*done = written << BLOCK_SHIFT;
	count_write(s, written == blocks, start_us, unsettled);
	return written == blocks ? 0 : -LCPFS_E_AGAIN;
}

void store_settle(struct store *s)
{
	store_lock(s);
	log_drain(s);
	store_unlock(s);
}
