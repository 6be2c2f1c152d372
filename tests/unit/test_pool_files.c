/* SPDX-License-Identifier: Apache-2.0 */
/* Pools in real files, with threads: creating over what is there, locking, the lease, clients beside moves. */
#include <fcntl.h>
#include <pthread.h>
#include <stdatomic.h>
#include <unistd.h>

#include "pool_fixture.h"

static char folder[] = "/tmp/lcpfs-test-XXXXXX";
static char path[64];

static int make_folder(void **state)
{
	(void)state;
	if (!mkdtemp(folder))
		return -1;
	snprintf(path, sizeof(path), "%s/pool", folder);
	return 0;
}

static int remove_folder(void **state)
{
	(void)state;
	unlink(path);
	return rmdir(folder);
}

static void put(uint64_t size, uint64_t offset, const char *text)
{
	int fd = open(path, O_RDWR | O_CREAT | O_TRUNC, 0600);
	assert_true(fd >= 0);
	assert_int_equal(ftruncate(fd, (off_t)size), 0);
	assert_int_equal(pwrite(fd, text, strlen(text), (off_t)offset), strlen(text));
	close(fd);
}

static void expect_file(uint64_t size, uint64_t offset, const char *text)
{
	char bytes[64] = {0};
	int fd = open(path, O_RDONLY);
	assert_true(fd >= 0);
	assert_int_equal(lseek(fd, 0, SEEK_END), size);
	assert_int_equal(pread(fd, bytes, strlen(text), (off_t)offset), strlen(text));
	assert_string_equal(bytes, text);
	close(fd);
}

static int create(uint64_t size, bool force, struct lcpfs_failure *failure)
{
	struct lcpfs_create_options options = {.size_bytes = size, .force = force};
	memset(failure, 0, sizeof(*failure));
	return lcpfs_pool_create(path, &options, failure);
}

static void expect_create_refused(uint64_t size, uint64_t offset, const char *text, const char *words)
{
	struct lcpfs_failure failure;
	put(size, offset, text);
	assert_int_equal(create(0, false, &failure), -LCPFS_E_EXISTS);
	if (!strstr(failure.message, words) || !strstr(failure.message, "--force"))
		fail_msg("%s", failure.message);
	expect_file(size, offset, text);
	assert_int_equal(create(32 * MB, false, &failure), -LCPFS_E_EXISTS);
	expect_file(size, offset, text);
}

static void what_is_there_is_not_written_over(void **state)
{
	char swap[BLOCK_SIZE * 2] = {0};
	struct lcpfs_failure failure;
	(void)state;
	expect_create_refused(20 * MB, 0, "some text", "data");
	expect_create_refused(20 * MB, 20 * MB - 4, "end", "data");
	put(20 * MB, 4096 - 10, "SWAPSPACE2");
	swap[0] = 1;  /* version */
	swap[4] = 99; /* last page */
	int fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, swap, 512, 1024), 512);
	close(fd);
	assert_int_equal(create(0, false, &failure), -LCPFS_E_EXISTS);
	assert_non_null(strstr(failure.message, "swap"));
	assert_int_equal(create(0, true, &failure), 0);
	assert_int_equal(create(0, false, &failure), -LCPFS_E_EXISTS);
	assert_non_null(strstr(failure.message, "lcpfs pool already"));
	unlink(path);
}

static void an_empty_or_zero_file_becomes_a_pool(void **state)
{
	struct lcpfs_care care = {0};
	struct lcpfs_failure failure;
	char zeros[65536] = {0};
	(void)state;
	put(0, 0, "");
	assert_int_equal(create(0, false, &failure), -LCPFS_E_INVALID);
	assert_int_equal(create(20 * MB + 5, false, &failure), 0);
	expect_file(21 * MB, 0, "lpfs");
	unlink(path);
	put(32 * MB, 0, "");
	int fd = open(path, O_WRONLY);
	assert_int_equal(pwrite(fd, zeros, sizeof(zeros), 4 * MB), sizeof(zeros));
	close(fd);
	assert_int_equal(create(0, false, &failure), 0);
	assert_int_equal(lcpfs_pool_check(path, &care, &failure), 0);
	assert_int_equal(care.damaged, 0);
	unlink(path);
}

