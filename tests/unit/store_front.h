/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store on a device that is looked at: which writes and flushes it asks for, and in which order. Things that
 * others do happen amid an operation of the device: the store's lock is free then. Each root is checked as it is
 * written: what it points at is durable, it has a number of its own, and the one before it stays.
 */
#ifndef UNIT_STORE_FRONT_H
#define UNIT_STORE_FRONT_H

#include <setjmp.h>
#include <stdarg.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "store/log.h"
#include "store/place.h"
#include "store/state.h"
#include "tests/disk/memory.h"

enum { BASE = 16, METASLAB_BLOCKS = 256, METASLABS = 16, VOLUME_BLOCKS = 1500 };

static struct front {
	struct vdev vdev, *behind;
	struct store *store;
	uint64_t now_us;
	unsigned writes, flushes, hurries; /* operations */
	bool unflushed, rooted;   /* since the last flush: something that is no root was written, or a root */
	uint64_t last_record;     /* offset of the last write that is no root */
	uint64_t generation;      /* of the last root that was written */
	unsigned copies, slot;    /* of it */
	unsigned durable_slot;    /* of the last one that was flushed */
	void (*did_read)(const struct vdev_io *io), (*wrote)(const struct vdev_io *io);
	int root_error, record_error;
	uint64_t unread_from, unread_to; /* blocks that cannot be read */
} front;

/* -- the device -- */

static inline uint64_t now_us(void *context)
{
	(void)context;
	return front.now_us;
}

static const struct clock front_clock = {.now_us = now_us, .wall_s = now_us};

static inline bool is_root(const struct vdev_io *io)
{
	return io->offset < BASE * BLOCK_SIZE;
}

static inline void note_root(const struct vdev_io *io)
{
	uint64_t generation = le64_get(((const struct fmt_root *)io->buffer)->generation);
	assert_false(front.unflushed); /* what it points at is durable */
	assert_true(front.rooted ? generation == front.generation : generation > front.generation);
	front.copies = front.rooted ? front.copies + 1 : 1;
	front.slot = (unsigned)(io->offset / BLOCK_SIZE - 1) / 2;
	assert_int_not_equal(front.slot, front.durable_slot); /* that one stays good */
	front.generation = generation;
	front.rooted = true;
}

static inline void note_write(const struct vdev_io *io)
{
	front.writes++;
	if (is_root(io)) {
		note_root(io);
		return;
	}
	assert_false(front.rooted); /* what the root before that one needs is still there */
	front.unflushed = true;
	front.last_record = io->offset;
}

static inline void submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	void (*did)(const struct vdev_io *io) = ios[0].op == VDEV_READ ? front.did_read : front.wrote;

	(void)vdev;
	for (unsigned i = 0; i < count; i++) {
		if (ios[i].op == VDEV_WRITE)
			note_write(&ios[i]);
	}
	front.behind->ops->submit(front.behind, ios, count);
	for (unsigned i = 0; i < count && front.root_error && is_root(ios); i++)
		ios[i].result = front.root_error;
	for (unsigned i = 0; i < count && front.record_error && ios[i].op == VDEV_WRITE && !is_root(&ios[i]); i++)
		ios[i].result = front.record_error;
	for (unsigned i = 0; i < count && ios[i].op == VDEV_READ; i++) {
		if (ios[i].offset < front.unread_to << BLOCK_SHIFT &&
		    ios[i].offset + ios[i].length > front.unread_from << BLOCK_SHIFT)
			ios[i].result = -LCPFS_E_IO;
	}
	if (did)
		did(ios);
}

/* All of it could be written past the system's cache. */
static inline int gather(struct vdev *vdev, uint64_t offset, const struct iovec *iov, unsigned count)
{
	size_t length = 0;
	for (unsigned i = 0; i < count; length += iov[i++].iov_len)
		assert_int_equal(((uintptr_t)iov[i].iov_base | iov[i].iov_len) % VDEV_DIRECT_ALIGN, 0);
	uint8_t *copy = malloc(length), *at = copy;
	assert_non_null(copy);
	for (unsigned i = 0; i < count; at += iov[i++].iov_len)
		memcpy(at, iov[i].iov_base, iov[i].iov_len);
	int error = vdev_write(vdev, offset, copy, length);
	free(copy);
	return error;
}

