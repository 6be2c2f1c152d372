/* SPDX-License-Identifier: Apache-2.0 */
/* What a pool tells about itself. */
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "pool/core.h"
#include "pool/guard.h"

/* -- partitions -- */

static void fill_counters(struct lcpfs_partition_info *info, const struct store_counters *c)
{
	info->read_ops = c->reads;
	info->write_ops = c->writes;
	info->trim_ops = c->trims;
	info->flush_ops = c->flushes;
	info->read_blocks = c->read_blocks;
	info->written_blocks = c->written_blocks;
	info->trimmed_blocks = c->trimmed_blocks;
	info->read_us = c->read_us;
	info->write_us = c->write_us;
	info->flush_us = c->flush_us;
	info->device_blocks = c->device_blocks;
	info->copied_blocks = c->copied_blocks;
	info->table_blocks = c->page_blocks;
	info->checkpoints = c->checkpoints;
	info->cleaned_metaslabs = c->cleaned;
	info->errors = c->errors;
}

static void fill_from_store(struct lcpfs_partition_info *info, struct part *part)
{
	struct store_stats stats;
	store_stats(part->store, &stats);
	fill_counters(info, &stats.counters);
	info->background_units = stats.background.units;
	info->background_late_blocks = stats.background.late_blocks;
	info->background_busy_blocks = stats.background.busy_blocks;
	info->live_blocks = stats.live_blocks;
	info->data_blocks = stats.data_blocks;
	info->size_data_blocks = MAX_OF(info->size_data_blocks, stats.data_blocks);
	info->memory_bytes = stats.memory_bytes;
	info->recoveries = stats.recoveries;
	info->faulted = stats.faulted;
	info->utilization = info->size_blocks ? (double)stats.live_blocks / (double)info->size_blocks : 0;
}

static void fill_from_engine(struct lcpfs_partition_info *info, const struct lcpfs_engine_partition *p)
{
	info->access_frequency = p->access_frequency;
	info->avg_latency_us = p->avg_latency_us;
	info->pressure = p->pressure;
	info->epsilon = p->epsilon;
	info->write_amplification = p->write_amplification;
	info->moving |= p->moving;
}

static void fill_info(struct lcpfs_partition_info *info, struct part *part)
{
	*info = (struct lcpfs_partition_info){
		.id = part->id,
		.size_blocks = part_size_blocks(part),
		.min_size_blocks = part->min_blocks,
		.max_size_blocks = part->max_blocks,
		.size_data_blocks = size_data_in(part->pool, part->metaslabs),
		.min_data_blocks = part->min_data_blocks,
		.max_data_blocks = part->max_data_blocks,
		.volume_blocks = part->volume_blocks,
		.volume_bytes = part->volume_bytes,
		.thin = size_is_thin(part),
		.when_full_wait_s = part->when_full_wait_s,
		.schedule = part->schedule,
		.least_size_blocks = part_least_blocks(part),
		.moving = part->releasing || part->incoming || part->resizing,
		.faulted = !part->store,
		.write_amplification = 1,
		.receiving = receive_state(part),
	};
	memcpy(info->name, part->name, sizeof(info->name));
	if (part->store) {
		fill_from_store(info, part);
		info->snapshots = snapshot_count(part);
		info->clones = clone_count(part);
	}
}

void info_of_part(struct lcpfs_partition_info *info, struct part *part)
{
	struct lcpfs_engine_partition known;
	fill_info(info, part);
	if (lcpfs_engine_get_partition(part->pool->engine, part->id, &known) == 0)
		fill_from_engine(info, &known);
}

static int compare_ids(const void *a, const void *b)
{
	const struct lcpfs_partition_info *x = a, *y = b;
	return x->id < y->id ? -1 : x->id > y->id;
}

static size_t fill_all(struct lcpfs_pool *pool, struct lcpfs_partition_info *list)
{
	size_t count = 0;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (pool->parts[slot])
			info_of_part(&list[count++], pool->parts[slot]);
	}
	qsort(list, count, sizeof(*list), compare_ids);
	return count;
}

int lcpfs_pool_list(struct lcpfs_pool *pool, struct lcpfs_partition_info *list, size_t room, size_t *count)
{
	struct lcpfs_partition_info *all = calloc(pool->layout.partition_slots, sizeof(*all));
	*count = 0;
	if (!all)
		return -LCPFS_E_NOMEM;
	pthread_mutex_lock(&pool->lock);
	*count = fill_all(pool, all);
	pthread_mutex_unlock(&pool->lock);
	if (room)
		memcpy(list, all, MIN_OF(*count, room) * sizeof(*list));
	free(all);
	return 0;
}

