/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening: the newest root, then the log rolled forward.
 *
 * The root (root.c) says for each region of the block table after which record its leaves were written, and where
 * the log's heads stood then. From the lowest of these, the redo point, the log is followed (chain.c), three
 * times.
 *
 * Where the log ends. First pass: follow the headers as far as they go, and note the highest record that any
 * header declares durable. Up to that mark a block that fails its checksum is damage: its mapping is applied and
 * reads of it fail. Beyond the mark it may be the torn end of what was never flushed: the first record with such a
 * block, and all behind it, never happened. If the chain breaks before the mark, flushed data cannot be found any
 * more: that is an error, not an end.
 *
 * What is applied. Second pass: the table. A region that has a record's changes already is left alone; counts of
 * live blocks follow from the record on that the root's counts are as of. Third pass: the trees of volumes. Their
 * pages may be newer than the record at hand, so they are read where the table has them in the end, and are bound
 * again what they know already.
 *
 * Costs reading the headers since the redo point, and the space list. Everything read is untrusted.
 */
#include "store/recover.h"

#include <stdlib.h>
#include <string.h>

#include "store/attempt.h"
#include "store/chain.h"
#include "store/ids.h"
#include "store/log.h"
#include "store/place.h"
#include "store/root.h"
#include "store/snap.h"
#include "store/table.h"
#include "store/tree.h"

struct forward {
	struct vanished {
		uint64_t id, seq;
		unsigned at;
	} * vanished; /* ids of pages that vanish, by id; of one id the last time */
	size_t vanishes;
	unsigned at; /* the word behind the entry that is applied to trees */
	struct chain log;
};

static struct forward *forward_new(struct store *s)
{
	struct forward *f = malloc(sizeof(*f));
	if (!f)
		return NULL;
	memset(f, 0, offsetof(struct forward, log.chunk));
	f->log.s = s;
	return f;
}

/* -- the table -- */

/* One id of one entry. */
struct change {
	const struct entry *entry;
	const struct fmt_record *record;
	unsigned i;
	uint64_t block;
};

static struct fmt_check check_at(const struct change *c)
{
	return (struct fmt_check){c->entry->check[2 * c->i], c->entry->check[2 * c->i + 1]};
}

static enum fmt_block_kind kind_of(const struct entry *e)
{
	return e->kind == ENTRY_PAGE ? BLOCK_VOLUME_PAGE : BLOCK_DATA;
}

static bool frees(enum fmt_entry_kind kind)
{
	return kind == ENTRY_FREE || kind == ENTRY_VANISH || kind == ENTRY_DROP;
}

/*
 * Up to the record that the counts are as of: the entry may be newer already, what comes is put over it, and
 * counts stay.
 */
static void assign(struct store *s, struct fmt_block *e, const struct change *c)
{
	enum fmt_entry_kind kind = c->entry->kind;
	if (frees(kind)) {
		memset(e, 0, sizeof(*e));
		return;
	}
	e->place = place_of_block(c->block);
	if (kind == ENTRY_MOVE || kind == ENTRY_LOST)
		return;
	if (kind == ENTRY_WRITE || e->kind != kind_of(c->entry))
		e->birth = c->record->birth;
	e->kind = (uint8_t)kind_of(c->entry);
	e->sectors = le16_of(BLOCK_SECTORS);
	e->check = check_at(c);
	(void)s;
}

static int change_entry(struct store *s, struct fmt_block *e, const struct change *c)
{
	enum fmt_entry_kind kind = c->entry->kind;
	if (le64_get(c->record->seq) <= s->checkpoint.root_seq) {
		assign(s, e, c);
		return 0;
	}
	if (frees(kind))
		return table_free(s, e);
	if (kind == ENTRY_MOVE || kind == ENTRY_LOST)
		return table_place(s, e, c->block);
	if ((kind == ENTRY_WRITE && !entry_free(e)) || (kind == ENTRY_OVERWRITE && entry_free(e)))
		return -LCPFS_E_CORRUPT;
	struct fmt_check check = check_at(c);
	return table_store(s, e, kind_of(c->entry), c->block, &check);
}

