/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Metadata whose checksums hold and whose content cannot be: what a stranger's image, or a defect, may bring. Each
 * is refused with an error, by opening or by the first use of it, and does no harm.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <cmocka.h>

#include "base/check.h"
#include "base/hash.h"
#include "store/cleared.h"
#include "store/internal.h"
#include "tests/crash/alloc.h"

enum { GUID = 5, PARTITION = 3, BASE = 16, METASLAB_BLOCKS = 64, TOTAL = 20, OWNED = 16, VOLUME_BLOCKS = 2000 };

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
	struct fmt_page space;    /* the leaf of the space tree */
};

static void read_at(struct bed *bed, uint64_t block, void *to)
{
	assert_int_equal(vdev_read(bed->vdev, block << BLOCK_SHIFT, to, BLOCK_SIZE), 0);
}

static void write_twice(struct bed *bed, const uint64_t block[2], const void *from)
{
	for (unsigned i = 0; i < 2; i++)
		assert_int_equal(vdev_write(bed->vdev, block[i] << BLOCK_SHIFT, from, BLOCK_SIZE), 0);
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

	assert_int_equal(error, 0);
	return store;
}

static void write_blocks(struct store *store, uint64_t first, unsigned count, uint8_t byte)
{
	uint8_t data[BLOCK_SIZE];

	memset(data, byte, sizeof(data));
	for (unsigned i = 0; i < count; i++)
		assert_int_equal(store_write(store, (first + i) << BLOCK_SHIFT, data, sizeof(data), false, NULL), 0);
}

/* Blocks in several leaves, a checkpoint, and one record behind it. */
static void bed_make(struct bed *bed)
{
	struct record_walk walk = {0};
	struct store *store;
	uint64_t at;
	bool good[2];

	*bed = (struct bed){.vdev = vdev_memory_new((uint64_t)(BASE + TOTAL * METASLAB_BLOCKS) << BLOCK_SHIFT)};
	bed->config = (struct store_config){.vdev = bed->vdev, .clock = &clock_still, .guid = GUID,
					    .partition = PARTITION, .name = "hostile", .metaslab_base = BASE, .metaslab_blocks = METASLAB_BLOCKS,
					    .metaslab_count = TOTAL, .root_block = {{1, 2}, {3, 4}}};
	for (uint32_t i = 0; i < OWNED; i++)
		metaslabs[i] = i;
	assert_int_equal(store_format(&bed->config, VOLUME_BLOCKS, metaslabs, OWNED), 0);
	store = must_open(bed);
	write_blocks(store, 0, 60, 1);
	write_blocks(store, 1000, 20, 2);
	assert_int_equal(store_checkpoint(store), 0);
	write_blocks(store, 10, 2, 3);
	assert_int_equal(store_trim(store, 20 << BLOCK_SHIFT, 4 << BLOCK_SHIFT, false, NULL), 0);
	assert_int_equal(store_flush(store, NULL), 0);
	bed->slot = store->root_slot;
	read_at(bed, bed->config.root_block[bed->slot][0], &bed->root);
	walk.metaslab = le32_get(bed->root.position[0].metaslab);
	at = space_first_block(&store->space, walk.metaslab) + le32_get(bed->root.position[0].offset);
	assert_int_equal(record_read(store, at, &bed->record, good), 1);
	assert_int_equal(le32_get(bed->root.space.levels), 1);
	read_at(bed, le64_get(bed->root.space.top.place[0]), &bed->space);
	store_abandon(store);
}

enum place { IN_ROOT, IN_RECORD, IN_SPACE, IN_ALL_ROOTS };

static void seal(void *block, enum fmt_kind kind)
{
	struct fmt_head *head = block;
	uint16_t version = le16_get(head->version);

	fmt_seal(block, kind, GUID, PARTITION, le32_get(head->count));
	head->version = le16_of(version);
	head->checksum = le64_of(0);
	head->checksum = le64_of(hash64(block, BLOCK_SIZE));
}

static void put(struct bed *bed, enum place place)
{
	if (place == IN_RECORD) {
		uint64_t first = le64_get(bed->record.place), at[2] = {first, first + 1};

		seal(&bed->record, FMT_RECORD);
		write_twice(bed, at, &bed->record);
		return;
	}
	if (place == IN_ALL_ROOTS) {
		for (unsigned i = 0; i < 2; i++)
			write_twice(bed, bed->config.root_block[i], &bed->root);
		return;
	}
	if (place == IN_SPACE) {
		uint64_t at[2] = {le64_get(bed->root.space.top.place[0]), le64_get(bed->root.space.top.place[1])};

		seal(&bed->space, FMT_PAGE);
		write_twice(bed, at, &bed->space);
		bed->root.space.top.checksum = bed->space.head.checksum;
	}
	seal(&bed->root, FMT_ROOT);
	write_twice(bed, bed->config.root_block[bed->slot], &bed->root);
}

