/* SPDX-License-Identifier: Apache-2.0 */
/* See clean.c. */
#ifndef STORE_CLEAN_H
#define STORE_CLEAN_H

#include "store/state.h"

/*
 * Copies what is live in a CLOSED LOG metaslab elsewhere, so that it becomes SPENT. With `work`, without the lock;
 * the metaslab has to be pinned. NOSPC: there was no room for all of it (what was moved stays moved).
 */
int clean_metaslab(struct store *s, uint32_t metaslab) MUST_CHECK;

#endif
