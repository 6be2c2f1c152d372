/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The bytes of each on-disk struct against golden vectors (tests/golden: NAME.bin and what fmt_to_text says of it
 * in NAME.txt), and what becomes of a block when any of its bytes changes.
 *
 * A vector gives every field another value, so that a field that moves, changes its width or is forgotten shows.
 * LCPFS_GOLDEN_WRITE=1 writes them anew: only for a new format version.
 */
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <cmocka.h>

#include "base/hash.h"
#include "format/format.h"

enum { GUID_PARTITION = 7, COUNT = 3, WORDS = 29, SNAPSHOT_WORDS = 7, CLONE_WORDS = 4 };
static const uint64_t guid = 0x1122334455667788;

union block {
	uint8_t bytes[BLOCK_SIZE];
	struct fmt_head head;
	struct fmt_label label;
	struct fmt_lease lease;
	struct fmt_uberblock uberblock;
	struct fmt_map map;
	struct fmt_partition partition;
	struct fmt_blob blob;
	struct fmt_samples samples;
	struct fmt_history history;
	struct fmt_root root;
	struct fmt_record record;
	struct fmt_page page;
	struct fmt_snapshots snapshots;
};

struct values {
	uint64_t last;
};

static uint64_t next(struct values *v)
{
	return v->last += 0x0101;
}

static le64 next64(struct values *v)
{
	return le64_of(next(v) | UINT64_C(0xf1) << 56);
}

static le32 next32(struct values *v)
{
	return le32_of((uint32_t)next(v) | 0xe1u << 24);
}

static le16 next16(struct values *v)
{
	return le16_of((uint16_t)next(v));
}

static struct fmt_features next_features(struct values *v)
{
	le64 first = next64(v), second = next64(v);
	return (struct fmt_features){first, second, next64(v)};
}

static struct fmt_device next_device(struct values *v)
{
	struct fmt_device device = {.guid = next64(v)};
	device.blocks = next64(v);
	device.metaslab_first = next32(v);
	device.metaslab_count = next32(v);
	return device;
}

static void fill_label(union block *b, struct values *v)
{
	struct fmt_label *l = &b->label;
	l->features = next_features(v);
	l->device_blocks = next64(v);
	l->area_blocks = next64(v);
	l->metaslab_base = next64(v);
	l->metaslab_blocks = next32(v);
	l->metaslab_count = next32(v);
	l->partition_slots = next32(v);
	l->map_pages = next32(v);
	l->engine_pages = next32(v);
	l->history_pages = next32(v);
	l->created_s = next64(v);
	l->device_guid = next64(v);
	l->device_index = next32(v);
	l->device_count = next32(v);
	l->metaslab_first = next32(v);
	memset(l->mbr, 0xc3, sizeof(l->mbr));
	l->mbr_magic[0] = 0x55;
	l->mbr_magic[1] = 0xaa;
	l->device[0] = next_device(v);
	l->device[LABEL_DEVICES - 1] = next_device(v);
}

static void fill_lease(union block *b, struct values *v)
{
	b->lease.pid = next64(v);
	strcpy((char *)b->lease.control_path, "/run/lcpfs/control");
	strcpy((char *)b->lease.nbd_path, "/run/lcpfs/nbd");
	memset(b->lease.owner, 0xa1, sizeof(b->lease.owner));
	b->lease.count = next64(v);
	b->lease.renew_ms = next32(v);
	b->lease.is_local = next32(v);
	memset(b->lease.boot, 0xb2, sizeof(b->lease.boot));
	b->lease.pid_namespace = next64(v);
	b->lease.process = next64(v);
	b->lease.start = next64(v);
	b->lease.device = next64(v);
	b->lease.inode = next64(v);
	b->lease.offset = next64(v);
	strcpy((char *)b->lease.host, "machine");
}

static void fill_uberblock(union block *b, struct values *v)
{
	struct fmt_uberblock *u = &b->uberblock;
	u->txg = next64(v);
	u->time_s = next64(v);
	u->partition_next = next32(v);
	u->page_count = le32_of(20);
	u->history_next = next64(v);
	u->tune_mode = next32(v);
	u->open = next32(v);
	u->scrub_s = next64(v);
	u->scrub_found = next64(v);
	u->scrub_repaired = next64(v);
	u->read_errors = next64(v);
	u->slot_map[0] = 0xa5;
	u->slot_map[1] = 0x5a;
	u->slot_map[2047] = 0x80;
}

