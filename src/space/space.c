/* SPDX-License-Identifier: Apache-2.0 */
#include "space/space.h"

#include <stdlib.h>
#include <string.h>

#include "base/check.h"

enum { LIFESPAN_SAMPLES = 16 }; /* metaslabs of CLASS_HOT whose lives are averaged; 16 in SepBIT */

/* -- heaps -- */

static uint64_t key_last(const struct metaslab *m)
{
	return m->last;
}
static uint64_t key_born(const struct metaslab *m)
{
	return m->born;
}
static uint64_t key_live(const struct metaslab *m)
{
	return m->live;
}

typedef uint64_t heap_key(const struct metaslab *m);

static struct metaslab *at_slot(const struct space *s, uint32_t index)
{
	return &s->slab[s->slot[index] - 1];
}

static unsigned rank_of(const struct space *s, uint32_t index)
{
	return index == SPACE_NONE ? 0 : at_slot(s, index)->rank;
}

static void set_children(struct space *s, struct metaslab *m, uint32_t left, uint32_t right)
{
	bool swap = rank_of(s, left) < rank_of(s, right);
	m->left = swap ? right : left;
	m->right = swap ? left : right;
	m->rank = (uint8_t)(rank_of(s, m->right) + 1);
	if (left != SPACE_NONE)
		at_slot(s, left)->parent = m->index;
	if (right != SPACE_NONE)
		at_slot(s, right)->parent = m->index;
}

/* Along the ways down to the right, which are short. */
static uint32_t merge(struct space *s, uint32_t a, uint32_t b, heap_key *key)
{
	if (a == SPACE_NONE || b == SPACE_NONE)
		return a == SPACE_NONE ? b : a;
	if (key(at_slot(s, b)) < key(at_slot(s, a))) {
		uint32_t t = a;
		a = b;
		b = t;
	}
	struct metaslab *m = at_slot(s, a);
	set_children(s, m, m->left, merge(s, m->right, b, key));
	return a;
}

static void set_top(struct space *s, struct space_heap *h, uint32_t top)
{
	h->top = top;
	if (top != SPACE_NONE)
		at_slot(s, top)->parent = SPACE_NONE;
}

static void heap_add(struct space *s, struct space_heap *h, struct metaslab *m, heap_key *key)
{
	m->left = m->right = SPACE_NONE;
	m->rank = 1;
	set_top(s, h, merge(s, h->top, m->index, key));
	h->count++;
}

/* Its children take its place; above, ranks are put right for as far as they change. */
static void heap_take(struct space *s, struct space_heap *h, struct metaslab *m, heap_key *key)
{
	uint32_t parent = m->parent, child = merge(s, m->left, m->right, key);
	CHECK(h->count && (parent != SPACE_NONE || h->top == m->index));
	h->count--;
	if (parent == SPACE_NONE) {
		set_top(s, h, child);
		return;
	}
	struct metaslab *p = at_slot(s, parent);
	uint32_t other = p->left == m->index ? p->right : p->left;
	for (;;) {
		uint8_t rank = p->rank;
		set_children(s, p, other, child);
		if (p->rank == rank || p->parent == SPACE_NONE)
			return;
		child = p->index;
		p = at_slot(s, p->parent);
		other = p->left == child ? p->right : p->left;
	}
}

/* -- lists -- */

static void list_add(struct space *s, struct space_list *l, struct metaslab *m)
{
	m->left = l->last;
	m->right = SPACE_NONE;
	if (l->last == SPACE_NONE)
		l->first = m->index;
	else
		at_slot(s, l->last)->right = m->index;
	l->last = m->index;
	l->count++;
}

static void list_take(struct space *s, struct space_list *l, struct metaslab *m)
{
	if (m->left == SPACE_NONE)
		l->first = m->right;
	else
		at_slot(s, m->left)->right = m->right;
	if (m->right == SPACE_NONE)
		l->last = m->left;
	else
		at_slot(s, m->right)->left = m->left;
	l->count--;
}

