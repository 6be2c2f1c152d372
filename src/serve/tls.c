/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/tls.h"

#include <errno.h>
#include <gnutls/gnutls.h>
#include <limits.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>
#include <unistd.h>

enum { SEND_BYTES_MAX = 128 << 10 }; /* encrypted ahead of what the socket takes */

struct tls {
	gnutls_certificate_credentials_t certificates; /* NULL: none */
	gnutls_psk_server_credentials_t psk;
	gnutls_priority_t priority;
	bool verify_peer;
};

/* -- keys -- */

static int fail(struct lcpfs_failure *failure, const char *what, const char *path, int code)
{
	return failure_set(failure, LCPFS_E_INVALID, "TLS: %s %s: %s", what, path, gnutls_strerror(code));
}

static int readable(const char *path, struct lcpfs_failure *failure)
{
	if (access(path, R_OK) == 0)
		return 0;
	return failure_set(failure, LCPFS_E_INVALID, "TLS: %s: %s", path, strerrordesc_np(errno));
}

static int join(char path[PATH_MAX], const char *folder, const char *name, struct lcpfs_failure *failure)
{
	if (snprintf(path, PATH_MAX, "%s/%s", folder, name) < PATH_MAX)
		return 0;
	return failure_set(failure, LCPFS_E_INVALID, "TLS: %s: too long", folder);
}

static int load_own(struct tls *t, const char *folder, struct lcpfs_failure *failure)
{
	char certificate[PATH_MAX], key[PATH_MAX];
	if (join(certificate, folder, "server-cert.pem", failure) ||
	    join(key, folder, "server-key.pem", failure) || readable(certificate, failure) ||
	    readable(key, failure))
		return -LCPFS_E_INVALID;
	int code = gnutls_certificate_set_x509_key_file(t->certificates, certificate, key, GNUTLS_X509_FMT_PEM);
	return code < 0 ? fail(failure, "the certificate and its key do not do:", certificate, code) : 0;
}

/* Whose clients' certificates are taken, and which of them are not any more. */
static int load_trusted(struct tls *t, const char *folder, struct lcpfs_failure *failure)
{
	char path[PATH_MAX];
	int code;
	if (join(path, folder, "ca-cert.pem", failure))
		return -LCPFS_E_INVALID;
	if (t->verify_peer && readable(path, failure))
		return -LCPFS_E_INVALID;
	if (access(path, R_OK) == 0) {
		code = gnutls_certificate_set_x509_trust_file(t->certificates, path, GNUTLS_X509_FMT_PEM);
		if (code <= 0)
			return fail(failure, "no certificates in", path, code);
	}
	if (join(path, folder, "ca-crl.pem", failure))
		return -LCPFS_E_INVALID;
	if (access(path, F_OK) == 0) {
		code = gnutls_certificate_set_x509_crl_file(t->certificates, path, GNUTLS_X509_FMT_PEM);
		if (code <= 0)
			return fail(failure, "no list of revoked certificates in", path, code);
	}
	return 0;
}

static int load_certificates(struct tls *t, const char *folder, struct lcpfs_failure *failure)
{
	int code = gnutls_certificate_allocate_credentials(&t->certificates);
	if (code < 0)
		return fail(failure, "certificates", folder, code);
	int error = load_own(t, folder, failure);
	return error ? error : load_trusted(t, folder, failure);
}

/* USER:HEX, as psktool writes it. */
static bool is_key_line(const char *line)
{
	const char *colon = strchr(line, ':');
	if (*line == '#' || !colon || colon == line)
		return false;
	size_t length = strspn(colon + 1, "0123456789abcdefABCDEF");
	return length >= 2 && length % 2 == 0 && (colon[1 + length] == '\n' || colon[1 + length] == '\0');
}

static int check_psk(const char *path, struct lcpfs_failure *failure)
{
	FILE *file = fopen(path, "re");
	char *line = NULL;
	size_t room = 0;
	unsigned keys = 0;
	if (!file)
		return failure_set(failure, LCPFS_E_INVALID, "TLS: %s: %s", path, strerrordesc_np(errno));
	while (getline(&line, &room, file) >= 0)
		keys += is_key_line(line);
	if (line)
		explicit_bzero(line, room);
	free(line);
	bool failed = ferror(file);
	fclose(file);
	if (failed || !keys)
		return failure_set(failure, LCPFS_E_INVALID,
				   "TLS: %s has no line USER:KEY, with a key in hexadecimal", path);
	return 0;
}

static int load_psk(struct tls *t, const char *path, struct lcpfs_failure *failure)
{
	int error = check_psk(path, failure);
	if (error)
		return error;
	int code = gnutls_psk_allocate_server_credentials(&t->psk);
	if (code >= 0)
		code = gnutls_psk_set_server_credentials_file(t->psk, path);
	return code < 0 ? fail(failure, "keys", path, code) : 0;
}

int tls_load(const struct tls_files *files, struct tls **tls, struct lcpfs_failure *failure)
{
	struct tls *t = calloc(1, sizeof(*t));
	*tls = NULL;
	if (!t)
		return failure_set(failure, LCPFS_E_NOMEM, "%s", lcpfs_error_sentence(LCPFS_E_NOMEM));
	t->verify_peer = files->verify_peer;
	const char *priority = files->psk ? "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2:+ECDHE-PSK:+DHE-PSK:+PSK" :
					    "NORMAL:-VERS-ALL:+VERS-TLS1.3:+VERS-TLS1.2";
	int code = gnutls_priority_init(&t->priority, priority, NULL);
	int error = code < 0 ? fail(failure, "priority", priority, code) : 0;
	if (!error && files->certificates)
		error = load_certificates(t, files->certificates, failure);
	if (!error && files->psk)
		error = load_psk(t, files->psk, failure);
	if (error)
		tls_free(t);
	else
		*tls = t;
	return error;
}

