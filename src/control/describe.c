/* SPDX-License-Identifier: Apache-2.0 */
#include "control/describe.h"

#include <math.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/error.h"
#include "control/field.h"

static const char *const mode_names[] = {
	[LCPFS_ENGINE_OFF] = "off",
	[LCPFS_ENGINE_OBSERVE] = "observe",
	[LCPFS_ENGINE_ON] = "on",
};

const char *describe_mode_name(enum lcpfs_engine_mode mode)
{
	return (unsigned)mode < ARRAY_LENGTH(mode_names) ? mode_names[mode] : "unknown";
}

bool describe_mode_parse(const char *name, enum lcpfs_engine_mode *mode)
{
	for (unsigned i = 0; i < ARRAY_LENGTH(mode_names); i++) {
		if (!strcmp(name, mode_names[i])) {
			*mode = (enum lcpfs_engine_mode)i;
			return true;
		}
	}
	return false;
}

int describe_partitions_load(struct describe_partitions *partitions, struct lcpfs_pool *pool)
{
	size_t room;
	int error;
	memset(partitions, 0, sizeof(*partitions));
	do { /* again if some were added in between */
		room = partitions->count + 8;
		free(partitions->list);
		partitions->list = calloc(room, sizeof(*partitions->list));
		if (!partitions->list)
			return -LCPFS_E_NOMEM;
		error = lcpfs_pool_list(pool, partitions->list, room, &partitions->count);
	} while (!error && partitions->count > room);
	if (error)
		describe_partitions_free(partitions);
	return error;
}

void describe_partitions_free(struct describe_partitions *partitions)
{
	free(partitions->list);
	memset(partitions, 0, sizeof(*partitions));
}

int describe_snapshots_load(struct lcpfs_snapshot_info **list, size_t *count, struct lcpfs_pool *pool,
			    const char *partition, struct lcpfs_failure *failure)
{
	size_t room;
	int error;
	*list = NULL;
	*count = 0;
	do { /* again if some were taken in between */
		room = *count + 8;
		free(*list);
		*list = calloc(room, sizeof(**list));
		if (!*list)
			return failure_set(failure, LCPFS_E_NOMEM, "%s", lcpfs_error_sentence(LCPFS_E_NOMEM));
		error = lcpfs_snapshot_list(pool, partition, *list, room, count, failure);
	} while (!error && *count > room);
	return error;
}

int describe_clones_load(struct lcpfs_clone_info **list, size_t *count, struct lcpfs_pool *pool,
			 struct lcpfs_failure *failure)
{
	size_t room;
	int error;
	*list = NULL;
	*count = 0;
	do { /* again if some were made in between */
		room = *count + 8;
		free(*list);
		*list = calloc(room, sizeof(**list));
		if (!*list)
			return failure_set(failure, LCPFS_E_NOMEM, "%s", lcpfs_error_sentence(LCPFS_E_NOMEM));
		error = lcpfs_clone_list(pool, *list, room, count);
	} while (!error && *count > room);
	return error;
}

int describe_bookmarks_load(struct lcpfs_bookmark_info **list, size_t *count, struct lcpfs_pool *pool,
			    const char *partition, struct lcpfs_failure *failure)
{
	size_t room;
	int error;
	*list = NULL;
	*count = 0;
	do { /* as above */
		room = *count + 8;
		free(*list);
		*list = calloc(room, sizeof(**list));
		if (!*list)
			return failure_set(failure, LCPFS_E_NOMEM, "%s", lcpfs_error_sentence(LCPFS_E_NOMEM));
		error = lcpfs_bookmark_list(pool, partition, *list, room, count, failure);
	} while (!error && *count > room);
	return error;
}

struct json_object *describe_bookmark(const struct lcpfs_bookmark_info *info)
{
	struct json_object *object = json_object_new_object();
	if (!object)
		return NULL;
	field_put_text(object, "name", info->name);
	field_put_text(object, "partition", info->partition);
	field_put_text(object, "bookmark", info->bookmark);
	field_put_count(object, "created_s", info->created_s);
	field_put_id(object, "guid", info->guid);
	return object;
}

static const char *name_of(const struct describe_partitions *partitions, uint32_t id)
{
	for (size_t i = 0; i < partitions->count; i++)
		if (partitions->list[i].id == id)
			return partitions->list[i].name;
	return "";
}

