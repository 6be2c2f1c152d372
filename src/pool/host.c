/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A pool file is sparse, and the file system that it lies in, the host, may be full: who is told, and when it is
 * tried again.
 *
 * The guard finds out (guard.h); the stores live with it (src/store/back.c). Here it becomes two lines in the
 * history and two for whoever opened the pool, one when it begins and one when it ends. It has ended when the
 * host gave something and has refused nothing for a while, so a host at the brim is one line, not many.
 *
 * The begin is noted in the thread of whoever was refused, which may not take the pool's lock: the line in the
 * history waits for the next one that has it.
 */
#include <stdio.h>

#include "pool/core.h"
#include "pool/guard.h"

enum { SETTLED_US = 2 * 1000000 };

static void host_words(const struct lcpfs_pool *pool, bool full, char *text, size_t room)
{
	char host[200] = "";
	if (pool->device->place.device) /* it is a file */
		vdev_file_host(pool->device, host, sizeof(host));
	snprintf(text, room,
		 full ? "the host is full: %s has no space left for %s; free some there, or trim; until then new "
			"data is refused"
		      : "the host has space again: %s, for %s",
		 host[0] ? host : "the file system", pool->device->name);
}

static void tell(const struct lcpfs_pool *pool, bool full)
{
	char text[400];
	if (!pool->options.notice)
		return;
	host_words(pool, full, text, sizeof(text));
	pool->options.notice(pool->options.notice_context,
			     full ? LCPFS_NOTICE_HOST_FULL : LCPFS_NOTICE_HOST_SPACE, text);
}

void host_refused(void *context)
{
	struct lcpfs_pool *pool = context;
	if (atomic_exchange(&pool->host.is_full, true))
		return;
	tell(pool, true);
	atomic_store(&pool->host.unnoted, true);
}

static void note(struct lcpfs_pool *pool, bool full)
{
	char text[400];
	host_words(pool, full, text, sizeof(text));
	history_note(pool, LCPFS_EVENT_HOST, 0, 0, 0, "%.360s", text);
}

void host_look(struct lcpfs_pool *pool)
{
	uint64_t refused_us;
	bool refuses = guard_host_is_full(pool->vdev, &refused_us);
	if (atomic_exchange(&pool->host.unnoted, false))
		note(pool, true);
	if (refuses || !atomic_load(&pool->host.is_full) || clock_us(&pool->clock) - refused_us < SETTLED_US)
		return;
	atomic_store(&pool->host.is_full, false);
	note(pool, false);
	tell(pool, false);
}

bool host_text(struct lcpfs_pool *pool, char *text, size_t room)
{
	host_look(pool);
	if (!atomic_load(&pool->host.is_full))
		return false;
	host_words(pool, true, text, room);
	return true;
}

/* Everyone else's metaslabs that are empty beyond need go to the host, from where this one may get them. */
uint32_t host_call_back(struct part *part)
{
	struct part *other;
	uint32_t given = 0, slot = 0;
	while ((other = part_hold_next(part->pool, &slot))) {
		if (other != part)
			given += store_give_back(other->store);
		part_let_go(other);
	}
	return given;
}
