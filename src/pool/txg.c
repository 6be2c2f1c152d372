/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Pool pages and pool transactions.
 *
 * On disk: two areas hold the same blocks. Every pool page has two slots in each; the current uberblock's slot map
 * says which of the two is meant. The current uberblock is the valid one with the highest txg among both areas'
 * rings.
 *
 * A transaction writes each changed page to the slot that is not current, in both areas; flushes; writes the
 * uberblock txg + 1, with those slots flipped, to ring place (txg + 1) % 8 in both areas; flushes. A crash before
 * the last step leaves every current page untouched, one during it leaves the old or the new uberblock valid. So a
 * transaction happens wholly or not at all.
 *
 * When pages could not be written, nothing has happened: the slots written are not current, the next transaction
 * writes them again. When the uberblock could not be written or flushed, the device may hold either state. The
 * pool is then suspended: no more transactions until it is opened anew, which settles it by writing what it reads.
 *
 * All memory that a transaction needs is there before it begins to write.
 *
 * While a pool is open for writing its uberblock says so. That flag is changed in place, within the first sector
 * (which has the checksum too), so it cannot tear. It tells a torn uberblock, which a crash may leave, from a
 * damaged one.
 *
 * Everything here runs with the pool's lock.
 */
#include <inttypes.h>
#include <stdlib.h>
#include <string.h>

#include "pool/core.h"

static unsigned slot_of(const struct fmt_uberblock *u, uint32_t page)
{
	return u->slot_map[page / 8] >> page % 8 & 1;
}

static uint64_t ring_block(const struct layout *l, unsigned copy, uint64_t place)
{
	return layout_area_block(l, copy, AREA_UBERBLOCKS + place % UBERBLOCK_SLOTS);
}

static struct vdev_io block_io(enum vdev_op op, uint64_t block, void *buffer)
{
	return (struct vdev_io){.op = op, .offset = block * BLOCK_SIZE, .buffer = buffer, .length = BLOCK_SIZE};
}

/* -- transactions -- */

void txg_begin(struct lcpfs_pool *pool, struct txg *txg)
{
	*txg = (struct txg){.pool = pool, .uberblock = pool->uberblock};
}

void txg_abort(struct txg *txg)
{
	for (uint32_t i = 0; i < txg->count; i++)
		free(txg->list[i].block);
	free(txg->list);
	free(txg->ios);
	*txg = (struct txg){0};
}

static bool make_room(struct txg *txg)
{
	uint32_t room = txg->room ? txg->room * 2 : 8;
	if (txg->count < txg->room)
		return true;
	struct txg_page *list = realloc(txg->list, room * sizeof(*list));
	if (!list)
		return false;
	txg->list = list;
	struct vdev_io *ios = realloc(txg->ios, (size_t)room * COPIES * sizeof(*ios));
	if (!ios)
		return false;
	txg->ios = ios;
	txg->room = room;
	return true;
}

void *txg_change(struct txg *txg, uint32_t page)
{
	CHECK(page < layout_page_count(&txg->pool->layout));
	for (uint32_t i = 0; i < txg->count; i++) {
		if (txg->list[i].page == page)
			return txg->list[i].block;
	}
	uint8_t *block = malloc(BLOCK_SIZE);
	if (!block || !make_room(txg)) {
		free(block);
		txg->error = -LCPFS_E_NOMEM;
		return txg->pool->scratch;
	}
	memcpy(block, txg_current(txg->pool, page), BLOCK_SIZE);
	txg->list[txg->count++] = (struct txg_page){page, block};
	return block;
}

static void seal_page(struct txg *txg, const struct txg_page *p, uint64_t number)
{
	struct fmt_pool_page *page = (struct fmt_pool_page *)p->block;
	const struct layout *l = &txg->pool->layout;
	page->txg = le64_of(number);
	page->page = le32_of(p->page);
	fmt_seal(page, layout_page_kind(l, p->page), l->guid, le32_get(page->head.partition),
		 le32_get(page->head.count));
}

