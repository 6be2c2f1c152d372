/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pool metadata that is sealed and contradicts itself, or is older than its other copy: check finds it, opening
 * refuses or goes on without it, and what is added afterwards does not mix with it.
 */
#include "pool_fixture.h"

/* -- pages -- */

struct page_case {
	const char *name;
	void (*change)(struct fixture *f, struct txg *txg, struct fmt_partition *a);
	const char *fault; /* of partition a when it is opened; NULL: it works */
};

static void limits_swapped(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)f;
	(void)txg;
	a->max_blocks = le64_of(le64_get(a->min_blocks) - MB / BLOCK_SIZE);
}

static void min_uneven(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)f;
	(void)txg;
	a->min_blocks = le64_of(le64_get(a->min_blocks) - 1);
}

static void max_uneven(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)f;
	(void)txg;
	a->max_blocks = le64_of(le64_get(a->max_blocks) + 1);
}

static void max_too_small(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)f;
	(void)txg;
	a->min_blocks = a->max_blocks = le64_of(5 * MB / BLOCK_SIZE);
}

static void min_too_large(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)f;
	(void)txg;
	a->min_blocks = a->max_blocks = le64_of(UINT64_C(1) << 40);
}

static void volume_nothing(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)f;
	(void)txg;
	a->volume_blocks = le64_of(0);
}

static void volume_huge(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)f;
	(void)txg;
	a->volume_blocks = le64_of((UINT64_C(1) << 40) + 1);
}

static void volume_other(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)f;
	(void)txg;
	a->volume_blocks = le64_of(le64_get(a->volume_blocks) + 1);
	a->volume_bytes = le64_of(le64_get(a->volume_blocks) * BLOCK_SIZE);
}

static void volume_bytes_other(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)f;
	(void)txg;
	a->volume_bytes = le64_of(le64_get(a->volume_bytes) + 1);
}

static void data_limits_swapped(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)f;
	(void)txg;
	a->min_data_blocks = le64_of(le64_get(a->max_data_blocks) + 1);
}

static void waits_for_ever(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)f;
	(void)txg;
	a->when_full_wait_s = le32_of(LCPFS_WAIT_S_MAX + 1);
}

static void id_twice(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	struct fmt_partition *c = txg_change(txg, layout_partition_page(&f->pool->layout, 2));
	*c = *a;
	c->name[0] = 'x';
}

static void id_not_given_out(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)f;
	(void)a;
	txg->uberblock.partition_next = le32_of(1);
}

static void owner_of_tomorrow(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)a;
	for (uint32_t i = 1; i <= 3; i++)
		map_set(txg, f->pool->layout.metaslab_count - i, 3);
}

static void metaslabs_of_the_other(struct fixture *f, struct txg *txg, struct fmt_partition *a)
{
	(void)f;
	(void)a;
	for (uint32_t i = 0; i < 3; i++)
		map_set(txg, i, 2);
}

static const struct page_case page_cases[] = {
	{"limits swapped", limits_swapped, "limits"},
	{"min uneven", min_uneven, "limits"},
	{"max uneven", max_uneven, "limits"},
	{"max too small", max_too_small, NULL},
	{"min too large", min_too_large, NULL},
	{"volume nothing", volume_nothing, "volume"},
	{"volume huge", volume_huge, "volume"},
	{"volume other", volume_other, "disagree"},
	{"volume's bytes other", volume_bytes_other, "volume"},
	{"data limits swapped", data_limits_swapped, "asked for"},
	{"waits for ever", waits_for_ever, "asked for"},
	{"id twice", id_twice, NULL},
	{"id not given out", id_not_given_out, NULL},
	{"owner of tomorrow", owner_of_tomorrow, NULL},
	{"metaslabs of the other", metaslabs_of_the_other, "metaslabs"},
};

