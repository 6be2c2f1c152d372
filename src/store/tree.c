/* SPDX-License-Identifier: Apache-2.0 */
#include "store/tree.h"

#include <string.h>

#include "store/ids.h"
#include "store/log.h"
#include "store/place.h"
#include "store/table.h"

struct snapshot *tree_snapshot(const struct store *s, uint64_t number)
{
	const struct snapshots *n = &s->trees.snapshots;
	unsigned low = 0, high = n->count;
	while (low < high) {
		unsigned middle = low + (high - low) / 2;
		if (n->list[middle]->number < number)
			low = middle + 1;
		else
			high = middle;
	}
	return low < n->count && n->list[low]->number == number ? n->list[low] : NULL;
}

struct volume *tree_volume(struct store *s, uint32_t volume)
{
	if (volume < ROOT_VOLUMES)
		return &s->trees.volume[volume];
	struct snapshot *n = tree_snapshot(s, volume);
	return n ? &n->volume : NULL;
}

bool tree_is_written(const struct store *s, uint32_t volume)
{
	const struct snapshot *n = volume < ROOT_VOLUMES ? NULL : tree_snapshot(s, volume);
	return volume == VOLUME_HEAD || (n && n->state == SNAPSHOT_CLONE);
}

static const struct volume *any_volume(const struct store *s, uint32_t volume)
{
	const struct snapshot *n = volume < ROOT_VOLUMES ? NULL : tree_snapshot(s, volume);
	return n ? &n->volume : volume < ROOT_VOLUMES ? &s->trees.volume[volume] : NULL;
}

bool tree_shares(const struct store *s, uint32_t volume, uint32_t birth)
{
	const struct volume *v = any_volume(s, volume);
	return v && birth < v->shared_below;
}

bool tree_knows(const struct store *s, uint32_t volume, uint32_t birth)
{
	const struct volume *v = any_volume(s, volume);
	return v && birth < v->known_below;
}

static struct volume *volume_of(struct store *s, uint32_t volume)
{
	struct volume *v = tree_volume(s, volume);
	CHECK(v); /* who reads a snapshot holds it */
	return v;
}

/* Pages of a level that a tree of so many levels can have. */
static uint64_t level_count(unsigned levels, unsigned level)
{
	uint64_t count = 1;
	for (; level + 1 < levels; level++)
		count *= VOLUME_SLOTS;
	return count;
}

/* -- dirty pages -- */

/* Will it get an id when it is written, and another volume keep the one that it has? */
static bool wants_id(const struct store *s, const struct page *p)
{
	return !p->id || tree_shares(s, p->key.volume, p->birth);
}

/* Will it get an id at all? */
static bool gets_id(const struct store *s, const struct page *p)
{
	return !p->id || tree_knows(s, p->key.volume, p->birth);
}

static void mark(struct store *s, struct page *p)
{
	struct trees *t = &s->trees;
	if (p->dirty)
		return;
	p->dirty = true;
	p->dirty_previous = NULL;
	p->dirty_next = t->dirty;
	if (t->dirty)
		t->dirty->dirty_previous = p;
	t->dirty = p;
	t->dirty_count++;
	t->unplaced += wants_id(s, p);
}

static void unmark(struct store *s, struct page *p)
{
	struct trees *t = &s->trees;
	CHECK(p->dirty);
	p->dirty = false;
	if (p->dirty_previous)
		p->dirty_previous->dirty_next = p->dirty_next;
	else
		t->dirty = p->dirty_next;
	if (p->dirty_next)
		p->dirty_next->dirty_previous = p->dirty_previous;
	t->dirty_count--;
	t->unplaced -= wants_id(s, p);
}

void tree_modify(struct store *s, struct page *p)
{
	mark(s, p);
}

/* A page that is all zero and lies nowhere. */
static struct page *make(struct store *s, const struct page_key *key)
{
	struct page *p = cache_take(&s->cache);
	if (!p)
		return NULL;
	memset(p->data, 0, BLOCK_SIZE);
	p->birth = 0;
	cache_insert(&s->cache, p, key, PAGE_READY);
	mark(s, p);
	page_unpin(&s->cache, p);
	return p;
}

/* -- finding pages -- */

