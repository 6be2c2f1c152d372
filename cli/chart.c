/* SPDX-License-Identifier: Apache-2.0 */
/*
 * All panels of a picture share one time axis. Positions are in units of the picture's own box, which the page
 * scales. Colours, fonts and line widths are the style sheet's.
 */
#include "chart.h"

#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <time.h>

#include "base/check.h"
#include "base/words.h"
#include "control/field.h"
#include "show.h"
#include "size.h"

enum {
	SERIES = 8,
	BINS_MAX = 200,
	GAP_MAX = 5, /* bins that a line leaps over */
	LINES_MAX = 40,
	MARK_WIDTH = 12,
	ROW_HEIGHT = 13,
	ROWS_MAX = 6,
	DAY_S = 24 * 3600,
};

struct frame { /* of one picture */
	struct text *out;
	const struct past *past;
	bool is_narrow;
	double width, left, right; /* left and right: where the panels begin and end */
};

struct panel {
	double top, height;
	double high; /* value at its top; 0 is at its bottom */
	char unit;   /* 'B': blocks; else a number */
};

/* ---- words ---- */

void chart_escape(struct text *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '&')
			text_append(out, "&amp;");
		else if (*text == '<')
			text_append(out, "&lt;");
		else if (*text == '>')
			text_append(out, "&gt;");
		else if (*text == '"')
			text_append(out, "&quot;");
		else
			text_append(out, "%c", *text);
	}
}

const char *chart_series(size_t index)
{
	static const char *const names[SERIES] = {"s1", "s2", "s3", "s4", "s5", "s6", "s7", "s8"};
	return names[index % SERIES];
}

/* Without zeros that say nothing: "64M", "1.5G". */
static const char *short_blocks(char text[WORDS_ROOM], double blocks)
{
	words_blocks(text, blocks);
	char *end = text + strcspn(text, "KMGTP");
	if (strchr(text, '.') && end > text) {
		char unit[8];
		char *last = end;
		snprintf(unit, sizeof(unit), "%s", end);
		while (last[-1] == '0')
			last--;
		if (last[-1] == '.')
			last--;
		memmove(last, unit, strlen(unit) + 1);
	}
	return text;
}

static const char *short_value(char text[WORDS_ROOM], double value, char unit)
{
	if (unit == 'B')
		return short_blocks(text, value);
	snprintf(text, WORDS_ROOM, "%g", value);
	return value >= 1e5 || (value > 0 && value < 1e-4) ? words_number(text, value) : text;
}

const char *chart_mark_class(const struct past_mark *mark)
{
	const char *kind = field_text(mark->event, "kind"), *reason = field_text(mark->event, "reason");
	if (strcmp(kind, "moved") != 0)
		return strcmp(kind, "emergency") && strcmp(kind, "resized") ? "other" : kind;
	if (!mark->outcome && reason && (!strcmp(reason, "undo") || !strcmp(reason, "retreat")))
		return "back"; /* these are not judged */
	return mark->outcome && field_text(mark->outcome, "verdict") ? field_text(mark->outcome, "verdict")
								     : "waiting";
}

/* One sentence: what, from whom to whom, how much, why, what came of it. */
static void mark_words(struct text *out, const struct past *past, const struct past_mark *mark)
{
	struct json_object *e = mark->event;
	const char *kind = field_text(e, "kind"), *reason = field_text(e, "reason"), *text = field_text(e, "text");
	char when[TIME_TEXT], blocks[WORDS_ROOM];
	chart_escape(out, show_time(mark->time_s, when));
	text_append(out, ": %s", kind);
	if (!strcmp(kind, "moved") || !strcmp(kind, "emergency")) {
		text_append(out, ", %s from ", words_blocks(blocks, (double)field_count(e, "blocks")));
		chart_escape(out, past_side(past, e, "from_id"));
		text_append(out, " to ");
		chart_escape(out, past_side(past, e, "to_id"));
	}
	if (reason) {
		text_append(out, "; reason: ");
		chart_escape(out, reason);
	}
	text_append(out, ". ");
	chart_escape(out, text ? text : "");
	if (mark->outcome) {
		text_append(out, ". What came of it: ");
		chart_escape(out, field_text(mark->outcome, "text"));
	}
}

