/* SPDX-License-Identifier: Apache-2.0 */
#include "store/log.h"

#include <stdlib.h>
#include <string.h>

#include "store/place.h"

enum {
	ROOM_LEAST =
		RECORD_HEADERS + 1, /* blocks that another record needs at least: with less, the head goes on */
	UNUSED_MAX = RECORDS_IN_FLIGHT_MAX,
	GROUP = 32, /* pages that lie side by side when they are new: see cache.c */
};

/* -- records in memory -- */

static void record_free(struct record *r)
{
	free(r->header);
	free(r);
}

static void records_free(struct record *r)
{
	for (struct record *next; r; r = next) {
		next = r->next;
		record_free(r);
	}
}

void log_free(struct store *s)
{
	records_free(s->log.unused);
	records_free(s->log.inflight);
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		if (s->log.open[i])
			record_free(s->log.open[i]);
	}
	s->log.unused = s->log.inflight = NULL;
	memset(s->log.open, 0, sizeof(s->log.open));
}

static struct record *record_new(struct store *s)
{
	struct record *r = s->log.unused;
	if (r) {
		s->log.unused = r->next;
	} else {
		r = calloc(1, sizeof(*r));
		if (!r || posix_memalign((void **)&r->header, BLOCK_SIZE, BLOCK_SIZE)) {
			free(r);
			return NULL;
		}
	}
	*r = (struct record){.header = r->header};
	memset(r->header, 0, BLOCK_SIZE);
	return r;
}

static void record_recycle(struct store *s, struct record *r)
{
	unsigned kept = 0;
	/*
	 * They are taken again last group first, since the processor still has those, and in the order of their
	 * addresses within a group, so that neighbours are written in one piece.
	 */
	for (unsigned group = 0; group < r->blocks; group += GROUP) {
		for (unsigned i = MIN_OF(group + GROUP, r->blocks); i-- > group;)
			page_unpin(&s->cache, r->page[i]);
	}
	for (struct record *u = s->log.unused; u; u = u->next)
		kept++;
	if (kept >= UNUSED_MAX) {
		record_free(r);
		return;
	}
	r->next = s->log.unused;
	s->log.unused = r;
}

/* -- heads -- */

static unsigned head_number(const struct store *s, enum log_head head)
{
	return s->log.heads == 1 ? 0 : head;
}

static uint32_t head_room(const struct store *s, const struct head *h)
{
	return s->config.metaslab_blocks - h->offset;
}

uint32_t log_room(const struct store *s, enum log_head head)
{
	const struct head *h = &s->log.head[head_number(s, head)];
	return h->metaslab == NO_METASLAB ? 0 : head_room(s, h);
}

static enum space_class class_of(unsigned head)
{
	return head == HEAD_HOT ? CLASS_HOT : head == HEAD_COLD ? CLASS_COLD : CLASS_MOVED;
}

/* The metaslab where it will go on. */
static bool take_next(struct store *s, unsigned head, uint32_t kept)
{
	struct head *h = &s->log.head[head];
	if (h->next == NO_METASLAB && space_empty(&s->space) > kept)
		h->next = space_take(&s->space, class_of(head), s->counters.written_blocks);
	return h->next != NO_METASLAB;
}

/* -- filling -- */

static struct record *place_record(struct store *s, unsigned head, unsigned blocks_max)
{
	const struct head *h = &s->log.head[head];
	struct record *r = record_new(s);
	if (!r)
		return NULL;
	r->head = head;
	r->block = metaslab_block(s, h->metaslab) + h->offset;
	r->blocks_max = MIN_OF(blocks_max, (unsigned)RECORD_BLOCKS_MAX);
	r->opened_us = store_now_us(s);
	return r;
}

