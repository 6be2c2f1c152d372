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

/* Small enough that writing into a shared one is cheap, large enough that cloning a table of them is, too. */
enum { CHUNK_BYTES = 64 * 1024 };

struct chunk {
	atomic_uint references;
	_Atomic uint64_t hash; /* 0: not known */
	uint8_t bytes[CHUNK_BYTES];
};

struct simimage {
	uint64_t size_bytes;
	size_t chunk_count;
	struct chunk *chunks[]; /* NULL: zeros */
};

/* The part of a range that lies in one chunk. */
struct span {
	size_t chunk;
	size_t start;
	size_t length;
};

static struct span span_at(const struct simimage *image, uint64_t offset, uint64_t length)
{
	size_t start = offset % CHUNK_BYTES;

	CHECK(offset <= image->size_bytes && length <= image->size_bytes - offset);
	return (struct span){offset / CHUNK_BYTES, start, MIN_OF(length, CHUNK_BYTES - start)};
}

static void *must(void *allocated)
{
	CHECK(allocated);
	return allocated;
}

static void chunk_release(struct chunk *chunk)
{
	if (chunk && atomic_fetch_sub(&chunk->references, 1) == 1)
		free(chunk);
}

/* The chunk, for writing: this image's own. */
static struct chunk *chunk_own(struct simimage *image, size_t index)
{
	struct chunk *old = image->chunks[index];
	struct chunk *own = old;

	if (!old) {
		own = must(calloc(1, sizeof(*own)));
	} else if (atomic_load(&old->references) > 1) {
		own = must(malloc(sizeof(*own)));
		memcpy(own->bytes, old->bytes, CHUNK_BYTES);
		chunk_release(old);
	}
	atomic_store(&own->references, 1);
	atomic_store(&own->hash, 0);
	image->chunks[index] = own;
	return own;
}

struct simimage *simimage_new(uint64_t size_bytes)
{
	size_t count = DIV_UP(size_bytes, (uint64_t)CHUNK_BYTES);
	struct simimage *image = must(calloc(1, sizeof(*image) + count * sizeof(struct chunk *)));

	image->size_bytes = size_bytes;
	image->chunk_count = count;
	return image;
}

struct simimage *simimage_clone(const struct simimage *image)
{
	struct simimage *clone = simimage_new(image->size_bytes);

	for (size_t i = 0; i < image->chunk_count; i++) {
		clone->chunks[i] = image->chunks[i];
		if (clone->chunks[i])
			atomic_fetch_add_explicit(&clone->chunks[i]->references, 1, memory_order_relaxed);
	}
	return clone;
}

void simimage_free(struct simimage *image)
{
	if (!image)
		return;
	for (size_t i = 0; i < image->chunk_count; i++)
		chunk_release(image->chunks[i]);
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

		if (image->chunks[span.chunk])
			memcpy(to, image->chunks[span.chunk]->bytes + span.start, span.length);
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

		memcpy(chunk_own(image, span.chunk)->bytes + span.start, from, span.length);
		from += span.length;
		offset += span.length;
		length -= span.length;
	}
}

void simimage_zero(struct simimage *image, uint64_t offset, uint64_t length)
{
	while (length > 0) {
		struct span span = span_at(image, offset, length);

		if (span.length == CHUNK_BYTES) {
			chunk_release(image->chunks[span.chunk]);
			image->chunks[span.chunk] = NULL;
		} else if (image->chunks[span.chunk]) {
			memset(chunk_own(image, span.chunk)->bytes + span.start, 0, span.length);
		}
		offset += span.length;
		length -= span.length;
	}
}

static bool is_zero(const struct chunk *chunk)
{
	return chunk->bytes[0] == 0 && !memcmp(chunk->bytes, chunk->bytes + 1, CHUNK_BYTES - 1);
}

/* 1 for a chunk of zeros, so that it hashes as an absent one does; never 0. */
static uint64_t chunk_hash(struct chunk *chunk)
{
	uint64_t hash = chunk ? atomic_load(&chunk->hash) : 1;

	if (hash)
		return hash;
	hash = is_zero(chunk) ? 1 : hash64(chunk->bytes, CHUNK_BYTES) | 2;
	atomic_store(&chunk->hash, hash);
	return hash;
}

uint64_t simimage_hash(const struct simimage *image)
{
	uint64_t hash = image->size_bytes;

	for (size_t i = 0; i < image->chunk_count; i++)
		hash = hash_mix(hash + 0x9e3779b97f4a7c15u + chunk_hash(image->chunks[i]));
	return hash;
}

static int save_chunks(const struct simimage *image, int fd)
{
	for (size_t i = 0; i < image->chunk_count; i++) {
		uint64_t offset = (uint64_t)i * CHUNK_BYTES;
		size_t length = MIN_OF(image->size_bytes - offset, (uint64_t)CHUNK_BYTES);

		if (!image->chunks[i])
			continue;
		if (pwrite(fd, image->chunks[i]->bytes, length, (off_t)offset) != (ssize_t)length)
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
	for (size_t i = 0; i < image->chunk_count; i++) {
		struct chunk *chunk = chunk_own(image, i);

		if (pread(fd, chunk->bytes, CHUNK_BYTES, (off_t)i * CHUNK_BYTES) < 0)
			return errno;
		if (is_zero(chunk))
			simimage_zero(image, (uint64_t)i * CHUNK_BYTES,
				      MIN_OF(image->size_bytes - (uint64_t)i * CHUNK_BYTES, (uint64_t)CHUNK_BYTES));
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
