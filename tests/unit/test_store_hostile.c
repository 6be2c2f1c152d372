/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata whose checksums hold and whose content cannot be: what a stranger's image, or a defect, may bring. Each
 * is refused with an error, by opening or by the first use of it, or does no harm; and where check can see the
 * contradiction, it tells.
 *
 * Each case runs in a process of its own, with a time limit: one that crashes or hangs is named and the others
 * go on.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/hash.h"
#include "store/attempt.h"
#include "store/ids.h"
#include "store/log.h"
#include "store/map.h"
#include "store/place.h"
#include "store/record.h"
#include "store/table.h"
#include "store/tree.h"
#include "tests/crash/alloc.h"
#include "tests/disk/memory.h"

enum { GUID = 5, PARTITION = 3, BASE = 16, METASLAB_BLOCKS = 64, TOTAL = 20, OWNED = 16, VOLUME_BLOCKS = 2000 };
enum { FAR = 1000 }; /* the second range that is written */

static uint64_t no_time(void *context)
{
	(void)context;
	return 0;
}

static const struct clock clock_still = {.now_us = no_time, .wall_s = no_time};
static uint32_t metaslabs[OWNED];

struct bed {
	struct vdev *vdev;
	struct store_config config;
	struct fmt_root root;     /* the newest */
	unsigned slot;            /* where it lies */
	struct fmt_record record; /* the one behind it, the last of the log */
	struct fmt_page space;    /* the leaf of the space list */
	uint64_t id, far;         /* ids of address 0, and of FAR */
	uint64_t fresh, page;     /* and of what is new in `record`, and of the volume's first leaf */
	uint64_t list;            /* of the list of snapshots */
};

static void read_at(struct bed *bed, uint64_t block, void *to)
{
	CHECK(!vdev_read(bed->vdev, block << BLOCK_SHIFT, to, BLOCK_SIZE));
}

static void write_at(struct bed *bed, uint64_t block, const void *from)
{
	CHECK(!vdev_write(bed->vdev, block << BLOCK_SHIFT, from, BLOCK_SIZE));
}

static struct store *open_it(struct bed *bed, bool read_only, int *error, struct lcpfs_failure *failure)
{
	struct store *store = NULL;
	bed->config.read_only = read_only;
	*failure = (struct lcpfs_failure){0};
	*error = store_open(&bed->config, metaslabs, OWNED, &store, failure);
	return store;
}

static struct store *must_open(struct bed *bed)
{
	struct lcpfs_failure failure;
	int error;
	struct store *store = open_it(bed, false, &error, &failure);
	CHECK(!error);
	return store;
}

static void write_volume(struct store *store, uint32_t volume, uint64_t first, unsigned count, uint8_t byte)
{
	uint8_t data[BLOCK_SIZE];
	memset(data, byte, sizeof(data));
	for (unsigned i = 0; i < count; i++)
		CHECK(!store_volume_write(store, volume, (first + i) << BLOCK_SHIFT, data, sizeof(data), false,
					  NULL));
}

static void write_blocks(struct store *store, uint64_t first, unsigned count, uint8_t byte)
{
	write_volume(store, VOLUME_HEAD, first, count, byte);
}

struct look {
	uint32_t volume;
	uint64_t address, id;
};

static int look(struct store *s, void *context, struct need *need)
{
	struct look *l = context;
	struct mapping mapping;
	int error = map_lookup(s, l->volume, l->address, need, &mapping);
	l->id = mapping.id;
	return error;
}

static uint64_t id_of(struct store *s, uint32_t volume, uint64_t address)
{
	struct look l = {.volume = volume, .address = address};
	store_lock(s);
	CHECK(!attempt(s, look, &l) && l.id);
	store_unlock(s);
	return l.id;
}

static uint64_t first_leaf_id(struct store *s, uint32_t volume)
{
	struct page_key key = tree_key(volume, 0, 0);
	struct page *page;
	store_lock(s);
	CHECK(!tree_page(s, &key, &page) && page && page->id);
	uint64_t id = page->id;
	page_unpin(&s->cache, page);
	store_unlock(s);
	return id;
}

static void find_record(struct bed *bed, struct store *store)
{
	const struct fmt_position *p = &bed->root.region[0].position[0];
	uint64_t at = metaslab_block(store, le32_get(p->metaslab)) + le32_get(p->offset);
	bool good[2];
	CHECK(record_read(store, at, &bed->record, good) == 1);
	CHECK(le64_get(bed->record.seq) == le64_get(bed->root.seq) + 1 &&
	      store->log.seq == le64_get(bed->root.seq) + 1);
}

static void bed_init(struct bed *bed, uint64_t volume_blocks)
{
	*bed = (struct bed){.vdev = vdev_memory_new((uint64_t)(BASE + TOTAL * METASLAB_BLOCKS) << BLOCK_SHIFT)};
	bed->config = (struct store_config){.vdev = bed->vdev,
					    .clock = &clock_still,
					    .guid = GUID,
					    .partition = PARTITION,
					    .name = "hostile",
					    .metaslab_base = BASE,
					    .metaslab_blocks = METASLAB_BLOCKS,
					    .metaslab_count = TOTAL,
					    .root_block = {{1, 2}, {3, 4}}};
	for (uint32_t i = 0; i < OWNED; i++)
		metaslabs[i] = i;
	CHECK(!store_format(&bed->config, volume_blocks, metaslabs, OWNED));
}

/*
 * Blocks in several leaves of the volume and of the table, a checkpoint, and one record behind it with entries of
 * four kinds.
 */
static void bed_make(struct bed *bed)
{
	bed_init(bed, VOLUME_BLOCKS);
	struct store *store = must_open(bed);
	write_blocks(store, 0, 60, 1);
	write_blocks(store, FAR, 100, 2);
	CHECK(!store_checkpoint(store));
	write_blocks(store, 10, 2, 3);
	write_blocks(store, 70, 3, 3);
	CHECK(!store_trim(store, 20 << BLOCK_SHIFT, 4 << BLOCK_SHIFT, false, NULL));
	CHECK(!store_flush(store, NULL));
	bed->slot = store->checkpoint.root_slot;
	read_at(bed, bed->config.root_block[bed->slot][0], &bed->root);
	find_record(bed, store);
	CHECK(le32_get(bed->root.space.levels) == 1 && le32_get(bed->root.table.levels) == 2);
	CHECK(le32_get(bed->root.volume[VOLUME_HEAD].levels) == 2);
	read_at(bed, block_of_place(bed->root.space.top.place[0]), &bed->space);
	bed->id = id_of(store, VOLUME_HEAD, 0);
	bed->far = id_of(store, VOLUME_HEAD, FAR);
	bed->fresh = id_of(store, VOLUME_HEAD, 70);
	bed->page = first_leaf_id(store, VOLUME_HEAD);
	store_abandon(store);
}

/* Numbers of what is in the list, in the order in which it is made. */
enum { SNAPSHOT_A = SNAPSHOT_FIRST, CLONE_C, SNAPSHOT_OF_C, SNAPSHOT_B, CLONE_D };

/* A clone that has a snapshot and a bookmark, and one that began later; no record is behind the root. */
static void bed_make_lines(struct bed *bed)
{
	bed_init(bed, VOLUME_BLOCKS);
	struct store *store = must_open(bed);
	write_blocks(store, 0, 60, 1);
	write_blocks(store, FAR, 100, 2);
	CHECK(!store_snapshot(store, "a", 1) && !store_clone(store, "a", "c", 1));
	write_volume(store, CLONE_C, 5, 3, 3);
	CHECK(!store_volume_snapshot(store, CLONE_C, "s", 1, 1) &&
	      !store_volume_bookmark(store, CLONE_C, "s", "m"));
	write_volume(store, CLONE_C, 6, 3, 3);
	write_blocks(store, 10, 2, 3);
	CHECK(!store_snapshot(store, "b", 1) && !store_clone(store, "b", "d", 1));
	CHECK(!store_checkpoint(store));
	bed->slot = store->checkpoint.root_slot;
	read_at(bed, bed->config.root_block[bed->slot][0], &bed->root);
	CHECK(le32_get(bed->root.space.levels) == 1 && le32_get(bed->root.table.levels) == 2);
	read_at(bed, block_of_place(bed->root.space.top.place[0]), &bed->space);
	bed->list = id_of(store, VOLUME_LIST, 0);
	bed->id = id_of(store, VOLUME_HEAD, 10);
	bed->far = id_of(store, VOLUME_HEAD, FAR);
	bed->page = first_leaf_id(store, SNAPSHOT_OF_C);
	store_abandon(store);
}

/* -- sealing what was changed -- */

enum place { IN_ROOT, IN_RECORD, IN_SPACE, IN_ALL_ROOTS, IN_LIST };

static void seal(void *block, enum fmt_kind kind)
{
	struct fmt_head *head = block;
	uint16_t version = le16_get(head->version);
	fmt_seal(block, kind, GUID, PARTITION, le32_get(head->count));
	head->version = le16_of(version);
	head->checksum = le64_of(0);
	head->checksum = le64_of(hash64(block, BLOCK_SIZE));
}

/* Both copies of a page, and its checksum in what points at it. */
static void put_page(struct bed *bed, struct fmt_pointer *at, struct fmt_page *page)
{
	seal(page, FMT_PAGE);
	for (unsigned i = 0; i < 2; i++)
		write_at(bed, block_of_place(at->place[i]), page);
	at->check = fmt_check_of(page);
}

static void put_root(struct bed *bed, unsigned slot)
{
	for (unsigned i = 0; i < 2; i++)
		write_at(bed, bed->config.root_block[slot][i], &bed->root);
}

static void put(struct bed *bed, enum place place)
{
	if (place == IN_RECORD) {
		uint64_t first = block_of_place(bed->record.place);
		seal(&bed->record, FMT_RECORD);
		write_at(bed, first, &bed->record);
		write_at(bed, first + 1, &bed->record);
		return;
	}
	if (place == IN_ALL_ROOTS) { /* as they are */
		put_root(bed, 0);
		put_root(bed, 1);
		return;
	}
	if (place == IN_SPACE)
		put_page(bed, &bed->root.space.top, &bed->space);
	seal(&bed->root, FMT_ROOT);
	put_root(bed, bed->slot);
}

/* -- what is changed -- */

/* What is asked of check where it opens. LENIENT, as error: it may be refused as well, as damaged. */
enum { QUIET, TOLD, ANY };
enum { LENIENT = 1 };

struct change {
	const char *name;
	enum place place;
	int error; /* of opening; 0: it opens, and reading everything may fail */
	void (*make)(struct bed *bed);
	unsigned how;
};

/* The root. */

static struct fmt_volume *volume_of(struct bed *b) { return &b->root.volume[VOLUME_HEAD]; }
static void root_newer(struct bed *b) { b->root.head.version = le16_of(99); }
static void root_damaged(struct bed *b) { b->root.seq = le64_of(1); }
static void root_no_volume(struct bed *b) { volume_of(b)->blocks = le64_of(0); }
static void root_huge_volume(struct bed *b) { volume_of(b)->blocks = le64_of(UINT64_MAX); }
static void root_no_levels(struct bed *b) { volume_of(b)->levels = le32_of(0); }
static void root_many_levels(struct bed *b) { volume_of(b)->levels = le32_of(VOLUME_LEVELS_MAX + 1); }
static void root_more_levels(struct bed *b) { volume_of(b)->levels = le32_of(3); }
static void root_fewer_levels(struct bed *b) { volume_of(b)->levels = le32_of(1); }
static void root_odd_volume(struct bed *b) { volume_of(b)->root = le64_of(b->page + 1); }
static void root_volume_of_data(struct bed *b) { volume_of(b)->root = le64_of(b->id & ~UINT64_C(1)); }
static void root_volume_nowhere(struct bed *b) { volume_of(b)->root = le64_of(0); }
static void root_volume_unknown(struct bed *b) { volume_of(b)->root = le64_of(FMT_ID_MASK - 1); }
static void root_volume_beyond(struct bed *b) { volume_of(b)->root = le64_of(FMT_ID_MASK + 1); }
static void root_volume_leaf(struct bed *b) { volume_of(b)->root = le64_of(b->page); }
static void root_other_volume(struct bed *b) { b->root.volume[0].levels = le32_of(0); }
static void root_short_volume(struct bed *b) { volume_of(b)->blocks = le64_of(FAR); }
static void root_table_levels(struct bed *b) { b->root.table.levels = le32_of(TABLE_LEVELS_MAX + 1); }
static void root_table_more(struct bed *b) { b->root.table.levels = le32_of(TABLE_LEVELS_MAX); }
static void root_table_leaf(struct bed *b) { b->root.table.levels = le32_of(1); }
static void root_no_table(struct bed *b) { b->root.table.levels = le32_of(0); }
static void root_space_levels(struct bed *b) { b->root.space.levels = le32_of(TABLE_LEVELS_MAX + 1); }
static void root_ids(struct bed *b) { b->root.id_end = le64_of(UINT64_MAX); }
static void root_no_ids(struct bed *b) { b->root.id_end = le64_of(1); }
static void root_many_ids(struct bed *b) { b->root.id_end = le64_of(4 * TOTAL * METASLAB_BLOCKS + 65536); }
static void root_data(struct bed *b) { b->root.data_blocks = le64_of(le64_get(b->root.id_end) + 1); }
static void root_no_data(struct bed *b) { b->root.data_blocks = le64_of(0); }
static void root_pages(struct bed *b) { b->root.page_blocks = le64_of(le64_get(b->root.id_end) + 1); }
static void root_no_pages(struct bed *b) { b->root.page_blocks = le64_of(0); }
static void root_more_pages(struct bed *b) { b->root.page_blocks = le64_of(le64_get(b->root.page_blocks) + 2); }
static void root_more_data(struct bed *b) { b->root.data_blocks = le64_of(le64_get(b->root.data_blocks) + 1); }
static void root_table_pages(struct bed *b) { b->root.table_pages = le64_of(UINT64_MAX / 2); }
static void root_no_table_pages(struct bed *b) { b->root.table_pages = le64_of(0); }
static void root_generation(struct bed *b) { b->root.generation = le64_of(UINT64_MAX - 1); }
static void root_epoch(struct bed *b) { b->root.epoch = le64_of(UINT64_MAX); }
static void root_epoch_later(struct bed *b) { b->root.epoch_seq = le64_of(UINT64_MAX); }
static void root_durable(struct bed *b) { b->root.durable = le64_of(le64_get(b->root.seq) + 1000); }
static void root_written(struct bed *b) { b->root.written = le64_of(UINT64_MAX); }
static void root_birth(struct bed *b) { b->root.birth = le32_of(UINT32_MAX); }
static void root_seq_later(struct bed *b) { b->root.seq = le64_of(le64_get(b->root.seq) + 5); }
static void root_seq_last(struct bed *b) { b->root.seq = le64_of(UINT64_MAX); }

