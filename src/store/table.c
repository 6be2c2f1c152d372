/* SPDX-License-Identifier: Apache-2.0 */
#include "store/table.h"

#include <stdlib.h>
#include <string.h>

#include "store/place.h"

/* -- dirty pages -- */

static void list_add(struct page **list, struct page *p)
{
	p->dirty_previous = NULL;
	p->dirty_next = *list;
	if (*list)
		(*list)->dirty_previous = p;
	*list = p;
}

static void list_take(struct page **list, struct page *p)
{
	if (p->dirty_previous)
		p->dirty_previous->dirty_next = p->dirty_next;
	else
		*list = p->dirty_next;
	if (p->dirty_next)
		p->dirty_next->dirty_previous = p->dirty_previous;
}

static void mark_leaf(struct store *s, struct page *p)
{
	struct region *r = &s->table.region[table_region(s, p->key.index)];
	if (p->dirty)
		return;
	p->dirty = true;
	list_add(&r->dirty, p);
	r->dirty_count++;
	s->table.dirty_count++;
}

void table_mark_inner(struct store *s, struct page *p)
{
	if (p->dirty)
		return;
	p->dirty = true;
	list_add(&s->table.dirty_inner, p);
	s->table.inner_count++;
}

void table_clean(struct store *s, struct page *p)
{
	CHECK(p->dirty);
	p->dirty = false;
	if (p->key.level > 0) {
		list_take(&s->table.dirty_inner, p);
		s->table.inner_count--;
		return;
	}
	struct region *r = &s->table.region[table_region(s, p->key.index)];
	list_take(&r->dirty, p);
	r->dirty_count--;
	s->table.dirty_count--;
}

int table_modify(struct store *s, struct page *p)
{
	if (p->freezing && !p->frozen) {
		p->frozen = malloc(BLOCK_SIZE);
		if (!p->frozen)
			return -LCPFS_E_NOMEM;
		memcpy(p->frozen, p->data, BLOCK_SIZE);
	}
	table_make_regions(s,
			   p->key.index * TABLE_SLOTS); /* a damaged root may know less ids than its table has */
	mark_leaf(s, p);
	return 0;
}

/* -- regions -- */

static void merge_regions(struct region *to, const struct region *lower, const struct region *upper)
{
	struct region merged = lower->seq <= upper->seq ? *lower : *upper;
	merged.dirty_count = lower->dirty_count + upper->dirty_count;
	merged.dirty = lower->dirty ? lower->dirty : upper->dirty;
	if (lower->dirty && upper->dirty) {
		struct page *end = lower->dirty;
		while (end->dirty_next)
			end = end->dirty_next;
		end->dirty_next = upper->dirty;
		upper->dirty->dirty_previous = end;
	}
	*to = merged;
}

/* Regions behind those that have pages are as the youngest: nothing of them has ever changed. */
static void double_regions(struct store *s)
{
	struct table *t = &s->table;
	struct region youngest = t->region[0];
	for (unsigned i = 1; i < REGIONS; i++) {
		if (t->region[i].seq > youngest.seq)
			youngest = t->region[i];
	}
	for (unsigned i = 0; i < REGIONS / 2; i++)
		merge_regions(&t->region[i], &t->region[2 * i], &t->region[2 * i + 1]);
	youngest.dirty = NULL;
	youngest.dirty_count = 0;
	for (unsigned i = REGIONS / 2; i < REGIONS; i++)
		t->region[i] = youngest;
	t->region_shift++;
}

void table_make_regions(struct store *s, uint64_t id)
{
	while (id / TABLE_SLOTS / TABLE_SLOTS >> s->table.region_shift >= REGIONS)
		double_regions(s);
}

/* -- entries -- */

uint64_t table_block(const struct store *s, const struct fmt_block *e)
{
	uint64_t block = block_of_place(e->place);
	bool sane =
		e->kind > BLOCK_FREE && e->kind < BLOCK_KINDS && le16_get(e->sectors) == BLOCK_SECTORS && !e->zero;
	const struct metaslab *m = sane ? metaslab_of(s, block) : NULL;
	return m && m->class != CLASS_TABLE ? block : UINT64_MAX;
}

