/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Looking at everything: scrub (online, repairs metadata from its second copy) and check (offline, all
 * invariants).
 *
 * Both visit the same structures: root copies, pages of the block table and of volumes' trees (both copies),
 * record headers (both copies), user data. A copy is repaired in place: the same bytes, where they belong. That
 * holds `work`, so that no checkpoint or cleaning gives the place away meanwhile, and pins the metaslab, so that
 * no flush does.
 */
#include <inttypes.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "store/io.h"
#include "store/log.h"
#include "store/place.h"
#include "store/record.h"
#include "store/snap.h"
#include "store/table.h"
#include "store/tree.h"

struct walker {
	struct store *s;
	struct store_walk *walk;
	uint8_t *used;  /* check: bitmap over the device */
	uint32_t *live; /* check: counted live blocks by position in space.slab */
	uint64_t done, total;
	struct fmt_page scratch;
};

static void found(struct walker *w, bool repaired, bool data, uint64_t block, uint64_t address, const char *format,
		  ...) PRINTF_LIKE(6, 7);

static void found(struct walker *w, bool repaired, bool data, uint64_t block, uint64_t address, const char *format,
		  ...)
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

/* Damage of what is looked at, or an error of the device there: the rest is looked at all the same. */
static bool is_damage(int error)
{
	return error == -LCPFS_E_CORRUPT || error == -LCPFS_E_IO;
}

/* -- places (check only) -- */

static void use_block(struct walker *w, uint64_t block, const char *what)
{
	if (!w->used)
		return;
	struct metaslab *m = metaslab_of(w->s, block);
	if (!m) {
		found(w, false, false, block, UINT64_MAX, "%s lies outside of this partition's metaslabs", what);
		return;
	}
	w->live[m - w->s->space.slab]++;
	uint8_t bit = (uint8_t)(1 << block % 8);
	if (w->used[block / 8] & bit)
		found(w, false, false, block, UINT64_MAX, "%s lies where something else lies", what);
	w->used[block / 8] |= bit;
}

/* -- roots -- */

static void walk_root_slot(struct walker *w, unsigned slot)
{
	struct store *s = w->s;
	struct fmt_root root[2];
	bool good[2];
	for (unsigned i = 0; i < 2; i++)
		good[i] = !vdev_read(s->config.vdev, s->config.root_block[slot][i] << BLOCK_SHIFT, &root[i],
				     BLOCK_SIZE) &&
			  fmt_verify(&root[i], FMT_ROOT, s->config.guid, s->config.partition) == FMT_GOOD;
	if (good[0] && good[1]) { /* a copy from before is as bad as none */
		good[0] = le64_get(root[0].generation) >= le64_get(root[1].generation);
		good[1] = le64_get(root[1].generation) >= le64_get(root[0].generation);
	}
	for (unsigned i = 0; i < 2; i++) {
		uint64_t block = s->config.root_block[slot][i];
		if (!good[i] && !w->walk->after_crash)
			found(w, good[1 - i] && repair(w, block, &root[1 - i]), false, block, UINT64_MAX,
			      "copy %u of the root is damaged", i);
	}
}

/* After a clean closing both roots say the same; at other times the older one is only there to be overwritten. */
static int walk_root(struct walker *w)
{
	struct store *s = w->s;
	walk_root_slot(w, s->checkpoint.root_slot);
	if (s->config.read_only && s->checkpoint.generation > 1)
		walk_root_slot(w, 1 - s->checkpoint.root_slot);
	return checked(w, 2);
}

/* -- the block table and the space list -- */

static int walk_pointer(struct walker *w, const struct fmt_pointer *at, unsigned tree, unsigned level,
			uint64_t index)
{
	static const char *const name[] = {"", "block table", "space list"};
	bool good[2];
	(void)!table_read(w->s, at, tree, level, index, &w->scratch, good);
	for (unsigned i = 0; i < 2; i++) {
		uint64_t block = block_of_place(at->place[i]);
		use_block(w, block, "a page");
		if (!good[i])
			found(w, good[1 - i] && repair(w, block, &w->scratch), false, block, UINT64_MAX,
			      "copy %u of page %" PRIu64 " (level %u) of the %s is damaged", i, index, level,
			      name[tree]);
	}
	return good[0] || good[1] ? progress(w, 2) : -LCPFS_E_CORRUPT;
}

static void tell_lost(struct walker *w, const char *what, unsigned level, uint64_t index)
{
	found(w, false, false, UINT64_MAX, UINT64_MAX,
	      "page %" PRIu64 " (level %u) of the %s is damaged in both copies: what it describes is lost", index,
	      level, what);
}

