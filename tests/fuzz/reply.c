/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Fuzz target: what a server, or whoever listens in its place, answers to the CLI; read and shown as the CLI does.
 */
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <unistd.h>

#include "cli/show.h"
#include "control/client.h"
#include "control/field.h"
#include "fuzz.h"

enum { ANSWER_MAX = 60 * 1024 }; /* what fits into a socket at once */

static void show_findings_of(struct json_object *result)
{
	show_findings(field_get(result, "findings"));
}

static void (*const shows[])(struct json_object *) = {show_list,    show_status, show_partition,  show_explain,
						      show_events,  show_json,   show_findings_of};

int LLVMFuzzerTestOneInput(const uint8_t *bytes, size_t length)
{
	struct lcpfs_failure failure = {0};
	struct json_object *result;
	struct control_client client;
	int ends[2];
	if (length < 2 || length > ANSWER_MAX)
		return 0;
	if (!stdout || fileno(stdout) == STDOUT_FILENO)
		stdout = fopen("/dev/null", "w");
	CHECK(!socketpair(AF_UNIX, SOCK_STREAM | SOCK_CLOEXEC, 0, ends));
	CHECK(send(ends[1], bytes + 1, length - 1, MSG_DONTWAIT) == (ssize_t)length - 1);
	shutdown(ends[1], SHUT_WR);
	control_client_open(&client, ends[0]);
	if (!control_client_call(&client, &(struct control_call){.command = "list"}, &result, &failure))
		shows[bytes[0] % ARRAY_LENGTH(shows)](result);
	else
		CHECK(!result && memchr(failure.message, 0, sizeof(failure.message)));
	json_object_put(result);
	control_client_close(&client);
	close(ends[1]);
	return 0;
}
