/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Checkpoint: a part of the block table is written as it was after record S of the log, and a new root makes it
 * current.
 *
 * The table is written region by region (struct fmt_region), the one first that holds back the redo point, so that
 * a step is small however large the table is, and needs little room. One step:
 *
 * 1. Pages of volumes' trees whose ids are in the region, and those that have none yet, go to the log. They are
 *    blocks like others: roll-forward finds them by their records. It binds addresses again that a page knows
 *    already, which does no harm; but none may be missing, hence before 2 there must be no such page that is dirty.
 * 2. Freeze, under the lock: users' records are sealed (the last is S), where the heads stand is noted, live counts
 *    are copied, the region's dirty leaves are marked. Users go on at once; a leaf that they change before it is
 *    written keeps its frozen version aside. A region where nothing has changed since its last step is as of S,
 *    too, for nothing.
 * 3. The leaves are written, twice each, behind each other into metaslabs of their own; then the pages above.
 * 4. The space list: how much is live in each metaslab.
 * 5. Flush; the root into the slot that is not current, in both areas; flush.
 * 6. What the old root needed is free now.
 *
 * Fails at any point: the old root stands, leaves not yet written are dirty again, and pages that the old root
 * refers to stay live (checkpoint.freed) until a root is durable. The new root goes to the same slot again, so the
 * last good one is never overwritten.
 */
#include "store/checkpoint.h"

#include <stdlib.h>
#include <string.h>

#include "store/attempt.h"
#include "store/log.h"
#include "store/pages.h"
#include "store/place.h"
#include "store/room.h"
#include "store/table.h"
#include "store/tree.h"

enum {
	HOLD_AFTER = 3,   /* rounds of 1. after which users' changes to trees wait */
	HOLD_PAGES = 768, /* whose writing users may wait for: some 10 ms */
};

struct count {
	uint32_t metaslab, live;
	uint64_t last;
	uint8_t class;
};

struct checkpoint {
	struct store *s;
	unsigned region, shift; /* which; and region_shift when that was chosen */
	struct page **leaf;     /* frozen */
	size_t leaves;
	struct count *count;
	size_t counts;
	struct region frozen; /* seq, chain and positions at the freeze */
	struct fmt_root root;
	struct fmt_pointer *space_pages;
	size_t space_page_count, space_page_room;
	unsigned space_levels;
	struct fmt_pointer space_top;
};

/* -- questions -- */

static bool has_pages(const struct store *s, unsigned region)
{
	for (const struct page *p = s->trees.dirty; p; p = p->dirty_next) {
		if (p->id && table_region(s, p->id / TABLE_SLOTS) == region)
			return true;
	}
	return false;
}

static bool is_settled(const struct store *s, unsigned region)
{
	return !s->table.region[region].dirty_count && !has_pages(s, region);
}

static unsigned lowest_region(const struct store *s)
{
	unsigned lowest = 0;
	for (unsigned i = 1; i < REGIONS; i++) {
		if (s->table.region[i].seq < s->table.region[lowest].seq)
			lowest = i;
	}
	return lowest;
}

/* Leaves of the table, and pages of trees that are kept there. */
static unsigned dirtiest_region(const struct store *s)
{
	uint32_t count[REGIONS];
	unsigned best = 0;
	for (unsigned i = 0; i < REGIONS; i++)
		count[i] = s->table.region[i].dirty_count;
	for (const struct page *p = s->trees.dirty; p; p = p->dirty_next)
		count[p->id ? table_region(s, p->id / TABLE_SLOTS) : 0]++;
	for (unsigned i = 1; i < REGIONS; i++) {
		if (count[i] > count[best])
			best = i;
	}
	return best;
}

uint64_t checkpoint_redo(const struct store *s)
{
	return s->table.region[lowest_region(s)].seq;
}

static uint64_t dirty_pages(const struct store *s)
{
	return (uint64_t)s->table.dirty_count + s->table.inner_count + s->trees.dirty_count;
}

bool checkpoint_urgent(const struct store *s)
{
	return dirty_pages(s) > s->cache.max / 2;
}