static int change_place(struct store *s, struct fmt_block *e, uint64_t block)
{
	uint64_t old = entry_free(e) ? 0 : table_block(s, e);
	struct metaslab *from = old ? metaslab_of(s, old) : NULL, *to = block ? metaslab_of(s, block) : NULL;
	if ((old && (!from || from->live < BLOCK_SECTORS)) ||
	    (block && (!to || to->live > s->space.units - BLOCK_SECTORS)))
		return -LCPFS_E_CORRUPT;
	if (to)
		space_live_add(&s->space, to, BLOCK_SECTORS);
	if (from)
		space_live_sub(&s->space, from, BLOCK_SECTORS);
	e->place = block ? place_of_block(block) : le64_of(0);
	return 0;
}

int table_place(struct store *s, struct fmt_block *e, uint64_t block)
{
	return entry_free(e) ? -LCPFS_E_CORRUPT : change_place(s, e, block);
}

static uint64_t *count_of(struct store *s, unsigned kind)
{
	return kind == BLOCK_DATA ? &s->data_blocks : &s->page_blocks;
}

int table_store(struct store *s, struct fmt_block *e, enum fmt_block_kind kind, uint64_t block,
		const struct fmt_check *check)
{
	if (!entry_free(e) && e->kind != kind)
		return -LCPFS_E_CORRUPT;
	int error = change_place(s, e, block);
	if (error)
		return error;
	if (entry_free(e)) {
		e->birth = le32_of(s->checkpoint.birth);
		e->sectors = le16_of(BLOCK_SECTORS);
		e->kind = (uint8_t)kind;
		++*count_of(s, kind);
	}
	e->check = *check;
	return 0;
}

int table_free(struct store *s, struct fmt_block *e)
{
	if (entry_free(e) || e->kind >= BLOCK_KINDS || !*count_of(s, e->kind))
		return -LCPFS_E_CORRUPT;
	uint64_t *count = count_of(s, e->kind);
	int error = change_place(s, e, 0);
	if (error)
		return error;
	--*count;
	memset(e, 0, sizeof(*e));
	return 0;
}

/* -- reading pages -- */

static bool page_good(const struct store *s, const struct fmt_page *page, const struct fmt_pointer *at,
		      unsigned tree, unsigned level, uint64_t index)
{
	return fmt_check_fits(&at->check, page) &&
	       fmt_verify(page, FMT_PAGE, s->config.guid, s->config.partition) == FMT_GOOD && page->tree == tree &&
	       page->level == level && le64_get(page->index) == index;
}

static int read_copy(struct store *s, const struct fmt_pointer *at, unsigned copy, unsigned tree, unsigned level,
		     uint64_t index, struct fmt_page *out)
{
	uint64_t block = block_of_place(at->place[copy]);
	if (block >= s->config.vdev->size_bytes >> BLOCK_SHIFT)
		return -LCPFS_E_CORRUPT;
	int error = vdev_read(s->config.vdev, block << BLOCK_SHIFT, out, BLOCK_SIZE);
	return error || page_good(s, out, at, tree, level, index) ? error : -LCPFS_E_CORRUPT;
}

int table_read(struct store *s, const struct fmt_pointer *at, unsigned tree, unsigned level, uint64_t index,
	       struct fmt_page *out, bool good[2])
{
	int first = read_copy(s, at, 0, tree, level, index, out);
	if (!good)
		return first ? read_copy(s, at, 1, tree, level, index, out) : 0;
	struct fmt_page other;
	int second = read_copy(s, at, 1, tree, level, index, &other);
	good[0] = !first;
	good[1] = !second;
	if (first && !second)
		memcpy(out, &other, sizeof(other));
	return first && second ? first : 0;
}

/* In metaslabs of the table? Freeing them, later, relies on it. */
static bool places_ours(const struct store *s, const struct fmt_pointer *at)
{
	bool ours = true;
	for (unsigned i = 0; i < 2; i++) {
		const struct metaslab *m = metaslab_of(s, block_of_place(at->place[i]));
		ours &= m && m->class == CLASS_TABLE && m->live;
	}
	return ours;
}