static int find(struct store *s, const struct page_key *key, struct need *need, struct page **page)
{
	*page = cache_find(&s->cache, key);
	if (*page && (*page)->state == PAGE_READY)
		return 0;
	unsigned levels = volume_of(s, key->volume)->levels;
	bool outside = key->level >= levels || key->index >= level_count(levels, key->level);
	if (!*page && (outside || need_is_absent(need, key)))
		return 0;
	need->kind = NEED_PAGE;
	need->key = *key;
	return TRY_AGAIN;
}

int tree_leaf(struct store *s, uint32_t volume, uint64_t address, struct need *need, struct page **leaf)
{
	struct page_key key = tree_key(volume, 0, address / VOLUME_SLOTS);
	return find(s, &key, need, leaf);
}

/*
 * A page above the top, until the tree reaches `index` of a level. Its first child is the top of before, once that
 * has an id.
 */
static int grow(struct store *s, uint32_t volume, unsigned level, uint64_t index)
{
	struct volume *v = volume_of(s, volume);
	while (level >= v->levels || index >= level_count(v->levels, level)) {
		if (v->levels == VOLUME_LEVELS_MAX)
			return -LCPFS_E_RANGE;
		struct page_key key = tree_key(volume, v->levels, 0);
		struct page *top = make(s, &key);
		if (!top)
			return -LCPFS_E_NOMEM;
		if (v->placed_levels == v->levels)
			tree_set_slot(top, 0, v->root);
		v->levels++;
	}
	return 0;
}

/* With all that is above it, so that their room is counted as soon as that of the page. */
static int find_made(struct store *s, const struct page_key *key, struct need *need, struct page **page)
{
	int error = find(s, key, need, page);
	if (error || *page)
		return error;
	error = grow(s, key->volume, key->level, key->index);
	if (!error && key->level + 1u < volume_of(s, key->volume)->levels) {
		struct page_key above = tree_key(key->volume, key->level + 1u, key->index / VOLUME_SLOTS);
		struct page *parent;
		error = find_made(s, &above, need, &parent);
	}
	if (error)
		return error;
	*page = cache_find(&s->cache, key); /* growing may have made just that */
	if (!*page)
		*page = make(s, key);
	return *page ? 0 : -LCPFS_E_NOMEM;
}

int tree_leaf_made(struct store *s, uint32_t volume, uint64_t address, struct need *need, struct page **leaf)
{
	struct page_key key = tree_key(volume, 0, address / VOLUME_SLOTS);
	return find_made(s, &key, need, leaf);
}

/* From a page of a level up: those that want an id and are clean. */
static int own_cost(struct store *s, uint32_t volume, unsigned level, uint64_t index, struct need *need,
		    unsigned *blocks)
{
	const struct volume *v = volume_of(s, volume);
	*blocks = 0;
	for (; v->known_below && level < v->levels; level++, index /= VOLUME_SLOTS) {
		struct page_key key = tree_key(volume, level, index);
		struct page *p;
		int error = find(s, &key, need, &p);
		if (error)
			return error;
		*blocks += p && !p->dirty && wants_id(s, p) ? 2 : 0;
	}
	return 0;
}

static void own(struct store *s, uint32_t volume, unsigned level, uint64_t index)
{
	const struct volume *v = volume_of(s, volume);
	for (; v->known_below && level < v->levels; level++, index /= VOLUME_SLOTS) {
		struct page_key key = tree_key(volume, level, index);
		struct page *p = cache_find(&s->cache, &key);
		if (p && p->state == PAGE_READY && gets_id(s, p))
			mark(s, p);
	}
}

int tree_own_cost(struct store *s, uint32_t volume, uint64_t address, struct need *need, unsigned *blocks)
{
	return own_cost(s, volume, 0, address / VOLUME_SLOTS, need, blocks);
}

void tree_own(struct store *s, uint32_t volume, uint64_t address)
{
	own(s, volume, 0, address / VOLUME_SLOTS);
}

int tree_own_above(struct store *s, void *context, struct need *need)
{
	const struct page_key *key = context;
	unsigned blocks;
	int error = own_cost(s, key->volume, key->level, key->index, need, &blocks);
	if (!error)
		own(s, key->volume, key->level, key->index);
	return error;
}

/* -- loading -- */