/* Of clones: none is in the list. */
static void root_clone(struct bed *b, uint32_t number, uint32_t levels, uint64_t root)
{
	b->root.birth = le32_of(9);
	b->root.clone[3].number = le32_of(number);
	b->root.clone[3].volume = (struct fmt_volume){le64_of(root), le32_of(levels), le32_of(number - 2),
						      le64_of(VOLUME_BLOCKS), le64_of(2)};
}

static void clone_unlisted(struct bed *b)
{
	root_clone(b, 5, 2, le64_get(volume_of(b)->root));
}
static void clone_of_the_head(struct bed *b)
{
	root_clone(b, VOLUME_HEAD, 2, le64_get(volume_of(b)->root));
}
static void clone_beyond(struct bed *b)
{
	root_clone(b, SNAPSHOT_LAST + 1, 1, 0);
}
static void clone_without_levels(struct bed *b)
{
	root_clone(b, 5, 0, 0);
}
static void clone_of_many_levels(struct bed *b)
{
	root_clone(b, 5, VOLUME_LEVELS_MAX + 1, 0);
}
static void clone_odd(struct bed *b)
{
	root_clone(b, 5, 1, b->page + 1);
}
static void clone_twice(struct bed *b)
{
	clone_unlisted(b);
	b->root.clone[4] = b->root.clone[3];
}

static void root_counters(struct bed *b)
{
	for (unsigned i = 0; i < ARRAY_LENGTH(b->root.counter); i++)
		b->root.counter[i] = le64_of(UINT64_MAX);
}

/* Regions. */

static void region_later(struct bed *b) { b->root.region[7].seq = le64_of(le64_get(b->root.seq) + 1); }
static void region_older(struct bed *b) { b->root.region[7].seq = le64_of(le64_get(b->root.seq) - 1); }
static void region_first(struct bed *b) { b->root.region[7].seq = le64_of(0); }
static void region_shift(struct bed *b) { b->root.region_shift = le32_of(41); }
static void region_shift_huge(struct bed *b) { b->root.region_shift = le32_of(UINT32_MAX); }
static void region_shift_most(struct bed *b) { b->root.region_shift = le32_of(40); }

static void region_chains(struct bed *b)
{
	for (unsigned i = 0; i < REGIONS; i++)
		b->root.region[i].chain = le64_of(1);
}

static void heads_at(struct bed *b, unsigned head, uint32_t metaslab, uint32_t offset)
{
	for (unsigned i = 0; i < REGIONS; i++)
		b->root.region[i].position[head] = (struct fmt_position){le32_of(metaslab), le32_of(offset)};
}

static uint32_t head_metaslab(const struct bed *b, unsigned head)
{
	return le32_get(b->root.region[0].position[head].metaslab);
}

static void head_elsewhere(struct bed *b) { heads_at(b, 0, TOTAL - 1, 0); }
static void head_outside(struct bed *b) { heads_at(b, 0, TOTAL + 1000, 0); }
static void head_none(struct bed *b) { heads_at(b, 0, NO_METASLAB, 0); }
static void head_behind(struct bed *b) { heads_at(b, 1, head_metaslab(b, 1), METASLAB_BLOCKS + 1); }
static void head_at_end(struct bed *b) { heads_at(b, 1, head_metaslab(b, 1), METASLAB_BLOCKS - 1); }
static void head_far(struct bed *b) { heads_at(b, 1, head_metaslab(b, 1), UINT32_MAX); }
static void head_same(struct bed *b) { heads_at(b, 1, head_metaslab(b, 2), 0); }
static void head_two_of_three(struct bed *b) { heads_at(b, 1, NO_METASLAB, 0); }
static void head_misses(struct bed *b) { heads_at(b, 2, NO_METASLAB, 0); }
static void head_too_early(struct bed *b) { heads_at(b, 0, head_metaslab(b, 0), 0); }
static void head_of_table(struct bed *b) { heads_at(b, 1, le32_get(b->root.table_position.metaslab), 10); }
static void head_of_one_region(struct bed *b)
{
	b->root.region[9].position[0] = (struct fmt_position){le32_of(TOTAL - 1), le32_of(METASLAB_BLOCKS)};
}

static void table_at(struct bed *b, uint32_t metaslab, uint32_t offset)
{
	b->root.table_position = (struct fmt_position){le32_of(metaslab), le32_of(offset)};
}

static void table_at_start(struct bed *b) { table_at(b, le32_get(b->root.table_position.metaslab), 0); }
static void table_behind(struct bed *b)
{
	table_at(b, le32_get(b->root.table_position.metaslab), METASLAB_BLOCKS + 1);
}
static void table_of_others(struct bed *b) { table_at(b, TOTAL - 1, 0); }
static void table_outside(struct bed *b) { table_at(b, UINT32_MAX - 1, 0); }
static void table_in_log(struct bed *b) { table_at(b, head_metaslab(b, 0), 0); }
static void table_in_empty(struct bed *b) { table_at(b, OWNED - 1, 7); }

/* Trees of pages. */

static void top_missing(struct bed *b) { b->root.table.top = (struct fmt_pointer){0}; }
static void top_of_space(struct bed *b) { b->root.table.top = b->root.space.top; }
static void space_of_table(struct bed *b) { b->root.space.top = b->root.table.top; }
static void space_gone(struct bed *b) { b->root.space = (struct fmt_tree_root){0}; }
static void space_inner(struct bed *b) { b->root.space.levels = le32_of(2); }
static void space_far(struct bed *b)
{
	b->root.space.top.place[0] = b->root.space.top.place[1] = le64_of(FMT_SECTOR_MASK & ~UINT64_C(7));
}
static void space_unaligned(struct bed *b)
{
	for (unsigned i = 0; i < 2; i++)
		b->root.space.top.place[i] = le64_of(le64_get(b->root.space.top.place[i]) + 1);
}
static void top_in_log(struct bed *b) /* its first copy is good; both are given up by the next checkpoint */
{
	b->root.table.top.place[1] =
		le64_of((BASE + (uint64_t)head_metaslab(b, 0) * METASLAB_BLOCKS + 5) * BLOCK_SECTORS);
}
static void top_in_empty(struct bed *b)
{
	b->root.table.top.place[1] = le64_of((BASE + (uint64_t)(OWNED - 1) * METASLAB_BLOCKS) * BLOCK_SECTORS);
}
static void top_of_others(struct bed *b)
{
	b->root.table.top.place[1] = le64_of((BASE + (uint64_t)(TOTAL - 1) * METASLAB_BLOCKS) * BLOCK_SECTORS);
}
static void top_twice_the_same(struct bed *b) { b->root.table.top.place[1] = b->root.table.top.place[0]; }
static void top_of_another_device(struct bed *b)
{
	b->root.table.top.place[0] = le64_of(le64_get(b->root.table.top.place[0]) | UINT64_C(1) << 48);
}

/* The space list. */

static struct fmt_space *slot_of_class(struct bed *b, bool table)
{
	for (unsigned i = 0; i < SPACE_SLOTS; i++) {
		struct fmt_space *e = &b->space.space[i];
		if (le32_get(e->live) && (le64_get(e->last) >> 56 == CLASS_TABLE) == table)
			return e;
	}
	CHECK(!"there is one");
	return NULL;
}

static struct fmt_space *first_slot(struct bed *b) { return slot_of_class(b, false); }

static void set_class(struct fmt_space *e, uint64_t class)
{
	e->last = le64_of((le64_get(e->last) & (UINT64_MAX >> 8)) | class << 56);
}

static void space_live(struct bed *b) { first_slot(b)->live = le32_of((METASLAB_BLOCKS + 1) * BLOCK_SECTORS); }
static void space_live_odd(struct bed *b) { first_slot(b)->live = le32_of(le32_get(first_slot(b)->live) - 1); }
static void space_less(struct bed *b) { first_slot(b)->live = le32_of(BLOCK_SECTORS); }
static void space_more(struct bed *b) { first_slot(b)->live = le32_of(METASLAB_BLOCKS * BLOCK_SECTORS); }
static void space_table_less(struct bed *b) { slot_of_class(b, true)->live = le32_of(BLOCK_SECTORS); }
static void space_table_more(struct bed *b)
{
	slot_of_class(b, true)->live = le32_of((METASLAB_BLOCKS - 2) * BLOCK_SECTORS);
}
static void space_full(struct bed *b)
{
	for (unsigned i = 0; i < SPACE_SLOTS; i++) {
		if (le32_get(b->space.space[i].live))
			b->space.space[i].live = le32_of(METASLAB_BLOCKS * BLOCK_SECTORS);
	}
}
static void space_last(struct bed *b) { first_slot(b)->last = le64_of(UINT64_MAX >> 8); }
static void space_class(struct bed *b) { set_class(first_slot(b), SPACE_CLASSES); }
static void space_log_as_table(struct bed *b) { set_class(first_slot(b), CLASS_TABLE); }
static void space_table_as_log(struct bed *b) { set_class(slot_of_class(b, true), CLASS_COLD); }
static void space_no_table(struct bed *b) { *slot_of_class(b, true) = (struct fmt_space){0}; }
static void space_no_log(struct bed *b) { *first_slot(b) = (struct fmt_space){0}; }
static void space_outside(struct bed *b) { first_slot(b)->metaslab = le32_of(TOTAL); }
static void space_foreign(struct bed *b) { first_slot(b)->metaslab = le32_of(TOTAL - 1); }
static void space_foreign_too(struct bed *b)
{
	b->space.space[SPACE_SLOTS - 1] =
		(struct fmt_space){.metaslab = le32_of(TOTAL - 1), .live = le32_of(BLOCK_SECTORS)};
}
static void space_nothing_too(struct bed *b)
{
	b->space.space[SPACE_SLOTS - 1] =
		(struct fmt_space){.metaslab = le32_of(OWNED - 1), .live = le32_of(BLOCK_SECTORS)};
}
static void space_twice(struct bed *b) { b->space.space[SPACE_SLOTS - 1] = *first_slot(b); }

/* The record: made anew of other entries. */

static void start_record(struct bed *b)
{
	memset(b->record.word, 0, sizeof(b->record.word));
	b->record.head.count = le32_of(0);
	b->record.blocks = le16_of(0);
}

/* With blocks full of `byte`, and their checksums where the kind has them. */
static void tell(struct bed *b, struct entry e, uint8_t byte)
{
	unsigned at = le32_get(b->record.head.count), blocks = le16_get(b->record.blocks);
	bool checks = e.kind == ENTRY_WRITE || e.kind == ENTRY_OVERWRITE || e.kind == ENTRY_PAGE;
	unsigned more = e.kind <= ENTRY_LOST || e.kind == ENTRY_PAGE ? e.count : 0;
	uint8_t data[BLOCK_SIZE];
	memset(data, byte, sizeof(data));
	struct fmt_check check = fmt_check_of(data);
	le64 *w = fmt_entry_put(&b->record, at, &e);
	for (unsigned i = 0; i < more; i++) {
		write_at(b, block_of_place(b->record.place) + RECORD_HEADERS + blocks + i, data);
		if (checks)
			memcpy(w + 2 * i, &check, sizeof(check));
	}
	b->record.head.count = le32_of(at + fmt_entry_words(e.kind, e.count));
	b->record.blocks = le16_of((uint16_t)(blocks + more));
}

static void only(struct bed *b, struct entry e, uint8_t byte)
{
	start_record(b);
	tell(b, e, byte);
}

#define E(kind_, ...) ((struct entry){.kind = (kind_), .volume = VOLUME_HEAD, __VA_ARGS__})

