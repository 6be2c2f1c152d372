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

/* Ratio estimator Σtop/Σbottom and the spread of its batches (Cochran, Sampling Techniques, 6.4). */
struct ratio {
	double top[ENGINE_BATCHES_MAX], bottom[ENGINE_BATCHES_MAX];
	int count;
};

static struct engine_mean ratio_mean(const struct ratio *r)
{
	double top = 0, bottom = 0, squares = 0, n = r->count;
	for (int i = 0; i < r->count; i++) {
		top += r->top[i];
		bottom += r->bottom[i];
	}
	if (!(bottom > 0))
		return (struct engine_mean){0, INFINITY, 1};
	double value = top / bottom;
	if (r->count < ENGINE_BATCHES_MIN)
		return (struct engine_mean){value, INFINITY, 1};
	for (int i = 0; i < r->count; i++) {
		double off = r->top[i] - value * r->bottom[i];
		squares += off * off;
	}
	return (struct engine_mean){value, sqrt(squares * n / (n - 1)) / bottom, n - 1};
}

struct engine_mean engine_window_latency(const struct engine_window *window)
{
	struct ratio r = {.count = window->count};
	for (int i = 0; i < window->count; i++) {
		r.top[i] = window->batches[i].latency_us;
		r.bottom[i] = window->batches[i].ops;
	}
	return ratio_mean(&r);
}

struct engine_mean engine_window_copies(const struct engine_window *window)
{
	struct ratio r = {.count = window->count};
	for (int i = 0; i < window->count; i++) {
		r.top[i] = window->batches[i].copied;
		r.bottom[i] = window->batches[i].user;
	}
	return ratio_mean(&r);
}
