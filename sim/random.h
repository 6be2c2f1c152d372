/* SPDX-License-Identifier: Apache-2.0 */
/* Seeded randomness: splitmix64 (Steele, Lea, Flood 2014). The same seed gives the same run everywhere. */
#ifndef SIM_RANDOM_H
#define SIM_RANDOM_H

#include <stdint.h>

struct sim_random {
	uint64_t state;
};

static inline uint64_t sim_random_u64(struct sim_random *r)
{
	uint64_t z = (r->state += 0x9e3779b97f4a7c15u);
	z = (z ^ z >> 30) * 0xbf58476d1ce4e5b9u;
	z = (z ^ z >> 27) * 0x94d049bb133111ebu;
	return z ^ z >> 31;
}

static inline double sim_random_unit(struct sim_random *r)
{
	return (double)(sim_random_u64(r) >> 11) * 0x1p-53;
}

static inline uint64_t sim_random_below(struct sim_random *r, uint64_t n)
{
	return (uint64_t)((unsigned __int128)sim_random_u64(r) * n >> 64);
}

#endif