static int apply_change(struct store *s, void *context, struct need *need)
{
	const struct change *c = context;
	uint64_t id = c->entry->id + c->i;
	struct page *leaf;
	if (id < IDS_FIRST || id >= ids_max(s))
		return -LCPFS_E_CORRUPT;
	if (id / TABLE_SLOTS / TABLE_SLOTS >> s->table.region_shift < REGIONS &&
	    table_knows(s, id, le64_get(c->record->seq)))
		return 0;
	int error = table_leaf_made(s, id, need, &leaf);
	if (!error)
		error = table_modify(s, leaf);
	if (error)
		return error;
	if (le64_get(c->record->seq) > s->checkpoint.root_seq)
		ids_used(s, id);
	return change_entry(s, table_entry(leaf, id), c);
}

static int apply_ids(struct store *s, const struct fmt_record *r, const struct entry *e, uint64_t block)
{
	for (unsigned i = 0; i < e->count; i++) {
		struct change c = {e, r, i, e->blocks ? block + i : 0};
		int error = attempt(s, apply_change, &c);
		if (error)
			return error;
	}
	return 0;
}

static int note_vanished(struct forward *f, uint64_t id, uint64_t seq, unsigned at)
{
	if (f->vanishes % 64 == 0) {
		struct vanished *list = realloc(f->vanished, (f->vanishes + 64) * sizeof(*list));
		if (!list)
			return -LCPFS_E_NOMEM;
		f->vanished = list;
	}
	f->vanished[f->vanishes++] = (struct vanished){id, seq, at};
	return 0;
}

static enum space_class class_of(unsigned head)
{
	return head == HEAD_HOT ? CLASS_HOT : head == HEAD_COLD ? CLASS_COLD : CLASS_MOVED;
}

static int check_next(const struct forward *f, const struct fmt_record *r)
{
	uint32_t next = le32_get(r->next);
	if (le64_get(r->written) >= UINT64_MAX / 2) /* the next root could not say it */
		return -LCPFS_E_CORRUPT;
	/* One that was left without a record may have been given away since. */
	return next == NO_METASLAB || next < f->log.s->config.metaslab_count ? 0 : -LCPFS_E_CORRUPT;
}

static int apply_table(void *context, const struct fmt_record *r, unsigned head)
{
	struct forward *f = context;
	struct store *s = f->log.s;
	uint64_t seq = f->log.seq + 1, block = block_of_place(r->place) + RECORD_HEADERS;
	int good = seq <= f->log.durable ? 1 : chain_blocks_good(&f->log, r);
	if (good <= 0)
		return good ? good : 1;
	struct metaslab *m = metaslab_of(s, block);
	space_seen(&s->space, m->index, class_of(head), seq, le64_get(r->written));
	s->checkpoint.birth = le32_get(r->birth);
	if (seq > s->checkpoint.root_seq)
		s->counters.written_blocks = MAX_OF(s->counters.written_blocks, le64_get(r->written));
	s->log.appended += RECORD_HEADERS + le16_get(r->blocks);
	struct entry e;
	int error = check_next(f, r);
	for (unsigned at = 0; !error && fmt_entry_next(r, &at, &e); block += e.blocks) {
		error = apply_ids(s, r, &e, block);
		if (!error && (e.kind == ENTRY_VANISH || e.kind == ENTRY_DROP))
			error = note_vanished(f, e.id, seq, at);
	}
	return error ? error : chain_mend_header(&f->log, head);
}

/* -- trees -- */

static int by_id(const void *a, const void *b)
{
	const struct vanished *x = a, *y = b;
	if (x->id != y->id)
		return (x->id > y->id) - (x->id < y->id);
	return x->seq != y->seq ? (x->seq > y->seq) - (x->seq < y->seq) : (x->at > y->at) - (x->at < y->at);
}

/* Of each id the last time. */
static void sort_vanished(struct forward *f)
{
	size_t kept = 0;
	if (f->vanishes)
		qsort(f->vanished, f->vanishes, sizeof(*f->vanished), by_id);
	for (size_t i = 0; i < f->vanishes; i++) {
		if (kept && f->vanished[kept - 1].id == f->vanished[i].id)
			kept--;
		f->vanished[kept++] = f->vanished[i];
	}
	f->vanishes = kept;
}

