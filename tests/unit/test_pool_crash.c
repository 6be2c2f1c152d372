/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Power cuts, device errors and rot in the pool's own structures.
 *
 * Power cuts: one run of a workload of pool transactions, stopped in thought at every change that it makes to the
 * device; each time with the cached writes kept, lost, and scattered. What is left must open, keep the invariants,
 * and hold what was flushed; and check must find it clean, both as it is and after it was opened and closed.
 */
#include "pool_fixture.h"

enum { SCATTERS = 4 };

/* -- power cuts -- */

struct cuts {
	struct fixture *f;
	uint64_t states, refused;
	bool created;      /* from here on there must be a pool */
	bool has_a, has_b; /* must be there; their contents must be, too */
	bool may_have_a, may_have_b;
	uint64_t blocks_a;
};

static bool has(struct fixture *f, const char *name)
{
	return lcpfs_partition_get_info(f->pool, name, &(struct lcpfs_partition_info){0}, NULL) == 0;
}

static void verify_partition(struct fixture *f, const char *name, bool must, bool may)
{
	if (must)
		assert_true(has(f, name));
	if (!may)
		assert_false(has(f, name));
}

static void verify_state(struct cuts *cuts, const struct simimage *image)
{
	struct fixture f;
	fixture_init(&f, image);
	int error = fixture_open(&f, true);
	if (error) {
		if (cuts->created)
			fail_msg("it does not open: %s", f.failure.message);
		assert_int_equal(error, -LCPFS_E_NOT_A_POOL);
		cuts->refused++;
		fixture_done(&f);
		return;
	}
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	assert_int_equal(fixture_open(&f, false), 0);
	fixture_invariants(&f);
	verify_partition(&f, "a", cuts->has_a, cuts->may_have_a);
	verify_partition(&f, "b", cuts->has_b, cuts->may_have_b);
	if (cuts->has_a && cuts->blocks_a)
		fixture_expect(&f, "a", 0, cuts->blocks_a, 1);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	fixture_done(&f);
}

static void cut_here(void *context, struct simdisk *disk, uint64_t change)
{
	struct cuts *cuts = context;
	for (unsigned i = 0; i < 2 + SCATTERS; i++) {
		struct simdisk_fate fate = {
			.kind = i == 0   ? SIMDISK_NONE
				: i == 1 ? SIMDISK_ALL
					 : SIMDISK_SCATTER,
			.seed = change * 31 + i,
		};
		struct simimage *image = simdisk_image(disk, &fate);
		verify_state(cuts, image);
		simimage_free(image);
		cuts->states++;
	}
}

static void begin(struct cuts *cuts, struct fixture *f)
{
	struct simimage *image = simimage_new(32 * MB);
	memset(cuts, 0, sizeof(*cuts));
	cuts->f = f;
	fixture_init(f, image);
	simimage_free(image);
}

static void create(struct fixture *f)
{
	struct lcpfs_create_options options = {0};
	assert_int_equal(pool_create_vdev(f->vdev, &f->clock, &options, POOL_GUID, &f->failure), 0);
}

static void creating_is_all_or_nothing(void **state)
{
	struct fixture f;
	struct cuts cuts;
	(void)state;
	begin(&cuts, &f);
	simdisk_on_change(f.disk, cut_here, &cuts);
	create(&f);
	assert_true(cuts.refused > 0);
	print_message("# %lu states, %lu of them no pool yet\n", (unsigned long)cuts.states,
		      (unsigned long)cuts.refused);
	fixture_done(&f);
}

static void a_pool_survives_power_cuts_everywhere(void **state)
{
	struct fixture f;
	struct cuts cuts;
	(void)state;
	begin(&cuts, &f);
	create(&f);
	cuts.created = true;
	simdisk_on_change(f.disk, cut_here, &cuts);
	assert_int_equal(fixture_open(&f, false), 0);

	cuts.may_have_a = true;
	assert_int_equal(fixture_add(&f, "a", LEAST, 9 * MB, 14 * MB), 0);
	cuts.has_a = true;
	assert_int_equal(fixture_write(&f, "a", 0, 200, 1), 0);
	cuts.blocks_a = 200;
	cuts.may_have_b = true;
	assert_int_equal(fixture_add(&f, "b", LEAST, LEAST, 12 * MB), 0);
	cuts.has_b = true;
	assert_int_equal(fixture_resize(&f, "a", 12 * MB), 0);
	assert_int_equal(fixture_resize(&f, "a", 10 * MB), 0);

	struct move move = {.from = part_named(f.pool, "a"), .to = part_named(f.pool, "b"), .wanted = 2};
	part_hold(move.from);
	part_hold(move.to);
	assert_int_equal(move_run(&move, &f.failure), 0);
	part_drop(move.from);
	part_drop(move.to);

	assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, NULL), 0);
	assert_int_equal(lcpfs_pool_set_lease(f.pool, "/run/control", "/run/nbd"), 0);
	cuts.has_b = false;
	assert_int_equal(lcpfs_partition_remove(f.pool, "b", NULL), 0);
	cuts.may_have_b = false;
	assert_int_equal(fixture_resize(&f, "a", 14 * MB), 0);
	assert_int_equal(fixture_close(&f), 0);
	print_message("# %lu states\n", (unsigned long)cuts.states);
	simdisk_on_change(f.disk, NULL, NULL);
	fixture_done(&f);
}

