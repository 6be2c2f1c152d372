/* SPDX-License-Identifier: Apache-2.0 */
#include "serve/listeners.h"

#include <arpa/inet.h>
#include <errno.h>
#include <fcntl.h>
#include <netdb.h>
#include <netinet/in.h>
#include <stdlib.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/un.h>
#include <unistd.h>

#include "serve/notify.h"

enum { BACKLOG = 512, HOST_TEXT = 256 };

void listeners_init(struct listeners *l)
{
	*l = (struct listeners){.own = LISTEN_NONE};
}

void listeners_close(struct listeners *l)
{
	for (unsigned i = 0; i < l->count; i++)
		if (l->fds[i] != l->own.fd)
			close(l->fds[i]);
	listen_close(&l->own);
	l->count = 0;
}

static int add(struct listeners *l, int fd, struct lcpfs_failure *failure)
{
	int flags = fcntl(fd, F_GETFL);
	if (l->count == LISTENERS_MAX)
		return failure_set(failure, LCPFS_E_INVALID, "more than %d sockets to listen on", LISTENERS_MAX);
	if (flags < 0 || fcntl(fd, F_SETFL, flags | O_NONBLOCK))
		return failure_set(failure, LCPFS_E_SYSTEM, "a listening socket: %s", strerrordesc_np(errno));
	l->fds[l->count++] = fd;
	return 0;
}

int listeners_add_unix(struct listeners *l, const char *path, struct lcpfs_failure *failure)
{
	int error = listen_open(path, &l->own, failure);
	return error ? error : add(l, l->own.fd, failure);
}

/* -- TCP -- */

static bool is_beyond(const struct sockaddr *address)
{
	const struct sockaddr_in *v4 = (const struct sockaddr_in *)address;
	const struct sockaddr_in6 *v6 = (const struct sockaddr_in6 *)address;
	if (address->sa_family == AF_INET)
		return ntohl(v4->sin_addr.s_addr) >> 24 != IN_LOOPBACKNET;
	return address->sa_family == AF_INET6 && !IN6_IS_ADDR_LOOPBACK(&v6->sin6_addr);
}

static int listen_at(const struct addrinfo *address)
{
	int on = 1;
	int fd = socket(address->ai_family, address->ai_socktype | SOCK_CLOEXEC, address->ai_protocol);
	if (fd < 0)
		return -1;
	setsockopt(fd, SOL_SOCKET, SO_REUSEADDR, &on, sizeof(on));
	if (address->ai_family == AF_INET6)
		setsockopt(fd, IPPROTO_IPV6, IPV6_V6ONLY, &on, sizeof(on));
	if (!bind(fd, address->ai_addr, address->ai_addrlen) && !listen(fd, BACKLOG))
		return fd;
	int err = errno;
	close(fd);
	errno = err;
	return -1;
}

/* A name may stand for several addresses; those that this machine does not have are left out. */
static int listen_at_all(struct listeners *l, const char *text, const struct addrinfo *found,
			 struct lcpfs_failure *failure)
{
	unsigned before = l->count;
	for (const struct addrinfo *a = found; a; a = a->ai_next) {
		int fd = listen_at(a);
		if (fd < 0 && (errno == EAFNOSUPPORT || errno == EADDRNOTAVAIL))
			continue;
		if (fd < 0)
			return failure_set(failure, LCPFS_E_SYSTEM, "--listen %s: %s", text,
					   strerrordesc_np(errno));
		int error = add(l, fd, failure);
		if (error) {
			close(fd);
			return error;
		}
		l->is_open_to_others |= is_beyond(a->ai_addr);
	}
	if (l->count > before)
		return 0;
	return failure_set(failure, LCPFS_E_SYSTEM, "--listen %s: this machine has no such address", text);
}

/* getaddrinfo takes numbers modulo 65536. */
static bool is_port(const char *text)
{
	size_t length = strlen(text);
	return length >= 1 && length <= 5 && strspn(text, "0123456789") == length && atoi(text) >= 1 &&
	       atoi(text) <= 65535;
}

bool listeners_is_tcp(const char *text)
{
	const char *colon = strrchr(text, ':');
	return colon && is_port(colon + 1) && colon - text < HOST_TEXT;
}

int listeners_add_tcp(struct listeners *l, const char *text, struct lcpfs_failure *failure)
{
	const char *colon = strrchr(text, ':');
	if (!listeners_is_tcp(text))
		return failure_set(failure, LCPFS_E_INVALID, "--listen %s is not HOST:PORT", text);
	bool in_brackets = *text == '[' && colon > text && colon[-1] == ']';
	size_t length = (size_t)(colon - text) - 2 * in_brackets;
	char host[HOST_TEXT];
	memcpy(host, text + in_brackets, length);
	host[length] = '\0';
	struct addrinfo hints = {.ai_socktype = SOCK_STREAM, .ai_flags = AI_PASSIVE}, *found;
	int wrong = getaddrinfo(*host ? host : NULL, colon + 1, &hints, &found);
	if (wrong)
		return failure_set(failure, LCPFS_E_SYSTEM, "--listen %s: %s", text, gai_strerror(wrong));
	int error = listen_at_all(l, text, found, failure);
	freeaddrinfo(found);
	return error;
}

/* -- handed over -- */

static int add_handed(struct listeners *l, int fd, struct lcpfs_failure *failure)
{
	struct sockaddr_storage address = {0};
	const struct sockaddr_un *un = (const struct sockaddr_un *)&address;
	socklen_t length = sizeof(address), int_length = sizeof(int);
	int listens = 0, type = 0;
	if (getsockopt(fd, SOL_SOCKET, SO_ACCEPTCONN, &listens, &int_length) ||
	    getsockopt(fd, SOL_SOCKET, SO_TYPE, &type, &int_length) || !listens || type != SOCK_STREAM ||
	    getsockname(fd, (struct sockaddr *)&address, &length))
		return failure_set(failure, LCPFS_E_INVALID,
				   "descriptor %d, handed over by LISTEN_FDS, is no listening stream socket", fd);
	if (address.ss_family == AF_UNIX && un->sun_path[0] == '/' && !l->handed_path[0])
		memcpy(l->handed_path, un->sun_path, strnlen(un->sun_path, sizeof(l->handed_path) - 1));
	l->is_open_to_others |= is_beyond((const struct sockaddr *)&address);
	return add(l, fd, failure);
}

int listeners_add_handed(struct listeners *l, struct lcpfs_failure *failure)
{
	unsigned count = notify_sockets();
	int error = 0;
	for (unsigned i = 0; i < count && !error; i++)
		error = add_handed(l, (int)(NOTIFY_SOCKET_FIRST + i), failure);
	return error;
}