/* -- what is changed -- */

struct change {
	const char *name;
	enum place place;
	int error; /* of opening; 0: it opens, and reading everything may fail */
	void (*make)(struct bed *bed);
};

static void root_newer(struct bed *b) { b->root.head.version = le16_of(99); }
static void root_no_volume(struct bed *b) { b->root.volume_blocks = le64_of(0); }
static void root_huge_volume(struct bed *b) { b->root.volume_blocks = le64_of(UINT64_MAX); }
static void root_table_levels(struct bed *b) { b->root.table.levels = le32_of(7); }
static void root_volume_levels(struct bed *b) { b->root.volume.levels = le32_of(0); }
static void root_space_levels(struct bed *b) { b->root.space.levels = le32_of(TREE_LEVELS_MAX + 1); }
static void root_ids(struct bed *b) { b->root.id_end = le64_of(UINT64_MAX); }
static void root_data(struct bed *b) { b->root.data_blocks = le64_of(le64_get(b->root.id_end) + 1); }
static void root_generation(struct bed *b) { b->root.generation = le64_of(UINT64_MAX - 1); }
static void root_pages(struct bed *b) { b->root.page_count = le64_of(UINT64_MAX / 2); }
static void root_durable(struct bed *b) { b->root.durable = le64_of(le64_get(b->root.seq) + 1000); }
static void root_head_elsewhere(struct bed *b) { b->root.position[0].metaslab = le32_of(TOTAL - 1); }
static void root_head_outside(struct bed *b) { b->root.position[0].metaslab = le32_of(TOTAL + 1000); }
static void root_no_head(struct bed *b) { b->root.position[0].metaslab = le32_of(NO_METASLAB); }
static void root_head_offset(struct bed *b) { b->root.position[1].offset = le32_of(METASLAB_BLOCKS + 1); }
static void root_head_at_end(struct bed *b) { b->root.position[1].offset = le32_of(METASLAB_BLOCKS - 1); }
static void root_head_far(struct bed *b) { b->root.position[1].offset = le32_of(UINT32_MAX); }
static void root_damaged(struct bed *b) { b->root.seq = le64_of(1); }
static void root_same_heads(struct bed *b) { b->root.position[1].metaslab = b->root.position[2].metaslab; }
static void root_two_of_three(struct bed *b) { b->root.position[1].metaslab = le32_of(NO_METASLAB); }
static void root_heads_miss(struct bed *b) { b->root.position[2].metaslab = le32_of(NO_METASLAB); }
static void root_top_missing(struct bed *b) { b->root.table.top = (struct fmt_pointer){0}; }
static void root_top_swapped(struct bed *b) { b->root.table.top = b->root.volume.top; }
static void root_space_top(struct bed *b) { b->root.space.top = b->root.volume.top; }
static void root_space_gone(struct bed *b) { b->root.space.levels = le32_of(0); }
static void root_space_inner(struct bed *b) { b->root.space.levels = le32_of(2); }
static void root_space_far(struct bed *b)
{
	b->root.space.top.place[0] = b->root.space.top.place[1] = le64_of(UINT64_MAX / 8192);
}

static struct fmt_space *first_slot(struct bed *b)
{
	unsigned i = 0;

	while (!le32_get(b->space.space[i].live))
		assert_true(++i < PAGE_SLOTS);
	return &b->space.space[i];
}

static void space_live(struct bed *b) { first_slot(b)->live = le32_of(METASLAB_BLOCKS + 1); }
static void space_full(struct bed *b)
{
	for (unsigned i = 0; i < PAGE_SLOTS; i++) {
		if (le32_get(b->space.space[i].live))
			b->space.space[i].live = le32_of(METASLAB_BLOCKS);
	}
}
static void space_age(struct bed *b) { first_slot(b)->age = le64_of(UINT64_MAX); }
static void space_outside(struct bed *b) { first_slot(b)->metaslab = le32_of(TOTAL); }
static void space_foreign(struct bed *b) { first_slot(b)->metaslab = le32_of(TOTAL - 1); }
static void space_foreign_too(struct bed *b)
{
	b->space.space[PAGE_SLOTS - 1] = (struct fmt_space){.metaslab = le32_of(TOTAL - 1), .live = le32_of(1)};
}
static void space_twice(struct bed *b) { b->space.space[PAGE_SLOTS - 1] = *first_slot(b); }