/* -- finding pages -- */

static uint64_t level_count(unsigned levels, unsigned level)
{
	uint64_t count = 1;
	for (; level + 1 < levels; level++)
		count *= TABLE_SLOTS;
	return count;
}

/* A page that lies nowhere yet, or is about to be read into. */
static struct page *insert(struct store *s, unsigned level, uint64_t index, enum page_state state)
{
	struct page *p = cache_take(&s->cache);
	struct page_key key = table_key(level, index);
	if (!p)
		return NULL;
	memset(p->data, 0, BLOCK_SIZE);
	cache_insert(&s->cache, p, &key, state);
	return p;
}

/* Others wait for it. A failed one is gone, so that the next one tries again. */
static int load(struct store *s, unsigned level, uint64_t index, const struct fmt_pointer *at, struct page **page)
{
	cache_shrink(&s->cache);
	struct page *p = insert(s, level, index, PAGE_LOADING);
	*page = NULL;
	if (!p)
		return -LCPFS_E_NOMEM;
	bool covered = level || table_region(s, index) < REGIONS;
	int error = places_ours(s, at) && covered ? 0 : -LCPFS_E_CORRUPT;
	if (!error) {
		store_unlock(s);
		error = table_read(s, at, TREE_TABLE, level, index, page_table(p), NULL);
		store_lock(s);
	}
	if (error) {
		cache_forget(&s->cache, p);
		page_unpin(&s->cache, p);
	} else {
		p->state = PAGE_READY;
		*page = p;
	}
	store_changed(s);
	return error;
}

int table_page(struct store *s, unsigned level, uint64_t index, struct page **page)
{
	struct page_key key = table_key(level, index);
	struct fmt_pointer at, last = {0};
	for (;;) {
		*page = store_cached(s, &key);
		if (*page)
			return 0;
		uint64_t changes = s->changes;
		int error = table_pointer(s, level, index, &at);
		if (error || pointer_null(&at))
			return error;
		if (s->changes != changes)
			continue; /* getting the parent let others in, a checkpoint among them */
		error = load(s, level, index, &at, page);
		/* A checkpoint may have moved it meanwhile, and its old place may be in use anew. */
		if (!error || error == -LCPFS_E_NOMEM || memcmp(&at, &last, sizeof(at)) == 0)
			return error;
		last = at;
	}
}

int table_pointer(struct store *s, unsigned level, uint64_t index, struct fmt_pointer *at)
{
	*at = (struct fmt_pointer){0};
	if (level >= s->table.levels || index >= level_count(s->table.levels, level))
		return 0;
	if (level + 1 == s->table.levels) {
		*at = s->table.top;
		return 0;
	}
	struct page *parent;
	int error = table_page(s, level + 1, index / TABLE_SLOTS, &parent);
	if (error || !parent)
		return error;
	*at = page_table(parent)->child[index % TABLE_SLOTS];
	page_unpin(&s->cache, parent);
	return 0;
}

int table_look_up(struct store *s, uint64_t id, struct fmt_block *entry)
{
	struct page *leaf;
	*entry = (struct fmt_block){0};
	int error = table_page(s, 0, id / TABLE_SLOTS, &leaf);
	if (error || !leaf)
		return error;
	*entry = *table_entry(leaf, id);
	page_unpin(&s->cache, leaf);
	return 0;
}

int table_birth(struct store *s, uint64_t id, uint32_t *birth)
{
	struct fmt_block e;
	int error = table_look_up(s, id, &e);
	*birth = le32_get(e.birth);
	return error || !entry_free(&e) ? error : -LCPFS_E_CORRUPT;
}

