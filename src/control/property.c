/* SPDX-License-Identifier: Apache-2.0 */
#include "control/property.h"

#include <stdio.h>
#include <string.h>

#include "base/error.h"
#include "control/describe.h"
#include "control/field.h"

static const struct property properties[] = {
	{"name", PROPERTY_TEXT, PROPERTY_OF_PARTITION},
	{"id", PROPERTY_COUNT, PROPERTY_OF_PARTITION},
	{"guid", PROPERTY_TEXT, PROPERTY_OF_POOL},
	{"created", PROPERTY_TIME, PROPERTY_OF_POOL},
	{"health", PROPERTY_TEXT, PROPERTY_OF_POOL},
	{"faulted", PROPERTY_SWITCH, PROPERTY_OF_PARTITION},
	{"recoveries", PROPERTY_COUNT, PROPERTY_OF_PARTITION},
	{"min", PROPERTY_BYTES, PROPERTY_OF_PARTITION},
	{"max", PROPERTY_BYTES, PROPERTY_OF_PARTITION},
	{"size", PROPERTY_BYTES, PROPERTY_OF_POOL | PROPERTY_OF_PARTITION},
	{"volume", PROPERTY_BYTES, PROPERTY_OF_PARTITION},
	{"thin", PROPERTY_SWITCH, PROPERTY_OF_PARTITION},
	{"when-full", PROPERTY_TEXT, PROPERTY_OF_PARTITION},
	{"snapshots", PROPERTY_TEXT, PROPERTY_OF_PARTITION},
	{"data", PROPERTY_BYTES, PROPERTY_OF_PARTITION},
	{"live", PROPERTY_BYTES, PROPERTY_OF_PARTITION},
	{"space", PROPERTY_BYTES, PROPERTY_OF_PARTITION},
	{"min-space", PROPERTY_BYTES, PROPERTY_OF_PARTITION},
	{"max-space", PROPERTY_BYTES, PROPERTY_OF_PARTITION},
	{"least-space", PROPERTY_BYTES, PROPERTY_OF_PARTITION},
	{"free", PROPERTY_BYTES, PROPERTY_OF_POOL},
	{"promised", PROPERTY_BYTES, PROPERTY_OF_POOL},
	{"overcommitted", PROPERTY_BYTES, PROPERTY_OF_POOL},
	{"partitions", PROPERTY_COUNT, PROPERTY_OF_POOL},
	{"partitions-max", PROPERTY_COUNT, PROPERTY_OF_POOL},
	{"last-scrub", PROPERTY_TIME, PROPERTY_OF_POOL},
	{"metaslab", PROPERTY_BYTES, PROPERTY_OF_POOL | PROPERTY_OF_PARTITION},
	{"tune", PROPERTY_TEXT, PROPERTY_OF_POOL | PROPERTY_OF_PARTITION},
	{"cache", PROPERTY_BYTES, PROPERTY_OF_POOL | PROPERTY_OF_PARTITION},
	{"alarm", PROPERTY_PERCENT, PROPERTY_OF_POOL | PROPERTY_OF_PARTITION},
	{0},
};

const struct property *property_list(void)
{
	return properties;
}

static const struct property *find(const char *name, size_t length)
{
	for (const struct property *p = properties; p->name; p++)
		if (strlen(p->name) == length && !strncmp(p->name, name, length))
			return p;
	return NULL;
}

const struct property *property_find(const char *name)
{
	return find(name, strlen(name));
}

/* ---- which ones ---- */

static bool means_all(const char *name, size_t length)
{
	return length == strlen("all") && !strncmp(name, "all", length);
}

static int check_one(const char *name, size_t length, unsigned of, struct lcpfs_failure *failure)
{
	const struct property *p = find(name, length);
	if (means_all(name, length) || (p && (p->of & of)))
		return 0;
	if (p)
		return failure_set(failure, LCPFS_E_INVALID, "%s is a property of the pool, not of a partition",
				   p->name);
	return failure_set(failure, LCPFS_E_INVALID, "there is no property %.*s", (int)MIN_OF(length, (size_t)99),
			   name);
}

int property_check(const char *wanted, unsigned of, struct lcpfs_failure *failure)
{
	int error = 0;
	for (size_t length; wanted && !error; wanted = wanted[length] ? wanted + length + 1 : NULL) {
		length = strcspn(wanted, ",");
		error = check_one(wanted, length, of, failure);
	}
	return error;
}

static bool is_wanted(const char *wanted, const char *name)
{
	for (size_t length; wanted; wanted = wanted[length] ? wanted + length + 1 : NULL) {
		length = strcspn(wanted, ",");
		if (means_all(wanted, length) || find(wanted, length) == property_find(name))
			return true;
	}
	return false;
}

/* ---- values ---- */

static const char given[] = "given", standard[] = "default", inherited[] = "inherited";

struct list {
	struct json_object *object;
	const char *wanted;
};

/* Takes `value` over. source NULL: nobody sets it. */
static void put(const struct list *list, const char *name, struct json_object *value, const char *source)
{
	CHECK(property_find(name));
	if (list->wanted && !is_wanted(list->wanted, name)) {
		json_object_put(value);
		return;
	}
	struct json_object *property = json_object_new_object();
	field_put(property, "value", value);
	field_put(property, "source", source ? json_object_new_string(source) : NULL);
	field_put(list->object, name, property);
}

static void put_text(const struct list *list, const char *name, const char *text, const char *source)
{
	put(list, name, json_object_new_string(text), source);
}