bool checkpoint_pending(const struct store *s)
{
	return dirty_pages(s) || s->space.redo < s->log.seq;
}

bool checkpoint_due(const struct store *s)
{
	bool full = atomic_load(&s->config.vdev->is_full);
	uint64_t size =
		(uint64_t)(full ? space_with_place(&s->space) : s->space.count) * s->config.metaslab_blocks;
	uint64_t log_max = MIN_OF(size / LOG_SHARE_OF_SIZE, (uint64_t)LOG_LENGTH_MAX_BLOCKS);
	uint64_t length = s->log.appended - s->table.region[lowest_region(s)].appended;
	return !s->faulted && (length > log_max || dirty_pages(s) > s->cache.max / DIRTY_SHARE_OF_CACHE);
}

/* -- 1. pages of trees -- */

struct tree_work {
	unsigned region; /* REGIONS: all */
	uint32_t kept;
	bool none; /* out: nothing was left to do */
};

/* The lowest first: what is above may change by it. */
static struct page *next_page(const struct store *s, unsigned region)
{
	struct page *best = NULL;
	for (struct page *p = s->trees.dirty; p; p = p->dirty_next) {
		bool ours = region == REGIONS || !p->id || table_region(s, p->id / TABLE_SLOTS) == region;
		if (ours && (!best || p->key.level < best->key.level))
			best = p;
		if (best && best->key.level == 0)
			break;
	}
	return best;
}

static int write_tree_page(struct store *s, void *context, struct need *need)
{
	struct tree_work *w = context;
	struct page *page = next_page(s, w->region);
	w->none = !page;
	return page ? tree_write_page(s, page, w->kept, need) : 0;
}

/* With the lock; when it returns 0, none was left since it was let go last. */
static int write_tree_pages(struct checkpoint *c, uint32_t kept)
{
	struct store *s = c->s;
	struct tree_work w = {.region = c->region, .kept = kept};
	unsigned rounds = 0, most = s->trees.dirty_count + 16;
	int error = 0;
	while (!error && !w.none) {
		error = attempt(s, write_tree_page, &w);
		s->trees.held = rounds++ > HOLD_AFTER * most;
	}
	return error;
}

/*
 * Somebody waits for this, and users change pages as fast as they are written. So they wait as soon as there are
 * few, or all were written once.
 */
static int write_trees_soon(struct store *s, uint32_t kept)
{
	struct tree_work w = {.region = REGIONS, .kept = kept};
	unsigned left = s->trees.dirty_count;
	int error = 0;
	while (!error && !w.none) {
		s->trees.held = s->trees.dirty_count <= HOLD_PAGES || left == 0;
		error = attempt(s, write_tree_page, &w);
		left -= left > 0;
	}
	return error;
}

int checkpoint_settle_trees(struct store *s, uint32_t kept)
{
	int error = write_trees_soon(s, kept);
	s->trees.held = !error;
	return error;
}

/* -- 2. freeze -- */

/* What is listed must not come into use anew, as a part of the table, before this list is superseded. */
static void pin_counts(struct checkpoint *c, bool pin)
{
	for (size_t i = 0; i < c->counts; i++) {
		if (pin)
			space_pin(&c->s->space, c->count[i].metaslab);
		else
			space_unpin(&c->s->space, c->count[i].metaslab);
	}
}

static int copy_counts(struct checkpoint *c)
{
	struct store *s = c->s;
	c->count = calloc(s->space.count + 1, sizeof(*c->count));
	if (!c->count)
		return -LCPFS_E_NOMEM;
	for (uint32_t i = 0; i < s->space.count; i++) {
		const struct metaslab *m = &s->space.slab[i];
		if (m->live && m->class != CLASS_TABLE)
			c->count[c->counts++] = (struct count){m->index, m->live, m->last, m->class};
	}
	pin_counts(c, true);
	return 0;
}

