/* SPDX-License-Identifier: Apache-2.0 */
#include "base/hash.h"

/* The same value by what the processor at hand does best; else only by what all of its kind do. */
#if defined(__x86_64__) && __has_include(<xxh_x86dispatch.h>)
#include <xxh_x86dispatch.h>
#else
#include <xxhash.h>
#endif

uint64_t hash64(const void *data, size_t length)
{
	return XXH3_64bits(data, length);
}

struct hash128 hash128(const void *data, size_t length)
{
	XXH128_hash_t h = XXH3_128bits(data, length);
	return (struct hash128){h.low64, h.high64};
}
