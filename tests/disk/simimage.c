/* SPDX-License-Identifier: Apache-2.0 */
#include "tests/disk/simimage.h"

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
#include "tests/disk/counting.h"

/*
 * Two levels: an image has leaves, a leaf has chunks. Both are shared by clones until one writes, so a clone costs
 * a reference per leaf, and the first write somewhere a copy of a leaf's table and of one small chunk.
 */
enum { CHUNK_WORDS = SIMIMAGE_CHUNK / 8, LEAF_CHUNKS = 64, LEAF_BYTES = SIMIMAGE_CHUNK * LEAF_CHUNKS };

/*
 * Tests fill blocks with words that count up, and zeros and garbage are like that, too. Such a chunk is kept as
 * three numbers: what a test moves to and fro by the gigabyte then stays in what the processor has near.
 */
struct sequence {
	uint64_t first; /* word 0 */
	uint64_t base;  /* word n is base + n * step, for n of 1 and above */
	uint64_t step;
};

struct chunk {
	atomic_uint references;
	bool is_sequence;
	_Atomic uint64_t hash; /* 0: not known */
	struct sequence sequence;
	uint8_t bytes[]; /* SIMIMAGE_CHUNK; none where it is a sequence */
};

struct leaf {
	atomic_uint references;
	_Atomic uint64_t hash;             /* 0: not known */
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
	size_t start = offset % SIMIMAGE_CHUNK;
	CHECK(offset <= image->size_bytes && length <= image->size_bytes - offset);
	return (struct span){
		.leaf = offset / LEAF_BYTES,
		.chunk = offset % LEAF_BYTES / SIMIMAGE_CHUNK,
		.start = start,
		.length = MIN_OF(length, SIMIMAGE_CHUNK - start),
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

/* -- sequences -- */

static bool is_sequence(const uint8_t *bytes, struct sequence *sequence)
{
	uint64_t word[3];
	memcpy(word, bytes, sizeof(word));
	sequence->first = word[0];
	sequence->step = word[2] - word[1];
	sequence->base = word[1] - sequence->step;
	return counting_is(bytes + 8, CHUNK_WORDS - 1, word[1], sequence->step);
}

/* `length` bytes of it, from `start` on: whole words. */
static void sequence_fill(const struct sequence *sequence, size_t start, uint8_t *bytes, size_t length)
{
	counting_fill(bytes, length / 8, sequence->base + start / 8 * sequence->step, sequence->step);
	if (start == 0 && length)
		memcpy(bytes, &sequence->first, sizeof(sequence->first));
}

/* -- chunks and leaves that only one image has -- */

static struct chunk *chunk_new(size_t bytes)
{
	struct chunk *chunk = must(malloc(sizeof(*chunk) + bytes));
	atomic_init(&chunk->references, 1);
	atomic_init(&chunk->hash, 0);
	chunk->is_sequence = bytes == 0;
	return chunk;
}

static struct chunk *chunk_of(const uint8_t *bytes)
{
	struct sequence sequence;
	bool small = is_sequence(bytes, &sequence);
	struct chunk *chunk = chunk_new(small ? 0 : SIMIMAGE_CHUNK);
	if (small)
		chunk->sequence = sequence;
	else
		memcpy(chunk->bytes, bytes, SIMIMAGE_CHUNK);
	return chunk;
}

static void chunk_read(const struct chunk *chunk, size_t start, void *buffer, size_t length)
{
	uint8_t bytes[SIMIMAGE_CHUNK];
	if (!chunk) {
		memset(buffer, 0, length);
	} else if (!chunk->is_sequence) {
		memcpy(buffer, chunk->bytes + start, length);
	} else if (start % 8 == 0 && length % 8 == 0) {
		sequence_fill(&chunk->sequence, start, buffer, length);
	} else {
		sequence_fill(&chunk->sequence, 0, bytes, sizeof(bytes));
		memcpy(buffer, bytes + start, length);
	}
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

static void chunk_set(struct leaf *leaf, size_t index, struct chunk *chunk)
{
	chunk_release(leaf->chunks[index]);
	leaf->chunks[index] = chunk;
}

/* The chunk, for writing a part of it: this leaf's own, with bytes. */
static struct chunk *chunk_own(struct leaf *leaf, size_t index)
{
	struct chunk *old = leaf->chunks[index];
	if (old && !old->is_sequence && atomic_load(&old->references) == 1) {
		atomic_store(&old->hash, 0);
		return old;
	}
	struct chunk *own = chunk_new(SIMIMAGE_CHUNK);
	chunk_read(old, 0, own->bytes, SIMIMAGE_CHUNK);
	chunk_set(leaf, index, own);
	return own;
}

static struct chunk *chunk_at(const struct simimage *image, const struct span *span)
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
		chunk_read(chunk_at(image, &span), span.start, to, span.length);
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
		if (span.length == SIMIMAGE_CHUNK)
			chunk_set(leaf, span.chunk, chunk_of(from));
		else
			memcpy(chunk_own(leaf, span.chunk)->bytes + span.start, from, span.length);
		from += span.length;
		offset += span.length;
		length -= span.length;
	}
}

void simimage_count_up(struct simimage *image, uint64_t offset, size_t length, uint64_t base)
{
	uint8_t bytes[SIMIMAGE_CHUNK];
	struct span span = span_at(image, offset, length);
	CHECK(length <= SIMIMAGE_CHUNK && length % 8 == 0);
	if (span.length == SIMIMAGE_CHUNK) {
		struct chunk *chunk = chunk_new(0);
		chunk->sequence = (struct sequence){.first = base, .base = base, .step = 1};
		chunk_set(leaf_own(image, span.leaf), span.chunk, chunk);
	} else {
		counting_fill(bytes, length / 8, base, 1);
		simimage_write(image, offset, bytes, length);
	}
}

/* A whole chunk that lies at the same place in its leaf's grid is shared. */
void simimage_copy(struct simimage *image, uint64_t offset, const struct simimage *from, uint64_t from_offset,
		   uint64_t length)
{
	uint8_t bytes[SIMIMAGE_CHUNK];
	while (length > 0) {
		struct span span = span_at(image, offset, length), old = span_at(from, from_offset, length);
		size_t part = MIN_OF(span.length, old.length);
		struct chunk *chunk = chunk_at(from, &old);
		if (part == SIMIMAGE_CHUNK) {
			if (chunk)
				take(&chunk->references);
			chunk_set(leaf_own(image, span.leaf), span.chunk, chunk);
		} else {
			chunk_read(chunk, old.start, bytes, part);
			simimage_write(image, offset, bytes, part);
		}
		offset += part;
		from_offset += part;
		length -= part;
	}
}

static void zero_span(struct simimage *image, const struct span *span)
{
	if (!chunk_at(image, span))
		return;
	struct leaf *leaf = leaf_own(image, span->leaf);
	if (span->length < SIMIMAGE_CHUNK) {
		memset(chunk_own(leaf, span->chunk)->bytes + span->start, 0, span->length);
		return;
	}
	chunk_set(leaf, span->chunk, NULL);
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

static uint64_t sequence_hash(const struct sequence *sequence)
{
	bool zeros = !(sequence->first | sequence->base | sequence->step);
	return zeros ? HASH_OF_ZEROS : hash64(sequence, sizeof(*sequence)) | 2;
}

/* The same however it is kept: parts that were written one by one may have become a sequence. */
static uint64_t chunk_hash(struct chunk *chunk)
{
	uint64_t hash = chunk ? atomic_load(&chunk->hash) : HASH_OF_ZEROS;
	struct sequence sequence;
	if (hash)
		return hash;
	if (!chunk->is_sequence && !is_sequence(chunk->bytes, &sequence))
		hash = hash64(chunk->bytes, SIMIMAGE_CHUNK) | 2;
	else
		hash = sequence_hash(chunk->is_sequence ? &chunk->sequence : &sequence);
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
	uint8_t bytes[SIMIMAGE_CHUNK];
	for (uint64_t offset = 0; offset < image->size_bytes; offset += SIMIMAGE_CHUNK) {
		size_t length = MIN_OF(image->size_bytes - offset, (uint64_t)SIMIMAGE_CHUNK);
		simimage_read(image, offset, bytes, length);
		if (!is_zero(bytes, length) && pwrite(fd, bytes, length, (off_t)offset) != (ssize_t)length)
			return errno ? errno : EIO;
	}
	return ftruncate(fd, (off_t)image->size_bytes) ? errno : 0;
}

int simimage_save(const struct simimage *image, const char *path)
{
	int fd = open(path, O_WRONLY | O_CREAT | O_TRUNC | O_CLOEXEC, 0600);
	if (fd < 0)
		return errno;
	int err = save_chunks(image, fd);
	return close(fd) && !err ? errno : err;
}

static int load_chunks(struct simimage *image, int fd)
{
	uint8_t bytes[SIMIMAGE_CHUNK];
	for (uint64_t offset = 0; offset < image->size_bytes; offset += SIMIMAGE_CHUNK) {
		ssize_t length = pread(fd, bytes, SIMIMAGE_CHUNK, (off_t)offset);
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

static void swap(struct simimage *image, uint64_t a, uint64_t b, size_t length)
{
	struct simimage *before = simimage_clone(image);
	simimage_copy(image, a, before, b, length);
	simimage_copy(image, b, before, a, length);
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
		simimage_copy(image, damage->offset, image, damage->other, damage->length);
		break;
	case SIMIMAGE_STALE:
		simimage_copy(image, damage->offset, damage->old, damage->offset, damage->length);
		break;
	}
}
