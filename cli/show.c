/* SPDX-License-Identifier: Apache-2.0 */
#include "show.h"

#include <math.h>
#include <stdarg.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/ioctl.h>
#include <time.h>
#include <unistd.h>

#include <lcpfs/pool.h>

#include "base/words.h"
#include "control/field.h"
#include "size.h"
#include "table.h"

static const char *text_of(struct json_object *object, const char *key)
{
	const char *text = field_text(object, key);
	return text ? text : "";
}

static void cell_blocks(struct table *table, struct json_object *object, const char *key)
{
	char text[SIZE_TEXT];
	size_print_blocks(text, field_count(object, key));
	table_cell(table, "%s", text);
}

/* A number of blocks that came as a number with a fraction. */
static uint64_t whole_blocks(struct json_object *object, const char *key)
{
	double blocks = field_number(object, key);
	return blocks > 0 && blocks < 1e15 ? (uint64_t)blocks : 0;
}

static void cell_number(struct table *table, struct json_object *object, const char *key)
{
	char text[NUMBER_TEXT];
	table_cell(table, "%s", number_print(text, field_number(object, key)));
}

static double finite_number(struct json_object *object, const char *key)
{
	double number = field_number(object, key);
	return isfinite(number) ? number : 0;
}

static void cell_percent(struct table *table, struct json_object *object, const char *key)
{
	table_cell(table, "%.1f%%", 100 * field_number(object, key));
}

static void cell_us(struct table *table, struct json_object *object, const char *key)
{
	char text[NUMBER_TEXT];
	table_cell(table, "%s", number_print_us(text, field_number(object, key)));
}

/* ---- text at a terminal ---- */

enum { WIDTH_MIN = 40, WIDTH_MAX = 120, WIDTH = 80 };

/* Columns of the terminal, within what reads well; 0: it is none, and lines stay whole for who cuts them up. */
static int terminal_width(void)
{
	struct winsize size;
	if (!isatty(STDOUT_FILENO))
		return 0;
	if (ioctl(STDOUT_FILENO, TIOCGWINSZ, &size) || !size.ws_col)
		return WIDTH;
	return MIN_OF(MAX_OF((int)size.ws_col, WIDTH_MIN), WIDTH_MAX);
}

/* Bytes that continue a character take no column. */
static int columns(const char *text, size_t length)
{
	int count = 0;
	for (size_t i = 0; i < length; i++)
		count += (text[i] & 0xc0) != 0x80;
	return count;
}

/* Broken between words where it is wider (0: never); what follows is indented. */
static void print_wrapped(const char *text, int indent, int width)
{
	int at = 0;
	while (*text) {
		size_t spaces = strspn(text, " "), word = strcspn(text + spaces, " ");
		int wide = columns(text + spaces, word);
		if (width && at > indent && at + (int)spaces + wide > width) {
			printf("\n%*s%.*s", indent, "", (int)word, text + spaces);
			at = indent + wide;
		} else {
			printf("%.*s", (int)(spaces + word), text);
			at += (int)spaces + wide;
		}
		text += spaces + word;
	}
	putchar('\n');
}

/* For people only, so of a fixed width. */
static void PRINTF_LIKE(2, 3) print_paragraph(int indent, const char *format, ...)
{
	char *text;
	va_list arguments;
	va_start(arguments, format);
	CHECK(vasprintf(&text, format, arguments) >= 0);
	va_end(arguments);
	print_wrapped(text, indent, WIDTH);
	free(text);
}

void show_help(int indent, const char *left, const char *right)
{
	print_paragraph(indent, "  %-*s %s", indent - 3, left, right);
}

/* ---- list ---- */

struct totals {
	uint64_t size, min, max, volume, data, space;
	double operations, latency, epsilon; /* latency: weighted by operations */
};

enum { STATE_TEXT = 40 };

/* Words, separated by commas. */
static const char *state_of(struct json_object *partition, char text[STATE_TEXT])
{
	const char *receiving = text_of(partition, "receiving");
	const char *const words[] = {
		field_flag(partition, "thin") ? "thin" : NULL,
		field_flag(partition, "moving") ? "moving" : NULL,
		!strcmp(receiving, "now") ? "receiving" : NULL,
		!strcmp(receiving, "interrupted") ? "half-received" : NULL,
	};
	size_t length = 0;
	if (field_flag(partition, "faulted"))
		return "FAULTED";
	text[0] = '\0';
	for (size_t i = 0; i < ARRAY_LENGTH(words); i++)
		if (words[i])
			length += (size_t)snprintf(text + length, STATE_TEXT - length, "%s%s", length ? "," : "",
						   words[i]);
	return text;
}

