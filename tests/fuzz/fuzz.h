/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What every fuzz target is: a function of some bytes. Under libFuzzer (make fuzz) it is called with ever new
 * ones, by replay.c with those of the corpus and with random ones, the same each time.
 */
#ifndef FUZZ_FUZZ_H
#define FUZZ_FUZZ_H

#include <stddef.h>
#include <stdint.h>

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length);

#endif
