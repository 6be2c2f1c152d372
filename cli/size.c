/* SPDX-License-Identifier: Apache-2.0 */
#include "size.h"

#include <ctype.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include <lcpfs/pool.h>

#include "control/property.h"

static const char units[] = "KMGT";

/* How far a unit shifts; -1: not a unit. */
static int unit_shift(const char *text)
{
	const char *unit;
	int shift = 0;
	if (*text && *text != 'B') {
		unit = strchr(units, toupper((unsigned char)*text));
		if (!unit)
			return -1;
		shift = 10 * (int)(unit - units + 1);
		text += !strncmp(text + 1, "iB", 2) ? 2 : 1;
	}
	text += *text == 'B';
	return *text ? -1 : shift;
}

const char *size_parse(const char *text, uint64_t *bytes)
{
	uint64_t n = 0;
	const char *p = text;
	if (!isdigit((unsigned char)*p))
		return "is not a size: a size is a whole number with K, M, G or T, as in 10G";
	for (; isdigit((unsigned char)*p); p++)
		if (__builtin_mul_overflow(n, 10, &n) || __builtin_add_overflow(n, (uint64_t)(*p - '0'), &n))
			return "is too large";
	if (*p == '.' || *p == ',')
		return "has a fraction: take a smaller unit, as 1536M for one and a half G";
	int shift = unit_shift(p);
	if (shift < 0)
		return "has an unknown unit: a size is a whole number with K, M, G or T, as in 10G";
	if (n > (uint64_t)INT64_MAX >> shift)
		return "is too large";
	if (n == 0)
		return "must be more than 0";
	*bytes = n << shift;
	return NULL;
}

bool size_parse_alarm(const char *text, unsigned *percent)
{
	char *end;
	unsigned long number = strtoul(text, &end, 10);
	*percent = (unsigned)number;
	return isdigit((unsigned char)*text) && (!*end || !strcmp(end, "%")) && number >= PROPERTY_ALARM_LEAST &&
	       number <= 100;
}

void size_print(char text[SIZE_TEXT], uint64_t bytes)
{
	double n = (double)bytes;
	int unit = -1;
	while (n >= 999.5 && units[unit + 1]) {
		n /= 1024;
		unit++;
	}
	if (unit < 0)
		snprintf(text, SIZE_TEXT, "%.0f", n);
	else
		snprintf(text, SIZE_TEXT, "%.*f%c", n < 9.995 ? 2 : n < 99.95 ? 1 : 0, n, units[unit]);
}

void size_print_blocks(char text[SIZE_TEXT], uint64_t blocks)
{
	size_print(text, blocks * LCPFS_BLOCK_BYTES);
}
