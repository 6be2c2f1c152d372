/* SPDX-License-Identifier: Apache-2.0 */
/*
 * On a sparse vdev: metaslabs get a place behind them before they are used, and give it back while the host is
 * full.
 *
 * The log only ever writes into metaslabs that are backed, so it never meets a full host in the middle of
 * anything. All that is promised counts on backed ones only: a new block is taken in when they can hold it, and
 * those that are kept back for a checkpoint, for cleaning and for a trim are among them. So a store whose host
 * is full is like a full one of the size that it has backed: what it holds can be overwritten, trimmed, cleaned,
 * closed and opened.
 *
 * A place is got a little ahead of the writers. While the host is full it is only asked for when it is needed,
 * and what is EMPTY beyond need goes back to the host. A host that has been full may have a little for the moment
 * and be full again in the next one: so what trims have emptied goes back there at any time.
 */
#include "store/internal.h"

enum {
	AHEAD_BYTES = 16 << 20,
	SPARED = 2, /* EMPTY ones beyond those kept back that stay, however full the host */
};

static bool host_is_full(const struct store *s)
{
	return atomic_load(&s->config.vdev->is_full);
}

/* Metaslabs that should be EMPTY beyond those kept back. */
static uint32_t ahead(const struct store *s)
{
	uint32_t metaslab_bytes = s->config.metaslab_blocks * BLOCK_SIZE;
	return host_is_full(s) ? 0 : MAX_OF((uint32_t)AHEAD_BYTES / metaslab_bytes, 2u);
}

bool room_wants_backing(const struct store *s)
{
	uint64_t more = MAX_OF((uint64_t)ahead(s) * s->config.metaslab_blocks, (uint64_t)1);
	return s->space.raw &&
	       (s->space.empty < room_kept(s) + ahead(s) || room_live(s) + more > room_capacity(s));
}

bool room_should_back(const struct store *s)
{
	uint64_t written = s->counters.written_blocks - s->written_at_back;
	return written >= s->config.metaslab_blocks / 8 && room_wants_backing(s);
}

static uint64_t metaslab_offset(const struct store *s, uint32_t index)
{
	return space_first_block(&s->space, index) << BLOCK_SHIFT;
}

static uint64_t metaslab_bytes(const struct store *s)
{
	return (uint64_t)s->config.metaslab_blocks << BLOCK_SHIFT;
}

/* Drops the lock. */
static int back_one(struct store *s, uint32_t index)
{
	space_find(&s->space, index)->pinned = true;
	store_drop(s);
	int error = vdev_reserve(s->config.vdev, metaslab_offset(s, index), metaslab_bytes(s));
	store_lock(s);
	struct metaslab *m = space_find(&s->space, index);
	m->pinned = false;
	if (error)
		m->bare = true;
	else
		space_set_state(&s->space, m, METASLAB_EMPTY);
	pthread_cond_broadcast(&s->changed);
	return error;
}

static int wait_for_others(struct store *s)
{
	s->drops++;
	pthread_cond_wait(&s->changed, &s->lock);
	return 0;
}

/* The host is about to get something, so it may have something. */
static int wait_for_given(struct store *s)
{
	for (uint64_t before = s->given; s->giving && s->given == before;)
		wait_for_others(s);
	return 0;
}

/* Once each of those that may have a place already was tried, one that has none tells for all. */
int room_back(struct store *s)
{
	while (s->space.raw) {
		const struct metaslab *m = space_next_raw(&s->space);
		if (!m)
			return wait_for_others(s);
		bool last = m->bare;
		int error = back_one(s, m->index);
		if (!error || (last && !s->giving))
			return error;
		if (last)
			return wait_for_given(s);
	}
	return -LCPFS_E_NOSPC;
}

int room_back_ahead(struct store *s)
{
	int done = 0;
	s->written_at_back = s->counters.written_blocks;
	for (uint32_t left = ahead(s) + 1; left-- && room_wants_backing(s) && room_back(s) == 0;)
		done = 1;
	return done;
}

/* -- opening -- */

static bool head_has_place(struct store *s, const struct head *h)
{
	return h->metaslab == NO_METASLAB ||
	       vdev_reserve(s->config.vdev, metaslab_offset(s, h->metaslab), metaslab_bytes(s)) == 0;
}

static void move_head(struct store *s, struct head *h)
{
	struct metaslab *from = space_find(&s->space, h->metaslab);
	space_set_state(&s->space, from, METASLAB_CLOSED);
	from->held = true; /* the root still looks for records there */
	*h = (struct head){.metaslab = space_take(&s->space)->index};
}

bool room_back_heads(struct store *s)
{
	bool stuck[LOG_HEADS];
	uint32_t count = 0;
	store_lock(s);
	for (unsigned i = 0; i < LOG_HEADS; i++)
		count += stuck[i] = !head_has_place(s, &s->head[i]);
	while (count && s->space.empty < room_for_all_pages(s) + count && room_back(s) == 0)
		;
	bool moves = count && s->space.empty >= room_for_all_pages(s) + count;
	for (unsigned i = 0; i < LOG_HEADS && moves; i++) {
		if (stuck[i])
			move_head(s, &s->head[i]);
	}
	store_unlock(s);
	return moves;
}

/* -- giving it back -- */

static bool has_surplus(const struct store *s)
{
	return atomic_load(&s->config.vdev->was_full) && vdev_is_sparse(s->config.vdev) &&
	       s->space.empty > room_kept(s) + ahead(s) + SPARED && room_live(s) <= room_capacity_without_one(s);
}

uint32_t room_give_back(struct store *s)
{
	uint32_t given = 0;
	while (has_surplus(s)) {
		struct metaslab *m = space_last(&s->space, METASLAB_EMPTY);
		uint32_t index = m->index;
		space_set_state(&s->space, m, METASLAB_RAW);
		m->pinned = true;
		s->giving++;
		store_drop(s);
		(void)!vdev_discard(s->config.vdev, metaslab_offset(s, index), metaslab_bytes(s));
		store_lock(s);
		s->giving--;
		s->given++;
		m = space_find(&s->space, index);
		m->pinned = false;
		m->bare = true;
		given++;
		pthread_cond_broadcast(&s->changed);
	}
	return given;
}

/*
 * What a trim has emptied is EMPTY when a checkpoint is done. It is worth one when there is a metaslab to be
 * had.
 */
bool room_should_give_back(const struct store *s)
{
	if (!atomic_load(&s->config.vdev->was_full))
		return false;
	if (s->counters.trimmed_blocks - s->trimmed_at_give < s->config.metaslab_blocks)
		return host_is_full(s) && has_surplus(s);
	for (uint32_t i = 0; i < s->space.count; i++) {
		const struct metaslab *m = &s->space.slab[i];
		if (m->state == METASLAB_CLOSED && m->live == 0)
			return true;
	}
	return has_surplus(s);
}

int room_empty_and_give_back(struct store *s)
{
	store_lock(s);
	uint64_t trimmed = s->counters.trimmed_blocks;
	bool enough = trimmed - s->trimmed_at_give >= s->config.metaslab_blocks;
	store_unlock(s);
	int error = enough ? checkpoint_write(s) : 0;
	store_lock(s);
	if (enough)
		s->trimmed_at_give = trimmed;
	uint32_t given = room_give_back(s);
	store_unlock(s);
	return error ? error : given > 0;
}
