/* SPDX-License-Identifier: Apache-2.0 */
/*
 * nbdkit-lcpfs-plugin: the partitions of a pool as NBD exports.
 *
 * It only maps callbacks: nbdkit has the protocol, TLS and sockets, liblcpfs everything else. `lcpfs serve` starts
 * it; by hand: nbdkit lcpfs pool=FILE. The pool is opened after nbdkit has forked (threads do not survive a fork),
 * and closed, with everything durable, when nbdkit ends.
 */
#define NBDKIT_API_VERSION 2
#include <nbdkit-plugin.h>

#include <errno.h>
#include <fcntl.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

#include <lcpfs/pool.h>

#include "control/describe.h"
#include "control/server.h"
#include "ending.h"
#include "handle.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

enum {
	EXTENTS_MAX = 8192, /* of one answer: what fits in the protocol's usual packet; the client asks on */
	REQUEST_BYTES_MAX = 32 << 20,
};

/* nbdkit gives callbacks no context, so a plugin's state is global; all of it is here. */
static struct {
	char *pool_path;
	const char *control_path, *nbd_path;
	const char *ready_text; /* printed to ready_fd once clients are served */
	int ready_fd;
	bool is_served; /* by `lcpfs serve`: its messages are the CLI's, one line each */
	struct lcpfs_open_options options;
	struct lcpfs_pool *pool;
	struct control_server *control;
} plugin = {.ready_fd = -1, .options = {.background = true}};

/* What went wrong, to the log and to the client. Always -1. */
static int failed(int error, const struct lcpfs_failure *failure)
{
	/* A client that is told ENOSPC goes on trying: that must not fill the log as well. */
	if (lcpfs_error_errno(error) != ENOSPC)
		nbdkit_error("%s", failure->message[0] ? failure->message : lcpfs_error_sentence(error));
	nbdkit_set_error(lcpfs_error_errno(error));
	return -1;
}

/* ---- parameters ---- */

static int config_size(const char *key, const char *value)
{
	int64_t bytes = nbdkit_parse_size(value);

	if (bytes < 0)
		return -1;
	if (bytes == 0 || (uint64_t)bytes > SIZE_MAX) {
		nbdkit_error("%s=%s: not a usable size", key, value);
		return -1;
	}
	plugin.options.cache_bytes = (size_t)bytes;
	return 0;
}

static int config_tune(const char *value)
{
	if (!describe_mode_parse(value, &plugin.options.tune)) {
		nbdkit_error("tune=%s: it is off, observe or on", value);
		return -1;
	}
	plugin.options.tune_given = true;
	return 0;
}

static int config_flag(const char *value, bool *flag)
{
	int given = nbdkit_parse_bool(value);

	*flag = given > 0;
	return given < 0 ? -1 : 0;
}

/* Kept as a copy that lives as long as the plugin. */
static int config_text(const char *value, const char **text)
{
	*text = nbdkit_strdup_intern(value);
	return *text ? 0 : -1;
}

/* The standard output of now: when there is something to say, nbdkit has it at /dev/null. */
static int config_ready(const char *value)
{
	if (plugin.ready_fd < 0)
		plugin.ready_fd = fcntl(STDOUT_FILENO, F_DUPFD_CLOEXEC, 0);
	return config_text(value, &plugin.ready_text);
}

static int lcpfs_config(const char *key, const char *value)
{
	if (!strcmp(key, "pool")) {
		free(plugin.pool_path);
		plugin.pool_path = nbdkit_realpath(value);
		return plugin.pool_path ? 0 : -1;
	}
	if (!strcmp(key, "cache"))
		return config_size(key, value);
	if (!strcmp(key, "tune"))
		return config_tune(value);
	if (!strcmp(key, "control"))
		return config_text(value, &plugin.control_path);
	if (!strcmp(key, "no-uring"))
		return config_flag(value, &plugin.options.no_uring);
	if (!strcmp(key, "serve-socket")) /* the last three are lcpfs serve's */
		return config_text(value, &plugin.nbd_path);
	if (!strcmp(key, "serve-ready"))
		return config_ready(value);
	if (!strcmp(key, "serve"))
		return config_flag(value, &plugin.is_served);
	nbdkit_error("unknown parameter '%s'", key);
	return -1;
}

static int lcpfs_config_complete(void)
{
	if (plugin.pool_path)
		return 0;
	nbdkit_error("which pool? give pool=FILE");
	return -1;
}

#define lcpfs_config_help                                                                                         \
	"pool=FILE      (required) The pool: a file or a block device.\n"                                         \
	"cache=SIZE     Memory for tables, all partitions together (256M).\n"                                     \
	"tune=MODE      off, observe or on: whether boundaries move by themselves.\n"                             \
	"control=PATH   Control socket, for the lcpfs command.\n"                                                 \
	"no-uring=BOOL  Do without io_uring (false)."

/* ---- the pool's life ---- */

