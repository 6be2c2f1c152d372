/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: a pool image from a stranger. It may be refused or found damaged; it must not crash, hang or take
 * memory without bound.
 *
 * An input is two bytes, which of some valid images to begin with and what to do with it, and then edits. Most of
 * them change a few bytes of one structure, in all of its copies, and seal it anew, and then whatever carries its
 * checksum, up to the root, so that what lies behind the checksums is reached. The others leave it to the
 * checksums to find out, or cut the image off.
 */
#include <stdlib.h>
#include <string.h>

#include "fuzz.h"
#include "images.h"
#include "pool/core.h"

enum { EDITS_MAX = 8, READS = 12 };

static const struct clock fuzz_clock = {images_now_us, images_wall_s, NULL};

/* -- what is done with it -- */

enum { CHECK = 1, USE = 2, AGAIN = 4, CHECK_DATA = 8, READ_ONLY = 16, SCRUB = 32, MOVE = 64, DUMP = 128 };

static void use_partition(struct lcpfs_pool *pool, const char *name)
{
	uint8_t bytes[4 * BLOCK_SIZE];
	struct lcpfs_partition *partition;
	uint64_t end;
	bool data;
	if (lcpfs_partition_open(pool, name, &partition, NULL))
		return;
	uint64_t volume = lcpfs_volume_bytes(partition);
	for (unsigned i = 0; i < READS; i++)
		(void)!lcpfs_volume_read(partition, images_written(name, i) * BLOCK_SIZE % volume, bytes,
					 BLOCK_SIZE, NULL);
	(void)!lcpfs_volume_extent(partition, 0, MIN_OF(volume, 16 * MIB), &data, &end);
	memset(bytes, 7, sizeof(bytes));
	for (unsigned i = 0; i < 4; i++)
		(void)!lcpfs_volume_write(partition, images_written(name, i * 3) * BLOCK_SIZE, bytes,
					  sizeof(bytes), i == 3, NULL);
	(void)!lcpfs_volume_trim(partition, 0, volume / 2, true, NULL);
	lcpfs_partition_close(partition);
}

/* From `old`, or since the bookmark of that name. */
static void compare(struct lcpfs_pool *pool, const char *old, const char *new)
{
	struct lcpfs_partition *from = NULL, *to = NULL;
	struct lcpfs_difference d = {.length = 1};
	uint64_t at = 0;
	bool mark = strchr(old, '#');
	int error = mark ? 0 : lcpfs_partition_open(pool, old, &from, NULL);
	if (!error)
		error = lcpfs_partition_open(pool, new, &to, NULL);
	for (unsigned i = 0; i < READS && !error && d.length; i++, at = d.offset + d.length)
		error = mark ? lcpfs_volume_difference_since(old, to, at, &d, NULL)
			     : lcpfs_volume_difference(from, to, at, &d, NULL);
	if (to)
		lcpfs_partition_close(to);
	if (from)
		lcpfs_partition_close(from);
}

/* One and then another of whatever there is: most edits leave the names. */
static void use_snapshots(struct lcpfs_pool *pool)
{
	static const char *const volumes[] = {"c", "d", "e", "f", "a@one", "a@four", "c@own", "c@later", "b@one"};
	static const char *const new[] = {"a@new", "c@new"};
	const struct lcpfs_snapshot_options options = {0}, forced = {.force = true};
	const char *clone = "d", *snapshot = "c@own", *old = "a@one";
	struct lcpfs_snapshot_info infos[8];
	struct lcpfs_snapshot_sizes sizes;
	char was[LCPFS_NAME_MAX + 1];
	uint64_t blocks;
	size_t count;
	for (unsigned i = 0; i < ARRAY_LENGTH(volumes); i++)
		use_partition(pool, volumes[i]);
	(void)!lcpfs_snapshot_list(pool, NULL, infos, ARRAY_LENGTH(infos), &count, NULL);
	for (size_t i = 0; i < MIN_OF(count, ARRAY_LENGTH(infos)); i++)
		(void)!lcpfs_snapshot_sizes(pool, infos[i].name, &sizes, NULL);
	compare(pool, "a@one", "a");
	compare(pool, "a@one", "c@own");
	compare(pool, "c#mark", "c@later");
	(void)!lcpfs_clone_used(pool, "c", &blocks, NULL);
	(void)!lcpfs_snapshot_create(pool, new, ARRAY_LENGTH(new), &options, NULL);
	(void)!lcpfs_clone_destroy(pool, &clone, 1, false, NULL);
	(void)!lcpfs_snapshot_rollback(pool, "c@later", &forced, NULL);
	(void)!lcpfs_snapshot_destroy(pool, &snapshot, 1, &options, NULL);
	(void)!lcpfs_snapshot_rollback(pool, "a@four", &forced, NULL);
	(void)!lcpfs_clone_promote(pool, "f", false, was, NULL);
	(void)!lcpfs_bookmark_destroy(pool, "c#mark", &options, NULL);
	(void)!lcpfs_snapshot_destroy(pool, &old, 1, &options, NULL);
}

