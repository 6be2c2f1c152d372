/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Mistakes that are planted in a store's memory, each in a child of its own: the audit at the next unlock, or the
 * assertion of whoever meets it, ends that child and says where. A store without one goes on.
 */
#include <setjmp.h>
#include <signal.h>
#include <stdarg.h>
#include <stddef.h>
#include <stdint.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/wait.h>
#include <unistd.h>

#include <cmocka.h>

#include "format/format.h"
#include "store/attempt.h"
#include "store/ids.h"
#include "store/log.h"
#include "store/state.h"
#include "store/store.h"
#include "store/table.h"
#include "store/tree.h"
#include "tests/disk/memory.h"

enum { BASE = 16, METASLAB_BLOCKS = 64, METASLABS = 24, VOLUME_BLOCKS = 400 };

static uint64_t no_time(void *context)
{
	(void)context;
	return 0;
}

static const struct clock clock_still = {.now_us = no_time, .wall_s = no_time};

static struct store *open_store(void)
{
	struct store_config config = {
		.clock = &clock_still,
		.guid = 1,
		.partition = 1,
		.name = "audited",
		.metaslab_base = BASE,
		.metaslab_blocks = METASLAB_BLOCKS,
		.metaslab_count = METASLABS,
		.root_block = {{1, 2}, {3, 4}},
		.cache_bytes = 4 << 20,
		.vdev = vdev_memory_new((uint64_t)(BASE + METASLABS * METASLAB_BLOCKS) << BLOCK_SHIFT),
	};
	uint32_t metaslabs[METASLABS];
	struct store *s;
	for (uint32_t i = 0; i < METASLABS; i++)
		metaslabs[i] = i;
	assert_int_equal(store_format(&config, VOLUME_BLOCKS, metaslabs, METASLABS), 0);
	assert_int_equal(store_open(&config, metaslabs, METASLABS, &s, NULL), 0);
	return s;
}

static int write_some(struct store *s, uint64_t first, unsigned count)
{
	static uint8_t data[BLOCK_SIZE];
	int error = 0;
	for (unsigned i = 0; i < count && !error; i++)
		error = store_write(s, (first + i) << BLOCK_SHIFT, data, sizeof(data), false, NULL);
	return error;
}

/*
 * With a checkpoint behind it, changed pages of both trees, a full metaslab, and an open record; and with a
 * snapshot, one that is dying, a bookmark of that, and a clone.
 */
static struct store *used_store(void)
{
	struct store *s = open_store();
	assert_int_equal(write_some(s, 0, 200), 0);
	assert_int_equal(store_checkpoint(s), 0);
	assert_int_equal(store_snapshot(s, "first", 0), 0);
	assert_int_equal(write_some(s, 0, 3), 0);
	assert_int_equal(store_snapshot(s, "second", 0), 0);
	assert_int_equal(store_bookmark(s, "second", "mark"), 0);
	assert_int_equal(store_snapshot_destroy(s, "second"), 0);
	assert_int_equal(store_clone(s, "first", "clone", 0), 0);
	assert_int_equal(write_some(s, 100, 250), 0);
	assert_int_equal(store_flush(s, NULL), 0);
	assert_int_equal(write_some(s, 0, 3), 0);
	return s;
}

/* -- what is planted -- */

static struct record *open_record(struct store *s)
{
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		if (s->log.open[i] && s->log.open[i]->blocks)
			return s->log.open[i];
	}
	fail_msg("no record is open");
	return NULL;
}

static struct metaslab *closed_one(struct store *s)
{
	for (uint32_t i = 0; i < METASLABS; i++) {
		struct metaslab *m = space_find(&s->space, i);
		if (m && m->state == SPACE_CLOSED)
			return m;
	}
	fail_msg("no metaslab is closed");
	return NULL;
}