static void sizes_that_cannot_be_leave_no_file(void **state)
{
	struct lcpfs_failure failure;
	(void)state;
	assert_int_equal(create(0, false, &failure), -LCPFS_E_INVALID);
	assert_int_equal(create(15 * MB, false, &failure), -LCPFS_E_INVALID);
	assert_int_equal(create(UINT64_MAX, false, &failure), -LCPFS_E_INVALID);
	assert_int_equal(access(path, F_OK), -1);
	put(1000, 0, "short");
	assert_int_equal(create(0, true, &failure), -LCPFS_E_INVALID);
	expect_file(1000, 0, "short");
	unlink(path);
}

static void a_forced_pool_leaves_no_trace_of_the_old_one(void **state)
{
	struct lcpfs_failure failure;
	struct lcpfs_pool *pool;
	struct lcpfs_pool_info info;
	(void)state;
	assert_int_equal(create(64 * MB, false, &failure), 0);
	assert_int_equal(create(32 * MB, true, &failure), 0);
	expect_file(32 * MB, 0, "lpfs");
	assert_int_equal(create(64 * MB, true, &failure), 0);
	assert_int_equal(lcpfs_pool_open(path, NULL, &pool, &failure), 0);
	assert_int_equal(lcpfs_pool_get_info(pool, &info), 0);
	assert_int_equal(info.metaslabs, 62);
	assert_int_equal(lcpfs_pool_close(pool, &failure), 0);
	unlink(path);
}

static void what_is_no_pool_does_not_open(void **state)
{
	struct lcpfs_failure failure = {0};
	struct lcpfs_care care = {0};
	struct lcpfs_pool *pool;
	char *text;
	(void)state;
	assert_int_equal(lcpfs_pool_open(path, NULL, &pool, &failure), -LCPFS_E_NOT_FOUND);
	put(20 * MB, 0, "hello");
	assert_int_equal(lcpfs_pool_open(path, NULL, &pool, &failure), -LCPFS_E_NOT_A_POOL);
	assert_null(pool);
	assert_int_equal(lcpfs_pool_check(path, &care, &failure), -LCPFS_E_NOT_A_POOL);
	assert_int_equal(lcpfs_pool_dump(path, NULL, &text, &failure), -LCPFS_E_NOT_A_POOL);
	assert_int_equal(create(20 * MB, true, &failure), 0);
	assert_int_equal(truncate(path, 10 * MB), 0);
	assert_int_equal(lcpfs_pool_open(path, NULL, &pool, &failure), -LCPFS_E_CORRUPT);
	assert_non_null(strstr(failure.message, "truncated"));
	assert_int_equal(lcpfs_pool_check(path, &care, &failure), 0);
	assert_true(care.damaged > 0);
	unlink(path);
}

static void a_pool_opens_once(void **state)
{
	struct lcpfs_failure failure = {0};
	struct lcpfs_pool *pool, *second;
	struct lcpfs_care care = {0};
	struct lcpfs_open_options plain = {.no_uring = true};
	(void)state;
	assert_int_equal(create(32 * MB, false, &failure), 0);
	assert_int_equal(lcpfs_pool_open(path, NULL, &pool, &failure), 0);
	assert_int_equal(lcpfs_pool_open(path, NULL, &second, &failure), -LCPFS_E_BUSY);
	assert_int_equal(lcpfs_pool_check(path, &care, &failure), -LCPFS_E_BUSY);
	assert_int_equal(create(32 * MB, true, &failure), -LCPFS_E_BUSY);
	assert_int_equal(lcpfs_pool_close(pool, &failure), 0);
	assert_int_equal(lcpfs_pool_open(path, &plain, &pool, &failure), 0);
	assert_int_equal(lcpfs_pool_close(pool, &failure), 0);
	unlink(path);
}

