/* SPDX-License-Identifier: Apache-2.0 */
#include "show.h"

#include <stdio.h>
#include <string.h>
#include <time.h>

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

static void cell_percent(struct table *table, struct json_object *object, const char *key)
{
	table_cell(table, "%.1f%%", 100 * field_number(object, key));
}

static void cell_us(struct table *table, struct json_object *object, const char *key)
{
	char text[NUMBER_TEXT];

	table_cell(table, "%s", number_print_us(text, field_number(object, key)));
}

static void list_row(struct table *table, struct json_object *partition)
{
	const char *state = field_flag(partition, "faulted")  ? "FAULTED"
			    : field_flag(partition, "moving") ? "moving"
							      : "";

	table_row(table);
	table_cell(table, "%s", text_of(partition, "name"));
	cell_blocks(table, partition, "size_blocks");
	cell_blocks(table, partition, "min_size_blocks");
	cell_blocks(table, partition, "max_size_blocks");
	cell_blocks(table, partition, "live_blocks");
	cell_percent(table, partition, "utilization");
	cell_number(table, partition, "access_frequency");
	cell_us(table, partition, "avg_latency_us");
	cell_number(table, partition, "pressure");
	cell_number(table, partition, "epsilon");
	cell_number(table, partition, "write_amplification");
	table_cell(table, "%s", state);
}

void show_list(struct json_object *result)
{
	static const char *const titles[] = {"<NAME",   "SIZE",     "MIN",     "MAX", "LIVE",   "USED", "OPS/S",
					     "LATENCY", "PRESSURE", "EPSILON", "WA",  "<STATE", NULL};
	struct json_object *partitions = field_get(result, "partitions");
	struct table *table = table_new(titles);

	for (size_t i = 0; i < field_length(partitions); i++)
		list_row(table, json_object_array_get_idx(partitions, i));
	table_print(table);
}

static void threshold_row(struct table *table, const char *name, struct json_object *threshold)
{
	table_row(table);
	table_cell(table, "%s", name);
	cell_number(table, threshold, "value");
	cell_number(table, threshold, "uncertainty");
	table_cell(table, "%llu", (unsigned long long)field_count(threshold, "observations"));
	cell_number(table, threshold, "learning_rate");
	cell_number(table, threshold, "mean_outcome");
	cell_number(table, threshold, "variance");
	cell_number(table, threshold, "confidence");
}

static void show_thresholds(struct json_object *thresholds)
{
	static const char *const titles[] = {"<THRESHOLD",   "VALUE",         "UNCERTAINTY",
					     "OBSERVATIONS", "LEARNING_RATE", "MEAN_OUTCOME",
					     "VARIANCE",     "CONFIDENCE",    NULL};
	struct table *table = table_new(titles);

	threshold_row(table, "pressure", field_get(thresholds, "pressure"));
	threshold_row(table, "cooldown (s)", field_get(thresholds, "cooldown_s"));
	threshold_row(table, "growth step", field_get(thresholds, "growth_step"));
	threshold_row(table, "shrink step", field_get(thresholds, "shrink_step"));
	table_print(table);
}

static void print_time(const char *label, uint64_t time_s)
{
	char text[64];
	time_t when = (time_t)time_s;
	struct tm local;

	if (localtime_r(&when, &local) && strftime(text, sizeof(text), "%Y-%m-%d %H:%M:%S", &local))
		printf("%s%s", label, text);
}

static unsigned long long count_of(struct json_object *object, const char *key)
{
	return field_count(object, key);
}

static void show_totals(struct json_object *pool)
{
	char size[SIZE_TEXT], free_space[SIZE_TEXT], metaslab[SIZE_TEXT];

	size_print_blocks(size, field_count(pool, "size_blocks"));
	size_print_blocks(free_space, field_count(pool, "free_blocks"));
	size_print_blocks(metaslab, field_count(pool, "metaslab_blocks"));
	printf("health      %s%s%s\n", text_of(pool, "health"), *text_of(pool, "health_text") ? ": " : "",
	       text_of(pool, "health_text"));
	printf("size        %s in %llu metaslabs of %s; owned by nobody: %s\n", size, count_of(pool, "metaslabs"),
	       metaslab, free_space);
	printf("partitions  %llu of at most %llu\n", count_of(pool, "partitions"),
	       count_of(pool, "partitions_max"));
	print_time("created     ", field_count(pool, "created_s"));
	printf(", txg %llu, guid %s\n", count_of(pool, "txg"), text_of(pool, "guid"));
}

