/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The geometry of a pool and the label that fixes it.
 *
 * A label comes from outside and is taken as hostile: every field is compared with the device and with limits
 * before it is computed with, so that nothing overflows and nothing large is allocated. The back area is found
 * through the front label, or by looking back from the device's end in steps of a MiB, an area's unit.
 *
 * The map has pages for more metaslabs than there are, so that the pool can grow. All fields of the label that
 * growing changes lie in its first sector.
 */
#include "pool/layout.h"

#include <inttypes.h>
#include <string.h>

#include "store/store.h"

enum {
	MIB = 1 << 20,
	DEVICE_BYTES_MIN = 16 * MIB,
	METASLABS_WANTED_MAX = 4096, /* by default: few enough to list, enough for steps well below a percent */
	GROWS_BY = 16, /* times as large as it is created */
	METASLABS_LEAST = 2 * STORE_METASLABS_MIN, /* two partitions, or there is no boundary to move */
	PARTITION_SLOTS_LEAST = 16,
	PARTITION_SLOTS_DEFAULT_MAX = 256,
	ENGINE_PAGES = 25,  /* 98 KiB hold what the engine knows of 256 partitions; samples have what it leaves */
	HISTORY_PAGES = 64, /* 512 events */

	/* Larger pools have more to tell: so many further partition slots for a further page. */
	SLOTS_PER_ENGINE_PAGE = 4,
	SLOTS_PER_HISTORY_PAGE = 2,

	/* What a label may claim. */
	PARTITION_SLOTS_MAX = 4096,
	ENGINE_PAGES_MAX = 256,
	HISTORY_PAGES_MAX = 4096,
};

#define DEVICE_BLOCKS_MAX (UINT64_C(1) << 44)

enum fmt_kind layout_page_kind(const struct layout *l, uint32_t page)
{
	if (page < l->map_pages)
		return FMT_MAP;
	if (page < layout_engine_page(l))
		return FMT_PARTITION;
	return page < layout_history_page(l) ? FMT_ENGINE : FMT_HISTORY;
}

uint64_t layout_area_block(const struct layout *l, unsigned copy, uint64_t block)
{
	return (copy ? l->device_blocks - l->area_blocks : 0) + block;
}

uint64_t layout_page_block(const struct layout *l, unsigned copy, uint32_t page, unsigned slot)
{
	return layout_area_block(l, copy, AREA_PAGES + 2 * (uint64_t)page + slot);
}

uint64_t layout_root_block(const struct layout *l, unsigned copy, uint32_t partition_slot, unsigned slot)
{
	uint64_t roots = AREA_PAGES + 2 * (uint64_t)layout_page_count(l);
	return layout_area_block(l, copy, roots + 2 * (uint64_t)partition_slot + slot);
}

uint64_t layout_metaslab_block(const struct layout *l, uint32_t metaslab)
{
	return l->metaslab_base + (uint64_t)metaslab * l->metaslab_blocks;
}

int layout_reserve(struct vdev *vdev, const struct layout *l)
{
	int error = 0;
	for (unsigned copy = 0; copy < COPIES && !error; copy++)
		error = vdev_reserve(vdev, layout_area_block(l, copy, 0) * BLOCK_SIZE,
				     l->area_blocks * BLOCK_SIZE);
	return error;
}

static uint64_t area_blocks_needed(const struct layout *l)
{
	uint64_t used = AREA_PAGES + 2 * (uint64_t)layout_page_count(l) + 2 * (uint64_t)l->partition_slots;
	return DIV_UP(used, (uint64_t)AREA_ALIGN_BLOCKS) * AREA_ALIGN_BLOCKS;
}

/* -- planning -- */

/* Copies and ends of the device lie on whole MiB, so that the back area can be looked for from the end. */
static uint64_t usable_blocks(uint64_t device_bytes)
{
	return device_bytes / MIB * (MIB / BLOCK_SIZE);
}

static uint64_t default_metaslab_blocks(uint64_t device_blocks)
{
	uint64_t blocks = METASLAB_BLOCKS_MIN;
	while (blocks < METASLAB_BLOCKS_MAX && device_blocks / blocks > METASLABS_WANTED_MAX)
		blocks *= 2;
	return blocks;
}

