/* SPDX-License-Identifier: Apache-2.0 */
/* Finding partitions, by id, by name, one after the other, and keeping them while the lock is let go. */
#include <string.h>

#include "pool/core.h"

struct part *part_find(const struct lcpfs_pool *pool, uint32_t id)
{
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (pool->parts[slot] && pool->parts[slot]->id == id)
			return pool->parts[slot];
	}
	return NULL;
}

struct part *part_named(const struct lcpfs_pool *pool, const char *name)
{
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (name && pool->parts[slot] && strcmp(pool->parts[slot]->name, name) == 0)
			return pool->parts[slot];
	}
	return NULL;
}

bool part_name_is_valid(const char *name)
{
	static const char allowed[] = "ABCDEFGHIJKLMNOPQRSTUVWXYZabcdefghijklmnopqrstuvwxyz0123456789._-";
	size_t length = name ? strlen(name) : 0;
	return length > 0 && length <= LCPFS_NAME_MAX && strspn(name, allowed) == length && name[0] != '.' &&
	       name[0] != '-';
}

uint64_t part_size_blocks(const struct part *part)
{
	return (uint64_t)part->metaslabs * part->pool->layout.metaslab_blocks;
}

uint64_t part_least_blocks(struct part *part)
{
	uint64_t least = part->store ? store_size_least(part->store) : STORE_METASLABS_MIN;
	return MAX_OF(least * part->pool->layout.metaslab_blocks, part->min_blocks);
}

int part_refuse(const struct part *part, struct lcpfs_failure *failure)
{
	if (part->removing)
		return failure_set(failure, LCPFS_E_NOT_FOUND, "partition %s is being removed", part->name);
	if (!part->store)
		return failure_set(failure, LCPFS_E_FAULTED, "partition %s is faulted: %s", part->name,
				   part->fault);
	return 0;
}

uint32_t part_readers(const struct part *part, uint32_t number)
{
	uint32_t count = 0;
	for (const struct lcpfs_partition *p = part->first_reader; p; p = p->next)
		count += p->snapshot == number || p->clone == number;
	return count;
}

void part_hold(struct part *part)
{
	part->users++;
}

void part_drop(struct part *part)
{
	CHECK(part->users > 0);
	if (--part->users == 0)
		pthread_cond_broadcast(&part->pool->changed);
}

void part_let_go(struct part *part)
{
	pthread_mutex_lock(&part->pool->lock);
	part_drop(part);
	pthread_mutex_unlock(&part->pool->lock);
}

struct part *part_hold_next(struct lcpfs_pool *pool, uint32_t *slot)
{
	struct part *part = NULL;
	pthread_mutex_lock(&pool->lock);
	for (; !part && *slot < pool->layout.partition_slots; ++*slot) {
		if (pool->parts[*slot] && pool->parts[*slot]->store && !pool->parts[*slot]->removing)
			part = pool->parts[*slot];
	}
	if (part)
		part_hold(part);
	pthread_mutex_unlock(&pool->lock);
	return part;
}
