/* SPDX-License-Identifier: Apache-2.0 */
/* The operations of a run, and how what they did is compared with the models. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "poolsim.h"
#include "store/state.h"

#define MB (UINT64_C(1) << 20)

enum { POOL_MB = 44, DISK_MB = 60, MARK_BLOCKS = 4 };

static uint64_t sim_now_us(void *context)
{
	return ++((struct pool_run *)context)->now_us;
}

static uint64_t sim_wall_s(void *context)
{
	return 1700000000 + ((struct pool_run *)context)->now_us / 1000000;
}

uint64_t pool_random(struct pool_run *r, uint64_t n)
{
	return hash_mix(r->random++) % n;
}

/* -- beginning and ending -- */

static void bind(struct pool_run *r)
{
	r->clock = (struct clock){sim_now_us, sim_wall_s, r};
	alloc_front_init(&r->front, simdisk_vdev(r->disk));
	r->sparse.behind = simdisk_vdev(r->disk);
	r->vdev = r->host ? &r->sparse.vdev : &r->front.vdev;
	r->vdev->size_bytes = r->device_bytes;
}

void pool_run_use(struct pool_run *r, struct simdisk *disk)
{
	simdisk_free(r->disk);
	r->disk = disk;
	bind(r);
}

void pool_faults_end(struct pool_run *r)
{
	simdisk_clear_faults(r->disk);
	alloc_work();
}

void pool_run_init(struct pool_run *r, const struct sim_options *options, uint64_t seed)
{
	struct simimage *image = simimage_new(DISK_MB * MB);
	struct lcpfs_create_options create = {0};
	*r = (struct pool_run){.options = options,
			       .seed = seed,
			       .random = hash_mix(seed),
			       .now_us = 1000000,
			       .device_bytes = POOL_MB * MB,
			       .next_version = 1,
			       .snapshots = strncmp(options->mode, "snap", 4) == 0,
			       .host = strcmp(options->mode, "host") == 0};
	r->disk = simdisk_new(image, SIMDISK_DISCARD_GARBAGE);
	simimage_free(image);
	if (r->host)
		sparse_init(&r->sparse, simdisk_vdev(r->disk), POOL_MB * MB / BLOCK_SIZE);
	r->sparse.fail = sim_fail;
	bind(r);
	for (unsigned i = 0; i < PARTS; i++) {
		snprintf(r->part[i].name, sizeof(r->part[i].name), "p%u", i);
		model_init(&r->part[i].model, VOLUME_BLOCKS);
	}
	if (pool_create_vdev(r->vdev, &r->clock, &create, seed + 1, &r->failure))
		sim_fail("create: %s", r->failure.message);
	pool_must_open(r);
}

void pool_run_fork(struct pool_run *to, const struct pool_run *from, const struct simimage *image, uint64_t seed)
{
	*to = *from;
	for (unsigned i = 0; i < PARTS; i++) {
		model_copy(&to->part[i].model, &from->part[i].model);
		snaps_copy(&to->part[i], &from->part[i]);
	}
	to->random = seed;
	to->after_cut = true;
	to->pool = NULL;
	to->disk = simdisk_new(image, (enum simdisk_discard)(seed % 3));
	if (from->host)
		sparse_copy(&to->sparse, &from->sparse, simdisk_vdev(to->disk));
	bind(to);
}

void pool_run_done(struct pool_run *r)
{
	pool_abandon(r->pool);
	for (unsigned i = 0; i < PARTS; i++) {
		model_free(&r->part[i].model);
		snaps_done(&r->part[i]);
	}
	sparse_free(&r->sparse);
	simdisk_free(r->disk);
}

/* So their lists of snapshots have several blocks. */
static void shorten_lists(struct pool_run *r)
{
	for (uint32_t i = 0; i < r->pool->layout.partition_slots; i++) {
		struct part *part = r->pool->parts[i];
		if (part && part->store)
			part->store->config.list_slots = r->seed % 2 ? 2 : 0;
	}
}

int pool_run_open(struct pool_run *r)
{
	struct lcpfs_open_options options = {.cache_bytes = 4 * MB};
	r->failure = (struct lcpfs_failure){0};
	int error = ALLOC_ARMED(pool_open_vdev(r->vdev, &r->clock, &options, &r->pool, &r->failure));
	if (!error)
		r->pool->mark_bytes = MARK_BLOCKS * BLOCK_SIZE;
	return error;
}

