/* SPDX-License-Identifier: Apache-2.0 */
/* Fuzz target: any block as text, sealed or not; sizes and names as people give them. */
#include <stdlib.h>
#include <string.h>

#include "cli/size.h"
#include "format/format.h"
#include "fuzz.h"
#include "pool/core.h"

static void block_as_text(const uint8_t *bytes, size_t length, bool seal)
{
	uint8_t block[BLOCK_SIZE] = {0};
	struct fmt_head head;
	struct text text = {0};
	memcpy(block, bytes, MIN_OF(length, (size_t)BLOCK_SIZE));
	memcpy(&head, block, sizeof(head));
	if (seal)
		fmt_seal(block, (enum fmt_kind)(le16_get(head.kind) % (FMT_KIND_END + 2)), le64_get(head.guid),
			 le32_get(head.partition), le32_get(head.count));
	fmt_to_text(block, &text);
	text_free(&text);
}

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	char *word = malloc(length + 1);
	uint64_t size;
	CHECK(word);
	memcpy(word, bytes, length);
	word[length] = 0;
	(void)size_parse(word, &size);
	(void)part_name_is_valid(word);
	free(word);
	block_as_text(bytes, length, false);
	block_as_text(bytes, length, true);
	return 0;
}
