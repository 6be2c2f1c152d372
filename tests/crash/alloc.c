/* SPDX-License-Identifier: Apache-2.0 */
#include "alloc.h"

#include <errno.h>
#include <stddef.h>

static struct {
	uint64_t count, at;
	bool armed, set, forever, failed;
} state;

void alloc_fail(uint64_t at, bool forever)
{
	state.count = 0;
	state.at = at;
	state.set = true;
	state.forever = forever;
	state.failed = false;
}

void alloc_work(void)
{
	state.set = false;
	state.count = 0;
}

uint64_t alloc_count(void)
{
	return state.count;
}

bool alloc_failed(void)
{
	return state.failed;
}

void alloc_arm(bool on)
{
	state.armed = on;
}

static bool fails(void)
{
	if (!state.armed)
		return false;
	uint64_t n = state.count++;
	if (!state.set || n < state.at || (n > state.at && !state.forever))
		return false;
	state.failed = true;
	return true;
}

/* -- in the place of the library's -- */

void *__real_malloc(size_t size);
void *__real_calloc(size_t count, size_t size);
void *__real_realloc(void *old, size_t size);
int __real_posix_memalign(void **memory, size_t alignment, size_t size);
void *__wrap_malloc(size_t size);
void *__wrap_calloc(size_t count, size_t size);
void *__wrap_realloc(void *old, size_t size);
int __wrap_posix_memalign(void **memory, size_t alignment, size_t size);

void *__wrap_malloc(size_t size)
{
	return fails() ? NULL : __real_malloc(size);
}

void *__wrap_calloc(size_t count, size_t size)
{
	return fails() ? NULL : __real_calloc(count, size);
}

void *__wrap_realloc(void *old, size_t size)
{
	return fails() ? NULL : __real_realloc(old, size);
}

int __wrap_posix_memalign(void **memory, size_t alignment, size_t size)
{
	return fails() ? ENOMEM : __real_posix_memalign(memory, alignment, size);
}

/* -- the device -- */

static bool pause_failing(void)
{
	bool armed = state.armed;
	state.armed = false;
	return armed;
}

static void front_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	struct vdev *behind = ((struct alloc_front *)vdev)->behind;
	bool armed = pause_failing();
	behind->ops->submit(behind, ios, count);
	state.armed = armed;
}

static int front_flush(struct vdev *vdev)
{
	struct vdev *behind = ((struct alloc_front *)vdev)->behind;
	bool armed = pause_failing();
	int error = behind->ops->flush(behind);
	state.armed = armed;
	return error;
}

static int front_discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	struct vdev *behind = ((struct alloc_front *)vdev)->behind;
	bool armed = pause_failing();
	int error = behind->ops->discard(behind, offset, length);
	state.armed = armed;
	return error;
}

static void front_close(struct vdev *vdev)
{
	(void)vdev;
}

void alloc_front_init(struct alloc_front *front, struct vdev *behind)
{
	static const struct vdev_ops ops = {front_submit, front_flush, front_discard, front_close};
	front->vdev = (struct vdev){.ops = &ops, .size_bytes = behind->size_bytes, .name = behind->name};
	front->behind = behind;
}
