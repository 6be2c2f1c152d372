/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening: the newest root, then the log rolled forward.
 *
 * The root says for each region of the block table after which record its leaves were written, and where the log's
 * heads stood then. From the lowest of these, the redo point, records are taken in sequence, from whichever head
 * has the next one; each must carry the checksum of the one before it and the right epoch, so that nothing left
 * over from an earlier life of a metaslab can be mistaken for the log.
 *
 * Where the log ends. First pass: follow the headers as far as they go, and note the highest record that any
 * header declares durable. Up to that mark a block that fails its checksum is damage: its mapping is applied and
 * reads of it fail. Beyond the mark it may be the torn end of what was never flushed: the first record with such a
 * block, and all behind it, never happened. If the chain breaks before the mark, flushed data cannot be found any
 * more: that is an error, not an end. Records that cannot be reached because the chain is broken are looked for
 * behind each head, in metaslabs that should be empty where a head stands near the end of its own, and everywhere
 * if both copies of one root are damaged: it may have been the newest. It was, where a record has a later epoch
 * than the root at hand: a root begins an epoch, and is durable before the epoch's first record is written.
 *
 * What is applied. Second pass: the table. A region that has a record's changes already is left alone; counts of
 * live blocks follow from the record on that the root's counts are as of. Third pass: the trees of volumes. Their
 * pages may be newer than the record at hand, so they are read where the table has them in the end, and are bound
 * again what they know already.
 *
 * Costs reading the headers since the redo point, and the space list. Everything read is untrusted: time and
 * memory depend on what the device holds, never on what a field claims.
 */
#include "store/recover.h"

#include <stdlib.h>
#include <string.h>

#include "store/attempt.h"
#include "store/ids.h"
#include "store/log.h"
#include "store/place.h"
#include "store/record.h"
#include "store/room.h"
#include "store/snap.h"
#include "store/table.h"
#include "store/tree.h"

/* Ids that there can be at most: more than blocks in the pool, since freed ones are found again late. */
static uint64_t ids_max(const struct store *s)
{
	return MIN_OF(4 * (uint64_t)s->config.metaslab_blocks * s->config.metaslab_count + 65536, FMT_ID_MASK);
}

/* -- root -- */

struct roots {
	struct fmt_root best;
	bool other, lost[2], unread[2];
	int error;
};

static void read_roots(struct store *s, struct roots *r)
{
	struct fmt_root root;
	uint64_t generation = 0;
	*r = (struct roots){.lost = {true, true}};
	for (unsigned i = 0; i < 4; i++) {
		int failed = vdev_read(s->config.vdev, s->config.root_block[i / 2][i % 2] << BLOCK_SHIFT, &root,
				       BLOCK_SIZE);
		enum fmt_verdict verdict =
			failed ? FMT_DAMAGED : fmt_verify(&root, FMT_ROOT, s->config.guid, s->config.partition);
		r->error = failed ? failed : r->error;
		r->other |= verdict == FMT_NEWER || verdict == FMT_OLDER;
		r->lost[i / 2] &= verdict != FMT_GOOD;
		r->unread[i / 2] |= failed != 0;
		if (verdict != FMT_GOOD || le64_get(root.generation) <= generation)
			continue;
		generation = le64_get(root.generation);
		s->checkpoint.root_slot = i / 2;
		r->best = root;
	}
}

static int load_root(struct store *s, struct roots *r, struct lcpfs_failure *failure)
{
	read_roots(s, r);
	uint64_t generation = le64_get(r->best.generation);
	if (r->other)
		return failure_set(failure, LCPFS_E_VERSION, "partition %s was written by another version of lcpfs", s->name);
	if ((r->lost[0] && r->unread[0]) ||
	    (r->lost[1] && r->unread[1])) /* it may be the newest, and may come back */
		return failure_set(failure, (enum lcpfs_error) - r->error,
				   "partition %s: both copies of a root cannot be read", s->name);
	s->found.root_lost = generation > 1 && (r->lost[0] || r->lost[1]);
	if (generation)
		return 0;
	return failure_set(failure, LCPFS_E_CORRUPT, "partition %s: all copies of its root are damaged", s->name);
}

