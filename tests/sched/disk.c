/* SPDX-License-Identifier: Apache-2.0 */
#include "disk.h"

#include <stdlib.h>

#include "base/hash.h"
#include "scheduler.h"

enum operation_kind { OPERATION_IO, OPERATION_FLUSH, OPERATION_DISCARD };

struct operation {
	struct sched_event event; /* first */
	struct slow_disk *disk;
	enum operation_kind kind;
	struct vdev_io *io;
	struct simimage *data; /* of a write, as it was when it began; see start_of() */
	uint64_t offset, length; /* DISCARD; of an IO, what is left of it */
	bool in_two;             /* the first part of a write is still to come */
	uint64_t mark;           /* FLUSH */
	int error;
	unsigned *left;
};

static uint64_t slow_random(struct slow_disk *disk, uint64_t below)
{
	return hash_mix(disk->random++) % below;
}

/* Where it begins in its image: at the same place in a chunk as on the disk. */
static uint64_t start_of(const struct vdev_io *io)
{
	return io->offset % SIMIMAGE_CHUNK;
}

static int write_part(const struct operation *o, uint64_t from, uint64_t length)
{
	return simdisk_write_image(o->disk->behind, o->io->offset + from, o->data, start_of(o->io) + from, length);
}

/* The first half of a write; the rest is another event. */
static void fire_half(struct operation *o)
{
	uint64_t half = o->io->length / VDEV_SECTOR / 2 * VDEV_SECTOR;
	o->in_two = false;
	o->io->result = write_part(o, 0, half);
	if (o->io->result) {
		--*o->left;
		return;
	}
	o->offset = half;
	sched_post(&o->event);
}

static void fire_io(struct operation *o)
{
	struct vdev *behind = simdisk_vdev(o->disk->behind);
	if (o->in_two) {
		fire_half(o);
		return;
	}
	if (o->data)
		o->io->result = write_part(o, o->offset, o->io->length - o->offset);
	else
		behind->ops->submit(behind, o->io, 1);
	--*o->left;
}

static void fire(struct sched_event *event)
{
	struct operation *o = (struct operation *)event;
	struct vdev *behind = simdisk_vdev(o->disk->behind);
	if (o->kind == OPERATION_IO) {
		fire_io(o);
		return;
	}
	if (o->kind == OPERATION_FLUSH)
		simdisk_limit_flush(o->disk->behind, o->mark);
	o->error = o->kind == OPERATION_FLUSH ? behind->ops->flush(behind)
					      : behind->ops->discard(behind, o->offset, o->length);
	--*o->left;
}

static struct simimage *image_of(const struct vdev_io *io, const struct iovec *iov, unsigned count)
{
	uint64_t at = start_of(io);
	struct simimage *data = simimage_new(at + io->length);
	for (unsigned i = 0; i < count; at += iov[i++].iov_len)
		simimage_write(data, at, iov[i].iov_base, iov[i].iov_len);
	return data;
}

static struct operation operation_of(struct slow_disk *disk, struct vdev_io *io, struct simimage *data,
				     unsigned *left)
{
	bool in_two = data && io->length > VDEV_SECTOR && slow_random(disk, 4) == 0;
	return (struct operation){.event = {.fire = fire},
				  .disk = disk,
				  .kind = OPERATION_IO,
				  .io = io,
				  .data = data,
				  .in_two = in_two,
				  .left = left};
}

static void slow_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	struct slow_disk *disk = (struct slow_disk *)vdev;
	struct vdev *behind = simdisk_vdev(disk->behind);
	unsigned left = count;
	if (!sched_is_running()) {
		behind->ops->submit(behind, ios, count);
		return;
	}
	struct operation *list = calloc(count, sizeof(*list));
	CHECK(list);
	for (unsigned i = 0; i < count; i++) {
		struct iovec all = {ios[i].buffer, ios[i].length};
		if (ios[i].op == VDEV_WRITE && disk->will_write)
			disk->will_write(disk->context, &ios[i]);
		struct simimage *data = ios[i].op == VDEV_WRITE ? image_of(&ios[i], &all, 1) : NULL;

		list[i] = operation_of(disk, &ios[i], data, &left);
		sched_post(&list[i].event);
	}
	sched_await(&left);
	for (unsigned i = 0; i < count; i++)
		simimage_free(list[i].data);
	free(list);
}

