/* SPDX-License-Identifier: Apache-2.0 */
#include "control/field.h"

#include <math.h>

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

const char *field_line(struct json_object *object)
{
	return json_object_to_json_string_ext(object, JSON_C_TO_STRING_PLAIN | JSON_C_TO_STRING_NOSLASHESCAPE);
}
