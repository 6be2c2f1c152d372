/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Everything a pool can be asked, from many threads at once, for a few seconds: what the thread sanitizer watches
 * (make test-tsan). Writers own a range of bytes each; two ranges meet within a block. SECONDS: for how long (1),
 * or longer, until everybody has done something.
 */
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "pool_fixture.h"

enum { PARTITIONS = 3, WRITERS = 2, PIECE_MAX = 40000, SPEED = 20, PATIENCE_US = 100000000, KEPT = 256 * 1024 };

static const char *const names[PARTITIONS] = {"a", "b", "c"};
static const uint64_t volume_bytes = 5 * MB; /* and a snapshot's, which differ, have room in the least size */
static char path[] = "/tmp/lcpfs-test-XXXXXX";

/* One pool and all who use it. */
struct crowd {
	struct lcpfs_pool *pool;
	uint8_t *model[PARTITIONS]; /* what must be read back */
	atomic_bool stop;
	atomic_uint seeds;
	atomic_ulong writes, resizes, removals, rounds, scrubs, snapshots, rollbacks;
	pthread_mutex_t lock; /* of the next line */
	char problem[600];    /* the first one */
};

struct writer {
	struct crowd *crowd;
	unsigned partition;
	uint64_t start, end;
	uint64_t seed;
};

/* ---- a clock that makes the engine's minutes seconds ---- */

static uint64_t fast_us(void *context)
{
	(void)context;
	return clock_us(&clock_system) * SPEED;
}

static uint64_t wall_s(void *context)
{
	(void)context;
	return clock_system.wall_s(clock_system.context);
}

static const struct clock fast_clock = {fast_us, wall_s, NULL};

/* ---- what goes wrong ---- */

static void problem(struct crowd *crowd, const char *what, const char *why)
{
	pthread_mutex_lock(&crowd->lock);
	if (!crowd->problem[0])
		snprintf(crowd->problem, sizeof(crowd->problem), "%s: %s", what, why);
	pthread_mutex_unlock(&crowd->lock);
	atomic_store(&crowd->stop, true);
}

/* Errors that are an answer: there is no room at the moment, somebody else is at it. */
static void expect_ok(struct crowd *crowd, const char *what, int error, const struct lcpfs_failure *failure)
{
	if (error && error != -LCPFS_E_NOSPC && error != -LCPFS_E_TOO_SMALL && error != -LCPFS_E_BUSY &&
	    error != -LCPFS_E_NOT_FOUND)
		problem(crowd, what, failure->message);
}

static bool goes_on(struct crowd *crowd)
{
	return !atomic_load(&crowd->stop);
}

static uint64_t next(uint64_t *seed, uint64_t below)
{
	return (*seed = hash_mix(*seed + 1)) % below;
}

static uint64_t new_seed(struct crowd *crowd)
{
	return hash_mix(atomic_fetch_add(&crowd->seeds, 1) + 1);
}

/* ---- clients ---- */

static void compare(struct writer *w, struct lcpfs_partition *p, uint64_t offset, size_t length)
{
	const uint8_t *model = w->crowd->model[w->partition];
	uint8_t bytes[PIECE_MAX];
	struct lcpfs_failure failure = {0};
	if (lcpfs_volume_read(p, offset, bytes, length, &failure))
		problem(w->crowd, "read", failure.message);
	else if (memcmp(bytes, model + offset, length))
		problem(w->crowd, names[w->partition], "it reads other bytes than were written");
}

static int change(struct writer *w, struct lcpfs_partition *p, uint64_t offset, size_t length,
		  struct lcpfs_failure *failure)
{
	uint8_t *model = w->crowd->model[w->partition] + offset;
	bool fua = next(&w->seed, 64) == 0;
	atomic_fetch_add(&w->crowd->writes, 1);
	if (next(&w->seed, 6) == 0) {
		memset(model, 0, length);
		return lcpfs_volume_trim(p, offset, length, fua, failure);
	}
	memset(model, (int)next(&w->seed, 255) + 1, length);
	return lcpfs_volume_write(p, offset, model, length, fua, failure);
}

