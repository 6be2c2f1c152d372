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
#include "store/log.h"
#include "store/state.h"
#include "store/store.h"
#include "store/table.h"
#include "store/tree.h"

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

/* With a checkpoint behind it, changed pages of both trees, a full metaslab, and an open record. */
static struct store *used_store(void)
{
	struct store *s = open_store();
	assert_int_equal(write_some(s, 0, 200), 0);
	assert_int_equal(store_checkpoint(s), 0);
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
static void a_metaslab_that_holds_too_much(struct store *s) { closed_one(s)->live = s->space.units + BLOCK_SECTORS; }
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
	{"a changed leaf not counted (T1)", a_changed_leaf_not_counted, "table.c"},
	{"a leaf in another region (T1)", a_leaf_in_another_region, "table.c"},
	{"a changed page of a volume not marked (V1)", a_changed_page_of_a_volume_not_marked, "tree.c"},
	{"more levels placed than there are (V2)", more_levels_placed_than_there_are, "tree.c"},
	{"an odd root (V2)", an_odd_root, "tree.c"},
};

/* -- children -- */

static void run_child(const struct plant *p, int said)
{
	dup2(said, STDERR_FILENO);
	struct store *s = used_store();
	store_lock(s);
	p->plant(s);
	s->audits = 0; /* so that the next unlock looks at everything */
	store_unlock(s);
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
		while (length < sizeof(said) - 1 && (n = read(pipes[0], said + length, sizeof(said) - 1 - length)) > 0)
			length += (size_t)n;
		close(pipes[0]);
		assert_int_equal(waitpid(child, &status, 0), child);
		bool ended = p->said_by ? WIFSIGNALED(status) && WTERMSIG(status) == SIGABRT
					: WIFEXITED(status) && WEXITSTATUS(status) == 0;
		if (!ended || !ends_with(said, p->said_by))
			fail_msg("%s: status %d, said: %s", p->name, status, said);
	}
}

int main(void)
{
	const struct CMUnitTest tests[] = {cmocka_unit_test(planted_mistakes_are_found)};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