static void fill_uberblock_with_settings(union block *b, struct values *v)
{
	fill_uberblock(b, v);
	b->uberblock.cache_bytes = next64(v);
	b->uberblock.alarm_percent = next32(v);
}

static void fill_pool_page(struct fmt_pool_page *p, struct values *v)
{
	p->txg = next64(v);
	p->page = next32(v);
}

static void fill_map(union block *b, struct values *v)
{
	fill_pool_page(&b->map.page, v);
	b->map.owner[0] = b->map.owner[1] = next32(v);
	b->map.owner[2] = next32(v);
	b->map.owner[MAP_ENTRIES - 1] = next32(v);
}

static void fill_partition(union block *b, struct values *v)
{
	struct fmt_partition *p = &b->partition;
	fill_pool_page(&p->page, v);
	memset(p->name, 'n', PARTITION_NAME_MAX);
	p->min_blocks = next64(v);
	p->max_blocks = next64(v);
	p->volume_blocks = next64(v);
	p->created_s = next64(v);
	p->min_data_blocks = next64(v);
	p->max_data_blocks = next64(v);
	p->volume_bytes = next64(v);
	p->when_full_wait_s = next32(v);
	p->features = next_features(v);
}

/* Fields that came later. */
static void fill_partition_that_receives(union block *b, struct values *v)
{
	struct fmt_partition *p = &b->partition;
	fill_partition(b, v);
	p->receive = (struct fmt_receive){next64(v), next64(v), next64(v), {next64(v), next64(v)}};
}

static void fill_partition_that_is_promoted(union block *b, struct values *v)
{
	struct fmt_partition *p = &b->partition;
	fill_partition(b, v);
	p->promotion.clone = next32(v);
	strcpy((char *)p->promotion.partition, "what-it-was");
	strcpy((char *)p->promotion.name, "another-name");
}

static void fill_blob(union block *b, struct values *v)
{
	fill_pool_page(&b->blob.page, v);
	b->blob.bytes[0] = 1;
	b->blob.bytes[BLOB_BYTES - 1] = 2;
}

static void fill_samples(union block *b, struct values *v)
{
	float value = 1.5;
	uint32_t bits;
	memcpy(&bits, &value, sizeof(bits));
	fill_pool_page(&b->samples.page, v);
	b->samples.count = le32_of(SAMPLES);
	for (unsigned i = 0; i < SAMPLES; i += SAMPLES - 1) {
		struct fmt_sample *s = &b->samples.sample[i];
		s->time_s = next64(v);
		s->span_s = next32(v);
		s->partition = next32(v);
		s->metaslabs = next32(v);
		s->live = le32_of(bits);
		s->epsilon = le32_of(bits + (1 << 23));
		s->written = le32_of(bits + (2 << 23));
		s->device = le32_of(bits + (3 << 23));
	}
}

static void fill_history(union block *b, struct values *v)
{
	double value = 1.5;
	uint64_t bits;
	fill_pool_page(&b->history.page, v);
	memcpy(&bits, &value, sizeof(bits));
	for (unsigned i = 0; i < HISTORY_ENTRIES; i += HISTORY_ENTRIES - 1) {
		struct fmt_history_entry *e = &b->history.entry[i];
		e->time_s = next64(v);
		e->number = next64(v);
		e->kind = next32(v);
		e->from = next32(v);
		e->to = next32(v);
		e->metaslabs = next32(v);
		e->duration_us = next64(v);
		for (unsigned k = 0; k < 12; k++)
			e->value[k] = le64_of(bits + ((uint64_t)k << 44));
		strcpy((char *)e->text, "because ε falls");
	}
}

static struct fmt_check next_check(struct values *v)
{
	return (struct fmt_check){next64(v), next64(v)};
}

static struct fmt_pointer next_pointer(struct values *v)
{
	return (struct fmt_pointer){{next64(v), next64(v)}, next_check(v)};
}

static void fill_tree(struct fmt_tree_root *t, struct values *v)
{
	t->top = next_pointer(v);
	t->levels = next32(v);
}

static void fill_position(struct fmt_position *p, struct values *v)
{
	p->metaslab = next32(v);
	p->offset = next32(v);
}

