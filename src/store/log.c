/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The log: everything a partition writes is a record appended to one of its heads.
 *
 * Order. Sealing a record gives it the next sequence number and the checksum of the one before it, over all heads.
 * The users' record is open for a while; the others are filled and sealed in one go under the lock. So for any
 * block, what is sealed later was also decided later, and roll-forward may simply apply records in sequence.
 *
 * Places. A record's place is fixed when it is begun, and a block's when it is appended; until the record is
 * written, reads find it in memory (log_peek). A head's metaslab ends with a link: an empty record that names the
 * next metaslab.
 *
 * Failure. A record that could not be written stays in memory, readable, and is tried again by every flush and by
 * the background; flush fails as long as it does. After a failed device flush nobody knows what of the unflushed
 * the device has lost: the store stops (FAULTED) until it is opened anew from what is really there.
 */
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "store/internal.h"

/* --- buffers --- */

static struct record *record_new(struct store *s, unsigned blocks)
{
	struct record *r = s->unused;
	if (r && blocks > 0) {
		s->unused = r->next;
	} else {
		r = calloc(1, sizeof(*r));
		if (!r)
			return NULL;
		r->room = blocks ? RECORD_ENTRIES : 0;
		if (posix_memalign((void **)&r->header, BLOCK_SIZE, (RECORD_HEADERS + r->room) * BLOCK_SIZE)) {
			free(r);
			return NULL;
		}
	}
	*r = (struct record){.header = r->header, .room = r->room};
	memset(r->header, 0, BLOCK_SIZE);
	return r;
}

static void record_free(struct record *r)
{
	free(r->header);
	free(r);
}

static void record_recycle(struct store *s, struct record *r)
{
	unsigned kept = 0;
	for (struct record *u = s->unused; u; u = u->next)
		kept++;
	if (r->room == 0 || kept >= RECORDS_IN_FLIGHT_MAX) {
		record_free(r);
		return;
	}
	r->next = s->unused;
	s->unused = r;
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
	records_free(s->unused);
	records_free(s->inflight);
	records_free(s->open);
	s->unused = s->inflight = s->open = NULL;
}

/* --- heads --- */

static struct head *head_of(struct store *s, enum log_head head)
{
	return &s->head[s->heads == 1 ? 0 : head];
}

uint32_t log_room(const struct store *s, enum log_head head)
{
	const struct head *h = &s->head[s->heads == 1 ? 0 : head];
	uint32_t used = h->offset + LINK_BLOCKS;
	return h->metaslab == NO_METASLAB || used >= s->config.metaslab_blocks ? 0 : s->config.metaslab_blocks - used;
}

static void record_place(struct store *s, struct record *r, struct head *h)
{
	r->head = (unsigned)(h - s->head);
	r->block = space_first_block(&s->space, h->metaslab) + h->offset;
	r->header->place = le64_of(r->block);
	r->header->next = le32_of(NO_METASLAB);
}

/* Moves a head on to an EMPTY metaslab; the link goes out with the next drain. */
static int head_advance(struct store *s, struct head *h, uint32_t kept)
{
	if (s->space.empty <= kept)
		return -LCPFS_E_NOSPC;
	struct record *link = record_new(s, 0);
	if (!link)
		return -LCPFS_E_NOMEM;
	struct metaslab *to = space_take(&s->space);
	CHECK(to && to->live == 0);
	record_place(s, link, h);
	link->header->next = le32_of(to->index);
	uint32_t left = h->metaslab;
	log_seal(s, link);
	struct metaslab *from = space_find(&s->space, left);
	CHECK(from && from->state == METASLAB_OPEN);
	space_set_state(&s->space, from, METASLAB_CLOSED);
	*h = (struct head){.metaslab = to->index, .offset = 0};
	return 0;
}

/* --- filling --- */

static void drop_empty_open(struct store *s)
{
	if (s->open && s->open->entries == 0) {
		record_recycle(s, s->open);
		s->open = NULL;
	}
}

int log_begin(struct store *s, enum log_head head, unsigned blocks, uint32_t kept, struct record **record)
{
	struct head *h = head_of(s, head);
	if (s->open && s->open->head == (unsigned)(h - s->head))
		log_seal_open(s); /* its place is the one that comes next */
	if (log_room(s, head) < RECORD_HEADERS + 1) {
		int error = head_advance(s, h, kept);
		if (error)
			return error;
	}
	struct record *r = record_new(s, blocks);
	if (!r)
		return -LCPFS_E_NOMEM;
	record_place(s, r, h);
	r->blocks_max = MIN_OF(MIN_OF(blocks, (unsigned)RECORD_ENTRIES), log_room(s, head) - RECORD_HEADERS);
	*record = r;
	return 0;
}

