/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A family of metrics is a name, a type, a sentence and its samples, all in one piece: so each family walks over
 * the partitions anew, over numbers that were all read at the beginning.
 */
#include "control/metrics.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>

#include "base/error.h"
#include "control/describe.h"
#include "control/iostat.h"

struct metrics {
	FILE *out;
	enum metrics_format format;
	const char *path;
	struct lcpfs_pool_info pool;
	struct describe_partitions partitions;
	struct lcpfs_iostat *iostat; /* one for each partition */
};

enum type { GAUGE, COUNTER, HISTOGRAM };

/* ---- the text ---- */

static void family(struct metrics *m, const char *name, enum type type, const char *help)
{
	static const char *const types[] = {"gauge", "counter", "histogram"};
	const char *suffix = type == COUNTER && m->format == METRICS_PROMETHEUS ? "_total" : "";
	fprintf(m->out, "# HELP lcpfs_%s%s %s\n# TYPE lcpfs_%s%s %s\n", name, suffix, help, name, suffix,
		types[type]);
}

static void print_escaped(FILE *out, const char *text)
{
	for (; *text; text++) {
		if (*text == '\\' || *text == '"')
			fputc('\\', out);
		if (*text == '\n')
			fputs("\\n", out);
		else
			fputc(*text, out);
	}
}

static void print_number(FILE *out, double number)
{
	if (isnan(number))
		fputs("NaN\n", out);
	else if (isinf(number))
		fputs(number < 0 ? "-Inf\n" : "+Inf\n", out);
	else
		fprintf(out, "%.15g\n", number);
}

/* The sample's name and the labels that all have. */
static void begin_sample(struct metrics *m, const char *name, const char *suffix,
			 const struct lcpfs_partition_info *partition)
{
	fprintf(m->out, "lcpfs_%s%s{pool=\"%016" PRIx64 "\"", name, suffix, m->pool.guid);
	if (partition)
		fprintf(m->out, ",partition=\"%s\"", partition->name); /* names need no escaping */
}

static void end_sample(struct metrics *m, const char *label, const char *value, double number)
{
	if (label) {
		fprintf(m->out, ",%s=\"", label);
		print_escaped(m->out, value);
		fputc('"', m->out);
	}
	fputs("} ", m->out);
	print_number(m->out, number);
}

static const char *suffix_of(enum type type)
{
	return type == COUNTER ? "_total" : "";
}

/* ---- the pool ---- */

static void pool_number(struct metrics *m, const char *name, enum type type, double number, const char *help)
{
	family(m, name, type, help);
	begin_sample(m, name, suffix_of(type), NULL);
	end_sample(m, NULL, NULL, number);
}

/* 1 for the state that it is in, 0 for the others. */
static void pool_state(struct metrics *m, const char *name, const char *label, const char *const *states,
		       unsigned count, unsigned now, const char *help)
{
	family(m, name, GAUGE, help);
	for (unsigned i = 0; i < count; i++) {
		begin_sample(m, name, "", NULL);
		end_sample(m, label, states[i], i == now);
	}
}

static double bytes(uint64_t blocks)
{
	return (double)blocks * LCPFS_BLOCK_BYTES;
}

static void put_pool(struct metrics *m)
{
	static const char *const healths[] = {"ONLINE", "DEGRADED", "FAULTED"};
	const struct lcpfs_pool_info *p = &m->pool;
	family(m, "pool_info", GAUGE, "1; says where the pool lies and which version runs.");
	begin_sample(m, "pool_info", "", NULL);
	fprintf(m->out, ",version=\"%s\"", LCPFS_VERSION);
	end_sample(m, "path", m->path, 1);
	pool_state(m, "pool_health", "health", healths, ARRAY_LENGTH(healths), p->health,
		   "1 for the health that the pool is in.");
	pool_number(m, "pool_size_bytes", GAUGE, bytes(p->size_blocks), "Space that partitions can have.");
	pool_number(m, "pool_free_bytes", GAUGE, bytes(p->free_blocks), "Space that no partition has.");
	pool_number(m, "pool_host_is_full", GAUGE, p->host_is_full,
		    "1 while the file system under the pool file is full.");
	pool_number(m, "pool_read_errors", GAUGE, (double)p->read_errors,
		    "Reads of clients that met damage since the last scrub.");
	pool_number(m, "pool_last_scrub_timestamp_seconds", GAUGE, (double)p->last_scrub_s,
		    "When a scrub ended last, 0 for never.");
	pool_number(m, "pool_last_scrub_errors", GAUGE, (double)p->last_scrub_errors,
		    "Damaged places that the last scrub could not repair.");
}

