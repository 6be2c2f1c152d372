/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots of a store, by examples: what they hold, what they cost, what they refuse. What crashes, faults and
 * other threads do to them is searched by tests/crash and tests/sched.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "store/state.h"
#include "store/tree.h"
#include "tests/disk/simdisk.h"

enum { BASE = 16, METASLAB_BLOCKS = 64, METASLABS = 24, VOLUME_BLOCKS = METASLABS * METASLAB_BLOCKS };

static struct bed {
	struct simdisk *disk;
	struct store *store;
	struct store_config config;
	uint32_t metaslab[METASLABS];
	uint64_t now_us;
} bed;

static uint64_t now_us(void *context)
{
	(void)context;
	return bed.now_us += 10;
}

static const struct clock bed_clock = {.now_us = now_us, .wall_s = now_us};

static void must_open(void)
{
	struct lcpfs_failure failure = {0};
	assert_int_equal(store_open(&bed.config, bed.metaslab, METASLABS, &bed.store, &failure), 0);
}

static int set_up(void **state)
{
	struct simimage *image = simimage_new((uint64_t)(BASE + METASLABS * METASLAB_BLOCKS) * BLOCK_SIZE);
	(void)state;
	bed = (struct bed){.disk = simdisk_new(image, SIMDISK_DISCARD_GARBAGE)};
	simimage_free(image);
	for (uint32_t i = 0; i < METASLABS; i++)
		bed.metaslab[i] = i;
	bed.config = (struct store_config){.vdev = simdisk_vdev(bed.disk),
					   .clock = &bed_clock,
					   .guid = 1,
					   .partition = 7,
					   .name = "bed",
					   .metaslab_base = BASE,
					   .metaslab_blocks = METASLAB_BLOCKS,
					   .metaslab_count = METASLABS,
					   .root_block = {{0, 1}, {2, 3}}};
	assert_int_equal(store_format(&bed.config, VOLUME_BLOCKS, bed.metaslab, METASLABS), 0);
	must_open();
	return 0;
}

static int tear_down(void **state)
{
	(void)state;
	if (bed.store)
		store_abandon(bed.store);
	simdisk_free(bed.disk);
	return 0;
}

static void reopen(void)
{
	assert_int_equal(store_close(bed.store), 0);
	must_open();
}

static int write_one(uint64_t block, uint8_t value)
{
	uint8_t data[BLOCK_SIZE];
	memset(data, value, sizeof(data));
	return store_write(bed.store, block * BLOCK_SIZE, data, sizeof(data), false, NULL);
}

static void put(uint64_t first, uint64_t count, uint8_t value)
{
	for (uint64_t b = first; b < first + count; b++)
		assert_int_equal(write_one(b, value), 0);
}

static int value_in(const char *snapshot, uint64_t block)
{
	struct store_snapshot list[300];
	unsigned count = store_snapshots(bed.store, list, 300);
	uint8_t data[BLOCK_SIZE];
	for (unsigned i = 0; i < count; i++) {
		if (strcmp(list[i].name, snapshot) != 0)
			continue;
		assert_int_equal(
			store_snapshot_read(bed.store, list[i].number, block * BLOCK_SIZE, data, BLOCK_SIZE, NULL),
			0);
		assert_memory_equal(data, data + 1, BLOCK_SIZE - 1);
		return data[0];
	}
	return -1;
}

static int value(uint64_t block)
{
	uint8_t data[BLOCK_SIZE];
	assert_int_equal(store_read(bed.store, block * BLOCK_SIZE, data, BLOCK_SIZE, NULL), 0);
	return data[0];
}

static uint64_t live(void)
{
	struct store_stats stats;
	store_stats(bed.store, &stats);
	return stats.live_blocks;
}

static void finish(void)
{
	for (unsigned i = 0; store_snapshots_pending(bed.store); i++) {
		assert_true(i < 10000);
		assert_true(store_step(bed.store) >= 0);
	}
}

static void find(void *context, const struct store_finding *finding)
{
	(void)context;
	print_message("%s\n", finding->text);
}

/* The store was closed or, as by a power cut, abandoned. */
static void check_and_open(bool after_crash)
{
	struct store_walk walk = {.found = find, .data = true, .after_crash = after_crash};
	uint8_t *used = calloc(1, BASE + METASLABS * METASLAB_BLOCKS);
	bed.config.read_only = true;
	must_open();
	assert_int_equal(store_check(bed.store, used, &walk), 0);
	assert_int_equal(walk.damaged_blocks, 0);
	store_abandon(bed.store);
	bed.config.read_only = false;
	must_open();
	free(used);
}

static void must_be_clean(void)
{
	assert_int_equal(store_close(bed.store), 0);
	check_and_open(false);
}

static void must_be_clean_after_cut(void)
{
	store_abandon(bed.store);
	check_and_open(true);
}

static void a_snapshot_holds_what_was_there(void **state)
{
	(void)state;
	put(0, 100, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 5), 0);
	put(50, 20, 2);
	assert_int_equal(store_trim(bed.store, 80 * BLOCK_SIZE, 10 * BLOCK_SIZE, false, NULL), 0);
	put(200, 1, 3);
	for (unsigned i = 0; i < 2; i++, reopen()) {
		assert_int_equal(value_in("a", 50), 1);
		assert_int_equal(value_in("a", 85), 1);
		assert_int_equal(value_in("a", 200), 0);
		assert_int_equal(value(50), 2);
		assert_int_equal(value(85), 0);
		assert_int_equal(value(200), 3);
	}
	must_be_clean();
}

