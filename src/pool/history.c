/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The pool's history: a ring of events in pool pages.
 *
 * An event gets its number at once and is seen by readers at once; it becomes durable with the next transaction,
 * whatever that is for, or with one of its own when nothing else came along for a while. A crash may lose the last
 * few: what they tell of is in the map, they only tell it.
 *
 * Everything here runs with the pool's lock.
 */
#include <assert.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/plain.h"
#include "pool/core.h"

enum { PENDING_MAX = 256 }; /* events kept while nothing can be written; beyond that the newest are dropped */

enum value { /* places in fmt_history_entry.value */
	     VALUE_FROM_OLD,
	     VALUE_FROM_NEW,
	     VALUE_TO_OLD,
	     VALUE_TO_NEW,
	     VALUE_EXPECTED_GAIN,
	     VALUE_EXPECTED_ERROR,
	     VALUE_EPSILON_BEFORE,
	     VALUE_EPSILON_AFTER,
	     VALUE_STANDARD_ERROR,
	     VALUE_PRESSURE,
	     VALUE_SEQUENCE,
	     VALUE_VERDICT_REASON, /* (verdict + 1) · 256 + reason + 1 */
};

const char *lcpfs_event_kind_name(enum lcpfs_event_kind kind)
{
	static const char *const names[] = {
		[LCPFS_EVENT_ADDED] = "added",         [LCPFS_EVENT_REMOVED] = "removed",
		[LCPFS_EVENT_RESIZED] = "resized",     [LCPFS_EVENT_EMERGENCY] = "emergency",
		[LCPFS_EVENT_MOVED] = "moved",         [LCPFS_EVENT_OUTCOME] = "outcome",
		[LCPFS_EVENT_DECISION] = "decision",   [LCPFS_EVENT_TUNE] = "tune",
		[LCPFS_EVENT_DAMAGE] = "damage",       [LCPFS_EVENT_SCRUB] = "scrub",
		[LCPFS_EVENT_HOST] = "host",           [LCPFS_EVENT_CHANGED] = "changed",
		[LCPFS_EVENT_GROWN] = "grown",         [LCPFS_EVENT_SNAPSHOT] = "snapshot",
		[LCPFS_EVENT_DESTROYED] = "destroyed", [LCPFS_EVENT_ROLLED_BACK] = "rollback",
		[LCPFS_EVENT_HELD] = "held",           [LCPFS_EVENT_RELEASED] = "released",
		[LCPFS_EVENT_MISSED] = "missed",       [LCPFS_EVENT_RENAMED] = "renamed",
		[LCPFS_EVENT_CLONED] = "cloned",       [LCPFS_EVENT_PROMOTED] = "promoted",
		[LCPFS_EVENT_BOOKMARK] = "bookmark",
	};
	return (unsigned)kind < ARRAY_LENGTH(names) && names[kind] ? names[kind] : "unknown";
}

static le64 value_of(double value)
{
	uint64_t bits;
	memcpy(&bits, &value, sizeof(bits));
	return le64_of(bits);
}

