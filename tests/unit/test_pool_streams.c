/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Streams from one pool to another: what arrives, what is refused and leaves no trace, what is gone on with after
 * a stream was cut or the power failed. And the streams of tests/golden, which every later version has to make,
 * and to receive.
 */
#include "pool_fixture.h"
#include "stream/stream.h"

enum { VOLUME_BLOCKS = 2048, MARK_BYTES = 8 << 10 };

struct tape {
	uint8_t *bytes;
	size_t length, room;
	size_t at, cut; /* reading: no more than `cut` */
	struct watch *watch;
};

static int tape_write(void *context, const void *data, size_t length, struct lcpfs_failure *failure)
{
	struct tape *t = context;
	(void)failure;
	if (t->length + length > t->room) {
		t->room = 2 * (t->length + length);
		t->bytes = realloc(t->bytes, t->room);
		assert_non_null(t->bytes);
	}
	memcpy(t->bytes + t->length, data, length);
	t->length += length;
	return 0;
}

static int tape_read(void *context, void *buffer, size_t *length, struct lcpfs_failure *failure)
{
	struct tape *t = context;
	(void)failure;
	*length = MIN_OF(*length, t->cut - t->at);
	memcpy(buffer, t->bytes + t->at, *length);
	t->at += *length;
	return 0;
}

static struct tape record(struct fixture *f, const char *name, const char *from)
{
	struct tape t = {0};
	struct lcpfs_send_options options = {.from = from, .write = tape_write, .context = &t};
	struct lcpfs_stream stream, dry;
	if (lcpfs_snapshot_send(f->pool, name, &options, &stream, &f->failure))
		fail_msg("%s: %s", name, f->failure.message);
	assert_int_equal(stream.stream_bytes, t.length);
	options.dry_run = true;
	assert_int_equal(lcpfs_snapshot_send(f->pool, name, &options, &dry, &f->failure), 0);
	assert_memory_equal(&dry, &stream, sizeof(dry));
	return t;
}

static int play_with(struct fixture *f, const char *name, struct tape *t, size_t cut,
		     struct lcpfs_receive_options options)
{
	struct lcpfs_stream stream;
	t->at = 0;
	t->cut = cut;
	options.read = tape_read;
	options.context = t;
	memset(&f->failure, 0, sizeof(f->failure));
	return lcpfs_snapshot_receive(f->pool, name, &options, &stream, &f->failure);
}

static int play(struct fixture *f, const char *name, struct tape *t, size_t cut)
{
	return play_with(f, name, t, cut, (struct lcpfs_receive_options){0});
}

static int resume(struct fixture *f, const char *name, struct tape *t, size_t cut)
{
	return play_with(f, name, t, cut, (struct lcpfs_receive_options){.resume = true});
}

static void must(struct fixture *f, int error)
{
	if (error)
		fail_msg("%s", f->failure.message);
}

static void take(struct fixture *f, const char *name)
{
	must(f, lcpfs_snapshot_create(f->pool, &name, 1, NULL, &f->failure));
}

/* The same bytes, and the same holes. */
static void compare(struct fixture *a, const char *name, struct fixture *b, const char *other)
{
	static uint8_t x[64 * BLOCK_SIZE], y[64 * BLOCK_SIZE];
	struct lcpfs_partition *p, *q;
	must(a, lcpfs_partition_open(a->pool, name, &p, &a->failure));
	must(b, lcpfs_partition_open(b->pool, other, &q, &b->failure));
	uint64_t bytes = lcpfs_volume_bytes(p), end = 0, end_q = 0;
	for (uint64_t at = 0; at < bytes; at += sizeof(x)) {
		size_t n = (size_t)MIN_OF(bytes - at, sizeof(x));
		must(a, lcpfs_volume_read(p, at, x, n, &a->failure));
		must(b, lcpfs_volume_read(q, at, y, n, &b->failure));
		assert_memory_equal(x, y, n);
	}
	for (bool data, data_q; end < bytes;) {
		uint64_t at = end;
		assert_int_equal(lcpfs_volume_extent(p, at, bytes - at, &data, &end), 0);
		assert_int_equal(lcpfs_volume_extent(q, at, bytes - at, &data_q, &end_q), 0);
		assert_true(end == end_q && data == data_q);
	}
	lcpfs_partition_close(p);
	lcpfs_partition_close(q);
}

static uint64_t snapshots(struct fixture *f, const char *name)
{
	return fixture_info(f, name).snapshots;
}

/* With a partition "a" in it, of a volume of VOLUME_BLOCKS. */
static void new_pool(struct fixture *f, uint64_t bytes, uint64_t metaslab_bytes, uint64_t guid)
{
	struct simimage *image = simimage_new(bytes);
	struct lcpfs_create_options options = {.metaslab_bytes = metaslab_bytes};
	struct lcpfs_partition_spec spec = {.name = "a",
					    .thin = true,
					    .min_bytes = 7 * metaslab_bytes,
					    .size_bytes = bytes / 2,
					    .max_bytes = bytes,
					    .volume_bytes = VOLUME_BLOCKS * BLOCK_SIZE};
	fixture_init(f, image);
	simimage_free(image);
	must(f, pool_create_vdev(f->vdev, &f->clock, &options, guid, &f->failure));
	must(f, fixture_open(f, false));
	f->pool->mark_bytes = MARK_BYTES;
	must(f, pool_add_of_space(f->pool, &spec, &f->failure));
}

static void trim(struct fixture *f, uint64_t first, uint64_t count)
{
	struct lcpfs_partition *p;
	must(f, lcpfs_partition_open(f->pool, "a", &p, &f->failure));
	must(f, lcpfs_volume_trim(p, first * BLOCK_SIZE, count * BLOCK_SIZE, false, &f->failure));
	lcpfs_partition_close(p);
}

/* -- what arrives -- */