static void record_empty(struct bed *b) { start_record(b); }
static void root_few_ids(struct bed *b) /* and no record uses others */
{
	b->root.id_end = b->root.data_blocks;
	start_record(b);
	put(b, IN_RECORD);
}
static void move_of_none(struct bed *b) { only(b, E(ENTRY_MOVE, .id = 10000, .count = 1), 1); }
static void move_of_far(struct bed *b) { only(b, E(ENTRY_MOVE, .id = FMT_ID_MASK, .count = 1), 1); }
static void move_of_zero(struct bed *b) { only(b, E(ENTRY_MOVE, .id = 0, .count = 1), 1); }
static void move_of_other(struct bed *b) { only(b, E(ENTRY_MOVE, .id = b->far, .count = 1), 1); } /* as if torn */
static void move_of_page(struct bed *b) { only(b, E(ENTRY_LOST, .id = b->page, .count = 2), 1); }
static void lost_of_none(struct bed *b) { only(b, E(ENTRY_LOST, .id = 10000, .count = 1), 1); }
static void lost_of_data(struct bed *b) /* as cleaning says it */
{
	only(b, E(ENTRY_LOST, .id = b->id, .count = 2), 1);
}
static void write_far(struct bed *b)
{
	only(b, E(ENTRY_WRITE, .id = b->fresh, .address = VOLUME_BLOCKS, .count = 1), 3);
}
static void write_over_end(struct bed *b)
{
	only(b, E(ENTRY_WRITE, .id = b->fresh, .address = VOLUME_BLOCKS - 1, .count = 2), 3);
}
static void write_of_volume(struct bed *b)
{
	only(b, (struct entry){.kind = ENTRY_WRITE, .volume = 2, .id = b->fresh, .address = 70, .count = 1}, 3);
}
static void write_of_list(struct bed *b)
{
	only(b, (struct entry){.kind = ENTRY_WRITE, .volume = 0, .id = b->fresh, .address = 70, .count = 1}, 3);
}
static void write_id_one(struct bed *b) { only(b, E(ENTRY_WRITE, .id = 1, .address = 70, .count = 1), 3); }
static void write_id_huge(struct bed *b)
{
	only(b, E(ENTRY_WRITE, .id = FMT_ID_MASK - 9, .address = 70, .count = 3), 3);
}
static void write_id_last(struct bed *b)
{
	only(b, E(ENTRY_WRITE, .id = 4 * TOTAL * METASLAB_BLOCKS + 65536 - 3, .address = 70, .count = 3), 3);
}
static void write_of_used(struct bed *b) { only(b, E(ENTRY_WRITE, .id = b->id, .address = 1500, .count = 1), 3); }
static void write_of_mapped(struct bed *b) /* an address that has an id */
{
	only(b, E(ENTRY_WRITE, .id = b->fresh, .address = 5, .count = 1), 3);
}
static void write_twice_one_id(struct bed *b)
{
	only(b, E(ENTRY_WRITE, .id = b->fresh, .address = 70, .count = 1), 3);
	tell(b, E(ENTRY_WRITE, .id = b->fresh, .address = 71, .count = 1), 3);
}
static void overwrite_of_free(struct bed *b) { only(b, E(ENTRY_OVERWRITE, .id = b->fresh, .count = 1), 3); }
static void overwrite_of_page(struct bed *b) { only(b, E(ENTRY_OVERWRITE, .id = b->page, .count = 1), 3); }
static void trim_far(struct bed *b) { only(b, E(ENTRY_TRIM, .address = VOLUME_BLOCKS + 1, .length = 1), 0); }
static void trim_over_end(struct bed *b) { only(b, E(ENTRY_TRIM, .address = VOLUME_BLOCKS - 1, .length = 2), 0); }
static void trim_long(struct bed *b) { only(b, E(ENTRY_TRIM, .address = 20, .length = UINT64_MAX), 0); }
static void trim_of_nothing(struct bed *b) { only(b, E(ENTRY_TRIM, .address = 20, .length = 0), 0); }
static void trim_of_two_leaves(struct bed *b)
{
	only(b, E(ENTRY_TRIM, .address = VOLUME_SLOTS - 1, .length = 2), 0);
}
static void trim_of_volume(struct bed *b)
{
	only(b, (struct entry){.kind = ENTRY_TRIM, .volume = 0, .address = 20, .length = 1}, 0);
}
static void trim_that_frees_none(struct bed *b) { only(b, E(ENTRY_TRIM, .address = 20, .length = 4), 0); }
static void free_of_mapped(struct bed *b) { only(b, E(ENTRY_FREE, .id = b->id, .count = 3), 0); }
static void free_of_free(struct bed *b) { only(b, E(ENTRY_FREE, .id = b->fresh, .count = 1), 0); }
static void free_of_page(struct bed *b) { only(b, E(ENTRY_FREE, .id = b->page, .count = 1), 0); }
static void free_of_far(struct bed *b) { only(b, E(ENTRY_FREE, .id = FMT_ID_MASK, .count = 255), 0); }
static void page_level(struct bed *b)
{
	only(b, E(ENTRY_PAGE, .id = 200, .count = 1, .level = VOLUME_LEVELS_MAX), 0);
}
static void page_level_huge(struct bed *b)
{
	only(b, E(ENTRY_PAGE, .id = 200, .count = 1, .level = UINT32_MAX), 0);
}
static void page_index(struct bed *b)
{
	only(b, E(ENTRY_PAGE, .id = 200, .count = 1, .address = UINT64_C(1) << 39), 0);
}
static void page_index_level(struct bed *b)
{
	only(b, E(ENTRY_PAGE, .id = 200, .count = 1, .level = 3, .address = UINT64_C(1) << 39), 0);
}
static void clone_made(struct bed *b, uint32_t number, uint64_t id, unsigned level)
{
	only(b,
	     (struct entry){
		     .kind = ENTRY_CLONE, .volume = number, .id = id, .level = level, .length = VOLUME_BLOCKS},
	     0);
}
static void clone_in_the_log(struct bed *b)
{
	clone_made(b, 5, 0, 1);
}
static void clone_of_the_list(struct bed *b)
{
	clone_made(b, VOLUME_LIST, 0, 1);
}
static void clone_of_volume_1(struct bed *b)
{
	clone_made(b, VOLUME_HEAD, 0, 1);
}
static void clone_made_odd(struct bed *b)
{
	clone_made(b, 5, b->page + 1, 1);
}
static void clone_made_high(struct bed *b)
{
	clone_made(b, 5, 0, VOLUME_LEVELS_MAX + 1);
}
static void clone_made_long(struct bed *b)
{
	only(b, (struct entry){.kind = ENTRY_CLONE, .volume = 5, .level = 1, .length = UINT64_MAX}, 0);
}
static void clone_ended_unknown(struct bed *b)
{
	clone_made(b, 5, 0, 0);
}
static void clone_written_unknown(struct bed *b)
{
	only(b, (struct entry){.kind = ENTRY_WRITE, .volume = 5, .id = b->fresh, .address = 3, .count = 1}, 3);
}
static void clone_trimmed_unknown(struct bed *b)
{
	only(b, (struct entry){.kind = ENTRY_TRIM, .volume = 5, .address = 3, .length = 1}, 0);
}
static void clone_made_and_ended(struct bed *b)
{
	clone_made(b, 5, le64_get(volume_of(b)->root), 2);
	tell(b, (struct entry){.kind = ENTRY_TRIM, .volume = 5, .address = 3, .length = 1}, 0);
	tell(b, (struct entry){.kind = ENTRY_CLONE, .volume = 5}, 0);
}
static void page_of_volume(struct bed *b)
{
	only(b, (struct entry){.kind = ENTRY_PAGE, .volume = 9, .id = 200, .count = 1}, 0);
}
static void page_as_data(struct bed *b) { only(b, E(ENTRY_PAGE, .id = b->id & ~UINT64_C(1), .count = 1), 0); }
static void page_alone(struct bed *b) { only(b, E(ENTRY_PAGE, .id = 200, .count = 1, .address = 3), 0); }
static void page_odd_alone(struct bed *b) { only(b, E(ENTRY_PAGE, .id = 201, .count = 1, .address = 3), 0); }
static void page_of_ones(struct bed *b) /* it refers to ids that cannot be */
{
	only(b, E(ENTRY_PAGE, .id = b->page, .count = 1), 0xff);
	tell(b, E(ENTRY_PAGE, .id = b->page + 1, .count = 1), 0xff);
}
static void page_top_of_ones(struct bed *b)
{
	uint64_t top = le64_get(volume_of(b)->root);
	only(b, E(ENTRY_PAGE, .id = top, .count = 1, .level = 1), 0xff);
	tell(b, E(ENTRY_PAGE, .id = top + 1, .count = 1, .level = 1), 0xff);
}
static void page_copies_differ(struct bed *b)
{
	only(b, E(ENTRY_PAGE, .id = b->page, .count = 1), 0);
	tell(b, E(ENTRY_PAGE, .id = b->page + 1, .count = 1), 0xff);
}
static void page_elsewhere(struct bed *b) /* the same ids for another page */
{
	only(b, E(ENTRY_PAGE, .id = b->page, .count = 1, .address = 3), 0);
	tell(b, E(ENTRY_PAGE, .id = b->page + 1, .count = 1, .address = 3), 0);
}
static void page_of_itself(struct bed *b) /* a page above the leaves with the ids of a leaf */
{
	only(b, E(ENTRY_PAGE, .id = b->page, .count = 1, .level = 1), 0);
	tell(b, E(ENTRY_PAGE, .id = b->page + 1, .count = 1, .level = 1), 0);
}
static void vanish_of_data(struct bed *b) { only(b, E(ENTRY_VANISH, .id = b->id & ~UINT64_C(1), .count = 2), 0); }
static void vanish_of_free(struct bed *b) { only(b, E(ENTRY_VANISH, .id = 200, .count = 2), 0); }
static void vanish_of_full(struct bed *b) { only(b, E(ENTRY_VANISH, .id = b->page, .count = 2), 0); }
static void vanish_odd(struct bed *b) { only(b, E(ENTRY_VANISH, .id = b->page + 1, .count = 2), 0); }
static void vanish_elsewhere(struct bed *b)
{
	only(b, E(ENTRY_VANISH, .id = b->page, .count = 2, .address = 3), 0);
}
static void vanish_of_top(struct bed *b)
{
	only(b, E(ENTRY_VANISH, .id = le64_get(volume_of(b)->root), .count = 2, .level = 1), 0);
}
static void vanish_level(struct bed *b)
{
	only(b, E(ENTRY_VANISH, .id = b->page, .count = 2, .level = VOLUME_LEVELS_MAX), 0);
}
static void record_head_first(struct bed *b) { only(b, E(ENTRY_HEAD, .id = OWNED - 1, .address = 0), 0); }
static void record_head_number(struct bed *b) { only(b, E(ENTRY_HEAD, .id = OWNED - 1, .address = LOG_HEADS), 0); }
static void record_head_beyond(struct bed *b) { only(b, E(ENTRY_HEAD, .id = UINT64_C(1) << 33, .address = 1), 0); }
static void record_head_of_others(struct bed *b) { only(b, E(ENTRY_HEAD, .id = TOTAL - 1, .address = 1), 0); }
static void record_head_same(struct bed *b) { only(b, E(ENTRY_HEAD, .id = head_metaslab(b, 2), .address = 1), 0); }
static void record_head_missing(struct bed *b) { only(b, E(ENTRY_HEAD, .id = NO_METASLAB, .address = 1), 0); }
static void record_head_used(struct bed *b) /* live blocks lie there */
{
	uint32_t used = le32_get(first_slot(b)->metaslab);
	only(b, E(ENTRY_HEAD, .id = used, .address = 1), 0);
}
static void record_kind(struct bed *b) { b->record.word[0] = le64_of(77 | 1 << 8 | 40 << 16); }
static void record_next_gone(struct bed *b) { b->record.next = le32_of(TOTAL - 1); }
static void record_next_foreign(struct bed *b)
{
	space_foreign_too(b);
	put(b, IN_SPACE);
	record_next_gone(b);
}
static void record_next_used(struct bed *b) { b->record.next = le32_of(head_metaslab(b, 0)); }
static void record_next_head(struct bed *b) { b->record.next = le32_of(head_metaslab(b, 1)); }
static void record_blocks(struct bed *b) { b->record.blocks = le16_of(60); }
static void record_count(struct bed *b) { b->record.head.count = le32_of(RECORD_WORDS + 1); }
static void record_cut(struct bed *b)
{
	only(b, E(ENTRY_WRITE, .id = b->fresh, .address = 70, .count = 3), 3);
	b->record.head.count = le32_of(le32_get(b->record.head.count) - 1);
}
static void record_place(struct bed *b) { b->record.place = le64_of(le64_get(b->record.place) + BLOCK_SECTORS); }
static void record_chain(struct bed *b) { b->record.previous = le64_of(1); }
static void record_epoch(struct bed *b) { b->record.epoch = le64_of(le64_get(b->record.epoch) + 1); }
static void record_seq(struct bed *b) { b->record.seq = le64_of(le64_get(b->record.seq) + 1); }
static void record_claims(struct bed *b) { b->record.durable = le64_of(le64_get(b->record.seq) + 1000); }
static void record_written(struct bed *b) { b->record.written = le64_of(UINT64_MAX); }
static void record_birth(struct bed *b) { b->record.birth = le32_of(UINT32_MAX); }
static void record_log_head(struct bed *b) { b->record.log_head = 200; }

