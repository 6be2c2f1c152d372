/* SPDX-License-Identifier: Apache-2.0 */
/* How many descriptors there are, and who may have them. */
#ifndef SERVE_LIMITS_H
#define SERVE_LIMITS_H

#include "base/error.h"

/* As many as the system allows without asking: the soft limit becomes the hard one. */
void limits_raise(void);
/*
 * How many clients can be served at a time besides what is open now: a part is kept for commands on the control
 * socket and for the pool. INVALID where that leaves hardly any.
 */
int limits_clients(unsigned *clients, struct lcpfs_failure *failure) MUST_CHECK;

#endif