static void long_chains_come_out_the_same(void **state)
{
	struct fixture f, g;
	char name[16] = "", from[16] = "";
	(void)state;
	new_pool(&f, 96 * MB, 1 * MB, 1);
	new_pool(&g, 128 * MB, 2 * MB, 2);
	for (unsigned i = 0; i < 200; i++) {
		uint64_t r = hash_mix(i + 77), first = r % (VOLUME_BLOCKS - 300);
		if (r >> 20 & 3)
			must(&f, fixture_write(&f, "a", first, 1 + (r >> 32) % (i % 50 ? 4 : 280), i));
		if (!(r >> 24 & 3))
			trim(&f, (r >> 40) % (VOLUME_BLOCKS - 300), 1 + (r >> 28) % 300);
		strcpy(from, name);
		snprintf(name, sizeof(name), "a@%u", i);
		f.now_us += 1000;
		take(&f, name);
		struct tape t = record(&f, name, i ? from + 2 : NULL);
		must(&g, play(&g, "a", &t, t.length));
		assert_int_equal(play(&g, "a", &t, t.length), -LCPFS_E_EXISTS);
		free(t.bytes);
		if (i % 40 == 39) {
			compare(&f, name, &g, name);
			compare(&f, "a", &g, "a");
		}
	}
	assert_int_equal(snapshots(&g, "a"), 200);
	for (unsigned i = 0; i < 200; i += 66) {
		snprintf(name, sizeof(name), "a@%u", i);
		compare(&f, name, &g, name);
	}
	/* In one step, and on from what was received. */
	struct tape t = record(&f, "a@150", "a@20"), u = record(&g, "a@150", "@20");
	assert_int_equal(t.length, u.length);
	assert_memory_equal(t.bytes + 320, u.bytes + 320, 20); /* but for the pool's guid, and so all checksums */
	must(&g, lcpfs_partition_add(g.pool,
				     &(struct lcpfs_partition_spec){.name = "b",
								    .min_bytes = 20 * MB,
								    .max_bytes = 20 * MB,
								    .volume_bytes = VOLUME_BLOCKS * BLOCK_SIZE,
								    .thin = true},
				     &g.failure));
	struct tape full = record(&f, "a@20", NULL);
	must(&g, play(&g, "b", &full, full.length));
	must(&g, play(&g, "b", &u, u.length));
	compare(&f, "a@150", &g, "b@150");
	fixture_invariants(&g);
	must(&g, fixture_close(&g));
	assert_int_equal(fixture_check(&g, true), 0);
	free(t.bytes);
	free(u.bytes);
	free(full.bytes);
	fixture_done(&f);
	fixture_done(&g);
}

/* -- what is refused -- */

/* A pool "f" with a@1 and a@2, both as streams; "g" has received the first. */
struct pair {
	struct fixture f, g;
	struct tape full, more;
};

/* Bytes that never change, since golden streams have them. */
static void fill(struct fixture *f, uint64_t first, uint64_t count, uint64_t generation)
{
	struct lcpfs_partition *part;
	le64 block[BLOCK_SIZE / 8];
	must(f, lcpfs_partition_open(f->pool, "a", &part, &f->failure));
	for (uint64_t b = first; b < first + count; b++) {
		for (unsigned i = 0; i < BLOCK_SIZE / 8; i++)
			block[i] = le64_of(hash_mix(b << 20 | generation << 12 | i));
		must(f, lcpfs_volume_write(part, b * BLOCK_SIZE, block, BLOCK_SIZE, false, &f->failure));
	}
	lcpfs_partition_close(part);
}

static void pair_new(struct pair *p)
{
	new_pool(&p->f, 48 * MB, 1 * MB, 1);
	new_pool(&p->g, 64 * MB, 2 * MB, 2);
	fill(&p->f, 10, 20, 1);
	fill(&p->f, 600, 3, 1);
	take(&p->f, "a@1");
	fill(&p->f, 25, 2, 2);
	fill(&p->f, 1200, 1, 2);
	trim(&p->f, 600, 2);
	p->f.now_us += 1000000;
	take(&p->f, "a@2");
	p->full = record(&p->f, "a@1", NULL);
	p->more = record(&p->f, "a@2", "1");
	must(&p->g, play(&p->g, "a", &p->full, p->full.length));
}

static void pair_done(struct pair *p)
{
	free(p->full.bytes);
	free(p->more.bytes);
	fixture_done(&p->f);
	fixture_done(&p->g);
}

/* Nothing has come, and nothing is in the way of the right stream. */
static void is_untouched(struct pair *p)
{
	struct lcpfs_partition *head, *base;
	struct lcpfs_difference d;
	assert_int_equal(snapshots(&p->g, "a"), 1);
	must(&p->g, lcpfs_partition_open(p->g.pool, "a", &head, &p->g.failure));
	must(&p->g, lcpfs_partition_open(p->g.pool, "a@1", &base, &p->g.failure));
	must(&p->g, lcpfs_volume_difference(base, head, 0, &d, &p->g.failure));
	assert_int_equal(d.length, 0);
	lcpfs_partition_close(head);
	lcpfs_partition_close(base);
	assert_int_equal(fixture_info(&p->g, "a").faulted, false);
}

/* Back to a@1 alone. */
static void undo(struct pair *p)
{
	const char *two = "a@2";
	must(&p->g, lcpfs_snapshot_destroy(p->g.pool, &two, 1, NULL, &p->g.failure));
	must(&p->g, lcpfs_snapshot_rollback(p->g.pool, "a@1", NULL, &p->g.failure));
}

static bool is_header(const struct tape *t, size_t at)
{
	uint32_t magic = STREAM_MAGIC;
	for (size_t back = 0; back < 64 && back <= at; back++) {
		if (at - back + 4 <= t->length && memcmp(t->bytes + at - back, &magic, 4) == 0)
			return true;
	}
	return false;
}

static void a_stream_cut_anywhere_leaves_no_trace(void **state)
{
	struct pair p;
	(void)state;
	pair_new(&p);
	for (size_t cut = 0; cut < p.more.length; cut += is_header(&p.more, cut) ? 1 : 499) {
		assert_int_equal(play(&p.g, "a", &p.more, cut), -LCPFS_E_STOPPED);
		if (!strstr(p.g.failure.message, "the stream ends before its end"))
			fail_msg("%s", p.g.failure.message);
		is_untouched(&p);
	}
	must(&p.g, play(&p.g, "a", &p.more, p.more.length));
	compare(&p.f, "a@2", &p.g, "a@2");
	fixture_invariants(&p.g);
	pair_done(&p);
}

