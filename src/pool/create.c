/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Creating a pool: what was there is looked at first, and the labels come last, so that there is a pool wholly or
 * not at all.
 */
#include <errno.h>
#include <inttypes.h>
#include <libgen.h>
#include <stdlib.h>
#include <string.h>
#include <sys/random.h>
#include <unistd.h>

#include "base/hash.h"
#include "pool/core.h"

enum { CHUNK_BLOCKS = 256, MIB = 1 << 20 };

/* -- on a vdev -- */

/* Writes only where there is something, so that a sparse file stays sparse. */
static int zero_blocks(struct vdev *vdev, uint64_t block, uint64_t count, uint8_t *chunk)
{
	int error = 0;
	while (count && !error) {
		size_t length = (size_t)MIN_OF(count, (uint64_t)CHUNK_BLOCKS) * BLOCK_SIZE;
		error = vdev_read(vdev, block * BLOCK_SIZE, chunk, length);
		if (!error && (chunk[0] || memcmp(chunk, chunk + 1, length - 1))) {
			memset(chunk, 0, length);
			error = vdev_write(vdev, block * BLOCK_SIZE, chunk, length);
		}
		block += length / BLOCK_SIZE;
		count -= length / BLOCK_SIZE;
	}
	return error;
}

static int zero_areas(struct vdev *vdev, const struct layout *l, uint8_t *chunk)
{
	int error = 0;
	for (unsigned copy = 0; copy < COPIES && !error; copy++)
		error = zero_blocks(vdev, layout_area_block(l, copy, 0), l->area_blocks, chunk);
	return error ? error : vdev_flush(vdev);
}

static int write_both(struct vdev *vdev, const struct layout *l, uint64_t area_block, void *block)
{
	int error = 0;
	for (unsigned copy = 0; copy < COPIES && !error; copy++)
		error = vdev_write(vdev, layout_area_block(l, copy, area_block) * BLOCK_SIZE, block, BLOCK_SIZE);
	return error;
}

/* All pages, empty, in slot 0, as of txg 1. */
static int write_pages(struct vdev *vdev, const struct layout *l)
{
	int error = 0;
	for (uint32_t page = 0; page < layout_page_count(l) && !error; page++) {
		enum fmt_kind kind = layout_page_kind(l, page);
		union {
			struct fmt_pool_page page;
			uint8_t bytes[BLOCK_SIZE];
		} block = {.bytes = {0}};

		block.page.txg = le64_of(1);
		block.page.page = le32_of(page);
		fmt_seal(&block, kind, l->guid, 0, kind == FMT_MAP ? MAP_ENTRIES : 0);
		error = write_both(vdev, l, AREA_PAGES + 2 * (uint64_t)page, &block);
	}
	return error;
}

/* Open until the labels are there: then a label that a crash cut off is known to be no damage. */
static int write_uberblock(struct vdev *vdev, const struct layout *l, bool open)
{
	struct fmt_uberblock u = {
		.txg = le64_of(1),
		.time_s = le64_of(l->created_s),
		.partition_next = le32_of(1),
		.page_count = le32_of(layout_page_count(l)),
		/* Nothing moves before its owner has asked for it. */
		.tune_mode = le32_of(LCPFS_ENGINE_OBSERVE),
		.open = le32_of(open),
	};
	fmt_seal(&u, FMT_UBERBLOCK, l->guid, 0, 0);
	int error = write_both(vdev, l, AREA_UBERBLOCKS + 1 % UBERBLOCK_SLOTS, &u);
	return error ? error : vdev_flush(vdev);
}

static int write_label(struct vdev *vdev, const struct layout *l)
{
	struct fmt_label label;
	layout_to_label(l, &label);
	int error = write_both(vdev, l, AREA_LABEL, &label);
	return error ? error : vdev_flush(vdev);
}

static int write_pool(struct vdev *vdev, const struct layout *l, const struct layout *old)
{
	uint8_t *chunk = malloc((size_t)CHUNK_BLOCKS * BLOCK_SIZE);
	int error = chunk ? 0 : -LCPFS_E_NOMEM;
	if (!error && old)
		error = zero_areas(vdev, old, chunk);
	if (!error)
		error = layout_reserve(vdev, l);
	if (!error)
		error = zero_areas(vdev, l, chunk);
	if (!error)
		error = write_pages(vdev, l);
	if (!error)
		error = write_uberblock(vdev, l, true);
	if (!error)
		error = write_label(vdev, l);
	if (!error)
		error = write_uberblock(vdev, l, false);
	free(chunk);
	return error;
}

static int refuse_pool(const char *name, struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_EXISTS, "%s is an lcpfs pool already; --force makes a new one of it",
			   name);
}

int pool_create_vdev(struct vdev *vdev, const struct clock *clock, const struct lcpfs_create_options *options,
		     uint64_t guid, struct lcpfs_failure *failure)
{
	struct layout layout, old;
	if (!options->force && layout_is_pool(vdev))
		return refuse_pool(vdev->name, failure);
	int error = layout_plan(vdev->size_bytes, options->size_bytes, options->metaslab_bytes, &layout, failure);
	if (error)
		return error;
	layout.guid = guid;
	layout.device_guid = hash_mix(guid) | 1; /* as random as that one */
	layout.created_s = clock->wall_s(clock->context);
	bool has_old = layout_find(vdev, &old);
	error = write_pool(vdev, &layout, has_old ? &old : NULL);
	if (error)
		return failure_set(failure, (enum lcpfs_error) - error, "%s: writing the new pool failed: %s",
				   vdev->name, lcpfs_error_sentence(error));
	return 0;
}

