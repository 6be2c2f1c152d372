/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lcpfs iostat: what happened between two looks at the counters of the pool's process. The first look stands for
 * all since the pool was opened.
 */
#include <errno.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include "cli.h"
#include "control/field.h"
#include "control/iostat.h"
#include "rates.h"
#include "session.h"
#include "show.h"
#include "size.h"
#include "table.h"

struct watching {
	const struct cli *cli;
	const char *name; /* NULL: all */
	double interval_s;
	uint64_t count; /* reports still to come; UINT64_MAX: no end */
	struct rates before;
	bool has_titles;
	unsigned lines; /* since the titles */
};

/* ---- JSON ---- */

static struct json_object *operation_object(const struct rates_row *row, unsigned kind)
{
	const struct lcpfs_operation_stats *stats = &row->operation[kind];
	struct json_object *object = json_object_new_object();
	field_put_count(object, "ops", stats->ops);
	field_put_number(object, "ops_per_s", rates_per_second(row, (double)stats->ops));
	field_put_number(object, "bytes_per_s", rates_per_second(row, (double)stats->bytes));
	field_put_number(object, "avg_latency_us", rates_mean_us(stats));
	field_put_number(object, "p50_us", iostat_percentile(stats->latency, 0.5));
	field_put_number(object, "p99_us", iostat_percentile(stats->latency, 0.99));
	field_put_number(object, "p999_us", iostat_percentile(stats->latency, 0.999));
	field_put_count(object, "errors", stats->errors);
	field_put_count(object, "no_space", stats->no_space);
	iostat_put_latency(object, stats->latency);
	return object;
}

static struct json_object *row_object(const struct rates_row *row)
{
	struct json_object *object = json_object_new_object();
	field_put_text(object, "name", row->name);
	field_put_count(object, "id", row->id);
	field_put_number(object, "interval_s", row->seconds);
	field_put_count(object, "size_data_blocks", row->size_data_blocks);
	field_put_count(object, "data_blocks", row->data_blocks);
	field_put_number(object, "queue", rates_queue(row));
	field_put_number(object, "write_amplification", rates_amplification(row));
	for (unsigned k = 0; k < LCPFS_OPERATIONS; k++)
		field_put(object, iostat_operation_name(k), operation_object(row, k));
	return object;
}

static void print_json(const struct rates_row *rows, size_t count)
{
	struct json_object *object = json_object_new_object(), *array = json_object_new_array();
	field_put_count(object, "time_s", (uint64_t)time(NULL));
	for (size_t i = 0; i < count; i++)
		json_object_array_add(array, row_object(&rows[i]));
	field_put(object, "partitions", array);
	show_json(object);
	json_object_put(object);
}

/* ---- columns: of the same width in every report, so that they stand below each other ---- */

enum { COLUMN = 7, NAME_MIN = 10 };

static int name_width(const struct rates_row *rows, size_t count)
{
	size_t width = NAME_MIN;
	for (size_t i = 0; i < count; i++)
		width = MAX_OF(width, strlen(rows[i].name));
	return (int)width;
}

static void print_cell(const struct watching *w, const char *text)
{
	if (cli_flag(w->cli, "script"))
		printf("\t%s", text);
	else
		printf("%*s", COLUMN, text);
}

static void cell_number(const struct watching *w, double number)
{
	char text[NUMBER_TEXT];
	if (cli_flag(w->cli, "parsable"))
		snprintf(text, sizeof(text), isfinite(number) ? "%.2f" : "-", number);
	else
		number_print(text, number);
	print_cell(w, text);
}

static void cell_bytes(const struct watching *w, double bytes)
{
	char text[SIZE_TEXT];
	if (cli_flag(w->cli, "parsable"))
		snprintf(text, sizeof(text), "%.0f", bytes);
	else
		size_print(text, (uint64_t)bytes);
	print_cell(w, text);
}

static void cell_us(const struct watching *w, double us)
{
	char text[NUMBER_TEXT];
	if (cli_flag(w->cli, "parsable"))
		snprintf(text, sizeof(text), isfinite(us) ? "%.0f" : "-", us);
	else
		number_print_us(text, us);
	print_cell(w, text);
}

static void print_latencies(const struct watching *w, const struct rates_row *row)
{
	static const enum lcpfs_operation shown[] = {LCPFS_READ, LCPFS_WRITE, LCPFS_FLUSH};
	for (size_t k = 0; k < ARRAY_LENGTH(shown); k++) {
		const struct lcpfs_operation_stats *stats = &row->operation[shown[k]];
		cell_us(w, iostat_percentile(stats->latency, 0.5));
		cell_us(w, iostat_percentile(stats->latency, 0.99));
		cell_us(w, iostat_percentile(stats->latency, 0.999));
	}
}

