/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The two trees of a store: the block table and the volume. Fixed depth, 168 children a page, pages that would be
 * all zero do not exist. Leaves change by what users do; the pages above only when a checkpoint gives their
 * children new places.
 */
#include <string.h>

#include "store/internal.h"

static unsigned levels_for(uint64_t leaves, uint64_t *capacity)
{
	unsigned levels = 1;
	for (*capacity = 1; *capacity < leaves && levels < TREE_LEVELS_MAX; levels++)
		*capacity *= PAGE_SLOTS;
	return levels;
}

/* Twice as many ids as addresses: then at least half of all ids are free, and one is soon found. */
static uint64_t leaves_for(unsigned tree, uint64_t volume_blocks)
{
	return tree == TREE_TABLE ? DIV_UP(2 * volume_blocks, PAGE_SLOTS) : DIV_UP(volume_blocks, VOLUME_SLOTS);
}

void tree_init(struct store *s, uint64_t volume_blocks)
{
	s->volume_blocks = volume_blocks;
	for (unsigned tree = TREE_TABLE; tree <= TREE_VOLUME; tree++)
		tree_of(s, tree)->levels =
			levels_for(leaves_for(tree, volume_blocks), &tree_of(s, tree)->capacity);
}

uint64_t tree_pages_max(uint64_t volume_blocks)
{
	uint64_t pages = 0, capacity;
	for (unsigned tree = TREE_TABLE; tree <= TREE_VOLUME; tree++) {
		uint64_t count = leaves_for(tree, volume_blocks);
		for (unsigned levels = levels_for(count, &capacity); levels > 0; levels--) {
			pages += count;
			count = DIV_UP(count, PAGE_SLOTS);
		}
	}
	return pages;
}

static bool page_good(const struct store *s, const struct fmt_page *page, const struct fmt_pointer *at, unsigned tree,
		      unsigned level, uint64_t index)
{
	return fmt_verify(page, FMT_PAGE, s->config.guid, s->config.partition) == FMT_GOOD &&
	       fmt_checksum_of(page) == le64_get(at->checksum) && page->tree == tree && page->level == level &&
	       le64_get(page->index) == index;
}

static int read_copy(struct store *s, const struct fmt_pointer *at, unsigned copy, unsigned tree, unsigned level,
		     uint64_t index, struct fmt_page *out)
{
	uint64_t block = le64_get(at->place[copy]);
	if (block >= s->config.vdev->size_bytes >> BLOCK_SHIFT)
		return -LCPFS_E_CORRUPT;
	int error = vdev_read(s->config.vdev, block << BLOCK_SHIFT, out, BLOCK_SIZE);
	if (!error && !page_good(s, out, at, tree, level, index))
		error = -LCPFS_E_CORRUPT;
	return error;
}

int tree_read_page(struct store *s, const struct fmt_pointer *at, unsigned tree, unsigned level, uint64_t index,
		   struct fmt_page *out, bool good[2])
{
	int first = read_copy(s, at, 0, tree, level, index, out);
	if (!good && !first)
		return 0;
	if (!good)
		return read_copy(s, at, 1, tree, level, index, out);
	struct fmt_page other;
	int second = read_copy(s, at, 1, tree, level, index, &other);
	good[0] = !first;
	good[1] = !second;
	if (first && !second)
		memcpy(out, &other, sizeof(other));
	return first && second ? first : 0;
}

struct fmt_pointer *tree_pointer(struct store *s, struct page *p)
{
	return p->parent ? &p->parent->data.child[p->index % PAGE_SLOTS] : &tree_of(s, p->tree)->at;
}

static struct fmt_pointer pointer_below(struct store *s, unsigned tree, struct page *parent, uint64_t index)
{
	return parent ? parent->data.child[index % PAGE_SLOTS] : tree_of(s, tree)->at;
}

/* In metaslabs of ours? Freeing them, later, relies on it. */
static bool places_ours(const struct store *s, const struct fmt_pointer *at)
{
	return space_of_block(&s->space, le64_get(at->place[0])) && space_of_block(&s->space, le64_get(at->place[1]));
}

/*
 * Loads without the lock; the parent is held meanwhile. *page stays NULL if things changed and one has to look
 * again.
 */
static int load(struct store *s, unsigned tree, unsigned level, uint64_t index, struct page *parent, struct page **page)
{
	struct fmt_pointer at = pointer_below(s, tree, parent, index);
	struct fmt_page data;
	if (s->trying)
		return -LCPFS_E_AGAIN;
	if (parent)
		parent->children++;
	store_drop(s);
	int error = tree_read_page(s, &at, tree, level, index, &data, NULL);
	store_lock(s);
	if (parent)
		parent->children--;
	*page = page_find(s, tree, level, index);
	if (*page)
		return 0;
	struct fmt_pointer now = pointer_below(s, tree, parent, index);
	if (memcmp(&now, &at, sizeof(at)) != 0)
		return 0;
	if (!error && !places_ours(s, &at))
		error = -LCPFS_E_CORRUPT;
	if (error)
		return error;
	struct page *p = page_insert(s, tree, level, index, parent);
	if (!p)
		return -LCPFS_E_NOMEM;
	p->data = data;
	p->at = at;
	p->counted = true;
	*page = p;
	return 0;
}

