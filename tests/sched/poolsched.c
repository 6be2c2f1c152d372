/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool under the scheduler: writers of several partitions that run out of room at the same time, its keeper
 * and the partitions' backgrounds, on a disk whose operations overlap and complete in any order.
 *
 * Mode need: writers write new blocks until they are refused; nobody may be refused below a max while free
 * space, or what another partition has above its min, could give one more metaslab. Mode moves: resizes by hand,
 * trims, partitions that come and go, and an engine that moves boundaries besides; everybody comes to an end,
 * and everything read is right. In both, power cuts at any step: what is left is clean.
 */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "../crash/model.h"
#include "base/hash.h"
#include "disk.h"
#include "driver.h"
#include "pool/core.h"
#include "tests/disk/simdisk.h"

#define MB (UINT64_C(1) << 20)

enum { PARTS_MAX = 5, WRITERS_MAX = 3, CHUNK = 32, METASLAB = 256, COMPARED_BLOCKS = 16 };

struct sched_part {
	char name[8];
	uint32_t min, max, size; /* metaslabs */
	uint32_t blocks;         /* of its volume */
	uint32_t held;           /* written before */
	unsigned writers;
	uint32_t *version; /* of each block, as its writer was told */
};

struct world {
	uint64_t seed;
	bool moves;
	enum lcpfs_engine_mode tune;
	struct simdisk *disk;
	struct slow_disk slow;
	struct clock clock;
	struct lcpfs_pool *pool;
	struct sched_part part[PARTS_MAX];
	unsigned parts;
	uint64_t offline_us;

	struct simimage *cut; /* of the run under way */
	uint64_t cut_step, cut_seed;
};

struct writer {
	struct world *world;
	struct sched_part *part;
	unsigned number;
	uint64_t random;
};

static uint64_t next_random(uint64_t *random, uint64_t below)
{
	return hash_mix((*random)++) % below;
}

static uint64_t world_now_us(void *context)
{
	struct world *w = context;
	if (!sched_is_running())
		return ++w->offline_us;
	sched_point();
	return sched_now_us();
}

static uint64_t world_wall_s(void *context)
{
	(void)context;
	return 1700000000;
}

static bool is_over(const struct world *w)
{
	return w->cut != NULL;
}

/* -- beginnings -- */

static void bind(struct world *w, struct simdisk *disk, uint64_t seed)
{
	w->disk = disk;
	slow_disk_init(&w->slow, disk, seed);
	w->clock = (struct clock){world_now_us, world_wall_s, w};
}

static void must_open(struct world *w, bool background)
{
	struct lcpfs_open_options options = {
		.background = background, .cache_bytes = 4 * MB, .tune_given = true, .tune = w->tune};
	struct lcpfs_failure failure = {0};
	if (pool_open_vdev(&w->slow.vdev, &w->clock, &options, &w->pool, &failure))
		sched_fail("it does not open: %s", failure.message);
}

static int add_part(struct world *w, const struct sched_part *p, struct lcpfs_failure *failure)
{
	struct lcpfs_partition_spec spec = {.thin = true,
					    .name = p->name,
					    .min_bytes = p->min * MB,
					    .max_bytes = p->max * MB,
					    .size_bytes = p->size * MB,
					    .volume_bytes = (uint64_t)p->blocks * BLOCK_SIZE};
	return pool_add_of_space(w->pool, &spec, failure);
}

static int write_new(struct world *w, struct sched_part *p, struct lcpfs_partition *handle, uint32_t first,
		     uint32_t count, struct lcpfs_failure *failure)
{
	uint8_t *data = malloc(count * (size_t)BLOCK_SIZE);
	(void)w;
	CHECK(data);
	for (uint32_t i = 0; i < count; i++)
		content_fill(data + (size_t)i * BLOCK_SIZE, first + i, 1);
	int error = lcpfs_volume_write(handle, (uint64_t)first * BLOCK_SIZE, data, (size_t)count * BLOCK_SIZE,
				       false, failure);
	free(data);
	for (uint32_t i = 0; i < count; i++)
		p->version[first + i] = error ? 2 : 1; /* 2: the old or the new one */
	return error;
}