static int no_partition(const char *name, struct lcpfs_failure *failure)
{
	return failure_set(failure, LCPFS_E_NOT_FOUND, "there is no partition %s", name);
}

int lcpfs_partition_get_info(struct lcpfs_pool *pool, const char *name, struct lcpfs_partition_info *info,
			     struct lcpfs_failure *failure)
{
	pthread_mutex_lock(&pool->lock);
	struct part *part = part_named(pool, name);
	if (part)
		info_of_part(info, part);
	pthread_mutex_unlock(&pool->lock);
	return part ? 0 : no_partition(name ? name : "", failure);
}

int lcpfs_partition_get_iostat(struct lcpfs_pool *pool, const char *name, struct lcpfs_iostat *iostat,
			       struct lcpfs_failure *failure)
{
	pthread_mutex_lock(&pool->lock);
	struct part *part = part_named(pool, name);
	if (part) {
		iostat->since_s = part->counted_since_s;
		iostat->since_us = part->counted_since_us;
		iostat->now_us = clock_us(&pool->clock);
		iostat_read(&part->iostat, iostat->operation);
	}
	pthread_mutex_unlock(&pool->lock);
	return part ? 0 : no_partition(name ? name : "", failure);
}

/* -- the pool -- */

static const char *why_faulted(const struct part *part)
{
	struct store_stats stats;
	if (!part->store)
		return part->fault;
	store_stats(part->store, &stats);
	if (stats.contradicts)
		return "it stopped, as what it has in memory contradicts its block table; open the pool anew, and "
		       "check it";
	if (stats.faulted)
		return "it stopped after a failed device flush; open the pool anew";
	return stats.write_error ? lcpfs_error_sentence(stats.write_error) : NULL;
}

static void set_health(struct lcpfs_pool_info *info, enum lcpfs_health health, const char *about, const char *text)
{
	if (health <= info->health)
		return;
	info->health = health;
	snprintf(info->health_text, sizeof(info->health_text), "%s%s%.*s", about, about[0] ? ": " : "",
		 (int)sizeof(info->health_text) - LCPFS_NAME_MAX - 16, text);
}

static void fill_health(struct lcpfs_pool *pool, struct lcpfs_pool_info *info)
{
	char text[400];
	info->health = LCPFS_HEALTH_ONLINE;
	if (pool->suspended)
		set_health(info, LCPFS_HEALTH_FAULTED, "",
			   "a write of the pool's metadata failed; open the pool anew");
	if (pool->claimant && claim_is_lost(claimant_claim(pool->claimant)))
		set_health(info, LCPFS_HEALTH_FAULTED, "", lcpfs_error_sentence(LCPFS_E_TAKEN_OVER));
	if (guard_has_failed(pool->vdev))
		set_health(info, LCPFS_HEALTH_FAULTED, "", "a device flush failed; open the pool anew");
	info->host_is_full = host_text(pool, text, sizeof(text));
	if (info->host_is_full)
		set_health(info, LCPFS_HEALTH_DEGRADED, "", text);
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		const char *why = pool->parts[slot] ? why_faulted(pool->parts[slot]) : NULL;
		if (why)
			set_health(info, LCPFS_HEALTH_DEGRADED, pool->parts[slot]->name, why);
	}
	if (pool->claimant && claimant_file_is_gone(pool->claimant))
		set_health(info, LCPFS_HEALTH_DEGRADED, "",
			   "the pool's file was removed: all is lost when its server ends; copy it out of "
			   "/proc/PID/fd");
	if (pool->damaged > pool->repaired) {
		set_health(info, LCPFS_HEALTH_DEGRADED, "metadata", pool->damage_text);
	} else if (info->last_scrub_errors) {
		snprintf(text, sizeof(text),
			 "the last scrub could not repair %" PRIu64 " damaged place%s: write what was there anew, "
			 "and scrub again",
			 info->last_scrub_errors, info->last_scrub_errors == 1 ? "" : "s");
		set_health(info, LCPFS_HEALTH_DEGRADED, "", text);
	} else if (info->read_errors) {
		snprintf(text, sizeof(text),
			 "%" PRIu64 " read%s met damage since the last scrub: see log, and scrub",
			 info->read_errors, info->read_errors == 1 ? "" : "s");
		set_health(info, LCPFS_HEALTH_DEGRADED, "", text);
	}
}