/* A record for at least so many blocks. */
static int begin(struct store *s, unsigned head, unsigned least, uint32_t kept, struct need *need,
		 struct record **record)
{
	struct head *h = &s->log.head[head];
	uint32_t most = head_room(s, h) - RECORD_HEADERS;
	CHECK(h->metaslab != NO_METASLAB && head_room(s, h) >= ROOM_LEAST);
	/* Without a next metaslab room for one more record has to stay behind this one; see extend(). */
	if (most < ROOM_LEAST + MAX_OF(least, 1u) && !take_next(s, head, kept)) {
		need->kind = NEED_ROOM;
		return TRY_AGAIN;
	}
	if (h->next == NO_METASLAB)
		most -= ROOM_LEAST;
	struct record *r = place_record(s, head, most);
	if (r && most < least) { /* what is left is too little: an empty record leads on */
		r->last = true;
		log_seal(s, r);
		r = place_record(s, head, head_room(s, h) - RECORD_HEADERS - ROOM_LEAST);
	}
	*record = r;
	return r ? 0 : -LCPFS_E_NOMEM;
}

/* A full one may still take what was left behind it for another record, if its head can go on elsewhere. */
static bool extend(struct store *s, struct record *r, uint32_t kept)
{
	unsigned most = MIN_OF(head_room(s, &s->log.head[r->head]) - RECORD_HEADERS, (unsigned)RECORD_BLOCKS_MAX);
	if (r->blocks_max >= most || !take_next(s, r->head, kept))
		return false;
	r->blocks_max = most;
	return true;
}

/* An empty one always does: it would be sealed without any. */
static bool fits(struct store *s, struct record *r, unsigned blocks, unsigned words, uint32_t kept)
{
	if (r->words + words > RECORD_WORDS)
		return false;
	return r->blocks + blocks <= r->blocks_max || (extend(s, r, kept) && r->blocks + blocks <= r->blocks_max);
}

int log_open(struct store *s, enum log_head head, unsigned blocks, unsigned words, uint32_t kept,
	     struct need *need, struct record **record)
{
	unsigned number = head_number(s, head);
	struct record **open = &s->log.open[number];
	CHECK(words <= RECORD_WORDS && blocks <= 2);
	/* Room in a head may be what was kept back, taken by whoever may take it: it is not for everybody. */
	if (space_empty(&s->space) < kept) {
		need->kind = NEED_ROOM;
		return TRY_AGAIN;
	}
	if (*open && !fits(s, *open, blocks, words, kept)) {
		log_seal(s, *open);
		*open = NULL;
	}
	if (!*open && s->log.inflight_count >= RECORDS_IN_FLIGHT_MAX) {
		need->kind = NEED_WRITE;
		return TRY_AGAIN;
	}
	int error = *open ? 0 : begin(s, number, blocks, kept, need, open);
	*record = *open;
	return error;
}

static bool holds(const struct record *r, uint64_t block)
{
	return block >= r->block && block < r->block + RECORD_HEADERS + r->blocks;
}

void log_order(struct store *s, const struct record *record, uint64_t old_block, enum log_tells what)
{
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		struct record *o = s->log.open[i];
		if (!o || o == record || !o->words)
			continue;
		bool changed = what == TELLS_ADDRESS && o->pages; /* a page, as it was written there */
		if (what != TELLS_MORE && !o->notes && !changed && !holds(o, old_block))
			continue;
		s->log.open[i] = NULL;
		log_seal(s, o);
	}
}

uint64_t log_append(struct record *r, struct page *page)
{
	CHECK(r->blocks < r->blocks_max && page->pins > 0);
	page_pin(page);
	r->page[r->blocks] = page;
	return r->block + RECORD_HEADERS + r->blocks++;
}

/* Does it go on where the last entry of the record ends? */
static bool joins(const struct record *r, unsigned last, const struct entry *e)
{
	struct entry before;
	unsigned at = last;
	if (e->kind > ENTRY_LOST && e->kind != ENTRY_FREE)
		return false;
	if (!fmt_entry_next(r->header, &at, &before) || at != r->words || before.kind != e->kind)
		return false;
	bool address = e->kind != ENTRY_WRITE ||
		       (before.volume == e->volume && before.address + before.count == e->address);
	return address && before.id + before.count == e->id && before.count < UINT8_MAX;
}

