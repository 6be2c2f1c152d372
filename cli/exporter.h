/* SPDX-License-Identifier: Apache-2.0 */
/* The metrics of a pool that is served, over HTTP: a thread of its own, by libmicrohttpd. */
#ifndef CLI_EXPORTER_H
#define CLI_EXPORTER_H

#include <lcpfs/pool.h>

#include "base/check.h"

struct exporter;

/* PORT, which means this machine only, or ADDRESS:PORT, [ADDRESS]:PORT for IPv6. */
bool exporter_is_address(const char *text);
/* `pool_path` is kept and told to whoever asks. The pool must stay open until exporter_stop. */
int exporter_start(const char *address, struct lcpfs_pool *pool, const char *pool_path, struct exporter **exporter,
		   struct lcpfs_failure *failure) MUST_CHECK;
void exporter_stop(struct exporter *exporter); /* NULL is allowed */

#endif