static int write_pages(struct txg *txg)
{
	struct lcpfs_pool *pool = txg->pool;
	uint64_t number = le64_get(pool->uberblock.txg) + 1;
	unsigned count = 0;
	for (uint32_t i = 0; i < txg->count; i++) {
		const struct txg_page *p = &txg->list[i];
		unsigned slot = !slot_of(&pool->uberblock, p->page);
		seal_page(txg, p, number);
		for (unsigned copy = 0; copy < COPIES; copy++)
			txg->ios[count++] = block_io(
				VDEV_WRITE, layout_page_block(&pool->layout, copy, p->page, slot), p->block);
	}
	int error = vdev_submit(pool->vdev, txg->ios, count);
	return error ? error : vdev_flush(pool->vdev);
}

static int write_uberblock(struct lcpfs_pool *pool, struct fmt_uberblock *u)
{
	uint64_t txg = le64_get(u->txg);
	struct vdev_io ios[COPIES];
	fmt_seal(u, FMT_UBERBLOCK, pool->layout.guid, 0, 0);
	for (unsigned copy = 0; copy < COPIES; copy++)
		ios[copy] = block_io(VDEV_WRITE, ring_block(&pool->layout, copy, txg), u);
	int error = vdev_submit(pool->vdev, ios, COPIES);
	return error ? error : vdev_flush(pool->vdev);
}

static void fill_uberblock(struct txg *txg)
{
	struct fmt_uberblock *u = &txg->uberblock;
	const struct clock *clock = &txg->pool->clock;
	u->txg = le64_of(le64_get(u->txg) + 1);
	u->time_s = le64_of(clock->wall_s(clock->context));
	for (uint32_t i = 0; i < txg->count; i++)
		u->slot_map[txg->list[i].page / 8] ^= (uint8_t)(1u << txg->list[i].page % 8);
}

int txg_write(struct txg *txg, struct lcpfs_failure *failure)
{
	struct lcpfs_pool *pool = txg->pool;
	if (txg->error)
		return failure_set(failure, (enum lcpfs_error) - txg->error,
				   "%s: out of memory; nothing was changed", pool->device->name);
	int error = write_pages(txg);
	if (error)
		return failure_set(failure, (enum lcpfs_error) - error,
				   "%s: writing the pool's metadata failed: %s; "
				   "nothing was changed",
				   pool->device->name, lcpfs_error_sentence(error));
	fill_uberblock(txg);
	error = write_uberblock(pool, &txg->uberblock);
	if (!error)
		return 0;
	pool->suspended = true;
	return failure_set(failure, (enum lcpfs_error) - error,
			   "%s: writing the uberblock failed: %s; open the pool anew "
			   "to see whether the change was made",
			   pool->device->name, lcpfs_error_sentence(error));
}

int txg_refuse(const struct lcpfs_pool *pool, struct lcpfs_failure *failure)
{
	if (pool->options.read_only)
		return failure_set(failure, LCPFS_E_READ_ONLY, "%s is open read-only", pool->device->name);
	return txg_refuse_trying(pool, failure);
}

int txg_refuse_trying(const struct lcpfs_pool *pool, struct lcpfs_failure *failure)
{
	if (pool->suspended)
		return failure_set(failure, LCPFS_E_FAULTED,
				   "%s: an earlier write of the pool's metadata failed; open "
				   "the pool anew",
				   pool->device->name);
	return 0;
}

int txg_mark_open(struct lcpfs_pool *pool, bool open)
{
	struct fmt_uberblock u = pool->uberblock;
	u.open = le32_of(open);
	int error = write_uberblock(pool, &u);
	if (error)
		pool->suspended = true;
	else
		pool->uberblock = u;
	return error;
}

/* -- reading uberblocks -- */