static void nothing(struct store *s) { (void)s; }
static void a_wrong_sum(struct store *s) { s->space.live[CLASS_HOT] += BLOCK_SECTORS; }
static void a_metaslab_that_holds_too_much(struct store *s)
{
	closed_one(s)->live = s->space.units + BLOCK_SECTORS;
}
static void a_metaslab_in_two_lists(struct store *s) { indexset_add(&s->space.empty, closed_one(s)->index); }
static void a_wrong_count(struct store *s) { s->space.in_state[SPACE_EMPTY]--; }
static void a_state_without_a_list(struct store *s) { closed_one(s)->state = SPACE_SPENT; }
static void a_number_left_out(struct store *s)
{
	log_seal_open(s);
	s->log.seq++;
}
static void a_number_given_twice(struct store *s)
{
	s->log.seq -= 2;
	log_seal_open(s);
}
static void durable_before_it_was_written(struct store *s) { s->log.durable = s->log.seq + 1; }
static void claimed_before_it_was_durable(struct store *s) { s->log.claimed = s->log.durable + 1; }
static void a_page_of_a_record_unpinned(struct store *s)
{
	struct page *p = open_record(s)->page[0];
	while (p->pins)
		page_unpin(&s->cache, p);
}
static void a_page_with_another_key(struct store *s) { s->trees.dirty->key.index ^= 1; }
static void a_page_counted_twice(struct store *s) { s->cache.count++; }
static void a_free_page_pinned(struct store *s)
{
	page_pin(s->cache.unused);
}
static void a_changed_page_without_a_key(struct store *s)
{
	cache_take(&s->cache)->dirty = true;
}
static void a_changed_page_on_no_list(struct store *s)
{
	struct page *p = s->cache.ring.newer;
	while (p->dirty)
		p = p->newer;
	p->dirty = true;
}
static void a_page_without_an_id(struct store *s)
{
	struct page *p = s->cache.ring.newer;
	while (p->dirty || p->key.kind != PAGE_VOLUME)
		p = p->newer;
	p->id = 0;
}
static void a_changed_leaf_not_counted(struct store *s) { s->table.dirty_count--; }
static void a_leaf_in_another_region(struct store *s)
{
	for (unsigned i = 0; i < REGIONS; i++) {
		struct region *r = &s->table.region[i], *other = &s->table.region[(i + 1) % REGIONS];
		if (!r->dirty)
			continue;
		other->dirty = r->dirty;
		other->dirty_count = r->dirty_count;
		r->dirty = NULL;
		r->dirty_count = 0;
		return;
	}
	fail_msg("no leaf is changed");
}
static void a_changed_page_of_a_volume_not_marked(struct store *s) { s->trees.dirty->dirty = false; }
static void more_levels_placed_than_there_are(struct store *s)
{
	s->trees.volume[VOLUME_HEAD].placed_levels = s->trees.volume[VOLUME_HEAD].levels + 1;
}
static void an_odd_root(struct store *s) { s->trees.volume[VOLUME_HEAD].root |= 1; }

static void snapshots_out_of_order(struct store *s)
{
	struct snapshot **list = s->trees.snapshots.list, *first = list[0];
	list[0] = list[1];
	list[1] = first;
}
static void a_snapshot_of_the_future(struct store *s)
{
	s->trees.snapshots.list[0]->volume.birth = s->checkpoint.birth;
}
static void a_snapshot_not_all_placed(struct store *s)
{
	s->trees.snapshots.list[0]->volume.placed_levels--;
}
static void a_snapshot_that_shares_nothing(struct store *s)
{
	s->trees.volume[VOLUME_HEAD].shared_below = 0;
}
static void a_clone_that_shares_nothing(struct store *s)
{
	s->trees.snapshots.list[2]->volume.shared_below = 0;
}
static void a_bookmark_forgotten(struct store *s)
{
	s->trees.volume[VOLUME_HEAD].known_below = s->trees.volume[VOLUME_HEAD].shared_below;
}

static const struct plant {
	const char *name;
	void (*plant)(struct store *s);
	const char *said_by; /* NULL: nobody */
} plants[] = {
	{"nothing", nothing, NULL},
	{"a wrong sum (S3)", a_wrong_sum, "space.c"},
	{"a metaslab that holds too much (S2)", a_metaslab_that_holds_too_much, "space.c"},
	{"a metaslab in two lists (S1)", a_metaslab_in_two_lists, "space.c"},
	{"a wrong count (S1)", a_wrong_count, "space.c"},
	{"a state without a list (S1)", a_state_without_a_list, "space.c"},
	{"a number left out (L1)", a_number_left_out, "log.c"},
	{"a number given twice (L1)", a_number_given_twice, "space.c"},
	{"durable before it was written (L2)", durable_before_it_was_written, "log.c"},
	{"claimed before it was durable (L2)", claimed_before_it_was_durable, "log.c"},
	{"a page of a record unpinned (L3)", a_page_of_a_record_unpinned, "log.c"},
	{"a page with another key (C1)", a_page_with_another_key, "cache.c"},
	{"a page counted twice (C2)", a_page_counted_twice, "cache.c"},
	{"a free page that is pinned (C2)", a_free_page_pinned, "cache.c"},
	{"a changed page without a key (C3)", a_changed_page_without_a_key, "cache.c"},
	{"a changed page on no list (T1, V1)", a_changed_page_on_no_list, "store.c"},
	{"a clean page without an id (V1)", a_page_without_an_id, "cache.c"},
	{"a changed leaf not counted (T1)", a_changed_leaf_not_counted, "table.c"},
	{"a leaf in another region (T1)", a_leaf_in_another_region, "table.c"},
	{"a changed page of a volume not marked (V1)", a_changed_page_of_a_volume_not_marked, "tree.c"},
	{"more levels placed than there are (V2)", more_levels_placed_than_there_are, "tree.c"},
	{"an odd root (V2)", an_odd_root, "tree.c"},
	{"snapshots out of order (N1)", snapshots_out_of_order, "snap.c"},
	{"a snapshot of the future (N1)", a_snapshot_of_the_future, "snap.c"},
	{"a snapshot that is not all placed (N2)", a_snapshot_not_all_placed, "snap.c"},
	{"a snapshot that shares nothing (N3)", a_snapshot_that_shares_nothing, "snap.c"},
	{"a clone that shares nothing (N3)", a_clone_that_shares_nothing, "snap.c"},
	{"a bookmark that is forgotten (N4)", a_bookmark_forgotten, "snap.c"},
};