static void a_flipped_bit_is_noticed(void **state)
{
	struct pair p;
	(void)state;
	pair_new(&p);
	for (size_t bit = 0; bit < 8 * p.more.length;
	     bit += is_header(&p.more, bit / 8) || bit < 320 * 8 ? 1 : 4001) {
		p.more.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		int error = play(&p.g, "a", &p.more, p.more.length);
		if (error != -LCPFS_E_CORRUPT && error != -LCPFS_E_VERSION && error != -LCPFS_E_INVALID)
			fail_msg("bit %zu: %d %s", bit, error, p.g.failure.message);
		p.more.bytes[bit / 8] ^= (uint8_t)(1 << bit % 8);
		is_untouched(&p);
	}
	must(&p.g, play(&p.g, "a", &p.more, p.more.length));
	pair_done(&p);
}

/* Records left out, twice, in another order; the end of another stream. */
static void records_are_all_and_in_order(void **state)
{
	struct pair p;
	size_t at[8], count = 0;
	(void)state;
	pair_new(&p);
	for (size_t i = 0; i + 4 <= p.more.length; i++) {
		if (is_header(&p.more, i) &&
		    (!i || !is_header(&p.more, i - 1) || (count && i == at[count - 1] + 64)))
			at[count++] = i;
	}
	assert_in_range(count, 4, 8);
	for (size_t i = 0; i + 1 < count; i++) {
		struct tape t = {.bytes = malloc(2 * p.more.length)};
		size_t length = at[i + 1] - at[i];
		memcpy(t.bytes, p.more.bytes, at[i]);
		memcpy(t.bytes + at[i], p.more.bytes + at[i + 1], p.more.length - at[i + 1]);
		assert_int_not_equal(play(&p.g, "a", &t, p.more.length - length), 0);
		is_untouched(&p);
		memcpy(t.bytes, p.more.bytes, at[i + 1]);
		memcpy(t.bytes + at[i + 1], p.more.bytes + at[i], p.more.length - at[i]);
		assert_int_not_equal(play(&p.g, "a", &t, p.more.length + length), 0);
		is_untouched(&p);
		free(t.bytes);
	}
	pair_done(&p);
}

static void what_does_not_fit_is_refused(void **state)
{
	struct lcpfs_receive_options force = {.force = true}, dry = {.dry_run = true}, abort = {.abort = true};
	struct lcpfs_partition_spec spec = {.name = "b", .min_bytes = 12 * MB, .max_bytes = 12 * MB};
	struct lcpfs_partition *reader, *writer;
	const char *two = "a@two";
	struct pair p;
	(void)state;
	pair_new(&p);
	struct fixture *g = &p.g;
	assert_int_equal(play(g, "nobody", &p.more, p.more.length), -LCPFS_E_NOT_FOUND);
	assert_int_equal(play_with(g, "a", &p.more, 0, abort), -LCPFS_E_NOT_FOUND);
	/* Somebody has it open. */
	must(g, lcpfs_partition_open(g->pool, "a", &writer, &g->failure));
	assert_int_equal(play(g, "a", &p.more, p.more.length), -LCPFS_E_BUSY);
	lcpfs_partition_close(writer);
	must(g, lcpfs_partition_open(g->pool, "a@1", &reader, &g->failure));
	/* It has changed. */
	must(g, fixture_write(g, "a", 5, 1, 3));
	assert_int_equal(play(g, "a", &p.more, p.more.length), -LCPFS_E_NOT_EMPTY);
	assert_string_equal(g->failure.message, "partition a has changed since a@1; --force gives that up");
	assert_int_equal(play_with(g, "a", &p.more, p.more.length, dry), -LCPFS_E_NOT_EMPTY);
	force.dry_run = true;
	must(g, play_with(g, "a", &p.more, p.more.length, force));
	fixture_expect(g, "a", 5, 1, 3);
	force.dry_run = false;
	must(g, play_with(g, "a", &p.more, p.more.length, force));
	lcpfs_partition_close(reader); /* who reads the snapshot that it goes on from is not in the way */
	compare(&p.f, "a@2", g, "a@2");
	undo(&p);
	is_untouched(&p);
	/* Another youngest one. */
	take(g, "a@two");
	assert_int_equal(play(g, "a", &p.more, p.more.length), -LCPFS_E_NOT_FOUND);
	assert_string_equal(g->failure.message,
			    "the stream goes on from a@1, and the youngest snapshot of a is another one: two");
	must(g, lcpfs_snapshot_destroy(g->pool, &two, 1, NULL, &g->failure));
	/* A name that is there. */
	assert_int_equal(play(g, "a", &p.full, p.full.length), -LCPFS_E_EXISTS);
	/* Snapshots, and a whole stream; data, and a whole stream; too short. */
	spec.volume_bytes = (VOLUME_BLOCKS - 1) * BLOCK_SIZE;
	must(g, lcpfs_partition_add(g->pool, &spec, &g->failure));
	assert_int_equal(play(g, "b", &p.more, p.more.length), -LCPFS_E_TOO_SMALL);
	must(g, lcpfs_partition_set(
			g->pool, "b",
			&(struct lcpfs_partition_change){.volume_bytes = (uint64_t)VOLUME_BLOCKS * BLOCK_SIZE},
			NULL, NULL, &(struct lcpfs_partition_info){0}, &g->failure));
	assert_int_equal(play(g, "b", &p.more, p.more.length), -LCPFS_E_NOT_FOUND);
	must(g, fixture_write(g, "b", 100, 200, 9));
	assert_int_equal(play(g, "b", &p.full, p.full.length), -LCPFS_E_NOT_EMPTY);
	must(g, play_with(g, "b", &p.full, p.full.length, (struct lcpfs_receive_options){.force = true}));
	compare(&p.f, "a@1", g, "b@1");
	must(g, play(g, "b", &p.more, p.more.length));
	compare(&p.f, "a@2", g, "b@2");
	struct tape other = record(g, "b@1", NULL);
	assert_int_equal(play(g, "a", &other, other.length), -LCPFS_E_EXISTS); /* the same, on its way back */
	free(other.bytes);
	pair_done(&p);
}

