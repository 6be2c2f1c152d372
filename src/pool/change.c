/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lcpfs set: limits, volume, name and behaviour of a partition that is there.
 *
 * One transaction writes all of it. Before that its size has to lie within the new limits, and after it within the
 * old ones: so first the limits are widened to both, if need be; then it is resized; then come the new ones. In
 * every state that a crash can leave, min <= size <= max.
 *
 * A volume grows in the store first. A crash in between leaves a store whose volume is longer than the pool says,
 * which nobody sees. A shorter one is the pool's matter alone; beyond its end there are no data then.
 *
 * While a name or a volume's end changes nobody else holds the partition, so what only users read needs no lock.
 */
#include <inttypes.h>
#include <stdio.h>
#include <string.h>
#include <time.h>

#include "base/text.h"
#include "base/words.h"
#include "pool/core.h"

enum {
	ROUNDS_MAX = 3, /* boundaries may move by themselves between resizing and the transaction */
	HELD_TRIES = 1000,
	HELD_US = 10000, /* how long it waits for scrubs and moves to let it go */
};

struct work {
	struct part *part;
	const struct lcpfs_partition_change *change;
	struct part_plan plan; /* the new values */
	const char *name;
	bool renames, shortens, lengthens;
	lcpfs_progress *progress;
	void *context;
	struct lcpfs_failure *failure;
};

/* -- what is asked for, and may it be? With the lock -- */

static void plan_values(struct work *w)
{
	const struct lcpfs_partition_change *change = w->change;
	const struct part *part = w->part;
	struct part_plan *plan = &w->plan;
	uint64_t metaslab_blocks = part->pool->layout.metaslab_blocks;
	*plan = (struct part_plan){
		.min = part->min_blocks / metaslab_blocks,
		.max = part->max_blocks / metaslab_blocks,
		.min_data_blocks = part->min_data_blocks,
		.max_data_blocks = part->max_data_blocks,
		.volume_bytes = change->volume_bytes ? change->volume_bytes : part->volume_bytes,
		.when_full_wait_s = change->when_full_given ? change->when_full_wait_s : part->when_full_wait_s,
		.schedule = change->schedule_given ? change->schedule : part->schedule,
	};
	if (change->min_bytes) {
		plan->min_data_blocks = size_divide_up(change->min_bytes, BLOCK_SIZE);
		plan->min = size_for_data(part->pool, plan->min_data_blocks);
	}
	if (change->max_bytes) {
		plan->max_data_blocks = size_divide_up(change->max_bytes, BLOCK_SIZE);
		plan->max = size_for_data(part->pool, plan->max_data_blocks);
	}
	/* One that is thin already may stay so, unless what is asked for makes it more so. */
	plan->may_be_thin = change->thin || (plan->volume_bytes <= part->volume_bytes &&
					     plan->max_data_blocks >= part->max_data_blocks);
	w->name = change->new_name ? change->new_name : part->name;
	w->renames = strcmp(w->name, part->name) != 0;
	w->shortens = plan->volume_bytes < part->volume_bytes;
	w->lengthens = plan->volume_bytes > part->volume_bytes;
}

static int check_values(const struct work *w)
{
	const struct part_plan *plan = &w->plan;
	const struct part *part = w->part;
	int error = 0;
	if (plan->min_data_blocks > plan->max_data_blocks)
		return failure_set(w->failure, LCPFS_E_INVALID, "min is larger than max");
	if (plan->when_full_wait_s > LCPFS_WAIT_S_MAX)
		return failure_set(w->failure, LCPFS_E_INVALID, "a writer can wait for room for up to a day");
	if (w->renames)
		error = part_check_name(part->pool, w->name, w->failure);
	if (!error)
		error = part_check_volume(plan, w->failure);
	if (!error && w->shortens) /* giving up would bring back what is beyond the new end */
		error = receive_refuse(part, w->failure);
	if (!error)
		error = part_check_min_sum(part->pool, plan->min, part, w->failure);
	if (!error && part->clients && (w->renames || w->shortens))
		error = failure_set(w->failure, LCPFS_E_BUSY,
				    "partition %s is in use by %" PRIu32
				    " client%s, who would lose %s; disconnect "
				    "first",
				    part->name, part->clients, part->clients == 1 ? "" : "s",
				    w->renames ? "its name" : "the end of its volume");
	return error;
}

/* -- a shorter volume: without the lock, closed to clients -- */

