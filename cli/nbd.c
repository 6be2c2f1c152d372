/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Generic netlink, with the few messages that the kernel's nbd knows (linux/nbd-netlink.h), and the client's half
 * of the NBD handshake. A device that was set up so belongs to no process.
 *
 * There is one connection only: with several, the kernel gives up one over which a request took half a minute, and
 * a writer may wait longer than that for space.
 */
#include "nbd.h"

#include <errno.h>
#include <linux/genetlink.h>
#include <linux/nbd-netlink.h>
#include <linux/netlink.h>
#include <stdio.h>
#include <string.h>
#include <sys/socket.h>
#include <sys/time.h>
#include <unistd.h>

#include "base/error.h"
#include "control/socket.h"

/* ---- the handshake: big-endian ---- */

#define NBD_MAGIC    UINT64_C(0x4e42444d41474943) /* NBDMAGIC */
#define OPTION_MAGIC UINT64_C(0x49484156454f5054) /* IHAVEOPT */
#define REPLY_MAGIC  UINT64_C(0x0003e889045565a9)

enum {
	FIXED_NEWSTYLE = 1,
	NO_ZEROES = 2,
	OPTION_GO = 7,
	REPLY_ACK = 1,
	REPLY_INFO = 3,
	INFO_EXPORT = 0,
	INFO_EXPORT_BYTES = 12,
	NAME_BYTES_MAX = 4096,
	REPLY_BYTES_MAX = 4096,
	HANDSHAKE_S_MAX = 5,
	FLAG_READ_ONLY = 2,
};
#define REPLY_ERROR   (UINT32_C(1) << 31)
#define REPLY_UNKNOWN (REPLY_ERROR + 6)

static void put(uint8_t **at, uint64_t value, unsigned bytes)
{
	for (unsigned i = 0; i < bytes; i++)
		*(*at)++ = (uint8_t)(value >> (8 * (bytes - 1 - i)));
}

static uint64_t get(const uint8_t *at, unsigned bytes)
{
	uint64_t value = 0;
	for (unsigned i = 0; i < bytes; i++)
		value = value << 8 | at[i];
	return value;
}

static bool read_all(int fd, void *bytes, size_t length)
{
	return recv(fd, bytes, length, MSG_WAITALL) == (ssize_t)length;
}

static bool send_all(int fd, const void *bytes, size_t length)
{
	return send(fd, bytes, length, MSG_NOSIGNAL) == (ssize_t)length;
}

static bool greet(int fd)
{
	uint8_t greeting[18], answer[4], *at = answer;
	if (!read_all(fd, greeting, sizeof(greeting)) || get(greeting, 8) != NBD_MAGIC ||
	    get(greeting + 8, 8) != OPTION_MAGIC || !(get(greeting + 16, 2) & FIXED_NEWSTYLE))
		return false;
	put(&at, FIXED_NEWSTYLE | NO_ZEROES, 4);
	return send_all(fd, answer, sizeof(answer));
}

static bool ask_to_go(int fd, const char *name)
{
	uint8_t option[16 + 4 + NAME_BYTES_MAX + 2], *at = option;
	size_t length = strlen(name);
	if (length > NAME_BYTES_MAX)
		return false;
	put(&at, OPTION_MAGIC, 8);
	put(&at, OPTION_GO, 4);
	put(&at, 4 + length + 2, 4);
	put(&at, length, 4);
	memcpy(at, name, length);
	at += length;
	put(&at, 0, 2); /* no more is asked for than what always comes */
	return send_all(fd, option, (size_t)(at - option));
}

struct reply {
	uint32_t type, length;
	uint8_t data[REPLY_BYTES_MAX + 1];
};

static bool read_reply(int fd, struct reply *reply)
{
	uint8_t head[20];
	if (!read_all(fd, head, sizeof(head)) || get(head, 8) != REPLY_MAGIC || get(head + 8, 4) != OPTION_GO)
		return false;
	reply->type = (uint32_t)get(head + 12, 4);
	reply->length = (uint32_t)get(head + 16, 4);
	if (reply->length > REPLY_BYTES_MAX || (reply->length && !read_all(fd, reply->data, reply->length)))
		return false;
	reply->data[reply->length] = '\0';
	return true;
}

