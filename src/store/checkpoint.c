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
#include "store/place.h"
#include "store/room.h"
#include "store/table.h"
#include "store/tree.h"

enum {
	GROUP = 64,       /* pages written at a time */
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

static int freed_reserve(struct store *s, size_t more)
{
	struct checkpoints *k = &s->checkpoint;
	if (k->freed_count + more <= k->freed_room)
		return 0;
	size_t room = MAX_OF(2 * k->freed_room, k->freed_count + more + 64);
	uint64_t *freed = realloc(k->freed, room * sizeof(*freed));
	if (!freed)
		return -LCPFS_E_NOMEM;
	k->freed = freed;
	k->freed_room = room;
	return 0;
}

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

/* -- 3. pages -- */

/* One page on its way to the device. */
struct out {
	struct fmt_page *image; /* sealed */
	struct fmt_pointer at;
	unsigned level;
	uint64_t index;
};

/* The next block for a page of the table; takes a new metaslab where the last one is full. */
static int next_place(struct store *s, uint64_t *block)
{
	struct head *h = &s->table.head;
	if (h->metaslab != NO_METASLAB && h->offset == s->config.metaslab_blocks) {
		space_close(&s->space, h->metaslab);
		h->metaslab = NO_METASLAB;
	}
	if (h->metaslab == NO_METASLAB) {
		h->metaslab = space_take(&s->space, CLASS_TABLE, s->counters.written_blocks);
		h->offset = 0;
		if (h->metaslab == SPACE_NONE)
			return -LCPFS_E_NOSPC;
	}
	*block = metaslab_block(s, h->metaslab) + h->offset++;
	space_live_add(&s->space, space_find(&s->space, h->metaslab), BLOCK_SECTORS);
	return 0;
}

static void drop_block(struct store *s, uint64_t block)
{
	struct metaslab *m = metaslab_of(s, block);
	if (m && m->class == CLASS_TABLE && m->live)
		space_live_sub(&s->space, m, BLOCK_SECTORS);
	else
		(void)store_contradiction(s); /* of what the device said: its counts and its pages */
}

/* They were given places that nothing points at in the end. */
static void drop_places(struct store *s, const struct out *out, unsigned count)
{
	for (unsigned i = 0; i < 2 * count; i++) {
		if (!place_null(out[i / 2].at.place[i % 2]))
			drop_block(s, block_of_place(out[i / 2].at.place[i % 2]));
	}
}

static int place_copy(struct store *s, struct out *out, unsigned count, unsigned copy)
{
	for (unsigned i = 0; i < count; i++) {
		uint64_t block;
		int error = next_place(s, &block);
		if (error)
			return error;
		out[i].at.place[copy] = place_of_block(block);
	}
	return 0;
}

/* Neighbours go together. */
static int write_copy(struct store *s, const struct out *out, unsigned count, unsigned copy)
{
	struct iovec iov[GROUP];
	for (unsigned first = 0, n; first < count; first += n) {
		uint64_t block = block_of_place(out[first].at.place[copy]);
		for (n = 0; first + n < count && block_of_place(out[first + n].at.place[copy]) == block + n; n++)
			iov[n] = (struct iovec){out[first + n].image, BLOCK_SIZE};
		int error = vdev_writev(s->config.vdev, block << BLOCK_SHIFT, iov, n);
		if (error)
			return error;
	}
	return 0;
}

static void seal_image(struct store *s, struct out *o, unsigned tree)
{
	struct fmt_page *page = o->image;
	page->generation = le64_of(s->checkpoint.generation + 1);
	page->tree = (uint8_t)tree;
	page->level = (uint8_t)o->level;
	page->index = le64_of(o->index);
	fmt_seal(page, FMT_PAGE, s->config.guid, s->config.partition, 0);
	o->at.check = fmt_check_of(page);
}

/* With the lock, which is let go meanwhile. After an error they have no places. */
static int write_group(struct store *s, struct out *out, unsigned count, unsigned tree)
{
	if (!count)
		return 0;
	if (!s->log.unflushed) {
		s->log.unflushed = true;
		s->log.flush_failures = atomic_load(&s->config.vdev->flush_failures);
	}
	int error = place_copy(s, out, count, 0);
	if (!error)
		error = place_copy(s, out, count, 1);
	store_unlock(s);
	for (unsigned i = 0; i < count && !error; i++)
		seal_image(s, &out[i], tree);
	for (unsigned copy = 0; copy < 2 && !error; copy++)
		error = write_copy(s, out, count, copy);
	store_lock(s);
	if (error) {
		drop_places(s, out, count);
		return error;
	}
	s->counters.device_blocks += 2 * count;
	s->counters.page_blocks += 2 * count;
	return 0;
}

/* The page above, made if there is none; pinned. NULL: the root is above. */
static int parent_of(struct store *s, unsigned level, uint64_t index, struct page **parent)
{
	*parent = NULL;
	if (level + 1 == s->table.levels)
		return 0;
	int error = table_page(s, level + 1, index / TABLE_SLOTS, parent);
	if (error || *parent)
		return error;
	struct page_key key = table_key(level + 1, index / TABLE_SLOTS);
	struct page *p = cache_take(&s->cache);
	if (!p)
		return -LCPFS_E_NOMEM;
	memset(p->data, 0, BLOCK_SIZE);
	p->fresh = true;
	s->table.fresh++;
	cache_insert(&s->cache, p, &key, PAGE_READY);
	*parent = p;
	return 0;
}

/* The tree reaches a leaf. */
static int make_levels(struct store *s, uint64_t leaf)
{
	uint64_t capacity = 1;
	for (unsigned i = 1; i < s->table.levels; i++)
		capacity *= TABLE_SLOTS;
	for (; s->table.levels == 0 || leaf >= capacity; capacity *= s->table.levels > 1 ? TABLE_SLOTS : 1) {
		struct fmt_pointer top = s->table.top;
		struct page *p;
		if (s->table.levels == TABLE_LEVELS_MAX)
			return -LCPFS_E_RANGE;
		s->table.levels++;
		s->table.top = (struct fmt_pointer){0};
		if (s->table.levels == 1 || pointer_null(&top))
			continue;
		int error = parent_of(s, s->table.levels - 2, 0, &p);
		if (error) {
			s->table.levels--;
			s->table.top = top;
			return error;
		}
		page_table(p)->child[0] = top;
		table_mark_inner(s, p);
		page_unpin(&s->cache, p);
	}
	return 0;
}

/* What the durable root refers to stays until another one is durable. Room for it was reserved. */
static void free_later(struct store *s, const struct fmt_pointer *at)
{
	for (unsigned copy = 0; copy < 2 && !pointer_null(at); copy++)
		s->checkpoint.freed[s->checkpoint.freed_count++] = block_of_place(at->place[copy]);
}

/* Whoever points at the page points to where it lies now. */
static void point_at(struct store *s, struct page *parent, uint64_t index, const struct fmt_pointer *at)
{
	struct fmt_pointer *pointer = parent ? &page_table(parent)->child[index % TABLE_SLOTS] : &s->table.top;
	free_later(s, pointer);
	*pointer = *at;
	if (parent)
		table_mark_inner(s, parent);
}

static bool is_empty(const struct fmt_page *page)
{
	static const uint8_t zeros[sizeof(page->bytes)];
	return memcmp(page->bytes, zeros, sizeof(zeros)) == 0;
}

/* It lies on the device now, as it was frozen; or (at null) nowhere, since it is empty. */
static void page_written(struct store *s, struct page *p, bool nowhere)
{
	if (p->fresh && !nowhere) {
		s->table.fresh--;
		s->table.pages++;
	} else if (!p->fresh && nowhere) {
		s->table.fresh++;
		s->table.pages--;
	}
	p->fresh = nowhere;
	p->freezing = false;
	free(p->frozen);
	p->frozen = NULL;
	if (!nowhere || p->dirty)
		return;
	s->table.fresh--;
	p->fresh = false;
	cache_forget(&s->cache, p);
}

struct group {
	unsigned count;
	struct out out[GROUP];
	struct page **page[GROUP]; /* where it is listed; NULL there: it was written. No page: it is only moved */
	struct fmt_page image[GROUP];
};

/* Parents first: where one cannot be had, nothing has changed. */
static int point_all(struct store *s, struct group *g)
{
	struct page *parent;
	for (unsigned i = 0; i < g->count; i++) {
		int error = parent_of(s, g->out[i].level, g->out[i].index, &parent);
		if (error) {
			drop_places(s, g->out + i, g->count - i);
			return error;
		}
		bool nowhere = is_empty(g->out[i].image);
		point_at(s, parent, g->out[i].index, nowhere ? &(struct fmt_pointer){0} : &g->out[i].at);
		if (parent)
			page_unpin(&s->cache, parent);
		if (g->page[i])
			page_written(s, *g->page[i], nowhere);
		if (g->page[i])
			*g->page[i] = NULL;
	}
	return 0;
}

/* Empty ones are not written: they come last, and only the first ones go out. */
static int write_pages(struct store *s, struct group *g)
{
	unsigned written = 0;
	for (unsigned i = 0; i < g->count; i++)
		g->out[i].image = &g->image[i];
	for (unsigned i = 0; i < g->count; i++) {
		if (is_empty(g->out[i].image))
			continue;
		struct out o = g->out[i];
		struct page **p = g->page[i];
		g->out[i] = g->out[written];
		g->page[i] = g->page[written];
		g->out[written] = o;
		g->page[written++] = p;
	}
	int error = freed_reserve(s, 2 * g->count);
	if (!error)
		error = write_group(s, g->out, written, TREE_TABLE);
	return error ? error : point_all(s, g);
}

static void add_to_group(struct group *g, struct page **listed)
{
	const struct page *p = *listed;
	g->page[g->count] = listed;
	g->out[g->count].level = p->key.level;
	g->out[g->count].index = p->key.index;
	memcpy(&g->image[g->count++], p->frozen ? p->frozen : p->data, BLOCK_SIZE);
}

static int write_leaves(struct checkpoint *c, struct group *g)
{
	struct store *s = c->s;
	int error = 0;
	for (size_t i = 0; i < c->leaves && !error; i++)
		error = make_levels(s, c->leaf[i]->key.index);
	for (size_t first = 0; first < c->leaves && !error; first += g->count) {
		memset(g, 0, sizeof(*g));
		while (g->count < GROUP && first + g->count < c->leaves)
			add_to_group(g, &c->leaf[first + g->count]);
		error = write_pages(s, g);
	}
	return error;
}

/* Level by level, so that a page is written when those below it are. */
static int write_inner(struct checkpoint *c, struct group *g)
{
	struct store *s = c->s;
	struct page *page[GROUP], *written[GROUP];
	int error = 0;
	for (unsigned level = 1; level < s->table.levels && !error; level += g->count == 0) {
		memset(g, 0, sizeof(*g));
		for (struct page *p = s->table.dirty_inner; p && g->count < GROUP; p = p->dirty_next) {
			page[g->count] = written[g->count] = p;
			if (p->key.level == level)
				add_to_group(g, &written[g->count]);
		}
		for (unsigned i = 0; i < g->count; i++) {
			page_pin(page[i]);
			table_clean(s, page[i]);
		}
		error = write_pages(s, g);
		for (unsigned i = 0; i < g->count; i++) {
			if (written[i]) /* it was not */
				table_mark_inner(s, page[i]);
			page_unpin(&s->cache, page[i]);
		}
	}
	return error;
}

/* -- pages that only move -- */

/*
 * Dead pages among live ones: where they are too many, the live ones of the metaslab with the fewest go elsewhere,
 * as they lie on the device; so the region that a leaf belongs to stays as old as it is.
 */
static struct metaslab *wasteful(const struct store *s, const uint32_t *doomed)
{
	return plan_wasteful(&s->space, doomed, 2 * (s->table.pages + s->checkpoint.space_page_count),
			     room_kept(s, USER_WRITE));
}

static void doom(const struct store *s, uint64_t block, uint32_t *doomed)
{
	const struct metaslab *m = metaslab_of(s, block);
	if (m)
		doomed[m - s->space.slab] += BLOCK_SECTORS;
}

/* By position in the slab, units that only the durable root needs. To be freed; good while the lock is held. */
static uint32_t *count_doomed(const struct store *s)
{
	const struct checkpoints *k = &s->checkpoint;
	uint32_t *doomed = calloc(s->space.count + 1, sizeof(*doomed));
	for (size_t i = 0; i < k->freed_count && doomed; i++)
		doom(s, k->freed[i], doomed);
	for (size_t i = 0; i < 2 * k->space_page_count && doomed; i++)
		doom(s, block_of_place(k->space_pages[i / 2].place[i % 2]), doomed);
	return doomed;
}

bool checkpoint_wasteful(const struct store *s)
{
	const struct head *h = &s->table.head;
	const struct metaslab *m = wasteful(s, NULL);
	uint32_t room = h->metaslab == NO_METASLAB ? 0 : s->config.metaslab_blocks - h->offset;
	return m && m->live <= room * BLOCK_SECTORS / 2; /* with what is above them */
}

/* Is this what the table has at this place? With the lock; `at` says where both copies lie. */
static bool is_current(struct store *s, const struct fmt_page *page, uint64_t block, struct fmt_pointer *at)
{
	if (page->tree != TREE_TABLE || page->level >= s->table.levels ||
	    table_pointer(s, page->level, le64_get(page->index), at) || pointer_null(at))
		return false;
	return fmt_check_fits(&at->check, page) &&
	       (block_of_place(at->place[0]) == block || block_of_place(at->place[1]) == block);
}

static bool is_dirty_inner(struct store *s, const struct fmt_page *page)
{
	struct page_key key = table_key(page->level, le64_get(page->index));
	struct page *p = cache_find(&s->cache, &key);
	return page->level > 0 && p && p->dirty; /* it is written anyway */
}

static int add_moved(struct checkpoint *c, struct group *g, uint64_t block)
{
	struct store *s = c->s;
	struct fmt_page *image = &g->image[g->count];
	struct fmt_pointer at;
	store_unlock(s);
	int error = vdev_read(s->config.vdev, block << BLOCK_SHIFT, image, BLOCK_SIZE);
	store_lock(s);
	if (error || fmt_verify(image, FMT_PAGE, s->config.guid, s->config.partition) != FMT_GOOD ||
	    !is_current(s, image, block, &at) || is_dirty_inner(s, image))
		return 0; /* a damaged one stays where it is: the other copy's place has it, too */
	for (unsigned i = 0; i < g->count; i++) { /* the other copy is in the same metaslab */
		if (g->out[i].level == image->level && g->out[i].index == le64_get(image->index))
			return 0;
	}
	g->out[g->count].level = image->level;
	g->out[g->count].index = le64_get(image->index);
	g->page[g->count++] = NULL;
	return 0;
}

static int move_from(struct checkpoint *c, struct group *g, uint32_t metaslab)
{
	struct store *s = c->s;
	uint64_t block = metaslab_block(s, metaslab), end = block + s->config.metaslab_blocks;
	int error = 0;
	while (block < end && !error) {
		memset(g, 0, sizeof(*g));
		for (; block < end && g->count < GROUP && !error; block++)
			error = add_moved(c, g, block);
		if (!error && g->count)
			error = write_pages(s, g);
	}
	return error;
}

/* Blocks that pages of the table find. */
static uint64_t table_room(const struct store *s)
{
	const struct head *h = &s->table.head;
	uint64_t head = h->metaslab == NO_METASLAB ? 0 : s->config.metaslab_blocks - h->offset;
	return (uint64_t)space_empty(&s->space) * s->config.metaslab_blocks + head;
}

/* With as many pages above them as they are, what is above is still written, and the space list. */
static bool may_move(const struct store *s, uint32_t left)
{
	uint64_t rest = s->table.inner_count + s->table.levels + plan_list_pages(s->space.count);
	return 2 * left / BLOCK_SECTORS + 2 * rest <= table_room(s);
}

static uint32_t next_to_move(const struct store *s)
{
	uint32_t *doomed = count_doomed(s);
	const struct metaslab *m = doomed ? wasteful(s, doomed) : NULL;
	bool may = m && may_move(s, m->live - doomed[m - s->space.slab]);
	free(doomed);
	return may ? m->index : SPACE_NONE;
}

/* As many metaslabs as it takes to keep the waste within bounds: but no more than the step's own pages again. */
static int move_pages(struct checkpoint *c, struct group *g)
{
	struct store *s = c->s;
	uint64_t end = s->counters.page_blocks + 2 * c->leaves + s->config.metaslab_blocks;
	uint32_t last = SPACE_NONE, next = next_to_move(s);
	int error = 0;
	/* From one that cannot be read nothing moves. */
	while (next != SPACE_NONE && next != last && !error && s->counters.page_blocks < end) {
		last = next;
		error = move_from(c, g, last);
		next = next_to_move(s);
	}
	return error;
}

/* -- 4. the space list -- */

/* Room to note a group of pages, before they get places. */
static int space_pages_reserve(struct checkpoint *c)
{
	if (c->space_page_room - c->space_page_count >= GROUP)
		return 0;
	size_t room = 2 * c->space_page_room + GROUP;
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
			     size_t *count, struct group *g)
{
	size_t per_page = sizeof(g->image[0].bytes) / slot_bytes, pages = DIV_UP(*count, per_page);
	struct fmt_pointer *pointers = (struct fmt_pointer *)slots;
	int error = 0;
	for (size_t first = 0; first < pages && !error; first += g->count) {
		memset(g, 0, sizeof(*g));
		for (; g->count < GROUP && first + g->count < pages; g->count++) {
			size_t slot = (first + g->count) * per_page, n = MIN_OF(*count - slot, per_page);
			struct out *o = &g->out[g->count];
			*o = (struct out){.image = &g->image[g->count], .level = level, .index = first + g->count};
			memcpy(o->image->bytes, slots + slot * slot_bytes, n * slot_bytes);
		}
		error = space_pages_reserve(c);
		if (!error)
			error = write_group(c->s, g->out, g->count, TREE_SPACE);
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

static int write_space(struct checkpoint *c, struct group *g)
{
	struct store *s = c->s;
	size_t room = c->counts + s->space.in_class[CLASS_TABLE] + 2;
	/* Pointers take their place: a page of them is made of more than one page of slots. */
	struct fmt_space *slots = calloc(room + TABLE_SLOTS, sizeof(*slots));
	uint32_t *doomed = count_doomed(s);
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
		drop_block(s, k->freed[i]);
	k->freed_count = 0;
	for (size_t i = 0; i < 2 * k->space_page_count; i++)
		drop_block(s, block_of_place(k->space_pages[i / 2].place[i % 2]));
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
		drop_block(s, block_of_place(c->space_pages[i / 2].place[i % 2]));
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
	struct group *g = malloc(sizeof(*g));
	int error = g ? write_leaves(c, g) : -LCPFS_E_NOMEM;
	if (!error)
		advance(c);
	if (!error)
		error = move_pages(c, g);
	if (!error)
		error = write_inner(c, g);
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
	return 2 * pages <= table_room(s) || !space_victim(&s->space, s->counters.written_blocks);
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
	struct group *g = error ? NULL : malloc(sizeof(*g));
	if (!error)
		error = g ? write_space(&c, g) : -LCPFS_E_NOMEM;
	if (!error)
		error = publish(&c);
	free(g);
	finish(&c, error);
	store_unlock(s);
	return error;
}
