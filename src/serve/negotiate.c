/* SPDX-License-Identifier: Apache-2.0 */
/* The handshake of a connection: what it asks to be looked up, and TLS. */
#include <errno.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "serve/parts.h"

/* -- look-ups -- */

struct lookup {
	struct task task;
	struct connection *connection;
	struct exports *exports;
	enum handshake_lookup kind;
	char name[HANDSHAKE_NAME_MAX + 1];
	struct export *export;
	struct backend_export *list;
	size_t count;
	int error;
	struct lcpfs_failure failure;
};

static void lookup_run(struct task *task)
{
	struct lookup *l = (struct lookup *)task;
	if (l->kind == LOOKUP_LIST)
		l->error = exports_list(l->exports, &l->list, &l->count, &l->failure);
	else
		l->error = exports_open(l->exports, l->name, &l->export, &l->failure);
}

static void lookup_done(struct task *task)
{
	connection_take_back(((struct lookup *)task)->connection, task);
}

static struct handshake_export describe(const struct backend_export *info)
{
	struct handshake_export e = {.bytes = info->bytes, .read_only = info->read_only};
	memcpy(e.name, info->name, sizeof(e.name));
	snprintf(e.description, sizeof(e.description), "lcpfs %s of %llu bytes",
		 info->read_only ? "snapshot" : "partition", (unsigned long long)info->bytes);
	return e;
}

static enum handshake_next take_list(struct handshake *h, const struct lookup *l)
{
	if (l->error)
		return handshake_listed(h, NULL, 0, l->failure.message);
	struct handshake_export *list = calloc(l->count + 1, sizeof(*list));
	for (size_t i = 0; list && i < l->count; i++)
		list[i] = describe(&l->list[i]);
	enum handshake_next next = handshake_listed(h, list, list ? l->count : 0, list ? NULL : "out of memory");
	free(list);
	return next;
}

static enum handshake_next take_export(struct connection *c, struct lookup *l)
{
	if (l->error)
		return handshake_found(c->handshake, NULL, l->failure.message);
	struct handshake_export found = describe(&l->export->info);
	found.contexts = 1u << WIRE_ALLOCATION | (l->export->backend->changed ? 1u << WIRE_CHANGED : 0);
	enum handshake_next next = handshake_found(c->handshake, &found, NULL);
	if (next == HANDSHAKE_TRANSMIT) {
		c->export = l->export;
		l->export = NULL;
	}
	return next;
}

static void look_up(struct connection *c)
{
	struct handshake *h = c->handshake;
	struct lookup *l = calloc(1, sizeof(*l));
	if (!l) {
		connection_fail(c, "out of memory");
		return;
	}
	l->task = (struct task){.run = lookup_run, .done = lookup_done, .home = &c->host->mailbox};
	l->connection = c;
	l->exports = c->host->exports;
	l->kind = h->lookup;
	memcpy(l->name, h->name, sizeof(l->name));
	c->is_looking_up = true;
	c->running++;
	lane_submit(c->host->lookups, &l->task);
}

/* -- the handshake -- */

void negotiate_greet(struct connection *c)
{
	struct bytes *out = &c->handshake->out;
	output_put_bytes(&c->output, out->data, out->length);
	out->length = 0;
}

void negotiate_free(struct connection *c)
{
	if (!c->handshake)
		return;
	handshake_free(c->handshake);
	free(c->handshake);
	c->handshake = NULL;
}

static void enter_transmission(struct connection *c)
{
	c->wire = c->handshake->wire;
	c->phase = PHASE_TRANSMISSION;
	negotiate_free(c);
}

static void handshake_took(struct connection *c, enum handshake_next next)
{
	negotiate_greet(c);
	switch (next) {
	case HANDSHAKE_LOOKUP:
		look_up(c);
		break;
	case HANDSHAKE_STARTTLS:
		c->phase = PHASE_SECURING;
		break;
	case HANDSHAKE_TRANSMIT:
		enter_transmission(c);
		break;
	case HANDSHAKE_END:
		connection_end_input(c, NULL);
		break;
	default:
		break;
	}
}

void negotiate_finish(struct connection *c, struct task *task)
{
	struct lookup *l = (struct lookup *)task;
	c->is_looking_up = false;
	c->running--;
	if (!c->is_input_over)
		handshake_took(c, l->kind == LOOKUP_LIST ? take_list(c->handshake, l) : take_export(c, l));
	export_close(l->export);
	free(l->list);
	free(l);
}

/* TLS. The client was told that it may come, so what it sent before that is not its. */
void negotiate_secure(struct connection *c)
{
	if (c->stash_bytes) {
		connection_fail(c, "it sent something between STARTTLS and TLS");
		return;
	}
	if (!c->is_secure) {
		struct channel *channel = c->host->ops->secure(c->host, c->channel);
		c->channel = c->output.channel = channel;
		c->is_secure = true;
		if (!channel)
			connection_fail(c, "out of memory");
	}
	int err = c->channel ? c->channel->ops->greet(c->channel) : -EAGAIN;
	if (err && err != -EAGAIN)
		connection_fail(c, "TLS was not agreed on");
	if (err)
		return;
	handshake_secured(c->handshake);
	c->phase = PHASE_HANDSHAKE;
	connection_want_turn(c);
}

size_t negotiate_take(struct connection *c, const uint8_t *bytes, size_t length)
{
	size_t used = 0;
	enum handshake_next next = handshake_step(c->handshake, bytes, length, &used);
	handshake_took(c, next);
	return used;
}
