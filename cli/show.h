/* SPDX-License-Identifier: Apache-2.0 */
/* The results of the commands (docs/control.md) for people, on standard output. */
#ifndef CLI_SHOW_H
#define CLI_SHOW_H

#include <json-c/json.h>
#include <stdint.h>

#include "size.h"

void show_help(int indent, const char *left, const char *right); /* "  left  right" in 80 columns */
void show_list(struct json_object *result);
void show_status(struct json_object *result);
void show_partition(struct json_object *result);
void show_explain(struct json_object *result);
void show_events(struct json_object *result);
void show_findings(struct json_object *findings);
/* The length of a volume, in bytes where it is no whole number of blocks. Returns `text`. */
const char *show_volume(struct json_object *p, char text[SIZE_TEXT]);
enum { TIME_TEXT = 64 };

/* Local, with its distance from UTC. Returns `text`. */
const char *show_time(uint64_t time_s, char text[TIME_TEXT]);

void show_json(struct json_object *result);

#endif
