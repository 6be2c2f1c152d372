/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log's records in sequence, and where they end.
 *
 * From the redo point on records are taken from whichever head has the next one; each must carry the checksum of
 * the one before it and the right epoch, so that nothing left over from an earlier life of a metaslab can be
 * mistaken for the log.
 *
 * Records that cannot be reached because the chain is broken are looked for behind each head; where a head stands
 * near the end of its metaslab, in those that should be empty, by the root, and once more by what the log has
 * emptied since; and everywhere if both copies of one root are damaged: it may have been the newest. It was, where
 * a record has a later epoch than the root at hand: a root begins an epoch, and is durable before the first record
 * of it is written.
 *
 * Everything read is untrusted.
 */
#include "store/chain.h"

#include <string.h>

#include "store/attempt.h"
#include "store/place.h"
#include "store/record.h"
#include "store/root.h"
#include "store/table.h"

void chain_start(struct chain *f)
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

static int peek(struct chain *f, unsigned head)
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
static int find_next(struct chain *f)
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
static int apply_heads(struct chain *f, const struct fmt_record *r)
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

static int advance(struct chain *f, unsigned head)
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

int chain_go_on(struct chain *f, chain_fn *fn, void *context)
{
	int head;
	while ((head = find_next(f)) >= 0 && head < LOG_HEADS) {
		int done = fn ? fn(context, &f->peeked[head], (unsigned)head) : 0;
		if (!done)
			done = advance(f, (unsigned)head);
		if (done)
			return done < 0 ? done : 0;
	}
	return head < 0 ? head : 0;
}

int chain_follow(struct chain *f, chain_fn *fn, void *context)
{
	chain_start(f);
	return chain_go_on(f, fn, context);
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
static bool move_good(struct chain *f, const struct entry *e, unsigned i, const uint8_t *block, int *error)
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

int chain_blocks_good(struct chain *f, const struct fmt_record *r)
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

int chain_mend_header(const struct chain *f, unsigned head)
{
	const struct fmt_record *r = &f->peeked[head];
	if (f->s->config.read_only || (f->good[head][0] && f->good[head][1]))
		return 0;
	uint64_t block = block_of_place(r->place) + (f->good[head][0] ? 1 : 0);
	return vdev_write(f->s->config.vdev, block << BLOCK_SHIFT, r, BLOCK_SIZE);
}

/* -- what lies behind the end -- */

/* A header that says that a later record than the last one found was flushed? Is it a later one at all? */
static bool heed(struct chain *f, const struct fmt_record *r, uint64_t block)
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
static uint64_t look_onwards(struct chain *f, uint32_t metaslab, uint32_t offset)
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
static void look_behind_head(struct chain *f, const struct head *h)
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

void chain_look_behind(struct chain *f)
{
	struct store *s = f->s;
	bool lost = s->found.root_lost, everywhere = lost;
	if (s->config.is_new)
		return;
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		const struct head *h = &f->head[i];
		everywhere |= h->metaslab != NO_METASLAB &&
			      h->offset + 2 * RECORD_HEADERS + RECORD_BLOCKS_MAX > s->config.metaslab_blocks;
		look_behind_head(f, h);
	}
	/* From the end: what the system reads ahead was looked at already, and it does not go on from there. */
	for (uint32_t i = s->space.count; i-- && everywhere;) {
		const struct metaslab *m = &s->space.slab[i];
		if (lost || m->live == 0)
			look_onwards(f, m->index, 0);
	}
}
