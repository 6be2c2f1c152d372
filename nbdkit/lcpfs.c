/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A plugin for nbdkit, for its filters and its ways to serve: each partition of a pool is an export, as with
 * lcpfs serve. It only maps calls. The pool is open in this process then, and other commands find it in use.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <lcpfs/pool.h>
#include <pthread.h>
#include <stdlib.h>
#include <string.h>

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL
enum { PARTITIONS_MAX = 256, BLOCK_BYTES_MAX = 1 << 25 };

static char *pool_path; /* absolute: nbdkit leaves the folder that it was started in */
static struct lcpfs_open_options options = {.background = true};
static struct lcpfs_pool *pool; /* NULL: it could not be opened */

/* Volumes that clients have open: nbdkit closes none of them when it ends, and a pool is closed after them. */
struct client {
	struct lcpfs_partition *volume;
	struct client *next;
};
static struct client *clients; /* under the lock */
static pthread_mutex_t clients_lock = PTHREAD_MUTEX_INITIALIZER;

static int complain(int error, const struct lcpfs_failure *failure)
{
	if (!error)
		return 0;
	nbdkit_error("%s", failure && failure->message[0] ? failure->message : lcpfs_error_sentence(error));
	nbdkit_set_error(lcpfs_error_errno(error));
	return -1;
}

/* ---- the pool ---- */

static int take_mode(const char *value)
{
	static const struct {
		const char *name;
		enum lcpfs_engine_mode mode;
	} modes[] = {{"off", LCPFS_ENGINE_OFF}, {"observe", LCPFS_ENGINE_OBSERVE}, {"on", LCPFS_ENGINE_ON}};
	for (size_t i = 0; i < sizeof(modes) / sizeof(modes[0]); i++) {
		if (strcmp(value, modes[i].name) != 0)
			continue;
		options.tune_given = true;
		options.tune = modes[i].mode;
		return 0;
	}
	nbdkit_error("tune=%s: it is off, observe or on", value);
	return -1;
}

static int take_parameter(const char *key, const char *value)
{
	if (!strcmp(key, "tune"))
		return take_mode(value);
	if (!strcmp(key, "pool")) {
		free(pool_path);
		pool_path = nbdkit_realpath(value);
		return pool_path ? 0 : -1;
	}
	if (strcmp(key, "cache") != 0) {
		nbdkit_error("unknown parameter %s", key);
		return -1;
	}
	int64_t bytes = nbdkit_parse_size(value);
	if (bytes <= 0)
		return -1;
	options.cache_bytes = (size_t)bytes;
	return 0;
}

static int check_parameters(void)
{
	if (pool_path)
		return 0;
	nbdkit_error("which pool? pool=PATH");
	return -1;
}

/* The pool has threads of its own, which no fork takes along. */
static int open_pool(void)
{
	struct lcpfs_failure failure;
	return complain(lcpfs_pool_open(pool_path, &options, &pool, &failure), &failure);
}

static void close_pool(void)
{
	struct lcpfs_failure failure;
	while (clients) { /* nobody is served any more */
		struct client *next = clients->next;
		lcpfs_partition_close(clients->volume);
		free(clients);
		clients = next;
	}
	if (pool && lcpfs_pool_close(pool, &failure))
		nbdkit_error("%s", failure.message);
	pool = NULL;
}

static void unload(void)
{
	free(pool_path);
}

/* ---- exports ---- */

/* How many there are, of which up to PARTITIONS_MAX are in the list; -1: it cannot be told. */
static long list_partitions(struct lcpfs_partition_info **list)
{
	size_t count = 0;
	*list = calloc(PARTITIONS_MAX, sizeof(**list));
	int error = *list ? lcpfs_pool_list(pool, *list, PARTITIONS_MAX, &count) : -LCPFS_E_NOMEM;
	if (!error)
		return (long)count;
	free(*list);
	return complain(error, NULL);
}

static int list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
	struct lcpfs_partition_info *list;
	long count = list_partitions(&list);
	int failed = count < 0;
	(void)readonly, (void)is_tls;
	for (long i = 0; i < count && i < PARTITIONS_MAX && !failed; i++)
		failed = nbdkit_add_export(exports, list[i].name, NULL) != 0;
	if (count >= 0)
		free(list);
	return failed ? -1 : 0;
}

/* Who asks for no name gets the only partition of a pool that has just one. */
static const char *default_export(int readonly, int is_tls)
{
	struct lcpfs_partition_info *list;
	long count = list_partitions(&list);
	const char *name = count == 1 ? nbdkit_strdup_intern(list[0].name) : NULL;
	(void)readonly, (void)is_tls;
	if (count >= 0)
		free(list);
	return name;
}