static void only_an_older_one_can_be_gone_on_from(void **state)
{
	struct tape t = {0};
	struct lcpfs_send_options options = {.from = "2", .write = tape_write, .context = &t};
	struct lcpfs_stream stream;
	struct pair p;
	(void)state;
	pair_new(&p);
	struct fixture *f = &p.f;
	assert_int_equal(lcpfs_snapshot_send(f->pool, "a@1", &options, &stream, &f->failure), -LCPFS_E_INVALID);
	assert_string_equal(f->failure.message, "a@2 is not older than a@1");
	assert_int_equal(lcpfs_snapshot_send(f->pool, "a@2", &options, &stream, &f->failure), -LCPFS_E_INVALID);
	assert_int_equal(lcpfs_snapshot_send(f->pool, "a", &options, &stream, &f->failure), -LCPFS_E_INVALID);
	options.from = "3";
	assert_int_equal(lcpfs_snapshot_send(f->pool, "a@2", &options, &stream, &f->failure), -LCPFS_E_NOT_FOUND);
	must(f, fixture_add(f, "c", 7 * MB, 7 * MB, 7 * MB));
	take(f, "c@1");
	options.from = "c@1";
	assert_int_equal(lcpfs_snapshot_send(f->pool, "a@2", &options, &stream, &f->failure), -LCPFS_E_INVALID);
	assert_int_equal(t.length, 0);
	/* A pool that is open only for reading will do. */
	must(f, fixture_close(f));
	must(f, fixture_open(f, true));
	struct tape again = record(f, "a@2", "a@1");
	assert_int_equal(again.length, p.more.length);
	assert_memory_equal(again.bytes, p.more.bytes, again.length);
	free(again.bytes);
	pair_done(&p);
}

/* -- since a bookmark -- */

static int mark(struct fixture *f, const char *snapshot, const char *name)
{
	return lcpfs_bookmark_create(f->pool, snapshot, name, NULL, &f->failure);
}

/* As much data from the bookmark as from the snapshot. */
static void same_data(struct fixture *f, const char *name, const char *snapshot, const char *bookmark)
{
	struct lcpfs_send_options options = {.from = snapshot, .dry_run = true};
	struct lcpfs_stream a, b;
	must(f, lcpfs_snapshot_send(f->pool, name, &options, &a, &f->failure));
	options.from = bookmark;
	must(f, lcpfs_snapshot_send(f->pool, name, &options, &b, &f->failure));
	assert_int_equal(a.data_bytes, b.data_bytes);
	assert_int_equal(a.from_guid, b.from_guid);
	assert_true(a.hole_bytes <= b.hole_bytes);
}

static void lose(struct fixture *f, const char *name)
{
	must(f, lcpfs_snapshot_destroy(f->pool, &name, 1, NULL, &f->failure));
}

/* Writes and trims, and a snapshot with a bookmark; mostly the snapshot goes before the next change. */
static void change(struct fixture *f, uint64_t random, unsigned i, const char *name, const char *bookmark)
{
	for (unsigned k = 0; k < 1 + (random & 3); k++) {
		uint64_t q = hash_mix(random + k), first = q % (VOLUME_BLOCKS - 300);
		must(f, fixture_write(f, "a", first, 1 + (q >> 32) % (q >> 60 ? 5 : 250), 10 * i + k));
		if (q >> 50 & 1)
			trim(f, (q >> 20) % (VOLUME_BLOCKS - 300), 1 + (q >> 36) % 300);
	}
	f->now_us += 1000;
	take(f, name);
	must(f, mark(f, name, bookmark));
}

static void increments_since_what_is_gone(uint64_t seed, bool reopens)
{
	char name[16], from[16] = "", bookmark[16], before[16] = "";
	struct fixture f, g;
	bool kept = false;
	new_pool(&f, 96 * MB, 1 * MB, 1);
	new_pool(&g, 128 * MB, 2 * MB, 2);
	for (unsigned i = 0; i < 70; i++) {
		uint64_t r = hash_mix(seed + i);
		snprintf(name, sizeof(name), "a@%u", i);
		snprintf(bookmark, sizeof(bookmark), "a#%u", i);
		change(&f, r, i, name, bookmark);
		if (reopens && r >> 10 & 1) {
			must(&f, fixture_close(&f));
			must(&f, fixture_open(&f, false));
		}
		if (i && (r >> 20 & 3) == 0) { /* not sent */
			if (r >> 22 & 1)
				lose(&f, name);
			continue;
		}
		if (kept) {
			same_data(&f, name, before + 2, from);
			lose(&f, before);
		}
		struct tape t = record(&f, name, i ? from : NULL);
		must(&g, play(&g, "a", &t, t.length));
		free(t.bytes);
		compare(&f, name, &g, name);
		kept = (r >> 24 & 3) == 0;
		if (!kept)
			lose(&f, name);
		strcpy(from, bookmark + 1);
		strcpy(before, name);
	}
	fixture_invariants(&f);
	must(&f, fixture_close(&f));
	assert_int_equal(fixture_check(&f, true), 0);
	fixture_done(&f);
	fixture_done(&g);
}

static void snapshots_may_go_where_there_is_a_bookmark(void **state)
{
	(void)state;
	for (uint64_t seed = 0; seed < 6; seed++)
		increments_since_what_is_gone(seed * 1000, seed % 2);
}

