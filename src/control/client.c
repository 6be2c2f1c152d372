/* SPDX-License-Identifier: Apache-2.0 */
#include "control/client.h"

#include <poll.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/clock.h"
#include "base/error.h"
#include "control/field.h"

enum {
	REPLY_BYTES_MAX = 8 * 1024 * 1024, /* the longest answer, 4096 events and 12288 samples, has some 7 */
	REPLY_MEMBERS_MAX = 700 * 1000,
	POLL_MS = 200,
	HELLO_S_MAX = 4,    /* until a server says which pool it serves: that takes it no work and no lock */
	SILENCE_S_MAX = 30, /* a command may have to wait for a slow device */
	SHORT_S_MAX = 60,   /* in all, of a command without progress */
};

struct call {
	struct control_client *client;
	const struct control_call *asked;
	uint64_t done, total; /* last heard */
	uint64_t heard_us, began_us;
	unsigned silence_s_max, total_s_max;
	struct json_object **result;
	struct lcpfs_failure *failure;
};

void control_client_open(struct control_client *client, int fd)
{
	struct timeval limit = {.tv_sec = HELLO_S_MAX};
	setsockopt(fd, SOL_SOCKET, SO_SNDTIMEO, &limit, sizeof(limit));
	lines_open(&client->lines, fd, REPLY_BYTES_MAX);
}

void control_client_close(struct control_client *client)
{
	lines_close(&client->lines);
}

bool control_client_peer_may_serve(const struct control_client *client, uid_t owner)
{
	struct ucred peer;
	socklen_t length = sizeof(peer);
	return !getsockopt(client->lines.fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) &&
	       (peer.uid == 0 || peer.uid == geteuid() || peer.uid == owner);
}

static int error_by_name(const char *name)
{
	for (int code = LCPFS_OK + 1; code < LCPFS_E_END; code++)
		if (name && !strcmp(lcpfs_error_name(code), name))
			return code;
	return LCPFS_E_SYSTEM;
}

static int take_failure(struct call *call, struct json_object *reply)
{
	struct json_object *error = field_get(reply, "error");
	const char *message = field_text(error, "message");
	return failure_set(call->failure, (enum lcpfs_error)error_by_name(field_text(error, "name")), "%s",
			   message ? message : "the server failed without a word");
}

static int send_request(struct call *call)
{
	struct json_object *request = json_object_new_object(), *arguments = call->asked->arguments;
	field_put_text(request, "command", call->asked->command);
	if (arguments) {
		json_object_object_foreach(arguments, key, value) field_put(request, key, json_object_get(value));
	}
	int error = lines_send_passing(&call->client->lines, request, call->asked->fd ? *call->asked->fd : -1);
	json_object_put(request);
	if (error)
		return failure_set(call->failure, LCPFS_E_STOPPED, "the server closed the control connection");
	return 0;
}

/* One line from the server. *finished: it was the last one. */
static int take_reply(struct call *call, const char *line, bool *finished)
{
	const char *reason;
	struct json_object *reply = lines_parse(line, REPLY_MEMBERS_MAX, &reason), *progress;
	int error = 0;
	*finished = true;
	if (!reply)
		return failure_set(call->failure, LCPFS_E_SYSTEM, "the server's answer is not JSON: %s", reason);
	field_make_plain(reply);
	progress = field_get(reply, "progress");
	if (progress) {
		call->done = field_count(progress, "done");
		call->total = field_count(progress, "total");
		*finished = false;
	} else if (field_flag(reply, "ok")) {
		*call->result = json_object_get(field_get(reply, "result"));
	} else {
		error = take_failure(call, reply);
	}
	json_object_put(reply);
	return error;
}

static int check_time(const struct call *call)
{
	uint64_t now_us = clock_us(&clock_system);
	if (now_us - call->heard_us > call->silence_s_max * UINT64_C(1000000))
		return failure_set(call->failure, LCPFS_E_STOPPED, "the server does not answer");
	if (call->total_s_max && now_us - call->began_us > call->total_s_max * UINT64_C(1000000))
		return failure_set(call->failure, LCPFS_E_STOPPED, "the server does not come to an end");
	return 0;
}

static int receive_more(struct call *call)
{
	struct pollfd fd = {.fd = call->client->lines.fd, .events = POLLIN};
	int ready = poll(&fd, 1, POLL_MS);
	if (call->asked->progress && !call->asked->progress(call->asked->context, call->done, call->total))
		return failure_set(call->failure, LCPFS_E_STOPPED, "stopped");
	if (ready <= 0) /* interrupted, or nothing yet */
		return check_time(call);
	call->heard_us = clock_us(&clock_system);
	if (lines_receive(&call->client->lines))
		return failure_set(call->failure, LCPFS_E_STOPPED, "the server ended before it answered");
	return check_time(call);
}

static int converse(struct call *call)
{
	bool finished = false;
	char *line;
	*call->result = NULL;
	call->began_us = call->heard_us = clock_us(&clock_system);
	int error = send_request(call);
	while (!error && !finished) {
		if (lines_next(&call->client->lines, &line))
			error = take_reply(call, line, &finished);
		else
			error = receive_more(call);
	}
	return error;
}

int control_client_call(struct control_client *client, const struct control_call *asked,
			struct json_object **result, struct lcpfs_failure *failure)
{
	struct call call = {
		.client = client,
		.asked = asked,
		.silence_s_max = SILENCE_S_MAX,
		.total_s_max = asked->progress ? 0 : SHORT_S_MAX,
		.result = result,
		.failure = failure,
	};
	return converse(&call);
}

int control_client_identify(struct control_client *client, const struct lcpfs_identity *wanted,
			    struct lcpfs_failure *failure)
{
	struct json_object *result;
	struct control_call asked = {.command = "identify"};
	struct call call = {
		.client = client,
		.asked = &asked,
		.silence_s_max = HELLO_S_MAX,
		.total_s_max = HELLO_S_MAX,
		.result = &result,
		.failure = failure,
	};
	int error = converse(&call);
	if (error)
		return error;
	bool is_same = field_id(result, "guid") == wanted->guid && field_id(result, "device") == wanted->device &&
		       field_id(result, "inode") == wanted->inode && field_id(result, "offset") == wanted->offset;
	json_object_put(result);
	return is_same ? 0 : failure_set(failure, LCPFS_E_BUSY, "the server there serves another pool");
}
