/* SPDX-License-Identifier: Apache-2.0 */
#include "vdev/simimage.h"

#include <errno.h>
#include <fcntl.h>
#include <stdatomic.h>
#include <stdbool.h>
#include <stdlib.h>
#include <string.h>
#include <sys/stat.h>
#include <unistd.h>

#include "base/check.h"
#include "base/hash.h"

/*
 * Two levels: an image has leaves, a leaf has chunks. Both are shared by clones until one writes, so a clone costs
 * a reference per leaf, and the first write somewhere a copy of a leaf's table and of one small chunk.
 */
enum { CHUNK_BYTES = 4096, LEAF_CHUNKS = 64, LEAF_BYTES = CHUNK_BYTES * LEAF_CHUNKS };

struct chunk {
	atomic_uint references;
	_Atomic uint64_t hash; /* 0: not known */
	uint8_t bytes[CHUNK_BYTES];
};

struct leaf {
	atomic_uint references;
	_Atomic uint64_t hash; /* 0: not known */
	struct chunk *chunks[LEAF_CHUNKS]; /* NULL: zeros */
};

struct simimage {
	uint64_t size_bytes;
	size_t leaf_count;
	struct leaf *leaves[]; /* NULL: zeros */
};

/* The part of a range that lies in one chunk. */
struct span {
	size_t leaf;
	size_t chunk;
	size_t start;
	size_t length;
};

static struct span span_at(const struct simimage *image, uint64_t offset, uint64_t length)
{
	size_t start = offset % CHUNK_BYTES;

	CHECK(offset <= image->size_bytes && length <= image->size_bytes - offset);
	return (struct span){
		.leaf = offset / LEAF_BYTES,
		.chunk = offset % LEAF_BYTES / CHUNK_BYTES,
		.start = start,
		.length = MIN_OF(length, CHUNK_BYTES - start),
	};
}

static void *must(void *allocated)
{
	CHECK(allocated);
	return allocated;
}

static void take(atomic_uint *references)
{
	atomic_fetch_add_explicit(references, 1, memory_order_relaxed);
}

static bool was_last(atomic_uint *references)
{
	return atomic_fetch_sub(references, 1) == 1;
}

static void chunk_release(struct chunk *chunk)
{
	if (chunk && was_last(&chunk->references))
		free(chunk);
}

static void leaf_release(struct leaf *leaf)
{
	if (!leaf || !was_last(&leaf->references))
		return;
	for (size_t i = 0; i < LEAF_CHUNKS; i++)
		chunk_release(leaf->chunks[i]);
	free(leaf);
}

static struct leaf *leaf_copy(const struct leaf *leaf)
{
	struct leaf *copy = must(calloc(1, sizeof(*copy)));

	for (size_t i = 0; i < LEAF_CHUNKS; i++) {
		copy->chunks[i] = leaf->chunks[i];
		if (copy->chunks[i])
			take(&copy->chunks[i]->references);
	}
	return copy;
}

/* What it holds where it will not all be written over. */
static struct chunk *chunk_new(const struct chunk *old, bool written_over)
{
	struct chunk *chunk = must(malloc(sizeof(*chunk)));

	if (old && !written_over)
		memcpy(chunk->bytes, old->bytes, CHUNK_BYTES);
	else if (!written_over)
		memset(chunk->bytes, 0, CHUNK_BYTES);
	return chunk;
}

/* The leaf, for writing: this image's own. */
static struct leaf *leaf_own(struct simimage *image, size_t index)
{
	struct leaf *old = image->leaves[index];
	struct leaf *own = old;

	if (!old) {
		own = must(calloc(1, sizeof(*own)));
	} else if (atomic_load(&old->references) > 1) {
		own = leaf_copy(old);
		leaf_release(old);
	}
	atomic_store(&own->references, 1);
	atomic_store(&own->hash, 0);
	image->leaves[index] = own;
	return own;
}

/* The chunk, for writing: this leaf's own. */
static struct chunk *chunk_own(struct leaf *leaf, size_t index, bool written_over)
{
	struct chunk *old = leaf->chunks[index];
	struct chunk *own = old;

