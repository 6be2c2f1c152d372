/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking at everything: scrub (online, repairs metadata from its second copy) and check (offline, all
 * invariants).
 *
 * Both visit the same structures: root copies, tree pages (both copies), record headers (both copies),
 * user data. A copy is repaired in place: the same bytes, where they belong. That holds `work`, so
 * that no checkpoint or cleaning gives the place away meanwhile, and pins the metaslab, so that no
 * flush does.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/internal.h"

struct walker {
	struct store *s;
	struct store_walk *walk;
	uint8_t *used;           /* check: bitmap over the device */
	uint32_t *live;          /* check: counted live blocks by position in space.slab */
	uint64_t done, total;
	struct fmt_page scratch;
};

static void found(struct walker *w, bool repaired, bool data, uint64_t block, uint64_t address, const char *format, ...)
	PRINTF_LIKE(6, 7);

static void found(struct walker *w, bool repaired, bool data, uint64_t block, uint64_t address, const char *format, ...)
{
	char text[240];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	w->walk->damaged_blocks++;
	w->walk->repaired_blocks += repaired;
	struct store_finding finding = {repaired, data, block, address, text};
	if (w->walk->found)
		w->walk->found(w->walk->context, &finding);
}

/* What was not counted in the total: roots, headers. */
static int checked(struct walker *w, uint64_t blocks)
{
	w->walk->checked_blocks += blocks;
	if (w->walk->progress && !w->walk->progress(w->walk->context, MIN_OF(w->done, w->total), w->total))
		return -LCPFS_E_STOPPED;
	return 0;
}

static int progress(struct walker *w, uint64_t blocks)
{
	w->done += blocks;
	return checked(w, blocks);
}

/* Writes a good copy over a bad one; false if that is not wanted or fails. */
static bool repair(struct walker *w, uint64_t block, const void *good)
{
	return w->walk->repair && !w->s->config.read_only &&
	       !vdev_write(w->s->config.vdev, block << BLOCK_SHIFT, good, BLOCK_SIZE);
}

/* -- places (check only) ------------------------------------------------------------------------------------------ */

static void use_block(struct walker *w, uint64_t block, const char *what)
{
	if (!w->used)
		return;
	struct metaslab *m = space_of_block(&w->s->space, block);
	if (!m) {
		found(w, false, false, block, UINT64_MAX, "%s lies in a metaslab that the partition does not own", what);
		return;
	}
	if (w->used[block / 8] >> block % 8 & 1)
		found(w, false, false, block, UINT64_MAX, "%s lies in a block that something else uses too", what);
	w->used[block / 8] |= (uint8_t)(1u << block % 8);
	w->live[m - w->s->space.slab]++;
}

/* -- roots -------------------------------------------------------------------------------------------------------- */

static void walk_root_slot(struct walker *w, unsigned slot)
{
	struct store *s = w->s;
	struct fmt_root root[2];
	bool good[2];
	for (unsigned i = 0; i < 2; i++)
		good[i] = !vdev_read(s->config.vdev, s->config.root_block[slot][i] << BLOCK_SHIFT, &root[i], BLOCK_SIZE) &&
			  fmt_verify(&root[i], FMT_ROOT, s->config.guid, s->config.partition) == FMT_GOOD;
	if (good[0] && good[1]) { /* a copy from before is as bad as none */
		good[0] = le64_get(root[0].generation) >= le64_get(root[1].generation);
		good[1] = le64_get(root[1].generation) >= le64_get(root[0].generation);
	}
	for (unsigned i = 0; i < 2; i++) {
		uint64_t block = s->config.root_block[slot][i];
		if (!good[i] && !w->walk->after_crash)
			found(w, good[1 - i] && repair(w, block, &root[1 - i]), false, block, UINT64_MAX, "copy %u of the root is damaged",
			      i);
	}
}

/* After a clean closing both roots say the same; at other times the older one is only there to be overwritten. */
static int walk_root(struct walker *w)
{
	struct store *s = w->s;
	walk_root_slot(w, s->root_slot);
	if (s->config.read_only && s->generation > 1)
		walk_root_slot(w, 1 - s->root_slot);
	return checked(w, 2);
}

/* -- tree pages --------------------------------------------------------------------------------------------------- */