static int collect_leaves(struct checkpoint *c)
{
	struct store *s = c->s;
	struct region *r = &s->table.region[c->region];
	c->leaf = calloc(r->dirty_count + 1u, sizeof(*c->leaf));
	if (!c->leaf)
		return -LCPFS_E_NOMEM;
	while (r->dirty) {
		struct page *p = r->dirty;
		table_clean(s, p);
		p->freezing = true;
		c->leaf[c->leaves++] = p;
	}
	return 0;
}

static void note_positions(struct checkpoint *c)
{
	struct store *s = c->s;
	struct region *f = &c->frozen;
	f->seq = s->log.seq;
	f->chain = s->log.chain;
	f->appended = s->log.appended;
	for (unsigned i = 0; i < LOG_HEADS; i++)
		f->position[i] =
			(struct fmt_position){le32_of(s->log.head[i].metaslab), le32_of(s->log.head[i].offset)};
}

static void advance_region(struct region *r, const struct region *frozen)
{
	r->seq = frozen->seq;
	r->chain = frozen->chain;
	r->appended = frozen->appended;
	memcpy(r->position, frozen->position, sizeof(r->position));
}

static struct fmt_volume volume_now(const struct volume *v)
{
	return (struct fmt_volume){le64_of(v->root), le32_of(v->placed_levels), le32_of(v->birth),
				   le64_of(v->blocks), le64_of(v->origin)};
}

static void fill_volumes(const struct store *s, struct fmt_root *root)
{
	const struct snapshots *l = &s->trees.snapshots;
	struct fmt_clone *clone = root->clone;
	for (unsigned i = 0; i < ROOT_VOLUMES; i++)
		root->volume[i] = volume_now(&s->trees.volume[i]);
	for (unsigned i = 0; i < l->count; i++) {
		if (l->list[i]->state != SNAPSHOT_CLONE)
			continue;
		CHECK(clone < root->clone + CLONES_MAX);
		clone->number = le32_of(l->list[i]->number);
		clone++->volume = volume_now(&l->list[i]->volume);
	}
}

static void fill_root(struct checkpoint *c)
{
	struct store *s = c->s;
	struct fmt_root *root = &c->root;
	root->epoch = le64_of(s->log.epoch);
	root->epoch_seq = le64_of(s->log.epoch_seq);
	root->seq = le64_of(c->frozen.seq);
	root->id_end = le64_of(s->ids.end);
	root->data_blocks = le64_of(s->data_blocks);
	root->page_blocks = le64_of(s->page_blocks);
	root->written = le64_of(s->counters.written_blocks);
	root->birth = le32_of(s->checkpoint.birth);
	fill_volumes(s, root);
}

/* With the lock, held since nothing of 1. was left. */
static int freeze(struct checkpoint *c)
{
	struct store *s = c->s;
	log_seal_open(s);
	note_positions(c);
	fill_root(c);
	int error = copy_counts(c);
	return error ? error : collect_leaves(c);
}

/* -- 4. the space list -- */

/* Room to note a group of pages, before they get places. */
static int space_pages_reserve(struct checkpoint *c)
{
	if (c->space_page_room - c->space_page_count >= PAGE_GROUP)
		return 0;
	size_t room = 2 * c->space_page_room + PAGE_GROUP;
	struct fmt_pointer *list = realloc(c->space_pages, room * sizeof(*list));
	if (!list)
		return -LCPFS_E_NOMEM;
	c->space_pages = list;
	c->space_page_room = room;
	return 0;
}

/*
 * One level: `count` slots of `slot_bytes` become pages; their pointers are the slots of the next one, in place.
 */