static struct lcpfs_partition *handle_of(struct world *w, const struct sched_part *p)
{
	struct lcpfs_partition *handle = NULL;
	struct lcpfs_failure failure;
	if (lcpfs_partition_open(w->pool, p->name, &handle, &failure) && !w->moves && !is_over(w))
		sched_fail("%s: %s", p->name, failure.message);
	return handle;
}

/* Some are full, some have room, some hold nothing; sizes and limits are drawn so that all fit. */
static void draw_parts(struct world *w, uint64_t *random, uint32_t metaslabs)
{
	uint32_t left = metaslabs;
	w->parts = 2 + (unsigned)next_random(random, PARTS_MAX - 1);
	w->parts = MIN_OF(w->parts, metaslabs / (STORE_METASLABS_MIN + 1));
	for (unsigned i = 0; i < w->parts; i++) {
		struct sched_part *p = &w->part[i];
		uint32_t others = (w->parts - i - 1) * STORE_METASLABS_MIN;
		uint32_t most = MIN_OF(left - others, 2 * metaslabs / w->parts);
		snprintf(p->name, sizeof(p->name), "p%u", i);
		p->size = STORE_METASLABS_MIN + (uint32_t)next_random(random, most - STORE_METASLABS_MIN + 1);
		p->min = STORE_METASLABS_MIN + (uint32_t)next_random(random, p->size - STORE_METASLABS_MIN + 1);
		p->max = p->size + (uint32_t)next_random(random, metaslabs / 2);
		p->writers = next_random(random, 3) ? 1 + (unsigned)next_random(random, WRITERS_MAX) : 0;
		p->blocks = MAX_OF(p->max, p->size + 4) * METASLAB;
		p->held = (uint32_t)next_random(random, 3) * p->size * METASLAB / 4;
		p->version = calloc(p->blocks, sizeof(*p->version));
		CHECK(p->version);
		left -= p->size;
	}
	w->part[0].writers = MAX_OF(w->part[0].writers, 1u);
}

static void hold_some(struct world *w, struct sched_part *p)
{
	struct lcpfs_partition *handle = handle_of(w, p);
	bool full = false;
	for (uint32_t b = 0; b + CHUNK <= p->held && !full; b += CHUNK)
		full = write_new(w, p, handle, b, CHUNK, NULL) != 0;
	if (lcpfs_volume_flush(handle, NULL))
		sched_fail("flush");
	lcpfs_partition_close(handle);
}

static void *prepare(const struct sched_options *options, uint64_t seed)
{
	struct world *w = calloc(1, sizeof(*w));
	uint64_t random = hash_mix(seed) ^ 3;
	uint32_t metaslabs = 24 + (uint32_t)next_random(&random, 24);
	struct lcpfs_create_options create = {.metaslab_bytes = MB};
	struct lcpfs_failure failure = {0};
	CHECK(w);
	w->seed = seed;
	w->moves = strcmp(options->mode, "moves") == 0;
	w->tune = w->moves ? LCPFS_ENGINE_ON : (enum lcpfs_engine_mode)next_random(&random, 2);
	struct simimage *image = simimage_new((metaslabs + 4) * MB);
	bind(w, simdisk_new(image, SIMDISK_DISCARD_GARBAGE), seed);
	simimage_free(image);
	if (pool_create_vdev(&w->slow.vdev, &w->clock, &create, seed + 1, &failure))
		sched_fail("create: %s", failure.message);
	must_open(w, false);
	draw_parts(w, &random, w->pool->layout.metaslab_count);
	for (unsigned i = 0; i < w->parts; i++) {
		if (add_part(w, &w->part[i], &failure))
			sched_fail("add: %s", failure.message);
	}
	for (unsigned i = 0; i < w->parts; i++)
		hold_some(w, &w->part[i]);
	if (lcpfs_pool_close(w->pool, &failure))
		sched_fail("close: %s", failure.message);
	w->pool = NULL;
	return w;
}