static struct fmt_entry *entry_of_kind(struct bed *b, unsigned kind)
{
	unsigned i = 0;

	while (fmt_entry_kind(&b->record.entry[i]) != kind)
		assert_true(++i < le32_get(b->record.head.count));
	return &b->record.entry[i];
}

static void change_kind(struct bed *b, unsigned from, unsigned to)
{
	struct fmt_entry *e = entry_of_kind(b, from);

	*e = fmt_entry_of((enum fmt_entry_kind)to, fmt_entry_address(e), le64_get(e->id), le64_get(e->checksum));
}

static void record_move_of_none(struct bed *b)
{
	change_kind(b, ENTRY_WRITE, ENTRY_MOVE);
	entry_of_kind(b, ENTRY_MOVE)->id = le64_of(100000);
}
static void record_move_of_other(struct bed *b)
{
	change_kind(b, ENTRY_WRITE, ENTRY_MOVE);
	entry_of_kind(b, ENTRY_MOVE)->id = le64_of(0);
}
static void record_write_far(struct bed *b)
{
	struct fmt_entry *e = entry_of_kind(b, ENTRY_WRITE);

	*e = fmt_entry_of(ENTRY_WRITE, VOLUME_BLOCKS + 7, le64_get(e->id), le64_get(e->checksum));
}
static void record_write_id(struct bed *b) { entry_of_kind(b, ENTRY_WRITE)->id = le64_of(UINT64_MAX - 3); }
static void record_write_used(struct bed *b)
{
	struct fmt_entry *e = entry_of_kind(b, ENTRY_WRITE);

	*e = fmt_entry_of(ENTRY_WRITE, 1500, 0, le64_get(e->checksum)); /* the id belongs to another address */
}
static void record_trim_far(struct bed *b)
{
	*entry_of_kind(b, ENTRY_TRIM) = fmt_entry_of(ENTRY_TRIM, VOLUME_BLOCKS + 1, 1, 0);
}
static void record_trim_long(struct bed *b) { entry_of_kind(b, ENTRY_TRIM)->id = le64_of(UINT64_MAX); }
static void record_kind(struct bed *b) { change_kind(b, ENTRY_WRITE, 77); }
static void record_next_gone(struct bed *b) { b->record.next = le32_of(TOTAL - 1); }
static void record_next_foreign(struct bed *b)
{
	space_foreign_too(b);
	put(b, IN_SPACE);
	record_next_gone(b);
}
static void record_next_used(struct bed *b) { b->record.next = b->root.position[0].metaslab; }
static void record_blocks(struct bed *b) { b->record.blocks = le16_of(60); }
static void record_too_long(struct bed *b) /* for its metaslab */
{
	struct fmt_entry e = *entry_of_kind(b, ENTRY_WRITE);

	for (unsigned i = 0; i < METASLAB_BLOCKS; i++)
		b->record.entry[i] = e;
	b->record.head.count = le32_of(METASLAB_BLOCKS);
	b->record.blocks = le16_of(METASLAB_BLOCKS);
}
static void record_to_end(struct bed *b) /* no room is left for the link */
{
	struct fmt_entry e = *entry_of_kind(b, ENTRY_WRITE);
	uint64_t place = le64_get(b->record.place), offset = (place - BASE) % METASLAB_BLOCKS;
	unsigned blocks = METASLAB_BLOCKS - RECORD_HEADERS - (unsigned)offset;

	read_at(b, place + RECORD_HEADERS, &b->space);
	for (unsigned i = 0; i < blocks; i++) {
		b->record.entry[i] = e;
		assert_int_equal(vdev_write(b->vdev, (place + RECORD_HEADERS + i) << BLOCK_SHIFT, &b->space, BLOCK_SIZE), 0);
	}
	b->record.head.count = le32_of(blocks);
	b->record.blocks = le16_of((uint16_t)blocks);
}
static void record_chain(struct bed *b) { b->record.previous = le64_of(1); }
static void record_lost(struct bed *b) /* true to what cleaning writes for a damaged block */
{
	uint8_t old[BLOCK_SIZE];
	struct fmt_entry *e = entry_of_kind(b, ENTRY_WRITE);

	memset(old, 1, sizeof(old));
	*e = fmt_entry_of(ENTRY_LOST, 0, le64_get(e->id), hash64(old, sizeof(old)));
}
static void record_count(struct bed *b) { b->record.head.count = le32_of(RECORD_ENTRIES + 1); }
static void record_claims(struct bed *b) { b->record.durable = le64_of(le64_get(b->record.seq) + 1000); }
static void record_page(struct bed *b)
{
	change_kind(b, ENTRY_WRITE, ENTRY_PAGE); /* its block is no page: as if torn */
}

