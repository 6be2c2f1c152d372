/* SPDX-License-Identifier: Apache-2.0 */
/*
 * Text from outside (a pool's image, another process, a path) made fit to be shown: whole UTF-8 without characters
 * that a terminal or a viewer obeys instead of showing.
 */
#ifndef BASE_PLAIN_H
#define BASE_PLAIN_H

#include <stdbool.h>

/*
 * Replaces by '?', in place: what is no UTF-8 (overlong forms, surrogates and what is cut off at the end, too),
 * control characters (below U+0020, U+007F to U+009F), line and paragraph separators, and the invisible ones that
 * change how what follows is shown (Unicode's category Cf, direction marks among them). The text never gets
 * longer.
 */
void plain_text(char *text);
bool plain_is(const char *text); /* plain_text would change nothing */

#endif