/* Waits until there may be one more record in flight. Drops the lock. */
static int wait_inflight(struct store *s)
{
	if (s->trying)
		return -LCPFS_E_AGAIN;
	for (struct record *r = s->inflight; r; r = r->next) {
		if (r->state == RECORD_FAILED)
			return log_retry(s);
	}
	s->drops++;
	pthread_cond_wait(&s->changed, &s->lock);
	return 0;
}

int log_open_user(struct store *s, uint32_t kept, struct record **record)
{
	struct record *r = s->open;
	if (r && (r->entries == RECORD_ENTRIES || r->blocks == r->blocks_max))
		log_seal_open(s);
	log_drain(s);
	while (!s->open && s->inflight_count >= RECORDS_IN_FLIGHT_MAX) {
		int error = wait_inflight(s);
		if (error)
			return error;
		log_drain(s);
	}
	if (!s->open) {
		int error = log_begin(s, HEAD_USER, RECORD_ENTRIES, kept, &s->open);
		if (error)
			return error;
		s->open->opened_us = store_now_us(s);
	}
	*record = s->open;
	return 0;
}

void log_append_note(struct record *r, struct fmt_entry entry)
{
	CHECK(r->entries < RECORD_ENTRIES);
	r->header->entry[r->entries++] = entry;
}

uint64_t log_append(struct record *r, struct fmt_entry entry, const void *data)
{
	CHECK(r->blocks < r->blocks_max);
	log_append_note(r, entry);
	unsigned at = RECORD_HEADERS + r->blocks++;
	memcpy((uint8_t *)r->header + (size_t)at * BLOCK_SIZE, data, BLOCK_SIZE);
	return r->block + at;
}

/* --- sealing --- */

static void header_finish(struct store *s, struct record *r)
{
	struct fmt_record *header = r->header;
	header->seq = le64_of(r->seq);
	header->previous = le64_of(s->chain);
	header->durable = le64_of(s->durable);
	header->blocks = le16_of((uint16_t)r->blocks);
	header->log_head = (uint8_t)r->head;
	header->epoch = le64_of(s->epoch);
	fmt_seal(header, FMT_RECORD, s->config.guid, s->config.partition, r->entries);
	memcpy((uint8_t *)header + BLOCK_SIZE, header, BLOCK_SIZE);
}

uint64_t log_seal(struct store *s, struct record *r)
{
	struct head *h = &s->head[r->head];
	unsigned blocks = RECORD_HEADERS + r->blocks;
	r->seq = ++s->seq;
	header_finish(s, r);
	s->chain = fmt_checksum_of(r->header);
	s->claimed = s->durable;
	if (r->entries)
		s->work_seq = r->seq;
	h->offset += blocks;
	struct metaslab *m = space_find(&s->space, h->metaslab);
	if (m->age == 0)
		m->first = r->seq;
	m->age = r->seq;
	s->log_blocks += blocks;
	s->counters.device_blocks += blocks;
	r->state = RECORD_SEALED;
	struct record **end = &s->inflight;
	while (*end)
		end = &(*end)->next;
	r->next = NULL;
	*end = r;
	s->inflight_count++;
	return r->seq;
}

void log_seal_open(struct store *s)
{
	drop_empty_open(s);
	struct record *r = s->open;
	s->open = NULL;
	if (r)
		log_seal(s, r);
}

bool log_confirm_due(const struct store *s)
{
	return !s->faulted && !s->open && !s->inflight && s->durable >= s->work_seq && s->claimed < s->work_seq &&
	       store_now_us(s) - s->flushed_us >= CONFIRM_US &&
	       (log_room(s, HEAD_USER) >= RECORD_HEADERS || s->space.empty > room_kept(s));
}

void log_confirm(struct store *s)
{
	struct head *h = head_of(s, HEAD_USER);
	if (log_room(s, HEAD_USER) < RECORD_HEADERS) {
		(void)!head_advance(s, h, room_kept(s)); /* the link says it, too; it is a help, not a promise */
	} else {
		struct record *r = record_new(s, 0);
		if (!r)
			return;
		record_place(s, r, h);
		log_seal(s, r);
	}
	log_drain(s);
}

