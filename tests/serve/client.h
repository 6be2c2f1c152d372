/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A client in the world of world.h that knows what each answer has to be: it keeps a copy of the volume, and takes
 * apart what the server sends by code of its own.
 */
#ifndef SERVE_CLIENT_H
#define SERVE_CLIENT_H

#include "world.h"

enum { CLIENT_REQUESTS_MAX = 3 * CONNECTION_TURN_REQUESTS }; /* more than a turn takes */

struct client_request {
	bool is_open;
	uint16_t flags, type;
	uint64_t cookie, offset, length;
	uint32_t error;   /* what has to come of it */
	uint64_t covered; /* bytes of a read that have come */
	unsigned statuses; /* contexts whose answer has come, by bit */
	uint64_t sent_end; /* how much the client had sent with the end of it */
};

struct client {
	struct world *world;
	enum wire_style style;
	unsigned contexts; /* that are asked for: the first so many */
	uint64_t bytes;
	uint16_t flags;
	uint8_t *data;  /* what the volume has to hold */
	bool *written;
	struct client_request requests[CLIENT_REQUESTS_MAX];
	unsigned open;
	uint64_t cookie;
	size_t taken;        /* of world.to_client */
	uint64_t forgotten; /* of world.to_server */
	unsigned done;
};

void client_begin(struct client *client, struct world *world);
void client_free(struct client *client);
/* Up to the transmission phase, for volume "db". */
void client_shake_hands(struct client *client, enum wire_style style, unsigned contexts, bool oldly);
/* A request as given; not checked against those that are open. */
void client_send(struct client *client, uint16_t type, uint16_t flags, uint64_t offset, uint64_t length,
		 uint32_t error);
/* One that is drawn, among those whose answer is certain. false: none was found. */
bool client_send_any(struct client *client);
void client_send_disconnect(struct client *client);
/* Takes and checks what has come. */
void client_take(struct client *client);
/* Everything asked was answered; and the volume holds what it has to. */
void client_check_end(struct client *client);

#endif