/* Tops that have no id yet are in the cache, and not asked for here. */
int tree_page_id(struct store *s, const struct page_key *key, uint64_t *id)
{
	const struct volume *v = volume_of(s, key->volume);
	*id = 0;
	if (key->level >= v->levels)
		return 0;
	if (key->level + 1u == v->levels) {
		*id = key->index == 0 && v->levels == v->placed_levels ? v->root : 0;
		return 0;
	}
	struct page_key above = tree_key(key->volume, key->level + 1u, key->index / VOLUME_SLOTS);
	struct page *parent;
	int error = tree_page(s, &above, &parent);
	if (error || !parent)
		return error;
	*id = tree_slot(parent, key->index);
	page_unpin(&s->cache, parent);
	return 0;
}

bool tree_page_dirty(struct store *s, const struct page_key *key)
{
	const struct page *p = cache_find(&s->cache, key);
	return p && p->dirty;
}

struct source {
	uint32_t birth;
	uint64_t block[2];
	struct fmt_check check[2];
};

static int source_of(struct store *s, uint64_t id, struct source *source)
{
	struct page *leaf;
	memset(source, 0, sizeof(*source)); /* it is compared whole */
	if (id & ~FMT_ID_MASK || id % 2)
		return -LCPFS_E_CORRUPT;
	int error = table_page(s, 0, id / TABLE_SLOTS, &leaf);
	if (error || !leaf)
		return error ? error : -LCPFS_E_CORRUPT;
	for (unsigned i = 0; i < 2; i++) {
		const struct fmt_block *e = table_entry(leaf, id + i);
		source->block[i] = e->kind == BLOCK_VOLUME_PAGE ? table_block(s, e) : UINT64_MAX;
		source->check[i] = e->check;
		source->birth = le32_get(e->birth);
	}
	page_unpin(&s->cache, leaf);
	return source->block[0] == UINT64_MAX && source->block[1] == UINT64_MAX ? -LCPFS_E_CORRUPT : 0;
}

static int read_either(struct store *s, const struct source *source, uint8_t *data)
{
	int error = -LCPFS_E_CORRUPT;
	for (unsigned i = 0; i < 2; i++) {
		if (source->block[i] == UINT64_MAX)
			continue;
		error = vdev_read(s->config.vdev, source->block[i] << BLOCK_SHIFT, data, BLOCK_SIZE);
		if (!error && fmt_check_fits(&source->check[i], data))
			return 0;
		error = error ? error : -LCPFS_E_CORRUPT;
	}
	return error;
}

/*
 * Others wait for it. Where it lies may have changed meanwhile: then *page stays NULL, and one has to look again.
 */
static int load(struct store *s, const struct page_key *key, uint64_t id, const struct source *source,
		struct page **page)
{
	cache_shrink(&s->cache);
	struct page *p = cache_take(&s->cache);
	if (!p)
		return -LCPFS_E_NOMEM;
	cache_insert(&s->cache, p, key, PAGE_LOADING);
	store_unlock(s);
	int error = read_either(s, source, p->data);
	store_lock(s);
	if (!error) {
		p->id = id;
		p->birth = source->birth;
		p->state = PAGE_READY;
		*page = p;
	} else {
		cache_forget(&s->cache, p);
		page_unpin(&s->cache, p);
	}
	store_changed(s);
	return error;
}

/* Cleaning moved it into a record that is not written yet. False: it lies on the device. */
static bool load_from_log(struct store *s, const struct page_key *key, uint64_t id, const struct source *source,
			  struct page **page, int *error)
{
	const struct page *there = NULL;
	for (unsigned i = 0; i < 2 && !there; i++) {
		there = log_page(s, source->block[i]);
		if (there && !fmt_check_fits(&source->check[i], there->data))
			there = NULL;
	}
	if (!there)
		return false;
	cache_shrink(&s->cache);
	struct page *p = cache_take(&s->cache);
	*error = p ? 0 : -LCPFS_E_NOMEM;
	if (!p)
		return true;
	memcpy(p->data, there->data, BLOCK_SIZE);
	cache_insert(&s->cache, p, key, PAGE_READY);
	p->id = id;
	p->birth = source->birth;
	*page = p;
	return true;
}

