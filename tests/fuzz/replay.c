/* SPDX-License-Identifier: Apache-2.0 */
/* replay RANDOM FILE...: a fuzz target with the files' bytes, then with so many random inputs. */
#include <stdio.h>
#include <stdlib.h>

#include "base/check.h"
#include "base/hash.h"
#include "fuzz.h"

enum { BYTES_MAX = 1 << 20, RANDOM_MAX = 400 };

static void replay_file(const char *path, uint8_t *bytes)
{
	FILE *file = fopen(path, "rb");

	CHECK(file);
	size_t length = fread(bytes, 1, BYTES_MAX, file);
	fclose(file);
	LLVMFuzzerTestOneInput(bytes, length);
}

static void replay_random(uint64_t seed, uint8_t *bytes)
{
	size_t length = hash_mix(seed) % RANDOM_MAX;
	for (size_t i = 0; i < length; i++)
		bytes[i] = (uint8_t)hash_mix(seed * RANDOM_MAX + i);
	LLVMFuzzerTestOneInput(bytes, length);
}

int main(int argc, char **argv)
{
	uint64_t random = argc > 1 ? strtoull(argv[1], NULL, 0) : 0;
	uint8_t *bytes = malloc(BYTES_MAX);
	CHECK(bytes);
	for (int i = 2; i < argc; i++)
		replay_file(argv[i], bytes);
	for (uint64_t i = 0; i < random; i++)
		replay_random(i, bytes);
	printf("%s: %d files, %llu random inputs\n", argv[0], argc > 2 ? argc - 2 : 0, (unsigned long long)random);
	free(bytes);
	return 0;
}