static void look_at(const struct page_case *c)
{
	struct lcpfs_partition *handle;
	struct fixture f;
	struct txg txg;
	fixture_new(&f, 32 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, LEAST, 8 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, LEAST, 8 * MB), 0);
	assert_int_equal(fixture_write(&f, "b", 0, 100, 1), 0);
	txg_begin(f.pool, &txg);
	c->change(&f, &txg, txg_change(&txg, layout_partition_page(&f.pool->layout, 0)));
	assert_int_equal(txg_commit(&txg, &f.failure), 0);
	pool_abandon(f.pool);
	f.pool = NULL;
	if (fixture_check(&f, false) == 0)
		fail_msg("check does not find: %s", c->name);
	assert_int_equal(fixture_open(&f, false), 0);
	if (c->fault) {
		struct part *a = f.pool->parts[0];
		assert_int_equal(lcpfs_partition_open(f.pool, a->name, &handle, &f.failure), -LCPFS_E_FAULTED);
		if (!strstr(f.failure.message, c->fault))
			fail_msg("%s: %s", c->name, f.failure.message);
	}
	fixture_expect(&f, "b", 0, 100, 1);
	/* A newcomer gets nothing of what is there already. */
	if (fixture_add(&f, "new", LEAST, LEAST, 8 * MB) == 0) {
		assert_int_equal(fixture_size(&f, "new"), LEAST);
		assert_int_equal(fixture_write(&f, "new", 0, 100, 2), 0);
		assert_true(fixture_info(&f, "new").id >= 3);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_open(&f, false), 0);
		fixture_expect(&f, "new", 0, 100, 2);
	} else if (!strstr(f.failure.message, "min of all")) {
		fail_msg("%s: %s", c->name, f.failure.message);
	}
	fixture_expect(&f, "b", 0, 100, 1);
	assert_int_equal(fixture_close(&f), 0);
	fixture_done(&f);
}

static void pages_that_contradict_are_contained(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(page_cases); i++)
		look_at(&page_cases[i]);
}

static void all_ids_can_be_given_out(void **state)
{
	static const struct {
		uint32_t next, owner, error;
	} cases[] = {{UINT32_MAX, 0, LCPFS_E_NOSPC}, {UINT32_MAX - 1, 0, 0}, {3, UINT32_MAX, LCPFS_E_NOSPC}};
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct fixture f;
		struct txg txg;
		fixture_new(&f, 32 * MB);
		txg_begin(f.pool, &txg);
		txg.uberblock.partition_next = le32_of(cases[i].next);
		map_set(&txg, f.pool->layout.metaslab_count - 1, cases[i].owner);
		assert_int_equal(txg_commit(&txg, &f.failure), 0);
		assert_int_equal(-fixture_add(&f, "a", LEAST, LEAST, 8 * MB), cases[i].error);
		if (cases[i].error)
			assert_non_null(strstr(f.failure.message, "all partition ids"));
		assert_int_equal(fixture_close(&f), 0);
		fixture_done(&f);
	}
}

/* -- uberblocks -- */

static uint64_t ring_block(const struct layout *l, unsigned copy, uint64_t txg)
{
	return layout_area_block(l, copy, AREA_UBERBLOCKS + txg % UBERBLOCK_SLOTS);
}

static void insane_uberblock(struct fmt_uberblock *u, unsigned which)
{
	if (which == 0)
		u->txg = le64_of(0);
	else if (which == 1)
		u->txg = le64_of(le64_get(u->txg) + (UINT64_C(1) << 62));
	else if (which == 2)
		u->txg = le64_of(le64_get(u->txg) + 1); /* not the one of this place */
	else if (which == 3)
		u->history_next = le64_of(UINT64_MAX);
	else if (which == 4)
		u->page_count = le32_of(le32_get(u->page_count) + 1);
	else if (which == 5)
		u->partition_next = le32_of(0);
	else
		u->tune_mode = le32_of(3);
}

static void insane_uberblocks_are_not_believed(void **state)
{
	(void)state;
	for (unsigned which = 0; which < 7; which++) {
		struct fixture f;
		fixture_new(&f, 32 * MB);
		assert_int_equal(fixture_add(&f, "a", LEAST, LEAST, 8 * MB), 0);
		assert_int_equal(fixture_write(&f, "a", 0, 100, 1), 0);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_open(&f, true), 0);
		struct layout l = f.pool->layout;
		uint64_t txg = le64_get(f.pool->uberblock.txg);
		struct fmt_uberblock u = f.pool->uberblock;
		assert_int_equal(fixture_close(&f), 0);
		insane_uberblock(&u, which);
		fmt_seal(&u, FMT_UBERBLOCK, POOL_GUID, 0, 0);
		/* One copy: repaired from the other. */
		assert_int_equal(vdev_write(f.vdev, ring_block(&l, 1, txg) * BLOCK_SIZE, &u, sizeof(u)), 0);
		assert_int_equal(fixture_check(&f, false), 1);
		assert_int_equal(fixture_open(&f, false), 0);
		assert_int_equal(f.pool->repaired, 1);
		fixture_expect(&f, "a", 0, 100, 1);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_check(&f, true), 0);
		fixture_done(&f);
	}
}

