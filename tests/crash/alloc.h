/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Allocations that fail on demand. The program is linked with --wrap for malloc, calloc, realloc and
 * posix_memalign; those made within ALLOC_ARMED(call) count, but not those of a device behind alloc_front().
 */
#ifndef CRASH_ALLOC_H
#define CRASH_ALLOC_H

#include <stdbool.h>
#include <stdint.h>

#include "vdev/vdev.h"

/* Allocation `at` fails, counted from 0 from now on; `forever`: those after it, too. */
void alloc_fail(uint64_t at, bool forever);
void alloc_work(void);       /* none fails any more */
uint64_t alloc_count(void);  /* how many there were since alloc_fail or alloc_work */
bool alloc_failed(void);     /* did one, since alloc_fail? */
void alloc_arm(bool on);

#define ALLOC_ARMED(call) __extension__({ \
	alloc_arm(true); \
	__typeof__(call) result_ = (call); \
	alloc_arm(false); \
	result_; \
})

struct alloc_front {
	struct vdev vdev; /* first */
	struct vdev *behind;
};

/* A device whose own allocations are left alone. */
void alloc_front_init(struct alloc_front *front, struct vdev *behind);

#endif