int tree_page(struct store *s, const struct page_key *key, struct page **page)
{
	struct source last;
	uint64_t id, gone = 0;
	memset(&last, 0, sizeof(last));
	for (;;) {
		*page = store_cached(s, key);
		if (*page)
			return 0;
		uint64_t changes = s->changes;
		struct source source;
		int error = tree_page_id(s, key, &id);
		if (error || !id ||
		    (s->trees.vanishes_later && s->trees.vanishes_later(s->trees.vanishes_context, id)))
			return error;
		error = source_of(s, id, &source);
		bool may_be_gone = error == -LCPFS_E_CORRUPT && id != gone;
		if (s->changes != changes && (!error || may_be_gone)) {
			gone = error ? id : 0;
			continue; /* others were let in: the page may have another id by now, or vanished */
		}
		if (error)
			return error;
		if (load_from_log(s, key, id, &source, page, &error))
			return error;
		error = load(s, key, id, &source, page);
		if (!error || memcmp(&last, &source, sizeof(source)) == 0 || error == -LCPFS_E_NOMEM)
			return error;
		last = source;
	}
}

int tree_slots(struct store *s, const struct page_key *key, uint64_t slot[VOLUME_SLOTS])
{
	struct page *p;
	memset(slot, 0, VOLUME_SLOTS * sizeof(*slot));
	int error = tree_page(s, key, &p);
	if (error || !p)
		return error;
	for (unsigned i = 0; i < VOLUME_SLOTS; i++)
		slot[i] = tree_slot(p, i);
	page_unpin(&s->cache, p);
	return 0;
}

static int next_before(struct store *s, uint32_t volume, unsigned wanted, uint64_t end, uint64_t *index,
		       bool *found)
{
	*found = false;
	for (;;) {
		const struct volume *v = volume_of(s, volume);
		unsigned level = v->levels - 1;
		uint64_t behind = UINT64_MAX;
		if (wanted > level || *index >= MIN_OF(level_count(v->levels, wanted), end))
			return 0;
		/* Down towards *index: to it, or to where there is nothing. */
		for (;; level--) {
			uint64_t span = level_count(level + 1, wanted), at = *index / span;
			struct page_key key = tree_key(volume, level, at);
			struct page *p;
			int error = tree_page(s, &key, &p);
			behind = (at + 1) * span;
			if (error || level == wanted) {
				*found = error || p;
				if (p)
					page_unpin(&s->cache, p);
				if (error)
					*index = behind - 1;
				if (*found)
					return error;
				break;
			}
			bool none = !p; /* whatever is below in memory has been made with all that is above */
			if (p)
				page_unpin(&s->cache, p);
			if (none)
				break;
		}
		*index = behind;
	}
}

int tree_next(struct store *s, uint32_t volume, unsigned level, uint64_t *index, bool *found)
{
	return next_before(s, volume, level, UINT64_MAX, index, found);
}

int tree_next_leaf(struct store *s, uint32_t volume, uint64_t end, uint64_t *index, bool *found)
{
	return next_before(s, volume, 0, end, index, found);
}

/* -- writing -- */

static bool is_empty(const struct page *p)
{
	static const uint8_t zeros[BLOCK_SIZE];
	return memcmp(p->data, zeros, BLOCK_SIZE) == 0;
}

/* What is above a page: another page, which is made if there is none, or the volume itself. */
static int parent_of(struct store *s, const struct page *p, struct need *need, struct page **parent)
{
	const struct volume *v = volume_of(s, p->key.volume);
	*parent = NULL;
	if (p->key.level + 1u == v->levels)
		return 0;
	struct page_key key = tree_key(p->key.volume, p->key.level + 1u, p->key.index / VOLUME_SLOTS);
	return find_made(s, &key, need, parent);
}

static void point_at(struct store *s, const struct page *p, struct page *parent, uint64_t id)
{
	struct volume *v = volume_of(s, p->key.volume);
	if (parent && tree_slot(parent, p->key.index) != id) {
		tree_modify(s, parent);
		tree_set_slot(parent, p->key.index, id);
	}
	/* A tree that has grown counts as placed when its top is. */
	if (p->key.level + 1u == v->levels || (p->key.level + 1u == v->placed_levels && p->key.index == 0)) {
		v->root = id;
		v->placed_levels = p->key.level + 1u;
	}
}

static struct entry page_entry(const struct page *p, enum fmt_entry_kind kind, uint64_t id)
{
	return (struct entry){.kind = kind,
			      .count = kind == ENTRY_VANISH ? 2
				       : kind == ENTRY_PAGE ? 1
							    : 0,
			      .blocks = kind == ENTRY_PAGE,
			      .id = id,
			      .volume = p->key.volume,
			      .address = p->key.index,
			      .level = p->key.level};
}

