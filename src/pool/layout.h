/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Where everything of a pool lies: derived from the size when it is created, fixed in the label from then on.
 * Growing changes where the back area lies, and how many metaslabs there are.
 */
#ifndef POOL_LAYOUT_H
#define POOL_LAYOUT_H

#include <stdbool.h>
#include <stdint.h>

#include "base/error.h"
#include "format/format.h"
#include "pool/report.h"
#include "vdev/vdev.h"

enum { COPIES = 2 };

struct layout {
	uint64_t guid, device_guid;
	uint64_t created_s;
	uint64_t device_blocks;
	uint64_t area_blocks;
	uint64_t metaslab_base;
	uint32_t metaslab_blocks, metaslab_count;
	uint32_t partition_slots;
	uint32_t map_pages, engine_pages, history_pages;
	struct fmt_label label; /* as it was read, so that what this version does not know of is kept */
};

/* What a crash may have cut off: the labels that were being written for the first time. */
enum layout_crash { LAYOUT_CLOSED, LAYOUT_BACK, LAYOUT_BOTH };

/* `limit_bytes` and `metaslab_bytes` may be 0: the whole device, and by size. */
int layout_plan(uint64_t device_bytes, uint64_t limit_bytes, uint64_t metaslab_bytes, struct layout *layout,
		struct lcpfs_failure *failure) MUST_CHECK;

/*
 * *to: the same pool on a device that has become so large; `device_bytes` is not below what it is. Each metaslab
 * stays where it is, the back area comes to lie behind the old one. *missing: 0, or how many blocks the device
 * lacks to give the pool anything. RANGE: the map has no room for so many metaslabs.
 */
int layout_grow(const struct layout *from, uint64_t device_bytes, struct layout *to, uint64_t *missing,
		const char *name, struct lcpfs_failure *failure) MUST_CHECK;

void layout_to_label(const struct layout *layout, struct fmt_label *label);

/* VERSION: it uses a feature that this version can only read. */
int layout_refuse_writing(const struct layout *layout, const char *name, struct lcpfs_failure *failure) MUST_CHECK;

/* Finds a good label; either one is enough. */
int layout_read(struct vdev *vdev, struct layout *layout, struct lcpfs_failure *failure) MUST_CHECK;
/*
 * Compares both labels with what they should be. A damaged one is reported, and written anew when `report`
 * repairs. One that a crash of creating or growing may have cut off is written without a word.
 */
void layout_verify(struct vdev *vdev, const struct layout *layout, enum layout_crash crash, struct report *report);

/* Is there a good label, in front or in the back? Fills *layout from it if so. */
bool layout_find(struct vdev *vdev, struct layout *layout);
/* The same, but a damaged label and one of a newer format count too. */
bool layout_is_pool(struct vdev *vdev);

/* Both areas of a sparse vdev get their place, so that what is written there never lacks one. */
int layout_reserve(struct vdev *vdev, const struct layout *layout) MUST_CHECK;

/* Pool pages: first those of the map, then one per partition slot, the engine's, the history's. */
static inline uint32_t layout_partition_page(const struct layout *l, uint32_t slot)
{
	return l->map_pages + slot;
}
static inline uint32_t layout_engine_page(const struct layout *l)
{
	return l->map_pages + l->partition_slots;
}
static inline uint32_t layout_history_page(const struct layout *l)
{
	return layout_engine_page(l) + l->engine_pages;
}
static inline uint32_t layout_page_count(const struct layout *l)
{
	return layout_history_page(l) + l->history_pages;
}
enum fmt_kind layout_page_kind(const struct layout *layout, uint32_t page);

/* Block numbers. Copy 0 is the front area, copy 1 the back area. */
uint64_t layout_area_block(const struct layout *layout, unsigned copy, uint64_t block);
uint64_t layout_page_block(const struct layout *layout, unsigned copy, uint32_t page, unsigned slot);
uint64_t layout_root_block(const struct layout *layout, unsigned copy, uint32_t partition_slot, unsigned slot);
uint64_t layout_metaslab_block(const struct layout *layout, uint32_t metaslab);

/* That the pool can ever have. */
static inline uint32_t layout_metaslabs_max(const struct layout *l)
{
	return MIN_OF(l->map_pages * (uint32_t)MAP_ENTRIES, (uint32_t)METASLABS_MAX);
}

static inline uint64_t layout_pool_blocks(const struct layout *l)
{
	return (uint64_t)l->metaslab_blocks * l->metaslab_count;
}

#endif
