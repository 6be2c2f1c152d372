/* SPDX-License-Identifier: Apache-2.0 */
/*
 * lcpfs report: one page for a browser, complete in itself. It is well-formed XML, too, so that programs can read
 * it. Each number of the pictures stands in a table; a mark in a picture leads to its line there.
 */
#include "report.h"

#include <inttypes.h>
#include <limits.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <time.h>
#include <unistd.h>

#include "base/text.h"
#include "base/words.h"
#include "chart.h"
#include "cli.h"
#include "control/field.h"
#include "past.h"
#include "replace.h"
#include "session.h"
#include "show.h"

/* ---- pieces ---- */

static void put_time(struct text *out, uint64_t time_s)
{
	char text[TIME_TEXT];
	chart_escape(out, show_time(time_s, text));
}

static void put_field(struct text *out, struct json_object *object, const char *key)
{
	const char *text = field_text(object, key);
	chart_escape(out, text ? text : "");
}

static void cell_number(struct text *out, double number)
{
	char text[WORDS_ROOM];
	text_append(out, "<td class=\"number\">%s</td>", number >= 0 ? words_number(text, number) : "");
}

static void cell_blocks(struct text *out, double blocks)
{
	char text[WORDS_ROOM];
	text_append(out, "<td class=\"number\">%s</td>", words_blocks(text, blocks));
}

static void fact(struct text *out, const char *what, const char *value, const char *more)
{
	text_append(out, "<div><dt>%s</dt><dd>", what);
	chart_escape(out, value);
	text_append(out, "<small>");
	chart_escape(out, more);
	text_append(out, "</small></dd></div>\n");
}

static unsigned long long count_of(struct json_object *object, const char *key)
{
	return field_count(object, key);
}

/* ---- the head ---- */

static void facts(struct text *out, struct json_object *pool)
{
	struct json_object *engine = field_get(pool, "engine");
	double saved = field_number(engine, "saved_blocks"), written = field_number(engine, "written_blocks");
	double share = written + saved > 0 ? 100 * saved / (written + saved) : 0;
	char value[WORDS_ROOM], more[160], free_space[WORDS_ROOM];
	snprintf(more, sizeof(more), "%s owned by nobody",
		 words_blocks(free_space, (double)field_count(pool, "free_blocks")));
	fact(out, "Size", words_blocks(value, (double)field_count(pool, "size_blocks")), more);
	fact(out, "Epsilon now", words_number(value, field_number(engine, "epsilon")), "sum over partitions");
	snprintf(value, sizeof(value), "%llu", count_of(engine, "moves"));
	snprintf(more, sizeof(more), "%llu improved, %llu hurt, %llu inconclusive, %llu undone",
		 count_of(engine, "improved"), count_of(engine, "hurt"), count_of(engine, "inconclusive"),
		 count_of(engine, "undone"));
	fact(out, "Moves ever", value, more);
	snprintf(value, sizeof(value), "%.1f %%", share >= 0 ? share : -share);
	fact(out, share >= 0 ? "Writes saved" : "Writes lost", value, "against boundaries left alone");
	fact(out, "Engine", field_text(engine, "mode"), "off, observe or on");
	fact(out, "Health", field_text(pool, "health"), field_text(pool, "health_text"));
}

static void head(struct text *out, const struct past *past, const char *name)
{
	struct json_object *pool = field_get(past->result, "pool");
	text_append(out, "<!DOCTYPE html>\n<html lang=\"en\" xmlns=\"http://www.w3.org/1999/xhtml\">\n<head>\n"
			 "<meta charset=\"utf-8\"/>\n"
			 "<meta name=\"viewport\" content=\"width=device-width, initial-scale=1\"/>\n<title>");
	chart_escape(out, name);
	text_append(out, " – lcpfs report</title>\n<style>\n%s</style>\n</head>\n<body>\n<header>\n<h1>Pool ",
		    report_style);
	chart_escape(out, name);
	text_append(out, "</h1>\n<p class=\"quiet\">");
	put_time(out, past->from_s);
	text_append(out, " to ");
	put_time(out, past->to_s);
	text_append(out, "; written ");
	put_time(out, past->made_s);
	text_append(
		out,
		"</p>\n<p><a class=\"skip\" href=\"#moves\">Skip the pictures</a></p>\n<dl class=\"facts\">\n");
	facts(out, pool);
	text_append(out, "</dl>\n</header>\n<main>\n");
}

/* ---- pictures ---- */

