/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Sizes are followed from now backwards: what there is now is certain, an event says what was before it, and a
 * sample says so again. So the events that the log has dropped leave a gap and no wrong picture.
 */
#include "past.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "control/field.h"

enum {
	NEAR_S = 60,      /* an emergency's event comes late: a sample so near knows better */
	RANGE_S_MIN = 60, /* what is shown at least */
	FRESH_S = 600,    /* so near to its last sign of life the pool counts as in use */
};

const char *const past_threshold_keys[] = {"pressure", "cooldown_s", "growth_step", "shrink_step"};
const char *const past_threshold_names[] = {"pressure that triggers a move", "cooldown between moves, s",
					    "growth step, share of size", "shrink step, share of size"};

static void *grown(void *list, size_t count, size_t size)
{
	/* Room doubles at powers of two. */
	if (count & (count - 1))
		return list;
	list = realloc(list, (count ? 2 * count : 1) * size);
	CHECK(list);
	return list;
}

#define ADD(list, count) (((list) = grown(list, count, sizeof(*(list)))), &(list)[(count)++])

static struct json_object *item(struct json_object *array, size_t i)
{
	return json_object_array_get_idx(array, i);
}

/* ---- partitions ---- */

static struct past_partition *find(const struct past *past, uint32_t id)
{
	for (size_t i = 0; i < past->partition_count; i++)
		if (past->partitions[i].id == id)
			return &past->partitions[i];
	return NULL;
}

/* With the name that it has or had; without one it is gone. */
static void meet(struct past *past, uint32_t id, const char *name, struct json_object *now)
{
	struct past_partition *p = id ? find(past, id) : NULL;
	if (!id || p)
		return;
	p = ADD(past->partitions, past->partition_count);
	*p = (struct past_partition){.id = id, .now = now};
	if (name && *name)
		snprintf(p->name, sizeof(p->name), "%s", name);
	else
		snprintf(p->name, sizeof(p->name), "partition %u (removed)", id);
}

static int compare_partitions(const void *a, const void *b)
{
	const struct past_partition *x = a, *y = b;
	return x->id < y->id ? -1 : x->id > y->id;
}

static bool is_change(struct json_object *event)
{
	static const char *const kinds[] = {"moved", "resized", "emergency", "added", "removed", "grown"};
	const char *kind = field_text(event, "kind");
	for (size_t i = 0; kind && i < ARRAY_LENGTH(kinds); i++)
		if (!strcmp(kind, kinds[i]))
			return true;
	return false;
}

static void meet_all(struct past *past)
{
	struct json_object *now = field_get(past->result, "partitions");
	struct json_object *samples = field_get(past->result, "samples");
	for (size_t i = 0; i < field_length(now); i++)
		meet(past, (uint32_t)field_count(item(now, i), "id"), field_text(item(now, i), "name"),
		     item(now, i));
	for (size_t i = 0; i < field_length(samples); i++)
		if (field_count(item(samples, i), "time_s") >= past->from_s)
			meet(past, (uint32_t)field_count(item(samples, i), "id"), NULL, NULL);
	for (size_t i = 0; i < past->mark_count; i++) {
		meet(past, (uint32_t)field_count(past->marks[i].event, "from_id"), NULL, NULL);
		meet(past, (uint32_t)field_count(past->marks[i].event, "to_id"), NULL, NULL);
	}
	qsort(past->partitions, past->partition_count, sizeof(*past->partitions), compare_partitions);
}

const char *past_side(const struct past *past, struct json_object *event, const char *key)
{
	const struct past_partition *p = find(past, (uint32_t)field_count(event, key));
	return p ? p->name : "free space";
}

/* ---- samples ---- */

static double amount(struct json_object *object, const char *key)
{
	double number = field_number(object, key);
	return number > 0 && number < 1e18 ? number : 0;
}

/* They come by partition and time. */
static void take_samples(struct past *past)
{
	struct json_object *samples = field_get(past->result, "samples");
	for (size_t i = 0; i < field_length(samples); i++) {
		struct json_object *s = item(samples, i);
		struct past_partition *p = find(past, (uint32_t)field_count(s, "id"));
		if (!p || field_count(s, "time_s") < past->from_s)
			continue;
		struct past_sample *place = ADD(p->samples, p->sample_count);
		*place = (struct past_sample){
			.time_s = field_count(s, "time_s"),
			.span_s = MAX_OF(field_count(s, "span_s"), UINT64_C(1)),
			.size = amount(s, "size_blocks"),
			.live = amount(s, "live_blocks"),
			.epsilon = amount(s, "epsilon"),
			.written = amount(s, "written_blocks"),
			.device = amount(s, "device_blocks"),
		};
	}
}

