/* SPDX-License-Identifier: Apache-2.0 */
/* Tables on standard output, through the library that lsblk uses; and numbers as people read them. */
#ifndef CLI_TABLE_H
#define CLI_TABLE_H

#include <stddef.h>
#include <stdint.h>

#include "base/check.h"

struct table;

/* Columns whose title starts with '<' are aligned left, all others right. Ends with NULL. */
struct table *table_new(const char *const *titles);
void table_row(struct table *table);
/* The next cell of the current row. */
void table_cell(struct table *table, const char *format, ...) PRINTF_LIKE(2, 3);
void table_print(struct table *table); /* and frees it */

enum { NUMBER_TEXT = 32 };

/* Three digits: "0.25", "41.7", "1200", "12.3k", "1.20G"; "-" for what is not finite. Returns `text`. */
const char *number_print(char text[NUMBER_TEXT], double number);
/* "85us", "1.20ms", "34.0s" */
const char *number_print_us(char text[NUMBER_TEXT], double us);

#endif
