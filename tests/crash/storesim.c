/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A store on a simulated disk, driven by a random workload beside a plain model of what must be read back, with
 * power cuts at every change of the device. One thread, an injected clock: a run is its seed.
 *
 *	storesim [--seed N] [--seeds COUNT] [--ops N] [--cut-every N] [--fates N] [--verbose]
 *
 * After each cut the store is opened from what the disk may have kept (cached writes kept, lost, torn, reordered),
 * every block is compared with the model, every invariant is checked, and a little work is done on it, itself with
 * cuts now and then. Prints what it covered. Exit status 1 and the seed at the first difference.
 */
#include <getopt.h>
#include <inttypes.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/hash.h"
#include "store/internal.h"
#include "vdev/simdisk.h"

enum { METASLAB_BLOCKS = 256, BASE = 16, JOURNAL_MAX = 1 << 16, RANGE_MAX = 48 };

struct change {
	uint32_t block, version; /* version 0: zeros */
};

struct model {
	uint64_t blocks;
	uint32_t *durable;  /* what a flush covered */
	uint32_t *current;  /* what reads see */
	struct change *journal; /* since the last flush, in order */
	uint32_t journal_count;
	uint32_t next_version;
};

struct counts {
	uint64_t runs, ops, cuts, states, nested, blocks_compared, longest_forward;
};

struct run {
	uint64_t seed, random;
	struct simdisk *disk;
	struct store *store;
	struct store_config config;
	struct model model;
	uint32_t metaslab[64]; /* owned by the store */
	uint32_t owned;
	uint32_t spare[64];    /* not owned by it */
	uint32_t spares;
	uint32_t total;
	uint64_t now_us;
	uint64_t op;
	bool depth;            /* already inside a cut */
	bool busy;             /* an operation is under way: it is in the journal already */
};

static struct counts counts;
static uint64_t cut_every = 1, fates = 3;
static bool verbose;
static const char *stage = "";

static uint64_t next_random(struct run *r)
{
	return hash_mix(r->random++);
}

static uint64_t below(struct run *r, uint64_t n)
{
	return next_random(r) % n;
}

_Noreturn static void fail(const struct run *r, const char *what, uint64_t block, int64_t got, int64_t want)
{
	fprintf(stderr, "storesim: seed %" PRIu64 ", op %" PRIu64 " (%s): %s: block %" PRIu64 ", got %" PRId64 ", want %" PRId64
			"\n", r->seed, r->op, stage, what, block, got, want);
	abort();
}

static uint64_t sim_now_us(void *context)
{
	return ++((struct run *)context)->now_us;
}

static uint64_t sim_wall_s(void *context)
{
	return ((struct run *)context)->now_us / 1000000;
}

/* --- content --- */

static void fill(uint8_t *data, uint32_t block, uint32_t version)
{
	uint64_t *word = (uint64_t *)data;
	for (unsigned i = 0; i < BLOCK_SIZE / 8; i++)
		word[i] = version ? hash_mix((uint64_t)block << 32 | version) + i : 0;
	if (version)
		word[0] = (uint64_t)block << 32 | version;
}

/* The version that a block holds, or -1 if it is none that was ever written there. */
static int64_t version_of(const uint8_t *data, uint32_t block)
{
	uint8_t want[BLOCK_SIZE];
	const uint64_t *word = (const uint64_t *)data;
	uint32_t version = (uint32_t)word[0];
	fill(want, block, version);
	return memcmp(data, want, BLOCK_SIZE) == 0 ? (int64_t)version : -1;
}

/* --- model --- */

static void model_init(struct model *m, uint64_t blocks)
{
	*m = (struct model){.blocks = blocks, .next_version = 1};
	m->durable = calloc(blocks, sizeof(*m->durable));
	m->current = calloc(blocks, sizeof(*m->current));
	m->journal = calloc(JOURNAL_MAX, sizeof(*m->journal));
	CHECK(m->durable && m->current && m->journal);
}

static void model_free(struct model *m)
{
	free(m->durable);
	free(m->current);
	free(m->journal);
}