/* Longer than its metaslab, or up to the very end of it. */
static void fill_metaslab(struct bed *b, unsigned blocks)
{
	struct entry e = E(ENTRY_MOVE, .id = b->far, .count = blocks);
	unsigned offset = (unsigned)((block_of_place(b->record.place) - BASE) % METASLAB_BLOCKS);
	e.count = blocks ? blocks : METASLAB_BLOCKS - RECORD_HEADERS - offset;
	start_record(b);
	if (!blocks) {
		tell(b, e, 2);
		return;
	}
	fmt_entry_put(&b->record, 0, &e);
	b->record.head.count = le32_of(1);
	b->record.blocks = le16_of((uint16_t)blocks);
}

static void record_too_long(struct bed *b) { fill_metaslab(b, METASLAB_BLOCKS); }
static void record_to_end(struct bed *b) /* no room is left for the next one, and no link */
{
	fill_metaslab(b, 0);
}

/* -- pages below those that the root points at -- */

static void load_inner(struct bed *b, struct fmt_page *inner)
{
	read_at(b, block_of_place(b->root.table.top.place[0]), inner);
}

static void load_leaf(struct bed *b, uint64_t index, struct fmt_page *leaf)
{
	struct fmt_page inner;
	load_inner(b, &inner);
	read_at(b, block_of_place(inner.child[index].place[0]), leaf);
}

static void store_leaf(struct bed *b, uint64_t index, struct fmt_page *leaf)
{
	struct fmt_page inner;
	load_inner(b, &inner);
	put_page(b, &inner.child[index], leaf);
	put_page(b, &b->root.table.top, &inner);
}

static void change_child(struct bed *b, void (*make)(struct bed *b, struct fmt_page *inner))
{
	struct fmt_page inner;
	load_inner(b, &inner);
	make(b, &inner);
	put_page(b, &b->root.table.top, &inner);
}

/* The entry of an id. */
static void change_entry(struct bed *b, uint64_t id, void (*make)(struct bed *b, struct fmt_block *e))
{
	struct fmt_page leaf;
	load_leaf(b, id / TABLE_SLOTS, &leaf);
	make(b, &leaf.block[id % TABLE_SLOTS]);
	store_leaf(b, id / TABLE_SLOTS, &leaf);
}

static le64 place_in(uint32_t metaslab, uint32_t offset)
{
	return le64_of((BASE + (uint64_t)metaslab * METASLAB_BLOCKS + offset) * BLOCK_SECTORS);
}

static void of_another_place(struct bed *b, struct fmt_page *inner)
{
	struct fmt_page leaf;
	read_at(b, block_of_place(inner->child[0].place[0]), &leaf);
	leaf.index = le64_of(77);
	put_page(b, &inner->child[0], &leaf);
}
static void of_another_tree(struct bed *b, struct fmt_page *inner)
{
	struct fmt_page leaf;
	read_at(b, block_of_place(inner->child[0].place[0]), &leaf);
	leaf.tree = TREE_SPACE;
	put_page(b, &inner->child[0], &leaf);
}
static void no_child(struct bed *b, struct fmt_page *inner) { (void)b, inner->child[0] = (struct fmt_pointer){0}; }
static void child_swapped(struct bed *b, struct fmt_page *inner)
{
	struct fmt_pointer first = inner->child[0];
	(void)b;
	inner->child[0] = inner->child[1];
	inner->child[1] = first;
}
static void child_in_log(struct bed *b, struct fmt_page *inner)
{
	inner->child[0].place[1] = place_in(head_metaslab(b, 0), 5);
}
static void child_in_empty(struct bed *b, struct fmt_page *inner)
{
	(void)b;
	inner->child[0].place[1] = place_in(OWNED - 1, 5);
}
static void child_of_others(struct bed *b, struct fmt_page *inner)
{
	(void)b;
	inner->child[0].place[1] = place_in(TOTAL - 1, 5);
}
static void child_same_place(struct bed *b, struct fmt_page *inner)
{
	(void)b;
	inner->child[0].place[1] = inner->child[0].place[0];
}
static void child_is_parent(struct bed *b, struct fmt_page *inner) { inner->child[5] = b->root.table.top; }
static void child_far(struct bed *b, struct fmt_page *inner) { (void)b, inner->child[125] = inner->child[0]; }

static void leaf_of_another_place(struct bed *b) { change_child(b, of_another_place); }
static void leaf_of_another_tree(struct bed *b) { change_child(b, of_another_tree); }
static void leaf_missing(struct bed *b) { change_child(b, no_child); }
static void leaves_swapped(struct bed *b) { change_child(b, child_swapped); }
static void leaf_in_log(struct bed *b) { change_child(b, child_in_log); }
static void leaf_in_empty(struct bed *b) { change_child(b, child_in_empty); }
static void leaf_of_others(struct bed *b) { change_child(b, child_of_others); }
static void leaf_same_place(struct bed *b) { change_child(b, child_same_place); }
static void leaf_is_parent(struct bed *b) { change_child(b, child_is_parent); }
static void leaf_beyond(struct bed *b) { change_child(b, child_far); }

static void in_others(struct bed *b, struct fmt_block *e) { (void)b, e->place = place_in(TOTAL - 1, 5); }
static void outside(struct bed *b, struct fmt_block *e)
{
	(void)b;
	e->place = le64_of(FMT_SECTOR_MASK & ~UINT64_C(7));
}
static void in_front(struct bed *b, struct fmt_block *e) { (void)b, e->place = le64_of(BLOCK_SECTORS); }
static void in_table(struct bed *b, struct fmt_block *e) { e->place = b->root.table.top.place[0]; }
static void in_empty(struct bed *b, struct fmt_block *e) { (void)b, e->place = place_in(OWNED - 1, 3); }
static void unaligned(struct bed *b, struct fmt_block *e) { (void)b, e->place = le64_of(le64_get(e->place) + 3); }
static void on_device(struct bed *b, struct fmt_block *e)
{
	(void)b;
	e->place = le64_of(le64_get(e->place) | UINT64_C(1) << 60);
}
static void of_kind(struct bed *b, struct fmt_block *e) { (void)b, e->kind = BLOCK_KINDS; }
static void of_page_kind(struct bed *b, struct fmt_block *e) { (void)b, e->kind = BLOCK_VOLUME_PAGE; }
static void of_data_kind(struct bed *b, struct fmt_block *e) { (void)b, e->kind = BLOCK_DATA; }
static void free_with_place(struct bed *b, struct fmt_block *e) { (void)b, e->kind = BLOCK_FREE; }
static void of_length(struct bed *b, struct fmt_block *e) { (void)b, e->sectors = le16_of(7); }
static void compressed(struct bed *b, struct fmt_block *e) { (void)b, e->zero = 1; }
static void as_far(struct bed *b, struct fmt_block *e)
{
	struct fmt_page leaf;
	load_leaf(b, b->far / TABLE_SLOTS, &leaf);
	*e = leaf.block[b->far % TABLE_SLOTS];
}

static void data_in_others(struct bed *b) { change_entry(b, b->id, in_others); }
static void data_outside(struct bed *b) { change_entry(b, b->id, outside); }
static void data_in_front(struct bed *b) { change_entry(b, b->id, in_front); }
static void data_in_table(struct bed *b) { change_entry(b, b->id, in_table); }
static void data_in_empty(struct bed *b) { change_entry(b, b->id, in_empty); }
static void data_unaligned(struct bed *b) { change_entry(b, b->id, unaligned); }
static void data_on_device(struct bed *b) { change_entry(b, b->id, on_device); }
static void data_kind(struct bed *b) { change_entry(b, b->id, of_kind); }
static void data_as_page(struct bed *b) { change_entry(b, b->id, of_page_kind); }
static void data_free(struct bed *b) { change_entry(b, b->id, free_with_place); }
static void data_length(struct bed *b) { change_entry(b, b->id, of_length); }
static void data_compressed(struct bed *b) { change_entry(b, b->id, compressed); }
static void data_twice(struct bed *b) { change_entry(b, b->id, as_far); }
static void page_as_data_kind(struct bed *b) { change_entry(b, b->page, of_data_kind); }
static void page_in_others(struct bed *b) { change_entry(b, b->page, in_others); }
static void page_gone(struct bed *b)
{
	change_entry(b, b->page, free_with_place);
	change_entry(b, b->page + 1, free_with_place);
}
static void id_one_used(struct bed *b) { change_entry(b, 1, as_far); }
static void trimmed_in_others(struct bed *b)
{
	for (uint64_t id = b->id + 20; id < b->id + 24; id++)
		change_entry(b, id, in_others);
}

/* A page of the volume, both copies, with its checksums in the table. */
static void change_volume_page(struct bed *b, uint64_t id,
			       void (*make)(struct bed *b, struct fmt_volume_page *page))
{
	struct fmt_volume_page page;
	struct fmt_page leaf;
	load_leaf(b, id / TABLE_SLOTS, &leaf);
	struct fmt_block *e = &leaf.block[id % TABLE_SLOTS];
	read_at(b, block_of_place(e[0].place), &page);
	make(b, &page);
	for (unsigned i = 0; i < 2; i++) {
		write_at(b, block_of_place(e[i].place), &page);
		e[i].check = fmt_check_of(&page);
	}
	store_leaf(b, id / TABLE_SLOTS, &leaf);
}

static void slot_high(struct bed *b, struct fmt_volume_page *p) { (void)b, p->id[3] = le64_of(UINT64_MAX); }
static void slot_last(struct bed *b, struct fmt_volume_page *p) { (void)b, p->id[3] = le64_of(FMT_ID_MASK); }
static void slot_even(struct bed *b, struct fmt_volume_page *p) { (void)b, p->id[3] = le64_of(FMT_ID_MASK - 1); }
static void slot_one(struct bed *b, struct fmt_volume_page *p) { (void)b, p->id[3] = le64_of(1); }
static void slot_of_page(struct bed *b, struct fmt_volume_page *p) { p->id[3] = le64_of(b->page); }
static void slot_of_data(struct bed *b, struct fmt_volume_page *p) { p->id[3] = le64_of(b->id & ~UINT64_C(1)); }
static void slot_of_far(struct bed *b, struct fmt_volume_page *p) { p->id[3] = le64_of(b->far); }
static void slots_of_far(struct bed *b, struct fmt_volume_page *p) { p->id[5] = p->id[6] = le64_of(b->far); }
static void slot_odd_page(struct bed *b, struct fmt_volume_page *p) { p->id[0] = le64_of(b->page + 1); }
static void slot_of_top(struct bed *b, struct fmt_volume_page *p) { p->id[0] = volume_of(b)->root; }
static void slot_behind(struct bed *b, struct fmt_volume_page *p) { (void)b, p->id[511] = le64_of(b->far); }
static void all_slots(struct bed *b, struct fmt_volume_page *p)
{
	for (unsigned i = 0; i < VOLUME_SLOTS; i++)
		p->id[i] = le64_of(b->page);
}

static uint64_t top_id(struct bed *b) { return le64_get(volume_of(b)->root); }
static void leaf_slot_high(struct bed *b) { change_volume_page(b, b->page, slot_high); }
static void leaf_slot_last(struct bed *b) { change_volume_page(b, b->page, slot_last); }
static void leaf_slot_one(struct bed *b) { change_volume_page(b, b->page, slot_one); }
static void leaf_slot_page(struct bed *b) { change_volume_page(b, b->page, slot_of_page); }
static void leaf_slot_far(struct bed *b) { change_volume_page(b, b->page, slot_of_far); }
static void leaf_slots_far(struct bed *b) { change_volume_page(b, b->page, slots_of_far); }
static void top_slot_high(struct bed *b) { change_volume_page(b, top_id(b), slot_high); }
static void top_slot_last(struct bed *b) { change_volume_page(b, top_id(b), slot_even); }
static void top_slot_data(struct bed *b) { change_volume_page(b, top_id(b), slot_of_data); }
static void top_slot_odd(struct bed *b) { change_volume_page(b, top_id(b), slot_odd_page); }
static void top_slot_top(struct bed *b) { change_volume_page(b, top_id(b), slot_of_top); }
static void top_slot_behind(struct bed *b) { change_volume_page(b, top_id(b), slot_behind); }
static void top_slots_all(struct bed *b) { change_volume_page(b, top_id(b), all_slots); }

/* -- the list of snapshots: both copies of its block, with their checksums in the table -- */

static void change_slot(struct bed *b, uint32_t number, uint8_t state, void (*make)(struct fmt_snapshot *n))
{
	struct fmt_snapshots list;
	struct fmt_page leaf;
	load_leaf(b, b->list / TABLE_SLOTS, &leaf);
	struct fmt_block *e = &leaf.block[b->list % TABLE_SLOTS];
	read_at(b, block_of_place(e[0].place), &list);
	unsigned at = 0;
	while (le32_get(list.slot[at].number) != number || list.slot[at].state != state)
		CHECK(++at < SNAPSHOT_SLOTS);
	make(&list.slot[at]);
	seal(&list, FMT_SNAPSHOTS);
	for (unsigned i = 0; i < 2; i++) {
		write_at(b, block_of_place(e[i].place), &list);
		e[i].check = fmt_check_of(&list);
	}
	store_leaf(b, b->list / TABLE_SLOTS, &leaf);
}