struct ring {
	struct fmt_uberblock block[COPIES][UBERBLOCK_SLOTS];
	enum fmt_verdict verdict[COPIES][UBERBLOCK_SLOTS];
	bool unread[UBERBLOCK_SLOTS]; /* the device did not give back one of the copies */
};

static bool uberblock_is_sane(const struct lcpfs_pool *pool, const struct fmt_uberblock *u, unsigned place)
{
	const uint64_t most = UINT64_C(1) << 62; /* nothing that counts gets there; so nothing overflows */
	return le64_get(u->txg) > 0 && le64_get(u->txg) < most && le64_get(u->txg) % UBERBLOCK_SLOTS == place &&
	       le64_get(u->history_next) < most && le32_get(u->page_count) == layout_page_count(&pool->layout) &&
	       le32_get(u->partition_next) > 0 && le32_get(u->tune_mode) <= LCPFS_ENGINE_ON;
}

static void read_ring(struct lcpfs_pool *pool, struct ring *ring)
{
	for (unsigned copy = 0; copy < COPIES; copy++) {
		for (unsigned i = 0; i < UBERBLOCK_SLOTS; i++) {
			struct fmt_uberblock *u = &ring->block[copy][i];
			struct vdev_io io = block_io(VDEV_READ, ring_block(&pool->layout, copy, i), u);
			enum fmt_verdict *verdict = &ring->verdict[copy][i];
			bool unread = vdev_submit(pool->vdev, &io, 1) != 0;
			ring->unread[i] = unread || (copy > 0 && ring->unread[i]);
			*verdict = unread ? FMT_DAMAGED : fmt_verify(u, FMT_UBERBLOCK, pool->layout.guid, 0);
			if (*verdict == FMT_GOOD && !uberblock_is_sane(pool, u, i))
				*verdict = FMT_DAMAGED;
		}
	}
}

static const struct fmt_uberblock *newest(const struct ring *ring)
{
	const struct fmt_uberblock *best = NULL;
	for (unsigned i = 0; i < COPIES * UBERBLOCK_SLOTS; i++) {
		const struct fmt_uberblock *u = &ring->block[i / UBERBLOCK_SLOTS][i % UBERBLOCK_SLOTS];
		bool good = ring->verdict[i / UBERBLOCK_SLOTS][i % UBERBLOCK_SLOTS] == FMT_GOOD;
		if (good && (!best || le64_get(u->txg) > le64_get(best->txg)))
			best = u;
	}
	return best;
}

static bool same(const struct fmt_uberblock *a, const struct fmt_uberblock *b)
{
	struct fmt_uberblock x = *a, y = *b;
	/* The flag is written to both copies in one go; a crash may leave them apart in it. */
	x.open = y.open = le32_of(0);
	x.head.checksum = y.head.checksum = le64_of(0);
	return memcmp(&x, &y, sizeof(x)) == 0;
}

/* A crash may have cut off the write of this ring place: of the next txg, or of the current one's second copy. */
static bool may_be_torn(const struct lcpfs_pool *pool, unsigned place)
{
	uint64_t txg = le64_get(pool->uberblock.txg);
	return pool->was_open && (place == txg % UBERBLOCK_SLOTS || place == (txg + 1) % UBERBLOCK_SLOTS);
}

/* What both copies of a ring place should hold: the current uberblock, else the good one, else nothing. */
static const void *wanted_in(const struct lcpfs_pool *pool, const struct ring *ring, unsigned place)
{
	static const struct fmt_uberblock blank;
	if (place == le64_get(pool->uberblock.txg) % UBERBLOCK_SLOTS)
		return &pool->uberblock;
	for (unsigned copy = 0; copy < COPIES; copy++) {
		if (ring->verdict[copy][place] == FMT_GOOD)
			return &ring->block[copy][place];
	}
	return &blank;
}

