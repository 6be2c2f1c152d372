/* SPDX-License-Identifier: Apache-2.0 */
/* Little-endian fields of on-disk structs: a type per width, so that a forgotten conversion does not compile. */
#ifndef BASE_LE_H
#define BASE_LE_H

#include <stdint.h>
#include <string.h>

#if defined(__BYTE_ORDER__) && __BYTE_ORDER__ == __ORDER_LITTLE_ENDIAN__
#define LE64(n) (n)
#else
#define LE64(n) __builtin_bswap64(n)
#endif

typedef struct { uint8_t b[2]; } le16;
typedef struct { uint8_t b[4]; } le32;
typedef struct { uint8_t b[8]; } le64;

static inline uint16_t le16_get(le16 v) { return (uint16_t)(v.b[0] | v.b[1] << 8); }

static inline uint32_t le32_get(le32 v)
{
	return (uint32_t)v.b[0] | (uint32_t)v.b[1] << 8 | (uint32_t)v.b[2] << 16 | (uint32_t)v.b[3] << 24;
}

static inline uint64_t le64_get(le64 v)
{
	uint64_t n;
	memcpy(&n, v.b, sizeof(n)); /* a loop over bytes does not become one load */
	return LE64(n);
}

static inline le16 le16_of(uint16_t n) { return (le16){{(uint8_t)n, (uint8_t)(n >> 8)}}; }

static inline le32 le32_of(uint32_t n)
{
	return (le32){{(uint8_t)n, (uint8_t)(n >> 8), (uint8_t)(n >> 16), (uint8_t)(n >> 24)}};
}

static inline le64 le64_of(uint64_t n)
{
	le64 v;
	n = LE64(n);
	memcpy(v.b, &n, sizeof(n));
	return v;
}

#endif
