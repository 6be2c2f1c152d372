/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Blocks in words. Whatever the block claims is taken as hostile: counts are cut to what fits, text to printable
 * characters, and no field is followed anywhere.
 */
#include "format/format.h"

#include <inttypes.h>
#include <string.h>

#include "base/plain.h"

static void number(struct text *out, const char *name, uint64_t value)
{
	text_append(out, "%s: %" PRIu64 "\n", name, value);
}

static void hex(struct text *out, const char *name, uint64_t value)
{
	text_append(out, "%s: %016" PRIx64 "\n", name, value);
}

static void bytes_hex(struct text *out, const char *name, const uint8_t *bytes, size_t count)
{
	text_append(out, "%s: ", name);
	for (size_t i = 0; i < count; i++)
		text_append(out, "%02x", bytes[i]);
	text_append(out, "\n");
}

enum { WORDS_BYTES_MAX = 1024 }; /* the longest field of text */

/* A fixed field of NUL-terminated text. */
static void words(struct text *out, const char *name, const uint8_t *bytes, size_t room)
{
	char text[WORDS_BYTES_MAX + 1];
	size_t length = strnlen((const char *)bytes, MIN_OF(room, (size_t)WORDS_BYTES_MAX));
	memcpy(text, bytes, length);
	text[length] = '\0';
	plain_text(text);
	text_append(out, "%s: %s\n", name, text);
}

static void features_text(const struct fmt_features *f, struct text *out)
{
	hex(out, "incompatible", le64_get(f->incompatible));
	hex(out, "read_only", le64_get(f->read_only));
	hex(out, "compatible", le64_get(f->compatible));
}

static void device_text(const struct fmt_device *d, unsigned index, struct text *out)
{
	static const struct fmt_device none;
	if (memcmp(d, &none, sizeof(none)) != 0)
		text_append(out,
			    "device[%u]: guid %016" PRIx64 ", blocks %" PRIu64 ", metaslab_first %" PRIu32
			    ", metaslab_count %" PRIu32 "\n",
			    index, le64_get(d->guid), le64_get(d->blocks), le32_get(d->metaslab_first),
			    le32_get(d->metaslab_count));
}

static void label_text(const struct fmt_label *l, struct text *out)
{
	features_text(&l->features, out);
	number(out, "device_blocks", le64_get(l->device_blocks));
	number(out, "area_blocks", le64_get(l->area_blocks));
	number(out, "metaslab_base", le64_get(l->metaslab_base));
	number(out, "metaslab_blocks", le32_get(l->metaslab_blocks));
	number(out, "metaslab_count", le32_get(l->metaslab_count));
	number(out, "partition_slots", le32_get(l->partition_slots));
	number(out, "map_pages", le32_get(l->map_pages));
	number(out, "engine_pages", le32_get(l->engine_pages));
	number(out, "history_pages", le32_get(l->history_pages));
	number(out, "created_s", le64_get(l->created_s));
	hex(out, "device_guid", le64_get(l->device_guid));
	number(out, "device_index", le32_get(l->device_index));
	number(out, "device_count", le32_get(l->device_count));
	number(out, "metaslab_first", le32_get(l->metaslab_first));
	bytes_hex(out, "partition_table", (const uint8_t *)l->mbr, sizeof(l->mbr));
	bytes_hex(out, "partition_table_magic", l->mbr_magic, sizeof(l->mbr_magic));
	for (unsigned i = 0; i < LABEL_DEVICES; i++)
		device_text(&l->device[i], i, out);
}

static void lease_text(const struct fmt_lease *l, struct text *out)
{
	number(out, "pid", le64_get(l->pid));
	words(out, "control_path", l->control_path, sizeof(l->control_path));
	words(out, "nbd_path", l->nbd_path, sizeof(l->nbd_path));
	bytes_hex(out, "owner", l->owner, sizeof(l->owner));
	number(out, "count", le64_get(l->count));
	number(out, "renew_ms", le32_get(l->renew_ms));
	number(out, "is_local", le32_get(l->is_local));
	bytes_hex(out, "boot", l->boot, sizeof(l->boot));
	number(out, "pid_namespace", le64_get(l->pid_namespace));
	number(out, "process", le64_get(l->process));
	number(out, "start", le64_get(l->start));
	hex(out, "device", le64_get(l->device));
	number(out, "inode", le64_get(l->inode));
	number(out, "offset", le64_get(l->offset));
	words(out, "host", l->host, sizeof(l->host));
}

