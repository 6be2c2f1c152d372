/* SPDX-License-Identifier: Apache-2.0 */
/* Fields of JSON objects: the few kinds that our reports and requests use. Thread-safe by object. */
#ifndef CONTROL_FIELD_H
#define CONTROL_FIELD_H

#include <stdbool.h>
#include <stdint.h>

#include <json-c/json.h>

void field_put_text(struct json_object *object, const char *key, const char *text);
void field_put_count(struct json_object *object, const char *key, uint64_t count);
/* 16 hexadecimal digits, as a text: as a number not every reader would keep all 64 bits of it. */
void field_put_id(struct json_object *object, const char *key, uint64_t id);
/* Nine digits, which survive a way through the socket unchanged; what is not finite becomes null. */
void field_put_number(struct json_object *object, const char *key, double number);
void field_put_flag(struct json_object *object, const char *key, bool flag);
void field_put(struct json_object *object, const char *key, struct json_object *value); /* takes `value` over */

/* What is missing or of another kind reads as NULL, 0 or false. Texts live as long as the object. */
struct json_object *field_get(struct json_object *object, const char *key);
const char *field_text(struct json_object *object, const char *key);
uint64_t field_count(struct json_object *object, const char *key);
uint64_t field_id(struct json_object *object, const char *key);
double field_number(struct json_object *object, const char *key); /* null reads as infinity */
bool field_flag(struct json_object *object, const char *key);
size_t field_length(struct json_object *list); /* of what is no array: 0 */

/* Makes all texts in it plain (base/plain.h); members whose name is not are left out. */
void field_make_plain(struct json_object *value);

/* The object on one line, without spaces; owned by the object. */
const char *field_line(struct json_object *object);

#endif