/* -- where a metaslab is kept, by what it is -- */

static unsigned bucket_of(const struct space *s, const struct metaslab *m)
{
	return (unsigned)((uint64_t)m->live * SPACE_BUCKETS / (s->units + 1));
}

static bool is_young(const struct space *s, const struct metaslab *m)
{
	return m->last > s->redo;
}

/* Off the list that its state, stage, class and live units put it on. */
static void unfile(struct space *s, struct metaslab *m)
{
	s->in_state[m->state]--;
	if (m->state == SPACE_OPEN || m->state == SPACE_CLOSED)
		s->in_class[m->class]--;
	if (m->state == SPACE_RAW && !m->pins)
		indexset_remove(m->bare ? &s->bare : &s->raw, m->index);
	else if (m->state == SPACE_EMPTY)
		indexset_remove(&s->empty, m->index);
	else if (m->state == SPACE_CLOSED && m->class == CLASS_TABLE)
		heap_take(s, &s->table, m, key_live);
	else if (m->state == SPACE_CLOSED && is_young(s, m))
		heap_take(s, &s->young, m, key_last);
	else if (m->state == SPACE_CLOSED && !m->barren)
		heap_take(s, &s->bucket[bucket_of(s, m)], m, key_born);
	else if (m->state == SPACE_SPENT && m->stage == STAGE_LOGGED)
		heap_take(s, &s->logged, m, key_last);
	else if (m->state == SPACE_SPENT)
		list_take(s, &s->spent[m->stage], m);
}

static void file(struct space *s, struct metaslab *m)
{
	s->in_state[m->state]++;
	if (m->state == SPACE_OPEN || m->state == SPACE_CLOSED)
		s->in_class[m->class]++;
	if (m->state == SPACE_RAW && !m->pins)
		indexset_add(m->bare ? &s->bare : &s->raw, m->index);
	else if (m->state == SPACE_EMPTY)
		indexset_add(&s->empty, m->index);
	else if (m->state == SPACE_CLOSED && m->class == CLASS_TABLE)
		heap_add(s, &s->table, m, key_live);
	else if (m->state == SPACE_CLOSED && is_young(s, m))
		heap_add(s, &s->young, m, key_last);
	else if (m->state == SPACE_CLOSED && !m->barren)
		heap_add(s, &s->bucket[bucket_of(s, m)], m, key_born);
	else if (m->state == SPACE_SPENT && m->stage == STAGE_LOGGED)
		heap_add(s, &s->logged, m, key_last);
	else if (m->state == SPACE_SPENT)
		list_add(s, &s->spent[m->stage], m);
}

static void become(struct space *s, struct metaslab *m, enum space_state state)
{
	unfile(s, m);
	m->state = (uint8_t)state;
	file(s, m);
}

/* Before the first record there is nothing to wait for; and what that one holds waits for the redo point. */
static uint64_t durable(const struct space *s)
{
	return MAX_OF(s->durable, (uint64_t)1);
}

static void become_empty(struct space *s, struct metaslab *m)
{
	CHECK(m->live == 0 && m->pins == 0);
	CHECK(m->class == CLASS_TABLE || (m->emptied && m->emptied <= durable(s) && m->last <= s->redo)); /* S4 */
	s->bare_spent -= m->bare;
	become(s, m, m->bare ? SPACE_RAW : SPACE_EMPTY);
	m->barren = m->fresh = false;
	m->first = m->last = m->emptied = 0;
}

static void become_stage(struct space *s, struct metaslab *m, enum space_stage stage)
{
	unfile(s, m);
	m->stage = (uint8_t)stage;
	file(s, m);
}

static void note_lifespan(struct space *s, const struct metaslab *m)
{
	if (m->class != CLASS_HOT || s->now < m->born)
		return;
	s->lifespan.sum += s->now - m->born;
	if (++s->lifespan.seen < LIFESPAN_SAMPLES)
		return;
	s->lifespan.known = s->lifespan.sum / s->lifespan.seen + 1;
	s->lifespan.sum = s->lifespan.seen = 0;
}

