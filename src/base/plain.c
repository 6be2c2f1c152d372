/* SPDX-License-Identifier: Apache-2.0 */
#include "base/plain.h"

#include <stddef.h>
#include <stdint.h>
#include <string.h>

#include "base/check.h"

struct range {
	uint32_t first, last;
};

/* Unicode 15: categories Cc, Cf, Zl, Zp, Cs, and what is no character for ever. In order. */
static const struct range hidden[] = {
	{0x0000, 0x001f},   {0x007f, 0x009f},   {0x00ad, 0x00ad},   {0x0600, 0x0605},   {0x061c, 0x061c},
	{0x06dd, 0x06dd},   {0x070f, 0x070f},   {0x0890, 0x0891},   {0x08e2, 0x08e2},   {0x180e, 0x180e},
	{0x200b, 0x200f},   {0x2028, 0x202e},   {0x2060, 0x206f},   {0xd800, 0xdfff},   {0xfdd0, 0xfdef},
	{0xfeff, 0xfeff},   {0xfff9, 0xfffb},   {0xfffe, 0xffff},   {0x110bd, 0x110bd}, {0x110cd, 0x110cd},
	{0x13430, 0x1343f}, {0x1bca0, 0x1bca3}, {0x1d173, 0x1d17a}, {0xe0000, 0xe0fff}, {0x10fffe, UINT32_MAX},
};

static bool is_hidden(uint32_t character)
{
	for (size_t i = 0; i < ARRAY_LENGTH(hidden) && hidden[i].first <= character; i++) {
		if (character <= hidden[i].last)
			return true;
	}
	return false;
}

/* The length of the character's bytes, 1 to 4; 0: they are no UTF-8. The text ends with a NUL, which continues
 * none. */
static unsigned decode(const unsigned char *bytes, uint32_t *character)
{
	static const uint32_t least[] = {0, 0, 0x80, 0x800, 0x10000};
	unsigned length = bytes[0] < 0x80   ? 1
			  : bytes[0] < 0xc0 ? 0
			  : bytes[0] < 0xe0 ? 2
			  : bytes[0] < 0xf0 ? 3
					    : 4;
	if (length == 0 || bytes[0] > 0xf4)
		return 0;
	*character = length == 1 ? bytes[0] : bytes[0] & (0x7fu >> length);
	for (unsigned i = 1; i < length; i++) {
		if ((bytes[i] & 0xc0) != 0x80)
			return 0;
		*character = *character << 6 | (bytes[i] & 0x3f);
	}
	return *character < least[length] ? 0 : length;
}

void plain_text(char *text)
{
	char *to = text;
	for (const char *from = text; *from;) {
		uint32_t character;
		unsigned length = decode((const unsigned char *)from, &character);
		bool shown = length && !is_hidden(character);
		if (!shown)
			*to++ = '?';
		for (unsigned i = 0; shown && i < length; i++)
			*to++ = from[i];
		from += MAX_OF(length, 1u);
	}
	*to = '\0';
}

bool plain_is(const char *text)
{
	for (uint32_t character; *text;) {
		unsigned length = decode((const unsigned char *)text, &character);
		if (!length || is_hidden(character))
			return false;
		text += length;
	}
	return true;
}