static void legend_of_signs(struct text *out)
{
	static const char *const signs[][2] = {
		{"improved", "it improved"},
		{"inconclusive", "too small to tell"},
		{"hurt", "it hurt"},
		{"not_judged", "not judged"},
		{"waiting", "not judged yet"},
		{"back", "taken back"},
		{"emergency", "a full writer got space at once"},
		{"resized", "resized by hand"},
		{"other", "added, removed, grown"},
	};
	text_append(out, "<ul class=\"legend\" aria-label=\"signs\">\n");
	for (size_t i = 0; i < ARRAY_LENGTH(signs); i++) {
		text_append(out, "<li class=\"%s\"><svg viewBox=\"-6 -6 12 12\" aria-hidden=\"true\">",
			    signs[i][0]);
		chart_sign(out, signs[i][0]);
		text_append(out, "</svg>%s</li>\n", signs[i][1]);
	}
	text_append(out, "</ul>\n");
}

static void legend_of_partitions(struct text *out, const struct past *past)
{
	text_append(out, "<ul class=\"legend\" aria-label=\"partitions\">\n");
	for (size_t i = 0; i < past->partition_count; i++) {
		text_append(out,
			    "<li class=\"%s\"><svg viewBox=\"0 0 12 12\" aria-hidden=\"true\">"
			    "<rect class=\"swatch\" width=\"12\" height=\"12\" rx=\"2\"/></svg>",
			    chart_series(i));
		chart_escape(out, past->partitions[i].name);
		text_append(out, "</li>\n");
	}
	text_append(out, "</ul>\n");
}

static void pictures(struct text *out, const struct past *past)
{
	text_append(out,
		    "<section aria-labelledby=\"boundaries\">\n<h2 id=\"boundaries\">Boundaries over time</h2>\n"
		    "<p class=\"quiet screen\">Each sign above the picture is a change of size. Point at it or "
		    "reach it with the Tab key to read it; it leads to its line in the table.</p>\n<figure>\n");
	legend_of_partitions(out, past);
	legend_of_signs(out);
	chart_boundaries(out, past, CHART_WIDE);
	chart_boundaries(out, past, CHART_NARROW);
	text_append(out,
		    "</figure>\n</section>\n<section aria-labelledby=\"learned\">\n"
		    "<h2 id=\"learned\">What the engine learned</h2>\n"
		    "<p class=\"quiet\">Nobody sets these thresholds: each outcome of a move teaches them.</p>\n"
		    "<figure>\n");
	chart_thresholds(out, past, CHART_WIDE);
	chart_thresholds(out, past, CHART_NARROW);
	text_append(out, "</figure>\n</section>\n");
}

/* ---- tables ---- */

/* `titles`: "<" in front of those of numbers. */
static void table_begin(struct text *out, const char *class, const char *const *titles)
{
	text_append(out, "<table class=\"%s\">\n<thead><tr>", class);
	for (; *titles; titles++) {
		bool is_number = **titles == '<';
		text_append(out, "<th scope=\"col\"%s>%s</th>", is_number ? " class=\"number\"" : "",
			    *titles + is_number);
	}
	text_append(out, "</tr></thead>\n<tbody>\n");
}

static void table_end(struct text *out)
{
	text_append(out, "</tbody>\n</table>\n");
}

static void table_of_partitions(struct text *out, const struct past *past)
{
	static const char *const titles[] = {"Partition",     "<Space", "<Least",   "<Most", "<Live",
					     "<Operations/s", "<WA",    "<Epsilon", NULL};
	text_append(
		out,
		"<section aria-labelledby=\"now\">\n<h2 id=\"now\">Partitions now</h2>\n<div class=\"scroll\">");
	table_begin(out, "partitions", titles);
	for (size_t i = 0; i < past->partition_count; i++) {
		struct json_object *p = past->partitions[i].now;
		if (!p)
			continue;
		text_append(out, "<tr><th scope=\"row\">");
		put_field(out, p, "name");
		text_append(out, "</th>");
		cell_blocks(out, (double)field_count(p, "size_blocks"));
		cell_blocks(out, (double)field_count(p, "min_size_blocks"));
		cell_blocks(out, (double)field_count(p, "max_size_blocks"));
		cell_blocks(out, (double)field_count(p, "live_blocks"));
		cell_number(out, field_number(p, "access_frequency"));
		cell_number(out, field_number(p, "write_amplification"));
		cell_number(out, field_number(p, "epsilon"));
		text_append(out, "</tr>\n");
	}
	table_end(out);
	text_append(out, "</div></section>\n");
}

