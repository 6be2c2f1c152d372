/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/output.h"

#include <errno.h>
#include <stdlib.h>
#include <string.h>

void output_init(struct output *o, struct workspace *workspace, struct memory *memory, size_t *held,
		 struct channel *channel)
{
	*o = (struct output){.workspace = workspace, .memory = memory, .held = held, .channel = channel};
	o->last = &o->first;
}

static void append(struct output *o, struct chunk *chunk)
{
	chunk->next = NULL;
	*o->last = chunk;
	o->last = &chunk->next;
}

static void release(struct output *o, struct chunk *chunk)
{
	memory_give(o->memory, o->held, chunk->charged);
	if (chunk->release)
		chunk->release(chunk);
}

static void remove_first(struct output *o)
{
	struct chunk *chunk = o->first;
	o->first = chunk->next;
	if (!o->first)
		o->last = &o->first;
	release(o, chunk);
}

void output_free(struct output *o)
{
	while (o->first)
		remove_first(o);
	o->workspace->out_used = o->workspace->chunks_used = 0;
}

/* -- putting together -- */

static bool is_last_in_workspace(const struct output *o)
{
	const struct workspace *w = o->workspace;
	const struct chunk *chunk = w->chunks_used ? &w->chunks[w->chunks_used - 1] : NULL;
	return chunk && o->last == &chunk->next;
}

uint8_t *output_room(struct output *o, size_t length)
{
	struct workspace *w = o->workspace;
	CHECK(length <= WORKSPACE_OUT_BYTES);
	if (w->out_used + length > WORKSPACE_OUT_BYTES || w->chunks_used == OUTPUT_LIST_MAX)
		output_send(o);
	return w->out + w->out_used;
}

void output_put(struct output *o, size_t length)
{
	struct workspace *w = o->workspace;
	uint8_t *data = w->out + w->out_used;
	w->out_used += length;
	if (is_last_in_workspace(o)) {
		w->chunks[w->chunks_used - 1].length += length;
		return;
	}
	struct chunk *chunk = &w->chunks[w->chunks_used++];
	*chunk = (struct chunk){.data = data, .length = length};
	append(o, chunk);
}

void output_put_bytes(struct output *o, const void *bytes, size_t length)
{
	const uint8_t *from = bytes;
	while (length) {
		size_t n = MIN_OF(length, (size_t)WORKSPACE_OUT_BYTES);
		memcpy(output_room(o, n), from, n);
		output_put(o, n);
		from += n;
		length -= n;
	}
}

void output_give(struct output *o, struct chunk *chunk)
{
	append(o, chunk);
}

/* -- sending -- */

void output_die(struct output *o)
{
	if (!o->is_dead && o->channel)
		o->channel->ops->finish(o->channel); /* a client that is still there shall not wait */
	o->is_dead = true;
	output_free(o);
}

static void free_copy(struct chunk *chunk)
{
	free(chunk);
}

/* What is left in the workspace moves into memory of its own. */
static void leave_workspace(struct output *o)
{
	struct workspace *w = o->workspace;
	for (struct chunk **link = &o->first; *link; link = &(*link)->next) {
		struct chunk *chunk = *link;
		if (chunk->release)
			continue;
		struct chunk *copy = malloc(sizeof(*copy) + chunk->length);
		if (!copy) {
			output_die(o); /* a reply is lost, so the client can make nothing of the others */
			return;
		}
		*copy = (struct chunk){chunk->next, (uint8_t *)(copy + 1), chunk->length, chunk->length,
				       free_copy};
		memcpy(copy->data, chunk->data, chunk->length);
		memory_add(o->memory, o->held, copy->charged);
		*link = copy;
		if (o->last == &chunk->next)
			o->last = &copy->next;
	}
	w->out_used = w->chunks_used = 0;
}

static void take_sent(struct output *o, size_t sent)
{
	while (o->first && o->first->data && sent >= o->first->length) {
		sent -= o->first->length;
		remove_first(o);
	}
	if (sent) {
		o->first->data += sent;
		o->first->length -= sent;
	}
}

static unsigned fill_list(const struct output *o, struct iovec *list)
{
	unsigned count = 0;
	for (const struct chunk *c = o->first; c && c->data && count < OUTPUT_LIST_MAX; c = c->next)
		list[count++] = (struct iovec){c->data, c->length};
	return count;
}

void output_send(struct output *o)
{
	struct iovec list[OUTPUT_LIST_MAX];
	while (!o->is_dead) {
		unsigned count = fill_list(o, list);
		if (!count && !o->channel->ops->has_unsent(o->channel))
			break;
		ssize_t sent = o->channel->ops->send(o->channel, list, count);
		if (sent == -EAGAIN)
			break;
		if (sent < 0)
			output_die(o);
		else
			take_sent(o, (size_t)sent);
	}
	if (o->is_dead)
		output_free(o);
	else
		leave_workspace(o);
	o->is_behind = o->first;
}

struct chunk *output_place(struct output *o)
{
	return o->first && !o->first->data ? o->first : NULL;
}

void output_insert(struct output *o, struct chunk *chunk)
{
	chunk->next = o->first;
	o->first = chunk;
}

void output_remove(struct output *o)
{
	remove_first(o);
}