/* It is all zero, and a snapshot has what it was. */
static int leave(struct store *s, struct page *p, uint32_t kept, struct need *need)
{
	struct page *parent;
	struct record *record;
	int error = parent_of(s, p, need, &parent);
	if (!error)
		error = log_open(s, HEAD_COLD, 0, fmt_entry_words(ENTRY_LEAVE, 0), kept, need, &record);
	if (error)
		return error;
	struct entry e = page_entry(p, ENTRY_LEAVE, 0);
	log_order(s, record, 0, TELLS_MORE);
	log_tell(record, &e, NULL);
	point_at(s, p, parent, 0);
	unmark(s, p);
	cache_forget(&s->cache, p);
	return 0;
}

static int vanish(struct store *s, struct page *p, uint32_t kept, struct need *need)
{
	struct page *parent = NULL, *leaf = NULL;
	struct record *record;
	int error = p->id ? parent_of(s, p, need, &parent) : 0;
	if (!error && p->id)
		error = table_leaf(s, p->id, need, &leaf);
	if (!error && p->id)
		error = log_open(s, HEAD_COLD, 0, fmt_entry_words(ENTRY_VANISH, 2), kept, need, &record);
	if (!error && p->id)
		error = leaf ? table_modify(s, leaf) : -LCPFS_E_CORRUPT;
	if (error)
		return error;
	if (p->id) {
		struct entry e = page_entry(p, ENTRY_VANISH, p->id);
		log_order(s, record, 0, TELLS_MORE);
		log_tell(record, &e, NULL);
		for (unsigned i = 0; i < 2; i++) {
			if (table_free(s, table_entry(leaf, p->id + i)))
				return store_contradiction(s);
		}
		ids_freed(s, p->id, 2);
		point_at(s, p, parent, 0);
	}
	unmark(s, p);
	cache_forget(&s->cache, p);
	return error;
}

/* The bytes as they are now: they may change again before the record is written. */
static struct page *copy_of(struct store *s, const struct page *p, struct fmt_check *check)
{
	struct page *copy = cache_take(&s->cache);
	if (!copy)
		return NULL;
	memcpy(copy->data, p->data, BLOCK_SIZE);
	*check = fmt_check_of(copy->data);
	return copy;
}

static int write_twice(struct store *s, struct page *p, uint64_t id, struct page *leaf, struct record *record)
{
	struct fmt_check check;
	struct page *copy = copy_of(s, p, &check);
	int error = copy ? table_modify(s, leaf) : -LCPFS_E_NOMEM;
	if (!error)
		log_order(s, record, 0, TELLS_MORE);
	for (unsigned i = 0; i < 2 && !error; i++) {
		struct entry e = page_entry(p, ENTRY_PAGE, id + i);
		uint64_t block = log_append(record, copy);
		log_tell(record, &e, &check);
		if (table_store(s, table_entry(leaf, id + i), BLOCK_VOLUME_PAGE, block, &check))
			error = store_contradiction(s);
	}
	if (copy)
		page_unpin(&s->cache, copy);
	return error;
}

/* The id that it had is nobody's any more. */
static int drop(struct store *s, uint64_t id, struct page *leaf, struct record *record)
{
	log_tell(record, &(struct entry){.kind = ENTRY_DROP, .count = 2, .id = id}, NULL);
	for (unsigned i = 0; i < 2; i++) {
		if (table_free(s, table_entry(leaf, id + i)))
			return store_contradiction(s);
	}
	ids_freed(s, id, 2);
	return 0;
}

