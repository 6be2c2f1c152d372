/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Names of clones. A name is a partition's or a clone's. A clone is made without the pool's lock; until it is
 * there its name is reserved (pool->naming), one at a time. Of a partition that is faulted nobody knows the
 * clones: so a name may come to be there twice, and then it is the partition's, or of the clone that is found
 * first.
 */
#include <stdio.h>
#include <string.h>

#include "pool/core.h"

struct part *clone_find(const struct lcpfs_pool *pool, const char *name, struct store_clone *found)
{
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		struct part *part = pool->parts[slot];
		if (part && part->store && !part->removing && store_clone_find(part->store, name, found))
			return part;
	}
	return NULL;
}

int clone_refuse_name(const struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure)
{
	struct store_clone found;
	const struct part *part = clone_find(pool, name, &found);
	if (part)
		return failure_set(failure, LCPFS_E_EXISTS, "there is a clone %s already, in partition %s", name,
				   part->name);
	if (strcmp(pool->naming, name) == 0)
		return failure_set(failure, LCPFS_E_EXISTS, "a clone %s is being made", name);
	return 0;
}

int part_check_name(const struct lcpfs_pool *pool, const char *name, struct lcpfs_failure *failure)
{
	if (!part_name_is_valid(name))
		return failure_set(failure, LCPFS_E_INVALID,
				   "a partition's name is 1 to 63 of A-Z a-z 0-9 . _ - and "
				   "does not start with . or -");
	if (part_named(pool, name))
		return failure_set(failure, LCPFS_E_EXISTS, "partition %s exists already", name);
	return clone_refuse_name(pool, name, failure);
}

unsigned clone_count(const struct part *part)
{
	return store_clones(part->store, NULL, 0);
}

unsigned clone_list_all(const struct part *part, struct store_clone list[STORE_CLONES_MAX])
{
	return MIN_OF(store_clones(part->store, list, STORE_CLONES_MAX), (unsigned)STORE_CLONES_MAX);
}

bool clone_has_origin(const struct part *part, uint32_t number)
{
	struct store_clone list[STORE_CLONES_MAX];
	unsigned count = clone_list_all(part, list);
	for (unsigned i = 0; i < count; i++) {
		if (list[i].origin == number)
			return true;
	}
	return false;
}

void clone_print_some(const struct part *part, uint32_t origin, char *text, size_t room)
{
	struct store_clone list[STORE_CLONES_MAX];
	unsigned count = clone_list_all(part, list), printed = 0;
	size_t length = 0;
	text[0] = '\0';
	for (unsigned i = 0; i < count; i++) {
		if (origin && list[i].origin != origin)
			continue;
		if (length + 2 + strlen(list[i].name) + sizeof(" and more") > room) {
			snprintf(text + length, room - length, " and more");
			return;
		}
		length += (size_t)snprintf(text + length, room - length, "%s%s", printed++ ? ", " : "",
					   list[i].name);
	}
}

void clone_print_name(const struct part *part, uint32_t number, char name[LCPFS_NAME_MAX + 1])
{
	struct store_clone list[STORE_CLONES_MAX];
	unsigned count = clone_list_all(part, list);
	name[0] = '\0';
	for (unsigned i = 0; i < count; i++) {
		if (list[i].number == number)
			memcpy(name, list[i].name, sizeof(list[i].name));
	}
}