static void one_request(struct writer *w, struct lcpfs_partition *p)
{
	uint64_t offset = w->start + next(&w->seed, w->end - w->start);
	uint64_t wanted = 1 + next(&w->seed, PIECE_MAX);
	size_t length = MIN_OF(wanted, w->end - offset);
	struct lcpfs_failure failure = {0};
	uint64_t end;
	bool data;
	int error = 0;
	switch (next(&w->seed, 16)) {
	case 0:
		error = lcpfs_volume_flush(p, &failure);
		break;
	case 1:
		error = lcpfs_volume_extent(p, offset, length, &data, &end);
		break;
	case 2: case 3: case 4: case 5: case 6:
		compare(w, p, offset, length);
		break;
	default:
		error = change(w, p, offset, length, &failure);
	}
	if (error) /* also no room: there is always enough */
		problem(w->crowd, "request", failure.message);
}

/* A handle of its own, opened anew at times. */
static void *write_and_read(void *context)
{
	struct writer *w = context;
	struct lcpfs_partition *p;
	struct lcpfs_failure failure = {0};
	while (goes_on(w->crowd)) {
		if (lcpfs_partition_open(w->crowd->pool, names[w->partition], &p, &failure)) {
			problem(w->crowd, "open", failure.message);
			break;
		}
		for (unsigned i = 0; i < 500 && goes_on(w->crowd); i++)
			one_request(w, p);
		lcpfs_partition_close(p);
	}
	return NULL;
}

/* ---- those who change the pool ---- */

static void *resize(void *context)
{
	struct crowd *crowd = context;
	uint64_t seed = new_seed(crowd);
	struct lcpfs_failure failure = {0};
	while (goes_on(crowd)) {
		const char *name = names[next(&seed, PARTITIONS)];
		uint64_t size = (14 + next(&seed, 14)) * MB;
		int error = pool_resize_to_space(crowd->pool, name, size, NULL, NULL, &failure);
		expect_ok(crowd, "resize", error, &failure);
		atomic_fetch_add(&crowd->resizes, !error);
		usleep(1000);
	}
	return NULL;
}

static void use_briefly(struct crowd *crowd, uint64_t *seed)
{
	struct lcpfs_failure failure = {0};
	struct lcpfs_partition *p;
	uint8_t bytes[BLOCK_SIZE] = {1};
	int error = lcpfs_partition_open(crowd->pool, "brief", &p, &failure);
	if (error) {
		expect_ok(crowd, "open", error, &failure);
		return;
	}
	for (unsigned i = 0; i < 50 && !error; i++)
		error = lcpfs_volume_write(p, next(seed, 256) * BLOCK_SIZE, bytes, BLOCK_SIZE, false, &failure);
	expect_ok(crowd, "write", error, &failure);
	lcpfs_partition_close(p);
}

/* Two of these are at it. */
static void *add_and_remove(void *context)
{
	static const struct lcpfs_partition_spec spec = {
		.thin = true, .name = "brief", .min_bytes = LEAST, .max_bytes = 2 * LEAST};
	struct crowd *crowd = context;
	uint64_t seed = new_seed(crowd);
	struct lcpfs_failure failure = {0};
	while (goes_on(crowd)) {
		int error = pool_add_of_space(crowd->pool, &spec, &failure);
		if (error != -LCPFS_E_EXISTS)
			expect_ok(crowd, "add", error, &failure);
		use_briefly(crowd, &seed);
		error = lcpfs_partition_remove(crowd->pool, "brief", &failure);
		expect_ok(crowd, "remove", error, &failure);
		atomic_fetch_add(&crowd->removals, !error);
		usleep(2000);
	}
	return NULL;
}

static void *run_engine(void *context)
{
	struct crowd *crowd = context;
	uint64_t seed = new_seed(crowd);
	struct lcpfs_failure failure = {0};
	while (goes_on(crowd)) {
		enum lcpfs_engine_mode mode = next(&seed, 8) ? LCPFS_ENGINE_ON : LCPFS_ENGINE_OBSERVE;
		expect_ok(crowd, "tune", lcpfs_pool_set_tune(crowd->pool, mode, &failure), &failure);
		for (unsigned i = 0; i < 8 && goes_on(crowd); i++) {
			pool_tick(crowd->pool); /* beside the pool's own thread */
			atomic_fetch_add(&crowd->rounds, 1);
			usleep(5000);
		}
	}
	return NULL;
}

/* ---- those who take snapshots ---- */