/* A share of data: of one that is all there is none. */
static double share(uint64_t part, uint64_t all)
{
	return all ? 100 * (double)part / (double)all : 0;
}

static void list_row(struct table *table, struct json_object *partition)
{
	char state[STATE_TEXT];
	table_row(table);
	table_cell(table, "%s", text_of(partition, "name"));
	cell_blocks(table, partition, "size_data_blocks");
	cell_blocks(table, partition, "min_data_blocks");
	cell_blocks(table, partition, "max_data_blocks");
	cell_blocks(table, partition, "volume_blocks");
	cell_blocks(table, partition, "data_blocks");
	table_cell(table, "%.0f%%",
		   share(field_count(partition, "data_blocks"), field_count(partition, "size_data_blocks")));
	cell_blocks(table, partition, "size_blocks");
	cell_number(table, partition, "access_frequency");
	cell_us(table, partition, "avg_latency_us");
	cell_number(table, partition, "pressure");
	cell_number(table, partition, "epsilon");
	cell_number(table, partition, "write_amplification");
	table_cell(table, "%s", state_of(partition, state));
}

static void add_up(struct totals *t, struct json_object *partition)
{
	double operations = finite_number(partition, "access_frequency");
	t->size += field_count(partition, "size_data_blocks");
	t->min += field_count(partition, "min_data_blocks");
	t->max += field_count(partition, "max_data_blocks");
	t->volume += field_count(partition, "volume_blocks");
	t->data += field_count(partition, "data_blocks");
	t->space += field_count(partition, "size_blocks");
	t->operations += operations;
	t->latency += operations * finite_number(partition, "avg_latency_us");
	t->epsilon += finite_number(partition, "epsilon");
}

static void cell_sum(struct table *table, uint64_t blocks)
{
	char text[SIZE_TEXT];
	size_print_blocks(text, blocks);
	table_cell(table, "%s", text);
}

static void total_row(struct table *table, const struct totals *t)
{
	char text[NUMBER_TEXT];
	table_row(table);
	table_cell(table, "TOTAL");
	cell_sum(table, t->size);
	cell_sum(table, t->min);
	cell_sum(table, t->max);
	cell_sum(table, t->volume);
	cell_sum(table, t->data);
	table_cell(table, "%.0f%%", share(t->data, t->size));
	cell_sum(table, t->space);
	table_cell(table, "%s", number_print(text, t->operations));
	table_cell(table, "%s", number_print_us(text, t->operations > 0 ? t->latency / t->operations : 0));
	table_cell(table, "%s", "");
	table_cell(table, "%s", number_print(text, t->epsilon));
}

static const char *mode_words(const char *mode)
{
	if (!strcmp(mode, "observe"))
		return "are watched, not moved; lcpfs explain POOL says what would move, and lcpfs tune POOL on "
		       "lets it move";
	return !strcmp(mode, "on") ? "move by themselves" : "stay as they are, unless moved by hand";
}

static void show_legend(struct json_object *pool)
{
	const char *mode = text_of(field_get(pool, "engine"), "mode");
	char size[SIZE_TEXT], free_space[SIZE_TEXT];
	size_print_blocks(size, field_count(pool, "size_blocks"));
	size_print_blocks(free_space, field_count(pool, "free_blocks"));
	printf("\n");
	printf("The pool has %s, of which %s are nobody's.\n", size, free_space);
	print_paragraph(0, "Mode %s: boundaries %s.", mode, mode_words(mode));
	print_paragraph(0,
			"SIZE, MIN and MAX are of user data, VOL is the volume that clients see, USED is DATA of "
			"SIZE, SPACE is what it takes of the pool with its tables, its log and room to clean in. "
			"Over the last moments: operations per second, mean latency, pressure, epsilon, and write "
			"amplification (blocks written to the device for each that clients wrote).");
}

static bool any_state(struct json_object *partitions)
{
	char state[STATE_TEXT];
	for (size_t i = 0; i < field_length(partitions); i++)
		if (*state_of(json_object_array_get_idx(partitions, i), state))
			return true;
	return false;
}

