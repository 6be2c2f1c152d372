/* SPDX-License-Identifier: Apache-2.0 */
/* The guard over the pool's vdev: whose flush counts for whom, and what is left of a claim that was lost. */
#include <pthread.h>
#include <setjmp.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include <cmocka.h>

#include "pool/claim.h"
#include "pool/guard.h"
#include "tests/disk/memory.h"

enum { MIB = 1 << 20, SIZE = 64 * MIB };

/* -- a device that can be held amid a flush -- */

struct device {
	struct vdev vdev;
	struct vdev *memory;
	struct vdev *guard;
	pthread_t latecomer;
	bool has_latecomer;
	int late_error;
	unsigned flushes, writes, hurries;
	int flush_error;
};

static void *flush_late(void *context)
{
	struct device *device = context;
	device->late_error = vdev_flush(device->guard);
	return NULL;
}

static int device_flush(struct vdev *vdev)
{
	struct device *device = (struct device *)vdev;
	struct timespec pause = {.tv_nsec = 100 * 1000 * 1000};
	if (device->flushes++ == 0 && device->has_latecomer) {
		assert_int_equal(pthread_create(&device->latecomer, NULL, flush_late, device), 0);
		nanosleep(&pause, NULL); /* it may come later than that: then it has one of its own all the same */
	}
	return device->flush_error;
}

static void device_submit(struct vdev *vdev, struct vdev_io *ios, unsigned count)
{
	struct device *device = (struct device *)vdev;
	for (unsigned i = 0; i < count; i++) {
		device->writes += ios[i].op == VDEV_WRITE;
		ios[i].result = vdev_submit(device->memory, &ios[i], 1);
	}
}

static int device_discard(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	((struct device *)vdev)->writes++;
	return vdev_discard(((struct device *)vdev)->memory, offset, length);
}

static int device_zero(struct vdev *vdev, uint64_t offset, uint64_t length)
{
	((struct device *)vdev)->writes++;
	return vdev_zero(((struct device *)vdev)->memory, offset, length);
}

static int device_writev(struct vdev *vdev, uint64_t offset, const struct iovec *iov, unsigned count)
{
	((struct device *)vdev)->writes++;
	return vdev_writev(((struct device *)vdev)->memory, offset, iov, count);
}

static void device_hurry(struct vdev *vdev)
{
	((struct device *)vdev)->hurries++;
}

static const struct vdev_ops device_ops = {
	.hurry = device_hurry,
	.submit = device_submit,
	.flush = device_flush,
	.discard = device_discard,
	.writev = device_writev,
	.zero = device_zero,
};

static void never_refused(void *context)
{
	(void)context;
	fail();
}

static void begin(struct device *device, struct claim *claim)
{
	device->guard = guard_new(&device->vdev, claim, &clock_system, never_refused, NULL);
	assert_non_null(device->guard);
}

static void make(struct device *device)
{
	*device = (struct device){.vdev = {.ops = &device_ops, .size_bytes = SIZE, .name = "device"}};
	device->memory = vdev_memory_new(SIZE);
	assert_non_null(device->memory);
}

static void end(struct device *device)
{
	vdev_close(device->guard);
	vdev_close(device->memory);
}

/* -- flushing -- */

/* What it wrote before it came may be younger than the flush that runs. */
static void who_comes_amid_a_flush_gets_the_next(void **state)
{
	struct device device;
	(void)state;
	make(&device);
	begin(&device, NULL);
	device.has_latecomer = true;
	device.late_error = -1;
	assert_int_equal(vdev_flush(device.guard), 0);
	pthread_join(device.latecomer, NULL);
	assert_int_equal(device.late_error, 0);
	assert_int_equal(device.flushes, 2);
	end(&device);
}

static void a_hurry_reaches_the_device(void **state)
{
	struct device device;
	(void)state;
	make(&device);
	begin(&device, NULL);
	vdev_hurry(device.guard);
	assert_int_equal(device.hurries, 1);
	end(&device);
}

