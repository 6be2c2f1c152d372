/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool tells of its past (the command `report` of docs/control.md), put in order for whoever draws it. */
#ifndef CLI_PAST_H
#define CLI_PAST_H

#include <json-c/json.h>
#include <lcpfs/pool.h>
#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

enum { PAST_THRESHOLDS = 4, PAST_NAME = LCPFS_NAME_MAX + 32 };

struct past_size { /* from that time on */
	uint64_t time_s;
	double blocks;
};

struct past_sample {
	uint64_t time_s, span_s; /* the end of the span, and how long it is */
	double size, live, epsilon, written, device;
};

struct past_partition {
	uint32_t id;
	char name[PAST_NAME];
	struct json_object *now; /* as in list; NULL: it is gone */
	struct past_size *sizes; /* oldest first; the first is at past.from_s */
	size_t size_count;
	struct past_sample *samples; /* oldest first */
	size_t sample_count;
};

/* A change of size, and what came of it. */
struct past_mark {
	struct json_object *event, *outcome; /* NULL: none (yet) */
	uint64_t number, time_s;
};

struct past_learned {
	uint64_t time_s;
	double value[PAST_THRESHOLDS], confidence[PAST_THRESHOLDS];
};

struct past {
	struct json_object *result; /* the caller's */
	uint64_t from_s, to_s, made_s;
	struct past_partition *partitions; /* by id; those without size in all that time are left out */
	size_t partition_count;
	struct past_mark *marks; /* oldest first */
	size_t mark_count;
	struct past_learned *learned; /* oldest first; the last is as of now */
	size_t learned_count;
	struct past_size *pool; /* its size, as those of partitions */
	size_t pool_count;
	double pool_blocks_max;
};

/* The names in JSON of what is learned, and how people call it. */
extern const char *const past_threshold_keys[PAST_THRESHOLDS], *const past_threshold_names[PAST_THRESHOLDS];

/* Only what is younger than last_s; 0: all. `result` must outlive it. */
void past_load(struct past *past, struct json_object *result, uint64_t last_s);
void past_free(struct past *past);

double past_size_at(const struct past_size *sizes, size_t count, uint64_t time_s);
/* Live blocks, as of the last sample before that; never more than the size. */
double past_live_at(const struct past_partition *p, uint64_t time_s);

/* The event's partition by id ("from_id" or "to_id"), as people call it: "free space", where it is none. */
const char *past_side(const struct past *past, struct json_object *event, const char *key);

#endif