static void model_copy(struct model *to, const struct model *from)
{
	model_init(to, from->blocks);
	memcpy(to->durable, from->durable, from->blocks * sizeof(*to->durable));
	memcpy(to->current, from->current, from->blocks * sizeof(*to->current));
	memcpy(to->journal, from->journal, from->journal_count * sizeof(*to->journal));
	to->journal_count = from->journal_count;
	to->next_version = from->next_version;
}

static void model_change(struct model *m, uint32_t block, uint32_t version)
{
	CHECK(m->journal_count < JOURNAL_MAX);
	m->journal[m->journal_count++] = (struct change){block, version};
	m->current[block] = version;
}

static void model_flushed(struct model *m)
{
	memcpy(m->durable, m->current, m->blocks * sizeof(*m->durable));
	m->journal_count = 0;
}

/* --- verifying --- */

static uint32_t read_version(struct run *r, uint32_t block)
{
	uint8_t data[BLOCK_SIZE];
	int error = store_read(r->store, (uint64_t)block << BLOCK_SHIFT, data, BLOCK_SIZE, NULL);
	if (error)
		fail(r, "read failed", block, error, r->model.current[block]);
	int64_t version = version_of(data, block);
	if (version < 0)
		fail(r, "content that was never written there", block, (int64_t)((uint64_t *)(void *)data)[0], r->model.current[block]);
	counts.blocks_compared++;
	return (uint32_t)version;
}

static void verify_current(struct run *r)
{
	for (uint32_t b = 0; b < r->model.blocks; b++) {
		uint32_t version = read_version(r, b);
		if (version != r->model.current[b])
			fail(r, "not what was written last", b, version, r->model.current[b]);
	}
}

/*
 * After a cut: what is there must be the durable state plus the first k changes of the journal, for one k. Takes
 * what it finds as the new state of the model.
 */
static void verify_cut(struct run *r)
{
	struct model *m = &r->model;
	uint32_t low = 0, high = m->journal_count; /* k is in low..high */
	uint32_t *seen = calloc(m->blocks, sizeof(*seen));
	CHECK(seen);
	for (uint32_t b = 0; b < m->blocks; b++)
		seen[b] = read_version(r, b);
	uint32_t *state = m->current;
	memcpy(state, m->durable, m->blocks * sizeof(*state));
	uint32_t wrong = 0, k = 0, match = UINT32_MAX;
	for (uint32_t b = 0; b < m->blocks; b++)
		wrong += state[b] != seen[b];
	for (;; k++) {
		if (wrong == 0)
			match = k;
		if (k == high || wrong == 0)
			break;
		const struct change *c = &m->journal[k];
		wrong -= state[c->block] != seen[c->block];
		state[c->block] = c->version;
		wrong += state[c->block] != seen[c->block];
	}
	(void)low;
	if (match == UINT32_MAX) {
		for (uint32_t b = 0; b < m->blocks; b++) {
			if (seen[b] != state[b])
				fprintf(stderr, "  block %u: seen %u, last written %u, durable %u\n", b, seen[b], state[b], m->durable[b]);
		}
		fail(r, "no prefix of what was written gives this state", 0, wrong, 0);
	}
	memcpy(m->current, seen, m->blocks * sizeof(*seen));
	model_flushed(m); /* opening ends with a checkpoint */
	free(seen);
}

static void print_finding(void *context, const struct store_finding *finding)
{
	(void)context;
	fprintf(stderr, "  finding: %s (device block %" PRIu64 ", address %" PRIu64 ")\n", finding->text, finding->block,
		finding->address);
}

static void check_store(struct run *r)
{
	struct store_walk walk = {.found = print_finding, .data = true, .after_crash = r->depth};
	struct store_config config = r->config;
	struct store *store;
	struct lcpfs_failure failure = {0};
	config.read_only = true;
	int error = store_open(&config, r->metaslab, r->owned, &store, &failure);
	if (error) {
		fprintf(stderr, "  %s\n", failure.message);
		fail(r, "read-only open failed", 0, error, 0);
	}
	uint8_t *used = calloc(1, r->config.vdev->size_bytes / BLOCK_SIZE / 8 + 1);
	error = store_check(store, used, &walk);
	if (error || walk.damaged_blocks)
		fail(r, "check", 0, error, (int64_t)walk.damaged_blocks);
	free(used);
	store_abandon(store);
}

