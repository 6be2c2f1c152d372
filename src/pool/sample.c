/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Samples: what each partition did, over weeks, for people to look at. Nothing is decided by them.
 *
 * Every ten seconds there is one of each partition that did something. They ride along when the engine is saved,
 * so a crash may cost those of a minute. They lie in the pages that are set aside for the engine and that it does
 * not need, in no order, and are added at the end of these. When the room is used up all are thinned out at once,
 * to three quarters of it: the older, the coarser.
 *
 * With the pool's lock, apart from pool_samples, which takes it.
 */
#include <inttypes.h>
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "pool/core.h"

enum {
	TAKE_US = 10 * 1000000,
	PENDING_MAX = 16384, /* while nothing can be written; beyond that new ones are dropped */
	SPARE_PAGES = 2,     /* for the engine's state to grow into */

	/* A sample may span this share of its age, between these limits; more where the room is too small. */
	AGE_PER_SPAN = 60,
	SPAN_S_MIN = 10,
	SPAN_S_MAX = 3600,
	COARSER_MAX = 1 << 12,
	AGE_S_MAX = 56 * 24 * 3600, /* eight weeks */
};

/* -- from sample to bytes and back -- */

static le32 float_put(double value)
{
	float number = (float)value;
	uint32_t bits;
	memcpy(&bits, &number, sizeof(bits));
	return le32_of(bits);
}

/* The pool is untrusted: 0 for what is no amount of anything. */
static double float_get(le32 field)
{
	uint32_t bits = le32_get(field);
	float number;
	memcpy(&number, &bits, sizeof(number));
	return number >= 0 && isfinite(number) ? (double)number : 0;
}

static void sample_encode(const struct lcpfs_pool *pool, const struct pool_sample *s, struct fmt_sample *to)
{
	*to = (struct fmt_sample){
		.time_s = le64_of(s->time_s),
		.span_s = le32_of(s->span_s),
		.partition = le32_of(s->id),
		.metaslabs = le32_of((uint32_t)(s->size_blocks / pool->layout.metaslab_blocks)),
		.live = float_put(s->live_blocks),
		.epsilon = float_put(s->epsilon),
		.written = float_put(s->written_blocks),
		.device = float_put(s->device_blocks),
	};
}

static void sample_decode(const struct lcpfs_pool *pool, const struct fmt_sample *from, struct pool_sample *s)
{
	uint32_t metaslabs = MIN_OF(le32_get(from->metaslabs), pool->layout.metaslab_count);
	uint64_t time_s = le64_get(from->time_s);
	*s = (struct pool_sample){
		.id = le32_get(from->partition),
		.span_s = MAX_OF(le32_get(from->span_s), 1u),
		.time_s = time_s > INT64_MAX ? 0 : time_s,
		.size_blocks = (uint64_t)metaslabs * pool->layout.metaslab_blocks,
		.live_blocks = float_get(from->live),
		.epsilon = float_get(from->epsilon),
		.written_blocks = float_get(from->written),
		.device_blocks = float_get(from->device),
	};
}

/* -- taking -- */

static struct fmt_sample *pending_room(struct lcpfs_pool *pool)
{
	uint32_t room = pool->samples.room ? pool->samples.room * 2 : 16;
	struct fmt_sample *list;
	if (pool->samples.count < pool->samples.room)
		return &pool->samples.list[pool->samples.count];
	if (room > PENDING_MAX || !(list = realloc(pool->samples.list, room * sizeof(*list))))
		return NULL;
	pool->samples.list = list;
	pool->samples.room = room;
	return &list[pool->samples.count];
}

/* As the engine defines it, over the span: latency × utilization × frequency. */
static double epsilon_of(double latency_us, double live, double size, double span_s)
{
	return size > 0 && span_s > 0 ? latency_us / span_s * live / size : 0;
}

