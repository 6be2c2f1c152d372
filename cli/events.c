/* SPDX-License-Identifier: Apache-2.0 */
/*
 * One thread looks and queues, the other takes from the queue and runs the program, one event at a time.
 *
 * The same event of the same partition is told at most once a minute; how often it was held back is told with the
 * next one. When the program is so slow that the queue is full, new events are dropped and counted.
 */
#include "events.h"

#include <json-c/json.h>
#include <pthread.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "control/describe.h"
#include "control/field.h"
#include "journal.h"
#include "program.h"

enum {
	QUEUE_MAX = 64,
	EVENTS_AT_ONCE = 64, /* of the pool's history, taken in one look */
	TOLD_MAX = 256,      /* kinds of partitions whose last time is known */
	PAUSE_S = 60,        /* between two of the same kind and partition */
	HOOK_S_MAX = 30,
	CALM_PERCENT = 5, /* below the alarm level, until it is told again */
	STUCK_S = 600,
};

struct told {
	char what[32], partition[LCPFS_NAME_MAX + 1];
	uint64_t when_us;
	uint64_t held_back;
};

/* What was seen of a partition the last time. */
struct seen {
	uint32_t id;
	uint64_t no_space, errors;
	bool is_full;
};

struct events {
	struct events_options options;
	struct lcpfs_identity identity;
	int stop_fd;
	pthread_t looker, runner;
	bool has_looker;

	/* the looker's */
	uint64_t history; /* number of the newest event that was seen */
	struct seen *seen;
	size_t seen_count;
	unsigned alarm_percent;
	bool pool_is_full, is_stuck;
	enum lcpfs_health health;
	struct told told[TOLD_MAX];
	size_t told_count;

	pthread_mutex_t lock; /* of the queue */
	pthread_cond_t changed;
	struct json_object *queue[QUEUE_MAX];
	size_t queued;
	uint64_t dropped;
	bool looking_ends, running_ends;
};

/* ---- telling ---- */

static struct told *told_of(struct events *e, const char *what, const char *partition)
{
	struct told *oldest = &e->told[0];
	for (size_t i = 0; i < e->told_count; i++) {
		if (!strcmp(e->told[i].what, what) && !strcmp(e->told[i].partition, partition))
			return &e->told[i];
		if (e->told[i].when_us < oldest->when_us)
			oldest = &e->told[i];
	}
	if (e->told_count < TOLD_MAX)
		oldest = &e->told[e->told_count++];
	*oldest = (struct told){0};
	snprintf(oldest->what, sizeof(oldest->what), "%s", what);
	snprintf(oldest->partition, sizeof(oldest->partition), "%s", partition);
	return oldest;
}

/* May it be told now? Counts it if not. */
static bool is_due(struct told *told)
{
	uint64_t now_us = clock_us(&clock_system);
	if (told->when_us && now_us - told->when_us < PAUSE_S * UINT64_C(1000000)) {
		told->held_back++;
		return false;
	}
	told->when_us = now_us;
	return true;
}

static void enqueue(struct events *e, struct json_object *object)
{
	pthread_mutex_lock(&e->lock);
	if (e->queued < QUEUE_MAX) {
		field_put_count(object, "dropped", e->dropped);
		e->dropped = 0;
		e->queue[e->queued++] = object;
		pthread_cond_broadcast(&e->changed);
	} else {
		e->dropped++;
		json_object_put(object);
	}
	pthread_mutex_unlock(&e->lock);
}

struct event {
	const char *what;
	int priority;
	const char *partition; /* "": the pool's own */
	const char *text;
	struct json_object *history; /* the event of the pool's history that it is about, or NULL; taken over */
};

static void tell_journal(const struct events *e, const struct event *event)
{
	char guid[17];
	struct journal_field fields[] = {
		{"LCPFS_EVENT", event->what},
		{"LCPFS_POOL", e->options.pool_path},
		{"LCPFS_GUID", guid},
		{"LCPFS_PARTITION", event->partition},
		{NULL, NULL},
	};
	snprintf(guid, sizeof(guid), "%016llx", (unsigned long long)e->identity.guid);
	if (journal_is_there())
		journal_send(event->priority, event->text, fields);
}

static void tell(struct events *e, const struct event *event)
{
	struct told *told = told_of(e, event->what, event->partition);
	if (!is_due(told)) {
		json_object_put(event->history);
		return;
	}
	tell_journal(e, event);
	struct json_object *object = json_object_new_object();
	field_put_text(object, "event", event->what);
	field_put_count(object, "time_s", (uint64_t)time(NULL));
	field_put_text(object, "pool", e->options.pool_path);
	field_put_id(object, "guid", e->identity.guid);
	field_put_text(object, "partition", event->partition);
	field_put_text(object, "text", event->text);
	field_put_count(object, "held_back", told->held_back);
	if (event->history)
		field_put(object, "history", event->history);
	told->held_back = 0;
	if (e->options.hook)
		enqueue(e, object);
	else
		json_object_put(object);
}

