/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Opening: the newest root, then the log rolled forward.
 *
 * The root says where each head stood at record S. From there records are taken in sequence, from
 * whichever head has the next one; each must carry the checksum of the one before it and the root's
 * epoch, so that nothing left over from an earlier life of a metaslab can be mistaken for the log.
 *
 * Where the log ends. First pass: follow the headers as far as they go, and note the highest record
 * that any header declares durable. Second pass: apply. Up to that mark a block that fails its
 * checksum is damage: its mapping is applied and reads of it fail. Beyond the mark it may be the torn
 * end of what was never flushed: the first record with such a block, and all behind it, never
 * happened. If the chain breaks before the mark, flushed data cannot be found any more: that is an
 * error, not an end. Records that cannot be reached because the chain is broken are looked for behind
 * each head, in metaslabs that should be empty where a head stands near the end of its own, and
 * everywhere if both copies of one root are damaged: it may have been the newest.
 *
 * Costs reading what was written since the last checkpoint, and the space tree. Everything read is
 * untrusted.
 */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "store/cleared.h"
#include "store/internal.h"

/* -- record headers -- */

static bool record_valid(const struct store *s, const struct fmt_record *header, uint64_t block)
{
	if (fmt_verify(header, FMT_RECORD, s->config.guid, s->config.partition) != FMT_GOOD ||
	    le64_get(header->place) != block || le32_get(header->head.count) > RECORD_ENTRIES)
		return false;
	unsigned blocks = 0;
	for (unsigned i = 0; i < le32_get(header->head.count); i++)
		blocks += entry_has_block(fmt_entry_kind(&header->entry[i]));
	return blocks == le16_get(header->blocks);
}

int record_read(struct store *s, uint64_t block, struct fmt_record *header, bool good[2])
{
	struct fmt_record copy[2];
	int error[2];
	for (unsigned i = 0; i < 2; i++) {
		error[i] = vdev_read(s->config.vdev, (block + i) << BLOCK_SHIFT, &copy[i], BLOCK_SIZE);
		good[i] = !error[i] && record_valid(s, &copy[i], block);
	}
	if (!good[0] && !good[1])
		return error[0] ? error[0] : error[1];
	*header = copy[good[0] ? 0 : 1];
	return 1;
}

bool record_next(struct store *s, struct record_walk *walk, struct fmt_record *header)
{
	uint32_t end = s->config.metaslab_blocks;
	if (walk->offset + RECORD_HEADERS > end)
		return false;
	walk->block = space_first_block(&s->space, walk->metaslab) + walk->offset;
	if (record_read(s, walk->block, header, walk->good) <= 0)
		return false; /* one that cannot be read: as if it were damaged */
	walk->offset += RECORD_HEADERS + le16_get(header->blocks);
	if (walk->offset > end)
		return false;
	if (le32_get(header->next) != NO_METASLAB)
		walk->offset = end;
	return true;
}

/* -- root -- */

static int root_load(struct store *s, struct fmt_root *best, struct lcpfs_failure *failure)
{
	struct fmt_root root;
	uint64_t generation = 0, first_copy = 0;
	bool newer = false, lost[2] = {true, true}, unread[2] = {false, false};
	int error = 0;
	s->as_closed = s->config.was_closed;
	for (unsigned i = 0; i < 4; i++) {
		int failed = vdev_read(s->config.vdev, s->config.root_block[i / 2][i % 2] << BLOCK_SHIFT, &root, BLOCK_SIZE);
		enum fmt_verdict verdict = failed ? FMT_DAMAGED :
						    fmt_verify(&root, FMT_ROOT, s->config.guid, s->config.partition);
		error = failed ? failed : error;
		newer |= verdict == FMT_NEWER;
		lost[i / 2] &= verdict != FMT_GOOD;
		unread[i / 2] |= failed != 0;
		s->as_closed &= verdict == FMT_GOOD && (i % 2 == 0 || le64_get(root.generation) == first_copy);
		first_copy = le64_get(root.generation);
		if (verdict != FMT_GOOD || le64_get(root.generation) <= generation)
			continue;
		generation = le64_get(root.generation);
		s->root_slot = i / 2;
		*best = root;
	}
	if (newer)
		return failure_set(failure, LCPFS_E_VERSION, "partition %s was written by a newer lcpfs", s->name);
	if ((lost[0] && unread[0]) || (lost[1] && unread[1])) /* it may be the newest, and may come back */
		return failure_set(failure, (enum lcpfs_error)-error, "partition %s: both copies of a root cannot be read", s->name);
	s->root_lost = generation > 1 && (lost[0] || lost[1]);
	if (generation)
		return 0;
	return failure_set(failure, LCPFS_E_CORRUPT, "partition %s: all copies of its root are damaged", s->name);
}

