/* SPDX-License-Identifier: Apache-2.0 */
/* The checksum of everything on the device: XXH3, 64 bits. */
#ifndef BASE_HASH_H
#define BASE_HASH_H

#include <stddef.h>
#include <stdint.h>

uint64_t hash64(const void *data, size_t length);

/* A small reversible mixer (splitmix64's finalizer), for hash tables and seeded generators in tests. */
uint64_t hash_mix(uint64_t n);

#endif
