/* SPDX-License-Identifier: Apache-2.0 */
#include "overlay.h"

#include <stdlib.h>
#include <string.h>

#include "format/format.h"

static void *must(void *allocated)
{
	CHECK(allocated);
	return allocated;
}

const uint8_t *overlay_look(const struct overlay *o, uint32_t block)
{
	return o->block[block] ? o->block[block] : o->image + (size_t)block * BLOCK_SIZE;
}

uint8_t *overlay_change(struct overlay *o, uint32_t block)
{
	if (o->block[block])
		return o->block[block];
	o->block[block] = o->unused_count ? o->unused[--o->unused_count] : must(malloc(BLOCK_SIZE));
	o->changed[o->changed_count++] = block;
	return memcpy(o->block[block], o->image + (size_t)block * BLOCK_SIZE, BLOCK_SIZE);
}

static int transfer(struct overlay *o, const struct vdev_io *io)
{
	for (size_t done = 0, part; done < io->length; done += part) {
		uint64_t at = io->offset + done;
		size_t start = at % BLOCK_SIZE;
		uint8_t *bytes = (uint8_t *)io->buffer + done;
		part = MIN_OF(io->length - done, BLOCK_SIZE - start);
		if (io->op == VDEV_READ)
			memcpy(bytes, overlay_look(o, (uint32_t)(at / BLOCK_SIZE)) + start, part);
		else
			memcpy(overlay_change(o, (uint32_t)(at / BLOCK_SIZE)) + start, bytes, part);
	}
	return 0;
}

static void overlay_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	for (unsigned i = 0; i < count; i++)
		ios[i].result = transfer((struct overlay *)vdev, &ios[i]);
}

static int overlay_flush(struct vdev *vdev)
{
	(void)vdev;
	return 0;
}

static int overlay_discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	(void)vdev, (void)offset, (void)length; /* what was there may stay */
	return 0;
}

static void overlay_close(struct vdev *vdev)
{
	(void)vdev;
}

struct overlay *overlay_new(uint64_t room_bytes)
{
	static const struct vdev_ops ops = {overlay_submit, overlay_flush, overlay_discard, overlay_close};
	struct overlay *o = must(calloc(1, sizeof(*o)));
	size_t blocks = room_bytes / BLOCK_SIZE;
	o->vdev.ops = &ops;
	o->vdev.name = "image";
	o->vdev.size_bytes = o->room_bytes = room_bytes;
	o->zeros = o->image = must(calloc(blocks, BLOCK_SIZE));
	o->block = must(calloc(blocks, sizeof(*o->block)));
	o->changed = must(calloc(blocks, sizeof(*o->changed)));
	o->unused = must(calloc(blocks, sizeof(*o->unused)));
	return o;
}

void overlay_reset(struct overlay *o, const uint8_t *image, uint64_t size_bytes)
{
	for (; o->changed_count; o->changed_count--) {
		uint32_t block = o->changed[o->changed_count - 1];
		o->unused[o->unused_count++] = o->block[block];
		o->block[block] = NULL;
	}
	o->image = image;
	o->vdev.size_bytes = size_bytes;
	atomic_store(&o->vdev.flush_failures, 0);
}

uint8_t *overlay_copy(const struct overlay *o)
{
	uint8_t *image = must(calloc(o->room_bytes, 1));
	for (uint32_t b = 0; b < o->room_bytes / BLOCK_SIZE; b++)
		if (o->block[b]) /* what was never written stays unwritten memory, too */
			memcpy(image + (size_t)b * BLOCK_SIZE, o->block[b], BLOCK_SIZE);
	return image;
}
