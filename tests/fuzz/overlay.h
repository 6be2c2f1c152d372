/* SPDX-License-Identifier: Apache-2.0 */
/*
 * A device for fuzzing: an image that stays as it is, and the blocks that were written over it, which are
 * forgotten again at little cost. No cache, no faults, one thread.
 */
#ifndef FUZZ_OVERLAY_H
#define FUZZ_OVERLAY_H

#include <stdint.h>

#include "vdev/vdev.h"

struct overlay {
	struct vdev vdev; /* its size may be changed, up to `room` */
	const uint8_t *zeros, *image;
	uint8_t **block; /* NULL: as in the image */
	uint32_t *changed, changed_count;
	uint8_t **unused; /* buffers */
	uint32_t unused_count;
	uint64_t room_bytes;
};

/* Over zeros at first. */
struct overlay *overlay_new(uint64_t room_bytes);
/* Forgets what was written. `image` has room_bytes and is not changed. */
void overlay_reset(struct overlay *overlay, const uint8_t *image, uint64_t size_bytes);
const uint8_t *overlay_look(const struct overlay *overlay, uint32_t block);
uint8_t *overlay_change(struct overlay *overlay, uint32_t block);
/* What was written since overlay_new, as an image of its own. */
uint8_t *overlay_copy(const struct overlay *overlay);

#endif