static void show_clones(struct json_object *clones)
{
	static const char *const titles[] = {"<CLONE", "<OF", "LENGTH", "<CREATED", NULL};
	char length[SIZE_TEXT], created[TIME_TEXT];
	struct table *table = table_new(titles);
	printf("\n");
	for (size_t i = 0; i < field_length(clones); i++) {
		struct json_object *clone = json_object_array_get_idx(clones, i);
		table_row(table);
		table_cell(table, "%s", text_of(clone, "name"));
		table_cell(table, "%s", text_of(clone, "origin"));
		size_print(length, field_count(clone, "volume_bytes"));
		table_cell(table, "%s", length);
		table_cell(table, "%s", show_time(field_count(clone, "created_s"), created));
	}
	table_print(table);
}

void show_list(struct json_object *result)
{
	struct json_object *partitions = field_get(result, "partitions");
	const char *const titles[] = {"<NAME", "SIZE", "MIN", "MAX",   "VOL", "DATA", "USED",
				      "SPACE", "OPS",  "LAT", "PRESS", "EPS", "WA",
				      any_state(partitions) ? "<STATE" : "<",
				      NULL};
	struct table *table = table_new(titles);
	struct totals totals = {0};
	for (size_t i = 0; i < field_length(partitions); i++) {
		list_row(table, json_object_array_get_idx(partitions, i));
		add_up(&totals, json_object_array_get_idx(partitions, i));
	}
	if (field_length(partitions) > 1)
		total_row(table, &totals);
	table_print(table);
	if (field_length(field_get(result, "clones")))
		show_clones(field_get(result, "clones"));
	if (field_get(result, "pool"))
		show_legend(field_get(result, "pool"));
}

enum { NOW_TEXT = 96 };

static const char *side_name(struct json_object *side)
{
	const char *name = text_of(side, "name");
	return *name ? name : field_count(side, "id") ? "(gone)" : "free space";
}

/* Below 70 % of it, in proportion (src/engine/weigh.c). */
static void pressure_now(struct json_object *d, double threshold, char text[NOW_TEXT])
{
	struct json_object *to = field_get(d, "to");
	double pressure = field_number(to, "pressure");
	char is[NUMBER_TEXT];
	if (!field_count(d, "outcomes"))
		snprintf(text, NOW_TEXT, "nothing: no move was judged yet");
	else if (!field_count(to, "id"))
		snprintf(text, NOW_TEXT, "nothing: no move is weighed");
	else if (pressure < 0.7 * threshold)
		snprintf(text, NOW_TEXT, "moves to %s are smaller: it has %s", side_name(to),
			 number_print(is, pressure));
	else
		snprintf(text, NOW_TEXT, "nothing: %s presses enough", side_name(to));
}

static void cooldown_now(struct json_object *d, char text[NOW_TEXT])
{
	struct json_object *to = field_get(d, "to");
	const char *reason = text_of(d, "reason");
	if (!strcmp(reason, "wait_effect") && !(field_number(to, "since_change_blocks") > 0))
		snprintf(text, NOW_TEXT, "%s writes nothing: it is waited for", side_name(to));
	else
		snprintf(text, NOW_TEXT, "nothing: blocks written tell");
}

/* Of what trust lets move, a learned step and its learning rate let go so much. */
static void step_now(struct json_object *d, const char *side_key, const char *step, const char *rate,
		     char text[NOW_TEXT])
{
	struct json_object *side = field_get(d, side_key);
	double most = field_number(d, step) * (1 + field_number(d, rate)) * field_number(side, "size_blocks");
	char blocks[WORDS_ROOM];
	if (!field_count(field_get(d, "to"), "id"))
		snprintf(text, NOW_TEXT, "nothing: no move is weighed");
	else if (!field_count(side, "id"))
		snprintf(text, NOW_TEXT, "nothing: free space gives");
	else if (field_number(d, "trust") * field_number(d, "balance_blocks") > most)
		snprintf(text, NOW_TEXT, "%s %s at most %s at once", side_name(side),
			 strcmp(side_key, "to") ? "gives" : "gets", words_blocks(blocks, most));
	else
		snprintf(text, NOW_TEXT, "nothing: less is wanted");
}

static void threshold_row(struct table *table, const char *name, struct json_object *threshold, const char *value,
			  const char *now)
{
	table_row(table);
	table_cell(table, "%s", name);
	table_cell(table, "%s", value);
	table_cell(table, "%llu", (unsigned long long)field_count(threshold, "observations"));
	table_cell(table, "%.0f%%", 100 * field_number(threshold, "confidence"));
	table_cell(table, "%s", now);
}

