/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The volume as its users see it: byte ranges to read, write, trim and flush.
 *
 * Reading takes what lies in records that are not written yet, reads the rest without the lock, and verifies all
 * of it. If a block fails, its mapping is looked up again: cleaning may have moved it, and its old place may be in
 * use anew. Only a block that fails where the table says that it lies is an error.
 *
 * Writing copies into pages and computes checksums without the lock; under it, the page becomes a part of the log,
 * and the block's content with that. A write of a part of a block reads the rest first and is done
 * only if the block has not changed in between.
 */
#include "store/io.h"

#include <inttypes.h>
#include <string.h>

#include "store/log.h"
#include "store/room.h"
#include "store/snap.h"
#include "store/table.h"
#include "store/tree.h"
#include "store/work.h"

enum { CHUNK_BLOCKS = 64 };

static int fail(struct store *s, struct lcpfs_failure *failure, int error, const char *what, uint64_t address)
{
	store_lock(s);
	s->counters.errors++;
	if (error == -LCPFS_E_NOSPC &&
	    space_raw(&s->space)) /* it may have more, but the host has no place for that */
		error = -LCPFS_E_DEVICE_FULL;
	store_unlock(s);
	return failure_set(failure, (enum lcpfs_error) - error, "partition %s, block %" PRIu64 ": cannot %s: %s",
			   s->name, address, what, lcpfs_error_sentence(error));
}

static int check_range_of(struct store *s, const struct volume *v, uint64_t offset, uint64_t length,
			  struct lcpfs_failure *failure)
{
	uint64_t end = v->blocks << BLOCK_SHIFT;
	if (offset <= end && length <= end - offset)
		return 0;
	return failure_set(failure, LCPFS_E_RANGE,
			   "partition %s: bytes %" PRIu64 " to %" PRIu64 " are outside its volume of %" PRIu64,
			   s->name, offset, offset + length, end);
}

/* -- who reads or writes what -- */

/* The head, or a clone, which is not destroyed meanwhile. */
struct use {
	uint32_t volume;
	struct snapshot *clone; /* NULL: the head */
};

static int begin_use(struct store *s, uint32_t volume, struct use *use, struct lcpfs_failure *failure)
{
	*use = (struct use){.volume = volume};
	if (volume == VOLUME_HEAD)
		return 0;
	store_lock(s);
	use->clone = snap_hold_clone(s, volume);
	if (use->clone)
		use->clone->clients++;
	store_unlock(s);
	return use->clone ? 0
			  : failure_set(failure, LCPFS_E_NOT_FOUND,
					"partition %s: there is no such clone any more", s->name);
}

static void end_use(struct store *s, const struct use *use)
{
	if (!use->clone)
		return;
	store_lock(s);
	use->clone->clients--;
	snap_let(s, use->clone);
	store_unlock(s);
}

static int check_range(struct store *s, const struct use *use, uint64_t offset, uint64_t length,
		       struct lcpfs_failure *failure)
{
	const struct volume *v = use->clone ? &use->clone->volume : &s->trees.volume[VOLUME_HEAD];
	return check_range_of(s, v, offset, length, failure);
}

/* -- reading -- */

/* One block on its way to a reader: a hole (id 0), a page that is at hand, or one that has to be read. */
struct wanted {
	struct mapping mapping;
	struct page *page; /* at hand, pinned */
	bool read;
};

struct read_plan {
	uint32_t volume;
	uint64_t address;
	unsigned count, done;
	struct wanted block[CHUNK_BLOCKS];
};

static int plan_block(struct store *s, uint32_t volume, uint64_t address, struct wanted *b, struct need *need)
{
	*b = (struct wanted){.page = NULL};
	int error = map_lookup(s, volume, address, need, &b->mapping);
	if (error || !b->mapping.id)
		return error;
	b->page = log_page(s, b->mapping.block);
	if (b->page)
		page_pin(b->page);
	b->read = !b->page;
	return 0;
}

static int plan_read(struct store *s, void *context, struct need *need)
{
	struct read_plan *plan = context;
	int error = 0;
	for (; plan->done < plan->count && !error; plan->done += !error)
		error = plan_block(s, plan->volume, plan->address + plan->done, &plan->block[plan->done], need);
	return error;
}

static void end_plan(struct store *s, struct read_plan *plan)
{
	store_lock(s);
	for (unsigned i = 0; i < plan->done; i++) {
		if (plan->block[i].page)
			page_unpin(&s->cache, plan->block[i].page);
	}
	store_unlock(s);
}

