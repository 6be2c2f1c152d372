/* SPDX-License-Identifier: Apache-2.0 */
/* TLS by GnuTLS: a server's certificate, pre-shared keys, or both. Version 1.2 and later. */
#ifndef SERVE_TLS_H
#define SERVE_TLS_H

#include "base/error.h"
#include "serve/channel.h"

struct tls;

struct tls_files {
	const char *certificates; /* folder with server-cert.pem, server-key.pem, ca-cert.pem, ca-crl.pem; NULL */
	const char *psk;          /* a file of lines USER:KEY. NULL: none */
	bool verify_peer;         /* clients need a certificate that ca-cert.pem has signed */
};

/* Whatever is wrong with them is an error now, not when a client comes. */
int tls_load(const struct tls_files *files, struct tls **tls, struct lcpfs_failure *failure) MUST_CHECK;
void tls_free(struct tls *tls); /* NULL is allowed */
/* On top of another channel, which it owns from now on, also where it fails: NULL. */
struct channel *tls_channel(struct tls *tls, struct channel *below);

#endif
