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

enum { GUID_PARTITION = 7, COUNT = 3 };
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
	struct fmt_history history;
	struct fmt_root root;
	struct fmt_record record;
	struct fmt_page page;
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

static void fill_label(union block *b, struct values *v)
{
	struct fmt_label *l = &b->label;

	l->features = next64(v);
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
	l->vdev_count = next32(v);
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
}

static void fill_blob(union block *b, struct values *v)
{
	fill_pool_page(&b->blob.page, v);
	b->blob.bytes[0] = 1;
	b->blob.bytes[BLOB_BYTES - 1] = 2;
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

static void fill_tree(struct fmt_tree_root *t, struct values *v)
{
	t->top.place[0] = next64(v);
	t->top.place[1] = next64(v);
	t->top.checksum = next64(v);
	t->levels = next32(v);
}

static void fill_root(union block *b, struct values *v)
{
	struct fmt_root *r = &b->root;

	r->generation = next64(v);
	r->epoch = next64(v);
	r->seq = next64(v);
	r->chain = next64(v);
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		r->position[i].metaslab = next32(v);
		r->position[i].offset = next32(v);
	}
	fill_tree(&r->table, v);
	fill_tree(&r->volume, v);
	fill_tree(&r->space, v);
	r->volume_blocks = next64(v);
	r->id_end = next64(v);
	r->data_blocks = next64(v);
	r->page_count = next64(v);
	for (unsigned i = 0; i < 16; i++)
		r->counter[i] = next64(v);
}

static void fill_record(union block *b, struct values *v)
{
	struct fmt_record *r = &b->record;

	r->seq = next64(v);
	r->previous = next64(v);
	r->durable = next64(v);
	r->place = next64(v);
	r->next = next32(v);
	r->blocks = next16(v);
	r->log_head = 2;
	r->epoch = next64(v);
	r->entry[0] = fmt_entry_of(ENTRY_WRITE, 0x123456789a, next(v), next(v));
	r->entry[1] = fmt_entry_of(ENTRY_TRIM, 5, next(v), next(v));
	r->entry[2] = fmt_entry_of(ENTRY_LOST, 6, next(v), next(v));
	r->entry[RECORD_ENTRIES - 1] = fmt_entry_of(ENTRY_PAGE, 7, next(v), next(v));
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
	b->page.child[1] = (struct fmt_pointer){{next64(v), next64(v)}, next64(v)};
	b->page.child[PAGE_SLOTS - 1] = (struct fmt_pointer){{next64(v), next64(v)}, next64(v)};
}

static void fill_table(union block *b, struct values *v)
{
	fill_page_head(b, TREE_TABLE, 0, v);
	for (unsigned i = 0; i < PAGE_SLOTS; i += PAGE_SLOTS - 1)
		b->page.block[i] = (struct fmt_block){next64(v), next64(v), next32(v), next16(v), 1, 2};
}

static void fill_volume(union block *b, struct values *v)
{
	fill_page_head(b, TREE_VOLUME, 0, v);
	b->page.id[0] = next64(v);
	b->page.id[VOLUME_SLOTS - 1] = next64(v);
}

static void fill_space(union block *b, struct values *v)
{
	fill_page_head(b, TREE_SPACE, 0, v);
	for (unsigned i = 0; i < PAGE_SLOTS; i += PAGE_SLOTS - 1)
		b->page.space[i] = (struct fmt_space){next32(v), next32(v), next64(v), le64_of(0)};
}

static const struct vector {
	const char *name;
	enum fmt_kind kind;
	void (*fill)(union block *block, struct values *v);
} vectors[] = {
	{"label", FMT_LABEL, fill_label},
	{"lease", FMT_LEASE, fill_lease},
	{"uberblock", FMT_UBERBLOCK, fill_uberblock},
	{"map", FMT_MAP, fill_map},
	{"partition", FMT_PARTITION, fill_partition},
	{"engine", FMT_ENGINE, fill_blob},
	{"history", FMT_HISTORY, fill_history},
	{"root", FMT_ROOT, fill_root},
	{"record", FMT_RECORD, fill_record},
	{"page_node", FMT_PAGE, fill_node},
	{"page_table", FMT_PAGE, fill_table},
	{"page_volume", FMT_PAGE, fill_volume},
	{"page_space", FMT_PAGE, fill_space},
};

static void make(const struct vector *vector, union block *block)
{
	struct values values = {0};

	memset(block, 0, sizeof(*block));
	vector->fill(block, &values);
	fmt_seal(block, vector->kind, guid, GUID_PARTITION, COUNT);
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
	size_t got;

	if (getenv("LCPFS_GOLDEN_WRITE")) {
		file = golden(name, suffix, "wb");
		assert_int_equal(fwrite(bytes, 1, length, file), length);
		fclose(file);
	}
	file = golden(name, suffix, "rb");
	got = fread(wanted, 1, sizeof(wanted), file);
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
		assert_int_equal(le32_get(block.head.count), COUNT);
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
		cmocka_unit_test(verdicts_and_kinds_have_words),
	};

	return cmocka_run_group_tests(tests, NULL, NULL);
}