/* Cut while what an earlier cut left is being recovered. */
static void recovery_survives_power_cuts(void **state)
{
	struct fixture f, again;
	struct cuts cuts;
	struct simimage *image;
	(void)state;
	begin(&cuts, &f);
	create(&f);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(fixture_add(&f, "a", LEAST, 9 * MB, 14 * MB), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 200, 1), 0);
	simdisk_stop(f.disk);
	for (unsigned i = 0; i < 2; i++) {
		image = simdisk_image(f.disk, &(struct simdisk_fate){.kind = SIMDISK_SCATTER, .seed = i});
		fixture_init(&again, image);
		simimage_free(image);
		cuts = (struct cuts){
			.f = &again, .created = true, .has_a = true, .may_have_a = true, .blocks_a = 200};
		simdisk_on_change(again.disk, cut_here, &cuts);
		assert_int_equal(fixture_open(&again, false), 0);
		simdisk_on_change(again.disk, NULL, NULL);
		fixture_expect(&again, "a", 0, 200, 1);
		fixture_done(&again);
		assert_true(cuts.states > 0);
	}
	fixture_done(&f);
}

/* -- closed and opened again -- */

static uint64_t changes_of_opening(unsigned partitions)
{
	struct fixture f;
	fixture_new(&f, 128 * MB);
	for (unsigned i = 0; i < partitions; i++)
		assert_int_equal(fixture_add(&f, (char[]){(char)('a' + i), 0}, LEAST, LEAST, 8 * MB), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 10, 1), 0);
	assert_int_equal(fixture_close(&f), 0);
	uint64_t before = simdisk_counts(f.disk)->changes;
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(fixture_close(&f), 0);
	before = simdisk_counts(f.disk)->changes - before;
	fixture_done(&f);
	return before;
}

/* A command that changes one partition of many does not write to the others. */
static void opening_a_closed_pool_writes_to_no_partition(void **state)
{
	(void)state;
	assert_int_equal(changes_of_opening(1), changes_of_opening(12));
}

/* -- device errors -- */

/* Every change to the device fails in turn, once; then the pool is used on, or opened anew. */
static void every_write_error_leaves_a_whole_pool(void **state)
{
	unsigned failed = 0, run = 0;
	(void)state;
	for (;; run++) {
		struct simdisk_fault fault = {
			.kind = SIMDISK_CHANGE, .at = run, .effect = SIMDISK_FAILS, .error = LCPFS_E_IO};
		struct fixture f;
		fixture_new(&f, 32 * MB);
		assert_int_equal(fixture_add(&f, "a", LEAST, 9 * MB, 14 * MB), 0);
		assert_int_equal(fixture_write(&f, "a", 0, 100, 1), 0);
		simdisk_add_fault(f.disk, &fault);
		bool added = fixture_add(&f, "b", LEAST, LEAST, 8 * MB) == 0;
		int error = fixture_resize(&f, "a", 11 * MB);
		error |= fixture_resize(&f, "a", 8 * MB);
		error |= added ? lcpfs_partition_remove(f.pool, "b", &f.failure) : 0;
		bool hit = simdisk_fault_hits(f.disk) > 0;
		error |= fixture_close(&f);
		failed += error || !added;
		simdisk_clear_faults(f.disk);
		if (fixture_open(&f, false))
			fail_msg("fault %u: %s", run, f.failure.message);
		fixture_invariants(&f);
		fixture_expect(&f, "a", 0, 100, 1);
		assert_int_equal(fixture_close(&f), 0);
		assert_int_equal(fixture_check(&f, true), 0);
		fixture_done(&f);
		if (!hit)
			break;
	}
	print_message("# %u faults, %u of them were noticed\n", run, failed);
	assert_true(run > 20 && failed > run / 2);
}

