/* SPDX-License-Identifier: Apache-2.0 */
/* Numbers in sentences: three digits that count, no exponents, sizes in the units of the command line. */
#ifndef BASE_WORDS_H
#define BASE_WORDS_H

#include <stdint.h>

enum { WORDS_ROOM = 32 };

/* "12.3", "699,000", "0.0123"; 0 where it is less than a millionth. Returns text. */
const char *words_number(char text[WORDS_ROOM], double number);
/* "4.00K", "59.0M", "1.50G": 1024-based. Of any sign and fraction, from rates too: "0.12K". Returns text. */
const char *words_bytes(char text[WORDS_ROOM], double bytes);
const char *words_blocks(char text[WORDS_ROOM], double blocks);
/* "14 s", "5 min", "30 h", "12 days": of a time that is known about so well; at least a second. Returns text. */
const char *words_duration(char text[WORDS_ROOM], double seconds);

/* Two that are compared: with as many digits as it takes to tell them apart, if they differ. */
void words_two_numbers(char first[WORDS_ROOM], double a, char second[WORDS_ROOM], double b);
void words_two_blocks(char first[WORDS_ROOM], double a, char second[WORDS_ROOM], double b);

#endif
