/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The newest root and the space list that it names, read; checkpoint.c writes both.
 *
 * There are two roots, each in two copies. Everything read is untrusted: time and memory depend on what the device
 * holds, never on what a field claims.
 */
#include "store/root.h"

#include <stdlib.h>
#include <string.h>

#include "store/ids.h"
#include "store/place.h"
#include "store/snap.h"
#include "store/table.h"
#include "store/tree.h"

struct roots { /* of the two */
	bool other, lost[2], unread[2];
	int error;
};

static void read_roots(struct store *s, struct roots *r, struct fmt_root *best)
{
	struct fmt_root root;
	uint64_t generation = 0;
	*r = (struct roots){.lost = {true, true}};
	memset(best, 0, sizeof(*best));
	for (unsigned i = 0; i < 4; i++) {
		int failed = vdev_read(s->config.vdev, s->config.root_block[i / 2][i % 2] << BLOCK_SHIFT, &root,
				       BLOCK_SIZE);
		enum fmt_verdict verdict =
			failed ? FMT_DAMAGED : fmt_verify(&root, FMT_ROOT, s->config.guid, s->config.partition);
		r->error = failed ? failed : r->error;
		r->other |= verdict == FMT_NEWER || verdict == FMT_OLDER;
		r->lost[i / 2] &= verdict != FMT_GOOD;
		r->unread[i / 2] |= failed != 0;
		if (verdict != FMT_GOOD || le64_get(root.generation) <= generation)
			continue;
		generation = le64_get(root.generation);
		s->checkpoint.root_slot = i / 2;
		*best = root;
	}
}

int root_load(struct store *s, struct fmt_root *root, struct lcpfs_failure *failure)
{
	struct roots r;
	read_roots(s, &r, root);
	uint64_t generation = le64_get(root->generation);
	if (r.other)
		return failure_set(failure, LCPFS_E_VERSION,
				   "partition %s was written by another version of lcpfs", s->name);
	if ((r.lost[0] && r.unread[0]) || (r.lost[1] && r.unread[1])) /* it may be the newest, and may come back */
		return failure_set(failure, (enum lcpfs_error) - r.error,
				   "partition %s: both copies of a root cannot be read", s->name);
	s->found.root_lost = generation > 1 && (r.lost[0] || r.lost[1]);
	if (generation)
		return 0;
	return failure_set(failure, LCPFS_E_CORRUPT, "partition %s: all copies of its root are damaged", s->name);
}

static bool regions_sane(const struct store *s, const struct fmt_root *root)
{
	uint64_t leaves = DIV_UP(le64_get(root->id_end), (uint64_t)TABLE_SLOTS);
	/* Every page above the leaves is in a region. */
	if (le32_get(root->region_shift) > 40 ||
	    (leaves && (DIV_UP(leaves, (uint64_t)TABLE_SLOTS) - 1) >> le32_get(root->region_shift) >= REGIONS))
		return false;
	for (unsigned i = 0; i < REGIONS; i++) {
		for (unsigned j = 0; j < LOG_HEADS; j++) {
			if (!position_sane(s, &root->region[i].position[j]))
				return false;
		}
		if (le64_get(root->region[i].seq) > le64_get(root->seq))
			return false;
	}
	return true;
}

static bool volume_sane(const struct fmt_volume *v)
{
	return tree_sane(le64_get(v->root), le32_get(v->levels), le64_get(v->blocks));
}

static bool volumes_sane(const struct fmt_root *root)
{
	for (unsigned i = 0; i < ROOT_VOLUMES; i++) {
		if (!volume_sane(&root->volume[i]))
			return false;
	}
	for (unsigned i = 0; i < CLONES_MAX; i++) {
		uint32_t number = le32_get(root->clone[i].number);
		if (number && (!clone_number_sane(number) || !volume_sane(&root->clone[i].volume)))
			return false;
	}
	return le64_get(root->volume[VOLUME_HEAD].blocks) > 0;
}