static int refuse_data(const struct work *w, uint64_t offset)
{
	char at[WORDS_ROOM];
	return failure_set(w->failure, LCPFS_E_TOO_SMALL,
			   "partition %s has data beyond the new end of its volume, at byte %" PRIu64
			   " (%s): trim that first",
			   w->part->name, offset, words_blocks(at, (double)offset / BLOCK_SIZE));
}

static int unreadable(const struct work *w, int error)
{
	return error ? failure_set(w->failure, (enum lcpfs_error) - error,
				   "partition %s: what lies beyond the new end of its volume cannot be read: %s",
				   w->part->name, lcpfs_error_sentence(error))
		     : 0;
}

/* The block that the new end cuts. */
static int check_cut_block(const struct work *w)
{
	static const uint8_t zeros[BLOCK_SIZE];
	uint64_t end = w->plan.volume_bytes, rest = size_divide_up(end, BLOCK_SIZE) * BLOCK_SIZE - end;
	uint8_t data[BLOCK_SIZE];
	int error = rest ? store_read(w->part->store, end, data, rest, w->failure) : 0;
	if (!error && memcmp(data, zeros, rest) != 0)
		return refuse_data(w, end);
	return error;
}

static int check_end(const struct work *w)
{
	uint64_t at = size_divide_up(w->plan.volume_bytes, BLOCK_SIZE) * BLOCK_SIZE;
	uint64_t end = store_volume_blocks(w->part->store) * BLOCK_SIZE;
	int error = check_cut_block(w);
	bool data = false;
	while (!error && at < end) {
		uint64_t from = at;
		error = unreadable(w, store_extent(w->part->store, at, end - at, &data, &at));
		if (!error && data)
			return refuse_data(w, from);
	}
	return error;
}

/* -- steps -- */

/* With the lock, and progress asked for without it. Until nobody but us holds it. */
static int await_alone(struct work *w)
{
	struct timespec pause = {.tv_nsec = HELD_US * 1000};
	struct lcpfs_pool *pool = w->part->pool;
	for (unsigned i = 0; w->part->users > 1; i++) {
		if (i == HELD_TRIES)
			return failure_set(w->failure, LCPFS_E_BUSY,
					   "partition %s is being scrubbed or moved; try again later",
					   w->part->name);
		pthread_mutex_unlock(&pool->lock);
		nanosleep(&pause, NULL);
		pthread_mutex_lock(&pool->lock);
	}
	return 0;
}

/* With the lock: `values` become what the pool says of it. */
static int commit(struct work *w, const struct part *values)
{
	struct txg txg;
	txg_begin(w->part->pool, &txg);
	part_fill_page(&txg, values);
	return txg_commit(&txg, w->failure);
}

static void take_values(struct part *part, const struct part *values)
{
	struct lcpfs_pool *pool = part->pool;
	memcpy(part->name, values->name, sizeof(part->name));
	part->min_blocks = values->min_blocks;
	part->max_blocks = values->max_blocks;
	part->volume_blocks = values->volume_blocks;
	part->min_data_blocks = values->min_data_blocks;
	part->max_data_blocks = values->max_data_blocks;
	part->volume_bytes = values->volume_bytes;
	part->when_full_wait_s = values->when_full_wait_s;
	part->schedule = values->schedule;
	pool->schedule_s = 0; /* looked at soon */
	books_tell_sizes(pool, LCPFS_ENGINE_BY_HAND);
	may_fail(lcpfs_engine_rename(pool->engine, part->id, part->name));
	may_fail(lcpfs_engine_set_limits(pool->engine, part->id, part->min_blocks, part->max_blocks));
	pool->changes++; /* who waits for room may find some below the new max */
	pthread_cond_broadcast(&pool->changed);
}

static int commit_limits(struct work *w, uint64_t min_blocks, uint64_t max_blocks)
{
	struct part values = *w->part;
	values.min_blocks = min_blocks;
	values.max_blocks = max_blocks;
	int error = commit(w, &values);
	if (!error)
		take_values(w->part, &values);
	return error;
}

/* With the lock, as the next two. */
static bool size_fits(const struct part *part, uint64_t min, uint64_t max)
{
	return part->metaslabs - part->releasing >= min && part->metaslabs + part->incoming <= max;
}