/* --- operations --- */

static bool allowed(struct run *r, int error)
{
	if (!error)
		return true;
	if (error == -LCPFS_E_STOPPED || (simdisk_is_stopped(r->disk)))
		return false;
	if (error == -LCPFS_E_NOSPC)
		return false;
	fail(r, "operation failed", 0, error, 0);
}

static void op_write(struct run *r)
{
	uint8_t *data = malloc(RANGE_MAX * BLOCK_SIZE); /* its own: a cut in the middle of it writes, too */
	uint32_t count = 1 + (uint32_t)below(r, below(r, 4) ? 4 : RANGE_MAX);
	uint32_t first = (uint32_t)below(r, r->model.blocks - count);
	bool fua = below(r, 8) == 0;
	if (below(r, 2)) /* a hot part */
		first = (uint32_t)below(r, (r->model.blocks - count) / 8 + 1);
	uint32_t *before = calloc(count, sizeof(*before));
	for (uint32_t i = 0; i < count; i++) {
		uint32_t version = r->model.next_version++;
		before[i] = r->model.current[first + i];
		fill(data + i * BLOCK_SIZE, first + i, version);
		model_change(&r->model, first + i, version);
	}
	int error = store_write(r->store, (uint64_t)first << BLOCK_SHIFT, data, (size_t)count * BLOCK_SIZE, fua, NULL);
	if (allowed(r, error)) {
		if (fua)
			model_flushed(&r->model);
	} else if (!simdisk_is_stopped(r->disk)) {
		for (uint32_t i = 0; i < count; i++) { /* ENOSPC: a part of it may be there */
			uint32_t version = read_version(r, first + i);
			if (version != before[i] && version != r->model.current[first + i])
				fail(r, "neither old nor new after ENOSPC", first + i, version, before[i]);
			if (version != r->model.current[first + i])
				model_change(&r->model, first + i, version);
		}
	}
	free(before);
	free(data);
}

static void op_trim(struct run *r)
{
	uint32_t count = 1 + (uint32_t)below(r, below(r, 8) ? RANGE_MAX : r->model.blocks / 2);
	uint32_t first = (uint32_t)below(r, r->model.blocks - count);
	for (uint32_t i = 0; i < count; i++) {
		if (r->model.current[first + i])
			model_change(&r->model, first + i, 0);
	}
	int error = store_trim(r->store, (uint64_t)first << BLOCK_SHIFT, (uint64_t)count << BLOCK_SHIFT, false, NULL);
	if (!allowed(r, error) && !simdisk_is_stopped(r->disk))
		fail(r, "trim does not work on a full partition", first, error, 0);
}

static void op_read(struct run *r)
{
	uint32_t block = (uint32_t)below(r, r->model.blocks);
	uint8_t data[BLOCK_SIZE];
	int error = store_read(r->store, (uint64_t)block << BLOCK_SHIFT, data, BLOCK_SIZE, NULL);
	if (allowed(r, error) && version_of(data, block) != r->model.current[block])
		fail(r, "read", block, version_of(data, block), r->model.current[block]);
}

static void op_flush(struct run *r)
{
	if (allowed(r, store_flush(r->store, NULL)))
		model_flushed(&r->model);
}

static void op_release(struct run *r)
{
	uint32_t metaslab;
	int error = store_release(r->store, &metaslab);
	if (error == -LCPFS_E_TOO_SMALL || !allowed(r, error))
		return;
	uint32_t i = 0;
	while (r->metaslab[i] != metaslab)
		i++;
	r->metaslab[i] = r->metaslab[--r->owned];
	r->spare[r->spares++] = metaslab;
	uint8_t *junk = malloc(METASLAB_BLOCKS * BLOCK_SIZE); /* as if somebody else used it at once */
	memset(junk, (int)below(r, 256), METASLAB_BLOCKS * BLOCK_SIZE);
	(void)!vdev_write(r->config.vdev, (BASE + (uint64_t)metaslab * METASLAB_BLOCKS) << BLOCK_SHIFT, junk,
			  METASLAB_BLOCKS * BLOCK_SIZE);
	free(junk);
}

