/* SPDX-License-Identifier: Apache-2.0 */
#include "follow.h"

#include <errno.h>
#include <fcntl.h>
#include <inttypes.h>
#include <poll.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <time.h>
#include <unistd.h>

#include "base/error.h"
#include "control/field.h"
#include "journal.h"
#include "session.h"

enum {
	LOOK_MS = 2000,    /* for a volume that has grown */
	TRY_MS = 200,      /* for a server that comes back */
	EVENTS_MAX = 4096, /* more than a pool keeps */
};

/* ---- is it still the same? ---- */

static bool is_snapshot(const struct follow *f)
{
	return strchr(f->name, '@');
}

struct json_object *follow_find(struct json_object *result, const char *list_key, const char *name)
{
	struct json_object *list = field_get(result, list_key);
	for (size_t i = 0; i < field_length(list); i++) {
		struct json_object *item = json_object_array_get_idx(list, i);
		const char *found = field_text(item, "name");
		if (found && !strcmp(found, name))
			return item;
	}
	return NULL;
}

struct json_object *follow_arguments(const char *whole_name)
{
	struct json_object *arguments = json_object_new_object();
	char name[LCPFS_NAME_MAX + 1] = "";
	memcpy(name, whole_name, MIN_OF(strcspn(whole_name, "@"), (size_t)LCPFS_NAME_MAX));
	field_put_text(arguments, "name", name);
	return arguments;
}

static uint64_t property(struct json_object *partition, const char *name)
{
	return field_count(field_get(field_get(partition, "properties"), name), "value");
}

static int look_at_snapshot(struct session_watch *watch, const struct follow *f, struct follow_state *state,
			    struct lcpfs_failure *failure)
{
	struct json_object *result;
	int error = session_watch_call(watch, "snapshots", follow_arguments(f->name), &result, failure);
	struct json_object *found = error ? NULL : follow_find(result, "snapshots", f->name);
	if (found)
		state->created_s = field_count(found, "created_s");
	else if (!error)
		error = failure_set(failure, LCPFS_E_NOT_FOUND, "there is no snapshot %s", f->name);
	json_object_put(result);
	return error;
}

static int look_at_partition(struct session_watch *watch, const struct follow *f, struct follow_state *state,
			     struct lcpfs_failure *failure)
{
	struct json_object *arguments = follow_arguments(f->name), *result, *found;
	field_put_text(arguments, "property", "id,volume,recoveries");
	int error = session_watch_call(watch, "get", arguments, &result, failure);
	found = error ? NULL : follow_find(result, "partitions", f->name);
	if (found) {
		state->id = property(found, "id");
		state->recoveries = property(found, "recoveries");
		state->volume_bytes = property(found, "volume");
	} else if (!error) {
		error = failure_set(failure, LCPFS_E_NOT_FOUND, "there is no partition %s", f->name);
	}
	json_object_put(result);
	return error;
}

static int look(struct session_watch *watch, const struct follow *f, struct follow_state *state,
		struct lcpfs_failure *failure)
{
	*state = (struct follow_state){0};
	return is_snapshot(f) ? look_at_snapshot(watch, f, state, failure)
			      : look_at_partition(watch, f, state, failure);
}

/* The newest number, and whether the partition went back to a snapshot behind the one that was known. */
static int look_at_events(struct session_watch *watch, const struct follow *f, struct follow_state *state,
			  bool *went_back, struct lcpfs_failure *failure)
{
	struct json_object *arguments = json_object_new_object(), *result, *events;
	uint64_t expected = f->state.event + 1;
	state->event = f->state.event;
	field_put_count(arguments, "after", f->state.event);
	field_put_count(arguments, "limit", f->state.event ? EVENTS_MAX : 1);
	int error = session_watch_call(watch, "log", arguments, &result, failure);
	events = field_get(result, "events");
	for (size_t i = 0; i < field_length(events); i++) {
		struct json_object *e = json_object_array_get_idx(events, i);
		const char *kind = field_text(e, "kind");
		state->event = field_count(e, "number");
		/* Of those that the pool has dropped nobody knows what they were. */
		*went_back |= state->event != expected++ ||
			      (kind && !strcmp(kind, "rollback") && field_count(e, "to_id") == f->state.id);
	}
	json_object_put(result);
	return error;
}

int follow_begin(struct follow *f, struct lcpfs_failure *failure)
{
	struct session_watch watch = {.pool_path = f->pool_path};
	bool ignored = false;
	int error = look(&watch, f, &f->state, failure);
	if (!error && !is_snapshot(f))
		error = look_at_events(&watch, f, &f->state, &ignored, failure);
	session_watch_close(&watch);
	return error;
}

/* STOPPED: no, it never will be again; *failure says why. Any other error: it cannot be told now. */
static int check_state(struct session_watch *watch, struct follow *f, struct lcpfs_failure *failure)
{
	struct follow_state now;
	const char *why = NULL;
	bool went_back = false;
	int error = look(watch, f, &now, failure);
	if (!error && !is_snapshot(f))
		error = look_at_events(watch, f, &now, &went_back, failure);
	if (error)
		return failure->code == LCPFS_E_STOPPED ? -LCPFS_E_AGAIN : error;
	if (now.id != f->state.id || now.created_s != f->state.created_s)
		why = "it is another one now";
	else if (now.recoveries != f->state.recoveries)
		why = "its server crashed, and what was not flushed may be lost";
	else if (went_back)
		why = "it was rolled back meanwhile";
	else if (now.volume_bytes < f->state.volume_bytes)
		why = "its volume is shorter now";
	if (why)
		return failure_set(failure, LCPFS_E_STOPPED, "%s", why);
	f->state = now;
	return 0;
}