double past_live_at(const struct past_partition *p, uint64_t time_s)
{
	double size = past_size_at(p->sizes, p->size_count, time_s),
	       live = p->sample_count ? p->samples[0].live : 0;
	size_t low = 0, high = p->sample_count;
	while (low < high) { /* the first that is later */
		size_t middle = (low + high) / 2;

		if (p->samples[middle].time_s <= time_s)
			low = middle + 1;
		else
			high = middle;
	}
	if (low)
		live = p->samples[low - 1].live;
	if (p->now && low == p->sample_count)
		live = amount(p->now, "live_blocks");
	return MIN_OF(live, size);
}

/* ---- marks ---- */

/* The next outcome of the same decision, behind event `from`. */
static struct json_object *outcome_of(struct json_object *events, size_t from)
{
	struct json_object *moved = item(events, from);
	uint64_t sequence = field_count(moved, "sequence");
	for (size_t i = from + 1; i < field_length(events) && sequence; i++) {
		struct json_object *e = item(events, i);
		if (!strcmp(field_text(e, "kind"), "outcome") && field_count(e, "sequence") == sequence &&
		    field_count(e, "from_id") == field_count(moved, "from_id") &&
		    field_count(e, "to_id") == field_count(moved, "to_id"))
			return e;
	}
	return NULL;
}

static void take_marks(struct past *past)
{
	struct json_object *events = field_get(past->result, "events");
	for (size_t i = 0; i < field_length(events); i++) {
		struct json_object *e = item(events, i);
		if (!is_change(e) || field_count(e, "time_s") < past->from_s)
			continue;
		struct past_mark *mark = ADD(past->marks, past->mark_count);
		*mark = (struct past_mark){
			.event = e,
			.number = field_count(e, "number"),
			.time_s = field_count(e, "time_s"),
			.outcome = !strcmp(field_text(e, "kind"), "moved") ? outcome_of(events, i) : NULL,
		};
	}
}

/* ---- sizes, backwards ---- */

struct backwards {
	struct past_size *list; /* newest first */
	size_t count;
	double blocks; /* after the time that was reached */
};

/* It had `after` from that time on, and `before` until then. */
static void step_back(struct backwards *b, uint64_t time_s, double after, double before)
{
	struct past_size *place;
	if (after != before) {
		place = ADD(b->list, b->count);
		*place = (struct past_size){time_s, after};
	}
	b->blocks = before;
}

static void end_back(struct backwards *b, uint64_t from_s, struct past_size **sizes, size_t *count)
{
	struct past_size *place = ADD(b->list, b->count);
	*place = (struct past_size){from_s, b->blocks};
	for (size_t i = 0; i < b->count / 2; i++) {
		struct past_size other = b->list[i];
		b->list[i] = b->list[b->count - 1 - i];
		b->list[b->count - 1 - i] = other;
	}
	*sizes = b->list;
	*count = b->count;
}

static bool has_sample_near(const struct past_partition *p, uint64_t time_s)
{
	for (size_t i = 0; i < p->sample_count; i++)
		if (p->samples[i].time_s + NEAR_S > time_s && p->samples[i].time_s < time_s + NEAR_S)
			return true;
	return false;
}

static void step_back_event(struct backwards *b, const struct past_partition *p, const struct past_mark *mark)
{
	struct json_object *e = mark->event;
	const char *kind = field_text(e, "kind");
	bool gives = field_count(e, "from_id") == p->id, gets = field_count(e, "to_id") == p->id;
	double blocks = amount(e, "blocks");
	if (!gives && !gets)
		return;
	if (!strcmp(kind, "added"))
		step_back(b, mark->time_s, blocks, 0);
	else if (!strcmp(kind, "removed"))
		step_back(b, mark->time_s, 0, blocks);
	else if (strcmp(kind, "emergency") != 0)
		step_back(b, mark->time_s, amount(e, gives ? "from_new_blocks" : "to_new_blocks"),
			  amount(e, gives ? "from_old_blocks" : "to_old_blocks"));
	else if (!has_sample_near(p, mark->time_s))
		step_back(b, mark->time_s, b->blocks, MAX_OF(b->blocks + (gives ? blocks : -blocks), 0.0));
}

/* Of the same second, the sample is later: it is taken at a round's end. */
static void follow_sizes(struct past *past, struct past_partition *p)
{
	struct backwards b = {.blocks = p->now ? amount(p->now, "size_blocks") : 0};
	size_t s = p->sample_count, m = past->mark_count;
	while (s || m) {
		if (s && (!m || p->samples[s - 1].time_s >= past->marks[m - 1].time_s)) {
			s--;
			step_back(&b, p->samples[s].time_s, b.blocks, p->samples[s].size);
		} else {
			step_back_event(&b, p, &past->marks[--m]);
		}
	}
	end_back(&b, past->from_s, &p->sizes, &p->size_count);
}