/* A head always has room for the link to the next metaslab; without, that would go into somebody else's. */
static bool head_sane(const struct store *s, uint32_t metaslab, uint32_t offset)
{
	return metaslab == NO_METASLAB || offset <= s->config.metaslab_blocks - LINK_BLOCKS;
}

/* A tree has as many levels as its volume needs, or more: growing it may have been given up. */
static bool take_levels(struct tree *tree, const struct fmt_tree_root *root)
{
	uint32_t levels = le32_get(root->levels);
	if (levels < tree->levels || levels > TREE_LEVELS_MAX)
		return false;
	for (; tree->levels < levels; tree->levels++)
		tree->capacity *= PAGE_SLOTS;
	return true;
}

static bool root_sane(struct store *s, const struct fmt_root *root)
{
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		if (!head_sane(s, le32_get(root->position[i].metaslab), le32_get(root->position[i].offset)))
			return false;
	}
	struct tree *table = tree_of(s, TREE_TABLE), *volume = tree_of(s, TREE_VOLUME);
	return take_levels(table, &root->table) && take_levels(volume, &root->volume) &&
	       le32_get(root->space.levels) <= TREE_LEVELS_MAX && le64_get(root->id_end) <= table->capacity * PAGE_SLOTS &&
	       le64_get(root->data_blocks) <= le64_get(root->id_end) && le64_get(root->generation) < UINT64_MAX / 2 &&
	       le64_get(root->page_count) <= (uint64_t)s->config.metaslab_blocks * s->config.metaslab_count;
}

static int root_apply(struct store *s, const struct fmt_root *root, struct lcpfs_failure *failure)
{
	uint64_t blocks = le64_get(root->volume_blocks);
	if (blocks == 0 || blocks > UINT64_C(1) << 40)
		return failure_set(failure, LCPFS_E_CORRUPT, "partition %s: impossible volume size in its root", s->name);
	tree_init(s, blocks);
	if (!root_sane(s, root))
		return failure_set(failure, LCPFS_E_CORRUPT, "partition %s: its root contradicts itself", s->name);
	tree_of(s, TREE_TABLE)->at = root->table.top;
	tree_of(s, TREE_VOLUME)->at = root->volume.top;
	s->generation = le64_get(root->generation);
	s->epoch = le64_get(root->epoch);
	s->seq = s->root_seq = s->durable = s->claimed = s->work_seq = le64_get(root->seq);
	s->chain = le64_get(root->chain);
	s->flushed_at_root = le64_get(root->durable);
	s->id_end = le64_get(root->id_end);
	s->data_blocks = le64_get(root->data_blocks);
	s->page_count = le64_get(root->page_count);
	uint64_t *counters = (uint64_t *)&s->counters;
	for (unsigned i = 0; i < ARRAY_LENGTH(root->counter); i++)
		counters[i] = le64_get(root->counter[i]);
	for (unsigned i = 0; i < LOG_HEADS; i++)
		s->head[i] = (struct head){le32_get(root->position[i].metaslab), le32_get(root->position[i].offset)};
	s->heads = s->head[1].metaslab == NO_METASLAB ? 1 : LOG_HEADS;
	return 0;
}

/* -- the space tree -- */

static int note_space_page(struct store *s, const struct fmt_pointer *at)
{
	struct fmt_pointer *list = realloc(s->space_pages, (s->space_page_count + 1) * sizeof(*list));
	if (!list)
		return -LCPFS_E_NOMEM;
	s->space_pages = list;
	list[s->space_page_count++] = *at;
	return 0;
}

