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
#include <pthread.h>
#include <signal.h>
#include <stdbool.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/eventfd.h>
#include <time.h>
#include <unistd.h>

#include <lcpfs/pool.h>

#include "control/describe.h"
#include "control/server.h"

#define THREAD_MODEL NBDKIT_THREAD_MODEL_PARALLEL

enum {
	EXTENTS_MAX = 8192, /* of one answer: what fits in the protocol's usual packet; the client asks on */
	REQUEST_BYTES_MAX = 32 << 20,
	IDLE_CLIENTS_S = 1, /* that clients without a request under way have to go when the server ends */
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
	pthread_mutex_t lock; /* of what follows; held to open and close, never while data moves */
	struct handle *handles;
	bool is_closing;
	int end_fd;        /* to be read from once the server is told to end; where is_served */
	pthread_t watcher; /* of it */
	struct sigaction term_action, int_action; /* nbdkit's */
	pthread_mutex_t end_lock;                 /* held by who ends: nbdkit's cleanup or the watcher */
	pthread_cond_t ended;
	bool has_ended; /* under end_lock */
} plugin = {
	.options = {.background = true},
	.lock = PTHREAD_MUTEX_INITIALIZER,
	.end_lock = PTHREAD_MUTEX_INITIALIZER,
	.ended = PTHREAD_COND_INITIALIZER,
};

/*
 * A connection's partition. nbdkit does not wake a connection that waits for its client when it ends, and cleans
 * up without it; so the partition is taken away from it then.
 */
struct handle {
	pthread_rwlock_t lock; /* read: by an operation; write: to take the partition away */
	struct lcpfs_partition *partition;
	int64_t size_bytes;
	struct handle *next, **from;
};

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