static void count_part(struct lcpfs_pool_info *info, const struct part *part)
{
	info->partitions += part != NULL;
	info->half_received += part && receive_state(part) == LCPFS_RECEIVING_INTERRUPTED;
}

int lcpfs_pool_get_info(struct lcpfs_pool *pool, struct lcpfs_pool_info *info)
{
	const struct layout *l = &pool->layout;
	pthread_mutex_lock(&pool->lock);
	*info = (struct lcpfs_pool_info){
		.guid = l->guid,
		.txg = le64_get(pool->uberblock.txg),
		.size_blocks = layout_pool_blocks(l),
		.free_blocks = (uint64_t)pool->free_metaslabs * l->metaslab_blocks,
		.metaslab_blocks = l->metaslab_blocks,
		.metaslabs = l->metaslab_count,
		.created_s = l->created_s,
		.partitions_max = l->partition_slots,
		.last_scrub_s = le64_get(pool->uberblock.scrub_s),
		.last_scrub_damaged = le64_get(pool->uberblock.scrub_found),
		.read_errors = pool->read_errors,
		.settings.cache_bytes = le64_get(pool->uberblock.cache_bytes),
		.settings.alarm_percent = le32_get(pool->uberblock.alarm_percent),
	};
	if (info->settings.alarm_percent > 100)
		info->settings.alarm_percent = 0;
	info->last_scrub_errors = info->last_scrub_damaged -
				  MIN_OF(le64_get(pool->uberblock.scrub_repaired), info->last_scrub_damaged);
	for (uint32_t slot = 0; slot < l->partition_slots; slot++)
		count_part(info, pool->parts[slot]);
	info->promised_blocks = size_promised_blocks(pool);
	info->overcommitted_blocks = info->promised_blocks - MIN_OF(info->promised_blocks, info->size_blocks);
	fill_health(pool, info);
	pthread_mutex_unlock(&pool->lock);
	return lcpfs_engine_get_statistics(pool->engine, &info->engine);
}

/* Of one that cannot be used the engine knows only that its size is fixed. */
static int explain_part(struct lcpfs_pool *pool, const char *name, struct lcpfs_engine_decision *decision,
			struct lcpfs_failure *failure)
{
	char why[200] = "";
	uint32_t id = 0;
	pthread_mutex_lock(&pool->lock);
	struct part *part = part_named(pool, name);
	if (part)
		id = part->id;
	if (part && !part->store)
		snprintf(why, sizeof(why), "%.*s", (int)sizeof(why) - 1, part->fault);
	pthread_mutex_unlock(&pool->lock);
	if (!id || lcpfs_engine_explain(pool->engine, id, decision))
		return no_partition(name, failure);
	if (!why[0])
		return 0;
	snprintf(decision->sentence, sizeof(decision->sentence),
		 "%s cannot be used, and keeps its size until it can: %s", name, why);
	snprintf(decision->advice, sizeof(decision->advice),
		 "lcpfs check POOL shows what is damaged; lcpfs remove POOL %s gives its space back", name);
	return 0;
}

/* What the engine does not know: one of them takes no part. */
static void mention_fault(struct lcpfs_pool *pool, struct lcpfs_engine_decision *decision)
{
	pthread_mutex_lock(&pool->lock);
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		const struct part *part = pool->parts[slot];
		if (!part || part->store)
			continue;
		snprintf(decision->advice, sizeof(decision->advice),
			 "%s cannot be used and keeps its size: lcpfs explain POOL %s says why", part->name,
			 part->name);
		break;
	}
	pthread_mutex_unlock(&pool->lock);
}

int lcpfs_pool_explain(struct lcpfs_pool *pool, const char *name, struct lcpfs_engine_decision *decision,
		       struct lcpfs_failure *failure)
{
	if (name)
		return explain_part(pool, name, decision, failure);
	int error = lcpfs_engine_explain(pool->engine, 0, decision);
	if (!error)
		mention_fault(pool, decision);
	return error;
}

int lcpfs_pool_events(struct lcpfs_pool *pool, uint64_t after, struct lcpfs_event *list, size_t room,
		      size_t *count)
{
	pthread_mutex_lock(&pool->lock);
	host_look(pool);
	*count = history_list(pool, after, list, room);
	pthread_mutex_unlock(&pool->lock);
	return 0;
}