/* -- creating beside others -- */

enum { CREATORS = 6, CREATE_ROUNDS = 60 };

/* In memory, where there is one, since it takes many tries. */
static void use_memory(char *disk_path)
{
	memcpy(disk_path, path, sizeof(path));
	if (access("/dev/shm", W_OK) == 0)
		snprintf(path, sizeof(path), "/dev/shm/lcpfs-test-%d", (int)getpid());
}

static void *create_one(void *result)
{
	struct lcpfs_create_options options = {.size_bytes = 32 * MB};
	*(int *)result = lcpfs_pool_create(path, &options, NULL);
	return NULL;
}

static void of_those_who_create_at_once_one_does(void **state)
{
	char disk_path[sizeof(path)];
	(void)state;
	use_memory(disk_path);
	for (unsigned round = 0; round < CREATE_ROUNDS; round++) {
		pthread_t threads[CREATORS];
		int results[CREATORS];
		unsigned done = 0;
		for (unsigned i = 0; i < CREATORS; i++)
			assert_int_equal(pthread_create(&threads[i], NULL, create_one, &results[i]), 0);
		for (unsigned i = 0; i < CREATORS; i++) {
			pthread_join(threads[i], NULL);
			done += results[i] == 0;
			if (results[i] && results[i] != -LCPFS_E_BUSY && results[i] != -LCPFS_E_EXISTS)
				fail_msg("%s", lcpfs_error_name(results[i]));
		}
		assert_int_equal(done, 1);
		struct lcpfs_care care = {0};
		assert_int_equal(lcpfs_pool_check(path, &care, NULL), 0);
		assert_int_equal(care.damaged, 0);
		unlink(path);
	}
	memcpy(path, disk_path, sizeof(path));
}

struct racer {
	atomic_bool stop;
	const char *secret;
};

/* The name comes and goes as what it should not be taken for: a link, a file, nothing. */
static void *change_the_name(void *context)
{
	struct racer *racer = context;
	char link[80];
	snprintf(link, sizeof(link), "%s.link", path);
	for (unsigned n = 0; !atomic_load(&racer->stop); n++) {
		if (n % 3 == 0 && symlink(racer->secret, link) == 0) {
			if (renameat2(AT_FDCWD, link, AT_FDCWD, path, RENAME_EXCHANGE))
				rename(link, path);
			unlink(link);
		} else if (n % 3 == 1) {
			int fd = open(link, O_RDWR | O_CREAT, 0600);
			if (fd >= 0 && ftruncate(fd, 20 * MB) == 0)
				rename(link, path);
			close(fd);
		} else {
			unlink(path);
		}
		for (volatile unsigned i = 0; i < n * 7919 % 4000; i++)
			;
	}
	unlink(link);
	return NULL;
}

static void creating_never_writes_where_the_name_leads_later(void **state)
{
	char secret[80], text[] = "root's own", bytes[sizeof(text)], disk_path[sizeof(path)];
	struct racer racer = {.secret = secret};
	struct lcpfs_create_options options = {.size_bytes = 16 * MB};
	pthread_t thread;
	(void)state;
	use_memory(disk_path);
	snprintf(secret, sizeof(secret), "%s.secret", path);
	int fd = open(secret, O_RDWR | O_CREAT | O_EXCL, 0600);
	assert_int_equal(pwrite(fd, text, sizeof(text), 0), sizeof(text));
	assert_int_equal(ftruncate(fd, 24 * MB), 0);
	assert_int_equal(pthread_create(&thread, NULL, change_the_name, &racer), 0);
	for (unsigned i = 0; i < 600; i++) {
		(void)!lcpfs_pool_create(path, &options, NULL);
		assert_int_equal(pread(fd, bytes, sizeof(bytes), 0), sizeof(bytes));
		assert_string_equal(bytes, text);
		assert_int_equal(lseek(fd, 0, SEEK_END), 24 * MB);
	}
	atomic_store(&racer.stop, true);
	pthread_join(thread, NULL);
	close(fd);
	unlink(secret);
	unlink(path);
	memcpy(path, disk_path, sizeof(path));
}