static int check_metaslab_bytes(uint64_t bytes, struct lcpfs_failure *failure)
{
	if (bytes == 0 || (bytes >= (uint64_t)METASLAB_BLOCKS_MIN * BLOCK_SIZE &&
			   bytes <= (uint64_t)METASLAB_BLOCKS_MAX * BLOCK_SIZE && (bytes & (bytes - 1)) == 0))
		return 0;
	return failure_set(failure, LCPFS_E_INVALID,
			   "a metaslab is 1M, 2M, 4M, 8M, 16M, 32M or 64M, not %" PRIu64 " bytes", bytes);
}

/* Of a device of that length. */
static uint64_t metaslabs_in(const struct layout *l, uint64_t blocks)
{
	return (blocks - MIN_OF(blocks, l->metaslab_base + l->area_blocks)) / l->metaslab_blocks;
}

static void plan_counts(struct layout *l, uint64_t limit_blocks)
{
	uint64_t blocks = MIN_OF(l->device_blocks, limit_blocks);
	uint64_t count = blocks / l->metaslab_blocks;
	/* A first guess a little too high only makes the areas a little too large. */
	l->map_pages = (uint32_t)DIV_UP(MIN_OF(GROWS_BY * count, (uint64_t)METASLABS_MAX), MAP_ENTRIES);
	l->partition_slots = (uint32_t)MIN_OF(count / 8, (uint64_t)PARTITION_SLOTS_DEFAULT_MAX);
	l->partition_slots = MAX_OF(l->partition_slots, (uint32_t)PARTITION_SLOTS_LEAST);
	uint32_t further = l->partition_slots - PARTITION_SLOTS_LEAST;
	l->engine_pages = ENGINE_PAGES + further / SLOTS_PER_ENGINE_PAGE;
	l->history_pages = HISTORY_PAGES + further / SLOTS_PER_HISTORY_PAGE;
	l->area_blocks = area_blocks_needed(l);
	l->metaslab_base = DIV_UP(l->area_blocks, (uint64_t)l->metaslab_blocks) * l->metaslab_blocks;
	l->metaslab_count = (uint32_t)MIN_OF(metaslabs_in(l, blocks), (uint64_t)METASLABS_MAX);
}

int layout_plan(uint64_t device_bytes, uint64_t limit_bytes, uint64_t metaslab_bytes, struct layout *l,
		struct lcpfs_failure *failure)
{
	uint64_t limit = limit_bytes ? limit_bytes : device_bytes;
	int error = check_metaslab_bytes(metaslab_bytes, failure);
	if (error)
		return error;
	if (MIN_OF(device_bytes, limit) < DEVICE_BYTES_MIN)
		return failure_set(failure, LCPFS_E_INVALID,
				   "a pool has at least 16 MiB, this one would have %" PRIu64 " bytes",
				   MIN_OF(device_bytes, limit));
	*l = (struct layout){.device_blocks = MIN_OF(usable_blocks(device_bytes), DEVICE_BLOCKS_MAX)};
	l->metaslab_blocks = (uint32_t)(metaslab_bytes / BLOCK_SIZE);
	if (!l->metaslab_blocks)
		l->metaslab_blocks =
			(uint32_t)default_metaslab_blocks(MIN_OF(l->device_blocks, usable_blocks(limit)));
	if (l->device_blocks / l->metaslab_blocks > METASLABS_MAX)
		return failure_set(failure, LCPFS_E_INVALID,
				   "a pool has at most 1048576 metaslabs (64 TiB with 64M); "
				   "give a larger metaslab size or a smaller size");
	plan_counts(l, usable_blocks(limit));
	if (l->metaslab_count < METASLABS_LEAST)
		return failure_set(failure, LCPFS_E_INVALID,
				   "the pool would have %" PRIu32 " metaslabs, it needs %d; "
				   "give a smaller metaslab size or a larger size",
				   l->metaslab_count, METASLABS_LEAST);
	return 0;
}

/*
 * The new back area must not touch the old one, which is needed until the label says otherwise. Where the device
 * did not get that much longer, or not by a metaslab, there is nothing to be had.
 */
static uint64_t missing_blocks(const struct layout *l, uint64_t device_blocks)
{
	uint64_t more = layout_metaslab_block(l, l->metaslab_count + 1) + l->area_blocks;
	uint64_t least = DIV_UP(MAX_OF(more, l->device_blocks + l->area_blocks), (uint64_t)AREA_ALIGN_BLOCKS) *
			 AREA_ALIGN_BLOCKS;
	return least - MIN_OF(least, device_blocks);
}

