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

/*
 * The effect of a change of size has arrived when the log has gone round once: only then has every metaslab been
 * filled and emptied under the new size. A partition that writes nothing has no such clock; the learned cooldown
 * stands in.
 */
bool engine_effect_arrived(double blocks, double seconds, uint64_t size_blocks, double cooldown_s);

/* `x` if it is finite, else `otherwise`. */
double engine_finite_or(double x, double otherwise);

#endif