static int write_space_level(struct checkpoint *c, unsigned level, uint8_t *slots, size_t slot_bytes,
			     size_t *count, struct page_group *g)
{
	size_t per_page = sizeof(g->image[0].bytes) / slot_bytes, pages = DIV_UP(*count, per_page);
	struct fmt_pointer *pointers = (struct fmt_pointer *)slots;
	int error = 0;
	for (size_t first = 0; first < pages && !error; first += g->count) {
		memset(g, 0, sizeof(*g));
		for (; g->count < PAGE_GROUP && first + g->count < pages; g->count++) {
			size_t slot = (first + g->count) * per_page, n = MIN_OF(*count - slot, per_page);
			struct page_out *o = &g->out[g->count];
			*o = (struct page_out){
				.image = &g->image[g->count], .level = level, .index = first + g->count};
			memcpy(o->image->bytes, slots + slot * slot_bytes, n * slot_bytes);
		}
		error = space_pages_reserve(c);
		if (!error)
			error = pages_write(c->s, g->out, g->count, TREE_SPACE);
		for (unsigned i = 0; i < g->count && !error; i++) {
			c->space_pages[c->space_page_count++] = g->out[i].at;
			pointers[first + i] = g->out[i].at; /* behind what was used of them */
		}
	}
	*count = pages;
	return error;
}

static void put_slot(struct fmt_space *slot, const struct count *count)
{
	*slot = (struct fmt_space){le32_of(count->metaslab), le32_of(count->live),
				   le64_of(count->last | (uint64_t)count->class << 56)};
}

/* LOG metaslabs as they were frozen; TABLE ones as this root has them, its space list left out. */
static size_t fill_slots(struct checkpoint *c, const uint32_t *doomed, struct fmt_space *slots)
{
	struct store *s = c->s;
	size_t count = 0;
	for (size_t i = 0; i < c->counts; i++)
		put_slot(&slots[count++], &c->count[i]);
	for (uint32_t i = 0; i < s->space.count; i++) {
		const struct metaslab *m = &s->space.slab[i];
		if (!m->live || m->class != CLASS_TABLE)
			continue;
		struct count t = {m->index, m->live - MIN_OF(m->live, doomed[i]), 0, CLASS_TABLE};
		if (t.live)
			put_slot(&slots[count++], &t);
	}
	return count;
}

static int write_space(struct checkpoint *c, struct page_group *g)
{
	struct store *s = c->s;
	size_t room = c->counts + s->space.in_class[CLASS_TABLE] + 2;
	/* Pointers take their place: a page of them is made of more than one page of slots. */
	struct fmt_space *slots = calloc(room + TABLE_SLOTS, sizeof(*slots));
	uint32_t *doomed = pages_doomed(s);
	int error = slots && doomed ? 0 : -LCPFS_E_NOMEM;
	size_t count = error ? 0 : fill_slots(c, doomed, slots), bytes = sizeof(*slots);
	free(doomed);
	for (bool more = count > 0; more && !error; more = count > 1) {
		error = write_space_level(c, c->space_levels++, (uint8_t *)slots, bytes, &count, g);
		bytes = sizeof(struct fmt_pointer);
	}
	if (!error && c->space_levels)
		memcpy(&c->space_top, slots, sizeof(c->space_top));
	free(slots);
	return error;
}

/* -- 5. root -- */

int root_write(struct store *s, struct fmt_root *root, unsigned slot)
{
	fmt_seal(root, FMT_ROOT, s->config.guid, s->config.partition, 0);
	struct vdev_io io[2];
	for (unsigned copy = 0; copy < 2; copy++)
		io[copy] = (struct vdev_io){.op = VDEV_WRITE,
					    .offset = s->config.root_block[slot][copy] << BLOCK_SHIFT,
					    .buffer = root,
					    .length = BLOCK_SIZE};
	return vdev_submit(s->config.vdev, io, 2);
}

static void fill_counters(const struct store *s, struct fmt_root *root)
{
	const uint64_t *counters = (const uint64_t *)&s->counters;
	static_assert(sizeof(s->counters) <= sizeof(root->counter), "counters fit into the root");
	for (unsigned i = 0; i < sizeof(s->counters) / sizeof(*counters); i++)
		root->counter[i] = le64_of(counters[i]);
}

static void fill_regions(const struct store *s, struct fmt_root *root)
{
	root->region_shift = le32_of(s->table.region_shift);
	for (unsigned i = 0; i < REGIONS; i++) {
		const struct region *r = &s->table.region[i];
		root->region[i].seq = le64_of(r->seq);
		root->region[i].chain = le64_of(r->chain);
		memcpy(root->region[i].position, r->position, sizeof(r->position));
	}
}