/* --- writing --- */

static struct record *record_in_state(const struct store *s, enum record_state state)
{
	struct record *r = s->inflight;
	while (r && r->state != state)
		r = r->next;
	return r;
}

bool log_has_sealed(const struct store *s)
{
	return record_in_state(s, RECORD_SEALED);
}

static void record_done(struct store *s, struct record *r)
{
	struct record **link = &s->inflight;
	while (*link != r)
		link = &(*link)->next;
	*link = r->next;
	s->inflight_count--;
	record_recycle(s, r);
}

/* Drops the lock. */
static int record_write(struct store *s, struct record *r)
{
	r->state = RECORD_WRITING;
	if (!s->unflushed) {
		s->unflushed = true;
		s->flush_failures = atomic_load(&s->config.vdev->flush_failures);
	}
	store_drop(s);
	int error = vdev_write(s->config.vdev, r->block << BLOCK_SHIFT, r->header,
			       (size_t)(RECORD_HEADERS + r->blocks) * BLOCK_SIZE);
	store_lock(s);
	r->error = error;
	r->state = RECORD_FAILED;
	if (!error)
		record_done(s, r);
	else
		s->counters.errors++;
	pthread_cond_broadcast(&s->changed);
	return error;
}

void log_drain(struct store *s)
{
	struct record *r;
	while (!s->trying && (r = record_in_state(s, RECORD_SEALED)))
		(void)!record_write(s, r);
}

int log_retry(struct store *s)
{
	uint64_t end = s->seq;
	struct record *r;
	while ((r = record_in_state(s, RECORD_FAILED)) && r->seq <= end) {
		int error = record_write(s, r);
		if (error)
			return error;
	}
	return 0;
}

static struct record *record_of_seq(const struct store *s, uint64_t seq)
{
	struct record *r = s->inflight;
	while (r && r->seq != seq)
		r = r->next;
	return r;
}

int log_wait(struct store *s, uint64_t seq)
{
	struct record *r;
	log_drain(s);
	while ((r = record_of_seq(s, seq))) {
		if (r->state == RECORD_FAILED)
			return r->error;
		s->drops++;
		pthread_cond_wait(&s->changed, &s->lock);
	}
	return 0;
}

const void *log_peek(const struct store *s, uint64_t block)
{
	const struct record *r = s->open;
	if (!r || block < r->block || block >= r->block + RECORD_HEADERS + r->blocks) {
		r = s->inflight;
		while (r && (block < r->block || block >= r->block + RECORD_HEADERS + r->blocks))
			r = r->next;
	}
	return r ? (const uint8_t *)r->header + (block - r->block) * BLOCK_SIZE : NULL;
}

/* --- flushing --- */

/* The records up to which all are written. */
static uint64_t written_seq(const struct store *s)
{
	uint64_t seq = s->seq;
	for (const struct record *r = s->inflight; r; r = r->next)
		seq = MIN_OF(seq, r->seq - 1);
	return seq;
}

int log_flush_device(struct store *s, uint64_t upto)
{
	struct vdev *vdev = s->config.vdev;
	unsigned failures = s->unflushed ? s->flush_failures : atomic_load(&vdev->flush_failures);
	if (!s->inflight)
		s->unflushed = false;
	s->flushing = true;
	store_drop(s);
	int error = vdev_flush(vdev);
	store_lock(s);
	s->flushing = false;
	/* Another's flush may have been told of the loss of what we wrote. */
	if (error || atomic_load(&vdev->flush_failures) != failures) {
		s->faulted = true;
		error = error ? error : -LCPFS_E_FAULTED;
	} else {
		s->durable = MAX_OF(s->durable, upto);
		s->flushed_us = store_now_us(s);
		room_reclaim(s);
	}
	pthread_cond_broadcast(&s->changed);
	return error;
}

/* One step towards `goal`. Drops the lock. */
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
	if (s->flushing || written_seq(s) < goal) {
		s->drops++;
		pthread_cond_wait(&s->changed, &s->lock);
		return 0;
	}
	return log_flush_device(s, written_seq(s));
}

int log_flush(struct store *s)
{
	bool retried = false;
	log_seal_open(s);
	room_note_ready(s);
	uint64_t goal = s->seq;
	while (s->durable < goal && !s->faulted) {
		int error = flush_step(s, goal, &retried);
		if (error)
			return error;
	}
	room_reclaim(s);
	return s->faulted ? -LCPFS_E_FAULTED : 0;
}