static void a_failed_uberblock_suspends_the_pool(void **state)
{
	struct fixture f;
	struct lcpfs_pool_info info;
	(void)state;
	fixture_new(&f, 32 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 9 * MB, 14 * MB), 0);
	simdisk_add_fault(f.disk, &(struct simdisk_fault){.kind = SIMDISK_WRITE,
							  .offset = AREA_UBERBLOCKS * BLOCK_SIZE,
							  .length = UBERBLOCK_SLOTS * BLOCK_SIZE,
							  .effect = SIMDISK_FAILS,
							  .error = LCPFS_E_IO});
	assert_int_equal(lcpfs_pool_set_tune(f.pool, LCPFS_ENGINE_ON, &f.failure), -LCPFS_E_IO);
	assert_int_equal(fixture_resize(&f, "a", 11 * MB), -LCPFS_E_FAULTED);
	assert_non_null(strstr(f.failure.message, "anew"));
	assert_int_equal(lcpfs_pool_get_info(f.pool, &info), 0);
	assert_int_equal(info.health, LCPFS_HEALTH_FAULTED);
	assert_int_equal(fixture_write(&f, "a", 0, 10, 1), 0); /* clients go on */
	fixture_expect(&f, "a", 0, 10, 1);
	assert_int_equal(fixture_close(&f), -LCPFS_E_FAULTED);
	assert_int_equal(fixture_open(&f, false), 0);
	fixture_invariants(&f);
	fixture_expect(&f, "a", 0, 10, 1);
	assert_int_equal(fixture_resize(&f, "a", 11 * MB), 0);
	fixture_done(&f);
}

static void a_failed_page_write_changes_nothing(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 32 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 9 * MB, 14 * MB), 0);
	struct simdisk_fault page_fault = {
		.kind = SIMDISK_WRITE,
		.offset = layout_page_block(&f.pool->layout, 0, 0, 0) * BLOCK_SIZE,
		.length = 2 * BLOCK_SIZE,
		.effect = SIMDISK_FAILS,
		.error = LCPFS_E_IO,
	};
	simdisk_add_fault(f.disk, &page_fault);
	assert_int_equal(fixture_resize(&f, "a", 11 * MB), -LCPFS_E_IO);
	assert_non_null(strstr(f.failure.message, "nothing was changed"));
	assert_int_equal(fixture_size(&f, "a"), 9 * MB);
	fixture_invariants(&f);
	assert_int_equal(fixture_resize(&f, "a", 11 * MB), 0);
	/* What was released for a move that failed is its own again. */
	simdisk_add_fault(f.disk, &page_fault);
	assert_int_equal(fixture_resize(&f, "a", 7 * MB), -LCPFS_E_IO);
	assert_int_equal(fixture_size(&f, "a"), 11 * MB);
	fixture_invariants(&f);
	assert_int_equal(fixture_resize(&f, "a", 7 * MB), 0);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	fixture_done(&f);
}

static void a_failed_flush_reaches_everybody(void **state)
{
	struct lcpfs_pool_info info;
	struct fixture f;
	(void)state;
	fixture_new(&f, 32 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 6 * MB, 6 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, 8 * MB, 8 * MB), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 10, 1), 0);
	simdisk_add_fault(f.disk, &(struct simdisk_fault){
					  .kind = SIMDISK_FLUSH, .effect = SIMDISK_FAILS, .error = LCPFS_E_IO});
	assert_true(fixture_write(&f, "a", 0, 10, 2) != 0);
	assert_true(fixture_write(&f, "b", 0, 10, 2) != 0); /* its writes may be the ones that were lost */
	assert_true(fixture_resize(&f, "b", 7 * MB) != 0);
	assert_int_equal(lcpfs_pool_get_info(f.pool, &info), 0);
	assert_int_equal(info.health, LCPFS_HEALTH_FAULTED);
	assert_true(fixture_close(&f) != 0);
	assert_int_equal(fixture_open(&f, false), 0);
	fixture_invariants(&f);
	assert_int_equal(fixture_write(&f, "b", 0, 10, 3), 0);
	fixture_done(&f);
}

/* -- rot -- */

static void flip(struct fixture *f, uint64_t block)
{
	struct simimage_damage damage = {.kind = SIMIMAGE_FLIP,
					 .offset = block * BLOCK_SIZE + hash_mix(block) % BLOCK_SIZE};
	simdisk_damage(f->disk, &damage);
}

static bool is_blank(struct fixture *f, uint64_t block)
{
	uint8_t bytes[BLOCK_SIZE];
	assert_int_equal(vdev_read(f->vdev, block * BLOCK_SIZE, bytes, BLOCK_SIZE), 0);
	return bytes[0] == 0 && memcmp(bytes, bytes + 1, BLOCK_SIZE - 1) == 0;
}

