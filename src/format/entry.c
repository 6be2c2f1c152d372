/* SPDX-License-Identifier: Apache-2.0 */
/* Entries of log records: to and from words. What is read is untrusted. */
#include "format/format.h"

enum { CHECK_WORDS = 2 };

static bool has_checks(enum fmt_entry_kind kind)
{
	return kind == ENTRY_WRITE || kind == ENTRY_OVERWRITE || kind == ENTRY_PAGE;
}

static bool has_blocks(enum fmt_entry_kind kind)
{
	return kind < ENTRY_TRIM || kind == ENTRY_PAGE;
}

static bool has_level(enum fmt_entry_kind kind)
{
	return kind == ENTRY_PAGE || kind == ENTRY_VANISH || kind == ENTRY_LEAVE || kind == ENTRY_VOLUME ||
	       kind == ENTRY_CLONE;
}

/* Words between the first and the checks. */
static unsigned more_words(enum fmt_entry_kind kind)
{
	bool two = kind == ENTRY_TRIM || has_level(kind);
	return kind == ENTRY_CLONE ? 3 : two ? 2 : kind == ENTRY_WRITE || kind == ENTRY_HEAD ? 1 : 0;
}

unsigned fmt_entry_words(enum fmt_entry_kind kind, unsigned count)
{
	return 1 + more_words(kind) + (has_checks(kind) ? count * CHECK_WORDS : 0);
}

static bool is_sane(const struct entry *e)
{
	switch (e->kind) {
	case ENTRY_WRITE:
	case ENTRY_OVERWRITE:
	case ENTRY_MOVE:
	case ENTRY_LOST:
	case ENTRY_FREE:
		return e->count > 0;
	case ENTRY_TRIM:
	case ENTRY_HEAD:
	case ENTRY_LEAVE:
	case ENTRY_VOLUME:
	case ENTRY_CLONE:
		return e->count == 0;
	case ENTRY_PAGE:
		return e->count == 1;
	case ENTRY_VANISH:
	case ENTRY_DROP:
		return e->count == 2;
	default:
		return false;
	}
}

bool fmt_entry_next(const struct fmt_record *record, unsigned *at, struct entry *entry)
{
	unsigned words = le32_get(record->head.count);
	if (*at >= words || words > RECORD_WORDS)
		return false;
	const le64 *w = &record->word[*at];
	uint64_t first = le64_get(w[0]);
	*entry = (struct entry){
		.kind = (enum fmt_entry_kind)(first & 0xff), .count = first >> 8 & 0xff, .id = first >> 16};
	if (!is_sane(entry))
		return false;
	unsigned length = fmt_entry_words(entry->kind, entry->count);
	if (length > words - *at)
		return false;
	entry->blocks = has_blocks(entry->kind) ? entry->count : 0;
	if (more_words(entry->kind) > 0) {
		entry->volume = (uint32_t)(le64_get(w[1]) >> 40);
		entry->address = le64_get(w[1]) & 0xffffffffff;
	}
	if (entry->kind == ENTRY_TRIM || entry->kind == ENTRY_CLONE)
		entry->length = le64_get(w[more_words(entry->kind)]);
	if (has_level(entry->kind))
		entry->level = (unsigned)MIN_OF(le64_get(w[2]), (uint64_t)UINT8_MAX);
	if (has_checks(entry->kind))
		entry->check = w + 1 + more_words(entry->kind);
	*at += length;
	return true;
}

le64 *fmt_entry_put(struct fmt_record *record, unsigned at, const struct entry *e)
{
	CHECK(at + fmt_entry_words(e->kind, e->count) <= RECORD_WORDS && e->count <= UINT8_MAX &&
	      e->id <= FMT_ID_MASK);
	le64 *w = &record->word[at];
	*w++ = le64_of((uint64_t)e->kind | (uint64_t)e->count << 8 | e->id << 16);
	if (more_words(e->kind) > 0)
		*w++ = le64_of((uint64_t)e->volume << 40 | e->address);
	if (more_words(e->kind) > 1)
		*w++ = le64_of(e->kind == ENTRY_TRIM ? e->length : e->level);
	if (more_words(e->kind) > 2)
		*w++ = le64_of(e->length);
	return w;
}