/* ---- another connection ---- */

static int connect_again(struct follow *f, struct session_watch *watch, struct lcpfs_failure *failure)
{
	struct nbd_link link;
	struct pool_seen seen;
	int error = pool_look(f->pool_path, &seen, failure);
	if (!error && (seen.identity.guid != f->guid || !seen.nbd_path[0]))
		error = failure_set(failure, LCPFS_E_NOT_FOUND, "it is not served at a Unix socket");
	if (!error)
		error = nbd_link_open(seen.nbd_path, seen.owner_uid, f->name, &link, failure);
	if (error)
		return error == -LCPFS_E_STOPPED ? -LCPFS_E_AGAIN : error;
	/* The server that answers is the one behind this connection, or a later one: then that is lost already. */
	error = check_state(watch, f, failure);
	if (!error)
		error = nbd_device_reconnect(&f->device, &link, failure);
	if (error) {
		nbd_link_close(&link);
		return error;
	}
	nbd_link_close(&f->link);
	f->link = link;
	return 0;
}

static void tell(const struct follow *f, const char *text)
{
	fprintf(stderr, "lcpfs: %s, /dev/nbd%u: %s\n", f->name, f->device.index, text);
}

static void give_up(struct follow *f, const char *why)
{
	struct lcpfs_failure failure;
	char text[sizeof(failure.message) + 64];

	snprintf(text, sizeof(text), "%s: the device fails; unmount it, and attach it again", why);
	tell(f, text);
	if (nbd_device_disconnect(&f->device, &failure))
		tell(f, failure.message);
}

static uint64_t now_ms(void)
{
	struct timespec now;
	clock_gettime(CLOCK_BOOTTIME, &now);
	return (uint64_t)now.tv_sec * 1000 + (uint64_t)now.tv_nsec / 1000000;
}

/* Until there is another connection. false: there will be none. */
static bool wait_for_server(struct follow *f, struct session_watch *watch)
{
	struct timespec pause = {.tv_nsec = TRY_MS * 1000000};
	uint64_t end_ms = now_ms() + f->device.wait_s * UINT64_C(1000);
	struct lcpfs_failure failure = {0};
	int error = -LCPFS_E_AGAIN;
	while (error && error != -LCPFS_E_STOPPED && now_ms() <= end_ms) {
		nanosleep(&pause, NULL); /* the kernel has to notice, too */
		if (!nbd_device_is_connected(&f->device))
			return false;
		error = connect_again(f, watch, &failure);
	}
	if (!error)
		return true;
	give_up(f, error == -LCPFS_E_STOPPED ? failure.message : "its server does not come back");
	return false;
}

/* ---- the process ---- */

/* A connection can only be replaced, with another length, when it was lost. */
static void look_for_growth(struct follow *f, struct session_watch *watch)
{
	struct lcpfs_failure failure;
	struct follow_state now;
	if (!look(watch, f, &now, &failure) && now.id == f->state.id && now.volume_bytes > f->state.volume_bytes)
		shutdown(f->link.fd, SHUT_RDWR);
}

static void stay(struct follow *f)
{
	struct session_watch watch = {.pool_path = f->pool_path};
	struct lcpfs_failure failure;
	while (nbd_device_is_connected(&f->device)) {
		struct pollfd link = {.fd = f->link.fd, .events = POLLRDHUP};
		if (poll(&link, 1, LOOK_MS) > 0) {
			if (!wait_for_server(f, &watch))
				break;
		} else if (!nbd_device_reconnect(&f->device, &f->link, &failure)) {
			/* That was for a kernel that had not yet noticed when it got the connection. */
			look_for_growth(f, &watch);
		}
	}
	session_watch_close(&watch);
}

/* Nothing of who started it is kept but the connection and a place for words. */
static bool let_go(const struct follow *f, int log_fd)
{
	int null = open("/dev/null", O_RDWR | O_CLOEXEC);
	if (null < 0 || setsid() < 0 || dup2(null, STDIN_FILENO) < 0 || dup2(null, STDOUT_FILENO) < 0)
		return false;
	if (!journal_is_there() && dup2(log_fd, STDERR_FILENO) < 0)
		return false;
	if (f->link.fd > STDERR_FILENO + 1)
		close_range(STDERR_FILENO + 1, (unsigned)f->link.fd - 1, 0);
	close_range((unsigned)f->link.fd + 1, ~0u, 0);
	return !chdir("/");
}

int follow_start(struct follow *f, const char *log_path, struct lcpfs_failure *failure)
{
	int log_fd = open(log_path, O_WRONLY | O_CREAT | O_APPEND | O_CLOEXEC | O_NOFOLLOW, 0600);
	if (log_fd < 0)
		return failure_set(failure, LCPFS_E_SYSTEM, "%s: %s", log_path, strerrordesc_np(errno));
	fflush(NULL);
	pid_t pid = fork();
	if (!pid) {
		if (let_go(f, log_fd))
			stay(f);
		_exit(0);
	}
	close(log_fd);
	if (pid < 0)
		return failure_set(failure, LCPFS_E_SYSTEM, "no process for %s: %s", f->name,
				   strerrordesc_np(errno));
	nbd_link_close(&f->link);
	return 0;
}