/* One level; *again: the lock was dropped and what was known about the parent may not hold any more. */
static int child_page(struct store *s, unsigned tree, unsigned level, uint64_t index, struct page *parent, bool create,
		      struct page **page, bool *again)
{
	struct fmt_pointer at = pointer_below(s, tree, parent, index);
	*page = page_find(s, tree, level, index); /* getting the parent may have let others in */
	if (*page)
		return 0;
	if (!pointer_null(&at)) {
		int error = load(s, tree, level, index, parent, page);
		*again = !error && !*page;
		return error;
	}
	if (!create)
		return 0;
	*page = page_insert(s, tree, level, index, parent);
	return *page ? 0 : -LCPFS_E_NOMEM;
}

int tree_page(struct store *s, unsigned tree, unsigned level, uint64_t index, bool create, struct page **page)
{
	bool again;
	do {
		again = false;
		*page = page_find(s, tree, level, index);
		if (*page)
			return 0;
		struct page *parent = NULL;
		if (level + 1 < tree_of(s, tree)->levels) {
			int error = tree_page(s, tree, level + 1, index / PAGE_SLOTS, create, &parent);
			if (error || !parent)
				return error;
		} else if (index != 0) {
			return create ? -LCPFS_E_RANGE : 0;
		}
		int error = child_page(s, tree, level, index, parent, create, page, &again);
		if (error)
			return error;
	} while (again);
	return 0;
}

/* How many pages there can be `levels` levels below one. */
static uint64_t span_of(unsigned levels)
{
	uint64_t n = 1;
	while (levels-- > 0)
		n *= PAGE_SLOTS;
	return n;
}

/* The next child of p, at or behind the one that holds page *index, that exists on the device or in memory. */
static bool next_child(struct store *s, struct page *p, uint64_t span, uint64_t *index)
{
	for (uint64_t child = *index / span; child < (p->index + 1) * PAGE_SLOTS; child++) {
		if (pointer_null(&p->data.child[child % PAGE_SLOTS]) && !page_find(s, p->tree, p->level - 1u, child))
			continue;
		*index = MAX_OF(*index, child * span);
		return true;
	}
	return false;
}

int tree_next(struct store *s, unsigned tree, unsigned wanted, uint64_t *index, bool *found)
{
	unsigned top = tree_of(s, tree)->levels - 1, level = top;
	*found = false;
	while (*index < span_of(top - wanted)) {
		uint64_t span = span_of(level - wanted), behind = (*index / span + 1) * span;
		struct page *p;
		int error = tree_page(s, tree, level, *index / span, false, &p);
		*found = (error || p) && level == wanted;
		if (error)
			*index = behind - 1;
		if (error || *found)
			return error;
		if (p && next_child(s, p, span / PAGE_SLOTS, index)) {
			level--;
			continue;
		}
		*index = behind;
		level = top;
	}
	return 0;
}

/* With both tops in memory, where they exist. */
static int load_tops(struct store *s)
{
	uint64_t drops;
	int error = 0;
	do {
		drops = s->drops;
		for (unsigned tree = TREE_TABLE; tree <= TREE_VOLUME && !error; tree++) {
			struct page *top;
			error = tree_page(s, tree, tree_of(s, tree)->levels - 1, 0, false, &top);
		}
	} while (!error && s->drops != drops);
	return error;
}

/* A page above the top, whose first child that becomes. */
static int raise_top(struct store *s, unsigned tree)
{
	struct tree *t = tree_of(s, tree);
	struct page *old = page_find(s, tree, t->levels - 1, 0);
	if (old) {
		struct page *top = page_insert(s, tree, t->levels, 0, NULL);
		if (!top)
			return -LCPFS_E_NOMEM;
		top->data.child[0] = t->at;
		top->children++;
		old->parent = top;
		t->at = (struct fmt_pointer){0};
		page_mark(s, top);
	}
	t->levels++;
	t->capacity *= PAGE_SLOTS;
	return 0;
}

int tree_grow(struct store *s, uint64_t volume_blocks)
{
	int error = load_tops(s);
	if (error)
		return error;
	for (unsigned tree = TREE_TABLE; tree <= TREE_VOLUME && !error; tree++) {
		uint64_t capacity;
		unsigned levels = levels_for(leaves_for(tree, volume_blocks), &capacity);
		while (!error && tree_of(s, tree)->levels < levels)
			error = raise_top(s, tree);
	}
	if (!error)
		s->volume_blocks = volume_blocks;
	return error;
}