static void cell_what(struct text *out, const struct past *past, struct json_object *e)
{
	const char *kind = field_text(e, "kind");
	char blocks[WORDS_ROOM];
	text_append(out, "<td><span class=\"kind\">%s</span>", kind);
	if (strcmp(kind, "grown") != 0 && strcmp(kind, "added") != 0 && strcmp(kind, "removed") != 0) {
		text_append(out, " ");
		chart_escape(out, past_side(past, e, "from_id"));
		text_append(out, " → ");
		chart_escape(out, past_side(past, e, "to_id"));
		if (field_count(e, "blocks"))
			text_append(out, ", <span class=\"space\">%s</span>",
				    words_blocks(blocks, (double)field_count(e, "blocks")));
	}
	text_append(out, "</td>");
}

static void cell_verdict(struct text *out, const struct past_mark *mark)
{
	const char *class = chart_mark_class(mark);
	text_append(out, "<td class=\"%s\"><svg viewBox=\"-6 -6 12 12\" aria-hidden=\"true\">", class);
	chart_sign(out, class);
	text_append(out, "</svg>");
	if (mark->outcome) {
		text_append(out, "<span class=\"verdict\">");
		put_field(out, mark->outcome, "text");
		text_append(out, "</span>");
	} else if (!strcmp(class, "waiting")) {
		text_append(out, "<span class=\"quiet\">nothing in the log yet</span>");
	} else if (!strcmp(class, "back")) {
		text_append(out, "<span class=\"quiet\">taken back; that is not judged</span>");
	}
	text_append(out, "</td>");
}

static void mark_row(struct text *out, const struct past *past, const struct past_mark *mark)
{
	const char *reason = field_text(mark->event, "reason");
	text_append(out, "<tr id=\"event-%" PRIu64 "\"><th scope=\"row\">", mark->number);
	put_time(out, mark->time_s);
	text_append(out, "</th>");
	cell_what(out, past, mark->event);
	text_append(out, "<td>");
	if (reason) {
		text_append(out, "<span class=\"reason\">");
		chart_escape(out, reason);
		text_append(out, "</span>: ");
	}
	text_append(out, "<span class=\"text\">");
	put_field(out, mark->event, "text");
	text_append(out, "</span></td>");
	cell_verdict(out, mark);
	text_append(out, "</tr>\n");
}

static void table_of_marks(struct text *out, const struct past *past)
{
	static const char *const titles[] = {"Time", "What", "Why", "What came of it", NULL};
	text_append(
		out,
		"<section aria-labelledby=\"moves\">\n<h2 id=\"moves\" tabindex=\"-1\">Moves and other changes of "
		"size</h2>\n");
	if (!past->mark_count)
		text_append(out, "<p>There was none.</p>\n");
	table_begin(out, "events marks", titles);
	for (size_t i = past->mark_count; i > 0; i--)
		mark_row(out, past, &past->marks[i - 1]);
	table_end(out);
	text_append(out, "</section>\n");
}

/* Those that have no mark; of outcomes, those whose move is not in the log any more. */
static bool is_told_already(const struct past *past, struct json_object *event)
{
	for (size_t i = 0; i < past->mark_count; i++)
		if (past->marks[i].event == event || past->marks[i].outcome == event)
			return true;
	return field_count(event, "time_s") < past->from_s;
}

static void table_of_others(struct text *out, const struct past *past)
{
	static const char *const titles[] = {"Time", "What", "Text", NULL};
	struct json_object *events = field_get(past->result, "events");
	text_append(out, "<details>\n<summary>Everything else in the log</summary>\n");
	table_begin(out, "events others", titles);
	for (size_t i = field_length(events); i > 0; i--) {
		struct json_object *e = json_object_array_get_idx(events, i - 1);
		if (is_told_already(past, e))
			continue;
		text_append(out, "<tr id=\"event-%llu\"><th scope=\"row\">", count_of(e, "number"));
		put_time(out, field_count(e, "time_s"));
		text_append(out, "</th><td>");
		put_field(out, e, "kind");
		text_append(out, "</td><td><span class=\"text\">");
		put_field(out, e, "text");
		text_append(out, "</span></td></tr>\n");
	}
	table_end(out);
	text_append(out, "</details>\n");
}

static void sample_row(struct text *out, const char *name, const struct past_sample *s)
{
	text_append(out, "<tr><th scope=\"row\">");
	chart_escape(out, name);
	text_append(out, "</th><td>");
	put_time(out, s->time_s);
	text_append(out, "</td><td class=\"number\">%" PRIu64 "</td>", s->span_s);
	cell_blocks(out, s->size);
	cell_blocks(out, s->live);
	cell_blocks(out, s->written);
	cell_blocks(out, s->device);
	cell_number(out, s->written > 0 ? s->device / s->written : -1);
	cell_number(out, s->epsilon);
	text_append(out, "</tr>\n");
}

