/* SPDX-License-Identifier: Apache-2.0 */
#include "store/attempt.h"

#include <string.h>

#include "base/hash.h"
#include "store/log.h"
#include "store/table.h"
#include "store/tree.h"

/* The oldest pin goes where there are too many: an attempt does not need more at once. */
static void keep(struct store *s, struct need *need, struct page *page)
{
	if (need->pins == PINS_MAX) {
		page_unpin(&s->cache, need->pin[0]);
		memmove(need->pin, need->pin + 1, (PINS_MAX - 1) * sizeof(*need->pin));
		need->pins--;
	}
	need->pin[need->pins++] = page;
}

static int provide_page(struct store *s, struct need *need)
{
	struct page *page;
	int error = need->key.kind == PAGE_TABLE ? table_page(s, need->key.level, need->key.index, &page)
						 : tree_page(s, &need->key, &page);
	if (error)
		return error;
	if (page)
		keep(s, need, page);
	else if (need->absents < ABSENT_MAX)
		need->absent[need->absents++] = need->key;
	else
		need->absent[hash_mix(need->key.index) % ABSENT_MAX] = need->key;
	return 0;
}

static int provide_write(struct store *s)
{
	for (struct record *r = s->log.inflight; r; r = r->next) {
		if (r->state == RECORD_FAILED)
			return log_retry(s);
	}
	uint64_t changes = s->changes;
	log_drain(s);
	if (s->changes == changes) /* others are writing them */
		store_wait(s);
	return 0;
}

static int provide(struct store *s, struct need *need)
{
	switch (need->kind) {
	case NEED_PAGE:
		return provide_page(s, need);
	case NEED_WRITE:
		return provide_write(s);
	case NEED_HELD:
		store_wait(s);
		return 0;
	case NEED_ROOM:
		return -LCPFS_E_NOSPC;
	default:
		CHECK(!"an attempt that misses nothing");
		return 0;
	}
}

int attempt(struct store *s, attempt_fn *fn, void *context)
{
	struct need need;
	int error;
	need_begin(&need);
	cache_shrink(&s->cache);
	do {
		need.kind = NEED_NOTHING;
		error = s->faulted ? -LCPFS_E_FAULTED : fn(s, context, &need);
		if (error == TRY_AGAIN)
			error = provide(s, &need);
		else
			break;
	} while (!error);
	for (unsigned i = 0; i < need.pins; i++)
		page_unpin(&s->cache, need.pin[i]);
	return error;
}
