/* SPDX-License-Identifier: Apache-2.0 */
#include "control/iostat.h"

#include <math.h>

#include "base/error.h"
#include "control/describe.h"
#include "control/field.h"

const char *iostat_operation_name(enum lcpfs_operation operation)
{
	static const char *const names[LCPFS_OPERATIONS] = {"read", "write", "trim", "flush"};
	return names[operation];
}

double iostat_percentile(const uint64_t buckets[LCPFS_LATENCY_BUCKETS], double share)
{
	double all = 0, below = 0;
	for (unsigned i = 0; i < LCPFS_LATENCY_BUCKETS; i++)
		all += (double)buckets[i];
	for (unsigned i = 0; i < LCPFS_LATENCY_BUCKETS; i++) {
		double here = (double)buckets[i], low = (double)lcpfs_latency_bucket_us(i);
		if (here > 0 && below + here >= share * all)
			return low + ((double)lcpfs_latency_bucket_us(i + 1) - low) * (share * all - below) / here;
		below += here;
	}
	return INFINITY;
}

void iostat_put_latency(struct json_object *object, const uint64_t buckets[LCPFS_LATENCY_BUCKETS])
{
	struct json_object *us = json_object_new_array(), *ops = json_object_new_array();
	for (unsigned i = 0; i < LCPFS_LATENCY_BUCKETS; i++) {
		if (!buckets[i])
			continue;
		json_object_array_add(us, json_object_new_uint64(lcpfs_latency_bucket_us(i)));
		json_object_array_add(ops, json_object_new_uint64(buckets[i]));
	}
	field_put(object, "latency_us", us);
	field_put(object, "latency_ops", ops);
}

static struct json_object *describe_operation(const struct lcpfs_operation_stats *stats)
{
	struct json_object *object = json_object_new_object();
	field_put_count(object, "ops", stats->ops);
	field_put_count(object, "bytes", stats->bytes);
	field_put_count(object, "us", stats->us);
	field_put_count(object, "errors", stats->errors);
	field_put_count(object, "no_space", stats->no_space);
	iostat_put_latency(object, stats->latency);
	return object;
}

static struct json_object *describe_one(const struct lcpfs_partition_info *info, const struct lcpfs_iostat *io)
{
	struct json_object *object = json_object_new_object();
	field_put_text(object, "name", info->name);
	field_put_count(object, "id", info->id);
	field_put_count(object, "size_data_blocks", info->size_data_blocks);
	field_put_count(object, "data_blocks", info->data_blocks);
	field_put_count(object, "written_blocks", info->written_blocks);
	field_put_count(object, "device_blocks", info->device_blocks);
	field_put_count(object, "since_s", io->since_s);
	field_put_count(object, "since_us", io->since_us);
	field_put_count(object, "now_us", io->now_us);
	for (unsigned i = 0; i < LCPFS_OPERATIONS; i++)
		field_put(object, iostat_operation_name(i), describe_operation(&io->operation[i]));
	return object;
}

static int add_one(struct json_object *array, struct lcpfs_pool *pool, const struct lcpfs_partition_info *info,
		   struct lcpfs_failure *failure)
{
	struct lcpfs_iostat io;
	int error = lcpfs_partition_get_iostat(pool, info->name, &io, failure);
	if (!error)
		json_object_array_add(array, describe_one(info, &io));
	return error;
}

/* One that is removed meanwhile is left out. */
static int add_all(struct json_object *array, struct lcpfs_pool *pool, struct lcpfs_failure *failure)
{
	struct describe_partitions partitions;
	int error = describe_partitions_load(&partitions, pool);
	if (error)
		return failure_set(failure, (enum lcpfs_error) - error, "%s", lcpfs_error_sentence(error));
	for (size_t i = 0; i < partitions.count && (!error || error == -LCPFS_E_NOT_FOUND); i++)
		error = add_one(array, pool, &partitions.list[i], failure);
	describe_partitions_free(&partitions);
	return error == -LCPFS_E_NOT_FOUND ? 0 : error;
}

int iostat_describe(struct lcpfs_pool *pool, const char *name, struct json_object **result,
		    struct lcpfs_failure *failure)
{
	struct json_object *array = json_object_new_array();
	struct lcpfs_partition_info info;
	int error;
	if (name) {
		error = lcpfs_partition_get_info(pool, name, &info, failure);
		if (!error)
			error = add_one(array, pool, &info, failure);
	} else {
		error = add_all(array, pool, failure);
	}
	*result = error ? NULL : array;
	if (error)
		json_object_put(array);
	return error;
}
