/* SPDX-License-Identifier: Apache-2.0 */
/* Who has a file or device that is in use, as far as the system tells. */
#ifndef VDEV_HOLDER_H
#define VDEV_HOLDER_H

#include <stddef.h>

/* "process 123 (mkfs.ext4)", "a mount at /srv", "device dm-3"; "" where it cannot be told. */
void holder_find(int fd, char *text, size_t room);

#endif