int tree_write_page(struct store *s, struct page *p, uint32_t kept, struct need *need)
{
	struct page *parent = NULL, *leaf, *old_leaf = NULL;
	struct record *record;
	uint64_t id = gets_id(s, p) ? 0 : p->id, old = id || wants_id(s, p) ? 0 : p->id;
	unsigned words = 2 * fmt_entry_words(ENTRY_PAGE, 1) + fmt_entry_words(ENTRY_DROP, 2);
	bool placed = id;
	CHECK(p->dirty);
	if (is_empty(p))
		return p->id && wants_id(s, p) ? leave(s, p, kept, need) : vanish(s, p, kept, need);
	int error = id ? 0 : parent_of(s, p, need, &parent);
	if (!error && old)
		error = table_leaf(s, old, need, &old_leaf);
	if (!error && old)
		error = old_leaf ? table_modify(s, old_leaf) : -LCPFS_E_CORRUPT;
	if (!error)
		error = log_open(s, HEAD_COLD, 2, words, kept, need, &record);
	if (!error && id)
		error = table_leaf_made(s, id, need, &leaf);
	else if (!error)
		error = ids_take(s, true, need, &id, &leaf);
	if (error)
		return error;
	error = write_twice(s, p, id, leaf, record);
	if (error) {
		if (!placed)
			ids_freed(s, id, 2);
		return error;
	}
	unmark(s, p);
	if (old)
		error = drop(s, old, old_leaf, record);
	if (!placed) {
		p->id = id;
		p->birth = s->checkpoint.birth;
		point_at(s, p, parent, id);
	}
	s->counters.page_blocks += 2;
	return error;
}

/* -- roll-forward -- */

int tree_bind_page(struct store *s, uint32_t volume, unsigned level, uint64_t index, uint64_t id,
		   struct need *need)
{
	if (level >= VOLUME_LEVELS_MAX || id % 2)
		return -LCPFS_E_CORRUPT;
	int error = grow(s, volume, level, index);
	if (error)
		return error == -LCPFS_E_RANGE ? -LCPFS_E_CORRUPT : error;
	struct page_key key = tree_key(volume, level, index);
	struct page *page = cache_find(&s->cache, &key), *parent = NULL;
	const struct page is = {.key = key};
	error = parent_of(s, &is, need, &parent);
	if (error)
		return error;
	/* What was rolled forward up to here is in what was written then. */
	if (page && page->dirty)
		unmark(s, page);
	/*
	 * What it was kept as before may be another's by now, and was not read then: so what is in memory may be
	 * less than what was written.
	 */
	if (page && (!id || page->id != id))
		cache_forget(&s->cache, page);
	point_at(s, &is, parent, id);
	return 0;
}

/* -- the volume as a whole -- */

static bool is_of(const struct page *p, uint32_t volume)
{
	return p->key.kind == PAGE_VOLUME && p->key.volume == volume;
}

void tree_forget(struct store *s, uint32_t volume)
{
	for (struct page *p = s->cache.ring.newer, *next; p != &s->cache.ring; p = next) {
		next = p->newer;
		if (!is_of(p, volume) || p->state != PAGE_READY)
			continue;
		if (p->dirty)
			unmark(s, p);
		cache_forget(&s->cache, p);
	}
}

bool tree_is_loading(const struct store *s, uint32_t volume)
{
	for (const struct page *p = s->cache.ring.newer; p != &s->cache.ring; p = p->newer) {
		if (is_of(p, volume) && p->state != PAGE_READY)
			return true;
	}
	return false;
}

int tree_become(struct store *s, uint32_t volume, uint64_t root, unsigned levels)
{
	struct volume *v = volume_of(s, volume);
	if (tree_is_loading(s, volume))
		return TRY_AGAIN;
	tree_forget(s, volume);
	v->root = root;
	v->levels = v->placed_levels = levels;
	return 0;
}

void tree_share_below(struct store *s, struct volume *v, uint32_t birth, uint32_t known)
{
	struct trees *t = &s->trees;
	v->shared_below = birth;
	v->known_below = known;
	t->unplaced = 0;
	for (const struct page *p = t->dirty; p; p = p->dirty_next)
		t->unplaced += wants_id(s, p);
}

/* -- audit -- */

void tree_audit(const struct store *s)
{
	uint32_t count = 0, unplaced = 0;
	for (const struct page *p = s->trees.dirty; p; p = p->dirty_next, count++) {
		CHECK(p->dirty && p->key.kind == PAGE_VOLUME && p->state == PAGE_READY);
		unplaced += wants_id(s, p);
	}
	CHECK(count == s->trees.dirty_count && unplaced == s->trees.unplaced); /* V1 */
	for (unsigned i = 0; i < ROOT_VOLUMES; i++) {
		const struct volume *v = &s->trees.volume[i];
		CHECK(v->levels >= v->placed_levels && v->levels <= VOLUME_LEVELS_MAX &&
		      v->root % 2 == 0); /* V2 */
	}
}