/* False if nothing changes by it, or only to what a block never written is like. */
static bool damage(struct fixture *f, uint64_t block, enum simimage_damage_kind kind, uint64_t other,
		   const struct simimage *old)
{
	uint8_t before[BLOCK_SIZE], after[BLOCK_SIZE];
	struct simimage_damage how = {.kind = kind,
				      .offset = block * BLOCK_SIZE,
				      .length = BLOCK_SIZE,
				      .other = other * BLOCK_SIZE,
				      .old = old};
	if (kind == SIMIMAGE_FLIP)
		how.offset += hash_mix(block) % BLOCK_SIZE;
	assert_int_equal(vdev_read(f->vdev, block * BLOCK_SIZE, before, BLOCK_SIZE), 0);
	simdisk_damage(f->disk, &how);
	assert_int_equal(vdev_read(f->vdev, block * BLOCK_SIZE, after, BLOCK_SIZE), 0);
	return memcmp(before, after, BLOCK_SIZE) != 0;
}

/* Every block of an area that means anything, one at a time: check finds it, opening repairs it. */
static void rot_of_any_pool_block_is_found_and_repaired(void **state)
{
	static const enum simimage_damage_kind kinds[] = {SIMIMAGE_FLIP, SIMIMAGE_ZERO, SIMIMAGE_REPEAT,
							  SIMIMAGE_STALE};
	struct fixture f;
	unsigned injected = 0, found = 0;
	(void)state;
	fixture_new(&f, 32 * MB);
	struct simimage *old = simimage_clone(simdisk_content(f.disk));
	assert_int_equal(fixture_add(&f, "a", LEAST, 9 * MB, 14 * MB), 0);
	assert_int_equal(lcpfs_pool_set_lease(f.pool, "/c", "/n"), 0);
	struct layout l = f.pool->layout;
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	for (unsigned run = 0; run < COPIES * ARRAY_LENGTH(kinds); run++) {
		enum simimage_damage_kind kind = kinds[run / COPIES];
		unsigned copy = run % COPIES;
		for (uint64_t i = 0; i < AREA_PAGES + 2 * (uint64_t)layout_page_count(&l); i++) {
			uint64_t block = layout_area_block(&l, copy, i), damaged;
			if (i >= AREA_PAGES) {
				/* Only the current slot of a page means anything. */
				uint32_t page = (uint32_t)(i - AREA_PAGES) / 2;

				assert_int_equal(fixture_open(&f, true), 0);
				unsigned slot = f.pool->uberblock.slot_map[page / 8] >> page % 8 & 1;
				assert_int_equal(fixture_close(&f), 0);
				if (slot != (i - AREA_PAGES) % 2)
					continue;
			}
			if (is_blank(&f, block))
				continue;
			if (!damage(&f, block, kind, layout_area_block(&l, copy, i ? i - 1 : AREA_PAGES), old))
				continue;
			injected++;
			damaged = fixture_check(&f, false);
			found += damaged > 0;
			if (damaged != 1)
				print_message("# block %lu of copy %u, way %d: found %lu\n", (unsigned long)i,
					      copy, (int)kind, (unsigned long)damaged);
			assert_int_equal(fixture_open(&f, false), 0);
			fixture_invariants(&f);
			assert_int_equal(f.pool->damaged, f.pool->repaired);
			assert_int_equal(fixture_close(&f), 0);
			assert_int_equal(fixture_check(&f, true), 0);
		}
	}
	print_message("# %u injected, %u found\n", injected, found);
	assert_int_equal(found, injected);
	assert_true(injected > 500);
	simimage_free(old);
	fixture_done(&f);
}

static void scrub_repairs_what_rots_meanwhile(void **state)
{
	struct lcpfs_care care = {0};
	struct fixture f;
	(void)state;
	fixture_new(&f, 32 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 9 * MB, 14 * MB), 0);
	assert_int_equal(lcpfs_pool_scrub(f.pool, &care, &f.failure), 0);
	assert_int_equal(care.damaged, 0);
	uint32_t pages = layout_page_count(&f.pool->layout);
	for (uint32_t page = 0; page < pages; page++) {
		unsigned slot = f.pool->uberblock.slot_map[page / 8] >> page % 8 & 1;
		flip(&f, layout_page_block(&f.pool->layout, page % 2, page, slot));
		if (page % 3 == 0) /* memory still has it */
			flip(&f, layout_page_block(&f.pool->layout, 1 - page % 2, page, slot));
	}
	flip(&f, layout_area_block(&f.pool->layout, 1, AREA_LABEL));
	flip(&f, layout_area_block(&f.pool->layout, 0, AREA_UBERBLOCKS + le64_get(f.pool->uberblock.txg) % 8));
	assert_int_equal(lcpfs_pool_scrub(f.pool, &care, &f.failure), 0);
	assert_int_equal(care.damaged, pages + DIV_UP(pages, 3) + 2);
	assert_int_equal(care.repaired, care.damaged);
	assert_int_equal(lcpfs_pool_scrub(f.pool, &care, &f.failure), 0);
	assert_int_equal(care.damaged, 0);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	fixture_done(&f);
}

