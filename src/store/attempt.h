/* SPDX-License-Identifier: Apache-2.0 */
/* See "Attempts" in state.h. */
#ifndef STORE_ATTEMPT_H
#define STORE_ATTEMPT_H

#include "store/state.h"

typedef int attempt_fn(struct store *s, void *context, struct need *need);

/*
 * With the lock. Runs `fn` until it returns something else than TRY_AGAIN, and returns that; in between gets what
 * it misses, for which the lock is let go. When it returns, the lock was held since fn began for the last time.
 * NOSPC: what is missing is an EMPTY metaslab, or fn said so.
 */
int attempt(struct store *s, attempt_fn *fn, void *context) MUST_CHECK;

#endif