static void older_copies_are_found(void **state)
{
	struct fmt_uberblock old;
	struct fixture f;
	(void)state;
	fixture_new(&f, 32 * MB);
	uint64_t first = le64_get(f.pool->uberblock.txg);
	struct layout l = f.pool->layout;
	assert_int_equal(vdev_read(f.vdev, ring_block(&l, 0, first) * BLOCK_SIZE, &old, sizeof(old)), 0);
	while (le64_get(f.pool->uberblock.txg) < first + UBERBLOCK_SLOTS) {
		history_note(f.pool, LCPFS_EVENT_TUNE, 0, 0, 0, "again");
		assert_int_equal(history_flush(f.pool), 0);
	}
	/* A lost write, while the pool is open, and one of a place that no crash can have torn. */
	assert_int_equal(vdev_write(f.vdev, ring_block(&l, 1, first) * BLOCK_SIZE, &old, sizeof(old)), 0);
	struct lcpfs_care care = {0};
	assert_int_equal(lcpfs_pool_scrub(f.pool, &care, &f.failure), 0);
	assert_int_equal(care.damaged, 1);
	assert_int_equal(care.repaired, 1);
	memset(&old, 0x55, sizeof(old));
	assert_int_equal(vdev_write(f.vdev, ring_block(&l, 0, first + 4) * BLOCK_SIZE, &old, sizeof(old)), 0);
	pool_abandon(f.pool);
	f.pool = NULL;
	assert_int_equal(fixture_check(&f, false), 1);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(f.pool->repaired, 1);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	fixture_done(&f);
}

/* The two newest uberblocks are lost: what they wrote over a current page is not the page of the one before. */
static void a_page_of_a_lost_txg_is_not_believed(void **state)
{
	const uint8_t garbage[BLOCK_SIZE] = {0x55};
	struct fixture f;
	(void)state;
	fixture_new(&f, 32 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, LEAST, 10 * MB), 0);
	struct layout l = f.pool->layout;
	uint32_t page = layout_partition_page(&l, 0);
	for (unsigned i = 0; i < 2; i++) {
		struct txg txg;
		txg_begin(f.pool, &txg);
		struct fmt_partition *a = txg_change(&txg, page);
		a->max_blocks = le64_of((11 + i) * MB / BLOCK_SIZE);
		assert_int_equal(txg_commit(&txg, &f.failure), 0);
	}
	uint64_t txg = le64_get(f.pool->uberblock.txg);
	pool_abandon(f.pool);
	for (unsigned i = 0; i < 2 * COPIES; i++)
		assert_int_equal(vdev_write(f.vdev, ring_block(&l, i % COPIES, txg - i / COPIES) * BLOCK_SIZE,
					    garbage, BLOCK_SIZE), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_true(le64_get(f.pool->uberblock.txg) == txg - 2);
	assert_true(f.pool->lost[page]);
	assert_int_equal(fixture_close(&f), 0);
	fixture_done(&f);
}

/* One copy of a page is an older one of the same page, in either area; both copies of a history page are lost. */
static void pages_of_two_ages_are_told_apart(void **state)
{
	(void)state;
	for (unsigned copy = 0; copy < COPIES; copy++) {
		uint8_t old[BLOCK_SIZE];
		struct lcpfs_care care = {0};
		struct fixture f;
		fixture_new(&f, 32 * MB);
		assert_int_equal(fixture_add(&f, "a", LEAST, LEAST, 10 * MB), 0);
		struct layout l = f.pool->layout;
		unsigned slot = f.pool->uberblock.slot_map[0] & 1;
		uint64_t at = layout_page_block(&l, copy, 0, slot) * BLOCK_SIZE;
		assert_int_equal(vdev_read(f.vdev, at, old, sizeof(old)), 0);
		assert_int_equal(fixture_resize(&f, "a", 8 * MB), 0);
		while ((f.pool->uberblock.slot_map[0] & 1) != slot)
			assert_int_equal(fixture_resize(&f, "a", 9 * MB), 0);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(vdev_write(f.vdev, at, old, sizeof(old)), 0);
		assert_int_equal(fixture_check(&f, false), 1);
		assert_int_equal(fixture_open(&f, false), 0);
		assert_int_equal(fixture_size(&f, "a"), 9 * MB);
		assert_int_equal(f.pool->repaired, 1);
		assert_int_equal(fixture_close(&f), 0);

		uint32_t page = layout_history_page(&l) + 1; /* written once, empty */
		memset(old, 0x55, sizeof(old));
		for (unsigned i = 0; i < COPIES; i++)
			assert_int_equal(vdev_write(f.vdev, layout_page_block(&l, i, page, 0) * BLOCK_SIZE, old,
						    sizeof(old)), 0);
		assert_int_equal(fixture_open(&f, false), 0);
		assert_int_equal(f.pool->damaged, 2);
		assert_int_equal(f.pool->repaired, 0);
		assert_int_equal(lcpfs_pool_scrub(f.pool, &care, &f.failure), 0);
		assert_int_equal(care.damaged, 2);
		assert_int_equal(care.repaired, 0);
		assert_int_equal(fixture_size(&f, "a"), 9 * MB);
		fixture_done(&f);
	}
}