/*
 * Does the page vanish later in the log? Then what lies there may be another's by now, and it will be empty
 * anyway. Its ids may be another page's in the same record already.
 */
static bool vanishes_later(void *context, uint64_t id)
{
	const struct forward *f = context;
	size_t low = 0, high = f->vanishes;
	while (low < high) {
		size_t middle = low + (high - low) / 2;
		if (f->vanished[middle].id < id)
			low = middle + 1;
		else
			high = middle;
	}
	const struct vanished *v = low < f->vanishes && f->vanished[low].id == id ? &f->vanished[low] : NULL;
	return v && (v->seq > f->log.seq + 1 || (v->seq == f->log.seq + 1 && v->at > f->at));
}

struct binding {
	uint32_t volume;
	unsigned level;
	uint64_t address, id;
};

static int bind_address(struct store *s, void *context, struct need *need)
{
	const struct binding *b = context;
	struct page *leaf;
	int error = tree_leaf_made(s, b->volume, b->address, need, &leaf);
	if (error)
		return error == -LCPFS_E_RANGE ? -LCPFS_E_CORRUPT : error;
	if (tree_slot(leaf, b->address) == b->id)
		return 0; /* it is a newer version of the page, or one that was made just now */
	tree_modify(s, leaf);
	tree_set_slot(leaf, b->address, b->id);
	return 0;
}

static int bind_page(struct store *s, void *context, struct need *need)
{
	const struct binding *b = context;
	return tree_bind_page(s, b->volume, b->level, b->address, b->id, need);
}

static bool range_sane(const struct store *s, uint32_t volume, uint64_t address, uint64_t length)
{
	const struct snapshot *n = volume < ROOT_VOLUMES ? NULL : tree_snapshot(s, volume);
	uint64_t blocks = volume == VOLUME_LIST ? 2 * (uint64_t)SNAPSHOT_LAST
			  : n                   ? n->volume.blocks
						: s->trees.volume[VOLUME_HEAD].blocks;
	return address <= blocks && length <= blocks - address;
}

static int apply_write(struct store *s, const struct entry *e)
{
	if (!range_sane(s, e->volume, e->address, e->count))
		return -LCPFS_E_CORRUPT;
	for (unsigned i = 0; i < e->count; i++) {
		struct binding b = {.volume = e->volume, .address = e->address + i, .id = e->id + i};
		int error = attempt(s, bind_address, &b);
		if (error)
			return error;
	}
	return 0;
}

static int clear_addresses(struct store *s, void *context, struct need *need)
{
	const struct entry *e = context;
	struct page *leaf;
	int error = tree_leaf(s, e->volume, e->address, need, &leaf);
	for (uint64_t a = e->address; !error && leaf && a < e->address + e->length; a++) {
		if (tree_slot(leaf, a) == 0)
			continue;
		tree_modify(s, leaf);
		tree_set_slot(leaf, a, 0);
	}
	return error;
}

/* All of them in one leaf: so what a record can cost is bounded by its size. */
static int apply_trim(struct store *s, const struct entry *e)
{
	struct entry range = *e;
	if (!e->length || e->volume == VOLUME_LIST || !range_sane(s, e->volume, e->address, e->length) ||
	    e->address / VOLUME_SLOTS != (e->address + e->length - 1) / VOLUME_SLOTS)
		return -LCPFS_E_CORRUPT;
	return attempt(s, clear_addresses, &range);
}

static int apply_page(struct store *s, const struct entry *e)
{
	struct binding b = {.volume = e->volume,
			    .level = e->level,
			    .address = e->address,
			    .id = e->kind == ENTRY_PAGE ? e->id : 0};
	if (e->address > UINT64_C(1) << 40 || (e->kind == ENTRY_VANISH && e->id % 2))
		return -LCPFS_E_CORRUPT;
	return e->id % 2 ? 0 : attempt(s, bind_page, &b); /* the second copy tells nothing more */
}

static int apply_volume(struct store *s, const struct entry *e)
{
	if (e->volume != VOLUME_HEAD || e->id % 2 || e->level < 1 || e->level > VOLUME_LEVELS_MAX)
		return -LCPFS_E_CORRUPT;
	return tree_become(s, e->volume, e->id, e->level);
}

