/* SPDX-License-Identifier: Apache-2.0 */
#include "stream/stream.h"

#include <inttypes.h>
#include <stdio.h>
#include <string.h>

/* -- checksums: each record's goes on from the one before, so that none can be missing, or another one's -- */

struct summed {
	le64 before[2];
	struct stream_header header; /* its check zero */
	le64 payload[2];
};
static_assert(sizeof(struct summed) == 96, "no gaps");

static struct hash128 check_of(const struct stream_position *at, const struct stream_header *header,
			       const void *payload, size_t length)
{
	struct hash128 h = hash128(payload, length);
	struct summed s = {.before = {le64_of(at->check.low), le64_of(at->check.high)},
			   .header = *header,
			   .payload = {le64_of(h.low), le64_of(h.high)}};
	memset(&s.header.check, 0, sizeof(s.header.check));
	return hash128(&s, sizeof(s));
}

static void advance(struct stream_position *at, const struct stream_header *header)
{
	uint64_t length = le64_get(header->length);
	at->records++;
	at->bytes += sizeof(*header) + le32_get(header->payload);
	at->data_bytes += stream_kind(header) == STREAM_DATA ? length : 0;
	at->hole_bytes += stream_kind(header) == STREAM_HOLE ? length : 0;
	at->offset = le64_get(header->offset) + length;
}

/* -- writing -- */

static void fill(const struct stream_position *at, enum stream_kind kind, uint64_t offset, uint64_t length,
		 size_t payload, struct stream_header *header)
{
	*header = (struct stream_header){.magic = le32_of(STREAM_MAGIC),
					 .version = le16_of(STREAM_VERSION),
					 .kind = le16_of((uint16_t)kind),
					 .payload = le32_of((uint32_t)payload),
					 .number = le64_of(at->records),
					 .offset = le64_of(offset),
					 .length = le64_of(length)};
}

static void seal(struct stream_position *at, struct stream_header *header, const void *payload)
{
	at->check = check_of(at, header, payload, le32_get(header->payload));
	header->check = (struct stream_check){le64_of(at->check.low), le64_of(at->check.high)};
	advance(at, header);
}

static void put_name(char to[STREAM_NAME_MAX + 1], const char *name)
{
	memset(to, 0, STREAM_NAME_MAX + 1);
	memcpy(to, name, strnlen(name, STREAM_NAME_MAX));
}

void stream_put_begin(struct stream_position *at, const struct stream_about *about, struct stream_header *header,
		      struct stream_begin *begin)
{
	*begin = (struct stream_begin){.pool = le64_of(about->pool),
				       .guid = le64_of(about->guid),
				       .from = le64_of(about->from),
				       .created_s = le64_of(about->created_s),
				       .volume_bytes = le64_of(about->volume_bytes),
				       .block_bytes = le32_of(STREAM_BLOCK)};
	put_name(begin->partition, about->partition);
	put_name(begin->snapshot, about->snapshot);
	put_name(begin->from_name, about->from_name);
	fill(at, STREAM_BEGIN, 0, 0, sizeof(*begin), header);
	seal(at, header, begin);
}

void stream_put_data(struct stream_position *at, uint64_t offset, const void *data, size_t length,
		     struct stream_header *header)
{
	fill(at, STREAM_DATA, offset, length, length, header);
	if (data)
		seal(at, header, data);
	else
		advance(at, header);
}

void stream_put_hole(struct stream_position *at, uint64_t offset, uint64_t length, struct stream_header *header)
{
	fill(at, STREAM_HOLE, offset, length, 0, header);
	seal(at, header, "");
}

void stream_put_end(struct stream_position *at, uint64_t volume_bytes, struct stream_header *header,
		    struct stream_end *end)
{
	*end = (struct stream_end){.records = le64_of(at->records),
				   .data_bytes = le64_of(at->data_bytes),
				   .hole_bytes = le64_of(at->hole_bytes)};
	fill(at, STREAM_END, volume_bytes, 0, sizeof(*end), header);
	seal(at, header, end);
}

/* -- reading -- */

static int damaged(const struct stream_position *at, const char *what, struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_CORRUPT,
			   "the stream is damaged at byte %" PRIu64 ": %s; send it again", at->bytes, what);
}

static size_t payload_of(const struct stream_header *header)
{
	switch (stream_kind(header)) {
	case STREAM_BEGIN:
		return sizeof(struct stream_begin);
	case STREAM_END:
		return sizeof(struct stream_end);
	case STREAM_DATA:
		return (size_t)le64_get(header->length);
	default:
		return 0;
	}
}