static void what_bookmarks_are_refused(void **state)
{
	struct lcpfs_snapshot_options dry = {.dry_run = true}, force = {.force = true};
	struct lcpfs_send_options options = {.from = "#m", .dry_run = true};
	struct lcpfs_bookmark_info list[4];
	struct lcpfs_stream stream;
	struct pair p;
	size_t count;
	(void)state;
	pair_new(&p);
	struct fixture *f = &p.f;
	must(f, lcpfs_bookmark_create(f->pool, "a@1", "m", &dry, &f->failure));
	assert_int_equal(mark(f, "a@none", "m"), -LCPFS_E_NOT_FOUND);
	assert_int_equal(mark(f, "a", "m"), -LCPFS_E_INVALID);
	assert_int_equal(mark(f, "a@1", "b#m"), -LCPFS_E_INVALID);
	assert_int_equal(mark(f, "a@1", "a#m m"), -LCPFS_E_INVALID);
	assert_int_equal(mark(f, "a@1", "#"), -LCPFS_E_INVALID);
	must(f, mark(f, "a@1", "m"));
	assert_int_equal(mark(f, "a@2", "a#m"), -LCPFS_E_EXISTS);
	must(f, mark(f, "a@2", "#2"));
	must(f, lcpfs_bookmark_list(f->pool, NULL, list, 4, &count, &f->failure));
	assert_int_equal(count, 2);
	assert_string_equal(list[0].name, "a#m");
	assert_string_equal(list[1].name, "a#2");
	assert_int_equal(lcpfs_bookmark_list(f->pool, "none", list, 4, &count, &f->failure), -LCPFS_E_NOT_FOUND);
	assert_int_equal(lcpfs_snapshot_send(f->pool, "a@1", &options, &stream, &f->failure), -LCPFS_E_INVALID);
	assert_string_equal(f->failure.message, "a#m is not older than a@1");
	must(f, lcpfs_snapshot_send(f->pool, "a@2", &options, &stream, &f->failure));
	assert_int_equal(stream.from_guid, list[0].guid);
	options.from = "a#none";
	assert_int_equal(lcpfs_snapshot_send(f->pool, "a@2", &options, &stream, &f->failure), -LCPFS_E_NOT_FOUND);
	options.from = "b#m";
	assert_int_equal(lcpfs_snapshot_send(f->pool, "a@2", &options, &stream, &f->failure), -LCPFS_E_INVALID);
	/* What a rollback gives up has no bookmark any more. */
	must(f, lcpfs_snapshot_destroy(f->pool, &(const char *){"a@2"}, 1, NULL, &f->failure));
	char partition[LCPFS_NAME_MAX + 1];
	must(f, lcpfs_clone_create(f->pool, "a@1", "c", false, &f->failure));
	/* A bookmark that is younger stays with what was the volume; and comes back. */
	must(f, lcpfs_clone_promote(f->pool, "c", false, partition, &f->failure));
	must(f, lcpfs_bookmark_list(f->pool, NULL, list, 4, &count, &f->failure));
	assert_int_equal(count, 2);
	assert_string_equal(list[0].name, "c#m");
	assert_string_equal(list[1].name, "a#2");
	must(f, lcpfs_clone_promote(f->pool, "a", false, partition, &f->failure));
	must(f, lcpfs_clone_destroy(f->pool, &(const char *){"c"}, 1, false, &f->failure));
	assert_int_equal(lcpfs_snapshot_rollback(f->pool, "a@1", NULL, &f->failure), -LCPFS_E_EXISTS);
	assert_string_equal(f->failure.message,
			    "bookmark a#2 is younger than a@1; --force destroys those that are");
	must(f, lcpfs_snapshot_rollback(f->pool, "a@1", &force, &f->failure));
	must(f, lcpfs_bookmark_list(f->pool, "a", list, 4, &count, &f->failure));
	assert_int_equal(count, 1);
	must(f, fixture_close(f));
	assert_int_equal(fixture_check(f, true), 0);
	must(f, fixture_open(f, false));
	must(f, lcpfs_bookmark_destroy(f->pool, "a#m", &dry, &f->failure));
	must(f, lcpfs_bookmark_destroy(f->pool, "a#m", NULL, &f->failure));
	assert_int_equal(lcpfs_bookmark_destroy(f->pool, "a#m", NULL, &f->failure), -LCPFS_E_NOT_FOUND);
	assert_int_equal(lcpfs_bookmark_destroy(f->pool, "a@1", NULL, &f->failure), -LCPFS_E_INVALID);
	must(f, lcpfs_bookmark_list(f->pool, NULL, list, 4, &count, &f->failure));
	assert_int_equal(count, 0);
	pair_done(&p);
}

/* -- going on -- */

static void is_half_received(struct fixture *g)
{
	const char *name = "a@x";
	struct lcpfs_partition *part;
	assert_int_equal(lcpfs_partition_open(g->pool, "a", &part, &g->failure), -LCPFS_E_BUSY);
	assert_non_null(
		strstr(g->failure.message, "go on with lcpfs receive --resume, or give it up with --abort"));
	assert_int_equal(lcpfs_snapshot_create(g->pool, &name, 1, NULL, &g->failure), -LCPFS_E_BUSY);
	name = "a@1";
	assert_int_equal(lcpfs_snapshot_destroy(g->pool, &name, 1, NULL, &g->failure), -LCPFS_E_BUSY);
	assert_int_equal(lcpfs_snapshot_rollback(g->pool, name, NULL, &g->failure), -LCPFS_E_BUSY);
	must(g, lcpfs_partition_open(g->pool, "a@1", &part, &g->failure));
	lcpfs_partition_close(part);
}

static void reopen(struct fixture *g)
{
	must(g, fixture_close(g));
	assert_int_equal(fixture_check(g, true), 0);
	must(g, fixture_open(g, false));
}

/* At every header's bytes, at some of each payload. */
static void a_cut_stream_is_gone_on_with(void **state)
{
	struct lcpfs_receive_options abort = {.abort = true};
	struct pair p;
	(void)state;
	pair_new(&p);
	for (size_t cut = 320, i = 0; cut < p.more.length; cut += is_header(&p.more, cut) ? 13 : 2027, i++) {
		assert_int_equal(resume(&p.g, "a", &p.more, cut), -LCPFS_E_STOPPED);
		is_half_received(&p.g);
		if (i % 4 == 0)
			reopen(&p.g);
		is_half_received(&p.g);
		assert_int_equal(play(&p.g, "a", &p.more, p.more.length), -LCPFS_E_BUSY);
		assert_int_equal(resume(&p.g, "a", &p.full, p.full.length), -LCPFS_E_INVALID);
		if (i % 3 == 0) {
			must(&p.g, play_with(&p.g, "a", &p.more, 0, abort));
			is_untouched(&p);
			continue;
		}
		if (i % 3 == 1)
			assert_int_equal(resume(&p.g, "a", &p.more, cut / 2), -LCPFS_E_STOPPED);
		is_half_received(&p.g);
		must(&p.g, resume(&p.g, "a", &p.more, p.more.length));
		compare(&p.f, "a@2", &p.g, "a@2");
		compare(&p.f, "a@2", &p.g, "a");
		undo(&p);
	}
	reopen(&p.g);
	is_untouched(&p);
	pair_done(&p);
}