static void fill_volumes(struct fmt_root *r, struct values *v)
{
	for (unsigned i = 0; i < ROOT_VOLUMES; i++) {
		struct fmt_volume *u = &r->volume[i];
		u->root = next64(v);
		u->levels = next32(v);
		u->birth = next32(v);
		u->blocks = next64(v);
		u->origin = next64(v);
	}
}

static void fill_regions(struct fmt_root *r, struct values *v)
{
	for (unsigned i = 0; i < REGIONS; i++) {
		r->region[i].seq = next64(v);
		r->region[i].chain = next64(v);
		for (unsigned k = 0; k < LOG_HEADS; k++)
			fill_position(&r->region[i].position[k], v);
	}
}

static void fill_root(union block *b, struct values *v)
{
	struct fmt_root *r = &b->root;
	r->generation = next64(v);
	r->epoch = next64(v);
	r->epoch_seq = next64(v);
	r->seq = next64(v);
	r->durable = next64(v);
	r->id_end = next64(v);
	r->data_blocks = next64(v);
	r->page_blocks = next64(v);
	r->table_pages = next64(v);
	r->written = next64(v);
	r->birth = next32(v);
	r->region_shift = next32(v);
	fill_position(&r->table_position, v);
	fill_tree(&r->table, v);
	fill_tree(&r->space, v);
	fill_volumes(r, v);
	for (unsigned i = 0; i < ARRAY_LENGTH(r->counter); i++)
		r->counter[i] = next64(v);
	fill_regions(r, v);
}

static void fill_record_head(struct fmt_record *r, struct values *v)
{
	r->seq = next64(v);
	r->previous = next64(v);
	r->durable = next64(v);
	r->place = next64(v);
	r->epoch = next64(v);
	r->written = next64(v);
	r->next = next32(v);
	r->birth = next32(v);
	r->blocks = next16(v);
	r->log_head = 2;
}

/* One entry of each kind. */
static const struct entry entries[] = {
	{.kind = ENTRY_WRITE,
	 .count = 2,
	 .blocks = 2,
	 .id = 0x123456789abc,
	 .volume = 0xabcdef,
	 .address = 0x9876543210},
	{.kind = ENTRY_OVERWRITE, .count = 3, .blocks = 3, .id = 0x0203},
	{.kind = ENTRY_MOVE, .count = 255, .blocks = 255, .id = 0x0304},
	{.kind = ENTRY_LOST, .count = 1, .blocks = 1, .id = 0x0405},
	{.kind = ENTRY_TRIM, .id = 0x0506, .volume = 1, .address = 0x1122334455, .length = 0x8123456789abcdef},
	{.kind = ENTRY_FREE, .count = 4, .id = 0x0607},
	{.kind = ENTRY_PAGE,
	 .count = 1,
	 .blocks = 1,
	 .id = 0x0708,
	 .volume = 1,
	 .address = 0x0708090a,
	 .level = 4},
	{.kind = ENTRY_VANISH, .count = 2, .id = 0x0809, .volume = 1, .address = 0x08090a0b, .level = 3},
	{.kind = ENTRY_HEAD, .id = NO_METASLAB, .address = 2},
	{.kind = ENTRY_LEAVE, .volume = 1, .address = 0x0a0b0c0d, .level = 2},
	{.kind = ENTRY_VOLUME, .id = 0x0b0c, .volume = 1, .level = 3},
	{.kind = ENTRY_DROP, .count = 2, .id = 0x0c0e},
	{.kind = ENTRY_CLONE, .id = 0x0d0e, .volume = 0x0d0e0f, .level = 5, .length = 0x0d0e0f1011},
};

static bool has_checks(const struct entry *e)
{
	return e->kind == ENTRY_WRITE || e->kind == ENTRY_OVERWRITE || e->kind == ENTRY_PAGE;
}

/* With its checks; the word behind it. */
static unsigned put_entry(struct fmt_record *r, unsigned at, const struct entry *e, struct values *v)
{
	le64 *w = fmt_entry_put(r, at, e);
	for (unsigned i = 0; has_checks(e) && i < 2 * e->count; i++)
		*w++ = next64(v);
	assert_int_equal(w - &r->word[at], fmt_entry_words(e->kind, e->count));
	return (unsigned)(w - r->word);
}

static void fill_entries(struct fmt_record *r, size_t first, size_t end, unsigned wanted, struct values *v)
{
	unsigned words = 0;
	fill_record_head(r, v);
	for (size_t i = first; i < end; i++)
		words = put_entry(r, words, &entries[i], v);
	assert_int_equal(words, wanted);
	r->word[RECORD_WORDS - 1] = next64(v);
}