static int walk_pointer(struct walker *w, const struct fmt_pointer *at, unsigned tree, unsigned level, uint64_t index)
{
	static const char *const name[] = {"", "block table", "volume", "space"};
	bool good[2];
	(void)!tree_read_page(w->s, at, tree, level, index, &w->scratch, good);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t block = le64_get(at->place[i]);
		use_block(w, block, "a tree page");
		if (!good[i])
			found(w, good[1 - i] && repair(w, block, &w->scratch), false, block, UINT64_MAX,
			      "copy %u of page %" PRIu64 " (level %u) of the %s tree is damaged", i, index, level, name[tree]);
	}
	return good[0] || good[1] ? progress(w, 2) : -LCPFS_E_CORRUPT;
}

/* Each page that the durable trees have, from its pointer; `work` is held for one page at a time. Returns how it went on below. */
static int walk_pages(struct walker *w, unsigned tree, unsigned level, uint64_t index)
{
	struct store *s = w->s;
	struct page *p;
	store_lock(s);
	int error = tree_page(s, tree, level, index, false, &p);
	struct fmt_pointer at = {0};
	if (!error && p)
		at = p->at;
	store_unlock(s);
	if (!error && p && !pointer_null(&at))
		error = walk_pointer(w, &at, tree, level, index);
	else if (error == -LCPFS_E_CORRUPT)
		found(w, false, false, UINT64_MAX, UINT64_MAX, "page %" PRIu64 " (level %u) of tree %u is damaged in both copies: what it "
		      "describes is lost", index, level, tree);
	return error;
}

static int walk_level(struct walker *w, unsigned tree, unsigned level)
{
	struct store *s = w->s;
	for (uint64_t index = 0;; index++) {
		bool any;
		pthread_mutex_lock(&s->work);
		store_lock(s);
		int error = tree_next(s, tree, level, &index, &any);
		store_unlock(s);
		if (any)
			error = walk_pages(w, tree, level, index);
		pthread_mutex_unlock(&s->work);
		if (error == -LCPFS_E_STOPPED || (error && error != -LCPFS_E_CORRUPT && error != -LCPFS_E_IO))
			return error;
		if (!any && !error)
			return 0;
	}
}

static int walk_tree(struct walker *w, unsigned tree)
{
	int error = 0;
	for (unsigned level = w->s->tree[tree - 1].levels; level-- > 0 && !error;)
		error = walk_level(w, tree, level);
	return error;
}

/* The space tree's pages are only known by the list of the durable root. */
static int walk_space_tree(struct walker *w)
{
	struct store *s = w->s;
	int error = 0;
	pthread_mutex_lock(&s->work);
	for (size_t i = 0; i < s->space_page_count && !error; i++) {
		const struct fmt_pointer *at = &s->space_pages[i];
		struct fmt_page head;
		if (vdev_read(s->config.vdev, le64_get(at->place[0]) << BLOCK_SHIFT, &head, BLOCK_SIZE) ||
		    fmt_checksum_of(&head) != le64_get(at->checksum))
			(void)!vdev_read(s->config.vdev, le64_get(at->place[1]) << BLOCK_SHIFT, &head, BLOCK_SIZE);
		error = walk_pointer(w, at, TREE_SPACE, head.level, le64_get(head.index));
		error = error == -LCPFS_E_STOPPED ? error : 0;
	}
	pthread_mutex_unlock(&s->work);
	return error;
}

/* -- record headers ----------------------------------------------------------------------------------------------- */

static int walk_record(struct walker *w, const struct record_walk *at, const struct fmt_record *header)
{
	bool torn = w->walk->after_crash && le64_get(header->seq) > w->s->claimed_before; /* maybe: it was not flushed */
	for (unsigned i = 0; i < 2; i++) {
		if (!at->good[i] && !torn)
			found(w, repair(w, at->block + i, header), false, at->block + i, UINT64_MAX, "copy %u of a log record's header is damaged",
			      i);
	}
	return checked(w, 2);
}

/*
 * Its records up to the youngest that is on the device for certain. If one is damaged in both copies, those behind it
 * cannot be reached either; cleaning then finds out from the tables what is live, so nothing is lost by it, but
 * roll-forward would miss it.
 */
