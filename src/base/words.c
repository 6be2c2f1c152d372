/* SPDX-License-Identifier: Apache-2.0 */
#include "base/words.h"

#include <math.h>
#include <stdio.h>
#include <string.h>

#include "base/check.h"

enum { BLOCK_BYTES = 4096, DIGITS = 3, DIGITS_MAX = 12 };

#define LARGEST 1e15 /* beyond, it is no measurement any more */

/* Thousands apart: 1,234,567. */
static void put_whole(char text[WORDS_ROOM], double whole)
{
	char plain[WORDS_ROOM];
	size_t length = (size_t)snprintf(plain, sizeof(plain), "%.0f", whole), at = 0;
	for (size_t i = 0; i < length && at + 2 < WORDS_ROOM; i++) {
		if (i && (length - i) % 3 == 0)
			text[at++] = ',';
		text[at++] = plain[i];
	}
	text[at] = '\0';
}

/* Places after the point, so that `digits` of it count; negative: that many before it become 0. */
static int places_of(double size, int digits)
{
	return digits - 1 - (int)floor(log10(size) + 1e-9);
}

static void put_number(char text[WORDS_ROOM], double number, int digits)
{
	double size = fabs(number);
	char *at = text;
	if (isnan(number) || size < 1e-6) {
		snprintf(text, WORDS_ROOM, "0");
		return;
	}
	if (number < 0)
		*at++ = '-';
	double unit = pow(10, -places_of(size, digits));
	int places = places_of(round(size / unit) * unit, digits); /* 99.96 becomes 100 */
	if (size >= LARGEST)
		snprintf(text, WORDS_ROOM, "%smore than a million billions", number < 0 ? "-" : "");
	else if (places < 1)
		put_whole(at, round(size / unit) * unit);
	else
		snprintf(at, WORDS_ROOM - 1, "%.*f", places, size);
}

static void put_bytes(char text[WORDS_ROOM], double bytes, int digits)
{
	static const char units[] = "KMGTPE";
	double size = fabs(bytes) / 1024;
	int unit = 0;
	if (isnan(bytes) || fabs(bytes) < 0.5) {
		snprintf(text, WORDS_ROOM, "0");
		return;
	}
	for (; size >= 999.5 && units[unit + 1]; unit++)
		size /= 1024;
	size = fmin(size, 9999);
	int places = digits - (size < 9.995 ? 1 : size < 99.95 ? 2 : 3);
	snprintf(text, WORDS_ROOM, "%s%.*f%c", bytes < 0 ? "-" : "", places > 0 ? places : 0, size, units[unit]);
}

const char *words_number(char text[WORDS_ROOM], double number)
{
	put_number(text, number, DIGITS);
	return text;
}

const char *words_bytes(char text[WORDS_ROOM], double bytes)
{
	put_bytes(text, bytes, DIGITS);
	return text;
}

const char *words_blocks(char text[WORDS_ROOM], double blocks)
{
	return words_bytes(text, blocks * BLOCK_BYTES);
}

const char *words_duration(char text[WORDS_ROOM], double seconds)
{
	static const struct {
		double seconds, most; /* of a unit; in it, beyond which the next one is told */
		const char *name;
	} units[] = {{1, 99, "s"}, {60, 99, "min"}, {3600, 48, "h"}, {86400, 999, "days"}};
	for (size_t i = 0; i < ARRAY_LENGTH(units); i++) {
		double in = fmax(round(seconds / units[i].seconds), 1);
		if (in > units[i].most)
			continue;
		snprintf(text, WORDS_ROOM, "%.0f %s", in, units[i].name);
		return text;
	}
	snprintf(text, WORDS_ROOM, "years");
	return text;
}

static void put_two(void (*put)(char *, double, int), char *first, double a, char *second, double b)
{
	int digits = DIGITS;
	do {
		put(first, a, digits);
		put(second, b, digits);
	} while (a != b && !strcmp(first, second) && digits++ < DIGITS_MAX);
}

void words_two_numbers(char first[WORDS_ROOM], double a, char second[WORDS_ROOM], double b)
{
	put_two(put_number, first, a, second, b);
}

void words_two_blocks(char first[WORDS_ROOM], double a, char second[WORDS_ROOM], double b)
{
	put_two(put_bytes, first, a * BLOCK_BYTES, second, b * BLOCK_BYTES);
}
