/* SPDX-License-Identifier: Apache-2.0 */
#include "sparse.h"

#include <stdlib.h>
#include <string.h>

#include "format/format.h"

static struct sparse *sparse_of(struct vdev *vdev)
{
	return (struct sparse *)vdev;
}

static void check_write(struct sparse *s, const struct vdev_io *io)
{
	for (uint64_t b = io->offset >> BLOCK_SHIFT; b << BLOCK_SHIFT < io->offset + io->length; b++) {
		if (!s->backed[b])
			s->fail("block %llu is written and was not reserved", (unsigned long long)b);
		s->first_writes += !s->written[b];
		s->written[b] = true;
	}
}

static void sparse_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	struct sparse *s = sparse_of(vdev);
	for (unsigned i = 0; i < count; i++) {
		if (ios[i].op == VDEV_WRITE)
			check_write(s, &ios[i]);
	}
	s->behind->ops->submit(s->behind, ios, count);
}

static int sparse_flush(struct vdev *vdev)
{
	return sparse_of(vdev)->behind->ops->flush(sparse_of(vdev)->behind);
}

/* The host has those places again. */
static void give_up(struct sparse *s, uint64_t offset, uint64_t length)
{
	for (uint64_t b = offset >> BLOCK_SHIFT; b < (offset + length) >> BLOCK_SHIFT; b++) {
		s->free_blocks += s->backed[b];
		s->backed[b] = s->written[b] = false;
	}
}

static int sparse_discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct sparse *s = sparse_of(vdev);
	int error = s->behind->ops->discard(s->behind, offset, length);
	give_up(s, offset, length);
	return error;
}

/* A hole: it needs no place. */
static int sparse_zero(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct sparse *s = sparse_of(vdev);
	give_up(s, offset, length);
	return vdev_zero(s->behind, offset, length);
}

static void sparse_close(struct vdev *vdev)
{
	(void)vdev;
}

static int sparse_reserve(struct vdev *vdev, uint64_t offset, uint64_t length, bool may_take)
{
	struct sparse *s = sparse_of(vdev);
	uint64_t first = offset >> BLOCK_SHIFT, end = DIV_UP(offset + length, (uint64_t)BLOCK_SIZE), missing = 0;
	if (s->step)
		s->step();
	for (uint64_t b = first; b < end; b++)
		missing += !s->backed[b];
	if (!missing)
		return 0;
	if (may_take)
		vdev_note_host(vdev, missing > s->free_blocks);
	if (!may_take || missing > s->free_blocks) {
		s->refusals++;
		return -LCPFS_E_DEVICE_FULL;
	}
	s->free_blocks -= missing;
	memset(s->backed + first, true, (end - first) * sizeof(*s->backed));
	return 0;
}

/* What is there is gone: nothing that anybody needs may lie there. */
static void sparse_prepare(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct sparse *s = sparse_of(vdev);
	uint8_t scribble[BLOCK_SIZE];
	memset(scribble, 0xa5, sizeof(scribble));
	s->prepared += length >> BLOCK_SHIFT;
	for (uint64_t b = offset >> BLOCK_SHIFT; b < (offset + length) >> BLOCK_SHIFT; b++) {
		s->in_vain += s->written[b];
		s->written[b] = true;
	}
	for (uint64_t done = 0; done < length; done += BLOCK_SIZE) {
		struct vdev_io io = {
			.op = VDEV_WRITE, .offset = offset + done, .buffer = scribble, .length = BLOCK_SIZE};
		check_write(s, &io);
		s->behind->ops->submit(s->behind, &io, 1);
	}
}

void sparse_init(struct sparse *s, struct vdev *behind, uint64_t free_blocks)
{
	static const struct vdev_ops ops = {
		.submit = sparse_submit,
		.flush = sparse_flush,
		.discard = sparse_discard,
		.close = sparse_close,
		.reserve = sparse_reserve,
		.zero = sparse_zero,
		.prepare = sparse_prepare,
	};
	*s = (struct sparse){.vdev = {.ops = &ops, .size_bytes = behind->size_bytes, .name = "sparse"},
			     .behind = behind,
			     .blocks = behind->size_bytes >> BLOCK_SHIFT,
			     .free_blocks = free_blocks};
	s->backed = calloc(s->blocks, sizeof(*s->backed));
	s->written = calloc(s->blocks, sizeof(*s->written));
	CHECK(s->backed && s->written);
}

void sparse_copy(struct sparse *to, const struct sparse *from, struct vdev *behind)
{
	sparse_init(to, behind, from->free_blocks);
	to->step = from->step;
	to->fail = from->fail;
	memcpy(to->backed, from->backed, from->blocks * sizeof(*from->backed));
	memcpy(to->written, from->written, from->blocks * sizeof(*from->written));
}

void sparse_free(struct sparse *s)
{
	free(s->backed);
	free(s->written);
	s->backed = s->written = NULL;
}

void sparse_back(struct sparse *s, uint64_t first, uint64_t count)
{
	memset(s->backed + first, true, count * sizeof(*s->backed));
}
