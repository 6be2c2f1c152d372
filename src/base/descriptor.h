/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Descriptors that keep clear of 0, 1 and 2. Where a program was started with one of these closed, the next file
 * that it opens gets the number, and what anybody prints is written into that file.
 */
#ifndef BASE_DESCRIPTOR_H
#define BASE_DESCRIPTOR_H

/* The same open file under a number above 2, closed on exec; `fd` is closed if it was another. -1, errno kept, for
 * -1. */
int descriptor_keep_clear(int fd);

/* Fills 0, 1 and 2 where they are closed, so that reading from and writing to them goes on failing. For main(). */
void descriptor_fill_standard(void);

#endif