/* Everything of a partition that the pool can lose: the others do not notice. */
/* Where block `block` of a partition lies, found by its content. */
static uint64_t place_of(struct fixture *f, uint64_t block, uint64_t generation)
{
	uint8_t wanted[BLOCK_SIZE], got[BLOCK_SIZE];
	fixture_pattern(block, generation, wanted);
	for (uint64_t b = 0; b < f->vdev->size_bytes / BLOCK_SIZE; b++) {
		assert_int_equal(vdev_read(f->vdev, b * BLOCK_SIZE, got, BLOCK_SIZE), 0);
		if (!memcmp(wanted, got, BLOCK_SIZE))
			return b;
	}
	fail_msg("block %lu is nowhere", (unsigned long)block);
	return 0;
}

struct watch { /* how a scrub or check goes on */
	struct lcpfs_pool *pool; /* asked from within */
	uint64_t last, total, calls;
	char partition[LCPFS_NAME_MAX + 1]; /* of the last finding */
};

static bool watch_progress(void *context, uint64_t done, uint64_t total)
{
	struct watch *w = context;
	assert_true(done >= w->last && done <= total && total >= w->total);
	w->last = done;
	w->total = total;
	w->calls++;
	return true;
}

static void watch_found(void *context, const struct lcpfs_finding *finding)
{
	struct watch *w = context;
	struct lcpfs_partition_info list[4];
	struct lcpfs_pool_info info;
	size_t count;
	memcpy(w->partition, finding->partition, sizeof(w->partition));
	if (!w->pool)
		return;
	assert_int_equal(lcpfs_pool_list(w->pool, list, 4, &count), 0);
	assert_int_equal(lcpfs_pool_get_info(w->pool, &info), 0);
}

static struct lcpfs_care watched_scrub(struct fixture *f, struct watch *w)
{
	struct lcpfs_care care = {.found = watch_found, .progress = watch_progress, .context = w};
	*w = (struct watch){.pool = f->pool};
	assert_int_equal(lcpfs_pool_scrub(f->pool, &care, &f->failure), 0);
	assert_true(w->calls > 0 && w->last == w->total);
	return care;
}

static struct lcpfs_pool_info pool_info(struct fixture *f)
{
	struct lcpfs_pool_info info;
	assert_int_equal(lcpfs_pool_get_info(f->pool, &info), 0);
	return info;
}

static void reopen(struct fixture *f, bool read_only)
{
	assert_int_equal(fixture_close(f), 0);
	assert_int_equal(fixture_open(f, read_only), 0);
}

/* Two partitions, of which b has a block of data that cannot be repaired. */
static void new_with_rot(struct fixture *f)
{
	fixture_new(f, 32 * MB);
	assert_int_equal(fixture_add(f, "a", LEAST, 7 * MB, 8 * MB), 0);
	assert_int_equal(fixture_add(f, "b", LEAST, 9 * MB, 12 * MB), 0);
	assert_int_equal(fixture_write(f, "a", 0, 300, 1), 0);
	assert_int_equal(fixture_write(f, "b", 300, 200, 1), 0);
	flip(f, place_of(f, 305, 1));
}

static void what_a_scrub_found_is_kept_until_the_next(void **state)
{
	struct lcpfs_pool_info info;
	struct fixture f;
	struct watch w;
	(void)state;
	new_with_rot(&f);
	assert_int_equal(pool_info(&f).last_scrub_s, 0);
	assert_int_equal(watched_scrub(&f, &w).damaged, 1);
	assert_string_equal(w.partition, "b");
	for (int pass = 0; pass < 3; pass++) { /* at once, after opening for writing, and for reading */
		info = pool_info(&f);
		assert_int_equal(info.health, LCPFS_HEALTH_DEGRADED);
		assert_non_null(strstr(info.health_text, "could not repair 1 damaged place"));
		assert_int_equal(info.last_scrub_s, 1700000001);
		assert_int_equal(info.last_scrub_damaged, 1);
		assert_int_equal(info.last_scrub_errors, 1);
		reopen(&f, pass == 1);
	}
	reopen(&f, false);
	f.now_us += 5000000;
	assert_int_equal(fixture_write(&f, "b", 305, 1, 2), 0);
	assert_int_equal(watched_scrub(&f, &w).damaged, 0);
	reopen(&f, true);
	info = pool_info(&f);
	assert_int_equal(info.health, LCPFS_HEALTH_ONLINE);
	assert_int_equal(info.last_scrub_s, 1700000006);
	assert_int_equal(info.last_scrub_damaged, 0);
	fixture_done(&f);
}