/* The last unit of a CLOSED one is gone. */
static void become_spent(struct space *s, struct metaslab *m)
{
	note_lifespan(s, m);
	unfile(s, m);
	m->state = SPACE_SPENT;
	m->emptied = 0;
	m->stage = m->class == CLASS_TABLE ? STAGE_PINNED : STAGE_UNSEALED;
	file(s, m);
	if (m->class == CLASS_TABLE && !m->pins)
		become_empty(s, m);
}

/* Flushed: on to the next stage that holds it. */
static void settle(struct space *s, struct metaslab *m)
{
	if (m->last > s->redo)
		become_stage(s, m, STAGE_LOGGED);
	else if (m->pins)
		become_stage(s, m, STAGE_PINNED);
	else
		become_empty(s, m);
}

/* -- making -- */

int space_init(struct space *s, uint32_t pool_count, uint32_t units, uint32_t usable)
{
	*s = (struct space){.units = units, .usable = usable, .pool_count = pool_count};
	for (unsigned i = 0; i < SPACE_STAGES; i++)
		s->spent[i] = (struct space_list){SPACE_NONE, SPACE_NONE, 0};
	for (unsigned i = 0; i < SPACE_BUCKETS; i++)
		s->bucket[i].top = SPACE_NONE;
	s->young.top = s->table.top = s->logged.top = SPACE_NONE;
	s->slot = calloc(MAX_OF(pool_count, 1u), sizeof(*s->slot));
	int error = s->slot ? indexset_init(&s->empty, pool_count) : -LCPFS_E_NOMEM;
	if (!error)
		error = indexset_init(&s->raw, pool_count);
	if (!error)
		error = indexset_init(&s->bare, pool_count);
	if (error)
		space_free(s);
	return error;
}

void space_free(struct space *s)
{
	free(s->slab);
	free(s->slot);
	indexset_free(&s->empty);
	indexset_free(&s->raw);
	indexset_free(&s->bare);
	*s = (struct space){0};
}

static int grow_slab(struct space *s)
{
	uint32_t room = s->room ? 2 * s->room : 16;
	struct metaslab *slab = realloc(s->slab, room * sizeof(*slab));
	if (!slab)
		return -LCPFS_E_NOMEM;
	s->slab = slab;
	s->room = room;
	return 0;
}

int space_add(struct space *s, uint32_t index, bool raw)
{
	if (index >= s->pool_count)
		return -LCPFS_E_INVALID;
	if (s->slot[index])
		return -LCPFS_E_EXISTS;
	int error = s->count == s->room ? grow_slab(s) : 0;
	if (error)
		return error;
	struct metaslab *m = &s->slab[s->count++];
	*m = (struct metaslab){.index = index, .state = raw ? SPACE_RAW : SPACE_EMPTY};
	s->slot[index] = s->count;
	file(s, m);
	return 0;
}

static void take_off(struct space *s, struct metaslab *gone)
{
	uint32_t index = gone->index;
	unfile(s, gone);
	*gone = s->slab[--s->count];
	s->slot[gone->index] = (uint32_t)(gone - s->slab) + 1;
	s->slot[index] = 0;
}

void space_remove(struct space *s, uint32_t index)
{
	struct metaslab *gone = space_find(s, index);
	CHECK(gone && (gone->state == SPACE_RAW || gone->state == SPACE_EMPTY));
	take_off(s, gone);
}

bool space_forget(struct space *s, uint32_t index)
{
	struct metaslab *gone = space_find(s, index);
	CHECK(gone);
	if (gone->live)
		return false;
	take_off(s, gone);
	return true;
}

struct metaslab *space_find(const struct space *s, uint32_t index)
{
	return index < s->pool_count && s->slot[index] ? at_slot(s, index) : NULL;
}