/* From its pointer as the table has it; `work` is held for one page at a time. Returns how it went on below. */
static int walk_table_page(struct walker *w, unsigned level, uint64_t index)
{
	struct fmt_pointer at;
	store_lock(w->s);
	int error = table_pointer(w->s, level, index, &at);
	store_unlock(w->s);
	if (!error && !pointer_null(&at))
		error = walk_pointer(w, &at, TREE_TABLE, level, index);
	if (!error && !pointer_null(&at) && !level &&
	    table_region(w->s, index) >= REGIONS) /* nor can it be loaded */
		error = -LCPFS_E_CORRUPT;
	if (error == -LCPFS_E_CORRUPT)
		tell_lost(w, "block table", level, index);
	return error;
}

static int walk_table_level(struct walker *w, unsigned level)
{
	struct store *s = w->s;
	for (uint64_t index = 0;; index++) {
		bool any;
		pthread_mutex_lock(&s->work);
		store_lock(s);
		int error = table_next(s, level, &index, &any);
		store_unlock(s);
		if (any)
			error = walk_table_page(w, level, index);
		pthread_mutex_unlock(&s->work);
		if (error && !is_damage(error))
			return error;
		if (!any && !error)
			return 0;
	}
}

static int walk_table(struct walker *w)
{
	int error = 0;
	for (unsigned level = w->s->table.levels; level-- > 0 && !error;)
		error = walk_table_level(w, level);
	return error;
}

/* The space list's pages are only known by what the durable root said. */
static int walk_space(struct walker *w)
{
	struct store *s = w->s;
	int error = 0;
	pthread_mutex_lock(&s->work);
	for (size_t i = 0; i < s->checkpoint.space_page_count && !error; i++) {
		const struct fmt_pointer *at = &s->checkpoint.space_pages[i];
		struct fmt_page head = {0};
		for (unsigned copy = 0; copy < 2 && head.tree != TREE_SPACE; copy++) {
			if (vdev_read(s->config.vdev, block_of_place(at->place[copy]) << BLOCK_SHIFT, &head,
				      BLOCK_SIZE) ||
			    fmt_verify(&head, FMT_PAGE, s->config.guid, s->config.partition) != FMT_GOOD)
				head.tree = 0;
		}
		error = walk_pointer(w, at, TREE_SPACE, head.level, le64_get(head.index));
		error = error == -LCPFS_E_STOPPED ? error : 0;
	}
	pthread_mutex_unlock(&s->work);
	return error;
}

/* -- pages of volumes' trees: blocks with ids, twice -- */

struct twin {
	uint64_t block[2];
	struct fmt_check check[2];
	bool kept; /* false: it is in memory only */
};

static int twin_of(struct store *s, const struct page_key *key, struct twin *twin)
{
	struct page *page, *leaf = NULL;
	*twin = (struct twin){.kept = false};
	int error = tree_page(s, key, &page);
	if (error || !page)
		return error;
	uint64_t id = page->id;
	page_unpin(&s->cache, page);
	if (id)
		error = table_page(s, 0, id / TABLE_SLOTS, &leaf);
	for (unsigned i = 0; leaf && i < 2; i++) {
		const struct fmt_block *e = table_entry(leaf, id + i);
		twin->block[i] = e->kind == BLOCK_VOLUME_PAGE ? table_block(s, e) : UINT64_MAX;
		twin->check[i] = e->check;
	}
	twin->kept = leaf && id;
	if (leaf)
		page_unpin(&s->cache, leaf);
	return error;
}

static bool copy_good(struct store *s, const struct twin *twin, unsigned i, void *data)
{
	if (twin->block[i] == UINT64_MAX ||
	    vdev_read(s->config.vdev, twin->block[i] << BLOCK_SHIFT, data, BLOCK_SIZE))
		return false;
	return fmt_check_fits(&twin->check[i], data);
}

static void verify_twin(struct walker *w, const struct page_key *key, const struct twin *twin)
{
	uint8_t data[2][BLOCK_SIZE];
	bool good[2];
	for (unsigned i = 0; i < 2; i++)
		good[i] = copy_good(w->s, twin, i, data[i]);
	for (unsigned i = 0; i < 2; i++) {
		bool same = fmt_check_same(&twin->check[0], &twin->check[1]) && twin->block[i] != UINT64_MAX;
		if (!good[i])
			found(w, good[1 - i] && same && repair(w, twin->block[i], data[1 - i]), false,
			      twin->block[i], UINT64_MAX,
			      "copy %u of page %" PRIu64 " (level %u) of the volume is damaged", i, key->index,
			      key->level);
	}
}

/* With `work`, so that cleaning does not move it. What is still on its way to the device is waited for. */
static int walk_tree_page(struct walker *w, const struct page_key *key)
{
	struct store *s = w->s;
	struct twin twin;
	store_lock(s);
	int error = twin_of(s, key, &twin);
	while (!error && twin.kept && (log_page(s, twin.block[0]) || log_page(s, twin.block[1]))) {
		error = log_flush(s);
		if (!error)
			error = twin_of(s, key, &twin);
	}
	store_unlock(s);
	if (is_damage(error))
		tell_lost(w, "volume", key->level, key->index);
	if (!error && twin.kept)
		verify_twin(w, key, &twin);
	return error ? error : progress(w, 2);
}

