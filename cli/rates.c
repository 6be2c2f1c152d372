/* SPDX-License-Identifier: Apache-2.0 */
#include "rates.h"

#include <math.h>
#include <stdlib.h>

#include "base/check.h"
#include "control/field.h"
#include "control/iostat.h"

static void read_buckets(uint64_t buckets[LCPFS_LATENCY_BUCKETS], struct json_object *operation)
{
	struct json_object *us = field_get(operation, "latency_us"), *ops = field_get(operation, "latency_ops");
	size_t count = MIN_OF(field_length(us), field_length(ops));
	for (size_t i = 0, bucket = 0; i < count; i++) {
		uint64_t low = json_object_get_uint64(json_object_array_get_idx(us, i));
		while (bucket < LCPFS_LATENCY_BUCKETS - 1 && lcpfs_latency_bucket_us((unsigned)bucket) < low)
			bucket++;
		buckets[bucket] += json_object_get_uint64(json_object_array_get_idx(ops, i));
	}
}

static void read_operation(struct lcpfs_operation_stats *stats, struct json_object *operation)
{
	*stats = (struct lcpfs_operation_stats){
		.ops = field_count(operation, "ops"),
		.bytes = field_count(operation, "bytes"),
		.us = field_count(operation, "us"),
		.errors = field_count(operation, "errors"),
		.no_space = field_count(operation, "no_space"),
	};
	read_buckets(stats->latency, operation);
}

static void read_row(struct rates_row *row, struct json_object *partition)
{
	const char *name = field_text(partition, "name");
	*row = (struct rates_row){
		.name = name ? name : "",
		.id = field_count(partition, "id"),
		.size_data_blocks = field_count(partition, "size_data_blocks"),
		.data_blocks = field_count(partition, "data_blocks"),
		.written_blocks = field_count(partition, "written_blocks"),
		.device_blocks = field_count(partition, "device_blocks"),
		.since_us = field_count(partition, "since_us"),
	};
	row->seconds = (double)(field_count(partition, "now_us") - row->since_us) / 1e6;
	for (unsigned i = 0; i < LCPFS_OPERATIONS; i++)
		read_operation(&row->operation[i], field_get(partition, iostat_operation_name(i)));
}

void rates_read(struct rates *rows, struct json_object *result)
{
	struct json_object *partitions = field_get(result, "partitions");
	rows->result = result;
	rows->count = field_length(partitions);
	rows->list = calloc(rows->count + 1, sizeof(*rows->list));
	CHECK(rows->list);
	for (size_t i = 0; i < rows->count; i++)
		read_row(&rows->list[i], json_object_array_get_idx(partitions, i));
}

void rates_free(struct rates *rows)
{
	free(rows->list);
	json_object_put(rows->result);
	*rows = (struct rates){0};
}

static void subtract_operation(struct lcpfs_operation_stats *now, const struct lcpfs_operation_stats *before)
{
	now->ops -= before->ops;
	now->bytes -= before->bytes;
	now->us -= before->us;
	now->errors -= before->errors;
	now->no_space -= before->no_space;
	for (unsigned i = 0; i < LCPFS_LATENCY_BUCKETS; i++)
		now->latency[i] -= before->latency[i];
}

struct rates_row rates_since(const struct rates_row *now, const struct rates *before)
{
	struct rates_row row = *now;
	for (size_t i = 0; i < before->count; i++) {
		const struct rates_row *old = &before->list[i];
		if (old->id != now->id || old->since_us != now->since_us)
			continue;
		row.seconds -= old->seconds;
		row.written_blocks -= old->written_blocks;
		row.device_blocks -= old->device_blocks;
		for (unsigned k = 0; k < LCPFS_OPERATIONS; k++)
			subtract_operation(&row.operation[k], &old->operation[k]);
	}
	return row;
}

void rates_add(struct rates_row *total, const struct rates_row *row)
{
	total->size_data_blocks += row->size_data_blocks;
	total->data_blocks += row->data_blocks;
	total->written_blocks += row->written_blocks;
	total->device_blocks += row->device_blocks;
	total->seconds = MAX_OF(total->seconds, row->seconds);
	for (unsigned k = 0; k < LCPFS_OPERATIONS; k++) {
		struct lcpfs_operation_stats *to = &total->operation[k];
		to->ops += row->operation[k].ops;
		to->bytes += row->operation[k].bytes;
		to->us += row->operation[k].us;
		for (unsigned i = 0; i < LCPFS_LATENCY_BUCKETS; i++)
			to->latency[i] += row->operation[k].latency[i];
	}
}

double rates_per_second(const struct rates_row *row, double count)
{
	return row->seconds > 0 ? count / row->seconds : 0;
}

double rates_queue(const struct rates_row *row)
{
	double us = 0;
	for (unsigned k = 0; k < LCPFS_OPERATIONS; k++)
		us += (double)row->operation[k].us;
	return rates_per_second(row, us / 1e6);
}

double rates_amplification(const struct rates_row *row)
{
	return row->written_blocks ? (double)row->device_blocks / (double)row->written_blocks : NAN;
}

double rates_mean_us(const struct lcpfs_operation_stats *stats)
{
	return stats->ops ? (double)stats->us / (double)stats->ops : NAN;
}