static void a_read_that_met_damage_is_not_forgotten(void **state)
{
	struct lcpfs_partition *b;
	uint8_t bytes[BLOCK_SIZE];
	struct fixture f;
	struct watch w;
	(void)state;
	new_with_rot(&f);
	reopen(&f, false); /* what was written is in the cache, and good there */
	assert_int_equal(pool_info(&f).health, LCPFS_HEALTH_ONLINE); /* nobody knows yet */
	assert_int_equal(lcpfs_partition_open(f.pool, "b", &b, &f.failure), 0);
	for (int i = 0; i < 20; i++)
		assert_int_equal(lcpfs_volume_read(b, 305 * BLOCK_SIZE, bytes, BLOCK_SIZE, NULL),
				 -LCPFS_E_CORRUPT);
	lcpfs_partition_close(b);
	for (int pass = 0; pass < 2; pass++) {
		assert_int_equal(pool_info(&f).health, LCPFS_HEALTH_DEGRADED);
		assert_int_equal(pool_info(&f).read_errors, 20);
		assert_non_null(strstr(pool_info(&f).health_text, "20 reads met damage"));
		reopen(&f, pass == 0);
	}
	reopen(&f, false);
	assert_int_equal(fixture_write(&f, "b", 305, 1, 2), 0);
	assert_int_equal(watched_scrub(&f, &w).damaged, 0);
	assert_int_equal(pool_info(&f).health, LCPFS_HEALTH_ONLINE);
	fixture_done(&f);
}

static void check_names_the_partition_and_comes_to_its_total(void **state)
{
	struct watch w = {0};
	struct lcpfs_care care = {.data = true, .found = watch_found, .progress = watch_progress, .context = &w};
	struct fixture f;
	(void)state;
	new_with_rot(&f);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(pool_check_vdev(f.vdev, &f.clock, &care, &f.failure), 0);
	assert_int_equal(care.damaged, 1);
	assert_string_equal(w.partition, "b");
	assert_true(w.calls > 0 && w.last == w.total);
	fixture_done(&f);
}

/* Told without the pool's lock: whoever is told may ask. */
static void what_scrub_finds_in_the_pool_is_told_without_its_lock(void **state)
{
	struct fixture f;
	struct watch w;
	(void)state;
	fixture_new(&f, 32 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 8 * MB, 8 * MB), 0);
	flip(&f, layout_area_block(&f.pool->layout, 0, AREA_UBERBLOCKS));
	flip(&f, layout_page_block(&f.pool->layout, 1, 0, f.pool->uberblock.slot_map[0] & 1));
	assert_int_equal(watched_scrub(&f, &w).repaired, 2);
	assert_string_equal(w.partition, "");
	fixture_done(&f);
}