	if (!old || atomic_load(&old->references) > 1) {
		own = chunk_new(old, written_over);
		chunk_release(old);
	}
	atomic_store(&own->references, 1);
	atomic_store(&own->hash, 0);
	leaf->chunks[index] = own;
	return own;
}

static const struct chunk *chunk_at(const struct simimage *image, const struct span *span)
{
	return image->leaves[span->leaf] ? image->leaves[span->leaf]->chunks[span->chunk] : NULL;
}

struct simimage *simimage_new(uint64_t size_bytes)
{
	size_t count = DIV_UP(size_bytes, (uint64_t)LEAF_BYTES);
	struct simimage *image = must(calloc(1, sizeof(*image) + count * sizeof(struct leaf *)));

	image->size_bytes = size_bytes;
	image->leaf_count = count;
	return image;
}

struct simimage *simimage_clone(const struct simimage *image)
{
	struct simimage *clone = simimage_new(image->size_bytes);

	for (size_t i = 0; i < image->leaf_count; i++) {
		clone->leaves[i] = image->leaves[i];
		if (clone->leaves[i])
			take(&clone->leaves[i]->references);
	}
	return clone;
}

void simimage_free(struct simimage *image)
{
	if (!image)
		return;
	for (size_t i = 0; i < image->leaf_count; i++)
		leaf_release(image->leaves[i]);
	free(image);
}

uint64_t simimage_size_bytes(const struct simimage *image)
{
	return image->size_bytes;
}

void simimage_read(const struct simimage *image, uint64_t offset, void *buffer, size_t length)
{
	uint8_t *to = buffer;

	while (length > 0) {
		struct span span = span_at(image, offset, length);
		const struct chunk *chunk = chunk_at(image, &span);

		if (chunk)
			memcpy(to, chunk->bytes + span.start, span.length);
		else
			memset(to, 0, span.length);
		to += span.length;
		offset += span.length;
		length -= span.length;
	}
}

void simimage_write(struct simimage *image, uint64_t offset, const void *buffer, size_t length)
{
	const uint8_t *from = buffer;

	while (length > 0) {
		struct span span = span_at(image, offset, length);
		struct leaf *leaf = leaf_own(image, span.leaf);
		struct chunk *chunk = chunk_own(leaf, span.chunk, span.length == CHUNK_BYTES);

		memcpy(chunk->bytes + span.start, from, span.length);
		from += span.length;
		offset += span.length;
		length -= span.length;
	}
}

static void zero_span(struct simimage *image, const struct span *span)
{
	struct leaf *leaf;

	if (!chunk_at(image, span))
		return;
	leaf = leaf_own(image, span->leaf);
	if (span->length < CHUNK_BYTES) {
		memset(chunk_own(leaf, span->chunk, false)->bytes + span->start, 0, span->length);
		return;
	}
	chunk_release(leaf->chunks[span->chunk]);
	leaf->chunks[span->chunk] = NULL;
}

void simimage_zero(struct simimage *image, uint64_t offset, uint64_t length)
{
	while (length > 0) {
		struct span span = span_at(image, offset, length);

		zero_span(image, &span);
		offset += span.length;
		length -= span.length;
	}
}

static bool is_zero(const uint8_t *bytes, size_t length)
{
	return bytes[0] == 0 && !memcmp(bytes, bytes + 1, length - 1);
}

/* 1 where all is zero, so that it hashes as what is absent; never 0. */
enum { HASH_OF_ZEROS = 1 };

static uint64_t chunk_hash(struct chunk *chunk)
{
	uint64_t hash = chunk ? atomic_load(&chunk->hash) : HASH_OF_ZEROS;

	if (hash)
		return hash;
	hash = is_zero(chunk->bytes, CHUNK_BYTES) ? HASH_OF_ZEROS : hash64(chunk->bytes, CHUNK_BYTES) | 2;
	atomic_store(&chunk->hash, hash);
	return hash;
}