static void names_are_looked_at(void **state)
{
	static const char *const bad[] = {
		"", "a b", "a@b", "a/b", "ä", "1234567890123456789012345678901234567890123456789012345678901234"};
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(bad); i++)
		assert_int_equal(store_snapshot(bed.store, bad[i], 0), -LCPFS_E_INVALID);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	assert_int_equal(store_snapshot(bed.store, "a", 0), -LCPFS_E_EXISTS);
	assert_int_equal(store_snapshot_destroy(bed.store, "b"), -LCPFS_E_NOT_FOUND);
	assert_int_equal(store_rollback(bed.store, "b"), -LCPFS_E_NOT_FOUND);
	assert_int_equal(store_snapshot_destroy(bed.store, "a"), 0);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0); /* while the first is still being freed */
	assert_int_equal(store_snapshots(bed.store, NULL, 0), 1);
}

/* All that a snapshot took comes back, and the head's own blocks are overwritten in place again. */
static void space_comes_back(void **state)
{
	(void)state;
	put(0, 300, 1);
	assert_int_equal(store_snapshot(bed.store, "first", 0), 0); /* the list's blocks stay */
	assert_int_equal(store_snapshot_destroy(bed.store, "first"), 0);
	finish();
	assert_int_equal(store_checkpoint(bed.store), 0);
	uint64_t before = live();
	for (unsigned i = 0; i < 5; i++) {
		char name[8];
		snprintf(name, sizeof(name), "s%u", i);
		assert_int_equal(store_snapshot(bed.store, name, 0), 0);
		put(i * 50, 60, (uint8_t)(10 + i));
	}
	assert_int_equal(store_checkpoint(bed.store), 0);
	assert_true(live() >= before + 5 * 60);
	for (unsigned i = 0; i < 5; i++) {
		static const char *const order[] = {"s2", "s0", "s4", "s3", "s1"};
		assert_int_equal(store_snapshot_destroy(bed.store, order[i]), 0);
		assert_int_equal(value_in(order[i], 0), -1);
	}
	finish();
	assert_int_equal(store_checkpoint(bed.store), 0);
	assert_true(live() <= before + 4); /* a page of the table more, twice */
	assert_int_equal(value(0), 10);
	must_be_clean();
}

static struct store_snapshot_sizes sizes_of(const char *snapshot)
{
	struct store_snapshot list[10];
	unsigned count = store_snapshots(bed.store, list, 10);
	struct store_snapshot_sizes sizes = {UINT64_MAX, UINT64_MAX, UINT64_MAX};
	for (unsigned i = 0; i < count; i++) {
		if (strcmp(list[i].name, snapshot) == 0)
			assert_int_equal(store_snapshot_sizes(bed.store, list[i].number, &sizes), 0);
	}
	return sizes;
}

static uint64_t taken(void)
{
	return bed.store->data_blocks + bed.store->page_blocks + 2 * bed.store->trees.unplaced;
}

/* What is said to come free does, to the block: whatever is shared, and in whatever order they go. */
static void what_is_used_comes_back(void **state)
{
	uint64_t random = 1;
	(void)state;
	for (unsigned round = 0; round < 12; round++) {
		for (unsigned i = 0; i < 4; i++) {
			char name[8] = {'s', (char)('0' + i), 0};
			for (unsigned k = 0; k < 30; k++)
				put(hash_mix(random++) % 200 * (k % 3 ? 1 : 5), 1, (uint8_t)(k + 1));
			assert_int_equal(store_snapshot(bed.store, name, 0), 0);
		}
		for (unsigned k = 0; k < 30; k++)
			put(hash_mix(random++) % 200, 1, 9);
		if (round % 2) /* else the head's pages are in memory */
			assert_int_equal(store_checkpoint(bed.store), 0);
		for (unsigned left = 4; left > 0; left--) {
			struct store_snapshot list[4];
			struct store *s = bed.store;
			assert_int_equal(store_snapshots(s, list, 4), left);
			const char *name = list[hash_mix(random++) % left].name;
			uint64_t used = sizes_of(name).used, before = taken();
			assert_int_equal(store_snapshot_destroy(s, name), 0);
			finish();
			assert_int_equal(before - taken(), used);
		}
	}
	must_be_clean();
}

/* And of several, what they share as well. */
static void what_several_free_is_known(void **state)
{
	uint64_t random = 1, freed;
	(void)state;
	for (unsigned round = 0; round < 20; round++) {
		uint32_t numbers[6];
		struct store_snapshot list[6];
		size_t count = 0;
		for (unsigned i = 0; i < 6; i++) {
			char name[8] = {'s', (char)('0' + i), 0};
			for (unsigned k = 0; k < 15; k++)
				put(hash_mix(random++) % 100 * (k % 3 ? 1 : 9), 1, (uint8_t)(k + 1));
			assert_int_equal(store_snapshot(bed.store, name, 0), 0);
		}
		assert_int_equal(store_snapshots(bed.store, list, 6), 6);
		for (unsigned i = 0; i < 6; i++) {
			if (hash_mix(random++) % 2)
				numbers[count++] = list[i].number;
		}
		assert_int_equal(store_snapshots_freed(bed.store, numbers, count, &freed), 0);
		uint64_t before = taken();
		for (size_t i = 0; i < count; i++)
			assert_int_equal(store_snapshot_destroy(bed.store, list[numbers[i] - list[0].number].name),
					 0);
		finish();
		assert_int_equal(before - taken(), freed);
		for (unsigned i = 0; i < 6; i++)
			(void)!store_snapshot_destroy(bed.store, list[i].name);
		finish();
	}
	must_be_clean();
}

