/* SPDX-License-Identifier: Apache-2.0 */
#include "store/back.h"

#include "store/place.h"
#include "store/room.h"

enum {
	AHEAD_BYTES = 16 << 20,
	LEAD_BYTES = 4 << 20, /* so much of it is prepared while flushes come; the rest when nobody writes */
	CLEANED_SHARE = 75,   /* percent of live units below which a metaslab is cleaned to be given */
	OFTEN_BLOCKS = 64, /* written between two flushes: with fewer, what a flush takes is what users wait for */
	PIECE_BLOCKS = 64, /* prepared at a time: a flush that meets more has to wait for as long as that takes */
	SPARED = 2,        /* EMPTY ones beyond those kept back that stay, however full the host */
};

static bool host_is_full(const struct store *s)
{
	return atomic_load(&s->config.vdev->is_full);
}

static uint64_t metaslab_bytes(const struct store *s)
{
	return (uint64_t)s->config.metaslab_blocks << BLOCK_SHIFT;
}

static uint64_t metaslab_offset(const struct store *s, uint32_t index)
{
	return metaslab_block(s, index) << BLOCK_SHIFT;
}

/* -- getting a place -- */

/* Metaslabs that should be EMPTY beyond those kept back. */
static uint32_t ahead(const struct store *s)
{
	return host_is_full(s) ? 0 : MAX_OF((uint32_t)(AHEAD_BYTES / metaslab_bytes(s)), 2u);
}

static bool wants_more(const struct store *s, uint32_t more)
{
	return space_raw(&s->space) && (space_empty(&s->space) < room_kept(s, USER_WRITE) + more ||
					!room_fits(s, MAX_OF(more * s->config.metaslab_blocks, 1u)));
}

static bool flushes_often(const struct store *s)
{
	uint64_t written = s->counters.written_blocks - s->backing.written_at_back;
	return s->log.flushes - s->backing.flushes_at_back > written / OFTEN_BLOCKS;
}

/* Is there an EMPTY one beyond those kept back and so many more, and would what is held fit without it? */
static bool can_spare(const struct store *s, uint32_t more)
{
	return space_empty(&s->space) > room_kept(s, USER_WRITE) + more &&
	       room_fits_in(s, 0, space_with_place(&s->space) - 1);
}

/* The EMPTY one that is taken soon and was never written: those who flush would wait for that. */
static uint32_t next_fresh(const struct store *s, uint32_t among)
{
	uint32_t index = space_next_fresh(&s->space, among);
	return index != SPACE_NONE && can_spare(s, 1) ? index : SPACE_NONE;
}

static uint32_t lead(const struct store *s)
{
	return MIN_OF(ahead(s), MAX_OF((uint32_t)(LEAD_BYTES / metaslab_bytes(s)), 2u));
}

/* Twice as fast as they are written. */
static bool should_prepare(const struct store *s)
{
	uint64_t written = s->counters.device_blocks - s->backing.device_at_prepare;
	return written >= PIECE_BLOCKS / 2 && flushes_often(s) && next_fresh(s, lead(s)) != SPACE_NONE;
}

/* Several places at a time, and not one by one: the file system notes them together. */
bool back_should_ahead(const struct store *s)
{
	uint64_t written = s->counters.written_blocks - s->backing.written_at_back;
	return (written >= s->config.metaslab_blocks / 8 && wants_more(s, ahead(s) / 2)) || should_prepare(s);
}

static int reserve(struct store *s, uint32_t index)
{
	space_pin(&s->space, index);
	store_unlock(s);
	int error = vdev_reserve(s->config.vdev, metaslab_offset(s, index), metaslab_bytes(s));
	store_lock(s);
	space_unpin(&s->space, index);
	if (error)
		space_bare(&s->space, index);
	else
		space_backed(&s->space, index, true);
	store_changed(s);
	return error;
}

/* The host is about to get something, so it may have something. */
static void wait_for_given(struct store *s)
{
	for (uint64_t before = s->backing.given; s->backing.giving && s->backing.given == before;)
		store_wait(s);
}