static void fill_record(union block *b, struct values *v)
{
	fill_entries(&b->record, 0, ENTRY_HEAD, WORDS, v);
}

/* Entries that came with snapshots. */
static void fill_record_of_snapshots(union block *b, struct values *v)
{
	fill_entries(&b->record, ENTRY_HEAD, ENTRY_DROP, SNAPSHOT_WORDS, v);
}

static void fill_record_of_clones(union block *b, struct values *v)
{
	fill_entries(&b->record, ENTRY_DROP, ARRAY_LENGTH(entries), CLONE_WORDS, v);
}

static void fill_root_with_clones(union block *b, struct values *v)
{
	fill_root(b, v);
	for (unsigned i = 0; i < CLONES_MAX; i += CLONES_MAX - 1) {
		b->root.clone[i].number = next32(v);
		b->root.clone[i].volume =
			(struct fmt_volume){next64(v), next32(v), next32(v), next64(v), next64(v)};
	}
}

static void fill_snapshots(union block *b, struct values *v)
{
	b->snapshots.index = next64(v);
	for (unsigned i = 0; i < SNAPSHOT_SLOTS; i += SNAPSHOT_SLOTS - 1) {
		struct fmt_snapshot *n = &b->snapshots.slot[i];
		n->number = next32(v);
		n->state = SNAPSHOT_DYING;
		n->volume = (struct fmt_volume){next64(v), next32(v), next32(v), next64(v), next64(v)};
		n->created_s = next64(v);
		strcpy(n->name, i ? "daily-2" : "before.upgrade");
	}
}

/* A field that came later. */
static void fill_snapshots_with_guids(union block *b, struct values *v)
{
	fill_snapshots(b, v);
	b->snapshots.slot[0].guid = next64(v);
}

static void fill_page_head(union block *b, enum fmt_tree tree, uint8_t level, struct values *v)
{
	b->page.generation = next64(v);
	b->page.tree = (uint8_t)tree;
	b->page.level = level;
	b->page.index = next64(v);
}

static void fill_node(union block *b, struct values *v)
{
	fill_page_head(b, TREE_TABLE, 1, v);
	b->page.child[1] = next_pointer(v);
	b->page.child[TABLE_SLOTS - 1] = next_pointer(v);
}

static void fill_table(union block *b, struct values *v)
{
	fill_page_head(b, TREE_TABLE, 0, v);
	for (unsigned i = 0; i < TABLE_SLOTS; i += TABLE_SLOTS - 1)
		b->page.block[i] =
			(struct fmt_block){next64(v), next_check(v), next32(v), next16(v), BLOCK_VOLUME_PAGE, 3};
}

static void fill_space(union block *b, struct values *v)
{
	fill_page_head(b, TREE_SPACE, 0, v);
	for (unsigned i = 0; i < SPACE_SLOTS; i += SPACE_SLOTS - 1)
		b->page.space[i] = (struct fmt_space){next32(v), next32(v), next64(v)};
}

static const struct vector {
	const char *name;
	enum fmt_kind kind;
	void (*fill)(union block *block, struct values *v);
	uint32_t count;
} vectors[] = {
	{"label", FMT_LABEL, fill_label, COUNT},
	{"lease", FMT_LEASE, fill_lease, COUNT},
	{"uberblock", FMT_UBERBLOCK, fill_uberblock, COUNT},
	{"map", FMT_MAP, fill_map, COUNT},
	{"partition", FMT_PARTITION, fill_partition, COUNT},
	{"engine", FMT_ENGINE, fill_blob, COUNT},
	{"samples", FMT_ENGINE, fill_samples, 0},
	{"history", FMT_HISTORY, fill_history, COUNT},
	{"root", FMT_ROOT, fill_root, COUNT},
	{"record", FMT_RECORD, fill_record, WORDS},
	{"page_node", FMT_PAGE, fill_node, COUNT},
	{"page_table", FMT_PAGE, fill_table, COUNT},
	{"page_space", FMT_PAGE, fill_space, COUNT},
	{"record_snapshots", FMT_RECORD, fill_record_of_snapshots, SNAPSHOT_WORDS},
	{"snapshots", FMT_SNAPSHOTS, fill_snapshots, COUNT},
	{"partition_receiving", FMT_PARTITION, fill_partition_that_receives, COUNT},
	{"snapshots_guid", FMT_SNAPSHOTS, fill_snapshots_with_guids, COUNT},
	{"record_clones", FMT_RECORD, fill_record_of_clones, CLONE_WORDS},
	{"root_clones", FMT_ROOT, fill_root_with_clones, COUNT},
	{"partition_promoting", FMT_PARTITION, fill_partition_that_is_promoted, COUNT},
	{"uberblock_settings", FMT_UBERBLOCK, fill_uberblock_with_settings, COUNT},
};

