/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a partition did at one size, as a row of batches: means with standard errors that hold for measurements
 * that hang together in time (method of batch means). Batches grow by merging until the row spans two turnovers of
 * the partition; then the oldest goes.
 */
#ifndef ENGINE_WINDOW_H
#define ENGINE_WINDOW_H

#include <stdbool.h>

#define ENGINE_BATCHES_MAX 32
#define ENGINE_BATCHES_MIN 4 /* fewer say nothing about their own spread: 3 degrees of freedom */

struct engine_batch {
	double ops, latency_us, write_latency_us;
	double user, copied, device;
	double work; /* device blocks + read operations: what the batch's length is counted in */
};

struct engine_window {
	struct engine_batch batches[ENGINE_BATCHES_MAX], open;
	int count;
	double width; /* work that closes a batch */
};

struct engine_mean {
	double value, error; /* standard error; INFINITY below ENGINE_BATCHES_MIN */
	double freedom;
};

void engine_batch_add(struct engine_batch *to, const struct engine_batch *batch);
void engine_window_reset(struct engine_window *window);
void engine_window_add(struct engine_window *window, const struct engine_batch *sample, double turnover_blocks);
bool engine_window_ready(const struct engine_window *window);
struct engine_batch engine_window_sum(const struct engine_window *window);
struct engine_mean engine_window_latency(const struct engine_window *window); /* µs per operation */
struct engine_mean engine_window_copies(const struct engine_window *window); /* copied per user block */

#endif
