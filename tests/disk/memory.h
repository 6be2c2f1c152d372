/* SPDX-License-Identifier: Apache-2.0 */
/* A vdev in anonymous memory, zero-filled: as sparse as a file, so a test may have one of a terabyte. */
#ifndef DISK_MEMORY_H
#define DISK_MEMORY_H

#include "vdev/vdev.h"

struct vdev *vdev_memory_new(uint64_t size_bytes);

#endif
