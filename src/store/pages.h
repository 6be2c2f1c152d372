/* SPDX-License-Identifier: Apache-2.0 */
/* See pages.c. With `work` and the lock, which is let go where something is read or written. */
#ifndef STORE_PAGES_H
#define STORE_PAGES_H

#include "store/state.h"

enum { PAGE_GROUP = 64 }; /* pages written at a time */

/* One page on its way to the device. */
struct page_out {
	struct fmt_page *image; /* sealed */
	struct fmt_pointer at;
	unsigned level;
	uint64_t index;
};

struct page_group {
	unsigned count;
	struct page_out out[PAGE_GROUP];
	struct page *
		*page[PAGE_GROUP]; /* where it is listed; NULL there: it was written. No page: it is only moved */
	_Alignas(BLOCK_SIZE) struct fmt_page image[PAGE_GROUP]; /* so that they can go past the system's cache */
};

struct page_group *pages_group_new(void); /* to be freed; NULL: no memory */

/* Each below those that point at it. After an error some are written, and listed as NULL. */
int pages_write_leaves(struct store *s, struct page_group *g, struct page **leaf, size_t leaves) MUST_CHECK;
/* All pages above the leaves that have changed, level by level. */
int pages_write_inner(struct store *s, struct page_group *g) MUST_CHECK;
/* After a step that wrote so many leaves: what is wasted among the table's pages is made less. */
int pages_move(struct store *s, struct page_group *g, size_t leaves) MUST_CHECK;
/* Places for images, and the images there. After an error they have no places. */
int pages_write(struct store *s, struct page_out *out, unsigned count, unsigned tree) MUST_CHECK;

/* Without letting the lock go. */
void pages_drop(struct store *s, uint64_t block); /* nothing needs it any more */
/* By position in the slab, units that only the durable root needs. To be freed; good while the lock is held. */
uint32_t *pages_doomed(const struct store *s);
uint64_t pages_room(const struct store *s); /* blocks that pages of the table find */
/* A metaslab of the table holds few live pages: with nothing else to be gained, a step makes it EMPTY. */
bool pages_wasteful(const struct store *s);

#endif
