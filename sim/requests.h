/* SPDX-License-Identifier: Apache-2.0 */
/* The load by itself, as text: for whoever wants to put it to something else than the model. */
#ifndef SIM_REQUESTS_H
#define SIM_REQUESTS_H

#include "policy.h"

/*
 * First "writes BLOCKS", about so many in all, and for each partition "partition NAME VOLUME_BLOCKS SIZE_BLOCKS". Then
 * a line for each write, in order: "PARTITION BLOCK BLOCKS", partitions counted from 0. False, with a message: the
 * pool is too small.
 */
bool sim_requests_print(struct sim_config *config);

#endif