/* A head always has room for one more record. */
static bool position_sane(const struct store *s, const struct fmt_position *p)
{
	return le32_get(p->metaslab) == NO_METASLAB ||
	       (uint64_t)le32_get(p->offset) + RECORD_HEADERS + 1 <= s->config.metaslab_blocks;
}

static bool regions_sane(const struct store *s, const struct fmt_root *root)
{
	uint64_t leaves = DIV_UP(le64_get(root->id_end), (uint64_t)TABLE_SLOTS);
	/* Every page above the leaves is in a region. */
	if (le32_get(root->region_shift) > 40 ||
	    (leaves && (DIV_UP(leaves, (uint64_t)TABLE_SLOTS) - 1) >> le32_get(root->region_shift) >= REGIONS))
		return false;
	for (unsigned i = 0; i < REGIONS; i++) {
		for (unsigned j = 0; j < LOG_HEADS; j++) {
			if (!position_sane(s, &root->region[i].position[j]))
				return false;
		}
		if (le64_get(root->region[i].seq) > le64_get(root->seq))
			return false;
	}
	return true;
}

static bool tree_sane(uint64_t root, uint64_t levels, uint64_t blocks)
{
	return blocks <= STORE_VOLUME_BLOCKS_MAX && levels >= 1 && levels <= VOLUME_LEVELS_MAX && root % 2 == 0 &&
	       root <= FMT_ID_MASK;
}

static bool volume_sane(const struct fmt_volume *v)
{
	return tree_sane(le64_get(v->root), le32_get(v->levels), le64_get(v->blocks));
}

static bool clone_number_sane(uint32_t number)
{
	return number >= SNAPSHOT_FIRST && number <= SNAPSHOT_LAST;
}

static bool volumes_sane(const struct fmt_root *root)
{
	for (unsigned i = 0; i < ROOT_VOLUMES; i++) {
		if (!volume_sane(&root->volume[i]))
			return false;
	}
	for (unsigned i = 0; i < CLONES_MAX; i++) {
		uint32_t number = le32_get(root->clone[i].number);
		if (number && (!clone_number_sane(number) || !volume_sane(&root->clone[i].volume)))
			return false;
	}
	return le64_get(root->volume[VOLUME_HEAD].blocks) > 0;
}

static bool root_sane(const struct store *s, const struct fmt_root *root)
{
	uint64_t blocks = (uint64_t)s->config.metaslab_blocks * s->config.metaslab_count;
	return regions_sane(s, root) && volumes_sane(root) && le64_get(root->id_end) >= IDS_FIRST &&
	       le64_get(root->id_end) <= ids_max(s) && le64_get(root->data_blocks) <= le64_get(root->id_end) &&
	       le64_get(root->page_blocks) <= le64_get(root->id_end) && le64_get(root->table_pages) <= blocks &&
	       le64_get(root->generation) < UINT64_MAX / 2 && le64_get(root->seq) < UINT64_MAX / 2 &&
	       le64_get(root->epoch) < UINT64_MAX / 2 && le64_get(root->written) < UINT64_MAX / 2 &&
	       le32_get(root->table.levels) <= TABLE_LEVELS_MAX &&
	       le32_get(root->space.levels) <= TABLE_LEVELS_MAX;
}

static void apply_regions(struct store *s, const struct fmt_root *root)
{
	s->table.region_shift = le32_get(root->region_shift);
	for (unsigned i = 0; i < REGIONS; i++) {
		struct region *r = &s->table.region[i];
		r->seq = le64_get(root->region[i].seq);
		r->chain = le64_get(root->region[i].chain);
		memcpy(r->position, root->region[i].position, sizeof(r->position));
	}
}