/* A server whose pool somebody else has taken is of no use to anybody, and its clients should hear of that. */
static void notice(void *context, enum lcpfs_notice kind, const char *text)
{
	(void)context;
	if (plugin.is_served)
		fprintf(stderr, "lcpfs: %s: %s\n", plugin.pool_path, text);
	else
		nbdkit_error("%s: %s", plugin.pool_path, text);
	if (kind == LCPFS_NOTICE_TAKEN_OVER)
		kill(getpid(), SIGTERM);
}

static int open_pool(struct lcpfs_failure *failure)
{
	plugin.options.notice = notice;
	int error = lcpfs_pool_open(plugin.pool_path, &plugin.options, &plugin.pool, failure);

	if (error || !plugin.control_path)
		return error;
	error = control_server_start(plugin.control_path, plugin.pool, &plugin.control, failure);
	if (!error)
		error = lcpfs_pool_set_lease(plugin.pool, plugin.control_path,
					     plugin.nbd_path ? plugin.nbd_path : "");
	if (error && plugin.control)
		snprintf(failure->message, sizeof(failure->message), "%s: cannot note who serves it: %s",
			 plugin.pool_path, lcpfs_error_sentence(error));
	return error;
}

/* false: something is not durable. */
static bool close_pool(void)
{
	struct lcpfs_failure failure = {0};
	int error = 0;

	control_server_stop(plugin.control);
	plugin.control = NULL;
	handle_take_away_all();
	if (plugin.pool)
		error = lcpfs_pool_close(plugin.pool, &failure);
	if (error)
		nbdkit_error("closing the pool: %s", failure.message);
	plugin.pool = NULL;
	return !error;
}

static void end_serving(void)
{
	bool is_durable = close_pool();

	if (plugin.nbd_path)
		unlink(plugin.nbd_path);
	if (!is_durable)
		_exit(EXIT_FAILURE); /* nbdkit would end as if nothing had happened */
}

static int start_serving(struct lcpfs_failure *failure)
{
	int error = open_pool(failure);
	int err;

	if (error || !plugin.is_served)
		return error;
	err = ending_watch(end_serving);
	if (err)
		snprintf(failure->message, sizeof(failure->message), "no thread: %s", strerror(err));
	return err;
}

static int lcpfs_after_fork(void)
{
	struct lcpfs_failure failure = {0};

	if (start_serving(&failure)) {
		if (plugin.is_served)
			fprintf(stderr, "lcpfs: %s\n", failure.message);
		else
			nbdkit_error("%s", failure.message);
		end_serving();
		return -1;
	}
	if (plugin.ready_text && plugin.ready_fd >= 0) {
		dprintf(plugin.ready_fd, "%s\n", plugin.ready_text);
		close(plugin.ready_fd); /* who reads until the end need not wait for ours */
	}
	return 0;
}

static void lcpfs_cleanup(void)
{
	if (plugin.is_served)
		ending_cleanup();
	else
		end_serving();
}

static void lcpfs_unload(void)
{
	close_pool();
	free(plugin.pool_path);
	plugin.pool_path = NULL;
}

/* ---- exports ---- */

static int lcpfs_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
	struct describe_partitions partitions;
	int error, result = 0;

	(void)readonly, (void)is_tls;
	if (!handle_enter_pool())
		return failed(-LCPFS_E_STOPPED, &(struct lcpfs_failure){0});
	error = describe_partitions_load(&partitions, plugin.pool);
	handle_leave_pool();
	if (error)
		return failed(error, &(struct lcpfs_failure){0});
	for (size_t i = 0; i < partitions.count && !result; i++)
		result = nbdkit_add_export(exports, partitions.list[i].name, "lcpfs partition");
	describe_partitions_free(&partitions);
	return result;
}

/* Only where there is no doubt which one is meant. */
static const char *lcpfs_default_export(int readonly, int is_tls)
{
	struct lcpfs_partition_info info;
	size_t count = 0;

	(void)readonly, (void)is_tls;
	if (!handle_enter_pool())
		return NULL;
	if (lcpfs_pool_list(plugin.pool, &info, 1, &count))
		count = 0;
	handle_leave_pool();
	return count == 1 ? nbdkit_strdup_intern(info.name) : NULL;
}

static void *lcpfs_open(int readonly)
{
	const char *name = nbdkit_export_name();
	struct lcpfs_failure failure = {0};
	struct handle *handle;
	int error;

	(void)readonly; /* nbdkit itself keeps writes out */
	if (!name)
		return NULL;
	error = handle_open(plugin.pool, name, &handle, &failure);
	if (error)
		failed(error, &failure);
	return error ? NULL : handle;
}

static void lcpfs_close(void *handle)
{
	handle_close(handle);
}

static const char *lcpfs_export_description(void *handle)
{
	return nbdkit_printf_intern("lcpfs partition of %llu bytes", (unsigned long long)handle_bytes(handle));
}

static int64_t lcpfs_get_size(void *handle)
{
	return (int64_t)handle_bytes(handle);
}

static int lcpfs_block_size(void *handle, uint32_t *minimum, uint32_t *preferred, uint32_t *maximum)
{
	(void)handle;
	*minimum = 1;
	*preferred = LCPFS_BLOCK_BYTES;
	*maximum = REQUEST_BYTES_MAX;
	return 0;
}

