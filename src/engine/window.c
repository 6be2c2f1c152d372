/* SPDX-License-Identifier: Apache-2.0 */
#include "engine/window.h"

#include <math.h>
#include <string.h>

void engine_window_reset(struct engine_window *window)
{
	memset(window, 0, sizeof(*window));
}

void engine_batch_add(struct engine_batch *to, const struct engine_batch *b)
{
	to->ops += b->ops;
	to->latency_us += b->latency_us;
	to->write_latency_us += b->write_latency_us;
	to->user += b->user;
	to->copied += b->copied;
	to->device += b->device;
	to->work += b->work;
}

static void merge_pairs(struct engine_window *w)
{
	for (int i = 0; i < w->count / 2; i++) {
		struct engine_batch pair = w->batches[2 * i];
		engine_batch_add(&pair, &w->batches[2 * i + 1]);
		w->batches[i] = pair;
	}
	w->count /= 2;
}

/*
 * A row of 32 batches of a sixteenth turnover spans two: long enough to be steady, short enough to follow the
 * load.
 */
static void make_room(struct engine_window *w, double turnover_blocks)
{
	double mean_work = engine_window_sum(w).work / w->count;
	if (mean_work * ENGINE_BATCHES_MAX / 2 < turnover_blocks) {
		merge_pairs(w);
		w->width = 2 * mean_work;
		return;
	}
	w->count--;
	memmove(w->batches, w->batches + 1, sizeof(w->batches[0]) * (size_t)w->count);
}

void engine_window_add(struct engine_window *window, const struct engine_batch *sample, double turnover_blocks)
{
	engine_batch_add(&window->open, sample);
	if (!(window->open.work > 0) || window->open.work < window->width)
		return;
	if (window->count == ENGINE_BATCHES_MAX)
		make_room(window, turnover_blocks);
	window->batches[window->count++] = window->open;
	memset(&window->open, 0, sizeof(window->open));
}

bool engine_window_ready(const struct engine_window *window)
{
	return window->count >= ENGINE_BATCHES_MIN;
}

struct engine_batch engine_window_sum(const struct engine_window *window)
{
	struct engine_batch sum = {0};
	for (int i = 0; i < window->count; i++)
		engine_batch_add(&sum, &window->batches[i]);
	return sum;
}

struct ratio {
	double top, bottom;
};

/* Ratio estimator Σtop/Σbottom and the spread of its batches (Cochran, Sampling Techniques, 6.4). */
static struct engine_mean ratio_mean(const struct engine_window *w,
				     struct ratio (*of)(const struct engine_batch *))
{
	struct engine_batch sum = engine_window_sum(w);
	struct ratio all = of(&sum);
	double squares = 0, n = w->count;
	if (!(all.bottom > 0))
		return (struct engine_mean){0, INFINITY, 1};
	double value = all.top / all.bottom;
	if (!engine_window_ready(w))
		return (struct engine_mean){value, INFINITY, 1};
	for (int i = 0; i < w->count; i++) {
		struct ratio r = of(&w->batches[i]);
		double off = r.top - value * r.bottom;
		squares += off * off;
	}
	return (struct engine_mean){value, sqrt(squares * n / (n - 1)) / all.bottom, n - 1};
}

static struct ratio latency_of(const struct engine_batch *b)
{
	return (struct ratio){b->latency_us, b->ops};
}

static struct ratio copies_of(const struct engine_batch *b)
{
	return (struct ratio){b->copied, b->user};
}

struct engine_mean engine_window_latency(const struct engine_window *window)
{
	return ratio_mean(window, latency_of);
}

struct engine_mean engine_window_copies(const struct engine_window *window)
{
	return ratio_mean(window, copies_of);
}