/* -- children -- */

static void run_child(const struct plant *p, int said)
{
	dup2(said, STDERR_FILENO);
	struct store *s = used_store();
	store_lock(s);
	p->plant(s);
	store_unlock(s);
	if (p->said_by && strcmp(p->said_by, "cache.c") != 0 && strcmp(p->said_by, "store.c") != 0)
		_exit(0); /* the rest is looked at each time */
	for (size_t i = 0; i < s->cache.buckets + s->cache.allocated; i += AUDIT_SHARE) {
		store_lock(s);
		store_unlock(s);
	}
	_exit(0);
}

static bool ends_with(const char *said, const char *file)
{
	return file ? strstr(said, file) != NULL : !*said;
}

static void planted_mistakes_are_found(void **state)
{
	(void)state;
	for (const struct plant *p = plants; p < plants + ARRAY_LENGTH(plants); p++) {
		int pipes[2], status;
		char said[1024] = "";
		size_t length = 0;
		ssize_t n;
		assert_int_equal(pipe(pipes), 0);
		fflush(NULL);
		pid_t child = fork();
		assert_true(child >= 0);
		if (!child)
			run_child(p, pipes[1]);
		close(pipes[1]);
		while (length < sizeof(said) - 1 &&
		       (n = read(pipes[0], said + length, sizeof(said) - 1 - length)) > 0)
			length += (size_t)n;
		close(pipes[0]);
		assert_int_equal(waitpid(child, &status, 0), child);
		bool ended = p->said_by ? WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT
					: WIFEXITED(status) && WEXITSTATUS(status) == 0;
		if (!ended || !ends_with(said, p->said_by))
			fail_msg("%s: status %d, said: %s", p->name, status, said);
	}
}

/* -- regions become larger while they have changed leaves -- */

enum { IDS_OF_REGION = TABLE_SLOTS * TABLE_SLOTS, LEAVES = 3 }; /* at first; changed ones in each */

static int change_leaf(struct store *s, void *context, struct need *need)
{
	struct page *leaf;
	int error = table_leaf_made(s, *(const uint64_t *)context, need, &leaf);
	return error ? error : table_modify(s, leaf);
}

/* From the middle on: there a list is joined. */
static void clean_region(struct store *s, struct region *r)
{
	while (r->dirty) {
		struct page *p = r->dirty;
		for (uint32_t i = 0; i < r->dirty_count / 2; i++)
			p = p->dirty_next;
		table_clean(s, p);
	}
}

static void regions_that_become_one_keep_their_changed_leaves(void **state)
{
	struct store *s = open_store();
	(void)state;
	store_lock(s);
	for (uint64_t i = 0; i < (uint64_t)REGIONS * LEAVES; i++) {
		uint64_t id = i / LEAVES * IDS_OF_REGION + i % LEAVES * TABLE_SLOTS + IDS_FIRST;
		assert_int_equal(attempt(s, change_leaf, &id), 0);
	}
	table_audit(s);
	for (unsigned regions = REGIONS / 2, shift = 1; regions; regions /= 2, shift++) {
		table_make_regions(s, ((uint64_t)IDS_OF_REGION * REGIONS << shift) - 1);
		assert_int_equal(s->table.region_shift, shift);
		for (unsigned i = 0; i < REGIONS; i++)
			assert_int_equal(s->table.region[i].dirty_count, i < regions ? LEAVES << shift : 0);
		table_audit(s);
	}
	clean_region(s, &s->table.region[0]);
	table_audit(s);
	assert_int_equal(s->table.dirty_count, 0);
	store_unlock(s);
	store_abandon(s);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(planted_mistakes_are_found),
		cmocka_unit_test(regions_that_become_one_keep_their_changed_leaves),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