static int walk_metaslab(struct walker *w, uint32_t index, uint64_t age, uint64_t limit)
{
	struct record_walk at = {.metaslab = index};
	struct fmt_record header;
	uint64_t last = 0;
	while (record_next(w->s, &at, &header)) {
		if (le64_get(header.seq) <= last || le64_get(header.seq) > limit)
			return 0; /* left over from an earlier life of the metaslab, or not written yet */
		last = le64_get(header.seq);
		int error = walk_record(w, &at, &header);
		if (error)
			return error;
		if (last == age)
			return 0;
	}
	if (last < age && age <= limit)
		found(w, false, false, at.block, UINT64_MAX, "both copies of a log record's header in metaslab %" PRIu32 " are damaged",
		      index);
	return 0;
}

static int walk_metaslabs(struct walker *w)
{
	struct store *s = w->s;
	int error = 0;
	for (uint32_t i = 0; !error; i++) {
		pthread_mutex_lock(&s->work);
		store_lock(s);
		bool end = i >= s->space.count;
		struct metaslab m = end ? (struct metaslab){0} : s->space.slab[i];
		uint64_t limit = s->config.read_only ? s->seq : s->durable;
		/* Before its first record is written, what stands there is of an earlier life, or half overwritten. */
		bool needed = !end && m.state > METASLAB_EMPTY && m.age && m.first <= limit &&
			      (m.live || m.age > s->root_seq);
		if (needed)
			s->space.slab[i].pinned = true; /* a repair must not hit what a new owner of the place wrote */
		store_unlock(s);
		if (needed)
			error = walk_metaslab(w, m.index, m.age, limit);
		store_lock(s);
		if (needed)
			space_find(&s->space, m.index)->pinned = false;
		store_unlock(s);
		pthread_mutex_unlock(&s->work);
		if (end)
			return 0;
	}
	return error;
}

/* -- user data ---------------------------------------------------------------------------------------------------- */

static int walk_address(struct walker *w, uint64_t address, uint8_t *data)
{
	struct mapping mapping = {0};
	int error = volume_read_block(w->s, address, data, &mapping);
	if (error == -LCPFS_E_CORRUPT || error == -LCPFS_E_IO)
		found(w, false, true, mapping.id ? mapping.block : UINT64_MAX, address, "block %" PRIu64 " cannot be read: %s", address,
		      lcpfs_error_sentence(error));
	else if (error)
		return error;
	return progress(w, mapping.id != 0);
}

/* Which addresses of a leaf have a block. If it cannot be had: all, so that each that cannot be read is told. */
static void find_mapped(struct store *s, uint64_t leaf, bool mapped[VOLUME_SLOTS])
{
	struct page *p;
	store_lock(s);
	bool known = !tree_page(s, TREE_VOLUME, 0, leaf, false, &p);
	for (unsigned i = 0; i < VOLUME_SLOTS; i++)
		mapped[i] = !known || (p && le64_get(p->data.id[i]));
	store_unlock(s);
}

static int walk_leaf(struct walker *w, uint64_t leaf, uint8_t *data)
{
	bool mapped[VOLUME_SLOTS];
	uint64_t first = leaf * VOLUME_SLOTS;
	int error = 0;
	find_mapped(w->s, leaf, mapped);
	for (unsigned i = 0; i < VOLUME_SLOTS && first + i < w->s->volume_blocks && !error; i++)
		error = mapped[i] ? walk_address(w, first + i, data) : 0;
	return error;
}

/* In the order of addresses. */
static int walk_data(struct walker *w)
{
	uint8_t *data = malloc(BLOCK_SIZE);
	int error = data ? 0 : -LCPFS_E_NOMEM;
	for (uint64_t leaf = 0; !error; leaf++) {
		bool any = false;
		store_lock(w->s);
		error = tree_next_leaf(w->s, TREE_VOLUME, &leaf, &any);
		store_unlock(w->s);
		if (error == -LCPFS_E_CORRUPT || error == -LCPFS_E_IO) {
			error = 0; /* reported with the page */
			continue;
		}
		if (error || !any)
			break;
		error = walk_leaf(w, leaf, data);
	}
	free(data);
	return error;
}

/* -- check: references -------------------------------------------------------------------------------------------- */