static void a_lost_partition_leaves_the_others_alone(void **state)
{
	struct lcpfs_partition *partition;
	struct lcpfs_pool_info pool_info;
	struct lcpfs_engine_decision decision;
	struct lcpfs_engine_partition known;
	struct fixture f;
	(void)state;
	fixture_new(&f, 32 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 6 * MB, 8 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, 6 * MB, 12 * MB), 0);
	assert_int_equal(fixture_write(&f, "b", 0, 50, 1), 0);
	struct layout l = f.pool->layout;
	assert_int_equal(fixture_close(&f), 0);
	for (unsigned i = 0; i < 4; i++) {
		if (!is_blank(&f, layout_root_block(&l, i / 2, 0, i % 2)))
			flip(&f, layout_root_block(&l, i / 2, 0, i % 2));
	}
	assert_true(fixture_check(&f, false) > 0);
	assert_int_equal(fixture_open(&f, false), 0);
	assert_int_equal(lcpfs_pool_get_info(f.pool, &pool_info), 0);
	assert_int_equal(pool_info.health, LCPFS_HEALTH_DEGRADED);
	struct lcpfs_partition_info info = fixture_info(&f, "a");
	assert_true(info.faulted);
	assert_int_equal(info.size_blocks, 6 * MB / BLOCK_SIZE);
	assert_int_equal(lcpfs_pool_explain(f.pool, "a", &decision, &f.failure), 0);
	assert_non_null(strstr(decision.sentence, "a cannot be used, and keeps its size until it can: "));
	assert_string_equal(decision.advice,
			    "lcpfs check POOL shows what is damaged; lcpfs remove POOL a gives its space back");
	assert_int_equal(lcpfs_pool_explain(f.pool, NULL, &decision, &f.failure), 0);
	assert_string_equal(decision.advice, "a cannot be used and keeps its size: lcpfs explain POOL a says why");
	assert_int_equal(lcpfs_engine_get_partition(f.pool->engine, info.id, &known), 0);
	assert_int_equal(known.min_size_blocks, info.size_blocks); /* nothing is taken from it, nor given to it */
	assert_int_equal(known.max_size_blocks, info.size_blocks);
	assert_true(lcpfs_partition_open(f.pool, "a", &partition, &f.failure) < 0);
	assert_non_null(strstr(f.failure.message, "partition a is faulted"));
	assert_true(fixture_resize(&f, "a", 5 * MB) < 0);
	fixture_expect(&f, "b", 0, 50, 1);
	assert_int_equal(fixture_resize(&f, "b", 8 * MB), 0);
	assert_int_equal(lcpfs_partition_remove(f.pool, "a", &f.failure), 0); /* its space comes back */
	fixture_invariants(&f);
	assert_int_equal(fixture_add(&f, "a", LEAST, 10 * MB, 10 * MB), 0);
	assert_int_equal(fixture_close(&f), 0);
	assert_int_equal(fixture_check(&f, true), 0);
	fixture_done(&f);
}

static void pages_lost_twice_are_told(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 32 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 6 * MB, 6 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, 6 * MB, 6 * MB), 0);
	struct layout l = f.pool->layout;
	assert_int_equal(fixture_close(&f), 0);
	uint32_t page = layout_partition_page(&l, 0);
	for (unsigned i = 0; i < 4; i++)
		flip(&f, layout_page_block(&l, i / 2, page, i % 2));
	assert_true(fixture_check(&f, false) >= 3); /* both copies, and metaslabs of nobody */
	assert_int_equal(fixture_open(&f, false), 0);
	assert_false(has(&f, "a"));
	assert_true(has(&f, "b"));
	assert_int_equal(fixture_free(&f), 18 * MB); /* what was a's is not given to others */
	assert_int_equal(fixture_add(&f, "c", LEAST, 18 * MB, 18 * MB), 0);
	assert_int_equal(fixture_close(&f), 0);
	for (unsigned i = 0; i < 4; i++)
		flip(&f, layout_page_block(&l, i / 2, 0, i % 2));
	assert_int_equal(fixture_open(&f, false), -LCPFS_E_CORRUPT);
	assert_non_null(strstr(f.failure.message, "map"));
	assert_true(fixture_check(&f, false) > 0);
	for (unsigned i = 0; i < 2 * UBERBLOCK_SLOTS; i++)
		flip(&f, layout_area_block(&l, i / UBERBLOCK_SLOTS, AREA_UBERBLOCKS + i % UBERBLOCK_SLOTS));
	assert_int_equal(fixture_open(&f, false), -LCPFS_E_CORRUPT);
	assert_non_null(strstr(f.failure.message, "uberblocks"));
	assert_true(fixture_check(&f, false) > 0);
	fixture_done(&f);
}

static void check_finds_pages_that_make_no_sense(void **state)
{
	static const char *const cases[] = {"owner", "min", "id", "same name", "name", "volume"};
	struct fixture f;
	(void)state;
	for (size_t i = 0; i < ARRAY_LENGTH(cases); i++) {
		struct txg txg;
		fixture_new(&f, 32 * MB);
		assert_int_equal(fixture_add(&f, "a", LEAST, 6 * MB, 6 * MB), 0);
		assert_int_equal(fixture_add(&f, "b", LEAST, 6 * MB, 6 * MB), 0);
		txg_begin(f.pool, &txg);
		struct fmt_partition *page = txg_change(&txg, layout_partition_page(&f.pool->layout, 0));
		if (i == 0)
			map_set(&txg, f.pool->layout.metaslab_count - 1, 99);
		else if (i == 1)
			page->min_blocks = le64_of(7 * MB / BLOCK_SIZE);
		else if (i == 2)
			txg.uberblock.partition_next = le32_of(1);
		else if (i == 3)
			page->name[0] = 'b';
		else if (i == 4)
			memset(page->name, 'x', sizeof(page->name));
		else
			page->volume_blocks = le64_of(1);
		assert_int_equal(txg_commit(&txg, &f.failure), 0);
		assert_int_equal(fixture_close(&f), 0);
		if (fixture_check(&f, false) == 0)
			fail_msg("check does not find: %s", cases[i]);
		assert_int_equal(fixture_open(&f, false), 0); /* and it opens, somehow */
		assert_int_equal(fixture_close(&f), 0);
		fixture_done(&f);
	}
}