/* 0: what it said about the export is in *link. */
static int go(struct nbd_link *link, const char *name, struct lcpfs_failure *failure)
{
	struct reply reply = {0};
	bool is_good = greet(link->fd) && ask_to_go(link->fd, name), is_told = false;
	while (is_good && (is_good = read_reply(link->fd, &reply)) && reply.type == REPLY_INFO) {
		if (reply.length != INFO_EXPORT_BYTES || get(reply.data, 2) != INFO_EXPORT)
			continue;
		link->bytes = get(reply.data + 2, 8);
		link->flags = (uint16_t)get(reply.data + 10, 2);
		is_told = true;
	}
	if (is_good && reply.type == REPLY_ACK && is_told)
		return 0;
	if (is_good && reply.type & REPLY_ERROR)
		return failure_set(failure, reply.type == REPLY_UNKNOWN ? LCPFS_E_NOT_FOUND : LCPFS_E_SYSTEM,
				   "the server does not serve %s: %.300s", name,
				   *reply.data ? (const char *)reply.data : "it does not say why");
	return failure_set(failure, LCPFS_E_STOPPED, "the server ended the connection for %s", name);
}

static int check_peer(const struct nbd_link *link, const char *socket_path, uid_t owner,
		      struct lcpfs_failure *failure)
{
	struct ucred peer = {.uid = (uid_t)-1};
	socklen_t length = sizeof(peer);
	if (!getsockopt(link->fd, SOL_SOCKET, SO_PEERCRED, &peer, &length) && (!peer.uid || peer.uid == owner))
		return 0;
	return failure_set(failure, LCPFS_E_BUSY, "whoever listens at %s is not the owner of the pool",
			   socket_path);
}

static int set_patience(const struct nbd_link *link, unsigned seconds, struct lcpfs_failure *failure)
{
	struct timeval limit = {.tv_sec = seconds};
	if (!setsockopt(link->fd, SOL_SOCKET, SO_RCVTIMEO, &limit, sizeof(limit)))
		return 0;
	return failure_set(failure, LCPFS_E_SYSTEM, "a socket: %s", strerrordesc_np(errno));
}

int nbd_link_open(const char *socket_path, uid_t owner, const char *export_name, struct nbd_link *link,
		  struct lcpfs_failure *failure)
{
	int error = socket_connect(socket_path, &link->fd, failure);
	if (error)
		return error;
	error = check_peer(link, socket_path, owner, failure);
	if (!error)
		error = set_patience(link, HANDSHAKE_S_MAX, failure);
	if (!error)
		error = go(link, export_name, failure);
	if (!error)
		error = set_patience(link, 0, failure);
	if (error)
		nbd_link_close(link);
	return error;
}

void nbd_link_close(struct nbd_link *link)
{
	close(link->fd);
	link->fd = -1;
}

/* ---- netlink ---- */

enum { MESSAGE_BYTES = 2048, SECTOR_BYTES = 4096 };

struct message {
	_Alignas(struct nlmsghdr) uint8_t bytes[MESSAGE_BYTES];
	size_t length;
};

static struct nlmsghdr *head_of(struct message *m)
{
	return (struct nlmsghdr *)m->bytes;
}

static void begin(struct message *m, uint16_t family, uint8_t command, uint8_t version)
{
	memset(m, 0, sizeof(*m));
	*head_of(m) = (struct nlmsghdr){.nlmsg_type = family, .nlmsg_flags = NLM_F_REQUEST | NLM_F_ACK};
	struct genlmsghdr *about = NLMSG_DATA(head_of(m));
	*about = (struct genlmsghdr){.cmd = command, .version = version};
	m->length = NLMSG_HDRLEN + GENL_HDRLEN;
}