/* -- who was refused -- */

/* Could it give a metaslab? */
static bool could_give(const struct part *part)
{
	uint64_t left = (uint64_t)part->metaslabs - 1;
	return left >= STORE_METASLABS_MIN && left * METASLAB >= part->min_blocks &&
	       store_size_least(part->store) <= left;
}

/*
 * In mode need only writers change anything, so what is there now was there when it was refused. But for what
 * those have who want more themselves: it went to and fro.
 */
static void check_refusal(struct world *w, const struct sched_part *p)
{
	struct lcpfs_pool *pool = w->pool;
	sched_counts->refused++;
	if (w->moves || is_over(w))
		return;
	pthread_mutex_lock(&pool->lock);
	const struct part *part = part_named(pool, p->name);
	bool at_max = (uint64_t)(part->metaslabs + 1) * METASLAB > part->max_blocks;
	if (!at_max && pool->free_metaslabs)
		sched_fail("%s is refused with %" PRIu32 " metaslabs free", p->name, pool->free_metaslabs);
	for (unsigned i = 0; i < w->parts && !at_max; i++) {
		const struct part *other = part_named(pool, w->part[i].name);
		if (other != part && !w->part[i].writers && could_give(other))
			sched_fail("%s is refused while %s has %" PRIu32 " metaslabs, and needs %" PRIu32, p->name,
				   other->name, other->metaslabs, store_size_least(other->store));
	}
	struct store_stats stats;
	store_stats(part->store, &stats);
	uint32_t least = store_size_least(part->store);
	pthread_mutex_unlock(&pool->lock);
	if (least + 2 < stats.metaslabs) /* what it holds, and a block with its pages, fit into one or two less */
		sched_fail("%s is refused with %" PRIu64 " live in %" PRIu32 " metaslabs", p->name,
			   stats.live_blocks, stats.metaslabs);
}

/* -- those who write -- */

static void trim_some(struct writer *t, struct lcpfs_partition *handle, uint32_t first, uint32_t end)
{
	uint32_t at = first + (uint32_t)next_random(&t->random, end - first - CHUNK);
	if (lcpfs_volume_trim(handle, (uint64_t)at * BLOCK_SIZE, CHUNK * BLOCK_SIZE, false, NULL) &&
	    !is_over(t->world))
		sched_fail("trim");
	for (uint32_t b = at; b < at + CHUNK; b++)
		t->part->version[b] = 0;
}

/* Each writes a part of the volume, in order, until it is refused. */
static void run_writer(void *context)
{
	struct writer *t = context;
	struct world *w = t->world;
	struct sched_part *p = t->part;
	struct lcpfs_partition *handle = handle_of(w, p);
	uint32_t share = (p->blocks - p->held) / p->writers / CHUNK * CHUNK;
	uint32_t first = p->held + t->number * share, left = 40 + (uint32_t)next_random(&t->random, 100);
	int error = 0;
	for (uint32_t b = first; handle && b + CHUNK <= first + share && left && !error && !is_over(w);
	     b += CHUNK, left--) {
		struct lcpfs_failure failure = {0};
		sched_counts->operations++;
		error = write_new(w, p, handle, b, CHUNK, &failure);
		if (error && error != -LCPFS_E_NOSPC && !is_over(w))
			sched_fail("%s: %s", p->name, failure.message);
		if (error == -LCPFS_E_NOSPC)
			check_refusal(w, p);
		if (w->moves && b > first + 2 * CHUNK && next_random(&t->random, 4) == 0)
			trim_some(t, handle, first, b);
		if (next_random(&t->random, 16) == 0 && lcpfs_volume_flush(handle, NULL) && !is_over(w))
			sched_fail("flush");
		error = w->moves ? 0 : error;
	}
	lcpfs_partition_close(handle);
}

/* -- mode moves: those who move boundaries -- */