static inline int flush(struct vdev *vdev)
{
	(void)vdev;
	front.flushes++;
	if (front.rooted) {
		assert_int_equal(front.copies, 2);
		front.durable_slot = front.slot;
	}
	front.unflushed = front.rooted = false;
	return vdev_flush(front.behind);
}

static inline void hurry(struct vdev *vdev)
{
	(void)vdev;
	front.hurries++;
}

static inline int discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	(void)vdev;
	return vdev_discard(front.behind, offset, length);
}

/* -- the store -- */

static inline int open_as(bool read_only, bool was_closed, struct lcpfs_failure *failure)
{
	static uint32_t metaslabs[METASLABS];
	const struct store_config config = {
		.clock = &front_clock,
		.vdev = &front.vdev,
		.guid = 1,
		.partition = 1,
		.name = "front",
		.metaslab_base = BASE,
		.metaslab_blocks = METASLAB_BLOCKS,
		.metaslab_count = METASLABS,
		.root_block = {{1, 2}, {3, 4}},
		.cache_bytes = 4 << 20,
		.read_only = read_only,
		.was_closed = was_closed,
	};
	for (uint32_t i = 0; i < METASLABS; i++)
		metaslabs[i] = i;
	if (!front.generation)
		assert_int_equal(store_format(&config, VOLUME_BLOCKS, metaslabs, METASLABS), 0);
	return store_open(&config, metaslabs, METASLABS, &front.store, failure);
}

static inline int set_up(void **state)
{
	static const struct vdev_ops ops = {
		.submit = submit, .writev = gather, .flush = flush, .discard = discard, .hurry = hurry};
	uint64_t blocks = BASE + METASLABS * METASLAB_BLOCKS;
	(void)state;
	front = (struct front){.behind = vdev_memory_new(blocks << BLOCK_SHIFT), .now_us = 1, .durable_slot = 1};
	front.vdev = (struct vdev){.ops = &ops, .size_bytes = front.behind->size_bytes, .name = "front"};
	return open_as(false, false, NULL);
}

static inline int tear_down(void **state)
{
	(void)state;
	if (front.store)
		store_abandon(front.store);
	vdev_close(front.behind);
	return 0;
}

static inline void crash(void)
{
	store_abandon(front.store);
	front.store = NULL;
	front.unflushed = front.rooted = false;
	front.wrote = NULL;
}

static inline void write_block(uint64_t block, uint8_t value)
{
	uint8_t data[BLOCK_SIZE];
	memset(data, value, sizeof(data));
	assert_int_equal(store_write(front.store, block * BLOCK_SIZE, data, sizeof(data), false, NULL), 0);
}

static inline void expect_block(uint64_t block, uint8_t value)
{
	uint8_t data[BLOCK_SIZE];
	assert_int_equal(store_read(front.store, block * BLOCK_SIZE, data, sizeof(data), NULL), 0);
	assert_int_equal(data[0], value);
	assert_int_equal(data[BLOCK_SIZE - 1], value);
}

/* After a crash it is whole by every invariant. */
static inline void expect_whole(void)
{
	static uint8_t used[(BASE + METASLABS * METASLAB_BLOCKS) / 8 + 1];
	struct store_walk walk = {.data = true, .after_crash = true};
	struct lcpfs_failure failure = {0};

	crash();
	if (open_as(true, false, &failure))
		fail_msg("%s", failure.message);
	memset(used, 0, sizeof(used));
	assert_int_equal(store_check(front.store, used, &walk), 0);
	assert_int_equal(walk.damaged_blocks, 0);
}

static inline bool writes_a_page(const struct vdev_io *io)
{
	return le16_get(((const struct fmt_head *)io->buffer)->kind) == FMT_PAGE;
}

#define STORE_TEST(name) cmocka_unit_test_setup_teardown(name, set_up, tear_down)

#endif