static uint64_t leaf_hash(struct leaf *leaf)
{
	uint64_t hash = leaf ? atomic_load(&leaf->hash) : HASH_OF_ZEROS;
	bool zeros = true;

	if (hash)
		return hash;
	for (size_t i = 0; i < LEAF_CHUNKS; i++) {
		uint64_t part = chunk_hash(leaf->chunks[i]);

		zeros &= part == HASH_OF_ZEROS;
		hash = hash_mix(hash + part + i);
	}
	hash = zeros ? HASH_OF_ZEROS : hash | 2;
	atomic_store(&leaf->hash, hash);
	return hash;
}

uint64_t simimage_hash(const struct simimage *image)
{
	uint64_t hash = image->size_bytes;

	for (size_t i = 0; i < image->leaf_count; i++)
		hash = hash_mix(hash + leaf_hash(image->leaves[i]) + i);
	return hash;
}

/* Sparse: chunks of zeros are left out. */
static int save_chunks(const struct simimage *image, int fd)
{
	uint8_t bytes[CHUNK_BYTES];

	for (uint64_t offset = 0; offset < image->size_bytes; offset += CHUNK_BYTES) {
		size_t length = MIN_OF(image->size_bytes - offset, (uint64_t)CHUNK_BYTES);

		simimage_read(image, offset, bytes, length);
		if (!is_zero(bytes, length) && pwrite(fd, bytes, length, (off_t)offset) != (ssize_t)length)
			return errno ? errno : EIO;
	}
	return ftruncate(fd, (off_t)image->size_bytes) ? errno : 0;
}

int simimage_save(const struct simimage *image, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	int err;

	if (fd < 0)
		return errno;
	err = save_chunks(image, fd);
	return close(fd) && !err ? errno : err;
}

static int load_chunks(struct simimage *image, int fd)
{
	uint8_t bytes[CHUNK_BYTES];

	for (uint64_t offset = 0; offset < image->size_bytes; offset += CHUNK_BYTES) {
		ssize_t length = pread(fd, bytes, CHUNK_BYTES, (off_t)offset);

		if (length <= 0)
			return length < 0 ? errno : EIO;
		if (!is_zero(bytes, (size_t)length))
			simimage_write(image, offset, bytes, (size_t)length);
	}
	return 0;
}

int simimage_load(const char *path, struct simimage **image)
{
	int fd = open(path, O_RDONLY | O_CLOEXEC);
	struct stat status;
	int err;

	*image = NULL;
	if (fd < 0 || fstat(fd, &status)) {
		err = errno;
	} else {
		*image = simimage_new((uint64_t)status.st_size);
		err = load_chunks(*image, fd);
	}
	if (fd >= 0)
		close(fd);
	if (err) {
		simimage_free(*image);
		*image = NULL;
	}
	return err;
}

static void flip(struct simimage *image, uint64_t offset, unsigned bit)
{
	uint8_t byte;

	simimage_read(image, offset, &byte, 1);
	byte ^= (uint8_t)(1u << bit);
	simimage_write(image, offset, &byte, 1);
}

static void copy(struct simimage *image, uint64_t offset, const struct simimage *from, uint64_t from_offset,
		 size_t length)
{
	uint8_t *bytes = must(malloc(length + 1));

	simimage_read(from, from_offset, bytes, length);
	simimage_write(image, offset, bytes, length);
	free(bytes);
}

static void swap(struct simimage *image, uint64_t a, uint64_t b, size_t length)
{
	struct simimage *before = simimage_clone(image);

	copy(image, a, before, b, length);
	copy(image, b, before, a, length);
	simimage_free(before);
}

void simimage_damage(struct simimage *image, const struct simimage_damage *damage)
{
	switch (damage->kind) {
	case SIMIMAGE_FLIP:
		flip(image, damage->offset, damage->bit);
		break;
	case SIMIMAGE_ZERO:
		simimage_zero(image, damage->offset, damage->length);
		break;
	case SIMIMAGE_SWAP:
		swap(image, damage->offset, damage->other, damage->length);
		break;
	case SIMIMAGE_REPEAT:
		copy(image, damage->offset, image, damage->other, damage->length);
		break;
	case SIMIMAGE_STALE:
		copy(image, damage->offset, damage->old, damage->offset, damage->length);
		break;
	}
}