/* -- labels -- */

struct label_case {
	const char *name;
	void (*change)(struct fmt_label *label);
};

static void guid_of_no_device(struct fmt_label *l)
{
	l->device_guid = le64_of(0);
}

static void second_of_one(struct fmt_label *l)
{
	l->device_index = le32_of(1);
}

static void one_of_none(struct fmt_label *l)
{
	l->device_count = le32_of(0);
}

static void one_of_two(struct fmt_label *l)
{
	l->device_count = le32_of(2);
}

static void first_metaslab_of_others(struct fmt_label *l)
{
	l->metaslab_first = le32_of(1);
}

static void another_device(struct fmt_label *l)
{
	l->device[1].guid = le64_of(5);
}

static void itself_in_the_list(struct fmt_label *l)
{
	l->device[0].metaslab_count = l->metaslab_count;
}

static void the_last_device(struct fmt_label *l)
{
	l->device[LABEL_DEVICES - 1].metaslab_first = le32_of(1);
}

static void base_between_metaslabs(struct fmt_label *l)
{
	l->metaslab_base = le64_of(le64_get(l->metaslab_base) + 128);
	l->metaslab_count = le32_of(le32_get(l->metaslab_count) - 1);
}

static void base_in_the_area(struct fmt_label *l)
{
	l->metaslab_base = le64_of(0);
}

static void base_behind_the_device(struct fmt_label *l)
{
	l->metaslab_base = le64_of(0 - le64_get(l->area_blocks)); /* its sum with an area is 0 */
}

static void base_too_high(struct fmt_label *l)
{
	l->metaslab_base = le64_of(le64_get(l->metaslab_base) + le32_get(l->metaslab_blocks));
}

static void metaslabs_in_the_back_area(struct fmt_label *l)
{
	l->metaslab_count = le32_of(le32_get(l->metaslab_count) + 1);
}

static void metaslabs_without_entries(struct fmt_label *l)
{
	l->map_pages = le32_of(0);
}

static void device_of_half_a_mib(struct fmt_label *l)
{
	l->device_blocks = le64_of(le64_get(l->device_blocks) - 128);
	l->metaslab_count = le32_of(le32_get(l->metaslab_count) - 1);
}

static const struct label_case label_cases[] = {
	{"guid of no device", guid_of_no_device},
	{"second of one", second_of_one},
	{"one of none", one_of_none},
	{"one of two", one_of_two},
	{"first metaslab of others", first_metaslab_of_others},
	{"another device", another_device},
	{"itself in the list", itself_in_the_list},
	{"the last device", the_last_device},
	{"base between metaslabs", base_between_metaslabs},
	{"base in the area", base_in_the_area},
	{"base behind the device", base_behind_the_device},
	{"base too high", base_too_high},
	{"metaslabs in the back area", metaslabs_in_the_back_area},
	{"metaslabs without entries", metaslabs_without_entries},
	{"device of half a MiB", device_of_half_a_mib},
};

static uint64_t label_at(const struct layout *l, unsigned copy)
{
	return layout_area_block(l, copy, AREA_LABEL) * BLOCK_SIZE;
}