static void PRINTF_LIKE(5, 6) tell_text(struct events *e, const char *what, int priority, const char *partition,
					const char *format, ...)
{
	struct event event = {.what = what, .priority = priority, .partition = partition};
	char text[512];
	va_list arguments;
	va_start(arguments, format);
	vsnprintf(text, sizeof(text), format, arguments);
	va_end(arguments);
	event.text = text;
	tell(e, &event);
}

/* ---- looking ---- */

/* NULL: nobody needs to hear of it. */
static const char *history_event(const struct lcpfs_event *event, int *priority)
{
	*priority = JOURNAL_INFO;
	switch (event->kind) {
	case LCPFS_EVENT_MOVED:
		return event->reason == LCPFS_ENGINE_UNDO ? "undone" : "moved";
	case LCPFS_EVENT_DAMAGE:
		*priority = JOURNAL_ERROR;
		return "damage";
	case LCPFS_EVENT_HOST:
		*priority = JOURNAL_ERROR;
		return "host";
	default:
		return NULL;
	}
}

static void tell_history(struct events *e, const struct lcpfs_event *h)
{
	struct event event = {.partition = h->to_name[0] ? h->to_name : h->from_name, .text = h->text};
	event.what = history_event(h, &event.priority);
	if (!event.what)
		return;
	event.history = describe_event(h);
	tell(e, &event);
}

static void look_at_history(struct events *e)
{
	struct lcpfs_event list[EVENTS_AT_ONCE];
	size_t count;
	if (lcpfs_pool_events(e->options.pool, e->history, list, EVENTS_AT_ONCE, &count))
		return;
	for (size_t i = 0; i < count; i++) {
		e->history = list[i].number;
		tell_history(e, &list[i]);
	}
}

static struct seen *seen_of(struct events *e, uint32_t id)
{
	for (size_t i = 0; i < e->seen_count; i++)
		if (e->seen[i].id == id)
			return &e->seen[i];
	struct seen *longer = realloc(e->seen, (e->seen_count + 1) * sizeof(*longer));
	CHECK(longer);
	e->seen = longer;
	e->seen[e->seen_count] = (struct seen){.id = id};
	return &e->seen[e->seen_count++];
}

/* Told when it gets there; again only after it was well below. */
static bool gets_full(const struct events *e, uint64_t used, uint64_t room, bool *is_full)
{
	double percent = room ? 100 * (double)used / (double)room : 0;
	bool was_full = *is_full;
	*is_full = percent >= e->alarm_percent - (was_full ? CALM_PERCENT : 0);
	return *is_full && !was_full;
}

static void look_at_errors(struct events *e, const struct lcpfs_partition_info *p, struct seen *seen)
{
	struct lcpfs_iostat io;
	uint64_t no_space = 0, errors = 0;
	if (lcpfs_partition_get_iostat(e->options.pool, p->name, &io, NULL))
		return;
	for (unsigned i = 0; i < LCPFS_OPERATIONS; i++) {
		no_space += io.operation[i].no_space;
		errors += io.operation[i].errors - io.operation[i].no_space;
	}
	if (no_space > seen->no_space)
		tell_text(e, "no_space", JOURNAL_ERROR, p->name,
			  "%s: a client was refused for want of space", p->name);
	if (errors > seen->errors)
		tell_text(e, "io_error", JOURNAL_CRITICAL, p->name, "%s: a client's operation failed", p->name);
	seen->no_space = no_space;
	seen->errors = errors;
}

static void look_at_partitions(struct events *e, uint64_t pool_blocks)
{
	struct describe_partitions partitions;
	uint64_t live = 0;
	if (describe_partitions_load(&partitions, e->options.pool))
		return;
	for (size_t i = 0; i < partitions.count; i++) {
		const struct lcpfs_partition_info *p = &partitions.list[i];
		struct seen *seen = seen_of(e, p->id);
		live += p->live_blocks;
		if (gets_full(e, p->data_blocks, p->max_data_blocks, &seen->is_full))
			tell_text(e, "full", JOURNAL_WARNING, p->name, "%s is %.0f %% full, of its maximum size",
				  p->name, 100 * (double)p->data_blocks / (double)p->max_data_blocks);
		look_at_errors(e, p, seen);
	}
	if (gets_full(e, live, pool_blocks, &e->pool_is_full))
		tell_text(e, "full", JOURNAL_WARNING, "", "the pool is %.0f %% full",
			  100 * (double)live / (double)pool_blocks);
	describe_partitions_free(&partitions);
}