static void show_thresholds(struct json_object *thresholds, struct json_object *d)
{
	static const char *const titles[] = {"<LEARNED", "VALUE", "SEEN", "CONFIDENCE", "<WHAT IT DOES NOW", NULL};
	struct json_object *pressure = field_get(thresholds, "pressure");
	struct json_object *cooldown = field_get(thresholds, "cooldown_s");
	struct json_object *growth = field_get(thresholds, "growth_step");
	struct json_object *shrink = field_get(thresholds, "shrink_step");
	struct table *table = table_new(titles);
	char value[WORDS_ROOM], now[NOW_TEXT];
	pressure_now(d, field_number(pressure, "value"), now);
	threshold_row(table, "pressure", pressure, number_print(value, field_number(pressure, "value")), now);
	cooldown_now(d, now);
	threshold_row(table, "cooldown", cooldown, words_duration(value, field_number(cooldown, "value")), now);
	step_now(d, "to", "growth_step", "growth_rate", now);
	snprintf(value, sizeof(value), "%.1f%%", 100 * finite_number(growth, "value"));
	threshold_row(table, "growth step", growth, value, now);
	step_now(d, "from", "shrink_step", "shrink_rate", now);
	snprintf(value, sizeof(value), "%.1f%%", 100 * finite_number(shrink, "value"));
	threshold_row(table, "shrink step", shrink, value, now);
	table_print(table);
}

/* "2026-11-23 08:45:38 +0100" */
const char *show_time(uint64_t time_s, char text[TIME_TEXT])
{
	time_t when = (time_t)time_s;
	struct tm local;
	if (!localtime_r(&when, &local) || !strftime(text, TIME_TEXT, "%Y-%m-%d %H:%M:%S %z", &local))
		snprintf(text, TIME_TEXT, "(no time)");
	return text;
}

static unsigned long long count_of(struct json_object *object, const char *key)
{
	return field_count(object, key);
}

enum { STATUS_INDENT = 12 };

/* What all volumes may ask for. */
static void show_promised(struct json_object *pool)
{
	uint64_t over = field_count(pool, "overcommitted_blocks");
	char promised[SIZE_TEXT], by[SIZE_TEXT];
	size_print_blocks(promised, field_count(pool, "promised_blocks"));
	size_print_blocks(by, over);
	if (over)
		printf("volumes     take %s if all are filled: overcommitted by %s\n", promised, by);
	else
		printf("volumes     take %s if all are filled\n", promised);
}

static void show_totals(struct json_object *pool)
{
	char size[SIZE_TEXT], free_space[SIZE_TEXT], metaslab[SIZE_TEXT], created[TIME_TEXT];
	const char *why = text_of(pool, "health_text");
	size_print_blocks(size, field_count(pool, "size_blocks"));
	size_print_blocks(free_space, field_count(pool, "free_blocks"));
	size_print_blocks(metaslab, field_count(pool, "metaslab_blocks"));
	print_paragraph(STATUS_INDENT, "health      %s%s%s", text_of(pool, "health"), *why ? ": " : "", why);
	printf("size        %s in %llu metaslabs of %s; owned by nobody: %s\n", size, count_of(pool, "metaslabs"),
	       metaslab, free_space);
	printf("partitions  %llu of at most %llu\n", count_of(pool, "partitions"),
	       count_of(pool, "partitions_max"));
	show_promised(pool);
	printf("created     %s, txg %llu\n", show_time(field_count(pool, "created_s"), created),
	       count_of(pool, "txg"));
	printf("guid        %s\n", text_of(pool, "guid"));
}

static void show_scrub_state(struct json_object *pool)
{
	uint64_t when = field_count(pool, "last_scrub_s"), damaged = count_of(pool, "last_scrub_damaged");
	uint64_t errors = count_of(pool, "last_scrub_errors");
	char text[TIME_TEXT];
	if (!when)
		printf("scrub       never\n");
	else if (!damaged)
		printf("scrub       %s: no damage\n", show_time(when, text));
	else
		print_paragraph(STATUS_INDENT, "scrub       %s: %llu damaged, %llu of them repaired",
				show_time(when, text), (unsigned long long)damaged,
				(unsigned long long)(damaged - MIN_OF(errors, damaged)));
}

