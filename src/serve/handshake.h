/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The handshake, from the server's greeting to the transmission phase: fixed newstyle negotiation as a state
 * machine over bytes. It knows no sockets and no pool: it says what it wants next, and is told.
 *
 * The names of exports are looked up by others, which may take a while: it then waits in HANDSHAKE_LOOKUP.
 */
#ifndef SERVE_HANDSHAKE_H
#define SERVE_HANDSHAKE_H

#include "serve/bytes.h"
#include "serve/wire.h"

enum {
	HANDSHAKE_OPTION_MAX = 32 * 1024, /* bytes of an option; a longer one is skipped and refused */
	HANDSHAKE_OPTION_BYTES = 16,      /* an option's header */
	HANDSHAKE_NAME_MAX = 255,         /* no export of ours has a longer name */
};

/* Without TLS; as the client likes; or nothing without it. */
enum serve_tls { SERVE_TLS_OFF, SERVE_TLS_ON, SERVE_TLS_REQUIRE };

enum handshake_next {
	HANDSHAKE_AGAIN,  /* call it again with what is left */
	HANDSHAKE_MORE,   /* call it again when more bytes have come */
	HANDSHAKE_LOOKUP, /* look for what `lookup` says and call handshake_found or handshake_listed */
	HANDSHAKE_STARTTLS, /* send what is to be sent, bring TLS up, call handshake_secured */
	HANDSHAKE_TRANSMIT, /* send what is to be sent; what follows are requests, by `wire` */
	HANDSHAKE_END,      /* send what is to be sent and end the connection */
};

enum handshake_lookup { LOOKUP_NONE, LOOKUP_LIST, LOOKUP_INFO, LOOKUP_ENTER };

struct handshake_export {
	char name[HANDSHAKE_NAME_MAX + 1];
	char description[128];
	uint64_t bytes;
	bool read_only;
	uint32_t contexts; /* that there are of it, by bit */
};

struct handshake {
	enum serve_tls tls;
	bool is_secure;
	bool has_flags;             /* the client's have come */
	bool is_fixed, no_zeroes;
	uint32_t option;            /* that is being answered */
	uint64_t skip;              /* bytes of it still to be thrown away */
	uint32_t infos;             /* that INFO or GO asks for, by bit */
	uint32_t queried;           /* contexts that a query names, by bit */
	enum handshake_lookup lookup;
	char name[HANDSHAKE_NAME_MAX + 1];    /* wanted; "": the default export */
	char context_export[HANDSHAKE_NAME_MAX + 1]; /* that the contexts were selected for */
	struct wire wire;
	struct bytes out; /* to be sent, before anything that is asked for is done */
};

/* Puts the greeting into `out`. */
void handshake_init(struct handshake *handshake, enum serve_tls tls);
void handshake_free(struct handshake *handshake);
/* Takes *used of the bytes. */
enum handshake_next handshake_step(struct handshake *handshake, const uint8_t *bytes, size_t length,
				   size_t *used) MUST_CHECK;
/* NULL: there is none, and `message` says why. */
enum handshake_next handshake_found(struct handshake *handshake, const struct handshake_export *found,
				    const char *message) MUST_CHECK;
/* All exports; NULL with a message: they cannot be had. */
enum handshake_next handshake_listed(struct handshake *handshake, const struct handshake_export *list,
				     size_t count, const char *message) MUST_CHECK;
void handshake_secured(struct handshake *handshake);

#endif