/* -- pages below those that the roots point to, and records behind the end -- */

static void change_leaf(struct bed *b, struct fmt_tree_root *tree, uint64_t index,
			void (*make)(struct fmt_page *leaf))
{
	struct fmt_page inner, leaf;
	uint64_t at[2];

	assert_int_equal(le32_get(tree->levels), 2);
	read_at(b, le64_get(tree->top.place[0]), &inner);
	for (unsigned i = 0; i < 2; i++)
		at[i] = le64_get(inner.child[index].place[i]);
	read_at(b, at[0], &leaf);
	make(&leaf);
	seal(&leaf, FMT_PAGE);
	write_twice(b, at, &leaf);
	inner.child[index].checksum = leaf.head.checksum;
	seal(&inner, FMT_PAGE);
	for (unsigned i = 0; i < 2; i++)
		at[i] = le64_get(tree->top.place[i]);
	write_twice(b, at, &inner);
	tree->top.checksum = inner.head.checksum;
}

static void trim_1000(struct bed *b)
{
	*entry_of_kind(b, ENTRY_TRIM) = fmt_entry_of(ENTRY_TRIM, 1000, 4, 0);
	put(b, IN_RECORD);
}

static void of_another_place(struct fmt_page *leaf) { leaf->index = le64_of(77); }
static void trim_of_damaged(struct bed *b)
{
	trim_1000(b);
	change_leaf(b, &b->root.volume, 1000 / VOLUME_SLOTS, of_another_place);
}

static void blocks_of_others(struct fmt_page *leaf)
{
	uint64_t block = BASE + (uint64_t)(TOTAL - 1) * METASLAB_BLOCKS;

	for (unsigned i = 60; i < PAGE_SLOTS; i++) { /* those of addresses from 1000 on */
		if (le32_get(leaf->block[i].references))
			leaf->block[i].place = le64_of(block * BLOCK_SECTORS);
	}
}
static void trim_of_others(struct bed *b)
{
	trim_1000(b);
	change_leaf(b, &b->root.table, 0, blocks_of_others);
}

/* A record that leads nowhere at the beginning of an empty metaslab, a while later than the last one. */
static void stray(struct bed *b, uint32_t metaslab, uint64_t later, uint64_t durable, uint32_t next,
		  uint64_t epoch)
{
	struct fmt_record record = b->record;
	uint64_t at[2] = {BASE + (uint64_t)metaslab * METASLAB_BLOCKS};

	at[1] = at[0] + 1;
	record.place = le64_of(at[0]);
	record.seq = le64_of(le64_get(record.seq) + later);
	record.durable = le64_of(durable);
	record.epoch = le64_of(epoch);
	record.next = le32_of(next);
	seal(&record, FMT_RECORD);
	write_twice(b, at, &record);
}

static uint64_t last_seq(const struct bed *b) { return le64_get(b->record.seq); }
static uint64_t epoch(const struct bed *b) { return le64_get(b->record.epoch); }
static void stray_claims(struct bed *b) { stray(b, OWNED - 1, 5, last_seq(b) + 5, NO_METASLAB, epoch(b)); }
static void stray_older(struct bed *b)
{
	assert_true(epoch(b) > 0);
	stray(b, OWNED - 1, 5, last_seq(b) + 5, NO_METASLAB, epoch(b) - 1);
}
static void stray_link_away(struct bed *b) { stray(b, OWNED - 1, 5, 0, TOTAL - 1, epoch(b)); }
static void stray_link_on(struct bed *b)
{
	stray(b, OWNED - 1, 5, 0, OWNED - 2, epoch(b));
	stray(b, OWNED - 2, 6, last_seq(b) + 6, NO_METASLAB, epoch(b));
}
static void stray_links_in_a_ring(struct bed *b)
{
	stray(b, OWNED - 1, 5, 0, OWNED - 2, epoch(b));
	stray(b, OWNED - 2, 6, 0, OWNED - 1, epoch(b));
}

#define CORRUPT (-LCPFS_E_CORRUPT)