void pool_must_open(struct pool_run *r)
{
	if (pool_run_open(r))
		sim_fail("it does not open: %s", r->failure.message);
}

int pool_run_close(struct pool_run *r)
{
	struct lcpfs_pool *pool = r->pool;
	r->pool = NULL;
	return ALLOC_ARMED(lcpfs_pool_close(pool, &r->failure));
}

static void print_finding(void *context, const struct lcpfs_finding *finding)
{
	(void)context;
	fprintf(stderr, "  finding: %s: %s (device block %" PRId64 ")\n", finding->partition, finding->text,
		(int64_t)finding->block);
}

void pool_must_be_clean(struct pool_run *r, bool data)
{
	struct lcpfs_care care = {.data = data, .found = print_finding};
	int error = pool_check_vdev(r->vdev, &r->clock, &care, &r->failure);
	if (error)
		sim_fail("check did not run: %s", r->failure.message);
	if (care.damaged)
		sim_fail("check finds %" PRIu64, care.damaged);
}

/* -- verifying -- */

static bool is_stopped(const struct pool_run *r)
{
	return simdisk_is_stopped(r->disk);
}

static int read_blocks(struct pool_run *r, struct lcpfs_partition *handle, uint32_t first, uint32_t count,
		       uint8_t *data)
{
	int error = ALLOC_ARMED(lcpfs_volume_read(handle, (uint64_t)first * BLOCK_SIZE, data,
						  (size_t)count * BLOCK_SIZE, &r->failure));
	r->noticed += error != 0;
	return error;
}

static int64_t read_block(struct pool_run *r, struct lcpfs_partition *handle, uint32_t block)
{
	uint8_t data[BLOCK_SIZE];
	return read_blocks(r, handle, block, 1, data) ? -1 : sim_version(data, block);
}

/* What lies side by side, holes or data, at once. Of a hole it is enough that it is one: it has version 0. */
static int read_extent(struct pool_run *r, struct lcpfs_partition *handle, uint32_t first, uint32_t *count,
		       int64_t *version)
{
	uint8_t data[READ_BLOCKS * BLOCK_SIZE];
	uint64_t at = (uint64_t)first * BLOCK_SIZE, most = (uint64_t)*count * BLOCK_SIZE, end;
	bool is_data;
	int error = ALLOC_ARMED(lcpfs_volume_extent(handle, at, most, &is_data, &end));
	r->noticed += error != 0;
	if (error)
		return error;
	*count = (uint32_t)(end / BLOCK_SIZE) - first;
	if (is_data)
		error = read_blocks(r, handle, first, *count, data);
	for (uint32_t i = 0; i < *count && !error; i++)
		version[i] = is_data ? sim_version(data + (size_t)i * BLOCK_SIZE, first + i) : 0;
	sim_counts->compared_blocks += is_data ? 0 : *count;
	return error;
}

/* The versions of up to READ_BLOCKS blocks, mostly by extents. Where that fails, and sometimes, each by itself. */
static uint32_t read_some(struct pool_run *r, struct lcpfs_partition *handle, uint32_t first, int64_t *version)
{
	uint32_t count = MIN_OF(VOLUME_BLOCKS - first, (uint32_t)READ_BLOCKS);
	if ((r->seed + r->op) % 8 && !read_extent(r, handle, first, &count, version))
		return count;
	for (uint32_t i = 0; i < count; i++)
		version[i] = read_block(r, handle, first + i);
	return count;
}

struct lcpfs_partition *pool_open_volume(struct pool_run *r, const char *name)
{
	struct lcpfs_partition *handle = NULL;
	if (ALLOC_ARMED(lcpfs_partition_open(r->pool, name, &handle, &r->failure)) == 0)
		return handle;
	r->noticed++;
	if (!r->faulty && !is_stopped(r))
		sim_fail("%s cannot be opened: %s", name, r->failure.message);
	return NULL;
}