void space_restore(struct space *s, uint32_t index, enum space_class class, uint32_t live, uint64_t last,
		   uint64_t born)
{
	struct metaslab *m = space_find(s, index);
	CHECK(m && (m->state == SPACE_EMPTY || m->state == SPACE_RAW) && live <= s->units);
	unfile(s, m);
	m->class = (uint8_t) class;
	m->live = live;
	m->last = last;
	m->born = born;
	m->state = SPACE_CLOSED;
	s->live[class] += live;
	file(s, m);
	if (!live)
		become_spent(s, m);
}

void space_seen(struct space *s, uint32_t index, enum space_class class, uint64_t seq, uint64_t born)
{
	struct metaslab *m = space_find(s, index);
	CHECK(m && m->state != SPACE_OPEN);
	unfile(s, m);
	if (m->state == SPACE_EMPTY || m->state == SPACE_RAW) {
		m->state = SPACE_SPENT;
		m->stage = STAGE_UNSEALED;
		m->class = (uint8_t) class;
		m->born = born;
	}
	m->last = MAX_OF(m->last, seq);
	file(s, m);
}

/* -- events -- */

void space_backed(struct space *s, uint32_t index, bool fresh)
{
	struct metaslab *m = space_find(s, index);
	CHECK(m && m->state == SPACE_RAW && !m->pins);
	unfile(s, m);
	m->state = SPACE_EMPTY;
	m->bare = false;
	m->fresh = fresh;
	file(s, m);
}

void space_bare(struct space *s, uint32_t index)
{
	struct metaslab *m = space_find(s, index);
	CHECK(m && !m->pins && (m->state == SPACE_RAW || m->state == SPACE_EMPTY || m->state == SPACE_SPENT));
	if (m->state == SPACE_SPENT) {
		s->bare_spent += !m->bare;
		m->bare = true;
		return;
	}
	unfile(s, m);
	m->state = SPACE_RAW;
	m->bare = true;
	file(s, m);
}

static void open_metaslab(struct space *s, struct metaslab *m, enum space_class class, uint64_t now)
{
	unfile(s, m);
	m->state = SPACE_OPEN;
	m->fresh = false;
	s->live[m->class] -= m->live; /* recovery may know better what it is filled with */
	m->class = (uint8_t) class;
	s->live[m->class] += m->live;
	m->born = now;
	m->barren = false;
	file(s, m);
	s->now = MAX_OF(s->now, now);
	s->cursor = m->index + 1;
}

/* The EMPTY one at or above `from`, and behind the last one the first. */
static uint32_t next_empty(const struct space *s, uint32_t from)
{
	uint32_t index = indexset_next(&s->empty, from);
	return index == INDEXSET_NONE ? indexset_next(&s->empty, 0) : index;
}

uint32_t space_next_fresh(const struct space *s, uint32_t among)
{
	uint32_t index = s->cursor;
	for (among = MIN_OF(among, space_empty(s)); among--; index++) {
		index = next_empty(s, index);
		if (at_slot(s, index)->fresh)
			return index;
	}
	return SPACE_NONE;
}

uint32_t space_take(struct space *s, enum space_class class, uint64_t now)
{
	uint32_t index = next_empty(s, s->cursor);
	if (index == INDEXSET_NONE)
		return SPACE_NONE;
	open_metaslab(s, at_slot(s, index), class, now);
	return index;
}

void space_take_this(struct space *s, uint32_t index, enum space_class class, uint64_t now)
{
	struct metaslab *m = space_find(s, index);
	CHECK(m && m->state != SPACE_OPEN);
	open_metaslab(s, m, class, now);
}

void space_recorded(struct space *s, uint32_t index, uint64_t seq)
{
	struct metaslab *m = space_find(s, index);
	CHECK(m && m->state == SPACE_OPEN && seq > m->last);
	if (!m->first)
		m->first = seq;
	m->last = seq;
}

void space_close(struct space *s, uint32_t index)
{
	struct metaslab *m = space_find(s, index);
	CHECK(m && m->state == SPACE_OPEN);
	become(s, m, SPACE_CLOSED);
	if (!m->live)
		become_spent(s, m);
}

