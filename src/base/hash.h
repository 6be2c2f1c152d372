/* SPDX-License-Identifier: Apache-2.0 */
/* The checksums of everything on the device: XXH3, 64 and 128 bits. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash64(const void *data, size_t length);

struct hash128 {
	uint64_t low, high;
};
struct hash128 hash128(const void *data, size_t length);

/* A small reversible mixer (splitmix64's finalizer), for hash tables and seeded generators in tests. */
static inline uint64_t hash_mix(uint64_t n)
{
	n = (n ^ n >> 30) * 0xbf58476d1ce4e5b9u;
	n = (n ^ n >> 27) * 0x94d049bb133111ebu;
	return n ^ n >> 31;
}

#endif