static void put_history(struct json_object *object, const struct lcpfs_partition_info *info)
{
	field_put_count(object, "read_ops", info->read_ops);
	field_put_count(object, "write_ops", info->write_ops);
	field_put_count(object, "trim_ops", info->trim_ops);
	field_put_count(object, "flush_ops", info->flush_ops);
	field_put_count(object, "read_blocks", info->read_blocks);
	field_put_count(object, "written_blocks", info->written_blocks);
	field_put_count(object, "trimmed_blocks", info->trimmed_blocks);
	field_put_count(object, "read_us", info->read_us);
	field_put_count(object, "write_us", info->write_us);
	field_put_count(object, "flush_us", info->flush_us);
	field_put_count(object, "device_blocks", info->device_blocks);
	field_put_count(object, "copied_blocks", info->copied_blocks);
	field_put_count(object, "table_blocks", info->table_blocks);
	field_put_count(object, "checkpoints", info->checkpoints);
	field_put_count(object, "cleaned_metaslabs", info->cleaned_metaslabs);
	field_put_count(object, "errors", info->errors);
	field_put_count(object, "background_units", info->background_units);
	field_put_count(object, "background_late_blocks", info->background_late_blocks);
	field_put_count(object, "background_busy_blocks", info->background_busy_blocks);
}

static const char *receiving_name(enum lcpfs_receiving receiving)
{
	static const char *const names[] = {"none", "now", "interrupted"};
	return (unsigned)receiving < ARRAY_LENGTH(names) ? names[receiving] : "unknown";
}

struct json_object *describe_partition(const struct lcpfs_partition_info *info)
{
	char schedule[LCPFS_SNAPSHOT_SCHEDULE_TEXT];
	struct json_object *object = json_object_new_object();
	if (!object)
		return NULL;
	field_put_text(object, "name", info->name);
	field_put_count(object, "id", info->id);
	field_put_count(object, "size_blocks", info->size_blocks);
	field_put_count(object, "min_size_blocks", info->min_size_blocks);
	field_put_count(object, "max_size_blocks", info->max_size_blocks);
	field_put_count(object, "size_data_blocks", info->size_data_blocks);
	field_put_count(object, "min_data_blocks", info->min_data_blocks);
	field_put_count(object, "max_data_blocks", info->max_data_blocks);
	field_put_count(object, "volume_blocks", info->volume_blocks);
	field_put_count(object, "volume_bytes", info->volume_bytes);
	field_put_flag(object, "thin", info->thin);
	field_put_count(object, "when_full_wait_s", info->when_full_wait_s);
	field_put_count(object, "live_blocks", info->live_blocks);
	field_put_count(object, "data_blocks", info->data_blocks);
	field_put_count(object, "least_size_blocks", info->least_size_blocks);
	field_put_count(object, "snapshots", info->snapshots);
	field_put_count(object, "clones", info->clones);
	lcpfs_snapshot_schedule_print(&info->schedule, schedule);
	field_put_text(object, "schedule", schedule);
	field_put_number(object, "utilization", info->utilization);
	field_put_number(object, "access_frequency", info->access_frequency);
	field_put_number(object, "avg_latency_us", info->avg_latency_us);
	field_put_number(object, "pressure", info->pressure);
	field_put_number(object, "epsilon", info->epsilon);
	field_put_number(object, "write_amplification", info->write_amplification);
	field_put_flag(object, "moving", info->moving);
	field_put_flag(object, "faulted", info->faulted);
	field_put_text(object, "receiving", receiving_name(info->receiving));
	field_put_count(object, "memory_bytes", info->memory_bytes);
	put_history(object, info);
	return object;
}

struct json_object *describe_snapshot(const struct lcpfs_snapshot_info *info)
{
	struct json_object *object = json_object_new_object();
	if (!object)
		return NULL;
	field_put_text(object, "name", info->name);
	field_put_text(object, "partition", info->partition);
	field_put_text(object, "snapshot", info->snapshot);
	field_put_count(object, "created_s", info->created_s);
	field_put_count(object, "volume_bytes", info->volume_bytes);
	field_put_count(object, "clients", info->clients);
	field_put_flag(object, "held", info->held);
	return object;
}

struct json_object *describe_clone(const struct lcpfs_clone_info *info)
{
	struct json_object *object = json_object_new_object();
	if (!object)
		return NULL;
	field_put_text(object, "name", info->name);
	field_put_text(object, "partition", info->partition);
	field_put_text(object, "origin", info->origin);
	field_put_count(object, "created_s", info->created_s);
	field_put_count(object, "volume_bytes", info->volume_bytes);
	field_put_count(object, "clients", info->clients);
	return object;
}

