/* SPDX-License-Identifier: Apache-2.0 */
/* Big-endian numbers at any address, as the NBD protocol has them. */
#ifndef SERVE_BE_H
#define SERVE_BE_H

#include <endian.h>
#include <stdint.h>
#include <string.h>

static inline uint16_t be16_get(const void *at)
{
	uint16_t n;
	memcpy(&n, at, sizeof(n));
	return be16toh(n);
}

static inline uint32_t be32_get(const void *at)
{
	uint32_t n;
	memcpy(&n, at, sizeof(n));
	return be32toh(n);
}

static inline uint64_t be64_get(const void *at)
{
	uint64_t n;
	memcpy(&n, at, sizeof(n));
	return be64toh(n);
}

/* Each returns the address behind what it wrote. */
static inline uint8_t *be16_put(uint8_t *at, uint16_t n)
{
	n = htobe16(n);
	memcpy(at, &n, sizeof(n));
	return at + sizeof(n);
}

static inline uint8_t *be32_put(uint8_t *at, uint32_t n)
{
	n = htobe32(n);
	memcpy(at, &n, sizeof(n));
	return at + sizeof(n);
}

static inline uint8_t *be64_put(uint8_t *at, uint64_t n)
{
	n = htobe64(n);
	memcpy(at, &n, sizeof(n));
	return at + sizeof(n);
}

#endif