static int apply_volumes(struct store *s, const struct fmt_root *root)
{
	for (unsigned i = 0; i < ROOT_VOLUMES; i++) {
		const struct fmt_volume *v = &root->volume[i];
		s->trees.volume[i] = (struct volume){.levels = le32_get(v->levels),
						     .root = le64_get(v->root),
						     .placed_levels = le32_get(v->levels),
						     .blocks = le64_get(v->blocks),
						     .birth = le32_get(v->birth),
						     .origin = le64_get(v->origin)};
	}
	for (unsigned i = 0; i < CLONES_MAX; i++) {
		const struct fmt_volume *v = &root->clone[i].volume;
		uint32_t number = le32_get(root->clone[i].number);
		int error = number ? snap_clone_was_made(s, number, le64_get(v->root), le32_get(v->levels),
							 le64_get(v->blocks))
				   : 0;
		if (error)
			return error;
	}
	return 0;
}

static int apply_root(struct store *s, const struct fmt_root *root, struct lcpfs_failure *failure)
{
	if (!root_sane(s, root))
		return failure_set(failure, LCPFS_E_CORRUPT, "partition %s: its root contradicts itself", s->name);
	s->checkpoint.generation = le64_get(root->generation);
	s->checkpoint.root_seq = le64_get(root->seq);
	s->checkpoint.birth = le32_get(root->birth);
	s->checkpoint.space_top = root->space.top;
	s->checkpoint.space_levels = le32_get(root->space.levels);
	s->log.epoch = le64_get(root->epoch);
	s->log.epoch_seq = le64_get(root->epoch_seq);
	s->found.root_durable = le64_get(root->durable);
	s->ids.end = le64_get(root->id_end);
	s->data_blocks = le64_get(root->data_blocks);
	s->page_blocks = le64_get(root->page_blocks);
	s->table.top = root->table.top;
	s->table.levels = le32_get(root->table.levels);
	s->table.pages = le64_get(root->table_pages);
	s->table.head = (struct head){le32_get(root->table_position.metaslab),
				      le32_get(root->table_position.offset), NO_METASLAB};
	uint64_t *counters = (uint64_t *)&s->counters;
	for (unsigned i = 0; i < sizeof(s->counters) / sizeof(*counters); i++)
		counters[i] = le64_get(root->counter[i]);
	s->counters.written_blocks = le64_get(root->written);
	apply_regions(s, root);
	return apply_volumes(s, root);
}

/* -- the space list -- */

struct foreign { /* named by the root but not owned any more: the log must empty them */
	uint32_t *index;
	size_t count;
};

static int note_foreign(struct store *s, struct foreign *f, uint32_t index)
{
	uint32_t *list = realloc(f->index, (f->count + 1) * sizeof(*list));
	if (!list)
		return -LCPFS_E_NOMEM;
	f->index = list;
	list[f->count++] = index;
	int error = space_add(&s->space, index, false);
	return !error || error == -LCPFS_E_NOMEM ? error : -LCPFS_E_CORRUPT;
}

static int load_space_slot(struct store *s, const struct fmt_space *e, struct foreign *foreign)
{
	uint32_t index = le32_get(e->metaslab), live = le32_get(e->live);
	unsigned class = (unsigned)(le64_get(e->last) >> 56);
	uint64_t last = MIN_OF(le64_get(e->last) & ((UINT64_C(1) << 56) - 1), s->checkpoint.root_seq + 1);
	struct metaslab *m = space_find(&s->space, index);
	int error = m ? 0 : note_foreign(s, foreign, index);
	if (error)
		return error;
	m = space_find(&s->space, index);
	if (m->state == SPACE_CLOSED || !live || live > s->space.units || live % BLOCK_SECTORS ||
	    class >= SPACE_CLASSES)
		return -LCPFS_E_CORRUPT;
	/* How old its blocks are is not kept: as old as its last record, in records. */
	uint64_t written = s->counters.written_blocks;
	uint64_t born =
		s->checkpoint.root_seq
			? (uint64_t)((double)written * ((double)last / (double)(s->checkpoint.root_seq + 1)))
			: 0;
	space_restore(&s->space, index, (enum space_class) class, live, class == CLASS_TABLE ? 0 : last, born);
	return 0;
}