/* Its limits are widened so that every size from the old to the new ones is within them. */
static int widen(struct work *w)
{
	uint64_t metaslab_blocks = w->part->pool->layout.metaslab_blocks;
	uint64_t min = MIN_OF((uint64_t)w->part->min_blocks, w->plan.min * metaslab_blocks);
	uint64_t max = MAX_OF(w->part->max_blocks, w->plan.max * metaslab_blocks);
	return min == w->part->min_blocks && max == w->part->max_blocks ? 0 : commit_limits(w, min, max);
}

static uint64_t new_size(const struct work *w)
{
	return MIN_OF(MAX_OF((uint64_t)w->part->metaslabs, w->plan.min), w->plan.max);
}

static int resize_into(struct work *w)
{
	struct part *part = w->part;
	uint64_t size = new_size(w);
	pthread_mutex_unlock(&part->pool->lock);
	int error = part_resize_to(part, size, w->progress, w->context, w->failure);
	pthread_mutex_lock(&part->pool->lock);
	return error;
}

static int fit_size(struct work *w)
{
	int error = size_fits(w->part, w->plan.min, w->plan.max) ? 0 : widen(w);
	for (unsigned i = 0; !error && !size_fits(w->part, w->plan.min, w->plan.max); i++) {
		if (i == ROUNDS_MAX)
			return failure_set(w->failure, LCPFS_E_BUSY, "partition %s is being resized; try again",
					   w->part->name);
		error = resize_into(w);
	}
	return error;
}

/* Without the lock. */
static int lengthen(struct work *w)
{
	int error = store_grow_volume(w->part->store, size_divide_up(w->plan.volume_bytes, BLOCK_SIZE));
	return error ? failure_set(w->failure, (enum lcpfs_error) - error,
				   "partition %s: making its volume longer failed: %s", w->part->name,
				   lcpfs_error_sentence(error))
		     : 0;
}

/* -- the words -- */

static void say(struct text *out, const char *what, uint64_t before, uint64_t after)
{
	char was[WORDS_ROOM], is[WORDS_ROOM];
	if (before != after)
		text_append(out, ", %s %s → %s", what, words_blocks(was, (double)before),
			    words_blocks(is, (double)after));
}

static void note(struct lcpfs_pool *pool, const struct part *before, const struct part *after)
{
	char schedule[LCPFS_SNAPSHOT_SCHEDULE_TEXT];
	struct text out = TEXT_INIT;
	text_append(&out, "%s", after->name);
	if (strcmp(before->name, after->name) != 0)
		text_append(&out, ", once %s", before->name);
	say(&out, "min", before->min_data_blocks, after->min_data_blocks);
	say(&out, "max", before->max_data_blocks, after->max_data_blocks);
	say(&out, "volume", before->volume_blocks, after->volume_blocks);
	if (before->when_full_wait_s != after->when_full_wait_s)
		text_append(&out, ", when full waits %" PRIu32 " s", after->when_full_wait_s);
	if (memcmp(&before->schedule, &after->schedule, sizeof(after->schedule)) != 0) {
		lcpfs_snapshot_schedule_print(&after->schedule, schedule);
		text_append(&out, ", snapshots %s", schedule);
	}
	history_note(pool, LCPFS_EVENT_CHANGED, LCPFS_ENGINE_FREE, after->id, 0, "%s", text_get(&out));
	text_free(&out);
}

/* -- all of it -- */

static struct part values_of(const struct work *w)
{
	uint64_t metaslab_blocks = w->part->pool->layout.metaslab_blocks;
	struct part values = *w->part;
	snprintf(values.name, sizeof(values.name), "%s", w->name);
	values.min_blocks = w->plan.min * metaslab_blocks;
	values.max_blocks = w->plan.max * metaslab_blocks;
	values.volume_blocks = size_divide_up(w->plan.volume_bytes, BLOCK_SIZE);
	values.min_data_blocks = w->plan.min_data_blocks;
	values.max_data_blocks = w->plan.max_data_blocks;
	values.volume_bytes = w->plan.volume_bytes;
	values.when_full_wait_s = w->plan.when_full_wait_s;
	values.schedule = w->plan.schedule;
	return values;
}

/* With the lock. */
static int commit_all(struct work *w)
{
	struct part before = *w->part, values = values_of(w);
	struct lcpfs_pool *pool = w->part->pool;
	uint32_t events = pool->pending.count;
	note(pool, &before, &values);
	int error = commit(w, &values);
	if (error) {
		pool->pending.count = MIN_OF(pool->pending.count, events);
		return error;
	}
	take_values(w->part, &values);
	if (w->renames)
		store_set_name(w->part->store, w->part->name);
	return 0;
}