void log_tell(struct record *r, const struct entry *e, const struct fmt_check *check)
{
	unsigned last = r->last_entry;
	r->pages |= e->kind == ENTRY_PAGE;
	r->notes |= e->blocks == 0;
	if (r->words && joins(r, last, e)) {
		uint64_t first = le64_get(r->header->word[last]) + (1 << 8);
		r->header->word[last] = le64_of(first);
	} else {
		CHECK(e->count <= 2);
		fmt_entry_put(r->header, r->words, e);
		r->last_entry = r->words;
		r->words += fmt_entry_words(e->kind, 0);
		if (!check && e->kind != ENTRY_TRIM)
			CHECK(fmt_entry_words(e->kind, 0) == fmt_entry_words(e->kind, e->count));
	}
	if (check) {
		r->header->word[r->words++] = check->low;
		r->header->word[r->words++] = check->high;
	}
	CHECK(r->words <= RECORD_WORDS);
	r->header->head.count = le32_of(r->words);
}

/* -- sealing -- */

static void finish_header(struct store *s, struct record *r, uint32_t next)
{
	struct fmt_record *h = r->header;
	h->seq = le64_of(r->seq);
	h->previous = le64_of(s->log.chain);
	h->durable = le64_of(s->log.durable);
	h->place = place_of_block(r->block);
	h->epoch = le64_of(s->log.epoch);
	h->written = le64_of(s->counters.written_blocks);
	h->next = le32_of(next);
	h->birth = le32_of(s->checkpoint.birth);
	h->blocks = le16_of((uint16_t)r->blocks);
	h->log_head = (uint8_t)r->head;
	fmt_seal(h, FMT_RECORD, s->config.guid, s->config.partition, r->words);
}

/* On to the next metaslab, if nothing fits behind the record. */
static uint32_t move_head(struct store *s, struct record *r)
{
	struct head *h = &s->log.head[r->head];
	h->offset += RECORD_HEADERS + r->blocks;
	space_recorded(&s->space, h->metaslab, r->seq);
	if (head_room(s, h) >= ROOM_LEAST && !r->last)
		return NO_METASLAB;
	uint32_t full = h->metaslab, next = h->next;
	CHECK(next != NO_METASLAB);
	*h = (struct head){.metaslab = next, .next = NO_METASLAB};
	space_close(&s->space, full);
	return next;
}

uint64_t log_seal(struct store *s, struct record *r)
{
	unsigned blocks = RECORD_HEADERS + r->blocks;
	r->seq = ++s->log.seq;
	finish_header(s, r, move_head(s, r));
	s->log.chain = fmt_checksum_of(r->header);
	s->log.chain_seq = r->seq;
	s->log.claimed = s->log.durable;
	if (r->words)
		s->log.work_seq = r->seq;
	s->log.appended += blocks;
	s->counters.device_blocks += blocks;
	r->state = RECORD_SEALED;
	struct record **end = &s->log.inflight;
	while (*end)
		end = &(*end)->next;
	r->next = NULL;
	*end = r;
	s->log.inflight_count++;
	return r->seq;
}

static bool any_open(const struct store *s)
{
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		if (s->log.open[i])
			return true;
	}
	return false;
}

void log_seal_open(struct store *s)
{
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		struct record *r = s->log.open[i];
		s->log.open[i] = NULL;
		if (r && r->words)
			log_seal(s, r);
		else if (r)
			record_recycle(s, r);
	}
	space_sealed(&s->space, s->log.seq);
}

static void tell_head(struct store *s, struct record *r, unsigned head, uint32_t metaslab)
{
	log_tell(r, &(struct entry){.kind = ENTRY_HEAD, .id = metaslab, .address = head}, NULL);
	if (metaslab == NO_METASLAB)
		space_close(&s->space, s->log.head[head].metaslab);
	if (s->log.head[head].next != NO_METASLAB)
		space_close(&s->space, s->log.head[head].next);
	s->log.head[head] = (struct head){.metaslab = metaslab, .next = NO_METASLAB};
}

/* Told in the first head, by a record that is sealed before anything goes into the others. */
void log_choose_heads(struct store *s, uint32_t kept)
{
	unsigned wanted = s->space.count < HEADS_METASLABS_MIN ? 1 : LOG_HEADS;
	struct need need;
	struct record *r;
	need_begin(&need);
	if (wanted == s->log.heads || (wanted > 1 && space_empty(&s->space) < kept + LOG_HEADS))
		return;
	log_seal_open(s);
	if (log_open(s, HEAD_HOT, 0, LOG_HEADS * fmt_entry_words(ENTRY_HEAD, 0), kept, &need, &r))
		return;
	for (unsigned i = 1; i < LOG_HEADS; i++)
		tell_head(s, r, i,
			  wanted > 1 ? space_take(&s->space, class_of(i), s->counters.written_blocks)
				     : NO_METASLAB);
	s->log.heads = wanted;
	log_seal_open(s);
}

