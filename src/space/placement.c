/* SPDX-License-Identifier: Apache-2.0 */
/* Which class of metaslabs a user's block goes to. */
#include "space/space.h"

enum { RUN_BLOCKS = 128 }; /* a run is placed anew at each multiple: half a MiB is enough for those who read it */

static enum space_class class_by_age(const struct space *s, uint32_t old, uint64_t now)
{
	if (!s->lifespan.known)
		return CLASS_HOT;
	const struct metaslab *m = space_find(s, old);
	bool young = m && m->class != CLASS_MOVED && now - m->born < s->lifespan.known;
	return young ? CLASS_HOT : CLASS_COLD;
}

enum space_class space_place(struct space *s, uint64_t address, uint32_t old, uint64_t now)
{
	bool again = address + 1 == s->run.next;
	if (!again)
		s->run.follows = address == s->run.next && address % RUN_BLOCKS;
	s->run.next = address + 1;
	if (!s->run.follows)
		s->run.class = (uint8_t)class_by_age(s, old, now);
	return (enum space_class)s->run.class;
}
