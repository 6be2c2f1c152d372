/* SPDX-License-Identifier: Apache-2.0 */
#include "store/room.h"

#include "store/ids.h"
#include "store/log.h"
#include "store/table.h"

/* With few that have a place there may be more heads than a partition of that size would have. */
static uint32_t heads_used(const struct store *s)
{
	return space_raw(&s->space) ? s->log.heads : 1;
}

static struct plan_table table_of(const struct store *s)
{
	return (struct plan_table){s->config.metaslab_blocks, s->table.pages + s->table.fresh,
				   s->table.region_shift};
}

struct space_reserve room_reserve(const struct store *s)
{
	struct plan_table t = table_of(s);
	struct space_needs needs =
		plan_needs(&t, space_with_place(&s->space), 2 * s->trees.dirty_count, heads_used(s));
	return plan_reserve(&s->space, &t, &needs);
}

uint32_t room_kept(const struct store *s, enum room_user user)
{
	struct space_reserve r = room_reserve(s);
	return user == USER_WRITE ? r.kept : user == USER_NOTE ? r.notes : r.table;
}

uint32_t room_kept_by_writers(struct store *s)
{
	struct reckoned *r = &s->reckoned;
	struct reckoned now = {.pages = s->table.pages + s->table.fresh,
			       .region_shift = s->table.region_shift,
			       .dirty = s->trees.dirty_count,
			       .metaslabs = space_with_place(&s->space),
			       .held = s->space.in_class[CLASS_TABLE],
			       .heads = heads_used(s)};
	if (r->pages != now.pages || r->region_shift != now.region_shift || r->dirty != now.dirty ||
	    r->metaslabs != now.metaslabs || r->held != now.held || r->heads != now.heads) {
		now.kept = room_kept(s, USER_WRITE);
		*r = now;
	}
	return r->kept;
}

uint64_t room_data(const struct store *s)
{
	const uint64_t *live = s->space.live;
	return live[CLASS_HOT] + live[CLASS_COLD] + live[CLASS_MOVED] +
	       2 * BLOCK_SECTORS * (uint64_t)s->trees.unplaced;
}

uint64_t room_live(const struct store *s)
{
	return plan_live(room_data(s), s->table.pages + s->table.fresh);
}

uint64_t room_limit(const struct store *s, uint32_t metaslabs)
{
	struct plan_table t = table_of(s);
	return plan_limit(&s->space, &t, metaslabs, heads_used(s));
}

bool room_fits_in(const struct store *s, unsigned blocks, uint32_t metaslabs)
{
	return room_live(s) + (uint64_t)blocks * BLOCK_SECTORS <= room_limit(s, metaslabs);
}

bool room_fits(const struct store *s, unsigned blocks)
{
	return room_fits_in(s, blocks, space_with_place(&s->space));
}

/* Pages of trees: all that a volume of that length can have, `slots` to a page. */
static uint64_t tree_pages(uint64_t count, unsigned slots)
{
	uint64_t pages = 0;
	do {
		count = DIV_UP(count, (uint64_t)slots);
		pages += count;
	} while (count > 1);
	return pages;
}

uint32_t store_metaslabs_for(const struct store_config *config, uint64_t data_blocks)
{
	if (data_blocks > STORE_VOLUME_BLOCKS_MAX)
		return UINT32_MAX;
	uint64_t blocks = data_blocks + 2 * tree_pages(data_blocks, VOLUME_SLOTS);
	uint64_t ids = IDS_FIRST + blocks + blocks / IDS_FREE_SHARE + IDS_FREE_LEAST;
	uint32_t least =
		plan_metaslabs_for(config->metaslab_blocks, blocks * BLOCK_SECTORS, tree_pages(ids, TABLE_SLOTS));
	return MAX_OF(least, (uint32_t)STORE_METASLABS_MIN);
}