static void no_entry(struct bed *b, struct fmt_block *e)
{
	(void)b, *e = (struct fmt_block){0};
}
static void no_second_slot(struct bed *b, struct fmt_volume_page *p)
{
	(void)b, p->id[1] = le64_of(0);
}
static void list_copy_free(struct bed *b)
{
	change_entry(b, b->list + 1, no_entry);
}
static void list_copy_missing(struct bed *b)
{
	CHECK(le32_get(b->root.volume[VOLUME_LIST].levels) == 1);
	change_volume_page(b, le64_get(b->root.volume[VOLUME_LIST].root), no_second_slot);
}

/* No record is behind the root: the next one would have the number that one there is said to have. */
static void head_last(struct bed *b)
{
	unsigned at = 0;
	while (!le32_get(b->space.space[at].live) || le32_get(b->space.space[at].metaslab) != head_metaslab(b, 0))
		CHECK(++at < SPACE_SLOTS);
	b->space.space[at].last = le64_of(le64_get(b->space.space[at].last) + (UINT64_C(1) << 40));
	put_page(b, &b->root.space.top, &b->space);
	seal(&b->root, FMT_ROOT);
}

static void of_none(struct fmt_snapshot *n)
{
	n->volume.origin = le64_of(77);
}
static void of_the_head(struct fmt_snapshot *n)
{
	n->volume.origin = le64_of(0);
}
static void of_a_snapshot(struct fmt_snapshot *n)
{
	n->volume.origin = le64_of(SNAPSHOT_A);
}
static void of_c(struct fmt_snapshot *n)
{
	n->volume.origin = le64_of(CLONE_C);
}
static void of_d(struct fmt_snapshot *n)
{
	n->volume.origin = le64_of(CLONE_D);
}
static void of_itself(struct fmt_snapshot *n)
{
	n->volume.origin = le64_of(le32_get(n->number));
}
static void is_dying(struct fmt_snapshot *n)
{
	n->state = SNAPSHOT_DYING;
}
static void is_kept(struct fmt_snapshot *n)
{
	(void)n;
}

static void line_of_none(struct bed *b)
{
	change_slot(b, SNAPSHOT_OF_C, SNAPSHOT_ALIVE, of_none);
}
static void line_of_a_snapshot(struct bed *b)
{
	change_slot(b, SNAPSHOT_OF_C, SNAPSHOT_ALIVE, of_a_snapshot);
}
static void line_of_itself(struct bed *b)
{
	change_slot(b, SNAPSHOT_OF_C, SNAPSHOT_ALIVE, of_itself);
}
static void line_of_a_later_clone(struct bed *b)
{
	change_slot(b, SNAPSHOT_OF_C, SNAPSHOT_ALIVE, of_d);
}
static void line_of_the_head(struct bed *b)
{
	change_slot(b, SNAPSHOT_OF_C, SNAPSHOT_ALIVE, of_the_head);
}
static void line_of_a_clone(struct bed *b)
{
	change_slot(b, SNAPSHOT_B, SNAPSHOT_ALIVE, of_c);
}
static void line_of_a_clone_too_early(struct bed *b)
{
	change_slot(b, SNAPSHOT_A, SNAPSHOT_ALIVE, of_c);
}
static void line_dying(struct bed *b)
{
	change_slot(b, SNAPSHOT_OF_C, SNAPSHOT_ALIVE, is_dying);
}
static void mark_of_none(struct bed *b)
{
	change_slot(b, SNAPSHOT_OF_C, SNAPSHOT_BOOKMARK, of_none);
}
static void mark_of_a_snapshot(struct bed *b)
{
	change_slot(b, SNAPSHOT_OF_C, SNAPSHOT_BOOKMARK, of_a_snapshot);
}
static void mark_of_a_later_clone(struct bed *b)
{
	change_slot(b, SNAPSHOT_OF_C, SNAPSHOT_BOOKMARK, of_d);
}
static void clone_of_itself(struct bed *b)
{
	change_slot(b, CLONE_C, SNAPSHOT_CLONE, of_itself);
}
static void clone_of_none(struct bed *b)
{
	change_slot(b, CLONE_C, SNAPSHOT_CLONE, of_the_head);
}
static void clone_of_a_dying_one(struct bed *b)
{
	change_slot(b, SNAPSHOT_A, SNAPSHOT_ALIVE, is_dying);
}

/*
 * A path through the table to a leaf that no region covers: its level-1 page is the 101st, and regions are of one.
 */
enum { WILD_PAGE = 100 };
#define WILD_ID ((uint64_t)WILD_PAGE * TABLE_SLOTS * TABLE_SLOTS)

static void build_wild_table(struct bed *b, struct fmt_block entry)
{
	struct fmt_page top = {.tree = TREE_TABLE, .level = 2},
			inner = {.tree = TREE_TABLE, .level = 1, .index = le64_of(WILD_PAGE)};
	struct fmt_page leaf = {.tree = TREE_TABLE, .index = le64_of(WILD_PAGE * TABLE_SLOTS)};
	uint32_t metaslab = le32_get(b->root.table_position.metaslab),
		 offset = le32_get(b->root.table_position.offset);
	struct fmt_pointer at[3];
	for (unsigned i = 0; i < 3; i++)
		at[i] = (struct fmt_pointer){
			{place_in(metaslab, offset + 2 * i), place_in(metaslab, offset + 2 * i + 1)}, {{{0}}}};
	leaf.block[0] = leaf.block[1] = entry;
	for (struct fmt_page *p = &top; p; p = p == &top ? &inner : p == &inner ? &leaf : NULL)
		p->head.version = le16_of(FMT_VERSION);
	put_page(b, &at[0], &leaf);
	inner.child[0] = at[0];
	put_page(b, &at[1], &inner);
	top.child[0] = b->root.table.top;
	top.child[WILD_PAGE] = at[1];
	put_page(b, &at[2], &top);
	b->root.table = (struct fmt_tree_root){at[2], le32_of(3), le32_of(0)};
	table_at(b, metaslab, offset + 6);
	struct fmt_space *e = slot_of_class(b, true);
	e->live = le32_of(le32_get(e->live) + 6 * BLOCK_SECTORS);
	b->root.table_pages = le64_of(le64_get(b->root.table_pages) + 3);
}

static void entry_of(struct bed *b, uint64_t id, struct fmt_block *e)
{
	struct fmt_page leaf;
	load_leaf(b, id / TABLE_SLOTS, &leaf);
	*e = leaf.block[id % TABLE_SLOTS];
}

static void slot_wild(struct bed *b, struct fmt_volume_page *p) { (void)b, p->id[0] = le64_of(WILD_ID); }

static void wild_data(struct bed *b)
{
	struct fmt_block e;
	change_volume_page(b, b->page, slot_wild);
	entry_of(b, b->id, &e);
	build_wild_table(b, e);
}

static void wild_page(struct bed *b) /* the ids of the first leaf of the volume */
{
	struct fmt_block e;
	change_volume_page(b, top_id(b), slot_wild);
	entry_of(b, b->page, &e);
	build_wild_table(b, e);
}

static void wild_leaf(struct bed *b) /* nothing refers to what it says */
{
	struct fmt_block e;
	entry_of(b, b->id, &e);
	build_wild_table(b, e);
}

/* -- records behind the end -- */

/* One that leads nowhere at the beginning of an empty metaslab, a while later than the last one. */
static void stray(struct bed *b, uint32_t metaslab, uint64_t later, uint64_t durable, uint32_t next,
		  uint64_t epoch)
{
	struct fmt_record record = b->record;
	uint64_t at = BASE + (uint64_t)metaslab * METASLAB_BLOCKS;
	record.place = place_of_block(at);
	record.seq = le64_of(le64_get(record.seq) + later);
	record.durable = le64_of(durable);
	record.epoch = le64_of(epoch);
	record.next = le32_of(next);
	seal(&record, FMT_RECORD);
	write_at(b, at, &record);
	write_at(b, at + 1, &record);
}

/*
 * The head that the last record is in is said to be near the end of its metaslab, so that one behind it may be
 * anywhere.
 */
static void go_on_elsewhere(struct bed *b)
{
	b->record.next = le32_of(OWNED - 2);
	put(b, IN_RECORD);
}

static uint64_t last_seq(const struct bed *b) { return le64_get(b->record.seq); }
static uint64_t epoch(const struct bed *b) { return le64_get(b->record.epoch); }
static void stray_claims(struct bed *b) { stray(b, OWNED - 1, 5, last_seq(b) + 5, NO_METASLAB, epoch(b)); }
static void stray_at_head(struct bed *b)
{
	go_on_elsewhere(b);
	stray(b, OWNED - 2, 5, last_seq(b) + 5, NO_METASLAB, epoch(b));
}
static void stray_older(struct bed *b)
{
	go_on_elsewhere(b);
	CHECK(epoch(b) > 0);
	stray(b, OWNED - 2, 5, last_seq(b) + 5, NO_METASLAB, epoch(b) - 1);
}
static void stray_link_away(struct bed *b)
{
	go_on_elsewhere(b);
	stray(b, OWNED - 2, 5, 0, TOTAL - 1, epoch(b));
}
static void stray_link_on(struct bed *b)
{
	go_on_elsewhere(b);
	stray(b, OWNED - 2, 5, 0, OWNED - 1, epoch(b));
	stray(b, OWNED - 1, 6, last_seq(b) + 6, NO_METASLAB, epoch(b));
}
static void stray_links_in_a_ring(struct bed *b)
{
	go_on_elsewhere(b);
	stray(b, OWNED - 2, 5, 0, OWNED - 1, epoch(b));
	stray(b, OWNED - 1, 6, 0, OWNED - 2, epoch(b));
}

#define CORRUPT (-LCPFS_E_CORRUPT)