static void show_scrub_state(struct json_object *pool)
{
	uint64_t when = field_count(pool, "last_scrub_s");

	if (!when) {
		printf("scrub       none since the pool was opened\n");
		return;
	}
	print_time("scrub       ", when);
	printf(", %llu errors\n", count_of(pool, "last_scrub_errors"));
}

/* Against base sizes: those that partitions would have if the engine had left them alone. */
static void show_saved(struct json_object *object, int width)
{
	double saved = field_number(object, "saved_blocks"), written = field_number(object, "written_blocks");
	double share = written + saved > 0 ? 100 * saved / (written + saved) : 0;

	printf("%-*s%.1f %% of what would have been written without moves\n", width, "saved", share);
}

void show_status(struct json_object *result)
{
	struct json_object *pool = field_get(result, "pool");
	struct json_object *engine = field_get(pool, "engine");
	char epsilon[NUMBER_TEXT];

	show_totals(pool);
	show_scrub_state(pool);
	printf("engine      %s%s; epsilon %s\n", text_of(engine, "mode"),
	       field_flag(engine, "moving") ? ", moving a boundary" : "",
	       number_print(epsilon, field_number(engine, "epsilon")));
	printf("moves       %llu: %llu improved, %llu hurt, %llu inconclusive, %llu undone\n",
	       count_of(engine, "moves"), count_of(engine, "improved"), count_of(engine, "hurt"),
	       count_of(engine, "inconclusive"), count_of(engine, "undone"));
	show_saved(engine, 12);
	printf("\n");
	show_thresholds(field_get(engine, "thresholds"));
}

void show_partition(struct json_object *result)
{
	struct json_object *p = field_get(result, "partition");
	char size[SIZE_TEXT], min[SIZE_TEXT], max[SIZE_TEXT], live[SIZE_TEXT];

	size_print_blocks(size, field_count(p, "size_blocks"));
	size_print_blocks(min, field_count(p, "min_size_blocks"));
	size_print_blocks(max, field_count(p, "max_size_blocks"));
	size_print_blocks(live, field_count(p, "live_blocks"));
	printf("%s: size %s, min %s, max %s, live %s\n", text_of(p, "name"), size, min, max, live);
}

struct side_line {
	const char *label, *key;
	void (*cell)(struct table *table, struct json_object *object, const char *key);
};

static const struct side_line side_lines[] = {
	{"size", "size_blocks", cell_blocks},
	{"live", "live_blocks", cell_blocks},
	{"base size", "base_blocks", cell_blocks},
	{"may shrink to", "floor_blocks", cell_blocks},
	{"may grow to", "ceiling_blocks", cell_blocks},
	{"operations/s", "access_frequency", cell_number},
	{"written blocks/s", "write_frequency", cell_number},
	{"latency", "avg_latency_us", cell_us},
	{"writes' share of it", "write_share", cell_percent},
	{"utilization", "utilization", cell_percent},
	{"pressure", "pressure", cell_number},
	{"epsilon", "epsilon", cell_number},
	{"copied per written block", "cleaning_cost", cell_number},
	{"relative error of that", "cleaning_error", cell_number},
	{"epsilon per block", "gain_per_block", cell_number},
};

static const char *side_name(struct json_object *side)
{
	const char *name = text_of(side, "name");

	return *name ? name : field_count(side, "id") ? "(gone)" : "(free space)";
}

static void show_sides(struct json_object *from, struct json_object *to)
{
	char from_title[128], to_title[128];
	const char *titles[] = {"<", from_title, to_title, NULL};
	struct table *table;

	snprintf(from_title, sizeof(from_title), "FROM %s", side_name(from));
	snprintf(to_title, sizeof(to_title), "TO %s", side_name(to));
	table = table_new(titles);
	for (size_t i = 0; i < ARRAY_LENGTH(side_lines); i++) {
		table_row(table);
		table_cell(table, "%s", side_lines[i].label);
		side_lines[i].cell(table, from, side_lines[i].key);
		side_lines[i].cell(table, to, side_lines[i].key);
	}
	table_print(table);
}