static int walk_tree_level(struct walker *w, uint32_t volume, unsigned level)
{
	struct store *s = w->s;
	for (uint64_t index = 0;; index++) {
		bool any;
		pthread_mutex_lock(&s->work);
		store_lock(s);
		int error = tree_next(s, volume, level, &index, &any);
		store_unlock(s);
		struct page_key key = tree_key(volume, level, index);
		if (any)
			error = walk_tree_page(w, &key);
		pthread_mutex_unlock(&s->work);
		if (error && !is_damage(error))
			return error;
		if (!any && !error)
			return 0;
	}
}

static int walk_tree(struct walker *w, uint32_t volume)
{
	int error = 0;
	for (unsigned level = w->s->trees.volume[volume].levels; level-- > 0 && !error;)
		error = walk_tree_level(w, volume, level);
	return error;
}

/* -- the list of snapshots: data of volume 0, twice -- */

static int find_block(struct store *s, uint64_t address, struct mapping *mapping)
{
	struct page_key key = tree_key(VOLUME_LIST, 0, address / VOLUME_SLOTS);
	struct page *p, *table = NULL;
	*mapping = (struct mapping){0};
	int error = tree_page(s, &key, &p);
	if (error || !p)
		return error;
	mapping->id = tree_slot(p, address);
	page_unpin(&s->cache, p);
	if (mapping->id)
		error = table_page(s, 0, mapping->id / TABLE_SLOTS, &table);
	if (!table)
		return error;
	mapping->block = table_block(s, table_entry(table, mapping->id));
	mapping->check = table_entry(table, mapping->id)->check;
	page_unpin(&s->cache, table);
	return mapping->block == UINT64_MAX ? -LCPFS_E_CORRUPT : 0;
}

/* With `work`: nobody changes it, or moves it. */
static int walk_pair(struct walker *w, unsigned pair)
{
	struct store *s = w->s;
	struct mapping at[2];
	uint8_t data[2][BLOCK_SIZE];
	bool good[2] = {false, false};
	int error = 0;
	store_lock(s);
	for (unsigned i = 0; i < 2 && !error; i++)
		error = find_block(s, 2 * (uint64_t)pair + i, &at[i]);
	if (!error && (log_page(s, at[0].block) || log_page(s, at[1].block)))
		error = log_flush(s);
	store_unlock(s);
	for (unsigned i = 0; i < 2 && !error; i++)
		good[i] = !vdev_read(s->config.vdev, at[i].block << BLOCK_SHIFT, data[i], BLOCK_SIZE) &&
			  fmt_check_fits(&at[i].check, data[i]);
	for (unsigned i = 0; i < 2 && !error; i++) {
		if (!good[i])
			found(w, good[1 - i] && repair(w, at[i].block, data[1 - i]), false, at[i].block,
			      UINT64_MAX, "copy %u of block %u of the list of snapshots is damaged", i, pair);
	}
	return error ? error : progress(w, 2);
}

static int walk_list(struct walker *w)
{
	struct store *s = w->s;
	int error = walk_tree(w, VOLUME_LIST);
	for (unsigned pair = 0; !error; pair++) {
		pthread_mutex_lock(&s->work);
		bool end = pair >= s->trees.snapshots.pairs;
		error = end ? 0 : walk_pair(w, pair);
		pthread_mutex_unlock(&s->work);
		error = is_damage(error) ? 0 : error;
		if (end)
			break;
	}
	return error;
}

/* -- record headers -- */

static int walk_record(struct walker *w, const struct record_walk *at, const struct fmt_record *header)
{
	bool torn = w->walk->after_crash &&
		    le64_get(header->seq) > w->s->found.claimed; /* maybe: it was not flushed */
	for (unsigned i = 0; i < 2; i++) {
		if (!at->good[i] && !torn)
			found(w, repair(w, at->block + i, header), false, at->block + i, UINT64_MAX,
			      "copy %u of a log record's header is damaged", i);
	}
	return checked(w, 2);
}

/*
 * Its records up to the youngest that is on the device for certain. If one is damaged in both copies, those behind
 * it cannot be reached either; cleaning then finds out from the table what is live, so nothing is lost by it, but
 * roll-forward would miss it.
 */