static void verify_invariants(struct pool_run *r)
{
	struct lcpfs_partition_info list[PARTS];
	struct lcpfs_pool_info info;
	uint64_t sum, min_sum = 0;
	size_t count;
	if (lcpfs_pool_get_info(r->pool, &info) || lcpfs_pool_list(r->pool, list, PARTS, &count) || count > PARTS)
		sim_fail("the pool cannot be listed");
	sum = info.free_blocks;
	for (size_t i = 0; i < count; i++) {
		sum += list[i].size_blocks;
		min_sum += list[i].min_size_blocks;
		if (list[i].size_blocks < list[i].min_size_blocks ||
				list[i].size_blocks > list[i].max_size_blocks ||
		    list[i].live_blocks > list[i].size_blocks || (list[i].faulted && !r->faulty))
			sim_fail("partition %s: size %" PRIu64 ", live %" PRIu64 ", min %" PRIu64 ", max %" PRIu64, list[i].name,
				 list[i].size_blocks, list[i].live_blocks, list[i].min_size_blocks,
						list[i].max_size_blocks);
	}
	if (info.size_blocks < r->size_blocks)
		sim_fail("the pool has %" PRIu64 " blocks after it had grown to %" PRIu64, info.size_blocks,
			 r->size_blocks);
	if (sum != info.size_blocks || min_sum > info.size_blocks)
		sim_fail("sizes and free space make %" PRIu64 " of %" PRIu64, sum, info.size_blocks);
}

static bool reads_may_fail(const struct pool_run *r)
{
	return r->faulty || is_stopped(r) || r->vdev->flush_failures;
}

void pool_verify_volume(struct pool_run *r, const char *name, const struct model *model, const uint32_t *wanted)
{
	struct lcpfs_partition *handle = pool_open_volume(r, name);
	int64_t version[READ_BLOCKS];
	for (uint32_t b = 0, count; handle && b < VOLUME_BLOCKS; b += count) {
		count = read_some(r, handle, b, version);
		for (uint32_t i = 0; i < count; i++) {
			if (version[i] < 0 && reads_may_fail(r))
				continue;
			if (version[i] < 0)
				sim_fail("%s, block %" PRIu32 ": %s", name, b + i, r->failure.message);
			if (model ? !model_allows(model, b + i, (uint32_t)version[i])
				  : version[i] != wanted[b + i])
				sim_fail("%s, block %" PRIu32 ": read %" PRId64 ", written %" PRIu32, name, b + i,
					 version[i], (model ? model->current : wanted)[b + i]);
		}
	}
	lcpfs_partition_close(handle);
}

void pool_verify(struct pool_run *r)
{
	verify_invariants(r);
	for (unsigned i = 0; i < PARTS; i++) {
		struct sim_part *p = &r->part[i];
		if (p->presence != PRESENT)
			continue;
		if (!p->half)
			pool_verify_volume(r, p->name, &p->model, NULL);
		snaps_verify(r, p);
	}
}

int64_t pool_read_one(struct pool_run *r, const char *name, uint32_t block)
{
	struct lcpfs_partition *handle = pool_open_volume(r, name);
	int64_t version = handle ? read_block(r, handle, block) : -1;
	lcpfs_partition_close(handle);
	return version;
}

static uint32_t settled_version(struct pool_run *r, const char *name, struct lcpfs_partition *handle,
				uint32_t block, int64_t version)
{
	if (version < 0 && r->faulty) {
		pool_faults_end(r);
		version = read_block(r, handle, block);
	}
	if (version < 0)
		sim_fail("%s, block %" PRIu32 ": %s", name, block, r->failure.message);
	return (uint32_t)version;
}

bool pool_read_volume(struct pool_run *r, const char *name, uint32_t *seen)
{
	struct lcpfs_partition *handle = pool_open_volume(r, name);
	int64_t version[READ_BLOCKS];
	for (uint32_t b = 0, count; handle && b < VOLUME_BLOCKS; b += count) {
		count = read_some(r, handle, b, version);
		for (uint32_t i = 0; i < count; i++)
			seen[b + i] = settled_version(r, name, handle, b + i, version[i]);
	}
	lcpfs_partition_close(handle);
	return handle;
}

