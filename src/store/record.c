/* SPDX-License-Identifier: Apache-2.0 */
#include "store/record.h"

#include <string.h>

#include "store/place.h"

/* Sealed, in its place, and its entries describe as many blocks as it has. */
static bool is_valid(const struct store *s, const struct fmt_record *header, uint64_t block)
{
	if (fmt_verify(header, FMT_RECORD, s->config.guid, s->config.partition) != FMT_GOOD ||
	    block_of_place(header->place) != block || le32_get(header->head.count) > RECORD_WORDS)
		return false;
	unsigned at = 0, blocks = 0;
	struct entry e;
	while (fmt_entry_next(header, &at, &e))
		blocks += e.blocks;
	return at == le32_get(header->head.count) && blocks == le16_get(header->blocks);
}

int record_read(struct store *s, uint64_t block, struct fmt_record *header, bool good[2])
{
	struct fmt_record copy[2];
	int error[2];
	for (unsigned i = 0; i < 2; i++) {
		error[i] = vdev_read(s->config.vdev, (block + i) << BLOCK_SHIFT, &copy[i], BLOCK_SIZE);
		good[i] = !error[i] && is_valid(s, &copy[i], block);
	}
	if (!good[0] && !good[1])
		return error[0] ? error[0] : error[1];
	/* One of them may be of an earlier life of the place. */
	if (good[0] && good[1] && memcmp(&copy[0], &copy[1], BLOCK_SIZE) != 0)
		good[le64_get(copy[0].seq) < le64_get(copy[1].seq) ? 0 : 1] = false;
	*header = copy[good[0] ? 0 : 1];
	return 1;
}

bool record_next(struct store *s, struct record_walk *walk, struct fmt_record *header)
{
	uint32_t end = s->config.metaslab_blocks;
	if (walk->offset + RECORD_HEADERS > end)
		return false;
	walk->block = metaslab_block(s, walk->metaslab) + walk->offset;
	if (record_read(s, walk->block, header, walk->good) <= 0)
		return false; /* one that cannot be read: as if it were damaged */
	walk->offset += RECORD_HEADERS + le16_get(header->blocks);
	if (walk->offset > end)
		return false;
	if (le32_get(header->next) != NO_METASLAB)
		walk->offset = end;
	return true;
}