/* Bytes of sealed pages changed at random and sealed again: nothing may crash or hang. */
static void hostile_pools_do_no_harm(void **state)
{
	struct fixture f;
	(void)state;
	fixture_new(&f, 32 * MB);
	assert_int_equal(fixture_add(&f, "a", LEAST, 8 * MB, 8 * MB), 0);
	assert_int_equal(fixture_add(&f, "b", LEAST, 6 * MB, 6 * MB), 0);
	assert_int_equal(fixture_write(&f, "a", 0, 50, 1), 0);
	struct layout l = f.pool->layout;
	assert_int_equal(fixture_close(&f), 0);
	struct simimage *good = simimage_clone(simdisk_content(f.disk));
	fixture_done(&f);
	for (unsigned run = 0; run < 600; run++) {
		uint64_t seed = hash_mix(run + 1);
		uint64_t first = run % 3 == 0 ? AREA_UBERBLOCKS : run % 3 == 1 ? AREA_PAGES : 0;
		uint64_t count = run % 3 == 0 ? UBERBLOCK_SLOTS : run % 3 == 1 ? 2 * l.map_pages + 8 : 2;
		uint64_t victim = first + hash_mix(seed + 1) % count;
		unsigned at = 32 + (unsigned)(hash_mix(seed + 2) % (run % 2 ? 100 : BLOCK_SIZE - 40));
		uint64_t word = run % 5 ? hash_mix(seed + 3) : UINT64_MAX;
		fixture_init(&f, good);
		for (unsigned copy = 0; copy < COPIES; copy++) {
			union {
				struct fmt_head head;
				uint8_t bytes[BLOCK_SIZE];
			} b;
			uint64_t block = layout_area_block(&l, copy, victim);

			assert_int_equal(vdev_read(f.vdev, block * BLOCK_SIZE, &b, BLOCK_SIZE), 0);
			memcpy(b.bytes + at, &word, 1 + seed % 8);
			fmt_seal(&b, (enum fmt_kind)le16_get(b.head.kind), POOL_GUID, le32_get(b.head.partition),
				 le32_get(b.head.count));
			assert_int_equal(vdev_write(f.vdev, block * BLOCK_SIZE, &b, BLOCK_SIZE), 0);
		}
		struct lcpfs_care care = {.data = true};
		int ignored = pool_check_vdev(f.vdev, &f.clock, &care, &f.failure);
		(void)ignored;
		if (fixture_open(&f, false) == 0) {
			fixture_resize(&f, "a", 7 * MB);
			fixture_add(&f, "c", LEAST, 0, 8 * MB);
			f.now_us += 1000000;
			pool_tick(f.pool);
			fixture_close(&f);
		}
		fixture_done(&f);
	}
	simimage_free(good);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(creating_is_all_or_nothing),
		cmocka_unit_test(a_pool_survives_power_cuts_everywhere),
		cmocka_unit_test(recovery_survives_power_cuts),
		cmocka_unit_test(opening_a_closed_pool_writes_to_no_partition),
		cmocka_unit_test(every_write_error_leaves_a_whole_pool),
		cmocka_unit_test(a_failed_uberblock_suspends_the_pool),
		cmocka_unit_test(a_failed_page_write_changes_nothing),
		cmocka_unit_test(a_failed_flush_reaches_everybody),
		cmocka_unit_test(rot_of_any_pool_block_is_found_and_repaired),
		cmocka_unit_test(scrub_repairs_what_rots_meanwhile),
		cmocka_unit_test(what_a_scrub_found_is_kept_until_the_next),
		cmocka_unit_test(a_read_that_met_damage_is_not_forgotten),
		cmocka_unit_test(check_names_the_partition_and_comes_to_its_total),
		cmocka_unit_test(what_scrub_finds_in_the_pool_is_told_without_its_lock),
		cmocka_unit_test(a_lost_partition_leaves_the_others_alone),
		cmocka_unit_test(pages_lost_twice_are_told),
		cmocka_unit_test(check_finds_pages_that_make_no_sense),
		cmocka_unit_test(hostile_pools_do_no_harm),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