/* A closed pool with something in it, and its label. */
static struct layout closed_pool(struct fixture *f, struct fmt_label *label)
{
	fixture_new(f, 32 * MB);
	assert_int_equal(fixture_add(f, "a", LEAST, LEAST, 8 * MB), 0);
	assert_int_equal(fixture_add(f, "b", LEAST, LEAST, 8 * MB), 0);
	assert_int_equal(fixture_write(f, "a", 0, 100, 1), 0);
	assert_int_equal(fixture_write(f, "b", 0, 100, 2), 0);
	struct layout l = f->pool->layout;
	assert_int_equal(fixture_close(f), 0);
	assert_int_equal(vdev_read(f->vdev, 0, label, sizeof(*label)), 0);
	return l;
}

static void put_label(struct fixture *f, const struct layout *l, unsigned copy, struct fmt_label *label)
{
	fmt_seal(label, FMT_LABEL, POOL_GUID, 0, 0);
	assert_int_equal(vdev_write(f->vdev, label_at(l, copy), label, sizeof(*label)), 0);
}

/* One of the two is repaired from the other, with two of them it is no pool to work with. */
static void labels_that_contradict_are_not_believed(void **state)
{
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(label_cases); i++) {
		struct fmt_label good, bad;
		struct fixture f;
		struct layout l = closed_pool(&f, &good);
		for (unsigned copy = 0; copy < COPIES; copy++) {
			bad = good;
			label_cases[i].change(&bad);
			put_label(&f, &l, copy, &bad);
			assert_int_equal(fixture_check(&f, false), 1);
			if (fixture_open(&f, false))
				fail_msg("%s: %s", label_cases[i].name, f.failure.message);
			assert_int_equal(f.pool->repaired, 1);
			fixture_expect(&f, "a", 0, 100, 1);
			assert_int_equal(fixture_close(&f), 0);
			assert_int_equal(fixture_check(&f, true), 0);
		}
		for (unsigned copy = 0; copy < COPIES; copy++)
			put_label(&f, &l, copy, &bad);
		if (fixture_open(&f, false) != -LCPFS_E_CORRUPT)
			fail_msg("%s is believed", label_cases[i].name);
		assert_int_equal(fixture_check(&f, false), 1);
		fixture_done(&f);
	}
}

/* In either copy; the bytes are what somebody else has sealed. A scrub repairs it beside clients. */
static void another_partition_table_is_put_right(void **state)
{
	(void)state;
	for (unsigned copy = 0; copy < COPIES; copy++) {
		struct lcpfs_care care = {0};
		struct fmt_label label;
		struct fixture f;
		struct layout l = closed_pool(&f, &label);
		label.mbr_magic[0] = 0;
		put_label(&f, &l, copy, &label);
		assert_int_equal(fixture_check(&f, false), 1);
		assert_int_equal(fixture_open(&f, false), 0);
		assert_int_equal(f.pool->repaired, 1);
		label.mbr[0].kind = 0x83;
		put_label(&f, &l, copy, &label);
		assert_int_equal(lcpfs_pool_scrub(f.pool, &care, &f.failure), 0);
		assert_int_equal(care.damaged, 1);
		assert_int_equal(care.repaired, 1);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_check(&f, true), 0);
		fixture_done(&f);
	}
}

/* -- features that nobody knows yet -- */

static void features_of_the_pool_are_heeded(void **state)
{
	struct lcpfs_create_options options = {0};
	struct fmt_label good, label;
	struct fixture f;
	(void)state;
	for (unsigned bit = 0; bit < 64; bit += 21) {
		struct layout l = closed_pool(&f, &good);
		label = good;
		label.features.incompatible = le64_of(UINT64_C(1) << bit);
		put_label(&f, &l, 0, &label);
		for (unsigned read_only = 0; read_only < 2; read_only++) {
			assert_int_equal(fixture_open(&f, read_only), -LCPFS_E_VERSION);
			assert_non_null(strstr(f.failure.message, "does not know"));
		}
		assert_int_equal(pool_create_vdev(f.vdev, &f.clock, &options, POOL_GUID, &f.failure),
				 -LCPFS_E_EXISTS);

		label = good;
		label.features.read_only = le64_of(UINT64_C(1) << bit);
		for (unsigned copy = 0; copy < COPIES; copy++)
			put_label(&f, &l, copy, &label);
		struct simdisk_counts before = *simdisk_counts(f.disk);
		assert_int_equal(fixture_open(&f, false), -LCPFS_E_VERSION);
		assert_non_null(strstr(f.failure.message, "can only read"));
		assert_int_equal(fixture_open(&f, true), 0);
		fixture_expect(&f, "a", 0, 100, 1);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_check(&f, true), 0);
		assert_int_equal(simdisk_counts(f.disk)->changes, before.changes);

		label = good;
		label.features.compatible = le64_of(UINT64_C(1) << bit);
		label.zero1[1000] = 7;
		put_label(&f, &l, 0, &label); /* the other one is repaired from it */
		assert_int_equal(fixture_open(&f, false), 0);
		assert_int_equal(f.pool->repaired, 1);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_check(&f, true), 0);
		assert_int_equal(vdev_read(f.vdev, label_at(&l, 1), &good, sizeof(good)), 0);
		assert_memory_equal(&good, &label, sizeof(good));
		fixture_done(&f);
	}
}