/* What is not planned yet has no value: filling all of it would cost as much as reading a block. */
static void begin_plan(struct read_plan *plan, uint32_t volume, uint64_t address, unsigned count)
{
	plan->volume = volume;
	plan->address = address;
	plan->count = count;
	plan->done = 0;
}

/* To where the reader wants it; what lies side by side in one go. */
static int read_planned(struct store *s, const struct read_plan *plan, uint8_t *data, bool no_wait)
{
	struct vdev_io io[CHUNK_BLOCKS];
	unsigned ios = 0;
	for (unsigned i = 0; i < plan->count; i++) {
		const struct wanted *b = &plan->block[i];
		if (!b->read)
			continue;
		if (i && b[-1].read && b->mapping.block == b[-1].mapping.block + 1)
			io[ios - 1].length += BLOCK_SIZE;
		else
			io[ios++] = (struct vdev_io){.op = VDEV_READ,
						     .offset = b->mapping.block << BLOCK_SHIFT,
						     .buffer = data + (size_t)i * BLOCK_SIZE,
						     .length = BLOCK_SIZE,
						     .no_wait = no_wait};
	}
	return ios ? vdev_submit(s->config.vdev, io, ios) : 0;
}

/* What need not be read. */
static void give_at_hand(const struct wanted *b, uint8_t *data)
{
	if (b->page)
		memcpy(data, b->page->data, BLOCK_SIZE);
	else if (!b->read)
		memset(data, 0, BLOCK_SIZE);
}

/* Also what is at hand: it may be a block that had failed its check before it was moved. */
static bool is_right(const struct wanted *b, const void *data)
{
	return !b->mapping.id || fmt_check_fits(&b->mapping.check, data);
}

static int plan_one(struct store *s, void *context, struct need *need)
{
	struct read_plan *plan = context;
	return plan_block(s, plan->volume, plan->address, &plan->block[0], need);
}

static int read_once(struct store *s, struct read_plan *plan, void *data)
{
	const struct wanted *b = &plan->block[0];
	store_lock(s);
	int error = attempt(s, plan_one, plan);
	store_unlock(s);
	if (error)
		return error;
	plan->done = 1;
	give_at_hand(b, data);
	if (b->read)
		error = vdev_read(s->config.vdev, b->mapping.block << BLOCK_SHIFT, data, BLOCK_SIZE);
	if (!error && !is_right(b, data))
		error = -LCPFS_E_CORRUPT;
	end_plan(s, plan);
	return error;
}

/* Read where the table says, until it says the same twice. */
int io_read_block(struct store *s, uint32_t volume, uint64_t address, void *data, struct mapping *mapping)
{
	struct mapping last = {0};
	for (;;) {
		struct read_plan plan;
		begin_plan(&plan, volume, address, 1);
		plan.block[0] = (struct wanted){.page = NULL};
		int error = read_once(s, &plan, data);
		*mapping = plan.block[0].mapping;
		if (!error || !plan.block[0].read || mapping_same(&last, mapping))
			return error;
		last = *mapping;
	}
}

static int read_chunk(struct store *s, uint32_t volume, uint64_t address, unsigned count, uint8_t *data,
		      struct lcpfs_failure *failure)
{
	struct read_plan plan;
	struct mapping mapping;
	begin_plan(&plan, volume, address, count);
	store_lock(s);
	int error = attempt(s, plan_read, &plan);
	store_unlock(s);
	unsigned at = plan.done;
	bool failed = !error && read_planned(s, &plan, data, false);
	for (unsigned i = 0; i < count && !error; i++, data += BLOCK_SIZE) {
		const struct wanted *b = &plan.block[i];
		at = i;
		give_at_hand(b, data);
		if ((b->read && failed) || !is_right(b, data))
			error = io_read_block(s, volume, address + i, data, &mapping);
	}
	end_plan(s, &plan);
	return error ? fail(s, failure, error, "read", address + at) : 0;
}

/* By what is in memory. */
static int try_plan(struct store *s, struct read_plan *plan, uint32_t volume, uint64_t address, unsigned count)
{
	struct need need;
	begin_plan(plan, volume, address, count);
	need_begin(&need);
	store_lock(s);
	int error = s->faulted ? TRY_AGAIN : plan_read(s, plan, &need);
	store_unlock(s);
	return error;
}