/* The same with one bit of the data changed, and all checksums right. */
static struct tape forged(const struct tape *from)
{
	struct tape t = {0};
	struct stream_position at = {0};
	struct stream_about about = {0};
	for (size_t i = 0, length; i < from->length; i += length) {
		struct stream_header header;
		struct stream_begin begin;
		struct stream_end end;
		uint8_t *payload = from->bytes + i + sizeof(header);
		memcpy(&header, from->bytes + i, sizeof(header));
		length = sizeof(header) + le32_get(header.payload);
		uint64_t offset = le64_get(header.offset), bytes = le64_get(header.length);
		switch (stream_kind(&header)) {
		case STREAM_BEGIN:
			assert_int_equal(stream_read_begin((struct stream_begin *)payload, &about, NULL), 0);
			stream_put_begin(&at, &about, &header, &begin);
			break;
		case STREAM_DATA:
			payload[7] ^= 1;
			stream_put_data(&at, offset, payload, bytes, &header);
			break;
		case STREAM_HOLE:
			stream_put_hole(&at, offset, bytes, &header);
			break;
		default:
			stream_put_end(&at, offset, &header, &end);
		}
		tape_write(&t, &header, sizeof(header), NULL);
		tape_write(&t, payload, length - sizeof(header), NULL);
		if (stream_kind(&header) == STREAM_DATA)
			payload[7] ^= 1;
	}
	return t;
}

static void another_stream_is_not_gone_on_with(void **state)
{
	struct pair p;
	(void)state;
	pair_new(&p);
	struct tape other = forged(&p.more);
	assert_int_equal(other.length, p.more.length);
	assert_int_equal(resume(&p.g, "a", &p.more, p.more.length - 97), -LCPFS_E_STOPPED);
	assert_int_equal(resume(&p.g, "a", &other, other.length), -LCPFS_E_INVALID);
	is_half_received(&p.g);
	must(&p.g, resume(&p.g, "a", &p.more, p.more.length));
	compare(&p.f, "a@2", &p.g, "a@2");
	undo(&p);
	must(&p.g, play(&p.g, "a", &other, other.length)); /* it is a good one */
	free(other.bytes);
	pair_done(&p);
}

static int set_volume(struct fixture *g, uint64_t blocks)
{
	struct lcpfs_partition_change change = {.volume_bytes = blocks * BLOCK_SIZE};
	struct lcpfs_partition_info info;
	return lcpfs_partition_set(g->pool, "a", &change, NULL, NULL, &info, &g->failure);
}

/* Giving up brings back what is beyond a new end. */
static void a_half_received_volume_is_not_made_shorter(void **state)
{
	struct pair p;
	(void)state;
	pair_new(&p);
	fill(&p.f, 0, 8, 5);
	trim(&p.f, 1200, 1);
	take(&p.f, "a@3");
	must(&p.g, play(&p.g, "a", &p.more, p.more.length));
	struct tape third = record(&p.f, "a@3", "2");
	assert_int_equal(resume(&p.g, "a", &third, third.length - 95), -LCPFS_E_STOPPED);
	assert_int_equal(set_volume(&p.g, 1000), -LCPFS_E_BUSY);
	assert_non_null(strstr(p.g.failure.message, "has received a part of a snapshot"));
	must(&p.g, set_volume(&p.g, 2 * VOLUME_BLOCKS));
	must(&p.g, play_with(&p.g, "a", &third, 0, (struct lcpfs_receive_options){.abort = true}));
	assert_int_equal(set_volume(&p.g, 1000), -LCPFS_E_TOO_SMALL);
	must(&p.g, play(&p.g, "a", &third, third.length));
	must(&p.g, set_volume(&p.g, 1000));
	free(third.bytes);
	pair_done(&p);
}

/* What is given up by force stays until something has come that would take its place. */
static void force_gives_nothing_up_for_a_beginning(void **state)
{
	struct lcpfs_receive_options force = {.force = true};
	struct pair p;
	(void)state;
	pair_new(&p);
	must(&p.g, fixture_write(&p.g, "a", 5, 1, 3));
	for (size_t cut = 320; cut < 320 + 64; cut += 21)
		assert_int_equal(play_with(&p.g, "a", &p.more, cut, force), -LCPFS_E_STOPPED);
	p.more.bytes[320 + 64 + 9] ^= 1;
	assert_int_equal(play_with(&p.g, "a", &p.more, p.more.length, force), -LCPFS_E_CORRUPT);
	p.more.bytes[320 + 64 + 9] ^= 1;
	force.resume = true;
	assert_int_equal(play_with(&p.g, "a", &p.more, 320, force), -LCPFS_E_STOPPED);
	fixture_expect(&p.g, "a", 5, 1, 3);
	must(&p.g, play_with(&p.g, "a", &p.more, p.more.length, force));
	compare(&p.f, "a@2", &p.g, "a");
	pair_done(&p);
}

struct watch {
	unsigned calls, ends_at;
};

static bool watched(void *context, uint64_t done, uint64_t total)
{
	struct watch *w = ((struct tape *)context)->watch;
	assert_true(done <= total && total > 0);
	return ++w->calls != w->ends_at;
}

static void giving_up_tells_how_far_it_is(void **state)
{
	struct lcpfs_receive_options abort = {.abort = true, .progress = watched};
	struct watch w = {.ends_at = 5};
	struct fixture empty;
	struct pair p;
	(void)state;
	pair_new(&p);
	must(&p.f, fixture_write(&p.f, "a", 0, 500, 5));
	take(&p.f, "a@3");
	struct tape t = record(&p.f, "a@3", NULL);
	new_pool(&empty, 64 * MB, 2 * MB, 3);
	assert_int_equal(resume(&empty, "a", &t, t.length - 97), -LCPFS_E_STOPPED);
	t.watch = &w;
	assert_int_equal(play_with(&empty, "a", &t, 0, abort), -LCPFS_E_STOPPED);
	assert_int_equal(w.calls, 5);
	assert_int_equal(play(&empty, "a", &t, t.length), -LCPFS_E_BUSY); /* it is still there */
	w = (struct watch){0};
	must(&empty, play_with(&empty, "a", &t, 0, abort));
	assert_true(w.calls > 100);
	/* Where it is given up by itself, nobody is asked whether he wants that. */
	w = (struct watch){.ends_at = 2};
	assert_int_equal(play_with(&empty, "a", &t, t.length, (struct lcpfs_receive_options){.progress = watched}),
			 -LCPFS_E_STOPPED);
	assert_true(w.calls > 100);
	t.watch = NULL;
	must(&empty, play(&empty, "a", &t, t.length));
	free(t.bytes);
	fixture_done(&empty);
	pair_done(&p);
}

