/* SPDX-License-Identifier: Apache-2.0 */
/* On-disk structures in words, for developers. Reads only, and goes on past what is damaged as far as it can. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/core.h"

static void title(struct text *out, const char *what, uint64_t block)
{
	text_append(out, "%s-- %s, block %" PRIu64 "\n", out->length ? "\n" : "", what, block);
}

static void dump_block(struct vdev *vdev, const char *what, uint64_t block, struct text *out)
{
	uint8_t bytes[BLOCK_SIZE];
	title(out, what, block);
	if (block >= vdev->size_bytes / BLOCK_SIZE)
		text_append(out, "state: outside of the device\n");
	else if (vdev_read(vdev, block * BLOCK_SIZE, bytes, sizeof(bytes)))
		text_append(out, "state: cannot be read\n");
	else
		fmt_to_text(bytes, out);
}

static void dump_labels(struct vdev *vdev, const struct layout *l, struct text *out)
{
	for (unsigned copy = 0; copy < COPIES; copy++)
		dump_block(vdev, copy ? "label, back" : "label, front", layout_area_block(l, copy, AREA_LABEL),
			   out);
	for (unsigned copy = 0; copy < COPIES; copy++)
		dump_block(vdev, copy ? "lease, back" : "lease, front", layout_area_block(l, copy, AREA_LEASE),
			   out);
}

static void dump_uberblocks(struct vdev *vdev, const struct layout *l, struct text *out)
{
	for (unsigned i = 0; i < UBERBLOCK_SLOTS * COPIES; i++) {
		unsigned copy = i % COPIES, place = i / COPIES;
		char what[48];
		snprintf(what, sizeof(what), "uberblock %u, %s", place, copy ? "back" : "front");
		dump_block(vdev, what, layout_area_block(l, copy, AREA_UBERBLOCKS + place), out);
	}
}

static void dump_map(const struct lcpfs_pool *pool, struct text *out)
{
	for (uint32_t page = 0; page < pool->layout.map_pages; page++) {
		text_append(out, "%s-- map page %" PRIu32 "\n", out->length ? "\n" : "", page);
		fmt_to_text(txg_current(pool, page), out);
	}
}

static void dump_roots(struct lcpfs_pool *pool, const struct part *part, struct text *out)
{
	for (unsigned i = 0; i < 2 * COPIES; i++) {
		unsigned copy = i % COPIES, slot = i / COPIES;
		char what[48];
		snprintf(what, sizeof(what), "root %u, %s", slot, copy ? "back" : "front");
		dump_block(pool->device, what, layout_root_block(&pool->layout, copy, part->slot, slot), out);
	}
}

static int dump_partition(struct lcpfs_pool *pool, const char *name, struct text *out,
			  struct lcpfs_failure *failure)
{
	struct part *part = part_named(pool, name);
	struct lcpfs_failure why = {0};
	if (!part)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no partition %s", name);
	text_append(out, "-- partition page, slot %" PRIu32 "\n", part->slot);
	fmt_to_text(txg_current(pool, layout_partition_page(&pool->layout, part->slot)), out);
	text_append(out, "metaslabs: %" PRIu32 "\n", part->metaslabs);
	dump_roots(pool, part, out);
	text_append(out, "\n-- store\n");
	if (part_open_store(part, 0, &why)) {
		text_append(out, "state: %s\n", why.message);
		return 0;
	}
	store_dump(part->store, out);
	store_abandon(part->store);
	part->store = NULL;
	return 0;
}

static void dump_overview(struct lcpfs_pool *pool, struct text *out)
{
	struct fmt_label label;
	layout_to_label(&pool->layout, &label);
	text_append(out, "-- label\n");
	fmt_to_text(&label, out);
	text_append(out, "\n-- uberblock, %s\n", pool->was_open ? "not closed cleanly" : "closed cleanly");
	fmt_to_text(&pool->uberblock, out);
	text_append(out, "\n-- partitions\n");
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		const struct part *part = pool->parts[slot];
		if (part)
			text_append(out, "slot %" PRIu32 ": id %" PRIu32 ", %s, %" PRIu32 " metaslabs\n", slot,
				    part->id, part->name, part->metaslabs);
	}
	text_append(out, "free: %" PRIu32 " metaslabs\n", pool->free_metaslabs);
	for (uint32_t page = 0; page < layout_page_count(&pool->layout); page++) {
		if (pool->lost[page])
			text_append(out, "lost: pool page %" PRIu32 " (%s)\n", page,
				    fmt_kind_text(layout_page_kind(&pool->layout, page)));
	}
}

/* "block N"; true if it is one. */
static bool parse_block(const char *what, uint64_t *block)
{
	char *end;
	if (strncmp(what, "block ", 6) != 0 || what[6] < '0' || what[6] > '9')
		return false;
	*block = strtoull(what + 6, &end, 10);
	return *end == '\0';
}

static int dump_from_pool(struct vdev *vdev, const char *what, struct text *out, struct lcpfs_failure *failure)
{
	struct lcpfs_open_options options = {.read_only = true};
	struct report silent = {0};
	struct lcpfs_pool *pool;
	int error = pool_new(vdev, &clock_system, &options, NULL, &silent, &pool, failure);
	if (error)
		return error;
	if (!what)
		dump_overview(pool, out);
	else if (strcmp(what, "map") == 0)
		dump_map(pool, out);
	else if (strncmp(what, "partition ", 10) == 0)
		error = dump_partition(pool, what + 10, out, failure);
	else
		error = failure_set(failure, LCPFS_E_INVALID,
				    "cannot dump \"%s\"; it is label, uberblocks, map, partition "
				    "NAME or block N",
				    what);
	pool_free(pool);
	return error;
}

/* Labels and uberblocks are shown without trusting anything but one label. */
int pool_dump_vdev(struct vdev *vdev, const char *what, struct text *out, struct lcpfs_failure *failure)
{
	bool labels = what && strcmp(what, "label") == 0, uberblocks = what && strcmp(what, "uberblocks") == 0;
	struct layout layout;
	uint64_t block;
	if (what && parse_block(what, &block)) {
		dump_block(vdev, "block", block, out);
		return 0;
	}
	if (!labels && !uberblocks)
		return dump_from_pool(vdev, what, out, failure);
	int error = layout_read(vdev, &layout, failure);
	if (!error && labels)
		dump_labels(vdev, &layout, out);
	if (!error && uberblocks)
		dump_uberblocks(vdev, &layout, out);
	return error;
}

int lcpfs_pool_dump(const char *path, const char *what, char **text, struct lcpfs_failure *failure)
{
	struct text out = TEXT_INIT;
	struct vdev *vdev;
	int error = lease_open_device(path, VDEV_OPEN_READ_ONLY, 0, &vdev, failure);
	*text = NULL;
	if (error)
		return error;
	error = pool_dump_vdev(vdev, what, &out, failure);
	vdev_close(vdev);
	if (error) {
		text_free(&out);
		return error;
	}
	*text = text_take(&out);
	return *text ? 0 : failure_set(failure, LCPFS_E_NOMEM, "out of memory");
}