static int slow_writev(struct vdev *vdev, uint64_t offset, const struct iovec *iov, unsigned count)
{
	struct slow_disk *disk = (struct slow_disk *)vdev;
	struct vdev_io io = {.op = VDEV_WRITE, .offset = offset};
	unsigned left = 1;
	for (unsigned i = 0; i < count; i++)
		io.length += iov[i].iov_len;
	struct operation o = operation_of(disk, &io, image_of(&io, iov, count), &left);
	if (sched_is_running()) {
		sched_post(&o.event);
		sched_await(&left);
	} else {
		io.result = write_part(&o, 0, io.length);
	}
	simimage_free(o.data);
	return io.result;
}

static int slow_other(struct slow_disk *disk, struct operation o)
{
	unsigned left = 1;
	o.event.fire = fire;
	o.disk = disk;
	o.left = &left;
	sched_post(&o.event);
	sched_await(&left);
	return o.error;
}

static int slow_flush(struct vdev *vdev)
{
	struct slow_disk *disk = (struct slow_disk *)vdev;
	struct vdev *behind = simdisk_vdev(disk->behind);
	if (!sched_is_running())
		return behind->ops->flush(behind);
	disk->flushing++;
	int error =
		slow_other(disk, (struct operation){.kind = OPERATION_FLUSH, .mark = simdisk_mark(disk->behind)});
	disk->flushing--;
	return error;
}

static int slow_discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct slow_disk *disk = (struct slow_disk *)vdev;
	struct vdev *behind = simdisk_vdev(disk->behind);
	if (!sched_is_running())
		return behind->ops->discard(behind, offset, length);
	return slow_other(disk, (struct operation){.kind = OPERATION_DISCARD, .offset = offset, .length = length});
}

static void slow_close(struct vdev *vdev)
{
	(void)vdev;
}

void slow_disk_init(struct slow_disk *disk, struct simdisk *behind, uint64_t seed)
{
	static const struct vdev_ops ops = {slow_submit, slow_flush, slow_discard, slow_close,
					    .writev = slow_writev};
	*disk = (struct slow_disk){
		.vdev = {.ops = &ops, .size_bytes = simdisk_vdev(behind)->size_bytes, .name = "slow disk"},
		.behind = behind,
		.random = hash_mix(seed)};
}

static void apply_in_flight(const struct operation *o, uint64_t seed, struct simimage *image)
{
	const struct vdev_io *io = o->io;
	uint64_t fate = hash_mix(seed) % 3;
	for (uint64_t at = o->offset; at < io->length && fate; at += VDEV_SECTOR) {
		if (fate == 1 || hash_mix(seed + at) % 2)
			simimage_copy(image, io->offset + at, o->data, start_of(io) + at, VDEV_SECTOR);
	}
}

struct simimage *slow_disk_cut(struct slow_disk *disk, uint64_t seed)
{
	struct simdisk_fate fate = {.kind = seed % 8 == 0   ? SIMDISK_NONE
					    : seed % 8 == 1 ? SIMDISK_ALL
							    : SIMDISK_SCATTER,
				    .seed = hash_mix(seed)};
	struct simimage *image = simdisk_image(disk->behind, &fate);
	for (struct sched_event *e = sched_events(); e; e = e->next) {
		const struct operation *o = (const struct operation *)e;
		if (e->fire == fire && o->disk == disk && o->kind == OPERATION_IO && o->io->op == VDEV_WRITE)
			apply_in_flight(o, hash_mix(seed + e->number), image);
	}
	simdisk_stop(disk->behind);
	return image;
}
