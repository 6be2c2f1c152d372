/* SPDX-License-Identifier: Apache-2.0 */
/* Log records as they lie on the device. Everything read is untrusted. No lock needed. */
#ifndef STORE_RECORD_H
#define STORE_RECORD_H

#include "store/state.h"

/* One header, from either copy: 1; 0: there is none; or an error of the device. good: which copies are. */
int record_read(struct store *s, uint64_t block, struct fmt_record *header, bool good[2]) MUST_CHECK;

/* Through the records of a metaslab, from its start (or `offset`) on. */
struct record_walk {
	uint32_t metaslab;
	uint32_t offset; /* of the next one */
	uint64_t block;  /* out: of the header just read */
	bool good[2];    /* out */
};

/* The next header that is one; false where there is none. */
bool record_next(struct store *s, struct record_walk *walk, struct fmt_record *header);

#endif
