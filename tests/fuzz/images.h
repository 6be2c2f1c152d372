/* SPDX-License-Identifier: Apache-2.0 */
/* Valid pool images, and changes to them that keep their checksums right: what the image target is made of. */
#ifndef FUZZ_IMAGES_H
#define FUZZ_IMAGES_H

#include <stddef.h>
#include <stdint.h>

#include "vdev/vdev.h"

#define MIB (UINT64_C(1) << 20)

enum { IMAGES_EDIT_BYTES = 15, IMAGES_ROOM_BYTES = 36 << 20 /* of the disk, the image may be shorter */ };

/* One of the images, unchanged. The device is good until the next call. */
struct vdev *images_start(unsigned which);
/* Changes it as the bytes say; they may be fewer than IMAGES_EDIT_BYTES. */
void images_edit(const uint8_t *bytes, size_t length);

/* A block address that was written in this partition. */
uint64_t images_written(const char *partition, unsigned i);

/* The time, for the pools' clocks. */
uint64_t images_now_us(void *context);
uint64_t images_wall_s(void *context);
void images_pass_us(uint64_t us);

#endif