int layout_grow(const struct layout *from, uint64_t device_bytes, struct layout *to, uint64_t *missing,
		const char *name, struct lcpfs_failure *failure)
{
	uint64_t blocks = MIN_OF(usable_blocks(device_bytes), DEVICE_BLOCKS_MAX), max = layout_metaslabs_max(from);
	uint64_t most = layout_metaslab_block(from, (uint32_t)max) + from->area_blocks;
	*to = *from;
	*missing = missing_blocks(from, blocks);
	if (*missing)
		return 0;
	if (metaslabs_in(from, blocks) > max)
		return failure_set(failure, LCPFS_E_RANGE,
				   "%s: with metaslabs of %" PRIu32 "M this pool can grow to %" PRIu64
				   "M, not to %" PRIu64
				   "M; make the file or device that large, or copy the data to a new pool",
				   name, from->metaslab_blocks >> 8, most >> 8, blocks >> 8);
	to->device_blocks = blocks;
	to->metaslab_count = (uint32_t)metaslabs_in(from, blocks);
	return 0;
}

/* Such as disks with a GPT have, over all of the device. */
static void fill_partition_table(const struct layout *l, struct fmt_label *label)
{
	uint64_t sectors = l->device_blocks * BLOCK_SECTORS - 1;
	memset(label->mbr, 0, sizeof(label->mbr));
	label->mbr[0] = (struct fmt_mbr_partition){
		.first_chs = {0, 2, 0},
		.kind = MBR_KIND_PROTECTIVE,
		.last_chs = {0xff, 0xff, 0xff},
		.first_sector = le32_of(1),
		.sectors = le32_of((uint32_t)MIN_OF(sectors, (uint64_t)UINT32_MAX)),
	};
	label->mbr_magic[0] = 0x55;
	label->mbr_magic[1] = 0xaa;
}

void layout_to_label(const struct layout *l, struct fmt_label *label)
{
	*label = l->label;
	label->device_blocks = le64_of(l->device_blocks);
	label->area_blocks = le64_of(l->area_blocks);
	label->metaslab_base = le64_of(l->metaslab_base);
	label->metaslab_blocks = le32_of(l->metaslab_blocks);
	label->metaslab_count = le32_of(l->metaslab_count);
	label->partition_slots = le32_of(l->partition_slots);
	label->map_pages = le32_of(l->map_pages);
	label->engine_pages = le32_of(l->engine_pages);
	label->history_pages = le32_of(l->history_pages);
	label->created_s = le64_of(l->created_s);
	label->device_count = le32_of(1);
	label->device_guid = le64_of(l->device_guid);
	fill_partition_table(l, label);
	fmt_seal(label, FMT_LABEL, l->guid, 0, 0);
}

/* -- reading -- */

enum label_state {
	LABEL_GOOD,
	LABEL_NONE,    /* nothing of ours */
	LABEL_DAMAGED, /* ours, but not to be trusted */
	LABEL_NEWER,
	LABEL_FEATURE, /* good, but it uses a feature without which it cannot be read */
	LABEL_OLDER,
	LABEL_TRUNCATED, /* good, but the device is smaller than it says */
	LABEL_UNREAD,
};

static struct layout label_to_layout(const struct fmt_label *label)
{
	return (struct layout){
		.guid = le64_get(label->head.guid),
		.created_s = le64_get(label->created_s),
		.device_blocks = le64_get(label->device_blocks),
		.area_blocks = le64_get(label->area_blocks),
		.metaslab_base = le64_get(label->metaslab_base),
		.metaslab_blocks = le32_get(label->metaslab_blocks),
		.metaslab_count = le32_get(label->metaslab_count),
		.partition_slots = le32_get(label->partition_slots),
		.map_pages = le32_get(label->map_pages),
		.engine_pages = le32_get(label->engine_pages),
		.history_pages = le32_get(label->history_pages),
		.device_guid = le64_get(label->device_guid),
		.label = *label,
	};
}