static void a_link_of_somebody_else_is_not_followed(void **state)
{
	char other[80];
	struct lcpfs_failure failure;
	(void)state;
	snprintf(other, sizeof(other), "%s.other", path);
	put(20 * MB, 0, "");
	assert_int_equal(rename(path, other), 0);
	assert_int_equal(symlink(other, path), 0);
	assert_int_equal(create(20 * MB, false, &failure), 0); /* one's own is */
	if (lchown(path, 65534, 65534) == 0) {
		assert_int_equal(create(20 * MB, true, &failure), -LCPFS_E_INVALID);
		assert_non_null(strstr(failure.message, "symbolic link"));
	}
	unlink(path);
	unlink(other);
}

/* A partition with one block of 0x77, in a pool that is open. */
static struct lcpfs_pool *open_with_a_block(struct lcpfs_partition **partition, uint8_t block[BLOCK_SIZE])
{
	struct lcpfs_partition_spec spec = {.thin = true, .name = "a", .min_bytes = LEAST, .max_bytes = 8 * MB};
	struct lcpfs_failure failure;
	struct lcpfs_pool *pool;
	memset(block, 0x77, BLOCK_SIZE);
	assert_int_equal(create(32 * MB, false, &failure), 0);
	assert_int_equal(lcpfs_pool_open(path, NULL, &pool, &failure), 0);
	assert_int_equal(pool_add_of_space(pool, &spec, &failure), 0);
	assert_int_equal(lcpfs_partition_open(pool, "a", partition, &failure), 0);
	assert_int_equal(lcpfs_volume_write(*partition, 0, block, BLOCK_SIZE, true, &failure), 0);
	return pool;
}

static void what_was_fetched_is_counted_with_the_time_it_took(void **state)
{
	uint8_t block[BLOCK_SIZE];
	struct lcpfs_partition *partition;
	struct lcpfs_iostat iostat;
	struct lcpfs_pool *pool = open_with_a_block(&partition, block);
	const struct lcpfs_operation_stats *reads = &iostat.operation[LCPFS_READ];
	(void)state;
	assert_int_equal(pool_volume_verify(partition, 0, block, BLOCK_SIZE, 123456), 0);
	block[77] ^= 1;
	assert_int_equal(pool_volume_verify(partition, 0, block, BLOCK_SIZE, 123456), -LCPFS_E_AGAIN);
	assert_int_equal(lcpfs_partition_get_iostat(pool, "a", &iostat, NULL), 0);
	assert_int_equal(reads->ops, 1);
	assert_int_equal(reads->bytes, BLOCK_SIZE);
	assert_int_equal(reads->us, 123456);
	assert_int_equal(reads->errors, 0);
	lcpfs_partition_close(partition);
	assert_int_equal(lcpfs_pool_close(pool, NULL), 0);
	unlink(path);
}

/* Both copies of the lease, as somebody writes them who has taken the pool by force. */
static void take_over(const struct layout *layout)
{
	struct fmt_lease lease = {.owner = {9}, .count = le64_of(1)};
	int fd = open(path, O_RDWR);
	fmt_seal(&lease, FMT_LEASE, layout->guid, 0, 0);
	for (unsigned copy = 0; copy < COPIES; copy++) {
		off_t offset = (off_t)(layout_area_block(layout, copy, AREA_LEASE) * BLOCK_SIZE);
		assert_int_equal(pwrite(fd, &lease, sizeof(lease), offset), sizeof(lease));
	}
	close(fd);
}