/* The same pieces give the same sum, whatever is written meanwhile. */
static int sum_pieces(struct lcpfs_partition *p, uint64_t seed, uint64_t *sum, struct lcpfs_failure *failure)
{
	uint8_t bytes[4 * BLOCK_SIZE];
	int error = 0;
	*sum = 0;
	for (unsigned i = 0; i < 16 && !error; i++) {
		uint64_t offset = next(&seed, volume_bytes - sizeof(bytes));
		error = lcpfs_volume_read(p, offset, bytes, sizeof(bytes), failure);
		*sum = hash_mix(*sum + hash64(bytes, sizeof(bytes)));
	}
	return error;
}

static void read_twice(struct crowd *crowd, const char *name, uint64_t seed)
{
	struct lcpfs_failure failure = {0};
	struct lcpfs_partition *p;
	uint64_t sum[2] = {0};
	int error = lcpfs_partition_open(crowd->pool, name, &p, &failure);
	if (error) {
		problem(crowd, name, failure.message);
		return;
	}
	for (unsigned i = 0; i < 2 && !error; i++)
		error = sum_pieces(p, seed, &sum[i], &failure);
	if (error || sum[0] != sum[1])
		problem(crowd, name, error ? failure.message : "a snapshot reads otherwise than before");
	lcpfs_partition_close(p);
}

/* Of one partition or several; of each one at a time, so that there is room. */
static void *take_and_destroy(void *context)
{
	static const char *const list[PARTITIONS] = {"a@x", "b@x", "c@x"};
	struct crowd *crowd = context;
	uint64_t seed = new_seed(crowd);
	struct lcpfs_failure failure = {0};
	while (goes_on(crowd)) {
		size_t first = next(&seed, PARTITIONS), count = 1 + next(&seed, PARTITIONS - first);
		int error = lcpfs_snapshot_create(crowd->pool, list + first, count, NULL, &failure);
		expect_ok(crowd, "snapshot", error, &failure);
		if (!error) {
			read_twice(crowd, list[first], next(&seed, UINT64_MAX));
			error = lcpfs_snapshot_destroy(crowd->pool, list + first, count, NULL, &failure);
			if (error)
				problem(crowd, "destroying a snapshot", failure.message);
			atomic_fetch_add(&crowd->snapshots, 1);
		}
		usleep(1000);
	}
	return NULL;
}

/* A volume of its own: nobody may have it open while it is rolled back. */
static int fill_kept(struct crowd *crowd, uint64_t *seed, uint8_t *model, struct lcpfs_failure *failure)
{
	struct lcpfs_partition *p;
	int error = lcpfs_partition_open(crowd->pool, "kept", &p, failure);
	if (error)
		return error;
	for (unsigned i = 0; i < 4 && !error; i++) {
		uint64_t offset = next(seed, KEPT), length = 1 + next(seed, KEPT - offset);
		memset(model + offset, (int)next(seed, 256), length);
		error = lcpfs_volume_write(p, offset, model + offset, length, false, failure);
	}
	lcpfs_partition_close(p);
	return error;
}

static void compare_kept(struct crowd *crowd, const uint8_t *model)
{
	struct lcpfs_failure failure = {0};
	struct lcpfs_partition *p;
	uint8_t bytes[KEPT];
	if (lcpfs_partition_open(crowd->pool, "kept", &p, &failure)) {
		problem(crowd, "kept", failure.message);
		return;
	}
	if (lcpfs_volume_read(p, 0, bytes, KEPT, &failure))
		problem(crowd, "kept", failure.message);
	else if (memcmp(bytes, model, KEPT))
		problem(crowd, "kept", "after a rollback it reads other bytes than the snapshot had");
	lcpfs_partition_close(p);
}

static void *roll_back(void *context)
{
	static const char *const name = "kept@y";
	struct crowd *crowd = context;
	uint64_t seed = new_seed(crowd);
	struct lcpfs_failure failure = {0};
	uint8_t head[KEPT] = {0}, then[KEPT];
	while (goes_on(crowd)) {
		int error = fill_kept(crowd, &seed, head, &failure);
		memcpy(then, head, KEPT);
		if (!error)
			error = lcpfs_snapshot_create(crowd->pool, &name, 1, NULL, &failure);
		if (!error)
			error = fill_kept(crowd, &seed, head, &failure);
		if (!error)
			error = lcpfs_snapshot_rollback(crowd->pool, name, NULL, &failure);
		if (!error)
			memcpy(head, then, KEPT);
		if (!error)
			compare_kept(crowd, head);
		if (!error)
			error = lcpfs_snapshot_destroy(crowd->pool, &name, 1, NULL, &failure);
		if (error)
			problem(crowd, "rolling back", failure.message);
		atomic_fetch_add(&crowd->rollbacks, 1);
		usleep(1000);
	}
	return NULL;
}

