/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Preloaded into nbdkit beside the library of a sanitizer: initializes it before any other library's constructor
 * runs (-z initfirst).
 *
 * The sanitizers otherwise initialize themselves in the first malloc, and that is libp11-kit's (nbdkit links
 * GnuTLS), below newlocale(), which holds glibc's locale lock for writing. There they look a symbol up in vain and
 * call dlerror(), which translates a message and takes the same lock for reading, in the same thread: refused,
 * unnoticed, and unlocked nevertheless. The count of readers is then -1, and the next but one who wants that lock
 * waits for ever: json-c, below its newlocale().
 */
#include <stdlib.h>

static void *volatile block; /* so that the compiler leaves them there */

__attribute__((constructor)) static void initialize_sanitizer(void)
{
	block = malloc(1);
	free(block);
}
