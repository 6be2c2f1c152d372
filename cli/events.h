/* SPDX-License-Identifier: Apache-2.0 */
/*
 * What somebody should hear of, of a pool that is served: to a program (--hook) and to the journal. A thread looks
 * at the pool once a second, another one waits for the program: no I/O of a client waits for either.
 */
#ifndef CLI_EVENTS_H
#define CLI_EVENTS_H

#include <lcpfs/pool.h>

#include "base/check.h"
#include "control/property.h"

struct events_options {
	struct lcpfs_pool *pool; /* open until events_stop */
	const char *pool_path;
	const char *hook;        /* a program; NULL: none */
	const struct property_service *service;
};



struct events;

int events_start(const struct events_options *options, struct events **events,
		 struct lcpfs_failure *failure) MUST_CHECK;
void events_stop(struct events *events); /* NULL is allowed */


#endif