bool log_return_next(struct store *s)
{
	bool any = false;
	log_seal_open(s);
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		struct head *h = &s->log.head[i];
		if (h->next == NO_METASLAB)
			continue;
		space_close(&s->space, h->next);
		h->next = NO_METASLAB;
		any = true;
	}
	space_sealed(&s->space, s->log.seq);
	return any;
}

bool log_confirm_due(const struct store *s, uint32_t kept)
{
	const struct log *l = &s->log;
	return !s->faulted && !any_open(s) && !l->inflight && l->durable >= l->work_seq &&
	       l->claimed < l->work_seq && store_now_us(s) - l->flushed_us >= CONFIRM_US &&
	       (log_room(s, HEAD_HOT) >= 2 * ROOM_LEAST || space_empty(&s->space) > kept);
}

/* It is a help, not a promise: where it cannot be had, nothing is lost. */
void log_confirm(struct store *s, uint32_t kept)
{
	struct record *r;
	struct need need;
	need_begin(&need);
	if (begin(s, 0, 0, kept, &need, &r))
		return;
	log_seal(s, r);
	log_drain(s);
}

/* -- writing -- */

static struct record *record_in_state(const struct store *s, enum record_state state)
{
	struct record *r = s->log.inflight;
	while (r && r->state != state)
		r = r->next;
	return r;
}

static void record_done(struct store *s, struct record *r)
{
	struct record **link = &s->log.inflight;
	while (*link != r)
		link = &(*link)->next;
	*link = r->next;
	s->log.inflight_count--;
	record_recycle(s, r);
}

static int write_out(struct store *s, struct record *r)
{
	struct iovec iov[RECORD_HEADERS + RECORD_BLOCKS_MAX];
	unsigned count = 0;
	while (count < RECORD_HEADERS)
		iov[count++] = (struct iovec){r->header, BLOCK_SIZE};
	for (unsigned i = 0; i < r->blocks; i++) {
		if (i && r->page[i]->data == r->page[i - 1]->data + BLOCK_SIZE)
			iov[count - 1].iov_len += BLOCK_SIZE;
		else
			iov[count++] = (struct iovec){r->page[i]->data, BLOCK_SIZE};
	}
	return vdev_writev(s->config.vdev, r->block << BLOCK_SHIFT, iov, count);
}

static int record_write(struct store *s, struct record *r)
{
	r->state = RECORD_WRITING;
	if (!s->log.unflushed) {
		s->log.unflushed = true;
		s->log.flush_failures = atomic_load(&s->config.vdev->flush_failures);
	}
	store_unlock(s);
	int error = write_out(s, r);
	store_lock(s);
	r->error = error;
	r->state = RECORD_FAILED;
	if (!error)
		record_done(s, r);
	else
		s->counters.errors++;
	store_changed(s);
	return error;
}

bool log_has_sealed(const struct store *s)
{
	return record_in_state(s, RECORD_SEALED);
}

void log_drain(struct store *s)
{
	struct record *r;
	while ((r = record_in_state(s, RECORD_SEALED)))
		(void)!record_write(s, r);
}

static struct page *page_in(const struct record *r, uint64_t block)
{
	bool there = block >= r->block + RECORD_HEADERS && holds(r, block);
	return there ? r->page[block - r->block - RECORD_HEADERS] : NULL;
}

struct page *log_page(const struct store *s, uint64_t block)
{
	struct page *page = NULL;
	for (unsigned i = 0; i < LOG_HEADS && !page; i++)
		page = s->log.open[i] ? page_in(s->log.open[i], block) : NULL;
	for (const struct record *r = s->log.inflight; r && !page; r = r->next)
		page = page_in(r, block);
	return page;
}

