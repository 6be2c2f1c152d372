/* SPDX-License-Identifier: Apache-2.0 */
#include "store/walker.h"

#include <stdarg.h>
#include <stdio.h>

#include "store/place.h"
#include "store/table.h"

void walker_found(struct walker *w, bool repaired, bool data, uint64_t block, uint64_t address, const char *format,
		  ...)
{
	char text[240];
	va_list args;
	va_start(args, format);
	vsnprintf(text, sizeof(text), format, args);
	va_end(args);
	w->walk->damaged_blocks++;
	w->walk->repaired_blocks += repaired;
	struct store_finding finding = {repaired, data, block, address, text};
	if (w->walk->found)
		w->walk->found(w->walk->context, &finding);
}

int walker_checked(struct walker *w, uint64_t blocks)
{
	w->walk->checked_blocks += blocks;
	if (w->walk->progress && !w->walk->progress(w->walk->context, MIN_OF(w->done, w->total), w->total))
		return -LCPFS_E_STOPPED;
	return 0;
}

int walker_progress(struct walker *w, uint64_t blocks)
{
	w->done += blocks;
	return walker_checked(w, blocks);
}

bool walker_repair(struct walker *w, uint64_t block, const void *good)
{
	return w->walk->repair && !w->s->config.read_only &&
	       !vdev_write(w->s->config.vdev, block << BLOCK_SHIFT, good, BLOCK_SIZE);
}

void walker_use(struct walker *w, uint64_t block, const char *what)
{
	if (!w->used)
		return;
	struct metaslab *m = metaslab_of(w->s, block);
	if (!m) {
		walker_found(w, false, false, block, UINT64_MAX, "%s lies outside of this partition's metaslabs",
			     what);
		return;
	}
	w->live[m - w->s->space.slab]++;
	uint8_t bit = (uint8_t)(1 << block % 8);
	if (w->used[block / 8] & bit)
		walker_found(w, false, false, block, UINT64_MAX, "%s lies where something else lies", what);
	w->used[block / 8] |= bit;
}

uint32_t walker_birth(struct store *s, uint64_t id, unsigned *kind)
{
	struct fmt_block e = {0};
	bool known = id < s->ids.end && !table_look_up(s, id, &e);
	*kind = e.kind;
	return known && !entry_free(&e) ? le32_get(e.birth) : UINT32_MAX;
}