static void make(const struct vector *vector, union block *block)
{
	struct values values = {0};
	memset(block, 0, sizeof(*block));
	vector->fill(block, &values);
	fmt_seal(block, vector->kind, guid, GUID_PARTITION, vector->count);
}

static FILE *golden(const char *name, const char *suffix, const char *mode)
{
	const char *folder = getenv("LCPFS_GOLDEN");
	char path[4096];
	FILE *file;

	snprintf(path, sizeof(path), "%s/%s.%s", folder ? folder : "tests/golden", name, suffix);
	file = fopen(path, mode);
	if (!file)
		fail_msg("%s cannot be opened", path);
	return file;
}

static void compare(const char *name, const char *suffix, const void *bytes, size_t length)
{
	static char wanted[1 << 16];
	FILE *file;

	if (getenv("LCPFS_GOLDEN_WRITE")) {
		file = golden(name, suffix, "wb");
		assert_int_equal(fwrite(bytes, 1, length, file), length);
		fclose(file);
	}
	file = golden(name, suffix, "rb");
	size_t got = fread(wanted, 1, sizeof(wanted), file);
	fclose(file);
	if (got != length || memcmp(wanted, bytes, length))
		fail_msg("%s.%s differs from what is made today", name, suffix);
}

static void blocks_are_as_in_the_golden_vectors(void **state)
{
	union block block;
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(vectors); i++) {
		make(&vectors[i], &block);
		compare(vectors[i].name, "bin", &block, sizeof(block));
	}
}

static void blocks_in_words_are_as_in_the_golden_vectors(void **state)
{
	union block block;
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(vectors); i++) {
		struct text text = TEXT_INIT;
		make(&vectors[i], &block);
		fmt_to_text(&block, &text);
		compare(vectors[i].name, "txt", text_get(&text), strlen(text_get(&text)));
		text_free(&text);
	}
}

static void sealed_blocks_are_good_for_whom_they_are_meant(void **state)
{
	union block block;
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(vectors); i++) {
		enum fmt_kind kind = vectors[i].kind, other = kind == FMT_LABEL ? FMT_ROOT : FMT_LABEL;
		make(&vectors[i], &block);
		assert_int_equal(fmt_verify(&block, kind, guid, GUID_PARTITION), FMT_GOOD);
		assert_int_equal(fmt_verify(&block, kind, 0, UINT32_MAX), FMT_GOOD);
		assert_int_equal(fmt_verify(&block, kind, guid + 1, GUID_PARTITION), FMT_OTHER);
		assert_int_equal(fmt_verify(&block, kind, guid, GUID_PARTITION + 1), FMT_OTHER);
		assert_int_equal(fmt_verify(&block, kind, guid, 0), FMT_OTHER);
		assert_int_equal(fmt_verify(&block, other, guid, GUID_PARTITION), FMT_OTHER);
		assert_int_equal(le32_get(block.head.count), vectors[i].count);
		assert_true(fmt_checksum_of(&block) != 0);
	}
}

static void every_changed_byte_is_found(void **state)
{
	union block block;
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(vectors); i++) {
		make(&vectors[i], &block);
		for (unsigned at = 0; at < BLOCK_SIZE; at++) {
			uint8_t was = block.bytes[at];
			block.bytes[at] ^= (uint8_t)(1u << at % 8);
			assert_int_not_equal(fmt_verify(&block, vectors[i].kind, guid, GUID_PARTITION), FMT_GOOD);
			block.bytes[at] = was;
		}
		assert_int_equal(fmt_verify(&block, vectors[i].kind, guid, GUID_PARTITION), FMT_GOOD);
	}
}