static void table_of_samples(struct text *out, const struct past *past)
{
	static const char *const titles[] = {"Partition", "Until",          "<Seconds", "<Space",   "<Live",
					     "<Written",  "<To the device", "<WA",      "<Epsilon", NULL};
	text_append(out, "<details>\n<summary>Measurements</summary>\n<div class=\"scroll\">");
	table_begin(out, "samples", titles);
	for (size_t i = 0; i < past->partition_count; i++)
		for (size_t k = 0; k < past->partitions[i].sample_count; k++)
			sample_row(out, past->partitions[i].name, &past->partitions[i].samples[k]);
	table_end(out);
	text_append(out, "</div></details>\n");
}

static void table_of_learned(struct text *out, const struct past *past)
{
	text_append(out,
		    "<details>\n<summary>Thresholds</summary>\n<div class=\"scroll\"><table class=\"learned\">\n"
		    "<thead><tr><th scope=\"col\">Time</th>");
	for (size_t i = 0; i < PAST_THRESHOLDS; i++)
		text_append(out,
			    "<th scope=\"col\" class=\"number\">%s</th><th scope=\"col\" "
			    "class=\"number\">confidence</th>",
			    past_threshold_names[i]);
	text_append(out, "</tr></thead>\n<tbody>\n");
	for (size_t k = 0; k < past->learned_count; k++) {
		text_append(out, "<tr><th scope=\"row\">");
		put_time(out, past->learned[k].time_s);
		text_append(out, "</th>");
		for (size_t i = 0; i < PAST_THRESHOLDS; i++) {
			cell_number(out, past->learned[k].value[i]);
			cell_number(out, past->learned[k].confidence[i]);
		}
		text_append(out, "</tr>\n");
	}
	table_end(out);
	text_append(out, "</div></details>\n");
}

/* ---- the command ---- */

static void page(struct text *out, struct json_object *result, const char *name, uint64_t last_s)
{
	struct past past;
	past_load(&past, result, last_s);
	head(out, &past, name);
	pictures(out, &past);
	table_of_partitions(out, &past);
	table_of_marks(out, &past);
	table_of_others(out, &past);
	table_of_learned(out, &past);
	table_of_samples(out, &past);
	text_append(out,
		    "</main>\n<footer>Made by lcpfs %s from what the pool itself keeps. This page loads nothing."
		    "</footer>\n</body>\n</html>\n",
		    LCPFS_VERSION);
	past_free(&past);
}

/* "90m": seconds. 0 or CLI_USAGE. */
static int take_last(const struct cli *cli, uint64_t *last_s)
{
	static const struct {
		char unit;
		uint64_t seconds;
	} units[] = {{'s', 1}, {'m', 60}, {'h', 3600}, {'d', 86400}, {'w', 7 * 86400}};
	const char *text = cli_value(cli, "last");
	char *end;
	*last_s = 0;
	if (!text)
		return 0;
	if (*text >= '0' && *text <= '9') {
		unsigned long long n = strtoull(text, &end, 10);
		for (size_t i = 0; i < ARRAY_LENGTH(units); i++)
			if (*end == units[i].unit && !end[1] && n > 0 && n < UINT32_MAX)
				*last_s = n * units[i].seconds;
	}
	return *last_s ? 0 : cli_usage("--last: %s is no time, such as 90m, 12h or 7d", text);
}

static void print_text(void *text, FILE *out)
{
	fputs(text_get(text), out);
}

static int write_page(const struct cli *cli, struct json_object *result, uint64_t last_s)
{
	const char *output = cli_value(cli, "output");
	struct text text = TEXT_INIT;
	mode_t mask = umask(0);
	int status = CLI_DONE;
	umask(mask);
	page(&text, result, cli->operands[0], last_s);
	CHECK(!text.failed);
	if (output)
		status = replace_file(output, 0666 & ~mask, print_text, &text);
	else
		print_text(&text, stdout);
	text_free(&text);
	return status;
}

int report_command(const struct cli *cli)
{
	struct session_call call = {.pool_path = cli->operands[0], .command = "report"};
	struct lcpfs_failure failure = {0};
	struct json_object *result;
	uint64_t last_s;
	int status = take_last(cli, &last_s);
	if (status)
		return status;
	if (!cli_flag(cli, "json") && !cli_value(cli, "output") && isatty(STDOUT_FILENO))
		return cli_usage("report: say where the page shall go: --output FILE.html");
	if (session_run(&call, &result, &failure))
		return cli_failure(&failure);
	field_put_count(result, "time_s", (uint64_t)time(NULL));
	if (cli_flag(cli, "json"))
		show_json(result);
	else
		status = write_page(cli, result, last_s);
	json_object_put(result);
	return status;
}
