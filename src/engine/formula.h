/* SPDX-License-Identifier: Apache-2.0 */
/* The closed formulae and the statistics that everything else in the engine stands on. No state. */
#ifndef ENGINE_FORMULA_H
#define ENGINE_FORMULA_H

#include <stdbool.h>
#include <stddef.h>
#include <stdint.h>

/*
 * Copied blocks per user block under uniform overwrites and oldest-first cleaning, at spare/live = `ratio`; > 0,
 * finite.
 */
double engine_uniform_copies(double ratio);

/* One-sided quantile of Student's t: exceeded with probability `significance` at `freedom` ≥ 1 degrees. */
#define ENGINE_CERTAIN 1e9 /* degrees of freedom of what has no error of its own */
double engine_t_quantile(double significance, double freedom);

/* `x` if it is finite, else `otherwise`. */
double engine_finite_or(double x, double otherwise);

#endif