static void put_threshold(struct json_object *thresholds, const char *key, const struct lcpfs_engine_threshold *t,
			  double confidence)
{
	struct json_object *object = json_object_new_object();
	if (!object)
		return;
	field_put_number(object, "value", t->value);
	field_put_number(object, "uncertainty", t->uncertainty);
	field_put_count(object, "observations", t->observations);
	field_put_number(object, "learning_rate", t->learning_rate);
	field_put_number(object, "mean_outcome", t->mean_outcome);
	field_put_number(object, "variance", t->variance);
	field_put_number(object, "low", t->low);
	field_put_number(object, "high", t->high);
	field_put_number(object, "confidence", confidence);
	field_put(thresholds, key, object);
}

static struct json_object *engine_object(const struct lcpfs_engine_statistics *s)
{
	struct json_object *object = json_object_new_object();
	struct json_object *thresholds = json_object_new_object();
	field_put_text(object, "mode", describe_mode_name(s->mode));
	field_put_number(object, "epsilon", s->epsilon);
	field_put_flag(object, "moving", s->moving);
	field_put_count(object, "step_blocks", s->step_blocks);
	field_put_count(object, "moves", s->moves);
	field_put_count(object, "improved", s->improved);
	field_put_count(object, "hurt", s->hurt);
	field_put_count(object, "inconclusive", s->inconclusive);
	field_put_count(object, "undone", s->undone);
	field_put_number(object, "written_blocks", s->written_blocks);
	field_put_number(object, "saved_blocks", s->saved_blocks);
	put_threshold(thresholds, "pressure", &s->pressure, s->pressure_confidence);
	put_threshold(thresholds, "cooldown_s", &s->cooldown_s, s->cooldown_confidence);
	put_threshold(thresholds, "growth_step", &s->growth_step, s->growth_confidence);
	put_threshold(thresholds, "shrink_step", &s->shrink_step, s->shrink_confidence);
	field_put(object, "thresholds", thresholds);
	return object;
}

const char *describe_health_name(enum lcpfs_health health)
{
	static const char *const names[] = {"ONLINE", "DEGRADED", "FAULTED"};
	return (unsigned)health < ARRAY_LENGTH(names) ? names[health] : "UNKNOWN";
}

struct json_object *describe_pool(const struct lcpfs_pool_info *info)
{
	struct json_object *object = json_object_new_object();
	if (!object)
		return NULL;
	field_put_id(object, "guid", info->guid);
	field_put_text(object, "health", describe_health_name(info->health));
	field_put_text(object, "health_text", info->health_text);
	field_put_flag(object, "host_is_full", info->host_is_full);
	field_put_count(object, "txg", info->txg);
	field_put_count(object, "created_s", info->created_s);
	field_put_count(object, "block_bytes", LCPFS_BLOCK_BYTES);
	field_put_count(object, "size_blocks", info->size_blocks);
	field_put_count(object, "free_blocks", info->free_blocks);
	field_put_count(object, "promised_blocks", info->promised_blocks);
	field_put_count(object, "overcommitted_blocks", info->overcommitted_blocks);
	field_put_count(object, "metaslab_blocks", info->metaslab_blocks);
	field_put_count(object, "metaslabs", info->metaslabs);
	field_put_count(object, "partitions", info->partitions);
	field_put_count(object, "partitions_max", info->partitions_max);
	field_put_count(object, "half_received", info->half_received);
	field_put_count(object, "last_scrub_s", info->last_scrub_s);
	field_put_count(object, "last_scrub_damaged", info->last_scrub_damaged);
	field_put_count(object, "last_scrub_errors", info->last_scrub_errors);
	field_put_count(object, "read_errors", info->read_errors);
	field_put(object, "engine", engine_object(&info->engine));
	return object;
}

