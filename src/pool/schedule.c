/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Snapshots that are taken by themselves, and how many of them stay.
 *
 * Nothing is remembered but the snapshots: one is due where none has the name that belongs to this hour, day, week
 * or month of UTC. So it is taken once, also when the pool was not served when the hour began, and after a crash.
 * A clock that was wrong, in the past or in the future, keeps none from being taken once it is right. Partitions
 * are looked at one after the other, so that a full one keeps no other from its snapshots.
 *
 * What is due, and what there is too much of, is found when the partition's snapshots are had for oneself, and is
 * done before anybody else has them (snapshot_create_found). So a name means the same from one to the other. All
 * of it runs in a thread of its own, which waits for nobody who has a partition for himself.
 */
#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "pool/core.h"

enum {
	LOOK_S = 60, /* how often */
	TIME_ROOM = 32,
	KEEP_MAX = 255,
};

static const struct kind {
	const char *name, *format; /* of strftime */
} kinds[LCPFS_SNAPSHOT_KINDS] = {
	[LCPFS_SNAPSHOT_HOURLY] = {"hourly", "hourly-%Y-%m-%d_%H:00"},
	[LCPFS_SNAPSHOT_DAILY] = {"daily", "daily-%Y-%m-%d"},
	[LCPFS_SNAPSHOT_WEEKLY] = {"weekly", "weekly-%G-W%V"},
	[LCPFS_SNAPSHOT_MONTHLY] = {"monthly", "monthly-%Y-%m"},
};

/* -- as text -- */

static bool parse_one(const char *word, size_t length, struct lcpfs_snapshot_schedule *schedule)
{
	for (unsigned k = 0; k < LCPFS_SNAPSHOT_KINDS; k++) {
		size_t name = strlen(kinds[k].name);
		if (length <= name + 1 || strncmp(word, kinds[k].name, name) != 0 || word[name] != ':')
			continue;
		unsigned long count = 0;
		for (size_t i = name + 1; i < length; i++) {
			if (!isdigit((unsigned char)word[i]))
				return false;
			count = MIN_OF(10 * count + (unsigned long)(word[i] - '0'), KEEP_MAX + 1ul);
		}
		bool good = count >= 1 && count <= KEEP_MAX && !schedule->keep[k];
		schedule->keep[k] = good ? (uint8_t)count : 0;
		return good;
	}
	return false;
}

int lcpfs_snapshot_schedule_parse(const char *text, struct lcpfs_snapshot_schedule *schedule)
{
	*schedule = (struct lcpfs_snapshot_schedule){0};
	if (strcmp(text, "off") == 0)
		return 0;
	for (const char *word = text;; word++) {
		size_t length = strcspn(word, ",");
		if (!parse_one(word, length, schedule))
			return -LCPFS_E_INVALID;
		word += length;
		if (!*word)
			return 0;
	}
}

void lcpfs_snapshot_schedule_print(const struct lcpfs_snapshot_schedule *schedule,
				   char text[LCPFS_SNAPSHOT_SCHEDULE_TEXT])
{
	size_t length = 0;
	for (unsigned k = 0; k < LCPFS_SNAPSHOT_KINDS; k++) {
		if (schedule->keep[k])
			length += (size_t)snprintf(text + length, LCPFS_SNAPSHOT_SCHEDULE_TEXT - length, "%s%s:%u",
						   length ? "," : "", kinds[k].name, schedule->keep[k]);
	}
	if (!length)
		snprintf(text, LCPFS_SNAPSHOT_SCHEDULE_TEXT, "off");
}

/* -- names -- */

static bool print_name(unsigned kind, uint64_t now_s, char name[TIME_ROOM])
{
	time_t now = (time_t)now_s;
	struct tm tm;
	return gmtime_r(&now, &tm) && strftime(name, TIME_ROOM, kinds[kind].format, &tm) > 0;
}

/* Is it one that some hour, or day, or so, has? As `now`, with other digits. */
static bool is_of_kind(const char *name, const char *now)
{
	for (; *name && *now; name++, now++) {
		if (*name != *now && !(isdigit((unsigned char)*name) && isdigit((unsigned char)*now)))
			return false;
	}
	return !*name && !*now;
}