/* Against base sizes: those that partitions would have if the engine had left them alone. */
static void show_saved(struct json_object *object, int width)
{
	double saved = field_number(object, "saved_blocks"), written = field_number(object, "written_blocks");
	double share = written + saved > 0 ? 100 * saved / (written + saved) : 0;
	if (share >= 0)
		printf("%-*s%.1f %% of what would have been written without moves\n", width, "saved", share);
	else
		printf("%-*s%.1f %% more than would have been written without moves\n", width, "lost", -share);
}

static void show_half_received(struct json_object *pool)
{
	unsigned long long count = count_of(pool, "half_received");
	if (count)
		print_paragraph(
			STATUS_INDENT,
			"received    a part of a snapshot by %llu partition%s, see lcpfs list: go on with lcpfs "
			"receive --resume, or give it up with --abort",
			count, count == 1 ? "" : "s");
}

void show_status(struct json_object *result)
{
	struct json_object *pool = field_get(result, "pool");
	struct json_object *engine = field_get(pool, "engine");
	char epsilon[NUMBER_TEXT];
	show_totals(pool);
	show_half_received(pool);
	show_scrub_state(pool);
	print_paragraph(STATUS_INDENT, "engine      mode %s: boundaries %s", text_of(engine, "mode"),
			field_flag(engine, "moving") ? "are being moved" : mode_words(text_of(engine, "mode")));
	printf("epsilon     %s\n", number_print(epsilon, field_number(engine, "epsilon")));
	printf("moves       %llu: %llu improved, %llu hurt, %llu inconclusive, %llu undone\n",
	       count_of(engine, "moves"), count_of(engine, "improved"), count_of(engine, "hurt"),
	       count_of(engine, "inconclusive"), count_of(engine, "undone"));
	show_saved(engine, 12);
	printf("\n");
	show_thresholds(field_get(engine, "thresholds"), field_get(result, "decision"));
}

/* In bytes where it is no whole number of what size_print would say. */
const char *show_volume(struct json_object *p, char text[SIZE_TEXT])
{
	uint64_t bytes = field_count(p, "volume_bytes");
	if (bytes % LCPFS_BLOCK_BYTES)
		snprintf(text, SIZE_TEXT, "%llu bytes", (unsigned long long)bytes);
	else
		size_print(text, bytes);
	return text;
}

void show_partition(struct json_object *result)
{
	struct json_object *p = field_get(result, "partition");
	uint64_t wait_s = field_count(p, "when_full_wait_s");
	char size[SIZE_TEXT], min[SIZE_TEXT], max[SIZE_TEXT], volume[SIZE_TEXT], space[SIZE_TEXT];
	size_print_blocks(size, field_count(p, "size_data_blocks"));
	size_print_blocks(min, field_count(p, "min_data_blocks"));
	size_print_blocks(max, field_count(p, "max_data_blocks"));
	size_print_blocks(space, field_count(p, "size_blocks"));
	printf("%s: size %s, min %s, max %s, volume %s%s", text_of(p, "name"), size, min, max,
	       show_volume(p, volume), field_flag(p, "thin") ? " (thin)" : "");
	if (wait_s)
		printf(", waits %llu s when full", (unsigned long long)wait_s);
	printf("; %s of the pool\n", space);
}

struct side_line {
	const char *label, *key;
	void (*cell)(struct table *table, struct json_object *object, const char *key);
};

/* Per second, of something counted in blocks. */
static void cell_rate(struct table *table, struct json_object *object, const char *key)
{
	char text[WORDS_ROOM];
	table_cell(table, "%s/s", words_blocks(text, field_number(object, key)));
}

/* Of epsilon, per block. */
static void cell_per_m(struct table *table, struct json_object *object, const char *key)
{
	char text[WORDS_ROOM];
	table_cell(table, "%s", words_number(text, 256 * field_number(object, key)));
}

static const struct side_line side_lines[] = {
	{"space", "size_blocks", cell_blocks},
	{"live", "live_blocks", cell_blocks},
	{"base size", "base_blocks", cell_blocks},
	{"may shrink to", "floor_blocks", cell_blocks},
	{"may grow to", "ceiling_blocks", cell_blocks},
	{"operations/s", "access_frequency", cell_number},
	{"written", "write_frequency", cell_rate},
	{"latency", "avg_latency_us", cell_us},
	{"writes' share of it", "write_share", cell_percent},
	{"utilization", "utilization", cell_percent},
	{"pressure", "pressure", cell_number},
	{"epsilon", "epsilon", cell_number},
	{"copied / written", "cleaning_cost", cell_number},
	{"relative error of that", "cleaning_error", cell_number},
	{"epsilon per M", "gain_per_block", cell_per_m},
};