/* A part of what the stream brought is gone by then. */
static void after_giving_up_in_part_it_begins_anew(void **state)
{
	struct lcpfs_receive_options abort = {.abort = true, .progress = watched};
	struct watch w = {.ends_at = 50};
	struct fixture empty;
	struct pair p;
	(void)state;
	pair_new(&p);
	struct tape t = record(&p.f, "a@2", NULL);
	new_pool(&empty, 64 * MB, 2 * MB, 3);
	assert_int_equal(resume(&empty, "a", &t, t.length - 97), -LCPFS_E_STOPPED);
	t.watch = &w;
	assert_int_equal(play_with(&empty, "a", &t, 0, abort), -LCPFS_E_STOPPED);
	t.watch = NULL;
	must(&empty, resume(&empty, "a", &t, t.length));
	compare(&p.f, "a@2", &empty, "a@2");
	free(t.bytes);
	fixture_done(&empty);
	pair_done(&p);
}

/* "BEGIN" with other names in it, and all checksums right. */
static void renamed(struct tape *t, const struct stream_about *about)
{
	struct stream_position at = {0};
	struct stream_header header;
	struct stream_begin begin;
	stream_put_begin(&at, about, &header, &begin);
	memcpy(t->bytes, &header, sizeof(header));
	memcpy(t->bytes + sizeof(header), &begin, sizeof(begin));
}

static void a_stream_with_odd_names_is_refused(void **state)
{
	static const char *const odd[] = {"\x1b[31m", "a\nb", "\xff", "caf\xc3\xa9", "a b",
					  "a@b",      "a/b",  "a,b",  "\x7f"};
	struct stream_about good, about;
	struct pair p;
	(void)state;
	pair_new(&p);
	assert_int_equal(stream_read_begin((struct stream_begin *)(p.more.bytes + 64), &good, NULL), 0);
	for (unsigned i = 0; i < ARRAY_LENGTH(odd); i++) {
		about = good;
		strcpy(about.partition, odd[i]);
		renamed(&p.more, &about);
		assert_int_equal(play(&p.g, "a", &p.more, p.more.length), -LCPFS_E_CORRUPT);
		assert_non_null(strstr(p.g.failure.message, "what the stream says of itself makes no sense"));
		about = good;
		strcpy(about.snapshot, odd[i]);
		renamed(&p.more, &about);
		assert_int_equal(play(&p.g, "a", &p.more, p.more.length), -LCPFS_E_CORRUPT);
		about = good;
		strcpy(about.from_name, odd[i]);
		renamed(&p.more, &about);
		assert_int_equal(play(&p.g, "a", &p.more, p.more.length), -LCPFS_E_CORRUPT);
		is_untouched(&p);
	}
	renamed(&p.more, &good);
	must(&p.g, play(&p.g, "a", &p.more, p.more.length));
	pair_done(&p);
}

/* -- when the power fails -- */

struct cuts {
	struct pair *pair;
	struct tape *tape;
	bool whole; /* the stream is a whole one, into an empty volume */
	bool force; /* the volume had changed */
	unsigned made, half, done, marked;
};

static bool is_marked(const struct fixture *g)
{
	const struct part *part = part_named(g->pool, "a");
	const struct fmt_partition *page =
		txg_current(g->pool, layout_partition_page(&g->pool->layout, part->slot));
	return le64_get(page->receive.guid);
}

/* What only asks leaves a mark where it is. */
static void ask_only(struct cuts *c, struct fixture *g, struct tape *t)
{
	struct lcpfs_snapshot_options dry = {.dry_run = true};
	const char *name = "a@next";
	struct lcpfs_partition *part;
	struct lcpfs_pool_info before, after;
	assert_int_equal(lcpfs_pool_get_info(g->pool, &before), 0);
	must(g, lcpfs_snapshot_create(g->pool, &name, 1, &dry, &g->failure));
	assert_int_equal(play_with(g, "a", t, t->length, (struct lcpfs_receive_options){.dry_run = true}),
			 -LCPFS_E_EXISTS);
	must(g, lcpfs_partition_open(g->pool, "a", &part, &g->failure));
	lcpfs_partition_close(part);
	assert_int_equal(lcpfs_pool_get_info(g->pool, &after), 0);
	assert_int_equal(before.txg, after.txg);
	c->marked++;
}

/* After a crash: as before, or half received, or done; and from there to the end. */
static void look_at(struct cuts *c, const struct simimage *image, bool gives_up)
{
	struct tape t = *c->tape;
	const char *name = c->whole ? "a@1" : "a@2";
	struct lcpfs_partition *part;
	struct fixture g;
	fixture_init(&g, image);
	assert_int_equal(fixture_check(&g, true), 0);
	must(&g, fixture_open(&g, false));
	g.pool->mark_bytes = MARK_BYTES;
	uint64_t had = !c->whole, has = snapshots(&g, "a");
	if (has > had && is_marked(&g))
		ask_only(c, &g, &t);
	int error = lcpfs_partition_open(g.pool, "a", &part, &g.failure);
	lcpfs_partition_close(part);
	if (error) {
		assert_int_equal(error, -LCPFS_E_BUSY);
		assert_int_equal(has, had);
		c->half++;
		assert_int_equal(play(&g, "a", &t, t.length), -LCPFS_E_BUSY);
		if (gives_up) {
			must(&g, play_with(&g, "a", &t, 0, (struct lcpfs_receive_options){.abort = true}));
			must(&g, play(&g, "a", &t, t.length));
		} else {
			must(&g, resume(&g, "a", &t, t.length));
		}
	} else if (has == had) { /* nothing has happened yet */
		must(&g, play_with(&g, "a", &t, t.length, (struct lcpfs_receive_options){.force = c->force}));
	} else {
		c->done++;
	}
	assert_int_equal(snapshots(&g, "a"), had + 1);
	compare(&c->pair->f, name, &g, name);
	compare(&c->pair->f, name, &g, "a");
	take(&g, "a@next"); /* and with it all is as if it had never been received */
	must(&g, fixture_close(&g));
	must(&g, fixture_open(&g, false));
	compare(&c->pair->f, name, &g, "a");
	fixture_invariants(&g);
	fixture_done(&g);
}

static void cut_here(void *context, struct simdisk *disk, uint64_t change)
{
	static const enum simdisk_fate_kind kinds[] = {SIMDISK_NONE, SIMDISK_ALL, SIMDISK_SCATTER};
	struct cuts *c = context;
	struct simdisk_fate fate = {.kind = kinds[c->made % 3], .seed = change};
	struct simimage *image = simdisk_image(disk, &fate);
	look_at(c, image, c->made % 4 == 3);
	simimage_free(image);
	c->made++;
}