static void change_live(struct space *s, struct metaslab *m, uint32_t live)
{
	s->live[m->class] += (uint64_t)live - m->live;
	if (m->state != SPACE_CLOSED) {
		CHECK(m->state == SPACE_OPEN);
		m->live = live;
		return;
	}
	/* What it is kept in may depend on that: only then it is filed anew. */
	struct metaslab changed = *m;
	changed.live = live;
	if (m->class != CLASS_TABLE &&
	    (is_young(s, m) || m->barren || bucket_of(s, m) == bucket_of(s, &changed))) {
		m->live = live;
	} else {
		unfile(s, m);
		m->live = live;
		file(s, m);
	}
	if (!live)
		become_spent(s, m);
}

void space_live_add(struct space *s, struct metaslab *m, uint32_t units)
{
	CHECK(units <= s->units - m->live);
	if (m->state == SPACE_SPENT) { /* only while it is rolled forward */
		unfile(s, m);
		m->state = SPACE_CLOSED;
		file(s, m);
	}
	change_live(s, m, m->live + units);
}

void space_live_sub(struct space *s, struct metaslab *m, uint32_t units)
{
	CHECK(units <= m->live);
	change_live(s, m, m->live - units);
}

void space_sealed(struct space *s, uint64_t seq)
{
	while (s->spent[STAGE_UNSEALED].count) {
		struct metaslab *m = at_slot(s, s->spent[STAGE_UNSEALED].first);
		become_stage(s, m, STAGE_UNFLUSHED);
		m->emptied = MAX_OF(seq, (uint64_t)1);
	}
	space_durable(s, s->durable);
}

void space_durable(struct space *s, uint64_t seq)
{
	s->durable = MAX_OF(s->durable, seq);
	while (s->spent[STAGE_UNFLUSHED].count) {
		struct metaslab *m = at_slot(s, s->spent[STAGE_UNFLUSHED].first);
		if (m->emptied > durable(s))
			return;
		settle(s, m);
	}
}

void space_rooted(struct space *s, uint64_t redo)
{
	CHECK(redo >= s->redo);
	struct metaslab *m;
	/* While they are filed, is_young has to say what it said before. */
	while ((m = space_find(s, s->young.top)) && m->last <= redo) {
		heap_take(s, &s->young, m, key_last);
		if (!m->barren)
			heap_add(s, &s->bucket[bucket_of(s, m)], m, key_born);
	}
	s->redo = redo;
	while ((m = space_find(s, s->logged.top)) && m->last <= redo)
		settle(s, m);
}

void space_pin(struct space *s, uint32_t index)
{
	struct metaslab *m = space_find(s, index);
	CHECK(m && m->pins < UINT16_MAX);
	bool raw = m->state == SPACE_RAW; /* these are filed by that, too */
	if (raw)
		unfile(s, m);
	m->pins++;
	if (raw)
		file(s, m);
}

void space_unpin(struct space *s, uint32_t index)
{
	struct metaslab *m = space_find(s, index);
	CHECK(m && m->pins > 0);
	bool raw = m->state == SPACE_RAW;
	if (raw)
		unfile(s, m);
	m->pins--;
	if (raw)
		file(s, m);
	if (m->pins == 0 && m->state == SPACE_SPENT && m->stage == STAGE_PINNED)
		become_empty(s, m);
}

void space_barren(struct space *s, uint32_t index, bool barren)
{
	struct metaslab *m = space_find(s, index);
	CHECK(m);
	unfile(s, m);
	m->barren = barren;
	file(s, m);
}

/* -- questions -- */

uint32_t space_next_raw(const struct space *s)
{
	uint32_t index = indexset_next(&s->raw, 0);
	return index != INDEXSET_NONE ? index : indexset_next(&s->bare, 0);
}

uint32_t space_last_raw(const struct space *s)
{
	uint32_t index = indexset_last(&s->bare);
	return index != INDEXSET_NONE ? index : indexset_last(&s->raw);
}