static void show_sides(struct json_object *from, struct json_object *to)
{
	char from_title[128], to_title[128];
	const char *titles[] = {"<", from_title, to_title, NULL};
	snprintf(from_title, sizeof(from_title), "FROM %s", side_name(from));
	snprintf(to_title, sizeof(to_title), "TO %s", side_name(to));
	struct table *table = table_new(titles);
	for (size_t i = 0; i < ARRAY_LENGTH(side_lines); i++) {
		table_row(table);
		table_cell(table, "%s", side_lines[i].label);
		side_lines[i].cell(table, from, side_lines[i].key);
		side_lines[i].cell(table, to, side_lines[i].key);
	}
	table_print(table);
}

static void line_blocks(struct json_object *decision, const char *label, const char *key)
{
	char text[SIZE_TEXT];
	size_print_blocks(text, whole_blocks(decision, key));
	printf("%-26s%s\n", label, text);
}

/* What is held against what. The last column says what stands under WITH. */
static void compare(struct table *table, const char *what, const char *is, const char *with, const char *which)
{
	table_row(table);
	table_cell(table, "%s", what);
	table_cell(table, "%s", is);
	table_cell(table, "%s", with);
	table_cell(table, "%s", which);
}

static void compare_blocks(struct table *table, const char *what, double is, double with, const char *which)
{
	char first[WORDS_ROOM], second[WORDS_ROOM];
	compare(table, what, words_blocks(first, is), words_blocks(second, with), which);
}

static void compare_share(struct table *table, const char *what, double is, double with, const char *which)
{
	char first[NUMBER_TEXT], second[NUMBER_TEXT];
	snprintf(first, sizeof(first), "%.1f%%", isfinite(is) ? is : 0);
	snprintf(second, sizeof(second), "%.1f%%", isfinite(with) ? with : 0);
	compare(table, what, first, second, which);
}

static double percent_of(double part, double all)
{
	return all > 0 ? 100 * part / all : 0;
}

/* Of what was weighed for a move to `to`. */
static void show_compared(struct json_object *d, struct json_object *from, struct json_object *to)
{
	static const char *const titles[] = {"<COMPARED", "THIS", "WITH", "<WHICH IS", NULL};
	double epsilon = finite_number(from, "epsilon") + finite_number(to, "epsilon");
	double blocks = (double)field_count(d, "blocks");
	struct table *table = table_new(titles);
	char is[NUMBER_TEXT], with[NUMBER_TEXT];
	compare_share(table, "clients wait less by", percent_of(finite_number(d, "expected_gain"), epsilon),
		      percent_of(finite_number(d, "expected_error"), epsilon), "its standard error");
	compare_blocks(table, "writing saved",
		       finite_number(d, "expected_saving_blocks_s") * field_number(d, "horizon_s"),
		       finite_number(d, "cost_blocks"), "copied for it");
	compare_blocks(table, "copied for it", finite_number(d, "cost_blocks"),
		       finite_number(d, "copying_budget_blocks"), "what moves may cost now");
	compare_blocks(table, "moved", blocks, finite_number(d, "balance_blocks"), "until in balance");
	compare_share(table, "growth", percent_of(blocks, finite_number(to, "size_blocks")),
		      100 * field_number(d, "growth_step"), "the growth step");
	if (field_count(from, "id"))
		compare_share(table, "shrinking", percent_of(blocks, finite_number(from, "size_blocks")),
			      100 * field_number(d, "shrink_step"), "the shrink step");
	compare(table, "pressure", number_print(is, field_number(to, "pressure")),
		number_print(with, field_number(d, "pressure_threshold")), "where moves helped");
	compare_blocks(table, "written at this size", finite_number(to, "since_change_blocks"),
		       finite_number(to, "size_blocks"), "once all its space");
	table_print(table);
}

static void show_engine(struct json_object *d)
{
	show_saved(d, 26);
	line_blocks(d, "way back to base sizes", "return_blocks");
	printf("%-26s%.0f %%\n", "trust in expectations", 100 * field_number(d, "trust"));
	printf("%-26s%llu\n", "verdicts so far", count_of(d, "outcomes"));
}