/* Once, from memory or the system's cache. */
static int try_read_chunk(struct store *s, uint32_t volume, uint64_t address, unsigned count, uint8_t *data)
{
	struct read_plan plan;
	int error = try_plan(s, &plan, volume, address, count);
	if (!error)
		error = read_planned(s, &plan, data, true);
	for (unsigned i = 0; i < count && !error; i++, data += BLOCK_SIZE) {
		const struct wanted *b = &plan.block[i];
		give_at_hand(b, data);
		if (!is_right(b, data))
			error = -LCPFS_E_AGAIN; /* moved meanwhile, or damaged */
	}
	end_plan(s, &plan);
	return error ? -LCPFS_E_AGAIN : 0;
}

static int read_part(struct store *s, uint32_t volume, uint64_t offset, void *buffer, size_t length,
		     struct lcpfs_failure *failure)
{
	uint8_t data[BLOCK_SIZE];
	struct mapping mapping;
	int error = io_read_block(s, volume, offset >> BLOCK_SHIFT, data, &mapping);
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

static void count_read(struct store *s, size_t length, uint64_t start_us)
{
	uint64_t end_us = store_now_us(s);
	store_lock(s);
	s->counters.reads++;
	s->counters.read_blocks += DIV_UP(length, (size_t)BLOCK_SIZE);
	s->counters.read_us += end_us - start_us;
	store_unlock(s);
}

static int read_range(struct store *s, uint32_t volume, uint64_t offset, void *buffer, size_t length,
		      struct lcpfs_failure *failure)
{
	uint8_t *data = buffer;
	size_t left = length;
	int error = 0;
	while (left && !error) {
		bool whole;
		size_t n = piece(offset, left, &whole);
		error = whole ? read_chunk(s, volume, offset >> BLOCK_SHIFT, (unsigned)(n / BLOCK_SIZE), data,
					   failure)
			      : read_part(s, volume, offset, data, n, failure);
		offset += n;
		data += n;
		left -= n;
	}
	return error;
}

int store_volume_read(struct store *s, uint32_t volume, uint64_t offset, void *buffer, size_t length,
		      struct lcpfs_failure *failure)
{
	uint64_t start_us = store_now_us(s);
	struct use use;
	int error = begin_use(s, volume, &use, failure);
	if (error)
		return error;
	error = check_range(s, &use, offset, length, failure);
	if (!error)
		error = read_range(s, volume, offset, buffer, length, failure);
	end_use(s, &use);
	count_read(s, length, start_us);
	return error;
}

int store_read(struct store *s, uint64_t offset, void *buffer, size_t length, struct lcpfs_failure *failure)
{
	return store_volume_read(s, VOLUME_HEAD, offset, buffer, length, failure);
}

static bool is_whole(struct store *s, const struct use *use, uint64_t offset, size_t length)
{
	return offset % BLOCK_SIZE == 0 && length % BLOCK_SIZE == 0 && !check_range(s, use, offset, length, NULL);
}

int store_volume_try_read(struct store *s, uint32_t volume, uint64_t offset, void *buffer, size_t length)
{
	uint64_t start_us = store_now_us(s);
	uint8_t *data = buffer;
	struct use use;
	int error = begin_use(s, volume, &use, NULL);
	if (error)
		return -LCPFS_E_AGAIN;
	error = is_whole(s, &use, offset, length) ? 0 : -LCPFS_E_AGAIN;
	for (size_t done = 0, n; done < length && !error; done += n) {
		n = MIN_OF(length - done, (size_t)CHUNK_BLOCKS * BLOCK_SIZE);
		error = try_read_chunk(s, volume, (offset + done) >> BLOCK_SHIFT, (unsigned)(n >> BLOCK_SHIFT),
				       data + done);
	}
	end_use(s, &use);
	if (!error)
		count_read(s, length, start_us);
	return error;
}

/* Where each block of a range lies now, as far as that is in memory; false, and nothing has begun, if not. */
static bool begin_small(struct store *s, uint32_t volume, uint64_t offset, size_t length, struct use *use,
			struct read_plan *plan)
{
	if (!length || length > (size_t)CHUNK_BLOCKS * BLOCK_SIZE || begin_use(s, volume, use, NULL))
		return false;
	begin_plan(plan, volume, 0, 0);
	if (is_whole(s, use, offset, length) &&
	    !try_plan(s, plan, volume, offset >> BLOCK_SHIFT, (unsigned)(length >> BLOCK_SHIFT)))
		return true;
	end_plan(s, plan);
	end_use(s, use);
	return false;
}

/* Where it lies, if it does so side by side and has to be read. */
static bool find_place(const struct read_plan *plan, uint64_t *offset)
{
	uint64_t first = plan->block[0].mapping.block;
	for (unsigned i = 0; i < plan->count; i++) {
		if (!plan->block[i].read || plan->block[i].mapping.block != first + i)
			return false;
	}
	*offset = first << BLOCK_SHIFT;
	return true;
}

int store_volume_place(struct store *s, uint32_t volume, uint64_t offset, size_t length, uint64_t *place)
{
	struct read_plan plan;
	struct use use;
	if (!begin_small(s, volume, offset, length, &use, &plan))
		return -LCPFS_E_AGAIN;
	bool found = find_place(&plan, place);
	end_plan(s, &plan);
	end_use(s, &use);
	return found ? 0 : -LCPFS_E_AGAIN;
}

/* What is a hole, or became one, has no checksum: whatever the buffer has is wrong then. */
static bool has_all(const struct read_plan *plan, const uint8_t *data)
{
	for (unsigned i = 0; i < plan->count; i++) {
		if (!plan->block[i].mapping.id || !is_right(&plan->block[i], data + (size_t)i * BLOCK_SIZE))
			return false;
	}
	return true;
}

int store_volume_verify(struct store *s, uint32_t volume, uint64_t offset, const void *buffer, size_t length)
{
	uint64_t start_us = store_now_us(s);
	struct read_plan plan;
	struct use use;
	if (!begin_small(s, volume, offset, length, &use, &plan))
		return -LCPFS_E_AGAIN;
	bool has = has_all(&plan, buffer);
	end_plan(s, &plan);
	end_use(s, &use);
	if (has)
		count_read(s, length, start_us);
	return has ? 0 : -LCPFS_E_AGAIN;
}

int store_try_read(struct store *s, uint64_t offset, void *buffer, size_t length)
{
	return store_volume_try_read(s, VOLUME_HEAD, offset, buffer, length);
}

/* -- writing -- */

/* With the lock, which is let go where room has to be made. */
static int write_block(struct store *s, struct map_write *w)
{
	int error;
	while ((error = attempt(s, map_write, w)) == -LCPFS_E_NOSPC) {
		error = work_wait(s, USER_WRITE, w->wants);
		if (error)
			break;
	}
	s->counters.written_blocks += !error && !w->differs;
	return error;
}

/* Pages with the bytes to be written. */
static int take_pages(struct store *s, struct map_write *list, unsigned count)
{
	store_lock(s);
	for (unsigned i = 0; i < count; i++) {
		list[i].page = cache_take(&s->cache);
		if (list[i].page)
			continue;
		while (i-- > 0)
			page_unpin(&s->cache, list[i].page);
		store_unlock(s);
		return -LCPFS_E_NOMEM;
	}
	store_unlock(s);
	return 0;
}

static int fill_pages(struct store *s, uint32_t volume, uint64_t address, const uint8_t *data,
		      struct map_write *list, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		list[i] = (struct map_write){.volume = volume, .address = address + i};
	int error = take_pages(s, list, count);
	for (unsigned i = 0; i < count && !error; i++) {
		memcpy(list[i].page->data, data + (size_t)i * BLOCK_SIZE, BLOCK_SIZE);
		list[i].check = fmt_check_of(list[i].page->data);
	}
	return error;
}

static int write_chunk(struct store *s, uint32_t volume, uint64_t address, unsigned count, const uint8_t *data,
		       struct lcpfs_failure *failure)
{
	struct map_write list[CHUNK_BLOCKS];
	unsigned done = 0;
	int error = fill_pages(s, volume, address, data, list, count);
	if (error)
		return fail(s, failure, error, "write", address);
	store_lock(s);
	for (; done < count && !error; done += !error)
		error = write_block(s, &list[done]);
	for (unsigned i = 0; i < count; i++)
		page_unpin(&s->cache, list[i].page);
	store_unlock(s);
	return error ? fail(s, failure, error, "write", address + done) : 0;
}

/* How many of the blocks could be written at once. */
static unsigned try_write_chunk(struct store *s, uint32_t volume, uint64_t address, unsigned count,
				const uint8_t *data)
{
	struct map_write list[CHUNK_BLOCKS];
	unsigned done = 0;
	if (fill_pages(s, volume, address, data, list, count))
		return 0;
	store_lock(s);
	while (done < count && !s->faulted) {
		struct need need;
		need_begin(&need);
		if (map_write(s, &list[done], &need))
			break;
		done++;
	}
	for (unsigned i = 0; i < count; i++)
		page_unpin(&s->cache, list[i].page);
	s->counters.written_blocks += done;
	store_unlock(s);
	return done;
}

/* data NULL: zeros. */
static int write_part(struct store *s, uint32_t volume, uint64_t offset, const void *data, size_t length,
		      struct lcpfs_failure *failure)
{
	uint64_t address = offset >> BLOCK_SHIFT;
	uint8_t block[BLOCK_SIZE];
	struct mapping mapping;
	struct map_write w;
	int error;
	do {
		error = io_read_block(s, volume, address, block, &mapping);
		if (error || (!data && !mapping.id))
			break;
		if (data)
			memcpy(block + offset % BLOCK_SIZE, data, length);
		else
			memset(block + offset % BLOCK_SIZE, 0, length);
		w = (struct map_write){.volume = volume, .address = address, .expected = &mapping};
		error = take_pages(s, &w, 1);
		if (error)
			break;
		memcpy(w.page->data, block, BLOCK_SIZE);
		w.check = fmt_check_of(block);
		store_lock(s);
		error = write_block(s, &w);
		page_unpin(&s->cache, w.page);
		store_unlock(s);
	} while (!error && w.differs);
	return error ? fail(s, failure, error, "write", address) : 0;
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
	if (fua)
		vdev_hurry(s->config.vdev);
	store_lock(s);
	s->backing.was_waited_for |= fua;
	if (fua)
		error = log_flush(s);
	else
		log_drain(s);
	work_wake(s);
	store_unlock(s);
	if (error)
		return failure_set(failure, (enum lcpfs_error) - error, "partition %s: cannot flush: %s", s->name,
				   lcpfs_error_sentence(error));
	return 0;
}

static void count_write(struct store *s, bool whole, uint64_t start_us)
{
	uint64_t end_us = store_now_us(s);
	store_lock(s);
	s->counters.writes += whole;
	s->counters.write_us += end_us - start_us;
	store_unlock(s);
}

int store_volume_write(struct store *s, uint32_t volume, uint64_t offset, const void *buffer, size_t length,
		       bool fua, struct lcpfs_failure *failure)
{
	uint64_t start_us = store_now_us(s);
	const uint8_t *data = buffer;
	struct use use;
	int error = begin_use(s, volume, &use, failure);
	if (error)
		return error;
	error = check_range(s, &use, offset, length, failure);
	if (!error)
		error = check_writable(s, failure);
	while (length && !error) {
		bool whole;
		size_t n = piece(offset, length, &whole);
		error = whole ? write_chunk(s, volume, offset >> BLOCK_SHIFT, (unsigned)(n / BLOCK_SIZE), data,
					    failure)
			      : write_part(s, volume, offset, data, n, failure);
		offset += n;
		data += n;
		length -= n;
	}
	if (!error)
		error = finish_change(s, fua, failure);
	end_use(s, &use);
	count_write(s, true, start_us);
	return error;
}

int store_write(struct store *s, uint64_t offset, const void *buffer, size_t length, bool fua,
		struct lcpfs_failure *failure)
{
	return store_volume_write(s, VOLUME_HEAD, offset, buffer, length, fua, failure);
}

int store_volume_try_write(struct store *s, uint32_t volume, uint64_t offset, const void *buffer, size_t length,
			   size_t *done, bool *unsettled)
{
	struct use use;
	uint64_t start_us = store_now_us(s);
	const uint8_t *data = buffer;
	size_t blocks = length >> BLOCK_SHIFT, written = 0, n = 0, did = 0;
	*done = 0;
	*unsettled = false;
	if (begin_use(s, volume, &use, NULL))
		return -LCPFS_E_AGAIN;
	if (!is_whole(s, &use, offset, length) || s->config.read_only) {
		end_use(s, &use);
		return -LCPFS_E_AGAIN;
	}
	for (; written < blocks && did == n; written += did) {
		n = MIN_OF(blocks - written, (size_t)CHUNK_BLOCKS);
		did = try_write_chunk(s, volume, (offset >> BLOCK_SHIFT) + written, (unsigned)n,
				      data + (written << BLOCK_SHIFT));
	}
	end_use(s, &use);
	*done = written << BLOCK_SHIFT;
	count_write(s, written == blocks, start_us);
	store_lock(s);
	*unsettled = log_has_sealed(s);
	work_wake(s);
	store_unlock(s);
	return written == blocks ? 0 : -LCPFS_E_AGAIN;
}

int store_try_write(struct store *s, uint64_t offset, const void *buffer, size_t length, size_t *done,
		    bool *unsettled)
{
	return store_volume_try_write(s, VOLUME_HEAD, offset, buffer, length, done, unsettled);
}

void store_settle(struct store *s)
{
	store_lock(s);
	log_drain(s);
	store_unlock(s);
}

/* -- trimming -- */

/* Up to the first address that a leaf may map. */
static int skip_holes(struct store *s, struct map_trim *t)
{
	uint64_t leaf = t->address / VOLUME_SLOTS, end = t->address + t->count;
	bool found;
	int error = tree_next_leaf(s, t->volume, DIV_UP(end, (uint64_t)VOLUME_SLOTS), &leaf, &found);
	uint64_t next = found ? leaf * VOLUME_SLOTS : end;
	if (!error && next > t->address) {
		t->address = MIN_OF(next, end);
		t->count = end - t->address;
	}
	return error;
}

/* Space is kept back for just this. */
static int trim_some(struct store *s, struct map_trim *t)
{
	int error;
	for (;;) {
		t->kept = room_kept(s, USER_NOTE);
		error = attempt(s, map_trim, t);
		if (error == -LCPFS_E_NOSPC)
			error = work_wait(s, USER_NOTE, t->wants);
		else
			return error;
		if (error)
			return error;
	}
}

static int trim_blocks(struct store *s, uint32_t volume, uint64_t address, uint64_t count,
		       struct lcpfs_failure *failure)
{
	struct map_trim t = {.volume = volume, .address = address, .count = count};
	int error = 0;
	store_lock(s);
	while (t.count && !error) {
		error = skip_holes(s, &t);
		if (!error && t.count)
			error = trim_some(s, &t);
		/* Others get their turn. */
		store_unlock(s);
		store_lock(s);
	}
	s->counters.trimmed_blocks += t.trimmed;
	store_unlock(s);
	return error ? fail(s, failure, error, "trim", t.address) : 0;
}

static int trim_range(struct store *s, uint32_t volume, uint64_t offset, uint64_t length,
		      struct lcpfs_failure *failure)
{
	uint64_t end = offset + length;
	uint64_t first = DIV_UP(offset, (uint64_t)BLOCK_SIZE), last = end >> BLOCK_SHIFT;
	int error = 0;
	if (first > last) /* inside one block */
		error = write_part(s, volume, offset, NULL, length, failure);
	else if (offset % BLOCK_SIZE)
		error = write_part(s, volume, offset, NULL, (first << BLOCK_SHIFT) - offset, failure);
	if (!error && first < last)
		error = trim_blocks(s, volume, first, last - first, failure);
	if (!error && first <= last && end % BLOCK_SIZE)
		error = write_part(s, volume, last << BLOCK_SHIFT, NULL, end % BLOCK_SIZE, failure);
	return error;
}

int store_volume_trim(struct store *s, uint32_t volume, uint64_t offset, uint64_t length, bool fua,
		      struct lcpfs_failure *failure)
{
	struct use use;
	int error = begin_use(s, volume, &use, failure);
	if (error)
		return error;
	error = check_range(s, &use, offset, length, failure);
	if (!error)
		error = check_writable(s, failure);
	bool counts = !error;
	if (!error)
		error = trim_range(s, volume, offset, length, failure);
	if (!error)
		error = finish_change(s, fua, failure);
	end_use(s, &use);
	store_lock(s);
	s->counters.trims += counts;
	store_unlock(s);
	return error;
}

int store_trim(struct store *s, uint64_t offset, uint64_t length, bool fua, struct lcpfs_failure *failure)
{
	return store_volume_trim(s, VOLUME_HEAD, offset, length, fua, failure);
}

/* -- the rest -- */

int store_flush(struct store *s, struct lcpfs_failure *failure)
{
	uint64_t start_us = store_now_us(s);
	if (s->config.read_only)
		return 0;
	int error = finish_change(s, true, failure);
	uint64_t end_us = store_now_us(s);
	store_lock(s);
	s->counters.flushes++;
	s->counters.flush_us += end_us - start_us;
	store_unlock(s);
	return error;
}

/* The next address at or behind `address`, before `end`, that is mapped (or not mapped, if !data). */
static int next_edge(struct store *s, uint32_t volume, uint64_t address, uint64_t end, bool data, uint64_t *edge)
{
	for (*edge = address; *edge < end;) {
		uint64_t leaf = *edge / VOLUME_SLOTS;
		bool found;
		int error = tree_next_leaf(s, volume, DIV_UP(end, (uint64_t)VOLUME_SLOTS), &leaf, &found);
		if (error)
			return error;
		if (!found || leaf > *edge / VOLUME_SLOTS) { /* a hole up to there */
			if (data)
				*edge = found ? MIN_OF(leaf * VOLUME_SLOTS, end) : end;
			if (!data || *edge == end)
				return 0;
		}
		struct page_key key = tree_key(volume, 0, *edge / VOLUME_SLOTS);
		struct page *p;
		error = tree_page(s, &key, &p);
		if (error)
			return error;
		uint64_t leaf_end = MIN_OF(end, (key.index + 1) * VOLUME_SLOTS);
		while (*edge < leaf_end && (p && tree_slot(p, *edge) != 0) != data)
			++*edge;
		if (p)
			page_unpin(&s->cache, p);
		if (*edge < leaf_end)
			return 0;
	}
	return 0;
}

/* With the lock. */
static int extent_of(struct store *s, uint32_t volume, uint64_t offset, uint64_t length, bool *data, uint64_t *end)
{
	uint64_t first = offset >> BLOCK_SHIFT, last = DIV_UP(offset + length, (uint64_t)BLOCK_SIZE), edge;
	int error = next_edge(s, volume, first, first + 1, true, &edge);
	*data = edge == first;
	if (!error)
		error = next_edge(s, volume, first + 1, last, !*data, &edge);
	*end = MIN_OF(edge << BLOCK_SHIFT, offset + length);
	return error;
}

int store_volume_extent(struct store *s, uint32_t volume, uint64_t offset, uint64_t length, bool *data,
			uint64_t *end)
{
	struct use use;
	int error = begin_use(s, volume, &use, NULL);
	if (error)
		return error;
	error = check_range(s, &use, offset, length, NULL);
	if (!error)
		error = length ? 0 : -LCPFS_E_INVALID;
	store_lock(s);
	if (!error)
		error = extent_of(s, volume, offset, length, data, end);
	store_unlock(s);
	end_use(s, &use);
	return error;
}

int store_extent(struct store *s, uint64_t offset, uint64_t length, bool *data, uint64_t *end)
{
	return store_volume_extent(s, VOLUME_HEAD, offset, length, data, end);
}

/* -- snapshots -- */

static int no_snapshot(const struct store *s, struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_NOT_FOUND, "partition %s: there is no such snapshot any more",
			   s->name);
}