/* ---- the engine ---- */

static void put_thresholds(struct metrics *m)
{
	const struct lcpfs_engine_statistics *e = &m->pool.engine;
	const struct {
		const char *name;
		double value, confidence;
	} list[] = {
		{"pressure", e->pressure.value, e->pressure_confidence},
		{"cooldown_s", e->cooldown_s.value, e->cooldown_confidence},
		{"growth_step", e->growth_step.value, e->growth_confidence},
		{"shrink_step", e->shrink_step.value, e->shrink_confidence},
	};
	family(m, "engine_threshold", GAUGE, "What the engine has learned.");
	for (size_t i = 0; i < ARRAY_LENGTH(list); i++) {
		begin_sample(m, "engine_threshold", "", NULL);
		end_sample(m, "threshold", list[i].name, list[i].value);
	}
	family(m, "engine_confidence_ratio", GAUGE, "How sure the engine is of it.");
	for (size_t i = 0; i < ARRAY_LENGTH(list); i++) {
		begin_sample(m, "engine_confidence_ratio", "", NULL);
		end_sample(m, "threshold", list[i].name, list[i].confidence);
	}
}

static void put_outcomes(struct metrics *m)
{
	const struct lcpfs_engine_statistics *e = &m->pool.engine;
	const struct {
		const char *verdict;
		uint64_t count;
	} list[] = {{"improved", e->improved}, {"hurt", e->hurt}, {"inconclusive", e->inconclusive}};
	family(m, "engine_outcomes", COUNTER, "What came of boundary moves.");
	for (size_t i = 0; i < ARRAY_LENGTH(list); i++) {
		begin_sample(m, "engine_outcomes", "_total", NULL);
		end_sample(m, "verdict", list[i].verdict, (double)list[i].count);
	}
}

static void put_engine(struct metrics *m)
{
	static const char *const modes[] = {"off", "observe", "on"};
	const struct lcpfs_engine_statistics *e = &m->pool.engine;
	pool_state(m, "engine_mode", "mode", modes, ARRAY_LENGTH(modes), e->mode, "1 for the engine's mode.");
	pool_number(m, "engine_epsilon", GAUGE, e->epsilon, "Epsilon of all partitions together.");
	pool_number(m, "engine_moves", COUNTER, (double)e->moves, "Boundary moves.");
	put_outcomes(m);
	pool_number(m, "engine_undone", COUNTER, (double)e->undone, "Boundary moves that were taken back.");
	pool_number(m, "engine_saved_bytes", GAUGE, e->saved_blocks * LCPFS_BLOCK_BYTES,
		    "How much more would have been written without moves, negative for less.");
	put_thresholds(m);
}

/* ---- partitions ---- */

struct partition_metric {
	const char *name;
	enum type type;
	double (*value)(const struct lcpfs_partition_info *p);
	const char *help;
};

#define BLOCKS_OF(field) \
	static double value_##field(const struct lcpfs_partition_info *p) { return bytes(p->field); }
#define NUMBER_OF(field) \
	static double value_##field(const struct lcpfs_partition_info *p) { return (double)p->field; }
