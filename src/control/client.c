/* SPDX-License-Identifier: Apache-2.0 */
#include "control/client.h"

#include <errno.h>
#include <poll.h>
#include <string.h>

#include "base/error.h"
#include "control/field.h"
#include "control/lines.h"

enum {
	REPLY_BYTES_MAX = 64 * 1024 * 1024,
	POLL_MS = 200,
};

struct call {
	struct lines lines;
	lcpfs_progress *progress;
	void *context;
	uint64_t done, total; /* last heard */
	struct json_object **result;
	struct lcpfs_failure *failure;
};

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

static int send_request(struct call *call, const char *command, struct json_object *arguments)
{
	struct json_object *request = json_object_new_object();
	int error;

	field_put_text(request, "command", command);
	if (arguments) {
		json_object_object_foreach(arguments, key, value) field_put(request, key, json_object_get(value));
	}
	error = lines_send(&call->lines, request);
	json_object_put(request);
	if (error)
		return failure_set(call->failure, LCPFS_E_STOPPED, "the server closed the control connection");
	return 0;
}

/* One line from the server. *finished: it was the last one. */
static int take_reply(struct call *call, const char *line, bool *finished)
{
	const char *reason;
	struct json_object *reply = lines_parse(line, &reason), *progress;
	int error = 0;

	*finished = true;
	if (!reply)
		return failure_set(call->failure, LCPFS_E_SYSTEM, "the server's answer is not JSON: %s", reason);
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

static int receive_more(struct call *call)
{
	struct pollfd fd = {.fd = call->lines.fd, .events = POLLIN};
	int ready = poll(&fd, 1, POLL_MS);

	if (call->progress && !call->progress(call->context, call->done, call->total))
		return failure_set(call->failure, LCPFS_E_STOPPED, "stopped");
	if (ready <= 0) /* interrupted, or nothing yet */
		return 0;
	if (lines_receive(&call->lines))
		return failure_set(call->failure, LCPFS_E_STOPPED, "the server ended before it answered");
	return 0;
}

static int converse(struct call *call, const char *command, struct json_object *arguments)
{
	bool finished = false;
	char *line;
	int error = send_request(call, command, arguments);

	while (!error && !finished) {
		if (lines_next(&call->lines, &line))
			error = take_reply(call, line, &finished);
		else
			error = receive_more(call);
	}
	return error;
}

int control_client_call(int fd, const char *command, struct json_object *arguments, lcpfs_progress *progress,
			void *context, struct json_object **result, struct lcpfs_failure *failure)
{
	struct call call = {.progress = progress, .context = context, .result = result, .failure = failure};
	int error;

	*result = NULL;
	lines_open(&call.lines, fd, REPLY_BYTES_MAX);
	error = converse(&call, command, arguments);
	lines_close(&call.lines);
	return error;
}