/* -- a partition, held -- */

/* With the lock, as the next one. */
static void find_due(const struct part *part, uint64_t now_s, struct snapshot_names *due)
{
	struct store_snapshot found;
	for (unsigned k = 0; k < LCPFS_SNAPSHOT_KINDS; k++) {
		char *name = due->list[due->count];
		if (part->schedule.keep[k] && print_name(k, now_s, name) &&
		    !store_snapshot_find(part->store, name, &found))
			due->count++;
	}
}

/* Those that are in the way of nobody; of each kind the oldest. */
static void find_surplus(const struct part *part, uint64_t now_s, struct snapshot_names *surplus)
{
	unsigned room = snapshot_count(part), count = 0;
	struct store_snapshot *list = calloc(room + 1, sizeof(*list));
	char now[TIME_ROOM];
	if (list)
		count = MIN_OF(store_snapshots(part->store, list, room), room);
	for (unsigned k = 0; k < LCPFS_SNAPSHOT_KINDS; k++) {
		unsigned seen = 0;
		if (!part->schedule.keep[k] || !print_name(k, now_s, now))
			continue;
		for (unsigned i = count; i-- > 0 && surplus->count < SNAPSHOT_NAMES;) {
			if (is_of_kind(list[i].name, now) && ++seen > part->schedule.keep[k] && !list[i].held &&
			    !part_readers(part, list[i].number) && !clone_has_origin(part, list[i].number))
				memcpy(surplus->list[surplus->count++], list[i].name, sizeof(list[i].name));
		}
	}
	free(list);
}

/* One line until it succeeds again. */
static void note_missed(struct part *part, const char *name, const struct lcpfs_failure *failure)
{
	pthread_mutex_lock(&part->pool->lock);
	if (!part->missed)
		history_note(part->pool, LCPFS_EVENT_MISSED, LCPFS_ENGINE_FREE, part->id, 0, "%s@%s: %s",
			     part->name, name, failure->message);
	part->missed = true;
	pthread_mutex_unlock(&part->pool->lock);
}

/* Somebody else is at its snapshots: it is looked at again soon. */
static void come_back(struct lcpfs_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	pool->schedule_s = 0;
	pthread_mutex_unlock(&pool->lock);
}

/* Those that are too many go in pieces: others get their turn. */
static int thin_out(struct part *part, uint64_t now_s)
{
	struct snapshot_names surplus;
	int error;
	do
		error = snapshot_destroy_found(part, find_surplus, now_s, &surplus, NULL);
	while (surplus.count && !error);
	return error;
}

static void look_at(struct part *part, uint64_t now_s)
{
	struct lcpfs_failure failure = {0};
	struct snapshot_names due;
	int error = snapshot_create_found(part, find_due, now_s, &due, &failure);
	if (!error) {
		pthread_mutex_lock(&part->pool->lock);
		part->missed = false;
		pthread_mutex_unlock(&part->pool->lock);
		error = thin_out(part,
				 now_s); /* who has just opened or held one is in the way: the next time, then */
	} else if (error != -LCPFS_E_AGAIN && error != -LCPFS_E_STOPPED) {
		note_missed(part, due.list[0], &failure);
	}
	if (error == -LCPFS_E_AGAIN)
		come_back(part->pool);
}

static bool is_stopping(struct lcpfs_pool *pool)
{
	pthread_mutex_lock(&pool->lock);
	bool stopping = pool->stopping;
	pthread_mutex_unlock(&pool->lock);
	return stopping;
}

void schedule_look(struct lcpfs_pool *pool)
{
	uint64_t now_s = pool->clock.wall_s(pool->clock.context);
	struct part *part;
	uint32_t slot = 0;
	pthread_mutex_lock(&pool->lock);
	bool due = !pool->options.read_only && now_s / LOOK_S != pool->schedule_s / LOOK_S;
	if (due)
		pool->schedule_s = now_s;
	pthread_mutex_unlock(&pool->lock);
	while (due && !is_stopping(pool) && (part = part_hold_next(pool, &slot))) {
		look_at(part, now_s);
		part_let_go(part);
	}
}