static void move_boundaries(struct lcpfs_pool *pool)
{
	struct lcpfs_partition_spec spec = {.thin = true,
					    .name = "new",
					    .min_bytes = STORE_METASLABS_MIN * MIB,
					    .max_bytes = STORE_METASLABS_MIN * MIB,
					    .volume_bytes = 3 * MIB};
	(void)!pool_resize_to_space(pool, "a", STORE_METASLABS_MIN * MIB + MIB, NULL, NULL, NULL);
	for (unsigned i = 0; i < 3; i++) {
		images_pass_us(1000000);
		pool_tick(pool);
		pool_step(pool);
	}
	(void)!lcpfs_partition_remove(pool, "b", NULL);
	(void)!pool_add_of_space(pool, &spec, NULL);
	use_partition(pool, "new");
}

static void use_pool(struct vdev *vdev, unsigned what)
{
	struct lcpfs_open_options options = {.cache_bytes = MIB, .read_only = what & READ_ONLY};
	struct lcpfs_care care = {0};
	struct lcpfs_growth growth;
	struct lcpfs_event events[4];
	struct lcpfs_pool *pool;
	size_t count;
	if (pool_open_vdev(vdev, &fuzz_clock, &options, &pool, NULL))
		return;
	use_partition(pool, "a");
	use_partition(pool, "b");
	use_snapshots(pool);
	(void)!lcpfs_pool_events(pool, 0, events, ARRAY_LENGTH(events), &count);
	if (what & MOVE)
		move_boundaries(pool);
	if (what & SCRUB)
		(void)!lcpfs_pool_scrub(pool, &care, NULL);
	if (what & SCRUB && vdev->size_bytes < IMAGES_ROOM_BYTES) {
		vdev->size_bytes = IMAGES_ROOM_BYTES;
		(void)!lcpfs_pool_grow(pool, NULL, &growth, NULL);
		use_partition(pool, "a");
	}
	(void)!lcpfs_pool_close(pool, NULL);
}

static void dump(struct vdev *vdev, unsigned which)
{
	static const char *const what[] = {NULL, "label", "uberblocks", "map", "partition a", "partition b"};
	struct text text = TEXT_INIT;
	(void)!pool_dump_vdev(vdev, what[which % ARRAY_LENGTH(what)], &text, NULL);
	text_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	if (length < 2)
		return 0;
	struct vdev *vdev = images_start(bytes[0]);
	unsigned what = bytes[1];
	struct lcpfs_care care = {.data = what & CHECK_DATA};

	for (size_t at = 2, edits = 0; at < length && edits < EDITS_MAX; at += IMAGES_EDIT_BYTES, edits++)
		images_edit(bytes + at, length - at);
	if (what & CHECK)
		(void)!pool_check_vdev(vdev, &fuzz_clock, &care, NULL);
	if (what & DUMP)
		dump(vdev, bytes[0] / 6u);
	if (what & USE)
		use_pool(vdev, what);
	if (what & AGAIN) /* what became of it */
		use_pool(vdev, what & ~(unsigned)READ_ONLY);
	return 0;
}
