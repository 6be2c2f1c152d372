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

uint64_t hash_mix(uint64_t n)
{
	n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9u;
	n = (n ^ n >> 27) * 0x94d049bb133111ebu;
	return n ^ n >> 31;
}