/* Text of anything must not read outside of the block: this is for the sanitizers, with seals that fit. */
static void hostile_blocks_can_be_put_in_words(void **state)
{
	union block block;
	(void)state;
	for (unsigned i = 0; i < 2000; i++) {
		struct text text = TEXT_INIT;
		uint64_t seed = hash_mix(i);
		for (unsigned at = 0; at < BLOCK_SIZE; at += 8, seed = hash_mix(seed + 1)) {
			uint64_t word = i % 2 ? seed : UINT64_MAX;
			memcpy(block.bytes + at, &word, 8);
		}
		if (i % 8 < 6)
			fmt_seal(&block, (enum fmt_kind)(i % (FMT_KIND_END + 2)), seed, (uint32_t)seed,
				 (uint32_t)(seed >> 32));
		fmt_to_text(&block, &text);
		assert_false(text.failed);
		assert_true(strlen(text_get(&text)) > 0);
		text_free(&text);
	}
}

static void what_is_not_a_block_is_told_apart(void **state)
{
	union block block;
	(void)state;
	memset(&block, 0, sizeof(block));
	assert_int_equal(fmt_verify(&block, FMT_LABEL, 0, 0), FMT_BLANK);
	block.bytes[BLOCK_SIZE - 1] = 1;
	assert_int_equal(fmt_verify(&block, FMT_LABEL, 0, 0), FMT_FOREIGN);
	memset(&block, 'x', sizeof(block));
	assert_int_equal(fmt_verify(&block, FMT_LABEL, 0, 0), FMT_FOREIGN);
	make(&vectors[0], &block);
	block.head.version = le16_of(FMT_VERSION + 1);
	assert_int_equal(fmt_verify(&block, FMT_LABEL, 0, GUID_PARTITION), FMT_DAMAGED);
	/* A newer version that is whole says so, rather than damaged. */
	block.head.checksum = le64_of(0);
	block.head.checksum = le64_of(hash64(&block, sizeof(block)));
	assert_int_equal(fmt_verify(&block, FMT_LABEL, 0, GUID_PARTITION), FMT_NEWER);
	block.head.version = le16_of(FMT_VERSION - 1);
	block.head.checksum = le64_of(0);
	block.head.checksum = le64_of(hash64(&block, sizeof(block)));
	assert_int_equal(fmt_verify(&block, FMT_LABEL, 0, GUID_PARTITION), FMT_OLDER);
}

/* -- what has no head, and entries -- */

static void a_volume_page_is_nothing_but_ids(void **state)
{
	struct fmt_volume_page page = {0};
	uint8_t bytes[BLOCK_SIZE] = {0x01, 0x02, 0x03, 0x04, 0x05, 0x06};
	(void)state;
	bytes[BLOCK_SIZE - 8] = 0xff;
	page.id[0] = le64_of(0x060504030201);
	page.id[VOLUME_SLOTS - 1] = le64_of(0xff);
	assert_memory_equal(&page, bytes, sizeof(bytes));
	assert_int_equal(FMT_ID_MASK, 0xffffffffffff);
}

static void assert_entry(const struct entry *is, const struct entry *wanted)
{
	assert_int_equal(is->kind, wanted->kind);
	assert_int_equal(is->count, wanted->count);
	assert_int_equal(is->blocks, wanted->blocks);
	assert_int_equal(is->id, wanted->id);
	assert_int_equal(is->volume, wanted->volume);
	assert_int_equal(is->address, wanted->address);
	assert_int_equal(is->length, wanted->length);
	assert_int_equal(is->level, wanted->level);
	assert_int_equal(is->check != NULL, has_checks(wanted));
}

/* Each is read as it was put, and its checks are where put said. */
static void entries_come_back_as_they_were_put(void **state)
{
	struct fmt_record record = {0};
	struct values values = {0}, again = {0};
	unsigned words = 0, at = 0;
	struct entry e;
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(entries); i++)
		words = put_entry(&record, words, &entries[i], &values);
	record.head.count = le32_of(words);
	for (size_t i = 0; i < ARRAY_LENGTH(entries); i++) {
		assert_true(fmt_entry_next(&record, &at, &e));
		assert_entry(&e, &entries[i]);
		for (unsigned k = 0; e.check && k < 2 * e.blocks; k++)
			assert_int_equal(le64_get(e.check[k]), le64_get(next64(&again)));
	}
	assert_int_equal(at, words);
	assert_false(fmt_entry_next(&record, &at, &e));
	assert_int_equal(at, words);
}

