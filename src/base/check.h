/* SPDX-License-Identifier: Apache-2.0 */
/* Checks that stay on in release builds. A failed one is a defect of lcpfs: it prints where and aborts. */
#ifndef BASE_CHECK_H
#define BASE_CHECK_H

#include <stdint.h>

#define MUST_CHECK __attribute__((warn_unused_result))
#define PRINTF_LIKE(f, a) __attribute__((format(printf, f, a)))

_Noreturn void check_failed(const char *file, int line, const char *condition);

#define CHECK(condition) ((condition) ? (void)0 : check_failed(__FILE__, __LINE__, #condition))

#define ARRAY_LENGTH(a) (sizeof(a) / sizeof((a)[0]))
#define MIN_OF(a, b) ((a) < (b) ? (a) : (b))
#define MAX_OF(a, b) ((a) > (b) ? (a) : (b))
#define DIV_UP(n, d) (((n) + (d) - 1) / (d))

#endif
