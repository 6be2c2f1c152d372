/* SPDX-License-Identifier: Apache-2.0 */
#include "exporter.h"

#include <arpa/inet.h>
#include <errno.h>
#include <microhttpd.h>
#include <stdio.h>
#include <stdlib.h>
#include <string.h>

#include "base/error.h"
#include "control/metrics.h"

enum {
	CONNECTIONS_MAX = 16,
	SILENCE_S_MAX = 10,
	MEMORY_BYTES = 16 * 1024, /* of a connection: no request of a scraper is as long */
};

struct exporter {
	struct lcpfs_pool *pool;
	const char *pool_path;
	struct MHD_Daemon *daemon;
};

union address {
	struct sockaddr any;
	struct sockaddr_in v4;
	struct sockaddr_in6 v6;
};

/* ---- answering ---- */

static enum MHD_Result answer(struct MHD_Connection *connection, unsigned status, const char *type, char *text,
			      enum MHD_ResponseMemoryMode mode)
{
	struct MHD_Response *response = MHD_create_response_from_buffer(strlen(text), text, mode);
	if (!response)
		return MHD_NO;
	MHD_add_response_header(response, MHD_HTTP_HEADER_CONTENT_TYPE, type);
	if (status == MHD_HTTP_METHOD_NOT_ALLOWED)
		MHD_add_response_header(response, MHD_HTTP_HEADER_ALLOW, "GET, HEAD");
	enum MHD_Result result = MHD_queue_response(connection, status, response);
	MHD_destroy_response(response);
	return result;
}

static enum MHD_Result answer_text(struct MHD_Connection *connection, unsigned status, const char *text)
{
	return answer(connection, status, "text/plain; charset=utf-8", (char *)text, MHD_RESPMEM_MUST_COPY);
}

static enum MHD_Result answer_metrics(struct exporter *exporter, struct MHD_Connection *connection)
{
	static const char *const types[] = {
		[METRICS_PROMETHEUS] = "text/plain; version=0.0.4; charset=utf-8",
		[METRICS_OPENMETRICS] = "application/openmetrics-text; version=1.0.0; charset=utf-8",
	};
	const char *accept = MHD_lookup_connection_value(connection, MHD_HEADER_KIND, MHD_HTTP_HEADER_ACCEPT);
	enum metrics_format format = accept && strstr(accept, "application/openmetrics-text") ? METRICS_OPENMETRICS
											      : METRICS_PROMETHEUS;
	struct lcpfs_failure failure;
	char *text;
	if (metrics_text(exporter->pool, exporter->pool_path, format, &text, &failure))
		return answer_text(connection, MHD_HTTP_INTERNAL_SERVER_ERROR, failure.message);
	return answer(connection, MHD_HTTP_OK, types[format], text, MHD_RESPMEM_MUST_FREE);
}

static enum MHD_Result on_request(void *context, struct MHD_Connection *connection, const char *path,
				  const char *method, const char *version, const char *upload,
				  size_t *upload_bytes, void **state)
{
	(void)version, (void)upload, (void)state;
	if (strcmp(method, MHD_HTTP_METHOD_GET) != 0 && strcmp(method, MHD_HTTP_METHOD_HEAD) != 0) {
		*upload_bytes = 0; /* thrown away */
		return answer_text(connection, MHD_HTTP_METHOD_NOT_ALLOWED, "only GET\n");
	}
	if (!strcmp(path, "/metrics"))
		return answer_metrics(context, connection);
	return answer_text(connection, strcmp(path, "/") != 0 ? MHD_HTTP_NOT_FOUND : MHD_HTTP_OK,
			   "metrics are at /metrics\n");
}

/* ---- beginning and end ---- */

/* "9711", "10.0.0.1:9711", "[::1]:9711" */
static bool parse_address(const char *text, union address *address)
{
	const char *colon = strrchr(text, ':'), *port = colon ? colon + 1 : text;
	char host[INET6_ADDRSTRLEN + 2] = "127.0.0.1", *end;
	size_t length = colon ? (size_t)(colon - text) : 0;
	unsigned long number = strtoul(port, &end, 10);
	if (*port < '0' || *port > '9' || *end || !number || number > 65535 || length >= sizeof(host))
		return false;
	if (colon)
		snprintf(host, sizeof(host), "%.*s", (int)length, text);
	if (*host == '[' && host[length - 1] == ']') {
		host[length - 1] = '\0';
		address->v6 = (struct sockaddr_in6){.sin6_family = AF_INET6, .sin6_port = htons((uint16_t)number)};
		return inet_pton(AF_INET6, host + 1, &address->v6.sin6_addr) == 1;
	}
	address->v4 = (struct sockaddr_in){.sin_family = AF_INET, .sin_port = htons((uint16_t)number)};
	return inet_pton(AF_INET, host, &address->v4.sin_addr) == 1;
}

bool exporter_is_address(const char *text)
{
	union address address;
	return parse_address(text, &address);
}

static bool is_loopback(const union address *address)
{
	return address->any.sa_family == AF_INET ? ntohl(address->v4.sin_addr.s_addr) >> 24 == 127
						 : IN6_IS_ADDR_LOOPBACK(&address->v6.sin6_addr);
}

static int listen_at(struct exporter *exporter, const char *text, const union address *address,
		     struct lcpfs_failure *failure)
{
	unsigned flags = MHD_USE_AUTO_INTERNAL_THREAD | (address->any.sa_family == AF_INET6 ? MHD_USE_IPv6 : 0);
	errno = 0;
	exporter->daemon = MHD_start_daemon(flags, 0, NULL, NULL, on_request, exporter, MHD_OPTION_SOCK_ADDR,
					    &address->any, MHD_OPTION_CONNECTION_LIMIT, (unsigned)CONNECTIONS_MAX,
					    MHD_OPTION_CONNECTION_TIMEOUT, (unsigned)SILENCE_S_MAX,
					    MHD_OPTION_CONNECTION_MEMORY_LIMIT, (size_t)MEMORY_BYTES,
					    MHD_OPTION_END);
	if (!exporter->daemon)
		return failure_set(failure, LCPFS_E_SYSTEM, "--metrics %s: %s", text,
				   errno ? strerrordesc_np(errno) : "cannot listen there");
	if (!is_loopback(address))
		fprintf(stderr, "lcpfs: warning: anyone who reaches %s can read the pool's metrics\n", text);
	return 0;
}

int exporter_start(const char *text, struct lcpfs_pool *pool, const char *pool_path, struct exporter **exporter,
		   struct lcpfs_failure *failure)
{
	union address address;
	CHECK(parse_address(text, &address));
	*exporter = calloc(1, sizeof(**exporter));
	if (!*exporter)
		return failure_set(failure, LCPFS_E_NOMEM, "%s", lcpfs_error_sentence(LCPFS_E_NOMEM));
	(*exporter)->pool = pool;
	(*exporter)->pool_path = pool_path;
	int error = listen_at(*exporter, text, &address, failure);
	if (error) {
		free(*exporter);
		*exporter = NULL;
	}
	return error;
}

void exporter_stop(struct exporter *exporter)
{
	if (!exporter)
		return;
	MHD_stop_daemon(exporter->daemon);
	free(exporter);
}
