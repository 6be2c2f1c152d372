/* SPDX-License-Identifier: Apache-2.0 */
/* See recover.c. */
#ifndef STORE_RECOVER_H
#define STORE_RECOVER_H

#include "store/state.h"

/* Fills a new store from its newest root and the log behind it. On failure fills *failure. */
int recover(struct store *s, struct lcpfs_failure *failure) MUST_CHECK;

#endif