static int note_space_page(struct store *s, const struct fmt_pointer *at)
{
	struct checkpoints *k = &s->checkpoint;
	if (k->space_page_count > s->config.metaslab_count / 64 + 2 * TABLE_LEVELS_MAX)
		return -LCPFS_E_CORRUPT;
	struct fmt_pointer *list = realloc(k->space_pages, (k->space_page_count + 1) * sizeof(*list));
	if (!list)
		return -LCPFS_E_NOMEM;
	k->space_pages = list;
	list[k->space_page_count++] = *at;
	return 0;
}

static int load_space_page(struct store *s, const struct fmt_pointer *at, unsigned level, uint64_t index,
			   struct foreign *foreign)
{
	struct fmt_page *page = malloc(sizeof(*page));
	int error = page ? table_read(s, at, TREE_SPACE, level, index, page, NULL) : -LCPFS_E_NOMEM;
	if (!error)
		error = note_space_page(s, at);
	for (unsigned i = 0; level && i < TABLE_SLOTS && !error; i++) {
		if (!pointer_null(&page->child[i]))
			error = load_space_page(s, &page->child[i], level - 1, index * TABLE_SLOTS + i, foreign);
	}
	for (unsigned i = 0; !level && i < SPACE_SLOTS && !error; i++) {
		if (le32_get(page->space[i].live))
			error = load_space_slot(s, &page->space[i], foreign);
	}
	free(page);
	return error;
}

/* Its own pages are not among its counts. */
static int count_space_pages(struct store *s)
{
	for (size_t i = 0; i < 2 * s->checkpoint.space_page_count; i++) {
		struct metaslab *m = metaslab_of(s, block_of_place(s->checkpoint.space_pages[i / 2].place[i % 2]));
		if (!m || m->live > s->space.units - BLOCK_SECTORS || (m->live && m->class != CLASS_TABLE))
			return -LCPFS_E_CORRUPT;
		if (!m->live)
			space_restore(&s->space, m->index, CLASS_TABLE, BLOCK_SECTORS, 0,
				      s->counters.written_blocks);
		else
			space_live_add(&s->space, m, BLOCK_SECTORS);
	}
	return 0;
}

static int load_space(struct store *s, struct foreign *foreign)
{
	unsigned levels = s->checkpoint.space_levels;
	int error = levels ? load_space_page(s, &s->checkpoint.space_top, levels - 1, 0, foreign) : 0;
	return error ? error : count_space_pages(s);
}

/* -- following the log -- */

enum { CHUNK_BLOCKS = 32 }; /* read at a time */

struct forward {
	struct store *s;
	struct head head[LOG_HEADS];
	struct fmt_record peeked[LOG_HEADS];
	bool have[LOG_HEADS];
	bool good[LOG_HEADS][2]; /* which copy of the header */
	uint64_t redo, redo_chain;
	uint64_t seq, chain;
	uint64_t durable; /* the highest that a header declares */
	bool more;        /* something lies behind the end */
	bool outlived;    /* there are records of a later epoch: the root that began it is lost */
	struct vanished {
		uint64_t id, seq;
		unsigned at;
	} * vanished; /* ids of pages that vanish, by id; of one id the last time */
	size_t vanishes;
	unsigned at; /* the word behind the entry that is applied to trees */
	uint8_t chunk[CHUNK_BLOCKS * BLOCK_SIZE]; /* without a value */
};

static struct forward *forward_new(struct store *s)
{
	struct forward *f = malloc(sizeof(*f));
	if (!f)
		return NULL;
	memset(f, 0, offsetof(struct forward, chunk));
	f->s = s;
	return f;
}