static const struct change changes[] = {
	{"a newer root", IN_ROOT, -LCPFS_E_VERSION, root_newer},
	{"no volume", IN_ROOT, CORRUPT, root_no_volume},
	{"a volume beyond all sizes", IN_ROOT, CORRUPT, root_huge_volume},
	{"levels of the block table", IN_ROOT, CORRUPT, root_table_levels},
	{"levels of the volume", IN_ROOT, CORRUPT, root_volume_levels},
	{"levels of the space tree", IN_ROOT, CORRUPT, root_space_levels},
	{"too many ids", IN_ROOT, CORRUPT, root_ids},
	{"more data than ids", IN_ROOT, CORRUPT, root_data},
	{"the last generation", IN_ROOT, CORRUPT, root_generation},
	{"too many pages", IN_ROOT, CORRUPT, root_pages},
	{"flushed beyond its end", IN_ROOT, CORRUPT, root_durable},
	{"a head in a metaslab of others", IN_ROOT, CORRUPT, root_head_elsewhere},
	{"a head outside of the pool", IN_ROOT, CORRUPT, root_head_outside},
	{"no first head", IN_ROOT, CORRUPT, root_no_head},
	{"a head behind its metaslab", IN_ROOT, CORRUPT, root_head_offset},
	{"a head without room for its link", IN_ROOT, CORRUPT, root_head_at_end},
	{"a head beyond all numbers", IN_ROOT, CORRUPT, root_head_far},
	{"no root at all", IN_ALL_ROOTS, CORRUPT, root_damaged},
	{"two heads in one metaslab", IN_ROOT, CORRUPT, root_same_heads},
	{"two heads of three, the second missing", IN_ROOT, CORRUPT, root_two_of_three},
	{"two heads of three, the third missing", IN_ROOT, CORRUPT, root_heads_miss},
	{"no block table", IN_ROOT, CORRUPT, root_top_missing},
	{"the volume as block table", IN_ROOT, CORRUPT, root_top_swapped},
	{"the volume as space tree", IN_ROOT, CORRUPT, root_space_top},
	{"no space tree", IN_ROOT, CORRUPT, root_space_gone},
	{"a leaf as inner page of the space tree", IN_ROOT, CORRUPT, root_space_inner},
	{"a space tree far outside", IN_ROOT, CORRUPT, root_space_far},
	{"a metaslab with more than it holds", IN_SPACE, CORRUPT, space_live},
	{"no room for the space tree itself", IN_SPACE, CORRUPT, space_full},
	{"the age of the universe", IN_SPACE, 0, space_age},
	{"a metaslab outside of the pool", IN_SPACE, CORRUPT, space_outside},
	{"a metaslab of others", IN_SPACE, CORRUPT, space_foreign},
	{"a metaslab of others besides", IN_SPACE, CORRUPT, space_foreign_too},
	{"a metaslab twice", IN_SPACE, CORRUPT, space_twice},
	{"a move of no block", IN_RECORD, CORRUPT, record_move_of_none},
	{"a move of another block", IN_RECORD, CORRUPT, record_move_of_other},
	{"a write beyond the end", IN_RECORD, CORRUPT, record_write_far},
	{"a write of an impossible id", IN_RECORD, CORRUPT, record_write_id},
	{"a write of another's id", IN_RECORD, CORRUPT, record_write_used},
	{"a trim beyond the end", IN_RECORD, CORRUPT, record_trim_far},
	{"a trim that is too long", IN_RECORD, CORRUPT, record_trim_long},
	{"an unknown entry", IN_RECORD, -LCPFS_E_VERSION, record_kind},
	{"a next metaslab of others", IN_RECORD, CORRUPT, record_next_gone},
	{"a next metaslab handed over with blocks in it", IN_RECORD, CORRUPT, record_next_foreign},
	{"a record longer than its metaslab", IN_RECORD, 0, record_too_long},
	{"a record up to its metaslab's end", IN_RECORD, CORRUPT, record_to_end},
	{"another chain", IN_RECORD, 0, record_chain},
	{"a block known to be lost", IN_RECORD, 0, record_lost},
	{"a next metaslab that is this one", IN_RECORD, 0, record_next_used},
	{"more blocks than entries", IN_RECORD, 0, record_blocks},
	{"more entries than fit", IN_RECORD, 0, record_count},
	{"a claim beyond the end", IN_RECORD, CORRUPT, record_claims},
	{"a page that is none", IN_RECORD, 0, record_page},
	{"a trim below a page of another place", IN_ROOT, CORRUPT, trim_of_damaged},
	{"a trim of blocks in metaslabs of others", IN_ROOT, CORRUPT, trim_of_others},
	{"a record behind the end that says it was flushed", IN_RECORD, CORRUPT, stray_claims},
	{"a record behind the end, of an earlier life", IN_RECORD, 0, stray_older},
	{"a record behind the end that leads to others", IN_RECORD, 0, stray_link_away},
	{"records behind the end, the second flushed", IN_RECORD, CORRUPT, stray_link_on},
	{"records behind the end in a ring", IN_RECORD, 0, stray_links_in_a_ring},
};