static double double_of(le64 field)
{
	uint64_t bits = le64_get(field);
	double value;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

static double value_get(const struct fmt_history_entry *e, enum value which)
{
	return double_of(e->value[which]);
}

/* -- from event to entry and back -- */

static_assert((int)HISTORY_KIND_OUTCOME == (int)LCPFS_EVENT_OUTCOME, "kinds of entries are those of events");

/* An outcome's text is short: what is behind it is free for numbers. */
static size_t text_room(uint32_t kind)
{
	return kind == HISTORY_KIND_OUTCOME ? HISTORY_LEARNED_AT : sizeof(((struct fmt_history_entry *)0)->text);
}

static void put_learned(const struct lcpfs_event *event, struct fmt_history_entry *e)
{
	le64 learned[HISTORY_LEARNED];
	for (unsigned i = 0; i < HISTORY_LEARNED; i++)
		learned[i] = value_of((i % 2 ? event->learned_confidence : event->learned)[i / 2]);
	memcpy(e->text + HISTORY_LEARNED_AT, learned, sizeof(learned));
}

static void get_learned(const struct fmt_history_entry *e, struct lcpfs_event *event)
{
	le64 learned[HISTORY_LEARNED];
	memcpy(learned, e->text + HISTORY_LEARNED_AT, sizeof(learned));
	for (unsigned i = 0; i < HISTORY_LEARNED; i++)
		(i % 2 ? event->learned_confidence : event->learned)[i / 2] = double_of(learned[i]);
}

static void event_to_entry(const struct lcpfs_pool *pool, const struct lcpfs_event *event,
			   struct fmt_history_entry *e)
{
	*e = (struct fmt_history_entry){
		.time_s = le64_of(event->time_s),
		.number = le64_of(event->number),
		.kind = le32_of(event->kind),
		.from = le32_of(event->from_id),
		.to = le32_of(event->to_id),
		.metaslabs = le32_of((uint32_t)(event->blocks / pool->layout.metaslab_blocks)),
		.duration_us = le64_of(event->duration_us),
	};
	e->value[VALUE_FROM_OLD] = value_of(event->from_old_blocks);
	e->value[VALUE_FROM_NEW] = value_of(event->from_new_blocks);
	e->value[VALUE_TO_OLD] = value_of(event->to_old_blocks);
	e->value[VALUE_TO_NEW] = value_of(event->to_new_blocks);
	e->value[VALUE_EXPECTED_GAIN] = value_of(event->expected_gain);
	e->value[VALUE_EXPECTED_ERROR] = value_of(event->expected_error);
	e->value[VALUE_EPSILON_BEFORE] = value_of(event->epsilon_before);
	e->value[VALUE_EPSILON_AFTER] = value_of(event->epsilon_after);
	e->value[VALUE_STANDARD_ERROR] = value_of(event->standard_error);
	e->value[VALUE_PRESSURE] = value_of(event->pressure);
	e->value[VALUE_SEQUENCE] = value_of((double)event->sequence);
	e->value[VALUE_VERDICT_REASON] = value_of((event->verdict + 1) * 256 + event->reason + 1);
	memcpy(e->text, event->text, strnlen(event->text, text_room(event->kind) - 1));
	if (event->kind == LCPFS_EVENT_OUTCOME)
		put_learned(event, e);
}

static void copy_name(const struct lcpfs_pool *pool, uint32_t id, char *name)
{
	const struct part *part = id ? part_find(pool, id) : NULL;
	snprintf(name, LCPFS_NAME_MAX + 1, "%s", part ? part->name : "");
}

/* The pool is untrusted, and this reaches terminals. */
static void copy_text(const uint8_t *from, char *to, size_t room)
{
	size_t length = strnlen((const char *)from, room - 1);
	memcpy(to, from, length);
	to[length] = '\0';
	plain_text(to);
}

/* A clock that was set before 1970 once counted as the far future. */
static uint64_t time_of(const struct fmt_history_entry *e)
{
	uint64_t time_s = le64_get(e->time_s);
	return time_s > INT64_MAX ? 0 : time_s;
}

static double in_range(double value, double low, double high)
{
	return value >= low && value <= high ? value : low; /* low for NaN, too */
}

static void entry_to_event(const struct lcpfs_pool *pool, const struct fmt_history_entry *e,
			   struct lcpfs_event *event)
{
	unsigned codes = (unsigned)in_range(value_get(e, VALUE_VERDICT_REASON), 0, 65535);
	*event = (struct lcpfs_event){
		.number = le64_get(e->number),
		.time_s = time_of(e),
		.kind = (enum lcpfs_event_kind)le32_get(e->kind),
		.from_id = le32_get(e->from),
		.to_id = le32_get(e->to),
		.blocks = (uint64_t)le32_get(e->metaslabs) * pool->layout.metaslab_blocks,
		.duration_us = le64_get(e->duration_us),
		.sequence = (uint64_t)in_range(value_get(e, VALUE_SEQUENCE), 0, 9e15),
		.from_old_blocks = value_get(e, VALUE_FROM_OLD),
		.from_new_blocks = value_get(e, VALUE_FROM_NEW),
		.to_old_blocks = value_get(e, VALUE_TO_OLD),
		.to_new_blocks = value_get(e, VALUE_TO_NEW),
		.expected_gain = value_get(e, VALUE_EXPECTED_GAIN),
		.expected_error = value_get(e, VALUE_EXPECTED_ERROR),
		.epsilon_before = value_get(e, VALUE_EPSILON_BEFORE),
		.epsilon_after = value_get(e, VALUE_EPSILON_AFTER),
		.standard_error = value_get(e, VALUE_STANDARD_ERROR),
		.pressure = value_get(e, VALUE_PRESSURE),
		.verdict = (int)(codes / 256) - 1,
		.reason = (int)(codes % 256) - 1,
	};
	copy_name(pool, event->from_id, event->from_name);
	copy_name(pool, event->to_id, event->to_name);
	copy_text(e->text, event->text, text_room(le32_get(e->kind)));
	if (event->kind == LCPFS_EVENT_OUTCOME)
		get_learned(e, event);
}

/* -- adding -- */

static struct fmt_history_entry *pending_room(struct event_list *pending)
{
	uint32_t room = pending->room ? pending->room * 2 : 16;
	struct fmt_history_entry *list;
	if (pending->count < pending->room)
		return &pending->list[pending->count];
	if (room > PENDING_MAX || !(list = realloc(pending->list, room * sizeof(*list))))
		return NULL;
	pending->list = list;
	pending->room = room;
	return &pending->list[pending->count];
}

void history_add(struct lcpfs_pool *pool, const struct lcpfs_event *event)
{
	struct fmt_history_entry *e = pool->options.read_only ? NULL : pending_room(&pool->pending);
	struct lcpfs_event numbered = *event;
	if (!e)
		return;
	if (pool->pending.count == 0)
		pool->keeper.events_us = clock_us(&pool->clock);
	numbered.number = le64_get(pool->uberblock.history_next) + pool->pending.count + 1;
	numbered.time_s = pool->clock.wall_s(pool->clock.context);
	event_to_entry(pool, &numbered, e);
	pool->pending.count++;
}

void history_note(struct lcpfs_pool *pool, enum lcpfs_event_kind kind, uint32_t from, uint32_t to,
		  uint32_t metaslabs, const char *format, ...)
{
	struct lcpfs_event event = {
		.kind = kind,
		.from_id = from,
		.to_id = to,
		.blocks = (uint64_t)metaslabs * pool->layout.metaslab_blocks,
		.verdict = -1,
		.reason = -1,
	};
	va_list args;
	va_start(args, format);
	vsnprintf(event.text, sizeof(event.text), format, args);
	va_end(args);
	history_add(pool, &event);
}

static uint32_t capacity(const struct lcpfs_pool *pool)
{
	return pool->layout.history_pages * HISTORY_ENTRIES;
}

void history_into(struct txg *txg)
{
	const struct lcpfs_pool *pool = txg->pool;
	uint64_t next = le64_get(pool->uberblock.history_next);
	for (uint32_t i = 0; i < pool->pending.count; i++, next++) {
		uint32_t place = (uint32_t)(next % capacity(pool));
		struct fmt_history *page =
			txg_change(txg, layout_history_page(&pool->layout) + place / HISTORY_ENTRIES);
		page->entry[place % HISTORY_ENTRIES] = pool->pending.list[i];
	}
	txg->uberblock.history_next = le64_of(next);
	txg->uberblock.read_errors = le64_of(pool->read_errors);
}

void history_written(struct lcpfs_pool *pool, const struct txg *txg)
{
	(void)txg; /* it took all of them */
	pool->pending.count = 0;
}

/* -- reading -- */

/* The entry with that number, NULL if it is gone or damaged. */
static const struct fmt_history_entry *entry_numbered(const struct lcpfs_pool *pool, uint64_t number)
{
	uint64_t written = le64_get(pool->uberblock.history_next);
	uint32_t place = (uint32_t)((number - 1) % capacity(pool));
	if (number > written)
		return &pool->pending.list[number - written - 1];
	const struct fmt_history *page =
		txg_current(pool, layout_history_page(&pool->layout) + place / HISTORY_ENTRIES);
	const struct fmt_history_entry *e = &page->entry[place % HISTORY_ENTRIES];
	return le64_get(e->number) == number ? e : NULL;
}

size_t history_list(const struct lcpfs_pool *pool, uint64_t after, struct lcpfs_event *list, size_t room)
{
	uint64_t newest = le64_get(pool->uberblock.history_next) + pool->pending.count;
	uint64_t oldest = newest - MIN_OF(newest, (uint64_t)capacity(pool) + pool->pending.count) + 1;
	size_t count = 0;
	oldest = MAX_OF(oldest, newest - MIN_OF(newest, room) + 1);
	oldest = after < newest ? MAX_OF(oldest, after + 1) : newest + 1;
	for (uint64_t n = oldest; n - 1 < newest; n++) {
		const struct fmt_history_entry *e = entry_numbered(pool, n);
		if (e)
			entry_to_event(pool, e, &list[count++]);
	}
	return count;
}