/* -- audit -- */

static uint32_t audit_below(const struct space *s, uint32_t index, uint32_t parent, heap_key *key)
{
	if (index == SPACE_NONE)
		return 0;
	const struct metaslab *m = at_slot(s, index);
	CHECK(m->parent == parent && rank_of(s, m->left) >= rank_of(s, m->right) &&
	      m->rank == rank_of(s, m->right) + 1);
	CHECK(parent == SPACE_NONE || key(at_slot(s, parent)) <= key(m));
	return 1 + audit_below(s, m->left, index, key) + audit_below(s, m->right, index, key);
}

static uint32_t audit_heap(const struct space *s, const struct space_heap *h, heap_key *key)
{
	CHECK(audit_below(s, h->top, SPACE_NONE, key) == h->count);
	return h->count;
}

static uint32_t audit_list(const struct space *s, enum space_stage stage)
{
	const struct space_list *l = &s->spent[stage];
	uint32_t count = 0, before = SPACE_NONE;
	for (uint32_t i = l->first; i != SPACE_NONE; i = at_slot(s, i)->right, count++) {
		const struct metaslab *m = at_slot(s, i);
		CHECK(m->state == SPACE_SPENT && m->stage == stage && m->left == before && count < s->count);
		CHECK(stage != STAGE_UNFLUSHED || before == SPACE_NONE ||
		      at_slot(s, before)->emptied <= m->emptied);
		before = i;
	}
	CHECK(l->last == before && l->count == count);
	return count;
}

static void audit_metaslab(const struct space *s, const struct metaslab *m)
{
	CHECK(s->slot[m->index] == (uint32_t)(m - s->slab) + 1);
	CHECK(m->live <= s->units); /* S2 */
	CHECK((m->live == 0) == (m->state != SPACE_CLOSED) || m->state == SPACE_OPEN);
	CHECK(indexset_has(&s->empty, m->index) == (m->state == SPACE_EMPTY)); /* S1 */
	bool raw = m->state == SPACE_RAW && !m->pins;
	CHECK(indexset_has(&s->raw, m->index) == (raw && !m->bare));
	CHECK(indexset_has(&s->bare, m->index) == (raw && m->bare));
}

void space_audit(const struct space *s)
{
	uint32_t in_state[SPACE_STATES] = {0}, in_class[SPACE_CLASSES] = {0}, barren = 0, bare_spent = 0;
	uint64_t live[SPACE_CLASSES] = {0};
	for (uint32_t i = 0; i < s->count; i++) {
		const struct metaslab *m = &s->slab[i];
		audit_metaslab(s, m);
		in_state[m->state]++;
		if (m->state == SPACE_OPEN || m->state == SPACE_CLOSED)
			in_class[m->class]++;
		barren += m->state == SPACE_CLOSED && m->barren && !is_young(s, m) && m->class != CLASS_TABLE;
		bare_spent += m->state == SPACE_SPENT && m->bare;
		live[m->class] += m->live;
	}
	CHECK(bare_spent == s->bare_spent);
	CHECK(memcmp(live, s->live, sizeof(live)) == 0); /* S3 */
	CHECK(memcmp(in_state, s->in_state, sizeof(in_state)) == 0);
	CHECK(memcmp(in_class, s->in_class, sizeof(in_class)) == 0);
	uint32_t closed = barren + audit_heap(s, &s->young, key_last) + audit_heap(s, &s->table, key_live);
	for (unsigned i = 0; i < SPACE_BUCKETS; i++)
		closed += audit_heap(s, &s->bucket[i], key_born);
	CHECK(closed == in_state[SPACE_CLOSED]);
	uint32_t spent = audit_heap(s, &s->logged, key_last);
	for (unsigned i = 0; i < SPACE_STAGES; i++)
		spent += i == STAGE_LOGGED ? 0 : audit_list(s, (enum space_stage)i);
	CHECK(spent == in_state[SPACE_SPENT]);
}