/* -- what is done with it -- */

/* Everything, whatever it answers; what is read is what was written, or nothing. */
static void use(struct store *store)
{
	struct store_walk walk = {.repair = true, .data = true};
	uint8_t data[BLOCK_SIZE];
	uint32_t metaslab;

	for (uint64_t block = 0; block < VOLUME_BLOCKS; block++) {
		if (store_read(store, block << BLOCK_SHIFT, data, sizeof(data), NULL) == 0)
			assert_true(data[0] <= 3 && memcmp(data, data + 1, sizeof(data) - 1) == 0);
	}
	for (unsigned i = 0; i < 40; i++) {
		memset(data, 3, sizeof(data));
		(void)!store_write(store, hash_mix(i) % VOLUME_BLOCKS << BLOCK_SHIFT, data, sizeof(data), i % 8 == 0, NULL);
		(void)!store_step(store);
	}
	(void)!store_trim(store, 0, 30 << BLOCK_SHIFT, true, NULL);
	(void)!store_checkpoint(store);
	(void)!store_release(store, &metaslab);
	(void)!store_scrub(store, &walk);
	(void)!store_close(store);
}

static int check(struct bed *bed, struct lcpfs_failure *failure)
{
	uint8_t used[(BASE + TOTAL * METASLAB_BLOCKS) / 8 + 1] = {0};
	struct store_walk walk = {.data = true, .after_crash = true};
	int error;
	struct store *store = open_it(bed, true, &error, failure);

	if (store) {
		(void)!store_check(store, used, &walk);
		store_abandon(store);
	}
	return error;
}

static void try_change(const struct change *change)
{
	struct lcpfs_failure failure;
	struct store *store;
	struct bed bed;
	int error;

	bed_make(&bed);
	change->make(&bed);
	put(&bed, change->place);
	error = check(&bed, &failure);
	if (error != change->error)
		fail_msg("%s: check says %d (%s), not %d", change->name, error, failure.message, change->error);
	store = open_it(&bed, false, &error, &failure);
	if (error != change->error || (error && !strstr(failure.message, "hostile")))
		fail_msg("%s: opening says %d (%s), not %d", change->name, error, failure.message, change->error);
	if (store)
		use(store);
	vdev_close(bed.vdev);
}

static void what_contradicts_itself_is_refused(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_LENGTH(changes); i++)
		try_change(&changes[i]);
}

/* Each allocation of opening fails: that, or what is wrong with it, is said. */
static void without_memory(const struct change *change)
{
	struct alloc_front front;
	struct store *store;
	struct bed bed;
	bool failed = true;

	bed_make(&bed);
	change->make(&bed);
	put(&bed, change->place);
	alloc_front_init(&front, bed.vdev);
	bed.config.vdev = &front.vdev;
	bed.config.read_only = true;
	for (uint64_t at = 0; failed; at++) {
		alloc_fail(at, false);
		int error = ALLOC_ARMED(store_open(&bed.config, metaslabs, OWNED, &store, NULL));
		failed = alloc_failed();
		alloc_work();
		if (error != change->error && !(failed && error == -LCPFS_E_NOMEM))
			fail_msg("%s, allocation %d: opening says %d", change->name, (int)at, error);
		if (!error)
			store_abandon(store);
	}
	vdev_close(bed.vdev);
}

static void without_memory_it_is_refused_too(void **state)
{
	(void)state;
	for (unsigned i = 0; i < ARRAY_LENGTH(changes); i++)
		without_memory(&changes[i]);
}

static void unchanged_it_opens(void **state)
{
	struct lcpfs_failure failure;
	struct bed bed;

	(void)state;
	bed_make(&bed);
	put(&bed, IN_SPACE);
	put(&bed, IN_RECORD);
	assert_int_equal(check(&bed, &failure), 0);
	use(must_open(&bed));
	vdev_close(bed.vdev);
}

/* -- a large one -- */

enum { MANY = 700 };

static void add_empty_leaves(struct fmt_page *inner, const struct bed *bed, unsigned pages)
{
	static struct fmt_page leaf;
	uint64_t first = BASE + (uint64_t)(OWNED - 1) * METASLAB_BLOCKS;

	for (unsigned i = 0; i < pages; i++) {
		leaf = (struct fmt_page){.tree = TREE_SPACE, .index = le64_of(i)};
		fmt_seal(&leaf, FMT_PAGE, GUID, PARTITION, 0);
		inner->child[i] = (struct fmt_pointer){{le64_of(first + i), le64_of(first + i)}, leaf.head.checksum};
		assert_int_equal(vdev_write(bed->vdev, (first + i) << BLOCK_SHIFT, &leaf, BLOCK_SIZE), 0);
	}
}