static const struct change changes[] = {
	{"a newer root", IN_ROOT, -LCPFS_E_VERSION, root_newer, QUIET},
	{"no root at all", IN_ALL_ROOTS, CORRUPT, root_damaged, QUIET},
	{"no volume", IN_ROOT, CORRUPT, root_no_volume, QUIET},
	{"a volume beyond all sizes", IN_ROOT, CORRUPT, root_huge_volume, QUIET},
	{"a volume of no levels", IN_ROOT, CORRUPT, root_no_levels, QUIET},
	{"a volume of too many levels", IN_ROOT, CORRUPT, root_many_levels, QUIET},
	{"a volume of a level too many", IN_ROOT, CORRUPT, root_more_levels, QUIET},
	{"a volume of a level too few", IN_ROOT, 0, root_fewer_levels, TOLD},
	{"a volume at an odd id", IN_ROOT, CORRUPT, root_odd_volume, QUIET},
	{"a volume at a block of data", IN_ROOT, CORRUPT, root_volume_of_data, QUIET},
	{"a volume that lies nowhere", IN_ROOT, 0, root_volume_nowhere, TOLD},
	{"a volume at an id that is none", IN_ROOT, CORRUPT, root_volume_unknown, QUIET},
	{"a volume beyond all ids", IN_ROOT, CORRUPT, root_volume_beyond, QUIET},
	{"a volume at one of its leaves", IN_ROOT, CORRUPT, root_volume_leaf, QUIET},
	{"another volume of no levels", IN_ROOT, CORRUPT, root_other_volume, QUIET},
	{"a volume that ends before its blocks", IN_ROOT, 0, root_short_volume, QUIET},
	{"levels of the block table", IN_ROOT, CORRUPT, root_table_levels, QUIET},
	{"more levels of the block table than it has", IN_ROOT, CORRUPT, root_table_more, QUIET},
	{"a page of pointers as leaf of the block table", IN_ROOT, CORRUPT, root_table_leaf, QUIET},
	{"a block table without levels", IN_ROOT, CORRUPT, root_no_table, QUIET},
	{"levels of the space list", IN_ROOT, CORRUPT, root_space_levels, QUIET},
	{"too many ids", IN_ROOT, CORRUPT, root_ids, QUIET},
	{"an id that means none", IN_ROOT, CORRUPT, root_no_ids, QUIET},
	{"fewer ids than are used", IN_ROOT, 0, root_few_ids, TOLD},
	{"as many ids as can be", IN_ROOT, 0, root_many_ids, QUIET},
	{"more data than ids", IN_ROOT, CORRUPT, root_data, QUIET},
	{"no data", IN_ROOT, CORRUPT, root_no_data, QUIET},
	{"more pages than ids", IN_ROOT, CORRUPT, root_pages, QUIET},
	{"no pages", IN_ROOT, 0, root_no_pages, TOLD},
	{"two pages more", IN_ROOT, 0, root_more_pages, TOLD},
	{"a data block more", IN_ROOT, 0, root_more_data, TOLD},
	{"too many pages of the table", IN_ROOT, CORRUPT, root_table_pages, QUIET},
	{"no pages of the table", IN_ROOT, 0, root_no_table_pages, QUIET},
	{"the last generation", IN_ROOT, CORRUPT, root_generation, QUIET},
	{"the last epoch", IN_ROOT, CORRUPT, root_epoch, QUIET},
	{"an epoch that begins later", IN_ROOT, 0, root_epoch_later, QUIET},
	{"flushed beyond its end", IN_ROOT, CORRUPT, root_durable, QUIET},
	{"more written than can be", IN_ROOT, CORRUPT, root_written, QUIET},
	{"the last birth", IN_ROOT, 0, root_birth, QUIET},
	{"a clone that is not listed", IN_ROOT, CORRUPT, clone_unlisted, QUIET},
	{"the head as a clone", IN_ROOT, CORRUPT, clone_of_the_head, QUIET},
	{"a clone of too high a number", IN_ROOT, CORRUPT, clone_beyond, QUIET},
	{"a clone without levels", IN_ROOT, CORRUPT, clone_without_levels, QUIET},
	{"a clone of too many levels", IN_ROOT, CORRUPT, clone_of_many_levels, QUIET},
	{"a clone with an odd root", IN_ROOT, CORRUPT, clone_odd, QUIET},
	{"a clone twice", IN_ROOT, CORRUPT, clone_twice, QUIET},
	{"a clone made that is not listed", IN_RECORD, CORRUPT, clone_in_the_log, QUIET},
	{"the list made a clone", IN_RECORD, CORRUPT, clone_of_the_list, QUIET},
	{"the head made a clone", IN_RECORD, CORRUPT, clone_of_volume_1, QUIET},
	{"a clone made with an odd root", IN_RECORD, CORRUPT, clone_made_odd, QUIET},
	{"a clone made of too many levels", IN_RECORD, CORRUPT, clone_made_high, QUIET},
	{"a clone made without end", IN_RECORD, CORRUPT, clone_made_long, QUIET},
	{"a clone ended that is not there", IN_RECORD, 0, clone_ended_unknown, QUIET},
	{"a write to a clone that is not there", IN_RECORD, CORRUPT, clone_written_unknown, QUIET},
	{"a trim of a clone that is not there", IN_RECORD, CORRUPT, clone_trimmed_unknown, QUIET},
	{"a clone made, changed and ended", IN_RECORD, 0, clone_made_and_ended, QUIET},
	{"a sequence that is not reached", IN_ROOT, CORRUPT, root_seq_later, QUIET},
	{"the last sequence number", IN_ROOT, CORRUPT, root_seq_last, QUIET},
	{"counters at their end", IN_ROOT, 0, root_counters, QUIET},
	{"a region that is ahead of the root", IN_ROOT, CORRUPT, region_later, QUIET},
	{"a region that is behind what is known", IN_ROOT, CORRUPT, region_older, QUIET},
	{"a region of the beginning", IN_ROOT, CORRUPT, region_first, QUIET},
	{"regions that are too large", IN_ROOT, CORRUPT, region_shift, QUIET},
	{"regions beyond all sizes", IN_ROOT, CORRUPT, region_shift_huge, QUIET},
	{"regions as large as can be", IN_ROOT, 0, region_shift_most, QUIET},
	{"regions of another chain", IN_ROOT, 0, region_chains, QUIET},
	{"a head in a metaslab of others", IN_ROOT, CORRUPT, head_elsewhere, QUIET},
	{"a head outside of the pool", IN_ROOT, CORRUPT, head_outside, QUIET},
	{"no first head", IN_ROOT, CORRUPT, head_none, QUIET},
	{"a head behind its metaslab", IN_ROOT, CORRUPT, head_behind, QUIET},
	{"a head without room for a record", IN_ROOT, CORRUPT, head_at_end, QUIET},
	{"a head beyond all numbers", IN_ROOT, CORRUPT, head_far, QUIET},
	{"two heads in one metaslab", IN_ROOT, CORRUPT, head_same, QUIET},
	{"two heads of three, the second missing", IN_ROOT, CORRUPT, head_two_of_three, QUIET},
	{"two heads of three, the third missing", IN_ROOT, CORRUPT, head_misses, QUIET},
	{"a head before what lies in its metaslab", IN_ROOT, CORRUPT, head_too_early, QUIET},
	{"a head in a metaslab of the table", IN_ROOT, CORRUPT, head_of_table, QUIET},
	{"a head behind its metaslab, in one region", IN_ROOT, CORRUPT, head_of_one_region, QUIET},
	{"the table before its pages", IN_ROOT, CORRUPT, table_at_start, QUIET},
	{"the table behind its metaslab", IN_ROOT, 0, table_behind, QUIET},
	{"the table in a metaslab of others", IN_ROOT, 0, table_of_others, QUIET},
	{"the table outside of the pool", IN_ROOT, 0, table_outside, QUIET},
	{"the table in a metaslab of the log", IN_ROOT, 0, table_in_log, QUIET},
	{"the table in an empty metaslab", IN_ROOT, 0, table_in_empty, QUIET},
	{"no block table", IN_ROOT, CORRUPT, top_missing, QUIET},
	{"the space list as block table", IN_ROOT, CORRUPT, top_of_space, QUIET},
	{"the block table as space list", IN_ROOT, CORRUPT, space_of_table, QUIET},
	{"no space list", IN_ROOT, CORRUPT, space_gone, QUIET},
	{"a leaf as inner page of the space list", IN_ROOT, CORRUPT, space_inner, QUIET},
	{"a space list far outside", IN_ROOT, CORRUPT, space_far, QUIET},
	{"a space list between blocks", IN_ROOT, CORRUPT, space_unaligned, QUIET},
	{"a copy of the table's top in the log", IN_ROOT, LENIENT, top_in_log, TOLD},
	{"a copy of the table's top in an empty metaslab", IN_ROOT, LENIENT, top_in_empty, TOLD},
	{"a copy of the table's top in a metaslab of others", IN_ROOT, CORRUPT, top_of_others, QUIET},
	{"both copies of the table's top in one place", IN_ROOT, 0, top_twice_the_same, TOLD},
	{"the table's top on another device", IN_ROOT, CORRUPT, top_of_another_device, QUIET},
	{"a metaslab with more than it holds", IN_SPACE, CORRUPT, space_live, QUIET},
	{"a metaslab with a part of a block", IN_SPACE, CORRUPT, space_live_odd, QUIET},
	{"a metaslab with less than lies there", IN_SPACE, CORRUPT, space_less, QUIET},
	{"a metaslab with more than lies there", IN_SPACE, LENIENT, space_more, TOLD},
	{"a metaslab of the table with less than lies there", IN_SPACE, LENIENT, space_table_less, TOLD},
	{"a metaslab of the table with more than lies there", IN_SPACE, LENIENT, space_table_more, TOLD},
	{"no room for the space list itself", IN_SPACE, CORRUPT, space_full, QUIET},
	{"a record that is none yet", IN_SPACE, 0, space_last, TOLD},
	{"a class that is none", IN_SPACE, CORRUPT, space_class, QUIET},
	{"a metaslab of the log as one of the table", IN_SPACE, LENIENT, space_log_as_table, ANY},
	{"a metaslab of the table as one of the log", IN_SPACE, CORRUPT, space_table_as_log, QUIET},
	{"no metaslab of the table", IN_SPACE, LENIENT, space_no_table, TOLD},
	{"no metaslab of the log", IN_SPACE, CORRUPT, space_no_log, QUIET},
	{"a metaslab outside of the pool", IN_SPACE, CORRUPT, space_outside, QUIET},
	{"a metaslab of others", IN_SPACE, CORRUPT, space_foreign, QUIET},
	{"a metaslab of others besides", IN_SPACE, CORRUPT, space_foreign_too, QUIET},
	{"a metaslab that is empty", IN_SPACE, LENIENT, space_nothing_too, TOLD},
	{"a metaslab twice", IN_SPACE, CORRUPT, space_twice, QUIET},
	{"a record of nothing", IN_RECORD, 0, record_empty, QUIET},
	{"a move of no block", IN_RECORD, CORRUPT, move_of_none, QUIET},
	{"a move of an impossible id", IN_RECORD, CORRUPT, move_of_far, QUIET},
	{"a move of id 0", IN_RECORD, CORRUPT, move_of_zero, QUIET},
	{"a move of another block", IN_RECORD, 0, move_of_other, QUIET},
	{"a move of a page to what is none", IN_RECORD, 0, move_of_page, TOLD},
	{"a lost block that is none", IN_RECORD, CORRUPT, lost_of_none, QUIET},
	{"a block known to be lost", IN_RECORD, 0, lost_of_data, QUIET},
	{"a write beyond the end", IN_RECORD, CORRUPT, write_far, QUIET},
	{"a write across the end", IN_RECORD, CORRUPT, write_over_end, QUIET},
	{"a write of a volume that is none", IN_RECORD, CORRUPT, write_of_volume, QUIET},
	{"a write of the list of volumes", IN_RECORD, CORRUPT, write_of_list, QUIET},
	{"a write of id 1", IN_RECORD, CORRUPT, write_id_one, QUIET},
	{"a write of an impossible id", IN_RECORD, CORRUPT, write_id_huge, QUIET},
	{"a write of the last id", IN_RECORD, 0, write_id_last, QUIET},
	{"a write of another's id", IN_RECORD, CORRUPT, write_of_used, QUIET},
	{"a new id for what has one", IN_RECORD, 0, write_of_mapped, TOLD},
	{"two writes of one id", IN_RECORD, CORRUPT, write_twice_one_id, QUIET},
	{"an overwrite of nothing", IN_RECORD, CORRUPT, overwrite_of_free, QUIET},
	{"an overwrite of a page", IN_RECORD, CORRUPT, overwrite_of_page, QUIET},
	{"a trim beyond the end", IN_RECORD, CORRUPT, trim_far, QUIET},
	{"a trim across the end", IN_RECORD, CORRUPT, trim_over_end, QUIET},
	{"a trim that is too long", IN_RECORD, CORRUPT, trim_long, QUIET},
	{"a trim of nothing", IN_RECORD, CORRUPT, trim_of_nothing, QUIET},
	{"a trim of two leaves", IN_RECORD, CORRUPT, trim_of_two_leaves, QUIET},
	{"a trim of the list of volumes", IN_RECORD, CORRUPT, trim_of_volume, QUIET},
	{"a trim that frees nothing", IN_RECORD, 0, trim_that_frees_none, TOLD},
	{"freed and still mapped", IN_RECORD, 0, free_of_mapped, TOLD},
	{"freed twice", IN_RECORD, CORRUPT, free_of_free, QUIET},
	{"a page freed as data", IN_RECORD, 0, free_of_page, TOLD},
	{"impossible ids freed", IN_RECORD, CORRUPT, free_of_far, QUIET},
	{"a page above all levels", IN_RECORD, CORRUPT, page_level, QUIET},
	{"a page far above all levels", IN_RECORD, CORRUPT, page_level_huge, QUIET},
	{"a page behind the volume's end", IN_RECORD, CORRUPT, page_index, QUIET},
	{"a page behind the volume's end, further up", IN_RECORD, CORRUPT, page_index_level, QUIET},
	{"a page of a volume that is none", IN_RECORD, CORRUPT, page_of_volume, QUIET},
	{"a page with the id of data", IN_RECORD, CORRUPT, page_as_data, QUIET},
	{"the first copy of a page alone", IN_RECORD, 0, page_alone, TOLD},
	{"the second copy of a page alone", IN_RECORD, 0, page_odd_alone, TOLD},
	{"a page that refers to what cannot be", IN_RECORD, 0, page_of_ones, TOLD},
	{"a top page that refers to what cannot be", IN_RECORD, 0, page_top_of_ones, TOLD},
	{"copies of a page that differ", IN_RECORD, 0, page_copies_differ, TOLD},
	{"one page's ids for another", IN_RECORD, 0, page_elsewhere, TOLD},
	{"a page below itself", IN_RECORD, 0, page_of_itself, TOLD},
	{"data that vanishes as a page", IN_RECORD, 0, vanish_of_data, TOLD},
	{"a page that vanishes and is none", IN_RECORD, CORRUPT, vanish_of_free, QUIET},
	{"a page that vanishes and is not empty", IN_RECORD, 0, vanish_of_full, TOLD},
	{"a page that vanishes by its second id", IN_RECORD, CORRUPT, vanish_odd, QUIET},
	{"a page that vanishes as another", IN_RECORD, 0, vanish_elsewhere, TOLD},
	{"the top page vanishes", IN_RECORD, 0, vanish_of_top, TOLD},
	{"a page that vanishes above all levels", IN_RECORD, CORRUPT, vanish_level, QUIET},
	{"the first head goes elsewhere", IN_RECORD, CORRUPT, record_head_first, QUIET},
	{"a head that is none", IN_RECORD, CORRUPT, record_head_number, QUIET},
	{"a head beyond all metaslabs", IN_RECORD, CORRUPT, record_head_beyond, QUIET},
	{"a head goes to others", IN_RECORD, CORRUPT, record_head_of_others, QUIET},
	{"a head goes where another one is", IN_RECORD, CORRUPT, record_head_same, QUIET},
	{"a head of three goes", IN_RECORD, CORRUPT, record_head_missing, QUIET},
	{"a head goes where blocks lie", IN_RECORD, CORRUPT, record_head_used, QUIET},
	{"an unknown entry", IN_RECORD, 0, record_kind, QUIET},
	{"a next metaslab of others", IN_RECORD, CORRUPT, record_next_gone, QUIET},
	{"a next metaslab handed over with blocks in it", IN_RECORD, CORRUPT, record_next_foreign, QUIET},
	{"a next metaslab that is this one", IN_RECORD, CORRUPT, record_next_used, QUIET},
	{"a next metaslab that is another head's", IN_RECORD, CORRUPT, record_next_head, QUIET},
	{"more blocks than entries", IN_RECORD, 0, record_blocks, QUIET},
	{"more words than fit", IN_RECORD, 0, record_count, QUIET},
	{"an entry that is cut off", IN_RECORD, 0, record_cut, QUIET},
	{"a record of another place", IN_RECORD, 0, record_place, QUIET},
	{"another chain", IN_RECORD, 0, record_chain, QUIET},
	{"a later epoch than the root knows", IN_RECORD, CORRUPT, record_epoch, QUIET},
	{"another sequence number", IN_RECORD, 0, record_seq, QUIET},
	{"a claim beyond the end", IN_RECORD, CORRUPT, record_claims, QUIET},
	{"a record of more than can be written", IN_RECORD, CORRUPT, record_written, QUIET},
	{"a record of the last birth", IN_RECORD, 0, record_birth, QUIET},
	{"a record of a head that is none", IN_RECORD, 0, record_log_head, QUIET},
	{"a record longer than its metaslab", IN_RECORD, 0, record_too_long, QUIET},
	{"a record up to its metaslab's end", IN_RECORD, CORRUPT, record_to_end, QUIET},
	{"a leaf of another place", IN_ROOT, CORRUPT, leaf_of_another_place, QUIET},
	{"a leaf of another tree", IN_ROOT, CORRUPT, leaf_of_another_tree, QUIET},
	{"no leaf", IN_ROOT, CORRUPT, leaf_missing, QUIET},
	{"leaves in each other's place", IN_ROOT, CORRUPT, leaves_swapped, QUIET},
	{"a copy of a leaf in the log", IN_ROOT, LENIENT, leaf_in_log, TOLD},
	{"a copy of a leaf in an empty metaslab", IN_ROOT, LENIENT, leaf_in_empty, TOLD},
	{"a copy of a leaf in a metaslab of others", IN_ROOT, CORRUPT, leaf_of_others, QUIET},
	{"both copies of a leaf in one place", IN_ROOT, 0, leaf_same_place, TOLD},
	{"a page above as one of its leaves", IN_ROOT, 0, leaf_is_parent, TOLD},
	{"a leaf behind all ids", IN_ROOT, 0, leaf_beyond, TOLD},
	{"data in a metaslab of others", IN_ROOT, 0, data_in_others, TOLD},
	{"data outside of the device", IN_ROOT, 0, data_outside, TOLD},
	{"data in the front area", IN_ROOT, 0, data_in_front, TOLD},
	{"data in the table", IN_ROOT, LENIENT, data_in_table, TOLD},
	{"data in an empty metaslab", IN_ROOT, 0, data_in_empty, TOLD},
	{"data between blocks", IN_ROOT, 0, data_unaligned, TOLD},
	{"data on another device", IN_ROOT, 0, data_on_device, TOLD},
	{"data of no kind", IN_ROOT, 0, data_kind, TOLD},
	{"data as a page", IN_ROOT, 0, data_as_page, TOLD},
	{"data that is free and has a place", IN_ROOT, 0, data_free, TOLD},
	{"data of another length", IN_ROOT, 0, data_length, TOLD},
	{"data that is compressed", IN_ROOT, 0, data_compressed, TOLD},
	{"two ids in one place", IN_ROOT, 0, data_twice, TOLD},
	{"id 1 in use", IN_ROOT, 0, id_one_used, TOLD},
	{"trimmed blocks in metaslabs of others", IN_ROOT, CORRUPT, trimmed_in_others, QUIET},
	{"a page as data", IN_ROOT, 0, page_as_data_kind, TOLD},
	{"a page in a metaslab of others", IN_ROOT, 0, page_in_others, TOLD},
	{"a page that is free", IN_ROOT, CORRUPT, page_gone, QUIET},
	{"an address with more than an id", IN_ROOT, 0, leaf_slot_high, TOLD},
	{"an address with the last id", IN_ROOT, 0, leaf_slot_last, TOLD},
	{"an address with id 1", IN_ROOT, 0, leaf_slot_one, TOLD},
	{"an address with a page", IN_ROOT, 0, leaf_slot_page, TOLD},
	{"an address with another's block", IN_ROOT, 0, leaf_slot_far, TOLD},
	{"a trim of another's block", IN_ROOT, 0, leaf_slots_far, TOLD},
	{"a page with more than an id", IN_ROOT, 0, top_slot_high, TOLD},
	{"a page with the last id", IN_ROOT, 0, top_slot_last, TOLD},
	{"a page with the id of data", IN_ROOT, 0, top_slot_data, TOLD},
	{"a page with an odd id", IN_ROOT, CORRUPT, top_slot_odd, QUIET},
	{"a page that is its own parent", IN_ROOT, 0, top_slot_top, TOLD},
	{"a page far behind the end", IN_ROOT, 0, top_slot_behind, TOLD},
	{"a page that is everywhere", IN_ROOT, 0, top_slots_all, TOLD},
	{"data with an id that no region covers", IN_SPACE, LENIENT, wild_data, TOLD},
	{"a page with ids that no region covers", IN_SPACE, LENIENT, wild_page, TOLD},
	{"a leaf that no region covers", IN_SPACE, LENIENT, wild_leaf, TOLD},
	{"a record somewhere that says it was flushed", IN_RECORD, CORRUPT, stray_claims, QUIET},
	{"a record behind the end that says it was flushed", IN_ROOT, CORRUPT, stray_at_head, QUIET},
	{"a record behind the end, of an earlier life", IN_ROOT, 0, stray_older, QUIET},
	{"a record behind the end that leads to others", IN_ROOT, 0, stray_link_away, QUIET},
	{"records behind the end, the second flushed", IN_ROOT, CORRUPT, stray_link_on, QUIET},
	{"records behind the end in a ring", IN_ROOT, 0, stray_links_in_a_ring, QUIET},
	{"a copy of the list that is free", IN_LIST, CORRUPT, list_copy_free, QUIET},
	{"a list without its second copy", IN_LIST, CORRUPT, list_copy_missing, QUIET},
	{"a block of a snapshot that is free", IN_LIST, 0, data_free, TOLD},
	{"a clone's snapshot with another's block", IN_LIST, 0, leaf_slot_far, TOLD},
	{"a snapshot of no volume", IN_LIST, CORRUPT, line_of_none, QUIET},
	{"a snapshot of a snapshot", IN_LIST, CORRUPT, line_of_a_snapshot, QUIET},
	{"a snapshot of itself", IN_LIST, CORRUPT, line_of_itself, QUIET},
	{"a snapshot of a clone that began later", IN_LIST, CORRUPT, line_of_a_later_clone, QUIET},
	{"a clone's snapshot as the volume's", IN_LIST, 0, line_of_the_head, TOLD},
	{"the volume's snapshot as a clone's", IN_LIST, 0, line_of_a_clone, TOLD},
	{"a clone's origin as its snapshot", IN_LIST, CORRUPT, line_of_a_clone_too_early, QUIET},
	{"a clone's snapshot that is dying", IN_LIST, 0, line_dying, QUIET},
	{"a bookmark of no volume", IN_LIST, CORRUPT, mark_of_none, QUIET},
	{"a bookmark of a snapshot's snapshot", IN_LIST, CORRUPT, mark_of_a_snapshot, QUIET},
	{"a bookmark of a clone that began later", IN_LIST, CORRUPT, mark_of_a_later_clone, QUIET},
	{"a head where a record lies that is none yet", IN_LIST, CORRUPT, head_last, QUIET},
	{"a clone of itself", IN_LIST, CORRUPT, clone_of_itself, QUIET},
	{"a clone of nothing", IN_LIST, CORRUPT, clone_of_none, QUIET},
	{"a clone of what is dying", IN_LIST, CORRUPT, clone_of_a_dying_one, QUIET},
};

