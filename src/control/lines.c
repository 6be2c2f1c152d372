/* SPDX-License-Identifier: Apache-2.0 */
#include "control/lines.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/uio.h>
#include <unistd.h>

#include "base/descriptor.h"
#include "control/field.h"

enum {
	ROOM_FIRST = 4096,
	DEPTH_MAX = 16, /* our deepest answer has 5 */
};

void lines_open(struct lines *lines, int fd, size_t line_bytes_max)
{
	memset(lines, 0, sizeof(*lines));
	lines->fd = fd;
	lines->room_max = line_bytes_max;
	lines->passed = -1;
}

void lines_close(struct lines *lines)
{
	close(lines->fd);
	if (lines->passed >= 0)
		close(lines->passed);
	free(lines->buffer);
	memset(lines, 0, sizeof(*lines));
}

static void drop_given_line(struct lines *lines)
{
	lines->used -= lines->line_length;
	if (lines->used)
		memmove(lines->buffer, lines->buffer + lines->line_length, lines->used);
	lines->line_length = 0;
}

bool lines_next(struct lines *lines, char **line)
{
	if (lines->line_length)
		drop_given_line(lines);
	char *end = lines->used ? memchr(lines->buffer, '\n', lines->used) : NULL;
	if (!end)
		return false;
	*end = '\0';
	*line = lines->buffer;
	lines->line_length = (size_t)(end - lines->buffer) + 1;
	return true;
}

static int make_room(struct lines *lines)
{
	size_t room = lines->room ? lines->room * 2 : ROOM_FIRST;
	if (lines->used < lines->room)
		return 0;
	if (lines->room >= lines->room_max)
		return -LCPFS_E_RANGE;
	room = MIN_OF(room, lines->room_max);
	char *buffer = realloc(lines->buffer, room);
	if (!buffer)
		return -LCPFS_E_NOMEM;
	lines->buffer = buffer;
	lines->room = room;
	return 0;
}

/* Room for one descriptor, and for what alignment adds: that may be another one. */
union passing {
	struct cmsghdr align;
	char bytes[CMSG_SPACE(sizeof(int))];
};

static void keep_passed(struct lines *lines, struct msghdr *message)
{
	struct cmsghdr *c = CMSG_FIRSTHDR(message);
	if (!c || c->cmsg_level != SOL_SOCKET || c->cmsg_type != SCM_RIGHTS)
		return;
	for (size_t at = 0; CMSG_LEN(at + sizeof(int)) <= c->cmsg_len; at += sizeof(int)) {
		if (lines->passed >= 0)
			close(lines->passed);
		memcpy(&lines->passed, CMSG_DATA(c) + at, sizeof(int));
	}
	lines->passed = lines->passed >= 0 ? descriptor_keep_clear(lines->passed) : -1;
}

int lines_take_passed(struct lines *lines)
{
	int fd = lines->passed;
	lines->passed = -1;
	return fd;
}

int lines_receive(struct lines *lines)
{
	union passing passing;
	int error = make_room(lines);
	ssize_t got;
	if (error)
		return error;
	struct iovec part = {lines->buffer + lines->used, lines->room - lines->used};
	struct msghdr message = {
		.msg_iov = &part, .msg_iovlen = 1, .msg_control = &passing, .msg_controllen = sizeof(passing)};
	do
		got = recvmsg(lines->fd, &message, MSG_CMSG_CLOEXEC);
	while (got < 0 && errno == EINTR);
	if (got >= 0)
		keep_passed(lines, &message);
	if (got < 0)
		return errno == ECONNRESET ? -LCPFS_E_STOPPED : -LCPFS_E_IO;
	lines->used += (size_t)got;
	return got ? 0 : -LCPFS_E_STOPPED;
}

static void pass(struct msghdr *message, union passing *passing, int fd)
{
	memset(passing, 0, sizeof(*passing));
	message->msg_control = passing;
	message->msg_controllen = sizeof(*passing);
	struct cmsghdr *c = CMSG_FIRSTHDR(message);
	c->cmsg_level = SOL_SOCKET;
	c->cmsg_type = SCM_RIGHTS;
	c->cmsg_len = CMSG_LEN(sizeof(int));
	memcpy(CMSG_DATA(c), &fd, sizeof(int));
}

int lines_send(struct lines *lines, struct json_object *object)
{
	return lines_send_passing(lines, object, -1);
}

int lines_send_passing(struct lines *lines, struct json_object *object, int fd)
{
	const char *text = field_line(object);
	struct iovec parts[2] = {{(void *)(uintptr_t)text, text ? strlen(text) : 0}, {"\n", 1}};
	struct msghdr message = {.msg_iov = parts, .msg_iovlen = 2};
	union passing passing;
	ssize_t sent;
	if (!text)
		return -LCPFS_E_NOMEM;
	if (fd >= 0)
		pass(&message, &passing, fd);
	while (parts[0].iov_len + parts[1].iov_len) {
		sent = sendmsg(lines->fd, &message, MSG_NOSIGNAL);
		if (sent < 0 && errno == EINTR)
			continue;
		if (sent < 0) /* also EAGAIN: the socket's time limit for sending has passed */
			return -LCPFS_E_STOPPED;
		message.msg_control = NULL; /* it has gone with the first byte */
		message.msg_controllen = 0;
		for (int i = 0; i < 2; i++) {
			size_t part = MIN_OF((size_t)sent, parts[i].iov_len);
			parts[i].iov_base = (char *)parts[i].iov_base + part;
			parts[i].iov_len -= part;
			sent -= (ssize_t)part;
		}
	}
	return 0;
}

/* Counts what may be in a text, too: those that are too many by that are refused all the same. */
static bool is_too_much(const char *line, size_t members_max)
{
	size_t commas = 0, openings = 0;
	for (; *line; line++) {
		commas += *line == ',';
		openings += *line == '{' || *line == '[';
	}
	return commas > members_max || openings > members_max / 16;
}

struct json_object *lines_parse(const char *line, size_t members_max, const char **reason)
{
	size_t length = strlen(line);
	if (is_too_much(line, members_max)) {
		*reason = "too much at once";
		return NULL;
	}
	struct json_tokener *tokener = json_tokener_new_ex(DEPTH_MAX);
	if (!tokener) {
		*reason = lcpfs_error_sentence(LCPFS_E_NOMEM);
		return NULL;
	}
	json_tokener_set_flags(tokener, JSON_TOKENER_STRICT | JSON_TOKENER_VALIDATE_UTF8);
	struct json_object *object =
		json_tokener_parse_ex(tokener, line, (int)length + 1); /* the NUL says that no more will come */
	*reason = json_tokener_error_desc(json_tokener_get_error(tokener));
	if (object && json_tokener_get_parse_end(tokener) < length) {
		*reason = "something follows the value";
		json_object_put(object);
		object = NULL;
	}
	json_tokener_free(tokener);
	return object;
}