static void line_number(struct json_object *decision, const char *label, const char *key)
{
	char text[NUMBER_TEXT];

	printf("%-26s%s\n", label, number_print(text, field_number(decision, key)));
}

static void line_blocks(struct json_object *decision, const char *label, const char *key)
{
	char text[SIZE_TEXT];

	size_print_blocks(text, whole_blocks(decision, key));
	printf("%-26s%s\n", label, text);
}

static void show_weighing(struct json_object *d)
{
	char gain[NUMBER_TEXT], error[NUMBER_TEXT];

	line_blocks(d, "weighed", "blocks");
	printf("%-26s%s, give or take %s\n", "expected fall of epsilon",
	       number_print(gain, field_number(d, "expected_gain")),
	       number_print(error, field_number(d, "expected_error")));
	line_blocks(d, "copying it costs", "cost_blocks");
	line_blocks(d, "ends when it has copied", "cost_limit_blocks");
	line_number(d, "saves device blocks/s", "expected_saving_blocks_s");
	line_blocks(d, "until in balance", "balance_blocks");
	show_saved(d, 26);
	line_blocks(d, "way back to base sizes", "return_blocks");
	line_number(d, "trust in expectations", "trust");
	line_number(d, "outcomes so far", "outcomes");
	line_number(d, "pressure threshold", "pressure_threshold");
	line_number(d, "confidence in it", "confidence");
	line_number(d, "cooldown (s)", "cooldown_s");
	line_number(d, "growth step", "growth_step");
	line_number(d, "shrink step", "shrink_step");
}

void show_explain(struct json_object *result)
{
	struct json_object *d = field_get(result, "decision");
	struct json_object *from = field_get(d, "from"), *to = field_get(d, "to");
	bool weighed = field_count(from, "id") || field_count(to, "id");

	printf("%s\n%s\n\n", text_of(d, "sentence"), text_of(d, "ranking"));
	printf("%-26s%s (%s), for %.0f s\n", "answer", text_of(d, "action"), text_of(d, "reason"),
	       field_number(d, "standing_s"));
	show_weighing(d);
	if (weighed) {
		printf("\n");
		show_sides(from, to);
	}
}

/* Who and how much, where the text does not say so itself. */
static void print_subject(struct json_object *event)
{
	const char *kind = text_of(event, "kind"), *from = text_of(event, "from"), *to = text_of(event, "to");
	char before[SIZE_TEXT], after[SIZE_TEXT];

	if (!strcmp(kind, "resized")) {
		const char *side = *from ? "from" : "to";
		bool grown = !*from;

		size_print_blocks(before, whole_blocks(event, grown ? "to_old_blocks" : "from_old_blocks"));
		size_print_blocks(after, whole_blocks(event, grown ? "to_new_blocks" : "from_new_blocks"));
		printf("%s %s → %s, ", text_of(event, side), before, after);
	} else if (!strcmp(kind, "outcome")) {
		printf("%s → %s: ", *from ? from : "free space", *to ? to : "free space");
	}
}

void show_events(struct json_object *result)
{
	struct json_object *events = field_get(result, "events");

	for (size_t i = 0; i < field_length(events); i++) {
		struct json_object *event = json_object_array_get_idx(events, i);

		print_time("", field_count(event, "time_s"));
		printf("  %-9s  ", text_of(event, "kind"));
		print_subject(event);
		printf("%s\n", text_of(event, "text"));
	}
}

void show_findings(struct json_object *findings)
{
	for (size_t i = 0; i < field_length(findings); i++) {
		struct json_object *finding = json_object_array_get_idx(findings, i);

		printf("%s%s\n", text_of(finding, "text"), field_flag(finding, "repaired") ? " (repaired)" : "");
	}
}

void show_json(struct json_object *result)
{
	printf("%s\n", field_line(result));
}
