/* SPDX-License-Identifier: Apache-2.0 */
/* Sizes as people write and read them: 1024-based K, M, G, T. */
#ifndef CLI_SIZE_H
#define CLI_SIZE_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/* "4096", "64K", "10GiB", "2TB": NULL and *bytes, or what is wrong with it. 0 and more than 8 EiB are refused. */
const char *size_parse(const char *text, uint64_t *bytes);

/* "80", "80%": how full something may be before that is an event, from 10 to 100. */
bool size_parse_alarm(const char *text, unsigned *percent);

enum { SIZE_TEXT = 32 };

/* Three digits: "1.50G". */
void size_print(char text[SIZE_TEXT], uint64_t bytes);
void size_print_blocks(char text[SIZE_TEXT], uint64_t blocks);

#endif