static void op_add(struct run *r)
{
	if (!r->spares)
		return;
	uint32_t metaslab = r->spare[below(r, r->spares)], i = 0;
	while (r->spare[i] != metaslab)
		i++;
	r->spare[i] = r->spare[--r->spares];
	r->metaslab[r->owned++] = metaslab;
	if (store_add(r->store, &metaslab, 1))
		fail(r, "add", metaslab, 0, 0);
}

static void open_store(struct run *r)
{
	struct lcpfs_failure failure = {0};
	int error = store_open(&r->config, r->metaslab, r->owned, &r->store, &failure);
	if (error) {
		fprintf(stderr, "  %s\n", failure.message);
		fail(r, "open", 0, error, 0);
	}
}

static void op_reopen(struct run *r)
{
	int error = store_close(r->store);
	r->store = NULL;
	if (simdisk_is_stopped(r->disk))
		return;
	if (error)
		fail(r, "close", 0, error, 0);
	model_flushed(&r->model);
	if (!r->depth)
		check_store(r);
	open_store(r);
	verify_current(r);
}

static void one_op(struct run *r)
{
	uint64_t what = below(r, 100);
	r->op++;
	counts.ops++;
	r->now_us += below(r, 400000);
	if (what < 55)
		op_write(r);
	else if (what < 63)
		op_trim(r);
	else if (what < 72)
		op_read(r);
	else if (what < 82)
		op_flush(r);
	else if (what < 88)
		allowed(r, store_step(r->store) < 0 ? -LCPFS_E_NOSPC : 0);
	else if (what < 91)
		allowed(r, store_checkpoint(r->store));
	else if (what < 94)
		op_release(r);
	else if (what < 98)
		op_add(r);
	else
		op_reopen(r);
}

/* --- cuts --- */

static void on_change(void *context, struct simdisk *disk, uint64_t change);

static void after_cut(const struct run *from, struct simimage *image, uint64_t seed)
{
	struct run r = *from;
	model_copy(&r.model, &from->model);
	r.random = seed;
	r.depth = true;
	r.disk = simdisk_new(image, (enum simdisk_discard)(seed % 3));
	r.config.vdev = simdisk_vdev(r.disk);
	static struct clock clock;
	clock = (struct clock){sim_now_us, sim_wall_s, &r};
	r.config.clock = &clock;
	counts.states++;
	if (below(&r, 8) == 0 && !from->depth) { /* a second cut, during recovery or soon after */
		counts.nested++;
		simdisk_stop_at(r.disk, below(&r, 40));
		struct store *store;
		int error = store_open(&r.config, r.metaslab, r.owned, &store, NULL);
		for (int i = 0; !error && i < 3; i++)
			(void)!store_checkpoint(store);
		if (!error)
			store_abandon(store);
		struct simdisk_fate fate = {.kind = SIMDISK_SCATTER, .seed = next_random(&r)};
		struct simimage *again = simdisk_image(r.disk, &fate);
		simdisk_free(r.disk);
		r.disk = simdisk_new(again, SIMDISK_DISCARD_GARBAGE);
		simimage_free(again);
		r.config.vdev = simdisk_vdev(r.disk);
	}
	stage = "check after a cut";
	check_store(&r);
	stage = "open after a cut";
	open_store(&r);
	verify_cut(&r);
	stage = "work after a cut";
	for (int i = 0; i < 4; i++)
		one_op(&r);
	if (r.store) {
		verify_current(&r);
		store_abandon(r.store);
	}
	stage = "";
	model_free(&r.model);
	simdisk_free(r.disk);
}