static void finish_root(struct checkpoint *c)
{
	struct store *s = c->s;
	struct fmt_root *root = &c->root;
	root->generation = le64_of(s->checkpoint.generation + 1);
	root->durable = le64_of(s->log.durable);
	root->table_pages = le64_of(s->table.pages);
	root->table = (struct fmt_tree_root){s->table.top, le32_of(s->table.levels), le32_of(0)};
	root->space = (struct fmt_tree_root){c->space_top, le32_of(c->space_levels), le32_of(0)};
	root->table_position =
		(struct fmt_position){le32_of(s->table.head.metaslab), le32_of(s->table.head.offset)};
	s->counters.device_blocks += 2;
	s->counters.checkpoints++;
	fill_regions(s, root);
	fill_counters(s, root);
}

static int flush_device(struct store *s)
{
	while (s->log.flushing)
		store_wait(s);
	return s->faulted ? -LCPFS_E_FAULTED : log_flush_device(s, s->log.durable);
}

/* Unless a flush has ended that began after this one. One that has only begun is no help yet. */
static int flush_device_after(struct store *s, uint64_t flush)
{
	while (s->log.flushing && s->log.flushed <= flush)
		store_wait(s);
	if (s->faulted)
		return -LCPFS_E_FAULTED;
	return s->log.flushed > flush ? 0 : flush_device(s);
}

/* With the lock, since the last page was written. */
static int publish(struct checkpoint *c)
{
	struct store *s = c->s;
	uint64_t flushes = s->log.flushes;
	int error = log_flush(s);
	if (!error) /* the log may need none any more; the pages do */
		error = flush_device_after(s, flushes);
	finish_root(c);
	unsigned failures = atomic_load(&s->config.vdev->flush_failures);
	store_unlock(s);
	if (!error)
		error = root_write(s, &c->root, 1 - s->checkpoint.root_slot);
	store_lock(s);
	if (!error)
		error = flush_device(s);
	if (!error && atomic_load(&s->config.vdev->flush_failures) != failures) {
		s->faulted = true;
		error = -LCPFS_E_FAULTED;
	}
	return error;
}

/* -- 6. afterwards -- */

static void settle(struct checkpoint *c)
{
	struct store *s = c->s;
	struct checkpoints *k = &s->checkpoint;
	k->root_slot = 1 - k->root_slot;
	k->root_seq = le64_get(c->root.seq);
	for (size_t i = 0; i < k->freed_count; i++)
		pages_drop(s, k->freed[i]);
	k->freed_count = 0;
	for (size_t i = 0; i < 2 * k->space_page_count; i++)
		pages_drop(s, block_of_place(k->space_pages[i / 2].place[i % 2]));
	free(k->space_pages);
	k->space_pages = c->space_pages;
	k->space_page_count = c->space_page_count;
	k->space_top = c->space_top;
	k->space_levels = c->space_levels;
	c->space_pages = NULL;
	space_rooted(&s->space, checkpoint_redo(s));
}

/* Undoes a freeze whose leaves were not all written, or whose root did not get durable. */
static void abandon(struct checkpoint *c)
{
	struct store *s = c->s;
	for (size_t i = 0; i < c->leaves; i++) {
		struct page *p = c->leaf[i];
		if (!p || !p->freezing)
			continue;
		p->freezing = false;
		free(p->frozen);
		p->frozen = NULL;
		CHECK(!table_modify(s, p));
	}
	for (size_t i = 0; i < 2 * c->space_page_count; i++)
		pages_drop(s, block_of_place(c->space_pages[i / 2].place[i % 2]));
	free(c->space_pages);
}

/* -- a step -- */

/*
 * The region's leaves lie on the device as they were frozen: the next root, this one or another, says so. Unless
 * regions have become larger meanwhile: then this one is a part of another, whose other part is older.
 */