/* ---- those who look ---- */

static void *look(void *context)
{
	struct crowd *crowd = context;
	struct lcpfs_partition_info list[PARTITIONS + 2];
	struct lcpfs_snapshot_info snapshots[PARTITIONS + 1];
	struct lcpfs_engine_decision decision;
	struct lcpfs_pool_info info;
	struct lcpfs_failure failure = {0};
	static const size_t room = 20;
	struct lcpfs_event *events = calloc(room, sizeof(*events));
	uint64_t seen = 0;
	size_t count;
	assert_non_null(events);
	while (goes_on(crowd)) {
		expect_ok(crowd, "list", lcpfs_pool_list(crowd->pool, list, PARTITIONS + 2, &count), &failure);
		int error = lcpfs_snapshot_list(crowd->pool, NULL, snapshots, PARTITIONS + 1, &count, &failure);
		expect_ok(crowd, "list --snapshots", error, &failure);
		expect_ok(crowd, "info", lcpfs_pool_get_info(crowd->pool, &info), &failure);
		expect_ok(crowd, "explain", lcpfs_pool_explain(crowd->pool, NULL, &decision, &failure), &failure);
		expect_ok(crowd, "explain", lcpfs_pool_explain(crowd->pool, "b", &decision, &failure), &failure);
		expect_ok(crowd, "log", lcpfs_pool_events(crowd->pool, seen, events, room, &count), &failure);
		if (count)
			seen = events[count - 1].number;
		if (info.health != LCPFS_HEALTH_ONLINE)
			problem(crowd, "health", info.health_text);
		usleep(1000);
	}
	free(events);
	return NULL;
}

static void damage_found(void *context, const struct lcpfs_finding *finding)
{
	problem(context, "scrub", finding->text);
}

static void *scrub(void *context)
{
	struct crowd *crowd = context;
	while (goes_on(crowd)) {
		struct lcpfs_care care = {.found = damage_found, .context = crowd};
		struct lcpfs_failure failure = {0};
		expect_ok(crowd, "scrub", lcpfs_pool_scrub(crowd->pool, &care, &failure), &failure);
		atomic_fetch_add(&crowd->scrubs, 1);
	}
	return NULL;
}

/* ---- all of them ---- */

static void start_pool(struct crowd *crowd, struct vdev *vdev)
{
	struct lcpfs_create_options new = {0};
	struct lcpfs_open_options options = {
		.background = true, .cache_bytes = 8 * MB, .tune_given = true, .tune = LCPFS_ENGINE_ON};
	struct lcpfs_failure failure = {0};
	memset(crowd, 0, sizeof(*crowd));
	pthread_mutex_init(&crowd->lock, NULL);
	assert_int_equal(pool_create_vdev(vdev, &fast_clock, &new, POOL_GUID, &failure), 0);
	assert_int_equal(pool_open_vdev(vdev, &fast_clock, &options, &crowd->pool, &failure), 0);
	for (unsigned i = 0; i < PARTITIONS; i++) {
		struct lcpfs_partition_spec spec = {.thin = true,
						    .name = names[i],
						    .min_bytes = 14 * MB,
						    .max_bytes = 64 * MB,
						    .size_bytes = 20 * MB,
						    .volume_bytes = volume_bytes};
		assert_int_equal(pool_add_of_space(crowd->pool, &spec, &failure), 0);
		crowd->model[i] = calloc(1, volume_bytes);
		assert_non_null(crowd->model[i]);
	}
	struct lcpfs_partition_spec kept = {
		.thin = true, .name = "kept", .min_bytes = LEAST, .max_bytes = LEAST, .volume_bytes = KEPT};
	assert_int_equal(pool_add_of_space(crowd->pool, &kept, &failure), 0);
}

static bool all_did_something(struct crowd *crowd)
{
	return crowd->writes > 100 && crowd->resizes && crowd->removals && crowd->rounds && crowd->scrubs &&
	       crowd->snapshots && crowd->rollbacks;
}