/* ---- scales ---- */

static double x_of(const struct frame *f, double time_s)
{
	double from = (double)f->past->from_s, to = (double)f->past->to_s,
	       at = to > from ? (time_s - from) / (to - from) : 1;
	return f->left + MIN_OF(MAX_OF(at, 0.0), 1.0) * (f->right - f->left);
}

static double y_of(const struct panel *p, double value)
{
	double at = p->high > 0 ? value / p->high : 0;
	return p->top + p->height * (1 - MIN_OF(MAX_OF(at, 0.0), 1.0));
}

/* 1, 2 or 5 times a power of ten; of blocks a power of two. */
static double nice_step(double high, unsigned steps, char unit)
{
	double wanted = high / steps, power;
	if (!(wanted > 0))
		return 1;
	if (unit == 'B')
		return exp2(ceil(log2(wanted)));
	power = pow(10, floor(log10(wanted)));
	return wanted <= power       ? power
	       : wanted <= 2 * power ? 2 * power
	       : wanted <= 5 * power ? 5 * power
				     : 10 * power;
}

static void value_axis(const struct frame *f, const struct panel *p, unsigned steps)
{
	double step = nice_step(p->high, steps, p->unit);
	char text[WORDS_ROOM];
	for (double value = 0; value <= p->high * 1.0001; value += step)
		text_append(f->out,
			    "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>"
			    "<text class=\"tick end\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
			    f->left, y_of(p, value), f->right, f->left - 6, y_of(p, value) + 4,
			    short_value(text, value, p->unit));
}

static uint64_t time_step(uint64_t span_s, unsigned most)
{
	static const uint32_t steps[] = {5,         10,    15,        30,        60,        120,       300,
					 600,       1200,  1800,      3600,      2 * 3600,  4 * 3600,  6 * 3600,
					 12 * 3600, DAY_S, 2 * DAY_S, 4 * DAY_S, 7 * DAY_S, 14 * DAY_S};
	for (size_t i = 0; i < ARRAY_LENGTH(steps); i++)
		if (span_s / steps[i] <= most)
			return steps[i];
	return (span_s / most / (28 * DAY_S) + 1) * 28 * DAY_S;
}

static void time_label(const struct frame *f, double y, time_t when, uint64_t step, bool with_day)
{
	char clock[16], day[16];
	struct tm local;
	localtime_r(&when, &local);
	strftime(clock, sizeof(clock), step < 60 ? "%H:%M:%S" : "%H:%M", &local);
	strftime(day, sizeof(day), step < 28 * DAY_S ? "%d %b" : "%b %Y", &local);
	if (step < DAY_S)
		text_append(f->out, "<text class=\"tick middle\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
			    x_of(f, (double)when), y, clock);
	if (with_day)
		text_append(f->out, "<text class=\"tick middle\" x=\"%.1f\" y=\"%.1f\">%s</text>\n",
			    x_of(f, (double)when), step < DAY_S ? y + 14 : y, day);
}

/* Lines through the panel, and at its foot, where wanted, when that is: local time. */
static void time_axis(const struct frame *f, const struct panel *p, bool with_labels)
{
	uint64_t step = time_step(f->past->to_s - f->past->from_s, f->is_narrow ? 4 : 11);
	time_t from = (time_t)f->past->from_s;
	double bottom = p->top + p->height;
	struct tm local;
	int day = -1;
	localtime_r(&from, &local);
	for (uint64_t at = (f->past->from_s + (uint64_t)local.tm_gmtoff + step - 1) / step * step -
			   (uint64_t)local.tm_gmtoff;
	     at <= f->past->to_s; at += step) {
		time_t when = (time_t)at;
		text_append(f->out, "<path class=\"grid\" d=\"M%.1f %.1fV%.1f\"/>\n", x_of(f, (double)at), p->top,
			    bottom);
		localtime_r(&when, &local);
		if (with_labels)
			time_label(f, bottom + 17, when, step, local.tm_yday != day || step >= DAY_S);
		day = local.tm_yday;
	}
}

static void panel_title(const struct frame *f, const struct panel *p, const char *title)
{
	text_append(f->out, "<text class=\"title\" x=\"%.1f\" y=\"%.1f\">%s</text>\n", f->left, p->top - 8, title);
}