/* -- on a path -- */

/* A pool file has whole MiB, so that its back area ends where the file ends. */
static uint64_t file_size_for(uint64_t bytes)
{
	return bytes > UINT64_MAX - MIB ? bytes : (bytes + MIB - 1) / MIB * MIB;
}

/* Nothing is made before it is known that it can work. */
static int check_plan(const struct lcpfs_create_options *options, struct lcpfs_failure *failure)
{
	struct layout layout;
	if (!options->size_bytes)
		return 0; /* that of what is there */
	return layout_plan(file_size_for(options->size_bytes), 0, options->metaslab_bytes, &layout, failure);
}

static int check_contents(struct vdev *vdev, struct lcpfs_failure *failure)
{
	char what[160];
	if (layout_is_pool(vdev))
		return refuse_pool(vdev->name, failure);
	if (signature_find(vdev_file_descriptor(vdev), what, sizeof(what)))
		return failure_set(failure, LCPFS_E_EXISTS,
				   "%s holds %s; --force makes a pool of it and destroys that", vdev->name, what);
	return 0;
}

static int set_file_size(struct vdev *vdev, uint64_t bytes, struct lcpfs_failure *failure)
{
	struct layout old;
	if (vdev->size_bytes == bytes)
		return 0;
	/* An old pool's back area must not be found any more, should the file become longer. */
	if (layout_find(vdev, &old)) {
		uint8_t *chunk = malloc((size_t)CHUNK_BLOCKS * BLOCK_SIZE);
		int error = chunk ? zero_areas(vdev, &old, chunk) : -LCPFS_E_NOMEM;
		free(chunk);
		if (error)
			return failure_set(failure, (enum lcpfs_error) - error, "%s: wiping the old pool failed",
					   vdev->name);
	}
	return vdev_file_resize(vdev, bytes, failure);
}

static uint64_t random_guid(void)
{
	uint64_t guid = 0;
	while (!guid) {
		if (getrandom(&guid, sizeof(guid), 0) != sizeof(guid))
			guid = clock_us(&clock_system) ^ (uint64_t)getpid() << 40;
	}
	return guid;
}

/* Everything from the first look to the last write goes through the vdev, never through the path again. */
static int create_on(struct vdev *vdev, const struct lcpfs_create_options *options, struct lcpfs_failure *failure)
{
	struct lcpfs_create_options sized = *options;
	bool sets_size = vdev_file_is_regular(vdev) && options->size_bytes;
	struct layout layout;
	int error = 0;
	if (!sets_size && options->size_bytes > vdev->size_bytes)
		return failure_set(failure, LCPFS_E_INVALID, "%s has only %" PRIu64 " bytes", vdev->name,
				   vdev->size_bytes);
	if (!sets_size)
		error = layout_plan(vdev->size_bytes, options->size_bytes, options->metaslab_bytes, &layout,
				    failure);
	if (!error && !vdev_file_is_new(vdev) && !options->force)
		error = check_contents(vdev, failure);
	if (!error && options->dry_run)
		return 0;
	if (!error && sets_size)
		error = set_file_size(vdev, file_size_for(options->size_bytes), failure);
	if (error)
		return error;
	if (sets_size)
		sized.size_bytes = 0; /* the file has it now */
	sized.force = true; /* looked at already */
	return pool_create_vdev(vdev, &clock_system, &sized, random_guid(), failure);
}

/* May a file be made there? */
static int check_folder(const char *path, struct lcpfs_failure *failure)
{
	char *copy = strdup(path);
	int error = 0;
	if (!copy)
		return failure_set(failure, LCPFS_E_NOMEM, "out of memory");
	if (access(dirname(copy), W_OK | X_OK))
		error = failure_set(failure, LCPFS_E_SYSTEM, "%s: %s", path, strerrordesc_np(errno));
	free(copy);
	return error;
}

int lcpfs_pool_create(const char *path, const struct lcpfs_create_options *options, struct lcpfs_failure *failure)
{
	static const struct lcpfs_create_options defaults;
	const struct lcpfs_create_options *o = options ? options : &defaults;
	struct vdev *vdev;
	int error = check_plan(o, failure);
	if (error)
		return error;
	if (o->dry_run && o->size_bytes && access(path, F_OK) && errno == ENOENT)
		return check_folder(path, failure);
	error = lease_open_device(path,
				  VDEV_OPEN_CREATE | (o->size_bytes && !o->dry_run ? 0 : VDEV_OPEN_EXISTING),
				  file_size_for(o->size_bytes), &vdev, failure);
	if (error == -LCPFS_E_NOT_FOUND && !o->size_bytes)
		return failure_set(failure, LCPFS_E_INVALID, "%s does not exist; a new pool file needs a size",
				   path);
	if (error)
		return error;
	if (!vdev_file_is_new(vdev)) /* also with --force, and by ways that no lock knows */
		error = claimant_look(vdev, &(struct lcpfs_open_options){0}, failure);
	if (!error)
		error = create_on(vdev, o, failure);
	if (error)
		vdev_file_unmake(vdev);
	vdev_close(vdev);
	return error;
}