/* -- what is done with it -- */

/* Everything, whatever it answers; what is read is what was written, or nothing. */
static void read_all(struct store *store)
{
	uint8_t data[BLOCK_SIZE];
	for (uint64_t block = 0; block < FAR + 110; block += block == 80 ? FAR - 90 : 1) {
		if (store_read(store, block << BLOCK_SHIFT, data, sizeof(data), NULL) == 0)
			CHECK(data[0] <= 3 && memcmp(data, data + 1, sizeof(data) - 1) == 0);
	}
}

static void compare_all(struct store *store)
{
	static const uint32_t pairs[][2] = {
		{0, SNAPSHOT_A}, {SNAPSHOT_A, SNAPSHOT_B}, {SNAPSHOT_A, CLONE_C}, {SNAPSHOT_B, 0}};
	struct store_difference run;
	for (unsigned i = 0; i < ARRAY_LENGTH(pairs); i++) {
		(void)!store_difference(store, pairs[i][0], pairs[i][1], 0, &run);
		(void)!store_difference_since(store, pairs[i][0], pairs[i][1], 0, &run);
	}
}

static void nothing_is_pinned(struct store *store)
{
	const struct cache *c = &store->cache;
	store_lock(store);
	for (const struct page *p = c->ring.newer; p != &c->ring; p = p->newer)
		CHECK(!p->pins);
	store_unlock(store);
}

static void use(struct store *store)
{
	struct store_walk walk = {.repair = true, .data = true};
	uint8_t data[BLOCK_SIZE];
	uint32_t metaslab;
	read_all(store);
	compare_all(store);
	nothing_is_pinned(store);
	for (unsigned i = 0; i < 100; i++) {
		uint64_t block = i % 2 ? hash_mix(i) % VOLUME_BLOCKS : hash_mix(i) % 80;
		memset(data, 3, sizeof(data));
		(void)!store_write(store, block << BLOCK_SHIFT, data, sizeof(data), i % 8 == 0, NULL);
		(void)!(i % 10 == 9 ? store_checkpoint(store) : store_step(store));
	}
	(void)!store_checkpoint(store);
	(void)!store_trim(store, 0, 30 << BLOCK_SHIFT, true, NULL);
	(void)!store_checkpoint(store);
	for (unsigned i = 0; i < 3; i++)
		(void)!store_release(store, &metaslab);
	(void)!store_scrub(store, &walk);
	read_all(store);
	nothing_is_pinned(store);
	(void)!store_close(store);
}

static int check(struct bed *bed, struct lcpfs_failure *failure, uint64_t *found)
{
	uint8_t used[(BASE + TOTAL * METASLAB_BLOCKS) / 8 + 1] = {0};
	struct store_walk walk = {.data = true, .after_crash = true};
	int error;
	struct store *store = open_it(bed, true, &error, failure);
	if (store) {
		int checked = store_check(store, used, &walk);
		*found = walk.damaged_blocks + (checked != 0);
		store_abandon(store);
	}
	return error;
}

/* In a process of its own: 0, or how it ended; what went wrong it says itself. */
enum { SECONDS_MAX = 60 };

static int apart(void (*run)(const struct change *change), const struct change *change)
{
	int status;
	fflush(NULL);
	pid_t child = fork();
	assert_true(child >= 0);
	if (child == 0) {
		alarm(SECONDS_MAX);
		run(change);
		fflush(NULL);
		_exit(0);
	}
	assert_int_equal(waitpid(child, &status, 0), child);
	return status;
}

#define FAIL(...) (fprintf(stderr, __VA_ARGS__), _exit(1))

static bool as_expected(const struct change *change, const char *what, int error,
			const struct lcpfs_failure *failure)
{
	bool wanted = change->error == LENIENT ? !error || error == -LCPFS_E_CORRUPT : error == change->error;
	bool good = wanted && (!error || strstr(failure->message, "hostile"));
	if (!good)
		fprintf(stderr, "%s: %s says %d (%s), not %d\n", change->name, what, error, failure->message,
			change->error);
	return good;
}

static void bed_make_changed(struct bed *bed, const struct change *change)
{
	if (change->place == IN_LIST)
		bed_make_lines(bed);
	else
		bed_make(bed);
	change->make(bed);
	put(bed, change->place);
}

static void try_change(const struct change *change)
{
	struct lcpfs_failure failure;
	struct bed bed;
	uint64_t found = 0;
	bed_make_changed(&bed, change);
	int error = check(&bed, &failure, &found);
	bool good = as_expected(change, "check", error, &failure);
	if (!error && change->how != ANY && (found != 0) != (change->how == TOLD)) {
		fprintf(stderr, "%s: check finds %d\n", change->name, (int)found);
		good = false;
	}
	for (unsigned i = 0; i < 2; i++) { /* and what became of it */
		struct store *store = open_it(&bed, false, &error, &failure);
		good &= i > 0 || as_expected(change, "opening", error, &failure);
		if (store)
			use(store);
	}
	vdev_close(bed.vdev);
	if (!good)
		_exit(1);
}