int log_retry(struct store *s)
{
	uint64_t end = s->log.seq;
	struct record *r;
	while ((r = record_in_state(s, RECORD_FAILED)) && r->seq <= end) {
		int error = record_write(s, r);
		if (error)
			return error;
	}
	return 0;
}

/* -- flushing -- */

/* The records up to which all are written. */
static uint64_t written_seq(const struct store *s)
{
	uint64_t seq = s->log.seq;
	for (const struct record *r = s->log.inflight; r; r = r->next)
		seq = MIN_OF(seq, r->seq - 1);
	return seq;
}

int log_flush_device(struct store *s, uint64_t upto)
{
	struct vdev *vdev = s->config.vdev;
	unsigned failures = s->log.unflushed ? s->log.flush_failures : atomic_load(&vdev->flush_failures);
	if (!s->log.inflight)
		s->log.unflushed = false;
	s->log.flushing = true;
	uint64_t flush = ++s->log.flushes;
	store_unlock(s);
	int error = vdev_flush(vdev);
	store_lock(s);
	s->log.flushing = false;
	/* Another's flush may have been told of the loss of what we wrote. */
	if (error || atomic_load(&vdev->flush_failures) != failures) {
		s->faulted = true;
		error = error ? error : -LCPFS_E_FAULTED;
	} else {
		s->log.flushed = flush;
		s->log.durable = MAX_OF(s->log.durable, upto);
		s->log.flushed_us = store_now_us(s);
		space_durable(&s->space, s->log.durable);
	}
	store_changed(s);
	return error;
}

/* One step towards `goal`. */
static int flush_step(struct store *s, uint64_t goal, bool *retried)
{
	log_drain(s);
	if (!*retried && record_in_state(s, RECORD_FAILED)) {
		*retried = true;
		return log_retry(s);
	}
	struct record *failed = record_in_state(s, RECORD_FAILED);
	if (failed && failed->seq <= goal)
		return failed->error;
	if (s->log.flushing || written_seq(s) < goal) {
		store_wait(s);
		return 0;
	}
	return log_flush_device(s, written_seq(s));
}

int log_flush(struct store *s)
{
	bool retried = false;
	log_seal_open(s);
	uint64_t goal = s->log.seq;
	while (s->log.durable < goal && !s->faulted) {
		int error = flush_step(s, goal, &retried);
		if (error)
			return error;
	}
	return s->faulted ? -LCPFS_E_FAULTED : 0;
}

/* -- what it knows -- */

bool log_is_idle(const struct store *s)
{
	return !any_open(s) && !s->log.inflight;
}

static size_t records_bytes(const struct record *r)
{
	size_t bytes = 0;
	for (; r; r = r->next)
		bytes += sizeof(*r) + BLOCK_SIZE;
	return bytes;
}

size_t log_bytes(const struct store *s)
{
	size_t bytes = records_bytes(s->log.unused) + records_bytes(s->log.inflight);
	for (unsigned i = 0; i < LOG_HEADS; i++)
		bytes += s->log.open[i] ? sizeof(struct record) + BLOCK_SIZE : 0;
	return bytes;
}

static void audit_pins(const struct record *r)
{
	for (unsigned i = 0; i < r->blocks; i++)
		CHECK(r->page[i]->pins > 0); /* L3 */
}

void log_audit(const struct store *s)
{
	const struct log *l = &s->log;
	uint64_t seq = 0;
	unsigned count = 0;
	for (const struct record *r = l->inflight; r; r = r->next, count++) {
		CHECK(r->seq > seq && r->seq <= l->seq); /* L1 */
		seq = r->seq;
		audit_pins(r);
	}
	CHECK(count == l->inflight_count && l->chain_seq == l->seq); /* L1 */
	CHECK(l->durable <= written_seq(s) && l->claimed <= l->durable); /* L2 */
	for (unsigned i = 0; i < LOG_HEADS; i++) {
		const struct head *h = &l->head[i];
		if (l->open[i])
			audit_pins(l->open[i]);
		CHECK(!l->open[i] || i < l->heads);
		CHECK(i >= l->heads || (h->metaslab != NO_METASLAB && head_room(s, h) >= ROOM_LEAST));
	}
}