static void run_resizes(void *context)
{
	struct world *w = context;
	uint64_t random = hash_mix(w->seed + 5);
	for (int i = 0; i < 6 && !is_over(w); i++) {
		struct sched_part *p = &w->part[next_random(&random, w->parts)];
		uint64_t bytes = (p->min + next_random(&random, p->max - p->min + 1)) * MB;
		struct lcpfs_failure failure = {0};
		int error = pool_resize_to_space(w->pool, p->name, bytes, NULL, NULL, &failure);
		if (error && error != -LCPFS_E_NOSPC && error != -LCPFS_E_TOO_SMALL && error != -LCPFS_E_BUSY &&
		    error != -LCPFS_E_INVALID && !is_over(w))
			sched_fail("resize: %s", failure.message);
	}
}

static void run_visitor(void *context)
{
	struct world *w = context;
	struct sched_part p = {
		.name = "visit", .min = STORE_METASLABS_MIN, .max = 12, .size = 8, .blocks = 12 * METASLAB};
	for (int i = 0; i < 3 && !is_over(w); i++) {
		struct lcpfs_failure failure = {0};
		int error = add_part(w, &p, &failure);
		if (error && error != -LCPFS_E_NOSPC && !is_over(w))
			sched_fail("add: %s", failure.message);
		if (!error && lcpfs_partition_remove(w->pool, p.name, &failure) && !is_over(w))
			sched_fail("remove: %s", failure.message);
	}
}

/* -- a run -- */

static void stuck(const char *text)
{
	sched_fail("%s", text);
}

static void at_step(void *context, uint64_t step)
{
	struct world *w = context;
	if (step < w->cut_step || !w->pool || w->cut)
		return;
	w->cut = slow_disk_cut(&w->slow, w->cut_seed);
	sched_counts->cuts++;
}

static void run_all(void *context)
{
	struct world *w = context;
	struct writer writer[PARTS_MAX * WRITERS_MAX];
	struct sched_fiber *fiber[PARTS_MAX * WRITERS_MAX + 2];
	unsigned writers = 0, fibers = 0;
	struct lcpfs_failure failure = {0};
	must_open(w, true);
	for (unsigned i = 0; i < w->parts; i++) {
		for (unsigned k = 0; k < w->part[i].writers; k++, writers++) {
			writer[writers] = (struct writer){.world = w,
							  .part = &w->part[i],
							  .number = k,
							  .random = hash_mix(w->seed * 64 + writers)};
			fiber[fibers++] = sched_spawn(run_writer, &writer[writers]);
		}
	}
	if (w->moves)
		fiber[fibers++] = sched_spawn(run_resizes, w);
	if (w->moves)
		fiber[fibers++] = sched_spawn(run_visitor, w);
	while (fibers)
		sched_join(fiber[--fibers]);
	struct lcpfs_pool *pool = w->pool;
	w->pool = NULL;
	if (lcpfs_pool_close(pool, &failure) && !is_over(w))
		sched_fail("close: %s", failure.message);
}

static void print_finding(void *context, const struct lcpfs_finding *finding)
{
	(void)context;
	fprintf(stderr, "  finding: %s: %s\n", finding->partition, finding->text);
}

static void must_be_clean(struct world *w)
{
	struct lcpfs_care care = {.data = true, .found = print_finding};
	struct lcpfs_failure failure = {0};
	if (pool_check_vdev(&w->slow.vdev, &w->clock, &care, &failure))
		sched_fail("check did not run: %s", failure.message);
	if (care.damaged)
		sched_fail("check finds %" PRIu64, care.damaged);
}

static void compare_block(const struct sched_part *p, uint32_t block, int64_t version)
{
	sched_counts->compared_blocks++;
	if (version < 0 || (p->version[block] != 2 && version != p->version[block]))
		sched_fail("%s: block %" PRIu32 " reads as %" PRId64 ", not %" PRIu32, p->name, block, version,
			   p->version[block]);
}