/* What it did since the last time; false if that is nothing, or not known. */
static bool sample_of(struct part *part, uint32_t span_s, struct pool_sample *s)
{
	const struct clock *clock = &part->pool->clock;
	struct store_stats stats;
	store_stats(part->store, &stats);
	uint64_t operations = stats.counters.reads + stats.counters.writes + stats.counters.trims;
	uint64_t latency_us = stats.counters.read_us + stats.counters.write_us;
	bool has_changed = part->sampled.begun && (operations != part->sampled.operations ||
						   stats.counters.device_blocks != part->sampled.device ||
						   part->metaslabs != part->sampled.metaslabs);
	*s = (struct pool_sample){
		.id = part->id,
		.span_s = span_s,
		.time_s = clock->wall_s(clock->context),
		.size_blocks = part_size_blocks(part),
		.live_blocks = (double)stats.live_blocks,
		.written_blocks = (double)(stats.counters.written_blocks - part->sampled.written),
		.device_blocks = (double)(stats.counters.device_blocks - part->sampled.device),
	};
	s->epsilon = epsilon_of((double)(latency_us - part->sampled.latency_us), s->live_blocks,
				(double)s->size_blocks, span_s);
	part->sampled.operations = operations;
	part->sampled.latency_us = latency_us;
	part->sampled.written = stats.counters.written_blocks;
	part->sampled.device = stats.counters.device_blocks;
	part->sampled.metaslabs = part->metaslabs;
	part->sampled.begun = true;
	return has_changed;
}

static void take_part(struct part *part, uint32_t span_s)
{
	struct fmt_sample *place;
	struct pool_sample s;
	if (!sample_of(part, span_s, &s) || !(place = pending_room(part->pool)))
		return;
	sample_encode(part->pool, &s, place);
	part->pool->samples.count++;
}

void sample_take(struct lcpfs_pool *pool)
{
	uint64_t now_us = clock_us(&pool->clock), span_us = now_us - pool->samples.taken_us;
	if (span_us < TAKE_US && pool->samples.taken_us)
		return;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (pool->parts[slot] && pool->parts[slot]->store)
			take_part(pool->parts[slot], (uint32_t)MIN_OF(span_us / 1000000, (uint64_t)UINT32_MAX));
	}
	pool->samples.taken_us = now_us;
}

/* -- the pages -- */

/* The engine's page `i`, where it holds samples or nothing; else NULL. */
static const struct fmt_samples *page_of_samples(const struct lcpfs_pool *pool, uint32_t i)
{
	const struct fmt_samples *page = txg_current(pool, layout_engine_page(&pool->layout) + i);
	return le32_get(page->page.head.count) ? NULL : page;
}

static uint32_t count_in(const struct fmt_samples *page)
{
	return page ? MIN_OF(le32_get(page->count), (uint32_t)SAMPLES) : 0;
}

/* The first page that the engine's state is not about to need. */
static uint32_t first_page(const struct lcpfs_pool *pool)
{
	uint32_t used = pool->layout.engine_pages;
	while (used > 0 && page_of_samples(pool, used - 1))
		used--;
	return MIN_OF(used + SPARE_PAGES, pool->layout.engine_pages);
}

static struct fmt_samples *change_page(struct txg *txg, uint32_t i)
{
	return txg_change(txg, layout_engine_page(&txg->pool->layout) + i);
}

static void empty_page(struct fmt_samples *page)
{
	memset((uint8_t *)page + sizeof(page->page), 0, sizeof(*page) - sizeof(page->page));
}

/* All that are in the pages, and what is pending if there is room for so many more. */
static size_t gather(const struct lcpfs_pool *pool, struct pool_sample *list)
{
	size_t count = 0;
	for (uint32_t i = 0; i < pool->layout.engine_pages; i++) {
		const struct fmt_samples *page = page_of_samples(pool, i);
		for (uint32_t k = 0; k < count_in(page); k++)
			sample_decode(pool, &page->sample[k], &list[count++]);
	}
	for (uint32_t i = 0; i < pool->samples.count; i++)
		sample_decode(pool, &pool->samples.list[i], &list[count++]);
	return count;
}

static struct pool_sample *gather_room(const struct lcpfs_pool *pool)
{
	return calloc((size_t)pool->layout.engine_pages * SAMPLES + pool->samples.count + 1,
		      sizeof(struct pool_sample));
}