static int load_space_slot(struct store *s, const struct fmt_space *e)
{
	uint32_t index = le32_get(e->metaslab);
	struct metaslab *m = space_find(&s->space, index);
	if (!m) {
		int error = space_add(&s->space, index);
		if (error)
			return error == -LCPFS_E_NOMEM ? error : -LCPFS_E_CORRUPT;
		m = space_find(&s->space, index);
		m->foreign = true; /* handed over since: the log must empty it */
	}
	if (m->live || le32_get(e->live) > s->config.metaslab_blocks)
		return -LCPFS_E_CORRUPT;
	m->live = le32_get(e->live);
	m->age = MIN_OF(le64_get(e->age), s->root_seq + 1);
	return 0;
}

static int load_space_page(struct store *s, const struct fmt_pointer *at, unsigned level, uint64_t index)
{
	if (s->space_page_count > 2 * s->space.pool_count / PAGE_SLOTS + TREE_LEVELS_MAX)
		return -LCPFS_E_CORRUPT;
	struct fmt_page *page = malloc(sizeof(*page));
	int error = page ? tree_read_page(s, at, TREE_SPACE, level, index, page, NULL) : -LCPFS_E_NOMEM;
	if (!error)
		error = note_space_page(s, at);
	for (unsigned i = 0; i < PAGE_SLOTS && !error; i++) {
		if (level && !pointer_null(&page->child[i]))
			error = load_space_page(s, &page->child[i], level - 1, index * PAGE_SLOTS + i);
		else if (!level && le32_get(page->space[i].live))
			error = load_space_slot(s, &page->space[i]);
	}
	free(page);
	return error;
}

static int load_space(struct store *s, const struct fmt_root *root)
{
	unsigned levels = le32_get(root->space.levels);
	int error = levels ? load_space_page(s, &root->space.top, levels - 1, 0) : 0;
	for (size_t i = 0; i < 2 * s->space_page_count && !error; i++)
		error = space_live_add(&s->space, le64_get(s->space_pages[i / 2].place[i % 2]));
	return error;
}

/* -- rolling forward -- */

enum { CHUNK_BLOCKS = 32 }; /* read at a time */

struct forward {
	struct store *s;
	uint8_t chunk[CHUNK_BLOCKS * BLOCK_SIZE];
	struct head head[LOG_HEADS];
	struct fmt_record peeked[LOG_HEADS];
	bool have[LOG_HEADS];
	bool good[LOG_HEADS][2]; /* which copy of the header */
	uint64_t seq, chain;
	uint64_t durable; /* the highest that a header declares */
	bool more; /* there are headers behind the end */
	struct cleared cleared;
};

static void forward_start(struct forward *f)
{
	f->seq = f->s->root_seq;
	f->chain = f->s->chain;
	memcpy(f->head, f->s->head, sizeof(f->head));
	memset(f->have, 0, sizeof(f->have));
}

static int peek(struct forward *f, unsigned head)
{
	struct store *s = f->s;
	struct head *h = &f->head[head];
	if (f->have[head] || h->metaslab == NO_METASLAB || h->offset + RECORD_HEADERS > s->config.metaslab_blocks)
		return 0;
	if (!space_find(&s->space, h->metaslab))
		return -LCPFS_E_CORRUPT;
	struct fmt_record *r = &f->peeked[head];
	int found = record_read(s, space_first_block(&s->space, h->metaslab) + h->offset, r, f->good[head]);
	if (found < 0)
		return found;
	f->have[head] = found && le64_get(r->epoch) == s->epoch && le64_get(r->seq) > f->seq &&
			h->offset + RECORD_HEADERS + le16_get(r->blocks) <= s->config.metaslab_blocks;
	if (f->have[head])
		f->durable = MAX_OF(f->durable, le64_get(r->durable));
	return 0;
}

