/* SPDX-License-Identifier: Apache-2.0 */
/* Who may take the last EMPTY metaslabs, and how much may be live so that each can. */
#include "space/space.h"

#include "base/check.h"

/* Numbers that steer behaviour, each with its reason. */
enum {
	CLEAN_METASLABS = 1, /* that the survivors of a victim go to: it is empty itself when they are flushed */
	NOTES_METASLABS = 1, /* for trims, and for pages of trees: they make others dead, which can be cleaned */
	WASTE_SHARE = 256,   /* one unit in so many stays free: also a full partition cleans at a bounded price */
};

struct space_reserve space_reserve_for(const struct space *s, const struct space_needs *needs)
{
	struct space_reserve r = {.table = (uint32_t)DIV_UP(needs->step_units, (uint64_t)s->units)};
	r.notes = r.table + CLEAN_METASLABS;
	r.kept = r.notes +
		 MAX_OF((uint32_t)NOTES_METASLABS, (uint32_t)DIV_UP(needs->notes_units, (uint64_t)s->usable));
	return r;
}

uint64_t space_limit(const struct space *s, const struct space_needs *needs, uint32_t metaslabs)
{
	uint32_t overhead = space_reserve_for(s, needs).kept + needs->heads;
	uint64_t units = metaslabs > overhead ? (uint64_t)(metaslabs - overhead) * s->usable : 0;
	return units - units / WASTE_SHARE;
}