/* Once each of those that may have a place already was tried, one that has none tells for all. */
int back_one(struct store *s)
{
	while (space_raw(&s->space)) {
		uint32_t index = space_next_raw(&s->space);
		if (index == SPACE_NONE) { /* others are at it */
			store_wait(s);
			return 0;
		}
		bool last = space_find(&s->space, index)->bare;
		int error = reserve(s, index);
		if (!error || (last && !s->backing.giving))
			return error;
		if (last) {
			wait_for_given(s);
			return 0;
		}
	}
	return -LCPFS_E_NOSPC;
}

void back_least(struct store *s)
{
	while (space_raw(&s->space) && space_empty(&s->space) <= room_kept(s, USER_WRITE) && back_one(s) == 0)
		;
}

/* A piece of it. Nobody takes it meanwhile; who takes it before its last piece takes it as it is. */
static void prepare(struct store *s, uint32_t index)
{
	uint64_t bytes = MIN_OF(metaslab_bytes(s), (uint64_t)PIECE_BLOCKS << BLOCK_SHIFT);
	uint64_t at = s->backing.prepared_of == index ? s->backing.prepared_bytes : 0;
	space_bare(&s->space, index);
	space_pin(&s->space, index);
	store_unlock(s);
	vdev_prepare(s->config.vdev, metaslab_offset(s, index) + at, bytes);
	store_lock(s);
	space_unpin(&s->space, index);
	space_backed(&s->space, index, at + bytes < metaslab_bytes(s));
	s->backing.device_at_prepare = s->counters.device_blocks;
	s->backing.prepared_of = index;
	s->backing.prepared_bytes = (at + bytes) % metaslab_bytes(s);
	store_changed(s);
}

int back_ahead(struct store *s)
{
	int done = 0;
	bool more = wants_more(s, ahead(s) / 2), prepares = should_prepare(s);
	for (uint32_t left = ahead(s) + 1; more && left-- && wants_more(s, ahead(s)) && back_one(s) == 0;)
		done = 1;
	uint32_t index = prepares ? next_fresh(s, lead(s)) : SPACE_NONE;
	if (index != SPACE_NONE) {
		prepare(s, index);
		done = 1;
	}
	s->backing.written_at_back = s->counters.written_blocks;
	s->backing.flushes_at_back = s->log.flushes;
	return done;
}

/* Once for those who have flushed since: the next of them finds it. Others would only write everything twice. */
int back_idly(struct store *s)
{
	uint32_t index = s->backing.was_waited_for ? next_fresh(s, ahead(s)) : SPACE_NONE;
	if (index != SPACE_NONE)
		prepare(s, index);
	else
		s->backing.was_waited_for = false;
	return index != SPACE_NONE;
}

/* -- giving it back -- */

static bool has_surplus(const struct store *s)
{
	return atomic_load(&s->config.vdev->was_full) && vdev_is_sparse(s->config.vdev) && can_spare(s, SPARED);
}

uint32_t back_give(struct store *s)
{
	uint32_t given = 0;
	for (; has_surplus(s); given++) {
		uint32_t index = indexset_last(&s->space.empty);
		space_bare(&s->space, index);
		space_pin(&s->space, index);
		s->backing.giving++;
		store_unlock(s);
		(void)!vdev_discard(s->config.vdev, metaslab_offset(s, index), metaslab_bytes(s));
		store_lock(s);
		s->backing.giving--;
		s->backing.given++;
		space_unpin(&s->space, index);
		store_changed(s);
	}
	return given;
}

bool back_has_trimmed(const struct store *s)
{
	return s->counters.trimmed_blocks - s->backing.trimmed_at_give >= s->config.metaslab_blocks;
}

struct metaslab *back_victim(const struct store *s)
{
	return s->backing.cleaning ? space_sparse_victim(&s->space, CLEANED_SHARE) : NULL;
}

bool back_should_give(const struct store *s)
{
	if (back_victim(s))
		return true;
	if (back_has_trimmed(s) && atomic_load(&s->config.vdev->was_full))
		return s->space.in_state[SPACE_SPENT] || has_surplus(s);
	return host_is_full(s) && has_surplus(s);
}
