/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What people say and what the pool counts in.
 *
 * A size that somebody gives is one of user data. The pool owns and moves whole metaslabs, which hold the store's
 * tables, log and spare, too. The store knows how many of them so much data needs (store_metaslabs_for).
 */
#include "pool/core.h"

uint64_t size_divide_up(uint64_t bytes, uint64_t unit)
{
	return bytes / unit + (bytes % unit != 0);
}

uint64_t size_for_data(const struct lcpfs_pool *pool, uint64_t data_blocks)
{
	struct store_config config = {.metaslab_blocks = pool->layout.metaslab_blocks};
	return store_metaslabs_for(&config, data_blocks);
}

uint64_t size_data_in(const struct lcpfs_pool *pool, uint64_t metaslabs)
{
	uint64_t low = 0, high = metaslabs * pool->layout.metaslab_blocks;
	while (low < high) {
		uint64_t middle = high - (high - low) / 2;
		if (size_for_data(pool, middle) <= metaslabs)
			low = middle;
		else
			high = middle - 1;
	}
	return low;
}

bool size_is_thin(const struct part *part)
{
	return size_for_data(part->pool, part->volume_blocks) * part->pool->layout.metaslab_blocks >
	       part->max_blocks;
}

uint64_t size_promised_blocks(const struct lcpfs_pool *pool)
{
	uint64_t metaslabs = 0;
	for (uint32_t slot = 0; slot < pool->layout.partition_slots; slot++) {
		if (pool->parts[slot] && pool->parts[slot]->store)
			metaslabs += size_for_data(pool, pool->parts[slot]->volume_blocks);
	}
	return metaslabs * pool->layout.metaslab_blocks;
}