static struct entry random_entry(uint64_t seed)
{
	struct entry e = entries[seed % ARRAY_LENGTH(entries)];
	e.id = hash_mix(seed) & FMT_ID_MASK;
	if (e.kind <= ENTRY_LOST || e.kind == ENTRY_FREE)
		e.count = 1 + (unsigned)(seed >> 8) % 100;
	e.blocks = e.kind <= ENTRY_LOST ? e.count : e.blocks;
	if (e.kind == ENTRY_WRITE || (e.kind >= ENTRY_PAGE && e.kind != ENTRY_DROP) || e.kind == ENTRY_TRIM) {
		e.volume = (uint32_t)hash_mix(seed + 1) & 0xffffff;
		e.address = hash_mix(seed + 2) & 0xffffffffff;
	}
	e.length = e.kind == ENTRY_TRIM || e.kind == ENTRY_CLONE ? hash_mix(seed + 3) : 0;
	e.level = e.kind >= ENTRY_PAGE && e.kind != ENTRY_HEAD && e.kind != ENTRY_DROP
			  ? (unsigned)(seed >> 16 & 0xff)
			  : 0;
	return e;
}

/* A record filled to its last word, with whatever fits. */
static void a_record_of_any_entries_comes_back(void **state)
{
	struct entry put[RECORD_WORDS], e;
	(void)state;
	for (uint64_t round = 0; round < 2000; round++) {
		struct fmt_record record = {0};
		struct values values = {0};
		unsigned words = 0, count = 0, at = 0;
		for (uint64_t seed = hash_mix(round); words < RECORD_WORDS; seed = hash_mix(seed + 1)) {
			e = random_entry(seed);
			if (words + fmt_entry_words(e.kind, e.count) <= RECORD_WORDS)
				words = put_entry(&record, words, &e, &values), put[count++] = e;
		}
		record.head.count = le32_of(words);
		for (unsigned i = 0; i < count; i++) {
			assert_true(fmt_entry_next(&record, &at, &e));
			assert_entry(&e, &put[i]);
		}
		assert_int_equal(at, RECORD_WORDS);
		assert_false(fmt_entry_next(&record, &at, &e));
	}
}

static le64 first_word(unsigned kind, unsigned count)
{
	return le64_of(kind | (uint64_t)count << 8 | UINT64_C(77) << 16);
}

static bool makes_sense(unsigned kind, unsigned count)
{
	switch (kind) {
	case ENTRY_WRITE:
	case ENTRY_OVERWRITE:
	case ENTRY_MOVE:
	case ENTRY_LOST:
	case ENTRY_FREE:
		return count > 0;
	case ENTRY_TRIM:
	case ENTRY_HEAD:
	case ENTRY_LEAVE:
	case ENTRY_VOLUME:
	case ENTRY_CLONE:
		return count == 0;
	case ENTRY_PAGE:
		return count == 1;
	case ENTRY_VANISH:
	case ENTRY_DROP:
		return count == 2;
	default:
		return false;
	}
}

/* Every first word there can be, with room for all that may follow: as much as a record has. */
static void entries_that_make_no_sense_are_refused(void **state)
{
	struct fmt_record record = {.head.count = le32_of(RECORD_WORDS)};
	struct entry e;
	(void)state;
	for (unsigned kind = 0; kind <= UINT8_MAX; kind++) {
		for (unsigned count = 0; count <= UINT8_MAX; count++) {
			unsigned at = 0;
			bool good = makes_sense(kind, count);
			unsigned words = good ? fmt_entry_words((enum fmt_entry_kind)kind, count) : 0;
			record.word[0] = first_word(kind, count);
			assert_int_equal(fmt_entry_next(&record, &at, &e), good && words <= RECORD_WORDS);
			assert_int_equal(at, words <= RECORD_WORDS ? words : 0);
		}
	}
}

/* Wherever the record ends before the entry does; and a record that says that it is longer than a header. */
static void entries_that_are_cut_off_are_refused(void **state)
{
	struct fmt_record record = {0};
	struct values values = {0};
	struct entry e;
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(entries); i++) {
		unsigned words = put_entry(&record, 3, &entries[i], &values);
		for (unsigned end = 0; end < words; end++) {
			unsigned at = 3;
			record.head.count = le32_of(end);
			assert_false(fmt_entry_next(&record, &at, &e));
			assert_int_equal(at, 3);
		}
	}
	for (unsigned shift = 0; shift < 23; shift++) {
		unsigned at = 0;
		record.head.count = le32_of((RECORD_WORDS + 1) << shift);
		record.word[0] = first_word(ENTRY_FREE, 1);
		assert_false(fmt_entry_next(&record, &at, &e));
		assert_int_equal(at, 0);
	}
}

