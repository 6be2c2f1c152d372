/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: the engine's saved state, changed by the input and sealed anew, then used. */
#include <math.h>
#include <stdlib.h>
#include <string.h>

#include <lcpfs/engine.h>

#include "base/check.h"
#include "fuzz.h"

enum { PARTITIONS = 3, STEP = 256, SIZE_BLOCKS = 20 * STEP, ROOM = 1 << 16, HEADER_BYTES = 24, LENGTH_AT = 12,
		HASH_AT = 16 };

static struct lcpfs_engine *new_engine(void)
{
	struct lcpfs_engine_options options = {.pool_blocks = 100 * STEP, .step_blocks = STEP,
			.mode = LCPFS_ENGINE_ON};
	struct lcpfs_engine *engine;
	CHECK(!lcpfs_engine_create(&options, &engine));
	for (uint32_t id = 1; id <= PARTITIONS; id++) {
		struct lcpfs_engine_spec spec = {.id = id,
						 .name = "p",
						 .size_blocks = SIZE_BLOCKS,
						 .min_size_blocks = 8 * STEP,
						 .max_size_blocks = 40 * STEP};
		CHECK(!lcpfs_engine_add(engine, &spec, NULL));
	}
	return engine;
}

static void use(struct lcpfs_engine *engine, unsigned rounds)
{
	struct lcpfs_engine_decision d;
	for (uint64_t t = 1; t <= rounds; t++) {
		for (uint32_t id = 1; id <= PARTITIONS; id++) {
			struct lcpfs_engine_counters c = {.write_ops = t * 1000 * id,
							  .write_latency_us = (double)t * 200000 * id,
							  .user_blocks = t * 1000 * id,
							  .device_blocks = t * 2000 * id,
							  .copied_blocks = t * 900 * id,
							  .live_blocks = SIZE_BLOCKS / 2};
			(void)!lcpfs_engine_update(engine, id, t * 1000000, &c);
		}
		if (!lcpfs_engine_decide(engine, t * 1000000, &d) && d.action == LCPFS_ENGINE_MOVE) {
			struct lcpfs_engine_moved moved = {.blocks = d.blocks, .duration_us = 1000};
			(void)!lcpfs_engine_report(engine, t * 1000000, d.sequence, &moved);
		}
	}
}

/* The checksum of src/engine/state.c. */
static void seal(uint8_t *bytes, size_t length)
{
	uint64_t hash = 0xcbf29ce484222325u;
	for (size_t i = HEADER_BYTES; i < length; i++)
		hash = (hash ^ bytes[i]) * 0x100000001b3u;
	for (unsigned i = 0; i < 4; i++)
		bytes[LENGTH_AT + i] = (uint8_t)(length >> 8 * i);
	for (unsigned i = 0; i < 8; i++)
		bytes[HASH_AT + i] = (uint8_t)(hash >> 8 * i);
}

static size_t saved_state(uint8_t *bytes)
{
	static uint8_t state[ROOM];
	static size_t length;
	if (!length) {
		struct lcpfs_engine *engine = new_engine();
		use(engine, 30);
		length = lcpfs_engine_save(engine, state, sizeof(state));
		CHECK(length && length <= sizeof(state));
		lcpfs_engine_destroy(engine);
	}
	memcpy(bytes, state, length);
	return length;
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	uint8_t *state = malloc(ROOM);
	struct lcpfs_engine *engine = new_engine();
	CHECK(state);
	size_t used = saved_state(state);
	for (size_t i = 0; i + 3 <= length; i += 3)
		state[(bytes[i] | bytes[i + 1] << 8) % used] = bytes[i + 2];
	if (length % 2)
		used = used * (bytes[0] % 8 + 1) / 8;
	seal(state, used);
	(void)!lcpfs_engine_load(engine, state, used);
	use(engine, 8);
	(void)lcpfs_engine_save(engine, state, ROOM);
	lcpfs_engine_destroy(engine);
	free(state);
	return 0;
}