static int yes(void *handle)
{
	(void)handle;
	return 1;
}

static int no(void *handle)
{
	(void)handle;
	return 0;
}

static int lcpfs_can_fua(void *handle)
{
	(void)handle;
	return NBDKIT_FUA_NATIVE;
}

/* ---- data ---- */

/* NULL, with the error set: the server is ending. */
static struct lcpfs_partition *begin(struct handle *handle)
{
	struct lcpfs_partition *partition = handle_begin(handle);

	if (!partition)
		failed(-LCPFS_E_STOPPED, &(struct lcpfs_failure){0});
	return partition;
}

static int end(struct handle *handle, int error, const struct lcpfs_failure *failure)
{
	handle_end(handle);
	return error ? failed(error, failure) : 0;
}

static int lcpfs_pread(void *handle, void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct lcpfs_failure failure = {0};
	struct lcpfs_partition *partition = begin(handle);

	(void)flags;
	return partition ? end(handle, lcpfs_volume_read(partition, offset, buffer, count, &failure), &failure)
			 : -1;
}

static int lcpfs_pwrite(void *handle, const void *buffer, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct lcpfs_failure failure = {0};
	struct lcpfs_partition *partition = begin(handle);
	bool fua = flags & NBDKIT_FLAG_FUA;

	if (!partition)
		return -1;
	return end(handle, lcpfs_volume_write(partition, offset, buffer, count, fua, &failure), &failure);
}

static int lcpfs_flush(void *handle, uint32_t flags)
{
	struct lcpfs_failure failure = {0};
	struct lcpfs_partition *partition = begin(handle);

	(void)flags;
	return partition ? end(handle, lcpfs_volume_flush(partition, &failure), &failure) : -1;
}

static int lcpfs_trim(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	struct lcpfs_failure failure = {0};
	struct lcpfs_partition *partition = begin(handle);
	bool fua = flags & NBDKIT_FLAG_FUA;

	return partition ? end(handle, lcpfs_volume_trim(partition, offset, count, fua, &failure), &failure) : -1;
}

/* Zeros are what is not there: always as fast as a trim, and never a promise of space. */
static int lcpfs_zero(void *handle, uint32_t count, uint64_t offset, uint32_t flags)
{
	return lcpfs_trim(handle, count, offset, flags & NBDKIT_FLAG_FUA);
}

static int add_extents(struct lcpfs_partition *partition, uint64_t offset, uint64_t stop, int count_max,
		       struct nbdkit_extents *extents)
{
	uint64_t next;
	bool data;

	for (int i = 0; i < count_max && offset < stop; i++, offset = next) {
		int error = lcpfs_volume_extent(partition, offset, stop - offset, &data, &next);

		if (error)
			return failed(error, &(struct lcpfs_failure){0});
		if (nbdkit_add_extent(extents, offset, next - offset,
				      data ? 0 : NBDKIT_EXTENT_HOLE | NBDKIT_EXTENT_ZERO))
			return -1;
	}
	return 0;
}

static int lcpfs_extents(void *handle, uint32_t count, uint64_t offset, uint32_t flags,
			 struct nbdkit_extents *extents)
{
	struct lcpfs_partition *partition = begin(handle);
	int count_max = flags & NBDKIT_FLAG_REQ_ONE ? 1 : EXTENTS_MAX;
	int result;

	if (!partition)
		return -1;
	result = add_extents(partition, offset, offset + count, count_max, extents);
	end(handle, 0, NULL);
	return result;
}

static struct nbdkit_plugin nbdkit_lcpfs = {
	.name = "lcpfs",
	.longname = "lcpfs pool",
	.version = LCPFS_VERSION,
	.description = "Partitions of an lcpfs pool, whose boundaries move by themselves",
	.magic_config_key = "pool",
	.config = lcpfs_config,
	.config_complete = lcpfs_config_complete,
	.config_help = lcpfs_config_help,
	.after_fork = lcpfs_after_fork,
	.cleanup = lcpfs_cleanup,
	.unload = lcpfs_unload,
	.list_exports = lcpfs_list_exports,
	.default_export = lcpfs_default_export,
	.open = lcpfs_open,
	.close = lcpfs_close,
	.export_description = lcpfs_export_description,
	.get_size = lcpfs_get_size,
	.block_size = lcpfs_block_size,
	.can_write = yes,
	.can_flush = yes,
	.is_rotational = no,
	.can_trim = yes,
	.can_zero = yes,
	.can_fast_zero = yes,
	.can_extents = yes,
	.can_fua = lcpfs_can_fua,
	.can_multi_conn = yes, /* a flush covers what any connection was told is done */
	.pread = lcpfs_pread,
	.pwrite = lcpfs_pwrite,
	.flush = lcpfs_flush,
	.trim = lcpfs_trim,
	.zero = lcpfs_zero,
	.extents = lcpfs_extents,
	.errno_is_preserved = 0,
};

NBDKIT_REGISTER_PLUGIN(nbdkit_lcpfs)
