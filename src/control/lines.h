/* SPDX-License-Identifier: Apache-2.0 */
/* Lines over a socket: what both ends of the control protocol are made of. Not thread-safe. */
#ifndef CONTROL_LINES_H
#define CONTROL_LINES_H

#include <json-c/json.h>
#include <stdbool.h>
#include <stddef.h>

#include "base/error.h"

struct lines {
	int fd; /* owned: closed by lines_close */
	char *buffer;
	size_t used, room, room_max;
	size_t line_length; /* of the line that was given out last, with its end */
	int passed;         /* a descriptor that the other end passed and nobody took yet; -1: none. Owned, too */
};

void lines_open(struct lines *lines, int fd, size_t line_bytes_max);
void lines_close(struct lines *lines);

/*
 * The next whole line that is here already: true, with *line valid until the next call; its end is cut off. Never
 * waits.
 */
bool lines_next(struct lines *lines, char **line);
/* Receives what there is: 0, STOPPED at the end of the stream, RANGE when a line is too long, NOMEM, IO. */
int lines_receive(struct lines *lines) MUST_CHECK;
/*
 * The last descriptor that came, the caller's from now on; -1: none. Of those that nobody takes the last is kept.
 */
int lines_take_passed(struct lines *lines);
/* Sends the object as one line. STOPPED: the other end is gone, or takes nothing for too long. */
int lines_send(struct lines *lines, struct json_object *object) MUST_CHECK;
/* The same, and passes the descriptor on; it stays the caller's. */
int lines_send_passing(struct lines *lines, struct json_object *object, int fd) MUST_CHECK;

/*
 * One JSON value and nothing else; NULL if it is not: *reason then says why. More than `members_max` members and
 * elements, or a sixteenth as many objects and arrays, are refused: a few bytes of text can ask for kilobytes of
 * memory.
 */
struct json_object *lines_parse(const char *line, size_t members_max, const char **reason);

#endif