/* What lies there now may be the new owner's, so nothing that was fetched is given out, whoever has noticed. */
static void nothing_fetched_is_right_once_the_pool_is_taken(void **state)
{
	struct lcpfs_partition_spec spec = {.thin = true, .name = "b", .min_bytes = LEAST, .max_bytes = 8 * MB};
	uint8_t block[BLOCK_SIZE];
	struct lcpfs_partition *partition, *other;
	struct lcpfs_pool *pool = open_with_a_block(&partition, block);
	(void)state;
	assert_int_equal(pool_add_of_space(pool, &spec, NULL), 0);
	assert_int_equal(lcpfs_partition_open(pool, "b", &other, NULL), 0);
	assert_int_equal(pool_volume_verify(partition, 0, block, BLOCK_SIZE, 1), 0);
	take_over(&pool->layout);
	assert_int_equal(lcpfs_volume_write(other, 0, block, BLOCK_SIZE, true, NULL), -LCPFS_E_TAKEN_OVER);
	assert_int_equal(pool_volume_verify(partition, 0, block, BLOCK_SIZE, 1), -LCPFS_E_AGAIN);
	lcpfs_partition_close(other);
	lcpfs_partition_close(partition);
	pool_abandon(pool);
	unlink(path);
}

static void the_lease_says_who_serves(void **state)
{
	char control[128], nbd[128], long_path[2000];
	struct lcpfs_failure failure = {0};
	struct lcpfs_pool *pool;
	uint64_t pid = 0;
	(void)state;
	assert_int_equal(create(32 * MB, false, &failure), 0);
	assert_int_equal(lcpfs_pool_read_lease(path, control, nbd, 128, &pid, &failure), -LCPFS_E_NOT_FOUND);
	assert_int_equal(lcpfs_pool_open(path, NULL, &pool, &failure), 0);
	assert_int_equal(lcpfs_pool_set_lease(pool, "/run/c", "localhost:10809"), 0);
	assert_int_equal(lcpfs_pool_read_lease(path, control, nbd, 128, &pid, &failure), 0);
	assert_string_equal(control, "/run/c");
	assert_string_equal(nbd, "localhost:10809");
	assert_int_equal(pid, getpid());
	memset(long_path, 'p', sizeof(long_path) - 1);
	long_path[sizeof(long_path) - 1] = '\0';
	assert_int_equal(lcpfs_pool_set_lease(pool, long_path, ""), -LCPFS_E_INVALID);
	assert_int_equal(lcpfs_pool_close(pool, &failure), 0);
	assert_int_equal(lcpfs_pool_read_lease(path, control, nbd, 128, &pid, &failure), -LCPFS_E_NOT_FOUND);

	/* A server that was killed leaves its lease; the next opening clears it. */
	assert_int_equal(lcpfs_pool_open(path, NULL, &pool, &failure), 0);
	assert_int_equal(lcpfs_pool_set_lease(pool, "/run/c", "/run/n"), 0);
	pool_abandon(pool);
	assert_int_equal(lcpfs_pool_read_lease(path, control, nbd, 128, &pid, &failure), 0);
	assert_int_equal(lcpfs_pool_open(path, NULL, &pool, &failure), 0);
	assert_int_equal(lcpfs_pool_read_lease(path, control, nbd, 128, &pid, &failure), -LCPFS_E_NOT_FOUND);
	assert_int_equal(lcpfs_pool_close(pool, &failure), 0);
	unlink(path);
}