static void follow_pool(struct past *past)
{
	struct backwards b = {.blocks = amount(field_get(past->result, "pool"), "size_blocks")};
	past->pool_blocks_max = b.blocks;
	for (size_t m = past->mark_count; m > 0; m--) {
		struct json_object *e = past->marks[m - 1].event;
		if (!strcmp(field_text(e, "kind"), "grown"))
			step_back(&b, past->marks[m - 1].time_s, b.blocks,
				  MAX_OF(b.blocks - amount(e, "blocks"), 0.0));
	}
	end_back(&b, past->from_s, &past->pool, &past->pool_count);
}

double past_size_at(const struct past_size *sizes, size_t count, uint64_t time_s)
{
	size_t low = 0, high = count;
	while (low < high) {
		size_t middle = (low + high) / 2;
		if (sizes[middle].time_s <= time_s)
			low = middle + 1;
		else
			high = middle;
	}
	return low ? sizes[low - 1].blocks : 0;
}

/* ---- what was learned ---- */

static void take_threshold(struct past *past, uint64_t time_s, struct json_object *thresholds)
{
	struct past_learned *l = ADD(past->learned, past->learned_count);
	*l = (struct past_learned){.time_s = time_s};
	for (size_t i = 0; i < PAST_THRESHOLDS; i++) {
		l->value[i] = amount(field_get(thresholds, past_threshold_keys[i]), "value");
		l->confidence[i] = amount(field_get(thresholds, past_threshold_keys[i]), "confidence");
	}
}

/* What was learned before all of that counts from its beginning on. */
static void take_learned(struct past *past)
{
	struct json_object *events = field_get(past->result, "events"), *before = NULL;
	struct json_object *engine = field_get(field_get(past->result, "pool"), "engine");
	for (size_t i = 0; i < field_length(events); i++) {
		struct json_object *thresholds = field_get(item(events, i), "thresholds");
		uint64_t time_s = field_count(item(events, i), "time_s");
		if (thresholds && time_s < past->from_s) {
			before = thresholds;
		} else if (thresholds) {
			if (before)
				take_threshold(past, past->from_s, before);
			before = NULL;
			take_threshold(past, time_s, thresholds);
		}
	}
	if (!past->learned_count) /* nothing was learned meanwhile */
		take_threshold(past, past->from_s, before ? before : field_get(engine, "thresholds"));
	take_threshold(past, past->to_s, field_get(engine, "thresholds"));
}

/* ---- all of it ---- */

static void note_time(struct past *past, uint64_t first_s, uint64_t last_s)
{
	past->from_s = MIN_OF(past->from_s, first_s);
	past->to_s = MAX_OF(past->to_s, last_s);
}

static void find_range(struct past *past, uint64_t last_s)
{
	struct json_object *samples = field_get(past->result, "samples");
	struct json_object *events = field_get(past->result, "events");
	past->from_s = UINT64_MAX;
	for (size_t i = 0; i < field_length(samples); i++) {
		uint64_t end_s = field_count(item(samples, i), "time_s");
		note_time(past, end_s - MIN_OF(end_s, field_count(item(samples, i), "span_s")), end_s);
	}
	for (size_t i = 0; i < field_length(events); i++) {
		uint64_t time_s = field_count(item(events, i), "time_s");
		note_time(past, time_s, time_s);
	}
	if (past->made_s > past->to_s && past->made_s - past->to_s < FRESH_S)
		past->to_s = past->made_s;
	past->to_s = past->to_s ? past->to_s : past->made_s;
	past->from_s = MIN_OF(past->from_s, past->to_s - MIN_OF(past->to_s, (uint64_t)RANGE_S_MIN));
	if (last_s)
		past->from_s = MAX_OF(past->from_s, past->to_s - MIN_OF(past->to_s, last_s));
}

static bool has_size(const struct past_partition *p)
{
	for (size_t i = 0; i < p->size_count; i++)
		if (p->sizes[i].blocks > 0)
			return true;
	return false;
}

static void free_partition(struct past_partition *p)
{
	free(p->sizes);
	free(p->samples);
}

static void leave_out_empty(struct past *past)
{
	size_t kept = 0;
	for (size_t i = 0; i < past->partition_count; i++) {
		if (past->partitions[i].now || has_size(&past->partitions[i]))
			past->partitions[kept++] = past->partitions[i];
		else
			free_partition(&past->partitions[i]);
	}
	past->partition_count = kept;
}

void past_load(struct past *past, struct json_object *result, uint64_t last_s)
{
	*past = (struct past){.result = result, .made_s = field_count(result, "time_s")};
	find_range(past, last_s);
	take_marks(past);
	meet_all(past);
	take_samples(past);
	for (size_t i = 0; i < past->partition_count; i++)
		follow_sizes(past, &past->partitions[i]);
	leave_out_empty(past);
	follow_pool(past);
	take_learned(past);
}

void past_free(struct past *past)
{
	for (size_t i = 0; i < past->partition_count; i++)
		free_partition(&past->partitions[i]);
	free(past->partitions);
	free(past->marks);
	free(past->learned);
	free(past->pool);
}