static void start(struct forward *f)
{
	const struct region *r = &f->s->table.region[0];
	for (unsigned i = 1; i < REGIONS; i++) {
		if (f->s->table.region[i].seq < r->seq)
			r = &f->s->table.region[i];
	}
	f->seq = f->redo = r->seq;
	f->chain = r->chain;
	for (unsigned i = 0; i < LOG_HEADS; i++)
		f->head[i] = (struct head){le32_get(r->position[i].metaslab), le32_get(r->position[i].offset),
					   NO_METASLAB};
	memset(f->have, 0, sizeof(f->have));
}

static bool epoch_fits(const struct store *s, const struct fmt_record *r)
{
	uint64_t epoch = le64_get(r->epoch);
	return le64_get(r->seq) > s->log.epoch_seq ? epoch == s->log.epoch : epoch < s->log.epoch;
}

static int peek(struct forward *f, unsigned head)
{
	struct store *s = f->s;
	struct head *h = &f->head[head];
	if (f->have[head] || h->metaslab == NO_METASLAB ||
	    h->offset + RECORD_HEADERS > s->config.metaslab_blocks ||
	    !space_find(&s->space, h->metaslab)) /* given back since: nothing of the log is in it any more */
		return 0;
	struct fmt_record *r = &f->peeked[head];
	int found = record_read(s, metaslab_block(s, h->metaslab) + h->offset, r, f->good[head]);
	if (found < 0)
		return found;
	f->have[head] = found && epoch_fits(s, r) && le64_get(r->seq) > f->seq &&
			h->offset + RECORD_HEADERS + le16_get(r->blocks) <= s->config.metaslab_blocks;
	if (f->have[head])
		f->durable = MAX_OF(f->durable, le64_get(r->durable));
	return 0;
}

/*
 * The head that has the next record: 0.., or LOG_HEADS if none has, or an error. Where two have one, what is left
 * of a record that never happened lies in one of them: the number was used again then, in a later epoch.
 */
static int find_next(struct forward *f)
{
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		int error = peek(f, i);
		if (error)
			return error;
	}
	int found = LOG_HEADS;
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		const struct fmt_record *r = &f->peeked[i];
		if (f->have[i] && le64_get(r->seq) == f->seq + 1 && le64_get(r->previous) == f->chain &&
		    (found == LOG_HEADS || le64_get(r->epoch) > le64_get(f->peeked[found].epoch)))
			found = (int)i;
	}
	return found;
}

/* Notes of a record that say where heads go on. */
static int apply_heads(struct forward *f, const struct fmt_record *r)
{
	struct entry e;
	for (unsigned at = 0; fmt_entry_next(r, &at, &e);) {
		if (e.kind != ENTRY_HEAD)
			continue;
		if (e.address == 0 || e.address >= LOG_HEADS || e.id > NO_METASLAB)
			return -LCPFS_E_CORRUPT;
		f->head[e.address] = (struct head){(uint32_t)e.id, 0, NO_METASLAB};
		f->have[e.address] = false;
	}
	return 0;
}

static int advance(struct forward *f, unsigned head)
{
	const struct fmt_record *r = &f->peeked[head];
	f->seq++;
	f->chain = fmt_checksum_of(r);
	f->head[head].offset += RECORD_HEADERS + le16_get(r->blocks);
	if (le32_get(r->next) != NO_METASLAB)
		f->head[head] = (struct head){le32_get(r->next), 0, NO_METASLAB};
	f->have[head] = false;
	return apply_heads(f, r);
}

typedef int record_fn(struct forward *f, const struct fmt_record *r, unsigned head);

/* Each record of the log in sequence. fn: 1 ends it. */
static int follow(struct forward *f, record_fn *fn)
{
	int head;
	start(f);
	while ((head = find_next(f)) >= 0 && head < LOG_HEADS) {
		int done = fn ? fn(f, &f->peeked[head], (unsigned)head) : 0;
		if (!done)
			done = advance(f, (unsigned)head);
		if (done)
			return done < 0 ? done : 0;
	}
	return head < 0 ? head : 0;
}

/* -- are a record's blocks what it says? -- */