static void uberblock_text(const struct fmt_uberblock *u, struct text *out)
{
	uint32_t pages = MIN_OF(le32_get(u->page_count), (uint32_t)POOL_PAGES_MAX);
	number(out, "txg", le64_get(u->txg));
	number(out, "time_s", le64_get(u->time_s));
	number(out, "partition_next", le32_get(u->partition_next));
	number(out, "page_count", le32_get(u->page_count));
	number(out, "history_next", le64_get(u->history_next));
	number(out, "tune_mode", le32_get(u->tune_mode));
	number(out, "open", le32_get(u->open));
	number(out, "scrub_s", le64_get(u->scrub_s));
	number(out, "scrub_found", le64_get(u->scrub_found));
	number(out, "scrub_repaired", le64_get(u->scrub_repaired));
	number(out, "read_errors", le64_get(u->read_errors));
	number(out, "cache_bytes", le64_get(u->cache_bytes));
	number(out, "alarm_percent", le32_get(u->alarm_percent));
	text_append(out, "slot_map:");
	for (uint32_t i = 0; i < DIV_UP(pages, 8); i++)
		text_append(out, "%s%02x", i % 32 ? "" : " ", u->slot_map[i]);
	text_append(out, "\n");
}

static void pool_page_text(const struct fmt_pool_page *p, struct text *out)
{
	number(out, "txg", le64_get(p->txg));
	number(out, "page", le32_get(p->page));
}

/* Runs of one owner, since a map is mostly runs. */
static void map_text(const struct fmt_map *m, struct text *out)
{
	uint32_t count = MIN_OF(le32_get(m->page.head.count), (uint32_t)MAP_ENTRIES);
	pool_page_text(&m->page, out);
	for (uint32_t i = 0, start = 0; i < count; i++) {
		uint32_t owner = le32_get(m->owner[i]);
		if (i + 1 < count && le32_get(m->owner[i + 1]) == owner)
			continue;
		text_append(out, "owner[%" PRIu32 "..%" PRIu32 "]: %" PRIu32 "\n", start, i, owner);
		start = i + 1;
	}
}

static void partition_text(const struct fmt_partition *p, struct text *out)
{
	pool_page_text(&p->page, out);
	words(out, "name", p->name, sizeof(p->name));
	number(out, "min_blocks", le64_get(p->min_blocks));
	number(out, "max_blocks", le64_get(p->max_blocks));
	number(out, "volume_blocks", le64_get(p->volume_blocks));
	number(out, "created_s", le64_get(p->created_s));
	number(out, "min_data_blocks", le64_get(p->min_data_blocks));
	number(out, "max_data_blocks", le64_get(p->max_data_blocks));
	number(out, "volume_bytes", le64_get(p->volume_bytes));
	number(out, "when_full_wait_s", le32_get(p->when_full_wait_s));
	number(out, "keep_hourly", p->keep[0]);
	number(out, "keep_daily", p->keep[1]);
	number(out, "keep_weekly", p->keep[2]);
	number(out, "keep_monthly", p->keep[3]);
	features_text(&p->features, out);
	if (le32_get(p->promotion.clone))
		text_append(out, "promotion: clone %" PRIu32 ", partition %.*s, name %.*s\n",
			    le32_get(p->promotion.clone), (int)sizeof(p->promotion.partition) - 1,
			    p->promotion.partition, (int)sizeof(p->promotion.name) - 1, p->promotion.name);
	if (!le64_get(p->receive.guid))
		return;
	number(out, "receive.guid", le64_get(p->receive.guid));
	number(out, "receive.from", le64_get(p->receive.from));
	number(out, "receive.records", le64_get(p->receive.records));
	text_append(out, "receive.check: %016" PRIx64 "%016" PRIx64 "\n", le64_get(p->receive.check[1]),
		    le64_get(p->receive.check[0]));
}

