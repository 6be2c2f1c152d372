/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a stream, as a receiver reads it: as it is, and with all checksums made right, so that what is
 * behind them is reached, too. What is accepted keeps to the volume, and is in order.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "stream/stream.h"

struct input {
	const uint8_t *bytes;
	size_t length, at;
};

static const void *take(struct input *in, size_t length)
{
	const void *taken = in->bytes + in->at;
	if (length > in->length - in->at)
		return NULL;
	in->at += length;
	return taken;
}

/* The check that it should have had. */
static void mend(const struct stream_position *at, struct stream_header *header, const void *payload)
{
	struct stream_position copy = *at;
	struct hash128 h = hash128(payload, le32_get(header->payload));
	uint8_t summed[96] = {0};
	le64 words[4] = {le64_of(copy.check.low), le64_of(copy.check.high), le64_of(h.low), le64_of(h.high)};
	memset(&header->check, 0, sizeof(header->check));
	memcpy(summed, words, 16);
	memcpy(summed + 16, header, sizeof(*header));
	memcpy(summed + 80, words + 2, 16);
	h = hash128(summed, sizeof(summed));
	header->check = (struct stream_check){le64_of(h.low), le64_of(h.high)};
}

static void look_at(const struct stream_position *before, const struct stream_position *now,
		    const struct stream_header *header, uint64_t volume_bytes)
{
	CHECK(now->records == before->records + 1 && now->bytes > before->bytes);
	CHECK(now->offset >= before->offset && now->offset <= volume_bytes);
	if (stream_kind(header) == STREAM_DATA)
		CHECK(le64_get(header->length) == le32_get(header->payload));
}

static void read_stream(const uint8_t *bytes, size_t length, bool mends)
{
	struct input in = {bytes, length, 0};
	struct stream_position at = {0};
	struct stream_about about = {0};
	struct stream_header header = {.kind = le16_of(STREAM_BEGIN)};
	while (stream_kind(&header) != STREAM_END) {
		struct lcpfs_failure failure;
		struct stream_position before = at;
		const void *payload, *from = take(&in, sizeof(header));
		size_t size = 0;
		if (!from)
			return;
		memcpy(&header, from, sizeof(header));
		if (stream_check_header(&at, about.volume_bytes, &header, &size, &failure))
			return;
		CHECK(size <= STREAM_PAYLOAD_MAX);
		payload = take(&in, size);
		if (!payload)
			return;
		if (mends)
			mend(&at, &header, payload);
		if (stream_check_record(&at, &header, payload, &failure))
			return;
		if (stream_kind(&header) == STREAM_BEGIN) {
			struct stream_begin begin;
			memcpy(&begin, payload, sizeof(begin));
			if (stream_read_begin(&begin, &about, &failure))
				return;
			CHECK(about.guid && about.volume_bytes && about.snapshot[0]);
			CHECK(strlen(about.partition) <= STREAM_NAME_MAX &&
			      strlen(about.from_name) <= STREAM_NAME_MAX);
		}
		look_at(&before, &at, &header, about.volume_bytes);
	}
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	read_stream(bytes, length, false);
	read_stream(bytes, length, true);
	return 0;
}