static struct json_object *side_object(const struct lcpfs_engine_side *side,
				       const struct describe_partitions *partitions)
{
	struct json_object *object = json_object_new_object();
	if (!object)
		return NULL;
	field_put_count(object, "id", side->id);
	field_put_text(object, "name", name_of(partitions, side->id));
	field_put_count(object, "size_blocks", side->size_blocks);
	field_put_count(object, "live_blocks", side->live_blocks);
	field_put_number(object, "kept_blocks", side->kept_blocks);
	field_put_count(object, "floor_blocks", side->floor_blocks);
	field_put_count(object, "base_blocks", side->base_blocks);
	field_put_count(object, "give_blocks", side->give_blocks);
	field_put_count(object, "ceiling_blocks", side->ceiling_blocks);
	field_put_number(object, "access_frequency", side->access_frequency);
	field_put_number(object, "write_frequency", side->write_frequency);
	field_put_number(object, "frequency_error", side->frequency_error);
	field_put_number(object, "avg_latency_us", side->avg_latency_us);
	field_put_number(object, "latency_error", side->latency_error);
	field_put_number(object, "write_share", side->write_share);
	field_put_number(object, "utilization", side->utilization);
	field_put_number(object, "pressure", side->pressure);
	field_put_number(object, "epsilon", side->epsilon);
	field_put_number(object, "cleaning_cost", side->cleaning_cost);
	field_put_number(object, "cleaning_error", side->cleaning_error);
	field_put_number(object, "uniform_copies", side->uniform_copies);
	field_put_number(object, "curve_power", side->curve_power);
	field_put_number(object, "power_error", side->power_error);
	field_put_number(object, "gain_per_block", side->gain_per_block);
	field_put_flag(object, "measured", side->measured);
	field_put_number(object, "since_change_blocks", side->since_change_blocks);
	field_put_number(object, "since_change_s", side->since_change_s);
	return object;
}

static void put_decision_inputs(struct json_object *object, const struct lcpfs_engine_decision *d)
{
	field_put_count(object, "step_blocks", d->step_blocks);
	field_put_count(object, "free_blocks", d->free_blocks);
	field_put_count(object, "reserve_blocks", d->reserve_blocks);
	field_put_count(object, "partitions", d->partitions);
	field_put_count(object, "partitions_measured", d->partitions_measured);
	field_put_number(object, "significance", d->significance);
	field_put_number(object, "pressure_threshold", d->pressure_threshold);
	field_put_number(object, "growth_step", d->growth_step);
	field_put_number(object, "shrink_step", d->shrink_step);
	field_put_number(object, "cooldown_s", d->cooldown_s);
	field_put_number(object, "growth_rate", d->growth_rate);
	field_put_number(object, "shrink_rate", d->shrink_rate);
	field_put_number(object, "confidence", d->confidence);
	field_put_number(object, "trust", d->trust);
	field_put_count(object, "outcomes", d->outcomes);
	field_put_number(object, "copying_seen", d->copying_seen);
	field_put_number(object, "copying_expected", d->copying_expected);
	field_put_number(object, "copying_prior", d->copying_prior);
	field_put_number(object, "written_blocks", d->written_blocks);
	field_put_number(object, "saved_blocks", d->saved_blocks);
	field_put_number(object, "return_blocks", d->return_blocks);
	field_put_number(object, "lately_blocks", d->lately_blocks);
	field_put_number(object, "lost_blocks", d->lost_blocks);
	field_put_number(object, "harm", d->harm);
	field_put_count(object, "pool_blocks", d->pool_blocks);
	field_put_number(object, "copying_budget_blocks", d->copying_budget);
	field_put_count(object, "copying_tried_blocks", d->copying_tried);
	field_put_number(object, "demand_turnovers", d->demand_turnovers);
	field_put_number(object, "horizon_s", d->horizon_s);
}

static void put_decision_results(struct json_object *object, const struct lcpfs_engine_decision *d)
{
	field_put_number(object, "expected_gain", d->expected_gain);
	field_put_number(object, "expected_error", d->expected_error);
	field_put_number(object, "measurement_error", d->measurement_error);
	field_put_number(object, "expected_saving_blocks_s", d->expected_saving_blocks_s);
	field_put_number(object, "cost_blocks", d->cost_blocks);
	field_put_number(object, "cost_limit_blocks", d->cost_limit_blocks);
	field_put_number(object, "balance_blocks", d->balance_blocks);
	field_put_number(object, "freedom", d->freedom);
	field_put_count(object, "gains_most_id", d->gains_most_id);
	field_put_number(object, "gains_most", d->gains_most);
	field_put_count(object, "loses_least_id", d->loses_least_id);
	field_put_number(object, "loses_least", d->loses_least);
}

static const char *action_name(enum lcpfs_engine_action action)
{
	static const char *const names[] = {"none", "move", "would_move"};
	return (unsigned)action < ARRAY_LENGTH(names) ? names[action] : "unknown";
}

struct json_object *describe_decision(const struct lcpfs_engine_decision *d,
				      const struct describe_partitions *partitions)
{
	struct json_object *object = json_object_new_object();
	if (!object)
		return NULL;
	field_put_text(object, "sentence", d->sentence);
	field_put_text(object, "advice", d->advice);
	field_put_text(object, "ranking", d->ranking);
	field_put_text(object, "action", action_name(d->action));
	field_put_text(object, "reason", lcpfs_engine_reason_name(d->reason));
	field_put_count(object, "sequence", d->sequence);
	field_put_number(object, "standing_s", (double)(d->now_us - d->since_us) / 1e6);
	field_put_count(object, "blocks", d->blocks);
	field_put(object, "from", side_object(&d->from, partitions));
	field_put(object, "to", side_object(&d->to, partitions));
	put_decision_inputs(object, d);
	put_decision_results(object, d);
	return object;
}