static bool root_sane(const struct store *s, const struct fmt_root *root)
{
	uint64_t blocks = (uint64_t)s->config.metaslab_blocks * s->config.metaslab_count;
	return regions_sane(s, root) && volumes_sane(root) && le64_get(root->id_end) >= IDS_FIRST &&
	       le64_get(root->id_end) <= ids_max(s) && le64_get(root->data_blocks) <= le64_get(root->id_end) &&
	       le64_get(root->page_blocks) <= le64_get(root->id_end) && le64_get(root->table_pages) <= blocks &&
	       le64_get(root->generation) < UINT64_MAX / 2 && le64_get(root->seq) < UINT64_MAX / 2 &&
	       le64_get(root->epoch) < UINT64_MAX / 2 && le64_get(root->written) < UINT64_MAX / 2 &&
	       le32_get(root->table.levels) <= TABLE_LEVELS_MAX &&
	       le32_get(root->space.levels) <= TABLE_LEVELS_MAX;
}

static void apply_regions(struct store *s, const struct fmt_root *root)
{
	s->table.region_shift = le32_get(root->region_shift);
	for (unsigned i = 0; i < REGIONS; i++) {
		struct region *r = &s->table.region[i];
		r->seq = le64_get(root->region[i].seq);
		r->chain = le64_get(root->region[i].chain);
		memcpy(r->position, root->region[i].position, sizeof(r->position));
	}
}

static int apply_volumes(struct store *s, const struct fmt_root *root)
{
	for (unsigned i = 0; i < ROOT_VOLUMES; i++) {
		const struct fmt_volume *v = &root->volume[i];
		s->trees.volume[i] = (struct volume){.levels = le32_get(v->levels),
						     .root = le64_get(v->root),
						     .placed_levels = le32_get(v->levels),
						     .blocks = le64_get(v->blocks),
						     .birth = le32_get(v->birth),
						     .origin = le64_get(v->origin)};
	}
	for (unsigned i = 0; i < CLONES_MAX; i++) {
		const struct fmt_volume *v = &root->clone[i].volume;
		uint32_t number = le32_get(root->clone[i].number);
		int error = number ? snap_clone_was_made(s, number, le64_get(v->root), le32_get(v->levels),
							 le64_get(v->blocks))
				   : 0;
		if (error)
			return error;
	}
	return 0;
}

int root_apply(struct store *s, const struct fmt_root *root, struct lcpfs_failure *failure)
{
	if (!root_sane(s, root))
		return failure_set(failure, LCPFS_E_CORRUPT, "partition %s: its root contradicts itself", s->name);
	s->checkpoint.generation = le64_get(root->generation);
	s->checkpoint.root_seq = le64_get(root->seq);
	s->checkpoint.birth = le32_get(root->birth);
	s->checkpoint.space_top = root->space.top;
	s->checkpoint.space_levels = le32_get(root->space.levels);
	s->log.epoch = le64_get(root->epoch);
	s->log.epoch_seq = le64_get(root->epoch_seq);
	s->found.root_durable = le64_get(root->durable);
	s->ids.end = le64_get(root->id_end);
	s->data_blocks = le64_get(root->data_blocks);
	s->page_blocks = le64_get(root->page_blocks);
	s->table.top = root->table.top;
	s->table.levels = le32_get(root->table.levels);
	s->table.pages = le64_get(root->table_pages);
	s->table.head = (struct head){le32_get(root->table_position.metaslab),
				      le32_get(root->table_position.offset), NO_METASLAB};
	uint64_t *counters = (uint64_t *)&s->counters;
	for (unsigned i = 0; i < sizeof(s->counters) / sizeof(*counters); i++)
		counters[i] = le64_get(root->counter[i]);
	s->counters.written_blocks = le64_get(root->written);
	apply_regions(s, root);
	return apply_volumes(s, root);
}

/* -- the space list -- */

static int note_foreign(struct store *s, struct foreign *f, uint32_t index)
{
	uint32_t *list = realloc(f->index, (f->count + 1) * sizeof(*list));
	if (!list)
		return -LCPFS_E_NOMEM;
	f->index = list;
	list[f->count++] = index;
	int error = space_add(&s->space, index, false);
	return !error || error == -LCPFS_E_NOMEM ? error : -LCPFS_E_CORRUPT;
}

