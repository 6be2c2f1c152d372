/* SPDX-License-Identifier: Apache-2.0 */
#include "control/field.h"

#include <inttypes.h>
#include <math.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/plain.h"

void field_put(struct json_object *object, const char *key, struct json_object *value)
{
	if (!object ||
	    json_object_object_add(object, key, value)) /* no memory: the caller finds out by its own object */
		json_object_put(value);
}

void field_put_text(struct json_object *object, const char *key, const char *text)
{
	field_put(object, key, json_object_new_string(text));
}

void field_put_count(struct json_object *object, const char *key, uint64_t count)
{
	field_put(object, key, json_object_new_uint64(count));
}

void field_put_id(struct json_object *object, const char *key, uint64_t id)
{
	char text[17];
	snprintf(text, sizeof(text), "%016" PRIx64, id);
	field_put_text(object, key, text);
}

void field_put_number(struct json_object *object, const char *key, double number)
{
	static const char format[] = "%.9g";
	struct json_object *value = NULL;
	if (isfinite(number)) {
		value = json_object_new_double(number);
		/* The library's own format prints 0.1 as 0.10000000000000001. It only reads the format. */
		if (value)
			json_object_set_serializer(value, json_object_double_to_json_string,
						   (void *)(uintptr_t)format, NULL);
	}
	field_put(object, key, value);
}

void field_put_flag(struct json_object *object, const char *key, bool flag)
{
	field_put(object, key, json_object_new_boolean(flag));
}

struct json_object *field_get(struct json_object *object, const char *key)
{
	struct json_object *value = NULL;
	if (json_object_is_type(object, json_type_object))
		json_object_object_get_ex(object, key, &value);
	return value;
}

const char *field_text(struct json_object *object, const char *key)
{
	struct json_object *value = field_get(object, key);
	return json_object_is_type(value, json_type_string) ? json_object_get_string(value) : NULL;
}

uint64_t field_count(struct json_object *object, const char *key)
{
	return json_object_get_uint64(field_get(object, key));
}

uint64_t field_id(struct json_object *object, const char *key)
{
	const char *text = field_text(object, key);
	return text ? strtoull(text, NULL, 16) : 0;
}

double field_number(struct json_object *object, const char *key)
{
	struct json_object *value = field_get(object, key);
	return value ? json_object_get_double(value) : INFINITY;
}

bool field_flag(struct json_object *object, const char *key)
{
	return json_object_get_boolean(field_get(object, key));
}

size_t field_length(struct json_object *list)
{
	return json_object_is_type(list, json_type_array) ? json_object_array_length(list) : 0;
}

static void make_text_plain(struct json_object *value)
{
	const char *text = json_object_get_string(value);
	if (plain_is(text) && strlen(text) == (size_t)json_object_get_string_len(value))
		return;
	char *copy = strdup(text);
	if (copy)
		plain_text(copy);
	json_object_set_string(value, copy ? copy : "");
	free(copy);
}

void field_make_plain(struct json_object *value)
{
	if (json_object_is_type(value, json_type_string)) {
		make_text_plain(value);
	} else if (json_object_is_type(value, json_type_array)) {
		for (size_t i = 0; i < json_object_array_length(value); i++)
			field_make_plain(json_object_array_get_idx(value, i));
	} else if (json_object_is_type(value, json_type_object)) {
		json_object_object_foreach(value, key, member)
		{
			if (plain_is(key))
				field_make_plain(member);
			else
				json_object_object_del(value, key); /* allowed for the one that is looked at */
		}
	}
}

const char *field_line(struct json_object *object)
{
	return json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}
