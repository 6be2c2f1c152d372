/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What a transaction takes along, and what memory shows once it is durable (txg.c writes it).
 *
 * With the pool's lock.
 */
#include <string.h>

#include "pool/core.h"

/* It is durable; now memory may show it. */
static void take_over(struct txg *txg)
{
	struct lcpfs_pool *pool = txg->pool;
	pool->uberblock = txg->uberblock;
	for (uint32_t i = 0; i < txg->count; i++) {
		uint8_t *current = txg_current(pool, txg->list[i].page);
		uint8_t before[BLOCK_SIZE];
		memcpy(before, current, BLOCK_SIZE);
		memcpy(current, txg->list[i].block, BLOCK_SIZE);
		pool->lost[txg->list[i].page] = false;
		if (layout_page_kind(&pool->layout, txg->list[i].page) == FMT_MAP)
			map_page_changed(pool, txg->list[i].page, (const struct fmt_map *)before);
	}
	history_written(pool, txg);
	sample_written(pool, txg);
	pool->changes++;
	pthread_cond_broadcast(&pool->changed);
}

static int commit(struct txg *txg, struct lcpfs_failure *failure)
{
	int error = txg_refuse(txg->pool, failure);
	if (error)
		return error;
	history_into(txg);
	error = txg_write(txg, failure);
	if (!error)
		take_over(txg);
	return error;
}

int txg_commit(struct txg *txg, struct lcpfs_failure *failure)
{
	int error = commit(txg, failure);
	txg_abort(txg);
	return error;
}

int history_flush(struct lcpfs_pool *pool)
{
	struct txg txg;
	if (pool->pending.count == 0)
		return 0;
	txg_begin(pool, &txg);
	return txg_commit(&txg, NULL);
}
