/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The stream that carries a snapshot, or what has changed since an earlier one, from pool to pool: docs/stream.md.
 * Bytes only: no input and output here, no memory but the caller's. A writer makes records, a reader checks them.
 * Neither locks; each is for one thread at a time.
 */
#ifndef STREAM_STREAM_H
#define STREAM_STREAM_H

#include <assert.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

#include "base/check.h"
#include "base/error.h"
#include "base/hash.h"
#include "base/le.h"

#define STREAM_MAGIC UINT32_C(0x7470636c) /* "lcpt" */
enum { STREAM_VERSION = 1, STREAM_BLOCK = 4096, STREAM_NAME_MAX = 63 };

enum stream_kind { STREAM_BEGIN = 1, STREAM_DATA, STREAM_HOLE, STREAM_END };

struct stream_check {
	le64 low, high;
};

struct stream_header {
	le32 magic;
	le16 version;
	le16 kind;
	le32 payload; /* bytes that follow */
	le32 zero;
	le64 number; /* of the record, from 0 */
	le64 offset; /* in the volume, and how much of it: bytes */
	le64 length;
	le64 zero1;
	struct stream_check
		check; /* of the record before, of this header without this field, and of the payload */
};
static_assert(sizeof(struct stream_header) == 64, "header");

struct stream_begin {
	le64 incompatible, compatible; /* features: an unknown bit in the first refuses */
	le64 pool;                     /* guid */
	le64 guid, from;               /* of the snapshots; from 0: it is whole */
	le64 created_s;
	le64 volume_bytes;
	le32 block_bytes;
	le32 zero;
	char partition[STREAM_NAME_MAX + 1], snapshot[STREAM_NAME_MAX + 1], from_name[STREAM_NAME_MAX + 1];
};
static_assert(sizeof(struct stream_begin) == 256, "begin");

struct stream_end {
	le64 records;                /* before this one */
	le64 data_bytes, hole_bytes; /* of the volume */
	le64 zero;
};
static_assert(sizeof(struct stream_end) == 32, "end");

enum { STREAM_PAYLOAD_MAX = 1 << 20 }; /* of data; others have less */

/* What a stream says of itself. */
struct stream_about {
	uint64_t pool, guid, from, created_s, volume_bytes;
	char partition[STREAM_NAME_MAX + 1], snapshot[STREAM_NAME_MAX + 1], from_name[STREAM_NAME_MAX + 1];
};

/* Where a stream stands: all zero at first. */
struct stream_position {
	struct hash128 check; /* of the last record */
	uint64_t records, bytes, data_bytes, hole_bytes;
	uint64_t offset; /* in the volume: what follows is not before it */
};

/* -- writing. Each fills in the header of the next record; what follows it is the caller's to send. -- */

void stream_put_begin(struct stream_position *at, const struct stream_about *about, struct stream_header *header,
		      struct stream_begin *begin);
/* `length` of at most STREAM_PAYLOAD_MAX. data NULL: only counts. */
void stream_put_data(struct stream_position *at, uint64_t offset, const void *data, size_t length,
		     struct stream_header *header);
void stream_put_hole(struct stream_position *at, uint64_t offset, uint64_t length, struct stream_header *header);
void stream_put_end(struct stream_position *at, uint64_t volume_bytes, struct stream_header *header,
		    struct stream_end *end);

/* -- reading -- */

/*
 * Is that the header of the record that can come next? *payload: how many bytes follow. INVALID: it is no stream;
 * VERSION; CORRUPT: damaged, as far as can be told before its checksum is looked at.
 */
int stream_check_header(const struct stream_position *at, uint64_t volume_bytes,
			const struct stream_header *header, size_t *payload,
			struct lcpfs_failure *failure) MUST_CHECK;
/* The whole record: is it right? Then *at stands behind it. */
int stream_check_record(struct stream_position *at, const struct stream_header *header, const void *payload,
			struct lcpfs_failure *failure) MUST_CHECK;
/* Of the first record, which is right. VERSION: a feature that is not known; CORRUPT: it makes no sense. */
int stream_read_begin(const struct stream_begin *begin, struct stream_about *about,
		      struct lcpfs_failure *failure) MUST_CHECK;

static inline enum stream_kind stream_kind(const struct stream_header *header)
{
	return (enum stream_kind)le16_get(header->kind);
}

#endif