static bool block_good(const struct entry *e, unsigned i, const uint8_t *block)
{
	if (!e->check)
		return true; /* a copy: as good as the table's checksum says */
	struct fmt_check check = {e->check[2 * i], e->check[2 * i + 1]};
	return fmt_check_fits(&check, block);
}

static int check_moved(struct store *s, void *context, struct need *need);

struct moved {
	uint64_t id;
	struct fmt_check check;
	bool known;
};

/* What a moved block has to be: the table knows, as far as the log was applied. */
static bool move_good(struct forward *f, const struct entry *e, unsigned i, const uint8_t *block, int *error)
{
	struct moved m = {.id = e->id + i};
	*error = attempt(f->s, check_moved, &m);
	return *error || !m.known || fmt_check_fits(&m.check, block);
}

static int check_moved(struct store *s, void *context, struct need *need)
{
	struct moved *m = context;
	struct page *leaf;
	int error = m->id < ids_max(s) ? table_leaf(s, m->id, need, &leaf) : -LCPFS_E_CORRUPT;
	if (error || !leaf)
		return error;
	m->known = !entry_free(table_entry(leaf, m->id));
	m->check = table_entry(leaf, m->id)->check;
	return 0;
}

/* 1, 0, or an error. LOST ones are not expected to match. */
static int blocks_good(struct forward *f, const struct fmt_record *r)
{
	unsigned blocks = le16_get(r->blocks), done = 0;
	uint64_t first = block_of_place(r->place) + RECORD_HEADERS;
	struct entry e;
	for (unsigned at = 0; fmt_entry_next(r, &at, &e);) {
		for (unsigned i = 0; i < e.blocks; i++, done++) {
			unsigned in_chunk = done % CHUNK_BLOCKS;
			size_t bytes = MIN_OF(blocks - done, (unsigned)CHUNK_BLOCKS) * (size_t)BLOCK_SIZE;
			const uint8_t *block = f->chunk + (size_t)in_chunk * BLOCK_SIZE;
			int error = in_chunk ? 0
					     : vdev_read(f->s->config.vdev, (first + done) << BLOCK_SHIFT,
							 f->chunk, bytes);
			if (error)
				return error;
			bool good =
				e.kind == ENTRY_LOST || (e.kind == ENTRY_MOVE ? move_good(f, &e, i, block, &error)
									      : block_good(&e, i, block));
			if (error || !good)
				return error;
		}
	}
	return 1;
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

/* A record's second header that was torn, or is damaged, is written anew. */
static int mend_header(const struct forward *f, unsigned head)
{
	const struct fmt_record *r = &f->peeked[head];
	if (f->s->config.read_only || (f->good[head][0] && f->good[head][1]))
		return 0;
	uint64_t block = block_of_place(r->place) + (f->good[head][0] ? 1 : 0);
	return vdev_write(f->s->config.vdev, block << BLOCK_SHIFT, r, BLOCK_SIZE);
}

static int check_next(const struct forward *f, const struct fmt_record *r)
{
	uint32_t next = le32_get(r->next);
	if (le64_get(r->written) >= UINT64_MAX / 2) /* the next root could not say it */
		return -LCPFS_E_CORRUPT;
	/* One that was left without a record may have been given away since. */
	return next == NO_METASLAB || next < f->s->config.metaslab_count ? 0 : -LCPFS_E_CORRUPT;
}

static int apply_table(struct forward *f, const struct fmt_record *r, unsigned head)
{
	struct store *s = f->s;
	uint64_t seq = f->seq + 1, block = block_of_place(r->place) + RECORD_HEADERS;
	int good = seq <= f->durable ? 1 : blocks_good(f, r);
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
	return error ? error : mend_header(f, head);
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
	return v && (v->seq > f->seq + 1 || (v->seq == f->seq + 1 && v->at > f->at));
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
	return change && e->volume >= ROOT_VOLUMES && !tree_snapshot(f->s, e->volume);
}

static int apply_trees(struct forward *f, const struct fmt_record *r, unsigned head)
{
	struct entry e;
	int error = 0;
	(void)head;
	if (f->seq + 1 > f->s->log.seq)
		return 1;
	for (f->at = 0; !error && fmt_entry_next(r, &f->at, &e);) {
		if (is_of_ended(f, &e))
			error = f->seq + 1 > f->s->checkpoint.root_seq ? -LCPFS_E_CORRUPT : 0;
		else if (e.kind == ENTRY_CLONE)
			error = apply_clone(f->s, &e);
		else if (e.kind == ENTRY_WRITE)
			error = apply_write(f->s, &e);
		else if (e.kind == ENTRY_TRIM)
			error = apply_trim(f->s, &e);
		else if (e.kind == ENTRY_PAGE || e.kind == ENTRY_VANISH || e.kind == ENTRY_LEAVE)
			error = apply_page(f->s, &e);
		else if (e.kind == ENTRY_VOLUME)
			error = apply_volume(f->s, &e);
	}
	return error;
}

/* -- what lies behind the end -- */

/* A header that says that a later record than the last one found was flushed? Is it a later one at all? */
static bool heed(struct forward *f, const struct fmt_record *r, uint64_t block)
{
	if (le32_get(r->head.magic) != FMT_MAGIC || /* most are not: quickly */
	    fmt_verify(r, FMT_RECORD, f->s->config.guid, f->s->config.partition) != FMT_GOOD ||
	    block_of_place(r->place) != block || le64_get(r->epoch) < f->s->log.epoch ||
	    le64_get(r->seq) <= f->seq)
		return false;
	f->durable = MAX_OF(f->durable, le64_get(r->durable));
	f->outlived |= le64_get(r->epoch) > f->s->log.epoch;
	f->more = true;
	return true;
}

/*
 * The later records from here on, from metaslab to metaslab: each record at most once, as each is later than the
 * one before it. Returns the sequence number of the last one.
 */
static uint64_t look_onwards(struct forward *f, uint32_t metaslab, uint32_t offset)
{
	struct store *s = f->s;
	struct record_walk walk = {.metaslab = metaslab, .offset = offset};
	struct fmt_record r;
	uint64_t last = f->seq;
	while (record_next(s, &walk, &r) && le64_get(r.seq) > last && heed(f, &r, walk.block)) {
		last = le64_get(r.seq);
		uint32_t next = le32_get(r.next);
		if (next == NO_METASLAB)
			continue;
		if (!space_find(&s->space, next))
			break;
		walk = (struct record_walk){.metaslab = next};
	}
	return last;
}

/*
 * The next record begins within the length of the longest one, and what that one does not know, those behind it
 * may. What cannot be read tells nothing.
 */
static void look_behind_head(struct forward *f, const struct head *h)
{
	enum { LONGEST = RECORD_HEADERS + RECORD_BLOCKS_MAX + RECORD_HEADERS };
	struct store *s = f->s;
	if (h->metaslab == NO_METASLAB || h->offset >= s->config.metaslab_blocks ||
	    !space_find(&s->space, h->metaslab))
		return;
	unsigned count = MIN_OF(s->config.metaslab_blocks - h->offset, (unsigned)LONGEST);
	uint64_t first = metaslab_block(s, h->metaslab) + h->offset, last = 0;
	for (unsigned done = 0, part; done < count; done += part) {
		part = MIN_OF(count - done, (unsigned)CHUNK_BLOCKS);
		if (vdev_read(s->config.vdev, (first + done) << BLOCK_SHIFT, f->chunk, (size_t)part * BLOCK_SIZE))
			continue;
		for (unsigned i = 0; i < part; i++) {
			const struct fmt_record *r =
				(const struct fmt_record *)(f->chunk + (size_t)i * BLOCK_SIZE);
			if (heed(f, r, first + done + i) && le64_get(r->seq) > last)
				last = look_onwards(f, h->metaslab, h->offset + done + i);
		}
	}
}

static void look_behind(struct forward *f)
{
	struct store *s = f->s;
	bool lost = s->found.root_lost, everywhere = lost;
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		const struct head *h = &f->head[i];
		everywhere |= h->metaslab != NO_METASLAB &&
			      h->offset + 2 * RECORD_HEADERS + RECORD_BLOCKS_MAX > s->config.metaslab_blocks;
		look_behind_head(f, h);
	}
	for (uint32_t i = 0; i < s->space.count && everywhere; i++) {
		const struct metaslab *m = &s->space.slab[i];
		if (lost || m->live == 0)
			look_onwards(f, m->index, 0);
	}
}