static void settle_part(struct pool_run *r, struct sim_part *p)
{
	if (r->snapshots)
		snaps_find_roles(r, p);
	bool there = lcpfs_partition_get_info(r->pool, p->name, &(struct lcpfs_partition_info){0}, NULL) == 0;
	if ((p->presence == PRESENT && !there) || (p->presence == ABSENT && there))
		sim_fail("partition %s is %s", p->name, there ? "there" : "gone");
	p->presence = there ? PRESENT : ABSENT;
	if (there)
		snaps_settle(r, p);
	else
		snaps_done(p);
}

void pool_settle(struct pool_run *r)
{
	verify_invariants(r);
	for (unsigned i = 0; i < PARTS; i++)
		settle_part(r, &r->part[i]);
}

/* -- operations -- */

bool pool_worked(struct pool_run *r, int error)
{
	if (!error)
		return true;
	r->noticed++;
	if (!r->faulty && !is_stopped(r) && error != -LCPFS_E_NOSPC && error != -LCPFS_E_TOO_SMALL &&
	    error != -LCPFS_E_INVALID && !(r->host && error == -LCPFS_E_DEVICE_FULL))
		sim_fail("an operation failed: %s", r->failure.message);
	return false;
}

static void look_at_failed(struct pool_run *r, const char *name, struct model *m, struct lcpfs_partition *handle,
			   uint32_t first, uint32_t count, const uint32_t *before)
{
	for (uint32_t i = 0; i < count && !is_stopped(r); i++) {
		uint32_t block = first + i, wanted = m->current[block];
		int64_t version = read_block(r, handle, block);
		if (version < 0 && reads_may_fail(r))
			model_be_unsure(m, block);
		else if (m->unsure[block] && model_allows(m, block, (uint32_t)version))
			continue;
		else if (version != before[i] && version != wanted)
			sim_fail("%s, block %" PRIu32 " is neither old nor new: %" PRId64, name, block, version);
		else if (version != wanted)
			model_change(m, block, (uint32_t)version);
	}
}

/* True: with FUA. */
static bool change_blocks(struct pool_run *r, const char *name, struct model *m, struct lcpfs_partition *handle,
			  bool trim)
{
	uint8_t *data = malloc(WRITE_BLOCKS_MAX * BLOCK_SIZE);
	uint32_t before[WRITE_BLOCKS_MAX], count = 1 + (uint32_t)pool_random(r, WRITE_BLOCKS_MAX);
	uint32_t first = (uint32_t)pool_random(r, VOLUME_BLOCKS - count);
	uint64_t offset = (uint64_t)first * BLOCK_SIZE, length = (uint64_t)count * BLOCK_SIZE;
	bool fua = pool_random(r, 8) == 0;
	CHECK(data);
	for (uint32_t i = 0; i < count; i++) {
		uint32_t version = trim ? 0 : r->next_version++;
		before[i] = m->current[first + i];
		content_fill(data + (size_t)i * BLOCK_SIZE, first + i, version);
		model_change(m, first + i, version);
	}
	int error = ALLOC_ARMED(trim ? lcpfs_volume_trim(handle, offset, length, fua, &r->failure)
				     : lcpfs_volume_write(handle, offset, data, length, fua, &r->failure));
	if (trim && !r->faulty && !r->snapshots &&
	    (error == -LCPFS_E_NOSPC || (r->host && error == -LCPFS_E_DEVICE_FULL)))
		sim_fail("trim does not work on a full partition");
	free(data);
	if (pool_worked(r, error))
		return fua;
	look_at_failed(r, name, m, handle, first, count, before);
	return false;
}

void pool_change_volume(struct pool_run *r, const char *name, struct model *model, bool trim)
{
	struct lcpfs_partition *handle = pool_open_volume(r, name);
	if (handle)
		(void)change_blocks(r, name, model, handle, trim);
	lcpfs_partition_close(handle);
}

static void op_flush(struct pool_run *r, struct sim_part *p, struct lcpfs_partition *handle)
{
	int error = ALLOC_ARMED(lcpfs_volume_flush(handle, &r->failure));
	if (r->host && error == -LCPFS_E_DEVICE_FULL)
		sim_fail("flush does not work while the host is full");
	if (pool_worked(r, error))
		snaps_flushed(p);
}

static void op_io(struct pool_run *r, struct sim_part *p, uint64_t what)
{
	struct lcpfs_partition *handle = pool_open_volume(r, p->name);
	if (!handle)
		return;
	if (what >= 40)
		op_flush(r, p, handle);
	else if (change_blocks(r, p->name, &p->model, handle, what >= 32))
		snaps_flushed(p);
	lcpfs_partition_close(handle);
}