static void the_power_may_fail_at_any_write(void **state)
{
	struct pair p;
	(void)state;
	pair_new(&p);
	must(&p.f, fixture_write(&p.f, "a", 1500, 40, 5)); /* so that the mark moves */
	take(&p.f, "a@3");
	struct cuts cuts = {.pair = &p, .tape = &p.more};
	simdisk_on_change(p.g.disk, cut_here, &cuts);
	must(&p.g, play(&p.g, "a", &p.more, p.more.length));
	simdisk_on_change(p.g.disk, NULL, NULL);
	assert_true(cuts.half > 5 && cuts.done > 0 && cuts.marked > 0);
	pair_done(&p);

	/* What is given up must be gone, also where that was cut short. */
	pair_new(&p);
	must(&p.g, fixture_write(&p.g, "a", 300, 30, 7));
	cuts = (struct cuts){.pair = &p, .tape = &p.more, .force = true};
	simdisk_on_change(p.g.disk, cut_here, &cuts);
	must(&p.g, play_with(&p.g, "a", &p.more, p.more.length, (struct lcpfs_receive_options){.force = true}));
	simdisk_on_change(p.g.disk, NULL, NULL);
	assert_true(cuts.half > 5 && cuts.done > 0);
	pair_done(&p);

	pair_new(&p);
	struct fixture empty;
	new_pool(&empty, 64 * MB, 2 * MB, 3);
	cuts = (struct cuts){.pair = &p, .tape = &p.full, .whole = true};
	simdisk_on_change(empty.disk, cut_here, &cuts);
	must(&empty, play(&empty, "a", &p.full, p.full.length));
	simdisk_on_change(empty.disk, NULL, NULL);
	assert_true(cuts.half > 5 && cuts.done > 0);
	fixture_done(&empty);
	pair_done(&p);
}

/* What was received whole stays so when a clone takes the volume's place, and the snapshot goes with the other. */
static void promote_marked(void *context, struct simdisk *disk, uint64_t change)
{
	struct simdisk_fate fate = {.kind = SIMDISK_ALL, .seed = change};
	struct simimage *image = simdisk_image(disk, &fate);
	unsigned *marked = context;
	struct lcpfs_partition *part;
	char partition[LCPFS_NAME_MAX + 1];
	struct fixture g;
	fixture_init(&g, image);
	simimage_free(image);
	must(&g, fixture_open(&g, false));
	if (snapshots(&g, "a") == 2 && is_marked(&g)) {
		must(&g, lcpfs_clone_promote(g.pool, "c", true, partition, &g.failure));
		assert_true(is_marked(&g));
		must(&g, lcpfs_clone_promote(g.pool, "c", false, partition, &g.failure));
		must(&g, lcpfs_partition_open(g.pool, "c", &part, &g.failure));
		lcpfs_partition_close(part);
		take(&g, "c@next");
		must(&g, fixture_close(&g));
		assert_int_equal(fixture_check(&g, true), 0);
		++*marked;
	}
	fixture_done(&g);
}

static void a_clone_is_promoted_past_what_was_just_received(void **state)
{
	struct pair p;
	unsigned marked = 0;
	(void)state;
	pair_new(&p);
	must(&p.g, lcpfs_clone_create(p.g.pool, "a@1", "c", false, &p.g.failure));
	simdisk_on_change(p.g.disk, promote_marked, &marked);
	must(&p.g, play(&p.g, "a", &p.more, p.more.length));
	simdisk_on_change(p.g.disk, NULL, NULL);
	assert_true(marked > 0);
	pair_done(&p);
}

/* -- golden streams -- */

static void check_golden(const char *name, struct tape *t)
{
	const char *folder = getenv("LCPFS_GOLDEN");
	char path[400];
	uint8_t *bytes = malloc(t->length + 1);
	snprintf(path, sizeof(path), "%s/%s.stream", folder ? folder : "tests/golden", name);
	if (getenv("LCPFS_GOLDEN_WRITE")) {
		FILE *to = fopen(path, "wb");
		assert_int_equal(fwrite(t->bytes, 1, t->length, to), t->length);
		fclose(to);
	}
	FILE *from = fopen(path, "rb");
	assert_non_null(from);
	assert_int_equal(fread(bytes, 1, t->length + 1, from), t->length);
	fclose(from);
	assert_memory_equal(bytes, t->bytes, t->length);
	memcpy(t->bytes, bytes, t->length);
	free(bytes);
}

static void streams_are_as_in_the_golden_ones(void **state)
{
	struct pair p;
	(void)state;
	pair_new(&p);
	check_golden("whole", &p.full);
	check_golden("increment", &p.more);
	must(&p.g, play(&p.g, "a", &p.more, p.more.length));
	compare(&p.f, "a@2", &p.g, "a@2");
	pair_done(&p);
}

int main(void)
{
	const struct CMUnitTest tests[] = {
		cmocka_unit_test(long_chains_come_out_the_same),
		cmocka_unit_test(a_stream_cut_anywhere_leaves_no_trace),
		cmocka_unit_test(a_flipped_bit_is_noticed),
		cmocka_unit_test(records_are_all_and_in_order),
		cmocka_unit_test(what_does_not_fit_is_refused),
		cmocka_unit_test(only_an_older_one_can_be_gone_on_from),
		cmocka_unit_test(snapshots_may_go_where_there_is_a_bookmark),
		cmocka_unit_test(what_bookmarks_are_refused),
		cmocka_unit_test(a_cut_stream_is_gone_on_with),
		cmocka_unit_test(another_stream_is_not_gone_on_with),
		cmocka_unit_test(a_half_received_volume_is_not_made_shorter),
		cmocka_unit_test(force_gives_nothing_up_for_a_beginning),
		cmocka_unit_test(giving_up_tells_how_far_it_is),
		cmocka_unit_test(after_giving_up_in_part_it_begins_anew),
		cmocka_unit_test(a_stream_with_odd_names_is_refused),
		cmocka_unit_test(the_power_may_fail_at_any_write),
		cmocka_unit_test(a_clone_is_promoted_past_what_was_just_received),
		cmocka_unit_test(streams_are_as_in_the_golden_ones),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