/* Where snapshots hold a tenth of what is stored, or more: who wonders why it is full has to know. */
static void explain_snapshots(struct json_object *p)
{
	uint64_t freed = field_count(p, "freed_blocks"), stored = field_count(p, "stored_blocks");
	char all[SIZE_TEXT], of[SIZE_TEXT], most[SIZE_TEXT], *text;
	if (!freed || freed < stored / 10)
		return;
	size_print_blocks(all, freed);
	size_print_blocks(of, stored);
	size_print_blocks(most, field_count(p, "largest_blocks"));
	CHECK(asprintf(&text,
		       "Of %s that %s stores only its snapshots hold %s. Alone, %s would give back most: %s. "
		       "See lcpfs list --snapshots.",
		       of, text_of(p, "partition"), all, text_of(p, "largest"), most) >= 0);
	print_wrapped(text, 0, terminal_width());
	free(text);
}

void show_explain(struct json_object *result)
{
	struct json_object *snapshots = field_get(result, "snapshots");
	struct json_object *d = field_get(result, "decision");
	struct json_object *from = field_get(d, "from"), *to = field_get(d, "to");
	bool weighed = field_count(from, "id") || field_count(to, "id");
	char *advice;
	print_wrapped(text_of(d, "sentence"), 0, terminal_width());
	CHECK(asprintf(&advice, "What you can do: %s", text_of(d, "advice")) >= 0);
	print_wrapped(advice, 0, terminal_width());
	free(advice);
	print_wrapped(text_of(d, "ranking"), 0, terminal_width());
	for (size_t i = 0; i < field_length(snapshots); i++)
		explain_snapshots(json_object_array_get_idx(snapshots, i));
	printf("\n%-26s%s (%s)\n", "answer", text_of(d, "action"), text_of(d, "reason"));
	show_engine(d);
	if (weighed) {
		printf("\n");
		show_compared(d, from, to);
		printf("\n");
		show_sides(from, to);
	}
}

/* Who and how much, where the text does not say so itself. */
static void print_subject(struct json_object *event, char *text, size_t room)
{
	const char *kind = text_of(event, "kind"), *from = text_of(event, "from"), *to = text_of(event, "to");
	char before[SIZE_TEXT], after[SIZE_TEXT];
	bool grown = !*from;
	text[0] = '\0';
	if (!strcmp(kind, "resized")) {
		size_print_blocks(before, whole_blocks(event, grown ? "to_old_blocks" : "from_old_blocks"));
		size_print_blocks(after, whole_blocks(event, grown ? "to_new_blocks" : "from_new_blocks"));
		snprintf(text, room, "%s %s → %s, ", grown ? to : from, before, after);
	} else if (!strcmp(kind, "outcome")) {
		snprintf(text, room, "%s → %s: ", *from ? from : "free space", *to ? to : "free space");
	} else if (!strcmp(kind, "damage")) {
		snprintf(text, room, "%s: ", *from ? from : "pool");
	}
}

enum { EVENT_INDENT = 38 }; /* behind time and kind */

/* A line each, unless at a terminal. */
static void show_event(struct json_object *event)
{
	char when[TIME_TEXT], subject[256], *text;
	int width = terminal_width();
	print_subject(event, subject, sizeof(subject));
	CHECK(asprintf(&text, "%s  %-9s  %s%s", show_time(field_count(event, "time_s"), when),
		       text_of(event, "kind"), subject, text_of(event, "text")) >= 0);
	print_wrapped(text, width > WIDTH ? EVENT_INDENT : 4, width);
	free(text);
}

void show_events(struct json_object *result)
{
	struct json_object *events = field_get(result, "events");
	for (size_t i = 0; i < field_length(events); i++)
		show_event(json_object_array_get_idx(events, i));
}

void show_findings(struct json_object *findings)
{
	for (size_t i = 0; i < field_length(findings); i++) {
		struct json_object *finding = json_object_array_get_idx(findings, i);
		const char *partition = text_of(finding, "partition");
		printf("%s: %s%s\n", *partition ? partition : "pool", text_of(finding, "text"),
		       field_flag(finding, "repaired") ? " (repaired)" : "");
	}
}

void show_json(struct json_object *result)
{
	printf("%s\n", field_line(result));
}