static bool counts_are_sane(const struct layout *l)
{
	return l->metaslab_blocks >= METASLAB_BLOCKS_MIN && l->metaslab_blocks <= METASLAB_BLOCKS_MAX &&
	       (l->metaslab_blocks & (l->metaslab_blocks - 1)) == 0 && l->metaslab_count > 0 &&
	       l->metaslab_count <= METASLABS_MAX && l->partition_slots > 0 &&
	       l->partition_slots <= PARTITION_SLOTS_MAX && l->map_pages <= POOL_PAGES_MAX &&
	       l->map_pages >= DIV_UP(l->metaslab_count, (uint32_t)MAP_ENTRIES) &&
	       l->engine_pages <= ENGINE_PAGES_MAX && l->history_pages > 0 &&
	       l->history_pages <= HISTORY_PAGES_MAX && layout_page_count(l) <= POOL_PAGES_MAX;
}

static bool layout_is_sane(const struct layout *l)
{
	if (!l->guid || !l->device_guid || !counts_are_sane(l) || l->device_blocks > DEVICE_BLOCKS_MAX ||
	    l->device_blocks % AREA_ALIGN_BLOCKS || l->area_blocks > l->device_blocks / 2 ||
	    l->area_blocks % AREA_ALIGN_BLOCKS || l->area_blocks < area_blocks_needed(l) ||
	    l->metaslab_base < l->area_blocks || l->metaslab_base > l->device_blocks ||
	    l->metaslab_base % l->metaslab_blocks)
		return false;
	return l->metaslab_count <= metaslabs_in(l, l->device_blocks);
}

/* What would be otherwise with several devices has a bit in the mask. */
static bool devices_are_sane(const struct fmt_label *label)
{
	static const struct fmt_device none[LABEL_DEVICES];
	return !le32_get(label->device_index) && le32_get(label->device_count) == 1 &&
	       !le32_get(label->metaslab_first) && !memcmp(label->device, none, sizeof(none));
}

/* The label in `block`, which lies at `copy`'s place of the layout that it describes. */
static enum label_state judge_label(struct vdev *vdev, const struct fmt_label *label, struct layout *l)
{
	switch (fmt_verify(label, FMT_LABEL, 0, 0)) {
	case FMT_GOOD:
		break;
	case FMT_NEWER:
		return LABEL_NEWER;
	case FMT_OLDER:
		return LABEL_OLDER;
	case FMT_BLANK:
	case FMT_FOREIGN:
		return LABEL_NONE;
	default:
		return LABEL_DAMAGED;
	}
	if (le64_get(label->features.incompatible))
		return LABEL_FEATURE;
	*l = label_to_layout(label);
	if (!layout_is_sane(l) || !devices_are_sane(label))
		return LABEL_DAMAGED;
	return l->device_blocks > usable_blocks(vdev->size_bytes) ? LABEL_TRUNCATED : LABEL_GOOD;
}

static enum label_state read_label(struct vdev *vdev, uint64_t block, struct layout *l)
{
	struct fmt_label label;
	if (vdev_read(vdev, block * BLOCK_SIZE, &label, sizeof(label)))
		return LABEL_UNREAD;
	return judge_label(vdev, &label, l);
}

/* Looks back from the end for a label that says it lies there. */
static bool find_back_label(struct vdev *vdev, struct layout *l)
{
	uint64_t end = usable_blocks(vdev->size_bytes);
	uint64_t area_max = DIV_UP(AREA_PAGES + 2 * (uint64_t)(POOL_PAGES_MAX + PARTITION_SLOTS_MAX),
				   (uint64_t)AREA_ALIGN_BLOCKS) *
			    AREA_ALIGN_BLOCKS;
	for (uint64_t back = AREA_ALIGN_BLOCKS; back <= MIN_OF(end, area_max); back += AREA_ALIGN_BLOCKS) {
		if (read_label(vdev, end - back, l) == LABEL_GOOD && l->area_blocks == back &&
		    l->device_blocks == end)
			return true;
	}
	return false;
}

bool layout_find(struct vdev *vdev, struct layout *l)
{
	return read_label(vdev, 0, l) == LABEL_GOOD || find_back_label(vdev, l);
}

bool layout_is_pool(struct vdev *vdev)
{
	struct layout l;
	if (vdev->size_bytes < BLOCK_SIZE)
		return false;
	enum label_state front = read_label(vdev, 0, &l);
	return (front != LABEL_NONE && front != LABEL_UNREAD) || find_back_label(vdev, &l);
}

