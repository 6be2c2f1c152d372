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
#include "store/walker.h"

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
			walker_found(w, good[1 - i] && walker_repair(w, block, &root[1 - i]), false, block,
				     UINT64_MAX, "copy %u of the root is damaged", i);
	}
}

/* After a clean closing both roots say the same; at other times the older one is only there to be overwritten. */
static int walk_root(struct walker *w)
{
	struct store *s = w->s;
	walk_root_slot(w, s->checkpoint.root_slot);
	if (s->config.read_only && s->checkpoint.generation > 1)
		walk_root_slot(w, 1 - s->checkpoint.root_slot);
	return walker_checked(w, 2);
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
		walker_use(w, block, "a page");
		if (!good[i])
			walker_found(w, good[1 - i] && walker_repair(w, block, &w->scratch), false, block,
				     UINT64_MAX, "copy %u of page %" PRIu64 " (level %u) of the %s is damaged", i,
				     index, level, name[tree]);
	}
	return good[0] || good[1] ? walker_progress(w, 2) : -LCPFS_E_CORRUPT;
}

static void tell_lost(struct walker *w, const char *what, unsigned level, uint64_t index)
{
	walker_found(w, false, false, UINT64_MAX, UINT64_MAX,
		     "page %" PRIu64 " (level %u) of the %s is damaged in both copies: what it describes is lost",
		     index, level, what);
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
		if (error && !walker_is_damage(error))
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

/* -- what lies twice, each copy with an id: pages of volumes' trees, and the list of snapshots -- */

struct twin {
	uint64_t block[2]; /* UINT64_MAX: the table does not have it */
	struct fmt_check check[2];
	bool kept; /* false: it is in memory only */
};

static int look_up_twin(struct store *s, const uint64_t id[2], enum fmt_block_kind kind, struct twin *twin)
{
	int error = 0;
	for (unsigned i = 0; i < 2 && !error; i++) {
		struct fmt_block e;
		error = table_look_up(s, id[i], &e);
		twin->block[i] = e.kind == kind ? table_block(s, &e) : UINT64_MAX;
		twin->check[i] = e.check;
	}
	twin->kept = !error;
	return error;
}

static int twin_of(struct store *s, const struct page_key *key, struct twin *twin)
{
	struct page *page;
	*twin = (struct twin){.kept = false};
	int error = tree_page(s, key, &page);
	if (error || !page)
		return error;
	uint64_t id = page->id;
	page_unpin(&s->cache, page);
	return id ? look_up_twin(s, (const uint64_t[2]){id, id + 1}, BLOCK_VOLUME_PAGE, twin) : 0;
}

/* Of the list of snapshots: data of volume 0. */
static int twin_of_pair(struct store *s, unsigned pair, struct twin *twin)
{
	uint64_t id[2] = {0}, address = 2 * (uint64_t)pair;
	struct page_key key = tree_key(VOLUME_LIST, 0, address / VOLUME_SLOTS);
	struct page *page;
	int error = tree_page(s, &key, &page);
	for (unsigned i = 0; !error && page && i < 2; i++)
		id[i] = tree_slot(page, address + i);
	if (!error && page)
		page_unpin(&s->cache, page);
	return error ? error : look_up_twin(s, id, BLOCK_DATA, twin);
}

static bool copy_good(struct store *s, const struct twin *twin, unsigned i, void *data)
{
	if (twin->block[i] == UINT64_MAX ||
	    vdev_read(s->config.vdev, twin->block[i] << BLOCK_SHIFT, data, BLOCK_SIZE))
		return false;
	return fmt_check_fits(&twin->check[i], data);
}

static void verify_twin(struct walker *w, const struct twin *twin, const char *what)
{
	uint8_t data[2][BLOCK_SIZE];
	bool good[2];
	for (unsigned i = 0; i < 2; i++)
		good[i] = copy_good(w->s, twin, i, data[i]);
	for (unsigned i = 0; i < 2; i++) {
		bool same = fmt_check_same(&twin->check[0], &twin->check[1]) && twin->block[i] != UINT64_MAX;
		if (!good[i])
			walker_found(w, good[1 - i] && same && walker_repair(w, twin->block[i], data[1 - i]),
				     false, twin->block[i], UINT64_MAX, "copy %u of %s is damaged", i, what);
	}
}

/* With `work`, so that cleaning does not move it. What is still on its way to the device is waited for. */
static int walk_tree_page(struct walker *w, const struct page_key *key)
{
	struct store *s = w->s;
	struct twin twin;
	char what[64];
	store_lock(s);
	int error = twin_of(s, key, &twin);
	while (!error && twin.kept && (log_page(s, twin.block[0]) || log_page(s, twin.block[1]))) {
		error = log_flush(s);
		if (!error)
			error = twin_of(s, key, &twin);
	}
	store_unlock(s);
	if (walker_is_damage(error))
		tell_lost(w, "volume", key->level, key->index);
	snprintf(what, sizeof(what), "page %" PRIu64 " (level %u) of the volume", key->index, key->level);
	if (!error && twin.kept)
		verify_twin(w, &twin, what);
	return error ? error : walker_progress(w, 2);
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
		if (error && !walker_is_damage(error))
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

/* With `work`: nobody changes it, or moves it. */
static int walk_pair(struct walker *w, unsigned pair)
{
	struct store *s = w->s;
	struct twin twin;
	char what[64];
	store_lock(s);
	int error = twin_of_pair(s, pair, &twin);
	if (!error && (log_page(s, twin.block[0]) || log_page(s, twin.block[1])))
		error = log_flush(s);
	store_unlock(s);
	snprintf(what, sizeof(what), "block %u of the list of snapshots", pair);
	if (!error)
		verify_twin(w, &twin, what);
	return error ? error : walker_progress(w, 2);
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
		error = walker_is_damage(error) ? 0 : error;
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
			walker_found(w, walker_repair(w, at->block + i, header), false, at->block + i, UINT64_MAX,
				     "copy %u of a log record's header is damaged", i);
	}
	return walker_checked(w, 2);
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
		walker_found(w, false, false, at.block, UINT64_MAX,
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
	if (walker_is_damage(error) && n)
		walker_found(w, false, true, mapping.id ? mapping.block : UINT64_MAX, UINT64_MAX,
			     "block %" PRIu64 " of %s %s cannot be read: %s", address,
			     n->state == SNAPSHOT_CLONE ? "clone" : "snapshot", n->name,
			     lcpfs_error_sentence(error));
	else if (walker_is_damage(error))
		walker_found(w, false, true, mapping.id ? mapping.block : UINT64_MAX, address,
			     "block %" PRIu64 " cannot be read: %s", address, lcpfs_error_sentence(error));
	else if (error)
		return error;
	return walker_progress(w, mapping.id != 0);
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
		if (walker_is_damage(error)) {
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
	return (id && walker_birth(v->w->s, id, &kind) >= v->low) ||
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
				: slot[i] && walker_birth(s, slot[i], &kind) >= v->low;
	store_unlock(s);
	error = walker_is_damage(error) ? 0 : error; /* reported */
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

/* -- the two -- */

static void check_live(struct walker *w)
{
	struct store *s = w->s;
	for (uint32_t i = 0; i < s->space.count; i++) {
		const struct metaslab *m = &s->space.slab[i];
		if ((uint64_t)w->live[i] * BLOCK_SECTORS != m->live)
			walker_found(w, false, false, UINT64_MAX, UINT64_MAX,
				     "metaslab %" PRIu32 " has %" PRIu32 " live blocks; its count says %" PRIu32,
				     m->index, w->live[i], m->live / BLOCK_SECTORS);
	}
}

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
		error = references_check(w);
	if (!error)
		check_live(w);
	if (!error && walk->data)
		error = walk_data(w);
	free(w->live);
	free(w);
	return error;
}