/* With the lock, which it lets go. */
static int carry_out(struct work *w)
{
	struct part *part = w->part;
	uint64_t min = part->min_blocks, max = part->max_blocks,
		 metaslab_blocks = part->pool->layout.metaslab_blocks;
	int error = fit_size(w);
	if (!error && w->lengthens) {
		pthread_mutex_unlock(&part->pool->lock);
		error = lengthen(w);
		pthread_mutex_lock(&part->pool->lock);
	}
	if (!error && part->closed_to_clients)
		error = await_alone(w);
	if (!error && w->progress && !w->progress(w->context, 0, 0))
		error = failure_set(w->failure, LCPFS_E_STOPPED,
				    "given up: nothing was changed but perhaps its size");
	if (!error && !size_fits(part, w->plan.min, w->plan.max))
		error = failure_set(w->failure, LCPFS_E_BUSY, "partition %s is being resized; try again",
				    part->name);
	if (!error)
		error = commit_all(w);
	if (error && (part->min_blocks != min || part->max_blocks != max) &&
	    size_fits(part, min / metaslab_blocks, max / metaslab_blocks)) {
		struct lcpfs_failure *why = w->failure;
		w->failure = NULL;
		may_fail(commit_limits(w, min, max));
		w->failure = why;
	}
	return error;
}

/* With the lock: what it would be. */
static void foresee(const struct work *w, struct lcpfs_partition_info *info)
{
	struct part values = values_of(w);
	uint64_t size = new_size(w);
	memcpy(info->name, values.name, sizeof(info->name));
	info->size_blocks = size * values.pool->layout.metaslab_blocks;
	info->size_data_blocks = size_data_in(values.pool, size);
	info->min_size_blocks = values.min_blocks;
	info->max_size_blocks = values.max_blocks;
	info->min_data_blocks = values.min_data_blocks;
	info->max_data_blocks = values.max_data_blocks;
	info->volume_blocks = values.volume_blocks;
	info->volume_bytes = values.volume_bytes;
	info->thin = size_is_thin(&values);
	info->when_full_wait_s = values.when_full_wait_s;
	info->schedule = values.schedule;
}

/* With the lock, which it lets go. What can be told without doing anything. */
static int check_all(struct work *w)
{
	struct part *part = w->part;
	uint64_t least = store_size_least(part->store);
	int error = check_values(w);
	char needs[WORDS_ROOM];
	if (!error && least > w->plan.max)
		error = failure_set(w->failure, LCPFS_E_TOO_SMALL,
				    "partition %s cannot get that small: with what it holds it needs %s",
				    part->name, words_blocks(needs, (double)size_data_in(part->pool, least)));
	if (!error && w->change->dry_run)
		error = part_check_resize(part, new_size(w), w->failure);
	if (error || !w->shortens)
		return error;
	pthread_mutex_unlock(&part->pool->lock);
	error = check_end(w);
	pthread_mutex_lock(&part->pool->lock);
	return error;
}

static int set(struct work *w)
{
	plan_values(w);
	w->part->closed_to_clients = w->renames || w->shortens;
	int error = check_all(w);
	if (!error && w->renames && !w->change->dry_run)
		error = clone_end_promotion(w->part, w->failure);
	if (!error && !w->change->dry_run)
		error = carry_out(w);
	w->part->closed_to_clients = false;
	return error;
}

int lcpfs_partition_set(struct lcpfs_pool *pool, const char *name, const struct lcpfs_partition_change *change,
			lcpfs_progress *progress, void *context, struct lcpfs_partition_info *info,
			struct lcpfs_failure *failure)
{
	struct work w = {.change = change, .progress = progress, .context = context, .failure = failure};
	pthread_mutex_lock(&pool->lock);
	int error = part_begin_resize(pool, name, change->dry_run, &w.part, failure);
	if (error) {
		pthread_mutex_unlock(&pool->lock);
		return error;
	}
	uint32_t before = w.part->metaslabs;
	error = set(&w);
	part_end_resize(w.part, before); /* it is still there: the lock was not let go */
	if (!error)
		info_of_part(info, w.part);
	if (!error && change->dry_run)
		foresee(&w, info);
	pthread_mutex_unlock(&pool->lock);
	return error;
}