/* A level is bounded, not cut: what is no level must not become one. */
static void a_huge_level_does_not_wrap(void **state)
{
	struct fmt_record record = {.head.count = le32_of(5)};
	struct entry e;
	unsigned at = 0;
	(void)state;
	record.word[0] = first_word(ENTRY_PAGE, 1);
	record.word[2] = le64_of(UINT64_C(1) << 32);
	assert_true(fmt_entry_next(&record, &at, &e));
	assert_true(e.level >= VOLUME_LEVELS_MAX);
}

/*
 * Whatever words there are: reading them ends, within the record, and says nothing beyond what an entry can say.
 */
static void hostile_entries_stay_within_their_record(void **state)
{
	struct fmt_record record = {0};
	struct entry e;
	(void)state;
	for (uint64_t round = 0; round < 5000; round++) {
		unsigned at = 0, words = (unsigned)(hash_mix(round) % (RECORD_WORDS + 1));
		for (uint64_t i = 0; i < RECORD_WORDS; i++) {
			uint64_t word = hash_mix(round * RECORD_WORDS + i);
			record.word[i] = word % 3 ? first_word(word >> 8 & 15, word >> 16 & 7) : le64_of(word);
		}
		record.head.count = le32_of(words);
		for (unsigned before = at; fmt_entry_next(&record, &at, &e); before = at) {
			assert_true(at > before && at <= words);
			assert_true(e.id <= FMT_ID_MASK && e.blocks <= e.count && e.count <= UINT8_MAX);
			assert_true(!e.check || e.check + 2 * e.blocks == &record.word[at]);
		}
		assert_true(at <= words);
	}
}

static void checks_are_the_same_or_not(void **state)
{
	struct fmt_check a = {le64_of(1), le64_of(2)}, b = a;
	(void)state;
	assert_true(fmt_check_same(&a, &b));
	b.low = le64_of(3);
	assert_false(fmt_check_same(&a, &b));
	b = (struct fmt_check){a.low, le64_of(3)};
	assert_false(fmt_check_same(&a, &b));
}

static void every_byte_of_a_block_counts(void **state)
{
	static uint8_t block[BLOCK_SIZE];
	struct fmt_check check = fmt_check_of(block);
	(void)state;
	for (unsigned i = 0; i < BLOCK_SIZE; i++) {
		block[i] = 1;
		assert_false(fmt_check_fits(&check, block));
		block[i] = 0;
	}
	assert_true(fmt_check_fits(&check, block));
}

static void verdicts_and_kinds_have_words(void **state)
{
	(void)state;
	for (unsigned v = FMT_GOOD; v <= FMT_OTHER; v++)
		assert_string_not_equal(fmt_verdict_text((enum fmt_verdict)v), "unknown");
	for (unsigned k = FMT_LABEL; k < FMT_KIND_END; k++)
		assert_string_not_equal(fmt_kind_text(k), "unknown");
	assert_string_equal(fmt_kind_text(0), "unknown");
	assert_string_equal(fmt_kind_text(FMT_KIND_END), "unknown");
	assert_string_equal(fmt_kind_text(UINT32_MAX), "unknown");
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(blocks_are_as_in_the_golden_vectors),
		cmocka_unit_test(blocks_in_words_are_as_in_the_golden_vectors),
		cmocka_unit_test(sealed_blocks_are_good_for_whom_they_are_meant),
		cmocka_unit_test(every_changed_byte_is_found),
		cmocka_unit_test(hostile_blocks_can_be_put_in_words),
		cmocka_unit_test(what_is_not_a_block_is_told_apart),
		cmocka_unit_test(every_byte_of_a_block_counts),
		cmocka_unit_test(verdicts_and_kinds_have_words),
		cmocka_unit_test(a_volume_page_is_nothing_but_ids),
		cmocka_unit_test(entries_come_back_as_they_were_put),
		cmocka_unit_test(a_record_of_any_entries_comes_back),
		cmocka_unit_test(entries_that_make_no_sense_are_refused),
		cmocka_unit_test(entries_that_are_cut_off_are_refused),
		cmocka_unit_test(a_huge_level_does_not_wrap),
		cmocka_unit_test(hostile_entries_stay_within_their_record),
		cmocka_unit_test(checks_are_the_same_or_not),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