void tls_free(struct tls *t)
{
	if (!t)
		return;
	if (t->certificates)
		gnutls_certificate_free_credentials(t->certificates);
	if (t->psk)
		gnutls_psk_free_server_credentials(t->psk);
	if (t->priority)
		gnutls_priority_deinit(t->priority);
	free(t);
}

/* -- the channel -- */

struct tls_channel {
	struct channel channel; /* first */
	struct channel *below;
	gnutls_session_t session;
	bool is_up;
	bool is_unsent; /* records that are encrypted and not sent */
};

/* Not negative, or -EAGAIN, or the end. */
static ssize_t result(ssize_t code)
{
	if (code >= 0)
		return code;
	if (code == GNUTLS_E_PREMATURE_TERMINATION)
		return 0;
	return gnutls_error_is_fatal((int)code) || code == GNUTLS_E_REHANDSHAKE ? -EPROTO : -EAGAIN;
}

static ssize_t tls_receive(struct channel *channel, struct iovec *list, unsigned count)
{
	struct tls_channel *t = (struct tls_channel *)channel;
	ssize_t done = 0;
	for (unsigned i = 0; i < count; i++) {
		size_t filled = 0;
		while (filled < list[i].iov_len) {
			ssize_t n = result(gnutls_record_recv(t->session, (char *)list[i].iov_base + filled,
							      list[i].iov_len - filled));
			if (n <= 0)
				return done ? done : n; /* an end or an error comes again */
			filled += (size_t)n;
			done += n;
		}
	}
	return done;
}

/* What is encrypted goes first. */
static ssize_t send_encrypted(struct tls_channel *t)
{
	ssize_t sent = result(gnutls_record_uncork(t->session, 0));
	t->is_unsent = sent == -EAGAIN;
	return sent < 0 ? sent : 0;
}

static ssize_t tls_send(struct channel *channel, struct iovec *list, unsigned count)
{
	struct tls_channel *t = (struct tls_channel *)channel;
	ssize_t sent = t->is_unsent ? send_encrypted(t) : 0, done = 0;
	if (sent)
		return sent;
	gnutls_record_cork(t->session);
	for (unsigned i = 0; i < count && done < SEND_BYTES_MAX; i++) {
		ssize_t n = list[i].iov_len
				    ? result(gnutls_record_send(t->session, list[i].iov_base, list[i].iov_len))
				    : 0;
		if (n < 0)
			return n == -EAGAIN ? -ENOMEM : n; /* what is corked goes into memory */
		done += n;
	}
	sent = send_encrypted(t);
	return sent && sent != -EAGAIN ? sent : done;
}

static int tls_greet(struct channel *channel)
{
	struct tls_channel *t = (struct tls_channel *)channel;
	int code = gnutls_handshake(t->session);
	t->is_up = code == GNUTLS_E_SUCCESS;
	return (int)result(code);
}

static bool tls_has_more(const struct channel *channel)
{
	const struct tls_channel *t = (const struct tls_channel *)channel;
	return t->is_up && gnutls_record_check_pending(t->session) > 0;
}

static bool tls_has_unsent(const struct channel *channel)
{
	const struct tls_channel *t = (const struct tls_channel *)channel;
	return t->is_up ? t->is_unsent : gnutls_record_get_direction(t->session) == 1;
}

static void tls_finish(struct channel *channel)
{
	struct tls_channel *t = (struct tls_channel *)channel;
	if (t->is_up && !t->is_unsent)
		gnutls_bye(t->session, GNUTLS_SHUT_WR);
	t->below->ops->finish(t->below);
}

static void tls_channel_free(struct channel *channel)
{
	struct tls_channel *t = (struct tls_channel *)channel;
	gnutls_deinit(t->session);
	t->below->ops->free(t->below);
	free(t);
}

static const struct channel_ops tls_ops = {
	.receive = tls_receive,
	.send = tls_send,
	.greet = tls_greet,
	.has_more = tls_has_more,
	.has_unsent = tls_has_unsent,
	.finish = tls_finish,
	.free = tls_channel_free,
};

static int set_up(struct tls_channel *t, const struct tls *tls)
{
	int code = gnutls_priority_set(t->session, tls->priority);
	if (code >= 0 && tls->certificates)
		code = gnutls_credentials_set(t->session, GNUTLS_CRD_CERTIFICATE, tls->certificates);
	if (code >= 0 && tls->psk)
		code = gnutls_credentials_set(t->session, GNUTLS_CRD_PSK, tls->psk);
	if (tls->verify_peer) {
		gnutls_certificate_server_set_request(t->session, GNUTLS_CERT_REQUIRE);
		gnutls_session_set_verify_cert(t->session, NULL, 0);
	}
	gnutls_transport_set_int(t->session, t->below->fd);
	gnutls_handshake_set_timeout(t->session, 0); /* the event loop has one */
	return code;
}

struct channel *tls_channel(struct tls *tls, struct channel *below)
{
	struct tls_channel *t = calloc(1, sizeof(*t));
	unsigned flags = GNUTLS_SERVER | GNUTLS_NONBLOCK | GNUTLS_NO_SIGNAL | GNUTLS_NO_TICKETS;
	if (!t || gnutls_init(&t->session, flags)) {
		free(t);
		below->ops->free(below);
		return NULL;
	}
	t->channel = (struct channel){.ops = &tls_ops, .fd = below->fd, .is_tcp = below->is_tcp};
	t->below = below;
	if (set_up(t, tls) >= 0)
		return &t->channel;
	tls_channel_free(&t->channel);
	return NULL;
}