static void print_rates(const struct watching *w, const struct rates_row *row)
{
	cell_bytes(w, (double)row->size_data_blocks * LCPFS_BLOCK_BYTES);
	cell_bytes(w, (double)row->data_blocks * LCPFS_BLOCK_BYTES);
	for (unsigned k = 0; k < LCPFS_OPERATIONS; k++)
		cell_number(w, rates_per_second(row, (double)row->operation[k].ops));
	cell_bytes(w, rates_per_second(row, (double)row->operation[LCPFS_READ].bytes));
	cell_bytes(w, rates_per_second(row, (double)row->operation[LCPFS_WRITE].bytes));
	cell_number(w, rates_queue(row));
	cell_number(w, rates_amplification(row));
}

static void print_titles(struct watching *w, int width)
{
	static const char *const rates[] = {
		"SIZE", "DATA", "READ", "WRITE", "TRIM", "FLUSH", "READ", "WRITE", "QUEUE", "WA", NULL};
	static const char *const latencies[] = {
		"P50", "P99", "P99.9", "P50", "P99", "P99.9", "P50", "P99", "P99.9", NULL};
	bool latency = cli_flag(w->cli, "latency");
	printf("%-*s%s\n", width, "",
	       latency ? "         READ                WRITE                FLUSH"
		       : "                        operations/s        bytes/s");
	printf("%-*s", width, "NAME");
	for (const char *const *title = latency ? latencies : rates; *title; title++)
		printf("%*s", COLUMN, *title);
	printf("\n");
	w->has_titles = true;
	w->lines = 2;
}

/* Once; at a terminal again when they have gone out of sight. */
static bool wants_titles(const struct watching *w, size_t rows)
{
	struct winsize size = {0};
	if (cli_flag(w->cli, "script"))
		return false;
	if (!w->has_titles)
		return true;
	return isatty(STDOUT_FILENO) && !ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) && size.ws_row > 4 &&
	       w->lines + rows > (size_t)size.ws_row - 1;
}

static void print_row(struct watching *w, const struct rates_row *row, int width)
{
	if (cli_flag(w->cli, "script"))
		printf("%s", row->name);
	else
		printf("%-*s", width, row->name);
	if (cli_flag(w->cli, "latency"))
		print_latencies(w, row);
	else
		print_rates(w, row);
	printf("\n");
	w->lines++;
}

static void print_columns(struct watching *w, const struct rates_row *rows, size_t count)
{
	struct rates_row total = {.name = "TOTAL"};
	int width = name_width(rows, count);
	if (wants_titles(w, count + 1))
		print_titles(w, width);
	for (size_t i = 0; i < count; i++) {
		print_row(w, &rows[i], width);
		rates_add(&total, &rows[i]);
	}
	if (count > 1 && !cli_flag(w->cli, "script"))
		print_row(w, &total, width);
}

/* ---- histograms ---- */

static unsigned octave_of(unsigned bucket)
{
	uint64_t us = lcpfs_latency_bucket_us(bucket);
	return us ? 64 - (unsigned)__builtin_clzll(us) : 0;
}

enum { OCTAVES = 40 };

static void print_octave(const struct watching *w, unsigned octave, const uint64_t ops[LCPFS_OPERATIONS])
{
	char text[NUMBER_TEXT];
	double low = octave ? ldexp(1, (int)octave - 1) : 0;
	if (cli_flag(w->cli, "parsable"))
		snprintf(text, sizeof(text), "%.0f", low);
	else
		number_print_us(text, low);
	printf(cli_flag(w->cli, "script") ? "%s" : "%-10s", text);
	for (unsigned k = 0; k < LCPFS_OPERATIONS; k++) {
		snprintf(text, sizeof(text), "%llu", (unsigned long long)ops[k]);
		printf(cli_flag(w->cli, "script") ? "\t%s" : "%12s", text);
	}
	printf("\n");
}

/* From the first to the last row that has something. */
static void print_histogram(const struct watching *w, const struct rates_row *row)
{
	uint64_t ops[OCTAVES][LCPFS_OPERATIONS] = {{0}};
	unsigned first = OCTAVES, last = 0;
	for (unsigned k = 0; k < LCPFS_OPERATIONS; k++) {
		for (unsigned i = 0; i < LCPFS_LATENCY_BUCKETS; i++) {
			uint64_t here = row->operation[k].latency[i];
			unsigned octave = octave_of(i);
			ops[octave][k] += here;
			first = here ? MIN_OF(first, octave) : first;
			last = here ? MAX_OF(last, octave) : last;
		}
	}
	if (!cli_flag(w->cli, "script"))
		printf("%-10s%12s%12s%12s%12s   %s\n", "FROM", "READ", "WRITE", "TRIM", "FLUSH", row->name);
	else
		printf("%s\n", row->name);
	for (unsigned octave = first; octave <= last; octave++)
		print_octave(w, octave, ops[octave]);
}