/* What lies side by side, holes or data, at once. Of a hole it is enough that it is one: it has version 0. */
static uint32_t compare_extent(struct sched_part *p, struct lcpfs_partition *handle, uint32_t first)
{
	uint8_t data[COMPARED_BLOCKS * BLOCK_SIZE];
	uint64_t at = (uint64_t)first * BLOCK_SIZE, end;
	uint64_t most = MIN_OF(p->blocks - first, (uint32_t)COMPARED_BLOCKS) * (uint64_t)BLOCK_SIZE;
	bool is_data;
	if (lcpfs_volume_extent(handle, at, most, &is_data, &end) ||
	    (is_data && lcpfs_volume_read(handle, at, data, (size_t)(end - at), NULL)))
		sched_fail("%s: block %" PRIu32 " or one behind it cannot be read", p->name, first);
	uint32_t count = (uint32_t)((end - at) / BLOCK_SIZE);
	for (uint32_t i = 0; i < count; i++)
		compare_block(p, first + i,
			      is_data ? content_version(data + (size_t)i * BLOCK_SIZE, first + i) : 0);
	return count;
}

static void compare_part(struct world *w, struct sched_part *p)
{
	struct lcpfs_partition *handle = handle_of(w, p);
	for (uint32_t b = 0; b < p->blocks;)
		b += compare_extent(p, handle, b);
	lcpfs_partition_close(handle);
}

static void check_sizes(struct world *w)
{
	struct lcpfs_partition_info list[PARTS_MAX + 1];
	struct lcpfs_pool_info info;
	size_t count;
	if (lcpfs_pool_get_info(w->pool, &info) || lcpfs_pool_list(w->pool, list, PARTS_MAX + 1, &count))
		sched_fail("it cannot be listed");
	uint64_t sum = info.free_blocks;
	for (size_t i = 0; i < count; i++) {
		sum += list[i].size_blocks;
		if (list[i].size_blocks < list[i].min_size_blocks ||
		    list[i].size_blocks > list[i].max_size_blocks || list[i].live_blocks > list[i].size_blocks ||
		    list[i].faulted)
			sched_fail("%s: size %" PRIu64 ", min %" PRIu64 ", max %" PRIu64 "%s", list[i].name,
				   list[i].size_blocks, list[i].min_size_blocks, list[i].max_size_blocks,
				   list[i].faulted ? ", faulted" : "");
	}
	if (sum != info.size_blocks)
		sched_fail("sizes and free space make %" PRIu64 " of %" PRIu64, sum, info.size_blocks);
}

static void end_cut(struct world *w, uint64_t seed)
{
	simdisk_free(w->disk);
	bind(w, simdisk_new(w->cut, SIMDISK_DISCARD_GARBAGE), seed);
	simimage_free(w->cut);
}

static void copy_versions(struct world *to, const struct world *from)
{
	for (unsigned i = 0; i < from->parts; i++) {
		size_t bytes = from->part[i].blocks * sizeof(uint32_t);
		to->part[i].version = malloc(bytes);
		CHECK(to->part[i].version);
		memcpy(to->part[i].version, from->part[i].version, bytes);
	}
}

static void run(void *prepared, const struct schedule *schedule)
{
	const struct world *start = prepared;
	struct world w = *start;
	struct sched_plan plan = schedule->plan;
	copy_versions(&w, start);
	bind(&w, simdisk_new(simdisk_content(start->disk), SIMDISK_DISCARD_GARBAGE), schedule->seed);
	w.cut_step = schedule->cut_step;
	w.cut_seed = schedule->seed;
	plan.at_step = at_step;
	plan.context = &w;
	sched_run(&plan, run_all, &w, schedule->trace, stuck);
	bool cut = is_over(&w);
	if (cut)
		end_cut(&w, schedule->seed);
	must_be_clean(&w);
	w.cut = NULL;
	must_open(&w, false);
	check_sizes(&w);
	for (unsigned i = 0; i < w.parts && !cut; i++)
		compare_part(&w, &w.part[i]);
	pool_abandon(w.pool);
	for (unsigned i = 0; i < w.parts; i++)
		free(w.part[i].version);
	simdisk_free(w.disk);
}

int main(int argc, char **argv)
{
	static const struct sched_test test = {
		.name = "poolsched", .modes = "need moves", .prepare = prepare, .run = run};
	return sched_main(&test, argc, argv);
}