static void verify_place(struct lcpfs_pool *pool, const struct ring *ring, unsigned place, struct report *report)
{
	const void *wanted = wanted_in(pool, ring, place);
	for (unsigned copy = 0; copy < COPIES; copy++) {
		uint64_t block = ring_block(&pool->layout, copy, place);
		struct vdev_io io = block_io(VDEV_WRITE, block, (void *)wanted);
		enum fmt_verdict verdict = ring->verdict[copy][place];
		report->checked_blocks++;
		if (same(wanted, &ring->block[copy][place]) && (verdict == FMT_GOOD || verdict == FMT_BLANK))
			continue;
		bool repaired = report->repair && !vdev_submit(pool->vdev, &io, 1);
		if (!may_be_torn(pool, place))
			report_found(report, block, repaired, "uberblock ring place %u, copy %u: %s", place, copy,
				     verdict == FMT_GOOD ? "older than the other copy"
							 : fmt_verdict_text(verdict));
	}
}

int txg_verify_uberblocks(struct lcpfs_pool *pool, struct report *report)
{
	struct ring *ring = malloc(sizeof(*ring));
	if (!ring)
		return -LCPFS_E_NOMEM;
	read_ring(pool, ring);
	for (unsigned i = 0; i < UBERBLOCK_SLOTS; i++)
		verify_place(pool, ring, i, report);
	free(ring);
	return 0;
}

/* The pool is closed as soon as one copy of the newest says so: closing writes nothing else. */
static bool is_marked_open(const struct ring *ring, const struct fmt_uberblock *newest)
{
	unsigned place = le64_get(newest->txg) % UBERBLOCK_SLOTS;
	for (unsigned copy = 0; copy < COPIES; copy++) {
		const struct fmt_uberblock *u = &ring->block[copy][place];
		if (ring->verdict[copy][place] == FMT_GOOD && same(u, newest) && !le32_get(u->open))
			return false;
	}
	return true;
}

/* The newest may be where nothing could be read: going on from an older one would write over it. */
static bool may_be_unread(const struct ring *ring)
{
	for (unsigned i = 0; i < UBERBLOCK_SLOTS; i++) {
		if (ring->unread[i] && ring->verdict[0][i] != FMT_GOOD && ring->verdict[1][i] != FMT_GOOD)
			return true;
	}
	return false;
}

static int load_uberblock(struct lcpfs_pool *pool, struct lcpfs_failure *failure)
{
	struct ring *ring = malloc(sizeof(*ring));
	if (!ring)
		return failure_set(failure, LCPFS_E_NOMEM, "%s: out of memory", pool->device->name);
	read_ring(pool, ring);
	const struct fmt_uberblock *u = newest(ring);
	bool unread = may_be_unread(ring);
	if (u) {
		pool->uberblock = *u;
		pool->was_open = is_marked_open(ring, u);
		pool->read_errors = le64_get(u->read_errors);
	}
	free(ring);
	if (unread)
		return failure_set(failure, LCPFS_E_IO, "%s: both copies of an uberblock cannot be read",
				   pool->device->name);
	return u ? 0
		 : failure_set(failure, LCPFS_E_CORRUPT, "%s: all uberblocks of the pool are damaged",
			       pool->device->name);
}

/* -- reading pages -- */

/* A page of a later txg than the uberblock's cannot be current: it is what a lost flip left. */
static enum fmt_verdict page_verdict(const struct lcpfs_pool *pool, uint32_t number, const uint8_t *block)
{
	const struct fmt_pool_page *page = (const struct fmt_pool_page *)block;
	enum fmt_verdict verdict =
		fmt_verify(block, layout_page_kind(&pool->layout, number), pool->layout.guid, UINT32_MAX);
	if (verdict == FMT_GOOD &&
	    (le32_get(page->page) != number || le64_get(page->txg) > le64_get(pool->uberblock.txg)))
		return FMT_OTHER;
	return verdict;
}

static uint64_t page_txg(const uint8_t *block)
{
	return le64_get(((const struct fmt_pool_page *)block)->txg);
}

