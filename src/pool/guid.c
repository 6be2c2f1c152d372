/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Guids of snapshots: by them a stream finds what it goes on from, whatever it is called and in whichever pool it
 * is. Two that are not the same snapshot never have the same one, also where a pool was copied and both copies
 * went on: so it is made of the random number that each opening of a pool draws, of time, and of names.
 */
#include <string.h>

#include "base/hash.h"
#include "pool/claim.h"
#include "pool/core.h"

struct seed {
	uint64_t pool, partition, time, clock, number;
	uint8_t owner[16];
	char name[64];
};

static uint64_t guid_from(const struct seed *seed)
{
	struct hash128 h = hash128(seed, sizeof(*seed));
	return h.low ? h.low : 1;
}

static void begin(struct seed *seed, const struct part *part)
{
	memset(seed, 0, sizeof(*seed)); /* it is hashed whole */
	seed->pool = part->pool->layout.guid;
	seed->partition = part->id;
}

uint64_t guid_new(const struct part *part, const char *snapshot)
{
	const struct lcpfs_pool *pool = part->pool;
	static _Alignas(BLOCK_SIZE) const struct fmt_lease nobody;
	_Alignas(BLOCK_SIZE) struct fmt_lease lease = nobody;
	struct seed seed;

	if (pool->claimant)
		claim_copy(claimant_claim(pool->claimant), &lease);
	begin(&seed, part);
	seed.time = pool->clock.wall_s(pool->clock.context);
	seed.clock = clock_us(&pool->clock);
	memcpy(seed.owner, lease.owner, sizeof(seed.owner));
	memcpy(seed.name, snapshot, strnlen(snapshot, sizeof(seed.name)));
	return guid_from(&seed);
}

uint64_t guid_of(const struct part *part, const struct store_snapshot *snapshot)
{
	struct seed seed;
	if (snapshot->guid)
		return snapshot->guid;
	begin(&seed, part);
	seed.number = snapshot->number;
	seed.time = snapshot->created_s;
	return guid_from(&seed);
}