static void each_change(void (*run)(const struct change *change))
{
	unsigned failed = 0;
	for (unsigned i = 0; i < ARRAY_LENGTH(changes); i++) {
		int status = apart(run, &changes[i]);
		if (status)
			fprintf(stderr, "%s: ended with status %d\n", changes[i].name, status);
		failed += status != 0;
	}
	assert_int_equal(failed, 0);
}

static void what_contradicts_itself_is_refused(void **state)
{
	(void)state;
	each_change(try_change);
}

/* Each allocation of opening fails: that, or what is wrong with it, is said. */
static void without_memory(const struct change *change)
{
	struct alloc_front front;
	struct store *store;
	struct bed bed;
	bool failed = true;
	bed_make_changed(&bed, change);
	alloc_front_init(&front, bed.vdev);
	bed.config.vdev = &front.vdev;
	bed.config.read_only = true;
	for (uint64_t at = 0; failed; at++) {
		alloc_fail(at, false);
		int error = ALLOC_ARMED(store_open(&bed.config, metaslabs, OWNED, &store, NULL));
		failed = alloc_failed();
		alloc_work();
		bool wanted = change->error == LENIENT ? !error || error == CORRUPT : error == change->error;
		if (!wanted && !(failed && error == -LCPFS_E_NOMEM))
			FAIL("%s, allocation %d: opening says %d\n", change->name, (int)at, error);
		if (!error)
			store_abandon(store);
	}
	vdev_close(bed.vdev);
}

static void without_memory_it_is_refused_too(void **state)
{
	(void)state;
	each_change(without_memory);
}

static void unchanged_it_opens(void **state)
{
	struct lcpfs_failure failure;
	struct bed bed;
	uint64_t found;
	(void)state;
	bed_make(&bed);
	put(&bed, IN_SPACE);
	put(&bed, IN_RECORD);
	assert_int_equal(check(&bed, &failure, &found), 0);
	assert_int_equal(found, 0);
	use(must_open(&bed));
	vdev_close(bed.vdev);
}

/* The helpers above put the very bytes back: what they change is all that differs. */
static void keep_child(struct bed *b, struct fmt_page *inner) { (void)b, (void)inner; }
static void keep_entry(struct bed *b, struct fmt_block *e) { (void)b, (void)e; }
static void keep_page(struct bed *b, struct fmt_volume_page *p) { (void)b, (void)p; }

static void put_back_it_is_as_before(void **state)
{
	struct lcpfs_failure failure;
	struct bed bed;
	uint64_t found;
	(void)state;
	bed_make(&bed);
	change_child(&bed, keep_child);
	change_entry(&bed, bed.id, keep_entry);
	change_volume_page(&bed, bed.page, keep_page);
	change_volume_page(&bed, top_id(&bed), keep_page);
	put(&bed, IN_ROOT);
	only(&bed, E(ENTRY_WRITE, .id = bed.fresh, .address = 70, .count = 3), 3);
	tell(&bed, E(ENTRY_OVERWRITE, .id = bed.id + 10, .count = 2), 3);
	tell(&bed, E(ENTRY_MOVE, .id = bed.far, .count = 2), 2);
	tell(&bed, E(ENTRY_LOST, .id = bed.far + 10, .count = 1), 2);
	tell(&bed, E(ENTRY_TRIM, .address = 20, .length = 4), 0);
	tell(&bed, E(ENTRY_FREE, .id = bed.id + 20, .count = 4), 0);
	put(&bed, IN_RECORD);
	assert_int_equal(check(&bed, &failure, &found), 0);
	assert_int_equal(found, 0);
	use(must_open(&bed));
	vdev_close(bed.vdev);
	bed_make_lines(&bed);
	change_slot(&bed, SNAPSHOT_OF_C, SNAPSHOT_ALIVE, is_kept);
	put(&bed, IN_LIST);
	assert_int_equal(check(&bed, &failure, &found), 0);
	assert_int_equal(found, 0);
	use(must_open(&bed));
	vdev_close(bed.vdev);
}

/* -- a large one -- */

enum { MANY = 700 };

static void add_empty_leaves(struct fmt_page *inner, struct bed *bed, unsigned pages)
{
	for (unsigned i = 0; i < pages; i++) {
		struct fmt_page leaf = {.tree = TREE_SPACE, .index = le64_of(i)};
		leaf.head.version = le16_of(FMT_VERSION);
		inner->child[i].place[0] = inner->child[i].place[1] = place_in(OWNED - 1, i);
		put_page(bed, &inner->child[i], &leaf);
	}
}

/* Memory stays bounded by the pool's size, whatever the tree says. */
static void a_space_list_with_too_many_pages_is_refused(void **state)
{
	struct lcpfs_failure failure;
	struct bed bed;
	uint64_t found;
	(void)state;
	bed_make(&bed);
	bed.space = (struct fmt_page){.head = bed.space.head, .tree = TREE_SPACE, .level = 1};
	add_empty_leaves(&bed.space, &bed, 30);
	bed.root.space.levels = le32_of(2);
	heads_at(&bed, 0, OWNED - 2, 0); /* where no record is: nothing else is wrong */
	put(&bed, IN_SPACE);
	assert_int_equal(check(&bed, &failure, &found), CORRUPT);
	vdev_close(bed.vdev);
}

static void a_space_list_of_two_levels_is_read(void **state)
{
	static uint32_t owned[MANY];
	struct vdev *vdev = vdev_memory_new((uint64_t)(BASE + MANY * METASLAB_BLOCKS) << BLOCK_SHIFT);
	struct store_config config = {.vdev = vdev, .clock = &clock_still, .guid = GUID, .partition = PARTITION,
				      .name = "large", .metaslab_base = BASE, .metaslab_blocks = METASLAB_BLOCKS,
				      .metaslab_count = MANY, .root_block = {{1, 2}, {3, 4}}};
	uint8_t data[BLOCK_SIZE];
	struct store *store;
	struct fmt_root root;
	(void)state;
	for (uint32_t i = 0; i < MANY; i++)
		owned[i] = i;
	assert_int_equal(store_format(&config, MANY * METASLAB_BLOCKS, owned, MANY), 0);
	assert_int_equal(store_open(&config, owned, MANY, &store, NULL), 0);
	write_blocks(store, 0, MANY * METASLAB_BLOCKS / 2, 9);
	assert_int_equal(store_close(store), 0);
	assert_int_equal(vdev_read(vdev, 1 << BLOCK_SHIFT, &root, sizeof(root)), 0);
	assert_int_equal(le32_get(root.space.levels), 2);
	assert_int_equal(store_open(&config, owned, MANY, &store, NULL), 0);
	for (uint64_t block = 0; block < MANY * METASLAB_BLOCKS / 2; block += 97) {
		assert_int_equal(store_read(store, block << BLOCK_SHIFT, data, sizeof(data), NULL), 0);
		assert_int_equal(data[7], 9);
	}
	assert_int_equal(store_close(store), 0);
	vdev_close(vdev);
}

/* -- a device that changes meanwhile -- */

struct fickle {
	struct vdev vdev; /* first */
	struct vdev *behind;
	uint64_t block;                 /* two of them */
	const struct fmt_record *later; /* what lies there when it was read so often */
	unsigned often;
	unsigned reads[2];
};

static void fickle_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	struct fickle *fickle = (struct fickle *)vdev;
	fickle->behind->ops->submit(fickle->behind, ios, count);
	for (struct vdev_io *io = ios; io < ios + count; io++) {
		uint64_t copy = (io->offset >> BLOCK_SHIFT) - fickle->block;
		if (io->op == VDEV_READ && copy < 2 && io->length == BLOCK_SIZE &&
		    fickle->reads[copy]++ >= fickle->often)
			memcpy(io->buffer, fickle->later, BLOCK_SIZE);
	}
}

static int fickle_flush(struct vdev *vdev)
{
	return vdev_flush(((struct fickle *)vdev)->behind);
}

/* The log is read several times, and nothing is taken for granted because of an earlier one. */
static int open_fickle(void (*make)(struct bed *b), unsigned often, unsigned *reads)
{
	static const struct vdev_ops ops = {.submit = fickle_submit, .flush = fickle_flush};
	struct lcpfs_failure failure;
	struct fickle fickle;
	struct bed bed;
	int error;
	bed_make(&bed);
	make(&bed);
	seal(&bed.record, FMT_RECORD);
	fickle = (struct fickle){.vdev = {.ops = &ops, .size_bytes = bed.vdev->size_bytes, .name = "fickle"},
				 .behind = bed.vdev,
				 .block = block_of_place(bed.record.place),
				 .later = &bed.record,
				 .often = often};
	bed.config.vdev = &fickle.vdev;
	struct store *store = open_it(&bed, false, &error, &failure);
	*reads = fickle.reads[0];
	fickle.often = UINT32_MAX;
	if (store)
		use(store);
	vdev_close(bed.vdev);
	return error;
}

static void a_record_that_changes_between_reads_does_no_harm(void **state)
{
	static void (*const make[])(struct bed *b) = {
		record_next_gone, record_next_foreign, record_next_used, record_claims,        move_of_far,
		page_of_ones,     trim_long,           vanish_of_data,   record_head_of_others};
	unsigned reads, most = 0;
	(void)state;
	for (unsigned i = 0; i < ARRAY_LENGTH(make); i++) {
		for (unsigned often = 1; often < 4; often++) {
			(void)!open_fickle(make[i], often, &reads);
			most = reads > most ? reads : most;
		}
	}
	assert_true(most >= 3); /* each pass reads it */
	assert_int_equal(open_fickle(record_next_gone, 1, &reads), CORRUPT);
}

/* -- what a field claims costs nothing -- */

/* The volume as long as can be, its trees empty, and a log of trims all over it. */
static void claim_to_be_huge(struct bed *b)
{
	const uint64_t blocks = UINT64_C(1) << 40;
	*volume_of(b) = (struct fmt_volume){.levels = le32_of(VOLUME_LEVELS_MAX), .blocks = le64_of(blocks)};
	b->root.table = b->root.space = (struct fmt_tree_root){0};
	b->root.id_end = le64_of(IDS_FIRST);
	b->root.data_blocks = b->root.page_blocks = b->root.table_pages = le64_of(0);
	table_at(b, NO_METASLAB, 0);
	for (unsigned i = 0; i < LOG_HEADS; i++)
		heads_at(b, i, head_metaslab(b, i), i ? 0 : le32_get(b->root.region[0].position[0].offset));
	start_record(b);
	while (le32_get(b->record.head.count) + 3 <= RECORD_WORDS) {
		uint64_t leaf = hash_mix(le32_get(b->record.head.count)) % (blocks / VOLUME_SLOTS);
		tell(b, E(ENTRY_TRIM, .address = leaf * VOLUME_SLOTS, .length = VOLUME_SLOTS), 0);
	}
	put(b, IN_ROOT);
	put(b, IN_RECORD);
}

static void a_huge_volume(const struct change *change)
{
	struct lcpfs_failure failure;
	struct bed bed;
	int error;
	uint64_t found = 0;
	(void)change;
	bed_make(&bed);
	claim_to_be_huge(&bed);
	if (check(&bed, &failure, &found) || found)
		FAIL("check: %s, %d\n", failure.message, (int)found);
	struct store *store = open_it(&bed, false, &error, &failure);
	if (error)
		FAIL("%s\n", failure.message);
	use(store);
	vdev_close(bed.vdev);
}

static void a_volume_that_claims_to_be_huge_costs_nothing(void **state)
{
	(void)state;
	assert_int_equal(apart(a_huge_volume, NULL), 0);
}

/* A volume as long as can be, and honest, with a block at either end that no checkpoint has written yet. */
static void both_ends(const struct change *change)
{
	const uint64_t blocks = UINT64_C(1) << 40;
	struct store_walk walk = {.data = true};
	struct bed bed;
	uint64_t end;
	bool data;
	(void)change;
	bed_init(&bed, blocks);
	struct store *store = must_open(&bed);
	write_blocks(store, 0, 1, 1);
	write_blocks(store, blocks - 1, 1, 1);
	CHECK(!store_extent(store, BLOCK_SIZE, (blocks - 2) << BLOCK_SHIFT, &data, &end));
	CHECK(!data && end == (blocks - 1) << BLOCK_SHIFT);
	CHECK(!store_scrub(store, &walk) && !walk.damaged_blocks);
	CHECK(!store_trim(store, 0, blocks << BLOCK_SHIFT, false, NULL));
	CHECK(!store_close(store));
	vdev_close(bed.vdev);
}

static void holes_of_a_long_volume_cost_nothing(void **state)
{
	(void)state;
	assert_int_equal(apart(both_ends, NULL), 0);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(unchanged_it_opens),
					   cmocka_unit_test(put_back_it_is_as_before),
					   cmocka_unit_test(a_volume_that_claims_to_be_huge_costs_nothing),
					   cmocka_unit_test(holes_of_a_long_volume_cost_nothing),
					   cmocka_unit_test(what_contradicts_itself_is_refused),
					   cmocka_unit_test(without_memory_it_is_refused_too),
					   cmocka_unit_test(a_record_that_changes_between_reads_does_no_harm),
					   cmocka_unit_test(a_space_list_with_too_many_pages_is_refused),
					   cmocka_unit_test(a_space_list_of_two_levels_is_read)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