static int walk_metaslab(struct walker *w, uint32_t index, uint64_t youngest, uint64_t limit)
{
	struct record_walk at = {.metaslab = index};
	struct fmt_record header;
	uint64_t last = 0;
	while (record_next(w->s, &at, &header)) {
		if (le64_get(header.seq) <= last || le64_get(header.seq) > limit)
			break; /* left over from an earlier life of the metaslab, or not written yet */
		last = le64_get(header.seq);
		int error = walk_record(w, &at, &header);
		if (error)
			return error;
		if (last == youngest)
			return 0;
	}
	if (last < youngest && youngest <= limit)
		found(w, false, false, at.block, UINT64_MAX,
		      "both copies of a log record's header in metaslab %" PRIu32 " are damaged", index);
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
		uint64_t limit = s->config.read_only ? s->log.seq : s->log.durable;
		/*
		 * Before its first record is written, what stands there is of an earlier life, or half
		 * overwritten.
		 */
		bool needed = !end && m.class != CLASS_TABLE && m.last && m.first <= limit &&
			      m.state != SPACE_EMPTY && m.state != SPACE_RAW && (m.live || m.last > s->space.redo);
		if (needed)
			space_pin(&s->space,
				  m.index); /* a repair must not hit what a new owner of the place wrote */
		store_unlock(s);
		if (needed)
			error = walk_metaslab(w, m.index, m.last, limit);
		store_lock(s);
		if (needed)
			space_unpin(&s->space, m.index);
		store_unlock(s);
		pthread_mutex_unlock(&s->work);
		if (end)
			return 0;
	}
	return error;
}

/* -- user data -- */

/* Was it destroyed while it was looked at? Then the head may have written over it, and nothing is damaged. */
static bool is_gone(struct store *s, const struct snapshot *n)
{
	store_lock(s);
	bool gone = n->state == SNAPSHOT_DYING || n->state == SNAPSHOT_LEFT;
	store_unlock(s);
	return gone;
}

static int walk_address(struct walker *w, const struct snapshot *n, uint64_t address, uint8_t *data)
{
	struct mapping mapping = {0};
	int error = io_read_block(w->s, n ? n->number : VOLUME_HEAD, address, data, &mapping);
	if (n && is_gone(w->s, n))
		return 0;
	if (is_damage(error) && n)
		found(w, false, true, mapping.id ? mapping.block : UINT64_MAX, UINT64_MAX,
		      "block %" PRIu64 " of %s %s cannot be read: %s", address,
		      n->state == SNAPSHOT_CLONE ? "clone" : "snapshot", n->name, lcpfs_error_sentence(error));
	else if (is_damage(error))
		found(w, false, true, mapping.id ? mapping.block : UINT64_MAX, address,
		      "block %" PRIu64 " cannot be read: %s", address, lcpfs_error_sentence(error));
	else if (error)
		return error;
	return progress(w, mapping.id != 0);
}

/* Which addresses of a leaf have a block. If it cannot be had: all, so that each that cannot be read is told. */
static void find_mapped(struct store *s, uint64_t leaf, bool mapped[VOLUME_SLOTS])
{
	struct page_key key = tree_key(VOLUME_HEAD, 0, leaf);
	struct page *p = NULL;
	store_lock(s);
	bool known = !tree_page(s, &key, &p);
	for (unsigned i = 0; i < VOLUME_SLOTS; i++)
		mapped[i] = !known || (p && tree_slot(p, i) != 0);
	if (known && p)
		page_unpin(&s->cache, p);
	store_unlock(s);
}

static int walk_leaf(struct walker *w, uint64_t leaf, uint8_t *data)
{
	bool mapped[VOLUME_SLOTS];
	uint64_t first = leaf * VOLUME_SLOTS, end = w->s->trees.volume[VOLUME_HEAD].blocks;
	int error = 0;
	find_mapped(w->s, leaf, mapped);
	for (unsigned i = 0; i < VOLUME_SLOTS && first + i < end && !error; i++)
		error = mapped[i] ? walk_address(w, NULL, first + i, data) : 0;
	return error;
}