static void look_at_engine(struct events *e)
{
	struct lcpfs_engine_decision d;
	bool was_stuck = e->is_stuck;
	if (lcpfs_pool_explain(e->options.pool, NULL, &d, NULL))
		return;
	e->is_stuck = d.mode == LCPFS_ENGINE_ON && d.reason == LCPFS_ENGINE_NO_ROOM &&
		      d.now_us - d.since_us > STUCK_S * UINT64_C(1000000);
	if (e->is_stuck && !was_stuck)
		tell_text(e, "stuck", JOURNAL_WARNING, "", "%.400s", d.sentence);
}

static void look(struct events *e)
{
	struct lcpfs_pool_info pool;
	look_at_history(e);
	if (lcpfs_pool_get_info(e->options.pool, &pool))
		return;
	if (pool.health != e->health)
		tell_text(e, "health", pool.health == LCPFS_HEALTH_ONLINE ? JOURNAL_INFO : JOURNAL_CRITICAL, "",
			  "%.450s", pool.health_text[0] ? pool.health_text : "the pool is well again");
	e->health = pool.health;
	e->alarm_percent = property_alarm_percent(e->options.service, &pool.settings);
	look_at_partitions(e, pool.size_blocks);
	look_at_engine(e);
}

static void *looker_main(void *context)
{
	struct events *e = context;
	struct timespec until;
	pthread_mutex_lock(&e->lock);
	while (!e->looking_ends) {
		pthread_mutex_unlock(&e->lock);
		look(e);
		clock_gettime(CLOCK_MONOTONIC, &until);
		until.tv_sec++;
		pthread_mutex_lock(&e->lock);
		while (!e->looking_ends &&
		       !pthread_cond_clockwait(&e->changed, &e->lock, CLOCK_MONOTONIC, &until))
			;
	}
	pthread_mutex_unlock(&e->lock);
	look(e); /* the last news */
	return NULL;
}

/* ---- the program ---- */

static void run_hook(struct events *e, struct json_object *object)
{
	struct lcpfs_failure failure;
	char *line;
	CHECK(asprintf(&line, "%s\n", field_line(object)) >= 0);
	if (program_feed(e->options.hook, line, HOOK_S_MAX, e->stop_fd, &failure))
		fprintf(stderr, "lcpfs: hook: %s\n", failure.message);
	free(line);
	json_object_put(object);
}

/* What is queued at the end is still told, each with a moment's time. */
static void *runner_main(void *context)
{
	struct events *e = context;
	pthread_mutex_lock(&e->lock);
	while (!e->running_ends || e->queued) {
		if (!e->queued) {
			pthread_cond_wait(&e->changed, &e->lock);
			continue;
		}
		struct json_object *object = e->queue[0];
		memmove(&e->queue[0], &e->queue[1], --e->queued * sizeof(e->queue[0]));
		pthread_mutex_unlock(&e->lock);
		run_hook(e, object);
		pthread_mutex_lock(&e->lock);
	}
	pthread_mutex_unlock(&e->lock);
	return NULL;
}

/* ---- beginning and end ---- */

/* What happened before is nobody's news; what is bad now is. */
static void skip_history(struct events *e)
{
	struct lcpfs_event last;
	size_t count;
	if (!lcpfs_pool_events(e->options.pool, 0, &last, 1, &count) && count)
		e->history = last.number;
}

int events_start(const struct events_options *options, struct events **events, struct lcpfs_failure *failure)
{
	struct events *e = calloc(1, sizeof(*e));
	*events = e;
	if (!e)
		return failure_set(failure, LCPFS_E_NOMEM, "%s", lcpfs_error_sentence(LCPFS_E_NOMEM));
	e->options = *options;
	e->health = LCPFS_HEALTH_ONLINE;
	lcpfs_pool_get_identity(options->pool, &e->identity);
	skip_history(e);
	pthread_mutex_init(&e->lock, NULL);
	pthread_cond_init(&e->changed, NULL);
	e->stop_fd = eventfd(0, EFD_CLOEXEC);
	if (e->stop_fd >= 0 && !pthread_create(&e->runner, NULL, runner_main, e)) {
		e->has_looker = !pthread_create(&e->looker, NULL, looker_main, e);
		if (e->has_looker)
			return 0;
		events_stop(e);
	} else {
		free(e);
	}
	*events = NULL;
	return failure_set(failure, LCPFS_E_SYSTEM, "no thread for --hook");
}

/* Everybody is woken by the one condition there is. */
static void end_thread(struct events *e, pthread_t thread, bool *flag)
{
	pthread_mutex_lock(&e->lock);
	*flag = true;
	pthread_cond_broadcast(&e->changed);
	pthread_mutex_unlock(&e->lock);
	pthread_join(thread, NULL);
}

void events_stop(struct events *e)
{
	if (!e)
		return;
	if (e->has_looker)
		end_thread(e, e->looker, &e->looking_ends);
	eventfd_write(e->stop_fd, 1);
	end_thread(e, e->runner, &e->running_ends);
	close(e->stop_fd);
	pthread_mutex_destroy(&e->lock);
	pthread_cond_destroy(&e->changed);
	free(e->seen);
	free(e);
}