/* Memory stays bounded by the pool's size, whatever the tree says. */
static void a_space_tree_with_too_many_pages_is_refused(void **state)
{
	struct lcpfs_failure failure;
	struct bed bed;

	(void)state;
	bed_make(&bed);
	bed.space = (struct fmt_page){.head = bed.space.head, .tree = TREE_SPACE, .level = 1};
	add_empty_leaves(&bed.space, &bed, 12);
	bed.root.space.levels = le32_of(2);
	bed.root.position[0].metaslab = le32_of(OWNED - 2); /* where no record is: nothing else is wrong */
	put(&bed, IN_SPACE);
	assert_int_equal(check(&bed, &failure), CORRUPT);
	vdev_close(bed.vdev);
}

static void a_space_tree_of_two_levels_is_read(void **state)
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
	write_blocks(store, 0, MANY * METASLAB_BLOCKS / 3, 9);
	assert_int_equal(store_close(store), 0);
	assert_int_equal(vdev_read(vdev, 1 << BLOCK_SHIFT, &root, sizeof(root)), 0);
	assert_int_equal(le32_get(root.space.levels), 2);
	assert_int_equal(store_open(&config, owned, MANY, &store, NULL), 0);
	for (uint64_t block = 0; block < MANY * METASLAB_BLOCKS / 3; block += 97) {
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
	const struct fmt_record *later; /* what lies there when it is read again */
	unsigned reads[2];
};

static void fickle_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	struct fickle *fickle = (struct fickle *)vdev;

	fickle->behind->ops->submit(fickle->behind, ios, count);
	for (struct vdev_io *io = ios; io < ios + count; io++) {
		uint64_t copy = (io->offset >> BLOCK_SHIFT) - fickle->block;

		if (io->op == VDEV_READ && copy < 2 && io->length == BLOCK_SIZE && fickle->reads[copy]++)
			memcpy(io->buffer, fickle->later, BLOCK_SIZE);
	}
}

static int fickle_flush(struct vdev *vdev)
{
	return vdev_flush(((struct fickle *)vdev)->behind);
}

/* The log is read twice, and the second time nothing is taken for granted because of the first. */
static void a_link_to_others_that_comes_later_is_refused(void **state)
{
	static const struct vdev_ops ops = {.submit = fickle_submit, .flush = fickle_flush};
	struct lcpfs_failure failure;
	struct fickle fickle;
	struct bed bed;
	int error;

	(void)state;
	bed_make(&bed);
	record_next_gone(&bed);
	seal(&bed.record, FMT_RECORD);
	fickle = (struct fickle){.vdev = {.ops = &ops, .size_bytes = bed.vdev->size_bytes, .name = "fickle"},
				 .behind = bed.vdev, .block = le64_get(bed.record.place), .later = &bed.record};
	bed.config.vdev = &fickle.vdev;
	assert_null(open_it(&bed, false, &error, &failure));
	assert_int_equal(error, CORRUPT);
	assert_int_equal(fickle.reads[0], 2);
	vdev_close(bed.vdev);
}

/* -- a broken chain -- */

static uint64_t moving_us;

static uint64_t moving_time(void *context)
{
	(void)context;
	return moving_us;
}

static void write_and_let_rest(struct store *store, uint64_t first, unsigned count)
{
	write_blocks(store, first, count, 1);
	moving_us += 2 * IDLE_SEAL_US;
	assert_int_equal(store_step(store), 1);
}

/*
 * What was flushed is known from a header far behind the damaged one: that in between was sealed before the flush.
 */
static void a_damaged_header_that_a_far_one_confirms_is_told(void **state)
{
	enum { LARGE = 512, COUNT = 8 };
	static const struct clock clock = {.now_us = moving_time, .wall_s = no_time};
	struct vdev *vdev = vdev_memory_new((uint64_t)(BASE + COUNT * LARGE) << BLOCK_SHIFT);
	struct store_config config = {.vdev = vdev, .clock = &clock, .guid = GUID, .partition = PARTITION, .name = "far",
				      .metaslab_base = BASE, .metaslab_blocks = LARGE, .metaslab_count = COUNT,
				      .root_block = {{1, 2}, {3, 4}}};
	struct lcpfs_failure failure = {0};
	struct store *store;
	uint8_t rot[2 * BLOCK_SIZE] = {1};

	(void)state;
	assert_int_equal(store_format(&config, VOLUME_BLOCKS, metaslabs, COUNT), 0);
	assert_int_equal(store_open(&config, metaslabs, COUNT, &store, NULL), 0);
	uint64_t block = space_first_block(&store->space, store->head[0].metaslab) + store->head[0].offset;
	write_and_let_rest(store, 0, 10);
	write_and_let_rest(store, 100, RECORD_ENTRIES);
	assert_int_equal(store_flush(store, NULL), 0);
	moving_us += 2 * CONFIRM_US;
	assert_int_equal(store_step(store), 1);
	store_abandon(store);
	assert_int_equal(vdev_write(vdev, block << BLOCK_SHIFT, rot, sizeof(rot)), 0);
	assert_int_equal(store_open(&config, metaslabs, COUNT, &store, &failure), CORRUPT);
	assert_non_null(strstr(failure.message, "was flushed and is damaged in both copies"));
	vdev_close(vdev);
}