/* Whose references are counted at a time: 11 MiB of memory, whatever the pool's size. */
enum { WINDOW_LEAVES = 16 * 1024 };

/* Leaves of the block table, in order. Those that do not exist take no time: the root's id_end can be anything. */
struct window {
	uint64_t *leaf;
	uint32_t (*count)[PAGE_SLOTS];
	size_t leaves, room;
	uint64_t next;     /* from where on to look for the leaves of the next window */
	uint64_t referred; /* addresses that refer to an id, in all */
	uint64_t counted;  /* those whose id lies in a window */
};

static int window_add(struct window *win, uint64_t leaf)
{
	if (win->leaves == win->room) {
		size_t room = win->room ? 2 * win->room : 64;
		uint64_t *list = realloc(win->leaf, room * sizeof(*list));
		if (!list)
			return -LCPFS_E_NOMEM;
		win->leaf = list;
		void *count = realloc(win->count, room * sizeof(*win->count));
		if (!count)
			return -LCPFS_E_NOMEM;
		win->count = count;
		win->room = room;
	}
	win->leaf[win->leaves++] = leaf;
	return 0;
}

static int window_gather(struct store *s, struct window *win)
{
	bool any = true;
	win->leaves = 0;
	for (; any && win->leaves < WINDOW_LEAVES; win->next++) {
		int error = tree_next_leaf(s, TREE_TABLE, &win->next, &any);
		if (error == -LCPFS_E_CORRUPT || error == -LCPFS_E_IO)
			any = true; /* reported with the page */
		else if (!error && any)
			error = window_add(win, win->next);
		if (error && error != -LCPFS_E_CORRUPT && error != -LCPFS_E_IO)
			return error;
	}
	if (win->leaves)
		memset(win->count, 0, win->leaves * sizeof(*win->count));
	return 0;
}

static int by_number(const void *a, const void *b)
{
	uint64_t x = *(const uint64_t *)a, y = *(const uint64_t *)b;
	return (x > y) - (x < y);
}

static void window_count(struct window *win, uint64_t id)
{
	if (!win->leaves)
		return;
	uint64_t leaf = id / PAGE_SLOTS, guess = leaf - win->leaf[0]; /* right where none is missing */
	const uint64_t *at = guess < win->leaves ? &win->leaf[guess] : NULL;
	if (!at || *at != leaf)
		at = bsearch(&leaf, win->leaf, win->leaves, sizeof(leaf), by_number);
	if (at) {
		win->count[at - win->leaf][id % PAGE_SLOTS]++;
		win->counted++;
	}
}

/* Counts how often the volume refers to the ids of the window. */
static int count_references(struct walker *w, struct window *win, bool first)
{
	struct store *s = w->s;
	for (uint64_t leaf = 0;; leaf++) {
		struct page *p;
		bool any;
		int error = tree_next_leaf(s, TREE_VOLUME, &leaf, &any);
		if (!error && any)
			error = tree_page(s, TREE_VOLUME, 0, leaf, false, &p);
		if (error == -LCPFS_E_CORRUPT || error == -LCPFS_E_IO)
			continue;
		if (error || !any)
			return error;
		for (unsigned i = 0; p && i < VOLUME_SLOTS; i++) {
			uint64_t slot = le64_get(p->data.id[i]);
			if (slot > s->id_end && first)
				found(w, false, false, UINT64_MAX, leaf * VOLUME_SLOTS + i,
				      "an address refers to a block id that was never given out");
			if (!slot || slot > s->id_end)
				continue;
			win->referred += first;
			window_count(win, slot - 1);
		}
	}
}

static void check_entry(struct walker *w, uint64_t id, const struct fmt_block *e, uint32_t references)
{
	uint64_t block = le64_get(e->place) / BLOCK_SECTORS;
	if (le32_get(e->references) != references)
		found(w, false, false, UINT64_MAX, UINT64_MAX, "block id %" PRIu64 " says that %" PRIu32 " refer to it; %" PRIu32 " do", id,
		      le32_get(e->references), references);
	if (!le32_get(e->references))
		return;
	if (le64_get(e->place) % BLOCK_SECTORS || le16_get(e->length) != BLOCK_SECTORS || e->compression || e->flags)
		found(w, false, false, block, UINT64_MAX, "block id %" PRIu64 " has an entry that makes no sense", id);
	else
		use_block(w, block, "a data block");
}