static void advance(struct checkpoint *c)
{
	if (c->shift == c->s->table.region_shift)
		advance_region(&c->s->table.region[c->region], &c->frozen);
}

static int write_frozen(struct checkpoint *c)
{
	struct store *s = c->s;
	struct page_group *g = pages_group_new();
	int error = g ? pages_write_leaves(s, g, c->leaf, c->leaves) : -LCPFS_E_NOMEM;
	if (!error)
		advance(c);
	if (!error)
		error = pages_move(s, g, c->leaves);
	if (!error)
		error = pages_write_inner(s, g);
	if (!error)
		error = write_space(c, g);
	free(g);
	return error ? error : publish(c);
}

static void finish(struct checkpoint *c, int error)
{
	struct store *s = c->s;
	s->checkpoint.generation++; /* of a failed attempt too: its root may have arrived */
	if (error)
		abandon(c);
	else
		settle(c);
	pin_counts(c, false);
	store_changed(s);
	free(c->leaf);
	free(c->count);
}

/* Where nothing changed, or only what was just written, the region is as of the freeze. */
static void advance_settled(struct checkpoint *c)
{
	for (unsigned i = 0; i < REGIONS && c->shift == c->s->table.region_shift; i++) {
		if (i != c->region && is_settled(c->s, i))
			advance_region(&c->s->table.region[i], &c->frozen);
	}
}

/* Metaslabs that were emptied may wait for just that. */
static int flush_for_room(struct store *s)
{
	bool short_of = space_empty(&s->space) < room_kept(s, USER_WRITE) && space_unflushed(&s->space);
	return short_of ? log_flush(s) : 0;
}

/* With the lock; when it returns 0, no page of a tree is dirty that has to be written first. */
static int begin(struct checkpoint *c, uint32_t kept)
{
	struct store *s = c->s;
	int error = s->faulted ? -LCPFS_E_FAULTED : flush_for_room(s);
	if (error)
		return error;
	do {
		bool pressed = dirty_pages(s) > s->cache.max / DIRTY_SHARE_OF_CACHE;
		c->region = pressed ? dirtiest_region(s) : lowest_region(s);
		c->shift = s->table.region_shift;
		error = write_tree_pages(c, kept);
	} while (!error && c->shift != s->table.region_shift);
	return error;
}

/*
 * Is there room for all pages that it writes? One that failed half-way would have used it up for nothing. Where
 * nothing can be cleaned it has to be tried.
 */
static bool has_room(const struct checkpoint *c)
{
	const struct store *s = c->s;
	uint64_t above = (UINT64_C(1) << c->shift) + s->table.levels + s->table.inner_count;
	uint64_t pages = s->table.region[c->region].dirty_count + above + plan_list_pages(s->space.count);
	return 2 * pages <= pages_room(s) || !space_victim(&s->space, s->counters.written_blocks);
}

int checkpoint_step(struct store *s, uint32_t kept)
{
	struct checkpoint c = {.s = s};
	store_lock(s);
	if (!s->faulted)
		log_choose_heads(s, room_kept(s, USER_WRITE));
	int error = begin(&c, kept);
	if (!error && !has_room(&c))
		error = -LCPFS_E_NOSPC;
	bool frozen = !error;
	if (!error)
		error = freeze(&c);
	if (!error)
		advance_settled(&c);
	s->trees.held = false;
	store_changed(s);
	if (!error)
		error = write_frozen(&c);
	if (frozen)
		finish(&c, error);
	store_unlock(s);
	return error;
}

int checkpoint_root(struct store *s)
{
	struct checkpoint c = {.s = s, .region = REGIONS};
	store_lock(s);
	int error = log_flush(s);
	note_positions(&c);
	fill_root(&c);
	if (!error)
		error = copy_counts(&c);
	struct page_group *g = error ? NULL : pages_group_new();
	if (!error)
		error = g ? write_space(&c, g) : -LCPFS_E_NOMEM;
	if (!error)
		error = publish(&c);
	free(g);
	finish(&c, error);
	store_unlock(s);
	return error;
}