/* Where it begins, to be ended; only groups of others need that. */
static size_t add(struct message *m, uint16_t type, const void *value, size_t length)
{
	struct nlattr *attribute = (struct nlattr *)(m->bytes + m->length);
	size_t at = m->length;
	CHECK(m->length + NLA_HDRLEN + NLA_ALIGN(length) <= sizeof(m->bytes));
	*attribute = (struct nlattr){.nla_type = type, .nla_len = (uint16_t)(NLA_HDRLEN + length)};
	if (length)
		memcpy(m->bytes + m->length + NLA_HDRLEN, value, length);
	m->length += NLA_HDRLEN + NLA_ALIGN(length);
	return at;
}

static void add_u32(struct message *m, uint16_t type, uint32_t value)
{
	add(m, type, &value, sizeof(value));
}

static void add_u64(struct message *m, uint16_t type, uint64_t value)
{
	add(m, type, &value, sizeof(value));
}

static size_t group(struct message *m, uint16_t type)
{
	return add(m, type | NLA_F_NESTED, NULL, 0);
}

static void group_end(struct message *m, size_t at)
{
	((struct nlattr *)(m->bytes + at))->nla_len = (uint16_t)(m->length - at);
}

/* NULL: the message has none of that type. */
static const void *attribute_of(const struct message *m, uint16_t type)
{
	size_t at = NLMSG_HDRLEN + GENL_HDRLEN;
	while (at + NLA_HDRLEN <= m->length) {
		const struct nlattr *a = (const struct nlattr *)(m->bytes + at);
		if (a->nla_len < NLA_HDRLEN || at + a->nla_len > m->length)
			break;
		if ((a->nla_type & NLA_TYPE_MASK) == type)
			return m->bytes + at + NLA_HDRLEN;
		at += NLA_ALIGN(a->nla_len);
	}
	return NULL;
}

/* Of the kernel's answers, the last but the acknowledgement is left in *m. 0 or an errno. */
static int exchange(int fd, struct message *m)
{
	uint8_t answer[MESSAGE_BYTES] __attribute__((aligned(NLMSG_ALIGNTO)));

	head_of(m)->nlmsg_len = (uint32_t)m->length;
	if (send(fd, m->bytes, m->length, 0) != (ssize_t)m->length)
		return errno;
	for (;;) {
		ssize_t length = recv(fd, answer, sizeof(answer), 0);
		const struct nlmsghdr *head = (const struct nlmsghdr *)answer;
		if (length < 0)
			return errno;
		for (size_t left = (size_t)length; NLMSG_OK(head, left); head = NLMSG_NEXT(head, left)) {
			if (head->nlmsg_type == NLMSG_ERROR)
				return -((const struct nlmsgerr *)NLMSG_DATA(head))->error;
			memcpy(m->bytes, head, head->nlmsg_len);
			m->length = head->nlmsg_len;
		}
	}
}

/* 0 or an errno: ENOENT where the kernel has no nbd. */
static int find_family(int fd, uint16_t *family)
{
	struct message m;
	begin(&m, GENL_ID_CTRL, CTRL_CMD_GETFAMILY, 1);
	add(&m, CTRL_ATTR_FAMILY_NAME, NBD_GENL_FAMILY_NAME, sizeof(NBD_GENL_FAMILY_NAME));
	int error = exchange(fd, &m);
	const void *found = error ? NULL : attribute_of(&m, CTRL_ATTR_FAMILY_ID);
	if (!error && !found)
		return EPROTO;
	if (!error)
		memcpy(family, found, sizeof(*family));
	return error;
}

/* `fill` says what the command is about. *m is then the kernel's answer. */
static int tell_kernel(uint8_t command,
		       void (*fill)(struct message *, const struct nbd_device *, const struct nbd_link *),
		       const struct nbd_device *device, const struct nbd_link *link, struct message *m)
{
	int fd = socket(AF_NETLINK, SOCK_RAW | SOCK_CLOEXEC, NETLINK_GENERIC), error;
	uint16_t family = 0;
	if (fd < 0)
		return errno;
	error = find_family(fd, &family);
	if (!error) {
		begin(m, family, command, NBD_GENL_VERSION);
		fill(m, device, link);
		error = exchange(fd, m);
	}
	close(fd);
	return error;
}