static void put_count(const struct list *list, const char *name, uint64_t count)
{
	put(list, name, json_object_new_uint64(count), NULL);
}

static void put_bytes(const struct list *list, const char *name, uint64_t bytes, const char *source)
{
	put(list, name, json_object_new_uint64(bytes), source);
}

static void put_blocks(const struct list *list, const char *name, uint64_t blocks, const char *source)
{
	put_bytes(list, name, blocks * LCPFS_BLOCK_BYTES, source);
}

static void put_time(const struct list *list, const char *name, uint64_t time_s)
{
	put(list, name, time_s ? json_object_new_uint64(time_s) : NULL, NULL);
}

static void put_switch(const struct list *list, const char *name, bool is_on, const char *source)
{
	put(list, name, json_object_new_boolean(is_on), source);
}

/* What a new pool has is the default. */
static const char *source_of_mode(enum lcpfs_engine_mode mode)
{
	return mode == LCPFS_ENGINE_OBSERVE ? standard : given;
}

unsigned property_alarm_percent(const struct property_service *service, const struct lcpfs_pool_settings *kept)
{
	if (service && service->alarm_percent)
		return service->alarm_percent;
	return kept->alarm_percent ? kept->alarm_percent : PROPERTY_ALARM_PERCENT;
}

static void put_service(const struct list *list, const struct property_service *s,
			const struct lcpfs_pool_settings *kept, const char *source)
{
	uint64_t cache_bytes = s && s->cache_bytes ? s->cache_bytes : kept->cache_bytes;
	bool alarm_given = (s && s->alarm_percent) || kept->alarm_percent;
	put_bytes(list, "cache", cache_bytes ? cache_bytes : PROPERTY_CACHE_BYTES,
		  source        ? source
		  : cache_bytes ? given
				: standard);
	put(list, "alarm", json_object_new_int64(property_alarm_percent(s, kept)),
	    source        ? source
	    : alarm_given ? given
			  : standard);
}

struct json_object *property_describe_pool(const struct lcpfs_pool_info *info,
					   const struct property_service *service, const char *wanted)
{
	const struct list list = {.object = json_object_new_object(), .wanted = wanted};
	char guid[17];
	snprintf(guid, sizeof(guid), "%016llx", (unsigned long long)info->guid);
	put_text(&list, "guid", guid, NULL);
	put_time(&list, "created", info->created_s);
	put_text(&list, "health", describe_health_name(info->health), NULL);
	put_blocks(&list, "size", info->size_blocks, NULL);
	put_blocks(&list, "free", info->free_blocks, NULL);
	put_blocks(&list, "promised", info->promised_blocks, NULL);
	put_blocks(&list, "overcommitted", info->overcommitted_blocks, NULL);
	put_count(&list, "partitions", info->partitions);
	put_count(&list, "partitions-max", info->partitions_max);
	put_time(&list, "last-scrub", info->last_scrub_s);
	put_blocks(&list, "metaslab", info->metaslab_blocks, NULL);
	put_text(&list, "tune", describe_mode_name(info->engine.mode), source_of_mode(info->engine.mode));
	put_service(&list, service, &info->settings, NULL);
	return list.object;
}

static void put_space(const struct list *list, const struct lcpfs_partition_info *info)
{
	put_blocks(list, "data", info->data_blocks, NULL);
	put_blocks(list, "live", info->live_blocks, NULL);
	put_blocks(list, "space", info->size_blocks, NULL);
	put_blocks(list, "min-space", info->min_size_blocks, NULL);
	put_blocks(list, "max-space", info->max_size_blocks, NULL);
	put_blocks(list, "least-space", info->least_size_blocks, NULL);
}

static void put_when_full(const struct list *list, uint32_t wait_s)
{
	char text[32] = "error";
	if (wait_s)
		snprintf(text, sizeof(text), "wait=%us", (unsigned)wait_s);
	put_text(list, "when-full", text, wait_s ? given : standard);
}

struct json_object *property_describe_partition(const struct lcpfs_partition_info *info,
						const struct lcpfs_pool_info *pool,
						const struct property_service *service, const char *wanted)
{
	const struct list list = {.object = json_object_new_object(), .wanted = wanted};
	char schedule[LCPFS_SNAPSHOT_SCHEDULE_TEXT];
	put_text(&list, "name", info->name, given);
	put_count(&list, "id", info->id);
	put_switch(&list, "faulted", info->faulted, NULL);
	put_count(&list, "recoveries", info->recoveries);
	put_blocks(&list, "min", info->min_data_blocks, given);
	put_blocks(&list, "max", info->max_data_blocks, given);
	put_blocks(&list, "size", info->size_data_blocks, NULL);
	put_bytes(&list, "volume", info->volume_bytes,
		  info->volume_blocks == info->max_data_blocks ? standard : given);
	put_switch(&list, "thin", info->thin, info->thin ? given : standard);
	put_when_full(&list, info->when_full_wait_s);
	lcpfs_snapshot_schedule_print(&info->schedule, schedule);
	put_text(&list, "snapshots", schedule, strcmp(schedule, "off") != 0 ? given : standard);
	put_space(&list, info);
	put_blocks(&list, "metaslab", pool->metaslab_blocks, inherited);
	put_text(&list, "tune", describe_mode_name(pool->engine.mode), inherited);
	put_service(&list, service, &pool->settings, inherited);
	return list.object;
}