/* -- what a field claims costs nothing -- */

/* The volume as long as can be, its trees empty, and a log of trims of all of it. */
static void claim_to_be_huge(struct bed *bed)
{
	const uint64_t blocks = UINT64_C(1) << 40;
	struct store trees = {0};
	tree_init(&trees, blocks);
	bed->root.volume_blocks = le64_of(blocks);
	bed->root.table = (struct fmt_tree_root){.levels = le32_of(trees.tree[TREE_TABLE - 1].levels)};
	bed->root.volume = (struct fmt_tree_root){.levels = le32_of(trees.tree[TREE_VOLUME - 1].levels)};
	bed->root.space = (struct fmt_tree_root){0};
	bed->root.id_end = bed->root.data_blocks = bed->root.page_count = le64_of(0);
	bed->record.blocks = le16_of(0);
	bed->record.head.count = le32_of(RECORD_ENTRIES);
	for (uint64_t i = 0; i < RECORD_ENTRIES; i++)
		bed->record.entry[i] = fmt_entry_of(ENTRY_TRIM, i % 3, blocks - i % 3, 0);
	put(bed, IN_ROOT);
	put(bed, IN_RECORD);
}

static void trims_of_a_volume_that_claims_to_be_huge_end(void **state)
{
	struct lcpfs_failure failure;
	struct bed bed;
	int error;
	(void)state;
	bed_make(&bed);
	claim_to_be_huge(&bed);
	alarm(100); /* it took hours */
	struct store *store = open_it(&bed, true, &error, &failure);
	alarm(0);
	if (error)
		fail_msg("%s", failure.message);
	store_abandon(store);
	vdev_close(bed.vdev);
}

enum { ADDRESSES = 20000, CLEARED_ROUNDS = 200000 };

/* Against one bit for each address: never clear what is not; all that is, as long as nothing had to be forgotten.
 */
static void what_is_clear_is_known_to_be(void **state)
{
	static struct cleared cleared;
	static bool clear[ADDRESSES];
	uint64_t seed = 1, found = 0;
	(void)state;
	for (unsigned round = 0; round < CLEARED_ROUNDS; round++) {
		seed = hash_mix(seed);
		uint64_t begin = seed % ADDRESSES, length = round % 7 ? seed >> 32 & 3 : seed >> 40 & 2047;
		uint64_t end = MIN_OF(begin + length, (uint64_t)ADDRESSES), at = begin, from, to;
		if (round % 3 == 0) {
			cleared_remove(&cleared, begin);
			clear[begin] = false;
		}
		for (; cleared_gap(&cleared, at, end, &from, &to); at = to) {
			assert_true(at <= from && from < to && to <= end);
			for (uint64_t i = at; i < from; i++)
				assert_true(clear[i]);
		}
		for (uint64_t i = at; i < end; i++, found++)
			assert_true(clear[i]);
		if (end > begin)
			cleared_add(&cleared, begin, end);
		memset(clear + begin, true, end - begin);
		assert_true(cleared.count <= CLEARED_RANGES_MAX);
	}
	assert_true(found > CLEARED_ROUNDS);
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(unchanged_it_opens),
					   cmocka_unit_test(trims_of_a_volume_that_claims_to_be_huge_end),
					   cmocka_unit_test(what_is_clear_is_known_to_be),
					   cmocka_unit_test(what_contradicts_itself_is_refused),
					   cmocka_unit_test(without_memory_it_is_refused_too),
					   cmocka_unit_test(a_link_to_others_that_comes_later_is_refused),
					   cmocka_unit_test(a_space_tree_with_too_many_pages_is_refused),
					   cmocka_unit_test(a_space_tree_of_two_levels_is_read),
					   cmocka_unit_test(a_damaged_header_that_a_far_one_confirms_is_told)};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