BLOCKS_OF(size_blocks)
BLOCKS_OF(size_data_blocks)
BLOCKS_OF(min_data_blocks)
BLOCKS_OF(max_data_blocks)
BLOCKS_OF(volume_blocks)
BLOCKS_OF(data_blocks)
BLOCKS_OF(live_blocks)
BLOCKS_OF(least_size_blocks)
BLOCKS_OF(written_blocks)
BLOCKS_OF(device_blocks)
BLOCKS_OF(copied_blocks)
BLOCKS_OF(table_blocks)
NUMBER_OF(pressure)
NUMBER_OF(epsilon)
NUMBER_OF(write_amplification)
NUMBER_OF(moving)
NUMBER_OF(faulted)
NUMBER_OF(memory_bytes)
NUMBER_OF(cleaned_metaslabs)
NUMBER_OF(checkpoints)

static const struct partition_metric partition_metrics[] = {
	{"partition_size_bytes", GAUGE, value_size_data_blocks, "User data that the partition has room for."},
	{"partition_min_size_bytes", GAUGE, value_min_data_blocks, "It never gets room for less."},
	{"partition_max_size_bytes", GAUGE, value_max_data_blocks, "It never gets room for more."},
	{"partition_data_bytes", GAUGE, value_data_blocks, "User data in it."},
	{"partition_volume_bytes", GAUGE, value_volume_blocks, "Length of the volume that clients see."},
	{"partition_space_bytes", GAUGE, value_size_blocks, "Space of the pool that it has."},
	{"partition_least_space_bytes", GAUGE, value_least_size_blocks, "The least that it could do with now."},
	{"partition_live_bytes", GAUGE, value_live_blocks, "What of its space is in use, tables included."},
	{"partition_memory_bytes", GAUGE, value_memory_bytes, "Memory that its tables take."},
	{"partition_pressure", GAUGE, value_pressure, "Pressure over the last moments, +Inf at the maximum size."},
	{"partition_epsilon", GAUGE, value_epsilon, "Epsilon over the last moments."},
	{"partition_write_amplification_ratio", GAUGE, value_write_amplification,
	 "Written to the device by what clients wrote, over the last moments."},
	{"partition_moving", GAUGE, value_moving, "1 while its boundary is being moved."},
	{"partition_faulted", GAUGE, value_faulted, "1 while it cannot be used."},
	{"partition_written_bytes", COUNTER, value_written_blocks, "Written by clients since it was created."},
	{"partition_device_written_bytes", COUNTER, value_device_blocks,
	 "Written to the device since it was created."},
	{"partition_copied_bytes", COUNTER, value_copied_blocks, "Copied by cleaning since it was created."},
	{"partition_table_bytes", COUNTER, value_table_blocks, "Written for tables since it was created."},
	{"partition_cleaned_metaslabs", COUNTER, value_cleaned_metaslabs, "Metaslabs cleaned since then."},
	{"partition_checkpoints", COUNTER, value_checkpoints, "Checkpoints since then."},
};

static void put_partitions(struct metrics *m)
{
	for (size_t i = 0; i < ARRAY_LENGTH(partition_metrics); i++) {
		const struct partition_metric *metric = &partition_metrics[i];
		family(m, metric->name, metric->type, metric->help);
		for (size_t k = 0; k < m->partitions.count; k++) {
			const struct lcpfs_partition_info *p = &m->partitions.list[k];
			begin_sample(m, metric->name, suffix_of(metric->type), p);
			end_sample(m, NULL, NULL, metric->value(p));
		}
	}
}

/* ---- operations ---- */

enum { LE_FIRST_US = 4, LE_FACTOR = 4, LE_COUNT = 13 }; /* 4 µs to 67 s: edges of buckets, too */

static void put_histogram(struct metrics *m, const struct lcpfs_partition_info *p, const char *operation,
			  const struct lcpfs_operation_stats *stats)
{
	uint64_t le_us = LE_FIRST_US, below = 0;
	unsigned bucket = 0;
	for (unsigned i = 0; i < LE_COUNT; i++, le_us *= LE_FACTOR) {
		for (; bucket < LCPFS_LATENCY_BUCKETS && lcpfs_latency_bucket_us(bucket) < le_us; bucket++)
			below += stats->latency[bucket];
		begin_sample(m, "partition_latency_seconds", "_bucket", p);
		fprintf(m->out, ",operation=\"%s\",le=\"%.9g\"} %" PRIu64 "\n", operation, (double)le_us / 1e6,
			below);
	}
	begin_sample(m, "partition_latency_seconds", "_bucket", p);
	fprintf(m->out, ",operation=\"%s\",le=\"+Inf\"} %" PRIu64 "\n", operation, stats->ops);
	begin_sample(m, "partition_latency_seconds", "_count", p);
	end_sample(m, "operation", operation, (double)stats->ops);
	begin_sample(m, "partition_latency_seconds", "_sum", p);
	end_sample(m, "operation", operation, (double)stats->us / 1e6);
}