/* The head that has the next record: 0.., or LOG_HEADS if none has, or an error. */
static int find_next(struct forward *f)
{
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		int error = peek(f, i);
		if (error)
			return error;
	}
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		const struct fmt_record *r = &f->peeked[i];
		if (f->have[i] && le64_get(r->seq) == f->seq + 1 && le64_get(r->previous) == f->chain)
			return (int)i;
	}
	return LOG_HEADS;
}

static void advance(struct forward *f, unsigned head)
{
	const struct fmt_record *r = &f->peeked[head];
	f->seq++;
	f->chain = fmt_checksum_of(r);
	f->head[head].offset += RECORD_HEADERS + le16_get(r->blocks);
	if (le32_get(r->next) != NO_METASLAB)
		f->head[head] = (struct head){le32_get(r->next), 0};
	f->have[head] = false;
}

static bool block_good(const struct store *s, const struct fmt_entry *e, const uint8_t *block)
{
	unsigned kind = fmt_entry_kind(e);
	if (kind == ENTRY_LOST)
		return true;
	if (kind != ENTRY_PAGE)
		return hash64(block, BLOCK_SIZE) == le64_get(e->checksum);
	return fmt_checksum_of(block) == le64_get(e->checksum) &&
	       fmt_verify(block, FMT_PAGE, s->config.guid, s->config.partition) == FMT_GOOD;
}

/* Do all blocks of a record match their checksums? 1, 0, or an error. LOST ones are not expected to. */
static int blocks_good(struct forward *f, const struct fmt_record *r)
{
	unsigned blocks = le16_get(r->blocks), at = 0;
	uint64_t first = le64_get(r->place) + RECORD_HEADERS;
	bool good = true;
	for (unsigned i = 0; i < le32_get(r->head.count) && good; i++) {
		if (!entry_has_block(fmt_entry_kind(&r->entry[i])))
			continue;
		unsigned place = at++ % CHUNK_BLOCKS;
		size_t bytes = MIN_OF(blocks - (at - 1), (unsigned)CHUNK_BLOCKS) * (size_t)BLOCK_SIZE;
		uint64_t offset = (first + at - 1) << BLOCK_SHIFT;
		int error = place ? 0 : vdev_read(f->s->config.vdev, offset, f->chunk, bytes);
		if (error)
			return error;
		good = block_good(f->s, &r->entry[i], f->chunk + (size_t)place * BLOCK_SIZE);
	}
	return good;
}

static int apply_write(struct forward *f, const struct fmt_entry *e, uint64_t block)
{
	struct store *s = f->s;
	uint64_t id = le64_get(e->id), address = fmt_entry_address(e);
	bool fresh;
	int error = map_prepare(s, address, &id, &fresh);
	cleared_remove(&f->cleared, address);
	return error ? error : map_bind(s, address, id, block, le64_get(e->checksum));
}

static int apply_move(struct store *s, const struct fmt_entry *e, uint64_t block)
{
	struct page *leaf;
	struct fmt_block *entry;
	int error = map_entry(s, le64_get(e->id), &leaf, &entry);
	if (!error && (!entry || le64_get(entry->checksum) != le64_get(e->checksum)))
		error = -LCPFS_E_CORRUPT;
	return error ? error : map_move(s, leaf, entry, block);
}

static int trim_range(struct store *s, uint64_t address, uint64_t end)
{
	while (address < end) {
		bool mapped;
		uint64_t count = end - address, drops = s->drops;
		int error = map_trim_prepare(s, address, &count, &mapped);
		if (error)
			return error;
		if (s->drops != drops)
			continue;
		error = mapped ? map_trim(s, address, count)
			       : 0; /* a hole may be as long as the volume claims to be */
		if (error)
			return error;
		address += count;
	}
	return 0;
}

static int apply_trim(struct forward *f, const struct fmt_entry *e)
{
	uint64_t address = fmt_entry_address(e), count = le64_get(e->id), begin, end;
	if (address > f->s->volume_blocks || count > f->s->volume_blocks - address)
		return -LCPFS_E_CORRUPT;
	for (uint64_t at = address; cleared_gap(&f->cleared, at, address + count, &begin, &end); at = end) {
		int error = trim_range(f->s, begin, end);
		if (error)
			return error;
	}
	if (count)
		cleared_add(&f->cleared, address, address + count);
	return 0;
}