/* -- afterwards -- */

static int settle_head(struct store *s, struct head *h, enum space_class class)
{
	struct metaslab *m = space_find(&s->space, h->metaslab);
	bool other = m && m->live && (m->class == CLASS_TABLE) != (class == CLASS_TABLE);
	if (!m || m->state == SPACE_OPEN || other ||
	    m->live > (uint64_t)h->offset * BLOCK_SECTORS) /* it would write over what is live */
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

static int settle_foreign(struct store *s, const struct foreign *foreign)
{
	for (size_t i = 0; i < foreign->count; i++) {
		if (!space_forget(&s->space, foreign->index[i]))
			return -LCPFS_E_CORRUPT;
	}
	return 0;
}

static int roll_forward(struct forward *f, struct lcpfs_failure *failure)
{
	struct store *s = f->s;
	f->durable = s->found.root_durable;
	int error = follow(f, NULL);
	if (!error)
		look_behind(f);
	if (!error && f->outlived)
		error = failure_set(failure, LCPFS_E_CORRUPT,
				    "partition %s: both copies of its newest root are damaged", s->name);
	if (!error && f->durable > f->seq)
		error = failure_set(
			failure, LCPFS_E_CORRUPT,
			"partition %s: record %llu of its log was flushed and is damaged in both copies", s->name,
			(unsigned long long)f->seq + 1);
	if (!error && f->seq < s->checkpoint.root_seq)
		error = -LCPFS_E_CORRUPT;
	if (!error)
		error = follow(f, apply_table);
	s->log.seq = s->log.work_seq = f->seq;
	s->log.chain = f->chain;
	s->log.chain_seq = f->seq;
	memcpy(s->log.head, f->head, sizeof(s->log.head));
	for (unsigned i = 0; i < LOG_HEADS; i++)
		f->more |= f->have[i];
	sort_vanished(f);
	s->trees.vanishes_later = vanishes_later;
	s->trees.vanishes_context = f;
	if (!error)
		error = follow(f, apply_trees);
	s->trees.vanishes_later = NULL;
	s->found.claimed = f->durable;
	s->found.clean = !error && !f->more && s->log.seq == f->redo;
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
	int error = apply_root(s, root, failure);
	if (!error) {
		start(f);
		space_rooted(&s->space, f->redo);
		error = load_space(s, &foreign);
	}
	if (!error)
		error = roll_forward(f, failure);
	if (!error)
		error = settle_foreign(s, &foreign);
	if (!error)
		error = settle_heads(s);
	if (!error)
		error = snap_load(s);
	if (!error)
		error = own_dirty(s);
	free(foreign.index);
	return error;
}

int recover(struct store *s, struct lcpfs_failure *failure)
{
	struct roots *roots = calloc(1, sizeof(*roots));
	struct forward *f = forward_new(s);
	int error = roots && f ? load_root(s, roots, failure) : -LCPFS_E_NOMEM;
	if (!error) {
		store_lock(s);
		error = recover_locked(s, &roots->best, f, failure);
		pthread_mutex_unlock(&s->lock); /* without an audit: what failed half way is not whole */
	}
	if (f)
		free(f->vanished);
	free(roots);
	free(f);
	if (error && failure && !failure->message[0])
		failure_set(failure, (enum lcpfs_error) - error, "partition %s: its metadata is damaged (%s)",
			    s->name, lcpfs_error_sentence(error));
	return error;
}