static void put_event_numbers(struct json_object *object, const struct lcpfs_event *event)
{
	field_put_count(object, "blocks", event->blocks);
	field_put_count(object, "duration_us", event->duration_us);
	field_put_count(object, "sequence", event->sequence);
	field_put_number(object, "from_old_blocks", event->from_old_blocks);
	field_put_number(object, "from_new_blocks", event->from_new_blocks);
	field_put_number(object, "to_old_blocks", event->to_old_blocks);
	field_put_number(object, "to_new_blocks", event->to_new_blocks);
	field_put_number(object, "pressure", event->pressure);
	field_put_number(object, "expected_gain", event->expected_gain);
	field_put_number(object, "expected_error", event->expected_error);
	field_put_number(object, "epsilon_before", event->epsilon_before);
	field_put_number(object, "epsilon_after", event->epsilon_after);
	field_put_number(object, "standard_error", event->standard_error);
}

static void put_name_or_null(struct json_object *object, const char *key, const char *name)
{
	field_put(object, key, name ? json_object_new_string(name) : NULL);
}

/* null where the event tells nothing of them. */
static struct json_object *learned_object(const struct lcpfs_event *event)
{
	static const char *const names[] = {"pressure", "cooldown_s", "growth_step", "shrink_step"};
	struct json_object *object;
	if (event->kind != LCPFS_EVENT_OUTCOME || !(event->learned[0] > 0))
		return NULL;
	struct json_object *thresholds = json_object_new_object();
	for (size_t i = 0; i < ARRAY_LENGTH(names); i++) {
		object = json_object_new_object();
		field_put_number(object, "value", event->learned[i]);
		field_put_number(object, "confidence", event->learned_confidence[i]);
		field_put(thresholds, names[i], object);
	}
	return thresholds;
}

struct json_object *describe_event(const struct lcpfs_event *event)
{
	struct json_object *object = json_object_new_object();
	const char *reason = event->reason >= 0 ? lcpfs_engine_reason_name(event->reason) : NULL;
	const char *verdict = event->verdict >= 0 ? lcpfs_engine_verdict_name(event->verdict) : NULL;
	if (!object)
		return NULL;
	field_put_count(object, "number", event->number);
	field_put_count(object, "time_s", event->time_s);
	field_put_text(object, "kind", lcpfs_event_kind_name(event->kind));
	field_put_text(object, "text", event->text);
	field_put_count(object, "from_id", event->from_id);
	field_put_text(object, "from", event->from_name);
	field_put_count(object, "to_id", event->to_id);
	field_put_text(object, "to", event->to_name);
	put_name_or_null(object, "reason", reason);
	put_name_or_null(object, "verdict", verdict);
	put_event_numbers(object, event);
	field_put(object, "thresholds", learned_object(event));
	return object;
}

struct json_object *describe_sample(const struct pool_sample *sample)
{
	struct json_object *object = json_object_new_object();
	double written = sample->written_blocks;
	if (!object)
		return NULL;
	field_put_count(object, "id", sample->id);
	field_put_text(object, "name", sample->name);
	field_put_count(object, "time_s", sample->time_s);
	field_put_count(object, "span_s", sample->span_s);
	field_put_count(object, "size_blocks", sample->size_blocks);
	field_put_number(object, "live_blocks", sample->live_blocks);
	field_put_number(object, "epsilon", sample->epsilon);
	field_put_number(object, "written_blocks", written);
	field_put_number(object, "device_blocks", sample->device_blocks);
	field_put_number(object, "write_amplification", written > 0 ? sample->device_blocks / written : NAN);
	return object;
}

static void put_place(struct json_object *object, const char *key, uint64_t place)
{
	field_put(object, key, place == UINT64_MAX ? NULL : json_object_new_uint64(place));
}

struct json_object *describe_finding(const struct lcpfs_finding *finding)
{
	struct json_object *object = json_object_new_object();
	if (!object)
		return NULL;
	field_put_text(object, "text", finding->text);
	field_put_text(object, "partition", finding->partition);
	put_place(object, "block", finding->block);
	put_place(object, "address", finding->address);
	field_put_flag(object, "data", finding->data);
	field_put_flag(object, "repaired", finding->repaired);
	return object;
}