/* ---- the stack ---- */

/* Times at which something is drawn anew: regular ones for what is live, and each change of a size. */
struct columns {
	uint64_t *list;
	size_t count;
};

static int compare_times(const void *a, const void *b)
{
	const uint64_t *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

static struct columns make_columns(const struct past *past, size_t regular)
{
	size_t room = regular + 2 + past->pool_count, kept = 0;
	struct columns c = {0};
	for (size_t i = 0; i < past->partition_count; i++)
		room += past->partitions[i].size_count;
	c.list = calloc(room, sizeof(*c.list));
	CHECK(c.list);
	for (size_t i = 0; i <= regular; i++)
		c.list[c.count++] = past->from_s + (past->to_s - past->from_s) * i / regular;
	for (size_t i = 0; i < past->partition_count; i++)
		for (size_t k = 0; k < past->partitions[i].size_count; k++)
			c.list[c.count++] = past->partitions[i].sizes[k].time_s;
	for (size_t i = 0; i < past->pool_count; i++)
		c.list[c.count++] = past->pool[i].time_s;
	qsort(c.list, c.count, sizeof(*c.list), compare_times);
	for (size_t i = 0; i < c.count; i++)
		if (i == 0 || c.list[i] != c.list[kept - 1])
			c.list[kept++] = c.list[i];
	c.count = kept;
	return c;
}

static double size_at(const struct past_partition *p, uint64_t time_s)
{
	return past_size_at(p->sizes, p->size_count, time_s);
}

/* A band of steps between two edges, each with a value for every column. */
static void band(const struct frame *f, const struct panel *p, const struct columns *c, const double *low,
		 const double *high, const char *class, const char *series)
{
	text_append(f->out, "<path class=\"%s %s\" d=\"M%.1f %.1f", class, series, x_of(f, (double)c->list[0]),
		    y_of(p, high[0]));
	for (size_t i = 1; i < c->count; i++)
		if (high[i] != high[i - 1] || i + 1 == c->count)
			text_append(f->out, "H%.1fV%.1f", x_of(f, (double)c->list[i]), y_of(p, high[i]));
	text_append(f->out, "V%.1f", y_of(p, low[c->count - 1]));
	for (size_t i = c->count - 1; i > 0; i--)
		if (low[i] != low[i - 1] || i == 1)
			text_append(f->out, "H%.1fV%.1f",
				    x_of(f, (double)c->list[i == 1 && low[1] == low[0] ? 0 : i]),
				    y_of(p, low[i - 1]));
	text_append(f->out, "Z\"/>\n");
}

static void band_label(const struct frame *f, const struct panel *p, size_t index, double low, double high)
{
	const struct past_partition *partition = &f->past->partitions[index];
	double y = (y_of(p, low) + y_of(p, high)) / 2, height = y_of(p, low) - y_of(p, high);
	char size[WORDS_ROOM];
	if (height < ROW_HEIGHT || (f->is_narrow && strlen(partition->name) > 12))
		return;
	text_append(f->out, "<text class=\"label %s\" x=\"%.1f\" y=\"%.1f\">", f->is_narrow ? "end" : "",
		    f->is_narrow ? f->right - 5 : f->right + 8, y + 4);
	chart_escape(f->out, partition->name);
	text_append(f->out, " <tspan class=\"quiet\">%s</tspan></text>\n", short_blocks(size, high - low));
}

static void free_label(const struct frame *f, const struct panel *p, double low)
{
	char size[WORDS_ROOM];
	if (y_of(p, low) - p->top >= ROW_HEIGHT)
		text_append(f->out, "<text class=\"label quiet %s\" x=\"%.1f\" y=\"%.1f\">nobody's %s</text>\n",
			    f->is_narrow ? "end" : "", f->is_narrow ? f->right - 5 : f->right + 8,
			    (y_of(p, low) + p->top) / 2 + 4, short_blocks(size, p->high - low));
}

static void stack(const struct frame *f, const struct panel *p)
{
	const struct past *past = f->past;
	struct columns c = make_columns(past, BINS_MAX);
	double *low = calloc(c.count, sizeof(*low)), *high = calloc(c.count, sizeof(*high));
	double *live = calloc(c.count, sizeof(*live));
	CHECK(low && high && live);
	for (size_t i = 0; i < past->partition_count; i++) {
		for (size_t k = 0; k < c.count; k++) {
			low[k] = high[k];
			high[k] = low[k] + size_at(&past->partitions[i], c.list[k]);
			live[k] = low[k] + past_live_at(&past->partitions[i], c.list[k]);
		}
		band(f, p, &c, low, high, "size", chart_series(i));
		band(f, p, &c, low, live, "live", chart_series(i));
		band_label(f, p, i, low[c.count - 1], high[c.count - 1]);
	}
	free_label(f, p, high[c.count - 1]);
	free(low);
	free(high);
	free(live);
	free(c.list);
}

/* ---- marks ---- */

void chart_sign(struct text *out, const char *class)
{
	static const struct {
		const char *class, *path;
	} signs[] = {
		{"improved", "M0 -5L5 4H-5Z"},
		{"hurt", "M0 5L5 -4H-5Z"},
		{"inconclusive", "M0 -5L5 0L0 5L-5 0Z"},
		{"not_judged", "M-4 0A4 4 0 1 1 4 0A4 4 0 1 1 -4 0Z"},
		{"waiting", "M-4 0A4 4 0 1 1 4 0A4 4 0 1 1 -4 0Z"},
		{"back", "M-5 0L0 -5V-2H5V2H0V5Z"},
		{"emergency", "M-1.5 -5H1.5V-1.5H5V1.5H1.5V5H-1.5V1.5H-5V-1.5H-1.5Z"},
		{"resized", "M-4 -4H4V4H-4Z"},
	};
	for (size_t i = 0; i < ARRAY_LENGTH(signs); i++)
		if (!strcmp(signs[i].class, class)) {
			text_append(out, "<path class=\"sign\" d=\"%s\"/>", signs[i].path);
			return;
		}
	text_append(out, "<path class=\"sign\" d=\"M-1 -5H1V5H-1Z\"/>");
}

struct rows {
	double last[ROWS_MAX]; /* where the last mark of each is */
	unsigned used;
};

/* The first row with room, or else the one that has been left alone for longest. */
static unsigned row_for(struct rows *rows, double x)
{
	unsigned best = 0;
	for (unsigned i = 0; i < ROWS_MAX; i++) {
		if (i == rows->used || x - rows->last[i] >= MARK_WIDTH) {
			best = i;
			break;
		}
		best = rows->last[i] < rows->last[best] ? i : best;
	}
	rows->used = MAX_OF(rows->used, best + 1);
	rows->last[best] = x;
	return best;
}

static unsigned rows_needed(const struct frame *f)
{
	struct rows rows = {.used = 0};
	for (size_t i = 0; i < f->past->mark_count; i++)
		row_for(&rows, x_of(f, (double)f->past->marks[i].time_s));
	return rows.used;
}

/* What is seen of a mark while it is pointed at, where there is room for that. */
static void hint(const struct frame *f, const struct past_mark *m)
{
	const char *reason = field_text(m->event, "reason"), *kind = field_text(m->event, "kind");
	const char *verdict = m->outcome ? field_text(m->outcome, "verdict") : NULL;
	char blocks[WORDS_ROOM];
	if (f->is_narrow)
		return;
	text_append(f->out, "<text class=\"hint end\" x=\"%.1f\" y=\"14\">%s %s, ", f->width - 4, kind,
		    words_blocks(blocks, (double)field_count(m->event, "blocks")));
	chart_escape(f->out, past_side(f->past, m->event, "from_id"));
	text_append(f->out, " → ");
	chart_escape(f->out, past_side(f->past, m->event, "to_id"));
	text_append(f->out, "%s%s%s%s</text>", reason ? "; " : "", reason ? reason : "", verdict ? "; " : "",
		    verdict ? verdict : "");
}

/* Links to the table's rows: the Tab key walks through them. `bottom`: of all panels. */
static void marks(const struct frame *f, double top, double bottom)
{
	unsigned needed = rows_needed(f);
	struct rows rows = {.used = 0};
	for (size_t i = 0; i < f->past->mark_count; i++) {
		const struct past_mark *m = &f->past->marks[i];
		double x = x_of(f, (double)m->time_s);
		double y = top + (needed - 1 - row_for(&rows, x)) * ROW_HEIGHT + 6;
		text_append(f->out, "<a class=\"mark %s\" href=\"#event-%llu\"><title>", chart_mark_class(m),
			    (unsigned long long)m->number);
		mark_words(f->out, f->past, m);
		text_append(f->out, "</title><path class=\"thread\" d=\"M%.1f %.1fV%.1f\"/>", x, y, bottom);
		text_append(f->out, "<g transform=\"translate(%.1f %.1f)\"><circle class=\"halo\" r=\"9\"/>", x,
			    y);
		chart_sign(f->out, chart_mark_class(m));
		text_append(f->out, "</g>");
		hint(f, m);
		text_append(f->out, "</a>\n");
	}
}

/* ---- lines ---- */

struct bin {
	double written, device, epsilon, seconds, width_s;
};

struct bins {
	struct bin list[BINS_MAX];
	size_t count;
	double width_s;
};

static void add_sample(const struct past *past, struct bins *b, const struct past_sample *s)
{
	double begin = (double)s->time_s - (double)s->span_s - (double)past->from_s,
	       end = begin + (double)s->span_s;
	size_t first = begin > 0 ? (size_t)(begin / b->width_s) : 0;
	for (size_t i = first; i < b->count && (double)i * b->width_s < end; i++) {
		double from = MAX_OF(begin, (double)i * b->width_s),
		       to = MIN_OF(end, (double)(i + 1) * b->width_s);
		double share = MAX_OF(to - from, 0.0) / (double)s->span_s;
		b->list[i].written += share * s->written;
		b->list[i].device += share * s->device;
		b->list[i].epsilon += s->epsilon * MAX_OF(to - from, 0.0);
		b->list[i].seconds += MAX_OF(to - from, 0.0);
	}
}

/* Of ten seconds at least, since there is no sample of less. */
static void fill_bins(const struct frame *f, struct bins *b, const struct past_partition *p)
{
	double span_s = MAX_OF((double)(f->past->to_s - f->past->from_s), 1.0);
	*b = (struct bins){
		.count = (size_t)MIN_OF(MAX_OF(span_s / 10, 1.0), f->is_narrow ? 100.0 : (double)BINS_MAX)};
	b->width_s = span_s / (double)b->count;
	for (size_t i = 0; i < b->count; i++)
		b->list[i].width_s = b->width_s;
	for (size_t i = 0; i < p->sample_count; i++)
		add_sample(f->past, b, &p->samples[i]);
	/* What the device got while users wrote nothing belongs to what they write next. */
	for (size_t i = 0; i + 1 < b->count; i++)
		if (b->list[i].written < 1) {
			b->list[i + 1].written += b->list[i].written;
			b->list[i + 1].device += b->list[i].device;
		}
}

/* Negative: there is none. */
static double bin_wa(const struct bin *b)
{
	return b->written >= 1 ? b->device / b->written : -1;
}

/* Over all of the bin: while nothing was measured, nothing was done. */
static double bin_epsilon(const struct bin *b)
{
	return b->seconds > 0 ? b->epsilon / b->width_s : -1;
}

typedef double bin_value(const struct bin *bin);

static int compare_values(const void *a, const void *b)
{
	const double *x = a, *y = b;
	return *x < *y ? -1 : *x > *y;
}

/* Where the axis ends: above nearly all, so that one outlier does not press the rest flat. */
static double high_of(const struct frame *f, bin_value *value)
{
	size_t count = 0, room = f->past->partition_count * BINS_MAX + 1;
	double *list = calloc(room, sizeof(*list)), high, most;
	struct bins *b = malloc(sizeof(*b));
	CHECK(list && b);
	for (size_t i = 0; i < f->past->partition_count; i++) {
		fill_bins(f, b, &f->past->partitions[i]);
		for (size_t k = 0; k < b->count; k++)
			if (value(&b->list[k]) > 0)
				list[count++] = value(&b->list[k]);
	}
	qsort(list, count, sizeof(*list), compare_values);
	high = count ? list[count - 1 - count / 50] : 0;
	most = count ? list[count - 1] : 0;
	high = most <= 2 * high ? most : high;
	free(list);
	free(b);
	return high * 1.05;
}

static void line(const struct frame *f, const struct panel *p, const struct bins *b, bin_value *value,
		 size_t index)
{
	size_t last = SIZE_MAX;
	text_append(f->out, "<path class=\"line %s\" d=\"", chart_series(index));
	for (size_t i = 0; i < b->count; i++) {
		double v = value(&b->list[i]), middle = (double)f->past->from_s + ((double)i + 0.5) * b->width_s;
		bool goes_on = last != SIZE_MAX && i - last <= GAP_MAX;
		if (v < 0)
			continue;
		text_append(f->out, "%s%.1f %.1f%s", goes_on ? "L" : "M", x_of(f, middle), y_of(p, v),
			    goes_on ? "" : "h0.1"); /* a point alone is seen, too */
		last = i;
	}
	text_append(f->out, "\"/>\n");
}

struct line_end {
	size_t index;
	double y;
};

static int compare_ends(const void *a, const void *b)
{
	const struct line_end *x = a, *y = b;
	return x->y < y->y ? -1 : x->y > y->y;
}

/* Beside the ends of the lines, pushed apart where they would lie over each other. */
static void line_labels(const struct frame *f, const struct panel *p, struct line_end *ends, size_t count)
{
	double least = p->top - 100, bottom = p->top + p->height;
	if (f->is_narrow || count * ROW_HEIGHT > (size_t)p->height + ROW_HEIGHT)
		return;
	qsort(ends, count, sizeof(*ends), compare_ends);
	for (size_t i = 0; i < count; i++)
		least = ends[i].y = MAX_OF(ends[i].y, least + ROW_HEIGHT);
	for (size_t i = count; i > 0; i--, bottom -= ROW_HEIGHT)
		ends[i - 1].y = MIN_OF(ends[i - 1].y, bottom);
	for (size_t i = 0; i < count; i++) {
		text_append(f->out, "<text class=\"label ink-%s\" x=\"%.1f\" y=\"%.1f\">",
			    chart_series(ends[i].index), f->right + 8, ends[i].y + 4);
		chart_escape(f->out, f->past->partitions[ends[i].index].name);
		text_append(f->out, "</text>\n");
	}
}

static void lines(const struct frame *f, const struct panel *p, bin_value *value)
{
	struct line_end ends[LINES_MAX];
	struct bins *b = malloc(sizeof(*b));
	size_t count = 0;
	CHECK(b);
	for (size_t i = 0; i < f->past->partition_count; i++) {
		double last = -1;
		fill_bins(f, b, &f->past->partitions[i]);
		for (size_t k = 0; k < b->count; k++)
			last = value(&b->list[k]) >= 0 ? value(&b->list[k]) : last;
		if (last < 0)
			continue;
		line(f, p, b, value, i);
		if (count < LINES_MAX)
			ends[count++] = (struct line_end){i, y_of(p, last)};
	}
	line_labels(f, p, ends, count);
	if (!count)
		text_append(f->out, "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\">nothing was measured</text>\n",
			    f->left + 10, p->top + p->height / 2);
	free(b);
}

/* ---- pictures ---- */

static void begin(struct frame *f, double height, const char *label)
{
	text_append(f->out,
		    "<svg class=\"%s\" viewBox=\"0 0 %.0f %.0f\" role=\"group\" aria-label=\"%s\" "
		    "xmlns=\"http://www.w3.org/2000/svg\">\n",
		    f->is_narrow ? "narrow" : "wide", f->width, height, label);
}

static struct frame frame_of(struct text *out, const struct past *past, enum chart_shape shape)
{
	if (shape == CHART_NARROW)
		return (struct frame){out, past, true, 400, 44, 394};
	return (struct frame){out, past, false, 960, 60, 820};
}

void chart_boundaries(struct text *out, const struct past *past, enum chart_shape shape)
{
	struct frame f = frame_of(out, past, shape);
	double lane = 26, marks_height = (double)rows_needed(&f) * ROW_HEIGHT + 6;
	struct panel sizes = {lane + marks_height, f.is_narrow ? 240 : 300, past->pool_blocks_max, 'B'};
	struct panel wa = {sizes.top + sizes.height + 62, f.is_narrow ? 90 : 110, high_of(&f, bin_wa), 0};
	struct panel epsilon = {wa.top + wa.height + 40, wa.height, high_of(&f, bin_epsilon), 0};
	double bottom = epsilon.top + epsilon.height;
	begin(&f, bottom + 36, "boundaries, write amplification and epsilon over time");
	text_append(out, "<text class=\"title\" x=\"%.1f\" y=\"14\">Space%s</text>\n", f.left,
		    f.is_narrow ? ": live data dark, spare light"
				: ", and who has it: live data dark, spare light");
	value_axis(&f, &sizes, 4);
	time_axis(&f, &sizes, true);
	stack(&f, &sizes);
	panel_title(&f, &wa,
		    f.is_narrow ? "Write amplification"
				: "Write amplification: blocks written to the device for each that users wrote");
	value_axis(&f, &wa, 3);
	time_axis(&f, &wa, false);
	lines(&f, &wa, bin_wa);
	panel_title(&f, &epsilon, "Epsilon: latency × utilization × frequency");
	value_axis(&f, &epsilon, 3);
	time_axis(&f, &epsilon, true);
	lines(&f, &epsilon, bin_epsilon);
	marks(&f, lane, bottom);
	text_append(out, "</svg>\n");
}

/* ---- thresholds ---- */

static double threshold_high(const struct past *past, size_t which)
{
	double high = 0;
	for (size_t i = 0; i < past->learned_count; i++)
		high = MAX_OF(high, past->learned[i].value[which]);
	return high > 0 ? high * 1.15 : 1;
}

/* Steps: what was learned holds until more is. `values` begins at one member of the first of past.learned. */
static void steps(const struct frame *f, const struct panel *p, const double *values, const char *class)
{
	const struct past *past = f->past;
	size_t stride = sizeof(*past->learned) / sizeof(*values);
	text_append(f->out, "<path class=\"%s\" d=\"M%.1f %.1f", class, x_of(f, (double)past->learned[0].time_s),
		    y_of(p, values[0]));
	for (size_t i = 1; i < past->learned_count; i++)
		text_append(f->out, "H%.1fV%.1f", x_of(f, (double)past->learned[i].time_s),
			    y_of(p, values[i * stride]));
	text_append(f->out, "h0.1\"/>\n");
}

static void threshold(struct frame *f, double top, size_t which)
{
	const struct past_learned *first = f->past->learned, *last = &first[f->past->learned_count - 1];
	struct panel value = {top + 24, 80, threshold_high(f->past, which), 0};
	struct panel confidence = {value.top + value.height + 12, 24, 1, 0};
	char text[WORDS_ROOM];
	text_append(f->out,
		    "<text class=\"title\" x=\"%.1f\" y=\"%.1f\">%s: <tspan class=\"strong\">%s</tspan></text>\n",
		    f->left, top + 14, past_threshold_names[which], words_number(text, last->value[which]));
	value_axis(f, &value, 2);
	time_axis(f, &value, false);
	steps(f, &value, &first->value[which], "line s1");
	text_append(f->out,
		    "<path class=\"grid\" d=\"M%.1f %.1fH%.1f\"/>"
		    "<text class=\"tick\" x=\"%.1f\" y=\"%.1f\">confidence %.0f %%</text>\n",
		    f->left, confidence.top + confidence.height, f->right, f->left + 4, confidence.top + 8,
		    100 * last->confidence[which]);
	steps(f, &confidence, &first->confidence[which], "line s5");
	time_axis(f, &confidence, true);
}

enum { THRESHOLD_HEIGHT = 190 };

void chart_thresholds(struct text *out, const struct past *past, enum chart_shape shape)
{
	struct frame f = frame_of(out, past, shape);
	unsigned across = f.is_narrow ? 1 : 2;
	begin(&f, THRESHOLD_HEIGHT * (PAST_THRESHOLDS / across), "thresholds as they were learned");
	for (size_t i = 0; i < PAST_THRESHOLDS; i++) {
		struct frame part = f;
		if (!f.is_narrow) {
			part.left = i % 2 ? 540 : 60;
			part.right = i % 2 ? 940 : 460;
			part.is_narrow = true; /* as few labels */
		}
		threshold(&part, (double)THRESHOLD_HEIGHT * (double)(i / across), i);
	}
	text_append(out, "</svg>\n");
}