static int refuse(struct vdev *vdev, enum label_state state, const struct layout *l, struct lcpfs_failure *failure)
{
	switch (state) {
	case LABEL_TRUNCATED:
		return failure_set(failure, LCPFS_E_CORRUPT,
				   "%s is truncated: the pool needs %" PRIu64 " bytes, there are %" PRIu64
				   "; restore the rest of it",
				   vdev->name, l->device_blocks * BLOCK_SIZE, vdev->size_bytes);
	case LABEL_NEWER:
		return failure_set(failure, LCPFS_E_VERSION,
				   "%s was made by a newer lcpfs; use that one", vdev->name);
	case LABEL_FEATURE:
		return failure_set(failure, LCPFS_E_VERSION,
				   "%s uses a feature that this lcpfs does not know; use a newer one", vdev->name);
	case LABEL_OLDER:
		return failure_set(
			failure, LCPFS_E_VERSION,
			"%s has an older format, which this lcpfs does not read: serve it with the lcpfs "
			"that made it, and copy its volumes into a new pool with nbdcopy",
			vdev->name);
	case LABEL_DAMAGED:
		return failure_set(failure, LCPFS_E_CORRUPT, "%s: both labels of the pool are damaged",
				   vdev->name);
	case LABEL_UNREAD:
		return failure_set(failure, LCPFS_E_IO, "%s: the label cannot be read", vdev->name);
	default:
		return failure_set(failure, LCPFS_E_NOT_A_POOL, "%s is not an lcpfs pool", vdev->name);
	}
}

int layout_refuse_writing(const struct layout *l, const char *name, struct lcpfs_failure *failure)
{
	if (!le64_get(l->label.features.read_only))
		return 0;
	return failure_set(
		failure, LCPFS_E_VERSION,
		"%s uses a feature that this lcpfs can only read: list, status, get and check work on it; to "
		"change or serve it use a newer one",
		name);
}

/* Written into zeros, it was cut off: each sector is one or the other. */
static bool is_cut_off(const struct fmt_label *found, const struct fmt_label *wanted)
{
	static const uint8_t zeros[VDEV_SECTOR];
	for (size_t at = 0; at < sizeof(*found); at += VDEV_SECTOR) {
		const uint8_t *sector = (const uint8_t *)found + at;
		if (memcmp(sector, zeros, VDEV_SECTOR) != 0 &&
		    memcmp(sector, (const uint8_t *)wanted + at, VDEV_SECTOR) != 0)
			return false;
	}
	return true;
}

static void verify_copy(struct vdev *vdev, const struct layout *l, unsigned copy, enum layout_crash crash,
			struct report *report)
{
	bool may_be_cut_off = crash == LAYOUT_BOTH || (crash == LAYOUT_BACK && copy == 1), unread;
	uint64_t block = layout_area_block(l, copy, AREA_LABEL);
	struct fmt_label wanted, found = {0};
	layout_to_label(l, &wanted);
	report->checked_blocks++;
	unread = vdev_read(vdev, block * BLOCK_SIZE, &found, sizeof(found)) != 0;
	if (!unread && !memcmp(&wanted, &found, sizeof(wanted)))
		return;
	bool repaired = report->repair && !vdev_write(vdev, block * BLOCK_SIZE, &wanted, sizeof(wanted));
	if (unread || !may_be_cut_off || !is_cut_off(&found, &wanted))
		report_found(report, block, repaired,
			     "the label's copy %u differs from the other one or is damaged", copy);
}

void layout_verify(struct vdev *vdev, const struct layout *l, enum layout_crash crash, struct report *report)
{
	for (unsigned copy = 0; copy < COPIES; copy++)
		verify_copy(vdev, l, copy, crash, report);
}

int layout_read(struct vdev *vdev, struct layout *l, struct lcpfs_failure *failure)
{
	if (vdev->size_bytes < BLOCK_SIZE)
		return refuse(vdev, LABEL_NONE, l, failure);
	enum label_state front = read_label(vdev, 0, l);
	/* A front label that is whole is believed: an old back one must not open a pool of another format. */
	if (front == LABEL_TRUNCATED || front == LABEL_NEWER || front == LABEL_FEATURE || front == LABEL_OLDER)
		return refuse(vdev, front, l, failure);
	if (front != LABEL_GOOD && !find_back_label(vdev, l))
		return refuse(vdev, front, l, failure);
	return 0;
}