static void fill_connection(struct message *m, const struct nbd_device *device, const struct nbd_link *link)
{
	add_u64(m, NBD_ATTR_SIZE_BYTES, link->bytes / SECTOR_BYTES * SECTOR_BYTES);
	add_u64(m, NBD_ATTR_DEAD_CONN_TIMEOUT, device->wait_s);
	add(m, NBD_ATTR_BACKEND_IDENTIFIER, device->owner, strlen(device->owner) + 1);
	size_t sockets = group(m, NBD_ATTR_SOCKETS);
	size_t item = group(m, NBD_SOCK_ITEM);
	add_u32(m, NBD_SOCK_FD, (uint32_t)link->fd);
	group_end(m, item);
	group_end(m, sockets);
}

static void fill_new(struct message *m, const struct nbd_device *device, const struct nbd_link *link)
{
	add_u64(m, NBD_ATTR_BLOCK_SIZE_BYTES, SECTOR_BYTES);
	add_u64(m, NBD_ATTR_SERVER_FLAGS, link->flags | (device->is_read_only ? FLAG_READ_ONLY : 0u));
	fill_connection(m, device, link);
}

static void fill_known(struct message *m, const struct nbd_device *device, const struct nbd_link *link)
{
	add_u32(m, NBD_ATTR_INDEX, device->index);
	if (link)
		fill_connection(m, device, link);
}

static int refused(const char *what, int error, struct lcpfs_failure *failure)
{
	if (!error)
		return 0;
	return failure_set(failure, LCPFS_E_SYSTEM, "the kernel's nbd: %s: %s", what,
			   error == ENOENT ? "there is none" : strerrordesc_np(error));
}

/* What was under way when a connection was lost is only looked at again when its time is over. */
static void set_request_timeout(const struct nbd_device *device)
{
	enum { REQUEST_MS = 5000 };
	char path[64];
	FILE *file;

	snprintf(path, sizeof(path), "/sys/block/nbd%u/queue/io_timeout", device->index);
	file = fopen(path, "we");
	if (!file)
		return; /* an older kernel: half a minute */
	fprintf(file, "%d\n", REQUEST_MS);
	(void)fclose(file);
}

int nbd_device_connect(struct nbd_device *device, const struct nbd_link *link, struct lcpfs_failure *failure)
{
	struct message m;
	int error = tell_kernel(NBD_CMD_CONNECT, fill_new, device, link, &m);
	const void *index = error ? NULL : attribute_of(&m, NBD_ATTR_INDEX);
	if (!error && !index)
		error = EPROTO;
	if (error)
		return refused("no device", error, failure);
	memcpy(&device->index, index, sizeof(uint32_t));
	set_request_timeout(device);
	return 0;
}

int nbd_device_reconnect(const struct nbd_device *device, const struct nbd_link *link,
			 struct lcpfs_failure *failure)
{
	struct message m;
	return refused("another connection", tell_kernel(NBD_CMD_RECONFIGURE, fill_known, device, link, &m),
		       failure);
}

int nbd_device_disconnect(const struct nbd_device *device, struct lcpfs_failure *failure)
{
	struct message m;
	return refused("to take the device away", tell_kernel(NBD_CMD_DISCONNECT, fill_known, device, NULL, &m),
		       failure);
}

/* A kernel that does not keep the owner's text is believed by the number alone. */
bool nbd_device_is_connected(const struct nbd_device *device)
{
	char path[64], owner[sizeof(device->owner)] = "";
	FILE *file;

	snprintf(path, sizeof(path), "/sys/block/nbd%u/pid", device->index);
	if (access(path, F_OK))
		return false;
	snprintf(path, sizeof(path), "/sys/block/nbd%u/backend", device->index);
	file = fopen(path, "re");
	if (!file)
		return errno == ENOENT;
	if (fgets(owner, sizeof(owner), file))
		owner[strcspn(owner, "\n")] = '\0';
	(void)fclose(file);
	return !strcmp(owner, device->owner);
}