static int check_window(struct walker *w, const struct window *win, uint64_t *in_use)
{
	struct store *s = w->s;
	for (size_t l = 0; l < win->leaves; l++) {
		struct page *p;
		int error = tree_page(s, TREE_TABLE, 0, win->leaf[l], false, &p);
		if (error == -LCPFS_E_CORRUPT || error == -LCPFS_E_IO)
			continue;
		if (error)
			return error;
		for (unsigned i = 0; p && i < PAGE_SLOTS && win->leaf[l] * PAGE_SLOTS + i < s->id_end; i++) {
			*in_use += le32_get(p->data.block[i].references) != 0;
			check_entry(w, win->leaf[l] * PAGE_SLOTS + i, &p->data.block[i], win->count[l][i]);
		}
	}
	return 0;
}

static int check_references(struct walker *w)
{
	struct store *s = w->s;
	struct window win = {0};
	uint64_t in_use = 0;
	int error = 0;
	store_lock(s);
	for (bool first = true; !error && (first || win.leaves == WINDOW_LEAVES); first = false) {
		error = window_gather(s, &win);
		if (!error)
			error = count_references(w, &win, first);
		if (!error)
			error = check_window(w, &win, &in_use);
	}
	if (!error && win.counted != win.referred)
		found(w, false, false, UINT64_MAX, UINT64_MAX,
		      "%" PRIu64 " addresses refer to blocks that the block table does not have",
		      win.referred - win.counted);
	if (!error && in_use != s->data_blocks)
		found(w, false, false, UINT64_MAX, UINT64_MAX,
		      "%" PRIu64 " data blocks are live; the root says %" PRIu64, in_use, s->data_blocks);
	store_unlock(s);
	free(win.leaf);
	free(win.count);
	return error;
}

static void check_live(struct walker *w)
{
	struct store *s = w->s;
	for (uint32_t i = 0; i < s->space.count; i++) {
		const struct metaslab *m = &s->space.slab[i];
		if (w->live[i] != m->live)
			found(w, false, false, UINT64_MAX, UINT64_MAX, "metaslab %" PRIu32 " has %" PRIu32 " live blocks; its count says %" PRIu32,
			      m->index, w->live[i], m->live);
	}
}

/* -- the two ------------------------------------------------------------------------------------------------------ */

static int walk_metadata(struct walker *w)
{
	pthread_mutex_lock(&w->s->work);
	int error = walk_root(w);
	pthread_mutex_unlock(&w->s->work);
	for (unsigned tree = TREE_TABLE; tree <= TREE_VOLUME && !error; tree++)
		error = walk_tree(w, tree);
	if (!error)
		error = walk_space_tree(w);
	return error ? error : walk_metaslabs(w);
}

static struct walker *walker_new(struct store *s, struct store_walk *walk)
{
	struct walker *w = calloc(1, sizeof(*w));
	if (!w)
		return NULL;
	walk->checked_blocks = walk->damaged_blocks = walk->repaired_blocks = 0;
	w->s = s;
	w->walk = walk;
	store_lock(s);
	w->total = 2 * (s->page_count + s->space_page_count) + (walk->data ? s->data_blocks : 0);
	store_unlock(s);
	return w;
}

int store_scrub(struct store *s, struct store_walk *walk)
{
	struct walker *w = walker_new(s, walk);
	if (!w)
		return -LCPFS_E_NOMEM;
	int error = walk_metadata(w);
	if (!error && walk->data)
		error = walk_data(w);
	free(w);
	return error;
}

int store_check(struct store *s, uint8_t *used, struct store_walk *walk)
{
	struct walker *w = walker_new(s, walk);
	if (!w)
		return -LCPFS_E_NOMEM;
	w->used = used;
	w->live = calloc(s->space.count + 1, sizeof(*w->live));
	int error = w->live ? walk_metadata(w) : -LCPFS_E_NOMEM;
	if (!error)
		error = check_references(w);
	if (!error)
		check_live(w);
	if (!error && walk->data)
		error = walk_data(w);
	free(w->live);
	free(w);
	return error;
}
