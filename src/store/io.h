/* SPDX-License-Identifier: Apache-2.0 */
/* See io.c. What users call is in store.h. */
#ifndef STORE_IO_H
#define STORE_IO_H

#include "store/map.h"

/* Without the lock. Reads and verifies one block, from the device if it is there; *mapping says where it lay. */
int io_read_block(struct store *s, uint32_t volume, uint64_t address, void *data,
		  struct mapping *mapping) MUST_CHECK;

#endif