int store_snapshot_read(struct store *s, uint32_t number, uint64_t offset, void *buffer, size_t length,
			struct lcpfs_failure *failure)
{
	store_lock(s);
	struct snapshot *n = snap_hold(s, number);
	store_unlock(s);
	if (!n)
		return no_snapshot(s, failure);
	int error = check_range_of(s, &n->volume, offset, length, failure);
	if (!error)
		error = read_range(s, number, offset, buffer, length, failure);
	store_lock(s);
	bool gone = n->state != SNAPSHOT_ALIVE; /* then the volume may have written over it meanwhile */
	snap_let(s, n);
	store_unlock(s);
	return gone ? no_snapshot(s, failure) : error;
}

int store_snapshot_extent(struct store *s, uint32_t number, uint64_t offset, uint64_t length, bool *data,
			  uint64_t *end)
{
	store_lock(s);
	struct snapshot *n = snap_hold(s, number);
	int error = n ? check_range_of(s, &n->volume, offset, length, NULL) : -LCPFS_E_NOT_FOUND;
	if (!error)
		error = length ? extent_of(s, number, offset, length, data, end) : -LCPFS_E_INVALID;
	if (n && n->state != SNAPSHOT_ALIVE)
		error = -LCPFS_E_NOT_FOUND;
	if (n)
		snap_let(s, n);
	store_unlock(s);
	return error;
}