static double value_bytes(const struct lcpfs_operation_stats *stats)
{
	return (double)stats->bytes;
}

static double value_errors(const struct lcpfs_operation_stats *stats)
{
	return (double)stats->errors;
}

static double value_no_space(const struct lcpfs_operation_stats *stats)
{
	return (double)stats->no_space;
}

static void put_operation_counter(struct metrics *m, const char *name,
				  double (*value)(const struct lcpfs_operation_stats *stats), const char *help)
{
	family(m, name, COUNTER, help);
	for (size_t k = 0; k < m->partitions.count; k++) {
		for (unsigned i = 0; i < LCPFS_OPERATIONS; i++) {
			begin_sample(m, name, "_total", &m->partitions.list[k]);
			end_sample(m, "operation", iostat_operation_name(i), value(&m->iostat[k].operation[i]));
		}
	}
}

static void put_operations(struct metrics *m)
{
	family(m, "partition_latency_seconds", HISTOGRAM, "How long operations took since the pool was opened.");
	for (size_t k = 0; k < m->partitions.count; k++)
		for (unsigned i = 0; i < LCPFS_OPERATIONS; i++)
			put_histogram(m, &m->partitions.list[k], iostat_operation_name(i),
				      &m->iostat[k].operation[i]);
	put_operation_counter(m, "partition_operation_bytes", value_bytes,
			      "Bytes of operations since the pool was opened.");
	put_operation_counter(m, "partition_operation_errors", value_errors,
			      "Operations that failed since the pool was opened.");
	put_operation_counter(m, "partition_operation_no_space", value_no_space,
			      "Those of them that failed for want of space.");
}

/* ---- all of it ---- */

/* A partition that is removed meanwhile is told with nothing counted. */
static int load(struct metrics *m, struct lcpfs_pool *pool)
{
	int error = lcpfs_pool_get_info(pool, &m->pool);
	if (!error)
		error = describe_partitions_load(&m->partitions, pool);
	if (error)
		return error;
	m->iostat = calloc(m->partitions.count + 1, sizeof(*m->iostat));
	if (!m->iostat)
		return -LCPFS_E_NOMEM;
	for (size_t i = 0; i < m->partitions.count; i++)
		if (lcpfs_partition_get_iostat(pool, m->partitions.list[i].name, &m->iostat[i], NULL))
			m->iostat[i] = (struct lcpfs_iostat){0};
	return 0;
}

static int write_all(struct metrics *m, char **text)
{
	size_t length;
	m->out = open_memstream(text, &length);
	if (!m->out)
		return -LCPFS_E_NOMEM;
	put_pool(m);
	put_engine(m);
	put_partitions(m);
	put_operations(m);
	if (m->format == METRICS_OPENMETRICS)
		fputs("# EOF\n", m->out);
	if (!fclose(m->out))
		return 0;
	free(*text);
	*text = NULL;
	return -LCPFS_E_NOMEM;
}

int metrics_text(struct lcpfs_pool *pool, const char *path, enum metrics_format format, char **text,
		 struct lcpfs_failure *failure)
{
	struct metrics m = {.format = format, .path = path};
	int error = load(&m, pool);
	*text = NULL;
	if (!error)
		error = write_all(&m, text);
	free(m.iostat);
	describe_partitions_free(&m.partitions);
	return error ? failure_set(failure, (enum lcpfs_error) - error, "%s", lcpfs_error_sentence(error)) : 0;
}