static void after_a_failed_flush_none_succeeds(void **state)
{
	struct device device;
	(void)state;
	make(&device);
	begin(&device, NULL);
	assert_int_equal(vdev_flush(device.guard), 0);
	assert_false(guard_has_failed(device.guard));
	device.flush_error = -LCPFS_E_IO;
	assert_int_equal(vdev_flush(device.guard), -LCPFS_E_IO);
	device.flush_error = 0; /* as a kernel that has told it once */
	assert_int_equal(vdev_flush(device.guard), -LCPFS_E_IO);
	assert_int_equal(vdev_flush(device.guard), -LCPFS_E_IO);
	assert_true(guard_has_failed(device.guard));
	assert_int_equal(device.flushes, 2);
	end(&device);
}

/* -- a claim that another has taken -- */

static uint64_t tick(void *context) { return ++*(uint64_t *)context; }
static void pass(void *context, uint64_t us) { *(uint64_t *)context += us; }
static void no_chance(void *context, uint8_t bytes[16])
{
	(void)context;
	memset(bytes, 7, 16);
}

/* Both copies, with another owner. */
static void take_over(struct vdev *memory, const struct layout *layout)
{
	_Alignas(BLOCK_SIZE) struct fmt_lease lease = {.owner = {9}, .count = le64_of(1)};

	fmt_seal(&lease, FMT_LEASE, layout->guid, 0, 0);
	for (unsigned copy = 0; copy < COPIES; copy++) {
		uint64_t block = layout_area_block(layout, copy, AREA_LEASE);
		assert_int_equal(vdev_write(memory, block * BLOCK_SIZE, &lease, sizeof(lease)), 0);
	}
}

static void nothing_is_changed(struct device *device)
{
	static uint8_t block[BLOCK_SIZE];
	struct iovec iov = {block, sizeof(block)};
	unsigned before = device->writes;
	assert_int_equal(vdev_write(device->guard, MIB, block, sizeof(block)), -LCPFS_E_TAKEN_OVER);
	assert_int_equal(vdev_writev(device->guard, MIB, &iov, 1), -LCPFS_E_TAKEN_OVER);
	assert_int_equal(vdev_discard(device->guard, MIB, MIB), -LCPFS_E_TAKEN_OVER);
	assert_int_equal(vdev_zero(device->guard, MIB, MIB), -LCPFS_E_TAKEN_OVER);
	assert_int_equal(vdev_read(device->guard, MIB, block, sizeof(block)), -LCPFS_E_TAKEN_OVER);
	assert_false(guard_may_read(device->guard));
	assert_int_equal(device->writes, before);
}

/* The flush notices, before anybody hears that his data is safe; and from then on nothing gets through. */
static void a_lost_claim_ends_it(void **state)
{
	static uint8_t block[BLOCK_SIZE];
	uint64_t clock = 1;
	struct claim_world world = {.now_us = tick, .sleep_us = pass, .random = no_chance, .context = &clock};
	struct vdev_place place = {.device = 1, .inode = 2};
	struct claim_options options = {.world = &world, .place = &place};
	struct device device;
	struct layout layout;
	struct claim *claim;
	(void)state;
	make(&device);
	assert_int_equal(layout_plan(SIZE, 0, MIB, &layout, NULL), 0);
	layout.guid = 77;
	assert_int_equal(claim_take(&device.vdev, &layout, &options, &claim, NULL), 0);
	begin(&device, claim);
	assert_int_equal(vdev_write(device.guard, MIB, block, sizeof(block)), 0);
	assert_int_equal(vdev_flush(device.guard), 0);
	take_over(device.memory, &layout);
	assert_int_equal(vdev_write(device.guard, MIB, block, sizeof(block)), 0); /* it cannot know yet */
	assert_int_equal(vdev_flush(device.guard), -LCPFS_E_TAKEN_OVER);
	nothing_is_changed(&device);
	assert_int_equal(vdev_flush(device.guard), -LCPFS_E_TAKEN_OVER);
	claim_abandon(claim);
	end(&device);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(who_comes_amid_a_flush_gets_the_next),
		cmocka_unit_test(a_hurry_reaches_the_device),
		cmocka_unit_test(after_a_failed_flush_none_succeeds),
		cmocka_unit_test(a_lost_claim_ends_it),
	};
	return cmocka_run_group_tests_name("guard", tests, NULL, NULL);
}