static void on_change(void *context, struct simdisk *disk, uint64_t change)
{
	struct run *r = context;
	if (change % cut_every || r->depth)
		return;
	counts.cuts++;
	for (uint64_t i = 0; i < fates; i++) {
		struct simdisk_fate fate = {.kind = i == 0 ? SIMDISK_NONE : i == 1 ? SIMDISK_ALL : SIMDISK_SCATTER,
					    .seed = hash_mix(r->seed * 1000003 + change * 16 + i)};
		struct simimage *image = simdisk_image(disk, &fate);
		after_cut(r, image, hash_mix(fate.seed + 1));
		simimage_free(image);
	}
	struct clock *clock = (struct clock *)r->config.clock;
	*clock = (struct clock){sim_now_us, sim_wall_s, r};
}

static void run_one(uint64_t seed, uint64_t ops)
{
	struct run r = {.seed = seed, .random = hash_mix(seed)};
	static struct clock clock;
	clock = (struct clock){sim_now_us, sim_wall_s, &r};
	r.total = 8 + (uint32_t)below(&r, 14);
	uint32_t owned = STORE_METASLABS_MIN + (uint32_t)below(&r, r.total - STORE_METASLABS_MIN);
	for (uint32_t i = 0; i < r.total; i++) {
		if (i < owned)
			r.metaslab[r.owned++] = i;
		else
			r.spare[r.spares++] = i;
	}
	struct simimage *image = simimage_new((uint64_t)(BASE + r.total * METASLAB_BLOCKS) << BLOCK_SHIFT);
	r.disk = simdisk_new(image, SIMDISK_DISCARD_GARBAGE);
	simimage_free(image);
	r.config = (struct store_config){.vdev = simdisk_vdev(r.disk), .clock = &clock, .guid = seed + 1, .partition = 7, .name = "sim",
					 .metaslab_base = BASE, .metaslab_blocks = METASLAB_BLOCKS, .metaslab_count = r.total,
					 .root_block = {{0, 1}, {2, 3}}, .cache_bytes = 0};
	model_init(&r.model, 200 + below(&r, 1500));
	if (store_format(&r.config, r.model.blocks, r.metaslab, r.owned))
		fail(&r, "format", 0, 0, 0);
	open_store(&r);
	simdisk_on_change(r.disk, on_change, &r);
	while (r.op < ops) {
		one_op(&r);
		if (verbose)
			fprintf(stderr, "seed %" PRIu64 " op %" PRIu64 " owned %u live %" PRIu64 " empty %u\n", seed, r.op, r.owned,
				room_live(r.store), r.store->space.empty);
	}
	stage = "end";
	verify_current(&r);
	simdisk_on_change(r.disk, NULL, NULL);
	op_reopen(&r);
	store_abandon(r.store);
	stage = "";
	model_free(&r.model);
	simdisk_free(r.disk);
	counts.runs++;
}

int main(int argc, char **argv)
{
	static const struct option options[] = {{"seed", 1, 0, 's'}, {"seeds", 1, 0, 'n'}, {"ops", 1, 0, 'o'},
						{"cut-every", 1, 0, 'c'}, {"fates", 1, 0, 'f'}, {"verbose", 0, 0, 'v'}, {0}};
	uint64_t seed = 1, seeds = 1, ops = 100;
	int option;
	while ((option = getopt_long(argc, argv, "", options, NULL)) != -1) {
		uint64_t n = optarg ? strtoull(optarg, NULL, 0) : 0;
		seed = option == 's' ? n : seed;
		seeds = option == 'n' ? n : seeds;
		ops = option == 'o' ? n : ops;
		cut_every = option == 'c' ? n : cut_every;
		fates = option == 'f' ? n : fates;
		verbose |= option == 'v';
		if (option == '?')
			return 2;
	}
	for (uint64_t i = 0; i < seeds; i++)
		run_one(seed + i, ops);
	printf("storesim: %" PRIu64 " runs, %" PRIu64 " operations, %" PRIu64 " power cuts, %" PRIu64 " crash states (%" PRIu64
	       " with a second cut), %" PRIu64 " blocks compared, 0 lost, 0 wrong\n", counts.runs, counts.ops, counts.cuts, counts.states,
	       counts.nested, counts.blocks_compared);
	return 0;
}