int table_leaf(struct store *s, uint64_t id, struct need *need, struct page **leaf)
{
	struct page_key key = table_key(0, id / TABLE_SLOTS);
	*leaf = cache_find(&s->cache, &key);
	if (*leaf && (*leaf)->state == PAGE_READY)
		return 0;
	if (!*leaf && key.index >= level_count(s->table.levels, 0))
		return 0;
	if (!*leaf && need_is_absent(need, &key))
		return 0;
	need->kind = NEED_PAGE;
	need->key = key;
	return TRY_AGAIN;
}

int table_leaf_made(struct store *s, uint64_t id, struct need *need, struct page **leaf)
{
	if (id > FMT_ID_MASK)
		return -LCPFS_E_RANGE;
	int error = table_leaf(s, id, need, leaf);
	if (error || *leaf)
		return error;
	table_make_regions(s, id);
	*leaf = insert(s, 0, id / TABLE_SLOTS, PAGE_READY);
	if (!*leaf)
		return -LCPFS_E_NOMEM;
	(*leaf)->fresh = true;
	s->table.fresh++;
	mark_leaf(s, *leaf); /* else it would be evicted as if it were on the device */
	page_unpin(&s->cache, *leaf);
	return 0;
}

/* The next child of p, at or behind the one that holds page *index, that exists on the device. */
static bool next_child(const struct page *p, uint64_t span, uint64_t *index)
{
	for (uint64_t child = *index / span; child < (p->key.index + 1) * TABLE_SLOTS; child++) {
		if (pointer_null(&page_table(p)->child[child % TABLE_SLOTS]))
			continue;
		*index = MAX_OF(*index, child * span);
		return true;
	}
	return false;
}

static int next_placed(struct store *s, unsigned wanted, uint64_t *index, bool *found)
{
	unsigned top = s->table.levels - 1, level = top;
	*found = false;
	while (*index < level_count(top + 1, wanted)) {
		uint64_t span = level_count(level + 1, wanted), behind = (*index / span + 1) * span;
		struct page *p;
		int error = table_page(s, level, *index / span, &p);
		*found = (error || p) && level == wanted;
		bool deeper = !error && p && !*found && next_child(p, span / TABLE_SLOTS, index);
		if (p)
			page_unpin(&s->cache, p);
		if (error)
			*index = behind - 1;
		if (error || *found)
			return error;
		level = deeper ? level - 1 : top;
		*index = deeper ? *index : behind;
	}
	return 0;
}

/* Leaves that lie nowhere yet are all dirty. */
static uint64_t next_fresh(const struct store *s, uint64_t from)
{
	uint64_t best = UINT64_MAX;
	for (unsigned i = 0; i < REGIONS && s->table.fresh; i++) {
		for (const struct page *p = s->table.region[i].dirty; p; p = p->dirty_next) {
			if (p->fresh && p->key.index >= from)
				best = MIN_OF(best, p->key.index);
		}
	}
	return best;
}

int table_next(struct store *s, unsigned wanted, uint64_t *index, bool *found)
{
	uint64_t from = *index;
	int error = 0;
	*found = false;
	if (wanted < s->table.levels)
		error = next_placed(s, wanted, index, found);
	uint64_t fresh = error || wanted ? UINT64_MAX : next_fresh(s, from);
	if (fresh != UINT64_MAX && (!*found || fresh < *index)) {
		*index = fresh;
		*found = true;
	}
	return error;
}

/* -- audit -- */

void table_audit(const struct store *s)
{
	const struct table *t = &s->table;
	uint32_t leaves = 0, inner = 0;
	for (unsigned i = 0; i < REGIONS; i++) {
		uint32_t count = 0;
		for (const struct page *p = t->region[i].dirty; p; p = p->dirty_next, count++)
			CHECK(p->dirty && p->key.kind == PAGE_TABLE && p->key.level == 0 &&
			      table_region(s, p->key.index) == i);
		CHECK(count == t->region[i].dirty_count); /* T1 */
		leaves += count;
	}
	for (const struct page *p = t->dirty_inner; p; p = p->dirty_next, inner++)
		CHECK(p->dirty && p->key.kind == PAGE_TABLE && p->key.level > 0);
	CHECK(leaves == t->dirty_count && inner == t->inner_count);
}
