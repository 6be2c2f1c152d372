/* SPDX-License-Identifier: Apache-2.0 */
#ifndef CLI_REPLACE_H
#define CLI_REPLACE_H

#include <stdio.h>
#include <sys/types.h>

/*
 * A file gets new content as a whole: readers see the old one or the new one. `print` writes it. Returns an exit
 * code; what failed was said.
 */
int replace_file(const char *path, mode_t mode, void (*print)(void *context, FILE *out), void *context);

#endif