static void op_add(struct pool_run *r, struct sim_part *p)
{
	uint64_t min = STORE_METASLABS_MIN + pool_random(r, 2), max = min + pool_random(r, 8);
	struct lcpfs_partition_spec spec = {.name = p->name,
					    .thin = true,
					    .min_bytes = min * MB,
					    .max_bytes = max * MB,
					    .size_bytes = (min + pool_random(r, max - min + 1)) * MB,
					    .volume_bytes = VOLUME_BLOCKS * BLOCK_SIZE};
	snaps_done(p);
	model_free(&p->model);
	model_init(&p->model, VOLUME_BLOCKS);
	p->presence = MAYBE;
	int error = ALLOC_ARMED(pool_add_of_space(r->pool, &spec, &r->failure));
	if (pool_worked(r, error))
		p->presence = PRESENT;
	else if ((error == -LCPFS_E_NOSPC || error == -LCPFS_E_DEVICE_FULL) && !r->faulty && !is_stopped(r))
		p->presence = ABSENT;
}

static void op_remove(struct pool_run *r, struct sim_part *p)
{
	p->presence = MAYBE;
	int error = ALLOC_ARMED(lcpfs_partition_remove(r->pool, p->name, &r->failure));
	if (error == -LCPFS_E_BUSY && snaps_any_held(p))
		p->presence = PRESENT;
	else if (pool_worked(r, error))
		p->presence = ABSENT;
}

static void op_resize(struct pool_run *r, struct sim_part *p)
{
	uint64_t bytes = (STORE_METASLABS_MIN + pool_random(r, 12)) * MB;
	(void)pool_worked(r, ALLOC_ARMED(pool_resize_to_space(r->pool, p->name, bytes, NULL, NULL, &r->failure)));
}

/* Limits anew, and a volume that is at times so long that its trees get more levels. */
static void op_set(struct pool_run *r, struct sim_part *p)
{
	uint64_t more = pool_random(r, 2) ? pool_random(r, 40000) : 0;
	struct lcpfs_partition_change change = {
		.min_bytes = pool_random(r, 2) ? (1 + pool_random(r, 3)) * MB : 0,
		.max_bytes = pool_random(r, 2) ? (1 + pool_random(r, 9)) * MB : 0,
		.volume_bytes = pool_random(r, 2) ? (VOLUME_BLOCKS + more) * BLOCK_SIZE - more % BLOCK_SIZE : 0,
		.thin = true,
		.when_full_given = pool_random(r, 8) == 0,
	};
	struct lcpfs_partition_info info;
	int error = ALLOC_ARMED(lcpfs_partition_set(r->pool, p->name, &change, NULL, NULL, &info, &r->failure));
	if (pool_worked(r, error) && change.volume_bytes && info.volume_bytes != change.volume_bytes)
		sim_fail("%s has a volume of %" PRIu64 " bytes", p->name, info.volume_bytes);
}

/* What the engine does when it decides to. */
static void op_move(struct pool_run *r, struct sim_part *from, struct sim_part *to)
{
	struct move move = {
		.from = part_named(r->pool, from->name), .to = part_named(r->pool, to->name), .wanted = 2};
	if (!move.from || !move.to || from == to)
		return;
	part_hold(move.from);
	part_hold(move.to);
	(void)pool_worked(r, ALLOC_ARMED(move_run(&move, &r->failure)));
	part_drop(move.from);
	part_drop(move.to);
}

/* By what the device has gained, now or before. */
static void op_grow(struct pool_run *r)
{
	struct lcpfs_growth growth;
	r->device_bytes = MIN_OF(r->device_bytes + pool_random(r, 3) * MB, DISK_MB * MB);
	r->vdev->size_bytes = r->device_bytes;
	if (!pool_worked(r, ALLOC_ARMED(lcpfs_pool_grow(r->pool, NULL, &growth, &r->failure))))
		return;
	if (growth.new_size_blocks < r->size_blocks || (growth.new_size_blocks == growth.old_size_blocks) != (growth.missing_blocks > 0))
		sim_fail("it grew from %" PRIu64 " to %" PRIu64, growth.old_size_blocks, growth.new_size_blocks);
	r->size_blocks = growth.new_size_blocks;
}