static bool is_range(const struct stream_position *at, uint64_t volume_bytes, const struct stream_header *header)
{
	uint64_t offset = le64_get(header->offset), length = le64_get(header->length);
	bool data = stream_kind(header) == STREAM_DATA;
	return offset >= at->offset && offset <= volume_bytes && length <= volume_bytes - offset && length &&
	       offset % STREAM_BLOCK == 0 && length % STREAM_BLOCK == 0 && (!data || length <= STREAM_PAYLOAD_MAX);
}

/* NULL: it can. */
static const char *why_not(const struct stream_position *at, uint64_t volume_bytes,
			   const struct stream_header *header)
{
	enum stream_kind kind = stream_kind(header);
	bool is_first = at->records == 0;
	if (kind < STREAM_BEGIN || kind > STREAM_END || (kind == STREAM_BEGIN) != is_first)
		return "a record of this kind cannot be here";
	if (le64_get(header->number) != at->records)
		return "records are missing";
	if ((kind == STREAM_DATA || kind == STREAM_HOLE) && !is_range(at, volume_bytes, header))
		return "a range makes no sense";
	if (kind == STREAM_BEGIN && (le64_get(header->offset) || le64_get(header->length)))
		return "its beginning makes no sense";
	if (kind == STREAM_END && (le64_get(header->offset) != volume_bytes || le64_get(header->length)))
		return "its end makes no sense";
	return le32_get(header->payload) == payload_of(header) ? NULL : "a length makes no sense";
}

int stream_check_header(const struct stream_position *at, uint64_t volume_bytes,
			const struct stream_header *header, size_t *payload, struct lcpfs_failure *failure)
{
	bool is_ours = le32_get(header->magic) == STREAM_MAGIC;
	if (!is_ours && !at->records)
		return failure_set(failure, LCPFS_E_INVALID, "this is no stream that lcpfs send has made");
	if (!is_ours)
		return damaged(at, "no record begins there", failure);
	if (le16_get(header->version) != STREAM_VERSION)
		return failure_set(failure, LCPFS_E_VERSION,
				   "the stream is of version %u, and this lcpfs knows version %u; use a newer one",
				   le16_get(header->version), (unsigned)STREAM_VERSION);
	const char *why = why_not(at, volume_bytes, header);
	if (why)
		return damaged(at, why, failure);
	*payload = le32_get(header->payload);
	return 0;
}

static bool counts_fit(const struct stream_position *at, const struct stream_end *end)
{
	return le64_get(end->records) == at->records && le64_get(end->data_bytes) == at->data_bytes &&
	       le64_get(end->hole_bytes) == at->hole_bytes;
}

int stream_check_record(struct stream_position *at, const struct stream_header *header, const void *payload,
			struct lcpfs_failure *failure)
{
	struct hash128 check = check_of(at, header, payload, le32_get(header->payload));
	if (check.low != le64_get(header->check.low) || check.high != le64_get(header->check.high))
		return damaged(at, "a checksum does not match", failure);
	if (stream_kind(header) == STREAM_END && !counts_fit(at, payload))
		return damaged(at, "its counts do not come out", failure);
	at->check = check;
	advance(at, header);
	return 0;
}

/* Of letters that names have: messages and events show them. */
static bool is_name(const char name[STREAM_NAME_MAX + 1], bool may_be_empty)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-:";
	return memchr(name, 0, STREAM_NAME_MAX + 1) && (may_be_empty || name[0]) && !name[strspn(name, allowed)];
}

static bool is_sane(const struct stream_begin *begin)
{
	uint64_t bytes = le64_get(begin->volume_bytes);
	return le64_get(begin->guid) && le64_get(begin->guid) != le64_get(begin->from) &&
	       le32_get(begin->block_bytes) == STREAM_BLOCK && bytes && bytes % STREAM_BLOCK == 0 &&
	       bytes <= INT64_MAX && is_name(begin->partition, false) && is_name(begin->snapshot, false) &&
	       is_name(begin->from_name, !le64_get(begin->from));
}

int stream_read_begin(const struct stream_begin *begin, struct stream_about *about, struct lcpfs_failure *failure)
{
	if (le64_get(begin->incompatible))
		return failure_set(failure, LCPFS_E_VERSION,
				   "the stream uses a feature that this lcpfs does not know; use a newer one");
	if (!is_sane(begin))
		return failure_set(failure, LCPFS_E_CORRUPT, "what the stream says of itself makes no sense");
	*about = (struct stream_about){.pool = le64_get(begin->pool),
				       .guid = le64_get(begin->guid),
				       .from = le64_get(begin->from),
				       .created_s = le64_get(begin->created_s),
				       .volume_bytes = le64_get(begin->volume_bytes)};
	memcpy(about->partition, begin->partition, sizeof(about->partition));
	memcpy(about->snapshot, begin->snapshot, sizeof(about->snapshot));
	memcpy(about->from_name, begin->from_name, sizeof(about->from_name));
	return 0;
}
