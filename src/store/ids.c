/* SPDX-License-Identifier: Apache-2.0 */
#include "store/ids.h"

#include "store/table.h"

static void run_remove(struct ids *ids, unsigned at)
{
	ids->run[at] = ids->run[--ids->runs];
}

void ids_freed(struct store *s, uint64_t id, unsigned count)
{
	struct ids *ids = &s->ids;
	for (unsigned i = 0; i < ids->runs; i++) {
		if (ids->run[i].first + ids->run[i].count == id) {
			ids->run[i].count += count;
			return;
		}
	}
	if (ids->runs == ARRAY_LENGTH(ids->run))
		return; /* it will be found again */
	ids->run[ids->runs].first = id;
	ids->run[ids->runs++].count = count;
}

void ids_used(struct store *s, uint64_t id)
{
	s->ids.end = MAX_OF(s->ids.end, id + 1);
}

static bool is_worth_a_search(const struct store *s)
{
	uint64_t used = s->data_blocks + s->page_blocks,
		 free_ids = s->ids.end - IDS_FIRST - MIN_OF(used, s->ids.end - IDS_FIRST);
	return free_ids > used / IDS_FREE_SHARE + IDS_FREE_LEAST;
}

/* The free ones of the leaf under the cursor become runs. */
static int search(struct store *s, struct need *need)
{
	struct ids *ids = &s->ids;
	struct page *leaf;
	if (ids->cursor >= ids->end)
		ids->cursor = 0;
	int error = table_leaf(s, ids->cursor, need, &leaf);
	if (error)
		return error;
	uint64_t first = ids->cursor / TABLE_SLOTS * TABLE_SLOTS;
	for (unsigned i = 0; i < TABLE_SLOTS; i++) {
		bool is_free = !leaf || entry_free(&page_table(leaf)->block[i]);
		if (is_free && first + i >= IDS_FIRST && first + i < ids->end)
			ids_freed(s, first + i, 1);
	}
	ids->cursor = first + TABLE_SLOTS;
	return 0;
}

static bool is_free(const struct page *leaf, uint64_t id)
{
	return entry_free(table_entry(leaf, id));
}

/* The lowest of a run, if it is free still. 1: taken; 0: not, and the run is shorter or gone. */
static int take_from_run(struct store *s, unsigned at, bool pair, struct need *need, uint64_t *id,
			 struct page **leaf)
{
	struct ids *ids = &s->ids;
	uint64_t first = ids->run[at].first, wanted = pair ? (first + 1) & ~UINT64_C(1) : first;
	if (pair && wanted + 2 > first + ids->run[at].count)
		return 0;
	int error = table_leaf_made(s, wanted, need, leaf);
	if (error == TRY_AGAIN)
		return error;
	uint64_t taken = wanted + (pair ? 2 : 1) - first;
	ids->run[at].first += taken;
	ids->run[at].count -= taken;
	if (ids->run[at].count == 0)
		run_remove(ids, at);
	if (error)
		return error;
	if (!is_free(*leaf, wanted) || (pair && !is_free(*leaf, wanted + 1)))
		return 0;
	*id = wanted;
	return 0;
}

static int take_known(struct store *s, bool pair, struct need *need, uint64_t *id, struct page **leaf)
{
	for (unsigned i = s->ids.runs; i-- > 0;) {
		uint64_t before;
		do {
			before = i < s->ids.runs ? s->ids.run[i].count : 0;
			int error = before ? take_from_run(s, i, pair, need, id, leaf) : 0;
			if (error || *id)
				return error;
		} while (i < s->ids.runs && s->ids.run[i].count < before);
	}
	return 0;
}

/* What lies behind the end is free, unless a damaged root knew less of them than there are. */
static int take_new(struct store *s, bool pair, struct need *need, uint64_t *id, struct page **leaf)
{
	while (!*id) {
		uint64_t end = s->ids.end, wanted = pair ? (end + 1) & ~UINT64_C(1) : end;
		int error = table_leaf_made(s, wanted, need, leaf);
		if (error)
			return error;
		if (wanted > end && is_free(*leaf, end))
			ids_freed(s, end, 1);
		s->ids.end = wanted + (pair ? 2 : 1);
		if (is_free(*leaf, wanted) && (!pair || is_free(*leaf, wanted + 1)))
			*id = wanted;
	}
	return 0;
}

/* In an empty partition all begins again, so that it holds as much as when it was new. */
static void restart_if_empty(struct store *s)
{
	if (s->data_blocks + s->page_blocks == 0) {
		s->ids.end = IDS_FIRST;
		s->ids.runs = 0;
	}
}

int ids_take(struct store *s, bool pair, struct need *need, uint64_t *id, struct page **leaf)
{
	*id = 0;
	restart_if_empty(s);
	int error = take_known(s, pair, need, id, leaf);
	if (error || *id)
		return error;
	if (is_worth_a_search(s)) {
		error = search(s, need);
		if (!error)
			error = take_known(s, pair, need, id, leaf);
		if (error || *id)
			return error;
	}
	return take_new(s, pair, need, id, leaf);
}
