/* SPDX-License-Identifier: Apache-2.0 */
#include "model.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/check.h"
#include "base/hash.h"
#include "tests/disk/counting.h"

enum { BYTES = 4096, WORDS = BYTES / 8 };

/* Version 0 is all zeros; else the first word is the name, and each other follows from it and its place. */
void content_fill(uint8_t *data, uint32_t block, uint32_t version)
{
	uint64_t name = (uint64_t)block << 32 | version;
	if (!version) {
		memset(data, 0, BYTES);
		return;
	}
	memcpy(data, &name, 8);
	counting_fill(data + 8, WORDS - 1, hash_mix(name) + 1, 1);
}

/* Is it what content_fill makes of that name? A run looks at millions of blocks. */
static bool is_content(const uint8_t *data, uint64_t name)
{
	return counting_is(data + 8, WORDS - 1, name ? hash_mix(name) + 1 : 0, name ? 1 : 0);
}

int64_t content_version(const uint8_t *data, uint32_t block)
{
	uint64_t name;
	memcpy(&name, data, sizeof(name));
	if (name && (name >> 32 != block || (uint32_t)name == 0))
		return -1;
	return is_content(data, name) ? (int64_t)(uint32_t)name : -1;
}

void model_init(struct model *m, uint32_t blocks)
{
	*m = (struct model){.blocks = blocks, .next_version = 1};
	m->durable = calloc(blocks, sizeof(*m->durable));
	m->current = calloc(blocks, sizeof(*m->current));
	m->unsure = calloc(blocks, sizeof(*m->unsure));
	m->journal = malloc(JOURNAL_MAX * sizeof(*m->journal));
	CHECK(m->durable && m->current && m->unsure && m->journal);
}

void model_free(struct model *m)
{
	free(m->durable);
	free(m->current);
	free(m->unsure);
	free(m->journal);
	*m = (struct model){0};
}

void model_copy(struct model *to, const struct model *from)
{
	struct model old = *from;
	model_init(to, old.blocks);
	memcpy(to->durable, old.durable, old.blocks * sizeof(*to->durable));
	memcpy(to->current, old.current, old.blocks * sizeof(*to->current));
	memcpy(to->unsure, old.unsure, old.blocks * sizeof(*to->unsure));
	memcpy(to->journal, old.journal, old.journal_count * sizeof(*to->journal));
	to->any_unsure = old.any_unsure;
	to->journal_count = old.journal_count;
	to->next_version = old.next_version;
	to->flushes = old.flushes;
}

void model_change(struct model *m, uint32_t block, uint32_t version)
{
	CHECK(m->journal_count < JOURNAL_MAX);
	m->journal[m->journal_count++] = (struct change){block, version};
	m->current[block] = version;
}

/* What is unsure stays so: either version may be the durable one. */
void model_flushed(struct model *m)
{
	uint32_t kept = 0;
	for (uint32_t i = 0; i < m->journal_count && m->any_unsure; i++) {
		if (m->unsure[m->journal[i].block])
			m->journal[kept++] = m->journal[i];
	}
	m->journal_count = kept;
	for (uint32_t b = 0; b < m->blocks; b++) {
		if (!m->unsure[b])
			m->durable[b] = m->current[b];
	}
	m->flushes++;
}

void model_be_unsure(struct model *m, uint32_t block)
{
	m->unsure[block] = m->any_unsure = true;
}

bool model_may_be_left(const struct model *m, uint32_t block, uint32_t version)
{
	bool found = m->durable[block] == version;
	for (uint32_t i = 0; i < m->journal_count && !found; i++)
		found = m->journal[i].block == block && m->journal[i].version == version;
	return found;
}

bool model_allows(const struct model *m, uint32_t block, uint32_t version)
{
	return version == m->current[block] || (m->unsure[block] && model_may_be_left(m, block, version));
}

static bool is_loose_match(const struct model *m, const uint32_t *seen)
{
	for (uint32_t b = 0; b < m->blocks; b++) {
		if (!model_may_be_left(m, b, seen[b])) {
			fprintf(stderr, "  block %u: seen %u, last written %u, durable %u\n", b, seen[b],
					m->current[b],
				m->durable[b]);
			return false;
		}
	}
	return true;
}

/* Uses `current` as its scratch. */
static bool is_prefix(struct model *m, const uint32_t *seen)
{
	uint32_t *state = m->current, wrong = 0, k = 0;
	memcpy(state, m->durable, m->blocks * sizeof(*state));
	for (uint32_t b = 0; b < m->blocks; b++)
		wrong += state[b] != seen[b];
	for (; wrong && k < m->journal_count; k++) {
		const struct change *c = &m->journal[k];
		wrong -= state[c->block] != seen[c->block];
		state[c->block] = c->version;
		wrong += state[c->block] != seen[c->block];
	}
	for (uint32_t b = 0; wrong && b < m->blocks; b++) {
		if (seen[b] != state[b])
			fprintf(stderr, "  block %u: seen %u, last written %u, durable %u\n", b, seen[b],
					state[b], m->durable[b]);
	}
	return !wrong;
}

void model_become(struct model *m, const uint32_t *state)
{
	memcpy(m->current, state, m->blocks * sizeof(*state));
	memset(m->unsure, 0, m->blocks * sizeof(*m->unsure));
	m->any_unsure = false;
	model_flushed(m);
}

bool model_settle(struct model *m, const uint32_t *seen)
{
	if (!(m->any_unsure ? is_loose_match(m, seen) : is_prefix(m, seen)))
		return false;
	model_become(m, seen);
	return true;
}