/* Also by who opens it next, and beside others of the same list. */
static void a_hold_lasts(void **state)
{
	struct store_snapshot found;
	(void)state;
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	assert_int_equal(store_snapshot(bed.store, "b", 0), 0);
	assert_int_equal(store_snapshot_hold(bed.store, "none", true), -LCPFS_E_NOT_FOUND);
	assert_int_equal(store_snapshot_hold(bed.store, "a", true), 0);
	assert_int_equal(store_snapshot(bed.store, "c", 0), 0);
	for (unsigned i = 0; i < 2; i++) {
		assert_true(store_snapshot_find(bed.store, "a", &found) && found.held);
		assert_true(store_snapshot_find(bed.store, "b", &found) && !found.held);
		reopen();
	}
	assert_int_equal(store_snapshot_hold(bed.store, "a", false), 0);
	reopen();
	assert_true(store_snapshot_find(bed.store, "a", &found) && !found.held);
	must_be_clean();
}

enum { MODEL_SNAPSHOTS = 5, MODEL_PAGES = DIV_UP(VOLUME_BLOCKS, VOLUME_SLOTS) };

/* What is at each address, and when each page of the tree was changed last. 0: nothing. */
struct model_tree {
	char name[8]; /* "": it is destroyed */
	uint32_t block[VOLUME_BLOCKS], page[MODEL_PAGES], top;
};

/* What `t` has, and neither of the others (NULL: that one has nothing). */
static uint64_t model_size(const struct model_tree *t, const struct model_tree *before,
			   const struct model_tree *behind)
{
	static const struct model_tree none;
	const struct model_tree *a = before ? before : &none, *b = behind ? behind : &none;
	bool page[MODEL_PAGES] = {false}, top = false;
	uint64_t blocks = 0;
	for (unsigned i = 0; i < VOLUME_BLOCKS; i++) {
		blocks += t->block[i] && a->block[i] != t->block[i] && b->block[i] != t->block[i];
		page[i / VOLUME_SLOTS] |= t->block[i] != 0;
	}
	for (unsigned i = 0; i < MODEL_PAGES; i++) {
		blocks += page[i] && a->page[i] != t->page[i] && b->page[i] != t->page[i] ? 2 : 0;
		top |= page[i];
	}
	return blocks + (top && a->top != t->top && b->top != t->top ? 2 : 0);
}

/* Of a volume, that is a line of snapshots, and of what that goes on from (NULL: nothing). */
static void check_sizes(uint32_t volume, const struct model_tree *base, const struct model_tree *trees,
			const struct model_tree *head)
{
	const struct model_tree *before = base;
	for (unsigned i = 0; i < MODEL_SNAPSHOTS && trees[i].name[0]; i++) {
		bool last = i + 1 == MODEL_SNAPSHOTS || !trees[i + 1].name[0];
		struct store_snapshot found;
		struct store_snapshot_sizes sizes;
		assert_true(store_volume_snapshot_find(bed.store, volume, trees[i].name, &found));
		assert_int_equal(store_snapshot_sizes(bed.store, found.number, &sizes), 0);
		assert_int_equal(sizes.referenced, model_size(&trees[i], NULL, NULL));
		assert_int_equal(sizes.written, model_size(&trees[i], before, NULL));
		assert_int_equal(sizes.used, model_size(&trees[i], before, last ? head : &trees[i + 1]));
		before = &trees[i];
	}
}

static void change_at_random(uint32_t volume, struct model_tree *head, uint64_t random, uint32_t version)
{
	uint8_t data[BLOCK_SIZE];
	unsigned block = hash_mix(random) % 40 * 31 + hash_mix(random + 1) % 8;
	bool trims = hash_mix(random + 2) % 4 == 0;
	if (trims && !head->block[block])
		return;
	if (trims)
		assert_int_equal(store_volume_trim(bed.store, volume, (uint64_t)block * BLOCK_SIZE, BLOCK_SIZE,
						   false, NULL),
				 0);
	else
		assert_int_equal(store_volume_write(bed.store, volume, (uint64_t)block * BLOCK_SIZE,
						    memset(data, (uint8_t)version, BLOCK_SIZE), BLOCK_SIZE, false,
						    NULL),
				 0);
	head->block[block] = trims ? 0 : version;
	head->page[block / VOLUME_SLOTS] = head->top = version;
}

/* However snapshots come and go, and whether it was counted before or just opened. */
static void run_sizes(uint32_t volume, const struct model_tree *base)
{
	struct model_tree *trees = calloc(MODEL_SNAPSHOTS + 1, sizeof(*trees)), *head = trees + MODEL_SNAPSHOTS;
	uint64_t random = 1;
	uint32_t version = 1000;
	if (base)
		*head = *base;
	for (unsigned round = 0; round < 60; round++, random += 3) {
		for (unsigned k = 0; k < hash_mix(random) % 25; k++, random += 3)
			change_at_random(volume, head, random, ++version);
		if (round % 5)
			check_sizes(volume, base, trees, head);
		struct model_tree *last = &trees[MODEL_SNAPSHOTS - 1];
		if (last->name[0]) {
			struct model_tree *gone = &trees[hash_mix(random) % MODEL_SNAPSHOTS];
			if (gone->name[0])
				assert_int_equal(store_volume_snapshot_destroy_soon(bed.store, volume, gone->name),
						 0);
			memmove(gone, gone + 1, (size_t)((uint8_t *)head - (uint8_t *)(gone + 1)));
			last->name[0] = '\0';
		}
		for (unsigned i = 0; i < MODEL_SNAPSHOTS; i++) {
			if (trees[i].name[0])
				continue;
			trees[i] = *head;
			snprintf(trees[i].name, sizeof(trees[i].name), "r%u", round);
			assert_int_equal(store_volume_snapshot(bed.store, volume, trees[i].name, 0, 0), 0);
			break;
		}
		if (round % 3 == 0)
			reopen();
		if (round % 2)
			check_sizes(volume, base, trees, head);
	}
	free(trees);
	must_be_clean();
}