static int apply_record(struct forward *f, const struct fmt_record *r)
{
	struct store *s = f->s;
	uint64_t block = le64_get(r->place) + RECORD_HEADERS;
	int error = 0;
	for (unsigned i = 0; i < le32_get(r->head.count) && !error; i++) {
		const struct fmt_entry *e = &r->entry[i];
		unsigned kind = fmt_entry_kind(e);
		if (kind == ENTRY_WRITE)
			error = apply_write(f, e, block);
		else if (kind == ENTRY_MOVE || kind == ENTRY_LOST)
			error = apply_move(s, e, block);
		else if (kind == ENTRY_TRIM)
			error = apply_trim(f, e);
		else if (kind != ENTRY_PAGE)
			error = -LCPFS_E_VERSION;
		block += entry_has_block(kind);
	}
	uint32_t next = le32_get(r->next);
	if (error || next == NO_METASLAB)
		return error;
	struct metaslab *m = space_find(&s->space, next);
	return !m || m->foreign ? -LCPFS_E_CORRUPT : 0; /* it may hold live blocks: pages of the checkpoint itself */
}

/* A record's second header that was torn, or is damaged, is written anew. */
static int mend_header(const struct forward *f, unsigned head)
{
	const struct fmt_record *r = &f->peeked[head];
	if (f->s->config.read_only || (f->good[head][0] && f->good[head][1]))
		return 0;
	uint64_t block = le64_get(r->place) + (f->good[head][0] ? 1 : 0);
	return vdev_write(f->s->config.vdev, block << BLOCK_SHIFT, r, BLOCK_SIZE);
}

static int follow(struct forward *f, bool apply)
{
	int head;
	forward_start(f);
	while ((head = find_next(f)) >= 0 && head < LOG_HEADS) {
		const struct fmt_record *r = &f->peeked[head];
		int good = !apply || f->seq + 1 <= f->durable ? 1 : blocks_good(f, r);
		if (good <= 0)
			return good;
		int error = apply ? apply_record(f, r) : 0;
		if (!error && apply)
			error = mend_header(f, (unsigned)head);
		if (error)
			return error;
		if (apply)
			space_of_block(&f->s->space, le64_get(r->place))->age = f->seq + 1;
		if (apply)
			f->s->log_blocks += RECORD_HEADERS + le16_get(r->blocks);
		advance(f, (unsigned)head);
	}
	return head < 0 ? head : 0;
}

/* -- afterwards -- */

static bool is_head(const struct store *s, uint32_t metaslab)
{
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		if (s->head[i].metaslab == metaslab)
			return true;
	}
	return false;
}

static int settle_space(struct store *s)
{
	for (uint32_t i = s->space.count; i-- > 0;) {
		struct metaslab *m = &s->space.slab[i];
		bool used = m->live || m->age > s->root_seq;
		if (is_head(s, m->index))
			space_set_state(&s->space, m, METASLAB_OPEN);
		else if (used)
			space_set_state(&s->space, m, METASLAB_CLOSED);
		if (m->foreign && m->live)
			return -LCPFS_E_CORRUPT;
		if (m->foreign)
			space_remove(&s->space, m->index);
	}
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		bool none = i > 0 && s->heads == 1;
		for (unsigned j = 0; j < i && !none; j++) {
			if (s->head[i].metaslab == s->head[j].metaslab)
				return -LCPFS_E_CORRUPT;
		}
		if (none ? s->head[i].metaslab != NO_METASLAB :
			   !space_find(&s->space, s->head[i].metaslab) ||
			   !head_sane(s, s->head[i].metaslab, s->head[i].offset))
			return -LCPFS_E_CORRUPT;
	}
	return 0;
}

/* -- what lies behind the end -- */

enum { RECORD_BLOCKS_MAX = RECORD_HEADERS + RECORD_ENTRIES };