static void *open_volume(int readonly)
{
	const char *name = nbdkit_export_name();
	struct client *client = calloc(1, sizeof(*client));
	struct lcpfs_failure failure;
	(void)readonly; /* nbdkit refuses to write by itself then */
	if (!name || !client || complain(lcpfs_partition_open(pool, name, &client->volume, &failure), &failure)) {
		free(client);
		return NULL;
	}
	pthread_mutex_lock(&clients_lock);
	client->next = clients;
	clients = client;
	pthread_mutex_unlock(&clients_lock);
	return client->volume;
}

static void close_volume(void *handle)
{
	struct client **at = &clients, *client;
	pthread_mutex_lock(&clients_lock);
	while ((*at)->volume != handle)
		at = &(*at)->next;
	client = *at;
	*at = client->next;
	pthread_mutex_unlock(&clients_lock);
	lcpfs_partition_close(handle);
	free(client);
}

static int64_t get_size(void *handle)
{
	return (int64_t)lcpfs_volume_bytes(handle);
}

static int can_write(void *handle)
{
	return !lcpfs_volume_is_snapshot(handle);
}

static int yes(void *handle)
{
	(void)handle;
	return 1;
}

static int can_fua(void *handle)
{
	(void)handle;
	return NBDKIT_FUA_NATIVE;
}

static int block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
	(void)handle;
	*minimum = 1;
	*preferred = LCPFS_BLOCK_BYTES;
	*maximum = BLOCK_BYTES_MAX;
	return 0;
}

/* ---- requests ---- */

static int read_volume(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct lcpfs_failure failure;
	(void)flags;
	return complain(lcpfs_volume_read(handle, offset, buffer, count, &failure), &failure);
}

static int write_volume(void *handle, const void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct lcpfs_failure failure;
	bool fua = flags & NBDKIT_FLAG_FUA;
	return complain(lcpfs_volume_write(handle, offset, buffer, count, fua, &failure), &failure);
}

static int trim_volume(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct lcpfs_failure failure;
	return complain(lcpfs_volume_trim(handle, offset, count, flags & NBDKIT_FLAG_FUA, &failure), &failure);
}

/* What was trimmed reads as zeros. Zeros that have to take space are written by nbdkit. */
static int zero_volume(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	if (flags & NBDKIT_FLAG_MAY_TRIM)
		return trim_volume(handle, count, offset, flags);
	nbdkit_set_error(EOPNOTSUPP);
	return -1;
}

static int flush_volume(void *handle, uint32_t flags)
{
	struct lcpfs_failure failure;
	(void)flags;
	return complain(lcpfs_volume_flush(handle, &failure), &failure);
}

static int extents_of_volume(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
			     struct nbdkit_extents *extents)
{
	uint64_t end = offset + count;
	while (offset < end) {
		uint64_t next = offset;
		bool data = true;
		if (complain(lcpfs_volume_extent(handle, offset, end - offset, &data, &next), NULL))
			return -1;
		if (nbdkit_add_extent(extents, offset, next - offset,
				      data ? 0 : NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO))
			return -1;
		offset = next;
		if (flags & NBDKIT_FLAG_REQ_ONE)
			break;
	}
	return 0;
}

static struct nbdkit_plugin plugin = {
	.name = "lcpfs",
	.version = LCPFS_VERSION,
	.longname = "lcpfs pool",
	.description = "partitions of an lcpfs pool",
	.config = take_parameter,
	.config_complete = check_parameters,
	.config_help = "pool=PATH        (required) the pool.\n"
		       "cache=SIZE       Memory for tables.\n"
		       "tune=MODE        off, observe or on: whether boundaries move by themselves.",
	.magic_config_key = "pool",
	.after_fork = open_pool,
	.cleanup = close_pool,
	.unload = unload,
	.list_exports = list_exports,
	.default_export = default_export,
	.open = open_volume,
	.close = close_volume,
	.get_size = get_size,
	.block_size = block_size,
	.can_write = can_write,
	.can_trim = can_write,
	.can_zero = can_write,
	.can_flush = yes,
	.can_fua = can_fua,
	.can_multi_conn = yes, /* a flush is of the whole volume */
	.can_extents = yes,
	.pread = read_volume,
	.pwrite = write_volume,
	.trim = trim_volume,
	.zero = zero_volume,
	.flush = flush_volume,
	.extents = extents_of_volume,
	.errno_is_preserved = 0,
};

__attribute__((visibility("default"))) NBDKIT_REGISTER_PLUGIN(plugin)