static void op_tune(struct pool_run *r)
{
	enum lcpfs_engine_mode mode = pool_random(r, 3) ? LCPFS_ENGINE_ON : LCPFS_ENGINE_OBSERVE;
	(void)pool_worked(r, ALLOC_ARMED(lcpfs_pool_set_tune(r->pool, mode, &r->failure)));
}

bool pool_is_degraded(struct pool_run *r)
{
	struct lcpfs_partition_info info;
	bool degraded = r->pool->damaged > r->pool->repaired;
	for (unsigned i = 0; i < PARTS; i++)
		degraded |= lcpfs_partition_get_info(r->pool, r->part[i].name, &info, NULL) == 0 && info.faulted;
	return degraded;
}

static void op_reopen(struct pool_run *r)
{
	int error = pool_run_close(r);
	bool durable = pool_worked(r, error);
	if (r->host && !is_stopped(r) && (error == -LCPFS_E_DEVICE_FULL || error == -LCPFS_E_NOSPC))
		sim_fail("it cannot be closed while the host is full: %s", r->failure.message);
	if (is_stopped(r))
		return;
	for (unsigned i = 0; i < PARTS && durable; i++)
		snaps_flushed(&r->part[i]);
	if (!r->faulty) {
		pool_must_be_clean(r, true);
		pool_must_open(r);
		pool_verify(r);
		return;
	}
	if (pool_run_open(r)) {
		pool_faults_end(r);
		pool_must_open(r);
	}
	if (pool_is_degraded(r)) { /* what could not be read is missing: once more, on a disk that works */
		pool_faults_end(r);
		pool_abandon(r->pool);
		pool_must_open(r);
	}
	pool_settle(r);
}

static void op_tick(struct pool_run *r)
{
	for (unsigned i = 0; i < 4; i++) {
		r->now_us += 1000000;
		alloc_arm(true);
		pool_tick(r->pool);
		alloc_arm(false);
	}
}

static void op_pool(struct pool_run *r, struct sim_part *p, uint64_t what)
{
	if (what < 52)
		(void)ALLOC_ARMED(pool_step(r->pool));
	else if (what < 60 && p->presence == PRESENT)
		op_set(r, p);
	else if (what < 66)
		op_tick(r);
	else if (what < 78 && p->presence == PRESENT)
		op_resize(r, p);
	else if (what < 86 && p->presence == PRESENT)
		op_move(r, p, &r->part[pool_random(r, PARTS)]);
	else if (what < 89)
		op_tune(r);
	else if (what < 92 && p->presence == PRESENT)
		op_remove(r, p);
	else if (what >= 96)
		op_reopen(r);
	else if (what >= 94)
		op_grow(r);
}

/* Others write into the host's file system, and remove. */
static void change_host(struct pool_run *r)
{
	uint64_t room = pool_random(r, 3) ? pool_random(r, 3 * MB / BLOCK_SIZE) : 0;
	r->sparse.free_blocks = pool_random(r, 6) ? room : POOL_MB * MB / BLOCK_SIZE;
}

void pool_op(struct pool_run *r)
{
	uint64_t what = pool_random(r, 100);
	struct sim_part *p = &r->part[pool_random(r, PARTS)];
	r->op++;
	if (!r->after_cut)
		sim_begin_op(r->op);
	r->now_us += pool_random(r, 400000);
	if (r->host && pool_random(r, 3) == 0)
		change_host(r);
	if (!r->pool)
		return;
	shorten_lists(r);
	if (r->options->verbose)
		fprintf(stderr, "op %" PRIu64 ": %" PRIu64 " %s\n", r->op, what, p->name);
	if (p->presence == ABSENT && (what < 30 || r->op < PARTS))
		op_add(r, p);
	else if (p->presence == PRESENT && p->half && what < 60)
		snaps_finish(r, p);
	else if (p->presence == PRESENT && r->snapshots && pool_random(r, 5) < 3)
		snaps_op(r, p);
	else if (p->presence == PRESENT && what < 50)
		op_io(r, p, what);
	else if (what >= 50)
		op_pool(r, p, what);
}