/* A header that says that a later record than the last one found was flushed? Is it a later one at all? */
static bool heed(struct forward *f, const struct fmt_record *r, uint64_t block)
{
	if (!record_valid(f->s, r, block) || le64_get(r->epoch) < f->s->epoch || le64_get(r->seq) <= f->seq)
		return false;
	f->durable = MAX_OF(f->durable, le64_get(r->durable));
	f->more = true;
	return true;
}

/*
 * The later records from here on, over links: each record at most once, as each is later than the one before it.
 * Returns the sequence number of the last one.
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
 * The next record begins within the length of the longest one, and what that one does not know, those behind it may.
 * What cannot be read tells nothing.
 */
static void look_behind_head(struct forward *f, const struct head *h)
{
	struct store *s = f->s;
	if (h->metaslab == NO_METASLAB || h->offset >= s->config.metaslab_blocks)
		return;
	CHECK(space_find(&s->space, h->metaslab)); /* or following the log would have failed */
	unsigned count = MIN_OF(s->config.metaslab_blocks - h->offset, (unsigned)RECORD_BLOCKS_MAX + RECORD_HEADERS);
	uint64_t first = space_first_block(&s->space, h->metaslab) + h->offset, last = 0;
	for (unsigned done = 0, part; done < count; done += part) {
		part = MIN_OF(count - done, (unsigned)CHUNK_BLOCKS);
		if (vdev_read(s->config.vdev, (first + done) << BLOCK_SHIFT, f->chunk, (size_t)part * BLOCK_SIZE))
			continue;
		for (unsigned i = 0; i < part; i++) {
			const struct fmt_record *r = (const struct fmt_record *)(f->chunk + (size_t)i * BLOCK_SIZE);
			if (heed(f, r, first + done + i) && le64_get(r->seq) > last)
				last = look_onwards(f, h->metaslab, h->offset + done + i);
		}
	}
}

static void look_behind(struct forward *f)
{
	struct store *s = f->s;
	bool everywhere = s->root_lost;
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		const struct head *h = &f->head[i];
		bool used = h->metaslab != NO_METASLAB;
		everywhere |= used && h->offset + RECORD_BLOCKS_MAX + LINK_BLOCKS > s->config.metaslab_blocks;
		look_behind_head(f, h);
	}
	for (uint32_t i = 0; i < s->space.count && everywhere; i++) {
		const struct metaslab *m = &s->space.slab[i];
		if (s->root_lost || m->live == 0)
			look_onwards(f, m->index, 0);
	}
}

static int roll_forward(struct store *s, struct lcpfs_failure *failure)
{
	struct forward *f = calloc(1, sizeof(*f));
	if (!f)
		return -LCPFS_E_NOMEM;
	f->s = s;
	f->durable = s->flushed_at_root;
	int error = follow(f, false);
	if (!error)
		look_behind(f);
	if (!error && f->durable > f->seq)
		error = failure_set(failure, LCPFS_E_CORRUPT,
				    "partition %s: record %llu of its log was flushed and is damaged in both copies", s->name,
				    (unsigned long long)f->seq + 1);
	if (!error)
		error = follow(f, true);
	s->claimed_before = f->durable;
	s->seq = s->work_seq = f->seq;
	s->chain = f->chain;
	memcpy(s->head, f->head, sizeof(s->head));
	for (unsigned i = 0; i < LOG_HEADS; i++)
		f->more |= f->have[i];
	s->as_closed &= !error && !f->more && s->closure == 0;
	free(f);
	return error;
}

int recover(struct store *s, struct lcpfs_failure *failure)
{
	struct fmt_root *root = calloc(1, sizeof(*root));
	int error = root ? root_load(s, root, failure) : -LCPFS_E_NOMEM;
	store_lock(s);
	if (!error)
		error = root_apply(s, root, failure);
	if (!error)
		error = load_space(s, root);
	if (!error)
		error = roll_forward(s, failure);
	if (!error)
		error = settle_space(s);
	store_unlock(s);
	free(root);
	if (error && failure && !failure->message[0])
		failure_set(failure, (enum lcpfs_error)-error, "partition %s: its metadata is damaged (%s)", s->name,
			    lcpfs_error_sentence(error));
	return error;
}