/* ---- reports ---- */

static void print_time(const struct watching *w)
{
	time_t now = time(NULL);
	struct tm local;
	char text[64];
	if (!cli_flag(w->cli, "time") || cli_flag(w->cli, "json"))
		return;
	if (localtime_r(&now, &local) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S %z", &local))
		printf("%s\n", text);
}

static void print_report(struct watching *w, const struct rates_row *rows, size_t count)
{
	print_time(w);
	if (cli_flag(w->cli, "json")) {
		print_json(rows, count);
	} else if (cli_flag(w->cli, "histogram")) {
		for (size_t i = 0; i < count; i++)
			print_histogram(w, &rows[i]);
	} else {
		print_columns(w, rows, count);
	}
}

/* Takes `result` over. */
static int report(struct watching *w, struct json_object *result)
{
	bool is_first = !w->before.list, is_shown = !is_first || !cli_flag(w->cli, "skip-first");
	struct rates now;
	rates_read(&now, result);
	struct rates_row *rows = calloc(now.count + 1, sizeof(*rows));
	CHECK(rows);
	for (size_t i = 0; i < now.count; i++)
		rows[i] = rates_since(&now.list[i], &w->before);
	if (is_shown)
		print_report(w, rows, now.count);
	if (is_shown && w->count != UINT64_MAX)
		w->count--;
	free(rows);
	rates_free(&w->before);
	w->before = now;
	return cli_finish_output();
}

/* ---- once, or again and again ---- */

static struct json_object *arguments_of(const struct watching *w)
{
	struct json_object *arguments = json_object_new_object();
	if (w->name)
		field_put_text(arguments, "name", w->name);
	return arguments;
}

static int report_once(struct watching *w)
{
	struct session_call call = {
		.pool_path = w->cli->operands[0], .command = "iostat", .arguments = arguments_of(w)};
	struct lcpfs_failure failure = {0};
	struct json_object *result;
	if (session_run(&call, &result, &failure))
		return cli_failure(&failure);
	return report(w, result);
}

static int watch(struct watching *w)
{
	struct session_watch session = {.pool_path = w->cli->operands[0]};
	struct lcpfs_failure failure = {0};
	struct json_object *result;
	struct timespec next;
	int status = CLI_DONE;
	clock_gettime(CLOCK_MONOTONIC, &next);
	while (!status && w->count) {
		if (!session_watch_call(&session, "iostat", arguments_of(w), &result, &failure))
			status = report(w, result);
		else if (!w->before.list || !session_watch_goes_on(&session, &failure))
			status = cli_failure(&failure);
		if (!status && w->count)
			session_sleep(&next, w->interval_s);
	}
	session_watch_close(&session);
	return status;
}

/* "5", "0.5"; false: something else, a name perhaps */
static bool parse_interval(const char *text, double *seconds)
{
	char *end;
	if (strspn(text, "0123456789.") != strlen(text))
		return false;
	*seconds = strtod(text, &end);
	return !*end && end != text;
}

static int parse_count(const char *text, uint64_t *count)
{
	char *end;
	errno = 0;
	*count = strtoull(text, &end, 10);
	if (*text < '0' || *text > '9' || *end || errno || !*count || *count == UINT64_MAX)
		return cli_usage("iostat: COUNT %s is not a number of reports", text);
	return 0;
}

/* POOL, then NAME unless it is a number, then INTERVAL and COUNT. */
static int take_operands(struct watching *w)
{
	const char *const *operand = w->cli->operands + 1;
	double number;
	if (*operand && !parse_interval(*operand, &number))
		w->name = *operand++;
	w->count = 1;
	if (!*operand)
		return 0;
	if (!parse_interval(*operand, &w->interval_s) || w->interval_s < 0.1 || w->interval_s > 86400)
		return cli_usage("iostat: INTERVAL %s is not a number of seconds from 0.1 to 86400", *operand);
	w->count = UINT64_MAX;
	operand++;
	if (operand >= w->cli->operands + CLI_OPERANDS_MAX || !*operand)
		return 0;
	if (operand + 1 < w->cli->operands + CLI_OPERANDS_MAX && operand[1])
		return cli_usage("iostat: too much: %s; see lcpfs help iostat", operand[1]);
	return parse_count(*operand, &w->count);
}

int iostat_command(const struct cli *cli)
{
	struct watching w = {.cli = cli};
	int status = take_operands(&w);
	if (status)
		return status;
	if (cli_flag(cli, "skip-first") && !w.interval_s)
		return cli_usage("iostat: --skip-first leaves nothing without INTERVAL");
	status = w.interval_s > 0 ? watch(&w) : report_once(&w);
	rates_free(&w.before);
	return status;
}