static void sizes_are_those_of_a_model(void **state)
{
	(void)state;
	run_sizes(STORE_OWN_VOLUME, NULL);
}

/* The line of a clone goes on from its origin, and looks at nobody else's snapshots. */
static void sizes_of_a_clones_snapshots_are_those_of_a_model(void **state)
{
	struct model_tree *base = calloc(1, sizeof(*base));
	struct store_clone clone;
	(void)state;
	for (uint32_t version = 1; version < 200; version++)
		change_at_random(STORE_OWN_VOLUME, base, 7 * version, version);
	assert_int_equal(store_snapshot(bed.store, "base", 0), 0);
	change_at_random(STORE_OWN_VOLUME, &(struct model_tree){.name = ""}, 5, 1);
	assert_int_equal(store_snapshot(bed.store, "r1", 0), 0);
	assert_int_equal(store_clone(bed.store, "base", "c", 0), 0);
	assert_true(store_clone_find(bed.store, "c", &clone));
	run_sizes(clone.number, base);
	free(base);
}

/* Nobody has to wait for the background: what is destroyed is as good as free. */
static void a_full_partition_goes_on_after_a_destroy(void **state)
{
	unsigned written = 0, again = 0;
	(void)state;
	put(0, 400, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	while (written < 400 && !write_one(written, 2))
		written++;
	put(written, 0, 0);
	while (!write_one(400 + again, 3))
		again++;
	assert_int_equal(write_one(written, 4), written < 400 ? -LCPFS_E_NOSPC : 0);
	assert_int_equal(store_trim(bed.store, 0, 1, false, NULL), 0);
	assert_int_equal(store_snapshot_destroy(bed.store, "a"), 0);
	for (unsigned b = 0; b < MIN_OF(written, 200u); b++)
		assert_int_equal(write_one(VOLUME_BLOCKS - 1 - b, 5), 0);
	must_be_clean();
}

/* It stays behind until it can be read again, and is in nobody's way. */
static void one_that_cannot_be_read_keeps_nobody(void **state)
{
	(void)state;
	put(0, 300, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	put(0, 300, 2);
	assert_int_equal(store_snapshot(bed.store, "b", 0), 0);
	put(0, 10, 3);
	reopen();
	uint64_t before = live();
	assert_int_equal(store_snapshot_destroy(bed.store, "a"), 0);
	simdisk_add_fault(bed.disk,
			  &(struct simdisk_fault){.kind = SIMDISK_READ, .forever = true, .error = LCPFS_E_IO});
	finish();
	simdisk_clear_faults(bed.disk);
	assert_true(live() > before - 300);
	assert_int_equal(store_step(bed.store), 0);
	put(0, 10, 4);
	assert_int_equal(store_rollback(bed.store, "b"), 0);
	assert_int_equal(value(5), 2);
	reopen();
	finish();
	assert_true(live() <= before - 300);
	must_be_clean();
}

static void rolling_back_wants_the_youngest(void **state)
{
	(void)state;
	put(0, 10, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	put(0, 10, 2);
	assert_int_equal(store_snapshot(bed.store, "b", 0), 0);
	put(5, 20, 3);
	assert_int_equal(store_rollback(bed.store, "a"), -LCPFS_E_EXISTS);
	assert_int_equal(value(5), 3);
	assert_int_equal(store_rollback(bed.store, "b"), 0);
	assert_int_equal(value(5), 2);
	assert_int_equal(value(20), 0);
	assert_int_equal(store_snapshot_destroy(bed.store, "b"), 0);
	assert_int_equal(store_rollback(bed.store, "a"), 0);
	assert_int_equal(value(5), 1);
	assert_int_equal(value_in("a", 5), 1);
	put(0, 10, 4);
	assert_int_equal(value_in("a", 5), 1);
	must_be_clean();
}

/* More than one block of the list, and slots that are used again. */
static void a_list_of_many(void **state)
{
	(void)state;
	for (unsigned round = 0; round < 2; round++) {
		for (unsigned i = 0; i < 100; i++) {
			char name[16];
			snprintf(name, sizeof(name), "r%u-%u", round, i);
			put(i % 30, 1, (uint8_t)(1 + i));
			assert_int_equal(store_snapshot(bed.store, name, i), 0);
		}
		reopen();
		assert_int_equal(store_snapshots(bed.store, NULL, 0), 100);
		assert_int_equal(value_in(round ? "r1-59" : "r0-59", 29), 60);
		assert_int_equal(value_in(round ? "r1-59" : "r0-59", 0), 31);
		for (unsigned i = 0; i < 100; i++) {
			char name[16];
			snprintf(name, sizeof(name), "r%u-%u", round, i);
			assert_int_equal(store_snapshot_destroy(bed.store, name), 0);
		}
		finish();
		assert_int_equal(store_snapshots(bed.store, NULL, 0), 0);
		assert_true(bed.store->trees.snapshots.pairs <= 5);
	}
	must_be_clean();
}

/* Taking one is one flush of the device, however much is in the volume. */
static void taking_one_is_one_flush(void **state)
{
	(void)state;
	put(0, 500, 1);
	uint64_t before = simdisk_counts(bed.disk)->flushes;
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	assert_int_equal(simdisk_counts(bed.disk)->flushes, before + 1);
	before = simdisk_counts(bed.disk)->written_bytes;
	assert_int_equal(store_snapshot(bed.store, "b", 0), 0);
	assert_true(simdisk_counts(bed.disk)->written_bytes - before <= 8 * BLOCK_SIZE);
}

static void destroying_many_is_one_flush(void **state)
{
	(void)state;
	put(0, 500, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	assert_int_equal(store_snapshot(bed.store, "b", 0), 0);
	uint64_t before = simdisk_counts(bed.disk)->flushes;
	assert_int_equal(store_snapshot_destroy_soon(bed.store, "a"), 0);
	assert_int_equal(store_snapshot_destroy_soon(bed.store, "b"), 0);
	assert_int_equal(simdisk_counts(bed.disk)->flushes, before);
	assert_int_equal(store_flush(bed.store, NULL), 0);
	assert_int_equal(simdisk_counts(bed.disk)->flushes, before + 1);
	store_abandon(bed.store);
	must_open();
	assert_int_equal(value_in("a", 0), -1);
	assert_int_equal(value_in("b", 0), -1);
	must_be_clean();
}

/* -- clones -- */

static uint32_t clone_number(const char *name)
{
	struct store_clone found;
	assert_true(store_clone_find(bed.store, name, &found));
	return found.number;
}

static int value_of(const char *clone, uint64_t block)
{
	uint8_t data[BLOCK_SIZE];
	assert_int_equal(
		store_volume_read(bed.store, clone_number(clone), block * BLOCK_SIZE, data, BLOCK_SIZE, NULL), 0);
	assert_memory_equal(data, data + 1, BLOCK_SIZE - 1);
	return data[0];
}

static void put_into(const char *clone, uint64_t first, uint64_t count, uint8_t value)
{
	uint8_t data[BLOCK_SIZE];
	memset(data, value, sizeof(data));
	for (uint64_t b = first; b < first + count; b++)
		assert_int_equal(store_volume_write(bed.store, clone_number(clone), b * BLOCK_SIZE, data,
						    BLOCK_SIZE, false, NULL),
				 0);
}

/* The volume, its snapshot and two clones of that: who writes changes nobody else. */
static void a_clone_is_written_by_itself(void **state)
{
	(void)state;
	put(0, 100, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 5), 0);
	put(10, 20, 2);
	assert_int_equal(store_clone(bed.store, "a", "c", 6), 0);
	assert_int_equal(store_clone(bed.store, "a", "d", 7), 0);
	put_into("c", 15, 10, 3);
	put_into("c", 700, 1, 4);
	put_into("d", 15, 1, 5);
	put(15, 1, 6);
	assert_int_equal(
		store_volume_trim(bed.store, clone_number("c"), 50 * BLOCK_SIZE, 10 * BLOCK_SIZE, false, NULL), 0);
	for (unsigned i = 0; i < 2; i++, reopen()) {
		assert_int_equal(value(15), 6);
		assert_int_equal(value(16), 2);
		assert_int_equal(value_in("a", 15), 1);
		assert_int_equal(value_of("c", 15), 3);
		assert_int_equal(value_of("c", 10), 1);
		assert_int_equal(value_of("c", 55), 0);
		assert_int_equal(value_of("c", 700), 4);
		assert_int_equal(value_of("d", 15), 5);
		assert_int_equal(value_of("d", 55), 1);
	}
	must_be_clean();
	assert_int_equal(value_of("c", 700), 4);
}

/* Making one takes no room, whatever it shares; destroying it gives back what it did not share, and the snapshot.
 */
static void a_clone_gives_back_what_is_its_own(void **state)
{
	(void)state;
	put(0, 600, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	uint64_t before = taken();
	assert_int_equal(store_clone(bed.store, "a", "c", 0), 0);
	assert_int_equal(taken(), before);
	put_into("c", 5, 50, 2);
	assert_int_equal(taken(), before + 50 + 2 * 2);
	assert_int_equal(store_snapshot_destroy(bed.store, "a"), -LCPFS_E_CLONED);
	assert_int_equal(store_clone_destroy(bed.store, "c"), 0);
	assert_int_equal(store_clones(bed.store, NULL, 0), 0);
	finish();
	assert_int_equal(taken(), before);
	assert_int_equal(value_in("a", 5), 1);
	assert_int_equal(store_snapshot_destroy(bed.store, "a"), 0);
	finish();
	assert_int_equal(taken(), before);
	must_be_clean();
}

static uint64_t used_by(const char *clone)
{
	uint64_t blocks;
	assert_int_equal(store_clone_used(bed.store, clone_number(clone), &blocks), 0);
	return blocks;
}

/* What is said to come free does, to the block: flushed or not, and whatever was trimmed. */
static void what_a_clone_uses_comes_back(void **state)
{
	uint64_t random = 1;
	(void)state;
	put(0, 300, 1);
	put(700, 50, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	for (unsigned round = 0; round < 12; round++) {
		assert_int_equal(store_clone(bed.store, "a", "c", 0), 0);
		uint64_t before = taken();
		assert_int_equal(used_by("c"), 0);
		for (unsigned k = 0; k < 40; k++) {
			uint64_t block = hash_mix(random++) % (VOLUME_BLOCKS - 8);
			if (hash_mix(random++) % 4)
				put_into("c", block % (round % 2 ? 64 : VOLUME_BLOCKS), 1, (uint8_t)k);
			else
				assert_int_equal(store_volume_trim(bed.store, clone_number("c"),
								   block * BLOCK_SIZE, 8 * BLOCK_SIZE, false,
								   NULL),
						 0);
		}
		assert_int_equal(taken(), before + used_by("c"));
		if (round % 3 == 1)
			assert_int_equal(store_checkpoint(bed.store), 0);
		if (round % 3 == 2)
			reopen();
		assert_int_equal(taken(), before + used_by("c"));
		assert_int_equal(store_clone_destroy(bed.store, "c"), 0);
		finish();
		assert_int_equal(taken(), before);
	}
	must_be_clean();
}

static uint32_t number_of(uint32_t volume, const char *snapshot)
{
	struct store_snapshot found;
	assert_true(store_volume_snapshot_find(bed.store, volume, snapshot, &found));
	assert_int_equal(found.volume, volume);
	return found.number;
}

static int value_at(uint32_t number, uint64_t block)
{
	uint8_t data[BLOCK_SIZE];
	assert_int_equal(store_snapshot_read(bed.store, number, block * BLOCK_SIZE, data, BLOCK_SIZE, NULL), 0);
	return data[0];
}

/* Names are of a line; what is destroyed, rolled back to and cloned in one leaves all others as they are. */
static void a_clone_has_snapshots(void **state)
{
	(void)state;
	put(0, 600, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	assert_int_equal(store_clone(bed.store, "a", "c", 0), 0);
	uint32_t c = clone_number("c");
	uint64_t before = taken();
	put_into("c", 5, 50, 2);
	assert_int_equal(store_volume_snapshot(bed.store, c, "a", 0, 0), 0);
	assert_int_equal(store_volume_snapshot(bed.store, c, "a", 0, 0), -LCPFS_E_EXISTS);
	assert_int_equal(store_volume_snapshot(bed.store, 12345, "a", 0, 0), -LCPFS_E_NOT_FOUND);
	put_into("c", 5, 20, 3);
	assert_int_equal(store_volume_snapshot(bed.store, c, "b", 0, 0), 0);
	assert_int_equal(store_volume_clone(bed.store, c, "b", "d", 0), 0);
	put_into("c", 5, 10, 4);
	put_into("d", 5, 5, 5);
	put(5, 1, 6);
	for (unsigned i = 0; i < 2; i++, reopen()) {
		assert_int_equal(value_at(number_of(STORE_OWN_VOLUME, "a"), 5), 1);
		assert_int_equal(value_at(number_of(c, "a"), 5), 2);
		assert_int_equal(value_at(number_of(c, "b"), 5), 3);
		assert_int_equal(value_of("c", 5), 4);
		assert_int_equal(value_of("d", 5), 5);
		assert_int_equal(value_of("d", 54), 2);
		assert_int_equal(value(5), 6);
	}
	assert_int_equal(store_clone_destroy(bed.store, "c"), -LCPFS_E_NOT_EMPTY);
	assert_int_equal(store_volume_snapshot_destroy_soon(bed.store, c, "b"), -LCPFS_E_CLONED);
	assert_int_equal(store_promote(bed.store, "c", "e"), -LCPFS_E_EXISTS);
	assert_int_equal(store_volume_rollback(bed.store, c, "a"), -LCPFS_E_EXISTS);
	assert_int_equal(store_volume_rollback(bed.store, c, "b"), 0);
	assert_int_equal(value_of("c", 5), 3);
	assert_int_equal(store_clone_destroy(bed.store, "d"), 0);
	finish();
	assert_int_equal(taken(), before + used_by("c") + 1 + 2 * 2); /* what the volume wrote, and its pages */
	assert_int_equal(store_volume_snapshot_destroy_soon(bed.store, c, "b"), 0);
	assert_int_equal(store_volume_rollback(bed.store, c, "a"), 0);
	assert_int_equal(value_of("c", 5), 2);
	assert_int_equal(store_volume_snapshot_destroy_soon(bed.store, c, "a"), 0);
	assert_int_equal(store_clone_destroy(bed.store, "c"), 0);
	finish();
	assert_int_equal(taken(), before + 1 + 2 * 2);
	must_be_clean();
}

/* Its bookmarks are of its line, too, and go with it. */
static void a_clone_has_bookmarks(void **state)
{
	struct store_difference run = {0};
	struct store_snapshot found;
	(void)state;
	put(0, 100, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	assert_int_equal(store_clone(bed.store, "a", "c", 0), 0);
	uint32_t c = clone_number("c");
	put_into("c", 5, 50, 2);
	assert_int_equal(store_volume_snapshot(bed.store, c, "one", 0, 0), 0);
	assert_int_equal(store_bookmark(bed.store, "a", "m"), 0);
	assert_int_equal(store_volume_bookmark(bed.store, c, "one", "m"), 0);
	uint32_t since = number_of(c, "one");
	assert_int_equal(store_volume_snapshot_destroy_soon(bed.store, c, "one"), 0);
	put_into("c", 7, 1, 3); /* over what nobody else has any more */
	assert_int_equal(store_volume_snapshot(bed.store, c, "two", 0, 0), 0);
	reopen();
	assert_int_equal(store_difference_since(bed.store, since, number_of(c, "two"), 0, &run), 0);
	while (!run.count && run.first != UINT64_MAX)
		assert_int_equal(store_difference_since(bed.store, since, number_of(c, "two"), run.first, &run),
				 0);
	assert_int_equal(run.first, 7);
	assert_int_equal(run.count, 1);
	assert_int_equal(store_bookmarks(bed.store, NULL, 0), 1);
	assert_int_equal(store_volume_snapshot_destroy_soon(bed.store, c, "two"), 0);
	assert_int_equal(store_clone_destroy(bed.store, "c"), 0);
	assert_int_equal(store_volume_bookmarks(bed.store, 0, NULL, 0), 1);
	assert_true(store_bookmark_find(bed.store, "m", &found));
	must_be_clean();
}

static void a_clone_keeps_its_snapshot(void **state)
{
	(void)state;
	put(0, 50, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	assert_int_equal(store_snapshot(bed.store, "b", 0), 0);
	assert_int_equal(store_clone(bed.store, "a", "c", 0), 0);
	assert_int_equal(store_snapshot_destroy(bed.store, "a"), -LCPFS_E_CLONED);
	assert_int_equal(store_snapshot_destroy_soon(bed.store, "a"), -LCPFS_E_CLONED);
	put(0, 50, 2);
	put_into("c", 1, 1, 3);
	assert_int_equal(store_rollback(bed.store, "b"), 0);
	assert_int_equal(store_snapshot_destroy(bed.store, "b"), 0);
	assert_int_equal(store_rollback(bed.store, "a"), 0);
	finish();
	assert_int_equal(value(1), 1);
	assert_int_equal(value_of("c", 1), 3);
	must_be_clean();
}

/* The volume and the clone change places, also for who comes after a crash. */
static void a_clone_is_promoted(void **state)
{
	(void)state;
	put(0, 100, 1);
	assert_int_equal(store_promote(bed.store, "c", "d"), -LCPFS_E_NOT_FOUND);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	assert_int_equal(store_clone(bed.store, "a", "c", 0), 0);
	assert_int_equal(store_clone(bed.store, "a", "other", 0), 0);
	put(0, 10, 2);
	put_into("c", 5, 10, 3);
	assert_int_equal(store_promote(bed.store, "c", "no name"), -LCPFS_E_INVALID);
	assert_int_equal(store_promote(bed.store, "c", "other"), -LCPFS_E_EXISTS);
	assert_int_equal(store_snapshot(bed.store, "b", 0), 0);
	assert_int_equal(store_snapshot_destroy(bed.store, "b"), 0); /* it is dying still */
	uint32_t number = clone_number("c");
	assert_int_equal(store_promote(bed.store, "c", "d"), 0);
	for (unsigned i = 0; i < 3; i++) {
		assert_int_equal(clone_number("d"), number);
		assert_int_equal(value_of("d", 0), 2);
		assert_int_equal(value_of("d", 12), 1);
		assert_int_equal(value(0), 1);
		assert_int_equal(value(12), 3);
		assert_int_equal(value_in("a", 5), 1);
		assert_int_equal(value_of("other", 5), 1);
		if (i)
			reopen();
		else
			store_abandon(bed.store);
		if (!i)
			must_open();
	}
	put(0, 1, 4);
	put_into("d", 0, 1, 5);
	assert_int_equal(store_clone_destroy(bed.store, "d"), 0);
	finish();
	assert_int_equal(value(0), 4);
	assert_int_equal(store_grow_volume(bed.store, VOLUME_BLOCKS + 1), 0);
	assert_int_equal(store_promote(bed.store, "other", "x"), -LCPFS_E_RANGE);
	must_be_clean();
}

static void clones_are_asked_for_in_vain(void **state)
{
	uint8_t data[BLOCK_SIZE] = {0};
	char name[8];
	(void)state;
	assert_int_equal(store_clone(bed.store, "a", "c", 0), -LCPFS_E_NOT_FOUND);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	assert_int_equal(store_clone(bed.store, "a", "no name", 0), -LCPFS_E_INVALID);
	for (unsigned i = 0; i < STORE_CLONES_MAX; i++) {
		snprintf(name, sizeof(name), "c%u", i);
		assert_int_equal(store_clone(bed.store, "a", name, 0), 0);
		assert_int_equal(store_clone(bed.store, "a", name, 0), -LCPFS_E_EXISTS);
	}
	assert_int_equal(store_clone(bed.store, "a", "one.more", 0), -LCPFS_E_RANGE);
	reopen();
	assert_int_equal(store_clones(bed.store, NULL, 0), STORE_CLONES_MAX);
	assert_int_equal(store_clone_destroy(bed.store, "c"), -LCPFS_E_NOT_FOUND);
	uint32_t number = clone_number("c7");
	store_lock(bed.store);
	struct snapshot *n = tree_snapshot(bed.store, number);
	n->clients++; /* as in the middle of a write */
	store_unlock(bed.store);
	assert_int_equal(store_clone_destroy(bed.store, "c7"), -LCPFS_E_BUSY);
	n->clients--;
	assert_int_equal(store_clone_destroy(bed.store, "c7"), 0);
	assert_int_equal(store_volume_read(bed.store, number, 0, data, BLOCK_SIZE, NULL), -LCPFS_E_NOT_FOUND);
	assert_int_equal(store_volume_write(bed.store, number, 0, data, BLOCK_SIZE, false, NULL),
			 -LCPFS_E_NOT_FOUND);
	assert_int_equal(store_clone(bed.store, "a", "one.more", 0), 0);
	put_into("c3", 0, 1, 1);
	assert_int_equal(store_volume_write(bed.store, clone_number("c3"), VOLUME_BLOCKS * BLOCK_SIZE, data,
					    BLOCK_SIZE, false, NULL),
			 -LCPFS_E_RANGE);
	must_be_clean();
}

/* What tells the clone's own from the snapshot's has to be there until the clone is freed. */
static void a_snapshot_stays_until_its_clone_is_freed(void **state)
{
	(void)state;
	put(0, 300, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	uint64_t before = taken();
	assert_int_equal(store_clone(bed.store, "a", "c", 0), 0);
	put_into("c", 0, 100, 2);
	reopen();
	assert_int_equal(store_clone_destroy(bed.store, "c"), 0);
	simdisk_add_fault(bed.disk,
			  &(struct simdisk_fault){.kind = SIMDISK_READ, .forever = true, .error = LCPFS_E_IO});
	finish();
	simdisk_clear_faults(bed.disk);
	assert_true(taken() > before);
	assert_int_equal(store_snapshot_destroy(bed.store, "a"), 0);
	finish();
	reopen();
	finish();
	assert_int_equal(taken(), before);
	assert_int_equal(value(50), 1);
	must_be_clean();
}

static int64_t check(void)
{
	struct store_walk walk = {0};
	uint8_t *used = calloc(1, BASE + METASLABS * METASLAB_BLOCKS);
	int error = store_check(bed.store, used, &walk);
	free(used);
	return error ? error : (int64_t)walk.damaged_blocks;
}

/* Two addresses of a clone changed places: each id is there once, but not where its snapshot has it. */
static void check_looks_where_a_clone_has_what_it_shares(void **state)
{
	struct page *leaf;
	(void)state;
	put(0, 100, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	assert_int_equal(store_clone(bed.store, "a", "c", 0), 0);
	put_into("c", 5, 1, 2); /* so that it has a leaf of its own */
	assert_int_equal(store_close(bed.store), 0);
	bed.config.read_only = true;
	must_open();
	assert_int_equal(check(), 0);
	struct page_key key = tree_key(clone_number("c"), 0, 0);
	store_lock(bed.store);
	assert_int_equal(tree_page(bed.store, &key, &leaf), 0);
	uint64_t first = tree_slot(leaf, 1);
	tree_set_slot(leaf, 1, tree_slot(leaf, 2));
	tree_set_slot(leaf, 2, first);
	page_unpin(&bed.store->cache, leaf);
	store_unlock(bed.store);
	assert_int_equal(check(), 2);
}

/* The pages that only b and the head had are the head's again; one below them changes, and they do not. */
static void check_looks_below_what_was_taken_back(void **state)
{
	(void)state;
	put(0, 600, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	put(0, 1, 2);
	assert_int_equal(store_snapshot(bed.store, "b", 0), 0);
	assert_int_equal(store_snapshot_destroy(bed.store, "b"), 0);
	put(550, 5, 3);
	assert_int_equal(store_flush(bed.store, NULL), 0);
	must_be_clean_after_cut();
}

/* Births come to an end; each clone still has one to end with. */
static void a_clone_can_always_be_destroyed(void **state)
{
	(void)state;
	put(0, 10, 1);
	assert_int_equal(store_snapshot(bed.store, "a", 0), 0);
	assert_int_equal(store_clone(bed.store, "a", "c", 0), 0);
	bed.store->checkpoint.birth = SNAPSHOT_LAST - SNAPSHOT_FIRST;
	assert_int_equal(store_snapshot(bed.store, "b", 0), -LCPFS_E_RANGE);
	assert_int_equal(store_clone(bed.store, "a", "d", 0), -LCPFS_E_RANGE);
	bed.store->checkpoint.birth = SNAPSHOT_LAST - SNAPSHOT_FIRST - 100;
	assert_int_equal(store_clone(bed.store, "a", "d", 0), -LCPFS_E_RANGE);
	assert_int_equal(store_clone_destroy(bed.store, "c"), 0);
	assert_int_equal(store_rollback(bed.store, "a"), 0);
	assert_int_equal(store_snapshot_destroy(bed.store, "a"), 0);
	finish();
	must_be_clean();
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test_setup_teardown(a_snapshot_holds_what_was_there, set_up, tear_down),
		cmocka_unit_test_setup_teardown(names_are_looked_at, set_up, tear_down),
		cmocka_unit_test_setup_teardown(space_comes_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_is_used_comes_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_several_free_is_known, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_hold_lasts, set_up, tear_down),
		cmocka_unit_test_setup_teardown(sizes_are_those_of_a_model, set_up, tear_down),
		cmocka_unit_test_setup_teardown(sizes_of_a_clones_snapshots_are_those_of_a_model, set_up,
						tear_down),
		cmocka_unit_test_setup_teardown(a_clone_has_snapshots, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_clone_has_bookmarks, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_full_partition_goes_on_after_a_destroy, set_up, tear_down),
		cmocka_unit_test_setup_teardown(one_that_cannot_be_read_keeps_nobody, set_up, tear_down),
		cmocka_unit_test_setup_teardown(rolling_back_wants_the_youngest, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_list_of_many, set_up, tear_down),
		cmocka_unit_test_setup_teardown(taking_one_is_one_flush, set_up, tear_down),
		cmocka_unit_test_setup_teardown(destroying_many_is_one_flush, set_up, tear_down),
		cmocka_unit_test_setup_teardown(check_looks_below_what_was_taken_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_clone_can_always_be_destroyed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_clone_is_written_by_itself, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_clone_gives_back_what_is_its_own, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_clone_keeps_its_snapshot, set_up, tear_down),
		cmocka_unit_test_setup_teardown(what_a_clone_uses_comes_back, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_clone_is_promoted, set_up, tear_down),
		cmocka_unit_test_setup_teardown(clones_are_asked_for_in_vain, set_up, tear_down),
		cmocka_unit_test_setup_teardown(a_snapshot_stays_until_its_clone_is_freed, set_up, tear_down),
		cmocka_unit_test_setup_teardown(check_looks_where_a_clone_has_what_it_shares, set_up, tear_down),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