static int apply_clone(struct store *s, const struct entry *e)
{
	bool there = tree_snapshot(s, e->volume);
	if (!clone_number_sane(e->volume) || (e->level && !tree_sane(e->id, e->level, e->length)))
		return -LCPFS_E_CORRUPT;
	if (e->level)
		return snap_clone_was_made(s, e->volume, e->id, e->level, e->length);
	if (there)
		snap_clone_was_ended(s, e->volume);
	return 0;
}

/* The root knows no more of a clone that was destroyed by then. */
static bool is_of_ended(const struct forward *f, const struct entry *e)
{
	bool change = e->kind == ENTRY_WRITE || e->kind == ENTRY_TRIM || e->kind == ENTRY_PAGE ||
		      e->kind == ENTRY_VANISH || e->kind == ENTRY_LEAVE;
	return change && e->volume >= ROOT_VOLUMES && !tree_snapshot(f->log.s, e->volume);
}

static int apply_trees(void *context, const struct fmt_record *r, unsigned head)
{
	struct forward *f = context;
	struct entry e;
	int error = 0;
	(void)head;
	if (f->log.seq + 1 > f->log.s->log.seq)
		return 1;
	for (f->at = 0; !error && fmt_entry_next(r, &f->at, &e);) {
		if (is_of_ended(f, &e))
			error = f->log.seq + 1 > f->log.s->checkpoint.root_seq ? -LCPFS_E_CORRUPT : 0;
		else if (e.kind == ENTRY_CLONE)
			error = apply_clone(f->log.s, &e);
		else if (e.kind == ENTRY_WRITE)
			error = apply_write(f->log.s, &e);
		else if (e.kind == ENTRY_TRIM)
			error = apply_trim(f->log.s, &e);
		else if (e.kind == ENTRY_PAGE || e.kind == ENTRY_VANISH || e.kind == ENTRY_LEAVE)
			error = apply_page(f->log.s, &e);
		else if (e.kind == ENTRY_VOLUME)
			error = apply_volume(f->log.s, &e);
	}
	return error;
}

/* -- afterwards -- */

static int settle_head(struct store *s, struct head *h, enum space_class class)
{
	struct metaslab *m = space_find(&s->space, h->metaslab);
	bool other = m && m->live && (m->class == CLASS_TABLE) != (class == CLASS_TABLE);
	if (!m || m->state == SPACE_OPEN || other || m->last > s->log.seq || /* of a record that is none yet */
	    m->live > (uint64_t)h->offset * BLOCK_SECTORS)                   /* it would write over what is live */
		return -LCPFS_E_CORRUPT;
	space_take_this(&s->space, h->metaslab, class, m->live ? m->born : s->counters.written_blocks);
	return 0;
}

static int settle_heads(struct store *s)
{
	struct head *table = &s->table.head;
	s->log.heads = s->log.head[1].metaslab == NO_METASLAB ? 1 : LOG_HEADS;
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		struct head *h = &s->log.head[i];
		struct fmt_position p = {le32_of(h->metaslab), le32_of(h->offset)};
		if ((i >= s->log.heads) != (h->metaslab == NO_METASLAB) || !position_sane(s, &p))
			return -LCPFS_E_CORRUPT;
		int error = i < s->log.heads ? settle_head(s, h, class_of(i)) : 0;
		if (error)
			return error;
	}
	struct metaslab *m = space_find(&s->space, table->metaslab);
	/*
	 * What was written there after the root is nobody's; in one that was given back, or used anew, nothing is
	 * written.
	 */
	if (!m || m->state == SPACE_OPEN || (m->live && m->class != CLASS_TABLE) ||
	    table->offset > s->config.metaslab_blocks)
		*table = (struct head){NO_METASLAB, 0, NO_METASLAB};
	else
		return settle_head(s, table, CLASS_TABLE);
	return 0;
}