/* -- thinning out -- */

static int compare_samples(const void *a, const void *b)
{
	const struct pool_sample *x = a, *y = b;
	if (x->id != y->id)
		return x->id < y->id ? -1 : 1;
	return x->time_s < y->time_s ? -1 : x->time_s > y->time_s;
}

static int compare_ages(const void *a, const void *b)
{
	const struct pool_sample *x = a, *y = b;
	return x->time_s > y->time_s ? -1 : x->time_s < y->time_s;
}

/* A clock that was set back makes nothing young for ever. */
static uint64_t age_of(const struct pool_sample *s, uint64_t now_s)
{
	return s->time_s > now_s ? s->time_s - now_s : now_s - s->time_s;
}

static uint64_t span_allowed(const struct pool_sample *s, uint64_t now_s, uint64_t coarser)
{
	uint64_t span_s = age_of(s, now_s) / AGE_PER_SPAN;
	return MIN_OF(MAX_OF(span_s, (uint64_t)SPAN_S_MIN), (uint64_t)SPAN_S_MAX) * coarser;
}

/* From the beginning of the first to the end of the second. */
static uint64_t joint_span(const struct pool_sample *first, const struct pool_sample *second)
{
	return second->time_s - MIN_OF(first->time_s, second->time_s) + MAX_OF(first->span_s, 1u);
}

/* The second follows the first. Where nothing was measured in between, nothing happened. */
static void merge(struct pool_sample *first, const struct pool_sample *second)
{
	double span_s = (double)joint_span(first, second), both;
	both = first->epsilon * first->span_s + second->epsilon * second->span_s;
	first->epsilon = both / MAX_OF(span_s, (double)first->span_s + second->span_s);
	first->span_s = (uint32_t)span_s;
	first->time_s = second->time_s;
	first->size_blocks = second->size_blocks;
	first->live_blocks = second->live_blocks;
	first->written_blocks += second->written_blocks;
	first->device_blocks += second->device_blocks;
}

static size_t merge_neighbours(struct pool_sample *list, size_t count, uint64_t now_s, uint64_t coarser)
{
	size_t kept = 0;
	for (size_t i = 0; i < count; i++) {
		struct pool_sample *last = kept ? &list[kept - 1] : NULL;
		if (last && last->id == list[i].id &&
		    joint_span(last, &list[i]) <= span_allowed(&list[i], now_s, coarser))
			merge(last, &list[i]);
		else
			list[kept++] = list[i];
	}
	return kept;
}

static size_t drop_old(struct pool_sample *list, size_t count, uint64_t now_s)
{
	size_t kept = 0;
	for (size_t i = 0; i < count; i++) {
		if (age_of(&list[i], now_s) <= AGE_S_MAX)
			list[kept++] = list[i];
	}
	return kept;
}

size_t sample_thin(struct pool_sample *list, size_t count, size_t most, uint64_t now_s)
{
	count = drop_old(list, count, now_s);
	qsort(list, count, sizeof(*list), compare_samples);
	for (uint64_t coarser = 1; count > most && coarser <= COARSER_MAX; coarser *= 2)
		count = merge_neighbours(list, count, now_s, coarser);
	if (count <= most)
		return count;
	qsort(list, count, sizeof(*list), compare_ages); /* more partitions than room */
	return most;
}

/* -- writing -- */

static uint32_t room_left(const struct lcpfs_pool *pool)
{
	uint32_t room = 0;
	for (uint32_t i = first_page(pool); i < pool->layout.engine_pages; i++)
		room += SAMPLES - count_in(page_of_samples(pool, i));
	return room;
}

static void append(struct txg *txg, uint32_t first, const struct fmt_sample *list, uint32_t count)
{
	for (uint32_t i = first; i < txg->pool->layout.engine_pages && count; i++) {
		uint32_t used = count_in(page_of_samples(txg->pool, i)), take = MIN_OF(SAMPLES - used, count);
		if (!take)
			continue;
		struct fmt_samples *page = change_page(txg, i);
		memcpy(&page->sample[used], list, take * sizeof(*list));
		page->count = le32_of(used + take);
		list += take;
		count -= take;
	}
}