static double value_of(le64 field)
{
	uint64_t bits = le64_get(field);
	double value;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

static double float_of(le32 field)
{
	uint32_t bits = le32_get(field);
	float value;
	memcpy(&value, &bits, sizeof(value));
	return value;
}

static void sample_text(const struct fmt_sample *s, unsigned index, struct text *out)
{
	text_append(out, "sample[%u]: time_s %" PRIu64 ", span_s %" PRIu32 ", partition %" PRIu32, index,
		    le64_get(s->time_s), le32_get(s->span_s), le32_get(s->partition));
	text_append(out, ", metaslabs %" PRIu32 ", live %g, epsilon %g, written %g, device %g\n",
		    le32_get(s->metaslabs), float_of(s->live), float_of(s->epsilon), float_of(s->written),
		    float_of(s->device));
}

/* A part of the engine's state, which has a reader of its own, or samples. */
static void engine_text(const struct fmt_samples *s, struct text *out)
{
	uint32_t count = le32_get(s->page.head.count) ? 0 : le32_get(s->count);
	pool_page_text(&s->page, out);
	for (unsigned i = 0; i < MIN_OF(count, (uint32_t)SAMPLES); i++)
		sample_text(&s->sample[i], i, out);
}

static void learned_text(const struct fmt_history_entry *e, unsigned index, struct text *out)
{
	le64 learned[HISTORY_LEARNED];
	memcpy(learned, e->text + HISTORY_LEARNED_AT, sizeof(learned));
	text_append(out, "entry[%u].learned:", index);
	for (unsigned i = 0; i < HISTORY_LEARNED; i++)
		text_append(out, " %g", value_of(learned[i]));
	text_append(out, "\n");
}

static void history_entry_text(const struct fmt_history_entry *e, unsigned index, struct text *out)
{
	bool is_outcome = le32_get(e->kind) == HISTORY_KIND_OUTCOME;
	text_append(out, "entry[%u]: number %" PRIu64 ", time_s %" PRIu64 ", kind %" PRIu32, index,
		    le64_get(e->number), le64_get(e->time_s), le32_get(e->kind));
	text_append(out, ", from %" PRIu32 ", to %" PRIu32 ", metaslabs %" PRIu32 ", duration_us %" PRIu64 "\n",
		    le32_get(e->from), le32_get(e->to), le32_get(e->metaslabs), le64_get(e->duration_us));
	text_append(out, "entry[%u].value:", index);
	for (unsigned i = 0; i < ARRAY_LENGTH(e->value); i++)
		text_append(out, " %g", value_of(e->value[i]));
	text_append(out, "\nentry[%u].", index);
	words(out, "text", e->text, is_outcome ? HISTORY_LEARNED_AT : sizeof(e->text));
	if (is_outcome)
		learned_text(e, index, out);
}

static void history_text(const struct fmt_history *h, struct text *out)
{
	pool_page_text(&h->page, out);
	for (unsigned i = 0; i < HISTORY_ENTRIES; i++) {
		if (le64_get(h->entry[i].number))
			history_entry_text(&h->entry[i], i, out);
	}
}

static void tree_text(const char *name, const struct fmt_tree_root *t, struct text *out)
{
	text_append(out,
		    "%s: place %" PRIu64 " and %" PRIu64 ", check %016" PRIx64 "%016" PRIx64 ", levels %" PRIu32
		    "\n",
		    name, le64_get(t->top.place[0]), le64_get(t->top.place[1]), le64_get(t->top.check.high),
		    le64_get(t->top.check.low), le32_get(t->levels));
}

static void region_text(const struct fmt_region *r, unsigned i, struct text *out)
{
	text_append(out, "region[%u]: seq %" PRIu64 ", chain %016" PRIx64, i, le64_get(r->seq),
		    le64_get(r->chain));
	for (unsigned j = 0; j < LOG_HEADS; j++)
		text_append(out, ", head %u at %" PRIu32 " + %" PRIu32, j, le32_get(r->position[j].metaslab),
			    le32_get(r->position[j].offset));
	text_append(out, "\n");
}

static void volume_text(const struct fmt_volume *v, uint32_t number, struct text *out)
{
	text_append(out,
		    "volume[%" PRIu32 "]: root %" PRIu64 ", levels %" PRIu32 ", birth %" PRIu32 ", blocks %" PRIu64
		    ", origin %" PRIu64 "\n",
		    number, le64_get(v->root), le32_get(v->levels), le32_get(v->birth), le64_get(v->blocks),
		    le64_get(v->origin));
}

static void root_text(const struct fmt_root *r, struct text *out)
{
	number(out, "generation", le64_get(r->generation));
	number(out, "epoch", le64_get(r->epoch));
	number(out, "epoch_seq", le64_get(r->epoch_seq));
	number(out, "seq", le64_get(r->seq));
	number(out, "durable", le64_get(r->durable));
	number(out, "id_end", le64_get(r->id_end));
	number(out, "data_blocks", le64_get(r->data_blocks));
	number(out, "page_blocks", le64_get(r->page_blocks));
	number(out, "table_pages", le64_get(r->table_pages));
	number(out, "written", le64_get(r->written));
	number(out, "birth", le32_get(r->birth));
	number(out, "region_shift", le32_get(r->region_shift));
	text_append(out, "table_position: %" PRIu32 " + %" PRIu32 "\n", le32_get(r->table_position.metaslab),
		    le32_get(r->table_position.offset));
	tree_text("table", &r->table, out);
	tree_text("space", &r->space, out);
	for (unsigned i = 0; i < ROOT_VOLUMES; i++)
		volume_text(&r->volume[i], i, out);
	for (unsigned i = 0; i < CLONES_MAX; i++) {
		if (le32_get(r->clone[i].number))
			volume_text(&r->clone[i].volume, le32_get(r->clone[i].number), out);
	}
	text_append(out, "counter:");
	for (unsigned i = 0; i < ARRAY_LENGTH(r->counter); i++)
		text_append(out, " %" PRIu64, le64_get(r->counter[i]));
	text_append(out, "\n");
	for (unsigned i = 0; i < REGIONS; i++)
		region_text(&r->region[i], i, out);
}

static void entry_text(const struct entry *e, uint32_t index, struct text *out)
{
	static const char *const kinds[ENTRY_KIND_END] = {"none",  "write",  "overwrite", "move",   "lost",
							  "trim",  "free",   "page",      "vanish", "head",
							  "leave", "volume", "drop",      "clone"};
	text_append(out, "entry[%" PRIu32 "]: %s, id %" PRIu64 ", count %u", index, kinds[e->kind], e->id,
		    e->count);
	if (e->kind == ENTRY_WRITE || e->kind == ENTRY_TRIM)
		text_append(out, ", volume %" PRIu32 ", address %" PRIu64, e->volume, e->address);
	if (e->kind == ENTRY_TRIM)
		text_append(out, ", length %" PRIu64, e->length);
	if (e->kind == ENTRY_PAGE || e->kind == ENTRY_VANISH || e->kind == ENTRY_LEAVE)
		text_append(out, ", volume %" PRIu32 ", level %u, index %" PRIu64, e->volume, e->level,
			    e->address);
	if (e->kind == ENTRY_VOLUME || e->kind == ENTRY_CLONE)
		text_append(out, ", volume %" PRIu32 ", levels %u", e->volume, e->level);
	if (e->kind == ENTRY_CLONE)
		text_append(out, ", blocks %" PRIu64, e->length);
	if (e->kind == ENTRY_HEAD)
		text_append(out, ", head %" PRIu64, e->address);
	for (unsigned i = 0; e->check && i < e->blocks; i++)
		text_append(out, "%s%016" PRIx64 "%016" PRIx64, i ? " " : ", checks ",
			    le64_get(e->check[2 * i + 1]), le64_get(e->check[2 * i]));
	text_append(out, "\n");
}

static void record_text(const struct fmt_record *r, struct text *out)
{
	struct entry e;
	uint32_t index = 0;
	number(out, "seq", le64_get(r->seq));
	hex(out, "previous", le64_get(r->previous));
	number(out, "durable", le64_get(r->durable));
	number(out, "place", le64_get(r->place));
	number(out, "epoch", le64_get(r->epoch));
	number(out, "written", le64_get(r->written));
	number(out, "next", le32_get(r->next));
	number(out, "birth", le32_get(r->birth));
	number(out, "blocks", le16_get(r->blocks));
	number(out, "log_head", r->log_head);
	for (unsigned at = 0; fmt_entry_next(r, &at, &e);)
		entry_text(&e, index++, out);
}

static void pointer_text(const struct fmt_pointer *p, unsigned i, struct text *out)
{
	if (le64_get(p->place[0]) || le64_get(p->place[1]))
		text_append(out,
			    "child[%u]: place %" PRIu64 " and %" PRIu64 ", check %016" PRIx64 "%016" PRIx64 "\n",
			    i, le64_get(p->place[0]), le64_get(p->place[1]), le64_get(p->check.high),
			    le64_get(p->check.low));
}

static void block_text(const struct fmt_block *b, unsigned i, struct text *out)
{
	if (b->kind || le64_get(b->place))
		text_append(out,
			    "block[%u]: place %" PRIu64 ", check %016" PRIx64 "%016" PRIx64 ", birth %" PRIu32
			    ", sectors %u, kind %u\n",
			    i, le64_get(b->place), le64_get(b->check.high), le64_get(b->check.low),
			    le32_get(b->birth), le16_get(b->sectors), b->kind);
}

static void space_text(const struct fmt_space *s, unsigned i, struct text *out)
{
	if (le32_get(s->live))
		text_append(out, "space[%u]: metaslab %" PRIu32 ", live %" PRIu32 ", last %" PRIu64 ", class %u\n",
			    i, le32_get(s->metaslab), le32_get(s->live),
			    le64_get(s->last) & ~(UINT64_C(0xff) << 56), (unsigned)(le64_get(s->last) >> 56));
}

static void slots_text(const struct fmt_page *p, struct text *out)
{
	for (unsigned i = 0; i < TABLE_SLOTS; i++) {
		if (p->level > 0)
			pointer_text(&p->child[i], i, out);
		else if (p->tree == TREE_TABLE)
			block_text(&p->block[i], i, out);
	}
	for (unsigned i = 0; p->level == 0 && p->tree == TREE_SPACE && i < SPACE_SLOTS; i++)
		space_text(&p->space[i], i, out);
}

static void page_text(const struct fmt_page *p, struct text *out)
{
	static const char *const trees[] = {"none", "table", "space"};
	number(out, "generation", le64_get(p->generation));
	text_append(out, "tree: %s\n", p->tree < ARRAY_LENGTH(trees) ? trees[p->tree] : "unknown");
	number(out, "level", p->level);
	number(out, "index", le64_get(p->index));
	slots_text(p, out);
}

static void snapshots_text(const struct fmt_snapshots *b, struct text *out)
{
	number(out, "index", le64_get(b->index));
	if (le64_get(b->turn))
		number(out, "turn", le64_get(b->turn));
	for (unsigned i = 0; i < SNAPSHOT_SLOTS; i++) {
		const struct fmt_snapshot *n = &b->slot[i];
		if (le32_get(n->number))
			text_append(out,
				    "snapshot[%u]: number %" PRIu32 ", state %u, root %" PRIu64 ", levels %" PRIu32
				    ", birth %" PRIu32 ", blocks %" PRIu64 ", origin %" PRIu64
				    ", created_s %" PRIu64 ", name %.*s\n",
				    i, le32_get(n->number), n->state, le64_get(n->volume.root),
				    le32_get(n->volume.levels), le32_get(n->volume.birth),
				    le64_get(n->volume.blocks), le64_get(n->volume.origin), le64_get(n->created_s),
				    SNAPSHOT_NAME_MAX, n->name);
		if (le32_get(n->number) && le64_get(n->guid))
			text_append(out, "snapshot[%u].guid: %016" PRIx64 "\n", i, le64_get(n->guid));
		if (le32_get(n->number) && le64_get(n->turn))
			text_append(out, "snapshot[%u].turn: %" PRIu64 "\n", i, le64_get(n->turn));
	}
}

static void body_text(const void *block, unsigned kind, struct text *out)
{
	switch (kind) {
	case FMT_LABEL:
		label_text(block, out);
		break;
	case FMT_LEASE:
		lease_text(block, out);
		break;
	case FMT_UBERBLOCK:
		uberblock_text(block, out);
		break;
	case FMT_MAP:
		map_text(block, out);
		break;
	case FMT_PARTITION:
		partition_text(block, out);
		break;
	case FMT_ENGINE:
		engine_text(block, out);
		break;
	case FMT_HISTORY:
		history_text(block, out);
		break;
	case FMT_ROOT:
		root_text(block, out);
		break;
	case FMT_RECORD:
		record_text(block, out);
		break;
	case FMT_PAGE:
		page_text(block, out);
		break;
	case FMT_SNAPSHOTS:
		snapshots_text(block, out);
		break;
	default:
		break;
	}
}

void fmt_to_text(const void *block, struct text *out)
{
	const struct fmt_head *head = block;
	unsigned kind = le16_get(head->kind);
	enum fmt_verdict verdict = fmt_verify(block, (enum fmt_kind)kind, 0, UINT32_MAX);
	if (verdict == FMT_BLANK || verdict == FMT_FOREIGN) {
		text_append(out, "state: %s\n", fmt_verdict_text(verdict));
		return;
	}
	text_append(out, "kind: %s\n", fmt_kind_text(kind));
	text_append(out, "state: %s\n", fmt_verdict_text(verdict));
	number(out, "version", le16_get(head->version));
	hex(out, "guid", le64_get(head->guid));
	number(out, "partition", le32_get(head->partition));
	number(out, "count", le32_get(head->count));
	hex(out, "checksum", le64_get(head->checksum));
	if (verdict != FMT_NEWER && verdict != FMT_OLDER) /* its fields may lie elsewhere */
		body_text(block, kind, out);
}
