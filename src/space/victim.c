/* SPDX-License-Identifier: Apache-2.0 */
/* Which metaslab is best cleaned. */
#include "space/space.h"

#include <stddef.h>

#include "base/check.h"

/*
 * Most space gained for least copying, older preferred: (1 - u) * age / (1 + u), the cost-benefit of Rosenblum and
 * Ousterhout (1992). Within a bucket of nearly the same u, the oldest is the best.
 */
struct metaslab *space_victim(const struct space *s, uint64_t now)
{
	struct metaslab *best = NULL;
	double best_score = -1;
	for (unsigned i = 0; i < SPACE_BUCKETS; i++) {
		struct metaslab *m = space_find(s, s->bucket[i].top);
		if (!m || m->live >= s->usable)
			continue;
		double used = (double)m->live / s->units, age = (double)(now - MIN_OF(m->born, now)) + 1;
		double score = (1 - used) * age / (1 + used);
		if (score > best_score) {
			best = m;
			best_score = score;
		}
	}
	return best;
}

static bool has_less(const struct space *s, const struct metaslab *m, unsigned share)
{
	return (uint64_t)m->live * 100 < (uint64_t)s->units * share;
}

struct metaslab *space_sparse_victim(const struct space *s, unsigned share)
{
	for (unsigned i = 0; i < SPACE_BUCKETS; i++) {
		struct metaslab *m = space_find(s, s->bucket[i].top);
		if (m)
			return has_less(s, m, share) ? m : NULL;
	}
	return NULL;
}

struct metaslab *space_table_victim(const struct space *s, unsigned share)
{
	struct metaslab *m = space_find(s, s->table.top);
	return m && has_less(s, m, share) ? m : NULL;
}
