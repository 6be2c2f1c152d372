/* SPDX-License-Identifier: Apache-2.0 */
/*
 * The content of a simulated disk, for tests: a sparse array of bytes that clones in microseconds, because clones
 * share chunks until one of them is written (copy on write). Exhaustive crash tests make hundreds of thousands.
 *
 * One image is used by one thread at a time; different images may be used by different threads, also when they
 * share chunks. Running out of memory aborts: this is for tests only.
 */
#ifndef DISK_SIMIMAGE_H
#define DISK_SIMIMAGE_H

#include <stddef.h>
#include <stdint.h>

enum { SIMIMAGE_CHUNK = 4096 }; /* bytes: what is shared, and cheap to write and copy as a whole */

struct simimage;

struct simimage *simimage_new(uint64_t size_bytes); /* zeros */
struct simimage *simimage_clone(const struct simimage *image);
void simimage_free(struct simimage *image); /* NULL is allowed */
uint64_t simimage_size_bytes(const struct simimage *image);

/* Ranges must lie inside the image; any alignment. */
void simimage_read(const struct simimage *image, uint64_t offset, void *buffer, size_t length);
void simimage_write(struct simimage *image, uint64_t offset, const void *buffer, size_t length);
void simimage_zero(struct simimage *image, uint64_t offset, uint64_t length);
/* Words that count up from `base`; at most a chunk's length, whole words. */
void simimage_count_up(struct simimage *image, uint64_t offset, size_t length, uint64_t base);
/* From another image, or from this one. Costs little where both offsets are multiples of a chunk. */
void simimage_copy(struct simimage *image, uint64_t offset, const struct simimage *from, uint64_t from_offset,
		   uint64_t length);

/* Equal content, equal hash; costs little when little changed since the last one. To count distinct states. */
uint64_t simimage_hash(const struct simimage *image);

/* To and from a sparse file, for a look at a failing image with the CLI. 0, or a positive errno. */
int simimage_save(const struct simimage *image, const char *path);
int simimage_load(const char *path, struct simimage **image);

/* What may happen to bytes that nobody writes. */
enum simimage_damage_kind {
	SIMIMAGE_FLIP,   /* the bit `bit` (0 to 7) of the byte at `offset` */
	SIMIMAGE_ZERO,   /* the range reads as zeros */
	SIMIMAGE_SWAP,   /* the ranges at `offset` and `other` (not overlapping) change places */
	SIMIMAGE_REPEAT, /* the range at `offset` reads as the one at `other`: a misdirected write */
	SIMIMAGE_STALE,  /* the range reads as it does in `old`: a lost write */
};

struct simimage_damage {
	enum simimage_damage_kind kind;
	unsigned bit;
	uint64_t offset;
	uint64_t other;
	size_t length; /* bytes; not for FLIP */
	const struct simimage *old;
};

void simimage_damage(struct simimage *image, const struct simimage_damage *damage);

#endif