static void run_all(struct crowd *crowd, unsigned seconds)
{
	static void *(*const others[])(void *) = {resize, add_and_remove, add_and_remove, run_engine,
						 look, scrub, take_and_destroy, roll_back};
	enum { OTHERS = ARRAY_LENGTH(others), CLIENTS = PARTITIONS * WRITERS };
	struct writer writers[CLIENTS];
	pthread_t threads[CLIENTS + OTHERS];
	uint64_t share = volume_bytes / WRITERS, end_us = clock_us(&clock_system) + seconds * 1000000;

	for (unsigned i = 0; i < CLIENTS; i++) {
		unsigned number = i % WRITERS;
		writers[i] = (struct writer){
			.crowd = crowd,
			.partition = i / WRITERS,
			.start = number ? number * share + 1000 : 0,
			.end = number + 1 < WRITERS ? (number + 1) * share + 1000 : volume_bytes,
			.seed = new_seed(crowd),
		};
		assert_int_equal(pthread_create(&threads[i], NULL, write_and_read, &writers[i]), 0);
	}
	for (unsigned i = 0; i < OTHERS; i++)
		assert_int_equal(pthread_create(&threads[CLIENTS + i], NULL, others[i], crowd), 0);
	while (goes_on(crowd) &&
	       (clock_us(&clock_system) < end_us ||
		(!all_did_something(crowd) && clock_us(&clock_system) < end_us + PATIENCE_US)))
		usleep(10000);
	atomic_store(&crowd->stop, true);
	for (unsigned i = 0; i < CLIENTS + OTHERS; i++)
		pthread_join(threads[i], NULL);
	if (crowd->problem[0])
		fail_msg("%s", crowd->problem);
}

static void compare_all(struct crowd *crowd)
{
	struct lcpfs_failure failure = {0};
	uint8_t *bytes = malloc(volume_bytes);
	struct lcpfs_partition *p;
	assert_non_null(bytes);
	for (unsigned i = 0; i < PARTITIONS; i++) {
		assert_int_equal(lcpfs_partition_open(crowd->pool, names[i], &p, &failure), 0);
		assert_int_equal(lcpfs_volume_read(p, 0, bytes, volume_bytes, &failure), 0);
		assert_memory_equal(bytes, crowd->model[i], volume_bytes);
		lcpfs_partition_close(p);
	}
	free(bytes);
}

/* Running, after a close, and by check. */
static void end_pool(struct crowd *crowd, struct vdev *vdev)
{
	struct lcpfs_open_options options = {.cache_bytes = 8 * MB};
	struct lcpfs_care care = {.data = true, .found = fixture_print};
	struct lcpfs_failure failure = {0};
	compare_all(crowd);
	assert_int_equal(lcpfs_pool_close(crowd->pool, &failure), 0);
	assert_int_equal(pool_check_vdev(vdev, &fast_clock, &care, &failure), 0);
	assert_int_equal(care.damaged, 0);
	assert_int_equal(pool_open_vdev(vdev, &fast_clock, &options, &crowd->pool, &failure), 0);
	compare_all(crowd);
	assert_int_equal(lcpfs_pool_close(crowd->pool, &failure), 0);
	for (unsigned i = 0; i < PARTITIONS; i++)
		free(crowd->model[i]);
	pthread_mutex_destroy(&crowd->lock);
}

static void everything_at_once(unsigned flags)
{
	const char *given = getenv("SECONDS");
	struct lcpfs_failure failure = {0};
	struct vdev *vdev;
	struct crowd crowd;
	int fd = mkstemp(path);
	assert_true(fd >= 0);
	close(fd);
	unlink(path);
	assert_int_equal(vdev_file_open(path, VDEV_OPEN_CREATE | flags, 96 * MB, &vdev, &failure), 0);
	unlink(path);
	start_pool(&crowd, vdev);
	run_all(&crowd, given ? (unsigned)atoi(given) : 1);
	end_pool(&crowd, vdev);
	vdev_close(vdev);
	print_message("# %lu writes, %lu resizes, %lu partitions removed, %lu rounds of the engine, %lu scrubs, "
		      "%lu snapshots, %lu rollbacks\n",
		      crowd.writes, crowd.resizes, crowd.removals, crowd.rounds, crowd.scrubs, crowd.snapshots,
		      crowd.rollbacks);
	assert_true(all_did_something(&crowd));
	memcpy(path + sizeof(path) - 7, "XXXXXX", 6);
}

static void with_rings(void **state)
{
	(void)state;
	everything_at_once(0);
}

static void with_system_calls(void **state)
{
	(void)state;
	everything_at_once(VDEV_OPEN_NO_URING);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(with_rings),
		cmocka_unit_test(with_system_calls),
	};
	return cmocka_run_group_tests(tests, NULL, NULL);
}