static void write_anew(struct txg *txg, const struct pool_sample *list, size_t count)
{
	struct lcpfs_pool *pool = txg->pool;
	uint32_t first = first_page(pool);
	size_t done = 0;
	for (uint32_t i = 0; i < first; i++) {
		if (count_in(page_of_samples(pool, i)))
			empty_page(change_page(txg, i));
	}
	for (uint32_t i = first; i < pool->layout.engine_pages; i++) {
		struct fmt_samples *page = change_page(txg, i);
		uint32_t take = (uint32_t)MIN_OF(count - done, (size_t)SAMPLES);
		empty_page(page);
		for (uint32_t k = 0; k < take; k++)
			sample_encode(pool, &list[done + k], &page->sample[k]);
		page->count = le32_of(take);
		done += take;
	}
}

static void thin_out(struct txg *txg)
{
	struct lcpfs_pool *pool = txg->pool;
	size_t most = (size_t)(pool->layout.engine_pages - first_page(pool)) * SAMPLES * 3 / 4, count;
	struct pool_sample *list = gather_room(pool);
	if (!list)
		return; /* the next transaction tries again */
	count = sample_thin(list, gather(pool, list), most, pool->clock.wall_s(pool->clock.context));
	write_anew(txg, list, count);
	txg->samples = pool->samples.count;
	free(list);
}

void sample_into(struct txg *txg)
{
	struct lcpfs_pool *pool = txg->pool;
	if (!pool->samples.count)
		return;
	if (pool->samples.count > room_left(pool)) {
		thin_out(txg);
	} else {
		append(txg, first_page(pool), pool->samples.list, pool->samples.count);
		txg->samples = pool->samples.count;
	}
}

void sample_written(struct lcpfs_pool *pool, const struct txg *txg)
{
	if (!txg->samples)
		return;
	pool->samples.count -= txg->samples;
	memmove(pool->samples.list, pool->samples.list + txg->samples,
		pool->samples.count * sizeof(*pool->samples.list));
}

/* -- reading -- */

static void name_them(const struct lcpfs_pool *pool, struct pool_sample *list, size_t count)
{
	const struct part *part = NULL;
	for (size_t i = 0; i < count; i++) {
		if (i == 0 || list[i].id != list[i - 1].id)
			part = part_find(pool, list[i].id);
		if (part)
			memcpy(list[i].name, part->name, sizeof(list[i].name));
	}
}

int pool_samples(struct lcpfs_pool *pool, size_t most, struct pool_sample **list, size_t *count)
{
	*count = 0;
	pthread_mutex_lock(&pool->lock);
	*list = gather_room(pool);
	if (*list) {
		*count = gather(pool, *list);
		if (*count > most)
			*count = sample_thin(*list, *count, most, pool->clock.wall_s(pool->clock.context));
		qsort(*list, *count, sizeof(**list), compare_samples);
		name_them(pool, *list, *count);
	}
	pthread_mutex_unlock(&pool->lock);
	return *list ? 0 : -LCPFS_E_NOMEM;
}

static bool makes_sense(const struct lcpfs_pool *pool, const struct fmt_sample *s)
{
	uint32_t id = le32_get(s->partition);
	return id > 0 && id < le32_get(pool->uberblock.partition_next) && le32_get(s->span_s) > 0 &&
	       le32_get(s->metaslabs) <= pool->layout.metaslab_count;
}

void sample_verify(struct lcpfs_pool *pool, struct report *report)
{
	for (uint32_t i = 0; i < pool->layout.engine_pages; i++) {
		const struct fmt_samples *page = page_of_samples(pool, i);
		bool good = !page || le32_get(page->count) <= SAMPLES;
		for (uint32_t k = 0; k < count_in(page) && good; k++)
			good = makes_sense(pool, &page->sample[k]);
		if (!good)
			report_found(report, UINT64_MAX, false,
				     "samples in page %" PRIu32 " of the engine make no sense", i);
	}
}