static int open_pool(struct lcpfs_failure *failure)
{
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

static void take_away(struct handle *handle)
{
	pthread_rwlock_wrlock(&handle->lock); /* waits for operations that are under way */
	if (handle->partition)
		lcpfs_partition_close(handle->partition);
	handle->partition = NULL;
	pthread_rwlock_unlock(&handle->lock);
}

/* false: something is not durable. */
static bool close_pool(void)
{
	struct lcpfs_failure failure = {0};
	int error = 0;

	control_server_stop(plugin.control);
	plugin.control = NULL;
	pthread_mutex_lock(&plugin.lock);
	plugin.is_closing = true;
	for (struct handle *handle = plugin.handles; handle; handle = handle->next)
		take_away(handle);
	pthread_mutex_unlock(&plugin.lock);
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

/* Has nbdkit's cleanup come, within the time? Called with end_lock. */
static bool wait_for_cleanup(void)
{
	struct timespec until;
	int err = 0;

	clock_gettime(CLOCK_REALTIME, &until);
	until.tv_sec += IDLE_CLIENTS_S;
	while (!plugin.has_ended && !err)
		err = pthread_cond_timedwait(&plugin.ended, &plugin.end_lock, &until);
	return plugin.has_ended;
}

/*
 * When it is told to end, nbdkit waits for idle clients to go, and they may never; whoever stops a server wants it
 * stopped. So this ends the process itself after a moment, with everything durable: to clients it is as if they
 * were disconnected.
 */
static void *watch_for_end(void *context)
{
	eventfd_t count;

	while (eventfd_read(plugin.end_fd, &count) && errno == EINTR)
		;
	pthread_mutex_lock(&plugin.end_lock);
	if (!wait_for_cleanup()) {
		end_serving();
		_exit(EXIT_SUCCESS);
	}
	pthread_mutex_unlock(&plugin.end_lock);
	return context;
}

/* nbdkit's own handlers still do all they did. */
static void tell_watcher(int signal_number, siginfo_t *info, void *context)
{
	const struct sigaction *theirs = signal_number == SIGINT ? &plugin.int_action : &plugin.term_action;
	int err = errno;

	eventfd_write(plugin.end_fd, 1);
	if (theirs->sa_flags & SA_SIGINFO)
		theirs->sa_sigaction(signal_number, info, context);
	else if (theirs->sa_handler != SIG_DFL && theirs->sa_handler != SIG_IGN)
		theirs->sa_handler(signal_number);
	errno = err;
}

static int start_watcher(void)
{
	struct sigaction ours = {.sa_sigaction = tell_watcher, .sa_flags = SA_SIGINFO | SA_RESTART};
	int err;

	plugin.end_fd = eventfd(0, EFD_CLOEXEC);
	if (plugin.end_fd < 0)
		return errno;
	err = pthread_create(&plugin.watcher, NULL, watch_for_end, NULL);
	if (err)
		return err;
	sigaction(SIGINT, &ours, &plugin.int_action);
	sigaction(SIGTERM, &ours, &plugin.term_action);
	return 0;
}

static int start_serving(struct lcpfs_failure *failure)
{
	int error = open_pool(failure);
	int err;

	if (error || !plugin.is_served)
		return error;
	err = start_watcher();
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
	pthread_mutex_lock(&plugin.end_lock); /* for ever, where the watcher is ending the process already */
	end_serving();
	plugin.has_ended = true;
	pthread_cond_signal(&plugin.ended);
	pthread_mutex_unlock(&plugin.end_lock);
	if (plugin.is_served) {
		eventfd_write(plugin.end_fd, 1); /* it may have ended without a signal */
		pthread_join(plugin.watcher, NULL);
	}
}

static void lcpfs_unload(void)
{
	close_pool();
	free(plugin.pool_path);
}

/* ---- exports ---- */

/* Keeps the pool open until leave_pool. */
static bool enter_pool(void)
{
	pthread_mutex_lock(&plugin.lock);
	if (!plugin.is_closing)
		return true;
	pthread_mutex_unlock(&plugin.lock);
	failed(-LCPFS_E_STOPPED, &(struct lcpfs_failure){0});
	return false;
}

static void leave_pool(void)
{
	pthread_mutex_unlock(&plugin.lock);
}

static int lcpfs_list_exports(int readonly, int is_tls, struct nbdkit_exports *exports)
{
	struct describe_partitions partitions;
	int error, result = 0;

	(void)readonly, (void)is_tls;
	if (!enter_pool())
		return -1;
	error = describe_partitions_load(&partitions, plugin.pool);
	leave_pool();
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
	if (!enter_pool())
		return NULL;
	if (lcpfs_pool_list(plugin.pool, &info, 1, &count))
		count = 0;
	leave_pool();
	return count == 1 ? nbdkit_strdup_intern(info.name) : NULL;
}

static int open_handle(struct handle *handle, const char *name)
{
	struct lcpfs_failure failure = {0};
	int error;

	if (!enter_pool())
		return -1;
	error = lcpfs_partition_open(plugin.pool, name, &handle->partition, &failure);
	if (!error) {
		handle->size_bytes = (int64_t)lcpfs_volume_bytes(handle->partition);
		handle->next = plugin.handles;
		handle->from = &plugin.handles;
		if (handle->next)
			handle->next->from = &handle->next;
		plugin.handles = handle;
	}
	leave_pool();
	return error ? failed(error, &failure) : 0;
}

static void *lcpfs_open(int readonly)
{
	const char *name = nbdkit_export_name();
	struct handle *handle = name ? calloc(1, sizeof(*handle)) : NULL;

	(void)readonly; /* nbdkit itself keeps writes out */
	if (!handle)
		return NULL;
	pthread_rwlock_init(&handle->lock, NULL);
	if (!open_handle(handle, name))
		return handle;
	pthread_rwlock_destroy(&handle->lock);
	free(handle);
	return NULL;
}

static void lcpfs_close(void *context)
{
	struct handle *handle = context;

	pthread_mutex_lock(&plugin.lock);
	*handle->from = handle->next;
	if (handle->next)
		handle->next->from = handle->from;
	take_away(handle);
	pthread_mutex_unlock(&plugin.lock);
	pthread_rwlock_destroy(&handle->lock);
	free(handle);
}

static const char *lcpfs_export_description(void *context)
{
	struct handle *handle = context;

	return nbdkit_printf_intern("lcpfs partition of %lld bytes", (long long)handle->size_bytes);
}

static int64_t lcpfs_get_size(void *context)
{
	struct handle *handle = context;

	return handle->size_bytes;
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

/* Keeps the handle's partition open until end; NULL: it was taken away. */
static struct lcpfs_partition *begin(struct handle *handle)
{
	pthread_rwlock_rdlock(&handle->lock);
	if (handle->partition)
		return handle->partition;
	pthread_rwlock_unlock(&handle->lock);
	failed(-LCPFS_E_STOPPED, &(struct lcpfs_failure){0});
	return NULL;
}

static int end(struct handle *handle, int error, const struct lcpfs_failure *failure)
{
	pthread_rwlock_unlock(&handle->lock);
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