static void everything_can_be_dumped(void **state)
{
	static const char *const whats[] = {NULL,          "label",   "uberblocks",    "map",
					    "partition a", "block 0", "block 99999999"};
	struct lcpfs_partition_spec spec = {.thin = true, .name = "a", .min_bytes = LEAST, .max_bytes = 8 * MB};
	struct lcpfs_failure failure = {0};
	struct lcpfs_pool *pool;
	char *text;
	(void)state;
	assert_int_equal(create(32 * MB, false, &failure), 0);
	assert_int_equal(lcpfs_pool_open(path, NULL, &pool, &failure), 0);
	assert_int_equal(pool_add_of_space(pool, &spec, &failure), 0);
	assert_int_equal(lcpfs_pool_close(pool, &failure), 0);
	for (size_t i = 0; i < ARRAY_LENGTH(whats); i++) {
		if (lcpfs_pool_dump(path, whats[i], &text, &failure))
			fail_msg("%s: %s", whats[i], failure.message);
		assert_true(strlen(text) > 20);
		assert_null(strstr(text, "damaged"));
		free(text);
	}
	assert_int_equal(lcpfs_pool_dump(path, "nonsense", &text, &failure), -LCPFS_E_INVALID);
	assert_int_equal(lcpfs_pool_dump(path, "partition b", &text, &failure), -LCPFS_E_NOT_FOUND);
	assert_null(text);
	unlink(path);
}

/* -- clients beside moves -- */

struct client {
	struct lcpfs_pool *pool;
	const char *name;
	atomic_bool *stop;
	uint64_t writes, blocks;
	uint32_t *generation; /* of each block; 0: never written */
	char problem[600];
};

static bool read_back(struct client *c, struct lcpfs_partition *p, uint64_t block)
{
	struct lcpfs_failure failure = {0};
	uint8_t wanted[BLOCK_SIZE], got[BLOCK_SIZE];
	memset(wanted, 0, sizeof(wanted));
	if (c->generation[block])
		fixture_pattern(block, c->generation[block], wanted);
	if (lcpfs_volume_read(p, block * BLOCK_SIZE, got, BLOCK_SIZE, &failure))
		snprintf(c->problem, sizeof(c->problem), "%s", failure.message);
	else if (memcmp(wanted, got, BLOCK_SIZE))
		snprintf(c->problem, sizeof(c->problem), "block %lu has other contents", (unsigned long)block);
	return !c->problem[0];
}

static void *write_and_read(void *context)
{
	struct client *c = context;
	struct lcpfs_failure failure = {0};
	struct lcpfs_partition *p;
	uint64_t seed = (uintptr_t)c;
	if (lcpfs_partition_open(c->pool, c->name, &p, &failure)) {
		snprintf(c->problem, sizeof(c->problem), "%s", failure.message);
		return NULL;
	}
	while (!atomic_load(c->stop) && !c->problem[0]) {
		uint8_t bytes[BLOCK_SIZE];
		uint64_t block = (seed = hash_mix(seed + 1)) % c->blocks;
		fixture_pattern(block, c->generation[block] + 1, bytes);
		int error = lcpfs_volume_write(p, block * BLOCK_SIZE, bytes, BLOCK_SIZE, seed % 64 == 0, &failure);
		if (!error)
			c->generation[block]++;
		else if (error != -LCPFS_E_NOSPC)
			snprintf(c->problem, sizeof(c->problem), "%s", failure.message);
		c->writes++;
		read_back(c, p, (seed >> 20) % c->blocks);
	}
	for (uint64_t b = 0; b < c->blocks && read_back(c, p, b); b++)
		;
	lcpfs_partition_close(p);
	return NULL;
}

static void resize_for(struct lcpfs_pool *pool, unsigned seconds)
{
	static const char *const names[] = {"a", "b", "c"};
	time_t end = time(NULL) + seconds;
	uint64_t seed = 1, done = 0;
	struct lcpfs_failure failure;
	while (time(NULL) < end) {
		uint64_t size = (16 + (seed = hash_mix(seed)) % 24) * MB;
		struct lcpfs_partition_info list[4];
		size_t count;
		int error = pool_resize_to_space(pool, names[seed % 3], size, NULL, NULL, &failure);
		done += !error;
		if (error && error != -LCPFS_E_NOSPC && error != -LCPFS_E_TOO_SMALL)
			fail_msg("%s", failure.message);
		assert_int_equal(lcpfs_pool_list(pool, list, 4, &count), 0);
		assert_int_equal(count, 3);
		usleep(2000);
	}
	print_message("# %lu resizes\n", (unsigned long)done);
	assert_true(done > 5);
}