static int walk_data(struct walker *w)
{
	struct store *s = w->s;
	uint8_t *data = malloc(BLOCK_SIZE);
	int error = data ? 0 : -LCPFS_E_NOMEM;
	for (uint64_t leaf = 0; !error; leaf++) {
		bool any = false;
		store_lock(s);
		error = tree_next_leaf(s, VOLUME_HEAD, UINT64_MAX, &leaf, &any);
		store_unlock(s);
		if (is_damage(error)) {
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

/* -- what snapshots have beyond those before them, and clones beyond what they began as -- */

/* Of an id in use, else UINT32_MAX. With the lock. */
static uint32_t birth_of(struct store *s, uint64_t id, unsigned *kind)
{
	struct page *table;
	uint32_t birth = UINT32_MAX;
	*kind = BLOCK_FREE;
	if (id >= s->ids.end || table_page(s, 0, id / TABLE_SLOTS, &table) || !table)
		return birth;
	const struct fmt_block *e = table_entry(table, id);
	*kind = e->kind;
	if (!entry_free(e))
		birth = le32_get(e->birth);
	page_unpin(&s->cache, table);
	return birth;
}

struct snapshot_walk {
	struct walker *w;
	struct snapshot *n;
	uint32_t low; /* what is born before that, one before it has as well */
	uint8_t data[BLOCK_SIZE];
};

/* With the lock: was it not there before, as far as it is known? What changed in memory gets an id of its own. */
static bool is_new(const struct snapshot_walk *v, unsigned level, uint64_t index, uint64_t id)
{
	struct page_key key = tree_key(v->n->number, level, index);
	unsigned kind;
	return (id && birth_of(v->w->s, id, &kind) >= v->low) ||
	       (v->n->state == SNAPSHOT_CLONE && tree_page_dirty(v->w->s, &key));
}

/* Without the lock. The page was not there before; what it refers to may have been. */
static int walk_snapshot_page(struct snapshot_walk *v, unsigned level, uint64_t index)
{
	struct store *s = v->w->s;
	struct page_key key = tree_key(v->n->number, level, index);
	uint64_t slot[VOLUME_SLOTS] = {0};
	bool into[VOLUME_SLOTS] = {false};
	unsigned kind;
	pthread_mutex_lock(&s->work); /* it is not destroyed meanwhile */
	bool gone = is_gone(s, v->n);
	int error = gone ? 0 : walk_tree_page(v->w, &key);
	pthread_mutex_unlock(&s->work);
	if (gone)
		return 0;
	store_lock(s);
	if (!error)
		error = tree_slots(s, &key, slot);
	for (unsigned i = 0; i < VOLUME_SLOTS && !error; i++)
		into[i] = level ? is_new(v, level - 1, index * VOLUME_SLOTS + i, slot[i])
				: slot[i] && birth_of(s, slot[i], &kind) >= v->low;
	store_unlock(s);
	error = is_damage(error) ? 0 : error; /* reported */
	for (unsigned i = 0; i < VOLUME_SLOTS && !error; i++) {
		if (into[i] && level)
			error = walk_snapshot_page(v, level - 1, index * VOLUME_SLOTS + i);
		else if (into[i] && v->w->walk->data)
			error = walk_address(v->w, v->n, index * VOLUME_SLOTS + i, v->data);
	}
	return error;
}

static int walk_snapshot(struct walker *w, struct snapshot *n)
{
	struct store *s = w->s;
	struct snapshot_walk *v = malloc(sizeof(*v));
	if (!v)
		return -LCPFS_E_NOMEM;
	*v = (struct snapshot_walk){.w = w, .n = n};
	store_lock(s);
	v->low = snap_shared_below(s, n);
	bool own = is_new(v, n->volume.levels - 1, 0, n->volume.root);
	store_unlock(s);
	int error = own ? walk_snapshot_page(v, n->volume.levels - 1, 0) : 0;
	free(v);
	return error;
}

/* Those that are destroyed are not looked at: what is wrong there nobody can read. */
static int walk_snapshots(struct walker *w)
{
	struct store *s = w->s;
	int error = 0;
	for (uint32_t number = SNAPSHOT_FIRST; !error;) {
		struct snapshot *n = NULL;
		store_lock(s);
		const struct snapshots *l = &s->trees.snapshots;
		for (unsigned i = 0; i < l->count && !n; i++) {
			uint32_t next = l->list[i]->number;
			n = next < number ? NULL : snap_hold(s, next);
			if (!n && next >= number)
				n = snap_hold_clone(s, next);
		}
		store_unlock(s);
		if (!n)
			break;
		number = n->number + 1;
		error = walk_snapshot(w, n);
		store_lock(s);
		snap_let(s, n);
		store_unlock(s);
	}
	return error;
}

/* -- check: references -- */

/* Whose references are counted at a time: bounds memory, whatever the pool's size. */
enum { WINDOW_LEAVES = 16 * 1024 };

/* Leaves of the block table, in order. Those that do not exist take no time: the root's id_end can be anything. */
struct window {
	uint64_t *leaf;
	uint8_t (*count)[TABLE_SLOTS];
	size_t leaves, room;
	uint64_t next;     /* from where on to look for the leaves of the next window */
	uint64_t referred; /* slots that refer to an id, in all */
	uint64_t counted;  /* those whose id lies in a window */
	bool first;
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
		int error = table_next(s, 0, &win->next, &any);
		if (is_damage(error))
			any = true; /* reported with the page */
		else if (!error && any)
			error = window_add(win, win->next);
		if (error && !is_damage(error))
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
	win->referred += win->first;
	if (!win->leaves)
		return;
	uint64_t leaf = id / TABLE_SLOTS, guess = leaf - win->leaf[0]; /* right where none is missing */
	const uint64_t *at = guess < win->leaves ? &win->leaf[guess] : NULL;
	if (!at || *at != leaf)
		at = bsearch(&leaf, win->leaf, win->leaves, sizeof(leaf), by_number);
	if (!at)
		return;
	uint8_t *count = &win->count[at - win->leaf][id % TABLE_SLOTS];
	*count += *count < UINT8_MAX;
	win->counted++;
}

static void count_slot(struct walker *w, struct window *win, const struct page_key *key, unsigned i, uint64_t id)
{
	uint64_t index = key->index * VOLUME_SLOTS + i;
	if (!id)
		return;
	if (id >= w->s->ids.end || (key->level && id % 2)) {
		if (win->first)
			found(w, false, false, UINT64_MAX, key->level ? UINT64_MAX : index,
			      "%s refers to a block id that was never given out",
			      key->level ? "a page of the volume" : "an address");
		return;
	}
	window_count(win, id);
	if (key->level) /* the second copy of a page */
		window_count(win, id + 1);
}

/*
 * What a snapshot and the volume that follows on it both have is counted there: so each id is counted where it is
 * for the last time. Of one that is destroyed: what is not free by now, or of others. Of one that is LEFT, or of a
 * clone's: what it has beyond where it, or the clone, began.
 */
static bool counts_for(struct walker *w, const struct snapshot *n, uint64_t id, unsigned *kind)
{
	uint32_t birth = birth_of(w->s, id, kind);
	uint32_t low =
		n->state == SNAPSHOT_LEFT ? snap_shared_below(w->s, n) : snap_based_below(w->s, snap_line(n));
	return birth >= low && (n->state == SNAPSHOT_ALIVE || birth <= n->volume.birth);
}

/* What a DYING one had may be free by now, and its ids be given out again: then they are younger. */
static int has_page(struct store *s, uint32_t volume, unsigned level, uint64_t index, bool *has)
{
	const struct volume *v = tree_volume(s, volume);
	bool all = tree_is_written(s, volume);
	*has = true;
	for (; !all && level < v->levels && *has; level++, index /= VOLUME_SLOTS) {
		struct page_key key = tree_key(volume, level, index);
		struct page *p;
		int error = tree_page(s, &key, &p);
		if (error && !is_damage(error))
			return error;
		*has = !error && (!p || p->birth <= v->birth);
		if (!error && p)
			page_unpin(&s->cache, p);
	}
	return 0;
}

/* The volume that follows on n and has its page in this place still; 0: none. */
static int next_with(struct store *s, const struct snapshot *n, unsigned level, uint64_t index, uint32_t *volume)
{
	bool has = false;
	int error = 0;
	for (*volume = n->number; !error && !has && *volume;) {
		*volume = snap_follower(s, n, *volume);
		error = *volume ? has_page(s, *volume, level, index, &has) : 0;
	}
	return error;
}

/*
 * Both have this page. Is there something below that changed in memory? Where the head, or a clone, has taken a
 * page back from one that is DYING, that one need not be dirty.
 */
static bool is_changed_below(struct store *s, const struct page_key *key, uint64_t id)
{
	unsigned kind;
	return tree_is_written(s, key->volume) &&
	       (tree_page_dirty(s, key) || !tree_shares(s, key->volume, birth_of(s, id, &kind)));
}

/* What the snapshot has there that a clone, and its line, go on from; NULL: there is none. */
static int base_slots(struct store *s, const struct snapshot *base, unsigned level, uint64_t index,
		      uint64_t slot[VOLUME_SLOTS])
{
	struct page_key key = tree_key(base ? base->number : 0, level, index);
	int error = base ? tree_slots(s, &key, slot) : 0;
	if (base && level == base->volume.levels && index == 0) /* the clone's tree is higher by now */
		slot[0] = base->volume.root;
	return error;
}

static void tell_foreign(struct walker *w, const struct window *win, const struct snapshot *n, uint64_t id)
{
	if (win->first)
		found(w, false, false, UINT64_MAX, UINT64_MAX,
		      "%s %s refers to block id %" PRIu64 ", which its origin does not have there",
		      n->state == SNAPSHOT_CLONE ? "clone" : "snapshot", n->name, id);
}

static int count_snapshot_page(struct walker *w, struct window *win, const struct snapshot *n, unsigned level,
			       uint64_t index)
{
	const struct snapshot *base = n->state == SNAPSHOT_ALIVE ? snap_base(w->s, snap_line(n)) : NULL;
	struct page_key key = tree_key(n->number, level, index), next_key = key;
	uint64_t slot[VOLUME_SLOTS], next[VOLUME_SLOTS] = {0}, origin[VOLUME_SLOTS] = {0};
	unsigned kind;
	int error = tree_slots(w->s, &key, slot);
	if (!error)
		error = next_with(w->s, n, level, index, &next_key.volume);
	if (!error && next_key.volume)
		error = tree_slots(w->s, &next_key, next);
	if (!error)
		error = base_slots(w->s, base, level, index, origin);
	if (is_damage(error))
		return 0; /* reported */
	for (unsigned i = 0; i < VOLUME_SLOTS && !error; i++) {
		bool counts = slot[i] && counts_for(w, n, slot[i], &kind);
		if (base && slot[i] && !counts && slot[i] != origin[i])
			tell_foreign(w, win, n, slot[i]);
		if (!counts)
			continue;
		bool same = slot[i] == next[i];
		if (!same)
			count_slot(w, win, &key, i, slot[i]);
		if (!level || kind != BLOCK_VOLUME_PAGE)
			continue;
		/* The head's may have changed in memory, and not be written yet. */
		struct page_key below = tree_key(next_key.volume, level - 1, index * VOLUME_SLOTS + i);
		if (!same || is_changed_below(w->s, &below, slot[i]))
			error = count_snapshot_page(w, win, n, level - 1, below.index);
	}
	return error;
}

static int count_snapshot(struct walker *w, struct window *win, const struct snapshot *n)
{
	struct page_key above = tree_key(n->number, n->volume.levels, 0);
	struct page_key top = tree_key(n->number, n->volume.levels - 1, 0);
	const struct snapshot *base = n->state == SNAPSHOT_ALIVE ? snap_base(w->s, snap_line(n)) : NULL;
	uint64_t root = n->volume.root, id = 0;
	unsigned kind;
	bool counts = root && counts_for(w, n, root, &kind);
	if (base && root && !counts && root != base->volume.root)
		tell_foreign(w, win, n, root);
	if (!counts)
		return 0;
	int error = next_with(w->s, n, top.level, 0, &top.volume);
	if (!error && top.volume)
		error = tree_page_id(w->s, &top, &id);
	if (error)
		return is_damage(error) ? 0 : error; /* reported */
	if (root != id)
		count_slot(w, win, &above, 0, root);
	else if (!is_changed_below(w->s, &top, root))
		return 0;
	return kind == BLOCK_VOLUME_PAGE ? count_snapshot_page(w, win, n, n->volume.levels - 1, 0) : 0;
}

/* What a clone has beyond the snapshot that it began as; the rest that one has, in the same place. */
struct clone_count {
	struct walker *w;
	struct window *win;
	const struct snapshot *n, *origin;
	uint32_t low;
};

/* Is what lies there its own, or changed in memory? Then it has to be looked at. */
static bool count_clone_slot(const struct clone_count *c, const struct page_key *key, unsigned i, uint64_t id,
			     uint64_t origin)
{
	unsigned kind = BLOCK_FREE;
	struct page_key below = tree_key(key->volume, key->level - 1u, key->index * VOLUME_SLOTS + i);
	bool own = id && birth_of(c->w->s, id, &kind) >= c->low;
	if (own)
		count_slot(c->w, c->win, key, i, id);
	else if (id && id != origin)
		tell_foreign(c->w, c->win, c->n, id);
	return key->level && ((own && kind == BLOCK_VOLUME_PAGE) || tree_page_dirty(c->w->s, &below));
}

static int count_clone_page(const struct clone_count *c, unsigned level, uint64_t index)
{
	struct store *s = c->w->s;
	struct page_key key = tree_key(c->n->number, level, index);
	uint64_t slot[VOLUME_SLOTS], origin[VOLUME_SLOTS];
	int error = tree_slots(s, &key, slot);
	if (!error)
		error = base_slots(s, c->origin, level, index, origin);
	if (error)
		return is_damage(error) ? 0 : error; /* reported */
	for (unsigned i = 0; i < VOLUME_SLOTS && !error; i++) {
		if (count_clone_slot(c, &key, i, slot[i], origin[i]))
			error = count_clone_page(c, level - 1, index * VOLUME_SLOTS + i);
	}
	return error;
}

static int count_clone(struct walker *w, struct window *win, const struct snapshot *n)
{
	const struct volume *v = &n->volume;
	const struct clone_count c = {w, win, n, snap_base(w->s, n->number), snap_based_below(w->s, n->number)};
	struct page_key above = tree_key(n->number, v->levels, 0), top = tree_key(n->number, v->levels - 1, 0);
	bool into = tree_page_dirty(w->s, &top);
	if (v->levels == v->placed_levels) /* else a page that is in memory only refers to it */
		into |= count_clone_slot(&c, &above, 0, v->root, c.origin->volume.root);
	return into ? count_clone_page(&c, v->levels - 1, 0) : 0;
}

static int count_volume(struct walker *w, struct window *win, uint32_t volume)
{
	struct store *s = w->s;
	const struct volume *v = &s->trees.volume[volume];
	if (v->root && v->levels == v->placed_levels) { /* else a page that is in memory only refers to it */
		struct page_key above = tree_key(volume, v->placed_levels, 0);
		count_slot(w, win, &above, 0, v->root);
	}
	for (unsigned level = 0; level < v->levels; level++) {
		for (uint64_t index = 0;; index++) {
			struct page *p = NULL;
			bool any;
			int error = tree_next(s, volume, level, &index, &any);
			struct page_key key = tree_key(volume, level, index);
			if (!error && any)
				error = tree_page(s, &key, &p);
			if (is_damage(error))
				continue;
			if (error)
				return error;
			if (!any)
				break;
			for (unsigned i = 0; p && i < VOLUME_SLOTS; i++)
				count_slot(w, win, &key, i, tree_slot(p, i));
			if (p)
				page_unpin(&s->cache, p);
		}
	}
	return 0;
}

/* How often volumes refer to the ids of the window: from addresses, from pages, from their roots. */
static int count_references(struct walker *w, struct window *win)
{
	const struct snapshots *l = &w->s->trees.snapshots;
	int error = count_volume(w, win, VOLUME_HEAD);
	if (!error)
		error = count_volume(w, win, VOLUME_LIST);
	for (unsigned i = 0; i < l->count && !error; i++)
		error = l->list[i]->state == SNAPSHOT_CLONE ? count_clone(w, win, l->list[i])
							    : count_snapshot(w, win, l->list[i]);
	return error;
}

static void check_entry(struct walker *w, uint64_t id, const struct fmt_block *e, unsigned references,
			uint64_t in_use[2])
{
	if (references != !entry_free(e))
		found(w, false, false, UINT64_MAX, UINT64_MAX, "block id %" PRIu64 " is %s; %u refer to it", id,
		      entry_free(e) ? "free" : "in use", references);
	if (entry_free(e))
		return;
	uint64_t block = table_block(w->s, e);
	in_use[0] += e->kind == BLOCK_DATA;
	in_use[1] += e->kind == BLOCK_VOLUME_PAGE;
	if (block == UINT64_MAX)
		found(w, false, false, block, UINT64_MAX, "block id %" PRIu64 " has an entry that makes no sense",
		      id);
	else
		use_block(w, block, "a block");
}

static int check_window(struct walker *w, const struct window *win, uint64_t in_use[2])
{
	struct store *s = w->s;
	for (size_t l = 0; l < win->leaves; l++) {
		struct page *p;
		int error = table_page(s, 0, win->leaf[l], &p);
		if (is_damage(error))
			continue;
		if (error)
			return error;
		for (unsigned i = 0; p && i < TABLE_SLOTS; i++)
			check_entry(w, win->leaf[l] * TABLE_SLOTS + i, &page_table(p)->block[i], win->count[l][i],
				    in_use);
		if (p)
			page_unpin(&s->cache, p);
	}
	return 0;
}

static void check_totals(struct walker *w, const uint64_t in_use[2])
{
	struct store *s = w->s;
	if (in_use[0] != s->data_blocks)
		found(w, false, false, UINT64_MAX, UINT64_MAX,
		      "%" PRIu64 " data blocks are live; the root says %" PRIu64, in_use[0], s->data_blocks);
	if (in_use[1] != s->page_blocks)
		found(w, false, false, UINT64_MAX, UINT64_MAX,
		      "%" PRIu64 " blocks hold pages of volumes; the root says %" PRIu64, in_use[1],
		      s->page_blocks);
}

static int check_references(struct walker *w)
{
	struct store *s = w->s;
	struct window win = {.first = true};
	uint64_t in_use[2] = {0};
	int error = 0;
	store_lock(s);
	for (; !error && (win.first || win.leaves == WINDOW_LEAVES); win.first = false) {
		error = window_gather(s, &win);
		if (!error)
			error = count_references(w, &win);
		if (!error)
			error = check_window(w, &win, in_use);
	}
	if (!error && win.counted != win.referred)
		found(w, false, false, UINT64_MAX, UINT64_MAX,
		      "%" PRIu64 " slots refer to blocks that the block table does not have",
		      win.referred - win.counted);
	if (!error)
		check_totals(w, in_use);
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
		if ((uint64_t)w->live[i] * BLOCK_SECTORS != m->live)
			found(w, false, false, UINT64_MAX, UINT64_MAX,
			      "metaslab %" PRIu32 " has %" PRIu32 " live blocks; its count says %" PRIu32,
			      m->index, w->live[i], m->live / BLOCK_SECTORS);
	}
}

/* -- the two -- */

static int walk_metadata(struct walker *w)
{
	pthread_mutex_lock(&w->s->work);
	int error = walk_root(w);
	pthread_mutex_unlock(&w->s->work);
	if (!error)
		error = walk_table(w);
	if (!error)
		error = walk_space(w);
	if (!error)
		error = walk_tree(w, VOLUME_HEAD);
	if (!error)
		error = walk_list(w);
	if (!error)
		error = walk_snapshots(w);
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
	w->total = 2 * (s->table.pages + s->checkpoint.space_page_count) + s->page_blocks +
		   (walk->data ? s->data_blocks : 0);
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
