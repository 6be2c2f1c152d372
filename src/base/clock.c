/* SPDX-License-Identifier: Apache-2.0 */
#include "base/clock.h"

#include <stddef.h>
#include <time.h>

static uint64_t system_now_us(void *context)
{
	struct timespec now;
	(void)context;
	clock_gettime(CLOCK_MONOTONIC, &now);
	return (uint64_t)now.tv_sec * 1000000 + (uint64_t)now.tv_nsec / 1000;
}

static uint64_t system_wall_s(void *context)
{
	time_t now = time(NULL);
	(void)context;
	return now < 0 ? 0 : (uint64_t)now;
}

const struct clock clock_system = {system_now_us, system_wall_s, NULL};
