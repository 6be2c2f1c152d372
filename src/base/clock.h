/* SPDX-License-Identifier: Apache-2.0 */
/* Time comes in through this, never from the environment: tests inject their own. */
#ifndef BASE_CLOCK_H
#define BASE_CLOCK_H

#include <stdint.h>

struct clock {
	uint64_t (*now_us)(void *context); /* monotonic microseconds; may start anywhere */
	uint64_t (*wall_s)(void *context); /* seconds since 1970, for records people read */
	void *context;
};

extern const struct clock clock_system; /* CLOCK_MONOTONIC and CLOCK_REALTIME */

static inline uint64_t clock_us(const struct clock *clock) { return clock->now_us(clock->context); }

#endif
