/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Words that count up: word n is base + n * step, modulo 2^64. Tests fill blocks with them and look at them by the
 * gigabyte, so this uses the widest vectors that the processor has. Memory needs no alignment. For tests only.
 */
#ifndef DISK_COUNTING_H
#define DISK_COUNTING_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

void counting_fill(void *memory, size_t words, uint64_t base, uint64_t step);
bool counting_is(const void *memory, size_t words, uint64_t base, uint64_t step);

#endif