static int load_space_slot(struct store *s, const struct fmt_space *e, struct foreign *foreign)
{
	uint32_t index = le32_get(e->metaslab), live = le32_get(e->live);
	unsigned class = (unsigned)(le64_get(e->last) >> 56);
	uint64_t last = MIN_OF(le64_get(e->last) & ((UINT64_C(1) << 56) - 1), s->checkpoint.root_seq + 1);
	struct metaslab *m = space_find(&s->space, index);
	int error = m ? 0 : note_foreign(s, foreign, index);
	if (error)
		return error;
	m = space_find(&s->space, index);
	if (m->state == SPACE_CLOSED || !live || live > s->space.units || live % BLOCK_SECTORS ||
	    class >= SPACE_CLASSES)
		return -LCPFS_E_CORRUPT;
	/* How old its blocks are is not kept: as old as its last record, in records. */
	uint64_t written = s->counters.written_blocks;
	uint64_t born =
		s->checkpoint.root_seq
			? (uint64_t)((double)written * ((double)last / (double)(s->checkpoint.root_seq + 1)))
			: 0;
	space_restore(&s->space, index, (enum space_class) class, live, class == CLASS_TABLE ? 0 : last, born);
	return 0;
}

static int note_space_page(struct store *s, const struct fmt_pointer *at)
{
	struct checkpoints *k = &s->checkpoint;
	if (k->space_page_count > s->config.metaslab_count / 64 + 2 * TABLE_LEVELS_MAX)
		return -LCPFS_E_CORRUPT;
	struct fmt_pointer *list = realloc(k->space_pages, (k->space_page_count + 1) * sizeof(*list));
	if (!list)
		return -LCPFS_E_NOMEM;
	k->space_pages = list;
	list[k->space_page_count++] = *at;
	return 0;
}

static int load_space_page(struct store *s, const struct fmt_pointer *at, unsigned level, uint64_t index,
			   struct foreign *foreign)
{
	struct fmt_page *page = malloc(sizeof(*page));
	int error = page ? table_read(s, at, TREE_SPACE, level, index, page, NULL) : -LCPFS_E_NOMEM;
	if (!error)
		error = note_space_page(s, at);
	for (unsigned i = 0; level && i < TABLE_SLOTS && !error; i++) {
		if (!pointer_null(&page->child[i]))
			error = load_space_page(s, &page->child[i], level - 1, index * TABLE_SLOTS + i, foreign);
	}
	for (unsigned i = 0; !level && i < SPACE_SLOTS && !error; i++) {
		if (le32_get(page->space[i].live))
			error = load_space_slot(s, &page->space[i], foreign);
	}
	free(page);
	return error;
}

/* Its own pages are not among its counts. */
static int count_space_pages(struct store *s)
{
	for (size_t i = 0; i < 2 * s->checkpoint.space_page_count; i++) {
		struct metaslab *m = metaslab_of(s, block_of_place(s->checkpoint.space_pages[i / 2].place[i % 2]));
		if (!m || m->live > s->space.units - BLOCK_SECTORS || (m->live && m->class != CLASS_TABLE))
			return -LCPFS_E_CORRUPT;
		if (!m->live)
			space_restore(&s->space, m->index, CLASS_TABLE, BLOCK_SECTORS, 0,
				      s->counters.written_blocks);
		else
			space_live_add(&s->space, m, BLOCK_SECTORS);
	}
	return 0;
}

int root_load_space(struct store *s, struct foreign *foreign)
{
	unsigned levels = s->checkpoint.space_levels;
	int error = levels ? load_space_page(s, &s->checkpoint.space_top, levels - 1, 0, foreign) : 0;
	return error ? error : count_space_pages(s);
}

int root_settle_foreign(struct store *s, const struct foreign *foreign)
{
	for (size_t i = 0; i < foreign->count; i++) {
		if (!space_forget(&s->space, foreign->index[i]))
			return -LCPFS_E_CORRUPT;
	}
	return 0;
}
