/* SPDX-License-Identifier: Apache-2.0 */
#include "control/names.h"

#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "control/describe.h"

struct split {
	struct snapshot_names *names;
	struct lcpfs_pool *pool;
	struct lcpfs_failure *failure;
	char partition[LCPFS_NAME_MAX + 1]; /* of the last one that named it */
};

void snapshot_names_free(struct snapshot_names *names)
{
	for (size_t i = 0; i < names->count; i++)
		free(names->list[i]);
	free(names->list);
}

/* Takes `name` over. */
static int add(struct split *s, char *name)
{
	size_t count = s->names->count;
	char **list = name ? realloc(s->names->list, (count + 1) * sizeof(*list)) : NULL;
	if (!list) {
		free(name);
		return failure_set(s->failure, LCPFS_E_NOMEM, "%s", lcpfs_error_sentence(LCPFS_E_NOMEM));
	}
	s->names->list = list;
	list[s->names->count++] = name;
	return 0;
}

static int refuse_end(struct split *s, const char *name)
{
	return failure_set(s->failure, LCPFS_E_NOT_FOUND, "there is no snapshot %s@%.200s", s->partition, name);
}

static int refuse_order(struct split *s, const char *first, const char *last)
{
	return failure_set(s->failure, LCPFS_E_INVALID,
			   "%s@%.100s is younger than %s@%.100s: give the older first", s->partition, first,
			   s->partition, last);
}

/* `first` and `last` are the ends of a range, "" for an open one. */
static int add_listed(struct split *s, const struct lcpfs_snapshot_info *list, size_t count, const char *first,
		      const char *last)
{
	size_t from = 0, to;
	while (*first && from < count && strcmp(list[from].snapshot, first) != 0)
		from++;
	if (*first && from == count)
		return refuse_end(s, first);
	for (to = 0; to < count && strcmp(list[to].snapshot, last) != 0; to++)
		;
	if (*last && to == count)
		return refuse_end(s, last);
	to = *last ? to + 1 : count;
	if (to <= from)
		return count ? refuse_order(s, first, last)
			     : failure_set(s->failure, LCPFS_E_NOT_FOUND, "%s has no snapshots", s->partition);
	int error = 0;
	for (size_t i = from; i < to && !error; i++)
		error = add(s, strdup(list[i].name));
	return error;
}

/* Splits `range` where its % is. */
static int add_range(struct split *s, char *range)
{
	struct lcpfs_snapshot_info *list;
	char *last = strchr(range, '%');
	size_t count;
	*last++ = '\0';
	int error = describe_snapshots_load(&list, &count, s->pool, s->partition, s->failure);
	if (!error)
		error = add_listed(s, list, count, range, last);
	free(list);
	return error;
}

/* "a@x", "x", "a@x%y", "x%y", or anything else that somebody gave; may be changed. */
static int add_word(struct split *s, char *word)
{
	char *at = strchr(word, '@'), *name = at ? at + 1 : word, *whole;
	size_t length = at ? (size_t)(at - word) : 0;
	if (at && length < sizeof(s->partition))
		snprintf(s->partition, sizeof(s->partition), "%.*s", (int)length, word);
	if (strchr(name, '%') && s->partition[0] && length < sizeof(s->partition))
		return add_range(s, name);
	if (at || !s->partition[0])
		return add(s, strdup(word));
	return add(s, asprintf(&whole, "%s@%s", s->partition, word) < 0 ? NULL : whole);
}

int snapshot_names_split(struct snapshot_names *names, struct lcpfs_pool *pool, const char *text,
			 struct lcpfs_failure *failure)
{
	struct split s = {.names = names, .pool = pool, .failure = failure};
	*names = (struct snapshot_names){0};
	int error = 0;
	for (const char *word = text; word && !error;) {
		size_t length = strcspn(word, ",");
		char *copy = strndup(word, length);
		error = copy ? add_word(&s, copy)
			     : failure_set(failure, LCPFS_E_NOMEM, "%s", lcpfs_error_sentence(LCPFS_E_NOMEM));
		free(copy);
		word = word[length] ? word + length + 1 : NULL;
	}
	return error;
}