struct page_copies {
	uint8_t block[COPIES][BLOCK_SIZE];
	enum fmt_verdict verdict[COPIES];
	int best; /* the copy to believe, -1: none */
};

static void read_copies(struct lcpfs_pool *pool, uint32_t page, struct page_copies *copies)
{
	unsigned slot = slot_of(&pool->uberblock, page);
	struct vdev_io ios[COPIES];
	for (unsigned copy = 0; copy < COPIES; copy++)
		ios[copy] = block_io(VDEV_READ, layout_page_block(&pool->layout, copy, page, slot),
				     copies->block[copy]);
	/* Each io has its own result: one bad copy is no failure. */
	if (vdev_submit(pool->vdev, ios, COPIES)) {
		for (unsigned copy = 0; copy < COPIES; copy++) {
			if (ios[copy].result)
				memset(copies->block[copy], 0, BLOCK_SIZE);
		}
	}
	copies->best = -1;
	for (unsigned copy = 0; copy < COPIES; copy++) {
		copies->verdict[copy] = page_verdict(pool, page, copies->block[copy]);
		if (copies->verdict[copy] == FMT_GOOD &&
		    (copies->best < 0 || page_txg(copies->block[copy]) > page_txg(copies->block[copies->best])))
			copies->best = (int)copy;
	}
}

/* Both copies should be as `wanted`; NULL: nobody knows what they should be. */
static void verify_copies(struct lcpfs_pool *pool, uint32_t page, const struct page_copies *copies,
			  const uint8_t *wanted, struct report *report)
{
	const char *kind = fmt_kind_text(layout_page_kind(&pool->layout, page));
	for (unsigned copy = 0; copy < COPIES; copy++) {
		uint64_t block = layout_page_block(&pool->layout, copy, page, slot_of(&pool->uberblock, page));
		struct vdev_io io = block_io(VDEV_WRITE, block, (void *)wanted);
		bool repaired = false;
		report->checked_blocks++;
		if (wanted && memcmp(wanted, copies->block[copy], BLOCK_SIZE) == 0)
			continue;
		if (wanted && report->repair)
			repaired = !vdev_submit(pool->vdev, &io, 1);
		report_found(report, block, repaired, "pool page %" PRIu32 " (%s), copy %u: %s", page, kind, copy,
			     copies->verdict[copy] == FMT_GOOD ? "older than the other copy"
							       : fmt_verdict_text(copies->verdict[copy]));
	}
}

static void load_page(struct lcpfs_pool *pool, uint32_t page, struct report *report)
{
	struct page_copies copies;
	read_copies(pool, page, &copies);
	const uint8_t *best = copies.best < 0 ? NULL : copies.block[copies.best];
	if (best)
		memcpy(txg_current(pool, page), best, BLOCK_SIZE);
	else
		memset(txg_current(pool, page), 0, BLOCK_SIZE);
	pool->lost[page] = !best;
	verify_copies(pool, page, &copies, best, report);
}

void txg_verify_page(struct lcpfs_pool *pool, uint32_t page, struct report *report)
{
	struct page_copies copies;
	read_copies(pool, page, &copies);
	verify_copies(pool, page, &copies, pool->lost[page] ? NULL : txg_current(pool, page), report);
}

int txg_load(struct lcpfs_pool *pool, struct report *report, struct lcpfs_failure *failure)
{
	int error = load_uberblock(pool, failure);
	if (error)
		return error;
	if (txg_verify_uberblocks(pool, report))
		return failure_set(failure, LCPFS_E_NOMEM, "%s: out of memory", pool->device->name);
	if (report->repair) {
		/* Settles which uberblock is current, whatever a failed flush or a crash left of it. */
		error = txg_mark_open(pool, true);
		if (error)
			failure_set(failure, (enum lcpfs_error) - error, "%s: the uberblock cannot be written",
				    pool->device->name);
	}
	for (uint32_t page = 0; !error && page < layout_page_count(&pool->layout); page++)
		load_page(pool, page, report);
	return error;
}
