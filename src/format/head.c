/* SPDX-License-Identifier: Apache-2.0 */
/* What all blocks have in common: sealing before they are written, and the verdict after they were read. */
#include "format/format.h"

#include <string.h>

#include "base/hash.h"

static uint64_t checksum_of(const void *block)
{
	uint8_t copy[BLOCK_SIZE];
	memcpy(copy, block, sizeof(copy));
	((struct fmt_head *)copy)->checksum = le64_of(0);
	return hash64(copy, sizeof(copy));
}

void fmt_seal(void *block, enum fmt_kind kind, uint64_t guid, uint32_t partition, uint32_t count)
{
	struct fmt_head *head = block;
	*head = (struct fmt_head){
		.magic = le32_of(FMT_MAGIC),
		.version = le16_of(FMT_VERSION),
		.kind = le16_of((uint16_t)kind),
		.guid = le64_of(guid),
		.partition = le32_of(partition),
		.count = le32_of(count),
	};
	head->checksum = le64_of(checksum_of(block));
}

static bool is_blank(const uint8_t *block)
{
	static const uint8_t zeros[BLOCK_SIZE];
	return memcmp(block, zeros, BLOCK_SIZE) == 0;
}

static bool is_other(const struct fmt_head *head, enum fmt_kind kind, uint64_t guid, uint32_t partition)
{
	return le16_get(head->kind) != kind || (guid && le64_get(head->guid) != guid) ||
	       (partition != UINT32_MAX && le32_get(head->partition) != partition);
}

enum fmt_verdict fmt_verify(const void *block, enum fmt_kind kind, uint64_t guid, uint32_t partition)
{
	const struct fmt_head *head = block;
	if (le32_get(head->magic) != FMT_MAGIC)
		return is_blank(block) ? FMT_BLANK : FMT_FOREIGN;
	/* The checksum first: where it is wrong, no other field means anything. */
	if (le64_get(head->checksum) != checksum_of(block))
		return FMT_DAMAGED;
	if (le16_get(head->version) != FMT_VERSION)
		return le16_get(head->version) > FMT_VERSION ? FMT_NEWER : FMT_OLDER;
	return is_other(head, kind, guid, partition) ? FMT_OTHER : FMT_GOOD;
}

struct fmt_check fmt_check_of(const void *block)
{
	struct hash128 h = hash128(block, BLOCK_SIZE);
	return (struct fmt_check){le64_of(h.low), le64_of(h.high)};
}

bool fmt_check_fits(const struct fmt_check *check, const void *block)
{
	struct fmt_check found = fmt_check_of(block);
	return fmt_check_same(check, &found);
}

const char *fmt_verdict_text(enum fmt_verdict verdict)
{
	static const char *const texts[] = {
		[FMT_GOOD] = "good",
		[FMT_BLANK] = "blank",
		[FMT_FOREIGN] = "not a block of lcpfs",
		[FMT_DAMAGED] = "checksum mismatch",
		[FMT_NEWER] = "of a newer format",
		[FMT_OLDER] = "of an older format",
		[FMT_OTHER] = "of another kind, pool or partition",
	};
	return (unsigned)verdict < ARRAY_LENGTH(texts) ? texts[verdict] : "unknown";
}

const char *fmt_kind_text(unsigned kind)
{
	static const char *const texts[] = {
		[FMT_LABEL] = "label", [FMT_LEASE] = "lease",         [FMT_UBERBLOCK] = "uberblock",
		[FMT_MAP] = "map",     [FMT_PARTITION] = "partition", [FMT_ENGINE] = "engine",
		[FMT_ROOT] = "root",   [FMT_HISTORY] = "history",     [FMT_RECORD] = "record",
		[FMT_PAGE] = "page",   [FMT_SNAPSHOTS] = "snapshots",
	};
	return kind < ARRAY_LENGTH(texts) && texts[kind] ? texts[kind] : "unknown";
}
