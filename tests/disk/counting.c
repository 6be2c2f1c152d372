/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/disk/counting.h"

#include <string.h>

typedef uint64_t vector __attribute__((vector_size(32)));

enum { LANES = sizeof(vector) / 8, ROUND = 2 * LANES }; /* words */

/* Each of these is compiled for every processor, and for those with AVX2. */
#define FOR_BOTH static inline __attribute__((always_inline))

FOR_BOTH void fill(uint8_t *to, size_t words, uint64_t base, uint64_t step)
{
	vector first = {base, base + step, base + 2 * step, base + 3 * step}, second = first + LANES * step;
	size_t n = 0;
	for (; n + ROUND <= words; n += ROUND) {
		memcpy(to + 8 * n, &first, sizeof(first));
		memcpy(to + 8 * (n + LANES), &second, sizeof(second));
		first += ROUND * step;
		second += ROUND * step;
	}
	for (; n < words; n++)
		memcpy(to + 8 * n, &(uint64_t){base + n * step}, 8);
}

FOR_BOTH bool is(const uint8_t *from, size_t words, uint64_t base, uint64_t step)
{
	vector first = {base, base + step, base + 2 * step, base + 3 * step}, second = first + LANES * step;
	vector differs = first ^ first, here, there;
	uint64_t differs_last = 0, word;
	size_t n = 0;
	for (; n + ROUND <= words; n += ROUND) {
		memcpy(&here, from + 8 * n, sizeof(here));
		memcpy(&there, from + 8 * (n + LANES), sizeof(there));
		differs |= (here ^ first) | (there ^ second);
		first += ROUND * step;
		second += ROUND * step;
	}
	for (; n < words; n++) {
		memcpy(&word, from + 8 * n, 8);
		differs_last |= word ^ (base + n * step);
	}
	return !(differs[0] | differs[1] | differs[2] | differs[3] | differs_last);
}

#ifdef __x86_64__

#define WIDE __attribute__((target("avx2"))) static

WIDE void fill_wide(uint8_t *to, size_t words, uint64_t base, uint64_t step)
{
	fill(to, words, base, step);
}

WIDE bool is_wide(const uint8_t *from, size_t words, uint64_t base, uint64_t step)
{
	return is(from, words, base, step);
}

#endif

void counting_fill(void *memory, size_t words, uint64_t base, uint64_t step)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2")) {
		fill_wide(memory, words, base, step);
		return;
	}
#endif
	fill(memory, words, base, step);
}

bool counting_is(const void *memory, size_t words, uint64_t base, uint64_t step)
{
#ifdef __x86_64__
	if (__builtin_cpu_supports("avx2"))
		return is_wide(memory, words, base, step);
#endif
	return is(memory, words, base, step);
}