/* Flushed records that cannot be followed to. */
static int refuse_lost(const struct forward *f, struct lcpfs_failure *failure)
{
	const struct store *s = f->log.s;
	if (f->log.outlived)
		return failure_set(failure, LCPFS_E_CORRUPT,
				   "partition %s: both copies of its newest root are damaged", s->name);
	if (f->log.durable > f->log.seq)
		return failure_set(
			failure, LCPFS_E_CORRUPT,
			"partition %s: record %llu of its log was flushed and is damaged in both copies", s->name,
			(unsigned long long)f->log.seq + 1);
	return 0;
}

static int look_behind(struct forward *f, struct lcpfs_failure *failure)
{
	chain_look_behind(&f->log);
	return refuse_lost(f, failure);
}

/*
 * Once the table is as the log says more is known to be empty: there the log may have gone on. If what lies there
 * tells that more was flushed, a block that seemed torn was flushed and is damaged; then it goes on behind it.
 */
static int look_behind_again(struct forward *f, struct lcpfs_failure *failure)
{
	uint64_t before;
	int error;
	do {
		before = f->log.seq;
		chain_look_behind(&f->log);
		error = f->log.durable > before ? chain_go_on(&f->log, apply_table, f) : 0;
	} while (!error && f->log.seq > before);
	return error ? error : refuse_lost(f, failure);
}

static int roll_forward(struct forward *f, struct lcpfs_failure *failure)
{
	struct store *s = f->log.s;
	f->log.durable = s->found.root_durable;
	int error = chain_follow(&f->log, NULL, NULL);
	if (!error)
		error = look_behind(f, failure);
	if (!error && f->log.seq < s->checkpoint.root_seq)
		error = -LCPFS_E_CORRUPT;
	if (!error)
		error = chain_follow(&f->log, apply_table, f);
	if (!error)
		error = look_behind_again(f, failure);
	s->log.seq = s->log.work_seq = f->log.seq;
	s->log.chain = f->log.chain;
	s->log.chain_seq = f->log.seq;
	memcpy(s->log.head, f->log.head, sizeof(s->log.head));
	for (unsigned i = 0; i < LOG_HEADS; i++)
		f->log.more |= f->log.have[i];
	sort_vanished(f);
	s->trees.vanishes_later = vanishes_later;
	s->trees.vanishes_context = f;
	if (!error)
		error = chain_follow(&f->log, apply_trees, f);
	s->trees.vanishes_later = NULL;
	s->found.claimed = f->log.durable;
	s->found.clean = !error && !f->log.more && s->log.seq == f->log.redo;
	return error;
}

/* Now that it is known what snapshots share. What is marked meanwhile comes before it in the list. */
static int own_dirty(struct store *s)
{
	int error = 0;
	for (const struct page *p = s->trees.dirty; p && !error; p = p->dirty_next) {
		struct page_key key = p->key;
		error = attempt(s, tree_own_above, &key);
	}
	return error;
}

static int recover_locked(struct store *s, const struct fmt_root *root, struct forward *f,
			  struct lcpfs_failure *failure)
{
	struct foreign foreign = {0};
	int error = root_apply(s, root, failure);
	if (!error) {
		chain_start(&f->log);
		space_rooted(&s->space, f->log.redo);
		error = root_load_space(s, &foreign);
	}
	if (!error)
		error = roll_forward(f, failure);
	if (!error)
		error = root_settle_foreign(s, &foreign);
	if (!error)
		error = settle_heads(s);
	if (!error)
		error = snap_load(s);
	s->found.snapshots = !error;
	if (!error)
		error = own_dirty(s);
	free(foreign.index);
	return error == -LCPFS_E_FAULTED ? -LCPFS_E_CORRUPT : error;
}

int recover(struct store *s, struct lcpfs_failure *failure)
{
	struct fmt_root *root = malloc(sizeof(*root));
	struct forward *f = forward_new(s);
	int error = root && f ? root_load(s, root, failure) : -LCPFS_E_NOMEM;
	if (!error) {
		store_lock(s);
		error = recover_locked(s, root, f, failure);
		pthread_mutex_unlock(&s->lock); /* without an audit: what failed half way is not whole */
	}
	if (f)
		free(f->vanished);
	free(root);
	free(f);
	if (error && failure && !failure->message[0])
		failure_set(failure, (enum lcpfs_error) - error, "partition %s: its metadata is damaged (%s)",
			    s->name, lcpfs_error_sentence(error));
	return error;
}