static void put_features(struct fixture *f, struct fmt_features features)
{
	struct txg txg;
	assert_int_equal(fixture_open(f, false), 0);
	txg_begin(f->pool, &txg);
	struct fmt_partition *a = txg_change(&txg, layout_partition_page(&f->pool->layout, 0));
	a->features = features;
	a->zero1[500] = 9;
	assert_int_equal(txg_commit(&txg, &f->failure), 0);
	assert_int_equal(fixture_close(f), 0);
}

/* The partition is faulted, and its page and metaslabs stay; the other one works. */
static void a_is_left_alone(struct fixture *f, const char *why)
{
	struct lcpfs_partition *handle;
	assert_int_equal(fixture_open(f, false), 0);
	uint64_t size = fixture_size(f, "a");
	assert_int_equal(lcpfs_partition_open(f->pool, "a", &handle, &f->failure), -LCPFS_E_FAULTED);
	assert_non_null(strstr(f->failure.message, why));
	assert_int_not_equal(fixture_resize(f, "a", 7 * MB), 0);
	fixture_expect(f, "b", 0, 100, 2);
	assert_int_equal(fixture_write(f, "b", 0, 10, 2), 0);
	assert_int_equal(fixture_size(f, "a"), size);
	assert_int_equal(fixture_close(f), 0);
}

static void features_of_a_partition_are_its_own(void **state)
{
	struct fmt_label label;
	struct fixture f;
	(void)state;
	closed_pool(&f, &label);
	put_features(&f, (struct fmt_features){.incompatible = le64_of(UINT64_C(1) << 63)});
	a_is_left_alone(&f, "does not know");
	put_features(&f, (struct fmt_features){.read_only = le64_of(2)});
	a_is_left_alone(&f, "can only read");
	assert_int_equal(fixture_open(&f, true), 0);
	fixture_expect(&f, "a", 0, 100, 1);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);

	put_features(&f, (struct fmt_features){.compatible = le64_of(2)});
	assert_int_equal(fixture_open(&f, false), 0);
	fixture_expect(&f, "a", 0, 100, 1);
	const struct lcpfs_partition_change change = {.new_name = "c", .max_bytes = 3 * MB, .thin = true};
	struct lcpfs_partition_info info;
	assert_int_equal(lcpfs_partition_set(f.pool, "a", &change, NULL, NULL, &info, &f.failure), 0);
	const struct fmt_partition *page = txg_current(f.pool, layout_partition_page(&f.pool->layout, 0));
	assert_string_equal((const char *)page->name, "c");
	assert_int_equal(le64_get(page->features.compatible), 2);
	assert_int_equal(page->zero1[500], 9);
	/* Whoever gets the slot next has none of it. */
	assert_int_equal(lcpfs_partition_remove(f.pool, "c", &f.failure), 0);
	assert_int_equal(fixture_add(&f, "d", LEAST, LEAST, 8 * MB), 0);
	page = txg_current(f.pool, layout_partition_page(&f.pool->layout, 0));
	assert_int_equal(le64_get(page->features.compatible), 0);
	assert_int_equal(page->zero1[500], 0);
	assert_int_equal(fixture_close(&f), 0);
	fixture_done(&f);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(pages_that_contradict_are_contained),
		cmocka_unit_test(all_ids_can_be_given_out),
		cmocka_unit_test(insane_uberblocks_are_not_believed),
		cmocka_unit_test(older_copies_are_found),
		cmocka_unit_test(pages_of_two_ages_are_told_apart),
		cmocka_unit_test(a_page_of_a_lost_txg_is_not_believed),
		cmocka_unit_test(labels_that_contradict_are_not_believed),
		cmocka_unit_test(another_partition_table_is_put_right),
		cmocka_unit_test(features_of_the_pool_are_heeded),
		cmocka_unit_test(features_of_a_partition_are_its_own),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