static void clients_go_on_while_boundaries_move(void **state)
{
	struct lcpfs_open_options options = {
		.background = true, .cache_bytes = 8 * MB, .tune_given = true, .tune = LCPFS_ENGINE_ON};
	struct lcpfs_care care = {.data = true, .found = fixture_print};
	struct client clients[3] = {{.name = "a"}, {.name = "b"}, {.name = "c"}};
	struct lcpfs_failure failure = {0};
	struct lcpfs_pool *pool;
	pthread_t threads[3];
	atomic_bool stop = false;
	(void)state;
	assert_int_equal(create(100 * MB, false, &failure), 0);
	assert_int_equal(lcpfs_pool_open(path, &options, &pool, &failure), 0);
	for (unsigned i = 0; i < 3; i++) {
		struct lcpfs_partition_spec spec = {.thin = true,
						    .name = clients[i].name,
						    .min_bytes = 16 * MB,
						    .max_bytes = 64 * MB,
						    .size_bytes = 24 * MB};
		assert_int_equal(pool_add_of_space(pool, &spec, &failure), 0);
		clients[i].pool = pool;
		clients[i].stop = &stop;
		clients[i].blocks = 1500;
		clients[i].generation = calloc(1500, sizeof(uint32_t));
		assert_int_equal(pthread_create(&threads[i], NULL, write_and_read, &clients[i]), 0);
	}
	resize_for(pool, 4);
	struct lcpfs_care scrub = {.found = fixture_print};
	assert_int_equal(lcpfs_pool_scrub(pool, &scrub, &failure), 0);
	assert_int_equal(scrub.damaged, 0);
	assert_int_equal(lcpfs_partition_remove(pool, "a", &failure), -LCPFS_E_BUSY);
	atomic_store(&stop, true);
	for (unsigned i = 0; i < 3; i++) {
		pthread_join(threads[i], NULL);
		if (clients[i].problem[0])
			fail_msg("%s: %s", clients[i].name, clients[i].problem);
		print_message("# %s: %lu writes\n", clients[i].name, (unsigned long)clients[i].writes);
		free(clients[i].generation);
	}
	assert_int_equal(lcpfs_partition_remove(pool, "a", &failure), 0);
	assert_int_equal(lcpfs_pool_close(pool, &failure), 0);
	assert_int_equal(lcpfs_pool_check(path, &care, &failure), 0);
	assert_int_equal(care.damaged, 0);
	unlink(path);
}

int main(void)
{
	static const struct CMUnitTest tests[] = {
		cmocka_unit_test(what_is_there_is_not_written_over),
		cmocka_unit_test(an_empty_or_zero_file_becomes_a_pool),
		cmocka_unit_test(sizes_that_cannot_be_leave_no_file),
		cmocka_unit_test(a_forced_pool_leaves_no_trace_of_the_old_one),
		cmocka_unit_test(what_is_no_pool_does_not_open),
		cmocka_unit_test(a_pool_opens_once),
		cmocka_unit_test(of_those_who_create_at_once_one_does),
		cmocka_unit_test(creating_never_writes_where_the_name_leads_later),
		cmocka_unit_test(a_link_of_somebody_else_is_not_followed),
		cmocka_unit_test(what_was_fetched_is_counted_with_the_time_it_took),
		cmocka_unit_test(nothing_fetched_is_right_once_the_pool_is_taken),
		cmocka_unit_test(the_lease_says_who_serves),
		cmocka_unit_test(everything_can_be_dumped),
		cmocka_unit_test(clients_go_on_while_boundaries_move),
	};
	return cmocka_run_group_tests(tests, make_folder, remove_folder);
}
